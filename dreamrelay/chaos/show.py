"""A show to have disasters in: a relay, two workers, a camera, each a process, and a viewer."""

import os
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType

from dreamrelay.chaos.audience import Audience
from dreamrelay.chaos.cable import Cable
from dreamrelay.errors import ClosedError, EngineError

STREAM = "default"
FPS = 15.0
HOLD_SECONDS = 1.0
"""The last picture is held for so long here, then the camera's pictures pass."""
LIGHT = "light"
START_SECONDS = 120.0
"""A model that is not there after so long will not come."""
CALM_SECONDS = 2.0
END_SECONDS = 10.0
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
        self._stopped = stopped
        self._stack = ExitStack()
        self._made = 0

    def __enter__(self) -> "Show":
        try:
            self.folder = Path(self._stack.enter_context(tempfile.TemporaryDirectory()))
            self.port = _free_port()
            self.cables = [self._stack.enter_context(Cable(self.port)) for _ in range(3)]
            """Of the first worker, the second one, the camera."""
            self.relay = self.start_relay()
            link = self.audience.watch(f"ws://127.0.0.1:{self.port}", STREAM)
            self._stack.callback(link.close)
            self.workers = [self.start_worker(0), self.start_worker(1)]
            self.camera = self.start_camera()
            self.until(lambda: self.audience.status.get("workers") == 2, "two workers")
            self.until(self.flows, "the first results")
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

    def start_relay(self) -> "subprocess.Popen[bytes]":
        clock = f"--clock={self.folder / 'clock'}"
        fallback = ["--when_lost=pass", f"--hold_seconds={HOLD_SECONDS:g}"]
        options = [f"--port={self.port}", "--speech=off", "--verbose=0", *fallback]
        return self._start(clock, "relay", *options)

    def start_worker(
        self, place: int, *flags: str, limit: int | None = None
    ) -> "subprocess.Popen[bytes]":
        """Start a worker at the end of a cable.

        Args:
            limit: bytes that its disk has room for.
        """
        own = [f"--limit={limit}"] if limit is not None else []
        model = [] if self.model == LIGHT else [f"--model={self.model}"]
        own += ["--light"] if self.model == LIGHT else []
        uri = f"--websocket_uri=ws://127.0.0.1:{self.cables[place].port}"
        quiet = ("--viewer=off", "--osc_port=none", "--verbose=0")
        return self._start(*own, "worker", uri, *quiet, *model, *flags)

    def start_camera(self) -> "subprocess.Popen[bytes]":
        uri = f"--websocket_uri=ws://127.0.0.1:{self.cables[2].port}"
        # A producer ends after a minute unless it is told otherwise; the show lasts longer.
        source = ("--source=pattern://clip", f"--fps={FPS:g}", "--duration=0", "--verbose=0")
        return self._start("producer", uri, *source)

    def _start(self, *words: str) -> "subprocess.Popen[bytes]":
        self._made += 1
        with (self.folder / f"{self._made}.log").open("wb") as log:
            process = subprocess.Popen(
                [sys.executable, "-m", "dreamrelay.chaos.programs", *words],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
            )
        self._stack.callback(end, process)
        return process

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
            ClosedError: somebody has stopped us.
        """
        if self._stopped.wait(seconds):
            raise ClosedError("stopped")

    def until(
        self, condition: Callable[[], object], what: str, seconds: float = START_SECONDS
    ) -> None:
        """Wait for something.

        Raises:
            EngineError: it did not come.
            ClosedError: somebody has stopped us.
        """
        deadline = time.monotonic() + seconds
        while not condition():
            if time.monotonic() > deadline:
                raise EngineError(f"waited {seconds:.0f} s for {what}: {self._last_words()}")
            self.wait(LOOK_SECONDS)

    def _last_words(self) -> str:
        """What the programs have said."""
        texts = (log.read_text(errors="replace").strip() for log in self.folder.glob("*.log"))
        return " | ".join(text[-300:] for text in texts if text) or "nobody says why"


def freeze(process: "subprocess.Popen[bytes]") -> None:
    """Have a process stand still."""
    assert BLOCK is not None
    os.kill(process.pid, BLOCK)


def thaw(process: "subprocess.Popen[bytes]") -> None:
    """Have it go on."""
    assert GO_ON is not None
    if process.poll() is None:
        os.kill(process.pid, GO_ON)


def kill(process: "subprocess.Popen[bytes]") -> None:
    """``kill -9``."""
    process.kill()
    process.wait(END_SECONDS)


def end(process: "subprocess.Popen[bytes]") -> None:
    """End a process, however it is."""
    if process.poll() is None and GO_ON is not None:
        thaw(process)
    process.terminate()
    try:
        process.wait(END_SECONDS)
    except subprocess.TimeoutExpired:
        kill(process)


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])
