"""Native peers over real sockets: credit, stuck and slow viewers, and what a hostile one may do."""

import json
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack

import pytest
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import connect

from dreamrelay.config import RelaySettings
from dreamrelay.packet import Hop
from dreamrelay.protocol.native import encode_packet
from dreamrelay.relay import app
from dreamrelay.relay.websocket import WebSocketPeer
from tests.protocol.samples import PACKETS, PIXEL
from tests.relay.clients import (
    Client,
    Engine,
    answer,
    closed,
    frame,
    native,
    problem,
    raw,
    raw_websocket,
    read_until,
)
from tests.support import RunningRelay, mean_colour, picture, start_relay, until

STALL = 0.5


@pytest.fixture
def impatient() -> Iterator[RunningRelay]:
    """A relay that waits half a second for those who do not read."""
    with start_relay(RelaySettings(port=0, stall_seconds=STALL)) as running:
        yield running


def big(size: int = 300_000) -> bytes:
    return picture(form="PNG").ljust(size, b"\x5a")


class TestWelcome:
    @pytest.mark.parametrize("role", ["producer", "viewer"])
    def test_what_everybody_hears_first(self, relay: RunningRelay, role: str) -> None:
        with native(relay, role) as client:
            welcome = client.texts[0]
            assert (welcome["type"], welcome["role"], welcome["stream"]) == (
                "welcome",
                role,
                "default",
            )
            assert (welcome["credit"] is None) == (role == "viewer")
            assert welcome["max_message_bytes"] == 32 * 1024 * 1024
            kinds = [client.receive() for _ in range(3)]
            assert [k["type"] for k in kinds if isinstance(k, dict)] == [
                "schema",
                "parameters",
                "status",
            ]

    def test_a_worker_is_heard_of_by_all(self, relay: RunningRelay) -> None:
        with native(relay, "viewer") as viewer:
            assert viewer.text("schema")["schema"] is None
            assert viewer.text("status")["state"] == "no-worker"
            with native(relay, "worker") as worker:
                assert viewer.text("schema")["schema"]["properties"]["strength"]["maximum"] == 1
                assert worker.text("parameters")["values"] == {"prompt": "", "strength": 0.5}
                until(lambda: viewer.text("status")["state"] == "loading")
                worker.send("status", state="warming", text="first frames", fraction=0.5)
                until(lambda: viewer.text("status")["text"] == "first frames")
            until(lambda: viewer.text("status")["state"] == "lost")

    def test_compression_is_not_negotiated(self, relay: RunningRelay) -> None:
        with connect(relay.websocket + "/streams/a/viewer", compression="deflate") as websocket:
            assert websocket.response is not None
            assert "Sec-WebSocket-Extensions" not in websocket.response.headers

    def test_no_subprotocol(self, relay: RunningRelay) -> None:
        uri = relay.websocket + "/streams/a/viewer"
        with connect(uri, subprotocols=["x"]) as websocket:  # type: ignore[list-item]
            assert websocket.subprotocol is None


