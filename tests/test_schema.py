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


def test_a_value_that_is_nested_too_deep_is_refused_and_ends_nothing() -> None:
    value: list[Any] = []
    for _ in range(2000):
        value = [value]
    published = ParameterSchema({"properties": {"a": {"type": "array", "items": {}}}})
    assert "cannot be used" in published.problems({"a": value})["a"]


# -- schemas that cost more than they say ----------------------------------------------------------

MANY = {"anyOf": [{"const": number} for number in range(300)]}
LISTS: dict[str, Any] = {"anyOf": [{"type": "array", "items": MANY}] * 2}


@pytest.mark.parametrize(
    "schema",
    [
        {"properties": {"a": LISTS}},
        {"properties": {"a": {"$ref": "#/$defs/b"}}, "$defs": {"b": LISTS}},
    ],
    ids=["rules", "definitions"],
)
def test_a_value_of_many_under_a_rule_of_many_is_not_looked_at(schema: dict[str, Any]) -> None:
    """It would take minutes, in which a relay does nothing else."""
    published = ParameterSchema(schema)
    assert "too long" in published.problems({"a": [777] * 1500})["a"]
    assert published.problems({"a": [7]}) == {}


@pytest.mark.parametrize("reference", ["#/properties/b", "#", "#b", "#/$defs/b/items", "x.json"])
def test_parameters_refer_to_definitions_only(reference: str) -> None:
    """Twenty that refer to the next one twice each are a million looks."""
    rules = {"a": {"anyOf": [{"$ref": reference}] * 2}, "b": {"type": "array", "items": {}}}
    published = ParameterSchema({"properties": rules, "$defs": {"b": rules["b"]}})
    assert "not to one of $defs" in published.problems({"a": 1})["a"]
    assert published.problems({"b": [1]}) == {}  # it costs nobody else anything


def test_entries_are_not_compared_with_one_another() -> None:
    published = ParameterSchema({"properties": {"a": {"type": "array", "uniqueItems": True}}})
    assert published.problems({"a": [{"x": 1}, {"x": 1}]}) == {}  # the worker says what it thinks


def test_what_our_engines_publish_leaves_room_for_their_values() -> None:
    for name in ("pocket", "stream-batch"):
        engine = open_engine(EngineSettings(engine=name, device="cpu"))
        published = ParameterSchema(engine.schema())
        said = published.problems({"t_index_list": list(range(50)), "prompt": "x" * 2000})
        assert "too long" not in str(said)
