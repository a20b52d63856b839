"""Models in their full size with random weights: how fast a model is does not depend on them.

The sizes are those of the published configurations of ``stabilityai/sd-turbo`` (the form of Stable
Diffusion 2.1), ``stable-diffusion-v1-5/stable-diffusion-v1-5``, ``stabilityai/sdxl-turbo`` and
``madebyollin/taesd`` (``taesdxl`` is the same network); what is not named is diffusers' or
transformers' default. A test compares the numbers of weights with the known ones. Modules are made
without memory (``meta``), then given theirs on the device, in its precision: nothing is downloaded,
and nothing passes through the memory of the host.

``SMALL`` are the same three forms in a size for processors.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from diffusers import AutoencoderTiny, UNet2DConditionModel
from tokenizers import pre_tokenizers
from torch.utils.flop_counter import FlopCounterMode
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection, CLIPTokenizer

from dreamrelay.engines import EngineSettings
from dreamrelay.engines.components import quieten
from dreamrelay.engines.devices import Device, choose_device
from dreamrelay.engines.loading import LoadedModel, Parts, assemble
from dreamrelay.engines.model_folder import Noising
from dreamrelay.engines.ports import Report
from dreamrelay.engines.schedule import cumulative_alphas
from dreamrelay.engines.stream_batch import StreamBatchEngine
from dreamrelay.engines.text import TextEncoder

VOCABULARY = 49408
"""Tokens that CLIP's text encoders know; the last two begin and end a text."""

WORDS = 77
"""Tokens of a prompt."""

SCHEDULER: Mapping[str, Any] = {
    "num_train_timesteps": 1000,
    "beta_start": 0.00085,
    "beta_end": 0.012,
    "beta_schedule": "scaled_linear",
    "timestep_spacing": "trailing",
    "steps_offset": 1,
    "prediction_type": "epsilon",
}


@dataclass(frozen=True)
class Form:
    """What a model is built from.

    Attributes:
        title: for people.
        unet: arguments of ``UNet2DConditionModel``.
        texts: arguments of ``CLIPTextConfig`` of one text encoder, or the two of SDXL.
        vae: arguments of ``AutoencoderTiny``.
    """

    title: str
    unet: Mapping[str, Any]
    texts: Sequence[Mapping[str, Any]]
    vae: Mapping[str, Any]


def _text(width: int, layers: int, heads: int, act: str, **more: Any) -> dict[str, Any]:
    sizes = {"hidden_size": width, "intermediate_size": 4 * width, "num_hidden_layers": layers}
    return {**sizes, "num_attention_heads": heads, "hidden_act": act, **more}


_CLIP_L = _text(768, 12, 12, "quick_gelu", projection_dim=768)
_OPENCLIP_H = _text(1024, 23, 16, "gelu", projection_dim=512)
_OPENCLIP_G = _text(1280, 32, 20, "gelu", projection_dim=1280)

_XL_DOWN = ("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D")
_XL_UP = ("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D")

FULL: Mapping[str, Form] = {
    "sd-turbo": Form(
        "SD-Turbo",
        {
            "sample_size": 64,
            "block_out_channels": (320, 640, 1280, 1280),
            "cross_attention_dim": 1024,
            "attention_head_dim": [5, 10, 20, 20],
            "use_linear_projection": True,
        },
        (_OPENCLIP_H,),
        {},
    ),
    "sdxl-turbo": Form(
        "SDXL-Turbo",
        {
            "sample_size": 64,
            "block_out_channels": (320, 640, 1280),
            "down_block_types": _XL_DOWN,
            "up_block_types": _XL_UP,
            "transformer_layers_per_block": [1, 2, 10],
            "cross_attention_dim": 2048,
            "attention_head_dim": [5, 10, 20],
            "use_linear_projection": True,
            "addition_embed_type": "text_time",
            "addition_time_embed_dim": 256,
            "projection_class_embeddings_input_dim": 2816,
        },
        (_CLIP_L, _OPENCLIP_G),
        {},
    ),
    "sd-1.5": Form(
        "SD 1.5",
        {
            "sample_size": 64,
            "block_out_channels": (320, 640, 1280, 1280),
            "cross_attention_dim": 768,
            "attention_head_dim": 8,
        },
        (_CLIP_L,),
        {},
    ),
}

