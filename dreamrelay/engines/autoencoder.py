"""Pixels to latents and back: a model's own autoencoder, a tiny one in its place, or cells."""

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

import torch
from diffusers import AutoencoderKL, AutoencoderTiny

from dreamrelay.engines import model_hub, pixel_autoencoder, pocket
from dreamrelay.engines.components import load_component
from dreamrelay.engines.licences import licence
from dreamrelay.engines.model_folder import existing, read_json
from dreamrelay.engines.ports import EngineSettings, Report
from dreamrelay.errors import EngineError

logger = logging.getLogger(__name__)

TINY = "madebyollin/taesd"
TINY_XL = "madebyollin/taesdxl"

AUTOENCODERS: Mapping[str, type[Any]] = {
    "AutoencoderKL": AutoencoderKL,
    "AutoencoderTiny": AutoencoderTiny,
    pocket.AUTOENCODER: pixel_autoencoder.PixelAutoencoder,
}


def load_autoencoder(
    settings: EngineSettings,
    folder: Path,
    index: Mapping[str, Any],
    dtype: torch.dtype,
    report: Report,
    own: Any = None,
) -> Any:
    """Load the autoencoder of a model's folder, or the tiny one that does for it.

    Args:
        own: the model's own, where it was loaded already.

    Raises:
        EngineError: it cannot be loaded, or is of a kind that we do not know.
    """
    config = read_json(existing(folder, "vae/config.json"))
    kind = str(config.get("_class_name") or index["vae"][1])
    if kind == pocket.AUTOENCODER:
        return pixel_autoencoder.load_autoencoder(folder)
    if kind not in AUTOENCODERS:
        raise EngineError(f"{folder}/vae is an {kind}; expected one of {', '.join(AUTOENCODERS)}")
    if kind == "AutoencoderKL" and settings.use_tiny_vae is not False:
        tiny = _tiny_folder(settings, folder, report, of_sdxl="text_encoder_2" in index)
        if tiny is not None:
            return load_component(tiny, ".", AutoencoderTiny.from_pretrained, dtype)
    dtype = _own_dtype(config, dtype)
    if own is not None:
        return own.to(dtype)
    return load_component(folder, "vae", AUTOENCODERS[kind].from_pretrained, dtype)


def _own_dtype(config: Mapping[str, Any], dtype: torch.dtype) -> torch.dtype:
    """The precision for a model's own autoencoder: SDXL's overflows in float16."""
    too_wide = config.get("force_upcast", False) and dtype is torch.float16
    return torch.float32 if too_wide else dtype


def _tiny_folder(
    settings: EngineSettings, folder: Path, report: Report, *, of_sdxl: bool
) -> Path | None:
    """Where the tiny autoencoder is: next to the model, or on the hub for a model from there."""
    name = TINY_XL if of_sdxl else TINY
    beside = folder.parent / name.partition("/")[2]
    if (beside / "config.json").is_file():
        return beside
    if Path(settings.model).expanduser().exists() and not settings.use_tiny_vae:
        return None
    try:
        found = model_hub.model_folder(name, offline=settings.offline, half=False, report=report)
    except EngineError as error:
        if settings.use_tiny_vae:
            raise
        logger.warning("the full autoencoder is used, the tiny one would be faster: %s", error)
        return None
    logger.info("tiny autoencoder %s: licence %s", name, licence(name, found))
    return found


def encode_picture(vae: Any, pictures: torch.Tensor) -> torch.Tensor:
    """Pictures (B, 3, H, W) in -1..1 to latents (B, C, h, w); equal in, equal out."""
    encoded = vae.encode(pictures)
    latents = encoded.latents if hasattr(encoded, "latents") else encoded.latent_dist.mode()
    return cast(torch.Tensor, latents)


def latent_form(vae: Any, device: torch.device) -> tuple[int, int]:
    """Channels of a latent, and how much smaller than the picture it is."""
    with torch.inference_mode():
        probe = torch.zeros(1, 3, 64, 64, device=device, dtype=precision(vae))
        latents = encode_picture(vae, probe)
    return latents.shape[1], 64 // latents.shape[3]


def precision(module: torch.nn.Module) -> torch.dtype:
    """Of a module's weights; full, if it has none."""
    return next((weight.dtype for weight in module.parameters()), torch.float32)
