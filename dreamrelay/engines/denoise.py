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

from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass, replace
from typing import Any, Generic, Literal, Protocol, TypeVar

from dreamrelay.engines.parameters import CfgType

Array = Any
Token = TypeVar("Token")
T = TypeVar("T")
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

    def negatives(self, rows: int, fresh: int) -> int:
        """How many of so many rows are computed under the negative prompt too."""
        if not self.active:
            return 0
        return {"full": rows, "initialize": fresh}.get(self.kind, 0)


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
    riders: tuple[Any, ...] = ()  # B, whose rows they are; only where that matters to the call

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
            riders=self.riders[start:stop],
        )


@dataclass(frozen=True, slots=True)
class Plan:
    """Everything a call needs beside the frames; made anew when a parameter changes.

    Attributes:
        steps, frames: n and m.
        rows: of the whole batch, n * m, those of one step next to each other.
        condition: what the U-Net is told (prompts), handed through; where rows have riders, its
            ``of(riders)`` is.
        ode: put the noise that the model saw back onto the rows between two steps, not fresh noise.
        board: given the rows and the tokens of their frames, the rows with what belongs to each
            frame (riders, noise of its own); None: all frames are alike.
    """

    steps: int
    frames: int
    rows: Rows
    guidance: Guidance
    condition: Any
    ode: bool = False
    board: Callable[[Rows, Sequence[Any]], Rows] | None = None

    def of_step(self, step: int) -> Rows:
        return self.rows.part(step * self.frames, (step + 1) * self.frames)

    def boarded(self, tokens: Sequence[Any]) -> "Plan":
        """This plan for the frames of ``tokens``, one for each row."""
        if self.board is None:
            return self
        return replace(self, rows=self.board(self.rows, tokens), board=None)


@dataclass(frozen=True, slots=True)
class State:
    """What a step leaves of some rows, (rows, C, h, w) each.

    Attributes:
        clean: the clean latents that the rows have reached.
        residual: to the guidance what ``clean`` is to the picture: the clean latent of the
            counterpart (None: nothing yet).
        seen: the noise that the model saw, to be put back at the next step (None: fresh noise is).
    """

    clean: Array
    residual: Array | None = None
    seen: Array | None = None

    def taken(self, rows: "slice | list[int]") -> "State":
        residual, seen = self.residual, self.seen
        return State(
            self.clean[rows],
            None if residual is None else residual[rows],
            None if seen is None else seen[rows],
        )


@dataclass(frozen=True, slots=True)
class Asked:
    """A call of the U-Net that is still to be made, and what its answer is needed for."""

    plan: Plan
    rows: Rows
    noisy: Array  # (B, C, h, w)
    stock: Array | None  # (B, C, h, w), the noise that the counterpart is taken to have seen
    inputs: Array  # (negatives + B, C, h, w)
    timesteps: Array  # (negatives + B,)
    condition: Any
    negatives: int


Run = Generator[Asked, Array, T]
"""Yields what it asks the U-Net, is sent what that says (it holds until the next answer)."""


