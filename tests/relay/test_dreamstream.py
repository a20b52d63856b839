"""DreamStream's pages over real sockets, against the real relay."""

import base64
import json
import threading
import time
from contextlib import ExitStack
from itertools import pairwise
from typing import Any

import pytest
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect

from dreamrelay.hub import Stream
from dreamrelay.protocol.dreamstream import PICTURE_LIMIT
from dreamrelay.protocol.messages import Limits, StatusChanged
from dreamrelay.relay import dreamstream
from dreamrelay.relay.dreamstream import FIRST_WORDS, LISTING_MESSAGES, MOST_REPLAYS, Replays
from tests.relay.clients import answer, hear, native, raw_websocket, say, seed, silent
from tests.relay.pages import BroadcastPage, Painter, Somebody, WatchPage, data_url
from tests.support import RunningRelay, mean_colour, picture, until

INVALID = {"error": "Invalid message format"}


def colour_of(url: str) -> tuple[float, float, float]:
    return mean_colour(base64.b64decode(url.partition(",")[2]))


def hear_of(websocket: Any, kind: str) -> dict[str, Any]:
    while True:
        message = hear(websocket)
        if message["type"] == kind:
            return message


class TestPages:
    def test_a_broadcaster_sees_itself_and_a_watcher_too(self, relay: RunningRelay) -> None:
        with (
            Painter(relay),
            BroadcastPage(relay, "alice") as camera,
        ):
            until(lambda: camera.heard)
            with seed(relay, "/ws/viewer/alice") as other:
                say(other, type="check_stream_status", streamId="alice")
                assert hear_of(other, "stream_status")["active"]
            until(lambda: camera.shown, what="the latest frame")
            with WatchPage(relay, "alice") as watcher:
                until(lambda: len(watcher.shown) >= 5, what="pictures on the watch page")
            assert {"processor_info", "pong", "latest_frame"} <= set(camera.types())
            assert "error" not in camera.types(), "any error is shown to people"
            assert colour_of(camera.shown) == colour_of(watcher.shown[-1])

    def test_stop_closes_the_socket_and_the_watcher_hears_the_end(
        self, relay: RunningRelay
    ) -> None:
        with Painter(relay), seed(relay, "/ws/viewer/alice") as viewer:
            first = hear(viewer)
            assert (first["type"], first["active"], first["ended"]) == (
                "stream_status",
                False,
                False,
            )
            with BroadcastPage(relay, "alice"):
                hear_of(viewer, "frame")
            assert hear_of(viewer, "stream_ended")["streamId"] == "alice"
            with seed(relay, "/ws/viewer/alice") as late:
                first = hear(late)
                assert (first["active"], first["ended"]) == (False, True)
                hear_of(late, "style_updated")
                assert silent(late), "no picture of a stream that is over"
            with BroadcastPage(relay, "alice"):
                hear_of(viewer, "frame")  # it is not over for ever

    def test_a_prompt_reaches_the_picture_and_the_viewers(self, relay: RunningRelay) -> None:
        with (
            Painter(relay) as painter,
            seed(relay, "/ws/broadcaster/alice") as camera,
            seed(relay, "/ws/viewer/alice") as viewer,
        ):
            say(camera, type="update_prompt", prompt="blue")
            assert hear_of(camera, "prompt_updated")["prompt"] == "blue"
            say(camera, type="update_strength", strength=0.3)
            assert hear_of(camera, "strength_updated")["strength"] == 0.3
            heard = hear_of(viewer, "style_updated")
            while heard["prompt"] != "blue":
                heard = hear_of(viewer, "style_updated")
            say(camera, type="subscribe_to_processed_frames")
            say(camera, type="frame", frame=data_url())
            frame = hear_of(viewer, "frame")
            assert (frame["style_prompt"], frame["strength"]) == ("blue", 0.3)
            assert abs(frame["timestamp"] / 1000 - time.time()) < 60
            assert colour_of(frame["frame"])[2] > 200
            assert hear_of(camera, "frame") == frame, "made once for all"
            assert painter.patches[-1] == {"prompt": "blue", "strength": 0.3}
            assert relay.hub.streams["default"].values["prompt"] == "white", "theirs alone"

    def test_a_broadcaster_may_send_to_a_stream_that_has_a_worker(
        self, relay: RunningRelay
    ) -> None:
        with Painter(relay, "own") as painter, BroadcastPage(relay, "own") as camera:
            until(lambda: camera.shown)
            assert painter.live
            assert not painter.patches

    def test_the_home_page(self, relay: RunningRelay) -> None:
        with seed(relay, "/ws/viewer/listing_x7") as home:
            assert silent(home)
            say(home, type="list_streams")
            assert hear(home) == {"type": "streams_list", "streams": []}
        with seed(relay, "/ws/broadcaster/bob"), seed(relay, "/ws/viewer/carol"):
            with seed(relay, "/viewer/listing_y") as home:
                home.send(b"\0")
                assert "error" in hear(home)
                say(home, type="list_streams")
                assert hear(home) == {"type": "streams_list", "streams": ["bob"]}
            with seed(relay, "/ws/viewer/listing_z") as chatty:
                for _ in range(LISTING_MESSAGES):
                    say(chatty, type="ping")
                    assert hear(chatty)["type"] == "pong"
                with pytest.raises(ConnectionClosed):
                    chatty.recv(30)
            assert not any("listing" in name for name in relay.hub.streams)

    def test_its_address_may_have_a_slash_too_many(self, relay: RunningRelay) -> None:
        with seed(relay, "/ws//viewer/listing_x") as home:
            say(home, type="list_streams")
            assert hear(home) == {"type": "streams_list", "streams": []}

    @pytest.mark.parametrize("path", ["/broadcaster/alice", "/ws/broadcaster/alice"])
    def test_older_pages_know_no_ws(self, relay: RunningRelay, path: str) -> None:
        with seed(relay, path) as camera, seed(relay, "/viewer/alice") as viewer:
            assert hear(camera)["type"] == "processor_info"
            say(camera, type="start_stream")
            assert hear_of(camera, "stream_created")["streamId"] == "alice"
            say(viewer, type="join_stream", streamId="alice")
            assert hear_of(viewer, "joined_stream")["streamId"] == "alice"

    def test_pages_of_an_older_server_say_their_role(self, relay: RunningRelay) -> None:
        with Painter(relay), seed(relay, "/ws") as camera, seed(relay, "/ws") as viewer:
            say(camera, type="start_stream")
            created = hear(camera)
            assert created["type"] == "stream_created"
            stream = created["streamId"]
            say(viewer, type="join_stream", streamId=stream)
            assert hear(viewer) == {"type": "joined_stream", "streamId": stream}
            say(camera, type="frame", streamId=stream, frame=data_url())
            frame = hear_of(viewer, "frame")
            assert frame["frame"].startswith("data:image")
            assert isinstance(frame["timestamp"], int)
            camera.close()
            assert hear_of(viewer, "stream_ended")["streamId"] == stream

    @pytest.mark.parametrize(
        "message", ["{", "[]", '{"type":"frame"}', '{"type":"join_stream"}', b"\0"]
    )
    def test_who_says_none_is_sent_away(self, relay: RunningRelay, message: str | bytes) -> None:
        with seed(relay, "/ws") as websocket:
            websocket.send(message)
            assert hear(websocket) == {"type": "error", "message": "Invalid message format"}
            with pytest.raises(ConnectionClosed):
                websocket.recv(30)

    @pytest.mark.parametrize("path", ["/ws/director/alice", "/ws/Viewer/alice"])
    def test_another_role_is_let_in_and_sent_away(self, relay: RunningRelay, path: str) -> None:
        with connect(relay.websocket + path) as websocket:
            with pytest.raises(ConnectionClosed):
                websocket.recv(30)
            assert (websocket.close_code, websocket.close_reason) == (1008, "Invalid client type")


