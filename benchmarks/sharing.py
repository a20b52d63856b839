"""B5: what several workers at one stream make of it, as processes with real sockets.

Workers whose engines sleep, each on streams of its own of one relay: one of 40 ms, two of 40 ms,
and a pair of 25 and 120 ms. The streams take turns: a producer sends 30 pictures a second, or twice
what their engines can make. A viewer counts what it sees, and how old that is. Contention can only
take away, so each keeps its best round. The same without processes, for more cases:
``benchmarks/dispatch.py``.
"""

import contextlib
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from benchmarks.clients import upgrade
from benchmarks.effort import Effort, Say
from benchmarks.marks import Row, at_least, at_most
from benchmarks.processes import RELAY, process, server
from benchmarks.watchers import Stamper, Watcher, play, quantile
from benchmarks.worker import make_picture, read_answer

SIZE = 128
"""Pixels of a side: small, so that all processes together leave the processor free."""

AMPLE = 2.0
"""Pictures sent for each that the engines can make, where they shall be busy."""

STREAMS: Mapping[str, Sequence[float]] = {"one": (40,), "two": (40, 40), "pair": (25, 120)}
"""Engines' times, ms."""


@dataclass(frozen=True, slots=True)
class Case:
    """A stream, and the pictures a second that are sent to it (0: ample)."""

    stream: str
    fps: float

    @property
    def ceiling(self) -> float:
        """Pictures a second that a viewer can see at most."""
        rates = sum(1000 / ms for ms in STREAMS[self.stream])
        return min(self.fps, rates) if self.fps else rates

    @property
    def rate(self) -> float:
        """Pictures a second that are sent."""
        return self.fps or AMPLE * self.ceiling


CASES: Mapping[str, Case] = {
    "25 and 120 ms, 30 fps": Case("pair", 30),
    "25 and 120 ms, ample": Case("pair", 0),
    "one of 40 ms": Case("one", 0),
    "two of 40 ms": Case("two", 0),
}

WARM_UP, QUICK_WARM_UP = 2.0, 0.2
SECONDS, QUICK_SECONDS = 4.0, 0.4
MARKS = {
    "efficiency": at_least(0.97, 0.99),
    "age": at_most(1.3, 1.1),
    "speed_up": at_least(1.9, 1.97),
}


def measure(effort: Effort, say: Say) -> dict[str, Any]:
    """Efficiency and age of each case, and what a second worker brings."""
    names = effort.pick(tuple(CASES), ("one of 40 ms", "two of 40 ms"))
    rounds = min(effort.rounds, 4)  # each takes some seconds
    results: dict[str, list[dict[str, float]]] = {name: [] for name in names}
    with contextlib.ExitStack() as stack:
        relay = stack.enter_context(server(*RELAY))
        _start_workers(stack, relay.port, {CASES[name].stream for name in names})
        say("workers are there")
        for number in range(rounds):
            for name in names:
                results[name].append(_play_case(relay.port, CASES[name], effort))
            say(f"round {number + 1} of {rounds}")
    return report(results)


def _start_workers(stack: contextlib.ExitStack, port: int, streams: set[str]) -> None:
    uri = f"ws://127.0.0.1:{port}"
    children = [
        stack.enter_context(
            process("-m", "benchmarks.worker_process", uri, f"scripted-{SIZE}-{ms}", stream)
        )
        for stream in sorted(streams)
        for ms in STREAMS[stream]
    ]
    for child in children:
        assert child.stdout is not None
        if not read_answer(child.stdout)["ready"]:
            raise RuntimeError("a worker did not start")


def _play_case(port: int, case: Case, effort: Effort) -> dict[str, float]:
    path = f"/streams/{case.stream}"
    producer = Stamper(upgrade(port, f"{path}/producer"), make_picture(SIZE, SIZE))
    viewer = Watcher(upgrade(port, f"{path}/viewer?credit=8"))
    try:
        play(producer, [viewer], effort.pick(WARM_UP, QUICK_WARM_UP), case.rate)
        viewer.seen.clear()
        began = time.perf_counter()
        play(
            producer,
            [viewer],
            effort.pick(SECONDS, QUICK_SECONDS),
            case.rate,
            enough=lambda: bool(viewer.seen),
        )
        seconds = time.perf_counter() - began
    finally:
        for client in (producer, viewer):
            client.socket.close()
    ages = [seen.age for seen in viewer.seen]
    slowest = max(STREAMS[case.stream]) * 1e6
    return {
        "fps": len(ages) / seconds,
        "efficiency": len(ages) / seconds / case.ceiling,
        "age_p95": quantile(ages, 0.95) / slowest,
    }


def report(results: Mapping[str, Sequence[Mapping[str, float]]]) -> dict[str, Any]:
    """Of each case the best of all rounds, and the mean rate beside it."""
    cases = {
        name: {
            "fps": round(max(row["fps"] for row in rounds), 2),
            "fps_mean": round(sum(row["fps"] for row in rounds) / len(rounds), 2),
            "efficiency": round(max(row["efficiency"] for row in rounds), 4),
            "age_p95": round(min(row["age_p95"] for row in rounds), 4),
        }
        for name, rounds in results.items()
    }
    speed_up = cases["two of 40 ms"]["fps"] / cases["one of 40 ms"]["fps"]
    return {"cases": cases, "speed_up": round(speed_up, 4)}


def rows(found: Mapping[str, Any]) -> list[Row]:
    """The lines of the table."""
    lines = [Row("two workers of 40 ms / one", found["speed_up"], MARKS["speed_up"])]
    for name, case in found["cases"].items():
        if name.startswith("25 and 120"):
            lines += [
                Row(f"shown / possible, {name}", case["efficiency"], MARKS["efficiency"]),
                Row(f"age p95 / slowest engine, {name}", case["age_p95"], MARKS["age"]),
            ]
    return lines
