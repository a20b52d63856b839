"""B4: what viewers that never read do to the relay and to everybody else (Linux).

One producer, 30 pictures a second of 60 kB; three viewers that read at once, and two that stop:
one with credit to spare, one of the seed's, which knows no credit. Delivered over sent counts the
three. Memory is what the relay grows by once the two have stopped, in pictures for each. What the
two cost ends when the relay cuts them off: its sockets tell when, because somebody who does not
read hears nothing.
"""

import time
from collections.abc import Mapping
from typing import Any

from benchmarks.clients import Viewer, WebSocketViewer, text_frame, upgrade
from benchmarks.effort import Effort, Say
from benchmarks.machine import open_sockets, resident_bytes
from benchmarks.marks import Row, at_least, at_most
from benchmarks.processes import RELAY, server
from benchmarks.relay import make_picture
from benchmarks.watchers import Stamper, Watcher, play

RATE = 30.0
OTHERS = 3
LIMIT, QUICK_LIMIT = 10.0, 1.0
"""Seconds after which the relay is told to cut somebody off; the first is what it does anyway."""

WARM_UP, QUICK_WARM_UP = 4.0, 0.5
SECONDS, QUICK_SECONDS = 20.0, 2.0
BUFFER = 64 * 1024
"""The kernel's, for those who stop: what fits in there is sent before anything waits."""

MARKS = {
    "delivered": at_least(0.999, 1.0),
    "memory": at_most(8, 2),
    "eviction": at_most(2, 0.5),
    "connected": at_least(1, 1),
}


class _Evictions:
    """Notes when the relay has closed sockets."""

    def __init__(self, pid: int) -> None:
        self._pid = pid
        self._before = open_sockets(pid)
        self._began = time.perf_counter()
        self.after: list[float] = []
        self.most_bytes = 0

    def look(self) -> None:
        gone = self._before - open_sockets(self._pid)
        self.after += [time.perf_counter() - self._began] * (gone - len(self.after))
        self.most_bytes = max(self.most_bytes, resident_bytes(self._pid))


def measure(effort: Effort, say: Say) -> dict[str, Any]:
    """Deliveries, memory and evictions."""
    picture = make_picture()
    limit = effort.pick(LIMIT, QUICK_LIMIT)
    with server(*RELAY, f"--stall_seconds={limit}") as relay:
        port = relay.port
        native = "/streams/benchmark/viewer?track=input"
        others = [Watcher(upgrade(port, f"{native}&credit=4")) for _ in range(OTHERS)]
        stuck: list[Viewer] = [
            WebSocketViewer(upgrade(port, f"{native}&credit=1024", receive_buffer=BUFFER)),
            WebSocketViewer(
                upgrade(port, "/?stream=benchmark", receive_buffer=BUFFER),
                hello=text_frame(type="register", client_type="consumer"),
            ),
        ]
        producer = Stamper(upgrade(port, "/streams/benchmark/producer"), picture)
        play(producer, [*others, *stuck], effort.pick(WARM_UP, QUICK_WARM_UP), RATE)
        play(producer, [*others, *stuck], 0.2, 1)
        say(f"two viewers stop reading; {limit:.0f} s to cut them off")
        before = resident_bytes(relay.pid)
        for other in others:
            other.seen.clear()
        evictions = _Evictions(relay.pid)
        sent = play(producer, others, effort.pick(SECONDS, QUICK_SECONDS), RATE, evictions.look)
        sent += play(producer, others, 0.2, 1)  # and what is still under way
        delivered = sum(len({seen.seq for seen in other.seen}) for other in others)
        others[0].seen.clear()
        play(producer, others, 0.5, 4)
        for client in (producer, *others, *stuck):
            client.socket.close()
    return {
        "sent": sent,
        "delivered": round(delivered / sent / len(others), 4),
        "memory_frames": round((evictions.most_bytes - before) / len(picture) / len(stuck), 2),
        "limit_seconds": limit,
        "evicted_after": [round(seconds, 2) for seconds in evictions.after],
        "stuck": len(stuck),
        "producer_connected": bool(others[0].seen),
    }


def rows(found: Mapping[str, Any]) -> list[Row]:
    """The lines of the table."""
    evicted = found["evicted_after"]
    late = max(evicted) - found["limit_seconds"] if len(evicted) == found["stuck"] else float("inf")
    return [
        Row("delivered / sent, the other viewers", found["delivered"], MARKS["delivered"]),
        Row("memory of the relay, pictures for each", found["memory_frames"], MARKS["memory"]),
        Row("cut off after the limit, s", round(late, 3), MARKS["eviction"]),
        Row("producer still connected", float(found["producer_connected"]), MARKS["connected"]),
    ]
