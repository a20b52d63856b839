"""What viewers tell of the pictures that they have shown, and how the worker hands on both ways."""

import json
from typing import Any

import numpy as np
import pytest

from dreamrelay.clock import Offset
from dreamrelay.jobs import Done, Job
from dreamrelay.packet import Codec, Hop, Packet, Stamp
from dreamrelay.protocol.messages import Limits, PicturesShown
from dreamrelay.protocol.native import MAX_SHOWN, NativeDialect, encode_text
from dreamrelay.returning import Returning
from dreamrelay.shown import TELL_NS, Shown

MS = 1_000_000
HOUR = 3600 * 1000 * MS
FRAME = np.zeros((16, 16, 3), np.uint8)


class FakeClock:
    offset: Offset | None = Offset(HOUR, MS)

    @property
    def ahead_ns(self) -> int:
        return 0 if self.offset is None else self.offset.ns


class FakeLink:
    """Knows a relay's clock that is an hour ahead, and keeps what is told."""

    connected = False

    def __init__(self) -> None:
        self.clock = FakeClock()
        self.told: list[dict[str, Any]] = []

    def tell(self, kind: str, **fields: Any) -> None:
        self.told.append(json.loads(encode_text(kind, **fields)))


class Time:
    ns = 5 * TELL_NS

    def __call__(self) -> int:
        return self.ns


def result(captured: int, returned: int | None = None) -> Packet:
    stamps = () if returned is None else (Stamp(Hop.RETURNED, returned),)
    return Packet(b"", Codec.PNG, 1, 1, 1, captured, stamps=stamps)


class TestShown:
    def test_once_a_second_by_the_relays_clock(self) -> None:
        link, time = FakeLink(), Time()
        shown = Shown(link, "bridge", clock_ns=time)  # type: ignore[arg-type]
        shown.add(result(HOUR, HOUR + 50 * MS), 53 * MS, 60 * MS)
        assert link.told == []
        time.ns += TELL_NS
        shown.add(result(HOUR), 53 * MS, 61 * MS)
        (told,) = link.told
        assert told["pictures"] == [[3, 7, 60], [None, 8, 61]]
        assert told["where"] == "bridge"
        (event,) = NativeDialect("viewer", Limits()).receive(json.dumps(told))
        assert isinstance(event, PicturesShown)

    def test_never_more_than_the_relay_takes(self) -> None:
        link = FakeLink()
        shown = Shown(link, "bridge", clock_ns=Time())  # type: ignore[arg-type]
        for _ in range(2 * MAX_SHOWN + 3):
            shown.add(result(HOUR), 0, MS)
        assert [len(told["pictures"]) for told in link.told] == [MAX_SHOWN, MAX_SHOWN]

    def test_nothing_while_nobody_knows_the_relays_clock(self) -> None:
        link, time = FakeLink(), Time()
        link.clock.offset = None
        shown = Shown(link, "bridge", clock_ns=time)  # type: ignore[arg-type]
        time.ns += 2 * TELL_NS
        shown.add(result(0), 0, MS)
        assert link.told == []

    def test_what_is_no_whole_result_does_not_count(self) -> None:
        link, time = FakeLink(), Time()
        shown = Shown(link, "bridge", clock_ns=time)  # type: ignore[arg-type]
        time.ns += 2 * TELL_NS
        shown.add(result(0).but(preview=True), 0, MS)
        shown.add(result(0).but(stand_in=True), 0, MS)
        assert link.told == []


class FakeWindow:
    def __init__(self) -> None:
        self.info: dict[str, Any] = {}
        self.painted = [(4.0, 80.004), (5.0, 81.0)]

    def show(self, frame: object, info: dict[str, Any]) -> None:
        self.info = info

    def seen(self) -> list[tuple[float, float]]:
        seen, self.painted = self.painted, []
        return seen


class TestReturning:
    def test_the_window_is_told_by_our_own_clock(self) -> None:
        """A picture came with the relay's; one from the prompt alone, with ours."""
        window = FakeWindow()
        returning = Returning(FakeLink(), (), window, 80)  # type: ignore[arg-type]
        age = returning.publish(Done(FRAME, Job(FRAME, 7, 2 * HOUR, 1), 0), dict)
        assert window.info["captured_ns"] == HOUR
        assert age > 0
        returning.publish(Done(FRAME, Job(FRAME, 0, 2 * HOUR, 1), 0), dict)
        assert window.info["captured_ns"] == 2 * HOUR

    def test_the_relay_hears_what_was_seen_there(self) -> None:
        link = FakeLink()
        returning = Returning(link, (), FakeWindow(), 80)  # type: ignore[arg-type]
        returning.tell_seen()
        returning.tell_seen()
        (told,) = link.told
        assert told == {
            "type": "shown",
            "where": "window",
            "pictures": [[None, 4, 80], [None, 5, 81]],
        }

    def test_figures_are_the_relays_where_there_is_one(self) -> None:
        returning = Returning(FakeLink(), (), None, 80)  # type: ignore[arg-type]
        assert returning.latency == {}
        returning.hear({"hops": {"infer": [1, 2, 3]}})
        assert returning.latency == {"infer": (1, 2, 3)}

    def test_figures_are_our_own_where_there_is_none(self) -> None:
        returning = Returning(None, (), None, 80)
        job = Job(FRAME, 0, MS, 0, (Stamp(Hop.DECODED, 3 * MS), Stamp(Hop.INFER, 4 * MS)))
        returning.publish(Done(FRAME, job, 0), dict)
        assert returning.latency["decoded"] == pytest.approx((2, 2, 2))
        assert returning.latency["infer"] == pytest.approx((1, 1, 1))
        assert "age" in returning.latency
