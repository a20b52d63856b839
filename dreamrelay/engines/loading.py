"""From a folder in diffusers format, a hub id or ``pocket`` to torch modules, or to one clear line.

The folder: ``model_index.json`` and ``unet/  vae/  text_encoder/  tokenizer/  scheduler/``. Weights
are read from safetensors only; a pickle can run code while it is read, so those are refused.
"""

import logging
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any, cast

import torch
from diffusers import AutoencoderKL, AutoencoderTiny, UNet2DConditionModel
from diffusers.loaders import StableDiffusionLoraLoaderMixin
from diffusers.utils import logging as diffusers_logging
from safetensors import SafetensorError
from transformers import CLIPTextModel, CLIPTokenizer
from transformers.utils import logging as transformers_logging

from dreamrelay.engines import model_hub, pixel_autoencoder, pocket
from dreamrelay.engines.batch_engine import ModelForm, out_of_memory
from dreamrelay.engines.devices import Device, is_out_of_memory
from dreamrelay.engines.model_folder import (
    check_safetensors,
    existing,
    known_parameters,
    pixels,
    read_defaults,
    read_index,
    read_json,
    read_scheduler,
    read_vocabulary,
)
from dreamrelay.engines.ports import EngineSettings, Progress, Report
from dreamrelay.errors import EngineError

logger = logging.getLogger(__name__)

LCM_LORA = "latent-consistency/lcm-lora-sdv1-5"
TINY_VAE = "madebyollin/taesd"

AUTOENCODERS: Mapping[str, type[Any]] = {
    "AutoencoderKL": AutoencoderKL,
    "AutoencoderTiny": AutoencoderTiny,
    pocket.AUTOENCODER: pixel_autoencoder.PixelAutoencoder,
}

_PICKLES = (".bin", ".ckpt", ".pt", ".pth")
_FEW_STEPS = re.compile(r"turbo|lcm|lightning|hyper|schnell", re.IGNORECASE)


@dataclass(kw_only=True)
class LoadedModel(ModelForm):
    """A model and its torch modules."""

    unet: Any
    vae: Any
    vae_dtype: torch.dtype
    text_encoder: Any
    tokenizer: Any


def load_model(settings: EngineSettings, device: Device, report: Report) -> LoadedModel:
    """Load the model that ``settings`` name, part by part; ``report`` hears of each part.

    Raises:
        EngineError: it cannot be loaded; says why and what to do.
    """
    # They draw bars and list unused weights; we report progress, and check for missing ones.
    for library in (diffusers_logging, transformers_logging):
        library.set_verbosity_error()
        library.disable_progress_bar()
    folder = find_folder(settings, device, report)
    index = read_index(folder)
    defaults = read_defaults(folder)
    _report(report, "tokenizer", 0.0)
    tokenizer = _load_part(folder, "tokenizer", CLIPTokenizer.from_pretrained)
    noising = read_scheduler(folder)

    _report(report, _sized(folder, "text_encoder"), 0.05)
    text_encoder = _load_part(folder, "text_encoder", CLIPTextModel.from_pretrained, device=device)
    _report(report, _sized(folder, "unet"), 0.2)
    unet = _load_part(folder, "unet", UNet2DConditionModel.from_pretrained, device=device)
    _check_unet(unet, text_encoder, settings.model)
    _report(report, _sized(folder, "vae"), 0.8)
    vae = _load_vae(settings, folder, index, device, report)
    loras = chosen_loras(settings, unet, report)
    for at, (lora, weight) in enumerate(loras.items()):
        _report(report, f"LoRA {lora}", 0.9 + 0.1 * at / len(loras))
        _fuse_lora(lora, weight, unet, text_encoder, settings, report)

    for module in (unet, vae, text_encoder):
        _on_device(module, device)
    channels, scale = _latent_form(vae, device)
    if unet.config.in_channels != channels or unet.config.out_channels != channels:
        raise EngineError(
            f"{settings.model}: the U-Net takes {unet.config.in_channels} channels and the "
            f"autoencoder makes {channels}: expected a text-to-image model, not one for inpainting"
        )
    width, height = pixels(unet.config.sample_size, scale)
    of_cells = isinstance(vae, pixel_autoencoder.PixelAutoencoder)
    halvings = len(unet.config.block_out_channels) - 1
    return LoadedModel(
        name=settings.model,
        unet=unet,
        vae=vae,
        vae_dtype=_dtype(vae),
        text_encoder=text_encoder,
        tokenizer=tokenizer,
        alphas=noising.alphas,
        prediction=noising.prediction,
        half_share=noising.half_share,
        channels=channels,
        scale=scale,
        # Other U-Nets are trained on ragged sizes, ours on whole ones only.
        multiple=scale * 2**halvings if of_cells else scale,
        straight=of_cells,
        width=defaults.get("width", width),
        height=defaults.get("height", height),
        defaults=known_parameters(defaults) or _usual_parameters(settings.model, unet),
        vocabulary=read_vocabulary(folder),
    )


