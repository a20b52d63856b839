"""The stylisations the model learns: classics of image processing, then colours and moods.

Pictures are float32 H x W x 3, RGB in 0..1. Each style also gets `grain`, a field of standard
normal numbers, one triple per 4 x 4 pixels. It is the very noise that the model is given in its
empty channels, so it can learn to make texture from its seed instead of averaging texture away.

The model knows three things only, and a reference may depend on nothing else: the picture within
some forty pixels, the grain, and where a pixel stands inside a tile of 16 x 16 pixels anchored at
the top left corner. Hence the 16-pixel rule: every regular pattern here repeats after a divisor
of 16 pixels in both directions. Decisions are soft (smooth steps, soft stairs, weighted means),
because a hard one teaches mush and flickers on moving pictures.
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
TILE = 16


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


def _rgb(red: int, green: int, blue: int) -> Picture:
    return np.asarray(np.array([red, green, blue], np.float32) / 255, np.float32)


def _clip(image: NDArray[np.floating]) -> NDArray[np.float32]:
    return np.asarray(np.clip(image, 0, 1), np.float32)


def _blur(image: NDArray[np.float32], sigma: float) -> NDArray[np.float32]:
    return np.asarray(cv2.GaussianBlur(image, (0, 0), sigma), np.float32)


def _step(value: NDArray[np.floating], low: float, high: float) -> NDArray[np.float32]:
    """Smooth step from 0 at `low` to 1 at `high`."""
    t = np.clip((value - low) / (high - low), 0, 1)
    return np.asarray(t * t * (3 - 2 * t), np.float32)


def _saturate(picture: Picture, factor: float) -> Picture:
    grey = luminance(picture)[..., None]
    return _clip(grey + (picture - grey) * factor)


def _contrast(image: NDArray[np.float32], gain: float) -> NDArray[np.float32]:
    return _clip((image - 0.5) * gain + 0.5)


def _expose(picture: Picture) -> Picture:
    """A little local contrast, and light where the surroundings are dark, as on a stage."""
    grey = luminance(picture)
    wide = _blur(grey, 11.0)
    gain = 1 + 1.1 * (1 - _step(wide, 0.0, 0.42)) ** 2
    lift = (grey - wide) * 0.18 + 0.14 * wide * (1 - wide) * (1.15 - wide)
    return _clip(picture * gain[..., None] + lift[..., None])


def _stairs(value: NDArray[np.float32], steps: int, ramp: float) -> NDArray[np.float32]:
    """Soft posterisation: flat treads, each joined to the next by a rise of width `ramp`."""
    scaled = value * steps - 0.5
    floor = np.floor(scaled)
    rise = _step(scaled - floor, 0.5 - ramp / 2, 0.5 + ramp / 2)
    return np.asarray(np.clip((floor + 0.5 + rise) / steps, 0, 1), np.float32)


def _smooth(picture: Picture, rounds: int = 2, sigma: float = 0.12) -> Picture:
    for _ in range(rounds):
        picture = np.asarray(cv2.bilateralFilter(picture, 7, sigma, 3), np.float32)
    return picture


def _shift(image: NDArray[np.float32], dy: int, dx: int) -> NDArray[np.float32]:
    """The picture moved down by dy and right by dx; its border pixels fill the gap."""
    height, width = image.shape[:2]
    sides = (max(dy, 0), max(-dy, 0), max(dx, 0), max(-dx, 0))
    grown = cv2.copyMakeBorder(image, *sides, borderType=cv2.BORDER_REPLICATE)
    top, left = max(-dy, 0), max(-dx, 0)
    return np.asarray(grown[top : top + height, left : left + width], np.float32)


def _kuwahara(picture: Picture, radius: int) -> Picture:
    """Each pixel takes the mean of its calm quadrants, weighted softly: flat patches of paint."""
    size = (radius + 1, radius + 1)
    grey = luminance(picture)
    stack = np.dstack([picture, grey, grey * grey])
    means = np.asarray(cv2.blur(stack, size, borderType=cv2.BORDER_REFLECT), np.float32)
    spread = np.maximum(means[..., 4] - means[..., 3] ** 2, 0)
    weight = 1 / (spread + 4e-4) ** 2
    means = np.dstack([means[..., :3] * weight[..., None], weight])
    half = (radius + 1) // 2
    total = np.zeros_like(means)
    for dy in (-half, half):
        for dx in (-half, half):
            total += _shift(means, dy, dx)
    return np.asarray(total[..., :3] / total[..., 3:], np.float32)


def _edge(picture: Picture, sigma: float) -> Plane:
    """How fast the picture changes, in any channel."""
    soft = _blur(picture, sigma)
    dx, dy = cv2.Sobel(soft, cv2.CV_32F, 1, 0), cv2.Sobel(soft, cv2.CV_32F, 0, 1)
    square = dx * dx + dy * dy
    return np.asarray(np.sqrt(square.max(2) if square.ndim == 3 else square), np.float32)


def _line(grey: Plane, sigma: float, low: float, high: float) -> Plane:
    """1 where a pen would draw: the dark side of edges, `sigma` wide."""
    difference = _blur(grey, sigma * 1.8) - _blur(grey, sigma)
    return _step(difference, low, high)


def _tensor(grey: Plane, sigma: float) -> tuple[Plane, Plane]:
    """The double angle of the local stroke direction as (cosine, sine), length below 1."""
    soft = _blur(grey, 1.2)
    dx, dy = cv2.Sobel(soft, cv2.CV_32F, 1, 0), cv2.Sobel(soft, cv2.CV_32F, 0, 1)
    # Strokes run along edges, at right angles to the gradient.
    cosine, sine = _blur(dy * dy - dx * dx, sigma), _blur(-2 * dx * dy, sigma)
    length = np.sqrt(cosine * cosine + sine * sine) + 0.006
    return np.asarray(cosine / length, np.float32), np.asarray(sine / length, np.float32)


def _flow(grey: Plane, grain: NDArray[np.float32], sigma: float, own: float) -> tuple[Plane, Plane]:
    """Unit direction of the brush: along edges, elsewhere along large swirls of the grain."""
    cosine, sine = _tensor(grey, sigma)
    swirl = 0.8 + 1.3 * _cloud(grain[..., 2], 4.0)
    cosine, sine = cosine + own * np.cos(swirl), sine + own * np.sin(swirl)
    angle = np.arctan2(sine, cosine + 1e-6) / 2
    return np.cos(angle).astype(np.float32), np.sin(angle).astype(np.float32)


def _at(image: NDArray[np.float32], dx: NDArray[np.floating], dy: NDArray[np.floating]) -> Picture:
    """The picture sampled dx to the right and dy below every pixel."""
    height, width = image.shape[:2]
    x = np.arange(width, dtype=np.float32)[None, :] + dx
    y = np.arange(height, dtype=np.float32)[:, None] + dy
    mode = cv2.BORDER_REFLECT
    out = cv2.remap(image, x.astype(np.float32), y.astype(np.float32), 1, borderMode=mode)
    return np.asarray(out, np.float32)


def _along(
    image: NDArray[np.float32], flow: tuple[Plane, Plane], reach: float, count: int
) -> NDArray[np.float32]:
    """Mean over a straight stroke of +-reach pixels in the direction of the flow."""
    total = np.zeros_like(image)
    for step in np.linspace(-reach, reach, count):
        total += _at(image, flow[0] * np.float32(step), flow[1] * np.float32(step))
    return np.asarray(total / count, np.float32)


def _cells(image: NDArray[np.float32], cell: int, dy: int = 0, dx: int = 0) -> NDArray[np.float32]:
    """Means over cell x cell pixels of a grid moved by dy and dx, in the size of the picture."""
    moved = _shift(image, -dy, -dx) if dy or dx else image
    height, width = image.shape[:2]
    small = cv2.resize(moved, (width // cell, height // cell), interpolation=cv2.INTER_AREA)
    large = cv2.resize(small, (width, height), interpolation=cv2.INTER_NEAREST)
    out = np.asarray(large, np.float32)
    return _shift(out, dy, dx) if dy or dx else out


def _per_cell(grain: NDArray[np.float32]) -> NDArray[np.float32]:
    return np.repeat(np.repeat(grain, CELL, 0), CELL, 1)


def _cloud(plane: Plane, sigma: float) -> Plane:
    """The grain as a soft field of unit spread, in pixels; sigma in cells."""
    soft = _blur(plane, sigma) * (2 * sigma * np.sqrt(np.pi))
    size = (plane.shape[1] * CELL, plane.shape[0] * CELL)
    return np.asarray(cv2.resize(soft, size, interpolation=cv2.INTER_LINEAR), np.float32)


def _fine(plane: Plane) -> Plane:
    """The grain itself, joined smoothly, in pixels."""
    size = (plane.shape[1] * CELL, plane.shape[0] * CELL)
    return np.asarray(cv2.resize(plane, size, interpolation=cv2.INTER_CUBIC), np.float32)


def _tile(shape: tuple[int, ...], table: NDArray[np.floating]) -> Plane:
    """A table repeated over the picture; its sides divide 16."""
    down, right = -(-shape[0] // table.shape[0]), -(-shape[1] // table.shape[1])
    return np.tile(table, (down, right))[: shape[0], : shape[1]].astype(np.float32)


_Y, _X = np.mgrid[0:TILE, 0:TILE].astype(np.float32) + np.float32(0.5)


def _wave(phase: NDArray[np.floating]) -> NDArray[np.float32]:
    """A triangle wave of period 1: 0 on the line, 1 between lines, every value as frequent."""
    return np.asarray(np.abs(2 * (phase - np.floor(phase)) - 1), np.float32)


def _dots(points: tuple[tuple[float, float], ...]) -> Plane:
    """Distance from the nearest of some points repeated every 16 pixels."""
    best = np.full((TILE, TILE), 99, np.float32)
    for row, column in points:
        dy = np.abs(_Y - row)
        dx = np.abs(_X - column)
        dy, dx = np.minimum(dy, TILE - dy), np.minimum(dx, TILE - dx)
        best = np.minimum(best, np.sqrt(dy * dy + dx * dx))
    return best


def _ranked(table: Plane) -> Plane:
    """The order of a table's values, 0..1: a screen that keeps the tone."""
    order = np.empty(table.size, np.float32)
    order[np.argsort(table, axis=None, kind="stable")] = np.arange(table.size)
    return np.asarray(((order + 0.5) / table.size).reshape(table.shape), np.float32)


