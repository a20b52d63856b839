"""SpoutGL 0.1.1 without Windows: signatures from ``spoutgl_contract.json``, behaviour as it was
read.

The contract was extracted from the extension module of the Windows wheel. A call with another
number or kind of arguments, or of a method that is not there, fails here as it would there.
Behaviour, from the source of the wrapper and of Spout 2.007:

- ``createOpenGL`` belongs to a thread; without it the first transfer says False, later ones are
  slow;
- the set...Name methods return None; a sender's name that is taken gets a number, silently;
- ``receiveImage`` says True and writes nothing from a change until ``isUpdated`` was asked, once;
- a texture of another GPU is True for ever, of size 0x0;
- the first image after a connection can be all zeros.
"""

import json
import re
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
from numpy.typing import NDArray

CONTRACT: dict[str, Any] = json.loads(
    Path(__file__).with_name("spoutgl_contract.json").read_text("utf-8")
)
RGBA, BGRA, RGB, BGR = (
    CONTRACT["enums"][name] for name in ("GL_RGBA", "GL_BGRA_EXT", "GL_RGB", "GL_BGR_EXT")
)
DXGI_RGBA8, DXGI_BGRA8 = 28, 87

Pixels = NDArray[np.uint8]


@dataclass
class Shared:
    """A sender's texture, bytes as they lie there."""

    pixels: Pixels
    dxgi: int
    frame: int = 1
    readable: bool = True


@dataclass
class Gpu:
    """What the programs of one machine share."""

    senders: dict[str, Shared] = field(default_factory=dict)
    has_driver: bool = True
    swizzles: bool = True
    """Some drivers give the bytes as they lie, whatever order is asked for."""
    zeros_first: int = 0
    """So many images after a connection are empty."""
    slow: int = 0
    """Transfers that were made without a context on their thread."""
    open_contexts: int = 0
    synchronised: list[str] = field(default_factory=list)

    def show(self, name: str, rgb: Pixels, dxgi: int = DXGI_RGBA8) -> None:
        """Send as another program does."""
        colours = rgb if dxgi == DXGI_RGBA8 else rgb[:, :, ::-1]
        alpha = np.full((*rgb.shape[:2], 1), 255, np.uint8)
        frame = self.senders[name].frame + 1 if name in self.senders else 1
        self.senders[name] = Shared(np.concatenate([colours, alpha], 2), dxgi, frame)

    def seen(self, name: str) -> Pixels:
        """What a receiver of that name sees, R, G, B."""
        shared = self.senders[name]
        first = shared.pixels[:, :, :3]
        return first if shared.dxgi == DXGI_RGBA8 else first[:, :, ::-1]

    def modules(self) -> dict[str, ModuleType]:
        """What ``import SpoutGL`` finds."""
        root, enums, helpers = (
            ModuleType(name) for name in ("SpoutGL", "SpoutGL.enums", "SpoutGL.helpers")
        )
        vars(enums).update(CONTRACT["enums"])
        is_empty = _checked("isBufferEmpty", CONTRACT["helpers"]["isBufferEmpty"], _is_empty)
        vars(helpers)["isBufferEmpty"] = staticmethod(is_empty)
        for name, behaviour in (("SpoutSender", _Sender), ("SpoutReceiver", _Receiver)):
            vars(root)[name] = _class(name, behaviour, self)
        vars(root).update(enums=enums, helpers=helpers)
        return {module.__name__: module for module in (root, enums, helpers)}


class _End:
    """What sender and receiver have in common."""

    def __init__(self, gpu: Gpu) -> None:
        self.gpu = gpu
        self.context: int | None = None
        self.transfers = 0

    def createOpenGL(self) -> bool:
        if self.gpu.has_driver and self.context is None:
            self.context = threading.get_ident()
            self.gpu.open_contexts += 1
        return self.gpu.has_driver

    def getSenderInfo(self, name: str) -> Any:
        shared = self.gpu.senders.get(name)
        if shared is None:
            return None
        height, width = shared.pixels.shape[:2]
        return SimpleNamespace(name="", width=width, height=height)  # the name is never filled in

    def closeOpenGL(self) -> bool:
        assert self.context == threading.get_ident(), "closed on another thread than opened"
        self.context = None
        self.gpu.open_contexts -= 1
        return True

    def isGLDXReady(self) -> bool:
        return self.gpu.has_driver

    def getAutoShare(self) -> bool:
        return False

    def getCPUshare(self) -> bool:
        return False

    def transfer(self) -> bool:
        self.transfers += 1
        if self.context == threading.get_ident():
            return True
        self.gpu.slow += 1
        return self.transfers > 1


class _Sender(_End):
    name = ""

    def setSenderName(self, name: str) -> None:
        number = 0
        self.name = name
        while self.name in self.gpu.senders:
            number += 1
            self.name = f"{name}_{number}"

    def sendImage(
        self, buffer: Any, width: int, height: int, gl_format: int, invert: bool, fbo: int
    ) -> bool:
        channels = {RGBA: 4, BGRA: 4, RGB: 3, BGR: 3}.get(gl_format)
        if channels is None:
            raise ValueError("Unknown GL format")
        pixels = _view(buffer, width * height * channels).reshape(height, width, channels)
        if not self.transfer():
            return False
        assert gl_format == RGBA, "the fake has one order for senders"
        before = self.gpu.senders.get(self.name)
        frame = before.frame + 1 if before else 1
        turned = pixels[::-1] if invert else pixels
        self.gpu.senders[self.name] = Shared(turned.copy(), DXGI_RGBA8, frame)
        return True

    def setFrameSync(self, name: str) -> None:
        self.gpu.synchronised.append(name)

    def releaseSender(self) -> None:
        self.gpu.senders.pop(self.name, None)


