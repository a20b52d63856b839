"""``pattern://timecode``: a picture that shows when it was drawn, so large that much may befall it.

It is how latency is measured without asking those who are measured: what a camera would see of a
clock. Who reads it back, from a packet or from the screen, knows how old that picture is by its own
clock alone (``dreamrelay bench glass``).

A square of ten by ten fields: a white frame, in it a black one, in it six by six fields that are
black or white. Of these the corners are fixed, 24 are the time in tenths of a millisecond, 8 its
check (CRC-8).
"""

import time
from collections.abc import Callable

import cv2
import numpy as np
from numpy.typing import NDArray

from dreamrelay.codec import Frame
from dreamrelay.media.pattern import PatternOptions

Box = tuple[int, int, int, int]
"""x, y, width, height of the black frame in a picture, in pixels."""

TICK_NS = 100_000
TICKS = 1 << 24
"""After so many it begins anew: 28 minutes."""

_BITS, _CHECK_BITS = 24, 8
_POLYNOMIAL = 0x07
_SIDE, _INNER, _CELLS = 10, 8, 6
_CORNERS = {(0, 0): 1, (0, _CELLS - 1): 0, (_CELLS - 1, 0): 0, (_CELLS - 1, _CELLS - 1): 1}
_PLACES = [
    (row, column)
    for row in range(_CELLS)
    for column in range(_CELLS)
    if (row, column) not in _CORNERS
]
LEAST_SIDE = 32
"""Pixels of the black frame; of less nobody could tell the fields."""

LEAST_CONTRAST = 48.0
"""Of 255, between the black of a code and its white."""


class TimeCode:
    """Draws the time at which it draws, in the middle of the picture.

    Args:
        unix_ns: UNIX time.
    """

    def __init__(
        self, options: PatternOptions, *, unix_ns: Callable[[], int] = time.time_ns
    ) -> None:
        self._size = (options.height, options.width)
        self._unix_ns = unix_ns

    def __call__(self, _: int) -> Frame:
        height, width = self._size
        fields = draw_fields(ticks(self._unix_ns()))
        side = min(height, width)
        frame = np.full((height, width), 255, np.uint8)
        top, left = (height - side) // 2, (width - side) // 2
        square = cv2.resize(fields, (side, side), interpolation=cv2.INTER_NEAREST)
        frame[top : top + side, left : left + side] = square
        drawn: Frame = cv2.cvtColor(frame, cv2.COLOR_GRAY2RGB)
        return drawn


def ticks(unix_ns: int) -> int:
    """A moment as a code shows it."""
    return unix_ns // TICK_NS % TICKS


def age_ms(code: int, unix_ns: int) -> float:
    """How old the picture with that code is at that moment, in ms; below 0: it is of the future."""
    half = TICKS // 2
    whole = (ticks(unix_ns) - code + half) % TICKS - half
    return (whole * TICK_NS + unix_ns % TICK_NS) / 1e6


def draw_fields(code: int) -> NDArray[np.uint8]:
    """The fields of a code, 0 or 255, uint8 of 10x10."""
    fields = np.full((_SIDE, _SIDE), 255, np.uint8)
    fields[1:-1, 1:-1] = 0
    inner = fields[2:-2, 2:-2]
    for place, bit in _CORNERS.items():
        inner[place] = 255 * bit
    value = code % TICKS << _CHECK_BITS | _check(code % TICKS)
    for at, place in enumerate(_PLACES):
        inner[place] = 255 * (value >> (_BITS + _CHECK_BITS - 1 - at) & 1)
    return fields


def read_code(frame: Frame, box: Box | None = None) -> int:
    """Read a code back.

    Args:
        box: where its black frame is; None: it fills the picture as :class:`TimeCode` drew it.

    Raises:
        ValueError: there is none, or too little is left of it.
    """
    x, y, width, height = box or _whole(frame)
    if min(width, height) < LEAST_SIDE:
        raise ValueError(f"expected a time code of at least {LEAST_SIDE} pixels, got {width}")
    levels = np.empty((_INNER, _INNER))
    for row in range(_INNER):
        rows = slice(*_middle(y, height, row))
        for column in range(_INNER):
            levels[row, column] = frame[rows, slice(*_middle(x, width, column))].mean()
    inner = levels[1:-1, 1:-1]
    black = np.concatenate((levels[0], levels[-1], levels[1:-1, 0], levels[1:-1, -1])).mean()
    white = np.mean([inner[place] for place, bit in _CORNERS.items() if bit])
    if white - black < LEAST_CONTRAST:
        raise ValueError("expected a time code, found no black frame with white corners in it")
    bits = inner > (black + white) / 2
    if any(bool(bits[place]) != bool(bit) for place, bit in _CORNERS.items()):
        raise ValueError("expected a time code, found other corners: it is mirrored or none")
    value = 0
    for place in _PLACES:
        value = value << 1 | int(bits[place])
    code = value >> _CHECK_BITS
    if value & (1 << _CHECK_BITS) - 1 != _check(code):
        raise ValueError("the time code contradicts its check: parts of it are lost")
    return code


def find_code(frame: Frame) -> tuple[Box, int]:
    """Find a code anywhere in a picture: where its black frame is, and what it says.

    Raises:
        ValueError: there is none.
    """
    grey = cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY)
    _, dark = cv2.threshold(grey, 127, 255, cv2.THRESH_BINARY_INV)
    contours, _ = cv2.findContours(dark, cv2.RETR_LIST, cv2.CHAIN_APPROX_SIMPLE)
    boxes = sorted((cv2.boundingRect(c) for c in contours), key=lambda box: -box[2] * box[3])
    for x, y, width, height in boxes:
        box = (int(x), int(y), int(width), int(height))
        if min(width, height) < LEAST_SIDE or not 0.8 < width / height < 1.25:
            continue
        try:
            return box, read_code(frame, box)
        except ValueError:
            continue
    raise ValueError("expected a time code, found none in this picture")


def _whole(frame: Frame) -> Box:
    height, width = frame.shape[:2]
    side = min(height, width)
    field = side / _SIDE
    inner = round(field * _INNER)
    return round((width - side) / 2 + field), round((height - side) / 2 + field), inner, inner


def _middle(start: int, length: int, number: int) -> tuple[int, int]:
    """The middle of a field: its edges are soft."""
    first = int(start + (number + 0.3) * length / _INNER)
    return first, max(first + 1, int(start + (number + 0.7) * length / _INNER))


def _check(code: int) -> int:
    """CRC-8 of a code's three bytes."""
    check = 0
    for byte in code.to_bytes(3, "big"):
        check ^= byte
        for _ in range(8):
            check = (check << 1 ^ (_POLYNOMIAL if check & 0x80 else 0)) & 0xFF
    return check
