"""The stream-batch engine with torch: Stable Diffusion or the pocket model on live frames.

This module moves pixels and prompts in and out. What all such engines share is in
``batch_engine.py``, the arithmetic of the steps in ``denoise.py``, the numbers of each step in
``schedule.py``, the way from a name to torch modules in ``loading.py``.
"""

import logging
from collections.abc import Hashable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import replace
from typing import Any, ClassVar

import torch
from numpy.typing import NDArray

from dreamrelay.codec import Frame
from dreamrelay.engines.accelerate import (
    BAKED,
    BUILT,
    Acceleration,
    Builder,
    Run,
    cache_folder,
    choose,
    compiling,
    with_openvino,
)
from dreamrelay.engines.batch_engine import BatchEngine, cut
from dreamrelay.engines.beside import BuiltBeside, Helper, builds_beside
from dreamrelay.engines.condition import Flight, Told
from dreamrelay.engines.denoise import Plan
from dreamrelay.engines.devices import (
    choose_device,
    free_memory,
    is_out_of_memory,
    use_cores_sparingly,
)
from dreamrelay.engines.diffusion_parameters import DiffusionParameters
from dreamrelay.engines.forward import Forward
from dreamrelay.engines.graphs import Graphs
from dreamrelay.engines.guides import Guide, GuidedStream, Guides
from dreamrelay.engines.loading import LoadedModel, load_model
from dreamrelay.engines.loras import can_read_loras, short_names
from dreamrelay.engines.parameters import StreamBatchParameters
from dreamrelay.engines.ports import Coming, EngineSettings, Report
from dreamrelay.engines.prompts import Embedding
from dreamrelay.engines.tensorrt import building
from dreamrelay.engines.transfers import Transfers
from dreamrelay.engines.whole import WholeFrame
from dreamrelay.errors import EngineError, MissingExtra, ParameterError

logger = logging.getLogger(__name__)


PAYING = 8
"""Pictures in one call on a card, unless the settings say how many."""


