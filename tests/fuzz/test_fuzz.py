"""Spoiled messages on every door of a real relay, while two others want their pictures.

Two seconds a door, the same messages each time. ``make fuzz SECONDS=600`` goes on for so long on
each, with other messages each time; a failure says the seed, and ``FUZZ_SEED`` repeats it.
"""

import os
import random
import re
import socket
import struct
import time
import zlib
from collections import deque
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from starlette.routing import WebSocketRoute
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import ClientConnection, connect

from dreamrelay.config import RelaySettings
from dreamrelay.relay.app import Relay
from tests.conftest import ProgramStarter
from tests.fuzz.messages import DOORS, Door, Message, spoil
from tests.relay.clients import Client, answer, native, raw, raw_websocket
from tests.support import Program, RunningRelay, until

SECONDS = float(os.environ.get("FUZZ_SECONDS", "2"))
SEED = os.environ.get("FUZZ_SEED")
FRESH = SECONDS > 10 and SEED is None
MOST_MEMORY = 60_000_000
"""Bytes that the relay may have grown by: what it keeps of streams, peers and pieces."""

HTTP = (
    b"GET /streams HTTP/1.1\r\nHost: localhost\r\nAccept: */*\r\n\r\n",
    b"PATCH /streams/fuzz/parameters HTTP/1.1\r\nHost: localhost\r\nContent-Length: 16\r\n\r\n"
    b'{"prompt":"fox"}',
    b"POST /api/stt HTTP/1.1\r\nHost: localhost\r\nContent-Type: multipart/form-data; boundary=x"
    b'\r\nContent-Length: 88\r\n\r\n--x\r\nContent-Disposition: form-data; name="file"; '
    b'filename="a.wav"\r\n\r\nRIFF\r\n--x--\r\n',
    b"PUT /streams/fuzz/reference HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n"
    b"4\r\nGIF8\r\n0\r\n\r\n",
    b"GET /streams/fuzz/viewer HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\n"
    b"Connection: Upgrade\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n"
    b"Sec-WebSocket-Version: 13\r\n\r\n",
)


class Witness:
    """Two who mind their own business on another stream."""

    def __init__(self, producer: Client, viewer: Client) -> None:
        self._producer = producer
        self._viewer = viewer
        self.slowest = 0.0

    def see(self) -> None:
        """A picture goes from one to the other."""
        began = time.monotonic()
        assert self._producer.publish()["accepted"]
        self._viewer.packet()
        self._viewer.credit()
        self.slowest = max(self.slowest, time.monotonic() - began)


@contextmanager
def witness(relay: RunningRelay) -> Iterator[Witness]:
    with (
        native(relay, "producer", stream="witness") as producer,
        native(relay, "viewer", "?track=input", "witness") as viewer,
    ):
        yield Witness(producer, viewer)


def memory(program: Program) -> int:
    """Bytes the process has to itself; 0 where only Linux says so."""
    status = Path(f"/proc/{program.pid}/status")
    if not status.exists():
        return 0
    lines = status.read_text().splitlines()
    return int(next(line for line in lines if line.startswith("RssAnon:")).split()[1]) * 1024


@contextmanager
def under_watch(programs: ProgramStarter) -> Iterator[tuple[RunningRelay, Witness]]:
    """A relay of its own, of which nothing but its work may be noticed."""
    program = programs("server.py", "--port=0", "--verbose=2", "--max_message_mb=4", "--speech=off")
    url = program.line(r"(http://[\w.:\[\]]+:\d+)/?").group(1)
    relay = RunningRelay(url + "/", hub=None)  # type: ignore[arg-type]
    until(lambda: answer(relay, "/healthz")[0] == 200)
    with witness(relay) as others:
        others.see()
        before = memory(program)
        yield relay, others
        assert program.running, program.output[-3000:]
        others.see()
        assert answer(relay, "/healthz")[0] == 200
        assert memory(program) - before < MOST_MEMORY
        bad = re.search(r"^(?:ERROR|Traceback).*", program.output, re.MULTILINE | re.DOTALL)
        assert bad is None, bad[0][:6000]
        assert others.slowest < 5


def chance_of(name: str) -> tuple[random.Random, int]:
    seed = int(SEED) if SEED else random.randrange(2**31) if FRESH else zlib.crc32(name.encode())
    return random.Random(seed), seed


def drain(websocket: ClientConnection) -> None:
    """Read what there is, so that the relay goes on reading from us; there is an end to it."""
    deadline = time.monotonic() + 30
    count = 0
    try:
        while True:
            message = websocket.recv(0.0005)
            count += 1
            assert time.monotonic() < deadline, f"{count} messages, the last: {message!r:.300}"
    except TimeoutError:
        return


