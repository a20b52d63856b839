"""Frames: there and back, through the pipeline, and what goes wrong."""

import itertools
import json
import logging
import threading
from typing import Any

import pytest

from dreamrelay import lane as lane_module
from dreamrelay.codec import Frame, decode
from dreamrelay.config import RelaySettings
from dreamrelay.engines import Report, Result
from dreamrelay.engines.ports import Mask, Token
from dreamrelay.errors import DreamRelayError, EngineError, ParameterError
from dreamrelay.jobs import Batch
from dreamrelay.lane import CREDIT
from dreamrelay.packet import Hop, Packet
from dreamrelay.protocol.native import encode_packet
from tests.fakes.engines import ScriptedEngine
from tests.fakes.peers import People
from tests.fakes.relays import Peer, scripted_relay
from tests.fakes.workers import CYAN, Kept, Work, close_to, is_live, sink_scheme
from tests.support import RunningRelay, picture, start_relay, until

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
