"""The human-only edit: what is generated goes on the person alone, or on all but the person.

The mask is made from a frame and stays with it (:class:`Cutout`): whoever carries the frame through
an engine carries its mask. A stream batch returns the picture of an earlier frame together with
that frame's token, and so with the cutout in it; there is no "current mask" that could be another
frame's.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from pydantic import BaseModel, Field

from dreamrelay.codec import Frame
from dreamrelay.preprocess.composite import MOST_FEATHER, Keep, composite
from dreamrelay.preprocess.ports import DEFAULT_STREAM, Mask, Matting

Mode = Literal["full", "human"]


def _ui(widget: str, order: int, label: str) -> dict[str, Any]:
    return {"ui": {"group": "look", "widget": widget, "order": order, "label": label}}


class HumanParameters(BaseModel):
    """What may be changed between two frames; for an engine's parameters to derive from."""

    mode: Mode = Field(
        "full",
        description="full: the whole picture is generated; human: a part of it, cut out at people.",
        json_schema_extra=_ui("select", 50, "Mode"),
    )
    keep: Keep = Field(
        "background",
        description="In mode human, what stays as the camera saw it: the background or the person.",
        json_schema_extra=_ui("select", 60, "Keep"),
    )
    feather: float = Field(
        4.0,
        ge=0,
        le=MOST_FEATHER,
        description="In mode human, pixels over which the edge is softened.",
        json_schema_extra=_ui("slider", 70, "Feather"),
    )


@dataclass(frozen=True, slots=True)
class Cutout:
    """A frame and its own mask, with what was asked for when it came.

    Attributes:
        frame: uint8, H x W x 3, RGB, as the camera saw it.
        mask: uint8, H x W; how much of each pixel is a person.
    """

    frame: Frame
    mask: Mask
    keep: Keep
    feather: float

    def __post_init__(self) -> None:
        if self.mask.shape != self.frame.shape[:2]:
            raise ValueError(
                f"expected a mask of {self.frame.shape[:2]}, got one of {self.mask.shape}"
            )

    @property
    def shown(self) -> Mask:
        """Where the generated picture is to be seen (255) and where the frame stays (0): what an
        engine that lays its pictures over by itself wants to have.
        """
        return self.mask if self.keep == "background" else np.uint8(255) - self.mask

    def lay(self, generated: Frame) -> Frame:
        """The picture that was generated from this frame, where it may be seen.

        Raises:
            ValueError: it has another size.
        """
        return composite(generated, self.frame, self.mask, keep=self.keep, feather=self.feather)


class HumanOnly:
    """Before and after the engine, for one worker. Used by one thread at a time.

    Args:
        open_matting: makes the engine when it is needed for the first time, and no sooner.
    """

    def __init__(self, open_matting: Callable[[], Matting]) -> None:
        self._open = open_matting
        self._matting: Matting | None = None
        self._on = False

    def before(
        self,
        frame: Frame,
        parameters: HumanParameters,
        stream: str = DEFAULT_STREAM,
        *,
        alone: bool = False,
    ) -> Cutout | None:
        """What is to be carried with a frame; None in mode ``full``, where nothing is computed.

        Args:
            alone: the frame is no part of its stream (one picture for one peer).

        Raises:
            EngineError, MissingExtra: no mask can be made. The frame must not be shown then:
                generated all over is not what was asked for.
        """
        if parameters.mode == "full":
            if self._on and not alone:
                self._on = False
                self.reset()  # what follows the pause is another scene
            return None
        if self._matting is None:
            matting = self._open()
            matting.load()
            self._matting = matting
        matting = self._matting
        if alone:
            mask = matting.matte_once(frame)
        else:
            self._on = True
            mask = matting.matte(frame, stream)
        return Cutout(frame, mask, parameters.keep, parameters.feather)

    def after(self, generated: Frame, cutout: Cutout | None) -> Frame:
        """The picture as it is to be shown.

        Args:
            generated: made from the frame that ``cutout`` is of.

        Raises:
            ValueError: it has another size than that frame.
        """
        return generated if cutout is None else cutout.lay(generated)

    def reset(self, stream: str | None = None) -> None:
        """Another scene begins: another producer, another source."""
        if self._matting is not None:
            self._matting.reset(stream)
