"""The human-only edit: the picture is shown on people alone, or on all but people.

A mask is made from a frame and goes with it: whoever carries the frame through an engine carries
its mask. There is no "current mask" that could be another frame's.
"""

from collections.abc import Callable
from typing import Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from dreamrelay.codec import Frame
from dreamrelay.form import ui
from dreamrelay.preprocess.ports import DEFAULT_STREAM, Mask, Matting

Mode = Literal["full", "human"]
Keep = Literal["background", "person"]
"""Which part stays as the camera saw it."""


class HumanParameters(BaseModel):
    """What may be changed between two frames, beside an engine's own parameters."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    mode: Mode = Field(
        "full",
        description="full: the whole picture is generated; human: a part of it, cut out at people.",
        json_schema_extra=ui("look", "select", 80, "Mode"),
    )
    keep: Keep = Field(
        "background",
        description="In mode human, what stays as the camera saw it: the background or the person.",
        json_schema_extra=ui("look", "select", 81, "Keep"),
    )


class HumanOnly:
    """Makes the mask of each frame, for one worker. Used by one thread at a time.

    Args:
        open_matting: makes the engine when it is needed for the first time, and no sooner.
    """

    def __init__(self, open_matting: Callable[[], Matting]) -> None:
        self._open = open_matting
        self._matting: Matting | None = None
        self._on = False

    def mask(
        self,
        frame: Frame,
        parameters: HumanParameters,
        stream: str = DEFAULT_STREAM,
        *,
        alone: bool = False,
    ) -> Mask | None:
        """Where the picture made from this frame is to be seen; None in mode ``full``, where
        nothing is computed.

        Args:
            alone: the frame is no part of its stream (one picture for one peer).

        Returns:
            uint8, H x W: 255 where the picture is shown, 0 where the frame stays.

        Raises:
            EngineError, MissingExtra: no mask can be made. The frame must not be shown then:
                generated all over is not what was asked for.
        """
        if parameters.mode == "full":
            if self._on and not alone:
                self._on = False
                self.reset(stream)  # what follows the pause is another scene
            return None
        if self._matting is None:
            matting = self._open()
            matting.load()
            self._matting = matting
        if alone:
            person = self._matting.matte_once(frame)
        else:
            self._on = True
            person = self._matting.matte(frame, stream)
        return person if parameters.keep == "background" else np.uint8(255) - person

    def reset(self, stream: str | None = None) -> None:
        """Another scene begins: another producer, another source."""
        if self._matting is not None:
            self._matting.reset(stream)
