"""What is said of figures: marks, comparison, the table, the file, the page."""

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from benchmarks import __main__ as program
from benchmarks import costs, report, suite
from benchmarks.effort import FRAMES, QUICK, Effort, Say
from benchmarks.marks import Mark, Row, at_least, at_most, change, short
from dreamrelay.errors import MissingExtra


def silent(_: str) -> None:
    """Progress that nobody wants to read."""


@pytest.fixture
def kept() -> dict[str, Any]:
    """The run that the docs show."""
    return report.load_figures(report.BASELINE)


@pytest.fixture
def whole(kept: dict[str, Any]) -> dict[str, Any]:
    """The same, though there may be parts that are newer."""
    newer = {part.name: "is new" for part in suite.PARTS if part.name not in kept["parts"]}
    return {**kept, "absent": newer}


@pytest.mark.parametrize(
    ("mark", "value", "verdict"),
    [
        (at_least(0.5, 0.7), 0.7, "stretch"),
        (at_least(0.5, 0.7), 0.69, "pass"),
        (at_least(0.5, 0.7), 0.5, "pass"),
        (at_least(0.5, 0.7), 0.49, "MISSED"),
        (at_most(6, 4), 4, "stretch"),
        (at_most(6, 4), 4.1, "pass"),
        (at_most(6, 4), 6.1, "MISSED"),
        (at_most(6, 4), math.inf, "MISSED"),
        (at_most(6, 4), -1, "stretch"),
        (at_least(1, 1), 1, "stretch"),
        (at_least(1, 1), 0, "MISSED"),
    ],
)
def test_a_verdict(mark: Mark, value: float, verdict: str) -> None:
    assert mark.verdict(value) == verdict
    assert Row("x", value, mark).verdict == verdict
    assert Row("x", value).verdict == ""


@pytest.mark.parametrize("make", [lambda: at_least(0.7, 0.5), lambda: at_most(4, 6)])
def test_stretch_is_the_harder_one(make: Any) -> None:
    with pytest.raises(ValueError, match="harder"):
        make()


def test_change_is_a_part_of_what_was_before() -> None:
    assert change(3.0, 2.0) == pytest.approx(0.5)
    assert change(1.0, 2.0) == pytest.approx(-0.5)
    assert change(1.0, None) is None
    assert change(1.0, 0.0) is None


def test_figures_have_as_many_digits_as_they_are_worth() -> None:
    assert [short(v) for v in (0.1234, 1.234, 12.34, -0.5)] == ["0.123", "1.23", "12", "-0.500"]


# A run --------------------------------------------------------------------------------------------


def part(name: str, measure: Any, **options: Any) -> suite.Part:
    def rows(found: Mapping[str, Any]) -> list[Row]:
        return [Row("figure", found["value"], at_least(1, 2))]

    return suite.Part(name, f"Title of {name}", measure, rows, **options)


def gives(value: float) -> Any:
    return lambda effort, say: {"value": value}


def fails(error: BaseException) -> Any:
    def measure(effort: Effort, say: Say) -> dict[str, Any]:
        raise error

    return measure


def test_parts_run_in_their_order_and_what_cannot_run_says_why() -> None:
    parts = (
        part("first", gives(1)),
        part("second", fails(RuntimeError("the relay\n ended"))),
        part("third", fails(MissingExtra("the viewer", "viewer"))),
        part("fourth", gives(3)),
        part("not asked", gives(4)),
    )
    told: list[str] = []
    figures = suite.run(["fourth", "first", "second", "third"], QUICK, told.append, parts)
    assert list(figures["parts"]) == ["first", "fourth"]
    assert figures["absent"]["second"] == "the relay ended"
    assert "dreamrelay[viewer]" in figures["absent"]["third"]
    assert not figures["interrupted"]
    assert figures["quick"]
    assert len(figures["load"]) == 5
    assert any(line.startswith("[1/4 first") for line in told)
    json.dumps(figures)


def test_ctrl_c_keeps_what_was_measured() -> None:
    parts = (
        part("first", gives(1)),
        part("second", fails(KeyboardInterrupt())),
        part("third", gives(3)),
    )
    figures = suite.run(["first", "second", "third"], Effort(), silent, parts)
    assert figures["interrupted"]
    assert list(figures["parts"]) == ["first"]


