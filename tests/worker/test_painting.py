"""Pictures from the prompt alone."""

import threading
from collections.abc import Mapping
from typing import Any

import pytest

from dreamrelay import dreaming
from dreamrelay.codec import Frame
from dreamrelay.engines.ports import Mask
from dreamrelay.errors import EngineError
from dreamrelay.packet import Packet
from dreamrelay.protocol.native import decode_packet, encode_packet
from tests.fakes.engines import ScriptedEngine, ScriptedParameters
from tests.fakes.peers import Person
from tests.fakes.relays import Peer, closed_port, scripted_relay
from tests.fakes.workers import CYAN, Kept, Work, close_to, sink_scheme
from tests.support import RunningRelay, picture, until


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
