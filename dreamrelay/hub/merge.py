"""Results of several workers, back in the order of their inputs.

A result that came before that of an earlier input is held until the earlier one is there, or is
not to be waited for any more. What was held does not leave in one burst, of which viewers would see
the last picture only: it leaves at the rhythm at which its inputs were given out, a little faster,
so that what lags behind catches up. No result is held longer than the time that it came with.

Nothing here waits: ``call_later`` has :meth:`Merge.flush` called again.
"""

from collections.abc import Callable

from dreamrelay.hub.peers import Peer
from dreamrelay.hub.seats import Given
from dreamrelay.packet import Packet

CATCH_UP = 0.8
"""Between two held results passes this part of the time between their inputs."""

CallLater = Callable[[float, Callable[[], None]], object]
"""Has a function called once, so many seconds from now, in the hub's thread."""


class Merge:
    """The inputs that workers have, in order, and those results of them that wait.

    Args:
        show: shows a result, and then what steered it if that came.
        call_later: None: nobody could wake us, so nothing is held.
    """

    def __init__(
        self,
        show: Callable[[Packet, Packet | None], None],
        clock_ns: Callable[[], int],
        call_later: CallLater | None,
    ) -> None:
        self._show = show
        self._clock_ns = clock_ns
        self._call_later = call_later
        self._order: dict[int, Given] = {}
        self._shown = (0, 0)
        """When the last result was shown, and when its input was given out."""
        self._wake_ns: int | None = None

    def expect(self, given: Given) -> None:
        """An input was given out; its number is higher than those before."""
        if self._call_later is not None:
            self._order[given.packet.seq] = given

    def find(self, seq: int, peer: Peer) -> Given | None:
        """The input of that number, if this peer has it and its result was not shown yet."""
        given = self._order.get(seq)
        return given if given is not None and given.peer is peer else None

    def take(self, given: Given, result: Packet, leave_ns: int) -> None:
        """The result of an input came; it is shown before ``leave_ns``, in its order if it can."""
        given.result, given.come_ns, given.leave_ns = result, self._clock_ns(), leave_ns
        self.flush()

    def preview(self, given: Given, packet: Packet) -> None:
        """A rough result: shown if it is its turn, else nothing is lost with it."""
        self.flush()
        if next(iter(self._order.values()), None) is given and given.result is None:
            self._show(packet, None)

    def give_up(self, given: Given) -> None:
        """That input will have no result any more."""
        if given.result is None and self._order.get(given.packet.seq) is given:
            del self._order[given.packet.seq]

    def release(self) -> None:
        """Show what waits, in order, and wait for nothing more."""
        order, self._order = self._order, {}
        for given in order.values():
            if given.result is not None:
                self._show(given.result, given.control)

    def flush(self) -> None:
        """Show what may be shown now; be woken when more may."""
        while self._order:
            now = self._clock_ns()
            held = [g.leave_ns for g in self._order.values() if g.result is not None]
            first = next(iter(self._order.values()))
            due = first.until_ns
            if first.result is not None:
                shown_ns, given_ns = self._shown
                due = shown_ns + int(CATCH_UP * (first.given_ns - given_ns))
            due = min(due, *held) if held else due
            if now < due:
                if held:  # else there is nothing to wake for
                    self._wake_at(due, now)
                return
            del self._order[first.packet.seq]
            if first.result is not None:
                self._shown = (now, first.given_ns)
                self._show(first.result, first.control)

    def _wake_at(self, due_ns: int, now_ns: int) -> None:
        if self._call_later is None or (self._wake_ns is not None and self._wake_ns <= due_ns):
            return
        self._wake_ns = due_ns
        self._call_later((due_ns - now_ns) / 1e9, self._woken)

    def _woken(self) -> None:
        self._wake_ns = None
        self.flush()
