"""A CUDA card on the processor: streams, events, pinned memory and graphs, nothing of its speed.

Every call is bound to the signature of the real function of torch, so one that the real one would
refuse fails here too. Behaviour, as torch and CUDA document it:

- what a stream is given waits in its queue, as long as it can: until somebody synchronises with
  the stream or an event on it, or with another stream that waits for it. Memory that is to be
  written meanwhile holds rubbish. So a wait that is missing shows in the pixels, every time;
- only copies between the card and pinned memory, asked for with ``non_blocking``, wait;
- memory belongs to the stream it was allocated on; a use on another is to be told
  (``record_stream``), see :attr:`Card.unrecorded`;
- while a graph is recorded nothing is computed, and nothing may be asked of the card;
- a replay does the same again, in the same memory.

Tensors of the card are tensors of the processor that the card knows. Other devices, priorities,
interprocess events, and libraries that take memory while a graph is recorded are not modelled.
"""

import inspect
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial, wraps
from typing import Any

import pytest
import torch
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_leaves

RUBBISH = 0xAB
FORBIDDEN = ("cpu", "item", "numpy", "tolist", "tensor", "__bool__", "__float__", "__int__")
"""What cannot be asked for while a graph is recorded."""

Op = Callable[[], object]


def like(real: Any) -> Callable[[Any], Any]:
    """A stand-in that takes exactly what the real one takes."""
    signature = inspect.signature(real)

    def over(fake: Any) -> Any:
        @wraps(fake)
        def checked(*args: Any, **options: Any) -> Any:
            bound = signature.bind(*args, **options)
            bound.apply_defaults()
            return fake(*bound.args, **bound.kwargs)

        return checked

    return over


def tensors(*values: Any) -> list[torch.Tensor]:
    return [leaf for leaf in tree_leaves(values) if isinstance(leaf, torch.Tensor)]


def place(tensor: torch.Tensor) -> int:
    """Of a tensor's memory."""
    return int(tensor.untyped_storage().data_ptr())


class Stream:
    """Operations that wait in a queue."""

    def __init__(self, card: "Card", name: str) -> None:
        self.card, self.name = card, name
        self.queue: list[Op] = []
        self._done = 0

    def run(self, until: int | None = None) -> None:
        """Do what was asked for, up to a place in the queue."""
        until = len(self.queue) if until is None else until
        while self._done < until:
            self._done += 1
            with torch._C.DisableTorchFunction():  # of the card, not asked of it
                self.queue[self._done - 1]()

    def after(self, other: "Stream", until: int) -> None:
        """What comes now comes after what the other was given so far."""
        self.queue.append(lambda: other.run(until))

    @like(torch.cuda.Stream.wait_event)
    def wait_event(self, event: "Event") -> None:
        self.card.log.append(f"{self.name} waits for {event.name}")
        if event.at is not None:
            self.after(*event.at)

    @like(torch.cuda.Stream.wait_stream)
    def wait_stream(self, stream: "Stream") -> None:
        self.card.log.append(f"{self.name} waits for {stream.name}")
        self.after(stream, len(stream.queue))

    @like(torch.cuda.Stream.synchronize)
    def synchronize(self) -> None:
        self.run()


class Event:
    """A place in the queue of a stream."""

    def __init__(self, card: "Card", name: str) -> None:
        self.card, self.name = card, name
        self.at: tuple[Stream, int] | None = None

    @like(torch.cuda.Event.record)
    def record(self, stream: Stream | None) -> None:
        stream = stream or self.card.current
        self.card.log.append(f"{self.name} on {stream.name}")
        self.at = stream, len(stream.queue)

    @like(torch.cuda.Event.synchronize)
    def synchronize(self) -> None:
        self.card.log.append(f"host waits for {self.name}")
        if self.at is not None:
            self.at[0].run(self.at[1])


