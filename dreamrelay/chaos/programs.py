"""The programs of a chaos run, each a process: ``python -m dreamrelay.chaos.programs ...``.

They are the real ones. What is done to them can be done to no program from outside without being
root: a disk that is full (a limit on the size of a file), a clock that steps (the functions that
ask it), an engine that needs neither a model nor much of the machine.
"""

import importlib
import runpy
import signal
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from dreamrelay.codec import Frame
from dreamrelay.config import WorkerSettings
from dreamrelay.engines import Engine, Report, Result
from dreamrelay.engines.ports import Mask, Token
from dreamrelay.errors import DreamRelayError, ParameterError
from dreamrelay.worker import Worker

LIGHT_SECONDS = 0.02
LOOK_SECONDS = 0.1


class LightParameters(BaseModel):
    """A prompt, so that there is something to be kept."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    prompt: str = Field("", max_length=2000)


class LightEngine(Engine):
    """Turns the colours round, and takes 20 ms for it without needing the processor."""

    name: ClassVar[str] = "light"
    parameters_type: ClassVar[type[BaseModel]] = LightParameters

    def __init__(self, prompt: str = "") -> None:
        self.width, self.height = 256, 256
        self.model_name, self.device_name = "light", "cpu"
        self._parameters = LightParameters(prompt=prompt)

    def load(self, report: Report) -> None:
        """There is nothing to load."""

    @property
    def parameters(self) -> dict[str, Any]:
        return self._parameters.model_dump(mode="json")

    def apply(self, patch: Mapping[str, Any]) -> None:
        try:
            self._parameters = LightParameters.model_validate({**self.parameters, **patch})
        except ValidationError as error:
            problems = {str(one["loc"][0]): one["msg"] for one in error.errors()}
            raise ParameterError(problems) from None

    def infer(self, frame: Frame, token: Token, mask: Mask | None = None) -> Result[Token] | None:
        return Result(self.infer_once(frame, {}), token)

    def infer_once(self, frame: Frame, patch: Mapping[str, Any], mask: Mask | None = None) -> Frame:
        time.sleep(LIGHT_SECONDS)
        return np.asarray(255 - frame, np.uint8)

    def close(self) -> None:
        """There is nothing to close."""


def limit_files(size: int) -> None:
    """No file of this process grows beyond so many bytes: to it the disk is full then."""
    resource: Any = importlib.import_module("resource")  # there is none on Windows
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))


def step_clock(file: Path) -> None:
    """Have the clock of this process be so many seconds off as the file says, when it says so."""
    time_ns, seconds = time.time_ns, time.time
    off = [0.0]

    def look() -> None:
        while True:
            try:
                off[0] = float(file.read_text(encoding="utf-8") or 0)
            except (OSError, ValueError):
                off[0] = 0.0
            time.sleep(LOOK_SECONDS)

    time.time_ns = lambda: time_ns() + int(off[0] * 1e9)
    time.time = lambda: seconds() + off[0]
    threading.Thread(target=look, name="clock", daemon=True).start()


def main(words: Sequence[str]) -> int:
    """``[--limit=BYTES] [--clock=FILE] [--light] COMMAND --flag=value ...``"""
    own = {word.partition("=")[0]: word.partition("=")[2] for word in words if _is_own(word)}
    command, *flags = [word for word in words if not _is_own(word)]
    if "--limit" in own:
        limit_files(int(own["--limit"]))
    if "--clock" in own:
        step_clock(Path(own["--clock"]))
    if "--light" not in own:
        sys.argv = ["dreamrelay", command, *flags]
        runpy.run_module("dreamrelay", run_name="__main__", alter_sys=True)
    given = dict(word.removeprefix("--").split("=", 1) for word in flags)
    settings = WorkerSettings.load(given)
    try:
        worker = Worker(settings, engine=LightEngine(settings.prompt or ""))
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, lambda *_: worker.stop())
        worker.run()
    except DreamRelayError as error:
        sys.stderr.write(f"{error}\n")
        return 1
    sys.stdout.write(f"replaced by {worker.replaced_by}\n" if worker.replaced_by else "")
    return 0


def _is_own(word: str) -> bool:
    return word.partition("=")[0] in ("--limit", "--clock", "--light")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
