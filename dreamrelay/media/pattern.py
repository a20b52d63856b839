"""Pictures out of nothing: ``pattern://bars``, ``noise``, ``flat`` and ``clip``.

All are drawn from the number of the picture and a seed, so two runs show the same.
"""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from PIL import ImageColor
from pydantic import Field, field_validator

from dreamrelay.codec import Frame
from dreamrelay.errors import ConfigError
from dreamrelay.importer import Entry
from dreamrelay.media.address import Address, Options, suggestion
from dreamrelay.media.pacing import CaptureClock
from dreamrelay.media.ports import Captured, Source

Draw = Callable[[int], Frame]
"""Draw the picture of that number; the frame is new each time."""


class PatternOptions(Options):
    width: int = Field(512, ge=64, le=8192)
    height: int = Field(512, ge=64, le=8192)
    fps: float = Field(30.0, ge=0, le=1000)
    """0: as fast as one reads."""
    seed: int = Field(0, ge=0)
    colour: str = "ff8000"
    """Of ``flat``: six hexadecimal digits or a name."""

    @field_validator("colour")
    @classmethod
    def _is_colour(cls, colour: str) -> str:
        rgb(colour)
        return colour


class PatternSource(Source):
    """Draws one picture per read."""

    live = True

    def __init__(self, draw: Draw, fps: float | None) -> None:
        self.fps = fps
        self._draw = draw
        self._clock = CaptureClock()
        self._number = 0
        self._closed = False

    def read(self) -> Captured | None:
        if self._closed:
            return None
        frame = self._draw(self._number)
        self._number += 1
        return Captured(frame, self._clock())

    def close(self) -> None:
        self._closed = True


# --- bars
# -------------------------------------------------------------------------------------------

COUNTER_BITS = 20
_SYNC = (1, 0)
_CHECK_BITS = 2
_END = (0,)  # the other colour than the first cell: a mirrored counter is none
_CELLS = len(_SYNC) + COUNTER_BITS + _CHECK_BITS + len(_END)
_COUNTER_SHARE = 8  # the counter takes the lowest eighth

_FONT = {
    "0": (7, 5, 5, 5, 7),
    "1": (2, 6, 2, 2, 7),
    "2": (7, 1, 7, 4, 7),
    "3": (7, 1, 7, 1, 7),
    "4": (5, 5, 7, 1, 1),
    "5": (7, 4, 7, 1, 7),
    "6": (7, 4, 7, 5, 7),
    "7": (7, 1, 2, 2, 2),
    "8": (7, 5, 7, 5, 7),
    "9": (7, 5, 7, 1, 7),
}
"""Rows of three pixels each, the left one is 4."""


