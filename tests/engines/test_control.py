"""ControlNets: what they see, what they tell the U-Net, and how they travel with their frames."""

import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import (
    ControlNetModel,
    DDIMScheduler,
    StableDiffusionControlNetPipeline,
    StableDiffusionXLControlNetPipeline,
    UNet2DConditionModel,
)
from safetensors.torch import load_file, save_file

from dreamrelay.codec import Frame
from dreamrelay.engines.control import ControlNet, Controls, Sight
from dreamrelay.engines.control_parameters import (
    KINDS,
    ControlKind,
    ControlParameters,
    GuideParameters,
    absent_controls,
    wanted_controls,
)
from dreamrelay.engines.depth import DepthEstimator
from dreamrelay.engines.devices import Device
from dreamrelay.engines.parameters import validate_patch
from dreamrelay.engines.ports import EngineSettings
from dreamrelay.errors import ConfigError, EngineError
from tests.engines.pictures import noise_frame
from tests.engines.tiny_controls import save_controlnet, save_depth_anything, shapes_frame
from tests.engines.tiny_models import Kind, save_model, unet

CPU = Device(torch.device("cpu"), torch.float32, "cpu")
STEPS = 1000


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Tiny models of three families, a depth model, and ControlNets for each."""
    place = tmp_path_factory.mktemp("controls")
    kinds: tuple[Kind, ...] = ("sd15", "sd21", "sdxl")
    for kind in kinds:
        save_model(place / kind, kind)
        net = UNet2DConditionModel.from_pretrained(place / kind / "unet")
        for seed, seen in enumerate(("depth", "scribble", "canny")):
            save_controlnet(place / f"{kind}_{seen}", net, seed)
    save_depth_anything(place / "depth_model")
    return place


def controls(
    place: Path, *seen: ControlKind, kind: Kind = "sd15", **models: Path
) -> tuple[Controls, Any]:
    """ControlNets for one U-Net, and that."""
    net = UNet2DConditionModel.from_pretrained(place / kind / "unet")
    settings = EngineSettings(
        controlnets=tuple(f"{one}={models.get(one, place / f'{kind}_{one}')}" for one in seen),
        depth_model=str(place / "depth_model"),
        offline=True,
    )
    return Controls(settings, net, STEPS, CPU, lambda progress: None), net


def under(**patch: Any) -> GuideParameters:
    return validate_patch(GuideParameters(), patch)


def latents(rows: int, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Noisy latents, timesteps and words for some rows."""
    made = torch.Generator().manual_seed(seed)
    return (
        torch.randn(rows, 4, 8, 8, generator=made),
        torch.linspace(900, 100, rows).long(),
        torch.randn(rows, 77, 32, generator=made),
    )


def added_to(
    tested: Controls, sights: Sequence[Sight | None], **more: Any
) -> list[torch.Tensor] | None:
    """All that ControlNets add to a call of as many rows as there are sights."""
    with torch.inference_mode():
        noisy, at, words = latents(len(sights))
        made = tested.residuals(more.get("noisy", noisy), at, words, None, sights)
    return None if made is None else [*made[0], made[1]]


def assert_same(one: list[torch.Tensor] | None, other: list[torch.Tensor] | None) -> None:
    assert one is not None
    assert other is not None
    for left, right in zip(one, other, strict=True):
        torch.testing.assert_close(left, right, rtol=0, atol=1e-5)


# As diffusers does it ----------------------------------------------------------------------------


class Listener:
    """Hears what a pipeline asks its U-Net, and what that answers."""

    def __init__(self, net: Any) -> None:
        self.asked: tuple[torch.Tensor, torch.Tensor] = (torch.empty(0), torch.empty(0))
        self.told: dict[str, Any] = {}
        self.said = torch.empty(0)
        net.register_forward_hook(self._hear, with_kwargs=True)

    def _hear(self, _: Any, args: Any, options: dict[str, Any], said: Any) -> None:
        self.asked, self.told, self.said = args, options, said[0]


def one_or_all(values: list[Any]) -> Any:
    """As the pipelines want it: no list of one."""
    return values[0] if len(values) == 1 else values


