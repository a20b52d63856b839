"""The native dialect: one binary message is a packet, one text message is a JSON object.

Described byte by byte in ``docs/protocol.md``; golden copies lie in ``tests/protocol/golden/``. The
codec functions serve both ends; :class:`NativeDialect` is the relay's end, ``dreamrelay.link`` the
other.
"""

import json
import re
import struct
import time
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, TypeVar

import orjson
import pybase64

from dreamrelay import __version__
from dreamrelay.errors import DreamRelayError, ParameterError, ProtocolError
from dreamrelay.packet import (
    TRACKS,
    Hop,
    Inspector,
    Packet,
    Picture,
    Stamp,
    Track,
    inspect,
)
from dreamrelay.protocol.messages import (
    PRODUCER_STATES,
    WORKER_STATES,
    Acknowledged,
    AudienceChanged,
    ClockReported,
    CreditGiven,
    Delivery,
    Dialect,
    Event,
    FailureReceived,
    Fault,
    Form,
    Joined,
    LatencyMeasured,
    Limits,
    Notice,
    PacketReceived,
    ParametersChanged,
    PatchReceived,
    PicturesShown,
    Promised,
    ReferenceChanged,
    Refused,
    ReplyDue,
    RequestOffered,
    Retired,
    Role,
    SchemaChanged,
    Seen,
    SourceReported,
    StatusChanged,
    StatusReceived,
    Welcome,
    WorkerHello,
)
from dreamrelay.protocol.texts import read_json

W = TypeVar("W", bound=str)

VERSION = 1
MAX_STAMPS = 16
MAX_CREDIT = 1024
MAX_TEXT = 256 * 1024
"""Characters of a text message to the relay; the largest is a worker's hello with its schema."""
MAX_ID = 200
MAX_STATUS_TEXT = 500
MAX_COUNTERS = 32
SHORTEST_PROMISE = 1.0
"""Seconds; who promises to say something more often is not held to it."""
MAX_SHOWN = 64
"""Pictures of which one ``shown`` tells: those of a second, or so."""

_LONGEST_MS = 1e7

_HEADER = struct.Struct("<2sBBHBBQQIHHB3x")
_HEADER_BYTES = _HEADER.size
_STAMP = struct.Struct("<B3xQ")
_MAGIC = b"DR"
_COUNTER = re.compile(r"[a-z][a-z0-9_]{0,63}")
_HOPS = {int(hop): hop for hop in Hop}
_PRIVATE, _PREVIEW, _STAND_IN = 1, 2, 4
_FLAGS = [(bool(f & _PRIVATE), bool(f & _PREVIEW), bool(f & _STAND_IN)) for f in range(8)]
"""What the flags of a packet say, by their sum."""


def encode_packet(packet: Packet, track: Track) -> bytes:
    """Write a packet as one binary message."""
    return b"".join(packet_parts(packet, track))


def packet_parts(packet: Packet, track: Track) -> tuple[bytes, ...]:
    """What :func:`encode_packet` writes, in pieces; the last is the picture itself."""
    stamps = packet.stamps[-MAX_STAMPS:]
    header = _HEADER.pack(
        _MAGIC,
        VERSION,
        packet.codec,
        _HEADER_BYTES + _STAMP.size * len(stamps),
        TRACKS.index(track),
        (_PRIVATE if packet.private else 0)
        | (_PREVIEW if packet.preview else 0)
        | (_STAND_IN if packet.stand_in else 0),
        packet.seq,
        packet.captured_ns,
        packet.revision,
        min(packet.width, 0xFFFF),
        min(packet.height, 0xFFFF),
        len(stamps),
    )
    return (header, *[_STAMP.pack(stamp.hop, stamp.ns) for stamp in stamps], packet.data)


