"""ControlNets: what they see, what they tell the U-Net, and how they travel with their frames."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import (
    ControlNetModel,
    DDIMScheduler,
    StableDiffusionControlNetPipeline,
    StableDiffusionXLControlNetPipeline,
    UNet2DConditionModel,
)

from dreamrelay.engines.control import Controls, Sight
from dreamrelay.engines.control_parameters import (
    ControlKind,
    GuideParameters,
)
from dreamrelay.engines.devices import Device
from dreamrelay.engines.parameters import validate_patch
from dreamrelay.engines.ports import EngineSettings
from tests.engines.tiny_controls import save_controlnet, save_depth_anything, shapes_frame
from tests.engines.tiny_models import Kind, save_model

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


def controls(place: Path, *seen: str, kind: Kind = "sd15") -> tuple[Controls, Any]:
    """ControlNets for one U-Net, and that."""
    net = UNet2DConditionModel.from_pretrained(place / kind / "unet")
    settings = EngineSettings(
        controlnets=tuple(f"{one}={place / f'{kind}_{one}'}" for one in seen),
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