# Distance from the dots of an upright grid of 8 pixels, and from one moved by half of that.
_GRID = _dots(((4, 4), (4, 12), (12, 4), (12, 12)))
_OFFSET = _dots(((0, 0), (0, 8), (8, 0), (8, 8)))
# A screen at 45 degrees for Ben Day dots, 5.7 pixels apart.
_BEN_DAY = _dots(tuple((y + o, x + o) for y in (2, 10) for x in (2, 10) for o in (0, 4)))
_SCREEN = _ranked(-(np.cos((_X + _Y) * np.pi / 4) + np.cos((_X - _Y) * np.pi / 4)))
_DOWN, _UP = (_X + _Y) / 8, (_X - _Y) / 8


def _voronoi(points: tuple[tuple[float, float], ...]) -> tuple[NDArray[np.int32], Plane]:
    """Which point is nearest inside the tile, and how far the border to the next one is."""
    layers = np.stack([_dots((point,)) for point in points])
    # A lone point also borders on its own copies sixteen pixels on.
    copies = []
    for row, column in points:
        for dy in (-TILE, 0, TILE):
            for dx in (-TILE, 0, TILE):
                copies.append(np.sqrt((_Y - row - dy) ** 2 + (_X - column - dx) ** 2))
    nearest = np.sort(np.stack(copies), 0)
    border = (nearest[1] - nearest[0]) / 2
    return layers.argmin(0).astype(np.int32), border.astype(np.float32)


def _fit(mask: NDArray[np.bool_]) -> tuple[int, int]:
    """The shift of the tile at which a repeated region does not cross its sides."""
    best, found = 10**9, (0, 0)
    for dy in range(TILE):
        for dx in range(TILE):
            moved = np.roll(mask, (dy, dx), (0, 1))
            cut = int((moved[0] & moved[-1]).sum() + (moved[:, 0] & moved[:, -1]).sum())
            if cut < best:
                best, found = cut, (dy, dx)
    return found


