"""The viewer's child process, which ``Viewer`` starts. It ends when its parent does."""

import argparse
import os
import signal
import sys
import threading
import time
from pathlib import Path

from PySide6.QtCore import QObject, Qt, Signal
from PySide6.QtWidgets import QApplication

from dreamrelay.viewer.events import Event, to_line
from dreamrelay.viewer.look import Look
from dreamrelay.viewer.shared_frames import FrameReader
from dreamrelay.viewer.window import Options, Window

GRACE = 2.0
"""Seconds after the parent's end in which the window must have closed by itself."""


class Bell(QObject):
    """What the parent says, in Qt's thread."""

    picture = Signal()
    gone = Signal()

    def leave(self) -> None:
        """End without asking the window, which would tell that a person closed it."""
        QApplication.exit(0)


def main() -> int:
    """Show the window until the person closes it or the parent ends."""
    arguments = _parser().parse_args()
    # Ctrl-C in a terminal and the end of a service reach every process of the group; the parent
    # decides what they mean.
    for ignored in (signal.SIGINT, signal.SIGTERM):
        signal.signal(ignored, signal.SIG_IGN)
    bell = Bell()
    threading.Thread(target=_watch_parent, args=(bell,), name="parent", daemon=True).start()

    application = QApplication(sys.argv[:1])
    application.setApplicationName("dreamrelay")
    fields = {name: value for name, value in vars(arguments).items() if name != "memory"}
    with FrameReader(arguments.memory) as frames:
        window = Window(frames, tell, Options(**fields))
        bell.picture.connect(window.see, Qt.ConnectionType.QueuedConnection)
        bell.gone.connect(bell.leave, Qt.ConnectionType.QueuedConnection)
        window.open()
        return application.exec()


def tell(event: Event) -> None:
    """Tell the parent; one that has gone needs no news."""
    try:
        os.write(1, to_line(event))
    except OSError:  # Windows says EINVAL where others say EPIPE
        return


def _watch_parent(bell: Bell) -> None:
    """Wait for the parent's end: end of standard input, or another parent.

    The second is for a parent that had forked: its fork holds the pipe open.
    """
    parent = os.getppid()
    orphaned = threading.Event()
    listener = threading.Thread(target=_listen, args=(bell, orphaned), name="input", daemon=True)
    listener.start()
    while not orphaned.wait(0.5):
        if sys.platform != "win32" and os.getppid() != parent:
            orphaned.set()
    bell.gone.emit()
    time.sleep(GRACE)
    # The window hangs (a dead X server, a blocked driver): an orphan must not stay on the screen.
    os._exit(1)


def _listen(bell: Bell, orphaned: threading.Event) -> None:
    try:
        while os.read(0, 4096):
            bell.picture.emit()
    finally:
        orphaned.set()


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m dreamrelay.viewer",
        description="The viewer's own process. Programs open it with dreamrelay.viewer.Viewer.",
    )
    parser.add_argument("--memory", required=True, help="handle of the shared memory")
    parser.add_argument("--title", default="dreamrelay")
    parser.add_argument("--look", type=Look.read, default=Look())
    parser.add_argument("--snapshots", type=Path, default=Path())
    parser.add_argument("--trace", action="store_true")
    return parser


if __name__ == "__main__":
    sys.exit(main())
