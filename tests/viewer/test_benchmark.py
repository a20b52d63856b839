"""The benchmark runs and yields figures that can be true. How good they are is not asked here."""

import json

import pytest

from benchmarks import viewer


def test_the_viewer_is_compared_with_a_bare_painter(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("QT_QPA_PLATFORM", "offscreen")
    figures = viewer.measure(1, pictures=20, say=lambda _: None)
    assert figures["display"] == "offscreen"
    assert 0 < figures["painted"] <= 1
    for times in ("bare", "viewer"):
        assert 0 < figures["milliseconds"][times]["median"] < 10_000
    assert json.loads(json.dumps(figures)) == figures
    assert len(viewer.rows(figures)) >= 6
