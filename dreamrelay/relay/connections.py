"""What a connection may cost: how many there are, how slowly they read, in how many pieces they
write.

uvicorn's own protocols with a watchdog. It waits for a peer that does not read, and closing such a
peer politely waits for it for ever; only ``abort`` gets rid of it.
"""

import asyncio
import contextlib
import logging
from collections.abc import Iterator
from typing import Any, ClassVar

from starlette.responses import Response
from starlette.websockets import WebSocket
from uvicorn.protocols.http.h11_impl import H11Protocol
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol
from websockets.frames import Frame

from dreamrelay.errors import ProtocolError

logger = logging.getLogger(__name__)

MAX_FRAGMENTS = 16_384
"""Pieces of one message; empty ones cost the sender nothing and us a place in a list each."""

REQUEST_SECONDS = 30.0
"""To say what one wants, once connected."""

SPARE_CONNECTIONS = 128
"""Beside those that last: pages being loaded, and those who have not said what they want."""


class Slots:
    """So many connections that last may be open at once, WebSockets and MJPEG together."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.taken = 0

    def check(self) -> None:
        """Raise unless there is room.

        Raises:
            ProtocolError: there is none.
        """
        if self.taken >= self.limit:
            raise ProtocolError(f"{self.taken} connections are open: that is the limit")

    @contextlib.contextmanager
    def taking(self) -> Iterator[None]:
        """Hold a place while the ``with`` lasts."""
        self.taken += 1
        try:
            yield
        finally:
            self.taken -= 1


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
        if self._transport.get_write_buffer_size() < self._waiting:
            self.watch()  # slow, but it reads
            return
        peer = self._transport.get_extra_info("peername")
        logger.warning("%s has read nothing for %.1f s: cut off", peer, self._stall)
        self._transport.abort()


class WebSocketProtocol(WebSocketsSansIOProtocol):
    """uvicorn's own, watched, with its transport within reach of the application."""

    stall_seconds: ClassVar[float] = 10.0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        self.app_state = {**self.app_state, "transport": transport}
        self._watchdog = Watchdog(self.transport, self.stall_seconds)

    def connection_lost(self, exc: Exception | None) -> None:
        self._watchdog.stand_down()
        super().connection_lost(exc)

    def pause_writing(self) -> None:
        super().pause_writing()
        self._watchdog.watch()

    def resume_writing(self) -> None:
        super().resume_writing()
        self._watchdog.stand_down()

    def shutdown(self) -> None:
        super().shutdown()
        if self.transport.get_write_buffer_size():
            self._watchdog.watch()

    def send_receive_event_to_app(self) -> None:
        # uvicorn stops reading at each message until the application has taken it. Nearly always it
        # takes it at once, so one message may lie there: that saves each two calls to the kernel.
        paused, alone = self.read_paused, self.queue.empty()
        self.read_paused = paused or alone
        super().send_receive_event_to_app()
        if alone:
            self.read_paused = paused

    def handle_ping(self) -> None:
        if self.writable.is_set():
            super().handle_ping()
        else:
            # Somebody who asks and does not read the answers fills no buffer of ours.
            self.conn.data_to_send()

    def handle_cont(self, event: Frame) -> None:
        if len(self.frames) >= MAX_FRAGMENTS:
            self.frames = []
            self.conn.fail(1009, f"more than {MAX_FRAGMENTS} fragments")
            self.handle_parser_exception()
            return
        super().handle_cont(event)


class HttpProtocol(H11Protocol):
    """uvicorn's own, watched; one who connects and says nothing is not waited for."""

    stall_seconds: ClassVar[float] = 10.0
    most_connections: ClassVar[int] = 1024

    def connection_made(self, transport: Any) -> None:
        super().connection_made(transport)
        if len(self.connections) > self.most_connections:
            transport.abort()  # before the process runs out of files for those who are here
        self._watchdog = Watchdog(transport, self.stall_seconds)
        self._patience = self.loop.call_later(REQUEST_SECONDS, self._lose_patience)

    def _lose_patience(self) -> None:
        if self.cycle is None:
            self.transport.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        self._watchdog.stand_down()
        self._patience.cancel()
        super().connection_lost(exc)

    def handle_websocket_upgrade(self, event: Any) -> None:
        self._watchdog.stand_down()
        self._patience.cancel()
        super().handle_websocket_upgrade(event)

    def pause_writing(self) -> None:
        super().pause_writing()
        self._watchdog.watch()

    def resume_writing(self) -> None:
        super().resume_writing()
        self._watchdog.stand_down()


def protocols(
    stall_seconds: float, max_connections: int
) -> tuple[type[HttpProtocol], type[WebSocketProtocol]]:
    """The protocol classes for a server with these limits."""
    most = max_connections + SPARE_CONNECTIONS
    http = {"stall_seconds": stall_seconds, "most_connections": most}
    websocket = {"stall_seconds": stall_seconds}
    return (
        type("HttpProtocol", (HttpProtocol,), http),
        type("WebSocketProtocol", (WebSocketProtocol,), websocket),
    )
