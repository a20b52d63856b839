"""The stream-batch engine: Stable Diffusion or the pocket model on live frames, with torch.

This module moves pixels and prompts in and out. The arithmetic of the steps is in ``denoise.py``,
the numbers of each step in ``schedule.py``, the way from a name to torch modules in ``loading.py``.
"""

import logging
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, ClassVar, NoReturn

import numpy as np
import torch
from pydantic import BaseModel

from dreamrelay.codec import Frame
from dreamrelay.engines.denoise import Denoiser, Guidance, Plan, Rows, StreamBatch
from dreamrelay.engines.devices import (
    choose_device,
    free_memory,
    is_out_of_memory,
    use_cores_sparingly,
)
from dreamrelay.engines.loading import (
    LoadedModel,
    can_fuse_loras,
    encode_picture,
    load_model,
    out_of_memory,
)
from dreamrelay.engines.parameters import StreamBatchParameters, validate_patch
from dreamrelay.engines.ports import Engine, EngineSettings, Progress, Report, Result, Token
from dreamrelay.engines.prompts import PromptCache
from dreamrelay.engines.schedule import schedule, timesteps
from dreamrelay.engines.similar_image import SimilarImageFilter
from dreamrelay.errors import ConfigError, EngineError, MissingExtra, ParameterError

logger = logging.getLogger(__name__)

_WARM_UP_CALLS = 2
_PLANS_KEPT = 3  # of the stream, and of single pictures that come in between
_NO_MODEL = "the engine has no model: it was not loaded, or it was closed"


@dataclass(slots=True)
class Condition:
    """The prompts of a plan, repeated to as many rows as a call of the U-Net has."""

    prompt: torch.Tensor  # (1, words, width)
    negative: torch.Tensor | None  # (1, words, width)
    _rows: dict[tuple[int, int], torch.Tensor] = field(default_factory=dict)

    def rows(self, count: int, negatives: int) -> torch.Tensor:  # (count, words, width)
        """``negatives`` rows of the negative prompt, then the prompt."""
        key = (count, negatives)
        if key not in self._rows:
            rows = self.prompt.expand(count - negatives, -1, -1)
            if negatives and self.negative is not None:
                rows = torch.cat([self.negative.expand(negatives, -1, -1), rows])
            self._rows[key] = rows.contiguous()
        return self._rows[key]


