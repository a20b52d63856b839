"""Relays that share a stream, in any order of anything: cuts, losses, restarts, peers that come and
go. What a viewer sees only goes forward, and in the end all agree.
"""

import random
from itertools import pairwise

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from dreamrelay.protocol.messages import Acknowledged
from tests.fakes.federations import Cluster, Node, Somebody, picture

NAMES = "abc"


class AnyOrder(RuleBasedStateMachine):
    """Three relays, one stream."""

    @initialize()
    def begin(self) -> None:
        self.cluster = Cluster(*NAMES)
        self.again = 0
        self.viewers: list[Somebody] = []
        self.workers: list[tuple[Node, Somebody]] = []
        self.producers: list[tuple[Node, Somebody]] = []
        for node in self.cluster.nodes:
            self.viewers.append(node.viewer())
        self.patches = 0
        self.cluster.pass_time(2)

    def node(self, number: int) -> Node:
        return self.cluster.nodes[number % len(self.cluster.nodes)]

    @rule(at=st.integers(0, 2), credit=st.integers(1, 3))
    def worker_comes(self, at: int, credit: int) -> None:
        if len(self.workers) < 4:
            node = self.node(at)
            self.workers.append((node, node.worker(credit)))

    @rule(which=st.integers(0, 9))
    @precondition(lambda self: self.workers)
    def worker_goes(self, which: int) -> None:
        node, worker = self.workers.pop(which % len(self.workers))
        node.stream.leave(worker)

    @rule(at=st.integers(0, 2))
    def producer_comes(self, at: int) -> None:
        if len(self.producers) < 3:
            node = self.node(at)
            self.producers.append((node, node.producer()))

    @rule(which=st.integers(0, 9))
    @precondition(lambda self: self.producers)
    def picture_comes(self, which: int) -> None:
        node, producer = self.producers[which % len(self.producers)]
        before = len(producer.of(Acknowledged))
        node.send(producer, before + 1)
        assert len(producer.of(Acknowledged)) == before + 1, "its credit is back at once"

    @rule(which=st.integers(0, 9))
    @precondition(lambda self: self.workers)
    def worker_works(self, which: int) -> None:
        node, worker = self.workers[which % len(self.workers)]
        if worker.given:
            node.make(worker)

    @rule(at=st.integers(0, 2), name=st.sampled_from(["prompt", "strength"]))
    def somebody_speaks(self, at: int, name: str) -> None:
        self.patches += 1
        value: object = f"p{self.patches}" if name == "prompt" else self.patches % 10 / 10
        self.cluster.clock.advance(0.001)
        self.node(at).stream.update_parameters({name: value}, "test")

    @rule()
    def letters_arrive(self) -> None:
        self.cluster.settle()

    @rule(seconds=st.integers(1, 5))
    def time_passes(self, seconds: int) -> None:
        self.cluster.pass_time(seconds)

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
        self.workers = [(n, w) for n, w in self.workers if n is not node]
        self.producers = [(n, p) for n, p in self.producers if n is not node]
        self.again += 1
        fresh = self.cluster.add(f"{node.name[0]}{self.again}")
        self.viewers.append(fresh.viewer())

    @invariant()
    def what_a_viewer_sees_goes_forward(self) -> None:
        for viewer in getattr(self, "viewers", ()):
            numbers = viewer.numbers()
            assert all(a < b for a, b in pairwise(numbers)), numbers

    @invariant()
    def revisions_never_fall(self) -> None:
        for viewer in getattr(self, "viewers", ()):
            told = viewer.revisions
            assert told == sorted(told), told

    def teardown(self) -> None:
        if not hasattr(self, "cluster"):
            return
        cluster = self.cluster
        self.wires_are_mended()
        self.no_letters_are_lost()
        cluster.pass_time(12)
        homes = {node.home for node in cluster.nodes}
        assert len(homes) == 1, homes
        assert homes <= {node.name for node in cluster.nodes}
        values = [node.stream.values for node in cluster.nodes]
        assert values.count(values[0]) == len(values), values
        for node in cluster.nodes:
            status = node.stream.status()
            assert status["workers"] == len(self.workers), status
            assert status["viewers"] == len(cluster.nodes)
        highest = max((n for viewer in self.viewers for n in viewer.numbers()), default=0)
        home = next(node for node in cluster.nodes if node.name in homes)
        assert home.stream.status()["seq_in"] >= highest, "the next number is new to everybody"
        if self.workers:
            self._pictures_come_through(home)

    def _pictures_come_through(self, home: Node) -> None:
        """Nobody has lost their credit for good: what is sent is seen at every relay."""
        cluster = self.cluster
        node = cluster.nodes[-1]
        producer = node.producer()
        here = [v for v in self.viewers if any(v.stream is node.stream for node in cluster.nodes)]
        before = home.stream.status()["seq_in"]
        for _ in range(12):
            node.send(producer)
            cluster.settle()
            for at, worker in self.workers:
                at.make(worker, worker.given[-1] if worker.given else picture(0))
            cluster.pass_time()
            if all(viewer.numbers()[-1:] > [before] for viewer in here):
                return
        raise AssertionError([viewer.numbers() for viewer in here])


AnyOrder.TestCase.settings = settings(max_examples=25, stateful_step_count=30, deadline=None)
TestAnyOrder = AnyOrder.TestCase
