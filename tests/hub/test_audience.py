"""What a worker hears about who looks."""

import pytest

from dreamrelay.hub import IDLE_NS
from dreamrelay.protocol.messages import AudienceChanged, Delivery, StatusChanged, StatusReceived
from tests.fakes.clock import SECOND
from tests.fakes.hub import BOTH, HELLO, Room, live, picture, told


class TestAudience:
    """What a worker may paint on when nothing comes in, and whether anybody looks."""

    def pass_seconds(self, room: Room, seconds: int) -> None:
        for _ in range(seconds):
            room.clock.advance(1)
            room.hub.tick()

    def test_a_worker_hears_who_looks_at_the_output(self, room: Room) -> None:
        worker = live(room, room.worker())
        room.viewer(("input",))
        viewers = [room.viewer(), room.viewer(BOTH)]
        room.stream.leave(viewers[0])
        self.pass_seconds(room, 3)
        assert told(worker) == [(0, False), (0, True), (1, True), (2, True), (1, True)]

    def test_one_live_worker_is_to_paint(self, room: Room) -> None:
        loading, first, second = room.worker(), live(room, room.worker()), live(room, room.worker())
        assert [told(w)[-1][1] for w in (loading, first, second)] == [False, True, False]
        room.stream.report(first, StatusReceived("error", "no memory"))
        assert [told(w)[-1][1] for w in (loading, first, second)] == [False, False, True]
        room.stream.leave(second)
        live(room, loading)
        assert told(loading)[-1] == (0, True)

    def test_who_says_hello_again_is_told_again(self, room: Room) -> None:
        worker = live(room, room.worker())
        room.stream.join(worker, (), 1, HELLO)
        assert told(worker) == [(0, False), (0, True), (0, True)]

    def test_an_input_ends_it_before_it_is_delivered_and_silence_begins_it(
        self, room: Room
    ) -> None:
        worker, producer = live(room, room.worker(9)), room.producer()
        assert told(worker)[-1] == (0, True)
        room.send(producer)
        kinds = [type(notice) for notice in worker.heard]
        assert told(worker)[-1] == (0, False)
        last_word = len(kinds) - kinds[::-1].index(AudienceChanged)
        assert last_word <= kinds.index(Delivery)
        room.clock.advance(IDLE_NS / SECOND)
        room.hub.tick()
        assert not told(worker)[-1][1]
        self.pass_seconds(room, 1)
        assert told(worker)[-1][1]

    @pytest.mark.parametrize(("stays", "waited"), [(True, 14), (False, 2)])
    def test_a_slow_producer_is_waited_for_while_it_is_there(
        self, room: Room, stays: bool, waited: int
    ) -> None:
        worker, producer = live(room, room.worker(9)), room.producer()
        for _ in range(2):
            room.send(producer)
            self.pass_seconds(room, 5)
        room.send(producer)
        if not stays:
            room.stream.leave(producer)
        self.pass_seconds(room, waited)
        assert not told(worker)[-1][1]
        self.pass_seconds(room, 2)
        assert told(worker)[-1][1]

    def test_a_long_pause_is_no_slowness(self, room: Room) -> None:
        worker, producer = live(room, room.worker(9)), room.producer()
        room.send(producer)
        self.pass_seconds(room, 600)
        room.send(producer)
        self.pass_seconds(room, 40)
        assert told(worker)[-1][1]

    def test_what_was_painted_comes_too_late_once_there_is_an_input(self, room: Room) -> None:
        worker, viewer = live(room, room.worker(9)), room.viewer(credit=None)
        room.answer(worker, 0)
        assert room.take(viewer) == 1
        producer = room.producer()
        room.send(producer)
        room.answer(worker, 0)
        assert room.take(viewer) is None
        assert room.stream.late == 1
        room.answer(worker, 2)
        assert room.take(viewer) == 2, "its number was not taken by what was painted"
        room.stream.leave(producer)
        self.pass_seconds(room, 3)
        room.answer(worker, 0)
        assert room.take(viewer) == 3

    def test_painted_pictures_have_no_age(self, room: Room) -> None:
        worker, producer = live(room, room.worker(9)), room.producer()

        def paint() -> None:
            room.answer(worker, 0)
            room.clock.advance(0.1)

        paint()
        paint()
        status = room.stream.status()
        assert (status["dreaming"], status["age_ms"]) == (True, None)
        assert status["fps_out"] > 0
        assert room.stream.tracks["output"].hops.age.count == 0
        for seq in (3, 4):
            room.stream.publish(picture(captured_ns=room.clock.ns), "input", producer)
            room.clock.advance(0.05)
            made = picture(seq, captured_ns=room.clock.ns - SECOND // 20)
            room.stream.publish(made, "output", worker)
        status = room.stream.status()
        assert (status["dreaming"], status["age_ms"]) == (False, 50.0)

    def test_everybody_hears_at_once_when_a_source_takes_over(self, room: Room) -> None:
        worker, viewer = live(room, room.worker(9)), room.viewer()
        for _ in range(2):
            room.answer(worker, 0)
            self.pass_seconds(room, 1)
        assert viewer.last(StatusChanged).status["dreaming"]
        room.send(room.producer())
        assert not viewer.last(StatusChanged).status["dreaming"]

    def test_a_page_that_is_hidden_does_not_look(self, room: Room) -> None:
        worker, viewer = live(room, room.worker(9)), room.viewer(credit=1)
        room.viewer(credit=None)  # MJPEG: it reads, or it is cut off
        for _ in range(2):
            room.answer(worker, 0)
            room.take(viewer)
        self.pass_seconds(room, 1)
        assert told(worker)[-1] == (2, True), "one second may pass between two pictures"
        self.pass_seconds(room, 1)
        assert told(worker)[-1] == (1, True)
        room.stream.grant(viewer, 1)
        assert room.take(viewer) is not None
        self.pass_seconds(room, 1)
        assert told(worker)[-1] == (2, True)
