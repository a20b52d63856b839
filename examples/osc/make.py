"""Make ``docs/osc.md`` and the maps beside this file from the addresses and the engine's schema.

``python -m examples.osc.make`` in the repository's root; ``--check`` only compares.
"""

import csv
import io
import sys
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from dreamrelay.engines.parameters import StreamBatchParameters
from dreamrelay.osc import dialect, feedback, presets, server, wire
from dreamrelay.osc.fitting import bounds, kind_of, pair
from dreamrelay.osc.table import ADDRESSES, FIGURES, SUFFIXES, address_of
from dreamrelay.preprocess import HumanParameters
from examples.osc.tosc import layout

ROOT = Path(__file__).resolve().parent.parent.parent
PAGE = ROOT / "docs" / "osc.md"
TEMPLATE = ROOT / "examples" / "osc" / "osc.in.md"
CSV = ROOT / "examples" / "osc" / "addresses.csv"
TOSC = ROOT / "examples" / "osc" / "dreamrelay.tosc"

Rules = Mapping[str, Any]


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
        "complaints": str(server.MAX_ERRORS),
        "errors": str(feedback.MAX_ERRORS),
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
            each = takes(inner)
            if names := pair(rule):
                each = f"{takes(inner['properties'][names[0]])} {names[1]} ..."
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
        if kind == "enum" or (low is not None and high is not None):
            rows.writerow([f"{address_of(name)}/unit", "in", "number", 0, 1, f"{name} from 0..1"])
    for one in FIGURES:
        rows.writerow([one.name, "out", one.takes, "", "", one.does])
    return text.getvalue()


def _plain(value: float | None) -> str:
    return "" if value is None else f"{value:.10g}"


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
