"""The page about the pocket model lists the words of the training and the figures that are kept."""

import pytest

from training import page
from training.prompts import COLOUR_WORDS, MOOD_WORDS, STYLE_WORDS

AXIS = {
    "right": 19,
    "asked": 20,
    "top1": 0.95,
    "top1_lab": 0.9,
    "error": 0.04,
    "confused": ["a as b (1)"],
}
SUMMARY = dict.fromkeys(
    ("edges", "edges_reference", "ssim", "ssim_reference", "steadiness", "steadiness_reference",
     "steadiness_worst", "grid8", "grid16", "noise", "identity_error", "strength_dip", "synonyms",
     "strangers"), 0.5)  # fmt: skip
KEPT = {
    "date": "2026-11-20",
    "machine": {"processor": "Abacus", "cores": 2, "python": "CPython 3.11"},
    "load": [0.1, 0.2],
    "pocket": {
        "obedience": {"obedience": {"styles": AXIS, "styles joint": AXIS}, "summary": SUMMARY},
        "speed": {
            "rounds": 1,
            "runs": {
                "256 x 256, 1 thread": {
                    "fps": {"torch": 8.0, "OpenVINO f32": 40.0},
                    "ratios": {"OpenVINO f32 / torch": 5.0},
                }
            },
        },
        "start": {"auto": 1.5},
    },
}


def test_the_page_is_of_today() -> None:
    text = page.PAGE.read_text(encoding="utf-8")
    assert page.written(text, page.read_kept()) == text, "run: python -m training.page"


def test_every_word_is_in_the_tables() -> None:
    tables = page.words()
    for known in (STYLE_WORDS, COLOUR_WORDS, MOOD_WORDS):
        for names in known.values():
            assert f"| **{names[0]}** | {', '.join(names[1:])} |" in tables


def test_figures_are_told() -> None:
    text = page.figures(KEPT)
    assert "| styles joint | 19 of 20 (0.95) | 0.75 | 0.90 | 0.040 | a as b (1) |" in text
    assert "| OpenVINO f32 | 40.0 | 5.0 |" in text
    assert "Abacus" in text
    assert "auto 1.5 s" in text
    assert page.figures({}) == page.NO_FIGURES


def test_a_page_without_markers_is_refused() -> None:
    with pytest.raises(ValueError, match="expected the markers of words"):
        page.written("no markers here", {})
