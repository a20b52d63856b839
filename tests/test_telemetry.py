"""Figures: exact under a clock of the test's own."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dreamrelay.packet import WAY, Codec, Hop, Packet, Stamp
from dreamrelay.telemetry import HopTimes, Percentiles, RateMeter, heard_figures

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

    @given(st.integers(0, 2**64 - 1), st.integers(0, 2**64 - 1), st.integers(0, 2**63))
    def test_clocks_of_others_may_say_anything(self, captured: int, stamp: int, error: int) -> None:
        """What cannot be is never shown as a figure."""
        times = HopTimes()
        packet = Packet(b"", Codec.PNG, 1, 1, 0, captured, stamps=(Stamp(Hop.RETURNED, stamp),))
        times.add(packet, SECOND, error)
        assert times.age.count == (captured <= SECOND + error)
        assert times.age.p50 >= 0
        hops = times.hops()
        assert (Hop.RETURNED in hops) == (captured <= stamp + error)
        assert all(found.p50 >= 0 for found in hops.values())
        assert times.added == 1
        assert times.disordered == (captured > SECOND + error or captured > stamp + error)

    def test_they_come_in_the_order_of_the_way(self) -> None:
        times = HopTimes()
        stamps = tuple(Stamp(hop, (1 + at) * MS) for at, hop in enumerate(WAY))
        times.add(Packet(b"", Codec.PNG, 1, 1, captured_ns=0, stamps=stamps), SECOND)
        assert tuple(times.hops()) == WAY
        assert {found.p50 for found in times.hops().values()} == {1}

    def test_a_worker_whose_clock_nobody_compared_has_no_ways(self) -> None:
        """It is a second behind: one way would be negative, the other a second too long."""
        times = HopTimes()
        stamps = (
            Stamp(Hop.RELAYED, 2 * SECOND),
            Stamp(Hop.RECEIVED, SECOND),
            Stamp(Hop.INFER, SECOND + 3 * MS),
            Stamp(Hop.RETURNED, 2 * SECOND + 9 * MS),
        )
        packet = Packet(b"", Codec.PNG, 1, 1, captured_ns=2 * SECOND - MS, stamps=stamps)
        times.add(packet, 2 * SECOND + 9 * MS)
        found = {hop: times.p50 for hop, times in times.hops().items()}
        assert found == {Hop.RELAYED: 1, Hop.INFER: 3}
        assert times.age.p50 == 10
        assert times.disordered == 1

    def test_a_negative_time_within_the_error_is_nothing(self) -> None:
        times = HopTimes()
        packet = Packet(
            b"", Codec.PNG, 1, 1, captured_ns=SECOND, stamps=(Stamp(Hop.RELAYED, SECOND - MS),)
        )
        times.add(packet, SECOND + MS, MS)
        assert times.hops()[Hop.RELAYED].p50 == 0
        assert times.disordered == 0
        times.add(packet, SECOND + MS, MS - 1)
        assert times.hops()[Hop.RELAYED].count == 1
        assert times.age.count == 1
        assert times.disordered == 1

    def test_what_was_stamped_by_another_clock_is_forgotten(self) -> None:
        times = HopTimes()
        times.add(Packet(b"", Codec.PNG, 1, 1, stamps=(Stamp(Hop.ENCODED, 0),)), MS)
        times.forget()
        assert times.age.count == 0
        assert not times.hops()
        assert times.added == 1


class TestHeardFigures:
    def test_what_a_relay_says(self) -> None:
        fields = {
            "type": "latency",
            "hops": {"infer": [1, 2.5, 3], "odd": [1, 2], "odder": "x", "oddest": [1, 2, "3"]},
            "age": {
                "relayed": [9, 9, 9],
                "returned": [50, 60, 70],
                "studio": [80, 90, 100],
                "window": [70, 95, 99],
            },
            "error_ms": 0.25,
        }
        assert heard_figures(fields) == {
            "infer": (1, 2.5, 3),
            "age": (50, 60, 70),
            "shown": (70, 95, 99),
            "error": (0.25,),
        }

    @pytest.mark.parametrize(
        "fields", [{}, {"hops": 1, "age": []}, {"age": {"studio": "x"}}, {"error_ms": "x"}]
    )
    def test_what_is_none(self, fields: dict[str, object]) -> None:
        assert heard_figures(fields) == {}

    def test_of_our_own(self) -> None:
        times = HopTimes()
        assert times.figures() == {}
        times.add(Packet(b"", Codec.PNG, 1, 1, stamps=(Stamp(Hop.INFER, 2 * MS),)), 5 * MS)
        assert times.figures() == {"infer": (2, 2, 2), "age": (5, 5, 5)}