def find_folder(settings: EngineSettings, device: Device, report: Report) -> Path:
    """Return the local folder of the model, from the package, the disk or the hub."""
    model = settings.model
    if model == "pocket":
        folder = pocket.model_folder()
        pocket.verify(folder)
        return folder
    path = Path(model).expanduser()
    if path.is_dir():
        return path
    if path.is_file():
        if path.suffix in _PICKLES:
            raise EngineError(_pickled(path.name))
        raise EngineError(
            f"{model} is a single file; expected a folder in diffusers format: convert it "
            "once with StableDiffusionPipeline.from_single_file(file).save_pretrained(folder)"
        )
    if model_hub.is_id(model):
        half = device.dtype is not torch.float32
        return model_hub.model_folder(model, offline=settings.offline, half=half, report=report)
    raise EngineError(
        f"there is no folder {model}: expected pocket, a folder in diffusers format or a hub id "
        "such as stabilityai/sd-turbo"
    )


# What a folder says of itself --------------------------------------------------------------------


def _usual_parameters(model: str, unet: Any) -> dict[str, Any]:
    """What suits models of this form that say nothing themselves."""
    if unet.config.cross_attention_dim == 1024 or "turbo" in model.lower():
        return {"num_inference_steps": 1, "cfg_type": "none", "guidance_scale": 1.0}
    return {}


# Weights -----------------------------------------------------------------------------------------


def _load_part(
    folder: Path, part: str, load: Callable[..., Any], *, device: Device | None = None
) -> Any:
    """Load one component of a folder ("." for a folder that is one component itself)."""
    place = folder / part
    if not place.is_dir():
        raise EngineError(f"{folder} is not complete: expected the folder {part} in it")
    options: dict[str, Any] = {"local_files_only": True}
    if device is None:  # a part without weights
        return _told(lambda: load(str(place), **options), place)
    options["variant"] = _checked_variant(place, half=device.dtype is not torch.float32)
    options |= {"use_safetensors": True, "dtype": device.dtype, "output_loading_info": True}
    module, info = _told(lambda: load(str(place), **options), place)
    missing = sorted(info["missing_keys"])
    if missing:
        raise EngineError(
            f"{place} lacks {len(missing)} of its weights ({missing[0]}, ...): "
            "download the model again"
        )
    return module


def _checked_variant(place: Path, half: bool) -> str | None:
    """Look into the headers of a component's weights; return the variant to be loaded."""
    files = sorted(place.glob("*.safetensors"))
    if not files:
        pickles = [path.name for path in sorted(place.glob("*")) if path.suffix in _PICKLES]
        if pickles:
            raise EngineError(_pickled(f"{place / pickles[0]}"))
        raise EngineError(
            f"{place} has no weights: expected diffusion_pytorch_model.safetensors or "
            "model.safetensors; download the model again"
        )
    halves = [path for path in files if ".fp16." in path.name]
    full = [path for path in files if ".fp16." not in path.name and ".non_ema." not in path.name]
    chosen = halves if halves and (half or not full) else full
    for path in chosen:
        check_safetensors(path)
    return "fp16" if chosen is halves else None


