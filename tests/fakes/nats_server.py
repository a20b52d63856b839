"""A real nats-server on a free port; and the reason to skip where there is none."""

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.support import until

NEEDS_NATS = pytest.mark.skipif(
    shutil.which("nats-server") is None, reason="nats-server is not installed"
)


class NatsServer:
    """One server. It can be stopped, halted and started again, at the same address.

    Args:
        folder: where it may write.
    """

    def __init__(self, folder: Path, *arguments: str, address: str = "127.0.0.1") -> None:
        self._folder = folder
        self._arguments = arguments
        self._address = address
        self._process: subprocess.Popen[bytes] | None = None
        self.port = -1

    @property
    def url(self) -> str:
        return f"nats://{self._address}:{self.port}"

    def start(self, *before: str) -> None:
        """Start it, and wait until it answers.

        Args:
            before: a command that starts it (``ip netns exec NAME``).
        """
        name = shutil.which("nats-server") or "nats-server"
        where = ("-a", self._address, "-p", str(self.port), "--ports_file_dir", str(self._folder))
        for old in self._folder.glob("*.ports"):
            old.unlink()
        self._process = subprocess.Popen(
            [*before, name, *where, *self._arguments],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )

        def port() -> int | None:
            for path in self._folder.glob("*.ports"):
                text = path.read_text(encoding="utf-8")
                if text.endswith("}"):
                    return int(json.loads(text)["nats"][0].rsplit(":", 1)[1])
            return None

        self.port = until(port, 60, "a port of nats-server")

    def stop(self) -> None:
        """End it at once."""
        if self._process is not None:
            self._process.send_signal(signal.SIGCONT if sys.platform != "win32" else 0)
            self._process.kill()
            self._process.wait(10)
            self._process = None

    def halt(self) -> None:
        """It does nothing any more, but its connections stay."""
        assert self._process is not None
        self._process.send_signal(signal.SIGSTOP)
        os.waitpid(self._process.pid, os.WUNTRACED)  # it is sent at once, obeyed a little later

    def go_on(self) -> None:
        assert self._process is not None
        self._process.send_signal(signal.SIGCONT)


@contextmanager
def nats_server(folder: Path, *arguments: str) -> Iterator[NatsServer]:
    """A server while the ``with`` lasts."""
    server = NatsServer(folder, *arguments)
    try:
        server.start()
        yield server
    finally:
        server.stop()


def configured(folder: Path, text: str) -> str:
    """The argument that has a server read this configuration."""
    path = folder / "nats.conf"
    path.write_text(text, encoding="utf-8")
    return f"--config={path}"
