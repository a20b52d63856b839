"""The figures of ``python -m benchmarks engines`` as tables, and as a section of the docs.

``python -m benchmarks.engines_report`` writes what was kept into ``docs/performance.md``.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent.parent
KEPT = ROOT / "benchmarks" / "results" / "engines.json"
PAGE = ROOT / "docs" / "performance.md"
MARKS = ("<!-- engines: python -m benchmarks.engines_report -->", "<!-- end of engines -->")

PACKAGE = "streamdiffusion package"

GOALS = "Goals: 0.50 of the floor for SD-Turbo at 512 with torch alone, 1.5 times the package."


def table(figures: Mapping[str, Any]) -> str:
    """One table of Markdown for each model and size, and the reasons of those that are absent."""
    speed = figures["speed"]
    source = "known of this card" if speed["known"] else "measured here"
    measured, floor = speed["measured"], speed["floor"]
    parts = [
        f"{figures['device']}, {figures['precision']}, {figures['rounds']} rounds. Floors from"
        f" {_speeds(floor)}, {source} (a large product and a large copy: {_speeds(measured)})."
        f" {GOALS}"
    ]
    parts += [_case(title, case) for title, case in figures["cases"].items()]
    return "\n\n".join(parts)


def _case(title: str, case: Mapping[str, Any]) -> str:
    floor = 1000 / case["floor_ms"]
    lines = [
        f"**{title}**: {_short(case['gflop'])} GFLOP a frame, {_short(case['weights_mb'])} MB of"
        f" weights, floor {_short(case['floor_ms'])} ms = {_short(floor)} fps",
        "",
        "| | fps | median | of the floor | times the package | CPU ms | MB beside the weights |",
        "|---|---:|---:|---:|---:|---:|---:|",
    ]
    contenders = case["contenders"]
    package = contenders.get(PACKAGE)
    for name, row in contenders.items():
        times = "-" if package is None else f"{row['fps'] / package['fps']:.2f}"
        memory = "-" if row["mb"] is None else str(row["mb"])
        lines.append(
            f"| {name} | {_short(row['fps'])} | {_short(row['fps_median'])}"
            f" | {row['fps'] / floor:.3f} | {times} | {_short(row['cpu_ms'])} | {memory} |"
        )
    if case["pipeline"]:
        both = case["pipeline"]
        lines += [
            "",
            f"The whole worker (sdpa; JPEG in, JPEG out, through a relay): {_short(both['worker'])}"
            f" fps, its engine alone {_short(both['alone'])};"
            f" on average {_short(both['worker_mean'])} and {_short(both['alone_mean'])}.",
        ]
    absent = [f"* {name}: {why}" for name, why in case["absent"].items()]
    return "\n".join([*lines, *(["", *absent] if absent else [])])


def page(text: str, kept: Mapping[str, Any]) -> str:
    """The page with the figures that were kept between its marks."""
    before, rest = text.split(MARKS[0])
    _, after = rest.split(MARKS[1])
    figures, machine = kept["engines"], kept["machine"]
    card = figures["card"]
    where = f"{machine['processor']}, {machine['cores']} cores"
    if card is not None:
        where = f"{card['name']}, {card['memory_gb']} GB, CUDA {card['cuda']}; {where}"
    packages = machine["packages"]
    versions = ", ".join(
        f"{name} {packages[name]}" for name in ("torch", "diffusers") if name in packages
    )
    loads = " to ".join(map(str, kept["load"]))
    source = f"Measured {kept['date']} on {where}, {versions}, load {loads}."
    if not figures["full"]:
        source += (
            " **No CUDA card was at hand**: these are the small models on the processor. They say"
            " that the command runs, and nothing of how fast a card is."
        )
    return f"{before}{MARKS[0]}\n\n{source}\n\n{table(figures)}\n\n{MARKS[1]}{after}"


def _speeds(both: list[float]) -> str:
    return f"{_short(both[0] / 1e12)} TFLOP/s, {_short(both[1] / 1e9)} GB/s"


def _short(value: float) -> str:
    return f"{value:.4g}" if value < 10_000 else f"{value:.0f}"


if __name__ == "__main__":
    found = json.loads(KEPT.read_text(encoding="utf-8"))
    PAGE.write_text(page(PAGE.read_text(encoding="utf-8"), found), encoding="utf-8")
