"""An engine that goes on while a picture comes down: the worker begins the next frame meanwhile."""

import base64
import json
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from websockets.sync.client import connect

from dreamrelay.config import WorkerSettings
from dreamrelay.errors import EngineError
from dreamrelay.worker import Worker
from tests.fakes.engines import COLOURS, AheadEngine
from tests.fakes.peers import People
from tests.fakes.running import Running
from tests.support import RunningRelay, mean_colour, picture, until

CYAN = (0, 255, 255)
"""Inverted red."""

Work = Callable[..., Running[Worker]]


class Door:
    """Where the engine waits at each frame until that one is let through."""

    def __init__(self) -> None:
        self.at = 0
        self._open = 0
        self._changed = threading.Condition()

    def __call__(self, number: int) -> None:
        with self._changed:
            self.at = number
            assert self._changed.wait_for(lambda: self._open >= number, timeout=60)

    def let(self, number: int = 1000) -> None:
        """Let frames up to that one through."""
        with self._changed:
            self._open = number
            self._changed.notify_all()


@pytest.fixture
def work(relay: RunningRelay) -> Iterator[Work]:
    """Start a worker: ``work(engine)``."""
    with ExitStack() as stack:

        def start(engine: AheadEngine, stream: str = "default", **options: Any) -> Running[Worker]:
            settings = WorkerSettings(
                **{"websocket_uri": relay.websocket, "stream": stream, **options},
                osc_port=None,
                viewer="off",
                text_to_picture="off",
                matting="off",
            )
            running = Running(Worker(settings, engine=engine))
            stack.callback(running.stop)
            return running

        yield start


@pytest.fixture
def people(relay: RunningRelay) -> Iterator[People]:
    with People(relay.websocket) as people:
        yield people


@pytest.fixture
def doors() -> Iterator[tuple[Door, Door]]:
    """Before a frame is begun, and before its picture is handed out; open in the end."""
    begin, land = Door(), Door()
    yield begin, land
    begin.let()
    land.let()


def is_live(people: People) -> None:
    until(lambda: people.viewer.status.get("state") == "live", what="a worker that is live")


def have_come(running: Running[Worker], count: int) -> None:
    lanes = running.program.lanes
    until(lambda: sum(lane.statistics.ready for lane in lanes) == count, what=f"{count} to come")


def close_to(data: bytes, colour: tuple[int, int, int]) -> bool:
    return all(abs(a - b) < 40 for a, b in zip(mean_colour(data), colour, strict=True))


def test_a_frame_that_waits_is_begun_first_and_each_picture_is_that_of_its_parameters(
    work: Work, people: People, doors: tuple[Door, Door]
) -> None:
    begin, land = doors
    engine = AheadEngine(on_infer=begin, on_land=land)
    running = work(engine)
    is_live(people)
    viewer = people.viewer
    people.producer.send(picture("red"), 1)
    until(lambda: begin.at == 1)
    people.producer.send(picture("red"), 2)
    have_come(running, 2)
    begin.let(1)
    until(lambda: begin.at == 2, what="the second begun before the first is waited for")
    assert engine.log == ["begun 1"]
    assert land.at == 0
    viewer.link.patch({"prompt": "blue"}, "test")
    until(lambda: viewer.values.get("prompt") == "blue")
    revision = viewer.has("parameters")[-1]["revision"]
    people.producer.send(picture("red"), 3)  # on the worker's connection it comes after the patch
    have_come(running, 3)
    begin.let(2)
    until(lambda: land.at == 1)
    assert begin.at == 2, "never more than one ahead"
    begin.let(3)
    for number in range(1, 4):
        land.let(number)
        until(lambda: len(viewer.results) == number)  # noqa: B023 - waited for at once
    assert engine.log == ["begun 1", "begun 2", "landed 1", "begun 3", "landed 2", "landed 3"]
    assert [packet.seq for packet in viewer.results] == [1, 2, 3]
    assert [packet.revision >= revision for packet in viewer.results] == [False, False, True]
    for packet, colour in zip(viewer.results, [CYAN, CYAN, COLOURS["blue"]], strict=True):
        assert close_to(packet.data, colour)
    assert len(engine.threads) == 1
    # Of what waits, the newest is begun; where nothing waits, nothing is waited for.
    begin.let()
    land.let()
    for seq in (4, 5):
        people.producer.send(picture("red"), seq)
        until(lambda: viewer.results[-1].seq == seq)  # noqa: B023 - waited for at once
    assert engine.log[6:] == ["begun 4", "landed 4", "begun 5", "landed 5"]


def test_newest_wins_while_a_picture_is_under_way(
    work: Work, people: People, doors: tuple[Door, Door]
) -> None:
    begin, land = doors
    running = work(AheadEngine(on_infer=begin, on_land=land))
    is_live(people)
    land.let()
    people.producer.send(picture("red"), 1)
    until(lambda: begin.at == 1)
    for seq in (2, 3, 4):
        people.producer.send(picture("red"), seq)
        have_come(running, seq)
    begin.let()
    until(lambda: [packet.seq for packet in people.viewer.results][-1:] == [4])
    assert not {2, 3} & {packet.seq for packet in people.viewer.results}


