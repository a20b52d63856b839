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
from starlette.middleware.cors import CORSMiddleware
from starlette.requests import Request
from starlette.responses import Response
from starlette.websockets import WebSocketState

from dreamrelay import __version__
from dreamrelay.config import RelaySettings
from dreamrelay.errors import (
    AuthError,
    ConfigError,
    DreamRelayError,
    LimitError,
    ParameterError,
    ProtocolError,
)
from dreamrelay.hub import Hub, Stream
from dreamrelay.packet import Track
from dreamrelay.protocol.messages import ROLES, Dialect, Limits, Role
from dreamrelay.protocol.native import MAX_CREDIT, MAX_TEXT, NativeDialect
from dreamrelay.protocol.websocket_example import WebSocketExampleDialect
from dreamrelay.relay.auth import Grant
from dreamrelay.relay.connections import (
    SPARE_CONNECTIONS,
    Limiting,
    deny,
    keep_open,
    limit_messages,
    protocols,
)
from dreamrelay.relay.dreamstream import DreamStream
from dreamrelay.relay.fallback import add_fallback, fallback_of
from dreamrelay.relay.fanout import websocket_protocol
from dreamrelay.relay.federation import join_cluster
from dreamrelay.relay.guard import BlackOut, Guard, first_token, grant_of
from dreamrelay.relay.http import error_response, make_router
from dreamrelay.relay.lending import Lender
from dreamrelay.relay.limits import Allowance, Slots
from dreamrelay.relay.opening import Opening
from dreamrelay.relay.reference import add_reference
from dreamrelay.relay.streamdiffusion_web import Offer, Speech, StreamDiffusionWeb
from dreamrelay.relay.voice import Ear, make_voice_router
from dreamrelay.relay.websocket import ROLE_NEEDS, WebSocketPeer, parse_tracks
from dreamrelay.speech import SpeechService

logger = logging.getLogger(__name__)

DEFAULT_STREAM = "default"
GREETING_GRACE = 0.06
NOT_SENT_LOW_WATER = 64 * 1024
"""Bytes the kernel may hold unsent: without this its buffer is 4 MB of old pictures."""

OTHER_FAMILY = {"localhost": "::1", "127.0.0.1": "::1", "::": "0.0.0.0"}
"""What is listened on as well: clients try either of ``localhost`` first, and ``::`` means all."""

SPARE_EACH = 32
"""Sockets of one address beside those that last: a page is loaded over several."""

