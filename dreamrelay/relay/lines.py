"""The short way between a peer and its socket, as far as a peer need know of it.

Where the server below us is known (:mod:`direct`), messages go to the peer as they are read, and
pictures to the socket as they come: no queue, no task, no ASGI message. Elsewhere there is no line,
and a peer goes by ASGI.
"""

import struct
from abc import ABC, abstractmethod
from collections.abc import Callable

from starlette.types import Scope

from dreamrelay.packet import Packet
from dreamrelay.protocol.messages import Form

EXTENSION = "relay"
"""The key of the line among the extensions of an ASGI scope."""

_TEXT, _BINARY = 0x81, 0x82


class Receiver(ABC):
    """Who is at the peer's end of a line. All methods return at once."""

    @abstractmethod
    def take(self, message: str | bytes) -> bool:
        """Do what a message asks for; False: the next one has to wait for :meth:`Line.go_on`."""

    @abstractmethod
    def take_text(self, message: bytes) -> bool:
        """The same for a text that is not decoded yet.

        Raises:
            UnicodeDecodeError: it is no UTF-8; nothing was done.
        """

    @abstractmethod
    def drained(self) -> None:
        """The socket takes data again."""


class Line(ABC):
    """A WebSocket of a server that we know, after its handshake."""

    @abstractmethod
    def attach(self, receiver: Receiver) -> bool:
        """Have ``receiver`` take all messages from the next :meth:`go_on` on.

        False: the way is not open (an extension was agreed on, the peer is gone).
        """

    @abstractmethod
    def detach(self) -> None:
        """From now on nobody takes messages: what still comes is thrown away."""

    @abstractmethod
    def go_on(self) -> None:
        """Read on, beginning with what was held back; idempotent."""

    @abstractmethod
    def can_send(self) -> bool:
        """Whether the socket takes data now: nothing of ours waits, and nobody has said goodbye."""

    write: Callable[[bytes], None]
    """Writes one whole frame, if :meth:`can_send`; the transport's own, for one call less."""


def line_of(scope: Scope) -> Line | None:
    """The line of a connection, if there may be one."""
    line = scope.get("extensions", {}).get(EXTENSION)
    return line if isinstance(line, Line) else None


def frame(message: str | bytes) -> bytes:
    """A message as a server writes it: one frame, not masked, not compressed."""
    if isinstance(message, str):
        data = message.encode()
        return _head(_TEXT, len(data)) + data
    return _head(_BINARY, len(message)) + message


def _head(first: int, size: int) -> bytes:
    """What stands before a message of ``size`` bytes."""
    if size < 126:
        return bytes((first, size))
    if size < 1 << 16:
        return struct.pack("!BBH", first, 126, size)
    return struct.pack("!BBQ", first, 127, size)


def framed(packet: Packet, form: Form) -> bytes:
    """A picture as it goes into the socket: made once, shared by all who are sent this form."""
    made: bytes | None = packet.wires.get(form.framed)
    if made is None:
        parts = form.parts(packet)
        first = _TEXT if form.text else _BINARY
        made = b"".join((_head(first, sum(map(len, parts))), *parts))
        packet.wires[form.framed] = made
    return made
