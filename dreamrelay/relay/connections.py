"""What a connection may cost: how many there are, how slowly they read, in how many pieces they
write.

uvicorn's own protocols with a watchdog. It waits for a peer that does not read, and closing such a
peer politely waits for it for ever; only ``abort`` gets rid of it.
"""

import asyncio
import logging
import ssl
from asyncio.sslproto import SSLProtocol
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, ClassVar

import h11
from starlette.responses import Response
from starlette.types import Scope
from starlette.websockets import WebSocket
from uvicorn.protocols.http.h11_impl import H11Protocol
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol
from websockets.frames import Frame
from websockets.protocol import OPEN

from dreamrelay.relay.limits import Bucket, address_key, is_loopback
from dreamrelay.relay.limits import Slots as Slots

logger = logging.getLogger(__name__)

MAX_FRAGMENTS = 16_384
"""Pieces of one message; empty ones cost the sender nothing and us a place in a list each."""

CONTROL_FRAMES = 50.0
"""Pings and pongs a second of one peer: each costs us more than it costs the sender."""

KEEP = "keep"
"""Where the state of a connection has what says that somebody speaks on it who may."""

SPARE_CONNECTIONS = 128
"""Beside those that last: pages being loaded, and those who have not said what they want."""


@dataclass(frozen=True, slots=True)
class Limiting:
    """What a socket may cost.

    Attributes:
        stall_seconds: a peer that takes nothing for so long is cut off.
        request_seconds: for the head of a request to arrive, and for TLS to be agreed.
        sockets: open at once.
        sockets_each: of one address that is not this machine's; 0 is no limit.
        tls: None serves in the clear.
    """

    stall_seconds: float = 10.0
    request_seconds: float = 15.0
    sockets: int = 1024
    sockets_each: int = 0
    tls: ssl.SSLContext | None = None


@dataclass(slots=True)
class _Open:
    """A socket that is open.

    Attributes:
        address: it is counted by; empty for this machine's.
        known: somebody speaks on it who may do something here.
    """

    transport: asyncio.Transport
    address: str
    known: bool = False


class Sockets:
    """The open sockets, counted from their first moment, before anything was said on them.

    Where there is no room for one more, the one goes that has been there longest without showing
    that it may do anything here: honest programs show it with their first words. So nobody who only
    knocks, however slowly, keeps others out.
    """

    def __init__(self, limiting: Limiting) -> None:
        self._limiting = limiting
        self._addresses: Counter[str] = Counter()
        self.open: dict[object, _Open] = {}

    def opened(self, transport: asyncio.Transport) -> bool:
        """Count a socket; False if there is no room for it."""
        host = str((transport.get_extra_info("peername") or ("",))[0])
        address = "" if is_loopback(host) else address_key(host)
        each, most = self._limiting.sockets_each, self._limiting.sockets
        # Strangers leave a quarter free: nobody locks the operator out of the own machine.
        most -= most // 4 if address else 0
        room = True
        if address and each and self._addresses[address] >= each:
            room = self._make_room(address)
        elif len(self.open) >= most:
            room = self._make_room()
        self.open[_socket_of(transport)] = _Open(transport, address)
        self._addresses[address] += 1
        return room

    def keep(self, transport: asyncio.Transport) -> None:
        """Somebody who may do something here speaks on it."""
        found = self.open.get(_socket_of(transport))
        if found is not None:
            found.known = True

    def closed(self, transport: asyncio.Transport) -> None:
        found = self.open.pop(_socket_of(transport), None)
        if found is not None:
            self._addresses[found.address] -= 1
            if not self._addresses[found.address]:
                del self._addresses[found.address]

    def _make_room(self, address: str | None = None) -> bool:
        """Cut the oldest socket of nobody we know: of this address, or of the one with the most."""
        strangers = (
            found
            for found in self.open.values()
            if not found.known and address in (None, found.address)
        )
        found = max(strangers, key=lambda found: self._addresses[found.address], default=None)
        if found is None:
            return False
        self.closed(found.transport)
        found.transport.abort()
        return True


def _socket_of(transport: asyncio.BaseTransport) -> object:
    """What stays the same when TLS is put on a connection."""
    return transport.get_extra_info("socket")


async def deny(websocket: WebSocket, response: Response) -> None:
    """Answer a WebSocket's request by something else than a WebSocket."""
    await websocket.send_denial_response(response)
    transport = websocket.scope.get("state", {}).get("transport")
    if transport is not None:
        # To uvicorn this is an error of the application, which it would log as one.
        transport.get_protocol().handshake_complete = True


