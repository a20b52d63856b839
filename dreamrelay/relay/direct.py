"""Our end of a line: uvicorn's WebSocket protocol with a short way in and a short way out.

In: whole data frames are read here, into one buffer that all connections share, and go to the
receiver at once. All else (control frames, fragments, what breaks the rules) goes to the library
byte by byte, as without us, and so does everything before the handshake is done.

Out: who asks ``can_send`` may write whole frames into the transport. The library need not know,
since nothing is compressed. The transport's buffer is to be empty, so a picture never waits behind
another one: the newest waits in its subscription.

It leans on a module of uvicorn that promises nothing, so ``trouble`` looks whether it still holds.
"""

import asyncio
from collections import deque
from typing import Any, ClassVar

from websockets.http11 import Request
from websockets.protocol import OPEN

from dreamrelay.relay.connections import WebSocketProtocol
from dreamrelay.relay.lines import EXTENSION, Line, Receiver

try:  # in C, where a wheel has it
    from websockets.speedups import apply_mask
except ImportError:
    from websockets.utils import apply_mask

SCRATCH_BYTES = 256 * 1024
"""What is read from a socket at a time."""

_FIN, _MASKED = 0x80, 0x80
_WHOLE_TEXT = 0x81
_WHOLE = (_WHOLE_TEXT, 0x82)
"""First bytes of a message in one frame, text and binary."""


class DirectProtocol(WebSocketProtocol, asyncio.BufferedProtocol, Line):
    """One connection."""

    scratch: ClassVar[memoryview]
    """One for all: what is read is used up before anybody else reads."""

    _receiver: Receiver | None = None
    _deaf = False
    """The receiver is gone."""
    _held = False
    """The receiver wants no more for now."""
    _ours: bool | None = None
    """Whether frames are read here; None before the handshake is done."""
    _fragmented = False
    """A message has begun that the library puts together."""
    _passing = 0
    """Bytes of the frame that go to the library, still to come."""
    _empty = True
    """Nothing waits in the transport's buffer."""

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        cls.scratch = memoryview(bytearray(SCRATCH_BYTES))  # a relay's own: it may have its thread

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        self.write = self.transport.write
        self._rest = bytearray()
        self._waiting: deque[str | bytes] = deque()

    def handle_connect(self, event: Request) -> None:
        super().handle_connect(event)
        if not self.close_sent:
            extensions: dict[str, Any] = self.scope["extensions"]
            extensions[EXTENSION] = self

    # -- in ---------------------------------------------------------------------------------------

    def get_buffer(self, sizehint: int) -> memoryview:
        return self.scratch

    def buffer_updated(self, nbytes: int) -> None:
        if self._ours and not self._rest and not self._held:
            used = self._read(self.scratch, nbytes)
            if used < nbytes:
                self._rest += self.scratch[used:nbytes]
            return
        data = self.scratch[:nbytes]
        if self._ours is None:
            # Who speaks before the handshake is done leaves half a frame in the library, perhaps.
            self._ours = self.conn.state is OPEN and not self.conn.extensions
        if self._ours:
            self._rest += data
            self._read_rest()
        else:
            self.data_received(bytes(data))

    def _read_rest(self) -> None:
        if self._rest and not self._held:
            with memoryview(self._rest) as data:
                used = self._read(data, len(data))
            del self._rest[:used]

    def _read(self, data: memoryview, end: int) -> int:
        """Read the frames that are whole, up to ``end``; return how many bytes are done with."""
        at = 0
        while at < end and not self._held:
            if self.transport.is_closing():
                return end
            if self._passing:
                stop = min(at + self._passing, end)
                self._passing -= stop - at
                self.data_received(bytes(data[at:stop]))
                at = stop
                continue
            if end - at < 2:
                break
            first, second = data[at], data[at + 1]
            size, begin = second & 0x7F, at + 6
            if size > 125:
                begin += 2 if size == 126 else 8
                if begin - 4 > end:
                    break
                size = int.from_bytes(data[at + 2 : begin - 4], "big")
            most = self.conn.max_message_size
            whole = first in _WHOLE and second & _MASKED and not self._fragmented
            if not whole or (most is not None and size > most):
                if not first & 0x08:  # no control frame
                    self._fragmented = not first & _FIN
                self._passing = begin + size - at - (0 if second & _MASKED else 4)
                continue
            stop = begin + size
            if stop > end:
                break
            at = stop
            self._got(apply_mask(data[begin:stop], bytes(data[begin - 4 : begin])), first)
        return at

    def _got(self, payload: bytes, first: int) -> None:
        """A whole message has come; ``first`` is the first byte of its frame."""
        receiver = self._receiver
        if receiver is None:
            self.curr_msg_data_type = "text" if first == _WHOLE_TEXT else "bytes"
            self.frames = [payload]
            self.send_receive_event_to_app()
        elif not self.close_sent:
            try:
                took = (
                    receiver.take_text(payload) if first == _WHOLE_TEXT else receiver.take(payload)
                )
            except UnicodeDecodeError:
                self.no_text()
            else:
                if not took:
                    self._hold()

    def hear(self, message: str | bytes) -> None:
        if self._receiver is None:
            if not self._deaf:
                super().hear(message)
        elif self._held:
            self._waiting.append(message)
        elif not self._receiver.take(message):
            self._hold()

    def _hold(self) -> None:
        if self._receiver is None:
            return  # it has just gone
        self._held = True
        if not self.read_paused:
            self.read_paused = True
            self.transport.pause_reading()

    # -- the receiver -----------------------------------------------------------------------------

    def attach(self, receiver: Receiver) -> bool:
        gone = self.close_sent or self.disconnected or self.transport.is_closing()
        if gone or not self.handshake_complete or self.conn.extensions:
            return False
        self._receiver, self._held = receiver, True
        events = []
        while not self.queue.empty():
            event = self.queue.get_nowait()
            if event["type"] == "websocket.receive":
                text = event.get("text")
                self._waiting.append(event["bytes"] or b"" if text is None else text)
            else:
                events.append(event)
        for event in events:
            self.queue.put_nowait(event)
        self.transport.set_write_buffer_limits(1, 0)
        return True

    def detach(self) -> None:
        self._receiver, self._deaf = None, True
        self._waiting.clear()
        self.go_on()

    def go_on(self) -> None:
        self._held = False
        while self._waiting and not self._held:
            self.hear(self._waiting.popleft())
        self._read_rest()
        if self.read_paused and not self._held:
            self.read_paused = False
            self.transport.resume_reading()

    # -- out --------------------------------------------------------------------------------------

    def can_send(self) -> bool:
        return self._empty and not self.close_sent and not self.transport.is_closing()

    def pause_writing(self) -> None:
        super().pause_writing()
        self._empty = False

    def resume_writing(self) -> None:
        super().resume_writing()
        self._empty = True
        if self._receiver is not None:
            self._receiver.drained()
