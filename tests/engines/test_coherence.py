"""Feedback, smoothing and noise that moves along: what each does, and that off is off."""

from dataclasses import replace
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from dreamrelay.codec import Frame
from dreamrelay.engines import EngineSettings, open_engine
from dreamrelay.engines.coherence import Coherence, Trail
from dreamrelay.engines.condition import Flight
from dreamrelay.engines.motion import Movement
from dreamrelay.engines.noise import seeded_noise
from dreamrelay.engines.parameters import StreamBatchParameters
from dreamrelay.human_edit import HumanEdit
from tests.engines.pictures import moving_frames, noise_frame
from tests.engines.tiny_models import pocket_folder

SIDE = 64


def load(parameters: dict[str, Any] | None = None, **settings: Any) -> Any:
    base = EngineSettings(
        engine="pocket",
        model=str(pocket_folder()),
        acceleration="none",
        width=SIDE,
        height=SIDE,
        parameters={"num_inference_steps": 1, "strength": 0.6, **(parameters or {})},
    )
    engine = open_engine(replace(base, **settings))
    engine.load(lambda progress: None)
    return engine


def texture(side: int = 160) -> Frame:
    """Something to hold on to at every place."""
    coarse = np.random.default_rng(3).integers(0, 256, (side // 8, side // 8, 3), np.uint8)
    smooth = np.kron(coarse, np.ones((8, 8, 1)))
    for axis in (0, 1):
        for _ in range(3):
            smooth = (smooth + np.roll(smooth, 2, axis) + np.roll(smooth, -2, axis)) / 3
    return smooth.astype(np.uint8)


def panned(count: int, dx: int, dy: int) -> list[Frame]:
    """A picture that moves by so many pixels from frame to frame."""
    whole = texture(SIDE + 96)
    frames = []
    for at in range(count):
        top, left = 48 - dy * at, 48 - dx * at
        frames.append(np.ascontiguousarray(whole[top : top + SIDE, left : left + SIDE]))
    return frames


# Movement ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["shift", "flow"])
@pytest.mark.parametrize(("dx", "dy"), [(0, 0), (3, 0), (-2, 4), (5, -5)])
def test_a_movement_is_found_and_brings_the_earlier_picture_along(
    kind: Any, dx: int, dy: int
) -> None:
    before, now = panned(2, dx, dy)
    movement = Movement.between(Movement.looked_at(before), Movement.looked_at(now), kind)
    inner = slice(12, -12)
    found = np.median(movement.at(SIDE, SIDE)[inner, inner], axis=(0, 1))
    np.testing.assert_allclose(found, [dx, dy], atol=1.0)
    brought = movement.applied(before).astype(int)
    gap = np.abs(brought - now)[inner, inner].mean()
    assert gap <= max(3.0, 0.35 * np.abs(before.astype(int) - now)[inner, inner].mean())


def test_after_a_cut_nothing_has_moved_as_a_whole() -> None:
    before, now = (Movement.looked_at(noise_frame(seed)) for seed in (1, 2))
    assert not Movement.between(before, now, "shift").at(8, 8).any()


# Noise -------------------------------------------------------------------------------------------


def carried(eps: Any, field: NDArray[np.float32], xp: Any = np) -> Any:
    coherence = Coherence(xp, torch.from_numpy if xp is torch else np.asarray)
    return coherence.noise(eps, [Flight(0, moved=Trail(None, field))] * len(eps))


@settings(max_examples=20, deadline=None)
@given(dx=st.floats(-20, 20), dy=st.floats(-20, 20), bent=st.booleans())
def test_noise_is_as_strong_wherever_it_has_come(dx: float, dy: float, bent: bool) -> None:
    eps = seeded_noise(1, (1, 32, 24, 24))
    field = np.full((24, 24, 2), (dx, dy), np.float32)
    if bent:
        field += np.random.default_rng(0).normal(0, 2, (24, 24, 2)).astype(np.float32)
    moved = carried(eps, field)
    assert moved.shape == eps.shape
    assert moved.dtype == np.float32
    assert abs(float(moved.std()) - 1) < 0.05
    assert abs(float(moved.mean())) < 0.06


def test_noise_moves_by_whole_cells_without_a_change_and_round_the_edges() -> None:
    eps = seeded_noise(1, (2, 4, 8, 8))
    field = np.full((8, 8, 2), (3, -1), np.float32)
    np.testing.assert_array_equal(carried(eps, field), np.roll(eps, (-1, 3), (-2, -1)))
    np.testing.assert_array_equal(carried(eps, 0 * field), eps)


def test_numpy_and_torch_move_alike() -> None:
    eps = seeded_noise(1, (2, 4, 8, 8))
    field = np.random.default_rng(5).normal(0, 2, (8, 8, 2)).astype(np.float32)
    theirs = carried(torch.from_numpy(eps), field, torch)
    np.testing.assert_allclose(theirs.numpy(), carried(eps, field), rtol=1e-6)


def test_each_row_has_the_noise_of_its_own_frame() -> None:
    eps = seeded_noise(1, (3, 4, 8, 8))
    trails = [Trail(None, np.full((8, 8, 2), at, np.float32)) for at in (0, 2)]
    flights = [Flight(0, moved=trails[0]), Flight(1, moved=trails[1]), Flight(2)]
    moved = Coherence(np, np.asarray).noise(eps, flights)
    np.testing.assert_array_equal(moved[0], eps[0])
    np.testing.assert_array_equal(moved[1], np.roll(eps[1], (2, 2), (-2, -1)))
    np.testing.assert_array_equal(moved[2], eps[2])


def test_a_drift_keeps_what_moves_as_a_whole_and_lets_go_of_the_rest() -> None:
    drift = Movement.drift(8, 8)
    step = Movement(np.full((1, 1, 2), (0.25, 0.125), np.float32))
    for _ in range(200):
        drift.then(step)
    np.testing.assert_allclose(drift.field[..., 0], 400, rtol=1e-4)
    np.testing.assert_allclose(drift.field[..., 1], 200, rtol=1e-4)
    bent = np.zeros((8, 8, 2), np.float32)
    bent[:4] = 0.01
    for _ in range(2000):
        drift.then(Movement(bent))
    assert float(np.ptp(drift.field[..., 0])) < 8, "the parts do not come apart without end"


@pytest.mark.parametrize("kind", ["shift", "flow"])
def test_noise_follows_the_picture_through_the_engine(kind: str) -> None:
    # By a whole cell a frame, in the middle of the picture the engine then paints the same.
    engine = load({"follow_motion": kind, "strength": 0.9})
    still = load({"strength": 0.9})
    frames = panned(4, 8, 0)
    moved, fixed = (
        [one.infer(frame, at).frame.astype(int) for at, frame in enumerate(frames)]
        for one in (engine, still)
    )
    inner = (slice(16, -16), slice(16, -16))

    def change(pictures: list[Any]) -> float:
        pairs = pairwise(pictures)
        return float(np.mean([np.abs(np.roll(a, 8, 1) - b)[inner].mean() for a, b in pairs]))

    assert change(moved) < 0.8 * change(fixed)


# Feedback and smoothing --------------------------------------------------------------------------

ON: dict[str, dict[str, Any]] = {
    "latent feedback": {"latent_feedback": 0.5},
    "output feedback": {"output_feedback": 0.5},
    "loopback": {"image_loopback": True},
    "smoothing": {"smoothing": 0.5},
    "shift": {"follow_motion": "shift"},
    "flow": {"follow_motion": "flow"},
    "all": {
        "latent_feedback": 0.2,
        "output_feedback": 0.2,
        "smoothing": 0.5,
        "follow_motion": "flow",
    },
}


@pytest.mark.parametrize("form", [{}, {"frame_buffer_size": 2}, {"use_denoising_batch": False}])
def test_off_is_off_and_single_pictures_have_no_memory(form: dict[str, Any]) -> None:
    steps = {"num_inference_steps": 2, "cfg_type": "none"}
    engine, plain = load(steps, **form), load(steps, **form)
    frames = panned(7, 3, 1)
    off = StreamBatchParameters().model_dump(mode="json")
    alone = plain.infer_once(frames[0], {})
    at = 0

    def feed(count: int) -> bool:
        """Whether the last of so many pictures differ."""
        nonlocal at
        for frame in frames[:count]:
            mine, theirs = engine.infer(frame, at), plain.infer(frame, at)
            assert mine.token == theirs.token
            at += 1
        return bool((mine.frame != theirs.frame).any())

    assert not feed(4)
    for look, patch in ON.items():
        engine.apply(patch)
        assert feed(7), look
        np.testing.assert_array_equal(engine.infer_once(frames[0], {}), alone)
        engine.apply({name: off[name] for name in patch})
        assert not feed(7), look


def test_the_share_of_the_last_picture_is_what_it_says() -> None:
    first, second = noise_frame(0), noise_frame(1)
    engine = load()
    one, other = (engine.infer_once(frame, {}).astype(float) for frame in (first, second))
    looks: dict[str, tuple[dict[str, Any], Any]] = {
        "smoothing": ({"smoothing": 0.25}, 0.75 * other + 0.25 * one),
        "loopback": ({"image_loopback": True}, engine.infer_once(one.astype(np.uint8), {})),
        "feedback": (
            {"output_feedback": 0.25},
            engine.infer_once((0.75 * second + 0.25 * one + 0.5).astype(np.uint8), {}),
        ),
    }
    for look, (patch, expected) in looks.items():
        engine.apply({"smoothing": 0.0, "image_loopback": False, "output_feedback": 0.0})
        engine.apply(patch)
        engine.infer(first, 0)
        assert np.abs(engine.infer(second, 1).frame - expected).max() <= 1, look


def test_a_latent_that_is_fed_back_leaves_what_stands_beside_the_picture() -> None:
    engine = load({"latent_feedback": 0.5})
    for at, frame in enumerate(moving_frames(3)):
        engine.infer(frame, at)
    cells = engine.model.cells
    place = engine.encode([noise_frame(0)])[:, cells.pixel_channels :].copy()
    seen: list[Any] = []
    predict = engine.denoiser.predict

    def watched(noisy: Any, *others: Any) -> Any:
        seen.append(noisy)
        return predict(noisy, *others)

    engine.denoiser.predict = watched
    engine.infer(noise_frame(0), 3)
    plan = engine.plan(engine.parameters_type(**engine.parameters), frames=1)
    clean = (seen[0] - plan.rows.added * plan.rows.eps) / plan.rows.signal
    np.testing.assert_allclose(clean[:, cells.pixel_channels :], place, atol=1e-4)


def test_another_size_begins_anew() -> None:
    engine = load(ON["all"])
    for at, frame in enumerate(moving_frames(3)):
        engine.infer(frame, at)
    engine.apply({"width": 96, "height": 72})
    picture = engine.infer(noise_frame(0, 96, 72), 3).frame
    assert picture.shape == (72, 96, 3)
    fresh = load({**ON["all"], "width": 96, "height": 72})
    np.testing.assert_array_equal(fresh.infer(noise_frame(0, 96, 72), 3).frame, picture)


def test_feedback_for_long_stays_a_picture() -> None:
    engine = load(ON["all"])
    frames = panned(8, 3, 2)
    for at in range(120):
        picture = engine.infer(frames[at % 8], at).frame
    assert 5 < picture.mean() < 250
    assert picture.std() > 1


@pytest.mark.parametrize(
    ("form", "parameters", "remembers"),
    [
        ({}, {"num_inference_steps": 1}, False),
        ({}, {"num_inference_steps": 2}, True),
        ({}, {"t_index_list": [45]}, False),
        ({}, {"t_index_list": [32, 45]}, True),
        ({"use_denoising_batch": False}, {"num_inference_steps": 2}, False),
        ({"frame_buffer_size": 2}, {"num_inference_steps": 1}, True),
        ({}, {"num_inference_steps": 1, "smoothing": 0.5}, True),
        ({}, {"num_inference_steps": 1, "latent_feedback": 0.1}, True),
    ],
)
def test_an_engine_says_whether_pictures_depend_on_those_before(
    form: dict[str, Any], parameters: dict[str, Any], remembers: bool
) -> None:
    engine = open_engine(EngineSettings(parameters=parameters, offline=True, **form))
    assert engine.stateful is remembers
    assert HumanEdit(engine, lambda: pytest.fail("no mask is asked for")).stateful is remembers
    engine.apply({"num_inference_steps": 1, "t_index_list": None, "smoothing": 0.0})
    engine.apply({"latent_feedback": 0.0})
    assert engine.stateful is ("frame_buffer_size" in form), "it changes with the parameters"
    engine.close()