class Watchdog:
    """Cut off a peer that takes nothing of what waits for it for ``stall_seconds``."""

    def __init__(self, transport: asyncio.Transport, stall_seconds: float) -> None:
        self._transport = transport
        self._stall = stall_seconds
        self._timer: asyncio.TimerHandle | None = None
        self._waiting = 0

    def watch_the_rest(self) -> None:
        """All is said, and something of it may lie in the buffer still."""
        if self._timer is None and self._transport.get_write_buffer_size():
            self.watch()

    def watch(self) -> None:
        """The buffer is full."""
        self.stand_down()
        self._waiting = self._transport.get_write_buffer_size()
        self._timer = asyncio.get_running_loop().call_later(self._stall, self._look)

    def stand_down(self) -> None:
        """The buffer has drained, or the connection is gone."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _look(self) -> None:
        self._timer = None
        left = self._transport.get_write_buffer_size()
        if left < self._waiting:
            if left:
                self.watch()  # slow, but it reads
            return
        peer = self._transport.get_extra_info("peername")
        logger.warning("%s has read nothing for %.1f s: cut off", peer, self._stall)
        self._transport.abort()


def keep_open(scope: Scope) -> None:
    """Who asks may do something here: its socket makes no room for others."""
    keep = scope.get("state", {}).get(KEEP)
    if keep is not None:
        keep()


def limit_messages(websocket: WebSocket, size: int) -> None:
    """Set the largest message that is taken from now on."""
    transport = websocket.scope.get("state", {}).get("transport")
    if transport is not None:
        transport.get_protocol().conn.max_message_size = size


class WebSocketProtocol(WebSocketsSansIOProtocol):
    """uvicorn's own, watched, with its transport within reach of the application."""

    limiting: ClassVar[Limiting]
    sockets: ClassVar[Sockets]

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        self.app_state = {**self.app_state, "transport": transport}
        self._watchdog = Watchdog(self.transport, self.limiting.stall_seconds)
        self._control_frames = Bucket(CONTROL_FRAMES)

    def connection_lost(self, exc: Exception | None) -> None:
        self.sockets.closed(self.transport)
        self._watchdog.stand_down()
        super().connection_lost(exc)

    def pause_writing(self) -> None:
        super().pause_writing()
        self._watchdog.watch()

    def resume_writing(self) -> None:
        super().resume_writing()
        self._watchdog.stand_down()

    def shutdown(self) -> None:
        if self.handshake_complete and self.conn.state is not OPEN:
            self.transport.close()  # both have said goodbye; uvicorn would say it again, and raise
            return
        super().shutdown()
        if self.transport.get_write_buffer_size():
            self._watchdog.watch()

    def refuse_head(self) -> None:
        """The library cannot read what another has read: a line or a list of headers is too long.

        It would say nothing, and wait for ever.
        """
        self.handshake_complete = self.close_sent = True
        status = "HTTP/1.1 431 Request Header Fields Too Large"
        self.transport.write(f"{status}\r\nConnection: close\r\nContent-Length: 0\r\n\r\n".encode())
        self.transport.close()

    def send_receive_event_to_app(self) -> None:
        data = self.frames[0] if len(self.frames) == 1 else b"".join(self.frames)
        self.frames = []
        if self.close_sent:
            return  # nobody hears it any more
        if self.curr_msg_data_type == "bytes":
            self.hear(data)
            return
        try:
            text = data.decode()
        except UnicodeDecodeError:
            self.no_text()
        else:
            self.hear(text)

    def no_text(self) -> None:
        """What should be text is none. uvicorn's own logs each as an error, with its traceback."""
        self.conn.fail(1007, "expected UTF-8")
        self.handle_parser_exception()

    def hear(self, message: str | bytes) -> None:
        """Pass a message on to the application."""
        alone = self.queue.empty()
        if isinstance(message, str):
            self.queue.put_nowait({"type": "websocket.receive", "text": message})
        else:
            self.queue.put_nowait({"type": "websocket.receive", "bytes": message})
        # uvicorn stops reading at each message until the application has taken it. Nearly always it
        # takes it at once, so one message may lie there: that saves each two calls to the kernel.
        if not alone and not self.read_paused:
            self.read_paused = True
            self.transport.pause_reading()

    def handle_ping(self) -> None:
        if self._too_many_control_frames():
            return
        if self.writable.is_set():
            super().handle_ping()
        else:
            # Somebody who asks and does not read the answers fills no buffer of ours.
            self.conn.data_to_send()

    def handle_pong(self, event: Frame) -> None:
        if not self._too_many_control_frames():
            super().handle_pong(event)

    def _too_many_control_frames(self) -> bool:
        if self._control_frames.try_take():
            return False
        if not self.transport.is_closing():
            logger.warning("%s sends nothing but pings: cut off", self.client)
            self.transport.abort()
        return True

    def handle_cont(self, event: Frame) -> None:
        if len(self.frames) >= MAX_FRAGMENTS:
            self.frames = []
            self.conn.fail(1009, f"more than {MAX_FRAGMENTS} fragments")
            self.handle_parser_exception()
            return
        super().handle_cont(event)


