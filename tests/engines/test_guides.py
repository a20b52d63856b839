"""ControlNets and image prompts in a stream: live, each with its own frame, off at no cost."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import jsonschema
import numpy as np
import pytest
import torch
from diffusers import ControlNetModel, UNet2DConditionModel
from torch.utils._pytree import tree_flatten

from dreamrelay.codec import Frame
from dreamrelay.config import WorkerSettings
from dreamrelay.engine_flags import engine_settings
from dreamrelay.engines import EngineSettings, open_engine, stream_batch
from dreamrelay.engines.pocket_engine import PocketEngine
from dreamrelay.engines.ports import Result, Turn
from dreamrelay.engines.stream_batch import StreamBatchEngine
from dreamrelay.errors import ConfigError, EngineError, ParameterError
from tests.engines.pictures import moving_frames, noise_frame
from tests.engines.tiny_controls import (
    save_controlnet,
    save_depth_anything,
    save_ip_adapter,
    save_picture,
    shapes_frame,
)
from tests.engines.tiny_models import Kind, save_model
from tests.fakes import cuda

STRONG = {"strength": 0.9, "controlnet_scale": 2.0, "ip_adapter_scale": 4.0}
"""So that every guide shows in the picture of a model with random weights."""


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("guides")
    kinds: tuple[Kind, ...] = ("sd15", "sdxl")
    for kind in kinds:
        save_model(place / kind, kind)
        net = UNet2DConditionModel.from_pretrained(place / kind / "unet")
        for seed, seen in enumerate(("depth", "canny")):
            save_controlnet(place / f"{kind}_{seen}", net, seed)
        save_ip_adapter(place / f"{kind}_adapter" / "adapter.safetensors", net)
    save_depth_anything(place / "depth_model")
    save_picture(place / "pictures" / "disc.png", shapes_frame())
    save_picture(place / "pictures" / "noise.png", noise_frame(5))
    (place / "pictures" / "torn.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    return place


def settings(
    place: Path,
    *seen: str,
    kind: Kind = "sd15",
    pictures: bool = False,
    patch: dict[str, Any] | None = None,
    **more: Any,
) -> EngineSettings:
    """Settings for ControlNets of these kinds, and with ``pictures`` for an IP-Adapter."""
    given = {**STRONG, **(patch or {})}
    if not seen:
        del given["controlnet_scale"]
    if not pictures:
        del given["ip_adapter_scale"]
    return EngineSettings(
        model=str(place / kind),
        device="cpu",
        acceleration="none",
        controlnets=tuple(f"{one}={place / f'{kind}_{one}'}" for one in seen),
        depth_model=str(place / "depth_model") if "depth" in seen else None,
        ip_adapter=str(place / f"{kind}_adapter") if pictures else None,
        prompt_pictures=str(place / "pictures") if pictures else None,
        parameters=given,
        offline=True,
        **more,
    )


def load(place: Path, *seen: str, **more: Any) -> StreamBatchEngine:
    engine = StreamBatchEngine(settings(place, *seen, **more))
    engine.load(lambda progress: None)
    return engine


@pytest.fixture(scope="module")
def base(place: Path) -> StreamBatchEngine:
    """The engine whose model the streams of most tests share."""
    return load(place, "depth", "canny", pictures=True)


def fresh(base: StreamBatchEngine, **patch: Any) -> StreamBatchEngine:
    """A stream that begins, over the model that is loaded."""
    return base.beside(patch)


def pictures(engine: StreamBatchEngine, frames: Sequence[Frame]) -> list[Frame]:
    made = []
    for at, frame in enumerate(frames):
        result = engine.infer(frame, at)
        assert result is not None
        made.append(result.frame)
    return made


def far(one: Frame, other: Frame) -> int:
    """The greatest difference of two pictures."""
    return int(np.abs(one.astype(int) - other).max())


# Off is off --------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["sd15", "sdxl"])
def test_what_is_off_changes_nothing_and_costs_nothing(
    place: Path, kind: Kind, monkeypatch: pytest.MonkeyPatch
) -> None:
    frames = moving_frames(4)
    plain = pictures(load(place, kind=kind), frames)
    guided = load(place, "depth", "canny", kind=kind, pictures=True)
    guided.refer(shapes_frame())
    assert min(map(far, pictures(guided, frames)[1:], plain[1:])) > 2
    engine = guided.beside({"controlnet_scale": 0.0, "ip_adapter_scale": 0.0})
    engine.refer(shapes_frame())
    monkeypatch.setattr(ControlNetModel, "forward", None)
    for one, other in zip(pictures(engine, frames), plain, strict=True):
        np.testing.assert_array_equal(one, other)
    assert engine.control_map() is None


@pytest.mark.parametrize("kind", ["sd15", "sdxl"])
def test_a_compiled_network_is_called_in_one_form_whatever_acts(
    place: Path, kind: Kind, monkeypatch: pytest.MonkeyPatch
) -> None:
    patch = {"num_inference_steps": 1, "controlnet_scale": 0.0}
    usual = load(place, "canny", kind=kind, pictures=True, patch=patch)
    monkeypatch.setattr(stream_batch, "BUILT", ("none",))
    steady = load(place, "canny", kind=kind, pictures=True, patch=patch)
    forms = set()

    def note(_: Any, args: Any, options: Any) -> None:
        leaves, structure = tree_flatten((args, options))
        shapes = [tuple(leaf.shape) for leaf in leaves if torch.is_tensor(leaf)]
        forms.add((repr(structure), *shapes))

    steady.model.unet.register_forward_pre_hook(note, with_kwargs=True)
    for change in (
        {},
        {"image_prompt": "disc.png"},
        {"controlnet_scale": 2.0},
        {"ip_adapter_scale": 0.0},
        {"controlnet_mode": "none"},
    ):
        usual.apply(change)
        steady.apply(change)
        one, other = (pictures(engine, [shapes_frame()])[0] for engine in (usual, steady))
        assert far(one, other) <= 1
    assert len(forms) == 1


@pytest.mark.parametrize("kind", ["sd15", "sdxl"])
def test_graphs_say_the_same_whatever_acts(
    place: Path, kind: Kind, monkeypatch: pytest.MonkeyPatch
) -> None:
    patch = {"num_inference_steps": 1, "controlnet_scale": 0.0}
    given = settings(place, "canny", kind=kind, pictures=True, patch=patch)
    usual = StreamBatchEngine(given)
    usual.load(lambda progress: None)
    monkeypatch.setattr(stream_batch, "choose", lambda name, device: name)
    with cuda.installed(monkeypatch, lazy=False) as card:
        recorded = StreamBatchEngine(
            replace(given, acceleration="graphs", device="cpu", precision="float32")
        )
        recorded.load(lambda progress: None)
        assert len(card.graphs) == 4, "U-Net, ControlNet, encoder, decoder"
        for change, replays in (
            ({}, 3),
            ({"image_prompt": "disc.png"}, 3),
            ({"controlnet_scale": 2.0}, 4),
            ({"ip_adapter_scale": 0.0}, 4),
            ({"controlnet_mode": "none"}, 3),
        ):
            usual.apply(change)
            recorded.apply(change)
            card.log.clear()
            one, other = (pictures(engine, [shapes_frame()])[0] for engine in (usual, recorded))
            assert far(one, other) <= 1
            assert card.log == ["replay"] * replays


@pytest.mark.parametrize(("kind", "size"), [("sd15", 1), ("sdxl", 2)])
def test_each_frame_is_held_to_its_own_map(place: Path, kind: Kind, size: int) -> None:
    """On all of its way through the batch: as if it were alone."""
    patch = {"num_inference_steps": 3, "guidance_scale": 1.5, "cfg_type": "full"}
    engine = load(place, "canny", kind=kind, patch=patch, frame_buffer_size=size)
    frames = [shapes_frame(5 * at) for at in range(9)]
    for at, frame in enumerate(frames):
        result = engine.infer(frame, at)
        assert result is not None
        assert far(result.frame, engine.infer_once(frames[result.token], {})) <= 1
    assert result is not None
    assert far(result.frame, engine.infer_once(frames[0], {})) > 2


def test_the_map_of_the_last_picture_can_be_looked_at(base: StreamBatchEngine) -> None:
    engine = fresh(base, num_inference_steps=3, controlnet_mode="canny")
    assert engine.control_map() is None
    frames = [shapes_frame(6 * at) for at in range(5)]
    for at, frame in enumerate(frames):
        result = engine.infer(frame, at)
    assert result is not None
    assert result.token == 2
    seen = engine.control_map()
    assert seen is not None
    alone = fresh(base, num_inference_steps=1, controlnet_mode="canny")
    alone.infer(frames[2], 0)
    np.testing.assert_array_equal(seen, alone.control_map())
    engine.infer_once(noise_frame(0), {})
    np.testing.assert_array_equal(seen, engine.control_map())
    engine.close()
    assert engine.control_map() is None


def test_a_single_picture_leaves_what_was_seen_of_the_stream(base: StreamBatchEngine) -> None:
    patch = {
        "num_inference_steps": 1,
        "controlnet_temporal_smoothing": 0.3,
        "depth_skip_interval": 3,
    }
    frames = [shapes_frame(5 * at) for at in range(5)]
    undisturbed = pictures(fresh(base, **patch), frames)
    engine = fresh(base, **patch)
    for at, frame in enumerate(frames):
        result = engine.infer(frame, at)
        assert result is not None
        np.testing.assert_array_equal(result.frame, undisturbed[at])
        engine.infer_once(noise_frame(at), {"depth_max": 0.4})


def test_warm_up_leaves_nothing_behind(place: Path) -> None:
    """The grey pictures of the warm-up would stretch the first depth map for a while."""
    patch = {"num_inference_steps": 1, "controlnet_temporal_smoothing": 0.1}
    engine = load(place, "depth", "canny", patch=patch)
    first = engine.infer(shapes_frame(), 0)
    assert first is not None
    assert far(first.frame, engine.infer_once(shapes_frame(), {})) <= 1


# Live --------------------------------------------------------------------------------------------

CHANGES: dict[str, dict[str, Any]] = {
    "harder": {"controlnet_scale": 0.7},
    "off": {"controlnet_scale": 0.0},
    "depth alone": {"controlnet_mode": "depth"},
    "none": {"controlnet_mode": "none"},
    "less depth": {"depth_scale": 0.2},
    "finer lines": {"canny_low": 10.0, "canny_high": 30.0},
    "near only": {"depth_min": 0.5},
    "the beginning of the way": {"control_guidance_end": 0.5},
    "another picture": {"image_prompt": "noise.png"},
    "the picture sent": {"image_prompt": ""},
    "less of the picture": {"ip_adapter_scale": 0.8},
    "no picture": {"ip_adapter_scale": 0.0},
    "steps": {"num_inference_steps": 2},
}


OF_MAPS = ("finer lines", "near only")
"""Changes of what is seen of a frame: frames under way have been seen."""


@pytest.mark.parametrize("name", CHANGES)
def test_a_change_between_two_frames_is_as_good_as_a_fresh_start(
    base: StreamBatchEngine, name: str
) -> None:
    """A still picture, so that the depth's bounds, which follow slowly, stand where they did."""
    frame = shapes_frame() // 2 + noise_frame(2) // 4
    live = fresh(base, num_inference_steps=3, image_prompt="disc.png")
    live.refer(noise_frame(9))
    before = pictures(live, [frame] * 3)[-1]
    live.apply(CHANGES[name])
    changed = pictures(live, [frame] * 4)
    started = live.beside({})
    started.refer(noise_frame(9))
    for one, other in zip(changed[2:], pictures(started, [frame] * 2), strict=True):
        assert far(one, other) <= 1
    assert far(before, changed[-1]) > 0, "the change shows"
    if name not in OF_MAPS:
        assert far(before, changed[0]) > 0, "and it shows at once, on frames under way too"


