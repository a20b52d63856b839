"""What one worker makes of several streams: in calls of several pictures, and one by one.

A relay, workers of 1, 2, 4 and 8 streams, at each stream a producer that sends more than can be
made and a viewer that counts. They take turns. One engine waits, 20 ms for a call and 5 ms more for
each picture in it, as a card does that is not full with one; the other is a small Stable Diffusion
that computes on the processor, which is full with one. Contention can only take away, so each keeps
its best round.
"""

import contextlib
import selectors
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from benchmarks.clients import upgrade
from benchmarks.effort import Effort, Say
from benchmarks.marks import Row, at_least
from benchmarks.processes import RELAY, process, server
from benchmarks.watchers import Stamper, Watcher
from benchmarks.worker import make_picture, read_answer

FIXED_MS, EACH_MS = 20.0, 5.0
WAITS, COMPUTES = f"call-{FIXED_MS:.0f}-{EACH_MS:.0f}", "built:sd-turbo:64"
COUNTS = (1, 2, 4, 8)
LIMIT = 8
"""Pictures in a call, at most."""

AMPLE = 1.5
"""Pictures sent for each that can be made."""

GUESS = 120.0
"""Pictures a second that the small model makes at most; more are sent."""

WARM_UP, QUICK_WARM_UP = 1.5, 0.2
SECONDS, QUICK_SECONDS = 4.0, 0.4
PATIENCE = 30.0

MARKS = {"together": at_least(0.90, 0.97), "even": at_least(0.80, 0.90)}


@dataclass(frozen=True, slots=True)
class Case:
    """A worker: its engine, its streams, and the pictures in a call."""

    engine: str
    streams: int
    limit: int

    @property
    def name(self) -> str:
        kind = "together" if self.limit > 1 else "one by one"
        return f"{self.engine}, {self.streams}, {kind}"

    @property
    def names(self) -> list[str]:
        """Of its streams."""
        kind = "waits" if self.engine == WAITS else "computes"
        return [f"{kind}-{self.streams}-{self.limit}-{at}" for at in range(self.streams)]

    @property
    def ceiling(self) -> float:
        """Pictures a second that can be made at most; of the small model more than that."""
        if self.engine != WAITS:
            return GUESS
        pictures = min(self.streams, self.limit)
        return 1000 * pictures / (FIXED_MS + EACH_MS * pictures)


def cases(effort: Effort) -> list[Case]:
    """Those of a whole run, or a few."""
    if effort.quick:
        return [Case(WAITS, 2, LIMIT)]
    waiting = [Case(WAITS, count, LIMIT) for count in COUNTS]
    computing = [Case(COMPUTES, count, limit) for count in (2, 4) for limit in (1, 4)]
    return [*waiting, Case(WAITS, 8, 1), *computing]


def measure(effort: Effort, say: Say) -> dict[str, Any]:
    """Pictures a second of each case, of all its streams together, and how even they were."""
    chosen = cases(effort)
    results: dict[Case, list[dict[str, float]]] = {case: [] for case in chosen}
    rounds = min(effort.rounds, 4)
    with contextlib.ExitStack() as stack:
        relay = stack.enter_context(server(*RELAY))
        uri = f"ws://127.0.0.1:{relay.port}"
        sizes: dict[Case, int] = {}
        for case in chosen:
            arguments = (uri, case.engine, ",".join(case.names), str(case.limit))
            child = stack.enter_context(process("-m", "benchmarks.streams_process", *arguments))
            assert child.stdout is not None
            hello = read_answer(child.stdout)
            if not hello["ready"]:
                raise RuntimeError(f"the worker of {case.name} did not start")
            sizes[case] = hello["width"]
        say("workers are there")
        for number in range(rounds):
            for case in chosen:
                results[case].append(_play(relay.port, case, sizes[case], effort))
            say(f"round {number + 1} of {rounds}")
    return report(results)


def _play(port: int, case: Case, size: int, effort: Effort) -> dict[str, float]:
    picture = make_picture(size, size)
    producers = [Stamper(upgrade(port, f"/streams/{n}/producer"), picture) for n in case.names]
    viewers = [Watcher(upgrade(port, f"/streams/{n}/viewer?credit=8")) for n in case.names]
    rate = AMPLE * case.ceiling
    try:
        _send(producers, viewers, effort.pick(WARM_UP, QUICK_WARM_UP), rate)
        for viewer in viewers:
            viewer.seen.clear()
        seconds = _send(producers, viewers, effort.pick(SECONDS, QUICK_SECONDS), rate)
    finally:
        for client in (*producers, *viewers):
            client.socket.close()
    counts = [len(viewer.seen) for viewer in viewers]
    return {"fps": sum(counts) / seconds, "even": min(counts) / max(counts)}


def _send(
    producers: Sequence[Stamper], viewers: Sequence[Watcher], seconds: float, rate: float
) -> float:
    """Send ``rate`` pictures a second, one stream after the other, until each viewer has seen one
    at least; the seconds that it took.
    """
    number = 0
    with selectors.DefaultSelector() as selector:
        for client in (*producers, *viewers):
            selector.register(client.socket, selectors.EVENT_READ, client)
        began = due = time.perf_counter()
        while (now := time.perf_counter()) < began + seconds or (
            now < began + PATIENCE and not all(viewer.seen for viewer in viewers)
        ):
            if now >= due:
                producers[number % len(producers)].send()
                number += 1
                due = max(due + 1 / rate, now - 1 / rate)
            for key, _ in selector.select(max(0.0, due - time.perf_counter())):
                key.data.pump()
    return time.perf_counter() - began


def report(results: Mapping[Case, Sequence[Mapping[str, float]]]) -> dict[str, Any]:
    """Of each case the best round; how many times one by one that is."""
    found: dict[str, Any] = {}
    for case, played in results.items():
        fps = max(row["fps"] for row in played)
        found[case.name] = {
            "engine": case.engine,
            "streams": case.streams,
            "limit": case.limit,
            "fps": round(fps, 2),
            "fps_mean": round(sum(row["fps"] for row in played) / len(played), 2),
            "even": round(max(row["even"] for row in played), 3),
        }
        if case.engine == WAITS:
            found[case.name]["of_possible"] = round(fps / case.ceiling, 4)
    for row in found.values():
        alone = _alone(found, row)
        if row["limit"] > 1 and alone is not None:
            row["times_alone"] = round(row["fps"] / alone, 3)
    return {"cases": found}


def _alone(found: Mapping[str, Any], row: Mapping[str, Any]) -> float | None:
    """Pictures a second one by one: of as many streams, or else of any number."""
    same = [other for other in found.values() if other["engine"] == row["engine"]]
    alone = [other for other in same if other["limit"] == 1]
    near = [other for other in alone if other["streams"] == row["streams"]] or alone
    return near[0]["fps"] if near else None


def rows(found: Mapping[str, Any]) -> list[Row]:
    """The lines of the table."""
    lines = []
    for row in found["cases"].values():
        what = f"{row['streams']} stream{'' if row['streams'] == 1 else 's'}"
        kind = "a call of 20 + 5 ms a picture" if row["engine"] == WAITS else "small SD, processor"
        if "times_alone" in row:
            lines.append(Row(f"together / one by one, {kind}, {what}", row["times_alone"]))
        if "of_possible" in row and row["limit"] > 1:
            lines.append(
                Row(f"shown / possible, {kind}, {what}", row["of_possible"], MARKS["together"])
            )
        if row["limit"] > 1 and row["streams"] == max(COUNTS):
            lines.append(Row(f"least / most shown of {what}", row["even"], MARKS["even"]))
    return lines
