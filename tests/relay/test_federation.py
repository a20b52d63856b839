"""Relays that share streams: one home, mirrors that do as it does, and what a cut leaves of it."""

import logging
from dataclasses import replace

import pytest

from dreamrelay.errors import ParameterError
from dreamrelay.packet import Hop, Packet
from dreamrelay.protocol.messages import (
    Acknowledged,
    Answered,
    ClockReported,
    Limits,
    ParametersChanged,
    PicturesShown,
    Refused,
    Retired,
    SchemaChanged,
    Seen,
    StatusReceived,
    Unanswered,
)
from dreamrelay.relay.lending import Lender
from tests.fakes.clock import SECOND
from tests.fakes.federations import HELLO, SCHEMA, Cluster, Node, Somebody, picture

MS = 1_000_000


@pytest.fixture
def pair() -> Cluster:
    """Two relays; the stream has its home at the first."""
    cluster = Cluster("a", "b")
    assert cluster["a"].stream is not cluster["b"].stream
    cluster.pass_time()
    assert (cluster["a"].home, cluster["b"].home) == ("a", "a")
    return cluster


class TestPictures:
    def test_a_picture_goes_from_one_relay_to_a_worker_and_viewers_at_the_other(
        self, pair: Cluster
    ) -> None:
        a, b = pair["a"], pair["b"]
        worker, here, there = b.worker(), a.viewer(), b.viewer("input", "output")
        producer = a.producer()
        pair.settle()
        for n in (1, 2, 3):
            a.send(producer)
            pair.settle()
            assert worker.given[-1].seq == n
            b.make(worker)
            pair.settle()
        assert here.numbers() == there.numbers() == [1, 2, 3]
        assert there.numbers("input") == [1, 2, 3]

    def test_a_producer_at_a_mirror(self, pair: Cluster) -> None:
        a, b = pair["a"], pair["b"]
        worker, here, there = a.worker(), a.viewer(), b.viewer()
        producer = b.producer()
        pair.settle()
        for seq in (7, 8):
            b.send(producer, seq)
            pair.settle()
            a.make(worker)
            pair.settle()
        assert here.numbers() == there.numbers() == [1, 2]
        assert [(ack.seq, ack.on_air) for ack in producer.of(Acknowledged)] == [
            (7, True),
            (8, True),
        ]

    def test_the_newest_is_kept_where_the_other_relay_is_slow(self, pair: Cluster) -> None:
        a, b = pair["a"], pair["b"]
        there = b.viewer("input")
        producer = a.producer()
        pair.settle()
        for _ in range(50):
            a.send(producer)  # nothing arrives meanwhile
        pair.settle()
        assert there.numbers("input") == [1, 2, 50]

    def test_the_newest_is_kept_where_the_home_is_slow(self, pair: Cluster) -> None:
        a, b = pair["a"], pair["b"]
        here = a.viewer("input")
        producer = b.producer()
        pair.settle()
        for n in range(50):
            b.send(producer, note=b"%d" % n)
        pair.settle()
        assert [packet.data[10:] for _, packet in here.seen] == [b"0", b"1", b"49"]
        assert len(producer.of(Acknowledged)) == 50

    def test_a_picture_crosses_once_for_many_viewers_and_never_for_none(
        self, pair: Cluster
    ) -> None:
        a, b = pair["a"], pair["b"]
        viewers = [b.viewer("input") for _ in range(5)]
        producer = a.producer()
        pair.settle()
        pair.cable.carried.clear()
        a.send(producer, note=b"MARKED")
        pair.settle()
        assert all(viewer.numbers("input") == [1] for viewer in viewers)
        assert sum(b"MARKED" in letter for letter in pair.cable.carried) == 1
        for viewer in viewers:
            b.stream.leave(viewer)
        pair.settle()
        pair.cable.carried.clear()
        a.send(producer, note=b"MARKED")
        pair.settle()
        assert not any(b"MARKED" in letter for letter in pair.cable.carried)

    def test_who_comes_to_a_mirror_that_nobody_watched_sees_no_old_picture(
        self, pair: Cluster
    ) -> None:
        a, b = pair["a"], pair["b"]
        producer, first = a.producer(), b.viewer("input")
        pair.settle()
        a.send(producer)
        pair.settle()
        b.stream.leave(first)
        pair.settle()
        a.send(producer)
        pair.settle()
        second = b.viewer("input")
        assert second.numbers("input") == []
        pair.settle()
        assert second.numbers("input") == [2]


