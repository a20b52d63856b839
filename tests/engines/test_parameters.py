"""The parameters: whole or nothing, in words for people, and one truth with their JSON Schema."""

import json
from typing import Any

import jsonschema
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dreamrelay.engines.parameters import StreamBatchParameters, validate_patch
from dreamrelay.errors import ParameterError

SCHEMA = StreamBatchParameters.model_json_schema()
NAMES = sorted(StreamBatchParameters.model_fields)

json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**40), 2**40)
    | st.floats(-3, 60, allow_nan=False)
    | st.integers(-3, 60).map(float)
    | st.sampled_from(["none", "full", "self", "initialize", "", "1", "a cat"]),
    lambda inner: st.lists(inner, max_size=9) | st.dictionaries(st.text(max_size=2), inner),
    max_leaves=9,
)


@pytest.mark.parametrize(
    ("patch", "problem"),
    [
        ({"strength": 3}, "strength: expected 0..1, got 3"),
        ({"strength": True}, "strength: expected 0..1, got true"),
        ({"strength": "0.5"}, 'strength: expected 0..1, got "0.5"'),
        ({"strength": float("nan")}, "strength: expected 0..1, got NaN"),
        ({"seed": 4.5}, "seed: expected a whole number 0..2147483647, got 4.5"),
        ({"cfg_type": "off"}, 'cfg_type: expected one of none, full, self, initialize, got "off"'),
        ({"do_add_noise": 1}, "do_add_noise: expected true or false, got 1"),
        (
            {"prompt": "a" * 2001},
            "prompt: expected a text of at most 2000 characters, got one of 2001 characters",
        ),
        (
            {"t_index_list": [45, 32]},
            "t_index_list: expected 1..8 ascending whole numbers 0..49 or null, got [45, 32]",
        ),
        ({"delta": b"x"}, "delta: expected 0..2, got b'x'"),
    ],
)
def test_says_what_was_expected_and_what_came(patch: dict[str, Any], problem: str) -> None:
    with pytest.raises(ParameterError) as caught:
        validate_patch(StreamBatchParameters(), patch)
    assert str(caught.value) == problem


def test_names_every_problem_of_a_patch() -> None:
    patch = {"strength": 2, "seed": -1, "colour": "red", "delta": 1}
    with pytest.raises(ParameterError) as caught:
        validate_patch(StreamBatchParameters(), patch)
    assert list(caught.value.problems) == ["colour", "seed", "strength"]
    assert caught.value.problems["colour"].startswith("unknown; expected one of prompt, ")


def test_long_values_are_cut_in_the_message() -> None:
    with pytest.raises(ParameterError) as caught:
        validate_patch(StreamBatchParameters(), {"seed": [1] * 1000})
    assert len(caught.value.problems["seed"]) < 120


def test_a_patch_changes_what_it_names_and_nothing_else() -> None:
    before = StreamBatchParameters(prompt="a cat")
    after = validate_patch(before, {"strength": 1, "seed": 7.0, "t_index_list": (3, 9)})
    assert before == StreamBatchParameters(prompt="a cat")
    assert after == StreamBatchParameters(prompt="a cat", strength=1, seed=7, t_index_list=[3, 9])


@given(name=st.sampled_from(NAMES), value=json_values)
def test_takes_what_the_schema_lets_pass(name: str, value: Any) -> None:
    passes = jsonschema.Draft202012Validator(SCHEMA).is_valid({name: value})
    if name == "t_index_list" and passes and value is not None:
        # The one rule that JSON Schema has no word for.
        passes = sorted(set(value)) == value
    if passes:
        validate_patch(StreamBatchParameters(), {name: value})
        return
    with pytest.raises(ParameterError) as caught:
        validate_patch(StreamBatchParameters(), {name: value})
    assert list(caught.value.problems) == [name]


def test_the_schema_is_fit_for_a_form() -> None:
    jsonschema.Draft202012Validator.check_schema(SCHEMA)
    assert "$defs" not in SCHEMA
    assert not SCHEMA["additionalProperties"]
    orders = set()
    for name, schema in SCHEMA["properties"].items():
        description, ui = schema["description"], schema["ui"]
        assert description[0].isupper(), name
        assert description.endswith("."), name
        assert set(ui) == {"group", "widget", "order", "label"}, name
        assert ui["group"] in ("look", "motion", "guidance", "control", "advanced"), name
        orders.add((ui["group"], ui["order"]))
        for choice in schema.get("anyOf", [schema]):
            bounded = {"maximum", "maxLength", "maxItems", "enum"} & set(choice)
            assert bounded or choice["type"] in ("boolean", "null"), name
    assert len(orders) == len(SCHEMA["properties"])


def test_the_defaults_obey_the_schema_and_survive_json() -> None:
    values = StreamBatchParameters().model_dump(mode="json")
    jsonschema.validate(values, SCHEMA)
    assert StreamBatchParameters(**json.loads(json.dumps(values))) == StreamBatchParameters()
