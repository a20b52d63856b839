"""The pocket model beside what the processor could do: pictures a second over the FLOP floor.

The model's operations are counted over its shapes (U-Net; the pixel cells move bytes only, and the
prompt is encoded once). What the processor computes at most is measured in the same rounds, by
large products and by convolutions in the precision in which the engine runs, with as many threads.
The floor of a picture is the one over the better of the two.
"""

import json
from collections.abc import Mapping
from typing import Any

from benchmarks import pocket
from benchmarks.effort import Effort, Say
from benchmarks.marks import Row, at_least
from benchmarks.pocket_process import PEAK
from dreamrelay.engines.pocket import GRAPH, model_folder
from dreamrelay.importer import Entry

_OPERATIONS = Entry("benchmarks.peaks:OPERATIONS", "OpenVINO", "pocket")
_COUNT = Entry("benchmarks.peaks:operations", "OpenVINO", "pocket")

SIZE = 256
CELL, WORDS = 8, 77
"""Pixels of a latent's side, tokens of a prompt."""

FRAMES, QUICK_FRAMES = 12, 1
THREADS = (2, 1)
CONTENDERS = ("auto", pocket.FIRST)

MARKS = {"floor": at_least(0.5, 0.7), "torch": at_least(3, 4)}


def measure(effort: Effort, say: Say) -> dict[str, Any]:
    """The pocket model's share of the floor for each number of threads, and its ratio to torch."""
    operations: Mapping[str, float] = _OPERATIONS.load()
    flops = count(SIZE)
    raced = pocket.measure_speed(
        effort.rounds,
        contenders=effort.pick((*CONTENDERS, *operations), ("auto", next(iter(operations)))),
        sizes={SIZE: effort.pick(FRAMES, QUICK_FRAMES)},
        threads=effort.pick(THREADS, THREADS[:1]),
        say=say,
    )
    return {
        "gflop": round(flops / 1e9, 3),
        "runs": {run: report(figures, flops, operations) for run, figures in raced["runs"].items()},
    }


def count(size: int) -> int:
    """Operations of the pocket model for a picture of ``size`` x ``size`` pixels."""
    folder = model_folder() / "unet"
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    side, channels = size // CELL, config["in_channels"]
    words = (1, WORDS, config["cross_attention_dim"])
    counted: int = _COUNT.load()(folder / GRAPH, (1, channels, side, side), (1,), words)
    return counted


def report(
    figures: Mapping[str, Any], flops: float, operations: Mapping[str, float]
) -> dict[str, Any]:
    """What one race comes to: rates, the peak, and the ratios."""
    fps, devices = figures["fps"], figures["devices"]
    peaks = {
        name: fps[name] * count / 1e9
        for name, count in operations.items()
        if name in fps and devices[name] in devices.get("auto", "")
    }
    ratios: dict[str, float] = {}
    if peaks and "auto" in fps:
        ratios["floor"] = round(fps["auto"] * flops / 1e9 / max(peaks.values()), 4)
    if pocket.FIRST in fps and "auto" in fps:
        ratios["torch"] = round(fps["auto"] / fps[pocket.FIRST], 3)
    return {
        "device": devices.get("auto"),
        "fps": {name: rate for name, rate in fps.items() if not name.startswith(PEAK)},
        "peak_gflops": {name: round(rate, 1) for name, rate in peaks.items()},
        "ratios": ratios,
        "absent": figures["absent"],
    }


def rows(found: Mapping[str, Any]) -> list[Row]:
    """The lines of the table."""
    titles = {"floor": "of the FLOP floor", "torch": "times torch"}
    return [
        Row(f"pocket {titles[name]}, {run}", ratio, MARKS[name])
        for run, figures in found["runs"].items()
        for name, ratio in figures["ratios"].items()
    ]