class TestClocks:
    """A mirror whose calendar is far ahead of its home's: each sees times by its own."""

    AHEAD_NS = 50_000_000_000

    @pytest.fixture
    def far(self) -> Cluster:
        cluster = Cluster("a")
        cluster.pass_time()
        cluster["a"].stream.join(cluster["a"].peer("viewer"))
        cluster.add("b", self.AHEAD_NS)
        assert cluster["b"].stream is not cluster["a"].stream
        cluster.pass_time(20)  # the clocks are compared once a second, and the guess gets better
        assert (cluster["a"].home, cluster["b"].home) == ("a", "a")
        return cluster

    def test_a_worker_at_a_mirror_knows_how_old_its_input_is(self, far: Cluster) -> None:
        a, b = far["a"], far["b"]
        worker, producer, here, there = b.worker(), a.producer(), a.viewer(), b.viewer()
        far.settle()
        a.stream.publish(picture(1).but(captured_ns=a.unix_ns()), "input", producer)
        far.settle()
        given = worker.given[-1]
        assert self.age(b, given) < 1
        b.make(worker, given.stamped(Hop.RECEIVED, b.unix_ns()))
        far.settle()
        for node, viewer in ((a, here), (b, there)):
            _, seen = viewer.seen[-1]
            assert self.age(node, seen) < 1
            assert all(abs(node.unix_ns() - stamp.ns) < 1e9 for stamp in seen.stamps)

    def test_a_producer_at_a_mirror_brings_its_times(self, far: Cluster) -> None:
        a, b = far["a"], far["b"]
        producer, worker = b.producer(), a.worker()
        far.settle()
        b.stream.publish(picture(1).but(captured_ns=b.unix_ns()), "input", producer)
        far.settle()
        given = worker.given[-1]
        assert self.age(a, given) < 1
        assert all(abs(a.unix_ns() - stamp.ns) < 1e9 for stamp in given.stamps)

    def test_it_knows_the_other_clock_before_the_first_picture(self) -> None:
        cluster = Cluster("a")
        a = cluster["a"]
        a.stream.join(a.peer("viewer"))
        cluster.pass_time()
        producer = a.producer()
        a.stream.publish(picture(1).but(captured_ns=a.unix_ns()), "input", producer)
        b = Node("b", cluster.cable, cluster.clock, self.AHEAD_NS)
        there = b.viewer("input")  # it looks before its relay knows of any other
        cluster.settle()
        ((_, seen),) = there.seen
        assert self.age(b, seen) < 2

    def test_how_well_a_clock_is_known_adds_up_over_both_relays(self, far: Cluster) -> None:
        a, b = far["a"], far["b"]
        far.cable.takes = lambda: far.clock.advance(0.002)
        far.cut("b")
        far.pass_time(5)
        far.heal()
        camera, painter, page = a.producer(), b.worker(), b.viewer()
        far.pass_time(3)
        assert b.home == "a"
        a.stream.timing.set_clock(camera, ClockReported(7 * MS, 3 * MS))
        b.stream.timing.set_clock(painter, ClockReported(5 * MS, MS))
        b.stream.timing.set_clock(page, ClockReported(0, MS))
        far.pass_time(3)
        there = {clock.role: clock for clock in a.stream.timing.clocks}
        here = {clock.role: clock for clock in b.stream.timing.clocks}
        way = here["home"]
        assert way.error_ns > MS, "a letter takes 2 ms"
        assert abs(way.offset_ns + self.AHEAD_NS) <= way.error_ns
        for known in (here, there):
            worker = known["worker"]
            assert worker.error_ns >= MS + way.error_ns / 2
            assert abs(worker.offset_ns - 5 * MS + self.AHEAD_NS) <= worker.error_ns
            assert 3 * MS <= known["producer"].error_ns < 4 * MS, "it does not cross"
        assert (there["mirror"].peer, there["mirror"].name) == ("relay-b", "b")
        assert here["viewer"].error_ns >= MS + way.error_ns
        assert a.stream.timing.error_ns >= 3 * MS
        assert b.stream.timing.error_ns >= 3 * MS + way.error_ns
        assert b.stream.timing.hop_errors()[Hop.RELAYED] == pytest.approx(3, abs=0.5)
        assert (b.stream.timing.age_error() or 0) >= 3 + way.error_ns / MS
        b.stream.leave(painter)
        far.pass_time()
        assert not {"worker"} & {clock.role for clock in a.stream.timing.clocks}
        a.stream.leave(camera)
        far.pass_time()
        assert {clock.role for clock in b.stream.timing.clocks} == {"home", "viewer"}

    def test_a_mirror_that_is_the_home_again_has_its_own_clock(self, far: Cluster) -> None:
        b = far["b"]
        assert [clock.role for clock in b.stream.timing.clocks] == ["home"]
        far.remove(far["a"])
        far.pass_time(6)
        assert b.home == "b"
        assert (b.stream.timing.clocks, b.stream.timing.error_ns) == ([], 0)

    def test_a_clock_that_is_set_makes_old_figures_worthless(self, far: Cluster) -> None:
        a, b = far["a"], far["b"]
        worker, producer = a.worker(), a.producer()
        b.viewer()
        far.settle()
        a.stream.publish(picture(1).but(captured_ns=a.unix_ns()), "input", producer)
        a.make(worker)
        far.settle()
        assert b.stream.timing.report()["hops"]
        far.pass_time(3)
        assert b.stream.timing.report()["hops"], "nobody has set it"
        b.ahead_ns += 3 * SECOND
        far.pass_time()
        assert not b.stream.timing.report()["hops"]

    def test_what_people_see_at_a_mirror_is_in_the_figures_of_both(self, far: Cluster) -> None:
        a, b = far["a"], far["b"]
        seen = Seen(3.0, 8.0, 120.0)
        b.stream.timing.show(PicturesShown("studio", (seen, seen)))
        a.stream.timing.show(PicturesShown("studio", (seen,)))
        far.pass_time()
        assert b.stream.timing.report()["shown"]["studio"]["age"]["count"] == 2
        shown = a.stream.timing.report()["shown"]
        assert {name: found["age"]["count"] for name, found in shown.items()} == {
            "studio": 1,
            "studio@b": 2,
        }
        far.pass_time(3)
        assert a.stream.timing.report()["shown"]["studio@b"]["age"]["count"] == 2, "told once"

    def test_only_what_a_camera_took_is_measured(self, far: Cluster) -> None:
        a, b = far["a"], far["b"]
        worker, viewer = a.worker(), b.viewer()
        far.settle()
        for _ in range(3):
            a.stream.publish(picture(0).but(captured_ns=a.unix_ns()), "output", worker)
            far.settle()
        assert len(viewer.seen) == 3
        far.pass_time()
        assert b.stream.status()["dreaming"]
        assert not b.stream.timing.report()["age"], "made from no input"
        a.stream.publish(picture(1).but(captured_ns=a.unix_ns()), "input", a.producer())
        a.make(worker)
        far.settle()
        assert len(viewer.seen) == 4
        assert b.stream.timing.report()["age"]["returned"]["count"] == 1

    @staticmethod
    def age(node: Node, packet: Packet) -> float:
        """Seconds, by the relay's own clock."""
        return abs(node.unix_ns() - packet.captured_ns) / 1e9


