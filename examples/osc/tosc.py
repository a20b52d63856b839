"""A layout for TouchOSC, made from a schema: pages of captioned controls that follow what holds.

A ``.tosc`` is XML, packed by zlib: one canvas, in it nodes of a type, each with properties, values,
messages and children. Written here is version 3, which every TouchOSC since 2021 reads; the editor
of today saves version 6. Its makers publish what a script may read and write and what the fields
mean (hexler.net/touchosc/manual), not how they are stored.

For what a running worker takes, whatever its engine (a file with a schema does as well)::

    python -m examples.osc.tosc http://127.0.0.1:8765/streams/default/parameters/schema mine.tosc
"""

import json
import sys
import urllib.request
import uuid
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as Xml

from dreamrelay.osc.dialect import rules_of
from dreamrelay.osc.fitting import bounds, choices, kind_of
from dreamrelay.osc.table import address_of

Frame = tuple[float, float, float, float]
"""x, y, width and height, from the upper left corner of what holds it."""

Colour = tuple[float, float, float]

WIDTH, HEIGHT = 1024, 768
TABS, STRIP, MARGIN, GAP = 48, 56, 12, 8
TALLEST_ROW = 76

PRESETS = 8
EAST, TOGGLE = 1, 2  # as the format numbers them
LEFT, MIDDLE = 1, 2

WHITE: Colour = (1, 1, 1)
GROUND: Colour = (0.07, 0.07, 0.09)
DARK: Colour = (0.13, 0.13, 0.16)
GREY: Colour = (0.3, 0.3, 0.34)
GREEN: Colour = (0.2, 0.6, 0.35)
RED: Colour = (0.7, 0.25, 0.25)
PAGES: Mapping[str, Colour] = {
    "look": (0.25, 0.5, 0.8),
    "motion": (0.2, 0.6, 0.55),
    "guidance": (0.65, 0.45, 0.2),
    "control": (0.55, 0.35, 0.7),
    "advanced": (0.4, 0.45, 0.5),
}
"""The groups of a schema, in the order of their pages."""

WORDS: Sequence[tuple[str, str, Colour]] = (
    ("/start", "Start", GREEN),
    ("/stop", "Stop", RED),
    ("/trigger", "One picture", GREY),
    ("/p", "Output on", GREEN),
    ("/P", "Output off", RED),
    ("/x", "Open anew", GREY),
)
STEPS: Mapping[str, Sequence[int]] = {"seed": (-100, -1, 1, 100)}
OTHER_STEPS = (-64, -8, 8, 64)
WIDEST_FADER = 500
"""Whole numbers of a wider range have buttons that add: no finger hits one of them."""

# A message may say several words, and a number has more digits than anybody wants to see.
TELLS = """function onReceiveOSC(message)
  local words = {}
  for _, argument in ipairs(message[2]) do
    local word = argument.value
    if argument.tag == 'f' then word = string.format('%.4g', word) end
    table.insert(words, tostring(word))
  end
  self.values.text = table.concat(words, '  ')
  return true
end"""

# What a finger holds is not moved by what comes back from a moment ago.
HELD = """function onReceiveOSC()
  return self.values.touch
end"""


@dataclass(frozen=True, slots=True)
class Says:
    """What a control sends.

    Attributes:
        span: of a fader's value, from its left to its right end.
        constant: is sent at each press, in place of the value.
    """

    address: str
    span: tuple[float, float] = (0, 1)
    constant: str | float | None = None
    follows: bool = False


