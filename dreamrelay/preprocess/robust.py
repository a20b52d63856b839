"""Robust Video Matting: what its two runtimes share.

The model is recurrent: ``fgr, pha, r1, r2, r3, r4 = model(src, r1, r2, r3, r4, downsample_ratio)``
with src 1 x 3 x H x W, RGB 0..1, and pha 1 x 1 x H x W, 0..1. Its four states belong to a stream.
Source: Lin et al., "Robust High-Resolution Video Matting with Temporal Guidance", 2021; the
release's own description of its files.
"""

from abc import abstractmethod
from collections.abc import Sequence
from typing import Any, ClassVar, Generic, TypeVar

import numpy as np

from dreamrelay.codec import Frame
from dreamrelay.preprocess.ports import DEFAULT_STREAM, Mask, Matting, check_frame

State = TypeVar("State")

RATIO_SIDE = 512
"""Inside, a frame is shrunk to about this many pixels on its longer side, as its authors advise."""

MOST_STREAMS = 16
"""States are kept for so many streams (they are megabytes each)."""


def downsample_ratio(height: int, width: int) -> float:
    """How far the model shrinks a frame for its coarse pass."""
    return min(1.0, RATIO_SIDE / max(height, width))


class RobustMatting(Matting, Generic[State]):
    """Keeps the states; a runtime computes."""

    name: ClassVar[str] = "rvm"

    def __init__(self, where: str) -> None:
        self.where = where
        self._states: dict[str, tuple[tuple[int, int], Sequence[State]]] = {}

    def matte(self, frame: Frame, stream: str = DEFAULT_STREAM) -> Mask:
        check_frame(frame)
        size = (frame.shape[0], frame.shape[1])
        before = self._states.pop(stream, None)
        state = before[1] if before is not None and before[0] == size else self._fresh()
        alpha, after = self._run(frame, state)
        self._states[stream] = (size, after)
        if len(self._states) > MOST_STREAMS:
            del self._states[next(iter(self._states))]
        return alpha

    def matte_once(self, frame: Frame) -> Mask:
        check_frame(frame)
        return self._run(frame, self._fresh())[0]

    def reset(self, stream: str | None = None) -> None:
        if stream is None:
            self._states.clear()
        else:
            self._states.pop(stream, None)

    @abstractmethod
    def _fresh(self) -> Sequence[State]:
        """The four states before the first frame."""

    @abstractmethod
    def _run(self, frame: Frame, state: Sequence[State]) -> tuple[Mask, Sequence[State]]:
        """The mask of a frame, and the four states after it.

        Raises:
            EngineError: out of memory, or it is another kind of model.
        """


def to_mask(alpha: Any, frame: Frame) -> Mask:
    """The model's ``pha`` as a mask.

    Raises:
        ValueError: it has another size than the frame.
    """
    values = np.asarray(alpha, np.float32)
    expected = (1, 1, *frame.shape[:2])
    if values.shape != expected:
        raise ValueError(f"expected an alpha of {expected}, the model gives {values.shape}")
    scaled: Mask = np.rint(np.clip(values[0, 0], 0.0, 1.0) * 255).astype(np.uint8)
    return scaled
