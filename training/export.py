"""Writes the model folder: weights, graphs, words, checksums, and its card with figures."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from copy import deepcopy
from pathlib import Path
from typing import Any

from training import card
from training.model import AUTOENCODER, HALF_SHARE, SCHEDULE, PocketParts, write_tokenizer
from training.onnx_export import write_onnx
from training.prompts import vocabulary

SIDE = 256
DEFAULTS = {
    "prompt": "neon glow, blue and pink",
    "strength": 0.5,
    "num_inference_steps": 1,
    "guidance_scale": 1.0,
    "cfg_type": "none",
    "width": SIDE,
    "height": SIDE,
}


def export(parts: PocketParts, out: Path, figures: dict[str, Any]) -> None:
    """Writes the folder beside `out` first, then moves file by file.

    `figures` go to the card: those of the run (steps, minutes, loss, cores, device) and, where they
    were taken, those of `training.measure`.
    """
    fresh = out.with_name(out.name + ".new")
    shutil.rmtree(fresh, ignore_errors=True)
    fresh.mkdir(parents=True)
    _write(parts, fresh)
    size = sum(path.stat().st_size for path in fresh.rglob("*") if path.is_file())
    text = card.text({**figures, "megabytes": round(size / 1e6, 1)})
    (fresh / "README.md").write_text(text, encoding="utf-8")
    files = [path for path in fresh.rglob("*") if path.is_file()]
    names = sorted(path.relative_to(fresh).as_posix() for path in files)
    sums = [f"{hashlib.sha256((fresh / n).read_bytes()).hexdigest()}  {n}" for n in names]
    (fresh / "SHA256SUMS").write_text("\n".join(sums) + "\n", encoding="utf-8")
    for name in [*names, "SHA256SUMS"]:
        (out / name).parent.mkdir(parents=True, exist_ok=True)
        (fresh / name).chmod(0o644)  # safetensors writes for the owner only
        os.replace(fresh / name, out / name)
    shutil.rmtree(fresh)


def _write(parts: PocketParts, folder: Path) -> None:
    # Copies: half precision must not enter the training.
    unet, encoder = deepcopy(parts.unet).cpu().half(), deepcopy(parts.text_encoder).cpu().half()
    unet.save_pretrained(str(folder / "unet"))
    encoder.save_pretrained(str(folder / "text_encoder"))
    config = folder / "text_encoder" / "config.json"
    settings = json.loads(config.read_text(encoding="utf-8"))
    settings["dtype"] = "float32"  # weights are stored as float16, computed as float32
    _json(config, settings)
    write_tokenizer(folder / "tokenizer")
    noising = {"_class_name": "DDPMScheduler", **SCHEDULE, "half_share_timestep": HALF_SHARE}
    _json(folder / "scheduler" / "scheduler_config.json", noising)
    _json(folder / "vae" / "config.json", AUTOENCODER)
    index = {
        "_class_name": "DiffusionPipeline",
        "unet": ["diffusers", "UNet2DConditionModel"],
        "text_encoder": ["transformers", "CLIPTextModel"],
        "tokenizer": ["transformers", "CLIPTokenizer"],
        "scheduler": ["diffusers", "DDPMScheduler"],
        "vae": ["dreamrelay.engines.pixel_autoencoder", "PixelAutoencoder"],
    }
    _json(folder / "model_index.json", index)
    _json(folder / "vocabulary.json", vocabulary())
    _json(folder / "defaults.json", DEFAULTS)
    write_onnx(folder)


def _json(path: Path, value: object) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(value, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
