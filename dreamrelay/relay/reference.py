"""A picture for the workers to imitate, over HTTP: put, shown, removed, or taken from a stream."""

from typing import Annotated, Any

from fastapi import APIRouter, Query, Request
from fastapi.responses import JSONResponse, Response

from dreamrelay.errors import EngineError, ProtocolError
from dreamrelay.hub import Hub
from dreamrelay.packet import Packet
from dreamrelay.relay.bodies import BodyError, read_body
from dreamrelay.relay.guard import grant_of
from dreamrelay.relay.http import StreamName, error_response

MAX_BYTES = 4 * 1024 * 1024
MAX_PIXELS = 16_000_000

Other = Annotated[
    str | None,
    Query(
        alias="from",
        pattern=r"^[A-Za-z0-9_.-]{1,64}$",
        description="A stream whose last result is to be imitated; the body is then empty",
    ),
]


def add_reference(router: APIRouter, hub: Hub) -> None:
    """Add the routes of ``/streams/{name}/reference``."""

    @router.put("/streams/{name}/reference", summary="Have the worker imitate a picture")
    async def put(name: StreamName, request: Request, other: Other = None) -> Response:
        grant = grant_of(request.scope)
        try:
            if other is None:
                packet = uploaded(await read_body(request, MAX_BYTES, "a picture"))
            else:
                grant.check("view", other)
                packet = _last_result(hub, other)
            hub.stream(name, grant.address).refer(packet)
        except BodyError as error:
            return error_response(error.status, error)
        except ProtocolError as error:
            return error_response(400, error)
        except EngineError as error:
            return error_response(409, error)
        return JSONResponse(_described(packet))

    @router.delete("/streams/{name}/reference", summary="Imitate nothing any more")
    async def delete(name: StreamName) -> Response:
        stream = hub.find(name)
        if stream is not None:
            stream.refer(None)
        return JSONResponse({"reference": False})

    @router.get("/streams/{name}/reference", summary="The picture that is imitated")
    async def get(name: StreamName) -> Response:
        stream = hub.find(name)
        if stream is None or stream.reference is None:
            error = ProtocolError(f"no picture is imitated on stream {name!r}")
            return error_response(404, error)
        packet = stream.reference
        headers = {"Cache-Control": "no-store", "X-Content-Type-Options": "nosniff"}
        return Response(packet.data, media_type=packet.codec.mime, headers=headers)


def uploaded(data: bytes) -> Packet:
    """The packet of an uploaded picture, whose size its first bytes tell.

    Raises:
        ProtocolError: no picture, or one of too many pixels.
    """
    packet = Packet.of(data)
    if packet.width * packet.height > MAX_PIXELS:
        raise ProtocolError(
            f"expected a picture of at most {MAX_PIXELS} pixels, got {packet.width}x{packet.height}"
        )
    return packet


def _last_result(hub: Hub, name: str) -> Packet:
    stream = hub.find(name)
    packet = stream.tracks["output"].last if stream else None
    if packet is None:
        raise ProtocolError(f"there is no output picture on stream {name!r} yet")
    return packet


def _described(packet: Packet) -> dict[str, Any]:
    return {"reference": True, "width": packet.width, "height": packet.height}
