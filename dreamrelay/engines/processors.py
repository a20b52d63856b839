"""Processors: every frame through a whole pipeline of diffusers, for pictures worth waiting for.

``standard`` is Stable Diffusion 1.5 in 20 to 30 steps, ``lightning`` SDXL-Lightning in 1 to 8; the
depth of the frame may hold both to its forms. Each is one :class:`Processor`: it turns one frame
into one picture. ``processor_engine.py`` makes engines of them.
"""

import logging
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, ClassVar

import diffusers
import numpy as np
import torch
from diffusers import (
    AutoencoderKL,
    AutoencoderTiny,
    ControlNetModel,
    EulerDiscreteScheduler,
    UNet2DConditionModel,
    schedulers,
)
from PIL import Image
from safetensors.torch import load_file
from transformers import CLIPTextModel, CLIPTextModelWithProjection, CLIPTokenizer

from dreamrelay.codec import Frame
from dreamrelay.engines import model_hub
from dreamrelay.engines.batch_engine import out_of_memory
from dreamrelay.engines.components import load_component, quieten, told
from dreamrelay.engines.depth import DEFAULT_MODEL, DepthEstimator
from dreamrelay.engines.devices import Device, free_memory, is_out_of_memory
from dreamrelay.engines.licences import UNKNOWN, both, licence
from dreamrelay.engines.model_folder import check_safetensors, existing, read_index, read_json
from dreamrelay.engines.ports import EngineSettings, Progress, Report
from dreamrelay.engines.processor_parameters import (
    LIGHTNING_STEPS,
    PROCESSORS,
    ProcessorName,
    ProcessorParameters,
)
from dreamrelay.engines.prompts import Embedding, Encoded
from dreamrelay.engines.side_models import find_component
from dreamrelay.engines.text import TextEncoder, TextEncoders
from dreamrelay.errors import ConfigError, EngineError

logger = logging.getLogger(__name__)

STANDARD_MODEL = "stable-diffusion-v1-5/stable-diffusion-v1-5"
LIGHTNING_MODEL = "stabilityai/stable-diffusion-xl-base-1.0"
LIGHTNING_WEIGHTS = "ByteDance/SDXL-Lightning"

_RGB_OF_LATENTS: Mapping[ProcessorName, tuple[tuple[float, ...], ...]] = {
    # Found by linear fits over many pictures; rough, and free.
    "standard": (
        (0.298, 0.207, 0.208),
        (0.187, 0.286, 0.173),
        (-0.158, 0.189, 0.264),
        (-0.184, -0.271, -0.473),
    ),
    "lightning": (
        (0.365, 0.423, 0.434),
        (-0.253, -0.004, 0.107),
        (0.108, 0.111, -0.036),
        (-0.317, -0.249, -0.219),
    ),
}
"""What each channel of a latent adds to red, green and blue of a preview."""

Step = Callable[[int, Callable[[], Frame]], None]
"""Called after each denoising step with its number, from 1, and a way to see how far it is."""