class TestWorkers:
    def test_workers_of_two_relays_share_a_stream_in_order(self, pair: Cluster) -> None:
        a, b = pair["a"], pair["b"]
        workers, viewer = (a.worker(), b.worker()), b.viewer()
        producer = a.producer()
        pair.settle()
        for _ in range(2):
            a.send(producer)
            pair.clock.advance(0.01)
            pair.settle()
        assert sorted(packet.seq for worker in workers for packet in worker.given) == [1, 2]
        later = next(w for w in workers if w.given[-1].seq == 2)
        first = next(w for w in workers if w is not later)
        (a if later is workers[0] else b).make(later)
        pair.settle()
        assert viewer.numbers() == []
        (a if first is workers[0] else b).make(first)
        pair.clock.advance(0.1)
        pair.settle()
        assert viewer.numbers() == [1, 2]

    def test_a_worker_is_given_as_many_as_it_asks_for(self, pair: Cluster) -> None:
        a, b = pair["a"], pair["b"]
        worker, producer = b.worker(credit=2), a.producer()
        pair.settle()
        for _ in range(5):
            a.send(producer)
            pair.settle()
        assert [packet.seq for packet in worker.given] == [1, 2]
        b.make(worker)
        pair.settle()
        assert [packet.seq for packet in worker.given] == [1, 2, 5]

    def test_a_worker_that_goes_is_gone_everywhere(self, pair: Cluster) -> None:
        a, b = pair["a"], pair["b"]
        worker = b.worker()
        pair.settle()
        assert a.stream.status()["workers"] == 1
        b.stream.leave(worker)
        pair.settle()
        assert (a.stream.status()["workers"], a.stream.state) == (0, "lost")
        assert b.stream.status()["state"] == "lost"

    def test_another_model_at_a_mirror_is_known_everywhere_and_stays_so(
        self, pair: Cluster
    ) -> None:
        a, b = pair["a"], pair["b"]
        worker, producer = b.worker(), a.producer()
        pair.settle()
        about = {**HELLO.about(), "model": "another", "width": 24}
        b.stream.report(worker, StatusReceived("live", about=about))
        b.stream.report(worker, StatusReceived("live"))
        pair.settle()
        for node in (a, b):
            status = node.stream.status()
            assert (status["model"], status["width"]) == ("another", 24)
        for _ in range(3):
            a.send(producer)
        pair.settle()
        assert len(worker.given) == 1, "its credit is what it was"
        pair.remove(a)
        pair.pass_time(5)
        assert b.home == "b"
        assert b.stream.status()["model"] == "another"

    def test_a_worker_at_a_mirror_takes_over_once(self, pair: Cluster) -> None:
        a, b = pair["a"], pair["b"]
        old, producer = a.worker(9), a.producer()
        heir = b.worker(1, replace(HELLO, replace=True))
        pair.settle()
        a.send(producer)
        pair.settle()
        assert (len(old.given), len(heir.given)) == (0, 1)
        b.make(heir)
        pair.settle()
        assert old.of(Retired)
        a.stream.leave(old)
        later = a.worker(9)
        b.place.close()
        b.place.open(b.federation)
        pair.settle()
        assert not later.of(Retired)
        for _ in range(3):
            a.send(producer)
            pair.settle()
        assert later.given, "nobody takes over from it"

    def test_a_request_at_a_mirror_is_answered_there(self, pair: Cluster) -> None:
        b = pair["b"]
        asker = b.viewer()
        b.stream.request(picture(), {}, 5, asker)
        pair.settle()
        assert asker.of(Unanswered)[0].ticket == 5
        worker = b.worker()
        pair.settle()
        b.stream.request(picture(note=b"?"), {"prompt": "x"}, 6, asker)
        b.stream.request(picture(), {"strength": 7}, 7, asker)
        pair.settle()
        refusal = asker.of(Unanswered)[1]
        assert (refusal.ticket, type(refusal.error)) == (7, ParameterError)
        assert worker.given[0].private
        b.make(worker, worker.given[0])
        pair.settle()
        answer = asker.of(Answered)[0]
        assert (answer.ticket, answer.prompt, answer.packet.data[10:]) == (6, "x", b"?")
        assert asker.numbers() == []


