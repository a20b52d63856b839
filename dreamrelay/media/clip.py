"""``pattern://clip``: a slow, pleasant scene for whoever has no camera at hand.

A sun over hills, a lake that mirrors it, clouds, and a balloon that drifts by: large shapes, clear
contours and one light, which is what a small diffusion model can hold on to.
"""

import math
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np
from numpy.typing import NDArray

from dreamrelay.codec import Frame

if TYPE_CHECKING:
    from dreamrelay.media.pattern import PatternOptions

Colour = tuple[int, int, int]

_SHIFT = 4  # cv2 draws between the pixels in sixteenths: slow things glide
_TURN = 2 * math.pi

_SKY = ((38, 70, 140), (104, 150, 208), (250, 196, 140), (255, 226, 176))
_SUN, _GLOW = (255, 236, 150), (255, 214, 120)
_RANGES: tuple[Colour, ...] = ((126, 128, 176), (88, 104, 140), (62, 118, 92))
_LAKE: tuple[Colour, Colour] = ((236, 186, 140), (60, 96, 150))
_MEADOW: Colour = (44, 92, 52)
_STRIPES: tuple[Colour, ...] = ((214, 48, 49), (250, 240, 220), (246, 168, 36), (250, 240, 220))
_CLOUD: Colour = (255, 246, 236)


