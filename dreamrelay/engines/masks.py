"""Pictures laid over their frames where a mask says so; without torch."""

import cv2
import numpy as np
from numpy.typing import NDArray

from dreamrelay.codec import Frame
from dreamrelay.engines.ports import Mask
from dreamrelay.errors import EngineError


def check_mask(mask: Mask, width: int, height: int) -> None:
    """Refuse what is no mask for pictures of that size (EngineError)."""
    if mask.shape != (height, width) or mask.dtype != np.uint8:
        raise EngineError(
            f"expected a mask of {height}x{width} uint8, got "
            f"{'x'.join(map(str, mask.shape))} {mask.dtype}"
        )


def composite(
    picture: Frame, frame: Frame, mask: Mask, *, feather: float = 0.0, strength: float = 1.0
) -> Frame:
    """The picture where the mask is white, the frame where it is black, softly between.

    Args:
        picture, frame: H x W x 3.
        feather: pixels over which the mask's edge is softened.
        strength: 1 as the mask says; 0 shows the picture everywhere.
    """
    if strength <= 0:
        return picture
    share = mask.astype(np.float32)
    if feather > 0:
        share = softened(share, feather)
    share *= np.float32(strength / 255)
    share += np.float32(1 - strength)
    blended: Frame = cv2.blendLinear(picture, frame, share, 1 - share)
    return blended


def softened(values: NDArray[np.float32], radius: float) -> NDArray[np.float32]:
    """The mean over a square of ``2 * radius + 1`` pixels; radius may be a fraction.

    Beyond the edge all is as at the edge, so that a mask that reaches it stays whole there.
    """
    whole = int(radius)
    window = np.ones(2 * whole + 3, np.float32)
    window[0] = window[-1] = radius - whole
    window /= 2 * radius + 1
    soft: NDArray[np.float32] = cv2.sepFilter2D(
        values, cv2.CV_32F, window, window, borderType=cv2.BORDER_REPLICATE
    )
    return soft
