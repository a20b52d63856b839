"""The short way of letters: what it cuts out, and what it leaves to the library."""

import asyncio
import itertools
from collections.abc import Callable, Iterable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from nats.errors import ProtocolError
from nats.protocol.parser import Parser

from dreamrelay.relay.nats_line import MOST_BYTES, SCRATCH_BYTES, LetterLine

Heard = tuple[str, Any]

# Every word that a server says, as the library's own parser reads it.
WORDS = {
    b"PING\r\n": ("ping", None),
    b"PONG\r\n": ("pong", None),
    b"+OK\r\n": None,
    b"-ERR 'Permissions Violation'\r\n": ("err", "'permissions violation'"),
    b'INFO {"server_id":"x","connect_urls":["a:1"]}\r\n': (
        "info",
        {"server_id": "x", "connect_urls": ["a:1"]},
    ),
}
PAYLOADS = st.one_of(
    st.binary(max_size=40),
    st.sampled_from([b"\r\n", b"MSG a 1 3\r\nabc\r\n", b"PING\r\n", b"x" * 5000]),
)


class Library:
    """Notes what the library's parser makes of bytes."""

    def __init__(self) -> None:
        self.heard: list[Heard] = []

    async def _process_msg(
        self, _sid: int, _: bytes, _reply: bytes, data: bytes, header: Any
    ) -> None:
        self.heard.append(("message", data) if header is None else ("headed", (header, data)))

    async def _process_ping(self) -> None:
        self.heard.append(("ping", None))

    async def _process_pong(self) -> None:
        self.heard.append(("pong", None))

    async def _process_err(self, text: str) -> None:
        self.heard.append(("err", text))

    async def _process_info(self, info: Any) -> None:
        self.heard.append(("info", info))


class Wire(asyncio.Transport):
    """A socket that is none; ``full`` is what it does not take."""

    def __init__(self) -> None:
        super().__init__()
        self.full = 0
        self.written: list[bytes] = []
        self.ended = ""

    def write(self, data: Any) -> None:
        self.written.append(bytes(data))

    def get_write_buffer_size(self) -> int:
        return self.full

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None: ...

    def is_closing(self) -> bool:
        return bool(self.ended)

    def close(self) -> None:
        self.ended = "closed"

    def abort(self) -> None:
        self.ended = "cut off"


class Connected:
    """A line whose socket is ``wire``, and what it was told."""

    def __init__(self) -> None:
        self.letters: list[bytes] = []
        self.line = LetterLine(lambda letter: self.letters.append(bytes(letter)))
        self.wire = Wire()
        self.reader: Any = None

    async def open(self) -> None:
        async def create(make: Callable[[], Any], host: str, port: int) -> tuple[Any, Any]:
            self.reader = make()
            self.reader.connection_made(self.wire)
            return self.wire, self.reader

        loop = asyncio.get_running_loop()
        loop.create_connection = create  # type: ignore[assignment,method-assign]
        await self.line.connect(_Uri(), 0, 5)  # type: ignore[arg-type]

    def read(self, data: bytes) -> None:
        """Bytes that a socket brings, in pieces as large as there is room for."""
        while data:
            room = self.reader.get_buffer(-1)
            piece = data[: len(room)]
            room[: len(piece)] = piece
            self.reader.buffer_updated(len(piece))
            data = data[len(piece) :]

    async def rest(self) -> bytes:
        """What was left for the library, once the connection has ended."""
        self.reader.connection_lost(None)
        return await self.line.read(1_000_000)


class _Uri:
    hostname, port = "nowhere", 4222


def message(payload: bytes, *, reply: bool = False) -> bytes:
    to = b"reply.to " if reply else b""
    return b"MSG dreamrelay.x.all 2 %s%d\r\n%s\r\n" % (to, len(payload), payload)


def headed(payload: bytes) -> bytes:
    header = b"NATS/1.0\r\nA: b\r\n\r\n"
    sizes = (len(header), len(header) + len(payload))
    return b"HMSG dreamrelay.x.all 2 %d %d\r\n" % sizes + header + payload + b"\r\n"


SAID = st.one_of(
    st.builds(message, PAYLOADS, reply=st.booleans()),
    st.builds(headed, PAYLOADS),
    st.sampled_from(list(WORDS)),
)


