"""From strength, steps and a model's betas to the numbers of every denoising step; numpy only."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dreamrelay.engines.parameters import SCHEDULE_LENGTH, StreamBatchParameters
from dreamrelay.errors import EngineError

Vector = NDArray[np.float32]

SIGMA_DATA = 0.5
TIMESTEP_SCALING = 10.0
"""Of the consistency models' boundary condition; it matters only close to timestep 0."""


@dataclass(frozen=True, slots=True)
class Schedule:
    """Per denoising step, the noisiest first: where it stands and what is mixed there; all (n,).

    ``noisy = signal * clean + noise * eps``, and a step's result is ``out * clean + skip * noisy``.
    """

    timesteps: tuple[int, ...]
    signal: Vector
    noise: Vector
    skip: Vector
    out: Vector


def timesteps(parameters: StreamBatchParameters, training_steps: int) -> tuple[int, ...]:
    """The timesteps of the denoising steps, the noisiest first.

    ``t_index_list`` picks from the schedule of 50 that latent consistency models are made for
    ([999, 979, ..., 19] of 1000). Without it the steps are spread evenly below ``strength``; a
    picture made from nothing starts at the top.
    """
    if parameters.t_index_list is not None:
        stride = training_steps // SCHEDULE_LENGTH
        return tuple(stride * (SCHEDULE_LENGTH - index) - 1 for index in parameters.t_index_list)
    count = parameters.num_inference_steps
    strength = 1.0 if parameters.input_mode == "text" else parameters.strength
    # Nothing was trained at 0, and noise of no strength cannot be divided by.
    if parameters.renoise == "ode":
        # Where those models were trained, [999, 749, 499, 249] for four steps: "trailing".
        top = training_steps * strength
        return tuple(max(1, round(top * (1 - step / count)) - 1) for step in range(count))
    top = (training_steps - 1) * strength
    return tuple(max(1, round(top * (1 - step / count))) for step in range(count))


def schedule(
    steps: Sequence[int],
    alphas: Vector,
    half_share: float | None = None,
    *,
    consistent: bool = True,
) -> Schedule:
    """The numbers of ``steps`` (timesteps) under a model's ``alphas``.

    What goes out is mixed of what the model says and of what it saw. Latent consistency models have
    a rule of their own, which matters close to timestep 0 only. A model of pixels names a timestep
    instead, ``half_share``, at which half of what goes out is what it saw, next to no noise being
    on that: so strength 0 is the frame itself, to its last detail, and more leads away from it
    without a jump. Others (not ``consistent``) have no such rule: all that goes out is what they
    say.
    """
    at = np.asarray(steps, dtype=np.int64)  # (n,)
    skip: NDArray[np.floating[Any]]  # (n,)
    if half_share is None and not consistent:
        skip = np.zeros(len(at))
        out = 1 - skip
    elif half_share is None:
        scaled = TIMESTEP_SCALING * at
        skip = SIGMA_DATA**2 / (scaled**2 + SIGMA_DATA**2)
        out = scaled / np.sqrt(scaled**2 + SIGMA_DATA**2)
    else:
        skip = 1 / (1 + (at / half_share) ** 2)
        out = 1 - skip
    return Schedule(
        tuple(int(step) for step in at),
        signal=np.sqrt(alphas[at]).astype(np.float32),
        noise=np.sqrt(1 - alphas[at]).astype(np.float32),
        skip=skip.astype(np.float32),
        out=out.astype(np.float32),
    )


def cumulative_alphas(config: Mapping[str, Any]) -> Vector:
    """The share of the picture left at each timestep, (T,), from a scheduler's configuration.

    Raises:
        EngineError: the configuration names betas that we do not know.
    """
    count = int(config.get("num_train_timesteps", 1000))
    start, end = float(config.get("beta_start", 0.0001)), float(config.get("beta_end", 0.02))
    kind = config.get("beta_schedule", "linear")
    if config.get("trained_betas") is not None:
        betas = np.asarray(config["trained_betas"], dtype=np.float64)
    elif kind == "linear":
        betas = np.linspace(start, end, count)
    elif kind == "scaled_linear":
        betas = np.linspace(start**0.5, end**0.5, count) ** 2
    elif kind == "squaredcos_cap_v2":
        edges = np.cos((np.linspace(0, 1, count + 1) + 0.008) / 1.008 * np.pi / 2) ** 2
        betas = np.minimum(1 - edges[1:] / edges[:-1], 0.999)
    else:
        raise EngineError(
            f"the scheduler's beta_schedule is {kind!r}; expected linear, scaled_linear or "
            "squaredcos_cap_v2"
        )
    root = np.sqrt(np.cumprod(1 - betas))
    if config.get("rescale_betas_zero_snr"):
        root = (root - root[-1]) * root[0] / (root[0] - root[-1])
    # Dividing by a signal of nothing would end in NaN.
    alphas: Vector = np.maximum(root**2, 1e-6).astype(np.float32)
    return alphas
