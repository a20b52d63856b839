"""A source that goes on: a webcam that is pulled out, a screen that goes, a sender that ends.

A live source's error is no end, nor need it be there at the start. The error is said once, the
source asked again later and later, and all is over with the next picture; whoever wants can have a
card meanwhile that says what is missing.
"""

import logging
import textwrap
import threading
import time
from collections.abc import Callable

import cv2
import numpy as np

from dreamrelay.codec import Fit, Frame, resize
from dreamrelay.errors import DeviceError
from dreamrelay.media.address import parse
from dreamrelay.media.catalog import comes_and_goes, open_source
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
        url: what to open, in the thread that calls ``open`` or reads.
        fitting: what is done to its pictures.
        notice: give a card with the reason, every half second, while there is no picture.
        wait: what comes and goes (a camera, a screen, a sender) need not be there at the start.
        hear: is told each new ``trouble``, and its end; in the thread that reads.
        opener: opens it, in place of what the URL says.

    Attributes:
        trouble: why there is no picture at the moment, or nothing.
        ends_at: ``read`` returns None from then on, in seconds of the monotonic clock.
    """

    def __init__(
        self,
        url: str,
        fitting: Fitting | None = None,
        *,
        notice: bool = False,
        wait: bool = True,
        hear: Callable[[str], None] = lambda _: None,
        opener: Callable[[], Source] | None = None,
    ) -> None:
        self.trouble = ""
        self.ends_at = float("inf")
        self._url = url
        self._fitting = fitting or Fitting(None, None)
        self._notice = notice
        self._may_wait = wait and comes_and_goes(url)
        self._hear = hear
        self._opener = opener or (lambda: open_source(url))
        self._source: Source | None = None
        self._given = False
        self._clock = CaptureClock()
        self._stopped = threading.Event()
        self._size = (512, 512)
        self._wait = 0.0

    def open(self) -> None:
        """Open it now, so that what can never be read is told at the start; idempotent.

        Raises:
            ConfigError, MissingExtra: the address is wrong, or a package is not installed.
            DeviceError: it is not there, and is not waited for.
        """
        try:
            self._opened()
        except DeviceError as error:
            if error.final or not self._may_wait:
                raise
            self._complain(str(error))

    def stop(self) -> None:
        """Have ``read`` return None, also the one that waits; from any thread."""
        self._stopped.set()

    def read(self) -> Captured | None:
        while not self._stopped.is_set() and time.monotonic() < self.ends_at:
            began = time.monotonic()
            try:
                captured = self._opened().read()
            except DeviceError as error:
                if error.final or not self._comes_again():
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
                log.warning("%s: pictures come again", parse(self._url))
                self.trouble, self._wait = "", 0.0
                self._hear("")
            self._given = True
            self._size = (captured.frame.shape[1], captured.frame.shape[0])
            return Captured(self._fitting(captured.frame), captured.captured_ns)
        return None

    def tend(self) -> None:
        source = self._source
        if source is not None:
            source.tend()

    def close(self) -> None:
        self._stopped.set()
        if self._source is not None:
            self._source.close()

    def _opened(self) -> Source:
        if self._source is None:
            self._source = self._opener()
            self.live, self.fps = self._source.live, self._source.fps
        return self._source

    def _comes_again(self) -> bool:
        if self._source is None:
            return self._may_wait
        return self.live or self._given

    def _complain(self, text: str) -> None:
        if text != self.trouble:  # once, not at every attempt
            log.warning("%s", text)
            self.trouble = text
            self._hear(text)

    def _next_wait(self) -> float:
        self._wait = min(LONGEST_WAIT_S, self._wait * 2) if self._wait else FIRST_WAIT_S
        return self._wait

    def _rest(self, seconds: float) -> Captured | None:
        """Wait; or give a card, and have the next read go on from there."""
        seconds = min(seconds, max(0.0, self.ends_at - time.monotonic()))
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
