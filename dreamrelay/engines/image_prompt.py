"""Image prompts: a picture in place of words, through an IP-Adapter.

What an image encoder sees in the picture becomes a few more tokens, and an IP-Adapter gives the
U-Net's attention a second eye for them. It is asked only while there is a picture and its share is
above 0: without, the U-Net does what it always did, at no cost, and not one word of the prompt is
lost.
"""

import hashlib
import logging
import re
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from safetensors.torch import load_file
from transformers import CLIPVisionModelWithProjection
from transformers.image_utils import OPENAI_CLIP_MEAN, OPENAI_CLIP_STD

from dreamrelay.codec import MAX_PIXELS, Frame, decode
from dreamrelay.engines import model_hub
from dreamrelay.engines.batch_engine import out_of_memory
from dreamrelay.engines.components import PICKLES, load_component, pickled, told
from dreamrelay.engines.devices import Device, is_out_of_memory
from dreamrelay.engines.licences import licence
from dreamrelay.engines.model_folder import check_safetensors, read_json
from dreamrelay.engines.ports import EngineSettings, Progress, Report
from dreamrelay.errors import ConfigError, EngineError, ProtocolError

logger = logging.getLogger(__name__)

REPOSITORY = "h94/IP-Adapter"

USUAL: Mapping[int, Mapping[str, str]] = {
    768: {
        "base": "models/ip-adapter_sd15.safetensors",
        "plus": "models/ip-adapter-plus_sd15.safetensors",
    },
    2048: {
        "base": "sdxl_models/ip-adapter_sdxl.safetensors",
        "plus": "sdxl_models/ip-adapter-plus_sdxl_vit-h.safetensors",
    },
}
"""By the width of a model's prompts: where the adapters lie in their usual folder."""

ENCODERS = ("image_encoder", "../models/image_encoder", "../sdxl_models/image_encoder")
"""Where an adapter's image encoder may lie, seen from the adapter's folder."""

PICTURES = (".png", ".jpg", ".jpeg", ".webp")
MAX_FILE = 64 * 1024 * 1024
MAX_PICTURES = 256
_LOOK_SIDE = 1024  # pixels; a greater picture is shrunk before it is looked at
_LONGEST = 4  # times the shorter side
_KEPT = 32  # pictures' tokens


class PictureFolder:
    """The operator's image prompts, by name; those that are there when the engine is opened.

    Raises:
        ConfigError: no such folder, or too many pictures in it.
    """

    def __init__(self, folder: str | None) -> None:
        self._paths: dict[str, Path] = {}
        if folder is None:
            return
        place = Path(folder).expanduser()
        if not place.is_dir():
            raise ConfigError(f"prompt_pictures: expected a folder of pictures, got {folder}")
        paths = [path for path in sorted(place.iterdir()) if path.suffix.lower() in PICTURES]
        if len(paths) > MAX_PICTURES:
            raise ConfigError(
                f"prompt_pictures: expected at most {MAX_PICTURES} pictures, got {len(paths)}"
            )
        self._paths = {path.name: path for path in paths if path.is_file()}

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(self._paths)

    def __getitem__(self, name: str) -> Frame:
        """Read a picture.

        Raises:
            EngineError: it is not there, no picture, or too large.
        """
        if name not in self._paths:
            known = ", ".join(self._paths) or "there is none"
            raise EngineError(f"image_prompt: expected one of {known}, got {name!r:.60}")
        path = self._paths[name]
        try:
            if path.stat().st_size > MAX_FILE:
                raise EngineError(f"{path.name}: expected at most {MAX_FILE // 2**20} MB")
            return decode(path.read_bytes())
        except (OSError, ProtocolError) as error:
            raise EngineError(f"image prompt {path.name} cannot be read: {error}") from error


class Adapter(NamedTuple):
    """The files of an IP-Adapter.

    Attributes:
        weights: the adapter's own, safetensors.
        encoders: folders of image encoders; one of them is the one that it was trained with.
    """

    weights: Path
    encoders: tuple[Path, ...]


@dataclass(slots=True, eq=False)
class Acting:
    """The image prompt that acts on a stream now; its rows in flight look it up at each call.

    Attributes:
        tokens: what stands for the picture, (1, 1, tokens, width); None: there is no picture.
        scale: its share; 0: none.
    """

    tokens: torch.Tensor | None = None
    scale: float = 0.0

    @property
    def on(self) -> bool:
        return self.tokens is not None and self.scale > 0


