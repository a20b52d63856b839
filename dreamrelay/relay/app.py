"""The relay as a program: one ASGI app over one hub, served on one port."""

import asyncio
import contextlib
import logging
import signal
import socket
import sys
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from types import FrameType
from typing import Any

import uvicorn
from fastapi import FastAPI, WebSocket
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from dreamrelay import __version__
from dreamrelay.config import RelaySettings
from dreamrelay.errors import ConfigError, ParameterError, ProtocolError
from dreamrelay.hub import Hub
from dreamrelay.packet import Track
from dreamrelay.protocol.messages import ROLES, Dialect, Limits, Role
from dreamrelay.protocol.native import MAX_CREDIT, NativeDialect
from dreamrelay.protocol.websocket_example import WebSocketExampleDialect
from dreamrelay.relay.auth import Gate, GateMiddleware, is_loopback, make_token
from dreamrelay.relay.connections import Slots, deny, protocols
from dreamrelay.relay.http import error_response, make_router
from dreamrelay.relay.reference import add_reference
from dreamrelay.relay.websocket import WebSocketPeer, parse_tracks

logger = logging.getLogger(__name__)

DEFAULT_STREAM = "default"
GREETING_GRACE = 0.06
NOT_SENT_LOW_WATER = 64 * 1024
"""Bytes the kernel may hold unsent: without this its buffer is 4 MB of old pictures."""

PING_SECONDS = 20.0
"""Between two pings to a peer, and from a ping to the end of a peer that does not answer."""

DRAIN_SECONDS = 3
"""What peers have to go when the relay stops."""


class _Server(uvicorn.Server):
    """uvicorn's own, which tells us before it drains, and ends without re-raising the signal."""

    def __init__(
        self, config: uvicorn.Config, ready: Callable[[], Any], closing: Callable[[], None]
    ) -> None:
        super().__init__(config)
        self._ready = ready
        self._closing = closing

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self._ready()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        self._closing()
        await super().shutdown(sockets)
        for connection in tuple(self.server_state.connections):
            connection.transport.abort()  # it had its time

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        signals = [signal.SIGINT, signal.SIGTERM]
        if sys.platform == "win32":
            signals.append(signal.SIGBREAK)
        before = {number: signal.signal(number, self._on_signal) for number in signals}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        self.handle_exit(number, frame)


