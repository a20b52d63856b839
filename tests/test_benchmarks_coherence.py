"""The benchmark of flicker runs, tells still from restless, and its table is in the docs."""

import json
from itertools import pairwise
from typing import Any

import numpy as np
import pytest

from benchmarks import __main__ as program
from benchmarks import coherence
from tests.engines.pictures import moving_frames, noise_frame


def silent(_: str) -> None:
    """Progress that nobody wants to read."""


def test_a_small_run_has_all_figures() -> None:
    settings = {"plain": {}, "smoothing": {"smoothing": 0.9, "follow_motion": "flow"}}
    found = coherence.measure(
        styles=["oil painting"], settings=settings, side=64, frames=10, say=silent
    )
    json.dumps(found)
    plain, smooth = found["settings"].values()
    assert plain["sharpness"] == 1.0
    assert smooth["change"] < plain["change"]
    assert smooth["sharpness"] < 1.0
    text = coherence.table(found)
    assert len(text.splitlines()) == 5
    assert f"{plain['flicker']:.2f}" in text


def test_what_moves_with_the_input_does_not_flicker_and_what_boils_does() -> None:
    clip = moving_frames(9)
    steps = [coherence._step(a, b) for a, b in pairwise(clip)]
    boiling = [np.asarray(frame // 2 + noise_frame(at) // 2) for at, frame in enumerate(clip)]
    inverted = [np.asarray(255 - frame) for frame in clip]
    own = coherence._flicker(clip, steps)
    assert coherence._flicker(inverted, steps) == pytest.approx(own, abs=0.5)
    assert own < 0.3 * coherence._change(clip)
    assert coherence._flicker(boiling, steps) > 5 * own


def test_it_is_a_command_of_its_own(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Any
) -> None:
    row = {"flicker": 2.0, "change": 0.5, "sharpness": 1.0, "ms": 3.0}
    figures = {"input": {"flicker": 1.0, "change": 3.0}, "settings": {"plain": row}}
    monkeypatch.setattr(coherence, "measure", lambda **_: figures)
    assert program.main(["coherence", "--json", str(tmp_path / "kept.json")]) == 0
    assert "| plain | 2.00 | 1.00 | 0.50 | 1.00 |  |" in capsys.readouterr().out
    assert json.loads((tmp_path / "kept.json").read_text())["coherence"] == figures


def test_the_page_has_the_figures_that_were_kept() -> None:
    page = coherence.PAGE.read_text(encoding="utf-8")
    kept = json.loads(coherence.KEPT.read_text(encoding="utf-8"))
    assert coherence.page(page, kept) == page, "python -m benchmarks.coherence writes it anew"