class TestProcessors:
    @pytest.mark.parametrize("role", ["broadcaster", "viewer"])
    def test_one_that_there_is_not_is_said_and_nothing_hangs(
        self, relay: RunningRelay, role: str
    ) -> None:
        with Painter(relay), seed(relay, f"/ws/{role}/alice?processor_type=turbo") as peer:
            said = hear_of(peer, "error")
            assert said["message"] == "Invalid processor type: turbo"
            say(peer, type="get_processor_info")
            assert hear_of(peer, "processor_info")["processor_type"] == "lightning"
            if role == "broadcaster":
                say(peer, type="subscribe_to_processed_frames")
                say(peer, type="frame", frame=data_url())
                hear_of(peer, "frame")

    def test_one_that_there_is_holds_for_the_stream(self, relay: RunningRelay) -> None:
        with seed(relay, "/ws/broadcaster/alice?processor_type=standard") as camera:
            assert hear(camera)["processor_type"] == "standard"
            (listed,) = json.loads(relay.get("/streams"))["active_streams"]
            assert listed["processor_type"] == "standard"
            with seed(relay, "/ws/viewer/alice") as viewer:
                assert hear_of(viewer, "style_updated")["processor_type"] == "standard"
                say(camera, type="update_processor", processor_type="lightning")
                assert hear_of(viewer, "processor_updated")["processor_type"] == "lightning"

    def test_a_worker_that_has_profiles_is_told(self, relay: RunningRelay) -> None:
        schema = {"properties": {"profile": {"enum": ["standard", "lightning"]}}}
        with (
            native(relay, "worker", stream="alice", schema=schema, parameters={}),
            seed(relay, "/ws/broadcaster/alice?processor_type=standard") as camera,
        ):
            hear(camera)
            assert relay.hub.streams["alice"].values["profile"] == "standard"

    @pytest.mark.parametrize("stream", ["default", "alice"])  # alice is lent its worker
    def test_a_worker_of_both_processors_is_the_one_that_the_page_asks_for(
        self, relay: RunningRelay, stream: str
    ) -> None:
        schema = {"properties": {"processor": {"enum": ["standard", "lightning"]}}}
        with (
            native(relay, "worker", schema=schema, parameters={"processor": "standard"}),
            seed(relay, f"/ws/broadcaster/{stream}") as camera,
        ):
            assert hear(camera)["processor_type"] == "standard", "nobody asked for another"
            for name in ("lightning", "standard"):
                say(camera, type="update_processor", processor_type=name)
                assert hear_of(camera, "processor_updated")["processor_type"] == name
                assert relay.hub.streams[stream].values["processor"] == name


