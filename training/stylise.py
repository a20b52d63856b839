"""The stylisations the model learns: classics of image processing, then colours and moods.

Pictures are float32 H x W x 3, RGB in 0..1. Each style also gets `grain`, a field of standard
normal numbers, one triple per 4 x 4 pixels. It is a projection of the very noise the model sees,
so the model can learn to make texture from its seed instead of averaging texture away. Patterns
repeat every 4 pixels for the same kind of reason: a convolutional network on cells of 4 x 4 knows
where a pixel stands inside its cell, and nothing else about its place.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

Picture = NDArray[np.float32]
Plane = NDArray[np.float32]
CELL = 4


@dataclass(frozen=True)
class Look:
    """What a prompt asks for: one style, up to two colours, any moods."""

    style: str = "photo"
    colours: tuple[str, ...] = ()
    moods: tuple[str, ...] = ()


# ---------------------------------------------------------------- helpers


def luminance(picture: Picture) -> Plane:
    """Perceived brightness, H x W in 0..1."""
    return np.asarray(picture @ np.array([0.299, 0.587, 0.114], np.float32), np.float32)


def _blur(image: NDArray[np.float32], sigma: float) -> NDArray[np.float32]:
    return np.asarray(cv2.GaussianBlur(image, (0, 0), sigma), np.float32)


def _step(value: NDArray[np.floating], low: float, high: float) -> NDArray[np.float32]:
    """Smooth step from 0 at `low` to 1 at `high`."""
    t = np.clip((value - low) / (high - low), 0, 1)
    return np.asarray(t * t * (3 - 2 * t), np.float32)


def _saturate(picture: Picture, factor: float) -> Picture:
    grey = luminance(picture)[..., None]
    return np.clip(grey + (picture - grey) * factor, 0, 1).astype(np.float32)


def _levels(picture: Picture) -> Picture:
    """Mild automatic contrast: dark stages and pale webcams both fill the range."""
    low, high = (float(value) for value in np.percentile(luminance(picture), (2, 98)))
    gain = float(np.clip(0.92 / max(high - low, 1e-3), 1.0, 1.7))
    middle = (low + high) / 2
    target = middle + (0.5 - middle) * min(1.0, (gain - 1) * 1.2)
    return np.asarray(np.clip((picture - middle) * gain + target, 0, 1), np.float32)


def _smooth(picture: Picture, rounds: int = 2, sigma: float = 0.12) -> Picture:
    for _ in range(rounds):
        picture = np.asarray(cv2.bilateralFilter(picture, 7, sigma, 3), np.float32)
    return picture


def _kuwahara(picture: Picture, radius: int) -> Picture:
    """Each pixel takes the mean of its calmest quadrant: flat strokes with sharp borders."""
    size = (radius + 1, radius + 1)
    mean = cv2.blur(picture, size, borderType=cv2.BORDER_REFLECT)
    grey = luminance(picture)
    mean_grey = cv2.blur(grey, size, borderType=cv2.BORDER_REFLECT)
    spread = cv2.blur(grey * grey, size, borderType=cv2.BORDER_REFLECT) - mean_grey**2
    shift = radius // 2
    best, out = None, picture
    for dy in (-shift, shift):
        for dx in (-shift, shift):
            here, colours = np.roll(spread, (dy, dx), (0, 1)), np.roll(mean, (dy, dx), (0, 1))
            if best is None:
                best, out = here, colours
            else:
                take = here < best
                best = np.where(take, here, best)
                out = np.where(take[..., None], colours, out)
    return np.asarray(out, np.float32)


def _ink_lines(grey: Plane, sigma: float = 0.9, sharp: float = 18.0) -> Plane:
    """1 on paper, 0 on drawn lines (extended difference of Gaussians)."""
    narrow, wide = _blur(grey, sigma), _blur(grey, sigma * 1.6)
    difference = narrow - 0.96 * wide
    return np.asarray(1 - _step(-(difference - 0.012) * sharp, 0.0, 0.9), np.float32)


def _edges(picture: Picture, sigma: float) -> tuple[Plane, Plane, Plane]:
    """Edge strength 0..1 and the shares of upright and level edges."""
    soft = _blur(picture, sigma)
    dx = np.abs(cv2.Sobel(soft, cv2.CV_32F, 1, 0)).max(2)
    dy = np.abs(cv2.Sobel(soft, cv2.CV_32F, 0, 1)).max(2)
    strength = np.sqrt(dx * dx + dy * dy)
    return strength, dx / (dx + dy + 1e-3), dy / (dx + dy + 1e-3)


def _cells(picture: Picture, cell: int) -> Picture:
    """Means over cell x cell pixels, in the size of the picture."""
    height, width = picture.shape[:2]
    small = cv2.resize(picture, (width // cell, height // cell), interpolation=cv2.INTER_AREA)
    return np.asarray(
        cv2.resize(small, (width, height), interpolation=cv2.INTER_NEAREST), np.float32
    )


def _per_cell(grain: NDArray[np.float32]) -> NDArray[np.float32]:
    return np.repeat(np.repeat(grain, CELL, 0), CELL, 1)


def _cloud(plane: Plane, sigma: float) -> Plane:
    """The grain as a soft field of unit spread, in pixels; sigma in cells."""
    soft = _blur(plane, sigma) * (2 * sigma * np.sqrt(np.pi))
    size = (plane.shape[1] * CELL, plane.shape[0] * CELL)
    return np.asarray(cv2.resize(soft, size, interpolation=cv2.INTER_LINEAR), np.float32)


def _tile(shape: tuple[int, ...], pattern: NDArray[np.floating]) -> Plane:
    """A 4 x 4 pattern repeated over the picture."""
    return np.tile(pattern, (shape[0] // CELL, shape[1] // CELL)).astype(np.float32)


_ROW, _COLUMN = np.mgrid[0:CELL, 0:CELL].astype(np.float32)
_DIAGONAL = (np.minimum((_ROW + _COLUMN) % 4, 4 - (_ROW + _COLUMN) % 4) / 2).astype(np.float32)
_CROSSED = (np.minimum((_ROW - _COLUMN) % 4, 4 - (_ROW - _COLUMN) % 4) / 2).astype(np.float32)
_RADIUS = np.sqrt((_ROW - 1.5) ** 2 + (_COLUMN - 1.5) ** 2).astype(np.float32)
_LEVEL = (np.abs(_ROW - 1.5)).astype(np.float32)

# ---------------------------------------------------------------- colours

_STOPS: dict[str, tuple[tuple[int, int, int], ...]] = {
    "red": ((26, 0, 4), (150, 0, 18), (240, 38, 30), (255, 196, 168)),
    "orange": ((36, 8, 0), (170, 56, 0), (255, 128, 8), (255, 226, 168)),
    "gold": ((28, 12, 0), (138, 84, 8), (232, 172, 40), (255, 244, 190)),
    "yellow": ((44, 36, 0), (182, 150, 0), (255, 222, 16), (255, 252, 196)),
    "green": ((0, 20, 6), (8, 100, 28), (48, 200, 62), (208, 255, 190)),
    "teal": ((0, 20, 28), (0, 102, 112), (24, 196, 190), (196, 255, 244)),
    "blue": ((2, 4, 42), (10, 42, 172), (44, 124, 255), (186, 224, 255)),
    "purple": ((18, 0, 40), (86, 16, 158), (164, 72, 240), (232, 204, 255)),
    "pink": ((44, 0, 26), (178, 14, 104), (255, 84, 168), (255, 214, 234)),
    "brown": ((22, 10, 4), (92, 50, 22), (166, 106, 58), (238, 214, 184)),
    "black and white": ((0, 0, 0), (70, 70, 70), (172, 172, 172), (255, 255, 255)),
    "sepia": ((30, 18, 8), (106, 72, 42), (190, 150, 104), (250, 234, 204)),
    "vaporwave": ((30, 8, 70), (140, 30, 170), (255, 96, 190), (110, 236, 255)),
    "rainbow": ((90, 20, 190), (20, 120, 255), (40, 220, 90), (255, 220, 30)),
}
COLOURS = tuple(_STOPS)


def _ramp(stops: NDArray[np.floating]) -> NDArray[np.float32]:
    """256 x 3 table through evenly spaced stops."""
    at = np.linspace(0, 1, len(stops))
    grid = np.linspace(0, 1, 256)
    return np.stack([np.interp(grid, at, stops[:, c]) for c in range(3)], 1).astype(np.float32)


def _stops(colours: tuple[str, ...]) -> NDArray[np.float32]:
    """Four stops, dark to light; of two colours the first takes the shadows."""
    first = np.array(_STOPS[colours[0]], np.float32) / 255
    if len(colours) == 1:
        return np.asarray(first, np.float32)
    second = np.array(_STOPS[colours[1]], np.float32) / 255
    return np.stack([first[0], first[1] * 0.7 + first[2] * 0.3, second[2], second[3]])


def _paint(tone: NDArray[np.floating], colours: tuple[str, ...]) -> Picture:
    table = _ramp(_stops(colours))
    position = np.clip(tone, 0, 1) * 255
    low = np.floor(position).astype(np.int32)
    high = np.minimum(low + 1, 255)
    part = (position - low)[..., None]
    return np.asarray(table[low] * (1 - part) + table[high] * part, np.float32)


def _tinted(picture: Picture, colours: tuple[str, ...]) -> Picture:
    """A full-colour picture in the asked palette; a trace of its own colours remains."""
    if not colours:
        return picture
    painted = _paint(luminance(picture), colours)
    grey = luminance(picture)[..., None]
    return np.clip(painted + (picture - grey) * 0.12, 0, 1)


def _drawn(
    tone: NDArray[np.floating], colours: tuple[str, ...], ink: Picture, paper: Picture
) -> Picture:
    """Lines on paper: tone 0 is ink, 1 is paper; both take the asked colour."""
    if colours:
        first = np.array(_STOPS[colours[0]], np.float32) / 255
        last = np.array(_STOPS[colours[-1]], np.float32) / 255
        ink = first[1] * 0.8 if len(colours) == 1 else first[1]
        paper = last[3] * 0.75 + last[2] * 0.25
    return np.asarray(ink + (paper - ink) * np.clip(tone, 0, 1)[..., None], np.float32)


def _rgb(red: int, green: int, blue: int) -> Picture:
    return np.asarray(np.array([red, green, blue], np.float32) / 255, np.float32)


# ---------------------------------------------------------------- styles

Style = Callable[[Picture, NDArray[np.float32], tuple[str, ...]], Picture]


def _photo(picture: Picture, grain: NDArray[np.float32], colours: tuple[str, ...]) -> Picture:
    sharp = picture + (picture - _blur(picture, 1.5)) * 0.35
    return _tinted(_saturate(np.clip(sharp, 0, 1), 1.15), colours)


def _pencil(picture: Picture, grain: NDArray[np.float32], colours: tuple[str, ...]) -> Picture:
    grey = luminance(picture)
    dodge = np.clip(grey / np.maximum(_blur(grey, 3.5), 0.04), 0, 1) ** 3.2
    hatch = _tile(grey.shape, _DIAGONAL)
    crossed = _tile(grey.shape, _CROSSED)
    soft = _blur(grey, 1.2)
    shade = 1 - 0.5 * _step(0.62 - soft, 0, 0.3) * (hatch < 0.3)
    shade *= 1 - 0.45 * _step(0.33 - soft, 0, 0.2) * (crossed < 0.3)
    tooth = 1 + 0.05 * _cloud(grain[..., 0], 0.6)
    return _drawn(dodge * shade * tooth, colours, _rgb(38, 38, 44), _rgb(250, 248, 242))


def _charcoal(picture: Picture, grain: NDArray[np.float32], colours: tuple[str, ...]) -> Picture:
    grey = _blur(luminance(picture), 1.4)
    tone = _step(grey, 0.12, 0.78)
    strokes = np.clip(_blur(grey, 1.0) / np.maximum(_blur(grey, 5.0), 0.05), 0, 1) ** 2.5
    tooth = _cloud(grain[..., 0], 0.6)
    rubbed = tone * strokes + tooth * 0.13 * (1.1 - np.abs(2 * tone - 1))
    return _drawn(rubbed * 0.95 + 0.02, colours, _rgb(14, 13, 13), _rgb(222, 214, 202))


def _ink(picture: Picture, grain: NDArray[np.float32], colours: tuple[str, ...]) -> Picture:
    grey = luminance(_smooth(picture, 1))
    lines = _ink_lines(grey, 1.1, 30)
    black = _step(_blur(grey, 1.0), 0.26, 0.33)
    return _drawn(lines * black, colours, _rgb(8, 8, 12), _rgb(252, 250, 244))


def _watercolor(picture: Picture, grain: NDArray[np.float32], colours: tuple[str, ...]) -> Picture:
    wash = _blur(_kuwahara(_smooth(picture, 1), 5), 0.7)
    wash = _saturate(wash, 1.7) if not colours else _tinted(wash, colours)
    wash = 1 - (1 - wash) * 0.66
    pool = _cloud(grain[..., 0], 1.6) * 0.06 + _cloud(grain[..., 1], 0.7) * 0.03
    edge, _, _ = _edges(wash, 0.8)
    rim = np.clip(edge - 0.1, 0, 1) * 0.45
    pigment = (1 - wash) * (1 + 2.2 * pool[..., None]) + rim[..., None] * (1 - wash * 0.7)
    return np.asarray(np.clip(1 - pigment, 0, 1), np.float32)


def _oil(picture: Picture, grain: NDArray[np.float32], colours: tuple[str, ...]) -> Picture:
    paint = _kuwahara(_kuwahara(picture, 3), 5)
    paint = _saturate(paint, 1.8)
    paint = np.clip((paint - 0.5) * 1.25 + 0.5, 0, 1)
    bristle = cv2.resize(grain[..., 0], None, fx=CELL, fy=CELL, interpolation=cv2.INTER_LINEAR)
    _, upright, _ = _edges(_blur(picture, 2.5), 2.0)
    upright = _blur(upright, 3)
    along_x = cv2.blur(bristle, (13, 3)) * 2.6
    along_y = cv2.blur(bristle, (3, 13)) * 2.6
    stroke = np.where(upright > 0.5, along_y, along_x)
    # Light from the upper left on the ridges of the paint.
    relief = stroke - np.roll(stroke, (2, 2), (0, 1))
    shade = np.clip(relief * 0.2, -0.28, 0.28)[..., None]
    twill = _tile(picture.shape, np.where((_ROW + _COLUMN) % 4 < 2, 1.13, 0.83))[..., None]
    varnish = np.ones(3, np.float32) if colours else np.array([1.1, 1.0, 0.78], np.float32)
    paint = _tinted(paint, colours) * varnish
    return np.asarray(np.clip(paint * (1 + shade) * twill + shade * 0.12, 0, 1), np.float32)


def _comic(picture: Picture, grain: NDArray[np.float32], colours: tuple[str, ...]) -> Picture:
    flat = _smooth(picture, 3, 0.15)
    grey = luminance(flat)
    steps = 3
    stairs = np.floor(grey * steps) / steps
    stairs = stairs + _step(grey * steps - np.floor(grey * steps), 0.82, 1.0) / steps + 0.16
    flat = _saturate(np.clip(flat * (stairs / np.maximum(grey, 0.06))[..., None], 0, 1), 2.2)
    flat = np.clip(flat, 0, 1)
    # Ben Day dots: wide over the middle tones, deeper in the shadows.
    dots = 1 - _step(_tile(grey.shape, _RADIUS), 0.9, 1.7)
    shadow = (_step(0.78 - grey, 0, 0.12) * 0.32 + _step(0.45 - grey, 0, 0.1) * 0.25) * dots
    flat = _tinted(flat, colours) * (1 - shadow)[..., None]
    return flat * _ink_lines(luminance(_smooth(picture, 1)), 1.5, 45)[..., None]


def _halftone(picture: Picture, grain: NDArray[np.float32], colours: tuple[str, ...]) -> Picture:
    grey = _cells(picture, CELL) @ np.array([0.299, 0.587, 0.114], np.float32)
    radius = np.sqrt(np.clip(1 - grey, 0, 1)) * 2.65
    dots = _step(_tile(grey.shape, _RADIUS) - radius, -0.6, 0.4)
    return _drawn(dots, colours, _rgb(12, 14, 30), _rgb(252, 246, 230))


def _pixel(picture: Picture, grain: NDArray[np.float32], colours: tuple[str, ...]) -> Picture:
    blocks = _saturate(_cells(picture, CELL), 1.8)
    if colours:
        blocks = _paint(np.round(luminance(blocks) * 5) / 5, colours)
    else:
        blocks = np.clip((blocks - 0.5) * 1.35 + 0.5, 0, 1)
    lamp = np.where((_ROW == 3) | (_COLUMN == 3), 0.8, 1.05)
    return np.asarray(np.clip(blocks * _tile(picture.shape, lamp)[..., None], 0, 1), np.float32)


def _mosaic(picture: Picture, grain: NDArray[np.float32], colours: tuple[str, ...]) -> Picture:
    tiles = _saturate(_cells(picture, CELL), 1.5)
    jitter = _per_cell(grain)
    tiles = np.clip(tiles + jitter[..., :1] * 0.09, 0, 1)
    tiles = _tinted(np.asarray(tiles, np.float32), colours)
    if not colours:
        tiles = np.clip(tiles + jitter * 0.03, 0, 1)
    grout = (_ROW == 3) | (_COLUMN == 3)
    bevel = np.where(grout, 0.22, np.where((_ROW == 0) | (_COLUMN == 0), 1.22, 0.95))
    return np.asarray(
        np.clip(tiles * _tile(picture.shape, bevel.astype(np.float32))[..., None], 0, 1), np.float32
    )


def _glass(picture: Picture, grain: NDArray[np.float32], colours: tuple[str, ...]) -> Picture:
    flat = _kuwahara(_kuwahara(_smooth(picture, 2, 0.2), 5), 7)
    grey = luminance(flat)
    lead, _, _ = _edges(flat, 0.7)
    flat = _saturate(np.clip(np.maximum(flat, 0) ** 0.75 * 1.1 + 0.1, 0, 1), 3.4)
    flat = np.clip(_tinted(flat, colours), 0, 1)
    light = 1 + 0.14 * _cloud(grain[..., 0], 1.6) + 0.15 * (0.5 - grey)
    lines = 1 - _step(np.asarray(cv2.dilate(lead, np.ones((3, 3))), np.float32), 0.2, 0.45)
    return np.asarray(np.clip(flat * light[..., None] * lines[..., None], 0, 1), np.float32)


def _neon(picture: Picture, grain: NDArray[np.float32], colours: tuple[str, ...]) -> Picture:
    edge, upright, _ = _edges(picture, 1.1)
    line = _step(edge, 0.12, 0.75)
    pair = (colours or ("teal", "pink"))[:2]
    first = np.array(_STOPS[pair[0]], np.float32)[2] / 255
    second = np.array(_STOPS[pair[-1]], np.float32)[2] / 255
    dark = np.array(_STOPS[pair[0]], np.float32)[1] / 255 if colours else _rgb(52, 14, 96)
    share = _step(upright, 0.35, 0.65)[..., None]
    tube = line[..., None] * (first * share + second * (1 - share))
    glow = _blur(tube, 2.2) * 1.1 + _blur(tube, 6.5) * 1.3
    core = (_step(edge, 0.55, 1.1) * 0.55)[..., None]
    base = dark * (0.1 + 0.42 * luminance(picture)[..., None] ** 1.4)
    return np.asarray(np.clip(base + tube * 0.9 + glow + core, 0, 1), np.float32)


def _blueprint(picture: Picture, grain: NDArray[np.float32], colours: tuple[str, ...]) -> Picture:
    edge, _, _ = _edges(_smooth(picture, 1), 0.8)
    line = _step(edge, 0.14, 0.6)
    grey = _blur(luminance(picture), 1.0)
    hatch = (_tile(grey.shape, _DIAGONAL) < 0.3) * _step(0.45 - grey, 0, 0.2) * 0.2
    paper = _rgb(14, 58, 148)
    ink = _rgb(226, 240, 255)
    if colours:
        paper = np.array(_STOPS[colours[0]], np.float32)[1] / 255
        ink = np.array(_STOPS[colours[-1]], np.float32)[3] / 255
    tone = np.clip(line * 0.95 + hatch + 0.1 * grey, 0, 1)[..., None]
    fibre = 1 + 0.05 * _cloud(grain[..., 0], 1.5)[..., None]
    return np.asarray(np.clip(paper * fibre * (1 - tone) + ink * tone, 0, 1), np.float32)


def _pointillism(picture: Picture, grain: NDArray[np.float32], colours: tuple[str, ...]) -> Picture:
    dots = _saturate(_cells(picture, CELL), 1.8)
    jitter = _per_cell(grain)
    if colours:
        grey = np.clip(luminance(dots) * 0.85 + 0.08 + jitter[..., 0] * 0.14, 0, 1)
        dots = _paint(np.asarray(grey, np.float32), colours)
        paper = np.array(_STOPS[colours[-1]], np.float32)[3] / 255
    else:
        dots = np.clip(dots + jitter * 0.16, 0, 1)
        paper = _rgb(250, 244, 228)
    mask = (1 - _step(_tile(picture.shape[:2], _RADIUS), 1.3, 2.3))[..., None]
    return np.asarray(np.clip(paper * (1 - mask) + dots * mask, 0, 1), np.float32)


def _engraving(picture: Picture, grain: NDArray[np.float32], colours: tuple[str, ...]) -> Picture:
    grey = luminance(picture)
    grey = np.clip(grey + (grey - _blur(grey, 3)) * 0.8, 0, 1)
    width = (1 - grey) * 2.5 - 0.25
    lines = _step(_tile(grey.shape, _LEVEL) - width, -0.5, 0.4)
    tone = lines * _ink_lines(grey, 1.1, 20)
    return _drawn(tone, colours, _rgb(34, 18, 10), _rgb(242, 228, 198))


_HEAT = _ramp(
    np.array(
        [(4, 2, 40), (70, 0, 150), (210, 20, 130), (255, 110, 20), (255, 220, 40), (255, 255, 235)],
        np.float32,
    )
    / 255
)


def _thermal(picture: Picture, grain: NDArray[np.float32], colours: tuple[str, ...]) -> Picture:
    grey = _blur(luminance(picture), 2.0)
    grey = np.clip((grey - 0.5) * 1.2 + 0.5, 0, 1)
    if colours:
        return _paint(grey, colours)
    return np.asarray(_HEAT[(grey * 255).astype(np.int32)], np.float32)


def _glitch(picture: Picture, grain: NDArray[np.float32], colours: tuple[str, ...]) -> Picture:
    picture = _tinted(_saturate(picture, 1.5), colours)
    out = picture.copy()
    out[..., 0] = cv2.warpAffine(
        np.ascontiguousarray(picture[..., 0]),
        np.array([[1, 0, 6], [0, 1, 0]], np.float32),
        picture.shape[1::-1],
        borderMode=cv2.BORDER_REPLICATE,
    )
    out[..., 2] = cv2.warpAffine(
        np.ascontiguousarray(picture[..., 2]),
        np.array([[1, 0, -6], [0, 1, 0]], np.float32),
        picture.shape[1::-1],
        borderMode=cv2.BORDER_REPLICATE,
    )
    scan = np.where(_tile(picture.shape[:2], _ROW) < 2, 1.12, 0.62)
    return np.clip(out * scan[..., None], 0, 1).astype(np.float32)


_STYLES: dict[str, Style] = {
    "photo": _photo,
    "pencil": _pencil,
    "charcoal": _charcoal,
    "ink": _ink,
    "watercolor": _watercolor,
    "oil": _oil,
    "comic": _comic,
    "halftone": _halftone,
    "pixel art": _pixel,
    "mosaic": _mosaic,
    "stained glass": _glass,
    "neon": _neon,
    "blueprint": _blueprint,
    "pointillism": _pointillism,
    "engraving": _engraving,
    "thermal": _thermal,
    "glitch": _glitch,
}
STYLES = tuple(_STYLES)

# ---------------------------------------------------------------- moods


def _specks(grain: Plane, above: float) -> Plane:
    """A small star in every cell whose grain is rare."""
    star = np.exp(-((_RADIUS / 1.0) ** 2)).astype(np.float32)
    mask = _per_cell(_step(grain, above, above + 0.5))
    return np.asarray(mask * np.tile(star, grain.shape), np.float32)


def _grade(picture: Picture, tint: Picture, amount: float) -> Picture:
    """Mixes the picture with its luminance in a tint."""
    grey = luminance(picture)[..., None]
    return np.clip(picture * (1 - amount) + grey * tint * amount, 0, 1)


def _night(picture: Picture, grain: NDArray[np.float32]) -> Picture:
    dark = _grade(picture, np.array([0.3, 0.5, 1.3], np.float32), 0.72) ** 1.25 * 0.95
    return np.clip(dark + _specks(grain[..., 2], 2.0)[..., None] * 0.9, 0, 1)


def _galaxy(picture: Picture, grain: NDArray[np.float32]) -> Picture:
    veil = (_cloud(grain[..., 1], 3.0) * 0.16)[..., None] * np.array([1.0, 0.1, 0.9], np.float32)
    tint = np.array([0.75, 0.35, 1.25], np.float32)
    dark = _grade(picture, tint, 0.75) ** 1.3 * 0.85 + np.clip(veil, 0, 1)
    return np.asarray(np.clip(dark + _specks(grain[..., 2], 1.8)[..., None], 0, 1), np.float32)


def _winter(picture: Picture, grain: NDArray[np.float32]) -> Picture:
    cold = _grade(picture, np.array([0.78, 0.98, 1.2], np.float32), 0.8) * 0.78 + 0.2
    return np.clip(cold + _specks(grain[..., 1], 1.7)[..., None] * 0.8, 0, 1)


def _sunset(picture: Picture, grain: NDArray[np.float32]) -> Picture:
    stops = np.array([(32, 8, 56), (150, 30, 84), (250, 108, 44), (255, 224, 138)], np.float32)
    table = _ramp(stops / 255)
    painted = table[(luminance(picture) * 255).astype(np.int32)]
    return np.clip(painted * 0.72 + picture * 0.28, 0, 1)


def _autumn(picture: Picture, grain: NDArray[np.float32]) -> Picture:
    return _grade(picture, np.array([1.3, 0.82, 0.35], np.float32), 0.6)


def _underwater(picture: Picture, grain: NDArray[np.float32]) -> Picture:
    light = (1 + 0.16 * _cloud(grain[..., 1], 2.2))[..., None]
    return np.clip(_grade(picture, np.array([0.12, 0.9, 1.1], np.float32), 0.72) * light, 0, 1)


def _fire(picture: Picture, grain: NDArray[np.float32]) -> Picture:
    stops = np.array([(10, 0, 0), (150, 14, 0), (255, 110, 0), (255, 240, 120)], np.float32) / 255
    tone = np.clip(luminance(picture) * 1.05 + 0.06 * _cloud(grain[..., 1], 1.5), 0, 1)
    return np.clip(_ramp(stops)[(tone * 255).astype(np.int32)] * 0.9 + picture * 0.1, 0, 1)


def _pastel(picture: Picture, grain: NDArray[np.float32]) -> Picture:
    return np.asarray(np.clip(_saturate(picture, 0.85) * 0.48 + 0.5, 0, 1), np.float32)


def _vivid(picture: Picture, grain: NDArray[np.float32]) -> Picture:
    return np.asarray(np.clip((_saturate(picture, 2.1) - 0.5) * 1.15 + 0.52, 0, 1), np.float32)


def _dark(picture: Picture, grain: NDArray[np.float32]) -> Picture:
    return np.asarray(picture**1.6 * 0.62, np.float32)


def _bright(picture: Picture, grain: NDArray[np.float32]) -> Picture:
    return np.asarray(np.clip(picture**0.65 * 1.05 + 0.08, 0, 1), np.float32)


def _foggy(picture: Picture, grain: NDArray[np.float32]) -> Picture:
    fog = np.clip(0.55 + 0.1 * _cloud(grain[..., 1], 3.0), 0.25, 0.8)[..., None]
    return np.asarray(
        _saturate(picture, 0.6) * (1 - fog) + np.array([0.8, 0.83, 0.86], np.float32) * fog,
        np.float32,
    )


_MOODS: dict[str, Callable[[Picture, NDArray[np.float32]], Picture]] = {
    "night": _night,
    "galaxy": _galaxy,
    "winter": _winter,
    "sunset": _sunset,
    "autumn": _autumn,
    "underwater": _underwater,
    "fire": _fire,
    "pastel": _pastel,
    "vivid": _vivid,
    "dark": _dark,
    "bright": _bright,
    "foggy": _foggy,
}
MOODS = tuple(_MOODS)


def stylise(picture: Picture, grain: NDArray[np.float32], look: Look) -> Picture:
    """The picture as the prompt asks for it, at full strength.

    picture: H x W x 3 in 0..1, H and W multiples of 8; grain: H/4 x W/4 x 3, standard normal.
    """
    out = _STYLES[look.style](_levels(picture), grain, look.colours)
    for mood in look.moods:
        out = _MOODS[mood](np.clip(out, 0, 1).astype(np.float32), grain)
    return np.clip(out, 0, 1).astype(np.float32)


def plasma(grain: NDArray[np.float32]) -> Picture:
    """A picture from nothing but the grain, for prompts without a camera."""
    planes = [
        0.5 + 0.2 * _cloud(grain[..., c], 3.0) + 0.07 * _cloud(grain[..., c], 1.2) for c in range(3)
    ]
    return np.asarray(np.clip(np.stack(planes, 2), 0, 1), np.float32)
