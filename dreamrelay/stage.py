"""What a performer has of a worker: OSC, the gate before its engine, the sinks behind it."""

import logging
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from dreamrelay.codec import Frame
from dreamrelay.config import LOG_LEVELS, WorkerSettings
from dreamrelay.errors import ConfigError, DeviceError
from dreamrelay.jobs import Job
from dreamrelay.media import Sink, open_sink
from dreamrelay.osc import OscServer, Standing, Steered, Word, default_path

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

    def act(self, word: Word) -> bool:
        """Act on a word; True if it was opened or shut by it."""
        was = self.open
        match word:
            case "start" | "stop":
                self.start(word == "start")
            case "p" | "P":
                self.output(word == "p")
            case "trigger":
                self.trigger()
        return self.open != was

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
            self.gone = True
            try:
                self.sink.close()
            except DeviceError as error:
                logger.warning("%s: %s", self.url, error)

    def close(self) -> None:
        self.sink.close()


class Stage:
    """OSC at a worker, and what it switches: the gate, the log's level, the connections.

    Args:
        keeps_all: each frame counts (those of a folder).
        change: brings values of parameters into force; called in OSC's thread, as the others.
        turned: a word was acted on; True if the gate was opened or shut by it.
        values, standing: the parameters in force, and how the worker is.
        stream: the name of the stream that all this is of, if it has one.
        beside: the worker's other streams by name; OSC alone steers them.

    Raises:
        ConfigError: OSC cannot be listened to, or told, as the settings say.
    """

    def __init__(
        self,
        settings: WorkerSettings,
        *,
        keeps_all: bool,
        change: Callable[[dict[str, Any]], None],
        turned: Callable[[bool], None],
        values: Callable[[], Mapping[str, Any]],
        standing: Callable[[], Standing],
        stream: str | None = None,
        beside: Mapping[str, Steered] | None = None,
    ) -> None:
        # The Spout service does nothing until it is told to; everybody else expects pictures.
        waits = settings.spout_in is not None and settings.osc_port is not None
        started = settings.start == "on" or (settings.start == "auto" and not waits)
        self.gate = Gate(started=started, keeps_all=keeps_all)
        self.renew_source = threading.Event()
        """The live source is to be closed and opened again, by the thread that reads it."""
        self._renew_sinks = threading.Event()
        self._turned = turned
        self._verbosity = settings.verbose
        presets = settings.osc_presets
        self.presets = Path(presets).expanduser() if presets else default_path()
        """The file that they are kept in."""
        self._osc: OscServer | None = None
        self._open: Callable[[], OscServer] | None = None
        """Listens to OSC, where the port was taken at the start."""
        self._schema: Mapping[str, Any] = {}
        if settings.osc_port is None:
            if settings.osc_out:
                raise ConfigError("--osc-out needs OSC: give --osc-port too, 0 for any")
            return
        steered = Steered(
            change, self._act, values, standing, self._set_verbosity, lambda: self._verbosity
        )
        streams = {} if stream is None else {stream: steered}
        for name, other in (beside or {}).items():
            # The log and the connections are the worker's, whichever stream they are said to.
            streams[name] = replace(
                steered,
                change=other.change,
                command=partial(self._act_beside, other.command),
                values=other.values,
                standing=other.standing,
            )
        port, out = settings.osc_port, settings.osc_out

        def listen() -> OscServer:
            return OscServer(
                settings.osc_ip, port, steered, streams=streams, out=out, presets=self.presets
            )

        try:
            self._osc = listen()
        except ConfigError as error:
            if not settings.replace:
                raise
            # The worker before us may have the port: it is ours when that one has left.
            logger.warning("%s; tried again until it is free", error)
            self._open = listen

    @property
    def osc_port(self) -> int | None:
        """Where OSC is listened to, if at all."""
        return self._osc.port if self._osc else None

    def introduce(self, schema: Mapping[str, Any]) -> None:
        """Each parameter of the engine is an address from now on."""
        self._schema = schema
        if self._osc is not None:
            self._osc.introduce(schema)

    def tell_error(self, text: str) -> None:
        """Have everybody who is told by OSC hear of it."""
        if (osc := self._osc) is not None:
            osc.feedback.error("", text)

    def start(self) -> None:
        if self._osc is not None:
            self._osc.start()

    def look(self) -> None:
        """Now and then: listen to OSC, where the port was taken at the start."""
        if self._open is None:
            return
        try:
            self._osc = self._open()
        except ConfigError:
            return
        self._open = None
        self._osc.introduce(self._schema)
        self._osc.start()
        logger.info("OSC: listening at port %d now", self._osc.port)

    def close(self) -> None:
        if self._osc is not None:
            self._osc.close()
            self._osc = None

    def renew(self, outlets: Sequence[Outlet]) -> None:
        """Reconnect the sinks if somebody asked for it. In the thread that writes to them."""
        if self._renew_sinks.is_set():
            self._renew_sinks.clear()
            for outlet in outlets:
                outlet.reconnect()

    # -- in OSC's thread --------------------------------------------------------------------------

    def _act(self, word: Word) -> None:
        turned = self.gate.act(word)
        if word == "x":
            self.renew_source.set()
            self._renew_sinks.set()
        if turned:
            logger.info("OSC: %s", self.gate.reason or "generating")
        self._turned(turned)

    def _act_beside(self, command: Callable[[Word], None], word: Word) -> None:
        """Act on a word that another stream was told."""
        if word == "x":
            self._act(word)
        else:
            command(word)

    def _set_verbosity(self, level: int) -> None:
        self._verbosity = level
        logging.getLogger("dreamrelay").setLevel(LOG_LEVELS[level])
