"""The worker's side of the viewer: start the child, hand it pictures, hear what the person did.

Pictures and the status go through shared memory, so nothing here ever waits for the window.
Standard input brings the child a byte when there is a picture that it asked to be told of; its end
tells that the parent has gone, in whatever way.
Standard output brings one JSON line per event, standard error what Qt has to say."""

import collections
import logging
import os
import subprocess
import threading
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Self

from dreamrelay.child import MODULE, start_child, there
from dreamrelay.errors import DeviceError, MissingExtra
from dreamrelay.viewer.available import viewer_available
from dreamrelay.viewer.events import Closed, Event, from_line
from dreamrelay.viewer.look import Look
from dreamrelay.viewer.shared_frames import FrameWriter

if TYPE_CHECKING:  # the codec imports Pillow, which the viewer does without
    from dreamrelay.codec import Frame

logger = logging.getLogger(__name__)

PATIENCE = 2.0
"""Seconds that a child has to end by itself."""

LAST_WORDS = 6
"""Lines of its standard error that are kept to tell why a child died."""


class Viewer:
    """A window in another process that shows the newest picture.

    ``start``, ``restart`` and ``close`` belong to one thread; all else may be used from any and
    never blocks. The window's death hurts nobody: ``show`` then does nothing.

    Args:
        title: of the window.
        fullscreen: open in full screen.
        screen: number of the screen; 0 is the main one, any other is opened in full screen.
        snapshots: folder of the snapshots; None: the working directory.
        hud: begin with the head-up display shown.
        mirror: begin mirrored.
        trace: report each painted picture as an event (to measure, and to test).
    """

    def __init__(
        self,
        title: str = "dreamrelay",
        *,
        fullscreen: bool = False,
        screen: int = 0,
        snapshots: Path | None = None,
        hud: bool = False,
        mirror: bool = False,
        trace: bool = False,
    ) -> None:
        self.folder = Path.cwd() if snapshots is None else snapshots.absolute()
        """Of the snapshots."""
        self.look = Look(fullscreen or None, screen, hud=hud, mirror=mirror)
        """Of the window, as it is or was; what is opened anew looks the same."""
        self._arguments = [f"--title={title}", f"--snapshots={self.folder}"]
        self._arguments += ["--trace"] if trace else []
        self._frames = FrameWriter()
        self._lock = threading.Lock()
        self._child: _Child | None = None
        self._events: collections.deque[Event] = collections.deque()
        self._closed = False

    def start(self) -> None:
        """Open the window; returns before it is there (``Opened`` tells).

        Raises:
            MissingExtra: PySide6 is not installed.
            DeviceError: there is no display.
        """
        if self._closed:
            raise DeviceError("this viewer was closed; make another one")
        if self.alive:
            return
        problem = viewer_available()
        if problem == str(MissingExtra("the viewer", "viewer")):
            raise MissingExtra("the viewer", "viewer")
        if problem is not None:
            raise DeviceError(problem)
        if self._child is not None:
            self._child.close()
        self._frames.forget_reader()
        arguments = [*self._arguments, f"--look={self.look.written()}"]
        self._child = _Child(self._frames, arguments, self._hear)

    def _hear(self, event: Event) -> None:
        """In the child's thread."""
        if isinstance(event, Look):
            self.look = event
        else:
            self._events.append(event)

    def restart(self) -> None:
        """Open the window anew, as it was and with the last picture, whether it is there or not.

        Raises:
            MissingExtra, DeviceError: as ``start``.
        """
        if self._child is not None:
            self._child.close()
        self.start()

    def show(self, frame: "Frame", *, info: Mapping[str, object] | None = None) -> None:
        """Show a picture: one copy, no waiting; does nothing where the window has gone.

        ``info`` is for the head-up display: ``prompt``, ``revision``, ``captured_ns`` (UNIX time in
        ns, for the age of the picture), ``fps`` of the engine; any other name is shown with its
        value.

        Raises:
            ValueError: it is not a frame.
        """
        if self.alive:
            with self._lock:
                if not self._closed:
                    self._frames.write(frame, info)
                    if self._child is not None and self._frames.awaited():
                        self._child.wake()

    def status(self, text: str) -> None:
        """Say what is going on ("loading: text encoder"), until "": on the page before the first
        picture, later among the figures.
        """
        with self._lock:
            if not self._closed:
                self._frames.set_status(text)

    def note(self, text: str) -> None:
        """Say something over the picture, for a moment."""
        with self._lock:
            if not self._closed:
                self._frames.set_note(text)

    def recording(self, since_ns: int) -> None:
        """Show since when pictures are recorded (UNIX time in ns); 0: they are not."""
        with self._lock:
            if not self._closed:
                self._frames.set_recording(since_ns)

    def stand_in(self, word: str) -> None:
        """Show what the stream's viewers see in place of results: ``held``, ``pass``, ``slate``.

        Anything else: they see results.
        """
        with self._lock:
            if not self._closed:
                self._frames.set_stand_in(word)

    @property
    def alive(self) -> bool:
        """Is the window there (or about to open)?"""
        child = self._child
        return child is not None and child.alive

    @property
    def pid(self) -> int | None:
        """The child's process id."""
        return None if self._child is None else self._child.process.pid

    def events(self) -> list[Event]:
        """Take what happened in the window since the last call."""
        taken = []
        while self._events:
            taken.append(self._events.popleft())
        return taken

    def close(self) -> None:
        """Close the window and let the memory go; idempotent."""
        if self._child is not None:
            self._child.close()
        with self._lock:
            self._closed = True
            self._frames.close()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


