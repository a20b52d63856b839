"""Weights inside a prompt, as people type them: ``a (red:1.3) oil painting, [people]``.

``(words)`` pulls 1.1 times as hard, ``[words]`` 1.1 times less, ``(words:1.3)`` as hard as it says;
nested brackets multiply; a backslash makes a bracket plain. Every text is a prompt: what does not
pair up, or says no number, is plain text. Standard library only.
"""

import re
from typing import NamedTuple

STEP = 1.1
HEAVIEST = 4.0

_CLOSING = {"(": ")", "[": "]"}
_OPENING = {")": "(", "]": "["}
_NUMBER = re.compile(r"\s*[+-]?(\d{1,6}(\.\d{0,6})?|\.\d{1,6})\s*")


class Part(NamedTuple):
    """A piece of a prompt and how hard it is to pull; 1 is plain, 0 as if it were not there."""

    text: str
    weight: float


def parse(text: str) -> tuple[Part, ...]:
    """Split a prompt into its parts; neighbours differ in weight, none is empty."""
    pairs = _pairs(text)
    parts: list[Part] = []
    plain: list[str] = []
    weights = [1.0]
    ends: list[tuple[int, int]] = []  # of the open groups: of the words, and the closing bracket

    def flush() -> None:
        words = "".join(plain)
        plain.clear()
        weight = min(weights[-1], HEAVIEST)
        if words and parts and parts[-1].weight == weight:
            parts[-1] = Part(parts[-1].text + words, weight)
        elif words:
            parts.append(Part(words, weight))

    at = 0
    while at < len(text):
        if ends and at == ends[-1][0]:
            flush()
            weights.pop()
            at = ends.pop()[1] + 1
            continue
        letter = text[at]
        if letter in _CLOSING and at in pairs:
            flush()
            factor, end = _weight(text, at, pairs[at])
            # Not beyond reason while it multiplies: a thousand brackets would be infinite.
            weights.append(min(max(weights[-1] * factor, 0.0), 1e6))
            ends.append((end, pairs[at]))
        elif letter == "\\" and text[at + 1 : at + 2] in ("(", ")", "[", "]", "\\"):
            at += 1
            plain.append(text[at])
        else:
            plain.append(letter)
        at += 1
    flush()
    return tuple(parts)


def plain_text(parts: tuple[Part, ...]) -> str:
    """The words of a prompt without its weights."""
    return "".join(part.text for part in parts)


def _pairs(text: str) -> dict[int, int]:
    """The brackets that belong together: where one opens to where it closes."""
    pairs: dict[int, int] = {}
    waiting: list[int] = []
    at = 0
    while at < len(text):
        letter = text[at]
        if letter == "\\":
            at += 1
        elif letter in _CLOSING:
            waiting.append(at)
        elif letter in _OPENING:
            match = next(
                (i for i in reversed(range(len(waiting))) if text[waiting[i]] == _OPENING[letter]),
                None,
            )
            if match is not None:
                pairs[waiting[match]] = at
                del waiting[match:]  # what stood open inside is plain
        at += 1
    return pairs


def _weight(text: str, start: int, end: int) -> tuple[float, int]:
    """What a group multiplies by, and where its words end."""
    if text[start] == "[":
        return 1 / STEP, end
    colon = text.rfind(":", start + 1, end)
    if colon >= 0 and _NUMBER.fullmatch(text, colon + 1, end):
        return float(text[colon + 1 : end]), colon
    return STEP, end
