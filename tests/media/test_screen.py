"""Screen capture against a real X server."""

import threading
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from dreamrelay.codec import Frame
from dreamrelay.errors import ConfigError, DeviceError
from dreamrelay.media import Source, open_source, screen
from dreamrelay.media.screen import ScreenSource
from tests.fakes.devices import NO_XVFB, Display, has_xvfb, running_xvfb

WIDTH, HEIGHT = 640, 480


@pytest.fixture(scope="session")
def server() -> Iterator[Display]:
    if not has_xvfb():
        pytest.skip(NO_XVFB)
    with running_xvfb(WIDTH, HEIGHT) as display:
        yield display


@pytest.fixture
def display(server: Display, monkeypatch: pytest.MonkeyPatch) -> Display:
    monkeypatch.setenv("DISPLAY", server.name)
    server.show(coordinates())
    return server


def coordinates() -> Frame:
    """Every pixel says where it is."""
    frame = np.zeros((HEIGHT, WIDTH, 3), np.uint8)
    frame[:, :, 0] = np.arange(WIDTH) % 251
    frame[:, :, 1] = (np.arange(HEIGHT) % 241)[:, None]
    frame[:, :, 2] = 200
    return frame


def read(source: Source) -> Frame:
    captured = source.read()
    assert captured is not None
    return captured.frame


def test_the_whole_screen_pixel_by_pixel(display: Display) -> None:
    with open_source("screen://") as source:
        assert np.array_equal(read(source), coordinates())


def test_what_changes_on_the_screen_is_seen(display: Display) -> None:
    with open_source("screen://0?region=10,20,4,3") as source:
        read(source)
        display.show(np.full((3, 4, 3), (255, 128, 1), np.uint8), left=10, top=20)
        assert (read(source) == (255, 128, 1)).all()


def test_a_colour_that_another_program_sets(display: Display) -> None:
    display.run("xsetroot", "-solid", "#ff0000")
    with open_source("screen://0") as source:
        assert (read(source) == (255, 0, 0)).all()


@pytest.mark.parametrize(
    ("region", "rows", "columns"),
    [
        ("100,50,320,200", slice(50, 250), slice(100, 420)),
        ("[100, 50, 320, 200]", slice(50, 250), slice(100, 420)),
        ("0,0,1,1", slice(0, 1), slice(0, 1)),
        ("600,400,512,512", slice(400, 480), slice(600, 640)),
        ("-50,-60,100,100", slice(0, 40), slice(0, 50)),
        ("-50,-60,9999,9999", slice(None), slice(None)),
    ],
)
def test_a_region_is_cut_out_and_clamped(
    display: Display, region: str, rows: slice, columns: slice
) -> None:
    with open_source(f"screen://0?region={region}") as source:
        assert np.array_equal(read(source), coordinates()[rows, columns])


@pytest.mark.parametrize("region", ["640,0,10,10", "0,480,10,10", "-10,0,10,10"])
def test_a_region_beside_the_screen_is_named(display: Display, region: str) -> None:
    with pytest.raises(DeviceError, match="region on the monitor of 640x480"):
        open_source(f"screen://0?region={region}")


@pytest.mark.parametrize("region", ["1,2,3", "a,b,c,d", "0,0,0,5", "0,0,5,-5", "", "1,2,3,4,5"])
def test_a_region_that_is_none_is_refused(region: str) -> None:
    with pytest.raises(ConfigError, match="region: expected x,y,width,height"):
        open_source(f"screen://0?region={region}")


def test_a_monitor_that_is_not_there_is_named(display: Display) -> None:
    with pytest.raises(DeviceError, match="monitor 3 is not there: expected 0 to 0"):
        open_source("screen://3")


def test_several_monitors_each_with_its_own_corner(display: Display) -> None:
    display.run("xrandr", "--setmonitor", "L", "400/100x480/100+0+0", "screen")
    display.run("xrandr", "--setmonitor", "R", "240/100x480/100+400+0", "none")
    try:
        with open_source("screen://0") as left, open_source("screen://1") as right:
            assert np.array_equal(read(left), coordinates()[:, :400])
            assert np.array_equal(read(right), coordinates()[:, 400:])
        with open_source("screen://1?region=10,20,30,40") as part:
            assert isinstance(part, ScreenSource)
            assert part.region == (410, 20, 30, 40)
            assert np.array_equal(read(part), coordinates()[20:60, 410:440])
    finally:
        display.run("xrandr", "--delmonitor", "L")
        display.run("xrandr", "--delmonitor", "R")


def test_a_monitor_that_is_unplugged_is_noticed_and_found_again(
    display: Display, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The X server stays, and would show what is where the monitor was."""
    monkeypatch.setattr(screen, "LOOK_EVERY_S", 0)
    display.run("xrandr", "--setmonitor", "L", "400/100x480/100+0+0", "screen")
    display.run("xrandr", "--setmonitor", "R", "240/100x480/100+400+0", "none")
    try:
        with open_source("screen://1") as source:
            assert np.array_equal(read(source), coordinates()[:, 400:])
            display.run("xrandr", "--delmonitor", "R")
            for _ in range(2):
                with pytest.raises(DeviceError, match="monitor 1 is not there"):
                    source.read()
            display.run("xrandr", "--setmonitor", "R", "200/100x300/100+410+20", "none")
            assert np.array_equal(read(source), coordinates()[20:320, 410:610])
            display.run("xrandr", "--delmonitor", "R")
            display.run("xrandr", "--setmonitor", "R", "240/100x480/100+400+0", "none")
            assert np.array_equal(read(source), coordinates()[:, 400:])
    finally:
        display.run("xrandr", "--delmonitor", "L")
        display.run("xrandr", "--delmonitor", "R")


def test_the_thread_that_reads_may_change(
    display: Display, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And it is always the thread that connected, as other systems than X insist."""
    frames: list[Frame] = []

    class Strict(screen._Grabber):
        def __init__(self, **options: Any) -> None:
            self.made_by = threading.get_ident()
            super().__init__(**options)

        def grab(self, monitor: Any) -> Any:
            assert self.made_by == threading.get_ident()
            return super().grab(monitor)

    monkeypatch.setattr(screen, "_Grabber", Strict)
    with open_source("screen://0?region=0,0,8,8") as source:
        frames.append(read(source))
        thread = threading.Thread(target=lambda: frames.append(read(source)))
        thread.start()
        thread.join(30)
        frames.append(read(source))
    assert len(frames) == 3
    assert all(np.array_equal(frame, frames[0]) for frame in frames)


@pytest.mark.parametrize("name", ["", ":4095", "nonsense"])
def test_no_display_is_named(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DISPLAY", name)
    with pytest.raises(DeviceError, match="is there a display") as caught:
        open_source("screen://0")
    assert "\n" not in str(caught.value)


def test_a_display_that_goes_away_and_comes_back(monkeypatch: pytest.MonkeyPatch) -> None:
    if not has_xvfb():
        pytest.skip(NO_XVFB)
    with running_xvfb(64, 48) as first:
        monkeypatch.setenv("DISPLAY", first.name)
        source = open_source("screen://0")
        assert read(source).shape == (48, 64, 3)
    for _ in range(2):
        with pytest.raises(DeviceError, match="cannot capture"):
            source.read()
    with running_xvfb(80, 60) as second:
        monkeypatch.setenv("DISPLAY", second.name)
        assert read(source).shape == (60, 80, 3)
        source.close()