class TestWords:
    def test_a_patch_at_a_mirror_holds_everywhere(self, pair: Cluster) -> None:
        a, b = pair["a"], pair["b"]
        worker, here, there, asker = a.worker(), a.viewer(), b.viewer(), b.viewer()
        pair.settle()
        assert there.of(SchemaChanged)[-1].schema == SCHEMA
        b.stream.update_parameters({"prompt": "cat"}, "studio", id=9, peer=asker)
        pair.settle()
        for somebody in (worker, here, there, asker):
            assert somebody.values == {"prompt": "cat", "strength": 0.5}
        notices = [n for n in asker.of(ParametersChanged) if n.changed]
        assert [(n.id, n.origin, n.revision) for n in notices] == [(9, "studio", a.stream.revision)]
        assert b.stream.revision == a.stream.revision
        a.stream.update_parameters({"strength": 1}, "rest")
        pair.settle()
        assert there.values == b.stream.values == {"prompt": "cat", "strength": 1}

    def test_a_wrong_patch_is_refused_with_the_same_words(self, pair: Cluster) -> None:
        a, b = pair["a"], pair["b"]
        a.worker()
        pair.settle()
        texts = []
        for node in (a, b):
            with pytest.raises(ParameterError) as refused:
                node.stream.update_parameters({"strength": 7, "nothing": 1}, "rest")
            texts.append(str(refused.value))
        assert texts[0] == texts[1]

    def test_what_only_the_home_knows_to_be_wrong_is_refused_there(self, pair: Cluster) -> None:
        a, b = pair["a"], pair["b"]
        asker = b.viewer()
        pair.settle()
        a.worker()  # its schema is on its way
        b.stream.update_parameters({"nothing": 1}, "studio", id="x", peer=asker)
        pair.settle()
        assert [(said.id, said.error.problems.keys()) for said in asker.of(Refused)] == [
            ("x", {"nothing"})
        ]
        assert "nothing" not in b.stream.values

    def test_everybody_is_counted(self, pair: Cluster) -> None:
        a, b = pair["a"], pair["b"]
        a.viewer(), b.viewer(), b.viewer("input"), b.producer(), a.producer(), b.worker()
        pair.pass_time()
        for node in (a, b):
            status = node.stream.status()
            counted = [status[role] for role in ("viewers", "producers", "workers")]
            assert (counted, status["home"]) == ([3, 2, 1], "a")

    def test_the_picture_to_imitate(self, pair: Cluster) -> None:
        a, b = pair["a"], pair["b"]
        b.stream.refer(picture(note=b"imitated"))
        pair.pass_time()
        for node in (a, b):
            assert node.stream.reference is not None
            assert node.stream.reference.data.endswith(b"imitated")
            assert node.stream.status()["reference"]
        a.stream.refer(None)
        pair.pass_time()
        assert b.stream.reference is None


