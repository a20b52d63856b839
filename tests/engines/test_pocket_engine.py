"""The pocket engine: the pictures of the torch engine without torch, and what it refuses."""

import importlib.util
import subprocess
import sys
from collections import defaultdict
from dataclasses import replace
from pathlib import Path
from shutil import copytree
from typing import Any

import numpy as np
import pytest
import torch

from dreamrelay.codec import Frame
from dreamrelay.engines import Engine, EngineSettings, open_engine, pocket, runtimes
from dreamrelay.engines.pixel_autoencoder import PixelAutoencoder
from dreamrelay.engines.pocket_engine import PocketEngine
from dreamrelay.engines.stream_batch import StreamBatchEngine
from dreamrelay.errors import ConfigError, EngineError, MissingExtra
from tests.engines.pictures import moving_frames, noise_frame
from tests.engines.tiny_models import pocket_folder
from tests.support import ROOT

TOLERANCE = 1e-3  # of latents in 0..1 picture units
LOOKS: dict[str, dict[str, Any]] = {
    "one step": {"num_inference_steps": 1, "cfg_type": "none"},
    "three steps": {"num_inference_steps": 3, "cfg_type": "none", "strength": 0.9},
    "no noise": {"num_inference_steps": 2, "cfg_type": "none", "do_add_noise": False},
    "full": {"num_inference_steps": 2, "cfg_type": "full", "guidance_scale": 1.5},
    "initialize": {"num_inference_steps": 2, "cfg_type": "initialize", "guidance_scale": 1.5},
    "self": {"num_inference_steps": 2, "cfg_type": "self", "guidance_scale": 1.5, "delta": 0.7},
    "weights": {"prompt": "a (red:1.3) cat [sea]", "negative_prompt": "blue city"},
    "blend": {"prompts": [{"text": "red", "weight": 1.0}, {"text": "(sea:1.2)", "weight": 3.0}]},
    "seed": {"seed": 99, "strength": 1.0},
}


def load(name: str, acceleration: str, parameters: dict[str, Any], **settings: Any) -> Engine:
    kind = StreamBatchEngine if name == "torch" else PocketEngine
    base = EngineSettings(model=str(pocket_folder()), device="cpu", width=64, height=64)
    start = {"prompt": "a red cat", "strength": 0.7, **parameters}
    engine = kind(replace(base, acceleration=acceleration, parameters=start, **settings))
    engine.load(lambda progress: None)
    return engine


def latents_of(engine: Any, frames: list[Frame]) -> list[Any]:
    """The latents of every call, in 0..1 picture units."""
    latents = []
    for at, frame in enumerate(frames):
        engine.infer(frame, at)
        found = engine.stream.latents
        pixels = engine.model.channels - 2  # without the phases
        latents.append(np.asarray(found)[:, :pixels] / 2 + 0.5)
    return latents


def worst(one: Engine, other: Engine, frames: list[Frame]) -> float:
    pairs = zip(latents_of(one, frames), latents_of(other, frames), strict=True)
    return max(float(np.abs(left - right).max()) for left, right in pairs)


# The same pictures -------------------------------------------------------------------------------


@pytest.mark.parametrize("acceleration", ["none", "onnx"])
@pytest.mark.parametrize("look", LOOKS)
def test_same_latents_as_torch(look: str, acceleration: str) -> None:
    ours, theirs = load("pocket", acceleration, LOOKS[look]), load("torch", "none", LOOKS[look])
    assert worst(ours, theirs, moving_frames(4)) < TOLERANCE


@pytest.mark.parametrize("acceleration", ["none", "onnx"])
def test_same_latents_with_two_frames_a_call(acceleration: str) -> None:
    look = {"num_inference_steps": 2, "cfg_type": "none"}
    ours = load("pocket", acceleration, look, frame_buffer_size=2)
    theirs = load("torch", "none", look, frame_buffer_size=2)
    assert worst(ours, theirs, moving_frames(5)) < TOLERANCE


@pytest.mark.parametrize(("width", "height"), [(256, 256), (512, 256), (72, 104), (8, 8)])
@pytest.mark.parametrize("acceleration", ["none", "onnx"])
def test_same_pictures_of_any_size(width: int, height: int, acceleration: str) -> None:
    size = {"width": width, "height": height}
    frame = moving_frames(1, width, height)[0]
    one = load("pocket", acceleration, {"num_inference_steps": 1}, **size).infer(frame, 0)
    other = load("torch", "none", {"num_inference_steps": 1}, **size).infer(frame, 0)
    assert one is not None
    assert other is not None
    assert one.frame.shape == (height, width, 3)
    assert np.abs(one.frame.astype(int) - other.frame).max() <= 1


def test_the_comparison_would_notice() -> None:
    theirs = load("torch", "none", {"cfg_type": "none"})
    for other in (
        {"prompt": "the sea"},
        {"seed": 3},
        {"strength": 0.71},
        {"prompt": "a (red) cat"},
    ):
        ours = load("pocket", "none", {"cfg_type": "none", **other})
        assert worst(ours, theirs, moving_frames(2)) > TOLERANCE, other


