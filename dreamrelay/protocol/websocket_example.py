"""The dialect of StreamDiffusion's WebSocket example, in all its versions, on path ``/``.

Its clients count replies instead of reading their types, so the rules are: one reply per ``image``
and per ``img2img``, in order; nothing unasked to a socket that did not register to receive; text
replies under 1 MiB, which is the most that those clients accept. See ``docs/protocol.md``.
"""

import time
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import orjson
import pybase64

from dreamrelay.errors import DreamRelayError, ProtocolError
from dreamrelay.packet import Inspector, Packet, Track
from dreamrelay.protocol.messages import (
    Acknowledged,
    Answered,
    Delivery,
    Dialect,
    Event,
    Fault,
    Form,
    Joined,
    Limits,
    Notice,
    PacketReceived,
    ParametersChanged,
    PatchReceived,
    Refused,
    ReplyDue,
    RequestReceived,
    Role,
    Unanswered,
    Welcome,
    from_base64,
)
from dreamrelay.protocol.texts import read_json

MAX_WAITING_REQUESTS = 8
"""More ``img2img`` than this on one socket are answered with an error at once."""

REPLY_LIMIT = 1024 * 1024 - 64 * 1024
"""The seeds' clients close with 1009 at 1 MiB; the envelope and the prompt need their share of
it.
"""

PICTURE_LIMIT = REPLY_LIMIT // 4 * 3
"""Bytes of a picture that still fits when written in base64."""

MAX_TICKETS = 64
"""Unanswered and refused requests of one socket; whoever piles up more is cut off."""


_PROMPT = object()
"""Marks the answer to a ``prompt_update`` among the hub's notices."""


@dataclass(slots=True)
class _Ticket:
    """An ``img2img`` that waits for its answer, or has it and waits for its turn."""

    number: int
    form: Literal["text", "binary"]
    answer: list[str | bytes] | None = None


