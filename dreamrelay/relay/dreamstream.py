"""The doors of DreamStream's pages: their WebSockets, and what they ask over HTTP."""

import asyncio
import contextlib
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager
from typing import Any, Protocol

from fastapi import APIRouter, FastAPI, WebSocket
from starlette.websockets import WebSocketDisconnect

from dreamrelay.errors import AuthError, LimitError, ParameterError
from dreamrelay.hub import Hub, Stream
from dreamrelay.packet import Track
from dreamrelay.protocol.dreamstream import (
    DEFAULT_PROCESSOR,
    DEFAULT_STRENGTH,
    LISTING_PREFIX,
    NO_OPENING,
    PROCESSORS,
    Broadcast,
    BroadcasterDialect,
    Directory,
    DreamStreamDialect,
    ListingDialect,
    Standing,
    ViewerDialect,
    invalid_processor,
    processor_at_work,
    processor_patch,
    read_opening,
)
from dreamrelay.protocol.messages import Dialect, ReplyDue, Role
from dreamrelay.relay.auth import Grant
from dreamrelay.relay.connections import deny, limit_messages
from dreamrelay.relay.guard import grant_of
from dreamrelay.relay.http import error_response
from dreamrelay.relay.lending import Lender
from dreamrelay.relay.limits import Slots

FIRST_WORDS = {
    "prompt": "A painting in the style of van Gogh's 'Starry Night'",
    "negative_prompt": "ugly, deformed, disfigured, poor details, bad anatomy",
}
"""What a stream of theirs begins with, unless somebody has said something else."""

REPLAY_SECONDS = 1.0
"""A viewer at one address is greeted with the last picture of a stream once in so long."""

MOST_REPLAYS = 1024
"""Addresses and streams that are remembered for that."""

LISTING_MESSAGES = 100
"""Of one page that lists streams; it needs one."""

OPENING_BYTES = 64 * 1024
"""Of a message of one who has yet to say what it wants, or only asks which streams there are."""

INVALID_CLIENT = "Invalid client type"

FIRST_WORD_SECONDS = 10.0
"""For one that came without a role to say what it wants."""

_ROLES: dict[str, Role] = {"broadcaster": "producer", "viewer": "viewer"}


class Serve(Protocol):
    """Serves a peer at a stream to its end; ``prepare`` makes its dialect once it may join."""

    async def __call__(
        self,
        websocket: WebSocket,
        prepare: Callable[[Stream], AbstractContextManager[Dialect]],
        name: str,
        role: Role,
        tracks: tuple[Track, ...] = (),
        credit: int | None = None,
    ) -> None: ...


class _Seen(Directory):
    """The streams that somebody may look at."""

    def __init__(self, hub: Hub, grant: Grant, broadcasts: Mapping[str, Broadcast]) -> None:
        self._hub = hub
        self._grant = grant
        self._broadcasts = broadcasts

    def active(self) -> list[str]:
        streams = (s for s in self._hub.streams.values() if self._grant.allows("view", s.name))
        return sorted(stream.name for stream in streams if _count(stream, "producer"))

    def standing(self, stream: str) -> Standing | None:
        found = self._hub.find(stream) if self._grant.allows("view", stream) else None
        known = self._broadcasts.get(stream)
        return (
            Standing.of(found.status(), begun=known is not None and known.begun) if found else None
        )


