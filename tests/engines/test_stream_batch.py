"""The stream-batch engine: what goes beyond what every engine must do (see conformance)."""

import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from dreamrelay.engines import stream_batch
from dreamrelay.engines.devices import Device
from dreamrelay.engines.parameters import StreamBatchParameters
from dreamrelay.engines.ports import EngineSettings, Progress, Result
from dreamrelay.engines.stream_batch import StreamBatchEngine
from dreamrelay.errors import ConfigError, EngineError, MissingExtra
from tests.engines.pictures import moving_frames, noise_frame
from tests.engines.tiny_models import save_model


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_model(tmp_path_factory.mktemp("stream_batch"))


def load(
    folder: Path, parameters: dict[str, Any] | None = None, **settings: Any
) -> StreamBatchEngine:
    engine = StreamBatchEngine(
        EngineSettings(
            model=str(folder),
            device="cpu",
            acceleration="none",
            parameters={"strength": 0.8, **(parameters or {})},
            **settings,
        )
    )
    engine.load(lambda progress: None)
    return engine


def stream(engine: StreamBatchEngine, count: int) -> list[Result[int] | None]:
    return [engine.infer(frame, at) for at, frame in enumerate(moving_frames(count))]


def tokens(results: list[Result[int] | None]) -> list[int]:
    return [result.token for result in results if result is not None]


def assert_alike(one: Any, other: Any) -> None:
    """Equal up to the rounding of a last bit."""
    assert np.abs(one.astype(np.int64) - other.astype(np.int64)).max() <= 1


# Settings ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("settings", "text"),
    [
        ({"acceleration": "warp"}, "acceleration: expected one of auto, none, sdpa, xformers"),
        ({"device": "cpu", "acceleration": "tensorrt"}, "tensorrt needs a CUDA card"),
        ({"width": 100}, "width: expected a multiple of 8 from 8 to 2048, got 100"),
        ({"height": 0}, "height: expected a multiple of 8"),
        ({"frame_buffer_size": 0}, "frame_buffer_size: expected 1..16, got 0"),
        ({"device": "tpu"}, "device: expected one of auto, cuda, mps, cpu, got 'tpu'"),
        ({"parameters": {"strength": 2}}, "parameters: strength: expected 0..1, got 2"),
        ({"parameters": {"speed": 2}}, "parameters: speed: unknown"),
    ],
)
def test_wrong_settings_are_refused_before_anything_is_loaded(
    settings: dict[str, Any], text: str
) -> None:
    with pytest.raises(ConfigError, match=text):
        StreamBatchEngine(EngineSettings(model="/nowhere", **settings))


def test_loras_need_a_package_that_may_be_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stream_batch, "can_read_loras", lambda: False)
    with pytest.raises(MissingExtra, match=r'pip install "dreamrelay\[worker\]"'):
        StreamBatchEngine(EngineSettings(loras={"a.safetensors": 1.0}))
    StreamBatchEngine(EngineSettings())