class _Receiver(_End):
    def __init__(self, gpu: Gpu) -> None:
        super().__init__(gpu)
        self.wanted = ""
        self.disconnect()

    def disconnect(self) -> None:
        self.connected = ""
        self.size = (0, 0)
        self.dxgi = 0
        self.updated = False
        self.frame = 0
        self.new = False
        self.zeros = self.gpu.zeros_first

    def setReceiverName(self, name: str) -> None:
        self.wanted = name

    def receiveImage(self, buffer: Any, gl_format: int, invert: bool, fbo: int) -> bool:
        if gl_format not in (RGBA, BGRA):
            raise ValueError("Unknown GL format")
        name = self.wanted or next(iter(self.gpu.senders), "")
        shared = self.gpu.senders.get(name)
        if shared is None:
            self.disconnect()
            return False
        if not self.transfer():
            return False
        height, width = shared.pixels.shape[:2] if shared.readable else (0, 0)
        if (self.connected, self.size, self.dxgi) != (name, (width, height), shared.dxgi):
            if self.connected != name:
                self.zeros = self.gpu.zeros_first
            self.connected, self.size, self.dxgi = name, (width, height), shared.dxgi
            self.updated = True
        if self.updated or not shared.readable or buffer is None:
            return True
        target = _view(buffer, width * height * 4)[: width * height * 4]
        self.new = shared.frame != self.frame
        self.frame = shared.frame
        if self.zeros:
            self.zeros -= 1
            target[:] = 0
            return True
        lies_blue_first, wants_blue_first = shared.dxgi == DXGI_BGRA8, gl_format == BGRA
        swap = self.gpu.swizzles and lies_blue_first != wants_blue_first
        pixels = shared.pixels[:, :, [2, 1, 0, 3]] if swap else shared.pixels
        target[:] = (pixels[::-1] if invert else pixels).ravel()
        return True

    def isUpdated(self) -> bool:
        updated, self.updated = self.updated, False
        return updated

    def isFrameNew(self) -> bool:
        return self.new

    def getSenderWidth(self) -> int:
        return self.size[0]

    def getSenderHeight(self) -> int:
        return self.size[1]

    def getSenderFormat(self) -> int:
        return self.dxgi

    def getSenderName(self) -> int:
        return self.size[0]  # the bug of 0.1.1

    def getSenderList(self) -> list[str]:
        return list(self.gpu.senders)

    def releaseReceiver(self) -> None:
        self.disconnect()


def _view(buffer: Any, size: int) -> Pixels:
    view = memoryview(buffer)
    if not view.c_contiguous:
        raise BufferError("Buffer not contiguous")
    if view.nbytes < size:
        raise BufferError("Buffer not large enough")
    return np.frombuffer(view.cast("B"), np.uint8)


def _is_empty(buffer: Any) -> bool:
    return not any(memoryview(buffer).cast("B"))


def _class(name: str, behaviour: type[_End], gpu: Gpu) -> type:
    """A class with exactly the methods of the contract."""
    methods: dict[str, Any] = {"__init__": lambda self: setattr(self, "_real", behaviour(gpu))}
    for method, contract in {**CONTRACT["both"], **CONTRACT[name]}.items():
        if method.startswith("__") or not isinstance(contract, str):
            continue
        methods[method] = _checked(method, contract, _delegate(behaviour, method))
    return type(name, (), methods)


def _delegate(behaviour: type[_End], method: str) -> Callable[..., Any]:
    if not hasattr(behaviour, method):

        def missing(*_: Any) -> Any:
            raise NotImplementedError(f"teach the fake what {method} does")

        return missing
    return lambda self, *arguments: getattr(self._real, method)(*arguments)


_KINDS: dict[str, Callable[[Any], bool]] = {
    "bool": lambda value: isinstance(value, bool),
    "int": lambda value: isinstance(value, int) and not isinstance(value, bool),
    "str": lambda value: isinstance(value, str),
    "Buffer": lambda value: _is_buffer(value),
    "Optional[Buffer]": lambda value: value is None or _is_buffer(value),
    "object": lambda value: True,
    "%": lambda value: True,
}


def _is_buffer(value: Any) -> bool:
    try:
        memoryview(value)
    except TypeError:
        return False
    return True


def _checked(name: str, contract: str, real: Callable[..., Any]) -> Callable[..., Any]:
    """Refuse what pybind11 would refuse; positional arguments only."""
    kinds = re.findall(r"{([^}]*)}", contract.partition("->")[0])

    def call(*arguments: Any) -> Any:
        fits = len(arguments) == len(kinds) and all(
            _KINDS[kind](value) for kind, value in zip(kinds, arguments, strict=True)
        )
        if not fits:
            given = ", ".join(type(value).__name__ for value in arguments)
            raise TypeError(f"{name}(): incompatible function arguments {given}: {contract}")
        return real(*arguments)

    return call
