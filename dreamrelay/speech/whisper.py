"""Whisper through faster-whisper (CTranslate2): whole sentences, on the CPU or a CUDA card.

A model is a folder in CTranslate2's format, or a name that faster-whisper knows ("base.en",
"large-v3-turbo", "owner/name"). What is not on this machine is downloaded once, with progress; the
operator names it, never a peer.
"""

import math
import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar

from faster_whisper import WhisperModel
from faster_whisper.utils import _MODELS, download_model
from faster_whisper.vad import VadOptions, get_speech_timestamps
from huggingface_hub import HfApi, constants, hf_hub_download
from huggingface_hub.errors import (
    EntryNotFoundError,
    GatedRepoError,
    HTTPError,
    LocalEntryNotFoundError,
    RepositoryNotFoundError,
)

from dreamrelay.downloads import told_to
from dreamrelay.errors import EngineError
from dreamrelay.speech.audio import RATE, decode
from dreamrelay.speech.catalog import NEEDED
from dreamrelay.speech.ports import Heard, Report, Speech, SpeechProgress, Word

WANTED = (*NEEDED, "preprocessor_config.json", "vocabulary.json", "vocabulary.txt")

HUB_SECONDS = 10.0
"""For the hub to say what a model consists of."""

BEAM = 5

RETRIES = (0.0, 0.4)
"""Temperatures: a sentence that repeats itself is tried once more; somebody waits for it."""

LEAST_TOKENS = 16
TOKENS_PER_SECOND = 12.0
"""Nobody speaks faster; what comes after so many is made up."""

MOST_HINTS = 60
"""Phrases of the vocabulary that Whisper is told to expect; more would push out what is said."""

NO_SPEECH = 0.8
"""From this probability on that nobody speaks, what Whisper writes is made up."""

# Shorter pauses than by default: a recording is one sentence.
_PAUSES = VadOptions(threshold=0.5, min_speech_duration_ms=120, min_silence_duration_ms=600)


class WhisperSpeech(Speech):
    """Whisper.

    Args:
        model: a folder, or a model's name.
        language: of what is said ("en"); None: Whisper finds out.
    """

    name: ClassVar[str] = "whisper"

    def __init__(self, model: str, language: str | None = None) -> None:
        self.model_name = model
        self._language = language
        self._model: WhisperModel | None = None

    def load(self, report: Report) -> None:
        if self._model is not None:
            return
        folder = _folder(self.model_name, report)
        report(SpeechProgress(f"loading Whisper {self.model_name}"))
        try:
            self._model = WhisperModel(
                str(folder), device="auto", cpu_threads=min(4, os.cpu_count() or 1)
            )
        except (RuntimeError, ValueError, OSError) as error:
            reason = " ".join(str(error).split())[:200]
            raise EngineError(f"Whisper {self.model_name} cannot be loaded: {reason}") from error

    def transcribe(self, data: bytes, vocabulary: Sequence[str] = ()) -> Heard:
        samples = decode(data)
        self.load(lambda _: None)
        if self._model is None:
            raise AssertionError("loaded")
        seconds = samples.size / RATE
        spans = get_speech_timestamps(samples, _PAUSES)
        spoken = sum(span["end"] - span["start"] for span in spans) / RATE
        if not spans:
            return Heard("", 0.0, (), seconds, 0.0)
        try:
            found, _ = self._model.transcribe(
                samples,
                language=self._language if self._model.model.is_multilingual else None,
                beam_size=BEAM,
                temperature=RETRIES,
                max_new_tokens=LEAST_TOKENS + int(TOKENS_PER_SECOND * spoken),
                word_timestamps=True,
                condition_on_previous_text=False,
                vad_filter=True,
                vad_parameters=_PAUSES,
                hotwords=", ".join(vocabulary[:MOST_HINTS]) or None,
            )
            segments = [part for part in found if part.no_speech_prob < NO_SPEECH]
        except (RuntimeError, ValueError) as error:
            raise EngineError(f"Whisper could not understand the recording: {error}") from error
        return _heard(segments, seconds, spoken)


