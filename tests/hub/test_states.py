"""What people are told about a stream and its workers."""

from dataclasses import replace
from typing import Any

import pytest

from dreamrelay.hub import ON_AIR_NS
from dreamrelay.protocol.messages import SourceReported, StatusChanged, StatusReceived, WorkerState
from tests.fakes.clock import SECOND
from tests.fakes.hub import HELLO, Room, given_to, picture


class TestStates:
    def test_from_no_worker_to_lost(self, room: Room) -> None:
        viewer = room.viewer()
        assert viewer.last(StatusChanged).status["state"] == "no-worker"
        worker = room.worker()
        assert viewer.last(StatusChanged).status["state"] == "loading"
        room.send(room.producer())
        room.answer(worker, 1)
        assert viewer.last(StatusChanged).status["state"] == "live"
        room.stream.leave(worker)
        room.clock.advance(5)
        room.stream.tick()
        status = viewer.last(StatusChanged).status
        assert (status["state"], status["held"], status["fps_out"]) == ("lost", True, 0.0)
        assert room.take(room.viewer()) == 1  # the last picture is held for whoever comes
        room.worker()
        assert viewer.last(StatusChanged).status["state"] == "loading"

    @pytest.mark.parametrize("state", ["loading", "warming", "live", "paused", "error"])
    def test_what_a_worker_says(self, room: Room, state: WorkerState) -> None:
        viewer, worker = room.viewer(), room.worker()
        room.stream.report(worker, StatusReceived(state, "why", 0.5))
        status = viewer.last(StatusChanged).status
        assert (status["state"], status["text"], status["fraction"]) == (state, "why", 0.5)
        assert (status["model"], status["device"], status["engine"]) == ("pocket", "cpu", "engine")
        assert status["licence"] == {}, "it said nothing of it"

    def test_the_licence_of_a_workers_model(self, room: Room) -> None:
        viewer, licence = room.viewer(), {"name": "MIT", "terms": "", "link": ""}
        room.worker(hello=replace(HELLO, licence=licence))
        assert viewer.last(StatusChanged).status["licence"] == licence

    def test_the_best_of_several_workers_counts(self, room: Room) -> None:
        first, second = room.worker(), room.worker()
        room.stream.report(first, StatusReceived("error", "out of memory"))
        room.stream.report(second, StatusReceived("live"))
        assert room.stream.state == "live"
        room.stream.leave(second)
        assert room.stream.status()["text"] == "out of memory"

    def test_the_last_words_of_a_worker_that_failed_stay(self, room: Room) -> None:
        worker = room.worker()
        room.stream.report(worker, StatusReceived("error", "no such model"))
        room.stream.leave(worker)
        assert room.stream.status()["text"] == "no such model"
        room.worker()
        assert room.stream.status()["text"] == ""

    def test_a_picture_on_its_way_does_not_end_a_pause(self, room: Room) -> None:
        worker = room.worker()
        room.send(room.producer())
        room.stream.report(worker, StatusReceived("paused"))
        room.answer(worker, 1)
        assert room.stream.state == "paused"

    def test_a_worker_in_error_gets_nothing_until_it_recovers(self, room: Room) -> None:
        worker, producer = room.worker(1), room.producer()
        room.stream.report(worker, StatusReceived("error", "no"))
        room.send(producer)
        assert given_to(worker) == []
        room.stream.report(worker, StatusReceived("live"))
        assert given_to(worker) == [1]

    def test_status_is_told_when_something_changed_and_once_a_second(self, room: Room) -> None:
        viewer, producer = room.viewer(), room.producer()
        before = len(viewer.of(StatusChanged))
        room.send(producer, 20)
        assert len(viewer.of(StatusChanged)) == before
        room.hub.tick()
        assert len(viewer.of(StatusChanged)) == before + 1

    def test_a_producer_says_why_there_is_no_picture_and_that_it_is_over(self, room: Room) -> None:
        producer, viewer = room.producer(), room.viewer()

        def seen() -> Any:
            return viewer.last(StatusChanged).status["input_text"]

        assert seen() == ""
        room.send(producer)
        room.stream.report_source(producer, SourceReported("away", "the webcam was pulled out"))
        assert seen() == "the webcam was pulled out"
        room.send(producer)  # a card that says so; only its own word ends it
        assert seen() == "the webcam was pulled out"
        room.stream.report_source(producer, SourceReported("live", "the webcam was pulled out"))
        assert seen() == ""
        room.stream.report_source(producer, SourceReported("away"))
        assert seen() == "its source gives no pictures"
        room.stream.leave(producer)
        assert seen() == ""
        room.stream.report_source(producer, SourceReported("away", "nobody is there to say this"))
        assert room.stream.status()["input_text"] == ""

    def test_the_trouble_of_a_producer_is_no_news_while_another_one_sends(self, room: Room) -> None:
        first, second, third = (room.producer() for _ in range(3))

        def seen() -> Any:
            return room.stream.status()["input_text"]

        room.stream.report_source(first, SourceReported("away", "no screen"))
        room.stream.report_source(second, SourceReported("away", "no camera"))
        assert seen() == "no camera", "who spoke last"
        room.stream.report_source(first, SourceReported("away", "still no screen"))
        assert seen() == "still no screen"
        room.send(third)
        assert seen() == ""
        room.clock.advance(ON_AIR_NS / SECOND + 0.1)
        assert seen() == "still no screen", "the third has gone silent"
        room.send(second)
        assert seen() == "no camera", "who is on air"
        room.stream.leave(second)
        assert seen() == "still no screen"

    def test_rates_and_age(self, room: Room) -> None:
        producer, worker = room.producer(), room.worker(100)
        for seq in range(1, 21):
            room.clock.advance(0.1)
            room.stream.publish(picture(captured_ns=room.clock.ns), "input", producer)
            room.clock.advance(0.0)
            room.stream.publish(
                picture(seq, captured_ns=room.clock.ns - SECOND // 20), "output", worker
            )
        status = room.stream.status()
        assert (status["fps_in"], status["fps_out"]) == (10.0, 10.0)
        assert status["age_ms"] == 50.0
