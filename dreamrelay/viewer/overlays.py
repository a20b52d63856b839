"""What is painted over the picture: waiting page, head-up display, notes, help. Child only.

Near black, white text in the system's font, one size of margin. Nothing moves, nothing decorates:
on a stage whatever is painted here is seen by an audience."""

import collections
import time
from collections.abc import Mapping, Sequence

from PySide6.QtCore import QPointF, QRect, QRectF, Qt
from PySide6.QtGui import QColor, QFont, QFontMetricsF, QPainter, QTextLayout, QTextOption

GROUND = QColor(11, 11, 13)
PANEL = QColor(11, 11, 13, 205)
TEXT = QColor(236, 236, 240)
DIM = QColor(236, 236, 240, 150)
FAINT = QColor(236, 236, 240, 90)
RED = QColor(255, 59, 48)
AMBER = QColor(255, 196, 110)

STALLED = 1.0
"""Seconds without a new picture after which the head-up display says so."""

NOTE = 3.0
"""Seconds that a note stays."""

STAND_INS = {"held": "held", "pass": "camera as it is", "slate": "slate"}
"""What stands in for results, in the words of the studio."""

Line = tuple[str, QColor]


def one_line(text: str) -> str:
    """Text without its line breaks, which nothing here paints."""
    return " ".join(text.split())


def font(area: QRect, size: float = 1.0) -> QFont:
    """The system's font, larger on a large window: it is read from farther away."""
    chosen = QFont()
    chosen.setPixelSize(round(max(13.0, min(area.height() / 52, 28.0)) * size))
    return chosen


def waiting_page(painter: QPainter, area: QRect, status: str, hint: str) -> None:
    """The page before the first picture; the hint stands where a note would."""
    painter.fillRect(area, GROUND)
    above = font(area, 1.5)
    unit = QFontMetricsF(above).height()
    middle = area.center().y()
    rows = [
        (above, TEXT, "waiting for pictures", middle - unit),
        (font(area), DIM, status, middle + unit * 0.35),
        (font(area, 0.9), FAINT, hint, area.bottom() - unit * 2.2),
    ]
    for chosen, colour, text, top in rows:
        painter.setFont(chosen)
        painter.setPen(colour)
        metrics = QFontMetricsF(chosen)
        shown = metrics.elidedText(text, Qt.TextElideMode.ElideRight, area.width() * 0.9)
        row = QRectF(area.left(), top, area.width(), metrics.height())
        painter.drawText(row, int(Qt.AlignmentFlag.AlignCenter), shown)


class HeadUp:
    """Figures about what is shown, in the upper left corner."""

    def __init__(self) -> None:
        self._taken: collections.deque[float] = collections.deque()
        self._last = 0.0
        self._age_ms = 0.0
        self.info: Mapping[str, object] = {}
        self.size = (0, 0)

    def took(self, info: Mapping[str, object], size: tuple[int, int], written_ns: int) -> None:
        """Count a picture that was taken to be shown."""
        self._last = time.monotonic()
        self._taken.append(self._last)
        self._forget(self._last)  # also while nobody asks for the figures
        captured = info.get("captured_ns")
        since = captured if isinstance(captured, int) else written_ns
        self._age_ms = max(0.0, (time.time_ns() - since) / 1e6)
        self.info, self.size = info, size

    def lines(
        self,
        *,
        paused: bool = False,
        mirrored: bool = False,
        recording_ns: int = 0,
        stand_in: str = "",
        status: str = "",
    ) -> list[Line]:
        """What to show now: figures first, then the prompt, then whatever else is known.

        Args:
            recording_ns: since when it records, UNIX time in ns; 0: it does not.
            stand_in: what the stream's viewers see in place of results, of ``STAND_INS``.
            status: what is wrong, if anything.
        """
        now = time.monotonic()
        self._forget(now)
        figures = [
            f"{len(self._taken)} fps",
            f"{self._age_ms:.0f} ms old",
            f"{self.size[0]} \u00d7 {self.size[1]}",
        ]
        engine = self.info.get("fps")
        if isinstance(engine, int | float):
            figures.insert(1, f"engine {engine:.1f} fps")
        if "revision" in self.info:
            figures.append(f"revision {self.info['revision']}")
        if paused:
            figures[0] = "paused"
        elif now - self._last > STALLED:
            figures[0] = f"no new picture for {now - self._last:.0f} s"
        if mirrored:
            figures.append("mirrored")
        lines = [("   ".join(figures), TEXT)]
        if recording_ns:
            lines.insert(0, (f"\u25cf {clock(time.time_ns() - recording_ns)}", RED))
        if status:
            lines.append((status, AMBER))
        if stand_in in STAND_INS:
            lines.append((f"viewers see: {STAND_INS[stand_in]}", TEXT))
        if self.info.get("prompt"):
            lines.append((one_line(str(self.info["prompt"])), TEXT))
        known = {"fps", "revision", "prompt", "captured_ns"}
        others = [f"{name} {value}" for name, value in self.info.items() if name not in known]
        if others:
            lines.append(("   ".join(others), DIM))
        return lines

    def _forget(self, now: float) -> None:
        while self._taken and now - self._taken[0] > 1.0:
            self._taken.popleft()

    def paint(self, painter: QPainter, area: QRect, lines: Sequence[Line]) -> None:
        chosen = font(area)
        margin = QFontMetricsF(chosen).height()
        width = min(area.width() - 2 * margin, margin * 38)
        panel(painter, QPointF(area.left() + margin, area.top() + margin), lines, chosen, width)


