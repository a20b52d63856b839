"""When results stop: what viewers are shown meanwhile, and how one worker takes over from another.

A show of ten inputs a second, whose clock is a number; workers answer at once, or not at all.
"""

from dataclasses import replace
from itertools import pairwise
from typing import Any

import pytest

from dreamrelay.errors import ProtocolError
from dreamrelay.hub import Fallback, Hub, Peer
from dreamrelay.hub.upstream import Seated, Upstream
from dreamrelay.packet import Codec, Packet
from dreamrelay.protocol.messages import (
    Delivery,
    Limits,
    ParametersChanged,
    Refused,
    RequestOffered,
    Retired,
    SchemaChanged,
    StatusReceived,
    WorkerHello,
)
from dreamrelay.protocol.native import NativeDialect, decode_packet, encode_packet
from tests.fakes.clock import SECOND, Clock
from tests.fakes.hub import HELLO, SCHEMA, FakePeer, picture
from tests.support import picture as encoded

SLATE = Packet(b"slate", Codec.JPEG, 4, 4)
STEP = 0.1


class Show:
    """A stream with a camera and a viewer; all that the viewer was sent."""

    def __init__(self, fallback: Fallback | None = None) -> None:
        self.clock = Clock()
        self.hub = Hub(
            Limits(),
            clock_ns=self.clock,
            unix_ns=self.clock,
            call_later=self.clock.call_later,
            fallback=fallback,
        )
        self.stream = self.hub.stream("default")
        self.producer = FakePeer("camera", "producer")
        self.stream.join(self.producer)
        self.viewer = FakePeer("viewer", "viewer")
        self.stream.join(self.viewer, ("output",), None)
        self.seen: list[tuple[float, Packet]] = []
        self.serving: set[str] = set()
        self._given: dict[str, int] = {}
        self._began = self.clock.ns
        self._steps = 0

    def worker(self, name: str, **hello: Any) -> FakePeer:
        """A worker that is live and answers."""
        peer = FakePeer(name, "worker")
        self.serving.add(name)
        self.stream.join(peer, (), 2, replace(HELLO, **hello))
        self.stream.report(peer, StatusReceived("live"))
        return peer

    def freeze(self, worker: FakePeer) -> None:
        self.serving.discard(worker.id)

    def thaw(self, worker: FakePeer) -> None:
        self.serving.add(worker.id)

    def run(self, seconds: float, *, camera: bool = True) -> None:
        for _ in range(round(seconds / STEP)):
            self.clock.advance(STEP)
            if camera:
                self.stream.publish(picture(), "input", self.producer)
            for peer in [p for p in self.stream.peers.values() if p.id in self.serving]:
                assert isinstance(peer, FakePeer)
                self._answer(peer)
            self._steps += 1
            if self._steps % 10 == 0:
                self.hub.tick()
            self._look()

    def _answer(self, worker: FakePeer) -> None:
        """Give results for all that was given since."""
        given = worker.of(Delivery, RequestOffered)
        for notice in given[self._given.get(worker.id, 0) :]:
            private = isinstance(notice, RequestOffered)
            self._given[worker.id] = self._given.get(worker.id, 0) + 1
            self.stream.publish(picture(notice.packet.seq, private=private), "output", worker)
            self.stream.grant(worker, 1)

    def _look(self) -> None:
        subscription = self.stream.subscription(self.viewer, "output")
        assert subscription is not None
        packet = subscription.take()
        if packet is not None:
            self.seen.append(((self.clock.ns - self._began) / SECOND, packet))

    @property
    def status(self) -> dict[str, Any]:
        return self.stream.status()

    def since(self, seconds: float) -> list[Packet]:
        return [packet for when, packet in self.seen if when > seconds]

    def check_order(self) -> None:
        """Numbers only ever grow."""
        assert all(a.seq < b.seq for a, b in pairwise(p for _, p in self.seen))


class Elsewhere(Upstream):
    """A way to a home that is never asked anything."""

    def seat(self, seat: Seated) -> None: ...
    def leave(self, peer: Peer) -> None: ...
    def look(self) -> None: ...
    def say(self, peer: Peer | None, event: object) -> None: ...
    def seats(self) -> list[Seated]:
        return []

    def waiting(self) -> list[tuple[Peer | None, Any]]:
        return []