@pytest.mark.parametrize("kind", ["sd15", "sd21", "sdxl"])
@pytest.mark.parametrize(
    ("seen", "guidance"),
    [(("depth",), 1.0), (("canny", "scribble", "depth"), 3.0)],
    ids=["one, unguided", "three, guided"],
)
def test_the_same_as_the_pipelines_of_diffusers(
    place: Path, kind: Kind, guidance: float, seen: tuple[ControlKind, ...]
) -> None:
    tested, net = controls(place, *seen, kind=kind)
    with torch.inference_mode():
        sight = tested.watcher().see(
            shapes_frame(), under(controlnet_scale=0.7, scribble_scale=1.4)
        )
    family: Any = StableDiffusionControlNetPipeline
    if kind == "sdxl":
        family = StableDiffusionXLControlNetPipeline
    nets = [ControlNetModel.from_pretrained(place / f"{kind}_{one}") for one in seen]
    pipeline = family.from_pretrained(place / kind, controlnet=one_or_all(nets))
    pipeline.scheduler = DDIMScheduler.from_config(pipeline.scheduler.config)
    pipeline.set_progress_bar_config(disable=True)
    heard = Listener(pipeline.unet)
    pipeline(
        "a red cat",
        image=one_or_all([sight.maps[one].expand(1, 3, 64, 64) for one in seen]),
        width=64,
        height=64,
        num_inference_steps=1,
        guidance_scale=guidance,
        controlnet_conditioning_scale=one_or_all(
            [0.98 if one == "scribble" else 0.7 for one in seen]
        ),
        output_type="latent",
    )
    noisy, at = heard.asked
    words, added = heard.told["encoder_hidden_states"], heard.told["added_cond_kwargs"]
    rows = len(noisy)
    assert rows == (1 if guidance == 1 else 2)
    with torch.inference_mode():
        made = tested.residuals(noisy, at.expand(rows), words, added, [sight] * rows)
        assert made is not None
        said = net(
            noisy,
            at,
            encoder_hidden_states=words,
            added_cond_kwargs=added,
            down_block_additional_residuals=tuple(made[0]),
            mid_block_additional_residual=made[1],
        ).sample
        plain = net(noisy, at, encoder_hidden_states=words, added_cond_kwargs=added).sample
    torch.testing.assert_close(said, heard.said, rtol=0, atol=1e-4)
    assert (plain - heard.said).abs().max() > 0.01  # else anything would do


# What is added to a call -------------------------------------------------------------------------


def test_several_controlnets_add_up(place: Path) -> None:
    frame, sum_of = shapes_frame(), None
    for kind in KINDS:
        tested, _ = controls(place, kind)
        alone = added_to(tested, [tested.watcher().see(frame, under())])
        assert alone is not None
        sum_of = alone if sum_of is None else list(map(torch.add, sum_of, alone))
    tested, _ = controls(place, *KINDS)
    assert_same(added_to(tested, [tested.watcher().see(frame, under())]), sum_of)


@pytest.mark.parametrize(
    "off",
    [
        {"controlnet_scale": 0.0},
        {"depth_scale": 0.0},
        {"controlnet_mode": "none"},
        {"controlnet_mode": "canny"},
    ],
    ids=str,
)
def test_a_controlnet_that_is_off_is_not_asked_and_nothing_is_looked_at(
    place: Path, monkeypatch: pytest.MonkeyPatch, off: dict[str, Any]
) -> None:
    tested, _ = controls(place, "depth")
    monkeypatch.setattr(ControlNetModel, "forward", None)
    monkeypatch.setattr(DepthEstimator, "__call__", None)
    sight = tested.watcher().see(shapes_frame(), under(**off))
    assert added_to(tested, [sight]) is None
    assert added_to(tested, [None]) is None
    assert sight.picture() is None


def test_the_scale_of_now_acts_on_frames_under_way(place: Path) -> None:
    tested, _ = controls(place, "canny")
    watcher = tested.watcher()
    with torch.inference_mode():
        sight = watcher.see(shapes_frame(), under(controlnet_scale=1.0))
        whole = added_to(tested, [sight])
        watcher.see(shapes_frame(), under(controlnet_scale=0.5, canny_scale=0.5))
    assert whole is not None
    assert_same(added_to(tested, [sight]), [0.25 * part for part in whole])


def test_rows_of_one_call_may_be_held_differently(place: Path) -> None:
    """Rows of several streams in one call, and one that came in before a ControlNet was on."""
    tested, _ = controls(place, "canny", "scribble")
    with torch.inference_mode():
        sights = [
            tested.watcher().see(shapes_frame(), under(controlnet_scale=0.5)),
            tested.watcher().see(shapes_frame(9), under(scribble_scale=2.0)),
            None,
            tested.watcher().see(shapes_frame(4), under(control_guidance_start=0.99)),
        ]
    together = added_to(tested, sights)
    assert together is not None
    for row, sight in enumerate(sights):
        noisy, at, words = latents(4)
        with torch.inference_mode():
            alone = tested.residuals(
                noisy[row : row + 1], at[row : row + 1], words[row : row + 1], None, [sight]
            )
        parts = [part[row : row + 1] for part in together]
        if row in (2, 3):  # without a guide, and outside of the part of the way that it acts on
            assert all(float(part.abs().max()) == 0 for part in parts)
        else:
            assert alone is not None
            assert_same(parts, [*alone[0], alone[1]])


