"""Image prompts: what an IP-Adapter makes of a picture, and that it costs nothing while off."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import (
    DDIMScheduler,
    StableDiffusionPipeline,
    StableDiffusionXLPipeline,
    UNet2DConditionModel,
)
from diffusers.models.attention_processor import AttnProcessor2_0, IPAdapterAttnProcessor2_0
from PIL import Image
from safetensors.torch import load_file, save_file

from dreamrelay.engines import image_prompt, model_hub
from dreamrelay.engines.devices import Device
from dreamrelay.engines.image_prompt import Acting, ImagePrompt, PictureFolder, find_adapter
from dreamrelay.engines.ports import EngineSettings
from dreamrelay.errors import ConfigError, EngineError
from tests.engines.pictures import moving_frames, noise_frame
from tests.engines.tiny_controls import (
    save_image_encoder,
    save_ip_adapter,
    save_picture,
    shapes_frame,
)
from tests.engines.tiny_models import Kind, save_model

CPU = Device(torch.device("cpu"), torch.float32, "cpu")
WORDS = 77


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Tiny models, and adapters for them in the layout in which they are published."""
    place = tmp_path_factory.mktemp("image_prompts")
    kinds: tuple[Kind, ...] = ("sd15", "sdxl")
    for kind in kinds:
        save_model(place / kind, kind)
        folder = place / ("models" if kind == "sd15" else "sdxl_models")
        net = unet(place, kind)
        save_ip_adapter(folder / f"ip-adapter_{kind}.safetensors", net)
        save_ip_adapter(folder / f"ip-adapter-plus_{kind}.safetensors", net, plus=True)
    return place


def unet(place: Path, kind: Kind) -> Any:
    return UNet2DConditionModel.from_pretrained(place / kind / "unet")


def adapter(place: Path, kind: Kind, plus: bool) -> Path:
    folder = place / ("models" if kind == "sd15" else "sdxl_models")
    return folder / f"ip-adapter{'-plus' if plus else ''}_{kind}.safetensors"


def load(
    place: Path, kind: Kind = "sd15", plus: bool = False, **settings: Any
) -> tuple[ImagePrompt, Any]:
    net = unet(place, kind)
    name = settings.pop("ip_adapter", str(adapter(place, kind, plus)))
    wanted = EngineSettings(ip_adapter=name, offline=True, **settings)
    return ImagePrompt(wanted, net, CPU, lambda progress: None), net


def latents(rows: int, width: int = 32) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    made = torch.Generator().manual_seed(0)
    return (
        torch.randn(rows, 4, 8, 8, generator=made),
        torch.linspace(900, 100, rows).long(),
        torch.randn(rows, WORDS, width, generator=made),
    )


def said(net: Any, tested: ImagePrompt | None, acting: Sequence[Acting | None]) -> torch.Tensor:
    """What a U-Net says of as many rows as there are image prompts."""
    noisy, at, words = latents(len(acting))
    with torch.inference_mode():
        told = words if tested is None else tested.context(words, acting, [False] * len(acting))
        answer: torch.Tensor = net(noisy, at, encoder_hidden_states=told).sample
    return answer


# As diffusers does it ----------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["sd15", "sdxl"])
@pytest.mark.parametrize("plus", [False, True], ids=["base", "plus"])
def test_the_same_as_the_pipelines_of_diffusers(place: Path, kind: Kind, plus: bool) -> None:
    tested, net = load(place, kind, plus)
    picture = noise_frame(3, 173, 50)
    family: Any = StableDiffusionXLPipeline if kind == "sdxl" else StableDiffusionPipeline
    path = adapter(place, kind, plus)
    pipeline = family.from_pretrained(place / kind)
    pipeline.load_ip_adapter(
        str(place), path.parent.name, path.name, image_encoder_folder="image_encoder"
    )
    pipeline.set_ip_adapter_scale(0.6)
    pipeline.scheduler = DDIMScheduler.from_config(pipeline.scheduler.config)
    pipeline.set_progress_bar_config(disable=True)
    heard: dict[str, Any] = {}

    def hear(_: Any, args: Any, options: Any, answer: Any) -> None:
        heard.update(args=args, options=options, said=answer[0])

    pipeline.unet.register_forward_hook(hear, with_kwargs=True)
    pipeline(
        "a red cat",
        ip_adapter_image=Image.fromarray(picture),
        width=64,
        height=64,
        num_inference_steps=1,
        guidance_scale=3.0,
        output_type="latent",
    )
    (noisy, at), options = heard["args"], heard["options"]
    words, added = options["encoder_hidden_states"], dict(options["added_cond_kwargs"])
    added.pop("image_embeds")
    acting = Acting(tested.tokens(picture), 0.6)
    with torch.inference_mode():
        told = tested.context(words, [acting, acting], [True, False])
        ours = net(noisy, at, encoder_hidden_states=told, added_cond_kwargs=added).sample
        told = tested.context(words, [None, None], [True, False])
        plain = net(noisy, at, encoder_hidden_states=told, added_cond_kwargs=added).sample
    torch.testing.assert_close(ours, heard["said"], rtol=0, atol=1e-4)
    assert (plain[1] - heard["said"][1]).abs().max() > 1e-3  # else anything would do
    assert (plain[0] - heard["said"][0]).abs().max() > 1e-3