_SMALL_UNET: Mapping[str, Any] = {
    "sample_size": 16,
    "block_out_channels": (32, 64),
    "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D"),
    "up_block_types": ("CrossAttnUpBlock2D", "UpBlock2D"),
    "layers_per_block": 1,
    "norm_num_groups": 8,
}
_SMALL_TEXT = _text(32, 2, 4, "gelu", projection_dim=16)
_SMALL_VAE: Mapping[str, Any] = {
    "encoder_block_out_channels": (16, 16, 16, 16),
    "decoder_block_out_channels": (16, 16, 16, 16),
    "num_encoder_blocks": (1, 1, 1, 1),
    "num_decoder_blocks": (1, 1, 1, 1),
}
_LINEAR = {"use_linear_projection": True, "attention_head_dim": [2, 4]}

SMALL: Mapping[str, Form] = {
    "sd-turbo": Form(
        "small SD-Turbo",
        {**_SMALL_UNET, **_LINEAR, "cross_attention_dim": 32},
        (_SMALL_TEXT,),
        _SMALL_VAE,
    ),
    "sdxl-turbo": Form(
        "small SDXL-Turbo",
        {
            **_SMALL_UNET,
            **_LINEAR,
            "cross_attention_dim": 64,
            "transformer_layers_per_block": [1, 2],
            "addition_embed_type": "text_time",
            "addition_time_embed_dim": 8,
            "projection_class_embeddings_input_dim": 16 + 6 * 8,
        },
        (_SMALL_TEXT, _SMALL_TEXT),
        _SMALL_VAE,
    ),
    "sd-1.5": Form(
        "small SD 1.5",
        {**_SMALL_UNET, "cross_attention_dim": 32, "attention_head_dim": 4},
        (_SMALL_TEXT,),
        _SMALL_VAE,
    ),
}

ONE_STEP: Mapping[str, Any] = {
    "prompt": "a painting",
    "num_inference_steps": 1,
    "strength": 0.5,
    "cfg_type": "none",
    "guidance_scale": 1.0,
}
"""What every model is measured with: a frame is one row through the U-Net."""


def forms(device: Device) -> Mapping[str, Form]:
    """Those for a device: in full size for a CUDA card."""
    return FULL if device.torch.type == "cuda" else SMALL


# Modules -----------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Modules:
    """The modules of a form; without memory until :meth:`on` gives them theirs."""

    unet: Any
    vae: Any
    texts: Sequence[Any]

    @property
    def per_frame(self) -> tuple[Any, ...]:
        """Those that every frame goes through."""
        return self.unet, self.vae

    def on(self, device: torch.device, dtype: torch.dtype) -> "Modules":
        """Give them memory on a device, and weights as they have before any training."""
        torch.manual_seed(0)
        for module in (*self.per_frame, *self.texts):
            module.to(dtype).to_empty(device=device)
            for part in module.modules():
                if hasattr(part, "reset_parameters"):
                    part.reset_parameters()
            for name, buffer in module.named_buffers():
                if name.endswith("position_ids"):
                    buffer.copy_(torch.arange(buffer.shape[-1]))
            module.eval().requires_grad_(False)
        return self


def describe(form: Form) -> Modules:
    """The modules of a form without memory: their shapes alone."""
    with torch.device("meta"):
        unet = UNet2DConditionModel(**form.unet)
        vae = AutoencoderTiny(**form.vae)
        texts = []
        for number, text in enumerate(form.texts):
            markers = {"bos_token_id": VOCABULARY - 2, "eos_token_id": VOCABULARY - 1}
            config = CLIPTextConfig(vocab_size=VOCABULARY, **markers, **text)
            texts.append((CLIPTextModel, CLIPTextModelWithProjection)[number](config))
    return Modules(unet, vae, texts)


