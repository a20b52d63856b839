"""A worker's schema as the page's settings: what the page reads, it must find."""

from typing import Any

import pytest

from dreamrelay.engines.parameters import StreamBatchParameters
from dreamrelay.protocol.page_settings import SIDE, page_settings

FIELDS = {"range", "seed", "textarea", "checkbox", "select"}
SCHEMA = StreamBatchParameters.model_json_schema()


def fields(schema: Any, values: Any = None, **options: Any) -> dict[str, dict[str, Any]]:
    made = page_settings(schema, values or {}, **options)
    properties: dict[str, dict[str, Any]] = made["input_params"]["properties"]
    return properties


def test_what_the_page_reads_first() -> None:
    made = page_settings(SCHEMA, {}, max_queue_size=3)
    info = made["info"]["properties"]
    assert info["input_mode"]["default"] == "image"
    assert info["name"]["default"]
    assert info["page_content"]["default"] == made["page_content"]
    assert made["max_queue_size"] == 3


def test_every_field_is_one_that_the_page_has() -> None:
    made = fields(SCHEMA)
    for name, field in made.items():
        assert field["id"] == name
        assert field["field"] in FIELDS
        assert field["title"]
        assert field["default"] is not None
        if field["field"] == "range":
            assert field["min"] < field["max"]
            assert 0 < field["step"] <= 1
    assert made["prompt"]["field"] == "textarea"
    assert made["seed"]["field"] == "seed"
    assert made["cfg_type"]["values"] == ["none", "full", "self", "initialize"]
    assert made["do_add_noise"]["field"] == "checkbox"
    assert (made["strength"]["min"], made["strength"]["max"]) == (0, 1)
    assert "t_index_list" not in made, "the page has nothing for a list"
    assert "hide" not in made["strength"]
    assert made["delta"]["hide"]


def test_the_page_begins_with_the_values_in_force() -> None:
    made = fields(SCHEMA, {"prompt": "a fox", "strength": 0.25})
    assert (made["prompt"]["default"], made["strength"]["default"]) == ("a fox", 0.25)


@pytest.mark.parametrize(
    ("size", "shown"), [({}, (SIDE, SIDE)), ({"width": 256, "height": 320}, (256, 320))]
)
@pytest.mark.parametrize("schema", [None, {}, {"properties": []}, SCHEMA])
def test_the_cameras_canvas_has_a_size_always(
    schema: Any, size: dict[str, int], shown: tuple[int, int]
) -> None:
    made = fields(schema, **size)
    for name, pixels in zip(("width", "height"), shown, strict=True):
        assert made[name]["default"] == pixels
        assert made[name]["hide"]
        assert made[name]["disabled"]
    assert "prompt" in made


@pytest.mark.parametrize(
    ("rule", "field"),
    [
        ({"type": "integer"}, {"field": "range", "min": 0, "max": 100, "step": 1, "default": 0}),
        ({"type": "number", "multipleOf": 0.25}, {"field": "range", "step": 0.25}),
        ({"type": "number", "maximum": 1e-9}, {"field": "range"}),
        ({"enum": ["full", "human"]}, {"field": "select", "default": "full"}),
        ({"enum": []}, {"field": "select", "default": ""}),
        ({"type": "boolean"}, {"field": "checkbox", "default": False}),
        ({"type": "string", "default": "x"}, {"field": "textarea", "default": "x"}),
        ({"type": "integer", "ui": {"widget": "seed"}}, {"field": "seed"}),
        ({"type": "integer", "ui": 3, "title": "T"}, {"title": "T"}),
    ],
)
def test_odd_rules(rule: dict[str, Any], field: dict[str, Any]) -> None:
    made = fields({"properties": {"x": rule}})["x"]
    assert field.items() <= made.items()


@pytest.mark.parametrize("rule", [3, None, {}, {"type": "array"}, {"type": ["string", "null"]}])
def test_what_the_page_cannot_show_is_left_out(rule: Any) -> None:
    assert "x" not in fields({"properties": {"x": rule}})
