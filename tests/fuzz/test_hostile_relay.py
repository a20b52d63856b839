"""Our own programs at a relay that says anything: spoiled messages, and the end at any moment.

A second for each; ``make fuzz`` goes on longer, with other messages each time.
"""

import time
from collections.abc import Callable

import pytest

from dreamrelay.bridge import Bridge
from dreamrelay.codec import Frame
from dreamrelay.config import BridgeSettings, ProducerSettings, WorkerSettings
from dreamrelay.packet import Packet
from dreamrelay.producer import Producer
from dreamrelay.protocol.native import encode_packet
from dreamrelay.worker import Worker
from tests.fakes.engines import ScriptedEngine
from tests.fakes.relays import Peer, scripted_relay
from tests.fakes.running import Running, Runs
from tests.fuzz.messages import JPEG, PNG, Message, said, spoil
from tests.fuzz.test_fuzz import SECONDS, chance_of
from tests.relay.clients import HELLO, base64_picture
from tests.support import until

HOSTILE_SECONDS = SECONDS / 2

RELAY: tuple[Message, ...] = (
    said("welcome", version=1, stream="default", role="worker", peer="ws-1", credit=2),
    said("schema", schema=HELLO["schema"]),
    said("parameters", values={"prompt": "red"}, revision=3, changed=["prompt"], origin="x"),
    said("parameters", values={"steps": [2, 1]}, revision=4, changed=[], id="patch-1"),
    said("status", state="live", input_text="x", stand_in="slate", held=True),
    said("audience", watching=False, idle=True, control=True),
    said("latency", where="x", worker=3),
    said("reference", image=base64_picture()),
    said("reference", image="ä" * 8),
    said("reference", image=None),
    said("error", code="parameter", message="no", problems={"prompt": "x"}, id="patch-1"),
    said("pong", id=1, received_ns=5),
    said("pong", id=1, received_ns=2**64 - 1),
    said("parameters", values={"prompt": "red"}, revision=2**40, changed=[], origin="x"),
    said("parameters", values={"prompt": "red"}, revision=-1, changed=[], origin="x"),
    said("ack", seq=1, accepted=True, on_air=True),
    said("ack", seq=2, accepted=False, message="no"),
    said("request", seq=5, patch={"prompt": "blue"}, max_bytes=10_000),
    said("request", seq=6, patch={"prompt": ["x"]}, max_bytes=1),
    encode_packet(Packet.of(JPEG, seq=1), "input"),
    encode_packet(Packet.of(PNG, seq=5).but(private=True), "input"),
    encode_packet(Packet.of(PNG, seq=2), "output"),
    encode_packet(Packet.of(JPEG, seq=2**64 - 1, captured_ns=2**64 - 1), "input"),
)


class ReferredEngine(ScriptedEngine):
    """It imitates pictures, so it is given them."""

    @property
    def imitates(self) -> bool:
        return True

    def refer(self, picture: Frame | None) -> None:
        """Nothing comes of it."""


def worker(uri: str) -> Runs:
    settings = WorkerSettings(websocket_uri=uri, osc_port=None, viewer="off", verbose=0)
    return Worker(settings, engine=ReferredEngine())


def producer(uri: str) -> Runs:
    return Producer(ProducerSettings(websocket_uri=uri, source="pattern://bars", duration=None))


def bridge(uri: str) -> Runs:
    return Bridge(BridgeSettings(websocket_uri=uri, source="pattern://bars", sink="null://"))


@pytest.mark.timeout(SECONDS + 180)
@pytest.mark.parametrize("make", [worker, producer, bridge], ids=lambda make: str(make.__name__))
def test_our_programs_live_through_it(make: Callable[[str], Runs]) -> None:
    chance, seed = chance_of(make.__name__)
    deadline = time.monotonic() + HOSTILE_SECONDS
    talks: list[int] = []

    def talk(peer: Peer) -> None:
        peer.welcome(credit=2)
        for count in range(chance.randint(5, 200)):
            try:
                peer.websocket.send(spoil(chance.choice(RELAY), chance))
            except UnicodeEncodeError:
                continue
            if count % 8 == 0:
                time.sleep(0.001)  # so that it comes to do something
        talks.append(peer.number)
        if chance.random() < 0.5:
            peer.cut()

    def over() -> bool:
        return not running.alive or (len(talks) > 0 and time.monotonic() > deadline)

    with scripted_relay(talk) as uri:
        running = Running(make(uri))
        until(over, HOSTILE_SECONDS + 60)
        assert running.alive, f"seed {seed}: {running.failures}"
        assert running.stop() is None, f"seed {seed}"
