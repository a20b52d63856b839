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

import numpy as np
from numpy.typing import NDArray

from training.brushes import (
    BEN_DAY,
    DOWN,
    FACING,
    GLASS,
    GRID,
    LEAD,
    OFFSET,
    POLY,
    SCREEN,
    STOPS,
    TILE,
    UP,
    Plane,
    X,
    Y,
    along,
    blurred,
    cells,
    clipped,
    clouds_of,
    contrast,
    dot_field,
    drawn,
    drawn_lines,
    edges,
    expose,
    fine_grain,
    flow_of,
    in_colours,
    kuwahara,
    lookup,
    luminance,
    per_cell,
    ramp_of,
    regions,
    rgb,
    saturate,
    shifted,
    smooth_step,
    smoothed,
    soft_stairs,
    stops_of,
    structure,
    taken_at,
    tiled,
    tinted,
    wave_of,
)
from training.brushes import COLOURS as COLOURS
from training.brushes import Picture as Picture


@dataclass(frozen=True)
class Look:
    """What a prompt asks for: one style, up to two colours, any moods."""

    style: str = "photo"
    colours: tuple[str, ...] = ()
    moods: tuple[str, ...] = ()


# ---------------------------------------------------------------- styles

Style = Callable[[Picture, NDArray[np.float32], tuple[str, ...]], Picture]


def _photo(picture: Picture, grain: NDArray[np.float32], colours: tuple[str, ...]) -> Picture:
    sharp = picture + (picture - blurred(picture, 1.5)) * 0.1
    return tinted(saturate(clipped(sharp), 1.15), colours)


def _pencil(picture: Picture, grain: NDArray[np.float32], colours: tuple[str, ...]) -> Picture:
    grey = luminance(picture)
    soft = blurred(grey, 1.6)
    line = drawn_lines(grey, 1.3, 0.006, 0.07)
    wobble = 0.12 * clouds_of(grain[..., 1], 1.5)
    near = wave_of(tiled(grey.shape, DOWN) + wobble)
    cross = wave_of(tiled(grey.shape, UP) - wobble)
    first = smooth_step(0.72 - soft, 0, 0.45) * smooth_step(near, 0.35, 0.8)
    second = smooth_step(0.42 - soft, 0, 0.34) * smooth_step(cross, 0.3, 0.75)
    smudge = 0.24 * (1 - soft)
    tooth = 1 + 0.12 * fine_grain(grain[..., 0])
    lead = 1 - (1 - 0.78 * line) * (1 - 0.5 * first * tooth) * (1 - 0.58 * second * tooth)
    return drawn(1 - lead - smudge, colours, rgb(44, 46, 54), rgb(252, 251, 248))


def _charcoal(picture: Picture, grain: NDArray[np.float32], colours: tuple[str, ...]) -> Picture:
    grey = luminance(picture)
    flow = flow_of(grey, grain, 4.0, 0.35)
    smear = along(blurred(grey, 1.2), flow, 4.0, 5)
    tooth = fine_grain(grain[..., 0]) * 0.5 + 0.8 * along(fine_grain(grain[..., 1]), flow, 5.0, 6)
    ground = smear + 0.11 * tooth
    coal = smooth_step(0.58 - ground, 0.0, 0.46) * 0.96
    coal = 1 - (1 - coal) * (1 - 0.75 * drawn_lines(grey, 2.0, 0.012, 0.09))
    chalk = smooth_step(smear + 0.06 * tooth, 0.64, 1.0) * 0.88
    paper, black, white = rgb(174, 159, 137), rgb(20, 17, 17), rgb(250, 246, 238)
    if colours:
        stops = stops_of(colours)
        paper, black, white = stops[2] * 0.7 + stops[1] * 0.3, stops[0], stops[3]
    out = paper * (1 - coal[..., None]) + black * coal[..., None]
    return clipped(out * (1 - chalk[..., None]) + white * chalk[..., None])


def _ink(picture: Picture, grain: NDArray[np.float32], colours: tuple[str, ...]) -> Picture:
    grey = luminance(smoothed(picture, 1))
    wet = 0.035 * clouds_of(grain[..., 0], 1.6)
    soft = blurred(grey, 1.6) + wet
    wash = 0.30 * smooth_step(0.60 - soft, 0, 0.22) + 0.66 * smooth_step(0.34 - soft, 0, 0.2)
    line = drawn_lines(grey, 1.8, 0.012, 0.088)
    tone = (1 - line) * (1 - np.clip(wash, 0, 1))
    return drawn(tone, colours, rgb(8, 8, 14), rgb(254, 253, 250))


