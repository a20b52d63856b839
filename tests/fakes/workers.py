"""What the tests of a worker share: colours, and a sink that keeps what it got."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest

from dreamrelay.codec import Frame
from dreamrelay.media import Sink
from dreamrelay.media.catalog import SINKS
from dreamrelay.worker import Worker
from tests.fakes.peers import Person
from tests.fakes.running import Running
from tests.support import mean_colour, until

BLUE = (0, 0, 255)
CYAN = (0, 255, 255)
"""Inverted red."""


Work = Callable[..., Running[Worker]]


def is_live(viewer: Person) -> None:
    until(lambda: viewer.status.get("state") == "live", what="a worker that is live")


def close_to(data: bytes, colour: tuple[int, int, int]) -> bool:
    return all(abs(a - b) < 16 for a, b in zip(mean_colour(data), colour, strict=True))


class Kept(Sink):
    """A sink that keeps what it got; ``before`` is called first and may wait or raise."""

    def __init__(self, before: Callable[[], object] = lambda: None) -> None:
        super().__init__()
        self.frames: list[Frame] = []
        self.tries = 0
        self.closes = 0
        self._before = before

    def write(self, frame: Frame) -> None:
        self.check(frame)
        self.tries += 1
        self._before()
        self.frames.append(frame.copy())

    def close(self) -> None:
        super().close()
        self.closes += 1


@contextmanager
def sink_scheme(monkeypatch: pytest.MonkeyPatch, sink: Sink) -> Iterator[str]:
    """Have ``kept://`` open that sink."""

    class Row:
        def load(self) -> Callable[[object], Sink]:
            return lambda _: sink

    monkeypatch.setitem(SINKS, "kept", Row())
    yield "kept://"
