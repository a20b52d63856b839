"""Tools of the tests: a running relay, real processes, pictures made on the spot."""

import io
import os
import re
import signal
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from PIL import Image

from dreamrelay.config import RelaySettings
from dreamrelay.hub import Hub
from dreamrelay.relay.app import Relay

ROOT = Path(__file__).resolve().parent.parent
T = TypeVar("T")


def picture(colour: str = "red", size: tuple[int, int] = (64, 48), form: str = "JPEG") -> bytes:
    """An encoded picture of one colour."""
    buffer = io.BytesIO()
    Image.new("RGB", size, colour).save(buffer, form)
    return buffer.getvalue()


def mean_colour(encoded: bytes) -> tuple[float, float, float]:
    """Mean red, green and blue (0..255) of an encoded picture."""
    small = Image.open(io.BytesIO(encoded)).convert("RGB").resize((1, 1), Image.Resampling.BOX)
    red, green, blue = small.tobytes()
    return float(red), float(green), float(blue)


@dataclass(frozen=True)
class RunningRelay:
    """A relay in a thread: its addresses and, for looking only, its hub."""

    url: str
    hub: Hub

    @property
    def websocket(self) -> str:
        """Address for WebSockets, without a slash at its end."""
        return "ws" + self.url[4:].rstrip("/")

    def get(self, path: str) -> bytes:
        """The body of ``GET path``."""
        with urllib.request.urlopen(self.url.rstrip("/") + path, timeout=30) as reply:
            body: bytes = reply.read()
            return body


@contextmanager
def start_relay(settings: RelaySettings) -> Iterator[RunningRelay]:
    relay = Relay(settings)
    with relay.running() as url:
        yield RunningRelay(url.partition("?")[0], relay.hub)


def until(
    condition: Callable[[], T | None],
    seconds: float = 30.0,
    what: str = "",
    *,
    every: float = 0.02,
) -> T:
    """Wait for ``condition`` to return something true, and return that; look ``every`` seconds.

    Raises:
        AssertionError: it did not within ``seconds``; says what was waited for.
    """
    deadline = time.monotonic() + seconds
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > deadline:
            raise AssertionError(f"waited {seconds:.0f} s for {what or condition!r}")
        time.sleep(every)


class Program:
    """A real process of ours: ``Program("server.py", "--port=0")``. Its output is kept by line.

    ``before`` is a command that starts it: ``ip netns exec NAME``.
    """

    def __init__(
        self, *arguments: str, cwd: Path = ROOT, before: Sequence[str] = (), **environment: str
    ) -> None:
        env = {**os.environ, "PYTHONUNBUFFERED": "1", "COLUMNS": "200", **environment}
        self._process = subprocess.Popen(
            [*before, sys.executable, *arguments],
            cwd=cwd,
            env=env,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
        )
        self.arguments = arguments
        self.lines: list[str] = []
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            self.lines.append(line.rstrip())

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def output(self) -> str:
        return "\n".join(self.lines)

    @property
    def running(self) -> bool:
        return self._process.poll() is None

    def line(self, pattern: str, seconds: float = 60.0) -> re.Match[str]:
        """Wait for a line that matches ``pattern``.

        Raises:
            AssertionError: none came, or the program ended before.
        """

        def found() -> re.Match[str] | None:
            for line in list(self.lines):
                if match := re.search(pattern, line):
                    return match
            if not self.running and not self._reader.is_alive():
                last = re.search(pattern, self.output)
                assert last, f"{self.arguments} ended without {pattern!r}:\n{self.output}"
                return last
            return None

        try:
            return until(found, seconds, f"{pattern!r} from {self.arguments}")
        except AssertionError as error:
            raise AssertionError(f"{error}\n{self.output}") from None

    def wait(self, seconds: float = 60.0) -> int:
        """Wait for the end and return the exit code."""
        code = self._process.wait(seconds)
        self._reader.join(5)
        return code

    def interrupt(self) -> None:
        """Send what Ctrl-C sends."""
        self._process.send_signal(signal.SIGINT)

    def kill(self) -> None:
        """End it without a chance to say goodbye."""
        self._process.kill()
        self._process.wait(10)

    def stop(self) -> None:
        """End it, kindly and then not; idempotent."""
        if self.running:
            self._process.terminate()
            try:
                self._process.wait(10)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait(10)
        self._reader.join(5)
        if self._process.stdout is not None:
            self._process.stdout.close()