def gap(show: Show) -> float:
    return max(b - a for (a, _), (b, _) in pairwise(show.seen))


class TestStandIn:
    def test_the_last_picture_is_held_unless_something_else_was_chosen(self) -> None:
        show = Show()
        worker = show.worker("a")
        show.run(2)
        show.stream.leave(worker)
        last = show.seen[-1]
        show.run(20)
        assert show.seen[-1] == last
        assert show.status["state"] == "lost"
        assert show.status["held"]
        assert show.status["stand_in"] == ""

    def test_the_cameras_pictures_pass_after_the_hold_and_end_with_the_first_result(self) -> None:
        show = Show(Fallback("pass", 3))
        worker = show.worker("a")
        show.run(2)
        show.stream.leave(worker)
        show.run(2.8)
        assert not any(packet.stand_in for _, packet in show.seen)
        show.run(2)
        assert show.status["stand_in"] == "pass"
        assert not show.status["held"]
        passed = show.since(5.1)
        assert len(passed) > 10
        assert all(packet.stand_in for packet in passed)
        show.worker("b")
        show.run(1)
        assert show.status["stand_in"] == ""
        assert not any(packet.stand_in for packet in show.since(7))
        show.check_order()

    def test_what_passes_is_the_input_byte_for_byte(self) -> None:
        show = Show(Fallback("pass", 0))
        show.run(1)
        taken = Packet.of(encoded("red"), captured_ns=7)
        show.stream.publish(taken, "input", show.producer)
        show.run(STEP, camera=False)
        packet = show.seen[-1][1]
        decoded, track = decode_packet(encode_packet(packet, "output"))
        assert (decoded.data, decoded.captured_ns, track) == (taken.data, 7, "output")
        assert decoded.stand_in

    def test_a_slate_is_shown_once_and_ends_with_the_first_result(self) -> None:
        show = Show(Fallback("slate", 1, SLATE))
        worker = show.worker("a")
        show.run(2)
        show.stream.leave(worker)
        show.run(10)
        slates = [packet for _, packet in show.seen if packet.stand_in]
        assert [packet.data for packet in slates] == [b"slate"]
        assert show.status["stand_in"] == "slate"
        late = FakePeer("late", "viewer")
        show.stream.join(late, ("output",), None)
        subscription = show.stream.subscription(late, "output")
        packet = subscription.take() if subscription else None
        assert packet is not None
        assert packet.data == b"slate"
        show.worker("b")
        show.run(1)
        assert show.seen[-1][1].data == b"GIF"
        show.check_order()

    def test_a_slate_needs_no_camera_and_a_dream_ends_it(self) -> None:
        show = Show(Fallback("slate", 1, SLATE))
        show.run(4, camera=False)
        assert show.status["stand_in"] == "slate"
        worker = show.worker("a")
        show.stream.publish(picture(0), "output", worker)
        show.run(0.2, camera=False)
        assert show.status["stand_in"] == ""
        assert not show.seen[-1][1].stand_in

    def test_without_a_slate_the_last_picture_is_held(self) -> None:
        show = Show(Fallback("slate", 0))
        show.run(3)
        assert show.seen == []

    def test_a_worker_that_was_stopped_by_its_performer_is_not_lost(self) -> None:
        show = Show(Fallback("pass", 1))
        worker = show.worker("a")
        show.run(1)
        show.freeze(worker)
        show.stream.report(worker, StatusReceived("paused", "stopped"))
        show.run(10)
        assert show.status["state"] == "paused"
        assert not any(packet.stand_in for _, packet in show.seen)

    def test_another_choice_holds_at_once(self) -> None:
        show = Show(Fallback("hold", 1, SLATE))
        show.run(4)
        assert show.seen == []
        show.stream.fall_back("pass")
        show.run(0.2)
        assert show.seen[-1][1].stand_in
        assert show.status["when_lost"] == "pass"
        show.stream.fall_back("slate")
        show.run(1)
        assert show.seen[-1][1].data == b"slate"
        show.stream.fall_back("hold")
        before = len(show.seen)
        show.run(2)
        assert len(show.seen) == before

    @pytest.mark.parametrize(("word", "seconds"), [("black", None), ("pass", -1), (None, 1e9)])
    def test_what_is_no_choice_changes_nothing(self, word: str | None, seconds: float) -> None:
        show = Show(Fallback("hold", 2))
        with pytest.raises(ProtocolError, match="expected"):
            show.stream.fall_back(word, seconds)
        assert show.stream.fall_back() == Fallback("hold", 2)

    def test_where_another_relay_decides_the_choice_is_made_there(self) -> None:
        show = Show(Fallback("hold", 2))
        show.stream.mirrored.home = "london"
        show.stream.upstream = Elsewhere()
        with pytest.raises(ProtocolError, match="london"):
            show.stream.fall_back("pass")
        assert show.stream.fall_back() == Fallback("hold", 2)


