"""Names of speech engines to import strings, and which one ``auto`` is."""

import os
from importlib.util import find_spec

from dreamrelay.errors import ConfigError
from dreamrelay.importer import Entry
from dreamrelay.speech.ports import Speech

ENGINES: dict[str, Entry] = {
    "offline": Entry("dreamrelay.speech.sphinx:SphinxSpeech", "understanding speech", "voice"),
    "whisper": Entry("dreamrelay.speech.whisper:WhisperSpeech", "Whisper", "speech"),
}

DEFAULT_WHISPER = "base.en"
"""Of the English models the smallest that writes whole sentences without many mistakes."""


def check_speech(name: str) -> str:
    """The setting as it was given, if it can be one; imports nothing.

    Raises:
        ConfigError: it is none of ``off``, ``auto``, ``offline``, ``whisper``, ``whisper:MODEL``.
    """
    kind, colon, model = name.partition(":")
    if name in ("off", "auto", "offline", "whisper") or (kind == "whisper" and colon and model):
        return name
    raise ConfigError(
        f"speech: expected off, auto, offline, whisper or whisper:NAME_OR_FOLDER, got {name!r:.80}"
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
    # Whisper's voice detector runs on onnxruntime, which from 1.29 on keeps a device id and sends
    # statistics home unless it is told not to, before it is imported.
    os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
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