def decode_packet(
    message: bytes | memoryview, look: Callable[[bytes], Picture] = inspect
) -> tuple[Packet, Track]:
    """Read a binary message; nothing of it is kept but a copy.

    Coding and size are those that the picture's own first bytes tell, not those of the header.

    Args:
        look: an :class:`Inspector`, where one packet comes after another.

    Raises:
        ProtocolError: no packet, a version we do not know, or no picture in it.
    """
    if len(message) < _HEADER_BYTES or message[:2] != _MAGIC:
        raise ProtocolError(
            "expected a packet (a header that begins with DR, then a picture),"
            f" got {len(message)} bytes that begin with {message[:2].hex(' ') or 'nothing'}"
        )
    (_, version, _, begin, track, flags, seq, captured, revision, _, _, count) = (
        _HEADER.unpack_from(message)
    )
    if version != VERSION:
        raise ProtocolError(
            f"expected protocol version {VERSION}, got {version}: update the older side"
        )
    if track >= len(TRACKS) or count > MAX_STAMPS or begin < _HEADER_BYTES + _STAMP.size * count:
        raise ProtocolError("the packet's header contradicts itself")
    data = bytes(message[begin:])  # of bytes no second copy
    codec, width, height = look(data)
    stamps: tuple[Stamp, ...] = ()
    if count:
        told = _STAMP.iter_unpack(message[_HEADER_BYTES : _HEADER_BYTES + _STAMP.size * count])
        # A later version may know more hops.
        stamps = tuple([Stamp(_HOPS[hop], ns) for hop, ns in told if hop in _HOPS])
    flagged = _FLAGS[flags & 7]
    packet = Packet(data, codec, width, height, seq, captured, revision, stamps, *flagged)
    return packet, TRACKS[track]


def _seq_of(message: bytes) -> int:
    """The number in what may be a packet's header; 0 if it is none."""
    if len(message) < _HEADER_BYTES or not message.startswith(_MAGIC):
        return 0
    return int(_HEADER.unpack_from(message)[6])


def encode_text(kind: str, **fields: Any) -> str:
    """Write a JSON text message."""
    return orjson.dumps({"type": kind, **fields}, option=orjson.OPT_NON_STR_KEYS).decode()


def decode_text(message: str) -> tuple[str, dict[str, Any]]:
    """Read a JSON text message into its ``type`` and the whole object.

    Raises:
        ProtocolError: not a JSON object with a ``type``.
    """
    try:
        fields = read_json(message)
    except orjson.JSONDecodeError as error:
        raise ProtocolError(f"expected a JSON object, got something else: {error}") from None
    if not isinstance(fields, dict) or not isinstance(fields.get("type"), str):
        raise ProtocolError('expected a JSON object with a "type"')
    try:
        orjson.dumps([[[[fields]]]])  # what is passed on must be writable, a few levels deeper
    except orjson.JSONEncodeError:
        raise ProtocolError("expected a JSON object that is nested less deep") from None
    return fields["type"], fields


def error_fields(error: DreamRelayError) -> dict[str, Any]:
    """An error as data: the same fields in an ``error`` message and in a REST reply."""
    fields: dict[str, Any] = {"code": error.code, "message": str(error)}
    if isinstance(error, ParameterError):
        fields["problems"] = error.problems
    return fields


def _ack(said: Acknowledged) -> str:
    fields: dict[str, Any] = {"type": "ack", "seq": said.seq, "accepted": said.refusal is None}
    if said.refusal is None:
        fields["on_air"] = said.on_air
    else:
        fields["message"] = said.refusal
    return orjson.dumps(fields).decode()


