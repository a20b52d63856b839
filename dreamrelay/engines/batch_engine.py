"""What every stream-batch engine is beside its arithmetic library: one class, and few hooks.

Here are parameters, plans, gathering of frames, the similar-image filter, counters and what happens
when a call fails. A backend (:mod:`stream_batch` with torch, :mod:`pocket_engine` with numpy and an
ONNX runtime) loads a model, moves pixels to latents and back, encodes prompts and calls the U-Net.
"""

import logging
from abc import abstractmethod
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field
from typing import Any, ClassVar, Generic, NoReturn, TypeVar

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel

from dreamrelay.codec import Frame
from dreamrelay.engines.denoise import (
    Array,
    Denoiser,
    Guidance,
    Plan,
    Prediction,
    Rows,
    StreamBatch,
)
from dreamrelay.engines.parameters import StreamBatchParameters, validate_patch
from dreamrelay.engines.ports import Engine, EngineSettings, Progress, Report, Result, Token
from dreamrelay.engines.prompts import PromptCache, blended, turned_away, weighted
from dreamrelay.engines.schedule import Vector, schedule, timesteps
from dreamrelay.engines.similar_image import SimilarImageFilter
from dreamrelay.errors import ConfigError, EngineError, ParameterError

logger = logging.getLogger(__name__)

_WARM_UP_CALLS = 2
_PLANS_KEPT = 3  # of the stream, and of single pictures that come in between
_NO_MODEL = "the engine has no model: it was not loaded, or it was closed"


@dataclass(kw_only=True)
class ModelForm:
    """What there is to know of a model beside its weights.

    Attributes:
        alphas: see :func:`schedule.cumulative_alphas`.
        prediction: what the U-Net was trained to say.
        channels, scale: of the latents; a latent is ``scale`` times smaller than the picture.
        multiple: pixels; frames are padded inside to sides that are multiples of it.
        width, height: pixels of the pictures that the model was made for.
        half_share: see :func:`schedule.schedule`.
        straight: whether its prompts' embeddings go on in a straight line beyond each other, so
            that weights and a negative prompt need no second call of the U-Net.
        defaults: parameters that it looks best with.
        vocabulary: the words that it knows, by kind; empty where it knows them all.
    """

    name: str
    alphas: Vector
    prediction: Prediction
    channels: int
    scale: int
    multiple: int
    width: int
    height: int
    half_share: float | None = None
    straight: bool = False
    defaults: dict[str, Any] = field(default_factory=dict)
    vocabulary: dict[str, Any] = field(default_factory=dict)


Model = TypeVar("Model", bound=ModelForm)


@dataclass(slots=True)
class Condition:
    """The prompts of a plan, repeated to as many rows as a call of the U-Net has."""

    xp: Any
    prompt: Array  # (1, words, width)
    negative: Array | None  # (1, words, width)
    _rows: dict[tuple[int, int], Array] = field(default_factory=dict)

    def rows(self, count: int, negatives: int) -> Array:  # (count, words, width)
        """``negatives`` rows of the negative prompt, then the prompt."""
        key = (count, negatives)
        if key not in self._rows:
            rows = [self.prompt] * (count - negatives)
            if negatives and self.negative is not None:
                rows = [self.negative] * negatives + rows
            self._rows[key] = self.xp.concatenate(rows)
        return self._rows[key]


def seeded_noise(seed: int, shape: tuple[int, ...]) -> NDArray[np.float32]:
    """Standard normal noise; the same for a seed in every engine, on every device."""
    return np.random.default_rng(seed).standard_normal(shape, np.float32)


