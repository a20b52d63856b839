"""Any order of anything: what holds whatever peers do."""

from collections import Counter
from itertools import pairwise
from typing import Any

from hypothesis import settings
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

from dreamrelay.errors import ParameterError
from dreamrelay.packet import TRACKS, Track
from dreamrelay.protocol.messages import (
    PRODUCER_STATES,
    Acknowledged,
    Answered,
    Delivery,
    ParametersChanged,
    ProducerState,
    RequestOffered,
    SourceReported,
    StatusReceived,
    Unanswered,
    WorkerHello,
    WorkerState,
)
from tests.fakes.hub import BOTH, HELLO, FakePeer, Room, given_to, picture


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
