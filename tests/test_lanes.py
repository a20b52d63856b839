"""A worker that serves several streams, and what it puts into one call of its engine."""

import base64
import json
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from typing import Any

import pytest
from websockets.sync.client import connect

from dreamrelay import worker as worker_module
from dreamrelay.codec import Frame
from dreamrelay.config import WorkerSettings
from dreamrelay.engines.ports import Turn
from dreamrelay.errors import ConfigError, EngineError
from dreamrelay.media import Sink
from dreamrelay.packet import Packet
from dreamrelay.protocol.native import encode_packet
from dreamrelay.worker import Worker
from tests.fakes.engines import COLOURS, ScriptedEngine, SeveralEngine
from tests.fakes.peers import People, Person
from tests.fakes.relays import Peer, scripted_relay
from tests.fakes.running import Running
from tests.relay.pages import CameraPage
from tests.support import RunningRelay, mean_colour, picture, until

EIGHT = tuple("abcdefgh")
OFF = {"osc_port": None, "viewer": "off", "text_to_picture": "off", "matting": "off"}

Serve = Callable[..., Running[Worker]]
Meet = Callable[..., dict[str, People]]


@pytest.fixture
def serve(relay: RunningRelay) -> Iterator[Serve]:
    """Start a worker of several streams: ``serve("ab", engine)``."""
    with ExitStack() as stack:

        def start(
            streams: str, engine: ScriptedEngine, uri: str = relay.websocket, **settings: Any
        ) -> Running[Worker]:
            given = {**OFF, **settings, "websocket_uri": uri, "stream": ",".join(streams)}
            running = Running(Worker(WorkerSettings(**given), engine=engine))
            stack.callback(running.stop)
            return running

        yield start


@pytest.fixture
def meet(relay: RunningRelay) -> Iterator[Meet]:
    """A producer and a viewer at each of some streams, which are all live."""
    with ExitStack() as stack:

        def come(streams: str) -> dict[str, People]:
            people = {name: stack.enter_context(People(relay.websocket, name)) for name in streams}
            for name, those in people.items():
                until(lambda: those.viewer.status.get("state") == "live", what=f"{name} live")  # noqa: B023 - at once
            return people

        yield come


class Door:
    """Where the engine waits before each call; the first call has to be let in, too."""

    def __init__(self) -> None:
        self.at = 0
        self._may = threading.Semaphore(0)

    def __call__(self, call: int) -> None:
        self.at = call
        assert self._may.acquire(timeout=60)

    def open(self, calls: int = 1000) -> None:
        self._may.release(calls)


def colour_of(data: bytes) -> str:
    means = mean_colour(data)
    far = {n: sum(abs(a - b) for a, b in zip(means, c, strict=True)) for n, c in COLOURS.items()}
    return min(far, key=far.__getitem__)


def names_of(turns: list[Turn], worker: Worker) -> list[str]:
    """Whose turns these are."""
    names = {id(lane.engine): lane.stream or "" for lane in worker.lanes}
    return [names[id(turn.engine)] for turn in turns]


def have_come(running: Running[Worker], count: int) -> None:
    """Wait until so many frames and requests, in all, have come before the engine."""
    lanes = running.program.lanes
    until(lambda: sum(lane.statistics.ready for lane in lanes) >= count, what=f"{count} to come")


# -- streams --------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["one by one", "together"])
def test_each_stream_has_parameters_and_pictures_of_its_own(
    serve: Serve, meet: Meet, kind: str
) -> None:
    engine = ScriptedEngine() if kind == "one by one" else SeveralEngine(8)
    running = serve("ab", engine)
    people = meet("ab")
    a, b = people["a"], people["b"]
    a.viewer.link.patch({"prompt": "red"}, "test")
    b.viewer.link.patch({"prompt": "blue"}, "test")
    lanes = running.program.lanes
    until(lambda: [lane.engine.parameters["prompt"] for lane in lanes] == ["red", "blue"])
    a.producer.send(picture("white"), 5)
    b.producer.send(picture("white"), 9)
    (of_a,) = until(lambda: a.viewer.results)
    (of_b,) = until(lambda: b.viewer.results)
    assert (colour_of(of_a.data), colour_of(of_b.data)) == ("red", "blue")
    a.viewer.link.patch({"prompt": "green"}, "test")
    until(lambda: lanes[0].engine.parameters["prompt"] == "green")
    assert lanes[1].engine.parameters["prompt"] == "blue"
    assert b.viewer.values["prompt"] == "blue"
    b.producer.send(picture("white"), 10)
    until(lambda: len(b.viewer.results) == 2)
    assert [colour_of(packet.data) for packet in b.viewer.results] == ["blue", "blue"]
    assert {(p.status["workers"], p.status["engine"]) for p in (a.viewer, b.viewer)} == {
        (1, "scripted")
    }
    assert len(engine.threads) == 1