class NativeDialect(Dialect):
    """The relay's end of a native connection in one role."""

    def __init__(
        self, role: Role, limits: Limits, *, clock_ns: Callable[[], int] = time.time_ns
    ) -> None:
        self._role = role
        self._limits = limits
        self._clock_ns = clock_ns
        self._greeted = role != "worker"
        self._look = Inspector()

    def receive(self, message: str | bytes) -> list[Event]:
        try:
            if isinstance(message, bytes):
                return self._packet(message)
            if self._greeted and (credit := _CREDITS.get(message)) is not None:
                return credit
            if len(message) > MAX_TEXT:
                raise ProtocolError(
                    f"expected a text message of at most {MAX_TEXT} characters, got {len(message)}"
                )
            kind, fields = decode_text(message)
            # Who said its token where none was needed may go on.
            if not self._greeted and kind not in ("hello", "auth"):
                return [
                    Fault(
                        ProtocolError(f"expected a worker's hello first, got {kind!r}"), close=True
                    )
                ]
            handler = _HANDLERS.get(kind)
            return handler(self, fields) if handler else []
        except ProtocolError as error:
            # Text that is no JSON, or bytes that are no packet, cost the peer its message only.
            if isinstance(message, bytes) and self._role == "producer":
                # Its credit was spent on this packet: without an ack it would wait for ever.
                refusal = encode_text(
                    "ack", seq=_seq_of(message), accepted=False, message=str(error)
                )
                return [ReplyDue(refusal)]
            return [Fault(error)]

    def receive_text(self, message: bytes) -> list[Event]:
        if self._greeted and (credit := _CREDITS.get(message)) is not None:
            return credit
        return self.receive(message.decode())

    def _packet(self, message: bytes) -> list[Event]:
        if self._role == "viewer":
            return [Fault(ProtocolError("a viewer may not send pictures: connect as producer"))]
        if not self._greeted:
            return [
                Fault(ProtocolError("expected a worker's hello first, got a picture"), close=True)
            ]
        packet, track = decode_packet(message, self._look)
        if packet.width * packet.height > self._limits.pixels:
            raise ProtocolError(
                f"expected at most {self._limits.pixels} pixels, got {packet.width}x{packet.height}"
            )
        if self._role == "producer":
            track = "input"
        elif track == "input":
            track = "output"
        return [PacketReceived(packet, track)]

    def _hello(self, fields: dict[str, Any]) -> list[Event]:
        version = _number(fields, "version", 1, 1 << 16)
        if version != VERSION:
            return [
                Fault(
                    ProtocolError(f"expected protocol version {VERSION}, got {version}"), close=True
                )
            ]
        worker = None
        if self._role == "worker":
            schema = fields.get("schema")
            if schema is not None and not isinstance(schema, dict):
                raise ProtocolError("hello: expected a JSON Schema object as schema")
            parameters = fields.get("parameters", {})
            if not isinstance(parameters, dict):
                raise ProtocolError("hello: expected an object as parameters")
            worker = WorkerHello(
                schema=schema,
                parameters=parameters,
                reference=fields.get("reference") is True,
                stateful=fields.get("stateful") is True,
                replace=fields.get("replace") is True,
                **_about(fields),
            )
        credit = _number(fields, "credit", 0, MAX_CREDIT, default=1)
        joined = Joined(self._role, _text(fields, "name", 200), credit, worker)
        self._greeted = True
        return [joined]

    def _credit(self, fields: dict[str, Any]) -> list[Event]:
        track = fields.get("track")
        if track is not None and track not in TRACKS:
            raise ProtocolError(f"credit: expected one of {', '.join(TRACKS)}, got {track!r:.40}")
        return [CreditGiven(_number(fields, "count", 1, MAX_CREDIT, default=1), track)]

    def _parameters(self, fields: dict[str, Any]) -> list[Event]:
        id_ = _id(fields)
        try:
            patch = fields.get("patch")
            if not isinstance(patch, dict):
                raise ProtocolError("parameters: expected an object as patch")
            return [PatchReceived(patch, id_, _text(fields, "origin", 32))]
        except ProtocolError as error:
            return [ReplyDue(encode_text("error", **error_fields(error), id=id_))]

    def _status(self, fields: dict[str, Any]) -> list[Event]:
        if self._role == "producer":
            away = _one_of(fields, "state", PRODUCER_STATES)
            return [SourceReported(away, _text(fields, "text", MAX_STATUS_TEXT))]
        if self._role != "worker":
            raise ProtocolError("status: only workers and producers say how they are")
        state = _one_of(fields, "state", WORKER_STATES)
        fraction = fields.get("fraction")
        if fraction is not None:
            fraction = min(1.0, max(0.0, _real(fields, "fraction")))
        text, fps = _text(fields, "text", MAX_STATUS_TEXT), _real(fields, "fps")
        stateful = fields.get("stateful")
        if not isinstance(stateful, bool):
            stateful = None
        about = fields.get("about", {})
        if not isinstance(about, dict):
            raise ProtocolError("status: expected an object as about")
        about = about and _about({"type": "status: about", **about})
        return [StatusReceived(state, text, fraction, fps, _counters(fields), stateful, about)]

    def _failed(self, fields: dict[str, Any]) -> list[Event]:
        if self._role != "worker":
            raise ProtocolError("failed: only a worker says this")
        return [FailureReceived(_number(fields, "seq", 0, 1 << 64), _text(fields, "message", 500))]

    def _ping(self, fields: dict[str, Any]) -> list[Event]:
        pong = ReplyDue(encode_text("pong", id=_id(fields), received_ns=self._clock_ns()))
        every = _real(fields, "every")
        return [pong, Promised(every)] if every >= SHORTEST_PROMISE else [pong]

    def _clock(self, fields: dict[str, Any]) -> list[Event]:
        fields = {"offset_ns": None, "error_ns": None, **fields}  # neither may be left out
        offset = _number(fields, "offset_ns", -(1 << 63), 1 << 63)
        return [ClockReported(offset, _number(fields, "error_ns", 0, 1 << 63))]

    def _shown(self, fields: dict[str, Any]) -> list[Event]:
        pictures = fields.get("pictures")
        if not isinstance(pictures, list) or len(pictures) > MAX_SHOWN:
            raise ProtocolError(f"shown: expected a list of at most {MAX_SHOWN} pictures")
        return [PicturesShown(_text(fields, "where", 32), tuple(map(_seen, pictures)))]

    def render(self, notice: Notice) -> list[str | bytes]:
        match notice:
            case Delivery(packet, track):
                return [_FORMS[track].message(packet)]
            case Acknowledged():
                return [_ack(notice)]
            case RequestOffered(packet, patch, max_bytes):
                announced = encode_text(
                    "request", seq=packet.seq, patch=dict(patch), max_bytes=max_bytes
                )
                return [announced, encode_packet(packet, "input")]
            case Welcome(stream, role, peer, credit, limits):
                return [
                    encode_text(
                        "welcome",
                        version=VERSION,
                        server=f"dreamrelay/{__version__}",
                        stream=stream,
                        role=role,
                        peer=peer,
                        credit=credit,
                        max_message_bytes=limits.message_bytes,
                        max_pixels=limits.pixels,
                    )
                ]
            case SchemaChanged(schema):
                return [encode_text("schema", schema=schema)]
            case ParametersChanged(values, revision, changed, origin, id_):
                return [
                    encode_text(
                        "parameters",
                        values=dict(values),
                        revision=revision,
                        changed=changed,
                        origin=origin,
                        id=id_,
                    )
                ]
            case StatusChanged(status):
                return [encode_text("status", **status)]
            case AudienceChanged(watching, idle, control):
                return [encode_text("audience", watching=watching, idle=idle, control=control)]
            case LatencyMeasured(figures):
                return [encode_text("latency", **figures)]
            case ReferenceChanged(None):
                return [encode_text("reference", image=None)]
            case ReferenceChanged(Packet() as packet):
                image = pybase64.b64encode(packet.data).decode()
                return [encode_text("reference", image=image)]
            case Retired(by):
                return [encode_text("retire", by=by)]
            case Refused(error, id_):
                return [encode_text("error", **error_fields(error), id=id_)]
            case _:
                return []  # answers to requests: nobody asks for one in this dialect

    def form(self, packet: Packet, track: Track) -> Form:
        return _FORMS[track]


