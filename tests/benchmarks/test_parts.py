"""Each part of ``make bench`` runs in a small form, and its figures can be true."""

import json
import math
from typing import Any

import pytest

from benchmarks import (
    floor,
    memory,
    packages,
    sharing,
    staleness,
    startup,
    streams,
    suite,
)
from benchmarks.effort import QUICK, Effort
from benchmarks.machine import can_count_cpu
from benchmarks.watchers import quantile

ELSEWHERE = {"relay", "worker", "packages", "staleness", "dispatch"}
"""Run by ``test_benchmarks.py``, by ``test_benchmarks_engines.py``, and below."""


def silent(_: str) -> None:
    """Progress that nobody wants to read."""


@pytest.mark.parametrize(
    "name",
    [
        part.name
        for part in suite.PARTS
        if part.name not in ELSEWHERE and (can_count_cpu() or not part.needs_proc)
    ],
)
def test_a_quick_run_has_figures_for_all_its_lines(name: str) -> None:
    part = suite.part_named(name)
    has_figures_for_all_its_lines(part, part.measure(QUICK, silent))


def has_figures_for_all_its_lines(part: suite.Part, measured: dict[str, Any]) -> None:
    found = json.loads(json.dumps(measured))
    rows = part.rows(found)
    assert rows
    assert len({row.name for row in rows}) == len(rows)
    assert not any(math.isnan(row.value) for row in rows)
    assert all(row.verdict in ("stretch", "pass", "MISSED") for row in rows if row.mark)
    if part.details is not None:
        assert part.details(found).startswith("|")


def test_ages_are_those_of_pictures_that_came() -> None:
    found = staleness.measure(QUICK, silent)
    for name in staleness.CREDITS:
        assert found[name]["pictures"] > 0
        assert 0 < found[name]["p50"] <= found[name]["p95"]
    assert [row.value for row in staleness.rows(found)] == [
        found[name]["p95"] for name in staleness.MARKS
    ]


def test_the_best_round_of_each_case_counts() -> None:
    def of(fps: float, efficiency: float, age: float) -> dict[str, float]:
        return {"fps": fps, "efficiency": efficiency, "age_p95": age}

    found = sharing.report(
        {
            "one of 40 ms": [of(20, 0.8, 1.5), of(25, 1.0, 1.6)],
            "two of 40 ms": [of(48, 0.96, 1.2), of(40, 0.8, 1.4)],
        }
    )
    assert found["speed_up"] == 1.92
    two = {"fps": 48, "fps_mean": 44, "efficiency": 0.96, "age_p95": 1.2}
    assert found["cases"]["two of 40 ms"] == two


def test_a_case_cannot_show_more_than_is_sent_or_made() -> None:
    assert sharing.CASES["25 and 120 ms, 30 fps"].ceiling == 30
    ample = sharing.CASES["25 and 120 ms, ample"]
    assert ample.ceiling == pytest.approx(48.33, abs=0.01)
    assert ample.rate == pytest.approx(2 * ample.ceiling)


def test_the_floor_is_made_of_the_peak_in_the_engine_s_own_precision() -> None:
    raced: dict[str, Any] = {
        "devices": {"auto": "cpu, OpenVINO bf16", "torch": "cpu", "peak": "OpenVINO bf16"},
        "fps": {"auto": 50.0, "torch": 12.5, "peak": 100.0},
        "absent": {},
    }
    found = floor.report(raced, flops=4e9, operations={"peak": 5e9})
    assert found["peak_gflops"] == {"peak": 500.0}
    assert found["ratios"] == {"floor": 0.4, "torch": 4.0}
    assert set(found["fps"]) == {"auto", "torch"}
    raced["devices"]["peak"] = "OpenVINO f32"
    assert floor.report(raced, flops=4e9, operations={"peak": 5e9})["ratios"] == {"torch": 4.0}


def test_the_pocket_model_s_operations_are_those_that_torch_counts() -> None:
    # FlopCounterMode over the same U-Net; it counts the embedding of the time as well.
    assert floor.count(256) == pytest.approx(4.4804e9, rel=1e-4)
    assert floor.count(512) == pytest.approx(4 * floor.count(256), rel=0.01)


