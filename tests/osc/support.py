"""Somebody who is steered and writes down what came."""

import socket
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from dreamrelay.osc import OscServer, Standing, Steered
from dreamrelay.osc.wire import Broken, Message, decode

SCHEMA: Mapping[str, Any] = {
    "type": "object",
    "$defs": {"Look": {"enum": ["plain", "wild", "odd"], "type": "string"}},
    "properties": {
        "prompt": {"type": "string", "maxLength": 2000, "description": "In words."},
        "negative_prompt": {"type": "string", "maxLength": 2000},
        "prompts": {
            "anyOf": [
                {
                    "type": "array",
                    "maxItems": 3,
                    "items": {
                        "type": "object",
                        "properties": {"text": {"type": "string"}, "weight": {"type": "number"}},
                    },
                },
                {"type": "null"},
            ]
        },
        "strength": {"type": "number", "minimum": 0, "maximum": 1},
        "warp": {"type": "number", "minimum": -2, "maximum": 2},
        "seed": {"type": "integer", "minimum": 0, "maximum": 2**31 - 1},
        "steps": {
            "anyOf": [
                {
                    "type": "array",
                    "items": {"type": "integer", "minimum": 0, "maximum": 49},
                    "minItems": 1,
                    "maxItems": 4,
                },
                {"type": "null"},
            ]
        },
        "glow": {"type": "boolean"},
        "look": {"$ref": "#/$defs/Look"},
        "gain": {"type": "number"},
        "fps": {"type": "number", "minimum": 1, "maximum": 60},
    },
}

VALUES: Mapping[str, Any] = {
    "prompt": "a fox",
    "negative_prompt": "",
    "prompts": None,
    "strength": 0.5,
    "warp": 0.0,
    "seed": 2,
    "steps": None,
    "glow": False,
    "look": "plain",
    "gain": 1.0,
    "fps": 30.0,
}


TOLD = {
    "/state",
    "/fps",
    "/age",
    "/prompt_cache",
    "/parameters/fps",
    *(f"/{name}" for name in VALUES),
}
"""The addresses that answer a question about everything."""


class Scene:
    """Values that change, words that were heard, patches as they came."""

    def __init__(self) -> None:
        self.values: dict[str, Any] = dict(VALUES)
        self.patches: list[dict[str, Any]] = []
        self.words: list[str] = []
        self.heard: list[Any] = []
        """Patches and words in their order."""
        self.level = 1
        self.standing = Standing("live", "", 24.5, 61.0)
        self.slow = False
        """Values come into force only when a test says so, as with a relay between."""

    def steered(self) -> Steered:
        return Steered(
            change=self._change,
            command=self._command,
            values=lambda: self.values,
            standing=lambda: self.standing,
            set_verbosity=self._verbosity,
            verbosity=lambda: self.level,
        )

    def _change(self, values: dict[str, Any]) -> None:
        self.patches.append(values)
        self.heard.append(values)
        if not self.slow:
            self.values = {**self.values, **values}

    def _command(self, word: str) -> None:
        self.words.append(word)
        self.heard.append(word)

    def _verbosity(self, level: int) -> None:
        self.level = level


class Wire:
    """A real UDP socket that speaks OSC: sends raw datagrams, reads messages."""

    def __init__(self, port: int = 0) -> None:
        self.socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 20)
        self.socket.bind(("127.0.0.1", 0))
        self.socket.settimeout(20)
        self._to = ("127.0.0.1", port)

    @property
    def port(self) -> int:
        return int(self.socket.getsockname()[1])

    def send(self, datagram: bytes) -> None:
        self.socket.sendto(datagram, self._to)

    def read(self) -> Message:
        """The next message; a test fails if none comes."""
        (message,) = decode(self.socket.recv(65535))
        assert not isinstance(message, Broken)
        return message

    def until(self, address: str, *arguments: Any) -> Message:
        """Read on to that message."""
        while True:
            message = self.read()
            if message.address == address and (not arguments or message.arguments == arguments):
                return message

    def silent(self) -> bool:
        """Has nothing come?"""
        self.socket.setblocking(False)
        try:
            self.socket.recv(65535)
        except BlockingIOError:
            return True
        finally:
            self.socket.settimeout(20)
        return False


@contextmanager
def serving(
    scene: Scene,
    folder: Path,
    *,
    out: tuple[str, ...] = (),
    schema: bool = True,
    beside: Mapping[str, Scene] | None = None,
) -> Iterator[OscServer]:
    """A server; with others beside, the first is called ``stage``."""
    first = scene.steered()
    others = {name: other.steered() for name, other in (beside or {}).items()}
    server = OscServer(
        "127.0.0.1",
        0,
        first,
        streams={"stage": first, **others} if others else None,
        out=out,
        presets=folder / "presets.json",
    )
    if schema:
        server.introduce(SCHEMA)
    server.start()
    try:
        yield server
    finally:
        server.close()
