"""Speech over HTTP: the routes over a hub, and all of it in a running relay."""

import json
import sys
import urllib.error
import urllib.request
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest
from fastapi import FastAPI
from starlette.types import Receive, Scope, Send

from dreamrelay.config import RelaySettings
from dreamrelay.hub import Hub, Peer, Stream
from dreamrelay.protocol.messages import Limits, Notice, WorkerHello
from dreamrelay.relay.auth import Grant
from dreamrelay.relay.voice import Ear, make_voice_router, vocabulary
from dreamrelay.speech import SpeechService
from tests.relay.clients import native
from tests.speech.make_spoken import spoken
from tests.speech.sounds import tone, wav
from tests.support import RunningRelay, start_relay, until

CHILD = (sys.executable, str(Path(__file__).parent / "fake_child.py"))
SCHEMA = {
    "type": "object",
    "properties": {"prompt": {"type": "string", "default": "calm"}},
    "x-vocabulary": {"styles": ["oil painting", "neon"], "colours": ["gold"]},
}


class Worker(Peer):
    """Publishes its schema; hears nothing."""

    id = "w"
    role = "worker"

    def notify(self, notice: Notice) -> None: ...

    def wake(self) -> None: ...


@dataclass
class Room:
    """The routes of speech over a hub, with an engine that repeats what it is given."""

    hub: Hub
    service: SpeechService
    client: httpx.AsyncClient

    async def say(self, path: str, body: bytes = b"x") -> tuple[int, dict[str, Any]]:
        reply = await self.client.post(path, content=body)
        return reply.status_code, reply.json()

    async def status(self) -> dict[str, Any]:
        fields: dict[str, Any] = (await self.client.get("/speech")).json()
        return fields

    def stream(self, schema: dict[str, Any] = SCHEMA) -> Stream:
        stream = self.hub.stream("left")
        hello = WorkerHello(schema=schema, parameters={"prompt": ""})
        stream.join(Worker(), (), 1, hello)
        return stream


@asynccontextmanager
async def room(manner: str = "whisper:well") -> AsyncIterator[Room]:
    hub = Hub(Limits())
    service = SpeechService(manner, program=CHILD, loading_seconds=60)
    app = FastAPI()
    app.include_router(make_voice_router(hub, service))

    async def guarded(scope: Scope, receive: Receive, send: Send) -> None:
        scope["state"] = {"grant": Grant()}  # who may come here is the guard's affair
        await app(scope, receive, send)

    transport = httpx.ASGITransport(guarded)
    try:
        async with httpx.AsyncClient(transport=transport, base_url="http://relay") as client:
            yield Room(hub, service, client)
    finally:
        service.close()


def post(relay: RunningRelay, path: str, body: bytes) -> tuple[int, dict[str, Any]]:
    request = urllib.request.Request(relay.url.rstrip("/") + path, data=body, method="POST")
    try:
        with urllib.request.urlopen(request, timeout=90) as reply:
            return reply.status, json.loads(reply.read())
    except urllib.error.HTTPError as error:
        with error:
            return error.code, json.loads(error.read())


def test_from_a_browsers_recording_to_a_prompt() -> None:
    with start_relay(RelaySettings(port=0, speech="offline")) as relay:
        with native(relay, "worker") as worker:
            worker.send("hello", version=1, schema=SCHEMA, parameters={"prompt": ""})
            until(lambda: relay.hub.stream("default").schema is not None)
            status, heard = post(relay, "/speech", spoken("slt", "oil painting"))
            assert status == 200
            assert heard["text"] == "oil painting"
            assert heard["confidence"] > 0.5
            assert heard["action"] == {"name": "prompt", "text": "oil painting", "number": None}
            assert [word["text"] for word in heard["words"]] == ["oil", "painting"]
            _, heard = post(relay, "/speech", spoken("rms", "preset three"))
            assert heard["action"] == {"name": "preset", "text": "", "number": 3}
            form = {"file": ("speech.wav", spoken("slt", "oil painting"), "audio/wav")}
            reply = httpx.post(f"{relay.url}api/stt", files=form, timeout=90)
            assert reply.json() == {"text": "oil painting"}, "with the words of the worker's model"
            status, refusal = post(relay, "/speech", b"no sound")
            assert (status, refusal["error"]["code"]) == (400, "protocol")
            _, heard = post(relay, "/speech", wav(tone(440, 0.5, 16_000), 16_000))
            assert heard["text"] == ""
            assert heard["action"]["name"] == "nothing"
            assert json.loads(relay.get("/speech"))["state"] == "ready"


