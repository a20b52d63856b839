"""What a stranger may cost: each limit, and that others do not feel that somebody reached it."""

import base64
import json
import socket
import struct
import time
import zlib
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from typing import Any

import pytest
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import connect

from dreamrelay.config import RelaySettings
from dreamrelay.errors import LimitError
from dreamrelay.packet import Codec, Packet
from dreamrelay.protocol.native import encode_packet
from dreamrelay.relay.connections import HttpProtocol, Limiting, Sockets
from dreamrelay.relay.limits import Allowance, Bucket, Slots, address_key
from tests.relay.clients import (
    answer,
    ask,
    closed,
    frame,
    native,
    problem,
    raw,
    raw_websocket,
    read_until,
    seed,
)
from tests.relay.strangers import TOKENS, as_stranger, open_relay
from tests.support import RunningRelay, picture, start_relay, until

FIRST, SECOND = "192.0.2.1", "192.0.2.2"


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def tight() -> Iterator[RunningRelay]:
    """A relay with little of everything."""
    with open_relay(
        max_connections=8,
        max_connections_per_address=2,
        max_streams=6,
        max_streams_per_address=2,
        max_messages_per_second=20,
        max_upload_mb=0.1,
        max_header_kb=8,
        max_megapixels=1,
        max_text=50,
        max_message_mb=1,
    ) as relay:
        yield relay


@pytest.fixture
def slow() -> Iterator[RunningRelay]:
    """A relay that is asked faster than it allows by any machine, however busy."""
    with open_relay(max_messages_per_second=1) as relay:
        yield relay


def stranger(relay: RunningRelay, path: str, address: str = FIRST, name: str = "all") -> Any:
    headers = as_stranger(name, address)
    return connect(
        relay.websocket + path, additional_headers=headers, compression=None, close_timeout=0.2
    )


class TestBucket:
    def test_so_many_a_second_after_what_was_saved_up(self) -> None:
        clock = Clock()
        bucket = Bucket(10, clock)
        assert [bucket.take() for _ in range(20)] == [0.0] * 20
        assert bucket.take() == pytest.approx(0.1)
        assert bucket.take() == pytest.approx(0.2)
        clock.now += 0.3
        assert bucket.take() == pytest.approx(0.0)
        clock.now += 1000
        assert sum(bucket.try_take() for _ in range(100)) == 20

    def test_what_was_refused_is_not_counted(self) -> None:
        clock = Clock()
        bucket = Bucket(1, clock)
        assert sum(bucket.try_take() for _ in range(50)) == 2
        clock.now += 1
        assert bucket.try_take()

    def test_no_limit(self) -> None:
        bucket = Bucket(0)
        assert not any(bucket.take() for _ in range(10_000))


class TestAddresses:
    @pytest.mark.parametrize(
        ("host", "key"),
        [
            ("192.0.2.7", "192.0.2.7"),
            ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::"),
            ("2001:db8:1:2::9", "2001:db8:1:2::"),
            ("::ffff:192.0.2.7", "192.0.2.7"),
            ("rubbish", "rubbish"),
            ("", "unknown"),
            ("x" * 9999, "x" * 100),
        ],
    )
    def test_what_is_one_customer(self, host: str, key: str) -> None:
        assert address_key(host) == key

    def test_there_are_not_too_many_accounts(self) -> None:
        slots = Slots(Allowance())
        with slots.taking("held"):
            for number in range(10_000):
                slots.check_request(f"a{number}")
            assert len(slots._accounts) <= 4096
            assert slots.account("held").lasting == 1

    def test_this_machine_is_not_counted(self) -> None:
        slots = Slots(Allowance(connections=100, connections_each=1, messages=1))
        with slots.taking(""), slots.taking(""):
            slots.check("")
        for _ in range(100):
            slots.check_request("")
        throttle = slots.throttle("")
        assert not any(throttle.take() for _ in range(100))

    def test_peers_of_one_address_share_what_four_may(self) -> None:
        clock = Clock()
        slots = Slots(Allowance(messages=10, clock=clock))
        with slots.taking(FIRST):
            peers = [slots.throttle(FIRST) for _ in range(8)]
            free = sum(peer.take() == 0 for _ in range(20) for peer in peers)
            assert free == 4 * 10 * 2  # each of them had the half of what it may alone
            assert slots.throttle(SECOND).take() == 0


