"""Relays that share a stream, in any order of anything: cuts, losses, restarts, peers that come and
go. What a viewer sees only goes forward, nobody is given more than they asked for, and in the end
all agree on what was said last.

To see whether it finds anything, take a rule of ``relay/mirror.py``, ``outpost.py`` or
``federation.py`` or of ``hub/mirrored.py`` away: this or ``test_federation.py`` should fail.
"""

import random
from collections import Counter, defaultdict
from dataclasses import dataclass, field, replace
from itertools import pairwise

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from dreamrelay.protocol.messages import Acknowledged, Answered, Unanswered
from tests.fakes.federations import HELLO, Cluster, Node, Somebody, picture

NAMES = "abc"
IMITATES = replace(HELLO, reference=True)


@dataclass
class Camera:
    """A producer whose pictures are numbered."""

    node: Node
    peer: Somebody
    name: int
    sent: int = 0

    def send(self) -> None:
        self.sent += 1
        self.node.send(self.peer, self.sent, self.note)

    @property
    def note(self) -> bytes:
        """What its last picture says."""
        return b"%d:%d" % (self.name, self.sent)


@dataclass
class Painter:
    """A worker that gives back what it was given, in order."""

    node: Node
    peer: Somebody
    credit: int
    done: int = 0

    def work(self) -> None:
        given = self.peer.given
        if self.done < len(given):
            self.node.make(self.peer, given[self.done])
            self.done += 1


@dataclass
class Asker:
    """Somebody who has pictures made alone."""

    node: Node
    peer: Somebody
    tickets: list[int] = field(default_factory=list)


def order(viewer: Somebody) -> list[list[int]]:
    """The numbers of what it saw: on each track, and of each camera's pictures on each track."""
    rows: defaultdict[object, list[int]] = defaultdict(list)
    for track, packet in viewer.seen:
        rows[track].append(packet.seq)
        camera, _, number = packet.data[len(picture().data) :].partition(b":")
        rows[track, camera].append(int(number))
    return list(rows.values())


