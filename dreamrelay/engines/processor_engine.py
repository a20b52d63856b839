"""The processors as engines: chosen by a parameter, with previews and with cancellation.

The processor that is wanted and not loaded yet is loaded beside the one that works, which goes on
meanwhile. Streams beside one another share what is loaded; each has values of its own.
"""

import logging
import threading
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any, ClassVar, Self

import numpy as np

from dreamrelay.codec import Frame
from dreamrelay.engines.devices import Device, choose_device, free_memory
from dreamrelay.engines.licences import UNKNOWN, Licence
from dreamrelay.engines.masks import check_mask, composite
from dreamrelay.engines.parameters import MAX_SIDE, validate_patch
from dreamrelay.engines.ports import Engine, EngineSettings, Mask, Progress, Report, Result, Token
from dreamrelay.engines.processor_parameters import (
    PROCESSORS,
    ProcessorName,
    ProcessorParameters,
)
from dreamrelay.engines.processors import (
    LIGHTNING_MODEL,
    LIGHTNING_WEIGHTS,
    STANDARD_MODEL,
    LightningProcessor,
    Processor,
    StandardProcessor,
    Step,
)
from dreamrelay.engines.profiles import first_parameters
from dreamrelay.errors import ClosedError, ConfigError, DreamRelayError, EngineError, ParameterError

logger = logging.getLogger(__name__)


class Cancelled(Exception):
    """A newer frame waits; the picture under way is given up."""


class Crew:
    """The processors of a worker: those that are loaded, and one that is being loaded.

    Args:
        models: of the processors that may be chosen, the first one first.

    Raises:
        ConfigError: one of them cannot be as it is asked for.
    """

    def __init__(
        self, settings: EngineSettings, device: Device, models: Mapping[ProcessorName, str]
    ) -> None:
        self._settings = settings
        self._device = device
        self._models = models
        self._loaded: dict[ProcessorName, Processor] = {}
        self._loading: threading.Thread | None = None
        self._tried: set[ProcessorName] = set()
        self._closed = threading.Event()
        self.troubles: dict[ProcessorName, DreamRelayError] = {}
        """Why those that were tried cannot be loaded."""
        for name in models:
            self._new(name)  # what is wrong is said at the start, not when it is chosen

    def load(self, report: Report) -> Processor:
        """Load the first one and return it.

        Raises:
            EngineError: it cannot be loaded; says the next step.
        """
        first = next(iter(self._models))
        if first not in self._loaded:
            self._loaded[first] = self._open(first, report)
        return self._loaded[first]

    def close(self) -> None:
        self._closed.set()
        if self._loading is not None:
            self._loading.join()
        for processor in self._loaded.values():
            processor.close()
        if self._loaded and self._device.torch.type != "cpu":
            free_memory()
        self._loaded.clear()

    def call(self, name: ProcessorName) -> Processor:
        """The processor, or the one that stands in while it is loaded or where it cannot be.

        Raises:
            EngineError: none is loaded.
        """
        if not self._loaded:
            raise EngineError("the engine has no model: it was not loaded, or it was closed")
        if name in self._loaded:
            return self._loaded[name]
        if name not in self._tried and (self._loading is None or not self._loading.is_alive()):
            self._tried.add(name)
            self._loading = threading.Thread(
                target=self._fetch, args=(name,), name=f"load {name}", daemon=True
            )
            self._loading.start()
        return next(iter(self._loaded.values()))

    def try_anew(self, name: ProcessorName) -> None:
        """Forget that it could not be loaded."""
        if self.troubles.pop(name, None) is not None:
            self._tried.discard(name)

    def counters(self) -> dict[str, float]:
        totals: dict[str, float] = {}
        for processor in list(self._loaded.values()):
            for name, value in processor.counters().items():
                totals[name] = totals.get(name, 0) + value
        return totals

    def _open(self, name: ProcessorName, report: Report) -> Processor:
        processor = self._new(name)
        try:
            processor.load(report)
        except BaseException:  # Ctrl-C too: half a model is of no use and holds its memory
            processor.close()
            raise
        return processor

    def _new(self, name: ProcessorName) -> Processor:
        settings = replace(self._settings, model=self._models[name])
        if name == "standard":
            return StandardProcessor(settings, self._device)
        weights = settings.lightning_weights or LIGHTNING_WEIGHTS
        return LightningProcessor(settings, self._device, weights, lightning_steps(settings))

    def _fetch(self, name: ProcessorName) -> None:
        """Load a processor beside the one that works."""

        def report(progress: Progress) -> None:
            if self._closed.is_set():
                raise ClosedError("the engine was closed")
            logger.info("%s: %s %s", name, progress.stage, progress.text)

        try:
            self._loaded[name] = self._open(name, report)
        except ClosedError:
            return
        except DreamRelayError as error:
            logger.warning("%s cannot be loaded: %s", name, error)
            self.troubles[name] = error


