"""What a model's folder says of itself, read without the libraries that can run it.

The folder: ``model_index.json`` and ``unet/  vae/  text_encoder/  tokenizer/  scheduler/``, as
diffusers writes it; ``defaults.json`` and ``vocabulary.json`` are ours and may be missing.
"""

import json
import math
from collections.abc import Mapping
from json import JSONDecodeError
from pathlib import Path
from typing import Any, NamedTuple, cast

from dreamrelay.engines.denoise import Prediction
from dreamrelay.engines.parameters import StreamBatchParameters
from dreamrelay.engines.schedule import Vector, cumulative_alphas
from dreamrelay.errors import EngineError

_BROKEN_HEADER = (
    UnicodeDecodeError,
    JSONDecodeError,
    LookupError,
    TypeError,
    AttributeError,
    RecursionError,
)


def read_index(folder: Path) -> dict[str, Any]:
    """The parts of the model, without those that are said not to be there.

    Raises:
        EngineError: it is not a model that these engines can run.
    """
    path = folder / "model_index.json"
    if not path.is_file():
        raise EngineError(
            f"{folder} is no model in diffusers format: expected {path.name} in it, and the "
            "folders unet, vae, text_encoder, tokenizer, scheduler"
        )
    index = read_json(path)
    pipeline = str(index.get("_class_name", ""))
    index = {name: part for name, part in index.items() if part != [None, None]}
    if not {"unet", "text_encoder"} <= set(index) or "text_encoder_3" in index:
        raise EngineError(
            f"{folder} is made for {pipeline or 'another pipeline'}, which this engine cannot run: "
            "expected Stable Diffusion 1.x, 2.x, XL or a Turbo model"
        )
    return index


def read_vocabulary(folder: Path) -> dict[str, Any]:
    """The words that the model knows, by kind; empty where it knows them all."""
    path = folder / "vocabulary.json"
    return read_json(path) if path.is_file() else {}


def read_defaults(folder: Path) -> dict[str, Any]:
    """Parameters and size that the model looks best with; empty if it says nothing."""
    path = folder / "defaults.json"
    defaults = read_json(path) if path.is_file() else {}
    for side in ("width", "height"):
        value = defaults.get(side, 8)
        if not isinstance(value, int) or value < 1:
            raise EngineError(f"{path} says {side} {value!r}; expected a number of pixels")
    return defaults


def own_name(model: str) -> str:
    """Its id at the hub, or the name of its folder or file: not of where that lies."""
    path = Path(model).expanduser()
    return path.resolve().name if path.exists() else model


class Noising(NamedTuple):
    """What a scheduler's configuration says.

    Attributes:
        alphas: the share of the picture left at each timestep, (T,).
        prediction: what the U-Net predicts.
        half_share: see :func:`schedule.schedule`; None where a model does not say.
    """

    alphas: Vector
    prediction: Prediction
    half_share: float | None


def read_scheduler(folder: Path) -> Noising:
    """How the model of a folder is noised; EngineError if that cannot be read."""
    path = folder / "scheduler" / "scheduler_config.json"
    if not path.is_file():
        raise EngineError(f"{folder} is not complete: expected scheduler/{path.name}")
    config = read_json(path)
    prediction = config.get("prediction_type", "epsilon")
    if prediction not in ("epsilon", "v_prediction", "sample"):
        raise EngineError(
            f"{path} says prediction_type {prediction!r}; expected epsilon, v_prediction or sample"
        )
    half = config.get("half_share_timestep")
    if half is not None and (not isinstance(half, int | float) or not 0 < half < math.inf):
        raise EngineError(f"{path} says half_share_timestep {half!r}; expected a number above 0")
    return Noising(cumulative_alphas(config), cast(Prediction, prediction), half)


def read_json(path: Path) -> dict[str, Any]:
    """An object from a file; EngineError if it cannot be read or is something else."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, JSONDecodeError) as error:
        raise EngineError(f"{path} cannot be read ({error}): download the model again") from error
    if not isinstance(content, dict):
        raise EngineError(f"{path} is broken: expected a JSON object; download the model again")
    return content


def known_parameters(defaults: Mapping[str, Any]) -> dict[str, Any]:
    """Those of the defaults that are parameters of a stream batch."""
    return {
        name: value
        for name, value in defaults.items()
        if name in StreamBatchParameters.model_fields
    }


def pixels(sample_size: Any, scale: int) -> tuple[int, int]:
    """Width and height in pixels that a U-Net was made for, from its ``sample_size``."""
    height, width = sample_size if isinstance(sample_size, list | tuple) else (sample_size,) * 2
    return int(width) * scale, int(height) * scale


def existing(folder: Path, name: str) -> Path:
    """The path of a file that a folder must have; EngineError if it has not."""
    if not (folder / name).is_file():
        raise EngineError(f"{folder} is not complete: expected {name} in it")
    return folder / name


def check_safetensors(path: Path) -> None:
    """See from its header whether a file of weights is whole.

    Raises:
        EngineError: it is broken or cut off.
    """
    again = "delete it and download the model again"
    size = path.stat().st_size
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        if size < 8 or not 2 <= length <= size - 8:
            raise EngineError(f"{path} is broken or cut off ({size} bytes): {again}")
        try:
            header: dict[str, Any] = json.loads(file.read(length))
            ends = [entry["data_offsets"][1] for name, entry in header.items() if name[:2] != "__"]
            expected = 8 + length + max(ends, default=0)
        except _BROKEN_HEADER as error:
            raise EngineError(f"{path} is broken (its header cannot be read): {again}") from error
    if size != expected:
        raise EngineError(f"{path} is cut off: expected {expected} bytes, got {size}; {again}")
