"""The dialect of DreamStream, on paths ``/ws/{broadcaster,viewer}/{stream}``.

JSON text only; pictures are data URLs, times whole milliseconds. A broadcaster sends pictures and
says how they are to look; a viewer is shown the results. What several connections of one stream
share beside the stream itself lies in a :class:`Broadcast`. See ``docs/protocol.md``.
"""

import math
import secrets
import time
from abc import abstractmethod
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Protocol

import orjson
import pybase64

from dreamrelay.errors import ProtocolError
from dreamrelay.packet import Packet, Track
from dreamrelay.protocol.messages import (
    Acknowledged,
    Delivery,
    Dialect,
    Event,
    Form,
    Left,
    Limits,
    Notice,
    PacketReceived,
    ParametersChanged,
    PatchReceived,
    Refused,
    ReplyDue,
    SchemaChanged,
    StatusChanged,
    Welcome,
    from_base64,
)
from dreamrelay.protocol.texts import read_json

PROCESSORS = ("standard", "lightning")
DEFAULT_PROCESSOR = "lightning"
PROCESSOR_NAMES = ("processor", "processor_type", "profile")
"""Parameters that mean what this dialect calls a processor, where a worker has one."""

DEFAULT_STRENGTH = 0.9
STRENGTHS = (0.1, 1.0)

FRAME_LIMIT_MB = 1.9
"""Of base64 text, in either direction: what the pages' server takes."""

PICTURE_LIMIT = int(FRAME_LIMIT_MB * 2**20) // 4 * 3
"""Bytes of a picture that still fits when written in base64."""

MAX_PENDING = 32
PENDING_NS = 10_000_000_000
"""A picture without a result for so long is not in work any more."""

Handlers = Mapping[str, Callable[[Any, Mapping[str, Any]], list[Event]]]
"""Type of a message to what is done with it."""

_INVALID = "Invalid message format"
_FAILED = "Frame processing failed, please try again"


@dataclass(slots=True)
class Broadcast:
    """What broadcasters and viewers of one stream share beside the stream itself.

    Attributes:
        ours: it was made by them, and ends with the last of them.
        begun: somebody came to broadcast, with or without a picture.
    """

    stream: str
    processor: str = DEFAULT_PROCESSOR
    connections: int = 0
    ours: bool = False
    begun: bool = False


@dataclass(frozen=True, slots=True)
class Standing:
    """Whether somebody broadcasts, and if not, whether somebody did."""

    active: bool
    ended: bool

    @classmethod
    def of(cls, status: Mapping[str, Any], *, begun: bool = False) -> "Standing":
        """As a stream's ``status`` says; ``begun``: somebody is known to have broadcast."""
        active = status["producers"] > 0
        return cls(active, not active and (begun or status["seq_in"] > 0))

    @property
    def message(self) -> str:
        if self.active:
            return "Stream is active"
        return "Stream has ended" if self.ended else "Waiting for a broadcaster"


class Directory(Protocol):
    """The streams that there are."""

    def active(self) -> list[str]:
        """Names of those that somebody broadcasts on."""

    def standing(self, stream: str) -> Standing | None:
        """How it stands; None if there is no such stream."""


@dataclass(frozen=True, slots=True)
class _Asked:
    """Marks the answer to a change: the message that confirms it."""

    kind: str
    name: str
    value: Any


