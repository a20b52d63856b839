"""The stream batch by itself, on arrays of numpy and a function for a model."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pytest
import torch
from diffusers.schedulers import DDIMScheduler
from hypothesis import given
from hypothesis import strategies as st

from dreamrelay.codec import Frame
from dreamrelay.engines.condition import JoinedCondition
from dreamrelay.engines.denoise import (
    Asked,
    Denoiser,
    Guidance,
    Plan,
    Prediction,
    Rows,
    StreamBatch,
)
from dreamrelay.engines.parameters import CfgType
from dreamrelay.engines.schedule import cumulative_alphas, schedule
from dreamrelay.engines.together import together

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
        alone = denoiser.through(plan, groups[due])[-1].clean
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
    alone = denoiser.through(plans[-1], groups[shown])[-1].clean
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

        return Denoiser(np, predict, prediction).through(plan, clip(1)[0])[-1].clean

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


# Noise that the model has seen -------------------------------------------------------------------


@pytest.mark.parametrize("frames", [1, 2])
@pytest.mark.parametrize("guidance", [Guidance("none", 1, 1), Guidance("full", 1.7, 1)])
def test_ode_steps_are_those_of_ddim(frames: int, guidance: Guidance) -> None:
    steps = [999, 749, 499, 249]
    plan = replace(plan_of(steps, frames, guidance), ode=True)
    plain = replace(plan.rows, skip=0 * plan.rows.skip, out=0 * plan.rows.out + 1)
    plan = replace(plan, rows=plain)
    ddim = DDIMScheduler(
        beta_start=0.00085,
        beta_end=0.012,
        beta_schedule="scaled_linear",
        clip_sample=False,
        set_alpha_to_one=True,
        steps_offset=0,
    )
    ddim.set_timesteps(4)
    # The library walks evenly spaced steps; these are ours.
    ddim.timesteps = torch.tensor(steps)
    clean = clip(1, frames)[0]
    eps = plan.rows.eps[:frames]
    noisy = np.sqrt(ALPHAS[999]) * clean + np.sqrt(1 - ALPHAS[999]) * eps
    for step, after in zip(steps, [*steps[1:], -1], strict=True):
        at = np.full(frames, step)
        wanted = noise_model(noisy, at, 0.5, 0)
        if guidance.active:
            unwanted = noise_model(noisy, at, 0.5, frames)
            wanted = unwanted + guidance.scale * (wanted - unwanted)
        ddim.num_inference_steps = 1000 // (step - after if after > 0 else step + 1)
        noisy = ddim.step(torch.from_numpy(wanted), step, torch.from_numpy(noisy)).prev_sample
        noisy = noisy.numpy()
    denoiser = Denoiser(np, noise_model, "epsilon")
    made = denoiser.through(plan, clean)[-1].clean
    np.testing.assert_allclose(made, noisy, rtol=1e-4, atol=1e-5)


@given(steps=step_lists, frames=st.integers(1, 2), guidance=guidances, add_noise=st.booleans())
def test_noise_that_was_seen_travels_with_its_frame(
    steps: list[int], frames: int, guidance: Guidance, add_noise: bool
) -> None:
    plan = replace(plan_of(steps, frames, guidance, add_noise), ode=True)
    denoiser = Denoiser(np, noise_model, "epsilon")
    stream: StreamBatch[int] = StreamBatch(denoiser)
    groups = clip(2 * len(steps) + 1, frames)
    for at, group in enumerate(groups):
        made, _ = stream.call(plan, group, [at] * frames)
        alone = denoiser.through(plan, groups[max(0, at - len(steps) + 1)])[-1].clean
        np.testing.assert_allclose(made, alone, rtol=1e-6, atol=1e-9)


def test_both_rules_can_take_turns() -> None:
    stochastic = plan_of([900, 600, 300], guidance=Guidance("self", 1.4, 1.0))
    ode = replace(stochastic, ode=True)
    denoiser = Denoiser(np, noise_model, "epsilon")
    stream: StreamBatch[int] = StreamBatch(denoiser)
    groups = clip(12)
    for at, group in enumerate(groups):
        plan = ode if at // 3 % 2 else stochastic
        made, [token] = stream.call(plan, group, [at])
        assert np.isfinite(made).all()
    alone = denoiser.through(ode, groups[token])[-1].clean
    np.testing.assert_allclose(made, alone, rtol=1e-6)
    other = denoiser.through(stochastic, groups[token])[-1].clean
    assert np.abs(made - other).max() > 1e-3


# A long time -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("steps", "frames", "prediction"),
    [
        ([999], 1, "epsilon"),
        ([999], 2, "v_prediction"),
        ([359], 1, "epsilon"),
        ([19], 1, "sample"),
        ([999, 699], 1, "epsilon"),
    ],
)
def test_self_guidance_stays_as_it_is_for_ten_thousand_frames(
    steps: list[int], frames: int, prediction: Prediction
) -> None:
    # With one step the package feeds its stock noise back: at t_index 0 with this guidance it is
    # 17 times as large after each frame, and no number any more after 60.
    plan = plan_of(steps, frames, Guidance("self", 1.2, 1.0))
    denoiser = Denoiser(np, noise_model, prediction)
    stream: StreamBatch[int] = StreamBatch(denoiser)
    groups = clip(7, frames)
    for at in range(10_000):
        made, _ = stream.call(plan, groups[at % 7], [at] * frames)
    last = (10_000 - len(steps)) % 7
    alone = denoiser.through(plan, groups[last])[-1].clean
    np.testing.assert_allclose(made, alone, rtol=1e-6, atol=1e-9)


# Whose rows they are -----------------------------------------------------------------------------


@dataclass(frozen=True)
class Wish:
    """A condition that each frame brings along: its token is its wish."""

    wishes: tuple[float, ...] = ()

    def of(self, riders: Sequence[float]) -> "Wish":
        return Wish(tuple(riders))


def wish_model(noisy: Any, timesteps: Any, condition: Wish, negatives: int) -> Any:
    wishes = [*condition.wishes[:negatives], *condition.wishes]
    assert len(wishes) == len(noisy)
    told = np.array(wishes)[:, None, None, None]
    return 0.6 * np.tanh(noisy) + 0.1 * told


def boarding(plan: Plan) -> Plan:
    def board(rows: Rows, tokens: Sequence[float]) -> Rows:
        # Each frame has noise of its own as well.
        moved = np.asarray(tokens, np.float64)[:, None, None, None]
        return replace(rows, eps=rows.eps * (1 + moved / 7), riders=tuple(tokens))

    return replace(plan, board=board, condition=Wish())


@given(steps=step_lists, frames=st.integers(1, 3), guidance=guidances)
def test_what_a_frame_brings_along_stays_with_its_row(
    steps: list[int], frames: int, guidance: Guidance
) -> None:
    plan = boarding(plan_of(steps, frames, guidance))
    denoiser = Denoiser(np, wish_model, "epsilon")
    stream: StreamBatch[float] = StreamBatch(denoiser)
    groups = clip(2 * len(steps) + 1, frames)
    wishes = [[float(at * frames + j) for j in range(frames)] for at in range(len(groups))]
    for at, group in enumerate(groups):
        made, tokens = stream.call(plan, group, wishes[at])
        due = max(0, at - len(steps) + 1)
        assert tokens == wishes[due]
        alone = denoiser.through(plan, groups[due], wishes[due])[-1].clean
        np.testing.assert_allclose(made, alone, rtol=1e-6, atol=1e-9)


# Several streams in one call ---------------------------------------------------------------------


class Calls:
    """What a model over ``denoiser`` is called by; memory is never short."""

    xp: Any = np
    errors: tuple[type[Exception], ...] = (MemoryError,)

    def __init__(self, denoiser: Denoiser) -> None:
        self.denoiser = denoiser
        self.parted: list[int] = []

    def encode(self, frames: Sequence[Frame]) -> Any:
        raise AssertionError("nobody asks for pixels here")

    def decode(self, latents: Any) -> list[Frame]:
        raise AssertionError("nobody asks for pixels here")

    def part_ways(self, count: int, error: Exception) -> Callable[[], None]:
        self.parted.append(count)
        return lambda: None


def told(asked: Asked) -> list[float]:
    wanted = len(asked.inputs) - asked.negatives
    return [-0.3] * asked.negatives + [float(asked.condition)] * wanted


def joined_model(noisy: Any, timesteps: Any, condition: Any, negatives: int) -> Any:
    if not isinstance(condition, JoinedCondition):
        return noise_model(noisy, timesteps, condition, negatives)
    of_rows = np.array([value for asked in condition.asked for value in told(asked)])
    assert len(of_rows) == len(noisy) == len(timesteps)
    step = np.asarray(timesteps) / 1000
    return 0.6 * np.tanh(noisy) + (0.2 * step + 0.1 * of_rows)[:, None, None, None]


@given(
    plans=st.lists(
        st.builds(
            lambda steps, frames, guidance, seed, ode, told: replace(
                plan_of(steps, frames, guidance, seed=seed), ode=ode, condition=told
            ),
            step_lists,
            st.integers(1, 2),
            guidances,
            st.integers(0, 9),
            st.booleans(),
            st.floats(-1, 1),
        ),
        min_size=1,
        max_size=4,
    ),
    late=st.integers(0, 3),
)
def test_streams_in_one_call_are_as_each_by_itself(plans: list[Plan], late: int) -> None:
    calls = 0

    def counted(*told: Any) -> Any:
        nonlocal calls
        calls += 1
        return joined_model(*told)

    denoiser = Denoiser(np, counted, "epsilon")
    alone: list[StreamBatch[int]] = [StreamBatch(denoiser) for _ in plans]
    grouped: list[StreamBatch[int]] = [StreamBatch(denoiser) for _ in plans]
    for at in range(6):
        # One of them comes in later than the others.
        there = [i for i in range(len(plans)) if i != late or at > 2]
        fresh = {i: clip(at + 1, plans[i].frames)[at] + i for i in there}
        expected = {i: alone[i].call(plans[i], fresh[i], [at] * len(fresh[i])) for i in there}
        calls = 0
        longest = max(plans[i].steps if grouped[i].empty else 1 for i in there) if there else 0
        runs = [grouped[i].calling(plans[i], fresh[i], [at] * len(fresh[i])) for i in there]
        made: list[Any] = together(Calls(denoiser), runs)
        assert calls == longest, "one call for all that run, and more for who fills up"
        for i, (latents, tokens) in zip(there, made, strict=True):
            np.testing.assert_allclose(latents, expected[i][0], rtol=1e-9, atol=1e-12)
            assert tokens == expected[i][1]


def test_a_joint_call_that_fails_leaves_all_streams_as_they_were() -> None:
    failing = False

    def predict(*inputs: Any) -> Any:
        if failing:
            raise MemoryError
        return joined_model(*inputs)

    denoiser = Denoiser(np, predict, "epsilon")
    calls = Calls(denoiser)
    plans = [plan_of([900, 300]), plan_of([800], guidance=Guidance("full", 2, 1))]
    streams: list[StreamBatch[int]] = [StreamBatch(denoiser) for _ in plans]
    groups = clip(4)

    def turn(at: int) -> list[Any]:
        pairs = zip(streams, plans, strict=True)
        return together(calls, [stream.calling(plan, groups[at], [at]) for stream, plan in pairs])

    turn(0)
    turn(1)
    before = [stream.latents.copy() for stream in streams]
    failing = True
    assert [type(failed) for failed in turn(2)] == [MemoryError, MemoryError]
    assert calls.parted == [2], "and both were tried alone"
    failing = False
    for stream, kept in zip(streams, before, strict=True):
        np.testing.assert_array_equal(stream.latents, kept)
    assert [tokens for _, tokens in turn(3)] == [[1], [3]]