class TestCuts:
    def test_a_mirror_goes_on_alone_and_comes_back(self, pair: Cluster) -> None:
        a, b = pair["a"], pair["b"]
        workers, viewers = [], []
        for node in (a, b):
            workers.append(node.worker())
            viewers.append(node.viewer())
        producer = a.producer()
        pair.settle()
        a.stream.update_parameters({"prompt": "before"}, "rest")
        for _ in range(6):
            a.send(producer)
            pair.settle()
            for node, worker in zip((a, b), workers, strict=True):
                if worker.given and worker.given[-1].seq == a.stream.status()["seq_in"]:
                    node.make(worker)
            pair.settle()
            pair.clock.advance(0.2)
        assert viewers[0].numbers() == viewers[1].numbers()
        seen = viewers[1].numbers()[-1]
        pair.cut("b")
        pair.pass_time(8)
        assert (a.home, b.home) == ("a", "b")
        assert b.stream.values["prompt"] == "before"
        other = b.producer()
        for _ in range(3):
            b.send(other)
            b.make(workers[1])
            pair.clock.advance(0.2)
        a.stream.update_parameters({"strength": 0.1, "prompt": "at a"}, "rest")
        pair.clock.advance(1)
        b.stream.update_parameters({"prompt": "at b"}, "rest")
        assert viewers[1].numbers()[-1] > seen
        pair.heal()
        pair.pass_time(3)
        assert (a.home, b.home) == ("a", "a")
        for node in (a, b):
            assert node.stream.values == {"prompt": "at b", "strength": 0.1}
            assert node.stream.status()["workers"] == 2
        for _ in range(6):
            a.send(producer)
            b.send(other)
            pair.settle()
            for node, worker in zip((a, b), workers, strict=True):
                node.make(worker)
                pair.settle()
            pair.pass_time()
        for viewer in viewers:
            numbers = viewer.numbers()
            assert numbers == sorted(set(numbers))
        assert viewers[0].numbers()[-1] == viewers[1].numbers()[-1] > seen

    @pytest.mark.parametrize("says_goodbye", [True, False])
    def test_when_the_home_is_gone_one_of_the_mirrors_takes_its_place(
        self, says_goodbye: bool
    ) -> None:
        cluster = Cluster("a", "b", "c")
        a, b, c = cluster.nodes
        for node in cluster.nodes:
            node.viewer()
        cluster.pass_time()
        worker, producer = c.worker(), b.producer()
        cluster.settle()
        if says_goodbye:
            a.federation.say_goodbye()
            cluster.settle()
        cluster.remove(a)
        if not says_goodbye:
            assert b.home == "a"
            cluster.pass_time(5)
        cluster.settle()
        assert (b.home, c.home) == ("b", "b")
        b.send(producer)
        cluster.settle()
        c.make(worker)
        cluster.settle()
        again = cluster.add("a2")
        viewer = again.viewer()
        cluster.pass_time(2)
        assert again.home == "b"
        assert viewer.numbers() == [1]

    def test_a_lost_letter_costs_nothing_for_long(self, pair: Cluster) -> None:
        a, b = pair["a"], pair["b"]
        worker, viewer, producer = b.worker(2), b.viewer(), a.producer()
        pair.settle()
        a.send(producer)
        pair.cable.loses = lambda letter: b"Delivery" in letter or b"PacketReceived" in letter
        pair.settle()
        a.send(producer)
        pair.settle()
        b.stream.update_parameters({"prompt": "still"}, "rest")
        pair.cable.loses = lambda _: False
        pair.pass_time(3)
        assert a.stream.values["prompt"] == "still"
        a.send(producer)
        pair.settle()
        assert worker.given[-1].seq == 3
        b.make(worker)
        pair.settle()
        assert viewer.numbers()[-1] == 3

    def test_while_the_backplane_is_away_everybody_goes_on(self, pair: Cluster) -> None:
        b = pair["b"]
        worker, viewer, producer = b.worker(), b.viewer(), b.producer()
        pair.settle()
        b.place.close()
        pair.pass_time(5)
        assert b.home == "b"
        b.send(producer)
        b.make(worker)
        assert viewer.numbers() == [1]
        b.place.open(b.federation)
        pair.pass_time(2)
        assert b.home == "a"
        assert pair["a"].stream.status()["workers"] == 1

    def test_two_that_begin_at_once_agree(self) -> None:
        cluster = Cluster()
        a, b = cluster.add("a"), cluster.add("b")
        viewers = [node.viewer() for node in (a, b)]
        cluster.pass_time(3)
        assert (a.home, b.home) == ("a", "a")
        assert a.stream.status()["viewers"] == len(viewers)

    def test_a_letter_that_makes_no_sense_costs_nobody_anything(self, pair: Cluster) -> None:
        a = pair["a"]
        for junk in (
            b"",
            b"DRB",
            b"GET / HTTP/1.1\r\n\r\n",
            b"DRB\x01\xff\xff\xff\xff",
            b"DRB\x02" + bytes(9),
        ):
            pair.cable.post("b", "a", junk)
        pair.settle()
        assert a.federation.unreadable == 5
        assert pair["b"].home == "a"