class TestHanging:
    """One worker alone, looked at once a second."""

    def test_a_worker_that_gives_nothing_back_is_lost_and_says_so(self) -> None:
        show = Show()
        worker = show.worker("a")
        show.run(3)
        show.freeze(worker)
        show.run(5)
        assert show.status["state"] == "lost"
        assert "hangs" in show.status["text"]
        assert show.status["engine"] == "engine"
        assert show.status["held"]
        show.thaw(worker)
        show.run(0.5)
        assert show.status["state"] == "live"
        assert show.status["text"] == ""
        show.check_order()

    def test_one_that_says_why_it_gives_nothing_back_is_believed(self) -> None:
        show = Show()
        worker = show.worker("a")
        show.run(3)
        show.freeze(worker)
        show.stream.report(worker, StatusReceived("live", "no mask can be made"))
        show.run(5)
        assert show.status["state"] == "lost"
        assert show.status["text"] == "no mask can be made"

    def test_the_camera_stands_in_for_it_and_no_old_picture_comes_when_it_wakes(self) -> None:
        show = Show(Fallback("pass", 3))
        worker = show.worker("a")
        show.run(3)
        show.freeze(worker)
        show.run(6)
        assert show.status["stand_in"] == "pass"
        show.thaw(worker)
        show.run(2)
        assert not show.seen[-1][1].stand_in
        show.check_order()
        assert gap(show) < 5

    def test_a_slow_worker_does_not_hang(self) -> None:
        show = Show(Fallback("pass", 1))
        worker = show.worker("a")
        show.freeze(worker)
        for _ in range(4):
            show.run(6)
            assert show.status["state"] == "live"
            show.thaw(worker)
            show.run(STEP)
            show.freeze(worker)
        assert not any(packet.stand_in for _, packet in show.seen)

    def test_one_that_has_nothing_to_do_does_not_hang(self) -> None:
        show = Show()
        worker = show.worker("a")
        show.run(2)
        show.freeze(worker)  # the last pictures stay in its batch
        show.run(0.2)
        show.run(30, camera=False)
        assert show.status["state"] == "live"

    def test_one_that_makes_single_pictures_does_not_hang(self) -> None:
        show = Show()
        worker = show.worker("a")
        show.run(3)
        show.freeze(worker)
        asker = FakePeer("asker", "producer")
        show.stream.join(asker)
        for ticket in range(8):
            show.stream.request(picture(), {}, ticket, asker)
            show.run(1)
            offered = worker.of(RequestOffered)
            for notice in offered[-1:]:
                answer = picture(notice.packet.seq, private=True)
                show.stream.publish(answer, "output", worker)
                show.stream.grant(worker, 1)
        assert show.status["state"] == "live"

    def test_while_one_of_several_hangs_the_stream_lives(self) -> None:
        show = Show(Fallback("pass", 1))
        first, _ = show.worker("a"), show.worker("b")
        show.run(3)
        show.freeze(first)
        show.run(8)
        assert show.status["state"] == "live"
        assert not any(packet.stand_in for _, packet in show.seen)
        assert gap(show) < 2
        show.check_order()

    def test_when_all_of_them_hang_it_is_lost(self) -> None:
        show = Show(Fallback("pass", 1))
        workers = [show.worker("a"), show.worker("b")]
        show.run(3)
        for worker in workers:
            show.freeze(worker)
        show.run(5)  # one of them was never needed, and nobody knows how long it takes
        assert show.status["state"] == "lost"
        assert show.status["stand_in"] == "pass"


