"""One table for people, one JSON file for the next comparison."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

BASELINE = Path(__file__).parent / "results" / "baseline.json"
POCKET = BASELINE.with_name("pocket.json")
"""What was kept of ``python -m benchmarks pocket``."""

GOALS: Mapping[str, Mapping[str, float]] = {
    "ceiling / binary": {"1": 0.50, "16": 0.70},
    "ceiling / binary, credit ahead": {"1": 0.50, "16": 0.70},
    "naive / seed to binary": {"1": 5.5, "16": 3.3},
    "naive / seed to binary, credit ahead": {"1": 5.5, "16": 3.3},
    "naive-deflate / seed to binary": {"16": 100},
}
WORKER_GOAL = 0.97
POCKET_GOALS = {"256 x 256, 2 threads": "60 fps, x 4", "256 x 256, 1 thread": "30 fps, x 4"}


def load_baseline() -> dict[str, Any]:
    """The figures that were kept; empty if there are none."""
    figures: dict[str, Any] = json.loads(BASELINE.read_text()) if BASELINE.is_file() else {}
    if POCKET.is_file():
        figures["pocket"] = json.loads(POCKET.read_text())["pocket"]
    return figures


def table(figures: Mapping[str, Any], before: Mapping[str, Any]) -> str:
    """The ratios, beside those that were kept before."""
    machine = figures["machine"]
    loads = " to ".join(str(value) for value in figures["load"])
    lines = [
        f"{machine['processor']}, {machine['cores']} cores, {machine['system']},"
        f" {machine['python']}, load {loads}",
        " ".join(f"{name} {version}" for name, version in machine["packages"].items()),
    ]
    if "relay" in figures:
        lines += ["", *_relay(figures["relay"], before.get("relay", {}))]
    if "worker" in figures:
        lines += ["", *_worker(figures["worker"], before.get("worker", {}))]
    if "pocket" in figures:
        lines += ["", *_pocket(figures["pocket"], before.get("pocket", {}))]
    return "\n".join(lines)


def quote(figures: Mapping[str, Any]) -> str:
    """One sentence for a README."""
    parts = []
    if "relay" in figures:
        naive = figures["relay"]["ratios"]["naive-deflate / seed to binary"]
        parts.append(
            f"the relay spends 1/{naive['16']:.0f} of the CPU time of a naive relay with its"
            " library's defaults (16 viewers, 60 kB JPEG)"
        )
    if "worker" in figures:
        ratio = min(v for k, v in figures["worker"]["ratios"].items() if k.startswith("scripted"))
        share = f"{100 * min(ratio, 1):.1f} %"
        parts.append(f"the worker runs its engine at {share} of the speed that it has alone")
    if "pocket" in figures:
        parts += _pocket_quote(figures["pocket"])
    machine = figures["machine"]
    where = f"{machine['processor']}, {machine['cores']} cores, {machine['python']}"
    return f"{'; '.join(parts)} ({where}; `python -m benchmarks`)"


def _relay(relay: Mapping[str, Any], before: Mapping[str, Any]) -> list[str]:
    counts = list(next(iter(relay["ratios"].values())))
    lines = [
        f"relay: CPU time of its process for each delivered picture,"
        f" {relay['picture_bytes']} bytes, ratios of minima over {relay['rounds']} rounds",
        _row("viewers", counts, "before", "goal"),
    ]
    for name, ratios in relay["ratios"].items():
        kept = before.get("ratios", {}).get(name, {})
        goal = GOALS.get(name, {})
        lines.append(
            _row(
                name,
                [_short(ratios[count]) for count in counts],
                " ".join(_short(kept[count]) for count in counts if count in kept),
                " ".join(_short(goal[count]) for count in counts if count in goal),
            )
        )
    return lines


def _worker(worker: Mapping[str, Any], before: Mapping[str, Any]) -> list[str]:
    lines = [
        "worker: pictures per second / those of its engine alone,"
        f" best windows of {worker['rounds']} rounds",
        _row("engine", ["best", "mean"], "before", "goal"),
    ]
    for name, ratio in worker["ratios"].items():
        kept = before.get("ratios", {}).get(name)
        columns = [_short(ratio), _short(worker["ratios_of_means"][name])]
        goal = _short(WORKER_GOAL) if name.startswith("scripted") else ""
        lines.append(_row(name, columns, _short(kept) if kept else "", goal))
    for name, ratio in worker["cpu_ratios"].items():
        lines.append(_row(f"{name}: engine's part of the CPU time", [_short(ratio)], "", ""))
    return lines


def _pocket(pocket: Mapping[str, Any], before: Mapping[str, Any]) -> list[str]:
    speed, kept = pocket["speed"], before.get("speed", {}).get("runs", {})
    lines = [
        f"pocket: whole frames through the engine, quickest frame of {speed['rounds']} rounds;"
        " behind each rate the ratio to torch"
    ]
    for run, figures in speed["runs"].items():
        lines.append(_row(run, ["fps", "ratio"], "before", "goal"))
        for name, rate in figures["fps"].items():
            ratio = figures["ratios"].get(f"{name} / torch")
            old = kept.get(run, {}).get("fps", {}).get(name)
            goal = POCKET_GOALS.get(run, "") if name.startswith("OpenVINO") else ""
            columns = [_short(rate), "" if ratio is None else _short(ratio)]
            lines.append(_row(f"  {name}", columns, _short(old) if old else "", goal))
        for name, why in figures["absent"].items():
            lines.append(f"    {name}: {why}")
    lines.append(_row("from the start of a process", ["s"], "before", "goal"))
    for name, seconds in pocket["start"].items():
        old = before.get("start", {}).get(name)
        goal = "5" if name == "auto" else ""
        lines.append(_row(f"  {name}", [_short(seconds)], _short(old) if old else "", goal))
    return lines


def _pocket_quote(pocket: Mapping[str, Any]) -> list[str]:
    run, figures = next(iter(pocket["speed"]["runs"].items()))
    name = max(figures["fps"], key=figures["fps"].__getitem__)
    ratio = figures["ratios"].get(f"{name} / torch")
    beside = f", {ratio:.1f} times torch" if ratio else ""
    return [f"the pocket model paints {figures['fps'][name]:.0f} pictures a second"
            f" ({run}, {name}{beside})"]  # fmt: skip


def _row(name: str, columns: list[str], before: str, goal: str) -> str:
    figures = "".join(f"{column:>9}" for column in columns)
    return f"  {name:<40}{figures:<18}  {before:>13}  {goal:>11}".rstrip()


def _short(value: float) -> str:
    return f"{value:.2f}" if value < 10 else f"{value:.0f}"
