"""All parts of ``make bench``, in their order, and how they are run one after the other.

A part measures (``measure(effort, say)`` gives what JSON keeps) and tells the lines of the table
that come of it (``rows(found)``). A part that cannot run says why, and ends nothing; Ctrl-C ends
the run, and what was measured until then is there.
"""

import datetime
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from benchmarks import (
    backplane,
    details,
    dispatch,
    floor,
    memory,
    packages,
    relay,
    sharing,
    staleness,
    stall,
    startup,
    streams,
    transcode,
    worker,
)
from benchmarks.effort import Effort, Say
from benchmarks.machine import can_count_cpu, describe, load
from benchmarks.marks import Mark, Row, at_least, at_most
from dreamrelay.errors import DreamRelayError

LINUX_ONLY = "Linux only: no other system tells that of another process (/proc)"

FAILURES = (DreamRelayError, RuntimeError, OSError, ValueError, ImportError)
"""What a part may end with that cannot run here; a relay that dies is a RuntimeError or OSError."""


@dataclass(frozen=True, slots=True)
class Part:
    """One benchmark.

    Attributes:
        name: in JSON, and as a word of the command.
        title: over its lines of the table.
        details: what lies behind these, in Markdown; for the docs, and where it is run alone.
        needs_proc: whether it reads another process's figures from ``/proc``.
    """

    name: str
    title: str
    measure: Callable[[Effort, Say], dict[str, Any]]
    rows: Callable[[Mapping[str, Any]], list[Row]]
    details: Callable[[Mapping[str, Any]], str] | None = None
    needs_proc: bool = False


# Of those that are older than the suite -----------------------------------------------------------

RELAY_MARKS: Mapping[str, Mapping[str, Mark]] = {
    "ceiling / binary": {"1": at_least(0.50, 0.65), "16": at_least(0.70, 0.85)},
    "ceiling / binary, credit ahead": {"1": at_least(0.50, 0.65), "16": at_least(0.70, 0.85)},
    "naive / seed to binary": {"1": at_least(5.5, 9), "16": at_least(3.3, 4.5)},
    "naive / seed to binary, credit ahead": {"1": at_least(5.5, 9), "16": at_least(3.3, 4.5)},
    "naive-deflate / seed to binary": {"16": at_least(100, 170)},
    "naive-deflate / seed to binary, credit ahead": {"16": at_least(100, 170)},
}
WORKER_MARK = at_least(0.97, 0.99)
DISPATCH_MARKS = {
    "efficiency": at_least(0.97, 0.99),
    "age_p95": at_most(1.3, 1.1),
    "speed_up": at_least(1.9, 1.97),
}


def _measure_relay(effort: Effort, say: Say) -> dict[str, Any]:
    if effort.quick:
        return relay.measure(effort.rounds, viewers=(1,), pictures=4, say=say)
    return relay.measure(effort.rounds, say=say)


def _relay_rows(found: Mapping[str, Any]) -> list[Row]:
    return [
        Row(
            f"{'B2' if name.startswith('naive') else 'B1'} {name}, {count}"
            f" viewer{'' if count == '1' else 's'}",
            ratio,
            RELAY_MARKS.get(name, {}).get(count),
        )
        for name, ratios in found["ratios"].items()
        for count, ratio in ratios.items()
    ]


def _measure_worker(effort: Effort, say: Say) -> dict[str, Any]:
    engines = effort.pick(worker.ENGINES, worker.ENGINES[:1])
    rounds = min(effort.rounds, 4)
    return worker.measure(rounds, engines=engines, seconds=effort.pick(3.0, 0.6), say=say)


def _worker_rows(found: Mapping[str, Any]) -> list[Row]:
    lines = [
        Row(
            f"worker / its engine alone, {name}", ratio, WORKER_MARK if "scripted" in name else None
        )
        for name, ratio in found["ratios"].items()
    ]
    for name, ratio in found["cpu_ratios"].items():
        lines.append(Row(f"engine's part of the worker's CPU time, {name}", ratio))
    return lines


def _measure_dispatch(effort: Effort, say: Say) -> dict[str, Any]:
    return dispatch.measure(effort.pick(None, 2))


def _dispatch_rows(found: Mapping[str, Any]) -> list[Row]:
    several = {name: row for name, row in found["cases"].items() if len(row["engines_ms"]) > 1}
    efficiency = min(several, key=lambda name: several[name]["efficiency"])
    age = max(several, key=lambda name: several[name]["age_p95"])
    two = several["two of 40 ms"]
    defined = several["25 and 120 ms, 30 fps"]
    return [
        Row(
            "shown / possible, 25 and 120 ms, 30 fps",
            defined["efficiency"],
            DISPATCH_MARKS["efficiency"],
        ),
        Row(
            "age p95 / slowest worker, 25 and 120 ms, 30 fps",
            defined["age_p95"],
            DISPATCH_MARKS["age_p95"],
        ),
        Row(
            f"shown / possible, the worst: {efficiency}",
            several[efficiency]["efficiency"],
            DISPATCH_MARKS["efficiency"],
        ),
        Row(
            f"age p95 / slowest worker, the worst: {age}",
            several[age]["age_p95"],
            DISPATCH_MARKS["age_p95"],
        ),
        Row("two workers of 40 ms / one", two["speed_up"], DISPATCH_MARKS["speed_up"]),
    ]


