"""Clients that cost as little as possible: they say the right words and count pictures.

A viewer does not look at what it is sent, so the kernel may throw the bytes away (``MSG_TRUNC``,
Linux only; elsewhere they are copied into one buffer and forgotten).
"""

import base64
import json
import os
import selectors
import socket
import struct
import sys
import time
import zlib
from abc import ABC, abstractmethod
from collections.abc import Sequence

from benchmarks.comparisons import LENGTH

DISCARD = int(socket.MSG_TRUNC) if sys.platform == "linux" else 0
RECEIVE_BUFFER = 1024 * 1024
LARGE = 16_384
"""A text message of so many bytes has a picture in it; binary messages are pictures anyway."""

_scrap = bytearray(1024 * 1024)
_TEXT, _BINARY, _CLOSE = 1, 2, 8
_COMPRESSED = 0x40


def connect(port: int, receive_buffer: int | None = RECEIVE_BUFFER) -> socket.socket:
    """A TCP connection whose receive buffer has room for several pictures; None: as systems do."""
    client = socket.socket()
    if receive_buffer is not None:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
    client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    client.settimeout(30)
    try:
        client.connect(("127.0.0.1", port))
    except OSError:
        client.close()
        raise
    return client


def upgrade(
    port: int, path: str, *, deflate: bool = False, receive_buffer: int | None = RECEIVE_BUFFER
) -> socket.socket:
    """A WebSocket: the connection after its handshake, of which not a byte more was read."""
    client = connect(port, receive_buffer)
    lines = [
        f"GET {path} HTTP/1.1",
        f"Host: 127.0.0.1:{port}",
        "Upgrade: websocket",
        "Connection: Upgrade",
        f"Sec-WebSocket-Key: {base64.b64encode(os.urandom(16)).decode()}",
        "Sec-WebSocket-Version: 13",
    ]
    if deflate:  # word for word what the websockets library offers
        offer = "permessage-deflate; client_max_window_bits"
        lines.append(f"Sec-WebSocket-Extensions: {offer}")
    client.sendall("\r\n".join([*lines, "", ""]).encode())
    reply = bytearray()
    while not reply.endswith(b"\r\n\r\n"):
        byte = client.recv(1)
        if not byte:
            break
        reply += byte
    if not reply.startswith(b"HTTP/1.1 101"):
        client.close()
        first = reply.partition(b"\r\n")[0].decode(errors="replace")
        raise RuntimeError(f"expected 101 for {path}, got {first!r}")
    return client


def frame(payload: bytes, opcode: int = _BINARY, *, flags: int = 0) -> bytes:
    """A whole client message; its mask is zero, which costs the receiver as much as any other."""
    size = len(payload)
    if size < 126:
        head = struct.pack("!BB", 0x80 | flags | opcode, 0x80 | size)
    elif size < 1 << 16:
        head = struct.pack("!BBH", 0x80 | flags | opcode, 0x80 | 126, size)
    else:
        head = struct.pack("!BBQ", 0x80 | flags | opcode, 0x80 | 127, size)
    return head + bytes(4) + payload


def text_frame(deflate: bool = False, /, **fields: object) -> bytes:
    """A JSON message."""
    payload = json.dumps(fields).encode()
    if not deflate:
        return frame(payload, _TEXT)
    squeezer = zlib.compressobj(wbits=-12, memLevel=5)
    squeezed = squeezer.compress(payload) + squeezer.flush(zlib.Z_SYNC_FLUSH)
    return frame(squeezed[:-4], _TEXT, flags=_COMPRESSED)


class Client(ABC):
    """Somebody at one end of a socket."""

    def __init__(self, client: socket.socket) -> None:
        self.socket = client

    @abstractmethod
    def pump(self) -> None:
        """Take what is there."""


class Viewer(Client):
    """Counts the pictures that come."""

    def __init__(self, client: socket.socket) -> None:
        super().__init__(client)
        self.socket.setblocking(False)
        self.pictures = 0

    def _discard(self, size: int) -> int:
        """Throw away up to ``size`` bytes of what is there; how many."""
        try:
            count = self.socket.recv_into(_scrap, min(size, len(_scrap)), DISCARD)
        except BlockingIOError:
            return 0
        if count == 0:
            raise RuntimeError("the relay closed the connection of a viewer")
        return count


