"""ControlNets, depth models, IP-Adapters: the real classes and layouts, small, random weights."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
from diffusers import ControlNetModel, UNet2DConditionModel
from diffusers.models.embeddings import ImageProjection, IPAdapterPlusImageProjection
from PIL import Image
from safetensors.torch import save_file
from transformers import (
    CLIPVisionConfig,
    CLIPVisionModelWithProjection,
    DepthAnythingConfig,
    DepthAnythingForDepthEstimation,
    Dinov2Config,
    DPTConfig,
    DPTForDepthEstimation,
    GLPNConfig,
    GLPNForDepthEstimation,
)

from dreamrelay.codec import Frame

PATCH = 14
SEEN = 64  # width of what the image encoder makes
PARTS = 48  # width of what it makes of a picture's parts
TOKENS_PLUS = 6


def save_controlnet(folder: Path, unet: Any, seed: int = 0, **config: Any) -> Path:
    """Write a ControlNet for a tiny U-Net; its outputs are not zero, as a trained one's are not."""
    torch.manual_seed(seed)
    net = ControlNetModel.from_unet(unet, conditioning_embedding_out_channels=(4, 8, 8, 16))
    for convolution in (*net.controlnet_down_blocks, net.controlnet_mid_block):
        torch.nn.init.normal_(convolution.weight, std=0.2)
        torch.nn.init.normal_(convolution.bias, std=0.1)
    for name, weight in net.controlnet_cond_embedding.named_parameters():
        if name.endswith("weight"):  # so that the map matters
            torch.nn.init.normal_(weight, std=1.5 / weight[0].numel() ** 0.5)
    net.save_pretrained(folder)
    if config:
        path = folder / "config.json"
        path.write_text(json.dumps(json.loads(path.read_text("utf-8")) | config), "utf-8")
    return folder


def save_depth_anything(folder: Path, seed: int = 0, metric: bool = False) -> Path:
    """Write a Depth Anything model and its image processor."""
    torch.manual_seed(seed)
    backbone = Dinov2Config(
        image_size=4 * PATCH,
        patch_size=PATCH,
        num_channels=3,
        hidden_size=16,
        num_hidden_layers=4,
        num_attention_heads=2,
        intermediate_size=32,
        out_indices=[1, 2, 3, 4],
        apply_layernorm=True,
        reshape_hidden_states=False,
    )
    config = DepthAnythingConfig(
        backbone_config=backbone,
        patch_size=PATCH,
        reassemble_hidden_size=16,
        neck_hidden_sizes=[8, 8, 8, 8],
        fusion_hidden_size=8,
        head_hidden_size=8,
        depth_estimation_type="metric" if metric else "relative",
        max_depth=20 if metric else 1,
    )
    model = DepthAnythingForDepthEstimation(config)
    for name, weight in model.named_parameters():
        if name.startswith(("neck", "head")) and weight.ndim > 1:  # else all is as far as the rest
            torch.nn.init.normal_(weight, std=0.3)
    torch.nn.init.constant_(model.head.conv3.bias, 5.0)
    model.save_pretrained(folder)
    return _save_processor(folder, 4 * PATCH, ensure_multiple_of=PATCH, keep_aspect_ratio=True)


def save_dpt(folder: Path, seed: int = 0) -> Path:
    """Write a DPT, without the layer that the published ones lack and never use."""
    torch.manual_seed(seed)
    config = DPTConfig(
        hidden_size=16,
        num_hidden_layers=4,
        num_attention_heads=2,
        intermediate_size=32,
        image_size=32,
        patch_size=8,
        backbone_out_indices=[0, 1, 2, 3],
        neck_hidden_sizes=[8, 8, 8, 8],
        fusion_hidden_size=8,
        is_hybrid=False,
    )
    model = DPTForDepthEstimation(config)
    spare = "neck.fusion_stage.layers.0.residual_layer1."
    weights = {key: value for key, value in model.state_dict().items() if not key.startswith(spare)}
    model.save_pretrained(folder, state_dict=weights)
    return _save_processor(folder, 32)


def save_glpn(folder: Path, seed: int = 0) -> Path:
    """Write a GLPN, which says how far things are."""
    torch.manual_seed(seed)
    config = GLPNConfig(
        depths=[1, 1, 1, 1],
        hidden_sizes=[8, 8, 8, 8],
        num_attention_heads=[1, 1, 2, 2],
        decoder_hidden_size=8,
    )
    GLPNForDepthEstimation(config).save_pretrained(folder)
    settings = {"image_processor_type": "GLPNImageProcessor", "size_divisor": 32}
    return _save_json(folder / "preprocessor_config.json", settings).parent