class TestStreams:
    def test_a_stream_is_at_every_relay_and_goes_with_the_last_who_is_at_it(self) -> None:
        cluster = Cluster("a", "b")
        a, b = cluster.nodes
        cluster.settle()
        stream = a.hub.stream("guests")
        cluster.settle()
        mirror = b.hub.find("guests")
        assert mirror is not None
        assert mirror.mirrored.home == "a"
        cluster.pass_time()
        somebody = Somebody(mirror, "x", "viewer")
        mirror.join(somebody, ("output",))
        cluster.settle()
        a.hub.forget(stream)
        assert a.hub.find("guests") is stream, "somebody is at it, elsewhere"
        mirror.leave(somebody)
        cluster.settle()
        a.hub.forget(stream)
        cluster.pass_time()
        assert a.hub.find("guests") is b.hub.find("guests") is None

    def test_a_relay_that_has_its_fill_of_streams_shares_no_more(self) -> None:
        cluster = Cluster("a", "b")
        a, b = cluster.nodes
        b.hub.limits = Limits(streams=2)
        for n in range(4):
            a.hub.stream(f"s{n}")
            a.hub.streams[f"s{n}"].connections += 1
        for n in range(2):
            b.hub.stream(f"own{n}").connections += 1
        cluster.pass_time(2)
        assert sorted(b.hub.streams) == ["own0", "own1"]


