"""A model in one ``.safetensors`` file, as people trade them, beside the settings it lacks.

Such a file holds weights only. Settings and tokenizer (some MB) come from a folder in diffusers
format without weights: one of the file's name or ``config`` beside the file, or from the hub, where
the model that it was made from has them.
"""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import diffusers
import torch

from dreamrelay.engines import model_hub
from dreamrelay.engines.components import told
from dreamrelay.engines.model_folder import check_safetensors
from dreamrelay.engines.ports import EngineSettings, Report
from dreamrelay.errors import EngineError

_KINDS = (
    ("conditioner.embedders.1.", "stabilityai/stable-diffusion-xl-base-1.0"),
    ("cond_stage_model.model.", "stabilityai/stable-diffusion-2-1"),
    ("cond_stage_model.transformer.", "stable-diffusion-v1-5/stable-diffusion-v1-5"),
)
"""How the text encoder's weights are called, and the model on the hub whose settings fit."""


@dataclass(frozen=True)
class SingleFile:
    """A file of weights, and the folder with its settings."""

    path: Path
    folder: Path
    base: str

    def load(self, dtype: torch.dtype) -> Any:
        """The pipeline of diffusers over the file: its parts are what we want.

        Raises:
            EngineError: it cannot be read, or does not fit its settings.
        """
        of_sdxl = self.base == _KINDS[0][1]
        kind = diffusers.StableDiffusionPipeline
        if of_sdxl:
            kind = diffusers.StableDiffusionXLPipeline
        options: dict[str, Any] = {} if of_sdxl else {"safety_checker": None}
        return told(
            lambda: kind.from_single_file(
                str(self.path),
                config=str(self.folder),
                local_files_only=True,
                torch_dtype=dtype,
                feature_extractor=None,
                **options,
            ),
            self.path,
        )


def open_single_file(path: Path, settings: EngineSettings, report: Report) -> SingleFile:
    """Find out what a file is, and where its settings are.

    Raises:
        EngineError: it is broken, of an unknown kind, or its settings cannot be had.
    """
    if path.suffix != ".safetensors":
        raise EngineError(f"{path} is no model: expected a .safetensors file or a folder")
    check_safetensors(path)
    names = _names(path)
    base = next((base for prefix, base in _KINDS if any(n.startswith(prefix) for n in names)), None)
    if base is None or not any(name.startswith("model.diffusion_model.") for name in names):
        raise EngineError(
            f"{path} is not a whole Stable Diffusion 1.x, 2.x or XL model: expected weights of "
            "U-Net, autoencoder and text encoder in it; a LoRA goes with --lora"
        )
    for beside in (path.with_suffix(""), path.parent / "config"):
        if (beside / "model_index.json").is_file():
            return SingleFile(path, beside, base)
    try:
        folder = model_hub.model_folder(
            base, offline=settings.offline, half=False, report=report, weights=False
        )
    except EngineError as error:
        raise EngineError(
            f"{path.name} has no settings beside it: expected a folder {path.stem} with "
            f"model_index.json and the .json and .txt files of {base}, which could not be "
            f"downloaded either ({error})"
        ) from error
    return SingleFile(path, folder, base)


def _names(path: Path) -> list[str]:
    """Of the weights in a file."""
    with path.open("rb") as file:
        header: dict[str, Any] = json.loads(file.read(int.from_bytes(file.read(8), "little")))
    return list(header)
