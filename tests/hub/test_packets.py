"""Packets: who gets what, and in which place they wait."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dreamrelay.errors import ProtocolError
from dreamrelay.hub import ON_AIR_NS, Hub, Subscription
from dreamrelay.packet import Hop, Packet, Track
from dreamrelay.protocol.messages import (
    Acknowledged,
    Answered,
    AudienceChanged,
    Limits,
    Refused,
    RequestOffered,
    Role,
    StatusReceived,
)
from tests.fakes.clock import SECOND
from tests.fakes.hub import BOTH, HELLO, FakePeer, Room, given_to, picture


class TestPackets:
    def test_inputs_are_numbered_anew_and_stamped(self, room: Room) -> None:
        producer, viewer = room.producer(), room.viewer(("input",), None)
        room.stream.publish(picture(900, private=True), "input", producer)
        packet = room.stream.tracks["input"].last
        assert packet is not None
        assert (packet.seq, packet.revision, packet.private) == (1, 0, False)
        assert packet.stamps[-1].hop is Hop.RELAYED
        assert packet.stamps[-1].ns == room.clock.ns
        assert producer.last(Acknowledged).seq == 900
        assert room.take(viewer, "input") == 1

    def test_each_input_goes_to_one_worker_with_credit(self, room: Room) -> None:
        workers = [room.worker(credit=2), room.worker(credit=2)]
        producer = room.producer()
        room.send(producer, 2)
        assert sorted(given_to(workers[0]) + given_to(workers[1])) == [1, 2]
        assert [len(given_to(w)) for w in workers] == [1, 1]

    def test_without_credit_the_newest_waits(self, room: Room) -> None:
        worker = room.worker(credit=1)
        room.send(room.producer(), 5)
        assert given_to(worker) == [1]
        room.stream.grant(worker, 1)
        assert given_to(worker) == [1, 5]
        assert room.stream.status()["dropped"] == 3

    def test_a_worker_does_not_begin_with_an_old_picture(self, room: Room) -> None:
        producer = room.producer()
        first = room.worker(credit=0)
        room.send(producer)
        room.stream.leave(first)
        second = room.worker(credit=1)
        assert given_to(second) == []
        room.send(producer)
        assert given_to(second) == [2]

    def test_results_come_in_order_or_not_at_all(self, room: Room) -> None:
        viewer, worker = room.viewer(credit=None), room.worker(4)
        room.send(room.producer(), 4)
        seen = []
        for seq in (2, 1, 4, 3, 4, 99):
            room.answer(worker, seq)
            seen.append(room.take(viewer))
        assert seen == [2, None, 4, None, None, None]
        assert room.stream.late == 4

    def test_pictures_made_from_no_input_are_numbered(self, room: Room) -> None:
        worker, viewer = room.worker(), room.viewer(credit=None)
        room.answer(worker, 0)
        room.answer(worker, 0)
        assert room.take(viewer) == 2

    def test_only_workers_send_results(self, room: Room) -> None:
        producer, viewer = room.producer(), room.viewer()
        room.answer(producer, 0)
        assert isinstance(producer.last(Refused).error, ProtocolError)
        assert room.take(viewer) is None

    def test_a_viewer_begins_with_the_last_picture(self, room: Room) -> None:
        worker = room.worker()
        room.send(room.producer())
        room.answer(worker, 1)
        assert room.take(room.viewer()) == 1

    def test_credit_is_per_track_and_never_exceeded(self, room: Room) -> None:
        producer, worker = room.producer(), room.worker(9)
        viewer = room.viewer(BOTH, 1)
        room.send(producer, 2)
        room.answer(worker, 1)
        room.answer(worker, 2)
        assert room.take(viewer, "input") == 2
        assert room.take(viewer, "output") == 2
        room.send(producer)
        room.answer(worker, 3)
        assert [room.take(viewer, track) for track in BOTH] == [None, None]
        room.stream.grant(viewer, 1, "output")
        assert [room.take(viewer, track) for track in BOTH] == [None, 3]

    def test_no_wake_without_credit(self, room: Room) -> None:
        producer, viewer = room.producer(), room.viewer(("input",), 0)
        woken = viewer.woken
        room.send(producer, 3)
        assert viewer.woken == woken
        room.stream.grant(viewer, 1)
        assert viewer.woken > woken
        assert room.take(viewer, "input") == 3

    def test_without_credit_of_its_own_a_viewer_still_sees_the_newest(self, room: Room) -> None:
        producer, viewer = room.producer(), room.viewer(("input",), None)
        room.send(producer, 3)
        assert [room.take(viewer, "input") for _ in range(2)] == [3, None]
        subscription = room.stream.subscription(viewer, "input")
        assert subscription is not None
        assert subscription.replaced == 2

    @given(st.lists(st.sampled_from(("picture", "credit", "open", "shut")), max_size=40))
    def test_who_sends_at_once_loses_nothing_by_it(self, said: list[str]) -> None:
        """Whatever its socket does: credit is kept, newest wins, each picture is accounted for."""
        room = Room()
        producer, viewer = room.producer(), Prompt("prompt", "viewer")
        room.stream.join(viewer, ("input",), 1)
        subscription = room.stream.subscription(viewer, "input")
        assert subscription is not None
        viewer.subscription = subscription
        sent, credit = 0, 1
        for word in said:
            if word == "picture":
                room.send(producer)
                sent += 1
            elif word == "credit":
                room.stream.grant(viewer, 1)
                credit += 1
            else:
                viewer.shut = word == "shut"
                viewer.wake()
            waiting = sent - len(viewer.seen) - subscription.replaced
            assert waiting in (0, 1)
            assert viewer.seen == sorted(set(viewer.seen))
            assert len(viewer.seen) + (subscription.credit or 0) == credit
            assert waiting == 0 or viewer.shut or subscription.credit == 0
            assert waiting or not sent or viewer.seen[-1] == sent

    def test_the_newest_of_two_producers_has_the_stream_until_it_goes(self, room: Room) -> None:
        first, second = room.producer(), room.producer()
        room.send(first)
        room.send(second)
        room.send(first)
        assert [n.on_air for n in first.of(Acknowledged)] == [True, False]
        assert room.stream.status()["seq_in"] == 2
        room.stream.leave(second)
        room.send(first)
        assert first.last(Acknowledged).on_air
        third = room.producer()
        room.send(third)
        room.clock.advance(ON_AIR_NS / SECOND + 0.1)
        room.send(first)
        assert first.last(Acknowledged).on_air


class Prompt(FakePeer):
    """Sends pictures at once while its socket takes them."""

    shut = False
    subscription: Subscription | None = None

    def __init__(self, id: str, role: Role) -> None:
        super().__init__(id, role)
        self.seen: list[int] = []

    def deliver(self, packet: Packet, track: Track) -> bool:
        if not self.shut:
            self.seen.append(packet.seq)
        return not self.shut

    def wake(self) -> None:
        packet = self.subscription.take() if self.subscription and not self.shut else None
        if packet is not None:
            self.seen.append(packet.seq)


class TestPlaces:
    def test_leaving_leaves_nothing(self, room: Room) -> None:
        peers = [room.producer(), room.viewer(BOTH), room.worker()]
        for peer in (*peers, *peers):  # twice: it is idempotent
            room.stream.leave(peer)
        assert room.stream.peers == {}
        assert [room.stream.tracks[t].subscriptions for t in BOTH] == [[], []]
        status = room.stream.status()
        assert [status[k] for k in ("producers", "workers", "viewers")] == [0, 0, 0]

    def test_who_leaves_before_joining_changes_nothing(self, room: Room) -> None:
        room.stream.leave(room.peer("worker"))
        assert room.stream.state == "no-worker"

    def test_joining_again_moves(self, room: Room) -> None:
        peer = room.peer("worker")
        room.stream.join(peer, ("input",))
        peer.role = "viewer"
        room.stream.join(peer, ("output",))
        assert [s.track for s in room.stream.subscriptions(peer)] == ["output"]
        peer.role = "producer"
        room.stream.join(peer)
        assert list(room.stream.subscriptions(peer)) == []
        assert room.stream.state == "lost"

    def test_joining_again_gives_no_second_subscription(self, room: Room) -> None:
        viewer = room.viewer(credit=1)
        room.stream.join(viewer, ("output",), 5)
        assert len(list(room.stream.subscriptions(viewer))) == 1

    def test_a_second_hello_keeps_place_and_requests(self, room: Room) -> None:
        worker, asker = room.worker(1), room.peer("producer")
        room.stream.report(worker, StatusReceived("live", "fine"))
        room.stream.request(picture(), {}, 1, asker)
        room.stream.join(worker, (), 1, HELLO)
        assert room.stream.status()["workers"] == 1
        assert room.stream.state == "live"
        room.answer(worker, worker.last(RequestOffered).packet.seq, private=True)
        assert [n.ticket for n in asker.heard] == [1]

    def test_streams_are_named_and_counted(self) -> None:
        hub = Hub()
        for name in ("", "a b", "ä", "a/b", "x" * 65, "a\n"):
            with pytest.raises(ProtocolError):
                hub.stream(name)
        held = hub.stream("held")
        held.connections = 1
        for number in range(Limits().streams - 1):
            peer = FakePeer(str(number), "viewer")
            hub.stream(f"s{number}").join(peer)
        with pytest.raises(ProtocolError, match="64 streams"):
            hub.stream("one-more")
        for stream in hub.streams.values():
            for peer_ in list(stream.peers.values()):
                stream.leave(peer_)
        hub.stream("one-more")
        assert hub.find("held") is held  # somebody is about to join it
        assert hub.find("s1") is None


class TestPreview:
    """A result that is shown while it is worked at."""

    def test_better_ones_of_the_same_input_follow_until_it_is_done(self, room: Room) -> None:
        viewer, producer, worker = room.viewer(credit=None), room.producer(), room.worker(3)
        room.send(producer, 2)
        shown = []
        for seq, preview in ((1, True), (1, True), (1, False), (1, True), (1, False), (2, False)):
            room.stream.publish(picture(seq).but(preview=preview), "output", worker)
            shown.append(room.take(viewer))
        assert shown == [1, 1, 1, None, None, 2]
        assert room.stream.late == 2

    def test_a_request_is_answered_by_the_whole_picture(self, room: Room) -> None:
        viewer, worker = room.viewer(), room.worker()
        room.stream.request(picture(), {}, 5, viewer)
        seq = worker.last(RequestOffered).packet.seq
        room.stream.publish(picture(seq, private=True).but(preview=True), "output", worker)
        assert not viewer.of(Answered)
        room.stream.publish(picture(seq, private=True), "output", worker)
        assert viewer.last(Answered).ticket == 5


class TestControl:
    """What steers the engine, for people to look at."""

    def test_it_is_shown_in_order_and_never_ahead_of_the_input(self, room: Room) -> None:
        viewer, producer = room.viewer(("control",), None), room.producer()
        worker = room.worker(3)
        room.send(producer, 3)
        taken = []
        for seq in (2, 1, 2, 3, 4):
            room.stream.publish(picture(seq), "control", worker)
            taken.append(room.take(viewer, "control"))
        assert taken == [2, None, None, 3, None]
        assert room.take(viewer) is None, "it is no result"

    def test_only_workers_show_it(self, room: Room) -> None:
        producer = room.producer()
        room.stream.publish(picture(1), "control", producer)
        assert "only workers" in str(producer.last(Refused).error)
        assert room.stream.tracks["control"].last is None

    def test_workers_hear_how_many_look(self, room: Room) -> None:
        worker = room.worker()
        room.viewer(BOTH)
        viewer = room.viewer(("control",))
        assert worker.last(AudienceChanged).control == 1
        room.stream.leave(viewer)
        assert worker.last(AudienceChanged).control == 0
