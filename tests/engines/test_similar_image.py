"""The similar-image filter decides as that of the ``streamdiffusion`` package does."""

import random
from importlib.util import find_spec

import numpy as np
import pytest
import torch

from dreamrelay.engines.similar_image import SimilarImageFilter
from tests.engines.pictures import moving_frames, noise_frame
from tests.engines.upstream import MISSING


@pytest.mark.parametrize(
    ("threshold", "most"), [(0.0, 3), (0.5, 3), (0.9, 0), (0.98, 10), (1.0, 5)]
)
def test_same_decisions_as_upstream(threshold: float, most: int) -> None:
    assert find_spec("streamdiffusion") is not None, MISSING
    from streamdiffusion.image_filter import (  # noqa: PLC0415 - only after the message above
        SimilarImageFilter as Upstream,
    )

    clip = [frame for frame in moving_frames(12) for _ in range(6)]
    theirs = Upstream(threshold, most)
    random.seed(5)
    expected = [theirs(torch.from_numpy(frame).float() / 127.5 - 1) is None for frame in clip]
    ours = SimilarImageFilter(seed=5)
    ours.threshold, ours.max_skip = threshold, most
    assert [ours.skips(frame) for frame in clip] == expected
    assert any(expected) == (threshold < 1)


def test_equal_frames_pass_again_after_the_most_that_may_be_skipped() -> None:
    ours = SimilarImageFilter()
    ours.max_skip = 3
    frame = noise_frame(0)
    found = [ours.skips(frame) for _ in range(11)]
    assert found == [False, *[True] * 4, False, *[True] * 4, False]


def test_after_a_reset_the_next_frame_passes_and_the_dice_fall_alike() -> None:
    ours = SimilarImageFilter(seed=1)
    ours.threshold = 0.2
    clip = moving_frames(20)
    first = [ours.skips(frame) for frame in clip]
    ours.reset(seed=1)
    assert [ours.skips(frame) for frame in clip] == first
    assert not first[0]


def test_grey_frames_have_no_angle_and_do_not_fail() -> None:
    ours = SimilarImageFilter()
    black = np.zeros((8, 8, 3), dtype=np.uint8)
    assert [ours.skips(black), ours.skips(black)] == [False, True]