class TestHandover:
    def test_it_takes_over_between_two_pictures(self) -> None:
        show = Show()
        old = show.worker("old")
        show.run(2)
        new = FakePeer("new", "worker")
        show.stream.join(new, (), 0, WorkerHello("engine"))
        show.stream.report(new, StatusReceived("loading"))
        show.run(2)
        assert old.of(Retired) == []
        assert new.of(Delivery) == []
        show.serving.add("new")
        show.stream.join(new, (), 2, replace(HELLO, model="a newer one", replace=True))
        show.stream.report(new, StatusReceived("live"))
        given = len(old.of(Delivery))
        show.run(0.3)
        assert old.of(Retired) == [Retired("a newer one")]
        assert len(old.of(Delivery)) == given
        show.stream.leave(old)
        show.run(1)
        assert gap(show) < 3 * STEP
        assert show.status["model"] == "a newer one"
        show.check_order()

    def test_one_that_remembers_gives_way_too(self) -> None:
        show = Show()
        old = show.worker("old", stateful=True)
        show.run(2)
        new = show.worker("new", stateful=True, replace=True)
        show.run(0.5)
        assert old.of(Retired)
        assert new.of(Delivery)
        show.check_order()

    def test_all_values_carry_over_and_unknown_ones_are_named(self) -> None:
        show = Show()
        old = show.worker("old", parameters={"prompt": "its own", "strength": 0.25})
        show.stream.update_parameters({"cfg_type": "self"}, "studio")
        properties = {n: SCHEMA["properties"][n] for n in ("prompt", "strength")}
        schema = {"type": "object", "properties": properties}
        parameters = {"prompt": "another", "strength": 0.5}
        told = len(old.of(ParametersChanged)), len(old.of(SchemaChanged))
        new = show.worker("new", schema=schema, parameters=parameters, replace=True)
        assert show.stream.values == {"prompt": "its own", "strength": 0.25}
        refused = new.last(Refused)
        assert "cfg_type" in str(refused.error)
        # The one that leaves in a moment hears nothing of a schema that is not its own.
        assert (len(old.of(ParametersChanged)), len(old.of(SchemaChanged))) == told
        assert show.viewer.last(ParametersChanged).values == show.stream.values

    def test_it_hears_the_values_in_force_before_its_first_input(self) -> None:
        show = Show()
        show.worker("old", parameters={"prompt": "its own", "strength": 0.25})
        new = FakePeer("new", "worker")
        show.stream.join(new, (), 0, WorkerHello("engine"))
        # What it heard while it loaded: told to all, and so to it.
        assert new.last(ParametersChanged).values == show.stream.values
        show.stream.update_parameters({"prompt": "a fox"}, "studio")
        assert new.last(ParametersChanged).values["prompt"] == "a fox"
        show.run(0.3)
        before = len(new.heard)
        show.stream.join(new, (), 2, replace(HELLO, replace=True))
        show.run(0.3)
        heard = new.heard[before:]
        first = next(at for at, one in enumerate(heard) if isinstance(one, Delivery))
        told = [one for one in heard[:first] if isinstance(one, ParametersChanged)]
        assert told[-1].values == {"prompt": "a fox", "strength": 0.25}

    def test_while_the_old_one_helps_out_it_has_the_values_too(self) -> None:
        show = Show()
        old = show.worker("old")
        show.run(1)
        new = show.worker("new", replace=True)
        show.freeze(new)
        show.stream.update_parameters({"prompt": "a fox"}, "studio")
        show.run(1)
        assert old.last(ParametersChanged).values["prompt"] != "a fox"
        show.run(8)
        assert old.last(ParametersChanged).values["prompt"] == "a fox"

    def test_a_worker_that_only_joins_brings_its_own(self) -> None:
        show = Show()
        show.worker("a", parameters={"strength": 0.25})
        show.worker("b", parameters={"strength": 0.5})
        assert show.stream.values["strength"] == 0.5

    @pytest.mark.parametrize("end", ["leaves", "breaks"])
    def test_when_it_fails_before_its_first_picture_the_old_one_goes_on(self, end: str) -> None:
        show = Show()
        old = show.worker("old", parameters={"prompt": "its own", "strength": 0.25})
        show.run(2)
        new = show.worker("new", schema={"type": "object", "properties": {}}, replace=True)
        show.freeze(new)
        show.run(0.3)
        if end == "leaves":
            show.stream.leave(new)
        else:
            show.stream.report(new, StatusReceived("error", "no memory"))
        show.run(2)
        assert old.of(Retired) == []
        assert show.stream.values["prompt"] == "its own"
        assert old.last(SchemaChanged).schema == SCHEMA
        assert gap(show) < 6 * STEP
        show.check_order()

    def test_when_its_first_picture_takes_long_the_old_one_helps_out(self) -> None:
        show = Show()
        old = show.worker("old")
        show.run(2)
        new = show.worker("new", replace=True)
        show.freeze(new)
        show.run(9)
        assert old.of(Retired) == []
        assert len(show.since(8.2)) > 10
        show.thaw(new)
        show.run(1)
        assert old.of(Retired)

    def test_without_a_camera_it_takes_over_at_once(self) -> None:
        show = Show()
        old = show.worker("old")
        show.run(4, camera=False)
        show.worker("new", replace=True)
        show.run(1, camera=False)
        assert old.of(Retired)

    def test_one_that_does_not_leave_is_given_nothing_more(self) -> None:
        show = Show()
        old = show.worker("old")
        show.run(1)
        show.worker("new", replace=True)
        show.run(0.5)
        given = len(old.of(Delivery))
        show.run(12)
        assert len(old.of(Delivery)) == given
        assert gap(show) < 3 * STEP

    def test_with_nobody_to_replace_it_is_a_worker_like_any_other(self) -> None:
        show = Show()
        show.worker("new", replace=True)
        show.run(1)
        assert show.status["state"] == "live"
        assert len(show.seen) >= 9


