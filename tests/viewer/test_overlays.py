"""What is painted over the picture, without a display: Qt's offscreen platform in this process."""

import os
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PySide6.QtCore import QRect, Qt
from PySide6.QtGui import QImage
from PySide6.QtTest import QTest
from PySide6.QtWidgets import QApplication

from dreamrelay.viewer import Event, Opened, Paused, Snapshot, overlays, window
from dreamrelay.viewer.shared_frames import FrameReader, FrameWriter
from dreamrelay.viewer.window import Options, Window, fit, save

Key = Qt.Key
Frame = NDArray[np.uint8]


@pytest.fixture(scope="module")
def application() -> Iterator[QApplication]:
    before = os.environ.get("QT_QPA_PLATFORM")
    os.environ["QT_QPA_PLATFORM"] = "offscreen"
    application = QApplication.instance() or QApplication(["dreamrelay"])
    assert isinstance(application, QApplication)
    yield application
    if before is None:
        del os.environ["QT_QPA_PLATFORM"]
    else:
        os.environ["QT_QPA_PLATFORM"] = before


class Shown:
    """A window of this process, its writer, and what it told."""

    def __init__(self, application: QApplication, options: Options) -> None:
        self.application = application
        self.writer = FrameWriter()
        handle = self.writer.handle
        if sys.platform != "win32":
            handle = str(os.dup(int(handle)))
        self.reader = FrameReader(handle)
        self.told: list[Event] = []
        self.window = Window(self.reader, self.told.append, options)
        self.window.open()

    def show(self, frame: Frame, **info: object) -> None:
        self.writer.write(frame, info)
        self.until(lambda: not self.reader.waiting, "the picture is taken")

    def press(self, key: Qt.Key) -> None:
        QTest.keyClick(self.window, key)

    def until(self, condition: Callable[[], object], what: str) -> None:
        deadline = time.monotonic() + 10
        while not condition():
            assert time.monotonic() < deadline, what
            self.application.processEvents()

    def see(self) -> Frame:
        image = self.window.grab().toImage().convertToFormat(QImage.Format.Format_RGB888)
        rows = np.frombuffer(image.constBits(), np.uint8).reshape(image.height(), -1)
        return rows[:, : 3 * image.width()].reshape(image.height(), image.width(), 3).copy()

    def close(self) -> None:
        self.window.close()
        self.window.deleteLater()
        self.application.processEvents()
        self.reader.close()
        self.writer.close()


Opener = Callable[[Options], Shown]


@pytest.fixture
def open_with(application: QApplication) -> Iterator[Opener]:
    shown: list[Shown] = []

    def open_with(options: Options) -> Shown:
        shown.append(Shown(application, options))
        return shown[-1]

    yield open_with
    for one in shown:
        one.close()


@pytest.fixture
def shown(open_with: Opener) -> Shown:
    return open_with(Options())


GREY = np.full((300, 400, 3), 128, np.uint8)
DIM = (128, 128, 128)


@pytest.mark.parametrize(
    ("size", "area", "expected"),
    [
        ((100, 100), (0, 0, 200, 100), (50, 0, 100, 100)),
        ((400, 100), (0, 0, 200, 200), (0, 75, 200, 50)),
        ((512, 512), (10, 20, 512, 512), (10, 20, 512, 512)),
        ((10000, 1), (0, 0, 100, 100), (0, 49, 100, 1)),
    ],
)
def test_fit(
    size: tuple[int, int], area: tuple[int, int, int, int], expected: tuple[int, int, int, int]
) -> None:
    assert fit(*size, QRect(*area)) == QRect(*expected)


def test_opening_is_told(shown: Shown) -> None:
    assert shown.told == [Opened()]


def test_a_picture_fills_the_window(shown: Shown) -> None:
    shown.show(GREY)
    seen = shown.see()
    assert seen.shape[1] * 3 == pytest.approx(seen.shape[0] * 4, abs=4)
    assert (seen == 128).all()


def test_the_window_takes_the_shape_of_the_first_picture_only(shown: Shown) -> None:
    shown.show(GREY)
    size = shown.window.size()
    shown.show(np.full((64, 640, 3), 9, np.uint8))
    assert shown.window.size() == size


