"""The window: shows the newest picture, obeys some keys, tells what they did. Child only."""

import collections
import datetime
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

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

from dreamrelay.viewer import overlays
from dreamrelay.viewer.events import Closed, Event, Opened, Painted, Paused, Snapshot
from dreamrelay.viewer.shared_frames import FrameReader

POLL_MS = 2
"""How often the window looks for a new picture: one look at one word of memory."""

IDLE_POLL_MS = 10
"""The same, after a second without one."""

CURSOR_MS = 2000
HEAD_UP_MS = 250
FIRST_SIZE = (960, 600)


@dataclass(frozen=True, slots=True)
class Options:
    """How the window begins."""

    title: str = "dreamrelay"
    fullscreen: bool = False
    screen: int = 0
    snapshots: Path = Path()
    hud: bool = False
    mirror: bool = False
    trace: bool = False


@dataclass(frozen=True, slots=True)
class Binding:
    """A row of the table of keys, which the help page shows too."""

    keys: tuple[Qt.Key, ...]
    shown: str
    does: str
    action: Callable[[], None]


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
        self._written_ns = self._seq = 0
        self._status = ""
        self._head_up = overlays.HeadUp()
        self._note = ""
        self._note_until = 0.0
        self._fresh = 0.0
        self._paused = self._helping = False
        self._hud, self._mirrored = options.hud, options.mirror
        self._saved: collections.deque[Snapshot] = collections.deque()
        self.bindings = self._bindings()

        self.setWindowTitle(options.title)
        self.setMinimumSize(160, 120)
        self.setAttribute(Qt.WidgetAttribute.WA_OpaquePaintEvent)
        self.setMouseTracking(True)
        self._poll = self._timer(self._look, POLL_MS)
        self._poll.setTimerType(Qt.TimerType.PreciseTimer)
        self._poll.start()
        self._refresh = self._timer(self._refresh_overlays, HEAD_UP_MS)
        self._refresh.start()
        self._cursor = self._timer(self._hide_cursor, CURSOR_MS)
        self._cursor.setSingleShot(True)

    def open(self) -> None:
        """Appear on the screen that was asked for."""
        screens = QGuiApplication.screens()
        number = self._options.screen
        if number < len(screens):
            self._place(screens[number], self._options.fullscreen or number > 0)
        else:
            self._place(screens[0], self._options.fullscreen)
            self._say(f"screen {number} is not there, only 0 to {len(screens) - 1}", 10.0)
        self._tell(Opened())

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
            Binding((key.Key_M,), "M", "mirror the picture", self._mirror),
            Binding((key.Key_N,), "N", "go to the next screen", self._next_screen),
            Binding(
                (key.Key_Question, key.Key_F1), "?   F1", "show or hide these keys", self._help
            ),
        )

    def _full(self) -> None:
        if self.isFullScreen():
            self.showNormal()
        else:
            self.showFullScreen()
        self._wake_cursor()

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
        self._hud = not self._hud
        self.update()

    def _mirror(self) -> None:
        self._mirrored = not self._mirrored
        self._say("mirrored" if self._mirrored else "not mirrored", 1.5)

    def _help(self) -> None:
        self._helping = not self._helping
        self.update()

    def _next_screen(self) -> None:
        screens = QGuiApplication.screens()
        if len(screens) < 2:
            self._say("there is only one screen")
            return
        names = [screen.name() for screen in screens]
        number = (names.index(self.screen().name()) + 1) % len(screens)
        self._place(screens[number], self.isFullScreen())
        self._say(f"screen {number}: {screens[number].name()}", 1.5)

    def _place(self, screen: QScreen, fullscreen: bool) -> None:
        if self.isFullScreen():
            self.showNormal()
        area = screen.availableGeometry()
        size = self.size() if self.isVisible() else QSize(*FIRST_SIZE)
        place = QRect(QPoint(), size.boundedTo(area.size() * 0.9))
        place.moveCenter(area.center())
        self.setScreen(screen)
        self.setGeometry(place)
        if fullscreen:
            self.showFullScreen()
            self._wake_cursor()
        else:
            self.show()

    # ----------------------------------------------------------------- pictures

    def _look(self) -> None:
        now = time.monotonic()
        if self._frames.waiting and not self._paused:
            self._take(now)
        interval = POLL_MS if now - self._fresh < 1.0 else IDLE_POLL_MS
        if self._poll.interval() != interval:
            self._poll.setInterval(interval)

    def _take(self, now: float) -> None:
        picture = self._frames.take()
        if picture is None:
            return
        height, width = picture.pixels.shape[:2]
        pixels = QImage(picture.pixels.data, width, height, 3 * width, QImage.Format.Format_RGB888)
        first = self._image.isNull()
        # The conversion copies, and Qt scales 32-bit pixels several times faster.
        self._image = pixels.convertToFormat(QImage.Format.Format_RGB32)
        self._head_up.took(picture.info, (width, height), picture.written_ns)
        self._fresh = now
        self._seq, self._written_ns, self._painted = picture.seq, picture.written_ns, False
        if first and not self.isFullScreen() and not self.isMaximized():
            self._fit_window()
        self.update()

    def _fit_window(self) -> None:
        """Give the window the picture's shape, once, around its own middle."""
        area = self.screen().availableGeometry()
        most = QRect(0, 0, round(min(area.width() * 0.8, 960)), round(area.height() * 0.8))
        place = fit(self._image.width(), self._image.height(), most)
        place.moveCenter(self.geometry().center())
        self.setGeometry(place)

    def _refresh_overlays(self) -> None:
        status = self._frames.take_status()
        if status is not None:
            self._status = status
        while self._saved:
            snapshot = self._saved.popleft()
            self._say(f"saved {snapshot.path}" if snapshot.error is None else snapshot.error)
            self._tell(snapshot)
        expired = bool(self._note) and time.monotonic() > self._note_until
        if expired:
            self._note = ""
        if expired or self._hud or status is not None:
            self.update()

    def _say(self, text: str, seconds: float = overlays.NOTE) -> None:
        self._note = text
        self._note_until = time.monotonic() + seconds
        self.update()

    # ----------------------------------------------------------------- Qt calls these

    def paintEvent(self, event: QPaintEvent) -> None:
        painter = QPainter(self)
        area = self.rect()
        if self._image.isNull():
            overlays.waiting_page(painter, area, self._status)
        else:
            self._paint_picture(painter, area)
            if self._hud:
                lines = self._head_up.lines(paused=self._paused, mirrored=self._mirrored)
                self._head_up.paint(painter, area, lines)
        if self._note:
            overlays.note(painter, area, self._note)
        if self._helping:
            overlays.help_page(painter, area, [(row.shown, row.does) for row in self.bindings])
        painter.end()
        if not self._painted:
            self._painted = True
            if self._options.trace:
                self._tell(Painted(self._seq, (time.time_ns() - self._written_ns) / 1e6))

    def _paint_picture(self, painter: QPainter, area: QRect) -> None:
        target = fit(self._image.width(), self._image.height(), area)
        painter.save()
        if target != area:
            painter.fillRect(area, Qt.GlobalColor.black)
        painter.setRenderHint(QPainter.RenderHint.SmoothPixmapTransform)
        if self._mirrored:
            painter.translate(area.width(), 0)
            painter.scale(-1, 1)
        painter.drawImage(target, self._image)
        painter.restore()

    def keyPressEvent(self, event: QKeyEvent) -> None:
        if event.isAutoRepeat():
            return
        key = Qt.Key.Key_Question if event.text() == "?" else event.key()
        for binding in self.bindings:
            if key in binding.keys:
                binding.action()
                return
        super().keyPressEvent(event)

    def mouseDoubleClickEvent(self, event: QMouseEvent) -> None:
        if event.button() == Qt.MouseButton.LeftButton:
            self._full()

    def mouseMoveEvent(self, event: QMouseEvent) -> None:
        self._wake_cursor()

    def closeEvent(self, event: QCloseEvent) -> None:
        self._poll.stop()
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


def fit(width: int, height: int, area: QRect) -> QRect:
    """The largest rectangle of that aspect in the middle of ``area``."""
    scale = min(area.width() / width, area.height() / height)
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
