"""What figures ought to be, and what is said of them.

A mark has two steps: *pass*, below which something is wrong, and *stretch*, which is worth working
for. Marks are for the whole run on a quiet machine; no test asserts one.
"""

from dataclasses import dataclass
from typing import Literal

Verdict = Literal["stretch", "pass", "MISSED", ""]


@dataclass(frozen=True, slots=True)
class Mark:
    """A figure's two steps; ``less`` where the smaller figure is the better one."""

    passes: float
    stretch: float
    less: bool = False

    def __post_init__(self) -> None:
        if (self.stretch < self.passes) != self.less and self.stretch != self.passes:
            raise ValueError(f"expected stretch to be harder than pass, got {self}")

    def verdict(self, value: float) -> Verdict:
        """What is said of a value."""
        if self._reaches(value, self.stretch):
            return "stretch"
        return "pass" if self._reaches(value, self.passes) else "MISSED"

    def _reaches(self, value: float, step: float) -> bool:
        return value <= step if self.less else value >= step


@dataclass(frozen=True, slots=True)
class Row:
    """A line of the table: one figure."""

    name: str
    value: float
    mark: Mark | None = None

    @property
    def verdict(self) -> Verdict:
        """Empty where there is no mark."""
        return self.mark.verdict(self.value) if self.mark else ""


def at_least(passes: float, stretch: float) -> Mark:
    """The more the better."""
    return Mark(passes, stretch)


def at_most(passes: float, stretch: float) -> Mark:
    """The less the better."""
    return Mark(passes, stretch, less=True)


def change(value: float, before: float | None) -> float | None:
    """By which part a figure is more (or less, negative) than before; None if there was none."""
    return None if not before else value / before - 1


def short(value: float) -> str:
    """A figure with as many digits as it is worth."""
    size = abs(value)
    if size >= 10:
        return f"{value:.0f}"
    return f"{value:.2f}" if size >= 1 else f"{value:.3f}"