class ProcessorEngine(Engine):
    """The processors as an engine.

    ``model`` is that of the processor the engine is named after; ``processors`` of the settings
    names those that may be chosen beside it, with their models.
    """

    parameters_type = ProcessorParameters
    first: ClassVar[ProcessorName]

    def __init__(self, settings: EngineSettings) -> None:
        self._at_work: Processor | None = None
        for side in ("width", "height"):
            value = getattr(settings, side)
            if value is not None and (value % 8 or not 64 <= value <= MAX_SIDE):
                raise ConfigError(
                    f"{side}: expected a multiple of 8 from 64 to {MAX_SIDE}, got {value}"
                )
        if settings.acceleration not in ("auto", "none", "sdpa"):
            raise ConfigError(
                f"acceleration: the {self.name} engine has no {settings.acceleration!r}; expected "
                "auto or none"
            )
        self._device = choose_device(settings.device)
        self.device_name = self._device.name
        self._settings = settings
        self._models = _models(settings, self.first)
        self.width = settings.width or 512
        self.height = settings.height or 512
        self._absent = _absent(settings, self._models)
        try:
            begins = ProcessorParameters(processor=self.first)
            asked = first_parameters(settings, self._absent)
            self._parameters = self._checked(begins, asked)
        except ParameterError as error:
            raise ConfigError(f"parameters: {error}") from error
        self._crew = Crew(settings, self._device, self._models)
        self._is_beside = False
        self._seen: Frame | None = None
        self._closed = threading.Event()
        self._newer: Callable[[], bool] = lambda: False
        self._show: Callable[[Frame, Any], None] = lambda frame, token: None
        self._counts = {"frames_inferred": 0, "frames_failed": 0, "frames_cancelled": 0}

    def load(self, report: Report) -> None:
        self._at_work = self._crew.load(report)

    # What is at work: not what is wanted while that is loaded.

    @property
    def name(self) -> str:  # type: ignore[override]  # of the class elsewhere
        return self.first if self._at_work is None else self._at_work.name

    @property
    def model_name(self) -> str:  # type: ignore[override]  # an attribute elsewhere
        return self._models[self.first if self._at_work is None else self._at_work.name]

    @property
    def licence(self) -> Licence:
        return UNKNOWN if self._at_work is None else self._at_work.licence

    def close(self) -> None:
        self._closed.set()
        if not self._is_beside:
            self._crew.close()

    def beside(self, patch: Mapping[str, Any]) -> Self:
        self._checked(self._parameters, patch)
        parameters = {**self.parameters, **patch}
        other = type(self)(replace(self._settings, parameters=parameters, profile=None))
        other._crew, other._is_beside = self._crew, True
        other._at_work = self._at_work
        return other

    def attend(self, newer: Callable[[], bool], show: Callable[[Frame, Any], None]) -> None:
        self._newer, self._show = newer, show

    # Parameters ----------------------------------------------------------------------------------

    @property
    def parameters(self) -> dict[str, Any]:
        values = self._parameters.model_dump(mode="json")
        return {name: value for name, value in values.items() if name not in self._absent}

    def apply(self, patch: Mapping[str, Any]) -> None:
        self._parameters = self._checked(self._parameters, patch)
        if "processor" in patch:
            self._crew.try_anew(self._parameters.processor)  # asked for anew

    def _checked(
        self, current: ProcessorParameters, patch: Mapping[str, Any]
    ) -> ProcessorParameters:
        return validate_patch(current, patch, self._absent)

    def schema(self) -> dict[str, Any]:
        schema = super().schema()
        schema["x-absent"] = dict(self._absent)
        for name in self._absent:
            schema["properties"].pop(name)
        return schema

    def counters(self) -> dict[str, float]:
        return {**self._counts, **self._crew.counters()}

    def control_map(self) -> Frame | None:
        return self._seen

    # Frames --------------------------------------------------------------------------------------

    def infer(self, frame: Frame, token: Token, mask: Mask | None = None) -> Result[Token] | None:
        parameters = self._parameters
        every = parameters.preview_every

        def step(number: int, look: Callable[[], Frame]) -> None:
            if self._closed.is_set() or (parameters.cancel_for_newer and self._newer()):
                raise Cancelled
            if every and number % every == 0:
                self._show(look(), token)

        try:
            picture = self._paint(frame, parameters, step, mask, of_stream=True)
        except Cancelled:
            self._counts["frames_cancelled"] += 1
            return None
        self._counts["frames_inferred"] += 1
        return Result(picture, token)

    def infer_once(self, frame: Frame, patch: Mapping[str, Any], mask: Mask | None = None) -> Frame:
        parameters = self._checked(self._parameters, patch)

        def step(number: int, look: Callable[[], Frame]) -> None:
            if self._closed.is_set():
                raise EngineError("the engine was closed")

        return self._paint(frame, parameters, step, mask)

    def _paint(
        self,
        frame: Frame,
        parameters: ProcessorParameters,
        step: Step,
        mask: Mask | None,
        *,
        of_stream: bool = False,
    ) -> Frame:
        height, width = frame.shape[:2]
        if frame.shape != (height, width, 3) or height % 8 or width % 8 or frame.dtype != np.uint8:
            raise EngineError(
                f"expected a frame of {self.height}x{self.width}x3 uint8, got "
                f"{'x'.join(map(str, frame.shape))} {frame.dtype}"
            )
        if mask is not None:
            check_mask(mask, width, height)
        try:
            if self._closed.is_set():
                raise EngineError("the engine was closed")
            processor = self._processor(parameters.processor)
            if of_stream:
                self._at_work = processor
            picture = processor.paint(frame, parameters, step)
        except (EngineError, ParameterError):
            self._counts["frames_failed"] += 1
            raise
        self._seen = processor.seen
        if mask is None:
            return picture
        feather, strength = parameters.mask_feather, parameters.mask_strength
        return composite(picture, frame, mask, feather=feather, strength=strength)

    def _processor(self, wanted: ProcessorName) -> Processor:
        """The processor, or the one that stands in while it is loaded.

        Raises:
            EngineError: none is loaded.
            ParameterError: it cannot be loaded; the stream goes on with the one that works.
        """
        processor = self._crew.call(wanted)
        trouble = self._crew.troubles.get(wanted)
        if trouble is None:
            return processor
        if wanted == self._parameters.processor:
            self._parameters = self._checked(self._parameters, {"processor": processor.name})
        raise ParameterError({"processor": f"{wanted} cannot be loaded: {trouble}"}) from trouble


