"""How near things are: any ``depth-estimation`` model of transformers, on live frames.

:class:`DepthEstimator` says how near each pixel is, in the model's own units. :class:`Normaliser`
brings that to 0..1 with bounds that follow the picture slowly, so that a map does not pump when
something comes near.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers import AutoImageProcessor, AutoModelForDepthEstimation

from dreamrelay.codec import Frame
from dreamrelay.engines.components import load_component, told
from dreamrelay.engines.devices import Device
from dreamrelay.engines.model_folder import existing
from dreamrelay.engines.ports import Report
from dreamrelay.engines.side_models import find_component
from dreamrelay.errors import EngineError

DEFAULT_MODEL = "depth-anything/Depth-Anything-V2-Small-hf"

_FOLLOW = 0.1
"""How far the bounds go towards those of the newest frame."""

_SPARE = ("neck.fusion_stage.layers.0.residual_layer1.",)
"""The published DPTs lack this layer: the first fusion has nothing to fuse with."""

_OF_DISTANCE = ("zoedepth", "glpn", "depth_pro")
"""Kinds of models that say how far things are; the others say how near."""


class DepthEstimator:
    """How near each pixel of a frame is.

    Args:
        model: hub id, or a folder with ``config.json``, ``preprocessor_config.json`` and
            ``model.safetensors``.
        device: where it computes.
        offline: never ask the hub.

    Raises:
        EngineError: it cannot be loaded; says why and what to do.
    """

    def __init__(
        self,
        model: str,
        device: Device,
        *,
        offline: bool = False,
        report: Report = lambda progress: None,
    ) -> None:
        folder = find_component(model, "depth model", device, offline=offline, report=report)
        self._processor = _load_processor(folder, model)
        self._model = load_component(
            folder, ".", AutoModelForDepthEstimation.from_pretrained, device.dtype, spare=_SPARE
        )
        self._model.eval().requires_grad_(False).to(device.torch)
        self._device = device
        config = self._model.config
        metric = getattr(config, "depth_estimation_type", "relative") == "metric"
        self._far_is_great = metric or config.model_type in _OF_DISTANCE
        # A model with patches of a fixed size takes pictures of many sizes.
        self._step = int(getattr(self._processor, "ensure_multiple_of", 1) or 1)
        self.sizes = self._step > 1 and bool(getattr(self._processor, "keep_aspect_ratio", False))
        """Whether the size at which it looks at a frame can be chosen."""
        self._probe(model)

    def __call__(self, frames: Sequence[Frame], size: int = 0) -> torch.Tensor:  # (m, H, W)
        """How near each pixel is, float32 on the device; greater is nearer.

        Args:
            frames: m frames of one size, uint8 H x W x 3.
            size: about the pixels of a side at which the model looks at them; 0: its own.
        """
        options: dict[str, Any] = {}
        if size and self.sizes:
            side = max(size, 2 * self._step)
            options["size"] = {"height": side, "width": side}
        with torch.inference_mode():
            inputs = self._processor(images=list(frames), return_tensors="pt", **options)
            pixels = inputs["pixel_values"].to(self._device.torch, self._device.dtype)
            outputs = self._model(pixel_values=pixels)
            outputs.predicted_depth = outputs.predicted_depth.float()
            of_frame = frames[0].shape[:2]
            fitted = self._processor.post_process_depth_estimation(
                outputs, [of_frame] * len(frames)
            )
            depth = torch.stack([each["predicted_depth"].reshape(of_frame) for each in fitted])
        return -depth if self._far_is_great else depth

    def picture(self, frame: Frame) -> Frame:
        """The depth of one frame to look at: near is white, far is black; uint8 H x W x 3."""
        near = Normaliser()(self([frame])[0])
        grey = (near * 255).round().to(torch.uint8).cpu().numpy()
        return np.repeat(grey[..., None], 3, axis=2)

    def _probe(self, model: str) -> None:
        """See on any frame whether it works: later, to look at the numbers would cost time."""
        frame = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
        depth = told(lambda: self([frame]), f"depth model {model}")
        if not bool(torch.isfinite(depth).all()):
            raise EngineError(
                f"depth model {model} overflows in {self._device.dtype}: choose another, or full "
                "precision"
            )


def _load_processor(folder: Path, model: str) -> Any:
    """What brings frames into the form that the model takes."""
    existing(folder, "preprocessor_config.json")
    try:
        return load_component(folder, ".", AutoImageProcessor.from_pretrained)
    except ImportError as error:
        lines = " ".join(str(error).split())
        raise EngineError(
            f"depth model {model} needs a package that is not installed ({lines[:200]}): pip "
            f"install torchvision, or choose another such as {DEFAULT_MODEL}"
        ) from error


class Normaliser:
    """Nearness to 0..1, between bounds that follow the frames (a mean that forgets)."""

    def __init__(self) -> None:
        # On the device all the while: to read them would wait for it.
        self._low: torch.Tensor | None = None
        self._high: torch.Tensor | None = None

    def __call__(self, near: torch.Tensor, *, remember: bool = True) -> torch.Tensor:  # (H, W) each
        """0 the farthest, 1 the nearest; a flat map is all 0.

        Args:
            remember: the bounds follow those of the frames before; else they are this one's own.
        """
        low, high = near.amin(), near.amax()
        if remember and self._low is not None and self._high is not None:
            low = self._low + _FOLLOW * (low - self._low)
            high = self._high + _FOLLOW * (high - self._high)
        self._low, self._high = low, high
        # Not by nothing: of a flat map low and high are the same.
        reach = torch.clamp(high - low, min=1e-6)
        return ((near - low) / reach).clamp(0, 1)
