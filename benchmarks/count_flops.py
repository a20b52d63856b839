"""Operations of a network, counted over its shapes: nothing is computed."""

from collections.abc import Mapping
from typing import Any

import torch
from diffusers import UNet2DConditionModel
from torch.utils.flop_counter import FlopCounterMode


def unet_flops(config: Mapping[str, Any], side: int, words: int = 77) -> int:
    """Multiplications and additions of one step for one picture.

    Args:
        config: of diffusers' ``UNet2DConditionModel``.
        side: of the latents.
    """
    with torch.device("meta"), torch.inference_mode(), FlopCounterMode(display=False) as counter:
        unet: Any = UNet2DConditionModel.from_config(dict(config))
        latents = torch.zeros(1, config["in_channels"], side, side)
        told = torch.zeros(1, words, config["cross_attention_dim"])
        unet(latents, torch.zeros(1), told)
    return int(counter.get_total_flops())
