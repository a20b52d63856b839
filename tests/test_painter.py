"""Pictures from the prompt: who paints them, and who does when that one falls silent.

The clock is a number; the workers paint ten pictures a second while they have the turn.
"""

from itertools import pairwise

import pytest

from dreamrelay.hub.timing import ON_WIRE
from dreamrelay.protocol.messages import AudienceChanged, ClockReported, Delivery, StatusReceived
from tests.fakes.clock import SECOND
from tests.fakes.hub import FakePeer, picture
from tests.test_lost import STEP, Show


class Painting(Show):
    """A show in which nothing comes in, and workers paint when they may."""

    def paint(self, seconds: float) -> None:
        for _ in range(round(seconds / STEP)):
            for worker in self.workers:
                if self.may(worker) and worker.id in self.serving:
                    self.stream.publish(picture(0), "output", worker)
            self.run(STEP, camera=False)

    @property
    def workers(self) -> list[FakePeer]:
        peers = self.stream.peers.values()
        return [peer for peer in peers if isinstance(peer, FakePeer) and peer.role == "worker"]

    def may(self, worker: FakePeer) -> bool:
        return bool(worker.last(AudienceChanged).idle)

    def gap(self) -> float:
        return max(b - a for (a, _), (b, _) in pairwise(self.seen))


def test_one_that_falls_silent_while_it_paints_loses_the_turn() -> None:
    show = Painting()
    first, second = show.worker("a"), show.worker("b")
    show.paint(5)
    assert (show.may(first), show.may(second)) == (True, False)
    show.freeze(first)
    show.paint(5)
    assert (show.may(first), show.may(second)) == (False, True)
    assert show.gap() < 4
    assert show.status["state"] == "live"
    show.check_order()


def test_inputs_go_to_the_one_that_answers() -> None:
    show = Painting()
    first, _ = show.worker("a"), show.worker("b")
    show.paint(5)
    show.freeze(first)
    show.paint(5)
    before = len(show.seen)
    show.run(3)
    assert first.of(Delivery) == []
    assert len(show.seen) >= before + 28
    assert show.gap() < 4
    show.check_order()


def test_one_that_is_heard_again_has_its_share_again() -> None:
    show = Painting()
    first, _ = show.worker("a"), show.worker("b")
    show.paint(5)
    show.freeze(first)
    show.paint(5)
    show.thaw(first)
    show.stream.publish(picture(0), "output", first)  # what it was at
    show.run(3)
    assert first.of(Delivery)
    show.check_order()


def test_one_whose_connection_outlives_its_silence_has_its_share_again() -> None:
    show = Painting()
    first, _ = show.worker("a"), show.worker("b")
    show.paint(5)
    show.freeze(first)
    show.paint(5)
    show.thaw(first)  # it had painted to the end and owes nothing
    show.paint(14)
    show.run(3)
    assert first.of(Delivery)


def test_one_that_is_alone_is_asked_again_and_again() -> None:
    show = Painting()
    only = show.worker("a")
    show.paint(5)
    show.freeze(only)
    show.paint(30)
    assert show.may(only)
    assert show.status["state"] == "live"
    show.thaw(only)
    show.paint(1)
    assert show.seen[-1][0] > 35


def test_when_the_other_one_leaves_the_silent_one_has_the_turn() -> None:
    show = Painting()
    first, second = show.worker("a"), show.worker("b")
    show.paint(5)
    show.freeze(first)
    show.paint(5)
    show.stream.leave(second)
    assert show.may(first)


def test_who_may_not_paint_passes_the_turn_on_and_is_not_lost() -> None:
    show = Painting()
    first, second = show.worker("a"), show.worker("b")
    show.freeze(first)
    show.paint(20)
    assert show.may(second)
    assert len(show.seen) > 50
    show.thaw(first)
    show.run(2)
    assert first.of(Delivery)


def test_if_all_are_silent_they_have_the_turn_one_after_the_other() -> None:
    show = Painting()
    workers = [show.worker(name) for name in "abc"]
    for worker in workers:
        show.freeze(worker)
    for _ in range(3):
        show.paint(60)
        assert sum(map(show.may, workers)) == 1
    show.thaw(workers[1])
    show.paint(60)
    assert show.may(workers[1])
    assert len(show.seen) > 100


def test_nobody_loses_the_turn_because_nobody_looks() -> None:
    show = Painting()
    first, second = show.worker("a"), show.worker("b")
    show.paint(5)
    show.stream.leave(show.viewer)
    show.freeze(first)
    for _ in range(30):
        show.clock.advance(1.0)
        show.hub.tick()
    assert (show.may(first), show.may(second)) == (True, False)


def test_one_that_is_stopped_gives_the_turn_away() -> None:
    show = Painting()
    first, second = show.worker("a"), show.worker("b")
    show.paint(5)
    show.stream.report(first, StatusReceived("paused", "stopped"))
    assert show.may(second)


class TestHeldUp:
    """Pictures of a camera that lay in a cable which was out."""

    @staticmethod
    def camera(error_ns: int = 0) -> Show:
        show = Show()
        show.worker("a")
        show.stream.timing.set_clock(show.producer, ClockReported(0, error_ns))
        show.run(3)
        return show

    @staticmethod
    def send(show: Show, ago: float) -> bool:
        before = show.status["seq_in"]
        taken = picture(captured_ns=show.clock.ns - round(ago * SECOND))
        show.stream.publish(taken, "input", show.producer)
        return bool(show.status["seq_in"] > before)

    def test_what_was_on_the_wire_is_left_out(self) -> None:
        show = self.camera()
        self.send(show, 0)
        show.run(3, camera=False)
        assert [self.send(show, 3) for _ in range(ON_WIRE)] == [False] * ON_WIRE
        assert self.send(show, 0)

    def test_no_more_of_them_than_can_be_there(self) -> None:
        show = self.camera()
        self.send(show, 0)
        show.run(3, camera=False)
        assert [self.send(show, 3) for _ in range(4)] == [False] * ON_WIRE + [True, True]

    def test_a_camera_that_was_never_silent_may_be_slow(self) -> None:
        show = self.camera()
        for _ in range(5):
            show.run(STEP, camera=False)
            assert self.send(show, 3)

    @pytest.mark.parametrize("ago", [0.0, 1.5, 3600.0, -3600.0])
    def test_a_stamp_that_says_nothing_of_a_cut_counts_nothing(self, ago: float) -> None:
        show = self.camera()
        self.send(show, 0)
        show.run(3, camera=False)
        assert self.send(show, ago)

    def test_where_the_clock_is_not_known_all_is_taken(self) -> None:
        show = self.camera(error_ns=5 * SECOND)
        self.send(show, 0)
        show.run(3, camera=False)
        assert self.send(show, 3)
