"""Spout: pictures from and to other programs on the same Windows machine, over the GPU.

``spout://Name`` receives from, or sends as, that name; ``spout://`` receives from the active
sender.

What SpoutGL 0.1.1 does, and this file lives with:

- The OpenGL context belongs to a thread: ``createOpenGL`` is called where frames are received or
  sent.
- After a new sender or another size, ``receiveImage`` says True without writing a pixel until
  ``isUpdated`` was asked, which also clears that flag. So: ask, resize, and go on to the next
  image.
- A size of 0x0 means that the sender's texture cannot be opened (it is on another GPU).
- The first image may be all zeros.
- ``setReceiverName`` and ``setSenderName`` return None, and ``getSenderName`` a number: nobody asks
  them.
- A sender's name that is taken gets a number, and nobody is told. So the number is given here.
"""

import logging
import platform
import threading
from dataclasses import dataclass
from typing import Any

import numpy as np

from dreamrelay.codec import Frame
from dreamrelay.errors import DeviceError
from dreamrelay.importer import Entry
from dreamrelay.media.address import Address
from dreamrelay.media.texture import (
    POLL_S,
    TextureSink,
    TextureSinkOptions,
    TextureSource,
    TextureSourceOptions,
    elsewhere,
    to_rgb,
)

log = logging.getLogger(__name__)

DXGI_BGRA8 = 87
"""What ``getSenderFormat`` says of a texture with blue first."""

_ZERO_IMAGES = 10
"""So many empty images are waited out after a change; a sender that goes on is black on purpose."""

_USED = (
    ":SpoutReceiver",
    ":SpoutSender",
    ".helpers:isBufferEmpty",
    ".enums:GL_RGBA",
    ".enums:GL_BGRA_EXT",
)

_SEARCH_S = 0.1


@dataclass(frozen=True, slots=True)
class Spout:
    """The parts of SpoutGL that are used here; untyped, so ``Any``."""

    receiver: Any
    sender: Any
    is_empty: Any
    rgba: int
    bgra: int

    @classmethod
    def load(cls) -> "Spout":
        """Import SpoutGL.

        Raises:
            DeviceError: this is not Windows.
            MissingExtra: it is not installed.
        """
        if platform.system() != "Windows":
            raise elsewhere("Spout", "Windows")
        return cls(*(Entry(f"SpoutGL{name}", "Spout", "spout").load() for name in _USED))


class SpoutSource(TextureSource):
    """The newest picture of a sender."""

    def __init__(
        self, name: str, spout: Spout, *, timeout: float = 5.0, flip: bool = False
    ) -> None:
        super().__init__(name, timeout=timeout, flip=flip)
        self._spout = spout
        self._receiver: Any = None
        self._thread = 0
        self._connected = False
        self._pixels: Frame | None = None
        self._gl_format = spout.rgba
        self._zeros_left = _ZERO_IMAGES

    def _newest(self) -> Frame | None:
        receiver = self._opened()
        self._connected = receiver.receiveImage(self._pixels, self._gl_format, self._flip, 0)
        self._pause = POLL_S if self._connected else _SEARCH_S
        if not self._connected or not self._is_picture(receiver):
            return None
        assert self._pixels is not None
        return to_rgb(self._pixels, blue_first=self._gl_format == self._spout.bgra)

    def _is_picture(self, receiver: Any) -> bool:
        """After a ``receiveImage`` that said True: is there a picture in the buffer?"""
        if receiver.isUpdated():
            width, height = receiver.getSenderWidth(), receiver.getSenderHeight()
            blue_first = receiver.getSenderFormat() == DXGI_BGRA8
            # Some drivers do not swap for us, so a texture is asked for in its own order.
            self._gl_format = self._spout.bgra if blue_first else self._spout.rgba
            self._pixels = np.zeros((height, width, 4), np.uint8) if width and height else None
            self._zeros_left = _ZERO_IMAGES
            return False
        if self._pixels is None:
            return False
        new = receiver.isFrameNew()
        if self._zeros_left:  # nothing was shown since the change, so new or not does not matter
            if self._spout.is_empty(self._pixels):
                self._zeros_left -= bool(new)
                return False
            self._zeros_left = 0
            return True
        return bool(new)

    def _why_nothing(self) -> str:
        connected = self._connected
        wanted = f"Spout sender {self._name!r}" if self._name else "active Spout sender"
        if connected and self._pixels is None:
            return f"the {wanted} cannot be read: does it run on another graphics card?"
        if connected:
            return f"the {wanted} sent no new picture for {self._timeout:g} s"
        there = ", ".join(self._opened().getSenderList()) or "none"
        return f"expected a {wanted}, found none for {self._timeout:g} s; senders: {there}"

    def _opened(self) -> Any:
        if self._receiver is not None and self._thread != threading.get_ident():
            self._let_go()
        if self._receiver is None:
            receiver = self._spout.receiver()
            _create_context(receiver)
            if self._name:
                receiver.setReceiverName(self._name)
            self._receiver, self._thread = receiver, threading.get_ident()
            self._pixels = None
        return self._receiver

    def _let_go(self) -> None:
        receiver = self._receiver
        if receiver is None:
            return
        if self._thread == threading.get_ident():
            self._receiver = None
            receiver.releaseReceiver()
            receiver.closeOpenGL()
        elif not self._closed.is_set():
            # Another thread reads from now on; the old context cannot be closed from here.
            self._receiver = None


