"""The matting port, documented for whoever adds an engine."""

from abc import ABC, abstractmethod
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from dreamrelay.codec import Frame

Mask = NDArray[np.uint8]
"""How much of each pixel is a person: uint8, H x W, 0 none, 255 all of it."""

DEFAULT_STREAM = "default"


class Matting(ABC):
    """Frames in, masks out. Used by one thread; the constructor checks, and loads nothing."""

    name: ClassVar[str]

    @abstractmethod
    def load(self) -> None:
        """Load the model; idempotent.

        Raises:
            EngineError: it is missing, broken or another kind of model; says the next step.
        """

    @abstractmethod
    def matte(self, frame: Frame, stream: str = DEFAULT_STREAM) -> Mask:
        """The mask of a frame that follows the last one of its stream.

        What is remembered of earlier frames steadies the mask; it is kept for each stream by
        itself, and forgotten by itself when the size of its frames changes.

        Args:
            frame: uint8, H x W x 3, RGB.
            stream: whose frame it is; any name.

        Raises:
            ValueError: it is not a frame.
            EngineError: this frame could not be computed; the next one may be.
        """

    @abstractmethod
    def matte_once(self, frame: Frame) -> Mask:
        """The mask of a frame by itself: no stream has an influence on it, or is influenced.

        Raises:
            ValueError, EngineError: as above.
        """

    @abstractmethod
    def reset(self, stream: str | None = None) -> None:
        """Forget the earlier frames of a stream, or of all: its scene is another one."""


def check_frame(frame: Frame) -> None:
    """Raise ValueError where something is not a frame."""
    if frame.ndim != 3 or frame.shape[2] != 3 or frame.dtype != np.uint8 or not frame.size:
        raise ValueError(f"expected a frame (uint8, H x W x 3), got {frame.dtype} {frame.shape}")
