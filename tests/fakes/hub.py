"""A hub without sockets: peers that keep what they hear, a stream with them, and a clock."""

from typing import Any

from dreamrelay.hub import Hub, Peer, Stream
from dreamrelay.packet import Codec, Packet, Track
from dreamrelay.protocol.messages import (
    AudienceChanged,
    Delivery,
    Limits,
    Notice,
    Role,
    StatusReceived,
    WorkerHello,
)
from tests.fakes.clock import Clock

SCHEMA: dict[str, Any] = {
    "type": "object",
    "properties": {
        "prompt": {"type": "string", "maxLength": 20},
        "strength": {"type": "number", "minimum": 0, "maximum": 1},
        "steps": {"anyOf": [{"type": "integer", "minimum": 1}, {"type": "null"}]},
        "cfg_type": {"$ref": "#/$defs/Cfg"},
    },
    "$defs": {"Cfg": {"enum": ["none", "self"]}},
}
BOTH: tuple[Track, ...] = ("input", "output")
HELLO = WorkerHello("engine", "pocket", "cpu", 8, 8, SCHEMA, {"prompt": "", "strength": 0.5})


class FakePeer(Peer):
    """Hears everything, and takes pictures when the test says so."""

    def __init__(self, id: str, role: Role, reply_limit: int | None = None) -> None:
        self.id, self.role, self.reply_limit = id, role, reply_limit
        self.heard: list[Any] = []
        self.woken = 0

    def notify(self, notice: Notice) -> None:
        self.heard.append(notice)

    def wake(self) -> None:
        self.woken += 1

    def of(self, *kinds: type) -> list[Any]:
        return [notice for notice in self.heard if isinstance(notice, kinds)]

    def last(self, kind: type) -> Any:
        return self.of(kind)[-1]


def picture(seq: int = 0, *, private: bool = False, captured_ns: int = 0) -> Packet:
    return Packet(b"GIF", Codec.GIF, 1, 1, seq, captured_ns, private=private)


class Room:
    """A stream with peers made on the spot."""

    def __init__(self) -> None:
        self.clock = Clock()
        self.hub = Hub(
            Limits(), clock_ns=self.clock, unix_ns=self.clock, call_later=self.clock.call_later
        )
        self.stream: Stream = self.hub.stream("default")
        self._made = 0

    def peer(self, role: Role, **arguments: Any) -> FakePeer:
        self._made += 1
        return FakePeer(f"{role}-{self._made}", role, **arguments)

    def producer(self) -> FakePeer:
        peer = self.peer("producer")
        self.stream.join(peer)
        return peer

    def viewer(self, tracks: tuple[Track, ...] = ("output",), credit: int | None = 1) -> FakePeer:
        peer = self.peer("viewer")
        self.stream.join(peer, tracks, credit)
        return peer

    def worker(self, credit: int = 1, hello: WorkerHello = HELLO) -> FakePeer:
        peer = self.peer("worker")
        self.stream.join(peer, (), credit, hello)
        return peer

    def take(self, peer: FakePeer, track: Track = "output") -> int | None:
        """What the sender of that peer would send now: the number of the picture."""
        subscription = self.stream.subscription(peer, track)
        packet = subscription.take() if subscription else None
        return None if packet is None else packet.seq

    def send(self, producer: FakePeer, count: int = 1) -> None:
        for _ in range(count):
            self.stream.publish(picture(), "input", producer)

    def answer(self, worker: FakePeer, seq: int, *, private: bool = False) -> None:
        self.stream.publish(picture(seq, private=private), "output", worker)


def given_to(worker: FakePeer) -> list[int]:
    return [notice.packet.seq for notice in worker.of(Delivery)]


def live(room: Room, worker: FakePeer) -> FakePeer:
    room.stream.report(worker, StatusReceived("live"))
    return worker


def told(worker: FakePeer) -> list[tuple[int, bool]]:
    """How many look, and whether it may paint, each time that it was told."""
    return [(notice.watching, notice.idle) for notice in worker.of(AudienceChanged)]
