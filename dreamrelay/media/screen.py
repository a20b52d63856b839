"""The screen: ``screen://0?region=100,100,512,512``."""

import re
import threading
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any

import cv2
import mss
import numpy as np
from pydantic import field_validator

from dreamrelay.errors import ConfigError, DeviceError
from dreamrelay.media.address import Address, Options
from dreamrelay.media.pacing import CaptureClock
from dreamrelay.media.ports import Captured, Source

Region = tuple[int, int, int, int]
"""x, y, width, height."""


LOOK_EVERY_S = 1.0
"""A monitor that was unplugged, or turned, is noticed so soon: grabbing where one was works on."""

# When the X server has gone, mss 10.2 trips over its own assertion; under `python -O` over a NULL.
_FAILURES = (mss.ScreenShotError, AssertionError, ValueError, OSError)


class ScreenOptions(Options):
    region: Region | None = None
    """Of that monitor, from its top left corner."""
    cursor: bool = False

    @field_validator("region", mode="before")
    @classmethod
    def _split(cls, value: Any) -> Any:
        if not isinstance(value, str):
            return value
        parts = value.strip("[]() ").split(",")
        if not all(re.fullmatch(r"\s*[+-]?\d+\s*", part) for part in parts) or len(parts) != 4:
            raise ValueError("expected x,y,width,height in whole pixels")
        return parts

    @field_validator("region")
    @classmethod
    def _has_area(cls, region: Region | None) -> Region | None:
        if region is not None and (region[2] < 1 or region[3] < 1):
            raise ValueError("expected x,y,width,height with a width and height of at least 1")
        return region


class ScreenSource(Source):
    """What a monitor shows now.

    The connection to the display is made by the thread that reads, as Windows and X want it, and
    made anew after a failure: a monitor may have changed its size.
    """

    live = True

    def __init__(
        self, monitor: int = 0, *, region: Region | None = None, cursor: bool = False
    ) -> None:
        self._monitor = monitor
        self._wanted = region
        self._cursor = cursor
        self._clock = CaptureClock()
        self._grabber: _Grabber | None = None
        self._look_at = 0.0
        self._thread = 0
        self._closed = False
        # Asked now, so that a missing display or monitor is told when the source is opened.
        self._connect()
        self._disconnect()

    @property
    def region(self) -> Region:
        """What is shown, in pixels of the whole desktop."""
        return self._region

    def read(self) -> Captured | None:
        if self._closed:
            return None
        if self._grabber is None or self._thread != threading.get_ident():
            self._disconnect()
            self._connect()
        assert self._grabber is not None
        try:
            if time.monotonic() >= self._look_at:
                self._look()
            left, top, width, height = self._region
            shot = self._grabber.grab((left, top, left + width, top + height))
        except _FAILURES as error:
            self._disconnect()
            why = str(error) or "the display has gone"
            raise DeviceError(f"cannot capture monitor {self._monitor}: {why}") from error
        except DeviceError:
            self._disconnect()
            raise
        pixels = np.frombuffer(shot.raw, np.uint8).reshape(shot.height, shot.width, 4)
        return Captured(cv2.cvtColor(pixels, cv2.COLOR_BGRA2RGB), self._clock())

    def close(self) -> None:
        self._closed = True
        self._disconnect()

    def _connect(self) -> None:
        try:
            self._grabber = _Grabber(with_cursor=self._cursor)
            self._look()
        except _FAILURES as error:
            self._disconnect()
            raise DeviceError(
                f"cannot capture the screen: {error}; is there a display (DISPLAY under X11, "
                "screen recording allowed on macOS)? Wayland alone cannot be captured"
            ) from error
        except DeviceError:
            self._disconnect()
            raise
        self._thread = threading.get_ident()

    def _look(self) -> None:
        """Find the monitor, where it is now."""
        assert self._grabber is not None
        self._region = self._choose(self._grabber.monitors_now())
        self._look_at = time.monotonic() + LOOK_EVERY_S

    def _choose(self, monitors: Sequence[Mapping[str, int]]) -> Region:
        if not monitors:
            raise DeviceError("no monitor is connected")
        if self._monitor >= len(monitors):
            raise DeviceError(
                f"monitor {self._monitor} is not there: expected 0 to {len(monitors) - 1}"
            )
        found = monitors[self._monitor]
        return _clamp(self._wanted, found["left"], found["top"], found["width"], found["height"])

    def _disconnect(self) -> None:
        if self._grabber is not None:
            grabber, self._grabber = self._grabber, None
            with suppress(*_FAILURES):  # of a display that has gone, nothing is left to close
                grabber.close()


class _Grabber(mss.MSS):  # type: ignore[misc]
    def monitors_now(self) -> Sequence[Mapping[str, int]]:
        """The monitors; mss itself asks once. The first entry is all of them together."""
        self._monitors = None
        there: Sequence[Mapping[str, int]] = self.monitors
        return there[1:]


def monitors() -> list[Region]:
    """Where the monitors are on the desktop, in the order of their numbers.

    Raises:
        DeviceError: there is no display.
    """
    try:
        with mss.MSS() as grabber:
            found = grabber.monitors[1:]
            return [(one["left"], one["top"], one["width"], one["height"]) for one in found]
    except _FAILURES as error:
        raise DeviceError(f"no display can be captured: {error}") from error


def _clamp(wanted: Region | None, left: int, top: int, width: int, height: int) -> Region:
    """The part of a monitor that is wanted and there."""
    if wanted is None:
        return (left, top, width, height)
    x, y, wide, high = wanted
    first_x, first_y = max(0, x), max(0, y)
    last_x, last_y = min(width, x + wide), min(height, y + high)
    if first_x >= last_x or first_y >= last_y:
        raise DeviceError(
            f"expected a region on the monitor of {width}x{height}, got x={x} y={y} {wide}x{high}"
        )
    return (left + first_x, top + first_y, last_x - first_x, last_y - first_y)


def open_screen(address: Address) -> ScreenSource:
    options = address.options(ScreenOptions)
    target = address.target or "0"
    if not (target.isascii() and target.isdigit()):
        raise ConfigError(f"expected the number of a monitor such as screen://0, got {address}")
    return ScreenSource(int(target), region=options.region, cursor=options.cursor)
