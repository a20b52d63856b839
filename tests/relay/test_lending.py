"""A worker of one stream lent to others: no sockets, no clock, one thread."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest

from dreamrelay.errors import EngineError
from dreamrelay.hub import MAX_REQUESTS, Hub, Peer, Stream
from dreamrelay.packet import Packet
from dreamrelay.protocol.messages import (
    Answered,
    Delivery,
    ParametersChanged,
    StatusChanged,
    StatusReceived,
    Unanswered,
    WorkerHello,
)
from dreamrelay.relay.lending import CREDIT, PICTURE_BYTES, Lender, Loan
from tests.relay.pages import Somebody
from tests.support import picture

RED, BLUE = picture("red"), picture("blue")
SCHEMA: dict[str, Any] = {
    "type": "object",
    "properties": {
        "prompt": {"type": "string", "maxLength": 50},
        "strength": {"type": "number", "minimum": 0, "maximum": 1},
    },
}
HELLO = WorkerHello("test", "none", "cpu", 64, 48, SCHEMA, {"prompt": "white", "strength": 0.5})


class House:
    """A default stream with or without a worker, and guests."""

    def __init__(self) -> None:
        self.hub = Hub()
        self.lender = Lender(self.hub, "default")
        self.default = self.hub.stream("default")
        self.worker = Somebody("worker")

    def work(self, hello: WorkerHello = HELLO, credit: int = 8) -> Somebody:
        self.default.join(self.worker, (), credit, hello)
        self.default.report(self.worker, StatusReceived("live"))
        return self.worker

    def send(self, stream: Stream, producer: Peer, data: bytes = RED) -> None:
        stream.publish(Packet.of(data), "input", producer)

    def answer(self, data: bytes = BLUE, stream: Stream | None = None) -> None:
        """Answer the newest request."""
        offered = self.worker.offered()[-1].packet
        result = Packet.of(data, seq=offered.seq, captured_ns=offered.captured_ns)
        (stream or self.default).publish(
            result.but(private=True, revision=99), "output", self.worker
        )

    def patches(self) -> list[Mapping[str, Any]]:
        return [offered.patch for offered in self.worker.offered()]


@pytest.fixture
def house() -> House:
    return House()


def producer_at(stream: Stream) -> Somebody:
    producer = Somebody("producer")
    stream.join(producer)
    return producer


def last(stream: Stream) -> Packet:
    packet = stream.tracks["output"].last
    assert packet is not None
    return packet


class TestLoan:
    def test_a_picture_there_and_back(self, house: House) -> None:
        worker, alice = house.work(), house.hub.stream("alice")
        with house.lender.guest(alice):
            producer = producer_at(alice)
            alice.update_parameters({"prompt": "ink"}, "test")
            house.send(alice, producer)
            (offered,) = worker.offered()
            assert offered.packet.data == RED
            assert offered.packet.private
            assert (dict(offered.patch), offered.max_bytes) == ({"prompt": "ink"}, PICTURE_BYTES)
            house.answer()
            shown = last(alice)
            assert (shown.data, shown.seq, shown.private) == (BLUE, 1, False)
            assert shown.revision == alice.revision
            assert shown.captured_ns == offered.packet.captured_ns
            assert house.default.tracks["output"].last is None, "nobody else sees it"

    def test_it_looks_like_a_worker_of_its_own(self, house: House) -> None:
        house.work()
        alice = house.hub.stream("alice")
        with house.lender.guest(alice):
            status = alice.status()
            assert (status["state"], status["workers"], status["model"]) == ("live", 1, "none")
            assert (status["width"], status["height"]) == (64, 48)
            assert alice.schema == SCHEMA
            assert alice.values == {"prompt": "white", "strength": 0.5}
        assert alice.status()["workers"] == 0
        assert not house.default.status()["viewers"]

    def test_the_borrower_begins_with_its_own_words_where_they_are_taken(
        self, house: House
    ) -> None:
        house.work()
        alice, bob = house.hub.stream("alice"), house.hub.stream("bob")
        with house.lender.guest(alice, {"prompt": "ink", "strength": 7, "other": 1}):
            assert alice.values == {"prompt": "ink", "strength": 0.5}
            alice.update_parameters({"prompt": "fog"}, "test")
            house.work(replace(HELLO, model="another"))
            house.lender.tick()
            assert (alice.values["prompt"], alice.status()["model"]) == ("fog", "another")
        bob.update_parameters({"prompt": "mist"}, "test")
        with house.lender.guest(bob, {"prompt": "ink"}):
            assert bob.values["prompt"] == "mist"

    def test_the_picture_to_imitate_is_the_lenders_affair(self, house: House) -> None:
        house.work(replace(HELLO, reference=True))
        alice = house.hub.stream("alice")
        with (
            house.lender.guest(alice),
            pytest.raises(EngineError, match=r"start one for this stream with --ip_adapter"),
        ):
            alice.refer(Packet.of(RED))
        assert alice.reference is None

    def test_newest_wins_and_so_many_are_under_way(self, house: House) -> None:
        worker, alice = house.work(), house.hub.stream("alice")
        with house.lender.guest(alice):
            producer = producer_at(alice)
            for _ in range(10):
                house.send(alice, producer)
            assert len(worker.offered()) == CREDIT
            house.answer()
            assert len(worker.offered()) == CREDIT + 1
            assert alice.status()["dropped"] == 10 - CREDIT - 1

    def test_streams_do_not_change_one_another(self, house: House) -> None:
        house.work()
        streams = [house.hub.stream(name) for name in ("alice", "bob")]
        with house.lender.guest(streams[0]), house.lender.guest(streams[1]):
            for stream, prompt in zip(streams, ("ink", "fog"), strict=True):
                stream.update_parameters({"prompt": prompt}, "test")
                house.send(stream, producer_at(stream))
                house.answer(picture(size=(len(stream.name), 8)))
            assert house.patches() == [{"prompt": "ink"}, {"prompt": "fog"}]
            assert [last(stream).width for stream in streams] == [5, 3]
            assert house.default.values["prompt"] == "white"

    def test_what_the_lender_changes_later_is_its_own(self, house: House) -> None:
        house.work()
        alice = house.hub.stream("alice")
        with house.lender.guest(alice):
            house.default.update_parameters({"prompt": "gold"}, "test")
            house.lender.tick()
            house.send(alice, producer_at(alice))
            assert house.patches() == [{"prompt": "white"}]

    def test_a_request_of_the_guest_goes_the_same_way(self, house: House) -> None:
        house.work()
        alice, asker = house.hub.stream("alice"), Somebody("producer")
        with house.lender.guest(alice):
            alice.request(Packet.of(RED), {"prompt": "fog"}, 7, asker)
            assert house.patches() == [{"prompt": "fog"}]
            house.answer()
            (answered,) = (n for n in asker.heard if isinstance(n, Answered))
            assert (answered.ticket, answered.packet.data, answered.prompt) == (7, BLUE, "fog")
            assert alice.tracks["output"].last is None
            alice.request(Packet.of(RED), {}, 8, asker)
            house.default.fail(house.worker.offered()[-1].packet.seq, "no memory", house.worker)
            (unanswered,) = (n for n in asker.heard if isinstance(n, Unanswered))
            assert (unanswered.ticket, str(unanswered.error)) == (8, "no memory")

    def test_a_failure_is_shown_until_a_picture_comes_out(self, house: House) -> None:
        house.work()
        alice = house.hub.stream("alice")
        with house.lender.guest(alice):
            producer = producer_at(alice)
            house.send(alice, producer)
            house.default.fail(house.worker.offered()[-1].packet.seq, "no memory", house.worker)
            house.lender.tick()
            assert alice.status()["text"] == "no memory"
            house.send(alice, producer)
            house.answer()
            assert alice.status()["text"] == ""

    def test_a_lender_that_is_busy_is_not_a_failure(self, house: House) -> None:
        house.work(credit=0)
        alice, asker = house.hub.stream("alice"), Somebody("producer")
        with house.lender.guest(alice):
            producer = producer_at(alice)
            for number in range(MAX_REQUESTS):
                house.default.request(Packet.of(RED), {}, number, asker)
            for _ in range(3):
                house.send(alice, producer)
            assert alice.status()["text"] == ""
            house.default.grant(house.worker, 2 * MAX_REQUESTS)
            house.send(alice, producer)
            assert len(house.worker.offered()) == MAX_REQUESTS + 1


class TestComingAndGoing:
    def test_no_worker_no_loan(self, house: House) -> None:
        alice = house.hub.stream("alice")
        with house.lender.guest(alice):
            assert alice.status()["state"] == "no-worker"
            house.work()
            house.lender.tick()
            assert alice.status()["state"] == "live"
            house.default.leave(house.worker)
            house.lender.tick()
            assert alice.status()["state"] == "lost"
            house.work()
            house.lender.tick()
            house.send(alice, producer_at(alice))
            assert house.worker.offered()

    def test_a_worker_of_its_own_goes_first(self, house: House) -> None:
        house.work()
        alice, own = house.hub.stream("alice"), Somebody("worker")
        with house.lender.guest(alice):
            alice.join(own, (), 8, HELLO)
            house.lender.tick()
            house.send(alice, producer_at(alice))
            assert not house.worker.offered()
            assert [n.packet.data for n in own.heard if isinstance(n, Delivery)] == [RED]
            alice.leave(own)
            house.lender.tick()
            assert alice.status()["workers"] == 1

    def test_the_lender_itself_needs_none(self, house: House) -> None:
        house.work()
        with house.lender.guest(house.default):
            house.lender.tick()
            assert house.default.status()["workers"] == 1

    def test_it_ends_with_the_last_guest(self, house: House) -> None:
        house.work()
        alice = house.hub.stream("alice")
        with house.lender.guest(alice):
            with house.lender.guest(alice):
                pass
            assert alice.status()["workers"] == 1
            house.send(alice, producer_at(alice))
        assert not any(isinstance(peer, Loan) for peer in alice.peers.values())
        house.answer()  # late: nobody waits for it
        assert alice.tracks["output"].last is None

    def test_loading_is_shown(self, house: House) -> None:
        house.work()
        alice, viewer = house.hub.stream("alice"), Somebody("viewer")
        with house.lender.guest(alice):
            alice.join(viewer)
            house.default.report(house.worker, StatusReceived("loading", "unet", 0.5))
            house.lender.tick()
            told = [n.status for n in viewer.heard if isinstance(n, StatusChanged)][-1]
            assert (told["state"], told["text"], told["fraction"]) == ("loading", "unet", 0.5)

    def test_another_schema_is_told_and_what_was_asked_for_is_kept(self, house: House) -> None:
        house.work()
        alice, viewer = house.hub.stream("alice"), Somebody("viewer")
        with house.lender.guest(alice):
            alice.update_parameters({"prompt": "ink", "strength": 0.1}, "test")
            alice.join(viewer)
            schema = {"properties": {"prompt": {"type": "string"}, "mode": {"enum": ["full"]}}}
            hello = WorkerHello("other", schema=schema, parameters={"prompt": "", "mode": "full"})
            house.work(hello)
            house.lender.tick()
            told = [n for n in viewer.heard if isinstance(n, ParametersChanged)][-1]
            assert alice.schema == schema
            assert told.values["prompt"] == "ink"
            assert "strength" not in told.values
