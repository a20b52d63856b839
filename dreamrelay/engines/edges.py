"""Lines of a frame: what ControlNets of the kinds canny and scribble look at; white on black."""

import cv2
import numpy as np
from numpy.typing import NDArray

from dreamrelay.codec import Frame

Lines = NDArray[np.uint8]
"""uint8, H x W: 0 nothing, 255 a line."""

_STRONGEST, _FAINTEST = (
    160.0,
    8.0,
)  # grey levels that an edge spans: what detail 0 and 1 let through
_PIXELS_A_SIGMA = 256  # a hand draws no finer than so many strokes across the picture


def canny(frame: Frame, low: float, high: float) -> Lines:
    """Thin lines, one pixel wide, along all edges.

    Args:
        low, high: gradients 0..255: an edge begins above the greater of them and is followed down
            to the lesser one.
    """
    low, high = sorted((low, high))
    return np.asarray(cv2.Canny(_grey(frame), low, high), dtype=np.uint8)


def scribble(frame: Frame, detail: float) -> Lines:
    """Broad soft strokes along the strong edges, as a hand would draw them.

    The gradient of a smoothed picture against a fixed threshold: no network, and no measure of the
    whole picture, so a line does not flicker because something else in the picture changes.

    Args:
        detail: 0..1, from the outlines alone to every fold.
    """
    height, width = frame.shape[:2]
    sigma = max(1.0, max(height, width) / _PIXELS_A_SIGMA)
    smooth = cv2.GaussianBlur(_grey(frame).astype(np.float32), (0, 0), sigma)
    right = cv2.Sobel(smooth, cv2.CV_32F, 1, 0, scale=1 / 8)
    down = cv2.Sobel(smooth, cv2.CV_32F, 0, 1, scale=1 / 8)
    # A smoothed step of h grey levels climbs by h / (sigma * sqrt(2 pi)) a pixel at most.
    climbed = cv2.magnitude(right, down) * (sigma * np.sqrt(2 * np.pi))
    threshold = _STRONGEST * (_FAINTEST / _STRONGEST) ** detail
    stroke = np.clip((climbed - threshold) / (0.5 * threshold), 0, 1)
    return np.asarray(np.rint(255 * stroke), dtype=np.uint8)


def _grey(frame: Frame) -> NDArray[np.uint8]:
    return np.asarray(cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY), dtype=np.uint8)
