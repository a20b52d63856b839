"""The noise of seeds: as strong as one seed's, however many are blended."""

from typing import Any, Literal

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dreamrelay.engines.noise import noise_of, seeded_noise
from dreamrelay.engines.parameters import StreamBatchParameters, WeightedSeed

SHAPE = (2, 4, 32, 32)


def of(*seeds: tuple[int, float], on: Literal["linear", "slerp"] = "linear") -> Any:
    several = [WeightedSeed(seed=seed, weight=weight) for seed, weight in seeds]
    parameters = StreamBatchParameters(seed=3, seeds=several, seed_interpolation=on)
    return noise_of(parameters, SHAPE)


@pytest.mark.parametrize("on", ["linear", "slerp"])
@settings(max_examples=15, deadline=None)
@given(
    st.lists(
        st.tuples(st.integers(0, 5), st.floats(0, 10).map(lambda w: round(w, 3))),
        min_size=1,
        max_size=8,
    )
)
def test_a_blend_is_as_strong_as_one_seed(on: Any, seeds: list[tuple[int, float]]) -> None:
    noise = of(*seeds, on=on)
    assert noise.shape == SHAPE
    assert noise.dtype == np.float32
    assert abs(float(noise.std()) - 1) < 0.08
    assert abs(float(noise.mean())) < 0.1


@pytest.mark.parametrize("on", ["linear", "slerp"])
def test_shares_decide_whose_noise_it_is(on: Any) -> None:
    one, other = seeded_noise(1, SHAPE), seeded_noise(2, SHAPE)
    np.testing.assert_array_equal(of((1, 2.0), on=on), one)
    np.testing.assert_allclose(of((1, 0.0), (2, 0.5), on=on), other)
    np.testing.assert_allclose(of((1, 1.0), (1, 3.0), on=on), one)
    np.testing.assert_allclose(of((1, 0.0), (2, 0.0), on=on), of((1, 1.0), (2, 1.0), on=on))

    def likeness(noise: Any, to: Any) -> float:
        return float(np.corrcoef(noise.reshape(-1), to.reshape(-1))[0, 1])

    before = 2.0
    for share in (0.1, 0.4, 0.6, 0.9):
        now = likeness(of((1, 1 - share), (2, share), on=on), one)
        assert now < before
        before = now
    assert likeness(of((1, 1.0), (2, 1.0), on=on), one) == pytest.approx(0.5**0.5, abs=0.05)


def test_without_seeds_the_one_seed_is_in_force() -> None:
    np.testing.assert_array_equal(of(), seeded_noise(3, SHAPE))
    alone = noise_of(StreamBatchParameters(seed=3, seeds=None), SHAPE)
    np.testing.assert_array_equal(alone, seeded_noise(3, SHAPE))
