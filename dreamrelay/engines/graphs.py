"""CUDA graphs: the kernels of a part recorded once, at the start, and launched as one from then on.

At small sizes a card waits for the processor that launches hundreds of kernels for each picture.
A graph is bound to the memory that it was recorded with: arguments are copied in, results out.
Weights that change in place, as those of fused LoRAs do, change what it says.
"""

import logging
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch.utils._pytree import tree_map

from dreamrelay.engines.accelerate import Builder, Call, Flat, compared

logger = logging.getLogger(__name__)

WHOLE = "whole frame"
"""The part that is all of a frame: a graph round what else are several."""

TOLERANCE = 1e-2
"""So far a graph may be from what it was recorded of, as a share of the greatest value."""

_WARM_UPS = 3  # in which libraries choose their kernels and take their memory


class Graphs:
    """A :data:`accelerate.Builder` whose forms are graphs, each checked against the plain form.

    What cannot be recorded, or says something else than the plain form, stays plain; the log says
    so in a line.

    Args:
        device: a CUDA card.
        inner: builds what is to be recorded; None: parts are recorded as they are.
    """

    def __init__(self, device: torch.device, inner: Builder | None = None) -> None:
        self._device = device
        self._inner = inner
        # All graphs share memory for what lies between argument and result, so one runs at a time.
        self._lock = threading.Lock()
        self._recording = False
        self._side: tuple[torch.cuda.Stream, Any] | None = None

    def __call__(self, call: Call) -> Flat:
        inner = None if call.name == WHOLE else self._inner  # its parts are compiled already
        return self.over(call, call.flat if inner is None else inner(call))

    def over(self, call: Call, plain: Flat) -> Flat:
        """A graph of ``plain``, or ``plain`` where there can be none."""
        try:
            form = self._recorded(call.leaves, plain)
            wrong = compared(form, plain, call.leaves, TOLERANCE)
        except Exception as error:  # noqa: BLE001 - of drivers never seen; the plain form serves
            wrong = " ".join(str(error).split())[:200] or type(error).__name__
        if wrong:
            logger.warning("graphs: %s is called without a CUDA graph (%s)", call.name, wrong)
            return plain
        return form

    def _recorded(self, leaves: Sequence[Any], run: Flat) -> Flat:
        here = torch.cuda.current_stream(self._device)
        if self._side is None:
            self._side = torch.cuda.Stream(self._device), torch.cuda.graph_pool_handle()
        side, pool = self._side
        graph = torch.cuda.CUDAGraph()
        side.wait_stream(here)
        with torch.cuda.stream(side), self._within():  # left again even if recording ends badly
            for _ in range(_WARM_UPS):
                run(leaves)
            # A viewer's or a codec's thread may use the card meanwhile.
            with torch.cuda.graph(graph, pool, side, capture_error_mode="thread_local"):
                made = run(leaves)
        here.wait_stream(side)
        places = _tensors(leaves)

        def form(given: Sequence[Any]) -> Any:
            if self._recording:  # a graph round this one takes in what this one was made of
                return run(given)
            with self._lock:
                for place, value in zip(places, _tensors(given), strict=True):
                    place.copy_(value)
                graph.replay()
                return tree_map(_own, made)

        return form

    @contextmanager
    def _within(self) -> Iterator[None]:
        self._recording = True
        try:
            yield
        finally:
            self._recording = False


def _tensors(leaves: Sequence[Any]) -> list[torch.Tensor]:
    return [leaf for leaf in leaves if torch.is_tensor(leaf)]


def _own(value: Any) -> Any:
    """A copy: the next replay writes over the original."""
    return value.clone() if torch.is_tensor(value) else value