def test_where_the_engine_would_wait_anyway_it_is_asked_the_plain_way(
    work: Work, people: People
) -> None:
    engine = AheadEngine()
    engine.overlapping = False
    work(engine)
    is_live(people)
    people.producer.send(picture("red"), 1)
    until(lambda: people.viewer.results)
    assert engine.inferred == 1
    assert not engine.log


@pytest.mark.parametrize("phase", ["begin", "land"])
def test_a_frame_that_fails_costs_itself_only(
    work: Work, people: People, doors: tuple[Door, Door], phase: str
) -> None:
    begin, land = doors

    def failing(door: Door, here: bool) -> Callable[[int], None]:
        def passed(number: int) -> None:
            door(number)
            if here and number == 2:
                raise EngineError("the second fails")

        return passed

    engine = AheadEngine(
        on_infer=failing(begin, phase == "begin"), on_land=failing(land, phase == "land")
    )
    running = work(engine)
    is_live(people)
    viewer = people.viewer
    for number in (1, 2, 3):
        people.producer.send(picture("red"), number)
        if number == 1:
            until(lambda: begin.at == 1)
        have_come(running, number)
        begin.let(number - 1)
        until(lambda: begin.at == number)  # noqa: B023 - waited for at once
        land.let(number - 1)
        if number == 2:
            assert land.at == 0
    begin.let()
    land.let()
    until(lambda: viewer.results[-1:] and viewer.results[-1].seq == 3)
    until(lambda: viewer.status.get("text") == "", what="nothing that is wrong any more")
    assert "the second fails" in [status.get("text") for status in viewer.has("status")]
    assert running.program.statistics.failed == 1
    assert {packet.seq for packet in viewer.results} <= {1, 3}
    assert running.alive


@pytest.mark.parametrize("phase", ["begin", "begin ahead", "land ahead", "land"])
def test_it_can_be_stopped_in_each_phase(
    work: Work, people: People, doors: tuple[Door, Door], phase: str
) -> None:
    begin, land = doors
    engine = AheadEngine(on_infer=begin, on_land=land)
    running = work(engine)
    is_live(people)
    people.producer.send(picture("red"), 1)
    until(lambda: begin.at == 1)
    if phase == "land":
        begin.let(1)
        until(lambda: land.at == 1)
    elif phase != "begin":
        people.producer.send(picture("red"), 2)
        have_come(running, 2)
        begin.let(1)
        until(lambda: begin.at == 2)
        if phase == "land ahead":
            begin.let(2)
            until(lambda: land.at == 1)
    running.program.stop()
    begin.let()
    land.let()
    assert running.ends() is None
    assert engine.closed == 1


def img2img(relay: RunningRelay, prompt: str) -> bytes:
    with connect(relay.websocket, compression=None) as websocket:
        image = base64.b64encode(picture("white")).decode()
        websocket.send(json.dumps({"type": "img2img", "image": image, "prompt": prompt}))
        while (answer := json.loads(websocket.recv(60)))["type"] == "welcome":
            pass
        return base64.b64decode(answer["image"])


def test_a_request_comes_after_the_picture_that_is_under_way(
    relay: RunningRelay, work: Work, people: People, doors: tuple[Door, Door]
) -> None:
    begin, land = doors
    engine = AheadEngine(on_infer=begin, on_land=land)
    running = work(engine)
    is_live(people)
    people.producer.send(picture("red"), 1)
    until(lambda: begin.at == 1)
    with ThreadPoolExecutor(1) as pool:
        asked = pool.submit(img2img, relay, "green")
        have_come(running, 2)
        begin.let()
        until(lambda: land.at == 1)
        assert engine.log == ["begun 1"]
        land.let()
        assert close_to(asked.result(60), COLOURS["green"])
    until(lambda: people.viewer.results)
    assert close_to(people.viewer.results[0].data, CYAN)
    assert engine.log == ["begun 1", "landed 1", "once"]


def test_of_two_streams_one_is_begun_while_the_picture_of_the_other_comes_down(
    relay: RunningRelay, work: Work, doors: tuple[Door, Door]
) -> None:
    begin, land = doors
    engine = AheadEngine(on_infer=begin, on_land=land)
    running = work(engine, "a,b")
    land.let()
    with People(relay.websocket, "a") as a, People(relay.websocket, "b") as b:
        for those in (a, b):
            is_live(those)
        lanes: list[Any] = running.program.lanes
        b.viewer.link.patch({"prompt": "blue"}, "test")
        until(lambda: lanes[1].engine.parameters["prompt"] == "blue")
        a.producer.send(picture("red"), 1)
        until(lambda: begin.at == 1)
        b.producer.send(picture("red"), 1)
        have_come(running, 2)
        begin.let()
        (of_a,) = until(lambda: a.viewer.results)
        (of_b,) = until(lambda: b.viewer.results)
    assert close_to(of_a.data, CYAN)
    assert close_to(of_b.data, COLOURS["blue"])
    assert engine.log == ["begun 1", "begun 1", "landed 1", "landed 1"]


