"""The StreamDiffusion pipeline for Daydream Scope, on our own engines.

What is loaded stands as long as what it was loaded for does; all else is read afresh from what
Scope gives with each call. Imports Scope and torch; see :mod:`scope` for the door.
"""

import logging
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any, TypeVar

import numpy as np
import torch
from scope.core.pipelines.interface import Pipeline, Requirements

from dreamrelay.codec import Frame, resize
from dreamrelay.engines import Engine, EngineSettings, Mask, Progress, open_engine
from dreamrelay.engines.devices import is_out_of_memory
from dreamrelay.engines.loras import short_names
from dreamrelay.errors import DreamRelayError, EngineError
from dreamrelay.integrations.scope_config import StreamDiffusionConfig
from dreamrelay.integrations.scope_frames import chunk_of, frames_of, masks_of
from dreamrelay.integrations.scope_values import (
    Prompts,
    engine_settings,
    patch_of,
    read_loras,
    size,
)

logger = logging.getLogger(__name__)

T = TypeVar("T")

GREY = 128


class StreamDiffusionPipeline(Pipeline):  # type: ignore[misc]
    """Frames of Scope in, pictures out.

    The model is loaded here, and again where a call asks for another one, for another acceleration
    or for a ControlNet that was not wanted before.

    Args:
        values: the fields of :class:`StreamDiffusionConfig`, ``loras`` (``[{path, scale}]``), and
            whatever else Scope gives, which is not looked at.

    Raises:
        EngineError, ConfigError, MissingExtra: the model cannot be loaded; says what to do.
        ValueError: a value is out of its bounds.
    """

    state: dict[str, Any]
    """What Scope looks into: ``_transition_active``, whether a transition is under way."""

    @classmethod
    def get_config_class(cls) -> type[StreamDiffusionConfig]:
        return StreamDiffusionConfig

    def __init__(self, **values: Any) -> None:
        super().__init__()
        self.state = {"_transition_active": False}
        self._given = {name: values[name] for name in values if name in _FIELDS}
        self._read: tuple[dict[str, Any], StreamDiffusionConfig] | None = None
        self._loras = read_loras(values.get("loras"))
        self._scales: dict[str, float] | None = None
        """What ``lora_scales`` said last; None: as loaded."""
        self._controls: set[str] = set()
        self._prompts = Prompts()
        self._seeds: tuple[int, int] | None = None
        self._seed = 0
        self._engine: Engine | None = None
        self._loaded: EngineSettings | None = None
        self._failed: tuple[EngineSettings, DreamRelayError] | None = None
        self._mode = ""
        self._has_picture = False
        config = self._config({})
        _told(lambda: self._open(config))

    @property
    def loaded_lora_adapters(self) -> list[dict[str, Any]]:
        """The LoRAs whose scales can be changed."""
        scales = self._loras if self._scales is None else self._scales
        return [{"path": path, "scale": scales.get(path, 0.0)} for path in self._loras]

    def prepare(self, **params: Any) -> Requirements | None:
        """How many frames a call wants: in video mode as ``input_size`` says, else none."""
        if params.get("video") is None and params.get("input_mode") != "video":
            return None
        return Requirements(input_size=params.get("input_size") or 1)

    def __call__(self, **kwargs: Any) -> dict[str, Any]:
        """Paint the frames of a chunk, or one picture from the prompt alone.

        Args:
            kwargs: the fields of the config; ``video`` and ``vace_input_masks`` (see
                :mod:`scope_frames`), ``prompts``, ``transition``, ``lora_scales``,
                ``init_cache``. Others are not looked at.

        Returns:
            ``video``: (T, H, W, 3), float32 in 0..1. Nothing while a batch of several steps fills.

        Raises:
            torch.OutOfMemoryError: the card's memory does not do.
            EngineError, ParameterError, ConfigError: nothing can be painted; says what to do.
            ValueError: a value or a tensor is not what it should be.
        """
        config = self._config(kwargs)
        video = kwargs.get("video")
        frames = None if video is None else frames_of(video)
        if not config.enabled:
            self.state["_transition_active"], self._mode = False, ""
            return {"video": _alike(frames)} if frames else {}
        if frames is None and config.input_mode == "video":
            return {}  # they will come
        afresh = bool(kwargs.get("init_cache"))
        engine = _told(lambda: self._opened(config, afresh=afresh))
        self._cut(engine, "text" if frames is None else "video", afresh=afresh)
        self._tell(engine, config, kwargs, text=frames is None)
        pictures = _told(lambda: self._paint(engine, config, frames, kwargs))
        self.state["_transition_active"] = engine.morphing
        return {"video": chunk_of(pictures)} if pictures else {}

    def cleanup(self) -> None:
        """Free the memory; Scope calls it before it drops the pipeline."""
        self._close()
        parents: Any = super()
        if hasattr(parents, "cleanup"):
            parents.cleanup()

    # Values --------------------------------------------------------------------------------------

    def _config(self, given: Mapping[str, Any]) -> StreamDiffusionConfig:
        """The values of this call: what it gives over what the pipeline was made with."""
        values = {**self._given, **{name: given[name] for name in given if name in _FIELDS}}
        if self._read is None or self._read[0] != values:
            self._read = (values, StreamDiffusionConfig.model_validate(values))
        return self._read[1]

    def _tell(
        self, engine: Engine, config: StreamDiffusionConfig, given: Mapping[str, Any], text: bool
    ) -> None:
        """Give the engine all values that it has a parameter for."""
        transition, prompts = given.get("transition"), given.get("prompts")
        patch = patch_of(config, self._seed_of(config))
        patch |= self._prompts.patch(config, prompts, transition, engine.morphing)
        if text:
            # From nothing; once there is a picture, that one may be looped back.
            looping = config.image_loopback and self._has_picture
            patch |= {"controlnet_mode": "none", "input_mode": "video" if looping else "text"}
        else:
            patch["input_mode"] = "video"
        if given.get("lora_scales") is not None:
            self._take_scales(read_loras(given["lora_scales"]))
        names = short_names(self._loras)
        if self._scales is not None:
            patch["loras"] = [
                {"name": names[path], "scale": scale} for path, scale in self._scales.items()
            ]
        has = engine.parameters
        changed = {name: patch[name] for name in patch if name in has and patch[name] != has[name]}
        if changed:
            engine.apply(changed)

    def _take_scales(self, scales: Mapping[str, float]) -> None:
        known = {path: scale for path, scale in scales.items() if path in self._loras}
        for path in scales.keys() - known.keys():
            logger.warning("LoRA %s is not loaded: its scale does nothing", path)
        self._scales = {**self._loras, **(self._scales or {}), **known}

    def _seed_of(self, config: StreamDiffusionConfig) -> int:
        """The seed that was changed last: ours, or Scope's own, which a beat may change."""
        seeds = (config.seed, config.base_seed)
        if self._seeds is None or self._seeds[0] != seeds[0]:
            self._seed = seeds[0]
        elif self._seeds[1] != seeds[1]:
            self._seed = seeds[1]
        self._seeds = seeds
        return self._seed

    # The engine ----------------------------------------------------------------------------------

    def _opened(self, config: StreamDiffusionConfig, *, afresh: bool) -> Engine:
        """The engine for these values; another one is loaded where they need it.

        Args:
            afresh: try again what could not be loaded.
        """
        if afresh:
            self._failed = None
        wanted = self._wanted(config)
        if self._engine is None or wanted != self._loaded:
            if self._failed is not None and self._failed[0] == wanted:
                # Not again with each frame: a model that is not there takes its time to say so.
                raise self._failed[1].with_traceback(None)
            self._open(config)
        assert self._engine is not None
        return self._engine

    def _wanted(self, config: StreamDiffusionConfig) -> EngineSettings:
        if config.controlnet_mode != "none":
            self._controls.add(config.controlnet_mode)
        return engine_settings(config, self._loras, self._controls)

    def _open(self, config: StreamDiffusionConfig) -> None:
        wanted = self._wanted(config)
        self._close()  # before: there may not be memory for two
        width, height = size(config)
        try:
            engine = open_engine(replace(wanted, width=width, height=height))
            engine.load(_logged)
        except DreamRelayError as error:
            self._failed = (wanted, error)
            raise
        self._engine, self._loaded, self._failed = engine, wanted, None
        logger.info("%s is loaded on %s", engine.model_name, engine.device_name)

    def _close(self) -> None:
        if self._engine is not None:
            self._engine.close()
        self._engine = self._loaded = None
        self._has_picture = False

    def _cut(self, engine: Engine, mode: str, *, afresh: bool) -> None:
        """Begin anew where Scope says so, and where frames come or no longer come."""
        if afresh or mode != self._mode:
            engine.forget()
            self._has_picture = False
        if afresh:
            self._prompts, self._seeds = Prompts(), None
        self._mode = mode

    # Frames --------------------------------------------------------------------------------------

    def _paint(
        self,
        engine: Engine,
        config: StreamDiffusionConfig,
        frames: list[Frame] | None,
        given: Mapping[str, Any],
    ) -> list[Frame]:
        """What is ready now, of these frames and of earlier ones."""
        if frames is None:
            frames = [np.full((engine.height, engine.width, 3), GREY, np.uint8)]
            masks: list[Mask | None] = [None]
        else:
            given_masks = given.get("vace_input_masks") if config.mask_compositing else None
            masks = masks_of(given_masks, engine.width, engine.height, len(frames))
        pictures = []
        for frame, mask in zip(frames, masks, strict=True):
            fitting = resize(frame, engine.width, engine.height, "stretch")
            result = _twice(lambda: engine.infer(fitting, None, mask))  # noqa: B023 - called here
            if result is not None:
                pictures.append(result.frame)
        self._has_picture = self._has_picture or bool(pictures)
        return pictures


_FIELDS = frozenset(StreamDiffusionConfig.model_fields)


def _alike(frames: list[Frame]) -> torch.Tensor:
    """Frames that go through as they are; all of the size of the first."""
    height, width = frames[0].shape[:2]
    return chunk_of([resize(frame, width, height, "stretch") for frame in frames])


def _twice(work: Callable[[], T]) -> T:
    """Try again what the memory did not do for: the engine may have found a smaller way."""
    try:
        return work()
    except EngineError as error:
        if error.__cause__ is None or not is_out_of_memory(error.__cause__):
            raise
        logger.warning("%s", error)
        return work()


def _told(work: Callable[[], T]) -> T:
    """Let Scope see a lack of memory as what it is: it stops then."""
    try:
        return work()
    except EngineError as error:
        if error.__cause__ is not None and is_out_of_memory(error.__cause__):
            raise torch.OutOfMemoryError(str(error)) from error
        raise


def _logged(progress: Progress) -> None:
    logger.info("%s %s", progress.stage, progress.text)
