"""What the window's keys switch in the worker, with a window that only listens."""

import logging
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from dreamrelay import projection as module
from dreamrelay.errors import ConfigError, DeviceError, MissingExtra
from dreamrelay.media.ports import Sink
from dreamrelay.osc import Presets
from dreamrelay.projection import Projection
from dreamrelay.viewer import Closed, Event, Opened, Painted, Preset, Record, Snapshot, Viewer

FRAME = np.full((64, 64, 3), 90, np.uint8)


class Window(Viewer):
    """A viewer without a window, that remembers what it was asked to show."""

    def __init__(self, folder: Path) -> None:
        super().__init__(snapshots=folder)
        self.waiting: list[Event] = []
        self.notes: list[str] = []
        self.said = ""
        self.since: list[int] = []
        self.restarts = 0
        self.refuses = False

    def events(self) -> list[Event]:
        taken, self.waiting = self.waiting, []
        return taken

    def note(self, text: str) -> None:
        self.notes.append(text)

    def status(self, text: str) -> None:
        self.said = text

    def recording(self, since_ns: int) -> None:
        self.since.append(since_ns)

    def restart(self) -> None:
        self.restarts += 1
        if self.refuses:
            raise DeviceError("no display")


class Scene:
    def __init__(self, folder: Path) -> None:
        self.window = Window(folder / "a folder 50% full")
        self.file = folder / "presets.json"
        self.values: dict[str, Any] = {"prompt": "a fox", "strength": 0.5}
        self.changes: list[dict[str, Any]] = []
        self.woken = 0
        self.projection = Projection(
            self.window,
            self.file,
            change=self.changes.append,
            values=lambda: self.values,
            schema=lambda: {
                "properties": {
                    "prompt": {"type": "string"},
                    "strength": {"type": "number", "maximum": 1},
                }
            },
            wake=self.wake,
        )

    def wake(self) -> None:
        self.woken += 1

    def do(self, *events: Event) -> bool:
        self.window.waiting += events
        return self.projection.look()


@pytest.fixture
def scene(tmp_path: Path) -> Iterator[Scene]:
    scene = Scene(tmp_path)
    yield scene
    scene.projection.close()


@pytest.mark.parametrize(
    ("state", "text", "fraction", "missing", "said"),
    [
        ("live", "", None, {"no picture": "", "no relay": ""}, ""),
        ("live", "disk full", None, {"no picture": ""}, "disk full"),
        ("live", "", None, {"no picture": "no camera 0"}, "no picture: no camera 0"),
        ("loading", "text encoder", 0.456, {}, "loading: text encoder, 46%"),
        ("warming", "", None, {}, "warming up"),
        (
            "paused",
            "",
            None,
            {"no picture": "a", "no relay": "b"},
            "paused; no picture: a; no relay: b",
        ),
    ],
)
def test_the_window_says_how_the_worker_is(
    scene: Scene,
    state: str,
    text: str,
    fraction: float | None,
    missing: dict[str, str],
    said: str,
) -> None:
    scene.projection.explain(state, text, fraction, missing)
    assert scene.window.said == said


def test_a_preset_is_kept_and_recalled(scene: Scene) -> None:
    scene.do(Preset(4, save=True))
    scene.values = {"prompt": "a heron", "strength": 1.0}
    scene.do(Preset(4))
    assert scene.changes == [{"prompt": "a fox", "strength": 0.5}]
    assert scene.window.notes == ["preset 4 saved", "preset 4"]


def test_presets_are_those_of_osc_whoever_saved_last(scene: Scene) -> None:
    osc = Presets(scene.file)
    osc.save("1", {"prompt": "one"})
    scene.do(Preset(2, save=True))
    osc.save("3", {"prompt": "three"})
    assert osc.names() == ["1", "2", "3"]
    scene.do(Preset(3))
    assert scene.changes == [{"prompt": "three"}]


def test_what_this_engine_does_not_have_is_left_out(scene: Scene) -> None:
    Presets(scene.file).save("1", {"prompt": "one", "delta": 0.3})
    scene.do(Preset(1))
    assert scene.changes == [{"prompt": "one"}]


def test_a_value_that_fits_no_more_costs_no_other(scene: Scene) -> None:
    Presets(scene.file).save("1", {"prompt": "one", "strength": 3})
    scene.do(Preset(1))
    assert scene.changes == [{"prompt": "one"}]
    assert scene.window.notes == ["preset 1 holds but for strength: expected at most 1, got 3"]


def test_a_preset_that_is_not_there_is_said(scene: Scene) -> None:
    scene.do(Preset(7))
    assert scene.window.notes == ["no such preset: 7 (there are: none yet)"]
    assert scene.changes == []


def test_before_the_engine_is_there_nothing_is_saved(scene: Scene) -> None:
    scene.values = {}
    scene.do(Preset(1, save=True), Preset(2))
    assert scene.window.notes == [
        "preset 1: the engine has not said yet what it takes",
        "preset 2: the engine has not said yet what it takes",
    ]
    assert not scene.file.exists()


