"""How a picture has moved since another one: as a whole, or each part by itself (OpenCV)."""

from dataclasses import dataclass
from typing import Any, Literal

import cv2
import numpy as np
from numpy.typing import NDArray

from dreamrelay.codec import Frame

Field = NDArray[np.float32]
Grey = NDArray[np.uint8]

LOOKS = 160
"""Pixels of the longer side at which movement is looked for."""

BETTER = 0.9
"""A shift is one if it leaves at most this part of the difference; else two pictures have no
movement in common: a cut, say."""


@dataclass(frozen=True, slots=True)
class Movement:
    """Where each place of a picture was in another one, earlier.

    ``field`` is (h, w, 2): how far, across and down, what stands at a place has come, in parts of
    the width and of the height.
    """

    field: Field

    @staticmethod
    def looked_at(frame: Frame) -> Grey:
        """A small grey picture of a frame, to find movement in."""
        grey = cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY)
        height, width = grey.shape
        scale = min(1.0, LOOKS / max(height, width))
        size = max(8, round(width * scale)), max(8, round(height * scale))
        small: Grey = cv2.resize(grey, size, interpolation=cv2.INTER_AREA)
        return small

    @staticmethod
    def drift(height: int, width: int) -> "Drift":
        """No movement yet, of a latent of so many cells."""
        return Drift(height, width)

    @classmethod
    def between(cls, before: Grey, now: Grey, kind: Literal["shift", "flow"]) -> "Movement":
        """From two small grey pictures of one size."""
        height, width = now.shape
        if kind == "shift":
            window = cv2.createHanningWindow((width, height), cv2.CV_32F)
            (dx, dy), _ = cv2.phaseCorrelate(
                before.astype(np.float32), now.astype(np.float32), window
            )
            shift = cls(np.full((1, 1, 2), (dx / width, dy / height), np.float32))
            left, whole = _gap(shift.applied(before), now), _gap(before, now)
            return shift if left < BETTER * whole else cls(np.zeros((1, 1, 2), np.float32))
        flow = _dense(before, now)
        flow /= np.array([-width, -height], np.float32)
        return cls(flow)

    def at(self, height: int, width: int) -> Field:
        """The field (height, width, 2) of a picture of that size, in its pixels."""
        if self.field.shape[:2] == (1, 1):
            field = np.broadcast_to(self.field, (height, width, 2))
        else:
            field = cv2.resize(self.field, (width, height), interpolation=cv2.INTER_AREA)
        return field * np.array([width, height], np.float32)

    def applied(self, picture: NDArray[Any]) -> NDArray[Any]:
        """The earlier picture (H, W, 3) as it would look now; its edge stands in for what comes in.

        On straight lines between pixels: sharper ways make some edges stronger, and a picture that
        is brought along again and again would come apart.
        """
        height, width = picture.shape[:2]
        if self.field.shape[:2] == (1, 1):
            dx, dy = (float(part) for part in self.field[0, 0] * (width, height))
            way = np.array([[1, 0, dx], [0, 1, dy]], np.float32)
            return _as_array(
                cv2.warpAffine(
                    picture, way, (width, height), flags=cv2.INTER_LINEAR, borderMode=_EDGE
                )
            )
        field = cv2.resize(self.field, (width, height), interpolation=cv2.INTER_LINEAR)
        y, x = np.mgrid[0:height, 0:width].astype(np.float32)
        across, down = x - field[..., 0] * width, y - field[..., 1] * height
        return _as_array(cv2.remap(picture, across, down, cv2.INTER_LINEAR, borderMode=_EDGE))


_EDGE = cv2.BORDER_REPLICATE


def _dense(before: Grey, now: Grey) -> Field:
    """For each place now, the way to where it was before, in pixels (h, w, 2)."""
    finder = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_FAST)
    field: Field = finder.calc(now, before, None)
    return field


def _gap(one: NDArray[Any], other: NDArray[Any]) -> float:
    return float(cv2.norm(one, other, cv2.NORM_L1))


def _as_array(values: Any) -> NDArray[Any]:
    array: NDArray[Any] = values
    return array


class Drift:
    """How far noise has been carried since the beginning, in cells of a latent.

    What moves as a whole is kept exactly, for ever. What the parts do beside that is slowly let go:
    noise that is stretched for long is no noise any more.
    """

    KEPT = 0.97

    def __init__(self, height: int, width: int) -> None:
        self.field: Field = np.zeros((height, width, 2), np.float32)

    def then(self, movement: Movement) -> Field:
        """The field after one more movement; a new array."""
        height, width = self.field.shape[:2]
        step = movement.at(height, width)
        if movement.field.shape[:2] == (1, 1):
            carried = self.field
        else:
            y, x = np.mgrid[0:height, 0:width].astype(np.float32)
            across, down = x - step[..., 0], y - step[..., 1]
            carried = cv2.remap(self.field, across, down, cv2.INTER_LINEAR, borderMode=_EDGE)
        field = carried + step
        mean = field.mean((0, 1))
        self.field = mean + self.KEPT * (field - mean)
        return self.field
