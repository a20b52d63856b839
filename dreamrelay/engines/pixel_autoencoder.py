"""The pocket model's autoencoder for torch, behind the interface of diffusers' AutoencoderTiny."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch
from diffusers.configuration_utils import ConfigMixin, register_to_config
from diffusers.models.modeling_utils import ModelMixin
from torch import Tensor
from torch.nn import functional

from dreamrelay.engines.pocket import PixelCells


@dataclass
class EncoderOutput:
    """Latents of a picture, N x C x h x w."""

    latents: Tensor


@dataclass
class DecoderOutput:
    """A picture, N x 3 x H x W in -1..1."""

    sample: Tensor


class PixelAutoencoder(ModelMixin, ConfigMixin):  # type: ignore[misc]
    """Space to depth and back; :class:`pocket.PixelCells` says which channel is what."""

    config_name = "config.json"

    @register_to_config  # type: ignore[untyped-decorator]
    def __init__(
        self,
        scaling_factor: float = 1.0,
        downscale: int = 4,
        phases: bool = False,
        phase_scale: float = 2.0,
        texture_channels: int = 0,
    ) -> None:
        super().__init__()
        self.cells = PixelCells(downscale, phases, phase_scale, scaling_factor, texture_channels)

    def encode(self, x: Tensor) -> EncoderOutput:
        """Picture N x 3 x H x W in -1..1 to latents; H, W multiples of ``downscale``."""
        latents = functional.pixel_unshuffle(x, self.cells.downscale)
        n, pixels, h, w = latents.shape
        more = latents.new_zeros(n, self.cells.channels - pixels, h, w)
        if self.cells.phases:
            scale = self.cells.phase_scale
            rows, columns = (
                torch.where(torch.arange(side, device=x.device) % 2 == 0, scale, -scale)
                for side in (h, w)
            )
            more[:, 0] = rows[:, None]
            more[:, 1] = columns
        return EncoderOutput(torch.cat([latents, more], dim=1))

    def decode(self, z: Tensor) -> DecoderOutput:
        """Latents N x C x h x w to a picture N x 3 x H x W, not clamped."""
        pixels = z[:, : self.cells.pixel_channels]
        return DecoderOutput(functional.pixel_shuffle(pixels, self.cells.downscale))


def load_autoencoder(folder: Path) -> PixelAutoencoder:
    """The autoencoder described by `vae/config.json` of a model folder; it has no weights."""
    config = PixelAutoencoder.load_config(str(folder / "vae"), local_files_only=True)
    return PixelAutoencoder.from_config(config)  # type: ignore[no-any-return]
