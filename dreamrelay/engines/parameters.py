"""The parameters of a stream batch: typed, bounded, with the words a person needs to set them.

The JSON Schema of the model is the one truth: the relay checks patches against it, the studio
builds its form from it (``ui`` says how), OSC and REST take their names from it.

Here is what every stream batch has. What only some engines can use is a :class:`Live` of its own,
beside what it steers; an engine's ``parameters_type`` inherits from all that it can use.
"""

import json
import math
from collections.abc import Mapping
from itertools import pairwise
from typing import Annotated, Any, Literal, TypeVar

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationError,
    WithJsonSchema,
    field_validator,
)

from dreamrelay.errors import ParameterError
from dreamrelay.form import ui

CfgType = Literal["none", "full", "self", "initialize"]
Blend = Literal["linear", "slerp", "slerp_tokens"]
Renoise = Literal["stochastic", "ode"]
Motion = Literal["off", "shift", "flow"]

MAX_STEPS = 8
MAX_PROMPTS = 8
MAX_SEEDS = 8
MAX_SIDE = 2048
SCHEDULE_LENGTH = 50
"""``t_index_list`` counts in a schedule of this many steps, as StreamDiffusion does."""

Parameters = TypeVar("Parameters", bound=BaseModel)


def _whole(value: Any) -> Any:
    """A number such as 4.0 is whole in JSON; JavaScript and OSC do not tell it from 4."""
    if isinstance(value, float) and math.isfinite(value) and value.is_integer():
        return int(value)
    return value


