"""One contract for both ways between a socket and a peer: the short one, and ASGI's."""

import asyncio
import json
import random
import socket
import ssl
import struct
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest
from websockets.asyncio.client import connect as connect_tls
from websockets.sync.client import connect

from dreamrelay.config import RelaySettings
from dreamrelay.errors import ConfigError
from dreamrelay.packet import Packet
from dreamrelay.protocol.native import decode_packet, encode_packet, encode_text
from dreamrelay.relay import direct, fanout, lines
from dreamrelay.relay.connections import WebSocketProtocol
from dreamrelay.relay.direct import DirectProtocol
from dreamrelay.relay.websocket import WebSocketPeer
from tests.relay.clients import Client, closed, frame, native, raw_websocket
from tests.relay.strangers import as_stranger, open_relay
from tests.support import RunningRelay, picture, start_relay, until

WAYS = ("direct", "stock")


@pytest.fixture(scope="module")
def relays() -> Iterator[dict[str, RunningRelay]]:
    with ExitStack() as stack:
        yield {
            way: stack.enter_context(start_relay(RelaySettings(port=0, fanout=way))) for way in WAYS
        }


@pytest.fixture(params=WAYS)
def way(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def relay(way: str, relays: dict[str, RunningRelay]) -> RunningRelay:
    relays[way].hub.streams = {}
    return relays[way]


def peers(relay: RunningRelay, stream: str = "default") -> list[WebSocketPeer]:
    found = relay.hub.find(stream)
    here = tuple(found.peers.values()) if found else ()
    return [peer for peer in here if isinstance(peer, WebSocketPeer)]


def by_line(peer: WebSocketPeer) -> bool:
    return peer._line is not None


@contextmanager
def bare(relay: RunningRelay, path: str, buffer: int | None = None) -> Iterator[socket.socket]:
    """A WebSocket without a library."""
    opened = raw_websocket(relay, path, buffer)
    try:
        yield opened
    finally:
        opened.close()


def read_exactly(opened: socket.socket, size: int) -> bytes:
    data = b""
    while len(data) < size:
        more = opened.recv(size - len(data))
        if not more:
            raise ConnectionError(f"closed {size - len(data)} bytes too early")
        data += more
    return data


def read_frame(opened: socket.socket) -> tuple[int, bytes]:
    """The first byte of a frame, and what is in it."""
    first, size = read_exactly(opened, 2)
    assert size < 128, "a server masks nothing"
    if size == 126:
        (size,) = struct.unpack("!H", read_exactly(opened, 2))
    elif size == 127:
        (size,) = struct.unpack("!Q", read_exactly(opened, 8))
    return first, read_exactly(opened, size)


def hear(opened: socket.socket, *kinds: str) -> dict[str, Any]:
    """The next text of one of these types."""
    while True:
        first, data = read_frame(opened)
        if first == 0x81 and (fields := json.loads(data))["type"] in kinds:
            return dict(fields)


def ping(id_: object = 1) -> bytes:
    return json.dumps({"type": "ping", "id": id_}).encode()


class TestWhichWay:
    def test_each_relay_goes_the_way_it_was_told(self, way: str, relay: RunningRelay) -> None:
        with native(relay, "viewer"):
            (peer,) = until(lambda: peers(relay))
            until(lambda: by_line(peer) == (way == "direct"))

    def test_auto_is_the_short_way(self) -> None:
        assert fanout.trouble() == ""
        assert fanout.websocket_protocol("auto") is DirectProtocol
        assert fanout.websocket_protocol("stock") is WebSocketProtocol

    @pytest.mark.parametrize(
        ("where", "name", "broken"),
        [
            (fanout, "frame", lambda message: b"?"),
            (DirectProtocol, "attach", lambda self, receiver: False),
            (DirectProtocol, "can_send", lambda self: True),
            (DirectProtocol, "buffer_updated", lambda self, nbytes: None),
            (direct, "apply_mask", lambda data, mask: bytes(data)),
            (WebSocketProtocol, "connection_made", lambda self, transport: None),
        ],
        ids=["frame", "attach", "can_send", "buffer_updated", "apply_mask", "connection_made"],
    )
    def test_where_it_does_not_hold(
        self,
        where: Any,
        name: str,
        broken: Any,
        monkeypatch: pytest.MonkeyPatch,
        caplog: pytest.LogCaptureFixture,
    ) -> None:
        """As another version of the libraries might have it."""
        monkeypatch.setattr(where, name, broken)
        assert fanout.websocket_protocol("auto") is WebSocketProtocol
        assert "by ASGI" in caplog.text
        with pytest.raises(ConfigError, match="fanout=direct"):
            fanout.websocket_protocol("direct")

    def test_a_server_without_lines(
        self, monkeypatch: pytest.MonkeyPatch, relays: dict[str, RunningRelay]
    ) -> None:
        """Another ASGI server has no such extension."""
        monkeypatch.setattr(direct, "EXTENSION", "something-else")
        relay = relays["direct"]
        relay.hub.streams = {}
        with native(relay, "viewer", "?track=input") as viewer, native(relay, "producer") as sender:
            assert not any(map(by_line, peers(relay)))
            sender.publish()
            assert viewer.packet().seq == 1

    def test_an_extension_that_was_agreed_on(self) -> None:
        """What is compressed is not ours to write."""
        assert lines.line_of({"extensions": {"relay": object()}}) is None
        assert lines.line_of({}) is None


class TestBytes:
    def test_a_picture_arrives_as_it_was(self, relay: RunningRelay) -> None:
        sizes = (200, 70_000, 300_000, 1_200_000)
        with (
            native(relay, "viewer", "?track=input&credit=9") as viewer,
            native(relay, "producer") as producer,
        ):
            for number, size in enumerate(sizes, 1):
                data = picture(form="PNG").ljust(size, b"\x5a")
                producer.publish(data)
                got = viewer.packet()
                assert (got.seq, got.data == data) == (number, True)

    def test_the_same_bytes_for_everybody(self, relay: RunningRelay) -> None:
        with ExitStack() as stack:
            path = "/streams/default/viewer?track=input&credit=9"
            watching = [stack.enter_context(bare(relay, path)) for _ in range(4)]
            producer = stack.enter_context(native(relay, "producer"))
            until(lambda: relay.hub.streams["default"].status()["viewers"] == 4)
            producer.publish(picture().ljust(80_000, b"x"))
            seen = set()
            for viewer in watching:
                first, data = read_frame(viewer)
                while first != 0x82:
                    first, data = read_frame(viewer)
                seen.add(data)
            assert len(seen) == 1
            assert decode_packet(seen.pop())[0].data.startswith(picture())

    @pytest.mark.parametrize("size", [0, 1, 125, 126, 127, 65_535, 65_536, 100_000])
    def test_text_of_each_length_of_header(self, relay: RunningRelay, size: int) -> None:
        with bare(relay, "/streams/a/viewer") as viewer:
            viewer.sendall(frame(1, b"x" * size))
            assert hear(viewer, "error")["code"] == "protocol"
            viewer.sendall(frame(1, ping("é" * 40)))
            assert hear(viewer, "pong")["id"] == "é" * 40

    def test_a_message_byte_by_byte(self, relay: RunningRelay) -> None:
        with bare(relay, "/streams/a/viewer") as viewer:
            viewer.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            for byte in frame(1, ping()) + frame(9, b"x") + frame(1, ping(2)):
                viewer.sendall(bytes([byte]))
            assert hear(viewer, "pong")["id"] == 1
            assert hear(viewer, "pong")["id"] == 2

    def test_many_messages_at_once(self, relay: RunningRelay) -> None:
        with bare(relay, "/streams/a/viewer") as viewer:
            viewer.sendall(b"".join(frame(1, ping(number)) for number in range(50)))
            assert [hear(viewer, "pong")["id"] for _ in range(50)] == list(range(50))

    def test_masks_are_taken_off(self, relay: RunningRelay) -> None:
        with connect(relay.websocket + "/streams/a/producer", compression=None) as websocket:
            producer = Client(websocket)
            for size in (200, 1001, 70_003):
                producer.send_picture(picture().ljust(size, b"\xa5"))
                assert producer.text("ack")["accepted"]
                last = relay.hub.streams["a"].tracks["input"].last
                assert last is not None
                assert last.data == picture().ljust(size, b"\xa5")

    def test_fragments_and_a_ping_between_them(self, relay: RunningRelay) -> None:
        message = ping("in three")
        with bare(relay, "/streams/a/viewer") as viewer:
            viewer.sendall(
                frame(1, message[:5], fin=False)
                + frame(9, b"there?")
                + frame(0, message[5:9], fin=False)
                + frame(0, message[9:])
                + frame(1, ping("whole"))
            )
            pongs: list[Any] = []
            while len(pongs) < 3:
                first, data = read_frame(viewer)
                if first == 0x8A:
                    pongs.append(data)
                elif (fields := json.loads(data))["type"] == "pong":
                    pongs.append(fields["id"])
            assert pongs == [b"there?", "in three", "whole"]

    def test_a_fragmented_picture(self, relay: RunningRelay) -> None:
        message = encode_packet(Packet.of(picture().ljust(90_000, b"y"), seq=7), "input")
        with bare(relay, "/streams/a/producer") as producer:
            producer.sendall(
                frame(2, message[:100], fin=False)
                + frame(0, message[100:70_000], fin=False)
                + frame(0, message[70_000:])
            )
            assert hear(producer, "ack")["seq"] == 7
            last = relay.hub.streams["a"].tracks["input"].last
            assert last is not None
            assert last.data == message[-90_000:]


def goodbye(opened: socket.socket) -> tuple[int, str]:
    """Code and reason of the close frame that comes."""
    while True:
        first, data = read_frame(opened)
        if first == 0x88:
            return int.from_bytes(data[:2], "big"), data[2:].decode()


class TestRules:
    """Who breaks the rules of WebSockets hears the same code either way."""

    @pytest.mark.parametrize(
        ("said", "code"),
        [
            (frame(1, b"\xff\xfe"), 1007),
            (frame(1, b"ab", fin=False) + frame(1, b"c"), 1002),
            (frame(0, b"c"), 1002),
            (b"\x81\x02ab", 1002),  # not masked
            (b"\xc1" + frame(1, b"ab")[1:], 1002),  # compressed, they say
            (b"\x83" + frame(1, b"ab")[1:], 1002),  # no such opcode
            (frame(9, b"x" * 126), 1002),
            (b"\x82\xff" + struct.pack("!Q", 1 << 40), 1009),
            (frame(8, struct.pack("!H", 1000) + b"bye"), 1000),
            (frame(8, b""), 0),
        ],
        ids=[
            *("utf-8", "unfinished", "nothing begun", "unmasked", "compressed", "opcode"),
            *("long ping", "too large", "goodbye", "without a word"),
        ],
    )
    def test_codes(self, relay: RunningRelay, said: bytes, code: int) -> None:
        with bare(relay, "/streams/a/producer") as opened:
            opened.sendall(frame(1, ping()))
            hear(opened, "pong")
            opened.sendall(said)
            assert goodbye(opened)[0] == code
            assert closed(opened) == b""
        until(lambda: not peers(relay, "a"))

    def test_one_byte_too_many(self, relay: RunningRelay, way: str) -> None:
        settings = RelaySettings(port=0, max_message_mb=0.1, fanout=way)
        most = int(0.1 * 1024 * 1024)
        with start_relay(settings) as small, bare(small, "/streams/a/producer") as opened:
            opened.sendall(frame(2, bytes(most)))
            assert hear(opened, "ack")["accepted"] is False
            opened.sendall(frame(2, bytes(most + 1)))
            assert goodbye(opened)[0] == 1009

    def test_too_many_fragments(self, relay: RunningRelay) -> None:
        with bare(relay, "/streams/a/producer") as opened:
            opened.sendall(frame(2, b"", fin=False) + frame(0, b"", fin=False) * 16_384)
            assert goodbye(opened)[0] == 1009

    def test_nothing_is_done_after_a_goodbye(self, relay: RunningRelay) -> None:
        with (
            bare(relay, "/streams/a/viewer") as viewer,
            native(relay, "viewer", stream="a") as page,
        ):
            patch = b'{"type":"parameters","patch":{"prompt":"late"},"id":1}'
            viewer.sendall(frame(8, struct.pack("!H", 1000)) + frame(1, patch))
            goodbye(viewer)
            assert closed(viewer) == b""
            until(lambda: len(peers(relay, "a")) == 1)
            page.send("ping", id=1)
            page.text("pong")
            assert relay.hub.streams["a"].values == {}

    def test_the_reason_of_a_refusal(self, relay: RunningRelay) -> None:
        with bare(relay, "/streams/a/worker") as worker:
            worker.sendall(frame(1, b'{"type":"status","state":"live"}'))
            code, reason = goodbye(worker)
            assert code == 1002
            assert "hello first" in reason
            worker.sendall(frame(8, struct.pack("!H", code)))
            assert closed(worker) == b""
        until(lambda: not peers(relay, "a"))

    def test_who_goes_without_a_word(self, relay: RunningRelay) -> None:
        with bare(relay, "/streams/a/viewer"):
            until(lambda: peers(relay, "a"))
        until(lambda: not peers(relay, "a"))


class TestOrder:
    def test_words_come_before_pictures(self, relay: RunningRelay) -> None:
        """A newcomer knows what it sees: schema, values and status come before the last picture."""
        with native(relay, "producer") as producer:
            producer.publish()
            with connect(relay.websocket + "/streams/default/viewer?track=input") as websocket:
                viewer = Client(websocket)
                heard = [viewer.receive() for _ in range(5)]
            kinds = [m["type"] if isinstance(m, dict) else "picture" for m in heard]
            assert kinds == ["welcome", "schema", "parameters", "status", "picture"]

    def test_an_ack_comes_before_the_own_picture(self, relay: RunningRelay) -> None:
        """A seed's client that sends and is shown what it sent."""
        with connect(relay.websocket + "/?stream=a", compression=None) as seed:
            seed.send(json.dumps({"type": "register", "client_type": "consumer"}))
            kinds: list[str] = []
            while "registered" not in kinds:
                kinds.append(json.loads(seed.recv(20))["type"])
            with native(relay, "producer", stream="a") as producer:
                producer.publish()
                assert json.loads(seed.recv(20))["type"] == "image"

    def test_answers_come_in_the_order_of_the_questions(self, relay: RunningRelay) -> None:
        with bare(relay, "/streams/a/producer") as producer:
            said = b"".join(
                frame(1, ping(number)) + frame(2, b"no packet") + frame(1, b"no json")
                for number in range(20)
            )
            producer.sendall(said)
            heard = [hear(producer, "pong", "ack", "error")["type"] for _ in range(60)]
            assert heard == ["pong", "ack", "error"] * 20

    def test_what_waits_goes_out_before_newer_pictures(self, relay: RunningRelay) -> None:
        """The viewer reads nothing for a while: what it is told is all there, in order, and of the
        pictures the newest.
        """
        path = "/streams/default/viewer?track=input&credit=1024"
        with bare(relay, path, 4096) as viewer, native(relay, "producer") as producer:
            (peer,) = until(lambda: [p for p in peers(relay) if p.role == "viewer"])
            stream = relay.hub.streams["default"]
            data = picture(form="PNG").ljust(400_000, b"\x5a")
            for _ in range(40):
                producer.publish(data)
            for number in range(30):
                viewer.sendall(frame(1, ping(number)))
            until(lambda: len(peer._outbox) >= 30, what="answers that wait")
            producer.publish(data)
            last = stream.tracks["input"].last
            assert last is not None
            pongs: list[int] = []
            seqs: list[int] = []
            while not seqs or seqs[-1] < last.seq:
                first, content = read_frame(viewer)
                if first == 0x82:
                    seqs.append(decode_packet(content)[0].seq)
                elif (fields := json.loads(content))["type"] == "pong":
                    pongs.append(fields["id"])
            assert pongs == list(range(30))
            assert seqs == sorted(set(seqs))
            assert len(seqs) < 41


class TestPatience:
    def test_who_reads_no_answers_is_not_read_from(self, relay: RunningRelay) -> None:
        with bare(relay, "/streams/a/viewer", 4096) as viewer:
            (peer,) = until(lambda: peers(relay, "a"))
            flood = b"".join(frame(1, ping("x" * 190)) for _ in range(500))
            viewer.settimeout(0.3)
            sent = 0
            try:
                while sent < 200 * len(flood):
                    sent += viewer.send(flood[sent % len(flood) :])  # a part may have gone
            except TimeoutError:
                pass
            assert sent < 200 * len(flood)
            assert 0 < len(peer._outbox) <= 1024
            viewer.settimeout(20)
            for _ in range(sent // len(flood) * 500):  # and nothing of it is lost
                assert hear(viewer, "pong")["id"] == "x" * 190

    def test_who_reads_nothing_is_cut_off(self, way: str) -> None:
        settings = RelaySettings(port=0, stall_seconds=0.4, fanout=way)
        with start_relay(settings) as relay, native(relay, "producer") as producer:
            path = "/streams/default/viewer?track=input&credit=1024"
            with bare(relay, path, 4096):
                until(lambda: len(peers(relay)) == 2)
                data = picture(form="PNG").ljust(300_000, b"\x5a")
                until(lambda: producer.publish(data)["accepted"] and len(peers(relay)) == 1)

    def test_a_stranger_is_read_as_often_as_it_may_speak(self, way: str) -> None:
        """It says more than it may: it is heard more slowly, and nothing is lost."""
        with (
            open_relay(fanout=way, max_messages_per_second=20) as relay,
            connect(
                f"{relay.websocket}/streams/a/viewer", additional_headers=as_stranger("view")
            ) as websocket,
        ):
            viewer = Client(websocket)
            for number in range(50):
                viewer.send("ping", id=number)
            assert [viewer.text("pong")["id"] for _ in range(50)] == list(range(50))

    def test_the_newest_wins_and_credit_is_kept(self, relay: RunningRelay) -> None:
        with (
            native(relay, "viewer", "?track=input&credit=0") as viewer,
            native(relay, "producer") as producer,
        ):
            for _ in range(3):
                producer.publish()
            viewer.credit()
            assert viewer.packet().seq == 3
            producer.publish()
            for text in ('{"type": "credit"}', '{"count":1,"type":"credit","track":"input"}'):
                viewer.websocket.send(text)
                if "track" not in text:
                    assert viewer.packet().seq == 4
            producer.publish()
            assert viewer.packet().seq == 5
            subscription = relay.hub.streams["default"].tracks["input"].subscriptions[0]
            assert subscription.credit == 0


class TestWhoMay:
    def test_what_is_not_allowed_is_answered(self, way: str) -> None:
        """A token to send pictures, and no more."""
        with (
            open_relay(fanout=way) as relay,
            connect(
                f"{relay.websocket}/streams/a/producer",
                additional_headers=as_stranger("publish"),
            ) as websocket,
        ):
            producer = Client(websocket)
            producer.send("parameters", patch={"prompt": "x"}, id=4)
            refused = producer.text("error")
            assert (refused["code"], refused["id"]) == ("auth", 4)
            assert producer.publish()["accepted"]


class TestSecure:
    async def test_the_same_over_tls(self, way: str, tmp_path: Path) -> None:
        """By asyncio: below Python 3.14 one TLS connection does not bear two threads, and the
        client for threads reads and writes in two.
        """
        settings = RelaySettings(
            port=0,
            tls="auto",
            tls_keep=str(tmp_path / "relay.pem"),
            fanout=way,
        )
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        options: dict[str, Any] = {"ssl": context, "compression": None, "max_size": None}
        with start_relay(settings) as relay:
            path = relay.websocket + "/streams/default/"
            async with (
                asyncio.timeout(60),
                connect_tls(path + "viewer?track=input&credit=1", **options) as viewer,
                connect_tls(path + "producer", **options) as producer,
            ):

                def both() -> bool:
                    here = peers(relay)
                    return len(here) == 2 and all(by_line(p) == (way == "direct") for p in here)

                await asyncio.to_thread(until, both)
                for number, size in enumerate((500, 70_000, 900_000), 1):
                    data = picture(form="PNG").ljust(size, b"\x5a")
                    await producer.send(encode_packet(Packet.of(data), "input"))
                    while not isinstance(message := await viewer.recv(), bytes):
                        pass
                    got, _ = decode_packet(message)
                    assert (got.seq, got.data == data) == (number, True)
                    await viewer.send(encode_text("credit", count=1))


def property_messages(chance: random.Random) -> Iterator[bytes]:
    """What a peer may say, good and bad; each answer to it is known without a clock."""
    packet = encode_packet(Packet.of(picture(), captured_ns=5), "input")
    while True:
        match chance.randrange(8):
            case 0:
                yield frame(1, ping(chance.randrange(1000)))
            case 1:
                yield frame(1, chance.choice((b"", b"[]", b"{", b'{"type":1}', b'{"type":"x"}')))
            case 2:
                yield frame(2, chance.choice((b"", b"DR", packet[:20], packet[:40], b"x" * 300)))
            case 3:
                yield frame(2, packet)
            case 4:
                patch = {"prompt": "p" * chance.randrange(40), "n": chance.randrange(9)}
                fields = {"type": "parameters", "patch": patch, "id": chance.randrange(99)}
                yield frame(1, json.dumps(fields).encode())
            case 5:
                fields = {"type": "credit", "count": chance.choice((1, 0, "x", 2000))}
                yield frame(1, json.dumps(fields).encode())
            case 6:
                yield frame(chance.choice((9, 10)), bytes(chance.randrange(126)))
            case _:
                message = ping("p" * chance.randrange(150))
                at = sorted(chance.choices(range(len(message)), k=2))
                between = frame(9, b"?") if chance.random() < 0.2 else b""
                begun = frame(1, message[: at[0]], fin=False) + between
                yield (
                    begun + frame(0, message[at[0] : at[1]], fin=False) + frame(0, message[at[1] :])
                )


def answers(relay: RunningRelay, seed: int, count: int) -> tuple[list[Any], list[bytes]]:
    """What a peer is answered to ``count`` random messages that come in random pieces: by messages,
    and by control frames, which may overtake them.
    """
    chance = random.Random(seed)
    messages = property_messages(chance)
    texts: list[Any] = []
    controls: list[bytes] = []
    with bare(relay, f"/streams/s{seed}/producer") as opened:
        for group in range(count // 25):
            said = b"".join(next(messages) for _ in range(25)) + frame(1, ping(f"group {group}"))
            while said:
                size = chance.choice((1, 2, 5, 17, 200, 5000))
                opened.sendall(said[:size])
                said = said[size:]
            while not texts or texts[-1].get("id") != f"group {group}":
                first, data = read_frame(opened)
                if first != 0x81:
                    controls.append(bytes([first]) + data)
                elif (fields := json.loads(data))["type"] not in ("welcome", "schema", "status"):
                    fields.pop("received_ns", None)
                    texts.append(fields)
    return texts, controls


@pytest.mark.parametrize("seed", range(4))
def test_whatever_is_said_is_answered_alike(relays: dict[str, RunningRelay], seed: int) -> None:
    """1000 random messages in all, whole and in fragments, in random pieces."""
    short, by_asgi = (answers(relays[way], seed, 250) for way in WAYS)
    assert short == by_asgi
    assert len(short[0]) > 100
    assert len(short[1]) > 5
