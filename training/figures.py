"""The figures of the pocket model: plain numbers, as JSON and as tables for people."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import pairwise
from typing import Any, ClassVar

import numpy as np

LEVELS = 255.0  # small errors are told in steps of eight bits
GOALS = {"styles": 0.75, "colours": 0.9, "moods": 0.75}
STEADY_GOAL = 1.3


class _Plain:
    """Figures that can be kept as JSON."""

    def to_json(self) -> dict[str, Any]:
        """Plain numbers, texts, lists and dictionaries; numbers rounded to four digits."""
        plain: dict[str, Any] = _rounded(asdict(self))  # type: ignore[call-overload]
        return plain


def _rounded(value: Any) -> Any:
    if isinstance(value, float):
        return round(value, 4)
    if isinstance(value, dict):
        return {name: _rounded(part) for name, part in value.items()}
    if isinstance(value, list | tuple):
        return [_rounded(part) for part in value]
    return value


@dataclass(frozen=True)
class Wish(_Plain):
    """One prompt, asked of every picture.

    `margin` is the mean of the distance to the nearest other reference over the distance to the
    asked one: above 1 the right one is nearest. `taken_for` holds a name for each miss.
    """

    prompt: str
    asked: int
    right: int
    right_lab: int
    error: float
    margin: float
    rival: str
    taken_for: tuple[str, ...]


@dataclass(frozen=True)
class Obedience(_Plain):
    """One axis: every wish of it on every picture.

    `right` is judged by pixels, `right_lab` by 4 x 4 means in Lab; `error` is the mean distance to
    the asked reference, 0..1.
    """

    axis: str
    pictures: tuple[str, ...]
    wishes: tuple[Wish, ...]

    @property
    def asked(self) -> int:
        return sum(wish.asked for wish in self.wishes)

    @property
    def right(self) -> int:
        return sum(wish.right for wish in self.wishes)

    @property
    def top1(self) -> float:
        """Share of the questions whose asked reference was the nearest in pixels."""
        return self.right / max(self.asked, 1)

    @property
    def top1_lab(self) -> float:
        """The same by 4 x 4 means in Lab."""
        return sum(wish.right_lab for wish in self.wishes) / max(self.asked, 1)

    @property
    def error(self) -> float:
        return float(np.mean([wish.error for wish in self.wishes]))

    @property
    def confused(self) -> list[str]:
        """Who is taken for whom, "oil painting as impasto (2)", most often first."""
        pairs: dict[str, int] = {}
        for wish in self.wishes:
            for other in wish.taken_for:
                name = f"{wish.prompt} as {other}"
                pairs[name] = pairs.get(name, 0) + 1
        return [f"{name} ({count})" for name, count in sorted(pairs.items(), key=lambda p: -p[1])]

    def to_json(self) -> dict[str, Any]:
        extra = {
            "right": self.right,
            "asked": self.asked,
            "top1": self.top1,
            "top1_lab": self.top1_lab,
            "error": self.error,
            "confused": self.confused,
        }
        return {**super().to_json(), **_rounded(extra)}

    def table(self) -> str:
        """One line for each wish, the weakest first."""
        goal = GOALS.get(self.axis.split()[0])
        lines = [
            f"{self.axis}: {self.right} of {self.asked} nearest to what was asked"
            f" ({self.top1:.3f}{f', goal {goal}' if goal else ''}; Lab blocks {self.top1_lab:.3f}),"
            f" mean error {self.error:.4f}",
            _row("prompt", ["right", "margin", "error"], "nearest other / taken for"),
        ]
        for wish in sorted(self.wishes, key=lambda w: w.margin):
            cells = [f"{wish.right}/{wish.asked}", f"{wish.margin:.2f}", f"{wish.error:.4f}"]
            missed = ", ".join(wish.taken_for)
            lines.append(
                _row(wish.prompt, cells, f"{wish.rival}{f' / {missed}' if missed else ''}")
            )
        return "\n".join(lines)


class Row(_Plain):
    """One line of a table."""

    TITLE: ClassVar[str]
    FIRST: ClassVar[str] = "prompt"
    COLUMNS: ClassVar[Sequence[str]] = ()

    def line(self) -> str:
        """The line, under `COLUMNS`."""
        raise NotImplementedError


def table(rows: Sequence[Row]) -> str:
    """Title, columns and lines; empty without lines."""
    if not rows:
        return ""
    kind = type(rows[0])
    return "\n".join([kind.TITLE, _row(kind.FIRST, kind.COLUMNS), *(row.line() for row in rows)])


def _row(name: str, cells: Sequence[str], note: str = "") -> str:
    return (
        f"  {name or '(no prompt)':<30}{''.join(f'{cell:>11}' for cell in cells)}  {note}".rstrip()
    )


def _numbers(form: str, *values: float) -> list[str]:
    return [format(value, form) for value in values]


@dataclass(frozen=True)
class Kept(Row):
    """Structure of the input in the output of a style, means over the pictures; 1 is all of it."""

    TITLE = "structure of the input kept at the default strength (1 is all)"
    FIRST = "style"
    COLUMNS = ("edges", "reference", "SSIM", "reference")

    style: str
    edges: float
    edges_reference: float
    ssim: float
    ssim_reference: float

    def line(self) -> str:
        numbers = (self.edges, self.edges_reference, self.ssim, self.ssim_reference)
        return _row(self.style, _numbers(".3f", *numbers))


@dataclass(frozen=True)
class Steadiness(Row):
    """Change from frame to frame over that of the input, for one prompt; 1 is as the input.

    `still` is the same before a camera that does not move, whose sensor noise is all there is.
    """

    TITLE = f"change from frame to frame over that of the input (goal {STEADY_GOAL})"
    COLUMNS = ("moving", "reference", "still", "reference")

    prompt: str
    moving: float
    moving_reference: float
    still: float
    still_reference: float

    def line(self) -> str:
        numbers = (self.moving, self.moving_reference, self.still, self.still_reference)
        return _row(self.prompt, _numbers(".2f", *numbers))


@dataclass(frozen=True)
class Artefacts(Row):
    """What stands on a field without texture, in steps of 1/255; the reference's own beside it.

    `grid8`, `grid16` are the spread of what repeats every 8 and every 16 pixels, over what would
    repeat by chance; `noise` the spread of what is finer than sigma 1.5; `identity` the mean
    absolute difference from the input at strength 0.
    """

    TITLE = "on fields without texture, in 1/255 (grids: what repeats beyond chance)"
    FIRST = "prompt, field"
    COLUMNS = ("grid 8", "reference", "grid 16", "reference", "noise", "reference", "at 0")

    prompt: str
    field: str
    grid8: float
    grid8_reference: float
    grid16: float
    grid16_reference: float
    noise: float
    noise_reference: float
    identity: float

    def line(self) -> str:
        grids = (self.grid8, self.grid8_reference, self.grid16, self.grid16_reference)
        numbers = (*grids, self.noise, self.noise_reference, self.identity)
        return _row(f"{self.prompt or '(no prompt)'}, {self.field}", _numbers(".2f", *numbers))


@dataclass(frozen=True)
class Strength(Row):
    """Distance from the input over the strengths 0, 0.1 .. 1 for one prompt.

    `dip` is the largest fall from one strength to a later one, 0 if it only rises.
    """

    TITLE = "distance from the input by strength"
    COLUMNS = (*(f"{n / 10:.1f}" for n in range(11)), "dip")

    prompt: str
    distances: tuple[float, ...]

    @property
    def dip(self) -> float:
        highest = np.maximum.accumulate(self.distances)
        return float((highest - self.distances).max())

    def to_json(self) -> dict[str, Any]:
        return {**super().to_json(), **_rounded({"dip": self.dip})}

    def line(self) -> str:
        return _row(self.prompt, _numbers(".3f", *self.distances, self.dip))


@dataclass(frozen=True)
class Seeds(Row):
    """Two seeds under one prompt: mean absolute difference of what is finer than sigma 6, and of
    what is left blurred by it, in steps of 1/255; the reference's beside it."""

    TITLE = "two seeds differ by, in 1/255"
    COLUMNS = ("texture", "reference", "content", "reference")

    prompt: str
    texture: float
    texture_reference: float
    content: float
    content_reference: float

    def line(self) -> str:
        fine, soft = (self.texture, self.texture_reference), (self.content, self.content_reference)
        return _row(self.prompt, _numbers(".2f", *fine, *soft))