def test_fast_precision_looks_like_full() -> None:
    # In bfloat16 where the processor has it; there it may differ by 2 of 100 in the mean.
    fast, full = (load("pocket", kind, {"num_inference_steps": 1}) for kind in ("auto", "none"))
    for frame in moving_frames(3):
        one, other = fast.infer(frame, 0), full.infer(frame, 0)
        assert one is not None
        assert other is not None
        assert np.abs(one.frame.astype(int) - other.frame).mean() < 5
    assert full.device_name == "cpu, OpenVINO f32"


def test_a_frame_s_edge_does_not_darken_where_it_is_padded() -> None:
    engine: Any = load("pocket", "none", {}, width=40, height=40)
    latents = engine.encode([np.full((40, 40, 3), 255, np.uint8)])
    assert latents.shape == (1, 194, 8, 8)
    np.testing.assert_allclose(latents[:, :192], 1, atol=1e-6)


# Prompts -----------------------------------------------------------------------------------------


def test_a_negative_prompt_and_a_weight_act_without_guidance() -> None:
    engine = load("pocket", "none", {"cfg_type": "none", "strength": 0.9})
    frame = noise_frame(0)
    plain = engine.infer_once(frame, {})
    for patch in (
        {"negative_prompt": "the sea"},
        {"prompt": "a (red:1.4) cat"},
        {"prompts": [{"text": "the sea", "weight": 1.0}]},
    ):
        assert (engine.infer_once(frame, patch) != plain).any(), patch
    alike = {"prompts": [{"text": "a red cat", "weight": 2.0}]}
    np.testing.assert_array_equal(engine.infer_once(frame, alike), plain)
    assert (engine.infer_once(frame, {"prompts": []}) == plain).all()


# Pixel cells -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "config",
    [
        {"downscale": 4},
        {"downscale": 8, "phases": True},
        {"downscale": 8, "phases": True, "texture_channels": 12},
    ],
)
@pytest.mark.parametrize("scaling_factor", [1.0, 0.5])
def test_cells_are_those_of_the_torch_autoencoder(
    config: dict[str, Any], scaling_factor: float
) -> None:
    config = {**config, "scaling_factor": scaling_factor, "phase_scale": 1.5}
    cells, vae = pocket.PixelCells.of(config), PixelAutoencoder(**config)
    frames = [noise_frame(at, 64, 32) for at in range(2)]
    pictures = torch.from_numpy(np.stack(frames)).permute(0, 3, 1, 2) / 127.5 - 1
    expected = vae.encode(pictures).latents * scaling_factor
    latents = cells.encode(frames, cells.empty(2, 32, 64))
    assert latents.shape == expected.shape
    np.testing.assert_allclose(latents, expected.numpy(), atol=1e-6)
    for frame, back in zip(frames, cells.decode(latents), strict=True):
        np.testing.assert_array_equal(back, frame)
    assert torch.allclose(vae.decode(expected / scaling_factor).sample, pictures, atol=1e-6)


def test_phases_say_where_a_cell_stands() -> None:
    cells = pocket.PixelCells(8, phases=True, phase_scale=2.0, texture_channels=3)
    latents = cells.empty(1, 24, 16)
    assert latents.shape == (1, 197, 3, 2)
    assert not latents[0, 194:].any()
    assert latents[0, 192].tolist() == [[2, 2], [-2, -2], [2, 2]]
    assert latents[0, 193].tolist() == [[2, -2]] * 3


def test_values_beyond_white_and_black_are_clamped() -> None:
    cells = pocket.PixelCells()
    latents = np.array([-9.0, 9.0], np.float32).repeat(24).reshape(1, 48, 1, 1)
    assert set(np.unique(cells.decode(latents)[0])) == {0, 255}


# What is refused ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("settings", "text"),
    [
        ({"acceleration": "tensorrt"}, "expected auto, none .*openvino, onnx"),
        ({"device": "cuda"}, "device: the pocket engine runs on the processor, got 'cuda'"),
        ({"loras": {"a": 1.0}}, "loras: the pocket engine takes none"),
        ({"width": 100}, "width: expected a multiple of 8"),
        ({"parameters": {"strength": 2}}, "parameters: strength: expected 0..1"),
    ],
)
def test_wrong_settings_are_refused_before_anything_is_loaded(
    settings: dict[str, Any], text: str
) -> None:
    with pytest.raises(ConfigError, match=text):
        PocketEngine(EngineSettings(model="/nowhere", **settings))