def test_what_reads_other_processes_is_linux_only(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(suite, "can_count_cpu", lambda: False)
    figures = suite.run(["a"], QUICK, silent, (part("a", gives(1), needs_proc=True),))
    assert figures["absent"] == {"a": suite.LINUX_ONLY}


def test_a_defect_of_a_part_is_not_hidden() -> None:
    with pytest.raises(KeyError):
        suite.run(["a"], QUICK, silent, (part("a", fails(KeyError("x"))),))


# The table ----------------------------------------------------------------------------------------


def a_run(monkeypatch: pytest.MonkeyPatch, **values: float) -> dict[str, Any]:
    parts = tuple(part(name, gives(value)) for name, value in values.items())
    monkeypatch.setattr(suite, "PARTS", parts)
    return suite.run(list(values), Effort(), silent, parts)


def test_each_figure_stands_beside_its_marks_and_last_time(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    before = a_run(monkeypatch, a=2.0)
    figures = a_run(monkeypatch, a=1.5, b=0.5, c=2.5)
    text = report.table(figures, before)
    lines = [line.split() for line in text.splitlines() if line.startswith("  figure")]
    assert lines == [
        ["figure", "1.50", "1.00", "2.00", "pass", "2.00", "(-25", "%)"],
        ["figure", "0.500", "1.00", "2.00", "MISSED"],
        ["figure", "2.50", "1.00", "2.00", "stretch"],
    ]
    assert "2 of 3 marked figures pass, 1 of them stretch" in text
    assert figures["machine"]["processor"] in text
    assert "another machine" not in text
    cores = figures["machine"]["cores"]
    assert "not quiet" not in report.table({**figures, "load": [0.0, 1.5 * cores]}, before)
    busy = report.table({**figures, "load": [0.0, 3.0 * cores, 1.0]}, before)
    assert f"load 0.0 to {3.0 * cores}" in busy
    assert f"The machine was not quiet: up to {3 * cores} processes" in busy
    assert report.table({**figures, "load": [None, None]}, before)
    before["machine"]["cores"] = 999
    other = report.table(figures, before)
    assert "999 cores" in other
    assert "-25" not in other
    assert report.table(figures, {}).count("MISSED") == 1


def test_only_a_whole_run_is_compared_with(monkeypatch: pytest.MonkeyPatch) -> None:
    figures = a_run(monkeypatch, a=1.5, b=0.5)
    assert report.is_whole(figures)
    lacking: tuple[dict[str, Any], ...] = ({"interrupted": True}, {"quick": True}, {"parts": {}})
    for wrong in lacking:
        assert not report.is_whole({**figures, **wrong})
    parts = {"a": figures["parts"]["a"]}
    assert report.is_whole({**figures, "parts": parts, "absent": {"b": "cannot"}})


def test_the_last_run_goes_before_the_kept_one(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(report, "LAST", tmp_path / "last.json")
    monkeypatch.setattr(report, "BASELINE", tmp_path / "baseline.json")
    assert report.last_run() == {}
    report.keep({"is": "kept"}, report.BASELINE)
    assert report.last_run() == {"is": "kept"}
    report.keep({"is": "last"}, report.LAST)
    assert report.last_run() == {"is": "last"}


# The command --------------------------------------------------------------------------------------


def test_make_bench_measures_all_and_keeps_it(
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    whole: dict[str, Any],
) -> None:
    asked: dict[str, Any] = {}
    figures = whole

    def run(names: list[str], effort: Effort, say: Say) -> dict[str, Any]:
        asked.update(names=names, effort=effort)
        return figures

    monkeypatch.setattr(suite, "run", run)
    monkeypatch.setattr(report, "LAST", tmp_path / "last.json")
    path = tmp_path / "figures.json"
    code = program.main(["--rounds", "3", "--json", str(path)])
    assert code == (1 if figures["absent"] else 0)
    assert asked["names"] == [part.name for part in suite.PARTS]
    assert asked["effort"] == Effort(rounds=3, frames=FRAMES)
    assert json.loads(path.read_text()) == figures == json.loads(report.LAST.read_text())
    assert "verdict" in capsys.readouterr().out

    report.LAST.unlink()
    figures = {**figures, "interrupted": True}
    assert program.main(["all", "--quick"]) == 130
    assert asked["effort"] == QUICK
    assert not report.LAST.exists()


def test_a_part_is_a_word_of_its_own(capsys: pytest.CaptureFixture[str]) -> None:
    assert program.main(["dispatch", "--quick"]) == 0
    text = capsys.readouterr().out
    assert "two workers of 40 ms / one" in text
    assert "| 25, 40 and 120 ms |" in text


@pytest.mark.parametrize("wrong", [["--rounds", "0"], ["--frames", "few"], ["everything"]])
def test_what_is_not_understood_is_said(
    wrong: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as error:
        program.main(wrong)
    assert error.value.code == 2
    assert wrong[-1] in capsys.readouterr().err


# The page -----------------------------------------------------------------------------------------


def test_the_page_says_what_was_kept(kept: dict[str, Any]) -> None:
    text = report.PAGE.read_text(encoding="utf-8")
    assert report.page(text, kept) == text, "python -m benchmarks report writes it anew"


def test_every_kept_figure_is_in_the_page(kept: dict[str, Any]) -> None:
    text = report.PAGE.read_text(encoding="utf-8")
    for of, rows in suite.rows(kept):
        for row in rows:
            assert f"| {row.name} | {short(row.value)} |" in text, of.name


def test_report_keeps_a_run_and_writes_the_page(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, whole: dict[str, Any]
) -> None:
    page = tmp_path / "performance.md"
    regions = ["all", *(p.name for p in suite.PARTS if p.details)]
    marks = [f"<!-- bench: {name} -->\nold\n<!-- end of bench -->" for name in regions]
    page.write_text("# Title\n" + "\n".join(marks) + "\nend\n", encoding="utf-8")
    written: list[bool] = []
    monkeypatch.setattr(costs, "main", lambda: written.append(True))
    monkeypatch.setattr(report, "PAGE", page)
    monkeypatch.setattr(report, "LAST", tmp_path / "last.json")
    monkeypatch.setattr(report, "BASELINE", tmp_path / "baseline.json")
    assert program.main(["report"]) == 1  # there is none
    report.keep({**whole, "quick": True}, report.LAST)
    assert program.main(["report"]) == 1  # none that is whole
    assert "old" in page.read_text(encoding="utf-8")
    report.keep(whole, report.LAST)
    assert program.main(["report"]) == 0
    assert report.load_figures(report.BASELINE) == whole
    text = page.read_text(encoding="utf-8")
    assert "old" not in text
    assert text.startswith("# Title\n")
    assert text.endswith("\nend\n")
    assert written == [True]
    report.LAST.unlink()
    assert program.main(["report"]) == 0  # from what is kept
    assert program.main(["report", "--json", str(report.LAST)]) == 1


def test_a_page_without_its_regions_is_refused(kept: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="expected regions"):
        report.page("<!-- bench: all -->\n<!-- end of bench -->", kept)
