"""A bare Qt painter, to compare the viewer with: no shared memory, no polling, nothing but Qt.

``python -m benchmarks.viewer_process WIDTH HEIGHT RATE PICTURES``: makes so many pictures in a
second, and for each measures the time from having it as an array to having painted it, in the way
that Qt's pages show. One JSON line: the times in milliseconds, in their order.
"""

import json
import sys
import time

import numpy as np
from PySide6.QtCore import Qt, QTimer
from PySide6.QtGui import QImage, QPainter, QPaintEvent
from PySide6.QtWidgets import QApplication, QWidget


class Bare(QWidget):
    """Paints one picture after the other, scaled to its size."""

    def __init__(self, width: int, height: int, pictures: int) -> None:
        super().__init__()
        self._arrays = [np.full((height, width, 3), shade, np.uint8) for shade in range(0, 250, 10)]
        self._image = QImage()
        self._began = 0
        self._left = pictures
        self.delays: list[float] = []
        self.setAttribute(Qt.WidgetAttribute.WA_OpaquePaintEvent)
        self.resize(width, height)

    def take(self) -> None:
        """The next picture."""
        self._began = time.time_ns()
        pixels = self._arrays[self._left % len(self._arrays)]
        height, width = pixels.shape[:2]
        image = QImage(pixels.data, width, height, 3 * width, QImage.Format.Format_RGB888)
        self._image = image.convertToFormat(QImage.Format.Format_RGB32)
        self.update()

    def paintEvent(self, event: QPaintEvent) -> None:
        painter = QPainter(self)
        painter.drawImage(self.rect(), self._image)
        painter.end()
        if self._began:
            self.delays.append((time.time_ns() - self._began) / 1e6)
            self._began = 0
            self._left -= 1
            if not self._left:
                QApplication.exit(0)


def main() -> int:
    width, height, rate, pictures = map(int, sys.argv[1:])
    application = QApplication(sys.argv[:1])
    bare = Bare(width, height, pictures)
    timer = QTimer()
    timer.setTimerType(Qt.TimerType.PreciseTimer)
    timer.timeout.connect(bare.take)
    bare.show()
    timer.start(round(1000 / rate))
    application.exec()
    print(json.dumps(bare.delays))
    return 0


if __name__ == "__main__":
    sys.exit(main())
