"""Our engine beside the ``streamdiffusion`` package and plain diffusers: same weights, same steps.

A part of ``benchmarks engines``: SD-Turbo with random weights, one step, whole frames from uint8 to
uint8; in full size on a CUDA card, small on a processor. Of ours, what a worker has at once without
building anything counts; they take turns, and each keeps its quickest frame.
"""

from collections.abc import Mapping
from typing import Any

from benchmarks.effort import Effort, Say
from benchmarks.marks import Row, at_least
from dreamrelay.importer import Entry

_MEASURE = Entry("benchmarks.engines:measure", "the engines", "worker")
"""It imports all of torch and diffusers."""

MODEL = "sd-turbo"
OURS = "ours, "
OTHERS = {"streamdiffusion package": "package", "diffusers, img2img": "diffusers"}
MARKS = {"package": at_least(1.0, 1.5), "diffusers": at_least(1.5, 2.0)}


def measure(effort: Effort, say: Say) -> dict[str, Any]:
    """Frames per second of each, and the ratios of ours to the others'."""
    found = _MEASURE.load()(
        effort.rounds,
        models=(MODEL,),
        sizes=effort.pick((), (64,)),
        seconds=120.0,
        thorough=False,
        say=say,
    )
    title, case = next(iter(found["cases"].items()))
    return report(found, title, case)


def report(found: Mapping[str, Any], title: str, case: Mapping[str, Any]) -> dict[str, Any]:
    """What the figures of a model come to."""
    fps = {name: row["fps"] for name, row in case["contenders"].items()}
    ours = max((rate for name, rate in fps.items() if name.startswith(OURS)), default=0.0)
    return {
        "model": title,
        "full": found["full"],
        "device": found["device"],
        "fps": fps,
        "absent": dict(case["absent"]),
        "ratios": {
            short: round(ours / fps[name], 3) for name, short in OTHERS.items() if name in fps
        },
    }


def rows(found: Mapping[str, Any]) -> list[Row]:
    """The lines of the table."""
    titles = {"package": "the streamdiffusion package", "diffusers": "plain diffusers"}
    return [
        Row(f"times {titles[name]}, {found['model']}", ratio, MARKS[name])
        for name, ratio in found["ratios"].items()
    ]
