"""Pictures out of nothing: what whoever paints over them may rely on."""

import colorsys
from itertools import pairwise

import numpy as np
import pytest

from dreamrelay.codec import Frame
from dreamrelay.errors import ConfigError
from dreamrelay.media import open_source
from dreamrelay.media.address import parse
from dreamrelay.media.dream import Dream, DreamSource, open_dream

SEEDS = (0, 1, 2, 7)
MOMENTS = (0.0, 13.0, 100.0, 5000.0)


def difference(one: Frame, other: Frame) -> float:
    """Mean, of 255."""
    return float(np.abs(one.astype(np.int16) - other).mean())


@pytest.mark.parametrize("seed", SEEDS)
def test_a_seed_and_a_time_make_one_picture(seed: int) -> None:
    frame = Dream(96, 64, seed)(12.5)
    assert frame.shape == (64, 96, 3)
    assert frame.dtype == np.uint8
    np.testing.assert_array_equal(Dream(96, 64, seed)(12.5), frame)
    assert difference(frame, Dream(96, 64, seed + 1)(12.5)) > 20


@pytest.mark.parametrize("size", [(64, 64), (256, 256), (300, 90), (77, 410), (64, 8192)])
def test_any_size_and_shape(size: tuple[int, int]) -> None:
    frame = Dream(*size)(1.0)
    assert frame.shape == (size[1], size[0], 3)
    assert frame.std() > 30


@pytest.mark.parametrize("began", [*MOMENTS, 1e8])
def test_it_moves_and_never_jumps(began: float) -> None:
    """Also after years: what a worker takes for the time is the machine's own clock."""
    dream = Dream(128, 128, 1)
    frames = [dream(began + number / 15) for number in range(30)]
    steps = [difference(one, other) for one, other in pairwise(frames)]
    assert min(steps) > 0.5
    assert max(steps) < 16
    assert difference(frames[0], frames[-1]) > 2 * max(steps)


@pytest.mark.parametrize("seed", SEEDS)
def test_it_does_not_come_back_for_minutes(seed: int) -> None:
    dream = Dream(64, 64, seed)
    first = dream(0)
    assert min(difference(first, dream(seconds)) for seconds in range(5, 240)) > 12


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("seconds", MOMENTS)
def test_there_is_something_to_paint_over(seed: int, seconds: float) -> None:
    frame = Dream(256, 256, seed)(seconds)
    grey = frame.astype(np.float32) @ np.array([0.299, 0.587, 0.114], np.float32)
    assert np.percentile(grey, 2) < 60, "it has darks"
    assert np.percentile(grey, 98) > 180, "and lights"
    edges = np.abs(np.diff(grey, axis=1)) > 24
    assert 0.005 < edges.mean() < 0.2, "lines to draw, and room between them"
    pixels = frame[::8, ::8].reshape(-1, 3) / 255
    hues = [colorsys.rgb_to_hsv(*pixel) for pixel in pixels]
    coloured = [hue for hue, saturation, value in hues if saturation > 0.2 and value > 0.2]
    twelfths = np.bincount([int(hue * 12) % 12 for hue in coloured], minlength=12)
    assert (twelfths > len(pixels) * 0.02).sum() >= 3, "several hues"


def test_the_source_shows_the_moment_at_which_it_is_read() -> None:
    times = iter([100.0, 100.0, 107.5])
    source = DreamSource(Dream(64, 64, 3), 30.0, clock=lambda: next(times))
    for seconds in (0.0, 7.5):
        captured = source.read()
        assert captured is not None
        np.testing.assert_array_equal(captured.frame, Dream(64, 64, 3)(seconds))


def test_options() -> None:
    with open_source("dream://?width=96&height=64&seed=5&fps=0") as source:
        assert source.fps is None
        captured = source.read()
    assert captured is not None
    assert captured.frame.shape == (64, 96, 3)
    with pytest.raises(ConfigError, match="expected nothing behind dream://, got 'bars'"):
        open_dream(parse("dream://bars"))