class TestRest:
    def test_status(self, relay: RunningRelay) -> None:
        fields = json.loads(answer(relay, "/", Accept="application/json")[2])
        assert fields["status"] == "ok"
        assert fields["service"] == "livestream-processor-websocket"

    def test_processors(self, relay: RunningRelay) -> None:
        assert json.loads(relay.get("/processors")) == {
            "available_processors": ["standard", "lightning"],
            "default_processor": "lightning",
        }

    def test_streams_are_listed_while_somebody_is_there(self, relay: RunningRelay) -> None:
        assert json.loads(relay.get("/streams")) == {"streams": [], "active_streams": []}
        with seed(relay, "/ws/broadcaster/alice") as camera, seed(relay, "/ws/viewer/alice"):
            hear(camera)
            say(camera, type="update_strength", strength=0.4)
            hear_of(camera, "strength_updated")
            until(lambda: relay.hub.streams["alice"].status()["viewers"] == 1)
            fields = json.loads(relay.get("/streams"))
            assert fields["active_streams"] == [
                {
                    "id": "alice",
                    "broadcasters": 1,
                    "viewers": 1,
                    "processor_type": "lightning",
                    "strength": 0.4,
                }
            ]
            assert fields["streams"][0]["stream"] == "alice"
        until(lambda: "alice" not in relay.hub.streams, what="the stream to be forgotten")

    def test_what_somebody_has_said_before_is_not_forgotten(self, relay: RunningRelay) -> None:
        body = b'{"prompt":"ink"}'
        assert answer(relay, "/streams/alice/parameters", "PATCH", body)[0] == 200
        with seed(relay, "/ws/broadcaster/alice") as camera:
            hear(camera)
        until(lambda: not relay.hub.streams["alice"].connections)
        assert relay.hub.streams["alice"].values == {"prompt": "ink"}

    def test_a_new_stream_begins_as_theirs_do(self, relay: RunningRelay) -> None:
        with seed(relay, "/ws/broadcaster/alice") as camera:
            hear(camera)
            assert relay.hub.streams["alice"].values == FIRST_WORDS

    def test_and_not_with_what_somebody_has_said_on_another(self, relay: RunningRelay) -> None:
        with Painter(relay), native(relay, "producer") as other:
            other.send("parameters", patch={"prompt": "a secret"})
            until(lambda: relay.hub.streams["default"].values["prompt"] == "a secret")
            with seed(relay, "/ws/viewer/alice") as viewer:
                assert hear_of(viewer, "style_updated")["prompt"] == FIRST_WORDS["prompt"]
                with seed(relay, "/ws/broadcaster/alice") as camera:
                    hear(camera)
                    assert relay.hub.streams["alice"].values["prompt"] == FIRST_WORDS["prompt"]
            assert relay.hub.streams["default"].values["prompt"] == "a secret"


