"""A source that goes on, and is made to fit."""

import logging
import sys
import threading
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from dreamrelay.codec import Fit, Frame
from dreamrelay.errors import ConfigError, DeviceError
from dreamrelay.media import Captured, Source
from dreamrelay.media.catalog import SOURCES
from dreamrelay.media.steady import Fitting, SteadySource, card
from tests.fakes.devices import NO_XVFB, NetworkCamera, bars, has_xvfb, running_xvfb
from tests.support import until


class Flaky(Source):
    """Gives what its plan says: a frame, an error, or None at its end."""

    def __init__(self, *plan: Frame | DeviceError | None, live: bool = True) -> None:
        self.live = live
        self.plan = list(plan)
        self.reads = 0
        self.closed = False

    def read(self) -> Captured | None:
        self.reads += 1
        now = self.plan[min(self.reads, len(self.plan)) - 1]
        if isinstance(now, DeviceError):
            raise now
        return None if now is None else Captured(now, self.reads)

    def close(self) -> None:
        self.closed = True


Opened = Callable[..., SteadySource]


@pytest.fixture
def steady(monkeypatch: pytest.MonkeyPatch) -> Opened:
    monkeypatch.setattr("dreamrelay.media.steady.FIRST_WAIT_S", 0.001)
    monkeypatch.setattr("dreamrelay.media.steady.LONGEST_WAIT_S", 0.01)

    def make(source: Source, **options: Any) -> SteadySource:
        class Row:
            def load(self) -> Callable[[object], Source]:
                return lambda _: source

        monkeypatch.setitem(SOURCES, "flaky", Row())
        return SteadySource("flaky://", Fitting(None, None), **options)

    return make


def frame(width: int = 8, height: int = 4) -> Frame:
    made = np.zeros((height, width, 3), np.uint8)
    made[0] = 255
    return made


@pytest.mark.parametrize(
    ("size", "fit", "shape"),
    [
        ((None, None), "cover", (4, 8, 3)),
        ((16, None), "cover", (8, 16, 3)),
        ((None, 8), "cover", (8, 16, 3)),
        ((10, 10), "cover", (10, 10, 3)),
        ((10, 10), "contain", (10, 10, 3)),
        ((1, None), "stretch", (1, 1, 3)),
    ],
)
def test_frames_are_made_to_fit(
    size: tuple[int | None, int | None], fit: Fit, shape: tuple[int, ...]
) -> None:
    assert Fitting(*size, fit)(frame()).shape == shape


def test_cover_cuts_contain_adds_bars_and_stretch_changes_the_aspect() -> None:
    wide = np.full((4, 8, 3), 200, np.uint8)
    wide[:, :2] = (255, 0, 0)
    assert Fitting(4, 4, "cover")(wide)[:, 0, 1].min() > 100
    assert Fitting(8, 8, "contain")(wide)[0].max() == 0
    stretched = Fitting(8, 8, "stretch")(wide)
    assert stretched[0, 0].tolist() == [255, 0, 0]
    assert stretched[0, 7].tolist() == [200, 200, 200]


def test_flip_turns_upside_down_and_not_left_and_right() -> None:
    card = bars(1)[0]
    turned = Fitting(None, None, flip=True)(card)
    assert np.array_equal(turned, card[::-1])
    assert turned.flags.c_contiguous


def test_an_error_is_said_once_and_is_over_with_the_next_picture(
    steady: Opened, caplog: pytest.LogCaptureFixture
) -> None:
    gone = DeviceError("the webcam was pulled out")
    source = Flaky(frame(), gone, gone, gone, frame(), None)
    with caplog.at_level(logging.WARNING), steady(source) as going:
        assert going.read() is not None
        assert going.read() is not None
        assert going.trouble == ""
        assert going.read() is None
    assert source.closed
    assert caplog.text.count("pulled out") == 1
    assert "pictures come again" in caplog.text


def test_the_main_thread_may_tend_it_at_any_time() -> None:
    source = Flaky(frame())
    tended: list[int] = []
    source.tend = lambda: tended.append(1)  # type: ignore[method-assign]
    going = SteadySource("camera://0", opener=lambda: source)
    going.tend()  # not open yet
    going.open()
    going.tend()
    going.close()
    assert tended == [1]


def test_no_password_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    source = Flaky(frame(), DeviceError("gone"), frame())
    url = "http://me:s3cret@cam/live?pwd=s3cret"
    with SteadySource(url, opener=lambda: source) as going:
        assert going.read() is not None
        assert going.read() is not None
    assert "http://me:***@cam/live?***: pictures come again" in caplog.text
    assert "s3cret" not in caplog.text


