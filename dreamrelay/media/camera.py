"""Cameras: ``camera://0?width=1280&height=720&fps=30``.

In the index's place, a path or a URL stands in for a camera.
"""

import re
from typing import Literal

import cv2
from pydantic import Field

from dreamrelay.errors import ConfigError
from dreamrelay.media.address import Address, Options
from dreamrelay.media.live import LiveSource
from dreamrelay.media.opencv import Capture

_BACKENDS = {
    "any": cv2.CAP_ANY,
    "avfoundation": cv2.CAP_AVFOUNDATION,
    "dshow": cv2.CAP_DSHOW,
    "msmf": cv2.CAP_MSMF,
    "v4l2": cv2.CAP_V4L2,
}


# From 100 on cv2 takes a number for that of a backend.
_INDEX = re.compile(r"\d{1,2}", re.ASCII)


class CameraOptions(Options):
    """What to wish for; a camera gives the nearest it can."""

    width: int | None = Field(None, ge=16, le=16384)
    height: int | None = Field(None, ge=16, le=16384)
    fps: float | None = Field(None, gt=0, le=1000)
    backend: Literal["any", "avfoundation", "dshow", "msmf", "v4l2"] = "any"


def open_camera(address: Address) -> LiveSource:
    options = address.options(CameraOptions)
    target = address.target or "0"
    if _INDEX.fullmatch(target) is None:
        return _stand_in(address)
    index = int(target)
    wishes = {
        cv2.CAP_PROP_FRAME_WIDTH: options.width,
        cv2.CAP_PROP_FRAME_HEIGHT: options.height,
        cv2.CAP_PROP_FPS: options.fps,
        # Drivers queue pictures; where one listens to this, the newest comes sooner.
        cv2.CAP_PROP_BUFFERSIZE: 1,
    }
    properties = {key: float(value) for key, value in wishes.items() if value is not None}
    name = f"camera {index}"
    hint = (
        "is it plugged in, allowed for this program and free (close other programs that use it)? "
        f"Try camera://{index + 1 if index == 0 else 0}; dreamrelay list names those there are"
    )
    backend = _backend(options.backend)
    return LiveSource(
        name, lambda: Capture(index, name, hint, backend=backend, properties=properties)
    )


def _stand_in(address: Address) -> LiveSource:
    """A video, or a device by its path, in a camera's place."""
    place = address.target
    if "://" not in place:
        path = address.path
        # A device's path may be there later; a word, or a number that is none, never will.
        if not path.suffix and path.name == place and not path.exists():
            raise ConfigError(
                f"expected the number of a camera (camera://0 to camera://99), or the path or URL"
                f" of a video, got {address}; dreamrelay list names those there are"
            )
        place = str(path.absolute())
    hint = "is there a video that OpenCV can read?"
    return LiveSource(str(address), lambda: Capture(place, str(address), hint))


def _backend(name: str) -> int:
    """The number that cv2 has for a backend, if it is there."""
    wanted = _BACKENDS[name]
    there = cv2.videoio_registry.getCameraBackends()
    if wanted != cv2.CAP_ANY and wanted not in there:
        found = [known for known, number in _BACKENDS.items() if number in there]
        raise ConfigError(
            f"expected a backend of this system ({', '.join(['any', *found])}), got {name!r}"
        )
    return wanted
