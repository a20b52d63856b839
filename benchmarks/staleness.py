"""B3: how old pictures are for a viewer that reads a third of what is sent.

One producer, 30 pictures a second of 60 kB; each viewer drains its socket steadily, at 600 kB a
second, with the buffers that its system gives it. A picture's age is counted from the moment at
which it was sent to its last byte; it is divided by the time that one picture takes at that rate.
What is more than one is queued somewhere: in the relay, or in the kernels' buffers.
"""

import time
from collections.abc import Mapping, Sequence
from typing import Any

from benchmarks.clients import upgrade
from benchmarks.effort import Effort, Say
from benchmarks.marks import Row, at_most
from benchmarks.processes import RELAY, server
from benchmarks.relay import make_picture
from benchmarks.watchers import PATIENCE, Stamper, Watcher, quantile

RATE = 30.0
SLOWER = 3
"""The viewers drain the rate divided by this."""

SETTLE, SECONDS = 5.0, 12.0
QUICK_SETTLE, QUICK_SECONDS = 0.3, 0.9
TICK = 0.002
MOST_SAVED = 32 * 1024
"""Bytes that a viewer which was kept waiting may catch up with."""

MARKS = {"without credit": at_most(6, 4), "with credit": at_most(3, 1.5)}
CREDITS = {"without credit": 1024, "with credit": 1}


def measure(effort: Effort, say: Say) -> dict[str, Any]:
    """Ages over the wire time, for a viewer with and one without credit, side by side."""
    picture = make_picture()
    settle = effort.pick(SETTLE, QUICK_SETTLE)
    seconds = effort.pick(SECONDS, QUICK_SECONDS)
    with server(*RELAY) as relay:
        path = "/streams/benchmark/viewer?track=input&credit="
        viewers = {
            name: Watcher(
                upgrade(relay.port, f"{path}{count}", receive_buffer=None), credit=count == 1
            )
            for name, count in CREDITS.items()
        }
        producer = Stamper(upgrade(relay.port, "/streams/benchmark/producer"), picture)
        drain(producer, list(viewers.values()), settle, len(picture) * RATE / SLOWER)
        for viewer in viewers.values():
            viewer.seen.clear()
        say(f"{seconds:.0f} s")
        drain(producer, list(viewers.values()), seconds, len(picture) * RATE / SLOWER)
        for client in (producer, *viewers.values()):
            client.socket.close()
    return {"wire_ms": 1000 * SLOWER / RATE, **{n: _ages(v) for n, v in viewers.items()}}


def drain(producer: Stamper, viewers: Sequence[Watcher], seconds: float, rate: float) -> None:
    """Send pictures, and let each viewer read ``rate`` bytes a second."""
    before = time.perf_counter()
    due, end = before, before + seconds
    allowed = [0.0] * len(viewers)
    while (now := time.perf_counter()) < end or (
        now < end + PATIENCE and not all(viewer.seen for viewer in viewers)
    ):
        if now >= due:
            producer.send()
            due = max(due + 1 / RATE, now - 1 / RATE)
        for number, viewer in enumerate(viewers):
            allowed[number] = min(MOST_SAVED, allowed[number] + rate * (now - before))
            if allowed[number] >= 1:
                allowed[number] -= viewer.drain(int(allowed[number]))
        before = now
        time.sleep(TICK)


def _ages(viewer: Watcher) -> dict[str, Any]:
    wire = SLOWER / RATE * 1e9
    ages = [seen.age / wire for seen in viewer.seen]
    return {
        "pictures": len(ages),
        "p50": round(quantile(ages, 0.50), 2),
        "p95": round(quantile(ages, 0.95), 2),
    }


def rows(found: Mapping[str, Any]) -> list[Row]:
    """The lines of the table."""
    return [
        Row(f"age p95 / wire time, {name}", found[name]["p95"], mark)
        for name, mark in MARKS.items()
    ]
