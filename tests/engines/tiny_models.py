"""Models of the real classes and the real folder layout, small and with random weights."""

import atexit
import json
import shutil
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Literal

import torch
from diffusers import AutoencoderKL, AutoencoderTiny, UNet2DConditionModel
from diffusers.schedulers import EulerDiscreteScheduler, PNDMScheduler
from safetensors.torch import save_file
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection

Kind = Literal["sd15", "sd21", "sdxl"]
Vae = Literal["tiny", "full"]

GOLDEN = Path(__file__).parent / "golden"
PIXELS = 64
WIDTH = 32  # of the prompts' embeddings
WIDTH_2 = 24  # of those of SDXL's second text encoder
POOLED = 16  # of what SDXL is told of the prompt as a whole
WORDS = ("a", "cat", "dog", "red", "blue", "green", "city", "sea", "in", "the", "of", "painting")


def save_model(folder: Path, kind: Kind = "sd15", vae: Vae = "tiny", seed: int = 0) -> Path:
    """Write a model in diffusers format into ``folder`` and return it."""
    torch.manual_seed(seed)
    folder.mkdir(parents=True, exist_ok=True)
    save_tokenizer(folder / "tokenizer")
    text_encoder().save_pretrained(folder / "text_encoder")
    unet(kind).save_pretrained(folder / "unet")
    autoencoder(vae).save_pretrained(folder / "vae")
    scheduler(kind).save_pretrained(folder / "scheduler")
    index: dict[str, Any] = {
        "_class_name": "StableDiffusionPipeline",
        "_diffusers_version": "0.42.1",
        "feature_extractor": [None, None],
        "scheduler": ["diffusers", type(scheduler(kind)).__name__],
        "text_encoder": ["transformers", "CLIPTextModel"],
        "tokenizer": ["transformers", "CLIPTokenizer"],
        "unet": ["diffusers", "UNet2DConditionModel"],
        "vae": ["diffusers", "AutoencoderTiny" if vae == "tiny" else "AutoencoderKL"],
    }
    if kind == "sdxl":
        save_tokenizer(folder / "tokenizer_2")
        text_encoder(second=True).save_pretrained(folder / "text_encoder_2")
        index |= {
            "_class_name": "StableDiffusionXLPipeline",
            "force_zeros_for_empty_prompt": True,
            "text_encoder_2": ["transformers", "CLIPTextModelWithProjection"],
            "tokenizer_2": ["transformers", "CLIPTokenizer"],
        }
    else:
        index |= {"requires_safety_checker": False, "safety_checker": [None, None]}
    (folder / "model_index.json").write_text(json.dumps(index, indent=2), encoding="utf-8")
    return folder


def save_lightning(folder: Path) -> Path:
    """Write a folder as SDXL-Lightning's: weights for 1, 2 and 4 steps."""
    folder.mkdir(parents=True, exist_ok=True)
    for steps in (1, 2, 4):
        torch.manual_seed(steps)
        name = f"sdxl_lightning_{steps}step_unet{'_x0' if steps == 1 else ''}.safetensors"
        save_file(unet("sdxl").state_dict(), folder / name)
    return folder


@cache
def pocket_folder() -> Path:
    """A small folder in the layout of the pocket model, graphs included; one for all tests.

    Its U-Net is the pocket model's in small: cells of 8 pixels with their phases, three levels,
    the prompt through the time embedding. To export its graphs takes long, so they lie in
    ``golden/``; they refer to places in the files of weights, which are always the same.
    ``python -m tests.engines.make_golden`` makes them anew.
    """
    place = TemporaryDirectory(prefix="tiny_pocket", ignore_cleanup_errors=True)
    atexit.register(place.cleanup)
    folder = save_pocket(Path(place.name))
    for part in ("unet", "text_encoder"):
        shutil.copyfile(GOLDEN / f"{part}.onnx", folder / part / "model.onnx")
    return folder