class DreamStreamDialect(Dialect):
    """What broadcasters and viewers have in common.

    Args:
        problem: what was wrong with how the peer came; it is told so.
    """

    def __init__(
        self,
        broadcast: Broadcast,
        directory: Directory,
        limits: Limits,
        *,
        problem: str = "",
        clock_ns: Callable[[], int] = time.time_ns,
    ) -> None:
        self._broadcast = broadcast
        self._directory = directory
        self._limits = limits
        self._problem = problem
        self._clock_ns = clock_ns
        self._form = Form("dreamstream", True, self._frame_parts)
        self._processors: dict[str, tuple[str, ...]] = {}
        self._values: Mapping[str, Any] = {}
        self._standing = Standing(active=False, ended=False)
        self._state = ""
        self.came_by_words = False
        """It said ``start_stream`` or ``join_stream`` instead of naming a path; it waits for the
        answer.
        """

    # -- in ---------------------------------------------------------------------------------------

    def receive(self, message: str | bytes) -> list[Event]:
        try:
            fields = read_json(message) if isinstance(message, str) else None
        except orjson.JSONDecodeError:
            return [self._error(_INVALID)]
        kind = fields.get("type") if isinstance(fields, dict) else None
        if not isinstance(fields, dict) or kind is None:
            return [ReplyDue(orjson.dumps({"error": _INVALID}).decode())]
        # An unknown type, or one of the other role, is met with silence: the pages say more than
        # their server knows, and show every error to people.
        handler = self.handlers.get(kind) if isinstance(kind, str) else None
        return handler(self, fields) if handler else []

    handlers: ClassVar[Handlers] = {}

    def _ping(self, _: Mapping[str, Any]) -> list[Event]:
        return [self._reply("pong")]

    def _processor_info(self, _: Mapping[str, Any]) -> list[Event]:
        return [self._reply("processor_info", processor_type=self._broadcast.processor)]

    def _check_status(self, fields: Mapping[str, Any]) -> list[Event]:
        stream = fields.get("streamId") or self._broadcast.stream
        standing: Standing | None = None
        if stream == self._broadcast.stream:
            standing = self._own_standing()
        elif isinstance(stream, str) and len(stream) <= 64:
            standing = self._directory.standing(stream)
        else:
            return [self._error("expected a stream's name as streamId")]
        return [ReplyDue(self._stream_status(stream, standing or Standing(False, False)))]

    def _own_standing(self) -> Standing:
        return self._standing

    def _reply(self, kind: str, **fields: Any) -> ReplyDue:
        return ReplyDue(_text(kind, **fields))

    def _error(self, message: str, **fields: Any) -> ReplyDue:
        return self._reply("error", message=message, **fields)

    def _stream_status(self, stream: str, standing: Standing) -> str:
        return _text(
            "stream_status",
            streamId=stream,
            active=standing.active,
            ended=standing.ended,
            message=standing.message,
        )

    # -- out --------------------------------------------------------------------------------------

    def render(self, notice: Notice) -> list[str | bytes]:
        match notice:
            case Welcome():
                problem = [_text("error", message=self._problem)] if self._problem else []
                return [*self._greeting(self.came_by_words), *problem]
            case SchemaChanged(schema):
                self._processors = _choices(schema or {})
                return []
            case ParametersChanged(values, id=id_):
                before, self._values = self._values, values
                # Whoever changed it: the studio, another broadcaster, a worker that could not.
                processor = _at_work(self._processors, values)
                self._broadcast.processor = processor or self._broadcast.processor
                return self._changed(before, id_)
            case StatusChanged(status):
                before_ = self._standing
                self._standing = Standing.of(status, begun=self._broadcast.begun)
                self._state = status["state"]
                return self._stands(before_, status)
            case Delivery(packet, track):
                form = self.form(packet, track)
                return [form.message(packet)] if form else []
            case Acknowledged(_, refusal, on_air):
                return self._acknowledged(refusal, on_air)
            case Refused(error):
                return [_text("error", message=str(error))]
            case _:
                return []

    @abstractmethod
    def _greeting(self, by_words: bool) -> list[str | bytes]:
        """What it hears first."""

    @abstractmethod
    def _changed(self, before: Mapping[str, Any], id_: Any) -> list[str | bytes]:
        """The parameters are others now, at the wish of this peer if ``id_`` says so."""

    def _stands(self, before: Standing, status: Mapping[str, Any]) -> list[str | bytes]:
        return []

    def form(self, packet: Packet, track: Track) -> Form | None:
        if track != "output" or not self._is_shown(packet) or len(packet.data) > PICTURE_LIMIT:
            return None  # the next one may be smaller
        return self._form

    @abstractmethod
    def _is_shown(self, packet: Packet) -> bool:
        """Take note of a picture of the output track; whether this peer is shown it."""

    def _acknowledged(self, refusal: str | None, on_air: bool) -> list[str | bytes]:
        return []

    @property
    def _prompt(self) -> str:
        return str(self._values.get("prompt") or "")

    def _frame_parts(self, packet: Packet) -> tuple[bytes, ...]:
        """The message that shows a result; written once, shared by all who are shown it."""
        fields = {
            "timestamp": self._clock_ns() // 1_000_000,
            "is_original": False,
            "processor_type": self._broadcast.processor,
            "processed": True,
            "style_prompt": self._prompt,
            "strength": self._values.get("strength", DEFAULT_STRENGTH),
        }
        head = orjson.dumps({"type": "frame", "streamId": self._broadcast.stream})
        return (head[:-1], b',"frame":"', *_data_url(packet), b'",', orjson.dumps(fields)[1:])


_COMMON: Handlers = {
    "ping": DreamStreamDialect._ping,
    "get_processor_info": DreamStreamDialect._processor_info,
    "check_stream_status": DreamStreamDialect._check_status,
}


