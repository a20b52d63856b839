"""Values against the schema that a worker published."""

from typing import Any

import pytest

from dreamrelay.engines import EngineSettings, open_engine
from dreamrelay.errors import ProtocolError
from dreamrelay.schema import MAX_SCHEMA_BYTES, ParameterSchema, checked

RULES = {"look": {"enum": ["", "disc.png"]}}


def test_a_parameter_that_the_engine_cannot_use_says_what_it_would_need() -> None:
    engine = open_engine(EngineSettings(engine="stream-batch", device="cpu"))
    published = ParameterSchema(engine.schema())
    said = published.problems({"controlnet_scale": 1, "loras": [], "ip_adapter_scale": 1, "wat": 1})
    assert said.pop("wat").startswith("no such parameter: expected one of ")
    assert said == {
        "controlnet_scale": "not in this engine: start the worker with --controlnet=depth",
        "loras": "not in this engine: start the worker with --lora=name:scale",
        "ip_adapter_scale": "not in this engine: start the worker with --ip_adapter=base",
    }


@pytest.mark.parametrize("said", [None, 1, ["loras"], {"loras": 1}, {"loras": ""}])
def test_what_a_worker_says_there_may_be_anything(said: Any) -> None:
    published = ParameterSchema({"properties": RULES, "x-absent": said})
    assert published.problems({"loras": []}) == {"loras": "no such parameter: expected one of look"}


def test_what_a_worker_says_there_is_cut_short() -> None:
    published = ParameterSchema({"properties": RULES, "x-absent": {"loras": "x" * 1000}})
    assert len(published.problems({"loras": []})["loras"]) < 250


def test_the_empty_one_of_several_choices_can_be_read() -> None:
    assert ParameterSchema({"properties": RULES}).problems({"look": "a.png"}) == {
        "look": "expected one of nothing, disc.png, got 'a.png'"
    }


def test_the_schema_of_one_worker_is_checked_once_for_all_its_streams() -> None:
    assert checked({"properties": RULES}) is checked({"properties": {**RULES}})
    assert checked({"properties": {}}) is not checked({"properties": RULES})


@pytest.mark.parametrize(
    "schema",
    [
        {"type": 3},
        {"x": object()},
        {"x": "y" * MAX_SCHEMA_BYTES},
        {3: {}},
        {"x": {"format": "uri"}},
    ],
)
def test_what_is_no_schema_is_said_each_time(schema: Any) -> None:
    for _ in range(2):
        with pytest.raises(ProtocolError):
            checked(schema)
