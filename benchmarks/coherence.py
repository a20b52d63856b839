"""How much a moving picture flickers, and what each parameter against it does to that and costs.

A clip is panned, comes nearer and has a ball going across it, ``training/scenes.py``; the pocket
model paints it in several styles, once for each setting, through the engine that a worker would
choose. Three figures, means over the styles:

- flicker: how far a picture is from the one before, once that is brought to where things have moved
  (dense optical flow of the *input*, at full size; places where the input itself does not fit are
  left out), in 1/255. Of this the eye sees boiling; the change by movement is not in it.
- change: how far a picture is from the one before, as it stands, over the same of the input.
- sharpness: the mean of the second derivative, over that of the plain setting. What is smoothed
  away is paid with it.

And the processor time that a setting costs a frame beside the model.

``python -m benchmarks coherence --json benchmarks/results/coherence.json`` measures; ``python -m
benchmarks.coherence`` writes what was kept into ``docs/engines.md``.
"""

import json
import statistics
import time
from collections.abc import Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from dreamrelay.codec import Frame
from dreamrelay.engines import Engine, EngineSettings, open_engine
from dreamrelay.engines.batch_engine import BatchEngine
from training import scenes
from training.measure import Say

ROOT = Path(__file__).parent.parent
KEPT = ROOT / "benchmarks" / "results" / "coherence.json"
PAGE = ROOT / "docs" / "engines.md"
MARKS = ("<!-- coherence: python -m benchmarks.coherence -->", "<!-- end of coherence -->")

SIDE = 256
FRAMES = 24
SETTLED = 6
"""Frames that are not counted: what has a memory must fill it."""

STYLES = ("", "oil painting", "watercolor", "neon glow, blue and pink", "pencil sketch")
STRENGTH = 0.5

SETTINGS: Mapping[str, Mapping[str, Any]] = {
    "plain": {},
    "follow_motion shift": {"follow_motion": "shift"},
    "follow_motion flow": {"follow_motion": "flow"},
    "latent_feedback 0.3": {"latent_feedback": 0.3},
    "latent_feedback 0.3, flow": {"latent_feedback": 0.3, "follow_motion": "flow"},
    "output_feedback 0.3": {"output_feedback": 0.3},
    "output_feedback 0.3, flow": {"output_feedback": 0.3, "follow_motion": "flow"},
    "smoothing 0.5": {"smoothing": 0.5},
    "smoothing 0.5, shift": {"smoothing": 0.5, "follow_motion": "shift"},
    "smoothing 0.5, flow": {"smoothing": 0.5, "follow_motion": "flow"},
}

FITS = 8.0
"""A place counts where the input, brought along, is so near to what it became, in 1/255."""

Step = tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.bool_]]


def measure(
    *,
    model: str = "pocket",
    styles: Sequence[str] = STYLES,
    settings: Mapping[str, Mapping[str, Any]] = SETTINGS,
    side: int = SIDE,
    frames: int = FRAMES,
    say: Say = print,
) -> dict[str, Any]:
    """The figures of every setting; ``plain`` must be the first of them."""
    clip = [(frame * 255 + 0.5).astype(np.uint8) for frame in scenes.moving_clip(side, frames)]
    steps = [_step(before, now) for before, now in pairwise(clip)]
    own = _change(clip)
    engine: Any = open_engine(EngineSettings(model=model, offline=True, width=side, height=side))
    engine.load(lambda progress: None)
    found: dict[str, Any] = {}
    plain: dict[str, float] = {}
    for name, patch in settings.items():
        say(f"coherence: {name}")
        flickers, changes, sharpness = [], [], []
        for style in styles:
            pictures = _paint(engine, clip, {"prompt": style, "strength": STRENGTH, **patch})
            plain.setdefault(style, _sharpness(pictures))
            flickers.append(_flicker(pictures, steps))
            changes.append(_change(pictures) / own)
            sharpness.append(_sharpness(pictures) / plain[style])
        found[name] = {
            "flicker": round(statistics.mean(flickers), 3),
            "change": round(statistics.mean(changes), 3),
            "sharpness": round(statistics.mean(sharpness), 3),
            "ms": round(1000 * _cost(engine, clip, patch), 2),
            "flicker_by_style": dict(zip(styles, (round(f, 3) for f in flickers), strict=True)),
        }
    engine.close()
    return {
        "side": side,
        "frames": frames,
        "strength": STRENGTH,
        "styles": list(styles),
        "input": {"flicker": round(_flicker(clip, steps), 3), "change": round(own, 3)},
        "settings": found,
    }


