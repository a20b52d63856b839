"""Remote peers change parameters; they never name a file, an address or a model to open."""

import json
import re
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from pydantic import AnyUrl, BaseModel, DirectoryPath, FilePath

from dreamrelay.engines.parameters import StreamBatchParameters
from dreamrelay.errors import ProtocolError
from dreamrelay.schema import ParameterSchema
from tests.relay.clients import HELLO, Engine, answer, ask, native, problem, seed
from tests.support import RunningRelay

PLACES = (
    "/etc/passwd",
    "..\\..\\secret",
    "file:///etc/passwd",
    "http://192.0.2.1/x.safetensors",
    "\\\\192.0.2.1\\share",
)
NAMES = "model model_id_or_path lora_dict engine source sink image_prompt __class__".split()

TALKS_OF_PLACES = re.compile(r"path|file|folder|dir|url|uri|model|lora|checkpoint|module|import")


@pytest.mark.parametrize("name", NAMES)
def test_no_door_takes_a_name_that_the_worker_did_not_publish(
    relay: RunningRelay, name: str
) -> None:
    with Engine(relay), native(relay, "viewer") as viewer:
        for place in PLACES:
            patch = {name: place}
            body = json.dumps(patch).encode()
            status, _, reply = answer(relay, "/streams/default/parameters", "PATCH", body)
            assert (status, set(problem(reply)["problems"])) == (422, {name})
            viewer.send("parameters", patch=patch, id=place)
            assert viewer.text("error")["problems"].keys() == {name}
        with seed(relay) as websocket:
            reply_ = ask(websocket, type="prompt_update", prompt="a fox", **{name: PLACES[0]})
            assert reply_["type"] == "prompt_updated"
        stream = relay.hub.streams["default"]
        assert set(stream.values) == {"prompt", "strength"}


def test_a_place_as_a_prompt_is_a_prompt(relay: RunningRelay) -> None:
    """Words are never opened: they go to the text encoder."""
    with Engine(relay):
        body = json.dumps({"prompt": PLACES[0]}).encode()
        assert answer(relay, "/streams/default/parameters", "PATCH", body)[0] == 200


class WithFile(BaseModel):
    mask: FilePath


class WithFolder(BaseModel):
    styles: list[DirectoryPath] = []


class WithPath(BaseModel):
    look: Path | None = None


class WithAddress(BaseModel):
    picture: AnyUrl


@pytest.mark.parametrize("kind", [WithFile, WithFolder, WithPath, WithAddress])
def test_a_schema_with_a_place_in_it_is_refused(relay: RunningRelay, kind: type[BaseModel]) -> None:
    schema = kind.model_json_schema()
    with pytest.raises(ProtocolError, match="may not name a file"):
        ParameterSchema(schema)
    with native(relay, "worker", schema=schema, parameters={}) as worker:
        assert "may not name a file" in worker.text("error")["message"]
    assert relay.hub.streams["default"].schema is None


def test_a_parameter_may_be_called_format() -> None:
    schema = {"properties": {"format": {"type": "string", "enum": ["uri"]}}}
    assert ParameterSchema(schema).names == ("format",)


def test_our_own_engines_publish_no_place() -> None:
    schema = StreamBatchParameters.model_json_schema()
    ParameterSchema(schema)
    for name, rule in schema["properties"].items():
        assert not TALKS_OF_PLACES.search(name), name
        free_text = rule.get("type") == "string" and "enum" not in rule
        assert not free_text or "prompt" in name, f"{name}: expected a choice or a number"


@pytest.mark.parametrize("other", ["..", "../default", "a/b", "/etc/passwd", "http://x", ""])
def test_the_stream_to_imitate_is_a_streams_name(relay: RunningRelay, other: str) -> None:
    path = f"/streams/a/reference?from={quote(other, safe='')}"
    status, _, body = answer(relay, path, "PUT")
    assert status in (400, 422)
    problem(body)


def test_what_a_worker_offers_is_its_operators_choice(relay: RunningRelay) -> None:
    """A list in the schema is the whole list."""
    styles: dict[str, Any] = {"type": "string", "enum": ["ink", "oil"]}
    schema = {"type": "object", "properties": {**HELLO["schema"]["properties"], "style": styles}}
    with native(relay, "worker", schema=schema), native(relay, "viewer") as viewer:
        for place in PLACES:
            viewer.send("parameters", patch={"style": place}, id=place)
            assert viewer.text("error")["problems"].keys() == {"style"}