PARTS: tuple[Part, ...] = (
    Part(
        "relay",
        "B1 ceiling, B2 upstream: CPU time of the relay for each delivered picture",
        _measure_relay,
        _relay_rows,
        details.relay,
        needs_proc=True,
    ),
    Part(
        "staleness",
        "B3 staleness: a viewer that reads a third of what is sent",
        staleness.measure,
        staleness.rows,
    ),
    Part(
        "stall",
        "B4 stall: two viewers that never read",
        stall.measure,
        stall.rows,
        needs_proc=True,
    ),
    Part(
        "sharing",
        "B5 dispatch: several workers at one stream, as processes",
        sharing.measure,
        sharing.rows,
        details.sharing,
    ),
    Part(
        "dispatch",
        "B5 dispatch: the same in a simulation, with a clock of its own",
        _measure_dispatch,
        _dispatch_rows,
        dispatch.table,
    ),
    Part(
        "transcode",
        "B6 transcode: the seed's JSON, 60 kB pictures, in one process",
        transcode.measure,
        transcode.rows,
    ),
    Part(
        "backplane",
        "B7 backplane: a worker at another relay, over NATS",
        backplane.measure,
        backplane.rows,
        backplane.details,
        needs_proc=True,
    ),
    Part(
        "worker",
        "Worker: pictures a second, of those of its engine alone",
        _measure_worker,
        _worker_rows,
        details.worker,
    ),
    Part(
        "streams",
        "Worker: several streams at one, in calls of several pictures",
        streams.measure,
        streams.rows,
        details.streams,
    ),
    Part(
        "startup",
        "Start: from the start of processes, over the least it can be",
        startup.measure,
        startup.rows,
        details.startup,
    ),
    Part(
        "floor",
        "Pocket model on the processor",
        floor.measure,
        floor.rows,
        details.floor,
    ),
    Part(
        "packages",
        "Engine: frames a second of ours, of others' with the same weights",
        packages.measure,
        packages.rows,
        details.packages,
    ),
    Part(
        "memory",
        "Memory: growth over many pictures",
        memory.measure,
        memory.rows,
        details.memory,
        needs_proc=True,
    ),
)


def part_named(name: str) -> Part:
    """The part of that name."""
    return next(part for part in PARTS if part.name == name)


def run(
    names: Sequence[str],
    effort: Effort,
    say: Say,
    parts: Sequence[Part] = PARTS,
) -> dict[str, Any]:
    """Measure parts, one after the other, in their order.

    Returns:
        What JSON keeps: date, machine, load before and after each part, effort; of each part what
        was found, or why not; whether somebody has interrupted it.
    """
    figures: dict[str, Any] = {
        "date": datetime.date.today().isoformat(),
        "machine": describe(),
        "load": [load()],
        "quick": effort.quick,
        "rounds": effort.rounds,
        "parts": {},
        "seconds": {},
        "absent": {},
        "interrupted": False,
    }
    chosen = [part for part in parts if part.name in names]
    try:
        for number, part in enumerate(chosen):
            _measure(part, effort, figures, _teller(say, number, len(chosen), part.name))
            figures["load"].append(load())
    except KeyboardInterrupt:
        figures["interrupted"] = True
        say("interrupted: what was measured until now")
    return figures


def _teller(say: Say, number: int, count: int, name: str) -> Say:
    began = time.monotonic()

    def tell(text: str) -> None:
        say(f"[{number + 1}/{count} {name}, {time.monotonic() - began:.0f} s] {text}")

    return tell


def _measure(part: Part, effort: Effort, figures: dict[str, Any], say: Say) -> None:
    if part.needs_proc and not can_count_cpu():
        figures["absent"][part.name] = LINUX_ONLY
        return
    say(part.title)
    began = time.monotonic()
    try:
        figures["parts"][part.name] = part.measure(effort, say)
    except FAILURES as error:
        figures["absent"][part.name] = " ".join(str(error).split()) or type(error).__name__
        say(figures["absent"][part.name])
    figures["seconds"][part.name] = round(time.monotonic() - began, 1)


def rows(figures: Mapping[str, Any]) -> list[tuple[Part, list[Row]]]:
    """The lines of a run, part by part, in the order of the table."""
    found = figures["parts"]
    return [(part, part.rows(found[part.name])) for part in PARTS if part.name in found]
