"""Clients as they are in the wild, and worse: raw sockets that do what no library would."""

import base64
import http.client
import json
import os
import socket
import struct
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any, cast
from urllib.parse import urlsplit

from websockets.exceptions import ConnectionClosed
from websockets.sync.client import ClientConnection, connect

from dreamrelay.packet import Packet, Track
from dreamrelay.protocol.native import decode_packet, encode_packet, encode_text
from tests.support import RunningRelay, picture

HELLO: dict[str, Any] = {
    "engine": "test",
    "model": "none",
    "device": "cpu",
    "licence": {"name": "MIT"},
    "schema": {
        "type": "object",
        "properties": {
            "prompt": {"type": "string", "maxLength": 2000},
            "strength": {"type": "number", "minimum": 0, "maximum": 1},
        },
    },
    "parameters": {"prompt": "", "strength": 0.5},
}


class Client:
    """A native peer. Texts that are not asked for are read and put aside."""

    def __init__(self, websocket: ClientConnection) -> None:
        self.websocket = websocket
        self.texts: list[dict[str, Any]] = []
        self.seq = 0

    def receive(self, timeout: float = 30.0) -> dict[str, Any] | tuple[Packet, Track]:
        message = self.websocket.recv(timeout)
        if isinstance(message, bytes):
            return decode_packet(message)
        fields = json.loads(message)
        self.texts.append(fields)
        return cast(dict[str, Any], fields)

    def text(self, *kinds: str) -> dict[str, Any]:
        """The next text of one of these types."""
        while True:
            message = self.receive()
            if isinstance(message, dict) and message["type"] in kinds:
                return message

    def packet(self) -> Packet:
        """The next picture."""
        while True:
            message = self.receive()
            if isinstance(message, tuple):
                return message[0]

    def send(self, kind: str, **fields: Any) -> None:
        self.websocket.send(encode_text(kind, **fields))

    def send_picture(self, data: bytes | None = None, track: Track = "input", **header: Any) -> int:
        self.seq += 1
        packet = Packet.of(data or picture()).but(**{"seq": self.seq, **header})
        self.websocket.send(encode_packet(packet, track))
        return self.seq

    def publish(self, data: bytes | None = None) -> dict[str, Any]:
        """Send an input and wait for its ack."""
        self.send_picture(data)
        return self.text("ack")

    def credit(self, count: int = 1, **fields: Any) -> None:
        self.send("credit", count=count, **fields)

    def nothing_for(self, seconds: float) -> bool:
        """Whether no picture comes for so long."""
        try:
            while True:
                if isinstance(self.receive(seconds), tuple):
                    return False
        except TimeoutError:
            return True


@contextmanager
def native(
    relay: RunningRelay, role: str, query: str = "", stream: str = "default", **hello: Any
) -> Iterator[Client]:
    """A native peer; a worker has said hello."""
    uri = f"{relay.websocket}/streams/{stream}/{role}{query}"
    with connect(
        uri, compression=None, max_size=None, open_timeout=30, close_timeout=0.5
    ) as websocket:
        client = Client(websocket)
        if role == "worker":
            client.send("hello", version=1, **{"credit": 1, **HELLO, **hello})
        client.text("welcome")
        yield client


@contextmanager
def seed(relay: RunningRelay, path: str = "/", **options: Any) -> Iterator[ClientConnection]:
    """A connection as the seed's clients open it: library defaults, 1 MiB at most."""
    with connect(relay.websocket + path, **options) as websocket:
        yield websocket


def say(websocket: ClientConnection, **message: Any) -> None:
    websocket.send(json.dumps(message))


def hear(websocket: ClientConnection, timeout: float = 30.0) -> dict[str, Any]:
    message = websocket.recv(timeout)
    assert isinstance(message, str)
    return cast(dict[str, Any], json.loads(message))


def ask(websocket: ClientConnection, **message: Any) -> dict[str, Any]:
    """Speak first, or not: whoever is slow is welcomed before it is answered."""
    say(websocket, **message)
    reply = hear(websocket)
    return hear(websocket) if reply["type"] == "welcome" else reply


