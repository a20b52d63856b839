"""The worker, with an engine whose every step the test decides."""

import base64
import itertools
import json
import logging
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any
from urllib.request import Request, urlopen

import av
import numpy as np
import pytest
from PIL import Image
from websockets.sync.client import connect

from dreamrelay import dreaming, returning
from dreamrelay import lane as lane_module
from dreamrelay import worker as worker_module
from dreamrelay.cli import work_report
from dreamrelay.codec import Frame, decode, encode_bytes
from dreamrelay.config import RelaySettings, WorkerSettings
from dreamrelay.engines import Progress, Report, Result
from dreamrelay.engines.ports import Mask, Token
from dreamrelay.errors import ConfigError, DeviceError, DreamRelayError, EngineError, ParameterError
from dreamrelay.jobs import Batch, encode_within
from dreamrelay.lane import CREDIT
from dreamrelay.media import Captured, Sink, Source, open_source, steady
from dreamrelay.media.catalog import SINKS, SOURCES
from dreamrelay.media.steady import SteadySource
from dreamrelay.packet import Hop, Packet
from dreamrelay.protocol.native import decode_packet, encode_packet
from dreamrelay.viewer import Closed, Event, Viewer
from dreamrelay.worker import Worker
from tests.fakes.engines import ScriptedEngine, ScriptedParameters
from tests.fakes.peers import People, Person
from tests.fakes.relays import Peer, closed_port, scripted_relay
from tests.fakes.running import Running
from tests.fakes.spoutgl import Gpu
from tests.support import Program, RunningRelay, mean_colour, picture, start_relay, until

BLUE = (0, 0, 255)
CYAN = (0, 255, 255)
"""Inverted red."""


Work = Callable[..., Running[Worker]]


@pytest.fixture
def work() -> Iterator[Work]:
    """Start a worker: ``work(relay.websocket, engine, prompt="blue")``."""
    with ExitStack() as stack:

        def start(
            uri: str, engine: ScriptedEngine | None = None, **settings: Any
        ) -> Running[Worker]:
            off = {"osc_port": None, "viewer": "off", "text_to_picture": "off", "matting": "off"}
            given = {**off, **settings}
            worker = Worker(
                WorkerSettings(websocket_uri=uri, **given), engine=engine or ScriptedEngine()
            )
            running = Running(worker)
            stack.callback(running.stop)
            return running

        yield start


@pytest.fixture
def people(relay: RunningRelay) -> Iterator[People]:
    """A producer and a viewer of both tracks at the relay."""
    with People(relay.websocket) as people:
        yield people


def is_live(viewer: Person) -> None:
    until(lambda: viewer.status.get("state") == "live", what="a worker that is live")


def close_to(data: bytes, colour: tuple[int, int, int]) -> bool:
    return all(abs(a - b) < 16 for a, b in zip(mean_colour(data), colour, strict=True))


class Kept(Sink):
    """A sink that keeps what it got; ``before`` is called first and may wait or raise."""

    def __init__(self, before: Callable[[], object] = lambda: None) -> None:
        super().__init__()
        self.frames: list[Frame] = []
        self.tries = 0
        self.closes = 0
        self._before = before

    def write(self, frame: Frame) -> None:
        self.check(frame)
        self.tries += 1
        self._before()
        self.frames.append(frame.copy())

    def close(self) -> None:
        super().close()
        self.closes += 1


@contextmanager
def sink_scheme(monkeypatch: pytest.MonkeyPatch, sink: Sink) -> Iterator[str]:
    """Have ``kept://`` open that sink."""

    class Row:
        def load(self) -> Callable[[object], Sink]:
            return lambda _: sink

    monkeypatch.setitem(SINKS, "kept", Row())
    yield "kept://"


# -- there and back -------------------------------------------------------------------------------


def test_a_picture_goes_there_and_back(relay: RunningRelay, people: People, work: Work) -> None:
    engine = ScriptedEngine()
    work(relay.websocket, engine)
    is_live(people.viewer)
    people.producer.send(picture("red", (128, 96)), seq=40)
    (result,) = until(lambda: people.viewer.results)
    source = next(packet for packet, track in people.viewer.packets if track == "input")
    assert close_to(result.data, CYAN)
    assert (result.width, result.height) == (engine.width, engine.height)
    assert (result.seq, result.captured_ns) == (source.seq, source.captured_ns)
    hops = [stamp.hop for stamp in result.stamps]
    assert hops[hops.index(Hop.RELAYED) :] == [
        Hop.RELAYED,
        Hop.HANDED,
        Hop.RECEIVED,
        Hop.DECODED,
        Hop.INFER,
        Hop.INFERRED,
        Hop.REENCODED,
        Hop.RETURNED,
    ]
    times = [stamp.ns for stamp in result.stamps]
    assert times == sorted(times)
    status = until(lambda: people.viewer.status.get("model") and people.viewer.status)
    assert (status["engine"], status["model"], status["device"]) == (
        "scripted",
        "a script",
        "nowhere",
    )
    assert status["licence"]["name"] == "unknown"
    assert status["workers"] == 1


def test_a_stream_batch_gives_back_the_header_of_the_earlier_frame(
    relay: RunningRelay, people: People, work: Work
) -> None:
    engine = ScriptedEngine(latency=2)
    work(relay.websocket, engine)
    is_live(people.viewer)
    for seq, colour in enumerate(("red", "lime", "blue", "black", "white"), 1):
        people.producer.send(picture(colour), seq)
        until(lambda: engine.inferred == seq)  # noqa: B023 - waited for at once
        until(lambda: len(people.viewer.results) == max(0, seq - 2))  # noqa: B023 - at once
    assert [packet.seq for packet in people.viewer.results] == [1, 2, 3]
    assert close_to(people.viewer.results[0].data, CYAN)
    assert close_to(people.viewer.results[1].data, (255, 0, 255))
    assert close_to(people.viewer.results[2].data, (255, 255, 0))


def test_the_engine_has_one_thread(relay: RunningRelay, people: People, work: Work) -> None:
    engine = ScriptedEngine()
    work(relay.websocket, engine)
    is_live(people.viewer)
    for seq in range(1, 6):
        people.producer.send(picture(), seq)
    until(lambda: people.viewer.results)
    assert len(engine.threads) == 1


