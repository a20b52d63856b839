"""Syphon: pictures from and to other programs on the same Mac, over the GPU.

``syphon://Name`` receives from the server of that name or of that application, or with that in
its name; ``syphon://`` from the first there is. As a sink it is the name others see.

What syphon-python 0.2 does, and this file lives with:

- The directory is made by the first look into it, asks the servers there are, and is empty until
  they have answered. Answers and news come to the main thread's run loop; a look turns the run loop
  of its own thread, for ``run_loop_interval`` seconds, one if nobody says otherwise. So where
  another thread reads, the main thread calls ``tend``.
- A received texture keeps its own order of colours: the pixel format says which.
- Syphon's pictures begin at the bottom: what is published is marked as flipped, and what is
  received is turned.
- Publishing hands the texture to the GPU and returns: the next frame goes into another texture.
"""

import platform
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import cv2

from dreamrelay.codec import Frame
from dreamrelay.errors import DeviceError
from dreamrelay.importer import Entry
from dreamrelay.media.address import Address
from dreamrelay.media.texture import (
    TextureSink,
    TextureSinkOptions,
    TextureSource,
    TextureSourceOptions,
    elsewhere,
    to_rgb,
)

RGBA8, BGRA8 = 70, 80
"""``MTLPixelFormatRGBA8Unorm`` and ``MTLPixelFormatBGRA8Unorm``."""

_USED = (
    ":SyphonMetalServer",
    ":SyphonMetalClient",
    ":SyphonServerDirectory",
    ".utils.raw:create_mtl_texture",
    ".utils.numpy:copy_image_to_mtl_texture",
    ".utils.numpy:copy_mtl_texture_to_image",
)
_TEXTURES = 3
_SEARCH_S = 0.25
_RUN_LOOP_S = 0.02
_ANSWERS_S = 0.3
"""Servers have answered after that."""


@dataclass(frozen=True, slots=True)
class Syphon:
    """The parts of syphon-python that are used here; untyped, so ``Any``."""

    server: Any
    client: Any
    directory: Any
    create_texture: Any
    to_texture: Any
    to_image: Any

    @classmethod
    def load(cls) -> "Syphon":
        """Import syphon-python.

        Raises:
            DeviceError: this is not macOS.
            MissingExtra: it is not installed.
        """
        if platform.system() != "Darwin":
            raise elsewhere("Syphon", "macOS")
        return cls(*(Entry(f"syphon{name}", "Syphon", "syphon").load() for name in _USED))


class SyphonSource(TextureSource):
    """The newest picture of a server."""

    def __init__(
        self, name: str, syphon: Syphon, *, timeout: float = 5.0, flip: bool = False
    ) -> None:
        super().__init__(name, timeout=timeout, flip=flip)
        self._syphon = syphon
        self._lock = threading.Lock()
        self._directory = syphon.directory()
        self._directory.run_loop_interval = _RUN_LOOP_S
        # Asked, and heard if this is the main thread, which it need not be later.
        _ = self._directory.servers, self._directory.servers
        self._client: Any = None
        self._search_at = 0.0
        self._there: list[str] = []

    def tend(self) -> None:
        directory = self._directory
        if directory is not None:
            directory.update_run_loop()

    def _newest(self) -> Frame | None:
        with self._lock:
            return None if self._closed.is_set() else self._look()

    def _let_go(self) -> None:
        with self._lock:
            self._disconnect()
            if self._directory is not None:
                self._directory.close()
                self._directory = None

    def _look(self) -> Frame | None:
        if self._client is None or not self._client.is_valid:
            self._search()
        client = self._client
        if client is None or not client.has_new_frame:
            return None
        texture = client.new_frame_image
        if texture is None or not texture.width() or not texture.height():
            return None
        form = texture.pixelFormat()
        if form not in (RGBA8, BGRA8):
            raise DeviceError(
                f"the Syphon server {self._name!r} publishes pixel format {form}:"
                " only RGBA and BGRA of 8 bits can be read"
            )
        frame = to_rgb(self._syphon.to_image(texture), blue_first=form == BGRA8)
        return frame if self._flip else cv2.flip(frame, 0)

    def _search(self) -> None:
        now = time.monotonic()
        if now < self._search_at:
            return
        self._search_at = now + _SEARCH_S
        self._disconnect()
        servers = self._directory.servers
        self._there = [label(server) for server in servers]
        found = best_match(servers, self._name)
        if found is not None:
            try:
                self._client = self._syphon.client(found)
            except RuntimeError as error:  # it went while we looked, or there is no Metal
                raise DeviceError(f"Syphon cannot connect to {label(found)!r}: {error}") from error

    def _disconnect(self) -> None:
        client, self._client = self._client, None
        if client is not None:
            client.stop()

    def _why_nothing(self) -> str:
        if self._client is not None:
            return f"the Syphon server {self._name!r} sent no new picture for {self._timeout:g} s"
        wanted = f"Syphon server {self._name!r}" if self._name else "Syphon server"
        there = ", ".join(self._there) or "none"
        return f"expected a {wanted}, found none for {self._timeout:g} s; servers: {there}"