class ImagePrompt:
    """An IP-Adapter over a U-Net.

    Args:
        settings: name it (``ip_adapter``).
        unet: the U-Net, which it fits.

    Raises:
        EngineError: it cannot be loaded, is made for another model, or has no image encoder.
    """

    def __init__(self, settings: EngineSettings, unet: Any, device: Device, report: Report) -> None:
        assert settings.ip_adapter is not None
        self._unet = unet
        self._device = device
        name = settings.ip_adapter
        report(Progress("loading", f"IP-Adapter {name}"))
        files = find_adapter(name, unet.config.cross_attention_dim, settings.offline, report)
        logger.info("IP-Adapter %s: licence %s", name, licence(_repository(name)))
        weights = _read_weights(name, files.weights)
        _check_fit(name, weights, unet)
        report(Progress("loading", f"image encoder of {name}", 0.3))
        # "Plus" looks at the parts of a picture, the plain one at the whole of it.
        self._of_parts = "latents" in weights["image_proj"]
        self._encoder = load_component(
            _fitting_encoder(name, files.encoders, weights["image_proj"]),
            ".",
            CLIPVisionModelWithProjection.from_pretrained,
            device.dtype,
        )
        self._encoder.eval().requires_grad_(False).to(device.torch)
        self._side = self._encoder.config.image_size
        self._project, self._attention = told(
            lambda: _parts(unet, weights, device), f"IP-Adapter {name}"
        )
        for processor in self._attention.values():
            processor.to_k_ip[0] = _Keys(processor.to_k_ip[0])
            processor.to_v_ip[0] = _Values(processor.to_v_ip[0])
        self._laid = False
        self._kept: OrderedDict[bytes, torch.Tensor] = OrderedDict()
        self._counts = {"image_prompts_encoded": 0, "image_prompt_cache_hits": 0}
        with torch.inference_mode():
            self._nothing = self._of_nothing()

    # One call of the U-Net -----------------------------------------------------------------------

    def context(
        self,
        words: torch.Tensor,
        acting: Sequence[Acting | None],
        unwanted: Sequence[bool],
        *,
        always: bool = False,
    ) -> Any:
        """What the U-Net is told: the words, and beside them the pictures if one acts.

        Args:
            words: (B, words, width).
            acting: on each row.
            unwanted: which rows are under the negative prompt: these are told of an empty picture.

            always: tell of pictures even if none acts: of empty ones, whose share is nothing.

        Returns:
            ``words`` themselves, or them and the pictures' tokens, as the attention takes them.
        """
        if not always and not any(one is not None and one.on for one in acting):
            return words
        self._put_in()
        rows = []
        for one, away in zip(acting, unwanted, strict=True):
            tokens, share = self._nothing, 0.0
            if one is not None and one.tokens is not None and one.scale > 0:
                tokens, share = tokens if away else one.tokens, one.scale
            rows.append(torch.cat([tokens, torch.full_like(tokens[..., :1, :], share)], dim=-2))
        return words, [torch.cat(rows)]

    def _put_in(self) -> None:
        """Lay the adapter's attention over the U-Net's, whichever that is by now."""
        if not self._laid:
            self._laid = True
            now = self._unet.attn_processors
            ours = {name: _Attention(now[name], of) for name, of in self._attention.items()}
            self._unet.set_attn_processor({**now, **ours})

    # From a picture to tokens --------------------------------------------------------------------

    def tokens(self, picture: Frame) -> torch.Tensor:  # (1, 1, tokens, width)
        """What stands for a picture; encoded once, while it is among the last few.

        Args:
            picture: uint8, H x W x 3, of at most ``MAX_PIXELS``.

        Raises:
            EngineError: it is not a picture, or too large.
        """
        _check_picture(picture)
        frame = _shrunk(picture)
        key = hashlib.blake2b(frame.tobytes(), digest_size=16, salt=_salt(frame)).digest()
        if key in self._kept:
            self._counts["image_prompt_cache_hits"] += 1
            self._kept.move_to_end(key)
            return self._kept[key]
        try:
            with torch.inference_mode():
                pixels = torch.from_numpy(_prepared(frame, self._side))
                pixels = pixels.to(self._device.torch, self._device.dtype)
                tokens = self._projected(self._seen(pixels))
        except (RuntimeError, MemoryError) as error:
            looking = "looking at the image prompt"
            if is_out_of_memory(error):
                raise EngineError(out_of_memory(looking)) from error
            raise EngineError(f"{looking} failed: {' '.join(str(error).split())[:300]}") from error
        self._counts["image_prompts_encoded"] += 1
        self._kept[key] = tokens
        if len(self._kept) > _KEPT:
            self._kept.popitem(last=False)
        return tokens

    def _seen(self, pixels: torch.Tensor) -> torch.Tensor:
        """What the encoder sees: (1, width), or of the parts (1, parts, width)."""
        if self._of_parts:
            seen: torch.Tensor = self._encoder(pixels, output_hidden_states=True).hidden_states[-2]
        else:
            seen = self._encoder(pixels).image_embeds
        return seen

    def _of_nothing(self) -> torch.Tensor:
        """The tokens of an empty picture, as the adapters were trained with."""
        place: dict[str, Any] = {"device": self._device.torch, "dtype": self._device.dtype}
        if self._of_parts:
            blank = torch.zeros(1, 3, self._side, self._side, **place)
            return self._projected(self._seen(blank))
        return self._projected(torch.zeros(1, self._encoder.config.projection_dim, **place))

    def _projected(self, seen: torch.Tensor) -> torch.Tensor:  # (1, 1, tokens, width)
        tokens: torch.Tensor = self._project([seen.unsqueeze(1)])[0]
        return tokens

    def counters(self) -> dict[str, float]:
        return dict(self._counts)