@pytest.mark.parametrize(("fit", "left"), [("stretch", 255), ("contain", 0), ("cover", 255)])
def test_pictures_of_another_shape_are_made_to_fit(
    relay: RunningRelay, people: People, work: Work, fit: str, left: int
) -> None:
    frames: list[Frame] = []

    class Looks(ScriptedEngine):
        def _paint(self, frame: Frame, prompt: str) -> Frame:
            frames.append(frame)
            return frame

    work(relay.websocket, Looks(size=(64, 64)), fit=fit)
    is_live(people.viewer)
    people.producer.send(picture("white", (50, 200), "PNG"), 1)
    frame = until(lambda: frames)[0]
    assert frame[32, 0].tolist() == [left] * 3


# -- the pipeline ---------------------------------------------------------------------------------


def test_the_engine_never_waits_for_a_codec(
    relay: RunningRelay, people: People, work: Work, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While it computes one frame, the next is decoded; while results wait, it computes on."""
    may_end = threading.Semaphore(0)
    sink_may_end = threading.Semaphore(0)
    decoded = itertools.count()
    number_decoded = [0]

    def counting(data: bytes) -> Frame:
        frame = decode(data)
        number_decoded[0] = next(decoded) + 1
        return frame

    monkeypatch.setattr(lane_module, "decode", counting)
    engine = ScriptedEngine(on_infer=lambda _: may_end.acquire(timeout=60))
    sink = Kept(lambda: sink_may_end.acquire(timeout=60))
    with sink_scheme(monkeypatch, sink) as url:
        work(relay.websocket, engine, sink=[url])
        is_live(people.viewer)
        people.producer.send(picture("red"), 1)
        until(lambda: engine.inferred == 1)
        people.producer.send(picture("red"), 2)
        until(lambda: number_decoded[0] == 2, what="the next frame decoded while one is computed")
        for seq in range(3, 7):
            people.producer.send(picture("red"), seq)
            may_end.release()
            until(lambda: engine.inferred == seq - 1)  # noqa: B023 - waited for at once
        assert sink.tries == 1, "the outlet hangs in the sink, and the engine went on"
        assert not sink.frames
        for semaphore in (may_end, sink_may_end):
            semaphore.release(100)


def test_as_many_credits_go_back_as_packets_came(
    work: Work, caplog: pytest.LogCaptureFixture
) -> None:
    """Replaced ones and broken ones count too, or the stream would run dry."""
    credits: list[int] = []
    told = threading.Event()
    go_on = threading.Event()

    def talk(peer: Peer) -> None:
        peer.welcome()
        while peer.hear_text("hello")["credit"] == 0:
            pass
        told.set()
        broken = picture()[:300] + bytes(200)
        for seq in range(1, 51):
            data = broken if seq % 5 == 0 else picture()
            peer.websocket.send(encode_packet(Packet.of(data, seq=seq), "input"))
        go_on.set()
        while True:
            credits.append(peer.hear_text("credit")["count"])

    slow = ScriptedEngine(on_infer=lambda _: go_on.wait(60))
    with scripted_relay(talk) as uri:
        running = work(uri, slow)
        until(lambda: sum(credits) >= 50)
        assert sum(credits) == 50
        assert running.program.link is not None
        assert slow.inferred < 50, "of what waited only the newest was computed"
        assert running.stop() is None
    assert told.is_set()


class Remembers(ScriptedEngine):
    """Depends on earlier frames when the test says so."""

    memory = False

    @property
    def stateful(self) -> bool:
        return self.memory


def test_the_relay_is_told_whether_pictures_depend_on_those_before(work: Work) -> None:
    hellos: list[bool] = []
    said: list[bool] = []

    def talk(peer: Peer) -> None:
        peer.welcome()
        while True:  # in any order: the engine may be there before the relay is
            fields = json.loads(peer.hear())
            if fields["type"] == "status":
                said.append(fields["stateful"])
            elif fields["type"] == "hello" and "stateful" in fields:
                hellos.append(fields["stateful"])

    engine = Remembers()
    with scripted_relay(talk) as uri:
        running = work(uri, engine)
        until(lambda: hellos and said)
        assert (hellos, said[-1]) == ([False], False)
        engine.memory = True  # somebody has asked for more steps
        until(lambda: said[-1])
        engine.memory = False
        until(lambda: not said[-1])
        assert running.stop() is None


def test_the_relay_is_told_credit_for_what_is_in_flight_and_one_more(work: Work) -> None:
    hellos: list[dict[str, Any]] = []

    def talk(peer: Peer) -> None:
        peer.welcome()
        while True:
            hellos.append(peer.hear_text("hello"))

    with scripted_relay(talk) as uri:
        running = work(uri)
        until(lambda: len(hellos) == 2 or (hellos and hellos[0]["credit"]))
        running.stop()
    assert hellos[-1]["credit"] == CREDIT == 2
    assert set(hellos[-1]["schema"]["properties"]) == {
        "prompt",
        "negative_prompt",
        "strength",
        "steps",
    }
    assert hellos[-1]["schema"]["properties"]["prompt"]["default"] == "invert"


def test_what_came_on_an_earlier_connection_is_forgotten() -> None:
    old = Batch("old", ("request",), packets=3, session=1)
    new = Batch("new", (), packets=1, session=2)
    assert old.merge_packets(new) == new
    same: Batch[str] = Batch(None, ("asked",), packets=1, session=1)
    assert old.merge_packets(same) == Batch("old", ("request", "asked"), 4, 1)


def test_a_batch_has_the_newest_and_all_requests_first() -> None:
    merged = Batch("a", ("r1",), 1).merge(Batch("b", ("r2",), 2)).merge(Batch())
    assert merged.items() == ("r1", "r2", "b")
    assert merged.packets == 3
    empty: Batch[str] = Batch()
    assert empty.items() == ()


# -- what goes wrong ------------------------------------------------------------------------------


def test_a_broken_picture_costs_itself_only(
    relay: RunningRelay, people: People, work: Work, caplog: pytest.LogCaptureFixture
) -> None:
    running = work(relay.websocket)
    is_live(people.viewer)
    with caplog.at_level(logging.WARNING):
        for seq in range(1, 5):
            people.producer.send(picture()[:300] + bytes(seq), seq)
            until(lambda: running.program.statistics.broken == seq)  # noqa: B023 - at once
    assert "picture 1 cannot be decoded" in caplog.text
    people.producer.send(picture("red"), 5)
    assert until(lambda: people.viewer.results)[0].seq == 5


def test_a_frame_that_fails_does_not_end_the_worker_and_is_shown_until_one_works(
    relay: RunningRelay, people: People, work: Work, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(number: int) -> None:
        if number <= 3:
            raise EngineError("out of memory on nowhere: try a smaller --width")

    engine = ScriptedEngine(on_infer=fail)
    running = work(relay.websocket, engine)
    is_live(people.viewer)
    with caplog.at_level(logging.WARNING):
        for seq in range(1, 4):
            people.producer.send(picture(), seq)
            until(lambda: running.program.statistics.failed == seq)  # noqa: B023 - at once
    assert caplog.text.count("out of memory") == 1, "named once, not for every frame"
    until(lambda: "out of memory" in people.viewer.status["text"])
    assert people.viewer.status["state"] == "live"
    people.producer.send(picture(), 4)
    until(lambda: people.viewer.results)
    until(lambda: people.viewer.status["text"] == "")


def test_an_error_that_nobody_foresaw_ends_the_worker_and_is_shown(
    relay: RunningRelay, people: People, work: Work
) -> None:
    def fail(_: int) -> None:
        raise LookupError("a bug in the engine")

    running = work(relay.websocket, ScriptedEngine(on_infer=fail))
    is_live(people.viewer)
    people.producer.send(picture(), 1)
    assert isinstance(running.ends(), LookupError)
    until(lambda: people.viewer.status["state"] == "lost")
    assert people.viewer.status["text"] == "LookupError: a bug in the engine"


def test_a_model_that_cannot_be_loaded_is_shown_and_raised(
    relay: RunningRelay, people: People, work: Work
) -> None:
    def fail(_: Report) -> None:
        raise EngineError("there is no such model: give --model=pocket")

    engine = ScriptedEngine(on_load=fail)
    running = work(relay.websocket, engine)
    assert isinstance(running.ends(), EngineError)
    until(lambda: people.viewer.status["state"] == "lost")
    assert people.viewer.status["text"] == "there is no such model: give --model=pocket"
    assert engine.closed == 1


class NoticingEngine(ScriptedEngine):
    said = ""

    @property
    def notice(self) -> str:
        return self.said


def test_another_model_at_work_and_another_size_are_in_the_status(
    relay: RunningRelay, people: People, work: Work
) -> None:
    engine = ScriptedEngine()
    work(relay.websocket, engine)
    is_live(people.viewer)
    assert people.viewer.status["model"] == "a script"
    engine.model_name, engine.width = "another script", 32
    until(lambda: people.viewer.status["model"] == "another script")
    status = people.viewer.status
    assert (status["engine"], status["width"], status["height"]) == ("scripted", 32, 48)


class Regrets(ScriptedEngine):
    """Takes a number of steps that it cannot do, and goes back with the next frame."""

    def infer(self, frame: Frame, token: Token, mask: Mask | None = None) -> Result[Token] | None:
        if self.parameters["steps"] == [7]:
            self.apply({"steps": [1, 2]})
            raise ParameterError({"steps": "7 cannot be loaded: no such file"})
        return super().infer(frame, token, mask)


def test_a_value_that_turns_out_not_to_work_is_put_back_and_said_until_another_is_taken(
    relay: RunningRelay, people: People, work: Work
) -> None:
    engine = Regrets()
    work(relay.websocket, engine)
    viewer = people.viewer
    is_live(viewer)
    viewer.link.patch({"steps": [7]}, "test")
    until(lambda: viewer.values["steps"] == [7])
    people.producer.send(picture(), 1)
    until(lambda: viewer.values["steps"] == [1, 2], what="the relay told what holds")
    refused = "refused: steps: 7 cannot be loaded: no such file"
    until(lambda: viewer.status["text"] == refused)
    people.producer.send(picture(), 2)
    until(lambda: viewer.results, what="the picture of a frame that goes well")
    assert viewer.status["text"] == refused
    viewer.link.patch({"prompt": "blue"}, "test")
    until(lambda: viewer.status["text"] == "")


def test_what_the_engine_builds_meanwhile_is_in_the_status(
    relay: RunningRelay, people: People, work: Work
) -> None:
    engine = NoticingEngine()
    work(relay.websocket, engine)
    is_live(people.viewer)
    engine.said = "compile: unet is compiled beside, 5 s"
    until(lambda: people.viewer.status["text"] == engine.said)
    assert people.viewer.status["state"] == "live"
    engine.said = ""
    until(lambda: people.viewer.status["text"] == "")


def test_a_relay_that_refuses_us_ends_the_worker(work: Work) -> None:
    settings = RelaySettings(host="127.0.0.1", port=0)
    with start_relay(settings) as relay:
        running = work(f"{relay.websocket}/nowhere")
        problem = running.ends()
        assert isinstance(problem, DreamRelayError)
        assert "not a dreamrelay relay" in str(problem)


# -- loading --------------------------------------------------------------------------------------


def test_progress_is_told_also_to_a_relay_that_comes_later(work: Work) -> None:
    may_warm, may_end = threading.Event(), threading.Event()
    reported = threading.Event()

    def load(report: Report) -> None:
        report(Progress("loading", "text encoder, 340 MB", 0.25))
        reported.set()
        may_warm.wait(60)
        report(Progress("warming", "two frames", None))
        may_end.wait(60)

    port = closed_port()
    work(f"ws://127.0.0.1:{port}", ScriptedEngine(on_load=load))
    assert reported.wait(30)
    with start_relay(RelaySettings(port=port)) as relay, People(relay.websocket) as people:
        viewer = people.viewer
        until(lambda: viewer.status.get("text") == "text encoder, 340 MB")
        assert (viewer.status["state"], viewer.status["fraction"]) == ("loading", 0.25)
        people.producer.send(picture(), 1)
        may_warm.set()
        until(lambda: viewer.status["state"] == "warming")
        may_end.set()
        is_live(viewer)
        people.producer.send(picture("red"), 2)
        until(lambda: viewer.results)


@pytest.mark.parametrize("when", ["loading", "running", "relay absent"])
def test_it_can_be_stopped_at_any_time(
    relay: RunningRelay, people: People, work: Work, when: str
) -> None:
    loading = threading.Event()

    def load(report: Report) -> None:
        loading.set()
        while when == "loading":
            report(Progress("loading", "and on", None))

    engine = ScriptedEngine(on_load=load)
    uri = f"ws://127.0.0.1:{closed_port()}" if when == "relay absent" else relay.websocket
    running = work(uri, engine)
    assert loading.wait(30)
    if when == "running":
        is_live(people.viewer)
        people.producer.send(picture(), 1)
        until(lambda: people.viewer.results)
    assert running.stop() is None
    assert engine.closed == 1


def test_one_that_was_stopped_before_it_ran_does_not_run(relay: RunningRelay) -> None:
    settings = WorkerSettings(websocket_uri=relay.websocket, osc_port=None, viewer="off")
    engine = ScriptedEngine()
    worker = Worker(settings, engine=engine)
    worker.stop()
    worker.run()
    assert engine.closed == 1
    assert engine.inferred == 0


# -- parameters -----------------------------------------------------------------------------------


def test_a_prompt_holds_from_the_picture_on_that_carries_its_revision(
    relay: RunningRelay, people: People, work: Work
) -> None:
    work(relay.websocket)
    viewer = people.viewer
    is_live(viewer)
    seq = itertools.count(1)
    people.producer.send(picture("red"), next(seq))
    until(lambda: viewer.results)
    viewer.link.patch({"prompt": "blue"}, "test")
    revision = until(
        lambda: [
            told["revision"]
            for told in viewer.has("parameters")
            if told["values"].get("prompt") == "blue"
        ]
    )[0]

    def new_ones() -> list[Packet]:
        people.producer.send(picture("red"), next(seq))
        return [packet for packet in viewer.results if packet.revision >= revision]

    until(new_ones)
    for packet in viewer.results:
        assert close_to(packet.data, BLUE if packet.revision >= revision else CYAN)


def test_a_patch_is_applied_while_no_frame_comes(
    relay: RunningRelay, people: People, work: Work
) -> None:
    engine = ScriptedEngine()
    work(relay.websocket, engine)
    is_live(people.viewer)
    people.viewer.link.patch({"prompt": "blue", "strength": 0.25}, "test")
    until(lambda: engine.parameters["prompt"] == "blue")
    assert engine.applied == [{"prompt": "blue", "strength": 0.25}]
    assert engine.inferred == 0


def test_values_that_hold_already_are_not_applied_again(
    relay: RunningRelay, people: People, work: Work
) -> None:
    engine = ScriptedEngine()
    work(relay.websocket, engine)
    is_live(people.viewer)
    for prompt in ("blue", "blue", "green"):
        people.viewer.link.patch({"prompt": prompt, "strength": 0.5}, "test")
        until(lambda: people.viewer.values.get("prompt") == prompt)  # noqa: B023 - at once
    until(lambda: engine.parameters["prompt"] == "green")
    assert all(patch.keys() == {"prompt"} for patch in engine.applied)


def test_a_value_that_only_the_engine_can_refuse_is_put_right_and_blocks_nothing(
    relay: RunningRelay, people: People, work: Work
) -> None:
    engine = ScriptedEngine()
    work(relay.websocket, engine)
    viewer = people.viewer
    is_live(viewer)
    viewer.link.patch({"steps": [2, 1], "prompt": "green"}, "test")
    until(lambda: engine.parameters["prompt"] == "green", what="the good half of the patch")
    until(lambda: viewer.values["steps"] == [1, 2], what="the relay told what holds")
    until(lambda: "expected ascending numbers" in viewer.status["text"])
    viewer.link.patch({"prompt": "blue"}, "test")
    until(lambda: engine.parameters["prompt"] == "blue")
    until(lambda: viewer.status["text"] == "")


def test_a_worker_that_is_started_again_finds_the_prompt_that_people_typed(
    relay: RunningRelay, people: People, work: Work
) -> None:
    viewer = people.viewer
    first = work(relay.websocket)
    is_live(viewer)
    viewer.link.patch({"prompt": "blue"}, "test")
    until(lambda: first.program.engine.parameters["prompt"] == "blue")
    first.stop()
    until(lambda: viewer.status["state"] == "lost")
    second = ScriptedEngine()
    work(relay.websocket, second)
    until(lambda: second.parameters["prompt"] == "blue")
    is_live(viewer)
    people.producer.send(picture("red"), 1)
    assert close_to(until(lambda: viewer.results)[0].data, BLUE)


def test_what_people_typed_while_it_loaded_holds(
    relay: RunningRelay, people: People, work: Work
) -> None:
    may_end = threading.Event()
    engine = ScriptedEngine(on_load=lambda _: may_end.wait(60))
    work(relay.websocket, engine)
    until(lambda: people.viewer.status.get("state") == "loading")
    people.viewer.link.patch({"prompt": "blue"}, "test")
    until(lambda: people.viewer.values.get("prompt") == "blue")
    may_end.set()
    until(lambda: engine.parameters["prompt"] == "blue")


def test_it_goes_on_with_its_parameters_at_a_relay_that_was_started_again(work: Work) -> None:
    engine = ScriptedEngine()
    with start_relay(RelaySettings(port=0)) as relay, People(relay.websocket) as people:
        work(relay.websocket, engine)
        is_live(people.viewer)
        people.viewer.link.patch({"prompt": "blue"}, "test")
        until(lambda: engine.parameters["prompt"] == "blue")
        port = int(relay.websocket.rpartition(":")[2])
    with start_relay(RelaySettings(port=port)) as relay, People(relay.websocket) as people:
        is_live(people.viewer)
        until(lambda: people.viewer.values.get("prompt") == "blue")
        people.producer.send(picture("red"), 1)
        assert close_to(until(lambda: people.viewer.results)[0].data, BLUE)


# -- requests -------------------------------------------------------------------------------------


def img2img(relay: RunningRelay, data: bytes, **fields: Any) -> dict[str, Any]:
    with connect(relay.websocket, compression=None, max_size=None) as websocket:
        image = base64.b64encode(data).decode()
        websocket.send(json.dumps({"type": "img2img", "image": image, **fields}))
        while (answer := json.loads(websocket.recv(60)))["type"] == "welcome":
            pass
        assert isinstance(answer, dict)
        return answer


def test_a_request_is_answered_alone_and_leaves_the_stream_alone(
    relay: RunningRelay, people: People, work: Work
) -> None:
    engine = ScriptedEngine()
    work(relay.websocket, engine)
    viewer = people.viewer
    is_live(viewer)
    answer = img2img(relay, picture("red"), prompt="blue")
    assert answer["type"] == "img2img_result"
    assert answer["prompt"] == "blue"
    assert close_to(base64.b64decode(answer["image"]), BLUE)
    assert (engine.asked, engine.inferred, engine.applied) == (1, 0, [])
    assert engine.parameters["prompt"] == viewer.values["prompt"] == "invert"
    people.producer.send(picture("red"), 1)
    assert close_to(until(lambda: viewer.results)[0].data, CYAN)
    assert len(viewer.results) == 1, "nobody else saw the answer"


def test_a_request_that_fails_is_answered_with_the_reason(
    relay: RunningRelay, people: People, work: Work
) -> None:
    running = work(relay.websocket)
    is_live(people.viewer)
    answer = img2img(relay, picture(), prompt="fail")
    assert (answer["type"], answer["message"]) == ("error", "this prompt fails")
    broken = img2img(relay, picture()[:300] + bytes(50), prompt="blue")
    assert broken["type"] == "error"
    assert "broken" in broken["message"]
    assert people.viewer.status["text"] == "", "the stream is not concerned"
    assert running.program.statistics.failed == 1


def test_an_answer_fits_into_what_the_asker_accepts(
    relay: RunningRelay, people: People, work: Work
) -> None:
    noise = np.random.default_rng(1).integers(0, 256, (1500, 2000, 3), dtype=np.uint8)
    work(relay.websocket, ScriptedEngine(size=(2000, 1504)), quality=95)
    is_live(people.viewer)
    answer = img2img(relay, encode_bytes(noise, quality=95))
    assert answer["type"] == "img2img_result"
    assert len(answer["image"]) < 1024 * 1024


@pytest.mark.parametrize("most", [None, 200_000, 20_000, 2_000])
def test_encoding_within_so_many_bytes(most: int | None) -> None:
    noise = np.random.default_rng(1).integers(0, 256, (256, 256, 3), dtype=np.uint8)
    data = encode_within(noise, 85, most)
    assert most is None or len(data) <= most
    assert decode(data).shape[2] == 3


def test_what_no_picture_fits_into_is_said() -> None:
    with pytest.raises(EngineError, match="100 bytes"):
        encode_within(np.zeros((48, 64, 3), np.uint8), 85, 100)


# -- where pictures go and come from --------------------------------------------------------------


def test_sinks_get_the_pixels_and_their_failures_are_named_once(
    relay: RunningRelay,
    people: People,
    work: Work,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    broken = [True]

    def before() -> None:
        if broken[0]:
            raise DeviceError("the projector is off")

    sink = Kept(before)
    with sink_scheme(monkeypatch, sink) as url, caplog.at_level(logging.WARNING):
        running = work(relay.websocket, sink=[url, "null://"])
        is_live(people.viewer)
        for seq in range(1, 4):
            people.producer.send(picture("red"), seq)
            until(lambda: sink.tries == seq)  # noqa: B023 - waited for at once
        broken[0] = False
        people.producer.send(picture("red"), 4)
        frame = until(lambda: sink.frames)[0]
        assert np.abs(frame.astype(int) - CYAN).max() < 8
        until(lambda: people.viewer.results and people.viewer.results[-1].seq == 4)
        assert running.stop() is None
    assert caplog.text.count("the projector is off") == 1
    assert sink.closes == 1


def test_a_picture_that_is_repeated_is_encoded_once(
    relay: RunningRelay, people: People, work: Work, monkeypatch: pytest.MonkeyPatch
) -> None:
    encoded: list[Frame] = []

    def counting(frame: Frame, *arguments: Any, **options: Any) -> bytes:
        encoded.append(frame)
        return encode_bytes(frame, *arguments, **options)

    monkeypatch.setattr(returning, "encode_bytes", counting)
    still = np.zeros((48, 64, 3), np.uint8)

    class Filters(ScriptedEngine):
        def infer(self, frame: Frame, token: Token, mask: Mask | None = None) -> Result[Token]:
            self.inferred += 1
            return Result(still, token, repeated=self.inferred > 1)

    work(relay.websocket, Filters())
    is_live(people.viewer)
    for seq in range(1, 5):
        people.producer.send(picture(), seq)
        until(lambda: len(people.viewer.results) == seq)  # noqa: B023 - waited for at once
    assert len(encoded) == 1
    assert [packet.seq for packet in people.viewer.results] == [1, 2, 3, 4]


def test_a_local_source_that_stumbles_is_tried_again(
    work: Work, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    class Stumbles(Source):
        reads = 0

        def read(self) -> Captured | None:
            self.reads += 1
            if self.reads == 2:
                raise DeviceError("the cable")
            return Captured(np.zeros((48, 64, 3), np.uint8), self.reads)

    class Row:
        def load(self) -> Callable[[object], Source]:
            return lambda _: Stumbles()

    monkeypatch.setitem(SOURCES, "stumbles", Row())
    sink = Kept()
    with sink_scheme(monkeypatch, sink) as url, caplog.at_level(logging.WARNING):
        running = work("", source="stumbles://", sink=[url])
        until(lambda: len(sink.frames) >= 3)
        assert running.stop() is None
    assert caplog.text.count("the cable") == 1


def test_a_camera_that_is_not_there_yet_is_waited_for(
    work: Work, monkeypatch: pytest.MonkeyPatch
) -> None:
    there = threading.Event()

    class Row:
        def load(self) -> Callable[[object], Source]:
            return self.open

        def open(self, _: object) -> Source:
            if not there.is_set():
                raise DeviceError("camera 0 is not there")
            return open_source("pattern://flat?colour=ff0000&fps=100")

    monkeypatch.setitem(SOURCES, "camera", Row())
    monkeypatch.setattr(steady, "FIRST_WAIT_S", 0.01)
    sink = Kept()
    with sink_scheme(monkeypatch, sink) as url:
        running = work("", source="camera://0", sink=[url])
        assert running.program.first.standing.trouble == "camera 0 is not there"
        there.set()
        until(lambda: sink.frames)
        until(lambda: not running.program.first.standing.trouble)
        assert running.stop() is None


def test_a_local_source_is_tended_by_another_thread_than_the_one_that_reads(
    work: Work, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Syphon's news reach the main thread only."""
    readers: set[int] = set()
    tending: set[int] = set()

    class Tended(Source):
        def read(self) -> Captured | None:
            readers.add(threading.get_ident())
            return Captured(np.zeros((48, 64, 3), np.uint8), len(readers))

        def tend(self) -> None:
            tending.add(threading.get_ident())

    class Row:
        def load(self) -> Callable[[object], Source]:
            return lambda _: Tended()

    monkeypatch.setitem(SOURCES, "tended", Row())
    running = work("", source="tended://")
    until(lambda: readers and tending)
    assert running.stop() is None
    assert not readers & tending


def test_a_camera_that_never_comes_does_not_hold_up_the_end(
    work: Work, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Row:
        def load(self) -> Callable[[object], Source]:
            return self.open

        def open(self, _: object) -> Source:
            raise DeviceError("camera 0 is not there")

    monkeypatch.setitem(SOURCES, "camera", Row())
    monkeypatch.setattr(steady, "FIRST_WAIT_S", 3600)
    monkeypatch.setattr(steady, "LONGEST_WAIT_S", 3600)
    running = work("", source="camera://0")
    until(lambda: running.program.state == "live")
    assert running.stop() is None
    assert not [t for t in threading.enumerate() if t.name == "source"]


def test_a_local_source_and_sink_need_no_relay(work: Work, monkeypatch: pytest.MonkeyPatch) -> None:
    sink = Kept()
    with sink_scheme(monkeypatch, sink) as url:
        running = work(
            "ws://nobody.invalid", source="pattern://flat?colour=ff0000&fps=100", sink=[url]
        )
        assert running.program.link is None
        until(lambda: len(sink.frames) >= 3)
        assert running.stop() is None
    assert sink.frames[0][0, 0].tolist() == list(CYAN)


def test_it_ends_with_a_stored_source_and_computes_every_picture(
    work: Work, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for level in range(8):
        Image.new("RGB", (64, 48), (level * 30, 0, 0)).save(tmp_path / f"{level}.png")
    sink = Kept()
    recording = tmp_path / "takes" / "show.mp4"
    with sink_scheme(monkeypatch, sink) as url:
        sinks = [url, f"record://{recording}"]
        running = work("", source=f"directory://{tmp_path}?loop=false", sink=sinks)
        assert running.ends() is None
    levels = [255 - int(frame[0, 0, 0]) for frame in sink.frames]
    assert levels == [level * 30 for level in range(8)]
    with av.open(str(recording)) as file:
        assert sum(1 for _ in file.decode(video=0)) == 8, "a recording, too, leaves none out"


def test_a_source_without_a_rate_waits_for_the_engine(
    work: Work, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "still.png"
    path.write_bytes(picture(form="PNG"))
    may_end = threading.Event()
    engine = ScriptedEngine(on_infer=lambda _: may_end.wait(60))
    reads = [0]
    read = SteadySource.read

    def counting(source: SteadySource) -> Any:
        reads[0] += 1
        return read(source)

    monkeypatch.setattr(SteadySource, "read", counting)
    running = work("", engine, source=str(path))
    until(lambda: engine.inferred == 1)
    before = reads[0]
    looks = itertools.count()
    until(lambda: next(looks) > 15)
    assert reads[0] <= before + 2, "it is read as fast as the engine computes, not faster"
    may_end.set()
    running.stop()


def test_its_status_line_says_what_is_waited_for(work: Work) -> None:
    alone = work(f"ws://127.0.0.1:{closed_port()}").program
    until(lambda: work_report(alone) == "live: 0 pictures, 0.0 fps, no relay")
    source = f"http://127.0.0.1:{closed_port()}/live"
    blind = work("", source=source).program
    until(lambda: f"0.0 fps, cannot open {source}" in work_report(blind), 60)


def test_spout_in_and_out(work: Work, monkeypatch: pytest.MonkeyPatch) -> None:
    gpu = Gpu()
    for name, module in gpu.modules().items():
        monkeypatch.setitem(sys.modules, name, module)
    monkeypatch.setattr("platform.system", lambda: "Windows")
    red = np.zeros((48, 64, 3), np.uint8)
    red[:] = (255, 0, 0)
    gpu.show("Source 100%? Image", red)
    running = work("", spout_in="Source 100%? Image", spout_out="StreamDiffusion", prompt="x")

    def sent() -> bool:
        gpu.show("Source 100%? Image", red)
        return "StreamDiffusion" in gpu.senders

    until(sent)
    assert gpu.seen("StreamDiffusion")[0, 0].tolist() == list(CYAN)
    assert running.stop() is None


@pytest.mark.parametrize(
    ("flags", "text"),
    [
        ({"source": "pattern://bars", "websocket_port": 0}, "choose one: --websocket_port"),
        ({"source": "pattern://bars", "stream": ["a", "b"]}, "choose one: several streams"),
        ({"source": "pattern://bars", "spout_in": "A"}, "choose one: --source or --spout-in"),
        ({"spout_in": "A", "spout_out": "A"}, "would find our own spout://A"),
        ({"source": "ndi://", "sink": ["null://", "ndi://A"]}, "would find our own ndi://A"),
    ],
)
def test_sources_that_exclude_something_else(flags: dict[str, Any], text: str) -> None:
    with pytest.raises(ConfigError, match=text):
        Worker(WorkerSettings(osc_port=None, **flags), engine=ScriptedEngine())


def test_what_was_opened_is_closed_when_something_else_cannot_be(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    sink = Kept()
    engine = ScriptedEngine()
    with sink_scheme(monkeypatch, sink) as url, pytest.raises(ConfigError):
        Worker(WorkerSettings(sink=[url, "nonsense://"], osc_port=None), engine=engine)
    assert sink.closes == 1
    assert engine.closed == 1


# -- from the prompt alone ------------------------------------------------------------------------


class Paints(ScriptedEngine):
    """Keeps what it is asked to paint on, and under which patch."""

    def __init__(self, problems: int = 0) -> None:
        super().__init__()
        self.canvases: list[Frame] = []
        self.patches: list[dict[str, Any]] = []
        self._problems = problems

    def infer_once(self, frame: Frame, patch: Mapping[str, Any], mask: Mask | None = None) -> Frame:
        self.canvases.append(frame)
        self.patches.append(dict(patch))
        if len(self.canvases) <= self._problems:
            raise EngineError("out of memory on nowhere")
        return super().infer_once(frame, patch)


def test_without_an_input_whoever_looks_sees_the_prompt_moving(
    relay: RunningRelay, work: Work
) -> None:
    engine = Paints()
    with Person(relay.websocket) as viewer:
        work(relay.websocket, engine, text_to_picture="auto")
        until(lambda: len(viewer.results) >= 5)
        numbers = [packet.seq for packet in viewer.results]
        assert numbers == sorted(set(numbers))
        assert len({packet.data for packet in viewer.results[:5]}) == 5, "it moves"
        until(lambda: viewer.status["dreaming"])
        assert viewer.status["age_ms"] is None
        assert engine.inferred == 0, "the stream's own frames are not mixed with these"
        viewer.link.patch({"prompt": "red", "strength": 0.1}, "test")
        red = until(lambda: next((p for p in viewer.results if p.revision >= 2), None))
        assert close_to(red.data, (255, 0, 0))
        until(lambda: engine.patches[-1] == {"strength": 0.5})
        assert engine.parameters["strength"] == 0.1
        viewer.link.patch({"strength": 0.8}, "test")
        until(lambda: engine.patches[-1] == {})


def test_a_source_takes_over_and_the_prompt_alone_comes_back(
    relay: RunningRelay, work: Work
) -> None:
    with Person(relay.websocket, track="both") as viewer:
        work(relay.websocket, text_to_picture="auto")
        until(lambda: viewer.results)
        with Person(relay.websocket, "producer") as producer:
            for seq in range(1, 6):
                producer.send(picture("red"), seq)
            until(lambda: close_to(viewer.results[-1].data, CYAN), what="the first of an input")
            for seq in range(6, 16):
                producer.send(picture("red"), seq)
            last = [packet for packet, track in viewer.packets if track == "input"][-1]
            until(lambda: viewer.results[-1].seq >= last.seq)
            # By what is on them: newest wins, and so not every input is seen here.
            of_input = [close_to(packet.data, CYAN) for packet in viewer.results]
        assert of_input == sorted(of_input), "none was painted between two results"
        until(lambda: not close_to(viewer.results[-1].data, CYAN), 30)


@pytest.mark.parametrize(
    ("setting", "watching", "idle", "paints"),
    [
        ("auto", 0, True, False),
        ("auto", 1, False, False),
        ("auto", 1, True, True),
        ("on", 0, True, True),
        ("on", 1, False, False),
        ("off", 1, True, False),
    ],
)
def test_nothing_is_painted_that_is_not_wanted(
    work: Work, setting: str, watching: int, idle: bool, paints: bool
) -> None:
    engine = Paints()
    results: list[Packet] = []

    def talk(peer: Peer) -> None:
        peer.welcome()
        while peer.hear_text("hello")["credit"] == 0:
            pass
        peer.tell("audience", watching=watching, idle=idle)
        # What is asked for meanwhile goes first, and shows that the engine has had its chance.
        for seq in range(1, 21):
            peer.websocket.send(encode_packet(Packet.of(picture("red"), seq=seq), "input"))
            while all(packet.seq != seq for packet in results):
                message = peer.hear()
                if isinstance(message, bytes):
                    results.append(decode_packet(message)[0])
        done.set()
        peer.stay()

    done = threading.Event()
    with scripted_relay(talk) as uri:
        running = work(uri, engine, text_to_picture=setting)
        assert done.wait(30)
        if paints:
            until(lambda: engine.canvases)
        else:
            assert not engine.canvases
        assert running.stop() is None


def test_a_sink_is_an_audience_too_even_without_a_relay(
    work: Work, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dreaming, "PATIENCE", 0.01)
    sink = Kept()
    with sink_scheme(monkeypatch, sink) as url:
        running = work(f"ws://127.0.0.1:{closed_port()}", sink=[url], text_to_picture="auto")
        until(lambda: len(sink.frames) >= 3)
        assert running.stop() is None
    assert sink.frames[0].shape == (48, 64, 3)


def test_a_prompt_that_cannot_be_painted_is_shown_and_tried_again_later(
    relay: RunningRelay, work: Work, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dreaming, "PATIENCE", 0.6)
    engine = Paints(problems=2)
    with Person(relay.websocket) as viewer:
        running = work(relay.websocket, engine, text_to_picture="auto")
        until(lambda: "out of memory" in viewer.status.get("text", ""))
        until(lambda: viewer.results)
        until(lambda: viewer.status["text"] == "")
        assert running.program.statistics.failed == 2


def test_another_seed_is_another_dream(relay: RunningRelay, work: Work) -> None:
    class Seeded(Paints):
        seed = 3

        @property
        def parameters(self) -> dict[str, Any]:
            return {**super().parameters, "seed": self.seed, "t_index_list": [30, 40]}

        def _patched(self, patch: Mapping[str, Any]) -> ScriptedParameters:
            return ScriptedParameters()

    engine = Seeded()
    with Person(relay.websocket) as viewer:
        running = work(relay.websocket, engine, text_to_picture="auto")
        until(lambda: viewer.results)
        dream = running.program.first.dreaming.dream
        assert dream is not None
        assert (dream.width, dream.height, dream.seed) == (64, 48, 3)
        engine.seed = 4
        until(lambda: running.program.first.dreaming.dream is not dream)
        assert engine.patches[-1] == {}, "steps given one by one say more than a strength"


# -- beside the pictures --------------------------------------------------------------------------


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


# -- the window -----------------------------------------------------------------------------------


@pytest.fixture
def no_display(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("DISPLAY", "WAYLAND_DISPLAY", "QT_QPA_PLATFORM"):
        monkeypatch.delenv(name, raising=False)


@pytest.mark.usefixtures("no_display")
@pytest.mark.skipif(sys.platform in ("win32", "darwin"), reason="there is always a display")
def test_without_a_display_auto_is_off_and_on_is_refused() -> None:
    settings = WorkerSettings(osc_port=None)
    worker = Worker(settings, engine=ScriptedEngine())
    assert settings.viewer == "auto"
    assert worker.viewer is None
    with pytest.raises(ConfigError, match="--viewer=on: no display"):
        Worker(WorkerSettings(osc_port=None, viewer="on"), engine=ScriptedEngine())


def test_the_death_of_the_window_does_not_stop_the_worker(
    relay: RunningRelay, people: People, work: Work, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("QT_QPA_PLATFORM", "offscreen")
    running = work(relay.websocket, viewer="on", websocket_port=0)
    is_live(people.viewer)
    viewer = running.program.viewer
    assert viewer is not None
    until(lambda: viewer.pid)
    people.producer.send(picture(), 1)
    until(lambda: people.viewer.results)
    child = viewer._child
    assert child is not None
    child.process.kill()
    until(lambda: not viewer.alive)
    for seq in range(2, 5):
        people.producer.send(picture(), seq)
    until(lambda: len(people.viewer.results) >= 2)
    assert running.alive


def test_the_window_says_why_a_producer_sends_nothing(
    relay: RunningRelay, people: People, work: Work, monkeypatch: pytest.MonkeyPatch
) -> None:
    notes: list[str] = []
    said: list[str] = []
    monkeypatch.setenv("QT_QPA_PLATFORM", "offscreen")
    monkeypatch.setattr(Viewer, "start", lambda _: None)
    monkeypatch.setattr(Viewer, "note", lambda _, text: notes.append(text))
    monkeypatch.setattr(Viewer, "status", lambda _, text: said.append(text))
    work(relay.websocket, viewer="on")
    is_live(people.viewer)
    people.producer.link.tell("status", state="away", text="no camera 0")
    until(lambda: notes == ["no picture: no camera 0"])
    until(lambda: said[-1:] == ["no picture: no camera 0"])
    people.producer.link.tell("status", state="live")
    until(lambda: notes == ["no picture: no camera 0", ""])
    until(lambda: said[-1] == "")


def test_the_window_says_that_there_is_no_relay_until_there_is_one(
    work: Work, monkeypatch: pytest.MonkeyPatch
) -> None:
    said: list[str] = []
    monkeypatch.setenv("QT_QPA_PLATFORM", "offscreen")
    monkeypatch.setattr(Viewer, "start", lambda _: None)
    monkeypatch.setattr(Viewer, "status", lambda _, text: said.append(text))

    def talk(peer: Peer) -> None:
        if peer.number > 1:  # it stays away until this was seen
            until(lambda: any("no relay: " in text for text in said))
            peer.welcome()
            peer.stay()
        peer.welcome()
        until(lambda: said[-1:] == [""])
        peer.cut()

    with scripted_relay(talk) as uri:
        running = work(uri, viewer="on")
        until(lambda: any("no relay: " in text for text in said), what="the loss")
        until(lambda: said[-1] == "", what="another relay")
        running.stop()


def test_a_worker_that_can_show_no_window_says_why(
    work: Work, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(worker_module, "viewer_available", lambda: "there is no display")
    with scripted_relay(lambda peer: peer.welcome()) as uri:
        assert work(uri, viewer="auto").program.no_window == "there is no display"
        assert work(uri, viewer="off").program.no_window == ""


def test_the_window_says_what_viewers_see_in_place_of_results(
    work: Work, monkeypatch: pytest.MonkeyPatch
) -> None:
    said: list[str] = []
    monkeypatch.setenv("QT_QPA_PLATFORM", "offscreen")
    monkeypatch.setattr(Viewer, "start", lambda _: None)
    monkeypatch.setattr(Viewer, "stand_in", lambda _, word: said.append(word))

    def talk(peer: Peer) -> None:
        peer.welcome()
        peer.tell("status", stand_in="pass", held=False)
        peer.tell("status", stand_in="", held=True)
        peer.tell("status", stand_in="", held=False)
        peer.tell("status", stand_in="slate", held=False)
        until(lambda: said.count("slate") >= peer.number)
        peer.cut()

    with scripted_relay(talk) as uri:
        work(uri, viewer="on")
        until(lambda: said.count("pass") > 1, what="a second connection")
    assert said[:5] == ["pass", "held", "", "slate", ""]  # cut off, it does not know


@pytest.mark.parametrize(
    ("relay_inside", "event", "ends"),
    [(True, Closed(), True), (False, Closed(), False), (True, Closed("it crashed"), False)],
)
def test_closing_the_window_ends_the_worker_that_has_its_relay_inside(
    relay: RunningRelay,
    people: People,
    work: Work,
    monkeypatch: pytest.MonkeyPatch,
    relay_inside: bool,
    event: Event,
    ends: bool,
) -> None:
    asked: list[list[Event]] = []

    def events(_: Viewer) -> list[Event]:
        asked.append([event] if len(asked) == 1 else [])
        return asked[-1]

    monkeypatch.setattr(Viewer, "start", lambda _: None)
    monkeypatch.setattr(Viewer, "events", events)
    monkeypatch.setenv("QT_QPA_PLATFORM", "offscreen")
    port = 0 if relay_inside else None
    running = work(relay.websocket, viewer="on", websocket_port=port)
    until(lambda: len(asked) >= 2)
    if ends:
        assert running.ends() is None
    else:
        until(lambda: len(asked) >= 4)
        assert running.alive


# -- as a program ---------------------------------------------------------------------------------


def test_a_missing_model_is_one_line_and_exit_code_1(
    relay: RunningRelay, programs: Callable[..., Program]
) -> None:
    with Person(relay.websocket) as viewer:
        program = programs(
            "main.py",
            "--model=./no/such/model",
            f"--websocket-uri={relay.websocket}",
            "--osc_port=none",
            "--viewer=off",
            "--verbose=0",
        )
        assert program.wait(150) == 1
        until(lambda: viewer.status.get("state") == "lost")
        assert "no/such/model" in viewer.status["text"]
    (line,) = program.lines
    assert line.startswith("dreamrelay: ")
    assert "no/such/model" in line


def test_it_runs_with_the_relay_inside_and_ends_with_ctrl_c(
    programs: Callable[..., Program],
) -> None:
    program = programs(
        "main.py", "--websocket_port", "0", "--prompt", "blue", "--osc-port=none", "--viewer=off"
    )
    url = program.line(r"studio at (http://\S+)")[1]
    with Person("ws" + url[4:].rstrip("/")) as viewer:
        until(lambda: viewer.status.get("state") == "live", 150, "the model loaded")
        until(lambda: viewer.values.get("prompt") == "blue")
    program.interrupt()
    assert program.wait(60) == 0
    assert "Traceback" not in program.output


def test_ctrl_c_while_loading_and_without_a_relay_is_a_clean_end(
    programs: Callable[..., Program],
) -> None:
    program = programs(
        "main.py",
        f"--websocket_uri=ws://127.0.0.1:{closed_port()}",
        "--osc_port=none",
        "--viewer=off",
    )
    program.line("dreamrelay .* worker", 150)
    program.interrupt()
    assert program.wait(90) == 0
    assert "Traceback" not in program.output
