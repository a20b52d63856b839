"""What styles and moods are made of: soft steps, blurs, patterns in tiles of 16 pixels, palettes.

Pictures are float32 H x W x 3, RGB in 0..1; planes are H x W. The rules that all of it keeps are
those of ``stylise.py``.
"""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

Picture = NDArray[np.float32]
Plane = NDArray[np.float32]
CELL = 4
TILE = 16


def luminance(picture: Picture) -> Plane:
    """Perceived brightness, H x W in 0..1."""
    return np.asarray(picture @ np.array([0.299, 0.587, 0.114], np.float32), np.float32)


def rgb(red: int, green: int, blue: int) -> Picture:
    return np.asarray(np.array([red, green, blue], np.float32) / 255, np.float32)


def clipped(image: NDArray[np.floating]) -> NDArray[np.float32]:
    return np.asarray(np.clip(image, 0, 1), np.float32)


def blurred(image: NDArray[np.float32], sigma: float) -> NDArray[np.float32]:
    return np.asarray(cv2.GaussianBlur(image, (0, 0), sigma), np.float32)


def smooth_step(value: NDArray[np.floating], low: float, high: float) -> NDArray[np.float32]:
    """Smooth step from 0 at `low` to 1 at `high`."""
    t = np.clip((value - low) / (high - low), 0, 1)
    return np.asarray(t * t * (3 - 2 * t), np.float32)


def saturate(picture: Picture, factor: float) -> Picture:
    grey = luminance(picture)[..., None]
    return clipped(grey + (picture - grey) * factor)


def contrast(image: NDArray[np.float32], gain: float) -> NDArray[np.float32]:
    return clipped((image - 0.5) * gain + 0.5)


def expose(picture: Picture) -> Picture:
    """A little local contrast, and light where the surroundings are dark, as on a stage."""
    grey = luminance(picture)
    wide = blurred(grey, 11.0)
    gain = 1 + 1.1 * (1 - smooth_step(wide, 0.0, 0.42)) ** 2
    lift = (grey - wide) * 0.18 + 0.14 * wide * (1 - wide) * (1.15 - wide)
    return clipped(picture * gain[..., None] + lift[..., None])


def soft_stairs(value: NDArray[np.float32], steps: int, ramp: float) -> NDArray[np.float32]:
    """Soft posterisation: flat treads, each joined to the next by a rise of width `ramp`."""
    scaled = value * steps - 0.5
    floor = np.floor(scaled)
    rise = smooth_step(scaled - floor, 0.5 - ramp / 2, 0.5 + ramp / 2)
    return np.asarray(np.clip((floor + 0.5 + rise) / steps, 0, 1), np.float32)


def smoothed(picture: Picture, rounds: int = 2, sigma: float = 0.12) -> Picture:
    for _ in range(rounds):
        picture = np.asarray(cv2.bilateralFilter(picture, 7, sigma, 3), np.float32)
    return picture


def shifted(image: NDArray[np.float32], dy: int, dx: int) -> NDArray[np.float32]:
    """The picture moved down by dy and right by dx; its border pixels fill the gap."""
    height, width = image.shape[:2]
    sides = (max(dy, 0), max(-dy, 0), max(dx, 0), max(-dx, 0))
    grown = cv2.copyMakeBorder(image, *sides, borderType=cv2.BORDER_REPLICATE)
    top, left = max(-dy, 0), max(-dx, 0)
    return np.asarray(grown[top : top + height, left : left + width], np.float32)


def kuwahara(picture: Picture, radius: int) -> Picture:
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
            total += shifted(means, dy, dx)
    return np.asarray(total[..., :3] / total[..., 3:], np.float32)


def edges(picture: Picture, sigma: float) -> Plane:
    """How fast the picture changes, in any channel."""
    soft = blurred(picture, sigma)
    dx, dy = cv2.Sobel(soft, cv2.CV_32F, 1, 0), cv2.Sobel(soft, cv2.CV_32F, 0, 1)
    square = dx * dx + dy * dy
    return np.asarray(np.sqrt(square.max(2) if square.ndim == 3 else square), np.float32)


def drawn_lines(grey: Plane, sigma: float, low: float, high: float) -> Plane:
    """1 where a pen would draw: the dark side of edges, `sigma` wide."""
    difference = blurred(grey, sigma * 1.8) - blurred(grey, sigma)
    return smooth_step(difference, low, high)


def structure(grey: Plane, sigma: float) -> tuple[Plane, Plane]:
    """The double angle of the local stroke direction as (cosine, sine), length below 1."""
    soft = blurred(grey, 1.2)
    dx, dy = cv2.Sobel(soft, cv2.CV_32F, 1, 0), cv2.Sobel(soft, cv2.CV_32F, 0, 1)
    # Strokes run along edges, at right angles to the gradient.
    cosine, sine = blurred(dy * dy - dx * dx, sigma), blurred(-2 * dx * dy, sigma)
    length = np.sqrt(cosine * cosine + sine * sine) + 0.006
    return np.asarray(cosine / length, np.float32), np.asarray(sine / length, np.float32)


