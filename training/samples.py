"""One training example: what the model sees, what it is told, what it should answer."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from training.grain import CELL, LATENTS, grain_of
from training.model import to_latents
from training.pictures import PictureBank
from training.prompts import draw_look, write
from training.stylise import Look, abstract, stylise

FULL_STRENGTH = 0.42
BOLD_STRENGTH = 0.55
BLENDS = (-0.5, 1.4)  # beyond 0..1: weights above 1, and prompts to keep away from


@dataclass
class Batch:
    """N examples. `mixed` names the rows whose prompt is a blend with a second text."""

    noised: Tensor  # N x 206 x h x w
    target: Tensor  # N x 206 x h x w, clean
    steps: Tensor  # N, 0..999
    texts: list[str]
    mixed: list[tuple[int, str, float]]


@dataclass
class _Example:
    """What is seen under which noise, and what should be answered; pictures in 0..1."""

    seen: NDArray[np.float32]
    target: NDArray[np.float32]
    noise: NDArray[np.float32]
    step: int
    text: str
    blend: tuple[str, float] | None


def join(batches: list[Batch]) -> Batch:
    """Several batches as one."""
    mixed, start = [], 0
    for batch in batches:
        mixed += [(start + row, text, share) for row, text, share in batch.mixed]
        start += len(batch.texts)
    return Batch(
        torch.cat([batch.noised for batch in batches]),
        torch.cat([batch.target for batch in batches]),
        torch.cat([batch.steps for batch in batches]),
        [text for batch in batches for text in batch.texts],
        mixed,
    )


def style_share(strength: float) -> float:
    """How much of the stylisation a strength asks for: 0 at 0, everything from 0.42 on."""
    part = min(strength / FULL_STRENGTH, 1.0)
    return part * part * (3 - 2 * part)


def boldness(strength: float) -> float:
    """How much a strength simplifies the picture first: nothing up to 0.55, 1 at 1."""
    return float(np.clip((strength - BOLD_STRENGTH) / (1 - BOLD_STRENGTH), 0, 1))


class Sampler:
    """Makes batches; batch number `index` is the same on every run with the same seed."""

    def __init__(self, alphas: NDArray[np.float32], seed: int) -> None:
        self._alphas, self._seed = alphas, seed
        self._bank = PictureBank()

    def batch(self, index: int, side: int, size: int) -> Batch:
        """`size` examples of side x side pixels; safe to call from several threads."""
        rng = np.random.default_rng([self._seed, index])
        examples = [self._example(rng, side) for _ in range(size)]
        steps = np.array([example.step for example in examples])
        keep = torch.from_numpy(self._alphas[steps])[:, None, None, None]
        noise = torch.from_numpy(np.stack([example.noise for example in examples]))
        seen = to_latents(np.stack([example.seen for example in examples]))
        return Batch(
            seen.mul_(keep.sqrt()).add_(noise.mul_((1 - keep).sqrt())),
            to_latents(np.stack([example.target for example in examples])),
            torch.from_numpy(steps),
            [example.text for example in examples],
            [(row, *e.blend) for row, e in enumerate(examples) if e.blend is not None],
        )

    def _example(self, rng: np.random.Generator, side: int) -> _Example:
        shape = (LATENTS, side // CELL, side // CELL)
        noise = rng.standard_normal(shape, np.float32)
        grain = grain_of(noise)
        look = draw_look(rng)
        text = write(rng, look)
        if rng.random() < 0.1:
            # No wish, or none that we know: a blend needs to know what that looks like.
            look, text = Look(), "" if rng.random() < 0.6 else write(rng, Look())
        picture = self._bank.draw(rng, side)
        strength = self._strength(rng)
        kind, again = rng.random(), rng.random() < 0.07
        if again:
            # The second of two steps sees what the first has painted, under other noise.
            strength = float(rng.uniform(0.1, 0.5))
        ground = abstract(picture, boldness(strength), grain)
        full = stylise(ground, grain, look)
        blend = None
        if kind < 0.12:
            other = draw_look(rng)
            share = float(rng.uniform(*BLENDS))
            full = full * (1 - share) + stylise(ground, grain, other) * share
            full = np.clip(full, 0, 1).astype(np.float32)
            blend = (write(rng, other), share)
        if again:
            seen, target, noise = full, full, rng.standard_normal(shape, np.float32)
        else:
            share = style_share(strength)
            seen, target = picture, picture + (full - picture) * share
        step = max(1, round(999 * strength))
        return _Example(seen, target, noise, step, text, blend)

    def _strength(self, rng: np.random.Generator) -> float:
        choice = rng.random()
        if choice < 0.6:
            return float(np.clip(rng.normal(0.5, 0.05), 0.35, 0.65))
        return float(rng.uniform(0, 0.5) if choice < 0.8 else rng.uniform(0.5, 1))
