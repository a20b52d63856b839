"""Whose pictures a stream shows, how often they come, and why none do.

Two producers at once would flicker between two pictures. So the one that came last is on air, and
when it leaves or falls silent the other has the stream again.
"""

from collections.abc import Callable

from dreamrelay.hub.peers import Peer
from dreamrelay.protocol.messages import SourceReported

ON_AIR_NS = 3_000_000_000
"""A producer that has been silent for so long leaves the stream to another."""
IDLE_NS = 2_000_000_000
"""Nothing has come in for so long: a worker may paint from the prompt alone."""
PATIENCE = 3
"""A producer that is on air but slow is waited for this many of its intervals."""
LONGEST_INTERVAL_NS = 10_000_000_000


class Air:
    """The producers of a stream.

    Attributes:
        on_air: the one whose pictures are shown.
        idle: nothing comes in and nothing is to be expected soon, as it was seen last.
    """

    def __init__(self, clock_ns: Callable[[], int]) -> None:
        self.on_air: Peer | None = None
        self.idle = True
        self._clock_ns = clock_ns
        self._heard: set[str] = set()
        self._away: dict[str, str] = {}
        """Producers whose source gives no pictures, and why; who spoke last comes last."""
        self._sent_ns = 0
        self._input_ns: int | None = None
        self._before_ns = 0
        """When the one before the last came."""

    def come_back(self, peer: Peer) -> None:
        """It was here before without being on air, and does not take it as a newcomer does."""
        self._heard.add(peer.id)

    def waits(self, peer: Peer) -> bool:
        """Whether it has sent pictures and is not on air."""
        return peer is not self.on_air and peer.id in self._heard

    def leave(self, peer: Peer) -> None:
        """A peer has gone."""
        self._heard.discard(peer.id)
        self._away.pop(peer.id, None)
        if self.on_air is peer:
            self.on_air = None

    def takes(self, peer: Peer) -> bool:
        """A producer sends a picture: whether that is shown."""
        now = self._clock_ns()
        if self.on_air is not peer:
            newcomer = peer.id not in self._heard
            silent = now - self._sent_ns > ON_AIR_NS
            if not newcomer and self.on_air is not None and not silent:
                return False
            self._heard.add(peer.id)
            self.on_air = peer
        self._sent_ns = now
        return True

    def came(self) -> bool:
        """A picture came in; whether that ends a silence."""
        now, before = self._sent_ns, self._input_ns
        self._input_ns, self._before_ns = now, now if before is None else before
        silence, self.idle = self.idle, False
        return silence

    def look(self) -> None:
        """Once a second: see whether anything comes in."""
        if self._input_ns is None:
            self.idle = True
            return
        interval = min(self._input_ns - self._before_ns, LONGEST_INTERVAL_NS)
        patience = IDLE_NS if self.on_air is None else max(IDLE_NS, PATIENCE * interval)
        self.idle = self._clock_ns() - self._input_ns > patience

    def report(self, peer: Peer, report: SourceReported, *, here: bool) -> None:
        """A producer says how its source is."""
        self._away.pop(peer.id, None)
        if report.state == "away" and here:
            self._away[peer.id] = report.text or "its source gives no pictures"

    def text(self) -> str:
        """Why nothing comes in, as a producer says it; nothing while another one sends."""
        on_air = self.on_air
        if on_air is not None and on_air.id in self._away:
            return self._away[on_air.id]
        sends = on_air is not None and self._clock_ns() - self._sent_ns <= ON_AIR_NS
        return "" if sends else next(reversed(self._away.values()), "")
