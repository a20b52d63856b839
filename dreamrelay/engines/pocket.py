"""The pocket model that ships with the package: its folder, its words, its pixels.

The folder has the layout of any diffusers model; only the autoencoder is ours. It has no weights: a
latent is a cell of pixels put into channels, so nothing is lost on either way. Nothing here needs
torch; :mod:`pixel_autoencoder` is the same for torch.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from importlib.resources import files
from pathlib import Path
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from dreamrelay.codec import Frame
from dreamrelay.errors import EngineError

CHECKSUMS = "SHA256SUMS"
AUTOENCODER = "PixelAutoencoder"
"""What ``vae/config.json`` of such a model says its class is."""

GRAPH = "model.onnx"
"""Beside the weights of the U-Net and of the text encoder: their arithmetic."""

Latents = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class PixelCells:
    """Pixels to latents and back: cells of ``downscale`` x ``downscale`` pixels, d for short.

    A channel is ``colour * d * d + row in the cell * d + column in the cell``, values -1..1. With
    ``phases`` two channels follow that say where a cell stands: ``phase_scale`` on even rows of
    cells and its negative on odd ones, then the same for columns. The ``texture_channels`` after
    those are empty: the noise put onto them is all that stands there, and what texture is made of.
    """

    downscale: int = 4
    phases: bool = False
    phase_scale: float = 2.0
    scaling_factor: float = 1.0
    texture_channels: int = 0

    @classmethod
    def of(cls, config: Mapping[str, Any]) -> PixelCells:
        """As ``vae/config.json`` describes them; EngineError where it cannot be read."""
        try:
            return cls(
                int(config.get("downscale", 4)),
                bool(config.get("phases", False)),
                float(config.get("phase_scale", 2.0)),
                float(config.get("scaling_factor", 1.0)),
                int(config.get("texture_channels", 0)),
            )
        except (TypeError, ValueError) as error:
            raise EngineError(f"vae/config.json cannot be read: {error}") from error

    @property
    def channels(self) -> int:
        return self.pixel_channels + 2 * self.phases + self.texture_channels

    @property
    def pixel_channels(self) -> int:
        return 3 * self.downscale**2

    def empty(self, count: int, height: int, width: int) -> Latents:  # (count, C, h, w)
        """Room for the latents of pictures of that size, the phases in it already."""
        h, w = height // self.downscale, width // self.downscale
        latents = np.zeros((count, self.channels, h, w), np.float32)
        if self.phases:
            scale = self.phase_scale * self.scaling_factor
            rows = np.where(np.arange(h) % 2, -scale, scale)
            columns = np.where(np.arange(w) % 2, -scale, scale)
            latents[:, self.pixel_channels] = rows[:, None]
            latents[:, self.pixel_channels + 1] = columns[None, :]
        return latents

    def encode(self, frames: Sequence[Frame], into: Latents) -> Latents:
        """Write m frames (H, W, 3) into latents of :meth:`empty`, (m, C, h, w)."""
        d = self.downscale
        count, _, h, w = into.shape
        cells = into[:, : self.pixel_channels].reshape(count, 3, d, d, h, w)
        for frame, cell in zip(frames, cells, strict=True):
            pixels = frame.reshape(h, d, w, d, 3).transpose(4, 1, 3, 0, 2)
            np.multiply(pixels, np.float32(self.scaling_factor / 127.5), out=cell)
            np.subtract(cell, np.float32(self.scaling_factor), out=cell)
        return into

    def decode(self, latents: Latents) -> list[Frame]:  # of (m, C, h, w)
        """Latents to frames (H, W, 3), clamped, each in memory of its own."""
        d = self.downscale
        count, _, h, w = latents.shape
        scaled = latents[:, : self.pixel_channels] * np.float32(127.5 / self.scaling_factor)
        scaled += np.float32(128)  # the half more rounds, where the cast cuts off
        np.clip(scaled, 0, 255, out=scaled)
        cells = scaled.astype(np.uint8).reshape(count, 3, d, d, h, w)
        return [
            np.ascontiguousarray(cell.transpose(3, 1, 4, 2, 0)).reshape(h * d, w * d, 3)
            for cell in cells
        ]


def model_folder() -> Path:
    """Where the model lies inside the installed package."""
    return Path(str(files("dreamrelay.engines"))) / "pocket_model"


@lru_cache(maxsize=1)
def vocabulary() -> dict[str, list[str]]:
    """The words it knows by name: `styles`, `colours`, `moods`."""
    return cast("dict[str, list[str]]", _json("vocabulary.json"))


@lru_cache(maxsize=1)
def defaults() -> dict[str, Any]:
    """Parameters the model looks best with: prompt, strength, steps, guidance, size."""
    return cast("dict[str, Any]", _json("defaults.json"))


def verify(folder: Path | None = None) -> None:
    """Compares every file with its line in SHA256SUMS; EngineError says which one differs."""
    folder = folder or model_folder()
    listing = folder / CHECKSUMS
    if not listing.is_file():
        raise EngineError(f"expected {listing}, found none: reinstall the package")
    for line in listing.read_text(encoding="utf-8").splitlines():
        expected, name = line.split("  ", 1)
        path = folder / name
        if not path.is_file():
            raise EngineError(f"{path} is missing from the pocket model: reinstall the package")
        found = hashlib.sha256(path.read_bytes()).hexdigest()
        if found != expected:
            raise EngineError(
                f"{path} does not match its checksum (expected {expected[:12]}, found"
                f" {found[:12]}): reinstall the package"
            )


def _json(name: str) -> object:
    path = model_folder() / name
    try:
        return cast("object", json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError) as error:
        raise EngineError(f"cannot read {path} of the pocket model: {error}") from error