class Transport:
    """Of a socket that is not there."""

    def __init__(self, host: str) -> None:
        self.host = host
        self.cut = False

    def get_extra_info(self, name: str) -> object:
        return (self.host, 1) if name == "peername" else self

    def abort(self) -> None:
        self.cut = True


class TestSockets:
    def opened(self, sockets: Sockets, *hosts: str) -> list[Any]:
        made = [Transport(host) for host in hosts]
        for transport in made:
            assert sockets.opened(transport)  # type: ignore[arg-type]
        return made

    def test_the_oldest_of_an_address_that_only_knocks_makes_room(self) -> None:
        sockets = Sockets(Limiting(sockets=80, sockets_each=2))
        _, _, second, third = made = self.opened(sockets, SECOND, FIRST, FIRST, FIRST)
        assert [transport.cut for transport in made] == [False, True, False, False]
        sockets.keep(second)
        sockets.keep(third)
        late = Transport(FIRST)
        assert not sockets.opened(late)  # type: ignore[arg-type]
        for transport in (*made, late, late):
            sockets.closed(transport)
        assert not sockets.open

    def test_in_all_it_is_the_oldest_of_the_address_with_the_most(self) -> None:
        sockets = Sockets(Limiting(sockets=8))
        made = self.opened(sockets, SECOND, FIRST, FIRST, FIRST, "192.0.2.3", "192.0.2.4", SECOND)
        # Strangers leave two places to this machine.
        assert [transport.cut for transport in made] == [False, True, *[False] * 5]
        self.opened(sockets, "127.0.0.1", "127.0.0.1")
        assert len(sockets.open) == 8

    def test_who_may_be_here_makes_no_room(self) -> None:
        sockets = Sockets(Limiting(sockets=4))
        for transport in (made := self.opened(sockets, FIRST, SECOND, "192.0.2.3")):
            sockets.keep(transport)
        assert not sockets.opened(Transport(FIRST))  # type: ignore[arg-type]
        assert not any(transport.cut for transport in made)
        self.opened(sockets, "127.0.0.1")

    def test_who_only_knocks_keeps_nobody_out(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("dreamrelay.relay.app.SPARE_CONNECTIONS", 3)
        with (
            start_relay(RelaySettings(port=0, max_connections=1)) as relay,
            native(relay, "viewer") as viewer,
            ExitStack() as stack,
        ):
            bares = [stack.enter_context(raw(relay)) for _ in range(12)]
            assert answer(relay, "/healthz")[0] == 200
            assert closed(bares[0]) == b""
            viewer.send("ping", id=1)
            assert viewer.text("pong")["id"] == 1


class TestConnections:
    def test_so_many_of_one_address(self, tight: RunningRelay) -> None:
        with (
            stranger(tight, "/streams/a/viewer"),
            stranger(tight, "/"),
        ):
            for path in ("/", "/streams/b/viewer"):
                with pytest.raises(InvalidStatus) as caught:
                    stranger(tight, path)
                assert caught.value.response.status_code == 429
                assert problem(caught.value.response.body)["code"] == "limit"
            assert answer(tight, "/streams/a/mjpeg", **as_stranger("all", FIRST))[0] == 429
            with stranger(tight, "/", SECOND):  # others come in
                pass
        until(lambda: not tight.hub.streams["a"].connections)
        with stranger(tight, "/"):
            pass

    def test_who_is_yet_to_say_its_token_takes_nobodys_place(self, tight: RunningRelay) -> None:
        with ExitStack() as stack:
            for number in range(10):
                stack.enter_context(
                    connect(
                        f"{tight.websocket}/streams/a/viewer?auth=first",
                        additional_headers={"X-Forwarded-For": f"192.0.2.{number}"},
                        close_timeout=0.2,
                    )
                )
            with stranger(tight, "/streams/a/viewer"):
                pass

    def test_a_page_that_lists_streams_is_one(self, tight: RunningRelay) -> None:
        with (
            stranger(tight, "/ws/viewer/listing_1"),
            stranger(tight, "/ws/viewer/listing_2"),
            pytest.raises(InvalidStatus) as caught,
        ):
            stranger(tight, "/ws/viewer/listing_3")
        assert caught.value.response.status_code == 429

    def test_so_many_in_all(self, tight: RunningRelay) -> None:
        with ExitStack() as stack:
            for number in range(8):
                stack.enter_context(stranger(tight, "/streams/a/viewer", f"192.0.2.{number // 2}"))
            with pytest.raises(InvalidStatus) as caught:
                stranger(tight, "/streams/a/viewer", "192.0.2.99")
            assert caught.value.response.status_code == 503


class TestStreams:
    def test_so_many_of_one_address(self, tight: RunningRelay) -> None:
        with stranger(tight, "/streams/a/viewer"), stranger(tight, "/streams/b/viewer"):
            for method, path in (
                ("PATCH", "/streams/c/parameters"),
                ("PUT", "/streams/c/reference"),
            ):
                body = b"{}" if method == "PATCH" else picture()
                status, _, body = answer(tight, path, method, body, **as_stranger("all", FIRST))
                assert status in (400, 409)
                assert "your address has 2 streams" in problem(body)["message"]
            assert "c" not in tight.hub.streams
            body = b"{}"
            path = "/streams/c/parameters"
            assert answer(tight, path, "PATCH", body, **as_stranger("all", SECOND))[0] == 200

    def test_those_that_nobody_is_at_make_room(self, tight: RunningRelay) -> None:
        for name in "abcdef":
            path = f"/streams/{name}/parameters"
            assert answer(tight, path, "PATCH", b"{}", **as_stranger("all", FIRST))[0] == 200
        assert len(tight.hub.streams) == 2


class TestRates:
    def test_a_peer_is_read_no_faster_than_it_may(self, tight: RunningRelay) -> None:
        with (
            stranger(tight, "/streams/a/viewer") as fast,
            stranger(tight, "/streams/a/viewer", SECOND) as other,
        ):
            began = time.monotonic()
            for number in range(60):  # forty saved up, twenty a second
                fast.send(json.dumps({"type": "ping", "id": number}))
            seen: list[int] = []
            while len(seen) < 60:
                fields = json.loads(fast.recv(30))
                seen += [fields["id"]] if fields["type"] == "pong" else []
            assert seen == list(range(60))  # nothing of it is lost
            assert time.monotonic() - began > 0.7
            for number in range(1200):  # a minute's worth
                fast.send(json.dumps({"type": "ping", "id": number}))
            other.send(json.dumps({"type": "ping", "id": "other"}))
            while json.loads(other.recv(30)).get("id") != "other":
                pass  # nobody else waits for it

    def test_so_many_requests(self, slow: RunningRelay) -> None:
        replies = [answer(slow, "/streams", **as_stranger("all", FIRST)) for _ in range(40)]
        assert {status for status, _, _ in replies} == {200, 429}
        _, headers, body = next(reply for reply in replies if reply[0] == 429)
        assert headers["retry-after"] == "1"
        assert problem(body)["code"] == "limit"
        assert answer(slow, "/streams", **as_stranger("all", SECOND))[0] == 200

    def test_strangers_without_a_token_are_counted_too(self, slow: RunningRelay) -> None:
        asked = [answer(slow, "/streams", X_Forwarded_For=FIRST)[0] for _ in range(40)]
        assert set(asked) == {401, 429}

    @pytest.mark.parametrize("opcode", [9, 10])
    def test_who_sends_nothing_but_pings_is_cut_off(self, relay: RunningRelay, opcode: int) -> None:
        began = time.monotonic()
        bare = raw_websocket(relay, "/streams/a/viewer")
        try:
            for _ in range(20):
                bare.sendall(frame(opcode, b"") * 500)
        except ConnectionError:
            pass
        closed(bare)
        bare.close()
        assert time.monotonic() - began < 10  # long before it would be missed for not answering
        until(lambda: not relay.hub.streams["a"].connections)
        with native(relay, "viewer", stream="a") as viewer:
            for _ in range(20):
                assert viewer.websocket.ping().wait(10)


class TestUploads:
    PATH = "/streams/a/parameters"

    def test_one_that_says_it_is_too_large_is_not_read(self, tight: RunningRelay) -> None:
        bare = raw(tight)
        auth = f"Authorization: Bearer {TOKENS['all']}\r\nX-Forwarded-For: {FIRST}\r\n"
        bare.sendall(
            f"PUT /streams/a/reference HTTP/1.1\r\nHost: localhost\r\n{auth}"
            "Content-Length: 99999999\r\n\r\n".encode()
        )
        assert b" 413 " in read_until(bare, b"\r\n")
        bare.close()

    def test_one_that_does_not_say_is_read_so_far(self, tight: RunningRelay) -> None:
        bare = raw(tight)
        auth = f"Authorization: Bearer {TOKENS['all']}\r\nX-Forwarded-For: {FIRST}\r\n"
        bare.sendall(
            f"PUT /streams/a/reference HTTP/1.1\r\nHost: localhost\r\n{auth}"
            "Transfer-Encoding: chunked\r\n\r\n".encode()
        )
        try:
            for _ in range(64):
                bare.sendall(b"8000\r\n" + b"x" * 0x8000 + b"\r\n")
        except ConnectionError:
            pass
        assert b" 413 " in read_until(bare, b"\r\n")
        bare.close()

    def test_a_form_of_many_parts(self, relay: RunningRelay) -> None:
        """A million of them fit, and would take nine seconds in which nothing else goes on."""
        body = b"--x\r\n\r\n\r\n" * 100 + b"--x--\r\n"
        kind = "multipart/form-data; boundary=x"
        status, _, reply = answer(relay, "/api/ip_ref_image", "POST", body, Content_Type=kind)
        assert (status, b"64 parts" in reply) == (422, True)

    def test_one_that_does_not_end(
        self, relay: RunningRelay, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("dreamrelay.relay.guard.UPLOAD_SECONDS", 0.2)
        bare = raw(relay)
        bare.sendall(
            b"PUT /streams/a/reference HTTP/1.1\r\nHost: localhost\r\nContent-Length: 99\r\n\r\nx"
        )
        assert b" 408 " in read_until(bare, b"\r\n")
        bare.close()

    def test_a_good_head_and_a_bad_body(
        self, relay: RunningRelay, caplog: pytest.LogCaptureFixture
    ) -> None:
        for path in ("/streams/a/reference", "/streams/a/parameters", "/nowhere"):
            bare = raw(relay)
            bare.sendall(
                f"PATCH {path} HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked"
                "\r\n\r\nnot a chunk\r\n".encode()
            )
            assert b" 400 " in closed(bare)
            bare.close()
        bare = raw(relay)
        head = "GET /streams/a/mjpeg HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked"
        bare.sendall(head.encode() + b"\r\n\r\n")  # its answer is under way when the body comes
        read_until(bare, b"\r\n\r\n")
        bare.sendall(b"not a chunk\r\n")
        closed(bare)
        bare.close()
        assert answer(relay, "/healthz")[0] == 200
        assert [r.getMessage() for r in caplog.records if r.levelname == "ERROR"] == []

    def test_a_head_that_is_too_large(self, tight: RunningRelay) -> None:
        status, _, _ = answer(tight, "/healthz", X_Long="x" * 7000)
        assert status == 200
        bare = raw(tight)
        bare.sendall(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nX: " + b"x" * 20_000)
        assert b" 400 " in read_until(bare, b"\r\n")
        bare.close()


def bomb(side: int = 60_000) -> bytes:
    """A PNG of 3.6 gigapixels in a few hundred bytes."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        checksum = struct.pack(">I", zlib.crc32(kind + data))
        return struct.pack(">I", len(data)) + kind + data + checksum

    head = struct.pack(">IIBBBBB", side, side, 1, 0, 0, 0, 0)
    rows = zlib.compress(b"\0" * 100_000, 9)
    signature = b"\x89PNG\r\n\x1a\n"
    return signature + chunk(b"IHDR", head) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")


class TestPictures:
    """A decompression bomb is refused by what its first bytes say; the relay decodes nothing."""

    def test_on_the_native_door_whatever_its_header_says(self, relay: RunningRelay) -> None:
        with native(relay, "producer") as producer:
            producer.websocket.send(encode_packet(Packet(bomb(), Codec.PNG, 8, 8, 5), "input"))
            refusal = producer.text("ack")
            assert (refusal["accepted"], refusal["seq"]) == (False, 5)
            assert "60000x60000" in refusal["message"]
            assert producer.publish()["accepted"]

    def test_from_a_worker(self, relay: RunningRelay) -> None:
        with native(relay, "worker") as worker:
            worker.send_picture(bomb(), "output")
            assert "60000x60000" in worker.text("error", "ack")["message"]

    @pytest.mark.parametrize("kind", ["image", "img2img"])
    def test_on_the_seeds_door(self, relay: RunningRelay, kind: str) -> None:
        encoded = base64.b64encode(bomb()).decode()
        name = "data" if kind == "image" else "image"
        with seed(relay) as websocket:
            reply = ask(websocket, type=kind, **{name: encoded})
            assert reply["type"] == "error"
            assert "60000x60000" in reply["message"]

    def test_as_the_picture_to_imitate(self, relay: RunningRelay) -> None:
        status, _, body = answer(relay, "/streams/a/reference", "PUT", bomb())
        assert status == 400
        assert "60000x60000" in problem(body)["message"]


class TestTexts:
    @pytest.mark.parametrize("credit", ["9" * 5000, "99999", "-1", "x"])
    def test_a_number_in_an_address(self, relay: RunningRelay, credit: str) -> None:
        with pytest.raises(InvalidStatus) as caught:
            connect(f"{relay.websocket}/streams/a/viewer?credit={credit}")
        assert caught.value.response.status_code == 400

    @pytest.mark.parametrize("path", ["/ws", "/ws/viewer/listing_1"])
    def test_before_one_has_said_what_one_wants(self, relay: RunningRelay, path: str) -> None:
        with connect(relay.websocket + path, compression=None) as websocket:
            websocket.send('{"type": "ping", "x": "' + "x" * 100_000 + '"}')
            with pytest.raises(ConnectionClosed) as caught:
                websocket.recv(30)
        assert caught.value.rcvd is not None
        assert caught.value.rcvd.code == 1009

    def test_a_prompt_that_is_too_long(self, tight: RunningRelay) -> None:
        with stranger(tight, "/") as websocket:
            reply = ask(websocket, type="prompt_update", prompt="x" * 51)
            assert reply["type"] == "error"
            assert "at most 50" in reply["message"]
            assert ask(websocket, type="prompt_update", prompt="x" * 50)["type"] != "error"
        patch = json.dumps({"prompt": "x" * 500}).encode()
        path = "/streams/a/parameters"
        status, _, body = answer(tight, path, "PATCH", patch, **as_stranger("all", FIRST))
        assert (status, problem(body)["problems"].keys()) == (422, {"prompt"})

    def test_who_may_send_no_pictures_may_send_nothing_large(self, tight: RunningRelay) -> None:
        for path in ("/", "/streams/a/viewer"):
            with stranger(tight, path, name="control") as websocket:
                with suppress(ConnectionClosed):
                    websocket.send("x" * 300_000)
                    while True:
                        websocket.recv(30)
                assert websocket.close_code in (1009, 1006)

    def test_a_message_that_is_too_large(self, tight: RunningRelay) -> None:
        with stranger(tight, "/streams/a/viewer") as websocket:
            with suppress(ConnectionClosed):
                for _ in range(2):
                    websocket.send("x" * 2_000_000)
                while True:
                    websocket.recv(30)
            assert websocket.close_code in (1009, 1006)


@pytest.fixture(scope="module")
def hurried() -> Iterator[RunningRelay]:
    with start_relay(RelaySettings(port=0, request_seconds=0.4)) as relay:
        yield relay


class TestSlow:
    """Half-open sockets and the slow loris: each has its time, and the time does not begin anew."""

    @pytest.mark.parametrize(
        "first", [b"", b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n"], ids=["first", "second"]
    )
    def test_a_head_byte_by_byte(self, hurried: RunningRelay, first: bytes) -> None:
        bare = raw(hurried)
        if first:
            bare.sendall(first)
            read_until(bare, b'"}')
        head = b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nX: " + b"x" * 100
        bare.settimeout(0.05)
        gone = False
        for at in range(len(head)):
            try:
                bare.sendall(head[at : at + 1])
                gone = bare.recv(1) == b""
            except TimeoutError:
                continue
            except ConnectionError:
                gone = True
            if gone:
                break
        assert gone  # long before the head was whole
        bare.close()

    def test_whoever_asks_again_and_again_is_no_loris(self, hurried: RunningRelay) -> None:
        bare = raw(hurried)
        began = time.monotonic()
        while time.monotonic() - began < 0.9:
            bare.sendall(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n")
            assert b"200" in read_until(bare, b'"}')
            time.sleep(0.02)  # as somebody who looks at it now and then
        bare.close()

    def test_a_handshake_that_is_never_finished(self, hurried: RunningRelay) -> None:
        bare = raw(hurried)
        bare.sendall(b"GET / HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Up")
        assert closed(bare) == b""
        bare.close()

    @pytest.mark.parametrize(
        ("query", "headers"),
        [("?x=" + "a" * 9000, ""), ("", "X: " + "a" * 9000 + "\r\n"), ("", "X: a\r\n" * 200)],
        ids=["line", "header", "headers"],
    )
    def test_a_head_that_only_http_could_read(
        self, relay: RunningRelay, query: str, headers: str
    ) -> None:
        """Before there is a WebSocket, its library reads the head again, and is less patient."""
        bare = raw(relay)
        bare.sendall(
            f"GET /streams/a/viewer{query} HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\n"
            "Connection: Upgrade\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n"
            f"Sec-WebSocket-Version: 13\r\n{headers}\r\n".encode()
        )
        assert b" 431 " in closed(bare)  # else this raises a TimeoutError
        bare.close()

    def test_a_body_that_nobody_waits_for(self, hurried: RunningRelay) -> None:
        """It was answered before it had come; each byte of it would prolong the wait for more."""
        bare = raw(hurried)
        bare.sendall(b"POST /healthz HTTP/1.1\r\nHost: localhost\r\nContent-Length: 9999\r\n\r\n")
        assert b" 405 " in read_until(bare, b"\r\n")
        bare.settimeout(0.05)
        gone = False
        for _ in range(1000):
            try:
                bare.sendall(b"x")
                gone = bare.recv(4096) == b""
            except TimeoutError:
                continue
            except ConnectionError:
                gone = True
            if gone:
                break
        assert gone  # long before its end
        bare.close()

    def test_answers_that_nobody_reads(
        self, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Less than what makes a transport ask us to pause."""
        monkeypatch.setattr(HttpProtocol, "pause_writing", lambda _: None)
        with start_relay(RelaySettings(port=0, stall_seconds=0.2)) as relay:
            bare = raw(relay, 2048)
            bare.sendall(b"GET /static/studio.css HTTP/1.1\r\nHost: localhost\r\n\r\n" * 40)
            until(lambda: "has read nothing" in caplog.text)
            bare.close()

    def test_the_kernel_asks_whether_they_are_still_there(self, relay: RunningRelay) -> None:
        with native(relay, "viewer"):
            (peer,) = relay.hub.streams["default"].peers.values()
            transport = peer._websocket.scope["state"]["transport"]  # type: ignore[attr-defined]
            bare = transport.get_extra_info("socket")
            assert bare.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE) != 0


def test_limit_errors_have_their_status() -> None:
    assert (LimitError("x").status, LimitError("x", status=413).status) == (429, 413)