class _Attention(torch.nn.Module):  # type: ignore[misc]
    """Looks at the words as the U-Net always did, or with a picture among what it is told, at both.

    By the call, not by a switch: a compiler may look at the network at any time.
    """

    def __init__(self, words: Any, both: torch.nn.Module) -> None:
        super().__init__()
        self.words = words
        self.both = both

    def __call__(
        self,
        attn: Any,
        hidden_states: torch.Tensor,
        encoder_hidden_states: Any = None,
        attention_mask: torch.Tensor | None = None,
        temb: torch.Tensor | None = None,
    ) -> torch.Tensor:
        look = self.both if isinstance(encoder_hidden_states, tuple) else self.words
        seen: torch.Tensor = look(attn, hidden_states, encoder_hidden_states, attention_mask, temb)
        return seen


class _Keys(torch.nn.Module):  # type: ignore[misc]
    """A projection of a picture's tokens, behind which the row's share stands as one more."""

    def __init__(self, project: torch.nn.Module) -> None:
        super().__init__()
        self._project = project

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:  # (B, 1, tokens + 1, width)
        projected: torch.Tensor = self._project(tokens[..., :-1, :])
        return projected


class _Values(_Keys):
    """The same, times that share.

    What the attention returns is linear in its values. So rows of one call may differ in their
    share, and it changes without a change to the network, compiled or not.
    """

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        return super().forward(tokens) * tokens[..., -1:, :1]


def _check_picture(picture: Frame) -> None:
    if picture.ndim != 3 or picture.shape[2] != 3 or picture.dtype != np.uint8:
        raise EngineError(
            "image prompt: expected a picture of HxWx3 uint8, got "
            f"{'x'.join(map(str, picture.shape))} {picture.dtype}"
        )
    height, width = picture.shape[:2]
    if not 1 <= height * width <= MAX_PIXELS:
        raise EngineError(
            f"image prompt: expected a picture of 1 to {MAX_PIXELS / 1e6:g} million pixels, got "
            f"one of {width}x{height}"
        )


def _shrunk(picture: Frame) -> Frame:
    """A picture of at most ``_LOOK_SIDE`` pixels a side."""
    height, width = picture.shape[:2]
    shrink = _LOOK_SIDE / max(height, width)
    if shrink >= 1:
        return picture
    size = max(1, round(width * shrink)), max(1, round(height * shrink))
    return np.asarray(cv2.resize(picture, size, interpolation=cv2.INTER_AREA), dtype=np.uint8)