def save_pocket(folder: Path, levels: tuple[int, ...] = (16, 24, 32), seed: int = 0) -> Path:
    """Write a model in the layout of the pocket model, without graphs, into ``folder``."""
    torch.manual_seed(seed)
    save_tokenizer(folder / "tokenizer")
    model = UNet2DConditionModel(
        sample_size=32,
        in_channels=194,
        out_channels=194,
        block_out_channels=levels,
        down_block_types=("DownBlock2D",) * len(levels),
        mid_block_type="UNetMidBlock2D",
        up_block_types=("UpBlock2D",) * len(levels),
        layers_per_block=1,
        cross_attention_dim=WIDTH,
        attention_head_dim=8,
        norm_num_groups=8,
        resnet_time_scale_shift="scale_shift",
        addition_embed_type="text",
        addition_embed_type_num_heads=4,
    )
    with torch.no_grad():
        model.conv_out.weight.mul_(2)  # else all pictures are nearly grey
    model.half().save_pretrained(folder / "unet")
    text_encoder().half().save_pretrained(folder / "text_encoder")
    cells = {"_class_name": "PixelAutoencoder", "downscale": 8, "phases": True, "phase_scale": 2.0}
    _save_json(folder / "vae" / "config.json", cells)
    betas = {"beta_start": 1e-5, "beta_end": 1.6e-3, "beta_schedule": "scaled_linear"}
    schedule = {"_class_name": "DDPMScheduler", "num_train_timesteps": 1000, **betas}
    _save_json(
        folder / "scheduler" / "scheduler_config.json", {**schedule, "prediction_type": "sample"}
    )
    index = {
        "_class_name": "DiffusionPipeline",
        "unet": ["diffusers", "UNet2DConditionModel"],
        "text_encoder": ["transformers", "CLIPTextModel"],
        "tokenizer": ["transformers", "CLIPTokenizer"],
        "scheduler": ["diffusers", "DDPMScheduler"],
        "vae": ["dreamrelay.engines.pixel_autoencoder", "PixelAutoencoder"],
    }
    _save_json(folder / "model_index.json", index)
    return folder


def _save_json(path: Path, value: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(value, indent=2), encoding="utf-8")


def unet(kind: Kind) -> Any:
    """A U-Net with the parts of SD 1.5, or those in which SD 2.1 (SD-Turbo) and SDXL differ."""
    of_kind: dict[Kind, dict[str, Any]] = {
        "sd15": {"attention_head_dim": 4},
        "sd21": {"use_linear_projection": True, "attention_head_dim": [2, 4]},
        "sdxl": {
            "use_linear_projection": True,
            "attention_head_dim": [2, 4],
            "transformer_layers_per_block": [1, 2],
            "addition_embed_type": "text_time",
            "addition_time_embed_dim": 8,
            "projection_class_embeddings_input_dim": POOLED + 6 * 8,
        },
    }
    return UNet2DConditionModel(
        sample_size=PIXELS // 8,
        block_out_channels=(16, 32),
        layers_per_block=1,
        norm_num_groups=8,
        down_block_types=("CrossAttnDownBlock2D", "DownBlock2D"),
        up_block_types=("UpBlock2D", "CrossAttnUpBlock2D"),
        cross_attention_dim=WIDTH + WIDTH_2 if kind == "sdxl" else WIDTH,
        **of_kind[kind],
    )