class TestOnTheWire:
    def test_a_hello_may_say_it_and_a_worker_hears_it(self) -> None:
        dialect = NativeDialect("worker", Limits())
        joined, *_ = dialect.receive('{"type": "hello", "version": 1, "replace": true}')
        assert joined.worker.replace  # type: ignore[union-attr]
        assert dialect.render(Retired("SDXL")) == ['{"type":"retire","by":"SDXL"}']

    @pytest.mark.parametrize("word", ["1", "null", '"yes"'])
    def test_anything_but_true_is_no(self, word: str) -> None:
        dialect = NativeDialect("worker", Limits())
        joined, *_ = dialect.receive(f'{{"type": "hello", "version": 1, "replace": {word}}}')
        assert not joined.worker.replace  # type: ignore[union-attr]


class TestClockSteps:
    """UNIX time is set; the show goes by the other clock."""

    @pytest.mark.parametrize("hours", [1, -1])
    def test_nothing_is_lost_and_no_age_is_below_zero(self, hours: int) -> None:
        show = Show(Fallback("pass", 1))
        off = 0

        def unix() -> int:
            return show.clock.ns + off

        hub = Hub(Limits(), clock_ns=show.clock, unix_ns=unix, call_later=show.clock.call_later)
        show.hub, show.stream = hub, hub.stream("default")
        show.stream.join(show.producer)
        show.stream.join(show.viewer, ("output",), None)
        show.worker("a")
        show.run(3)
        off = hours * 3600 * SECOND
        before = len(show.seen)
        show.run(3)
        assert len(show.seen) == before + 30
        assert show.status["state"] == "live"
        assert (show.status["age_ms"] or 0) >= 0
        show.check_order()


def test_one_hiccup_does_not_blunt_the_watch() -> None:
    show = Show(Fallback("pass", 1))
    worker = show.worker("a")
    show.run(6)
    show.freeze(worker)
    show.run(2)
    show.thaw(worker)
    show.run(5)
    show.freeze(worker)
    show.run(6)
    assert show.status["state"] == "lost"
    assert show.seen[-1][1].stand_in


def test_one_that_was_slow_once_takes_over_from_one_that_falls_silent() -> None:
    """The slow one was needed once only, for its first picture, so nobody knew better."""
    show = Show(Fallback("hold"))
    fast = show.worker("fast")
    show.run(3)
    slow = show.worker("slow")
    show.freeze(fast)
    show.freeze(slow)
    show.run(2.8)
    show.thaw(fast)
    show.run(0.3)
    show.thaw(slow)
    show.run(0.2)  # so that the accident of the fast one is among its last results, too
    answered = len(show.seen)
    show.freeze(fast)
    show.run(6)
    quiet = max(b - a for (a, _), (b, _) in pairwise(show.seen[answered - 1 :]))
    assert quiet < 2.5
    show.check_order()
