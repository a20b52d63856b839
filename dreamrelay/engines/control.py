"""ControlNets: what they see of a frame, and what they tell the U-Net of it.

A *map* is a picture of one thing about a frame (how near, where its lines are). A ControlNet turns
it into a *hint*, once, whatever the number of denoising steps; the hint stays with its frame on the
way through the stream batch, so that each row is held to the forms of its own frame. Map and hint
together are a :class:`Sight`.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeAlias

import numpy as np
import torch
from diffusers import ControlNetModel

from dreamrelay.codec import Frame
from dreamrelay.engines import edges
from dreamrelay.engines.accelerate import Over
from dreamrelay.engines.components import load_component, told
from dreamrelay.engines.control_parameters import ControlKind, ControlParameters, wanted_controls
from dreamrelay.engines.depth import DEFAULT_MODEL, DepthEstimator, Normaliser
from dreamrelay.engines.devices import Device
from dreamrelay.engines.ports import EngineSettings, Progress, Report
from dreamrelay.engines.side_models import find_component
from dreamrelay.errors import EngineError

Residuals: TypeAlias = tuple[list[torch.Tensor], torch.Tensor]
"""What is added to the U-Net's way down, level by level, and in its middle."""

USUAL: Mapping[int, tuple[str, Mapping[ControlKind, str]]] = {
    768: (
        "Stable Diffusion 1.5",
        {
            "depth": "lllyasviel/control_v11f1p_sd15_depth",
            "scribble": "lllyasviel/control_v11p_sd15_scribble",
            "canny": "lllyasviel/control_v11p_sd15_canny",
        },
    ),
    1024: (
        "Stable Diffusion 2.1",
        {
            "depth": "thibaud/controlnet-sd21-depth-diffusers",
            "scribble": "thibaud/controlnet-sd21-scribble-diffusers",
            "canny": "thibaud/controlnet-sd21-canny-diffusers",
        },
    ),
    2048: (
        "SDXL",
        {
            "depth": "diffusers/controlnet-depth-sdxl-1.0",
            "scribble": "xinsir/controlnet-scribble-sdxl-1.0",
            "canny": "diffusers/controlnet-canny-sdxl-1.0",
        },
    ),
}
"""By the width of a model's prompts: its name, and the ControlNets that are usual with it."""

_MUST_MATCH = (
    "in_channels",
    "cross_attention_dim",
    "block_out_channels",
    "layers_per_block",
    "addition_embed_type",
    "projection_class_embeddings_input_dim",
)
"""What a ControlNet and a U-Net must agree in; otherwise their levels do not add up."""


@dataclass(slots=True, eq=False)
class InForce:
    """The parameters of a stream, which its rows in flight look up at each call."""

    parameters: ControlParameters


@dataclass(frozen=True, slots=True)
class Sight:
    """What the ControlNets see of one frame, by kind; without those that are not asked.

    Attributes:
        maps: (H, W) each, 0..1.
        hints: (1, C, h, w) each, as the ControlNet takes it in.
        under: what is in force for the frame now, on all of its way.
    """

    maps: Mapping[ControlKind, torch.Tensor]
    hints: Mapping[ControlKind, torch.Tensor]
    under: "InForce"

    def picture(self) -> Frame | None:
        """The maps to look at, the brightest of them in each place; None if there are none."""
        if not self.maps:
            return None
        brightest = torch.stack([*self.maps.values()]).amax(0)
        grey = (brightest * 255).round().to(torch.uint8).cpu().numpy()
        return np.repeat(grey[..., None], 3, axis=2)