# A frame comes while the picture of the one before is under way -----------------------------------


@pytest.fixture
def way() -> Iterator[Door]:
    """Where who waits for a picture to come down waits; open in the end."""
    door = Door()
    yield door
    door.let()


def test_a_frame_that_comes_while_a_picture_is_waited_for_is_begun(
    work: Work, people: People, way: Door
) -> None:
    engine = AheadEngine(on_way=way)
    running = work(engine)
    is_live(people)
    viewer = people.viewer
    people.producer.send(picture("red"), 1)
    until(lambda: way.at == 1, what="somebody who waits for the first picture")
    viewer.link.patch({"prompt": "blue"}, "test")
    until(lambda: viewer.values.get("prompt") == "blue")
    people.producer.send(picture("red"), 2)
    until(lambda: engine.log == ["begun 1", "begun 2"], what="the second begun meanwhile")
    for seq in (3, 4):  # of these the newest wins: never is more than one begun ahead
        people.producer.send(picture("red"), seq)
        have_come(running, seq)
    assert engine.log == ["begun 1", "begun 2"]
    assert not viewer.results
    for number in range(1, 4):
        way.let(number)
        until(lambda: len(viewer.results) == number)  # noqa: B023 - waited for at once
    assert [packet.seq for packet in viewer.results] == [1, 2, 4]
    assert engine.log == ["begun 1", "begun 2", "landed 1", "begun 3", "landed 2", "landed 3"]
    for packet, colour in zip(viewer.results, [CYAN, *[COLOURS["blue"]] * 2], strict=True):
        assert close_to(packet.data, colour)
    assert len(engine.threads) == 1


def test_values_that_come_while_a_picture_is_waited_for_are_not_those_of_that_picture(
    work: Work, people: People, way: Door
) -> None:
    engine = AheadEngine(on_way=way)
    work(engine)
    is_live(people)
    viewer = people.viewer
    people.producer.send(picture("red"), 1)
    until(lambda: way.at == 1)
    viewer.link.patch({"prompt": "blue"}, "test")
    until(lambda: engine.parameters["prompt"] == "blue", what="values in force meanwhile")
    revision = viewer.has("parameters")[-1]["revision"]
    way.let()
    (packet,) = until(lambda: viewer.results)
    assert close_to(packet.data, CYAN)
    assert packet.revision < revision


def test_a_frame_of_another_stream_is_begun_meanwhile(
    relay: RunningRelay, work: Work, way: Door
) -> None:
    engine = AheadEngine(on_way=way)
    work(engine, "a,b")
    with People(relay.websocket, "a") as a, People(relay.websocket, "b") as b:
        for those in (a, b):
            is_live(those)
        a.producer.send(picture("red"), 1)
        until(lambda: way.at == 1)
        b.producer.send(picture("red"), 1)
        until(lambda: engine.log == ["begun 1", "begun 1"])
        assert not a.viewer.results
        way.let()
        for those in (a, b):
            until(lambda: those.viewer.results)  # noqa: B023 - waited for at once
    assert engine.log == ["begun 1", "begun 1", "landed 1", "landed 1"]


def test_a_request_that_comes_meanwhile_waits_for_the_picture(
    relay: RunningRelay, work: Work, people: People, way: Door
) -> None:
    engine = AheadEngine(on_way=way)
    running = work(engine)
    is_live(people)
    people.producer.send(picture("red"), 1)
    until(lambda: way.at == 1)
    with ThreadPoolExecutor(1) as pool:
        asked = pool.submit(img2img, relay, "green")
        have_come(running, 2)
        assert "once" not in engine.log
        way.let()
        assert close_to(asked.result(60), COLOURS["green"])
    until(lambda: people.viewer.results)
    assert engine.log == ["begun 1", "landed 1", "once"]


def test_it_can_be_stopped_while_a_picture_is_waited_for(
    work: Work, people: People, way: Door
) -> None:
    engine = AheadEngine(on_way=way)
    running = work(engine)
    is_live(people)
    people.producer.send(picture("red"), 1)
    until(lambda: way.at == 1)
    running.program.stop()
    way.let()
    assert running.ends() is None
    assert engine.closed == 1


def test_the_last_picture_of_a_source_that_ends_is_waited_for(
    work: Work, way: Door, tmp_path: Path
) -> None:
    for at in range(3):
        (tmp_path / f"{at}.jpg").write_bytes(picture("red"))
    engine = AheadEngine(on_way=way)
    running = work(
        engine, websocket_uri="", source=f"directory://{tmp_path}?loop=false", sink=["null://"]
    )
    until(lambda: way.at == 1)
    way.let()
    assert running.ends() is None
    assert [line for line in engine.log if "landed" in line] == [f"landed {n}" for n in (1, 2, 3)]
    assert engine.closed == 1
