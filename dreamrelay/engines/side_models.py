"""Models beside the model (ControlNets, depth, image encoders): from a name to a local folder."""

import logging
from pathlib import Path

import torch

from dreamrelay.engines import model_hub
from dreamrelay.engines.components import PICKLES, pickled
from dreamrelay.engines.devices import Device
from dreamrelay.engines.licences import licence
from dreamrelay.engines.ports import Report
from dreamrelay.errors import EngineError

logger = logging.getLogger(__name__)


def find_component(model: str, what: str, device: Device, *, offline: bool, report: Report) -> Path:
    """The folder of a model that is one component: ``config.json`` and its weights.

    Args:
        model: a folder, or a hub id.
        what: the model is, for people ("ControlNet").

    Raises:
        EngineError: there is none; says what was expected.
    """
    folder = _folder(model, what, device, offline, report)
    logger.info("%s %s: licence %s", what, model, licence(model, folder))
    return folder


def _folder(model: str, what: str, device: Device, offline: bool, report: Report) -> Path:
    path = Path(model).expanduser()
    if path.is_dir():
        if not (path / "config.json").is_file():
            raise EngineError(f"{what} {model} is not complete: expected config.json in the folder")
        return path
    if path.suffix in PICKLES:
        raise EngineError(pickled(f"{what} {model}"))
    if path.is_file():
        raise EngineError(
            f"{what} {model} is a single file; expected a folder with config.json and "
            "safetensors weights, as diffusers and transformers write it"
        )
    if model_hub.is_id(model):
        half = device.dtype is not torch.float32
        return model_hub.model_folder(model, offline=offline, half=half, report=report)
    raise EngineError(
        f"{what} {model}: there is no such folder, and it is no hub id such as owner/name"
    )