@dataclass(frozen=True)
class Pull(Row):
    """How far patches of parameters go towards the picture of a word.

    0 is the picture without the word, 1 with it at weight 1, below 0 away from it. `rises` says
    whether each patch goes farther than the one before.
    """

    TITLE = "how far towards a word (1: the word as it is; below 0: away from it)"
    FIRST = "word"

    word: str
    patches: tuple[str, ...]
    amounts: tuple[float, ...]

    @property
    def rises(self) -> bool:
        return all(b > a for a, b in pairwise(self.amounts))

    def to_json(self) -> dict[str, Any]:
        return {**super().to_json(), "rises": self.rises}

    def line(self) -> str:
        pairs = zip(self.patches, self.amounts, strict=True)
        return _row(self.word, [], "; ".join(f"{name} {amount:.2f}" for name, amount in pairs))


@dataclass(frozen=True)
class Grammar(_Plain):
    """How words act beside each other.

    `stranger` is the mean share of a word's effect that strange words around it change, and
    `strangers_alone` what strange words do by themselves over the effect of a known word; `order`
    the share that the order of the words changes. Synonyms are right where the output is nearest to
    that of their own first word among the first words of their axis.
    """

    stranger: float
    strangers_alone: float
    order: float
    synonyms_asked: int
    synonyms_right: int
    synonyms_missed: tuple[str, ...]

    def table(self) -> str:
        """Four lines."""
        missed = f"; {', '.join(self.synonyms_missed)}" if self.synonyms_missed else ""
        return "\n".join(
            [
                "words: shares of the effect of a known word",
                f"  strange words beside it change {self.stranger:.3f}",
                f"  strange words alone do {self.strangers_alone:.3f}",
                f"  another order changes {self.order:.3f}",
                f"  synonyms nearest to their first word: {self.synonyms_right} of"
                f" {self.synonyms_asked}{missed}",
            ]
        )