def flow_of(
    grey: Plane, grain: NDArray[np.float32], sigma: float, own: float
) -> tuple[Plane, Plane]:
    """Unit direction of the brush: along edges, elsewhere along large swirls of the grain."""
    cosine, sine = structure(grey, sigma)
    swirl = 0.8 + 1.3 * clouds_of(grain[..., 2], 4.0)
    cosine, sine = cosine + own * np.cos(swirl), sine + own * np.sin(swirl)
    angle = np.arctan2(sine, cosine + 1e-6) / 2
    return np.cos(angle).astype(np.float32), np.sin(angle).astype(np.float32)


def taken_at(
    image: NDArray[np.float32], dx: NDArray[np.floating], dy: NDArray[np.floating]
) -> Picture:
    """The picture sampled dx to the right and dy below every pixel."""
    height, width = image.shape[:2]
    x = np.arange(width, dtype=np.float32)[None, :] + dx
    y = np.arange(height, dtype=np.float32)[:, None] + dy
    mode = cv2.BORDER_REFLECT
    out = cv2.remap(image, x.astype(np.float32), y.astype(np.float32), 1, borderMode=mode)
    return np.asarray(out, np.float32)


def along(
    image: NDArray[np.float32], flow: tuple[Plane, Plane], reach: float, count: int
) -> NDArray[np.float32]:
    """Mean over a straight stroke of +-reach pixels in the direction of the flow."""
    total = np.zeros_like(image)
    for step in np.linspace(-reach, reach, count):
        total += taken_at(image, flow[0] * np.float32(step), flow[1] * np.float32(step))
    return np.asarray(total / count, np.float32)