class Relay:
    """One relay: bind, serve, stop.

    ``bind`` may be called before ``serve`` to learn the port; ``stop`` may be called from any
    thread.
    """

    def __init__(self, settings: RelaySettings) -> None:
        self.settings = settings
        limits = Limits(
            message_bytes=int(settings.max_message_mb * 1024 * 1024),
            pixels=int(settings.max_megapixels * 1e6),
        )
        self.hub = Hub(limits)
        self.token = settings.token
        if self.token is None and not is_loopback(settings.host):
            self.token = make_token()
        self._sockets: list[socket.socket] = []
        self._closing = asyncio.Event()
        self._server: _Server | None = None
        self._slots = Slots(settings.max_connections)
        self.app = self._make_app()

    # -- the app ----------------------------------------------------------------------------------

    def _make_app(self) -> FastAPI:
        gate = Gate(self.token, frozenset(self.settings.allowed_origins))
        app = FastAPI(
            title="dreamrelay",
            version=__version__,
            docs_url=None,  # its pages load scripts from elsewhere
            redoc_url=None,
            lifespan=self._lifespan,
        )
        app.add_middleware(GateMiddleware, gate=gate)
        router = make_router(self.hub, gate, self._slots, self._closing)
        add_reference(router, self.hub)
        app.include_router(router)
        app.add_api_websocket_route("/", self._websocket_example)
        app.add_api_websocket_route("/streams/{stream}/{role}", self._native)
        app.add_api_websocket_route("/{path:path}", _no_such_path)
        app.add_exception_handler(ProtocolError, _on_error)
        app.add_exception_handler(HTTPException, _on_error)
        app.add_exception_handler(RequestValidationError, _on_error)
        return app

    @contextlib.asynccontextmanager
    async def _lifespan(self, _: FastAPI) -> AsyncIterator[None]:
        async with asyncio.TaskGroup() as tasks:
            ticker = tasks.create_task(self._tick())
            yield
            ticker.cancel()

    async def _tick(self) -> None:
        while True:
            await asyncio.sleep(1)
            self.hub.tick()

    async def _websocket_example(self, websocket: WebSocket) -> None:
        grace = GREETING_GRACE if self.settings.greeting == "patient" else 0.0
        dialect = WebSocketExampleDialect(self.hub.limits, greeting_grace=grace)
        name = websocket.query_params.get("stream", DEFAULT_STREAM)
        await self._serve_peer(websocket, dialect, name, "producer")

    async def _native(self, websocket: WebSocket, stream: str, role: str) -> None:
        if role not in ROLES:
            text = f"expected a role of {', '.join(ROLES)}, got {role[:40]!r}"
            await _deny(websocket, 404, ProtocolError(text))
            return
        known: Role = next(r for r in ROLES if r == role)
        tracks: tuple[Track, ...] = ()
        credit = 1
        query = websocket.query_params
        try:
            if known == "viewer":
                tracks = parse_tracks(query.get("track", "output"))
                text = query.get("credit", "1")
                if not text.isdecimal() or int(text) > MAX_CREDIT:
                    raise ProtocolError(f"credit: expected 0 to {MAX_CREDIT}, got {text[:20]!r}")
                credit = int(text)
        except ProtocolError as error:
            await _deny(websocket, 400, error)
            return
        dialect = NativeDialect(known, self.hub.limits)
        await self._serve_peer(websocket, dialect, stream, known, tracks, credit)

    async def _serve_peer(
        self,
        websocket: WebSocket,
        dialect: Dialect,
        name: str,
        role: Role,
        tracks: tuple[Track, ...] = (),
        credit: int | None = None,
    ) -> None:
        try:
            self._slots.check()
        except ProtocolError as error:
            await _deny(websocket, 503, error)
            return
        try:
            stream = self.hub.stream(name)
        except ProtocolError as error:
            await _deny(websocket, 409, error)
            return
        peer = WebSocketPeer(websocket, dialect, stream, role, self.hub.limits)
        peer.name = websocket.query_params.get("name", "")[:200]
        logger.info("%s joined stream %s as %s", peer.id, stream.name, role)
        with self._slots.taking():
            stream.connections += 1
            try:
                await peer.run(tracks, credit)
            finally:
                stream.connections -= 1
                logger.info("%s left stream %s", peer.id, stream.name)

    # -- the port ---------------------------------------------------------------------------------

    def bind(self) -> int:
        """Take the port and return it; idempotent.

        On ``localhost`` both loopback addresses are taken, because clients try either first.

        Raises:
            ConfigError: the port is in use, or the address is not this machine's.
        """
        if self._sockets:
            return int(self._sockets[0].getsockname()[1])
        host, port = self.settings.host, self.settings.port
        try:
            self._sockets.append(_listen(host, port))
        except (OSError, UnicodeError) as error:  # the latter: no name at all
            reason = error.strerror if isinstance(error, OSError) else None
            raise ConfigError(
                f"cannot listen on {host}:{port}: {reason or error}"
                f" (is another relay running? try --port={port + 1 if port else 0})"
            ) from None
        bound = int(self._sockets[0].getsockname()[1])
        if host.lower() in ("localhost", "127.0.0.1"):
            with contextlib.suppress(OSError):  # no IPv6 here, or somebody else's: IPv4 is enough
                self._sockets.append(_listen("::1", bound))
        return bound

    @property
    def url(self) -> str:
        """Where a browser finds the studio; with the token, if peers from elsewhere need one."""
        host = self.settings.host
        shown = {"0.0.0.0": _own_address, "::": _own_address}.get(host, lambda: host)()
        if ":" in shown:
            shown = f"[{shown}]"
        token = f"?token={self.token}" if self.token and not is_loopback(host) else ""
        return f"http://{shown}:{self.bind()}/{token}"

    async def serve(self, ready: Callable[[], Any] = lambda: None) -> None:
        """Serve until a signal or ``stop``; then drain: peers are told, and have 3 s to go.

        Args:
            ready: called once the port answers.
        """
        self.bind()
        http, websocket = protocols(self.settings.stall_seconds, self.settings.max_connections)
        config = uvicorn.Config(
            self.app,
            http=http,
            ws=websocket,
            ws_max_size=self.hub.limits.message_bytes,
            ws_per_message_deflate=False,  # costs a factor of 170 on JPEG
            ws_ping_interval=PING_SECONDS,
            ws_ping_timeout=PING_SECONDS,
            timeout_graceful_shutdown=DRAIN_SECONDS,
            timeout_keep_alive=30,
            log_config=None,
            access_log=False,
            server_header=False,
        )
        self._server = _Server(config, ready, self._closing_now)
        await self._server.serve(sockets=self._sockets)

    def _closing_now(self) -> None:
        self._closing.set()
        for stream in self.hub.streams.values():
            for peer in tuple(stream.peers.values()):
                peer.wake()

    def stop(self) -> None:
        """End ``serve``; from any thread."""
        if self._server is not None:
            self._server.should_exit = True

    @contextlib.contextmanager
    def running(self) -> Iterator[str]:
        """Serve in a thread of its own while the ``with`` lasts; yields the URL.

        Raises:
            ConfigError: as ``bind``.
        """
        self.bind()
        started = threading.Event()

        def serve() -> None:
            try:
                asyncio.run(self.serve(started.set))
            finally:
                started.set()

        thread = threading.Thread(target=serve, name="relay", daemon=True)
        thread.start()
        try:
            started.wait(30)
            yield self.url
        finally:
            self.stop()
            thread.join(10)