class Sheet:
    """A node that holds others, and how they are put there."""

    def __init__(self, node: Xml.Element, path: str) -> None:
        self.node = node
        self._path = path
        self._children = Xml.SubElement(node, "children")

    def sheet(self, kind: str, name: str, frame: Frame, **more: Any) -> "Sheet":
        """Another one in it: a ``PAGER``, or a ``GROUP`` that is one of its pages."""
        path = f"{self._path}/{name}"
        node = _node(self._children, kind, path, name, frame, color=GROUND, **more)
        return Sheet(node, path)

    def caption(self, text: str, frame: Frame, size: int = 16, **more: Any) -> None:
        """Words that stand there; a finger goes through them to what lies below."""
        look = {"textSize": size, "textColor": WHITE, "background": False, "outline": False}
        node = self._add("LABEL", text, frame, **look, **more)
        _value(node, "text", text)

    def follower(self, address: str, frame: Frame, *, wraps: bool = False) -> None:
        """What an address tells, in words."""
        kind = "TEXT" if wraps else "LABEL"
        look = {"color": DARK, "textColor": WHITE, "textSize": 16, "textAlignH": LEFT}
        node = self._add(kind, f"says {address}", frame, script=TELLS, outline=False, **look)
        _value(node, "text", "")
        _message(node, Says(address, follows=True), "text", "STRING", sends=False)

    def button(
        self, says: Says, text: str, frame: Frame, colour: Colour, *, toggles: bool = False
    ) -> None:
        """A button with its caption; a constant is sent when it goes down."""
        node = self._add("BUTTON", f"{says.address} {text}", frame, color=colour)
        if toggles:
            _property(node, "buttonType", TOGGLE)
        _value(node, "x", "0")
        _message(node, says, "x", "FLOAT")
        if text:
            self.caption(text, frame, size=18)

    def fader(self, says: Says, start: float, steps: int, frame: Frame, colour: Colour) -> None:
        """A fader from left to right; ``start`` is 0..1."""
        node = self._add("FADER", says.address, frame, color=colour, orientation=EAST, script=HELD)
        _property(node, "gridSteps", steps)
        _value(node, "x", f"{start:.6g}")
        _message(node, says, "x", "FLOAT")

    def _add(self, kind: str, name: str, frame: Frame, **more: Any) -> Xml.Element:
        path = f"{self._path}/{name}/{frame}"
        return _node(self._children, kind, path, name, frame, **more)


def layout(rules: Mapping[str, Any]) -> bytes:
    """The XML of a layout for these parameters: each on the page of its group."""
    root = Xml.Element("lexml", version="3")
    canvas = _node(root, "GROUP", "dreamrelay", "dreamrelay", (0, 0, WIDTH, HEIGHT), color=GROUND)
    whole = Sheet(canvas, "dreamrelay")
    look = {"tabbarSize": TABS, "textSizeOn": 18, "textSizeOff": 18}
    pager = whole.sheet("PAGER", "pages", (0, 0, WIDTH, HEIGHT - STRIP), **look)
    _value(pager.node, "page", "0")
    _show(_page(pager, "show", GREY))
    for group, colour in PAGES.items():
        members = sorted(
            (rule.get("ui", {}).get("order", 0), name)
            for name, rule in rules.items()
            if _group(rule) == group
        )
        if members:
            _parameters(_page(pager, group, colour), [(n, rules[n]) for _, n in members], colour)
    _strip(whole)
    Xml.indent(root, space="")
    data: bytes = Xml.tostring(root, encoding="UTF-8", xml_declaration=True)
    return data


def _group(rule: Mapping[str, Any]) -> str:
    group = str(rule.get("ui", {}).get("group", ""))
    return group if group in PAGES else "advanced"


def _page(pager: Sheet, name: str, colour: Colour) -> Sheet:
    return pager.sheet(
        "GROUP",
        name,
        (0, TABS, WIDTH, HEIGHT - STRIP - TABS),
        tabLabel=name,
        tabColorOn=colour,
        tabColorOff=GROUND,
        textColorOn=WHITE,
        textColorOff=(0.7, 0.7, 0.7),
    )


