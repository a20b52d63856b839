"""Two real photographs that installed packages bundle, and outlines drawn on them by hand."""

import json
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from matplotlib import cbook, image
from numpy.typing import NDArray
from skimage import data

from dreamrelay.codec import Frame

OUTLINES = Path(__file__).parent / "outlines.json"
NAMES = ("astronaut", "hopper")


@dataclass(frozen=True)
class Photograph:
    """``person`` and ``ignored`` are bool, H x W; what is ignored is neither right nor wrong."""

    frame: Frame
    person: NDArray[np.bool_]
    ignored: NDArray[np.bool_]

    def overlap(self, mask: NDArray[np.uint8]) -> float:
        """Intersection over union of a mask, cut at one half, with the outline."""
        found = (mask >= 128) & ~self.ignored
        person = self.person & ~self.ignored
        return float((found & person).sum() / (found | person).sum())


def photograph(name: str) -> Photograph:
    frame = np.ascontiguousarray(_pixels(name))
    outline = json.loads(OUTLINES.read_text(encoding="utf-8"))[name]
    assert [frame.shape[1], frame.shape[0]] == outline["size"]
    person = _filled(outline["person"], frame)
    ignored = np.zeros_like(person)
    for polygon in outline["ignored"]:
        ignored |= _filled(polygon, frame)
    return Photograph(frame, person, ignored & ~person)


def _pixels(name: str) -> Frame:
    if name == "astronaut":
        pixels: Frame = data.astronaut()
        return pixels
    return np.asarray(image.imread(cbook.get_sample_data("grace_hopper.jpg", asfileobj=False)))


def _filled(polygon: list[list[float]], frame: Frame) -> NDArray[np.bool_]:
    canvas = np.zeros(frame.shape[:2], np.uint8)
    corners = np.round(np.array(polygon) * 16).astype(np.int32)
    cv2.fillPoly(canvas, [corners], 1, shift=4)
    return canvas.astype(bool)
