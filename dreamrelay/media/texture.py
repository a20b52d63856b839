"""What Spout and Syphon have in common: a texture that one program shows and others look at.

A technology says how the newest picture is got, or a picture is sent, and how all is let go;
waiting, giving up, colours and sizes are here.
"""

import platform
import threading
import time
from abc import abstractmethod

import cv2
import numpy as np
from pydantic import Field

from dreamrelay.codec import Frame
from dreamrelay.errors import DeviceError
from dreamrelay.media.address import Options
from dreamrelay.media.pacing import CaptureClock
from dreamrelay.media.ports import Captured, Sink, Source

POLL_S = 0.003


class TextureSourceOptions(Options):
    timeout: float = Field(5.0, gt=0, le=3600)
    """Seconds to wait for a picture before ``read`` says that there is none."""
    flip: bool = False
    """For senders that send upside down."""


class TextureSinkOptions(Options):
    flip: bool = False
    """Send upside down."""


class TextureSource(Source):
    """The newest picture of another program.

    Args:
        name: of the other program's texture; empty: any.
        timeout: seconds that ``read`` waits for a picture.
        flip: turn upside down what comes.
    """

    live = True

    def __init__(self, name: str, *, timeout: float = 5.0, flip: bool = False) -> None:
        self._name = name
        self._timeout = timeout
        self._flip = flip
        self._clock = CaptureClock()
        self._closed = threading.Event()
        self._pause = POLL_S
        """Seconds until the next look."""

    def read(self) -> Captured | None:
        give_up = time.monotonic() + self._timeout
        while not self._closed.is_set():
            frame = self._newest()
            if frame is not None:
                return Captured(frame, self._clock())
            if time.monotonic() >= give_up:
                raise DeviceError(self._why_nothing())
            self._closed.wait(self._pause)
        self._let_go()
        return None

    def close(self) -> None:
        self._closed.set()
        self._let_go()

    @abstractmethod
    def _newest(self) -> Frame | None:
        """The picture that has come since the last call, if one has; upright.

        Raises:
            DeviceError: it cannot be had.
        """

    @abstractmethod
    def _why_nothing(self) -> str:
        """Why no picture came for ``timeout`` seconds, for people."""

    @abstractmethod
    def _let_go(self) -> None:
        """Let everything go; idempotent. May be called by another thread than the reading one."""


class TextureSink(Sink):
    """Shows its frames to other programs, under a name.

    Args:
        name: that others see.
        flip: send upside down.
    """

    def __init__(self, name: str, *, flip: bool = False) -> None:
        super().__init__()
        self._name = name
        self._flip = flip
        self._pixels = np.empty((0, 0, 4), np.uint8)

    def write(self, frame: Frame) -> None:
        self.check(frame)
        size = frame.shape[:2]
        if self._pixels.shape[:2] != size:
            self._pixels = np.empty((*size, 4), np.uint8)
        cv2.cvtColor(frame, cv2.COLOR_RGB2RGBA, dst=self._pixels)
        self._send(self._pixels)

    def close(self) -> None:
        super().close()
        self._let_go()

    @abstractmethod
    def _send(self, pixels: Frame) -> None:
        """Send a picture of height x width x RGBA, which is another one after the call.

        Raises:
            DeviceError: it was not taken.
        """

    @abstractmethod
    def _let_go(self) -> None:
        """Let everything go; idempotent."""


def to_rgb(pixels: Frame, *, blue_first: bool) -> Frame:
    """The frame of a texture's pixels, whose alpha is left out."""
    code = cv2.COLOR_BGRA2RGB if blue_first else cv2.COLOR_RGBA2RGB
    frame: Frame = cv2.cvtColor(pixels, code)
    return frame


def elsewhere(technology: str, home: str) -> DeviceError:
    """What to say of a technology of another system: what there is on this one."""
    system = platform.system()
    here = {"Windows": "spout", "Darwin": "syphon"}.get(system, "ndi")
    return DeviceError(
        f"{technology} is a technology of {home}, this is {system}: here use {here}://NAME "
        "(--source, --sink; of the bridge: --from, --to)",
        final=True,
    )
