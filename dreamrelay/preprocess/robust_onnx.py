"""Robust Video Matting by onnxruntime: an ONNX file of its release, without torch."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray
from onnxruntime.capi import onnxruntime_pybind11_state

from dreamrelay.codec import Frame
from dreamrelay.errors import EngineError
from dreamrelay.preprocess.ports import Mask
from dreamrelay.preprocess.robust import RobustMatting, downsample_ratio, to_mask

INPUTS = ("src", "r1i", "r2i", "r3i", "r4i", "downsample_ratio")
OUTPUTS = ("pha", "r1o", "r2o", "r3o", "r4o")

State = NDArray[Any]

_FAILURES: tuple[type[Exception], ...] = (
    RuntimeError,
    ValueError,
    OSError,
    # Its own errors have no base in common but Exception.
    *(
        kind
        for kind in vars(onnxruntime_pybind11_state).values()
        if isinstance(kind, type) and issubclass(kind, Exception)
    ),
)


class OnnxRobustMatting(RobustMatting[State]):
    """On the best device that this onnxruntime has."""

    def __init__(self, where: str) -> None:
        super().__init__(where)
        self._session: ort.InferenceSession | None = None
        self._type: type[np.floating[Any]] = np.float32

    def load(self) -> None:
        if self._session is not None:
            return
        try:
            session = ort.InferenceSession(self.where, providers=ort.get_available_providers())
        except _FAILURES as error:
            reason = " ".join(str(error).split())[:200]
            raise EngineError(
                f"Robust Video Matting cannot be loaded from {self.where}: {reason}; take "
                "rvm_mobilenetv3_fp32.onnx of its release"
            ) from error
        inputs = {item.name: item.type for item in session.get_inputs()}
        outputs = {item.name for item in session.get_outputs()}
        missing = sorted({*INPUTS, *OUTPUTS} - {*inputs, *outputs})
        if missing:
            raise EngineError(
                f"{self.where} is no Robust Video Matting: it lacks {', '.join(missing)}"
            )
        self._type = np.float16 if inputs["src"] == "tensor(float16)" else np.float32
        self._session = session

    def _fresh(self) -> Sequence[State]:
        self.load()
        return (np.zeros((1, 1, 1, 1), self._type),) * 4

    def _run(self, frame: Frame, state: Sequence[State]) -> tuple[Mask, Sequence[State]]:
        self.load()
        if self._session is None:
            raise AssertionError("loaded")
        source = frame.transpose(2, 0, 1)[None].astype(self._type) / self._type(255)
        ratio = np.array([downsample_ratio(*frame.shape[:2])], np.float32)
        feed = dict(zip(INPUTS, (source, *state, ratio), strict=True))
        try:
            alpha, *after = self._session.run(OUTPUTS, feed)
            return to_mask(alpha, frame), after
        except _FAILURES as error:
            reason = " ".join(str(error).split())[:200]
            raise EngineError(f"Robust Video Matting failed on a frame: {reason}") from error
