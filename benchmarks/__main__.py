"""``python -m benchmarks [WHAT] [--rounds N] [--json FILE]``; exit code 0 when done.

``relay``, ``worker``, ``pocket-speed`` or ``all`` three of them; ``pocket`` measures what the
pocket model obeys as well, which takes some minutes, ``coherence`` how it flickers on a clip that
moves, ``viewer`` its window, which needs Qt, and ``dispatch`` several workers at one stream, with a
clock of its own. ``engines`` measures models of full size on a CUDA card, for some minutes.
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
from dreamrelay.importer import Entry

WHAT = (
    "relay",
    "worker",
    "pocket-speed",
    "pocket",
    "coherence",
    "viewer",
    "dispatch",
    "engines",
    "all",
)

# They import all of torch and diffusers, which the others do without.
MEASURE_ENGINES = Entry("benchmarks.engines:measure", "the engines", "worker")
ENGINES_TABLE = Entry("benchmarks.engines_report:table", "the engines", "worker")


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
    of_engines = parser.add_argument_group("engines")
    of_engines.add_argument("--models", type=_names, help="sd-turbo,sdxl-turbo,sd-1.5 (all)")
    of_engines.add_argument("--sizes", type=_sizes, help="pixels of a side (512,256)")
    of_engines.add_argument("--seconds", type=float, help="begin nothing new after these (480)")
    options = parser.parse_args(arguments)
    if options.rounds < 1:
        parser.error("--rounds: expected 1 or more")
    if options.what == "viewer":
        return alone("viewer", lambda: viewer.measure(options.rounds, say=progress), options.json)
    if options.what == "coherence":
        measure = partial(coherence.measure, model=options.model, say=progress)
        return alone("coherence", measure, options.json)
    if options.what == "engines":
        asked = {name: getattr(options, name) for name in ("models", "sizes", "seconds")}
        given = {name: value for name, value in asked.items() if value is not None}
        measure = partial(MEASURE_ENGINES.load(), options.rounds, say=progress, **given)
        return alone("engines", measure, options.json)
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
    """One that is not of ``all``: the viewer needs Qt, coherence the pictures of the training, the
    engines a card.
    """
    figures: dict[str, Any] = {
        "date": datetime.date.today().isoformat(),
        "machine": describe(),
        "load": [load()],
        what: measure(),
    }
    figures["load"].append(load())
    tables: dict[str, Callable[[dict[str, Any]], str]] = {
        "coherence": coherence.table,
        "dispatch": dispatch.table,
        "viewer": lambda found: "\n".join(viewer.rows(found)),
        "engines": lambda found: str(ENGINES_TABLE.load()(found)),
    }
    print(tables[what](figures[what]))
    if path is not None:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(figures, indent=1) + "\n")
    return 0


def _names(text: str) -> tuple[str, ...]:
    known = ("sd-turbo", "sdxl-turbo", "sd-1.5")
    if unknown := set(names := tuple(text.split(","))) - set(known):
        expected = f"expected some of {','.join(known)}, got {min(unknown)!r}"
        raise argparse.ArgumentTypeError(expected)
    return names


def _sizes(text: str) -> tuple[int, ...]:
    try:
        sizes = tuple(int(size) for size in text.split(","))
    except ValueError:
        sizes = ()
    if not sizes or any(size < 64 or size % 64 for size in sizes):
        raise argparse.ArgumentTypeError(f"expected multiples of 64 such as 512,256, got {text!r}")
    return sizes


def progress(text: str) -> None:
    """Say how far it is, apart from the table."""
    print(text, file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
