"""Loading: what is wrong with a model is said in one line, with the next step."""

import json
import logging
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import UNet2DConditionModel
from safetensors.torch import load_file, save_file

from dreamrelay.engines import model_hub, pocket
from dreamrelay.engines.ports import EngineSettings, Progress
from dreamrelay.engines.stream_batch import StreamBatchEngine
from dreamrelay.errors import ClosedError, EngineError
from tests.engines.pictures import noise_frame
from tests.engines.tiny_models import autoencoder, save_model


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_model(tmp_path_factory.mktemp("loading") / "model", "sd15", "full")


@pytest.fixture
def folder(whole: Path, tmp_path: Path) -> Path:
    """A model that a test may break."""
    return Path(shutil.copytree(whole, tmp_path / "model"))


def load(model: object, **settings: Any) -> StreamBatchEngine:
    engine = StreamBatchEngine(
        EngineSettings(
            model=str(model), device="cpu", acceleration="none", offline=True, **settings
        )
    )
    engine.load(lambda progress: None)
    return engine


def why_not(model: object, **settings: Any) -> str:
    """The one line that loading ends with."""
    with pytest.raises(EngineError) as caught:
        load(model, **settings)
    text = str(caught.value)
    assert "\n" not in text
    return text


def edit(path: Path, **changes: Any) -> None:
    content = json.loads(path.read_text(encoding="utf-8"))
    path.write_text(json.dumps({**content, **changes}), encoding="utf-8")


# Where a model is looked for ---------------------------------------------------------------------


def test_a_folder_that_is_not_there(tmp_path: Path) -> None:
    text = why_not(tmp_path / "nothing")
    assert "there is no folder" in text
    assert "expected pocket, a folder in diffusers format, a .safetensors file or a hub" in text


def test_a_hub_id_that_was_never_downloaded() -> None:
    assert why_not("nobody/nothing").startswith("nobody/nothing was not downloaded yet")


def test_a_pickled_file(tmp_path: Path) -> None:
    (tmp_path / "model.ckpt").touch()
    assert "model.ckpt is a pickle" in why_not(tmp_path / "model.ckpt")


# Folders that are not whole ----------------------------------------------------------------------


def test_a_folder_of_something_else(tmp_path: Path) -> None:
    text = why_not(tmp_path)
    assert "is no model in diffusers format: expected model_index.json in it" in text


@pytest.mark.parametrize("part", ["unet", "vae", "text_encoder", "tokenizer", "scheduler"])
def test_a_part_that_is_missing(folder: Path, part: str) -> None:
    shutil.rmtree(folder / part)
    assert f"{folder} is not complete: expected " in why_not(folder)


def test_a_part_without_weights(folder: Path) -> None:
    next((folder / "unet").glob("*.safetensors")).unlink()
    assert "unet has no weights: expected diffusion_pytorch_model.safetensors" in why_not(folder)


@pytest.mark.parametrize("part", ["unet", "vae", "text_encoder"])
def test_pickled_weights_are_refused(folder: Path, part: str) -> None:
    next((folder / part).glob("*.safetensors")).unlink()
    (folder / part / "pytorch_model.bin").write_bytes(b"\x80\x04.")
    text = why_not(folder)
    assert (
        "pytorch_model.bin is a pickle, which can run code when it is read, and is refused" in text
    )
    assert "choose a model with .safetensors weights" in text


def cut_off(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-100])


def made_empty(path: Path) -> None:
    path.write_bytes(b"")


def with_a_broken_header(path: Path) -> None:
    path.write_bytes((40).to_bytes(8, "little") + b"{" * 200)