def _told(work: Callable[[], Any], what: object) -> Any:
    """Do a piece of loading; what it raises becomes one line."""
    try:
        return work()
    except (OSError, ValueError, KeyError, TypeError, RuntimeError, SafetensorError) as error:
        if is_out_of_memory(error):
            raise EngineError(out_of_memory(f"loading {what}")) from error
        lines = " ".join(str(error).split())
        raise EngineError(
            f"{what} cannot be loaded ({lines[:300]}): download the model again, or choose another"
        ) from error


def _pickled(what: str) -> str:
    return (
        f"{what} is a pickle, which can run code when it is read, and is refused: choose a model "
        "with .safetensors weights, or convert it with https://huggingface.co/spaces/safetensors/convert"
    )


def _load_vae(
    settings: EngineSettings, folder: Path, index: Mapping[str, Any], device: Device, report: Report
) -> Any:
    config = read_json(existing(folder, "vae/config.json"))
    kind = str(config.get("_class_name") or index["vae"][1])
    if kind == pocket.AUTOENCODER:
        return pixel_autoencoder.load_autoencoder(folder)
    if kind not in AUTOENCODERS:
        raise EngineError(f"{folder}/vae is an {kind}; expected one of {', '.join(AUTOENCODERS)}")
    if kind == "AutoencoderKL" and settings.use_tiny_vae is not False:
        tiny = _tiny_vae_folder(settings, folder, report)
        if tiny is not None:
            return _load_part(tiny, ".", AutoencoderTiny.from_pretrained, device=device)
    return _load_part(folder, "vae", AUTOENCODERS[kind].from_pretrained, device=device)


def _tiny_vae_folder(settings: EngineSettings, folder: Path, report: Report) -> Path | None:
    """Where the tiny autoencoder is: next to the model, or on the hub for a model from there."""
    beside = folder.parent / "taesd"
    if (beside / "config.json").is_file():
        return beside
    if Path(settings.model).expanduser().is_dir() and not settings.use_tiny_vae:
        return None
    try:
        return model_hub.model_folder(TINY_VAE, offline=settings.offline, half=False, report=report)
    except EngineError as error:
        if settings.use_tiny_vae:
            raise
        logger.warning("the full autoencoder is used, the tiny one would be faster: %s", error)
        return None


# LoRAs -------------------------------------------------------------------------------------------


def can_fuse_loras() -> bool:
    """Whether the package is installed that diffusers fuses LoRAs with."""
    return find_spec("peft") is not None


def chosen_loras(settings: EngineSettings, unet: Any, report: Report) -> dict[str, float]:
    """The LoRAs to fuse: those asked for, and the one that makes a plain SD 1.5 fast."""
    loras = dict(settings.loras)
    of_sd15 = unet.config.cross_attention_dim == 768
    if settings.use_lcm_lora is None and not can_fuse_loras():
        return loras
    plain = not any(_FEW_STEPS.search(name) for name in (settings.model, *loras))
    wanted = settings.use_lcm_lora
    if wanted is False or LCM_LORA in loras or not (wanted or (of_sd15 and plain)):
        return loras
    if wanted is None and Path(settings.model).expanduser().is_dir():
        logger.warning(
            "%s may need many steps: if it is a plain Stable Diffusion 1.5, use the LCM-LoRA "
            "(use_lcm_lora, or loras %s)",
            settings.model,
            LCM_LORA,
        )
        return loras
    try:
        model_hub.lora_file(LCM_LORA, offline=settings.offline, report=report)
    except EngineError as error:
        if wanted:
            raise
        logger.warning("few steps will look poor without the LCM-LoRA: %s", error)
        return loras
    return {LCM_LORA: 1.0, **loras}


