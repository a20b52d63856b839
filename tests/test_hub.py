"""The hub: who gets what. First the rules one by one, then any order of anything."""

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import replace
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    consumes,
    initialize,
    invariant,
    multiple,
    rule,
)

from dreamrelay.errors import EngineError, ParameterError, ProtocolError
from dreamrelay.hub import (
    IDLE_NS,
    MAX_REQUESTS,
    MAX_TRIES,
    ON_AIR_NS,
    Hub,
    Peer,
    Stream,
    Subscription,
)
from dreamrelay.packet import TRACKS, Codec, Hop, Packet, Track
from dreamrelay.protocol.messages import (
    PRODUCER_STATES,
    Acknowledged,
    Answered,
    AudienceChanged,
    Delivery,
    Limits,
    Notice,
    ParametersChanged,
    ProducerState,
    ReferenceChanged,
    Refused,
    RequestOffered,
    Role,
    SchemaChanged,
    SourceReported,
    StatusChanged,
    StatusReceived,
    Unanswered,
    WorkerHello,
    WorkerState,
)

SECOND = 1_000_000_000
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


class Clock:
    """Both clocks; time passes when the test says so."""

    def __init__(self) -> None:
        self.ns = 100 * SECOND
        self._calls: list[tuple[int, Callable[[], None]]] = []

    def __call__(self) -> int:
        return self.ns

    def call_later(self, seconds: float, call: Callable[[], None]) -> None:
        self._calls.append((self.ns + int(seconds * SECOND), call))

    def advance(self, seconds: float) -> None:
        end = self.ns + int(seconds * SECOND)
        while due := [entry for entry in self._calls if entry[0] <= end]:
            first = min(due, key=lambda entry: entry[0])
            self._calls.remove(first)
            self.ns = max(self.ns, first[0])
            first[1]()
        self.ns = end


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


@pytest.fixture
def room() -> Room:
    return Room()


def given_to(worker: FakePeer) -> list[int]:
    return [notice.packet.seq for notice in worker.of(Delivery)]


def live(room: Room, worker: FakePeer) -> FakePeer:
    room.stream.report(worker, StatusReceived("live"))
    return worker


def told(worker: FakePeer) -> list[tuple[int, bool]]:
    """How many look, and whether it may paint, each time that it was told."""
    return [(notice.watching, notice.idle) for notice in worker.of(AudienceChanged)]


