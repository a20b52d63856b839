"""StreamDiffusion-Web's dialect: three messages are one picture, whatever came before."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dreamrelay.errors import ParameterError
from dreamrelay.packet import Packet
from dreamrelay.protocol.messages import (
    Acknowledged,
    Delivery,
    Event,
    Limits,
    Notice,
    PacketReceived,
    ParametersChanged,
    PatchReceived,
    Refused,
    ReplyDue,
    SchemaChanged,
    StatusChanged,
    Welcome,
)
from dreamrelay.protocol.streamdiffusion_web import (
    EMPTY_PAUSE,
    MAX_WINDOW,
    STALL_NS,
    StreamDiffusionWebDialect,
    full,
    in_use,
    time_out,
)
from tests.support import picture

LIMITS = Limits(pixels=10_000)
NEXT = '{"status":"next_frame"}'
SEND = {"status": "send_frame"}
JPEG = picture(size=(8, 8))
SCHEMA = {
    "properties": {
        "prompt": {"type": "string"},
        "ip_adapter_scale": {"type": "number"},
        "who": {"enum": ["full", "human"]},
    }
}


class Page:
    """The relay's end, and what the page would see of it."""

    def __init__(self, schema: dict[str, Any] | None = SCHEMA) -> None:
        self.ns = 10**18
        self.dialect = StreamDiffusionWebDialect(LIMITS, clock_ns=lambda: self.ns)
        self.greeting = self.told(
            Welcome("u", "producer", "p", 2, LIMITS),
            SchemaChanged(schema),
            ParametersChanged({}, 0),
            live(),
        )

    def told(self, *notices: Notice) -> list[dict[str, Any]]:
        said = [message for notice in notices for message in self.dialect.render(notice)]
        return [json.loads(message) for message in said]

    def says(self, *messages: str | bytes) -> list[Event]:
        return [event for message in messages for event in self.dialect.receive(message)]

    def sends(self, data: bytes = JPEG, **settings: Any) -> list[Event]:
        return self.says(NEXT, json.dumps(settings), data)

    def publishes(self, **settings: Any) -> Packet:
        """A picture that the hub takes; the ack and what it brings are left to the caller."""
        packets = [e.packet for e in self.sends(**settings) if isinstance(e, PacketReceived)]
        (packet,) = packets
        return packet


def live() -> StatusChanged:
    return StatusChanged({"state": "live"})


def words(events: list[Event]) -> list[dict[str, Any]]:
    return [json.loads(event.message) for event in events if isinstance(event, ReplyDue)]


def patches(events: list[Event]) -> list[Any]:
    return [event.patch for event in events if isinstance(event, PatchReceived)]


class TestGreeting:
    def test_in_the_order_of_the_page(self) -> None:
        assert Page().greeting == [
            {"status": "connected", "message": "Connected"},
            {"status": "wait"},
            SEND,
        ]

    def test_what_a_page_hears_that_is_not_served(self) -> None:
        assert json.loads(full()) == {"status": "error", "message": "Server is full"}
        assert json.loads(in_use())["status"] == "error"
        assert json.loads(time_out())["status"] == "timeout"


class TestTransaction:
    def test_three_messages_are_a_picture(self) -> None:
        *asked, taken = Page().sends(prompt="ink", ip_adapter_scale=1)
        assert patches(asked) == [{"prompt": "ink"}, {"ip_adapter_scale": 1}]
        assert isinstance(taken, PacketReceived)
        assert (taken.packet.data, taken.track) == (JPEG, "input")

    def test_settings_that_hold_a_mode_are_settings(self) -> None:
        events = Page().sends(prompt="ink", mode="human")
        assert patches(events) == [{"prompt": "ink"}, {"who": "human"}]
        assert words(events) == []

    def test_only_what_is_new_is_asked_for(self) -> None:
        page = Page()
        assert patches(page.sends(prompt="ink", mode="full")) == [
            {"prompt": "ink"},
            {"who": "full"},
        ]
        assert patches(page.sends(prompt="ink", mode="full")) == []
        assert patches(page.sends(prompt="fog", mode="full")) == [{"prompt": "fog"}]

    def test_settings_that_the_worker_does_not_have_are_left_out(self) -> None:
        assert patches(Page().sends(prompt="ink", sampler="x", width=512)) == [{"prompt": "ink"}]
        assert patches(Page({"properties": 3}).sends(mode="human")) == [{"mode": "human"}]

    def test_before_a_worker_has_said_what_it_can_all_are_kept(self) -> None:
        page = Page(None)
        assert patches(page.sends(prompt="ink", sampler="x")) == [
            {"prompt": "ink"},
            {"sampler": "x"},
        ]
        page.told(SchemaChanged(SCHEMA))
        assert patches(page.sends(prompt="ink", sampler="x")) == []

    def test_an_empty_picture_is_asked_for_again_with_a_pause(self) -> None:
        page = Page()
        for _ in range(20):
            (reply,) = page.sends(b"")
            assert isinstance(reply, ReplyDue)
            assert (json.loads(reply.message), reply.after) == (SEND, EMPTY_PAUSE)
        assert EMPTY_PAUSE >= 0.05

    def test_whoever_lost_its_way_begins_anew(self) -> None:
        page = Page()
        events = page.says(NEXT, NEXT, "{}", NEXT, '{"prompt":"ink"}', JPEG)
        assert patches(events) == [{"prompt": "ink"}]
        assert len(events) == 2

    def test_a_page_that_encodes_aside_may_begin_the_next_before_it_has_the_picture(self) -> None:
        page = Page()
        events = page.says(NEXT, '{"prompt":"a"}', NEXT, '{"prompt":"b"}', JPEG, JPEG)
        assert patches(events) == [{"prompt": "a"}, {"prompt": "b"}]
        assert sum(isinstance(event, PacketReceived) for event in events) == 2
        (said,) = words(page.says(JPEG))
        assert said["status"] == "error", "none is due any more"

    @pytest.mark.parametrize(
        "messages",
        [
            [JPEG],
            ["{"],
            ["[]"],
            ["3"],
            ["{}"],
            [NEXT, "nonsense"],
            [NEXT, "[1]"],
            [NEXT, b""],
            [NEXT, JPEG],
            [NEXT, "{}", "{}"],
            [NEXT, "{}", b"no picture"],
            [NEXT, "{}", picture(size=(200, 200))],
        ],
    )
    def test_out_of_turn_or_malformed_is_an_error_and_not_the_end(
        self, messages: list[str | bytes]
    ) -> None:
        page = Page()
        (said,) = words(page.says(*messages))
        assert said["status"] == "error"
        assert said["message"]
        assert isinstance(page.sends()[-1], PacketReceived)

    @given(
        st.lists(
            st.sampled_from([NEXT, "{}", '{"mode":"human"}', '{"prompt":"a"}', JPEG, b"", "x"])
            | st.text(max_size=20)
            | st.binary(max_size=20),
            max_size=12,
        )
    )
    def test_no_order_of_messages_keeps_the_next_picture_from_coming(
        self, messages: list[str | bytes]
    ) -> None:
        page = Page()
        pictures = 0
        for message in messages:
            events = page.says(message)
            assert len(events) <= 2
            if any(isinstance(e, PacketReceived) for e in events):
                assert message == JPEG
                pictures += 1
        triples = sum(
            first == NEXT and isinstance(second, str) and _is_object(second) and third == JPEG
            for first, second, third in zip(messages, messages[1:], messages[2:], strict=False)
        )
        assert triples <= pictures <= min(messages.count(JPEG), messages.count(NEXT))
        assert isinstance(page.sends()[-1], PacketReceived)


