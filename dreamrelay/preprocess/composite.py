"""Two pictures and a mask into one: soft at the edge, exact everywhere else."""

import math
from typing import Literal

import cv2
import numpy as np

from dreamrelay.codec import Frame
from dreamrelay.preprocess.ports import Mask, check_frame

Keep = Literal["background", "person"]
"""Which part stays as the camera saw it."""

MOST_FEATHER = 64.0


def composite(
    generated: Frame,
    original: Frame,
    mask: Mask,
    *,
    keep: Keep = "background",
    feather: float = 0.0,
) -> Frame:
    """Lay the generated picture over the original, where ``mask`` says.

    Args:
        generated: uint8, H x W x 3.
        original: of the same size.
        mask: uint8, H x W: how much of each pixel is a person.
        keep: ``background``: the person is generated, all else original; ``person``: the other
            way round.
        feather: pixels over which the edge is softened, beside the softness that the mask has.

    Returns:
        A new frame. Where the (softened) mask is 0 or 255 its pixels are exactly those of one of
        the two.

    Raises:
        ValueError: sizes or types do not fit.
    """
    check_frame(generated)
    if original.shape != generated.shape or original.dtype != np.uint8:
        raise ValueError(
            f"expected two frames of one size, got {generated.shape} and {original.shape}"
        )
    if mask.shape != original.shape[:2] or mask.dtype != np.uint8:
        raise ValueError(
            f"expected a mask of uint8 {original.shape[:2]}, got {mask.dtype} {mask.shape}"
        )
    if feather > 0:
        mask = soften(mask, feather)
    over, under = (generated, original) if keep == "background" else (original, generated)
    weight = mask.astype(np.float32) / np.float32(255)
    blended: Frame = cv2.blendLinear(over, under, weight, 1 - weight)
    return blended


def soften(mask: Mask, pixels: float) -> Mask:
    """Blur a mask so that a hard edge becomes a ramp of about ``pixels``."""
    width = min(pixels, MOST_FEATHER)
    # Two box filters make a tent; that is as good as a Gaussian here, at a constant price.
    size = 2 * math.ceil(width / 4) + 1
    once = cv2.blur(mask, (size, size), borderType=cv2.BORDER_REPLICATE)
    softened: Mask = cv2.blur(once, (size, size), borderType=cv2.BORDER_REPLICATE)
    return softened