class SyphonSink(TextureSink):
    """Publishes under a name."""

    def __init__(self, name: str, syphon: Syphon, *, flip: bool = False) -> None:
        super().__init__(name, flip=flip)
        self._syphon = syphon
        self._server: Any = None
        self._textures: list[Any] = []
        self._size = (0, 0)
        self._number = 0

    def _send(self, pixels: Frame) -> None:
        try:
            if self._server is None:
                self._server = self._syphon.server(self._name)
            self._publish(pixels)
        except RuntimeError as error:
            self._let_go()
            raise DeviceError(f"Syphon cannot publish as {self._name!r}: {error}") from error

    def _publish(self, pixels: Frame) -> None:
        height, width = pixels.shape[:2]
        if self._size != (width, height):
            device = self._server.device
            self._textures = [
                self._syphon.create_texture(device, width, height) for _ in range(_TEXTURES)
            ]
            self._size = (width, height)
        self._number += 1
        texture = self._textures[self._number % _TEXTURES]
        if texture is None:
            raise RuntimeError(f"no room for a texture of {width}x{height}")
        self._syphon.to_texture(pixels, texture)
        self._server.publish_frame_texture(texture, is_flipped=not self._flip)

    def _let_go(self) -> None:
        server, self._server = self._server, None
        self._textures, self._size = [], (0, 0)
        if server is not None:
            server.stop()


def label(server: Any) -> str:
    """What people call a server: its application, and its name if it has one."""
    return " - ".join(part for part in (server.app_name, server.name) if part) or server.uuid


def best_match(servers: Sequence[Any], wanted: str) -> Any:
    """The server of that name, else of that application, else with that in its label; or None."""

    def rank(server: Any) -> int | None:
        for place, name in enumerate((server.name, server.app_name, label(server))):
            if name == wanted:
                return place
        return 3 if wanted.lower() in label(server).lower() else None

    ranked = [(place, server) for server in servers if (place := rank(server)) is not None]
    return min(ranked, key=lambda pair: pair[0])[1] if ranked else None


def servers() -> list[str]:
    """What the servers there are are called. Ask in the main thread."""
    directory = Syphon.load().directory()
    directory.run_loop_interval = _RUN_LOOP_S
    try:
        deadline = time.monotonic() + _ANSWERS_S
        there = directory.servers
        while time.monotonic() < deadline:
            there = directory.servers
            time.sleep(0.01)
        return [label(server) for server in there]
    finally:
        directory.close()


def open_syphon_source(address: Address) -> SyphonSource:
    options = address.options(TextureSourceOptions)
    name = address.target.strip("/")
    return SyphonSource(name, Syphon.load(), timeout=options.timeout, flip=options.flip)


def open_syphon_sink(address: Address) -> SyphonSink:
    options = address.options(TextureSinkOptions)
    name = address.target.strip("/") or "dreamrelay"
    return SyphonSink(name, Syphon.load(), flip=options.flip)
