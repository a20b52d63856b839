"""From a folder in diffusers format, one file, a hub id or ``pocket`` to torch modules.

The folder: ``model_index.json`` and ``unet/  vae/  text_encoder/  tokenizer/  scheduler/``, of SDXL
also ``text_encoder_2/  tokenizer_2/``. What cannot be loaded ends in one clear line.
"""

import logging
import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from diffusers import UNet2DConditionModel
from transformers import CLIPTextModel, CLIPTextModelWithProjection, CLIPTokenizer

from dreamrelay.engines import model_hub, pixel_autoencoder, pocket
from dreamrelay.engines.autoencoder import latent_form, load_autoencoder, precision
from dreamrelay.engines.batch_engine import ModelForm
from dreamrelay.engines.components import PICKLES, load_component, pickled, quieten, sized, told
from dreamrelay.engines.devices import Device
from dreamrelay.engines.guides import Guides
from dreamrelay.engines.licences import licence
from dreamrelay.engines.loras import Loras, find_lora, lcm_lora, short_names
from dreamrelay.engines.model_folder import (
    Noising,
    known_parameters,
    own_name,
    pixels,
    read_defaults,
    read_index,
    read_scheduler,
    read_vocabulary,
)
from dreamrelay.engines.ports import EngineSettings, Progress, Report
from dreamrelay.engines.single_file import open_single_file
from dreamrelay.engines.text import TextEncoder, TextEncoders
from dreamrelay.engines.transfers import Transfers
from dreamrelay.errors import EngineError

if TYPE_CHECKING:  # it is laid over what is loaded here
    from dreamrelay.engines.forward import Forward

logger = logging.getLogger(__name__)

_TURBO = re.compile(r"turbo", re.IGNORECASE)


@dataclass(kw_only=True)
class LoadedModel(ModelForm):
    """A model and its torch modules.

    Attributes:
        text: what it reads prompts with.
        loras: what its operator has laid over it.
        tells_size: whether the U-Net is told the size of the picture (SDXL).
        nothing_is_zero: whether an empty negative prompt is told as zeros.
        guides: its ControlNets and IP-Adapter; None while they are not loaded.
        forward: how its parts are called.
        transfers: how pixels come to it and go from it.
    """

    unet: Any
    vae: Any
    vae_dtype: torch.dtype
    text: TextEncoders
    loras: Loras
    tells_size: bool = False
    nothing_is_zero: bool = False
    guides: Guides | None = None
    forward: "Forward | None" = None
    transfers: Transfers | None = None


@dataclass(frozen=True)
class Parts:
    """What a model is made of.

    Attributes:
        folder: where it lies, with what it says of itself; need not exist.
        index: of the folder, see :func:`model_folder.read_index`.
    """

    folder: Path
    index: dict[str, Any]
    unet: Any
    vae: Any
    encoders: list[TextEncoder]
    noising: Noising


def load_model(
    settings: EngineSettings, device: Device, report: Report, *, fuse_at_once: bool = False
) -> LoadedModel:
    """Load the model that ``settings`` name, part by part; ``report`` hears of each part.

    Args:
        fuse_at_once: add LoRAs into the weights at each change of their scales, not only when they
            stand still: for networks that cannot bear layers beside theirs.

    Raises:
        EngineError: it cannot be loaded; says why and what to do.
    """
    quieten()
    path = Path(settings.model).expanduser()
    if path.is_file() and path.suffix not in PICKLES:
        parts = _from_file(path, settings, device, report)
    else:
        parts = _from_folder(find_folder(settings, device, report), settings, device, report)
    return assemble(parts, settings, device, report, fuse_at_once=fuse_at_once)


def assemble(
    parts: Parts,
    settings: EngineSettings,
    device: Device,
    report: Report,
    *,
    fuse_at_once: bool = False,
) -> LoadedModel:
    """Put a model together of parts that are there; see :func:`load_model`.

    Raises:
        EngineError: the parts do not fit each other, or a LoRA cannot be had.
    """
    is_file = Path(settings.model).expanduser().is_file()  # the folder is of another model then
    terms = licence(settings.model, None if is_file else parts.folder)
    logger.info("%s: licence %s", settings.model, terms)
    defaults = read_defaults(parts.folder)
    text = TextEncoders(parts.encoders)
    _check_unet(parts.unet, text, settings.model)
    loras = _load_loras(settings, parts, fuse_at_once, report)
    for module in (parts.unet, parts.vae, *(encoder.module for encoder in parts.encoders)):
        _on_device(module, device)
    unet, vae = parts.unet, parts.vae
    channels, scale = latent_form(vae, device.torch)
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
        licence=terms,
        unet=unet,
        vae=vae,
        vae_dtype=precision(vae),
        text=text,
        loras=loras,
        tells_size=unet.config.addition_embed_type == "text_time",
        nothing_is_zero=bool(parts.index.get("force_zeros_for_empty_prompt")),
        alphas=parts.noising.alphas,
        prediction=parts.noising.prediction,
        half_share=parts.noising.half_share,
        channels=channels,
        picture_channels=vae.cells.pixel_channels if of_cells else 0,
        scale=scale,
        # Other U-Nets are trained on ragged sizes, ours on whole ones only.
        multiple=scale * 2**halvings if of_cells else scale,
        straight=of_cells,
        width=defaults.get("width", width),
        height=defaults.get("height", height),
        defaults={
            **(known_parameters(defaults) or _usual_parameters(settings.model, unet)),
            **_lora_defaults(loras),
        },
        vocabulary=read_vocabulary(parts.folder),
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
        raise EngineError(pickled(path.name))
    if model_hub.is_id(model):
        half = device.dtype is not torch.float32
        return model_hub.model_folder(model, offline=settings.offline, half=half, report=report)
    raise EngineError(
        f"there is no folder {model}: expected pocket, a folder in diffusers format, a "
        ".safetensors file or a hub id such as stabilityai/sd-turbo"
    )


