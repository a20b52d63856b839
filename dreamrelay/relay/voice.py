"""Speech over HTTP: a recording in, text out, and what the text asks for.

The recording lives as long as its request; neither it nor the text is kept or logged. The engine
runs in another process (``dreamrelay.speech.service``), so nothing here waits for a decoder.
"""

import asyncio
from collections.abc import Mapping, Sequence
from typing import Annotated, Any

from fastapi import APIRouter, Query, Request
from fastapi.responses import JSONResponse, Response

from dreamrelay.errors import (
    DreamRelayError,
    EngineError,
    LimitError,
    ParameterError,
    ProtocolError,
)
from dreamrelay.hub import Hub, Stream
from dreamrelay.relay.bodies import BodyError, read_body
from dreamrelay.relay.guard import grant_of
from dreamrelay.relay.http import StreamName, error_response
from dreamrelay.speech import Action, Heard, NotReady, SpeechService, understand

MAX_BYTES = 8 * 1024 * 1024
DEFAULT_STREAM = "default"

MOST_PHRASES = 500
LONGEST_PHRASE = 60

Apply = Annotated[
    bool, Query(description="Let a prompt that was heard hold at once, with the origin `voice`")
]

_RECORDING = {
    "requestBody": {
        "required": True,
        "description": "A recording of at most 60 s",
        "content": {
            kind: {"schema": {"type": "string", "format": "binary"}}
            for kind in ("audio/webm", "audio/ogg", "audio/mp4", "audio/wav", "audio/mpeg")
        },
    }
}


class Ear:
    """The service for whoever wants the text alone; blocks."""

    def __init__(self, service: SpeechService) -> None:
        self._service = service

    def transcribe(self, data: bytes, vocabulary: Sequence[str]) -> str:
        """The text of a recording; raises as :meth:`SpeechService.hear`."""
        return self._service.hear(data, vocabulary).text


def make_voice_router(hub: Hub, service: SpeechService) -> APIRouter:
    """Build the routes of speech over one hub."""
    router = APIRouter(tags=["speech"])

    @router.get("/speech", summary="Whether anybody listens, and how far its loading is")
    async def status() -> dict[str, Any]:
        return service.status()

    @router.post(
        "/speech/load", status_code=202, summary="Load the speech engine before somebody speaks"
    )
    async def load() -> Response:
        try:
            await asyncio.to_thread(service.warm)
        except DreamRelayError as error:
            return error_response(503, error)
        return JSONResponse(service.status(), status_code=202)

    @router.post("/speech", summary="What was said", openapi_extra=_RECORDING)
    async def listen(request: Request) -> Response:
        return await _listened(hub, service, request, DEFAULT_STREAM)

    @router.post(
        "/streams/{name}/speech",
        summary="What was said, in the words that the stream's model knows",
        openapi_extra=_RECORDING,
    )
    async def listen_to(name: StreamName, request: Request, apply: Apply = False) -> Response:
        return await _listened(hub, service, request, name, apply)

    return router


async def _listened(
    hub: Hub, service: SpeechService, request: Request, name: str, apply: bool = False
) -> Response:
    stream = hub.find(name)
    try:
        data = await read_body(request, MAX_BYTES, "a recording")
        heard = await service.transcribe(data, vocabulary(stream))
    except BodyError as error:
        return error_response(error.status, error)
    except ProtocolError as error:
        return error_response(400, error)
    except LimitError as error:
        return _later(error.status, error)
    except NotReady as error:
        return _later(503, error)
    except EngineError as error:  # of this recording; the next one finds another process
        return error_response(500, error)
    except DreamRelayError as error:
        return error_response(503, error)
    action = understand(heard.text)
    fields = _fields(heard, action)
    if apply and action.name in ("prompt", "add"):
        address = grant_of(request.scope).address
        try:
            fields["revision"] = _apply(hub.stream(name, address), action)
        except ParameterError as error:
            return error_response(422, error)
        except ProtocolError as error:
            return error_response(409, error)
    return JSONResponse(fields, headers={"Cache-Control": "no-store"})


def vocabulary(stream: Stream | None) -> list[str]:
    """The words that the model of a stream's worker knows; none if it knows any, or nobody works.

    They come from a peer, so only what can be a phrase is taken, and no more than a page of it.
    """
    schema = stream.schema if stream is not None else None
    kinds = schema.get("x-vocabulary") if schema is not None else None
    lists = kinds.values() if isinstance(kinds, Mapping) else ()
    found = [
        phrase
        for phrases in lists
        if isinstance(phrases, list)
        for phrase in phrases
        if isinstance(phrase, str) and 0 < len(phrase) <= LONGEST_PHRASE
    ]
    return found[:MOST_PHRASES]


def _later(status: int, error: DreamRelayError) -> Response:
    refusal = error_response(status, error)
    refusal.headers["Retry-After"] = "2"
    return refusal


def _fields(heard: Heard, action: Action) -> dict[str, Any]:
    wanted = {"name": action.name, "text": action.text, "number": action.number}
    return {**heard.as_fields(), "action": wanted}


def _apply(stream: Stream, action: Action) -> int:
    """Let a spoken prompt hold; returns the stream's revision."""
    prompt = action.text
    before = stream.values.get("prompt")
    if action.name == "add" and isinstance(before, str) and before.strip():
        prompt = f"{before.rstrip(' ,')}, {prompt}"
    return stream.update_parameters({"prompt": prompt}, "voice").revision
