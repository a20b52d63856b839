"""What tools send, as what parameters take."""

from typing import Any

import pytest

from dreamrelay.osc.fitting import Unfit, fit, kind_of, shown
from tests.osc.support import SCHEMA

RULES = {
    **SCHEMA["properties"],
    "look": SCHEMA["$defs"]["Look"],
    "open": {"type": "number", "exclusiveMinimum": 0, "exclusiveMaximum": 1},
    "thing": {"type": "object"},
    "mixed": {"anyOf": [{"type": "integer"}, {"type": "string"}, {"type": "null"}]},
    "words": {"type": "array", "items": {"type": "string"}},
    "number": {"enum": [1, 2, 4]},
    "seeds": {
        "type": "array",
        "items": {
            "type": "object",
            "properties": {
                "seed": {"type": "integer", "minimum": 0, "maximum": 9},
                "weight": {"type": "number"},
            },
        },
    },
    "loras": {
        "type": "array",
        "items": {
            "type": "object",
            "properties": {"name": {"type": "string"}, "scale": {"type": "number"}},
        },
    },
}


@pytest.mark.parametrize(
    ("name", "arguments", "value"),
    [
        ("strength", [0.25], 0.25),
        ("strength", [1], 1),
        ("strength", [True], 1),
        ("strength", ["0.75"], 0.75),
        ("seed", [7.0], 7),
        ("seed", [6.6], 7),
        ("seed", ["123456789"], 123456789),
        ("glow", [1], True),
        ("glow", [0.0], False),
        ("glow", [0.7], True),
        ("glow", ["on"], True),
        ("glow", ["False"], False),
        ("glow", [False], False),
        ("prompt", ["words"], "words"),
        ("prompt", [7], "7"),
        ("prompt", ["狐".encode()], "狐"),
        ("look", ["wild"], "wild"),
        ("look", [2], "odd"),
        ("look", [1.0], "wild"),
        ("look", ["0"], "plain"),
        ("number", [4], 4),
        ("number", [0], 1),
        ("steps", [22, 32, 45], [22, 32, 45]),
        ("steps", [[22.0, 32.0]], [22, 32]),
        ("steps", ["22, 32 45"], [22, 32, 45]),
        ("steps", ["[22, 32]"], [22, 32]),
        ("steps", [7], [7]),
        ("steps", [None], None),
        ("steps", ["none"], None),
        ("steps", [""], None),
        ("prompts", ["fox", 0.7, "wolf", 0.3], [{"text": "fox", "weight": 0.7},
                                                {"text": "wolf", "weight": 0.3}]),
        ("prompts", ["fox"], [{"text": "fox", "weight": 1.0}]),
        ("prompts", ['[{"text": "fox", "weight": 2}]'], [{"text": "fox", "weight": 2}]),
        ("seeds", [7.0, 0.5, 9, 0.25], [{"seed": 7, "weight": 0.5}, {"seed": 9, "weight": 0.25}]),
        ("seeds", [7], [{"seed": 7, "weight": 1.0}]),
        ("loras", ["ink", -0.5, "oil"], [{"name": "ink", "scale": -0.5},
                                         {"name": "oil", "scale": 1.0}]),
        ("words", ["a", "b"], ["a", "b"]),
        ("thing", ['{"a": 1}'], {"a": 1}),
        ("mixed", [3], 3),
        ("mixed", ["some"], "some"),
        ("mixed", ["null"], None),
    ],
)  # fmt: skip
def test_what_fits(name: str, arguments: list[Any], value: Any) -> None:
    fitted = fit(RULES[name], arguments)
    assert fitted == value
    assert isinstance(fitted, bool) == isinstance(value, bool)


@pytest.mark.parametrize(
    ("name", "arguments", "expected"),
    [
        ("strength", [1.5], "0..1, got 1.5"),
        ("strength", [float("nan")], "a number"),
        ("strength", [float("inf")], "a number"),
        ("strength", ["much"], "a number"),
        ("strength", ["nan"], "a number"),
        ("strength", ["9" * 400], "a number"),
        ("strength", ["-" + "9" * 5000], "a number"),
        ("look", ["9" * 400], "plain, wild, odd"),
        ("strength", [None], "a number"),
        ("strength", [b"x"], "a number"),
        ("strength", [[0.5]], "a number"),
        ("strength", [0.1, 0.2], "one value"),
        ("open", [0], "got 0"),
        ("open", [1], "got 1"),
        ("seed", [-1], "0..2147483647"),
        ("glow", ["maybe"], "0 or 1"),
        ("glow", [None], "0 or 1"),
        ("prompt", [None], "a text"),
        ("prompt", ["x" * 2001], "at most 2000"),
        ("prompt", [b"\xff\xfe"], "in UTF-8"),
        ("prompt", [bytes(8)], "a text"),
        ("look", ["mild"], "plain, wild, odd"),
        ("look", [3], "plain, wild, odd"),
        ("look", [-1], "plain, wild, odd"),
        ("look", [0.5], "plain, wild, odd"),
        ("steps", [50], "0..49"),
        ("steps", [1, 2, 3, 4, 5], "1 to 4 values"),
        ("steps", ["[1, 2"], "JSON"),
        ("steps", ["[" * 5000], "JSON"),
        ("prompts", [0.5, "fox"], "expected a text, then its weight"),
        ("prompts", ["fox", 0.5, 0.5], "expected a text, then its weight"),
        ("seeds", ["fox"], "a number"),
        ("seeds", [-7, 1.0], "0..9"),
        ("loras", [0.5], "expected a name, then its scale"),
        ("prompts", ["a", "b", "c", "d"], "0 to 3"),
        ("thing", [3], "JSON"),
    ],
)
def test_what_does_not(name: str, arguments: list[Any], expected: str) -> None:
    with pytest.raises(Unfit) as caught:
        fit(RULES[name], arguments)
    assert expected in str(caught.value)
    assert len(str(caught.value)) < 200


@pytest.mark.parametrize(
    ("name", "value", "arguments"),
    [
        ("strength", 1, [1.0]),
        ("seed", 3, [3]),
        ("glow", True, [1]),
        ("look", "wild", ["wild"]),
        ("steps", [1, 2], [1, 2]),
        ("steps", None, ["none"]),
        ("prompts", [{"text": "fox", "weight": 1}], ["fox", 1.0]),
        ("seeds", [{"seed": 7, "weight": 1}, {"seed": 9, "weight": 0.5}], [7, 1.0, 9, 0.5]),
        ("loras", [{"name": "ink", "scale": 0.5}], ["ink", 0.5]),
        ("thing", {"a": [1]}, ['{"a": [1]}']),
        ("prompt", "", [""]),
    ],
)
def test_what_is_told_sets_the_same_again(name: str, value: Any, arguments: list[Any]) -> None:
    assert shown(RULES[name], value) == arguments
    assert fit(RULES[name], arguments) == value


def test_kinds() -> None:
    assert {name: kind_of(RULES[name]) for name in ("steps", "look", "glow", "mixed")} == {
        "steps": "array",
        "look": "enum",
        "glow": "boolean",
        "mixed": "integer",
    }
