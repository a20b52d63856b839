"""Pictures and clips to judge the model by; none of them is ever trained on.

Two photographs are held out of the training. The rest is drawn here, by other code than the
training's drawings. Pictures are float32 H x W x 3, RGB in 0..1.
"""

from __future__ import annotations

from functools import lru_cache

import cv2
import numpy as np

from training.pictures import HELD_OUT, Picture, read, square

_FINE = 4  # drawn so much larger, then averaged


@lru_cache(maxsize=4)
def held_out(side: int) -> dict[str, Picture]:
    """Name to picture: `astronaut`, `cat` (photographs), `face`, `scene` (drawn); read-only."""
    astronaut, cat = (square(read(photograph), side) for photograph in HELD_OUT)
    pictures = {"astronaut": astronaut, "cat": cat, "face": face(side), "scene": scene(side)}
    for picture in pictures.values():
        picture.setflags(write=False)
    return pictures


class _Canvas:
    """A square to draw on in parts of its side, supersampled."""

    def __init__(self, side: int) -> None:
        self.side, self.edge = side, side * _FINE
        self.pixels: Picture = np.zeros((self.edge, self.edge, 3), np.float32)

    def at(self, x: float, y: float) -> tuple[int, int]:
        return round(x * self.edge), round(y * self.edge)

    def sweep(
        self, top: tuple[float, ...], middle: tuple[float, ...], low: tuple[float, ...]
    ) -> None:
        """A gradient from top to bottom over everything."""
        stops = np.array([top, middle, low], np.float32)
        at = np.linspace(0, 1, self.edge)
        columns = [np.interp(at, (0, 0.55, 1), stops[:, c]) for c in range(3)]
        self.pixels[:] = np.stack(columns, 1)[:, None].astype(np.float32)

    def ellipse(
        self, x: float, y: float, rx: float, ry: float, colour: tuple[float, ...], turn: float = 0
    ) -> None:
        axes = (max(1, round(rx * self.edge)), max(1, round(ry * self.edge)))
        cv2.ellipse(self.pixels, self.at(x, y), axes, turn, 0, 360, colour, -1, cv2.LINE_AA)

    def polygon(self, points: list[tuple[float, float]], colour: tuple[float, ...]) -> None:
        corners = np.array([self.at(x, y) for x, y in points], np.int32)
        cv2.fillPoly(self.pixels, [corners], colour, cv2.LINE_AA)

    def line(
        self,
        a: tuple[float, float],
        b: tuple[float, float],
        width: float,
        colour: tuple[float, ...],
    ) -> None:
        thickness = max(1, round(width * self.edge))
        cv2.line(self.pixels, self.at(*a), self.at(*b), colour, thickness, cv2.LINE_AA)

    def text(self, words: str, x: float, y: float, high: float, colour: tuple[float, ...]) -> None:
        size = high * self.edge / 22
        font = cv2.FONT_HERSHEY_DUPLEX
        thick = max(1, round(size * 2.2))
        mask = np.zeros(self.pixels.shape[:2], np.uint8)
        cv2.putText(mask, words, self.at(x, y), font, size, 255, thick, cv2.LINE_AA)
        share = (mask.astype(np.float32) / 255)[..., None]
        self.pixels += (np.array(colour, np.float32) - self.pixels) * share

    def glow(self, sigma: float, amount: float) -> None:
        """Bright parts shine around themselves."""
        bright = np.clip(self.pixels - 0.6, 0, 1)
        halo = cv2.GaussianBlur(bright, (0, 0), sigma * self.edge)
        self.pixels = np.clip(self.pixels + halo * amount, 0, 1).astype(np.float32)

    def picture(self, grain: float) -> Picture:
        size = (self.side, self.side)
        small = cv2.resize(self.pixels, size, interpolation=cv2.INTER_AREA)
        noise = np.random.default_rng(2_000_003).normal(0, grain, small.shape)
        return np.asarray(np.clip(small + noise, 0, 1), np.float32)


