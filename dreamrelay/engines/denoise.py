"""The stream batch: the steps of several frames in one call of the U-Net.

Row i of a batch is the frame that came in i calls ago, standing at denoising step i; one call moves
every row on by one step and lets one finished picture out. What is kept between two calls is the
*clean* latent that each row has reached, and noise goes onto it only at the start of the next call.
So timesteps, seed, guidance and the rest can change between any two calls, and the rows in flight
follow at once.

Nothing here knows a model or a device: arrays are torch's or numpy's (``xp`` is the module), the
U-Net is a function. Shapes stand at line ends: n steps, m frames a call, B = n * m rows, latents C
x h x w.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Generic, Literal, Protocol, TypeVar

from dreamrelay.engines.parameters import CfgType

Array = Any
Token = TypeVar("Token")
Prediction = Literal["epsilon", "v_prediction", "sample"]


class Predict(Protocol):
    """One call of the U-Net."""

    def __call__(
        self, noisy: Array, timesteps: Array, condition: Any, negatives: int, /
    ) -> Array:  # (B, C, h, w)
        """What the model says of ``noisy``.

        The first ``negatives`` rows are under the negative prompt, the others under the prompt.
        The array returned may be one that the next call writes to.
        """


@dataclass(frozen=True, slots=True)
class Guidance:
    """How the prompt is made to pull harder than the model would by itself."""

    kind: CfgType
    scale: float
    delta: float

    @property
    def active(self) -> bool:
        return self.kind != "none" and self.scale > 1

    @property
    def remembers(self) -> bool:
        """Whether the counterpart of the prompt is what earlier steps left over (R-CFG)."""
        return self.active and self.kind in ("self", "initialize")


@dataclass(frozen=True, slots=True)
class Rows:
    """Where each row of a batch stands in the schedule; see :class:`schedule.Schedule`."""

    timesteps: Array  # (B,)
    signal: Array  # (B, 1, 1, 1)
    noise: Array  # (B, 1, 1, 1)
    skip: Array  # (B, 1, 1, 1)
    out: Array  # (B, 1, 1, 1)
    added: Array  # (B, 1, 1, 1), noise that goes onto the row: as ``noise``, or 0
    eps: Array  # (B, C, h, w)
    fresh: int  # how many rows, from the first, stand at the first step

    def part(self, start: int, stop: int) -> "Rows":
        return Rows(
            self.timesteps[start:stop],
            self.signal[start:stop],
            self.noise[start:stop],
            self.skip[start:stop],
            self.out[start:stop],
            self.added[start:stop],
            self.eps[start:stop],
            fresh=max(0, min(stop, self.fresh) - start),
        )


@dataclass(frozen=True, slots=True)
class Plan:
    """Everything a call needs beside the frames; made anew when a parameter changes.

    Attributes:
        steps, frames: n and m.
        rows: of the whole batch, n * m, those of one step next to each other.
        condition: what the U-Net is told (prompts), handed through.
    """

    steps: int
    frames: int
    rows: Rows
    guidance: Guidance
    condition: Any

    def of_step(self, step: int) -> Rows:
        return self.rows.part(step * self.frames, (step + 1) * self.frames)


class Denoiser:
    """One denoising step of any rows."""

    def __init__(self, xp: Any, predict: Predict, prediction: Prediction) -> None:
        self.xp = xp
        self._predict = predict
        self._prediction = prediction

    def step(
        self, plan: Plan, rows: Rows, clean: Array, residual: Array | None
    ) -> tuple[Array, Array | None]:
        """Put noise onto the ``clean`` latents and take it off again, guided; all (rows, C, h, w).

        ``residual`` is to the guidance what ``clean`` is to the picture: the clean latent of the
        counterpart, from the step before (None: nothing yet).
        """
        noisy = rows.signal * clean  # (B, C, h, w)
        noisy += rows.added * rows.eps
        if self._prediction == "sample" and not plan.guidance.active:
            # What the steps below come to when nothing is guided, without the detour over noise.
            said = self._predict(noisy, rows.timesteps, plan.condition, 0)
            noisy *= rows.skip
            noisy += rows.out * said
            return noisy, None
        stock = rows.eps  # (B, C, h, w), the noise that the counterpart is taken to have seen
        if plan.guidance.remembers and residual is not None:
            stock = rows.eps + rows.signal / rows.noise * residual

        noise, stock = self._guided_noise(plan, rows, noisy, stock)

        cleaned = self._cleaned(rows, noisy, noise)  # (B, C, h, w)
        if not plan.guidance.remembers:
            return cleaned, None
        return cleaned, self._cleaned(rows, rows.noise * stock, noise)

    def through(
        self, plan: Plan, clean: Array
    ) -> tuple[list[Array], list[Array | None]]:  # n of (m, C, h, w) each
        """Take m frames through all steps, one after the other, as the batch does row by row.

        Returns what every step left: clean latents and residuals. The last latent is the picture.
        """
        residual: Array | None = None
        latents: list[Array] = []
        residuals: list[Array | None] = []
        for step in range(plan.steps):
            clean, residual = self.step(plan, plan.of_step(step), clean, residual)
            latents.append(clean)
            residuals.append(residual)
        return latents, residuals

    def _guided_noise(
        self, plan: Plan, rows: Rows, noisy: Array, stock: Array
    ) -> tuple[Array, Array]:  # (B, C, h, w) each
        guidance = plan.guidance
        # Rows that are to be computed under the negative prompt too, put before the others.
        negatives = 0
        if guidance.active and guidance.kind == "full":
            negatives = len(noisy)
        elif guidance.active and guidance.kind == "initialize":
            negatives = rows.fresh
        if negatives:
            both = self.xp.concatenate([noisy[:negatives], noisy])  # (negatives + B, C, h, w)
            at = self.xp.concatenate([rows.timesteps[:negatives], rows.timesteps])
            said = self._predict(both, at, plan.condition, negatives)
            counter = self._as_noise(rows.part(0, negatives), noisy[:negatives], said[:negatives])
        else:
            said = self._predict(noisy, rows.timesteps, plan.condition, 0)
        wanted = self._as_noise(rows, noisy, said[negatives:])  # (B, C, h, w)

        if not guidance.active:
            return wanted, stock
        if guidance.kind == "full":
            return counter + guidance.scale * (wanted - counter), stock
        if negatives:
            stock = self.xp.concatenate([counter, stock[negatives:]])
        counter = guidance.delta * stock
        return counter + guidance.scale * (wanted - counter), stock

    def _as_noise(self, rows: Rows, noisy: Array, said: Array) -> Array:
        """The noise that the model sees in ``noisy``, whatever it was trained to predict."""
        if self._prediction == "sample":
            return (noisy - rows.signal * said) / rows.noise
        if self._prediction == "v_prediction":
            return rows.signal * said + rows.noise * noisy
        return said

    def _cleaned(self, rows: Rows, noisy: Array, noise: Array) -> Array:
        return rows.out * (noisy - rows.noise * noise) / rows.signal + rows.skip * noisy


class StreamBatch(Generic[Token]):
    """The rows in flight between two calls, and whose they are."""

    def __init__(self, denoiser: Denoiser) -> None:
        self._xp = denoiser.xp
        self._denoiser = denoiser
        self._steps = 0  # n of the rows below; 0 before the first frame
        self._clean: Array = None  # (n * m, C, h, w)
        self._residual: Array | None = None  # (n * m, C, h, w)
        self._tokens: list[Token] = []  # n * m

    @property
    def empty(self) -> bool:
        return self._steps == 0

    @property
    def latents(self) -> Array:
        """The clean latents that the rows have reached, (n * m, C, h, w)."""
        return self._clean

    def clear(self) -> None:
        self._steps, self._clean, self._residual, self._tokens = 0, None, None, []

    def relabel(self, token: Token) -> None:
        """Let all frames in flight go by ``token``: they are as good as its own."""
        self._tokens = [token] * len(self._tokens)

    def call(self, plan: Plan, fresh: Array, tokens: Sequence[Token]) -> tuple[Array, list[Token]]:
        """Take m new frames in and let m pictures out, with the tokens of their frames.

        Args:
            fresh: clean latents of the frames, (m, C, h, w).
        """
        m = plan.frames
        if self.empty:
            # As if the first frames had always been there: no picture is made of an empty buffer.
            return self._fill(plan, fresh, tokens)
        clean, residual, waiting = self._fitted(plan)
        # (n * m, C, h, w); with one step nothing is in flight, and nothing is copied
        clean = self._xp.concatenate([fresh, clean[:-m]]) if plan.steps > 1 else fresh
        if residual is not None:
            residual = self._xp.concatenate([self._xp.zeros_like(fresh), residual[:-m]])
        clean, residual = self._denoiser.step(plan, plan.rows, clean, residual)
        # Only now: a call that fails leaves the stream as it was.
        self._steps, self._clean, self._residual = plan.steps, clean, residual
        self._tokens = [*tokens, *waiting[:-m]]
        return clean[-m:], self._tokens[-m:]

    def _fill(self, plan: Plan, fresh: Array, tokens: Sequence[Token]) -> tuple[Array, list[Token]]:
        latents, residuals = self._denoiser.through(plan, fresh)
        self._steps = plan.steps
        self._clean = self._xp.concatenate(latents) if plan.steps > 1 else latents[0]
        kept = [residual for residual in residuals if residual is not None]
        self._residual = self._xp.concatenate(kept) if kept else None
        self._tokens = [*tokens] * plan.steps
        return latents[-1], [*tokens]

    def _fitted(self, plan: Plan) -> tuple[Array, Array | None, list[Token]]:
        """The rows for a plan that may have more or fewer steps than the last one.

        Fewer: the oldest frames in flight are given up. More: the oldest stands in for those that
            would
        be older still, so the pictures wait for a moment but never go back and never come from
        nothing.
        """
        if plan.steps == self._steps:
            return self._clean, self._residual, self._tokens
        m, last = plan.frames, self._steps - 1
        at = [min(step, last) * m + frame for step in range(plan.steps) for frame in range(m)]
        residual = None if self._residual is None else self._residual[at]
        return self._clean[at], residual, [self._tokens[row] for row in at]
