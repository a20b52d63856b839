"""Parameters of a worker, and single pictures that are asked for."""

import base64
import itertools
import json
import threading
from typing import Any

import numpy as np
import pytest
from websockets.sync.client import connect

from dreamrelay.codec import decode, encode_bytes
from dreamrelay.config import RelaySettings
from dreamrelay.errors import EngineError
from dreamrelay.jobs import encode_within
from dreamrelay.packet import Packet
from tests.fakes.engines import ScriptedEngine
from tests.fakes.peers import People
from tests.fakes.workers import BLUE, CYAN, Work, close_to, is_live
from tests.support import RunningRelay, picture, start_relay, until

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
