"""HTTP beside the WebSockets: the studio, pictures by URL, parameters, health and metrics.

Nothing here touches a disk or a pixel while a stream runs: the page's files are read at start,
pictures are the packets' own bytes.
"""

import asyncio
import importlib.resources
import itertools
import mimetypes
from collections.abc import AsyncIterator
from typing import Annotated, Any, Literal

import orjson
from fastapi import APIRouter, Path, Query, Request
from fastapi.responses import (
    HTMLResponse,
    JSONResponse,
    PlainTextResponse,
    RedirectResponse,
    Response,
    StreamingResponse,
)
from pydantic import BaseModel

from dreamrelay import __version__
from dreamrelay.errors import DreamRelayError, ParameterError, ProtocolError
from dreamrelay.hub import Hub, Peer, Stream
from dreamrelay.packet import Packet, Track
from dreamrelay.protocol.messages import Notice, ParametersChanged, Refused
from dreamrelay.protocol.native import error_fields
from dreamrelay.protocol.texts import read_json
from dreamrelay.relay.bodies import BodyError, read_body
from dreamrelay.relay.federation import Federation
from dreamrelay.relay.guard import grant_of
from dreamrelay.relay.limits import Slots
from dreamrelay.relay.metrics import render

MAX_PATCH_BYTES = 64 * 1024

HOME_SECONDS = 2
"""What a stream's home has to answer."""

BOUNDARY = "frame"
_numbers = itertools.count(1)

StreamName = Annotated[str, Path(pattern=r"^[A-Za-z0-9_.-]{1,64}$", description="A stream's name")]
TrackName = Annotated[Track, Query(description="input: the camera side, output: the diffused side")]


class Problem(BaseModel):
    """What was wrong; ``problems`` names the parameters at fault."""

    code: str
    message: str
    problems: dict[str, str] | None = None


class Refusal(BaseModel):
    """The body of every refusal."""

    error: Problem


class PictureClient(Peer):
    """Somebody who looks at a track over plain HTTP. Its socket's own pace is its credit."""

    role: Literal["viewer"] = "viewer"

    def __init__(self) -> None:
        self.id = f"http-{next(_numbers)}"
        self.name = "mjpeg"
        self.something = asyncio.Event()

    def notify(self, notice: Notice) -> None:
        """Pictures are all that fits through here."""

    def wake(self) -> None:
        self.something.set()


def part(packet: Packet) -> bytes:
    """One part of an MJPEG stream: made once, shared by all.

    The *next* boundary is already in it: browsers show a part when they have seen its end.
    """
    head = f"Content-Type: {packet.codec.mime}\r\nContent-Length: {len(packet.data)}\r\n\r\n"
    return b"".join((head.encode(), packet.data, f"\r\n--{BOUNDARY}\r\n".encode()))


async def parts(stream: Stream, track: Track, closing: asyncio.Event) -> AsyncIterator[bytes]:
    """Yield the parts of a track until the relay closes; the client's going away cancels it."""
    client = PictureClient()
    stream.join(client, (track,))
    try:
        yield f"--{BOUNDARY}\r\n".encode()
        while not closing.is_set():
            await client.something.wait()
            client.something.clear()
            subscription = stream.subscription(client, track)
            packet = subscription.take() if subscription else None
            if packet is not None:
                yield packet.wire("mjpeg", part)
    finally:
        stream.leave(client)


class _Asker(Peer):
    """Somebody who waits for what becomes of a patch."""

    role: Literal["viewer"] = "viewer"

    def __init__(self) -> None:
        self.id = f"http-{next(_numbers)}"
        self.answer: asyncio.Future[ParametersChanged] = asyncio.get_running_loop().create_future()

    def notify(self, notice: Notice) -> None:
        if self.answer.done():
            return
        match notice:
            case ParametersChanged(id=self.id):
                self.answer.set_result(notice)
            case Refused(error, self.id):
                self.answer.set_exception(error)

    def wake(self) -> None:
        """It watches nothing."""


