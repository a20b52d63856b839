"""Somebody at the other end of a connection, and what it is sent of a track."""

from abc import ABC, abstractmethod

from dreamrelay.packet import Packet, Track
from dreamrelay.protocol.messages import Notice, Role

MAX_CREDIT = 1024
"""Packets that one peer may be sent before it says anything again."""


class Peer(ABC):
    """Somebody at the other end of a connection, as the hub sees it."""

    id: str
    name: str = ""
    role: Role
    reply_limit: int | None = None
    """Bytes of a picture that this peer accepts as an answer."""
    heads: int = 1
    """How many of its role it stands for; another relay is one peer with all its viewers."""
    lent: bool = False
    """A worker of another stream, which helps out while this one has none of its own."""
    waits: bool = False
    """A producer that was here before, not on air: it does not take the air as a newcomer does."""

    @abstractmethod
    def notify(self, notice: Notice) -> None:
        """Have ``notice`` sent, in order and without loss. Returns at once."""

    @abstractmethod
    def wake(self) -> None:
        """Some subscription of this peer has a packet to send. Returns at once."""

    def deliver(self, packet: Packet, track: Track) -> bool:
        """Send a packet now, if nothing has to go before it; else it waits in its subscription.

        Most send when they come to it. It must call nothing that comes back to the subscription.
        """
        return False

    def look(self) -> None:  # noqa: B027 - most have nothing to look at
        """Once a second: is it still there?"""


class Subscription:
    """One peer's part of one track: the newest packet waits here until credit allows sending it.

    ``credit`` None means that the peer gives none back: then only its reading slows us down.
    The place is a plain attribute, not a mailbox, because all of this happens in one thread and
    once for each viewer of each picture.
    """

    def __init__(self, peer: Peer, track: Track, credit: int | None) -> None:
        self.peer = peer
        self.track: Track = track
        self.credit = credit
        self.heads = 1
        """How many look through it."""
        self.replaced = 0
        """How many packets were never sent because a newer one came."""
        self.stalled = False
        """Nobody looks: one waits and none was taken (a hidden tab asks for no pictures)."""
        self._waiting: Packet | None = None
        self._taken = self._taken_before = 0

    def offer(self, packet: Packet) -> None:
        """Send the packet, or leave it, over one that was not sent yet."""
        if self._waiting is not None:
            self.replaced += 1
            self._waiting = None
        credit = self.credit
        if credit == 0:
            self._waiting = packet
        elif self.peer.deliver(packet, self.track):
            self._taken += 1
            if credit is not None:
                self.credit = credit - 1
        else:
            self._waiting = packet
            self.peer.wake()

    def grant(self, count: int) -> None:
        """The peer took ``count`` packets and may be sent as many more."""
        if self.credit is not None:
            credit = self.credit + count
            self.credit = credit if credit < MAX_CREDIT else MAX_CREDIT
            if self._waiting is not None:
                self.retry()

    def retry(self) -> None:
        """Offer anew what waits."""
        packet = self._waiting
        if packet is not None:
            self._waiting = None
            self.offer(packet)

    def take(self) -> Packet | None:
        """The packet to send now, if there is one and credit for it."""
        packet = self._waiting
        if packet is None or self.credit == 0:
            return None
        self._waiting = None
        self._taken += 1
        if self.credit is not None:
            self.credit -= 1
        return packet

    def look(self) -> None:
        """Once a second: see whether anybody takes what is offered."""
        none_taken = self._taken == self._taken_before
        self.stalled = none_taken and self.credit == 0 and self._waiting is not None
        self._taken_before = self._taken
