"""LoRAs: every layout, live scales, equal pictures whether fused or not, and nothing worn out."""

import logging
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import UNet2DConditionModel
from safetensors.torch import save_file
from transformers import CLIPTextModel, CLIPTextModelWithProjection

from dreamrelay.codec import Frame
from dreamrelay.engines import loras, model_hub
from dreamrelay.engines.loras import LCM_LORAS, Loras, lcm_lora, short_names
from dreamrelay.engines.ports import EngineSettings
from dreamrelay.engines.stream_batch import StreamBatchEngine
from dreamrelay.errors import EngineError, ParameterError
from tests.engines.pictures import noise_frame
from tests.engines.tiny_models import Kind, save_kohya_lora, save_lora, save_model

SCALE = 0.4


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_model(tmp_path_factory.mktemp("loras") / "model")


@pytest.fixture(scope="module")
def sdxl(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_model(tmp_path_factory.mktemp("loras") / "sdxl", "sdxl")


@pytest.fixture
def lora(whole: Path, tmp_path: Path) -> Path:
    return save_lora(tmp_path / "loras" / "style.safetensors", parts_of(whole)["unet"], scale=SCALE)


def parts_of(folder: Path, kind: Kind = "sd15") -> dict[str, Any]:
    parts = {
        "unet": UNet2DConditionModel.from_pretrained(folder / "unet"),
        "text_encoder": CLIPTextModel.from_pretrained(folder / "text_encoder"),
    }
    if kind == "sdxl":
        second = CLIPTextModelWithProjection.from_pretrained(folder / "text_encoder_2")
        parts["text_encoder_2"] = second
    return parts


def load(model: object, **settings: Any) -> StreamBatchEngine:
    engine = StreamBatchEngine(
        EngineSettings(
            model=str(model), device="cpu", acceleration="none", offline=True, **settings
        )
    )
    engine.load(lambda progress: None)
    return engine


def why_not(model: object, **settings: Any) -> str:
    with pytest.raises(EngineError) as caught:
        load(model, **settings)
    return str(caught.value)


def picture(engine: StreamBatchEngine, **patch: Any) -> Any:
    return engine.infer_once(noise_frame(1), {"strength": 0.9, **patch}).astype(np.int64)


def change(one: Frame, other: Frame) -> float:
    return float(np.abs(one.astype(np.int64) - other).mean())


# Layouts -----------------------------------------------------------------------------------------


def test_a_lora_changes_the_picture_by_its_scale(whole: Path, lora: Path) -> None:
    without = picture(load(whole))
    changes = [change(picture(load(whole, loras={str(lora): w})), without) for w in (0, 0.5, 1)]
    assert changes[0] == 0
    assert 0 < changes[1] < changes[2]
    by_folder = picture(load(whole, loras={str(lora.parent): 1}))
    np.testing.assert_array_equal(by_folder, picture(load(whole, loras={str(lora): 1})))


def test_loras_add_up(whole: Path, lora: Path) -> None:
    again = shutil.copy(lora, lora.with_name("again.safetensors"))
    twice = picture(load(whole, loras={str(lora): 0.5, str(again): 0.5}))
    assert np.abs(twice - picture(load(whole, loras={str(lora): 1}))).max() <= 1


@pytest.mark.parametrize("kind", ["sd15", "sdxl"])
def test_the_layout_does_not_matter(
    request: pytest.FixtureRequest, tmp_path: Path, kind: Kind
) -> None:
    folder = request.getfixturevalue("sdxl" if kind == "sdxl" else "whole")
    unet = parts_of(folder)["unet"]
    ours = save_lora(tmp_path / "ours.safetensors", unet, scale=SCALE)
    kohya = save_kohya_lora(tmp_path / "kohya.safetensors", {"unet": unet}, scale=SCALE)
    one, other = (picture(load(folder, loras={str(path): 0.7})) for path in (ours, kohya))
    assert change(one, picture(load(folder))) > 0
    assert np.abs(one - other).max() <= 1


@pytest.mark.parametrize("kind", ["sd15", "sdxl"])
def test_a_lora_over_the_text_encoders_acts_on_the_prompt(
    request: pytest.FixtureRequest, tmp_path: Path, kind: Kind
) -> None:
    folder = request.getfixturevalue("sdxl" if kind == "sdxl" else "whole")
    parts = parts_of(folder, kind)
    path = save_kohya_lora(tmp_path / "text.safetensors", parts, scale=SCALE)
    over_unet = {"unet": parts["unet"]}
    unet_only = save_kohya_lora(tmp_path / "unet.safetensors", over_unet, scale=SCALE)
    engine = load(folder, loras={str(path): 1.0})
    prompt = {"prompt": "a red cat"}
    with_text = picture(engine, **prompt)
    assert change(with_text, picture(load(folder, loras={str(unet_only): 1.0}), **prompt)) > 0
    # Embeddings are kept by what they were made with.
    off = picture(engine, **prompt, loras=[])
    np.testing.assert_array_equal(off, picture(load(folder), **prompt))
    np.testing.assert_array_equal(picture(engine, **prompt), with_text)


# Live --------------------------------------------------------------------------------------------


def test_a_scale_changes_between_two_frames(whole: Path, lora: Path) -> None:
    start = {"num_inference_steps": 1, "strength": 0.9, "cfg_type": "none"}
    engine = load(whole, loras={str(lora): 0.2}, parameters=start)
    assert engine.parameters["loras"] == [{"name": "style", "scale": 0.2}]
    engine.infer(noise_frame(0), 0)
    for scale in (1.0, -0.5, 0.0):
        engine.apply({"loras": [{"name": "style", "scale": scale}]})
        result = engine.infer(noise_frame(1), 1)
        fresh = load(whole, loras={str(lora): scale}, parameters=start)
        assert result is not None
        assert np.abs(result.frame.astype(int) - fresh.infer_once(noise_frame(1), {})).max() <= 1
    engine.apply({"loras": []})
    np.testing.assert_array_equal(picture(engine), picture(load(whole, parameters=start)))
    engine.apply({"loras": None})
    as_started = picture(load(whole, loras={str(lora): 0.2}, parameters=start))
    np.testing.assert_array_equal(picture(engine), as_started)


def test_a_still_lora_is_fused_and_the_pictures_are_the_same(whole: Path, lora: Path) -> None:
    engine = load(whole, loras={str(lora): 0.8}, parameters={"num_inference_steps": 1})
    moving = picture(engine)
    assert not engine.model.loras.fused
    for at in range(loras.FUSE_AFTER + 1):
        engine.infer(noise_frame(1), at)
    assert engine.model.loras.fused
    assert np.abs(picture(engine) - moving).max() <= 1
    picture(engine, loras=[{"name": "style", "scale": 0.3}])
    assert not engine.model.loras.fused


def test_weights_are_not_worn_out_by_fusing(whole: Path, lora: Path) -> None:
    parts = {name: module.half() for name, module in parts_of(whole).items()}
    before = {name: weight.clone() for name, weight in parts["unet"].state_dict().items()}
    over = Loras(parts, fuse_after=0)
    over.add(lora, 0.3, "style", "style")
    for at in range(50):
        over.use({"style": at / 7})
        assert over.fused
    over.use({"style": 1e-3})
    over.use({})
    after = parts["unet"].state_dict()
    for name, weight in before.items():
        layer = name.replace(".weight", ".base_layer.weight")
        torch.testing.assert_close(after.get(layer, after.get(name)), weight, rtol=0, atol=0)


def test_only_the_operators_loras_can_be_named(whole: Path, lora: Path) -> None:
    engine = load(whole, loras={str(lora): 0.2})
    names = engine.schema()["properties"]["loras"]["anyOf"][0]["items"]["properties"]["name"]
    assert names["enum"] == ["style"]
    for name in (str(lora), "other", ""):
        with pytest.raises(ParameterError, match="expected names among style, got"):
            engine.apply({"seed": 5, "loras": [{"name": name, "scale": 1.0}]})
        with pytest.raises(ParameterError):
            picture(engine, loras=[{"name": name, "scale": 1.0}])
    with pytest.raises(ParameterError):
        engine.apply({"loras": [{"name": "style", "scale": 11.0}]})
    assert engine.parameters["seed"] == 2


def test_without_loras_there_is_nothing_to_change(whole: Path) -> None:
    engine = load(whole)
    assert "loras" not in engine.schema()["properties"]
    assert "loras" not in engine.parameters
    with pytest.raises(ParameterError, match="start the worker with --lora=name:scale"):
        engine.apply({"loras": []})


def test_names_for_people_are_short_and_all_different() -> None:
    found = short_names({"/a/b/ink.safetensors": 1, "C:\\x\\ink.safetensors": 1, "me/ink": 1})
    assert list(found.values()) == ["ink", "ink-2", "ink-3"]
    assert short_names({"/a/pen & ink.safetensors": 1, "/": 1}) == {
        "/a/pen & ink.safetensors": "pen_ink",
        "/": "lora",
    }


# What cannot be read -----------------------------------------------------------------------------


def test_a_lora_that_cannot_be_read(whole: Path, lora: Path, tmp_path: Path) -> None:
    assert "no such file, folder or hub id" in why_not(whole, loras={"/nowhere/a.safetensors": 1})
    (tmp_path / "empty").mkdir()
    assert "found 0; name the file" in why_not(whole, loras={str(tmp_path / "empty"): 1})
    assert "was not downloaded yet" in why_not(whole, loras={"nobody/lora": 1})
    (tmp_path / "style.pt").touch()
    assert "is a pickle" in why_not(whole, loras={str(tmp_path / "style.pt"): 1})
    lora.write_bytes(lora.read_bytes()[:-100])
    assert "is cut off" in why_not(whole, loras={str(lora): 1})


def test_a_lora_of_another_model(
    whole: Path, sdxl: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "other.safetensors"
    save_file({"transformer.blocks.0.attn.lora_A.weight": torch.zeros(2, 8)}, path)
    assert f"LoRA {path} cannot be loaded" in why_not(whole, loras={str(path): 1})
    parts = parts_of(sdxl, "sdxl")
    path = save_kohya_lora(tmp_path / "of_sdxl.safetensors", {"unet": parts["unet"]})
    capfd.readouterr()
    said = why_not(whole, loras={str(path): 1})
    assert f"LoRA {path} cannot be loaded (its layers are others)" in said
    assert "made for this kind of model" in said
    assert "transformer_blocks" not in said + capfd.readouterr().err, "nor by the library"


# The LCM-LoRA ------------------------------------------------------------------------------------


def test_the_lcm_lora_is_added_where_it_fits(
    whole: Path, lora: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    asked: list[str] = []

    def lora_file(model: str, **options: Any) -> Path:
        asked.append(model)
        return lora

    monkeypatch.setattr(model_hub, "lora_file", lora_file)
    without = picture(load(whole))
    assert asked == []
    engine = load(whole, use_lcm_lora=True)
    assert set(asked) == {LCM_LORAS[768]}
    assert np.abs(picture(engine) - without).max() > 0
    assert "loras" not in engine.parameters, "it is part of the model"

    def chosen(model: str, width: int = 768, few_steps: bool = False, **wanted: Any) -> str | None:
        return lcm_lora(EngineSettings(model=model, **wanted), width, Path, few_steps)

    assert chosen("KBlueLeaf/kohaku-v2.1") == LCM_LORAS[768]
    assert chosen("stabilityai/stable-diffusion-xl-base-1.0", 2048) == LCM_LORAS[2048]
    assert chosen("KBlueLeaf/kohaku-v2.1", use_lcm_lora=False) is None
    assert chosen("SimianLuo/LCM_Dreamshaper_v7") is None
    assert chosen("a/model", loras={"b/hyper-sd": 0.5}) is None
    assert chosen("a/model", few_steps=True) is None
    assert chosen("a/model", 1024) is None
    assert chosen(str(whole)) is None
    assert "may need many steps" in caplog.text


def test_the_lcm_lora_that_cannot_be_had(whole: Path, caplog: pytest.LogCaptureFixture) -> None:
    assert "lcm-lora-sdv1-5 was not downloaded yet" in why_not(whole, use_lcm_lora=True)

    def away(lora: str) -> Path:
        raise EngineError("the network is away")

    with caplog.at_level(logging.WARNING):
        assert lcm_lora(EngineSettings(model="a/model"), 768, away, few_steps=False) is None
    assert "few steps will look poor without the LCM-LoRA: the network is away" in caplog.text