def _watercolor(picture: Picture, grain: NDArray[np.float32], colours: tuple[str, ...]) -> Picture:
    bleed = 1.3 * clouds_of(grain[..., 1], 1.4), 1.3 * clouds_of(grain[..., 2], 1.4)
    flat = taken_at(kuwahara(kuwahara(picture, 3), 5), *bleed)
    stairs = soft_stairs(luminance(flat), 4, 0.7)
    flat = clipped(flat + 0.7 * (stairs - luminance(flat))[..., None])
    wash = tinted(clipped(flat * 0.74 + 0.26), colours) if colours else saturate(flat, 2.1)
    grey = luminance(wash)
    rim = np.clip(edges(flat, 1.2) - 0.08, 0, 0.8)
    damp = 0.35 + 0.65 * smooth_step(grey, 0.0, 0.5)
    pool = 1 + damp * (0.24 * clouds_of(grain[..., 0], 2.2) + 0.10 * fine_grain(grain[..., 0]))
    pigment = (1 - wash) * 0.62 * pool[..., None]
    pigment = pigment + (0.34 * rim * (1 - 0.5 * grey))[..., None] * (1.15 - wash)
    white = smooth_step(grey + 0.10 * clouds_of(grain[..., 1], 2.2), 0.7, 0.98)
    pigment = pigment * (1 - 0.75 * white[..., None])
    brush = 0.4 * drawn_lines(luminance(picture), 1.2, 0.02, 0.09)
    pigment = pigment + brush[..., None] * (1.1 - 0.6 * wash)
    return clipped(rgb(255, 253, 248) - np.maximum(pigment, 0))


def _oil(picture: Picture, grain: NDArray[np.float32], colours: tuple[str, ...]) -> Picture:
    flow = flow_of(luminance(picture), grain, 5.5, 0.3)
    bristle = along(fine_grain(grain[..., 0]), flow, 6.0, 6) * 1.9
    push = clouds_of(grain[..., 1], 0.8) * 0.9
    paint = taken_at(kuwahara(picture, 3), push, -push)
    paint = along(paint, flow, 3.0, 5) + 0.6 * (blurred(picture, 0.8) - blurred(picture, 2.5))
    paint = contrast(saturate(clipped(paint), 1.75), 1.2)
    if colours:
        paint = tinted(paint, colours)
    else:
        # Umber in the shadows, a honey varnish over the lights.
        grey = luminance(paint)[..., None]
        paint = paint * rgb(255, 232, 184) + rgb(40, 18, 4) * (1 - grey) ** 2
    relief = bristle - shifted(bristle, 1, 1)
    shade = np.clip(0.10 * bristle + 0.10 * relief, -0.3, 0.3)[..., None]
    return clipped(paint * (1 + shade) + 0.04 * shade)


def _impasto(picture: Picture, grain: NDArray[np.float32], colours: tuple[str, ...]) -> Picture:
    flow = flow_of(luminance(picture), grain, 5.0, 0.6)
    ridge = along(clouds_of(grain[..., 0], 0.75), flow, 9.0, 8) * 1.7
    push = ridge * 1.2
    paint = along(kuwahara(picture, 5), flow, 4.0, 5)
    paint = taken_at(paint, push, -push)
    paint = clipped(paint + 0.5 * (blurred(picture, 1.0) - blurred(picture, 3.0)))
    paint = contrast(saturate(paint, 2.0), 1.15)
    tone = luminance(paint) + 0.15 * ridge
    if colours:
        paint = clipped(tinted(paint, colours) * (1 + 0.22 * ridge[..., None]))
    else:
        # Ultramarine shadows, chrome yellow lights, streaked by the brush.
        cool = smooth_step(0.5 - tone, -0.05, 0.45)[..., None] * 0.62
        warm = smooth_step(tone, 0.5, 0.95)[..., None] * 0.5
        paint = paint * (1 - cool) + (rgb(14, 40, 150) * (0.45 + tone[..., None])) * cool
        paint = paint * (1 - warm) + rgb(255, 214, 62) * (0.35 + 0.65 * tone[..., None]) * warm
    lit = (ridge - shifted(ridge, 2, 2))[..., None]
    return clipped(paint * (1 + np.clip(0.34 * lit, -0.5, 0.5)) + np.clip(0.12 * lit, 0, 0.25))


