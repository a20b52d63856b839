"""The offset of another clock: whatever the network does, the truth lies within the told error."""

from dataclasses import dataclass

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dreamrelay.clock import DRIFT, ClockEstimate, Offset, RelayClock

MS = 1_000_000
SECOND = 1000 * MS

delays = st.integers(0, 300 * MS)
offsets = st.integers(-(10**18), 10**18)
trips = st.lists(st.tuples(delays, st.integers(0, 20 * MS), delays), min_size=1, max_size=40)


@dataclass
class Theirs:
    """Another clock: so much ahead of ours at our zero, and so much faster."""

    ahead: int
    drift: float = 0.0

    def at(self, ours: int) -> int:
        return ours + self.offset(ours)

    def offset(self, ours: int) -> int:
        return self.ahead + round(ours * self.drift)


def ping(
    estimate: ClockEstimate, theirs: Theirs, now: int, trip: tuple[int, int, int]
) -> tuple[int, bool]:
    """A ping that is on its way, lies there, and comes back; when it is here."""
    there = now + trip[0]
    back = there + trip[1] + trip[2]
    return back, estimate.add(now, theirs.at(there), back, theirs.at(there + trip[1]))


def holds(found: Offset | None, truth: int) -> bool:
    return found is not None and abs(found.ns - truth) <= found.error_ns + 1


@given(offsets, st.floats(-DRIFT, DRIFT), trips, st.integers(0, 60 * SECOND))
def test_the_truth_lies_within_the_error(
    ahead: int, drift: float, sent: list[tuple[int, int, int]], silence: int
) -> None:
    """However unlike the two ways are, and however long ago it was."""
    theirs, estimate, now = Theirs(ahead, drift), ClockEstimate(), 0
    for trip in sent:
        now, anew = ping(estimate, theirs, now, trip)
        assert not anew
        assert holds(estimate.at(now), theirs.offset(now))
        now += 4 * SECOND
    assert holds(estimate.at(now + silence), theirs.offset(now + silence))


@given(offsets, trips)
def test_the_error_is_half_of_the_quickest_round_trip_or_less(
    ahead: int, sent: list[tuple[int, int, int]]
) -> None:
    theirs, estimate, now = Theirs(ahead), ClockEstimate(drift=0.0, keep=99), 0
    for trip in sent:
        now, _ = ping(estimate, theirs, now, trip)
    found = estimate.at(now)
    assert found is not None
    assert found.error_ns <= min(there + back for there, _, back in sent) // 2 + 3


@given(offsets, trips, st.integers(700 * MS, 10**18), st.sampled_from((-1, 1)), trips)
def test_a_clock_that_was_set_is_noticed_at_once(
    ahead: int,
    before: list[tuple[int, int, int]],
    step: int,
    sign: int,
    after: list[tuple[int, int, int]],
) -> None:
    """By more than a round trip: smaller steps show when the older pings no longer count."""
    theirs, estimate, now = Theirs(ahead), ClockEstimate(), 0
    for trip in before:
        now, _ = ping(estimate, theirs, now, trip)
    theirs.ahead += sign * step
    for number, trip in enumerate(after):
        now, anew = ping(estimate, theirs, now, trip)
        assert anew == (number == 0)
        assert holds(estimate.at(now), theirs.offset(now))


@given(st.integers(-20 * MS, 20 * MS), st.lists(st.tuples(delays, delays), min_size=17))
def test_a_small_step_is_found_when_the_older_pings_are_gone(
    step: int, sent: list[tuple[int, int]]
) -> None:
    theirs, estimate, now = Theirs(0), ClockEstimate(keep=16), 0
    for there, back in sent:
        now, _ = ping(estimate, theirs, now, (there, 0, back))
    theirs.ahead = step
    for there, back in sent:
        now, _ = ping(estimate, theirs, now, (there, 0, back))
    assert holds(estimate.at(now), step)


