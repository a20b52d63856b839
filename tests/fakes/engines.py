"""An engine without a model, whose every step a test decides."""

import threading
from collections import deque
from collections.abc import Callable, Mapping
from typing import Any, ClassVar

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from dreamrelay.codec import Frame
from dreamrelay.engines import Engine, EngineSettings, Progress, Report, Result
from dreamrelay.engines.ports import Mask, Token
from dreamrelay.errors import EngineError, ParameterError

COLOURS = {"red": (255, 0, 0), "green": (0, 255, 0), "blue": (0, 0, 255)}


class ScriptedParameters(BaseModel):
    """``prompt`` is a colour, or "invert"; ``steps`` has a rule that no JSON Schema tells."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    prompt: str = Field("invert", max_length=2000)
    negative_prompt: str = ""
    strength: float = Field(0.5, ge=0, le=1)
    steps: list[int] = Field(default_factory=lambda: [1, 2])

    @field_validator("steps")
    @classmethod
    def _ascending(cls, steps: list[int]) -> list[int]:
        if steps != sorted(steps):
            raise ValueError("expected ascending numbers")
        return steps


class ScriptedEngine(Engine):
    """Inverts the frame, or paints it in the colour of the prompt.

    Args:
        latency: frames that fill up before the first picture comes out.
        on_load: called with the report in place of loading.
        on_infer: called with the number of the frame (from 1), before it is computed; may wait or
            raise.
    """

    name: ClassVar[str] = "scripted"
    parameters_type: ClassVar[type[BaseModel]] = ScriptedParameters

    def __init__(
        self,
        *,
        size: tuple[int, int] = (64, 48),
        latency: int = 0,
        on_load: Callable[[Report], object] | None = None,
        on_infer: Callable[[int], object] | None = None,
    ) -> None:
        self.settings = EngineSettings()
        self.width, self.height = size
        self.model_name, self.device_name = "a script", "nowhere"
        self.inferred = 0
        self.asked = 0
        self.applied: list[dict[str, Any]] = []
        self.closed = 0
        self.threads: set[int] = set()
        self._latency = latency
        self._on_load = on_load
        self._on_infer = on_infer
        self._filling: deque[Any] = deque()
        self._parameters = ScriptedParameters()

    def load(self, report: Report) -> None:
        report(Progress("loading", "a script", 0.5))
        if self._on_load is not None:
            self._on_load(report)

    @property
    def parameters(self) -> dict[str, Any]:
        return self._parameters.model_dump(mode="json")

    def apply(self, patch: Mapping[str, Any]) -> None:
        self._parameters = self._patched(patch)
        self.applied.append(dict(patch))

    def _patched(self, patch: Mapping[str, Any]) -> ScriptedParameters:
        try:
            return ScriptedParameters.model_validate({**self.parameters, **patch})
        except ValidationError as error:
            problems = {str(one["loc"][0]): one["msg"] for one in error.errors()}
            raise ParameterError(problems) from None

    def infer(self, frame: Frame, token: Token, mask: Mask | None = None) -> Result[Token] | None:
        self.threads.add(threading.get_ident())
        assert frame.shape == (self.height, self.width, 3)
        self.inferred += 1
        if self._on_infer is not None:
            self._on_infer(self.inferred)
        self._filling.append((frame, token))
        if len(self._filling) <= self._latency:
            return None
        frame, token = self._filling.popleft()
        return Result(self._paint(frame, self._parameters.prompt), token)

    def infer_once(self, frame: Frame, patch: Mapping[str, Any], mask: Mask | None = None) -> Frame:
        self.asked += 1
        parameters = self._patched(patch)
        if parameters.prompt == "fail":
            raise EngineError("this prompt fails")
        return self._paint(frame, parameters.prompt)

    def _paint(self, frame: Frame, prompt: str) -> Frame:
        if prompt not in COLOURS:
            return np.asarray(255 - frame, np.uint8)
        painted = np.empty_like(frame)
        painted[:] = COLOURS[prompt]
        return painted

    def close(self) -> None:
        self.closed += 1
