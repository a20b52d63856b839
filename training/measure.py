"""What the pocket model obeys, keeps and leaves behind, measured without a classifier.

The judge is the reference stylisation (`training/stylise.py`): what a prompt names must come out
nearer to the reference of that prompt than to the reference of any other of its kind. All pictures
are float32 H x W x 3, RGB in 0..1; `seed` gives the references the texture that the model gets.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Protocol

import cv2
import numpy as np
from numpy.typing import NDArray

from dreamrelay.engines.ports import Engine
from training import scenes
from training.brushes import Picture, luminance
from training.figures import (
    LEVELS,
    Artefacts,
    Figures,
    Grammar,
    Kept,
    Obedience,
    Pull,
    Seeds,
    Steadiness,
    Strength,
    Wish,
)
from training.grain import seeded_grain
from training.prompts import COLOUR_WORDS, MOOD_WORDS, STYLE_WORDS
from training.stylise import Look, stylise

SIDE = 256
STRENGTH = 0.5  # the default of the model, at which a style is complete
SEED = 0
AXES = {"styles": STYLE_WORDS, "colours": COLOUR_WORDS, "moods": MOOD_WORDS}


class Paint(Protocol):
    """A model at work: one picture through it, H x W x 3 in and out."""

    def __call__(self, picture: Picture, prompt: str, strength: float, seed: int, /) -> Picture: ...


ALL_STYLES = tuple(Look(key) for key in STYLE_WORDS)

Ask = Callable[[Picture, Mapping[str, Any]], Picture]
"""One picture through an engine under a patch of its parameters."""

Say = Callable[[str], None]


def ask_engine(engine: Engine) -> Ask:
    """A loaded engine as :data:`Ask`; pictures must have its size."""

    def ask(picture: Picture, patch: Mapping[str, Any]) -> Picture:
        frame = np.asarray(np.round(np.clip(picture, 0, 1) * LEVELS), np.uint8)
        return np.asarray(engine.infer_once(frame, patch), np.float32) / np.float32(LEVELS)

    return ask


def paint_engine(engine: Engine) -> Paint:
    """A loaded engine as :class:`Paint`; what it is not told keeps the engine's values."""
    ask = ask_engine(engine)

    def paint(picture: Picture, prompt: str, strength: float, seed: int, /) -> Picture:
        return ask(picture, {"prompt": prompt, "strength": strength, "seed": seed})

    return paint


# Words -------------------------------------------------------------------------------------------


def look_of(axis: str, key: str, base: Look | None = None) -> Look:
    """The look `base` (a plain photo) with its style, its colours or its mood replaced by `key`."""
    base = base or Look()
    if axis == "styles":
        return Look(key, base.colours, base.moods)
    if axis == "colours":
        return Look(base.style, (key,), base.moods)
    return Look(base.style, base.colours, (key,))


def phrase(look: Look) -> str:
    """The look as a person types it: "red and gold oil painting, night"."""
    colours = " and ".join(COLOUR_WORDS[colour][0] for colour in look.colours)
    style = STYLE_WORDS[look.style][0]
    if look.style == "photo" and (look.colours or look.moods):
        style = ""
    moods = ", ".join(MOOD_WORDS[mood][0] for mood in look.moods)
    head = " ".join(part for part in (colours, style) if part)
    return ", ".join(part for part in (head, moods) if part)


def combinations(count: int, seed: int = 60) -> list[Look]:
    """`count` looks of a style with a colour, with two colours, with a mood, or with both."""
    rng = np.random.default_rng(seed)
    styles = [style for style in STYLE_WORDS if style != "photo"]
    order = [styles[i] for i in rng.permutation(len(styles))]
    looks = []
    for number in range(count):
        colours = tuple(str(c) for c in rng.choice(list(COLOUR_WORDS)[:10], 2, replace=False))
        mood = str(rng.choice(list(MOOD_WORDS)))
        kind = number % 4
        looks.append(
            Look(
                order[number % len(order)],
                () if kind == 2 else colours if kind == 1 else colours[:1],
                (mood,) if kind > 1 else (),
            )
        )
    return looks


