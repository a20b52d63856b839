"""People at a stream: links that keep what they hear."""

import threading
from collections.abc import Mapping
from contextlib import ExitStack
from types import TracebackType
from typing import Any

from dreamrelay.errors import DreamRelayError
from dreamrelay.link import Link, Listener
from dreamrelay.packet import Packet, Track
from dreamrelay.protocol.messages import Role
from tests.support import picture, until


class Heard(Listener):
    """Everything a link says, kept."""

    def __init__(self) -> None:
        self.welcomes: list[Mapping[str, Any]] = []
        self.losses: list[tuple[str, float]] = []
        self.texts: list[tuple[str, Mapping[str, Any]]] = []
        self.packets: list[tuple[Packet, Track]] = []
        self.errors: list[DreamRelayError] = []

    def opened(self, welcome: Mapping[str, Any]) -> None:
        self.welcomes.append(welcome)

    def lost(self, reason: str, retry_in: float) -> None:
        self.losses.append((reason, retry_in))

    def heard(self, kind: str, fields: Mapping[str, Any]) -> None:
        self.texts.append((kind, fields))

    def received(self, packet: Packet, track: Track) -> None:
        self.packets.append((packet, track))

    def refused(self, error: DreamRelayError) -> None:
        self.errors.append(error)

    def has(self, kind: str) -> list[Mapping[str, Any]]:
        """The text messages of that type so far."""
        return [fields for heard, fields in self.texts if heard == kind]


class Person(Heard):
    """Somebody at a stream: watches, sends pictures, types prompts."""

    def __init__(
        self, uri: str, role: Role = "viewer", track: str = "output", stream: str = "default"
    ) -> None:
        super().__init__()
        query = {"track": track} if role == "viewer" else None
        self.link = Link(uri, stream, role, self, query=query)
        self.link.start()
        until(lambda: self.welcomes, what=f"a welcome from {uri}")

    def received(self, packet: Packet, track: Track) -> None:
        super().received(packet, track)
        self.link.tell("credit", count=1, track=track)

    @property
    def results(self) -> list[Packet]:
        return [packet for packet, track in self.packets if track == "output"]

    @property
    def status(self) -> Mapping[str, Any]:
        """The last status, empty before the first."""
        return (self.has("status") or [{}])[-1]

    @property
    def values(self) -> Mapping[str, Any]:
        """The parameters that the relay told last."""
        told = self.has("parameters")
        values: Mapping[str, Any] = told[-1]["values"] if told else {}
        return values

    def send(self, data: bytes, seq: int) -> None:
        """Send a picture and wait until the relay has it."""
        acks = len(self.has("ack"))
        self.link.send_picture(Packet.of(data, seq=seq), "input")
        until(lambda: len(self.has("ack")) > acks, what=f"the ack of picture {seq}")

    def __enter__(self) -> "Person":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.link.close()


class People(ExitStack):
    """A producer and a viewer of both tracks."""

    def __init__(self, uri: str, stream: str = "default") -> None:
        super().__init__()
        self.producer = self.enter_context(Person(uri, "producer", stream=stream))
        self.viewer = self.enter_context(Person(uri, "viewer", "both", stream))


class Camera(threading.Thread):
    """A producer that sends pictures until it is told to stop."""

    def __init__(self, uri: str) -> None:
        super().__init__(daemon=True)
        self._person = Person(uri, "producer")
        self._ended = threading.Event()

    def run(self) -> None:
        data, seq = picture(), 0
        while not self._ended.wait(0.03):
            seq += 1
            self._person.link.send_picture(Packet.of(data, seq=seq), "input")

    def stop(self) -> None:
        self._ended.set()
        self.join(30)
        self._person.link.close()
