"""``python -m benchmarks [WHAT] [--rounds N] [--json FILE]``; exit code 0 when done.

``relay``, ``worker``, ``pocket-speed`` or ``all`` three of them; ``pocket`` measures what the
pocket model obeys as well, which takes some minutes, and ``viewer`` its window, which needs Qt.
"""

import argparse
import datetime
import json
import sys
from pathlib import Path
from typing import Any

from benchmarks import pocket, relay, report, viewer, worker
from benchmarks.machine import can_count_cpu, describe, load

WHAT = ("relay", "worker", "pocket-speed", "pocket", "viewer", "all")


def main(arguments: list[str] | None = None) -> int:
    """Measure, print the table, keep the figures where asked."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("what", nargs="?", choices=WHAT, default="all")
    parser.add_argument("--rounds", type=int, default=7, help="the more the steadier (7)")
    parser.add_argument("--json", type=Path, help="also write the figures to this file")
    parser.add_argument("--model", default="pocket", help="a folder like the pocket model's")
    options = parser.parse_args(arguments)
    if options.rounds < 1:
        parser.error("--rounds: expected 1 or more")
    if options.what == "viewer":
        return alone(options.rounds, options.json)
    wanted = {"relay", "worker", "pocket-speed"} if options.what == "all" else {options.what}
    if "relay" in wanted and not can_count_cpu():
        print(
            "relay: Linux only, because no other system tells the CPU time of another process"
            " finely enough (/proc/PID/task/*/schedstat)",
            file=sys.stderr,
        )
        wanted.remove("relay")
        if not wanted:
            return 1
    figures: dict[str, Any] = {
        "date": datetime.date.today().isoformat(),
        "machine": describe(),
        "load": [load()],
    }
    if "relay" in wanted:
        figures["relay"] = relay.measure(options.rounds, say=progress)
    if "worker" in wanted:
        figures["worker"] = worker.measure(options.rounds, say=progress)
    tables = ""
    if wanted & {"pocket", "pocket-speed"}:
        figures["pocket"] = {
            "speed": pocket.measure_speed(options.rounds, model=options.model, say=progress),
            "start": pocket.measure_start(model=options.model, say=progress),
        }
    if "pocket" in wanted:
        figures["pocket"]["obedience"], tables = pocket.measure_obedience(
            options.model, say=progress
        )
    figures["load"].append(load())
    print(report.table(figures, report.load_baseline()))
    print()
    if tables:
        print(tables, end="\n\n")
    print(report.quote(figures))
    if options.json is not None:
        options.json.parent.mkdir(parents=True, exist_ok=True)
        options.json.write_text(json.dumps(figures, indent=1) + "\n")
    return 0


def alone(rounds: int, path: Path | None) -> int:
    """The viewer: not one of ``all``, because it needs Qt."""
    figures: dict[str, Any] = {
        "date": datetime.date.today().isoformat(),
        "machine": describe(),
        "load": [load()],
        "viewer": viewer.measure(rounds, say=progress),
    }
    figures["load"].append(load())
    print("\n".join(viewer.rows(figures["viewer"])))
    if path is not None:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(figures, indent=1) + "\n")
    return 0


def progress(text: str) -> None:
    """Say how far it is, apart from the table."""
    print(text, file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
