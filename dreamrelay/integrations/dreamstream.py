"""DreamStream's Python interface over our processors: pictures in, pictures out, one by one.

``compat/dreamstream`` makes these importable by the names of DreamStream's README
(``src.diffusion_processor``); here they stand without a module's global state.

::

    processors = DiffusionProcessors()
    processor = processors.get("lightning", strength=0.7, num_steps=4)
    jpeg, depth = await processor.process_frame(data, "Monet-style watercolor")
"""

import asyncio
import base64
import binascii
import logging
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from PIL import Image

from dreamrelay.codec import Frame, decode, encode_bytes, resize
from dreamrelay.engines import Engine, EngineSettings, Progress, open_engine
from dreamrelay.engines.processor_parameters import (
    LIGHTNING_STEPS,
    PROCESSORS,
    ProcessorName,
)
from dreamrelay.errors import ConfigError, DreamRelayError

logger = logging.getLogger(__name__)

STYLE_PROMPT = "Van Gogh style painting"
NEGATIVE_PROMPT = "ugly, deformed, disfigured, poor details, bad anatomy"
JPEG_QUALITY = 95

STEPS: Mapping[ProcessorName, int] = {"standard": 25, "lightning": 4}
HOLD: Mapping[ProcessorName, float] = {"standard": 1.0, "lightning": 0.5}
"""How hard the depth of the frame holds the picture."""

LONGEST: Mapping[ProcessorName, int] = {"standard": 768, "lightning": 1500}
"""Pixels of the longer side; larger pictures are made smaller. Small ones are not enlarged."""

LONGEST_INSIDE: Mapping[ProcessorName, int] = {"standard": 512, "lightning": 1500}
"""Of what the model computes; the result is brought back to the size of the picture."""


@dataclass(slots=True)
class _Statistics:
    processed_frames: int = 0
    total_time: float = 0.0
    last_time: float = 0.0
    inference_time: float = 0.0


class DiffusionProcessor:
    """One kind of processor, with what holds unless a call says otherwise.

    Calls from several tasks are taken one after the other; none of them blocks the event loop.
    """

    def __init__(
        self,
        kind: ProcessorName,
        engine: Engine,
        *,
        style_prompt: str = STYLE_PROMPT,
        strength: float = 0.6,
        num_steps: int = 25,
        use_controlnet: bool = True,
    ) -> None:
        if kind == "lightning" and num_steps not in LIGHTNING_STEPS:
            raise ValueError(
                f"num_steps: expected one of {', '.join(map(str, LIGHTNING_STEPS))} for lightning, "
                f"got {num_steps}"
            )
        self.kind = kind
        self.style_prompt = style_prompt
        self.strength = strength
        self.num_steps = num_steps
        # The weights for one step are made without it.
        self.use_controlnet = use_controlnet and not (kind == "lightning" and num_steps == 1)
        self._engine = engine
        self._one_at_a_time = threading.Lock()
        self._statistics = _Statistics()

    async def process_frame(
        self,
        img_data: bytes,
        prompt: str | None = None,
        negative_prompt: str | None = NEGATIVE_PROMPT,
        guidance_scale: float = 7.0,
        strength: float | None = None,
    ) -> tuple[bytes, Image.Image | None]:
        """Transform one encoded picture.

        Args:
            img_data: JPEG, PNG, WebP, ...
            prompt: None: the style that the processor was made with.
            negative_prompt, guidance_scale: of the standard processor; Lightning is made for none.
            strength: 0.05..1; None: that of the processor.

        Returns:
            A JPEG, and the depth that held it, if one did.

        Raises:
            ProtocolError: no picture.
            ParameterError: a value is out of its bounds.
            EngineError: it could not be computed.
        """
        patch = {
            "prompt": self.style_prompt if prompt is None else prompt,
            "negative_prompt": negative_prompt or "",
            "guidance_scale": guidance_scale,
            "strength": self.strength if strength is None else strength,
            "num_inference_steps": self.num_steps,
            "controlnet_scale": HOLD[self.kind] if self.use_controlnet else 0.0,
        }
        return await asyncio.to_thread(self._process, img_data, patch)

    def _process(self, data: bytes, patch: dict[str, Any]) -> tuple[bytes, Image.Image | None]:
        with self._one_at_a_time:
            began = time.perf_counter()
            frame = _at_most(decode(data), LONGEST[self.kind], 1)
            height, width = frame.shape[:2]
            small = _at_most(frame, LONGEST_INSIDE[self.kind], 8)
            computing = time.perf_counter()
            # Lightning is made without guidance, and has but the weights that were asked for.
            acts = {n: value for n, value in patch.items() if n in self._engine.parameters}
            picture = self._engine.infer_once(small, acts)
            self._statistics.inference_time = time.perf_counter() - computing
            seen = self._engine.control_map() if patch["controlnet_scale"] else None
            jpeg = encode_bytes(resize(picture, width, height, "stretch"), quality=JPEG_QUALITY)
            self._count(time.perf_counter() - began)
        return jpeg, None if seen is None else Image.fromarray(seen)

    def _count(self, seconds: float) -> None:
        self._statistics.processed_frames += 1
        self._statistics.total_time += seconds
        self._statistics.last_time = seconds

    def get_stats(self) -> dict[str, float]:
        """Pictures so far, and seconds: in all, on average, of the last, of its inference."""
        counted = self._statistics
        return {
            "processed_frames": counted.processed_frames,
            "total_time": counted.total_time,
            "average_time": counted.total_time / max(1, counted.processed_frames),
            "last_time": counted.last_time,
            "inference_time": counted.inference_time,
        }


