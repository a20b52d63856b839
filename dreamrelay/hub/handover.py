"""A worker takes over a stream from those before it, between two pictures.

It has loaded and warmed up beside them. From its hello on it alone is given inputs; those before
finish what they have. With its first result they are told to leave. Should it fail before that, the
others go on as if nothing had been.
"""

from collections.abc import Iterable

from dreamrelay.hub.parameters import Published
from dreamrelay.hub.peers import Peer
from dreamrelay.protocol.messages import Retired

PATIENCE_NS = 5_000_000_000
"""Without a first result for so long, the others are given inputs again until it comes."""


class Handover:
    """Who takes over, and from whom.

    Attributes:
        resting: ids of those who are given nothing more.
    """

    def __init__(self) -> None:
        self.resting: frozenset[str] = frozenset()
        self._heir: Peer | None = None
        self._title = ""
        self._before: Published | None = None
        self._begun_ns = 0
        self._old: dict[str, Peer] = {}

    def begin(
        self, heir: Peer, title: str, others: Iterable[Peer], before: Published, now_ns: int
    ) -> None:
        """``heir`` is ready to take over from ``others``; ``title`` says to people what it is."""
        self._old.update((peer.id, peer) for peer in others if peer is not heir)
        self._old.pop(heir.id, None)
        if not self._old:
            return
        self._before = self._before or before
        self._heir, self._title, self._begun_ns = heir, title, now_ns
        self.resting = frozenset(self._old)

    def came(self, peer: Peer) -> None:
        """A result of ``peer`` came."""
        if self._heir is peer:
            self._retire()

    def look(self, now_ns: int, *, idle: bool) -> bool:
        """Once a second. Whether those before are to be given inputs again."""
        if self._heir is None:
            return False
        if idle:  # nobody sees it, so there is no better moment
            self._retire()
        elif self.resting & self._old.keys() and now_ns - self._begun_ns > PATIENCE_NS:
            self.resting -= self._old.keys()
            return True
        return False

    def left(self, peer: Peer) -> Published | None:
        """``peer`` is gone or broken; what held before, if that holds again."""
        self.resting -= {peer.id}
        self._old.pop(peer.id, None)
        if self._heir is not peer:
            return None
        before = self._before if self._old else None
        self.resting -= self._old.keys()
        self._forget()
        return before

    def _retire(self) -> None:
        for peer in self._old.values():
            peer.notify(Retired(self._title))
        self.resting |= self._old.keys()  # also one that does not understand
        self._forget()

    def _forget(self) -> None:
        self._heir = self._before = None
        self._old = {}