class Processor(ABC):
    """One frame into one picture, by a pipeline of diffusers.

    Args:
        settings: ``model`` is a hub id or a folder in diffusers format; ``controlnets`` may name
            the depth ControlNet (``depth=...``; ``standard=...`` or ``lightning=...`` that of one
            processor) or say ``none``.

    Raises:
        ConfigError: something is asked for that only stream batches have.
    """

    name: ClassVar[ProcessorName]
    usual_controlnet: ClassVar[str]

    def __init__(self, settings: EngineSettings, device: Device) -> None:
        asked = {
            "lora": settings.loras,
            "ip_adapter": settings.ip_adapter,
            "frame_buffer_size": settings.frame_buffer_size > 1,
            "precision": f"torch.{settings.precision}" not in ("torch.auto", str(device.dtype)),
        }
        for flag in (flag for flag, value in asked.items() if value):
            raise ConfigError(
                f"{flag}: the processor {self.name} cannot use it: leave it out, or choose the "
                "engine stream-batch"
            )
        self._settings = settings
        self._device = device
        self._depth: DepthEstimator | None = None
        self._prompts: Encoded[str, Embedding] = Encoded(self._encode)
        self._sparing = False
        self._texts: TextEncoders | None = None
        self._pipeline: Any = None
        self._held: Any = None  # the same parts, with a ControlNet
        self.licence = UNKNOWN
        self.seen: Frame | None = None
        """What the ControlNet saw last."""

    # What the two differ in ----------------------------------------------------------------------

    @abstractmethod
    def _load(self, folder: Path, report: Report) -> tuple[Any, Any]:
        """The pipeline without and with a ControlNet (None: none), from a folder in diffusers
        format.
        """

    @abstractmethod
    def _plan(self, parameters: ProcessorParameters) -> dict[str, Any]:
        """What the pipeline is told of steps, strength and guidance."""

    # Life ----------------------------------------------------------------------------------------

    def load(self, report: Report) -> None:
        """Load everything.

        Raises:
            EngineError: it cannot be loaded; says the next step.
        """
        quieten()  # before its pipelines are imported: they miss a package that is not needed
        half = self._device.dtype is not torch.float32
        model = self._settings.model
        folder = Path(model).expanduser()
        if folder.is_file():
            raise EngineError(
                f"{model} is a file: expected a folder in diffusers format or a hub id such as "
                f"{STANDARD_MODEL}: choose the engine stream-batch, which takes files, or make a "
                "folder of it (from_single_file and save_pretrained of diffusers)"
            )
        if not folder.is_dir():
            if not model_hub.is_id(model):
                raise EngineError(
                    f"there is no folder {model}: expected a folder in diffusers format or a hub "
                    f"id such as {STANDARD_MODEL}"
                )
            offline = self._settings.offline
            folder = model_hub.model_folder(model, offline=offline, half=half, report=report)
        self.licence = licence(model, folder)
        logger.info("%s: licence %s", model, self.licence)
        self._pipeline, self._held = self._load(folder, report)
        for pipeline in self._pipelines():
            pipeline.set_progress_bar_config(disable=True)
        for part in (self._held or self._pipeline).components.values():
            if isinstance(part, torch.nn.Module):
                part.eval().requires_grad_(False)
                told(partial(part.to, self._device.torch), f"the processor {self.name}")

    def close(self) -> None:
        self._pipeline = self._held = self._texts = self._depth = None
        self._prompts.clear()

    def _pipelines(self) -> list[Any]:
        return [pipeline for pipeline in (self._pipeline, self._held) if pipeline is not None]

    def counters(self) -> dict[str, float]:
        return {
            "prompts_encoded": self._prompts.encoded,
            "prompt_cache_hits": self._prompts.hits,
        }

    # Pictures ------------------------------------------------------------------------------------

    def paint(self, frame: Frame, parameters: ProcessorParameters, step: Step) -> Frame:
        """The picture of a frame, in its size.

        Args:
            frame: uint8, H x W x 3, sides multiples of 8.
            step: hears of each step; what it raises ends the work.

        Raises:
            EngineError: it could not be computed.
        """
        try:
            return self._paint(frame, parameters, step)
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error) or self._sparing:
                raise self._failed(error, frame) from error
        # Outside the except, for the error itself held on to what is to be freed.
        logger.warning("%s is short of memory: slower from now on, in smaller pieces", self.name)
        self._sparing = True
        free_memory()
        for pipeline in self._pipelines():
            pipeline.enable_attention_slicing()
        if isinstance(self._pipeline.vae, AutoencoderKL):
            self._pipeline.vae.enable_slicing()
            self._pipeline.vae.enable_tiling()
        try:
            return self._paint(frame, parameters, step)
        except (RuntimeError, MemoryError) as error:
            raise self._failed(error, frame) from error

    def _failed(self, error: Exception, frame: Frame) -> EngineError:
        doing = f"computing a picture of {frame.shape[1]}x{frame.shape[0]}"
        if is_out_of_memory(error):
            return EngineError(out_of_memory(doing))
        return EngineError(f"{doing} failed: {' '.join(str(error).split())[:300]}")

    def _paint(self, frame: Frame, parameters: ProcessorParameters, step: Step) -> Frame:
        # At 0 a ControlNet would be asked all the same, for nothing.
        held = self._held if parameters.controlnet_scale > 0 else None
        pipeline = held or self._pipeline
        height, width = frame.shape[:2]
        options = self._plan(parameters)
        told = self._prompts[parameters.prompt]
        against = self._prompts[parameters.negative_prompt]
        options |= {"prompt_embeds": told.tokens, "negative_prompt_embeds": against.tokens}
        if told.pooled is not None:
            options["pooled_prompt_embeds"] = told.pooled
            options["negative_pooled_prompt_embeds"] = against.pooled
        if held is not None and self._depth is not None:
            self.seen = self._depth.picture(frame)
            options["control_image"] = Image.fromarray(self.seen)
            options["controlnet_conditioning_scale"] = parameters.controlnet_scale
            options |= {"height": height, "width": width}

        def after(_: Any, number: int, at: Any, values: dict[str, Any]) -> dict[str, Any]:
            step(number + 1, lambda: self._preview(values["latents"], width, height))
            return {}

        with torch.inference_mode():
            made = pipeline(
                image=Image.fromarray(frame),
                generator=torch.Generator().manual_seed(parameters.seed),
                callback_on_step_end=after,
                output_type="np",
                return_dict=False,
                **options,
            )[0][0]
        if not np.isfinite(made).all():
            raise EngineError("the picture came out as no numbers: compute in full precision")
        return np.asarray(np.rint(made * 255).clip(0, 255), dtype=np.uint8)

    def _preview(self, latents: torch.Tensor, width: int, height: int) -> Frame:
        """A rough picture of unfinished latents (1, 4, h, w)."""
        factors = torch.tensor(_RGB_OF_LATENTS[self.name], device=latents.device)
        rough = latents[0].float()
        rough = rough / rough.std().clamp(min=1e-3)  # some schedulers stretch what is noisy
        colours = torch.einsum("chw,cr->hwr", rough, factors) * 0.5 + 0.5
        pixels = (colours.clamp(0, 1) * 255).round().to(torch.uint8).cpu().numpy()
        scaled = Image.fromarray(pixels).resize((width, height), Image.Resampling.BICUBIC)
        return np.asarray(scaled)

    # Loading -------------------------------------------------------------------------------------

    def _encode(self, prompt: str) -> Embedding:
        if self._texts is None:
            raise EngineError(f"the processor {self.name} is not loaded")
        with torch.inference_mode():
            return self._texts.weighted(prompt)

    def _part(self, folder: Path, part: str, kind: Any) -> Any:
        return load_component(folder, part, kind.from_pretrained, self._device.dtype)

    def _autoencoder(self, folder: Path) -> Any:
        config = read_json(folder / "vae" / "config.json")
        tiny = config.get("_class_name") == "AutoencoderTiny"
        return self._part(folder, "vae", AutoencoderTiny if tiny else AutoencoderKL)

    def _text_encoder(self, folder: Path, number: str, kind: Any) -> TextEncoder:
        tokenizer = load_component(folder, f"tokenizer{number}", CLIPTokenizer.from_pretrained)
        return TextEncoder(tokenizer, self._part(folder, f"text_encoder{number}", kind))

    def _controlnet(self, unet: Any, report: Report) -> Any:
        """The ControlNet for depth and what it sees; None where settings say ``none``."""
        settings = self._settings
        model = _controlnet_of(self.name, settings.controlnets)
        if model is None:
            return None
        model = model or self.usual_controlnet
        report(Progress("loading", f"ControlNet {model}", 0.7))
        offline = settings.offline
        folder = find_component(model, "ControlNet", self._device, offline=offline, report=report)
        net = load_component(folder, ".", ControlNetModel.from_pretrained, self._device.dtype)
        if net.config.cross_attention_dim != unet.config.cross_attention_dim:
            raise EngineError(
                f"ControlNet {model} is made for another model: it takes prompts of width "
                f"{net.config.cross_attention_dim}, the model of {unet.config.cross_attention_dim}"
                f"; name one for this processor: --controlnet {self.name}=some/model"
            )
        depth = settings.depth_model or DEFAULT_MODEL
        report(Progress("loading", f"depth model {depth}", 0.9))
        self._depth = DepthEstimator(depth, self._device, offline=offline, report=report)
        return net


