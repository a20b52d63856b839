"""The window: shows the newest picture, obeys some keys, tells what they did. Child only."""

import collections
import datetime
import functools
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from PySide6.QtCore import QBuffer, QByteArray, QIODevice, QPoint, QRect, QSize, Qt, QTimer
from PySide6.QtGui import (
    QCloseEvent,
    QGuiApplication,
    QImage,
    QImageWriter,
    QKeyEvent,
    QMouseEvent,
    QPainter,
    QPaintEvent,
    QScreen,
)
from PySide6.QtWidgets import QWidget

from dreamrelay.viewer import overlays, testcard
from dreamrelay.viewer.awake import keep_awake
from dreamrelay.viewer.events import (
    Closed,
    Event,
    Opened,
    Painted,
    Paused,
    Preset,
    Record,
    Snapshot,
)
from dreamrelay.viewer.look import FITS, Fit, Look
from dreamrelay.viewer.shared_frames import FrameReader

CURSOR_MS = 2000
SETTLE_MS = 500
"""What a desktop may take to move its windows when a screen has come or gone."""

HEAD_UP_MS = 250
FIRST_SIZE = (960, 600)
DIGITS = tuple(Qt.Key(Qt.Key.Key_0 + number) for number in range(1, 10))


@dataclass(frozen=True, slots=True)
class Options:
    """How the window begins."""

    title: str = "dreamrelay"
    look: Look = field(default_factory=Look)
    snapshots: Path = Path()
    trace: bool = False


@dataclass(frozen=True, slots=True)
class Binding:
    """A row of the table of keys, which the help page shows too.

    ``numbered``: the action is told which of the keys it was, 1 for the first. ``control``: with
    Ctrl (on a Mac, Command).
    """

    keys: tuple[Qt.Key, ...]
    shown: str
    does: str
    action: Callable[[], None] | None = None
    numbered: Callable[[int], None] | None = None
    control: bool = False

    def do(self, key: Qt.Key) -> None:
        if self.action is not None:
            self.action()
        if self.numbered is not None:
            self.numbered(self.keys.index(key) + 1)