class _LoraReader(StableDiffusionLoraLoaderMixin):  # type: ignore[misc]
    """The reader of all LoRA layouts, which diffusers has as a part of its pipelines."""

    def __init__(self, unet: Any, text_encoder: Any) -> None:
        self.unet = unet
        self.text_encoder = text_encoder
        self.components = {"unet": unet, "text_encoder": text_encoder}
        self.hf_device_map = None  # nothing is spread over several devices

    def fuse(self, path: Path, weight: float) -> None:
        self.load_lora_weights(str(path.parent), weight_name=path.name, local_files_only=True)
        if not self.get_active_adapters():
            raise ValueError("nothing in it fits the model")
        self.fuse_lora(lora_scale=weight)
        self.unload_lora_weights()


def _fuse_lora(
    lora: str, weight: float, unet: Any, text_encoder: Any, settings: EngineSettings, report: Report
) -> None:
    path = _lora_path(lora, settings, report)
    check_safetensors(path)
    _told(lambda: _LoraReader(unet, text_encoder).fuse(path, weight), f"LoRA {lora}")


def _lora_path(lora: str, settings: EngineSettings, report: Report) -> Path:
    path = Path(lora).expanduser()
    if path.is_dir():
        found = sorted(path.glob("*.safetensors"))
        if len(found) != 1:
            raise EngineError(
                f"LoRA {lora}: expected one .safetensors file in the folder, found {len(found)}; "
                "name the file"
            )
        return found[0]
    if path.suffix in _PICKLES:
        raise EngineError(_pickled(f"LoRA {lora}"))
    if path.is_file():
        return path
    if model_hub.is_id("/".join(lora.split("/")[:2])) and not path.is_absolute():
        return model_hub.lora_file(lora, offline=settings.offline, report=report)
    raise EngineError(f"LoRA {lora}: there is no such file, folder or hub id")


# Onto the device ---------------------------------------------------------------------------------


def _check_unet(unet: Any, text_encoder: Any, model: str) -> None:
    knows, says = unet.config.cross_attention_dim, text_encoder.config.hidden_size
    if unet.config.addition_embed_type not in (None, "text") or not isinstance(knows, int):
        raise EngineError(
            f"{model}: the U-Net wants more than a prompt (SDXL?), which this engine cannot give: "
            "expected Stable Diffusion 1.x, 2.x or SD-Turbo"
        )
    if knows != says:
        raise EngineError(
            f"{model}: the U-Net takes prompts of width {knows} and the text encoder makes {says}: "
            "the parts are of different models"
        )


def _on_device(module: Any, device: Device) -> None:
    module.eval().requires_grad_(False)
    _told(lambda: module.to(device.torch, memory_format=torch.channels_last), "the model")


def _latent_form(vae: Any, device: Device) -> tuple[int, int]:
    """Channels of a latent, and how much smaller than the picture it is."""
    with torch.inference_mode():
        probe = torch.zeros(1, 3, 64, 64, device=device.torch, dtype=_dtype(vae))
        latents = encode_picture(vae, probe)
    return latents.shape[1], 64 // latents.shape[3]


def _dtype(module: torch.nn.Module) -> torch.dtype:
    """The precision of a module's weights; full, if it has none."""
    return next((weight.dtype for weight in module.parameters()), torch.float32)


def encode_picture(vae: Any, pictures: torch.Tensor) -> torch.Tensor:
    """Pictures (B, 3, H, W) in -1..1 to latents (B, C, h, w); equal in, equal out."""
    encoded = vae.encode(pictures)
    latents = encoded.latents if hasattr(encoded, "latents") else encoded.latent_dist.mode()
    return cast(torch.Tensor, latents)


def _report(report: Report, text: str, fraction: float) -> None:
    report(Progress("loading", text, fraction))


def _sized(folder: Path, part: str) -> str:
    size = sum(path.stat().st_size for path in (folder / part).glob("*.safetensors"))
    return f"{part.replace('_', ' ')}, {size / 1e6:.0f} MB"