def _pointillism(picture: Picture, grain: NDArray[np.float32], colours: tuple[str, ...]) -> Picture:
    noise = per_cell(grain)
    out = np.empty_like(picture)
    out[:] = np.array(STOPS[colours[-1]][3], np.float32) / 255 if colours else rgb(250, 240, 214)
    rich = saturate(picture, 1.9)
    for table, offset in ((OFFSET, 4), (GRID, 0)):
        dots = cells(rich, 8, offset, offset)
        hue = cells(noise, 8, offset, offset) * 2
        if colours:
            dots = in_colours(luminance(dots) + 0.13 * hue[..., 0], colours)
        else:
            hue = hue - 0.7 * luminance(hue)[..., None]
            dots = clipped(contrast(dots, 1.15) + (0.07 + 0.07 * luminance(dots)[..., None]) * hue)
        radius = 3.9 - 1.3 * luminance(dots)
        mask = 1 - smooth_step(tiled(radius.shape, table) - radius, -0.7, 0.7)
        out += (dots - out) * mask[..., None]
    return out


def _comic(picture: Picture, grain: NDArray[np.float32], colours: tuple[str, ...]) -> Picture:
    flat = kuwahara(smoothed(picture, 1, 0.15), 5)
    grey = luminance(flat)
    stairs = soft_stairs(np.clip(grey * 1.05 + 0.06, 0, 1), 3, 0.5)
    flat = saturate(clipped(flat + 0.75 * (stairs - grey)[..., None]), 2.6)
    if colours:
        flat = tinted(flat, colours)
    dots = 1 - smooth_step(tiled(grey.shape, BEN_DAY), 1.2, 2.2)
    shadow = (smooth_step(0.55 - grey, 0, 0.16) - 0.6 * smooth_step(0.3 - grey, 0, 0.16)) * dots
    shade = np.array([0.75, 0.75, 0.35], np.float32) if not colours else np.float32(0.6)
    flat = flat * (1 - shadow[..., None] * shade)
    line = drawn_lines(luminance(picture), 1.6, 0.024, 0.08)
    return clipped(flat * (1 - line)[..., None] + rgb(10, 6, 22) * line[..., None])


def _halftone(picture: Picture, grain: NDArray[np.float32], colours: tuple[str, ...]) -> Picture:
    grey = blurred(luminance(picture), 1.2)
    tone = np.clip((grey - 0.5) * 1.3 + 0.52, 0, 1)
    dots = smooth_step(tone - (1 - tiled(grey.shape, SCREEN)), -0.1, 0.1)
    return drawn(dots, colours, rgb(16, 26, 96), rgb(255, 240, 206))


def _pixel(picture: Picture, grain: NDArray[np.float32], colours: tuple[str, ...]) -> Picture:
    blocks = cells(picture, 8)
    if colours:
        blocks = in_colours(soft_stairs(luminance(blocks), 5, 0.5), colours)
    else:
        blocks = soft_stairs(contrast(saturate(blocks, 2.3), 1.2), 4, 0.5)
    edge = np.where((X % 8 > 7) | (Y % 8 > 7), 0.72, 1.0)
    edge = np.where((X % 8 < 1) | (Y % 8 < 1), edge * 1.12, edge)
    return clipped(blocks * tiled(picture.shape, edge)[..., None])


_BRICK = (np.floor(Y / 8) % 2).astype(np.float32)
_BX = (X + 4 * _BRICK) % 8
_BEVEL = np.where((_BX > 6.7) | (Y % 8 > 6.7), 0.0, 1.0).astype(np.float32)
_FACE = (1.0 + 0.045 * (8 - _BX - Y % 8)).astype(np.float32)


