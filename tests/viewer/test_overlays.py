"""What is painted over the picture, without a display: Qt's offscreen platform in this process."""

import os
import re
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PySide6.QtCore import QRect, Qt
from PySide6.QtGui import QColor, QImage, QPainter
from PySide6.QtTest import QTest
from PySide6.QtWidgets import QApplication

from dreamrelay.viewer import (
    Event,
    Opened,
    Paused,
    Preset,
    Record,
    Snapshot,
    overlays,
    testcard,
    window,
)
from dreamrelay.viewer.look import Look
from dreamrelay.viewer.shared_frames import FrameReader, FrameWriter
from dreamrelay.viewer.window import Options, Window, fit, save
from tests.support import ROOT

Key = Qt.Key
KEYS = ["F   F11", "Esc", "Space", "S", "H", "R", "1 \u2026 9", "Ctrl 1 \u2026 9"]
KEYS += ["B", "T", "A", "L", "M", "N", "?   F1"]
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


def image_rows(image: QImage) -> Frame:
    """Its pixels."""
    image = image.convertToFormat(QImage.Format.Format_RGB888)
    rows = np.frombuffer(image.constBits(), np.uint8).reshape(image.height(), -1)
    return rows[:, : 3 * image.width()].reshape(image.height(), image.width(), 3).copy()


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
        if self.writer.awaited():
            self.window.see()
        self.until(lambda: not self.reader.waiting, "the picture is taken")

    def press(self, key: Qt.Key) -> None:
        QTest.keyClick(self.window, key)

    def until(self, condition: Callable[[], object], what: str) -> None:
        deadline = time.monotonic() + 10
        while not condition():
            assert time.monotonic() < deadline, what
            self.application.processEvents()

    def see(self) -> Frame:
        return image_rows(self.window.grab().toImage())

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
    assert [key for key, _ in rows] == KEYS
    assert all(does for _, does in rows)


def test_every_key_is_in_the_docs() -> None:
    page = (ROOT / "docs" / "viewer.md").read_text(encoding="utf-8")
    documented = set(re.findall(r"<kbd>(.+?)</kbd>", page))
    assert documented == {key for row in KEYS for key in row.split("   ")}


def test_digits_are_presets_and_with_ctrl_they_are_kept(shown: Shown) -> None:
    shown.press(Key.Key_1)
    shown.press(Key.Key_9)
    QTest.keyClick(shown.window, Key.Key_4, Qt.KeyboardModifier.ControlModifier)
    assert shown.told[1:] == [Preset(1), Preset(9), Preset(4, save=True)]


def test_a_letter_with_ctrl_is_another_key(shown: Shown) -> None:
    QTest.keyClick(shown.window, Key.Key_R, Qt.KeyboardModifier.ControlModifier)
    assert shown.told == [Opened()]
    shown.press(Key.Key_R)
    assert shown.told == [Opened(), Record()]


def test_black_is_black_whatever_else_is_on(shown: Shown) -> None:
    shown.show(GREY, prompt="a fox")
    shown.press(Key.Key_H)
    shown.press(Key.Key_B)
    shown.writer.set_note("preset 4")
    shown.show(GREY + 20)
    shown.application.processEvents()
    assert (shown.see() == 0).all()
    shown.press(Key.Key_B)
    shown.press(Key.Key_H)
    shown.window._note = ""
    assert (shown.see() == 148).all(), "the stream went on"


def test_black_before_the_first_picture_and_over_the_test_card(shown: Shown) -> None:
    shown.press(Key.Key_B)
    assert (shown.see() == 0).all()
    shown.press(Key.Key_T)
    assert (shown.see() == 0).all()


def test_the_test_card_is_of_the_window_s_own_pixels(shown: Shown) -> None:
    shown.show(GREY)
    shown.press(Key.Key_T)
    shown.window.resize(641, 479)
    seen = shown.see()
    height, width = seen.shape[:2]
    assert (height, width) == (479, 641)
    for edge in (seen[0], seen[-1], seen[:, 0], seen[:, -1]):
        assert (edge == 255).all(), "the outermost pixels are lit"
    assert (seen[1, 1:-1] == 0).all()
    for square in testcard.fine_of(width, height):
        fine = seen[square.top() + 2, square.left() : square.right() + 1, 0]
        assert (fine[::2] == 255).all(), "every other pixel is lit"
        assert (fine[1::2] == 0).all()
    row = seen[round(height * 0.2)]
    colours = [tuple(row[round(width * (0.15 + 0.7 * (n + 0.5) / 8))]) for n in range(8)]
    assert colours == [tuple(QColor(name).getRgb()[:3]) for name in testcard.BARS]  # type: ignore[index]