def table(figures: Mapping[str, Any]) -> str:
    """The figures as a table of Markdown."""
    settings, source = figures["settings"], figures["input"]
    plain = next(iter(settings.values()))
    lines = [
        "| setting | flicker, 1/255 | of plain | change of the input's | sharpness | CPU ms more |",
        "|---|---:|---:|---:|---:|---:|",
    ]
    for name, row in settings.items():
        more = "" if row is plain else f"{max(0.0, row['ms'] - plain['ms']):.1f}"
        lines.append(
            f"| {name} | {row['flicker']:.2f} | {row['flicker'] / plain['flicker']:.2f} "
            f"| {row['change']:.2f} | {row['sharpness']:.2f} | {more} |"
        )
    lines.append(f"| the input itself | {source['flicker']:.2f} | | 1.00 | | |")
    return "\n".join(lines)


def _paint(engine: Engine, clip: Sequence[Frame], parameters: Mapping[str, Any]) -> list[Frame]:
    before = engine.parameters
    engine.apply(parameters)
    engine.forget()
    results = [engine.infer(frame, at) for at, frame in enumerate(clip)]
    engine.apply(before)
    return [result.frame for result in results if result is not None]


def _cost(engine: BatchEngine[Any], clip: Sequence[Frame], parameters: Mapping[str, Any]) -> float:
    """Seconds of processor time for a frame, without the model; the least of all frames."""
    before, predict = engine.parameters, engine.denoiser.predict
    engine.denoiser.predict = lambda noisy, *_: noisy.copy()
    engine.apply(parameters)
    engine.forget()
    seconds = []
    for at, frame in enumerate([*clip, *clip]):
        began = time.process_time()
        engine.infer(frame, at)
        seconds.append(time.process_time() - began)
    engine.denoiser.predict = predict
    engine.apply(before)
    return min(seconds[SETTLED:])


def _step(before: Frame, now: Frame) -> Step:
    """From where each place came, across and down, and where that is sure."""
    finder = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM)
    here, there = (cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY) for frame in (now, before))
    flow = np.asarray(finder.calc(here, there, None), np.float32)
    height, width = here.shape
    y, x = np.mgrid[0:height, 0:width].astype(np.float32)
    across, down = x + flow[..., 0], y + flow[..., 1]
    inside = (across >= 0) & (across <= width - 1) & (down >= 0) & (down <= height - 1)
    gap = np.abs(_brought(before, across, down) - now).mean(2)
    return across, down, inside & (gap < FITS)


def _brought(
    picture: Frame, across: NDArray[np.float32], down: NDArray[np.float32]
) -> NDArray[np.float32]:
    brought = cv2.remap(
        picture.astype(np.float32), across, down, cv2.INTER_CUBIC, borderMode=cv2.BORDER_REPLICATE
    )
    return np.asarray(brought, np.float32)


def _flicker(pictures: Sequence[Frame], steps: Sequence[Step]) -> float:
    gaps = [
        np.abs(_brought(before, across, down) - now)[sure].mean()
        for (before, now), (across, down, sure) in zip(pairwise(pictures), steps, strict=True)
    ]
    return float(np.mean(gaps[SETTLED:]))


def _change(pictures: Sequence[Frame]) -> float:
    gaps = [
        np.abs(before.astype(np.float32) - now).mean()
        for before, now in pairwise(pictures[SETTLED:])
    ]
    return float(np.mean(gaps))


def _sharpness(pictures: Sequence[Frame]) -> float:
    edges = [
        np.abs(cv2.Laplacian(picture.astype(np.float32), cv2.CV_32F)).mean()
        for picture in pictures[SETTLED:]
    ]
    return float(np.mean(edges))


def page(text: str, kept: Mapping[str, Any]) -> str:
    """The page with the figures that were kept between its marks."""
    before, rest = text.split(MARKS[0])
    _, after = rest.split(MARKS[1])
    figures, machine = kept["coherence"], kept["machine"]
    source = (
        f"Measured {kept['date']} on {machine['processor']}, {machine['cores']} cores, at load "
        f"{kept['load'][0]} to {kept['load'][1]}: the pocket model, {figures['side']} pixels, "
        f"{figures['frames']} frames, strength {figures['strength']}, means over "
        f"{len(figures['styles'])} styles."
    )
    return f"{before}{MARKS[0]}\n\n{source}\n\n{table(figures)}\n\n{MARKS[1]}{after}"


if __name__ == "__main__":
    found = json.loads(KEPT.read_text(encoding="utf-8"))
    PAGE.write_text(page(PAGE.read_text(encoding="utf-8"), found), encoding="utf-8")
