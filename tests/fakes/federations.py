"""Several relays in one process: hubs with one clock, joined by a bus that can be cut."""

from collections.abc import Callable, Mapping
from typing import Any

from dreamrelay.hub import Hub, Peer, Stream
from dreamrelay.packet import Packet, Track
from dreamrelay.protocol.messages import (
    Delivery,
    Limits,
    Notice,
    ParametersChanged,
    RequestOffered,
    Role,
    StatusChanged,
    StatusReceived,
    WorkerHello,
)
from dreamrelay.protocol.relays import read
from dreamrelay.relay.backplane import MemoryBackplane, MemoryBus
from dreamrelay.relay.federation import Federation
from tests.fakes.clock import Clock

GIF = b"GIF89a" + (8).to_bytes(2, "little") * 2
SCHEMA: dict[str, Any] = {
    "type": "object",
    "properties": {
        "prompt": {"type": "string", "maxLength": 20},
        "strength": {"type": "number", "minimum": 0, "maximum": 1},
    },
}
HELLO = WorkerHello("engine", "pocket", "cpu", 8, 8, SCHEMA, {"prompt": "", "strength": 0.5})


def picture(seq: int = 0, *, note: bytes = b"", private: bool = False) -> Packet:
    """A picture that says what it is."""
    return Packet.of(GIF + note, seq=seq, captured_ns=seq).but(private=private)


class Cable(MemoryBus):
    """A bus whose relays can be kept apart, and which can lose letters."""

    def __init__(self) -> None:
        super().__init__()
        self.apart: list[frozenset[str]] = []
        """Groups that reach nobody outside."""
        self.loses: Callable[[bytes], bool] = lambda _: False
        self.carried: list[bytes] = []
        self.takes: Callable[[], None] = lambda: None
        """Called for each letter, so that time may pass."""

    def reaches(self, sender: str, to: str) -> bool:
        inside = all((sender in group) == (to in group) for group in self.apart)
        return sender != to and inside

    def post(self, sender: str, to: str | None, data: bytes) -> None:
        self.takes()
        if not self.loses(data):
            self.carried.append(data)
            super().post(sender, to, data)


class Somebody(Peer):
    """A peer that hears all, and takes pictures as they come where it watches."""

    def __init__(self, stream: Stream, id: str, role: Role) -> None:
        self.id, self.role = id, role
        self.stream = stream
        self.heard: list[Any] = []
        self.seen: list[tuple[Track, Packet]] = []
        self.takes = True

    def notify(self, notice: Notice) -> None:
        self.heard.append(notice)

    def wake(self) -> None:
        for subscription in self.stream.subscriptions(self):
            while self.takes and (packet := subscription.take()) is not None:
                self.seen.append((subscription.track, packet))

    def of(self, *kinds: type) -> list[Any]:
        return [notice for notice in self.heard if isinstance(notice, kinds)]

    def numbers(self, track: Track = "output") -> list[int]:
        """Of the pictures that it saw."""
        return [packet.seq for seen, packet in self.seen if seen == track]

    def saw(self, seq: int, track: Track = "output") -> bool:
        """Whether that was the last picture it saw."""
        return self.numbers(track)[-1:] == [seq]

    def has(self, count: int) -> bool:
        """Whether it was given so many pictures."""
        return len(self.given) == count

    @property
    def values(self) -> Mapping[str, Any]:
        told: Mapping[str, Any] = self.of(ParametersChanged)[-1].values
        return told

    @property
    def revisions(self) -> list[int]:
        """As it was told them."""
        return [notice.revision for notice in self.of(ParametersChanged)]

    @property
    def status(self) -> Mapping[str, Any]:
        told: Mapping[str, Any] = self.of(StatusChanged)[-1].status
        return told

    @property
    def given(self) -> list[Packet]:
        """Inputs, and pictures to be made alone."""
        return [notice.packet for notice in self.of(Delivery, RequestOffered)]


class Node:
    """One relay: its hub, and its place among the others.

    Args:
        ahead_ns: of its calendar, compared with the others'.
    """

    def __init__(self, name: str, cable: Cable, clock: Clock, ahead_ns: int = 0) -> None:
        self.name = name
        self.clock = clock

        self.ahead_ns = ahead_ns

        def unix_ns() -> int:
            return clock() + self.ahead_ns

        self.unix_ns = unix_ns
        self.hub = Hub(Limits(), clock_ns=clock, unix_ns=unix_ns, call_later=clock.call_later)
        self.place = MemoryBackplane(cable, name)
        self.federation = Federation(self.hub, self.place, name, clock_ns=clock, unix_ns=unix_ns)
        self.place.open(self.federation)
        self._made = 0

    @property
    def stream(self) -> Stream:
        return self.hub.stream("default")

    @property
    def home(self) -> str | None:
        return self.stream.mirrored.home

    def peer(self, role: Role) -> Somebody:
        self._made += 1
        return Somebody(self.stream, f"{role}-{self._made}", role)

    def viewer(self, *tracks: Track, credit: int | None = None) -> Somebody:
        peer = self.peer("viewer")
        self.stream.join(peer, tracks or ("output",), credit)
        return peer

    def producer(self) -> Somebody:
        peer = self.peer("producer")
        self.stream.join(peer)
        return peer

    def worker(self, credit: int = 1, hello: WorkerHello = HELLO) -> Somebody:
        peer = self.peer("worker")
        self.stream.join(peer, (), credit, hello)
        self.stream.report(peer, StatusReceived("live"))
        return peer

    def send(self, producer: Somebody, seq: int = 1, note: bytes = b"") -> None:
        self.stream.publish(picture(seq, note=note), "input", producer)

    def make(self, worker: Somebody, packet: Packet | None = None) -> None:
        """A worker gives back what it was given last, and wants more."""
        given = packet or worker.given[-1]
        self.stream.publish(given, "output", worker)
        self.stream.grant(worker, 1)


class Cluster:
    """Relays on one cable."""

    def __init__(self, *names: str) -> None:
        self.clock = Clock()
        self.cable = Cable()
        self.nodes: list[Node] = []
        for name in names:
            self.add(name)
        self.pass_time(2)

    def add(self, name: str, ahead_ns: int = 0) -> Node:
        node = Node(name, self.cable, self.clock, ahead_ns)
        self.nodes.append(node)
        self.cable.deliver()
        return node

    def __getitem__(self, name: str) -> Node:
        return next(node for node in self.nodes if node.name == name)

    def settle(self) -> None:
        """Everything that was said arrives."""
        self.cable.deliver()

    def pass_time(self, seconds: float = 1) -> None:
        """Time passes at all of them."""
        self.settle()
        for _ in range(max(1, round(seconds))):
            self.tick()
            self.settle()

    def tick(self) -> None:
        """A second passes at all of them, and no letter arrives."""
        self.clock.advance(1)
        for node in self.nodes:
            node.hub.tick()
            node.federation.tick()

    def claims(self) -> dict[str, int]:
        """Who said last that they are the home of the stream, and since which epoch."""
        said = {}
        for data in self.cable.carried:
            if b'"here"' in data[:64] and (letter := read(data)).kind == "here":
                said[letter.sender] = letter.body["claims"].get("default", 0)
        return {node.name: said[node.name] for node in self.nodes if said.get(node.name)}

    def cut(self, *names: str) -> None:
        """These reach nobody but each other."""
        self.cable.apart.append(frozenset(names))

    def heal(self) -> None:
        self.cable.apart.clear()

    def remove(self, node: Node) -> None:
        """A relay is killed: not a word."""
        self.nodes.remove(node)
        self.cable.leave(node.place)