def test_a_recording_begins_and_ends(scene: Scene) -> None:
    av = pytest.importorskip("av")
    scene.do(Record())
    path = scene.projection.recording
    assert path is not None
    assert path.parent == scene.window.folder
    assert path.name.startswith(f"dreamrelay-{time.strftime('%Y-%m-')}")
    for _ in range(5):
        scene.projection.show(FRAME, {})
    scene.do(Record())
    assert scene.projection.recording is None
    assert scene.woken == 1, "the thread that writes is the one that closes"
    scene.projection.renew()
    assert scene.window.notes == [f"recording to {path.name}", f"recorded to {path.name}"]
    assert scene.window.since[0] > 0
    assert scene.window.since[1:] == [0]
    with av.open(str(path)) as file:
        assert 1 <= sum(1 for _ in file.decode(video=0)) <= 5, "nobody waits for the encoder"


def test_a_recording_without_a_picture_leaves_no_file(scene: Scene) -> None:
    pytest.importorskip("av")
    scene.do(Record(), Record())
    scene.projection.renew()
    assert scene.window.notes[-1] == "nothing was recorded"
    assert list(scene.window.folder.iterdir()) == []


@pytest.mark.parametrize(
    "error", [MissingExtra("recording", "record"), DeviceError("no room"), ConfigError("no")]
)
def test_a_recording_that_cannot_begin_is_said(
    scene: Scene, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    def open_sink(url: str) -> Sink:
        raise error

    monkeypatch.setattr(module, "open_sink", open_sink)
    scene.do(Record())
    scene.projection.show(FRAME, {})
    assert scene.window.notes == [f"no recording: {error}"]
    assert scene.window.since == []


class Full(Sink):
    full = False

    def write(self, frame: object) -> None:
        if self.full:
            raise DeviceError("the disk is full")


def test_a_recording_that_fails_is_said_once_and_the_show_goes_on(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    sink = Full()
    monkeypatch.setattr(module, "open_sink", lambda url: sink)
    scene.do(Record())
    for full in (False, True, True, False, False):
        sink.full = full
        scene.projection.show(FRAME, {})
    assert scene.window.notes[1:] == ["the disk is full", "recording again"]


def test_closing_the_window_ends_the_recording(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "open_sink", lambda url: Full())
    assert not scene.do(Record())
    assert scene.do(Closed())
    assert scene.projection.recording is None
    assert scene.window.restarts == 0


def test_a_window_that_was_lost_is_opened_again_later_and_later(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = 1000.0
    monkeypatch.setattr(time, "monotonic", lambda: now)
    monkeypatch.setattr(module, "viewer_available", lambda: None)
    monkeypatch.setattr(module, "open_sink", lambda url: Full())
    scene.do(Opened(), Record())
    assert not scene.do(Closed("the viewer ended with -9"))
    assert scene.window.restarts == 0
    scene.window.refuses = True
    tried = []
    for _ in range(1300):
        now += 0.1
        before = scene.window.restarts
        scene.do()
        if scene.window.restarts != before:
            tried.append(round(now - 1000.0))
    assert tried == [1, 3, 7, 15, 31, 61, 91, 121]
    assert scene.projection.recording is not None, "that goes on"
    scene.window.refuses = False
    now += 30
    scene.do()
    scene.do(Opened())
    now += 100
    scene.do(Closed("the viewer ended with -9"))
    before = scene.window.restarts
    now += 1.1
    scene.do()
    assert scene.window.restarts == before + 1, "it had stood for long"


def test_a_window_that_never_opened_is_left_alone(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    scene.do(Closed("the viewer ended with 1"))
    monkeypatch.setattr(time, "monotonic", lambda: 1e9)
    scene.do()
    assert scene.window.restarts == 0


def test_a_screen_that_is_not_there_is_in_the_log(
    scene: Scene, caplog: pytest.LogCaptureFixture
) -> None:
    scene.do(Opened("screen 3 is not there; there are: 0 (L, 640 x 800)"))
    assert "--viewer_screen: screen 3 is not there" in caplog.text


def test_a_snapshot_is_in_the_log(scene: Scene, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    scene.do(Snapshot(Path("a.png"), "no room"), Snapshot(Path("b.png")))
    assert "snapshot a.png: no room" in caplog.text
    assert "snapshot b.png: saved" in caplog.text


def test_what_was_painted_is_told_once(scene: Scene) -> None:
    scene.do(Painted(1, 4.0, 80.0), Painted(2, 5.0, -1.0), Painted(3, 6.0, 82.0))
    assert scene.projection.seen() == [(4, 80), (6, 82)], "a picture without a time has no age"
    assert scene.projection.seen() == []
    scene.do(*(Painted(number, 4.0, float(number)) for number in range(200)))
    assert len(scene.projection.seen()) == module.KEPT_SEEN
