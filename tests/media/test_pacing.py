"""Pacing is arithmetic: a clock goes in, a delay comes out."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dreamrelay.errors import ConfigError
from dreamrelay.media.pacing import CaptureClock, Pacer


class Clock:
    def __init__(self, now: float = 1000.0) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now


def test_no_drift_at_60_fps_over_10000_ticks() -> None:
    clock = Clock(123456.789)
    pacer = Pacer(60, clock)
    for number in range(10_000):
        delay = pacer.delay()
        # A sleep is never shorter than asked for, and often a little longer.
        clock.now += delay + 0.0007
        assert pacer.tick() == 0
        due = 123456.789 + number / 60
        assert -1e-6 < clock.now - due < 0.0008
    assert pacer.delay() == pytest.approx(1 / 60 - 0.0007, abs=1e-5)


def test_the_first_tick_is_due_at_once() -> None:
    pacer = Pacer(10, Clock())
    assert pacer.delay() == 0
    assert pacer.tick() == 0
    assert pacer.delay() == pytest.approx(0.1)


def test_missed_ticks_are_left_out_and_the_phase_is_kept() -> None:
    clock = Clock(0)
    pacer = Pacer(10, clock)
    pacer.tick()
    clock.now = 0.75  # 0.1 to 0.6 are missed, 0.7 is late
    assert pacer.delay() == 0
    assert pacer.tick() == 6
    assert pacer.delay() == pytest.approx(0.05)
    clock.now = 0.8
    assert pacer.tick() == 0


def test_a_clock_that_shows_the_due_time_is_not_before_it() -> None:
    clock = Clock(0)
    for number in range(1, 2000):
        clock.now = 0
        pacer = Pacer(60, clock)
        clock.now = number / 60
        assert pacer.tick() == number
        assert pacer.delay() == pytest.approx(1 / 60)


def test_a_little_late_is_not_missed() -> None:
    clock = Clock(0)
    pacer = Pacer(10, clock)
    for number in range(50):
        clock.now = number / 10 + 0.099
        assert pacer.tick() == 0


def test_a_new_rate_begins_now() -> None:
    clock = Clock(5)
    pacer = Pacer(10, clock)
    pacer.tick()
    clock.now = 900
    pacer.restart(2)
    assert pacer.fps == 2
    assert pacer.delay() == 0
    assert pacer.tick() == 0
    assert pacer.delay() == pytest.approx(0.5)
    clock.now = 2000
    pacer.restart()
    assert pacer.fps == 2
    assert pacer.tick() == 0


@pytest.mark.parametrize("fps", [0, -1, float("nan"), float("inf")])
def test_a_rate_that_is_none_is_refused(fps: float) -> None:
    with pytest.raises(ConfigError, match="rate over 0"):
        Pacer(fps)


@settings(deadline=None)
@given(
    fps=st.floats(0.1, 240),
    start=st.floats(0, 1e7),
    works=st.lists(st.floats(0, 3), min_size=1, max_size=60),
)
def test_never_early_never_in_a_burst(fps: float, start: float, works: list[float]) -> None:
    """Whatever the work takes: at most one picture per tick, each at its tick or after it."""
    clock = Clock(start)
    pacer = Pacer(fps, clock)
    ticks = -1
    for work in works:
        clock.now += pacer.delay()
        ticks += 1 + pacer.tick()
        assert clock.now - start >= ticks / fps - 1e-6
        assert clock.now - start < (ticks + 1) / fps + 1e-6
        clock.now += work


def test_capture_times_never_repeat_or_step_back() -> None:
    times = iter([100, 100, 90, 500, 499])
    clock = CaptureClock(lambda: next(times))
    assert [clock() for _ in range(5)] == [100, 101, 102, 500, 501]


def test_a_clock_that_was_set_back_is_believed() -> None:
    second = 1_000_000_000
    times = iter([5000 * second, 1400 * second, 1400 * second, 1401 * second])
    clock = CaptureClock(lambda: next(times))
    taken = [clock() for _ in range(4)]
    assert taken == [5000 * second, 1400 * second, 1400 * second + 1, 1401 * second]