def test_what_waits_in_eight_streams_is_one_call_and_a_silent_one_keeps_nobody(
    serve: Serve, meet: Meet
) -> None:
    door = Door()
    engine = SeveralEngine(8, on_call=door)
    running = serve("abcdefgh", engine)
    people = meet("abcdefgh")
    people["a"].producer.send(picture("red"), 1)
    until(lambda: door.at == 1)
    speaking = [name for name in EIGHT if name != "c"]
    for name in speaking:
        people[name].producer.send(picture("red"), 2)
    have_come(running, 8)
    door.open()
    for name in speaking:
        until(lambda: people[name].viewer.results, what=f"a picture for {name}")  # noqa: B023 - at once
    assert sorted(names_of(engine.calls[1], running.program)) == speaking
    assert not people["c"].viewer.results
    until(lambda: 2 in [packet.seq for packet in people["a"].viewer.results])


def test_no_call_has_more_than_the_engine_wants_and_all_get_their_turn(
    serve: Serve, meet: Meet
) -> None:
    door = Door()
    engine = SeveralEngine(3, on_call=door)
    running = serve("abcdefgh", engine)
    people = meet("abcdefgh")
    people["a"].producer.send(picture("red"), 1)
    until(lambda: door.at == 1)
    for name in EIGHT:
        people[name].producer.send(picture("red"), 2)
    have_come(running, 9)
    door.open()
    for name in EIGHT:
        until(lambda: people[name].viewer.results, what=f"a picture for {name}")  # noqa: B023 - at once
    until(lambda: sum(map(len, engine.calls)) == 9)
    assert [len(call) for call in engine.calls] == [1, 3, 3, 2]
    counted = Counter(name for call in engine.calls[1:] for name in names_of(call, running.program))
    assert counted == dict.fromkeys(EIGHT, 1)


def test_a_busy_stream_does_not_starve_a_quiet_one(serve: Serve, meet: Meet) -> None:
    """However many frames of one wait, the other is next."""
    door = Door()
    engine = SeveralEngine(1, on_call=door)
    running = serve("ab", engine)
    people = meet("ab")
    busy, quiet = people["a"].producer, people["b"].producer
    busy.send(picture("red"), 1)
    until(lambda: door.at == 1)
    sent = 1
    for round_ in range(3):
        quiet.send(picture("red"), round_)
        for _ in range(4):
            busy.send(picture("red"), sent)
            sent += 1
            have_come(running, sent + round_ + 1)
        door.open(2)
        until(lambda: door.at == 2 * round_ + 3)  # noqa: B023 - at once
    door.open()
    order = [names_of(call, running.program)[0] for call in engine.calls[:7]]
    assert order == ["a", "b", "a", "b", "a", "b", "a"]


def test_a_frame_or_a_value_that_fails_is_the_concern_of_its_stream_alone(
    serve: Serve, meet: Meet
) -> None:
    door = Door()
    running = serve("ab", SeveralEngine(8, on_call=door))
    people = meet("ab")
    a, b = people["a"], people["b"]

    def fail(_: int) -> None:
        raise EngineError("no memory for this one")

    failing: Any = running.program.lanes[0].engine
    failing._on_infer = fail
    a.producer.send(picture("red"), 1)
    until(lambda: door.at == 1)
    a.producer.send(picture("red"), 2)
    b.producer.send(picture("red"), 2)
    have_come(running, 3)
    door.open()
    until(lambda: b.viewer.results)
    until(lambda: a.viewer.status["text"] == "no memory for this one")
    assert not b.viewer.status["text"]
    assert [lane.statistics.failed for lane in running.program.lanes] == [2, 0]
    a.viewer.link.patch({"steps": [2, 1]}, "test")  # the relay's schema lets it pass
    until(lambda: "ascending" in str(a.viewer.status["text"]))
    assert not b.viewer.status["text"]


