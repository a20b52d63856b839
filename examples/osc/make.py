"""Make ``docs/osc.md`` and the maps beside this file from the addresses and the engine's schema.

``python -m examples.osc.make`` in the repository's root; ``--check`` only compares.
"""

import csv
import io
import sys
import uuid
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as Xml

from dreamrelay.engines.parameters import StreamBatchParameters
from dreamrelay.osc import dialect, feedback, presets, server, wire
from dreamrelay.osc.fitting import bounds, kind_of
from dreamrelay.osc.table import ADDRESSES, FIGURES, SUFFIXES, address_of
from dreamrelay.preprocess import HumanParameters

ROOT = Path(__file__).resolve().parent.parent.parent
PAGE = ROOT / "docs" / "osc.md"
TEMPLATE = ROOT / "examples" / "osc" / "osc.in.md"
CSV = ROOT / "examples" / "osc" / "addresses.csv"
TOSC = ROOT / "examples" / "osc" / "dreamrelay.tosc"

Rules = Mapping[str, Any]
PRESETS = 8


def rules() -> Rules:
    """The parameters of the worker that runs everywhere, in the order of the studio."""
    kinds = (StreamBatchParameters, HumanParameters)
    return {n: rule for kind in kinds for n, rule in kind.model_json_schema()["properties"].items()}


# -- the page -------------------------------------------------------------------------------------


