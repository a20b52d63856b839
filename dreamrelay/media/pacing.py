"""When the next picture is due, and what time a picture was taken. Nothing here sleeps."""

import math
import time
from collections.abc import Callable

from dreamrelay.errors import ConfigError


class Pacer:
    """Decide when the next picture is due, at ``fps`` pictures a second.

    The due times are ``start + n / fps``, each computed from ``n``: waiting a little too long now
    and then adds up to nothing. A tick that was missed altogether is left out, never made up for in
    a burst.

    ::

        pacer = Pacer(30)
        while (delay := pacer.delay()) > 0:
            stopped.wait(delay)
        skipped = pacer.tick()

    Args:
        fps: the rate, over 0.
        clock: says the time in seconds; it may start anywhere but must not step back.
    """

    def __init__(self, fps: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self.restart(fps)

    @property
    def fps(self) -> float:
        return self._fps

    def restart(self, fps: float | None = None) -> None:
        """Let the first tick be due now (after a pause), perhaps at another rate."""
        if fps is not None:
            if not (fps > 0 and math.isfinite(fps)):
                raise ConfigError(f"expected a rate over 0 pictures a second, got {fps}")
            self._fps = float(fps)
        self._start = self._clock()
        self._tick = 0

    def delay(self) -> float:
        """Seconds until the next tick is due; 0 when it is."""
        return max(0.0, self._start + self._tick / self._fps - self._clock())

    def tick(self) -> int:
        """Take the tick that is due; the number of ticks that were missed before it.

        Taking a tick early is allowed: it counts, and the one after it keeps its time.
        """
        # The small term forgives rounding: a clock that shows exactly the due time is not before
        # it.
        passed = math.floor((self._clock() - self._start) * self._fps + 1e-6)
        missed = max(0, passed - self._tick)
        self._tick += missed + 1
        return missed


SET_BACK_NS = 500_000_000
"""A clock that goes back further was set; less is what a time service does."""


class CaptureClock:
    """UNIX time in ns that never repeats and does not step back, for one source.

    Unless the clock was set back: then its new time holds, or all pictures would be of a moment
    until the old one is reached again.
    """

    def __init__(self, now: Callable[[], int] = time.time_ns) -> None:
        self._now = now
        self._last = 0

    def __call__(self) -> int:
        now = self._now()
        self._last = now if now < self._last - SET_BACK_NS else max(self._last + 1, now)
        return self._last
