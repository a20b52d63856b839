"""Names of speech engines to import strings, and which one ``auto`` is."""

from importlib.util import find_spec
from pathlib import Path

from dreamrelay.errors import ConfigError
from dreamrelay.importer import Entry
from dreamrelay.speech.ports import Speech

ENGINES: dict[str, Entry] = {
    "offline": Entry("dreamrelay.speech.sphinx:SphinxSpeech", "understanding speech", "voice"),
    "whisper": Entry("dreamrelay.speech.whisper:WhisperSpeech", "Whisper", "speech"),
}

DEFAULT_WHISPER = "base.en"
"""Of the English models the smallest that writes whole sentences without many mistakes."""

NEEDED = ("config.json", "model.bin", "tokenizer.json")
"""What a folder with a Whisper model has, in CTranslate2's format."""


def check_speech(name: str) -> str:
    """The setting as it was given, if it can be one; imports nothing.

    Raises:
        ConfigError: it is none of ``off``, ``auto``, ``offline``, ``whisper``, ``whisper:MODEL``,
            or the model is a path where none lies.
    """
    kind, colon, model = name.partition(":")
    if kind == "whisper" and colon and model:
        _check_path(model)
        return name
    if name in ("off", "auto", "offline", "whisper"):
        return name
    raise ConfigError(
        f"speech: expected off, auto, offline, whisper or whisper:NAME_OR_FOLDER, got {name!r:.80}"
    )


def _check_path(model: str) -> None:
    """Raise where a model is surely a path (a name has one slash at most), and a wrong one."""
    folder = Path(model).expanduser()
    if not folder.is_dir():
        if folder.is_absolute() or model.startswith(".") or model.count("/") > 1:
            raise ConfigError(f"speech: there is no folder {folder}")
        return
    missing = ", ".join(file for file in NEEDED if not (folder / file).is_file())
    if missing:
        raise ConfigError(
            f"speech: {folder} is no Whisper model in CTranslate2's format: it lacks {missing}; "
            "convert one with ct2-transformers-converter, or give a name such as base.en"
        )


def open_speech(name: str = "auto") -> Speech:
    """Construct the engine that a setting names; nothing is loaded or downloaded yet.

    ``auto`` is Whisper where it is installed and its model lies on this machine, else the small
    engine that needs no download.

    Raises:
        ConfigError: no engine has that name, or it is ``off``.
        MissingExtra: its packages are not installed.
    """
    kind, _, model = check_speech(name).partition(":")
    if kind == "off":
        raise ConfigError("speech is off: start the relay with --speech=auto")
    if kind == "auto":
        kind = "whisper" if _has_whisper() else "offline"
    entry = ENGINES[kind]
    engine: Speech = entry.load()(model or DEFAULT_WHISPER) if kind == "whisper" else entry.load()()
    return engine


def _has_whisper() -> bool:
    """Whether Whisper would run without asking anybody for anything."""
    if find_spec("faster_whisper") is None:
        return False
    is_here: bool = Entry("dreamrelay.speech.whisper:is_here", "Whisper", "speech").load()(
        DEFAULT_WHISPER
    )
    return is_here