# Off means off -----------------------------------------------------------------------------------


@pytest.mark.parametrize("plus", [False, True], ids=["base", "plus"])
def test_without_a_picture_the_network_is_as_it_was(
    place: Path, plus: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = unet(place, "sd15")
    tested, net = load(place, plus=plus)
    tokens = tested.tokens(shapes_frame())
    expected = said(plain, None, [None])
    with_picture = said(net, tested, [Acting(tokens, 1.0)])
    assert (with_picture - expected).abs().max() > 1e-3
    assert net.config.encoder_hid_dim_type is None
    # No attention of the adapter's, so no cost, and no token of the prompt is taken for one.
    monkeypatch.setattr(IPAdapterAttnProcessor2_0, "__call__", None)
    for off in (None, Acting(None, 1.0), Acting(tokens, 0.0)):
        torch.testing.assert_close(said(net, tested, [off]), expected, rtol=0, atol=0)


def test_attention_chosen_after_loading_stays_for_the_words(place: Path) -> None:
    """An acceleration may put its own in before the first picture comes."""
    asked = 0

    class Counted(AttnProcessor2_0):  # type: ignore[misc]
        def __call__(self, *args: Any, **options: Any) -> Any:
            nonlocal asked
            asked += 1
            return super().__call__(*args, **options)

    tested, net = load(place)
    net.set_attn_processor(Counted())
    tokens = tested.tokens(shapes_frame())
    said(net, tested, [Acting(tokens, 1.0)])
    selves = asked
    said(net, tested, [None])
    assert 0 < selves < asked - selves, "that of the words too"


def test_every_word_counts_while_a_picture_acts(place: Path) -> None:
    tested, _ = load(place)
    acting = Acting(tested.tokens(shapes_frame()), 1.0)
    words = latents(1)[2]
    with torch.inference_mode():
        told, _ = tested.context(words, [acting], [False])
    assert told is words


def test_the_share_acts_bit_by_bit(place: Path) -> None:
    tested, net = load(place)
    tokens = tested.tokens(shapes_frame())
    plain = said(net, tested, [None])
    far = [
        float((said(net, tested, [Acting(tokens, share)]) - plain).abs().mean())
        for share in (0.001, 0.5, 1.0, 10.0)
    ]
    assert far == sorted(far)
    assert far[0] < 0.01 * far[2]


def test_rows_of_one_call_may_differ(place: Path) -> None:
    """Frames under way, or streams that share a call, each with its own picture and share."""
    tested, net = load(place)
    one, other = tested.tokens(shapes_frame()), tested.tokens(noise_frame(1))
    acting = [Acting(one, 1.0), None, Acting(other, 0.3), Acting(one, 0.0)]
    together = said(net, tested, acting)
    noisy, at, words = latents(4)
    for row, alone in enumerate(acting):
        with torch.inference_mode():
            told = tested.context(words[row : row + 1], [alone], [False])
            expected = net(noisy[row : row + 1], at[row : row + 1], encoder_hidden_states=told)
        torch.testing.assert_close(together[row], expected.sample[0], rtol=0, atol=1e-5)


# Pictures ----------------------------------------------------------------------------------------


def test_a_picture_is_encoded_once(place: Path) -> None:
    tested, _ = load(place)
    frames = moving_frames(3)
    first = [tested.tokens(frame) for frame in frames]
    again = [tested.tokens(frame.copy()) for frame in frames]
    assert all(one is other for one, other in zip(first, again, strict=True))
    assert tested.counters() == {"image_prompts_encoded": 3, "image_prompt_cache_hits": 3}


def test_pictures_of_the_same_bytes_and_another_shape_are_two(place: Path) -> None:
    tested, _ = load(place)
    wide = noise_frame(0, 64, 16)
    tested.tokens(wide)
    tested.tokens(wide.reshape(64, 16, 3))
    assert tested.counters()["image_prompts_encoded"] == 2


def test_the_least_recently_used_pictures_are_forgotten(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(image_prompt, "_KEPT", 2)
    tested, _ = load(place)
    for seed in (1, 2, 1, 3, 1):
        tested.tokens(noise_frame(seed))
    assert tested.counters() == {"image_prompts_encoded": 3, "image_prompt_cache_hits": 2}
    tested.tokens(noise_frame(2))
    assert tested.counters()["image_prompts_encoded"] == 4


@pytest.mark.parametrize("size", [(1, 1), (1, 9000), (2000, 40), (3000, 2000)], ids=str)
def test_pictures_of_any_size(place: Path, size: tuple[int, int]) -> None:
    tested, _ = load(place)
    tokens = tested.tokens(np.full((*size, 3), 77, dtype=np.uint8))
    assert tokens.shape == (1, 1, 4, 32)
    assert bool(torch.isfinite(tokens).all())


@pytest.mark.parametrize(
    ("picture", "text"),
    [
        (np.zeros((9000, 9000, 3), np.uint8), "1 to 64 million pixels, got one of 9000x9000"),
        (np.zeros((0, 5, 3), np.uint8), "1 to 64 million pixels, got one of 5x0"),
        (np.zeros((5, 5, 4), np.uint8), "expected a picture of HxWx3 uint8, got 5x5x4 uint8"),
        (np.zeros((5, 5), np.uint8), "got 5x5 uint8"),
        (np.zeros((5, 5, 3), np.float32), "got 5x5x3 float32"),
    ],
    ids=["huge", "empty", "four channels", "grey", "floats"],
)
def test_what_is_no_picture_is_refused(place: Path, picture: Any, text: str) -> None:
    tested, _ = load(place)
    with pytest.raises(EngineError, match=text):
        tested.tokens(picture)


def test_a_folder_of_pictures(tmp_path: Path) -> None:
    save_picture(tmp_path / "b.png", shapes_frame())
    save_picture(tmp_path / "a.JPG", noise_frame(0))
    (tmp_path / "notes.txt").write_text("no picture", encoding="utf-8")
    (tmp_path / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\n and no more")
    (tmp_path / "c.png").mkdir()
    folder = PictureFolder(str(tmp_path))
    assert folder.names == ("a.JPG", "b.png", "broken.png")
    np.testing.assert_array_equal(folder["b.png"], shapes_frame())
    with pytest.raises(EngineError, match=r"image prompt broken\.png cannot be read"):
        folder["broken.png"]
    for name in ("../b.png", "/etc/passwd", "notes.txt", "", "c.png"):
        with pytest.raises(EngineError, match=r"expected one of a\.JPG, b\.png"):
            folder[name]
    (tmp_path / "b.png").unlink()
    with pytest.raises(EngineError, match=r"image prompt b\.png cannot be read"):
        folder["b.png"]


def test_a_folder_that_cannot_be_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert PictureFolder(None).names == ()
    with pytest.raises(ConfigError, match="expected a folder of pictures, got /nowhere"):
        PictureFolder("/nowhere")
    monkeypatch.setattr(image_prompt, "MAX_PICTURES", 1)
    for name in "ab":
        save_picture(tmp_path / f"{name}.png", shapes_frame())
    with pytest.raises(ConfigError, match="expected at most 1 pictures, got 2"):
        PictureFolder(str(tmp_path))


def test_a_file_too_large_is_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    save_picture(tmp_path / "a.png", noise_frame(0))
    monkeypatch.setattr(image_prompt, "MAX_FILE", 2**20 // 1024)
    with pytest.raises(EngineError, match=r"a\.png: expected at most 0 MB"):
        PictureFolder(str(tmp_path))["a.png"]


# Files -------------------------------------------------------------------------------------------


def test_an_adapter_by_folder_and_by_file(place: Path) -> None:
    by_file = find_adapter(str(adapter(place, "sd15", False)), 768, True, lambda progress: None)
    assert by_file.encoders[0] == place / "models" / "image_encoder"
    (place / "alone").mkdir()
    path = place / "alone" / "style.safetensors"
    path.write_bytes(adapter(place, "sd15", True).read_bytes())
    save_image_encoder(place / "alone" / "image_encoder")
    assert find_adapter(str(path.parent), 768, True, lambda progress: None).weights == path
    # In the layout of the hub, the one for the model is taken.
    usual = find_adapter(str(place), 768, True, lambda progress: None)
    assert usual.weights == adapter(place, "sd15", False)


def test_the_encoder_that_fits_is_taken(place: Path, tmp_path: Path) -> None:
    """Some adapters for SDXL look with the encoder that lies beside those for SD 1.5."""
    path = tmp_path / "sdxl_models" / "ip-adapter_vit-h.safetensors"
    save_ip_adapter(path, unet(place, "sd15"))
    (path.parent / "image_encoder").rename(tmp_path / "other")
    save_image_encoder(path.parent / "image_encoder", projection=24)
    (tmp_path / "models").mkdir()
    (tmp_path / "other").rename(tmp_path / "models" / "image_encoder")
    tested, _ = load(place, ip_adapter=str(path))
    assert tested.tokens(shapes_frame()).shape == (1, 1, 4, 32)


def why_not(place: Path, name: Path | str, kind: Kind = "sd15") -> str:
    with pytest.raises(EngineError) as caught:
        load(place, kind, ip_adapter=str(name))
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_an_adapter_that_is_not_there(place: Path, tmp_path: Path) -> None:
    assert "there is no such file, folder or hub id" in why_not(place, "/nowhere/a.safetensors")
    assert "there is no such file, folder or hub id" in why_not(place, "nonsense")
    assert "found 0; name the file" in why_not(place, tmp_path)
    for name in "ab":
        (tmp_path / f"{name}.safetensors").touch()
    assert "found 2; name the file" in why_not(place, tmp_path)
    assert "was not downloaded yet" in why_not(place, "nobody/adapter/a.safetensors")
    assert "name the file, as in nobody/adapter/<file>" in why_not(place, "nobody/adapter")
    assert "there is none for a model whose prompts are 32 wide" in why_not(place, "plus")


def test_a_pickled_adapter_is_refused(place: Path, tmp_path: Path) -> None:
    (tmp_path / "ip-adapter_sd15.bin").touch()
    assert "is a pickle" in why_not(place, tmp_path / "ip-adapter_sd15.bin")
    assert "is a pickle" in why_not(place, tmp_path)
    assert "is a pickle" in why_not(place, "h94/IP-Adapter/models/ip-adapter_sd15.bin")


def test_an_adapter_without_an_image_encoder(place: Path, tmp_path: Path) -> None:
    path = tmp_path / "models" / "a.safetensors"
    path.parent.mkdir()
    path.write_bytes(adapter(place, "sd15", False).read_bytes())
    assert "has no image encoder: expected the folder image_encoder" in why_not(place, path)
    save_image_encoder(path.parent / "image_encoder", projection=24)
    assert "takes pictures of width 64 and the image encoder" in why_not(place, path)
    weights = path.parent / "image_encoder" / "model.safetensors"
    weights.unlink()
    save_image_encoder(path.parent / "image_encoder")
    weights.rename(weights.with_suffix(".bin"))
    assert "is a pickle" in why_not(place, path)


def test_an_adapter_of_another_model(place: Path, tmp_path: Path) -> None:
    text = why_not(place, adapter(place, "sdxl", False))
    assert "is made for another model" in text
    assert "choose the one for Stable Diffusion 1.5 or for SDXL" in text


def test_a_broken_adapter(place: Path, tmp_path: Path) -> None:
    path = save_ip_adapter(tmp_path / "a.safetensors", unet(place, "sd15"))
    whole = load_file(path)
    path.write_bytes(path.read_bytes()[:-50])
    assert "is cut off" in why_not(place, path)
    save_file({key: value for key, value in whole.items() if "to_v_ip" not in key}, path)
    assert "cannot be loaded" in why_not(place, path)
    save_file({"unet.lora_A.weight": torch.zeros(2, 2)}, path)
    assert "or no IP-Adapter at all" in why_not(place, path)
    of_faces = {"image_proj.perceiver_resampler.proj_in.weight": torch.zeros(2, 2)}
    save_file({**whole, **of_faces}, path)
    assert "got another kind (of faces" in why_not(place, path)


def test_from_the_hub_the_encoder_comes_along(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []

    def from_hub(name: str, **options: Any) -> Path:
        asked.append(name)
        return place / name.removeprefix("h94/IP-Adapter/")

    monkeypatch.setattr(model_hub, "lora_file", from_hub)

    def found(name: str, width: int) -> list[str]:
        asked.clear()
        find_adapter(name, width, False, lambda progress: None)
        return [one.removeprefix("h94/IP-Adapter/") for one in asked]

    assert found("h94/IP-Adapter", 768) == [
        "models/ip-adapter_sd15.safetensors",
        "models/image_encoder/config.json",
        "models/image_encoder/model.safetensors",
    ]
    assert found("base", 2048)[::2] == [
        "sdxl_models/ip-adapter_sdxl.safetensors",
        "sdxl_models/image_encoder/model.safetensors",
    ]
    assert found("plus", 2048)[::2] == [
        "sdxl_models/ip-adapter-plus_sdxl_vit-h.safetensors",
        "models/image_encoder/model.safetensors",
    ]
