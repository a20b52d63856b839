"""The viewer: a window in its own process that shows the newest picture and delays nobody.

``Viewer`` is the side of the program that makes pictures; Qt is imported in the child only.

========================  ========================================================================
``process.py``            ``Viewer``: starts the child, hands it pictures, hears what the person did
``available.py``          can a window be shown here, and if not, why
``shared_frames.py``      the way of the pictures: shared memory, three slots, newest wins
``events.py``             the way back: one JSON line per event
``look.py``               what is kept of the window for one that is opened anew
``window.py``             the window: PySide6 and QPainter, in the child
``overlays.py``           what is painted over the picture: head-up display, notes, help
``testcard.py``           what is painted in its place to set up a projector
``awake.py``              the screen saver waits while the window is open
``__main__.py``           the child process
========================  ========================================================================
"""

from dreamrelay.viewer.available import viewer_available
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
from dreamrelay.viewer.process import Viewer

__all__ = [
    "Closed",
    "Event",
    "Opened",
    "Painted",
    "Paused",
    "Preset",
    "Record",
    "Snapshot",
    "Viewer",
    "viewer_available",
]
