"""Models in one file: the same pictures as from the folder, and what is said when settings lack."""

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from dreamrelay.engines import model_hub
from dreamrelay.engines.ports import EngineSettings
from dreamrelay.engines.stream_batch import StreamBatchEngine
from dreamrelay.errors import EngineError
from tests.engines.pictures import noise_frame
from tests.engines.single_files import save_single_file
from tests.engines.tiny_models import Kind, save_model


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_model(tmp_path_factory.mktemp("whole") / "model", "sd15", "full")


@pytest.fixture
def file(folder: Path, tmp_path: Path) -> Path:
    """The model as one file, without settings beside it."""
    return save_single_file(tmp_path / "anime.safetensors", folder)


def save_settings(folder: Path, to: Path) -> None:
    """What of a folder is not weights."""
    shutil.copytree(folder, to, ignore=shutil.ignore_patterns("*.safetensors"))


def load(model: Path) -> StreamBatchEngine:
    settings = EngineSettings(model=str(model), device="cpu", acceleration="none", offline=True)
    engine = StreamBatchEngine(settings)
    engine.load(lambda progress: None)
    return engine


def why_not(model: Path) -> str:
    with pytest.raises(EngineError) as caught:
        load(model)
    return str(caught.value)


@pytest.mark.parametrize("beside", ["anime", "config"])
def test_a_file_makes_the_pictures_of_its_folder(folder: Path, file: Path, beside: str) -> None:
    save_settings(folder, file.parent / beside)
    patch = {"prompt": "a red cat", "strength": 0.9}
    np.testing.assert_array_equal(
        load(file).infer_once(noise_frame(0), patch), load(folder).infer_once(noise_frame(0), patch)
    )


@pytest.mark.parametrize(
    ("kind", "prediction", "base"),
    [
        ("sd21", "epsilon", "stabilityai/stable-diffusion-2-1"),
        ("sd21", "v_prediction", "stabilityai/stable-diffusion-2-1"),
        ("sdxl", "epsilon", "stabilityai/stable-diffusion-xl-base-1.0"),
        ("sdxl", "v_prediction", "stabilityai/stable-diffusion-xl-base-1.0"),
    ],
)
def test_each_kind_in_one_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: Kind, prediction: str, base: str
) -> None:
    whole = save_model(tmp_path / "whole", kind, "full")
    scheduler = whole / "scheduler" / "scheduler_config.json"
    config = json.loads(scheduler.read_text("utf-8"))
    scheduler.write_text(json.dumps({**config, "prediction_type": prediction}), "utf-8")
    path = save_single_file(tmp_path / "alone" / "model.safetensors", whole, kind)
    asked: list[str] = []

    def model_folder(model: str, **options: Any) -> Path:
        asked.append(model)
        return whole

    monkeypatch.setattr(model_hub, "model_folder", model_folder)
    settings = {"cfg_type": "full", "guidance_scale": 2.0, "negative_prompt": "the sea"}
    patch = {"prompt": "a red cat", "strength": 0.9, "num_inference_steps": 2, **settings}
    made = load(path).infer_once(noise_frame(0), patch)
    assert asked == [base]
    np.testing.assert_array_equal(made, load(whole).infer_once(noise_frame(0), patch))
    assert made.std() > 5
    other = "epsilon" if prediction == "v_prediction" else "v_prediction"
    scheduler.write_text(json.dumps({**config, "prediction_type": other}), "utf-8")
    assert (load(path).infer_once(noise_frame(0), patch) != made).any()


def test_settings_come_from_the_hub(
    folder: Path, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[tuple[str, bool]] = []

    def model_folder(model: str, *, weights: bool, **options: Any) -> Path:
        asked.append((model, weights))
        return folder

    monkeypatch.setattr(model_hub, "model_folder", model_folder)
    assert load(file).infer_once(noise_frame(0), {}).shape == (64, 64, 3)
    assert asked == [("stable-diffusion-v1-5/stable-diffusion-v1-5", False)]


def test_settings_that_cannot_be_had(file: Path) -> None:
    text = why_not(file)
    assert "anime.safetensors has no settings beside it: expected a folder anime with" in text
    assert "was not downloaded yet" in text


def test_what_is_no_model(tmp_path: Path, file: Path) -> None:
    lora = tmp_path / "lora.safetensors"
    save_file({"lora_unet_a.lora_down.weight": torch.zeros(2, 2)}, lora)
    assert "a LoRA goes with --lora" in why_not(lora)
    (tmp_path / "notes.txt").write_text("a cat", encoding="utf-8")
    assert "expected a .safetensors file or a folder" in why_not(tmp_path / "notes.txt")
    file.write_bytes(file.read_bytes()[:-100])
    assert "is cut off" in why_not(file)


def test_settings_of_another_model(folder: Path, file: Path) -> None:
    save_settings(folder, file.parent / "anime")
    config = file.parent / "anime" / "unet" / "config.json"
    config.write_text(config.read_text("utf-8").replace("32", "64"), encoding="utf-8")
    assert str(file) in why_not(file)