class Window(QWidget):
    """Paints the newest of ``frames``; ``tell`` is called with each event."""

    def __init__(
        self, frames: FrameReader, tell: Callable[[Event], None], options: Options
    ) -> None:
        super().__init__()
        self._frames = frames
        self._tell = tell
        self._options = options
        self._image = QImage()
        self._painted = True
        self._written_ns = self._captured_ns = self._seq = 0
        self._status = ""
        self._head_up = overlays.HeadUp()
        self._note = ""
        self._note_until = 0.0
        self._paused = self._helping = False
        self.look = options.look
        self._home = ""
        """Name of the screen that it belongs on."""
        self._away = False
        """That screen is not there."""
        self._card = QImage()
        self._beats: collections.deque[float] = collections.deque(maxlen=240)
        self._saver_problem: str | None = None
        self._saved: collections.deque[Snapshot] = collections.deque()
        self.bindings = self._bindings()

        self.setWindowTitle(options.title)
        self.setMinimumSize(160, 120)
        self.setAttribute(Qt.WidgetAttribute.WA_OpaquePaintEvent)
        self.setMouseTracking(True)
        self._refresh = self._timer(self._refresh_overlays, HEAD_UP_MS)
        self._refresh.start()
        self._cursor = self._timer(self._hide_cursor, CURSOR_MS)
        self._cursor.setSingleShot(True)
        self._beat = self._timer(self.update, 16)
        self._beat.setTimerType(Qt.TimerType.PreciseTimer)
        self._keep_beat()

    def open(self) -> None:
        """Appear on the screen that was asked for."""
        screens = QGuiApplication.screens()
        number, full = self.look.screen, self.look.fullscreen
        problem = None
        if number < len(screens):
            self._go_home(screens[number])
        else:
            self._away = True
            there = ", ".join(f"{at} ({describe(screen)})" for at, screen in enumerate(screens))
            problem = f"screen {number} is not there; there are: {there}"
            self._place(screens[0], bool(full))
            self._say(problem, 10.0)
        self._tell(Opened(problem))
        self.see()
        application = QGuiApplication.instance()
        assert isinstance(application, QGuiApplication)
        application.screenRemoved.connect(self._soon(self._screen_gone))
        application.screenAdded.connect(self._soon(self._screen_came))
        # The desktop may take its time to answer: first the window.
        QTimer.singleShot(0, self, self._stay_awake)

    def _stay_awake(self) -> None:
        self._saver_problem = keep_awake()

    # ----------------------------------------------------------------- what the keys do

    def _bindings(self) -> tuple[Binding, ...]:
        key = Qt.Key
        return (
            Binding(
                (key.Key_F, key.Key_F11),
                "F   F11",
                "full screen, or double click",
                self._full,
            ),
            Binding((key.Key_Escape,), "Esc", "leave full screen, or close", self._escape),
            Binding((key.Key_Space,), "Space", "freeze the picture, go on", self._pause),
            Binding((key.Key_S,), "S", "save the picture as PNG", self._snapshot),
            Binding((key.Key_H,), "H", "figures: rate, age, prompt", self._toggle_hud),
            Binding((key.Key_R,), "R", "record what is shown, stop recording", self._record),
            Binding(DIGITS, "1 \u2026 9", "preset", numbered=self._recall),
            Binding(
                DIGITS,
                "Ctrl 1 \u2026 9",
                "keep the values as a preset",
                numbered=functools.partial(self._recall, save=True),
                control=True,
            ),
            Binding((key.Key_B,), "B", "black, and back", self._blacken),
            Binding((key.Key_T,), "T", "test card", self._test),
            Binding((key.Key_A,), "A", "keep the aspect, fill, stretch", self._next_fit),
            Binding((key.Key_L,), "L", "smooth or sharp pixels", self._next_scaling),
            Binding((key.Key_M,), "M", "mirror the picture", self._mirror),
            Binding((key.Key_N,), "N", "go to the next screen", self._next_screen),
            Binding(
                (key.Key_Question, key.Key_F1), "?   F1", "show or hide these keys", self._help
            ),
        )

    def _full(self) -> None:
        full = not self.isFullScreen()
        number = self._number()  # it may have been dragged there
        self._home, self._away = self.screen().name(), False
        if full:
            self.showFullScreen()
        else:
            self.showNormal()
        self._change(fullscreen=full, screen=number)
        self._wake_cursor()

    def _change(self, **looks: Any) -> None:
        """Look otherwise from now on, and tell it: a window that is opened anew shall look so."""
        self.look = replace(self.look, **looks)
        self._tell(self.look)
        self.update()

    def _escape(self) -> None:
        if self._helping:
            self._help()
        elif self.isFullScreen():
            self._full()
        else:
            self.close()

    def _pause(self) -> None:
        self._paused = not self._paused
        self._say("paused, Space goes on" if self._paused else "")
        self._tell(Paused(self._paused))
        self.see()

    def _snapshot(self) -> None:
        if self._image.isNull():
            self._say("no picture to save yet")
            return
        image = QImage(self._image)
        prompt = self._head_up.info.get("prompt")
        if prompt:
            image.setText("prompt", str(prompt))
        # Compressing a large picture takes longer than a frame may.
        threading.Thread(
            target=lambda: self._saved.append(save(image, self._options.snapshots)),
            name="snapshot",
        ).start()

    def _toggle_hud(self) -> None:
        self._change(hud=not self.look.hud)

    def _mirror(self) -> None:
        self._change(mirror=not self.look.mirror)
        self._say("mirrored" if self.look.mirror else "not mirrored", 1.5)

    def _help(self) -> None:
        self._helping = not self._helping
        self.update()

    def _record(self) -> None:
        self._tell(Record())

    def _recall(self, number: int, *, save: bool = False) -> None:
        self._tell(Preset(number, save))

    def _blacken(self) -> None:
        self._helping = False
        self._change(black=not self.look.black)

    def _test(self) -> None:
        self._change(testing=not self.look.testing)
        self._keep_beat()

    def _keep_beat(self) -> None:
        """The test card moves with the screen."""
        self._card = QImage()
        self._beats.clear()
        if self.look.testing:
            self._beat.setInterval(max(4, round(1000 / max(1.0, self.screen().refreshRate()))))
            self._beat.start()
        else:
            self._beat.stop()

    def _next_fit(self) -> None:
        fits = list(FITS)
        self._change(fit=fits[(fits.index(self.look.fit) + 1) % len(fits)])
        self._say(FITS[self.look.fit], 1.5)

    def _next_scaling(self) -> None:
        self._change(nearest=not self.look.nearest)
        self._say("sharp pixels (nearest)" if self.look.nearest else "smooth (linear)", 1.5)

    def _next_screen(self) -> None:
        screens = QGuiApplication.screens()
        if len(screens) < 2:
            self._say("there is only one screen")
            return
        number = (self._number() + 1) % len(screens)
        self._go_home(screens[number], self.isFullScreen())
        self._change(screen=number, fullscreen=self.isFullScreen())
        self._say(f"screen {number}: {screens[number].name()}", 1.5)

    def _number(self) -> int:
        """Of the screen that it is on."""
        names = [screen.name() for screen in QGuiApplication.screens()]
        name = self.screen().name()
        return names.index(name) if name in names else 0

    def _go_home(self, screen: QScreen, fullscreen: bool | None = None) -> None:
        """Belong on this screen from now on, and look there as it should."""
        self._home, self._away = screen.name(), False
        if fullscreen is None:
            fullscreen = self.look.fullscreen
        self._place(screen, self.look.screen > 0 if fullscreen is None else fullscreen)

    def _screen_gone(self) -> None:
        """A projector that was unplugged takes no picture; the other screen is somebody's desk."""
        screens = QGuiApplication.screens()
        if not self._away and screens and self._home not in [screen.name() for screen in screens]:
            self._away = True
            self._place(screens[0], fullscreen=False)
            self._say(f"screen {self.look.screen} has gone; the window goes back when it comes", 10)

    def _screen_came(self) -> None:
        screens = QGuiApplication.screens()
        if not self._away:
            return
        named = [screen for screen in screens if screen.name() == self._home]
        numbered = screens[self.look.screen : self.look.screen + 1]
        if named or numbered:
            self._go_home([*named, *numbered][0])

    def _soon(self, action: Callable[[], None]) -> Callable[[QScreen], None]:
        timer = self._timer(action, SETTLE_MS)
        timer.setSingleShot(True)
        return lambda _: timer.start()

    def _place(self, screen: QScreen, fullscreen: bool) -> None:
        size = self.size() if self.isVisible() else QSize(*FIRST_SIZE)
        if self.isFullScreen():
            size = self.normalGeometry().size()
            self.showNormal()
        area = screen.availableGeometry()
        most = area.size() * 0.9
        if size.boundedTo(most) != size:
            size.scale(most, Qt.AspectRatioMode.KeepAspectRatio)
        place = QRect(QPoint(), size)
        place.moveCenter(area.center())
        self.setScreen(screen)
        self.setGeometry(place)
        if fullscreen:
            self.showFullScreen()
            self._wake_cursor()
        else:
            self.show()

    # ----------------------------------------------------------------- pictures

    def see(self) -> None:
        """Take the newest picture, and ask to be called with the next."""
        if self._paused:
            return
        self._frames.await_next()
        picture = self._frames.take()
        if picture is None:
            return
        height, width = picture.pixels.shape[:2]
        pixels = QImage(picture.pixels.data, width, height, 3 * width, QImage.Format.Format_RGB888)
        first = self._image.isNull()
        # The conversion copies, and Qt scales 32-bit pixels several times faster.
        self._image = pixels.convertToFormat(QImage.Format.Format_RGB32)
        self._head_up.took(picture.info, (width, height), picture.written_ns)
        self._seq, self._written_ns, self._painted = picture.seq, picture.written_ns, False
        captured = picture.info.get("captured_ns")
        self._captured_ns = captured if isinstance(captured, int) else 0
        if first and not self.isFullScreen() and not self.isMaximized():
            self._fit_window()
        if not (self.look.black or self.look.testing):
            self.update()

    def _fit_window(self) -> None:
        """Give the window the picture's shape, once, around its own middle."""
        area = self.screen().availableGeometry()
        most = QRect(0, 0, round(min(area.width() * 0.8, 960)), round(area.height() * 0.8))
        place = fit(self._image.width(), self._image.height(), most)
        place.moveCenter(self.geometry().center())
        self.setGeometry(place)

    def _refresh_overlays(self) -> None:
        self.see()
        said = self._frames.take_note()
        if said is not None:
            self._say(overlays.one_line(said))
        status = self._frames.take_status()
        if status is not None:
            self._status = overlays.one_line(status)
        while self._saved:
            snapshot = self._saved.popleft()
            self._say(f"saved {snapshot.path}" if snapshot.error is None else snapshot.error)
            self._tell(snapshot)
        expired = bool(self._note) and time.monotonic() > self._note_until
        if expired:
            self._note = ""
        if expired or self.look.hud or status is not None:
            self.update()

    def _say(self, text: str, seconds: float = overlays.NOTE) -> None:
        self._note = text
        self._note_until = time.monotonic() + seconds
        self.update()

    # ----------------------------------------------------------------- Qt calls these

    def paintEvent(self, event: QPaintEvent) -> None:
        painter = QPainter(self)
        area = self.rect()
        shown = not (self.look.black or self.look.testing or self._image.isNull())
        if self.look.black:  # nothing at all: somebody looks at the wall
            painter.fillRect(area, Qt.GlobalColor.black)
        elif self.look.testing:
            self._paint_card(painter, area)
        elif shown:
            self._paint_picture(painter, area)
            if self.look.hud:
                self._head_up.paint(painter, area, self._figures())
        else:
            hint = "" if self._note else "?  shows the keys"
            overlays.waiting_page(painter, area, self._status, hint)
        if self._note and not self.look.black:
            overlays.note(painter, area, self._note)
        if self._helping:
            overlays.help_page(painter, area, [(row.shown, row.does) for row in self.bindings])
        painter.end()
        if shown and not self._painted:
            self._painted = True
            if self._options.trace:
                now = time.time_ns()
                age = (now - self._captured_ns) / 1e6 if self._captured_ns else -1.0
                self._tell(Painted(self._seq, (now - self._written_ns) / 1e6, age))

    def _figures(self) -> list[overlays.Line]:
        return self._head_up.lines(
            paused=self._paused,
            mirrored=self.look.mirror,
            recording_ns=self._frames.recording,
            stand_in=self._frames.stand_in,
            status=self._status,
        )

    def _paint_card(self, painter: QPainter, area: QRect) -> None:
        ratio = self.devicePixelRatioF()
        size = QSize(round(area.width() * ratio), round(area.height() * ratio))
        if self._card.size() != size:
            self._card = testcard.card(size.width(), size.height())
            self._card.setDevicePixelRatio(ratio)
        painter.drawImage(area.topLeft(), self._card)
        now = time.monotonic()
        self._beats.append(now)
        rate = sum(1 for beat in self._beats if now - beat <= 1.0)
        screen = self.screen()
        lines = [
            f"{size.width()} \u00d7 {size.height()} pixels",
            f"{rate} frames a second painted",
            f"screen {self._number()}: {describe(screen)}, {screen.refreshRate():.4g} Hz",
        ]
        if self._saver_problem is not None:
            lines.append(f"the screen saver may come: {self._saver_problem}")
        testcard.over(painter, area, lines, now)

    def _paint_picture(self, painter: QPainter, area: QRect) -> None:
        target = fit(self._image.width(), self._image.height(), area, self.look.fit)
        painter.save()
        if not target.contains(area):
            painter.fillRect(area, Qt.GlobalColor.black)
        painter.setRenderHint(QPainter.RenderHint.SmoothPixmapTransform, not self.look.nearest)
        if self.look.mirror:
            painter.translate(area.width(), 0)
            painter.scale(-1, 1)
        painter.drawImage(target, self._image)
        painter.restore()

    def keyPressEvent(self, event: QKeyEvent) -> None:
        if event.isAutoRepeat():
            return
        key = Qt.Key(Qt.Key.Key_Question if event.text() == "?" else event.key())
        control = bool(event.modifiers() & Qt.KeyboardModifier.ControlModifier)
        for binding in self.bindings:
            if key in binding.keys and binding.control == control:
                binding.do(key)
                return
        super().keyPressEvent(event)

    def mouseDoubleClickEvent(self, event: QMouseEvent) -> None:
        if event.button() == Qt.MouseButton.LeftButton:
            self._full()

    def mouseMoveEvent(self, event: QMouseEvent) -> None:
        self._wake_cursor()

    def closeEvent(self, event: QCloseEvent) -> None:
        self._refresh.stop()
        self._tell(Closed())
        event.accept()

    def _wake_cursor(self) -> None:
        self.unsetCursor()
        self._cursor.start()

    def _hide_cursor(self) -> None:
        if self.isFullScreen():
            self.setCursor(Qt.CursorShape.BlankCursor)

    def _timer(self, action: Callable[[], None], interval: int) -> QTimer:
        timer = QTimer(self)
        timer.setInterval(interval)
        timer.timeout.connect(action)
        return timer


