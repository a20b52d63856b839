"""What goes beside the pictures: maps, pictures to imitate, previews."""

import threading
from collections.abc import Callable
from typing import Any
from urllib.request import Request, urlopen

import numpy as np

from dreamrelay.codec import Frame
from dreamrelay.engines import Result
from dreamrelay.engines.ports import Mask, Token
from dreamrelay.errors import EngineError
from tests.fakes.engines import ScriptedEngine
from tests.fakes.peers import People, Person
from tests.fakes.workers import CYAN, Work, close_to, is_live
from tests.support import RunningRelay, picture, until


class Steered(ScriptedEngine):
    """Sees the frame's left half, imitates, shows previews, and changes its size by parameter."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.imitated: list[Frame | None] = []
        self.previews = 0
        self.seen: Frame | None = None
        self.newer: Callable[[], bool] = lambda: False
        self.show: Callable[[Frame, Any], None] = lambda frame, token: None

    @property
    def imitates(self) -> bool:
        return True

    def refer(self, picture: Frame | None) -> None:
        if picture is not None and picture.shape[0] < 8:
            raise EngineError("too small to imitate")
        self.imitated.append(picture)

    def attend(self, newer: Callable[[], bool], show: Callable[[Frame, Any], None]) -> None:
        self.newer, self.show = newer, show

    def control_map(self) -> Frame | None:
        return self.seen

    def infer(self, frame: Frame, token: Token, mask: Mask | None = None) -> Result[Token] | None:
        self.seen = np.full_like(frame, 255)
        for _ in range(self.previews):
            self.show(np.zeros_like(frame), token)
        return super().infer(frame, token, mask)


def test_what_steers_the_engine_is_sent_only_while_somebody_looks(
    relay: RunningRelay, people: People, work: Work
) -> None:
    work(relay.websocket, Steered())
    is_live(people.viewer)
    with Person(relay.websocket, track="control") as looker:
        people.producer.send(picture("red"), 1)
        packet, track = until(lambda: looker.packets)[0]
        assert track == "control"
        assert close_to(packet.data, (255, 255, 255))
        result = until(lambda: people.viewer.results)[0]
        assert (packet.seq, packet.captured_ns) == (result.seq, result.captured_ns)
    people.producer.send(picture("red"), 2)
    until(lambda: len(people.viewer.results) == 2)
    assert {track for _, track in people.viewer.packets} == {"input", "output"}


def test_a_picture_to_imitate_reaches_the_engine_and_is_taken_back(
    relay: RunningRelay, people: People, work: Work
) -> None:
    engine = Steered()
    work(relay.websocket, engine)
    is_live(people.viewer)
    url = f"{relay.url}streams/default/reference"
    put(url, picture("red", (40, 30)))
    (frame,) = until(lambda: engine.imitated)
    assert frame is not None
    assert frame.shape == (30, 40, 3)
    assert frame[15, 20].tolist()[0] > 200
    until(lambda: people.viewer.status["reference"])
    put(url, None)
    until(lambda: engine.imitated[1:] == [None])
    put(url, picture("red", (4, 4)))
    until(lambda: "too small to imitate" in people.viewer.status["text"])
    people.producer.send(picture("red"), 1)
    until(lambda: people.viewer.results)


def put(url: str, data: bytes | None) -> None:
    method = "PUT" if data else "DELETE"
    with urlopen(Request(url, data=data, method=method), timeout=10) as answer:
        assert answer.status == 200


def test_a_worker_that_comes_later_is_told_what_to_imitate(
    relay: RunningRelay, people: People, work: Work
) -> None:
    put(f"{relay.url}streams/default/reference", picture("red"))
    engine = Steered()
    work(relay.websocket, engine)
    until(lambda: engine.imitated)


def test_previews_are_shown_before_the_picture(
    relay: RunningRelay, people: People, work: Work
) -> None:
    may_end = [threading.Event(), threading.Event()]
    engine = Steered(on_infer=lambda number: may_end[number - 1].wait(30))
    engine.previews = 1
    work(relay.websocket, engine)
    is_live(people.viewer)
    people.producer.send(picture("red"), 1)
    (preview,) = until(lambda: people.viewer.results)
    assert preview.preview
    assert close_to(preview.data, (0, 0, 0))
    assert not engine.newer()
    engine.previews = 0
    people.producer.send(picture("lime"), 2)
    until(engine.newer, what="word of a newer frame")
    may_end[0].set()
    whole = until(lambda: people.viewer.results[1:])[0]
    assert (whole.seq, whole.preview) == (preview.seq, False)
    assert close_to(whole.data, CYAN)
    may_end[1].set()


def test_a_frame_that_was_on_its_way_when_the_size_changed_is_made_to_fit(
    relay: RunningRelay, people: People, work: Work
) -> None:
    may_go_on = threading.Event()
    engine = Steered(on_infer=lambda number: number > 1 or may_go_on.wait(30))
    work(relay.websocket, engine)
    is_live(people.viewer)
    people.producer.send(picture("red"), 1)
    until(lambda: engine.inferred == 1)
    people.producer.send(picture("red"), 2)
    until(engine.newer, what="a frame that waits in the old size")
    engine.width, engine.height = 96, 80
    may_go_on.set()
    until(lambda: [(p.width, p.height) for p in people.viewer.results][-1:] == [(96, 80)])