_FORMS: Mapping[Track, Form] = {
    track: Form(f"native {track}", False, partial(packet_parts, track=track)) for track in TRACKS
}

_CREDITS: Mapping[str | bytes, list[Event]] = {
    said: [CreditGiven(1, track)]
    for track in (None, *TRACKS)
    for fields in ({"type": "credit", "count": 1, **({"track": track} if track else {})},)
    for text in (orjson.dumps(fields).decode(), json.dumps(fields))
    for said in (text, text.encode())
}
"""What viewers say most, after each picture: as it is usually written it need not be parsed."""

_HANDLERS: Mapping[str, Callable[[NativeDialect, dict[str, Any]], list[Event]]] = {
    "hello": NativeDialect._hello,
    "credit": NativeDialect._credit,
    "parameters": NativeDialect._parameters,
    "status": NativeDialect._status,
    "failed": NativeDialect._failed,
    "ping": NativeDialect._ping,
    "clock": NativeDialect._clock,
    "shown": NativeDialect._shown,
}


def _text(fields: Mapping[str, Any], name: str, longest: int) -> str:
    value = fields.get(name, "")
    if not isinstance(value, str):
        raise ProtocolError(
            f"{fields['type']}: expected text as {name}, got {type(value).__name__}"
        )
    return value[:longest]


