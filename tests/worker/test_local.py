"""Sinks and sources of a worker of its own."""

import itertools
import logging
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from PIL import Image

from dreamrelay import returning
from dreamrelay.cli import work_report
from dreamrelay.codec import Frame, encode_bytes
from dreamrelay.config import WorkerSettings
from dreamrelay.engines import Result
from dreamrelay.engines.ports import Mask, Token
from dreamrelay.errors import ConfigError, DeviceError
from dreamrelay.media import Captured, Source, open_source, steady
from dreamrelay.media.catalog import SOURCES
from dreamrelay.media.steady import SteadySource
from dreamrelay.worker import Worker
from tests.fakes.engines import ScriptedEngine
from tests.fakes.peers import People
from tests.fakes.relays import closed_port
from tests.fakes.spoutgl import Gpu
from tests.fakes.workers import CYAN, Kept, Work, is_live, sink_scheme
from tests.support import RunningRelay, picture, until


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
