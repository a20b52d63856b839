"""One component of a model's folder (U-Net, autoencoder, text encoder), read with care.

Weights are read from safetensors only; a pickle can run code while it is read, so those are
refused. What the libraries raise becomes one line that says what to do.
"""

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from diffusers.utils import logging as diffusers_logging
from safetensors import SafetensorError
from transformers.utils import logging as transformers_logging

from dreamrelay.engines.batch_engine import out_of_memory
from dreamrelay.engines.devices import is_out_of_memory
from dreamrelay.engines.model_folder import check_safetensors
from dreamrelay.errors import EngineError

PICKLES = (".bin", ".ckpt", ".pt", ".pth")


def quieten() -> None:
    """Keep the libraries from drawing bars and listing unused weights: we report, and check."""
    # What diffusers logs as an error it raises, too; of a LoRA that does not fit, all its layers.
    diffusers_logging.set_verbosity(logging.CRITICAL)
    transformers_logging.set_verbosity_error()
    for library in (diffusers_logging, transformers_logging):
        library.disable_progress_bar()


def load_component(
    folder: Path,
    part: str,
    load: Callable[..., Any],
    dtype: torch.dtype | None = None,
    *,
    spare: tuple[str, ...] = (),
) -> Any:
    """Load one component of a folder ("." for a folder that is one component itself).

    Args:
        load: ``from_pretrained`` of its class.
        dtype: precision of the weights; None for a component that has none (a tokenizer).
        spare: what the names of weights begin with that may be missing, for they are never used.

    Raises:
        EngineError: it is missing, pickled, broken or not whole; says the next step.
    """
    place = folder / part
    if not place.is_dir():
        raise EngineError(f"{folder} is not complete: expected the folder {part} in it")
    options: dict[str, Any] = {"local_files_only": True}
    if dtype is None:
        return told(lambda: load(str(place), **options), place)
    options["variant"] = _checked_variant(place, half=dtype is not torch.float32)
    # Scope brings diffusers of its own, which may know the older name only.
    precision = "torch_dtype" if load.__module__.startswith("diffusers") else "dtype"
    options |= {"use_safetensors": True, precision: dtype, "output_loading_info": True}
    module, info = told(lambda: load(str(place), **options), place)
    missing = sorted(key for key in info["missing_keys"] if not key.startswith(spare))
    if missing:
        raise EngineError(
            f"{place} lacks {len(missing)} of its weights ({missing[0]}, ...): "
            "download the model again"
        )
    return module


def _checked_variant(place: Path, half: bool) -> str | None:
    """Look into the headers of a component's weights; return the variant to be loaded."""
    files = sorted(place.glob("*.safetensors"))
    if not files:
        pickles = [path.name for path in sorted(place.glob("*")) if path.suffix in PICKLES]
        if pickles:
            raise EngineError(pickled(f"{place / pickles[0]}"))
        raise EngineError(
            f"{place} has no weights: expected diffusion_pytorch_model.safetensors or "
            "model.safetensors; download the model again"
        )
    halves = [path for path in files if ".fp16." in path.name]
    full = [path for path in files if ".fp16." not in path.name and ".non_ema." not in path.name]
    chosen = halves if halves and (half or not full) else full
    for path in chosen:
        check_safetensors(path)
    return "fp16" if chosen is halves else None


def told(work: Callable[[], Any], what: object) -> Any:
    """Do a piece of loading; what it raises becomes one line."""
    try:
        return work()
    except (OSError, ValueError, KeyError, TypeError, RuntimeError, SafetensorError) as error:
        if is_out_of_memory(error):
            raise EngineError(out_of_memory(f"loading {what}")) from error
        lines = " ".join(str(error).split())
        raise EngineError(
            f"{what} cannot be loaded ({lines[:300]}): download the model again, or choose another"
        ) from error


def pickled(what: str) -> str:
    """What is said of a file that is refused."""
    return (
        f"{what} is a pickle, which can run code when it is read, and is refused: choose a model "
        "with .safetensors weights, or convert it with https://huggingface.co/spaces/safetensors/convert"
    )


def sized(folder: Path, part: str) -> str:
    """A component and the size of its weights, for people."""
    size = sum(path.stat().st_size for path in (folder / part).glob("*.safetensors"))
    return f"{part.replace('_', ' ')}, {size / 1e6:.0f} MB"