def test_a_stream_whose_connection_is_lost_comes_back_and_the_other_goes_on(serve: Serve) -> None:
    """One relay for both, which cuts every second connection at the worst moment."""
    heard: dict[str, list[int]] = {"a": [], "b": []}
    cut = threading.Event()

    def talk(peer: Peer) -> None:
        stream = peer.websocket.request.path.split("/")[2]  # type: ignore[union-attr]
        peer.welcome()
        while peer.hear_text("hello")["credit"] == 0:
            pass
        if stream == "b" and not cut.is_set():
            peer.websocket.send(encode_packet(Packet.of(picture(), seq=1), "input"))
            cut.set()
            peer.cut()
            return
        if stream == "a":
            assert cut.wait(60)
        for seq in (7, 8):
            peer.websocket.send(encode_packet(Packet.of(picture(), seq=seq), "input"))
            while isinstance(peer.hear(), str):
                pass
            heard[stream].append(seq)
        peer.stay()

    with scripted_relay(talk) as uri:
        serve("ab", SeveralEngine(8), uri)
        until(lambda: heard == {"a": [7, 8], "b": [7, 8]}, 60)


def test_a_worker_that_is_sent_away_from_one_stream_stays_at_the_other(
    relay: RunningRelay, serve: Serve, meet: Meet
) -> None:
    running = serve("ab", SeveralEngine(8))
    people = meet("ab")
    first = running.program
    other = serve("b", ScriptedEngine(), replace=True)
    until(lambda: first.lanes[1].over)
    assert first.lanes[1].replaced_by == "a script"
    assert first.replaced_by == "", "it is not: it stays at the other"
    people["a"].producer.send(picture("red"), 1)
    people["b"].producer.send(picture("red"), 1)
    until(lambda: people["a"].viewer.results)
    until(lambda: people["b"].viewer.results)
    assert other.program.statistics.results.count == 1
    last = serve("a", ScriptedEngine(), replace=True)
    assert running.ends() is None, "with its last stream it ends"
    assert first.replaced_by == "a script"
    people["a"].producer.send(picture("red"), 2)
    until(lambda: last.program.statistics.results.count)


class Kept(Sink):
    """Keeps what is written to it."""

    def __init__(self) -> None:
        super().__init__()
        self.frames: list[Frame] = []
        self.closed = 0

    def write(self, frame: Frame) -> None:
        assert not self.closed
        self.frames.append(frame)

    def close(self) -> None:
        self.closed += 1