class TestLending:
    def test_a_guest_at_two_relays_is_lent_workers_until_it_has_its_own(self) -> None:
        cluster = Cluster("a", "b")
        a, b = cluster.nodes
        lenders = [Lender(node.hub, "default") for node in (a, b)]
        default = a.worker()
        cluster.pass_time(2)
        guests = [node.hub.stream("guest") for node in (a, b)]
        cluster.settle()

        def look() -> None:
            for _ in range(3):
                for lender in lenders:
                    lender.tick()
                cluster.pass_time()

        with lenders[0].guest(guests[0]), lenders[1].guest(guests[1]):
            look()
            assert [guest.state for guest in guests] == ["live", "live"]
            assert guests[0].status()["workers"] == 2, "one loan of each relay"
            assert [guest.schema for guest in guests] == [SCHEMA, SCHEMA]
            producer = Somebody(guests[1], "guest's", "producer")
            guests[1].join(producer)
            guests[1].publish(picture(note=b"of a guest"), "input", producer)
            cluster.settle()
            assert default.given[-1].data.endswith(b"of a guest")
            own = Somebody(guests[0], "own", "worker")
            guests[0].join(own, (), 1, HELLO)
            look()
            assert guests[0].status()["workers"] == 1
        assert guests[1].status()["workers"] <= 1

    def test_a_guest_of_a_mirror_obeys_the_schema_of_the_worker_that_is_lent(self) -> None:
        cluster = Cluster("a", "b")
        a, b = cluster.nodes
        a.worker()
        cluster.pass_time(2)
        assert (a.home, b.home) == ("a", "a")
        guest, lender = b.hub.stream("guest"), Lender(b.hub, "default")
        cluster.settle()
        with lender.guest(guest):
            lender.tick()
            cluster.pass_time()
            assert guest.schema == SCHEMA
            with pytest.raises(ParameterError, match="negative_prompt"):
                guest.update_parameters({"negative_prompt": "ugly"}, "page")


class TestProducers:
    def test_who_was_not_on_air_does_not_take_it_by_beginning_anew(self, pair: Cluster) -> None:
        a, b = pair["a"], pair["b"]
        waits, sends = b.producer(), a.producer()
        pair.settle()
        b.send(waits)
        pair.settle()
        a.send(sends)
        pair.clock.advance(1.1)
        b.send(waits)
        pair.settle()
        b.send(waits)
        assert not waits.of(Acknowledged)[-1].on_air
        b.place.close()
        b.place.open(b.federation)
        pair.settle()
        a.send(sends)
        before = a.stream.status()["seq_in"]
        pair.clock.advance(1.1)
        b.send(waits)
        pair.settle()
        assert a.stream.status()["seq_in"] == before
        assert not waits.of(Acknowledged)[-1].on_air


def test_who_is_cut_off_itself_warns_of_nobody(
    pair: Cluster, caplog: pytest.LogCaptureFixture
) -> None:
    """Its backplane has said why; the others say whom they miss."""
    caplog.set_level(logging.INFO)
    pair["b"].place.close()
    pair.pass_time(6)
    assert pair["b"].home == "b"
    said = {record.message: record.levelno for record in caplog.records}
    assert said["relay a is silent: it counts as gone"] == logging.INFO
    assert said["stream default has its home here now"] == logging.INFO
    assert said["relay b is silent: it counts as gone"] == logging.WARNING


def test_a_mirror_that_missed_that_nothing_is_imitated_is_told_so(pair: Cluster) -> None:
    a, b = pair["a"], pair["b"]
    a.worker(hello=replace(HELLO, reference=True))
    pair.settle()
    a.stream.refer(picture(note=b"like this"))
    pair.settle()
    assert b.stream.reference is not None
    pair.cable.loses = lambda _: True
    a.stream.refer(None)  # at the same moment, by a clock that ticks seldom
    pair.settle()
    pair.cable.loses = lambda _: False
    pair.pass_time(3)
    assert b.stream.reference is None


def test_a_word_that_is_lost_on_its_way_to_the_home_is_said_again(pair: Cluster) -> None:
    a, b = pair["a"], pair["b"]
    lost: list[bytes] = []

    def loses(data: bytes) -> bool:
        if b"PatchReceived" in data and not lost:
            lost.append(data)
            return True
        return False

    pair.cable.loses = loses
    b.stream.update_parameters({"prompt": "x"}, "test")
    pair.settle()
    assert lost
    pair.pass_time(3)
    assert a.stream.values["prompt"] == b.stream.values["prompt"] == "x"
