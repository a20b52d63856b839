"""A tiny Stable Diffusion model as one file, by the names it was first published under."""

import re
from pathlib import Path
from typing import Any

import torch
from diffusers import AutoencoderKL, UNet2DConditionModel
from safetensors.torch import save_file
from transformers import CLIPTextModel, CLIPTextModelWithProjection

from tests.engines.tiny_models import Kind

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
    "add_embedding.linear_1": "label_emb.0.0",
    "add_embedding.linear_2": "label_emb.0.2",
}
_ATTENTION = {"group_norm": "norm", "to_q": "q", "to_k": "k", "to_v": "v", "to_out.0": "proj_out"}


_OPEN_CLIP = {
    "encoder.layers.": "transformer.resblocks.",
    ".layer_norm1.": ".ln_1.",
    ".layer_norm2.": ".ln_2.",
    ".mlp.fc1.": ".mlp.c_fc.",
    ".mlp.fc2.": ".mlp.c_proj.",
    ".self_attn.out_proj.": ".attn.out_proj.",
    "embeddings.position_embedding.weight": "positional_embedding",
    "embeddings.token_embedding.weight": "token_embedding.weight",
    "final_layer_norm.": "ln_final.",
}


def save_single_file(path: Path, folder: Path, kind: Kind = "sd15") -> Path:
    """Write the weights of a tiny model's folder (full autoencoder) into one file."""
    unet = UNet2DConditionModel.from_pretrained(folder / "unet")
    vae = AutoencoderKL.from_pretrained(folder / "vae")
    weights: dict[str, torch.Tensor] = {}
    for name, weight in unet.state_dict().items():
        weights["model.diffusion_model." + _of_unet(name, unet)] = weight
    for name, weight in vae.state_dict().items():
        published = "first_stage_model." + _of_vae(name, len(vae.config.block_out_channels))
        of_attention = "attn_1" in published and weight.ndim == 2
        weights[published] = weight[:, :, None, None] if of_attention else weight
    text = CLIPTextModel.from_pretrained(folder / "text_encoder")
    match kind:
        case "sd15":
            weights |= _clip(text, "cond_stage_model.transformer.text_model.")
        case "sd21":
            weights |= _open_clip(text, "cond_stage_model.model.")
            # Published with it, though nothing of it is used.
            width = text.config.hidden_size
            weights["cond_stage_model.model.text_projection"] = torch.eye(width)
        case "sdxl":
            weights |= _clip(text, "conditioner.embedders.0.transformer.text_model.")
            second = CLIPTextModelWithProjection.from_pretrained(folder / "text_encoder_2")
            weights |= _open_clip(second, "conditioner.embedders.1.model.")
    path.parent.mkdir(parents=True, exist_ok=True)
    save_file({name: weight.contiguous() for name, weight in weights.items()}, path)
    return path


def _clip(text: Any, prefix: str) -> dict[str, torch.Tensor]:
    return {prefix + _within(name): weight for name, weight in text.state_dict().items()}


def _open_clip(text: Any, prefix: str) -> dict[str, torch.Tensor]:
    """As OpenCLIP has it: queries, keys and values in one, the projection turned."""
    given = {_within(name): weight for name, weight in text.state_dict().items()}
    weights: dict[str, torch.Tensor] = {}
    for name, weight in given.items():
        if name == "text_projection.weight":
            weights[prefix + "text_projection"] = weight.T
        elif ".q_proj." in name:
            three = [weight, *(given[name.replace("q_proj", one)] for one in ("k_proj", "v_proj"))]
            layer, end = name.split(".self_attn.q_proj.")
            layer = layer.replace("encoder.layers.", "transformer.resblocks.")
            weights[f"{prefix}{layer}.attn.in_proj_{end}"] = torch.cat(three)
        elif ".k_proj." not in name and ".v_proj." not in name:
            for ours, published in _OPEN_CLIP.items():
                name = name.replace(ours, published)
            weights[prefix + name] = weight
    return weights


def _within(name: str) -> str:
    return name.removeprefix("text_model.")


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
