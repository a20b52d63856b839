"""The stream-batch engine with torch: Stable Diffusion or the pocket model on live frames.

This module moves pixels and prompts in and out. What all such engines share is in
``batch_engine.py``, the arithmetic of the steps in ``denoise.py``, the numbers of each step in
``schedule.py``, the way from a name to torch modules in ``loading.py``.
"""

import logging
from collections.abc import Sequence
from contextlib import AbstractContextManager
from typing import Any, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray

from dreamrelay.codec import Frame
from dreamrelay.engines.batch_engine import BatchEngine, Condition
from dreamrelay.engines.devices import (
    choose_device,
    free_memory,
    is_out_of_memory,
    use_cores_sparingly,
)
from dreamrelay.engines.loading import LoadedModel, can_fuse_loras, encode_picture, load_model
from dreamrelay.engines.ports import EngineSettings, Report
from dreamrelay.errors import ConfigError, MissingExtra

logger = logging.getLogger(__name__)


class StreamBatchEngine(BatchEngine[LoadedModel]):
    """Stable Diffusion 1.x, 2.x, SD-Turbo or the pocket model as a stream batch."""

    name: ClassVar[str] = "stream-batch"
    xp: ClassVar[Any] = torch

    def __init__(self, settings: EngineSettings) -> None:
        _check(settings)
        self._device = choose_device(settings.device, fast=settings.acceleration == "auto")
        self.device_name = self._device.name
        super().__init__(settings)

    def _load_model(self, report: Report) -> LoadedModel:
        if self._settings.acceleration == "auto":
            precision = str(self._device.dtype).removeprefix("torch.")
            logger.info("acceleration: auto chose %s on %s", precision, self.device_name)
        if self._device.torch.type == "cpu":
            use_cores_sparingly()
        return load_model(self._settings, self._device, report)

    def _encode_pixels(self, frames: Sequence[Frame]) -> torch.Tensor:  # (m, C, h, w)
        model = self.model
        pixels = torch.from_numpy(np.stack(frames)).to(self._device.torch)  # (m, H, W, 3)
        # Seen as (m, 3, H, W), which is channels-last already.
        pictures = (pixels.to(model.vae_dtype) / 127.5 - 1).permute(0, 3, 1, 2)
        return encode_picture(model.vae, pictures).float() * model.vae.config.scaling_factor

    def _decode_pixels(self, latents: torch.Tensor) -> list[Frame]:  # of (m, C, h, w)
        model = self.model
        scaled = (latents / model.vae.config.scaling_factor).to(model.vae_dtype)
        pictures = model.vae.decode(scaled).sample.float()  # (m, 3, H, W) in -1..1
        pixels = (pictures * 127.5 + 127.5).round().clamp(0, 255).to(torch.uint8)
        return list(pixels.permute(0, 2, 3, 1).contiguous().cpu().numpy())

    def _predict(
        self, noisy: torch.Tensor, at: torch.Tensor, condition: Condition, negatives: int
    ) -> torch.Tensor:  # (B, C, h, w)
        rows = noisy.to(self._device.dtype).contiguous(memory_format=torch.channels_last)
        context = condition.rows(len(noisy), negatives)
        unet = self.model.unet
        said: torch.Tensor = unet(rows, at, encoder_hidden_states=context, return_dict=False)[0]
        # The steps are computed in full precision: dividing by a small signal eats bits.
        return said.float()

    def _encode_prompt(self, text: str) -> torch.Tensor:  # (1, words, width)
        model = self.model
        ids = model.tokenizer(
            text,
            padding="max_length",
            max_length=model.tokenizer.model_max_length,
            truncation=True,
            return_tensors="pt",
        ).input_ids
        embedding: torch.Tensor = model.text_encoder(ids.to(self._device.torch))[0]
        return embedding.to(self._device.dtype)

    def _placed(self, values: NDArray[Any]) -> torch.Tensor:
        placed = torch.from_numpy(values).to(self._device.torch)
        if values.ndim == 4:
            return placed.contiguous(memory_format=torch.channels_last)
        return placed

    def _computing_mode(self) -> AbstractContextManager[Any]:
        mode: AbstractContextManager[Any] = torch.inference_mode()
        return mode

    def _is_out_of_memory(self, error: Exception) -> bool:
        return is_out_of_memory(error)

    def _free_memory(self) -> None:
        if self._device.torch.type != "cpu":
            free_memory()


def _check(settings: EngineSettings) -> None:
    """Refuse what cannot work before anything is loaded."""
    if settings.acceleration not in ("auto", "none"):
        raise ConfigError(
            f"acceleration: the stream-batch engine has no {settings.acceleration!r} yet; "
            "expected auto or none (plain torch in full precision on the CPU, half on a GPU); "
            "openvino and onnx are the pocket engine's"
        )
    if (settings.loras or settings.use_lcm_lora) and not can_fuse_loras():
        raise MissingExtra("a LoRA", "worker")
