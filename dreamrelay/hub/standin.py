"""What viewers are shown while no results come: the last one, the camera's picture, or a slate.

The last result is held for ``hold_seconds``, and as long as nothing else was chosen. Whatever
stands in for results ends with the first of them.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Literal

from dreamrelay.errors import ProtocolError
from dreamrelay.packet import Packet

WhenLost = Literal["hold", "pass", "slate"]
WHEN_LOST: tuple[WhenLost, ...] = ("hold", "pass", "slate")
HOLD_SECONDS = 3.0
LONGEST_HOLD = 3600.0


@dataclass(frozen=True, slots=True)
class Fallback:
    """What is chosen for a stream.

    Attributes:
        when_lost: ``hold`` the last picture; ``pass`` the camera's pictures on as they are; show a
            ``slate``.
        hold_seconds: the last result is held for so long at first, 0..3600.
        slate: its picture; None: there is none, and the last result is held instead.
    """

    when_lost: WhenLost = "hold"
    hold_seconds: float = HOLD_SECONDS
    slate: Packet | None = None


class StandIn:
    """Decides what stands in for the results of one stream."""

    def __init__(self, fallback: Fallback, clock_ns: Callable[[], int]) -> None:
        self.fallback = fallback
        self.shows: Literal["", "pass", "slate"] = ""
        """What viewers see in place of results now."""
        self.lost = False
        """Whether no results are to be expected; said by the stream, once a second."""
        self._clock_ns = clock_ns
        self._result_ns = clock_ns()

    @property
    def _due(self) -> bool:
        patience = int(self.fallback.hold_seconds * 1e9)
        return self.lost and self._clock_ns() - self._result_ns >= patience

    def choose(self, when_lost: str | None, hold_seconds: float | None) -> None:
        """Another choice holds from now on; None leaves a part of it as it is.

        Raises:
            ProtocolError: not a choice, or not a time.
        """
        chosen = self.fallback
        if when_lost is not None:
            word = next((word for word in WHEN_LOST if word == when_lost), None)
            if word is None:
                expected = ", ".join(WHEN_LOST)
                raise ProtocolError(f"when_lost: expected {expected}, got {when_lost!r:.40}")
            chosen = replace(chosen, when_lost=word)
        if hold_seconds is not None:
            if not 0 <= hold_seconds <= LONGEST_HOLD:
                raise ProtocolError(
                    f"hold_seconds: expected 0 to {LONGEST_HOLD:g}, got {hold_seconds:g}"
                )
            chosen = replace(chosen, hold_seconds=hold_seconds)
        self.fallback, self.shows = chosen, ""

    def came(self) -> bool:
        """A result came: nothing stands in for it. Whether something did."""
        self.lost, self._result_ns = False, self._clock_ns()
        ended, self.shows = bool(self.shows), ""
        return ended

    def in_place(self, packet: Packet) -> Packet | None:
        """An input came: the packet to be shown in place of its result, if it is to be."""
        if not self.lost or self.fallback.when_lost != "pass" or not self._due:
            return None
        self.shows = "pass"
        return packet.but(stand_in=True)

    def slate(self) -> Packet | None:
        """The slate, when it is to be shown now and is not yet."""
        slate = self.fallback.slate
        if slate is None or self.shows or self.fallback.when_lost != "slate" or not self._due:
            return None
        self.shows = "slate"
        return slate