def test_a_change_of_size(base: StreamBatchEngine) -> None:
    engine = fresh(base, image_prompt="disc.png")
    engine.infer(shapes_frame(), 0)
    engine.apply({"width": 96, "height": 72})
    result = engine.infer(shapes_frame(0, 96, 72), 1)
    assert result is not None
    assert far(result.frame, engine.infer_once(shapes_frame(0, 96, 72), {})) <= 1
    seen = engine.control_map()
    assert seen is not None
    assert seen.shape == (72, 96, 3)


# Image prompts -----------------------------------------------------------------------------------


def test_a_picture_that_is_sent_acts_until_it_is_taken_back(place: Path) -> None:
    engine = load(place, pictures=True, patch={"num_inference_steps": 1})
    frame = noise_frame(0)
    assert engine.imitates
    without = engine.infer_once(frame, {})
    engine.refer(shapes_frame())
    sent = engine.infer_once(frame, {})
    assert far(sent, without) > 2
    engine.refer(noise_frame(5))
    assert far(engine.infer_once(frame, {}), sent) > 2
    np.testing.assert_array_equal(
        engine.infer_once(frame, {}), engine.infer_once(frame, {"image_prompt": "noise.png"})
    )
    assert far(engine.infer_once(frame, {"image_prompt": "disc.png"}), sent) <= 1
    engine.refer(None)
    np.testing.assert_array_equal(engine.infer_once(frame, {}), without)
    assert engine.counters()["image_prompts_encoded"] == 2


