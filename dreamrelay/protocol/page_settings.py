"""A worker's JSON Schema as the settings that StreamDiffusion-Web's page builds its form from."""

from collections.abc import Mapping
from typing import Any

TITLE = "dreamrelay"
PAGE_CONTENT = "<h1>dreamrelay</h1><p>Your camera, painted anew while you look.</p>"
"""Put into the page as it is: no peer's text may get in here."""

SIDE = 512
"""Pixels of the camera's canvas while no worker has said what it computes."""

ALWAYS_SHOWN = ("prompt", "negative_prompt", "strength", "seed", "ip_adapter_scale")
"""The others lie under "Advanced"."""


def page_settings(
    schema: Mapping[str, Any] | None,
    values: Mapping[str, Any],
    *,
    width: int = 0,
    height: int = 0,
    max_queue_size: int = 0,
) -> dict[str, Any]:
    """Build the answer of ``GET /api/settings``.

    Args:
        schema: of the worker's parameters; None while there is none.
        values: in force; the page begins with them.
        width, height: of the worker's pictures in pixels; 0 if it is not known.
        max_queue_size: pages at once, 0 for any number.
    """
    properties = (schema or {}).get("properties")
    rules = properties if isinstance(properties, Mapping) else {"prompt": {"type": "string"}}
    fields = {}
    for name, rule in rules.items():
        field = _field(name, rule, values) if isinstance(rule, Mapping) else None
        if field is not None:
            fields[name] = field
    for name, size in (("width", width), ("height", height)):  # the page needs both
        fields[name] = {
            "default": size or SIDE,
            "title": name.capitalize(),
            "id": name,
            "field": "range",
            "type": "integer",
            "min": 64,
            "max": 4096,
            "step": 1,
            "hide": True,
            "disabled": True,
        }
    return {
        "info": {
            "title": "Info",
            "type": "object",
            "properties": {
                "name": _constant("Name", "img2img"),
                "title": _constant("Title", TITLE),
                "description": _constant("Description", "Live pictures through a diffusion model"),
                "input_mode": _constant("Input Mode", "image"),
                "page_content": _constant("Page Content", PAGE_CONTENT),
            },
        },
        "input_params": {"title": "InputParams", "type": "object", "properties": fields},
        "max_queue_size": max_queue_size,
        "page_content": PAGE_CONTENT,
    }


def _constant(title: str, value: str) -> dict[str, str]:
    return {"title": title, "type": "string", "default": value}


def _field(name: str, rule: Mapping[str, Any], values: Mapping[str, Any]) -> dict[str, Any] | None:
    """One parameter as a field of the page; None for what the page has no field for."""
    ui = rule.get("ui")
    ui = ui if isinstance(ui, Mapping) else {}
    kind = rule.get("type")
    field: dict[str, Any] = {
        "title": str(ui.get("label") or rule.get("title") or name),
        "id": name,
        "default": values.get(name, rule.get("default")),
    }
    choices = rule.get("enum")
    if isinstance(choices, list) and all(isinstance(choice, str) for choice in choices):
        field |= {"field": "select", "type": "string", "values": choices}
    elif kind == "string":
        field |= {"field": "textarea", "type": "string"}
    elif kind == "boolean":
        field |= {"field": "checkbox", "type": "boolean"}
    elif kind in ("integer", "number"):
        field |= _number(name, rule, ui)
    else:
        return None
    if field["default"] is None:
        field["default"] = _zero(field)
    if name not in ALWAYS_SHOWN:
        field["hide"] = True
    return field


def _number(name: str, rule: Mapping[str, Any], ui: Mapping[str, Any]) -> dict[str, Any]:
    if name == "seed" or ui.get("widget") == "seed":
        return {"field": "seed", "type": "integer", "min": rule.get("minimum", 0)}
    low, high = rule.get("minimum", 0), rule.get("maximum", 100)
    whole = rule.get("type") == "integer"
    step = rule.get("multipleOf") or (1 if whole else _step(high - low))
    return {"field": "range", "type": rule["type"], "min": low, "max": high, "step": step}


def _step(span: float) -> float:
    """So fine that a slider has a hundred places or more."""
    step = 1.0
    while step > 1e-6 and span / step < 100:
        step /= 10
    return round(step, 6)


def _zero(field: Mapping[str, Any]) -> Any:
    if field["field"] == "select":
        return next(iter(field["values"]), "")
    return {"textarea": "", "checkbox": False}.get(field["field"], field.get("min", 0))
