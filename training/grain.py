"""The noise of a seed, and what of it a style may use as texture; numpy only."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

CELL = 8  # pixels of a cell's side; a cell is one position of the U-Net
PIXELS = 3 * CELL * CELL
TEXTURE = 12  # channels that are empty in every picture: what stands there is the noise of the seed
LATENTS = PIXELS + 2 + TEXTURE


def seeded_noise(seed: int, height: int, width: int) -> NDArray[np.float32]:
    """Standard normal latents of the first step, 206 x height x width cells, as an engine draws."""
    return np.random.default_rng(seed).standard_normal((LATENTS, height, width), np.float32)


def grain_of(noise: NDArray[np.float32]) -> NDArray[np.float32]:
    """Noise in latents (206 x h x w) seen as texture: 2h x 2w x 3, standard normal.

    It is that of the empty channels, where no picture hides it: a style may rest on it, and the
    model need not average its strokes away.
    """
    height, width = noise.shape[1:]
    # c colour, a upper or lower half of the cell, b left or right half
    quarters = noise[PIXELS + 2 :].reshape(3, 2, 2, height, width)
    return np.ascontiguousarray(
        np.einsum("cabyx->yaxbc", quarters).reshape(2 * height, 2 * width, 3)
    )


def seeded_grain(seed: int, height: int, width: int) -> NDArray[np.float32]:
    """The texture of a seed for a picture of height x width pixels: H/4 x W/4 x 3."""
    return grain_of(seeded_noise(seed, height // CELL, width // CELL))
