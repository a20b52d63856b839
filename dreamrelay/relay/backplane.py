"""The backplane: carries letters between the relays of a cluster.

At most once, and in order between two relays while nothing is lost: what NATS core promises, so
whoever sends repeats what counts (:mod:`federation`). Nothing here waits and nothing is stored: a
letter that cannot leave now is refused, because a later one will say more.
"""

import asyncio
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass

from dreamrelay.protocol.messages import Limits
from dreamrelay.protocol.relays import MAX_HEAD

MAX_WAITING = 32 * 1024 * 1024
"""Bytes that may wait to leave a relay; credits keep it far below."""

REFERENCE_BYTES = 4 * 1024 * 1024
"""A picture to imitate may be so large."""


def largest_letter(limits: Limits) -> int:
    """Bytes of the largest letter that a relay with these limits sends."""
    return max(limits.message_bytes, REFERENCE_BYTES, MAX_HEAD) + 64 * 1024


@dataclass(slots=True)
class Traffic:
    """What went over a backplane since the start."""

    sent: int = 0
    received: int = 0
    refused: int = 0
    """Letters that could not leave: the way was closed, or full."""
    connects: int = 0


class Receiver(ABC):
    """Whoever the letters are for. Both methods return at once."""

    @abstractmethod
    def received(self, data: bytes | memoryview) -> None:
        """A letter has come; a view of it holds only until this returns."""

    @abstractmethod
    def connected(self, there: bool) -> None:
        """The way to the other relays is open, or closed."""


class Backplane(ABC):
    """One relay's place on the backplane. Everything happens in one event loop's thread."""

    def __init__(self, name: str) -> None:
        self.name = name
        """What this relay is called there; no two have the same."""
        self.connected = False
        self.traffic = Traffic()

    @abstractmethod
    def send(self, to: str, *parts: bytes) -> bool:
        """Have a letter sent to one relay, its parts in one piece; False: it could not leave."""

    @abstractmethod
    def broadcast(self, *parts: bytes) -> bool:
        """Have a letter sent to all other relays; False: it could not leave."""

    @abstractmethod
    async def start(self) -> None:
        """See whether what the settings name can be used.

        Raises:
            ConfigError: it never can; the text says what to change.
        """

    @abstractmethod
    async def flush(self) -> None:
        """Wait until what was sent has left, but not for long."""

    @abstractmethod
    async def run(self, receiver: Receiver) -> None:
        """Carry letters until cancelled; come back by itself after each loss."""


class MemoryBus:
    """A backplane of several relays in one process.

    Args:
        later: has a function called soon, as an event loop does; None: whoever owns the bus calls
            :meth:`deliver` when letters shall arrive.
    """

    def __init__(self, later: Callable[[Callable[[], None]], object] | None = None) -> None:
        self._later = later
        self._places: dict[str, MemoryBackplane] = {}
        self._letters: list[tuple[str, str, bytes]] = []

    def reaches(self, sender: str, to: str) -> bool:
        """Whether letters from the one arrive at the other; for tests to say no."""
        return sender != to

    def join(self, place: "MemoryBackplane") -> None:
        self._places[place.name] = place

    def leave(self, place: "MemoryBackplane") -> None:
        self._places.pop(place.name, None)

    def post(self, sender: str, to: str | None, data: bytes) -> None:
        """Take a letter; ``to`` None is everybody."""
        receivers = [to] if to is not None else list(self._places)
        for name in receivers:
            if self.reaches(sender, name):
                self._letters.append((sender, name, data))
        if self._later is not None:
            self._later(self.deliver)

    def deliver(self) -> None:
        """Hand over what was posted, and what is posted because of it."""
        while self._letters:
            sender, name, data = self._letters.pop(0)
            place = self._places.get(name)
            if place is not None and self.reaches(sender, name):
                place.arrive(data)


class MemoryBackplane(Backplane):
    """A place on a :class:`MemoryBus`."""

    def __init__(self, bus: MemoryBus, name: str) -> None:
        super().__init__(name)
        self._bus = bus
        self.receiver: Receiver | None = None

    def open(self, receiver: Receiver) -> None:
        """Be there from now on."""
        self.receiver = receiver
        self._bus.join(self)
        self.connected = True
        self.traffic.connects += 1
        receiver.connected(True)

    def close(self) -> None:
        """Be away."""
        self._bus.leave(self)
        self.connected = False
        if self.receiver is not None:
            self.receiver.connected(False)

    def arrive(self, data: bytes) -> None:
        if self.receiver is not None:
            self.receiver.received(data)

    def send(self, to: str, *parts: bytes) -> bool:
        return self._post(to, b"".join(parts))

    def broadcast(self, *parts: bytes) -> bool:
        return self._post(None, b"".join(parts))

    def _post(self, to: str | None, data: bytes) -> bool:
        if not self.connected:
            self.traffic.refused += 1
            return False
        self.traffic.sent += 1
        self._bus.post(self.name, to, data)
        return True

    async def start(self) -> None:
        """There is nothing that could be wrong."""

    async def flush(self) -> None:
        """It has left."""

    async def run(self, receiver: Receiver) -> None:
        self.open(receiver)
        try:
            await asyncio.Event().wait()
        finally:
            self.close()