def test_it_grows_with_age_and_a_new_ping_helps() -> None:
    estimate = ClockEstimate()
    assert estimate.at(0) is None
    estimate.add(0, 50 * MS, 2 * MS)
    fresh, old = estimate.at(2 * MS), estimate.at(100 * SECOND)
    assert fresh is not None
    assert old is not None
    assert fresh.ns == 49 * MS
    assert fresh.error_ns < 1.01 * MS < old.error_ns
    estimate.add(100 * SECOND, 100 * SECOND + 50 * MS, 100 * SECOND + 2 * MS)
    again = estimate.at(100 * SECOND + 2 * MS)
    assert again is not None
    assert again.error_ns < 1.01 * MS
    estimate.forget()
    assert estimate.at(0) is None


def test_an_answer_from_before_its_question_is_left_out() -> None:
    estimate = ClockEstimate()
    assert not estimate.add(10 * MS, 0, 5 * MS)
    assert estimate.at(20 * MS) is None


class Here:
    """Our clocks, and a relay whose clock is ``ahead`` of our UNIX time."""

    def __init__(self, ahead: int, resolution: float = 0.0) -> None:
        self.monotonic = 5 * SECOND
        self.unix = 10**18
        self.ahead = ahead
        self.clock = RelayClock(
            unix_ns=lambda: self.unix, monotonic_ns=lambda: self.monotonic, resolution=resolution
        )

    def wait(self, ns: int) -> None:
        self.monotonic += ns
        self.unix += ns

    def ping(self, trip: int = 2 * MS) -> None:
        id_ = self.clock.ping()
        self.wait(trip // 2)
        received = self.unix + self.ahead
        self.wait(trip // 2)
        assert self.clock.pong(id_, received)


class TestRelayClock:
    def test_nobody_knows_before_the_first_answer(self) -> None:
        here = Here(SECOND)
        assert here.clock.offset is None
        assert here.clock.ahead_ns == 0
        here.ping()
        assert here.clock.ahead_ns == pytest.approx(SECOND, abs=MS)
        here.clock.begin_anew()
        assert here.clock.offset is None

    @pytest.mark.parametrize("ahead", [0, 400_000, -900_000])
    def test_clocks_that_may_agree_are_taken_to_agree(self, ahead: int) -> None:
        here = Here(ahead)
        here.ping()
        offset = here.clock.offset
        assert offset is not None
        assert offset.ns == 0
        assert offset.error_ns >= abs(ahead)

    def test_a_clock_that_ticks_seldom_is_known_no_better(self) -> None:
        here = Here(10 * MS, resolution=0.016)
        here.ping()
        offset = here.clock.offset
        assert offset is not None
        assert offset.ns == 0
        assert offset.error_ns >= 16 * MS

    def test_our_own_clock_may_be_set(self) -> None:
        """It shows before the next ping."""
        here = Here(0)
        here.ping()
        here.unix += 3600 * SECOND
        assert here.clock.ahead_ns == pytest.approx(-3600 * SECOND, abs=2 * MS)

    def test_the_relays_clock_may_be_set(self) -> None:
        here = Here(SECOND)
        for _ in range(20):
            here.ping()
            here.wait(4 * SECOND)
        here.ahead = -60 * SECOND
        here.ping()
        assert here.clock.ahead_ns == pytest.approx(-60 * SECOND, abs=2 * MS)

    @pytest.mark.parametrize("received", [None, "x", 1.5, -1, 1 << 64, 10**30])
    def test_an_odd_answer_is_none(self, received: object) -> None:
        here = Here(SECOND)
        assert not here.clock.pong(here.clock.ping(), received)
        assert here.clock.offset is None

    @pytest.mark.parametrize("id_", [None, "1", 99, 1.0, []])
    def test_an_answer_to_nothing_is_none(self, id_: object) -> None:
        here = Here(SECOND)
        assert not here.clock.pong(id_, 10**18)

    def test_only_the_last_ping_counts(self) -> None:
        here = Here(SECOND)
        first = here.clock.ping()
        here.clock.ping()
        assert not here.clock.pong(first, 10**18)
