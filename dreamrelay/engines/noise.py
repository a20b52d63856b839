"""The noise that pictures are made of: drawn from a seed, or blended of several; numpy only."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from dreamrelay.engines.parameters import StreamBatchParameters

Noise = NDArray[np.float32]


def seeded_noise(seed: int, shape: tuple[int, ...]) -> Noise:
    """Standard normal noise; the same for a seed in every engine, on every device."""
    return np.random.default_rng(seed).standard_normal(shape, np.float32)


def noise_of(parameters: StreamBatchParameters, shape: tuple[int, ...]) -> Noise:
    """The noise of the seed, or of the seeds, blended; of unit variance either way."""
    shares = _shares(parameters)
    noises = [(seeded_noise(seed, shape), share) for seed, share in shares]
    if len(noises) == 1:
        return noises[0][0]
    if parameters.seed_interpolation == "slerp":
        return _on_an_arc(noises)
    # Independent of each other, they add by their squares.
    blended: Noise = sum(share * noise for noise, share in noises)  # type: ignore[assignment]
    return blended / np.float32(sum(share**2 for _, share in noises) ** 0.5)


def _shares(parameters: StreamBatchParameters) -> list[tuple[int, float]]:
    """Seeds and their shares, which sum to 1; without any weight all count alike."""
    if not parameters.seeds:
        return [(parameters.seed, 1.0)]
    weights: dict[int, float] = {}
    for one in parameters.seeds:  # a seed named twice is not independent of itself
        weights[one.seed] = weights.get(one.seed, 0.0) + one.weight
    total = sum(weights.values())
    if total <= 0:
        return [(seed, 1 / len(weights)) for seed in weights]
    return [(seed, weight / total) for seed, weight in weights.items() if weight > 0]


def _on_an_arc(noises: Sequence[tuple[Noise, float]]) -> Noise:
    """One after the other, each turned towards the next by its share of what is there so far."""
    (blended, so_far), *others = noises
    for noise, share in others:
        so_far += share
        part = share / so_far
        cosine = float(np.vdot(blended, noise)) / max(
            float(np.linalg.norm(blended) * np.linalg.norm(noise)), 1e-12
        )
        angle = float(np.arccos(np.clip(cosine, -1.0, 1.0)))
        sine = np.sin(angle)
        if sine < 1e-3:  # next to parallel: the straight line is the arc
            blended = np.float32(1 - part) * blended + np.float32(part) * noise
            continue
        left, right = np.sin((1 - part) * angle) / sine, np.sin(part * angle) / sine
        blended = np.float32(left) * blended + np.float32(right) * noise
    return blended