class BroadcasterDialect(DreamStreamDialect):
    """The relay's end of a broadcaster. It watches the output, to be asked for the latest."""

    def __init__(self, *arguments: Any, **named: Any) -> None:
        super().__init__(*arguments, **named)
        self._pending: deque[int] = deque(maxlen=MAX_PENDING)
        self._captured_ns = 0
        self._latest: Packet | None = None
        self._subscribed = False
        self._over = False

    # -- in ---------------------------------------------------------------------------------------

    def _take_frame(self, fields: Mapping[str, Any]) -> list[Event]:
        if self._over:
            return [self._reply("frame_skipped", message="The stream was ended, connect again")]
        try:
            packet = self._picture(fields.get("frame"))
        except ProtocolError as error:
            return [self._error(str(error))]
        events: list[Event] = [PacketReceived(packet, "input")]
        while self._pending and self._pending[0] < packet.captured_ns - PENDING_NS:
            self._pending.popleft()
        if self._pending:
            waits = "Another frame is being processed"
            if self._state != "live":
                waits = f"No worker is ready ({self._state or 'no-worker'})"
            events.append(self._reply("frame_skipped", message=f"{waits}, the newest is kept"))
        self._pending.append(packet.captured_ns)
        return events

    def _picture(self, encoded: Any) -> Packet:
        if not encoded or not isinstance(encoded, str):
            raise ProtocolError("Empty frame data received")
        if encoded.startswith("data:"):
            _, comma, encoded = encoded.partition(",")
            if not comma:
                raise ProtocolError("Invalid data URL format")
        size = len(encoded) / 2**20
        if size > FRAME_LIMIT_MB:
            raise ProtocolError(
                f"Frame size too large: {size:.2f}MB, max allowed is {FRAME_LIMIT_MB}MB"
            )
        try:
            data = from_base64(encoded)
        except ValueError as error:
            raise ProtocolError(f"frame: expected base64, got something else ({error})") from None
        # Results carry the time of their input: by it we know which of ours are still in work.
        self._captured_ns = max(self._captured_ns + 1, self._clock_ns())
        packet = Packet.of(data, captured_ns=self._captured_ns)
        if packet.width * packet.height > self._limits.pixels:
            most = f"expected at most {self._limits.pixels} pixels"
            raise ProtocolError(f"{most}, got {packet.width}x{packet.height}")
        return packet

    def _update_prompt(self, fields: Mapping[str, Any]) -> list[Event]:
        prompt = fields.get("prompt")
        if not isinstance(prompt, str) or not prompt.strip():
            return [self._error("Empty prompt received")]
        return self._ask("prompt_updated", "prompt", prompt)

    def _update_negative_prompt(self, fields: Mapping[str, Any]) -> list[Event]:
        prompt = fields.get("negative_prompt", "")
        if not isinstance(prompt, str):
            return [self._error("expected text as negative_prompt")]
        return self._ask("negative_prompt_updated", "negative_prompt", prompt)

    def _update_strength(self, fields: Mapping[str, Any]) -> list[Event]:
        value = fields.get("strength")
        low, high = STRENGTHS
        try:
            strength = float(value)  # type: ignore[arg-type]
        except (TypeError, ValueError, OverflowError):
            strength = math.nan
        if not low <= strength <= high:
            came = f"{value!r:.40}, expected a number from {low} to {high}"
            return [self._error(f"Invalid strength value: {came}")]
        return self._ask("strength_updated", "strength", strength)

    def _update_processor(self, fields: Mapping[str, Any]) -> list[Event]:
        processor = fields.get("processor_type")
        known = {*PROCESSORS, *(c for choices in self._processors.values() for c in choices)}
        if not isinstance(processor, str) or processor not in known:
            return [self._error(invalid_processor(processor))]
        confirms = ("processor_updated", "processor_type", processor)
        for name, choices in self._processors.items():
            if processor in choices:
                return [PatchReceived({name: processor}, id=_Asked(*confirms))]
        self._broadcast.processor = processor  # no worker knows it: remembered, and told
        return [self._reply("processor_updated", processor_type=processor)]

    def _ask(self, confirmed: str, name: str, value: Any) -> list[Event]:
        if isinstance(value, str) and len(value) > self._limits.text:
            most = f"expected at most {self._limits.text} characters as {name}"
            return [self._error(f"{most}, got {len(value)}")]
        return [PatchReceived({name: value}, id=_Asked(confirmed, name, value))]

    def _end(self, _: Mapping[str, Any]) -> list[Event]:
        self._over, self._latest = True, None
        return [self._reply("stream_ended_confirmation", message="Stream ended"), Left()]

    def _own_standing(self) -> Standing:
        if not self._over:
            return self._standing
        # It has left, and hears no more of the stream; another may broadcast there.
        found = self._directory.standing(self._broadcast.stream)
        active = found is not None and found.active
        return Standing(active, not active)

    def _latest_frame(self, _: Mapping[str, Any]) -> list[Event]:
        if self._over:
            return [ReplyDue(_ended(self._broadcast.stream))]
        if self._latest is None:
            return [self._reply("latest_frame", frame=None, message="No processed frame yet")]
        return [ReplyDue(self._latest.wire("dreamstream-latest", _latest_message))]

    def _subscribe(self, _: Mapping[str, Any]) -> list[Event]:
        self._subscribed = True
        return [self._reply("subscription_confirmed", message="Processed frames will be sent")]

    def _unsubscribe(self, _: Mapping[str, Any]) -> list[Event]:
        self._subscribed = False
        return [self._reply("unsubscription_confirmed", message="No more frames will be sent")]

    def _start_stream(self, _: Mapping[str, Any]) -> list[Event]:
        return [self._reply("stream_created", streamId=self._broadcast.stream)]

    handlers: ClassVar[Handlers] = {
        **_COMMON,
        "frame": _take_frame,
        "update_prompt": _update_prompt,
        "update_negative_prompt": _update_negative_prompt,
        "update_strength": _update_strength,
        "update_processor": _update_processor,
        "end_stream": _end,
        "get_latest_frame": _latest_frame,
        "subscribe_to_processed_frames": _subscribe,
        "unsubscribe_from_processed_frames": _unsubscribe,
        "start_stream": _start_stream,  # of an older server
    }

    # -- out --------------------------------------------------------------------------------------

    def _greeting(self, by_words: bool) -> list[str | bytes]:
        if by_words:
            return [_text("stream_created", streamId=self._broadcast.stream)]
        processor = self._broadcast.processor
        message = f"Using {processor} processor"
        return [_text("processor_info", processor_type=processor, message=message)]

    def _changed(self, before: Mapping[str, Any], id_: Any) -> list[str | bytes]:
        if not isinstance(id_, _Asked):
            return []
        if id_.name == "processor_type":
            self._broadcast.processor = id_.value
        return [_text(id_.kind, **{id_.name: id_.value})]

    def _is_shown(self, packet: Packet) -> bool:
        while self._pending and self._pending[0] <= packet.captured_ns:
            self._pending.popleft()
        if len(packet.data) <= PICTURE_LIMIT:
            self._latest = packet
        return self._subscribed

    def _acknowledged(self, refusal: str | None, on_air: bool) -> list[str | bytes]:
        if refusal is not None:
            return [_text("error", message=refusal)]
        if not on_air:
            return [_text("frame_skipped", message="Another broadcaster has the stream")]
        return []


