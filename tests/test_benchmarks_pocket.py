"""The benchmark of the pocket model runs, and its figures make a table."""

from typing import Any

import pytest

from benchmarks import __main__ as program
from benchmarks import pocket, pocket_report

RACED = {
    "devices": {"torch": "cpu", "OpenVINO f32": "cpu, OpenVINO f32"},
    "absent": {"OpenVINO bf16": "this processor has no bfloat16"},
    "fps": {"torch": 10.0, "OpenVINO f32": 45.0},
    "fps_median": {"torch": 9.0, "OpenVINO f32": 40.0},
    "ratios": {"OpenVINO f32 / torch": 4.5},
}
FIGURES: dict[str, Any] = {
    "speed": {"rounds": 3, "runs": {"256 x 256, 2 threads": RACED}},
    "start": {"auto": 2.5},
}


def silent(_: str) -> None:
    """Progress that nobody wants to read."""


def test_every_contender_takes_its_turn_in_a_process_of_its_own() -> None:
    found = pocket.measure_speed(2, contenders=["auto"], sizes={64: 1}, threads=[1], say=silent)
    [raced] = found["runs"].values()
    assert list(found["runs"]) == ["64 x 64, 1 thread"]
    assert 0 < raced["fps_median"]["auto"] <= raced["fps"]["auto"]
    assert raced["devices"]["auto"].startswith("cpu")
    assert raced["ratios"] == {}


def test_what_cannot_run_says_why() -> None:
    found = pocket.measure_speed(
        1, contenders=["OpenVINO f32"], sizes={64: 1}, threads=[1], model="/nowhere", say=silent
    )
    [raced] = found["runs"].values()
    assert raced["fps"] == {}
    assert "/nowhere" in raced["absent"]["OpenVINO f32"]


def test_figures_make_a_table_with_goals_and_what_was_before() -> None:
    text = pocket_report.table(FIGURES, FIGURES)
    for part in ("256 x 256, 2 threads", "60 fps", "4.50", "no bfloat16", "2.50", "before"):
        assert part in text
    assert pocket_report.table(FIGURES, {})
    assert "45 pictures a second (256 x 256, 2 threads, OpenVINO f32, 4.5 times torch)" in (
        pocket_report.quote(FIGURES)
    )


def test_pocket_is_a_command_of_its_own(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(pocket, "measure_speed", lambda *a, **k: FIGURES["speed"])
    monkeypatch.setattr(pocket, "measure_start", lambda *a, **k: FIGURES["start"])
    monkeypatch.setattr(pocket, "measure_obedience", lambda *a, **k: ({}, "styles: 80 of 80"))
    assert program.main(["pocket", "--rounds", "1"]) == 0
    assert "styles: 80 of 80" in capsys.readouterr().out
    assert program.main(["pocket-speed"]) == 0
    assert "styles" not in capsys.readouterr().out
