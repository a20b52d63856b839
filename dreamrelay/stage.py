"""What a performer switches on a worker: the gate before its engine, and the sinks behind it."""

import logging
import threading
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace

from dreamrelay.codec import Frame
from dreamrelay.errors import DeviceError
from dreamrelay.jobs import Job
from dreamrelay.media import Sink, open_sink

logger = logging.getLogger(__name__)

RECONNECTED = ("spout://", "syphon://", "ndi://", "virtualcam://")
"""Sinks that are a connection to somebody: those are opened anew when asked for. A recording or a
file stays as it is."""


class Gate:
    """Whether live frames reach the engine: all of them, none, or one for a trigger.

    Requests always pass. Switched from any thread, asked by the engine's and the source's. While it
    is shut the newest frame waits here, so that a trigger has something to work on.

    Args:
        keeps_all: each frame counts (those of a folder): none is left out while it is shut.
    """

    def __init__(self, *, started: bool = True, keeps_all: bool = False) -> None:
        self._lock = threading.Lock()
        self._started = started
        self._output = True
        self._keeps_all = keeps_all
        self._triggered = self._may_step = False
        self._held: Job | None = None
        self._used: Job | None = None

    @property
    def open(self) -> bool:
        """Do live frames pass?"""
        return self._started and self._output

    @property
    def reason(self) -> str:
        """Why it is shut, for people."""
        if self.open:
            return ""
        return "stopped: /start begins" if self._output else "the output is off: /p"

    def start(self, on: bool = True) -> None:
        """Let all frames pass, or none. What comes last holds."""
        with self._lock:
            self._started = on
            self._triggered = self._may_step = False

    def output(self, on: bool) -> None:
        """Switch the output; without it nothing is made."""
        with self._lock:
            self._output = on

    def trigger(self) -> None:
        """Let one frame pass, the newest; while all of them pass this does nothing."""
        with self._lock:
            if self._output and not self._started:
                self._triggered = self._may_step = True

    def may_read(self) -> bool:
        """May the next picture of a folder be read? Of live sources every one may."""
        with self._lock:
            step, self._may_step = self._may_step, False
            return self.open or not self._keeps_all or step

    def due(self, jobs: Iterable[Job], session: int) -> Iterator[Job]:
        """Of the jobs that came, those to be computed now, perhaps one that waited before them.

        Args:
            session: the connection that there is now: what waited is sent there.
        """
        for job in jobs:
            if job.asked is not None:
                yield job
                continue
            with self._lock:
                waited, self._held = self._held, job
                passes = self.open
                if passes:
                    self._held = self._used = None if self._keeps_all else job
            if passes:
                if self._keeps_all and waited is not None:
                    yield waited
                yield job
        with self._lock:
            newest = self._held if self._triggered and not self.open else None
            if newest is None:
                return
            self._triggered = False
            # A frame that was shown already has had its number: the relay gives out another.
            again = self._used is newest
            self._used = newest
            if self._keeps_all:
                self._held = None
        yield replace(newest, alone=True, session=session, seq=0 if again else newest.seq)


@dataclass(slots=True)
class Outlet:
    """A sink, and what it complained of last: said once, not for every frame."""

    url: str
    sink: Sink
    trouble: str = ""
    gone: bool = False

    def write(self, frame: Frame) -> None:
        trouble = ""
        try:
            if self.gone:
                self.sink, self.gone = open_sink(self.url), False
            self.sink.write(frame)
        except DeviceError as error:
            trouble = str(error)
        if trouble and trouble != self.trouble:
            logger.warning("%s: %s", self.url, trouble)
        self.trouble = trouble

    def reconnect(self) -> None:
        """Close a connection; the next frame opens it again. In the thread that writes."""
        if self.url.lower().startswith(RECONNECTED) and not self.gone:
            self.sink.close()
            self.gone = True

    def close(self) -> None:
        self.sink.close()
