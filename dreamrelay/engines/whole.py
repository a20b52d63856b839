"""All of a frame as one part: from its bytes, through every step, to the bytes of the picture.

Where the parts are called as CUDA graphs, a graph round all of them spares what lies between: the
arithmetic of the steps, some dozens of small kernels. Everything that may change between two frames
is an argument, so prompts, seeds, guidance and strength stay live; what decides which kernels run
(number of steps, kind of guidance, size) belongs to the form, and another one is recorded for each.
"""

from collections.abc import Callable, Sequence
from dataclasses import fields
from typing import Any

import torch

from dreamrelay.engines.accelerate import Acceleration
from dreamrelay.engines.denoise import Denoiser, Guidance, Plan, Rows, State, StreamBatch
from dreamrelay.engines.graphs import WHOLE
from dreamrelay.engines.prompts import Embedding

_ARRAYS = tuple(field.name for field in fields(Rows) if field.name not in ("fresh", "riders"))


class WholeFrame:
    """One call for all of a frame.

    Args:
        acceleration: records it.
        encode: bytes (m, H, W, 3) to clean latents (m, C, h, w).
        decode: the way back.
        denoiser: of the model.
    """

    def __init__(
        self,
        acceleration: Acceleration,
        encode: Callable[[torch.Tensor], torch.Tensor],
        decode: Callable[[torch.Tensor], torch.Tensor],
        denoiser: Denoiser,
    ) -> None:
        self._encode, self._decode, self._denoiser = encode, decode, denoiser
        self._part = acceleration.over(WHOLE, self._run, of_parts=True)

    def __call__(
        self, stream: StreamBatch[Any], plan: Plan, pixels: torch.Tensor, tokens: Sequence[Any]
    ) -> tuple[torch.Tensor, list[Any]]:
        """Take m frames into a stream that is under way, let m pictures out.

        Args:
            plan: that asks of no frame whose it is.
            pixels: of the frames, (m, H, W, 3) uint8.

        Returns:
            The pictures, as the frames; and the tokens of their frames.
        """
        before, waiting = stream.fitted(plan)
        rows = len(plan.rows.timesteps)
        negatives = plan.guidance.negatives(rows, plan.frames)
        told: Embedding = plan.condition.rows(rows + negatives, negatives)
        guidance, like = plan.guidance, plan.rows.signal
        pictures, state = self._part(
            pixels,
            (before.clean, before.residual, before.seen) if plan.steps > 1 else None,
            [getattr(plan.rows, name) for name in _ARRAYS],
            (told.tokens, told.pooled),
            [like.new_full((), guidance.scale), like.new_full((), guidance.delta)],
            (guidance.kind if guidance.active else "none", plan.steps, plan.frames, plan.ode),
        )
        aboard = [*tokens, *waiting[: -plan.frames]]
        stream.stand(plan.steps, State(*state), aboard)
        return pictures, aboard[-plan.frames :]

    def _run(
        self,
        pixels: torch.Tensor,
        before: tuple[torch.Tensor | None, ...] | None,
        arrays: Sequence[torch.Tensor],
        told: tuple[torch.Tensor, torch.Tensor | None],
        pull: Sequence[Any],
        of_form: tuple[Any, int, int, bool],
    ) -> tuple[torch.Tensor, tuple[torch.Tensor | None, ...]]:
        kind, steps, frames, ode = of_form
        rows = Rows(**dict(zip(_ARRAYS, arrays, strict=True)), fresh=frames)
        guidance = _Decided(kind, *pull)
        plan = Plan(steps, frames, rows, guidance, _Told(Embedding(*told)), ode)
        state = State(None) if before is None else State(*before)
        asked = self._denoiser.onward(plan, state, self._encode(pixels))
        said = self._denoiser.predict(
            asked.inputs, asked.timesteps, asked.condition, asked.negatives
        )
        after = self._denoiser.finish(asked, said)
        return self._decode(after.clean[-frames:]), (after.clean, after.residual, after.seen)


class _Decided(Guidance):
    """Guidance of which it is known whether it acts: its numbers are not to be looked at."""

    @property
    def active(self) -> bool:
        return self.kind != "none"


class _Told:
    """What all rows are told; no frame has anything of its own."""

    def __init__(self, embedding: Embedding) -> None:
        self._embedding = embedding

    def rows(self, count: int, negatives: int) -> Embedding:
        return self._embedding

    def seats(self, count: int, negatives: int) -> Sequence[None]:
        return [None] * count

    def unwanted(self, count: int, negatives: int) -> Sequence[bool]:
        return [row < negatives for row in range(count)]
