"""What every stream-batch engine is beside its arithmetic library: one class, and few hooks.

Here are parameters, plans, the way of a frame and what happens when a call fails; what waits before
and after a call is in :mod:`waiting`. A backend (:mod:`stream_batch` with torch,
:mod:`pocket_engine` with numpy and an ONNX runtime) loads a model, moves pixels to latents and
back, encodes prompts and calls the U-Net.
"""

import logging
from abc import abstractmethod
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import replace
from importlib.util import find_spec
from typing import Any, ClassVar, Generic, NoReturn, Self, TypeVar

import numpy as np
from numpy.typing import NDArray

from dreamrelay.codec import Frame
from dreamrelay.engines.coherence import Coherence, remembers
from dreamrelay.engines.condition import Condition, Flight, Told
from dreamrelay.engines.denoise import Array, Denoiser, Plan, Rows, StreamBatch
from dreamrelay.engines.licences import Licence
from dreamrelay.engines.masks import check_mask
from dreamrelay.engines.model_form import ModelForm as ModelForm  # for those that load one
from dreamrelay.engines.parameters import MAX_SIDE, StreamBatchParameters, validate_patch
from dreamrelay.engines.planning import Planner
from dreamrelay.engines.ports import (
    Coming,
    Engine,
    EngineSettings,
    Mask,
    Outcome,
    Progress,
    Report,
    Result,
    Token,
    Turn,
)
from dreamrelay.engines.prompts import Embedding, Morph
from dreamrelay.engines.together import (
    Decoding,
    Encoding,
    Landing,
    Making,
    UnderWay,
    alone,
    begun,
    make_together,
)
from dreamrelay.engines.waiting import Waiting, laid
from dreamrelay.errors import ConfigError, EngineError, ParameterError

logger = logging.getLogger(__name__)

_WARM_UP_CALLS = 2
_PROMPTS = ("prompt", "prompts", "negative_prompt")
_NO_MODEL = "the engine has no model: it was not loaded, or it was closed"


Model = TypeVar("Model", bound=ModelForm)


