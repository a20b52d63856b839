"""Writes the costs that the capacity page computes with: ``python -m benchmarks.costs``.

Each figure is read from ``benchmarks/results`` and keeps its source; what nobody here measured says
whose it is. With them go the inputs, presets and words, so that page and command are one thing.
The two tables of ``docs/capacity.md`` are written from the same.
"""

import json
import sys
from typing import Any, get_args

from benchmarks.processes import ROOT
from dreamrelay import capacity
from dreamrelay.config.show import PRESETS, Engine, Show

TARGET = ROOT / "dreamrelay" / "relay" / "static" / "capacity.json"
PAGE = ROOT / "docs" / "capacity.md"
RESULTS = ROOT / "benchmarks" / "results"

_RELAY = "baseline.json", "parts", "relay", "microseconds_per_delivered_picture"
_WIRE = "wire.json", "wire"
_JITTER = "baseline.json", "parts", "dispatch", "cases", "two of 40 ms, +-10 %"

MEASURED: dict[str, tuple[tuple[str, ...], str, str]] = {
    "relay_us_1": (
        (*_RELAY, "binary", "1"),
        "us",
        "Relay, CPU time for a delivered picture, one viewer",
    ),
    "relay_us_16": ((*_RELAY, "binary", "16"), "us", "The same, 16 viewers"),
    "tls_factor": ((*_WIRE, "ratios", "TLS / plain"), "", "The same with TLS, over without"),
    "nats_us": (
        (*_WIRE, "microseconds_per_delivered_picture", "nats"),
        "us",
        "NATS, CPU time for a picture delivered to a relay",
    ),
    "nats_hop_ms": ((*_WIRE, "nats_hop_ms"), "ms", "From a relay over NATS to four others"),
    "worker_efficiency": (
        ("baseline.json", "parts", "worker", "ratios", "scripted-512"),
        "",
        "Worker, pace of its engine over the engine alone",
    ),
    "dispatch_efficiency": (
        (*_JITTER, "efficiency"),
        "",
        "Several workers at one stream, over what they could do (simulated)",
    ),
    "age_p95": (
        (*_JITTER, "age_p95"),
        "",
        "Age of their pictures, p95, over the time of the slowest (simulated)",
    ),
}
"""Figure: where it lies in the results, its unit, its words."""

ASSUMED: dict[str, tuple[float, str, str, str]] = {
    "wire_factor": (
        round(1538 / 1448, 4),
        "",
        "Bytes on an Ethernet for each byte of a picture",
        "arithmetic: frames of 1538 bytes carry 1448 of TCP",
    ),
    "video_mbit": (
        4.0,
        "Mbit/s",
        "One encoded video",
        "an assumption: H.264 of a usual size; nothing was measured",
    ),
}

_POCKET = "pocket.json", "pocket", "speed", "runs"
_PAPER = "published, not measured here: StreamDiffusion, arXiv 2312.12491, table 1"

ENGINES: dict[str, tuple[str, tuple[str, ...] | float]] = {
    "pocket-256": (
        "Pocket model, 256 x 256, two cores",
        (*_POCKET, "256 x 256, 2 threads", "fps", "OpenVINO bf16"),
    ),
    "pocket-512": (
        "Pocket model, 512 x 512, two cores",
        (*_POCKET, "512 x 512, 2 threads", "fps", "OpenVINO bf16"),
    ),
    "sd-turbo-4090": ("SD-Turbo, 512 x 512, one step, RTX 4090", 21.34),
    "sd-turbo-4090-trt": ("The same with TensorRT", 10.65),
    "lcm-4-4090": ("LCM, 512 x 512, four steps, RTX 4090", 48.15),
}
"""Engine: its words, and where its pictures a second lie, or the ms that others published."""


def content() -> dict[str, Any]:
    """All that the page and the command read.

    Raises:
        KeyError: a figure is no longer where it was.
    """
    costs: dict[str, Any] = {}
    for name, (path, unit, words) in MEASURED.items():
        costs[name] = {"value": _figure(path), "unit": unit, "words": words, "source": _name(path)}
    for name, (value, unit, words, source) in ASSUMED.items():
        costs[name] = {"value": value, "unit": unit, "words": words, "source": source}
    schema = Show.model_json_schema()["properties"]
    return {
        "machine": _machine(),
        "costs": costs,
        "engines": {name: _engine(name) for name in get_args(Engine)},
        "inputs": {n: _input(p) for n, p in schema.items() if n not in capacity.NOT_OF_A_SHOW},
        "presets": {name: dict(values) for name, values in PRESETS.items()},
        "rows": [list(row) for row in capacity.ROWS],
        "binds": dict(capacity.BINDS),
        "tiers": dict(capacity.TIERS),
        "notes": dict(capacity.NOTES),
    }


