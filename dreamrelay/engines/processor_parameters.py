"""The parameters of the engines that take every frame through a whole pipeline."""

from typing import Literal, get_args

from pydantic import Field

from dreamrelay.engines.parameters import Live, Whole
from dreamrelay.form import ui

ProcessorName = Literal["standard", "lightning"]
PROCESSORS: tuple[ProcessorName, ...] = get_args(ProcessorName)

MAX_STEPS = 50
LIGHTNING_STEPS = (1, 2, 4, 8)
"""For so many steps there are weights of SDXL-Lightning."""


class ProcessorParameters(Live):
    """What can be changed between two pictures of the processors."""

    processor: ProcessorName = Field(
        default="standard",
        description=(
            "standard: Stable Diffusion in 20 to 30 steps. lightning: SDXL-Lightning in 1, 2, 4 or "
            "8. One that is not loaded yet takes over when it is."
        ),
        json_schema_extra=ui("look", "select", 5, "Processor"),
    )
    prompt: str = Field(
        default="",
        max_length=2000,
        description="What the picture is to become, in words; (word:1.3) weighs more.",
        json_schema_extra=ui("look", "text", 10, "Prompt"),
    )
    negative_prompt: str = Field(
        default="",
        max_length=2000,
        description="What the picture is to keep away from; it takes guidance above 1.",
        json_schema_extra=ui("look", "text", 20, "Negative prompt"),
    )
    strength: float = Field(
        default=0.6,
        ge=0.05,
        le=1,
        description="How far it may go from the frame; that share of the steps is computed.",
        json_schema_extra=ui("look", "slider", 30, "Strength"),
    )
    seed: Whole = Field(
        default=2,
        ge=0,
        le=2**31 - 1,
        description="Number that the noise is drawn from; the same seed gives the same look.",
        json_schema_extra=ui("look", "seed", 40, "Seed"),
    )
    num_inference_steps: Whole = Field(
        default=25,
        ge=1,
        le=MAX_STEPS,
        description=(
            "Denoising steps at full strength. The processor lightning takes the nearest number "
            "that it has weights for."
        ),
        json_schema_extra=ui("motion", "slider", 10, "Steps"),
    )
    guidance_scale: float = Field(
        default=7.0,
        ge=0,
        le=20,
        description=(
            "How hard the prompt pulls; 1 and less switch guidance off. The processor lightning "
            "is made for none and has none."
        ),
        json_schema_extra=ui("guidance", "slider", 10, "Guidance"),
    )
    controlnet_scale: float = Field(
        default=1.0,
        ge=0,
        le=2,
        description="How hard the depth of the frame holds the picture; 0 costs nothing.",
        json_schema_extra=ui("control", "slider", 10, "Hold"),
    )
    preview_every: Whole = Field(
        default=5,
        ge=0,
        le=MAX_STEPS,
        description="A rough picture is shown after so many steps; 0 shows the last one only.",
        json_schema_extra=ui("motion", "slider", 20, "Preview every"),
    )
    cancel_for_newer: bool = Field(
        default=False,
        description="A newer frame ends the picture under way, which is then never finished.",
        json_schema_extra=ui("motion", "toggle", 30, "Newest frame first"),
    )
    mask_feather: float = Field(
        default=0.0,
        ge=0,
        le=32,
        description="Pixels over which the edge of a mask is softened.",
        json_schema_extra=ui("control", "slider", 40, "Mask's edge"),
    )
    mask_strength: float = Field(
        default=1.0,
        ge=0,
        le=1,
        description="How much a mask keeps of the frame; 0 shows the picture everywhere.",
        json_schema_extra=ui("control", "slider", 41, "Mask's share"),
    )