def test_a_row_from_before_goes_by_the_newest_map(place: Path) -> None:
    tested, _ = controls(place, "canny")
    watcher = tested.watcher()
    with torch.inference_mode():
        old = watcher.see(shapes_frame(), under(controlnet_scale=0.0))
        new = watcher.see(shapes_frame(9), under())
    assert_same(added_to(tested, [new, old]), added_to(tested, [new, new]))


@pytest.mark.parametrize(
    ("window", "held"),
    [
        ({}, [True, True, True, True]),
        ({"control_guidance_end": 0.5}, [True, True, False, False]),
        ({"control_guidance_start": 0.3}, [False, True, True, True]),
        ({"control_guidance_start": 0.3, "control_guidance_end": 0.7}, [False, True, True, False]),
        ({"control_guidance_start": 0.9, "control_guidance_end": 0.2}, [False] * 4),
    ],
    ids=str,
)
def test_a_controlnet_acts_on_a_part_of_the_way(
    place: Path, window: dict[str, float], held: list[bool]
) -> None:
    tested, _ = controls(place, "canny")
    with torch.inference_mode():
        whole = added_to(tested, [tested.watcher().see(shapes_frame(), under())] * 4)
        part = added_to(tested, [tested.watcher().see(shapes_frame(), under(**window))] * 4)
    assert whole is not None
    mask = torch.tensor(held).float().reshape(-1, 1, 1, 1)
    assert_same(part, [mask * one for one in whole])


def test_a_controlnet_that_wants_the_channels_turned(place: Path, tmp_path: Path) -> None:
    net = UNet2DConditionModel.from_pretrained(place / "sd15" / "unet")
    order = {"controlnet_conditioning_channel_order": "bgr"}
    turned, _ = controls(place, "canny", canny=save_controlnet(tmp_path, net, 2, **order))
    usual, _ = controls(place, "canny")
    both = [added_to(one, [one.watcher().see(shapes_frame(), under())]) for one in (turned, usual)]
    assert_same(*both)


# What is seen ------------------------------------------------------------------------------------


def maps(place: Path, kind: ControlKind, frames: Sequence[Frame], **patch: Any) -> list[Any]:
    """The maps of a stream, as arrays."""
    watcher = controls(place, kind)[0].watcher()
    with torch.inference_mode():
        return [watcher.see(frame, under(**patch)).maps[kind].numpy() for frame in frames]


@pytest.mark.parametrize("kind", KINDS)
def test_maps_are_within_bounds_and_of_the_frame_s_size(place: Path, kind: ControlKind) -> None:
    frames = [shapes_frame(0, 72, 48), noise_frame(0, 72, 48)]
    for seen in maps(place, kind, frames):
        assert seen.shape == (48, 72)
        assert seen.dtype == np.float32
        assert 0 <= seen.min() < seen.max() <= 1


@pytest.mark.parametrize("kind", KINDS)
def test_a_flat_frame_is_no_trouble(place: Path, kind: ControlKind) -> None:
    for grey in (0, 127, 255):
        for seen in maps(place, kind, [np.full((64, 64, 3), grey, np.uint8)] * 2):
            assert np.isfinite(seen).all()


@pytest.mark.parametrize("kind", KINDS)
def test_smoothing_follows_by_its_share(place: Path, kind: ControlKind) -> None:
    frames = [shapes_frame(), shapes_frame(12), shapes_frame(24)]
    sharp = maps(place, kind, frames)
    half = maps(place, kind, frames, controlnet_temporal_smoothing=0.5)
    still = maps(place, kind, frames, controlnet_temporal_smoothing=0.0)
    np.testing.assert_array_equal(half[0], sharp[0])
    np.testing.assert_allclose(half[1], (sharp[0] + sharp[1]) / 2, atol=1e-6)
    np.testing.assert_allclose(half[2], (half[1] + sharp[2]) / 2, atol=1e-6)
    assert all((one == sharp[0]).all() for one in still)


