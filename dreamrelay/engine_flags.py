"""What of the worker's settings is the engine's."""

from dreamrelay.config import WorkerSettings
from dreamrelay.engines import EngineSettings

PARAMETER_FLAGS = (
    "prompt",
    "negative_prompt",
    "strength",
    "num_inference_steps",
    "t_index_list",
    "seed",
    "guidance_scale",
    "delta",
    "cfg_type",
    "do_add_noise",
    "enable_similar_image_filter",
    "similar_image_filter_threshold",
    "similar_image_filter_max_skip_frame",
)
"""Settings that are the engine's parameters: the first patch."""


def engine_settings(settings: WorkerSettings) -> EngineSettings:
    """What of the worker's settings is the engine's."""
    given = {name: getattr(settings, name) for name in PARAMETER_FLAGS}
    return EngineSettings(
        engine=settings.engine,
        model=settings.model_id_or_path,
        width=settings.width,
        height=settings.height,
        device=settings.device,
        acceleration=settings.acceleration,
        compile_warmup=settings.compile_warmup,
        frame_buffer_size=settings.frame_buffer_size,
        use_denoising_batch=settings.use_denoising_batch,
        loras=settings.lora_dict,
        use_lcm_lora=settings.use_lcm_lora,
        use_tiny_vae=settings.use_tiny_vae,
        precision=settings.precision,
        profile=settings.profile,
        controlnets=tuple(settings.controlnet),
        depth_model=settings.depth_model,
        ip_adapter=settings.ip_adapter,
        prompt_pictures=settings.prompt_pictures,
        parameters={name: value for name, value in given.items() if value is not None},
        offline=settings.offline,
        processors=tuple(settings.processors),
        lightning_weights=settings.lightning_weights,
        lightning_steps=tuple(settings.lightning_steps or ()),
        batch=settings.batch,
    )