def test_half_precision_looks_like_full(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    parameters = {"num_inference_steps": 2, "cfg_type": "full", "guidance_scale": 1.5}
    full = load(folder, parameters)
    half = Device(torch.device("cpu"), torch.bfloat16, "cpu")
    monkeypatch.setattr(stream_batch, "choose_device", lambda *_, **__: half)
    engine = load(folder, parameters)
    for frame in moving_frames(3):
        expected, found = full.infer(frame, 0), engine.infer(frame, 0)
        assert expected is not None
        assert found is not None
        assert np.abs(expected.frame.astype(int) - found.frame).mean() < 4
    assert engine.model.unet.dtype is torch.bfloat16


def test_auto_says_in_a_line_what_it_chose(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    engine = StreamBatchEngine(EngineSettings(model=str(folder), device="cpu"))
    with caplog.at_level(logging.INFO):
        engine.load(lambda progress: None)
    lines = [record.getMessage() for record in caplog.records if "auto" in record.getMessage()]
    assert len(lines) == 1
    assert lines[0].startswith("acceleration: auto chose ")
    assert engine.infer_once(noise_frame(0), {}).shape == (64, 64, 3)


def test_another_size_than_that_of_the_model(folder: Path) -> None:
    engine = load(folder, width=96, height=72)
    result = engine.infer(noise_frame(0, 96, 72), 0)
    assert result is not None
    assert result.frame.shape == (72, 96, 3)
    with pytest.raises(EngineError, match="expected a frame of 72x96x3 uint8, got 64x64x3 uint8"):
        engine.infer(noise_frame(0), 1)
    with pytest.raises(EngineError, match="got 72x96x3 float32"):
        engine.infer(np.zeros((72, 96, 3), dtype=np.float32), 1)


# The way of a frame through the batch ------------------------------------------------------------


def test_pictures_come_from_the_first_frame_on_and_in_order(folder: Path) -> None:
    engine = load(folder, {"num_inference_steps": 3, "guidance_scale": 1.5})
    results = stream(engine, 7)
    assert tokens(results) == [0, 0, 0, 1, 2, 3, 4]
    for result in results:
        assert result is not None
        assert_alike(result.frame, engine.infer_once(moving_frames(7)[result.token], {}))


@pytest.mark.parametrize("steps", [1, 2])
def test_several_frames_a_call_come_out_one_by_one(folder: Path, steps: int) -> None:
    engine = load(folder, {"num_inference_steps": steps}, frame_buffer_size=3)
    results = stream(engine, 13)
    assert None not in results
    first = [0, 0, 0] * steps
    assert tokens(results) == [*first, *range(1, 14 - len(first))]
    for result in results:
        assert result is not None
        assert_alike(result.frame, engine.infer_once(moving_frames(13)[result.token], {}))


def test_frames_that_wait_for_others_are_kept(folder: Path) -> None:
    engine = load(folder, {"num_inference_steps": 1}, frame_buffer_size=2)
    frames = moving_frames(3)
    memory = frames[0].copy()
    for at, frame in enumerate(frames):
        memory[:] = frame
        result = engine.infer(memory, at)
    assert result is not None
    assert result.token == 1
    assert_alike(result.frame, engine.infer_once(frames[1], {}))


@pytest.mark.parametrize("size", [1, 2])
def test_without_the_denoising_batch_a_picture_is_that_of_its_frame(
    folder: Path, size: int
) -> None:
    parameters = {"num_inference_steps": 3, "cfg_type": "initialize", "guidance_scale": 1.5}
    engine = load(folder, parameters, use_denoising_batch=False, frame_buffer_size=size)
    results = stream(engine, 6)
    assert tokens(results) == ([0, 1, 2, 3, 4, 5] if size == 1 else [0, 0, 1, 2, 3, 4])
    for result in results:
        assert result is not None
        assert_alike(result.frame, engine.infer_once(moving_frames(6)[result.token], {}))


def test_warm_up_leaves_nothing_behind(folder: Path) -> None:
    heard: list[Progress] = []
    engine = StreamBatchEngine(EngineSettings(model=str(folder), device="cpu"))
    engine.load(heard.append)
    assert [progress.stage for progress in heard].count("warming") == 2
    assert engine.stream.empty
    assert engine.counters()["frames_inferred"] == 0


# Prompts -----------------------------------------------------------------------------------------


def test_prompts_are_encoded_once(folder: Path) -> None:
    engine = load(folder, {"prompt": "a cat", "num_inference_steps": 1})
    frame = noise_frame(0)
    for seed, prompt in enumerate(("a dog", "a cat", "a dog", "a cat")):
        engine.apply({"prompt": prompt, "seed": seed})
        engine.infer(frame, 0)
    counters = engine.counters()
    assert counters["prompts_encoded"] == 2
    assert counters["prompt_cache_hits"] >= 3


def test_turning_back_to_a_prompt_is_counted_while_its_plan_is_kept_and_frames_are_not(
    folder: Path,
) -> None:
    engine = load(folder, {"prompt": "a cat", "num_inference_steps": 1})
    frame = noise_frame(0)
    for prompt in ("a dog", "a cat", "a dog"):
        before = engine.counters()["prompt_cache_hits"]
        engine.apply({"prompt": prompt})
        for _ in range(3):
            engine.infer(frame, 0)
    counters = engine.counters()
    assert counters["prompts_encoded"] == 2
    assert counters["prompt_cache_hits"] == before + 1


def test_a_prompt_of_any_length_and_letters(folder: Path) -> None:
    engine = load(folder, {"num_inference_steps": 1})
    frame = noise_frame(0)
    pictures = [
        engine.infer_once(frame, {"prompt": prompt, "strength": 1})
        for prompt in ("", "a cat " * 300, "猫と海 🐈\n\x00", "<|endoftext|>")
    ]
    assert all(picture.shape == (64, 64, 3) for picture in pictures)


def test_single_pictures_between_frames_do_not_make_the_stream_think_anew(folder: Path) -> None:
    engine = load(folder)
    frame = noise_frame(0)
    plans = []
    for _ in range(4):
        engine.infer(frame, 0)
        engine.infer_once(frame, {"prompt": "a red cat"})
        plans.append(engine.plan(StreamBatchParameters(**engine.parameters), frames=1))
    assert all(plan is plans[0] for plan in plans)


def test_the_negative_prompt_acts_where_it_is_said_to(folder: Path) -> None:
    engine = load(folder, {"guidance_scale": 3.0, "strength": 0.9})
    frame = noise_frame(0)
    for cfg_type, acts in (("none", False), ("self", False), ("initialize", True), ("full", True)):
        one, other = (
            engine.infer_once(frame, {"cfg_type": cfg_type, "negative_prompt": text})
            for text in ("", "the sea")
        )
        assert (np.abs(one.astype(int) - other).max() > 0) == acts, cfg_type


# The similar-image filter ------------------------------------------------------------------------

FILTER = {
    "enable_similar_image_filter": True,
    "similar_image_filter_threshold": 0.0,
    "similar_image_filter_max_skip_frame": 1000,
}


def test_a_frame_like_the_last_one_repeats_the_picture(folder: Path) -> None:
    engine = load(folder, {**FILTER, "num_inference_steps": 1})
    still = noise_frame(0)
    first, *others = [engine.infer(still, at) for at in range(6)]
    assert first is not None
    for at, result in enumerate(others, start=1):
        assert result is not None
        assert (result.token, result.repeated) == (at, True)
        np.testing.assert_array_equal(result.frame, first.frame)
    assert engine.counters()["frames_skipped"] == 5
    assert engine.counters()["frames_inferred"] == 1


def test_a_changed_parameter_is_seen_though_the_picture_stands_still(folder: Path) -> None:
    engine = load(folder, {**FILTER, "num_inference_steps": 1})
    still = noise_frame(0)
    engine.infer(still, 0)
    engine.infer(still, 1)
    engine.apply({"seed": 99})
    result = engine.infer(still, 2)
    assert result is not None
    assert not result.repeated
    assert_alike(result.frame, engine.infer_once(still, {}))


@pytest.mark.parametrize("size", [1, 3])
def test_tokens_never_go_back_when_frames_are_skipped(folder: Path, size: int) -> None:
    parameters = {**FILTER, "similar_image_filter_threshold": 0.4, "num_inference_steps": 3}
    engine = load(folder, parameters, frame_buffer_size=size)
    results = [result for result in stream(engine, 60) if result is not None]
    shown = tokens(list(results))
    assert shown == sorted(shown)
    assert any(result.repeated for result in results)
    assert not all(result.repeated for result in results[1:])


def test_the_filter_throws_the_same_dice_for_a_seed(folder: Path) -> None:
    parameters = {**FILTER, "similar_image_filter_threshold": 0.4, "seed": 5}

    def skipped() -> list[bool]:
        return [result.repeated for result in stream(load(folder, parameters), 40) if result]

    assert skipped() == skipped()


# When it goes wrong ------------------------------------------------------------------------------


class Failing:
    """Makes the U-Net fail while ``error`` is set."""

    def __init__(self, engine: StreamBatchEngine) -> None:
        self.error: Exception | None = None
        self.heard: list[int] = []
        self._unet = engine.model.unet
        engine.model.unet = self

    def __call__(self, *arguments: Any, **options: Any) -> Any:
        if self.error is not None:
            raise self.error
        self.heard.append(len(arguments[0]))
        return self._unet(*arguments, **options)


@pytest.fixture
def engine(folder: Path) -> Iterator[StreamBatchEngine]:
    engine = load(folder, {"num_inference_steps": 2})
    yield engine
    engine.close()


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB"),
        RuntimeError("[enforce fail at alloc_cpu.cpp:117] DefaultCPUAllocator: not enough memory"),
        MemoryError(),
    ],
)
def test_out_of_memory_costs_a_frame_and_not_the_engine(
    engine: StreamBatchEngine, error: Exception
) -> None:
    unet = Failing(engine)
    frames = moving_frames(8)
    for at in range(4):
        engine.infer(frames[at], at)
    unet.error = error
    with pytest.raises(EngineError, match=r"out of memory while computing 1 frame.* from now on"):
        engine.infer(frames[4], 4)
    with pytest.raises(EngineError, match="out of memory"):
        engine.infer_once(frames[4], {})
    unet.error = None
    results = [engine.infer(frames[at], at) for at in (5, 6, 7)]
    assert tokens(results) == [3, 5, 6]
    assert results[1] is not None
    assert_alike(results[1].frame, engine.infer_once(frames[5], {}))
    assert engine.counters()["frames_failed"] == 2


