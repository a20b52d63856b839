"""The short way of letters between a relay and the socket of its NATS server.

nats-py connects, says who we are, speaks TLS and watches whether the server lives, through a
*transport*. This is one. What concerns the connection goes through it byte by byte; messages
without headers, which is what letters are, are cut out of what was read and handed over at once,
and letters to be sent go into the socket at once. The library would bring each of them through four
buffers and three tasks.
"""

import asyncio
import ssl
from collections.abc import Callable, Iterable
from urllib.parse import ParseResult

from nats.aio.client import Client
from nats.aio.transport import Transport
from nats.errors import ProtocolError

SCRATCH_BYTES = 256 * 1024
"""What is read at a time; more once a letter was larger."""

MOST_BYTES = 64 * 1024 * 1024
"""More than any server carries in one message."""

FULL = 1024 * 1024
"""Bytes that may lie in the socket's buffer before somebody waits until the server takes them."""

Take = Callable[[memoryview], None]
"""Is given each letter that arrives, which holds until it returns."""


class LetterClient(Client):
    """The library's client, on a line of ours.

    Args:
        take: what is done with letters that arrive; returns at once.
    """

    def __init__(self, take: Take) -> None:
        super().__init__()
        self.line = LetterLine(take)
        self._transport = self.line  # where the library would make its own


class LetterLine(Transport):
    """A transport for nats-py that keeps letters to itself.

    Args:
        take: what is done with letters that arrive; returns at once.
    """

    def __init__(self, take: Take) -> None:
        self._take = take
        self._wire: asyncio.WriteTransport | None = None
        self._reads = _Reader(take)

    @property
    def is_used(self) -> bool:
        """Whether the library took it: another version may not ask for one."""
        return self._wire is not None

    @property
    def waiting(self) -> int:
        """Bytes that the socket has not taken yet."""
        return self._wire.get_write_buffer_size() if self._wire is not None else 0

    def send(self, subject: str, size: int, parts: Iterable[bytes]) -> None:
        """Send a letter of ``size`` bytes."""
        assert self._wire is not None
        self._wire.write(b"".join((f"PUB {subject} {size}\r\n".encode(), *parts, b"\r\n")))

    async def watch(self, seconds: float) -> None:
        """Wait until the connection has gone.

        Raises:
            TimeoutError: more than ``FULL`` has waited for so long.
        """
        reads = self._reads
        while not reads.gone.is_set():
            await reads.blocked.wait()
            async with asyncio.timeout(seconds):
                await reads.drained.wait()

    # -- what the library asks of a transport -----------------------------------------------------

    async def connect(self, uri: ParseResult, buffer_size: int, connect_timeout: int) -> None:
        reads = self._reads = _Reader(self._take)
        loop, host, port = asyncio.get_running_loop(), uri.hostname or "", uri.port or 0
        async with asyncio.timeout(connect_timeout):
            wire, _ = await loop.create_connection(lambda: reads, host, port)
        wire.set_write_buffer_limits(FULL)
        self._wire = wire

    async def connect_tls(
        self,
        uri: str | ParseResult,
        ssl_context: ssl.SSLContext,
        buffer_size: int,
        connect_timeout: int,
    ) -> None:
        assert isinstance(self._wire, asyncio.Transport)
        loop, host = asyncio.get_running_loop(), uri if isinstance(uri, str) else uri.hostname
        async with asyncio.timeout(connect_timeout):
            wire = await loop.start_tls(self._wire, self._reads, ssl_context, server_hostname=host)
        if wire is None:
            raise ConnectionResetError("the server has gone in the middle of TLS")
        wire.set_write_buffer_limits(FULL)
        self._wire = wire

    def write(self, payload: bytes) -> None:
        if self._wire is not None and not self._wire.is_closing():
            self._wire.write(payload)

    def writelines(self, payload: list[bytes]) -> None:
        self.write(b"".join(payload))

    async def read(self, buffer_size: int) -> bytes:
        return await self._reads.rest.read(buffer_size)

    async def readline(self) -> bytes:
        return await self._reads.rest.readline()

    async def drain(self) -> None:
        """Commands are few and small, and the library waits for this where it says goodbye."""

    async def wait_closed(self) -> None:
        if self._wire is not None:
            await self._reads.gone.wait()

    def close(self) -> None:
        if self._wire is None:
            return
        if self.waiting:  # it would be old when it arrives
            self._wire.abort()
        else:
            self._wire.close()

    def at_eof(self) -> bool:
        return self._reads.rest.at_eof()

    def __bool__(self) -> bool:
        """There is one, so the library makes none."""
        return True


