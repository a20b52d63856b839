"""Pictures laid over their frames where a mask says so; numpy only."""

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
    mixed = picture.astype(np.float32)
    mixed -= frame
    mixed *= share[:, :, None]
    mixed += frame
    mixed += np.float32(0.5)  # rounds, where the cast cuts off
    return mixed.astype(np.uint8)


def softened(values: NDArray[np.float32], radius: float) -> NDArray[np.float32]:
    """The mean over a square of ``2 * radius + 1`` pixels; radius may be a fraction.

    Beyond the edge all is as at the edge, so that a mask that reaches it stays whole there.
    """
    return _softened_rows(_softened_rows(values, radius).T, radius).T


def _softened_rows(values: NDArray[np.float32], radius: float) -> NDArray[np.float32]:
    whole = int(radius)
    rest = radius - whole
    reach = whole + 1
    padded = np.pad(values, ((0, 0), (reach + 1, reach)), mode="edge")
    sums = np.cumsum(padded, axis=1, dtype=np.float64)
    width = values.shape[1]

    def over(radius: int) -> NDArray[np.float64]:  # the sum of 2 * radius + 1 pixels
        start = reach - radius
        window = 2 * radius + 1
        return sums[:, start + window : start + window + width] - sums[:, start : start + width]

    inner = over(whole)
    if rest:
        inner = inner + rest * (over(whole + 1) - inner)
    return (inner / (2 * radius + 1)).astype(np.float32)