def cut(data: bytes, at: Iterable[int]) -> list[bytes]:
    places = [0, *sorted({place % (len(data) + 1) for place in at}), len(data)]
    return [data[begin:end] for begin, end in itertools.pairwise(places)]


@given(st.lists(SAID, max_size=12), st.lists(st.integers(0, 100_000), max_size=12))
def test_it_reads_what_the_library_reads_however_it_is_cut(
    said: list[bytes], places: list[int]
) -> None:
    async def test() -> None:
        data, alone, beside = b"".join(said), Library(), Library()
        await Parser(alone).parse(data)
        connected = Connected()
        await connected.open()
        for piece in cut(data, places):
            connected.read(piece)
        await Parser(beside).parse(await connected.rest())
        letters = [what for kind, what in alone.heard if kind == "message"]
        assert connected.letters == letters
        assert beside.heard == [heard for heard in alone.heard if heard[0] != "message"]

    asyncio.run(test())


def run(test: Callable[[Connected], Any]) -> None:
    async def main() -> None:
        connected = Connected()
        await connected.open()
        await test(connected)

    asyncio.run(main())


@pytest.mark.parametrize("size", [SCRATCH_BYTES - 30, SCRATCH_BYTES, 3 * SCRATCH_BYTES + 1])
def test_a_letter_may_be_larger_than_what_is_read_at_a_time(size: int) -> None:
    letters = [b"before", bytes(range(256)) * (size // 256), b"after", b""]

    async def test(connected: Connected) -> None:
        for _ in range(2):
            connected.read(b"".join(map(message, letters)))
        assert connected.letters == 2 * letters
        assert await connected.rest() == b""

    run(test)


@pytest.mark.parametrize(
    "said",
    [
        b"MSG a 1 -5\r\n",
        b"MSG a 1 x\r\n",
        b"MSG a\r\n",
        b"HMSG a 1 2 %d\r\n" % (MOST_BYTES + 1),
        b"MSG a 1 99999999999\r\n",
        b"x" * (SCRATCH_BYTES + 1),
    ],
)
def test_what_no_server_says_ends_the_connection(said: bytes) -> None:
    async def test(connected: Connected) -> None:
        connected.read(message(b"before") + said)
        assert connected.letters == [b"before"]
        with pytest.raises(ProtocolError):  # with which the library hangs up
            await connected.line.read(100)

    run(test)


def test_a_letter_leaves_in_one_piece_and_at_once() -> None:
    async def test(connected: Connected) -> None:
        connected.line.send("dreamrelay.x.to.b", 5, (b"ab", b"", b"cde"))
        connected.line.write(b"PING\r\n")
        assert connected.wire.written == [b"PUB dreamrelay.x.to.b 5\r\nabcde\r\n", b"PING\r\n"]

    run(test)


@pytest.mark.parametrize(("full", "ended"), [(0, "closed"), (5, "cut off")])
def test_what_waits_when_it_ends_is_thrown_away(full: int, ended: str) -> None:
    async def test(connected: Connected) -> None:
        connected.wire.full = full
        assert connected.line.waiting == full
        connected.line.close()
        assert connected.wire.ended == ended
        connected.line.write(b"PING\r\n")
        assert connected.wire.written == []

    run(test)


def test_a_server_that_takes_nothing_is_given_up() -> None:
    async def test(connected: Connected) -> None:
        connected.reader.pause_writing()
        with pytest.raises(TimeoutError):
            await connected.line.watch(0.001)

    run(test)


def test_one_that_takes_it_after_a_while_is_kept() -> None:
    async def test(connected: Connected) -> None:
        async with asyncio.TaskGroup() as tasks:
            watching = tasks.create_task(connected.line.watch(60))
            for _ in range(3):
                connected.reader.pause_writing()
                await asyncio.sleep(0)
                connected.reader.resume_writing()
                await asyncio.sleep(0)
            assert not watching.done()
            connected.reader.connection_lost(None)

    run(test)


def test_before_it_is_connected_it_is_there_and_unused() -> None:
    async def test(_: Connected) -> None:
        line = LetterLine(lambda letter: None)
        assert line, "or the library makes a transport of its own"
        assert not line.is_used
        assert line.waiting == 0
        line.close()

    run(test)
