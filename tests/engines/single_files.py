"""A tiny Stable Diffusion 1.x model as one file, by the names it was first published under."""

import re
from pathlib import Path
from typing import Any

import torch
from diffusers import AutoencoderKL, UNet2DConditionModel
from safetensors.torch import save_file
from transformers import CLIPTextModel

_RESNET = {
    "norm1": "in_layers.0",
    "conv1": "in_layers.2",
    "norm2": "out_layers.0",
    "conv2": "out_layers.3",
    "time_emb_proj": "emb_layers.1",
    "conv_shortcut": "skip_connection",
}
_ENDS = {
    "time_embedding.linear_1": "time_embed.0",
    "time_embedding.linear_2": "time_embed.2",
    "conv_in": "input_blocks.0.0",
    "conv_norm_out": "out.0",
    "conv_out": "out.2",
}
_ATTENTION = {"group_norm": "norm", "to_q": "q", "to_k": "k", "to_v": "v", "to_out.0": "proj_out"}


def save_single_file(path: Path, folder: Path) -> Path:
    """Write the weights of a tiny SD 1.5 folder (full autoencoder) into one file."""
    unet = UNet2DConditionModel.from_pretrained(folder / "unet")
    vae = AutoencoderKL.from_pretrained(folder / "vae")
    text = CLIPTextModel.from_pretrained(folder / "text_encoder")
    weights: dict[str, torch.Tensor] = {}
    for name, weight in unet.state_dict().items():
        weights["model.diffusion_model." + _of_unet(name, unet)] = weight
    for name, weight in vae.state_dict().items():
        published = "first_stage_model." + _of_vae(name, len(vae.config.block_out_channels))
        of_attention = "attn_1" in published and weight.ndim == 2
        weights[published] = weight[:, :, None, None] if of_attention else weight
    for name, weight in text.state_dict().items():
        within = name.removeprefix("text_model.")
        weights[f"cond_stage_model.transformer.text_model.{within}"] = weight
    save_file({name: weight.contiguous() for name, weight in weights.items()}, path)
    return path


def _of_unet(name: str, unet: Any) -> str:
    for ours, published in _ENDS.items():
        if name.startswith(ours + "."):
            return published + name.removeprefix(ours)
    each = unet.config.layers_per_block + 1
    kind, rest = name.split(".", 1)
    if kind == "mid_block":
        part, at, rest = rest.split(".", 2)
        place = 1 if part == "attentions" else 2 * int(at)
        return f"middle_block.{place}.{_in_resnet(rest, part)}"
    block, part, at, rest = rest.split(".", 3)
    if part == "downsamplers":
        return f"input_blocks.{each * (int(block) + 1)}.0.op.{rest.removeprefix('conv.')}"
    if part == "upsamplers":
        place = 2 if "CrossAttn" in unet.config.up_block_types[int(block)] else 1
        return f"output_blocks.{each * int(block) + each - 1}.{place}.{rest}"
    place = 1 if part == "attentions" else 0
    if kind == "down_blocks":
        return f"input_blocks.{each * int(block) + int(at) + 1}.{place}.{_in_resnet(rest, part)}"
    return f"output_blocks.{each * int(block) + int(at)}.{place}.{_in_resnet(rest, part)}"


def _in_resnet(rest: str, part: str) -> str:
    if part != "resnets":
        return rest
    name, end = rest.rsplit(".", 1)
    return f"{_RESNET[name]}.{end}"


def _of_vae(name: str, blocks: int) -> str:
    name = name.replace("conv_shortcut", "nin_shortcut").replace("conv_norm_out", "norm_out")
    name = re.sub(r"down_blocks\.(\d)\.resnets\.", r"down.\1.block.", name)
    name = re.sub(r"down_blocks\.(\d)\.downsamplers\.0\.", r"down.\1.downsample.", name)
    turned = re.search(r"up_blocks\.(\d)", name)
    if turned:
        name = name.replace(turned[0], f"up.{blocks - 1 - int(turned[1])}")
    name = name.replace(".resnets.", ".block.").replace(".upsamplers.0.", ".upsample.")
    name = re.sub(r"mid_block\.block\.(\d)", lambda m: f"mid.block_{int(m[1]) + 1}", name)
    if "mid_block.attentions.0." in name:
        name = name.replace("mid_block.attentions.0.", "mid.attn_1.")
        for ours, published in _ATTENTION.items():
            name = name.replace(f".{ours}.", f".{published}.")
    return name
