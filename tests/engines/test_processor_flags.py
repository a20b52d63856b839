"""The worker's flags that are the processors' own, and those that they cannot use."""

from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import UNet2DConditionModel
from safetensors.torch import save_file

from dreamrelay.engines import EngineSettings, open_engine
from dreamrelay.errors import ConfigError, EngineError
from tests.engines.pictures import noise_frame
from tests.engines.tiny_controls import save_controlnet, save_depth_anything
from tests.engines.tiny_models import save_model, unet

SIDE = 64

pytestmark = pytest.mark.filterwarnings(
    # of the schedulers of diffusers with numpy 2
    "ignore:__array__ implementation doesn't accept a copy keyword:DeprecationWarning"
)


def settings(**more: Any) -> EngineSettings:
    plain = {"device": "cpu", "offline": True, "width": SIDE, "height": SIDE}
    return EngineSettings(**{"engine": "standard", **plain, **more})


def why_not(**more: Any) -> str:
    with pytest.raises((ConfigError, EngineError)) as caught:
        open_engine(settings(**more)).load(lambda progress: None)
    return str(caught.value)


@pytest.fixture(scope="module")
def sdxl(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An SDXL with the weights of SDXL-Lightning, a ControlNet and a depth model beside it."""
    folder = save_model(tmp_path_factory.mktemp("flags") / "sdxl", "sdxl")
    torch.manual_seed(4)
    weights = unet("sdxl").state_dict()
    save_file(weights, folder / "sdxl_lightning_4step_unet.safetensors")
    net = UNet2DConditionModel.from_pretrained(folder / "unet")
    save_controlnet(folder / "net", net)
    save_depth_anything(folder / "depth")
    return folder


@pytest.mark.parametrize("engine", ["standard", "lightning"])
@pytest.mark.parametrize(
    "asked",
    [
        {"loras": {"ink": 1.0}},
        {"ip_adapter": "base"},
        {"frame_buffer_size": 2},
        {"precision": "float16"},
    ],
    ids=str,
)
def test_what_only_stream_batches_have_is_refused(engine: str, asked: dict[str, Any]) -> None:
    assert "choose the engine stream-batch" in why_not(engine=engine, model="/nowhere", **asked)


def test_each_processor_may_have_a_controlnet_of_its_own(sdxl: Path) -> None:
    named = {
        "engine": "lightning",
        "model": str(sdxl),
        "lightning_weights": str(sdxl),
        "depth_model": str(sdxl / "depth"),
    }
    own = (f"lightning={sdxl / 'net'}", "standard=/nowhere/of-standard")
    engine = open_engine(settings(**named, controlnets=own))
    engine.load(lambda progress: None)
    engine.infer_once(noise_frame(SIDE, SIDE), {})
    assert engine.control_map() is not None
    engine.close()
    swapped = ("lightning=/nowhere/of-lightning", f"depth={sdxl / 'net'}")
    assert "/nowhere/of-lightning" in why_not(**named, controlnets=swapped)
    assert "/nowhere/of-all" in why_not(**named, controlnets=("depth=/nowhere/of-all",))


@pytest.mark.parametrize(
    "wrong", [("canny",), ("depth", "depth"), ("lightning",), ("depth", "canny=a/b"), ("none", "x")]
)
def test_controlnets_that_cannot_be(sdxl: Path, wrong: tuple[str, ...]) -> None:
    told = why_not(
        engine="lightning", model=str(sdxl), lightning_weights=str(sdxl), controlnets=wrong
    )
    assert f"or standard=some/model,lightning=some/model, got {', '.join(wrong)}" in told


def test_lightning_says_that_it_wants_sdxl(tmp_path: Path) -> None:
    folder = save_model(tmp_path / "sd15", "sd15")
    assert "expected SDXL, got another model" in why_not(engine="lightning", model=str(folder))
