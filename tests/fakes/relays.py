"""Relays that misbehave: each connection is a function that says what happens on it."""

import json
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http import HTTPStatus
from typing import Any

from websockets.datastructures import Headers
from websockets.exceptions import ConnectionClosed
from websockets.http11 import Request, Response
from websockets.sync.server import Server, ServerConnection, serve

Conversation = Callable[["Peer"], None]


def is_about_time(message: str | bytes) -> bool:
    """Whether a link looks at our clock; it does so now and then."""
    return isinstance(message, str) and json.loads(message).get("type") in ("ping", "clock")


class Peer:
    """One connection, seen from the scripted relay."""

    def __init__(self, websocket: ServerConnection, number: int) -> None:
        self.websocket = websocket
        self.number = number
        """Of the connection: 1 for the first one."""

    def tell(self, kind: str, **fields: Any) -> None:
        self.websocket.send(json.dumps({"type": kind, **fields}))

    def welcome(self, credit: int = 1) -> None:
        self.tell("welcome", version=1, credit=credit)

    def hear(self, seconds: float = 30.0) -> str | bytes:
        """The next message that is not about the time."""
        while True:
            message = self.websocket.recv(seconds)
            if not is_about_time(message):
                return message

    def hear_text(self, kind: str) -> dict[str, Any]:
        """The next text message of that type; others are left out."""
        while True:
            message = self.hear()
            if isinstance(message, str):
                fields: dict[str, Any] = json.loads(message)
                if fields["type"] == kind:
                    return fields

    def stay(self) -> None:
        """Read what comes until the other side has gone."""
        for _ in self.websocket:
            pass

    def cut(self) -> None:
        """Be gone without a word."""
        self.websocket.socket.shutdown(socket.SHUT_RDWR)


@contextmanager
def scripted_relay(talk: Conversation) -> Iterator[str]:
    """Serve each connection with ``talk``; yields the address."""
    numbers = iter(range(1, 1000))
    problems: list[BaseException] = []

    def handle(websocket: ServerConnection) -> None:
        try:
            talk(Peer(websocket, next(numbers)))
        except (ConnectionClosed, TimeoutError, OSError):
            return
        except BaseException as error:  # noqa: BLE001 - raised in the test's own thread
            problems.append(error)

    server = serve(handle, "127.0.0.1", 0, compression=None, max_size=None, close_timeout=0.5)
    with _serving(server) as uri:
        yield uri
    assert not problems, problems


@contextmanager
def denying_relay(status: HTTPStatus, message: str = "") -> Iterator[str]:
    """Answer every WebSocket with an HTTP status."""
    body = json.dumps({"error": {"code": "x", "message": message}}).encode()

    def deny(_: ServerConnection, __: Request) -> Response:
        headers = Headers({"Content-Length": str(len(body)), "Connection": "close"})
        return Response(status.value, status.phrase, headers, body)

    server = serve(lambda _: None, "127.0.0.1", 0, process_request=deny)
    with _serving(server) as uri:
        yield uri


@contextmanager
def _serving(server: Server) -> Iterator[str]:
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"ws://127.0.0.1:{server.socket.getsockname()[1]}"
    finally:
        server.shutdown()
        thread.join(10)


@contextmanager
def hung_server() -> Iterator[str]:
    """Take connections and never say a word."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield f"ws://127.0.0.1:{listener.getsockname()[1]}"


def closed_port() -> int:
    """A port that nothing listens at."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])