def _controlnet_of(name: ProcessorName, controlnets: Sequence[str]) -> str | None:
    """The ControlNet that settings name for a processor; "": the usual one, None: none.

    Raises:
        EngineError: they name what a processor cannot be held by.
    """
    if list(controlnets) == ["none"]:
        return None
    named: dict[str, str] = {}
    for entry in controlnets:
        kind, given, model = (part.strip() for part in entry.partition("="))
        if kind not in ("depth", *PROCESSORS) or kind in named or (kind != "depth" and not model):
            raise EngineError(
                "the processors are held by one ControlNet, for depth: expected --controlnet "
                "depth, depth=some/model, none, or standard=some/model,lightning=some/model, got "
                f"{', '.join(controlnets)}"
            )
        named[kind] = model if given else ""
    return named.get(name, named.get("depth", ""))


def _scheduler(folder: Path) -> Any:
    """The scheduler that the model says is its own."""
    name = str(read_json(existing(folder, "scheduler/scheduler_config.json")).get("_class_name"))
    kind = getattr(schedulers, name, None)
    if kind is None or not name.endswith("Scheduler"):
        raise EngineError(f"{folder}/scheduler is a {name}, which diffusers does not have")
    return load_component(folder, "scheduler", kind.from_pretrained)


class StandardProcessor(Processor):
    """Stable Diffusion 1.5 in 20 to 30 steps."""

    name = "standard"
    usual_controlnet = "lllyasviel/control_v11f1p_sd15_depth"

    def _load(self, folder: Path, report: Report) -> tuple[Any, Any]:
        report(Progress("loading", "text encoder", 0.1))
        encoder = self._text_encoder(folder, "", CLIPTextModel)
        self._texts = TextEncoders([encoder])
        report(Progress("loading", "U-Net", 0.2))
        unet = self._part(folder, "unet", UNet2DConditionModel)
        if unet.config.cross_attention_dim != self._texts.width:
            raise EngineError(f"{folder}: expected Stable Diffusion 1.x, got another model")
        parts: dict[str, Any] = {
            "vae": self._autoencoder(folder),
            "text_encoder": encoder.module,
            "tokenizer": encoder.tokenizer,
            "unet": unet,
            "scheduler": _scheduler(folder),
            "safety_checker": None,
            "feature_extractor": None,
            "requires_safety_checker": False,
        }
        net = self._controlnet(unet, report)
        held = net and diffusers.StableDiffusionControlNetImg2ImgPipeline(controlnet=net, **parts)
        return diffusers.StableDiffusionImg2ImgPipeline(**parts), held

    def _plan(self, parameters: ProcessorParameters) -> dict[str, Any]:
        steps = parameters.num_inference_steps
        return {
            "num_inference_steps": steps,
            "strength": max(parameters.strength, 1 / steps),  # one step at least
            "guidance_scale": parameters.guidance_scale,
        }