class TestAudience:
    """What a worker may paint on when nothing comes in, and whether anybody looks."""

    def pass_seconds(self, room: Room, seconds: int) -> None:
        for _ in range(seconds):
            room.clock.advance(1)
            room.hub.tick()

    def test_a_worker_hears_who_looks_at_the_output(self, room: Room) -> None:
        worker = live(room, room.worker())
        room.viewer(("input",))
        viewers = [room.viewer(), room.viewer(BOTH)]
        room.stream.leave(viewers[0])
        self.pass_seconds(room, 3)
        assert told(worker) == [(0, False), (0, True), (1, True), (2, True), (1, True)]

    def test_one_live_worker_is_to_paint(self, room: Room) -> None:
        loading, first, second = room.worker(), live(room, room.worker()), live(room, room.worker())
        assert [told(w)[-1][1] for w in (loading, first, second)] == [False, True, False]
        room.stream.report(first, StatusReceived("error", "no memory"))
        assert [told(w)[-1][1] for w in (loading, first, second)] == [False, False, True]
        room.stream.leave(second)
        live(room, loading)
        assert told(loading)[-1] == (0, True)

    def test_who_says_hello_again_is_told_again(self, room: Room) -> None:
        worker = live(room, room.worker())
        room.stream.join(worker, (), 1, HELLO)
        assert told(worker) == [(0, False), (0, True), (0, True)]

    def test_an_input_ends_it_before_it_is_delivered_and_silence_begins_it(
        self, room: Room
    ) -> None:
        worker, producer = live(room, room.worker(9)), room.producer()
        assert told(worker)[-1] == (0, True)
        room.send(producer)
        kinds = [type(notice) for notice in worker.heard]
        assert told(worker)[-1] == (0, False)
        last_word = len(kinds) - kinds[::-1].index(AudienceChanged)
        assert last_word <= kinds.index(Delivery)
        room.clock.advance(IDLE_NS / SECOND)
        room.hub.tick()
        assert not told(worker)[-1][1]
        self.pass_seconds(room, 1)
        assert told(worker)[-1][1]

    @pytest.mark.parametrize(("stays", "waited"), [(True, 14), (False, 2)])
    def test_a_slow_producer_is_waited_for_while_it_is_there(
        self, room: Room, stays: bool, waited: int
    ) -> None:
        worker, producer = live(room, room.worker(9)), room.producer()
        for _ in range(2):
            room.send(producer)
            self.pass_seconds(room, 5)
        room.send(producer)
        if not stays:
            room.stream.leave(producer)
        self.pass_seconds(room, waited)
        assert not told(worker)[-1][1]
        self.pass_seconds(room, 2)
        assert told(worker)[-1][1]

    def test_a_long_pause_is_no_slowness(self, room: Room) -> None:
        worker, producer = live(room, room.worker(9)), room.producer()
        room.send(producer)
        self.pass_seconds(room, 600)
        room.send(producer)
        self.pass_seconds(room, 40)
        assert told(worker)[-1][1]

    def test_what_was_painted_comes_too_late_once_there_is_an_input(self, room: Room) -> None:
        worker, viewer = live(room, room.worker(9)), room.viewer(credit=None)
        room.answer(worker, 0)
        assert room.take(viewer) == 1
        producer = room.producer()
        room.send(producer)
        room.answer(worker, 0)
        assert room.take(viewer) is None
        assert room.stream.late == 1
        room.answer(worker, 2)
        assert room.take(viewer) == 2, "its number was not taken by what was painted"
        room.stream.leave(producer)
        self.pass_seconds(room, 3)
        room.answer(worker, 0)
        assert room.take(viewer) == 3

    def test_painted_pictures_have_no_age(self, room: Room) -> None:
        worker, producer = live(room, room.worker(9)), room.producer()

        def paint() -> None:
            room.answer(worker, 0)
            room.clock.advance(0.1)

        paint()
        paint()
        status = room.stream.status()
        assert (status["dreaming"], status["age_ms"]) == (True, None)
        assert status["fps_out"] > 0
        assert room.stream.tracks["output"].hops.age.count == 0
        for seq in (3, 4):
            room.stream.publish(picture(captured_ns=room.clock.ns), "input", producer)
            room.clock.advance(0.05)
            made = picture(seq, captured_ns=room.clock.ns - SECOND // 20)
            room.stream.publish(made, "output", worker)
        status = room.stream.status()
        assert (status["dreaming"], status["age_ms"]) == (False, 50.0)

    def test_everybody_hears_at_once_when_a_source_takes_over(self, room: Room) -> None:
        worker, viewer = live(room, room.worker(9)), room.viewer()
        for _ in range(2):
            room.answer(worker, 0)
            self.pass_seconds(room, 1)
        assert viewer.last(StatusChanged).status["dreaming"]
        room.send(room.producer())
        assert not viewer.last(StatusChanged).status["dreaming"]

    def test_a_page_that_is_hidden_does_not_look(self, room: Room) -> None:
        worker, viewer = live(room, room.worker(9)), room.viewer(credit=1)
        room.viewer(credit=None)  # MJPEG: it reads, or it is cut off
        for _ in range(2):
            room.answer(worker, 0)
            room.take(viewer)
        self.pass_seconds(room, 1)
        assert told(worker)[-1] == (2, True), "one second may pass between two pictures"
        self.pass_seconds(room, 1)
        assert told(worker)[-1] == (1, True)
        room.stream.grant(viewer, 1)
        assert room.take(viewer) is not None
        self.pass_seconds(room, 1)
        assert told(worker)[-1] == (2, True)


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


class TestStates:
    def test_from_no_worker_to_lost(self, room: Room) -> None:
        viewer = room.viewer()
        assert viewer.last(StatusChanged).status["state"] == "no-worker"
        worker = room.worker()
        assert viewer.last(StatusChanged).status["state"] == "loading"
        room.send(room.producer())
        room.answer(worker, 1)
        assert viewer.last(StatusChanged).status["state"] == "live"
        room.stream.leave(worker)
        room.clock.advance(5)
        room.stream.tick()
        status = viewer.last(StatusChanged).status
        assert (status["state"], status["held"], status["fps_out"]) == ("lost", True, 0.0)
        assert room.take(room.viewer()) == 1  # the last picture is held for whoever comes
        room.worker()
        assert viewer.last(StatusChanged).status["state"] == "loading"

    @pytest.mark.parametrize("state", ["loading", "warming", "live", "paused", "error"])
    def test_what_a_worker_says(self, room: Room, state: WorkerState) -> None:
        viewer, worker = room.viewer(), room.worker()
        room.stream.report(worker, StatusReceived(state, "why", 0.5))
        status = viewer.last(StatusChanged).status
        assert (status["state"], status["text"], status["fraction"]) == (state, "why", 0.5)
        assert (status["model"], status["device"], status["engine"]) == ("pocket", "cpu", "engine")
        assert status["licence"] == {}, "it said nothing of it"

    def test_the_licence_of_a_workers_model(self, room: Room) -> None:
        viewer, licence = room.viewer(), {"name": "MIT", "terms": "", "link": ""}
        room.worker(hello=replace(HELLO, licence=licence))
        assert viewer.last(StatusChanged).status["licence"] == licence

    def test_the_best_of_several_workers_counts(self, room: Room) -> None:
        first, second = room.worker(), room.worker()
        room.stream.report(first, StatusReceived("error", "out of memory"))
        room.stream.report(second, StatusReceived("live"))
        assert room.stream.state == "live"
        room.stream.leave(second)
        assert room.stream.status()["text"] == "out of memory"

    def test_the_last_words_of_a_worker_that_failed_stay(self, room: Room) -> None:
        worker = room.worker()
        room.stream.report(worker, StatusReceived("error", "no such model"))
        room.stream.leave(worker)
        assert room.stream.status()["text"] == "no such model"
        room.worker()
        assert room.stream.status()["text"] == ""

    def test_a_picture_on_its_way_does_not_end_a_pause(self, room: Room) -> None:
        worker = room.worker()
        room.send(room.producer())
        room.stream.report(worker, StatusReceived("paused"))
        room.answer(worker, 1)
        assert room.stream.state == "paused"

    def test_a_worker_in_error_gets_nothing_until_it_recovers(self, room: Room) -> None:
        worker, producer = room.worker(1), room.producer()
        room.stream.report(worker, StatusReceived("error", "no"))
        room.send(producer)
        assert given_to(worker) == []
        room.stream.report(worker, StatusReceived("live"))
        assert given_to(worker) == [1]

    def test_status_is_told_when_something_changed_and_once_a_second(self, room: Room) -> None:
        viewer, producer = room.viewer(), room.producer()
        before = len(viewer.of(StatusChanged))
        room.send(producer, 20)
        assert len(viewer.of(StatusChanged)) == before
        room.hub.tick()
        assert len(viewer.of(StatusChanged)) == before + 1

    def test_a_producer_says_why_there_is_no_picture_and_that_it_is_over(self, room: Room) -> None:
        producer, viewer = room.producer(), room.viewer()

        def seen() -> Any:
            return viewer.last(StatusChanged).status["input_text"]

        assert seen() == ""
        room.send(producer)
        room.stream.report_source(producer, SourceReported("away", "the webcam was pulled out"))
        assert seen() == "the webcam was pulled out"
        room.send(producer)  # a card that says so; only its own word ends it
        assert seen() == "the webcam was pulled out"
        room.stream.report_source(producer, SourceReported("live", "the webcam was pulled out"))
        assert seen() == ""
        room.stream.report_source(producer, SourceReported("away"))
        assert seen() == "its source gives no pictures"
        room.stream.leave(producer)
        assert seen() == ""
        room.stream.report_source(producer, SourceReported("away", "nobody is there to say this"))
        assert room.stream.status()["input_text"] == ""

    def test_the_trouble_of_a_producer_is_no_news_while_another_one_sends(self, room: Room) -> None:
        first, second, third = (room.producer() for _ in range(3))

        def seen() -> Any:
            return room.stream.status()["input_text"]

        room.stream.report_source(first, SourceReported("away", "no screen"))
        room.stream.report_source(second, SourceReported("away", "no camera"))
        assert seen() == "no camera", "who spoke last"
        room.stream.report_source(first, SourceReported("away", "still no screen"))
        assert seen() == "still no screen"
        room.send(third)
        assert seen() == ""
        room.clock.advance(ON_AIR_NS / SECOND + 0.1)
        assert seen() == "still no screen", "the third has gone silent"
        room.send(second)
        assert seen() == "no camera", "who is on air"
        room.stream.leave(second)
        assert seen() == "still no screen"

    def test_rates_and_age(self, room: Room) -> None:
        producer, worker = room.producer(), room.worker(100)
        for seq in range(1, 21):
            room.clock.advance(0.1)
            room.stream.publish(picture(captured_ns=room.clock.ns), "input", producer)
            room.clock.advance(0.0)
            room.stream.publish(
                picture(seq, captured_ns=room.clock.ns - SECOND // 20), "output", worker
            )
        status = room.stream.status()
        assert (status["fps_in"], status["fps_out"]) == (10.0, 10.0)
        assert status["age_ms"] == 50.0


class TestParameters:
    def test_all_or_nothing(self, room: Room) -> None:
        worker, viewer = room.worker(), room.viewer()
        heard = len(viewer.heard)
        with pytest.raises(ParameterError) as caught:
            room.stream.update_parameters(
                {"prompt": "a fox", "strength": 7, "speed": 1}, "rest", peer=worker
            )
        assert set(caught.value.problems) == {"strength", "speed"}
        assert room.stream.values == {"prompt": "", "strength": 0.5}
        assert room.stream.revision == 1
        assert len(viewer.heard) == heard

    def test_everybody_is_told_once_and_only_the_asker_its_id(self, room: Room) -> None:
        room.worker()
        viewer, asker = room.viewer(), room.viewer()
        stranger = room.peer("producer")
        room.stream.update_parameters({"prompt": "a"}, "studio", id=7, peer=asker)
        for peer, id_ in ((viewer, None), (asker, 7)):
            assert [n.id for n in peer.of(ParametersChanged)[1:]] == [id_]
            told = peer.last(ParametersChanged)
            assert (told.changed, told.origin, told.revision) == (("prompt",), "studio", 2)
        room.stream.update_parameters({"prompt": "b"}, "seed", id=1, peer=stranger)
        assert [n.id for n in stranger.of(ParametersChanged)] == [1]
        assert viewer.last(ParametersChanged).values["prompt"] == "b"

    def test_the_revision_counts_changes(self, room: Room) -> None:
        room.worker()
        assert room.stream.update_parameters({"strength": 0.7}, "x").revision == 2
        same = room.stream.update_parameters({"strength": 0.7}, "x")
        assert (same.revision, same.changed) == (2, ())
        assert room.stream.update_parameters({}, "x").revision == 2

    def test_a_patch_before_the_worker_is_kept_and_checked_when_one_comes(self, room: Room) -> None:
        viewer = room.viewer()
        room.stream.update_parameters({"prompt": "a fox", "strength": 9, "other": 1}, "rest")
        assert room.stream.values == {"prompt": "a fox", "strength": 9, "other": 1}
        worker = room.worker()
        assert room.stream.values == {"prompt": "a fox", "strength": 0.5}
        for peer in (viewer, worker):
            assert peer.last(SchemaChanged).schema == SCHEMA
            assert peer.last(ParametersChanged).values == room.stream.values

    def test_a_worker_hears_the_values_before_its_first_picture(self, room: Room) -> None:
        other = room.worker(0)
        room.send(room.producer())
        room.stream.update_parameters({"prompt": "a fox"}, "rest")
        worker = room.worker(1)
        room.stream.leave(other)
        kinds = [type(n) for n in worker.heard]
        assert kinds.index(ParametersChanged) < kinds.index(Delivery)
        assert worker.of(ParametersChanged)[0].values["prompt"] == "a fox"

    def test_a_worker_without_a_schema_hears_them_too(self, room: Room) -> None:
        room.stream.update_parameters({"prompt": "a fox"}, "rest")
        worker = room.worker(hello=WorkerHello())
        assert worker.last(ParametersChanged).values == {"prompt": "a fox"}

    def test_another_worker_brings_another_schema(self, room: Room) -> None:
        first = room.worker()
        room.stream.update_parameters({"prompt": "a fox", "strength": 0.9}, "rest")
        room.stream.leave(first)
        other = {"type": "object", "properties": {"prompt": {"maxLength": 100}, "speed": {}}}
        room.worker(hello=WorkerHello(schema=other, parameters={"prompt": "", "speed": 3}))
        assert room.stream.values == {"prompt": "a fox", "speed": 3}
        with pytest.raises(ParameterError, match="expected one of prompt, speed"):
            room.stream.update_parameters({"strength": 0.1}, "rest")
        room.worker()
        assert room.stream.values == {"prompt": "a fox", "strength": 0.9}

    def test_what_a_worker_says_of_parameters_it_has_not_is_left_out(self, room: Room) -> None:
        room.worker(hello=WorkerHello(schema=SCHEMA, parameters={"prompt": "p", "secret": 1}))
        assert room.stream.values == {"prompt": "p"}

    @pytest.mark.parametrize(
        ("patch", "text"),
        [
            ({"strength": 2}, "strength: expected at most 1, got 2"),
            ({"strength": -1}, "strength: expected at least 0, got -1"),
            ({"strength": "high"}, "strength: expected number, got 'high'"),
            ({"strength": True}, "strength: expected number, got True"),
            ({"prompt": "x" * 21}, "prompt: expected at most 20 characters, got 21"),
            ({"prompt": None}, "prompt: expected string, got None"),
            ({"cfg_type": "both"}, "cfg_type: expected one of none, self, got 'both'"),
            ({"steps": 0}, "steps: expected at least 1, got 0"),
            ({"steps": "x"}, "steps: expected integer or null, got 'x'"),
            ({"stength": 1}, "stength: no such parameter: expected one of cfg_type, prompt"),
        ],
    )
    def test_errors_say_what_was_expected_and_what_came(
        self, room: Room, patch: Mapping[str, Any], text: str
    ) -> None:
        room.worker()
        with pytest.raises(ParameterError) as caught:
            room.stream.update_parameters(patch, "rest")
        assert str(caught.value).startswith(text)

    def test_patches_are_bounded(self, room: Room) -> None:
        for patch in (
            {f"p{i}": 1 for i in range(65)},
            {"prompt": "x" * 9000},
            {"a name": 1},
            {"x" * 65: 1},
            {"": 1},
        ):
            with pytest.raises(ParameterError):
                room.stream.update_parameters(patch, "rest")
        for i in range(500):
            try:
                room.stream.update_parameters({f"name_{i}": 1}, "rest")
            except ParameterError:
                break
        assert len(room.stream.values) <= 256

    @pytest.mark.parametrize(
        "schema",
        [
            {"type": "nonsense"},
            {"properties": []},
            {"properties": {"a": {"minimum": "low"}}},
            {"properties": {"a": {"description": "x" * 70_000}}},
            {"properties": {f"p{i}": {} for i in range(300)}},
            {"$defs": {"a": {"$ref": "#/$defs/b"}, "b": {"$ref": "#/$defs/a"}}},
        ],
    )
    def test_a_schema_that_is_none_is_refused(self, room: Room, schema: dict[str, Any]) -> None:
        worker = room.worker(hello=WorkerHello(schema=schema))
        assert isinstance(worker.last(Refused).error, ProtocolError)
        assert room.stream.schema is None

    @pytest.mark.parametrize(
        ("rule", "value"),
        [
            ({"$ref": "http://127.0.0.1:9/schema.json"}, 1),
            ({"$ref": "#/nowhere"}, 1),
            ({"$ref": "#"}, 1),
            (False, 1),
            ({"multipleOf": 1e-300}, 1e300),
        ],
    )
    def test_a_schema_that_cannot_be_used_refuses_values(
        self, room: Room, rule: Any, value: Any
    ) -> None:
        worker = room.worker(hello=WorkerHello(schema={"properties": {"a": rule}}))
        try:
            room.stream.update_parameters({"a": value}, "rest")
        except ParameterError as error:
            assert set(error.problems) == {"a"}  # noqa: PT017 - either way is right
        assert worker.id in room.stream.peers

    def test_regular_expressions_of_a_schema_are_not_run(self, room: Room) -> None:
        rules = {"a": {"type": "string", "pattern": "^(a+)+$"}, "pattern": {"type": "string"}}
        room.worker(hello=WorkerHello(schema={"properties": rules}))
        room.stream.update_parameters({"a": "a" * 60 + "!", "pattern": "x"}, "rest")
        with pytest.raises(ParameterError):
            room.stream.update_parameters({"pattern": 1}, "rest")


class TestRequests:
    def test_an_answer_is_private(self, room: Room) -> None:
        worker, viewer, asker = room.worker(), room.viewer(), room.peer("producer", reply_limit=700)
        room.stream.request(picture(), {"prompt": "a fox"}, 3, asker)
        offered = worker.last(RequestOffered)
        assert (offered.patch, offered.max_bytes) == ({"prompt": "a fox"}, 700)
        assert offered.packet.private
        room.answer(worker, offered.packet.seq, private=True)
        (answered,) = asker.heard
        assert (answered.ticket, answered.prompt) == (3, "a fox")
        assert room.take(viewer) is None
        assert room.stream.tracks["output"].last is None

    def test_a_worker_that_forgets_the_flag_shows_nothing_either(self, room: Room) -> None:
        worker, viewer, asker = room.worker(), room.viewer(), room.peer("producer")
        room.stream.request(picture(), {}, 1, asker)
        seq = worker.last(RequestOffered).packet.seq
        room.stream.leave(asker)
        room.answer(worker, seq)
        assert room.take(viewer) is None

    def test_the_prompt_in_force_is_named(self, room: Room) -> None:
        worker, asker = room.worker(), room.peer("producer")
        room.stream.update_parameters({"prompt": "in force"}, "rest")
        room.stream.request(picture(), {}, 1, asker)
        room.answer(worker, worker.last(RequestOffered).packet.seq)
        assert asker.last(Answered).prompt == "in force"

    def test_without_a_worker(self, room: Room) -> None:
        asker = room.producer()
        room.stream.request(picture(), {}, 1, asker)
        assert "python main.py" in str(asker.last(Unanswered).error)

    def test_with_a_broken_worker(self, room: Room) -> None:
        worker, asker = room.worker(), room.peer("producer")
        room.stream.report(worker, StatusReceived("error", "out of memory"))
        room.stream.request(picture(), {}, 1, asker)
        assert "out of memory" in str(asker.last(Unanswered).error)

    def test_a_bad_patch(self, room: Room) -> None:
        worker, asker = room.worker(), room.peer("producer")
        room.stream.request(picture(), {"prompt": "x" * 30}, 1, asker)
        assert isinstance(asker.last(Unanswered).error, ParameterError)
        assert worker.of(RequestOffered) == []

    def test_too_many(self, room: Room) -> None:
        room.worker(0)
        asker = room.peer("producer")
        for ticket in range(MAX_REQUESTS + 1):
            room.stream.request(picture(), {}, ticket, asker)
        assert [n.ticket for n in asker.heard] == [MAX_REQUESTS]

    def test_they_do_not_stop_the_stream(self, room: Room) -> None:
        worker, asker = room.worker(0), room.peer("producer")
        for ticket in range(4):
            room.stream.request(picture(), {}, ticket, asker)
        room.send(room.producer())
        room.stream.grant(worker, 2)
        assert [type(n) for n in worker.of(RequestOffered, Delivery)] == [RequestOffered, Delivery]

    def test_failure(self, room: Room) -> None:
        workers, asker = [room.worker(), room.worker()], room.peer("producer")
        room.stream.request(picture(), {}, 1, asker)
        (busy,) = [w for w in workers if w.of(RequestOffered)]
        (other,) = [w for w in workers if w is not busy]
        seq = busy.last(RequestOffered).packet.seq
        room.stream.fail(seq, "mine now", other)
        assert asker.heard == []
        room.stream.fail(seq, "no memory", busy)
        room.stream.fail(seq, "no memory", busy)
        assert [str(n.error) for n in asker.of(Unanswered)] == ["no memory"]

    def test_another_worker_cannot_answer(self, room: Room) -> None:
        workers, asker = [room.worker(), room.worker()], room.peer("producer")
        room.stream.request(picture(), {}, 1, asker)
        (busy,) = [w for w in workers if w.of(RequestOffered)]
        (other,) = [w for w in workers if w is not busy]
        room.answer(other, busy.last(RequestOffered).packet.seq, private=True)
        assert asker.heard == []

    def test_when_a_worker_dies_another_begins_anew_in_order(self, room: Room) -> None:
        first, asker = room.worker(2), room.peer("producer")
        for ticket in (1, 2, 3):
            room.stream.request(picture(), {}, ticket, asker)
        room.stream.leave(first)
        second = room.worker(3)
        for notice in second.of(RequestOffered):
            room.answer(second, notice.packet.seq, private=True)
        assert [n.ticket for n in asker.of(Answered)] == [1, 2, 3]

    def test_a_request_that_kills_workers_is_given_up(self, room: Room) -> None:
        asker = room.peer("producer")
        worker = room.worker(1)
        room.stream.request(picture(), {}, 1, asker)
        for _ in range(MAX_TRIES - 1):
            room.stream.leave(worker)
            worker = room.worker(1)
            assert worker.of(RequestOffered)
        room.stream.leave(worker)
        assert "lost" in str(asker.last(Unanswered).error)
        assert room.worker(1).of(RequestOffered) == []

    @pytest.mark.parametrize("credit", [0, 1])
    def test_nobody_waits_for_ever(self, room: Room, credit: int) -> None:
        worker, asker = room.worker(credit), room.peer("producer")
        room.stream.request(picture(), {}, 1, asker)
        room.clock.advance(61)
        room.stream.tick()
        assert "60 s" in str(asker.last(Unanswered).error)
        if credit:
            room.answer(worker, worker.last(RequestOffered).packet.seq, private=True)
        room.stream.tick()
        assert len(asker.heard) == 1


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


IMITATES = replace(HELLO, reference=True)


class TestReference:
    """A picture to imitate."""

    def test_who_can_is_told_and_the_status_says_so(self, room: Room) -> None:
        viewer, able, unable = room.viewer(), room.worker(1, IMITATES), room.worker()
        room.stream.refer(picture(7))
        assert able.last(ReferenceChanged).packet == picture(7)
        assert not unable.of(ReferenceChanged)
        assert viewer.last(StatusChanged).status["reference"]
        room.stream.refer(None)
        assert able.last(ReferenceChanged).packet is None
        assert not viewer.last(StatusChanged).status["reference"]

    def test_a_worker_that_comes_later_is_told(self, room: Room) -> None:
        room.stream.refer(picture(7))
        assert room.worker(1, IMITATES).last(ReferenceChanged).packet == picture(7)
        assert not room.worker().of(ReferenceChanged)

    def test_nobody_can(self, room: Room) -> None:
        room.worker()
        with pytest.raises(EngineError, match="--ip_adapter"):
            room.stream.refer(picture(7))
        assert room.stream.reference is None
        room.stream.refer(None)


class AnyOrder(RuleBasedStateMachine):
    """No interleaving of anything breaks a promise.

    The machine keeps what each peer was granted and given; the invariants compare.
    """

    peers: Bundle[FakePeer] = Bundle("peers")
    workers: Bundle[FakePeer] = Bundle("workers")

    @initialize(target=workers)
    def begin(self) -> FakePeer:
        self.room = Room()
        self.stream = self.room.stream
        self.granted: dict[tuple[str, Track], int | None] = {}
        self.seats: Counter[str] = Counter()
        self.taken: dict[tuple[str, Track], list[int]] = {}
        self.present: dict[str, FakePeer] = {}
        self.asked: dict[str, set[int]] = {}
        self.away: dict[str, bool] = {}
        self.tickets = 0
        self.private: set[int] = set()
        self.heard_when_left: list[tuple[FakePeer, int]] = []
        self.revision = 0
        self.shown: dict[Track, int] = dict.fromkeys(BOTH, 0)
        # Somebody who sends, one who works and two who look: else most runs begin with nobody.
        self.sender = self._came(self.room.producer())
        self.worker = self._worker(3, HELLO)
        self.viewer_joins(BOTH, None)
        self.viewer_joins(("output",), 1)
        return self.worker

    def _came(self, peer: FakePeer) -> FakePeer:
        self.present[peer.id] = peer
        return peer

    @rule(
        target=peers,
        tracks=st.sampled_from([("input",), ("output",), BOTH, ()]),
        credit=st.none() | st.integers(0, 3),
    )
    def viewer_joins(self, tracks: tuple[Track, ...], credit: int | None) -> FakePeer:
        peer = self.room.viewer(tracks, credit)
        for track in tracks:
            self.granted[peer.id, track] = credit
        return self._came(peer)

    @rule()
    def all_goes_as_it_should(self) -> None:
        """One input, one result, one picture taken by each."""
        if self.sender.id in self.present and self.worker.id in self.present:
            self.sends_an_input(self.sender)
            if given := given_to(self.worker):
                self.stream.publish(picture(given[-1]), "output", self.worker)
        for peer in self.present.values():
            for track in BOTH:
                self.reads(peer, track)

    @rule(target=peers)
    def producer_joins(self) -> FakePeer:
        return self._came(self.room.producer())

    @rule(target=peers)
    def seed_consumer_joins(self) -> FakePeer:
        peer = self.room.peer("worker")
        self.stream.join(peer, ("input",), None)
        self.granted[peer.id, "input"] = None
        return self._came(peer)

    @rule(target=workers, credit=st.integers(0, 3), schema=st.booleans())
    def worker_joins(self, credit: int, schema: bool) -> FakePeer:
        return self._worker(credit, HELLO if schema else WorkerHello())

    def _worker(self, credit: int, hello: WorkerHello) -> FakePeer:
        peer = self.room.peer("worker")
        self.seats[peer.id] = credit
        self._came(peer)
        self.stream.join(peer, (), credit, hello)
        return peer

    @rule(peer=workers, credit=st.integers(0, 2))
    def worker_says_hello_again(self, peer: FakePeer, credit: int) -> None:
        if peer.id in self.present:
            given = len(peer.of(Delivery, RequestOffered))
            self.seats[peer.id] = given + credit
            self.stream.join(peer, (), credit, HELLO)

    @rule(target=peers, peer=consumes(peers) | consumes(workers), stays=st.booleans())
    def leaves(self, peer: FakePeer, stays: bool) -> Any:
        if stays:
            return multiple()
        self.present.pop(peer.id, None)
        self.stream.leave(peer)
        self.heard_when_left.append((peer, len(peer.heard)))
        return multiple()

    @rule(peer=peers)
    def sends_an_input(self, peer: FakePeer) -> None:
        if peer.id in self.present:
            acks = len(peer.of(Acknowledged))
            self.stream.publish(picture(1), "input", peer)
            assert len(peer.of(Acknowledged)) == acks + 1

    @rule(
        peer=st.none() | peers | workers,
        which=st.integers(0, 12),
        private=st.booleans(),
        own=st.booleans(),
    )
    def sends_a_result(self, peer: FakePeer | None, which: int, private: bool, own: bool) -> None:
        """Right, late, twice, somebody else's, or never asked for."""
        peer = peer or self.worker
        if peer.id not in self.present:
            return
        given = [n.packet.seq for n in peer.of(Delivery, RequestOffered)]
        seq = given[which % len(given)] if own and given else which
        self.stream.publish(picture(seq, private=private), "output", peer)

    @rule(peer=workers, seq=st.integers(0, 30))
    def fails(self, peer: FakePeer, seq: int) -> None:
        if peer.id in self.present:
            self.stream.fail(seq, "no", peer)

    @rule(peer=peers | workers, count=st.integers(1, 3), track=st.sampled_from([None, *BOTH]))
    def gives_credit(self, peer: FakePeer, count: int, track: Track | None) -> None:
        if peer.id not in self.present:
            return
        if peer.id in self.seats:
            self.seats[peer.id] += count
        for name in BOTH:
            granted = self.granted.get((peer.id, name))
            if granted is not None and track in (None, name):
                self.granted[peer.id, name] = granted + count
        self.stream.grant(peer, count, track)

    @rule(peer=peers, track=st.sampled_from(BOTH))
    def reads(self, peer: FakePeer, track: Track) -> None:
        seq = self.room.take(peer, track)
        if seq is not None:
            assert peer.id in self.present
            self.taken.setdefault((peer.id, track), []).append(seq)

    @rule(peer=st.none() | peers)
    def asks(self, peer: FakePeer | None) -> None:
        peer = peer or self.sender
        if peer.id in self.present:
            self.tickets += 1
            self.asked.setdefault(peer.id, set()).add(self.tickets)
            self.stream.request(picture(), {"prompt": "p"}, self.tickets, peer)

    @rule(peer=workers, state=st.sampled_from(["loading", "live", "paused", "error"]))
    def says_how_it_is(self, peer: FakePeer, state: WorkerState) -> None:
        self.stream.report(peer, StatusReceived(state))

    @rule(peer=peers, state=st.sampled_from(PRODUCER_STATES), text=st.sampled_from(["", "gone"]))
    def says_how_its_source_is(self, peer: FakePeer, state: ProducerState, text: str) -> None:
        self.stream.report_source(peer, SourceReported(state, text))
        self.away[peer.id] = state == "away"

    @rule(patch=st.sampled_from([{"prompt": "a"}, {"prompt": 1}, {"strength": 2}, {"x": 1}, {}]))
    def patches(self, patch: dict[str, Any]) -> None:
        before = dict(self.stream.values)
        try:
            self.stream.update_parameters(patch, "rest")
        except ParameterError:
            assert self.stream.values == before

    @rule(seconds=st.sampled_from([0.1, 1, 4, 61]))
    def time_passes(self, seconds: float) -> None:
        self.room.clock.advance(seconds)
        self.room.hub.tick()

    @invariant()
    def only_who_is_there_may_be_away(self) -> None:
        may = any(self.away.get(id_) for id_ in self.present)
        assert may or not self.stream.status()["input_text"]

    @invariant()
    def order_is_kept(self) -> None:
        for seqs in self.taken.values():
            assert all(a < b for a, b in pairwise(seqs))
        for peer in self.present.values():
            live = [n.packet.seq for n in peer.of(Delivery)]
            assert all(a < b for a, b in pairwise(live))

    @invariant()
    def tracks_go_forward(self) -> None:
        for track in BOTH:
            last = self.stream.tracks[track].last
            if last is not None:
                assert last.seq >= self.shown[track]
                self.shown[track] = last.seq

    @invariant()
    def credit_is_kept(self) -> None:
        for key, seqs in self.taken.items():
            granted = self.granted[key]
            assert granted is None or len(seqs) <= granted
        for peer in self.present.values():
            if peer.id in self.seats:
                assert len(peer.of(Delivery, RequestOffered)) <= self.seats[peer.id]

    @invariant()
    def places_are_kept(self) -> None:
        wanted = {key for key in self.granted if key[0] in self.present}
        held = [(s.peer.id, s.track) for t in TRACKS for s in self.stream.tracks[t].subscriptions]
        assert len(held) == len(set(held))
        assert set(held) == wanted
        assert set(self.stream.peers) == set(self.present)
        status = self.stream.status()
        roles = Counter(peer.role for peer in self.present.values())
        for role in ("producer", "worker", "viewer"):
            assert status[f"{role}s"] == roles[role]

    @invariant()
    def who_left_hears_nothing(self) -> None:
        for peer, heard in self.heard_when_left:
            assert len(peer.heard) == heard

    @invariant()
    def requests_are_private_and_answered_at_most_once(self) -> None:
        for peer in self.present.values():
            self.private.update(n.packet.seq for n in peer.of(RequestOffered))
            answers = Counter(n.ticket for n in peer.of(Answered, Unanswered))
            assert all(count == 1 for count in answers.values())
            assert set(answers) <= self.asked.get(peer.id, set())
        for seqs in self.taken.values():
            assert not self.private.intersection(seqs)

    @invariant()
    def the_revision_never_falls(self) -> None:
        assert self.stream.revision >= self.revision
        self.revision = self.stream.revision
        for peer in self.present.values():
            told = [n.revision for n in peer.of(ParametersChanged)]
            assert told == sorted(told)
            if told:
                assert peer.last(ParametersChanged).values == self.stream.values

    def teardown(self) -> None:
        if not hasattr(self, "room"):
            return
        for _ in range(3):
            self.room.clock.advance(61)
            self.room.hub.tick()
        for peer in self.present.values():
            answered = {n.ticket for n in peer.of(Answered, Unanswered)}
            assert answered == self.asked.get(peer.id, set())
        self.requests_are_private_and_answered_at_most_once()
        for peer in list(self.present.values()):
            self.stream.leave(peer)
        assert self.stream.peers == {}
        assert all(self.stream.tracks[track].subscriptions == [] for track in TRACKS)
        assert self.stream._workers.idle


TestAnyOrder = AnyOrder.TestCase
TestAnyOrder.settings = settings(max_examples=120, stateful_step_count=40, deadline=None)
