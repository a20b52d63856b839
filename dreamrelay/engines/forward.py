"""How a model's parts are called: in faster forms, or in smaller pieces where memory is short."""

import logging
from collections.abc import Mapping
from typing import Any

import torch
from torch.utils._pytree import tree_map

from dreamrelay.engines.accelerate import BUILT, Acceleration, Over
from dreamrelay.engines.autoencoder import encode_picture
from dreamrelay.engines.loading import LoadedModel
from dreamrelay.engines.ports import Report

logger = logging.getLogger(__name__)

TILE = 256
"""Pixels of a tile's side, where an autoencoder takes a picture in tiles."""


class Forward:
    """The calls of U-Net and autoencoder of a model.

    Args:
        model: whose parts are called.
        acceleration: chosen by :func:`accelerate.choose`.
    """

    def __init__(self, model: LoadedModel, acceleration: Acceleration) -> None:
        self._model = model
        self.acceleration = acceleration
        self.users = 0
        """Engines that call them; see :meth:`left`."""

        self._row_by_row = self._tiled = False
        self._unet: Any = None
        if acceleration.name == "xformers":
            model.unet.enable_xformers_memory_efficient_attention()
        if acceleration.name in BUILT:
            self._unet = self.acceleration.over("unet", Over(model.unet, _call_unet))
        self._encode = self.acceleration.over("encoder", Over(model.vae, encode_picture))
        self._decode = self.acceleration.over("decoder", Over(model.vae, _call_decoder))

    def unet(
        self, rows: torch.Tensor, at: torch.Tensor, options: Mapping[str, Any]
    ) -> torch.Tensor:  # (B, C, h, w)
        """What the U-Net says of latents ``rows`` (B, C, h, w) at timesteps ``at`` (B,)."""
        if not self._row_by_row:
            return self._all_rows(rows, at, options)
        count = len(rows)

        def row(number: int) -> torch.Tensor:
            def cut(value: Any) -> Any:
                of_rows = torch.is_tensor(value) and value.shape[:1] == (count,)
                return value[number : number + 1] if of_rows else value

            only = slice(number, number + 1)
            return self._all_rows(rows[only], at[only], tree_map(cut, dict(options)))

        return torch.cat([row(number) for number in range(count)])

    def _all_rows(
        self, rows: torch.Tensor, at: torch.Tensor, options: Mapping[str, Any]
    ) -> torch.Tensor:
        if self._unet is None:
            return _call_unet(self._model.unet, rows, at, **options)
        said: torch.Tensor = self._unet(rows, at, **options)
        return said

    def encode(self, pictures: torch.Tensor) -> torch.Tensor:  # (B, C, h, w)
        """Pictures (B, 3, H, W) in -1..1 to latents, not scaled."""
        if self._tiled:
            return encode_picture(self._model.vae, pictures)
        latents: torch.Tensor = self._encode(pictures)
        return latents

    def decode(self, latents: torch.Tensor) -> torch.Tensor:  # (B, 3, H, W)
        """Latents (B, C, h, w), not scaled, to pictures in -1..1."""
        if self._tiled:
            return _call_decoder(self._model.vae, latents)
        pictures: torch.Tensor = self._decode(latents)
        return pictures

    def finish(self, report: Report) -> None:
        """Build the faster forms that the calls so far asked for."""
        self.acceleration.finish(report)

    def between_frames(self) -> None:
        """Take over what was built meanwhile; in the thread that calls the parts."""
        self.acceleration.between_frames()

    def left(self) -> None:
        """One engine will call them no more. With the last of them, building ends."""
        self.users -= 1
        if self.users <= 0:
            self.acceleration.close()

    def make_do(self) -> str | None:
        """Take less memory from now on; how, in words, or None if nothing is left to try."""
        if self.acceleration.building:
            self.acceleration.close()
            return "nothing is compiled beside, which takes less memory"
        if not self._row_by_row:
            self._row_by_row = True
            return "the steps are computed one after the other, which takes less memory"
        vae = self._model.vae
        if not self._tiled and hasattr(vae, "enable_tiling"):
            self._tiled = True
            vae.enable_slicing()
            vae.enable_tiling()
            side = TILE // self._model.scale
            vae.tile_sample_min_size, vae.tile_latent_min_size = TILE, side
            return "pictures go through the autoencoder in tiles, which takes less memory"
        return None


def _call_unet(
    unet: Any, rows: torch.Tensor, at: torch.Tensor, **options: Any
) -> torch.Tensor:  # (B, C, h, w)
    said: torch.Tensor = unet(rows, at, **options, return_dict=False)[0]
    return said


def _call_decoder(vae: Any, latents: torch.Tensor) -> torch.Tensor:
    pictures: torch.Tensor = vae.decode(latents).sample
    return pictures