class Bars:
    """A test card that shows at a glance, and to a program, what a picture went through.

    Bars of pure red, green and blue from left to right; an arrow that points up and leans to
    nothing but its own mirror (a flag on its right side); a ball that runs to the right; greys from
    black to white; and the picture's number, in digits and as black and white cells (see
    :func:`read_counter`).
    """

    def __init__(self, options: PatternOptions) -> None:
        self._width, self._height = options.width, options.height
        self._phase = options.seed
        self._card = self._draw_card()

    def __call__(self, number: int) -> Frame:
        frame = self._card.copy()
        self._draw_ball(frame, number + self._phase)
        self._draw_digits(frame, number)
        self._draw_counter(frame, number)
        return frame

    def _draw_card(self) -> Frame:
        width, height = self._width, self._height
        card = np.zeros((height, width, 3), np.uint8)
        bars = self._rows(0.0, 0.60)
        for channel in range(3):
            columns = slice(channel * width // 3, (channel + 1) * width // 3)
            card[bars, columns, channel] = 255
        self._draw_arrow(card)
        card[self._rows(0.60, 0.775)] = 32
        card[self._rows(0.775, 1 - 1 / _COUNTER_SHARE)] = np.linspace(0, 255, width)[:, None]
        return card

    def _draw_arrow(self, card: Frame) -> None:
        size = min(self._width, self._height) * 0.42
        y, x = np.mgrid[0 : self._height, 0 : self._width]
        across = (x + 0.5 - self._width / 2) / size
        down = (y + 0.5 - self._height * 0.30) / size

        def arrow(margin: float) -> NDArray[np.bool_]:
            head = (down > -0.5 - margin) & (down < 0.0 + margin)
            head &= np.abs(across) < (down + 0.5) * 0.8 + margin * 1.2
            shaft = (np.abs(across) < 0.12 + margin) & (down > -0.02) & (down < 0.5 + margin)
            flag = (across > 0) & (across < 0.34 + margin)
            flag &= (down > 0.22 - margin) & (down < 0.40 + margin)
            return np.asarray(head | shaft | flag)

        card[arrow(0.035)] = 0
        card[arrow(0.0)] = 255

    def _draw_ball(self, frame: Frame, moment: int) -> None:
        rows = self._rows(0.60, 0.775)
        high = rows.stop - rows.start
        radius = max(2.0, high * 0.36)
        step = max(1.0, self._width / 120)  # once across in four seconds at 30 fps
        left = (moment * step) % self._width
        y, x = np.ogrid[0:high, 0 : self._width]
        # The ball leaves at the right edge while it comes in at the left.
        across = np.abs(x + 0.5 - left)
        across = np.minimum(across, self._width - across)
        ball = across**2 + (y + 0.5 - high / 2) ** 2 < radius**2
        frame[rows][ball] = (255, 200, 0)

    def _draw_digits(self, frame: Frame, number: int) -> None:
        rows = self._rows(0.775, 1 - 1 / _COUNTER_SHARE)
        scale = max(1, (rows.stop - rows.start - 2) // 7)
        text = f"{number % 1_000_000:06d}"
        plate = np.zeros((7, 4 * len(text) + 1), np.uint8)
        for place, digit in enumerate(text):
            for row, bits in enumerate(_FONT[digit]):
                at = 1 + 4 * place
                plate[1 + row, at : at + 3] = [255 * (bits >> shift & 1) for shift in (2, 1, 0)]
        plate = plate.repeat(scale, 0).repeat(scale, 1)[:, : self._width]
        top = (rows.start + rows.stop - plate.shape[0]) // 2
        left = (self._width - plate.shape[1]) // 2
        frame[top : top + plate.shape[0], left : left + plate.shape[1]] = plate[:, :, None]

    def _draw_counter(self, frame: Frame, number: int) -> None:
        edges = [cell * self._width // _CELLS for cell in range(_CELLS + 1)]
        row = np.zeros(self._width, np.uint8)
        for bit, start, stop in zip(_cells(number), edges[:-1], edges[1:], strict=True):
            row[start:stop] = 255 * bit
        frame[self._rows(1 - 1 / _COUNTER_SHARE, 1.0)] = row[None, :, None]

    def _rows(self, start: float, stop: float) -> slice:
        return slice(round(start * self._height), round(stop * self._height))


def read_counter(frame: Frame) -> int:
    """Read the number of a picture of ``pattern://bars``, modulo 2**20.

    It survives JPEG and scaling of the whole picture, not cutting.

    Raises:
        ValueError: there is no counter in this picture.
    """
    height, width = frame.shape[:2]
    share = height / _COUNTER_SHARE
    top, bottom = int(height - share * 0.75), max(int(height - share * 0.25), 1)
    bits = []
    for cell in range(_CELLS):
        left = int((cell + 0.3) * width / _CELLS)
        right = max(left + 1, int((cell + 0.7) * width / _CELLS))
        bits.append(int(frame[top : max(bottom, top + 1), left:right].mean() > 127.5))
    number = 0
    for bit in bits[len(_SYNC) : len(_SYNC) + COUNTER_BITS]:
        number = number << 1 | bit
    if tuple(bits) != _cells(number):
        raise ValueError("expected the counter of pattern://bars at the lower edge, found none")
    return number


def _cells(number: int) -> tuple[int, ...]:
    number %= 1 << COUNTER_BITS
    bits = [number >> shift & 1 for shift in reversed(range(COUNTER_BITS))]
    check = (sum(bits) + 1) % (1 << _CHECK_BITS)
    checks = [check >> shift & 1 for shift in reversed(range(_CHECK_BITS))]
    return (*_SYNC, *bits, *checks, *_END)


# --- noise and flat
# ---------------------------------------------------------------------------------


class Noise:
    """Coloured noise, new in every picture: the hardest thing for a codec."""

    def __init__(self, options: PatternOptions) -> None:
        self._options = options

    def __call__(self, number: int) -> Frame:
        random = np.random.default_rng((self._options.seed, number))
        shape = (self._options.height, self._options.width, 3)
        return random.integers(0, 256, shape, dtype=np.uint8)


class Flat:
    """One colour: the easiest thing for a codec."""

    def __init__(self, options: PatternOptions) -> None:
        self._frame = np.empty((options.height, options.width, 3), np.uint8)
        self._frame[:] = rgb(options.colour)

    def __call__(self, number: int) -> Frame:
        return self._frame.copy()


def rgb(colour: str) -> tuple[int, int, int]:
    """Read ``ff8000``, ``#ff8000`` or a colour's name.

    Raises:
        ValueError: it is none.
    """
    for spelled in (colour, f"#{colour}"):
        try:
            red, green, blue = ImageColor.getrgb(spelled)[:3]
        except ValueError:
            continue
        return red, green, blue
    raise ValueError("expected six hexadecimal digits such as ff8000 or a name such as orange")


PATTERNS: dict[str, Entry] = {
    "bars": Entry("dreamrelay.media.pattern:Bars", "the test card"),
    "clip": Entry("dreamrelay.media.clip:Clip", "the moving scene", "producer"),
    "flat": Entry("dreamrelay.media.pattern:Flat", "the flat pattern"),
    "noise": Entry("dreamrelay.media.pattern:Noise", "the noise pattern"),
    "timecode": Entry("dreamrelay.media.timecode:TimeCode", "the time code", "producer"),
}


def open_pattern(address: Address) -> PatternSource:
    name = address.target.rstrip("/") or "bars"
    options = address.options(PatternOptions)
    entry = PATTERNS.get(name)
    if entry is None:
        known = ", ".join(f"pattern://{known}" for known in PATTERNS)
        raise ConfigError(f"expected {known}, got {address}{suggestion(name, PATTERNS)}")
    return PatternSource(entry.load()(options), options.fps or None)