class StreamBatchEngine(Engine):
    """Stable Diffusion 1.x, 2.x, SD-Turbo or the pocket model as a stream batch."""

    name: ClassVar[str] = "stream-batch"
    parameters_type: ClassVar[type[BaseModel]] = StreamBatchParameters

    def __init__(self, settings: EngineSettings) -> None:
        _check(settings)
        self._settings = settings
        self._device = choose_device(settings.device, fast=settings.acceleration == "auto")
        self._asked = dict(settings.parameters)
        try:
            self._parameters = validate_patch(StreamBatchParameters(), self._asked)
        except ParameterError as error:
            raise ConfigError(f"parameters: {error}") from error
        self.model_name = settings.model
        self.device_name = self._device.name
        self.width = settings.width or 0
        self.height = settings.height or 0
        self._model: LoadedModel | None = None
        self._prompts: PromptCache[torch.Tensor] = PromptCache(self._encode_prompt)
        self.denoiser = Denoiser(torch, self._predict, "epsilon")
        self.stream: StreamBatch[Any] = StreamBatch(self.denoiser)
        self._plans: list[tuple[StreamBatchParameters, Plan]] = []
        self._filter = SimilarImageFilter()
        self._gathered: list[tuple[Frame, Any]] = []
        self._ready: deque[Result[Any]] = deque()
        self._last: Frame | None = None
        self._short_of_memory = False
        self._counts = {"frames_inferred": 0, "frames_skipped": 0, "frames_failed": 0}

    # Loading -------------------------------------------------------------------------------------

    def load(self, report: Report) -> None:
        if self._model is not None:
            return
        if self._settings.acceleration == "auto":
            precision = str(self._device.dtype).removeprefix("torch.")
            logger.info("acceleration: auto chose %s on %s", precision, self.device_name)
        if self._device.torch.type == "cpu":
            use_cores_sparingly()
        try:
            model = load_model(self._settings, self._device, report)
            self._take(model)
            self._warm_up(report)
        except BaseException:  # Ctrl-C too: half a model is of no use and holds its memory
            self.close()
            raise

    def _take(self, model: LoadedModel) -> None:
        width, height = self._settings.width or model.width, self._settings.height or model.height
        if width % model.scale or height % model.scale:
            raise EngineError(
                f"{model.name} makes pictures whose sides are multiples of {model.scale}, got "
                f"{width}x{height}"
            )
        try:
            of_model = validate_patch(StreamBatchParameters(), model.defaults)
        except ParameterError as error:
            raise EngineError(f"defaults.json of {model.name} is wrong: {error}") from error
        # What was asked for, when opened or by a patch since, goes over what suits the model.
        self._adopt(validate_patch(of_model, self._asked))
        self.width, self.height = width, height
        self._model = model
        self.denoiser = Denoiser(torch, self._predict, model.prediction)
        self.stream = StreamBatch(self.denoiser)

    def _warm_up(self, report: Report) -> None:
        grey = np.full((self.height, self.width, 3), 128, dtype=np.uint8)
        for call in range(_WARM_UP_CALLS):
            report(Progress("warming", f"{self.width}x{self.height} pixels", call / _WARM_UP_CALLS))
            with self._computing("warming up"):
                size = self._settings.frame_buffer_size
                self._pictures([grey] * size, [None] * size)
        self.stream.clear()

    def close(self) -> None:
        if self._model is None:
            return
        self._model = None
        self.stream.clear()
        self._plans.clear()
        self._prompts.clear()
        self._gathered.clear()
        self._ready.clear()
        self._last = None
        if self._device.torch.type != "cpu":
            free_memory()

    # Parameters ----------------------------------------------------------------------------------

    @property
    def parameters(self) -> dict[str, Any]:
        return self._parameters.model_dump(mode="json")

    def apply(self, patch: Mapping[str, Any]) -> None:
        changed = validate_patch(self._parameters, patch)
        self._asked.update(patch)
        if changed != self._parameters:
            self._adopt(changed)

    def _adopt(self, parameters: StreamBatchParameters) -> None:
        self._parameters = parameters
        self._filter.threshold = parameters.similar_image_filter_threshold
        self._filter.max_skip = parameters.similar_image_filter_max_skip_frame
        # The last picture was made under the old values: no frame is alike enough to repeat it.
        self._filter.reset(parameters.seed)

    def schema(self) -> dict[str, Any]:
        schema = super().schema()
        if self._model is not None and self._model.vocabulary:
            schema["x-vocabulary"] = self._model.vocabulary
        return schema

    def counters(self) -> dict[str, float]:
        return {
            **self._counts,
            "prompts_encoded": self._prompts.encoded,
            "prompt_cache_hits": self._prompts.hits,
        }

    def plan(self, parameters: StreamBatchParameters, frames: int) -> Plan:
        """What the denoiser needs to know of ``parameters``; kept while they stay the same."""
        for of, plan in self._plans:
            if plan.frames == frames and of == parameters:
                return plan
        plan = self._new_plan(parameters, frames)
        self._plans = [(parameters, plan), *self._plans[: _PLANS_KEPT - 1]]
        return plan

    def _new_plan(self, parameters: StreamBatchParameters, frames: int) -> Plan:
        model = self.model
        at = timesteps(parameters, len(model.alphas))
        numbers = schedule(at, model.alphas)
        count = len(at)
        guidance = Guidance(parameters.cfg_type, parameters.guidance_scale, parameters.delta)
        added = numbers.noise.copy()
        if not parameters.do_add_noise:
            added[1:] = 0
        # From the processor's generator, so that a seed looks the same on every device.
        dice = torch.Generator().manual_seed(parameters.seed)
        h, w = self.height // model.scale, self.width // model.scale
        eps = torch.randn((count, model.channels, h, w), generator=dice)  # (n, C, h, w)

        def per_row(values: Any) -> torch.Tensor:  # (n, ...) to (n * m, ...)
            rows = torch.as_tensor(values).repeat_interleave(frames, dim=0)
            return rows.to(self._device.torch)

        def factor(values: Any) -> torch.Tensor:  # (n,) to (n * m, 1, 1, 1)
            return per_row(values).view(-1, 1, 1, 1)

        rows = Rows(
            per_row(np.asarray(at, dtype=np.int64)),
            signal=factor(numbers.signal),
            noise=factor(numbers.noise),
            skip=factor(numbers.skip),
            out=factor(numbers.out),
            added=factor(added),
            eps=per_row(eps).contiguous(memory_format=torch.channels_last),
            fresh=frames,
        )
        two_sided = guidance.active and guidance.kind in ("full", "initialize")
        condition = Condition(
            self._prompts[parameters.prompt],
            self._prompts[parameters.negative_prompt] if two_sided else None,
        )
        return Plan(count, frames, rows, guidance, condition)

    # Frames --------------------------------------------------------------------------------------

    def infer(self, frame: Frame, token: Token) -> Result[Token] | None:
        self._check_frame(frame)
        if self._is_similar(frame):
            return self._repeated(token)
        size = self._settings.frame_buffer_size
        # A frame that waits for others must not change when its owner reuses the memory.
        self._gathered.append((frame.copy() if size > 1 else frame, token))
        if self._last is None:
            # The first frame fills the buffer alone, so that there is a picture at once.
            self._gathered *= size
        if len(self._gathered) >= size:
            frames = [gathered for gathered, _ in self._gathered]
            tokens = [whose for _, whose in self._gathered]
            self._gathered.clear()
            with self._computing(f"computing {len(frames)} frame(s) of {self.width}x{self.height}"):
                pictures, tokens = self._pictures(frames, tokens)
            self._ready += [Result(*made) for made in zip(pictures, tokens, strict=True)]
        return self._next_ready()

    def infer_once(self, frame: Frame, patch: Mapping[str, Any]) -> Frame:
        self._check_frame(frame)
        parameters = validate_patch(self._parameters, patch)
        with self._computing(f"computing a frame of {self.width}x{self.height}"):
            plan = self.plan(parameters, frames=1)
            latents, _ = self.denoiser.through(plan, self.encode([frame]))
            return self.decode(latents[-1])[0]

    def _pictures(
        self, frames: Sequence[Frame], tokens: Sequence[Any]
    ) -> tuple[list[Frame], list[Any]]:
        """Take m frames in, let m pictures out."""
        plan = self.plan(self._parameters, len(frames))
        fresh = self.encode(frames)  # (m, C, h, w)
        if self._settings.use_denoising_batch:
            latents, tokens = self.stream.call(plan, fresh, tokens)
        else:
            latents = self.denoiser.through(plan, fresh)[0][-1]
        return self.decode(latents), list(tokens)

    def _next_ready(self) -> Result[Any] | None:
        if not self._ready:
            return None
        result = self._ready.popleft()
        self._last = result.frame
        self._counts["frames_inferred"] += 1
        return result

    def _is_similar(self, frame: Frame) -> bool:
        if not self._parameters.enable_similar_image_filter:
            return False
        return self._filter.skips(frame) and self._last is not None

    def _repeated(self, token: Any) -> Result[Any] | None:
        """What goes out for a skipped frame: a picture that waits, or the last one again."""
        self._counts["frames_skipped"] += 1
        if self._ready:
            return self._next_ready()
        # Pictures still to come must not go by tokens older than this one.
        self.stream.relabel(token)
        self._gathered = [(gathered, token) for gathered, _ in self._gathered]
        assert self._last is not None
        return Result(self._last, token, repeated=True)

    # Between pixels, latents and words -----------------------------------------------------------

    def encode(self, frames: Sequence[Frame]) -> torch.Tensor:  # (m, C, h, w)
        model = self.model
        pixels = torch.from_numpy(np.stack(frames)).to(self._device.torch)  # (m, H, W, 3)
        # Seen as (m, 3, H, W), which is channels-last already.
        pictures = (pixels.to(model.vae_dtype) / 127.5 - 1).permute(0, 3, 1, 2)
        return encode_picture(model.vae, pictures).float() * model.vae.config.scaling_factor

    def decode(self, latents: torch.Tensor) -> list[Frame]:  # (m, C, h, w)
        model = self.model
        scaled = (latents / model.vae.config.scaling_factor).to(model.vae_dtype)
        pictures = model.vae.decode(scaled).sample.float()  # (m, 3, H, W) in -1..1
        pixels = (pictures * 127.5 + 127.5).round().clamp(0, 255).to(torch.uint8)
        return list(pixels.permute(0, 2, 3, 1).contiguous().cpu().numpy())

    def _predict(
        self, noisy: torch.Tensor, at: torch.Tensor, condition: Any, negatives: int
    ) -> torch.Tensor:  # (B, C, h, w)
        rows = noisy.to(self._device.dtype).contiguous(memory_format=torch.channels_last)
        context = condition.rows(len(noisy), negatives)
        unet = self.model.unet
        said: torch.Tensor = unet(rows, at, encoder_hidden_states=context, return_dict=False)[0]
        # The steps are computed in full precision: dividing by a small signal eats bits.
        return said.float()

    def _encode_prompt(self, text: str) -> torch.Tensor:  # (1, words, width)
        model = self.model
        ids = model.tokenizer(
            text,
            padding="max_length",
            max_length=model.tokenizer.model_max_length,
            truncation=True,
            return_tensors="pt",
        ).input_ids
        embedding: torch.Tensor = model.text_encoder(ids.to(self._device.torch))[0]
        return embedding.to(self._device.dtype)

    # When it goes wrong --------------------------------------------------------------------------

    @property
    def model(self) -> LoadedModel:
        if self._model is None:
            raise EngineError(_NO_MODEL)
        return self._model

    def _check_frame(self, frame: Frame) -> None:
        if self._model is None:
            raise EngineError(_NO_MODEL)
        if frame.shape != (self.height, self.width, 3) or frame.dtype != np.uint8:
            raise EngineError(
                f"expected a frame of {self.height}x{self.width}x3 uint8, got "
                f"{'x'.join(map(str, frame.shape))} {frame.dtype}"
            )

    @contextmanager
    def _computing(self, what: str) -> Iterator[None]:
        """Compute without gradients; a lack of memory costs the frame, never the engine."""
        if self._short_of_memory:
            # Not when it happened: the error itself held on to what is to be freed.
            self._short_of_memory = False
            free_memory()
        try:
            with torch.inference_mode():
                yield
        except (RuntimeError, MemoryError) as error:
            self._failed(what, error)

    def _failed(self, what: str, error: Exception) -> NoReturn:
        self._counts["frames_failed"] += 1
        self._filter.reset()  # no picture came of the frame that the next ones would be compared to
        if not is_out_of_memory(error):
            text = " ".join(str(error).split())[:300]
            raise EngineError(f"{what} failed: {text}") from error
        self._short_of_memory = True
        self._plans.clear()
        raise EngineError(out_of_memory(what)) from error


def _check(settings: EngineSettings) -> None:
    """Refuse what cannot work before anything is loaded."""
    if settings.acceleration not in ("auto", "none"):
        raise ConfigError(
            f"acceleration: the stream-batch engine has no {settings.acceleration!r} yet; "
            "expected auto or none (plain torch in full precision on the CPU, half on a GPU)"
        )
    for name in ("width", "height"):
        value = getattr(settings, name)
        if value is not None and (value % 8 or not 8 <= value <= 4096):
            raise ConfigError(f"{name}: expected a multiple of 8 from 8 to 4096, got {value}")
    if not 1 <= settings.frame_buffer_size <= 16:
        raise ConfigError(f"frame_buffer_size: expected 1..16, got {settings.frame_buffer_size}")
    if (settings.loras or settings.use_lcm_lora) and not can_fuse_loras():
        raise MissingExtra("a LoRA", "worker")
