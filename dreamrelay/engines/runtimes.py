"""The libraries that run an ONNX graph on the processor, by name; none is imported before its use.

A :class:`Runtime` reads a graph, that is compiled for shapes, what comes of it is a function.
"""

import os
from collections.abc import Callable, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Protocol

from numpy.typing import NDArray

from dreamrelay.errors import ConfigError, MissingExtra
from dreamrelay.importer import Entry

Program = Callable[..., NDArray[Any]]
"""Arrays in, in the graph's order, its first output out; that is overwritten by the next call."""


class Graph(Protocol):
    """A graph whose sizes are still open."""

    def program(self, shapes: Sequence[tuple[int, ...]]) -> Program:
        """The graph for inputs of these shapes; RuntimeError when it cannot be compiled."""


class Runtime(Protocol):
    """A library that runs graphs. ``label`` says for people what it is and how it computes."""

    label: str

    def __init__(self, *, fast: bool, threads: int) -> None:
        """``fast``: in the precision that is fastest on this processor; else in full precision."""

    def read(self, path: Path, *, exact: bool = False) -> Graph:
        """Read a graph and the weights beside it; RuntimeError when they cannot be read.

        Args:
            exact: compute this one in full precision in any case.
        """


RUNTIMES: dict[str, Entry] = {
    "openvino": Entry("dreamrelay.engines.run_openvino:OpenVino", "OpenVINO", "pocket"),
    "onnx": Entry("dreamrelay.engines.run_onnx:OnnxRuntime", "onnxruntime", "onnx"),
}
"""The fastest first."""

_PACKAGES = {"openvino": "openvino", "onnx": "onnxruntime"}


def installed() -> list[str]:
    """The names of the runtimes that are there, the fastest first."""
    return [name for name, package in _PACKAGES.items() if find_spec(package) is not None]


def choose_runtime(acceleration: str) -> str:
    """The name of the runtime for a setting; ``auto`` and ``none`` take the fastest there is.

    Raises:
        ConfigError: there is no such acceleration.
        MissingExtra: it is not installed.
    """
    if acceleration in ("auto", "none"):
        there = installed()
        if not there:
            raise MissingExtra("the pocket engine", "pocket")
        return there[0]
    if acceleration not in RUNTIMES:
        raise ConfigError(
            f"acceleration: the pocket engine has no {acceleration!r}; expected auto, none (full "
            f"precision), {', '.join(RUNTIMES)}"
        )
    if acceleration not in installed():
        entry = RUNTIMES[acceleration]
        raise MissingExtra(entry.feature, entry.extra or acceleration)
    return acceleration


def available_cores() -> int:
    """How many cores this process may use."""
    has_affinity = hasattr(os, "sched_getaffinity")  # not on macOS and Windows
    return len(os.sched_getaffinity(0)) if has_affinity else os.cpu_count() or 1


def inference_threads() -> int:
    """Threads for a graph: ``OMP_NUM_THREADS`` if set; else all but one, and two of two cores.

    Codec and sockets wait most of the time. Of many cores one is left to them; of two that would
    halve the rate for what they need for a few percent of it.
    """
    asked = os.environ.get("OMP_NUM_THREADS", "").partition(",")[0]
    if asked.isdecimal() and int(asked) > 0:
        return int(asked)
    cores = available_cores()
    return cores if cores <= 2 else cores - 1
