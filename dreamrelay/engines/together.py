"""Pictures of several streams over one model, in as few calls of the model as there can be.

What makes a picture is a generator: where it needs the model it yields what it asks for, and is
sent the answer. :func:`alone` answers one of them; :func:`together` drives several side by side,
and what they ask for at the same time is one call. Each keeps its own steps, noise, guidance and
prompts; only the shape of latents has to be the same.

A call that fails is made again for each of them alone, so that one which cannot be computed, or
memory that is too small for all of them, costs nobody else a picture.
"""

import logging
from collections import deque
from collections.abc import Callable, Generator, Hashable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import partial
from typing import Any, Generic, Protocol, TypeVar, runtime_checkable

from dreamrelay.codec import Frame
from dreamrelay.engines.condition import JoinedCondition
from dreamrelay.engines.denoise import Array, Asked, Denoiser
from dreamrelay.engines.ports import FRAME_ERRORS, Coming, Outcome, Result, Turn
from dreamrelay.errors import EngineError

logger = logging.getLogger(__name__)

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Encoding:
    """Frames whose clean latents (m, C, h, w) are asked for."""

    frames: Sequence[Frame]


@dataclass(frozen=True, slots=True)
class Decoding:
    """Clean latents (m, C, h, w) whose pictures are asked for."""

    latents: Array


@dataclass(frozen=True, slots=True)
class Landing:
    """Pictures that are on their way already."""

    land: Coming[list[Frame]]


Wanted = Encoding | Asked | Decoding | Landing
Making = Generator[Wanted, Any, T]
"""Yields what it asks the model for, is sent the answer, and returns what it made."""

ORDER = (Encoding, Asked, Decoding, Landing)
"""What is answered first where several things are asked for: pictures that take more steps catch
up, so that all go through the decoder at once."""


class Calls(Protocol):
    """What a model is called by."""

    @property
    def xp(self) -> Any: ...

    @property
    def errors(self) -> tuple[type[Exception], ...]: ...

    @property
    def denoiser(self) -> Denoiser: ...

    def encode(self, frames: Sequence[Frame], /) -> Array: ...

    def decode(self, latents: Array, /) -> list[Frame]: ...

    def part_ways(self, count: int, error: Exception) -> Callable[[], None]:
        """Take notice that so many could not be answered in one call.

        Returns:
            What is to be done once the error, and all that it holds, is gone.
        """


class Begins(Calls, Protocol):
    """A model that need not be waited for."""

    def decoding(self, latents: Array, /) -> Coming[list[Frame]]:
        """Begin to decode."""


class Once(Generic[T]):
    """A picture that is waited for once, by whoever asks first; it may turn out an error.

    Args:
        wait: returns it, or raises one of ``FRAME_ERRORS``.
    """

    def __init__(self, wait: Callable[[], T]) -> None:
        self._wait: Callable[[], T] | None = wait
        self._picture: T | Exception

    @property
    def down(self) -> bool:
        """Whether nobody has to wait any more."""
        return self._wait is None

    def settle(self) -> None:
        """Wait; whoever asks later gets what it was."""
        wait, self._wait = self._wait, None
        if wait is not None:
            try:
                self._picture = wait()
            except FRAME_ERRORS as error:
                self._picture = error

    def __call__(self) -> T:
        self.settle()
        if isinstance(self._picture, Exception):
            raise self._picture
        return self._picture


class UnderWay:
    """Pictures of one stream that were begun."""

    def __init__(self) -> None:
        self._pictures: deque[Once[Any]] = deque()

    def add(self, picture: Coming[T]) -> Coming[T]:
        """The picture, as one that may be waited for from here as well."""
        once = Once(picture.take)
        while self._pictures and self._pictures[0].down:
            self._pictures.popleft()
        self._pictures.append(once)
        return Coming(once, picture.signal)

    def settle(self) -> None:
        """Wait for them, before anything that builds on them or puts an end to what they belong
        to; whoever began them still gets them.
        """
        while self._pictures:
            self._pictures.popleft().settle()


@runtime_checkable
class Shares(Calls, Protocol):
    """An engine whose pictures can be made beside those of others over the same model."""

    def likeness(self, patch: Mapping[str, Any] | None) -> Hashable:
        """What its next picture, or a single one under ``patch``, has to have in common with those
        in the same call.
        """

    def making(self, turn: Turn) -> Making[Result[Any] | None]: ...

    def computing(self) -> AbstractContextManager[None]:
        """What to be in while the model is called; makes an EngineError of what it raises."""


