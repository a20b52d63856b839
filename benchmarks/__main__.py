"""``python -m benchmarks [WHAT] [--rounds N] [--json FILE]``; exit code 0 when done.

``relay``, ``worker``, ``pocket-speed`` or ``all`` three of them; ``pocket`` measures what the
pocket model obeys as well, which takes some minutes, ``coherence`` how it flickers on a clip that
moves, ``viewer`` its window, which needs Qt, and ``dispatch`` several workers at one stream, with a
clock of its own.
"""

import argparse
import datetime
import json
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks import coherence, dispatch, pocket, relay, report, viewer, worker
from benchmarks.machine import can_count_cpu, describe, load

WHAT = ("relay", "worker", "pocket-speed", "pocket", "coherence", "viewer", "dispatch", "all")


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
        return alone("viewer", lambda: viewer.measure(options.rounds, say=progress), options.json)
    if options.what == "coherence":
        measure = partial(coherence.measure, model=options.model, say=progress)
        return alone("coherence", measure, options.json)
    if options.what == "dispatch":
        return alone("dispatch", dispatch.measure, options.json)
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


def alone(what: str, measure: Callable[[], dict[str, Any]], path: Path | None) -> int:
    """One that is not of ``all``: the viewer needs Qt, coherence the pictures of the training."""
    figures: dict[str, Any] = {
        "date": datetime.date.today().isoformat(),
        "machine": describe(),
        "load": [load()],
        what: measure(),
    }
    figures["load"].append(load())
    found = figures[what]
    tables = {"coherence": coherence.table, "dispatch": dispatch.table}
    print(tables[what](found) if what in tables else "\n".join(viewer.rows(found)))
    if path is not None:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(figures, indent=1) + "\n")
    return 0


def progress(text: str) -> None:
    """Say how far it is, apart from the table."""
    print(text, file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
