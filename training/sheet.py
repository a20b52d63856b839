"""The poster of the pocket model: pictures it never saw, by prompts, as one JPEG.

Every tile is what the model painted, pixel by pixel: texture does not survive scaling, so the
inputs are made in the size of a tile before they are painted.
"""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from dreamrelay.media.dream import Dream
from training import scenes
from training.measure import SEED, STRENGTH, Paint
from training.pictures import HELD_OUT, Picture, read, square

TILE = 192  # pixels, a multiple of 16
GAP = 6
BAND = 26  # between two groups
MARGIN = 34
COLUMNS = 6
MOST = 640_000  # bytes

GROUND = (13, 13, 16)
BRIGHT = (236, 233, 226)
SOFT = (158, 156, 152)
DIM = (98, 97, 100)
ACCENT = (255, 138, 92)

GROUPS: tuple[tuple[str, tuple[str, ...]], ...] = (
    (
        "drawn",
        (
            "pencil sketch",
            "charcoal",
            "portrait in purple ink",
            "sepia engraving",
            "blueprint",
            "black and white woodcut",
        ),
    ),
    (
        "painted",
        (
            "watercolor",
            "teal watercolor, foggy",
            "oil painting",
            "a red and gold oil painting, at night",
            "van gogh, sunrise",
            "pointillism",
        ),
    ),
    (
        "printed and built",
        (
            "comic book",
            "pink halftone",
            "pixel art",
            "mosaic",
            "teal and gold mosaic",
            "fire, comic",
        ),
    ),
    (
        "lit",
        (
            "neon glow, blue and pink",
            "thermal camera",
            "vaporwave glitch",
            "galaxy",
            "underwater, vivid",
            "winter",
        ),
    ),
)
STRENGTHS = (0.0, 0.2, 0.3, 0.5, 0.75, 1.0)
STRENGTH_PROMPT = "oil painting, gold"
WORDS_ALONE = (
    "rainbow watercolor",
    "blue mosaic",
    "fire, van gogh",
    "galaxy",
    "pixel art, autumn",
    "neon glow",
)