class ViewerDialect(DreamStreamDialect):
    """The relay's end of a viewer.

    Args:
        seen: a result that this viewer is not to be greeted with, because it was a moment ago.
            The page opens its socket anew after each picture: it would never end.
    """

    def __init__(self, *arguments: Any, seen: Packet | None = None, **named: Any) -> None:
        super().__init__(*arguments, **named)
        self._seen = seen
        self._greeted = False
        self._processor = self._broadcast.processor
        self._complaint = ""

    # -- in ---------------------------------------------------------------------------------------

    def _style_prompt(self, _: Mapping[str, Any]) -> list[Event]:
        return [ReplyDue(message) for message in self._style()]

    def _list_streams(self, _: Mapping[str, Any]) -> list[Event]:
        return [self._reply("streams_list", streams=self._directory.active())]

    def _join_stream(self, _: Mapping[str, Any]) -> list[Event]:
        return [self._reply("joined_stream", streamId=self._broadcast.stream)]

    handlers: ClassVar[Handlers] = {
        **_COMMON,
        "get_style_prompt": _style_prompt,
        "list_streams": _list_streams,
        "join_stream": _join_stream,  # of an older server
    }

    # -- out --------------------------------------------------------------------------------------

    def _greeting(self, by_words: bool) -> list[str | bytes]:
        return [_text("joined_stream", streamId=self._broadcast.stream)] if by_words else []

    def _style(self) -> list[str | bytes]:
        if not self._prompt:
            return []
        processor = self._broadcast.processor
        return [_text("style_updated", prompt=self._prompt, processor_type=processor)]

    def _changed(self, before: Mapping[str, Any], id_: Any) -> list[str | bytes]:
        if not self._greeted:
            return []
        messages: list[str | bytes] = []
        if self._prompt and self._prompt != before.get("prompt"):
            messages.extend(self._style())
        for name in ("negative_prompt", "strength"):
            value = self._values.get(name)
            if value is not None and value != before.get(name):
                messages.append(_text(f"{name}_updated", **{name: value}))
        return [*messages, *self._other_processor()]

    def _other_processor(self) -> list[str | bytes]:
        processor = self._broadcast.processor
        if processor == self._processor:
            return []
        self._processor = processor
        return [_text("processor_updated", processor_type=processor)]

    def _stands(self, before: Standing, status: Mapping[str, Any]) -> list[str | bytes]:
        stream, standing = self._broadcast.stream, self._standing
        if not self._greeted:
            self._greeted = True
            inactive = [] if standing.active else [self._stream_status(stream, standing)]
            return [*inactive, *self._style()]
        messages: list[str | bytes] = []
        if before.active and not standing.active:
            messages.append(_ended(stream))
        elif standing.active and not before.active:
            messages.append(self._stream_status(stream, standing))
        messages.extend(self._other_processor())
        complaint = str(status["text"]) if status["state"] in ("live", "error") else ""
        if complaint and complaint != self._complaint and standing.active:
            messages.append(_text("error", message=_FAILED, details=complaint))
        self._complaint = complaint
        return messages

    def _is_shown(self, packet: Packet) -> bool:
        return packet is not self._seen and self._standing.active