def face(side: int) -> Picture:
    """A head and shoulders before a window, lit from the left: what a webcam sees."""
    draw = _Canvas(side)
    draw.sweep((0.62, 0.66, 0.70), (0.50, 0.53, 0.56), (0.34, 0.33, 0.36))
    draw.polygon([(0.66, 0.06), (0.96, 0.06), (0.96, 0.52), (0.66, 0.52)], (0.80, 0.89, 0.96))
    for x in (0.66, 0.81, 0.96):
        draw.line((x, 0.06), (x, 0.52), 0.012, (0.93, 0.92, 0.88))
    draw.line((0.66, 0.29), (0.96, 0.29), 0.012, (0.93, 0.92, 0.88))
    draw.polygon([(0.03, 0.18), (0.17, 0.18), (0.17, 0.60), (0.03, 0.60)], (0.42, 0.27, 0.17))
    for x, colour in (
        (0.04, (0.7, 0.2, 0.18)),
        (0.075, (0.2, 0.38, 0.5)),
        (0.11, (0.85, 0.7, 0.3)),
    ):
        draw.polygon([(x, 0.24), (x + 0.026, 0.24), (x + 0.026, 0.56), (x, 0.56)], colour)
    draw.ellipse(0.44, 1.04, 0.40, 0.28, (0.16, 0.34, 0.42))
    draw.polygon([(0.36, 0.76), (0.52, 0.76), (0.45, 0.92)], (0.86, 0.84, 0.78))
    draw.ellipse(0.44, 0.72, 0.085, 0.13, (0.66, 0.46, 0.36))
    draw.ellipse(0.44, 0.40, 0.215, 0.255, (0.15, 0.09, 0.07))
    draw.ellipse(0.44, 0.46, 0.175, 0.23, (0.86, 0.63, 0.51))
    draw.ellipse(0.52, 0.50, 0.10, 0.20, (0.76, 0.53, 0.43), 8)
    draw.ellipse(0.45, 0.46, 0.155, 0.215, (0.84, 0.61, 0.49))
    draw.ellipse(0.42, 0.265, 0.19, 0.085, (0.17, 0.10, 0.08), -8)
    for x in (0.375, 0.515):
        draw.ellipse(x, 0.435, 0.036, 0.017, (0.95, 0.94, 0.92))
        draw.ellipse(x + 0.004, 0.436, 0.016, 0.017, (0.20, 0.14, 0.10))
        draw.ellipse(x, 0.398, 0.043, 0.009, (0.16, 0.10, 0.08))
    draw.ellipse(0.455, 0.52, 0.024, 0.045, (0.76, 0.52, 0.42))
    draw.ellipse(0.447, 0.60, 0.062, 0.020, (0.68, 0.29, 0.28))
    draw.line((0.388, 0.60), (0.506, 0.60), 0.005, (0.42, 0.16, 0.16))
    light = np.linspace(1.14, 0.74, draw.edge, dtype=np.float32)[None, :, None]
    draw.pixels = np.clip(draw.pixels * light, 0, 1).astype(np.float32)
    return draw.picture(0.008)


def scene(side: int) -> Picture:
    """Dusk over hills, a singer before the sun, lamps, a lettered sign, a pasted photograph."""
    draw = _Canvas(side)
    draw.sweep((0.10, 0.14, 0.40), (0.95, 0.52, 0.36), (1.0, 0.80, 0.48))
    draw.ellipse(0.62, 0.47, 0.17, 0.17, (1.0, 0.93, 0.72))
    draw.polygon([(0, 0.60), (0.16, 0.44), (0.33, 0.58), (0.52, 0.48), (0.76, 0.60), (0.9, 0.5),
                  (1, 0.56), (1, 1), (0, 1)], (0.45, 0.30, 0.46))  # fmt: skip
    draw.polygon([(0, 0.70), (0.22, 0.60), (0.5, 0.71), (0.75, 0.63), (1, 0.72), (1, 1), (0, 1)],
                 (0.20, 0.28, 0.30))  # fmt: skip
    draw.polygon([(0, 0.84), (1, 0.80), (1, 1), (0, 1)], (0.13, 0.40, 0.34))
    for step in range(9):  # planks of a stage
        x = 0.06 + 0.11 * step
        draw.line((x, 0.86), (x * 1.3 - 0.15, 1.0), 0.004, (0.08, 0.24, 0.22))
    coat, skin, dark = (0.74, 0.12, 0.20), (0.80, 0.55, 0.42), (0.08, 0.06, 0.12)
    draw.line((0.60, 0.76), (0.57, 0.95), 0.05, dark)
    draw.line((0.64, 0.76), (0.68, 0.95), 0.05, dark)
    draw.polygon([(0.53, 0.50), (0.71, 0.50), (0.69, 0.80), (0.55, 0.80)], coat)
    draw.line((0.55, 0.53), (0.47, 0.64), 0.04, coat)
    draw.line((0.47, 0.64), (0.53, 0.52), 0.035, coat)
    draw.line((0.70, 0.53), (0.79, 0.44), 0.04, coat)
    draw.ellipse(0.80, 0.43, 0.022, 0.022, skin)
    draw.ellipse(0.615, 0.41, 0.062, 0.080, skin)
    draw.ellipse(0.62, 0.37, 0.072, 0.058, (0.10, 0.07, 0.09))
    draw.line((0.535, 0.50), (0.535, 0.90), 0.007, (0.75, 0.76, 0.80))
    draw.ellipse(0.54, 0.475, 0.019, 0.026, (0.30, 0.31, 0.35))
    draw.polygon([(0.06, 0.14), (0.40, 0.10), (0.40, 0.25), (0.06, 0.29)], (0.09, 0.07, 0.14))
    draw.text("RELAY", 0.085, 0.235, 0.068, (0.35, 0.95, 0.90))
    for step in range(11):
        x = 0.03 + 0.094 * step
        y = 0.045 + 0.035 * np.sin(np.pi * (x * 2 % 1))
        draw.ellipse(x, y, 0.011, 0.014, (1.0, 0.86, 0.55))
    cat = square(read(HELD_OUT[1]), round(0.27 * draw.edge))
    top, left = round(0.56 * draw.edge), round(0.09 * draw.edge)
    frame = round(0.012 * draw.edge)
    edge = len(cat)
    draw.pixels[top - frame : top + edge + frame, left - frame : left + edge + frame] = 0.93
    draw.pixels[top : top + edge, left : left + edge] = cat
    draw.glow(0.014, 0.8)
    return draw.picture(0.006)


