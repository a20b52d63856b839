"""Writes the model folder, its card and the sample sheet, and measures what the model obeys."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from copy import deepcopy
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from training import card
from training.model import SCHEDULE, PocketParts, grain_of, paint, seeded_noise, write_tokenizer
from training.pictures import HELD_OUT, colour_bars, read, square
from training.prompts import COLOUR_WORDS, MOOD_WORDS, STYLE_WORDS, vocabulary
from training.stylise import COLOURS, MOODS, STYLES, Look, stylise

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
SHEET_PROMPTS = (
    "",
    "pencil sketch",
    "charcoal",
    "ink drawing",
    "watercolor",
    "oil painting",
    "comic book",
    "stained glass",
    "pixel art",
    "mosaic",
    "pointillism",
    "halftone",
    "engraving",
    "blueprint",
    "thermal",
    "glitch",
    "neon",
    "blue neon",
    "a red and gold oil painting, at night",
    "portrait in purple ink",
    "teal watercolor",
    "green comic book",
    "black and white photo",
    "sepia engraving",
    "winter",
    "sunset",
    "galaxy, neon",
    "vaporwave glitch",
)


def export(parts: PocketParts, out: Path, sheet: Path, figures: dict[str, Any]) -> dict[str, Any]:
    """Writes everything beside `out` first, then moves file by file; returns the figures."""
    figures = {**figures, **measure(parts)}
    fresh = out.with_name(out.name + ".new")
    shutil.rmtree(fresh, ignore_errors=True)
    fresh.mkdir(parents=True)
    _write(parts, fresh)
    figures["megabytes"] = round(
        sum(path.stat().st_size for path in fresh.rglob("*") if path.is_file()) / 1e6, 1
    )
    (fresh / "README.md").write_text(card.text(figures), encoding="utf-8")
    names = sorted(str(path.relative_to(fresh)) for path in fresh.rglob("*") if path.is_file())
    sums = [f"{hashlib.sha256((fresh / n).read_bytes()).hexdigest()}  {n}" for n in names]
    (fresh / "SHA256SUMS").write_text("\n".join(sums) + "\n", encoding="utf-8")
    for name in [*names, "SHA256SUMS"]:
        (out / name).parent.mkdir(parents=True, exist_ok=True)
        (fresh / name).chmod(0o644)  # safetensors writes for the owner only
        os.replace(fresh / name, out / name)
    shutil.rmtree(fresh)
    sheet.parent.mkdir(parents=True, exist_ok=True)
    draw_sheet(parts, sheet)
    return figures


def _write(parts: PocketParts, folder: Path) -> None:
    # Copies: half precision must not enter the training.
    deepcopy(parts.unet).half().save_pretrained(str(folder / "unet"))
    deepcopy(parts.text_encoder).half().save_pretrained(str(folder / "text_encoder"))
    config = folder / "text_encoder" / "config.json"
    settings = json.loads(config.read_text(encoding="utf-8"))
    settings["dtype"] = "float32"  # weights are stored as float16, computed as float32
    _json(config, settings)
    write_tokenizer(folder / "tokenizer")
    _json(
        folder / "scheduler" / "scheduler_config.json", {"_class_name": "DDPMScheduler", **SCHEDULE}
    )
    autoencoder = {"_class_name": "PixelAutoencoder", "scaling_factor": 1.0, "downscale": 4}
    _json(folder / "vae" / "config.json", autoencoder)
    index = {
        "_class_name": "DiffusionPipeline",
        "unet": ["diffusers", "UNet2DConditionModel"],
        "text_encoder": ["transformers", "CLIPTextModel"],
        "tokenizer": ["transformers", "CLIPTokenizer"],
        "scheduler": ["diffusers", "DDPMScheduler"],
        "vae": ["dreamrelay.engines.pocket", "PixelAutoencoder"],
    }
    _json(folder / "model_index.json", index)
    _json(folder / "vocabulary.json", vocabulary())
    _json(folder / "defaults.json", DEFAULTS)


def _json(path: Path, value: object) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(value, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def measure(parts: PocketParts) -> dict[str, Any]:
    """Of held-out pictures: is the answer nearest to the stylisation that was asked for?"""
    pictures = [square(read(photograph), SIDE) for photograph in HELD_OUT]
    grain = grain_of(seeded_noise(0, SIDE // 4))
    figures: dict[str, Any] = {}
    axes = {
        "styles": [(STYLE_WORDS[s][0], Look(s)) for s in STYLES],
        "colours": [(COLOUR_WORDS[c][0], Look("photo", (c,))) for c in COLOURS],
        "moods": [(MOOD_WORDS[m][0], Look("photo", (), (m,))) for m in MOODS],
    }
    for axis, wishes in axes.items():
        right, distance, missed = 0, [], []
        for picture in pictures:
            references = [stylise(picture, grain, look) for _, look in wishes]
            for index, (prompt, _) in enumerate(wishes):
                out = paint(parts, picture, prompt, 0.5, 0)
                gaps = [float(np.abs(out - reference).mean()) for reference in references]
                right += int(np.argmin(gaps) == index)
                distance.append(gaps[index])
                if np.argmin(gaps) != index:
                    missed.append(f"{prompt} as {wishes[int(np.argmin(gaps))][0]}")
        count = len(pictures) * len(wishes)
        figures[axis] = f"{right} of {count}"
        figures[f"{axis}_error"] = round(float(np.mean(distance)), 4)
        figures[f"{axis}_missed"] = missed
    plain = [float(np.abs(paint(parts, p, "oil", 0.0, 0) - p).mean()) for p in pictures]
    figures["identity_error"] = round(float(np.mean(plain)), 4)
    return figures


def draw_sheet(parts: PocketParts, path: Path) -> None:
    """Held-out pictures (and no picture) by prompts, one JPEG below 400 kB."""
    astronaut, cat = (square(read(photograph), SIDE) for photograph in HELD_OUT)
    inputs: list[NDArray[np.float32] | None] = [astronaut, cat, colour_bars(SIDE), None]
    columns = 7
    groups = [SHEET_PROMPTS[i : i + columns] for i in range(0, len(SHEET_PROMPTS), columns)]
    size, label = 160, 20
    bands = []
    for group in groups:
        strip = np.full((label, size * columns, 3), 24, np.uint8)
        for column, prompt in enumerate(group):
            at = (column * size + 4, 14)
            font = cv2.FONT_HERSHEY_SIMPLEX
            cv2.putText(strip, prompt or "(no prompt)", at, font, 0.38, (230, 230, 230), 1)
        bands.append(strip)
        for picture in inputs:
            # The first picture whole, the others pixel by pixel: texture does not survive scaling.
            whole = picture is astronaut
            row = [_thumb(paint(parts, picture, prompt, 0.5, 0), size, whole) for prompt in group]
            bands.append(np.hstack(row))
    image = np.vstack(bands)
    for quality in range(88, 25, -6):
        ok, data = cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, quality])
        if ok and len(data) < 395_000:
            path.write_bytes(data.tobytes())
            return


def _thumb(picture: NDArray[np.float32], size: int, whole: bool) -> NDArray[np.uint8]:
    at = (picture.shape[0] - size) // 2 // 4 * 4
    small = picture[at + 16 : at + 16 + size, at : at + size]
    if whole:
        small = np.asarray(cv2.resize(picture, (size, size), interpolation=cv2.INTER_AREA))
    return np.asarray(np.clip(small, 0, 1) * 255, np.uint8)[:, :, ::-1]
