"""A stream that has its home at another relay: what is sent there, and what comes from there.

Of all relays that have a stream of one name one is its *home*: it numbers the inputs, gives them to
workers, puts results in order and keeps the parameters. At the others the stream is a *mirror*: it
shows what its home shows. The doors of a relay do not know which of the two they speak to.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from dreamrelay.hub.peers import Peer
from dreamrelay.hub.timing import KnownClock
from dreamrelay.packet import Packet
from dreamrelay.protocol.messages import Event, ReferenceChanged, StatusReceived, WorkerHello


class Upstream(ABC):
    """A mirror's way to its home. Nothing here waits, and nothing is said that could not be lost:
    what counts is repeated.
    """

    @abstractmethod
    def seat(self, seat: "Seated") -> None:
        """A worker or producer has joined, or joined again."""

    @abstractmethod
    def leave(self, peer: Peer) -> None:
        """A peer has gone."""

    @abstractmethod
    def look(self) -> None:
        """Who watches which track here may have changed."""

    @abstractmethod
    def say(self, peer: Peer | None, event: Event | ReferenceChanged) -> None:
        """A peer at the mirror said this; None: somebody who needs no answer."""

    @abstractmethod
    def seats(self) -> list["Seated"]:
        """The workers and producers of the mirror, to be seated by another home."""

    @abstractmethod
    def waiting(self) -> list[tuple[Peer | None, Event | ReferenceChanged]]:
        """What was said and not answered yet, in order."""


@dataclass(slots=True)
class Seated:
    """A worker or producer, with what it has said: to be seated by another relay.

    Attributes:
        credit: inputs that it may still be given.
        hello: None for one that says nothing of itself (a producer, a seed's consumer).
        waits: a producer that was not on air: it does not take the air as a newcomer does.
    """

    peer: Peer
    credit: int = 0
    hello: WorkerHello | None = None
    status: StatusReceived | None = None
    waits: bool = False


@dataclass(frozen=True, slots=True)
class Asked:
    """Which value people asked for last, and when (UNIX time, ns)."""

    value: Any
    ns: int


@dataclass(frozen=True, slots=True)
class Wishes:
    """A stream's parameters, whole, so that any relay can go on with them."""

    values: Mapping[str, Any]
    revision: int
    asked: Mapping[str, Asked]
    changed: tuple[str, ...] = ()
    origin: str = ""


@dataclass(frozen=True, slots=True)
class Standing:
    """How a stream is, beside its parameters.

    Attributes:
        status: the fields of a status message.
        seq: the highest number of an input so far.
        worker: what the best of its workers says of itself, without its schema.
        staffed: a worker that is not lent is there.
        refers: its workers imitate pictures; None: nobody has said.
        clocks: how it knows those of workers and producers, wherever they are.
    """

    status: Mapping[str, Any] = field(default_factory=dict)
    seq: int = 0
    worker: WorkerHello | None = None
    staffed: bool = False
    refers: bool | None = None
    clocks: Sequence[KnownClock] = ()


@dataclass(frozen=True, slots=True)
class Memory:
    """What a stream brings along when it goes to another home."""

    wishes: Wishes
    seq: int
    reference: Packet | None = None
    reference_ns: int = 0
