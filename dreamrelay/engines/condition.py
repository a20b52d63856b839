"""What the U-Net is told for each row of a call, and the frames whose rows these are."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

from dreamrelay.codec import Frame
from dreamrelay.engines.denoise import Array, Asked
from dreamrelay.engines.ports import Mask
from dreamrelay.engines.prompts import Embedding


@dataclass(slots=True, eq=False)
class Flight:
    """A frame on its way through the batch, with what belongs to it alone.

    Attributes:
        token: whose picture it will be.
        frame, mask: where the picture is to be laid over its frame.
        seen: what :meth:`BatchEngine._see` made of the frame (the maps of its ControlNets).
        told: what it came in under, where the prompt stays with its frame.
        moved: how far the noise has moved for it, see :mod:`coherence`.
    """

    token: Any
    frame: Frame | None = None
    mask: Mask | None = None
    seen: Any = None
    told: "Condition | None" = None
    moved: Any = None


class Told(Protocol):
    """What a call of the U-Net needs beside latents and timesteps.

    All take the number of rows of the call, of which the first ``negatives`` are under the
    negative prompt, and answer for each of them.
    """

    def rows(self, count: int, negatives: int) -> Embedding:
        """Tokens (count, words, width) and pooled (count, width)."""

    def seats(self, count: int, negatives: int) -> Sequence[Flight | None]:
        """Whose rows these are; None where it was not asked to matter."""

    def unwanted(self, count: int, negatives: int) -> Sequence[bool]:
        """Which rows are under the negative prompt."""


@dataclass(slots=True)
class Condition:
    """The prompts of a plan, repeated to as many rows as a call of the U-Net has.

    Attributes:
        prompt, negative: one row each; no negative prompt where guidance asks for none.
        follows: whether each frame keeps what it came in under.
        flights: whose rows these are, without those under the negative prompt; empty: all alike.
    """

    xp: Any
    prompt: Embedding
    negative: Embedding | None
    follows: bool = False
    flights: tuple[Flight, ...] = ()
    _rows: dict[tuple[int, int], Embedding] = field(default_factory=dict)

    def of(self, flights: Sequence[Flight]) -> "Condition":
        """The same for the rows of these frames."""
        return replace(self, flights=tuple(flights))

    def rows(self, count: int, negatives: int) -> Embedding:
        if self.follows and self.flights:
            return stacked(self.xp, self._own(negatives))
        key = (count, negatives)
        if key not in self._rows:
            rows = [self.prompt] * (count - negatives)
            if negatives and self.negative is not None:
                rows = [self.negative] * negatives + rows
            self._rows[key] = stacked(self.xp, rows)
        return self._rows[key]

    def seats(self, count: int, negatives: int) -> Sequence[Flight | None]:
        if not self.flights:
            return [None] * count
        return [*self.flights[:negatives], *self.flights]

    def unwanted(self, count: int, negatives: int) -> Sequence[bool]:
        return [row < negatives for row in range(count)]

    def _own(self, negatives: int) -> list[Embedding]:
        told = [flight.told or self for flight in self.flights]
        unwanted = [one.negative or self.negative or one.prompt for one in told[:negatives]]
        return [*unwanted, *(one.prompt for one in told)]


class JoinedCondition:
    """The conditions of several streams whose rows go through the U-Net in one call."""

    def __init__(self, xp: Any, asked: Sequence[Asked]) -> None:
        self._xp = xp
        self.asked = asked

    def rows(self, count: int, negatives: int) -> Embedding:
        return stacked(self._xp, [self._of(one) for one in self.asked])

    def seats(self, count: int, negatives: int) -> Sequence[Flight | None]:
        return [
            seat
            for one in self.asked
            for seat in one.condition.seats(len(one.inputs), one.negatives)
        ]

    def unwanted(self, count: int, negatives: int) -> Sequence[bool]:
        return [
            row
            for one in self.asked
            for row in one.condition.unwanted(len(one.inputs), one.negatives)
        ]

    @staticmethod
    def _of(asked: Asked) -> Embedding:
        told: Told = asked.condition
        return told.rows(len(asked.inputs), asked.negatives)


def stacked(xp: Any, embeddings: Sequence[Embedding]) -> Embedding:
    """Embeddings of one or more rows each, one below the other."""
    tokens: Array = xp.concatenate([one.tokens for one in embeddings])
    pooled = [one.pooled for one in embeddings if one.pooled is not None]
    return Embedding(tokens, xp.concatenate(pooled) if len(pooled) == len(embeddings) else None)
