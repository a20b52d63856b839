"""An engine of the chaos run that needs neither a model nor much of the machine."""

import time
from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from dreamrelay.codec import Frame
from dreamrelay.engines import Engine, Report, Result
from dreamrelay.engines.catalog import ENGINES
from dreamrelay.engines.ports import EngineSettings, Mask, Token
from dreamrelay.errors import ParameterError
from dreamrelay.importer import Entry

LIGHT_SECONDS = 0.02


class LightParameters(BaseModel):
    """A prompt, so that there is something to be kept."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    prompt: str = Field("", max_length=2000)


class LightEngine(Engine):
    """Turns the colours round, and takes 20 ms for it without needing the processor."""

    name: ClassVar[str] = "light"
    parameters_type: ClassVar[type[BaseModel]] = LightParameters

    def __init__(self, settings: EngineSettings) -> None:
        self.width, self.height = 256, 256
        self.model_name, self.device_name = "light", "cpu"
        self._parameters = LightParameters.model_validate(settings.parameters)

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


def add() -> None:
    """Have this process know it as ``--engine=light``."""
    ENGINES["light"] = Entry(f"{__name__}:{LightEngine.__name__}", "the light engine")
