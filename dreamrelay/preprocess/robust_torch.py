"""Robust Video Matting by torch: a TorchScript file, or torch.hub (a checkout, or GitHub)."""

import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import torch

from dreamrelay.codec import Frame
from dreamrelay.errors import EngineError
from dreamrelay.preprocess.catalog import HUB_VARIANTS
from dreamrelay.preprocess.ports import Mask
from dreamrelay.preprocess.robust import RobustMatting, downsample_ratio, to_mask

REPOSITORY = "PeterL1n/RobustVideoMatting"

State: TypeAlias = "torch.Tensor | None"


class TorchRobustMatting(RobustMatting[State]):
    """On a CUDA card where there is one, else on the CPU.

    Args:
        where: a TorchScript file, a folder with a ``hubconf.py``, or ``hub`` or ``hub/VARIANT``.
    """

    def __init__(self, where: str) -> None:
        super().__init__(where)
        self._device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        self._model: Any = None
        self._type = torch.float32

    def load(self) -> None:
        if self._model is not None:
            return
        try:
            model = self._opened()
        except (OSError, RuntimeError, ImportError, ValueError) as error:
            reason = " ".join(str(error).split())[:200]
            raise EngineError(
                f"Robust Video Matting cannot be loaded from {self.where}: {reason}; take "
                "rvm_mobilenetv3_fp32.torchscript of its release, and give its path"
            ) from error
        self._model = model.eval().to(self._device)
        # A file in half precision takes its frames so, too.
        self._type = next((weights.dtype for weights in model.parameters()), torch.float32)

    def _opened(self) -> Any:
        path = Path(self.where)
        if path.is_file():
            with warnings.catch_warnings():
                # torch would rather have another format; the release is in this one.
                warnings.simplefilter("ignore", DeprecationWarning)
                return torch.jit.load(self.where, map_location=self._device)
        source, _, variant = self.where.partition("/") if not path.is_dir() else ("", "", "")
        variant = variant or HUB_VARIANTS[0]
        if source == "hub":
            # The operator asked for it by name; nobody else can.
            return torch.hub.load(REPOSITORY, variant, trust_repo=True)
        return torch.hub.load(self.where, variant, source="local")

    def _fresh(self) -> Sequence[State]:
        return (None,) * 4

    def _run(self, frame: Frame, state: Sequence[State]) -> tuple[Mask, Sequence[State]]:
        self.load()
        source = torch.from_numpy(np.ascontiguousarray(frame.transpose(2, 0, 1)))
        source = source.to(self._device, self._type).div_(255).unsqueeze(0)  # (1, 3, H, W)
        ratio = downsample_ratio(*frame.shape[:2])
        try:
            with torch.inference_mode():
                _, alpha, *after = self._model(source, *state, ratio)
                mask = to_mask(alpha.float().cpu().numpy(), frame)
        except (RuntimeError, ValueError, TypeError, AttributeError) as error:
            reason = " ".join(str(error).split())[:200]
            raise EngineError(f"Robust Video Matting failed on a frame: {reason}") from error
        if len(after) != 4:
            raise EngineError(f"expected four recurrent states of {self.where}, got {len(after)}")
        return mask, after