def test_the_test_card_moves_and_says_size_and_rate(
    shown: Shown, monkeypatch: pytest.MonkeyPatch
) -> None:
    said: list[list[str]] = []

    def over(painter: object, area: object, lines: list[str], now: float) -> None:
        said.append(lines)

    monkeypatch.setattr(testcard, "over", over)
    shown.window.resize(640, 480)
    shown.press(Key.Key_T)
    shown.until(lambda: len(said) > 10, "it is painted again and again")
    assert said[-1][0] == "640 \u00d7 480 pixels"
    assert int(said[-1][1].removesuffix(" frames a second painted")) > 1
    assert said[-1][2].startswith("screen 0: ")
    assert said[-1][2].endswith(" Hz")
    shown.press(Key.Key_T)
    painted = len(said)
    shown.show(GREY)
    assert len(said) == painted


def test_aspect_filled_and_stretched(shown: Shown) -> None:
    shown.show(GREY)
    wide = np.full((100, 400, 3), 90, np.uint8)
    wide[:, :50] = 200
    shown.show(wide)
    assert shown.see()[0, 0].tolist() == [0, 0, 0], "black above and below"
    shown.press(Key.Key_A)
    shown.window._note = ""
    assert (shown.see() == 90).all(), "the edges are cut"
    shown.press(Key.Key_A)
    shown.window._note = ""
    seen = shown.see()
    assert seen[0, 0].tolist() == [200, 200, 200]
    assert seen[-1, -1].tolist() == [90, 90, 90]
    shown.press(Key.Key_A)
    assert shown.see()[0, 0].tolist() == [0, 0, 0]


def test_pixels_are_smooth_or_sharp(shown: Shown) -> None:
    board = np.zeros((6, 8, 3), np.uint8)
    board[::2, ::2] = board[1::2, 1::2] = 255
    shown.show(board)
    assert len(np.unique(shown.see())) > 20
    shown.press(Key.Key_L)
    shown.window._note = ""
    assert np.unique(shown.see()).tolist() == [0, 255]


def test_a_recording_is_a_red_dot_in_the_head_up_display(shown: Shown) -> None:
    shown.show(GREY)
    shown.press(Key.Key_H)

    def red() -> bool:
        seen = shown.see().astype(int)
        return bool(((seen[..., 0] - seen[..., 1]) > 120).any())

    assert not red()
    shown.writer.set_recording(time.time_ns() - 65 * 10**9)
    assert red()
    assert shown.window._figures()[0][0] == "\u25cf 1:05"
    shown.writer.set_recording(0)
    assert not red()


def test_what_viewers_see_in_place_of_results_is_in_the_head_up_display(shown: Shown) -> None:
    shown.show(GREY)
    shown.press(Key.Key_H)
    assert len(shown.window._figures()) == 1
    shown.writer.set_stand_in("slate")
    assert shown.window._figures()[1][0] == "viewers see: slate"
    shown.writer.set_stand_in("what no relay says yet")
    assert len(shown.window._figures()) == 1


def test_the_worker_says_something_in_the_window(shown: Shown) -> None:
    shown.show(GREY)
    assert (shown.see() == 128).all()
    shown.writer.set_note("no such preset: 4")
    shown.until(lambda: shown.window._note == "no such preset: 4", "it is shown")
    assert not (shown.see() == 128).all()


def test_a_screen_that_is_not_there_is_told(open_with: Opener) -> None:
    (opened,) = open_with(Options(look=Look(screen=7))).told
    assert isinstance(opened, Opened)
    assert opened.problem is not None
    assert opened.problem.startswith("screen 7 is not there; there are: 0 (")


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
    shown = open_with(Options(look=Look(mirror=True, hud=True), snapshots=tmp_path))
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