class TestPictures:
    def test_the_whole_way(self, relay: RunningRelay) -> None:
        with (
            native(relay, "viewer", "?track=both") as viewer,
            native(relay, "worker") as worker,
            native(relay, "producer") as producer,
        ):
            ack = producer.publish()
            assert (ack["seq"], ack["accepted"]) == (1, True)
            given = worker.packet()
            assert given.stamps[-1].hop is Hop.RELAYED
            worker.send_picture(picture("blue"), "output", seq=given.seq, revision=1)
            seen = [viewer.packet(), viewer.packet()]
            assert mean_colour(seen[0].data)[0] > 200
            assert mean_colour(seen[1].data)[2] > 200
            assert seen[1].revision == 1
            assert seen[1].stamps[-1].hop is Hop.RETURNED

    def test_nothing_beyond_credit(self, relay: RunningRelay) -> None:
        with (
            native(relay, "viewer", "?track=input&credit=2") as viewer,
            native(relay, "producer") as producer,
        ):
            for _ in range(6):
                producer.publish()
                time.sleep(0.02)
            assert [viewer.packet().seq, viewer.packet().seq][0] == 1
            assert viewer.nothing_for(0.3)
            viewer.credit()
            assert viewer.packet().seq == 6  # the newest, not the next
            assert viewer.nothing_for(0.2)

    def test_credit_is_per_track(self, relay: RunningRelay) -> None:
        with (
            native(relay, "viewer", "?track=both&credit=0") as viewer,
            native(relay, "producer") as producer,
        ):
            producer.publish()
            viewer.credit(track="output")
            assert viewer.nothing_for(0.2)
            viewer.credit(track="input")
            assert viewer.packet().seq == 1

    @pytest.mark.parametrize("query", ["?credit=-1", "?credit=x", "?credit=99999", "?track=sound"])
    def test_an_odd_query_is_denied(self, relay: RunningRelay, query: str) -> None:
        with pytest.raises(InvalidStatus) as caught:
            connect(relay.websocket + "/streams/a/viewer" + query)
        response = caught.value.response
        assert response.status_code == 400
        assert problem(response.body)["code"] == "protocol"

    def test_broken_packets_cost_a_producer_the_packet_only(self, relay: RunningRelay) -> None:
        with native(relay, "producer") as producer:
            future = bytearray(encode_packet(*PACKETS["input"]))
            future[2] = 7
            for bad in (b"", b"garbage", bytes(future)):
                producer.websocket.send(bad)
                assert producer.text("ack")["accepted"] is False
            assert producer.publish()["accepted"]

    def test_too_many_pixels(self) -> None:
        with (
            start_relay(RelaySettings(port=0, max_megapixels=0.001)) as relay,
            native(relay, "producer") as producer,
        ):
            refused = producer.publish(picture(size=(40, 40)))
            assert (refused["accepted"], "1000 pixels" in refused["message"]) == (False, True)
            assert producer.publish(picture(size=(30, 30)))["accepted"]


class TestParameters:
    def test_one_patch_everybody_hears(self, relay: RunningRelay) -> None:
        with (
            native(relay, "worker") as worker,
            native(relay, "viewer") as other,
            native(relay, "viewer", "?name=page") as viewer,
        ):
            for client in (worker, other, viewer):
                client.text("parameters")
            viewer.send("parameters", patch={"prompt": "a fox"}, id="x1", origin="studio")
            told = viewer.text("parameters")
            assert (told["id"], told["origin"], told["changed"]) == ("x1", "studio", ["prompt"])
            for client in (worker, other):
                told = client.text("parameters")
                assert (told["id"], told["values"]["prompt"]) == (None, "a fox")
            viewer.send("parameters", patch={"prompt": "b", "strength": 3}, id="x2")
            refused = viewer.text("error")
            assert (refused["code"], refused["id"]) == ("parameter", "x2")
            assert set(refused["problems"]) == {"strength"}
            other.send("ping", id=1)
            assert other.receive() == other.texts[-1]
            assert other.texts[-1]["type"] in ("pong", "status")

    def test_a_thousand_patches_cut_nobody_off(self, relay: RunningRelay) -> None:
        """Who reads slowly hears how things are in the end, not how each came to be."""
        with native(relay, "worker", credit=0), native(relay, "viewer") as writer:
            slow = raw_websocket(relay, "/streams/default/viewer", 65536)
            stream = relay.hub.streams["default"]
            until(lambda: stream.status()["viewers"] == 2)
            long = "x" * 1900
            for number in range(1500):
                writer.send("parameters", patch={"prompt": f"{number} {long}"})
                if number % 50 == 49:
                    writer.send("ping", id=number)
                    writer.text("pong")
            assert stream.status()["viewers"] == 2
            seen = bytearray()
            while b'"1499 ' not in seen:
                seen += slow.recv(65536)
            assert seen.count(b'"parameters"') < 750
            slow.close()

    def test_values_come_behind_their_schema(self, relay: RunningRelay) -> None:
        with native(relay, "viewer") as viewer, native(relay, "worker") as worker:
            for number in range(50):
                name = f"p{number}"
                schema = {"properties": {name: {"type": "integer"}}}
                worker.send("hello", version=1, schema=schema, parameters={name: number})
            known: set[str] = set()
            while "p49" not in known:
                told = viewer.text("schema", "parameters")
                if told["type"] == "schema":
                    known = set((told["schema"] or {"properties": {}})["properties"])
            assert viewer.text("parameters")["values"] == {"p49": 49}