def test_a_picture_that_cannot_be_used_leaves_the_one_before(base: StreamBatchEngine) -> None:
    engine = fresh(base)
    engine.refer(shapes_frame())
    before = engine.infer_once(noise_frame(0), {})
    with pytest.raises(EngineError, match="expected a picture of HxWx3 uint8"):
        engine.refer(np.zeros((4, 4), np.uint8))
    with pytest.raises(ParameterError, match=r"image prompt torn\.png cannot be read"):
        engine.apply({"image_prompt": "torn.png"})
    with pytest.raises(ParameterError, match=r"image_prompt: expected one of disc\.png, "):
        engine.apply({"image_prompt": "/etc/passwd", "seed": 9})
    assert engine.parameters["image_prompt"] == ""
    np.testing.assert_array_equal(engine.infer_once(noise_frame(0), {}), before)


def test_a_prompt_that_stays_with_its_frame_takes_its_picture_along(
    base: StreamBatchEngine,
) -> None:
    patch = {"num_inference_steps": 3, "image_prompt": "disc.png", "prompt_follows_frame": True}
    engine = fresh(base, controlnet_scale=0.0, **patch)
    frame = noise_frame(0)
    disc, noise = (
        engine.infer_once(frame, {"image_prompt": name}) for name in ("disc.png", "noise.png")
    )
    pictures(engine, [frame] * 3)
    engine.apply({"image_prompt": "noise.png"})
    made = pictures(engine, [frame] * 4)
    assert max(far(one, disc) for one in made[:2]) <= 1
    assert max(far(one, noise) for one in made[2:]) <= 1