def _is_object(text: str) -> bool:
    return text.startswith("{") and "status" not in text


class TestMode:
    @pytest.mark.parametrize(
        ("mode", "passed_on"), [("full", True), ("human", True), ("any word", False)]
    )
    def test_it_is_echoed_and_passed_on(self, mode: str, passed_on: bool) -> None:
        events = Page().says(json.dumps({"mode": mode}))
        assert words(events) == [{"status": "mode_changed", "mode": mode}]
        assert patches(events) == ([{"who": mode}] if passed_on else [])

    @pytest.mark.parametrize("mode", [None, 3, {"a": 1}, "x" * 65])
    def test_no_mode(self, mode: Any) -> None:
        (said,) = words(Page().says(json.dumps({"mode": mode})))
        assert said["status"] == "error"

    @pytest.mark.parametrize("properties", [{"prompt": {}}, {"mode": {"enum": ["fast", "good"]}}])
    def test_a_worker_without_such_modes_hears_nothing_of_them(
        self, properties: dict[str, Any]
    ) -> None:
        events = Page({"properties": properties}).says('{"mode":"human"}')
        assert patches(events) == []
        assert words(events) == [{"status": "mode_changed", "mode": "human"}]


class TestPace:
    def test_two_are_under_way_and_each_result_asks_for_one(self) -> None:
        page = Page()
        first = page.publishes()
        assert page.told(Acknowledged(0)) == [SEND], "the second is fetched meanwhile"
        second = page.publishes()
        assert page.told(Acknowledged(0)) == [], "no third"
        assert page.told(Delivery(first, "output")) == [SEND]
        page.publishes()
        assert page.told(Acknowledged(0)) == []
        assert page.told(Delivery(second, "output")) == [SEND]

    def test_a_result_that_was_skipped_counts_as_come(self) -> None:
        page = Page()
        page.publishes()
        page.told(Acknowledged(0))
        second = page.publishes()
        page.told(Acknowledged(0))
        assert page.told(Delivery(second, "output")) == [SEND]
        page.publishes()
        assert page.told(Acknowledged(0)) == [SEND], "nothing else is under way"

    def test_what_is_lost_is_asked_for_anew(self) -> None:
        page = Page()
        page.publishes()
        page.told(Acknowledged(0))
        assert page.told(live()) == [], "not at once"
        for _ in range(3):
            page.ns += STALL_NS
            assert page.told(live()) == [SEND]

    def test_a_batch_that_gives_nothing_back_at_first_is_fed(self) -> None:
        page = Page()
        most = 0
        for _ in range(3 * MAX_WINDOW):
            page.ns += STALL_NS
            asked = len(page.told(live()))
            while asked:
                page.publishes()
                asked = len(page.told(Acknowledged(0)))
                most = max(most, len(page.dialect._inflight))
        assert most == MAX_WINDOW

    def test_a_page_is_not_asked_more_often_while_there_is_no_worker(self) -> None:
        page = Page()
        for _ in range(10):
            page.ns += STALL_NS
            page.publishes()
            page.told(Acknowledged(0))
            assert len(page.told(StatusChanged({"state": "no-worker"}))) <= 1
        assert page.dialect._window == 2

    def test_refusals_are_told_and_those_of_settings_do_not_end_the_page(self) -> None:
        """``error`` is the end to the page, whose socket would stay open behind its back."""
        refused = Refused(ParameterError({"strength": "expected at most 1, got 2"}), None)
        assert Page().told(refused, Acknowledged(1, "no")) == [
            {"status": "warning", "message": "strength: expected at most 1, got 2"},
            {"status": "error", "message": "no"},
        ]
