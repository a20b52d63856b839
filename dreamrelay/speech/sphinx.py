"""The offline engine: pocketsphinx, whose English model lies in its package; nothing is downloaded.

It understands commands and the phrases of a vocabulary, spoken in English, and nothing else. What
was said is read twice: by that small grammar, which always finds something, and by open dictation,
which finds anything. Where both sound alike the grammar is right; where they do not, somebody spoke
about something else, and nothing was heard.
"""

import os
from collections.abc import Sequence
from dataclasses import replace
from typing import ClassVar

import numpy as np
from pocketsphinx import Decoder, Vad, get_model_path

from dreamrelay.errors import EngineError
from dreamrelay.speech import grammar
from dreamrelay.speech.agreement import agreement
from dreamrelay.speech.audio import RATE, Samples, decode
from dreamrelay.speech.ports import Heard, Report, Speech, SpeechProgress, Word

FRAMES_PER_SECOND = 100
"""Of the recogniser."""

SURE = 0.5
"""Below this agreement nothing was heard. Of spoken commands nearly all are above it, of speech
about other things hardly any: docs/voice.md has the figures."""

LEAST = 0.3
"""A phrase below this agreement was not said: other words were, that the grammar has not."""

LEAST_SPOKEN = 0.15
"""Seconds; shorter is a click."""

PADDING = 0.3
"""Seconds of quiet that are left before and after what was spoken."""

_FULL_SCALE = 32767


class SphinxSpeech(Speech):
    """Commands and the vocabulary, without a download."""

    name: ClassVar[str] = "offline"

    def __init__(self) -> None:
        self._decoder: Decoder | None = None
        self._made_for: tuple[str, ...] | None = None
        self._listened: tuple[str, ...] = ()

    def load(self, report: Report) -> None:
        if self._decoder is not None:
            return
        report(SpeechProgress("loading the offline speech model"))
        folder = get_model_path("en-us")
        try:
            decoder = Decoder(
                hmm=os.path.join(folder, "en-us"),
                dict=os.path.join(folder, "cmudict-en-us.dict"),
                lm=os.path.join(folder, "en-us.lm.bin"),
                cmn="batch",  # what was said before has no influence
                fwdflat=False,  # the second look at open dictation is not worth its time
                logfn=os.devnull,
                loglevel="FATAL",
            )
        except (RuntimeError, OSError) as error:
            raise EngineError(
                f"the speech model in {folder} cannot be loaded ({error}): "
                "pip install --force-reinstall pocketsphinx"
            ) from error
        for word, phones in grammar.PRONUNCIATIONS.items():
            if decoder.lookup_word(word) is None:
                decoder.add_word(word, phones, True)
        self._decoder = decoder

    def transcribe(self, data: bytes, vocabulary: Sequence[str] = ()) -> Heard:
        samples = decode(data)
        self.load(_silent)
        decoder = self._decoder
        if decoder is None:
            raise AssertionError("loaded")
        seconds = samples.size / RATE
        begin, end, spoken = speech_span(samples)
        if spoken < LEAST_SPOKEN:
            return Heard("", 0.0, (), seconds, spoken)
        self._listen_for(decoder, tuple(vocabulary))
        part = samples[begin:end]
        peak = float(np.abs(part).max())
        sound = (part * (_FULL_SCALE * 0.9 / max(peak, 1e-3))).astype("<i2").tobytes()
        words = self._read(decoder, grammar.NAME, sound, begin / RATE)
        if not words:
            return Heard("", 0.0, (), seconds, spoken)
        said = self._read(decoder, _DICTATION, sound, begin / RATE)
        units = grammar.units(words, self._listened)
        sounds = [[p for word in unit for p in _phones(decoder, word)] for unit in units]
        sure, each = agreement(sounds, [p for word in said for p in _phones(decoder, word)])
        kept = grammar.joined(
            [replace(word, confidence=agreed) for word in unit]
            for unit, agreed in zip(units, each, strict=True)
            if agreed >= LEAST
        )
        if sure < SURE or not kept:
            return Heard("", sure, (), seconds, spoken)
        text = " ".join(word.text for word in kept)
        return Heard(text, sure, tuple(kept), seconds, spoken)

    def _listen_for(self, decoder: Decoder, vocabulary: tuple[str, ...]) -> None:
        if vocabulary == self._made_for:
            return
        listened = grammar.phrases(vocabulary, lambda word: decoder.lookup_word(word) is not None)
        try:
            if self._made_for is not None:
                decoder.activate_search(_DICTATION)
                decoder.remove_search(grammar.NAME)
                self._made_for = None
            decoder.add_jsgf_string(grammar.NAME, grammar.jsgf(listened))
        except (RuntimeError, KeyError) as error:
            raise EngineError(f"the vocabulary makes no grammar: {error}") from error
        self._made_for, self._listened = vocabulary, listened

    def _read(self, decoder: Decoder, search: str, sound: bytes, offset: float) -> list[Word]:
        """What one search makes of a sound; ``offset`` is where it begins in the recording."""
        try:
            decoder.activate_search(search)
            decoder.start_utt()
            decoder.process_raw(sound, no_search=False, full_utt=True)
            decoder.end_utt()
        except RuntimeError as error:
            raise EngineError(f"the recording could not be understood: {error}") from error
        if decoder.hyp() is None:
            return []
        return [
            Word(
                segment.word.partition("(")[0],
                offset + segment.start_frame / FRAMES_PER_SECOND,
                offset + (segment.end_frame + 1) / FRAMES_PER_SECOND,
                0.0,
            )
            for segment in decoder.seg()
            if segment.word[0] not in "<[+(" and segment.word != "SIL"
        ]


_DICTATION = "_default"
"""The search that a decoder has from its language model."""


def speech_span(samples: Samples) -> tuple[int, int, float]:
    """Where somebody speaks: first sample, end (both padded), and seconds of speech in between.

    WebRTC's detector, in its strictest mode.
    """
    detector = Vad(Vad.STRICT, RATE, 0.03)
    size = detector.frame_bytes // 2
    peak = max(float(np.abs(samples).max()), 1e-3)
    # As loud as it can be, but a whisper at most thirtyfold: silence must not become noise.
    scaled = (samples * min(_FULL_SCALE * 0.7 / peak, _FULL_SCALE * 30)).astype("<i2")
    voiced = [
        at
        for at in range(0, scaled.size - size + 1, size)
        if detector.is_speech(scaled[at : at + size].tobytes())
    ]
    if not voiced:
        return 0, 0, 0.0
    pad = int(PADDING * RATE)
    spoken = len(voiced) * size / RATE
    return max(0, voiced[0] - pad), min(samples.size, voiced[-1] + size + pad), spoken


def _phones(decoder: Decoder, word: Word) -> list[str]:
    return (decoder.lookup_word(word.text) or "").split()


def _silent(_: SpeechProgress) -> None:
    """For a caller that did not ask to be told."""
