"""Pictures to learn from: photographs that installed packages bundle, and drawings made here.

Every picture is a float32 array H x W x 3, RGB in 0..1. Nothing is downloaded.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from dreamrelay.media.dream import Dream

Picture = NDArray[np.float32]
Rng = np.random.Generator


@dataclass(frozen=True)
class Photograph:
    """One bundled photograph: which package holds it, where, and under which licence."""

    package: str
    path: str
    licence: str
    weight: float = 1.0


# Full-colour scenes count more than textures and microscope slides.
PHOTOGRAPHS = (
    Photograph("skimage", "data/coffee.png", "CC0, Rachel Michetti (Pikolo Espresso Bar)", 3),
    Photograph("skimage", "data/rocket.jpg", "public domain, SpaceX", 2),
    Photograph("skimage", "data/camera.png", "CC0, Lav Varshney", 2),
    Photograph("skimage", "data/ihc.png", "no known copyright restrictions", 0.7),
    Photograph("skimage", "data/hubble_deep_field.jpg", "public domain, NASA", 0.7),
    Photograph("skimage", "data/retina.jpg", "CC0", 0.5),
    Photograph("skimage", "data/coins.png", "no known copyright restrictions", 0.7),
    Photograph("skimage", "data/clock_motion.png", "public domain, Stefan van der Walt", 0.7),
    Photograph("skimage", "data/brick.png", "CC0", 0.4),
    Photograph("skimage", "data/grass.png", "CC0", 0.4),
    Photograph("skimage", "data/gravel.png", "CC0", 0.4),
    Photograph("sklearn", "datasets/images/china.jpg", "CC BY 2.0, flickr: danielbuechele", 4),
    Photograph("sklearn", "datasets/images/flower.jpg", "CC BY 2.0, flickr: vultilion", 3),
)

# Never trained on: the sample sheet and the tests look at these.
HELD_OUT = (
    Photograph("skimage", "data/astronaut.png", "public domain, NASA"),
    Photograph("skimage", "data/chelsea.png", "CC0, Stefan van der Walt"),
)


def read(photograph: Photograph) -> Picture:
    """The photograph in its own size."""
    path = Path(str(files(photograph.package))) / photograph.path
    data = cv2.imread(str(path), cv2.IMREAD_COLOR)
    if data is None:
        raise FileNotFoundError(f"{path}: install requirements-training.txt")
    return np.asarray(np.ascontiguousarray(data[:, :, ::-1]).astype(np.float32) / 255, np.float32)


def square(picture: Picture, side: int) -> Picture:
    """The middle of the picture as side x side."""
    height, width = picture.shape[:2]
    edge = min(height, width)
    top, left = (height - edge) // 2, (width - edge) // 2
    crop = picture[top : top + edge, left : left + edge]
    return np.asarray(cv2.resize(crop, (side, side), interpolation=cv2.INTER_AREA), np.float32)


def colour_bars(side: int) -> Picture:
    """A television test card: seven bars over a grey ramp, side x side."""
    bars = ((1, 1, 1), (1, 1, 0), (0, 1, 1), (0, 1, 0), (1, 0, 1), (1, 0, 0), (0, 0, 1))
    card = np.zeros((side, side, 3), np.float32)
    for column in range(side):
        card[:, column] = np.array(bars[column * 7 // side]) * 0.75
    card[side * 3 // 4 :] = np.linspace(0, 1, side, dtype=np.float32)[None, :, None]
    return card


# ---------------------------------------------------------------- procedural


def _colour(rng: Rng) -> tuple[float, float, float]:
    hue, saturation, value = rng.uniform(0, 360), rng.beta(2, 2), rng.beta(2, 1.4)
    pixel = np.array([[[hue, saturation, value]]], np.float32)
    red, green, blue = cv2.cvtColor(pixel, cv2.COLOR_HSV2RGB)[0, 0]
    return float(red), float(green), float(blue)


def _gradient(rng: Rng, side: int) -> Picture:
    a, b = np.array(_colour(rng)), np.array(_colour(rng))
    y, x = np.mgrid[0:side, 0:side] / side
    angle = rng.uniform(0, 2 * np.pi)
    ramp = x * np.cos(angle) + y * np.sin(angle)
    ramp = (ramp - ramp.min()) / (np.ptp(ramp) + 1e-6)
    return np.asarray((a * (1 - ramp[..., None]) + b * ramp[..., None]), np.float32)


def _noise(rng: Rng, side: int) -> NDArray[np.float32]:
    """A cloud in 0..1, several octaves."""
    total = np.zeros((side, side), np.float32)
    for cells in (3, 6, 12, 25, 50):
        coarse = rng.random((cells, cells), np.float32)
        octave = cv2.resize(coarse, (side, side), interpolation=cv2.INTER_CUBIC)
        total += octave / cells ** rng.uniform(0.5, 0.9)
    total -= total.min()
    return np.asarray(total / (total.max() + 1e-6), np.float32)


def _point(rng: Rng, side: int, low: float = -0.1, high: float = 1.1) -> tuple[int, int]:
    return int(rng.uniform(low, high) * side), int(rng.uniform(low, high) * side)


def _shapes(rng: Rng, side: int) -> Picture:
    canvas = _gradient(rng, side)
    for _ in range(rng.integers(2, 14)):
        kind, colour = rng.integers(0, 4), _colour(rng)
        centre, size = _point(rng, side), int(side * rng.uniform(0.04, 0.35))
        if kind == 0:
            cv2.circle(canvas, centre, size, colour, -1, cv2.LINE_AA)
        elif kind == 1:
            corner = (centre[0] + size, centre[1] + int(size * rng.uniform(0.3, 2)))
            cv2.rectangle(canvas, centre, corner, colour, -1, cv2.LINE_AA)
        elif kind == 2:
            points = np.array([_point(rng, side) for _ in range(rng.integers(3, 6))], np.int32)
            cv2.fillPoly(canvas, [points], colour, cv2.LINE_AA)
        else:
            axes = (size, max(2, int(size * rng.uniform(0.2, 0.9))))
            cv2.ellipse(canvas, centre, axes, rng.uniform(0, 180), 0, 360, colour, -1, cv2.LINE_AA)
    return canvas


def _lines(rng: Rng, side: int) -> Picture:
    canvas = _gradient(rng, side)
    for _ in range(rng.integers(4, 20)):
        points = np.cumsum(rng.normal(0, side * 0.12, (8, 2)), 0) + rng.uniform(0, side, 2)
        thickness = int(rng.integers(1, 6))
        cv2.polylines(
            canvas, [points.astype(np.int32)], False, _colour(rng), thickness, cv2.LINE_AA
        )
    return canvas


def _text(rng: Rng, side: int) -> Picture:
    canvas = (np.clip(_gradient(rng, side), 0, 1) * 255).astype(np.uint8)
    letters = np.array(list("ABCDEFGHIKLMNOPRSTUVWXYZ0123456789&!?abcdefgh"))
    for _ in range(rng.integers(1, 6)):
        word = "".join(rng.choice(letters, rng.integers(2, 7)))
        scale, thickness = rng.uniform(0.6, 2.6), int(rng.integers(1, 6))
        font = int(rng.integers(0, 8))
        position = _point(rng, side, 0, 0.9)
        colour = tuple(255 * part for part in _colour(rng))
        cv2.putText(canvas, word, position, font, scale, colour, thickness, cv2.LINE_AA)
    return np.asarray(canvas.astype(np.float32) / 255, np.float32)


def _face(rng: Rng, side: int) -> Picture:
    """A head and shoulders of ellipses before a wall, softly lit: what a webcam sees."""
    canvas = _gradient(rng, side) * 0.6 + 0.4 * _noise(rng, side)[..., None]
    tone = float(rng.uniform(0.25, 0.95))
    skin = (min(1.0, tone * 1.05), tone * 0.78, tone * 0.62)
    hair, shirt = tuple(c * 0.5 for c in _colour(rng)), _colour(rng)
    x, y = int(side * rng.uniform(0.3, 0.7)), int(side * rng.uniform(0.35, 0.6))
    w, h = int(side * rng.uniform(0.13, 0.3)), int(side * rng.uniform(0.2, 0.36))
    tilt = rng.uniform(-15, 15)

    def ellipse(dx: float, dy: float, rx: float, ry: float, colour: tuple[float, ...]) -> None:
        centre = (int(x + dx * w), int(y + dy * h))
        axes = (max(1, int(rx * w)), max(1, int(ry * h)))
        cv2.ellipse(canvas, centre, axes, tilt, 0, 360, colour, -1, cv2.LINE_AA)

    ellipse(0, 2.1, 2.1, 1.1, shirt)
    ellipse(0, 1.0, 0.42, 0.5, tuple(c * 0.85 for c in skin))
    ellipse(0, -0.18, 1.18, 1.12, hair)
    ellipse(0, 0.05, 1, 1, skin)
    ellipse(0, -0.75, 0.95, 0.4, hair)
    for eye in (-0.4, 0.4):
        ellipse(eye, -0.1, 0.2, 0.09, (0.95, 0.95, 0.95))
        ellipse(eye, -0.1, 0.09, 0.09, (0.1, 0.08, 0.08))
        ellipse(eye, -0.3, 0.24, 0.04, tuple(c * 0.6 for c in hair))
    ellipse(0.05, 0.2, 0.12, 0.16, tuple(c * 0.85 for c in skin))
    ellipse(0, 0.52, 0.36, rng.uniform(0.05, 0.14), (0.65 * tone + 0.1, 0.25 * tone, 0.28 * tone))
    canvas = np.asarray(cv2.GaussianBlur(canvas, (0, 0), rng.uniform(0.4, 1.2)), np.float32)
    light = np.linspace(rng.uniform(0.5, 1.2), rng.uniform(0.5, 1.2), side, dtype=np.float32)
    return canvas * light[None, :, None]


def _landscape(rng: Rng, side: int) -> Picture:
    sky = np.sort(rng.uniform(0.2, 1, (2, 3)), 0)
    ramp = np.linspace(0, 1, side)[:, None, None]
    canvas = np.broadcast_to(sky[0] * (1 - ramp) + sky[1] * ramp, (side, side, 3)).copy()
    canvas = canvas.astype(np.float32)
    sun = _point(rng, side, 0.1, 0.6)
    cv2.circle(canvas, sun, int(side * rng.uniform(0.03, 0.1)), (1, 0.95, 0.8), -1, cv2.LINE_AA)
    columns = np.arange(side)
    for layer in range(int(rng.integers(2, 6))):
        base = side * (0.35 + 0.13 * layer + rng.uniform(-0.05, 0.05))
        ridge = cv2.resize(rng.normal(0, 1, (1, int(rng.integers(4, 14)))), (side, 1))[0]
        ridge = base + ridge * side * 0.08
        points = np.stack([columns, ridge], 1)
        points = np.concatenate([points, [[side, side + 1], [0, side + 1]]]).astype(np.int32)
        cv2.fillPoly(canvas, [points], tuple(c * 0.8 for c in _colour(rng)), cv2.LINE_AA)
    texture = _noise(rng, side)[..., None] - 0.5
    return np.asarray(canvas + texture * rng.uniform(0, 0.3), np.float32)


def _room(rng: Rng, side: int) -> Picture:
    canvas = np.empty((side, side, 3), np.float32)
    canvas[:] = _colour(rng)
    a, b = int(side * rng.uniform(0.15, 0.4)), int(side * rng.uniform(0.6, 0.85))
    corners = [(0, 0), (side, 0), (side, side), (0, side)]
    inner = [(a, a), (b, a), (b, b), (a, b)]
    for index in range(4):
        following = (index + 1) % 4
        wall = [corners[index], corners[following], inner[following], inner[index]]
        colour = _colour(rng)
        cv2.fillPoly(canvas, [np.array(wall, np.int32)], colour, cv2.LINE_AA)
    for _ in range(rng.integers(1, 6)):
        left, top = _point(rng, side, 0, 0.8)
        size = (int(side * rng.uniform(0.08, 0.3)), int(side * rng.uniform(0.08, 0.4)))
        right, bottom = left + size[0], top + size[1]
        cv2.rectangle(canvas, (left, top), (right, bottom), _colour(rng), -1, cv2.LINE_AA)
        if rng.random() < 0.5:
            cv2.rectangle(canvas, (left, top), (right, bottom), _colour(rng), 2, cv2.LINE_AA)
    light = _gradient(rng, side).mean(2, keepdims=True)
    return np.asarray(cv2.GaussianBlur(canvas * (0.6 + 0.6 * light), (0, 0), 0.7), np.float32)


def _stage(rng: Rng, side: int) -> Picture:
    """Dark, with beams of light and a silhouette: what a camera in a club sees."""
    canvas = np.zeros((side, side, 3), np.float32) + rng.uniform(0, 0.08)
    for _ in range(rng.integers(1, 6)):
        top = int(rng.uniform(0, side))
        foot = top + int(rng.normal(0, side * 0.4))
        width = int(side * rng.uniform(0.05, 0.25))
        beam = np.zeros_like(canvas)
        points = np.array([(top, -2), (foot - width, side), (foot + width, side)], np.int32)
        cv2.fillPoly(beam, [points], _colour(rng), cv2.LINE_AA)
        canvas += cv2.GaussianBlur(beam, (0, 0), side * 0.02) * rng.uniform(0.3, 0.9)
    x = int(rng.uniform(0.2, 0.8) * side)
    head = int(side * rng.uniform(0.05, 0.12))
    y = int(side * rng.uniform(0.4, 0.6))
    dark = tuple(c * 0.12 for c in _colour(rng))
    cv2.circle(canvas, (x, y), head, dark, -1, cv2.LINE_AA)
    cv2.ellipse(canvas, (x, y + head * 4), (head * 2, head * 3), 0, 0, 360, dark, -1, cv2.LINE_AA)
    return canvas


def _bars(rng: Rng, side: int) -> Picture:
    if rng.random() < 0.5:
        card = colour_bars(side)
        return np.ascontiguousarray(np.rot90(card, int(rng.integers(0, 4))))
    count = int(rng.integers(2, 12))
    stripe = np.array([_colour(rng) for _ in range(count)], np.float32)
    card = np.repeat(stripe[np.arange(side) * count // side][None], side, 0)
    return np.ascontiguousarray(np.rot90(card, int(rng.integers(0, 2))))


def _flat(rng: Rng, side: int) -> Picture:
    canvas = np.empty((side, side, 3), np.float32)
    canvas[:] = _colour(rng)
    return canvas


def _cloud(rng: Rng, side: int) -> Picture:
    a, b, c = (np.array(_colour(rng), np.float32) for _ in range(3))
    one, two = _noise(rng, side)[..., None], _noise(rng, side)[..., None]
    return np.asarray((a * one + b * (1 - one)) * (1 - two * 0.6) + c * two * 0.6, np.float32)


def _dream(rng: Rng, side: int) -> Picture:
    """A part of what a worker paints on while no camera is there."""
    whole = Dream(256, 256, int(rng.integers(1 << 30)))(float(rng.uniform(0, 300)))
    size = min(256, side)
    top, left = rng.integers(0, 257 - size, 2)
    part = whole[top : top + size, left : left + size].astype(np.float32) / 255
    if size < side:
        part = cv2.resize(part, (side, side), interpolation=cv2.INTER_CUBIC)
    return np.asarray(part, np.float32)


_DRAWINGS: tuple[tuple[Callable[[Rng, int], Picture], float], ...] = (
    (_shapes, 2.0),
    (_lines, 1.0),
    (_text, 1.0),
    (_face, 3.0),
    (_landscape, 1.5),
    (_room, 1.5),
    (_stage, 1.0),
    (_bars, 0.8),
    (_flat, 0.25),
    (_cloud, 0.7),
    (_dream, 1.5),
    (_gradient, 0.4),
)


class PictureBank:
    """Draws training pictures: crops of photographs, drawings, and mixtures of both."""

    def __init__(self) -> None:
        self._photographs = [read(photograph) for photograph in PHOTOGRAPHS]
        weights = np.array([photograph.weight for photograph in PHOTOGRAPHS])
        self._weights = weights / weights.sum()
        drawing_weights = np.array([weight for _, weight in _DRAWINGS])
        self._drawing_weights = drawing_weights / drawing_weights.sum()

    def draw(self, rng: Rng, side: int) -> Picture:
        """One picture, side x side x 3 in 0..1."""
        choice = rng.random()
        if choice < 0.62:
            picture = self._crop(rng, side)
        elif choice < 0.9:
            picture = self._drawing(rng, side)
        else:
            mask = (_noise(rng, side) > rng.uniform(0.35, 0.65)).astype(np.float32)
            mask = cv2.GaussianBlur(mask, (0, 0), rng.uniform(0.5, 3))[..., None]
            picture = self._crop(rng, side) * mask + self._drawing(rng, side) * (1 - mask)
        return self._light(rng, picture)

    def _drawing(self, rng: Rng, side: int) -> Picture:
        index = int(rng.choice(len(_DRAWINGS), p=self._drawing_weights))
        return _DRAWINGS[index][0](rng, side)

    def _crop(self, rng: Rng, side: int) -> Picture:
        photograph = self._photographs[rng.choice(len(self._photographs), p=self._weights)]
        height, width = photograph.shape[:2]
        # The model will see whole frames of 256 pixels; a crop shows a part at that scale.
        edge = int(np.clip(min(height, width) * side / rng.uniform(150, 420), side // 2, None))
        edge = min(edge, height, width)
        top = int(rng.integers(0, height - edge + 1))
        left = int(rng.integers(0, width - edge + 1))
        crop = photograph[top : top + edge, left : left + edge]
        method = cv2.INTER_AREA if edge > side else cv2.INTER_CUBIC
        crop = cv2.resize(crop, (side, side), interpolation=method)
        if rng.random() < 0.5:
            crop = crop[:, ::-1]
        return np.ascontiguousarray(crop, np.float32)

    def _light(self, rng: Rng, picture: Picture) -> Picture:
        """Other hues, exposures and contrasts, so that few photographs count for many."""
        picture = np.clip(picture, 0, 1).astype(np.float32)
        if rng.random() < 0.3:
            picture = picture[..., rng.permutation(3)]
        if rng.random() < 0.4:
            picture = picture * rng.uniform(0.75, 1.25, 3).astype(np.float32)
        if rng.random() < 0.6:
            picture = np.clip(picture, 0, 1) ** rng.uniform(0.6, 1.6)
        if rng.random() < 0.4:
            picture = (picture - 0.5) * rng.uniform(0.5, 1.4) + rng.uniform(0.4, 0.6)
        if rng.random() < 0.08:
            picture = np.repeat(picture.mean(2, keepdims=True), 3, 2)
        return np.clip(picture, 0, 1).astype(np.float32)
