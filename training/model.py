"""The parts of the pocket model before it has learnt anything, and one step of denoising."""

from __future__ import annotations

import json
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np
import torch
from diffusers import DDPMScheduler, UNet2DConditionModel
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

from training.grain import CELL, LATENTS, PIXELS, TEXTURE, seeded_noise
from training.prompts import words

WIDTH = 128  # of a token
LENGTH = 77  # tokens, as in every CLIP of Stable Diffusion
PHASE = 2.0  # how loud a cell says whether its row and its column are even
CHANNELS = (112, 128, 192)
# Pixels need a gentler schedule than latents: at strength 0.5 the noise is 0.18 of the range -1..1,
# at strength 1 it is 0.45.
SCHEDULE = {
    "num_train_timesteps": 1000,
    "beta_start": 1e-6,
    "beta_end": 6.5e-4,
    "beta_schedule": "scaled_linear",
    "prediction_type": "sample",
    "clip_sample": False,
    "thresholding": False,
    "timestep_spacing": "trailing",
    "steps_offset": 0,
}
# Where half of what an engine lets out is what the model saw: strength 0 is the input itself.
HALF_SHARE = 50
AUTOENCODER = {
    "_class_name": "PixelAutoencoder",
    "scaling_factor": 1.0,
    "downscale": CELL,
    "phases": True,
    "phase_scale": PHASE,
    "texture_channels": TEXTURE,
}


@dataclass
class PocketParts:
    """What is trained, and what it is trained with."""

    unet: UNet2DConditionModel
    text_encoder: CLIPTextModel
    tokenizer: CLIPTokenizer
    scheduler: DDPMScheduler


def write_tokenizer(folder: Path) -> None:
    """vocab.json, merges.txt, tokenizer_config.json: known words are one token, others bytes."""
    folder.mkdir(parents=True, exist_ok=True)
    visible = [*range(33, 127), *range(161, 173), *range(174, 256)]
    symbols = {byte: chr(byte) for byte in visible}
    for index, byte in enumerate(byte for byte in range(256) if byte not in symbols):
        symbols[byte] = chr(256 + index)
    letters = [symbols[byte] for byte in range(256)]
    vocabulary = [*letters, *(letter + "</w>" for letter in letters)]
    merges: dict[tuple[str, str], int] = {}
    for word in words():
        tokens = _apply([*word[:-1], word[-1] + "</w>"], merges)
        # Later merges rank lower, so words finished before stay as they are.
        while len(tokens) > 1:
            pair = (tokens[0], tokens[1])
            merges.setdefault(pair, len(merges))
            vocabulary.append("".join(pair))
            tokens = _apply(["".join(pair), *tokens[2:]], merges)
    vocabulary = list(dict.fromkeys(vocabulary))
    vocabulary += ["<|startoftext|>", "<|endoftext|>"]
    indices = {token: index for index, token in enumerate(vocabulary)}
    (folder / "vocab.json").write_text(json.dumps(indices, ensure_ascii=False), encoding="utf-8")
    lines = ["#version: 0.2", *(" ".join(pair) for pair in merges)]
    (folder / "merges.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")
    config = {
        "tokenizer_class": "CLIPTokenizer",
        "model_max_length": LENGTH,
        "bos_token": "<|startoftext|>",
        "eos_token": "<|endoftext|>",
        "unk_token": "<|endoftext|>",
        "pad_token": "<|endoftext|>",
        "errors": "replace",
        "do_lower_case": True,
    }
    (folder / "tokenizer_config.json").write_text(json.dumps(config, indent=2), encoding="utf-8")


def _apply(tokens: list[str], merges: dict[tuple[str, str], int]) -> list[str]:
    """Byte pair encoding of one word under the merges so far."""
    while len(tokens) > 1:
        ranks = [merges.get(pair, len(merges)) for pair in pairwise(tokens)]
        best = min(ranks)
        if best == len(merges):
            break
        at = ranks.index(best)
        tokens = [*tokens[:at], tokens[at] + tokens[at + 1], *tokens[at + 2 :]]
    return tokens