@pytest.mark.timeout(SECONDS + 180)
@pytest.mark.parametrize("door", DOORS, ids=[door.name for door in DOORS])
def test_spoiled_messages(programs: ProgramStarter, door: Door) -> None:
    chance, seed = chance_of(door.name)
    said: deque[Message] = deque(maxlen=20)
    count = 0
    with under_watch(programs) as (relay, others):
        deadline = time.monotonic() + SECONDS
        try:
            while time.monotonic() < deadline:
                try:
                    count += converse(relay, door, chance, said, deadline)
                except (ConnectionClosed, InvalidStatus, ConnectionError):
                    pass  # its right, after what it heard
                others.see()
        except Exception as error:
            error.add_note(f"seed {seed}, after {count} messages; the last: {list(said)!r:.3000}")
            raise
        print(f"{door.name}: {count} messages, others waited {others.slowest * 1000:.0f} ms")  # noqa: T201
    assert count > 0  # how many they are is the machine's affair


def converse(
    relay: RunningRelay,
    door: Door,
    chance: random.Random,
    said: deque[Message],
    deadline: float,
) -> int:
    """One connection's worth of messages."""
    count = 0
    with connect(
        relay.websocket + door.path, compression=None, close_timeout=0.2, max_size=None
    ) as websocket:
        for _ in range(chance.randint(5, 60)):
            message = spoil(chance.choice(door.corpus), chance)
            said.append(message)
            try:
                websocket.send(message)
            except UnicodeEncodeError:
                continue  # half a surrogate cannot be sent as text
            count += 1
            drain(websocket)
            if time.monotonic() > deadline:
                break
    return count


@pytest.mark.timeout(SECONDS + 180)
@pytest.mark.parametrize("kind", ["requests", "frames"])
def test_spoiled_bytes(programs: ProgramStarter, kind: str) -> None:
    """Below the messages: requests by HTTP, and the frames of WebSockets."""
    chance, seed = chance_of(kind)
    count = 0
    with under_watch(programs) as (relay, others):
        deadline = time.monotonic() + SECONDS
        try:
            while time.monotonic() < deadline:
                spoil_requests(relay, chance) if kind == "requests" else spoil_frames(relay, chance)
                count += 1
                others.see()
        except Exception as error:
            error.add_note(f"seed {seed}, in round {count}")
            raise
    assert count > 5


def spoil_requests(relay: RunningRelay, chance: random.Random) -> None:
    with ExitStack() as stack:
        for _ in range(4):
            bare = stack.enter_context(raw(relay))
            bare.settimeout(0.02)
            data = b"".join(chance.choice(HTTP) for _ in range(chance.randint(1, 3)))
            spoiled = spoil(data, chance)
            assert isinstance(spoiled, bytes | str)
            data = spoiled if isinstance(spoiled, bytes) else spoiled.encode("utf-8", "replace")
            try:
                bare.sendall(data)
                bare.recv(65536)
            except (TimeoutError, ConnectionError):
                continue


def spoil_frames(relay: RunningRelay, chance: random.Random) -> None:
    bare = raw_websocket(relay, f"/streams/fuzz/{chance.choice(('producer', 'viewer'))}")
    bare.settimeout(0.02)
    try:
        for _ in range(chance.randint(1, 30)):
            data = chance.randbytes(chance.choice((0, 1, 60, 126, 3000)))
            first = chance.choice((0x80, 0, 0, 0x40, 0xF0)) | chance.choice((0, 1, 2, 8, 9, 10, 3))
            size = len(data) if chance.random() < 0.8 else chance.randrange(2**31)
            masked = 0x80 if chance.random() < 0.9 else 0
            if size < 126 and chance.random() < 0.9:
                head = bytes((first, masked | size))
            elif size < 65536:
                head = bytes((first, masked | 126)) + struct.pack(">H", size)
            else:
                head = bytes((first, masked | 127)) + struct.pack(">Q", size)
            bare.sendall(head + (b"\0\0\0\0" if masked else b"") + data)
            if chance.random() < 0.3:
                bare.recv(65536)
    except (TimeoutError, ConnectionError):
        pass
    finally:
        if chance.random() < 0.5:  # gone without a word
            bare.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        bare.close()


def test_every_door_is_spoiled() -> None:
    """A new one is added to ``messages.DOORS``."""
    app = Relay(RelaySettings(port=0)).app
    routes = [route for route in app.routes if isinstance(route, WebSocketRoute)]
    used = set()
    for door in DOORS:
        scope = {"type": "websocket", "path": urlsplit(door.path).path, "method": "GET"}
        used.add(next(r.path for r in routes if r.matches({**scope, "headers": []})[0].value == 2))
    aliases = {
        "/broadcaster/{stream}",
        "/viewer/{stream}",
        "/ws//{client_type}/{stream}",
        "/{path:path}",
    }
    assert {route.path for route in routes} - aliases == used