def test_head_up_display_covers_one_corner_only(shown: Shown) -> None:
    shown.show(GREY, prompt="a fox", revision=3, captured_ns=time.time_ns())
    shown.press(Key.Key_H)
    seen = shown.see()
    height, width = seen.shape[:2]
    assert (seen[: height // 4, : width // 2] > 200).any(), "there is text"
    assert (seen[height // 2 :] == 128).all()
    shown.press(Key.Key_H)
    assert (shown.see() == 128).all()


def test_help_lists_every_key(shown: Shown, monkeypatch: pytest.MonkeyPatch) -> None:
    rows: list[tuple[str, str]] = []

    def help_page(painter: object, area: object, keys: list[tuple[str, str]]) -> None:
        rows[:] = keys

    monkeypatch.setattr(overlays, "help_page", help_page)
    QTest.keyClicks(shown.window, "?")
    shown.see()
    assert [key for key, _ in rows] == ["F   F11", "Esc", "Space", "S", "H", "M", "N", "?   F1"]
    assert all(does for _, does in rows)


def test_help_fits_a_small_window(shown: Shown) -> None:
    shown.window.resize(170, 130)
    shown.show(GREY)
    shown.window.resize(170, 130)
    shown.press(Key.Key_F1)
    seen = shown.see()
    assert max(seen[0].max(), seen[:, 0].max()) < 100, "nothing is cut at the edge"
    assert (seen > 100).any()


def test_a_note_goes_away(shown: Shown, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(overlays, "NOTE", 0.05)
    shown.show(GREY)
    shown.press(Key.Key_Space)
    assert not (shown.see() == 128).all()
    shown.window._note_until = time.monotonic()
    shown.until(lambda: (shown.see() == 128).all(), "the note goes away")
    assert Paused(True) in shown.told


def test_snapshot_before_the_first_picture_saves_nothing(open_with: Opener, tmp_path: Path) -> None:
    shown = open_with(Options(snapshots=tmp_path))
    shown.press(Key.Key_S)
    assert list(tmp_path.iterdir()) == []


def test_snapshot_keeps_the_prompt_and_ignores_the_mirror(
    open_with: Opener, tmp_path: Path
) -> None:
    shown = open_with(Options(snapshots=tmp_path, mirror=True, hud=True))
    pixels = np.zeros((10, 20, 3), np.uint8)
    pixels[:, :10, 0] = 255
    shown.show(pixels, prompt="a fox")
    assert shown.see()[-1, -1].tolist() == [255, 0, 0], "it is shown mirrored"
    shown.press(Key.Key_S)
    shown.until(lambda: any(isinstance(event, Snapshot) for event in shown.told), "it is saved")
    (path,) = tmp_path.iterdir()
    image = QImage(str(path))
    assert image.pixelColor(0, 0).red() == 255
    assert image.text("prompt") == "a fox"


def test_snapshots_of_one_second_have_names_of_their_own(tmp_path: Path) -> None:
    image = QImage(4, 4, QImage.Format.Format_RGB32)
    image.fill(Qt.GlobalColor.red)
    paths = {save(image, tmp_path / "new").path for _ in range(3)}
    assert {path.name for path in (tmp_path / "new").iterdir()} == {path.name for path in paths}
    assert len(paths) == 3


def test_cursor_hides_in_full_screen_and_comes_back(
    open_with: Opener, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(window, "CURSOR_MS", 20)
    shown = open_with(Options())
    blank = Qt.CursorShape.BlankCursor
    shown.press(Key.Key_F)
    shown.until(lambda: shown.window.cursor().shape() == blank, "the cursor hides")
    QTest.mouseMove(shown.window, shown.window.rect().center())
    QTest.mouseMove(shown.window, shown.window.rect().topLeft())
    shown.until(lambda: shown.window.cursor().shape() != blank, "the cursor comes back")
    shown.press(Key.Key_Escape)
    assert not shown.window.isFullScreen()
    assert shown.window.cursor().shape() != blank


def test_polling_rests_when_no_picture_comes(shown: Shown) -> None:
    shown.show(GREY)
    assert shown.window._poll.interval() == window.POLL_MS
    shown.window._fresh -= 5
    shown.until(lambda: shown.window._poll.interval() == window.IDLE_POLL_MS, "it rests")


class TestHeadUp:
    def test_figures(self) -> None:
        head_up = overlays.HeadUp()
        info = {"prompt": "a fox", "revision": 7, "fps": 31.25, "model": "pocket"}
        head_up.took(info, (512, 384), time.time_ns() - 40_000_000)
        lines = [text for text, _ in head_up.lines(mirrored=True)]
        figures = lines[0].split("   ")
        assert figures[:2] == ["1 fps", "engine 31.2 fps"]
        assert 40 <= int(figures[2].removesuffix(" ms old")) < 1000
        assert figures[3:] == ["512 \u00d7 384", "revision 7", "mirrored"]
        assert lines[1:] == ["a fox", "model pocket"]

    def test_the_age_is_that_of_the_capture_where_it_is_known(self) -> None:
        head_up = overlays.HeadUp()
        now = time.time_ns()
        head_up.took({"captured_ns": now - 5_000_000_000}, (8, 8), now)
        assert "   50" in head_up.lines()[0][0]

    @pytest.mark.parametrize("captured", ["yesterday", None, 10**19])
    def test_a_capture_time_that_cannot_be_is_no_age(self, captured: object) -> None:
        head_up = overlays.HeadUp()
        head_up.took({"captured_ns": captured}, (8, 8), time.time_ns())
        assert int(head_up.lines()[0][0].split("   ")[1].removesuffix(" ms old")) < 1000

    def test_says_that_nothing_comes(self) -> None:
        head_up = overlays.HeadUp()
        head_up.took({}, (8, 8), time.time_ns())
        head_up._last -= 4
        assert head_up.lines()[0][0].startswith("no new picture for 4 s")
        assert head_up.lines(paused=True)[0][0].startswith("paused")