class Graph:
    """What was computed while it was recorded."""

    def __init__(self, card: "Card") -> None:
        self.card = card
        self.tape: list[tuple[Any, Any, Any, list[torch.Tensor]]] = []

    @like(torch.cuda.CUDAGraph.replay)
    def replay(self) -> None:
        self.card.log.append("replay")
        for func, args, options, results in self.tape:
            for old, new in zip(results, tensors(func(*args, **options)), strict=True):
                if old.data_ptr() != new.data_ptr():
                    old.copy_(new)
        if self.card.miscounts:
            self.tape[-1][3][-1].add_(self.card.miscounts)


class Recorder(TorchFunctionMode):  # type: ignore[misc]
    """Writes down what is computed."""

    def __init__(self, graph: Graph) -> None:
        super().__init__()
        self.graph = graph
        self.given: set[int] = set()
        self.made: dict[int, torch.Tensor] = {}

    def __torch_function__(
        self, func: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:  # of the class above
        options = kwargs or {}
        if getattr(func, "__name__", "") in FORBIDDEN:
            raise RuntimeError("CUDA error: operation not permitted when stream is capturing")
        self.given |= {place(one) for one in tensors(args, options)} - self.made.keys()
        made = func(*args, **options)
        results = tensors(made)
        if results:
            self.graph.tape.append((func, args, options, results))
        self.made |= {place(one): one for one in results if place(one) not in self.given}
        return made

    def forget(self) -> None:
        """Nothing was computed."""
        for tensor in self.made.values():
            if tensor.is_floating_point():
                tensor.fill_(float("nan"))


class Card:
    """The state of the card, and what is to go wrong with it."""

    def __init__(self, *, lazy: bool) -> None:
        self.lazy = lazy
        self.log: list[str] = []
        """What was asked of streams and events, in order."""
        self.pinned_left = 1 << 30
        """Bytes that can still be pinned."""
        self.pins: set[int] = set()
        self.refuses_graphs = ""
        """What recording says, if it fails."""
        self.miscounts = 0.0
        """So far replays are off."""
        self.graphs: list[Graph] = []
        self.unrecorded: set[tuple[int, str]] = set()
        """Memory and the stream that used it, without being told of."""
        self.default = Stream(self, "computing")
        self._here = threading.local()
        self._streams = self._events = 0
        self._owners: dict[int, Stream] = {}
        self._told: set[tuple[int, str]] = set()
        self._kept: list[torch.Tensor] = []  # so that no address comes twice
        self._sides: dict[Any, Any] = {}

    @property
    def current(self) -> Stream:
        stream: Stream = getattr(self._here, "stream", self.default)
        return stream

    # What stands in torch.cuda -------------------------------------------------------------------

    def modules(self) -> dict[str, Any]:
        @like(torch.cuda.Stream)
        def new_stream(*args: Any, **options: Any) -> Stream:
            self._streams += 1
            return Stream(self, f"copying {self._streams}")

        @like(torch.cuda.Event)
        def new_event(*args: Any) -> Event:
            self._events += 1
            return Event(self, f"event {self._events}")

        @like(torch.cuda.CUDAGraph)
        def new_graph(keep_graph: bool) -> Graph:
            self.graphs.append(Graph(self))
            return self.graphs[-1]

        @contextmanager
        def on_stream(stream: Stream) -> Iterator[None]:
            before, self._here.stream = self.current, stream
            try:
                yield
            finally:
                self._here.stream = before

        @contextmanager
        def recording(graph: Graph, pool: Any, stream: Stream, *more: Any) -> Iterator[None]:
            assert self._sides.setdefault(pool, stream) is stream, "one stream for one pool"
            # As the real one: it is not left again if recording fails.
            self._here.stream = stream
            recorder = Recorder(graph)
            with recorder:
                yield
            if self.refuses_graphs:
                raise RuntimeError(self.refuses_graphs)
            recorder.forget()
            self._here.stream = self.default

        return {
            "Stream": new_stream,
            "Event": new_event,
            "CUDAGraph": new_graph,
            "stream": like(torch.cuda.stream)(on_stream),
            "graph": like(torch.cuda.graph)(recording),
            "current_stream": like(torch.cuda.current_stream)(lambda device: self.current),
            "graph_pool_handle": like(torch.cuda.graph_pool_handle)(lambda: (0, 1)),
        }

    # Copies and computing ------------------------------------------------------------------------

    def pin(self, *args: Any, **options: Any) -> torch.Tensor:
        memory = torch.empty(*args, **{**options, "pin_memory": False}).fill_(RUBBISH)
        self.pinned_left -= memory.nbytes
        if self.pinned_left < 0:
            raise RuntimeError("CUDA error: out of memory (cudaHostAlloc)")
        self.pins.add(place(memory))
        self._kept.append(memory)
        return memory

    def up(self, tensor: torch.Tensor, non_blocking: bool) -> torch.Tensor:
        above = self._mine(torch.empty_like(tensor).fill_(RUBBISH))
        self._copy(above, tensor, non_blocking and place(tensor) in self.pins)
        return above

    def down(self, host: torch.Tensor, tensor: torch.Tensor, non_blocking: bool) -> torch.Tensor:
        self._used([tensor])
        self._copy(host, tensor, non_blocking and place(host) in self.pins)
        return host

    def _copy(self, to: torch.Tensor, of: torch.Tensor, waits: bool) -> None:
        self.log.append(f"copy on {self.current.name}")
        self.current.queue.append(lambda: to.copy_(of))
        if not waits:
            self.current.run()

    def compute(self, func: Any, args: Any, options: Any) -> Any:
        given = [one for one in tensors(args, options) if self.knows(one)]
        self._used(given)
        if not self.lazy:
            self.current.run()
            return func(*args, **options)
        made = func(*args, **options)
        for one in tensors(made):
            if place(one) in map(place, given):
                continue  # another look at the same memory
            self._mine(one.fill_(RUBBISH))
            self.current.queue.append(partial(self._again, one, func, args, options))
        return made

    @staticmethod
    def _again(made: torch.Tensor, func: Any, args: Any, options: Any) -> None:
        made.copy_(func(*args, **options))

    def knows(self, tensor: torch.Tensor) -> bool:
        return place(tensor) in self._owners

    def tell(self, tensor: torch.Tensor, stream: Stream) -> None:
        self._told.add((place(tensor), stream.name))
        self.unrecorded -= self._told

    def _mine(self, tensor: torch.Tensor) -> torch.Tensor:
        self._kept.append(tensor)
        self._owners[place(tensor)] = self.current
        return tensor

    def _used(self, given: list[torch.Tensor]) -> None:
        for one in given:
            owner = self._owners.get(place(one), self.current)
            if owner is not self.current:
                self.unrecorded |= {(place(one), self.current.name)} - self._told


class Bus(TorchFunctionMode):  # type: ignore[misc]
    """Between the program and the card."""

    def __init__(self, card: Card) -> None:
        super().__init__()
        self.card = card

    def __torch_function__(
        self, func: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:  # of the class above
        card, options = self.card, kwargs or {}
        if func is torch.empty and options.get("pin_memory"):
            return card.pin(*args, **options)
        if func is torch.Tensor.to and str(args[1:2]).count("cuda"):
            return card.up(args[0], options.get("non_blocking", False))
        if func is torch.Tensor.copy_ and place(args[0]) in card.pins:
            return card.down(args[0], args[1], options.get("non_blocking", False))
        if not any(map(card.knows, tensors(args, options))):
            return func(*args, **options)
        if func in (torch.Tensor.cpu, torch.equal):
            card.current.run()
            made = func(*args, **options)
            return made.clone() if isinstance(made, torch.Tensor) else made
        return card.compute(func, args, options)


@contextmanager
def installed(patch: pytest.MonkeyPatch, *, lazy: bool = True) -> Iterator[Card]:
    """A card is there while the ``with`` lasts.

    Args:
        lazy: what is computed of its tensors waits in the queue as well; no operation may work in
            place then.
    """
    card = Card(lazy=lazy)
    with ExitStack() as stack:
        within = stack.enter_context(patch.context())
        for name, fake in card.modules().items():
            within.setattr(torch.cuda, name, fake)
        within.setattr(torch.Tensor, "record_stream", lambda *args: card.tell(*args))
        stack.enter_context(Bus(card))
        yield card