class StreamBatchEngine(BatchEngine[LoadedModel]):
    """Stable Diffusion 1.x, 2.x, XL, a Turbo model or the pocket model as a stream batch."""

    name: ClassVar[str] = "stream-batch"
    parameters_type: ClassVar[type[StreamBatchParameters]] = DiffusionParameters
    xp: ClassVar[Any] = torch

    def __init__(self, settings: EngineSettings) -> None:
        _check(settings)
        self._device = choose_device(
            settings.device,
            # OpenVINO chooses for itself, of weights in full precision.
            fast=settings.acceleration not in ("none", "openvino"),
            precision=settings.precision,
        )
        self._acceleration = choose(settings.acceleration, self._device.torch)
        self._beside = self._acceleration == "compile" and builds_beside(settings.compile_warmup)
        self.device_name = self._device.name
        self._loras = short_names(settings.loras)
        self._guided = GuidedStream(settings)
        self._guide: Guide | None = None  # of the last picture
        self._whole: WholeFrame | None = None
        self._size: tuple[tuple[int, int], torch.Tensor] | None = None
        super().__init__(settings)

    def _load_model(self, report: Report) -> LoadedModel:
        wanted, chosen = self._settings.acceleration, self._acceleration
        if wanted == "auto":
            precision = str(self._device.dtype).removeprefix("torch.")
            logger.info(
                "acceleration: auto chose %s, %s on %s", chosen, precision, self.device_name
            )
        if self._device.torch.type == "cpu":
            use_cores_sparingly()
        # A compiled U-Net cannot bear layers that come and go beside its own.
        fused = chosen in BUILT
        model = self._read_model(report, fused)
        steps = len(model.alphas)
        model.guides = Guides(
            self._settings, model.unet, steps, self._device, report, steady=chosen in BUILT
        )
        model.forward = Forward(model, self._accelerated())
        model.transfers = Transfers(self._device.torch)
        if chosen in BUILT and chosen not in BAKED and model.guides.controls is not None:
            model.guides.controls.accelerate(model.forward.acceleration.over)
        return model

    def _read_model(self, report: Report, fuse_at_once: bool) -> LoadedModel:
        """The model that the settings name, see :func:`loading.load_model`."""
        return load_model(self._settings, self._device, report, fuse_at_once=fuse_at_once)

    def load_parts(self, report: Report) -> tuple[dict[str, Run], torch.device]:
        """Only load: the parts that may have faster forms, by name, and where they compute."""
        model = self._load_model(report)
        assert model.forward is not None
        return {n: part.run for n, part in model.forward.acceleration.parts.items()}, (
            self._device.torch
        )

    def _accelerated(self) -> Acceleration:
        """The acceleration that was chosen."""
        device = self._device
        if not self._beside:
            return Acceleration(self._acceleration, self._builder())
        settings = replace(self._settings, engine=self.name, compile_warmup="start")
        facts = [repr(replace(settings, parameters={})), device.name, str(device.dtype)]
        if device.torch.type == "cpu":
            facts.append(torch.backends.cpu.get_cpu_capability())
        options: dict[str, Any] = {}
        if device.torch.type == "cuda":
            options["last"] = Graphs(device.torch).over
        return BuiltBeside(
            self._acceleration,
            cache_folder() / "compiled",
            facts,
            lambda hear: Helper(settings, hear),
            **options,
        )

    def _builder(self) -> Builder | None:
        """Makes the faster forms of an acceleration that builds them at the start."""
        settings, device = self._settings, self._device.torch
        match self._acceleration:
            case "compile":
                compiled = compiling(device)
                return Graphs(device, compiled) if device.type == "cuda" else compiled
            case "graphs":
                return Graphs(device)
            case "tensorrt":
                return building(settings.model, settings.loras, self.device_name)
            case "openvino":
                return with_openvino(exact=settings.precision == "float32")
        return None

    def _whole_frame(self, model: LoadedModel) -> WholeFrame | None:
        """All of a frame as one part, where that can be a graph: with nothing that looks at it."""
        on_card = self._device.torch.type == "cuda"
        graphs = self._acceleration == "graphs" or (self._acceleration == "compile" and on_card)
        guides = model.guides
        guided = guides is None or guides.controls is not None or guides.image is not None
        if not graphs or guided or not self._settings.use_denoising_batch:
            return None
        encode, decode = self._encode_bytes, self._decode_bytes
        return WholeFrame(self._calls.acceleration, encode, decode, self.denoiser)

    def _warm_up(self, report: Report) -> None:
        with self.computing("trying the copies"):
            self._transfers.prepare(self._settings.frame_buffer_size, *self._padded)
        super()._warm_up(report)
        self._calls.finish(report)

    @property
    def overlaps(self) -> bool:
        return self._model is not None and self._transfers.pinned

    @property
    def _calls(self) -> Forward:
        forward = self.model.forward
        assert forward is not None
        return forward

    @property
    def _transfers(self) -> Transfers:
        transfers = self.model.transfers
        assert transfers is not None
        return transfers

    # ControlNets and image prompts ---------------------------------------------------------------

    def _take(self, model: LoadedModel) -> None:
        assert model.guides is not None
        super()._take(model)
        self._calls.users += 1
        self._whole = self._whole_frame(model)
        self._guided.begin(model.guides)
        try:
            self._guided.check(self._diffusion(self._parameters))
        except ParameterError as error:
            raise EngineError(f"parameters: {error}") from error

    def forget(self) -> None:
        super().forget()
        self._guided.forget()
        self._guide = None

    def close(self) -> None:
        if self._model is not None:
            self._calls.left()
        super().close()
        self._guided.close()

    def _see(
        self, frames: Sequence[Frame], parameters: StreamBatchParameters, alone: bool
    ) -> Sequence[Any] | None:
        stays = parameters.prompt_follows_frame
        return self._guided.see(frames, self._diffusion(parameters), alone=alone, stays=stays)

    def _hand_in(
        self,
        pictures: Sequence[Frame],
        flights: Sequence[Flight],
        parameters: StreamBatchParameters,
    ) -> None:
        super()._hand_in(pictures, flights, parameters)
        self._guide = flights[-1].seen

    def control_map(self) -> Frame | None:
        sight = None if self._guide is None else self._guide.sight
        return None if sight is None else sight.picture()

    @property
    def imitates(self) -> bool:
        return self._guided.imitates

    def refer(self, picture: Frame | None) -> None:
        self._guided.refer(picture)

    @staticmethod
    def _diffusion(parameters: StreamBatchParameters) -> DiffusionParameters:
        assert isinstance(parameters, DiffusionParameters)
        return parameters

    # Several streams -----------------------------------------------------------------------------

    def _paying(self) -> int:
        # A processor is busy with one picture already. What is built is built for one, too.
        pays = self._device.torch.type == "cuda" and self._acceleration not in BUILT
        return PAYING if pays else 1

    # LoRAs ---------------------------------------------------------------------------------------

    def _absent(self) -> Mapping[str, str]:
        absent = {**super()._absent(), **self._guided.absent()}
        if not self._loras:
            absent["loras"] = "start the worker with --lora=name:scale"
        elif self._acceleration in BAKED:
            built = f"what {self._acceleration} has built holds its LoRAs"
            absent["loras"] = f"{built}; start the worker with --acceleration=compile or sdpa"
        return absent

    def _checked(
        self, current: StreamBatchParameters, patch: Mapping[str, Any]
    ) -> StreamBatchParameters:
        changed = super()._checked(current, patch)
        self._guided.check(self._diffusion(changed))
        names = list(self._loras.values())
        unknown = [name for name in self._scales(changed) if name not in names]
        if unknown and "loras" in patch:
            expected = f"expected names among {', '.join(names)}"
            raise ParameterError({"loras": f"{expected}, got {unknown[0]:.60}"})
        return changed

    @property
    def notice(self) -> str:
        return "" if self._model is None else self._calls.acceleration.notice

    def _tune(self, parameters: StreamBatchParameters) -> None:
        self._calls.between_frames()
        self.model.loras.use(self._scales(parameters))

    def _tuning(self, parameters: StreamBatchParameters) -> Hashable:
        return tuple(sorted(self._scales(parameters).items()))

    def encoder_state(self) -> Hashable:
        loras = self.model.loras
        return tuple(loras.scales.items()) if loras.of_text else ()

    def _scales(self, parameters: StreamBatchParameters) -> dict[str, float]:
        """Of each LoRA that is to act."""
        loras = self._diffusion(parameters).loras
        if loras is None:
            return {self._loras[lora]: scale for lora, scale in self._settings.loras.items()}
        return {lora.name: lora.scale for lora in loras}

    def schema(self) -> dict[str, Any]:
        schema = super().schema()
        for name, values in self._guided.choices().items():
            schema["properties"].get(name, {})["enum"] = values
        loras = schema["properties"].get("loras")
        if loras is not None:
            items = loras["anyOf"][0]["items"]
            items["properties"]["name"]["enum"] = list(self._loras.values())
        return schema

    def counters(self) -> dict[str, float]:
        return {**super().counters(), **self._guided.counters()}

    # One call of the model -----------------------------------------------------------------------

    def _encode_pixels(self, frames: Sequence[Frame]) -> torch.Tensor:  # (m, C, h, w)
        return self._encode_bytes(self._transfers.up(frames))

    def _encode_bytes(self, pixels: torch.Tensor) -> torch.Tensor:  # of (m, H, W, 3)
        model = self.model
        # Seen as (m, 3, H, W), which is channels-last already.
        pictures = (pixels.to(model.vae_dtype) / 127.5 - 1).permute(0, 3, 1, 2)
        return self._calls.encode(pictures).float() * model.vae.config.scaling_factor

    def _decode_pixels(self, latents: torch.Tensor) -> list[Frame]:  # of (m, C, h, w)
        return self._transfers.down(self._decode_bytes(latents))()

    def decoding(self, latents: torch.Tensor) -> Coming[list[Frame]]:
        return self._landing(self._decode_bytes(latents))

    def _landing(self, pixels: torch.Tensor) -> Coming[list[Frame]]:  # of (m, H, W, 3)
        width, height = self.width, self.height
        return self._transfers.down(pixels).then(lambda frames: cut(frames, width, height))

    def _decode_bytes(self, latents: torch.Tensor) -> torch.Tensor:  # (m, H, W, 3)
        model = self.model
        scaled = (latents / model.vae.config.scaling_factor).to(model.vae_dtype)
        pictures = self._calls.decode(scaled).float()  # (m, 3, H, W) in -1..1
        pixels = (pictures * 127.5 + 127.5).round().clamp(0, 255).to(torch.uint8)
        return pixels.permute(0, 2, 3, 1).contiguous()

    def _in_one_go(
        self, plan: Plan, frames: Sequence[Frame], flights: Sequence[Flight]
    ) -> tuple[Coming[list[Frame]], list[Flight]] | None:
        video = self._parameters.input_mode == "video"
        if self._whole is None or self.stream.empty or plan.board is not None or not video:
            return None
        pixels = self._transfers.up(self.padded(frames))
        pictures, done = self._whole(self.stream, plan, pixels, flights)
        return self._landing(pictures), done

    def _predict(
        self, noisy: torch.Tensor, at: torch.Tensor, condition: Told, negatives: int
    ) -> torch.Tensor:  # (B, C, h, w)
        rows = noisy.to(self._device.dtype).contiguous(memory_format=torch.channels_last)
        count, model = len(noisy), self.model
        told = condition.rows(count, negatives)
        guides = [None if seat is None else seat.seen for seat in condition.seats(count, negatives)]
        unwanted = condition.unwanted(count, negatives)
        added = self._added(told, count)
        assert model.guides is not None
        options = model.guides.options(rows, at, told.tokens, added, guides, unwanted)
        # The steps are computed in full precision: dividing by a small signal eats bits.
        return self._calls.unet(rows, at, options).float()

    def _added(self, told: Embedding, rows: int) -> dict[str, torch.Tensor] | None:
        """What the U-Net is told beside the words."""
        if not self.model.tells_size:
            return None
        height, width = self._padded
        if self._size is None or self._size[0] != (height, width):
            # Of the original, where its upper left corner was cut, and of the picture wanted. Kept:
            # while a graph is recorded nothing can be brought to the card.
            six = torch.tensor([height, width, 0, 0, height, width], dtype=self._device.dtype)
            self._size = (height, width), six.to(self._device.torch)
        return {"text_embeds": told.pooled, "time_ids": self._size[1].expand(rows, -1)}

    def encode_prompt(self, text: str) -> Embedding:
        model = self.model
        return model.text.plain(text) if model.straight else model.text.weighted(text)

    def unwanted(self, text: str, embedding: Embedding) -> Embedding:
        return embedding * 0.0 if self.model.nothing_is_zero and not text.strip() else embedding

    def placed(self, values: NDArray[Any]) -> torch.Tensor:
        placed = torch.from_numpy(values).to(self._device.torch)
        if values.ndim == 4:
            return placed.contiguous(memory_format=torch.channels_last)
        return placed

    def _computing_mode(self) -> AbstractContextManager[Any]:
        mode: AbstractContextManager[Any] = torch.inference_mode()
        return mode

    def _is_out_of_memory(self, error: Exception) -> bool:
        return is_out_of_memory(error)

    def _make_do(self) -> str | None:
        return None if self._model is None else self._calls.make_do()

    def _free_memory(self) -> None:
        if self._device.torch.type != "cpu":
            free_memory()


def _check(settings: EngineSettings) -> None:
    """Refuse what cannot work before anything is loaded."""
    if (settings.loras or settings.use_lcm_lora) and not can_read_loras():
        raise MissingExtra("a LoRA", "worker")
