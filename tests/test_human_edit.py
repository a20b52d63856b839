"""The human-only edit round an engine, with a matting that finds what is bright."""

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import pytest

from dreamrelay import worker as worker_module
from dreamrelay.codec import Frame, decode
from dreamrelay.config import RelaySettings, WorkerSettings
from dreamrelay.engines import Engine, Result
from dreamrelay.engines.masks import composite
from dreamrelay.engines.ports import Mask, Token, Turn
from dreamrelay.errors import (
    ConfigError,
    DreamRelayError,
    EngineError,
    MissingExtra,
    ParameterError,
)
from dreamrelay.human_edit import HumanEdit
from dreamrelay.preprocess import Matting
from dreamrelay.worker import Worker
from tests.fakes.engines import ScriptedEngine
from tests.fakes.peers import People
from tests.fakes.running import Running
from tests.relay.pages import CameraPage
from tests.support import RunningRelay, picture, start_relay, until


class Bright(Matting):
    """Takes what is bright for people."""

    name = "bright"

    def __init__(self) -> None:
        self.loaded = 0
        self.streamed = self.alone = 0
        self.broken = False

    def load(self) -> None:
        self.loaded += 1

    def matte(self, frame: Frame, stream: str = "default") -> Mask:
        self.streamed += 1
        return self._mask(frame)

    def matte_once(self, frame: Frame) -> Mask:
        self.alone += 1
        return self._mask(frame)

    def _mask(self, frame: Frame) -> Mask:
        if self.broken:
            raise EngineError("the matting broke")
        return np.asarray((frame.mean(axis=2) > 128) * 255, np.uint8)

    def reset(self, stream: str | None = None) -> None:
        pass


class Composites(ScriptedEngine):
    """Lays its picture over the frame by the mask, one frame later."""

    def __init__(self) -> None:
        super().__init__()
        self.before: tuple[Frame, Any, Mask | None] | None = None

    def infer(self, frame: Frame, token: Token, mask: Mask | None = None) -> Result[Token] | None:
        last, self.before = self.before, (frame, token, mask)
        if last is None:
            return None
        return Result(self._laid(last[0], {}, last[2]), last[1])

    def infer_once(self, frame: Frame, patch: Mapping[str, Any], mask: Mask | None = None) -> Frame:
        return self._laid(frame, patch, mask)

    def _laid(self, frame: Frame, patch: Mapping[str, Any], mask: Mask | None) -> Frame:
        made = self._paint(frame, self._patched(patch).prompt)
        return made if mask is None else composite(made, frame, mask)


@pytest.fixture
def matting() -> Bright:
    return Bright()


@pytest.fixture
def edit(matting: Bright) -> HumanEdit:
    return HumanEdit(Composites(), lambda: matting)


def half_bright() -> Frame:
    frame = np.zeros((48, 64, 3), np.uint8)
    frame[:, 32:] = 255
    return frame


def test_its_parameters_stand_beside_the_engines(edit: HumanEdit, matting: Bright) -> None:
    assert edit.parameters == {**edit.inner.parameters, "mode": "full", "keep": "background"}
    assert edit.schema()["properties"]["mode"]["enum"] == ["full", "human"]
    assert "prompt" in edit.schema()["properties"]
    edit.apply({"mode": "human", "prompt": "blue"})
    assert (edit.parameters["mode"], edit.inner.parameters["prompt"]) == ("human", "blue")
    assert edit.schema()["properties"]["mode"]["default"] == "human"
    assert not matting.loaded, "nothing is loaded before a frame needs it"


def test_it_hands_on_all_that_an_engine_does() -> None:
    port = {name for name, member in vars(Engine).items() if not name.startswith("_")}
    assert port <= set(vars(HumanEdit)), "what is not handed on is lost in silence"


@pytest.mark.parametrize(
    "patch", [{"mode": "people", "prompt": "blue"}, {"mode": "human", "prompt": 3}]
)
def test_a_patch_is_taken_whole_or_not_at_all(edit: HumanEdit, patch: dict[str, Any]) -> None:
    before = edit.parameters
    with pytest.raises(ParameterError):
        edit.apply(patch)
    assert edit.parameters == before


def test_in_mode_full_no_mask_is_made(edit: HumanEdit, matting: Bright) -> None:
    assert edit.mask(half_bright()) is None
    assert not matting.loaded


def test_the_picture_is_seen_on_people_alone_or_on_all_but_them(edit: HumanEdit) -> None:
    edit.apply({"mode": "human", "prompt": "blue"})
    for keep, painted, kept in (("background", 60, 4), ("person", 4, 60)):
        edit.apply({"keep": keep})
        made = edit.infer_once(half_bright(), {}, edit.mask(half_bright()))
        assert made[24, painted].tolist() == [0, 0, 255]
        assert made[24, kept].tolist() == half_bright()[24, kept].tolist()


def test_a_single_picture_has_a_mask_under_its_own_patch(edit: HumanEdit, matting: Bright) -> None:
    made = edit.infer_once(half_bright(), {"mode": "human", "prompt": "blue"})
    assert made[24, 4].tolist() == [0, 0, 0]
    assert made[24, 60].tolist() == [0, 0, 255]
    assert (matting.alone, matting.streamed) == (1, 0)
    assert edit.parameters["mode"] == "full"


