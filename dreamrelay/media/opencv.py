"""The one place that opens cv2 captures: devices, files and URLs, with errors instead of False."""

import os
from collections.abc import Mapping

import cv2
import numpy as np

from dreamrelay.codec import Frame
from dreamrelay.errors import DeviceError

OPEN_TIMEOUT_S = 5.0
READ_TIMEOUT_S = 5.0


class Capture:
    """A ``cv2.VideoCapture`` that is open. Opened, read and released by one thread.

    Args:
        target: number of a camera, or a path or URL.
        name: what people call it, for errors.
        hint: what to try when it cannot be opened.
        properties: ``cv2.CAP_PROP_*`` to wish for; a device gives what it can.
    """

    def __init__(
        self,
        target: int | str,
        name: str,
        hint: str,
        *,
        backend: int = cv2.CAP_ANY,
        properties: Mapping[int, float] | None = None,
    ) -> None:
        _hush()
        self.name = name
        remote = isinstance(target, str) and "://" in target
        try:
            if remote:
                timeouts = [
                    *(cv2.CAP_PROP_OPEN_TIMEOUT_MSEC, int(OPEN_TIMEOUT_S * 1000)),
                    *(cv2.CAP_PROP_READ_TIMEOUT_MSEC, int(READ_TIMEOUT_S * 1000)),
                ]
                self._capture = cv2.VideoCapture(target, cv2.CAP_FFMPEG, timeouts)
            else:
                self._capture = cv2.VideoCapture(target, backend)
            if not self._capture.isOpened():
                raise DeviceError(f"cannot open {name}: {hint}")
            for key, value in (properties or {}).items():
                self._capture.set(key, value)
            fps = float(self._capture.get(cv2.CAP_PROP_FPS))
            frames = float(self._capture.get(cv2.CAP_PROP_FRAME_COUNT))
        except cv2.error as error:
            raise DeviceError(f"cannot open {name}: {hint} ({_first_line(error)})") from error
        self.fps = fps if 0 < fps <= 1000 else None
        """Its own rate, if it says a sane one."""
        self.has_end = not isinstance(target, int) and 0 < frames < 1e12
        """A stored video: after its last picture there are no more."""

    def read(self) -> Frame | None:
        """The next picture as cv2 has it (B, G, R); None when there is none.

        Raises:
            DeviceError: cv2 failed.
        """
        try:
            good, picture = self._capture.read()
        except cv2.error as error:
            raise DeviceError(f"cannot read {self.name}: {_first_line(error)}") from error
        return picture if good and picture is not None else None

    def release(self) -> None:
        self._capture.release()


def to_rgb(picture: Frame) -> Frame:
    """Turn a picture of cv2 (grey, B G R or B G R A) into a frame."""
    if picture.dtype != np.uint8:
        picture = cv2.convertScaleAbs(picture, alpha=255.0 / np.iinfo(picture.dtype).max)
    channels = 1 if picture.ndim == 2 else picture.shape[2]
    if channels == 1:
        code = cv2.COLOR_GRAY2RGB
    elif channels == 3:
        code = cv2.COLOR_BGR2RGB
    else:
        code = cv2.COLOR_BGRA2RGB
    frame: Frame = cv2.cvtColor(picture, code)
    return frame


def _hush() -> None:
    """Keep cv2 and FFmpeg from writing to the terminal what our errors say, unless asked to."""
    os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "-8")
    if "OPENCV_LOG_LEVEL" not in os.environ:
        cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)


def _first_line(error: Exception) -> str:
    return str(error).strip().partition("\n")[0]