def _at_most(frame: Frame, longest: int, multiple: int) -> Frame:
    """The frame with sides of at most so many pixels, in multiples of ``multiple``."""
    height, width = frame.shape[:2]
    scale = min(1.0, longest / max(height, width))
    sides = (max(multiple, round(side * scale / multiple) * multiple) for side in (width, height))
    width, height = sides
    return resize(frame, width, height, "stretch")


@dataclass(slots=True)
class DiffusionProcessors:
    """The processors of this process, each loaded when first asked for.

    Attributes:
        models: hub id or folder by processor; the usual one where none is named.
        controlnets: of the same; ``none`` loads none.
        options: further :class:`EngineSettings` (``device``, ``offline``, ``depth_model``,
            ``lightning_weights``).
    """

    models: Mapping[ProcessorName, str] = field(default_factory=dict)
    controlnets: Mapping[ProcessorName, str] = field(default_factory=dict)
    options: Mapping[str, Any] = field(default_factory=dict)
    _engines: dict[tuple[ProcessorName, bool, tuple[int, ...]], Engine] = field(
        default_factory=dict
    )
    _one_at_a_time: threading.Lock = field(default_factory=threading.Lock)

    @classmethod
    def from_environment(cls, environ: Mapping[str, str]) -> "DiffusionProcessors":
        """As ``DREAMRELAY_PROCESSORS`` and ``DREAMRELAY_CONTROLNETS`` say (both
        ``standard=...,lightning=...``), ``DREAMRELAY_DEPTH_MODEL``,
        ``DREAMRELAY_LIGHTNING_WEIGHTS``, ``DREAMRELAY_DEVICE`` and ``DREAMRELAY_OFFLINE``.

        Raises:
            ConfigError: one of them names no processor, or no model.
        """
        options: dict[str, Any] = {}
        for name in ("depth_model", "lightning_weights", "device"):
            if value := environ.get(f"DREAMRELAY_{name.upper()}"):
                options[name] = value
        if environ.get("DREAMRELAY_OFFLINE", "").lower() in ("1", "true", "yes", "on"):
            options["offline"] = True
        return cls(
            _by_name(environ, "DREAMRELAY_PROCESSORS"),
            _by_name(environ, "DREAMRELAY_CONTROLNETS"),
            options,
        )

    def get(
        self,
        processor_type: str = "standard",
        *,
        use_controlnet: bool = True,
        style_prompt: str = STYLE_PROMPT,
        strength: float = 0.6,
        num_steps: int | None = None,
        **unknown: Any,
    ) -> DiffusionProcessor:
        """Return a processor; its model is loaded now, unless it is already.

        Args:
            processor_type: ``standard`` or ``lightning``.
            num_steps: None: 25, or 4 for lightning, which takes 1, 2, 4 or 8.
            unknown: left out, as DreamStream's Lightning does; the log names them.

        Raises:
            ValueError: there is no such processor, or it cannot take so many steps.
            EngineError, ConfigError, MissingExtra: its model cannot be loaded.
        """
        if processor_type not in PROCESSORS:
            raise ValueError(
                f"processor_type: expected {' or '.join(PROCESSORS)}, got {processor_type!r}"
            )
        if unknown:
            logger.warning("get_diffusion_processor knows no %s: left out", ", ".join(unknown))
        kind: ProcessorName = processor_type
        steps = STEPS[kind] if num_steps is None else num_steps
        if kind == "lightning" and steps not in LIGHTNING_STEPS:
            raise ValueError(
                f"num_steps: expected one of {', '.join(map(str, LIGHTNING_STEPS))} for lightning, "
                f"got {steps}"
            )
        return DiffusionProcessor(
            kind,
            self._engine(kind, use_controlnet, (steps,) if kind == "lightning" else ()),
            style_prompt=style_prompt,
            strength=strength,
            num_steps=steps,
            use_controlnet=use_controlnet,
        )

    def _engine(
        self, kind: ProcessorName, use_controlnet: bool, lightning_steps: tuple[int, ...]
    ) -> Engine:
        key = (kind, use_controlnet, lightning_steps)
        with self._one_at_a_time:
            if key not in self._engines:
                held = self.controlnets.get(kind, "") if use_controlnet else "none"
                controlnets = {"": (), "none": ("none",)}.get(held, (f"depth={held}",))
                settings = EngineSettings(
                    engine=kind,
                    model=self.models.get(kind, ""),
                    controlnets=controlnets,
                    lightning_steps=lightning_steps,
                    **self.options,
                )
                engine = open_engine(settings)
                engine.load(_logged)
                self._engines[key] = engine
            return self._engines[key]

    async def apply(  # noqa: PLR0913 - DreamStream's own
        self,
        img_data: bytes,
        prompt: str,
        processor_type: str = "standard",
        negative_prompt: str | None = NEGATIVE_PROMPT,
        guidance_scale: float = 7.0,
        use_controlnet: bool = True,
        style_prompt: str = STYLE_PROMPT,
        strength: float = 0.7,
        num_steps: int | None = None,
        output_size: tuple[int, int] | None = None,
    ) -> tuple[bytes, Image.Image | None]:
        """Transform one encoded picture, loading what it needs first.

        Args:
            output_size: width and height of the result; None: see :data:`LONGEST`.

        Returns, raises:
            As :meth:`get` and :meth:`DiffusionProcessor.process_frame`.
        """
        processor = await asyncio.to_thread(
            self.get,
            processor_type,
            use_controlnet=use_controlnet,
            style_prompt=style_prompt,
            strength=strength,
            num_steps=num_steps,
        )
        jpeg, depth = await processor.process_frame(
            img_data, prompt, negative_prompt, guidance_scale
        )
        if output_size is not None:
            width, height = output_size
            jpeg = encode_bytes(
                resize(decode(jpeg), width, height, "stretch"), quality=JPEG_QUALITY
            )
        return jpeg, depth

    def close(self) -> None:
        """Free the memory of all models."""
        with self._one_at_a_time:
            for engine in self._engines.values():
                engine.close()
            self._engines.clear()