# Parts -------------------------------------------------------------------------------------------


def _from_folder(folder: Path, settings: EngineSettings, device: Device, report: Report) -> Parts:
    index = read_index(folder)
    read_defaults(folder)  # what is wrong with it is said before anything long
    encoders = []
    for number, suffix in enumerate(["", "_2"] if "text_encoder_2" in index else [""]):
        name, kind = f"text_encoder{suffix}", [CLIPTextModel, CLIPTextModelWithProjection][number]
        _report(report, f"tokenizer{suffix}".replace("_", " "), 0.1 * number)
        tokenizer = load_component(folder, f"tokenizer{suffix}", CLIPTokenizer.from_pretrained)
        _report(report, sized(folder, name), 0.05 + 0.1 * number)
        module = load_component(folder, name, kind.from_pretrained, device.dtype)
        encoders.append(TextEncoder(tokenizer, module))
    noising = read_scheduler(folder)
    _report(report, sized(folder, "unet"), 0.2)
    unet = load_component(folder, "unet", UNet2DConditionModel.from_pretrained, device.dtype)
    _report(report, sized(folder, "vae"), 0.8)
    vae = load_autoencoder(settings, folder, index, device.dtype, report)
    return Parts(folder, index, unet, vae, encoders, noising)


def _from_file(path: Path, settings: EngineSettings, device: Device, report: Report) -> Parts:
    file = open_single_file(path, settings, report)
    index = read_index(file.folder)
    noising = read_scheduler(file.folder)
    _report(report, f"{path.name}, {path.stat().st_size / 1e6:.0f} MB", 0.2)
    pipeline = file.load(device.dtype)
    encoders = [TextEncoder(pipeline.tokenizer, pipeline.text_encoder)]
    if "text_encoder_2" in index:
        encoders.append(TextEncoder(pipeline.tokenizer_2, pipeline.text_encoder_2))
    _report(report, "vae", 0.8)
    vae = load_autoencoder(settings, file.folder, index, device.dtype, report, own=pipeline.vae)
    return Parts(file.folder, index, pipeline.unet, vae, encoders, noising)


def _load_loras(
    settings: EngineSettings, parts: Parts, fuse_at_once: bool, report: Report
) -> Loras:
    over = {"unet": parts.unet, "text_encoder": parts.encoders[0].module}
    if len(parts.encoders) > 1:
        over["text_encoder_2"] = parts.encoders[1].module
    loras = Loras(over, **({"fuse_after": 0} if fuse_at_once else {}))

    def find(lora: str) -> Path:
        return find_lora(lora, settings, report)

    few_steps = _usual_parameters(settings.model, parts.unet) != {}
    fast = lcm_lora(settings, parts.unet.config.cross_attention_dim, find, few_steps)
    if fast is not None:
        _report(report, f"LoRA {fast}", 0.9)
        loras.fuse_for_good(find(fast), 1.0, fast)
    for at, (lora, name) in enumerate(short_names(settings.loras).items()):
        _report(report, f"LoRA {lora}", 0.9 + 0.1 * at / len(settings.loras))
        loras.add(find(lora), settings.loras[lora], name, of=lora)
    return loras


# What a model says of itself ---------------------------------------------------------------------


def _usual_parameters(model: str, unet: Any) -> dict[str, Any]:
    """What suits models of this form that say nothing themselves."""
    if unet.config.cross_attention_dim == 1024 or _TURBO.search(own_name(model)):
        return {"num_inference_steps": 1, "cfg_type": "none", "guidance_scale": 1.0}
    return {}


def _lora_defaults(loras: Loras) -> dict[str, Any]:
    scales = [{"name": name, "scale": scale} for name, scale in loras.scales.items()]
    return {"loras": scales} if scales else {}


def _check_unet(unet: Any, text: TextEncoders, model: str) -> None:
    knows, wants = unet.config.cross_attention_dim, unet.config.addition_embed_type
    if wants not in (None, "text", "text_time") or not isinstance(knows, int):
        raise EngineError(
            f"{model}: the U-Net wants more than a prompt ({wants}), which this engine cannot "
            "give: expected Stable Diffusion 1.x, 2.x, XL or a Turbo model"
        )
    if (wants == "text_time") != text.pools:
        raise EngineError(
            f"{model}: the U-Net and the text encoders are of different models: expected two text "
            "encoders with an SDXL base or turbo model, one with others"
        )
    if knows != text.width:
        raise EngineError(
            f"{model}: the U-Net takes prompts of width {knows} and the text encoder makes "
            f"{text.width}: the parts are of different models"
        )
    told_size = (text.pooled_width or 0) + 6 * (unet.config.addition_time_embed_dim or 0)
    if wants == "text_time" and unet.config.projection_class_embeddings_input_dim != told_size:
        raise EngineError(
            f"{model}: the U-Net wants other numbers than size and crop (an SDXL refiner?): "
            "expected an SDXL base or turbo model"
        )


def _on_device(module: Any, device: Device) -> None:
    module.eval().requires_grad_(False)
    told(lambda: module.to(device.torch, memory_format=torch.channels_last), "the model")


def _report(report: Report, text: str, fraction: float) -> None:
    report(Progress("loading", text, fraction))