class HttpProtocol(H11Protocol):
    """uvicorn's own, watched; one who connects and says nothing is not waited for."""

    limiting: ClassVar[Limiting]
    sockets: ClassVar[Sockets]

    def connection_made(self, transport: Any) -> None:
        super().connection_made(transport)
        self.app_state = {**self.app_state, KEEP: partial(self.sockets.keep, transport)}
        self._watchdog = Watchdog(transport, self.limiting.stall_seconds)
        self._patience: asyncio.TimerHandle | None = None
        if self.limiting.tls is None and not self.sockets.opened(transport):
            transport.abort()  # before the process runs out of files for those who are here
        self._wait()

    def _wait(self) -> None:
        """For the head of a request, from its first byte on (of the first one: from before), or for
        the rest of a body that nobody reads any more.
        """
        if self._patience is None:
            self._patience = self.loop.call_later(
                self.limiting.request_seconds, self.transport.abort
            )

    def _wait_no_more(self) -> None:
        if self._patience is not None:
            self._patience.cancel()
            self._patience = None

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        state = self.conn.their_state
        answered = self.cycle is not None and self.cycle.response_complete
        if self.transport.is_closing() or not (
            state is h11.IDLE or (answered and state is h11.SEND_BODY)
        ):
            self._wait_no_more()
        else:
            self._wait()

    def on_response_complete(self) -> None:
        super().on_response_complete()
        self._watchdog.watch_the_rest()

    def send_400_response(self, msg: str) -> None:
        if self.cycle is not None and not self.cycle.response_complete:
            # A good head and a bad body: whoever works on the head has nobody to answer to.
            self.cycle.disconnected = True
            self.cycle.message_event.set()
        if self.conn.our_state in (h11.IDLE, h11.SEND_RESPONSE):
            super().send_400_response(msg)
        else:
            self.transport.close()
        self._watchdog.watch_the_rest()

    def connection_lost(self, exc: Exception | None) -> None:
        self.sockets.closed(self.transport)
        self._watchdog.stand_down()
        self._wait_no_more()
        super().connection_lost(exc)

    def handle_websocket_upgrade(self, event: Any) -> None:
        self._watchdog.stand_down()
        self._wait_no_more()
        super().handle_websocket_upgrade(event)
        protocol: Any = self.transport.get_protocol()
        if not protocol.handshake_initiated:
            protocol.refuse_head()

    def pause_writing(self) -> None:
        super().pause_writing()
        self._watchdog.watch()

    def resume_writing(self) -> None:
        super().resume_writing()
        self._watchdog.stand_down()


class TlsDoor(SSLProtocol):
    """A connection while TLS is being agreed, which asyncio's servers neither count nor hurry."""

    def __init__(
        self, loop: Any, inner: asyncio.Protocol, limiting: Limiting, sockets: Sockets
    ) -> None:
        assert limiting.tls is not None
        super().__init__(
            loop,
            inner,
            limiting.tls,
            None,  # type: ignore[arg-type]  # nobody waits for it
            server_side=True,
            ssl_handshake_timeout=limiting.request_seconds,  # type: ignore[arg-type]  # seconds
        )
        self._sockets = sockets
        self._raw: Any = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._raw = transport
        super().connection_made(transport)
        if not self._sockets.opened(self._raw):
            self._raw.abort()

    def connection_lost(self, exc: BaseException | None) -> None:
        if self._raw is not None:
            self._sockets.closed(self._raw)
        super().connection_lost(exc)


def protocols(
    limiting: Limiting, base: type[WebSocketProtocol] = WebSocketProtocol
) -> tuple[Callable[..., asyncio.BaseProtocol], type[Any]]:
    """What makes the protocol of a connection, and the class it changes to for a WebSocket.

    Args:
        base: of the latter.
    """
    sockets = Sockets(limiting)
    shared = {"limiting": limiting, "sockets": sockets}
    http = type("HttpProtocol", (HttpProtocol,), shared)
    websocket = type("WebSocketProtocol", (base,), shared)
    if limiting.tls is None:
        return http, websocket

    def behind_tls(
        config: Any, server_state: Any, app_state: Any, _loop: Any = None
    ) -> asyncio.BaseProtocol:
        loop = _loop or asyncio.get_running_loop()
        inner = http(config, server_state, app_state, loop)
        return TlsDoor(loop, inner, limiting, sockets)

    return behind_tls, websocket
