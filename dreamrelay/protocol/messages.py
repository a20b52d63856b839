"""The words between a dialect and the hub: events come in, notices go out.

Dialects translate; the hub never sees a wire format, and a dialect never sees a stream.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final, Literal

import pybase64

from dreamrelay.errors import DreamRelayError
from dreamrelay.packet import Packet, Track

Role = Literal["producer", "worker", "viewer"]
ROLES: tuple[Role, ...] = ("producer", "worker", "viewer")

WorkerState = Literal["loading", "warming", "live", "paused", "error"]
WORKER_STATES: tuple[WorkerState, ...] = ("loading", "warming", "live", "paused", "error")
ProducerState = Literal["live", "away"]
PRODUCER_STATES: tuple[ProducerState, ...] = ("live", "away")
StreamState = Literal["no-worker", "loading", "warming", "live", "paused", "error", "lost"]


@dataclass(frozen=True, slots=True)
class Limits:
    """What one message may hold.

    Attributes:
        message_bytes: of a whole message.
        pixels: of one picture, width x height.
        text: characters of a prompt or another text.
        streams: that there may be at once.
        streams_each: that one address may have made of them; 0 is no limit.
    """

    message_bytes: int = 32 * 1024 * 1024
    pixels: int = 64_000_000
    text: int = 2000
    streams: int = 64
    streams_each: int = 16


# -- events: what a peer said ---------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class WorkerHello:
    """What a worker can do, as it says itself.

    ``licence``: ``name``, ``terms`` and ``link`` (https) of the model's; empty if it says nothing.
    ``reference``: imitate a picture. ``stateful``: its pictures depend on those before, so that all
    inputs of a stream must go to one worker. ``replace``: it takes over from those before it.
    """

    engine: str = ""
    model: str = ""
    device: str = ""
    width: int = 0
    height: int = 0
    schema: Mapping[str, Any] | None = None
    parameters: Mapping[str, Any] = field(default_factory=dict)
    reference: bool = False
    stateful: bool = False
    replace: bool = False
    licence: Mapping[str, str] = field(default_factory=dict)

    def about(self) -> dict[str, Any]:
        """What people are told of it."""
        named = ("engine", "model", "licence", "device", "width", "height")
        return {name: getattr(self, name) for name in named}

    def after(self, status: "StatusReceived") -> "WorkerHello":
        """What holds once it has said that it is another one now (another model, say)."""
        return replace(self, **status.about) if status.about else self


@dataclass(frozen=True, slots=True)
class Joined:
    """The peer takes a role (a native hello, a seed's ``register``).

    ``credit`` is None for peers that never give any back: only their own reading slows us down.
    """

    role: Role
    name: str = ""
    credit: int | None = None
    worker: WorkerHello | None = None
    tracks: tuple[Track, ...] = ()


@dataclass(slots=True)
class PacketReceived:
    """A picture, on its way through: as quick to make as can be, so not ``frozen``."""

    packet: Final[Packet]
    track: Final[Track]


@dataclass(frozen=True, slots=True)
class CreditGiven:
    count: int
    track: Track | None = None


@dataclass(frozen=True, slots=True)
class PatchReceived:
    """A change of parameters. ``origin`` is the door it came through, if the peer says one."""

    patch: Mapping[str, Any]
    id: Any = None
    origin: str = ""


@dataclass(frozen=True, slots=True)
class RequestReceived:
    """A picture to be made alone under ``patch`` and sent back to this peer only."""

    packet: Packet
    patch: Mapping[str, Any]
    ticket: int


@dataclass(frozen=True, slots=True)
class StatusReceived:
    """How a worker is.

    ``counters`` are its engine's running totals, for the metrics page; ``stateful`` is that of its
    hello, None if it has not changed. ``about`` is :meth:`WorkerHello.about` as it is now, empty if
    it has not changed.
    """

    state: WorkerState
    text: str = ""
    fraction: float | None = None
    fps: float = 0.0
    counters: Mapping[str, float] = field(default_factory=dict)
    stateful: bool | None = None
    about: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class SourceReported:
    """How a producer's source is; ``text`` says why it is ``away``."""

    state: ProducerState
    text: str = ""


@dataclass(frozen=True, slots=True)
class FailureReceived:
    """The worker could not answer the request with this number."""

    seq: int
    message: str


@dataclass(frozen=True, slots=True)
class ClockReported:
    """What a peer adds to its own clock to have the relay's, and how far that may be off, ns."""

    offset_ns: int
    error_ns: int


@dataclass(frozen=True, slots=True)
class Seen:
    """A picture that somebody saw, in ms: from the relay to there (None: it did not come that way),
    from there to the eye, and its whole age.
    """

    delivered: float | None
    painted: float
    age: float


@dataclass(frozen=True, slots=True)
class PicturesShown:
    """Pictures of the output that a peer has shown since it last said so, and where."""

    where: str
    pictures: tuple[Seen, ...]


@dataclass(frozen=True, slots=True)
class Promised:
    """The peer says something at least so often, in seconds; if it does not, it is gone."""

    every: float


@dataclass(frozen=True, slots=True)
class ReplyDue:
    """The dialect answers by itself, ``after`` so many seconds; nobody else needs to know."""

    message: str | bytes
    after: float = 0.0


@dataclass(frozen=True, slots=True)
class Left:
    """The peer ends its part in the stream; the connection stays."""


@dataclass(frozen=True, slots=True)
class Fault:
    """What came cannot be understood. ``close`` where going on would make no sense."""

    error: DreamRelayError
    close: bool = False


Event = (
    Joined
    | PacketReceived
    | CreditGiven
    | PatchReceived
    | RequestReceived
    | StatusReceived
    | SourceReported
    | FailureReceived
    | ClockReported
    | PicturesShown
    | Promised
    | ReplyDue
    | Left
    | Fault
)


# -- notices: what a peer should hear -------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Welcome:
    stream: str
    role: Role
    peer: str
    credit: int | None
    limits: Limits


@dataclass(frozen=True, slots=True)
class SchemaChanged:
    schema: Mapping[str, Any] | None


@dataclass(frozen=True, slots=True)
class ParametersChanged:
    values: Mapping[str, Any]
    revision: int
    changed: tuple[str, ...] = ()
    origin: str = ""
    id: Any = None


@dataclass(frozen=True, slots=True)
class StatusChanged:
    status: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class AudienceChanged:
    """To a worker: how many look at the output, whether it is the one to paint from the prompt
    alone, because no input comes, and how many look at what steers it (``control``).
    """

    watching: int
    idle: bool
    control: int = 0


@dataclass(frozen=True, slots=True)
class LatencyMeasured:
    """To workers, once a second: the stream's figures (``docs/latency.md``)."""

    figures: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class ReferenceChanged:
    """To a worker: the picture to imitate, or None when there is none any more."""

    packet: Packet | None


@dataclass(frozen=True, slots=True)
class Retired:
    """To a worker: another one has taken over, ``by`` says which; this one is to leave."""

    by: str


@dataclass(frozen=True, slots=True)
class Delivery:
    packet: Packet
    track: Track


@dataclass(slots=True)
class Acknowledged:
    """One packet of this producer was taken, or refused with a reason; its credit is back either
    way. Made for each picture, so not ``frozen``.

    ``on_air`` is False while another producer has the stream: the packet was not shown.
    """

    seq: Final[int]
    refusal: Final[str | None] = None
    on_air: Final[bool] = True


@dataclass(frozen=True, slots=True)
class RequestOffered:
    """To a worker: ``packet`` is to be made alone under ``patch``."""

    packet: Packet
    patch: Mapping[str, Any]
    max_bytes: int | None = None


@dataclass(frozen=True, slots=True)
class Answered:
    """To whoever asked: the picture made for the request with this ticket, and the prompt it was
    made under.
    """

    ticket: int
    packet: Packet
    prompt: str


@dataclass(frozen=True, slots=True)
class Unanswered:
    """To whoever asked: why there is no picture for the request with this ticket."""

    ticket: int
    error: DreamRelayError


@dataclass(frozen=True, slots=True)
class Refused:
    """A patch or a message was refused. ``id`` is that of the patch, if it had one."""

    error: DreamRelayError
    id: Any = None


Notice = (
    Welcome
    | SchemaChanged
    | ParametersChanged
    | StatusChanged
    | AudienceChanged
    | LatencyMeasured
    | ReferenceChanged
    | Retired
    | Delivery
    | Acknowledged
    | RequestOffered
    | Answered
    | Unanswered
    | Refused
)


@dataclass(frozen=True, slots=True)
class Form:
    """How pictures are written where everybody is sent the same message.

    Attributes:
        name: under which a packet keeps it.
        text: a text message, in UTF-8; else a binary one.
        parts: the message in pieces, so that whoever puts something before it copies it once.
    """

    name: str
    text: bool
    parts: Callable[[Packet], Sequence[bytes]]
    framed: str = ""
    """The name under which a packet keeps it with what a transport puts before it."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "framed", f"framed {self.name}")

    def message(self, packet: Packet) -> str | bytes:
        """The message: made once, then shared."""
        if self.text:
            return packet.wire(self.name, lambda p: b"".join(self.parts(p)).decode())
        return packet.wire(self.name, lambda p: b"".join(self.parts(p)))


class Dialect(ABC):
    """One connection's translator. Sans-I/O: feed it what came, send what it returns.

    No method raises for anything that a peer can cause, but for bytes that should be text.
    """

    greeting_grace: float = 0.0
    """Seconds to wait for a peer that speaks first before :class:`Welcome` is rendered and sent."""

    joins_at_once: bool = True
    """Whether the path says all: the peer is at its stream before it has said a word."""

    reply_limit: int | None = None
    """Bytes that one message to this peer may have at most."""

    @abstractmethod
    def receive(self, message: str | bytes) -> list[Event]:
        """Translate one WebSocket message."""

    def receive_text(self, message: bytes) -> list[Event]:
        """Translate a text message as it came, not yet decoded.

        Raises:
            UnicodeDecodeError: it is no UTF-8; it has done nothing.
        """
        return self.receive(message.decode())

    @abstractmethod
    def render(self, notice: Notice) -> list[str | bytes]:
        """Translate one notice into the messages to send, in order; empty where the dialect has no
        word.
        """

    def form(self, packet: Packet, track: Track) -> Form | None:
        """Instead of rendering a :class:`Delivery`: the form that this peer is sent it in now.

        None where the answer is not one message, or is for this peer only: then render it.
        """
        return None


def from_base64(text: str) -> bytes:
    """Read base64 in one line, or in many as phones and mail programs write it.

    Raises:
        ValueError: it is something else.
    """
    try:
        data: bytes = pybase64.b64decode(text, validate=True)
    except ValueError:
        line = text.replace("\n", "").replace("\r", "").replace(" ", "")
        if len(line) == len(text):
            raise
        data = pybase64.b64decode(line, validate=True)
    return data