def _mosaic(picture: Picture, grain: NDArray[np.float32], colours: tuple[str, ...]) -> Picture:
    both = np.dstack([saturate(picture, 2.0), per_cell(grain)])
    odd = tiled(both.shape, _BRICK)[..., None]
    both = cells(both, 8) * (1 - odd) + cells(both, 8, 0, 4) * odd
    jitter = both[..., 3:] * 2
    tiles = clipped(contrast(both[..., :3], 1.15) + 0.05 * jitter[..., :1])
    tiles = tinted(tiles, colours) if colours else clipped(tiles + 0.035 * jitter)
    stone = tiles * tiled(odd.shape, _FACE)[..., None]
    body = tiled(odd.shape, _BEVEL)[..., None]
    grout = rgb(112, 100, 88)
    if colours:
        grout = np.asarray(stops_of(colours)[1] * 0.5 + stops_of(colours)[0] * 0.5, np.float32)
    return clipped(stone * body + grout * (1 - body))


def _glass(picture: Picture, grain: NDArray[np.float32], colours: tuple[str, ...]) -> Picture:
    both = np.dstack([blurred(picture, 1.0), per_cell(grain[..., 0])])
    panes = regions(both, GLASS)
    lead = tiled(picture.shape, LEAD)
    warp = 2.3 * clouds_of(grain[..., 1], 2.0), 2.3 * clouds_of(grain[..., 2], 2.0)
    panes, lead = taken_at(panes, *warp), taken_at(lead, *warp)
    jewel = clipped(0.7 * panes[..., :3] + 0.4 * kuwahara(picture, 5) + 0.08 * panes[..., 3:4])
    jewel = contrast(jewel, 1.15)
    jewel = tinted(jewel, colours) if colours else saturate(jewel, 2.9)
    glow = 0.8 + 0.5 * smooth_step(lead, 0.4, 5.0)
    glow = glow * (1 + 0.10 * clouds_of(grain[..., 0], 1.2))
    solid = smooth_step(lead, 0.2, 1.0)
    contour = 1 - 0.9 * drawn_lines(luminance(picture), 1.9, 0.03, 0.085)
    dark = rgb(10, 9, 14)
    pane = jewel * glow[..., None]
    return clipped(dark + (pane - dark) * (solid * contour)[..., None])


def _neon(picture: Picture, grain: NDArray[np.float32], colours: tuple[str, ...]) -> Picture:
    edge = edges(picture, 1.7)
    line = smooth_step(edge, 0.18, 0.75)
    pair = (colours or ("teal", "pink"))[:2]
    first, second = (np.array(STOPS[name], np.float32)[2] / 255 for name in (pair[0], pair[-1]))
    base = np.array(STOPS[pair[0]], np.float32)[1] / 255 if colours else rgb(70, 16, 130)
    if not colours:
        first, second = rgb(0, 220, 255), rgb(255, 20, 170)
    cosine, _ = structure(luminance(picture), 3.0)
    share = smooth_step(cosine, -0.6, 0.6)[..., None]
    tube = line[..., None] * (first * share + second * (1 - share))
    glow = blurred(tube, 3.0) * 0.7 + blurred(tube, 8.0) * 0.75
    core = (smooth_step(edge, 0.7, 1.6) * 0.35)[..., None]
    scene = base * (0.10 + 0.34 * blurred(luminance(picture), 1.5)[..., None])
    return clipped(scene + tube * 0.85 + glow + core)


_PLAN_GRID = np.where((X < 1) | (Y < 1), 1.0, 0.0).astype(np.float32)
_FINE_GRID = np.where((X % 8 < 1) | (Y % 8 < 1), 1.0, 0.0).astype(np.float32)


def _blueprint(picture: Picture, grain: NDArray[np.float32], colours: tuple[str, ...]) -> Picture:
    edge = edges(smoothed(picture, 1), 1.7)
    line = smooth_step(edge, 0.08, 0.95)
    grey = blurred(luminance(picture), 1.5)
    hatch = (
        smooth_step(wave_of(tiled(grey.shape, UP)), 0.6, 0.95)
        * smooth_step(0.42 - grey, 0, 0.3)
        * 0.22
    )
    grid = 0.20 * tiled(grey.shape, _PLAN_GRID) + 0.07 * tiled(grey.shape, _FINE_GRID)
    paper, ink = rgb(8, 44, 140), rgb(222, 236, 255)
    if colours:
        paper = np.array(STOPS[colours[0]], np.float32)[1] / 255 * 0.85
        ink = np.array(STOPS[colours[-1]], np.float32)[3] / 255
    tone = np.clip(line * 0.95 + (1 - line) * (hatch + grid) + 0.04 * grey, 0, 1)[..., None]
    fibre = 1 + 0.10 * clouds_of(grain[..., 0], 2.5)[..., None]
    return clipped(paper * fibre * (1 - tone) + ink * tone)


