"""Figures about what flows: rates, ages, hops. Written by the frame path, read once a second.

The frame path adds to plain numbers; whoever asks (the status message, the metrics page, a progress
line) does the arithmetic.
"""

import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from dreamrelay.packet import Hop, Packet

WINDOW_NS = 2_000_000_000


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


class HopTimes:
    """Milliseconds between successive hops of recent packets, and their whole age."""

    def __init__(self, keep: int = 600) -> None:
        self._keep = keep
        self._hops: dict[Hop, deque[float]] = {}
        self._ages: deque[float] = deque(maxlen=keep)

    def add(self, packet: Packet, now_ns: int) -> None:
        """Note a packet that arrived at ``now_ns`` (UNIX time, our clock)."""
        before = packet.captured_ns
        for stamp in packet.stamps:
            times = self._hops.get(stamp.hop)
            if times is None:
                times = self._hops[stamp.hop] = deque(maxlen=self._keep)
            times.append((stamp.ns - before) / 1e6)
            before = stamp.ns
        self._ages.append((now_ns - packet.captured_ns) / 1e6)

    @property
    def age(self) -> Percentiles:
        return Percentiles.of(self._ages)

    def hops(self) -> dict[Hop, Percentiles]:
        return {hop: Percentiles.of(times) for hop, times in sorted(self._hops.items())}
