"""The pocket model as a process: ``python -m benchmarks.pocket_process NAME SIZE MODEL``.

Loads one contender at SIZE x SIZE pixels, paints a first picture and says so as a line of JSON;
then each number on its standard input is answered with the seconds of so many whole frames, uint8
in and uint8 out, through the engine port. Ends at the end of the input.
"""

import json
import os
import sys
import time
from typing import Any

import numpy as np

from dreamrelay.engines import Engine, EngineSettings, open_engine
from dreamrelay.errors import DreamRelayError

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
    random = np.random.default_rng(3)
    frames = [random.integers(0, 256, (size, size, 3), dtype=np.uint8) for _ in range(4)]
    try:
        engine = load(name, size, model)
        engine.infer(frames[0], None)
    except DreamRelayError as error:
        _answer(ready=False, why=" ".join(str(error).split()))
        return
    _answer(ready=True, device=engine.device_name)
    for line in sys.stdin:
        seconds = []
        for number in range(int(line)):
            began = time.perf_counter()
            engine.infer(frames[number % len(frames)], None)
            seconds.append(time.perf_counter() - began)
        _answer(seconds=seconds)


def _answer(**fields: Any) -> None:
    print(json.dumps(fields), flush=True)


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), sys.argv[3])
