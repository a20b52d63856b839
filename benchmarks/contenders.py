"""Who paints with a model: our engine as it is accelerated, the streamdiffusion package, diffusers.

All take a frame, uint8 in the memory of the host, and return a picture there.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import torch
from diffusers import (
    AutoPipelineForImage2Image,
    EulerDiscreteScheduler,
    StableDiffusionPipeline,
    StableDiffusionXLPipeline,
)
from PIL import Image

from benchmarks.full_models import ONE_STEP, SCHEDULER, BuiltEngine, Form, build
from dreamrelay.codec import Frame
from dreamrelay.engines.devices import Device
from dreamrelay.engines.loading import Parts
from dreamrelay.engines.ports import Report
from dreamrelay.importer import Entry

_PACKAGE = Entry("streamdiffusion:StreamDiffusion", "the streamdiffusion package")

OURS = "ours, "
PACKAGE = "streamdiffusion package"
DIFFUSERS = "diffusers, img2img"
PLAIN = f"{OURS}sdpa"


class Case(NamedTuple):
    """A model and a size."""

    name: str
    form: Form
    parts: Parts
    size: int
    device: Device


@dataclass(frozen=True)
class Contender:
    """Paints a frame; ``close`` gives back what it holds."""

    paint: Callable[[Frame], Any]
    close: Callable[[], None]


def quick(device: Device) -> Sequence[str]:
    """Names of those that are ready at once."""
    more = (f"{OURS}xformers",) if device.torch.type == "cuda" else ()
    return (f"{OURS}none", PLAIN, *more, PACKAGE, DIFFUSERS)


def slow(device: Device) -> Sequence[str]:
    """Names of those that are built first, and of those they are compared with once more."""
    built = ("compile", "tensorrt") if device.torch.type == "cuda" else ("compile", "openvino")
    return (PLAIN, PACKAGE, *(f"{OURS}{name}" for name in built))


def prepare(name: str, case: Case, report: Report) -> Contender:
    """Make a contender ready; what it cannot do it raises here, or at its first frame.

    Raises:
        DreamRelayError: it cannot run here; and whatever the libraries raise.
    """
    if name.startswith(OURS):
        return _ours(name.removeprefix(OURS), case, report)
    return {PACKAGE: _package, DIFFUSERS: _diffusers}[name](case)


def _ours(acceleration: str, case: Case, report: Report) -> Contender:
    parts = case.parts
    if acceleration == "xformers":  # it changes the U-Net itself
        parts = build(case.form, case.device)
    engine = BuiltEngine(parts, case.name, case.size, acceleration, case.device)
    engine.load(report)
    return Contender(partial(engine.infer, token=None), engine.close)


def _package(case: Case) -> Contender:
    """The package as its own example drives it: one step, its stream batch, no guidance.

    Its ``__call__`` times itself with CUDA's events, and brings pictures to the device in full
    precision; its parts, called one by one, run on processors too and are no slower.
    """
    if len(case.form.texts) > 1:
        raise NotImplementedError("it tells the U-Net the prompt only, and SDXL wants more")
    device = case.device
    options: Mapping[str, Any] = {"width": case.size, "height": case.size, "cfg_type": "none"}
    stream = _PACKAGE.load()(_pipeline(case), [35], torch_dtype=device.dtype, **options)
    with torch.inference_mode():
        stream.prepare(ONE_STEP["prompt"], generator=torch.Generator())

    def paint(frame: Frame) -> Frame:
        with torch.inference_mode():
            pixels = torch.from_numpy(frame).to(device.torch)[None]
            pictures = (pixels.to(device.dtype) / 127.5 - 1).permute(0, 3, 1, 2)
            latents = stream.predict_x0_batch(stream.encode_image(pictures))
            made = (stream.decode_image(latents).float() * 127.5 + 127.5).round().clamp(0, 255)
            shown: Frame = made.to(torch.uint8)[0].permute(1, 2, 0).contiguous().cpu().numpy()
        return shown

    return Contender(paint, lambda: None)


def _diffusers(case: Case) -> Contender:
    """The pipeline as people call it, for one step: half of two."""
    pipeline: Any = AutoPipelineForImage2Image.from_pipe(_pipeline(case))
    pipeline.set_progress_bar_config(disable=True)
    asked = {"prompt": ONE_STEP["prompt"], "num_inference_steps": 2, "strength": 0.5}

    def paint(frame: Frame) -> Frame:
        made = pipeline(image=Image.fromarray(frame), guidance_scale=0.0, **asked).images[0]
        return np.asarray(made)

    return Contender(paint, lambda: None)


def _pipeline(case: Case) -> Any:
    """A pipeline of diffusers over the very modules that our engine runs."""
    parts = case.parts
    of_sdxl = len(parts.encoders) > 1
    first, last = parts.encoders[0], parts.encoders[-1]
    shared = {
        "vae": parts.vae,
        "unet": parts.unet,
        "text_encoder": first.module,
        "tokenizer": first.tokenizer,
        "scheduler": EulerDiscreteScheduler(**SCHEDULER),
    }
    for module in (parts.vae, parts.unet, *(encoder.module for encoder in parts.encoders)):
        module.to(case.device.torch, memory_format=torch.channels_last)
    if of_sdxl:
        second = {"text_encoder_2": last.module, "tokenizer_2": last.tokenizer}
        return StableDiffusionXLPipeline(**shared, **second, add_watermarker=False)
    without = {"safety_checker": None, "feature_extractor": None, "requires_safety_checker": False}
    return StableDiffusionPipeline(**shared, **without)