class Controls:
    """The ControlNets of an engine.

    Args:
        settings: name them (``controlnets``, ``depth_model``).
        unet: the U-Net that they are to steer.
        steps: timesteps that the model was trained on.

    Raises:
        ConfigError: a kind that there is not.
        EngineError: one cannot be loaded, or is made for another model.
    """

    def __init__(
        self, settings: EngineSettings, unet: Any, steps: int, device: Device, report: Report
    ) -> None:
        wanted = wanted_controls(settings.controlnets)
        self._device = device
        self._steps = steps
        self._nets: dict[ControlKind, ControlNet] = {}
        for at, (kind, model) in enumerate(wanted.items()):
            name = model or _usual(kind, unet)
            report(Progress("loading", f"ControlNet {name}", at / len(wanted)))
            self._nets[kind] = load_controlnet(name, unet, device, settings.offline, report)
        self._zeros: tuple[torch.Size, Residuals] | None = None
        self._estimator: DepthEstimator | None = None
        if "depth" in wanted:
            name = settings.depth_model or DEFAULT_MODEL
            report(Progress("loading", f"depth model {name}"))
            self._estimator = DepthEstimator(name, device, offline=settings.offline, report=report)

    def accelerate(self, over: Callable[[str, Callable[..., Any]], Callable[..., Any]]) -> None:
        """Ask each ControlNet through ``over(name, function)`` from now on."""
        for kind, net in self._nets.items():
            net.run = over(f"ControlNet for {kind}", net.run)

    def watcher(self) -> "Watcher":
        """What looks at the frames of one stream."""
        return Watcher(
            {kind: _Watch(partial(self._look, kind), net.hint) for kind, net in self._nets.items()}
        )

    def residuals(
        self,
        noisy: torch.Tensor,
        at: torch.Tensor,
        context: torch.Tensor,
        added: Mapping[str, torch.Tensor] | None,
        sights: Sequence[Sight | None],
    ) -> Residuals | None:
        """What the ControlNets add to one call of the U-Net; None where none of them acts.

        Args:
            noisy: latents as the U-Net takes them, (B, C, h, w).
            at: their timesteps, (B,).
            context: what the U-Net is told, (B, words, width); words only.
            added: further conditions, of SDXL.
            sights: one for each row. Where one has nothing of a kind, from before that ControlNet
                was switched on, its row goes by the first that has.
        """
        total: Residuals | None = None
        for kind, net in self._nets.items():
            hints = [None if sight is None else sight.hints.get(kind) for sight in sights]
            newest = next((hint for hint in hints if hint is not None), None)
            scale = self._scale(kind, at, sights)
            if newest is None or scale is None:
                continue
            seen = torch.cat([newest if hint is None else hint for hint in hints])
            down, middle = net.run(noisy, at, context, seen, scale, added)
            if total is not None:
                down = [one + other for one, other in zip(total[0], down, strict=True)]
                middle = total[1] + middle
            total = down, middle
        return total

    def nothing(
        self,
        noisy: torch.Tensor,
        at: torch.Tensor,
        context: torch.Tensor,
        added: Mapping[str, torch.Tensor] | None,
    ) -> Residuals:
        """What ControlNets that do not act add: zeros, in the form of :meth:`residuals`."""
        if self._zeros is None or self._zeros[0] != noisy.shape:
            net = next(iter(self._nets.values()))
            scale = torch.zeros(1, 1, 1, 1, device=noisy.device, dtype=noisy.dtype)
            hints = net.no_hints(noisy)
            down, middle = net.run(noisy, at, context, hints, scale, added)
            zeros = [torch.zeros_like(level) for level in down], torch.zeros_like(middle)
            self._zeros = noisy.shape, zeros
        return self._zeros[1]

    def _scale(
        self, kind: ControlKind, at: torch.Tensor, sights: Sequence[Sight | None]
    ) -> torch.Tensor | None:  # (1, 1, 1, 1) or (B, 1, 1, 1)
        """How hard a ControlNet is to hold all rows or each of them; None: it is not to act."""
        rows = [
            (0.0, 0.0, 1.0)
            if sight is None
            else (
                sight.under.parameters.control_scale(kind),
                sight.under.parameters.control_guidance_start,
                sight.under.parameters.control_guidance_end,
            )
            for sight in sights
        ]
        if not any(scale for scale, _, _ in rows):
            return None
        if len(set(rows)) == 1 and rows[0][1:] == (0.0, 1.0):
            return torch.full((1, 1, 1, 1), rows[0][0], device=at.device, dtype=self._device.dtype)
        way = 1 - at.float() / (self._steps - 1)
        scale, start, end = torch.tensor(rows, device=at.device).unbind(1)
        held = torch.where((way >= start) & (way <= end), scale, 0.0)
        return held.to(self._device.dtype).reshape(-1, 1, 1, 1)

    def _look(self, kind: ControlKind) -> "_Look":
        if kind != "depth":
            return _LinesLook(kind, self._device)
        assert self._estimator is not None
        return _DepthLook(self._estimator)


