"""What relays say to each other over a backplane: letters, one binary message each.

A letter is a JSON head and, where it is about a picture, that packet as the native dialect writes
it. Most of them carry what peers and streams say anyway (events and notices, :mod:`messages`); the
rest are the words by which relays find each other. Relays of one cluster trust each other: a letter
that cannot be read is refused, but what a readable one says is not checked again.
"""

import dataclasses
import struct
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, get_args

import orjson

from dreamrelay.errors import (
    AuthError,
    DreamRelayError,
    EngineError,
    LimitError,
    ParameterError,
    ProtocolError,
)
from dreamrelay.packet import Packet, Track
from dreamrelay.protocol.messages import (
    Event,
    Notice,
    ReferenceChanged,
    StatusReceived,
    WorkerHello,
)
from dreamrelay.protocol.native import decode_packet, error_fields, packet_parts

VERSION = 1
_HEAD = struct.Struct("<3sBI")
_MAGIC = b"DRB"
MAX_HEAD = 2 * 1024 * 1024
"""Bytes of a head; a worker's schema and all parameters fit in."""

_SAID: Mapping[str, type[Any]] = {
    kind.__name__: kind for kind in (*get_args(Event), *get_args(Notice))
}
_FIELDS: Mapping[type[Any], tuple[str, ...]] = {
    kind: tuple(item.name for item in dataclasses.fields(kind)) for kind in _SAID.values()
}
_ERRORS: Mapping[str, type[DreamRelayError]] = {
    error.code: error for error in (AuthError, EngineError, LimitError, ProtocolError)
}


@dataclass(frozen=True, slots=True)
class Letter:
    """One message between two relays, or from one to all.

    Attributes:
        sender: the relay that wrote it.
        kind: what it is about: the name of an event or notice, or a word of :mod:`federation`.
        stream: the stream it is about, empty if none.
        session: which time of a mirror at its home this belongs to; older ones count no more.
        number: of the letters of that session in this direction; none may be missing.
        peer: at the mirror; empty: all of the stream there.
        body: the rest.
        packet, track: the picture, if there is one.
    """

    sender: str
    kind: str
    stream: str = ""
    session: int = 0
    number: int = 0
    peer: str = ""
    body: Mapping[str, Any] = field(default_factory=dict)
    packet: Packet | None = None
    track: Track = "input"


def write(letter: Letter) -> bytes:
    """Return a letter as bytes."""
    return b"".join(letter_parts(letter))


def letter_parts(letter: Letter) -> tuple[bytes, ...]:
    """What :func:`write` returns, in pieces; the last is the picture itself, if there is one."""
    named = (letter.sender, letter.kind, letter.stream, letter.session, letter.number, letter.peer)
    head = orjson.dumps([*named, letter.body], option=orjson.OPT_NON_STR_KEYS)
    opening = _HEAD.pack(_MAGIC, VERSION, len(head))
    if letter.packet is None:
        return opening, head
    return opening, head, *packet_parts(letter.packet, letter.track)


def read(data: bytes | memoryview) -> Letter:
    """Read a letter; nothing of ``data`` is kept.

    Raises:
        ProtocolError: none, or one of another version.
    """
    if len(data) < _HEAD.size:
        raise ProtocolError(f"expected a relay's letter, got {len(data)} bytes")
    magic, version, length = _HEAD.unpack_from(data)
    if magic != _MAGIC:
        raise ProtocolError("expected a relay's letter, got something else")
    if version != VERSION:
        raise ProtocolError(
            f"expected letters of version {VERSION}, got {version}: run the same dreamrelay on all"
        )
    end = _HEAD.size + length
    if length > MAX_HEAD or end > len(data):
        raise ProtocolError("the letter is cut off")
    try:
        sender, kind, stream, session, number, peer, body = orjson.loads(data[_HEAD.size : end])
    except ValueError:  # JSON that cannot be read is one, too
        raise ProtocolError("the letter's head is not one") from None
    if not (
        isinstance(sender, str)
        and isinstance(kind, str)
        and isinstance(stream, str)
        and isinstance(session, int)
        and isinstance(number, int)
        and isinstance(peer, str)
        and isinstance(body, dict)
    ):
        raise ProtocolError("the letter's head contradicts itself")
    packet: Packet | None = None
    track: Track = "input"
    if end < len(data):
        packet, track = decode_packet(memoryview(data)[end:])
    return Letter(sender, kind, stream, session, number, peer, body, packet, track)


def body_of(said: Event | Notice) -> tuple[str, dict[str, Any], Packet | None]:
    """What a peer or a stream said, as kind, body and picture of a letter."""
    body: dict[str, Any] = {}
    picture: Packet | None = None
    for name in _FIELDS[type(said)]:
        value = getattr(said, name)
        if isinstance(value, Packet):
            picture = value
        elif isinstance(value, DreamRelayError):
            body[name] = error_fields(value)
        elif name != "packet":
            body[name] = value
    return type(said).__name__, body, picture


def said_in(letter: Letter) -> Any:
    """The event or notice in a letter.

    Raises:
        ProtocolError: there is none that we know.
    """
    kind = _SAID.get(letter.kind)
    if kind is None:
        raise ProtocolError(f"expected what a peer or stream says, got {letter.kind!r:.40}")
    names = _FIELDS[kind]
    fields = {name: value for name, value in letter.body.items() if name in names}
    if "packet" in names:
        fields["packet"] = letter.packet
        if letter.packet is None and kind is not ReferenceChanged:
            raise ProtocolError(f"{letter.kind}: expected a picture")
    if "error" in fields:
        fields["error"] = error_of(fields["error"])
    if "changed" in fields:
        fields["changed"] = tuple(fields["changed"])
    try:
        return kind(**fields)
    except TypeError:
        raise ProtocolError(f"{letter.kind}: something is missing") from None


def error_of(fields: Any) -> DreamRelayError:
    """The error that another relay raised, with the same text.

    Raises:
        ProtocolError: that is none.
    """
    if not isinstance(fields, dict):
        raise ProtocolError("expected an error")
    problems = fields.get("problems")
    if isinstance(problems, dict):
        return ParameterError({str(name): str(text) for name, text in problems.items()})
    return _ERRORS.get(str(fields.get("code")), EngineError)(str(fields.get("message")))


def hello_of(fields: Any) -> WorkerHello | None:
    """What a worker said of itself, from a letter's body."""
    return None if fields is None else _filled(WorkerHello, fields)


def status_of(fields: Any) -> StatusReceived | None:
    """How a worker said that it is, from a letter's body."""
    return None if fields is None else _filled(StatusReceived, fields)


def _filled(kind: type[Any], fields: Any) -> Any:
    names = {item.name for item in dataclasses.fields(kind)}
    try:
        return kind(**{name: value for name, value in fields.items() if name in names})
    except (TypeError, AttributeError):
        raise ProtocolError(f"expected the fields of a {kind.__name__}") from None
