"""Frames for engines: made on the spot, different from each other, cheap."""

import numpy as np

from dreamrelay.codec import Frame


def moving_frames(count: int, width: int = 64, height: int = 64) -> list[Frame]:
    """A soft coloured wave that moves on by a few pixels from frame to frame."""
    y, x = np.mgrid[0:height, 0:width].astype(np.float32)
    phases = np.array([0.0, 2.1, 4.2], dtype=np.float32)
    frames = []
    for at in range(count):
        wave = np.sin((x[..., None] + 5 * at) / 9 + y[..., None] / 14 + phases)
        frames.append((127.5 + 100 * wave).astype(np.uint8))
    return frames


def noise_frame(seed: int, width: int = 64, height: int = 64) -> Frame:
    """A frame of random pixels."""
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)