# Looking at frames -------------------------------------------------------------------------------


class Watcher:
    """Looks at the frames of one stream, and remembers what is needed for the next."""

    def __init__(self, watches: "Mapping[ControlKind, _Watch]") -> None:
        self._watches = watches
        self._under = InForce(ControlParameters())

    def forget(self) -> None:
        """See the next frame as if it were the first."""
        for watch in self._watches.values():
            watch.forget()

    def see(self, frame: Frame, parameters: ControlParameters) -> Sight:
        """Look at the next frame; all frames under way are under these parameters from now on.

        Args:
            frame: uint8, H x W x 3.
        """
        self._under.parameters = parameters
        maps, hints = {}, {}
        for kind, watch in self._watches.items():
            if parameters.control_scale(kind):
                maps[kind], hints[kind] = watch(frame, parameters)
            else:
                # When it is asked again, what it saw long ago is of no use.
                watch.forget()
        return Sight(maps, hints, self._under)


class _Look(ABC):
    """From a frame to a map."""

    @abstractmethod
    def __call__(self, frame: Frame, parameters: ControlParameters) -> torch.Tensor:  # (H, W)
        """The map of a frame; the same tensor as before if it is the same map."""


class _LinesLook(_Look):
    def __init__(self, kind: ControlKind, device: Device) -> None:
        self._kind = kind
        self._device = device

    def __call__(self, frame: Frame, parameters: ControlParameters) -> torch.Tensor:
        if self._kind == "canny":
            lines = edges.canny(frame, parameters.canny_low, parameters.canny_high)
        else:
            lines = edges.scribble(frame, parameters.scribble_detail)
        return torch.from_numpy(lines).to(self._device.torch).float() / 255


class _DepthLook(_Look):
    """Measures every so-manieth frame, and says of the others what it said last."""

    def __init__(self, estimator: DepthEstimator) -> None:
        self._estimator = estimator
        self._normalised = Normaliser()
        self._near: torch.Tensor | None = None
        self._age = 0  # frames since that was measured
        self._within = (0.0, 1.0)
        self._map: torch.Tensor | None = None

    def __call__(self, frame: Frame, parameters: ControlParameters) -> torch.Tensor:
        near = self._near
        due = self._age >= parameters.depth_skip_interval
        if near is None or due or near.shape != frame.shape[:2]:
            depth = self._estimator([frame], parameters.depth_input_size)[0]
            near = self._normalised(depth, remember=parameters.depth_memory)
            self._near, self._age, self._map = near, 0, None
        self._age += 1
        within = (
            min(parameters.depth_min, parameters.depth_max),
            max(parameters.depth_min, parameters.depth_max),
        )
        if self._map is None or within != self._within:
            self._within, self._map = within, near.clamp(*within)
        return self._map


class _Watch:
    """One ControlNet's view of a stream: maps that follow the frames, and their hints."""

    def __init__(
        self, new_look: Callable[[], _Look], hint: Callable[[torch.Tensor], torch.Tensor]
    ) -> None:
        self._new_look = new_look
        self._hint = hint
        self.forget()

    def forget(self) -> None:
        self._look = self._new_look()
        self._map: torch.Tensor | None = None
        self._hinted: torch.Tensor | None = None

    def __call__(
        self, frame: Frame, parameters: ControlParameters
    ) -> tuple[torch.Tensor, torch.Tensor]:  # (H, W) and (1, C, h, w)
        """The map of the next frame and its hint."""
        now = self._look(frame, parameters)
        follow = parameters.controlnet_temporal_smoothing
        if self._map is not None and self._map.shape == now.shape and follow < 1:
            now = self._map + follow * (now - self._map)
        if self._hinted is None or now is not self._map:
            self._map, self._hinted = now, self._hint(now)
        return now, self._hinted


