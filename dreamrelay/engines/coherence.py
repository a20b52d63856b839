"""What of the pictures before goes into the next: feedback, smoothing, noise that moves along."""

from collections.abc import Callable, Sequence
from typing import Any

from dreamrelay.codec import Frame
from dreamrelay.engines.condition import Flight
from dreamrelay.engines.denoise import Array
from dreamrelay.engines.parameters import StreamBatchParameters


class Coherence:
    """The memory of a stream. Engines have one while a parameter asks for it, else none."""

    def __init__(self, xp: Any, placed: Callable[[Any], Array]) -> None:
        self._xp = xp
        self._placed = placed

    @staticmethod
    def asked_for(parameters: StreamBatchParameters) -> bool:
        """Whether any of it is switched on."""
        return False

    def clear(self) -> None:
        """Forget all."""

    def come_in(
        self,
        frames: Sequence[Frame],
        flights: Sequence[Flight],
        parameters: StreamBatchParameters,
        cells: tuple[int, int],
    ) -> Sequence[Frame]:
        return frames

    def mixed(
        self,
        fresh: Array,
        flights: Sequence[Flight],
        parameters: StreamBatchParameters,
        channels: int,
    ) -> Array:
        return fresh

    def noise(self, eps: Array, flights: Sequence[Flight]) -> Array:
        return eps

    def go_out(
        self,
        pictures: list[Frame],
        latents: Array,
        flights: Sequence[Flight],
        parameters: StreamBatchParameters,
    ) -> list[Frame]:
        return pictures