def _as_list(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value


Whole = Annotated[int, BeforeValidator(_whole)]
Listed = BeforeValidator(_as_list)
"""A tuple is as good as a list."""

TIndex = Annotated[int, Field(ge=0, le=SCHEDULE_LENGTH - 1), BeforeValidator(_whole)]


class Live(BaseModel):
    """Values that can be changed between two frames: nothing unknown, nothing out of bounds."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, allow_inf_nan=False)


class WeightedPrompt(Live):
    """One of several prompts that are blended."""

    text: str = Field(max_length=2000, description="What the picture is to become, in words.")
    weight: float = Field(
        default=1.0, ge=0, le=10, description="Its share of the blend, beside the others'."
    )


# Its schema in place, not by reference: forms and other readers see one level.
Weighted = Annotated[WeightedPrompt, WithJsonSchema(WeightedPrompt.model_json_schema())]


class WeightedSeed(Live):
    """One of several seeds whose noise is blended."""

    seed: Whole = Field(ge=0, le=2**31 - 1, description="Number that the noise is drawn from.")
    weight: float = Field(
        default=1.0, ge=0, le=10, description="Its share of the blend, beside the others'."
    )


SeedOfSeveral = Annotated[WeightedSeed, WithJsonSchema(WeightedSeed.model_json_schema())]


class StreamBatchParameters(Live):
    """What can be changed between two frames of a stream batch."""

    prompt: str = Field(
        default="",
        max_length=2000,
        description="What the picture is to become, in words.",
        json_schema_extra=ui("look", "text", 10, "Prompt"),
    )
    negative_prompt: str = Field(
        default="",
        max_length=2000,
        description=(
            "What the picture is to keep away from. The pocket model obeys at once; others with "
            "guidance above 1 and the guidance type full or initialize."
        ),
        json_schema_extra=ui("look", "text", 20, "Negative prompt"),
    )
    prompts: Annotated[list[Weighted], Listed] | None = Field(
        default=None,
        max_length=MAX_PROMPTS,
        description=(
            "Several prompts that are blended by their weights, in place of the one prompt; "
            "empty leaves that one in force."
        ),
        json_schema_extra=ui("advanced", "prompts", 5, "Prompt blend"),
    )
    prompt_interpolation: Blend = Field(
        default="linear",
        description=(
            "How prompts are blended and morphed: linear on the straight line between them, slerp "
            "on an arc, slerp_tokens on an arc for each word."
        ),
        json_schema_extra=ui("advanced", "select", 6, "Prompts on a"),
    )
    transition_frames: Whole = Field(
        default=0,
        ge=0,
        le=240,
        description="Frames over which a changed prompt takes the place of the one before.",
        json_schema_extra=ui("look", "slider", 25, "Morph over"),
    )
    negative_prompt_scale: float = Field(
        default=0.0,
        ge=0,
        le=2,
        description=(
            "How far the prompt is turned away from the negative prompt where guidance does not "
            "take it in; it costs nothing. 0 leaves that to guidance."
        ),
        json_schema_extra=ui("guidance", "slider", 40, "Turn away"),
    )
    prompt_follows_frame: bool = Field(
        default=False,
        description=(
            "Each frame keeps the prompt that it came in under until it is done; off: a changed "
            "prompt acts on the frames under way too, and so one or more frames sooner."
        ),
        json_schema_extra=ui("advanced", "toggle", 7, "Prompt stays with its frame"),
    )
    strength: float = Field(
        default=0.5,
        ge=0,
        le=1,
        description=(
            "How far the picture may go from the frame: 0 keeps the frame, 1 keeps next to "
            "nothing of it. It acts while t_index_list is empty."
        ),
        json_schema_extra=ui("look", "slider", 30, "Strength"),
    )
    seed: Whole = Field(
        default=2,
        ge=0,
        le=2**31 - 1,
        description="Number that the noise is drawn from; the same seed gives the same look.",
        json_schema_extra=ui("look", "seed", 40, "Seed"),
    )
    seeds: Annotated[list[SeedOfSeveral], Listed] | None = Field(
        default=None,
        max_length=MAX_SEEDS,
        description=(
            "Several seeds whose noise is blended by their weights, in place of the one seed; "
            "empty leaves that one in force."
        ),
        json_schema_extra=ui("advanced", "seeds", 12, "Seed blend"),
    )
    seed_interpolation: Literal["linear", "slerp"] = Field(
        default="linear",
        description="How seeds are blended; both keep the noise as strong as one seed's.",
        json_schema_extra=ui("advanced", "select", 13, "Seeds on a"),
    )
    num_inference_steps: Whole = Field(
        default=2,
        ge=1,
        le=MAX_STEPS,
        description=(
            "Denoising steps of a picture; each more step costs time and delays the stream by "
            "one frame. It acts while t_index_list is empty."
        ),
        json_schema_extra=ui("motion", "slider", 10, "Steps"),
    )
    t_index_list: Annotated[list[TIndex], Listed] | None = Field(
        default=None,
        min_length=1,
        max_length=MAX_STEPS,
        description=(
            "Positions of the denoising steps in a schedule of 50, ascending, 0 the noisiest; "
            "empty derives them from strength and steps."
        ),
        json_schema_extra=ui("advanced", "list", 10, "Timestep indices"),
    )
    guidance_scale: float = Field(
        default=1.2,
        ge=0,
        le=20,
        description="How hard the prompt pulls; 1 and less switch guidance off.",
        json_schema_extra=ui("guidance", "slider", 10, "Guidance"),
    )
    delta: float = Field(
        default=1.0,
        ge=0,
        le=2,
        description=(
            "How much of the remembered noise the guidance types self and initialize take off; "
            "lower values calm the picture."
        ),
        json_schema_extra=ui("guidance", "slider", 20, "Delta"),
    )
    cfg_type: CfgType = Field(
        default="self",
        description=(
            "Where guidance takes its counterpart from: none switches it off, self reuses the "
            "noise at no cost, initialize computes it once a frame, full at every step."
        ),
        json_schema_extra=ui("guidance", "select", 30, "Guidance type"),
    )
    do_add_noise: bool = Field(
        default=True,
        description="Adds fresh noise between the steps of a picture.",
        json_schema_extra=ui("advanced", "toggle", 20, "Noise between steps"),
    )
    renoise: Renoise = Field(
        default="stochastic",
        description=(
            "What noise lies between the steps of a picture: stochastic puts fresh noise on it "
            "(LCM and Turbo models), ode what the model has just seen (Lightning, Hyper)."
        ),
        json_schema_extra=ui("advanced", "select", 30, "Noise between steps is"),
    )
    input_mode: Literal["video", "text"] = Field(
        default="video",
        description=(
            "What a picture is made from: video from the frame, text from the prompt and noise "
            "alone, whatever the frame shows; strength is then 1."
        ),
        json_schema_extra=ui("advanced", "select", 40, "Made from"),
    )
    width: Whole = Field(
        default=512,
        ge=8,
        le=MAX_SIDE,
        multiple_of=8,
        description="Pixels from left to right. Pictures under way are given up at a change.",
        json_schema_extra=ui("advanced", "number", 50, "Width"),
    )
    height: Whole = Field(
        default=512,
        ge=8,
        le=MAX_SIDE,
        multiple_of=8,
        description="Pixels from top to bottom. Pictures under way are given up at a change.",
        json_schema_extra=ui("advanced", "number", 51, "Height"),
    )
    follow_motion: Motion = Field(
        default="off",
        description=(
            "How noise, feedback and smoothing follow what moves in the frames: not at all, shift "
            "as a whole, flow each part by itself."
        ),
        json_schema_extra=ui("motion", "select", 50, "Follow motion"),
    )
    latent_feedback: float = Field(
        default=0.0,
        ge=0,
        le=0.95,
        description="Share of the last picture, as the model made it, in what the next is of.",
        json_schema_extra=ui("motion", "slider", 60, "Latent feedback"),
    )
    output_feedback: float = Field(
        default=0.0,
        ge=0,
        le=0.95,
        description="Share of the last picture in the frame that the next is made from.",
        json_schema_extra=ui("motion", "slider", 70, "Picture feedback"),
    )
    image_loopback: bool = Field(
        default=False,
        description="Makes each picture from the last one; the frames count no more.",
        json_schema_extra=ui("motion", "toggle", 80, "Loop back"),
    )
    smoothing: float = Field(
        default=0.0,
        ge=0,
        le=0.95,
        description="Share of the pictures before in each picture that goes out.",
        json_schema_extra=ui("motion", "slider", 90, "Smoothing"),
    )
    mask_feather: float = Field(
        default=0.0,
        ge=0,
        le=32,
        description="Pixels over which a mask's edge is softened.",
        json_schema_extra=ui("control", "slider", 90, "Mask feather"),
    )
    mask_strength: float = Field(
        default=1.0,
        ge=0,
        le=1,
        description="How much a mask hides of the picture; 0 shows it everywhere.",
        json_schema_extra=ui("control", "slider", 91, "Mask strength"),
    )
    enable_similar_image_filter: bool = Field(
        default=False,
        description="Skips frames that look like the one before and repeats the last picture.",
        json_schema_extra=ui("motion", "toggle", 20, "Skip similar frames"),
    )
    similar_image_filter_threshold: float = Field(
        default=0.98,
        ge=0,
        le=1,
        description="Similarity from which on frames may be skipped; 1 never skips.",
        json_schema_extra=ui("motion", "slider", 30, "Similarity"),
    )
    similar_image_filter_max_skip_frame: Whole = Field(
        default=10,
        ge=0,
        le=1000,
        description="Number of skipped frames after which one is computed in any case.",
        json_schema_extra=ui("motion", "number", 40, "Skip at most"),
    )

    @field_validator("t_index_list")
    @classmethod
    def _ascending(cls, value: list[int] | None) -> list[int] | None:
        if value is not None and any(left >= right for left, right in pairwise(value)):
            raise ValueError("not ascending")
        return value


def validate_patch(
    current: Parameters, patch: Mapping[str, Any], absent: Mapping[str, str] | None = None
) -> Parameters:
    """Return ``current`` with the whole ``patch`` in it; ``current`` itself stays as it is.

    Args:
        absent: names that cannot be used here, and why.

    Raises:
        ParameterError: a name is unknown or absent, or a value is out of its bounds; says so for
            each of them.
    """
    kind = type(current)
    problems = {
        str(name): f"unknown; expected one of {', '.join(kind.model_fields)}"
        for name in patch
        if name not in kind.model_fields
    }
    known = {name: value for name, value in patch.items() if name in kind.model_fields}
    try:
        changed = kind.model_validate({**current.model_dump(), **known})
    except ValidationError as error:
        properties = kind.model_json_schema()["properties"]
        for name in {str(detail["loc"][0]) for detail in error.errors(include_input=False)}:
            problems[name] = f"expected {_expected(properties[name])}, got {_shown(patch[name])}"
    for name, reason in (absent or {}).items():
        if name in patch:
            problems[name] = f"not in this engine: {reason}"
    if problems:
        raise ParameterError(dict(sorted(problems.items())))
    return changed


def _expected(schema: Mapping[str, Any]) -> str:
    """Say in words what a property's JSON Schema lets pass."""
    if "anyOf" in schema:
        return " or ".join(_expected(choice) for choice in schema["anyOf"])
    if "enum" in schema:
        return f"one of {', '.join(map(str, schema['enum']))}"
    match schema.get("type"):
        case "number":
            return _range(schema)
        case "integer":
            return f"a whole number {_range(schema)}"
        case "boolean":
            return "true or false"
        case "string":
            return f"a text of at most {schema['maxLength']} characters"
        case "null":
            return "null"
        case "array":
            most = schema["maxItems"]
            if schema["items"]["type"] == "object":
                return f"a list of at most {most} objects with {_members(schema['items'])}"
            if schema["items"]["type"] != "integer":
                return f"a list of at most {most}: {_expected(schema['items'])}"
            return f"1..{most} ascending whole numbers {_range(schema['items'])}"
    return "another value"


def _members(schema: Mapping[str, Any]) -> str:
    """What an object must have and may have."""
    return " and ".join(
        f"{name} ({_expected(rule)})" for name, rule in schema["properties"].items()
    )


def _range(schema: Mapping[str, Any]) -> str:
    text = f"{schema['minimum']:.12g}..{schema['maximum']:.12g}"
    return f"{text} in steps of {schema['multipleOf']}" if "multipleOf" in schema else text


def _shown(value: Any) -> str:
    if isinstance(value, str) and len(value) > 60:
        return f"one of {len(value)} characters"
    try:
        text = json.dumps(value)
    except (TypeError, ValueError):
        text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."