def make_together(turns: Sequence[Turn]) -> list[Outcome]:
    """See :meth:`ports.Engine.infer_together`."""
    outcomes: list[Outcome] = [None] * len(turns)
    alike: dict[Hashable, list[tuple[int, Shares, Turn]]] = {}
    for at, turn in enumerate(turns):
        engine = turn.engine
        if not isinstance(engine, Shares):
            raise EngineError(f"expected streams over one model, got one of {engine.model_name}")
        try:
            alike.setdefault(engine.likeness(turn.patch), []).append((at, engine, turn))
        except FRAME_ERRORS as error:
            outcomes[at] = error
    for group in alike.values():
        with group[0][1].computing():
            made = together(group[0][1], [engine.making(turn) for _, engine, turn in group])
        for (at, shares, _), one in zip(group, made, strict=True):
            outcomes[at] = _outcome(shares, one)
    return outcomes


def _outcome(engine: Shares, made: Any) -> Outcome:
    if not isinstance(made, Exception):
        outcome: Outcome = made
        return outcome
    try:
        with engine.computing():
            raise made
    except FRAME_ERRORS as error:
        return error


def alone(calls: Calls, making: Making[T]) -> T:
    """Make one picture."""
    answer: Any = None
    while True:
        try:
            wanted = making.send(answer)
        except StopIteration as end:
            made: T = end.value
            return made
        answer = _answer(calls, wanted)


def begun(calls: Begins, making: Making[T]) -> Coming[T]:
    """Make one picture, all but waiting for it."""
    answer: Any = None
    while True:
        try:
            wanted = making.send(answer)
        except StopIteration as end:
            return Coming(partial(_as_it_is, end.value))
        if isinstance(wanted, Decoding):
            wanted = Landing(calls.decoding(wanted.latents))
        if isinstance(wanted, Landing):
            break
        answer = _answer(calls, wanted)

    def land(pictures: list[Frame]) -> T:
        try:
            making.send(pictures)
        except StopIteration as end:
            made: T = end.value
            return made
        raise RuntimeError("pictures are the last that is asked for")

    return wanted.land.then(land)


def _as_it_is(made: T) -> T:
    return made


def together(calls: Calls, makings: Sequence[Making[T]]) -> list[T | Exception]:
    """Make several pictures side by side.

    Args:
        calls: of the model that all of them are over.

    Returns:
        What each of them made, or the error that ended it.
    """
    made: list[Any] = [None] * len(makings)
    waiting: dict[int, Wanted] = {}
    expected: tuple[type[Exception], ...] = (*FRAME_ERRORS, *calls.errors)

    def advance(at: int, answer: Any) -> None:
        making = makings[at]
        try:
            failed = isinstance(answer, Exception)
            waiting[at] = making.throw(answer) if failed else making.send(answer)
        except StopIteration as end:
            made[at] = end.value
        except expected as error:
            made[at] = error

    for at in range(len(makings)):
        advance(at, None)
    while waiting:
        kind = next(kind for kind in ORDER if any(isinstance(w, kind) for w in waiting.values()))
        turn = [at for at, wanted in waiting.items() if isinstance(wanted, kind)]
        answers = _answers(calls, [waiting.pop(at) for at in turn])
        for at, answer in zip(turn, answers, strict=True):
            advance(at, answer)
    return made


def _answers(calls: Calls, wanted: Sequence[Any]) -> list[Any]:
    """The answers to what is asked for, all of one kind, or what kept one from being given."""
    if len(wanted) > 1 and not isinstance(wanted[0], Landing):
        try:
            return _joined(calls, wanted)
        except calls.errors as error:
            relieve = calls.part_ways(len(wanted), error)
        relieve()
    answers: list[Any] = []
    for one in wanted:
        try:
            answer = _answer(calls, one)
            if len(wanted) > 1 and not isinstance(one, Decoding):
                answer = calls.xp.concatenate([answer])  # the next call may write to its memory
            answers.append(answer)
        except calls.errors as error:
            answers.append(error)
    return answers


def _answer(calls: Calls, wanted: Wanted) -> Any:
    match wanted:
        case Encoding(frames):
            return calls.encode(frames)
        case Decoding(latents):
            return calls.decode(latents)
        case Landing(land):
            return land()
        case asked:
            predict = calls.denoiser.predict
            return predict(asked.inputs, asked.timesteps, asked.condition, asked.negatives)


def _joined(calls: Calls, wanted: Sequence[Any]) -> list[Any]:
    """The answers, given by one call."""
    concatenate = calls.xp.concatenate
    match wanted[0]:
        case Encoding():
            sizes = [len(one.frames) for one in wanted]
            said: Any = calls.encode([frame for one in wanted for frame in one.frames])
        case Decoding():
            sizes = [len(one.latents) for one in wanted]
            said = calls.decode(concatenate([one.latents for one in wanted]))
        case _:
            sizes = [len(one.inputs) for one in wanted]
            said = calls.denoiser.predict(
                concatenate([one.inputs for one in wanted]),
                concatenate([one.timesteps for one in wanted]),
                JoinedCondition(calls.xp, wanted),
                0,
            )
    answers, start = [], 0
    for size in sizes:
        answers.append(said[start : start + size])
        start += size
    return answers
