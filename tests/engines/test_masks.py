"""Masks: where the picture is shown, where the frame stays."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dreamrelay.engines.masks import check_mask, composite, softened
from dreamrelay.errors import EngineError
from tests.engines.pictures import noise_frame

FRAME, PICTURE = noise_frame(0, 40, 24), noise_frame(1, 40, 24)


def half() -> np.ndarray[tuple[int, int], np.dtype[np.uint8]]:
    """White on the left."""
    mask = np.zeros((24, 40), np.uint8)
    mask[:, :20] = 255
    return mask


def test_white_shows_the_picture_and_black_the_frame_bit_by_bit() -> None:
    mixed = composite(PICTURE, FRAME, half())
    np.testing.assert_array_equal(mixed[:, :20], PICTURE[:, :20])
    np.testing.assert_array_equal(mixed[:, 20:], FRAME[:, 20:])
    assert mixed.dtype == np.uint8
    assert mixed.flags.c_contiguous


def test_grey_is_between() -> None:
    frame, picture = np.full((4, 4, 3), 10, np.uint8), np.full((4, 4, 3), 210, np.uint8)
    mask = np.full((4, 4), 51, np.uint8)
    assert (composite(picture, frame, mask) == 50).all()
    assert (composite(picture, frame, mask, strength=0.5) == 130).all()
    assert composite(picture, frame, mask, strength=0.0) is picture


def test_a_feather_goes_evenly_over_so_many_pixels_on_both_sides() -> None:
    white, black = np.full((24, 40, 3), 255, np.uint8), np.zeros((24, 40, 3), np.uint8)
    row = composite(white, black, half(), feather=4)[12, :, 0].astype(int)
    assert (row[:16] == 255).all()
    assert (row[24:] == 0).all()
    assert (np.diff(row[15:25]) < 0).all()


@settings(max_examples=25, deadline=None)
@given(st.floats(0, 32), st.integers(0, 9))
def test_softening_is_a_mean_over_a_square(radius: float, seed: int) -> None:
    values = np.random.default_rng(seed).random((9, 13), np.float32)
    found = softened(values, radius)
    assert found.shape == values.shape
    assert found.min() >= values.min() - 1e-5
    assert found.max() <= values.max() + 1e-5
    if radius.is_integer():
        reach = int(radius)
        padded = np.pad(values, reach, mode="edge")
        window = padded[4 : 4 + 2 * reach + 1, 6 : 6 + 2 * reach + 1]
        assert found[4, 6] == pytest.approx(window.mean(), abs=1e-4)
    np.testing.assert_allclose(softened(np.ones((5, 6), np.float32), radius), 1, rtol=1e-5)


@pytest.mark.parametrize(
    "mask",
    [
        np.zeros((40, 24), np.uint8),
        np.zeros((24, 40, 1), np.uint8),
        np.zeros((24, 40), bool),
        np.zeros((24, 40), np.float32),
        np.zeros((0, 0), np.uint8),
    ],
    ids=str,
)
def test_what_is_no_mask_is_refused(mask: np.ndarray[tuple[int, ...], np.dtype[np.uint8]]) -> None:
    with pytest.raises(EngineError, match="expected a mask of 24x40 uint8, got "):
        check_mask(mask, 40, 24)