async def test_the_words_of_the_streams_model_are_expected() -> None:
    async with room() as here:
        here.stream()
        _, heard = await here.say("/streams/left/speech")
        assert heard["text"].startswith("x oil painting neon gold ")
        _, heard = await here.say("/streams/right/speech")
        assert len(heard["text"].split()) == 2  # what was said, and the process
        assert here.hub.find("right") is None  # asking makes no stream


async def test_a_prompt_holds_at_once_if_that_is_asked_for() -> None:
    async with room() as here:
        stream = here.stream()
        status, heard = await here.say("/streams/left/speech?apply=true", b"calm")
        assert status == 200
        assert stream.values["prompt"].startswith("calm")
        assert heard["revision"] == stream.revision
        await here.say("/streams/left/speech?apply=true", b"add gold")
        assert stream.values["prompt"].startswith("calm")
        assert ", gold" in stream.values["prompt"]
        before = stream.revision
        await here.say("/streams/left/speech", b"blue")
        assert stream.revision == before


async def test_a_prompt_that_the_model_refuses() -> None:
    short = {"type": "object", "properties": {"prompt": {"type": "string", "maxLength": 3}}}
    async with room() as here:
        here.stream(short)
        status, refusal = await here.say("/streams/left/speech?apply=true", b"a long prompt")
        assert (status, refusal["error"]["code"]) == (422, "parameter")


async def test_loading_can_begin_before_anybody_speaks() -> None:
    async with room() as here:
        assert (await here.status())["state"] == "idle"
        status, told = await here.say("/speech/load")
        assert status == 202
        assert told["state"] in ("loading", "ready")


async def test_too_large_a_recording_is_refused() -> None:
    async with room() as here:
        assert (await here.say("/speech", bytes(9 * 1024 * 1024)))[0] == 413
        assert (await here.status())["state"] == "idle"


@pytest.mark.parametrize("body", [b"broken", b"die"])
async def test_what_goes_wrong_is_told(body: bytes) -> None:
    async with room() as here:
        status, refusal = await here.say("/speech", body)
        expected = (400, "protocol") if body == b"broken" else (500, "engine")
        assert (status, refusal["error"]["code"]) == expected
        assert (await here.say("/speech", b"again"))[0] == 200


async def test_an_engine_that_is_not_there() -> None:
    async with room("whisper:missing") as here:
        status, refusal = await here.say("/speech")
        assert (status, refusal["error"]["code"]) == (503, "missing-extra")
        assert "pip install" in refusal["error"]["message"]


async def test_off() -> None:
    async with room("off") as here:
        for path in ("/speech", "/speech/load", "/streams/left/speech"):
            status, refusal = await here.say(path)
            assert status == 503
            assert "--speech=auto" in refusal["error"]["message"]
        assert (await here.status())["state"] == "off"


def test_the_text_alone_for_other_doors() -> None:
    service = SpeechService("whisper:well", program=CHILD)
    try:
        assert Ear(service).transcribe(b"hello", ["gold"]).startswith("hello ")
    finally:
        service.close()


def test_of_a_workers_vocabulary_only_phrases_are_taken() -> None:
    stream = RelayStream({"x-vocabulary": {"a": ["gold", 7, "", "x" * 99], "b": "no list"}})
    assert vocabulary(stream) == ["gold"]  # type: ignore[arg-type]
    assert vocabulary(RelayStream({"x-vocabulary": ["gold"]})) == []  # type: ignore[arg-type]
    assert vocabulary(RelayStream({})) == []  # type: ignore[arg-type]
    assert vocabulary(RelayStream(None)) == []  # type: ignore[arg-type]
    assert vocabulary(None) == []
    many = RelayStream({"x-vocabulary": {"a": ["gold"] * 5000}})
    assert len(vocabulary(many)) == 500  # type: ignore[arg-type]


class RelayStream:
    """Has a schema as a stream has."""

    def __init__(self, schema: dict[str, Any] | None) -> None:
        self.schema = schema