def test_a_map_becomes_a_hint_once(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """However many steps a frame goes through, and however long a map serves."""
    made = 0
    hint = ControlNet.hint

    def counted(self: ControlNet, seen: torch.Tensor) -> torch.Tensor:
        nonlocal made
        made += 1
        return hint(self, seen)

    monkeypatch.setattr(ControlNet, "hint", counted)
    tested, _ = controls(place, "depth")
    watcher = tested.watcher()
    with torch.inference_mode():
        for at in range(8):
            sight = watcher.see(shapes_frame(at), under(depth_skip_interval=4))
            for _ in range(3):
                added_to(tested, [sight])
    assert made == 2


def test_the_depth_of_every_kth_frame_is_measured(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    measured: list[int] = []
    depth = DepthEstimator.__call__

    def counted(self: Any, frames: Sequence[Frame], size: int = 0) -> Any:
        measured.append(at)
        return depth(self, frames, size)

    watcher = controls(place, "depth")[0].watcher()
    monkeypatch.setattr(DepthEstimator, "__call__", counted)
    with torch.inference_mode():
        for at in range(10):
            watcher.see(shapes_frame(at), under(depth_skip_interval=4 if at < 8 else 1))
        assert measured == [0, 4, 8, 9]
        at = 10
        watcher.see(shapes_frame(0, 72, 64), under(depth_skip_interval=10))
        assert measured[-1] == 10, "of another size: the map before cannot serve"
        at = 11
        watcher.see(shapes_frame(0, 72, 64), under(controlnet_scale=0.0))
        at = 12
        watcher.see(shapes_frame(0, 72, 64), under(depth_skip_interval=10))
    assert measured[-1] == 12, "off and on again: what was seen long ago is of no use"


def test_depth_stays_between_its_clamps_whichever_is_lower(place: Path) -> None:
    frames = [shapes_frame(), shapes_frame(8)]
    free = maps(place, "depth", frames)
    for low, high in ((0.25, 0.5), (0.5, 0.25)):
        for seen, whole in zip(
            maps(place, "depth", frames, depth_min=low, depth_max=high), free, strict=True
        ):
            np.testing.assert_allclose(seen, whole.clip(0.25, 0.5), atol=1e-6)


def test_clamps_act_on_a_map_that_still_serves(place: Path) -> None:
    watcher = controls(place, "depth")[0].watcher()
    with torch.inference_mode():
        watcher.see(shapes_frame(), under(depth_skip_interval=10))
        seen = watcher.see(shapes_frame(), under(depth_skip_interval=10, depth_max=0.5))
    assert float(seen.maps["depth"].max()) == 0.5


def test_what_is_forgotten_does_not_matter(place: Path) -> None:
    patch = {"controlnet_temporal_smoothing": 0.3, "depth_skip_interval": 5}
    tested, _ = controls(place, *KINDS)
    watcher = tested.watcher()
    with torch.inference_mode():
        first = watcher.see(shapes_frame(), under(**patch))
        for at in range(3):
            watcher.see(noise_frame(at), under(**patch))
        watcher.forget()
        again = watcher.see(shapes_frame(), under(**patch))
    for kind in KINDS:
        torch.testing.assert_close(again.maps[kind], first.maps[kind], rtol=0, atol=0)


def test_maps_to_look_at(place: Path) -> None:
    tested, _ = controls(place, *KINDS)
    with torch.inference_mode():
        sight = tested.watcher().see(shapes_frame(), under())
    picture = sight.picture()
    assert picture is not None
    assert picture.shape == (64, 64, 3)
    assert picture.dtype == np.uint8
    brightest = np.max([seen.numpy() for seen in sight.maps.values()], axis=0)
    np.testing.assert_array_equal(picture[..., 1], np.rint(brightest * 255))


# What cannot be loaded ---------------------------------------------------------------------------


def why_not(place: Path, kind: Kind = "sd15", depth: Path | None = None, **nets: Any) -> str:
    settings = EngineSettings(
        controlnets=tuple(f"{seen}={path}" if path else seen for seen, path in nets.items()),
        depth_model=str(depth or place / "depth_model"),
        offline=True,
    )
    net = UNet2DConditionModel.from_pretrained(place / kind / "unet")
    with pytest.raises(EngineError) as caught:
        Controls(settings, net, STEPS, CPU, lambda progress: None)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_a_controlnet_of_another_model(place: Path, tmp_path: Path) -> None:
    text = why_not(place, "sdxl", canny=place / "sd15_canny")
    assert "sd15_canny is made for another model (cross_attention_dim 32)" in text
    assert "cannot steer this model (cross_attention_dim 56)" in text
    wider = unet("sd15")
    wide = type(wider).from_config({**wider.config, "block_out_channels": (16, 48)})
    text = why_not(place, canny=save_controlnet(tmp_path / "wide", wide))
    assert "block_out_channels [16, 48]) and cannot steer this model" in text
    pooled = save_controlnet(tmp_path / "pooled", unet("sd15"), global_pool_conditions=True)
    assert "wants more than a map of the frame" in why_not(place, canny=pooled)


def test_families_are_called_by_their_names(place: Path, tmp_path: Path) -> None:
    small = unet("sd15").config

    def of_width(width: int) -> Any:
        return UNet2DConditionModel.from_config({**small, "cross_attention_dim": width})

    sd15 = save_controlnet(tmp_path / "sd15", of_width(768))
    of_width(2048).save_pretrained(tmp_path / "sdxl" / "unet")
    shutil.copytree(place / "depth_model", tmp_path / "depth_model")
    text = why_not(tmp_path, "sdxl", canny=sd15)
    assert "is made for Stable Diffusion 1.5" in text
    assert "cannot steer SDXL" in text


def test_a_controlnet_that_is_not_there(place: Path, tmp_path: Path) -> None:
    assert "there is no such folder, and it is no hub id" in why_not(place, canny="/nowhere")
    assert "was not downloaded yet" in why_not(place, canny="nobody/net")
    assert "there is no usual ControlNet for this model" in why_not(place, canny=None)
    assert "expected config.json in the folder" in why_not(place, canny=tmp_path)
    (tmp_path / "net.safetensors").touch()
    assert "is a single file; expected a folder" in why_not(
        place, canny=tmp_path / "net.safetensors"
    )


def test_licences_are_said(place: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level("INFO"):
        controls(place, "depth")
    lines = [record.getMessage() for record in caplog.records if "licence" in record.getMessage()]
    assert [line.split()[0] for line in lines] == ["ControlNet", "depth"]


def test_a_controlnet_in_pickles_is_refused(place: Path, tmp_path: Path) -> None:
    shutil.copytree(place / "sd15_canny", tmp_path / "net")
    weights = tmp_path / "net" / "diffusion_pytorch_model.safetensors"
    weights.rename(weights.with_suffix(".bin"))
    assert "is a pickle" in why_not(place, canny=tmp_path / "net")
    assert "is a pickle" in why_not(place, canny=tmp_path / "control.pth")


def test_a_broken_controlnet(place: Path, tmp_path: Path) -> None:
    shutil.copytree(place / "sd15_canny", tmp_path / "net")
    weights = tmp_path / "net" / "diffusion_pytorch_model.safetensors"
    whole = load_file(weights)
    weights.write_bytes(weights.read_bytes()[:-9])
    assert "is cut off" in why_not(place, canny=tmp_path / "net")
    save_file(dict(list(whole.items())[3:]), weights)
    assert "lacks 3 of its weights" in why_not(place, canny=tmp_path / "net")
    (tmp_path / "net" / "config.json").write_text("{", encoding="utf-8")
    assert "cannot be loaded" in why_not(place, canny=tmp_path / "net")


@pytest.mark.parametrize(
    ("named", "text"),
    [
        ("pose", "expected depth, scribble, canny, or one of them with a model"),
        ("depth=", "got 'depth='"),
        ("/some/folder", "got '/some/folder'"),
        ("", "got ''"),
        ("none,depth", "got 'none,depth'"),
    ],
)
def test_a_kind_that_there_is_not(named: str, text: str) -> None:
    with pytest.raises(ConfigError, match=text):
        wanted_controls((named,))


def test_kinds_with_and_without_models() -> None:
    assert wanted_controls(()) == wanted_controls(("none",)) == {}
    assert wanted_controls(("depth", "canny = a/b")) == {"depth": None, "canny": "a/b"}
    with pytest.raises(ConfigError, match="depth is named twice"):
        wanted_controls(("depth", "depth=a/b"))


def test_parameters_that_do_nothing_are_named_with_what_they_need() -> None:
    everything = set(ControlParameters.model_fields)
    assert set(absent_controls(())) == everything
    assert absent_controls(KINDS) == {}
    absent = absent_controls(("canny",))
    assert set(absent) == {name for name in everything if name.startswith(("depth", "scribble"))}
    assert absent["depth_min"] == "start the worker with --controlnet=canny,depth"
