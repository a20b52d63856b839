"""How much is measured: everything, or so little that it only shows that it runs."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

T = TypeVar("T")
Say = Callable[[str], None]
"""Hears how far it is."""

FRAMES = 100_000


@dataclass(frozen=True, slots=True)
class Effort:
    """What a part is given.

    Attributes:
        rounds: the contenders of a part take turns so often.
        quick: each part in a few seconds; its figures say nothing.
        frames: that memory is watched for.
    """

    rounds: int = 7
    quick: bool = False
    frames: int = FRAMES

    def pick(self, full: T, quick: T) -> T:
        """One of two values, by whether this is a quick run."""
        return quick if self.quick else full


QUICK = Effort(rounds=1, quick=True, frames=1_000)
