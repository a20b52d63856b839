"""How far another machine's clock is ahead of ours, and how well that is known. No sockets.

A ping leaves at ``sent`` and its answer is here at ``back`` (our clock); between the two the other
side looked at its own clock. Whatever the two ways took, its clock was then ahead of ours by
something between ``theirs - back`` and ``theirs - sent``: nothing is assumed about how alike they
are. Each ping gives such an interval, it widens with its age as far as two quartzes may drift
apart, and the truth lies in all of them: the estimate is the middle of what they have in common,
its error the half. So it is exact to half of the quickest round trip or better. A ping that
contradicts the others says that a clock was set; then only it counts.

The bounds are those of Marzullo and Owicki ("Maintaining the time in a distributed system", 1983);
NTP takes the middle of its quickest sample (RFC 5905).
"""

import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

DRIFT = 100e-6
"""Seconds a second that two clocks may drift apart: twice what a cheap quartz may be wrong."""

KEEP = 16
"""Pings that count."""


@dataclass(frozen=True, slots=True)
class Offset:
    """``ns`` is their clock minus ours; the truth is at most ``error_ns`` away from it."""

    ns: int
    error_ns: int


class ClockEstimate:
    """The offset of another clock, out of pings. Times in ns, all of ours on one clock."""

    def __init__(self, *, drift: float = DRIFT, keep: int = KEEP) -> None:
        self._drift = drift
        self._bounds: deque[tuple[int, int, int]] = deque(maxlen=keep)
        """When a ping was sent, and between what the offset was then."""

    def add(self, sent: int, theirs: int, back: int, replied: int | None = None) -> bool:
        """Note a ping.

        Args:
            sent, back: when it left and its answer was here, our clock.
            theirs: when it was there, their clock; ``replied`` when the answer left, if that is
                known.

        Returns:
            Whether it contradicts those before, which are forgotten: a clock was set.
        """
        least = (theirs if replied is None else replied) - back
        most = theirs - sent
        if least > most:  # our own clock was set back meanwhile
            return False
        known = self._common(back)
        wider = self._widened(back - sent)
        anew = known is not None and (least - wider > known[1] or most + wider < known[0])
        if anew:
            self._bounds.clear()
        self._bounds.append((sent, least, most))
        return anew

    def at(self, now: int) -> Offset | None:
        """The offset as it is known ``now`` (our clock); None before the first ping."""
        common = self._common(now)
        if common is None:
            return None
        least, most = common
        return Offset((least + most) // 2, (most - least + 1) // 2)

    def forget(self) -> None:
        """Begin anew."""
        self._bounds.clear()

    def _common(self, now: int) -> tuple[int, int] | None:
        if not self._bounds:
            return None
        least = max(least - self._widened(now - sent) for sent, least, _ in self._bounds)
        most = min(most + self._widened(now - sent) for sent, _, most in self._bounds)
        return least, most

    def _widened(self, age: int) -> int:
        return int(max(0, age) * self._drift) + 1


class RelayClock:
    """What a peer knows of its relay's clock. Used by one thread, but for :attr:`ahead_ns`.

    Pings are timed by our monotonic clock, which nobody sets; so when our own clock is set that
    shows at once, without a ping.
    """

    def __init__(
        self,
        *,
        unix_ns: Callable[[], int] = time.time_ns,
        monotonic_ns: Callable[[], int] = time.monotonic_ns,
        resolution: float | None = None,
    ) -> None:
        self._unix_ns = unix_ns
        self._monotonic_ns = monotonic_ns
        if resolution is None:  # of Windows' clock: 16 ms
            resolution = time.get_clock_info("time").resolution
        self._resolution_ns = int(resolution * 1e9)
        self._estimate = ClockEstimate()
        self._known: Offset | None = None
        self._number = 0
        self._pinged: dict[int, int] = {}

    def begin_anew(self) -> None:
        """On another connection: perhaps to another machine."""
        self._estimate.forget()
        self._known = None
        self._pinged.clear()

    def ping(self) -> int:
        """A ping leaves; its ``id``."""
        self._number += 1
        self._pinged.clear()  # the answer to an older one would only be slower
        self._pinged[self._number] = self._monotonic_ns()
        return self._number

    def pong(self, id_: object, received_ns: object) -> bool:
        """An answer came; whether it was one to the last ping."""
        sent = self._pinged.pop(id_, None) if isinstance(id_, int) else None
        if sent is None or not isinstance(received_ns, int) or not 0 <= received_ns < 1 << 64:
            return False
        now = self._monotonic_ns()
        self._estimate.add(sent, received_ns, now)
        self._known = self._estimate.at(now)
        return True

    @property
    def offset(self) -> Offset | None:
        """What is to be added to our UNIX time to have the relay's; None while nobody knows.

        Clocks that may agree are taken to agree: peers on one machine add nothing.
        """
        known = self._known
        if known is None:
            return None
        ns = known.ns - (self._unix_ns() - self._monotonic_ns())
        error = known.error_ns + self._resolution_ns
        if abs(ns) <= error:
            return Offset(0, abs(ns) + error)
        return Offset(ns, error)

    @property
    def ahead_ns(self) -> int:
        """The same, 0 while nobody knows. From any thread."""
        offset = self.offset
        return 0 if offset is None else offset.ns