@pytest.mark.parametrize(
    ("name", "there", "extra"),
    [("openvino", ["onnx"], "pocket"), ("onnx", ["openvino"], "onnx"), ("auto", [], "pocket")],
)
def test_a_missing_runtime_is_one_line(
    name: str, there: list[str], extra: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(runtimes, "installed", lambda: there)
    with pytest.raises(MissingExtra) as caught:
        PocketEngine(EngineSettings(acceleration=name))
    assert caught.value.extra == extra


def copied(tmp_path: Path) -> Path:
    return copytree(pocket_folder(), tmp_path / "model")


@pytest.mark.parametrize(
    "name",
    [
        "model_index.json",
        "unet/config.json",
        "unet/model.onnx",
        "text_encoder/model.onnx",
        "vae/config.json",
        "scheduler/scheduler_config.json",
        "tokenizer/vocab.json",
    ],
)
def test_a_missing_file_is_named(tmp_path: Path, name: str) -> None:
    folder = copied(tmp_path)
    (folder / name).unlink()
    with pytest.raises(EngineError, match=Path(name).name):
        PocketEngine(EngineSettings(model=str(folder))).load(lambda progress: None)


@pytest.mark.parametrize("acceleration", ["openvino", "onnx"])
def test_a_broken_graph_and_a_cut_off_weight_are_one_line(
    tmp_path: Path, acceleration: str
) -> None:
    engine = PocketEngine(EngineSettings(model=str(copied(tmp_path)), acceleration=acceleration))
    graph = tmp_path / "model" / "unet" / "model.onnx"
    graph.write_bytes(b"not a graph")
    with pytest.raises(EngineError, match=r"model\.onnx cannot be loaded"):
        engine.load(lambda progress: None)
    weights = tmp_path / "model" / "text_encoder" / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-100])
    with pytest.raises(EngineError, match="is cut off"):
        engine.load(lambda progress: None)


def test_another_kind_of_model_is_sent_to_the_other_engine(tmp_path: Path) -> None:
    folder = copied(tmp_path)
    (folder / "vae" / "config.json").write_text('{"_class_name": "AutoencoderKL"}')
    with pytest.raises(EngineError, match="choose the engine stream-batch"):
        PocketEngine(EngineSettings(model=str(folder))).load(lambda progress: None)
    with pytest.raises(EngineError, match="there is no folder"):
        PocketEngine(EngineSettings(model="someone/model")).load(lambda progress: None)


def test_a_call_that_fails_costs_a_frame_and_not_the_engine() -> None:
    engine: Any = load("pocket", "none", {"num_inference_steps": 1})
    whole = engine.model.programs

    def fail(*inputs: Any) -> Any:
        raise RuntimeError("std::bad_alloc")

    engine.model.programs = defaultdict(lambda: fail)
    with pytest.raises(EngineError, match="out of memory while computing 1 frame"):
        engine.infer(noise_frame(0), 0)
    engine.model.programs = whole
    assert engine.infer(noise_frame(1), 1) is not None
    assert engine.counters()["frames_failed"] == 1


# Threads -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("cores", "asked", "expected"),
    [(1, None, 1), (2, None, 2), (8, None, 7), (8, "3", 3), (8, "4,2", 4), (8, "many", 7)],
)
def test_threads_leave_room(
    cores: int, asked: str | None, expected: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(runtimes, "available_cores", lambda: cores)
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    if asked is not None:
        monkeypatch.setenv("OMP_NUM_THREADS", asked)
    assert runtimes.inference_threads() == expected


# Which engine auto is ----------------------------------------------------------------------------


def test_auto_takes_the_pocket_engine_for_its_models(monkeypatch: pytest.MonkeyPatch) -> None:
    model = str(pocket_folder())
    assert open_engine(EngineSettings(model=model)).name == "pocket"
    assert open_engine(EngineSettings(model=model, acceleration="onnx")).name == "pocket"
    assert open_engine(EngineSettings(model=model, engine="stream-batch")).name == "stream-batch"
    assert open_engine(EngineSettings(model="stabilityai/sd-turbo")).name == "stream-batch"
    monkeypatch.setattr(runtimes, "installed", list)
    assert open_engine(EngineSettings(model=model)).name == "stream-batch"
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    monkeypatch.setattr("dreamrelay.engines.catalog.find_spec", lambda name: None)
    with pytest.raises(MissingExtra, match=r'pip install "dreamrelay\[pocket\]"'):
        open_engine(EngineSettings(model=model))


@pytest.mark.parametrize("acceleration", ["auto", "onnx"])
def test_pictures_without_torch(acceleration: str) -> None:
    code = (
        "import sys\n"
        "for name in ('torch', 'diffusers', 'transformers', 'safetensors', 'huggingface_hub'):\n"
        "    sys.modules[name] = None\n"
        "import numpy as np\n"
        "import dreamrelay.cli, dreamrelay.demo, dreamrelay.worker, dreamrelay.bridge\n"
        "from dreamrelay.engines import EngineSettings, open_engine\n"
        f"settings = EngineSettings(model={str(pocket_folder())!r}, width=64, height=64,\n"
        f"                          acceleration={acceleration!r})\n"
        "engine = open_engine(settings)\n"
        "engine.load(lambda progress: None)\n"
        "picture = engine.infer(np.zeros((64, 64, 3), np.uint8), 0).frame\n"
        "print(engine.name, picture.shape)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == ["pocket", "(64,", "64,", "3)"]
