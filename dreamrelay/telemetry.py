"""Figures about what flows: rates, ages, hops. Written by the frame path, read once a second.

The frame path adds to plain numbers; whoever asks (the status message, the metrics page, a progress
line) does the arithmetic.
"""

import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from dreamrelay.packet import WAY, Hop, Packet, Stamp

WINDOW_NS = 2_000_000_000

BATCH = 32
"""Packets whose times are noted before anything is computed of them: in a row it costs half."""


class RateMeter:
    """Events per second over the last two seconds."""

    def __init__(self, clock_ns: Callable[[], int] = time.monotonic_ns) -> None:
        self._clock_ns = clock_ns
        self._times: deque[int] = deque(maxlen=512)
        self.count = 0

    def tick(self) -> None:
        """Count one event."""
        self.count += 1
        self._times.append(self._clock_ns())

    @property
    def rate(self) -> float:
        """Events per second; 0 after two seconds of silence."""
        now = self._clock_ns()
        while self._times and now - self._times[0] > WINDOW_NS:
            self._times.popleft()
        if len(self._times) < 2:
            return 0.0
        intervals = len(self._times) - 1
        spread = self._times[-1] - self._times[0]
        # A stream that has just stopped decays instead of standing at its last rate.
        beyond = max(0, now - self._times[-1] - spread // intervals)
        return intervals * 1e9 / max(1, spread + beyond)


@dataclass(frozen=True, slots=True)
class Percentiles:
    """Of some milliseconds: median, 95th, 99th, and of how many."""

    p50: float
    p95: float
    p99: float
    count: int

    @classmethod
    def of(cls, values: Sequence[float]) -> "Percentiles":
        if not values:
            return cls(0.0, 0.0, 0.0, 0)
        ordered = sorted(values)

        def at(share: float) -> float:
            return ordered[min(len(ordered) - 1, int(share * len(ordered)))]

        return cls(at(0.50), at(0.95), at(0.99), len(ordered))


_MEETINGS: dict[Hop, tuple[Hop, ...]] = {
    Hop.RELAYED: (Hop.RELAYED,),
    Hop.RECEIVED: (Hop.RECEIVED, Hop.RETURNED),
    Hop.RETURNED: (Hop.RECEIVED, Hop.RETURNED),
}
"""Hops at which two clocks meet; if the time to one of them cannot be, neither can these."""


class HopTimes:
    """Milliseconds between successive hops of recent packets, and their whole age.

    A time below nothing, by no more than the error of the clocks, is nothing. By more it cannot be:
    two clocks differ and nobody has said so. Then none of the times between these two counts; how
    often that was is ``disordered``.
    """

    def __init__(self, keep: int = 600) -> None:
        self._keep = keep
        self._hops: dict[Hop, deque[float]] = {}
        self._ages: deque[float] = deque(maxlen=keep)
        self._noted: list[tuple[int, tuple[Stamp, ...], int, int]] = []
        self._disordered = 0
        self.added = 0
        """Packets, since the start."""

    def add(self, packet: Packet, now_ns: int, error_ns: int = 0) -> None:
        """Note a packet that arrived at ``now_ns`` (UNIX time).

        Args:
            error_ns: of the clocks that set its stamps.
        """
        self.added += 1
        self._noted.append((packet.captured_ns, packet.stamps, now_ns, error_ns))
        if len(self._noted) >= BATCH:
            self._count()

    def _count(self) -> None:
        """Do the arithmetic for what was noted."""
        noted, self._noted = self._noted, []
        for captured_ns, stamps, now_ns, error_ns in noted:
            self._count_one(captured_ns, stamps, now_ns, error_ns)

    def _count_one(
        self, captured_ns: int, stamps: tuple[Stamp, ...], now_ns: int, error_ns: int
    ) -> None:
        doubted: tuple[Hop, ...] = ()
        before = captured_ns
        spans = []
        for stamp in stamps:
            took = stamp.ns - before
            before = stamp.ns
            if took < -error_ns:
                doubted += _MEETINGS.get(stamp.hop, (stamp.hop,))
            spans.append((stamp.hop, max(0, took)))
        for hop, took in spans:
            if hop not in doubted:
                times = self._hops.get(hop)
                if times is None:
                    times = self._hops[hop] = deque(maxlen=self._keep)
                times.append(took / 1e6)
        age = now_ns - captured_ns
        if age >= -error_ns and Hop.RELAYED not in doubted:
            self._ages.append(max(0, age) / 1e6)
        elif not doubted:
            doubted = (Hop.RETURNED,)
        self._disordered += bool(doubted)

    def forget(self) -> None:
        """Begin anew: a clock by which these were taken was not the relay's."""
        self._count()
        self._hops.clear()
        self._ages.clear()

    @property
    def disordered(self) -> int:
        """Packets whose times contradict each other, since the start."""
        self._count()
        return self._disordered

    @property
    def age(self) -> Percentiles:
        self._count()
        return Percentiles.of(self._ages)

    def hops(self) -> dict[Hop, Percentiles]:
        """By hop, in the order of the way: the time from the hop before."""
        self._count()
        return {hop: Percentiles.of(self._hops[hop]) for hop in WAY if hop in self._hops}

    def figures(self) -> dict[str, tuple[float, ...]]:
        """Median, 95th and 99th of each hop by its name, and of the ``age``."""
        named = {hop.name.lower(): times for hop, times in self.hops().items()} | {"age": self.age}
        return {name: (t.p50, t.p95, t.p99) for name, t in named.items() if t.count}


def heard_figures(fields: Mapping[str, Any]) -> dict[str, tuple[float, ...]]:
    """The same out of a relay's ``latency`` message; what is none is left out.

    ``shown`` is the age where people see pictures, at the slowest of these places, and ``error``
    that of the clocks.
    """
    hops = fields.get("hops")
    ages = fields.get("age")
    named = dict(hops) if isinstance(hops, dict) else {}
    if isinstance(ages, dict):
        named["age"] = ages.get("returned")
        places = [_three(age) for at, age in ages.items() if at not in _AT_THE_RELAY]
        named["shown"] = max((place for place in places if place), key=lambda p: p[1], default=None)
    found = {name: three for name, times in named.items() if (three := _three(times))}
    error = fields.get("error_ms")
    if isinstance(error, int | float):
        found["error"] = (float(error),)
    return found


_AT_THE_RELAY = ("relayed", "returned", "control")


def _three(times: object) -> tuple[float, ...]:
    """Three numbers, or nothing."""
    if isinstance(times, list | tuple) and len(times) == 3:
        numbers = tuple(float(ms) for ms in times if isinstance(ms, int | float))
        return numbers if len(numbers) == 3 else ()
    return ()