@dataclass(frozen=True)
class Figures:
    """All of it."""

    obedience: Mapping[str, Obedience]
    kept: tuple[Kept, ...]
    steadiness: tuple[Steadiness, ...]
    artefacts: tuple[Artefacts, ...]
    strength: tuple[Strength, ...]
    seeds: tuple[Seeds, ...]
    grammar: Grammar
    pulls: tuple[Pull, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """Everything, as JSON would have it."""
        lists = ("kept", "steadiness", "artefacts", "strength", "seeds", "pulls")
        return {
            "summary": self.summary(),
            "obedience": {name: axis.to_json() for name, axis in self.obedience.items()},
            **{name: [part.to_json() for part in getattr(self, name)] for name in lists},
            "grammar": self.grammar.to_json(),
        }

    def summary(self) -> dict[str, Any]:
        """The few numbers for a model card, a baseline, a README."""
        figures: dict[str, Any] = {}
        for name, axis in self.obedience.items():
            key = name.replace(" ", "_")
            figures[key] = f"{axis.right} of {axis.asked}"
            figures[f"{key}_top1"] = axis.top1
            figures[f"{key}_top1_lab"] = axis.top1_lab
            figures[f"{key}_error"] = axis.error
            figures[f"{key}_missed"] = axis.confused
        photos = [a for a in self.artefacts if a.prompt == ""]
        figures |= {
            "ssim": _mean([kept.ssim for kept in self.kept]),
            "ssim_reference": _mean([kept.ssim_reference for kept in self.kept]),
            "edges": _mean([kept.edges for kept in self.kept]),
            "edges_reference": _mean([kept.edges_reference for kept in self.kept]),
            "steadiness": _mean([steady.moving for steady in self.steadiness]),
            "steadiness_reference": _mean([s.moving_reference for s in self.steadiness]),
            "steadiness_worst": max((steady.moving for steady in self.steadiness), default=0.0),
            "steady_prompts": f"{sum(s.moving <= STEADY_GOAL for s in self.steadiness)}"
            f" of {len(self.steadiness)}",
            "grid8": max((a.grid8 for a in photos), default=0.0),
            "grid16": max((a.grid16 for a in photos), default=0.0),
            "noise": max((a.noise for a in photos), default=0.0),
            "identity_error": _mean([a.identity for a in self.artefacts]) / LEVELS,
            "strength_dip": max((curve.dip for curve in self.strength), default=0.0),
            "synonyms": f"{self.grammar.synonyms_right} of {self.grammar.synonyms_asked}",
            "strangers": self.grammar.stranger,
            "strangers_alone": self.grammar.strangers_alone,
        }
        rounded: dict[str, Any] = _rounded(figures)
        return rounded

    def table(self) -> str:
        """Everything, for people."""
        lists = (self.kept, self.steadiness, self.artefacts, self.strength, self.seeds, self.pulls)
        parts = [
            *(axis.table() for axis in self.obedience.values()),
            *(table(rows) for rows in lists),
            self.grammar.table(),
        ]
        return "\n\n".join(part for part in parts if part)


def _mean(values: Sequence[float]) -> float:
    return float(np.mean(values)) if values else 0.0
