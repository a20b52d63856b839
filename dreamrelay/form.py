"""How a form shows a parameter: what is written beside its JSON Schema, for pages and OSC."""

from typing import Any


def ui(group: str, widget: str, order: int, label: str) -> dict[str, Any]:
    """How a form shows a parameter.

    Args:
        group: ``look``, ``motion``, ``guidance``, ``control`` or ``advanced``.
        widget: ``text``, ``slider``, ``number``, ``seed``, ``select``, ``toggle``, ``list``, ...
        order: within the group; no two parameters have the same place.
        label: in a word or two.
    """
    return {"ui": {"group": group, "widget": widget, "order": order, "label": label}}