class ListingDialect(ViewerDialect):
    """The relay's end of the page that lists streams: it asks one thing, as viewer
    ``listing_...``, and takes the first message for the answer.
    """


LISTING_PREFIX = "listing_"


NO_OPENING = orjson.dumps({"type": "error", "message": _INVALID}).decode()
"""What one hears that says something else than an older page does first."""


def read_opening(message: str) -> tuple[str, str] | None:
    """Who says this first, a broadcaster or a viewer, and of which stream; None if neither.

    An older page names no role in its path. A broadcaster that names no stream gets a new one.
    """
    try:
        fields = read_json(message)
    except orjson.JSONDecodeError:
        return None
    kind = fields.get("type") if isinstance(fields, dict) else None
    stream = fields.get("streamId") if kind else None
    if kind == "start_stream":
        return "broadcaster", stream if stream and isinstance(stream, str) else _new_stream()
    if kind == "join_stream" and stream and isinstance(stream, str):
        return "viewer", stream
    return None


def _new_stream() -> str:
    return f"stream_{secrets.token_hex(4)}"


def invalid_processor(came: Any) -> str:
    """What to tell somebody who asks for a processor that there is not."""
    return f"Invalid processor type: {str(came)[:40]}"


def _choices(schema: Mapping[str, Any]) -> dict[str, tuple[str, ...]]:
    """The parameters of a schema that mean a processor, and what each may be."""
    found = {}
    properties = schema.get("properties")
    for name in PROCESSOR_NAMES:
        rule = properties.get(name) if isinstance(properties, Mapping) else None
        choices = rule.get("enum") if isinstance(rule, Mapping) else None
        if isinstance(choices, list):
            found[name] = tuple(choice for choice in choices if isinstance(choice, str))
    return found


def processor_at_work(schema: Mapping[str, Any] | None, values: Mapping[str, Any]) -> str:
    """The processor that a worker with this schema is now; empty if it does not say."""
    return _at_work(_choices(schema or {}), values)


def _at_work(choices: Mapping[str, tuple[str, ...]], values: Mapping[str, Any]) -> str:
    known = (values.get(name) for name in choices)
    return next((value for value in known if isinstance(value, str) and value), "")


def processor_patch(schema: Mapping[str, Any] | None, processor: str) -> dict[str, str]:
    """What to change so that a worker with this schema becomes that processor; perhaps nothing."""
    for name, choices in _choices(schema or {}).items():
        if processor in choices:
            return {name: processor}
    return {}


def _ended(stream: str) -> str:
    return _text("stream_ended", streamId=stream, message="The stream has ended")


def _data_url(packet: Packet) -> tuple[bytes, bytes, bytes, bytes]:
    return (b"data:", packet.codec.mime.encode(), b";base64,", pybase64.b64encode(packet.data))


def _latest_message(packet: Packet) -> str:
    parts = (b'{"type":"latest_frame","frame":"', *_data_url(packet), b'"}')
    return b"".join(parts).decode()


def _text(kind: str, **fields: Any) -> str:
    return orjson.dumps({"type": kind, **fields}).decode()