def _figure(path: tuple[str, ...]) -> float:
    here: Any = json.loads((RESULTS / path[0]).read_text(encoding="utf-8"))
    for step in path[1:]:
        if step not in here:
            raise KeyError(f"{_name(path)}: there is no {step!r}: say where the figure lies now")
        here = here[step]
    return float(here)


def _name(path: tuple[str, ...]) -> str:
    return f"benchmarks/results/{path[0]}: {' / '.join(path[1:])}"


def _engine(name: str) -> dict[str, Any]:
    words, figure = ENGINES[name]
    if isinstance(figure, float):
        value, source = figure, _PAPER
    else:
        value, source = round(1000 / _figure(figure), 2), f"{_name(figure)}, as ms"
    return {
        "value": value,
        "words": words,
        "source": source,
        "measured": not isinstance(figure, float),
        "processor": name.startswith("pocket"),
    }


def _input(field: dict[str, Any]) -> dict[str, Any]:
    """A field as the page's form wants it: one type, its bounds, its words."""
    kinds = field.get("anyOf", [field])
    found = {key: value for kind in kinds for key, value in kind.items() if value != "null"}
    kept = ("type", "minimum", "maximum", "exclusiveMinimum", "enum")
    return {
        **{key: found[key] for key in kept if key in found},
        "default": field.get("default"),
        "words": field["description"],
    }


def _machine() -> str:
    found = json.loads((RESULTS / "baseline.json").read_text(encoding="utf-8"))["machine"]
    return f"{found['processor']}, {found['cores']} cores, {found['system']}, {found['python']}"


def text() -> str:
    """The file."""
    return json.dumps(content(), indent=1, ensure_ascii=False) + "\n"


THRIFTY = {"fps": 15, "picture_kb": 30, "tls": False}
"""What the page shows a large audience can be made of."""


def _figures(found: dict[str, Any]) -> str:
    engines = {name: {**engine, "unit": "ms"} for name, engine in found["engines"].items()}
    rows = ["| | figure | value | source |", "|---|---|---:|---|"]
    for name, cost in {**found["costs"], **engines}.items():
        value = f"{cost['value']:g} {cost['unit']}".strip()
        rows.append(f"| `{name}` | {cost['words']} | {value} | {cost['source']} |")
    return "\n".join(rows)


def _shows(found: dict[str, Any]) -> str:
    costs = capacity.Costs.of(found)
    shows = dict(PRESETS)
    shows["festival, thrifty"] = {**PRESETS["festival"], **THRIFTY}
    rows = []
    for name, values in sorted(shows.items(), key=lambda show: show[1]["viewers"]):
        show = Show(**values)
        plan = capacity.plan(show, costs)
        cells = (
            *(name, f"{show.viewers:,}", f"{plan.viewers_gbit:,.2f}", f"{plan.relays:,}"),
            *(f"{plan.cards}", f"{plan.added_ms:.0f}", f"{plan.traffic_tb:,.1f}"),
            f"{plan.video_gbit:,.2f}",
        )
        rows.append(f"| {' | '.join(cells)} |")
    head = (
        "| show | viewers | Gbit/s | relays | cards | delay, ms | TB a month | as video, Gbit/s |"
    )
    return "\n".join([head, "|---|---:|---:|---:|---:|---:|---:|---:|", *rows])


def page(before: str) -> str:
    """The page of the documentation with its two tables as they are now."""
    found = content()
    for name, table in (("figures", _figures(found)), ("shows", _shows(found))):
        begin, end = f"<!-- {name}: python -m benchmarks.costs -->\n", f"\n<!-- end of {name} -->"
        head, _, rest = before.partition(begin)
        before = f"{head}{begin}{table}{end}{rest.partition(end)[2]}"
    return before


def main() -> int:
    """Write both."""
    TARGET.write_text(text(), encoding="utf-8")
    PAGE.write_text(page(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
