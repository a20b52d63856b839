"""From parameters to the plan of a call: noise, schedule, guidance, and what the U-Net is told."""

from collections.abc import Hashable
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from dreamrelay.engines.condition import Condition
from dreamrelay.engines.denoise import Array, Guidance, Plan, Rows
from dreamrelay.engines.model_form import ModelForm
from dreamrelay.engines.noise import noise_of
from dreamrelay.engines.parameters import StreamBatchParameters
from dreamrelay.engines.prompts import Embedding, Encoded, blended, turned_away, weighted
from dreamrelay.engines.schedule import schedule, timesteps

_KEPT = 3  # of the stream, and of single pictures that come in between


class Backend(Protocol):
    """What computes the plans' arrays."""

    @property
    def xp(self) -> Any: ...

    def encode_prompt(self, text: str, /) -> Embedding: ...

    def encoder_state(self) -> Hashable: ...

    def unwanted(self, text: str, embedding: Embedding, /) -> Embedding: ...

    def placed(self, values: NDArray[Any], /) -> Array: ...


class Planner:
    """Plans, and the embeddings they are made of; each is kept while it may be asked for again.

    Args:
        backend: encodes prompts, and brings values to where they are computed with.
    """

    def __init__(self, backend: Backend) -> None:
        self._backend = backend
        self._plans: list[tuple[StreamBatchParameters, Plan]] = []
        self._last: StreamBatchParameters | None = None
        self.prompts: Encoded[tuple[str, Hashable], Embedding] = Encoded(
            lambda key: backend.encode_prompt(key[0])
        )

    def forget(self) -> None:
        """Make the next plan anew; embeddings stay."""
        self._plans.clear()

    def clear(self) -> None:
        """Forget everything: the model goes."""
        self.forget()
        self.prompts.clear()

    def plan(
        self,
        parameters: StreamBatchParameters,
        frames: int,
        model: ModelForm,
        size: tuple[int, int],
    ) -> Plan:
        """The plan of a call.

        Args:
            frames: of a call, m.
            size: height and width in pixels that the model computes.
        """
        for of, plan in self._plans:
            if plan.frames == frames and (of is parameters or of == parameters):
                self._turn_to(parameters)
                return plan
        plan = self._new(parameters, frames, model, size)
        self._last = parameters
        self._plans = [(parameters, plan), *self._plans[: _KEPT - 1]]
        return plan

    def _turn_to(self, parameters: StreamBatchParameters) -> None:
        """Count a prompt that is turned back to while its plan is kept: its text was found, too."""
        last, self._last = self._last, parameters
        if last is not parameters and any(
            getattr(last, name) != getattr(parameters, name)
            for name in ("prompt", "prompts", "negative_prompt")
        ):
            self.prompts.hits += 1

    def _new(
        self,
        parameters: StreamBatchParameters,
        frames: int,
        model: ModelForm,
        size: tuple[int, int],
    ) -> Plan:
        at = timesteps(parameters, len(model.alphas))
        ode = parameters.renoise == "ode"
        numbers = schedule(at, model.alphas, model.half_share, consistent=not ode)
        guidance = Guidance(parameters.cfg_type, parameters.guidance_scale, parameters.delta)
        added = numbers.noise.copy()
        if not parameters.do_add_noise:
            added[1:] = 0
        h, w = (side // model.scale for side in size)
        eps = noise_of(parameters, (len(at), model.channels, h, w))  # (n, C, h, w)

        def per_row(values: NDArray[Any]) -> Array:  # (n, ...) to (n * m, ...)
            repeated = np.repeat(values, frames, axis=0) if frames > 1 else values
            return self._backend.placed(repeated)

        def factor(values: NDArray[Any]) -> Array:  # (n,) to (n * m, 1, 1, 1)
            return per_row(values.reshape(-1, 1, 1, 1))

        rows = Rows(
            per_row(np.asarray(at, dtype=np.int64)),
            signal=factor(numbers.signal),
            noise=factor(numbers.noise),
            skip=factor(numbers.skip),
            out=factor(numbers.out),
            added=factor(added),
            eps=per_row(eps),
            fresh=frames,
        )
        condition = self._condition(parameters, guidance, model)
        return Plan(len(at), frames, rows, guidance, condition, ode=ode)

    def _condition(
        self, parameters: StreamBatchParameters, guidance: Guidance, model: ModelForm
    ) -> Condition:
        """What the U-Net is told under ``parameters``."""
        backend, state = self._backend, self._backend.encoder_state()

        def plain(text: str) -> Embedding:
            return self.prompts[text, state]

        def encode(text: str) -> Embedding:
            return weighted(text, plain) if model.straight else plain(text)

        follows = parameters.prompt_follows_frame
        wanted = blended(parameters, encode, backend.xp)
        if guidance.active and guidance.kind in ("full", "initialize"):
            text = parameters.negative_prompt
            unwanted = backend.unwanted(text, encode(text))
            return Condition(backend.xp, wanted, unwanted, follows)
        if parameters.negative_prompt_scale and parameters.negative_prompt.strip():
            unwanted = encode(parameters.negative_prompt)
            wanted = turned_away(wanted, unwanted, parameters.negative_prompt_scale)
        return Condition(backend.xp, wanted, None, follows)
