"""Two pictures and a mask into one."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dreamrelay.codec import Frame
from dreamrelay.preprocess import Keep, composite
from dreamrelay.preprocess.composite import soften

RED = np.full((32, 48, 3), (200, 10, 20), np.uint8)
BLUE = np.full((32, 48, 3), (5, 30, 250), np.uint8)


def half() -> Frame:
    mask = np.zeros((32, 48), np.uint8)
    mask[:, :24] = 255
    return mask


def test_the_person_is_generated_and_the_background_is_kept() -> None:
    picture = composite(RED, BLUE, half())
    np.testing.assert_array_equal(picture[:, :24], RED[:, :24])
    np.testing.assert_array_equal(picture[:, 24:], BLUE[:, 24:])


def test_or_the_other_way_round() -> None:
    picture = composite(RED, BLUE, half(), keep="person")
    np.testing.assert_array_equal(picture[:, :24], BLUE[:, :24])
    np.testing.assert_array_equal(picture[:, 24:], RED[:, 24:])


@given(seed=st.integers(0, 10**6), keep=st.sampled_from(["background", "person"]))
@settings(max_examples=25)
def test_it_is_exact_where_the_mask_is_and_between_the_two_elsewhere(seed: int, keep: Keep) -> None:
    random = np.random.default_rng(seed)
    one, other = random.integers(0, 256, (2, 19, 23, 3)).astype(np.uint8)
    mask = random.choice(np.array([0, 1, 77, 128, 254, 255], np.uint8), (19, 23))
    picture = composite(one, other, mask, keep=keep)
    over, under = (one, other) if keep == "background" else (other, one)
    np.testing.assert_array_equal(picture[mask == 255], over[mask == 255])
    np.testing.assert_array_equal(picture[mask == 0], under[mask == 0])
    share = mask[..., None] / 255
    np.testing.assert_allclose(picture, over * share + under * (1 - share), atol=1.01)


def test_neither_picture_is_changed() -> None:
    one, other, mask = RED.copy(), BLUE.copy(), half()
    picture = composite(one, other, mask, feather=6)
    picture[:] = 0
    np.testing.assert_array_equal(one, RED)
    np.testing.assert_array_equal(other, BLUE)
    np.testing.assert_array_equal(mask, half())


@pytest.mark.parametrize("pixels", [2.0, 8.0, 20.0])
def test_a_feather_is_a_ramp_of_about_that_width(pixels: float) -> None:
    mask = np.zeros((40, 200), np.uint8)
    mask[:, :100] = 255
    row = soften(mask, pixels)[20].astype(int)
    assert (np.diff(row) <= 0).all()
    ramp = ((row > 12) & (row < 243)).sum()
    assert 0.4 * pixels <= ramp <= 1.2 * pixels + 2
    assert abs(row[99] - 255 + row[100]) <= 12  # its middle stays where the edge was


def test_a_feather_beyond_reason_is_bounded() -> None:
    np.testing.assert_array_equal(soften(half(), 1e9), soften(half(), 64))


def test_no_feather_leaves_the_mask_alone() -> None:
    np.testing.assert_array_equal(
        composite(RED, BLUE, half(), feather=0.0), composite(RED, BLUE, half())
    )


@pytest.mark.parametrize(
    ("generated", "original", "mask"),
    [
        (RED, BLUE[:16], half()),
        (RED, BLUE, half()[:16]),
        (RED, BLUE, half().astype(np.float32)),
        (RED, BLUE.astype(np.float32), half()),
        (RED[..., 0], BLUE[..., 0], half()),
    ],
)
def test_what_does_not_fit_is_refused(generated: Frame, original: Frame, mask: Frame) -> None:
    with pytest.raises(ValueError, match="expected"):
        composite(generated, original, mask)