# Loading -----------------------------------------------------------------------------------------


def _usual(kind: ControlKind, unet: Any) -> str:
    known = USUAL.get(unet.config.cross_attention_dim)
    if known is None:
        raise EngineError(
            f"there is no usual ControlNet for this model: name one with --controlnet={kind}=..., "
            "or use Stable Diffusion 1.5, 2.1 or SDXL"
        )
    return known[1][kind]


def load_controlnet(
    model: str, unet: Any, device: Device, offline: bool, report: Report
) -> "ControlNet":
    """Load a ControlNet that fits a U-Net.

    Args:
        model: hub id, or a folder with ``config.json`` and its weights.

    Raises:
        EngineError: it cannot be loaded, or is made for another model.
    """
    folder = find_component(model, "ControlNet", device, offline=offline, report=report)
    net = load_component(folder, ".", ControlNetModel.from_pretrained, device.dtype)
    _check_fit(model, net.config, unet.config)
    net.eval().requires_grad_(False)
    told(lambda: net.to(device.torch, memory_format=torch.channels_last), model)
    return ControlNet(net)


def _check_fit(model: str, net: Any, unet: Any) -> None:
    for name in _MUST_MATCH:
        has, expected = _plain(getattr(net, name, None)), _plain(getattr(unet, name, None))
        if has != expected:
            made_for = USUAL.get(net.cross_attention_dim, ("another model", {}))[0]
            ours = USUAL.get(unet.cross_attention_dim, ("this model", {}))[0]
            raise EngineError(
                f"ControlNet {model} is made for {made_for} ({name} {has}) and cannot steer "
                f"{ours} ({name} {expected}): choose one that is made for the model"
            )
    if net.conditioning_channels != 3 or net.class_embed_type or net.global_pool_conditions:
        raise EngineError(
            f"ControlNet {model} wants more than a map of the frame: expected one for depth, "
            "scribble or canny"
        )


def _plain(value: Any) -> Any:
    return list(value) if isinstance(value, tuple | list) else value


class ControlNet:
    """A ControlNet that takes hints in place of maps: what it makes of a map is made once."""

    def __init__(self, net: Any) -> None:
        self._taking_in = net.controlnet_cond_embedding
        net.controlnet_cond_embedding = torch.nn.Identity()
        self._net = net
        self._turned = net.config.controlnet_conditioning_channel_order == "bgr"
        self.run: Callable[..., Residuals] = Over(net, _call_controlnet)
        """Asks it: noisy, at, context, hints, scale, added, as in :meth:`Controls.residuals`."""

    def hint(self, seen: torch.Tensor) -> torch.Tensor:  # (H, W) to (1, C, h, w)
        """What the ControlNet makes of a map of 0..1."""
        # All three channels are alike, so their order does not matter.
        rows = seen.to(self._net.dtype).expand(1, 3, *seen.shape)
        hint: torch.Tensor = self._taking_in(rows.contiguous(memory_format=torch.channels_last))
        # It turns round what it is given: to get it as it is, it is turned before.
        return hint.flip(1) if self._turned else hint

    def no_hints(self, noisy: torch.Tensor) -> torch.Tensor:
        """The hints of no map at all, for latents (B, C, h, w)."""
        rows, _, height, width = noisy.shape
        channels = self._net.config.block_out_channels[0]
        zeros = torch.zeros(rows, channels, height, width, device=noisy.device, dtype=noisy.dtype)
        return zeros.contiguous(memory_format=torch.channels_last)


def _call_controlnet(
    net: Any,
    noisy: torch.Tensor,
    at: torch.Tensor,
    context: torch.Tensor,
    hints: torch.Tensor,
    scale: torch.Tensor,
    added: Mapping[str, torch.Tensor] | None,
) -> Residuals:
    down, middle = net(
        noisy,
        at,
        encoder_hidden_states=context,
        controlnet_cond=hints,
        conditioning_scale=scale,
        added_cond_kwargs=added,
        return_dict=False,
    )
    return down, middle