_Region = tuple[Plane, int, int, Plane]


def _plan(labels: NDArray[np.int32]) -> list[_Region]:
    plan: list[_Region] = []
    for label in range(int(labels.max()) + 1):
        mask = labels == label
        dy, dx = _fit(mask)
        moved = np.roll(mask, (dy, dx), (0, 1)).astype(np.float32)
        plan.append((moved, dy, dx, mask.astype(np.float32)))
    return plan


def _regions(image: NDArray[np.float32], plan: list[_Region]) -> NDArray[np.float32]:
    """Every region of the tile filled with the mean of the picture under it."""
    height, width = image.shape[:2]
    out = np.zeros_like(image)
    # Full tiles all around, so that shifted regions at the border have neighbours.
    bottom, right = -height % TILE + TILE, -width % TILE + TILE
    grown = cv2.copyMakeBorder(image, TILE, bottom, TILE, right, cv2.BORDER_REPLICATE)
    rows, columns = grown.shape[0] // TILE - 1, grown.shape[1] // TILE - 1
    for moved, dy, dx, mask in plan:
        top, left = (-dy) % TILE, (-dx) % TILE
        part = grown[top : top + rows * TILE, left : left + columns * TILE]
        part = part * _tile(part.shape, moved)[..., None] / moved.mean()
        small = cv2.resize(part, (columns, rows), interpolation=cv2.INTER_AREA)
        large = np.repeat(np.repeat(small, TILE, 0), TILE, 1)
        y, x = TILE - top, TILE - left
        out += large[y : y + height, x : x + width] * _tile(out.shape, mask)[..., None]
    return np.asarray(out, np.float32)


# Panes of glass: two uneven cells in a tile. Facets: triangles, 16 wide and 8 high.
_PANES, _LEAD = _voronoi(((4.0, 4.5), (12.0, 11.0)))
_GLASS = _plan(_PANES)


