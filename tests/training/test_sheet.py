"""The poster of the pocket model is drawn, small enough and with everything on it."""

from pathlib import Path

import cv2
import numpy as np
from PIL import Image

from tests.fakes.painters import read_look
from training import sheet
from training.stylise import Look, Picture

TILE = 48


def test_the_sheet_is_a_jpeg_below_640_kb_with_every_prompt_on_every_input(tmp_path: Path) -> None:
    cv2.setNumThreads(1)
    asked: list[tuple[str, float, int]] = []

    def paint(picture: Picture, prompt: str, strength: float, seed: int, /) -> Picture:
        assert picture.shape == (TILE, TILE, 3)
        asked.append((prompt, strength, seed))
        return np.asarray(1 - picture, np.float32)

    path = tmp_path / "images" / "sheet.jpg"
    sheet.draw_sheet(paint, path, tile=TILE)
    assert path.stat().st_size < 640_000
    with Image.open(path) as image:
        assert image.format == "JPEG"
        assert image.width == 2 * sheet.MARGIN + 6 * TILE + 5 * sheet.GAP
        assert image.height > 15 * TILE
    prompts = [prompt for _, group in sheet.GROUPS for prompt in group]
    assert len(prompts) == 24
    for prompt in prompts:
        assert sum(one == prompt for one, _, _ in asked) >= 3
    assert {strength for _, strength, _ in asked} >= set(sheet.STRENGTHS)


def test_every_prompt_on_it_is_known() -> None:
    prompts = [prompt for _, group in sheet.GROUPS for prompt in group]
    for prompt in (*prompts, *sheet.WORDS_ALONE, sheet.STRENGTH_PROMPT):
        assert read_look(prompt) != Look(), prompt
