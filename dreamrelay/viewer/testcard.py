"""The test card: what a projector is set up with, in the window's own pixels. Child only.

Painted once for each size; what moves and what is written is painted over it. One line goes round
the outermost pixels, so that a cut edge shows; the circle is one only where nothing is stretched;
the fields of lines are grey where a pixel of ours is not a pixel of the projector.
"""

from PySide6.QtCore import QPointF, QRect, QRectF, Qt
from PySide6.QtGui import QColor, QFont, QFontMetricsF, QImage, QPainter, QPen

from dreamrelay.viewer.overlays import TEXT, font, panel

BARS = ("#ffffff", "#ffff00", "#00ffff", "#00ff00", "#ff00ff", "#ff0000", "#0000ff", "#000000")
STEPS = 16
SECONDS = 4.0
"""That the moving bar takes from one side to the other."""


def card(width: int, height: int) -> QImage:
    """The part that does not move, of so many real pixels."""
    image = QImage(width, height, QImage.Format.Format_RGB32)
    image.fill(QColor(24, 24, 27))
    painter = QPainter(image)
    _grid(painter, width, height)
    _bars(painter, width, height)
    painter.setRenderHint(QPainter.RenderHint.Antialiasing)
    painter.setPen(QPen(Qt.GlobalColor.white, max(1.0, height / 400)))
    radius = min(width, height) * 0.46
    painter.drawEllipse(QPointF(width / 2, height / 2), radius, radius)
    painter.setRenderHint(QPainter.RenderHint.Antialiasing, False)
    for square in fine_of(width, height):
        _fine(painter, square)
    painter.setPen(QPen(Qt.GlobalColor.black, 1))
    painter.drawRect(1, 1, width - 3, height - 3)
    painter.setPen(QPen(Qt.GlobalColor.white, 1))
    painter.drawRect(0, 0, width - 1, height - 1)
    painter.end()
    return image


def over(painter: QPainter, area: QRect, lines: list[str], now: float) -> None:
    """What moves, and what is written: in the middle, so that no cut edge takes it."""
    place = now / SECONDS % 1.0
    strip = strip_of(area.width(), area.height())
    bar = max(2, area.width() // 64)
    painter.fillRect(strip, Qt.GlobalColor.black)
    at = area.left() + round(place * (area.width() - bar))
    painter.fillRect(at, strip.top(), bar, strip.height(), Qt.GlobalColor.white)

    chosen: QFont = font(area, 1.2)
    metrics = QFontMetricsF(chosen)
    inset = metrics.height() * 0.8
    width = max(metrics.horizontalAdvance(line) for line in lines) + 2 * inset + 4
    high = len(lines) * metrics.height() * 1.3 + 2 * inset
    # Between the greys and the fields, and between the edges.
    scale = min(1.0, area.width() * 0.96 / width, area.height() * 0.24 / high)
    painter.save()
    painter.translate(QRectF(area).center())
    painter.scale(scale, scale)
    panel(painter, QPointF(-width / 2, -high / 2), [(line, TEXT) for line in lines], chosen, width)
    painter.restore()


def strip_of(width: int, height: int) -> QRect:
    """Where the bar moves."""
    return QRect(1, round(height * 0.80), width - 2, max(2, round(height * 0.06)))


def fine_of(width: int, height: int) -> tuple[QRect, QRect]:
    """Where the fields of fine lines are: at both sides, above the moving bar."""
    side = max(8, min(round(height * 0.15), width // 8))
    left = QRect(width // 16, round(height * 0.63), side, side)
    return left, left.translated(width - 2 * left.left() - side, 0)


def _grid(painter: QPainter, width: int, height: int) -> None:
    """Squares, counted from the middle."""
    step = max(8, round(height / 12))
    painter.setPen(QPen(QColor(90, 90, 96), 1))
    for x in range(width // 2 % step, width, step):
        painter.drawLine(x, 0, x, height)
    for y in range(height // 2 % step, height, step):
        painter.drawLine(0, y, width, y)


def _bars(painter: QPainter, width: int, height: int) -> None:
    """Eight colours, and under them sixteen greys from black to white."""
    left, wide = width * 0.15, width * 0.7
    for number, colour in enumerate(BARS):
        part = QRectF(left + wide * number / 8, height * 0.12, wide / 8 + 1, height * 0.18)
        painter.fillRect(part.toAlignedRect(), QColor(colour))
    for step in range(STEPS):
        shade = round(255 * step / (STEPS - 1))
        part = QRectF(left + wide * step / STEPS, height * 0.30, wide / STEPS + 1, height * 0.08)
        painter.fillRect(part.toAlignedRect(), QColor(shade, shade, shade))


def _fine(painter: QPainter, square: QRect) -> None:
    """Lines of one pixel: upright in the upper half, flat in the lower."""
    painter.fillRect(square, Qt.GlobalColor.black)
    painter.setPen(QPen(Qt.GlobalColor.white, 1))
    left, top, middle = square.left(), square.top(), square.top() + square.height() // 2
    for x in range(left, square.right() + 1, 2):
        painter.drawLine(x, top, x, middle - 1)
    for y in range(middle, square.bottom() + 1, 2):
        painter.drawLine(left, y, square.right(), y)
