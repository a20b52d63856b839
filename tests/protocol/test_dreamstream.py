"""DreamStream's dialect, message by message, without a socket."""

import base64
import json
from typing import Any

import pytest

from dreamrelay.errors import ParameterError
from dreamrelay.packet import Packet
from dreamrelay.protocol.dreamstream import (
    PENDING_NS,
    PICTURE_LIMIT,
    PROCESSORS,
    Broadcast,
    BroadcasterDialect,
    Directory,
    DreamStreamDialect,
    ListingDialect,
    Standing,
    ViewerDialect,
    processor_patch,
)
from dreamrelay.protocol.messages import (
    Acknowledged,
    Delivery,
    Left,
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
from tests.support import picture

LIMITS = Limits(pixels=10_000, text=100)
WELCOME = Welcome("alice", "viewer", "p", None, LIMITS)
MS = 1_000_000
NOW_MS = 1_700_000_000_123


class Others(Directory):
    """Two streams, one of them over."""

    def active(self) -> list[str]:
        return ["alice", "bob"]

    def standing(self, stream: str) -> Standing | None:
        known = {"bob": Standing(True, False), "old": Standing(False, True)}
        return known.get(stream)


class Clock:
    def __init__(self) -> None:
        self.ns = NOW_MS * MS

    def __call__(self) -> int:
        return self.ns


class Talk:
    """A dialect and what it says, read as a page reads it."""

    def __init__(self, kind: type[DreamStreamDialect], **options: Any) -> None:
        self.clock = Clock()
        self.broadcast = options.pop("broadcast", None) or Broadcast("alice")
        self.dialect = kind(self.broadcast, Others(), LIMITS, clock_ns=self.clock, **options)

    def events(self, **message: Any) -> list[Any]:
        return list(self.dialect.receive(json.dumps(message)))

    def replies(self, **message: Any) -> list[dict[str, Any]]:
        events = self.events(**message)
        return [json.loads(e.message) for e in events if isinstance(e, ReplyDue)]

    def reply(self, **message: Any) -> dict[str, Any]:
        (reply,) = self.replies(**message)
        assert isinstance(reply, dict)
        return reply

    def told(self, *notices: Notice) -> list[dict[str, Any]]:
        said = [message for notice in notices for message in self.dialect.render(notice)]
        return [json.loads(message) for message in said]

    def ask(self, **message: Any) -> PatchReceived:
        (event,) = self.events(**message)
        assert isinstance(event, PatchReceived)
        return event

    def frame(self, colour: str = "red", **fields: Any) -> list[Any]:
        return self.events(type="frame", frame=url(picture(colour)), **fields)


def url(data: bytes) -> str:
    return "data:image/jpeg;base64," + base64.b64encode(data).decode()


def status(producers: int = 1, seq_in: int = 0, state: str = "live", text: str = "") -> Notice:
    fields = {"producers": producers, "seq_in": seq_in, "state": state, "text": text}
    return StatusChanged(fields)


def values(**changed: Any) -> ParametersChanged:
    return ParametersChanged({"prompt": "a fox", "strength": 0.5, **changed}, 1)


def schema(**properties: Any) -> SchemaChanged:
    return SchemaChanged({"type": "object", "properties": properties})


@pytest.fixture
def broadcaster() -> Talk:
    return Talk(BroadcasterDialect)


@pytest.fixture
def viewer() -> Talk:
    """One that is greeted, on a stream that somebody broadcasts on."""
    talk = Talk(ViewerDialect)
    talk.told(WELCOME, schema(), values(), status())
    return talk


class TestGreeting:
    def test_a_broadcaster_hears_its_processor_first(self) -> None:
        (first,) = Talk(BroadcasterDialect).told(WELCOME)
        assert (first["type"], first["processor_type"]) == ("processor_info", "lightning")
        assert first["message"]

    def test_a_viewer_of_an_active_stream_hears_the_prompt(self) -> None:
        said = Talk(ViewerDialect).told(WELCOME, schema(), values(), status())
        assert said == [{"type": "style_updated", "prompt": "a fox", "processor_type": "lightning"}]

    @pytest.mark.parametrize(("seq_in", "ended"), [(0, False), (7, True)])
    def test_a_viewer_of_an_inactive_stream_hears_that_first(
        self, seq_in: int, ended: bool
    ) -> None:
        first, second = Talk(ViewerDialect).told(WELCOME, schema(), values(), status(0, seq_in))
        assert (first["type"], first["active"], first["ended"]) == ("stream_status", False, ended)
        assert second["type"] == "style_updated"

    def test_no_prompt_no_word_about_it(self) -> None:
        notices = (WELCOME, schema(), ParametersChanged({}, 0), status())
        assert Talk(ViewerDialect).told(*notices) == []

    @pytest.mark.parametrize("kind", [BroadcasterDialect, ViewerDialect])
    def test_who_came_with_a_wrong_word_is_told(self, kind: type[DreamStreamDialect]) -> None:
        said = Talk(kind, problem="Invalid processor type: x").told(WELCOME)
        assert said[-1] == {"type": "error", "message": "Invalid processor type: x"}

    def test_the_page_that_lists_streams_hears_nothing_first(self) -> None:
        talk = Talk(ListingDialect)
        assert talk.told(WELCOME) == []
        assert talk.reply(type="list_streams") == {
            "type": "streams_list",
            "streams": ["alice", "bob"],
        }


class TestFrames:
    @pytest.mark.parametrize("prefix", ["", "data:image/jpeg;base64,", "data:,"])
    def test_base64_and_data_urls_come_in(self, broadcaster: Talk, prefix: str) -> None:
        data = picture()
        frame = prefix + base64.b64encode(data).decode()
        fields = {"streamId": "alice", "frameNumber": 1, "requiresProcessing": True}
        (event,) = broadcaster.events(type="frame", frame=frame, **fields)
        assert isinstance(event, PacketReceived)
        assert (event.packet.data, event.track) == (data, "input")

    def test_base64_may_be_written_in_lines(self, broadcaster: Talk) -> None:
        data = picture()
        frame = base64.encodebytes(data).decode().replace("\n", "\r\n")
        (event,) = broadcaster.events(type="frame", frame=frame)
        assert event.packet.data == data

    @pytest.mark.parametrize(
        ("frame", "says"),
        [
            (None, "Empty frame data received"),
            ("", "Empty frame data received"),
            (17, "Empty frame data received"),
            ("data:image/jpeg", "Invalid data URL format"),
            ("x" * 2_044_724, "Frame size too large: 1.95MB, max allowed is 1.9MB"),
            ("no base64!", None),
            (base64.b64encode(b"no picture").decode(), None),
            (url(picture(size=(200, 200))), None),
        ],
    )
    def test_what_is_no_frame(self, broadcaster: Talk, frame: Any, says: str | None) -> None:
        reply = broadcaster.reply(type="frame", frame=frame)
        assert reply["type"] == "error"
        assert reply["message"] == (says or reply["message"])
        assert isinstance(broadcaster.frame()[0], PacketReceived), "the next one is fine"

    def test_one_in_work_and_the_next_is_told_so(self, broadcaster: Talk) -> None:
        broadcaster.told(status())
        (first,) = broadcaster.frame()
        taken, skipped = broadcaster.frame()
        assert isinstance(taken, PacketReceived)
        assert json.loads(skipped.message)["type"] == "frame_skipped"
        broadcaster.told(Delivery(taken.packet, "output"))
        assert len(broadcaster.frame()) == 1, "the newest came back: none is in work"
        assert first.packet.captured_ns < taken.packet.captured_ns

    def test_a_frame_that_never_comes_back_is_not_in_work_for_ever(self, broadcaster: Talk) -> None:
        broadcaster.frame()
        broadcaster.clock.ns += PENDING_NS + 1
        assert len(broadcaster.frame()) == 1

    def test_without_a_worker_it_says_so(self, broadcaster: Talk) -> None:
        broadcaster.told(status(state="no-worker"))
        broadcaster.frame()
        assert "no-worker" in json.loads(broadcaster.frame()[1].message)["message"]

    def test_another_broadcaster_has_the_stream(self, broadcaster: Talk) -> None:
        assert broadcaster.told(Acknowledged(1)) == []
        assert broadcaster.told(Acknowledged(1, on_air=False))[0]["type"] == "frame_skipped"
        refused = broadcaster.told(Acknowledged(1, "no"))
        assert refused == [{"type": "error", "message": "no"}]

    def test_a_viewer_sees_a_result_as_the_page_expects_it(self, viewer: Talk) -> None:
        result = Packet.of(picture("blue", form="PNG"))
        (message,) = viewer.told(Delivery(result, "output"))
        data = message.pop("frame").removeprefix("data:image/png;base64,")
        assert base64.b64decode(data) == result.data
        assert message == {
            "type": "frame",
            "streamId": "alice",
            "timestamp": NOW_MS,
            "is_original": False,
            "processor_type": "lightning",
            "processed": True,
            "style_prompt": "a fox",
            "strength": 0.5,
        }

    def test_it_is_written_once_for_all_viewers(self, viewer: Talk) -> None:
        result = Packet.of(picture("blue"))
        other = Talk(ViewerDialect)
        other.told(WELCOME, values(), status())
        (first,) = viewer.dialect.render(Delivery(result, "output"))
        (second,) = other.dialect.render(Delivery(result, "output"))
        assert first is second

    def test_no_frame_of_the_camera_side_of_an_ended_stream_or_too_large(
        self, viewer: Talk
    ) -> None:
        result = Packet.of(picture())
        assert viewer.told(Delivery(result, "input")) == []
        large = Packet(b"x" * (PICTURE_LIMIT + 1), result.codec, 1, 1)
        assert viewer.told(Delivery(large, "output")) == []
        assert len(viewer.told(Delivery(result, "output"))) == 1
        viewer.told(status(0, 1))
        assert viewer.told(Delivery(Packet.of(picture()), "output")) == []

    def test_who_was_greeted_a_moment_ago_waits_for_the_next(self) -> None:
        old, new = Packet.of(picture()), Packet.of(picture())
        talk = Talk(ViewerDialect, seen=old)
        talk.told(WELCOME, values(), status())
        assert talk.told(Delivery(old, "output")) == []
        assert len(talk.told(Delivery(new, "output"))) == 1


class TestLatest:
    def test_none_yet(self, broadcaster: Talk) -> None:
        reply = broadcaster.reply(type="get_latest_frame")
        assert (reply["type"], reply["frame"]) == ("latest_frame", None)
        assert reply["message"]

    def test_the_newest(self, broadcaster: Talk) -> None:
        for colour in ("red", "blue"):
            packet = Packet.of(picture(colour))
            assert broadcaster.told(Delivery(packet, "output")) == [], "nothing unasked"
        for _ in range(2):
            reply = broadcaster.reply(type="get_latest_frame")
            assert reply == {"type": "latest_frame", "frame": url(picture("blue"))}

    def test_subscribing_twice_is_subscribing(self, broadcaster: Talk) -> None:
        result = Packet.of(picture())
        for _ in range(2):
            reply = broadcaster.reply(type="subscribe_to_processed_frames")
            assert reply["type"] == "subscription_confirmed"
        (frame,) = broadcaster.told(Delivery(result, "output"))
        assert (frame["type"], frame["processed"]) == ("frame", True)
        reply = broadcaster.reply(type="unsubscribe_from_processed_frames")
        assert reply["type"] == "unsubscription_confirmed"
        assert broadcaster.told(Delivery(result, "output")) == []


class TestChanges:
    @pytest.mark.parametrize(
        ("asked", "patch", "confirmed"),
        [
            (
                {"type": "update_prompt", "prompt": "ink"},
                {"prompt": "ink"},
                {"type": "prompt_updated", "prompt": "ink"},
            ),
            (
                {"type": "update_negative_prompt", "negative_prompt": ""},
                {"negative_prompt": ""},
                {"type": "negative_prompt_updated", "negative_prompt": ""},
            ),
            (
                {"type": "update_strength", "strength": "0.7"},
                {"strength": 0.7},
                {"type": "strength_updated", "strength": 0.7},
            ),
            (
                {"type": "update_strength", "strength": 1},
                {"strength": 1.0},
                {"type": "strength_updated", "strength": 1.0},
            ),
        ],
    )
    def test_the_broadcaster_asks_and_is_answered(
        self,
        broadcaster: Talk,
        asked: dict[str, Any],
        patch: dict[str, Any],
        confirmed: dict[str, Any],
    ) -> None:
        event = broadcaster.ask(**asked)
        assert event.patch == patch
        done = ParametersChanged(patch, 2, tuple(patch), "x", event.id)
        assert broadcaster.told(done) == [confirmed]
        refused = Refused(ParameterError({"prompt": "no"}), event.id)
        assert broadcaster.told(refused) == [{"type": "error", "message": "prompt: no"}]

    @pytest.mark.parametrize("prompt", ["", "  ", None, 7])
    def test_no_prompt(self, broadcaster: Talk, prompt: Any) -> None:
        reply = broadcaster.reply(type="update_prompt", prompt=prompt)
        assert reply == {"type": "error", "message": "Empty prompt received"}

    @pytest.mark.parametrize("strength", [0, 0.05, 1.01, "much", None, [], "nan", "inf", "1e999"])
    def test_no_strength(self, broadcaster: Talk, strength: Any) -> None:
        reply = broadcaster.reply(type="update_strength", strength=strength)
        assert reply["message"].startswith("Invalid strength value: ")

    @pytest.mark.parametrize(
        "message",
        [
            {"type": "update_prompt", "prompt": "x" * 101},
            {"type": "update_negative_prompt", "negative_prompt": "x" * 101},
            {"type": "update_negative_prompt", "negative_prompt": 7},
        ],
    )
    def test_text_is_bounded(self, broadcaster: Talk, message: dict[str, Any]) -> None:
        assert broadcaster.reply(**message)["type"] == "error"

    def test_viewers_hear_what_changed_whoever_changed_it(self, viewer: Talk) -> None:
        said = viewer.told(values(prompt="ink"), values(prompt="ink", strength=0.7))
        assert said == [
            {"type": "style_updated", "prompt": "ink", "processor_type": "lightning"},
            {"type": "strength_updated", "strength": 0.7},
        ]
        said = viewer.told(values(prompt="ink", strength=0.7, negative_prompt="fog", seed=3))
        assert said == [{"type": "negative_prompt_updated", "negative_prompt": "fog"}]

    def test_the_prompt_is_told_to_who_asks(self, viewer: Talk) -> None:
        reply = viewer.reply(type="get_style_prompt", streamId="alice")
        assert (reply["type"], reply["prompt"]) == ("style_updated", "a fox")
        viewer.told(ParametersChanged({}, 2))
        assert viewer.replies(type="get_style_prompt") == []


class TestProcessors:
    def test_a_worker_that_knows_none_leaves_it_remembered(self, broadcaster: Talk) -> None:
        viewer = Talk(ViewerDialect, broadcast=broadcaster.broadcast)
        viewer.told(WELCOME, values(), status())
        reply = broadcaster.reply(type="update_processor", processor_type="standard")
        assert reply == {"type": "processor_updated", "processor_type": "standard"}
        assert viewer.told(status()) == [reply]
        assert viewer.told(status()) == []
        assert viewer.reply(type="get_processor_info") == {
            "type": "processor_info",
            "processor_type": "standard",
        }

    def test_a_worker_that_has_profiles_is_asked(self, broadcaster: Talk) -> None:
        broadcaster.told(schema(profile={"enum": ["standard", "sketch"]}))
        event = broadcaster.ask(type="update_processor", processor_type="sketch")
        assert event.patch == {"profile": "sketch"}
        assert broadcaster.broadcast.processor == "lightning", "not before it holds"
        (reply,) = broadcaster.told(ParametersChanged(event.patch, 1, ("profile",), "x", event.id))
        assert reply == {"type": "processor_updated", "processor_type": "sketch"}
        assert broadcaster.broadcast.processor == "sketch"

    def test_what_another_door_has_chosen_is_told_too(self, viewer: Talk) -> None:
        viewer.told(schema(processor={"enum": list(PROCESSORS)}))
        (said,) = viewer.told(values(processor="standard"), status())
        assert said == {"type": "processor_updated", "processor_type": "standard"}
        assert viewer.reply(type="get_processor_info")["processor_type"] == "standard"
        for odd in (None, 3, ["standard"], ""):
            viewer.told(values(processor=odd))
            assert viewer.broadcast.processor == "standard"

    @pytest.mark.parametrize("processor", ["turbo", None, 3, {}, "x" * 99])
    def test_one_that_there_is_not(self, broadcaster: Talk, processor: Any) -> None:
        reply = broadcaster.reply(type="update_processor", processor_type=processor)
        assert reply["message"] == f"Invalid processor type: {str(processor)[:40]}"
        assert broadcaster.broadcast.processor == "lightning"

    @pytest.mark.parametrize(
        ("rules", "patch"),
        [
            (None, {}),
            ({}, {}),
            ({"properties": 3}, {}),
            ({"properties": {"profile": 3}}, {}),
            ({"properties": {"profile": {"enum": 3}}}, {}),
            ({"properties": {"profile": {"enum": ["standard"]}}}, {"profile": "standard"}),
            ({"properties": {"processor": {"enum": ["standard"]}}}, {"processor": "standard"}),
            (
                {"properties": {"processor_type": {"enum": ["standard"]}}},
                {"processor_type": "standard"},
            ),
        ],
    )
    def test_what_a_schema_makes_of_it(self, rules: Any, patch: dict[str, str]) -> None:
        assert processor_patch(rules, "standard") == patch


class TestLife:
    def test_the_end_as_a_viewer_hears_it(self, viewer: Talk) -> None:
        said = viewer.told(status(0, 5), status(0, 5))
        assert said == [
            {"type": "stream_ended", "streamId": "alice", "message": "The stream has ended"}
        ]
        (again,) = viewer.told(status(1, 5))
        assert (again["type"], again["active"], again["ended"]) == ("stream_status", True, False)

    def test_the_broadcaster_ends_it(self, broadcaster: Talk) -> None:
        broadcaster.told(Delivery(Packet.of(picture()), "output"))
        confirmed, left = broadcaster.events(type="end_stream")
        assert json.loads(confirmed.message)["type"] == "stream_ended_confirmation"
        assert left == Left()
        assert broadcaster.reply(type="get_latest_frame")["type"] == "stream_ended"
        (event,) = broadcaster.frame()
        assert json.loads(event.message)["type"] == "frame_skipped", "nothing of it is shown"

    @pytest.mark.parametrize("stream", ["alice", "bob", None])
    def test_who_has_ended_it_is_told_so_unless_another_broadcasts(
        self, stream: str | None
    ) -> None:
        talk = Talk(BroadcasterDialect, broadcast=Broadcast(stream or "nobody", begun=True))
        talk.told(status(1, 5))
        talk.events(type="end_stream")
        reply = talk.reply(type="check_stream_status")
        on_air = stream == "bob"
        assert (reply["active"], reply["ended"]) == (on_air, not on_air)

    def test_a_stream_has_ended_also_if_its_broadcaster_sent_nothing(self) -> None:
        for begun in (False, True):
            talk = Talk(ViewerDialect, broadcast=Broadcast("alice", begun=begun))
            talk.told(WELCOME, status(0, 0))
            assert talk.reply(type="check_stream_status")["ended"] is begun

    def test_a_failure_is_told_to_viewers_once(self, viewer: Talk) -> None:
        broken = status(text="out of memory")
        (said,) = viewer.told(broken, broken)
        assert said == {
            "type": "error",
            "message": "Frame processing failed, please try again",
            "details": "out of memory",
        }
        assert viewer.told(status(), status(state="loading", text="unet")) == []
        assert len(viewer.told(broken)) == 1

    @pytest.mark.parametrize(
        ("stream", "active", "ended"),
        [
            (None, True, False),
            ("alice", True, False),
            ("bob", True, False),
            ("old", False, True),
            ("nobody", False, False),
        ],
    )
    @pytest.mark.parametrize("kind", [BroadcasterDialect, ViewerDialect])
    def test_check_stream_status(
        self, kind: type[DreamStreamDialect], stream: str | None, active: bool, ended: bool
    ) -> None:
        talk = Talk(kind)
        talk.told(status())
        reply = talk.reply(type="check_stream_status", streamId=stream)
        assert reply.pop("message")
        assert reply == {
            "type": "stream_status",
            "streamId": stream or "alice",
            "active": active,
            "ended": ended,
        }

    @pytest.mark.parametrize("stream", [7, ["x"], "x" * 65])
    def test_an_odd_name_of_a_stream(self, viewer: Talk, stream: Any) -> None:
        assert viewer.reply(type="check_stream_status", streamId=stream)["type"] == "error"


class TestOddMessages:
    @pytest.mark.parametrize("message", ["{}", '{"frame":"x"}', "[]", "3", "null"])
    def test_no_type(self, viewer: Talk, message: str) -> None:
        (event,) = viewer.dialect.receive(message)
        assert isinstance(event, ReplyDue)
        assert json.loads(event.message) == {"error": "Invalid message format"}

    @pytest.mark.parametrize("message", ["{", "", b"\xff\xd8", b""])
    def test_no_json(self, viewer: Talk, message: str | bytes) -> None:
        (event,) = viewer.dialect.receive(message)
        assert isinstance(event, ReplyDue)
        assert "Invalid message format" in event.message

    @pytest.mark.parametrize("kind", ["get_server_info", "", 7, ["frame"], {"a": 1}])
    def test_unknown_types_are_met_with_silence(self, viewer: Talk, kind: Any) -> None:
        assert viewer.events(type=kind) == []

    def test_so_are_those_of_the_other_role(self, viewer: Talk, broadcaster: Talk) -> None:
        assert viewer.frame() == []
        for kind in ("update_prompt", "end_stream", "get_latest_frame", "start_stream"):
            assert viewer.events(type=kind, prompt="x") == []
        for kind in ("get_style_prompt", "list_streams", "join_stream"):
            assert broadcaster.events(type=kind) == []

    def test_ping(self, viewer: Talk, broadcaster: Talk) -> None:
        assert viewer.reply(type="ping") == {"type": "pong"} == broadcaster.reply(type="ping")

    def test_words_of_the_older_server(self, viewer: Talk, broadcaster: Talk) -> None:
        assert broadcaster.reply(type="start_stream", streamId="x") == {
            "type": "stream_created",
            "streamId": "alice",
        }
        assert viewer.reply(type="join_stream", streamId="alice") == {
            "type": "joined_stream",
            "streamId": "alice",
        }