def _prepared(frame: Frame, side: int) -> NDArray[np.float32]:  # (1, 3, side, side)
    """The middle square of a picture, as CLIP's image encoders were trained to see it."""
    height, width = frame.shape[:2]
    short = min(height, width)
    # What is far off the middle is not seen: to enlarge it too would take any amount of memory.
    top, left = (max(0, (one - _LONGEST * short) // 2) for one in (height, width))
    frame = frame[top : top + _LONGEST * short, left : left + _LONGEST * short]
    size = side * frame.shape[1] // short, side * frame.shape[0] // short
    image = Image.fromarray(frame).resize(size, Image.Resampling.BICUBIC)
    left, top = (size[0] - side) // 2, (size[1] - side) // 2
    pixels = np.asarray(image.crop((left, top, left + side, top + side)), np.float32) / 255
    seen = (pixels - np.array(OPENAI_CLIP_MEAN)) / np.array(OPENAI_CLIP_STD)
    return np.asarray(seen.transpose(2, 0, 1)[None], dtype=np.float32)


def _salt(frame: Frame) -> bytes:
    """Tells pictures of the same bytes and another shape from each other."""
    height, width = frame.shape[:2]
    return int(height).to_bytes(4, "big") + int(width).to_bytes(4, "big")


# Loading -----------------------------------------------------------------------------------------


def find_adapter(name: str, width: int, offline: bool, report: Report) -> Adapter:
    """The files of an IP-Adapter.

    Args:
        name: ``base``, ``plus``, a hub id, a file of one (``owner/name/folder/file.safetensors``),
            a local folder in the same layout, or a local file.
        width: of the prompts of the model that it is for.

    Raises:
        EngineError: there is none, it is a pickle, or it has no image encoder.
    """
    short = USUAL.get(width, {})
    if name in ("base", "plus"):
        if name not in short:
            raise EngineError(
                f"IP-Adapter {name}: there is none for a model whose prompts are {width} wide (SD "
                "2.1 and SD-Turbo have none): use Stable Diffusion 1.5 or SDXL, or name a file"
            )
        name = f"{REPOSITORY}/{short[name]}"
    path = Path(name).expanduser()
    if path.suffix in PICKLES:
        raise EngineError(pickled(f"IP-Adapter {name}"))
    if path.is_dir():
        return _local(name, _in_folder(name, path, short))
    if path.is_file():
        return _local(name, path)
    owner, _, rest = name.partition("/")
    repository, _, file = rest.partition("/")
    if path.is_absolute() or not model_hub.is_id(f"{owner}/{repository}"):
        raise EngineError(f"IP-Adapter {name}: there is no such file, folder or hub id")
    if not file:
        if f"{owner}/{repository}" != REPOSITORY or not short:
            raise EngineError(f"IP-Adapter {name}: name the file, as in {name}/<file>.safetensors")
        file = short["base"]
    return _of_hub(f"{owner}/{repository}", file, offline, report)


def _repository(name: str) -> str:
    """The hub id in the name of an adapter."""
    return REPOSITORY if name in ("base", "plus") else "/".join(name.split("/")[:2])


def _in_folder(name: str, folder: Path, short: Mapping[str, str]) -> Path:
    """The adapter of a folder: the one file in it, or the usual one in h94's layout."""
    found = sorted(folder.glob("*.safetensors"))
    if len(found) == 1:
        return found[0]
    usual = folder / short.get("base", "models")
    if not found and usual.is_file():
        return usual
    if not found and any(path.suffix in PICKLES for path in folder.iterdir()):
        raise EngineError(pickled(f"IP-Adapter {name}"))
    raise EngineError(
        f"IP-Adapter {name}: expected one .safetensors file in the folder, found {len(found)}; "
        "name the file"
    )


def _local(name: str, weights: Path) -> Adapter:
    places = [weights.parent / place for place in ENCODERS]
    found = [place for place in places if (place / "config.json").is_file()]
    if not found:
        raise EngineError(
            f"IP-Adapter {name} has no image encoder: expected the folder image_encoder "
            f"(config.json, model.safetensors) in {weights.parent}"
        )
    return Adapter(weights, tuple(found))


def _of_hub(repository: str, file: str, offline: bool, report: Report) -> Adapter:
    """The files from the hub; adapters made for the smaller encoder are called ``vit-h``."""
    weights = model_hub.lora_file(f"{repository}/{file}", offline=offline, report=report)
    folder = "models" if "vit-h" in file else file.rpartition("/")[0]
    place = f"{folder}/image_encoder".removeprefix("/")
    for part in ("config.json", "model.safetensors"):
        path = model_hub.lora_file(f"{repository}/{place}/{part}", offline=offline, report=report)
    return Adapter(weights, (path.parent,))


def _fitting_encoder(
    name: str, encoders: Sequence[Path], weights: Mapping[str, torch.Tensor]
) -> Path:
    """The encoder that sees as wide as the adapter looks."""
    if "latents" in weights:
        wants, of = weights["proj_in.weight"].shape[-1], "hidden_size"
    else:
        wants, of = weights["proj.weight"].shape[-1], "projection_dim"
    seen = [read_json(encoder / "config.json").get(of) for encoder in encoders]
    if wants not in seen:
        raise EngineError(
            f"IP-Adapter {name} takes pictures of width {wants} and the image encoder in "
            f"{encoders[0]} makes {seen[0]}: the parts are of different models"
        )
    return encoders[seen.index(wants)]


def _read_weights(name: str, path: Path) -> dict[str, dict[str, torch.Tensor]]:
    """An adapter's weights in the two parts that diffusers wants."""
    check_safetensors(path)
    weights: dict[str, dict[str, torch.Tensor]] = {"image_proj": {}, "ip_adapter": {}}
    for key, value in told(lambda: load_file(path), f"IP-Adapter {name}").items():
        part, _, rest = key.partition(".")
        if part in weights:
            weights[part][rest] = value
    known = {"proj.weight", "latents"} & weights["image_proj"].keys()
    of_faces = "perceiver_resampler.proj_in.weight" in weights["image_proj"]
    if not known or of_faces or not weights["ip_adapter"]:
        raise EngineError(
            f"IP-Adapter {name}: expected a plain one or a plus one, got another kind (of faces, "
            "or no IP-Adapter at all)"
        )
    return weights


def _check_fit(name: str, weights: Mapping[str, Mapping[str, torch.Tensor]], unet: Any) -> None:
    """See whether an adapter has what each cross attention of the U-Net needs."""
    widths = [
        (module.to_k.weight.shape[0], module.to_k.weight.shape[1])
        for place, module in unet.named_modules()
        if re.fullmatch(r".*\.attn2", place)
    ]
    has = {
        (value.shape[0], value.shape[1])
        for key, value in weights["ip_adapter"].items()
        if key.endswith("to_k_ip.weight")
    }
    count = sum(key.endswith("to_k_ip.weight") for key in weights["ip_adapter"])
    if count != len(widths) or has != set(widths):
        raise EngineError(
            f"IP-Adapter {name} is made for another model ({count} attentions of "
            f"{_widths(has)}) than this one ({len(widths)} of {_widths(set(widths))}): choose the "
            "one for Stable Diffusion 1.5 or for SDXL"
        )


def _widths(of: set[tuple[int, int]]) -> str:
    return ", ".join(f"{one}x{other}" for one, other in sorted(of))


def _parts(
    unet: Any, weights: Mapping[str, Mapping[str, torch.Tensor]], device: Device
) -> tuple[Any, dict[str, Any]]:
    """What projects a picture's embedding to tokens, and the attentions; the U-Net stays as it is.

    diffusers' own loader puts both into the U-Net, which from then on could not do without a
    picture. So they are taken out again.
    """
    before, kind = dict(unet.attn_processors), unet.config.encoder_hid_dim_type
    projection = unet.encoder_hid_proj
    try:
        unet._load_ip_adapter_weights([weights])
        project, now = unet.encoder_hid_proj, dict(unet.attn_processors)
    finally:
        unet.encoder_hid_proj = projection
        unet.register_to_config(encoder_hid_dim_type=kind)
        unet.set_attn_processor(before)
    ours = {name: processor for name, processor in now.items() if hasattr(processor, "to_k_ip")}
    for module in (project, *ours.values()):
        module.eval().requires_grad_(False).to(device.torch, device.dtype)
    return project, ours