def cells(image: NDArray[np.float32], cell: int, dy: int = 0, dx: int = 0) -> NDArray[np.float32]:
    """Means over cell x cell pixels of a grid moved by dy and dx, in the size of the picture."""
    moved = shifted(image, -dy, -dx) if dy or dx else image
    height, width = image.shape[:2]
    small = cv2.resize(moved, (width // cell, height // cell), interpolation=cv2.INTER_AREA)
    large = cv2.resize(small, (width, height), interpolation=cv2.INTER_NEAREST)
    out = np.asarray(large, np.float32)
    return shifted(out, dy, dx) if dy or dx else out


def per_cell(grain: NDArray[np.float32]) -> NDArray[np.float32]:
    return np.repeat(np.repeat(grain, CELL, 0), CELL, 1)


def clouds_of(plane: Plane, sigma: float) -> Plane:
    """The grain as a soft field of unit spread, in pixels; sigma in cells."""
    soft = blurred(plane, sigma) * (2 * sigma * np.sqrt(np.pi))
    size = (plane.shape[1] * CELL, plane.shape[0] * CELL)
    return np.asarray(cv2.resize(soft, size, interpolation=cv2.INTER_LINEAR), np.float32)


def fine_grain(plane: Plane) -> Plane:
    """The grain itself, joined smoothly, in pixels."""
    size = (plane.shape[1] * CELL, plane.shape[0] * CELL)
    return np.asarray(cv2.resize(plane, size, interpolation=cv2.INTER_CUBIC), np.float32)


def tiled(shape: tuple[int, ...], table: NDArray[np.floating]) -> Plane:
    """A table repeated over the picture; its sides divide 16."""
    down, right = -(-shape[0] // table.shape[0]), -(-shape[1] // table.shape[1])
    return np.tile(table, (down, right))[: shape[0], : shape[1]].astype(np.float32)


Y, X = np.mgrid[0:TILE, 0:TILE].astype(np.float32) + np.float32(0.5)


def wave_of(phase: NDArray[np.floating]) -> NDArray[np.float32]:
    """A triangle wave of period 1: 0 on the line, 1 between lines, every value as frequent."""
    return np.asarray(np.abs(2 * (phase - np.floor(phase)) - 1), np.float32)


def dot_field(points: tuple[tuple[float, float], ...]) -> Plane:
    """Distance from the nearest of some points repeated every 16 pixels."""
    best = np.full((TILE, TILE), 99, np.float32)
    for row, column in points:
        dy = np.abs(Y - row)
        dx = np.abs(X - column)
        dy, dx = np.minimum(dy, TILE - dy), np.minimum(dx, TILE - dx)
        best = np.minimum(best, np.sqrt(dy * dy + dx * dx))
    return best


def _ranked(table: Plane) -> Plane:
    """The order of a table's values, 0..1: a screen that keeps the tone."""
    order = np.empty(table.size, np.float32)
    order[np.argsort(table, axis=None, kind="stable")] = np.arange(table.size)
    return np.asarray(((order + 0.5) / table.size).reshape(table.shape), np.float32)


# Distance from the dots of an upright grid of 8 pixels, and from one moved by half of that.
GRID = dot_field(((4, 4), (4, 12), (12, 4), (12, 12)))
OFFSET = dot_field(((0, 0), (0, 8), (8, 0), (8, 8)))
# A screen at 45 degrees for Ben Day dots, 5.7 pixels apart.
BEN_DAY = dot_field(tuple((y + o, x + o) for y in (2, 10) for x in (2, 10) for o in (0, 4)))
SCREEN = _ranked(-(np.cos((X + Y) * np.pi / 4) + np.cos((X - Y) * np.pi / 4)))
DOWN, UP = (X + Y) / 8, (X - Y) / 8


def _voronoi(points: tuple[tuple[float, float], ...]) -> tuple[NDArray[np.int32], Plane]:
    """Which point is nearest inside the tile, and how far the border to the next one is."""
    layers = np.stack([dot_field((point,)) for point in points])
    # A lone point also borders on its own copies sixteen pixels on.
    copies = []
    for row, column in points:
        for dy in (-TILE, 0, TILE):
            for dx in (-TILE, 0, TILE):
                copies.append(np.sqrt((Y - row - dy) ** 2 + (X - column - dx) ** 2))
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


def regions(image: NDArray[np.float32], plan: list[_Region]) -> NDArray[np.float32]:
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
        part = part * tiled(part.shape, moved)[..., None] / moved.mean()
        small = cv2.resize(part, (columns, rows), interpolation=cv2.INTER_AREA)
        large = np.repeat(np.repeat(small, TILE, 0), TILE, 1)
        y, x = TILE - top, TILE - left
        out += large[y : y + height, x : x + width] * tiled(out.shape, mask)[..., None]
    return np.asarray(out, np.float32)


# Panes of glass: two uneven cells in a tile. Facets: triangles, 16 wide and 8 high.
_PANES, LEAD = _voronoi(((4.0, 4.5), (12.0, 11.0)))
GLASS = _plan(_PANES)


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


_FACETS, FACING = _triangles()
POLY = _plan(_FACETS)

# ---------------------------------------------------------------- colours

STOPS: dict[str, tuple[tuple[int, int, int], ...]] = {
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
COLOURS = tuple(STOPS)


def ramp_of(stops: NDArray[np.floating]) -> NDArray[np.float32]:
    """256 x 3 table through evenly spaced stops."""
    at = np.linspace(0, 1, len(stops))
    grid = np.linspace(0, 1, 256)
    return np.stack([np.interp(grid, at, stops[:, c]) for c in range(3)], 1).astype(np.float32)


def stops_of(colours: tuple[str, ...]) -> NDArray[np.float32]:
    """Four stops, dark to light; of two colours the first takes the shadows."""
    first = np.array(STOPS[colours[0]], np.float32) / 255
    if len(colours) == 1:
        return np.asarray(first, np.float32)
    second = np.array(STOPS[colours[1]], np.float32) / 255
    return np.stack(
        [first[0], first[1] * 0.5 + first[2] * 0.5, second[2], second[2] * 0.45 + second[3] * 0.55]
    )


def lookup(tone: NDArray[np.floating], table: NDArray[np.float32]) -> Picture:
    position = np.clip(tone, 0, 1) * 255
    low = np.floor(position).astype(np.int32)
    high = np.minimum(low + 1, 255)
    part = (position - low)[..., None]
    return np.asarray(table[low] * (1 - part) + table[high] * part, np.float32)


def in_colours(tone: NDArray[np.floating], colours: tuple[str, ...]) -> Picture:
    return lookup(tone, ramp_of(stops_of(colours)))


def tinted(picture: Picture, colours: tuple[str, ...]) -> Picture:
    """A full-colour picture in the asked palette; a trace of its own colours remains."""
    if not colours:
        return picture
    grey = luminance(picture)
    return clipped(in_colours(grey, colours) + (picture - grey[..., None]) * 0.1)


def drawn(
    tone: NDArray[np.floating], colours: tuple[str, ...], ink: Picture, paper: Picture
) -> Picture:
    """Lines on paper: tone 0 is ink, 1 is paper; both take the asked colour."""
    if colours:
        first = np.array(STOPS[colours[0]], np.float32) / 255
        last = np.array(STOPS[colours[-1]], np.float32) / 255
        ink = first[1] * 0.8 if len(colours) == 1 else first[1]
        paper = last[3] * 0.7 + last[2] * 0.3
    return np.asarray(ink + (paper - ink) * np.clip(tone, 0, 1)[..., None], np.float32)
