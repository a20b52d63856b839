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


def units(words: Sequence[Word], listened: Iterable[str]) -> list[list[Word]]:
    """Split a reading into what belongs together: one command, or prefix, phrases and links.

    The engine may have stopped in the middle of a phrase; what is no whole phrase is left out.
    """
    texts = [word.text for word in words]
    while texts and texts[-1] in LINKS:  # it breathed out
        texts.pop()
    words = words[: len(texts)]
    text = " ".join(texts)
    if text in COMMANDS or _PRESET.fullmatch(text):
        return [list(words)]
    known = {tuple(phrase.split()) for phrase in listened}
    longest = max(map(len, known), default=0)
    found: list[list[Word]] = []
    at = 0
    while at < len(words):
        # The longest first: "black and white" is one.
        sizes = range(longest, 0, -1)
        size = next((n for n in sizes if tuple(texts[at : at + n]) in known), 0)
        alone = texts[at] in LINKS or (at == 0 and texts[at] in PREFIXES)
        if size or alone:
            found.append(list(words[at : at + max(size, 1)]))
        at += max(size, 1)
    return found


def joined(units: Iterable[Sequence[Word]]) -> list[Word]:
    """The words of those units that were really said; a link needs a phrase on both sides, a
    prefix one behind it.
    """
    words: list[Word] = []
    waiting: list[Word] = []
    phrases = False
    for unit in units:
        first = unit[0].text
        if len(unit) == 1 and first in PREFIXES:
            waiting = list(unit)
        elif len(unit) == 1 and first in LINKS:
            waiting = list(unit) if phrases else waiting
        else:
            words += [*waiting, *unit]
            waiting, phrases = [], True
    return words