def test_what_is_missing_can_be_seen_while_it_is(steady: Opened) -> None:
    source = Flaky(frame(64, 48), DeviceError("the webcam was pulled out"))
    seen: list[str] = []
    with steady(source) as going:
        going.read()
        thread = threading.Thread(target=lambda: seen.append(str(going.read())))
        thread.start()
        until(lambda: going.trouble == "the webcam was pulled out")
        assert not seen
        going.stop()
        thread.join(30)
    assert seen == ["None"]


def test_a_notice_is_a_picture_that_says_why(steady: Opened) -> None:
    source = Flaky(frame(320, 240), DeviceError("the webcam was pulled out"))
    with steady(source, notice=True) as going:
        assert going.read() is not None
        notices = [going.read(), going.read()]
    assert all(one is not None and one.frame.shape == (240, 320, 3) for one in notices)
    assert notices[0] is not None
    assert notices[1] is not None
    assert notices[0].captured_ns < notices[1].captured_ns
    assert np.array_equal(notices[0].frame, card("the webcam was pulled out", 320, 240))
    assert notices[0].frame.max() > 150


def test_what_is_stored_fails_as_it_did(steady: Opened) -> None:
    with (
        steady(Flaky(DeviceError("no such folder"), live=False)) as going,
        pytest.raises(DeviceError, match="no such folder"),
    ):
        going.read()


def test_what_is_not_there_at_the_start_is_told() -> None:
    going = SteadySource("camera:///no/such/device", wait=False)
    with pytest.raises(DeviceError):
        going.open()
    going.close()


def test_what_comes_and_goes_is_waited_for_from_the_start(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dreamrelay.media.steady.FIRST_WAIT_S", 0.001)
    tries: list[str] = []
    heard: list[str] = []

    def opener() -> Source:
        tries.append("")
        if len(tries) < 4:
            raise DeviceError("no camera 0")
        return Flaky(frame(), None)

    with SteadySource("camera://0", hear=heard.append, opener=opener) as going:
        going.open()
        assert going.trouble == "no camera 0"
        assert going.read() is not None
        assert going.trouble == ""
        assert going.read() is None
    assert heard == ["no camera 0", ""]


@pytest.mark.parametrize(
    ("url", "error", "text"),
    [
        ("camera://0?widht=640", ConfigError, "did you mean width"),
        ("nonsense://0", ConfigError, "expected a path or a source URL"),
        ("no/such/file.png", DeviceError, "nothing is at"),
        ("directory:///no/such/folder", DeviceError, "folder"),
        ("spout://A" if sys.platform != "win32" else "syphon://A", DeviceError, "technology of"),
    ],
)
def test_what_can_never_come_is_not_waited_for(url: str, error: type[Exception], text: str) -> None:
    with SteadySource(url) as going, pytest.raises(error, match=text):
        going.open()
    with SteadySource(url) as going, pytest.raises(error, match=text):
        going.read()


def test_waiting_has_an_end() -> None:
    def opener() -> Source:
        raise DeviceError("no camera 0")

    with SteadySource("camera://0", opener=opener) as going:
        going.ends_at = time.monotonic() + 0.05
        assert going.read() is None
        assert going.trouble == "no camera 0"


def test_a_camera_that_is_pulled_out_and_put_in_again() -> None:
    """A real MJPEG camera: its connection is cut while it runs."""
    with NetworkCamera(bars(4)) as camera:
        going = SteadySource(camera.url, Fitting(96, 64))
        with going:
            going.open()
            assert going.read() is not None
            camera.unplug()
            until(lambda: going.read() is not None and camera.connections >= 2)
            captured = going.read()
            assert captured is not None
            assert captured.frame.shape == (64, 96, 3)


def test_a_screen_that_goes_and_comes_back(monkeypatch: pytest.MonkeyPatch) -> None:
    """A real X server dies; another takes its place."""
    if not has_xvfb():
        pytest.skip(NO_XVFB)
    with running_xvfb(320, 240) as display:
        monkeypatch.setenv("DISPLAY", display.name)
        going = SteadySource("screen://0", Fitting(None, None))
        going.open()
        assert going.read() is not None
    frames: list[Captured | None] = []
    thread = threading.Thread(target=lambda: frames.append(going.read()))
    thread.start()
    until(lambda: going.trouble)
    with running_xvfb(200, 100) as display:
        monkeypatch.setenv("DISPLAY", display.name)
        thread.join(60)
        going.close()
    assert frames
    assert frames[0] is not None
    assert frames[0].frame.shape == (100, 200, 3)