class TestStuck:
    def test_a_viewer_that_never_reads_costs_nobody_anything(self, relay: RunningRelay) -> None:
        """Order and rate of the others, and what the relay keeps for the stuck one."""
        with (
            native(relay, "viewer", "?track=input&credit=1") as viewer,
            native(relay, "producer") as producer,
        ):
            stuck = [
                raw_websocket(relay, "/streams/default/viewer?track=input&credit=1024", 4096)
                for _ in range(3)
            ]
            stream = relay.hub.streams["default"]
            until(lambda: stream.status()["viewers"] == 4)
            seen = []
            data = big()
            for _ in range(60):
                assert producer.publish(data)["accepted"]
                seen.append(viewer.packet().seq)
                viewer.credit()
            assert seen == sorted(set(seen))
            assert len(seen) == 60
            replaced = [
                s.replaced for s in stream.tracks["input"].subscriptions if s.credit not in (0, 1)
            ]
            assert len(replaced) == 3
            assert min(replaced) > 30  # newest wins: nothing piles up for them
            for bare in stuck:
                bare.close()
            until(lambda: stream.status()["viewers"] == 1)

    def test_it_is_cut_off(self, impatient: RunningRelay) -> None:
        stream = impatient.hub.stream("default")
        with native(impatient, "producer") as producer:
            stuck = raw_websocket(
                impatient, "/streams/default/viewer?track=input&credit=1024", 4096
            )
            until(lambda: stream.status()["viewers"] == 1)
            deadline = time.monotonic() + 20
            while stream.status()["viewers"]:
                assert time.monotonic() < deadline
                producer.publish(big())
                time.sleep(0.01)
            assert producer.publish()["accepted"]
            stuck.close()

    def test_a_slow_one_is_not(self) -> None:
        """It reads a little all the time, so it is only slow."""
        stall = 1.5
        with (
            start_relay(RelaySettings(port=0, stall_seconds=stall)) as relay,
            native(relay, "producer") as producer,
        ):
            slow = raw_websocket(relay, "/streams/default/viewer?track=input&credit=1024", 4096)
            until(lambda: relay.hub.streams["default"].status()["viewers"] == 1)
            end = time.monotonic() + 2 * stall
            while time.monotonic() < end:
                producer.publish(big())
                slow.recv(20_000)
                time.sleep(0.02)
            assert relay.hub.streams["default"].status()["viewers"] == 1
            slow.close()

    def test_a_slow_viewer_with_credit_sees_fresh_pictures(self, relay: RunningRelay) -> None:
        stop = threading.Event()

        def produce() -> None:
            with native(relay, "producer") as producer:
                while not stop.is_set():
                    producer.publish()
                    time.sleep(0.005)

        thread = threading.Thread(target=produce)
        thread.start()
        try:
            with native(relay, "viewer", "?track=input&credit=1") as viewer:
                viewer.packet()
                behind = []
                for _ in range(5):
                    time.sleep(0.1)  # twenty pictures pass by
                    before = relay.hub.streams["default"].status()["seq_in"]
                    viewer.credit()
                    behind.append(before - viewer.packet().seq)
                assert sorted(behind)[2] <= 0
        finally:
            stop.set()
            thread.join(10)

    def test_a_peer_that_floods_pings_and_never_reads(self, impatient: RunningRelay) -> None:
        bare = raw_websocket(impatient, "/streams/default/viewer", 4096)
        bare.settimeout(0.3)
        flood = frame(9, b"x" * 120) * 1000
        try:
            for _ in range(100):
                bare.sendall(flood)
                for peer in list(impatient.hub.streams["default"].peers.values()):
                    assert isinstance(peer, WebSocketPeer)
                    transport = peer._websocket.scope["state"]["transport"]
                    assert transport.get_write_buffer_size() < 1_000_000
        except (TimeoutError, ConnectionError):
            pass
        with native(impatient, "producer") as producer:
            assert producer.publish()["accepted"]
        bare.close()

    def test_a_worker_that_asks_for_more_than_it_reads(self) -> None:
        """It said it had room for a thousand pictures; we have none for them."""
        with (
            start_relay(RelaySettings(port=0, max_message_mb=0.1, stall_seconds=60)) as relay,
            native(relay, "producer") as producer,
        ):
            bare = raw_websocket(relay, "/streams/default/worker", 4096)
            bare.sendall(frame(1, b'{"type":"hello","version":1,"credit":1024}'))
            stream = relay.hub.streams["default"]
            until(lambda: stream.status()["workers"] == 1)
            began = time.monotonic()
            until(lambda: not producer.publish(big(90_000)) or not stream.status()["workers"])
            assert time.monotonic() - began < 45  # long before a stall is one
            bare.close()

    def test_a_worker_that_never_reads(self, impatient: RunningRelay) -> None:
        stream = impatient.hub.stream("default")
        bare = raw_websocket(impatient, "/streams/default/worker", 4096)
        bare.sendall(frame(1, b'{"type":"hello","version":1,"credit":1024}'))
        until(lambda: stream.status()["workers"] == 1)
        with native(impatient, "producer") as producer, native(impatient, "viewer") as viewer:
            until(lambda: not producer.publish(big()) or stream.status()["workers"] == 0)
            until(lambda: viewer.text("status")["state"] == "lost")
        bare.close()


