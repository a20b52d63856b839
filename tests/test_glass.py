"""``bench glass``: what it sees, what it says, and how it ends."""

import json
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest

from dreamrelay import glass
from dreamrelay.child import Child
from dreamrelay.codec import Frame, resize
from dreamrelay.config import BenchSettings
from dreamrelay.errors import ConfigError, DeviceError, EngineError
from dreamrelay.glass import ScreenEye, Sight, run_glass, table
from dreamrelay.media import Captured, Source
from dreamrelay.media.pattern import PatternOptions
from dreamrelay.media.timecode import TICK_NS, TimeCode, ticks
from dreamrelay.telemetry import Percentiles
from tests.support import RunningRelay

MS = 1_000_000


class FakeScreen:
    """A screen of 800x600 with the clock in a window, which the test moves."""

    def __init__(self) -> None:
        self.place: tuple[int, int, int] | None = (100, 50, 300)
        self.code = ticks(time.time_ns())
        self.fails = 0
        self.opened: list[str] = []

    def open(self, url: str) -> Source:
        self.opened.append(url)
        return FakeSource(self, url)

    def shot(self) -> Frame:
        screen = np.full((600, 800, 3), 90, np.uint8)
        if self.place is not None:
            x, y, side = self.place
            options = PatternOptions(width=256, height=256)
            drawn = TimeCode(options, unix_ns=lambda: self.code * TICK_NS)(0)
            screen[y : y + side, x : x + side] = resize(drawn, side, side)
        return screen


class FakeSource(Source):
    live = True
    fps = None

    def __init__(self, screen: FakeScreen, url: str) -> None:
        self._screen = screen
        region = url.partition("region=")[2]
        x, y, width, height = map(int, region.split(",")) if region else (0, 0, 800, 600)
        self._part = (slice(y, y + height), slice(x, x + width))

    def read(self) -> Captured | None:
        if self._screen.fails:
            self._screen.fails -= 1
            raise DeviceError("the display has gone")
        return Captured(np.ascontiguousarray(self._screen.shot()[self._part]), time.time_ns())

    def close(self) -> None:
        pass


@pytest.fixture
def screen(monkeypatch: pytest.MonkeyPatch) -> FakeScreen:
    made = FakeScreen()
    monkeypatch.setattr(glass, "open_source", made.open)
    return made


