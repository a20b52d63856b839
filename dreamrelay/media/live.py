"""A reading thread for devices and streams that do not wait for their reader.

cv2 hands out every picture in order: whoever reads slower than the camera sees an ever older past.
So a thread of our own reads all of them, and a mailbox keeps the newest.
"""

import logging
import threading
from collections.abc import Callable
from typing import Protocol

from dreamrelay.codec import Frame
from dreamrelay.errors import ClosedError, DeviceError
from dreamrelay.mailbox import Mailbox
from dreamrelay.media.opencv import to_rgb
from dreamrelay.media.pacing import CaptureClock, Pacer
from dreamrelay.media.ports import Captured, Source

log = logging.getLogger(__name__)

PATIENCE_S = 12.0
"""Longer than cv2 takes to give up opening, then reading, a dead URL."""

FIRST_PATIENCE_S = 30.0
"""Some drivers take that long to open a camera that is there; one that is not says so at once."""

FIRST_WAIT_S = 0.25
LONGEST_WAIT_S = 5.0


class Device(Protocol):
    """What the thread reads: see :class:`~dreamrelay.media.opencv.Capture`."""

    fps: float | None
    has_end: bool

    def read(self) -> Frame | None: ...
    def release(self) -> None: ...


class LiveSource(Source):
    """The newest picture of a device; when it fails it is opened again, later and later.

    A device that has an end (a file that stands in for a camera) plays at its own rate, round and
    round. Opening waits for the first picture, so that what is not there is told at once.

    Args:
        name: what people call the device.
        open_device: opens it; called in the reading thread, again after each failure.
        patience: seconds that ``read`` waits for a picture.
    """

    live = True

    def __init__(
        self, name: str, open_device: Callable[[], Device], *, patience: float = PATIENCE_S
    ) -> None:
        self.name = name
        self._open_device = open_device
        self._patience = patience
        self._stop = threading.Event()
        # B, G, R as cv2 has it: pictures that nobody takes are never converted.
        self._newest: Mailbox[tuple[Frame, int] | DeviceError] = Mailbox()
        self._pictures = 0  # of the reading thread
        self._thread = threading.Thread(target=self._run, name=f"read {name}", daemon=True)
        self._thread.start()
        try:
            self._take(FIRST_PATIENCE_S)
        except DeviceError:
            self.close()
            raise

    def read(self) -> Captured | None:
        newest = self._take(self._patience)
        if newest is None:
            return None
        picture, captured_ns = newest
        return Captured(to_rgb(picture), captured_ns)

    def _take(self, patience: float) -> tuple[Frame, int] | None:
        if self._stop.is_set():
            return None
        try:
            newest = self._newest.take(patience)
        except ClosedError:
            if self._stop.is_set():
                return None
            raise DeviceError(f"{self.name}: its reading thread died, see the log") from None
        if newest is None:
            raise DeviceError(f"{self.name}: no picture for {patience:g} s")
        if isinstance(newest, DeviceError):
            raise newest
        return newest

    @property
    def skipped(self) -> int:
        """How many pictures were replaced by newer ones before they were read."""
        return self._newest.statistics().replaced

    def close(self) -> None:
        self._stop.set()
        # A read that hangs in the driver ends by its own timeout; nobody waits for that.
        self._thread.join(timeout=2.0)
        self._newest.close()

    def _run(self) -> None:
        try:
            self._keep_reading()
        finally:
            self._newest.close()

    def _keep_reading(self) -> None:
        clock = CaptureClock()
        wait, worked = 0.0, False
        while not self._stop.wait(wait):
            before = self._pictures
            error = self._play_once(clock)
            played = self._pictures > before
            worked = worked or played
            if error is None:
                wait = 0.0
                continue
            wait = FIRST_WAIT_S if played or not wait else min(LONGEST_WAIT_S, wait * 2)
            if self._stop.is_set():
                return
            if worked:  # at the first attempt, whoever opens is told
                # Once, not at every attempt; and whoever reads is told, and says it louder.
                level = logging.INFO if played else logging.DEBUG
                log.log(level, "%s; trying again in %g s", error, wait)
            self._newest.put(error)

    def _play_once(self, clock: CaptureClock) -> DeviceError | None:
        """Open the device and read to its end; what went wrong, if anything did."""
        before = self._pictures
        try:
            device = self._open_device()
        except DeviceError as error:
            return error
        try:
            self._play(device, clock)
        except DeviceError as error:
            return error
        finally:
            device.release()
        if device.has_end and self._pictures > before:
            return None
        return DeviceError(f"{self.name} gives no more pictures (unplugged? ended?)")

    def _play(self, device: Device, clock: CaptureClock) -> None:
        pacer = Pacer(device.fps or 25.0) if device.has_end else None
        while not self._stop.is_set():
            picture = device.read()
            if picture is None:
                return
            if pacer is not None:
                self._stop.wait(pacer.delay())
                pacer.tick()
            self._newest.put((picture, clock()))
            self._pictures += 1
