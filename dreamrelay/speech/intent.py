"""What a spoken text asks for: a prompt, unless it is a command. Standard library only."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Literal

ActionName = Literal[
    "nothing", "prompt", "add", "start", "stop", "black", "picture", "preset", "seed", "reset"
]


@dataclass(frozen=True, slots=True)
class Action:
    """What to do.

    Attributes:
        name: ``prompt`` replaces the prompt by ``text``, ``add`` puts ``text`` behind it; ``black``
            and ``picture`` are the projector's black and back; ``preset`` has a ``number`` 1..9;
            ``seed`` asks for other noise, ``reset`` for the model's own values.
    """

    name: ActionName
    text: str = ""
    number: int | None = None


COMMANDS: Mapping[str, ActionName] = MappingProxyType(
    {
        "start": "start",
        "stop": "stop",
        "black": "black",
        "blackout": "black",
        "black out": "black",
        "picture": "picture",
        "new seed": "seed",
        "random seed": "seed",
        "reset": "reset",
    }
)
"""What is said alone, and what it means. A prompt of just these words: "prompt black"."""

NUMBERS = ("one", "two", "three", "four", "five", "six", "seven", "eight", "nine")

_PREFIXES: Mapping[str, ActionName] = MappingProxyType({"prompt": "prompt", "add": "add"})
_PRESET = re.compile(rf"preset (?:number )?(?P<number>[1-9]|{'|'.join(NUMBERS)})")
_MARKS = re.compile(r"[^\w\s'-]+")


def understand(text: str) -> Action:
    """Read a spoken text: commands by their whole text, all else is a prompt.

    Case, punctuation and spaces do not matter to commands ("Stop." is one); a prompt keeps them,
    without the full stop that writing machines add.
    """
    said = " ".join(text.split())
    plain = " ".join(_MARKS.sub(" ", said).lower().split())
    if not plain:
        return Action("nothing")
    if plain in COMMANDS:
        return Action(COMMANDS[plain])
    preset = _PRESET.fullmatch(plain)
    if preset is not None:
        number = preset["number"]
        return Action(
            "preset", number=int(number) if number.isdecimal() else NUMBERS.index(number) + 1
        )
    prompt = _without_stop(said)
    for word, name in _PREFIXES.items():
        begin = re.match(rf"{word}\b[\s,:.]*", prompt, re.IGNORECASE)
        if begin is not None:
            rest = prompt[begin.end() :]
            return Action(name, rest) if _MARKS.sub("", rest).strip() else Action("nothing")
    return Action("prompt", prompt)


def _without_stop(text: str) -> str:
    """A sentence without its full stop; three dots are meant."""
    return text[:-1].rstrip() if text.endswith((".", "。")) and not text.endswith("..") else text
