"""Building with TensorRT through torch's own exporter, and keeping what was built.

An engine of TensorRT fits one card, one version and one set of weights; its file is named by all
that it depends on, so a stale one is never taken. Written against torch-tensorrt's documented
interface; it was not run on a card here.
"""

import hashlib
import json
import logging
import os
from collections.abc import Mapping, Sequence
from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch

from dreamrelay.engines.accelerate import Builder, Call, Flat, Flattened, cache_folder

logger = logging.getLogger(__name__)

_PACKAGES = ("torch", "torch-tensorrt", "tensorrt", "diffusers")
_SAMPLE = 16  # of each weight's values


def building(
    model: str, loras: Mapping[str, float], device_name: str, folder: Path | None = None
) -> Builder:
    """Builds engines, or takes them from ``folder`` where they were built before.

    Args:
        model: its name; the weights themselves count as well.
        loras: that are in the weights.
        device_name: of the card.
        folder: None: in the user's cache.
    """
    place = folder or cache_folder() / "tensorrt"

    def build(call: Call) -> Flat:
        library = import_module("torch_tensorrt")
        tensors = [leaf for leaf in call.leaves if torch.is_tensor(leaf)]
        path = place / f"{call.name}-{engine_key(call, model, loras, device_name)}.ep"
        program = _kept(library, path)
        if program is None:
            logger.info("acceleration: building %s with TensorRT; this takes minutes", call.name)
            exported = torch.export.export(Flattened(call), tuple(tensors))
            # The weights are in half precision already; it computes in what they are in.
            built = library.dynamo.compile(exported, arg_inputs=tuple(tensors), min_block_size=1)
            _keep(library, built, path, tensors)
            program = built

        def form(leaves: Sequence[Any]) -> Any:
            return program(*(leaf for leaf in leaves if torch.is_tensor(leaf)))

        form(call.leaves)
        return form

    return build


def engine_key(call: Call, model: str, loras: Mapping[str, float], device_name: str) -> str:
    """What names an engine: everything that it depends on, in 32 letters."""
    facts = {
        "model": model,
        "loras": sorted(loras.items()),
        "part": call.name,
        "shapes": [
            [*map(int, leaf.shape), str(leaf.dtype)] if torch.is_tensor(leaf) else repr(leaf)
            for leaf in call.leaves
        ],
        "arguments": repr(call.spec),
        "device": device_name,
        "versions": {name: _version(name) for name in _PACKAGES},
        "weights": _fingerprint(getattr(call.run, "module", None)),
    }
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()[:32]


def _fingerprint(module: torch.nn.Module | None) -> str:
    """Of a module's weights, by a few values of each."""
    digest = hashlib.sha256()
    for name, weight in module.state_dict().items() if module is not None else ():
        digest.update(f"{name} {tuple(weight.shape)}".encode())
        digest.update(weight.flatten()[:_SAMPLE].float().cpu().numpy().tobytes())
    return digest.hexdigest()


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "none"


def _kept(library: Any, path: Path) -> Any:
    """An engine that was built before; None if there is none that can be read."""
    if not path.is_file():
        return None
    try:
        return library.load(str(path)).module()
    except (OSError, RuntimeError, ValueError, KeyError, AttributeError) as error:
        logger.warning("acceleration: %s cannot be read (%s): it is built anew", path, error)
        path.unlink(missing_ok=True)
        return None


def _keep(library: Any, program: Any, path: Path, tensors: Sequence[torch.Tensor]) -> None:
    """Write an engine to disk, whole or not at all; without room it is built again next time."""
    half = path.with_suffix(f".{os.getpid()}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        library.save(program, str(half), arg_inputs=tuple(tensors), retrace=False)
        half.replace(path)
    except OSError as error:
        logger.warning("acceleration: the engine was not kept (%s): it is built again", error)
        half.unlink(missing_ok=True)