class LightningProcessor(Processor):
    """SDXL-Lightning: the U-Net of so many steps in the body of SDXL.

    Args:
        weights: hub id or folder that holds the U-Nets of SDXL-Lightning.
        steps: for which numbers of steps to load one, of 1, 2, 4 and 8.
    """

    name = "lightning"
    usual_controlnet = "diffusers/controlnet-depth-sdxl-1.0"

    def __init__(
        self,
        settings: EngineSettings,
        device: Device,
        weights: str = LIGHTNING_WEIGHTS,
        steps: tuple[int, ...] = (4,),
    ) -> None:
        super().__init__(settings, device)
        wrong = [number for number in steps if number not in LIGHTNING_STEPS]
        if wrong or not steps:
            raise ConfigError(
                f"lightning_steps: expected some of {', '.join(map(str, LIGHTNING_STEPS))}, got "
                f"{', '.join(map(str, steps)) or 'none'}"
            )
        self._weights = weights
        self._steps = tuple(sorted(set(steps)))
        self._unets: dict[int, Any] = {}
        self._schedulers: dict[int, Any] = {}

    def _load(self, folder: Path, report: Report) -> tuple[Any, Any]:
        if "text_encoder_2" not in read_index(folder):
            raise EngineError(f"{folder}: expected SDXL, got another model")
        report(Progress("loading", "text encoders", 0.1))
        first = self._text_encoder(folder, "", CLIPTextModel)
        second = self._text_encoder(folder, "_2", CLIPTextModelWithProjection)
        self._texts = TextEncoders([first, second])
        config = UNet2DConditionModel.load_config(str(folder / "unet"), local_files_only=True)
        weights = Path(self._weights).expanduser()
        terms = licence(self._weights, weights if weights.is_dir() else None)
        logger.info("%s: licence %s", self._weights, terms)
        self.licence = both(self.licence, terms)
        schedule = EulerDiscreteScheduler.load_config(str(folder / "scheduler"))
        for at, steps in enumerate(self._steps):
            fraction = 0.2 + 0.5 * at / len(self._steps)
            report(Progress("loading", f"U-Net of {steps} steps", fraction))
            self._unets[steps] = self._unet(config, steps, report)
            self._schedulers[steps] = EulerDiscreteScheduler.from_config(
                schedule,
                timestep_spacing="trailing",
                # The weights for one step say the picture itself, the others the noise.
                prediction_type="sample" if steps == 1 else "epsilon",
            )
        unet = self._unets[self._steps[-1]]
        parts: dict[str, Any] = {
            "vae": self._autoencoder(folder),
            "text_encoder": first.module,
            "text_encoder_2": second.module,
            "tokenizer": first.tokenizer,
            "tokenizer_2": second.tokenizer,
            "unet": unet,
            "scheduler": self._schedulers[self._steps[-1]],
            "add_watermarker": False,
        }
        net = self._controlnet(unet, report)
        held = net and diffusers.StableDiffusionXLControlNetImg2ImgPipeline(controlnet=net, **parts)
        return diffusers.StableDiffusionXLImg2ImgPipeline(**parts), held

    def _unet(self, config: Mapping[str, Any], steps: int, report: Report) -> Any:
        name = f"sdxl_lightning_{steps}step_unet{'_x0' if steps == 1 else ''}.safetensors"
        place = Path(self._weights).expanduser()
        if place.is_dir():
            path = place / name
            if not path.is_file():
                raise EngineError(f"{place} is not complete: expected {name} in it")
        else:
            path = model_hub.lora_file(
                f"{self._weights}/{name}", offline=self._settings.offline, report=report
            )
        check_safetensors(path)
        device, dtype = self._device.torch, self._device.dtype
        with torch.device("meta"):  # no memory for weights that are replaced at once
            unet = UNet2DConditionModel.from_config(config)

        def fill() -> None:
            weights = {name: weight.to(dtype) for name, weight in load_file(path).items()}
            unet.load_state_dict(weights, assign=True)

        told(fill, path)
        return unet.eval().requires_grad_(False).to(device)

    def _plan(self, parameters: ProcessorParameters) -> dict[str, Any]:
        steps = min(self._steps, key=lambda of: abs(of - parameters.num_inference_steps))
        for pipeline in self._pipelines():
            pipeline.unet = self._unets[steps]
            pipeline.scheduler = self._schedulers[steps]
        return {
            "num_inference_steps": steps,
            "strength": max(parameters.strength, 1 / steps),
            "guidance_scale": 0.0,
        }

    def close(self) -> None:
        super().close()
        self._unets.clear()
