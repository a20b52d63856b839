"""Figures: exact under a clock of the test's own."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dreamrelay.packet import Codec, Hop, Packet, Stamp
from dreamrelay.telemetry import HopTimes, Percentiles, RateMeter

MS = 1_000_000
SECOND = 1000 * MS


class Clock:
    ns = 5 * SECOND

    def __call__(self) -> int:
        return self.ns


class TestRate:
    @pytest.mark.parametrize("fps", [1, 10, 30, 60, 240])
    def test_of_a_steady_stream(self, fps: int) -> None:
        clock = Clock()
        meter = RateMeter(clock)
        for _ in range(fps * 3):
            clock.ns += SECOND // fps
            meter.tick()
        assert meter.rate == pytest.approx(fps, rel=0.02)
        assert meter.count == fps * 3

    def test_of_nothing_and_of_one(self) -> None:
        meter = RateMeter(Clock())
        assert meter.rate == 0
        meter.tick()
        assert meter.rate == 0

    def test_decays_and_is_zero_after_two_seconds(self) -> None:
        clock = Clock()
        meter = RateMeter(clock)
        for _ in range(40):
            clock.ns += SECOND // 20
            meter.tick()
        rates = []
        for _ in range(5):
            clock.ns += SECOND // 2
            rates.append(meter.rate)
        assert rates == sorted(rates, reverse=True)
        assert rates[-1] == 0

    def test_all_at_once(self) -> None:
        meter = RateMeter(Clock())
        for _ in range(1000):
            meter.tick()
        assert meter.rate > 0

    @given(st.lists(st.integers(0, SECOND), max_size=40))
    def test_is_never_negative(self, steps: list[int]) -> None:
        clock = Clock()
        meter = RateMeter(clock)
        for step in steps:
            clock.ns += step
            meter.tick()
            assert meter.rate >= 0


class TestPercentiles:
    def test_of_none(self) -> None:
        assert Percentiles.of([]) == Percentiles(0, 0, 0, 0)

    def test_of_a_hundred(self) -> None:
        values = [float(number) for number in range(100, 0, -1)]
        assert Percentiles.of(values) == Percentiles(51, 96, 100, 100)

    @given(st.lists(st.floats(-1e9, 1e9), min_size=1))
    def test_are_values_in_order(self, values: list[float]) -> None:
        found = Percentiles.of(values)
        assert {found.p50, found.p95, found.p99} <= set(values)
        assert found.p50 <= found.p95 <= found.p99


class TestHops:
    def test_each_from_the_one_before(self) -> None:
        times = HopTimes()
        stamps = (Stamp(Hop.ENCODED, 3 * MS), Stamp(Hop.RELAYED, 5 * MS), Stamp(Hop.INFER, 9 * MS))
        times.add(Packet(b"", Codec.PNG, 1, 1, captured_ns=1 * MS, stamps=stamps), 21 * MS)
        assert {hop: found.p50 for hop, found in times.hops().items()} == {
            Hop.ENCODED: 2,
            Hop.RELAYED: 2,
            Hop.INFER: 4,
        }
        assert times.age.p50 == 20

    def test_only_so_many_are_kept(self) -> None:
        times = HopTimes(keep=10)
        for age in range(100):
            times.add(Packet(b"", Codec.PNG, 1, 1, stamps=(Stamp(Hop.ENCODED, 0),)), age * MS)
        assert times.age.count == 10
        assert times.age.p50 == 95
        assert times.hops()[Hop.ENCODED].count == 10

    @given(st.integers(0, 2**64 - 1), st.integers(0, 2**64 - 1))
    def test_clocks_of_others_may_say_anything(self, captured: int, stamp: int) -> None:
        times = HopTimes()
        packet = Packet(b"", Codec.PNG, 1, 1, 0, captured, stamps=(Stamp(Hop.RETURNED, stamp),))
        times.add(packet, SECOND)
        assert times.age.count == 1
