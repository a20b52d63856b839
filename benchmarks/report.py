"""One table for people, one JSON file for the next comparison."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

BASELINE = Path(__file__).parent / "results" / "baseline.json"

GOALS: Mapping[str, Mapping[str, float]] = {
    "ceiling / binary": {"1": 0.50, "16": 0.70},
    "ceiling / binary, credit ahead": {"1": 0.50, "16": 0.70},
    "naive / seed to binary": {"1": 5.5, "16": 3.3},
    "naive / seed to binary, credit ahead": {"1": 5.5, "16": 3.3},
    "naive-deflate / seed to binary": {"16": 100},
}
WORKER_GOAL = 0.97


def load_baseline() -> dict[str, Any]:
    """The figures that were kept; empty if there are none."""
    if not BASELINE.is_file():
        return {}
    figures: dict[str, Any] = json.loads(BASELINE.read_text())
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


def _row(name: str, columns: list[str], before: str, goal: str) -> str:
    figures = "".join(f"{column:>9}" for column in columns)
    return f"  {name:<40}{figures:<18}  {before:>13}  {goal:>11}".rstrip()


def _short(value: float) -> str:
    return f"{value:.2f}" if value < 10 else f"{value:.0f}"
