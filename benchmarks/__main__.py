"""``python -m benchmarks [relay|worker|viewer|all] [--rounds N] [--json FILE]``; 0 when done."""

import argparse
import datetime
import json
import sys
from pathlib import Path
from typing import Any

from benchmarks import relay, report, viewer, worker
from benchmarks.machine import can_count_cpu, describe, load


def main(arguments: list[str] | None = None) -> int:
    """Measure, print the table, keep the figures where asked."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument(
        "what", nargs="?", choices=("relay", "worker", "viewer", "all"), default="all"
    )
    parser.add_argument("--rounds", type=int, default=7, help="the more the steadier (7)")
    parser.add_argument("--json", type=Path, help="also write the figures to this file")
    options = parser.parse_args(arguments)
    if options.rounds < 1:
        parser.error("--rounds: expected 1 or more")
    if options.what == "viewer":
        return alone(options.rounds, options.json)
    if options.what != "worker" and not can_count_cpu():
        print(
            "relay: Linux only, because no other system tells the CPU time of another process"
            " finely enough (/proc/PID/task/*/schedstat)",
            file=sys.stderr,
        )
        if options.what == "relay":
            return 1
        options.what = "worker"
    figures: dict[str, Any] = {
        "date": datetime.date.today().isoformat(),
        "machine": describe(),
        "load": [load()],
    }
    if options.what != "worker":
        figures["relay"] = relay.measure(options.rounds, say=progress)
    if options.what != "relay":
        figures["worker"] = worker.measure(options.rounds, say=progress)
    figures["load"].append(load())
    print(report.table(figures, report.load_baseline()))
    print()
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