def autoencoder(kind: Vae) -> Any:
    """An autoencoder whose pictures are neither black nor white, though its weights are random."""
    vae = _autoencoder(kind)
    with torch.inference_mode():
        noise = torch.randn(1, 4, PIXELS // 8, PIXELS // 8)
        pictures = vae.decode(noise).sample
        last = vae.decoder.layers[-1] if kind == "tiny" else vae.decoder.conv_out
        gain = 0.5 / float(pictures.std())
        mean, middle = pictures.mean((0, 2, 3)), 0.0
        if kind == "tiny":  # it makes 0..1 inside and stretches that to -1..1
            mean, middle = (mean + 1) / 2, 0.5
        last.weight.mul_(gain)
        last.bias.sub_(mean).mul_(gain).add_(middle)
    return vae


def _autoencoder(kind: Vae) -> Any:
    if kind == "full":
        return AutoencoderKL(
            block_out_channels=(8, 8, 16, 16),
            down_block_types=("DownEncoderBlock2D",) * 4,
            up_block_types=("UpDecoderBlock2D",) * 4,
            latent_channels=4,
            norm_num_groups=4,
            sample_size=PIXELS,
        )
    return AutoencoderTiny(
        encoder_block_out_channels=(8, 8, 8, 8),
        decoder_block_out_channels=(8, 8, 8, 8),
        num_encoder_blocks=(1, 1, 1, 1),
        num_decoder_blocks=(1, 1, 1, 1),
    )


def scheduler(kind: Kind) -> Any:
    betas = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear"}
    if kind == "sdxl":
        return EulerDiscreteScheduler(timestep_spacing="leading", steps_offset=1, **betas)
    if kind == "sd15":
        return PNDMScheduler(steps_offset=1, skip_prk_steps=True, **betas)
    return EulerDiscreteScheduler(timestep_spacing="trailing", steps_offset=1, **betas)


def text_encoder(second: bool = False) -> Any:
    """CLIP's text encoder, or the second one of SDXL."""
    width = WIDTH_2 if second else WIDTH
    config = CLIPTextConfig(
        vocab_size=len(_vocabulary()[0]),
        hidden_size=width,
        intermediate_size=2 * width,
        projection_dim=POOLED,
        num_hidden_layers=2,
        num_attention_heads=4,
        max_position_embeddings=77,
        bos_token_id=len(_vocabulary()[0]) - 2,
        eos_token_id=len(_vocabulary()[0]) - 1,
    )
    return CLIPTextModelWithProjection(config) if second else CLIPTextModel(config)


def save_tokenizer(folder: Path) -> None:
    """CLIP's byte-pair tokenizer over all bytes and a few words, as files all versions read."""
    folder.mkdir(parents=True, exist_ok=True)
    vocabulary, merges = _vocabulary()
    (folder / "vocab.json").write_text(json.dumps(vocabulary), encoding="utf-8")
    lines = ["#version: 0.2", *(" ".join(pair) for pair in merges)]
    (folder / "merges.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")
    config = {
        "tokenizer_class": "CLIPTokenizer",
        "model_max_length": 77,
        "bos_token": "<|startoftext|>",
        "eos_token": "<|endoftext|>",
        "unk_token": "<|endoftext|>",
        "pad_token": "<|endoftext|>",
    }
    (folder / "tokenizer_config.json").write_text(json.dumps(config), encoding="utf-8")


def save_lora(path: Path, model: Any, seed: int = 0, scale: float = 1.0) -> Path:
    """Write a LoRA in diffusers' layout over the attention of a tiny U-Net."""
    weights: dict[str, torch.Tensor] = {}
    for name, (down, up) in lora_weights(model, seed, scale).items():
        weights[f"unet.{name}.lora_A.weight"] = down
        weights[f"unet.{name}.lora_B.weight"] = up
    path.parent.mkdir(parents=True, exist_ok=True)
    save_file(weights, path)
    return path


def save_kohya_lora(path: Path, parts: dict[str, Any], seed: int = 0, scale: float = 1.0) -> Path:
    """Write the same LoRA as kohya's scripts do.

    Args:
        parts: ``unet`` and, if the LoRA is to be over them too, ``text_encoder`` and, of SDXL,
            ``text_encoder_2``. SDXL's U-Net goes by the names of its first publication.
    """
    of_sdxl = parts["unet"].config.addition_embed_type == "text_time"
    prefixes = {"unet": "lora_unet_", "text_encoder_2": "lora_te2_text_model_"}
    prefixes["text_encoder"] = "lora_te1_text_model_" if of_sdxl else "lora_te_text_model_"
    weights: dict[str, torch.Tensor] = {}
    for part, module in parts.items():
        for name, (down, up) in lora_weights(module, seed, scale).items():
            name = _published(name) if of_sdxl and part == "unet" else name
            key = prefixes[part] + name.removeprefix("text_model.").replace(".", "_")
            weights[f"{key}.lora_down.weight"] = down
            weights[f"{key}.lora_up.weight"] = up
            weights[f"{key}.alpha"] = torch.tensor(float(len(down)))
    path.parent.mkdir(parents=True, exist_ok=True)
    save_file(weights, path)
    return path


def lora_weights(model: Any, seed: int, scale: float) -> dict[str, tuple[Any, Any]]:
    """The two matrices of a LoRA over each attention layer of a module."""
    torch.manual_seed(seed)
    return {
        name: (
            torch.randn(2, module.weight.shape[1]) * scale,
            torch.randn(module.weight.shape[0], 2) * scale,
        )
        for name, module in model.named_modules()
        if name.endswith(("to_q", "to_v", "q_proj", "v_proj", "out_proj"))
    }


def _published(name: str) -> str:
    """Where a layer of attention stands in the U-Net as SDXL was published; one layer per block."""
    kind, _, rest = name.partition(".")
    if kind == "mid_block":
        return "middle_block.1." + rest.removeprefix("attentions.0.")
    block, _, at, rest = rest.split(".", 3)
    if kind == "down_blocks":
        return f"input_blocks.{2 * int(block) + int(at) + 1}.1.{rest}"
    return f"output_blocks.{2 * int(block) + int(at)}.1.{rest}"


def _vocabulary() -> tuple[dict[str, int], list[tuple[str, str]]]:
    letters = _byte_letters()
    tokens = [*letters, *(letter + "</w>" for letter in letters)]
    merges: list[tuple[str, str]] = []
    for word in WORDS:
        parts = [*word[:-1], word[-1] + "</w>"]
        while len(parts) > 1:
            pair = (parts[0], parts[1])
            if pair not in merges:
                merges.append(pair)
                tokens.append("".join(pair))
            parts[:2] = ["".join(pair)]
    tokens += ["<|startoftext|>", "<|endoftext|>"]
    return {token: at for at, token in enumerate(dict.fromkeys(tokens))}, merges


def _byte_letters() -> list[str]:
    """The printable letter that stands for each byte in such vocabularies."""
    plain = [*range(33, 127), *range(161, 173), *range(174, 256)]
    others = [byte for byte in range(256) if byte not in plain]
    return [chr(byte) for byte in plain] + [chr(256 + at) for at in range(len(others))]