def test_streams_over_one_model_have_pictures_of_their_own(base: StreamBatchEngine) -> None:
    one = fresh(base, image_prompt="disc.png")
    other = fresh(base, image_prompt="noise.png", controlnet_scale=0.5)
    third = fresh(base, image_prompt="", controlnet_scale=0.0)
    frames = moving_frames(4)
    alone = [pictures(engine.beside({}), frames) for engine in (one, other, third)]
    turns = [pictures(one, [f]) + pictures(other, [f]) + pictures(third, [f]) for f in frames]
    for at, turn in enumerate(turns):
        for made, expected in zip(turn, alone, strict=True):
            assert far(made, expected[at]) <= 1


def test_streams_in_one_call_of_the_network_keep_their_own_guides(
    base: StreamBatchEngine,
) -> None:
    one = fresh(base, cfg_type="full", guidance_scale=2.0, image_prompt="disc.png")
    streams = [
        one,
        one.beside({"image_prompt": "noise.png", "cfg_type": "none", "canny_low": 20.0}),
        one.beside({"controlnet_scale": 0.3, "ip_adapter_scale": 0.0, "num_inference_steps": 3}),
    ]
    frames = [shapes_frame(4 * at) for at in range(12)]
    alone = [pictures(stream.beside({}), frames[i::3]) for i, stream in enumerate(streams)]
    for at in range(4):
        turns = [Turn(stream, frames[3 * at + i], at) for i, stream in enumerate(streams)]
        for made, expected in zip(one.infer_together(turns), alone, strict=True):
            assert isinstance(made, Result)
            assert far(made.frame, expected[at]) <= 1


# What is published, and what is refused ----------------------------------------------------------


def test_only_what_is_loaded_is_published(place: Path) -> None:
    def names(engine: StreamBatchEngine) -> set[str]:
        schema = engine.schema()
        jsonschema.Draft202012Validator.check_schema(schema)
        assert set(schema["properties"]) == set(engine.parameters)
        return set(schema["properties"])

    plain = names(StreamBatchEngine(settings(place)))
    assert not any("control" in name or "depth" in name or "image_p" in name for name in plain)
    canny = names(StreamBatchEngine(settings(place, "canny"))) - plain
    assert {"controlnet_mode", "controlnet_scale", "canny_scale", "canny_low"} <= canny
    assert not any("depth" in name for name in canny)
    engine = StreamBatchEngine(settings(place, "canny", pictures=True))
    assert names(engine) - plain - canny == {"image_prompt", "ip_adapter_scale"}
    properties = engine.schema()["properties"]
    assert properties["controlnet_mode"]["enum"] == ["all", "none", "canny"]
    assert properties["image_prompt"]["enum"] == ["", "disc.png", "noise.png", "torn.png"]