LIBRARY_LOGGERS = ("uvicorn.error", "uvicorn.access", "uvicorn.asgi", "websockets.server")

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

    def __init__(self, settings: RelaySettings, *, speech: Speech | None = None) -> None:
        self.settings = settings
        self.speech = SpeechService(settings.speech)
        self._speech = speech or (Ear(self.speech) if self.speech.enabled else None)
        limits = Limits(
            message_bytes=int(settings.max_message_mb * 1024 * 1024),
            pixels=int(settings.max_megapixels * 1e6),
            text=settings.max_text,
            streams=settings.max_streams,
            streams_each=settings.max_streams_per_address,
        )
        self.hub = Hub(
            limits,
            call_later=lambda seconds, call: asyncio.get_running_loop().call_later(seconds, call),
            fallback=fallback_of(settings),
        )
        self.federation = join_cluster(self.hub, settings)
        self.opening = Opening(settings)
        self._websocket_protocol = websocket_protocol(settings.fanout)
        self._sockets: list[socket.socket] = []
        self._closing = asyncio.Event()
        self._server: _Server | None = None
        self._slots = Slots(
            Allowance(
                settings.max_connections,
                settings.max_connections_per_address,
                settings.max_messages_per_second,
            )
        )
        self._lender = Lender(self.hub, DEFAULT_STREAM)
        self.app = self._make_app()

    # -- the app ----------------------------------------------------------------------------------

    def _make_app(self) -> FastAPI:
        gate = self.opening.gate
        app = FastAPI(
            title="dreamrelay",
            version=__version__,
            docs_url=None,  # its pages load scripts from elsewhere
            redoc_url=None,
            lifespan=self._lifespan,
            responses={"4XX": {"description": "Why not"}, 503: {"description": "Not now"}},
        )
        upload_bytes = int(self.settings.max_upload_mb * 1024 * 1024)
        app.add_middleware(Guard, gate=gate, slots=self._slots, upload_bytes=upload_bytes)
        if gate.origins:  # outside of the guard: a browser asks first, without a token
            app.add_middleware(
                CORSMiddleware,
                allow_origins=sorted(gate.origins),
                allow_methods=["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE"],
                allow_headers=["Authorization", "Content-Type"],
                max_age=600,
            )
        router = make_router(self.hub, self._slots, self._closing, self.federation)
        add_reference(router, self.hub)
        add_fallback(router, self.hub)
        app.include_router(router)
        app.include_router(make_voice_router(self.hub, self.speech))
        app.add_api_websocket_route("/", self._websocket_example)
        app.add_api_websocket_route("/streams/{stream}/{role}", self._native)
        DreamStream(self.hub, self._lender, self._serve_peer, self._slots).add(app)
        offer = Offer(
            DEFAULT_STREAM,
            self.settings.max_users,
            self.settings.session_seconds,
            Stream.refer,
            self._speech,
        )
        StreamDiffusionWeb(self.hub, self._lender, self._serve_peer, self._slots, offer).add(app)
        app.add_api_websocket_route("/{path:path}", _no_such_path)
        for refusal in (ProtocolError, AuthError, LimitError):
            app.add_exception_handler(refusal, _on_error)
        app.add_exception_handler(HTTPException, _on_error)
        app.add_exception_handler(RequestValidationError, _on_error)
        return app

    @contextlib.asynccontextmanager
    async def _lifespan(self, _: FastAPI) -> AsyncIterator[None]:
        async with asyncio.TaskGroup() as tasks:
            ticker = tasks.create_task(self._tick())
            carrier = tasks.create_task(self.federation.run()) if self.federation else None
            yield
            if self.federation is not None and carrier is not None:
                await self.federation.close()
                carrier.cancel()
            ticker.cancel()
            await asyncio.to_thread(self.speech.close)

    async def _tick(self) -> None:
        while True:
            await asyncio.sleep(1)
            self.hub.tick()
            if self.federation is not None:
                self.federation.tick()
            self._lender.tick()

    async def _websocket_example(self, websocket: WebSocket) -> None:
        grace = GREETING_GRACE if self.settings.greeting == "patient" else 0.0
        dialect = WebSocketExampleDialect(self.hub.limits, greeting_grace=grace)
        name = websocket.query_params.get("stream", DEFAULT_STREAM)
        ready = contextlib.nullcontext(dialect)
        joins = dialect.joins_at_once
        await self._serve_peer(websocket, lambda _: ready, name, "producer", joins_at_once=joins)

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
                if not text.isdecimal() or len(text) > 9 or int(text) > MAX_CREDIT:
                    raise ProtocolError(f"credit: expected 0 to {MAX_CREDIT}, got {text[:20]!r}")
                credit = int(text)
        except ProtocolError as error:
            await _deny(websocket, 400, error)
            return
        ready = contextlib.nullcontext(NativeDialect(known, self.hub.limits))
        await self._serve_peer(websocket, lambda _: ready, stream, known, tracks, credit)

    async def _serve_peer(
        self,
        websocket: WebSocket,
        prepare: Callable[[Stream], contextlib.AbstractContextManager[Dialect]],
        name: str,
        role: Role,
        tracks: tuple[Track, ...] = (),
        credit: int | None = None,
        *,
        joins_at_once: bool = True,
    ) -> None:
        address = grant_of(websocket.scope).address
        try:
            self._slots.check(address)
            grant = await self._named(websocket)  # who is nobody yet takes nobody's place
            self._slots.check(address)
            with self._slots.taking(address):
                if joins_at_once:
                    grant.check(ROLE_NEEDS[role], name)
                elif not (grant.permissions and grant.reaches(name)):
                    raise AuthError(f"this token is for other streams than {name[:64]!r}")
                if not (grant.allows("publish", name) or grant.allows("work", name)):
                    limit_messages(websocket, MAX_TEXT)  # who sends no pictures needs no room
                if not grant.allows("view", name):
                    tracks = ()  # a broadcaster that may not see what is made of its pictures
                stream = self.hub.stream(name, address)
                throttle = self._slots.throttle(address)
                with prepare(stream) as dialect:
                    peer = WebSocketPeer(
                        websocket, dialect, stream, role, self.hub.limits, grant, throttle
                    )
                    peer.name = websocket.query_params.get("name", "")[:200]
                    await self._host(peer, stream, tracks, credit)
        except (AuthError, LimitError) as error:
            await _deny(websocket, error.status, error)
        except ProtocolError as error:
            await _deny(websocket, 409, error)

    async def _named(self, websocket: WebSocket) -> Grant:
        """Who it is; for one who said that it will say so, after its first message.

        Raises:
            AuthError: it said something else.
        """
        grant = grant_of(websocket.scope)
        if not websocket.scope["state"]["unnamed"]:
            return grant
        token = await first_token(websocket, self.hub.limits.message_bytes)
        found = None if token is None else self.opening.gate.keys.find(token)
        if found is None:
            raise AuthError('expected {"type": "auth", "token": ...} first', status=401)
        keep_open(websocket.scope)
        return found.at(grant.address)

    async def _host(
        self, peer: WebSocketPeer, stream: Stream, tracks: tuple[Track, ...], credit: int | None
    ) -> None:
        """Have a peer at a stream to its end."""
        logger.info("%s joined stream %s as %s", peer.id, stream.name, peer.role)
        stream.connections += 1
        try:
            await peer.run(tracks, credit)
        finally:
            stream.connections -= 1
            logger.info("%s left stream %s", peer.id, stream.name)

    # -- the port ---------------------------------------------------------------------------------

    def bind(self) -> int:
        """Take the ports and return the first; idempotent.

        On ``localhost`` both loopback addresses are taken, because clients try either first.

        Raises:
            ConfigError: the port is in use, or the address is not this machine's.
        """
        if not self._sockets:
            try:
                for port in (self.settings.port, *self.settings.more_ports):
                    self._take_port(self.settings.host, port)
            except ConfigError:
                while self._sockets:
                    self._sockets.pop().close()
                raise
        return int(self._sockets[0].getsockname()[1])

    def _take_port(self, host: str, port: int) -> None:
        try:
            listener = _listen(host, port)
        except (OSError, UnicodeError) as error:  # the latter: no name at all
            reason = error.strerror if isinstance(error, OSError) else None
            raise ConfigError(
                f"cannot listen on {host}:{port}: {reason or error}"
                f" (is another relay running? try --port={port + 1 if port else 0})"
            ) from None
        self._sockets.append(listener)
        other = OTHER_FAMILY.get(host.lower())
        if other is not None:
            bound = int(listener.getsockname()[1])
            with contextlib.suppress(OSError):  # not here, or somebody else's: one is enough
                self._sockets.append(_listen(other, bound))

    @property
    def url(self) -> str:
        """Where a browser finds the studio; with the token, if peers from elsewhere need one."""
        return self.opening.link(self.bind())

    def announcement(self, *, to_people: bool) -> tuple[str, list[str]]:
        """Where the relay is, and lines about how it is opened.

        Args:
            to_people: somebody reads it now. A token that the operator gave goes into no journal;
                one that was made up can be had nowhere else.
        """
        opening = self.opening
        shown = opening.made_token is not None or to_people
        lines = []
        if opening.shows_token:
            where = "in that link" if shown else "that you gave"
            local = (
                ""
                if self.settings.behind_proxy or not self.settings.trust_local
                else ("; this one does not")
            )
            who = "other machines need" if local else "everybody needs"
            lines.append(f"{who} the token {where}{local}")
        if opening.certificate is not None:
            lines.append(f"certificate SHA-256 {opening.certificate.fingerprint}")
            lines.append(
                "our programs connect with --tls-fingerprint and that; a browser asks once"
            )
        return opening.link(self.bind(), with_token=shown), lines

    @property
    def token(self) -> str | None:
        """What opens everything: the one that was given, or made up because none was."""
        return self.opening.token

    async def serve(self, ready: Callable[[], Any] = lambda: None) -> None:
        """Serve until a signal or ``stop``; then drain: peers are told, and have 3 s to go.

        Args:
            ready: called once the port answers.

        Raises:
            ConfigError: the backplane's server refuses us, or what we would send.
        """
        self.bind()
        if self.federation is not None:
            await self.federation.backplane.start()
        settings = self.settings
        most = settings.max_connections + SPARE_CONNECTIONS
        each = settings.max_connections_per_address
        tls = self.opening.certificate.context if self.opening.certificate else None
        http, websocket = protocols(
            Limiting(
                settings.stall_seconds,
                settings.request_seconds,
                most,
                # Those that do not last, too; behind a proxy all come from its address.
                0 if settings.behind_proxy or not each else 2 * each + SPARE_EACH,
                tls,
            ),
            self._websocket_protocol,
        )
        config = uvicorn.Config(
            self.app,
            http=http,  # type: ignore[arg-type]  # it makes one, and is not always a class
            ws=websocket,
            proxy_headers=False,  # the gate reads them, where a proxy was announced
            h11_max_incomplete_event_size=settings.max_header_kb * 1024,
            ws_max_size=self.hub.limits.message_bytes,
            ws_per_message_deflate=False,  # costs a factor of 170 on JPEG
            ws_ping_interval=settings.ping_seconds,
            ws_ping_timeout=settings.ping_seconds,
            timeout_graceful_shutdown=DRAIN_SECONDS,
            timeout_keep_alive=30,
            log_config=None,
            access_log=False,
            server_header=False,
        )
        self._server = _Server(config, ready, self._closing_now)
        black_out = BlackOut(self.opening.gate.keys.secrets)
        loggers = [logging.getLogger(name) for name in LIBRARY_LOGGERS]
        for library in loggers:
            library.addFilter(black_out)
        try:
            await self._server.serve(sockets=self._sockets)
        finally:
            for library in loggers:
                library.removeFilter(black_out)

    def _closing_now(self) -> None:
        self._closing.set()
        if self.federation is not None:
            self.federation.say_goodbye()
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


async def _deny(websocket: WebSocket, status: int, error: DreamRelayError) -> None:
    """Refuse a WebSocket before it is one, with a body that says why; or end it, with a reason."""
    if websocket.application_state is WebSocketState.CONNECTING:
        await deny(websocket, error_response(status, error))
    elif websocket.application_state is WebSocketState.CONNECTED:
        await websocket.close(1008, str(error)[:120])


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
    if isinstance(error, AuthError | LimitError):
        return error_response(error.status, error)
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
        _watch_over(listener)
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


def _watch_over(listener: socket.socket) -> None:
    """Have the kernel ask those who say nothing whether they are still there.

    A WebSocket has its pings; this is for MJPEG clients whose machine has gone without a word.
    """
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for name, value in (("TCP_KEEPIDLE", 30), ("TCP_KEEPINTVL", 10), ("TCP_KEEPCNT", 3)):
        option = getattr(socket, name, None)
        if option is not None:
            with contextlib.suppress(OSError):
                listener.setsockopt(socket.IPPROTO_TCP, option, value)