def _save_processor(folder: Path, size: int, **more: Any) -> Path:
    settings = {
        "image_processor_type": "DPTImageProcessor",
        "do_resize": True,
        "do_rescale": True,
        "do_normalize": True,
        "size": {"height": size, "width": size},
        "image_mean": [0.485, 0.456, 0.406],
        "image_std": [0.229, 0.224, 0.225],
        "resample": 3,
        **more,
    }
    return _save_json(folder / "preprocessor_config.json", settings).parent


def _save_json(path: Path, value: Any) -> Path:
    path.write_text(json.dumps(value), encoding="utf-8")
    return path


def save_image_encoder(folder: Path, seed: int = 0, projection: int = SEEN) -> Path:
    """Write an image encoder as CLIP's."""
    torch.manual_seed(seed)
    config = CLIPVisionConfig(
        hidden_size=PARTS,
        intermediate_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        image_size=32,
        patch_size=16,
        projection_dim=projection,
    )
    CLIPVisionModelWithProjection(config).save_pretrained(folder)
    return folder


def save_ip_adapter(path: Path, unet: Any, plus: bool = False, seed: int = 0) -> Path:
    """Write an IP-Adapter for a tiny U-Net in h94's layout, its image encoder beside it."""
    torch.manual_seed(seed)
    width = unet.config.cross_attention_dim
    weights: dict[str, torch.Tensor] = {}
    if plus:
        layer = IPAdapterPlusImageProjection(
            embed_dims=PARTS, output_dims=width, hidden_dims=64, heads=1, num_queries=TOKENS_PLUS
        )
        projection = _published(layer.state_dict())
    else:
        layer = ImageProjection(
            cross_attention_dim=width, image_embed_dim=SEEN, num_image_text_embeds=4
        )
        projection = {
            key.replace("image_embeds", "proj"): value for key, value in layer.state_dict().items()
        }
    weights |= {f"image_proj.{key}": value.contiguous() for key, value in projection.items()}
    places = [name for name in unet.attn_processors if name.endswith("attn2.processor")]
    at = {name: 2 * index + 1 for index, name in enumerate(places)}
    for name, number in at.items():
        size = unet.get_submodule(name.removesuffix(".processor")).to_k.weight.shape
        for letter in "kv":
            weights[f"ip_adapter.{number}.to_{letter}_ip.weight"] = torch.randn(size) * 0.5
    path.parent.mkdir(parents=True, exist_ok=True)
    save_file(weights, path)
    if not (path.parent / "image_encoder").exists():
        save_image_encoder(path.parent / "image_encoder")
    return path


def _published(weights: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """The weights of diffusers' plus projection by the names that the published files have."""
    names = {
        "ln0.": "0.norm1.",
        "ln1.": "0.norm2.",
        "attn.to_q.": "0.to_q.",
        "attn.to_out.0.": "0.to_out.",
        "ff.0.": "1.0.",
        "ff.1.net.0.proj.": "1.1.",
        "ff.1.net.2.": "1.3.",
    }
    published = {}
    for key, value in weights.items():
        if not key.startswith("layers."):
            published[key] = value
            continue
        _, layer, rest = key.split(".", 2)
        if rest.startswith("attn.to_v"):
            continue
        if rest.startswith("attn.to_k"):
            both = [value, weights[key.replace("to_k", "to_v")]]
            published[f"layers.{layer}.0.to_kv.weight"] = torch.cat(both)
            continue
        ours = next(start for start in names if rest.startswith(start))
        published[f"layers.{layer}.{names[ours]}{rest.removeprefix(ours)}"] = value
    return published


def save_guides(folder: Path) -> dict[str, Any]:
    """Write a ControlNet, an IP-Adapter and a picture for the tiny model in ``folder``.

    Returns:
        The settings that an engine wants for them.
    """
    net = UNet2DConditionModel.from_pretrained(folder / "unet")
    save_controlnet(folder / "canny", net)
    save_ip_adapter(folder / "adapter" / "adapter.safetensors", net)
    save_picture(folder / "pictures" / "disc.png", shapes_frame())
    return {
        "controlnets": (f"canny={folder / 'canny'}",),
        "ip_adapter": str(folder / "adapter"),
        "prompt_pictures": str(folder / "pictures"),
    }


def save_picture(path: Path, frame: Frame) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(frame).save(path)
    return path


def shapes_frame(at: int = 0, width: int = 64, height: int = 64) -> Frame:
    """A bright disc on a dark ground; it moves with ``at``."""
    y, x = np.mgrid[0:height, 0:width]
    inside = (x - width / 2 - at) ** 2 + (y - height / 2) ** 2 < (min(width, height) / 4) ** 2
    frame = np.full((height, width, 3), 30, dtype=np.uint8)
    frame[inside] = (220, 180, 90)
    return frame