class WebSocketExampleDialect(Dialect):
    """The relay's end of a seed connection."""

    reply_limit = PICTURE_LIMIT
    joins_at_once = False

    def __init__(
        self,
        limits: Limits,
        *,
        greeting_grace: float = 0.06,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.greeting_grace = greeting_grace
        self._limits = limits
        self._clock = clock
        self._role: Role | None = None
        self._announced: Mapping[str, Any] | None = None
        self._tickets: deque[_Ticket] = deque()
        self._next_ticket = 1
        self._delivered: Packet | None = None
        self._look = Inspector()

    # -- in ---------------------------------------------------------------------------------------

    def receive(self, message: str | bytes) -> list[Event]:
        if isinstance(message, bytes):
            return self._binary(message)
        try:
            return self.receive_text(message.encode())
        except UnicodeEncodeError:
            return []  # halves of characters

    def receive_text(self, message: bytes) -> list[Event]:
        fields = split_message(message)
        if fields is None:
            message.decode()  # who says what is no text at all is not heard any more
            return []  # the seed is silent on what is no JSON object, and its clients count replies
        kind = fields.get("type")
        handler = _HANDLERS.get(kind) if isinstance(kind, str) else None
        return handler(self, fields) if handler else []

    def _register(self, fields: Mapping[str, Any]) -> list[Event]:
        client_type = fields.get("client_type", "producer")
        reply = self._echo("registered", client_type=client_type)
        roles: dict[Any, tuple[Role, tuple[Track, ...]]] = {
            "producer": ("producer", ()),
            "consumer": ("worker", ("input",)),
            "viewer": ("viewer", ("output",)),
        }
        if not isinstance(client_type, str) or client_type not in roles:
            return [reply]
        role, tracks = roles[client_type]
        if self._role == role:
            return [reply]
        self._role = role
        self._delivered = None
        return [reply, Joined(role, f"websocket example {client_type}", None, None, tracks)]

    def _ping(self, _: Mapping[str, Any]) -> list[Event]:
        return [ReplyDue(self._text("pong"))]

    def _test(self, fields: Mapping[str, Any]) -> list[Event]:
        return [self._echo("test_response", original_data=fields.get("data"))]

    def _echo(self, kind: str, **fields: Any) -> ReplyDue:
        """A reply that repeats what the peer said, as far as it can be said."""
        try:
            text = self._text(kind, **fields)
        except orjson.JSONEncodeError:
            text = self._text("error", message="expected JSON that is nested less deep")
        if len(text.encode()) > REPLY_LIMIT:
            text = self._text("error", message="expected less: the reply would pass 1 MiB")
        return ReplyDue(text)

    def _image(self, fields: Mapping[str, Any]) -> list[Event]:
        try:
            packet = self._picture(fields.get("data"), "data")
        except ProtocolError as error:
            return [ReplyDue(self._text("error", message=str(error)))]
        if self._role == "worker":
            source = self._delivered
            if source is not None:  # a result: it belongs to the original that this socket got last
                packet = Packet(
                    packet.data,
                    packet.codec,
                    packet.width,
                    packet.height,
                    source.seq,
                    source.captured_ns,
                )
            return [
                PacketReceived(packet, "output"),
                ReplyDue(self._text("ack", status="received")),
            ]
        return [PacketReceived(packet, "input")]

    def _prompt_update(self, fields: Mapping[str, Any]) -> list[Event]:
        prompt = fields.get("prompt")
        if not prompt or not isinstance(prompt, str):
            return [ReplyDue(self._text("error", message="Missing 'prompt' field"))]
        if len(prompt) > self._limits.text:
            text = f"expected a prompt of at most {self._limits.text} characters, got {len(prompt)}"
            return [ReplyDue(self._text("error", message=text))]
        # The answer is the hub's: ``prompt_updated``, or ``error`` if the worker's schema refuses.
        return [PatchReceived({"prompt": prompt}, id=_PROMPT)]

    def _img2img(self, fields: Mapping[str, Any]) -> list[Event]:
        return self._request("text", fields, lambda: self._picture(fields.get("image"), "image"))

    def _img2img_binary(self, fields: Mapping[str, Any]) -> list[Event]:
        self._announced = fields
        return []

    def _binary(self, data: bytes) -> list[Event]:
        announced, self._announced = self._announced, None
        if announced is None:
            return []
        return self._request("binary", announced, lambda: self._packet(data))

    def _request(
        self,
        form: Literal["text", "binary"],
        fields: Mapping[str, Any],
        picture: Callable[[], Packet],
    ) -> list[Event]:
        if len(self._tickets) >= MAX_TICKETS:
            return [Fault(ProtocolError("too many requests at a time, wait for answers"), True)]
        ticket = _Ticket(self._next_ticket, form)
        self._next_ticket += 1
        self._tickets.append(ticket)
        try:
            if len(self._tickets) > MAX_WAITING_REQUESTS:
                raise ProtocolError(
                    f"expected at most {MAX_WAITING_REQUESTS} requests at a time, wait for answers"
                )
            prompt = fields.get("prompt")
            if prompt is not None and not isinstance(prompt, str):
                raise ProtocolError(f"expected text as prompt, got {type(prompt).__name__}")
            if prompt and len(prompt) > self._limits.text:
                raise ProtocolError(f"expected a prompt of at most {self._limits.text} characters")
            packet = picture()
        except ProtocolError as error:
            return [
                ReplyDue(message) for message in self._settle(ticket.number, [self._error(error)])
            ]
        return [RequestReceived(packet, {"prompt": prompt} if prompt else {}, ticket.number)]

    def _picture(self, encoded: Any, name: str) -> Packet:
        if isinstance(encoded, str):
            if encoded.startswith("data:"):
                encoded = encoded.partition(",")[2]
            try:
                encoded = from_base64(encoded)
            except ValueError as error:
                raise ProtocolError(
                    f"{name}: expected base64, got something else ({error})"
                ) from None
        if not isinstance(encoded, bytes) or not encoded:
            raise ProtocolError(f"expected a picture in base64 as {name!r}")
        return self._packet(encoded)

    def _packet(self, data: bytes) -> Packet:
        packet = Packet.of(data, captured_ns=int(self._clock() * 1e9), look=self._look)
        if packet.width * packet.height > self._limits.pixels:
            raise ProtocolError(
                f"expected at most {self._limits.pixels} pixels, got {packet.width}x{packet.height}"
            )
        return packet

    # -- out --------------------------------------------------------------------------------------

    def render(self, notice: Notice) -> list[str | bytes]:
        match notice:
            case Acknowledged():
                if notice.refusal is not None:
                    return [self._text("error", message=notice.refusal)]
                return [self._text("ack", status="received")]
            case Welcome():
                return [
                    self._text("welcome", message="Connected to the dreamrelay WebSocket server")
                ]
            case Delivery(packet, track):
                form = self.form(packet, track)
                # Else the client would close its connection; the next picture may be smaller.
                return [form.message(packet)] if form else []
            case Answered(ticket, packet, prompt):
                return self._settle(ticket, self._result(ticket, packet, prompt))
            case Unanswered(ticket, error):
                return self._settle(ticket, [self._error(error)])
            case ParametersChanged(values, id=id_) if id_ is _PROMPT:
                return [self._text("prompt_updated", status="queued", prompt=values.get("prompt"))]
            case Refused(error, id_) if id_ is _PROMPT:
                return [self._error(error)]
            case _:
                # One reply per request and nothing unasked: what the hub tells everybody is not for
                # this dialect.
                return []

    def form(self, packet: Packet, track: Track) -> Form | None:
        if len(packet.data) > PICTURE_LIMIT:
            return None
        if track == "input":
            self._delivered = packet
        return _FORM

    def _result(self, ticket: int, packet: Packet, prompt: str) -> list[str | bytes]:
        form = next((t.form for t in self._tickets if t.number == ticket), "text")
        codec = packet.codec.name.lower()
        prompt = prompt[: self._limits.text]
        if len(packet.data) > (REPLY_LIMIT if form == "binary" else PICTURE_LIMIT):
            return [
                self._error(ProtocolError("the result is larger than this client accepts (1 MiB)"))
            ]
        if form == "binary":
            return [self._text("img2img_result_binary", prompt=prompt, format=codec), packet.data]
        image = pybase64.b64encode(packet.data).decode("ascii")
        return [self._text("img2img_result", image=image, prompt=prompt)]

    def _settle(self, number: int, answer: list[str | bytes]) -> list[str | bytes]:
        """Note the answer of a request; return all answers whose turn it is."""
        for ticket in self._tickets:
            if ticket.number == number:
                ticket.answer = answer
        ready: list[str | bytes] = []
        while self._tickets and self._tickets[0].answer is not None:
            ready.extend(self._tickets.popleft().answer or [])
        return ready

    def _error(self, error: DreamRelayError) -> str:
        return self._text("error", message=str(error))

    def _text(self, kind: str, **fields: Any) -> str:
        return orjson.dumps({"type": kind, **fields, "timestamp": self._clock()}).decode()


_HANDLERS: Mapping[str, Callable[[WebSocketExampleDialect, Mapping[str, Any]], list[Event]]] = {
    "register": WebSocketExampleDialect._register,
    "ping": WebSocketExampleDialect._ping,
    "test": WebSocketExampleDialect._test,
    "image": WebSocketExampleDialect._image,
    "prompt_update": WebSocketExampleDialect._prompt_update,
    "img2img": WebSocketExampleDialect._img2img,
    "img2img_binary": WebSocketExampleDialect._img2img_binary,
}


_HEAD, _TAIL = 512, 512
"""Bytes around a picture in which everything else is found in the usual message."""

_DATA, _IMAGE = (b'"data"', "data", "image"), (b'"image"', "image", "img2img")
"""A key as it is written, that key, and the type of the messages that have a picture there."""

_OPENINGS = (b':"', b': "')
"""What programs write between a key and a text."""


def split_message(message: bytes) -> dict[str, Any] | None:
    """Read a JSON object; None if it is none.

    The picture of an ``image`` or ``img2img`` is ``bytes`` here, if its base64 could be cut out
    before JSON is parsed. Base64 has neither quotes nor backslashes, so between the opening quote
    and the first quote near the end there is nothing else if it can be decoded; then it is also
    good UTF-8. Anything unexpected takes the plain way.
    """
    return (_cut(message) if len(message) >= _HEAD + _TAIL else None) or _object(message)


def _cut(message: bytes) -> dict[str, Any] | None:
    quoted, key, kind = _DATA
    at = message.find(quoted, 0, _HEAD)
    if at < 0:
        quoted, key, kind = _IMAGE
        at = message.find(quoted, 0, _HEAD)
    at += len(quoted)
    begin = message.find(b'"', at, at + 16) + 1
    if message[at:begin] not in _OPENINGS:
        return None
    if message.startswith(b"data:", begin):
        begin = message.find(b",", begin, begin + _HEAD) + 1
    end = message.find(b'"', max(begin, len(message) - _TAIL))
    rest = message[:begin] + message[end:]
    # An escape may hide a second such key.
    if end < 0 or b"\\" in rest or rest.find(quoted, begin) >= 0:
        return None
    fields = _object(rest)
    if fields is None or fields.get("type") != kind:
        return None
    left = fields.get(key)
    if left != "" and not (
        isinstance(left, str) and left.startswith("data:") and left.endswith(",")
    ):
        return None
    try:
        fields[key] = pybase64.b64decode(memoryview(message)[begin:end], validate=True)
    except ValueError:
        return None
    return fields


def _object(message: bytes) -> dict[str, Any] | None:
    try:
        fields = read_json(message)
    except orjson.JSONDecodeError:
        return None
    return fields if isinstance(fields, dict) else None


def _image_message(packet: Packet) -> tuple[bytes, ...]:
    return (
        b'{"type":"image","format":"',
        packet.codec.name.lower().encode(),
        b'","data":"',
        pybase64.b64encode(packet.data),
        b'","timestamp":',
        f"{packet.captured_ns / 1e9:.3f}}}".encode(),
    )


_FORM = Form("websocket-example", True, _image_message)