def _triangles() -> tuple[NDArray[np.int32], Plane]:
    """Two rows of triangles, up and down in turn, the lower row half a triangle on."""
    labels = np.zeros((TILE, TILE), np.int32)
    light = np.zeros((TILE, TILE), np.float32)
    for row in range(TILE):
        for column in range(TILE):
            y, x = (row + 0.5) % 8, (column + 0.5 + 8 * (row // 8)) % TILE
            up = abs(x - 8) < y
            labels[row, column] = row // 8 * 2 + int(up)
            light[row, column] = 1.0 if up else -1.0
    return labels, light


_FACETS, _FACING = _triangles()
_POLY = _plan(_FACETS)

# ---------------------------------------------------------------- colours

_STOPS: dict[str, tuple[tuple[int, int, int], ...]] = {
    "red": ((26, 0, 4), (150, 0, 18), (240, 30, 26), (255, 190, 160)),
    "orange": ((44, 10, 0), (186, 62, 0), (255, 122, 0), (255, 220, 158)),
    "gold": ((24, 12, 0), (130, 82, 0), (238, 176, 24), (255, 240, 170)),
    "yellow": ((70, 60, 0), (214, 184, 0), (255, 234, 0), (255, 255, 190)),
    "green": ((0, 20, 6), (8, 100, 28), (48, 200, 62), (208, 255, 190)),
    "teal": ((0, 24, 30), (0, 108, 112), (20, 206, 196), (196, 255, 246)),
    "blue": ((2, 4, 48), (8, 34, 180), (38, 110, 255), (180, 216, 255)),
    "purple": ((18, 0, 40), (84, 12, 158), (158, 62, 240), (230, 200, 255)),
    "pink": ((50, 0, 30), (196, 14, 116), (255, 84, 172), (255, 216, 236)),
    "brown": ((20, 8, 2), (84, 42, 16), (148, 86, 44), (222, 184, 140)),
    "black and white": ((0, 0, 0), (70, 70, 70), (172, 172, 172), (255, 255, 255)),
    "sepia": ((40, 26, 14), (124, 94, 66), (204, 174, 134), (252, 240, 216)),
    "vaporwave": ((40, 8, 92), (150, 30, 190), (255, 96, 190), (100, 240, 255)),
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
    return np.stack(
        [first[0], first[1] * 0.5 + first[2] * 0.5, second[2], second[2] * 0.45 + second[3] * 0.55]
    )


def _lookup(tone: NDArray[np.floating], table: NDArray[np.float32]) -> Picture:
    position = np.clip(tone, 0, 1) * 255
    low = np.floor(position).astype(np.int32)
    high = np.minimum(low + 1, 255)
    part = (position - low)[..., None]
    return np.asarray(table[low] * (1 - part) + table[high] * part, np.float32)


def _paint(tone: NDArray[np.floating], colours: tuple[str, ...]) -> Picture:
    return _lookup(tone, _ramp(_stops(colours)))


def _tinted(picture: Picture, colours: tuple[str, ...]) -> Picture:
    """A full-colour picture in the asked palette; a trace of its own colours remains."""
    if not colours:
        return picture
    grey = luminance(picture)
    return _clip(_paint(grey, colours) + (picture - grey[..., None]) * 0.1)


def _drawn(
    tone: NDArray[np.floating], colours: tuple[str, ...], ink: Picture, paper: Picture
) -> Picture:
    """Lines on paper: tone 0 is ink, 1 is paper; both take the asked colour."""
    if colours:
        first = np.array(_STOPS[colours[0]], np.float32) / 255
        last = np.array(_STOPS[colours[-1]], np.float32) / 255
        ink = first[1] * 0.8 if len(colours) == 1 else first[1]
        paper = last[3] * 0.7 + last[2] * 0.3
    return np.asarray(ink + (paper - ink) * np.clip(tone, 0, 1)[..., None], np.float32)


# ---------------------------------------------------------------- styles

Style = Callable[[Picture, NDArray[np.float32], tuple[str, ...]], Picture]


def _photo(picture: Picture, grain: NDArray[np.float32], colours: tuple[str, ...]) -> Picture:
    sharp = picture + (picture - _blur(picture, 1.5)) * 0.1
    return _tinted(_saturate(_clip(sharp), 1.15), colours)


def _pencil(picture: Picture, grain: NDArray[np.float32], colours: tuple[str, ...]) -> Picture:
    grey = luminance(picture)
    soft = _blur(grey, 1.6)
    line = _line(grey, 1.3, 0.006, 0.07)
    wobble = 0.12 * _cloud(grain[..., 1], 1.5)
    near = _wave(_tile(grey.shape, _DOWN) + wobble)
    cross = _wave(_tile(grey.shape, _UP) - wobble)
    first = _step(0.72 - soft, 0, 0.45) * _step(near, 0.35, 0.8)
    second = _step(0.42 - soft, 0, 0.34) * _step(cross, 0.3, 0.75)
    smudge = 0.24 * (1 - soft)
    tooth = 1 + 0.12 * _fine(grain[..., 0])
    lead = 1 - (1 - 0.78 * line) * (1 - 0.5 * first * tooth) * (1 - 0.58 * second * tooth)
    return _drawn(1 - lead - smudge, colours, _rgb(44, 46, 54), _rgb(252, 251, 248))


def _charcoal(picture: Picture, grain: NDArray[np.float32], colours: tuple[str, ...]) -> Picture:
    grey = luminance(picture)
    flow = _flow(grey, grain, 4.0, 0.35)
    smear = _along(_blur(grey, 1.2), flow, 4.0, 5)
    tooth = _fine(grain[..., 0]) * 0.5 + 0.8 * _along(_fine(grain[..., 1]), flow, 5.0, 6)
    ground = smear + 0.11 * tooth
    coal = _step(0.58 - ground, 0.0, 0.46) * 0.96
    coal = 1 - (1 - coal) * (1 - 0.75 * _line(grey, 2.0, 0.012, 0.09))
    chalk = _step(smear + 0.06 * tooth, 0.64, 1.0) * 0.88
    paper, black, white = _rgb(174, 159, 137), _rgb(20, 17, 17), _rgb(250, 246, 238)
    if colours:
        stops = _stops(colours)
        paper, black, white = stops[2] * 0.7 + stops[1] * 0.3, stops[0], stops[3]
    out = paper * (1 - coal[..., None]) + black * coal[..., None]
    return _clip(out * (1 - chalk[..., None]) + white * chalk[..., None])


def _ink(picture: Picture, grain: NDArray[np.float32], colours: tuple[str, ...]) -> Picture:
    grey = luminance(_smooth(picture, 1))
    wet = 0.035 * _cloud(grain[..., 0], 1.6)
    soft = _blur(grey, 1.6) + wet
    wash = 0.30 * _step(0.60 - soft, 0, 0.22) + 0.66 * _step(0.34 - soft, 0, 0.2)
    line = _line(grey, 1.8, 0.012, 0.088)
    tone = (1 - line) * (1 - np.clip(wash, 0, 1))
    return _drawn(tone, colours, _rgb(8, 8, 14), _rgb(254, 253, 250))


def _watercolor(picture: Picture, grain: NDArray[np.float32], colours: tuple[str, ...]) -> Picture:
    bleed = 1.3 * _cloud(grain[..., 1], 1.4), 1.3 * _cloud(grain[..., 2], 1.4)
    flat = _at(_kuwahara(_kuwahara(picture, 3), 5), *bleed)
    stairs = _stairs(luminance(flat), 4, 0.7)
    flat = _clip(flat + 0.7 * (stairs - luminance(flat))[..., None])
    wash = _tinted(_clip(flat * 0.74 + 0.26), colours) if colours else _saturate(flat, 2.1)
    grey = luminance(wash)
    rim = np.clip(_edge(flat, 1.2) - 0.08, 0, 0.8)
    damp = 0.35 + 0.65 * _step(grey, 0.0, 0.5)
    pool = 1 + damp * (0.24 * _cloud(grain[..., 0], 2.2) + 0.10 * _fine(grain[..., 0]))
    pigment = (1 - wash) * 0.62 * pool[..., None]
    pigment = pigment + (0.34 * rim * (1 - 0.5 * grey))[..., None] * (1.15 - wash)
    white = _step(grey + 0.10 * _cloud(grain[..., 1], 2.2), 0.7, 0.98)
    pigment = pigment * (1 - 0.75 * white[..., None])
    brush = 0.4 * _line(luminance(picture), 1.2, 0.02, 0.09)
    pigment = pigment + brush[..., None] * (1.1 - 0.6 * wash)
    return _clip(_rgb(255, 253, 248) - np.maximum(pigment, 0))


def _oil(picture: Picture, grain: NDArray[np.float32], colours: tuple[str, ...]) -> Picture:
    flow = _flow(luminance(picture), grain, 5.5, 0.3)
    bristle = _along(_fine(grain[..., 0]), flow, 6.0, 6) * 1.9
    push = _cloud(grain[..., 1], 0.8) * 0.9
    paint = _at(_kuwahara(picture, 3), push, -push)
    paint = _along(paint, flow, 3.0, 5) + 0.6 * (_blur(picture, 0.8) - _blur(picture, 2.5))
    paint = _contrast(_saturate(_clip(paint), 1.75), 1.2)
    if colours:
        paint = _tinted(paint, colours)
    else:
        # Umber in the shadows, a honey varnish over the lights.
        grey = luminance(paint)[..., None]
        paint = paint * _rgb(255, 232, 184) + _rgb(40, 18, 4) * (1 - grey) ** 2
    relief = bristle - _shift(bristle, 1, 1)
    shade = np.clip(0.10 * bristle + 0.10 * relief, -0.3, 0.3)[..., None]
    return _clip(paint * (1 + shade) + 0.04 * shade)


def _impasto(picture: Picture, grain: NDArray[np.float32], colours: tuple[str, ...]) -> Picture:
    flow = _flow(luminance(picture), grain, 5.0, 0.6)
    ridge = _along(_cloud(grain[..., 0], 0.75), flow, 9.0, 8) * 1.7
    push = ridge * 1.2
    paint = _along(_kuwahara(picture, 5), flow, 4.0, 5)
    paint = _at(paint, push, -push)
    paint = _clip(paint + 0.5 * (_blur(picture, 1.0) - _blur(picture, 3.0)))
    paint = _contrast(_saturate(paint, 2.0), 1.15)
    tone = luminance(paint) + 0.15 * ridge
    if colours:
        paint = _clip(_tinted(paint, colours) * (1 + 0.22 * ridge[..., None]))
    else:
        # Ultramarine shadows, chrome yellow lights, streaked by the brush.
        cool = _step(0.5 - tone, -0.05, 0.45)[..., None] * 0.62
        warm = _step(tone, 0.5, 0.95)[..., None] * 0.5
        paint = paint * (1 - cool) + (_rgb(14, 40, 150) * (0.45 + tone[..., None])) * cool
        paint = paint * (1 - warm) + _rgb(255, 214, 62) * (0.35 + 0.65 * tone[..., None]) * warm
    lit = (ridge - _shift(ridge, 2, 2))[..., None]
    return _clip(paint * (1 + np.clip(0.34 * lit, -0.5, 0.5)) + np.clip(0.12 * lit, 0, 0.25))


def _pointillism(picture: Picture, grain: NDArray[np.float32], colours: tuple[str, ...]) -> Picture:
    noise = _per_cell(grain)
    out = np.empty_like(picture)
    out[:] = np.array(_STOPS[colours[-1]][3], np.float32) / 255 if colours else _rgb(250, 240, 214)
    rich = _saturate(picture, 1.9)
    for table, offset in ((_OFFSET, 4), (_GRID, 0)):
        dots = _cells(rich, 8, offset, offset)
        hue = _cells(noise, 8, offset, offset) * 2
        if colours:
            dots = _paint(luminance(dots) + 0.13 * hue[..., 0], colours)
        else:
            hue = hue - 0.7 * luminance(hue)[..., None]
            dots = _clip(_contrast(dots, 1.15) + (0.07 + 0.07 * luminance(dots)[..., None]) * hue)
        radius = 3.9 - 1.3 * luminance(dots)
        mask = 1 - _step(_tile(radius.shape, table) - radius, -0.7, 0.7)
        out += (dots - out) * mask[..., None]
    return out


def _comic(picture: Picture, grain: NDArray[np.float32], colours: tuple[str, ...]) -> Picture:
    flat = _kuwahara(_smooth(picture, 1, 0.15), 5)
    grey = luminance(flat)
    stairs = _stairs(np.clip(grey * 1.05 + 0.06, 0, 1), 3, 0.5)
    flat = _saturate(_clip(flat + 0.75 * (stairs - grey)[..., None]), 2.6)
    if colours:
        flat = _tinted(flat, colours)
    dots = 1 - _step(_tile(grey.shape, _BEN_DAY), 1.2, 2.2)
    shadow = (_step(0.55 - grey, 0, 0.16) - 0.6 * _step(0.3 - grey, 0, 0.16)) * dots
    shade = np.array([0.75, 0.75, 0.35], np.float32) if not colours else np.float32(0.6)
    flat = flat * (1 - shadow[..., None] * shade)
    line = _line(luminance(picture), 1.6, 0.024, 0.08)
    return _clip(flat * (1 - line)[..., None] + _rgb(10, 6, 22) * line[..., None])


def _halftone(picture: Picture, grain: NDArray[np.float32], colours: tuple[str, ...]) -> Picture:
    grey = _blur(luminance(picture), 1.2)
    tone = np.clip((grey - 0.5) * 1.3 + 0.52, 0, 1)
    dots = _step(tone - (1 - _tile(grey.shape, _SCREEN)), -0.1, 0.1)
    return _drawn(dots, colours, _rgb(16, 26, 96), _rgb(255, 240, 206))


def _pixel(picture: Picture, grain: NDArray[np.float32], colours: tuple[str, ...]) -> Picture:
    blocks = _cells(picture, 8)
    if colours:
        blocks = _paint(_stairs(luminance(blocks), 5, 0.5), colours)
    else:
        blocks = _stairs(_contrast(_saturate(blocks, 2.3), 1.2), 4, 0.5)
    edge = np.where((_X % 8 > 7) | (_Y % 8 > 7), 0.72, 1.0)
    edge = np.where((_X % 8 < 1) | (_Y % 8 < 1), edge * 1.12, edge)
    return _clip(blocks * _tile(picture.shape, edge)[..., None])


_BRICK = (np.floor(_Y / 8) % 2).astype(np.float32)
_BX = (_X + 4 * _BRICK) % 8
_BEVEL = np.where((_BX > 6.7) | (_Y % 8 > 6.7), 0.0, 1.0).astype(np.float32)
_FACE = (1.0 + 0.045 * (8 - _BX - _Y % 8)).astype(np.float32)


def _mosaic(picture: Picture, grain: NDArray[np.float32], colours: tuple[str, ...]) -> Picture:
    both = np.dstack([_saturate(picture, 2.0), _per_cell(grain)])
    odd = _tile(both.shape, _BRICK)[..., None]
    both = _cells(both, 8) * (1 - odd) + _cells(both, 8, 0, 4) * odd
    jitter = both[..., 3:] * 2
    tiles = _clip(_contrast(both[..., :3], 1.15) + 0.05 * jitter[..., :1])
    tiles = _tinted(tiles, colours) if colours else _clip(tiles + 0.035 * jitter)
    stone = tiles * _tile(odd.shape, _FACE)[..., None]
    body = _tile(odd.shape, _BEVEL)[..., None]
    grout = _rgb(112, 100, 88)
    if colours:
        grout = np.asarray(_stops(colours)[1] * 0.5 + _stops(colours)[0] * 0.5, np.float32)
    return _clip(stone * body + grout * (1 - body))


def _glass(picture: Picture, grain: NDArray[np.float32], colours: tuple[str, ...]) -> Picture:
    both = np.dstack([_blur(picture, 1.0), _per_cell(grain[..., 0])])
    panes = _regions(both, _GLASS)
    lead = _tile(picture.shape, _LEAD)
    warp = 2.3 * _cloud(grain[..., 1], 2.0), 2.3 * _cloud(grain[..., 2], 2.0)
    panes, lead = _at(panes, *warp), _at(lead, *warp)
    jewel = _clip(0.7 * panes[..., :3] + 0.4 * _kuwahara(picture, 5) + 0.08 * panes[..., 3:4])
    jewel = _contrast(jewel, 1.15)
    jewel = _tinted(jewel, colours) if colours else _saturate(jewel, 2.9)
    glow = 0.8 + 0.5 * _step(lead, 0.4, 5.0)
    glow = glow * (1 + 0.10 * _cloud(grain[..., 0], 1.2))
    solid = _step(lead, 0.2, 1.0)
    contour = 1 - 0.9 * _line(luminance(picture), 1.9, 0.03, 0.085)
    dark = _rgb(10, 9, 14)
    pane = jewel * glow[..., None]
    return _clip(dark + (pane - dark) * (solid * contour)[..., None])


def _neon(picture: Picture, grain: NDArray[np.float32], colours: tuple[str, ...]) -> Picture:
    edge = _edge(picture, 1.7)
    line = _step(edge, 0.18, 0.75)
    pair = (colours or ("teal", "pink"))[:2]
    first, second = (np.array(_STOPS[name], np.float32)[2] / 255 for name in (pair[0], pair[-1]))
    base = np.array(_STOPS[pair[0]], np.float32)[1] / 255 if colours else _rgb(70, 16, 130)
    if not colours:
        first, second = _rgb(0, 220, 255), _rgb(255, 20, 170)
    cosine, _ = _tensor(luminance(picture), 3.0)
    share = _step(cosine, -0.6, 0.6)[..., None]
    tube = line[..., None] * (first * share + second * (1 - share))
    glow = _blur(tube, 3.0) * 0.7 + _blur(tube, 8.0) * 0.75
    core = (_step(edge, 0.7, 1.6) * 0.35)[..., None]
    scene = base * (0.10 + 0.34 * _blur(luminance(picture), 1.5)[..., None])
    return _clip(scene + tube * 0.85 + glow + core)


_PLAN_GRID = np.where((_X < 1) | (_Y < 1), 1.0, 0.0).astype(np.float32)
_FINE_GRID = np.where((_X % 8 < 1) | (_Y % 8 < 1), 1.0, 0.0).astype(np.float32)


def _blueprint(picture: Picture, grain: NDArray[np.float32], colours: tuple[str, ...]) -> Picture:
    edge = _edge(_smooth(picture, 1), 1.7)
    line = _step(edge, 0.08, 0.95)
    grey = _blur(luminance(picture), 1.5)
    hatch = _step(_wave(_tile(grey.shape, _UP)), 0.6, 0.95) * _step(0.42 - grey, 0, 0.3) * 0.22
    grid = 0.20 * _tile(grey.shape, _PLAN_GRID) + 0.07 * _tile(grey.shape, _FINE_GRID)
    paper, ink = _rgb(8, 44, 140), _rgb(222, 236, 255)
    if colours:
        paper = np.array(_STOPS[colours[0]], np.float32)[1] / 255 * 0.85
        ink = np.array(_STOPS[colours[-1]], np.float32)[3] / 255
    tone = np.clip(line * 0.95 + (1 - line) * (hatch + grid) + 0.04 * grey, 0, 1)[..., None]
    fibre = 1 + 0.10 * _cloud(grain[..., 0], 2.5)[..., None]
    return _clip(paper * fibre * (1 - tone) + ink * tone)


def _woodcut(picture: Picture, grain: NDArray[np.float32], colours: tuple[str, ...]) -> Picture:
    grey = _blur(luminance(picture), 1.3)
    tone = np.clip((grey - 0.5) * 1.2 + 0.47, 0, 1)
    cosine, sine = _tensor(luminance(picture), 5.0)
    bend = 0.16 * _cloud(grain[..., 0], 2.0) + 0.5 * _blur(grey, 5.0)
    level = _wave(_tile(grey.shape, _Y / 8) + bend)
    upright = _wave(_tile(grey.shape, _X / 8) + bend)
    down = _wave(_tile(grey.shape, _UP) + bend)
    up = _wave(_tile(grey.shape, _DOWN) + bend)
    # Gouges follow the form: level, upright or slanting, whichever is nearest.
    weights = [np.exp(3.0 * v) for v in (cosine + 0.35, -cosine, sine, -sine)]
    total = weights[0] + weights[1] + weights[2] + weights[3]
    parts = zip(weights, (level, upright, down, up), strict=True)
    gouge = sum((weight * wave for weight, wave in parts), np.zeros_like(grey)) / total
    cut = _step(tone - (0.12 + 0.76 * (1 - gouge)), -0.13, 0.13)
    cut = cut * (1 - 0.8 * _line(grey, 1.6, 0.02, 0.08))
    return _drawn(cut, colours, _rgb(18, 10, 10), _rgb(232, 200, 150))


def _engraving(picture: Picture, grain: NDArray[np.float32], colours: tuple[str, ...]) -> Picture:
    grey = luminance(picture)
    soft = _blur(grey, 1.1)
    bend = 0.9 * _blur(grey, 4.0)
    near = _wave(_tile(grey.shape, (_X + 2 * _Y) / 8) + bend)
    cross = _wave(_tile(grey.shape, (2 * _X - _Y) / 8) + bend)
    tone = np.clip(soft * 1.05 + 0.02, 0, 1)
    first = _step(0.25 + 0.75 * tone - near, -0.14, 0.3)
    second = _step(0.5 + 0.9 * tone - cross, -0.14, 0.3)
    line = _line(grey, 1.2, 0.012, 0.08)
    lines = (0.2 + 0.8 * first) * (0.25 + 0.75 * second) * (1 - 0.7 * line)
    return _drawn(lines, colours, _rgb(74, 34, 10), _rgb(246, 228, 186))


_HEAT = _ramp(
    np.array(
        [(4, 2, 40), (70, 0, 150), (210, 20, 130), (255, 110, 20), (255, 220, 40), (255, 255, 235)],
        np.float32,
    )
    / 255
)


def _thermal(picture: Picture, grain: NDArray[np.float32], colours: tuple[str, ...]) -> Picture:
    grey = _blur(luminance(picture), 3.0)
    if colours:
        return _paint(_contrast(grey, 1.15), colours)
    return _lookup(grey, _HEAT)


def _poly(picture: Picture, grain: NDArray[np.float32], colours: tuple[str, ...]) -> Picture:
    both = np.dstack([_saturate(picture, 1.5), _per_cell(grain[..., 0])])
    facet = _regions(both, _POLY)
    facing = _tile(picture.shape, _FACING)
    warp = 1.8 * _cloud(grain[..., 1], 2.0), 1.8 * _cloud(grain[..., 2], 2.0)
    facet, facing = _at(facet, *warp), _at(facing, *warp)
    shade = 1 + 0.10 * facing + 0.16 * facet[..., 3]
    out = _contrast(facet[..., :3], 1.2) * shade[..., None]
    return _tinted(_clip(out), colours)


_BANDS = ((0, 6, 0), (6, 9, 9), (9, 13, -3), (13, 16, -10))


def _glitch(picture: Picture, grain: NDArray[np.float32], colours: tuple[str, ...]) -> Picture:
    out = _contrast(_saturate(picture, 1.9), 1.15)
    table = np.zeros((TILE, 1), np.float32)
    for first, last, shift in _BANDS:
        table[first:last] = shift
    gate = 0.15 + 0.85 * _step(_cloud(grain[..., 0], 4.0), -0.2, 1.0)
    jump = _tile(picture.shape, table) * gate
    still = np.zeros_like(jump)
    planes = [_at(np.ascontiguousarray(out[..., c]), jump + (6 - 6 * c), still) for c in range(3)]
    out = np.stack(planes, 2)
    scan = _tile(picture.shape, np.where(_Y % 4 < 2, 1.12, 0.68))[..., None]
    if colours:
        return _clip(_tinted(_clip(out), colours) * scan)
    grey = luminance(out)[..., None]
    phosphor = _rgb(60, 0, 110) * (1 - grey) + _rgb(150, 255, 235) * grey
    return _clip((out * 0.8 + phosphor * 0.3) * scan)


_STYLES: dict[str, Style] = {
    "photo": _photo,
    "pencil": _pencil,
    "charcoal": _charcoal,
    "ink": _ink,
    "watercolor": _watercolor,
    "oil": _oil,
    "impasto": _impasto,
    "pointillism": _pointillism,
    "comic": _comic,
    "halftone": _halftone,
    "pixel art": _pixel,
    "mosaic": _mosaic,
    "stained glass": _glass,
    "neon": _neon,
    "blueprint": _blueprint,
    "woodcut": _woodcut,
    "engraving": _engraving,
    "thermal": _thermal,
    "low poly": _poly,
    "glitch": _glitch,
}
STYLES = tuple(_STYLES)

# ---------------------------------------------------------------- moods

Mood = Callable[[Picture, NDArray[np.float32], tuple[str, ...]], Picture]
_STAR = np.exp(-(_dots(tuple((y, x) for y in (2, 6, 10, 14) for x in (2, 6, 10, 14))) ** 2) / 1.6)


def _specks(grain: Plane, above: float) -> Plane:
    """A small star in every cell whose grain is rare."""
    mask = _per_cell(_step(grain, above, above + 0.7))
    return np.asarray(mask * _tile(mask.shape, _STAR), np.float32)


def _graded(
    picture: Picture, stops: NDArray[np.float32], amount: float, colours: tuple[str, ...]
) -> Picture:
    """Mixes in a palette over the luminance; colours that were asked for stay in charge."""
    if colours:
        amount = amount * 0.3
    painted = _lookup(luminance(picture), _ramp(stops / 255))
    return np.asarray(picture * (1 - amount) + painted * amount, np.float32)


def _palette(*stops: tuple[int, int, int]) -> NDArray[np.float32]:
    return np.array(stops, np.float32)


_NIGHT = _palette((2, 4, 24), (8, 24, 84), (30, 84, 170), (176, 206, 250))
_GALAXY = _palette((10, 0, 34), (70, 10, 120), (190, 40, 190), (255, 190, 255))
_WINTER = _palette((62, 92, 140), (126, 164, 208), (196, 224, 246), (252, 255, 255))
_SUNRISE = _palette((58, 22, 92), (190, 60, 110), (255, 140, 92), (255, 232, 160))
_AUTUMN = _palette((40, 14, 10), (132, 36, 12), (214, 92, 26), (250, 196, 104))
_UNDERWATER = _palette((0, 20, 44), (0, 76, 104), (10, 150, 160), (170, 250, 226))
_FIRE = _palette((8, 0, 0), (150, 8, 0), (255, 96, 0), (255, 244, 130))
_PASTEL = _palette((190, 170, 226), (236, 186, 214), (252, 222, 206), (240, 255, 240))
_FADED = _palette((84, 74, 78), (128, 122, 104), (176, 172, 142), (222, 214, 180))


def _night(picture: Picture, grain: NDArray[np.float32], colours: tuple[str, ...]) -> Picture:
    if colours:
        # Moonlight dims the asked colours and fills only the deep shadows with blue.
        deep = (1 - _step(luminance(picture), 0.0, 0.45))[..., None]
        dark = _saturate(picture, 1.35) ** 1.2 * 0.74 + 0.8 * deep * _rgb(8, 22, 78)
    else:
        dark = _graded(picture, _NIGHT, 0.85, colours) * 0.8
    return _clip(dark + _specks(grain[..., 2], 2.0)[..., None] * _rgb(255, 250, 225))


def _galaxy(picture: Picture, grain: NDArray[np.float32], colours: tuple[str, ...]) -> Picture:
    dark = _graded(picture, _GALAXY, 0.8, colours) * 0.8
    veil = (0.5 if colours else 1.0) * 0.26
    gas = _step(_cloud(grain[..., 1], 3.0), -0.3, 2.0)[..., None] * _rgb(255, 40, 190)
    gas = gas + _step(_cloud(grain[..., 0], 3.0), 0.0, 2.0)[..., None] * _rgb(20, 120, 255)
    return _clip(dark + gas * veil * 2 + _specks(grain[..., 2], 1.7)[..., None])


def _winter(picture: Picture, grain: NDArray[np.float32], colours: tuple[str, ...]) -> Picture:
    cold = _graded(picture, _WINTER, 0.82, colours)
    if colours:
        cold = cold * 0.78 + 0.22 * _rgb(226, 240, 255)
    return _clip(cold + _specks(grain[..., 1], 1.4)[..., None] * 0.9)


def _sunrise(picture: Picture, grain: NDArray[np.float32], colours: tuple[str, ...]) -> Picture:
    warm = _graded(picture, _SUNRISE, 0.85, colours)
    light = _blur(luminance(picture), 8.0)[..., None]
    return _clip(warm + (0.3 if colours else 0.16) * light * _rgb(255, 150, 70))


def _autumn(picture: Picture, grain: NDArray[np.float32], colours: tuple[str, ...]) -> Picture:
    leaves = _step(_cloud(grain[..., 1], 2.0), -1.0, 1.0)[..., None]
    spread = (_rgb(250, 40, 20) * leaves + _rgb(190, 190, 40) * (1 - leaves)) - _rgb(220, 115, 30)
    out = _graded(picture, _AUTUMN, 0.8, colours)
    return _clip(out + spread * (0.4 if colours else 0.5) * luminance(picture)[..., None])


def _underwater(picture: Picture, grain: NDArray[np.float32], colours: tuple[str, ...]) -> Picture:
    deep = _graded(_blur(picture, 0.8), _UNDERWATER, 0.82, colours)
    caustic = 1 - np.abs(_cloud(grain[..., 1], 2.0))
    return _clip(deep * (0.82 + 0.32 * _step(caustic, 0.2, 1.0))[..., None])


def _fire(picture: Picture, grain: NDArray[np.float32], colours: tuple[str, ...]) -> Picture:
    lick = 0.07 * _cloud(grain[..., 1], 1.5)
    hot = _clip(picture + lick[..., None])
    hot = _graded(_contrast(hot, 1.2), _FIRE, 0.95, colours)
    glow = _blur(_step(luminance(picture), 0.5, 1.0), 5.0)[..., None]
    if colours:
        flame = _step(_cloud(grain[..., 1], 2.0), -0.2, 1.6)[..., None]
        hot = hot * 0.85 + 0.5 * flame * _rgb(255, 96, 0)
    return _clip(hot + 0.2 * glow * _rgb(255, 90, 0))


def _pastel(picture: Picture, grain: NDArray[np.float32], colours: tuple[str, ...]) -> Picture:
    out = _graded(picture, _PASTEL, 0.7, colours)
    if colours:
        return _clip(_saturate(out, 1.7) * 0.58 + 0.40)
    grey = luminance(picture)[..., None]
    return _clip(out + (picture - grey) * 0.35 + 0.02)


def _faded(picture: Picture, grain: NDArray[np.float32], colours: tuple[str, ...]) -> Picture:
    if colours:
        return _clip(_saturate(picture, 0.75) * 0.56 + _rgb(68, 60, 54))
    return _clip(_graded(picture, _FADED, 0.78, colours))


def _vivid(picture: Picture, grain: NDArray[np.float32], colours: tuple[str, ...]) -> Picture:
    return _contrast(_saturate(picture, 2.4), 1.2)


def _dark(picture: Picture, grain: NDArray[np.float32], colours: tuple[str, ...]) -> Picture:
    if colours:
        return _clip(_saturate(picture, 1.25) ** 1.3 * 0.62)
    return _clip(_saturate(picture, 0.7) ** 1.7 * 0.62)


def _light(picture: Picture, grain: NDArray[np.float32], colours: tuple[str, ...]) -> Picture:
    bloom = _blur(picture, 6.0)
    return _clip(1 - (1 - picture * 0.9) * (1 - bloom * 0.62) * 0.82)


def _foggy(picture: Picture, grain: NDArray[np.float32], colours: tuple[str, ...]) -> Picture:
    fog = np.clip(0.62 + 0.13 * _cloud(grain[..., 1], 3.5), 0.3, 0.85)[..., None]
    soft = _blur(_saturate(picture, 0.8 if colours else 0.45), 1.4)
    veil = _rgb(176, 186, 196)
    if colours:
        fog = fog * 0.8
        veil = np.asarray(0.6 * veil + 0.4 * _stops(colours)[3], np.float32)
    return _clip(soft * (1 - fog) + veil * fog)


_MOODS: dict[str, Mood] = {
    "night": _night,
    "galaxy": _galaxy,
    "winter": _winter,
    "sunrise": _sunrise,
    "autumn": _autumn,
    "underwater": _underwater,
    "fire": _fire,
    "pastel": _pastel,
    "faded": _faded,
    "vivid": _vivid,
    "dark": _dark,
    "light": _light,
    "foggy": _foggy,
}
MOODS = tuple(_MOODS)


def stylise(picture: Picture, grain: NDArray[np.float32], look: Look) -> Picture:
    """The picture as the prompt asks for it, at full strength.

    picture: H x W x 3 in 0..1, H and W multiples of 8; grain: H/4 x W/4 x 3, standard normal.
    """
    out = _STYLES[look.style](_expose(picture), grain, look.colours)
    for mood in look.moods:
        out = _MOODS[mood](_clip(out), grain, look.colours)
    return _clip(out)


def abstract(picture: Picture, amount: float, grain: NDArray[np.float32]) -> Picture:
    """The picture reduced to large shapes: untouched at 0, style over content at 1.

    The way there is straight, so more is always further from the picture.
    """
    if amount <= 0:
        return picture
    shapes = _kuwahara(_kuwahara(_smooth(_blur(picture, 1.0), 1, 0.2), 7), 9)
    shapes = _blur(_contrast(_saturate(shapes, 1.4), 1.2), 1.0)
    clouds = np.dstack([_cloud(grain[..., c], 4.0) for c in range(3)])
    shapes = _clip(shapes + 0.055 * clouds)
    return _clip(picture + (shapes - picture) * min(float(amount), 1.0))


def plasma(grain: NDArray[np.float32]) -> Picture:
    """A picture from nothing but the grain, for prompts without a camera."""
    planes = [
        0.5 + 0.2 * _cloud(grain[..., c], 3.0) + 0.07 * _cloud(grain[..., c], 1.2) for c in range(3)
    ]
    return _clip(np.stack(planes, 2))