def draw_sheet(paint: Paint, path: Path, *, tile: int = TILE, seed: int = SEED) -> None:
    """Three inputs by all prompts, a row of strengths, a row from words alone; below 640 kB.

    `paint` is given pictures of tile x tile pixels.
    """
    inputs = _inputs(tile)
    page = _Page(tile, inputs)
    for title, prompts in GROUPS:
        page.title(title)
        page.labels(prompts)
        for picture in inputs:
            page.row([paint(picture, prompt, STRENGTH, seed) for prompt in prompts])
    page.title(f"strength, under “{STRENGTH_PROMPT}”")
    page.labels([f"{strength:g}" for strength in STRENGTHS])
    page.row([paint(inputs[0], STRENGTH_PROMPT, strength, seed) for strength in STRENGTHS])
    page.title("from words alone")
    page.labels(WORDS_ALONE)
    page.row(
        [paint(_dream(tile, n), prompt, STRENGTH, seed) for n, prompt in enumerate(WORDS_ALONE)]
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(_jpeg(page.image()))


def _inputs(tile: int) -> list[Picture]:
    astronaut = read(HELD_OUT[0])
    edge = round(astronaut.shape[0] * 0.78)
    left = round(astronaut.shape[1] * 0.07)
    return [
        square(astronaut[:edge, left : left + edge], tile),
        square(read(HELD_OUT[1]), tile),
        scenes.scene(tile),
    ]


def _dream(tile: int, number: int) -> Picture:
    """What a worker paints on while no frame comes in."""
    frame = Dream(tile, tile, number)(20.0 * number)
    return np.asarray(frame, np.float32) / np.float32(255)


class _Page:
    """A dark page that grows downwards, in columns of tiles."""

    def __init__(self, tile: int, inputs: list[Picture]) -> None:
        self._tile = tile
        self._width = 2 * MARGIN + COLUMNS * tile + (COLUMNS - 1) * GAP
        rows = 3 * len(GROUPS) + 3
        height = 2 * MARGIN + rows * (tile + GAP) + (len(GROUPS) + 3) * (BAND + 70)
        self._image = Image.new("RGB", (self._width, height), GROUND)
        self._draw = ImageDraw.Draw(self._image)
        self._top = MARGIN
        self._header(inputs)

    def _header(self, inputs: list[Picture]) -> None:
        for column, picture in enumerate(inputs, COLUMNS - len(inputs)):
            self._paste(picture, column)
        top = self._top
        self._write(MARGIN, top - 4, "the pocket model", 40, BRIGHT)
        lines = (
            "Three pictures that it never saw, and what it makes",
            "of them: one step each, on a processor, every tile",
            "as it was painted. Any words may be combined.",
        )
        for number, line in enumerate(lines):
            self._write(MARGIN, top + 58 + 22 * number, line, 16, SOFT)
        self._draw.line(
            [MARGIN, top + self._tile - 1, MARGIN + 54, top + self._tile - 1], ACCENT, 3
        )
        self._top += self._tile

    def title(self, text: str) -> None:
        """A new group."""
        self._top += BAND
        x = MARGIN
        for letter in text.upper():  # with air between the letters
            x += self._write(x, self._top, letter, 13, ACCENT) + 3
        self._top += 24

    def labels(self, texts: tuple[str, ...] | list[str]) -> None:
        """What stands over each column; long ones take two lines."""
        split = [self._split(text) for text in texts]
        lines = max(len(parts) for parts in split)
        for column, parts in enumerate(split):
            for number, part in enumerate(parts):
                y = self._top + 18 * (lines - len(parts) + number)
                self._write(self._left(column), y, part, 14, BRIGHT)
        self._top += 18 * lines + 6

    def row(self, pictures: list[Picture]) -> None:
        """Tiles side by side."""
        for column, picture in enumerate(pictures):
            self._paste(picture, column)
        self._top += self._tile + GAP

    def image(self) -> Image.Image:
        """The page, cut where it ends."""
        self._top += 12
        note = "Seed 0, strength 0.5. Photographs: NASA; Stefan van der Walt (CC0). Scene: drawn."
        self._write(MARGIN, self._top, note, 12, DIM)
        return self._image.crop((0, 0, self._width, self._top + 14 + MARGIN - 8))

    def _left(self, column: int) -> int:
        return MARGIN + column * (self._tile + GAP)

    def _paste(self, picture: Picture, column: int) -> None:
        pixels = np.asarray(np.round(np.clip(picture, 0, 1) * 255), np.uint8)
        self._image.paste(Image.fromarray(pixels), (self._left(column), self._top))

    def _write(self, x: int, y: int, text: str, size: int, colour: tuple[int, int, int]) -> int:
        """Text with its upper left corner there; its width."""
        font = _font(size)
        self._draw.text((x, y), text, colour, font)
        return round(font.getlength(text))

    def _split(self, text: str) -> list[str]:
        words, lines = text.split(), [""]
        for word in words:
            longer = f"{lines[-1]} {word}".strip()
            if lines[-1] and _font(14).getlength(longer) > self._tile:
                lines.append(word)
            else:
                lines[-1] = longer
        return lines


def _font(size: int) -> ImageFont.FreeTypeFont:
    """The typeface that Pillow itself brings: the same on every system."""
    font = ImageFont.load_default(size)
    assert isinstance(font, ImageFont.FreeTypeFont), "Pillow without FreeType"
    return font


def _jpeg(image: Image.Image) -> bytes:
    """The best quality that is small enough."""
    for quality in range(92, 20, -3):
        buffer = io.BytesIO()
        image.save(buffer, "JPEG", quality=quality, optimize=True, progressive=True)
        if buffer.tell() <= MOST:
            return buffer.getvalue()
    raise ValueError(f"the sheet does not fit into {MOST} bytes: make its tiles smaller")