@pytest.mark.parametrize("vae", ["tiny", "full"])
def test_little_memory_is_answered_by_smaller_pieces_and_then_refused(
    tmp_path: Path, vae: Any
) -> None:
    engine = load(save_model(tmp_path / "model", "sd15", vae), {"num_inference_steps": 3})
    engine.apply({"width": 384, "height": 320, "cfg_type": "full", "guidance_scale": 2.0})
    unet = Failing(engine)
    rows: list[int] = []
    frame = noise_frame(0, 384, 320)
    before = engine.infer_once(frame, {})
    for way in ("one after the other", "in tiles", "choose a smaller size"):
        unet.error = MemoryError()
        with pytest.raises(EngineError, match=way):
            engine.infer(frame, 0)
        unet.error = None
        unet.heard = rows
        result = engine.infer(frame, 1)
        assert result is not None
        assert set(rows) == {1}, "one row a call"
        # Tiles see less of what is around them.
        far = np.abs(result.frame.astype(int) - before)
        assert far.mean() <= (0.1 if way == "one after the other" else 12)
    assert engine.counters()["frames_failed"] == 3


def test_out_of_memory_at_the_first_frame(folder: Path) -> None:
    engine = load(folder, frame_buffer_size=2)
    unet = Failing(engine)
    unet.error = MemoryError()
    with pytest.raises(EngineError, match="out of memory"):
        engine.infer(noise_frame(0), 0)
    unet.error = None
    result = engine.infer(noise_frame(1), 1)
    assert result is not None
    assert result.token == 1