def test_streams_share_a_matting_and_nothing_else(edit: HumanEdit, matting: Bright) -> None:
    other = edit.beside({"mode": "human", "prompt": "blue"})
    assert (edit.parameters["mode"], other.parameters["mode"]) == ("full", "human")
    assert other.parameters["prompt"] == "blue"
    edit.apply({"mode": "human", "keep": "person", "prompt": "red"})
    frame = half_bright()
    dark = np.zeros_like(frame)
    turns = [
        Turn(edit, frame, "one", edit.mask(frame)),
        Turn(other, frame, "other", other.mask(frame)),
        Turn(other, frame, "asked", patch={"mode": "full", "prompt": "green"}),
        Turn(edit, frame, "refused", patch={"mode": "nobody"}),
        Turn(edit, frame, "dark", patch={"keep": "background"}),
        Turn(edit, dark, "nobody there", patch={"keep": "background"}),
    ]
    one, beside, asked, refused, person, nobody = edit.infer_together(turns)
    assert one is None, "it comes one frame later"
    assert isinstance(beside, Result)
    assert beside.frame[24, 4].tolist() == [0, 0, 0]
    assert beside.frame[24, 60].tolist() == [0, 0, 255]
    assert isinstance(asked, Result)
    assert asked.frame[24, 4].tolist() == [0, 255, 0]
    assert isinstance(refused, ParameterError)
    assert isinstance(person, Result)
    assert person.frame[24, 60].tolist() == [255, 0, 0]
    assert isinstance(nobody, Result)
    assert not nobody.frame.any()
    assert matting.loaded == 2, "loading is asked for by each stream, of one matting"
    matting.broken = True
    broken, whole = edit.infer_together(
        [Turn(edit, frame, 1, patch={}), Turn(edit, frame, 2, patch={"mode": "full"})]
    )
    assert isinstance(broken, EngineError)
    assert isinstance(whole, Result)
    with pytest.raises(ParameterError):
        edit.beside({"mode": "nobody"})


# -- in the worker --------------------------------------------------------------------------------


@pytest.fixture
def relay() -> Iterator[RunningRelay]:
    with start_relay(RelaySettings(port=0)) as relay:
        yield relay


def test_each_picture_has_the_mask_of_its_own_frame(
    relay: RunningRelay, matting: Bright, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(worker_module, "open_matting", lambda name: matting)
    settings = WorkerSettings(
        websocket_uri=relay.websocket, osc_port=None, viewer="off", text_to_picture="off"
    )
    with People(relay.websocket) as people:
        running = Running(Worker(settings, engine=Composites()))
        try:
            until(lambda: people.viewer.status.get("state") == "live")
            people.viewer.link.patch({"mode": "human", "prompt": "blue"}, "test")
            until(lambda: people.viewer.values.get("mode") == "human")
            until(lambda: running.program.engine.parameters["mode"] == "human")
            # The first is all person, the second has none: a mask of the wrong one would show.
            people.producer.send(picture("white", (64, 48)), 1)
            until(lambda: matting.streamed == 1)
            people.producer.send(picture("black", (64, 48)), 2)
            first = until(lambda: people.viewer.results)[0]
            people.producer.send(picture("white", (64, 48)), 3)
            second = until(lambda: people.viewer.results[1:])[0]
            assert decode(first.data)[24, 32, 2] > 200
            assert decode(first.data)[24, 32, 0] < 50
            assert decode(second.data)[24, 32].max() < 50
            matting.broken = True
            people.producer.send(picture("white", (64, 48)), 4)
            until(lambda: people.viewer.status["text"] == "the matting broke")
            matting.broken = False
            people.producer.send(picture("white", (64, 48)), 5)
            until(lambda: len(people.viewer.results) == 3)
            until(lambda: people.viewer.status["text"] == "")
        finally:
            running.stop()


@pytest.mark.parametrize(
    "error", [MissingExtra("Robust Video Matting", "onnx"), ConfigError("matting: there is no x")]
)
def test_who_asks_for_a_mask_that_cannot_be_made_is_told_and_the_worker_goes_on(
    relay: RunningRelay, error: DreamRelayError, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(name: str) -> Matting:
        raise error

    monkeypatch.setattr(worker_module, "open_matting", broken)
    settings = WorkerSettings(
        websocket_uri=relay.websocket, osc_port=None, viewer="off", text_to_picture="off"
    )
    with People(relay.websocket) as people:
        running = Running(Worker(settings, engine=Composites()))
        try:
            until(lambda: people.viewer.status.get("state") == "live")
            with CameraPage(relay, "red", "human", empty=0):
                uuids = until(lambda: [n for n in relay.hub.streams if n != "default"])
                until(lambda: relay.hub.streams[uuids[0]].status()["text"] == str(error))
            with CameraPage(relay, "red", "full", empty=0) as page:
                until(lambda: len(page.shown) > 2)
        finally:
            running.stop()


@pytest.mark.parametrize("name", ["people", "rvm:", "rvm:/no/such/file.onnx", "rvm:hub"])
def test_a_matting_that_there_is_not_is_told_at_the_start(name: str) -> None:
    settings = WorkerSettings(osc_port=None, viewer="off", matting=name, offline=True)
    with pytest.raises(ConfigError, match="matting: "):
        Worker(settings, engine=Composites())
