"""Several workers at one stream: shared inputs, results in order, a keeper for who remembers.

The streams are those of the simulation (``benchmarks/dispatch.py``): its clock is a number.
"""

import json
from collections import Counter
from itertools import count, pairwise
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmarks import __main__ as program
from benchmarks import dispatch as simulation
from benchmarks.dispatch import MS, Show, SimulatedWorker, Somebody, World
from dreamrelay.hub import Hub, Peer, Stream
from dreamrelay.hub.dispatch import MAX_HOLD_NS, PATIENCE
from dreamrelay.packet import Codec, Packet, Track
from dreamrelay.protocol.messages import (
    Delivery,
    Limits,
    Notice,
    RequestOffered,
    StatusReceived,
    WorkerHello,
)


class Hand(Peer):
    """A worker that answers when the test says so."""

    def __init__(self, id: str) -> None:
        self.id, self.role = id, "worker"
        self.given: list[int] = []
        self.requests: list[int] = []

    def notify(self, notice: Notice) -> None:
        if isinstance(notice, Delivery):
            self.given.append(notice.packet.seq)
        elif isinstance(notice, RequestOffered):
            self.requests.append(notice.packet.seq)

    def wake(self) -> None:
        pass


class Table:
    """A stream, a producer, a viewer of all that is shown, and the clock."""

    def __init__(self) -> None:
        self.world = World()
        hub = Hub(
            Limits(),
            clock_ns=self.world.clock,
            unix_ns=self.world.clock,
            call_later=self.world.call_later,
        )
        self.stream: Stream = hub.stream("default")
        self.producer = Somebody("producer", "producer")
        self.stream.join(self.producer)
        self.shown: list[tuple[int, int]] = []
        """When, in ms since the start, and which number."""
        self.whole: list[int] = []
        """Without the previews."""
        self.controls: list[int] = []
        self._begun = self.world.now
        for track, note in (("output", self._note), ("control", self._note_control)):
            self._watch(track, note)  # type: ignore[arg-type]

    def _watch(self, track: Track, note: Any) -> None:
        stream = self.stream

        class Watcher(Somebody):
            def wake(self) -> None:
                subscription = stream.subscription(self, track)
                packet = subscription.take() if subscription else None
                if packet is not None:
                    note(packet)

        stream.join(Watcher(f"viewer-{track}", "viewer"), (track,), None)

    def _note(self, packet: Packet) -> None:
        self.shown.append(((self.world.now - self._begun) // MS, packet.seq))
        if not packet.preview:
            self.whole.append(packet.seq)

    def _note_control(self, packet: Packet) -> None:
        self.controls.append(packet.seq)

    def worker(self, name: str, *, credit: int = 2, stateful: bool = False) -> Hand:
        hand = Hand(name)
        self.stream.join(hand, (), credit, WorkerHello("engine", stateful=stateful))
        self.stream.report(hand, StatusReceived("live"))
        return hand

    def send(self, count: int = 1) -> None:
        for _ in range(count):
            self.stream.publish(picture(captured_ns=self.world.now), "input", self.producer)

    def answer(self, worker: Hand, seq: int, track: Track = "output", **header: Any) -> None:
        self.stream.publish(picture(seq).but(**header), track, worker)
        if track == "output" and not header:
            self.stream.grant(worker, 1)

    def pass_ms(self, ms: float) -> None:
        self.world.run(self.world.now + int(ms * MS))

    @property
    def numbers(self) -> list[int]:
        return [seq for _, seq in self.shown]


def picture(seq: int = 0, captured_ns: int = 0) -> Packet:
    return Packet(b"GIF", Codec.GIF, 1, 1, seq, captured_ns)


@pytest.fixture
def table() -> Table:
    return Table()


class TestOrder:
    def test_a_result_waits_for_that_of_an_earlier_input(self, table: Table) -> None:
        first, second = table.worker("a"), table.worker("b")
        table.send(2)
        assert (first.given, second.given) == ([1], [2])
        table.pass_ms(40)
        table.answer(second, 2)
        assert table.shown == []
        table.pass_ms(10)
        table.answer(first, 1)
        table.pass_ms(10)
        assert table.numbers == [1, 2]
        assert table.stream.late == 0

    def test_it_waits_for_no_longer_than_the_slowest_takes(self, table: Table) -> None:
        first, second = table.worker("a"), table.worker("b")
        table.send(2)
        table.pass_ms(100)
        table.answer(first, 1)
        table.answer(second, 2)
        table.pass_ms(100)
        table.send(2)
        begun = table.world.now
        table.pass_ms(20)
        table.answer(second, second.given[-1])
        table.pass_ms(1000)
        (when, seq), early = table.shown[-1], second.given[-1]
        assert seq == early
        held = when * MS + 1_000 * MS - begun - 20 * MS
        assert 0 < held <= PATIENCE * 100 * MS
        table.answer(first, first.given[-1])
        assert table.numbers == [1, 2, early]
        assert table.stream.late == 1

    def test_nothing_is_held_longer_than_a_second_whatever_is_known(self, table: Table) -> None:
        _, second = table.worker("a"), table.worker("b")
        table.send(2)
        table.answer(second, 2)
        table.pass_ms(MAX_HOLD_NS / MS - 1)
        assert table.numbers == []
        table.pass_ms(2)
        assert table.numbers == [2]

    def test_what_was_held_does_not_leave_in_one_burst(self, table: Table) -> None:
        workers = [table.worker(name) for name in "abcd"]
        for _ in workers:
            table.send()
            table.pass_ms(10)
        for worker in reversed(workers):
            table.answer(worker, worker.given[0])
        table.pass_ms(100)
        assert table.numbers == [1, 2, 3, 4]
        gaps = [b - a for (a, _), (b, _) in pairwise(table.shown)]
        assert all(6 <= gap <= 10 for gap in gaps)

    def test_a_picture_that_its_worker_left_out_is_not_waited_for(self, table: Table) -> None:
        first, second = table.worker("a"), table.worker("b")
        table.send(2)
        table.pass_ms(50)
        table.answer(first, 1)
        table.answer(second, 2)
        table.send(2)
        table.pass_ms(100)  # more than the patience with 3: its worker is given another
        table.send()
        again = first if first.given[-1] == 5 else second
        other = second if again is first else first
        table.answer(other, other.given[-1])
        table.answer(again, 5)
        table.pass_ms(50)
        assert table.numbers[-2:] == [other.given[-1], 5]

    def test_control_and_previews_follow_their_results(self, table: Table) -> None:
        first, second = table.worker("a"), table.worker("b")
        table.send(2)
        table.answer(second, 2, preview=True)
        table.answer(second, 2)
        table.answer(second, 2, "control")
        assert (table.shown, table.controls) == ([], [])
        table.answer(first, 1, preview=True)
        assert table.numbers == [1]
        table.answer(first, 1, "control")
        table.answer(first, 1)
        table.pass_ms(20)
        assert table.numbers == [1, 1, 2]
        assert table.controls == [1, 2]

    def test_one_worker_is_never_held_up_and_nobody_is_woken(self, table: Table) -> None:
        worker = table.worker("a")
        for at in range(1, 6):
            table.send()
            table.answer(worker, at)
            assert table.numbers[-1] == at
        assert table.world.idle

    def test_without_a_clock_that_wakes_nothing_is_held(self) -> None:
        stream = Hub(Limits()).stream("default")
        producer, workers = Somebody("p", "producer"), [Hand("a"), Hand("b")]
        for worker in workers:
            stream.join(worker, (), 1, WorkerHello("engine"))
        for _ in workers:
            stream.publish(picture(), "input", producer)
        stream.publish(picture(2), "output", workers[1])
        last = stream.tracks["output"].last
        assert last is not None
        assert last.seq == 2


class TestSharing:
    def test_the_fastest_that_is_free_goes_first(self) -> None:
        show = Show([25, 120], 20)
        show.run(4)
        before = show.stream.status()["seq_out"]
        ages = [age for _, _, age in show.viewer.seen[-20:]]
        assert before > 60
        assert max(ages) < 60 * MS

    def test_a_worker_that_is_far_too_slow_holds_nobody_up(self) -> None:
        show = Show([30, 3000], 200)
        show.run(20)
        shown = [age for when, _, age in show.viewer.seen if when > show.world.now - 5 * 10**9]
        assert sorted(shown)[len(shown) // 2] < 60 * MS
        assert len(shown) > 0.9 * 5 / 0.03

    def test_who_takes_more_time_than_before_is_known_to(self) -> None:
        show = Show([40, 40], 100)
        show.run(3)
        slow = show.workers[0]
        slow._times = lambda: 300 * MS
        show.run(5)
        show.viewer.seen.clear()
        show.run(5)
        assert len(show.viewer.seen) > 0.9 * 5 * (1 / 0.04 + 1 / 0.3)


class Hoarder(SimulatedWorker):
    """Gives its credit back when it has made a picture, and takes pictures in their order."""

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self._waiting: list[Packet] = []

    def _take_up(self, packet: Packet) -> None:
        self._waiting.append(packet)
        self._begin()

    def _begin(self) -> None:
        if not self._busy and self._waiting:
            self._ready = self._waiting.pop(0)
            super()._begin()

    def _send(self, packet: Packet) -> None:
        self._stream.grant(self, 1)
        super()._send(packet)


class TestWire:
    """A worker is given its next input so early that its engine need not wait for it."""

    def _run(self, times: list[float], **world: Any) -> tuple[float, float]:
        """Shown of what can be computed, and the median age over the slowest one's time."""
        rates, wire_ms = sum(1000 / ms for ms in times), world["wire_ms"]
        show = Show(times, 4 * rates, **world)
        show.run(3)
        show.viewer.seen.clear()
        show.run(5)
        ages = sorted(age for _, _, age in show.viewer.seen)
        return len(ages) / 5 / rates, ages[len(ages) // 2] / (max(times) + 2 * wire_ms) / MS

    @pytest.mark.parametrize(
        ("times", "wire_ms"), [([15, 200], 2), ([20, 25, 60], 6), ([40, 40], 15), ([30, 33], 0.2)]
    )
    def test_a_long_way_costs_no_picture(self, times: list[float], wire_ms: float) -> None:
        efficiency, age = self._run(times, wire_ms=wire_ms)
        assert efficiency > 0.98
        assert age < 1.2

    def test_a_way_longer_than_the_time_is_no_reason_to_send_more(self) -> None:
        _, age = self._run([10, 10], wire_ms=40)
        assert age < 1.2

    def test_late_credit_is_not_taken_for_a_long_way(self) -> None:
        efficiency, age = self._run([40, 40], wire_ms=2, kind=Hoarder)
        assert efficiency > 0.98
        assert age < 1.2, "pictures wait at the worker"


class TestLoss:
    def test_what_a_dead_worker_had_goes_to_another_at_once(self, table: Table) -> None:
        first, second = table.worker("a"), table.worker("b")
        table.send(2)
        table.answer(first, 1)
        table.stream.leave(second)
        assert first.given == [1, 2]
        table.answer(first, 2)
        assert table.numbers == [1, 2]

    def test_what_waits_for_a_dead_worker_is_shown_at_once(self, table: Table) -> None:
        first, second, third = (table.worker(name) for name in "abc")
        table.send(3)
        table.answer(second, 2)
        table.answer(third, 3)
        table.stream.leave(first)
        table.pass_ms(1)
        assert table.numbers == [2, 3]

    def test_of_one_in_trouble_nothing_is_awaited(self, table: Table) -> None:
        first, second = table.worker("a"), table.worker("b")
        table.send(2)
        table.answer(second, 2)
        table.stream.report(first, StatusReceived("error", "no memory"))
        table.pass_ms(1)
        assert table.numbers == [2]
        table.send(1)
        assert second.given == [2, 3]

    def test_who_comes_back_after_a_time_alone_owes_nothing(self, table: Table) -> None:
        first, second = table.worker("a", credit=100), table.worker("b")
        table.send(1)
        table.stream.leave(second)
        for seq in range(2, 20):
            table.send()
            table.answer(first, seq)
            table.pass_ms(900)
        third = table.worker("c")
        table.send(2)
        assert len(first.given) + len(third.given) == 21

    @pytest.mark.parametrize("when", [3.0, 3.011, 3.02, 3.05, 3.111])
    def test_the_others_go_on_when_one_dies(self, when: float) -> None:
        show = Show([40, 40, 60], 200)
        show.run(when)
        show.kill(show.workers[2])
        show.viewer.seen.clear()
        show.run(5)
        assert len(show.viewer.seen) > 0.95 * 5 * 50
        gaps = [b - a for (a, _, _), (b, _, _) in pairwise(show.viewer.seen)]
        assert max(gaps) < 100 * MS


class TestKeeper:
    """A worker that remembers has a stream for itself."""

    def test_all_inputs_go_to_one(self, table: Table) -> None:
        first, second = table.worker("a", stateful=True), table.worker("b", stateful=True)
        for at in range(1, 10):
            table.send()
            keeper = first if first.given else second
            table.answer(keeper, at)
        assert sorted([len(first.given), len(second.given)]) == [0, 9]
        assert table.numbers == list(range(1, 10))

    def test_single_pictures_go_to_the_other(self, table: Table) -> None:
        first, second = table.worker("a", stateful=True), table.worker("b", stateful=True)
        table.send()
        keeper, other = (first, second) if first.given else (second, first)
        for ticket in range(2):
            table.stream.request(picture(), {}, ticket, table.producer)
        assert (len(keeper.requests), len(other.requests)) == (0, 2)

    def test_another_one_goes_on_at_once_when_it_dies(self, table: Table) -> None:
        first, second = table.worker("a", stateful=True), table.worker("b", stateful=True)
        table.send()
        keeper, other = (first, second) if first.given else (second, first)
        table.stream.leave(keeper)
        assert other.given == [1]

    @pytest.mark.parametrize("credit", [2, 1000])
    def test_another_one_goes_on_when_it_hangs(self, table: Table, credit: int) -> None:
        workers = [table.worker(n, stateful=True, credit=credit) for n in "ab"]
        table.send()
        keeper, other = sorted(workers, key=lambda w: -len(w.given))
        for _ in range(5):
            table.pass_ms(50)
            table.answer(keeper, keeper.given[-1])
            table.send()
        for _ in range(30):
            table.pass_ms(40)
            table.send()
            if other.given:
                table.answer(other, other.given[-1])
        newest = table.stream.status()["seq_in"]
        assert other.given[-1] == newest
        assert table.numbers[-1] == newest
        table.answer(keeper, keeper.given[-1])
        assert table.numbers[-1] == newest
        assert table.stream.late == 1

    def test_a_pause_of_the_producer_is_no_silence(self, table: Table) -> None:
        workers = [table.worker(n, stateful=True, credit=100) for n in "ab"]
        table.send(3)
        keeper = max(workers, key=lambda w: len(w.given))
        table.answer(keeper, 1)  # a stream batch: two are on their way through
        table.pass_ms(60_000)
        table.send()
        assert keeper.given == [1, 2, 3, 4]

    def test_who_comes_to_remember_or_forgets_says_so(self, table: Table) -> None:
        workers = [table.worker(name, credit=100) for name in "ab"]
        table.send(2)
        assert [len(w.given) for w in workers] == [1, 1]
        for worker in workers:
            table.stream.report(worker, StatusReceived("live", stateful=True))
            table.stream.report(worker, StatusReceived("live"))  # has not changed
        table.send(4)
        assert sorted(len(w.given) for w in workers) == [1, 5]
        for worker in workers:
            for seq in worker.given:
                table.answer(worker, seq)
            table.stream.report(worker, StatusReceived("live", stateful=False))
        table.send(2)
        assert sorted(len(w.given) for w in workers) == [2, 6]


STEPS = st.one_of(
    st.tuples(st.just("send"), st.just(0), st.just(0)),
    st.tuples(st.just("pass"), st.integers(1, 300), st.just(0)),
    st.tuples(
        st.sampled_from(["answer", "preview", "control"]), st.integers(0, 2), st.integers(0, 3)
    ),
    st.tuples(
        st.sampled_from(["die", "hello", "error", "live"]), st.integers(0, 2), st.integers(0, 1)
    ),
)


class Play:
    """Three workers to whom anything happens, and what must hold all the time."""

    def __init__(self) -> None:
        self.table = Table()
        self.credit: Counter[str] = Counter()
        self.come: dict[int, int] = {}
        """When the result of each input first came, ns."""
        self.hands: list[Hand | None] = [None] * 3
        self.names = count()
        for at in range(3):
            self.seat(at)

    def seat(self, at: int) -> None:
        self.hands[at] = hand = self.table.worker(f"w{next(self.names)}")
        self.credit[hand.id] = 2

    def do(self, what: str, at: int, more: int) -> None:
        hand = self.hands[at] if what not in ("send", "pass") else None
        if what == "send":
            self.table.send()
        elif what == "pass":
            self.table.pass_ms(at * 5)
        elif hand is None:
            self.seat(at)
        elif what in ("answer", "preview", "control"):
            self.answer(hand, what, more)
        elif what == "die":
            self.table.stream.leave(hand)
            self.hands[at] = None
        elif what == "hello":
            self.credit[hand.id] = len(hand.given) + 2
            self.table.stream.join(hand, (), 2, WorkerHello("engine"))
        elif what == "error":
            self.table.stream.report(hand, StatusReceived("error"))
        else:
            self.table.stream.report(hand, StatusReceived("live", stateful=bool(more)))

    def answer(self, hand: Hand, what: str, back: int) -> None:
        if not hand.given:
            return
        seq = hand.given[-1 - back % len(hand.given)]
        if what == "control":
            self.table.answer(hand, seq, "control")
        elif what == "preview":
            self.table.answer(hand, seq, preview=True)
        else:
            self.come.setdefault(seq, self.table.world.now)
            self.credit[hand.id] += 1
            self.table.answer(hand, seq)

    def look(self) -> None:
        for hand in filter(None, self.hands):
            assert len(hand.given) <= self.credit[hand.id]
            assert all(a < b for a, b in pairwise(hand.given))
        now, shown = self.table.world.now, self.table.stream.tracks["output"].last
        for seq, when in self.come.items():
            done = shown is not None and shown.seq >= seq
            assert done or now - when <= MAX_HOLD_NS, "held for too long"

    def end(self) -> None:
        table = self.table
        table.pass_ms(MAX_HOLD_NS / MS + 1)
        self.look()
        table.pass_ms(300_000)  # the times that were measured here may be long
        assert table.world.idle, "nobody is woken for ever"
        assert table.numbers == sorted(table.numbers)
        assert max(Counter(table.whole).values(), default=1) == 1, "nothing is shown twice"
        hands = [hand for hand in self.hands if hand is not None]
        for hand in hands:
            table.stream.report(hand, StatusReceived("live", stateful=False))
            table.stream.grant(hand, 5)
        table.pass_ms(11_000)
        table.send()
        newest = table.stream.status()["seq_in"]
        assert sum(newest in hand.given for hand in hands) == min(1, len(hands))


@given(st.lists(STEPS, min_size=10, max_size=80))
@settings(max_examples=200, deadline=None)
def test_whatever_happens_order_and_deadlines_hold(steps: list[tuple[str, int, int]]) -> None:
    play = Play()
    for step in steps:
        play.do(*step)
        play.look()
    play.end()


class TestBenchmark:
    """Time is counted there, not measured: the figures are the same everywhere."""

    @pytest.mark.parametrize("name", simulation.CASES)
    def test_the_goals_hold(self, name: str) -> None:
        row = simulation.measure_case(simulation.CASES[name], seconds=6)
        assert row["efficiency"] >= 0.97
        assert row["age_p95"] <= 1.3
        assert row["late"] <= 2
        if name == "two of 40 ms":
            assert row["speed_up"] >= 1.9

    def test_the_program_keeps_the_figures(
        self, tmp_path: Any, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(simulation, "SECONDS", 1)
        assert program.main(["dispatch", "--json", str(tmp_path / "d.json")]) == 0
        kept = json.loads((tmp_path / "d.json").read_text())
        assert set(kept["parts"]["dispatch"]["cases"]) == set(simulation.CASES)
        assert "two workers of 40 ms / one" in capsys.readouterr().out