class BatchEngine(Engine, Generic[Model]):
    """A stream batch over a model; backends fill in what is abstract here."""

    parameters_type: ClassVar[type[BaseModel]] = StreamBatchParameters
    xp: ClassVar[Any]
    """The library of the arrays: torch or numpy."""

    errors: ClassVar[tuple[type[Exception], ...]] = (RuntimeError, MemoryError)
    """What the library raises when a call fails."""

    def __init__(self, settings: EngineSettings) -> None:
        check_sizes(settings)
        self._settings = settings
        self._asked = dict(settings.parameters)
        try:
            self._parameters = validate_patch(StreamBatchParameters(), self._asked)
        except ParameterError as error:
            raise ConfigError(f"parameters: {error}") from error
        self.model_name = settings.model
        self.width = settings.width or 0
        self.height = settings.height or 0
        self._model: Model | None = None
        self._prompts: PromptCache[Array] = PromptCache(self._encode_prompt)
        self.denoiser = Denoiser(self.xp, self._predict, "epsilon")
        self.stream: StreamBatch[Any] = StreamBatch(self.denoiser)
        self._plans: list[tuple[StreamBatchParameters, Plan]] = []
        self._filter = SimilarImageFilter()
        self._gathered: list[tuple[Frame, Any]] = []
        self._ready: deque[Result[Any]] = deque()
        self._last: Frame | None = None
        self._short_of_memory = False
        self._counts = {"frames_inferred": 0, "frames_skipped": 0, "frames_failed": 0}

    # What a backend does -------------------------------------------------------------------------

    @abstractmethod
    def _load_model(self, report: Report) -> Model:
        """Load what the settings name.

        Raises:
            EngineError: it cannot be loaded.
        """

    @abstractmethod
    def _encode_pixels(self, frames: Sequence[Frame]) -> Array:
        """m frames, padded, to clean latents (m, C, h, w); they hold until the next call."""

    @abstractmethod
    def _decode_pixels(self, latents: Array) -> list[Frame]:
        """Clean latents (m, C, h, w) to m frames of the padded size, each in memory of its own."""

    @abstractmethod
    def _encode_prompt(self, text: str) -> Array:
        """A text to its embedding (1, words, width)."""

    @abstractmethod
    def _predict(
        self, noisy: Array, at: Array, condition: Condition, negatives: int
    ) -> Array:  # (B, C, h, w)
        """One call of the U-Net, see :class:`denoise.Predict`."""

    def _placed(self, values: NDArray[Any]) -> Array:
        """Values of a plan, one row each, where the backend computes."""
        return values

    def _computing_mode(self) -> AbstractContextManager[Any]:
        """What to be in while the library computes."""
        return nullcontext()

    def _is_out_of_memory(self, error: Exception) -> bool:
        return isinstance(error, MemoryError)

    def _free_memory(self) -> None:
        """Give back what the library holds in reserve."""

    # Loading -------------------------------------------------------------------------------------

    def load(self, report: Report) -> None:
        if self._model is not None:
            return
        try:
            self._take(self._load_model(report))
            self._warm_up(report)
        except BaseException:  # Ctrl-C too: half a model is of no use and holds its memory
            self.close()
            raise

    def _take(self, model: Model) -> None:
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
        self.denoiser = Denoiser(self.xp, self._predict, model.prediction)
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
        self._free_memory()

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
        numbers = schedule(at, model.alphas, model.half_share)
        guidance = Guidance(parameters.cfg_type, parameters.guidance_scale, parameters.delta)
        added = numbers.noise.copy()
        if not parameters.do_add_noise:
            added[1:] = 0
        height, width = self._padded
        h, w = height // model.scale, width // model.scale
        eps = seeded_noise(parameters.seed, (len(at), model.channels, h, w))  # (n, C, h, w)

        def per_row(values: NDArray[Any]) -> Array:  # (n, ...) to (n * m, ...)
            return self._placed(np.repeat(values, frames, axis=0) if frames > 1 else values)

        def factor(values: NDArray[Any]) -> Array:  # (n,) to (n * m, 1, 1, 1)
            return per_row(values.reshape(-1, 1, 1, 1))

        rows = Rows(
            per_row(np.asarray(at, dtype=np.int64)),
            signal=factor(numbers.signal),
            noise=factor(numbers.noise),
            skip=factor(numbers.skip),
            out=factor(numbers.out),
            added=factor(added),
            eps=per_row(eps),
            fresh=frames,
        )
        return Plan(len(at), frames, rows, guidance, self._condition(parameters, guidance))

    def _condition(self, parameters: StreamBatchParameters, guidance: Guidance) -> Condition:
        """What the U-Net is told under ``parameters``."""

        def encode(text: str) -> Array:  # (1, words, width)
            plain = self._prompts.__getitem__
            return weighted(text, plain) if self.model.straight else plain(text)

        wanted = blended(parameters, encode)
        if guidance.active and guidance.kind in ("full", "initialize"):
            return Condition(self.xp, wanted, encode(parameters.negative_prompt))
        if self.model.straight and parameters.negative_prompt.strip():
            wanted = turned_away(wanted, encode(parameters.negative_prompt))
        return Condition(self.xp, wanted, None)

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

    def encode(self, frames: Sequence[Frame]) -> Array:  # (m, C, h, w)
        """Frames to clean latents; these hold until the next call."""
        height, width = self._padded
        below, right = height - self.height, width - self.width
        if below or right:
            # By their own edge: a border of grey would bleed into the picture.
            margin = ((0, below), (0, right), (0, 0))
            frames = [np.pad(frame, margin, mode="edge") for frame in frames]
        return self._encode_pixels(frames)

    def decode(self, latents: Array) -> list[Frame]:  # of (m, C, h, w)
        """Clean latents to frames."""
        frames = self._decode_pixels(latents)
        if self._padded == (self.height, self.width):
            return frames
        cut = (slice(self.height), slice(self.width))
        return [np.ascontiguousarray(frame[cut]) for frame in frames]

    @property
    def _padded(self) -> tuple[int, int]:
        """Height and width in pixels that the model computes."""
        multiple = self.model.multiple
        return -(-self.height // multiple) * multiple, -(-self.width // multiple) * multiple

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

    # When it goes wrong --------------------------------------------------------------------------

    @property
    def model(self) -> Model:
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
        """Compute; a lack of memory costs the frame, never the engine."""
        if self._short_of_memory:
            # Not when it happened: the error itself held on to what is to be freed.
            self._short_of_memory = False
            self._free_memory()
        try:
            with self._computing_mode():
                yield
        except self.errors as error:
            self._failed(what, error)

    def _failed(self, what: str, error: Exception) -> NoReturn:
        self._counts["frames_failed"] += 1
        self._filter.reset()  # no picture came of the frame that the next ones would be compared to
        if not self._is_out_of_memory(error):
            text = " ".join(str(error).split())[:300]
            raise EngineError(f"{what} failed: {text}") from error
        self._short_of_memory = True
        self._plans.clear()
        raise EngineError(out_of_memory(what)) from error


def out_of_memory(doing: str) -> str:
    return f"out of memory while {doing}: choose a smaller size, fewer steps or a smaller model"


def check_sizes(settings: EngineSettings) -> None:
    """Refuse sizes that cannot work before anything is loaded (ConfigError)."""
    for name in ("width", "height"):
        value = getattr(settings, name)
        if value is not None and (value % 8 or not 8 <= value <= 4096):
            raise ConfigError(f"{name}: expected a multiple of 8 from 8 to 4096, got {value}")
    if not 1 <= settings.frame_buffer_size <= 16:
        raise ConfigError(f"frame_buffer_size: expected 1..16, got {settings.frame_buffer_size}")