class SpoutSink(TextureSink):
    """Sends as a name; if another program has that one, with a number behind it."""

    def __init__(self, name: str, spout: Spout, *, flip: bool = False) -> None:
        super().__init__(name, flip=flip)
        self._spout = spout
        self._sender: Any = None
        self._seen_as = name
        self._thread = 0

    def _send(self, pixels: Frame) -> None:
        if self._sender is None or self._thread != threading.get_ident():
            self._open()
        height, width = pixels.shape[:2]
        if not self._sender.sendImage(pixels, width, height, self._spout.rgba, self._flip, 0):
            raise DeviceError(f"Spout did not take a picture of {width}x{height} as {self._name!r}")
        # Receivers that wait for us, and do not poll, are woken by this.
        self._sender.setFrameSync(self._seen_as)

    def _let_go(self) -> None:
        sender, self._sender = self._sender, None
        if sender is not None:
            sender.releaseSender()
            if self._thread == threading.get_ident():
                sender.closeOpenGL()

    def _open(self) -> None:
        if self._sender is not None:
            self._sender.releaseSender()
        sender = self._spout.sender()
        _create_context(sender)
        self._seen_as = self._free_name()
        sender.setSenderName(self._seen_as)
        self._sender, self._thread = sender, threading.get_ident()

    def _free_name(self) -> str:
        """The name, or the one that Spout would make of it because it is taken."""
        taken = self._spout.receiver().getSenderList()
        name, number = self._name, 0
        while name in taken:
            number += 1
            name = f"{self._name}_{number}"
        if number:
            log.warning(
                "another program sends as %r by Spout: this one is seen as %r", self._name, name
            )
        return name


def _create_context(end: Any) -> None:
    if not end.createOpenGL():
        raise DeviceError("Spout got no OpenGL context; is there a graphics driver?")


def senders() -> list[tuple[str, str]]:
    """Names of the senders there are, and their sizes."""
    receiver = Spout.load().receiver()
    there = []
    for name in receiver.getSenderList():
        info = receiver.getSenderInfo(name)
        there.append((name, "" if info is None else f"{info.width}x{info.height}"))
    return there


def open_spout_source(address: Address) -> SpoutSource:
    options = address.options(TextureSourceOptions)
    name = address.target.strip("/")
    return SpoutSource(name, Spout.load(), timeout=options.timeout, flip=options.flip)


def open_spout_sink(address: Address) -> SpoutSink:
    options = address.options(TextureSinkOptions)
    name = address.target.strip("/") or "dreamrelay"
    return SpoutSink(name, Spout.load(), flip=options.flip)
