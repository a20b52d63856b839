"""The processors: tiny models in the real classes, through the pipelines of diffusers."""

import threading
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import ControlNetModel, StableDiffusionImg2ImgPipeline, UNet2DConditionModel
from PIL import Image

from dreamrelay.codec import Frame
from dreamrelay.engines import Engine, EngineSettings, Progress, Result, open_engine
from dreamrelay.engines import processors as processors_module
from dreamrelay.engines.ports import Turn
from dreamrelay.engines.processor_engine import LightningEngine, StandardEngine
from dreamrelay.errors import ConfigError, EngineError, ParameterError
from tests.engines.pictures import noise_frame
from tests.engines.tiny_controls import save_controlnet, save_depth_anything
from tests.engines.tiny_models import save_lightning, save_model
from tests.support import until

SIDE = 64

pytestmark = pytest.mark.filterwarnings(
    # of the schedulers of diffusers with numpy 2
    "ignore:__array__ implementation doesn't accept a copy keyword:DeprecationWarning"
)


@pytest.fixture(scope="module")
def sd15(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_model(tmp_path_factory.mktemp("standard") / "sd15", "sd15", "full")


@pytest.fixture(scope="module")
def sdxl(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_model(tmp_path_factory.mktemp("lightning") / "sdxl", "sdxl", "full")


@pytest.fixture(scope="module")
def lightning_weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_lightning(tmp_path_factory.mktemp("weights"))


class Opened:
    """Opens engines, closes them at the end."""

    def __init__(self, **settings: Any) -> None:
        self.settings: dict[str, Any] = {
            "device": "cpu",
            "width": SIDE,
            "height": SIDE,
            "offline": True,
            "controlnets": ("none",),
            "acceleration": "none",
            **settings,
        }
        self.engines: list[Engine] = []

    def __call__(self, **settings: Any) -> Engine:
        engine = open_engine(EngineSettings(**{**self.settings, **settings}))
        self.engines.append(engine)
        engine.load(lambda progress: None)
        return engine


@pytest.fixture(scope="module")
def opened(sd15: Path, sdxl: Path, lightning_weights: Path) -> Iterator[Opened]:
    opened = Opened(lightning_weights=str(lightning_weights), lightning_steps=(1, 2, 4))
    yield opened
    for engine in opened.engines:
        engine.close()


@pytest.fixture(scope="module")
def standard(opened: Opened, sd15: Path) -> Engine:
    return opened(engine="standard", model=str(sd15))


@pytest.fixture(scope="module")
def lightning(opened: Opened, sdxl: Path) -> Engine:
    return opened(engine="lightning", model=str(sdxl))


def painted(engine: Engine, frame: Frame, **patch: Any) -> Frame:
    return engine.infer_once(frame, {"num_inference_steps": 4, **patch})


@pytest.mark.parametrize("name", ["standard", "lightning"])
def test_a_picture_of_the_frame_in_its_size(name: str, request: pytest.FixtureRequest) -> None:
    engine: Engine = request.getfixturevalue(name)
    frame = noise_frame(SIDE, SIDE)
    first = painted(engine, frame, prompt="a red cat")
    assert first.shape == frame.shape
    assert first.dtype == np.uint8
    assert first.std() > 1
    assert np.array_equal(first, painted(engine, frame, prompt="a red cat"))
    assert not np.array_equal(first, painted(engine, frame, prompt="a blue dog"))
    assert not np.array_equal(first, painted(engine, frame, prompt="a red cat", seed=5))


def test_guidance_and_the_negative_prompt_act(standard: Engine) -> None:
    frame = noise_frame(SIDE, SIDE)
    plain = painted(standard, frame, prompt="a cat", guidance_scale=7.0)
    assert not np.array_equal(plain, painted(standard, frame, prompt="a cat", guidance_scale=1.0))
    against = painted(standard, frame, prompt="a cat", negative_prompt="the sea")
    assert not np.array_equal(plain, against)


def test_it_is_the_pipeline_of_diffusers(standard: Engine, sd15: Path) -> None:
    pipeline = StableDiffusionImg2ImgPipeline.from_pretrained(
        str(sd15), safety_checker=None, local_files_only=True
    )
    pipeline.set_progress_bar_config(disable=True)
    frame = noise_frame(SIDE, SIDE)
    theirs = pipeline(
        "a red cat",
        image=Image.fromarray(frame),
        strength=0.6,
        num_inference_steps=5,
        guidance_scale=7.0,
        negative_prompt="the sea",
        generator=torch.Generator().manual_seed(3),
        output_type="np",
    ).images[0]
    ours = standard.infer_once(
        frame,
        {
            "prompt": "a red cat",
            "negative_prompt": "the sea",
            "num_inference_steps": 5,
            "seed": 3,
        },
    )
    assert np.abs(ours - theirs * 255).max() <= 1


def test_few_steps_and_little_strength_are_one_step_at_least(
    standard: Engine, lightning: Engine
) -> None:
    frame = noise_frame(SIDE, SIDE)
    for engine in (standard, lightning):
        made = engine.infer_once(frame, {"num_inference_steps": 1, "strength": 0.05})
        assert made.shape == frame.shape


class Seen:
    """The scheduler's and the U-Net's part in a picture."""

    def __init__(self, engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
        self.timesteps: list[int] = []
        self.calls = 0
        (processor,) = engine._crew._loaded.values()  # type: ignore[attr-defined]
        for net in {id(n): n for n in (*processor._unets.values(),)}.values():
            monkeypatch.setattr(net, "forward", self._spied(net.forward))
        self.pipeline = processor._pipeline

    def _spied(self, forward: Any) -> Any:
        def spy(sample: torch.Tensor, timestep: torch.Tensor, *args: Any, **options: Any) -> Any:
            self.calls += 1
            self.timesteps.append(round(float(timestep)))
            return forward(sample, timestep, *args, **options)

        return spy


@pytest.mark.parametrize(
    ("steps", "timesteps", "prediction"),
    [
        (1, [999], "sample"),
        (2, [999, 499], "epsilon"),
        (4, [999, 749, 499, 249], "epsilon"),
        (3, [999, 499], "epsilon"),
        (50, [999, 749, 499, 249], "epsilon"),
    ],
)
def test_each_number_of_steps_has_its_weights_and_its_schedule(
    lightning: Engine,
    monkeypatch: pytest.MonkeyPatch,
    steps: int,
    timesteps: list[int],
    prediction: str,
) -> None:
    seen = Seen(lightning, monkeypatch)
    lightning.infer_once(
        noise_frame(SIDE, SIDE), {"num_inference_steps": steps, "strength": 1.0, "prompt": "a cat"}
    )
    assert seen.timesteps == timesteps
    assert seen.pipeline.scheduler.config.prediction_type == prediction


def test_previews_come_before_the_picture(standard: Engine) -> None:
    shown: list[tuple[Frame, Any]] = []
    standard.attend(lambda: False, lambda frame, token: shown.append((frame, token)))
    patch = {"num_inference_steps": 6, "strength": 1.0, "preview_every": 2}
    standard.apply(patch)
    result = standard.infer(noise_frame(SIDE, SIDE), "mine")
    assert result is not None
    assert [token for _, token in shown] == ["mine"] * 3
    assert all(frame.shape == (SIDE, SIDE, 3) and frame.std() > 1 for frame, _ in shown)
    shown.clear()
    standard.apply({"preview_every": 0})
    standard.infer(noise_frame(SIDE, SIDE), "mine")
    assert not shown


def test_a_newer_frame_ends_the_picture_under_way_if_so_set(standard: Engine) -> None:
    asked = []

    def newer() -> bool:
        asked.append(1)
        return len(asked) == 2

    standard.attend(newer, lambda frame, token: None)
    standard.apply({"num_inference_steps": 6, "strength": 1.0, "cancel_for_newer": True})
    before = standard.counters()["frames_cancelled"]
    assert standard.infer(noise_frame(SIDE, SIDE), 1) is None
    assert len(asked) == 2
    assert standard.counters()["frames_cancelled"] == before + 1
    standard.apply({"cancel_for_newer": False})
    assert standard.infer(noise_frame(SIDE, SIDE), 2) is not None


def test_streams_beside_one_another_have_values_of_their_own(standard: Engine) -> None:
    other = standard.beside({"seed": 77, "num_inference_steps": 2})
    frame = noise_frame(1)
    expected = standard.infer_once(frame, {"seed": 77, "num_inference_steps": 2})
    one, beside = standard.infer_together([Turn(standard, frame, 1), Turn(other, frame, 2)])
    assert isinstance(one, Result)
    assert isinstance(beside, Result)
    np.testing.assert_array_equal(beside.frame, expected)
    assert not np.array_equal(one.frame, beside.frame)
    assert standard.parameters["seed"] != 77


def test_a_mask_keeps_the_frame(standard: Engine) -> None:
    frame = noise_frame(SIDE, SIDE)
    mask = np.zeros((SIDE, SIDE), np.uint8)
    mask[:, SIDE // 2 :] = 255
    made = standard.infer_once(frame, {"num_inference_steps": 2}, mask)
    whole = standard.infer_once(frame, {"num_inference_steps": 2})
    assert np.array_equal(made[:, : SIDE // 2], frame[:, : SIDE // 2])
    assert np.array_equal(made[:, SIDE // 2 :], whole[:, SIDE // 2 :])
    with pytest.raises(EngineError, match="mask"):
        standard.infer_once(frame, {}, mask[1:])


def test_the_other_processor_takes_over_when_it_is_loaded(
    opened: Opened, sd15: Path, sdxl: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = opened(engine="standard", model=str(sd15), processors=(f"lightning={sdxl}",))
    frame = noise_frame(SIDE, SIDE)
    engine.apply({"num_inference_steps": 4, "prompt": "a cat"})
    first = engine.infer(frame, 1)
    may_load = threading.Event()
    load = processors_module.LightningProcessor.load

    def waits(self: Any, report: Any) -> None:
        assert may_load.wait(30)
        load(self, report)

    monkeypatch.setattr(processors_module.LightningProcessor, "load", waits)
    assert engine.schema()["properties"]["processor"]["enum"] == ["standard", "lightning"]
    engine.apply({"processor": "lightning"})
    meanwhile = engine.infer(frame, 2)
    assert (engine.name, engine.model_name) == ("standard", str(sd15))
    assert first is not None
    assert meanwhile is not None
    assert np.array_equal(first.frame, meanwhile.frame), "the one before goes on"
    may_load.set()

    def taken_over() -> bool:
        result = engine.infer(frame, 3)
        return result is not None and not np.array_equal(result.frame, first.frame)

    until(taken_over)
    assert (engine.name, engine.model_name) == ("lightning", str(sdxl))
    assert engine.beside({}).name == "lightning"
    engine.apply({"processor": "standard"})
    back = engine.infer(frame, 4)
    assert (engine.name, engine.model_name) == ("standard", str(sd15))
    assert back is not None
    assert np.array_equal(first.frame, back.frame)


def test_a_processor_that_cannot_be_loaded_is_refused_and_the_other_goes_on(
    opened: Opened, sd15: Path, tmp_path: Path
) -> None:
    engine = opened(engine="standard", model=str(sd15), processors=(f"lightning={tmp_path}",))
    engine.apply({"num_inference_steps": 1, "processor": "lightning"})
    frame = noise_frame(SIDE, SIDE)
    told = []

    def trouble() -> bool:
        try:
            engine.infer(frame, 1)
        except ParameterError as error:
            told.append(error.problems["processor"])
        return bool(told)

    until(trouble)
    assert told[0].startswith("lightning cannot be loaded")
    assert "tokenizer" in told[0]
    assert engine.parameters["processor"] == "standard"
    assert engine.infer(frame, 2) is not None
    assert engine.infer(frame, 3) is not None
    beside = engine.beside({})
    assert beside.infer(frame, 2) is not None
    with pytest.raises(ParameterError, match="tokenizer"):
        engine.infer_once(frame, {"processor": "lightning"})
    assert engine.name == "standard"


def test_only_what_the_operator_named_may_be_chosen(standard: Engine) -> None:
    with pytest.raises(ParameterError, match="--processors lightning"):
        standard.apply({"processor": "lightning"})
    assert "processor" not in standard.schema()["properties"]


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        ({"processors": ("fast",)}, "processors"),
        ({"width": 100}, "width"),
        ({"acceleration": "tensorrt"}, "acceleration"),
        ({"parameters": {"strength": 2}}, "strength"),
        ({"processors": ("standard", "lightning"), "lightning_steps": (3,)}, "lightning_steps"),
    ],
)
def test_settings_that_cannot_be(wrong: Mapping[str, Any], says: str) -> None:
    for kind in (StandardEngine, LightningEngine):
        with pytest.raises(ConfigError, match=says):
            kind(EngineSettings(device="cpu", offline=True, **wrong))


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        ({"lightning_steps": (3,)}, "lightning_steps"),
        ({"lightning_steps": (8,)}, "sdxl_lightning_8step_unet.safetensors"),
        ({"controlnets": ("canny",)}, "depth"),
        ({"model": "/no/such/folder"}, "no folder"),
    ],
)
def test_models_that_cannot_be(
    opened: Opened, sdxl: Path, wrong: Mapping[str, Any], says: str
) -> None:
    with pytest.raises((EngineError, ConfigError), match=says):
        opened(**{"engine": "lightning", "model": str(sdxl), **wrong})


def test_a_file_is_refused_with_what_to_do(opened: Opened, tmp_path: Path) -> None:
    file = tmp_path / "model.safetensors"
    file.touch()
    with pytest.raises(EngineError, match=r"is a file: expected a folder .* stream-batch"):
        opened(engine="standard", model=str(file))


def test_a_model_of_another_form_is_refused(opened: Opened, sdxl: Path) -> None:
    with pytest.raises(EngineError):
        opened(engine="standard", model=str(sdxl))


def test_out_of_memory_is_met_by_smaller_pieces_then_told(
    opened: Opened, sd15: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = opened(engine="standard", model=str(sd15))
    (processor,) = engine._crew._loaded.values()  # type: ignore[attr-defined]
    forward, left = UNet2DConditionModel.forward, [1]

    def short(self: Any, *args: Any, **options: Any) -> Any:
        if left[0]:
            left[0] -= 1
            raise torch.OutOfMemoryError("CUDA out of memory")
        return forward(self, *args, **options)

    monkeypatch.setattr(UNet2DConditionModel, "forward", short)
    frame = noise_frame(SIDE, SIDE)
    assert painted(engine, frame).shape == frame.shape
    assert processor._pipeline.vae.use_tiling
    left[0] = 5
    with pytest.raises(EngineError, match="out of memory"):
        painted(engine, frame)
    left[0] = 0
    assert painted(engine, frame).shape == frame.shape


def test_loading_is_reported_and_can_be_stopped(opened: Opened, sd15: Path) -> None:
    class Stop(Exception):
        pass

    told: list[str] = []

    def report(progress: Progress) -> None:
        told.append(progress.text)
        if len(told) == 2:
            raise Stop

    settings = EngineSettings(**{**opened.settings, "engine": "standard", "model": str(sd15)})
    engine = open_engine(settings)
    with pytest.raises(Stop):
        engine.load(report)
    assert told == ["text encoder", "U-Net"]
    with pytest.raises(EngineError, match="not loaded"):
        engine.infer_once(noise_frame(SIDE, SIDE), {})
    engine.close()


@pytest.mark.parametrize("kind", ["standard", "lightning"])
def test_the_depth_of_the_frame_holds_the_picture(
    kind: str,
    opened: Opened,
    sd15: Path,
    sdxl: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    model = sd15 if kind == "standard" else sdxl
    of = UNet2DConditionModel.from_pretrained(str(model), subfolder="unet", local_files_only=True)
    engine = opened(
        engine=kind,
        model=str(model),
        controlnets=(f"depth={save_controlnet(tmp_path / 'net', of)}",),
        depth_model=str(save_depth_anything(tmp_path / "depth")),
    )
    assert engine.control_map() is None
    frame = noise_frame(SIDE, SIDE)
    held = painted(engine, frame, controlnet_scale=1.0)
    seen = engine.control_map()
    assert seen is not None
    assert seen.shape == frame.shape
    assert seen.std() > 1
    with monkeypatch.context() as patched:
        patched.delattr(ControlNetModel, "forward")  # at 0 it is not asked
        assert not np.array_equal(held, painted(engine, frame, controlnet_scale=0.0))


def test_a_controlnet_of_another_model_is_refused(
    opened: Opened, sd15: Path, sdxl: Path, tmp_path: Path
) -> None:
    of = UNet2DConditionModel.from_pretrained(str(sdxl), subfolder="unet", local_files_only=True)
    net = save_controlnet(tmp_path / "net", of)
    with pytest.raises(EngineError, match="another model"):
        opened(engine="standard", model=str(sd15), controlnets=(f"depth={net}",))
