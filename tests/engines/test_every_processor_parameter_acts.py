"""Each parameter of the processors changes what is shown, or is refused with what it needs."""

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from diffusers import UNet2DConditionModel

from dreamrelay.engines import Engine, EngineSettings, open_engine
from dreamrelay.engines.processor_parameters import ProcessorParameters
from dreamrelay.errors import ConfigError, ParameterError
from tests.engines.acting import a_parameter_acts
from tests.engines.pictures import noise_frame
from tests.engines.tiny_controls import save_controlnet, save_depth_anything
from tests.engines.tiny_models import save_lightning, save_model
from tests.support import until

pytestmark = pytest.mark.filterwarnings(
    # of the schedulers of diffusers with numpy 2
    "ignore:__array__ implementation doesn't accept a copy keyword:DeprecationWarning"
)

FRAMES = 2
START = {"prompt": "a red cat", "num_inference_steps": 2, "strength": 1.0, "mask_feather": 4.0}
GUIDED = {"negative_prompt": "green city"}

OF_BOTH: dict[str, tuple[dict[str, Any], Any]] = {
    "prompt": ({}, "the blue sea"),
    "strength": ({}, 0.5),
    "seed": ({}, 77),
    "num_inference_steps": ({}, 4),
    "controlnet_scale": ({}, 0.2),
    "preview_every": ({}, 1),
    "cancel_for_newer": ({}, True),
    "mask_feather": ({}, 16.0),
    "mask_strength": ({}, 0.5),
}
OF_GUIDANCE: dict[str, tuple[dict[str, Any], Any]] = {
    "negative_prompt": (GUIDED, "a dog"),
    "guidance_scale": (GUIDED, 2.0),
}
NOT_HELD = {name: case for name, case in OF_BOTH.items() if name != "controlnet_scale"}
CHOICE: dict[str, tuple[dict[str, Any], Any]] = {"processor": ({}, "lightning")}
ON_STANDARD = {n: ({**start, "processor": "standard"}, v) for n, (start, v) in OF_GUIDANCE.items()}

CASES: dict[str, dict[str, tuple[dict[str, Any], Any]]] = {
    "standard": {**OF_BOTH, **OF_GUIDANCE},
    "lightning": OF_BOTH,
    "standard or lightning": {**NOT_HELD, **OF_GUIDANCE, **CHOICE},
    "lightning or standard": {**NOT_HELD, **ON_STANDARD, "processor": ({}, "standard")},
    "lightning of one step": {n: case for n, case in NOT_HELD.items() if n in ("prompt", "seed")}
    | {n: OF_BOTH[n] for n in ("preview_every", "cancel_for_newer")}
    | {n: OF_BOTH[n] for n in ("mask_feather", "mask_strength")},
}
"""Of each engine all that it publishes: what it is changed under, and to what."""

NEEDS = {
    "processor": "--processors (lightning|standard)",
    "negative_prompt": "made without guidance; start the worker with --processors standard",
    "guidance_scale": "made without guidance; start the worker with --processors standard",
    "num_inference_steps": r"weights for 1 step\(s\) are loaded.*--lightning_steps",
    "strength": "begins at full noise.*--lightning_steps",
    "controlnet_scale": "--controlnet depth",
}


@pytest.fixture(scope="module")
def engines(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Engine]]:
    place = tmp_path_factory.mktemp("processors")
    models: dict[str, Path] = {
        "standard": save_model(place / "sd15", "sd15"),
        "lightning": save_model(place / "sdxl", "sdxl"),
    }
    common: dict[str, Any] = {
        "device": "cpu",
        "width": 64,
        "height": 64,
        "offline": True,
        "acceleration": "none",
        "lightning_weights": str(save_lightning(place / "weights")),
        "lightning_steps": (2, 4),
        "depth_model": str(save_depth_anything(place / "depth")),
    }
    nothing = {"controlnets": ("none",)}
    engines = {}
    with ExitStack() as closing:
        for name in CASES:
            first, _, other = name.partition(" or ")
            kind = first.removesuffix(" of one step")
            own: dict[str, Any] = {"engine": kind, "model": str(models[kind]), **nothing}
            own["parameters"] = {n: v for n, v in START.items() if n in CASES[name]}
            if other:
                own["processors"] = (f"{other}={models[other]}",)
            elif first == kind:
                net = UNet2DConditionModel.from_pretrained(models[kind] / "unet")
                own["controlnets"] = (f"depth={save_controlnet(place / f'{kind} net', net)}",)
            else:
                own["lightning_steps"] = (1,)
            engine = open_engine(EngineSettings(**{**common, **own}))
            closing.callback(engine.close)
            engine.load(lambda progress: None)
            if other:
                loaded(engine, other)
            engines[name] = engine
        yield engines


def loaded(engine: Engine, other: str) -> None:
    """Return when the other processor is there."""
    frame, first = noise_frame(1), engine.parameters["processor"]

    def there() -> bool:
        one, two = (engine.infer_once(frame, {"processor": kind}) for kind in (first, other))
        return not np.array_equal(one, two)

    until(there)


@pytest.mark.parametrize("engine", CASES)
def test_each_parameter_that_is_published_is_tried(engines: dict[str, Engine], engine: str) -> None:
    assert set(engines[engine].schema()["properties"]) == set(CASES[engine])
    assert set(engines[engine].parameters) == set(CASES[engine])


@pytest.mark.parametrize(
    ("engine", "name"), [(engine, name) for engine, cases in CASES.items() for name in cases]
)
def test_a_parameter_acts(engines: dict[str, Engine], engine: str, name: str) -> None:
    a_parameter_acts(engines[engine], name, CASES[engine][name], FRAMES)


@pytest.mark.parametrize("name", NEEDS)
def test_what_would_do_nothing_is_refused(engines: dict[str, Engine], name: str) -> None:
    engine = engines["lightning of one step"]
    value = {**ProcessorParameters().model_dump(), "processor": "standard"}[name]
    before = engine.parameters
    for refuses in (engine, engine.beside({})):
        with pytest.raises(ParameterError, match=NEEDS[name]):
            refuses.apply({"seed": 9, name: value})
        assert refuses.parameters == before
        with pytest.raises(ParameterError, match=NEEDS[name]):
            refuses.infer_once(noise_frame(1), {name: value})
        with pytest.raises(ParameterError, match=NEEDS[name]):
            refuses.beside({name: value})


def test_all_that_there_is_was_thought_of() -> None:
    assert set(NEEDS) | set(CASES["lightning of one step"]) == set(ProcessorParameters.model_fields)


def test_a_worker_is_not_started_with_what_would_do_nothing() -> None:
    flags: dict[str, Any] = {"engine": "lightning", "offline": True, "device": "cpu"}
    with pytest.raises(ConfigError, match=r"guidance_scale: not in this engine: .*--processors"):
        open_engine(EngineSettings(**flags, parameters={"guidance_scale": 7.0}))


def test_a_profile_speaks_for_both_processors() -> None:
    flags: dict[str, Any] = {"profile": "dreamstream", "offline": True, "device": "cpu"}
    alone = open_engine(EngineSettings(**flags)).parameters
    assert (alone["strength"], alone["controlnet_scale"]) == (0.9, 0.5)
    assert "negative_prompt" not in alone
    both = open_engine(EngineSettings(**flags, processors=("standard",))).parameters
    assert both["negative_prompt"].startswith("ugly")
    with pytest.raises(ConfigError, match="guidance_scale"):
        open_engine(EngineSettings(**flags, parameters={"guidance_scale": 7.0}))
