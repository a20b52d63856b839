"""The pocket model that ships with the package: its folder, its words, its pixel autoencoder.

The folder has the layout of any diffusers model; only the autoencoder is ours. It has no weights:
a latent is a block of 4 x 4 pixels put into 48 channels, so nothing is lost on either way.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from functools import lru_cache
from importlib.resources import files
from pathlib import Path
from typing import Any, cast

from diffusers.configuration_utils import ConfigMixin, register_to_config
from diffusers.models.modeling_utils import ModelMixin
from torch import Tensor
from torch.nn import functional

from dreamrelay.errors import EngineError

CHECKSUMS = "SHA256SUMS"


@dataclass
class EncoderOutput:
    """Latents of a picture, N x 48 x H/4 x W/4."""

    latents: Tensor


@dataclass
class DecoderOutput:
    """A picture, N x 3 x H x W in -1..1."""

    sample: Tensor


class PixelAutoencoder(ModelMixin, ConfigMixin):  # type: ignore[misc]
    """Space to depth and back, behind the interface of diffusers' AutoencoderTiny."""

    config_name = "config.json"

    @register_to_config  # type: ignore[untyped-decorator]
    def __init__(self, scaling_factor: float = 1.0, downscale: int = 4) -> None:
        super().__init__()

    def encode(self, x: Tensor) -> EncoderOutput:
        """Picture N x 3 x H x W in -1..1 to latents N x 48 x H/4 x W/4; H, W multiples of 4."""
        return EncoderOutput(functional.pixel_unshuffle(x, int(self.config["downscale"])))

    def decode(self, z: Tensor) -> DecoderOutput:
        """Latents N x 48 x h x w to a picture N x 3 x 4h x 4w, not clamped."""
        return DecoderOutput(functional.pixel_shuffle(z, int(self.config["downscale"])))


def load_autoencoder(folder: Path) -> PixelAutoencoder:
    """The autoencoder described by `vae/config.json` of a model folder; it has no weights."""
    config = PixelAutoencoder.load_config(str(folder / "vae"), local_files_only=True)
    return PixelAutoencoder.from_config(config)  # type: ignore[no-any-return]


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