class Clip:
    """Draws the scene at any size; a round takes 40 s at 30 fps and begins anew without a jump."""

    ROUND = 1200
    """Pictures until everything is where it was."""

    def __init__(self, options: "PatternOptions") -> None:
        self._width, self._height = options.width, options.height
        self._unit = min(self._width, self._height)
        self._random = np.random.default_rng(options.seed)
        self._sky = self._draw_sky()
        self._ridges = [self._ridge(level) for level in range(len(_RANGES))]
        self._clouds = self._random.uniform(0, 1, (4, 3))
        self._lake_top = round(self._height * 0.66)
        self._reach = self._glow_of_sun()

    def __call__(self, number: int) -> Frame:
        phase = number % self.ROUND / self.ROUND
        frame = self._sky.copy()
        sun = self._draw_sun(frame, phase)
        self._draw_clouds(frame, phase)
        self._draw_ranges(frame, phase)
        self._draw_lake(frame, phase, sun)
        self._draw_meadow(frame)
        self._draw_balloon(frame, phase)
        return frame

    # Points are in shares: x of the width, y of the height, sizes of the shorter side.

    def _draw_sky(self) -> Frame:
        stops = np.array(_SKY, np.float32)
        at = np.linspace(0, len(stops) - 1, self._height, dtype=np.float32) / 0.72
        at = np.clip(at, 0, len(stops) - 1.001)
        below = at.astype(int)
        rest = (at - below)[:, None]
        column = stops[below] * (1 - rest) + stops[below + 1] * rest
        return np.ascontiguousarray(
            np.broadcast_to(column[:, None, :], (self._height, self._width, 3)).astype(np.uint8)
        )

    def _glow_of_sun(self) -> NDArray[np.float32]:
        half = round(self._unit * 0.34)
        y, x = np.ogrid[-half : half + 1, -half : half + 1]
        far = np.sqrt(x * x + y * y) / half
        light = np.clip(1 - far, 0, 1) ** 2 * 0.75
        return np.asarray(light, np.float32)[:, :, None]

    def _draw_sun(self, frame: Frame, phase: float) -> tuple[float, float]:
        x = 0.66 + 0.10 * math.sin(_TURN * phase)
        y = 0.30 + 0.08 * math.cos(_TURN * phase)
        self._add_light(frame, x, y)
        self._disc(frame, x, y, 0.105, _SUN)
        return x, y

    def _add_light(self, frame: Frame, x: float, y: float) -> None:
        glow = self._reach
        half = glow.shape[0] // 2
        left, top = round(x * self._width) - half, round(y * self._height) - half
        rows = slice(max(0, top), min(self._height, top + glow.shape[0]))
        columns = slice(max(0, left), min(self._width, left + glow.shape[1]))
        part = glow[rows.start - top : rows.stop - top, columns.start - left : columns.stop - left]
        under = frame[rows, columns]
        frame[rows, columns] = (under + (np.array(_GLOW, np.float32) - under) * part).astype(
            np.uint8
        )

    def _draw_clouds(self, frame: Frame, phase: float) -> None:
        for number, (start, high, size) in enumerate(self._clouds):
            # Whole turns only, so that the round closes; the range lets them come in from outside.
            x = ((0.15 * start + number / 4 + phase) % 1) * 1.6 - 0.3
            y = 0.07 + 0.04 * high + 0.11 * (number % 2)
            big = 0.045 + 0.03 * size
            for across, down, part in (
                (-1.3, 0.25, 0.7),
                (0, 0, 1),
                (1.1, 0.2, 0.8),
                (2.1, 0.4, 0.5),
            ):
                self._disc(frame, x, y, big * part, _CLOUD, across * big, down * big)

    def _ridge(self, level: int) -> NDArray[np.float64]:
        """Amplitudes and phases of the waves that make a ridge."""
        waves = np.arange(1, 5) * (1 + level % 2)
        return np.stack([waves, 0.9 / (waves + 1), self._random.uniform(0, _TURN, 4)])

    def _draw_ranges(self, frame: Frame, phase: float) -> None:
        x = np.linspace(0, 1, 65)
        for level, (colour, waves) in enumerate(zip(_RANGES, self._ridges, strict=True)):
            # Near hills pass by faster than far ones.
            shift = phase * level
            rise = sum(
                amplitude * np.sin(_TURN * number * (x * 0.8 + shift) + start)
                for number, amplitude, start in waves.T
            )
            y = 0.50 + 0.055 * level - (0.085 - 0.02 * level) * np.asarray(rise)
            self._fill(frame, np.stack([x, y], 1), colour)

    def _draw_lake(self, frame: Frame, phase: float, sun: tuple[float, float]) -> None:
        top = self._lake_top
        near, far = (np.array(colour, np.float32) for colour in reversed(_LAKE))
        share = np.linspace(0, 1, self._height - top, dtype=np.float32)[:, None]
        frame[top:] = (far * (1 - share) + near * share).astype(np.uint8)[:, None, :]
        for line in range(7):
            y = 0.69 + 0.035 * line
            wide = (0.05 + 0.012 * line) * (1 + 0.3 * math.sin(_TURN * (8 * phase + line * 0.37)))
            x = sun[0] + 0.012 * math.sin(_TURN * (5 * phase + line * 0.21))
            self._ellipse(frame, x, y, wide, 0.007, _SUN)

    def _draw_meadow(self, frame: Frame) -> None:
        x = np.linspace(0, 1, 33)
        y = 0.90 - 0.16 * np.clip(0.62 - x, 0, 1) ** 1.5 - 0.01 * np.sin(9 * x)
        self._fill(frame, np.stack([x, y], 1), _MEADOW)
        self._draw_house(frame)
        for at, size in ((0.05, 0.9), (0.42, 0.75), (0.93, 0.6)):
            self._draw_tree(frame, at, size)

    def _draw_house(self, frame: Frame) -> None:
        unit_x, unit_y = self._unit / self._width, self._unit / self._height
        x, y = 0.22, 0.865

        def corners(*points: tuple[float, float]) -> NDArray[np.float64]:
            return np.array([(x + across * unit_x, y + down * unit_y) for across, down in points])

        self._polygon(
            frame,
            corners((-0.07, -0.10), (0.07, -0.10), (0.07, 0.02), (-0.07, 0.02)),
            (240, 226, 200),
        )
        self._polygon(frame, corners((-0.095, -0.095), (0, -0.185), (0.095, -0.095)), (168, 52, 44))
        self._polygon(
            frame,
            corners((-0.02, -0.055), (0.02, -0.055), (0.02, 0.02), (-0.02, 0.02)),
            (104, 62, 40),
        )
        for across in (-0.045, 0.045):
            left, right = across - 0.014, across + 0.014
            window = corners((left, -0.075), (right, -0.075), (right, -0.045), (left, -0.045))
            self._polygon(frame, window, (255, 214, 110))

    def _draw_tree(self, frame: Frame, x: float, size: float) -> None:
        unit_x, unit_y = self._unit / self._width, self._unit / self._height
        foot = 0.90 - 0.16 * max(0.0, 0.62 - x) ** 1.5 + 0.03
        trunk = [(-0.012, 0), (-0.012, -0.1), (0.012, -0.1), (0.012, 0)]
        points = np.array(
            [(x + across * size * unit_x, foot + down * size * unit_y) for across, down in trunk]
        )
        self._polygon(frame, points, (84, 56, 40))
        for across, down, part in ((-0.045, -0.13, 0.06), (0.045, -0.14, 0.06), (0, -0.19, 0.07)):
            self._disc(frame, x, foot, part * size, (34, 76, 46), across * size, down * size)
        self._disc(frame, x, foot, 0.045 * size, (70, 128, 66), 0.012 * size, -0.19 * size)

    def _draw_balloon(self, frame: Frame, phase: float) -> None:
        x = ((phase + 0.36) % 1) * 1.6 - 0.3
        y = 0.33 + 0.05 * math.sin(_TURN * 3 * phase)
        unit_x, unit_y = self._unit / self._width, self._unit / self._height
        radius = 0.15
        # Half widths from the crown down: a ball, then straight to the mouth.
        turn = np.linspace(0, 0.68 * np.pi, 14)
        outline = np.append(np.sin(turn), 0.19)
        downs = np.append(-np.cos(turn), 1.38) * radius
        both = np.concatenate([outline, -outline[::-1]]) * radius * unit_x + x
        # Under the stripes, so that nothing shines through between them.
        body = np.stack([both, np.concatenate([downs, downs[::-1]]) * unit_y + y], 1)
        self._polygon(frame, body, _STRIPES[0])
        shares = np.linspace(-1, 1, 8)
        for stripe, (left, right) in enumerate(pairwise(shares)):
            # Meridians of a round body: narrow at the rims.
            side = [np.sin(edge * np.pi / 2) * outline * radius for edge in (left, right)]
            across = np.concatenate([side[0], side[1][::-1]])
            down = np.concatenate([downs, downs[::-1]])
            points = np.stack([x + across * unit_x, y + down * unit_y], 1)
            light = 1.0 - 0.22 * max(0.0, -(left + right) / 2) - 0.08 * (stripe == 6)
            colour = tuple(round(part * light) for part in _STRIPES[stripe % len(_STRIPES)])
            self._polygon(frame, points, colour)
        mouth, basket = float(downs[-1]), 0.27
        for side_x in (-0.028, 0.028):
            rope = [(side_x, mouth), (side_x * 0.9, basket)]
            ends = [self._point(x + dx * unit_x, y + dy * unit_y) for dx, dy in rope]
            thick = max(1, round(self._unit / 256))
            cv2.line(frame, ends[0], ends[1], (70, 48, 36), thick, cv2.LINE_AA, _SHIFT)
        corners = [
            (-0.032, basket),
            (0.032, basket),
            (0.026, basket + 0.05),
            (-0.026, basket + 0.05),
        ]
        points = np.array([(x + dx * unit_x, y + dy * unit_y) for dx, dy in corners])
        self._polygon(frame, points, (122, 78, 44))

    def _point(self, x: float, y: float) -> tuple[int, int]:
        scale = 1 << _SHIFT
        return round(x * self._width * scale), round(y * self._height * scale)

    def _disc(
        self, frame: Frame, x: float, y: float, radius: float, colour: Colour,
        across: float = 0.0, down: float = 0.0,
    ) -> None:  # fmt: skip
        """A disc at a place, moved by shares of the shorter side."""
        x += across * self._unit / self._width
        y += down * self._unit / self._height
        size = round(radius * self._unit * (1 << _SHIFT))
        cv2.circle(frame, self._point(x, y), size, colour, -1, cv2.LINE_AA, _SHIFT)

    def _ellipse(
        self, frame: Frame, x: float, y: float, wide: float, high: float, colour: Colour
    ) -> None:
        scale = self._unit * (1 << _SHIFT)
        axes = (round(wide * scale), round(high * scale))
        cv2.ellipse(frame, self._point(x, y), axes, 0, 0, 360, colour, -1, cv2.LINE_AA, _SHIFT)

    def _fill(self, frame: Frame, line: NDArray[np.float64], colour: Colour) -> None:
        """All below a line."""
        self._polygon(frame, np.concatenate([line, [[1.0, 1.05], [0.0, 1.05]]]), colour)

    def _polygon(self, frame: Frame, points: NDArray[np.float64], colour: Any) -> None:
        scaled = points * (self._width, self._height) * (1 << _SHIFT)
        cv2.fillPoly(frame, [np.rint(scaled).astype(np.int32)], colour, cv2.LINE_AA, _SHIFT)
