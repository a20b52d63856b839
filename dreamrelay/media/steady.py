"""A source that goes on: a webcam that is pulled out, a screen that goes, a sender that ends.

A live source's error is no end. It is said once, asked again later and later, and is over with the
next picture; whoever wants can have a card meanwhile that says what is missing.
"""

import logging
import textwrap
import threading
import time

import cv2
import numpy as np

from dreamrelay.codec import Fit, Frame, resize
from dreamrelay.errors import DeviceError
from dreamrelay.media.catalog import open_source
from dreamrelay.media.pacing import CaptureClock
from dreamrelay.media.ports import Captured, Source

log = logging.getLogger(__name__)

FIRST_WAIT_S = 0.25
LONGEST_WAIT_S = 5.0
NOTICE_EVERY_S = 0.5

_QUICK_S = 1.0
"""A read that failed after less is waited after; one that waited by itself is not."""


class Fitting:
    """Turn and scale frames.

    Args:
        width, height: to scale to; with one of them the aspect is kept, with none the size.
        fit: how another aspect is made to fit, where both are given.
        flip: turn upside down.
    """

    def __init__(
        self, width: int | None, height: int | None, fit: Fit = "cover", *, flip: bool = False
    ) -> None:
        self._width, self._height, self._fit, self._flip = width, height, fit, flip

    def __call__(self, frame: Frame) -> Frame:
        if self._flip:
            frame = np.ascontiguousarray(frame[::-1])
        have_height, have_width = frame.shape[:2]
        width, height = self._width, self._height
        if width is None and height is None:
            return frame
        if width is None:
            width = max(1, round(have_width * (height or 1) / have_height))
        if height is None:
            height = max(1, round(have_height * width / have_width))
        return resize(frame, width, height, self._fit)


class SteadySource(Source):
    """Another source, kept going and made to fit.

    Args:
        url: what to open, in the thread that calls ``open``.
        fitting: what is done to its pictures.
        notice: give a card with the reason, every half second, while there is no picture.

    Attributes:
        trouble: why there is no picture at the moment, or nothing.
    """

    def __init__(self, url: str, fitting: Fitting, *, notice: bool = False) -> None:
        self.trouble = ""
        self._url = url
        self._fitting = fitting
        self._notice = notice
        self._source: Source | None = None
        self._clock = CaptureClock()
        self._stopped = threading.Event()
        self._size = (512, 512)
        self._wait = 0.0

    def open(self) -> None:
        """Open it now, so that what is not there is told at the start.

        Raises:
            ConfigError, DeviceError, MissingExtra: it cannot be opened.
        """
        self._source = open_source(self._url)
        self.live, self.fps = self._source.live, self._source.fps

    def stop(self) -> None:
        """Have ``read`` return None, also the one that waits; from any thread."""
        self._stopped.set()

    def read(self) -> Captured | None:
        if self._source is None:
            self.open()
        assert self._source is not None
        while not self._stopped.is_set():
            began = time.monotonic()
            try:
                captured = self._source.read()
            except DeviceError as error:
                if not self.live:
                    raise
                self._complain(str(error))
                quick = time.monotonic() - began < _QUICK_S
                card = self._rest(self._next_wait() if quick else 0.0)
                if card is not None:
                    return card
                continue
            if captured is None:
                return None
            if self.trouble:
                log.warning("%s: pictures come again", self._url)
                self.trouble, self._wait = "", 0.0
            self._size = (captured.frame.shape[1], captured.frame.shape[0])
            return Captured(self._fitting(captured.frame), captured.captured_ns)
        return None

    def close(self) -> None:
        self._stopped.set()
        if self._source is not None:
            self._source.close()

    def _complain(self, text: str) -> None:
        if text != self.trouble:  # once, not at every attempt
            log.warning("%s", text)
        self.trouble = text

    def _next_wait(self) -> float:
        self._wait = min(LONGEST_WAIT_S, self._wait * 2) if self._wait else FIRST_WAIT_S
        return self._wait

    def _rest(self, seconds: float) -> Captured | None:
        """Wait; or give a card, and have the next read go on from there."""
        if not self._notice:
            self._stopped.wait(seconds)
            return None
        self._stopped.wait(min(seconds, NOTICE_EVERY_S))
        return Captured(self._fitting(card(self.trouble, *self._size)), self._clock())


def card(text: str, width: int, height: int) -> Frame:
    """A dark picture that says why there is none."""
    frame = np.full((height, width, 3), (24, 24, 28), np.uint8)
    scale = max(0.25, min(width, height) / 700)
    line = max(10, round(34 * scale))
    lines = textwrap.wrap(f"no picture: {text}", max(8, round(width / (19 * scale))))
    for number, words in enumerate(lines):
        place = (line, round(height * 0.3) + number * line)
        face = cv2.FONT_HERSHEY_SIMPLEX
        cv2.putText(frame, words, place, face, scale, (255, 176, 64), 1, cv2.LINE_AA)
    return frame
