"""What viewers are shown while no results come: chosen at the start, and over HTTP."""

import importlib.resources
import math
from pathlib import Path

import orjson
from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse, Response

from dreamrelay.config import RelaySettings
from dreamrelay.errors import ConfigError, ProtocolError
from dreamrelay.hub import Fallback, Hub
from dreamrelay.packet import Codec, Packet
from dreamrelay.relay.bodies import BodyError, read_body
from dreamrelay.relay.guard import grant_of
from dreamrelay.relay.http import StreamName, error_response

MAX_SLATE_BYTES = 4 * 1024 * 1024
MAX_BODY_BYTES = 4096


def fallback_of(settings: RelaySettings) -> Fallback:
    """What the settings choose for every stream.

    Raises:
        ConfigError: the slate cannot be read, or is no picture that viewers take.
    """
    return Fallback(settings.when_lost, settings.hold_seconds, _slate(settings.slate))


def _slate(name: str | None) -> Packet:
    if name is None:
        own = importlib.resources.files("dreamrelay.relay").joinpath("static", "slate.jpg")
        return Packet.of(own.read_bytes())
    path = Path(name).expanduser()
    try:
        with path.open("rb") as file:
            data = file.read(MAX_SLATE_BYTES + 1)
        if len(data) > MAX_SLATE_BYTES:
            raise ProtocolError(f"it has more than {MAX_SLATE_BYTES // 2**20} MB")
        packet = Packet.of(data)
        if packet.codec not in (Codec.JPEG, Codec.PNG):
            raise ProtocolError(f"it is a {packet.codec.name}")
        return packet
    except OSError as error:
        raise ConfigError(f"--slate={name}: cannot be read: {error.strerror or error}") from None
    except ProtocolError as error:
        raise ConfigError(f"--slate={name}: expected a JPEG or PNG: {error}") from None


def add_fallback(router: APIRouter, hub: Hub) -> None:
    """Add the routes of ``/streams/{name}/when-lost``."""

    @router.get("/streams/{name}/when-lost", summary="What is shown while no results come")
    async def get(name: StreamName) -> Response:
        stream = hub.find(name)
        if stream is None:
            return error_response(404, ProtocolError(f"there is no stream {name!r} yet"))
        return _described(stream.fall_back())

    @router.patch(
        "/streams/{name}/when-lost",
        summary="Choose it: when_lost (hold, pass, slate), hold_seconds",
        openapi_extra={
            "requestBody": {
                "required": True,
                "content": {"application/json": {"schema": {"type": "object"}}},
            }
        },
    )
    async def change(name: StreamName, request: Request) -> Response:
        try:
            when_lost, seconds = _choice(await read_body(request, MAX_BODY_BYTES, "a choice"))
            stream = hub.stream(name, grant_of(request.scope).address)
        except BodyError as error:
            return error_response(error.status, error)
        except orjson.JSONDecodeError as error:
            return error_response(400, ProtocolError(f"expected a JSON object: {error}"))
        try:
            return _described(stream.fall_back(when_lost, seconds))
        except ProtocolError as error:
            return error_response(422, error)


def _choice(body: bytes) -> tuple[str | None, float | None]:
    """Read ``{"when_lost": ..., "hold_seconds": ...}``, each of them if it is to be changed."""
    fields = orjson.loads(body)
    if not isinstance(fields, dict) or not fields.keys() & {"when_lost", "hold_seconds"}:
        raise BodyError(400, "expected a JSON object with when_lost or hold_seconds")
    if unknown := sorted(fields.keys() - {"when_lost", "hold_seconds"}):
        raise BodyError(422, f"expected when_lost and hold_seconds, got {unknown[0]!r:.60}")
    word, seconds = fields.get("when_lost"), fields.get("hold_seconds")
    if word is not None and not isinstance(word, str):
        raise BodyError(422, f"when_lost: expected a word, got {word!r:.40}")
    number = isinstance(seconds, int | float) and not isinstance(seconds, bool)
    if seconds is not None and not (number and math.isfinite(seconds)):
        raise BodyError(422, f"hold_seconds: expected a number of seconds, got {seconds!r:.40}")
    return word, seconds


def _described(fallback: Fallback) -> Response:
    return JSONResponse({"when_lost": fallback.when_lost, "hold_seconds": fallback.hold_seconds})