def _woodcut(picture: Picture, grain: NDArray[np.float32], colours: tuple[str, ...]) -> Picture:
    grey = blurred(luminance(picture), 1.3)
    tone = np.clip((grey - 0.5) * 1.2 + 0.47, 0, 1)
    cosine, sine = structure(luminance(picture), 5.0)
    bend = 0.16 * clouds_of(grain[..., 0], 2.0) + 0.5 * blurred(grey, 5.0)
    level = wave_of(tiled(grey.shape, Y / 8) + bend)
    upright = wave_of(tiled(grey.shape, X / 8) + bend)
    down = wave_of(tiled(grey.shape, UP) + bend)
    up = wave_of(tiled(grey.shape, DOWN) + bend)
    # Gouges follow the form: level, upright or slanting, whichever is nearest.
    weights = [np.exp(3.0 * v) for v in (cosine + 0.35, -cosine, sine, -sine)]
    total = weights[0] + weights[1] + weights[2] + weights[3]
    parts = zip(weights, (level, upright, down, up), strict=True)
    gouge = sum((weight * wave for weight, wave in parts), np.zeros_like(grey)) / total
    cut = smooth_step(tone - (0.12 + 0.76 * (1 - gouge)), -0.13, 0.13)
    cut = cut * (1 - 0.8 * drawn_lines(grey, 1.6, 0.02, 0.08))
    return drawn(cut, colours, rgb(18, 10, 10), rgb(232, 200, 150))


def _engraving(picture: Picture, grain: NDArray[np.float32], colours: tuple[str, ...]) -> Picture:
    grey = luminance(picture)
    soft = blurred(grey, 1.1)
    bend = 0.9 * blurred(grey, 4.0)
    near = wave_of(tiled(grey.shape, (X + 2 * Y) / 8) + bend)
    cross = wave_of(tiled(grey.shape, (2 * X - Y) / 8) + bend)
    tone = np.clip(soft * 1.05 + 0.02, 0, 1)
    first = smooth_step(0.25 + 0.75 * tone - near, -0.14, 0.3)
    second = smooth_step(0.5 + 0.9 * tone - cross, -0.14, 0.3)
    line = drawn_lines(grey, 1.2, 0.012, 0.08)
    lines = (0.2 + 0.8 * first) * (0.25 + 0.75 * second) * (1 - 0.7 * line)
    return drawn(lines, colours, rgb(74, 34, 10), rgb(246, 228, 186))


_HEAT = ramp_of(
    np.array(
        [(4, 2, 40), (70, 0, 150), (210, 20, 130), (255, 110, 20), (255, 220, 40), (255, 255, 235)],
        np.float32,
    )
    / 255
)


def _thermal(picture: Picture, grain: NDArray[np.float32], colours: tuple[str, ...]) -> Picture:
    grey = blurred(luminance(picture), 3.0)
    if colours:
        return in_colours(contrast(grey, 1.15), colours)
    return lookup(grey, _HEAT)


def _poly(picture: Picture, grain: NDArray[np.float32], colours: tuple[str, ...]) -> Picture:
    both = np.dstack([saturate(picture, 1.5), per_cell(grain[..., 0])])
    facet = regions(both, POLY)
    facing = tiled(picture.shape, FACING)
    warp = 1.8 * clouds_of(grain[..., 1], 2.0), 1.8 * clouds_of(grain[..., 2], 2.0)
    facet, facing = taken_at(facet, *warp), taken_at(facing, *warp)
    shade = 1 + 0.10 * facing + 0.16 * facet[..., 3]
    out = contrast(facet[..., :3], 1.2) * shade[..., None]
    return tinted(clipped(out), colours)


_BANDS = ((0, 6, 0), (6, 9, 9), (9, 13, -3), (13, 16, -10))


