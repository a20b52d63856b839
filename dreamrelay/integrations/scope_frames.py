"""Scope's tensors to frames and masks of ours, and back."""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from dreamrelay.codec import Frame
from dreamrelay.engines import Mask


def _exactly() -> NDArray[np.float32]:
    """0..255 as 0..1, so that Scope, which multiplies by 255 and cuts off, finds each again."""
    levels = np.arange(256, dtype=np.float32)
    values = levels / np.float32(255)
    low = np.floor(values * np.float32(255)) < levels
    values[low] = np.nextafter(values[low], np.float32(2))
    return values


_LEVELS = torch.from_numpy(_exactly())


def frames_of(video: Any, name: str = "video") -> list[Frame]:
    """The frames of a chunk.

    Args:
        video: a list of tensors (1, H, W, C) or (H, W, C), or one tensor (T, H, W, C); ``uint8``,
            or floating point in 0..1. C is 1, 3 or 4; a fourth is not looked at.

    Returns:
        ``uint8``, H x W x 3, each in memory of its own or the tensor's.

    Raises:
        ValueError: something else; says what was expected.
    """
    return [_frame(picture, name) for picture in _pictures(video, name)]


def masks_of(masks: Any, width: int, height: int, count: int) -> list[Mask | None]:
    """A mask for each of ``count`` frames; where there are fewer, the last one serves the rest.

    Args:
        masks: as ``video`` of :func:`frames_of`, white where the picture is to be shown; None or
            an empty list: none.
        width, height: what they are brought to.
    """
    if masks is None or len(masks) == 0:
        return [None] * count
    made = [_mask(frame, width, height) for frame in frames_of(masks, "vace_input_masks")[:count]]
    return [*made, *[made[-1]] * (count - len(made))]


def chunk_of(frames: Sequence[Frame]) -> torch.Tensor:  # (T, H, W, 3), float32 in 0..1
    """Frames of one size as Scope takes them."""
    return _LEVELS[torch.from_numpy(np.stack(frames)).long()]


def _pictures(video: Any, name: str) -> Iterator[torch.Tensor]:  # of (H, W, C)
    parts = [video] if isinstance(video, torch.Tensor) else video
    if not isinstance(parts, list | tuple):
        raise ValueError(f"{name}: expected a list of tensors or one, got {type(video).__name__}")
    for part in parts:
        if not isinstance(part, torch.Tensor) or part.ndim not in (3, 4):
            shape = tuple(part.shape) if isinstance(part, torch.Tensor) else type(part).__name__
            raise ValueError(f"{name}: expected tensors of (1, H, W, C), got {shape}")
        yield from part if part.ndim == 4 else (part,)


def _frame(picture: torch.Tensor, name: str) -> Frame:
    channels = picture.shape[-1]
    if channels not in (1, 3, 4) or 0 in picture.shape:
        raise ValueError(
            f"{name}: expected (H, W, C) with C of 1, 3, 4, got {tuple(picture.shape)}"
        )
    picture = picture.detach()[..., :3]
    if picture.is_floating_point():
        picture = (picture.float().nan_to_num(0.0).clamp(0, 1) * 255).round()
    elif picture.dtype is not torch.uint8:
        raise ValueError(f"{name}: expected uint8 or floating point, got {picture.dtype}")
    frame: Frame = picture.to("cpu", torch.uint8).expand(-1, -1, 3).contiguous().numpy()
    return frame


def _mask(frame: Frame, width: int, height: int) -> Mask:
    image = Image.fromarray(frame).convert("L")
    if image.size != (width, height):
        image = image.resize((width, height), Image.Resampling.BILINEAR)
    return np.array(image)