class Denoiser:
    """One denoising step of any rows."""

    def __init__(self, xp: Any, predict: Predict, prediction: Prediction) -> None:
        self.xp = xp
        self.predict = predict
        self._prediction = prediction

    def step(self, plan: Plan, rows: Rows, state: State) -> State:
        """Put noise onto the clean latents and take it off again, guided."""
        asked = self.begin(plan, rows, state)
        said = self.predict(asked.inputs, asked.timesteps, asked.condition, asked.negatives)
        return self.finish(asked, said)

    def through(self, plan: Plan, clean: Array, tokens: Sequence[Any] = ()) -> list[State]:
        """Take m frames through all steps, see :meth:`passing`."""
        return self.run(self.passing(plan, clean, tokens))

    def passing(self, plan: Plan, clean: Array, tokens: Sequence[Any] = ()) -> "Run[list[State]]":
        """Take m frames through all steps, one after the other, as the batch does row by row.

        Args:
            clean: latents of the frames, (m, C, h, w).
            tokens: of the m frames, where the plan asks whose rows they are.

        Returns:
            What every step left, n of m rows; the last one's clean latents are the pictures.
        """
        plan = plan.boarded([*tokens] * plan.steps)
        state, states = State(clean), []
        for step in range(plan.steps):
            asked = self.begin(plan, plan.of_step(step), state)
            state = self.finish(asked, (yield asked))
            states.append(state)
        return states

    def run(self, run: "Run[T]") -> T:
        """Ask the U-Net whatever ``run`` asks for, until it is done."""
        said: Array = None
        while True:
            try:
                asked = run.send(said)
            except StopIteration as end:
                made: T = end.value
                return made
            said = self.predict(asked.inputs, asked.timesteps, asked.condition, asked.negatives)

    def onward(self, plan: Plan, before: State, fresh: Array) -> Asked:  # of (m, C, h, w)
        """What the U-Net is to be asked to move each row on by a step, and m frames in.

        Args:
            before: what the last call left, of as many steps as the plan has.
        """
        state, m = State(fresh), plan.frames
        if plan.steps > 1:  # else nothing is in flight, and nothing is copied
            concatenate, rest = self.xp.concatenate, before.taken(slice(0, -m))
            residual = seen = None
            if rest.residual is not None:
                zeros = self.xp.zeros_like(fresh)
                residual = concatenate([zeros, rest.residual])
            if rest.seen is not None and plan.ode:
                seen = concatenate([plan.rows.eps[:m], rest.seen])
            state = State(concatenate([fresh, rest.clean]), residual, seen)
        return self.begin(plan, plan.rows, state)

    def begin(self, plan: Plan, rows: Rows, state: State) -> Asked:
        """What the U-Net is to be asked for a step."""
        eps = rows.eps if state.seen is None else state.seen  # (B, C, h, w)
        noisy = rows.signal * state.clean
        noisy += rows.added * eps
        stock = None
        if plan.guidance.remembers:
            stock = eps
            if state.residual is not None:
                stock = eps + rows.signal / rows.noise * state.residual
        # Rows that are to be computed under the negative prompt too, put before the others.
        inputs, at = noisy, rows.timesteps
        negatives = plan.guidance.negatives(len(noisy), rows.fresh)
        if negatives:
            inputs = self.xp.concatenate([noisy[:negatives], noisy])
            at = self.xp.concatenate([at[:negatives], at])
        condition = plan.condition.of(rows.riders) if rows.riders else plan.condition
        return Asked(plan, rows, noisy, stock, inputs, at, condition, negatives)

    def finish(self, asked: Asked, said: Array) -> State:  # of (negatives + B, C, h, w)
        """What the step leaves, now that the U-Net has spoken."""
        plan, rows, noisy = asked.plan, asked.rows, asked.noisy
        if self._prediction == "sample" and not plan.guidance.active and not plan.ode:
            # What the steps below come to when nothing is guided, without the detour over noise.
            noisy *= rows.skip
            noisy += rows.out * said
            return State(noisy)
        noise, stock = self._guided_noise(asked, said)
        residual = None
        if plan.guidance.remembers:
            residual = self._cleaned(rows, rows.noise * stock, noise)
        seen = noise if plan.ode and plan.steps > 1 else None
        return State(self._cleaned(rows, noisy, noise), residual, seen)

    def _guided_noise(
        self, asked: Asked, said: Array
    ) -> tuple[Array, Array | None]:  # (B, C, h, w) each
        guidance, rows, noisy = asked.plan.guidance, asked.rows, asked.noisy
        negatives, stock = asked.negatives, asked.stock
        wanted = self._as_noise(rows, noisy, said[negatives:])
        if not guidance.active:
            return wanted, None
        if negatives:
            counter = self._as_noise(rows.part(0, negatives), noisy[:negatives], said[:negatives])
        if stock is not None:
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
        self.denoiser = denoiser
        self.tokens: list[Token] = []
        """Whose the rows are, n * m."""

        self._steps = 0  # n of the rows; 0 before the first frame
        self._state = State(None)

    @property
    def empty(self) -> bool:
        return self._steps == 0

    @property
    def latents(self) -> Array:
        """The clean latents that the rows have reached, (n * m, C, h, w)."""
        return self._state.clean

    def clear(self) -> None:
        self._steps, self._state, self.tokens = 0, State(None), []

    def call(self, plan: Plan, fresh: Array, tokens: Sequence[Token]) -> tuple[Array, list[Token]]:
        """Take m new frames in and let m pictures out, see :meth:`calling`."""
        return self.denoiser.run(self.calling(plan, fresh, tokens))

    def calling(
        self, plan: Plan, fresh: Array, tokens: Sequence[Token]
    ) -> Run[tuple[Array, list[Token]]]:
        """Take m new frames in and let m pictures out, with the tokens of their frames.

        Args:
            fresh: clean latents of the frames, (m, C, h, w).
        """
        if self.empty:
            # As if the first frames had always been there: no picture is made of an empty buffer.
            states = yield from self.denoiser.passing(plan, fresh, tokens)
            return self._filled(plan, states, tokens)
        asked, aboard = self._begin(plan, fresh, tokens)
        return self._finish(asked, aboard, (yield asked))

    def _begin(
        self, plan: Plan, fresh: Array, tokens: Sequence[Token]
    ) -> tuple[Asked, list[Token]]:
        m = plan.frames
        before, waiting = self.fitted(plan)
        aboard = [*tokens, *waiting[:-m]]
        return self.denoiser.onward(plan.boarded(aboard), before, fresh), aboard

    def _finish(self, asked: Asked, aboard: list[Token], said: Array) -> tuple[Array, list[Token]]:
        state, m = self.denoiser.finish(asked, said), asked.plan.frames
        # Only now: a call that fails leaves the stream as it was.
        self.stand(asked.plan.steps, state, aboard)
        return state.clean[-m:], aboard[-m:]

    def stand(self, steps: int, state: State, tokens: list[Token]) -> None:
        """Be where a call has brought the rows."""
        self._steps, self._state, self.tokens = steps, state, tokens

    def _filled(
        self, plan: Plan, states: Sequence[State], tokens: Sequence[Token]
    ) -> tuple[Array, list[Token]]:
        self._steps, self.tokens = plan.steps, [*tokens] * plan.steps
        self._state = states[0] if plan.steps == 1 else self._stacked(states)
        return states[-1].clean, [*tokens]

    def _stacked(self, states: Sequence[State]) -> State:
        def stacked(parts: list[Array | None]) -> Array | None:
            there = [part for part in parts if part is not None]
            return self.denoiser.xp.concatenate(there) if len(there) == len(parts) else None

        return State(
            stacked([state.clean for state in states]),
            stacked([state.residual for state in states]),
            stacked([state.seen for state in states]),
        )

    def fitted(self, plan: Plan) -> tuple[State, list[Token]]:
        """The rows for a plan that may have more or fewer steps than the last one.

        Fewer: the oldest frames in flight are given up. More: the oldest stands in for those that
        would be older still, so the pictures wait for a moment but never go back and never come
        from nothing.
        """
        if plan.steps == self._steps:
            return self._state, self.tokens
        m, last = plan.frames, self._steps - 1
        at = [min(step, last) * m + frame for step in range(plan.steps) for frame in range(m)]
        return self._state.taken(at), [self.tokens[row] for row in at]