def of_another_kind(path: Path) -> None:
    path.write_bytes(b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 1\n")


def with_a_list_for_a_header(path: Path) -> None:
    path.write_bytes((4).to_bytes(8, "little") + b"[{}]")


def with_odd_offsets(path: Path) -> None:
    header = json.dumps({"a": {"data_offsets": [0, "end"]}}).encode()
    path.write_bytes(len(header).to_bytes(8, "little") + header)


def with_a_deep_header(path: Path) -> None:
    path.write_bytes((200_000).to_bytes(8, "little") + b"[" * 200_000)


@pytest.mark.parametrize(
    ("spoil", "part"),
    [
        (cut_off, "unet"),
        (cut_off, "vae"),
        (cut_off, "text_encoder"),
        (made_empty, "unet"),
        (with_a_broken_header, "unet"),
        (of_another_kind, "text_encoder"),
        (with_a_list_for_a_header, "unet"),
        (with_odd_offsets, "unet"),
        (with_a_deep_header, "unet"),
    ],
)
def test_broken_weights(folder: Path, part: str, spoil: Callable[[Path], None]) -> None:
    path = next((folder / part).glob("*.safetensors"))
    spoil(path)
    text = why_not(folder)
    assert text.startswith(str(path))
    assert "delete it and download the model again" in text


def test_weights_that_lack_some(folder: Path) -> None:
    path = next((folder / "text_encoder").glob("*.safetensors"))
    weights = load_file(path)
    weights.pop(sorted(weights)[0])
    save_file(weights, path, metadata={"format": "pt"})
    assert "text_encoder lacks 1 of its weights" in why_not(folder)


def test_weights_that_do_not_fit(folder: Path) -> None:
    edit(folder / "unet" / "config.json", block_out_channels=[32, 64])
    text = why_not(folder)
    assert "unet cannot be loaded" in text
    assert len(text) < 700


@pytest.mark.parametrize("name", ["model_index.json", "scheduler/scheduler_config.json"])
@pytest.mark.parametrize("content", [b"{", b"\xff\xfe", b"[]"])
def test_broken_json(folder: Path, name: str, content: bytes) -> None:
    (folder / name).write_bytes(content)
    text = why_not(folder)
    assert name.split("/")[-1] in text
    assert "download the model again" in text


# Models that this engine is not for --------------------------------------------------------------


def test_another_pipeline(folder: Path) -> None:
    edit(folder / "model_index.json", _class_name="StableDiffusion3Pipeline", unet=[None, None])
    assert "StableDiffusion3Pipeline, which this engine cannot run: expected" in why_not(folder)


def test_another_autoencoder(folder: Path) -> None:
    edit(folder / "vae" / "config.json", _class_name="AutoencoderDC")
    assert "AutoencoderDC; expected one of AutoencoderKL, AutoencoderTiny" in why_not(folder)


def test_another_prediction_type(folder: Path) -> None:
    edit(folder / "scheduler" / "scheduler_config.json", prediction_type="flow")
    assert "prediction_type 'flow'; expected epsilon, v_prediction or sample" in why_not(folder)


def test_a_model_for_inpainting(folder: Path) -> None:
    unet = UNet2DConditionModel.from_pretrained(folder / "unet")
    config = {**unet.config, "in_channels": 9}
    UNet2DConditionModel.from_config(config).save_pretrained(folder / "unet")
    assert "takes 9 channels and the autoencoder makes 4" in why_not(folder)


def test_parts_of_different_models(folder: Path) -> None:
    unet = UNet2DConditionModel.from_pretrained(folder / "unet")
    config = {**unet.config, "cross_attention_dim": 16}
    UNet2DConditionModel.from_config(config).save_pretrained(folder / "unet")
    assert "takes prompts of width 16 and the text encoder makes 32" in why_not(folder)


def test_defaults_that_are_no_parameters(folder: Path) -> None:
    (folder / "defaults.json").write_text('{"strength": 7}', encoding="utf-8")
    assert "defaults.json of" in why_not(folder)
    (folder / "defaults.json").write_text('{"width": "big"}', encoding="utf-8")
    assert "says width 'big'; expected a number of pixels" in why_not(folder)


# The pocket model --------------------------------------------------------------------------------


def test_a_pocket_model_that_was_changed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    copy = Path(shutil.copytree(pocket.model_folder(), tmp_path / "pocket"))
    path = next((copy / "unet").glob("*.safetensors"))
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(bytes(content))
    monkeypatch.setattr(pocket, "model_folder", lambda: copy)
    assert "does not match its checksum" in why_not("pocket")


# What is heard while loading, and what suits a model ---------------------------------------------


def test_each_part_is_reported_and_a_report_can_stop_the_work(whole: Path) -> None:
    heard: list[Progress] = []
    engine = StreamBatchEngine(EngineSettings(model=str(whole), device="cpu"))
    engine.load(heard.append)
    texts = [progress.text.split(",")[0] for progress in heard if progress.stage == "loading"]
    assert texts == ["tokenizer", "text encoder", "unet", "vae"]
    assert heard[-1].stage == "warming"
    fractions = [progress.fraction or 0.0 for progress in heard if progress.stage == "loading"]
    assert fractions == sorted(fractions)

    def stop(progress: Progress) -> None:
        if progress.text.startswith("unet"):
            raise ClosedError("stopped")

    engine = StreamBatchEngine(EngineSettings(model=str(whole), device="cpu"))
    with pytest.raises(ClosedError):
        engine.load(stop)
    with pytest.raises(EngineError, match="the engine has no model"):
        engine.infer_once(noise_frame(0), {})


def test_defaults_of_a_folder_go_below_what_was_asked_for(folder: Path) -> None:
    defaults = {"prompt": "the sea", "strength": 0.3, "width": 96, "note": "not a parameter"}
    (folder / "defaults.json").write_text(json.dumps(defaults), encoding="utf-8")
    engine = load(folder, parameters={"strength": 0.4})
    assert (engine.width, engine.height) == (96, 64)
    assert engine.parameters["prompt"] == "the sea"
    assert engine.parameters["strength"] == 0.4


def test_a_turbo_model_takes_one_step_without_guidance(folder: Path) -> None:
    turbo = folder.rename(folder.with_name("some-turbo"))
    engine = load(turbo)
    assert engine.parameters["num_inference_steps"] == 1
    assert engine.parameters["cfg_type"] == "none"


def test_the_folder_above_a_model_says_nothing_of_it(folder: Path) -> None:
    above = folder.with_name("turbo-shelf")
    above.mkdir()
    engine = load(folder.rename(above / "plain"))
    assert engine.parameters["num_inference_steps"] != 1
    assert engine.parameters["cfg_type"] != "none"


def test_a_variant_in_half_precision_is_taken_where_there_is_no_other(folder: Path) -> None:
    for part in ("unet", "vae", "text_encoder"):
        path = next((folder / part).glob("*.safetensors"))
        path.rename(path.with_name(path.name.replace(".safetensors", ".fp16.safetensors")))
    assert load(folder).infer_once(noise_frame(0), {}).shape == (64, 64, 3)


def test_out_of_memory_while_loading(whole: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*args: Any, **options: Any) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")

    monkeypatch.setattr(UNet2DConditionModel, "from_pretrained", fail)
    assert "out of memory while loading" in why_not(whole)


# The tiny autoencoder ----------------------------------------------------------------------------


def test_a_tiny_autoencoder_beside_the_model_is_used(folder: Path) -> None:
    assert type(load(folder).model.vae).__name__ == "AutoencoderKL"
    torch.manual_seed(0)
    autoencoder("tiny").save_pretrained(folder.parent / "taesd")
    assert type(load(folder).model.vae).__name__ == "AutoencoderTiny"
    assert type(load(folder, use_tiny_vae=False).model.vae).__name__ == "AutoencoderKL"


def test_a_tiny_autoencoder_that_must_be_and_is_not(whole: Path) -> None:
    text = why_not(whole, use_tiny_vae=True)
    assert text.startswith("madebyollin/taesd was not downloaded yet")


def test_a_model_of_the_hub_does_without_the_tiny_autoencoder(
    whole: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def folder_of(model: str, **options: Any) -> Path:
        if model == "some/model":
            return whole
        raise EngineError("the network is away")

    monkeypatch.setattr(model_hub, "model_folder", folder_of)
    with caplog.at_level(logging.WARNING):
        engine = load("some/model")
    assert type(engine.model.vae).__name__ == "AutoencoderKL"
    assert "the full autoencoder is used" in caplog.text