def weights(*modules: Any) -> int:
    """How many numbers modules have learnt."""
    return sum(weight.numel() for module in modules for weight in module.parameters())


def flops(form: Form, size: int) -> int:
    """Floating-point operations of a frame of ``size`` x ``size``: encoder, one step, decoder.

    A multiplication and an addition are two. Counted over shapes; nothing is computed.
    """
    modules = describe(form)
    with torch.device("meta"), torch.inference_mode(), FlopCounterMode(display=False) as counter:
        latents = modules.vae.encode(torch.empty(1, 3, size, size)).latents
        told = torch.empty(1, WORDS, form.unet["cross_attention_dim"])
        pooled = torch.empty(1, form.texts[-1]["projection_dim"])
        added = {"text_embeds": pooled, "time_ids": torch.empty(1, 6)}
        modules.unet(latents, torch.tensor(1.0), told, added_cond_kwargs=added)
        modules.vae.decode(latents)
    return int(counter.get_total_flops())


# Engines over them -------------------------------------------------------------------------------


def build(form: Form, device: Device) -> Parts:
    """The model of a form, with random weights, on a device."""
    quieten()
    modules = describe(form).on(device.torch, device.dtype)
    encoders = [TextEncoder(_tokenizer(), module) for module in modules.texts]
    index: dict[str, Any] = {"unet": [], "vae": [], "text_encoder": []}
    if len(encoders) > 1:
        index["text_encoder_2"] = []
    noising = Noising(cumulative_alphas(SCHEDULER), "epsilon", None)
    return Parts(Path("built"), index, modules.unet, modules.vae, encoders, noising)


def _tokenizer() -> Any:
    """CLIP's tokenizer without a merge: all bytes are words, and the markers have their places."""
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokens = [*letters, *(f"{letter}</w>" for letter in letters)]
    vocabulary = {token: at for at, token in enumerate(tokens)}
    markers = {"<|startoftext|>": VOCABULARY - 2, "<|endoftext|>": VOCABULARY - 1}
    return CLIPTokenizer(vocab={**vocabulary, **markers}, merges=[], model_max_length=WORDS)


class BuiltEngine(StreamBatchEngine):
    """Our engine over a model that was built, not read.

    Args:
        parts: may be shared with other engines.
        name: of the form.
        size: pixels of a side.
        acceleration: see ``EngineSettings``.
        device: of ``parts``.
    """

    def __init__(
        self, parts: Parts, name: str, size: int, acceleration: str, device: Device
    ) -> None:
        self._parts = parts
        self._built = (parts, name, size, acceleration, device)
        precision = str(device.dtype).removeprefix("torch.")
        super().__init__(
            EngineSettings(
                # Not a name that what is built of other weights could be kept under.
                model=f"random-weights/{name}",
                width=size,
                height=size,
                device=device.torch.type,
                precision=precision,
                acceleration=acceleration,
                use_lcm_lora=False,
                offline=True,
                parameters=ONE_STEP,
            )
        )

    def beside(self, patch: Mapping[str, Any]) -> "BuiltEngine":
        """Another stream over the same modules."""
        other = BuiltEngine(*self._built)
        other._take(self.model)
        other.apply({**self.parameters, **patch})
        return other

    def _read_model(self, report: Report, fuse_at_once: bool) -> LoadedModel:
        return assemble(
            self._parts, self._settings, self._device, report, fuse_at_once=fuse_at_once
        )


def open_built(name: str, size: int, acceleration: str = "sdpa") -> BuiltEngine:
    """An engine, not loaded, over a model of its own on the best device there is."""
    device = choose_device("auto")
    return BuiltEngine(build(forms(device)[name], device), name, size, acceleration, device)
