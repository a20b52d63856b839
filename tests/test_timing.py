"""The figures of a stream: every hop, whose clock it hangs on, and what people saw."""

from typing import Any

import pytest

from dreamrelay.hub import Stream
from dreamrelay.hub.timing import KEPT_HANDED, MAX_PLACES, MAX_TOLD, OTHERS
from dreamrelay.packet import WAY, Codec, Hop, Packet, Stamp
from dreamrelay.protocol.messages import (
    ClockReported,
    Delivery,
    LatencyMeasured,
    Limits,
    PicturesShown,
    Role,
    Seen,
    WorkerHello,
)
from dreamrelay.relay.metrics import render
from tests.fakes.clock import SECOND, Clock
from tests.fakes.hub import FakePeer

MS = 1_000_000


class House:
    """A stream with a producer, a worker and one clock for all, which the test moves."""

    def __init__(self) -> None:
        self.clock = Clock()
        self.stream = Stream("default", Limits(), clock_ns=self.clock, unix_ns=self.clock)
        self.streams = {"default": self.stream}
        self.producer = self.peer("producer")
        self.worker = self.peer("worker")
        self.stream.join(self.producer)
        self.stream.join(self.worker, credit=1, worker=WorkerHello("engine"))

    def peer(self, role: Role, number: int = 1) -> FakePeer:
        return FakePeer(f"{role}-{number}", role)

    def send(self) -> None:
        """A picture, taken 3 ms ago and encoded 2 ms ago."""
        now = self.clock.ns
        stamps = (Stamp(Hop.ENCODED, now - 2 * MS),)
        taken = Packet(b"GIF", Codec.GIF, 1, 1, 1, now - 3 * MS, stamps=stamps)
        self.stream.publish(taken, "input", self.producer)

    def pass_on(self, **change: Any) -> Packet:
        """The worker takes what it was given last, and sends it back, 1 ms for each hop."""
        packet: Packet = self.worker.last(Delivery).packet
        for hop in (Hop.RECEIVED, Hop.DECODED, Hop.INFER, Hop.INFERRED, Hop.REENCODED):
            self.clock.ns += MS
            packet = packet.stamped(hop, self.clock.ns)
        self.clock.ns += MS
        self.stream.publish(packet.but(**change), "output", self.worker)
        shown = self.stream.tracks["output"].last
        assert shown is not None
        return shown

    def figures(self) -> dict[str, Any]:
        return self.stream.timing.report()


@pytest.fixture
def house() -> House:
    return House()


def test_the_whole_way_is_measured(house: House) -> None:
    house.send()
    shown = house.pass_on()
    assert tuple(stamp.hop for stamp in shown.stamps) == WAY
    hops = house.figures()["hops"]
    assert list(hops) == [hop.name.lower() for hop in WAY]
    assert {name: found["p99_ms"] for name, found in hops.items()} == {
        "encoded": 1,
        "relayed": 2,
        "handed": 0,
        **dict.fromkeys(("received", "decoded", "infer", "inferred", "reencoded", "returned"), 1),
    }
    ages = house.figures()["age"]
    assert ages["relayed"]["p50_ms"] == 3
    returned = {"p50_ms": 9, "p95_ms": 9, "p99_ms": 9, "count": 1, "error_ms": None}
    assert ages["returned"] == returned, "nobody has compared the camera's clock"


def test_waiting_for_a_worker_is_a_hop_of_its_own(house: House) -> None:
    house.send()  # takes its credit
    house.clock.advance(0.010)
    house.send()
    house.clock.advance(0.025)
    house.stream.grant(house.worker, 1)
    house.pass_on()
    hops = house.figures()["hops"]
    assert (hops["handed"]["p50_ms"], hops["received"]["p50_ms"]) == (25, 1)


def test_what_never_comes_back_is_not_remembered_for_ever(house: House) -> None:
    for _ in range(KEPT_HANDED + 5):
        house.stream.grant(house.worker, 1)
        house.send()
    house.pass_on()
    assert len(house.stream.timing._handed) == KEPT_HANDED


