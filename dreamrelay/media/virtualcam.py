"""``virtualcam://``: a camera that other programs (Zoom, a browser, OBS) can choose.

It needs a driver: OBS on Windows and macOS, Unity Capture on Windows, v4l2loopback on Linux.
``virtualcam://`` takes the first there is, ``virtualcam:///dev/video2`` or
``virtualcam://OBS Virtual Camera`` one by its name.

pyvirtualcam, which this needs, is GPL-2.0: an extra of its own, imported when somebody asks for it.
"""

import platform
import time
from collections.abc import Callable
from typing import Any, Literal

import pyvirtualcam
from pydantic import Field

from dreamrelay.codec import Frame, resize
from dreamrelay.errors import ConfigError, DeviceError
from dreamrelay.media.address import Address, Options
from dreamrelay.media.ports import Sink

RETRY_S = 2.0
"""Between two attempts to open a camera that cannot be opened."""

_HINTS = {
    "Windows": "install OBS (https://obsproject.com) or Unity Capture",
    "Darwin": "install OBS, start its virtual camera once and allow it in System Settings",
    "Linux": "install v4l2loopback, then: sudo modprobe v4l2loopback",
}


class VirtualCameraOptions(Options):
    width: int | None = Field(None, ge=16, le=8192)
    height: int | None = Field(None, ge=16, le=8192)
    fps: float = Field(30.0, gt=0, le=240)
    """What is told to the driver; pictures are shown when they come."""
    backend: Literal["any", "obs", "unitycapture", "v4l2loopback"] = "any"


class _Camera(pyvirtualcam.Camera):  # type: ignore[misc]
    # Where its beginning failed, its end looks for this in vain, and says so on standard error.
    _backend = None


class VirtualCameraSink(Sink):
    """Shows each frame. Programs that look cannot follow another size, so the first one stays.

    Args:
        device: its name; None: any.
        size: of the camera; None: that of the first frame.
        backend: of pyvirtualcam; None: any.
        clock: the time in seconds.
    """

    def __init__(
        self,
        device: str | None = None,
        *,
        size: tuple[int, int] | None = None,
        fps: float = 30.0,
        backend: str | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        super().__init__()
        self._device, self._fps, self._backend = device, fps, backend
        self._size = size
        self._clock = clock
        self._camera: Any = None
        self._not_before = float("-inf")
        self._trouble = ""

    def write(self, frame: Frame) -> None:
        self.check(frame)
        if self._camera is None:
            self._open(frame)
        assert self._size is not None
        height, width = frame.shape[:2]
        # A size that is only rounded up to an even one gets no bars.
        near = 0 <= self._size[0] - width <= 1 and 0 <= self._size[1] - height <= 1
        fitted = resize(frame, *self._size, "stretch" if near else "contain")
        try:
            self._camera.send(fitted)
        except RuntimeError as error:
            self._let_go()
            self._fail(f"the virtual camera has gone: {_line(error)}", error)

    def close(self) -> None:
        super().close()
        self._let_go()

    def _open(self, frame: Frame) -> None:
        if self._clock() < self._not_before:
            raise DeviceError(self._trouble)
        height, width = frame.shape[:2]
        # Drivers halve the colours' resolution: they want even sizes.
        wide, high = self._size or (width, height)
        self._size = (wide + wide % 2, high + high % 2)
        try:
            self._camera = _Camera(
                *self._size,
                self._fps,
                fmt=pyvirtualcam.PixelFormat.RGB,
                device=self._device,
                backend=self._backend,
            )
        except KeyError as error:
            self._fail(f"expected a backend of this system, got {self._backend!r}", error)
        except RuntimeError as error:
            hint = _HINTS.get(platform.system(), "is there a driver for this system?")
            self._fail(f"no virtual camera can be opened: {hint} ({_line(error)})", error)

    def _fail(self, text: str, error: Exception) -> None:
        self._not_before = self._clock() + RETRY_S
        self._trouble = text
        raise DeviceError(text) from error

    def _let_go(self) -> None:
        camera, self._camera = self._camera, None
        if camera is not None:
            camera.close()


def _line(error: Exception) -> str:
    return "; ".join(part.strip() for part in str(error).splitlines() if part.strip())


def open_virtual_camera(address: Address) -> VirtualCameraSink:
    options = address.options(VirtualCameraOptions)
    width, height = options.width, options.height
    if (width is None) != (height is None):
        raise ConfigError(f"{address}: expected width and height together")
    return VirtualCameraSink(
        address.target or None,
        size=None if width is None or height is None else (width, height),
        fps=options.fps,
        backend=None if options.backend == "any" else options.backend,
    )
