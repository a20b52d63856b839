"""Names of matting engines to import strings."""

import os
from pathlib import Path

from dreamrelay.errors import ConfigError
from dreamrelay.importer import Entry
from dreamrelay.preprocess.ports import Matting

ENGINES: dict[str, Entry] = {
    "person": Entry("dreamrelay.preprocess.person:PersonMatting", "matting", "producer"),
    "torchscript": Entry(
        "dreamrelay.preprocess.robust_torch:TorchRobustMatting", "Robust Video Matting", "worker"
    ),
    "onnx": Entry(
        "dreamrelay.preprocess.robust_onnx:OnnxRobustMatting", "Robust Video Matting", "onnx"
    ),
}

_EXPECTED = "matting: expected person, rvm:FILE (.torchscript, .pt or .onnx), rvm:FOLDER or rvm:hub"


def open_matting(name: str = "person") -> Matting:
    """Construct the engine that a setting names; nothing is loaded yet.

    ``person`` is the small segmenter of the package. ``rvm:`` is Robust Video Matting, which the
    operator gets by himself (it is GPL-3.0, so it does not come with us): a TorchScript or ONNX
    file of its release, a folder with a checkout of it, or ``rvm:hub`` (``rvm:hub/resnet50``):
    then torch.hub fetches code and weights from GitHub.

    Raises:
        ConfigError: no engine has that name, or there is no such file.
        MissingExtra: its packages are not installed.
    """
    if name in ("auto", "person"):
        engine: Matting = ENGINES["person"].load()()
        return engine
    kind, _, where = name.partition(":")
    if kind != "rvm" or not where:
        raise ConfigError(f"{_EXPECTED}, got {name!r:.80}")
    if where == "hub" or where.startswith("hub/"):
        engine = ENGINES["torchscript"].load()(where)
        return engine
    path = Path(where).expanduser()
    if not path.exists():
        raise ConfigError(f"matting: there is no {path}; {_EXPECTED}")
    if path.is_dir() and not (path / "hubconf.py").is_file():
        raise ConfigError(
            f"matting: {path} is no checkout of Robust Video Matting (no hubconf.py); {_EXPECTED}"
        )
    # From 1.29 on onnxruntime sends statistics home unless it is told not to, before its import.
    os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
    which = "onnx" if path.suffix == ".onnx" else "torchscript"
    engine = ENGINES[which].load()(str(path))
    return engine
