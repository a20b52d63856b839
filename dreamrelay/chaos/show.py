"""A show to have disasters in: a relay, two workers, a camera, each a process, and a viewer."""

import signal
import socket
import tempfile
import threading
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType

from dreamrelay.chaos.audience import Audience
from dreamrelay.chaos.cable import Cable
from dreamrelay.child import MODULE, Child
from dreamrelay.errors import ClosedError, EngineError

STREAM = "default"
FPS = 15.0
HOLD_SECONDS = 1.0
"""The last picture is held for so long here, then the camera's pictures pass."""
LIGHT = "light"
START_SECONDS = 120.0
"""A model that is not there after so long will not come."""
CALM_SECONDS = 2.0
NEW_SECONDS = 60.0
"""For a process to start and to be at its work."""
STOP_SECONDS = 0.2
"""Ctrl-C in a terminal reaches our programs too, perhaps before us."""
LOOK_SECONDS = 0.05
BLOCK = getattr(signal, "SIGSTOP", None)
GO_ON = getattr(signal, "SIGCONT", None)


class Show:
    """Runs while the ``with`` lasts.

    Args:
        model: of the workers; ``light`` is an engine that needs none.
        stopped: ends every wait.
    """

    def __init__(self, model: str, stopped: threading.Event) -> None:
        self.model = model
        self.audience = Audience()
        self.usual = 0.0
        """Results a second while nothing happens."""
        self.start_seconds = 0.0
        """What the program that was started last took until the relay counted it, or listened: the
        measure of how busy, or how slow, this machine is."""
        self._stopped = stopped
        self._stack = ExitStack()
        self._started: list[Child] = []
        self._needed: list[Child] = []

    def __enter__(self) -> "Show":
        try:
            self.folder = Path(self._stack.enter_context(tempfile.TemporaryDirectory()))
            self.port = _free_port()
            self.cables = [self._stack.enter_context(Cable(self.port)) for _ in range(3)]
            """Of the first worker, the second one, the camera."""
            self._stack.callback(self._end_all)
            self.start_relay()
            link = self.audience.watch(f"ws://127.0.0.1:{self.port}", STREAM)
            self._stack.callback(link.close)
            self.workers = [self.start_worker(0), self.start_worker(1)]
            self.camera = self.start_camera()
            self.until(lambda: self.audience.workers == 2, "two workers", START_SECONDS)
            self.until(self.flows, "the first results", START_SECONDS)
            self.measure()
        except BaseException:  # Ctrl-C too: no program of the show outlives it
            self._stack.close()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._stack.close()

    # -- who plays --------------------------------------------------------------------------------

    def start_relay(self) -> None:
        """Start it, and wait until it listens."""
        clock = f"--clock={self.folder / 'clock'}"
        fallback = ["--when_lost=pass", f"--hold_seconds={HOLD_SECONDS:g}"]
        options = [f"--port={self.port}", "--speech=off", "--verbose=0", *fallback]
        began = time.monotonic()
        self.relay = self._start("the relay", "", clock, "relay", *options)
        self.until(lambda: _listens(self.port), "the relay")
        self.start_seconds = time.monotonic() - began

    def start_worker(self, place: int, *flags: str, limit: int | None = None) -> Child:
        """Start a worker at the end of a cable.

        Args:
            limit: bytes that its disk has room for.
        """
        own = [f"--limit={limit}"] if limit is not None else []
        model = "--engine=light" if self.model == LIGHT else f"--model={self.model}"
        uri = f"--websocket_uri=ws://127.0.0.1:{self.cables[place].port}"
        quiet = ("--viewer=off", "--osc_port=none", "--verbose=0")
        alone = "" if self.model == LIGHT else model
        name = f"the {('first', 'second')[place]} worker"
        return self._start(name, alone, *own, "worker", uri, *quiet, model, *flags)

    def start_camera(self) -> Child:
        uri = f"--websocket_uri=ws://127.0.0.1:{self.cables[2].port}"
        # A producer ends after a minute unless it is told otherwise; the show lasts longer.
        source = ("--source=pattern://clip", f"--fps={FPS:g}", "--duration=0", "--verbose=0")
        return self._start("the camera", "", "producer", uri, *source)

    def _start(self, name: str, model: str, *words: str) -> Child:
        command = next(word for word in words if not word.startswith("--"))
        alone = f"dreamrelay {command} {model}".strip()
        child = Child(name, [*MODULE, "dreamrelay.chaos.programs", *words], alone=alone)
        self._started.append(child)
        self._needed.append(child)
        return child

    def may_end(self, *children: Child) -> None:
        """From now on it is no failure if these end."""
        self._needed = [child for child in self._needed if child not in children]

    def kill(self, child: Child) -> None:
        """``kill -9``."""
        self.may_end(child)
        child.kill()

    def complete(self) -> None:
        """Start those who have ended, and wait until all are at their work.

        Raises:
            EngineError: one of them ended, or results do not come.
            ClosedError: somebody has stopped us.
        """
        self.may_end(*(child for child in self._needed if child.code is not None))
        if self.relay.code is not None:
            self.start_relay()
        if self.camera.code is not None:
            self.camera = self.start_camera()
        alive = sum(worker.code is None for worker in self.workers)
        self.until(lambda: self.audience.workers == alive, "those who have left to be gone")
        began = time.monotonic()
        for place, worker in enumerate(self.workers):
            if worker.code is not None:
                self.workers[place] = self.start_worker(place)
        self.until(lambda: self.audience.workers == 2, "two workers")
        if alive < 2:
            self.start_seconds = time.monotonic() - began
        self.until(self.flows, "results")

    def _end_all(self) -> None:
        for child in self._started:
            child.ask_to_end()
        for child in self._started:
            child.end()

    # -- what is seen -----------------------------------------------------------------------------

    def flows(self) -> bool:
        """Whether results come: three in the last second, and no stand-in after them."""
        now = time.monotonic()
        seen = self.audience.between(now - 1.0, now)
        return len(seen) > 3 and not any(one.stand_in for one in seen[-3:])

    def stands_in(self) -> bool:
        """Whether something stands in for results."""
        now = time.monotonic()
        seen = self.audience.between(now - 1.0, now)
        return bool(seen) and seen[-1].stand_in

    def measure(self) -> None:
        """See how many results come while nothing happens."""
        self.wait(CALM_SECONDS)
        now = time.monotonic()
        self.usual = self.audience.rate(now - CALM_SECONDS, now)

    def wait(self, seconds: float) -> None:
        """Let it go on for so long.

        Raises:
            EngineError: a program has ended that should not have.
            ClosedError: somebody has stopped us.
        """
        stopped = self._stopped.wait(seconds)
        ended = [child for child in self._needed if child.code is not None]
        if stopped or (ended and self._stopped.wait(STOP_SECONDS)):
            raise ClosedError("stopped")
        for child in ended:
            child.check()

    def until(
        self, condition: Callable[[], object], what: str, seconds: float = NEW_SECONDS
    ) -> None:
        """Wait for something.

        Raises:
            EngineError: it did not come, or a program has ended that should not have.
            ClosedError: somebody has stopped us.
        """
        deadline = time.monotonic() + seconds
        while not condition():
            if time.monotonic() > deadline:
                said = ", ".join(f"{child.name}: {child.last_words}" for child in self._needed)
                raise EngineError(f"waited {seconds:.0f} s for {what} ({said})")
            self.wait(LOOK_SECONDS)


def freeze(child: Child) -> None:
    """Have a process stand still."""
    assert BLOCK is not None
    child.signal(BLOCK)


def thaw(child: Child) -> None:
    """Have it go on."""
    assert GO_ON is not None
    child.signal(GO_ON)


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


def _listens(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), LOOK_SECONDS).close()
    except OSError:
        return False
    return True