class TestHostile:
    def test_a_message_that_is_too_large(self) -> None:
        with (
            start_relay(RelaySettings(port=0, max_message_mb=0.1)) as relay,
            native(relay, "producer") as good,
        ):
            for size in (200_000, 5_000_000):
                with native(relay, "producer") as bad:
                    try:
                        bad.send_picture(big(size))
                        bad.text("ack")
                    except ConnectionClosed as gone:
                        code = gone.rcvd.code if gone.rcvd else None
                assert code in (1009, None)  # none where the rest of it is still under way
            assert good.publish()["accepted"]

    @pytest.mark.parametrize("opcode", [1, 2])
    def test_in_pieces(self, relay: RunningRelay, opcode: int) -> None:
        bare = raw_websocket(relay, "/streams/default/producer")
        data = encode_packet(*PACKETS["input"]) if opcode == 2 else b'{"type":"ping","id":"pieces"}'
        for at in range(len(data)):
            bare.sendall(frame(opcode if at == 0 else 0, data[at : at + 1], fin=False))
        bare.sendall(frame(0, b""))
        end = b'"type":"ack"' if opcode == 2 else b'"id":"pieces"'
        assert end in read_until(bare, end)
        bare.close()

    def test_in_endless_empty_pieces(self, relay: RunningRelay) -> None:
        bare = raw_websocket(relay, "/streams/default/producer")
        pieces = frame(2, b"DR", fin=False) + frame(0, b"", fin=False) * 30_000
        try:
            bare.sendall(pieces)
        except ConnectionError:
            pass
        closed(bare)  # it is; whether the reason arrives depends on what was still under way
        bare.close()
        until(lambda: not relay.hub.streams["default"].peers)

    @pytest.mark.parametrize(
        "garbage",
        [
            b"\xff" * 200,
            frame(3, b"reserved"),
            frame(1, b"\xff\xfe not utf-8"),
            b"\x81\x05hello",  # not masked
            frame(0, b"nothing to continue"),
            frame(8, b"\x03"),
            frame(9, b"x" * 126),
            b"GET / HTTP/1.1\r\n\r\n",
        ],
    )
    def test_garbage_on_a_websocket(self, relay: RunningRelay, garbage: bytes) -> None:
        bare = raw_websocket(relay, "/streams/default/viewer")
        bare.sendall(garbage)
        closed(bare)
        bare.close()
        assert answer(relay, "/healthz")[0] == 200
        until(lambda: not relay.hub.streams["default"].peers)

    @pytest.mark.parametrize(
        "garbage",
        [
            b"\0\1\2\3\r\n\r\n",
            b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc",  # somebody tries TLS
            b"GET\r\n\r\n",
            b"GET / HTTP/1.1\r\nHost: a\r\nContent-Length: -1\r\n\r\n",
            b"GET / HTTP/9.9\r\n\r\n",
            b"GET / HTTP/1.1\r\n" + b"X: y\r\n" * 20_000 + b"\r\n",
            b"PATCH /streams/a/parameters HTTP/1.1\r\nHost: localhost\r\n"
            b"Transfer-Encoding: chunked\r\n\r\nzz\r\n",
            b"GET /%ff%fe/..%2f..%2fetc HTTP/1.0\r\n\r\n",
            b"GET / HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            b"Sec-WebSocket-Key: short\r\nSec-WebSocket-Version: 13\r\n\r\n",
        ],
    )
    def test_garbage_on_the_port(self, relay: RunningRelay, garbage: bytes) -> None:
        bare = raw(relay)
        try:
            bare.sendall(garbage + b"\r\n\r\n")
            bare.settimeout(2)
            bare.recv(1000)
        except (ConnectionError, TimeoutError):
            pass
        bare.close()
        assert answer(relay, "/healthz")[0] == 200

    def test_who_goes_without_a_word(self, relay: RunningRelay) -> None:
        for role in ("producer", "worker", "viewer"):
            for path in ("/", f"/streams/default/{role}"):
                bare = raw_websocket(relay, path)
                bare.close()
        until(lambda: not relay.hub.streams["default"].connections)
        assert relay.hub.streams["default"].peers == {}
        assert relay.hub.streams["default"].state == "no-worker"

    def test_a_worker_that_says_no_hello_is_told_and_closed(self, relay: RunningRelay) -> None:
        with connect(relay.websocket + "/streams/default/worker") as websocket:
            Client(websocket).text("welcome")
            websocket.send('{"type":"credit","count":1}')
            assert "hello" in json.loads(websocket.recv(30))["message"]
            with pytest.raises(ConnectionClosed) as caught:
                websocket.recv(30)
        assert caught.value.rcvd is not None
        assert caught.value.rcvd.code == 1002
        assert "hello" in caught.value.rcvd.reason

    def test_bad_texts_cost_the_message_only(self, relay: RunningRelay) -> None:
        with native(relay, "viewer") as viewer:
            for bad in ("{", "[]", '{"type":"credit","count":-5}', "[" * 3000):
                viewer.websocket.send(bad)
                assert viewer.text("error")["code"] == "protocol"
            viewer.websocket.send(PIXEL)
            assert "viewer" in viewer.text("error")["message"]
            viewer.send("ping", id=5)
            assert viewer.text("pong")["id"] == 5

    def test_a_worker_with_an_odd_schema_hurts_nobody(self, relay: RunningRelay) -> None:
        odd = {"properties": {"a": {"$ref": "#/properties/a"}, "b": True}}
        with (
            native(relay, "worker", schema=odd, parameters={}) as worker,
            native(relay, "viewer") as viewer,
        ):
            worker.text("schema")
            viewer.send("parameters", patch={"a": 1}, id=1)
            assert set(viewer.text("error")["problems"]) == {"a"}
            viewer.send("parameters", patch={"b": [1]}, id=2)
            assert viewer.text("parameters")["id"] in (None, 2)

    def test_connections_are_counted(self) -> None:
        with start_relay(RelaySettings(port=0, max_connections=2)) as relay:
            with native(relay, "viewer"), native(relay, "producer"):
                with pytest.raises(InvalidStatus) as caught:
                    connect(relay.websocket + "/")
                response = caught.value.response
                assert response.status_code == 503
                assert "limit" in problem(response.body)["message"]
                status, _, body = answer(relay, "/streams/a/mjpeg")
                assert (status, "limit" in problem(body)["message"]) == (503, True)
            until(lambda: not relay.hub.streams["default"].connections)
            with native(relay, "viewer"):
                pass

    def test_streams_are_counted_and_named(self, relay: RunningRelay) -> None:
        for number in range(64):
            answer(relay, f"/streams/s{number}/parameters", "PATCH", b"{}")
        with ExitStack() as stack:
            for number in range(8):  # the others are nobody's, and make room
                stack.enter_context(native(relay, "viewer", stream=f"s{number}"))
            for number in range(56):
                name = f"t{number}"
                bare = raw_websocket(relay, f"/?stream={name}")
                stack.callback(bare.close)
            with pytest.raises(InvalidStatus) as caught:
                connect(f"{relay.websocket}/streams/s64/viewer")
            assert caught.value.response.status_code == 409
            for path in ("/streams/s64/mjpeg", "/streams/s64/parameters"):
                method = "PATCH" if path.endswith("s") else "GET"
                status, _, body = answer(relay, path, method, b"{}")
                assert status == 409
                assert "64 streams" in problem(body)["message"]
        with pytest.raises(InvalidStatus):
            connect(f"{relay.websocket}/streams/a%20b/viewer")

    @pytest.mark.parametrize("path", ["/nowhere", "/streams/a/boss", "/streams/a", "/static/x"])
    def test_no_such_door(self, relay: RunningRelay, path: str) -> None:
        with pytest.raises(InvalidStatus) as caught:
            connect(relay.websocket + path)
        assert caught.value.response.status_code == 404
        assert "expected" in problem(caught.value.response.body)["message"]


