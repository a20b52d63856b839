"""The similar-image filter: skip frames that look like the one before (numpy only).

The rule is StreamDiffusion's: a frame is skipped with a probability that grows from 0 at the
threshold to 1 for an equal frame, and after ``max_skip`` skipped ones a frame passes in any case.
"""

import random

import numpy as np
from numpy.typing import NDArray

from dreamrelay.codec import Frame


class SimilarImageFilter:
    """Decides frame by frame; the dice come from a seed, so a run can be repeated."""

    def __init__(self, seed: int = 0) -> None:
        self.threshold = 0.98
        self.max_skip = 10
        self._reference: NDArray[np.float32] | None = None
        self._length = 0.0
        self._skipped = 0
        self._dice = random.Random(seed)

    def reset(self, seed: int | None = None) -> None:
        """Let the next frame pass; throw the dice anew from ``seed``, if given."""
        self._reference = None
        self._skipped = 0
        if seed is not None:
            self._dice.seed(seed)

    def skips(self, frame: Frame) -> bool:
        """Whether ``frame`` need not be computed."""
        pixels = frame.reshape(-1).astype(np.float32)
        pixels -= 127.5  # the angle between two pictures is that of their values in -1..1
        length = float(np.sqrt(np.dot(pixels, pixels)))
        if self._reference is not None and self._is_skipped(pixels, length):
            self._skipped += 1
            return True
        self._reference, self._length = pixels, length
        return False

    def _is_skipped(self, pixels: NDArray[np.float32], length: float) -> bool:
        dot = float(np.dot(self._reference, pixels)) if self._reference is not None else 0.0
        similarity = dot / max(self._length * length, 1e-6)
        chance = 0.0
        if self.threshold < 1:
            chance = max(0.0, 1 - (1 - similarity) / (1 - self.threshold))
        if chance < self._dice.uniform(0, 1):
            return False
        if self._skipped > self.max_skip:
            self._skipped = 0
            return False
        return True