def test_a_frame_that_failed_is_not_what_others_are_like(folder: Path) -> None:
    engine = load(folder, {**FILTER, "num_inference_steps": 1})
    engine.infer(noise_frame(0), 0)
    unet = Failing(engine)
    unet.error = MemoryError()
    engine.apply({"seed": 5})
    with pytest.raises(EngineError):
        engine.infer(noise_frame(1), 1)
    unet.error = None
    result = engine.infer(noise_frame(1), 2)
    assert result is not None
    assert not result.repeated


def test_out_of_memory_in_the_warm_up(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*told: Any) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(StreamBatchEngine, "_predict", fail)
    with pytest.raises(EngineError, match="out of memory while warming up"):
        load(folder)


def test_another_failure_of_torch_is_named(engine: StreamBatchEngine) -> None:
    Failing(engine).error = RuntimeError("cuDNN error:\nCUDNN_STATUS_NOT_INITIALIZED")
    with pytest.raises(EngineError, match="failed: cuDNN error: CUDNN_STATUS_NOT_INITIALIZED"):
        engine.infer(noise_frame(0), 0)


def test_an_engine_that_was_closed_can_be_loaded_again(folder: Path) -> None:
    engine = load(folder, {"prompt": "a cat"})
    frame = noise_frame(0)
    before = engine.infer_once(frame, {})
    engine.apply({"seed": 3})
    engine.apply({"seed": 2})
    engine.close()
    with pytest.raises(EngineError, match="the engine has no model"):
        engine.infer(frame, 0)
    engine.load(lambda progress: None)
    np.testing.assert_array_equal(engine.infer_once(frame, {}), before)
