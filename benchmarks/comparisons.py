"""Relays to compare ours with; each runs as a process: ``python -m benchmarks.comparisons NAME``.

``raw`` is the least that Python can do: bytes from one TCP socket to many, no protocol.
``raw-talk`` says as much as ours beside it: an ack for each picture, a credit from each viewer.
``raw-frames`` does that in WebSocket frames, which have to be unmasked and read. What ours costs
more is what it knows: packets, streams, times, credit, who may what. ``naive`` is the relay that
one writes first: parse the JSON, write it anew, send it to one viewer after the other.
``naive-deflate`` is the same with the WebSocket library's defaults, which compress.
"""

import asyncio
import json
import sys
import time
from typing import Any

from websockets.asyncio.server import ServerConnection, serve
from websockets.exceptions import ConnectionClosed

try:  # in C, where a wheel has it
    from websockets.speedups import apply_mask
except ImportError:
    from websockets.utils import apply_mask

LENGTH = 4
"""Bytes of the length before each message of ``raw``, little-endian."""

BUFFER = 1024 * 1024
ACK_BYTES = 55
"""As long as ours."""

CREDIT = b'{"type": "credit", "count": 1}'


class RawRelay(asyncio.BufferedProtocol):
    """A connection of the raw fan-out. Its first byte says what it is: P(roducer) or V(iewer).

    Args:
        ack: what a producer is sent for each message.
    """

    def __init__(self, viewers: set[asyncio.Transport], ack: bytes = b"") -> None:
        self._viewers = viewers
        self._ack = ack
        self._role = b""
        self._buffer = bytearray(BUFFER)
        self._filled = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def connection_lost(self, exc: Exception | None) -> None:
        self._viewers.discard(self._transport)

    def get_buffer(self, sizehint: int) -> memoryview:
        return memoryview(self._buffer)[self._filled :]

    def buffer_updated(self, nbytes: int) -> None:
        self._filled += nbytes
        begin = 0
        if not self._role:
            self._role = bytes(self._buffer[:1])
            begin = 1
            if self._role == b"V":
                self._viewers.add(self._transport)
        if self._role == b"V":
            self._filled = 0  # its credit is heard and that is all
            return
        while self._filled - begin >= LENGTH:
            end = begin + LENGTH + int.from_bytes(self._buffer[begin : begin + LENGTH], "little")
            if end > self._filled:
                break
            message = bytes(memoryview(self._buffer)[begin:end])
            if self._ack:
                self._transport.write(self._ack)
            for viewer in self._viewers:
                viewer.write(message)
            begin = end
        if begin:
            rest = self._buffer[begin : self._filled]
            self._buffer[: len(rest)] = rest
            self._filled = len(rest)


class FramesRelay(RawRelay):
    """The same in WebSocket frames, all of them masked and unfragmented, without the handshake."""

    _taken = 0
    """Credits of this viewer."""

    def buffer_updated(self, nbytes: int) -> None:
        if not self._role:
            super().buffer_updated(nbytes)  # it says what it is before anything else
            return
        self._filled += nbytes
        data, begin = memoryview(self._buffer), 0
        while self._filled - begin >= 6:
            size, at = data[begin + 1] & 0x7F, begin + 6
            if size > 125:
                at += 2 if size == 126 else 8
                size = int.from_bytes(data[begin + 2 : at - 4], "big")
            if at + size > self._filled:
                break
            message = apply_mask(data[at : at + size], bytes(data[at - 4 : at]))
            begin = at + size
            if self._role == b"V":
                self._taken += message == CREDIT
                continue
            self._transport.write(self._ack)
            framed = b"\x82\x7e" + len(message).to_bytes(2, "big") + message
            for viewer in self._viewers:
                viewer.write(framed)
        if begin:
            rest = self._buffer[begin : self._filled]
            self._buffer[: len(rest)] = rest
            self._filled = len(rest)


async def raw_relay(relay: type[RawRelay] = RawRelay, ack: bytes = b"") -> None:
    """Serve ``raw``, or one like it, until killed."""
    viewers: set[asyncio.Transport] = set()
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: relay(viewers, ack), "127.0.0.1", 0)
    _say_port(server.sockets[0].getsockname()[1])
    await server.serve_forever()


async def naive_relay(**options: Any) -> None:
    """Serve ``naive`` until killed.

    Args:
        options: of ``websockets``' own ``serve``.
    """
    consumers: set[ServerConnection] = set()

    async def handle(connection: ServerConnection) -> None:
        try:
            async for message in connection:
                fields = json.loads(message)
                if fields["type"] == "register":
                    if fields["client_type"] == "consumer":
                        consumers.add(connection)
                    await connection.send(json.dumps({"type": "registered"}))
                elif fields["type"] == "image":
                    ack = {"type": "ack", "status": "received", "timestamp": time.time()}
                    await connection.send(json.dumps(ack))
                    text = json.dumps(fields)
                    for consumer in tuple(consumers):
                        await consumer.send(text)
        except ConnectionClosed:
            return
        finally:
            consumers.discard(connection)

    async with serve(handle, "127.0.0.1", 0, max_size=BUFFER, **options) as server:
        _say_port(next(iter(server.sockets)).getsockname()[1])
        await server.serve_forever()


def _say_port(port: int) -> None:
    print(f"listening on http://127.0.0.1:{port}/", flush=True)


def main(name: str) -> None:
    """Serve one of them."""
    if name == "raw":
        asyncio.run(raw_relay())
    elif name == "raw-talk":
        asyncio.run(raw_relay(ack=bytes(ACK_BYTES)))
    elif name == "raw-frames":
        asyncio.run(raw_relay(FramesRelay, bytes(ACK_BYTES)))
    elif name == "naive":
        asyncio.run(naive_relay(compression=None))
    elif name == "naive-deflate":
        asyncio.run(naive_relay())
    else:
        names = "raw, raw-talk, raw-frames, naive or naive-deflate"
        raise SystemExit(f"expected {names}, got {name!r}")


if __name__ == "__main__":
    main(*sys.argv[1:])