def test_what_is_on_stage_goes_with_the_first_stream(
    serve: Serve, meet: Meet, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept = Kept()
    monkeypatch.setattr(worker_module, "open_sink", lambda _: kept)
    running = serve("ab", SeveralEngine(8), osc_port=0, sink=["null://"])
    people = meet("ab")
    until(lambda: running.program.osc_port)
    people["a"].producer.send(picture("red"), 1)
    until(lambda: kept.frames)
    heir = serve("a", ScriptedEngine(), osc_port=running.program.osc_port, replace=True)
    until(lambda: kept.closed, 60, "the sink's end")
    until(lambda: heir.program.osc_port, 60, "the port in other hands")
    assert running.program.osc_port is None
    people["b"].producer.send(picture("red"), 1)
    until(lambda: people["b"].viewer.results, 60, "a picture of the stream that is left")
    assert running.stop() is None
    assert kept.closed == 1
    assert running.program.replaced_by == "", "it was stopped"


def test_several_streams_and_a_source_of_its_own_exclude_each_other() -> None:
    settings = WorkerSettings(**{**OFF, "stream": "a,b", "source": "pattern://bars"})
    with pytest.raises(ConfigError, match="several streams of a relay, or a local source"):
        Worker(settings, engine=ScriptedEngine())


# -- requests -------------------------------------------------------------------------------------


def img2img(uri: str, data: bytes, **fields: Any) -> Mapping[str, Any]:
    with connect(uri, compression=None, max_size=None) as websocket:
        image = base64.b64encode(data).decode()
        websocket.send(json.dumps({"type": "img2img", "image": image, **fields}))
        while (answer := json.loads(websocket.recv(60)))["type"] == "welcome":
            pass
        found: Mapping[str, Any] = answer
        return found


def test_requests_that_wait_are_one_call_and_each_has_its_own_answer(
    relay: RunningRelay, serve: Serve
) -> None:
    door = Door()
    engine = SeveralEngine(8, on_call=door)
    running = serve(["default"], engine)
    with Person(relay.websocket) as viewer, ThreadPoolExecutor(5) as pool:
        until(lambda: viewer.status.get("state") == "live")
        prompts = ["red", "blue", "fail", "green", "red"]
        first = pool.submit(img2img, relay.websocket, picture(), prompt=prompts[0])
        until(lambda: door.at == 1)
        rest = [pool.submit(img2img, relay.websocket, picture(), prompt=p) for p in prompts[1:]]
        have_come(running, 5)
        door.open()
        answers = [future.result(60) for future in (first, *rest)]
    assert [len(call) for call in engine.calls] == [1, 4]
    for prompt, answer in zip(prompts, answers, strict=True):
        if prompt == "fail":
            assert (answer["type"], answer["message"]) == ("error", "this prompt fails")
        else:
            assert answer["prompt"] == prompt
            assert colour_of(base64.b64decode(answer["image"])) == prompt


def test_requests_and_frames_of_a_stream_take_turns(relay: RunningRelay, serve: Serve) -> None:
    door = Door()
    engine = SeveralEngine(1, on_call=door)
    running = serve(["default"], engine)
    with People(relay.websocket) as people, ThreadPoolExecutor(4) as pool:
        until(lambda: people.viewer.status.get("state") == "live")
        first = pool.submit(img2img, relay.websocket, picture(), prompt="red")
        until(lambda: door.at == 1)
        rest = [pool.submit(img2img, relay.websocket, picture(), prompt="red") for _ in range(3)]
        have_come(running, 4)
        people.producer.send(picture("red"), 1)
        have_come(running, 5)
        door.open()
        assert all(future.result(60)["type"] == "img2img_result" for future in (first, *rest))
        until(lambda: people.viewer.results)
    kinds = ["frame" if call[0].patch is None else "request" for call in engine.calls]
    assert kinds == ["request", "frame", "request", "request", "request"]


def test_eight_pages_that_borrow_a_worker_share_its_calls(
    relay: RunningRelay, serve: Serve
) -> None:
    door = Door()
    engine = SeveralEngine(8, on_call=door)
    running = serve(["default"], engine)
    prompts = [("red", "green", "blue")[number % 3] for number in range(8)]
    with Person(relay.websocket) as viewer, ExitStack() as stack:
        until(lambda: viewer.status.get("state") == "live")
        pages = [CameraPage(relay, prompt=prompt, empty=0) for prompt in prompts]
        for page in pages:
            stack.enter_context(page)
        have_come(running, 8)
        door.open(100_000)
        for page in pages:
            until(lambda: page.shown, 60, what=f"a picture in {page.prompt}")  # noqa: B023 - at once
        assert len(engine.calls[0]) + len(engine.calls[1]) >= 8
        for page in pages:
            assert {colour_of(data) for data in page.shown} == {page.prompt}
        assert not viewer.results, "nothing of it is the stream's"


def test_pages_and_streams_are_computed_side_by_side(relay: RunningRelay, serve: Serve) -> None:
    door = Door()
    engine = SeveralEngine(8, on_call=door)
    running = serve(["default", "b"], engine)
    with (
        People(relay.websocket) as people,
        People(relay.websocket, "b") as others,
        ThreadPoolExecutor(2) as pool,
    ):
        for those in (people, others):
            until(lambda: those.viewer.status.get("state") == "live")  # noqa: B023 - at once
        others.producer.send(picture("red"), 1)
        until(lambda: door.at == 1)
        asked = pool.submit(img2img, relay.websocket, picture(), prompt="blue")
        have_come(running, 2)
        people.producer.send(picture("red"), 1)
        others.producer.send(picture("red"), 2)
        have_come(running, 4)
        door.open()
        assert colour_of(base64.b64decode(asked.result(60)["image"])) == "blue"
        until(lambda: people.viewer.results)
        until(lambda: others.viewer.results)
    assert [len(call) for call in engine.calls] == [1, 3]
    assert sorted(turn.patch is None for turn in engine.calls[1]) == [False, True, True]
