"""The package ``streamdiffusion`` as an engine: its arithmetic, our loading and live parameters.

Ours computes the same (the golden tests say so) and more; this is for those who want to compare,
or to be sure. The package is given the numbers of a plan in place of its own ``prepare``, and a
U-Net that asks ours, so that prompts, guidance, SDXL and the rest work as everywhere. It differs
where the package does: a changed seed or schedule gives up the frames under way, as its buffer
holds them with their noise; and noise between steps is always fresh. Its feedback of noise with one
step and guidance ``self``, which ends in NaN, is cut.
"""

from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from types import SimpleNamespace
from typing import Any, ClassVar

import torch
from diffusers import LCMScheduler

from dreamrelay.engines.denoise import Denoiser, Plan, Run, State, StreamBatch
from dreamrelay.engines.loading import LoadedModel
from dreamrelay.engines.ports import EngineSettings
from dreamrelay.engines.stream_batch import StreamBatchEngine
from dreamrelay.errors import ConfigError, EngineError
from dreamrelay.importer import Entry

_PACKAGE = Entry("streamdiffusion:StreamDiffusion", "the streamdiffusion package")


class StreamDiffusionEngine(StreamBatchEngine):
    """A stream batch whose steps the package ``streamdiffusion`` computes."""

    name: ClassVar[str] = "streamdiffusion"

    def __init__(self, settings: EngineSettings) -> None:
        if find_spec("streamdiffusion") is None:
            raise ConfigError(
                "engine: the package streamdiffusion is not installed: pip install --no-deps "
                "streamdiffusion==0.1.1 (its own pins are of 2023), or choose stream-batch"
            )
        if settings.frame_buffer_size > 1:
            raise ConfigError(
                "frame_buffer_size: the streamdiffusion package returns one picture a call, got "
                f"{settings.frame_buffer_size}; expected 1, or the engine stream-batch"
            )
        super().__init__(settings)

    def _absent(self) -> Mapping[str, str]:
        own = "start the worker with --engine=stream-batch"
        return {**super()._absent(), "renoise": own, "follow_motion": own}

    def _take(self, model: LoadedModel) -> None:
        if model.prediction != "epsilon" or model.half_share is not None:
            raise EngineError(
                f"{model.name} predicts {model.prediction}, and the streamdiffusion package knows "
                "epsilon only: choose the engine stream-batch"
            )
        super()._take(model)
        self.denoiser = PackageDenoiser(torch, self._predict, model.prediction)
        self.stream = PackageStream(self.denoiser)


class PackageDenoiser(Denoiser):
    """Single pictures by the package: the frame goes in until its picture comes out."""

    def passing(self, plan: Plan, clean: Any, tokens: Sequence[Any] = ()) -> Run[list[State]]:
        picture, _ = yield from PackageStream(self).calling(plan, clean, tokens)
        return [State(picture)]


class PackageStream(StreamBatch[Any]):
    """The package's buffers, behind what our engines ask of a stream."""

    def __init__(self, denoiser: Denoiser) -> None:
        super().__init__(denoiser)
        self._package: Any = None
        self._rows: Any = None
        self._clean: torch.Tensor | None = None

    @property
    def latents(self) -> Any:
        return self._clean

    def clear(self) -> None:
        super().clear()
        self._package = self._rows = self._clean = None

    def calling(self, plan: Plan, fresh: Any, tokens: Sequence[Any]) -> Run[tuple[Any, list[Any]]]:
        yield from ()  # the package calls the U-Net itself: no other stream can take part in that
        begin = self._package is None or not self._stands(plan)
        before = (None, None) if begin else self._buffers
        try:
            if begin:
                self._begin_anew(plan, fresh)
            self._tell(plan)
            for _ in range(plan.steps if begin else 1):
                aboard = [*tokens] * plan.steps if begin else [*tokens, *self.tokens[:-1]]
                picture = self._feed(plan, fresh, aboard)
        except BaseException:  # Ctrl-C too: half of it is of no use
            if begin:
                self.clear()
            else:
                self._buffers = before  # a call that fails leaves the stream as it was
            raise
        self.tokens, self._clean = aboard, picture
        return picture, aboard[-1:]

    def _stands(self, plan: Plan) -> bool:
        """Whether what is under way has the noise of this plan on it."""
        rows, before = plan.rows, self._rows
        if rows is before:
            return True
        names = ("timesteps", "eps", "added")
        return all(torch.equal(getattr(rows, name), getattr(before, name)) for name in names)

    def _begin_anew(self, plan: Plan, fresh: torch.Tensor) -> None:
        rows = plan.rows
        _, _, height, width = fresh.shape
        pipeline = SimpleNamespace(
            device=fresh.device,
            vae_scale_factor=8,
            scheduler=LCMScheduler(),
            text_encoder=None,
            unet=None,
            vae=None,
        )
        package = _PACKAGE.load()(
            pipeline,
            list(range(plan.steps)),
            torch_dtype=torch.float32,
            width=width * 8,
            height=height * 8,
            do_add_noise=True,
            cfg_type=plan.guidance.kind,
        )
        package.sub_timesteps_tensor = rows.timesteps
        package.alpha_prod_t_sqrt, package.beta_prod_t_sqrt = rows.signal, rows.noise
        package.c_skip, package.c_out = rows.skip, rows.out
        package.init_noise = rows.eps
        package.stock_noise = torch.zeros_like(rows.eps)
        package.x_t_latent_buffer = torch.zeros_like(rows.eps[1:]) if plan.steps > 1 else None
        package.do_add_noise = plan.steps == 1 or bool(rows.added[1:].any())
        self._package = package

    def _tell(self, plan: Plan) -> None:
        guidance, package = plan.guidance, self._package
        if guidance.kind != package.cfg_type:
            package.stock_noise = torch.zeros_like(plan.rows.eps)
        package.cfg_type, package.delta = guidance.kind, guidance.delta
        package.guidance_scale = guidance.scale if guidance.active else 1.0
        package.prompt_embeds = None  # what the U-Net is told, it asks of the plan
        self._rows = plan.rows

    def _feed(self, plan: Plan, fresh: torch.Tensor, aboard: Sequence[Any]) -> torch.Tensor:
        package, rows = self._package, plan.rows
        condition = plan.condition
        if plan.board is not None:
            condition = condition.of(plan.boarded(aboard).rows.riders)

        def unet(noisy: torch.Tensor, at: torch.Tensor, **options: Any) -> tuple[torch.Tensor]:
            negatives = len(noisy) - len(rows.timesteps)
            return (self.denoiser.predict(noisy, at, condition, negatives),)

        package.unet = unet
        if plan.steps == 1:
            # Without this the counterpart of a frame would be made of that of the frame before.
            package.stock_noise = rows.eps.clone()
        noisy = package.add_noise(fresh, rows.eps[0:1], 0)
        picture: torch.Tensor = package.predict_x0_batch(noisy)
        return picture

    @property
    def _buffers(self) -> tuple[Any, Any]:
        return self._package.x_t_latent_buffer, self._package.stock_noise

    @_buffers.setter
    def _buffers(self, kept: tuple[Any, Any]) -> None:
        self._package.x_t_latent_buffer, self._package.stock_noise = kept
