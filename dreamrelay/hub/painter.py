"""Who paints from the prompt while nothing comes in, and whether it does.

One worker of a stream has the turn. One that falls silent while somebody looks (its cable is out,
it hangs) loses it to the next one; who was never heard to paint may have been told not to, and is
given longer.
"""

from collections import deque
from collections.abc import Callable, Sequence

from dreamrelay.hub.seats import ALONE_SILENT_NS, RECENT, UNKNOWN_SILENT_NS, Seat, far_longer


class Painter:
    """Gives the turn; asked once a second and whenever somebody comes or goes.

    Args:
        clock_ns: monotonic.
    """

    def __init__(self, clock_ns: Callable[[], int]) -> None:
        self._clock_ns = clock_ns
        self._seat: Seat | None = None
        self._passed: set[str] = set()
        """Ids of those who had the turn and gave nothing."""
        self._results = 0
        self._since_ns = 0
        self._silences: deque[int] = deque(maxlen=RECENT)

    def choose(self, fit: Sequence[Seat], *, idle: bool) -> Seat | None:
        """Who may paint now: the same as before, as long as it is fit; None if nobody.

        Args:
            fit: the workers that could.
            idle: nothing comes in.
        """
        if not idle or not fit:
            self._seat = None
            self._passed.clear()
            return None
        if self._seat not in fit:
            others = [seat for seat in fit if seat.peer.id not in self._passed]
            if not others:  # all have had it: once more from the first
                self._passed.clear()
            self._begin(next(iter(others), fit[0]))
        return self._seat

    def look(self, fit: Sequence[Seat], *, watched: bool) -> None:
        """Once a second: see whether it paints, and take the turn from it if it does not.

        Args:
            watched: somebody looks, so it is to paint.
        """
        seat, now = self._seat, self._clock_ns()
        if seat is None:
            return
        if seat.results != self._results or not watched:
            if watched:
                self._silences.append(now - self._since_ns if self._silences else 0)
            self._results, self._since_ns = seat.results, now
        elif len(fit) > 1 and now - self._since_ns > self._patience:
            self._passed.add(seat.peer.id)
            if self._silences:
                seat.hung, seat.silent_ns = True, now
            self._seat = None

    @property
    def _patience(self) -> int:
        if not self._silences:
            return UNKNOWN_SILENT_NS
        # A look apart is how results of one that goes on are found.
        return max(ALONE_SILENT_NS, far_longer(sorted(self._silences)) // 2)

    def _begin(self, seat: Seat) -> None:
        self._seat, self._results, self._since_ns = seat, seat.results, self._clock_ns()
        self._silences.clear()
