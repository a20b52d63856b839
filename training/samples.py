"""One training example: what the model sees, what it is told, what it should answer."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from training.model import grain_of, to_latents
from training.pictures import PictureBank
from training.prompts import draw_look, write
from training.stylise import Look, plasma, stylise

FULL_STRENGTH = 0.42


@dataclass
class Batch:
    """N examples. `mixed` names the rows whose prompt is a blend with a second text."""

    noised: Tensor  # N x 48 x h x w
    target: Tensor  # N x 48 x h x w, clean
    steps: Tensor  # N, 0..999
    texts: list[str]
    mixed: list[tuple[int, str, float]]


def style_share(strength: float) -> float:
    """How much of the stylisation a strength asks for: 0 at 0, everything from 0.42 on."""
    part = min(strength / FULL_STRENGTH, 1.0)
    return part * part * (3 - 2 * part)


class Sampler:
    """Makes batches; batch number `index` is the same on every run with the same seed."""

    def __init__(self, alphas: NDArray[np.float32], seed: int) -> None:
        self._alphas, self._seed = alphas, seed
        self._bank = PictureBank()

    def batch(self, index: int, side: int, size: int) -> Batch:
        """`size` examples of side x side pixels; safe to call from several threads."""
        rng = np.random.default_rng([self._seed, index])
        noised, targets, steps, texts, mixed = [], [], [], [], []
        for row in range(size):
            z, target, step, text, blend = self._example(rng, side)
            noised.append(z)
            targets.append(target)
            steps.append(step)
            texts.append(text)
            if blend is not None:
                mixed.append((row, *blend))
        return Batch(torch.stack(noised), torch.stack(targets), torch.tensor(steps), texts, mixed)

    def _example(
        self, rng: np.random.Generator, side: int
    ) -> tuple[Tensor, Tensor, int, str, tuple[str, float] | None]:
        shape = (48, side // 4, side // 4)
        noise = rng.standard_normal(shape, np.float32)
        grain = grain_of(noise)
        look = draw_look(rng)
        text = write(rng, look)
        if rng.random() < 0.12:
            # No wish, or none that we know: guidance needs to know what that looks like.
            look, text = Look(), "" if rng.random() < 0.6 else write(rng, Look())
        kind = rng.random()
        if kind < 0.06:
            return self._from_nothing(rng, noise, look, text)
        picture = self._bank.draw(rng, side)
        full = stylise(picture, grain, look)
        blend = None
        if kind < 0.1:
            other = draw_look(rng)
            share = float(rng.uniform(0.2, 0.8))
            full = full * (1 - share) + stylise(picture, grain, other) * share
            blend = (write(rng, other), share)
        if kind > 0.91:
            # The second of two steps sees what the first has painted, under other noise.
            strength = float(rng.uniform(0.1, 0.55))
            seen, target, noise = full, full, rng.standard_normal(shape, np.float32)
        else:
            strength = self._strength(rng)
            share = style_share(strength)
            seen, target = picture, picture + (full - picture) * share
        step = round(999 * strength)
        keep = float(self._alphas[step])
        latents = to_latents(seen) * keep**0.5 + torch.from_numpy(noise) * (1 - keep) ** 0.5
        return latents, to_latents(target), step, text, blend

    def _strength(self, rng: np.random.Generator) -> float:
        choice = rng.random()
        if choice < 0.65:
            return float(np.clip(rng.normal(0.5, 0.06), 0.3, 0.7))
        return float(rng.uniform(0, 0.5) if choice < 0.85 else rng.uniform(0.5, 1))

    def _from_nothing(
        self, rng: np.random.Generator, noise: NDArray[np.float32], look: Look, text: str
    ) -> tuple[Tensor, Tensor, int, str, None]:
        grain = grain_of(noise)
        target = stylise(plasma(grain), grain, look)
        latents = torch.from_numpy(noise)
        step = int(rng.integers(300, 1000))
        if rng.random() < 0.3:
            step = int(rng.integers(850, 1000))
            latents = latents * float(1 - self._alphas[step]) ** 0.5
        return latents, to_latents(target), step, text, None