def _show(page: Sheet) -> None:
    """What is played: the words, the prompt, the presets."""
    y = float(MARGIN)
    for frame, (address, text, colour) in zip(_across(y, 90, len(WORDS)), WORDS, strict=True):
        page.button(Says(address, constant=1.0), text, frame, colour)
    for name, tall in (("prompt", 100.0), ("negative_prompt", 60.0)):
        y += 98 if name == "prompt" else 108
        page.caption(name.replace("_", " "), (MARGIN, y, 150, tall))
        page.follower(f"/{name}", (170, y, WIDTH - 170 - MARGIN, tall), wraps=True)
    y += 76
    for word, address, colour in (
        ("Preset", "/preset", PAGES["look"]),
        ("Save", "/preset/save", GREY),
    ):
        tall = 150.0 if word == "Preset" else 90.0
        for number, frame in enumerate(_across(y, tall, PRESETS), 1):
            says = Says(f"{address}/{number}", constant=1.0)
            page.button(says, f"{word} {number}", frame, colour)
        y += tall + GAP


def _strip(whole: Sheet) -> None:
    """How it goes: on every page."""
    y, tall = HEIGHT - STRIP + GAP, STRIP - 2 * GAP
    x = float(MARGIN)
    for figure, wide in (("state", 250), ("fps", 70), ("age", 70), ("error", 360)):
        whole.caption(figure, (x, y, 50, tall), 14)
        whole.follower(f"/{figure}", (x + 54, y, wide, tall))
        x += 54 + wide + GAP


def _parameters(page: Sheet, members: Sequence[tuple[str, Any]], colour: Colour) -> None:
    """A row for each: its caption, what sets it, and what it is."""
    room = HEIGHT - STRIP - TABS - 2 * MARGIN
    row = min(TALLEST_ROW, room / len(members))
    for number, (name, rule) in enumerate(members):
        y, tall = MARGIN + number * row, row - GAP
        label = rule.get("ui", {}).get("label", name)
        page.caption(label, (MARGIN, y, 220, tall), textAlignH=LEFT)
        _setter(page, name, rule, (240, y, 560, tall), colour)
        wide = kind_of(rule) in ("string", "array")
        told = (240, y, WIDTH - 240 - MARGIN, tall) if wide else (808, y, 204, tall)
        page.follower(address_of(name), told)


def _setter(page: Sheet, name: str, rule: Any, frame: Frame, colour: Colour) -> None:
    kind, (low, high), address = kind_of(rule), bounds(rule), address_of(name)
    x, y, wide, tall = frame
    if kind == "enum":
        row = choices(rule)
        for word, place in zip(row, _across(y, tall, len(row), x, wide), strict=True):
            page.button(Says(address, constant=str(word)), str(word), place, colour)
    elif kind == "boolean":
        page.button(Says(address, follows=True), "on", (x, y, 180, tall), colour, toggles=True)
    elif kind in ("number", "integer") and low is not None and high is not None:
        if kind == "integer" and high - low > WIDEST_FADER:
            steps = STEPS.get(rule.get("ui", {}).get("widget", ""), OTHER_STEPS)
            for step, place in zip(steps, _across(y, tall, len(steps), x, wide), strict=True):
                page.button(
                    Says(f"{address}/add", constant=float(step)), f"{step:+}", place, colour
                )
            return
        grid = int(high - low) + 1 if kind == "integer" and high - low <= 20 else 11
        start = (float(rule.get("default", low)) - low) / (high - low)
        page.fader(Says(address, (low, high), follows=True), start, grid, frame, colour)


def _across(
    y: float, tall: float, count: int, x: float = MARGIN, wide: float = WIDTH - 2 * MARGIN
) -> list[Frame]:
    """So many frames beside one another."""
    each = (wide - GAP * (count - 1)) / count
    return [(round(x + n * (each + GAP), 1), y, round(each, 1), tall) for n in range(count)]


# -- the format -----------------------------------------------------------------------------------

_SPACE = uuid.UUID("5b0d1a5e-6f5c-4b0e-9c55-2f8f4d8f1d30")


def _node(
    parent: Xml.Element, kind: str, path: str, name: str, frame: Frame, **properties: Any
) -> Xml.Element:
    node = Xml.SubElement(parent, "node", ID=str(uuid.uuid5(_SPACE, path)), type=kind)
    Xml.SubElement(node, "properties")
    _property(node, "name", name)
    _property(node, "frame", frame)
    _property(node, "interactive", kind in ("BUTTON", "FADER", "PAGER"))
    for key, value in properties.items():
        _property(node, key, value)
    if kind in ("LABEL", "TEXT"):
        _property(node, "textAlignV", MIDDLE)
    return node


