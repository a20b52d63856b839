"""How well the offline engine hears what lies in ``spoken/``: the figures of docs/voice.md.

python -m tests.speech.measure
"""

import sys
import time

from dreamrelay.engines import EngineSettings, open_engine
from dreamrelay.speech import Speech, open_speech
from tests.speech.make_spoken import COMMANDS, OTHER, PROMPTS, VOICES, spoken


def main() -> int:
    words = pocket_words()
    engine = open_speech("offline")
    engine.load(lambda _: None)
    begin = time.process_time()
    seconds = 0.0
    for kind, texts in (("commands", COMMANDS), ("prompts", PROMPTS), ("other talk", OTHER)):
        right, wrong, length = heard(engine, texts, words, meant=texts is not OTHER)
        seconds += length
        count = len(texts) * len(VOICES)
        nothing = count - right - wrong if texts is not OTHER else right
        say(f"{kind}: {count} recordings, {right} right, {nothing} nothing, {wrong} something else")
    spent = (time.process_time() - begin) / seconds
    say(f"{spent:.2f} s of one core for each second, with {len(words)} phrases")
    return 0


def heard(
    engine: Speech, texts: tuple[str, ...], words: list[str], *, meant: bool
) -> tuple[int, int, float]:
    """How many were right, how many something else, and their seconds."""
    right = wrong = 0
    seconds = 0.0
    for voice in VOICES:
        for text in texts:
            found = engine.transcribe(spoken(voice, text), words)
            seconds += found.seconds
            right += found.text == (text if meant else "")
            if found.text not in ("", text if meant else ""):
                wrong += 1
                say(f"  {voice}: {text!r} was heard as {found.text!r}")
    return right, wrong, seconds


def pocket_words() -> list[str]:
    """The phrases that the pocket model knows, as its worker publishes them."""
    engine = open_engine(EngineSettings(model="pocket"))
    engine.load(lambda _: None)
    kinds = engine.schema()["x-vocabulary"]
    engine.close()
    return [phrase for phrases in kinds.values() for phrase in phrases]


def say(text: str) -> None:
    sys.stdout.write(f"{text}\n")


if __name__ == "__main__":
    sys.exit(main())
