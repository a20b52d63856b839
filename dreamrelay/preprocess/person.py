"""The person segmenter of the package: MediaPipe's selfie segmentation, run by OpenCV.

Offline, without torch, 250 kB; ``person_model/README.md`` says where it comes from. It looks at
each frame by itself, so the masks of a stream are steadied here.
"""

import importlib.resources
from typing import ClassVar

import cv2
import numpy as np
from numpy.typing import NDArray

from dreamrelay.codec import Frame
from dreamrelay.errors import EngineError
from dreamrelay.preprocess.ports import DEFAULT_STREAM, Mask, Matting, check_frame

SIDE = 256
"""Of the square picture that the model looks at."""

STEADINESS = 0.7
"""How much of the mask before is kept where the model is undecided; where it is sure, none."""

MOST_STREAMS = 64
"""Earlier masks are kept for so many streams; the one that was longest unused goes first."""

Certainty = NDArray[np.float32]


class PersonMatting(Matting):
    """Person or not, for one or two people near the camera."""

    name: ClassVar[str] = "person"

    def __init__(self) -> None:
        self._net: cv2.dnn.Net | None = None
        self._before: dict[str, tuple[tuple[int, int], Certainty]] = {}

    def load(self) -> None:
        if self._net is not None:
            return
        file = importlib.resources.files("dreamrelay.preprocess") / "person_model"
        try:
            model = (file / "selfie_segmentation.tflite").read_bytes()
            self._net = cv2.dnn.readNetFromTFLite(np.frombuffer(model, np.uint8))
        except (OSError, cv2.error) as error:
            raise EngineError(
                f"the person segmenter cannot be loaded ({_first_line(error)}): "
                "install dreamrelay again, with opencv-python-headless 4.10 or newer"
            ) from error

    def matte(self, frame: Frame, stream: str = DEFAULT_STREAM) -> Mask:
        now = self._certainty(frame)
        size = frame.shape[:2]
        before = self._before.pop(stream, None)
        if before is not None and before[0] == size:
            now = steadied(now, before[1])
        self._before[stream] = (size, now)
        if len(self._before) > MOST_STREAMS:
            del self._before[next(iter(self._before))]
        return _mask(now, frame)

    def matte_once(self, frame: Frame) -> Mask:
        return _mask(self._certainty(frame), frame)

    def reset(self, stream: str | None = None) -> None:
        if stream is None:
            self._before.clear()
        else:
            self._before.pop(stream, None)

    def _certainty(self, frame: Frame) -> Certainty:
        """How sure the model is, 0..1: float32, SIDE x SIDE."""
        check_frame(frame)
        self.load()
        if self._net is None:
            raise AssertionError("loaded")
        # INTER_AREA looks at every pixel when it shrinks: less flicker than the default.
        small = cv2.resize(frame, (SIDE, SIDE), interpolation=cv2.INTER_AREA)
        try:
            self._net.setInput(cv2.dnn.blobFromImage(small, 1 / 255))
            certainty = self._net.forward().reshape(SIDE, SIDE)
        except cv2.error as error:
            raise EngineError(f"the person segmenter failed: {_first_line(error)}") from error
        clipped: Certainty = np.clip(certainty, 0.0, 1.0, dtype=np.float32)
        return clipped


def steadied(now: Certainty, before: Certainty) -> Certainty:
    """Mix in the mask before where the model is undecided now: an edge that stands still does not
    flicker, one that moves does not drag.
    """
    undecided = 4.0 * now * (1.0 - now)
    mixed: Certainty = now + STEADINESS * undecided * (before - now)
    return mixed


def _mask(certainty: Certainty, frame: Frame) -> Mask:
    height, width = frame.shape[:2]
    small = np.rint(certainty * 255).astype(np.uint8)
    mask: Mask = cv2.resize(small, (width, height), interpolation=cv2.INTER_LINEAR)
    return mask


def _first_line(error: Exception) -> str:
    return " ".join(str(error).split())[:120]
