"""The doors of StreamDiffusion-Web's page: its WebSocket, its MJPEG stream, its HTTP questions.

Each page is a stream of its own, named by the page's number: its own prompt, its own picture, its
own MJPEG. The worker of the default stream computes for all of them (``lending``), so one worker
serves several people and none of them changes another's picture.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol
from uuid import UUID

from fastapi import APIRouter, FastAPI, Request, WebSocket
from fastapi.responses import JSONResponse, Response, StreamingResponse
from starlette.websockets import WebSocketDisconnect

from dreamrelay.errors import DreamRelayError, EngineError, ProtocolError
from dreamrelay.hub import Hub, Stream
from dreamrelay.packet import Packet
from dreamrelay.protocol.messages import Dialect
from dreamrelay.protocol.page_settings import page_settings
from dreamrelay.protocol.streamdiffusion_web import (
    StreamDiffusionWebDialect,
    full,
    in_use,
    time_out,
)
from dreamrelay.relay.bodies import BodyError
from dreamrelay.relay.connections import deny
from dreamrelay.relay.dreamstream import Serve
from dreamrelay.relay.guard import grant_of
from dreamrelay.relay.http import BOUNDARY, error_response, parts
from dreamrelay.relay.lending import Lender
from dreamrelay.relay.limits import Slots
from dreamrelay.relay.uploads import FORM, read_upload
from dreamrelay.relay.voice import vocabulary

MAX_PICTURE_BYTES = 4 * 1024 * 1024
MAX_PICTURE_PIXELS = 16_000_000
MAX_SPEECH_BYTES = 10 * 1024 * 1024
MAX_SPEAKERS = 4
"""Recordings that may wait for the one that is being listened to."""


class Speech(Protocol):
    """Turns a recording into text."""

    def transcribe(self, data: bytes, vocabulary: Sequence[str]) -> str:
        """The words in an encoded recording. Blocks; called in a thread.

        Args:
            vocabulary: words and phrases to expect beside the commands.

        Raises:
            ProtocolError: it is no recording, or too long.
            DreamRelayError: nobody can listen to it now; says what to do.
        """


Refer = Callable[[Stream, Packet | None], None]
"""Has a stream's worker imitate a picture, or none; raises EngineError where it cannot."""


@dataclass(slots=True)
class _Session:
    """One page."""

    stream: Stream
    closed: asyncio.Event = field(default_factory=asyncio.Event)


@dataclass(frozen=True, slots=True)
class Offer:
    """What the operator offers to pages.

    Attributes:
        stream: whose worker computes for them.
        max_users: pages at once, 0 for any number.
        session_seconds: after which a page has to make room, None for never.
        refer: None while no worker imitates pictures.
        speech: None where nobody listens.
    """

    stream: str
    max_users: int = 0
    session_seconds: float | None = None
    refer: Refer | None = None
    speech: Speech | None = None


