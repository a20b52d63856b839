"""What several workers at one stream make of it, in a simulation with a clock of its own.

The hub is the real one; its workers and its producer are functions that it wakes. A worker does
what ours does (:mod:`dreamrelay.worker`): it takes a picture up, gives its credit back at once, and
of those that are ready its engine takes the newest; taking up and sending back take ``WIRE_MS``
each, beside the engine. Time is counted, not measured: the figures are the same on every machine.

- efficiency: pictures *shown to a viewer* over what could be, the rates of the engines together or
  the producer's rate. A viewer sees one picture at a time, so those that come in a burst count
  once.
- age: from the camera to the viewer, 95 of 100 are younger, over the time of the slowest worker,
  from a picture given to it to its result, with nothing else to do.
- speed-up: shown pictures over those of one worker alone with the same producer.

A part of ``make bench``; by itself ``python -m benchmarks dispatch``, some seconds.
"""

import heapq
import random
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from dreamrelay.hub import Hub, Peer, Stream
from dreamrelay.packet import Codec, Packet
from dreamrelay.protocol.messages import Delivery, Limits, Notice, Role, WorkerHello

MS = 1_000_000
WIRE_MS = 2.0
"""To take a picture up, and to send one back: each time, beside the engine."""
SECONDS = 30
SETTLED = 3
"""Seconds at the start that are not counted: times are not known yet."""


class Case(NamedTuple):
    """Several workers and a producer.

    Attributes:
        engines_ms: how long each engine takes.
        fps: pictures a second that come in; 0: four times what can be computed.
        jitter: part of a time by which each picture may take more or less.
        wire_ms: to a worker, and from it.
    """

    engines_ms: Sequence[float]
    fps: float = 0
    jitter: float = 0
    wire_ms: float = WIRE_MS


CASES: Mapping[str, Case] = {
    "one of 40 ms": Case((40,)),
    "two of 40 ms": Case((40, 40)),
    "two of 40 ms, +-10 %": Case((40, 40), jitter=0.1),
    "three of 40 ms": Case((40, 40, 40)),
    "25 and 120 ms": Case((25, 120)),
    "25 and 120 ms, +-10 %": Case((25, 120), jitter=0.1),
    "25 and 120 ms, 6 ms away": Case((25, 120), wire_ms=6),
    "25, 40 and 120 ms": Case((25, 40, 120)),
    "25 and 120 ms, 30 fps": Case((25, 120), fps=30),
}


class World:
    """The clock, and what is to happen when."""

    def __init__(self) -> None:
        self.now = 1_000 * MS
        self._events: list[tuple[int, int, Callable[[], None]]] = []
        self._count = 0

    def clock(self) -> int:
        return self.now

    def call_later(self, seconds: float, call: Callable[[], None]) -> None:
        self.after(round(seconds * 1e9), call)

    def after(self, ns: int, call: Callable[[], None]) -> None:
        self._count += 1
        heapq.heappush(self._events, (self.now + max(0, ns), self._count, call))

    @property
    def idle(self) -> bool:
        """Whether nothing is to happen any more."""
        return not self._events

    def run(self, until_ns: int) -> None:
        while self._events and self._events[0][0] <= until_ns:
            self.now, _, call = heapq.heappop(self._events)
            call()
        self.now = until_ns


class Somebody(Peer):
    """Hears, and does nothing about it."""

    def __init__(self, id: str, role: Role) -> None:
        self.id, self.role = id, role

    def notify(self, notice: Notice) -> None:
        pass

    def wake(self) -> None:
        pass


class SimulatedWorker(Somebody):
    """Takes pictures up, computes the newest of them, sends it back.

    Args:
        times: gives how long the next picture takes, ns.
        wire_ns: how long one is on its way.
    """

    def __init__(
        self, id: str, world: World, stream: Stream, times: Callable[[], int], wire_ns: int
    ) -> None:
        super().__init__(id, "worker")
        self.alive = True
        self._world, self._stream, self._times, self._wire_ns = world, stream, times, wire_ns
        self._ready: Packet | None = None
        self._busy = False

    def notify(self, notice: Notice) -> None:
        if isinstance(notice, Delivery):
            packet = notice.packet
            self._world.after(self._wire_ns, lambda: self._take_up(packet))

    def _take_up(self, packet: Packet) -> None:
        if self.alive:
            self._ready = packet
            self._begin()
            self._stream.grant(self, 1)

    def _begin(self) -> None:
        if self.alive and not self._busy and self._ready is not None:
            packet, self._ready, self._busy = self._ready, None, True
            self._world.after(self._times(), lambda: self._made(packet))

    def _made(self, packet: Packet) -> None:
        self._busy = False
        self._world.after(self._wire_ns, lambda: self._send(packet))
        self._begin()

    def _send(self, packet: Packet) -> None:
        if self.alive:
            self._stream.publish(packet, "output", self)