def _glitch(picture: Picture, grain: NDArray[np.float32], colours: tuple[str, ...]) -> Picture:
    out = contrast(saturate(picture, 1.9), 1.15)
    table = np.zeros((TILE, 1), np.float32)
    for first, last, shift in _BANDS:
        table[first:last] = shift
    gate = 0.15 + 0.85 * smooth_step(clouds_of(grain[..., 0], 4.0), -0.2, 1.0)
    jump = tiled(picture.shape, table) * gate
    still = np.zeros_like(jump)
    planes = [
        taken_at(np.ascontiguousarray(out[..., c]), jump + (6 - 6 * c), still) for c in range(3)
    ]
    out = np.stack(planes, 2)
    scan = tiled(picture.shape, np.where(Y % 4 < 2, 1.12, 0.68))[..., None]
    if colours:
        return clipped(tinted(clipped(out), colours) * scan)
    grey = luminance(out)[..., None]
    phosphor = rgb(60, 0, 110) * (1 - grey) + rgb(150, 255, 235) * grey
    return clipped((out * 0.8 + phosphor * 0.3) * scan)


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
_STAR = np.exp(
    -(dot_field(tuple((y, x) for y in (2, 6, 10, 14) for x in (2, 6, 10, 14))) ** 2) / 1.6
)


def _specks(grain: Plane, above: float) -> Plane:
    """A small star in every cell whose grain is rare."""
    mask = per_cell(smooth_step(grain, above, above + 0.7))
    return np.asarray(mask * tiled(mask.shape, _STAR), np.float32)


def _graded(
    picture: Picture, stops: NDArray[np.float32], amount: float, colours: tuple[str, ...]
) -> Picture:
    """Mixes in a palette over the luminance; colours that were asked for stay in charge."""
    if colours:
        amount = amount * 0.3
    painted = lookup(luminance(picture), ramp_of(stops / 255))
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
        deep = (1 - smooth_step(luminance(picture), 0.0, 0.45))[..., None]
        dark = saturate(picture, 1.35) ** 1.2 * 0.74 + 0.8 * deep * rgb(8, 22, 78)
    else:
        dark = _graded(picture, _NIGHT, 0.85, colours) * 0.8
    return clipped(dark + _specks(grain[..., 2], 2.0)[..., None] * rgb(255, 250, 225))


def _galaxy(picture: Picture, grain: NDArray[np.float32], colours: tuple[str, ...]) -> Picture:
    dark = _graded(picture, _GALAXY, 0.8, colours) * 0.8
    veil = (0.5 if colours else 1.0) * 0.26
    gas = smooth_step(clouds_of(grain[..., 1], 3.0), -0.3, 2.0)[..., None] * rgb(255, 40, 190)
    gas = gas + smooth_step(clouds_of(grain[..., 0], 3.0), 0.0, 2.0)[..., None] * rgb(20, 120, 255)
    return clipped(dark + gas * veil * 2 + _specks(grain[..., 2], 1.7)[..., None])


def _winter(picture: Picture, grain: NDArray[np.float32], colours: tuple[str, ...]) -> Picture:
    cold = _graded(picture, _WINTER, 0.82, colours)
    if colours:
        cold = cold * 0.78 + 0.22 * rgb(226, 240, 255)
    return clipped(cold + _specks(grain[..., 1], 1.4)[..., None] * 0.9)


def _sunrise(picture: Picture, grain: NDArray[np.float32], colours: tuple[str, ...]) -> Picture:
    warm = _graded(picture, _SUNRISE, 0.85, colours)
    light = blurred(luminance(picture), 8.0)[..., None]
    return clipped(warm + (0.3 if colours else 0.16) * light * rgb(255, 150, 70))


def _autumn(picture: Picture, grain: NDArray[np.float32], colours: tuple[str, ...]) -> Picture:
    leaves = smooth_step(clouds_of(grain[..., 1], 2.0), -1.0, 1.0)[..., None]
    spread = (rgb(250, 40, 20) * leaves + rgb(190, 190, 40) * (1 - leaves)) - rgb(220, 115, 30)
    out = _graded(picture, _AUTUMN, 0.8, colours)
    return clipped(out + spread * (0.4 if colours else 0.5) * luminance(picture)[..., None])