class StreamDiffusionWeb:
    """The doors, over one hub."""

    def __init__(self, hub: Hub, lender: Lender, serve: Serve, slots: Slots, offer: Offer) -> None:
        self._hub = hub
        self._lender = lender
        self._serve = serve
        self._slots = slots
        self._offer = offer
        self._sessions: dict[UUID, _Session] = {}
        self._listening = asyncio.Lock()
        self._speakers = 0

    def add(self, app: FastAPI) -> None:
        """Add the routes."""
        app.include_router(self._router())
        app.add_api_websocket_route("/api/ws/{user}", self._connect)

    def _router(self) -> APIRouter:
        router = APIRouter(prefix="/api")
        self._add_questions(router)
        self._add_reference(router)
        self._add_speech(router)
        return router

    # -- the page's session -----------------------------------------------------------------------

    async def _connect(self, websocket: WebSocket, user: str) -> None:
        try:
            number = UUID(user)
        except ValueError:
            text = f"expected a UUID after /api/ws/, got {user[:60]!r}"
            await deny(websocket, error_response(403, ProtocolError(text)))
            return
        if number in self._sessions or self._is_full:
            await websocket.accept()
            await self._part(websocket, in_use() if number in self._sessions else full())
            return
        try:
            async with asyncio.timeout(self._offer.session_seconds):
                await self._serve(
                    websocket,
                    lambda stream: self._session(number, stream),
                    str(number),
                    "producer",
                    ("output",),
                )
        except TimeoutError:
            await self._part(websocket, time_out())

    @property
    def _is_full(self) -> bool:
        return 0 < self._offer.max_users <= len(self._sessions)

    @contextlib.contextmanager
    def _session(self, number: UUID, stream: Stream) -> Iterator[Dialect]:
        """A page that may join has its session; whoever only knocks has none.

        Raises:
            ProtocolError: somebody was quicker.
        """
        if number in self._sessions or self._is_full:
            raise ProtocolError("another page has come first: start again")
        session = self._sessions[number] = _Session(stream)
        try:
            with self._lender.guest(stream):
                yield StreamDiffusionWebDialect(self._hub.limits)
        finally:
            del self._sessions[number]
            session.closed.set()
            for peer in tuple(stream.peers.values()):
                peer.wake()  # whoever looks sees that it is over
            self._hub.forget(stream)

    async def _part(self, websocket: WebSocket, last_words: str) -> None:
        with contextlib.suppress(WebSocketDisconnect, RuntimeError):  # it did not wait for that
            await websocket.send_text(last_words)
            await websocket.close()

    async def _pictures(self, session: _Session, address: str) -> AsyncIterator[bytes]:
        try:
            with self._slots.taking(address):
                async for piece in parts(session.stream, "output", session.closed):
                    yield piece
        finally:
            self._hub.forget(session.stream)

    def _add_questions(self, router: APIRouter) -> None:
        @router.get("/stream/{user}", summary="A page's results as MJPEG")
        async def stream(user: UUID, request: Request) -> Response:
            session = self._sessions.get(user)
            if session is None:
                error = ProtocolError("there is no such session: open its WebSocket first")
                return error_response(404, error)
            address = grant_of(request.scope).address
            self._slots.check(address)
            return StreamingResponse(
                self._pictures(session, address),
                media_type=f"multipart/x-mixed-replace;boundary={BOUNDARY}",
                headers={"Cache-Control": "no-cache", "X-Accel-Buffering": "no"},
            )

        @router.get("/queue", summary="How many pages are open")
        async def queue() -> dict[str, int]:
            return {"queue_size": len(self._sessions)}

        @router.get("/settings", summary="What a page can set")
        async def settings() -> dict[str, Any]:
            stream = self._hub.find(self._offer.stream)
            worker = stream.worker if stream else None
            return page_settings(
                stream.schema if stream else None,
                stream.values if stream else {},
                width=worker.width if worker else 0,
                height=worker.height if worker else 0,
                max_queue_size=self._offer.max_users,
            )

    # -- the picture to imitate -------------------------------------------------------------------

    def _add_reference(self, router: APIRouter) -> None:
        @router.post("/ip_ref_image", summary="Imitate this picture", openapi_extra=FORM)
        async def imitate(request: Request) -> Response:
            try:
                packet = Packet.of(await read_upload(request, MAX_PICTURE_BYTES))
                if packet.width * packet.height > MAX_PICTURE_PIXELS:
                    size = f"{packet.width}x{packet.height}"
                    raise BodyError(
                        400, f"expected at most {MAX_PICTURE_PIXELS} pixels, got {size}"
                    )
                self._refer(packet)
            except BodyError as error:
                return _failed(error.status, error)
            except (EngineError, ProtocolError) as error:
                return _failed(400, error)
            return _done("The picture is imitated from now on")

        @router.post("/ip_ref_image/clear", summary="Imitate nothing any more")
        async def clear() -> Response:
            try:
                self._refer(None)
            except (EngineError, ProtocolError) as error:
                return _failed(400, error)
            return _done("No picture is imitated any more")

    def _refer(self, packet: Packet | None) -> None:
        if self._offer.refer is None:
            raise EngineError("IP-Adapter is off: the worker imitates no pictures")
        self._offer.refer(self._hub.stream(self._offer.stream), packet)

    # -- speech -----------------------------------------------------------------------------------

    def _add_speech(self, router: APIRouter) -> None:
        @router.post("/stt", summary="The words in a recording", openapi_extra=FORM)
        async def listen(request: Request) -> Response:
            speech = self._offer.speech
            try:
                data = await read_upload(request, MAX_SPEECH_BYTES)
            except BodyError as error:
                return error_response(error.status, error)
            if speech is None:
                text = "nobody listens here: start the relay with --speech=auto"
                return error_response(503, ProtocolError(text))
            if self._speakers > MAX_SPEAKERS:
                return error_response(503, ProtocolError("too many speak at once: try again"))
            self._speakers += 1
            try:
                async with self._listening:
                    words = vocabulary(self._hub.find(self._offer.stream))
                    text = await asyncio.to_thread(speech.transcribe, data, words)
            except ProtocolError as error:
                return error_response(422, error)
            except DreamRelayError as error:  # not loaded, not installed: the text says what to do
                return error_response(503, error)
            finally:
                self._speakers -= 1
            return JSONResponse({"text": text})


def _done(message: str) -> JSONResponse:
    return JSONResponse({"status": "success", "message": message})


def _failed(status: int, error: DreamRelayError) -> JSONResponse:
    return JSONResponse({"status": "error", "message": str(error)}, status_code=status)
