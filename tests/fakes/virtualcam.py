"""pyvirtualcam 0.15 without a driver: a fake with the real signatures and the real checks.

No machine of the tests has a driver, and the package is GPL, which the tests need not install.
Where it is installed, ``test_virtualcam.py`` compares the two.
"""

import enum
from dataclasses import dataclass, field
from types import ModuleType
from typing import Any

import numpy as np
from numpy.typing import NDArray

Pixels = NDArray[np.uint8]


class PixelFormat(enum.Enum):
    RGB = "raw "
    BGR = "24BG"
    RGBA = "ABGR"
    GRAY = "J400"
    I420 = "I420"
    NV12 = "NV12"
    YUYV = "YUY2"
    UYVY = "UYVY"


@dataclass
class Driver:
    """What the programs of one machine share."""

    installed: bool = True
    backends: tuple[str, ...] = ("obs",)
    devices: tuple[str, ...] = ("OBS Virtual Camera",)
    unplugged: bool = False
    opened: list[tuple[int, int, float, str]] = field(default_factory=list)
    closed: int = 0
    seen: Pixels | None = None
    """What a program that looks sees."""

    def module(self) -> ModuleType:
        """What ``import pyvirtualcam`` finds."""
        module = ModuleType("pyvirtualcam")
        vars(module).update(PixelFormat=PixelFormat, Camera=camera_of(self))
        return module


def camera_of(driver: Driver) -> type:
    class Camera:
        def __init__(
            self,
            width: int,
            height: int,
            fps: float,
            *,
            fmt: PixelFormat = PixelFormat.RGB,
            device: str | None = None,
            backend: str | None = None,
            print_fps: bool = False,
            **kw: Any,
        ) -> None:
            if backend and backend not in driver.backends:
                raise KeyError(backend)
            if not driver.installed:
                raise RuntimeError(
                    "'obs' backend: virtual camera output not found\n'x' backend: none"
                )
            if device is not None and device not in driver.devices:
                raise RuntimeError(f"'obs' backend: device {device!r} is not there")
            assert fmt is PixelFormat.RGB, "the fake has one format"
            if width % 2 or height % 2:
                raise RuntimeError("'obs' backend: width and height must be even")
            self._shape = (height, width, 3)
            self._backend: Driver | None = driver
            driver.opened.append((width, height, fps, device or driver.devices[0]))

        def send(self, frame: Pixels) -> None:
            if frame.dtype != np.uint8:
                raise TypeError(f"unexpected frame dtype: {frame.dtype} != uint8")
            if frame.shape != self._shape:
                raise ValueError(f"unexpected frame shape: {frame.shape} != {self._shape}")
            assert self._backend is not None, "sent to a camera that was closed"
            if driver.unplugged:
                raise RuntimeError("error writing frame")
            driver.seen = frame.copy()

        def close(self) -> None:
            if self._backend is not None:  # which it has none where its beginning failed
                self._backend = None
                driver.closed += 1

        def __del__(self) -> None:
            self.close()

    return Camera
