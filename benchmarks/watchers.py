"""Clients that look at what they are sent: viewers that know the age of each picture.

A producer stamps each picture with the moment at which it sends it; both are in one process, so
both read the same clock.
"""

import selectors
import socket
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from benchmarks.clients import Client, Producer, frame, text_frame
from dreamrelay.packet import Packet
from dreamrelay.protocol.native import decode_packet, encode_packet

CHUNK = 256 * 1024
PATIENCE = 30.0
"""Seconds that a busy machine is waited for, until at least one picture is there."""

_BINARY, _CLOSE = 2, 8


@dataclass(frozen=True, slots=True)
class Seen:
    """A picture that came: its number, its age on arrival and the moment (UNIX time), ns."""

    seq: int
    age: int
    at: int


class Watcher(Client):
    """A viewer of the native dialect that reads every picture whole.

    Args:
        client: connected, after its handshake.
        credit: given back for each picture; None: enough was given at the start.
    """

    def __init__(self, client: socket.socket, *, credit: bool = True) -> None:
        super().__init__(client)
        self.socket.setblocking(False)
        self.seen: list[Seen] = []
        self._credit = text_frame(type="credit", count=1) if credit else None
        self._buffer = bytearray()

    def pump(self) -> None:
        self.drain(CHUNK)

    def drain(self, most: int) -> int:
        """Take what is there, ``most`` bytes of it at most; how many.

        Raises:
            RuntimeError: the relay has closed the connection.
        """
        try:
            data = self.socket.recv(most)
        except BlockingIOError:
            return 0
        if not data:
            raise RuntimeError("the relay closed the connection of a viewer")
        self._buffer += data
        while self._take_message():
            pass
        return len(data)

    def _take_message(self) -> bool:
        buffer = self._buffer
        if len(buffer) < 2:
            return False
        wide = {126: 2, 127: 8}.get(buffer[1], 0)
        begin = 2 + wide
        size = int.from_bytes(buffer[2:begin], "big") if wide else buffer[1]
        if len(buffer) < begin or len(buffer) < begin + size:
            return False
        kind = buffer[0] & 0x0F
        if kind == _CLOSE:
            raise RuntimeError("the relay said goodbye to a viewer")
        if kind == _BINARY:
            packet, _ = decode_packet(bytes(buffer[begin : begin + size]))
            now = time.time_ns()
            self.seen.append(Seen(packet.seq, now - packet.captured_ns, now))
            if self._credit is not None:
                self.socket.send(self._credit)
        del buffer[: begin + size]
        return True


class Stamper(Producer):
    """Sends one picture again and again, each time with its number and the time of now."""

    def __init__(self, client: socket.socket, picture: bytes) -> None:
        super().__init__(client, b"")
        self._picture = picture
        self.sent = 0

    def send(self) -> None:
        self.sent += 1
        packet = Packet.of(self._picture, seq=self.sent)
        self.socket.sendall(frame(encode_packet(packet, "input")))


def play(
    producer: Producer,
    others: Sequence[Client],
    seconds: float,
    rate: float,
    between: Callable[[], None] | None = None,
    enough: Callable[[], bool] | None = None,
) -> int:
    """Send ``rate`` pictures a second for so long while everybody takes what comes; how many.

    Args:
        between: called between two pictures, at least.
        enough: it goes on until this is true, but for :data:`PATIENCE` at most.
    """
    sent = 0
    with selectors.DefaultSelector() as selector:
        for client in (producer, *others):
            selector.register(client.socket, selectors.EVENT_READ, client)
        due = time.perf_counter()
        end = due + seconds
        while (now := time.perf_counter()) < end or (
            enough is not None and now < end + PATIENCE and not enough()
        ):
            if now >= due:
                producer.send()
                sent += 1
                due = max(due + 1 / rate, now - 1 / rate)  # what was missed is not made up for
                if between is not None:
                    between()
            for key, _ in selector.select(max(0.0, due - time.perf_counter())):
                key.data.pump()
    return sent


def quantile(values: Sequence[float], part: float) -> float:
    """The value that ``part`` of all do not exceed, 0..1; they need not be sorted.

    Raises:
        ValueError: there are none.
    """
    if not values:
        raise ValueError("expected at least one value: no picture came")
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(part * len(ordered)))]
