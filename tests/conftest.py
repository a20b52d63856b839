"""What all tests share: a relay, pictures, programs as real processes, waiting without sleeping
long.
"""

import os

# Before torch is imported anywhere: spinning threads cost a factor of ten on busy cores.
os.environ.setdefault("GOMP_SPINCOUNT", "0")
os.environ.setdefault("OMP_WAIT_POLICY", "passive")
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("HF_HUB_OFFLINE", "1")
# Hundreds of programs are started: they keep their bytecode, as anybody's do.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)

import logging
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

from dreamrelay.config import RelaySettings
from tests.support import ROOT, Program, RunningRelay, start_relay

# How long an example takes says more about what else the machine does than about us.
settings.register_profile("busy", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("busy")


@pytest.fixture
def relay() -> Iterator[RunningRelay]:
    """A relay in a thread of this process, on a free port."""
    with start_relay(RelaySettings(port=0)) as running:
        yield running


@pytest.fixture
def programs() -> Iterator["ProgramStarter"]:
    """Start programs as real processes; whatever still runs at the end is stopped."""
    with ExitStack() as stack:
        yield ProgramStarter(stack)


@pytest.fixture(autouse=True)
def _own_log_level() -> Iterator[None]:
    """Begin and end with the level of the root: ``/verbose`` and ``--quiet`` set one for good."""
    ours = logging.getLogger("dreamrelay")
    ours.setLevel(logging.NOTSET)
    yield
    ours.setLevel(logging.NOTSET)


@pytest.fixture
def restored_logging() -> Iterator[None]:
    """Have logging as it was after a test that runs a command line in its own process."""
    root, ours = logging.getLogger(), logging.getLogger("dreamrelay")
    before = (list(root.handlers), root.level, ours.level)
    yield
    root.handlers[:], level, our_level = before
    root.setLevel(level)
    ours.setLevel(our_level)


class ProgramStarter:
    """Call it with a command line after ``python``: ``programs("server.py", "--port=0")``."""

    def __init__(self, stack: ExitStack) -> None:
        self._stack = stack

    def __call__(self, *arguments: str, cwd: Path = ROOT, **environment: str) -> Program:
        program = Program(*arguments, cwd=cwd, **environment)
        self._stack.callback(program.stop)
        return program
