"""Cameras: ``camera://0?width=1280&height=720&fps=30``.

In the index's place, a path or a URL stands in for a camera.
"""

from typing import Literal

import cv2
from pydantic import Field

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


class CameraOptions(Options):
    """What to wish for; a camera gives the nearest it can."""

    width: int | None = Field(None, ge=16, le=16384)
    height: int | None = Field(None, ge=16, le=16384)
    fps: float | None = Field(None, gt=0, le=1000)
    backend: Literal["any", "avfoundation", "dshow", "msmf", "v4l2"] = "any"


def open_camera(address: Address) -> LiveSource:
    options = address.options(CameraOptions)
    target = address.target or "0"
    index = int(target) if target.isascii() and target.isdigit() else None
    if index is None:
        place = target if "://" in target else str(address.path)
        hint = "is there a video that OpenCV can read?"
        return LiveSource(str(address), lambda: Capture(place, str(address), hint))
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
        f"Try camera://{index + 1 if index == 0 else 0}"
    )
    backend = _BACKENDS[options.backend]
    return LiveSource(
        name, lambda: Capture(index, name, hint, backend=backend, properties=properties)
    )