# Distances ---------------------------------------------------------------------------------------


def distance(one: Picture, other: Picture) -> float:
    """Mean absolute difference of the pixels, 0..1."""
    return float(np.abs(one - other).mean())


def _lab_blocks(picture: Picture) -> NDArray[np.float32]:
    """Means of 4 x 4 pixels in CIE Lab, H/4 x W/4 x 3: colour without texture."""
    height, width = picture.shape[:2]
    small = cv2.resize(picture, (width // 4, height // 4), interpolation=cv2.INTER_AREA)
    return np.asarray(cv2.cvtColor(small, cv2.COLOR_RGB2Lab), np.float32)


def _blur(picture: NDArray[np.float32], sigma: float) -> NDArray[np.float32]:
    blurred = cv2.GaussianBlur(picture, (0, 0), sigma, borderType=cv2.BORDER_REFLECT)
    return np.asarray(blurred, np.float32)


def ssim(one: Picture, other: Picture) -> float:
    """Structural similarity of the luminances (Gaussian window, sigma 1.5), 1 is equal."""
    a, b = luminance(one), luminance(other)
    mean_a, mean_b = _blur(a, 1.5), _blur(b, 1.5)
    spread_a = _blur(a * a, 1.5) - mean_a**2
    spread_b = _blur(b * b, 1.5) - mean_b**2
    both = _blur(a * b, 1.5) - mean_a * mean_b
    c1, c2 = 0.01**2, 0.03**2
    top = (2 * mean_a * mean_b + c1) * (2 * both + c2)
    return float((top / ((mean_a**2 + mean_b**2 + c1) * (spread_a + spread_b + c2))).mean())


def edge_agreement(one: Picture, other: Picture) -> float:
    """Correlation of the edge strengths at sigma 2, whichever side is dark; 1 is equal."""
    maps = []
    for picture in (one, other):
        soft = _blur(luminance(picture), 2.0)
        strength = np.hypot(
            cv2.Sobel(soft, cv2.CV_32F, 1, 0), cv2.Sobel(soft, cv2.CV_32F, 0, 1)
        ).astype(np.float32)
        maps.append(strength - strength.mean())
    scale = float(np.sqrt((maps[0] ** 2).mean() * (maps[1] ** 2).mean()))
    return float((maps[0] * maps[1]).mean()) / scale if scale > 1e-9 else 0.0


# Measures ----------------------------------------------------------------------------------------


def _mean(values: Sequence[float]) -> float:
    return float(np.mean(values)) if values else 0.0


def obedience(
    paint: Paint,
    axis: str,
    *,
    pictures: Mapping[str, Picture] | None = None,
    side: int = SIDE,
    seed: int = SEED,
) -> Obedience:
    """Every word of an axis (`styles`, `colours`, `moods`) asked of every held-out picture."""
    pictures = pictures if pictures is not None else scenes.held_out(side)
    keys = list(AXES[axis])
    names = [AXES[axis][key][0] for key in keys]
    answers: list[list[_Answer]] = [[] for _ in keys]
    for picture in pictures.values():
        grain = seeded_grain(seed, *picture.shape[:2])
        references = [stylise(picture, grain, look_of(axis, key)) for key in keys]
        judge = _Judge(references)
        for index, name in enumerate(names):
            answers[index].append(judge.answer(paint(picture, name, STRENGTH, seed), index))
    wishes = [_wish(name, answer, names) for name, answer in zip(names, answers, strict=True)]
    return Obedience(axis, tuple(pictures), tuple(wishes))


def joint_obedience(
    paint: Paint, count: int = 60, *, side: int = SIDE, seed: int = SEED
) -> dict[str, Obedience]:
    """Prompts of several words, each axis of them judged with the others as asked.

    `count` combinations, each of one picture in turn. A second colour is judged too: the rivals of
    "red and gold" are red or gold with any other.
    """
    pictures = list(scenes.held_out(side).values())
    answers: dict[str, dict[str, tuple[list[str], list[_Answer]]]] = {}
    for number, look in enumerate(combinations(count)):
        picture = pictures[number % len(pictures)]
        grain = seeded_grain(seed, *picture.shape[:2])
        prompt = phrase(look)
        out = paint(picture, prompt, STRENGTH, seed)
        for axis, own, rivals in _rivals(look):
            judge = _Judge([stylise(picture, grain, rival) for rival in rivals.values()])
            index = list(rivals).index(own)
            words = list(rivals)
            kept = answers.setdefault(f"{axis} joint", {})
            kept.setdefault(f"{prompt}", (words, []))[1].append(judge.answer(out, index))
    return {
        axis: Obedience(
            axis,
            tuple(scenes.held_out(side)),
            tuple(_wish(prompt, answer, words) for prompt, (words, answer) in asked.items()),
        )
        for axis, asked in answers.items()
    }


def _rivals(look: Look) -> list[tuple[str, str, dict[str, Look]]]:
    """For each axis of the look: its name, its own word, and all looks that differ in it alone."""
    found = [
        (
            "styles",
            STYLE_WORDS[look.style][0],
            {w[0]: look_of("styles", k, look) for k, w in STYLE_WORDS.items()},
        )
    ]
    if look.colours:
        rest = look.colours[:-1]  # of two colours the second is in question
        rivals = {
            words[0]: Look(look.style, (*rest, colour), look.moods)
            for colour, words in COLOUR_WORDS.items()
            if colour not in rest
        }
        found.append(("colours", COLOUR_WORDS[look.colours[-1]][0], rivals))
    if look.moods:
        moods = {w[0]: look_of("moods", k, look) for k, w in MOOD_WORDS.items()}
        found.append(("moods", MOOD_WORDS[look.moods[0]][0], moods))
    return found


@dataclass(frozen=True)
class _Answer:
    nearest: int
    right: bool
    right_lab: bool
    error: float
    margin: float
    rival: int


class _Judge:
    """Compares outputs with the references of one picture."""

    def __init__(self, references: Sequence[Picture]) -> None:
        self._references = references
        self._blocks = [_lab_blocks(reference) for reference in references]

    def answer(self, out: Picture, asked: int) -> _Answer:
        gaps = np.array([distance(out, reference) for reference in self._references])
        blocks = _lab_blocks(out)
        gaps_lab = [float(np.abs(blocks - block).mean()) for block in self._blocks]
        others = gaps.copy()
        others[asked] = np.inf
        rival = int(np.argmin(others))
        return _Answer(
            nearest=int(np.argmin(gaps)),
            right=int(np.argmin(gaps)) == asked,
            right_lab=int(np.argmin(gaps_lab)) == asked,
            error=float(gaps[asked]),
            margin=float(min(others[rival] / max(gaps[asked], 1e-4), 99.0)),
            rival=rival,
        )


def _wish(prompt: str, answers: Sequence[_Answer], names: Sequence[str]) -> Wish:
    closest = min(answers, key=lambda answer: answer.margin)
    return Wish(
        prompt,
        asked=len(answers),
        right=sum(answer.right for answer in answers),
        right_lab=sum(answer.right_lab for answer in answers),
        error=_mean([answer.error for answer in answers]),
        margin=_mean([answer.margin for answer in answers]),
        rival=names[closest.rival],
        taken_for=tuple(names[answer.nearest] for answer in answers if not answer.right),
    )


def structure_kept(
    paint: Paint,
    *,
    pictures: Mapping[str, Picture] | None = None,
    styles: Sequence[str] = tuple(STYLE_WORDS),
    side: int = SIDE,
    seed: int = SEED,
) -> tuple[Kept, ...]:
    """Edges and SSIM of the outputs of every style against the inputs, means over the pictures."""
    pictures = pictures if pictures is not None else scenes.held_out(side)
    kept = []
    for style in styles:
        rows = []
        for picture in pictures.values():
            out = paint(picture, STYLE_WORDS[style][0], STRENGTH, seed)
            reference = stylise(picture, seeded_grain(seed, *picture.shape[:2]), Look(style))
            rows.append(
                (
                    edge_agreement(out, picture),
                    edge_agreement(reference, picture),
                    ssim(out, picture),
                    ssim(reference, picture),
                )
            )
        edges, edges_reference, alike, alike_reference = np.mean(rows, 0).tolist()
        kept.append(Kept(style, edges, edges_reference, alike, alike_reference))
    return tuple(kept)


def steadiness(
    paint: Paint,
    looks: Sequence[Look] = ALL_STYLES,
    *,
    frames: int = 12,
    side: int = SIDE,
    seed: int = SEED,
) -> tuple[Steadiness, ...]:
    """A moving clip and a still one under each look, at the default strength and one seed."""
    clips = (scenes.moving_clip(side, frames), scenes.still_clip(side, max(2, frames // 3)))
    moved = [_change(clip) for clip in clips]
    grain = seeded_grain(seed, side, side)
    found = []
    for look in looks:
        ratios = []
        for clip, own in zip(clips, moved, strict=True):
            painted = [paint(frame, phrase(look), STRENGTH, seed) for frame in clip]
            reference = [stylise(frame, grain, look) for frame in clip]
            ratios += [_change(painted) / own, _change(reference) / own]
        found.append(Steadiness(phrase(look), *ratios))
    return tuple(found)


def _change(clip: Sequence[Picture]) -> float:
    """Mean absolute difference of successive frames."""
    return _mean([distance(one, two) for one, two in pairwise(clip)])


def artefacts(
    paint: Paint,
    looks: Sequence[tuple[str, Look]] = (("", Look()), ("oil painting", Look("oil"))),
    *,
    side: int = SIDE,
    seed: int = SEED,
) -> tuple[Artefacts, ...]:
    """Seams, checkerboards and noise on fields that have none; side 128 or more."""
    grain = seeded_grain(seed, side, side)
    found = []
    for prompt, look in looks:
        for name, field in scenes.plain_fields(side).items():
            out, reference = paint(field, prompt, STRENGTH, seed), stylise(field, grain, look)
            identity = distance(paint(field, prompt, 0.0, seed), field) * LEVELS
            (eight, sixteen, noise), own = _plain(out), _plain(reference)
            found.append(
                Artefacts(
                    prompt, name, eight, own[0], sixteen, own[1], noise, own[2], identity=identity
                )
            )
    return tuple(found)


def _plain(picture: Picture) -> tuple[float, float, float]:
    """What repeats every 8 and every 16 pixels, and the fine noise, in 1/255."""
    border = 16
    rest = (picture - _blur(picture, 12.0))[border:-border, border:-border] * LEVELS
    fine = (picture - _blur(picture, 1.5))[border:-border, border:-border] * LEVELS
    eight = _folded(rest, 8)
    by_chance = (_folded(rest, 7).std() ** 2 + _folded(rest, 9).std() ** 2) / 2
    grid8 = max(float(eight.std() ** 2 - by_chance), 0.0) ** 0.5
    # What repeats every 16 without repeating every 8.
    sixteen = _folded(rest, 16) - np.tile(eight, (2, 2, 1))
    by_chance = (_folded(rest, 15).std() ** 2 + _folded(rest, 17).std() ** 2) / 2
    grid16 = max(float(sixteen.std() ** 2 - by_chance), 0.0) ** 0.5
    return grid8, grid16, float(fine.std())


def _folded(rest: NDArray[np.float32], period: int) -> NDArray[np.float32]:
    """The mean cell of period x period pixels x 3."""
    rows, columns = (edge // period for edge in rest.shape[:2])
    cells = rest[: rows * period, : columns * period].reshape(rows, period, columns, period, 3)
    return np.asarray(cells.mean((0, 2)), np.float32)


def strength_curve(
    paint: Paint,
    prompts: Sequence[str] = ("oil painting", "neon glow", "pencil sketch", "blue", "night"),
    *,
    picture: Picture | None = None,
    side: int = SIDE,
    seed: int = SEED,
) -> tuple[Strength, ...]:
    """Distance from the input at the strengths 0, 0.1 .. 1."""
    picture = picture if picture is not None else scenes.held_out(side)["cat"]
    return tuple(
        Strength(
            prompt,
            tuple(distance(paint(picture, prompt, n / 10, seed), picture) for n in range(11)),
        )
        for prompt in prompts
    )


def seeds_apart(
    paint: Paint,
    styles: Sequence[str] = ("photo", "watercolor", "oil", "impasto", "charcoal", "mosaic"),
    *,
    picture: Picture | None = None,
    side: int = SIDE,
    seeds: tuple[int, int] = (SEED, SEED + 1),
) -> tuple[Seeds, ...]:
    """How two seeds differ: in texture, and in content."""
    picture = picture if picture is not None else scenes.held_out(side)["face"]
    found = []
    for style in styles:
        prompt = "" if style == "photo" else STYLE_WORDS[style][0]
        numbers = []
        outs = [paint(picture, prompt, STRENGTH, seed) for seed in seeds]
        references = [
            stylise(picture, seeded_grain(seed, *picture.shape[:2]), Look(style)) for seed in seeds
        ]
        for one, two in (outs, references):
            soft_one, soft_two = _blur(one, 6.0), _blur(two, 6.0)
            fine = distance(one - soft_one, two - soft_two)
            numbers.append((fine * LEVELS, distance(soft_one, soft_two) * LEVELS))
        (texture, content), (texture_reference, content_reference) = numbers
        found.append(Seeds(prompt, texture, texture_reference, content, content_reference))
    return tuple(found)


STRANGE = (
    ("blue", "wobblefax blue, zorp of the quuxly"),
    ("oil painting", "a brindlewick oil painting of vexomar"),
    ("pencil sketch", "pencil sketch, flimworthy, gnarp"),
    ("night", "night over the skellingtonbury"),
    ("neon glow", "neon glow, hrumptiously"),
)
ALONE = ("wobblefax", "zorp of the quuxly", "vexomar brindlewick, flimworthy", "8372 gnarp!?")
ORDERS = (
    ("red oil painting, night", "night, oil painting, red"),
    ("blue watercolor", "watercolor in blue"),
    ("gold mosaic, winter", "winter mosaic, gold"),
    ("pink neon", "neon, pink"),
)


def grammar(
    paint: Paint,
    *,
    every: int = 1,
    picture: Picture | None = None,
    side: int = SIDE,
    seed: int = SEED,
) -> Grammar:
    """Strange words, other orders, and every n-th synonym (0: none)."""
    picture = picture if picture is not None else scenes.held_out(side)["cat"]

    def see(prompt: str) -> Picture:
        return paint(picture, prompt, STRENGTH, seed)

    plain = see("")
    known = {word: see(word) for word, _ in STRANGE}
    effect = {word: max(distance(out, plain), 1e-4) for word, out in known.items()}
    beside = [distance(see(text), known[word]) / effect[word] for word, text in STRANGE]
    alone = [distance(see(text), plain) / _mean(list(effect.values())) for text in ALONE]
    order = []
    for one, two in ORDERS:
        first = see(one)
        order.append(distance(first, see(two)) / max(distance(first, plain), 1e-4))
    asked, missed = 0, []
    for table in AXES.values() if every else ():
        firsts = {key: see(words[0]) for key, words in table.items()}
        others = [(key, word) for key, words in table.items() for word in words[1:]]
        for key, word in others[::every]:
            asked += 1
            out = see(word)
            nearest = min(firsts, key=lambda name: distance(out, firsts[name]))
            if nearest != key:
                missed.append(f"{word} as {nearest}")
    return Grammar(
        _mean(beside), _mean(alone), _mean(order), asked, asked - len(missed), tuple(missed)
    )


def pull(
    ask: Ask,
    word: str,
    patches: Mapping[str, Mapping[str, Any]],
    *,
    plain: Mapping[str, Any],
    full: Mapping[str, Any],
    picture: Picture | None = None,
    side: int = SIDE,
) -> Pull:
    """How far each of `patches` (name to parameters) goes on the way from `plain` to `full`.

    The amount is the part of a picture's difference from `plain` that lies along the difference of
    `full` from it.
    """
    picture = picture if picture is not None else scenes.held_out(side)["cat"]
    start = ask(picture, plain)
    way = _blur(ask(picture, full) - start, 2.0)
    length = max(float((way * way).sum()), 1e-6)
    amounts = [
        float((_blur(ask(picture, patch) - start, 2.0) * way).sum()) / length
        for patch in patches.values()
    ]
    return Pull(word, tuple(patches), tuple(amounts))


def pulls(
    ask: Ask, *, blends: bool = True, side: int = SIDE, picture: Picture | None = None
) -> tuple[Pull, ...]:
    """Weights in a prompt, negative prompts and, where an engine has them, blends.

    Each list goes from what should lead farthest away from the word to what should lead nearest.
    """
    none = {"prompt": "", "negative_prompt": ""}
    found = []
    for word in ("red", "blue", "oil painting"):
        ways: list[dict[str, dict[str, Any]]] = [
            {f"({word}:{w})": {**none, "prompt": f"({word}:{w})"} for w in (0, 0.5, 1, 1.4)},
            {
                "against twice": {**none, "negative_prompt": f"({word}:2)"},
                "against": {**none, "negative_prompt": word},
                "plain": none,
                "with": {**none, "prompt": word},
            },
        ]
        if blends:
            ways.append({f"blend {w}": {**none, "prompts": _blend(word, w)} for w in (0, 0.5, 1)})
        for patches in ways:
            full = {**none, "prompt": word}
            found.append(
                pull(ask, word, patches, plain=none, full=full, side=side, picture=picture)
            )
    return tuple(found)


def _blend(word: str, share: float) -> list[dict[str, Any]]:
    return [{"text": word, "weight": share}, {"text": "photo", "weight": 1 - share}]


def measure_all(
    paint: Paint,
    *,
    ask: Ask | None = None,
    side: int = SIDE,
    joint: int = 60,
    say: Say = lambda _: None,
) -> Figures:
    """Every measure, in the order of the page; some minutes on one core.

    Args:
        paint: the model.
        ask: the same model as an engine, for weights, negative prompts and blends.
        side: pixels, a multiple of 16, 128 or more.
        joint: combinations of several words; each costs some fifty stylisations.
        say: told what comes next.
    """
    found: dict[str, Obedience] = {}
    for axis in AXES:
        say(f"obedience: {axis}")
        found[axis] = obedience(paint, axis, side=side)
    if joint:
        say(f"obedience: {joint} prompts of several words")
        found |= joint_obedience(paint, joint, side=side)
    say("structure kept")
    kept = structure_kept(paint, side=side)
    say("steadiness")
    steady = steadiness(paint, side=side)
    say("artefacts, strength, seeds")
    left = artefacts(paint, side=side)
    curves = strength_curve(paint, side=side)
    apart = seeds_apart(paint, side=side)
    say("words")
    words = grammar(paint, side=side)
    pulled = pulls(ask, side=side) if ask is not None else ()
    return Figures(found, kept, steady, left, curves, apart, words, pulled)


def measure(paint: Paint, *, say: Say = lambda _: None) -> dict[str, Any]:
    """The few numbers of :func:`measure_all` for a model card."""
    return measure_all(paint, say=say).summary()
