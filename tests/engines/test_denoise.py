"""The stream batch by itself, on arrays of numpy and a function for a model."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from dreamrelay.engines.denoise import Denoiser, Guidance, Plan, Prediction, Rows, StreamBatch
from dreamrelay.engines.parameters import CfgType
from dreamrelay.engines.schedule import cumulative_alphas, schedule

SHAPE = (2, 3, 3)  # C, h, w
ALPHAS = cumulative_alphas(
    {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear"}
)
CFG_TYPES: tuple[CfgType, ...] = ("none", "full", "self", "initialize")


def noise_model(noisy: Any, timesteps: Any, condition: Any, negatives: int) -> Any:
    """A model that knows timestep, prompt and picture, and tells them apart."""
    told = np.full(len(noisy), float(condition))
    told[:negatives] = -0.3
    step = np.asarray(timesteps) / 1000
    return (0.6 * np.tanh(noisy) + (0.2 * step + 0.1 * told)[:, None, None, None]).astype(
        noisy.dtype
    )


def plan_of(
    steps: list[int],
    frames: int = 1,
    guidance: Guidance | None = None,
    add_noise: bool = True,
    seed: int = 0,
) -> Plan:
    numbers = schedule(steps, ALPHAS)

    def column(values: Any) -> Any:
        return np.repeat(values.astype(np.float64), frames).reshape(-1, 1, 1, 1)

    added = numbers.noise.copy()
    added[1:] *= add_noise
    eps = np.random.default_rng(seed).standard_normal((len(steps), *SHAPE))
    rows = Rows(
        np.repeat(steps, frames),
        signal=column(numbers.signal),
        noise=column(numbers.noise),
        skip=column(numbers.skip),
        out=column(numbers.out),
        added=column(added),
        eps=np.repeat(eps, frames, axis=0),
        fresh=frames,
    )
    return Plan(len(steps), frames, rows, guidance or Guidance("none", 1, 1), condition=0.5)


def clip(count: int, frames: int = 1) -> list[Any]:
    dice = np.random.default_rng(9)
    return [dice.standard_normal((frames, *SHAPE)) for _ in range(count)]


guidances = st.builds(Guidance, st.sampled_from(CFG_TYPES), st.floats(0.5, 3), st.floats(0, 2))
step_lists = st.lists(st.integers(1, 999), min_size=1, max_size=4, unique=True).map(
    lambda steps: sorted(steps, reverse=True)
)


@given(steps=step_lists, frames=st.integers(1, 3), guidance=guidances, add_noise=st.booleans())
def test_a_frame_comes_out_as_if_it_went_through_alone(
    steps: list[int], frames: int, guidance: Guidance, add_noise: bool
) -> None:
    plan = plan_of(steps, frames, guidance, add_noise)
    denoiser = Denoiser(np, noise_model, "epsilon")
    stream: StreamBatch[int] = StreamBatch(denoiser)
    groups = clip(2 * len(steps) + 1, frames)
    for at, group in enumerate(groups):
        made, tokens = stream.call(plan, group, [at * frames + j for j in range(frames)])
        due = max(0, at - len(steps) + 1)
        assert tokens == [due * frames + j for j in range(frames)]
        alone = denoiser.through(plan, groups[due])[0][-1]
        np.testing.assert_allclose(made, alone, rtol=1e-6, atol=1e-9)


@given(
    lists=st.lists(step_lists, min_size=2, max_size=4),
    guidance=guidances,
    calls=st.integers(1, 4),
)
def test_a_change_of_steps_keeps_the_order_and_settles(
    lists: list[list[int]], guidance: Guidance, calls: int
) -> None:
    denoiser = Denoiser(np, noise_model, "epsilon")
    stream: StreamBatch[int] = StreamBatch(denoiser)
    groups = clip(calls * len(lists) + 5)
    plans = [plan_of(steps, guidance=guidance) for steps in lists]
    shown = -1
    for at, group in enumerate(groups):
        plan = plans[min(at // calls, len(plans) - 1)]
        made, [token] = stream.call(plan, group, [at])
        assert shown <= token <= at
        assert np.isfinite(made).all()
        shown = token
    alone = denoiser.through(plans[-1], groups[shown])[0][-1]
    np.testing.assert_allclose(made, alone, rtol=1e-6, atol=1e-9)


def test_more_steps_show_the_oldest_frame_again_and_no_empty_one() -> None:
    stream: StreamBatch[int] = StreamBatch(Denoiser(np, noise_model, "epsilon"))
    groups = clip(9)
    plans = [plan_of([900])] * 3 + [plan_of([900, 600, 300])] * 3 + [plan_of([800, 200])] * 3
    shown = [
        stream.call(plan, group, [at])[1][0]
        for at, (plan, group) in enumerate(zip(plans, groups, strict=True))
    ]
    assert shown == [0, 1, 2, 2, 2, 3, 5, 6, 7]


def test_what_the_model_was_trained_to_say_makes_no_difference() -> None:
    plan = plan_of([900, 500, 100], guidance=Guidance("full", 2.0, 1.0))

    def saying(prediction: Prediction) -> Any:
        def predict(noisy: Any, timesteps: Any, condition: Any, negatives: int) -> Any:
            numbers = schedule(timesteps, ALPHAS)
            a, s = (
                values.astype(np.float64).reshape(-1, 1, 1, 1)
                for values in (numbers.signal, numbers.noise)
            )
            noise = noise_model(noisy, timesteps, condition, negatives)
            clean = (noisy - s * noise) / a
            said = {"epsilon": noise, "sample": clean, "v_prediction": a * noise - s * clean}
            return said[prediction]

        return Denoiser(np, predict, prediction).through(plan, clip(1)[0])[0][-1]

    np.testing.assert_allclose(saying("sample"), saying("epsilon"), rtol=1e-6)
    np.testing.assert_allclose(saying("v_prediction"), saying("epsilon"), rtol=1e-6)


@pytest.mark.parametrize("kind", CFG_TYPES)
def test_numpy_and_torch_agree(kind: CfgType) -> None:
    plan = plan_of([900, 400], frames=2, guidance=Guidance(kind, 1.7, 0.8))
    fields = {
        name: torch.from_numpy(np.asarray(getattr(plan.rows, name)))
        for name in ("timesteps", "signal", "noise", "skip", "out", "added", "eps")
    }
    torch_plan = replace(plan, rows=Rows(**fields, fresh=plan.rows.fresh))

    def torch_model(noisy: Any, timesteps: Any, condition: Any, negatives: int) -> Any:
        said = noise_model(noisy.numpy(), timesteps.numpy(), condition, negatives)
        return torch.from_numpy(said)

    ours: StreamBatch[int] = StreamBatch(Denoiser(np, noise_model, "epsilon"))
    theirs: StreamBatch[int] = StreamBatch(Denoiser(torch, torch_model, "epsilon"))
    for group in clip(5, 2):
        expected, _ = ours.call(plan, group, [0, 0])
        found, _ = theirs.call(torch_plan, torch.from_numpy(group), [0, 0])
        np.testing.assert_allclose(found.numpy(), expected, rtol=1e-9)


@pytest.mark.parametrize(
    ("kind", "rows"), [("none", 3), ("self", 3), ("initialize", 4), ("full", 6)]
)
def test_rows_that_each_guidance_costs(kind: CfgType, rows: int) -> None:
    seen: list[tuple[int, int]] = []

    def predict(noisy: Any, timesteps: Any, condition: Any, negatives: int) -> Any:
        assert len(noisy) == len(timesteps)
        seen.append((len(noisy), negatives))
        return noise_model(noisy, timesteps, condition, negatives)

    stream: StreamBatch[int] = StreamBatch(Denoiser(np, predict, "epsilon"))
    for scale in (1.0, 1.5):
        plan = plan_of([900, 600, 300], guidance=Guidance(kind, scale, 1.0))
        stream.call(plan, clip(1)[0], [0])
        stream.call(plan, clip(1)[0], [0])
        assert seen[-1] == ((rows, rows - 3) if scale > 1 else (3, 0))


def test_a_call_that_fails_leaves_the_stream_as_it_was() -> None:
    failing = False

    def predict(*told: Any) -> Any:
        if failing:
            raise MemoryError
        return noise_model(*told)

    plan = plan_of([900, 600, 300], guidance=Guidance("self", 1.5, 1.0))
    stream: StreamBatch[int] = StreamBatch(Denoiser(np, predict, "epsilon"))
    groups = clip(6)
    for at in range(4):
        stream.call(plan, groups[at], [at])
    before = stream.latents.copy()
    failing = True
    with pytest.raises(MemoryError):
        stream.call(plan, groups[4], [4])
    failing = False
    np.testing.assert_array_equal(stream.latents, before)
    assert stream.call(plan, groups[5], [5])[1] == [2]


def test_relabelled_frames_go_by_the_new_token() -> None:
    plan = plan_of([900, 600, 300])
    stream: StreamBatch[int] = StreamBatch(Denoiser(np, noise_model, "epsilon"))
    groups = clip(8)
    for at in range(4):
        stream.call(plan, groups[at], [at])
    stream.relabel(4)
    assert [stream.call(plan, groups[at], [at])[1][0] for at in (5, 6, 7)] == [4, 4, 5]