class BatchEngine(Engine, Generic[Model]):
    """A stream batch over a model; backends fill in what is abstract here."""

    parameters_type: ClassVar[type[StreamBatchParameters]] = StreamBatchParameters
    xp: ClassVar[Any]
    """The library of the arrays: torch or numpy."""

    errors: ClassVar[tuple[type[Exception], ...]] = (RuntimeError, MemoryError)
    """What the library raises when a call fails."""

    def __init__(self, settings: EngineSettings) -> None:
        check_sizes(settings)
        self._settings = settings
        self._model: Model | None = None
        sizes = {"width": settings.width, "height": settings.height}
        given = {name: pixels for name, pixels in sizes.items() if pixels is not None}
        self._asked = {**given, **settings.parameters}
        self._parameters = self.parameters_type()
        try:
            self._parameters = self._checked(self._parameters, self._asked)
        except ParameterError as error:
            raise ConfigError(f"parameters: {error}") from error
        self._values: tuple[StreamBatchParameters | None, dict[str, Any]] = (None, {})
        self.model_name = settings.model
        self.width = settings.width or 0
        self.height = settings.height or 0
        self._planner = Planner(self)
        self.denoiser = Denoiser(self.xp, self._predict, "epsilon")
        self.stream: StreamBatch[Flight] = StreamBatch(self.denoiser)
        self._stands: Condition | None = None  # what the last call was told
        self._morph: Morph | None = None
        self._coherence: Coherence | None = None  # None while nothing of it is asked for
        self._waiting = Waiting(settings.frame_buffer_size)
        self._under_way = UnderWay()
        self._short_of_memory = False
        self._frames_failed = 0

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
    def encode_prompt(self, text: str) -> Embedding:
        """A text to its embedding, one row."""

    @abstractmethod
    def _predict(
        self, noisy: Array, at: Array, condition: Told, negatives: int
    ) -> Array:  # (B, C, h, w)
        """One call of the U-Net, see :class:`denoise.Predict`."""

    def _absent(self) -> Mapping[str, str]:
        """What this engine cannot use as it was opened, and what that would need ("start the worker
        with --controlnets=depth"). It is not published, and refused."""
        return {}

    def _tune(self, parameters: StreamBatchParameters) -> None:
        """Bring the model into the state that ``parameters`` ask for (scales of LoRAs, say).

        Called before every use of the model, for single pictures too; cheap when nothing changed.
        """

    def _tuning(self, parameters: StreamBatchParameters) -> Hashable:
        """The state that :meth:`_tune` brings about; streams in one call must agree in it."""
        return ()

    def encoder_state(self) -> Hashable:
        """All that an embedding depends on beside its text; see :meth:`_tune`."""
        return ()

    def unwanted(self, text: str, embedding: Embedding) -> Embedding:
        """What the model is told of a negative prompt where guidance takes it in."""
        return embedding

    def _see(
        self, frames: Sequence[Frame], parameters: StreamBatchParameters, alone: bool
    ) -> Sequence[Any] | None:
        """Look at frames that come in: what is to travel with each (``Flight.seen``), or nothing.

        Args:
            alone: of a single picture: nothing of the stream may be used or changed.
        """
        return None

    def placed(self, values: NDArray[Any]) -> Array:
        """Values of a plan, one row each, where the backend computes."""
        return values

    def _in_one_go(
        self, plan: Plan, frames: Sequence[Frame], flights: Sequence[Flight]
    ) -> tuple[Coming[list[Frame]], list[Flight]] | None:
        """Pictures on their way, and whose they are, from one call of all of the model; None: part
        by part."""
        return None

    def _computing_mode(self) -> AbstractContextManager[Any]:
        """What to be in while the library computes."""
        return nullcontext()

    def _is_out_of_memory(self, error: Exception) -> bool:
        return isinstance(error, MemoryError)

    def _free_memory(self) -> None:
        """Give back what the library holds in reserve."""

    def _make_do(self) -> str | None:
        """Compute in a way that takes less memory from now on: in words; None: none is left."""
        return None

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
        suits: dict[str, Any] = {"width": model.width, "height": model.height}
        if model.straight:
            suits["negative_prompt_scale"] = 1.0
        try:
            of_model = validate_patch(self.parameters_type(), {**suits, **model.defaults})
        except ParameterError as error:
            raise EngineError(f"defaults.json of {model.name} is wrong: {error}") from error
        # What was asked for, when opened or by a patch since, goes over what suits the model.
        parameters = validate_patch(of_model, self._asked)
        if not _fits(model, parameters):
            raise EngineError(
                f"{model.name} makes pictures whose sides are multiples of {model.scale}, got "
                f"{parameters.width}x{parameters.height}"
            )
        self._model = model
        self.denoiser = Denoiser(self.xp, self._predict, model.prediction)
        self.stream = StreamBatch(self.denoiser)
        self._adopt(parameters)

    def _warm_up(self, report: Report) -> None:
        grey = np.full((self.height, self.width, 3), 128, dtype=np.uint8)
        for call in range(_WARM_UP_CALLS):
            report(Progress("warming", f"{self.width}x{self.height} pixels", call / _WARM_UP_CALLS))
            with self.computing("warming up"):
                size = self._settings.frame_buffer_size
                alone(self, self._passing([grey] * size, [Flight(None)] * size))
        self.forget()

    def close(self) -> None:
        if self._model is None:
            return
        self._under_way.settle()
        self._model = None
        self.forget()
        self._planner.clear()
        self._free_memory()

    def forget(self) -> None:
        self._under_way.settle()
        self.stream.clear()
        self._waiting.forget()
        self._stands = self._morph = None
        if self._coherence is not None:
            self._coherence.clear()

    # Parameters ----------------------------------------------------------------------------------

    @property
    def parameters(self) -> dict[str, Any]:
        # Other threads ask as well, perhaps while new values come into force.
        of, values = self._values
        if of is not self._parameters:
            of, absent = self._parameters, self._unusable()
            dumped = of.model_dump(mode="json")
            values = {name: value for name, value in dumped.items() if name not in absent}
            self._values = (of, values)
        return values.copy()

    @property
    def stateful(self) -> bool:
        return remembers(self._parameters, self._settings)

    @property
    def licence(self) -> Licence:
        return super().licence if self._model is None else self._model.licence

    @property
    def morphing(self) -> bool:
        return self._morph is not None

    def apply(self, patch: Mapping[str, Any]) -> None:
        changed = self._checked(self._parameters, patch)
        self._asked.update(patch)
        if changed != self._parameters:
            self._adopt(changed)

    def _unusable(self) -> Mapping[str, str]:
        needed = {} if find_spec("cv2") else {"follow_motion": 'pip install "dreamrelay[producer]"'}
        return {**needed, **self._absent()}

    def _checked(
        self, current: StreamBatchParameters, patch: Mapping[str, Any]
    ) -> StreamBatchParameters:
        """``current`` with the whole patch in it; ParameterError where something of it is wrong."""
        changed = validate_patch(current, patch, self._unusable())
        if self._model is not None and not _fits(self._model, changed):
            multiple = f"expected a multiple of {self._model.scale}"
            wrong = {name: multiple for name in ("width", "height") if name in patch}
            raise ParameterError(wrong)
        return changed

    def _adopt(self, parameters: StreamBatchParameters) -> None:
        before, self._parameters = self._parameters, parameters
        self._waiting.adopt(parameters)
        if self._model is None:
            return
        size = (parameters.width, parameters.height)
        if size != (self.width, self.height):
            self.forget()
            self.width, self.height = size
        if not parameters.transition_frames:
            self._morph = None
        elif self._stands is not None and any(
            getattr(before, name) != getattr(parameters, name) for name in _PROMPTS
        ):
            self._morph = Morph(
                (self._stands.prompt, self._stands.negative), parameters.transition_frames
            )
        if not Coherence.asked_for(parameters):
            self._coherence = None
        elif self._coherence is None:
            self._coherence = Coherence(self.xp, self.placed)

    def schema(self) -> dict[str, Any]:
        schema = super().schema()
        schema["x-absent"] = dict(self._unusable())
        for name in schema["x-absent"]:
            schema["properties"].pop(name, None)
        if self._model is not None and self._model.vocabulary:
            schema["x-vocabulary"] = self._model.vocabulary
        return schema

    def counters(self) -> dict[str, float]:
        return {
            "frames_inferred": self._waiting.inferred,
            "frames_skipped": self._waiting.skipped,
            "frames_failed": self._frames_failed,
            "prompts_encoded": self._planner.prompts.encoded,
            "prompt_cache_hits": self._planner.prompts.hits,
        }

    def plan(self, parameters: StreamBatchParameters, frames: int) -> Plan:
        """What the denoiser needs to know of ``parameters``; kept while they stay the same."""
        return self._planner.plan(parameters, frames, self.model, self._padded)

    # Frames --------------------------------------------------------------------------------------

    def infer(self, frame: Frame, token: Token, mask: Mask | None = None) -> Result[Token] | None:
        self._under_way.settle()
        with self.computing():
            return alone(self, self._inferring(frame, token, mask))

    def begin(
        self, frame: Frame, token: Token, mask: Mask | None = None
    ) -> Coming[Result[Token] | None]:
        looked_at = self._coherence is not None or self._parameters.enable_similar_image_filter
        # The next frame asks for this one's picture, or for those that came of the same call.
        if looked_at or self._waiting.last is None or self._settings.frame_buffer_size > 1:
            return super().begin(frame, token, mask)
        with self.computing():
            picture = begun(self, self._inferring(frame, token, mask))

        def land() -> Result[Token] | None:
            with self.computing():
                return picture()

        return self._under_way.add(Coming(land, picture.signal))

    def infer_once(self, frame: Frame, patch: Mapping[str, Any], mask: Mask | None = None) -> Frame:
        self._under_way.settle()
        with self.computing():
            return alone(self, self._inferring_once(frame, patch, mask))

    def _inferring(
        self, frame: Frame, token: Token, mask: Mask | None
    ) -> Making[Result[Token] | None]:
        self._check_frame(frame, mask)
        waiting, parameters = self._waiting, self._parameters  # others may hold when it is down
        if waiting.skips(frame, parameters, morphing=self.morphing):
            return waiting.instead(token, self.stream.tokens)
        waiting.gather(frame, token, mask)
        if waiting.full:
            pictures, flights = yield from self._passing(*waiting.gathered())
            self._hand_in(pictures, flights, parameters)
        return waiting.next()

    def _inferring_once(
        self, frame: Frame, patch: Mapping[str, Any], mask: Mask | None
    ) -> Making[Frame]:
        self._check_frame(frame, mask)
        parameters = self._single(patch)
        self._tune(parameters)
        plan, flights = self.plan(parameters, frames=1), [Flight(None)]
        self._equip(flights, [frame], parameters, plan, alone=True)
        fresh = yield from self._fresh_latents([frame], parameters)
        states = yield from self.denoiser.passing(self._seated(plan, flights), fresh, flights)
        picture: Frame = (yield Decoding(states[-1].clean))[0]
        return picture if mask is None else laid(picture, frame, mask, parameters)

    def _single(self, patch: Mapping[str, Any]) -> StreamBatchParameters:
        """The parameters of a single picture: it is as large as its frame."""
        parameters = self._checked(self._parameters, patch)
        size = {"width": self.width, "height": self.height}
        if (parameters.width, parameters.height) != (self.width, self.height):
            parameters = validate_patch(parameters, size)
        return parameters

    # Several streams, see :class:`together.Shares` -----------------------------------------------

    @property
    def batch_limit(self) -> int:
        if self._model is None:
            return 1
        return max(1, min(self._settings.batch or self._paying(), self._model.most_together))

    def _paying(self) -> int:
        """So many pictures in one call are worth while here."""
        return 1

    def infer_together(self, turns: Sequence[Turn]) -> list[Outcome]:
        return make_together(turns)

    def likeness(self, patch: Mapping[str, Any] | None) -> Hashable:
        parameters = self._parameters if patch is None else self._single(patch)
        return id(self._model), self.width, self.height, self._tuning(parameters)

    def making(self, turn: Turn) -> Making[Result[Any] | None]:
        self._under_way.settle()
        if turn.patch is None:
            return (yield from self._inferring(turn.frame, turn.token, turn.mask))
        picture = yield from self._inferring_once(turn.frame, turn.patch, turn.mask)
        return Result(picture, turn.token)

    def part_ways(self, count: int, error: Exception) -> Callable[[], None]:
        """Where memory is short, fewer go together from now on."""
        logger.warning("%d pictures in one call failed: each alone (%.200s)", count, error)
        if not self._is_out_of_memory(error):
            return lambda: None
        self.model.most_together = max(1, count // 2)
        self._planner.forget()
        return self._free_memory

    def beside(self, patch: Mapping[str, Any]) -> Self:
        self._checked(self._parameters, patch)
        settings = replace(self._settings, parameters={**self.parameters, **patch})
        other = type(self)(settings)
        other._take(self.model)
        return other

    def _hand_in(
        self,
        pictures: Sequence[Frame],
        flights: Sequence[Flight],
        parameters: StreamBatchParameters,
    ) -> None:
        """Pictures are done."""
        self._waiting.hand_in(pictures, flights, parameters)

    def _passing(
        self, frames: Sequence[Frame], flights: Sequence[Flight]
    ) -> Making[tuple[list[Frame], list[Flight]]]:
        """Take m frames in, let m pictures out."""
        parameters = self._parameters
        self._tune(parameters)
        plan = self.plan(parameters, len(frames))
        if self._morph is not None:
            plan = self._morphed(plan, self._morph)
        self._stands = plan.condition
        self._equip(flights, frames, parameters, plan, alone=False)
        coherence = self._coherence
        if coherence is not None:
            cells = plan.rows.eps.shape[-2:]
            frames = coherence.come_in(frames, flights, parameters, cells)
        if coherence is None:
            in_one_go = self._in_one_go(self._seated(plan, flights), frames, flights)
            if in_one_go is not None:
                land, done = in_one_go
                return (yield Landing(land)), done
        fresh = yield from self._fresh_latents(frames, parameters)
        if coherence is not None:
            channels = self.model.picture_channels or self.model.channels
            fresh = coherence.mixed(fresh, flights, parameters, channels)
        plan = self._seated(plan, flights)
        if self._settings.use_denoising_batch:
            latents, done = yield from self.stream.calling(plan, fresh, flights)
        else:
            states = yield from self.denoiser.passing(plan, fresh, flights)
            latents, done = states[-1].clean, list(flights)
        pictures: list[Frame] = yield Decoding(latents)
        if coherence is not None:
            pictures = coherence.go_out(pictures, latents, done, parameters)
        return pictures, done

    def _morphed(self, plan: Plan, morph: Morph) -> Plan:
        target: Condition = plan.condition
        kind = self._parameters.prompt_interpolation
        sides = morph.step((target.prompt, target.negative), plan.frames, kind, self.xp)
        if sides is None:
            self._morph = None
            return plan
        return replace(plan, condition=Condition(self.xp, *sides, target.follows))

    def _equip(
        self,
        flights: Sequence[Flight],
        frames: Sequence[Frame],
        parameters: StreamBatchParameters,
        plan: Plan,
        *,
        alone: bool,
    ) -> None:
        """Give each frame what is to travel with it."""
        seen = self._see(frames, parameters, alone)
        if seen is not None:
            for flight, what in zip(flights, seen, strict=True):
                flight.seen = what
        if parameters.prompt_follows_frame:
            for flight in flights:
                flight.told = plan.condition

    def _seated(self, plan: Plan, flights: Sequence[Flight]) -> Plan:
        """The plan, made to ask whose rows they are if something of the frames' matters."""
        if any(one.seen is not None or one.told or one.moved is not None for one in flights):
            return replace(plan, board=self._boarded)
        return plan

    def _boarded(self, rows: Rows, flights: Sequence[Flight]) -> Rows:
        eps = rows.eps
        if self._coherence is not None:
            eps = self._coherence.noise(eps, flights)
        return replace(rows, eps=eps, riders=tuple(flights))

    def _fresh_latents(
        self, frames: Sequence[Frame], parameters: StreamBatchParameters
    ) -> Making[Array]:  # (m, C, h, w)
        """What a picture is made from: the frames, or nothing at all."""
        if parameters.input_mode == "video":
            return (yield Encoding(frames))
        if self.model.straight:  # what stands beside the picture must be there
            return (yield Encoding([np.full_like(frame, 128) for frame in frames]))
        height, width = self._padded
        scale, channels = self.model.scale, self.model.channels
        shape = (len(frames), channels, height // scale, width // scale)
        return self.placed(np.zeros(shape, np.float32))

    def encode(self, frames: Sequence[Frame]) -> Array:  # (m, C, h, w)
        """Frames to clean latents; these hold until the next call."""
        return self._encode_pixels(self.padded(frames))

    def decode(self, latents: Array) -> list[Frame]:  # of (m, C, h, w)
        """Clean latents to frames."""
        return cut(self._decode_pixels(latents), self.width, self.height)

    def decoding(self, latents: Array) -> Coming[list[Frame]]:
        """Begin to decode."""
        pictures = self.decode(latents)
        return Coming(lambda: pictures)

    def padded(self, frames: Sequence[Frame]) -> Sequence[Frame]:
        """Frames as large as the model computes."""
        height, width = self._padded
        below, right = height - self.height, width - self.width
        if not below and not right:
            return frames
        # By their own edge: a border of grey would bleed into the picture.
        margin = ((0, below), (0, right), (0, 0))
        return [np.pad(frame, margin, mode="edge") for frame in frames]

    @property
    def _padded(self) -> tuple[int, int]:
        """Height and width in pixels that the model computes."""
        multiple = self.model.multiple
        return -(-self.height // multiple) * multiple, -(-self.width // multiple) * multiple

    # When it goes wrong --------------------------------------------------------------------------

    @property
    def model(self) -> Model:
        if self._model is None:
            raise EngineError(_NO_MODEL)
        return self._model

    def _check_frame(self, frame: Frame, mask: Mask | None) -> None:
        if self._model is None:
            raise EngineError(_NO_MODEL)
        if mask is not None:
            check_mask(mask, self.width, self.height)
        if frame.shape != (self.height, self.width, 3) or frame.dtype != np.uint8:
            raise EngineError(
                f"expected a frame of {self.height}x{self.width}x3 uint8, got "
                f"{'x'.join(map(str, frame.shape))} {frame.dtype}"
            )

    @contextmanager
    def computing(self, what: str = "") -> Iterator[None]:
        """Compute, frames if it is not said; a lack of memory costs these, never the engine."""
        if self._short_of_memory:
            # Not when it happened: the error itself held on to what is to be freed.
            self._short_of_memory = False
            self._free_memory()
        try:
            with self._computing_mode():
                yield
        except self.errors as error:
            frames = f"{self._settings.frame_buffer_size} frame(s)"
            self._failed(what or f"computing {frames} of {self.width}x{self.height}", error)

    def _failed(self, what: str, error: Exception) -> NoReturn:
        self._frames_failed += 1
        self._waiting.failed()
        if not self._is_out_of_memory(error):
            text = " ".join(str(error).split())[:300]
            raise EngineError(f"{what} failed: {text}") from error
        self._short_of_memory = True
        self._planner.forget()
        raise EngineError(out_of_memory(what, self._make_do())) from error


def out_of_memory(doing: str, instead: str | None = None) -> str:
    """What is said of it; ``instead`` is what the next frame is computed like."""
    if instead:
        return f"out of memory while {doing}: from now on {instead}"
    return f"out of memory while {doing}: choose a smaller size, fewer steps or a smaller model"


def cut(frames: list[Frame], width: int, height: int) -> list[Frame]:
    """Frames, perhaps padded, as large as they are to be."""
    if all(frame.shape[:2] == (height, width) for frame in frames):
        return frames
    return [np.ascontiguousarray(frame[:height, :width]) for frame in frames]


def _fits(model: ModelForm, parameters: StreamBatchParameters) -> bool:
    return not (parameters.width % model.scale or parameters.height % model.scale)


def check_sizes(settings: EngineSettings) -> None:
    """Refuse sizes that cannot work before anything is loaded (ConfigError)."""
    for name in ("width", "height"):
        value = getattr(settings, name)
        if value is not None and (value % 8 or not 8 <= value <= MAX_SIDE):
            raise ConfigError(f"{name}: expected a multiple of 8 from 8 to {MAX_SIDE}, got {value}")
    if not 1 <= settings.frame_buffer_size <= 16:
        raise ConfigError(f"frame_buffer_size: expected 1..16, got {settings.frame_buffer_size}")
