"""``python -m benchmarks [WHAT] [--rounds N] [--quick] [--json FILE]``; exit code 0 when done.

``all`` is what ``make bench`` runs: every part of ``suite.py``, each of which is a word of its own
(``relay``, ``stall`` ...). ``report`` keeps the last whole run and writes the docs' tables from it.
Not of ``all``: ``pocket`` measures what the pocket model obeys as well, which takes some minutes
(``pocket-speed``: its speed alone), ``coherence`` how it flickers on a clip that moves, ``viewer``
its window, which needs Qt, and ``engines`` models of full size on a CUDA card, for some minutes.
"""

import argparse
import datetime
import json
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks import coherence, costs, pocket, pocket_report, report, suite, viewer
from benchmarks.effort import FRAMES, QUICK, Effort
from benchmarks.machine import describe, load
from dreamrelay.importer import Entry

ALONE = ("pocket", "pocket-speed", "coherence", "viewer", "engines")
WHAT = ("all", *(part.name for part in suite.PARTS), "report", *ALONE)

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
    parser.add_argument("--rounds", type=_count, default=7, help="the more the steadier (7)")
    parser.add_argument("--quick", action="store_true", help="only to see that it runs")
    parser.add_argument("--frames", type=_count, default=FRAMES, help="of memory (100000)")
    parser.add_argument("--json", type=Path, help="also write the figures to this file")
    parser.add_argument("--model", default="pocket", help="a folder like the pocket model's")
    of_engines = parser.add_argument_group("engines")
    of_engines.add_argument("--models", type=_names, help="sd-turbo,sdxl-turbo,sd-1.5 (all)")
    of_engines.add_argument("--sizes", type=_sizes, help="pixels of a side (512,256)")
    of_engines.add_argument("--seconds", type=float, help="begin nothing new after these (480)")
    options = parser.parse_args(arguments)
    if options.what == "report":
        return write_report(options.json)
    if options.what in ALONE:
        return measure_alone(options)
    effort = QUICK if options.quick else Effort(rounds=options.rounds, frames=options.frames)
    names = [part.name for part in suite.PARTS] if options.what == "all" else [options.what]
    return measure_parts(names, effort, options.json)


def measure_parts(names: list[str], effort: Effort, path: Path | None) -> int:
    """Parts of the suite: print their table; 130 when interrupted, 1 when one could not run."""
    before = report.last_run()
    figures = suite.run(names, effort, progress)
    print(report.table(figures, before))
    if len(names) == 1:
        for part, _ in suite.rows(figures):
            if part.details is not None:
                print(f"\n{part.details(figures['parts'][part.name])}")
    elif not figures["interrupted"]:
        print(f"\n{report.quote(figures)}")
    if report.is_whole(figures):
        report.keep(figures, report.LAST)
    if path is not None:
        report.keep(figures, path)
    if figures["interrupted"]:
        return 130
    return 1 if figures["absent"] else 0


def write_report(path: Path | None) -> int:
    """Keep a run (the last one, or that of a file) and write the docs' tables from what is kept."""
    if figures := report.load_figures(path or report.LAST):
        if not report.is_whole(figures):
            print("expected a whole run to keep, this one is none: make bench", file=sys.stderr)
            return 1
        report.keep(figures, report.BASELINE)
    elif not (figures := report.load_figures(report.BASELINE)) or path is not None:
        print("there is no run to keep: make bench", file=sys.stderr)
        return 1
    text = report.page(report.PAGE.read_text(encoding="utf-8"), figures)
    report.PAGE.write_text(text, encoding="utf-8")
    costs.main()  # the capacity page computes with some of them
    print(f"{report.PAGE.name}: {report.machine(figures)}\n{report.summary(figures)}")
    return 0


def measure_alone(options: argparse.Namespace) -> int:
    """What is not of ``all``."""
    if options.what in ("pocket", "pocket-speed"):
        return measure_pocket(options)
    if options.what == "viewer":
        return alone("viewer", lambda: viewer.measure(options.rounds, say=progress), options.json)
    if options.what == "coherence":
        measure = partial(coherence.measure, model=options.model, say=progress)
        return alone("coherence", measure, options.json)
    asked = {name: getattr(options, name) for name in ("models", "sizes", "seconds")}
    given = {name: value for name, value in asked.items() if value is not None}
    measure = partial(MEASURE_ENGINES.load(), options.rounds, say=progress, **given)
    return alone("engines", measure, options.json)


def measure_pocket(options: argparse.Namespace) -> int:
    """The pocket model: its speed, and what it obeys unless only the speed is asked for."""
    obedience = ""

    def measure() -> dict[str, Any]:
        nonlocal obedience
        found: dict[str, Any] = {
            "speed": pocket.measure_speed(options.rounds, model=options.model, say=progress),
            "start": pocket.measure_start(model=options.model, say=progress),
        }
        if options.what == "pocket":
            found["obedience"], obedience = pocket.measure_obedience(options.model, say=progress)
        return found

    code = alone("pocket", measure, options.json)
    if obedience:
        print(f"\n{obedience}")
    return code


def alone(what: str, measure: Callable[[], dict[str, Any]], path: Path | None) -> int:
    """Measure one of :data:`ALONE`, print its own table, write its figures where asked."""
    figures: dict[str, Any] = {
        "date": datetime.date.today().isoformat(),
        "machine": describe(),
        "load": [load()],
        what: measure(),
    }
    figures["load"].append(load())
    tables: dict[str, Callable[[dict[str, Any]], str]] = {
        "coherence": coherence.table,
        "pocket": _pocket_table,
        "viewer": lambda found: "\n".join(viewer.rows(found)),
        "engines": lambda found: str(ENGINES_TABLE.load()(found)),
    }
    print(tables[what](figures[what]))
    if path is not None:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(figures, indent=1) + "\n")
    return 0


def _pocket_table(found: dict[str, Any]) -> str:
    return (
        f"{pocket_report.table(found, pocket_report.load_kept())}\n\n{pocket_report.quote(found)}"
    )


def _count(text: str) -> int:
    if not text.isdecimal() or not int(text):
        raise argparse.ArgumentTypeError(f"expected 1 or more, got {text!r}")
    return int(text)


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
