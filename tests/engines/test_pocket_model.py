"""The pocket model: the folder that ships, and what it obeys on pictures it never saw."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers import DDPMScheduler, UNet2DConditionModel
from numpy.typing import NDArray
from skimage import data
from transformers import CLIPTextModel, CLIPTokenizer

from dreamrelay.engines import pocket
from dreamrelay.errors import EngineError

Picture = NDArray[np.float32]
Paint = Callable[[Picture | None, str, float], Picture]
SIDE = 128  # enough to judge colour and texture, four times quicker than a whole frame


@pytest.fixture(scope="module")
def paint() -> Paint:
    """picture (H x W x 3 in 0..1, or None), prompt, strength -> picture, as an engine does it."""
    torch.set_num_threads(1)
    folder = pocket.model_folder()
    unet = UNet2DConditionModel.from_pretrained(
        str(folder), subfolder="unet", local_files_only=True, use_safetensors=True
    ).eval()
    encoder = CLIPTextModel.from_pretrained(
        str(folder / "text_encoder"), local_files_only=True, use_safetensors=True
    ).eval()
    tokenizer = CLIPTokenizer.from_pretrained(str(folder / "tokenizer"), local_files_only=True)
    scheduler = DDPMScheduler.from_pretrained(
        str(folder), subfolder="scheduler", local_files_only=True
    )
    vae = pocket.load_autoencoder(folder)
    assert scheduler.config["prediction_type"] == "sample"

    def run(picture: Picture | None, prompt: str, strength: float) -> Picture:
        generator = torch.Generator().manual_seed(3)
        latents = torch.randn(1, 48, SIDE // 4, SIDE // 4, generator=generator)
        step = round(999 * strength)
        if picture is not None:
            keep = float(scheduler.alphas_cumprod[step])
            planes = torch.from_numpy(picture.transpose(2, 0, 1).copy())[None] * 2 - 1
            latents = vae.encode(planes).latents * keep**0.5 + latents * (1 - keep) ** 0.5
        ids = tokenizer(
            prompt,
            padding="max_length",
            truncation=True,
            max_length=tokenizer.model_max_length,
            return_tensors="pt",
        ).input_ids
        with torch.no_grad():
            clean = unet(latents, torch.tensor([step]), encoder(ids).last_hidden_state).sample
        out = (vae.decode(clean).sample[0].clamp(-1, 1) + 1) / 2
        return np.asarray(out.permute(1, 2, 0), np.float32)

    return run


@pytest.fixture(scope="module")
def cat() -> Picture:
    """A photograph held out of the training, 128 x 128 x 3."""
    photograph = np.asarray(data.chelsea()[20:276, 100:356], np.float32) / 255
    return np.ascontiguousarray(photograph.reshape(SIDE, 2, SIDE, 2, 3).mean((1, 3)))


@pytest.fixture(scope="module")
def bars() -> Picture:
    """Seven colour bars, 128 x 128 x 3."""
    colours = np.array(
        [(1, 1, 1), (1, 1, 0), (0, 1, 1), (0, 1, 0), (1, 0, 1), (1, 0, 0), (0, 0, 1)], np.float32
    )
    return np.repeat(colours[np.arange(SIDE) * 7 // SIDE][None] * 0.75, SIDE, 0)


def test_folder_is_small_complete_and_matches_its_checksums() -> None:
    folder = pocket.model_folder()
    files = [path for path in folder.rglob("*") if path.is_file()]
    assert sum(path.stat().st_size for path in files) < 20_000_000
    assert not [path for path in files if path.suffix in {".bin", ".pt", ".ckpt", ".pkl"}]
    listed = (folder / pocket.CHECKSUMS).read_text(encoding="utf-8")
    for path in files:
        if path.name != pocket.CHECKSUMS:
            assert path.relative_to(folder).as_posix() in listed
    pocket.verify()


def test_a_changed_file_is_found(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text("{}", encoding="utf-8")
    (tmp_path / pocket.CHECKSUMS).write_text(f"{'0' * 64}  a.json\n", encoding="utf-8")
    with pytest.raises(EngineError, match=r"a\.json does not match"):
        pocket.verify(tmp_path)
    (tmp_path / "a.json").unlink()
    with pytest.raises(EngineError, match=r"a\.json is missing"):
        pocket.verify(tmp_path)
    with pytest.raises(EngineError, match="found none"):
        pocket.verify(tmp_path / "nowhere")


def test_vocabulary_and_defaults() -> None:
    known = pocket.vocabulary()
    assert len(known["styles"]) >= 12
    assert len(known["colours"]) + len(known["moods"]) >= 14
    defaults = pocket.defaults()
    assert 0 < defaults["strength"] <= 1
    assert defaults["num_inference_steps"] >= 1
    assert (defaults["width"], defaults["height"]) == (256, 256)


def test_known_words_are_one_token_and_unknown_ones_come_back() -> None:
    folder = str(pocket.model_folder() / "tokenizer")
    tokenizer = CLIPTokenizer.from_pretrained(folder, local_files_only=True)
    assert len(tokenizer.tokenize("blue neon watercolor at night")) == 5
    ids = tokenizer("blue zyxqw", add_special_tokens=False).input_ids
    assert tokenizer.decode(ids).strip() == "blue zyxqw"


def test_autoencoder_loses_nothing() -> None:
    vae = pocket.load_autoencoder(pocket.model_folder())
    picture = torch.rand(2, 3, 64, 96) * 2 - 1
    latents = vae.encode(picture).latents
    assert latents.shape == (2, 48, 16, 24)
    assert torch.equal(vae.decode(latents).sample, picture)


# Word, then the channel (0 red, 1 green, 2 blue) that must lead and the one it leads.
@pytest.mark.parametrize(
    ("prompt", "high", "low"),
    [
        ("blue", 2, 0),
        ("red", 0, 2),
        ("gold", 0, 2),
        ("green", 1, 0),
        ("teal", 2, 0),
        ("purple", 2, 1),
        ("pink", 0, 1),
        ("orange", 0, 2),
        ("blue neon", 2, 0),
        ("a gold oil painting", 0, 2),
        ("sunset", 0, 2),
        ("at night", 2, 0),
    ],
)
def test_colours_are_obeyed(
    paint: Paint, cat: Picture, bars: Picture, prompt: str, high: int, low: int
) -> None:
    for picture in (cat, bars, None):
        means = paint(picture, prompt, 0.5).mean((0, 1))
        assert means[high] > means[low] + 0.08, (prompt, means)


def test_unknown_words_leave_the_colour_alone(paint: Paint, cat: Picture) -> None:
    plain = paint(cat, "blue", 0.5)
    chatty = paint(cat, "wobblefax blue, zorp of the quuxly", 0.5)
    assert np.abs(plain - chatty).mean() < 0.08


def test_styles_differ_from_each_other_and_from_the_input(paint: Paint, cat: Picture) -> None:
    styles = (
        "pencil sketch",
        "watercolor",
        "neon",
        "pixel art",
        "blueprint",
        "thermal",
        "halftone",
    )
    painted = [paint(cat, style, 0.5) for style in styles]
    for index, one in enumerate(painted):
        assert np.abs(one - cat).mean() > 0.04, styles[index]
        for other in range(index):
            assert np.abs(one - painted[other]).mean() > 0.05, (styles[index], styles[other])


def test_strength_leads_from_the_input_to_the_style(paint: Paint, cat: Picture) -> None:
    gaps = [np.abs(paint(cat, "blue neon", s) - cat).mean() for s in (0.0, 0.2, 0.5)]
    assert gaps[0] < 0.03
    assert gaps[0] < gaps[1] < gaps[2]


def test_two_steps_keep_the_picture(paint: Paint, cat: Picture) -> None:
    once = paint(cat, "blue", 0.5)
    twice = paint(once, "blue", 0.25)
    assert twice.mean((0, 1))[2] > twice.mean((0, 1))[0] + 0.08
    assert np.abs(once - twice).mean() < 0.08