@pytest.mark.parametrize(
    ("patch", "text"),
    [
        ({"depth_scale": 0.5}, "depth_scale: not in this engine: start the worker with "),
        ({"ip_adapter_scale": 1.0}, "start the worker with --ip_adapter=base"),
        ({"image_prompt": "a.png"}, "start the worker with --ip_adapter=base"),
        ({"controlnet_mode": "depth"}, "expected one of all, none, canny, got 'depth'"),
        ({"controlnet_scale": 2.1}, "controlnet_scale: expected 0..2, got 2.1"),
        ({"controlnet_mode": "pose"}, "controlnet_mode: expected one of all, none, depth, "),
    ],
    ids=str,
)
def test_a_patch_that_is_refused(place: Path, patch: dict[str, Any], text: str) -> None:
    engine = StreamBatchEngine(settings(place, "canny"))
    before = engine.parameters
    with pytest.raises(ParameterError, match=text):
        engine.apply({"seed": 5, **patch})
    assert engine.parameters == before


def test_by_the_flags_of_the_worker(place: Path) -> None:
    flags = {
        "model": str(place / "sd15"),
        "controlnet": f"depth={place / 'sd15_depth'}, canny={place / 'sd15_canny'}",
        "depth_model": str(place / "depth_model"),
        "ip_adapter": str(place / "sd15_adapter"),
        "prompt_pictures": str(place / "pictures"),
        "device": "cpu",
        "acceleration": "none",
        "offline": True,
    }
    engine = open_engine(engine_settings(WorkerSettings.load(flags, environ={})))
    engine.load(lambda progress: None)
    engine.apply({"image_prompt": "disc.png", "depth_scale": 0.5, "canny_low": 20.0})
    result = engine.infer(shapes_frame(), 0)
    assert result is not None
    assert result.frame.shape == (64, 64, 3)
    assert engine.control_map() is not None
    assert engine.imitates
    engine.close()


def test_without_an_adapter_no_picture_is_taken(place: Path) -> None:
    engine = load(place)
    assert not engine.imitates
    engine.refer(None)
    with pytest.raises(EngineError, match="start the worker with --ip_adapter=base"):
        engine.refer(shapes_frame())


@pytest.mark.parametrize(
    ("wrong", "text"),
    [
        ({"controlnets": ("pose",)}, "controlnet: expected depth, scribble, canny"),
        ({"controlnets": ("canny", "canny")}, "canny is named twice"),
        ({"depth_model": "a/b"}, "depth_model: does nothing without controlnet=depth"),
        ({"prompt_pictures": "."}, "nothing looks at them without ip_adapter"),
        (
            {"ip_adapter": "base", "prompt_pictures": "/nowhere"},
            "prompt_pictures: expected a folder of pictures, got /nowhere",
        ),
        ({"parameters": {"depth_scale": 1.0}}, "start the worker with --controlnet=depth"),
    ],
    ids=str,
)
def test_wrong_settings_are_refused_before_anything_is_loaded(
    wrong: dict[str, Any], text: str
) -> None:
    with pytest.raises(ConfigError, match=text):
        StreamBatchEngine(EngineSettings(model="/nowhere", **wrong))


def test_a_picture_named_at_the_start_that_is_broken(place: Path) -> None:
    engine = StreamBatchEngine(settings(place, pictures=True, patch={"image_prompt": "torn.png"}))
    with pytest.raises(EngineError, match=r"image prompt torn\.png cannot be read"):
        engine.load(lambda progress: None)
    engine.close()


def test_the_pocket_model_has_no_guides(place: Path) -> None:
    for wanted in ({"controlnets": ("depth",)}, {"ip_adapter": "base"}):
        with pytest.raises(ConfigError, match="the pocket engine takes none"):
            PocketEngine(EngineSettings(**wanted))
    engine = open_engine(EngineSettings(controlnets=("canny",), offline=True))
    assert isinstance(engine, StreamBatchEngine)
    with pytest.raises(EngineError, match="there is no usual ControlNet for this model"):
        engine.load(lambda progress: None)


def test_out_of_memory_of_a_controlnet_costs_one_frame(
    base: StreamBatchEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = fresh(base, num_inference_steps=2)
    frames = [shapes_frame(4 * at) for at in range(4)]
    pictures(engine, frames[:2])

    def fails(*_: Any, **__: Any) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory")

    with monkeypatch.context() as patched:
        patched.setattr(ControlNetModel, "forward", fails)
        with pytest.raises(EngineError, match="out of memory while computing"):
            engine.infer(frames[2], 2)
    result = engine.infer(frames[3], 3)
    assert result is not None
    assert result.token == 1