def describe(screen: QScreen) -> str:
    """Its name and its real pixels."""
    size = screen.size() * screen.devicePixelRatio()
    return f"{screen.name()}, {size.width()} \u00d7 {size.height()}"


def fit(width: int, height: int, area: QRect, how: Fit = "contain") -> QRect:
    """Where a picture goes: all of it in the middle of ``area``, or beyond its edges, or on it."""
    if how == "stretch":
        return QRect(area)
    scales = area.width() / width, area.height() / height
    scale = min(scales) if how == "contain" else max(scales)
    wide, high = max(1, round(width * scale)), max(1, round(height * scale))
    return QRect(
        area.x() + (area.width() - wide) // 2, area.y() + (area.height() - high) // 2, wide, high
    )


def save(image: QImage, folder: Path) -> Snapshot:
    """Write a picture as PNG, named by the date and time; never over another file."""
    content = QByteArray()
    buffer = QBuffer(content)
    buffer.open(QIODevice.OpenModeFlag.WriteOnly)
    writer = QImageWriter(buffer, b"png")
    if not writer.write(image):
        return Snapshot(folder, f"cannot save the picture: {writer.errorString()}")
    stem = f"dreamrelay-{datetime.datetime.now():%Y-%m-%d-%H%M%S}"
    path = folder / f"{stem}.png"
    number = 1
    try:
        folder.mkdir(parents=True, exist_ok=True)
        while path.exists():
            number += 1
            path = folder / f"{stem}-{number}.png"
        with path.open("xb") as file:
            file.write(content.data())
    except OSError as error:
        return Snapshot(path, f"cannot save {path}: {error.strerror}")
    return Snapshot(path)
