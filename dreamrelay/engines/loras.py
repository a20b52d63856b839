"""LoRAs over a model: found, read in every layout, and their scales changed between two frames.

While scales change, each LoRA is computed beside the layer it belongs to, which costs time. When
they have stood still for a while, they are added into the weights and cost nothing. On the next
change the weights are what they were, to the last bit: they are copied before, not computed back,
since subtracting in half precision would wear them out over a night.
"""

import logging
import re
import warnings
from collections.abc import Callable, Iterator, Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from diffusers.loaders import StableDiffusionLoraLoaderMixin, StableDiffusionXLLoraLoaderMixin

from dreamrelay.engines import model_hub
from dreamrelay.engines.components import PICKLES, pickled, told
from dreamrelay.engines.licences import licence
from dreamrelay.engines.model_folder import check_safetensors, own_name
from dreamrelay.engines.ports import EngineSettings, Report
from dreamrelay.errors import EngineError

logger = logging.getLogger(__name__)

LCM_LORAS: Mapping[int, str] = {
    768: "latent-consistency/lcm-lora-sdv1-5",
    2048: "latent-consistency/lcm-lora-sdxl",
}
"""By the width of the prompts' embeddings that a U-Net takes."""

FUSE_AFTER = 30
"""Calls with the same scales after which LoRAs are added into the weights."""

_FEW_STEPS = re.compile(r"turbo|lcm|lightning|hyper|schnell", re.IGNORECASE)

_MISFIT = re.compile(r"not found in the base model|size mismatch", re.IGNORECASE)
"""What is said of a LoRA whose layers are not the model's."""


class _Reader(StableDiffusionLoraLoaderMixin):  # type: ignore[misc]
    """The reader of all LoRA layouts, which diffusers has as a part of its pipelines."""

    def __init__(self, parts: Mapping[str, Any]) -> None:
        self.components = dict(parts)
        self.hf_device_map = None  # nothing is spread over several devices
        for name, module in parts.items():
            setattr(self, name, module)


class _ReaderXL(StableDiffusionXLLoraLoaderMixin):  # type: ignore[misc]
    """The same for a model of two text encoders."""

    __init__ = _Reader.__init__


class Loras:
    """The LoRAs over a U-Net and its text encoders, by name.

    Args:
        parts: ``unet``, ``text_encoder``, and of SDXL ``text_encoder_2``.
        fuse_after: calls of :meth:`use` with the same scales until they are fused; 0: at once.
    """

    def __init__(self, parts: Mapping[str, Any], fuse_after: int = FUSE_AFTER) -> None:
        self._parts = dict(parts)
        self._reader = _ReaderXL(parts) if "text_encoder_2" in parts else _Reader(parts)
        self._fuse_after = fuse_after
        self._scales: dict[str, float] = {}
        self._adapters: dict[str, str] = {}  # name to what peft calls it; it takes no dots
        self._still = 0
        self._kept: list[tuple[Any, torch.Tensor]] = []  # weights as they were, while fused
        self.of_text = False
        """Whether one of them changes how prompts are read."""

    @property
    def scales(self) -> dict[str, float]:
        """What is in force, by name."""
        return dict(self._scales)

    @property
    def fused(self) -> bool:
        return bool(self._kept)

    def add(self, path: Path, scale: float, name: str, of: str) -> None:
        """Read a LoRA; its scale can be changed from now on.

        Args:
            name: what it goes by.
            of: what its operator called it, for messages.

        Raises:
            EngineError: it cannot be read, or is made for another model.
        """
        adapter = f"lora_{len(self._adapters)}"
        self._read(path, of, adapter)
        self._adapters[name] = adapter
        of_text = [part for part in self._parts if part.startswith("text_encoder")]
        having = self._reader.get_list_adapters()
        self.of_text |= any(adapter in having.get(part, ()) for part in of_text)
        self._set({**self._scales, name: scale})

    def fuse_for_good(self, path: Path, scale: float, of: str) -> None:
        """Add a LoRA into the weights, where it stays; before any other is added.

        Raises:
            EngineError: as :meth:`add`.
        """
        self._read(path, of, "for_good")
        told(
            lambda: self._reader.fuse_lora(components=list(self._parts), lora_scale=scale),
            f"LoRA {of}",
        )
        self._reader.unload_lora_weights()

    def _read(self, path: Path, of: str, adapter: str) -> None:
        check_safetensors(path)
        with warnings.catch_warnings():
            # It warns of the second adapter that "this will lead to having multiple adapters".
            warnings.filterwarnings("ignore", message="Already found a `peft_config`")
            try:
                told(
                    lambda: self._reader.load_lora_weights(
                        str(path.parent),
                        weight_name=path.name,
                        local_files_only=True,
                        adapter_name=adapter,
                    ),
                    f"LoRA {of}",
                )
            except EngineError as error:
                if _MISFIT.search(str(error.__cause__)):  # it lists each layer, by the hundred
                    raise _misfit(of, "its layers are others") from error
                raise
        if not any(adapter in names for names in self._reader.get_list_adapters().values()):
            raise _misfit(of, "nothing in it fits the model")

    def use(self, scales: Mapping[str, float]) -> None:
        """Compute under these scales from now on; a LoRA that is not named is off."""
        if not self._scales:
            return
        wanted = {name: float(scales.get(name, 0.0)) for name in self._scales}
        if wanted != self._scales:
            self._unfuse()
            self._set(wanted)
            self._still = 0
        elif not self.fused:
            self._still += 1
        if not self.fused and self._still >= self._fuse_after:
            self._fuse()

    def _set(self, scales: Mapping[str, float]) -> None:
        self._scales = dict(scales)
        self._reader.set_adapters([self._adapters[name] for name in scales], list(scales.values()))

    def _layers(self) -> Iterator[Any]:
        """The layers that have a LoRA beside them."""
        for part in self._parts.values():
            yield from (module for module in part.modules() if hasattr(module, "merged_adapters"))

    def _fuse(self) -> None:
        kept = []
        for layer in self._layers():
            weight = layer.get_base_layer().weight
            # In the computer's memory: the card's is dear, and this is read once per change.
            kept.append((layer, weight.detach().to("cpu", copy=True)))
            layer.merge()
        self._kept = kept

    def _unfuse(self) -> None:
        for layer, weight in self._kept:
            layer.unmerge()
            layer.get_base_layer().weight.data.copy_(weight)
        self._kept = []


