"""The grammar of the offline engine: the commands, and phrases that a model knows.

Standard library only. JSGF is the format that speech engines read grammars in.
"""

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from types import MappingProxyType

from dreamrelay.speech.intent import COMMANDS, NUMBERS
from dreamrelay.speech.ports import Word

NAME = "said"

_PRESET = re.compile(rf"preset (number )?({'|'.join(NUMBERS)})")

MOST_PHRASES = 400
"""More than these are not listened for: each costs time, and looks more like another."""

LINKS = ("and", "with")
"""May stand between two phrases."""

PREFIXES = ("prompt", "add")

PRONUNCIATIONS: Mapping[str, str] = MappingProxyType(
    {
        "blackout": "B L AE K AW T",
        "chiaroscuro": "K Y AA R AH S K Y UH R OW",
        "cyberpunk": "S AY B ER P AH NG K",
        "halftone": "HH AE F T OW N",
        "impasto": "IH M P AA S T OW",
        "pointillism": "P W AE N T IH L IH Z AH M",
        "steampunk": "S T IY M P AH NG K",
        "ukiyo-e": "UW K IY Y OW EY",
        "vaporwave": "V EY P ER W EY V",
        "watercolour": "W AO T ER K AH L ER",
        "woodcut": "W UH D K AH T",
    }
)
"""Words of art that the engine's dictionary lacks, in its phones (ARPAbet)."""


def phrases(vocabulary: Iterable[str], known: Callable[[str], bool]) -> tuple[str, ...]:
    """The phrases that can be listened for: lower case, each once, of known words alone."""
    found: dict[str, None] = {}
    for phrase in vocabulary:
        words = re.findall(r"[a-z'-]+", phrase.lower())
        if words and " ".join(words) == " ".join(phrase.lower().split()) and all(map(known, words)):
            found[" ".join(words)] = None
        if len(found) == MOST_PHRASES:
            break
    return tuple(found)


def jsgf(listened: Sequence[str]) -> str:
    """The grammar as text: one command, or one to any number of phrases."""
    commands = " | ".join((*COMMANDS, "preset [number] <number>"))
    rules = [
        "#JSGF V1.0;",
        f"grammar {NAME};",
        f"<number> = {' | '.join(NUMBERS)};",
        f"<command> = {commands};",
    ]
    if listened:
        rules += [
            f"<phrase> = {' | '.join(listened)};",
            f"<prompt> = [{' | '.join(PREFIXES)}] <phrase> ([{' | '.join(LINKS)}] <phrase>)*;",
            "public <heard> = <command> | <prompt>;",
        ]
    else:
        rules.append("public <heard> = <command>;")
    return "\n".join(rules) + "\n"


def complete(words: Sequence[Word], listened: Iterable[str]) -> list[Word]:
    """What of some words makes sense: one command, or phrases with what links them.

    The engine may have stopped in the middle of a phrase, and words that nobody said were taken
    out. "preset" is nothing without its number; "stained" is nothing, "stained glass" is.
    """
    texts = [word.text for word in words]
    text = " ".join(texts)
    if text in COMMANDS or _PRESET.fullmatch(text):
        return list(words)
    known = {tuple(phrase.split()) for phrase in listened}
    longest = max(map(len, known), default=0)
    prefix = 1 if texts and texts[0] in PREFIXES else 0
    kept: list[Word] = []
    link: list[Word] = []
    at = prefix
    while at < len(words):
        # The longest first: "black and white" is one.
        sizes = range(longest, 0, -1)
        size = next((n for n in sizes if tuple(texts[at : at + n]) in known), 0)
        if size:
            kept += [*(link if kept else []), *words[at : at + size]]
            link = []
        elif texts[at] in LINKS:
            link = [words[at]]
        at += size or 1
    return [*words[:prefix], *kept] if kept else []