class TestStorm:
    def test_joining_costs_the_stream_no_picture(self, relay: RunningRelay) -> None:
        """The watch page joins 50 to 84 times a second, greeted with the same picture each time."""
        joins = 0
        seen: list[int] = []
        stop = threading.Event()

        def storm() -> None:
            nonlocal joins
            while not stop.is_set():
                raw_websocket(relay, "/ws/viewer/default").close()
                joins += 1

        with (
            native(relay, "worker", credit=50) as worker,
            native(relay, "producer") as producer,
            native(relay, "viewer", "?credit=1000") as viewer,
        ):
            worker.send("status", state="live")
            thread = threading.Thread(target=storm, daemon=True)
            thread.start()
            until(lambda: joins > 10, what="the storm")
            before = joins
            while len(seen) < 40 or joins < before + 80:
                producer.publish()
                taken = worker.packet()
                worker.send_picture(picture("blue"), "output", seq=taken.seq)
                worker.credit()
                seen.append(viewer.packet().seq)
                time.sleep(0.01)  # the rate of a camera
                assert len(seen) < 900, "nobody joins any more"
            stop.set()
            thread.join(20)
            assert seen == list(range(1, len(seen) + 1))
            status = relay.hub.streams["default"].status()
            assert (status["dropped"], status["seq_out"]) == (0, len(seen))

    def test_the_page_that_opens_its_socket_anew_is_not_greeted_for_ever(
        self, relay: RunningRelay, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(dreamstream, "REPLAY_SECONDS", 1000.0)  # on a slow machine as well
        with (
            Painter(relay),
            seed(relay, "/ws/broadcaster/alice") as camera,
            WatchPage(relay, "alice") as page,
        ):
            hear(camera)
            alice = relay.hub.streams["alice"]
            served: set[str] = set()

            def back() -> set[str]:
                return {p.id for p in list(alice.peers.values()) if p.role == "viewer"} - served

            for number in range(3):
                # It is greeted once at most, and then waits each time that it has come back.
                until(lambda: back() and page.joins > len(page.shown))
                served |= back()
                before = len(page.shown)
                say(camera, type="frame", frame=data_url())
                until(lambda: len(page.shown) > before, what=f"picture {number}")  # noqa: B023
            page.closing.wait(0.3)  # where it is greeted each time it comes back 15 times
            assert page.joins <= 5, "a picture each, a greeting, and the one that waits"

    def test_who_comes_and_goes_is_not_told_to_everybody_each_time(self) -> None:
        now = 10**18
        stream = Stream("alice", Limits(), clock_ns=lambda: now)
        watcher, pages = Somebody("viewer"), [Somebody("viewer") for _ in range(80)]
        stream.join(watcher, ("output",))
        before = len(watcher.heard)
        for page in pages:
            now += 10_000_000
            stream.join(page, ("output",))
            stream.leave(page)
        told = [n.status["viewers"] for n in watcher.heard[before:] if isinstance(n, StatusChanged)]
        assert len(told) <= 10
        stream.tick()
        (last,) = [n for n in watcher.heard[-1:] if isinstance(n, StatusChanged)]
        assert last.status["viewers"] == 1

    def test_once_a_second_for_each_address_and_stream(self) -> None:
        now = 0.0
        replays = Replays(lambda: now)
        allowed = [replays.allow("a", "x"), replays.allow("a", "x"), replays.allow("b", "x")]
        allowed += [replays.allow("a", "y")]
        assert allowed == [True, False, True, True]
        now = 1.0
        assert replays.allow("a", "x")

    def test_who_was_greeted_is_remembered_within_bounds(self) -> None:
        now = 0.0
        replays = Replays(lambda: now)
        for number in range(5 * MOST_REPLAYS):
            now += 0.0001
            assert replays.allow(f"{number}", "x")
            assert len(replays._last) <= MOST_REPLAYS


class TestSlowness:
    def test_a_viewer_that_does_not_read_stalls_nobody(self, relay: RunningRelay) -> None:
        stuck = raw_websocket(relay, "/ws/viewer/default", receive_buffer=4096)
        large = picture().ljust(300_000, b"\x5a")
        with (
            native(relay, "worker", credit=50) as worker,
            native(relay, "producer") as producer,
            seed(relay, "/ws/viewer/default", max_size=None) as viewer,
        ):
            say(viewer, type="ping")
            hear_of(viewer, "pong")
            for _ in range(30):
                producer.publish()
                worker.send_picture(large, "output", seq=worker.packet().seq)
                worker.credit()
                assert len(hear_of(viewer, "frame")["frame"]) > 300_000
        stuck.close()

    def test_a_result_too_large_for_the_pages_is_left_out(self, relay: RunningRelay) -> None:
        with (
            native(relay, "worker", credit=9) as worker,
            native(relay, "producer") as producer,
            seed(relay, "/ws/viewer/default", max_size=None) as viewer,
        ):
            say(viewer, type="ping")
            hear_of(viewer, "pong")
            for size in (PICTURE_LIMIT + 1, PICTURE_LIMIT):
                producer.publish()
                data = picture("blue").ljust(size, b"\x5a")
                worker.send_picture(data, "output", seq=worker.packet().seq)
            shown = hear_of(viewer, "frame")["frame"].partition(",")[2]
            assert len(base64.b64decode(shown)) == PICTURE_LIMIT
            assert len(shown) <= 1.9 * 2**20


class TestOddPeers:
    def test_a_frame_that_is_none_costs_its_sender_one_message(self, relay: RunningRelay) -> None:
        with Painter(relay), seed(relay, "/ws/broadcaster/alice") as camera:
            for frame, says in (
                ("", "Empty frame data received"),
                ("data:image/jpeg", "Invalid data URL format"),
                ("x" * 2_044_724, "Frame size too large: 1.95MB, max allowed is 1.9MB"),
            ):
                say(camera, type="frame", frame=frame)
                assert hear_of(camera, "error")["message"] == says
            for message in ("{", "[]", b"\xff\xd8\xff", b""):
                camera.send(message)
            say(camera, type="subscribe_to_processed_frames")
            say(camera, type="frame", frame=data_url())
            heard: list[dict[str, Any]] = []
            while not heard or heard[-1].get("type") != "frame":
                heard.append(hear(camera))
            assert heard[0] == {"type": "error", "message": "Invalid message format"}
            assert [m for m in heard if "type" not in m] == 3 * [INVALID]

    def test_after_the_end_nothing_is_shown(self, relay: RunningRelay) -> None:
        with (
            Painter(relay) as painter,
            seed(relay, "/ws/broadcaster/alice") as camera,
            seed(relay, "/ws/viewer/alice") as viewer,
        ):
            hear_of(viewer, "style_updated")
            say(camera, type="end_stream")
            assert hear_of(camera, "stream_ended_confirmation")["message"]
            assert hear_of(viewer, "stream_ended")
            say(camera, type="frame", frame=data_url())
            hear_of(camera, "frame_skipped")
            say(camera, type="get_latest_frame")
            hear_of(camera, "stream_ended")
            say(camera, type="check_stream_status")
            said = hear_of(camera, "stream_status")
            assert (said["active"], said["ended"]) == (False, True)
            assert silent(viewer, 0.2)
            assert not painter.patches

    def test_a_name_that_no_stream_may_have(self, relay: RunningRelay) -> None:
        with pytest.raises(Exception, match="409"), seed(relay, f"/ws/viewer/{'x' * 65}"):
            pass

    def test_many_at_once(self, relay: RunningRelay) -> None:
        """Two broadcasters on streams of their own, one worker, a crowd of viewers."""
        with Painter(relay), ExitStack() as stack:
            for name in ("alice", "bob"):
                stack.enter_context(BroadcastPage(relay, name))
            pages = [stack.enter_context(WatchPage(relay, n)) for n in ("alice", "bob") * 3]
            until(lambda: all(len(page.shown) > 2 for page in pages), what="pictures for all")
            for page in pages:
                assert all(colour_of(a) == colour_of(b) for a, b in pairwise(page.shown[:3]))
