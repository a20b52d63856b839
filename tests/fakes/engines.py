"""An engine without a model, whose every step a test decides."""

import threading
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from dreamrelay.codec import Frame
from dreamrelay.engines import Engine, EngineSettings, Progress, Report, Result
from dreamrelay.engines.ports import Coming, Mask, Outcome, Token, Turn
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


class SeveralEngine(ScriptedEngine):
    """One that makes pictures of several streams in one call.

    Args:
        limit: so many pictures in one.
        on_call: called with the number of the call (from 1) before it is made; may wait.
    """

    def __init__(
        self, limit: int, *, on_call: Callable[[int], object] = lambda _: None, **options: Any
    ) -> None:
        super().__init__(**options)
        self.calls: list[list[Turn]] = []
        """The turns of each call, single ones too."""
        self._limit, self._on_call, self._options = limit, on_call, options

    @property
    def batch_limit(self) -> int:
        return self._limit

    def beside(self, patch: Mapping[str, Any]) -> "SeveralEngine":
        other = SeveralEngine(self._limit, on_call=self._on_call, **self._options)
        other.calls = self.calls
        other.apply({**self.parameters, **patch})
        other.applied.clear()
        return other

    def infer(self, frame: Frame, token: Token, mask: Mask | None = None) -> Result[Token] | None:
        self._called([Turn(self, frame, token, mask)])
        return super().infer(frame, token, mask)

    def infer_once(self, frame: Frame, patch: Mapping[str, Any], mask: Mask | None = None) -> Frame:
        self._called([Turn(self, frame, None, mask, patch)])
        return super().infer_once(frame, patch, mask)

    def infer_together(self, turns: Sequence[Turn]) -> list[Outcome]:
        self._called(turns)
        outcomes: list[Outcome] = []
        for turn in turns:
            assert isinstance(turn.engine, SeveralEngine)
            outcomes.append(turn.engine.one_of_several(turn))
        return outcomes

    def one_of_several(self, turn: Turn) -> Outcome:
        try:
            if turn.patch is None:
                return super().infer(turn.frame, turn.token, turn.mask)
            return Result(super().infer_once(turn.frame, turn.patch, turn.mask), turn.token)
        except (EngineError, ParameterError) as error:
            return error

    def _called(self, turns: Sequence[Turn]) -> None:
        self.calls.append(list(turns))
        self._on_call(len(self.calls))


class AheadEngine(ScriptedEngine):
    """One whose pictures need not be waited for.

    Args:
        on_land: called with the number of the frame (from 1) before its picture is handed out; may
            wait or raise.
        on_way: called with the number of the frame by who waits for its picture to come down; may
            wait. It is down when this returns.
    """

    def __init__(
        self,
        *,
        on_land: Callable[[int], object] = lambda _: None,
        on_way: Callable[[int], object] = lambda _: None,
        **options: Any,
    ) -> None:
        super().__init__(**options)
        self.overlapping = True
        self.log: list[str] = []
        """What was done, in order: "begun 1", "landed 1", "once"."""
        self._on_land, self._on_way = on_land, on_way
        self._options = options

    @property
    def overlaps(self) -> bool:
        return self.overlapping

    def beside(self, patch: Mapping[str, Any]) -> "AheadEngine":
        other = AheadEngine(on_land=self._on_land, on_way=self._on_way, **self._options)
        other.log = self.log
        other.apply({**self.parameters, **patch})
        return other

    def begin(
        self, frame: Frame, token: Token, mask: Mask | None = None
    ) -> Coming[Result[Token] | None]:
        assert self.overlapping, "the plain way is asked for"
        result = self.infer(frame, token, mask)
        number = self.inferred
        self.log.append(f"begun {number}")

        def land() -> Result[Token] | None:
            self._on_way(number)
            self._on_land(number)
            self.log.append(f"landed {number}")
            return result

        return Coming(land, lambda: self._on_way(number))

    def infer_once(self, frame: Frame, patch: Mapping[str, Any], mask: Mask | None = None) -> Frame:
        self.log.append("once")
        return super().infer_once(frame, patch, mask)