def moving_clip(side: int, frames: int = 12) -> list[Picture]:
    """The astronaut, panned 2 px a frame, slowly nearer, a ball across it, lamps that breathe."""
    photograph = read(HELD_OUT[0])
    height = photograph.shape[0]
    scale = height / (side * 1.3)
    ball = square(read(HELD_OUT[1]), side // 5)
    edge = len(ball)
    y, x = np.mgrid[0:edge, 0:edge] - (edge - 1) / 2
    mask = np.clip(edge / 2 - np.hypot(x, y), 0, 1)[..., None].astype(np.float32)
    clip = []
    for t in range(frames):
        step = scale * 0.996**t
        # What pixel of the photograph each pixel of the frame shows.
        shift = (side * 0.05 + 2 * t) * scale
        view = np.array([[step, 0, shift], [0, step, side * 0.08 * scale]], np.float32)
        flags = cv2.INTER_AREA | cv2.WARP_INVERSE_MAP
        soft = cv2.GaussianBlur(photograph, (0, 0), 0.4 * scale)
        frame = cv2.warpAffine(soft, view, (side, side), flags=flags, borderMode=cv2.BORDER_REFLECT)
        frame = np.asarray(frame * (1 + 0.03 * np.sin(t * 0.7)), np.float32)
        left = round(side * 0.08) + 4 * t
        top = round(side * 0.55 + side * 0.06 * np.sin(t * 0.5))
        under = frame[top : top + edge, left : left + edge]
        frame[top : top + edge, left : left + edge] = under * (1 - mask) + ball * mask
        clip.append(np.clip(frame, 0, 1).astype(np.float32))
    return clip


def still_clip(side: int, frames: int = 6, noise: float = 1.5 / 255) -> list[Picture]:
    """The face before a camera that does not move, with the noise of its sensor."""
    rng = np.random.default_rng(2_000_029)
    picture = held_out(side)["face"]
    return [
        np.clip(picture + rng.normal(0, noise, picture.shape), 0, 1).astype(np.float32)
        for _ in range(frames)
    ]


def plain_fields(side: int) -> dict[str, Picture]:
    """Pictures without any texture: five flat colours and two ramps."""
    fields = {}
    for name, colour in (
        ("dark grey", (0.12, 0.12, 0.12)),
        ("grey", (0.5, 0.5, 0.5)),
        ("pale grey", (0.88, 0.88, 0.88)),
        ("flat blue", (0.2, 0.4, 0.7)),
        ("flat red", (0.75, 0.3, 0.2)),
    ):
        fields[name] = np.full((side, side, 3), colour, np.float32)
    ramp = np.linspace(0.1, 0.9, side, dtype=np.float32)
    fields["grey ramp"] = np.repeat(np.tile(ramp, (side, 1))[..., None], 3, 2)
    down = np.stack([ramp, np.full(side, 0.5, np.float32), ramp[::-1]], 1)
    fields["colour ramp"] = np.repeat(down[:, None], side, 1)
    return fields
