"""Single pictures, and pictures to imitate."""

from dataclasses import replace

import pytest

from dreamrelay.errors import EngineError, ParameterError
from dreamrelay.hub import MAX_REQUESTS, MAX_TRIES
from dreamrelay.protocol.messages import (
    Answered,
    Delivery,
    ReferenceChanged,
    RequestOffered,
    StatusChanged,
    StatusReceived,
    Unanswered,
)
from tests.fakes.hub import HELLO, Room, picture


class TestRequests:
    def test_an_answer_is_private(self, room: Room) -> None:
        worker, viewer, asker = room.worker(), room.viewer(), room.peer("producer", reply_limit=700)
        room.stream.request(picture(), {"prompt": "a fox"}, 3, asker)
        offered = worker.last(RequestOffered)
        assert (offered.patch, offered.max_bytes) == ({"prompt": "a fox"}, 700)
        assert offered.packet.private
        room.answer(worker, offered.packet.seq, private=True)
        (answered,) = asker.heard
        assert (answered.ticket, answered.prompt) == (3, "a fox")
        assert room.take(viewer) is None
        assert room.stream.tracks["output"].last is None

    def test_a_worker_that_forgets_the_flag_shows_nothing_either(self, room: Room) -> None:
        worker, viewer, asker = room.worker(), room.viewer(), room.peer("producer")
        room.stream.request(picture(), {}, 1, asker)
        seq = worker.last(RequestOffered).packet.seq
        room.stream.leave(asker)
        room.answer(worker, seq)
        assert room.take(viewer) is None

    def test_the_prompt_in_force_is_named(self, room: Room) -> None:
        worker, asker = room.worker(), room.peer("producer")
        room.stream.update_parameters({"prompt": "in force"}, "rest")
        room.stream.request(picture(), {}, 1, asker)
        room.answer(worker, worker.last(RequestOffered).packet.seq)
        assert asker.last(Answered).prompt == "in force"

    def test_without_a_worker(self, room: Room) -> None:
        asker = room.producer()
        room.stream.request(picture(), {}, 1, asker)
        assert "python main.py" in str(asker.last(Unanswered).error)

    def test_with_a_broken_worker(self, room: Room) -> None:
        worker, asker = room.worker(), room.peer("producer")
        room.stream.report(worker, StatusReceived("error", "out of memory"))
        room.stream.request(picture(), {}, 1, asker)
        assert "out of memory" in str(asker.last(Unanswered).error)

    def test_a_bad_patch(self, room: Room) -> None:
        worker, asker = room.worker(), room.peer("producer")
        room.stream.request(picture(), {"prompt": "x" * 30}, 1, asker)
        assert isinstance(asker.last(Unanswered).error, ParameterError)
        assert worker.of(RequestOffered) == []

    def test_too_many(self, room: Room) -> None:
        room.worker(0)
        asker = room.peer("producer")
        for ticket in range(MAX_REQUESTS + 1):
            room.stream.request(picture(), {}, ticket, asker)
        assert [n.ticket for n in asker.heard] == [MAX_REQUESTS]

    def test_they_do_not_stop_the_stream(self, room: Room) -> None:
        worker, asker = room.worker(0), room.peer("producer")
        for ticket in range(4):
            room.stream.request(picture(), {}, ticket, asker)
        room.send(room.producer())
        room.stream.grant(worker, 2)
        assert [type(n) for n in worker.of(RequestOffered, Delivery)] == [RequestOffered, Delivery]

    def test_failure(self, room: Room) -> None:
        workers, asker = [room.worker(), room.worker()], room.peer("producer")
        room.stream.request(picture(), {}, 1, asker)
        (busy,) = [w for w in workers if w.of(RequestOffered)]
        (other,) = [w for w in workers if w is not busy]
        seq = busy.last(RequestOffered).packet.seq
        room.stream.fail(seq, "mine now", other)
        assert asker.heard == []
        room.stream.fail(seq, "no memory", busy)
        room.stream.fail(seq, "no memory", busy)
        assert [str(n.error) for n in asker.of(Unanswered)] == ["no memory"]

    def test_another_worker_cannot_answer(self, room: Room) -> None:
        workers, asker = [room.worker(), room.worker()], room.peer("producer")
        room.stream.request(picture(), {}, 1, asker)
        (busy,) = [w for w in workers if w.of(RequestOffered)]
        (other,) = [w for w in workers if w is not busy]
        room.answer(other, busy.last(RequestOffered).packet.seq, private=True)
        assert asker.heard == []

    def test_when_a_worker_dies_another_begins_anew_in_order(self, room: Room) -> None:
        first, asker = room.worker(2), room.peer("producer")
        for ticket in (1, 2, 3):
            room.stream.request(picture(), {}, ticket, asker)
        room.stream.leave(first)
        second = room.worker(3)
        for notice in second.of(RequestOffered):
            room.answer(second, notice.packet.seq, private=True)
        assert [n.ticket for n in asker.of(Answered)] == [1, 2, 3]

    def test_a_request_that_kills_workers_is_given_up(self, room: Room) -> None:
        asker = room.peer("producer")
        worker = room.worker(1)
        room.stream.request(picture(), {}, 1, asker)
        for _ in range(MAX_TRIES - 1):
            room.stream.leave(worker)
            worker = room.worker(1)
            assert worker.of(RequestOffered)
        room.stream.leave(worker)
        assert "lost" in str(asker.last(Unanswered).error)
        assert room.worker(1).of(RequestOffered) == []

    @pytest.mark.parametrize("credit", [0, 1])
    def test_nobody_waits_for_ever(self, room: Room, credit: int) -> None:
        worker, asker = room.worker(credit), room.peer("producer")
        room.stream.request(picture(), {}, 1, asker)
        room.clock.advance(61)
        room.stream.tick()
        assert "60 s" in str(asker.last(Unanswered).error)
        if credit:
            room.answer(worker, worker.last(RequestOffered).packet.seq, private=True)
        room.stream.tick()
        assert len(asker.heard) == 1


IMITATES = replace(HELLO, reference=True)


class TestReference:
    """A picture to imitate."""

    def test_who_can_is_told_and_the_status_says_so(self, room: Room) -> None:
        viewer, able, unable = room.viewer(), room.worker(1, IMITATES), room.worker()
        room.stream.refer(picture(7))
        assert able.last(ReferenceChanged).packet == picture(7)
        assert not unable.of(ReferenceChanged)
        assert viewer.last(StatusChanged).status["reference"]
        room.stream.refer(None)
        assert able.last(ReferenceChanged).packet is None
        assert not viewer.last(StatusChanged).status["reference"]

    def test_a_worker_that_comes_later_is_told(self, room: Room) -> None:
        room.stream.refer(picture(7))
        assert room.worker(1, IMITATES).last(ReferenceChanged).packet == picture(7)
        assert not room.worker().of(ReferenceChanged)

    def test_nobody_can(self, room: Room) -> None:
        room.worker()
        with pytest.raises(EngineError, match="--ip_adapter"):
            room.stream.refer(picture(7))
        assert room.stream.reference is None
        room.stream.refer(None)
