"""What steers ControlNets and image prompts between two frames, and what settings name of them.

Without torch: forms are drawn of it, and settings are checked with it, before a model is there.
"""

from collections.abc import Mapping, Sequence
from typing import Literal, cast, get_args

from pydantic import Field

from dreamrelay.engines.parameters import Live, Whole
from dreamrelay.errors import ConfigError
from dreamrelay.form import ui

ControlKind = Literal["depth", "scribble", "canny"]
KINDS: tuple[ControlKind, ...] = get_args(ControlKind)

_OF_A_KIND: Mapping[ControlKind, tuple[str, ...]] = {
    "depth": (
        "depth_scale",
        "depth_skip_interval",
        "depth_memory",
        "depth_min",
        "depth_max",
        "depth_input_size",
    ),
    "scribble": ("scribble_scale", "scribble_detail"),
    "canny": ("canny_scale", "canny_low", "canny_high"),
}
"""Parameters that steer one kind of ControlNet only."""


class ControlParameters(Live):
    """How hard each ControlNet holds the picture to the forms of the frame, and what it sees."""

    controlnet_mode: Literal["all", "none", "depth", "scribble", "canny"] = Field(
        default="all",
        description="Which of the loaded ControlNets act: all of them, one alone, or none.",
        json_schema_extra=ui("control", "select", 10, "ControlNet"),
    )
    controlnet_scale: float = Field(
        default=1.0,
        ge=0,
        le=2,
        description="How hard all ControlNets hold on to the forms of the frame; 0 costs nothing.",
        json_schema_extra=ui("control", "slider", 11, "Hold"),
    )
    depth_scale: float = Field(
        default=1.0,
        ge=0,
        le=2,
        description="Share of the depth in that hold: what is near and what far; 0 costs nothing.",
        json_schema_extra=ui("control", "slider", 12, "Depth"),
    )
    scribble_scale: float = Field(
        default=1.0,
        ge=0,
        le=2,
        description="Share of the broad strokes in that hold; 0 costs nothing.",
        json_schema_extra=ui("control", "slider", 13, "Scribble"),
    )
    canny_scale: float = Field(
        default=1.0,
        ge=0,
        le=2,
        description="Share of the thin lines in that hold; 0 costs nothing.",
        json_schema_extra=ui("control", "slider", 14, "Lines"),
    )
    controlnet_temporal_smoothing: float = Field(
        default=1.0,
        ge=0,
        le=1,
        description=(
            "How fast what the ControlNets see follows the frames: 1 at once, lower values more "
            "calmly, 0 not at all."
        ),
        json_schema_extra=ui("control", "slider", 20, "Follow"),
    )
    control_guidance_start: float = Field(
        default=0.0,
        ge=0,
        le=1,
        description="From which part of the way on ControlNets act: 0 pure noise, 1 the picture.",
        json_schema_extra=ui("control", "slider", 21, "Hold from"),
    )
    control_guidance_end: float = Field(
        default=1.0,
        ge=0,
        le=1,
        description="To which part of the way ControlNets act: 0 pure noise, 1 the picture.",
        json_schema_extra=ui("control", "slider", 22, "Hold until"),
    )
    depth_skip_interval: Whole = Field(
        default=1,
        ge=1,
        le=10,
        description="The depth is measured on every k-th frame; its map serves those between.",
        json_schema_extra=ui("control", "slider", 30, "Depth every"),
    )
    depth_memory: bool = Field(
        default=True,
        description=(
            "The ends of the depth's scale follow the frames slowly, so that it does not pump "
            "when something comes near; off: each frame is measured by itself."
        ),
        json_schema_extra=ui("control", "toggle", 34, "Depth memory"),
    )
    depth_min: float = Field(
        default=0.0,
        ge=0,
        le=1,
        description="What is farther counts as far as this; 0 the farthest, 1 the nearest.",
        json_schema_extra=ui("control", "slider", 31, "Depth from"),
    )
    depth_max: float = Field(
        default=1.0,
        ge=0,
        le=1,
        description="What is nearer counts as near as this; 0 the farthest, 1 the nearest.",
        json_schema_extra=ui("control", "slider", 32, "Depth to"),
    )
    depth_input_size: Whole = Field(
        default=0,
        ge=0,
        le=1036,
        description=(
            "Pixels of a side at which the depth model looks at a frame: fewer are "
            "faster and coarser; 0 is the model's own (518 of Depth Anything)."
        ),
        json_schema_extra=ui("control", "number", 33, "Depth pixels"),
    )
    scribble_detail: float = Field(
        default=0.5,
        ge=0,
        le=1,
        description="What becomes a stroke: 0 the outlines alone, 1 every fold.",
        json_schema_extra=ui("control", "slider", 40, "Strokes"),
    )
    canny_low: float = Field(
        default=100.0,
        ge=0,
        le=255,
        description="How faint a line may become where it goes on.",
        json_schema_extra=ui("control", "slider", 41, "Lines go on at"),
    )
    canny_high: float = Field(
        default=200.0,
        ge=0,
        le=255,
        description="How strong an edge must be for a line to begin.",
        json_schema_extra=ui("control", "slider", 42, "Lines begin at"),
    )

    def control_scale(self, kind: ControlKind) -> float:
        """How hard the ControlNets of a kind hold; 0: they are not to be asked."""
        if self.controlnet_mode not in ("all", kind):
            return 0.0
        return self.controlnet_scale * cast(float, getattr(self, f"{kind}_scale"))


class ImagePromptParameters(Live):
    """A picture in place of words, or beside them."""

    image_prompt: str = Field(
        default="",
        max_length=200,
        description=(
            "Picture of the worker's folder whose look is taken up; empty: the one that was sent "
            "last, if any."
        ),
        json_schema_extra=ui("look", "select", 50, "Image prompt"),
    )
    ip_adapter_scale: float = Field(
        default=1.0,
        ge=0,
        le=10,
        description="How much of the image prompt there is in the picture; 0 costs nothing.",
        json_schema_extra=ui("look", "slider", 51, "Image prompt's share"),
    )


class GuideParameters(ControlParameters, ImagePromptParameters):
    """Everything that guides a picture beside the words."""


def wanted_controls(controlnets: Sequence[str]) -> dict[ControlKind, str | None]:
    """The ControlNets that settings name, by kind; None: the usual one of the model.

    Args:
        controlnets: ``depth``, ``scribble`` or ``canny``, or one of them with a hub id or a folder
            (``depth=some/model``); ``none`` alone for none.

    Raises:
        ConfigError: another kind, or one twice.
    """
    if list(controlnets) == ["none"]:
        return {}
    wanted: dict[ControlKind, str | None] = {}
    for entry in controlnets:
        kind, given, model = (part.strip() for part in entry.partition("="))
        if kind not in KINDS or (given and not model):
            raise ConfigError(
                f"controlnet: expected {', '.join(KINDS)}, or one of them with a model "
                f"(depth=some/model), got {entry!r}"
            )
        if kind in wanted:
            raise ConfigError(f"controlnet: {kind} is named twice")
        wanted[kind] = model or None
    return wanted


def absent_controls(kinds: Sequence[ControlKind]) -> dict[str, str]:
    """Parameters that do nothing with ControlNets of these ``kinds``, and what they would need."""
    start = "start the worker with --controlnet="
    if not kinds:
        return dict.fromkeys(ControlParameters.model_fields, f"{start}depth")
    return {
        name: start + ",".join((*kinds, kind))
        for kind, names in _OF_A_KIND.items()
        if kind not in kinds
        for name in names
    }
