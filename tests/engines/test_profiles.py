"""Profiles: what each seed starts with, and that what was asked for goes first."""

from typing import Any

import pytest

from dreamrelay.engines import ENGINES, EngineSettings
from dreamrelay.engines.diffusion_parameters import DiffusionParameters
from dreamrelay.engines.parameters import validate_patch
from dreamrelay.engines.processor_parameters import ProcessorParameters
from dreamrelay.engines.profiles import ALIASES, PROFILES, profiled
from dreamrelay.errors import ConfigError


def of(profile: str, **settings: Any) -> EngineSettings:
    return profiled(EngineSettings(profile=profile, **settings))


@pytest.mark.parametrize("name", [*PROFILES, *ALIASES])
def test_each_profile_is_one_that_an_engine_takes(name: str) -> None:
    settings = of(name)
    processors = settings.engine in ("standard", "lightning")
    kind: Any = ProcessorParameters if processors else DiffusionParameters
    taken = validate_patch(kind(), settings.parameters)
    for parameter, value in settings.parameters.items():
        assert getattr(taken, parameter) == value
    assert settings.engine in (*ENGINES, "auto")
    assert settings.acceleration == "auto", "what is not there must not keep it from starting"
    assert (
        settings.parameters.items()
        <= PROFILES[ALIASES.get(name, name)].settings["parameters"].items()
    )


@pytest.mark.parametrize(
    ("name", "settings", "parameters"),
    [
        (
            "websocket-example",
            {"model": "KBlueLeaf/kohaku-v2.1", "use_lcm_lora": True, "width": 512},
            {"guidance_scale": 1.4, "delta": 0.5, "seed": 2, "t_index_list": [32, 45]},
        ),
        (
            "spout-service",
            {"model": "stabilityai/sd-turbo", "height": 512},
            {"guidance_scale": 1.2, "delta": 0.5, "seed": 2, "t_index_list": [22, 32, 45]},
        ),
        (
            "dreamstream-standard",
            {"engine": "standard"},
            {"guidance_scale": 7.0, "num_inference_steps": 25, "strength": 0.9},
        ),
        (
            "dreamstream",
            {"engine": "lightning", "lightning_steps": (4,)},
            {"guidance_scale": 1.0, "num_inference_steps": 4, "controlnet_scale": 0.5},
        ),
        (
            "streamdiffusion-web",
            {"model": "stabilityai/sdxl-turbo", "use_tiny_vae": True},
            {"cfg_type": "none", "t_index_list": [35]},
        ),
        (
            "scope",
            {"model": "stabilityai/sd-turbo"},
            {"guidance_scale": 0.0, "seed": 42, "num_inference_steps": 2, "strength": 0.99},
        ),
    ],
)
def test_what_the_seeds_start_with(
    name: str, settings: dict[str, Any], parameters: dict[str, Any]
) -> None:
    found = of(name)
    assert {key: getattr(found, key) for key in settings} == settings
    assert {key: found.parameters[key] for key in parameters} == parameters


def test_what_was_asked_for_goes_first() -> None:
    found = of("scope", model="a/model", width=256, parameters={"seed": 7})
    assert (found.model, found.width, found.height) == ("a/model", 256, 512)
    assert found.parameters["seed"] == 7
    assert found.parameters["strength"] == 0.99


def test_strength_acts_where_the_profile_names_its_steps() -> None:
    assert "t_index_list" not in of("spout-service", parameters={"strength": 0.4}).parameters
    both = {"strength": 0.4, "t_index_list": [10]}
    assert of("spout-service", parameters=both).parameters["t_index_list"] == [10]


def test_without_a_profile_nothing_changes() -> None:
    settings = EngineSettings(model="a/model", parameters={"seed": 3})
    assert profiled(settings) is settings


def test_an_unknown_profile() -> None:
    with pytest.raises(ConfigError, match="profile: expected one of websocket-example, spout"):
        of("spout")