class StandardEngine(ProcessorEngine):
    """Stable Diffusion 1.5 with depth, 20 to 30 steps."""

    first = "standard"


class LightningEngine(ProcessorEngine):
    """SDXL-Lightning with depth, 1 to 8 steps."""

    first = "lightning"


def _models(settings: EngineSettings, first: ProcessorName) -> dict[ProcessorName, str]:
    """The processors that may be chosen, with their models; the first one first."""
    usual: dict[ProcessorName, str] = {"standard": STANDARD_MODEL, "lightning": LIGHTNING_MODEL}
    model = settings.model if settings.model not in ("", "pocket") else usual[first]
    models = {first: model}
    for entry in settings.processors:
        name, _, given = (part.strip() for part in entry.partition("="))
        if name not in PROCESSORS:
            raise ConfigError(
                f"processors: expected {' or '.join(PROCESSORS)}, perhaps with a model "
                f"(standard=some/model), got {entry!r}"
            )
        models[name] = given or models.get(name) or usual[name]
    return models


def lightning_steps(settings: EngineSettings) -> tuple[int, ...]:
    """For which numbers of steps there are to be weights."""
    return settings.lightning_steps or (4,)


def _absent(settings: EngineSettings, models: Mapping[ProcessorName, str]) -> dict[str, str]:
    """The parameters that would do nothing here, and what they need."""
    absent = {}
    others = [name for name in PROCESSORS if name not in models]
    if others:
        absent["processor"] = f"start the worker with --processors {others[0]}"
    if "standard" not in models:
        made_without = "SDXL-Lightning is made without guidance; start the worker with "
        for name in ("negative_prompt", "guidance_scale"):
            absent[name] = f"{made_without}--processors standard"
        steps = sorted(set(lightning_steps(settings)))
        if len(steps) == 1:
            loaded = f"only the weights for {steps[0]} step(s) are loaded; start the worker with "
            absent["num_inference_steps"] = f"{loaded}--lightning_steps 2,4,8"
        if steps == [1]:
            begins = "one step of SDXL-Lightning begins at full noise; start the worker with "
            absent["strength"] = f"{begins}--lightning_steps 4"
    if "none" in settings.controlnets:
        absent["controlnet_scale"] = "start the worker with --controlnet depth"
    return absent
