"""What ``python -m benchmarks pocket`` prints."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from benchmarks.marks import short

KEPT = Path(__file__).parent / "results" / "pocket.json"
"""What was kept of it."""

GOALS = {"256 x 256, 2 threads": "60 fps, x 4", "256 x 256, 1 thread": "30 fps, x 4"}


def load_kept() -> dict[str, Any]:
    """The figures that were kept; empty if there are none."""
    if not KEPT.is_file():
        return {}
    kept: dict[str, Any] = json.loads(KEPT.read_text(encoding="utf-8"))["pocket"]
    return kept


def table(figures: Mapping[str, Any], before: Mapping[str, Any]) -> str:
    """Speed and start, beside those that were kept before."""
    speed, kept = figures["speed"], before.get("speed", {}).get("runs", {})
    lines = [
        f"pocket: whole frames through the engine, quickest frame of {speed['rounds']} rounds;"
        " behind each rate the ratio to torch"
    ]
    for run, raced in speed["runs"].items():
        lines.append(_row(run, ["fps", "ratio"], "before", "goal"))
        for name, rate in raced["fps"].items():
            ratio = raced["ratios"].get(f"{name} / torch")
            old = kept.get(run, {}).get("fps", {}).get(name)
            goal = GOALS.get(run, "") if name.startswith("OpenVINO") else ""
            columns = [short(rate), "" if ratio is None else short(ratio)]
            lines.append(_row(f"  {name}", columns, short(old) if old else "", goal))
        for name, why in raced["absent"].items():
            lines.append(f"    {name}: {why}")
    lines.append(_row("from the start of a process", ["s"], "before", "goal"))
    for name, seconds in figures["start"].items():
        old = before.get("start", {}).get(name)
        goal = "5" if name == "auto" else ""
        lines.append(_row(f"  {name}", [short(seconds)], short(old) if old else "", goal))
    return "\n".join(lines)


def quote(figures: Mapping[str, Any]) -> str:
    """A sentence for a README."""
    run, raced = next(iter(figures["speed"]["runs"].items()))
    name = max(raced["fps"], key=raced["fps"].__getitem__)
    ratio = raced["ratios"].get(f"{name} / torch")
    beside = f", {ratio:.1f} times torch" if ratio else ""
    return (
        f"the pocket model paints {raced['fps'][name]:.0f} pictures a second"
        f" ({run}, {name}{beside})"
    )


def _row(name: str, columns: list[str], before: str, goal: str) -> str:
    figures = "".join(f"{column:>9}" for column in columns)
    return f"  {name:<40}{figures:<18}  {before:>13}  {goal:>11}".rstrip()
