"""The pocket engine: the pocket model on live frames with numpy and an ONNX runtime, no torch.

It runs any folder in the layout of the pocket model: pixel cells for an autoencoder (``pocket.py``)
and an ONNX graph beside the weights of U-Net and text encoder.
"""

import logging
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from dreamrelay.codec import Frame
from dreamrelay.engines import pocket
from dreamrelay.engines.batch_engine import BatchEngine
from dreamrelay.engines.clip_tokenizer import ClipTokenizer
from dreamrelay.engines.condition import Told
from dreamrelay.engines.control_parameters import wanted_controls
from dreamrelay.engines.licences import licence
from dreamrelay.engines.model_folder import (
    check_safetensors,
    existing,
    known_parameters,
    pixels,
    read_defaults,
    read_index,
    read_json,
    read_scheduler,
    read_vocabulary,
)
from dreamrelay.engines.model_form import ModelForm
from dreamrelay.engines.ports import EngineSettings, Progress, Report
from dreamrelay.engines.prompts import Embedding, Encoded
from dreamrelay.engines.runtimes import (
    RUNTIMES,
    Graph,
    Program,
    Runtime,
    choose_runtime,
    inference_threads,
)
from dreamrelay.errors import ConfigError, EngineError

logger = logging.getLogger(__name__)

Latents = NDArray[np.float32]

_PROGRAMS = 6
"""So many are kept, one for each size and number of rows: each takes a moment to be made."""

_MEMORY_WORDS = ("out of memory", "bad_alloc", "allocate")


@dataclass(kw_only=True)
class PocketModel(ModelForm):
    """A model whose graphs are read."""

    cells: pocket.PixelCells
    tokenizer: ClipTokenizer
    encode_text: Program  # (1, words) int64 to (1, words, width)
    unet: Graph  # (B, C, h, w), (B,) int64, (B, words, width) to (B, C, h, w)
    words: tuple[int, int]  # how many a prompt has, and the width of their embeddings
    programs: Encoded[tuple[int, ...], Program] = field(init=False)  # of the U-Net, by shape

    def __post_init__(self) -> None:
        def compiled(shape: tuple[int, ...]) -> Program:
            return self.unet.program([shape, (shape[0],), (shape[0], *self.words)])

        self.programs = Encoded(compiled, _PROGRAMS)


