"""The offline engine on real synthesised speech (Flite's voices, see ``make_spoken``)."""

import numpy as np
import pytest

from dreamrelay.errors import ProtocolError
from dreamrelay.speech import Speech, open_speech, understand
from dreamrelay.speech.audio import RATE
from tests.speech.make_spoken import spoken
from tests.speech.sounds import noise, tone, wav

VOCABULARY = (
    *("photo", "pencil sketch", "charcoal", "watercolor", "oil painting", "impasto", "mosaic"),
    *("stained glass", "neon", "pixel art", "red", "gold", "green", "blue", "pink", "purple"),
    *("black and white", "dark", "light", "night", "winter", "foggy", "vivid", "pastel"),
)


@pytest.fixture(scope="module")
def engine() -> Speech:
    speech = open_speech("offline")
    speech.load(lambda _: None)
    return speech


# Of the 45 recordings of the folder all but two are understood (docs/voice.md); these are some.
@pytest.mark.parametrize(
    ("voice", "text"),
    [
        ("slt", "start"),
        ("rms", "stop"),
        ("awb", "black"),
        ("rms", "preset three"),
        ("awb", "preset nine"),
        ("slt", "oil painting"),
        ("rms", "watercolor"),
        ("awb", "dark winter night"),
    ],
)
def test_commands_and_words_of_the_model(engine: Speech, voice: str, text: str) -> None:
    heard = engine.transcribe(spoken(voice, text), VOCABULARY)
    assert heard.text == text
    assert heard.confidence >= 0.5
    assert [word.text for word in heard.words] == text.split()
    times = [moment for word in heard.words for moment in (word.start, word.end)]
    assert times == sorted(times)
    assert 0 < times[0] < times[-1] <= heard.seconds
    assert 0 < heard.spoken < heard.seconds


@pytest.mark.parametrize(
    ("voice", "text"),
    [
        ("slt", "can you hear me now"),
        ("rms", "the weather is nice today"),
        ("awb", "hello everybody how are you"),
    ],
)
def test_talk_about_other_things_is_nothing(engine: Speech, voice: str, text: str) -> None:
    heard = engine.transcribe(spoken(voice, text), VOCABULARY)
    assert heard.text == ""
    assert heard.confidence < 0.5
    assert heard.spoken > 0.5  # somebody spoke, though


def test_the_grammar_follows_the_vocabulary(engine: Speech) -> None:
    said = spoken("slt", "oil painting")
    assert engine.transcribe(said, ()).text == ""
    assert engine.transcribe(said, ("oil painting",)).text == "oil painting"
    assert engine.transcribe(said, ()).text == ""


def test_from_sound_to_action(engine: Speech) -> None:
    action = understand(engine.transcribe(spoken("rms", "preset three"), VOCABULARY).text)
    assert (action.name, action.number) == ("preset", 3)


@pytest.mark.parametrize(
    "samples",
    [
        np.zeros(RATE, np.float32),
        noise(1.0, RATE, 0.001),
        noise(1.0, RATE, 0.2),
        tone(440, 1.0, RATE),
        tone(440, 0.01, RATE),
    ],
    ids=["silence", "hiss", "noise", "tone", "click"],
)
def test_what_is_no_speech_is_nothing(engine: Speech, samples: np.ndarray) -> None:
    assert engine.transcribe(wav(samples, RATE), VOCABULARY).text == ""


def test_what_is_no_recording_is_refused(engine: Speech) -> None:
    with pytest.raises(ProtocolError, match="expected a recording"):
        engine.transcribe(b"hello", VOCABULARY)


def test_what_was_said_before_has_no_influence(engine: Speech) -> None:
    said = spoken("awb", "black")
    first = engine.transcribe(said, VOCABULARY)
    engine.transcribe(spoken("slt", "can you hear me now"), VOCABULARY)
    assert engine.transcribe(said, VOCABULARY) == first
