"""Painters to try the measures of the pocket model on: one that obeys, one that does not."""

from collections.abc import Callable, Mapping
from typing import Any

import cv2
import numpy as np

from dreamrelay.engines.prompt_grammar import parse, plain_text
from training.grain import seeded_grain
from training.prompts import COLOUR_WORDS, MOOD_WORDS, STYLE_WORDS
from training.stylise import Look, Picture, abstract, stylise

_KNOWN = sorted(
    (
        (word, kind, key)
        for kind, table in (("s", STYLE_WORDS), ("c", COLOUR_WORDS), ("m", MOOD_WORDS))
        for key, words in table.items()
        for word in words
    ),
    key=lambda known: -len(known[0]),
)


def read_look(prompt: str) -> Look:
    """The look of a prompt: its words looked up, the longest first, the others skipped."""
    left = f" {prompt.lower().replace(',', ' , ')} "
    at: dict[int, tuple[str, str]] = {}
    for word, kind, key in _KNOWN:
        while (place := left.find(f" {word} ")) >= 0:
            at[place] = (kind, key)
            left = left[: place + 1] + "_" * len(word) + left[place + 1 + len(word) :]
    found = [at[place] for place in sorted(at)]
    styles = [key for kind, key in found if kind == "s"]
    colours = tuple(key for kind, key in found if kind == "c")[:2]
    moods = tuple(key for kind, key in found if kind == "m")[:1]
    return Look(styles[-1] if styles else "photo", colours, moods)


class Obedient:
    """Paints the reference stylisation itself, a little blurred and under a little noise."""

    def __init__(self, blur: float = 0.5, noise: float = 0.02) -> None:
        self._blur, self._noise = blur, noise
        self.read: Callable[[str], Look] = read_look

    def __call__(self, picture: Picture, prompt: str, strength: float, seed: int, /) -> Picture:
        grain = seeded_grain(seed, *picture.shape[:2])
        bold = float(np.clip((strength - 0.55) / 0.45, 0, 1))
        full = stylise(abstract(picture, bold, grain), grain, self.read(prompt))
        if self._blur:
            full = np.asarray(cv2.GaussianBlur(full, (0, 0), self._blur), np.float32)
        share = min(strength / 0.42, 1.0)
        rng = np.random.default_rng(5)
        noise = rng.normal(0, self._noise, picture.shape) if self._noise else 0
        return np.clip(picture + (full - picture + noise) * share, 0, 1).astype(np.float32)


class Deaf(Obedient):
    """Paints well, but always the same, whatever is asked of it."""

    def __init__(self) -> None:
        super().__init__()
        self.read = lambda prompt: Look("watercolor", ("blue",))


def ask_obedient(picture: Picture, patch: Mapping[str, Any]) -> Picture:
    """:class:`Obedient` as an engine: weights, blends and negative prompts move its pixels."""
    paint = Obedient(0, 0)

    def see(text: str) -> Picture:
        return paint(picture, text, 0.5, 0)

    plain = see("")

    def towards(text: str) -> Picture:
        parts = parse(text)
        return (see(plain_text(parts)) - plain) * max((part.weight for part in parts), default=1)

    wishes = patch.get("prompts") or [{"text": patch.get("prompt", ""), "weight": 1}]
    out = plain + sum(towards(wish["text"]) * wish["weight"] for wish in wishes)
    away = 0.5 * towards(patch.get("negative_prompt", ""))
    return np.asarray(np.clip(out - away, 0, 1), np.float32)
