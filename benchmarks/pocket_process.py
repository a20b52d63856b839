"""The pocket model as a process: ``python -m benchmarks.pocket_process NAME SIZE MODEL``.

Loads one contender at SIZE x SIZE pixels, paints a first picture and says so as a line of JSON;
then each number on its standard input is answered with the seconds of so many whole frames, uint8
in and uint8 out, through the engine port. Ends at the end of the input. The names of ``peaks.py``
are contenders too: what they paint is of no size, and nothing to look at.
"""

import itertools
import json
import os
import sys
import time
from collections.abc import Callable
from typing import Any

import numpy as np

from dreamrelay.engines import Engine, EngineSettings, open_engine
from dreamrelay.errors import DreamRelayError
from dreamrelay.importer import Entry

PEAK = "peak"
_PREPARE_PEAK = Entry("benchmarks.peaks:prepare", "OpenVINO", "pocket")

CONTENDERS: dict[str, dict[str, str]] = {
    "torch": {"engine": "stream-batch", "acceleration": "none", "device": "cpu"},
    "onnxruntime": {"engine": "pocket", "acceleration": "onnx"},
    "OpenVINO f32": {"engine": "pocket", "acceleration": "none"},
    "OpenVINO bf16": {"engine": "pocket", "acceleration": "openvino"},
    "auto": {},
}
"""Names to what an engine is opened with; ``auto`` is what a worker would choose."""


def load(name: str, size: int, model: str = "pocket") -> Engine:
    """A loaded engine of a contender.

    Raises:
        DreamRelayError: it cannot run here.
    """
    settings: dict[str, Any] = CONTENDERS[name]
    engine = open_engine(
        EngineSettings(model=model, offline=True, width=size, height=size, **settings)
    )
    engine.load(lambda progress: None)
    return engine


def main(name: str, size: int, model: str) -> None:
    """Load, paint, and answer."""
    if os.environ.get("OMP_NUM_THREADS") == "1" and hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})  # one core is one core
    try:
        paint, device = (
            _PREPARE_PEAK.load()(name)
            if name.startswith(PEAK)
            else _painter(load(name, size, model), size)
        )
        paint()
    except DreamRelayError as error:
        _answer(ready=False, why=" ".join(str(error).split()))
        return
    _answer(ready=True, device=device)
    for line in sys.stdin:
        seconds = []
        for _ in range(int(line)):
            began = time.perf_counter()
            paint()
            seconds.append(time.perf_counter() - began)
        _answer(seconds=seconds)


def _painter(engine: Engine, size: int) -> tuple[Callable[[], object], str]:
    random = np.random.default_rng(3)
    shape = (size, size, 3)
    frames = itertools.cycle([random.integers(0, 256, shape, dtype=np.uint8) for _ in range(4)])
    return lambda: engine.infer(next(frames), None), engine.device_name


def _answer(**fields: Any) -> None:
    print(json.dumps(fields), flush=True)


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), sys.argv[3])