def build(tokenizer_folder: Path, seed: int) -> PocketParts:
    """Untrained parts with seeded weights."""
    torch.manual_seed(seed)
    write_tokenizer(tokenizer_folder)
    tokenizer = CLIPTokenizer.from_pretrained(str(tokenizer_folder), local_files_only=True)
    end = tokenizer.eos_token_id
    text_encoder = CLIPTextModel(
        CLIPTextConfig(
            vocab_size=len(tokenizer),
            hidden_size=WIDTH,
            intermediate_size=WIDTH * 4,
            num_hidden_layers=2,
            num_attention_heads=4,
            max_position_embeddings=LENGTH,
            projection_dim=WIDTH,
            bos_token_id=tokenizer.bos_token_id,
            eos_token_id=end,
            pad_token_id=end,
        )
    )
    levels = len(CHANNELS)
    unet = UNet2DConditionModel(
        sample_size=32,
        in_channels=LATENTS,
        out_channels=LATENTS,
        block_out_channels=CHANNELS,
        # No attention: on a processor it costs more than it gives. The prompt reaches every block
        # through the time embedding, for a look is the same everywhere in a picture.
        down_block_types=("DownBlock2D",) * levels,
        mid_block_type="UNetMidBlock2D",
        up_block_types=("UpBlock2D",) * levels,
        layers_per_block=1,
        cross_attention_dim=WIDTH,
        attention_head_dim=8,
        norm_num_groups=8,
        resnet_time_scale_shift="scale_shift",
        addition_embed_type="text",
        addition_embed_type_num_heads=4,
    )
    # The last block adds what its convolutions say to a copy of what came in, and the prompt acts
    # on the convolutions only. Without the copy every detail passes the prompt's gate or does not:
    # a style can leave out the fine lines of a face as easily as draw others.
    copy = unet.up_blocks[-1].resnets[-1].conv_shortcut
    for parameter in copy.parameters():
        nn.init.zeros_(parameter).requires_grad_(False)
    return PocketParts(unet, text_encoder, tokenizer, DDPMScheduler(**SCHEDULE))


def tokens(tokenizer: CLIPTokenizer, texts: list[str]) -> Tensor:
    """Token ids, N x LENGTH."""
    batch = tokenizer(
        texts, padding="max_length", truncation=True, max_length=LENGTH, return_tensors="pt"
    )
    return batch.input_ids


def to_latents(pictures: NDArray[np.float32]) -> Tensor:
    """N x H x W x 3 in 0..1 to N x 206 x H/8 x W/8, the pixels in -1..1."""
    count, height, width = pictures.shape[0], pictures.shape[1] // CELL, pictures.shape[2] // CELL
    latents = np.empty((count, LATENTS, height, width), np.float32)
    cells = pictures.reshape(count, height, CELL, width, CELL, 3).transpose(0, 5, 2, 4, 1, 3)
    pixels = latents[:, :PIXELS].reshape(count, 3, CELL, CELL, height, width)
    np.multiply(cells, 2, out=pixels)
    pixels -= 1
    # Whether the row and the column of a cell are even (+) or odd (-).
    latents[:, PIXELS] = np.where(np.arange(height) % 2, -PHASE, PHASE)[:, None]
    latents[:, PIXELS + 1] = np.where(np.arange(width) % 2, -PHASE, PHASE)
    latents[:, PIXELS + 2 :] = 0
    return torch.from_numpy(latents)


def to_picture(latents: Tensor) -> NDArray[np.float32]:
    """206 x h x w to 8h x 8w x 3 in 0..1."""
    planes = functional.pixel_shuffle(latents.float()[None, :PIXELS], CELL)[0]
    clipped = (planes.clamp(-1, 1) + 1) / 2
    return clipped.permute(1, 2, 0).numpy()  # type: ignore[no-any-return]


def paint(
    parts: PocketParts, picture: NDArray[np.float32], prompt: str, strength: float, seed: int
) -> NDArray[np.float32]:
    """One frame through the model as the engine runs it."""
    height, width = (side // CELL for side in picture.shape[:2])
    noise = torch.from_numpy(seeded_noise(seed, height, width))
    step = int(np.clip(round(999 * strength), 1, 999))
    keep = float(parts.scheduler.alphas_cumprod[step])
    latents = to_latents(picture[None])[0] * keep**0.5 + noise * (1 - keep) ** 0.5
    with torch.no_grad():
        context = parts.text_encoder(tokens(parts.tokenizer, [prompt])).last_hidden_state
        out = parts.unet(latents[None], torch.tensor([step]), context).sample[0]
    share = 1 / (1 + (step / HALF_SHARE) ** 2)
    return to_picture(share * latents + (1 - share) * out)