async def _deny(websocket: WebSocket, status: int, error: ProtocolError) -> None:
    """Refuse a WebSocket before it is one, with a body that says why."""
    await deny(websocket, error_response(status, error))


async def _no_such_path(websocket: WebSocket, path: str) -> None:
    text = f"there is no WebSocket at /{path[:60]}: expected / or /streams/{{stream}}/{{role}}"
    await _deny(websocket, 404, ProtocolError(text))


async def _on_error(_: Request, error: Exception) -> Response:
    """One form for all refusals: ``{"error": {code, message, problems?}}``."""
    if isinstance(error, HTTPException):
        refusal = error_response(error.status_code, ProtocolError(str(error.detail)))
        refusal.headers.update(error.headers or {})
        return refusal
    if isinstance(error, RequestValidationError):
        problems = {str(e["loc"][-1]): str(e["msg"]) for e in error.errors()}
        return error_response(422, ParameterError(problems))
    if isinstance(error, ProtocolError):
        return error_response(409, error)
    raise error


def _listen(host: str, port: int) -> socket.socket:
    """Open a listening socket whose connections hold little unsent data."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    try:
        if sys.platform != "win32":  # there it would let two relays share the port
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        if hasattr(socket, "TCP_NOTSENT_LOWAT"):  # inherited by accepted connections
            option = socket.TCP_NOTSENT_LOWAT
            listener.setsockopt(socket.IPPROTO_TCP, option, NOT_SENT_LOW_WATER)
        listener.bind((host, port))
        listener.listen(128)
        listener.setblocking(False)
    except OSError:
        listener.close()
        raise
    return listener


def _own_address() -> str:
    """The address by which others reach this machine; nothing is sent to find out."""
    with contextlib.suppress(OSError), socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.connect(("192.0.2.1", 9))  # a documentation address: only the route is looked up
        return str(probe.getsockname()[0])
    return "127.0.0.1"
