"""OpenVINO as a runtime: the fastest on processors, bfloat16 where they multiply it themselves."""

import importlib
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from dreamrelay.engines.runtimes import Program

_CONVERTERS = "openvino.tools.ovc"


def _imported() -> Any:
    """OpenVINO without its converters: they take half of the import, and bring telemetry."""
    if "openvino" in sys.modules or _CONVERTERS in sys.modules:
        return importlib.import_module("openvino")
    sys.modules[_CONVERTERS] = None  # type: ignore[assignment]
    try:
        return importlib.import_module("openvino")
    finally:
        del sys.modules[_CONVERTERS]


openvino = _imported()


class OpenVino:
    """Compiles a graph anew for each set of shapes: fixed sizes are what makes it fast."""

    def __init__(self, *, fast: bool, threads: int) -> None:
        self._core = openvino.Core()
        can = self._core.get_property("CPU", "OPTIMIZATION_CAPABILITIES")
        precision = "bf16" if fast and "BF16" in can else "f32"
        self._options = {
            "PERFORMANCE_HINT": "LATENCY",
            "INFERENCE_NUM_THREADS": threads,
            "INFERENCE_PRECISION_HINT": precision,
        }
        self.label = f"OpenVINO {precision}"

    def read(self, path: Path, *, exact: bool = False) -> "_Graph":
        options = {**self._options, "INFERENCE_PRECISION_HINT": "f32"} if exact else self._options
        return _Graph(self._core, self._core.read_model(str(path)), options)


class _Graph:
    def __init__(self, core: Any, model: Any, options: dict[str, Any]) -> None:
        self._core = core
        self._model = model
        self._options = options

    def program(self, shapes: Sequence[tuple[int, ...]]) -> Program:
        self._model.reshape(
            {port: list(shape) for port, shape in zip(self._model.inputs, shapes, strict=True)}
        )
        compiled = self._core.compile_model(self._model, "CPU", self._options)
        request = compiled.create_infer_request()

        def run(*inputs: NDArray[Any]) -> NDArray[Any]:
            # Neither copied in nor out; the output is the request's own memory.
            outputs = request.infer(inputs, share_inputs=True, share_outputs=True)
            result: NDArray[Any] = outputs[0]
            return result

        return run