async def process_base64_frame(
    base64_frame: str,
    processor: DiffusionProcessor,
    prompt: str,
    negative_prompt: str | None = None,
    strength: float | None = None,
) -> str:
    """Transform a picture in base64, bare or as a data URL.

    Returns:
        A JPEG in bare base64; what came in, unchanged, where that cannot be (it is logged why).
    """
    try:
        text = base64_frame.partition(",")[2] if base64_frame[:5] == "data:" else base64_frame
        data = base64.b64decode("".join(text.split()), validate=True)  # phones write lines
        against = NEGATIVE_PROMPT if negative_prompt is None else negative_prompt
        jpeg, _ = await processor.process_frame(data, prompt, against, strength=strength)
    except (DreamRelayError, binascii.Error, ValueError, TypeError, AttributeError) as error:
        logger.warning("a frame stays as it is: %s", error)
        return base64_frame
    return base64.b64encode(jpeg).decode("ascii")


def _by_name(environ: Mapping[str, str], variable: str) -> dict[ProcessorName, str]:
    """``standard=a,lightning=b`` to a mapping."""
    found: dict[ProcessorName, str] = {}
    for entry in filter(None, (part.strip() for part in environ.get(variable, "").split(","))):
        name, _, value = (part.strip() for part in entry.partition("="))
        if name not in PROCESSORS or not value:
            raise ConfigError(
                f"{variable}: expected {' or '.join(PROCESSORS)} and a model "
                f"(standard=some/model), got {entry!r}"
            )
        found[name] = value
    return found


def _logged(progress: Progress) -> None:
    logger.info("%s %s", progress.stage, progress.text)
