"""What can be set in Scope: the fields of its StreamDiffusion plugin, name by name.

Older names and wider bounds of that plugin's README are taken too, so that a saved workflow of
either version loads. Imports Scope; only :mod:`scope_pipeline` may import this.
"""

from inspect import signature
from typing import Any, ClassVar, Literal

from pydantic import Field
from scope.core.pipelines.base_schema import BasePipelineConfig, ModeDefaults, ui_field_config

from dreamrelay import __version__

# Newer versions of Scope let a beat or a knob move a value.
_MOVES: dict[str, Any] = (
    {"modulatable": True} if "modulatable" in signature(ui_field_config).parameters else {}
)


def _field(
    default: Any,
    order: int,
    label: str,
    description: str,
    *,
    load: bool = False,
    video: bool = False,
    moves: bool = False,
    **bounds: Any,
) -> Any:
    """A field and how Scope's form shows it.

    Args:
        load: it is decided when the pipeline is loaded.
        video: it is of use with video only.
        moves: a beat may move it.
    """
    ui = ui_field_config(
        order=order,
        label=label,
        is_load_param=load,
        modes=["video"] if video else None,
        **(_MOVES if moves else {}),
    )
    return Field(default=default, description=description, json_schema_extra=ui, **bounds)


class StreamDiffusionConfig(BasePipelineConfig):  # type: ignore[misc]
    """The parameters of the pipeline, for Scope's forms and its checks."""

    pipeline_id: ClassVar[str] = "streamdiffusion"
    pipeline_name: ClassVar[str] = "StreamDiffusion"
    pipeline_description: ClassVar[str] = "Live pictures by Stable Diffusion as a stream batch"
    pipeline_version: ClassVar[str] = __version__

    supports_prompts: ClassVar[bool] = True
    supports_lora: ClassVar[bool] = True
    default_temporal_interpolation_method: ClassVar[Literal["linear", "slerp"] | None] = "linear"
    default_temporal_interpolation_steps: ClassVar[int | None] = 0
    inputs: ClassVar[list[str]] = ["video", "vace_input_masks"]
    outputs: ClassVar[list[str]] = ["video"]
    modes: ClassVar[dict[str, Any]] = {
        "text": ModeDefaults(default=True),
        "video": ModeDefaults(height=512, width=512),
    }

    # Model ---------------------------------------------------------------------------------------

    model_id_or_path: str = _field(
        "stabilityai/sd-turbo", 1, "Model", "Hub id, folder or .safetensors file.", load=True
    )
    acceleration_mode: Literal["auto", "none", "trt"] = _field(
        "auto",
        2,
        "Acceleration",
        "auto: the best that works here; trt: TensorRT, or an error that says what it lacks.",
        load=True,
    )
    acceleration: Literal["auto", "none", "xformers", "tensorrt"] = _field(
        "auto",
        3,
        "Acceleration (older)",
        "The same by its older name; counts where the other one says auto.",
        load=True,
    )
    use_taesd: bool = _field(
        True, 4, "Tiny autoencoder", "Faster, a little softer; where the model has one.", load=True
    )
    use_lcm_lora: bool = _field(
        True, 5, "LCM-LoRA", "Lets a plain model do with few steps; not for Turbo.", load=True
    )
    use_denoising_batch: bool = _field(
        True,
        6,
        "Denoising batch",
        "All steps of several frames in one call; a picture comes later by a frame each step.",
        load=True,
    )

    # What is shown -------------------------------------------------------------------------------

    enabled: bool = _field(True, 10, "Enabled", "Off: frames go through as they are.")
    input_mode: Literal["text", "video"] = _field(
        "text", 11, "Input", "What pictures are made from: the prompt alone, or frames."
    )
    prompt: str = _field(
        "", 12, "Prompt", "What is shown where Scope gives no list of prompts.", max_length=5000
    )
    prompt_weighting: bool = _field(
        True, 13, "Weights in prompts", "Read (word:1.3) as a weight; off: as it stands."
    )
    negative_prompt: str = _field(
        "", 14, "Negative prompt", "What the picture keeps away from.", max_length=5000
    )
    negative_prompt_scale: float = _field(
        1.0,
        15,
        "Turn away",
        "How far from the negative prompt without guidance; it costs nothing.",
        moves=True,
        ge=0,
        le=2,
    )
    prompt_interpolation_method: Literal["linear", "slerp"] = _field(
        "linear", 16, "Blend on a", "How several prompts are blended: on a line or an arc."
    )
    transition_steps: int = _field(
        0, 17, "Morph over", "Frames that a changed prompt takes its time.", ge=0, le=240
    )
    seed: int = _field(42, 18, "Seed", "What the noise is drawn from.", ge=0, le=2**31 - 1)

    # How it is made ------------------------------------------------------------------------------

    strength: float = _field(
        0.99,
        20,
        "Strength",
        "How far the picture may go from the frame; above 1 is as 1.",
        moves=True,
        ge=0,
        le=1.2,
    )
    num_inference_steps: int = _field(
        2, 21, "Steps", "Steps of a picture; more than 8 count as 8.", ge=1, le=50
    )
    guidance_scale: float = _field(
        0.0,
        22,
        "Guidance",
        "How hard the prompt pulls, and the negative prompt pushes; 1 and less: off.",
        moves=True,
        ge=0,
        le=8,
    )
    delta: float = _field(
        1.0,
        23,
        "Delta",
        "How much of the remembered noise guidance takes off; lower is calmer.",
        moves=True,
        ge=0,
        le=2,
    )
    do_add_noise: bool = _field(True, 24, "Add noise", "Fresh noise between steps.")

    # ControlNet ----------------------------------------------------------------------------------

    controlnet_mode: Literal["none", "depth", "scribble"] = _field(
        "none",
        30,
        "ControlNet",
        "What holds the picture to the forms of the frame; loaded when first chosen.",
        video=True,
    )
    controlnet_scale: float = _field(
        1.0, 31, "Hold", "How hard it holds.", video=True, moves=True, ge=0, le=2
    )
    depth_min: float = _field(
        0.0, 32, "Depth from", "What is farther counts as far as this.", video=True, ge=0, le=1
    )
    depth_max: float = _field(
        1.0, 33, "Depth to", "What is nearer counts as near as this.", video=True, ge=0, le=1
    )
    depth_skip_interval: int = _field(
        3, 34, "Depth every", "The depth is measured on every k-th frame.", video=True, ge=1, le=10
    )
    depth_input_size: Literal[252, 364, 518] = _field(
        518, 35, "Depth pixels", "At which the depth model looks; fewer are faster.", video=True
    )
    depth_temporal_cache: bool = _field(
        True,
        36,
        "Depth memory",
        "The depth's scale follows slowly, so that it does not pump; off: frame by frame.",
        video=True,
    )
    controlnet_temporal_smoothing: float = _field(
        1.0,
        37,
        "Follow",
        "How fast what the ControlNet sees follows the frames; 1: at once.",
        video=True,
        ge=0,
        le=1,
    )

    # Frames --------------------------------------------------------------------------------------

    similar_image_filter_enabled: bool = _field(
        False, 40, "Skip similar frames", "Show the last picture again for them.", video=True
    )
    similar_image_filter_threshold: float = _field(
        0.9, 41, "Similarity", "From which frames may be skipped; 1: never.", video=True, ge=0, le=1
    )
    image_loopback: bool = _field(False, 42, "Loop back", "Make each picture from the last one.")
    mask_compositing: bool = _field(
        False, 43, "Masks", "Show the picture where the mask is white, else the frame.", video=True
    )
    mask_feather: float = _field(
        0.0, 44, "Mask feather", "Pixels over which its edge is softened.", video=True, ge=0, le=32
    )
    mask_strength: float = _field(
        1.0, 45, "Mask strength", "How much it hides; 0: nothing.", video=True, ge=0, le=1
    )
    width: int = _field(
        512, 50, "Width", "Of the pictures, in pixels; made a multiple of 8.", ge=128, le=2048
    )
    height: int = _field(
        512, 51, "Height", "Of the pictures, in pixels; made a multiple of 8.", ge=128, le=2048
    )
