"""Another stream over an engine that knows of one stream only."""

from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel

from dreamrelay.codec import Frame
from dreamrelay.engines.licences import Licence
from dreamrelay.engines.parameters import validate_patch
from dreamrelay.engines.ports import Engine, Mask, Report, Result, Token
from dreamrelay.errors import EngineError


class SharedEngine(Engine):
    """A stream whose pictures another engine makes as single ones.

    It has parameters of its own and no memory: no picture depends on another.

    Args:
        engine: a loaded one.
        patch: first parameters, over those in force there.
    """

    def __init__(self, engine: Engine, patch: Mapping[str, Any]) -> None:
        self._engine = engine
        self._closed = False
        kind = engine.parameters_type
        names = kind.model_fields
        of_engine = {name: value for name, value in engine.parameters.items() if name in names}
        self._parameters = validate_patch(kind.model_validate(of_engine), patch)

    @property
    def name(self) -> str:  # type: ignore[override]  # of the class elsewhere
        return self._engine.name

    @property
    def parameters_type(self) -> type[BaseModel]:  # type: ignore[override]
        return self._engine.parameters_type

    @property
    def width(self) -> int:  # type: ignore[override]
        return self._engine.width

    @property
    def height(self) -> int:  # type: ignore[override]
        return self._engine.height

    @property
    def model_name(self) -> str:  # type: ignore[override]
        return self._engine.model_name

    @property
    def device_name(self) -> str:  # type: ignore[override]
        return self._engine.device_name

    @property
    def licence(self) -> Licence:
        return self._engine.licence

    def load(self, report: Report) -> None:
        """It is loaded."""

    @property
    def parameters(self) -> dict[str, Any]:
        return self._parameters.model_dump(mode="json")

    def apply(self, patch: Mapping[str, Any]) -> None:
        self._parameters = validate_patch(self._parameters, patch)

    def infer(self, frame: Frame, token: Token, mask: Mask | None = None) -> Result[Token] | None:
        return Result(self.infer_once(frame, {}, mask), token)

    def infer_once(self, frame: Frame, patch: Mapping[str, Any], mask: Mask | None = None) -> Frame:
        if self._closed:
            raise EngineError("the engine was closed")
        return self._engine.infer_once(frame, {**self.parameters, **patch}, mask)

    def schema(self) -> dict[str, Any]:
        schema = self._engine.schema()
        for name, value in self.parameters.items():
            if name in schema.get("properties", {}):
                schema["properties"][name]["default"] = value
        return schema

    def close(self) -> None:
        self._closed = True
