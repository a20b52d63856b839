"""Moving pictures out of nothing but a seed and a time: ``dream://``.

What a worker paints on while no picture comes in, and a source for whoever wants the same from a
producer. Made to be painted over: bodies of several sizes with a lit side and a rim, liquid bands
between them, contours for what draws lines, the whole range from dark to bright, several hues.

Nothing in it is random once the seed is fixed, and nothing jumps: every part is a smooth function
of the time, at speeds that have no common period.
"""

import math
import time
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from pydantic import Field

from dreamrelay.codec import Frame
from dreamrelay.errors import ConfigError
from dreamrelay.media.address import Address, Options
from dreamrelay.media.pacing import CaptureClock
from dreamrelay.media.ports import Captured, Source

Field2 = NDArray[np.float32]

MOST_DETAIL = 192
"""Points of the shorter side at which a picture is computed at most; then it is scaled up."""

BODIES = 6
FOLDS = 3
"""How often space is folded into itself: more makes more and finer swirls."""

LEVELS = 1024
"""Entries of the colour table."""

TURN = 2 * math.pi


class Dream:
    """Draws the picture of any moment.

    Args:
        width, height: pixels.
        seed: another one shows another dream.
    """

    def __init__(self, width: int, height: int, seed: int = 0) -> None:
        self.width, self.height, self.seed = width, height, seed
        short = min(width, height)
        points = min(short, MOST_DETAIL, 80 + short // 8)  # 112 of 256, 144 of 512
        rows = max(8, round(points * height / short))
        columns = max(8, round(points * width / short))
        step = 2.0 / min(rows, columns)
        y = ((np.arange(rows) + 0.5) * step - rows * step / 2).astype(np.float32)
        x = ((np.arange(columns) + 0.5) * step - columns * step / 2).astype(np.float32)
        self._y, self._x = np.meshgrid(y, x, indexing="ij")
        self._step = np.float32(step)
        self._edge = (float(x[-1]), float(y[-1]))
        random = np.random.default_rng(seed)
        self._phases = random.uniform(0, TURN, 32)
        self._speeds = random.uniform(0.75, 1.25, 32)
        self._sizes = random.permutation(np.geomspace(0.1, 0.46, BODIES))
        self._hue = float(random.uniform())

    def __call__(self, seconds: float) -> Frame:
        """The picture of that moment, new each time."""
        height, bodies, inside = self._bodies(seconds)
        u, v = self._folded(seconds, bodies)
        bands = np.sin(u * np.float32(1.7) + v * np.float32(0.8))
        ground = np.sin(u * np.float32(0.9) - v * np.float32(1.3))
        ripples = np.sin(v * np.float32(4.3) + bands * np.float32(1.4))
        relief = ground * np.float32(0.17) + bands * np.float32(0.09)
        relief += ripples * np.float32(0.02)
        light = self._lit(np.add(relief, height, dtype=np.float32), seconds)
        light += relief * np.float32(0.7)
        light *= self._rims(bodies)
        hue = bands * np.float32(0.15) + ground * np.float32(0.1) + inside * np.float32(0.38)
        hue += ripples * np.float32(0.025)
        hue *= np.float32(LEVELS)
        colour = self._colours(seconds)[hue.astype(np.int32) & (LEVELS - 1)]
        colour *= light[:, :, None]
        np.clip(colour, 0, 255, out=colour)
        small = Image.fromarray(colour.astype(np.uint8))
        full = small.resize((self.width, self.height), Image.Resampling.BICUBIC)
        return np.array(full, order="C")

    def _wave(self, number: int, period: float, seconds: float) -> float:
        """A slow swing in -1..1 of its own phase and speed."""
        angle = TURN * seconds * self._speeds[number] / period
        return math.sin(angle + self._phases[number])

    def _bodies(self, seconds: float) -> tuple[Field2, Field2, Field2]:
        """Drops that drift, melt into one another and part: their height, their pull (1 at the
        rim), and how much a point is inside.
        """
        pull = np.zeros_like(self._x)
        wide, high = self._edge
        for number, size in enumerate(self._sizes):
            at_x = 0.85 * wide * self._wave(2 * number, 23.0 + 4 * number, seconds)
            at_y = 0.85 * high * self._wave(2 * number + 1, 19.0 + 5 * number, seconds)
            radius = float(size) * (1 + 0.18 * self._wave(10 + number, 9.0, seconds))
            dx = self._x - np.float32(at_x)
            dy = self._y - np.float32(at_y)
            dx *= dx
            dy *= dy
            dx += dy
            dx += np.float32(0.25 * radius * radius)
            np.divide(np.float32(1.25 * radius * radius), dx, out=dx)
            dx *= dx
            pull += dx
        # As of a ball: how far from its middle a point is, where 1 is the rim.
        far = np.float32(1.25) / np.sqrt(pull) - np.float32(0.25)
        np.minimum(far, np.float32(1), out=far)
        height = np.sqrt(np.float32(1) - far) * np.float32(0.34)
        inside = np.clip((pull - np.float32(0.9)) * np.float32(5.0), 0, 1)
        return height, pull, inside

    def _folded(self, seconds: float, bodies: Field2) -> tuple[Field2, Field2]:
        """Coordinates that flow: space shifted by waves of itself, again and again."""
        zoom = 2.0 + 0.5 * self._wave(16, 47.0, seconds)
        angle = 0.6 * self._wave(17, 61.0, seconds) + float(self._phases[18])
        c, s = np.float32(zoom * math.cos(angle)), np.float32(zoom * math.sin(angle))
        bent = np.minimum(bodies, np.float32(1.6)) * np.float32(0.35)
        u = self._x * c - self._y * s + bent
        v = self._x * s + self._y * c - bent
        u += np.float32(5.0 * self._wave(19, 290.0, seconds))
        v += np.float32(1.5 * self._wave(20, 53.0, seconds))
        for fold in range(FOLDS):
            often = 0.9 + 0.75 * fold
            much = np.float32(1.05 / often)
            speed = seconds * float(self._speeds[21 + fold])
            first = (0.21 * (1 + 0.4 * fold) * speed + self._phases[21 + fold]) % TURN
            speed = seconds * float(self._speeds[24 + fold])
            second = (0.17 * (1 + 0.5 * fold) * speed + self._phases[24 + fold]) % TURN
            u += np.sin(v * np.float32(often) + np.float32(first)) * much
            v += np.sin(u * np.float32(often) - np.float32(second)) * much
        return u, v

    def _lit(self, relief: Field2, seconds: float) -> Field2:
        """How bright each point of the relief is under a lamp that wanders."""
        angle = -2.2 + 0.7 * self._wave(28, 37.0, seconds)
        across = np.empty_like(relief)
        down = np.empty_like(relief)
        across[:, 1:-1] = relief[:, 2:] - relief[:, :-2]
        across[:, 0], across[:, -1] = across[:, 1], across[:, -2]
        down[1:-1] = relief[2:] - relief[:-2]
        down[0], down[-1] = down[1], down[-2]
        across *= np.float32(0.5) / self._step
        down *= np.float32(0.5) / self._step
        facing: Field2 = across * np.float32(0.72 * math.cos(angle))
        facing += down * np.float32(0.72 * math.sin(angle))
        facing += np.float32(0.7)
        across *= across
        down *= down
        across += down
        across += np.float32(1)
        facing /= np.sqrt(across)
        np.maximum(facing, np.float32(0), out=facing)
        gleam: Field2 = facing * facing
        gleam *= gleam
        facing *= np.float32(0.95)
        facing += gleam * np.float32(0.35)
        facing += np.float32(0.14)
        return facing

    def _rims(self, bodies: Field2) -> Field2:
        """A dark line along the bodies' rims; 1 elsewhere."""
        rim: Field2 = np.abs(bodies - np.float32(0.9)) * np.float32(4.5)
        np.minimum(rim, np.float32(1), out=rim)
        rim *= np.float32(0.75)
        rim += np.float32(0.25)
        return rim

    def _colours(self, seconds: float) -> NDArray[np.float32]:
        """The colour table of the moment, round: three hues that wander and a bright one."""
        at = np.arange(LEVELS, dtype=np.float32) * np.float32(TURN / LEVELS)
        table = np.empty((LEVELS, 3), np.float32)
        turn = TURN * (self._hue + seconds / 97.0)
        apart = TURN * (0.2 + 0.07 * self._wave(29, 43.0, seconds))
        for channel in range(3):
            phase = turn + channel * apart
            swing = np.sin(at + np.float32(phase % TURN))
            swing += np.float32(0.3) * np.sin(2 * at + np.float32((2.3 * phase) % TURN))
            table[:, channel] = np.float32(158) + np.float32(88) * swing
        return table


class DreamOptions(Options):
    width: int = Field(512, ge=64, le=8192)
    height: int = Field(512, ge=64, le=8192)
    fps: float = Field(30.0, ge=0, le=1000)
    """0: as fast as one reads."""
    seed: int = Field(0, ge=0)


class DreamSource(Source):
    """Draws the picture of the moment at which it is read."""

    live = True

    def __init__(
        self, dream: Dream, fps: float | None, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.fps = fps
        self._dream = dream
        self._clock = clock
        self._began = clock()
        self._captured = CaptureClock()
        self._closed = False

    def read(self) -> Captured | None:
        if self._closed:
            return None
        frame = self._dream(self._clock() - self._began)
        return Captured(frame, self._captured())

    def close(self) -> None:
        self._closed = True


def open_dream(address: Address) -> DreamSource:
    """Open ``dream://``."""
    options = address.options(DreamOptions)
    if address.target:
        raise ConfigError(f"{address}: expected nothing behind dream://, got {address.target!r}")
    return DreamSource(Dream(options.width, options.height, options.seed), options.fps or None)
