"""The person segmenter on real photographs, and in a stream."""

import numpy as np
import pytest

from dreamrelay.codec import Frame
from dreamrelay.preprocess import Matting, open_matting
from dreamrelay.preprocess.person import PersonMatting, steadied
from tests.preprocess.photographs import photograph


@pytest.fixture(scope="module")
def matting() -> Matting:
    engine = open_matting("person")
    engine.load()
    return engine


@pytest.fixture(autouse=True)
def fresh(matting: Matting) -> None:
    matting.reset()


# Measured: 0.957 and 0.985 (docs/matting.md).
@pytest.mark.parametrize(("name", "least"), [("astronaut", 0.93), ("hopper", 0.96)])
def test_it_finds_the_person_on_a_photograph(matting: Matting, name: str, least: float) -> None:
    shot = photograph(name)
    mask = matting.matte(shot.frame)
    assert mask.dtype == np.uint8
    assert mask.shape == shot.frame.shape[:2]
    assert shot.overlap(mask) > least


def test_the_comparison_can_fail() -> None:
    shot = photograph("astronaut")
    everything = np.full(shot.frame.shape[:2], 255, np.uint8)
    assert shot.overlap(everything) < 0.6
    assert shot.overlap(np.where(shot.person, 255, 0).astype(np.uint8)) == 1.0
    assert shot.overlap(np.where(shot.person, 0, 255).astype(np.uint8)) == 0.0


@pytest.mark.parametrize("shape", [(512, 512), (180, 320), (320, 180), (37, 41)])
def test_nobody_is_found_where_nobody_is(matting: Matting, shape: tuple[int, int]) -> None:
    ramp = np.linspace(40, 200, shape[1], dtype=np.uint8)
    frame = np.ascontiguousarray(np.broadcast_to(ramp[None, :, None], (*shape, 3)))
    mask = matting.matte(frame)
    assert mask.shape == shape
    assert (mask >= 128).mean() < 0.02


def test_the_same_frame_again_gives_the_same_mask(matting: Matting) -> None:
    frame = photograph("hopper").frame
    first = matting.matte(frame)
    np.testing.assert_allclose(matting.matte(frame).astype(int), first.astype(int), atol=1)


def test_a_person_who_leaves_leaves_no_ghost(matting: Matting) -> None:
    shot = photograph("hopper")
    matting.matte(shot.frame)
    empty = np.full_like(shot.frame, 128)
    assert (matting.matte(empty) >= 128).mean() < 0.02


def test_streams_do_not_influence_one_another(matting: Matting) -> None:
    one, other = photograph("hopper").frame, photograph("astronaut").frame
    alone = matting.matte(_noisy(one, 1), "a")
    matting.reset()
    matting.matte(other, "b")
    np.testing.assert_array_equal(matting.matte(_noisy(one, 1), "a"), alone)


def test_a_stream_is_steadied_and_one_picture_is_not(matting: Matting) -> None:
    """Noise moves the edge from frame to frame; what is remembered halves that."""
    frames = [_noisy(photograph("hopper").frame, seed) for seed in range(6)]
    single = [matting.matte_once(frame) for frame in frames]
    steady = [matting.matte(frame) for frame in frames]
    np.testing.assert_array_equal(steady[0], single[0])
    assert _flicker(steady) < 0.8 * _flicker(single)
    # and taking single pictures has changed nothing
    np.testing.assert_array_equal(matting.matte_once(frames[0]), single[0])


def test_reset_forgets(matting: Matting) -> None:
    frames = [_noisy(photograph("hopper").frame, seed) for seed in (1, 2)]
    first = matting.matte_once(frames[1])
    matting.matte(frames[0], "s")
    matting.reset("s")
    np.testing.assert_array_equal(matting.matte(frames[1], "s"), first)


def test_another_size_begins_anew(matting: Matting) -> None:
    frame = photograph("hopper").frame
    matting.matte(frame, "s")
    part = np.ascontiguousarray(frame[:400, :300])
    np.testing.assert_array_equal(matting.matte(part, "s"), matting.matte_once(part))


def test_few_streams_are_remembered() -> None:
    matting = PersonMatting()
    frame = np.zeros((16, 16, 3), np.uint8)
    for number in range(80):
        matting.matte(frame, f"s{number}")
    assert len(matting._before) <= 64


def test_where_the_model_is_sure_nothing_of_before_is_kept() -> None:
    now = np.array([[0.0, 1.0, 0.5]], np.float32)
    before = np.array([[1.0, 0.0, 1.0]], np.float32)
    np.testing.assert_allclose(steadied(now, before), [[0.0, 1.0, 0.85]], atol=1e-6)


@pytest.mark.parametrize(
    "wrong",
    [
        np.zeros((8, 8), np.uint8),
        np.zeros((8, 8, 4), np.uint8),
        np.zeros((8, 8, 3), np.float32),
        np.zeros((0, 8, 3), np.uint8),
    ],
)
def test_what_is_no_frame_is_refused(matting: Matting, wrong: Frame) -> None:
    with pytest.raises(ValueError, match="expected a frame"):
        matting.matte(wrong)
    with pytest.raises(ValueError, match="expected a frame"):
        matting.matte_once(wrong)


def _noisy(frame: Frame, seed: int) -> Frame:
    noise = np.random.default_rng(seed).normal(0, 12, frame.shape)
    return np.clip(frame + noise, 0, 255).astype(np.uint8)


def _flicker(masks: list[Frame]) -> float:
    """Mean change from one mask to the next, where there is any edge."""
    changes = [
        np.abs(one.astype(int) - other).mean()
        for one, other in zip(masks[2:], masks[1:-1], strict=True)
    ]
    return float(np.mean(changes))
