"""The worker under measurement, as a process: ``python -m benchmarks.worker_process RELAY ENGINE
[STREAM]``.

One engine, used in turn alone and by the whole worker, which the parent feeds. Reads ``alone
SECONDS`` and ``worker SECONDS`` on its standard input, and answers with the moments at which the
engine began a picture, as a line of JSON; ends at the end of the input.
"""

import json
import sys
import threading
import time
from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np
from pydantic import BaseModel

from dreamrelay.codec import Frame
from dreamrelay.config import WorkerSettings
from dreamrelay.engines import Engine, EngineSettings, Report, Result, open_engine
from dreamrelay.engines.ports import Mask, Token
from dreamrelay.importer import Entry
from dreamrelay.worker import Worker

_BUILT = Entry("benchmarks.full_models:open_built", "models with random weights", "worker")

STEP_MS = 25.0
"""What the scripted engine takes for a picture: a fast card with SD-Turbo."""


class NoParameters(BaseModel):
    """The scripted engine has none."""


class ScriptedEngine(Engine):
    """Waits as long as a graphics card would compute, without the interpreter's lock, like CUDA.

    It returns the picture that it was given, so that the outlet has a real one to encode.
    """

    name: ClassVar[str] = "scripted"
    parameters_type: ClassVar[type[BaseModel]] = NoParameters

    def __init__(self, size: int, step_ms: float = STEP_MS) -> None:
        self.width = self.height = size
        self.model_name = f"{step_ms:.0f} ms a picture"
        self._seconds = step_ms / 1000
        self.device_name = "none"

    def load(self, report: Report) -> None:
        """There is nothing to load."""

    @property
    def parameters(self) -> dict[str, Any]:
        return {}

    def apply(self, patch: Mapping[str, Any]) -> None:
        """There is nothing to change."""

    def infer(self, frame: Frame, token: Token, mask: Mask | None = None) -> Result[Token] | None:
        time.sleep(self._seconds)
        return Result(frame, token)

    def infer_once(self, frame: Frame, patch: Mapping[str, Any], mask: Mask | None = None) -> Frame:
        return frame


def make_engine(name: str) -> Engine:
    """The scripted engine with pictures of the size that ``scripted-SIZE`` tells, and the time of
    ``scripted-SIZE-MS``; a model with random weights (``built:sd-turbo:512``); or one that is
    there.
    """
    if name.startswith("scripted-"):
        _, size, *step = name.split("-")
        return ScriptedEngine(int(size), *map(float, step))
    if name.startswith("built:"):
        _, form, size = name.split(":")
        built: Engine = _BUILT.load()(form, int(size))
        return built
    return open_engine(EngineSettings(model=name, offline=True))


class Clock:
    """Notes when an engine begins a picture, whoever calls it, while there is a list for it."""

    def __init__(self, engine: Engine) -> None:
        self.starts: list[float] | None = None
        self._infer = engine.infer
        engine.infer = self.infer  # type: ignore[method-assign]

    def infer(self, frame: Frame, token: Any, mask: Mask | None = None) -> Result[Any] | None:
        if self.starts is not None:
            self.starts.append(time.perf_counter())
        return self._infer(frame, token, mask)


def call_alone(engine: Engine, seconds: float) -> None:
    """Call the engine again and again, and do nothing else."""
    random = np.random.default_rng(3)
    shape = (engine.height, engine.width, 3)
    frames = [random.integers(0, 256, shape, dtype=np.uint8) for _ in range(4)]
    end = time.perf_counter() + seconds
    number = 0
    while time.perf_counter() < end:
        engine.infer(frames[number % len(frames)], number)
        number += 1


def main(relay: str, name: str, stream: str = "default") -> None:
    """Start the worker and do as told."""
    engine = make_engine(name)
    clock = Clock(engine)
    settings = WorkerSettings(
        websocket_uri=relay, stream=stream, osc_port=None, viewer="off", text_to_picture="off"
    )
    worker = Worker(settings, engine=engine)
    thread = threading.Thread(target=worker.run, name="worker")
    thread.start()
    try:
        while worker.state != "live" and thread.is_alive():
            time.sleep(0.01)
        _answer(ready=worker.state == "live", width=engine.width, height=engine.height)
        for line in sys.stdin:
            command, seconds = line.split()
            clock.starts = []
            if command == "alone":
                call_alone(engine, float(seconds))
            else:
                time.sleep(float(seconds))
            starts, clock.starts = clock.starts, None
            _answer(starts=starts)
    finally:
        worker.stop()
        thread.join()


def _answer(**fields: Any) -> None:
    print(json.dumps(fields), flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