def _property(node: Xml.Element, key: str, value: Any) -> None:
    properties = node.find("properties")
    assert properties is not None
    plain = isinstance(value, bool | int | str)
    kind = {bool: "b", int: "i", str: "s"}[type(value)] if plain else "cr"[len(value) - 3]
    made = Xml.SubElement(properties, "property", type=kind)
    Xml.SubElement(made, "key").text = key
    written = Xml.SubElement(made, "value")
    if plain:
        written.text = str(int(value) if kind == "b" else value)
        return
    parts = (
        zip("rgba", (*value, 1), strict=True) if kind == "c" else zip("xywh", value, strict=True)
    )
    for part, number in parts:
        Xml.SubElement(written, part).text = f"{number:g}"


def _value(node: Xml.Element, key: str, default: str) -> None:
    """What a control is at first: ``x`` of a button or a fader, the ``text`` of a label."""
    value = Xml.SubElement(Xml.SubElement(node, "values"), "value")
    for name, text in (("key", key), ("locked", "0"), ("lockedDefaultCurrent", "0")):
        Xml.SubElement(value, name).text = text
    Xml.SubElement(value, "default").text = default
    Xml.SubElement(value, "defaultPull").text = "0"


def _message(
    node: Xml.Element, says: Says, value: str, conversion: str, *, sends: bool = True
) -> None:
    osc = Xml.SubElement(Xml.SubElement(node, "messages"), "osc")
    for key, on in (("enabled", True), ("send", sends), ("receive", says.follows)):
        Xml.SubElement(osc, key).text = str(int(on))
    Xml.SubElement(osc, "feedback").text = "0"  # what came in does not go out again
    Xml.SubElement(osc, "connections").text = "00001"  # the first
    if sends:
        trigger = Xml.SubElement(Xml.SubElement(osc, "triggers"), "trigger")
        Xml.SubElement(trigger, "var").text = value
        Xml.SubElement(trigger, "condition").text = "ANY" if says.constant is None else "RISE"
    _partial(Xml.SubElement(osc, "path"), "CONSTANT", "STRING", says.address)
    arguments = Xml.SubElement(osc, "arguments")
    match says.constant:
        case None:
            _partial(arguments, "VALUE", conversion, value, says.span)
        case str():
            _partial(arguments, "CONSTANT", "STRING", says.constant)
        case _:
            _partial(arguments, "CONSTANT", "FLOAT", f"{says.constant:g}")


def _partial(
    parent: Xml.Element, kind: str, conversion: str, value: str, span: tuple[float, float] = (0, 1)
) -> None:
    partial = Xml.SubElement(parent, "partial")
    for key, text in (("type", kind), ("conversion", conversion), ("value", value)):
        Xml.SubElement(partial, key).text = text
    for key, number in zip(("scaleMin", "scaleMax"), span, strict=True):
        Xml.SubElement(partial, key).text = f"{number:g}"


def main(arguments: list[str]) -> int:
    """Write a layout for a schema: that of a relay's stream, or one in a file."""
    if len(arguments) != 2 or not arguments[1].endswith(".tosc"):
        print("expected a schema's address or file, and a name that ends in .tosc")
        return 2
    source, target = arguments
    try:
        if source.startswith(("http://", "https://")):
            with urllib.request.urlopen(source, timeout=10) as answer:
                schema = json.load(answer)
        else:
            schema = json.loads(Path(source).read_text(encoding="utf-8"))
        if not isinstance(schema, dict):
            raise ValueError("expected a JSON Schema")
        Path(target).write_bytes(zlib.compress(layout(rules_of(schema)), 9))
    except (OSError, ValueError) as error:
        print(f"{source}: {error}")
        return 1
    print(f"{target}: {len(rules_of(schema))} parameters")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