def test_a_worker_is_told_once_a_second_if_there_is_news(house: House) -> None:
    house.stream.tick()
    assert not house.worker.of(LatencyMeasured)
    house.send()
    house.pass_on()
    house.stream.tick()
    house.stream.tick()
    (told,) = house.worker.of(LatencyMeasured)
    assert told.figures["hops"]["infer"] == (1, 1, 1)
    assert told.figures["age"]["returned"] == (9, 9, 9)
    assert not house.producer.of(LatencyMeasured)


class TestClocks:
    def test_the_error_is_that_of_the_worst_clock_that_stamps(self, house: House) -> None:
        timing = house.stream.timing
        timing.set_clock(house.producer, ClockReported(0, 2 * MS))
        timing.set_clock(house.worker, ClockReported(0, MS))
        timing.set_clock(house.peer("viewer"), ClockReported(0, SECOND))
        assert timing.error_ns == 2 * MS
        house.stream.leave(house.producer)
        assert timing.error_ns == MS

    def test_a_hop_may_be_off_by_the_clocks_that_it_hangs_on(self, house: House) -> None:
        house.send()
        house.pass_on()
        timing = house.stream.timing
        assert timing.hop_errors()[Hop.RELAYED] is timing.hop_errors()[Hop.RETURNED] is None
        timing.set_clock(house.producer, ClockReported(SECOND, 2 * MS))
        timing.set_clock(house.worker, ClockReported(0, MS))
        timing.set_clock(house.peer("worker", 2), ClockReported(0, 3 * MS))
        timing.set_clock(house.peer("viewer"), ClockReported(0, SECOND))
        house.stream.grant(house.worker, 1)
        house.send()
        house.pass_on()
        told = {name: found["error_ms"] for name, found in house.figures()["hops"].items()}
        one_clock = dict.fromkeys(("encoded", "handed", "decoded", "infer", "inferred"), 0)
        both = {"relayed": 2, "received": 3, "reencoded": 0, "returned": 3}
        assert {name: round(ms) for name, ms in told.items()} == {**one_clock, **both}
        assert round(house.figures()["age"]["returned"]["error_ms"]) == 2
        page = render(house).decode()  # type: ignore[arg-type]
        assert 'dreamrelay_hop_error_seconds{hop="handed",stream="default"} 0.0' in page
        assert 'dreamrelay_hop_error_seconds{hop="age",stream="default"} 0.002' in page

    def test_it_grows_with_age(self, house: House) -> None:
        house.stream.timing.set_clock(house.worker, ClockReported(0, MS))
        house.clock.advance(100)
        (clock,) = house.figures()["clocks"]
        assert clock["error_ms"] == 11
        assert (clock["role"], clock["offset_ms"]) == ("worker", 0)

    def test_figures_of_a_clock_that_nobody_compared_are_forgotten(self, house: House) -> None:
        house.send()
        house.pass_on()
        house.stream.timing.set_clock(house.worker, ClockReported(0, MS))
        assert house.figures()["hops"], "it adds nothing: what it stamped was right"
        house.stream.timing.set_clock(house.peer("viewer"), ClockReported(SECOND, MS))
        assert house.figures()["hops"], "a viewer stamps nothing"
        house.stream.timing.set_clock(house.worker, ClockReported(SECOND, MS))
        assert not house.figures()["hops"]
        house.stream.grant(house.worker, 1)
        house.send()
        house.pass_on()
        house.stream.timing.set_clock(house.worker, ClockReported(SECOND + MS, MS))
        assert house.figures()["hops"]
        house.stream.timing.set_clock(house.worker, ClockReported(-SECOND, MS))
        assert not house.figures()["hops"], "a clock was set"

    def test_an_age_that_cannot_be_is_none(self, house: House) -> None:
        """Its producer's clock is ahead, and it does not say so."""
        house.send()
        house.pass_on(captured_ns=house.clock.ns + 60 * SECOND)
        assert "returned" not in house.figures()["age"]
        assert house.figures()["disordered"] == 1
        house.clock.advance(0.001)
        house.send()
        assert house.stream.status()["age_ms"] is None