class AnyOrder(RuleBasedStateMachine):
    """Three relays, one stream."""

    @initialize(worker=st.integers(0, 2), camera=st.integers(0, 2))
    def begin(self, worker: int, camera: int) -> None:
        self.cluster = Cluster(*NAMES)
        self.again = self.patches = self.cameras = 0
        self.viewers: list[Somebody] = []
        self.workers: list[Painter] = []
        self.producers: list[Camera] = []
        self.askers: list[Asker] = []
        for node in self.cluster.nodes:
            self._looks(node)
        self.cluster.pass_time(2)
        self.worker_comes(worker, 2)
        self.producer_comes(camera)

    def _looks(self, node: Node) -> None:
        self.viewers.append(node.viewer("input", "output"))
        asker = node.viewer()
        self.viewers.append(asker)
        self.askers.append(Asker(node, asker))

    def node(self, number: int) -> Node:
        return self.cluster.nodes[number % len(self.cluster.nodes)]

    @rule(at=st.integers(0, 2), credit=st.integers(1, 3))
    def worker_comes(self, at: int, credit: int) -> None:
        if len(self.workers) < 4:
            node = self.node(at)
            self.workers.append(Painter(node, node.worker(credit, IMITATES), credit))

    @rule(which=st.integers(0, 9))
    @precondition(lambda self: self.workers)
    def worker_goes(self, which: int) -> None:
        worker = self.workers.pop(which % len(self.workers))
        worker.node.stream.leave(worker.peer)

    @rule(at=st.integers(0, 2))
    def producer_comes(self, at: int) -> None:
        if len(self.producers) < 3:
            node = self.node(at)
            self.cameras += 1
            self.producers.append(Camera(node, node.producer(), self.cameras))

    @rule(which=st.integers(0, 9), count=st.integers(1, 4))
    @precondition(lambda self: self.producers)
    def pictures_come(self, which: int, count: int) -> None:
        camera = self.producers[which % len(self.producers)]
        for _ in range(count):
            camera.send()
        assert len(camera.peer.of(Acknowledged)) == camera.sent, "its credit is back at once"

    @rule(which=st.integers(0, 9))
    @precondition(lambda self: self.workers)
    def worker_works(self, which: int) -> None:
        self.workers[which % len(self.workers)].work()

    @rule(count=st.integers(1, 3), settles=st.booleans())
    def the_show_goes_on(self, count: int, settles: bool) -> None:
        for _ in range(count):
            for camera in self.producers[-1:]:
                camera.send()
            self.cluster.settle()
            for worker in self.workers:
                worker.work()
            if settles:
                self.cluster.settle()

    @rule(at=st.integers(0, 2), name=st.sampled_from(["prompt", "strength"]))
    def somebody_speaks(self, at: int, name: str) -> None:
        self.patches += 1
        value: object = f"p{self.patches}" if name == "prompt" else self.patches % 97 / 97
        self.cluster.clock.advance(0.001)
        self.node(at).stream.update_parameters({name: value}, "test")

    @rule(at=st.integers(0, 2), takes_back=st.booleans())
    def somebody_shows_a_picture_to_imitate(self, at: int, takes_back: bool) -> None:
        self.patches += 1
        self.cluster.clock.advance(0.001)
        stream = self.node(at).stream
        if stream.refers is not False:
            stream.refer(None if takes_back else picture(note=b"to imitate %d" % self.patches))

    @rule(which=st.integers(0, 9))
    def somebody_asks(self, which: int) -> None:
        asker = self.askers[which % len(self.askers)]
        if asker.node in self.cluster.nodes:
            ticket = len(asker.tickets) + 1
            asker.tickets.append(ticket)
            asker.node.stream.request(picture(note=b"asked"), {}, ticket, asker.peer)

    @rule()
    def letters_arrive(self) -> None:
        self.cluster.settle()

    @rule(seconds=st.integers(1, 5))
    def time_passes(self, seconds: int) -> None:
        self.cluster.pass_time(seconds)

    @rule(seconds=st.integers(1, 3))
    def letters_are_slow(self, seconds: int) -> None:
        for _ in range(seconds):
            self.cluster.tick()

    @rule(at=st.integers(0, 2))
    def a_wire_is_cut(self, at: int) -> None:
        self.cluster.cut(self.node(at).name)

    @rule()
    def wires_are_mended(self) -> None:
        self.cluster.heal()

    @rule(which=st.integers(0, 12))
    def a_letter_is_lost(self, which: int) -> None:
        letters = iter(range(which + 1))
        self.cluster.cable.loses = lambda _: next(letters, None) == which

    @rule(seed=st.integers(0, 99))
    def many_letters_are_lost(self, seed: int) -> None:
        chance = random.Random(seed)
        self.cluster.cable.loses = lambda _: chance.random() < 0.3

    @rule()
    def no_letters_are_lost(self) -> None:
        self.cluster.cable.loses = lambda _: False

    @rule(at=st.integers(0, 2))
    def a_connection_breaks(self, at: int) -> None:
        node = self.node(at)
        node.place.close()
        node.place.open(node.federation)

    @rule(at=st.integers(0, 2), kindly=st.booleans())
    def a_relay_starts_again(self, at: int, kindly: bool) -> None:
        node = self.node(at)
        if kindly:
            node.federation.say_goodbye()
            self.cluster.settle()
        self.cluster.remove(node)
        self.workers = [worker for worker in self.workers if worker.node is not node]
        self.producers = [camera for camera in self.producers if camera.node is not node]
        self.again += 1
        self._looks(self.cluster.add(f"{node.name[0]}{self.again}"))

    @invariant()
    def what_a_viewer_sees_goes_forward(self) -> None:
        for viewer in getattr(self, "viewers", ()):
            for numbers in order(viewer):
                assert all(a < b for a, b in pairwise(numbers)), numbers

    @invariant()
    def revisions_never_fall(self) -> None:
        for viewer in getattr(self, "viewers", ()):
            told = viewer.revisions
            assert told == sorted(told), told

    @invariant()
    def nobody_is_given_more_than_they_asked_for(self) -> None:
        for worker in getattr(self, "workers", ()):
            assert len(worker.peer.given) <= worker.credit + worker.done

    @invariant()
    def nothing_is_answered_twice(self) -> None:
        for asker in getattr(self, "askers", ()):
            answered = Counter(said.ticket for said in asker.peer.of(Answered, Unanswered))
            assert set(answered) <= set(asker.tickets)
            assert set(answered.values()) <= {1}, answered

    def teardown(self) -> None:
        if not hasattr(self, "cluster"):
            return
        self.no_letters_are_lost()
        self.cluster.pass_time(5)  # each side of a cut has its home
        expected = self._expected()
        self.wires_are_mended()
        self.cluster.pass_time(8)
        home = self._all_agree(*expected)
        if not self.workers:
            self.worker_comes(0, 1)
        for node in self.cluster.nodes:
            self._words_and_pictures_come_through(node)
        self._who_asked_is_answered(home)

    def _expected(self) -> tuple[str | None, dict[str, object], object]:
        """Home, values and picture to imitate after the last wire is mended, if all is said."""
        nodes = self.cluster.nodes
        claims = [(epoch, name) for name, epoch in self.cluster.claims().items()]
        values = {}
        for name in HELLO.parameters:
            asked = [node.stream.mirrored.wishes().asked.get(name) for node in nodes]
            if said := [one for one in asked if one is not None]:
                values[name] = max(said, key=lambda one: one.ns).value
        shown = max((node.stream for node in nodes), key=lambda stream: stream.reference_ns)
        for node in nodes:
            if node.stream.upstream is not None and node.stream.upstream.waiting():
                return None, {}, shown  # what waits will be said later, so it is the later word
        return min(claims)[1] if claims else None, values, shown.reference

    def _all_agree(self, lead: str | None, values: dict[str, object], shown: object) -> Node:
        cluster = self.cluster
        homes = {node.home for node in cluster.nodes}
        assert len(homes) == 1, homes
        home = next(node for node in cluster.nodes if node.name in homes)
        if lead is not None:
            assert home.name == lead
        highest = max((n for viewer in self.viewers for n in viewer.numbers()), default=0)
        assert home.stream.status()["seq_in"] >= highest, "the next number is new to everybody"
        for node in cluster.nodes:
            assert node.stream.values == home.stream.values
            assert node.stream.values.items() >= values.items(), "the later word holds"
            assert node.stream.revision == home.stream.revision
            assert node.stream.reference == home.stream.reference
            if lead is not None:
                assert node.stream.reference == shown, "the later picture is imitated"
            status = node.stream.status()
            assert status["workers"] == len(self.workers), status
            assert status["producers"] == len(self.producers), status
            assert status["viewers"] == 2 * len(cluster.nodes)
        return home

    def _words_and_pictures_come_through(self, node: Node) -> None:
        """What is said at a relay is known at all; the newest picture is seen at all."""
        self.cluster.clock.advance(0.001)
        node.stream.update_parameters({"prompt": f"from {node.name}"}, "test")
        self.cluster.settle()
        for other in self.cluster.nodes:
            assert other.stream.values["prompt"] == f"from {node.name}"
        self.cameras += 1
        camera = Camera(node, node.producer(), self.cameras)
        for _ in range(4):
            camera.send()
        for _ in range(4):  # what was given before, and what is given for it
            self.cluster.settle()
            for worker in self.workers:
                for _ in range(4):
                    worker.work()
        self.cluster.pass_time()
        self.what_a_viewer_sees_goes_forward()
        nodes = [other.stream for other in self.cluster.nodes]
        for viewer in self.viewers:
            if viewer.stream in nodes:
                last = {track: packet.data for track, packet in viewer.seen}
                for subscription in viewer.stream.subscriptions(viewer):
                    assert last[subscription.track].endswith(camera.note), "the newest is seen"
        node.stream.leave(camera.peer)
        self.cluster.settle()

    def _who_asked_is_answered(self, home: Node) -> None:
        for _ in range(70):
            for worker in self.workers:
                worker.work()
            self.cluster.pass_time()
            waits = [
                asker
                for asker in self.askers
                if asker.node in self.cluster.nodes
                and len(asker.peer.of(Answered, Unanswered)) < len(asker.tickets)
            ]
            if not waits:
                break
        assert not waits
        self.nothing_is_answered_twice()
        self.nobody_is_given_more_than_they_asked_for()


AnyOrder.TestCase.settings = settings(
    max_examples=20,
    stateful_step_count=30,
    deadline=None,
    derandomize=True,  # as good as any others, and the same for everybody
)
TestAnyOrder = AnyOrder.TestCase