async def changed(stream: Stream, patch: dict[str, Any]) -> ParametersChanged:
    """Apply a patch; at a mirror its home answers.

    Raises:
        ParameterError: what is wrong with it.
        ProtocolError: the home did not answer; it may still come to hold.
    """
    asker = _Asker()
    stream.update_parameters(patch, "rest", id=asker.id, peer=asker)
    try:
        async with asyncio.timeout(HOME_SECONDS):
            return await asker.answer
    except TimeoutError:
        raise ProtocolError(
            f"the relay {stream.mirrored.home}, where the stream has its home, has not answered "
            "yet: ask for the parameters in a moment"
        ) from None


async def newest(stream: Stream, track: Track) -> Packet | None:
    """The last picture of a track; at a mirror that nobody watches its home is asked for it."""
    last = stream.tracks[track].last
    if last is not None or stream.upstream is None:
        return last
    client = PictureClient()
    stream.join(client, (track,))
    try:
        async with asyncio.timeout(HOME_SECONDS):
            await client.something.wait()
        return stream.tracks[track].last
    except TimeoutError:
        return None
    finally:
        stream.leave(client)


def load_static() -> dict[str, tuple[bytes, str]]:
    """Read the studio's files: name to content and type."""
    files: dict[str, tuple[bytes, str]] = {}
    for item in importlib.resources.files("dreamrelay.relay").joinpath("static").iterdir():
        if item.is_file():
            kind = mimetypes.guess_type(item.name)[0] or "application/octet-stream"
            # What the registry of a Windows machine says about .js keeps modules from loading.
            if item.name.endswith(".js"):
                kind = "text/javascript"
            text = kind.startswith("text/") or kind.endswith(("json", "xml"))
            files[item.name] = (item.read_bytes(), kind + ("; charset=utf-8" if text else ""))
    return files


def error_response(status: int, error: DreamRelayError) -> JSONResponse:
    return JSONResponse({"error": error_fields(error)}, status_code=status)


def _not_there(what: str) -> JSONResponse:
    return error_response(404, ProtocolError(what))


def make_router(
    hub: Hub, slots: Slots, closing: asyncio.Event, federation: Federation | None = None
) -> APIRouter:
    """Build the routes over one hub.

    Args:
        slots: places for connections that last.
        closing: set when the relay stops; endless answers end then.
        federation: this relay among others, if it has a backplane.
    """
    router = APIRouter(responses={"4XX": {"model": Refusal, "description": "Why not"}})
    _add_pages(router, hub, federation)
    _add_status(router, hub, federation)
    _add_pictures(router, hub, slots, closing)
    _add_parameters(router, hub)
    return router


def _status(hub: Hub, federation: Federation | None) -> dict[str, Any]:
    return {
        "status": "ok",
        "service": "livestream-processor-websocket",  # as DreamStream's pages know it
        "server": "dreamrelay",
        "version": __version__,
        "streams": [stream.status() for stream in hub.streams.values()],
        "backplane": None if federation is None else federation.described(),
    }


def _add_pages(router: APIRouter, hub: Hub, federation: Federation | None) -> None:
    static = load_static()

    def page(name: str) -> Response:
        if name not in static:
            return _not_there(f"{name} is not installed")
        content, kind = static[name]
        response = Response(content, media_type=kind)
        response.headers["Cache-Control"] = "no-cache"
        return response

    @router.get("/", summary="The studio, or the relay's status as JSON")
    async def index(request: Request) -> Response:
        html = "text/html" in request.headers.get("accept", "")
        response = page("index.html") if html else JSONResponse(_status(hub, federation))
        response.headers["Vary"] = "Accept"
        return response

    @router.get("/static/{name}", include_in_schema=False)
    async def static_file(name: str) -> Response:
        if name not in static:
            return _not_there(f"there is no {name[:60]}")
        content, kind = static[name]
        return Response(content, media_type=kind, headers={"Cache-Control": "no-cache"})

    @router.get("/favicon.ico", include_in_schema=False)
    async def favicon() -> Response:
        return RedirectResponse("/static/favicon.svg")

    @router.get(
        "/streams/{name}/view",
        summary="Output only, full window, transparent: for OBS",
        response_class=HTMLResponse,
    )
    async def view(name: StreamName) -> Response:
        return page("view.html")