def clock(ns: int) -> str:
    """A time that has passed, as 0:07 or 1:02:03."""
    minutes, seconds = divmod(max(0, ns) // 10**9, 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{seconds:02d}" if hours else f"{minutes}:{seconds:02d}"


def note(painter: QPainter, area: QRect, text: str) -> None:
    """One line at the bottom: what has just been done."""
    chosen = font(area)
    metrics = QFontMetricsF(chosen)
    margin = metrics.height()
    shown = metrics.elidedText(text, Qt.TextElideMode.ElideMiddle, area.width() - 4 * margin)
    width = metrics.horizontalAdvance(shown)
    at = QPointF(area.center().x() - width / 2 - margin * 0.8, area.bottom() - 3.2 * margin)
    panel(painter, at, [(shown, TEXT)], chosen, width + margin * 2)


def panel(
    painter: QPainter, at: QPointF, lines: Sequence[Line], chosen: QFont, width: float
) -> None:
    """Lines of text, wrapped at ``width``, on a dark ground as large as they need."""
    metrics = QFontMetricsF(chosen)
    inset = metrics.height() * 0.8
    layouts = []
    height = inset
    widest = 0.0
    for text, colour in lines:
        layout = QTextLayout(text, chosen)
        option = QTextOption()
        option.setWrapMode(QTextOption.WrapMode.WrapAtWordBoundaryOrAnywhere)
        layout.setTextOption(option)
        layout.beginLayout()
        while (line := layout.createLine()).isValid():
            line.setLineWidth(width - 2 * inset)
            line.setPosition(QPointF(0, height))
            height += metrics.height() * 1.15
            widest = max(widest, line.naturalTextWidth())
        layout.endLayout()
        layouts.append((layout, colour))
        height += metrics.height() * 0.15
    painter.setRenderHint(QPainter.RenderHint.Antialiasing)
    painter.setPen(Qt.PenStyle.NoPen)
    painter.setBrush(PANEL)
    painter.drawRoundedRect(QRectF(at.x(), at.y(), widest + 2 * inset, height + inset * 0.7), 6, 6)
    for layout, colour in layouts:
        painter.setPen(colour)
        layout.draw(painter, QPointF(at.x() + inset, at.y()))


def help_page(painter: QPainter, area: QRect, keys: Sequence[tuple[str, str]]) -> None:
    """All keys and what they do, in the middle."""
    chosen = font(area, 1.1)
    metrics = QFontMetricsF(chosen)
    row = metrics.height() * 1.55
    inset = metrics.height() * 1.6
    gap = metrics.height() * 1.6
    left = max(metrics.horizontalAdvance(key) for key, _ in keys)
    right = max(metrics.horizontalAdvance(does) for _, does in keys)
    width = left + gap + right + 2 * inset
    height = row * len(keys) + 2 * inset
    scale = min(1.0, area.width() / (width + 2), area.height() / (height + 2))
    painter.save()
    painter.fillRect(area, QColor(0, 0, 0, 120))
    painter.translate(QPointF(area.center()))
    painter.scale(scale, scale)
    painter.setRenderHint(QPainter.RenderHint.Antialiasing)
    painter.setPen(Qt.PenStyle.NoPen)
    painter.setBrush(QColor(11, 11, 13, 235))
    painter.drawRoundedRect(QRectF(-width / 2, -height / 2, width, height), 8, 8)
    painter.setFont(chosen)
    y = -height / 2 + inset
    for key, does in keys:
        at = QRectF(-width / 2 + inset, y, left, row)
        painter.setPen(TEXT)
        painter.drawText(at, int(Qt.AlignmentFlag.AlignRight | Qt.AlignmentFlag.AlignVCenter), key)
        painter.setPen(DIM)
        at = QRectF(-width / 2 + inset + left + gap, y, right + 4, row)
        painter.drawText(at, int(Qt.AlignmentFlag.AlignLeft | Qt.AlignmentFlag.AlignVCenter), does)
        y += row
    painter.restore()