class SimulatedViewer(Somebody):
    """Looks at the newest picture there is, whenever one comes."""

    def __init__(self, world: World, stream: Stream) -> None:
        super().__init__("viewer", "viewer")
        self.seen: list[tuple[int, int, int]] = []
        """When, the number, how old; ns."""
        self._world, self._stream = world, stream

    def wake(self) -> None:
        # Two wakes at one moment find one picture: what came in a burst was replaced.
        self._world.after(0, self._look)

    def _look(self) -> None:
        subscription = self._stream.subscription(self, "output")
        packet = subscription.take() if subscription else None
        if packet is not None:
            now = self._world.now
            self.seen.append((now, packet.seq, now - packet.captured_ns))


class Show:
    """A stream with a producer, workers and a viewer.

    Args:
        times: of the engines, ms.
        rate: pictures a second from the producer.
        jitter: part of a time by which each picture may take more or less.
        wire_ms: to a worker, and from it.
        kind: of the workers.
    """

    def __init__(
        self,
        times: Sequence[float],
        rate: float,
        jitter: float = 0,
        *,
        wire_ms: float = WIRE_MS,
        kind: type[SimulatedWorker] = SimulatedWorker,
        seed: int = 1,
    ) -> None:
        self.world = World()
        world = self.world
        hub = Hub(Limits(), clock_ns=world.clock, unix_ns=world.clock, call_later=world.call_later)
        self.stream = hub.stream("default")
        self._interval = round(1e9 / rate)
        self._producer = Somebody("producer", "producer")
        self.stream.join(self._producer)
        self.viewer = SimulatedViewer(world, self.stream)
        self.stream.join(self.viewer, ("output",), None)
        chance = random.Random(seed)

        def taking(ms: float) -> Callable[[], int]:
            return lambda: round(ms * MS * (1 + jitter * (2 * chance.random() - 1)))

        self.workers = [
            kind(f"worker-{at}", world, self.stream, taking(ms), round(wire_ms * MS))
            for at, ms in enumerate(times)
        ]
        for worker in self.workers:
            self.stream.join(worker, (), 2, WorkerHello("simulated"))
        self._take_picture()

    def _take_picture(self) -> None:
        picture = Packet(b"GIF", Codec.GIF, 1, 1, 0, self.world.now)
        self.stream.publish(picture, "input", self._producer)
        self.world.after(self._interval, self._take_picture)

    def run(self, seconds: float) -> None:
        self.world.run(self.world.now + round(seconds * 1e9))

    def kill(self, worker: SimulatedWorker) -> None:
        worker.alive = False
        self.stream.leave(worker)


def measure_case(case: Case, seconds: float = SECONDS) -> dict[str, Any]:
    """One row of the table."""
    times, fps, jitter, wire_ms = case
    rates = sum(1000 / ms for ms in times)
    rate = fps or 4 * rates
    show, single = (
        Show(engines, rate, jitter, wire_ms=wire_ms) for engines in (times, [min(times)])
    )
    for of in (show, single):
        of.run(SETTLED)
        of.viewer.seen.clear()
    late = show.stream.late
    for of in (show, single):
        of.run(seconds)
    seen = show.viewer.seen
    ages = sorted(age for _, _, age in seen)
    numbers = [number for _, number, _ in seen]
    assert numbers == sorted(set(numbers)), "a picture was shown twice, or after a newer one"
    slowest = (max(times) + 2 * wire_ms) * MS
    return {
        "engines_ms": list(times),
        "source_fps": round(rate, 1),
        "jitter": jitter,
        "efficiency": round(len(seen) / seconds / min(rate, rates), 4),
        "age_p95": round(ages[len(ages) * 95 // 100] / slowest, 4),
        "speed_up": round(len(seen) / len(single.viewer.seen), 4),
        "late": show.stream.late - late,
    }


def measure(seconds: float | None = None) -> dict[str, Any]:
    """All rows."""
    seconds = SECONDS if seconds is None else seconds
    return {
        "seconds": seconds,
        "cases": {name: measure_case(case, seconds) for name, case in CASES.items()},
    }


def table(figures: Mapping[str, Any]) -> str:
    """The figures as a table of Markdown."""
    lines = [
        "| engines | pictures in, a second | efficiency | age p95 / slowest"
        " | over the fastest alone | late |",
        "|---|---:|---:|---:|---:|---:|",
    ]
    for name, row in figures["cases"].items():
        lines.append(
            f"| {name} | {row['source_fps']:.0f} | {row['efficiency']:.3f} | {row['age_p95']:.2f}"
            f" | {row['speed_up']:.2f} | {row['late']} |"
        )
    return "\n".join(lines)
