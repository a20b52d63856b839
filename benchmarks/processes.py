"""Programs under measurement, as real processes that end with the benchmark."""

import contextlib
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent

RELAY = ("-m", "dreamrelay", "relay", "--port=0")
"""Ours, as anybody starts it."""


@dataclass(frozen=True, slots=True)
class Server:
    """A relay that runs: whose CPU time to read, and where it listens."""

    pid: int
    port: int


def environment() -> dict[str, str]:
    """The environment of a program under measurement: no settings of ours, no idle spinning.

    Python keeps what it compiled, as it does for anybody: of packages that were installed it has
    that already, and a program would pay for its own modules at every start.
    """
    dropped = ("DREAMRELAY_", "PYTHONDONTWRITEBYTECODE")
    kept = {k: v for k, v in os.environ.items() if not k.startswith(dropped)}
    path = os.pathsep.join(p for p in (str(ROOT), kept.get("PYTHONPATH", "")) if p)
    spin = {"GOMP_SPINCOUNT": "0", "OMP_WAIT_POLICY": "passive", "OMP_NUM_THREADS": "1"}
    return {**spin, **kept, "PYTHONPATH": path, "PYTHONUNBUFFERED": "1", "HF_HUB_OFFLINE": "1"}


@contextlib.contextmanager
def process(*arguments: str, **variables: str) -> Iterator[subprocess.Popen[str]]:
    """``python ARGUMENTS`` while the ``with`` lasts, in a folder without settings.

    Args:
        arguments: of the interpreter.
        variables: of the environment, over those of :func:`environment`.
    """
    with (
        tempfile.TemporaryDirectory() as folder,
        subprocess.Popen(
            [sys.executable, *arguments],
            # A Ctrl-C is for us alone: they end with the ``with``, and say nothing about it.
            start_new_session=True,
            cwd=folder,
            env={**environment(), **variables},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        ) as running,
    ):
        try:
            yield running
        finally:
            running.terminate()
            try:
                running.wait(10)
            except subprocess.TimeoutExpired:
                running.kill()


@contextlib.contextmanager
def server(*arguments: str) -> Iterator[Server]:
    """A program that prints its address once it listens.

    Raises:
        RuntimeError: it ended before.
    """
    with process(*arguments) as running:
        assert running.stdout is not None
        for line in running.stdout:
            if found := re.search(r"http://127\.0\.0\.1:(\d+)/", line):
                yield Server(running.pid, int(found[1]))
                return
        raise RuntimeError(f"python {' '.join(arguments)} ended with code {running.wait(10)}")