class _Reader(asyncio.BufferedProtocol):
    """Cuts letters out of what one connection brings; ``rest`` is for the library."""

    def __init__(self, take: Take) -> None:
        self._take = take
        self._scratch = bytearray(SCRATCH_BYTES)
        self._kept = 0
        """Bytes at its beginning that are not a whole line or letter yet."""
        self._needed = 0
        """So many are one, as far as is known."""
        self._passing = 0
        """Bytes for the library that are still to come."""
        self.rest = asyncio.StreamReader()
        self.blocked, self.drained, self.gone = asyncio.Event(), asyncio.Event(), asyncio.Event()
        self.drained.set()

    def connection_lost(self, exc: Exception | None) -> None:
        if exc is None:
            self.rest.feed_eof()
        else:
            self.rest.set_exception(exc)
        for event in (self.gone, self.blocked, self.drained):
            event.set()

    def eof_received(self) -> None:
        """It is closed then."""

    def pause_writing(self) -> None:
        self.drained.clear()
        self.blocked.set()

    def resume_writing(self) -> None:
        self.blocked.clear()
        self.drained.set()

    def get_buffer(self, sizehint: int) -> memoryview:
        return memoryview(self._scratch)[self._kept :]

    def buffer_updated(self, nbytes: int) -> None:
        end = self._kept + nbytes
        if end < self._needed:
            self._kept = end
            return
        try:
            at = self._read(end)
        except ValueError as error:
            self.rest.set_exception(ProtocolError(f"nats: {error}"))  # with which it hangs up
            self._kept = self._needed = 0
            return
        self._kept = end - at
        if self._needed > len(self._scratch):
            larger = bytearray(self._needed)
            larger[: self._kept] = self._scratch[at:end]
            self._scratch = larger
        elif at and self._kept:
            self._scratch[: self._kept] = self._scratch[at:end]

    def _read(self, end: int) -> int:
        """Read what is whole of the first ``end`` bytes; return how many are done with.

        Raises:
            ValueError: that is not what a server says.
        """
        scratch, at, self._needed = self._scratch, 0, 0
        while at < end:
            if self._passing:
                stop = min(end, at + self._passing)
                self._passing -= stop - at
                self.rest.feed_data(scratch[at:stop])
                at = stop
                continue
            stop = scratch.find(b"\r\n", at, end) + 2
            if stop == 1:
                if end - at >= SCRATCH_BYTES:
                    raise ValueError("a line without end")
                break
            words = scratch[at:stop].split()
            kind = bytes(words[0]) if words else b""
            if kind not in (b"MSG", b"HMSG"):
                self._passing = stop - at
                continue
            size = _size(words)
            if kind == b"HMSG":
                self._passing = stop - at + size + 2
                continue
            if stop + size + 2 > end:
                self._needed = stop + size + 2 - at
                break
            at = stop + size + 2
            with memoryview(scratch)[stop : stop + size] as letter:
                self._take(letter)
        return at


def _size(words: list[bytearray]) -> int:
    """Bytes of the message that its first line announces."""
    if len(words) not in (4, 5, 6) or not words[-1].isdigit() or int(words[-1]) > MOST_BYTES:
        raise ValueError("a message of no size")
    return int(words[-1])
