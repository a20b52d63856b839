"""The parameters of a stream batch: typed, bounded, with the words a person needs to set them.

The JSON Schema of the model is the one truth: the relay checks patches against it, the studio
builds its form from it (``ui`` says how), OSC and REST take their names from it.
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

CfgType = Literal["none", "full", "self", "initialize"]

MAX_STEPS = 8
MAX_PROMPTS = 8
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
TIndex = Annotated[int, Field(ge=0, le=SCHEDULE_LENGTH - 1), BeforeValidator(_whole)]


def _ui(group: str, widget: str, order: int, label: str) -> dict[str, Any]:
    return {"ui": {"group": group, "widget": widget, "order": order, "label": label}}


class WeightedPrompt(BaseModel):
    """One of several prompts that are blended."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, allow_inf_nan=False)

    text: str = Field(max_length=2000, description="What the picture is to become, in words.")
    weight: float = Field(
        default=1.0, ge=0, le=10, description="Its share of the blend, beside the others'."
    )


# Its schema in place, not by reference: forms and other readers see one level.
Weighted = Annotated[WeightedPrompt, WithJsonSchema(WeightedPrompt.model_json_schema())]


class StreamBatchParameters(BaseModel):
    """What can be changed between two frames of a stream batch."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, allow_inf_nan=False)

    prompt: str = Field(
        default="",
        max_length=2000,
        description="What the picture is to become, in words.",
        json_schema_extra=_ui("look", "text", 10, "Prompt"),
    )
    negative_prompt: str = Field(
        default="",
        max_length=2000,
        description=(
            "What the picture is to keep away from. The pocket model obeys at once; others with "
            "guidance above 1 and the guidance type full or initialize."
        ),
        json_schema_extra=_ui("look", "text", 20, "Negative prompt"),
    )
    prompts: Annotated[list[Weighted], BeforeValidator(_as_list)] | None = Field(
        default=None,
        max_length=MAX_PROMPTS,
        description=(
            "Several prompts that are blended by their weights, in place of the one prompt; "
            "empty leaves that one in force."
        ),
        json_schema_extra=_ui("advanced", "prompts", 5, "Prompt blend"),
    )
    strength: float = Field(
        default=0.5,
        ge=0,
        le=1,
        description=(
            "How far the picture may go from the frame: 0 keeps the frame, 1 keeps next to "
            "nothing of it. It acts while t_index_list is empty."
        ),
        json_schema_extra=_ui("look", "slider", 30, "Strength"),
    )
    seed: Whole = Field(
        default=2,
        ge=0,
        le=2**31 - 1,
        description="Number that the noise is drawn from; the same seed gives the same look.",
        json_schema_extra=_ui("look", "seed", 40, "Seed"),
    )
    num_inference_steps: Whole = Field(
        default=2,
        ge=1,
        le=MAX_STEPS,
        description=(
            "Denoising steps of a picture; each more step costs time and delays the stream by "
            "one frame. It acts while t_index_list is empty."
        ),
        json_schema_extra=_ui("motion", "slider", 10, "Steps"),
    )
    t_index_list: Annotated[list[TIndex], BeforeValidator(_as_list)] | None = Field(
        default=None,
        min_length=1,
        max_length=MAX_STEPS,
        description=(
            "Positions of the denoising steps in a schedule of 50, ascending, 0 the noisiest; "
            "empty derives them from strength and steps."
        ),
        json_schema_extra=_ui("advanced", "list", 10, "Timestep indices"),
    )
    guidance_scale: float = Field(
        default=1.2,
        ge=0,
        le=20,
        description="How hard the prompt pulls; 1 and less switch guidance off.",
        json_schema_extra=_ui("guidance", "slider", 10, "Guidance"),
    )
    delta: float = Field(
        default=1.0,
        ge=0,
        le=2,
        description=(
            "How much of the remembered noise the guidance types self and initialize take off; "
            "lower values calm the picture."
        ),
        json_schema_extra=_ui("guidance", "slider", 20, "Delta"),
    )
    cfg_type: CfgType = Field(
        default="self",
        description=(
            "Where guidance takes its counterpart from: none switches it off, self reuses the "
            "noise at no cost, initialize computes it once a frame, full at every step."
        ),
        json_schema_extra=_ui("guidance", "select", 30, "Guidance type"),
    )
    do_add_noise: bool = Field(
        default=True,
        description="Adds fresh noise between the steps of a picture.",
        json_schema_extra=_ui("advanced", "toggle", 20, "Noise between steps"),
    )
    enable_similar_image_filter: bool = Field(
        default=False,
        description="Skips frames that look like the one before and repeats the last picture.",
        json_schema_extra=_ui("motion", "toggle", 20, "Skip similar frames"),
    )
    similar_image_filter_threshold: float = Field(
        default=0.98,
        ge=0,
        le=1,
        description="Similarity from which on frames may be skipped; 1 never skips.",
        json_schema_extra=_ui("motion", "slider", 30, "Similarity"),
    )
    similar_image_filter_max_skip_frame: Whole = Field(
        default=10,
        ge=0,
        le=1000,
        description="Number of skipped frames after which one is computed in any case.",
        json_schema_extra=_ui("motion", "number", 40, "Skip at most"),
    )

    @field_validator("t_index_list")
    @classmethod
    def _ascending(cls, value: list[int] | None) -> list[int] | None:
        if value is not None and any(left >= right for left, right in pairwise(value)):
            raise ValueError("not ascending")
        return value


def validate_patch(current: Parameters, patch: Mapping[str, Any]) -> Parameters:
    """Return ``current`` with the whole ``patch`` in it; ``current`` itself stays as it is.

    Raises:
        ParameterError: a name is unknown or a value is out of its bounds; says so for each of them.
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
                return f"a list of at most {most} objects with a text and a weight 0..10"
            return f"1..{most} ascending whole numbers {_range(schema['items'])}"
    return "another value"


def _range(schema: Mapping[str, Any]) -> str:
    return f"{schema['minimum']:.12g}..{schema['maximum']:.12g}"


def _shown(value: Any) -> str:
    if isinstance(value, str) and len(value) > 60:
        return f"one of {len(value)} characters"
    try:
        text = json.dumps(value)
    except (TypeError, ValueError):
        text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."
