"""The numbers of the steps: as diffusers' schedulers have them."""

import numpy as np
import pytest
import torch
from diffusers.schedulers import LCMScheduler
from hypothesis import given
from hypothesis import strategies as st

from dreamrelay.engines.parameters import StreamBatchParameters
from dreamrelay.engines.schedule import cumulative_alphas, schedule, timesteps
from dreamrelay.errors import EngineError

SD = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear"}


@pytest.mark.parametrize(
    "config",
    [
        SD,
        {},
        {"beta_schedule": "linear", "beta_start": 0.001, "beta_end": 0.02},
        {"beta_schedule": "squaredcos_cap_v2"},
        {"trained_betas": [0.001 * at for at in range(1, 101)], "num_train_timesteps": 100},
    ],
    ids=str,
)
def test_alphas_are_those_of_diffusers(config: dict[str, object]) -> None:
    theirs = LCMScheduler(
        **{"beta_schedule": "linear", "beta_start": 0.0001, "beta_end": 0.02} | config
    )
    expected = np.maximum(theirs.alphas_cumprod.numpy(), 1e-6)
    np.testing.assert_allclose(cumulative_alphas(config), expected, rtol=2e-4, atol=1e-6)


def test_a_signal_of_nothing_is_raised_to_a_little() -> None:
    alphas = cumulative_alphas({**SD, "rescale_betas_zero_snr": True})
    assert alphas[-1] == pytest.approx(1e-6)
    theirs = LCMScheduler(**SD, rescale_betas_zero_snr=True).alphas_cumprod.numpy()
    np.testing.assert_allclose(alphas[:-1], theirs[:-1], rtol=1e-3, atol=1e-6)


def test_unknown_betas_are_named() -> None:
    with pytest.raises(EngineError, match="beta_schedule is 'sigmoid'; expected linear"):
        cumulative_alphas({"beta_schedule": "sigmoid"})


def test_indices_pick_from_the_lcm_schedule() -> None:
    theirs = LCMScheduler(**SD)
    theirs.set_timesteps(50)
    indices = [0, 1, 22, 32, 45, 49]
    ours = timesteps(StreamBatchParameters(t_index_list=indices), 1000)
    assert list(ours) == theirs.timesteps[torch.tensor(indices)].tolist()


def test_the_boundary_condition_is_that_of_lcm() -> None:
    theirs = LCMScheduler(**SD)
    steps = [999, 99, 19, 1]
    ours = schedule(steps, cumulative_alphas(SD))
    for at, step in enumerate(steps):
        skip, out = theirs.get_scalings_for_boundary_condition_discrete(torch.tensor(step))
        assert ours.skip[at] == pytest.approx(float(skip), rel=1e-5)
        assert ours.out[at] == pytest.approx(float(out), rel=1e-5)
    np.testing.assert_allclose(ours.signal**2 + ours.noise**2, 1, rtol=1e-5)


@given(strength=st.floats(0, 1), steps=st.integers(1, 8))
def test_strength_spreads_the_steps_below_it(strength: float, steps: int) -> None:
    found = timesteps(StreamBatchParameters(strength=strength, num_inference_steps=steps), 1000)
    assert len(found) == steps
    assert list(found) == sorted(found, reverse=True)
    assert all(1 <= step <= 999 for step in found)
    assert found[0] == max(1, round(999 * strength))


def test_a_model_of_pixels_lets_the_frame_through_at_no_strength() -> None:
    numbers = schedule((999, 500, 50, 1), cumulative_alphas(SD), half_share=50)
    np.testing.assert_allclose(numbers.skip + numbers.out, 1, atol=1e-6)
    assert numbers.skip.tolist() == sorted(numbers.skip)
    assert numbers.skip[2] == 0.5
    assert numbers.skip[0] < 0.003
    assert numbers.skip[3] > 0.999


@pytest.mark.parametrize(
    ("count", "strength", "expected"),
    [
        (1, 1.0, (999,)),
        (2, 1.0, (999, 499)),
        (4, 1.0, (999, 749, 499, 249)),
        (8, 1.0, (999, 874, 749, 624, 499, 374, 249, 124)),
        (2, 0.5, (499, 249)),
        (3, 0.0, (1, 1, 1)),
    ],
)
def test_ode_steps_are_where_lightning_was_trained(
    count: int, strength: float, expected: tuple[int, ...]
) -> None:
    parameters = StreamBatchParameters(renoise="ode", num_inference_steps=count, strength=strength)
    assert timesteps(parameters, 1000) == expected


def test_a_picture_of_nothing_starts_at_the_top() -> None:
    parameters = StreamBatchParameters(input_mode="text", strength=0.2, num_inference_steps=2)
    assert timesteps(parameters, 1000)[0] == 999
    listed = StreamBatchParameters(input_mode="text", t_index_list=[10, 40])
    assert timesteps(listed, 1000) == (799, 199)


def test_without_a_rule_at_the_end_all_that_goes_out_is_what_the_model_says() -> None:
    alphas = cumulative_alphas(SD)
    numbers = schedule([999, 1], alphas, consistent=False)
    assert numbers.skip.tolist() == [0, 0]
    assert numbers.out.tolist() == [1, 1]
    assert schedule([1], alphas).skip[0] > 0
    assert schedule([500], alphas, 500.0, consistent=False).skip[0] == 0.5