def _add_status(router: APIRouter, hub: Hub, federation: Federation | None) -> None:
    @router.get("/healthz", summary="Whether the relay lives")
    async def healthz() -> dict[str, str]:
        return {"status": "ok", "version": __version__}

    @router.get("/metrics", summary="Prometheus metrics", response_class=PlainTextResponse)
    async def metrics() -> Response:
        page = render(hub, federation)
        return Response(page, media_type="text/plain; version=0.0.4; charset=utf-8")

    @router.get("/streams/{name}", summary="One stream: status and parameters")
    async def stream_status(name: StreamName) -> Response:
        stream = hub.find(name)
        if stream is None:
            return _not_there(f"there is no stream {name!r} yet")
        fields = {"parameters": stream.values, "revision": stream.revision}
        return JSONResponse({**stream.status(), **fields})

    @router.get("/streams/{name}/latency", summary="Where the time of its pictures goes")
    async def latency(name: StreamName) -> Response:
        stream = hub.find(name)
        if stream is None:
            return _not_there(f"there is no stream {name!r} yet")
        return JSONResponse({"stream": name, **stream.timing.report()})


def _add_pictures(router: APIRouter, hub: Hub, slots: Slots, closing: asyncio.Event) -> None:
    @router.get("/streams/{name}/mjpeg", summary="A track as MJPEG, under a stable URL")
    async def mjpeg(name: StreamName, request: Request, track: TrackName = "output") -> Response:
        address = grant_of(request.scope).address
        slots.check(address)
        hub.stream(name, address)  # may refuse; what comes after the head of the answer may not

        async def counted() -> AsyncIterator[bytes]:
            with slots.taking(address):
                async for piece in parts(hub.stream(name, address), track, closing):
                    yield piece

        return StreamingResponse(
            counted(),
            media_type=f"multipart/x-mixed-replace; boundary={BOUNDARY}",
            headers={"Cache-Control": "no-store", "X-Accel-Buffering": "no"},
        )

    @router.get("/streams/{name}/snapshot.jpg", summary="The last picture of a track")
    async def snapshot(name: StreamName, track: TrackName = "output") -> Response:
        stream = hub.find(name)
        packet = await newest(stream, track) if stream else None
        if packet is None:
            return _not_there(f"there is no {track} picture on stream {name!r} yet")
        headers = {
            "Cache-Control": "no-store",
            "X-Sequence": str(packet.seq),
            "X-Revision": str(packet.revision),
        }
        return Response(packet.data, media_type=packet.codec.mime, headers=headers)


def _add_parameters(router: APIRouter, hub: Hub) -> None:
    @router.get("/streams/{name}/parameters", summary="Values in force")
    async def parameters(name: StreamName) -> Response:
        stream = hub.find(name)
        if stream is None:
            return _not_there(f"there is no stream {name!r} yet")
        return JSONResponse({"values": stream.values, "revision": stream.revision})

    @router.patch(
        "/streams/{name}/parameters",
        summary="Change some: all of the patch or nothing",
        openapi_extra={
            "requestBody": {
                "required": True,
                "content": {"application/json": {"schema": {"type": "object"}}},
            }
        },
    )
    async def change_parameters(name: StreamName, request: Request) -> Response:
        try:
            patch = read_json(await read_body(request, MAX_PATCH_BYTES, "a patch"))
            orjson.dumps([[[[patch]]]])  # everybody will be told
        except BodyError as error:
            return error_response(error.status, error)
        except orjson.JSONEncodeError:
            return error_response(400, ProtocolError("expected JSON that is nested less deep"))
        except orjson.JSONDecodeError as error:
            return error_response(400, ProtocolError(f"expected a JSON object: {error}"))
        if not isinstance(patch, dict):
            return error_response(400, ProtocolError("expected a JSON object of parameters"))
        try:
            stream = hub.stream(name, grant_of(request.scope).address)
            notice = await changed(stream, patch)
        except ParameterError as error:
            return error_response(422, error)
        except ProtocolError as error:
            return error_response(409, error)
        return JSONResponse({"values": notice.values, "revision": notice.revision})

    @router.get("/streams/{name}/parameters/schema", summary="JSON Schema of the parameters")
    async def schema(name: StreamName) -> Response:
        stream = hub.find(name)
        if stream is None or stream.schema is None:
            return _not_there(f"no worker has said what stream {name!r} can do yet")
        return JSONResponse(dict(stream.schema))
