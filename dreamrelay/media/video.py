"""Videos: ``video://`` plays a file, ``http(s)://`` and ``rtsp://`` show the newest of a stream.

Of a file every picture counts; a stream goes on whether somebody reads or not.
"""

from pathlib import Path

from dreamrelay.codec import Frame
from dreamrelay.errors import DeviceError
from dreamrelay.media.address import Address, Options
from dreamrelay.media.live import LiveSource
from dreamrelay.media.opencv import Capture, to_rgb
from dreamrelay.media.pacing import CaptureClock
from dreamrelay.media.ports import Captured, Source


class VideoOptions(Options):
    loop: bool = True


class VideoSource(Source):
    """Every picture of a video file, in order."""

    live = False

    def __init__(self, path: Path, *, loop: bool = True) -> None:
        if not path.is_file():
            raise DeviceError(f"expected a video file, but none is at {str(path)!r}")
        self._path = path
        self._loop = loop
        self._clock = CaptureClock()
        self._capture: Capture | None = None
        self._next: Frame | None = self._rewind()
        self.fps = None if self._capture is None else self._capture.fps

    def read(self) -> Captured | None:
        if self._capture is None:
            return None
        picture, self._next = self._next, None
        if picture is None:
            picture = self._capture.read()
        if picture is None:
            if not self._loop:
                self.close()
                return None
            picture = self._rewind()
        return Captured(to_rgb(picture), self._clock())

    def close(self) -> None:
        self._next = None
        if self._capture is not None:
            self._capture.release()
            self._capture = None

    def _rewind(self) -> Frame:
        """Open the file again: seeking back is not exact in every format."""
        self.close()
        name = repr(str(self._path))
        self._capture = Capture(
            str(self._path), name, "it is broken or no video that OpenCV can read"
        )
        picture = self._capture.read()
        if picture is None:
            self.close()
            raise DeviceError(f"expected a video with pictures, {name} has none")
        return picture


def open_video(address: Address) -> VideoSource:
    path = address.path
    return VideoSource(path, loop=address.options(VideoOptions).loop)


def open_stream(address: Address) -> LiveSource:
    """Open a stream by its own URL; what follows its question mark is the stream's, not ours."""
    name = str(address)
    hint = "is the address right, and does a player such as VLC show it?"
    return LiveSource(name, lambda: Capture(address.text, name, hint))
