"""Model files from the Hugging Face hub: safetensors only, one file after the other, stoppable.

What was downloaded once is used without asking the network again.
"""

import errno
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from huggingface_hub import HfApi, constants, hf_hub_download, snapshot_download
from huggingface_hub.errors import (
    EntryNotFoundError,
    GatedRepoError,
    HTTPError,
    LocalEntryNotFoundError,
    RepositoryNotFoundError,
)

from dreamrelay.downloads import told_to
from dreamrelay.engines.ports import Progress, Report
from dreamrelay.errors import EngineError

FAILURES = (OSError, HTTPError, EntryNotFoundError, RuntimeError)
"""What a download may end with; the hub's fast transfer tells everything as RuntimeError."""

ID = re.compile(r"[\w.-]+/[\w.-]+")

_SETTINGS = re.compile(
    r"README\.md|preprocessor_config\.json|"
    r"(model_index|config|((unet|vae|(text_encoder|tokenizer)(_2)?|scheduler)/[\w.-]+))\.(json|txt)"
)
_WEIGHTS = re.compile(
    r"(?P<stem>((unet|vae|text_encoder(_2)?)/)?(diffusion_pytorch_model|model))(?P<half>\.fp16)?"
    r"(?P<part>-\d+-of-\d+)?\.safetensors"
)


def is_id(model: str) -> bool:
    """Whether ``model`` can be a name on the hub: ``owner/name``."""
    return ID.fullmatch(model) is not None and not model.startswith(".")


def model_folder(
    model: str, *, offline: bool, half: bool, report: Report, weights: bool = True
) -> Path:
    """Return the folder of a model of the hub, downloading what is not there yet.

    Args:
        half: prefer the weights in half precision.
        weights: False for settings and tokenizer only.

    Raises:
        EngineError: no such model, gated, offline and never downloaded, or the download failed.
    """
    folder = _downloaded(model, weights)
    if folder is not None:
        return folder
    _check_online(model, offline)
    try:
        names = HfApi().list_repo_files(model)
        wanted = _wanted(names, half) if weights else list(filter(_SETTINGS.fullmatch, names))
        for at, name in enumerate(wanted):
            report(Progress("loading", f"downloading {model}: {name}", at / len(wanted)))
            path = Path(hf_hub_download(model, name, tqdm_class=_reporting(report, model, name)))
            folder = path.parents[name.count("/")]
    except FAILURES as error:
        raise _explained(model, error) from error
    if folder is None:
        raise EngineError(
            f"{model} has no safetensors weights in diffusers format; choose a model that has"
        )
    return folder


def lora_file(model: str, *, offline: bool, report: Report) -> Path:
    """Return the LoRA file of ``owner/name`` or ``owner/name/file.safetensors`` of the hub.

    Raises:
        EngineError: as :func:`model_folder`, or the repository holds not exactly one candidate.
    """
    owner, name, *rest = model.split("/", 2)
    repository, file = f"{owner}/{name}", rest[0] if rest else ""
    try:
        cached = Path(snapshot_download(repository, local_files_only=True))
        found = [cached / file] if file else sorted(cached.glob("*.safetensors"))
        if len(found) == 1 and found[0].is_file():
            return found[0]
    except (LocalEntryNotFoundError, ValueError):
        cached = Path()
    _check_online(model, offline)
    try:
        if not file:
            names = [
                name
                for name in HfApi().list_repo_files(repository)
                if name.endswith(".safetensors") and "/" not in name
            ]
            if len(names) != 1:
                raise EngineError(
                    f"LoRA {model}: expected one .safetensors file, found {len(names)}; "
                    f"name one as {repository}/<file>"
                )
            file = names[0]
        report(Progress("loading", f"downloading {model}: {file}"))
        tqdm_class = _reporting(report, model, file)
        return Path(hf_hub_download(repository, file, tqdm_class=tqdm_class))
    except FAILURES as error:
        raise _explained(model, error) from error


def _downloaded(model: str, weights: bool) -> Path | None:
    """The folder of a model that is complete on this machine."""
    try:
        folder = Path(snapshot_download(model, local_files_only=True))
    except (LocalEntryNotFoundError, ValueError):
        return None
    parts = ["."]
    if (index := folder / "model_index.json").exists():
        parts = ["unet", "vae", "text_encoder"]
        parts += ["text_encoder_2"] if '"text_encoder_2"' in index.read_text("utf-8") else []
    kind = "*.safetensors" if weights else "config.json"
    complete = all(any((folder / part).glob(kind)) for part in parts)
    return folder if complete else None


def _check_online(model: str, offline: bool) -> None:
    if offline or constants.HF_HUB_OFFLINE:
        raise EngineError(
            f"{model} was not downloaded yet and the hub may not be asked (offline): run once "
            "online, or give the path of a local folder"
        )


def _wanted(names: Iterable[str], half: bool) -> list[str]:
    """The files to download: settings, and of each component the weights in one precision."""
    names = sorted(names)
    weights = [match for name in names if (match := _WEIGHTS.fullmatch(name))]
    if not weights:
        return []
    chosen: list[str] = []
    for stem in dict.fromkeys(match["stem"] for match in weights):
        of_stem = [match for match in weights if match["stem"] == stem]
        halves = [match for match in of_stem if match["half"]]
        full = [match for match in of_stem if not match["half"]]
        chosen += [match[0] for match in (halves if halves and (half or not full) else full)]
    settings = [name for name in names if _SETTINGS.fullmatch(name)]
    sharded = any(_WEIGHTS.fullmatch(name)["part"] for name in chosen)  # type: ignore[index]
    indices = [name for name in names if sharded and name.endswith("safetensors.index.json")]
    return [*dict.fromkeys(settings + indices), *chosen]


def _reporting(report: Report, model: str, name: str) -> type[Any]:
    """A progress bar that reports instead of drawing; the report may stop the download."""
    text = f"downloading {model}: {name}"
    return told_to(lambda size, done: report(Progress("loading", f"{text}, {size}", done)))


def _explained(model: str, error: Exception) -> EngineError:
    """What went wrong with the hub, with the next step."""
    if isinstance(error, GatedRepoError):
        return EngineError(
            f"{model} is gated: accept its licence on https://huggingface.co/{model}, then log in "
            "with `hf auth login`"
        )
    if isinstance(error, RepositoryNotFoundError):
        return EngineError(
            f"the hub has no model {model} (or it is private), and there is no such folder: check "
            "the name, or log in with `hf auth login`"
        )
    if _is_full(error):
        return EngineError(
            f"the disk is full, {model} could not be downloaded: free some space in "
            f"{constants.HF_HUB_CACHE} (or let HF_HOME name another disk) and start again; what "
            "was downloaded is kept"
        )
    text = " ".join(str(error).split())[:200]
    return EngineError(
        f"{model} could not be downloaded ({type(error).__name__}: {text}): check the network, or "
        "give the path of a local folder"
    )


def _is_full(error: BaseException | None) -> bool:
    """Whether there was no room on the disk, at the bottom of what was raised."""
    while error is not None:
        full = isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT)
        if full or "no space left" in str(error).lower():
            return True
        error = error.__cause__
    return False
