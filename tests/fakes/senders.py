"""Other programs that send, one for each technology, all with the same words."""

import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import numpy as np
import pytest

from dreamrelay.codec import Frame
from tests.fakes.devices import bars
from tests.fakes.ndi import OtherProgram, shared_program
from tests.fakes.network import own_network
from tests.fakes.spoutgl import DXGI_BGRA8, Gpu
from tests.fakes.syphon import BGRA8, Mac, Texture


class OtherSender:
    """A program that sends the test card, again and again.

    Attributes:
        url: what opens it as a source.
        timeout: seconds that such a source needs to be sure that there is nothing.
    """

    url: str
    timeout: float

    def show(self, width: int, height: int) -> None: ...
    def black(self, width: int, height: int) -> None: ...

    def silent(self) -> None:
        """Be there, but without a picture."""

    def vanish(self) -> None: ...


class _Repeated(OtherSender):
    """Shows its pictures in a thread of its own."""

    def __init__(
        self, show: Callable[[Frame], None], hide: Callable[[], None], silence: Callable[[], None]
    ) -> None:
        self._show, self._hide, self._silence = show, hide, silence
        self._frames: list[Frame] = []
        self._lock = threading.Lock()
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def show(self, width: int, height: int) -> None:
        self._set(bars(8, width, height))

    def black(self, width: int, height: int) -> None:
        self._set([np.zeros((height, width, 3), np.uint8)])

    def silent(self) -> None:
        self._set([])
        self._silence()

    def vanish(self) -> None:
        self._set([])
        self._hide()

    def end(self) -> None:
        self._ended.set()
        self._thread.join(30)

    def _set(self, frames: list[Frame]) -> None:
        with self._lock:
            self._frames = frames

    def _run(self) -> None:
        number = 0
        while not self._ended.wait(0.005):
            with self._lock:
                if self._frames:
                    self._show(self._frames[number % len(self._frames)])
            number += 1


class _Ndi(OtherSender):
    def __init__(self, program: OtherProgram) -> None:
        self._program = program
        self.url, self.timeout = f"ndi://{program.name}", 3.0

    def show(self, width: int, height: int) -> None:
        self._program.say("show", width, height)

    def black(self, width: int, height: int) -> None:
        self._program.say("black", width, height)

    def silent(self) -> None:
        self._program.say("silent")

    def vanish(self) -> None:
        self._program.say("vanish")


@contextmanager
def spout(patch: pytest.MonkeyPatch) -> Iterator[OtherSender]:
    gpu = Gpu(zeros_first=1)
    for name, module in gpu.modules().items():
        patch.setitem(sys.modules, name, module)
    patch.setattr("platform.system", lambda: "Windows")

    def silence() -> None:
        gpu.show("Stage", np.zeros((64, 64, 3), np.uint8))
        gpu.senders["Stage"].readable = False  # of size 0x0 to whoever receives

    sender = _Repeated(
        lambda frame: gpu.show("Stage", frame, DXGI_BGRA8),
        lambda: gpu.senders.clear(),
        silence,
    )
    sender.url, sender.timeout = "spout://Stage", 0.2
    yield sender
    sender.end()


@contextmanager
def syphon(patch: pytest.MonkeyPatch) -> Iterator[OtherSender]:
    mac = Mac()
    for name, module in mac.modules().items():
        patch.setitem(sys.modules, name, module)
    patch.setattr("platform.system", lambda: "Darwin")

    def silence() -> None:
        mac.show("Stage", np.zeros((64, 64, 3), np.uint8))
        mac.servers["Stage"].texture = Texture(0, 0)

    sender = _Repeated(
        lambda frame: mac.show("Stage", frame, BGRA8), lambda: mac.servers.clear(), silence
    )
    sender.url, sender.timeout = "syphon://Stage", 0.6
    yield sender
    sender.end()


@contextmanager
def ndi(patch: pytest.MonkeyPatch) -> Iterator[OtherSender]:
    """The real library, and another process."""
    with own_network():
        sender = _Ndi(shared_program())
        yield sender
        sender.vanish()


SENDERS = {"spout": spout, "syphon": syphon, "ndi": ndi}
