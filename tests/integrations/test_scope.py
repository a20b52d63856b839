"""The plugin for Daydream Scope: called as Scope calls it, on tiny models."""

import logging
import subprocess
import sys
import tomllib
from collections.abc import Callable, Iterator
from importlib import import_module
from importlib.metadata import EntryPoint
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import UNet2DConditionModel

from dreamrelay.engines import control
from dreamrelay.errors import EngineError
from tests.engines.tiny_controls import save_controlnet, save_depth_anything
from tests.engines.tiny_models import save_lora, save_model, unet
from tests.fakes import scope
from tests.fakes.scope import Processor
from tests.support import ROOT

Load = Callable[..., Processor]

SIDE = 128
AT_LOAD = {"model_id_or_path", "loras", "use_taesd", "use_denoising_batch", "acceleration_mode"}
"""What is decided when the pipeline is loaded."""

CAT = [{"text": "a cat", "weight": 1.0}]
DOG = [{"text": "the sea in green", "weight": 1.0}]


@pytest.fixture(scope="module")
def pipeline() -> Iterator[Any]:
    """The pipeline's class, as Scope has it of its plugins."""
    with scope.installed():
        found = scope.pipelines_of(entry_point().load())
        assert list(found) == ["streamdiffusion"]
        yield found["streamdiffusion"]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_model(tmp_path_factory.mktemp("models") / "sd", "sd21")


@pytest.fixture(scope="module")
def shared(pipeline: Any, model: Path) -> Iterator[Any]:
    """A pipeline for all that ask for nothing special when it is loaded."""
    made = scope.load(pipeline, model_id_or_path=str(model), width=SIDE, height=SIDE)
    yield made
    made.cleanup()


@pytest.fixture
def load(pipeline: Any, shared: Any, model: Path) -> Iterator[Load]:
    """A processor for the pipeline; values are of its load or of its calls."""
    loaded = []

    def load(**values: Any) -> Processor:
        made = shared
        if values.keys() & (AT_LOAD | {"controlnet_mode"}):
            at_load = {"model_id_or_path": str(model), "width": SIDE, "height": SIDE, **values}
            made = scope.load(pipeline, **at_load)
            loaded.append(made)
        calls = {name: value for name, value in values.items() if name != "loras"}
        return Processor(made, **{"prompts": CAT, "num_inference_steps": 1, **calls})

    yield load
    for made in loaded:
        made.cleanup()


@pytest.fixture
def video(load: Load) -> Processor:
    """In video mode, with one step and guidance."""
    return load(input_mode="video", strength=0.6)