def test_ours_is_the_best_that_needs_no_building(monkeypatch: pytest.MonkeyPatch) -> None:
    rates = {"ours, none": 8, "ours, sdpa": 9, "streamdiffusion package": 10}
    case = {
        "contenders": {name: {"fps": rate} for name, rate in rates.items()},
        "absent": {"diffusers, img2img": "broken"},
    }
    asked: dict[str, Any] = {}

    class Fake:
        @staticmethod
        def load() -> Any:
            def measure(rounds: int, **options: Any) -> dict[str, Any]:
                asked.update(options, rounds=rounds)
                return {"cases": {"small": case}, "full": False, "device": "cpu"}

            return measure

    monkeypatch.setattr(packages, "_MEASURE", Fake)
    found = packages.measure(Effort(rounds=3), silent)
    assert asked["rounds"] == 3
    assert asked["models"] == ("sd-turbo",)
    assert not asked["thorough"]
    assert found["ratios"] == {"package": 0.9}
    assert "diffusers, img2img: broken" in suite.part_named("packages").details(found)  # type: ignore[misc]


def test_the_slope_is_that_of_the_line_that_fits() -> None:
    at = [0, 10, 20, 30]
    assert memory.slope(at, [5, 25, 45, 65]) == pytest.approx(2.0)
    assert memory.slope(at, [7, 7, 7, 7]) == 0
    assert memory.slope(at, [9, 7, 9, 7]) == pytest.approx(-0.04)
    assert memory.slope([3], [9]) == 0


def test_a_quantile_needs_a_value() -> None:
    assert quantile([3, 1, 2], 0.5) == 2
    assert quantile([3, 1, 2], 1.0) == 3
    with pytest.raises(ValueError, match="no picture came"):
        quantile([], 0.5)


def test_the_least_start_of_all_rounds_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    taken = iter([3.0, 2.0, 9.0, 3.0, 4.0, 2.5, 6.0, 4.0, 3.5, 2.2, 7.0, 4.5])
    monkeypatch.setattr(startup, "_to_answer", lambda *arguments: next(taken))
    monkeypatch.setattr(startup, "_to_picture", lambda: next(taken))
    monkeypatch.setattr(startup, "_bare_picture", lambda: next(taken))
    found = startup.measure(Effort(rounds=1), silent)
    assert found["rounds"] == 3
    assert found["ratios"] == {"relay": 1.5, "picture": 2.0}


def test_of_the_simulation_the_worst_case_is_shown() -> None:
    part = suite.part_named("dispatch")
    found = part.measure(QUICK, silent)
    has_figures_for_all_its_lines(part, found)
    defined, _, shown, age, speed_up = part.rows(found)
    assert defined.value == found["cases"]["25 and 120 ms, 30 fps"]["efficiency"]
    several = [row for row in found["cases"].values() if len(row["engines_ms"]) > 1]
    assert shown.value == min(row["efficiency"] for row in several)
    assert age.value == max(row["age_p95"] for row in several)
    assert speed_up.value == found["cases"]["two of 40 ms"]["speed_up"]


def test_streams_are_compared_with_as_many_one_by_one() -> None:
    def of(fps: float, even: float = 1.0) -> list[dict[str, float]]:
        return [{"fps": fps / 2, "even": even / 2}, {"fps": fps, "even": even}]

    found = streams.report(
        {
            streams.Case(streams.WAITS, 8, 1): of(40),
            streams.Case(streams.WAITS, 8, streams.LIMIT): of(120, 0.9),
            streams.Case(streams.WAITS, 1, streams.LIMIT): of(38),
            streams.Case(streams.COMPUTES, 2, 4): of(30),
        }
    )["cases"]
    eight = found[f"{streams.WAITS}, 8, together"]
    assert (eight["fps"], eight["fps_mean"], eight["even"]) == (120, 90, 0.9)
    assert eight["times_alone"] == 3
    assert eight["of_possible"] == 0.9
    assert found[f"{streams.WAITS}, 1, together"]["times_alone"] == 0.95
    assert "times_alone" not in found[f"{streams.COMPUTES}, 2, together"]