def is_here(model: str) -> bool:
    """Whether a model lies on this machine, complete; asks nobody."""
    return _local(model) is not None


def _heard(segments: Sequence[Any], seconds: float, spoken: float) -> Heard:
    words = tuple(
        Word(word.word.strip(), float(word.start), float(word.end), float(word.probability))
        for part in segments
        for word in part.words or ()
    )
    written = "".join(part.text for part in segments)
    text = " ".join("".join(c if c.isprintable() else " " for c in written).split())
    sure = 0.0
    if segments and text:
        # Of tokens, weighed by how long they last; what is surely no speech counts less.
        length = sum(max(part.end - part.start, 0.01) for part in segments)
        mean = sum(part.avg_logprob * max(part.end - part.start, 0.01) for part in segments)
        sure = math.exp(min(0.0, mean / length))
    return Heard(text, sure, words, seconds, spoken)


def _folder(model: str, report: Report) -> Path:
    """Where a model lies, after it was downloaded if need be.

    Raises:
        EngineError: there is none, or it cannot be had now.
    """
    folder = _local(model)
    if folder is not None:
        return folder
    repository = _repository(model)
    if constants.HF_HUB_OFFLINE:
        raise EngineError(
            f"Whisper {model} was not downloaded yet and the hub may not be asked (HF_HUB_OFFLINE):"
            " run once online, give the path of a folder, or use --speech=offline"
        )
    try:
        # Asked once: what lists files in pages asks six times, for half a minute, where no net is.
        files = HfApi().model_info(repository, timeout=HUB_SECONDS).siblings or ()
        names = [file.rfilename for file in files if file.rfilename in WANTED]
        path, text = Path(), f"downloading Whisper {model}"
        bar = told_to(lambda size, done: report(SpeechProgress(f"{text}, {size}", done)))
        for name in names:
            report(SpeechProgress(f"{text}: {name}"))
            path = Path(hf_hub_download(repository, name, tqdm_class=bar))
    except (OSError, HTTPError, EntryNotFoundError) as error:
        raise _explained(model, repository, error) from error
    if "model.bin" not in names:
        raise EngineError(
            f"{repository} has no model in CTranslate2's format (model.bin): take one of "
            "Systran's, or a name such as base.en"
        )
    return path.parent


def _local(model: str) -> Path | None:
    folder = Path(model).expanduser()
    if not folder.is_dir():
        try:
            folder = Path(download_model(model, local_files_only=True))
        except (LocalEntryNotFoundError, ValueError):
            return None
    return folder if all((folder / name).is_file() for name in NEEDED) else None


def _repository(model: str) -> str:
    if re.fullmatch(r"[\w-][\w.-]*/[\w.-]+", model):
        return model
    if model not in _MODELS:
        raise EngineError(
            f"there is no Whisper model {model!r} and no such folder: expected a folder, "
            f"owner/name, or one of {', '.join(_MODELS)}"
        )
    return str(_MODELS[model])


def _explained(model: str, repository: str, error: Exception) -> EngineError:
    """What went wrong with the hub, with the next step."""
    if isinstance(error, GatedRepoError):
        return EngineError(
            f"{repository} is gated: accept its licence on https://huggingface.co/{repository}, "
            "then log in with `hf auth login`"
        )
    if isinstance(error, RepositoryNotFoundError):
        return EngineError(f"the hub has no model {repository} (or it is private): check the name")
    if isinstance(error, OSError) and error.errno == 28:
        return EngineError(f"the disk is full, Whisper {model} could not be downloaded")
    text = " ".join(str(error).split())[:160]
    return EngineError(
        f"Whisper {model} could not be downloaded ({type(error).__name__}: {text}): check the "
        "network, give the path of a folder, or use --speech=offline, which needs no download"
    )
