"""Which way messages and pictures take between the sockets and the peers: the short one, or ASGI's.

The short one leans on parts of uvicorn and websockets that nobody promised us. So before it is
taken it has a conversation with a socket that is none; where a word is wrong the other is taken.
"""

import asyncio
import base64
import logging
from collections.abc import Coroutine
from typing import Any, Literal

import uvicorn
from uvicorn.server import ServerState
from websockets.frames import Frame, Opcode

from dreamrelay.errors import ConfigError
from dreamrelay.relay.connections import Limiting, Sockets, WebSocketProtocol
from dreamrelay.relay.direct import DirectProtocol
from dreamrelay.relay.lines import Receiver, frame, line_of

logger = logging.getLogger(__name__)

Fanout = Literal["auto", "direct", "stock"]

_REQUEST = (
    b"GET / HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Key: " + base64.b64encode(bytes(16)) + b"\r\nSec-WebSocket-Version: 13\r\n\r\n"
)


def websocket_protocol(fanout: Fanout) -> type[WebSocketProtocol]:
    """What serves WebSockets: the short way if it is asked for, or if ``auto`` finds it in order.

    Raises:
        ConfigError: it is asked for and is not in order.
    """
    if fanout == "stock":
        return WebSocketProtocol
    problem = trouble()
    if not problem:
        return DirectProtocol
    if fanout == "direct":
        raise ConfigError(f"--fanout=direct: it does not work here ({problem}); use auto or stock")
    logger.warning("pictures go out by ASGI, which costs about twice as much: %s", problem)
    return WebSocketProtocol


def trouble() -> str:
    """What is wrong with the short way under the libraries that are installed; empty if nothing."""
    try:
        return _converse()
    except (AttributeError, LookupError, TypeError, ValueError, RuntimeError) as error:
        return f"{type(error).__name__}: {error}"


def _converse() -> str:
    for size in (0, 125, 126, 65_535, 65_536):
        text, data = "x" * size, b"\xff" * size
        if frame(text) != Frame(Opcode.TEXT, text.encode()).serialize(mask=False):
            return f"a text of {size} bytes is framed otherwise"
        if frame(data) != Frame(Opcode.BINARY, data).serialize(mask=False):
            return f"{size} bytes are framed otherwise"
    wire, hears = _Wire(), _Hears()
    protocol = _protocol(wire)
    protocol.data_received(_REQUEST)
    _finish(protocol.send({"type": "websocket.accept"}))
    line = line_of(protocol.scope)  # type: ignore[arg-type]  # uvicorn has a type of its own
    if line is None or not line.attach(hears):
        return "the handshake ends otherwise"
    line.go_on()
    expected = ["first", b"\x00" * 70_000, "in two", "last"]
    spoken = (
        _masked(Opcode.TEXT, b"first"),
        _masked(Opcode.BINARY, bytes(70_000)),
        _masked(Opcode.TEXT, b"in ", fin=False),
        _masked(Opcode.PING, b"there?"),
        _masked(Opcode.CONT, b"two"),
        _masked(Opcode.TEXT, b"last"),
    )
    wire.written.clear()
    for data in spoken:
        for at in range(0, len(data), 40_000):
            piece = data[at : at + 40_000]
            protocol.get_buffer(-1)[: len(piece)] = piece
            protocol.buffer_updated(len(piece))
    if hears.messages != expected:
        return f"of {len(expected)} messages {len(hears.messages)} came, or others"
    if wire.written != [Frame(Opcode.PONG, b"there?").serialize(mask=False)]:
        return "a ping is answered otherwise"
    if not line.can_send():
        return "nothing can be sent"
    line.detach()
    _finish(protocol.send({"type": "websocket.close", "code": 1000, "reason": ""}))
    return "a picture would follow the last word" if line.can_send() else ""


class _Hears(Receiver):
    """Remembers."""

    def __init__(self) -> None:
        self.messages: list[str | bytes] = []

    def take(self, message: str | bytes) -> bool:
        self.messages.append(message)
        return True

    def take_text(self, message: bytes) -> bool:
        return self.take(message.decode())

    def drained(self) -> None: ...


class _Wire(asyncio.Transport):
    """A socket that is none."""

    def __init__(self) -> None:
        super().__init__()
        self.written: list[bytes] = []

    def write(self, data: Any) -> None:
        self.written.append(bytes(data))

    def is_closing(self) -> bool:
        return False

    def pause_reading(self) -> None: ...

    def resume_reading(self) -> None: ...

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None: ...


class _Loop:
    """Begins nothing."""

    def create_task(self, work: Coroutine[Any, Any, Any]) -> "_Loop":
        work.close()
        return self

    def add_done_callback(self, _: Any) -> None: ...

    def call_later(self, *_: Any) -> None: ...


async def _nothing(scope: Any, receive: Any, send: Any) -> None: ...


def _protocol(wire: _Wire) -> DirectProtocol:
    limiting = Limiting()
    shared = {"limiting": limiting, "sockets": Sockets(limiting)}
    make: type[DirectProtocol] = type("DirectProtocol", (DirectProtocol,), shared)
    config = uvicorn.Config(
        _nothing, ws_ping_interval=None, ws_per_message_deflate=False, log_config=None
    )
    config.load()
    protocol = make(config, ServerState(), {}, _Loop())  # type: ignore[arg-type]
    protocol.connection_made(wire)
    return protocol


def _finish(work: Coroutine[Any, Any, None]) -> None:
    """Run what has nothing to wait for."""
    try:
        work.send(None)
    except StopIteration:
        return
    work.close()
    raise RuntimeError("it waits where there is nothing to wait for")


def _masked(opcode: Opcode, data: bytes, *, fin: bool = True) -> bytes:
    return Frame(opcode, data, fin).serialize(mask=True)
