"""Where to start from: what programs that people know start with, by their names.

A profile fills in what was not asked for; a flag beside it goes first. How a model is made fast is
never in a profile: those programs ask for xformers or TensorRT, and start without when it is not
there; here ``auto`` does.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, fields, replace
from typing import Any

from dreamrelay.engines.ports import EngineSettings
from dreamrelay.errors import ConfigError

_POOR = "low quality, bad quality, blurry, low resolution"


@dataclass(frozen=True)
class Profile:
    """What a program starts with.

    Attributes:
        about: the program, in one line.
        settings: fields of :class:`EngineSettings`, ``parameters`` among them.
    """

    about: str
    settings: Mapping[str, Any] = field(default_factory=dict)


_DREAMSTREAM = {
    "prompt": "A painting in the style of van Gogh's 'Starry Night'",
    "negative_prompt": "ugly, deformed, disfigured, poor details, bad anatomy",
    "strength": 0.9,
}

PROFILES: Mapping[str, Profile] = {
    "websocket-example": Profile(
        "StreamDiffusion's WebSocket image streaming example",
        {
            "model": "KBlueLeaf/kohaku-v2.1",
            "use_lcm_lora": True,
            "width": 512,
            "height": 512,
            "parameters": {
                "prompt": "1girl with brown hair, anime style, high quality",
                "negative_prompt": _POOR,
                "t_index_list": [32, 45],
                "guidance_scale": 1.4,
                "delta": 0.5,
                "cfg_type": "self",
                "do_add_noise": False,
                "seed": 2,
                "enable_similar_image_filter": True,
                "similar_image_filter_threshold": 0.99,
                "similar_image_filter_max_skip_frame": 10,
            },
        },
    ),
    "spout-service": Profile(
        "StreamDiffusion Spout Service",
        {
            "model": "stabilityai/sd-turbo",
            "width": 512,
            "height": 512,
            "parameters": {
                "prompt": "abstract shape",
                "negative_prompt": _POOR,
                "t_index_list": [22, 32, 45],
                "guidance_scale": 1.2,
                "delta": 0.5,
                "cfg_type": "self",
                "seed": 2,
            },
        },
    ),
    "dreamstream-standard": Profile(
        "DreamStream, its careful processor: Stable Diffusion 1.5 held to the depth of the frame",
        {
            "engine": "standard",
            "parameters": {**_DREAMSTREAM, "num_inference_steps": 25, "guidance_scale": 7.0},
        },
    ),
    "dreamstream-lightning": Profile(
        "DreamStream as its server starts: SDXL-Lightning held to the depth of the frame",
        {
            "engine": "lightning",
            "lightning_steps": (4,),
            "parameters": {
                **_DREAMSTREAM,
                "num_inference_steps": 4,
                "guidance_scale": 1.0,
                "controlnet_scale": 0.5,
            },
        },
    ),
    "speakdraw": Profile(
        "StreamDiffusion-Web: words, spoken or typed, and a picture to imitate",
        {
            "model": "stabilityai/sdxl-turbo",
            "ip_adapter": "base",
            "use_tiny_vae": True,
            "width": 512,
            "height": 512,
            "parameters": {
                "negative_prompt": _POOR,
                "t_index_list": [35],
                "guidance_scale": 1.2,
                "cfg_type": "none",
            },
        },
    ),
    "scope": Profile(
        "the StreamDiffusion plugin of Daydream Scope",
        {
            "model": "stabilityai/sd-turbo",
            "use_tiny_vae": True,
            "width": 512,
            "height": 512,
            "parameters": {
                "strength": 0.99,
                "num_inference_steps": 2,
                "guidance_scale": 0.0,
                "delta": 1.0,
                "cfg_type": "none",
                "seed": 42,
                "similar_image_filter_threshold": 0.9,
            },
        },
    ),
}

ALIASES = {"dreamstream": "dreamstream-lightning", "streamdiffusion-web": "speakdraw"}


def profiled(settings: EngineSettings) -> EngineSettings:
    """The settings with what their profile says where they say nothing themselves.

    Raises:
        ConfigError: there is no such profile.
    """
    if settings.profile is None:
        return settings
    name = ALIASES.get(settings.profile, settings.profile)
    profile = PROFILES.get(name)
    if profile is None:
        known = ", ".join((*PROFILES, *ALIASES))
        raise ConfigError(f"profile: expected one of {known}, got {settings.profile!r}")
    usual = EngineSettings()
    unsaid = {
        one.name: profile.settings[one.name]
        for one in fields(settings)
        if one.name in profile.settings and getattr(settings, one.name) == getattr(usual, one.name)
    }
    # Single parameters, not all of them together, may be asked for beside a profile.
    said = {**profile.settings.get("parameters", {}), **settings.parameters}
    if "strength" in settings.parameters or "num_inference_steps" in settings.parameters:
        if "t_index_list" not in settings.parameters:
            said.pop("t_index_list", None)  # or they would do nothing
    return replace(settings, **{**unsaid, "parameters": said})


def first_parameters(settings: EngineSettings, absent: Collection[str]) -> dict[str, Any]:
    """The parameters to start with, for an engine that cannot use those in ``absent``.

    What of these the profile says, and nobody else, is left out: a profile speaks for all
    engines of its program.
    """
    profile = PROFILES.get(ALIASES.get(settings.profile or "", settings.profile or ""))
    of_profile = profile.settings.get("parameters", {}) if profile is not None else {}
    return {
        name: value
        for name, value in settings.parameters.items()
        if name not in absent or name not in of_profile or of_profile[name] != value
    }