class TestScreenEye:
    def test_each_picture_is_seen_once(self, screen: FakeScreen) -> None:
        eye, sight = ScreenEye(), Sight("screen")
        for _ in range(3):  # it is found, then read; what was there before is not counted
            eye.look(sight)
        assert sight.glass == []
        assert "region=" in screen.opened[-1]
        for _ in range(4):
            screen.code = (screen.code + 50) % (1 << 24)
            eye.look(sight)
            eye.look(sight)
        assert len(sight.glass) == len(sight.late) == 4
        assert sight.unread == 0
        eye.close()

    def test_a_window_that_moves_is_found_again(
        self, screen: FakeScreen, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(glass, "LOST_SECONDS", 0.0)
        eye, sight = ScreenEye(), Sight("screen")
        eye.look(sight)
        eye.look(sight)
        screen.place = (420, 200, 240)
        eye.look(sight)
        assert sight.unread == 1
        eye.look(sight)
        eye.look(sight)
        screen.code = (screen.code + 1) % (1 << 24)
        eye.look(sight)
        assert len(sight.glass) == 1
        eye.close()

    def test_a_screen_without_a_clock_shows_nothing(self, screen: FakeScreen) -> None:
        screen.place = None
        eye, sight = ScreenEye(), Sight("screen")
        eye.look(sight)
        assert (sight.glass, sight.unread) == ([], 0)

    def test_a_screen_may_be_away_for_a_moment(
        self, screen: FakeScreen, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        eye, sight = ScreenEye(), Sight("screen")
        screen.fails = 2
        eye.look(sight)
        eye.look(sight)
        monkeypatch.setattr(glass, "SCREEN_SECONDS", -1.0)
        screen.fails = 1
        with pytest.raises(DeviceError):
            eye.look(sight)


def test_the_table_has_both_and_their_difference() -> None:
    seen = Sight("packets", [float(ms) for ms in range(100)], [float(ms) for ms in range(100)])
    window = Sight("window", [500.0, *[90.0] * 9], said=Percentiles(80, 81, 82, 9), unread=3)
    window.late = [7.0]
    window.when = [0.0, *[50.0] * 9]  # what is said is of the last ten seconds
    blind = Sight("page in the browser")
    lines = table([seen, window, blind])
    assert "50 / 95 / 99" in lines[2]
    assert "+0 / +0 / +0" in lines[2]
    assert "+10 / +9 / +8" in lines[3]
    assert "7 at most" in lines[3]
    assert lines[4].split()[-4:] == ["-", "-", "-", "-"]
    assert window.figures()["stamps_ms"]["p50"] == 80
    assert blind.figures()["stamps_ms"] is None


def measured(
    settings: BenchSettings, stopped: threading.Event | None = None
) -> tuple[int, list[str]]:
    said: list[str] = []
    return run_glass(settings, said.append, stopped or threading.Event()), said


def test_a_clock_goes_through_all_of_it_and_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Real programs, once."""
    monkeypatch.setattr(glass, "SETTLE_SECONDS", 0.1)
    path = tmp_path / "glass.json"
    code, said = measured(
        BenchSettings(seconds=1, fps=10, window="off", browser="off", save=str(path))
    )
    assert code == 0, said
    kept = json.loads(path.read_text(encoding="utf-8"))
    (sight,) = kept["sights"]
    assert sight["by"] == "packets"
    assert sight["pictures"] > 0
    # One clock: what the stamps leave out is the drawing of the picture.
    assert sight["glass_ms"]["p50"] > 0
    assert sight["stamps_ms"]["count"] == sight["pictures"]
    assert {"encoded", "handed", "inferred", "returned"} <= set(kept["hops_ms"])
    assert {clock["role"] for clock in kept["clocks"]} == {"producer", "worker", "viewer"}
    assert kept["machine"] in "\n".join(said)


def test_it_can_be_stopped(monkeypatch: pytest.MonkeyPatch) -> None:
    stopped = threading.Event()
    started: list[Child] = []
    find = Child.find

    def stop_then(self: Child, pattern: str, seconds: float = 60) -> str:
        started.append(self)
        stopped.set()
        return find(self, pattern, seconds)

    monkeypatch.setattr(Child, "find", stop_then)
    code, said = measured(BenchSettings(window="off", browser="off"), stopped)
    assert code == 130
    assert said[-1] == "stopped"
    with pytest.raises(EngineError, match=r"the relay (was )?ended"):
        started[0].check()


@pytest.mark.parametrize(
    ("flags", "text"),
    [
        ({"window": "on"}, "--window=on: no display"),
        ({"window": "off", "browser": "on"}, "--browser=on"),
        ({"window": "off", "browser": "off", "save": "/no/such/folder/x.json"}, "no folder"),
    ],
)
def test_what_cannot_be_is_said_before_anything_starts(
    flags: dict[str, str], text: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(glass, "viewer_available", lambda: "no display to show a window on")
    monkeypatch.setattr("shutil.which", lambda _: None)
    monkeypatch.setattr(glass, "Bench", None)
    with pytest.raises(ConfigError, match=text):
        measured(BenchSettings.model_validate(flags))


def test_a_program_that_dies_at_its_start_is_told_with_its_reason(
    monkeypatch: pytest.MonkeyPatch, relay: RunningRelay
) -> None:
    """The worker here; all are watched from their start on."""
    waits = "import time; time.sleep(600)"
    scripts = {
        "the relay": f"print('studio at {relay.url}', flush=True); {waits}",
        "the producer": waits,
        "the worker": "exit('dreamrelay: no such model')",
    }
    begun: list[Child] = []

    def start(name: str, _: list[str], alone: str) -> Child:
        begun.append(Child(name, [sys.executable, "-c", scripts[name]], alone=alone))
        return begun[-1]

    monkeypatch.setattr(glass, "Child", start)
    expected = r"the worker ended with 1: no such model; .* worker --model=x$"
    with pytest.raises(EngineError, match=expected):
        measured(BenchSettings(window="off", browser="off", model="x"))
    assert [child.name for child in begun] == list(scripts)
    assert all(child.code is not None for child in begun), "nobody is left behind"