class TestIdle:
    @pytest.mark.parametrize("said", [b"", b"GET / HTTP/1.1\r\nHost: loc"])
    def test_who_connects_and_does_not_say_what_for(self, said: bytes) -> None:
        with start_relay(RelaySettings(port=0, request_seconds=0.3)) as relay:
            bare = raw(relay)
            bare.sendall(said)
            assert closed(bare) == b""
            bare.close()

    def test_there_are_not_too_many_of_them(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(app, "SPARE_CONNECTIONS", 5)
        with (
            start_relay(RelaySettings(port=0, max_connections=2)) as relay,
            native(relay, "producer") as producer,
            ExitStack() as stack,
        ):
            idle = [raw(relay) for _ in range(20)]
            for bare in idle:
                stack.callback(bare.close)
            assert closed(idle[-1]) == b""
            assert producer.publish()["accepted"]

    def test_who_has_said_it_is_left_alone(self) -> None:
        with (
            start_relay(RelaySettings(port=0, request_seconds=1)) as relay,
            native(relay, "viewer") as viewer,
        ):
            for _ in range(3):  # it is told how things are each second
                assert viewer.nothing_for(0.5)
            viewer.send("ping", id=1)
            assert viewer.text("pong")["id"] == 1


class TestKeepAlive:
    def test_pings_are_answered(self, relay: RunningRelay) -> None:
        with native(relay, "viewer") as viewer:
            assert viewer.websocket.ping().wait(10)

    def test_who_does_not_answer_pings_is_let_go(self) -> None:
        with start_relay(RelaySettings(port=0, ping_seconds=1)) as relay:
            bare = raw_websocket(relay, "/streams/default/viewer")
            with native(relay, "viewer") as alive:
                assert b"keepalive" in closed(bare)
                alive.send("ping", id=1)
                assert alive.text("pong")["id"] == 1
            bare.close()


def test_a_seeds_engine_and_ours_agree(relay: RunningRelay) -> None:
    with Engine(relay), native(relay, "viewer") as viewer, native(relay, "producer") as producer:
        producer.publish()
        assert mean_colour(viewer.packet().data)[2] > 200