def test_a_frozen_window_asks_for_no_pictures_until_it_goes_on(shown: Shown) -> None:
    shown.show(GREY)
    shown.press(Key.Key_Space)
    shown.writer.write(GREY + 20, {})
    shown.writer.awaited()
    shown.writer.write(GREY + 40, {})
    assert not shown.writer.awaited()
    assert shown.reader.waiting
    shown.press(Key.Key_Space)
    assert not shown.reader.waiting
    assert (shown.see() == 168).all(), "it goes on with the newest"


def test_a_picture_is_taken_even_if_nobody_says_that_it_is_there(shown: Shown) -> None:
    shown.show(GREY)
    shown.writer.write(GREY + 20, {})
    shown.until(lambda: not shown.reader.waiting, "the picture is taken")


def test_black_hides_the_help_too(shown: Shown) -> None:
    shown.show(GREY)
    shown.press(Key.Key_F1)
    shown.press(Key.Key_B)
    assert (shown.see() == 0).all()
    shown.press(Key.Key_F1)
    assert not (shown.see() == 0).all(), "somebody asked how to get out"


@pytest.mark.parametrize("size", [(330, 900), (1901, 301), (200, 150), (1080, 1920)])
def test_what_the_test_card_says_covers_nothing_else_of_it(
    shown: Shown, size: tuple[int, int]
) -> None:
    width, height = size
    card = testcard.card(width, height)
    before = image_rows(card)
    painter = QPainter(card)
    lines = ["the screen saver may come: nobody answers there", *["1920 x 1080"] * 3]
    testcard.over(painter, QRect(0, 0, width, height), lines, 0.0)
    painter.end()
    rows, columns = np.nonzero((image_rows(card) != before).any(axis=2))
    strip = testcard.strip_of(width, height)
    rows, columns = rows[rows < strip.top()], columns[rows < strip.top()]
    assert len(rows) > 100, "there is text"
    assert 0 < columns.min() < columns.max() < width - 1, "nothing is cut at the sides"
    assert rows.min() >= int(height * 0.38), "colours and greys are free"
    assert rows.max() < testcard.fine_of(width, height)[0].top(), "the fields are free"


def test_what_is_wrong_is_said_while_it_is(shown: Shown) -> None:
    shown.press(Key.Key_H)
    shown.show(GREY)
    shown.writer.set_status("no relay: nothing\nlistens there")
    shown.until(lambda: len(shown.window._figures()) == 2, "it is said")
    assert shown.window._figures()[1][0] == "no relay: nothing listens there"
    shown.writer.set_status("")
    shown.until(lambda: len(shown.window._figures()) == 1, "it is over")


class TestHeadUp:
    def test_keeps_no_more_than_a_second_while_nobody_looks(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        head_up = overlays.HeadUp()
        now = 0.0
        monkeypatch.setattr(time, "monotonic", lambda: now)
        for _ in range(600):
            now += 1 / 60
            head_up.took({}, (8, 8), 0)
        assert len(head_up._taken) <= 61

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

    def test_a_prompt_of_several_lines_is_one(self) -> None:
        head_up = overlays.HeadUp()
        head_up.took({"prompt": "a fox\nin\tthe snow"}, (8, 8), time.time_ns())
        assert head_up.lines()[1][0] == "a fox in the snow"

    @pytest.mark.parametrize(
        ("seconds", "text"),
        [(0, "0:00"), (65, "1:05"), (3599, "59:59"), (8 * 3600 + 61, "8:01:01")],
    )
    def test_times_have_hours_where_there_are_any(self, seconds: int, text: str) -> None:
        assert overlays.clock(seconds * 10**9) == text

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

    @pytest.mark.parametrize(
        ("word", "line"),
        [("held", "held"), ("pass", "camera as it is"), ("slate", "slate")],
    )
    def test_says_what_stands_in_for_results(self, word: str, line: str) -> None:
        head_up = overlays.HeadUp()
        head_up.took({"prompt": "a fox"}, (8, 8), time.time_ns())
        lines = [text for text, _ in head_up.lines(stand_in=word)]
        assert lines[1:] == [f"viewers see: {line}", "a fox"]
        assert [text for text, _ in head_up.lines(stand_in="a surprise")][1:] == ["a fox"]

    def test_says_that_nothing_comes(self) -> None:
        head_up = overlays.HeadUp()
        head_up.took({}, (8, 8), time.time_ns())
        head_up._last -= 4
        assert head_up.lines()[0][0].startswith("no new picture for 4 s")
        assert head_up.lines(paused=True)[0][0].startswith("paused")