class PocketEngine(BatchEngine[PocketModel]):
    """The pocket model as a stream batch on the processor."""

    name: ClassVar[str] = "pocket"
    xp: ClassVar[Any] = np

    def __init__(self, settings: EngineSettings) -> None:
        _check(settings)
        chosen = choose_runtime(settings.acceleration)
        threads = inference_threads()
        fast = settings.acceleration != "none"
        self._runtime: Runtime = RUNTIMES[chosen].load()(fast=fast, threads=threads)
        self.device_name = f"cpu, {self._runtime.label}"
        super().__init__(settings)
        self._fresh: dict[tuple[int, int, int], Latents] = {}
        logger.info(
            "acceleration: %s chose %s on %d thread(s)",
            settings.acceleration,
            self._runtime.label,
            threads,
        )

    def _load_model(self, report: Report) -> PocketModel:
        folder = _find_folder(self._settings.model)
        read_index(folder)
        config = read_json(existing(folder, "unet/config.json"))
        vae = read_json(existing(folder, "vae/config.json"))
        noising = read_scheduler(folder)
        defaults = read_defaults(folder)
        cells = pocket.PixelCells.of(vae)
        levels = len(config.get("block_out_channels", ()))
        width, height = pixels(config.get("sample_size", 32), cells.downscale)
        if vae.get("_class_name") != pocket.AUTOENCODER or config["in_channels"] != cells.channels:
            raise EngineError(
                f"{self._settings.model} is not in the layout of the pocket model: expected a "
                f"{pocket.AUTOENCODER} and a U-Net of {cells.channels} channels; "
                "choose the engine stream-batch"
            )
        terms = licence(self._settings.model, folder)
        logger.info("%s: licence %s", self._settings.model, terms)
        report(Progress("loading", "tokenizer", 0.0))
        tokenizer = ClipTokenizer(folder)
        words = (tokenizer.length, int(config["cross_attention_dim"]))
        report(Progress("loading", "text encoder", 0.1))
        encode_text = self._read(folder, "text_encoder", exact=True).program([(1, words[0])])
        report(Progress("loading", "unet", 0.4))
        return PocketModel(
            name=self._settings.model,
            licence=terms,
            alphas=noising.alphas,
            prediction=noising.prediction,
            half_share=noising.half_share,
            channels=cells.channels,
            picture_channels=cells.pixel_channels,
            scale=cells.downscale,
            multiple=cells.downscale * 2 ** max(0, levels - 1),
            width=defaults.get("width", width),
            height=defaults.get("height", height),
            straight=True,
            defaults=known_parameters(defaults),
            vocabulary=read_vocabulary(folder),
            cells=cells,
            tokenizer=tokenizer,
            encode_text=encode_text,
            unet=self._read(folder, "unet"),
            words=words,
        )

    def _read(self, folder: Path, part: str, *, exact: bool = False) -> Graph:
        path = existing(folder, f"{part}/{pocket.GRAPH}")
        for weights in path.parent.glob("*.safetensors"):
            check_safetensors(weights)  # a graph that reads beyond a cut-off file would crash
        try:
            return self._runtime.read(path, exact=exact)
        except RuntimeError as error:
            text = " ".join(str(error).split())[:300]
            raise EngineError(
                f"{path} cannot be loaded ({text}): download the model again, or choose another"
            ) from error

    def close(self) -> None:
        super().close()
        self._fresh.clear()

    # Between pixels, latents and words -----------------------------------------------------------

    def _encode_pixels(self, frames: Sequence[Frame]) -> Latents:  # (m, C, h, w)
        cells = self.model.cells
        form = (len(frames), *self._padded)
        room = self._fresh.get(form)
        if room is None:
            self._fresh = {form: cells.empty(*form)}
            room = self._fresh[form]
        return cells.encode(frames, room)

    def _decode_pixels(self, latents: Latents) -> list[Frame]:  # of (m, C, h, w)
        return self.model.cells.decode(latents)

    def _predict(
        self, noisy: Latents, at: NDArray[np.int64], condition: Told, negatives: int
    ) -> Latents:  # (B, C, h, w)
        told = condition.rows(len(noisy), negatives)
        return self.model.programs[noisy.shape](noisy, at, told.tokens)

    def encode_prompt(self, text: str) -> Embedding:
        model = self.model
        return Embedding(model.encode_text(model.tokenizer(text)).astype(np.float32))

    def _is_out_of_memory(self, error: Exception) -> bool:
        text = str(error).lower()
        return isinstance(error, MemoryError) or any(words in text for words in _MEMORY_WORDS)


def _find_folder(model: str) -> Path:
    if model == "pocket":
        folder = pocket.model_folder()
        pocket.verify(folder)
        return folder
    folder = Path(model).expanduser()
    if not folder.is_dir():
        raise EngineError(
            f"there is no folder {model}: the pocket engine runs pocket or a folder like it; "
            "for other models choose the engine stream-batch"
        )
    return folder


def _check(settings: EngineSettings) -> None:
    """Refuse what this engine cannot do before anything is loaded."""
    if settings.device not in ("auto", "cpu"):
        raise ConfigError(
            f"device: the pocket engine runs on the processor, got {settings.device!r}; expected "
            "auto or cpu, or the engine stream-batch"
        )
    if settings.loras or settings.use_lcm_lora:
        raise ConfigError("loras: the pocket engine takes none; choose the engine stream-batch")
    if wanted_controls(settings.controlnets) or settings.ip_adapter:
        raise ConfigError(
            "controlnet, ip_adapter: the pocket engine takes none, and there is none for the "
            "pocket model; choose Stable Diffusion"
        )