def _about(fields: dict[str, Any]) -> dict[str, Any]:
    """What works there, as people are told of it: fields of a :class:`WorkerHello`."""
    return {
        **{name: _text(fields, name, 200) for name in ("engine", "model", "device")},
        **{side: _number(fields, side, 0, 1 << 16) for side in ("width", "height")},
        "licence": _licence(fields.get("licence", {})),
    }


def _licence(said: Any) -> dict[str, str]:
    """The licence of a worker's model; people will follow its link."""
    if not isinstance(said, dict):
        raise ProtocolError("hello: expected an object as licence")
    about = {"type": "hello: licence", **said}
    licence = {name: _text(about, name, 300) for name in ("name", "terms", "link") if name in said}
    if (link := licence.get("link")) and not link.startswith("https://"):
        raise ProtocolError("hello: expected an https:// address as the licence's link")
    return licence


def _one_of(fields: Mapping[str, Any], name: str, words: tuple[W, ...]) -> W:
    value = fields.get(name)
    if value not in words:
        expected = ", ".join(words)
        raise ProtocolError(f"{fields['type']}: expected {expected} as {name}, got {value!r:.40}")
    return words[words.index(value)]


def _id(fields: Mapping[str, Any]) -> str | int | float | None:
    value = fields.get("id")
    if value is None or isinstance(value, int | float):
        return value
    if isinstance(value, str) and len(value) <= MAX_ID:
        return value
    raise ProtocolError(
        f"{fields['type']}: expected a number or a text of at most {MAX_ID} characters as id"
    )


def _counters(fields: Mapping[str, Any]) -> dict[str, float]:
    """Totals by name; what is none is left out, since no picture depends on it."""
    counters = fields.get("counters")
    if not isinstance(counters, dict):
        return {}
    named = {
        name: float(value)
        for name, value in counters.items()
        if _COUNTER.fullmatch(name)
        and isinstance(value, int | float)
        and not isinstance(value, bool)
        and 0 <= value < 1e18
    }
    return dict(list(named.items())[:MAX_COUNTERS])


def _seen(picture: object) -> Seen:
    """A picture that was shown: three times in ms, the first of them null where it has no sense."""
    if isinstance(picture, list) and len(picture) == 3:
        times = [
            float(ms)
            for ms in picture
            if isinstance(ms, int | float) and not isinstance(ms, bool) and abs(ms) < _LONGEST_MS
        ]
        if len(times) == 3:
            return Seen(times[0], times[1], times[2])
        if len(times) == 2 and picture[0] is None:
            return Seen(None, times[0], times[1])
    raise ProtocolError(
        "shown: expected [delivered or null, painted, age] in ms for each picture,"
        f" got {picture!r:.60}"
    )


def _number(
    fields: Mapping[str, Any], name: str, low: int, high: int, *, default: int | None = None
) -> int:
    value = fields.get(name, low if default is None else default)
    if not isinstance(value, int) or isinstance(value, bool) or not low <= value <= high:
        raise ProtocolError(
            f"{fields['type']}: expected a whole number from {low} to {high} as {name},"
            f" got {value!r:.40}"
        )
    return value


def _real(fields: Mapping[str, Any], name: str) -> float:
    value = fields.get(name, 0.0)
    if not isinstance(value, int | float) or isinstance(value, bool) or not -1e9 < value < 1e9:
        raise ProtocolError(f"{fields['type']}: expected a number as {name}, got {value!r:.40}")
    return float(value)