def _underwater(picture: Picture, grain: NDArray[np.float32], colours: tuple[str, ...]) -> Picture:
    deep = _graded(blurred(picture, 0.8), _UNDERWATER, 0.82, colours)
    caustic = 1 - np.abs(clouds_of(grain[..., 1], 2.0))
    return clipped(deep * (0.82 + 0.32 * smooth_step(caustic, 0.2, 1.0))[..., None])


def _fire(picture: Picture, grain: NDArray[np.float32], colours: tuple[str, ...]) -> Picture:
    lick = 0.07 * clouds_of(grain[..., 1], 1.5)
    hot = clipped(picture + lick[..., None])
    hot = _graded(contrast(hot, 1.2), _FIRE, 0.95, colours)
    glow = blurred(smooth_step(luminance(picture), 0.5, 1.0), 5.0)[..., None]
    if colours:
        flame = smooth_step(clouds_of(grain[..., 1], 2.0), -0.2, 1.6)[..., None]
        hot = hot * 0.85 + 0.5 * flame * rgb(255, 96, 0)
    return clipped(hot + 0.2 * glow * rgb(255, 90, 0))


def _pastel(picture: Picture, grain: NDArray[np.float32], colours: tuple[str, ...]) -> Picture:
    out = _graded(picture, _PASTEL, 0.7, colours)
    if colours:
        return clipped(saturate(out, 1.7) * 0.58 + 0.40)
    grey = luminance(picture)[..., None]
    return clipped(out + (picture - grey) * 0.35 + 0.02)


def _faded(picture: Picture, grain: NDArray[np.float32], colours: tuple[str, ...]) -> Picture:
    if colours:
        return clipped(saturate(picture, 0.75) * 0.56 + rgb(68, 60, 54))
    return clipped(_graded(picture, _FADED, 0.78, colours))


def _vivid(picture: Picture, grain: NDArray[np.float32], colours: tuple[str, ...]) -> Picture:
    return contrast(saturate(picture, 2.4), 1.2)


def _dark(picture: Picture, grain: NDArray[np.float32], colours: tuple[str, ...]) -> Picture:
    if colours:
        return clipped(saturate(picture, 1.25) ** 1.3 * 0.62)
    return clipped(saturate(picture, 0.7) ** 1.7 * 0.62)


def _light(picture: Picture, grain: NDArray[np.float32], colours: tuple[str, ...]) -> Picture:
    bloom = blurred(picture, 6.0)
    return clipped(1 - (1 - picture * 0.9) * (1 - bloom * 0.62) * 0.82)


def _foggy(picture: Picture, grain: NDArray[np.float32], colours: tuple[str, ...]) -> Picture:
    fog = np.clip(0.62 + 0.13 * clouds_of(grain[..., 1], 3.5), 0.3, 0.85)[..., None]
    soft = blurred(saturate(picture, 0.8 if colours else 0.45), 1.4)
    veil = rgb(176, 186, 196)
    if colours:
        fog = fog * 0.8
        veil = np.asarray(0.6 * veil + 0.4 * stops_of(colours)[3], np.float32)
    return clipped(soft * (1 - fog) + veil * fog)


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
    out = _STYLES[look.style](expose(picture), grain, look.colours)
    for mood in look.moods:
        out = _MOODS[mood](clipped(out), grain, look.colours)
    return clipped(out)


def abstract(picture: Picture, amount: float, grain: NDArray[np.float32]) -> Picture:
    """The picture reduced to large shapes: untouched at 0, style over content at 1.

    The way there is straight, so more is always further from the picture.
    """
    if amount <= 0:
        return picture
    shapes = kuwahara(kuwahara(smoothed(blurred(picture, 1.0), 1, 0.2), 7), 9)
    shapes = blurred(contrast(saturate(shapes, 1.4), 1.2), 1.0)
    clouds = np.dstack([clouds_of(grain[..., c], 4.0) for c in range(3)])
    shapes = clipped(shapes + 0.055 * clouds)
    return clipped(picture + (shapes - picture) * min(float(amount), 1.0))


def plasma(grain: NDArray[np.float32]) -> Picture:
    """A picture from nothing but the grain, for prompts without a camera."""
    planes = [
        0.5 + 0.2 * clouds_of(grain[..., c], 3.0) + 0.07 * clouds_of(grain[..., c], 1.2)
        for c in range(3)
    ]
    return clipped(np.stack(planes, 2))