class RawViewer(Viewer):
    """Of the raw fan-out: all messages have the same length.

    Args:
        credit: sent after each picture.
    """

    def __init__(self, port: int, size: int, credit: bytes | None = None) -> None:
        client = connect(port)
        client.sendall(b"V")
        super().__init__(client)
        self._size = self._missing = LENGTH + size
        self._credit = credit

    def pump(self) -> None:
        while count := self._discard(self._missing):
            self._missing -= count
            if self._missing == 0:
                self._missing = self._size
                self.pictures += 1
                if self._credit is not None:
                    self.socket.send(self._credit)
                return


class WebSocketViewer(Viewer):
    """Of a WebSocket: reads the frames' headers only.

    Args:
        hello: sent first.
        credit: sent after each picture.
    """

    def __init__(
        self, client: socket.socket, *, hello: bytes = b"", credit: bytes | None = None
    ) -> None:
        client.sendall(hello)
        super().__init__(client)
        self._credit = credit
        self._head = b""
        self._missing = 0
        self._picture = False

    def pump(self) -> None:
        while True:
            if self._missing:
                count = self._discard(self._missing)
                self._missing -= count
                if count == 0:
                    return
                if self._missing:
                    continue
                if self._picture:
                    self.pictures += 1
                    if self._credit is not None:
                        self.socket.send(self._credit)
                    return
            if not self._read_head():
                return

    def _read_head(self) -> bool:
        """Read a frame's header as far as it is there; True once it is whole."""
        while (need := self._head_size() - len(self._head)) > 0:
            try:
                more = self.socket.recv(need)
            except BlockingIOError:
                return False
            if not more:
                raise RuntimeError("the relay closed the connection of a viewer")
            self._head += more
        short = self._head[1] & 0x7F
        self._missing = short if short < 126 else int.from_bytes(self._head[2:], "big")
        opcode = self._head[0] & 0x0F
        if opcode == _CLOSE:
            raise RuntimeError("the relay said goodbye to a viewer")
        self._picture = opcode == _BINARY or self._missing >= LARGE
        self._head = b""
        return True

    def _head_size(self) -> int:
        if len(self._head) < 2:
            return 2
        return {126: 4, 127: 10}.get(self._head[1] & 0x7F, 2)


class Producer(Client):
    """Sends the same picture whenever it is told to; hears acks and forgets them."""

    def __init__(self, client: socket.socket, message: bytes, *, hello: bytes = b"") -> None:
        super().__init__(client)
        self.socket.sendall(hello)
        self._message = message

    def send(self) -> None:
        self.socket.sendall(self._message)

    def pump(self) -> None:
        if not self.socket.recv_into(_scrap):
            raise RuntimeError("the relay closed the connection of the producer")


class Party:
    """A producer and its viewers, in lockstep: the next picture once everybody has the last one."""

    def __init__(self, producer: Producer, viewers: Sequence[Viewer]) -> None:
        self._producer = producer
        self._viewers = viewers
        self._clients: tuple[Client, ...] = (producer, *viewers)
        self._selector = selectors.DefaultSelector()
        for client in self._clients:
            self._selector.register(client.socket, selectors.EVENT_READ, client)

    def settle(self, seconds: float = 0.15) -> None:
        """Hear greetings, and pictures from before, until nobody says anything more."""
        while ready := self._selector.select(seconds):
            for key, _ in ready:
                key.data.pump()

    def begin(self, pictures: int, seconds: float = 120.0) -> None:
        """Send so many pictures, one of them again if a viewer was not seated yet when it came."""
        deadline = time.monotonic() + seconds
        while True:
            try:
                self.run(pictures, 2.0)
            except TimeoutError:
                if time.monotonic() > deadline:
                    raise
            else:
                self.settle(0.02)
                return

    def run(self, pictures: int, seconds: float = 120.0) -> None:
        """Send so many pictures.

        Raises:
            TimeoutError: somebody did not get one.
        """
        deadline = time.monotonic() + seconds
        for viewer in self._viewers:
            viewer.pictures = 0
        for sent in range(1, pictures + 1):
            self._producer.send()
            while any(viewer.pictures < sent for viewer in self._viewers):
                for key, _ in self._selector.select(1.0):
                    key.data.pump()
                if time.monotonic() > deadline:
                    raise TimeoutError(f"picture {sent} did not reach everybody")

    def close(self) -> None:
        """Hang up."""
        self._selector.close()
        for client in self._clients:
            client.socket.close()