class _Child:
    """One child process, and the two threads that listen to it."""

    def __init__(
        self, frames: FrameWriter, arguments: list[str], hear: Callable[[Event], None]
    ) -> None:
        self._hear = hear
        self._gone = self._dismissed = False
        self._input = threading.Lock()
        self._last_words: collections.deque[str] = collections.deque(maxlen=LAST_WORDS)
        self.process = start_child(
            [*MODULE, "dreamrelay.viewer", f"--memory={frames.handle}", *arguments],
            errors=subprocess.PIPE,
            pass_fds=frames.memory.descriptors,
        )
        self._listeners = [
            threading.Thread(target=target, name=f"viewer {name}", daemon=True)
            for name, target in (("errors", self._hear_errors), ("events", self._hear_events))
        ]
        for listener in self._listeners:
            listener.start()

    @property
    def alive(self) -> bool:
        return not self._gone and self.process.poll() is None

    def wake(self) -> None:
        """Have it look for a picture. Said only when it asked, so the pipe never fills."""
        stdin = there(self.process.stdin)
        with self._input, suppress(OSError):  # it died
            if not stdin.closed:
                os.write(stdin.fileno(), b"\n")

    def close(self) -> None:
        """End the child, kindly first; idempotent."""
        self._dismissed = True
        with self._input:
            there(self.process.stdin).close()
        try:
            self.process.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            logger.warning("the viewer does not close; it is stopped")
            self.process.kill()
            self.process.wait()
        for listener in self._listeners:
            listener.join(PATIENCE)

    def _hear_events(self) -> None:
        with there(self.process.stdout) as lines:
            for line in lines:
                try:
                    event = from_line(line)
                except ValueError as error:
                    logger.debug("%s", error)
                    continue
                self._gone = self._gone or isinstance(event, Closed)
                self._hear(event)
        code = self.process.wait()
        self._listeners[0].join(PATIENCE)
        if not self._gone and not self._dismissed:
            lost = " / ".join([f"the viewer ended with {code}", *self._last_words])
            logger.warning("%s", lost)
            self._hear(Closed(lost))
        self._gone = True

    def _hear_errors(self) -> None:
        with there(self.process.stderr) as lines:
            for line in lines:
                text = line.decode(errors="replace").strip()
                logger.info("viewer: %s", text)
                self._last_words.append(text)