class Replays:
    """Who was greeted with a stream's last picture, and when."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._last: dict[tuple[str, str], float] = {}

    def allow(self, address: str, stream: str) -> bool:
        """Whether a viewer may be greeted so now; if it may, the next one has to wait."""
        now = self._clock()
        if len(self._last) >= MOST_REPLAYS:
            fresh = {k: t for k, t in self._last.items() if now - t < REPLAY_SECONDS}
            self._last = fresh if len(fresh) < MOST_REPLAYS else {}
        if now - self._last.get((address, stream), -REPLAY_SECONDS) < REPLAY_SECONDS:
            return False
        self._last[address, stream] = now
        return True


class DreamStream:
    """The doors, over one hub."""

    def __init__(self, hub: Hub, lender: Lender, serve: Serve, slots: Slots) -> None:
        self._hub = hub
        self._lender = lender
        self._serve = serve
        self._slots = slots
        self._broadcasts: dict[str, Broadcast] = {}
        self._replays = Replays()

    def add(self, app: FastAPI) -> None:
        """Add the routes."""
        app.include_router(self._router())
        app.add_api_websocket_route("/ws", self._connect_by_words)
        app.add_api_websocket_route("/ws/{client_type}/{stream}", self._connect)
        app.add_api_websocket_route("/ws//{client_type}/{stream}", self._connect)  # the home page's
        for client_type in _ROLES:  # pages older than the /ws in front
            app.add_api_websocket_route(f"/{client_type}/{{stream}}", self._connect)

    def _router(self) -> APIRouter:
        router = APIRouter()

        @router.get("/streams", summary="All streams, in our words and in DreamStream's")
        async def streams() -> dict[str, Any]:
            status = [stream.status() for stream in self._hub.streams.values()]
            return {"streams": status, "active_streams": self.active_streams()}

        @router.get("/processors", summary="What DreamStream's pages may choose from")
        async def processors() -> dict[str, Any]:
            return {
                "available_processors": list(PROCESSORS),
                "default_processor": DEFAULT_PROCESSOR,
            }

        return router

    def active_streams(self) -> list[dict[str, Any]]:
        """Streams that somebody is at, as the seed's server lists them."""
        listed = []
        for stream in self._hub.streams.values():
            broadcasters, viewers = _count(stream, "producer"), _count(stream, "viewer")
            if broadcasters or viewers:
                known = self._broadcasts.get(stream.name)
                listed.append(
                    {
                        "id": stream.name,
                        "broadcasters": broadcasters,
                        "viewers": viewers,
                        "processor_type": known.processor if known else DEFAULT_PROCESSOR,
                        "strength": stream.values.get("strength", DEFAULT_STRENGTH),
                    }
                )
        return listed

    # -- WebSockets -------------------------------------------------------------------------------

    async def _connect(
        self, websocket: WebSocket, stream: str, client_type: str | None = None
    ) -> None:
        client_type = client_type or websocket.url.path.split("/")[1]
        if client_type not in _ROLES:
            await websocket.accept()
            await websocket.close(1008, INVALID_CLIENT)
            return
        if client_type == "viewer" and stream.startswith(LISTING_PREFIX):
            await self._list(websocket, stream)
            return
        await self._join(websocket, client_type, stream)

    async def _connect_by_words(self, websocket: WebSocket) -> None:
        """The way of an older server: the first message says who it is, and where."""
        limit_messages(websocket, OPENING_BYTES)
        await websocket.accept()
        try:
            async with asyncio.timeout(FIRST_WORD_SECONDS):
                opening = read_opening(await websocket.receive_text())
        except (TimeoutError, KeyError):  # KeyError: it was bytes
            opening = None
        except WebSocketDisconnect:
            return
        if opening is None:
            with contextlib.suppress(WebSocketDisconnect, RuntimeError):
                await websocket.send_text(NO_OPENING)
                await websocket.close(1008, "expected start_stream or join_stream first")
            return
        limit_messages(websocket, self._hub.limits.message_bytes)
        client_type, stream = opening
        await self._join(websocket, client_type, stream, by_words=True)

    async def _join(
        self, websocket: WebSocket, client_type: str, stream: str, *, by_words: bool = False
    ) -> None:
        @contextlib.contextmanager
        def prepare(found: Stream) -> Iterator[Dialect]:
            with self._broadcast(found) as broadcast, self._lender.guest(found, FIRST_WORDS):
                dialect = self._dialect(websocket, client_type, found, broadcast)
                dialect.came_by_words = by_words
                yield dialect

        await self._serve(websocket, prepare, stream, _ROLES[client_type], ("output",))

    @contextlib.contextmanager
    def _broadcast(self, stream: Stream) -> Iterator[Broadcast]:
        """What the connections of a stream share; forgotten with the last of them, and so is the
        stream, unless somebody had said something about it before they came.
        """
        broadcast = self._broadcasts.get(stream.name)
        if broadcast is None:
            ours = not stream.peers and stream.revision == 0
            broadcast = self._broadcasts[stream.name] = Broadcast(stream.name, ours=ours)
        broadcast.connections += 1
        try:
            yield broadcast
        finally:
            broadcast.connections -= 1
            if broadcast.connections == 0:
                del self._broadcasts[stream.name]
                if broadcast.ours:
                    self._hub.forget(stream)

    def _dialect(
        self, websocket: WebSocket, client_type: str, stream: Stream, broadcast: Broadcast
    ) -> DreamStreamDialect:
        grant = grant_of(websocket.scope)
        directory = _Seen(self._hub, grant, self._broadcasts)
        asked = websocket.query_params.get("processor_type", "")
        problem = invalid_processor(asked) if asked and asked not in PROCESSORS else ""
        if client_type == "broadcaster":
            broadcast.begun = True
            wanted = "" if problem else asked
            if grant.allows("control", stream.name):
                self._begin(stream, wanted)
            at_work = processor_at_work(stream.schema, stream.values)
            broadcast.processor = at_work or wanted or broadcast.processor
            return BroadcasterDialect(broadcast, directory, self._hub.limits, problem=problem)
        here = websocket.client.host if websocket.client else ""
        address = grant.address or here
        seen = stream.tracks["output"].last
        if seen is not None and self._replays.allow(address, stream.name):
            seen = None
        return ViewerDialect(broadcast, directory, self._hub.limits, problem=problem, seen=seen)

    def _begin(self, stream: Stream, processor: str) -> None:
        """A stream that nobody has said anything about begins as the seed's does."""
        patch = processor_patch(stream.schema, processor)
        if not stream.values.get("prompt") and stream.upstream is None:  # its home knows better
            patch |= {n: text for n, text in FIRST_WORDS.items() if not stream.values.get(n)}
        for name, value in patch.items():
            with contextlib.suppress(ParameterError):  # this worker has no such parameter
                stream.update_parameters({name: value}, "dreamstream")

    async def _list(self, websocket: WebSocket, name: str) -> None:
        """Answer the page that lists streams: it is at no stream, and none is made for it."""
        grant = grant_of(websocket.scope)
        try:
            grant.check("view", None)
            self._slots.check(grant.address)
        except (AuthError, LimitError) as error:
            await deny(websocket, error_response(error.status, error))
            return
        limit_messages(websocket, OPENING_BYTES)
        with self._slots.taking(grant.address):
            await self._answer_listing(websocket, name, grant)

    async def _answer_listing(self, websocket: WebSocket, name: str, grant: Grant) -> None:
        directory = _Seen(self._hub, grant, self._broadcasts)
        dialect = ListingDialect(Broadcast(name), directory, self._hub.limits)
        await websocket.accept()
        with contextlib.suppress(WebSocketDisconnect, RuntimeError):
            for _ in range(LISTING_MESSAGES):
                message = await websocket.receive()
                if message["type"] == "websocket.disconnect":
                    return
                heard = message.get("text")
                for event in dialect.receive(
                    message.get("bytes") or b"" if heard is None else heard
                ):
                    if isinstance(event, ReplyDue):
                        await websocket.send({"type": "websocket.send", "text": event.message})
            await websocket.close(1008, "too many questions")


def _count(stream: Stream, role: Role) -> int:
    if stream.upstream is not None:
        return int(stream.status()[f"{role}s"])  # those at all relays
    return sum(peer.heads for peer in stream.peers.values() if peer.role == role)
