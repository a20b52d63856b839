"""Names of matting engines to import strings."""

import logging
from pathlib import Path

from dreamrelay.errors import ConfigError
from dreamrelay.importer import Entry
from dreamrelay.preprocess.ports import Matting

logger = logging.getLogger(__name__)

HUB_VARIANTS = ("mobilenetv3", "resnet50")
"""What `torch.hub` knows of Robust Video Matting; the first if none is named."""

ENGINES: dict[str, Entry] = {
    "person": Entry("dreamrelay.preprocess.person:PersonMatting", "matting", "producer"),
    "torchscript": Entry(
        "dreamrelay.preprocess.robust_torch:TorchRobustMatting", "Robust Video Matting", "worker"
    ),
    "onnx": Entry(
        "dreamrelay.preprocess.robust_onnx:OnnxRobustMatting", "Robust Video Matting", "onnx"
    ),
}

_EXPECTED = (
    "expected person, or Robust Video Matting (GPL-3.0) as rvm:FILE (.torchscript, .pt or .onnx), "
    "rvm:FOLDER or rvm:hub"
)


def check_matting(name: str, *, offline: bool = False) -> str:
    """The setting as it was given, if it can be one; imports nothing.

    Args:
        offline: no hub may be asked.

    Raises:
        ConfigError: no engine has that name, there is no such file or variant, or it may not be
            asked for.
    """
    if name in ("auto", "person"):
        return name
    kind, _, where = name.partition(":")
    if kind != "rvm" or not where:
        raise ConfigError(f"matting: {_EXPECTED}, got {name!r:.80}")
    if where == "hub" or where.startswith("hub/"):
        _, named, variant = where.partition("/")
        if named and variant not in HUB_VARIANTS:
            raise ConfigError(
                f"matting: expected rvm:hub/ and one of {', '.join(HUB_VARIANTS)}, got {name!r:.80}"
            )
        if offline:
            raise ConfigError(f"matting: {name} asks GitHub, which offline forbids: {_EXPECTED}")
        return name
    path = Path(where).expanduser()
    if not path.exists():
        raise ConfigError(f"matting: there is no {path}; {_EXPECTED}")
    if path.is_dir() and not (path / "hubconf.py").is_file():
        raise ConfigError(
            f"matting: {path} is no checkout of Robust Video Matting (no hubconf.py); {_EXPECTED}"
        )
    return name


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
    kind, _, where = check_matting(name).partition(":")
    if kind != "rvm":
        engine: Matting = ENGINES["person"].load()()
        return engine
    logger.info("people are found by Robust Video Matting (%s), licence GPL-3.0", where)
    if where == "hub" or where.startswith("hub/"):
        engine = ENGINES["torchscript"].load()(where)
    else:
        path = Path(where).expanduser()
        which = "onnx" if path.suffix == ".onnx" else "torchscript"
        engine = ENGINES[which].load()(str(path))
    return engine
