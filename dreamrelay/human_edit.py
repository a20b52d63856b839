"""The human-only edit round an engine: two more parameters, and a mask for each frame.

The mask is made where frames are taken up, beside the engine's thread; the engine keeps it with its
frame, so that a picture that comes out later is laid over the frame that it was made from.
"""

import itertools
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import cache
from typing import Any

from pydantic import BaseModel

from dreamrelay.codec import Frame
from dreamrelay.engines import Engine, Report, Result
from dreamrelay.engines.licences import Licence
from dreamrelay.engines.parameters import validate_patch
from dreamrelay.engines.ports import FRAME_ERRORS, Coming, Mask, Outcome, Token, Turn
from dreamrelay.preprocess import HumanOnly, HumanParameters, Matting

_numbers = itertools.count(1)


class HumanEdit(Engine):
    """An engine whose pictures may be shown on people alone, or on all but people.

    Streams beside one another share one matting, which remembers the frames of each by itself.

    Args:
        engine: what computes; it lays its pictures over the frames by their masks.
        open_matting: makes the matting when it is first wanted.
        beside: the stream that has a matting already, or will have one.
    """

    def __init__(
        self,
        engine: Engine,
        open_matting: Callable[[], Matting],
        beside: "HumanEdit | None" = None,
    ) -> None:
        self.inner = engine
        self._open_matting: Callable[[], Matting] = (
            cache(open_matting) if beside is None else beside._open_matting
        )
        self._human = HumanOnly(self._open_matting)
        self._stream = f"stream {next(_numbers)}"
        self._values = HumanParameters()
        self._dumped = self._values.model_dump(mode="json")  # asked for with each picture
        self._one_at_a_time: threading.Lock = (
            threading.Lock() if beside is None else beside._one_at_a_time
        )

    def mask(self, frame: Frame) -> Mask | None:
        """Where the picture of this frame of the stream may be seen; None: everywhere.

        Raises:
            EngineError, MissingExtra: no mask can be made; the frame must not be computed then.
        """
        return self._mask(frame, self._values, alone=False)

    def _mask(self, frame: Frame, values: HumanParameters, *, alone: bool) -> Mask | None:
        with self._one_at_a_time:
            return self._human.mask(frame, values, self._stream, alone=alone)

    # What is ours --------------------------------------------------------------------------------

    @property
    def parameters(self) -> dict[str, Any]:
        return {**self.inner.parameters, **self._dumped}

    def apply(self, patch: Mapping[str, Any]) -> None:
        own, rest = _parted(patch)
        changed = validate_patch(self._values, own) if own else self._values
        if rest:
            self.inner.apply(rest)
        self._values, self._dumped = changed, changed.model_dump(mode="json")

    def schema(self) -> dict[str, Any]:
        schema = self.inner.schema()
        properties = HumanParameters.model_json_schema()["properties"]
        own = {name: {**properties[name], "default": value} for name, value in self._dumped.items()}
        return {**schema, "properties": {**schema["properties"], **own}}

    # What is the engine's ------------------------------------------------------------------------

    @property
    def name(self) -> str:  # type: ignore[override]  # of the class elsewhere
        return self.inner.name

    @property
    def parameters_type(self) -> type[BaseModel]:  # type: ignore[override]
        return self.inner.parameters_type

    @property
    def width(self) -> int:  # type: ignore[override]
        return self.inner.width

    @property
    def height(self) -> int:  # type: ignore[override]
        return self.inner.height

    @property
    def model_name(self) -> str:  # type: ignore[override]
        return self.inner.model_name

    @property
    def device_name(self) -> str:  # type: ignore[override]
        return self.inner.device_name

    @property
    def licence(self) -> Licence:
        return self.inner.licence

    @property
    def imitates(self) -> bool:
        return self.inner.imitates

    @property
    def stateful(self) -> bool:
        return self.inner.stateful

    @property
    def overlaps(self) -> bool:
        return self.inner.overlaps

    @property
    def notice(self) -> str:
        return self.inner.notice

    @property
    def morphing(self) -> bool:
        return self.inner.morphing

    def load(self, report: Report) -> None:
        self.inner.load(report)

    def infer(self, frame: Frame, token: Token, mask: Mask | None = None) -> Result[Token] | None:
        return self.inner.infer(frame, token, mask)

    def begin(
        self, frame: Frame, token: Token, mask: Mask | None = None
    ) -> Coming[Result[Token] | None]:
        return self.inner.begin(frame, token, mask)

    def infer_once(self, frame: Frame, patch: Mapping[str, Any], mask: Mask | None = None) -> Frame:
        rest, mask = self._once(frame, patch, mask)
        return self.inner.infer_once(frame, rest, mask)

    def _once(
        self, frame: Frame, patch: Mapping[str, Any], mask: Mask | None
    ) -> tuple[dict[str, Any], Mask | None]:
        """What the engine is told of a single picture."""
        own, rest = _parted(patch)
        if mask is None:
            values = validate_patch(self._values, own) if own else self._values
            mask = self._mask(frame, values, alone=True)
        return rest, mask

    # Several streams -----------------------------------------------------------------------------

    def beside(self, patch: Mapping[str, Any]) -> "HumanEdit":
        own, rest = _parted(patch)
        values = validate_patch(self._values, own)
        other = HumanEdit(self.inner.beside(rest), self._open_matting, self)
        other.apply(values.model_dump())
        return other

    @property
    def batch_limit(self) -> int:
        return self.inner.batch_limit

    def infer_together(self, turns: Sequence[Turn]) -> list[Outcome]:
        outcomes: list[Outcome] = [None] * len(turns)
        inner: list[Turn] = []
        places: list[int] = []
        for at, turn in enumerate(turns):
            assert isinstance(turn.engine, HumanEdit)
            try:
                inner.append(turn.engine._inner(turn))
                places.append(at)
            except FRAME_ERRORS as error:
                outcomes[at] = error
        for at, outcome in zip(places, self.inner.infer_together(inner), strict=True):
            outcomes[at] = outcome
        return outcomes

    def _inner(self, turn: Turn) -> Turn:
        if turn.patch is None:
            return replace(turn, engine=self.inner)
        patch, mask = self._once(turn.frame, turn.patch, turn.mask)
        return replace(turn, engine=self.inner, mask=mask, patch=patch)

    # What else is the engine's -------------------------------------------------------------------

    def refer(self, picture: Frame | None) -> None:
        self.inner.refer(picture)

    def attend(self, newer: Callable[[], bool], show: Callable[[Frame, Any], None]) -> None:
        self.inner.attend(newer, show)

    def forget(self) -> None:
        self.inner.forget()

    def control_map(self) -> Frame | None:
        return self.inner.control_map()

    def counters(self) -> dict[str, float]:
        return self.inner.counters()

    def close(self) -> None:
        self.inner.close()


def _parted(patch: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """What of a patch is ours, and what is the engine's."""
    own = {name: value for name, value in patch.items() if name in HumanParameters.model_fields}
    return own, {name: value for name, value in patch.items() if name not in own}