def _misfit(of: str, why: str) -> EngineError:
    return EngineError(
        f"LoRA {of} cannot be loaded ({why}): choose one made for this kind of model"
    )


# Which, and where they are -----------------------------------------------------------------------


def can_read_loras() -> bool:
    """Whether the package is installed that diffusers reads LoRAs with."""
    return find_spec("peft") is not None


def short_names(loras: Mapping[str, float]) -> dict[str, str]:
    """Each LoRA's file, folder or hub id to the name that people see, all different.

    Peers change scales by these; where a file lies is the operator's business.
    """
    names: dict[str, str] = {}
    for lora in loras:
        name = Path(lora.replace("\\", "/")).name.removesuffix(".safetensors")
        name = unique = re.sub(r"[^\w.-]+", "_", name)[:80] or "lora"
        count = 1
        while unique in names.values():
            count += 1
            unique = f"{name}-{count}"
        names[lora] = unique
    return names


def lcm_lora(
    settings: EngineSettings, width: int, find: Callable[[str], Path], few_steps: bool
) -> str | None:
    """The LoRA that lets a plain model do with few steps, where it is wanted and can be had.

    Args:
        width: of the prompts' embeddings that the U-Net takes.
        find: gets a LoRA from the hub.
        few_steps: whether the model says of itself that it is made for few steps.

    Raises:
        EngineError: it was asked for and cannot be had, or there is none for such a model.
    """
    wanted, lora = settings.use_lcm_lora, LCM_LORAS.get(width)
    if wanted is False or (wanted is None and not can_read_loras()):
        return None
    names = [own_name(model) for model in (settings.model, *settings.loras)]
    if wanted is None and (lora is None or few_steps or any(map(_FEW_STEPS.search, names))):
        return None
    if lora is None:
        lora = LCM_LORAS[768]  # the one that was asked for; if it does not fit, that is said
    if lora in settings.loras:
        return None
    if wanted is None and Path(settings.model).expanduser().exists():
        logger.warning(
            "%s may need many steps: if it is a plain Stable Diffusion, use the LCM-LoRA "
            "(use_lcm_lora, or loras %s)",
            settings.model,
            lora,
        )
        return None
    try:
        find(lora)
    except EngineError as error:
        if wanted:
            raise
        logger.warning("few steps will look poor without the LCM-LoRA: %s", error)
        return None
    return lora


def find_lora(lora: str, settings: EngineSettings, report: Report) -> Path:
    """The file of a LoRA: a path, a folder with one in it, or from the hub.

    Raises:
        EngineError: there is none; says where it was looked for.
    """
    path = Path(lora).expanduser()
    if path.is_dir():
        found = sorted(path.glob("*.safetensors"))
        if len(found) != 1:
            raise EngineError(
                f"LoRA {lora}: expected one .safetensors file in the folder, found {len(found)}; "
                "name the file"
            )
        return found[0]
    if path.suffix in PICKLES:
        raise EngineError(pickled(f"LoRA {lora}"))
    if path.is_file():
        return path
    if model_hub.is_id("/".join(lora.split("/")[:2])) and not path.is_absolute():
        file = model_hub.lora_file(lora, offline=settings.offline, report=report)
        logger.info("LoRA %s: licence %s", lora, licence("/".join(lora.split("/")[:2])))
        return file
    raise EngineError(f"LoRA {lora}: there is no such file, folder or hub id")