def entry_point() -> EntryPoint:
    """The only one that a plugin may have."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    entries = project["entry-points"]["scope"]
    assert len(entries) == scope.CONTRACT["plugins"]["entry_points_per_distribution"]
    [(name, value)] = entries.items()
    return EntryPoint(name, value, "scope")


def frame(seed: int = 0, side: int = SIDE) -> torch.Tensor:  # (H, W, 3)
    """Some picture, smooth enough that a mean says something."""
    small = torch.rand((1, 3, 4, 4), generator=torch.Generator().manual_seed(seed))
    large = torch.nn.functional.interpolate(small, (side, side), mode="bilinear")
    return (large[0].permute(1, 2, 0) * 255).to(torch.uint8)


def one(processor: Processor, *frames: torch.Tensor, **ports: Any) -> torch.Tensor:
    """The picture of a call that must make one."""
    pictures = processor.tick(*(frames or (frame(),)), **ports)
    assert not processor.errors, processor.errors
    assert len(pictures) == max(1, len(frames))
    return pictures[0]


def apart(a: torch.Tensor, b: torch.Tensor) -> float:
    """Mean difference, in levels."""
    return float((a.float() - b.float()).abs().mean())


# The door ----------------------------------------------------------------------------------------


def test_the_door_is_light_and_needs_no_scope() -> None:
    code = (
        f"import sys, {entry_point().value} as door\n"
        "print(*sorted({'scope', 'torch', 'diffusers', 'numpy'} & set(sys.modules)))\n"
        "try: door.register_pipelines(print)\n"
        "except ModuleNotFoundError as error: print(error.name)\n"
        "except Exception as error: print(error)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr
    loaded, missing = done.stdout.split("\n")[:2]
    assert loaded == ""
    assert "scope" in missing


def test_two_plugins_of_one_id_are_told(
    pipeline: Any,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    scope.pipelines_of(entry_point().load())
    assert not caplog.records
    (tmp_path / "scope_streamdiffusion.py").write_text("", encoding="utf-8")
    monkeypatch.syspath_prepend(tmp_path)
    assert list(scope.pipelines_of(entry_point().load())) == ["streamdiffusion"]
    assert "uninstall one" in caplog.text


# What can be set ---------------------------------------------------------------------------------

OURS_AUTO = {"acceleration_mode", "acceleration"}
"""Theirs ask for what may not be there; ours is what works, and theirs can be asked for."""


@pytest.mark.parametrize("name", scope.CONTRACT["streamdiffusion_fields"])
def test_fields_are_those_of_the_plugin(name: str, pipeline: Any) -> None:
    kind, default, *bounds = scope.CONTRACT["streamdiffusion_fields"][name]
    schema = pipeline.get_config_class().model_json_schema()["properties"][name]
    assert schema["ui"]["label"]
    assert schema["description"]
    if "|" in kind:
        choices = set(map(str, schema["enum"]))
        assert set(kind.split("|")) == choices - ({"auto"} if name in OURS_AUTO else set())
    else:
        assert schema["type"] == kind
    assert schema["default"] == ("auto" if name in OURS_AUTO else default)
    assert bounds == [schema[end] for end in ("minimum", "maximum") if end in schema]


def test_the_class_says_what_it_is(pipeline: Any) -> None:
    config = pipeline.get_config_class()
    assert (config.pipeline_id, config.pipeline_name) == ("streamdiffusion", "StreamDiffusion")
    assert (config.supports_prompts, config.supports_lora) == (True, True)
    assert list(config.modes) == ["text", "video"]
    assert config.modes["text"].default
    assert (config.inputs, config.outputs) == (["video", "vace_input_masks"], ["video"])
    orders = [
        p["ui"]["order"] for p in config.model_json_schema()["properties"].values() if "ui" in p
    ]
    assert len(set(orders)) == len(orders)
    with pytest.raises(ValueError, match="Extra"):
        config(unheard_of=1)


def test_a_newer_scope_may_move_values(pipeline: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    ours = "dreamrelay.integrations.scope_config"
    now = {
        name: sys.modules.pop(name) for name in list(sys.modules) if name.split(".")[0] == "scope"
    }
    old = sys.modules.pop(ours)
    try:
        with scope.installed(modulatable=False):
            fields = import_module(ours).StreamDiffusionConfig.model_json_schema()["properties"]
    finally:
        sys.modules.update({**now, ours: old})
    assert fields["strength"]["ui"]["modulatable"]
    assert not fields["seed"]["ui"].get("modulatable")


# Frames ------------------------------------------------------------------------------------------


def test_text_needs_no_frame(load: Load) -> None:
    processor = load(num_inference_steps=2)
    picture = one(processor)
    assert picture.shape == (SIDE, SIDE, 3)
    assert apart(picture, one(processor)) == 0  # what came out is not fed back
    assert processor.pipeline.prepare(input_mode="text") is None


def test_text_looks_back_if_asked_to(load: Load) -> None:
    processor = load(image_loopback=True, strength=0.7)
    first = one(processor)
    assert apart(first, one(processor)) > 0.5


def test_frames_as_scope_hands_them_over(video: Processor) -> None:
    wants = video.pipeline.prepare(video=True)
    assert wants.input_size == 1
    picture = one(video, frame(1))
    other = one(video, frame(2))
    assert apart(picture, other) > 0.05
    as_readme = video.pipeline(
        **video.parameters, video=(frame(1).float() / 255).unsqueeze(0), init_cache=True
    )["video"]
    assert as_readme.shape == (1, SIDE, SIDE, 3)
    assert as_readme.dtype == torch.float32
    assert 0 <= float(as_readme.min()) <= float(as_readme.max()) <= 1
    assert apart((as_readme[0] * 255).to(torch.uint8), picture) == 0


def test_every_frame_of_a_chunk_counts(load: Load) -> None:
    processor = load(input_mode="video", input_size=3, strength=0.5)
    assert processor.pipeline.prepare(**processor.parameters).input_size == 3
    pictures = processor.tick(frame(1), frame(2), frame(3))
    single = load(input_mode="video", strength=0.5)
    assert [apart(a, one(single, frame(at))) for at, a in enumerate(pictures, 1)] == [0, 0, 0]


def test_frames_of_another_size_and_form(video: Processor) -> None:
    for odd in (frame(1, 100), torch.cat([frame(1), frame(1)[..., :1]], -1), frame(1)[..., :1]):
        assert one(video, odd).shape == (SIDE, SIDE, 3)


@pytest.mark.parametrize(
    "bad",
    [
        3,
        [3],
        [torch.zeros(4, 4)],
        [torch.zeros(1, 4, 4, 2)],
        [torch.zeros(1, 0, 4, 3)],
        torch.zeros(1, 4, 4, 3, dtype=torch.int64),
    ],
)
def test_what_is_no_video(bad: Any, video: Processor) -> None:
    with pytest.raises(ValueError, match="video: expected"):
        video.pipeline(**video.parameters, video=bad)
    one(video)


def test_levels_survive_how_scope_rounds(load: Load) -> None:
    processor = load(input_mode="video", enabled=False)
    levels = torch.arange(256, dtype=torch.uint8).reshape(16, 16, 1).expand(-1, -1, 3)
    assert apart(one(processor, levels), levels) == 0


def test_off_lets_frames_through(video: Processor) -> None:
    video.update(enabled=False)
    same = one(video, frame(5, 100), frame(6, 100))
    assert apart(same, frame(5, 100)) == 0
    video.update(enabled=True)
    assert one(video, frame(5, 100)).shape == (SIDE, SIDE, 3)
    video.update(enabled=False, input_mode="text")
    assert video.tick() == []


def test_sizes_change_live(video: Processor) -> None:
    before = video.pipeline._engine
    video.update(width=200, height=131)
    assert one(video).shape == (128, 200, 3)
    assert video.pipeline._engine is before


# Values ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("base", "changed"),
    [
        ({}, {"strength": 0.9}),
        ({}, {"seed": 7}),
        ({}, {"base_seed": 7}),
        ({}, {"negative_prompt": "a dog"}),
        ({"negative_prompt": "a dog"}, {"negative_prompt_scale": 0.2}),
        ({}, {"guidance_scale": 4.0}),
        ({"guidance_scale": 4.0}, {"negative_prompt": "a dog"}),
        ({"guidance_scale": 4.0}, {"delta": 0.2}),
        ({}, {"num_inference_steps": 3}),
        ({"num_inference_steps": 3}, {"do_add_noise": False}),
        ({"prompts": [*CAT, *DOG]}, {"prompt_interpolation_method": "slerp"}),
        ({}, {"prompts": DOG}),
        ({}, {"prompts": "the sea in green"}),
        ({"prompts": [{"text": "(cat:1.5) a", "weight": 1}]}, {"prompt_weighting": False}),
        ({}, {"width": 192}),
    ],
    ids=lambda values: "-".join(values) or "plain",
)  # fmt: skip
def test_every_value_acts(base: dict[str, Any], changed: dict[str, Any], load: Load) -> None:
    processor = load(input_mode="video", **{"strength": 0.7, **base})
    before = one(processor)
    processor.update(**changed)
    for _ in range(4):
        pictures = processor.tick(frame())
    assert not processor.errors
    assert before.shape != pictures[0].shape or apart(before, pictures[0]) > 0.05


def test_strength_beyond_one_is_one(video: Processor) -> None:
    made = []
    for strength in (1.0, 1.2):
        video.update(strength=strength)
        made.append(one(video))
    assert apart(*made) == 0
    video.update(strength=1.3)
    assert video.tick(frame()) == []
    assert "strength" in str(video.errors[-1])


def test_similar_frames_are_skipped(video: Processor) -> None:
    engine = video.pipeline._engine
    before = engine.counters()["frames_skipped"]
    video.update(similar_image_filter_enabled=True)
    for _ in range(6):
        one(video, frame(1))
    assert engine.counters()["frames_skipped"] == before + 5


def test_what_is_not_ours_is_not_looked_at(video: Processor) -> None:
    beat = dict.fromkeys(scope.CONTRACT["processor"]["beat"], 1.0)
    before = one(video)
    assert apart(before, one(video, **beat, video_timestamps=[0.0], quantize="bar")) == 0


def test_a_seed_holds_until_the_other_one_changes(video: Processor) -> None:
    first = one(video)
    video.update(base_seed=7)
    by_beat = one(video)
    video.update(seed=7)
    assert apart(one(video), by_beat) == 0
    video.update(seed=42)
    assert apart(one(video), first) == 0


@pytest.mark.parametrize("steps", [1, 3, 50])
def test_more_steps_than_there_are(steps: int, load: Load) -> None:
    processor = load(input_mode="video", num_inference_steps=steps)
    first = one(processor, frame(1))
    late = [apart(one(processor, frame(2)), first) == 0 for _ in range(9)]
    assert late == [*[True] * (min(steps, 8) - 1), *[False] * (10 - min(steps, 8))]


def test_one_after_the_other_without_the_batch(load: Load) -> None:
    processor = load(input_mode="video", num_inference_steps=4, use_denoising_batch=False)
    one(processor)


# Prompts and transitions -------------------------------------------------------------------------


def test_a_blend_counts_by_shares(video: Processor) -> None:
    node = scope.AnyModel(text="the sea in green")
    blends: list[Any] = [
        [*CAT, {"text": "the sea in green", "weight": 1.0}],
        [{"text": "a cat", "weight": 300}, {"text": "the sea in green", "weight": 300}],
        [{"text": "a cat", "weight": 0}, {"text": "the sea in green", "weight": 0}],
        ["a cat", node],
    ]
    made = []
    for blend in blends:
        video.update(prompts=blend)
        made.append(one(video))
    assert [apart(made[0], other) for other in made[1:]] == [0, 0, 0]


@pytest.mark.parametrize(
    "bad",
    [3, [3], [{"weight": 1}], [{"text": "x", "weight": -1}], [{"text": 3}]],
)
def test_what_is_no_prompt(bad: Any, video: Processor) -> None:
    before = one(video)
    video.update(prompts=bad)
    assert video.tick(frame()) == []
    assert "prompts: expected" in str(video.errors.pop())
    video.update(prompts=CAT)
    assert apart(one(video), before) == 0


def test_too_many_and_too_long_prompts(video: Processor, caplog: pytest.LogCaptureFixture) -> None:
    heavy = [{"text": f"cat {at}", "weight": 1.0 + at} for at in range(12)]
    video.update(prompts=heavy)
    many = one(video)
    assert "8 heaviest" in caplog.text
    video.update(prompts=heavy[4:])
    assert apart(one(video), many) == 0
    video.update(prompts="sea " * 2000)
    one(video)
    video.update(prompts=[])
    one(video)


@pytest.mark.parametrize("method", ["linear", "slerp"])
def test_a_transition_takes_its_time_and_stays(method: str, load: Load) -> None:
    processor = load()
    state = processor.pipeline.state
    start = one(processor)
    processor.update(prompts=DOG)
    end = one(processor)
    processor.update(prompts=CAT)
    assert apart(one(processor), start) == 0
    transition = {"target_prompts": DOG, "num_steps": 4, "temporal_interpolation_method": method}
    assert processor.update(transition=transition)
    way = [one(processor) for _ in range(2)]
    assert state["_transition_active"]
    processor.update(transition=dict(transition))  # the same again does not begin anew
    way += [one(processor) for _ in range(2)]
    assert not state["_transition_active"]
    assert "transition" not in processor.parameters
    assert processor.parameters["prompts"] == CAT
    assert apart(way[0], start) > 0
    assert apart(way[0], end) > 0
    assert apart(way[-1], end) == 0
    assert apart(one(processor), end) == 0  # and no way back to the old prompts
    processor.update(prompts="a red city")
    assert apart(one(processor), end) > 0.05


def test_a_transition_can_be_turned_aside(load: Load) -> None:
    processor = load()
    start = one(processor)
    processor.update(transition={"target_prompts": DOG, "num_steps": 20})
    turned = [one(processor) for _ in range(10)][-1]
    processor.update(transition={"target_prompts": CAT, "num_steps": 8})
    back = one(processor)
    assert apart(back, turned) < apart(back, start)  # from where it stood
    for _ in range(7):
        last = one(processor)
    assert apart(last, start) == 0


def test_a_changed_prompt_may_take_steps_by_itself(load: Load) -> None:
    processor = load(transition_steps=3)
    start = one(processor)
    processor.update(prompts=DOG)
    way = [one(processor) for _ in range(4)]
    assert apart(way[0], start) > 0
    assert apart(way[0], way[2]) > 0
    assert apart(way[2], way[3]) == 0
    # An explicit one goes before it, be it at once.
    processor.update(transition={"target_prompts": CAT, "num_steps": 0})
    assert apart(one(processor), start) == 0


@pytest.mark.parametrize(
    "bad", [{}, 3, {"target_prompts": CAT, "num_steps": -1}, {"target_prompts": 3},
            {"target_prompts": CAT, "temporal_interpolation_method": "cubic"}],
)  # fmt: skip
def test_what_is_no_transition(bad: Any, video: Processor) -> None:
    with pytest.raises(ValueError, match="expected"):
        video.pipeline(**video.parameters, video=[frame()[None]], transition=bad)
    one(video)


def test_a_reset_begins_anew(load: Load) -> None:
    processor = load(input_mode="video", image_loopback=True, strength=0.5)
    first = one(processor)
    assert apart(one(processor), first) > 0.05
    processor.update(reset_cache=True)
    assert apart(one(processor), first) == 0
    # So does a change of mode.
    processor.update(input_mode="text", image_loopback=False)
    one(processor)
    processor.update(input_mode="video", image_loopback=True)
    assert apart(one(processor), first) == 0


# Masks -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("channels", [1, 3])
def test_masks_lay_the_picture_over_the_frame(channels: int, load: Load) -> None:
    processor = load(input_mode="video", mask_compositing=True, num_inference_steps=2)
    mask = torch.zeros(1, 32, 32, channels, dtype=torch.uint8)
    mask[:, :, 16:] = 255
    for seed in (1, 2):
        pictures = processor.tick(frame(seed), vace_input_masks=[mask])
    assert not processor.errors
    left, right = slice(None, SIDE // 2 - 8), slice(SIDE // 2 + 8, None)
    assert apart(pictures[0][:, left], frame(1)[:, left]) == 0  # the frame it was made from
    assert apart(pictures[0][:, right], frame(1)[:, right]) > 1
    processor.update(mask_compositing=False)
    processor.tick(frame(1), vace_input_masks=[mask])
    assert apart(one(processor, frame(1), vace_input_masks=[mask])[:, left], frame(1)[:, left]) > 1


def test_masks_fewer_than_frames_and_soft_ones(load: Load) -> None:
    processor = load(input_mode="video", input_size=2, mask_compositing=True, mask_strength=1.0)
    black = torch.zeros(1, SIDE, SIDE, 1, dtype=torch.uint8)
    pictures = processor.tick(frame(1), frame(2), vace_input_masks=[black])
    assert [apart(a, frame(at)) for at, a in enumerate(pictures, 1)] == [0, 0]
    assert apart(one(processor, frame(1), frame(2), vace_input_masks=[]), frame(1)) > 1
    processor.update(mask_feather=8.0)
    half = torch.zeros(1, SIDE, SIDE, 1)
    half[:, :, SIDE // 2 :] = 1.0
    processor.tick(frame(1), frame(2), vace_input_masks=half)
    assert not processor.errors
    processor.update(mask_strength=0.0)
    shown = one(processor, frame(1), frame(2), vace_input_masks=[black])
    assert apart(shown, frame(1)) > 1


# Models ------------------------------------------------------------------------------------------


def test_the_model_that_was_chosen_is_loaded(load: Load, tmp_path: Path) -> None:
    other = save_model(tmp_path / "other", "sd15", "full", seed=3)
    first = load(input_mode="video")
    picture = one(first)
    chosen = load(input_mode="video", model_id_or_path=str(other), use_taesd=False)
    assert apart(one(chosen), picture) > 0.5
    # And a change of mind is heard.
    first.update(model_id_or_path=str(other), use_taesd=False)
    assert apart(one(first), one(chosen)) == 0


def test_a_model_that_is_not_there(load: Load, tmp_path: Path) -> None:
    with pytest.raises(EngineError, match="no folder"):
        load(model_id_or_path=str(tmp_path / "none"))


def test_a_model_that_is_not_there_costs_no_time_with_each_frame(
    video: Processor, model: Path, tmp_path: Path
) -> None:
    before = one(video)
    later = tmp_path / "later"
    video.update(model_id_or_path=str(later))
    for _ in range(3):
        assert video.tick(frame()) == []
    assert len({id(error) for error in video.errors}) == 1
    save_model(later, "sd15", seed=5)
    assert video.tick(frame()) == []  # nobody looks again by itself
    video.errors.clear()
    video.update(reset_cache=True)
    one(video)
    video.update(model_id_or_path=str(model))
    assert apart(one(video), before) == 0


def test_what_it_is_opened_with(pipeline: Any) -> None:
    values = import_module("dreamrelay.integrations.scope_values")
    config = pipeline.get_config_class()

    def settings(controls: tuple[str, ...] = (), **fields: Any) -> Any:
        return values.engine_settings(config(**fields), {}, controls)

    plain = settings()
    assert (plain.model, plain.acceleration) == ("stabilityai/sd-turbo", "auto")
    assert (plain.use_tiny_vae, plain.use_lcm_lora, plain.controlnets) == (None, None, ())
    assert settings(acceleration_mode="trt").acceleration == "tensorrt"
    assert settings(acceleration="xformers").acceleration == "xformers"
    assert settings(acceleration_mode="none", acceleration="tensorrt").acceleration == "sdpa"
    held = settings(("scribble", "depth"), use_lcm_lora=False, use_taesd=False)
    assert held.controlnets == ("depth", "scribble")
    assert (held.use_tiny_vae, held.use_lcm_lora) == (False, False)
    fast = settings(model_id_or_path="ByteDance/SDXL-Lightning", num_inference_steps=6)
    assert (fast.engine, fast.lightning_weights) == ("lightning", "ByteDance/SDXL-Lightning")
    assert fast.lightning_steps in ((4,), (8,))
    assert fast.controlnets == ("none",)


def test_acceleration_that_cannot_be_had_is_said(load: Load) -> None:
    with pytest.raises(Exception, match="acceleration: tensorrt"):
        load(acceleration_mode="trt")


def test_loras_act_and_are_scaled_live(
    load: Load, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    lora = save_lora(tmp_path / "style.safetensors", unet("sd21"), scale=2.0)
    plain = one(load(input_mode="video"))
    processor = load(input_mode="video", loras=[{"path": str(lora), "scale": 1.0}])
    styled = one(processor)
    assert apart(styled, plain) > 0.05
    assert processor.pipeline.loaded_lora_adapters == [{"path": str(lora), "scale": 1.0}]
    processor.update(lora_scales=[{"path": str(lora), "scale": 0.0}])
    assert apart(one(processor), plain) < 0.01
    assert apart(one(processor), plain) < 0.01  # it is said once, and stays
    processor.update(lora_scales=[{"path": "unheard of", "scale": 1.0}])
    one(processor)
    assert "unheard of is not loaded" in caplog.text
    processor.update(lora_scales=[{"path": str(lora), "scale": 1.0}])
    assert apart(one(processor), styled) < 0.01
    processor.update(lora_scales=[{"path": str(lora), "scale": 11}])
    assert processor.tick(frame()) == []
    assert "-10..10" in str(processor.errors.pop())


def test_controlnets_are_loaded_when_first_chosen(
    load: Load, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    net = UNet2DConditionModel.from_pretrained(str(model), subfolder="unet", local_files_only=True)
    usual = {kind: str(save_controlnet(tmp_path / kind, net)) for kind in ("depth", "scribble")}
    monkeypatch.setitem(control.USUAL, net.config.cross_attention_dim, ("a tiny model", usual))
    monkeypatch.setattr(control, "DEFAULT_MODEL", str(save_depth_anything(tmp_path / "eye")))
    processor = load(input_mode="video", model_id_or_path=str(model))
    plain = one(processor)
    made = {"none": plain}
    for mode in ("depth", "scribble", "none", "depth"):
        processor.update(controlnet_mode=mode)
        picture = one(processor)
        assert apart(picture, made.setdefault(mode, picture)) < 0.01
    assert apart(made["depth"], plain) > 0.02
    assert apart(made["scribble"], made["depth"]) > 0.02
    for weaker in ({"controlnet_scale": 0.2}, {"depth_max": 0.4}, {"depth_input_size": 252}):
        processor.update(**{"controlnet_scale": 1.0, **weaker})
        assert apart(one(processor), made["depth"]) > 0
    # What there is no frame for holds nothing.
    processor.update(input_mode="text")
    one(processor)


# When memory does not do -------------------------------------------------------------------------


@pytest.mark.parametrize("times", [1, 2])
def test_out_of_memory_is_what_scope_knows(
    times: int, video: Processor, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    one(video)  # loads what the values of now want, if that is another engine than before
    engine = video.pipeline._engine
    real, left = engine._encode_pixels, [times]

    def encode(*args: Any) -> Any:
        if left[0]:
            left[0] -= 1
            raise torch.OutOfMemoryError("CUDA out of memory")
        return real(*args)

    monkeypatch.setattr(engine, "_encode_pixels", encode)
    with caplog.at_level(logging.WARNING):
        if times == 1:  # there may be a way that takes less
            one(video)
        else:
            with pytest.raises(torch.OutOfMemoryError, match="out of memory while computing"):
                video.tick(frame())
            assert not video.running
    assert "out of memory while computing" in caplog.text
    one(video)


def test_any_other_error_is_said(video: Processor, monkeypatch: pytest.MonkeyPatch) -> None:
    def encode(*args: Any) -> Any:
        raise RuntimeError("the cable is out")

    with monkeypatch.context() as broken:
        broken.setattr(video.pipeline._engine, "_encode_pixels", encode)
        assert video.tick(frame()) == []
    assert isinstance(video.errors[-1], EngineError)
    assert "the cable is out" in str(video.errors.pop())
    one(video)
