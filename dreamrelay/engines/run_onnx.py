"""onnxruntime as a runtime: where OpenVINO is missing; full precision, any size at once."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import onnxruntime
from numpy.typing import NDArray
from onnxruntime.capi import onnxruntime_pybind11_state as errors

from dreamrelay.engines.runtimes import Program

# It has no common base for them.
_FAILURES = (
    errors.EPFail,
    errors.Fail,
    errors.InvalidArgument,
    errors.InvalidGraph,
    errors.InvalidProtobuf,
    errors.NoSuchFile,
    errors.NotImplemented,
    errors.RuntimeException,
)


class OnnxRuntime:
    """One session for all shapes."""

    def __init__(self, *, fast: bool, threads: int) -> None:
        self._options = onnxruntime.SessionOptions()
        self._options.intra_op_num_threads = threads
        self._options.log_severity_level = 3
        # A thread that spins while it waits takes the core that the codec needs.
        self._options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        self.label = "onnxruntime f32"

    def read(self, path: Path, *, exact: bool = False) -> "_Graph":
        try:
            return _Graph(
                onnxruntime.InferenceSession(
                    str(path), self._options, providers=["CPUExecutionProvider"]
                )
            )
        except _FAILURES as error:
            raise RuntimeError(str(error)) from error


class _Graph:
    def __init__(self, session: Any) -> None:
        self._session = session
        self._names = [port.name for port in session.get_inputs()]

    def program(self, shapes: Sequence[tuple[int, ...]]) -> Program:
        def run(*inputs: NDArray[Any]) -> NDArray[Any]:
            try:
                outputs = self._session.run(None, dict(zip(self._names, inputs, strict=True)))
            except _FAILURES as error:
                raise RuntimeError(str(error)) from error
            result: NDArray[Any] = outputs[0]
            return result

        return run