def _figures() -> dict[str, str]:
    """The limits that the page names."""
    return {
        "held": f"{dialect.HELD_SECONDS:g}",
        "patches": f"{1 / server.BETWEEN_PATCHES:.0f}",
        "looks": f"{1 / feedback.LOOK_SECONDS:.0f}",
        "refresh": f"{feedback.REFRESH_SECONDS:g}",
        "kib": str(wire.MAX_DATAGRAM // 1024),
        "messages": str(wire.MAX_MESSAGES),
        "depth": str(wire.MAX_DEPTH),
        "arguments": str(wire.MAX_ARGUMENTS),
        "address": str(wire.MAX_ADDRESS),
        "rate": str(server.MAX_PER_SECOND),
        "replies": str(server.MAX_REPLIES),
        "reply_kib": str(server.MAX_REPLY_BYTES // 1024),
        "targets": str(feedback.MAX_TARGETS),
        "presets": str(presets.MAX_PRESETS),
        "name": str(presets.MAX_NAME),
    }


def takes(rule: Mapping[str, Any]) -> str:
    """What a parameter takes, in few words."""
    kind = kind_of(rule)
    rule = next((r for r in rule.get("anyOf", [rule]) if r.get("type") != "null"), rule)
    low, high = bounds(rule)
    span = f" {low:g}..{high:.10g}" if low is not None and high is not None else ""
    match kind:
        case "number":
            return f"float{span}"
        case "integer":
            return f"int{span}"
        case "boolean":
            return "0 or 1"
        case "string":
            return "text"
        case "enum":
            return ", ".join(f"{n}: `{word}`" for n, word in enumerate(rule["enum"]))
        case "array":
            inner = rule["items"]
            each = "text weight ..." if kind_of(inner) == "object" else takes(inner)
            return f"up to {rule.get('maxItems', 64)} of {each}, or none"
    return "JSON"


def page(of: Rules) -> str:
    """``docs/osc.md``: the template beside this file, filled in."""
    words = [
        f"| `{one.name}` | {' '.join(f'`{alias}`' for alias in one.aliases)} |"
        f" {one.takes} | {one.does} |"
        for one in ADDRESSES
    ]
    parameters = [
        f"| `{address_of(name)}` | {takes(rule)} | {rule.get('description', '')} |"
        for name, rule in of.items()
    ]
    tables = {
        "words": words,
        "parameters": parameters,
        "endings": [f"| `/{suffix}` | {does} |" for suffix, does in SUFFIXES.items()],
        "figures": [f"| `{one.name}` | {one.takes} | {one.does} |" for one in FIGURES],
    }
    text = TEMPLATE.read_text(encoding="utf-8")
    for name, filling in {**_figures(), **{n: "\n".join(t) for n, t in tables.items()}}.items():
        text = text.replace(f"<<{name}>>", filling)
    return text


# -- the list -------------------------------------------------------------------------------------


def addresses(of: Rules) -> str:
    """``addresses.csv``."""
    text = io.StringIO()
    rows = csv.writer(text, lineterminator="\n")
    rows.writerow(["address", "direction", "type", "least", "greatest", "meaning"])
    for one in ADDRESSES:
        kind = "button" if one.kind in ("button", "everything") else one.takes
        for spelling in (one.name, *one.aliases):
            rows.writerow([spelling, "in", kind, "", "", one.does])
    for name, rule in of.items():
        low, high = bounds(rule)
        kind, words = kind_of(rule), rule.get("description", "")
        rows.writerow([address_of(name), "in, out", kind, _plain(low), _plain(high), words])
        if kind in ("number", "integer") and low is not None and high is not None:
            rows.writerow([f"{address_of(name)}/unit", "in", "number", 0, 1, f"{name} from 0..1"])
    for one in FIGURES:
        rows.writerow([one.name, "out", one.takes, "", "", one.does])
    return text.getvalue()


def _plain(value: float | None) -> str:
    return "" if value is None else f"{value:.10g}"


# -- the layout for TouchOSC ----------------------------------------------------------------------

_SPACE = uuid.UUID("5b0d1a5e-6f5c-4b0e-9c55-2f8f4d8f1d30")
WIDTH, ROW = 640, 48


class Layout:
    """Controls one under the other, in TouchOSC's XML."""

    def __init__(self) -> None:
        self._root = Xml.Element("lexml", version="3")
        self._page = self._node(self._root, "GROUP", "dreamrelay", (0, 0, WIDTH, 0))
        self._children = Xml.SubElement(self._page, "children")
        self._y = 8

    def row(self) -> int:
        """Begin the next row; where its top is."""
        y, self._y = self._y, self._y + ROW
        return y

    def label(self, text: str, frame: tuple[int, int, int, int], listens: str = "") -> None:
        node = self._node(self._children, "LABEL", f"label {text}{listens}", frame)
        self._value(node, "text", text)
        if listens:
            self._message(node, listens, "text", "STRING", send=False)

    def fader(
        self, address: str, frame: tuple[int, int, int, int], span: tuple[float, float]
    ) -> None:
        node = self._node(self._children, "FADER", address, frame, orientation=1)
        self._value(node, "x", "0")
        self._message(node, address, "x", "FLOAT", span)

    def button(
        self, address: str, frame: tuple[int, int, int, int], *, toggles: bool = False
    ) -> None:
        node = self._node(self._children, "BUTTON", address, frame, buttonType=2 if toggles else 0)
        self._value(node, "x", "0")
        self._message(node, address, "x", "FLOAT", receive=toggles)

    def radio(self, address: str, frame: tuple[int, int, int, int], steps: int) -> None:
        node = self._node(self._children, "RADIO", address, frame, orientation=1, steps=steps)
        self._value(node, "x", "0")
        self._message(node, address, "x", "INTEGER", receive=False)

    def written(self) -> bytes:
        """The XML, unpacked."""
        frame = self._page.find("properties/property[@type='r']/value/h")
        assert frame is not None
        frame.text = str(self._y + 8)
        Xml.indent(self._root, space="")
        data: bytes = Xml.tostring(self._root, encoding="UTF-8", xml_declaration=True)
        return data

    def _node(
        self,
        parent: Xml.Element,
        kind: str,
        name: str,
        frame: tuple[int, int, int, int],
        **numbers: int,
    ) -> Xml.Element:
        node = Xml.SubElement(parent, "node", ID=str(uuid.uuid5(_SPACE, name)), type=kind)
        properties = Xml.SubElement(node, "properties")
        self._property(properties, "s", "name", name)
        value = self._property(properties, "r", "frame", None)
        for key, number in zip("xywh", frame, strict=True):
            Xml.SubElement(value, key).text = str(number)
        colour = self._property(properties, "c", "color", None)
        for key, part in zip("rgba", (0.25, 0.5, 0.75, 1), strict=True):
            Xml.SubElement(colour, key).text = str(part)
        for key, number in numbers.items():
            self._property(properties, "i", key, str(number))
        return node

    @staticmethod
    def _property(parent: Xml.Element, kind: str, key: str, text: str | None) -> Xml.Element:
        made = Xml.SubElement(parent, "property", type=kind)
        Xml.SubElement(made, "key").text = key
        value = Xml.SubElement(made, "value")
        value.text = text
        return value

    @staticmethod
    def _value(node: Xml.Element, key: str, default: str) -> None:
        value = Xml.SubElement(Xml.SubElement(node, "values"), "value")
        for name, text in (("key", key), ("locked", "0"), ("lockedDefaultCurrent", "0")):
            Xml.SubElement(value, name).text = text
        Xml.SubElement(value, "default").text = default
        Xml.SubElement(value, "defaultPull").text = "0"

    def _message(
        self,
        node: Xml.Element,
        address: str,
        value: str,
        conversion: str,
        span: tuple[float, float] = (0, 1),
        *,
        send: bool = True,
        receive: bool = True,
    ) -> None:
        osc = Xml.SubElement(Xml.SubElement(node, "messages"), "osc")
        for key, on in (("enabled", True), ("send", send), ("receive", receive)):
            Xml.SubElement(osc, key).text = str(int(on))
        Xml.SubElement(osc, "feedback").text = "0"
        Xml.SubElement(osc, "connections").text = "11111"
        trigger = Xml.SubElement(Xml.SubElement(osc, "triggers"), "trigger")
        Xml.SubElement(trigger, "var").text = value
        Xml.SubElement(trigger, "condition").text = "ANY"
        self._partial(Xml.SubElement(osc, "path"), "CONSTANT", "STRING", address, (0, 1))
        self._partial(Xml.SubElement(osc, "arguments"), "VALUE", conversion, value, span)

    @staticmethod
    def _partial(
        parent: Xml.Element, kind: str, conversion: str, value: str, span: tuple[float, float]
    ) -> None:
        partial = Xml.SubElement(parent, "partial")
        for key, text in (("type", kind), ("conversion", conversion), ("value", value)):
            Xml.SubElement(partial, key).text = text
        for key, number in zip(("scaleMin", "scaleMax"), span, strict=True):
            Xml.SubElement(partial, key).text = f"{number:g}"


def layout(of: Rules) -> bytes:
    """What ``dreamrelay.tosc`` unpacks to."""
    made = Layout()
    y = made.row()
    for n, address in enumerate(("/start", "/stop", "/trigger", "/p", "/P")):
        made.button(address, (8 + n * 125, y, 115, 26))
        made.label(address[1:], (8 + n * 125, y + 26, 115, 16))
    y = made.row()
    for n, figure in enumerate(("/state", "/fps", "/age", "/error")):
        made.label(figure[1:], (8 + n * 156, y, 60, 40))
        made.label("", (68 + n * 156, y, 90, 40), listens=figure)
    y = made.row()
    for n in range(PRESETS):
        made.button(f"/preset/{n + 1}", (8 + n * 78, y, 70, 40))
    for name, rule in of.items():
        kind, (low, high) = kind_of(rule), bounds(rule)
        address, y = address_of(name), made.row()
        made.label(name, (8, y, 190, 40))
        if kind in ("number", "integer") and low is not None and high is not None:
            if high - low <= 1000:
                made.fader(address, (200, y, 330, 40), (low, high))
            else:
                made.button(f"{address}/add", (200, y, 120, 40))
            made.label("", (540, y, 92, 40), listens=address)
        elif kind == "boolean":
            made.button(address, (200, y, 120, 40), toggles=True)
        elif kind == "enum":
            made.radio(address, (200, y, 330, 40), len(rule["enum"]))
            made.label("", (540, y, 92, 40), listens=address)
        else:
            made.label("", (200, y, 432, 40), listens=address)
    return made.written()


def main(arguments: list[str]) -> int:
    """Write the files, or compare them: 1 if one is not what it should be."""
    of = rules()
    wanted = {PAGE: page(of).encode(), CSV: addresses(of).encode(), TOSC: layout(of)}
    stale = []
    for path, content in wanted.items():
        there = path.read_bytes() if path.is_file() else b""
        if path is TOSC and there:
            there = zlib.decompress(there)
        if there != content:
            stale.append(path)
    for path in stale:
        print(f"{path.relative_to(ROOT)} is not what the table and the schema say")
        if "--check" not in arguments:
            packed = zlib.compress(wanted[path], 9) if path is TOSC else wanted[path]
            path.write_bytes(packed)
            print("  written")
    return int("--check" in arguments and bool(stale))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
