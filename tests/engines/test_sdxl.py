"""SDXL and SDXL-Turbo as a stream batch, against the classes of diffusers."""

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import AutoencoderTiny, StableDiffusionXLImg2ImgPipeline, UNet2DConditionModel

from dreamrelay.engines import planning
from dreamrelay.engines.ports import EngineSettings
from dreamrelay.engines.stream_batch import StreamBatchEngine
from dreamrelay.errors import EngineError
from tests.engines.pictures import moving_frames, noise_frame
from tests.engines.tiny_models import POOLED, WIDTH, WIDTH_2, autoencoder, save_model


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_model(tmp_path_factory.mktemp("sdxl") / "model", "sdxl", "full")


def load(folder: Path, **parameters: Any) -> StreamBatchEngine:
    settings = EngineSettings(
        model=str(folder), device="cpu", acceleration="none", offline=True, parameters=parameters
    )
    engine = StreamBatchEngine(settings)
    engine.load(lambda progress: None)
    return engine


@pytest.fixture
def noise_of_torch(monkeypatch: pytest.MonkeyPatch) -> None:
    """What the pipeline draws, ours is told to draw."""

    def draw(parameters: Any, shape: tuple[int, ...]) -> Any:
        return torch.randn(shape, generator=torch.Generator().manual_seed(7)).numpy()

    monkeypatch.setattr(planning, "noise_of", draw)


@pytest.mark.usefixtures("noise_of_torch")
@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")  # of diffusers
@pytest.mark.parametrize("guidance", [1.0, 2.5])
def test_one_step_is_that_of_diffusers_pipeline(folder: Path, guidance: float) -> None:
    pipeline = StableDiffusionXLImg2ImgPipeline.from_pretrained(str(folder))
    pipeline.set_progress_bar_config(disable=True)
    frame = noise_frame(3)
    # One step of Euler from timestep 999 of 1000: x0 = (x - sigma e), as ours.
    pipeline.scheduler = type(pipeline.scheduler).from_config(
        pipeline.scheduler.config, timestep_spacing="trailing"
    )
    pixels = torch.from_numpy(frame).permute(2, 0, 1)[None].float() / 255
    # Given as pixels, it would draw from the encoder's distribution; we take its middle.
    latents = pipeline.vae.encode(pixels * 2 - 1).latent_dist.mode().detach()
    theirs = pipeline(
        prompt="a red cat",
        negative_prompt="the sea",
        image=latents.detach()
        * pipeline.vae.config.scaling_factor,  # else it draws from the middle
        strength=1.0,
        num_inference_steps=1,
        guidance_scale=guidance,
        generator=torch.Generator().manual_seed(7),
        original_size=(64, 64),
        target_size=(64, 64),
        output_type="np",
    ).images[0]
    ours = load(folder).infer_once(
        frame,
        {
            "prompt": "a red cat",
            "negative_prompt": "the sea",
            "strength": 1.0,
            "num_inference_steps": 1,
            "guidance_scale": guidance,
            "cfg_type": "full",
        },
    )
    assert np.abs(ours.astype(int) - (theirs * 255).round()).max() <= 1


def test_the_unet_is_told_words_text_and_size(folder: Path) -> None:
    engine = load(folder, num_inference_steps=3, guidance_scale=2.0, cfg_type="full")
    unet, heard = engine.model.unet, []

    def listen(noisy: Any, at: Any, **told: Any) -> Any:
        heard.append((len(noisy), told))
        return unet(noisy, at, **told)

    engine.model.unet = listen
    for at, frame in enumerate(moving_frames(3)):
        engine.infer(frame, at)
    rows, told = heard[-1]
    assert rows == 6
    assert told["encoder_hidden_states"].shape == (6, 77, WIDTH + WIDTH_2)
    added = told["added_cond_kwargs"]
    assert added["text_embeds"].shape == (6, POOLED)
    assert added["time_ids"].tolist() == [[64, 64, 0, 0, 64, 64]] * 6
    # An empty negative prompt is told as SDXL was trained to hear it: as nothing at all.
    assert not told["encoder_hidden_states"][:3].any()
    assert not added["text_embeds"][:3].any()
    engine.apply({"negative_prompt": "the sea"})
    engine.infer(frame, 3)
    assert heard[-1][1]["added_cond_kwargs"]["text_embeds"][:3].any()


def test_prompts_are_blended_in_both_their_parts(folder: Path) -> None:
    engine = load(folder, strength=0.9)
    frame = noise_frame(0)
    one, two, both, first = (
        engine.infer_once(frame, patch).astype(int)
        for patch in (
            {"prompt": "a red cat"},
            {"prompt": "the blue sea"},
            {"prompts": [{"text": "a red cat"}, {"text": "the blue sea"}]},
            {"prompts": [{"text": "a red cat", "weight": 2.0}, {"text": "the sea", "weight": 0.0}]},
        )
    )
    assert np.abs(both - one).max() > 0
    assert np.abs(both - two).max() > 0
    assert np.abs(first - one).max() <= 1


def test_a_turbo_model_takes_one_step_without_guidance(folder: Path, tmp_path: Path) -> None:
    engine = load(Path(shutil.copytree(folder, tmp_path / "sdxl-turbo")))
    assert engine.parameters["num_inference_steps"] == 1
    assert engine.parameters["cfg_type"] == "none"


def test_its_own_tiny_autoencoder_is_taken(folder: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(folder, tmp_path / "model"))
    torch.manual_seed(0)
    autoencoder("tiny").save_pretrained(tmp_path / "taesd")
    assert not isinstance(load(copy).model.vae, AutoencoderTiny)
    autoencoder("tiny").save_pretrained(tmp_path / "taesdxl")
    assert isinstance(load(copy).model.vae, AutoencoderTiny)


def test_a_refiner_is_refused(folder: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(folder, tmp_path / "model"))
    unet = UNet2DConditionModel.from_pretrained(copy / "unet")
    config = {**unet.config, "projection_class_embeddings_input_dim": POOLED + 5 * 8}
    UNet2DConditionModel.from_config(config).save_pretrained(copy / "unet")
    with pytest.raises(EngineError, match="refiner"):
        load(copy)
    shutil.rmtree(copy / "text_encoder_2")
    with pytest.raises(EngineError, match="expected the folder text_encoder_2 in it"):
        load(copy)