class TestShown:
    def test_by_where(self, house: House) -> None:
        show = house.stream.timing.show
        show(PicturesShown("studio", (Seen(3.0, 8.0, 120.0), Seen(5.0, 9.0, 130.0))))
        show(PicturesShown("window", (Seen(None, 4.0, 80.0),)))
        show(PicturesShown("", (Seen(-0.5, 1.0, -0.2),)))
        shown = house.figures()["shown"]
        assert shown["studio"]["delivered"]["count"] == 2
        assert shown["window"]["painted"]["p99_ms"] == 4
        assert "delivered" not in shown["window"]
        assert shown[OTHERS]["delivered"]["p50_ms"] == 0
        assert house.figures()["age"]["studio"]["p99_ms"] == 130

    def test_there_are_not_more_places_than_can_be_shown(self, house: House) -> None:
        for number in range(50):
            seen = Seen(1.0, 1.0, 1.0)
            house.stream.timing.show(PicturesShown(f"place-{number}", (seen,)))
        places = house.figures()["shown"]
        assert len(places) == MAX_PLACES + 1
        assert places[OTHERS]["age"]["count"] == 50 - MAX_PLACES

    def test_a_place_where_nobody_looks_any_more_makes_room(self, house: House) -> None:
        show, seen = house.stream.timing.show, Seen(1.0, 1.0, 1.0)
        for number in range(MAX_PLACES):
            show(PicturesShown(f"place-{number}", (seen,)))
        house.clock.advance(11)
        show(PicturesShown("studio", (seen,)), "b")
        assert list(house.figures()["shown"]) == ["studio@b"]

    def test_another_relay_is_told_what_is_new_and_was_seen_here(self, house: House) -> None:
        timing = house.stream.timing
        pictures = tuple(Seen(None, 1.0, float(age)) for age in range(MAX_TOLD + 5))
        timing.show(PicturesShown("window", pictures))
        timing.show(PicturesShown("studio", pictures[:1]), "b")
        assert timing.shown_to_tell() == {"window": list(pictures[-MAX_TOLD:])}
        assert timing.shown_to_tell() == {}
        timing.show(PicturesShown("window", pictures[:1]))
        house.clock.advance(11)
        assert timing.shown_to_tell() == {}

    def test_what_nobody_sees_any_more_is_left_out(self, house: House) -> None:
        house.stream.timing.show(PicturesShown("window", (Seen(None, 4.0, 80.0),)))
        house.clock.advance(5)
        house.stream.timing.show(PicturesShown("window", (Seen(1.0, 5.0, 90.0),)))
        house.clock.advance(6)
        assert house.figures()["shown"]["window"]["age"]["count"] == 1
        assert house.figures()["shown"]["window"]["painted"]["p50_ms"] == 5
        house.clock.advance(6)
        assert house.figures()["shown"] == {}

    def test_all_of_it_is_on_the_metrics_page(self, house: House) -> None:
        house.stream.timing.set_clock(house.worker, ClockReported(5 * MS, 250_000))
        house.send()
        house.pass_on()
        house.stream.timing.show(PicturesShown("studio", (Seen(3.0, 8.0, 120.0),)))
        page = render(house).decode()  # type: ignore[arg-type]
        labels = 'stream="default"'
        for line in (
            f'dreamrelay_hop_seconds{{hop="handed",quantile="0.5",{labels}}} 0.0',
            f'dreamrelay_hop_seconds{{hop="infer",quantile="0.99",{labels}}} 0.001',
            f'dreamrelay_age_seconds{{at="returned",quantile="0.95",{labels}}} 0.009',
            f'dreamrelay_age_seconds{{at="studio",quantile="0.95",{labels}}} 0.12',
            f'dreamrelay_shown_seconds{{quantile="0.5",span="painted",{labels},where="studio"}}'
            " 0.008",
            f'dreamrelay_clock_offset_seconds{{peer="worker-1",role="worker",{labels}}} 0.005',
            f"dreamrelay_disordered_total{{{labels}}} 0.0",
        ):
            assert line in page, page