def silent(websocket: ClientConnection, seconds: float = 0.3) -> bool:
    """Whether nothing at all comes for so long."""
    try:
        websocket.recv(seconds)
    except TimeoutError:
        return True
    return False


def base64_picture(**arguments: Any) -> str:
    return base64.b64encode(picture(**arguments)).decode()


class Engine(threading.Thread):
    """A worker that answers: each picture by one of a colour, each request by itself."""

    def __init__(self, relay: RunningRelay, result: bytes | None = None) -> None:
        super().__init__(daemon=True)
        self._relay = relay
        self._result = result or picture("blue")
        self.requests: list[dict[str, Any]] = []
        self.ready = threading.Event()
        self._websocket: ClientConnection | None = None

    def run(self) -> None:
        with suppress(ConnectionClosed), native(self._relay, "worker", credit=2) as client:
            self._websocket = client.websocket
            client.text("parameters")
            client.send("status", state="live")
            self.ready.set()
            for message in client.websocket:
                if isinstance(message, bytes):
                    packet, _ = decode_packet(message)
                    client.send_picture(
                        self._result, "output", seq=packet.seq, private=packet.private
                    )
                    client.credit()
                elif (fields := json.loads(message))["type"] == "request":
                    self.requests.append(fields)

    def __enter__(self) -> "Engine":
        self.start()
        assert self.ready.wait(10)
        return self

    def __exit__(self, *_: object) -> None:
        assert self._websocket is not None
        self._websocket.close()
        self.join(10)


def answer(
    relay: RunningRelay,
    path: str,
    method: str = "GET",
    body: bytes | None = None,
    **headers: str,
) -> tuple[int, dict[str, str], bytes]:
    """Status, headers and body of a request; ``Host`` and all may be given."""
    parts = urlsplit(relay.url)
    connection = http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=30)
    try:
        given = {name.replace("_", "-"): value for name, value in headers.items()}
        connection.request(method, path, body, given)
        reply = connection.getresponse()
        return reply.status, {k.lower(): v for k, v in reply.getheaders()}, reply.read()
    finally:
        connection.close()


def problem(body: bytes | bytearray | None) -> dict[str, Any]:
    """The error in a body, which holds nothing else."""
    assert body is not None
    fields = json.loads(body)
    assert set(fields) == {"error"}
    assert {"code", "message"} <= set(fields["error"])
    return cast(dict[str, Any], fields["error"])


def raw(relay: RunningRelay, receive_buffer: int | None = None) -> socket.socket:
    """A bare connection."""
    parts = urlsplit(relay.url)
    bare = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    if receive_buffer is not None:
        bare.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
    bare.settimeout(20)
    bare.connect((parts.hostname or "", parts.port or 0))
    return bare


def read_until(bare: socket.socket, end: bytes) -> bytes:
    data = b""
    while not data.endswith(end):
        more = bare.recv(1)
        if not more:
            break
        data += more
    return data


def raw_websocket(
    relay: RunningRelay, path: str, receive_buffer: int | None = None
) -> socket.socket:
    """A WebSocket that nobody reads from unless the test does."""
    bare = raw(relay, receive_buffer)
    key = base64.b64encode(os.urandom(16)).decode()
    host = urlsplit(relay.url).netloc
    bare.sendall(
        f"GET {path} HTTP/1.1\r\nHost: {host}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        f"Sec-WebSocket-Key: {key}\r\nSec-WebSocket-Version: 13\r\n\r\n".encode()
    )
    assert b" 101 " in read_until(bare, b"\r\n\r\n")
    return bare


def frame(opcode: int, data: bytes, *, fin: bool = True) -> bytes:
    """A masked WebSocket frame (with a mask of zeros)."""
    head = bytes([(0x80 if fin else 0) | opcode])
    if len(data) < 126:
        head += bytes([0x80 | len(data)])
    elif len(data) < 65536:
        head += b"\xfe" + struct.pack(">H", len(data))
    else:
        head += b"\xff" + struct.pack(">Q", len(data))
    return head + b"\0\0\0\0" + data


def closed(bare: socket.socket) -> bytes:
    """What comes until the other side closes (or cuts) the connection."""
    data = b""
    try:
        while more := bare.recv(65536):
            data += more
    except ConnectionError:
        pass
    return data
