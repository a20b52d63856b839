"""The package as an engine: ours computes the same pictures; what it cannot do is said."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from dreamrelay.engines import EngineSettings, open_engine, streamdiffusion_package
from dreamrelay.engines.stream_batch import StreamBatchEngine
from dreamrelay.engines.streamdiffusion_package import StreamDiffusionEngine
from dreamrelay.errors import ConfigError, EngineError, ParameterError
from tests.engines.pictures import moving_frames
from tests.engines.tiny_models import Kind, save_model

PROMPT: dict[str, Any] = {
    "prompt": "a red cat",
    "negative_prompt": "the sea",
    "guidance_scale": 1.5,
    "delta": 0.7,
}


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    base = tmp_path_factory.mktemp("package")
    kinds: tuple[Kind, ...] = ("sd15", "sdxl")
    return {kind: save_model(base / kind, kind) for kind in kinds}


def load(folder: Path, engine: str = "streamdiffusion", **parameters: Any) -> StreamBatchEngine:
    settings = EngineSettings(
        engine=engine, model=str(folder), device="cpu", acceleration="none", parameters=parameters
    )
    opened = open_engine(settings)
    assert isinstance(opened, StreamBatchEngine)
    opened.load(lambda progress: None)
    return opened


@pytest.mark.parametrize(
    ("kind", "parameters"),
    [
        ("sd15", {"t_index_list": [22, 32, 45], "cfg_type": "self"}),
        ("sd15", {"t_index_list": [10, 40], "cfg_type": "initialize"}),
        ("sd15", {"t_index_list": [10, 40], "cfg_type": "full", "do_add_noise": False}),
        ("sd15", {"t_index_list": [0], "cfg_type": "self"}),
        ("sdxl", {"strength": 0.6, "num_inference_steps": 2, "cfg_type": "full"}),
    ],
    ids=str,
)
def test_the_pictures_are_ours(
    folders: dict[str, Path], kind: str, parameters: dict[str, Any]
) -> None:
    theirs = load(folders[kind], **PROMPT, **parameters)
    ours = load(folders[kind], "stream-batch", **PROMPT, **parameters)
    assert isinstance(theirs, StreamDiffusionEngine)
    for at, frame in enumerate(moving_frames(8)):
        left, right = theirs.infer(frame, at), ours.infer(frame, at)
        assert left is not None
        assert right is not None
        assert left.token == right.token
        assert np.abs(left.frame.astype(int) - right.frame).max() <= 1
    single = [engine.infer_once(frame, {"seed": 9}).astype(int) for engine in (theirs, ours)]
    assert np.abs(single[0] - single[1]).max() <= 1


def test_a_call_that_fails_leaves_the_stream_as_it_was(
    folders: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    parameters = {**PROMPT, "t_index_list": [10, 30, 40]}
    one, other = load(folders["sd15"], **parameters), load(folders["sd15"], **parameters)
    frames = moving_frames(6)
    for at in range(4):
        one.infer(frames[at], at)
        other.infer(frames[at], at)

    def fail(*told: Any) -> None:
        raise MemoryError

    with monkeypatch.context() as patch:
        patch.setattr(one.denoiser, "predict", fail)
        with pytest.raises(EngineError, match="out of memory"):
            one.infer(frames[5], 5)
    left, right = one.infer(frames[4], 6), other.infer(frames[4], 6)
    assert left is not None
    assert right is not None
    assert left.token == right.token
    np.testing.assert_array_equal(left.frame, right.frame)


def test_what_the_package_cannot_do_is_said(
    folders: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(ConfigError, match="expected 1, or the engine stream-batch"):
        open_engine(EngineSettings(engine="streamdiffusion", model="a/b", frame_buffer_size=2))
    engine = load(folders["sd15"])
    assert "renoise" not in engine.schema()["properties"]
    with pytest.raises(ParameterError, match="start the worker with --engine=stream-batch"):
        engine.apply({"renoise": "ode"})
    folder = save_model(tmp_path / "v")
    path = folder / "scheduler" / "scheduler_config.json"
    config = {**json.loads(path.read_text("utf-8")), "prediction_type": "v_prediction"}
    path.write_text(json.dumps(config), "utf-8")
    with pytest.raises(EngineError, match="knows epsilon only: choose the engine stream-batch"):
        load(folder)
    monkeypatch.setattr(streamdiffusion_package, "find_spec", lambda name: None)
    with pytest.raises(ConfigError, match="pip install --no-deps streamdiffusion==0"):
        open_engine(EngineSettings(engine="streamdiffusion", model="a/b"))
