"""The link: kept up through everything a relay can do, and never a queue of old pictures."""

import json
import logging
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from http import HTTPStatus
from typing import Any

import pytest
from websockets.asyncio.client import connect as open_websocket

from dreamrelay import link as link_module
from dreamrelay.clock import RelayClock
from dreamrelay.config import RelaySettings
from dreamrelay.errors import AuthError, ConfigError, DreamRelayError, ProtocolError
from dreamrelay.link import Link, native_uri
from dreamrelay.packet import Hop, Packet
from dreamrelay.protocol.messages import Role
from dreamrelay.protocol.native import decode_packet, encode_packet
from tests.fakes.peers import Heard
from tests.fakes.relays import (
    Peer,
    closed_port,
    denying_relay,
    hung_server,
    is_about_time,
    scripted_relay,
)
from tests.support import RunningRelay, picture, start_relay, until

Starter = Callable[..., tuple[Link, Heard]]


@pytest.fixture
def connect() -> Iterator[Starter]:
    """Start a link; it is closed at the end."""
    with ExitStack() as stack:

        def start(uri: str, role: Role = "producer", **options: Any) -> tuple[Link, Heard]:
            heard = Heard()
            hello = options.pop("hello", None)
            link = Link(uri, "default", role, heard, **options)
            link.hello = hello
            stack.callback(link.close)
            link.start()
            return link, heard

        yield start


def packet(seq: int) -> Packet:
    return Packet.of(picture(), seq=seq)


def threads_of_links() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name.startswith("link-")]


# -- addresses ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("uri", "expected"),
    [
        ("ws://localhost:8765", "ws://localhost:8765/streams/default/worker"),
        ("localhost:8765", "ws://localhost:8765/streams/default/worker"),
        ("ws://localhost:8765/", "ws://localhost:8765/streams/default/worker"),
        ("http://host:80", "ws://host:80/streams/default/worker"),
        ("https://host/behind/a/proxy/", "wss://host/behind/a/proxy/streams/default/worker"),
        ("wss://user:word@host", "wss://user:word@host/streams/default/worker"),
        ("ws://[::1]:8765", "ws://[::1]:8765/streams/default/worker"),
        ("ws://host?a=b", "ws://host/streams/default/worker?a=b"),
        ("ws://host#x", "ws://host/streams/default/worker"),
    ],
)
def test_an_address_is_completed(uri: str, expected: str) -> None:
    assert native_uri(uri, "default", "worker") == expected


@pytest.mark.parametrize(
    "uri",
    [
        "",
        "ws://",
        "ftp://host",
        "file:///tmp",
        "ws://host:port",
        "ws://host:99999",
        "ws://host:0",
        "htp:/host",
        "http:/host",
        "ws://host:",
        "ws://[::1",
        "ws://a..b",
        "ws://two words:80",
        "ws://host\n:80",
        f"ws://{'a' * 70}.b",
        "://",
    ],
)
def test_a_bad_address_is_refused_with_an_example(uri: str) -> None:
    with pytest.raises(ConfigError, match="ws://localhost:8765"):
        native_uri(uri, "default", "worker")


def test_options_of_an_address_are_written_safely() -> None:
    uri = native_uri("ws://host", "a b/c", "viewer", token="t&o=k", name="", track="both", x=None)
    assert uri == "ws://host/streams/a%20b%2Fc/viewer?token=t%26o%3Dk&track=both"


def test_the_token_is_not_in_the_address_that_is_shown() -> None:
    assert "secret" not in Link("ws://h", "s", "viewer", Heard(), token="secret").shown_uri


# -- the relay of this house ----------------------------------------------------------------------


def test_pictures_reach_a_viewer_through_the_relay(relay: RunningRelay, connect: Starter) -> None:
    _, viewer = connect(relay.websocket, "viewer", query={"track": "input"})
    until(lambda: viewer.welcomes)
    producer, heard = connect(relay.websocket)
    until(lambda: heard.welcomes)
    producer.send_picture(packet(7), "input")
    got, track = until(lambda: viewer.packets)[0]
    assert (got.data, track) == (picture(), "input")
    assert until(lambda: heard.has("ack"))[0]["seq"] == 7
    assert producer.sent == 1


def test_it_comes_back_when_the_relay_is_started_again(connect: Starter) -> None:
    with start_relay(RelaySettings(port=0)) as relay:
        link, heard = connect(relay.websocket)
        until(lambda: heard.welcomes)
        assert link.connected
        port = int(relay.websocket.rpartition(":")[2])
    until(lambda: heard.losses)
    assert not link.connected
    with start_relay(RelaySettings(port=port)):
        until(lambda: len(heard.welcomes) == 2)
        assert link.session == 2
        link.send_picture(packet(1), "input")
        until(lambda: heard.has("ack"))
    assert not heard.errors


def test_a_relay_that_is_started_with_it_is_found_in_silence(
    connect: Starter, monkeypatch: pytest.MonkeyPatch
) -> None:
    tries: list[str] = []

    def counted(uri: str, **options: Any) -> Any:
        tries.append(uri)
        return real(uri, **options)

    real = open_websocket
    monkeypatch.setattr(link_module, "connect", counted)
    monkeypatch.setattr(link_module, "EAGER_SECONDS", 3600.0)
    monkeypatch.setattr(link_module, "FIRST_WAIT", 3600.0)
    port = closed_port()
    _, heard = connect(f"ws://127.0.0.1:{port}")
    until(lambda: len(tries) >= 3)
    assert not heard.losses
    with start_relay(RelaySettings(port=port)):
        until(lambda: heard.welcomes)
        assert not heard.losses
    # One that was there and is gone has more who ask for it: they wait their turn, and say so.
    until(lambda: heard.losses)
    assert heard.losses[0][1] >= 1800.0


def test_the_relay_may_be_started_last(connect: Starter) -> None:
    port = closed_port()
    _, heard = connect(f"ws://localhost:{port}")
    reason, retry_in = until(lambda: heard.losses)[0]
    assert reason == "nothing listens there: start the relay with `python server.py`"
    assert 0 < retry_in <= link_module.FIRST_WAIT
    with start_relay(RelaySettings(port=port)):
        until(lambda: heard.welcomes)


def test_why_there_is_no_relay_is_said_once_and_again_after_it_was_there(
    connect: Starter, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(link_module, "EAGER_SECONDS", 0.0)
    monkeypatch.setattr(link_module, "FIRST_WAIT", 0.01)
    monkeypatch.setattr(link_module, "LONGEST_WAIT", 0.02)

    def named() -> int:
        return sum("nothing listens there" in line.getMessage() for line in caplog.records)

    port = closed_port()
    with caplog.at_level(logging.WARNING):
        link, heard = connect(f"ws://127.0.0.1:{port}")
        link.complains = True
        connect(f"ws://127.0.0.1:{closed_port()}")  # this one keeps silent
        until(lambda: len(heard.losses) >= 10)
        assert named() == 1
        with start_relay(RelaySettings(port=port)):
            until(lambda: heard.welcomes)
        before = len(heard.losses)
        until(lambda: len(heard.losses) >= before + 20)
        until(lambda: named() == 2)


# -- reconnection ---------------------------------------------------------------------------------


def test_the_waits_grow_to_a_limit_and_differ(
    connect: Starter, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(link_module, "EAGER_SECONDS", 0.0)
    monkeypatch.setattr(link_module, "FIRST_WAIT", 0.01)
    monkeypatch.setattr(link_module, "LONGEST_WAIT", 0.04)
    _, heard = connect(f"ws://127.0.0.1:{closed_port()}")
    until(lambda: len(heard.losses) >= 10)
    waits = [wait for _, wait in heard.losses]
    for wait, most in zip(waits, [0.01, 0.02, *[0.04] * 8], strict=False):
        assert most / 2 <= wait <= most
    assert len(set(waits)) > 5, "two links that lost the same relay must not return together"


def test_a_server_that_says_nothing_is_tried_again(
    connect: Starter, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(link_module, "OPEN_SECONDS", 0.2)
    with hung_server() as uri:
        _, heard = connect(uri)
        reason, _ = until(lambda: heard.losses)[0]
        assert reason.startswith("no answer")
        until(lambda: len(heard.losses) >= 2)


def test_a_connection_that_is_cut_without_a_word_is_made_anew(connect: Starter) -> None:
    def talk(peer: Peer) -> None:
        peer.welcome()
        if peer.number < 3:
            peer.cut()
        peer.stay()

    with scripted_relay(talk) as uri:
        link, heard = connect(uri)
        until(lambda: link.session == 3 and link.connected)
        assert len(heard.losses) == 2
        assert {reason for reason, _ in heard.losses} == {"the connection was cut"}
        link.close()


@pytest.mark.parametrize(
    ("status", "error", "text"),
    [
        (HTTPStatus.UNAUTHORIZED, AuthError, "--token"),
        (HTTPStatus.FORBIDDEN, AuthError, "refused us"),
        (HTTPStatus.NOT_FOUND, ProtocolError, "not a dreamrelay relay"),
    ],
)
def test_a_denial_for_good_ends_the_link(
    connect: Starter, status: HTTPStatus, error: type[DreamRelayError], text: str
) -> None:
    with denying_relay(status) as uri:
        link, heard = connect(uri, token="wrong")
        problem = until(lambda: heard.errors)[0]
        assert isinstance(problem, error)
        assert text in str(problem)
        assert "wrong" not in str(problem)
        assert not heard.losses
        until(lambda: not link.connected)


def test_a_denial_for_now_is_told_and_tried_again(connect: Starter) -> None:
    with denying_relay(HTTPStatus.CONFLICT, "256 connections are open") as uri:
        _, heard = connect(uri)
        reason, _ = until(lambda: heard.losses)[0]
        assert "409: 256 connections are open" in reason
        until(lambda: len(heard.losses) >= 2)


def test_a_listener_that_fails_is_told_and_does_not_hang(
    connect: Starter, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(self: Heard, welcome: Mapping[str, Any]) -> None:
        raise LookupError("a bug")

    monkeypatch.setattr(Heard, "opened", fail)

    def talk(peer: Peer) -> None:
        peer.welcome()
        peer.stay()

    with scripted_relay(talk) as uri:
        _, heard = connect(uri)
        assert "LookupError" in str(until(lambda: heard.errors)[0])


# -- credit, order, sessions ----------------------------------------------------------------------


def test_a_relay_that_never_acks_gets_as_many_pictures_as_its_credit(connect: Starter) -> None:
    got: list[str | bytes] = []
    go_on = threading.Event()

    def talk(peer: Peer) -> None:
        peer.welcome(credit=2)
        while "marker" not in str(got[-1:]):
            got.append(peer.hear())
        go_on.wait(30)
        peer.tell("ack", seq=1, accepted=True)
        got.append(peer.hear())
        peer.stay()

    with scripted_relay(talk) as uri:
        link, heard = connect(uri)
        until(lambda: heard.welcomes)
        for seq in range(1, 11):
            link.send_picture(packet(seq), "input")
            until(lambda: link.sent == min(seq, 2))  # noqa: B023 - waited for at once
        link.tell("marker")
        until(lambda: len(got) >= 3)
        numbers = [decode_packet(one)[0].seq for one in got if isinstance(one, bytes)]
        assert numbers == [1, 2]
        assert link.waiting
        go_on.set()
        newest = until(lambda: got[3:])[0]
        assert isinstance(newest, bytes)
        assert decode_packet(newest)[0].seq == 10, "of what waited only the newest is sent"
        assert link.sent == 3
        link.close()


def test_nothing_is_sent_before_the_relay_has_given_credit(connect: Starter) -> None:
    got: list[str | bytes] = []

    def talk(peer: Peer) -> None:
        got.append(peer.hear())
        peer.stay()

    with scripted_relay(talk) as uri:
        link, _ = connect(uri)
        until(lambda: link.connected)
        link.send_picture(packet(1), "input")
        link.tell("marker")
        assert "marker" in str(until(lambda: got)[0])
        link.close()


def test_messages_leave_in_their_order_and_before_close(connect: Starter) -> None:
    got: list[int] = []

    def talk(peer: Peer) -> None:
        peer.welcome()
        for message in peer.websocket:
            if is_about_time(message):
                continue
            got.append(json.loads(message)["n"])

    with scripted_relay(talk) as uri:
        link, heard = connect(uri, "viewer")
        until(lambda: heard.welcomes)
        for n in range(300):
            link.tell("count", n=n)
        link.close()
        until(lambda: len(got) == 300)
    assert got == list(range(300))


def test_results_of_an_earlier_connection_are_never_sent_on_this_one(connect: Starter) -> None:
    got: list[str | bytes] = []

    def talk(peer: Peer) -> None:
        peer.welcome()
        if peer.number == 1:
            peer.cut()
            return
        while not got or "marker" not in str(got[-1]):
            got.append(peer.hear())
        peer.stay()

    with scripted_relay(talk) as uri:
        link, heard = connect(uri, "worker")
        until(lambda: link.session == 2 and link.connected)
        link.send_picture(packet(1), "output", session=1)
        link.send("an answer to a request of the first connection", session=1)
        link.send_picture(packet(2), "output", session=2)
        until(lambda: link.sent == 1)
        link.tell("marker")
        until(lambda: "marker" in str(got[-1:]))
        assert [decode_packet(one)[0].seq for one in got if isinstance(one, bytes)] == [2]
        assert len(got) == 2
        assert not heard.errors
        link.close()


def test_what_is_said_without_a_connection_is_not_said_later(connect: Starter) -> None:
    with start_relay(RelaySettings(port=0)) as relay:
        link, heard = connect(relay.websocket)
        until(lambda: heard.welcomes)
        port = int(relay.websocket.rpartition(":")[2])
    until(lambda: heard.losses)
    link.tell("ping", id="old")
    link.send_picture(packet(1), "input")
    with start_relay(RelaySettings(port=port)):
        until(lambda: len(heard.welcomes) == 2)
        link.tell("ping", id="new")
        until(lambda: any(one["id"] == "new" for one in heard.has("pong")))
        assert all(one["id"] != "old" for one in heard.has("pong"))
    assert not heard.has("ack")


def test_each_connection_opens_with_the_hello_that_holds_then(connect: Starter) -> None:
    got: list[Any] = []
    second = threading.Event()

    def talk(peer: Peer) -> None:
        peer.welcome()
        got.append(json.loads(peer.hear()))
        if peer.number == 1:
            got.append(json.loads(peer.hear()))
            second.wait(30)
            peer.cut()
            return
        got.append(json.loads(peer.hear()))
        peer.stay()

    with scripted_relay(talk) as uri:
        link, _ = connect(uri, "worker", hello={"credit": 0})
        until(lambda: len(got) == 1)
        link.introduce({"credit": 2})
        until(lambda: len(got) == 2)
        second.set()
        until(lambda: link.session == 2 and link.connected)
        link.tell("marker")
        until(lambda: len(got) == 4)
        link.close()
    assert [one.get("credit") for one in got] == [0, 2, 2, None]
    assert got[0]["type"] == "hello"
    assert got[0]["version"] == 1


# -- parameters -----------------------------------------------------------------------------------


def test_a_thousand_patches_become_a_few_with_the_last_value_of_each(connect: Starter) -> None:
    patches: list[dict[str, Any]] = []
    go_on = threading.Event()

    def talk(peer: Peer) -> None:
        peer.welcome()
        while True:
            asked = peer.hear_text("parameters")
            patches.append(asked["patch"])
            go_on.wait(30)
            peer.tell("parameters", values={}, revision=1, id=asked["id"])

    with scripted_relay(talk) as uri:
        link, heard = connect(uri, "worker")
        until(lambda: heard.welcomes)
        link.patch({"prompt": "first"}, "osc")
        until(lambda: patches)
        for n in range(1000):
            link.patch({"prompt": f"p{n}"} if n % 2 else {"seed": n}, "osc")
        go_on.set()
        until(lambda: len(patches) >= 2)
        link.close()
    assert patches == [{"prompt": "first"}, {"prompt": "p999", "seed": 998}]


def test_a_wrong_value_does_not_take_a_good_one_with_it(relay: RunningRelay) -> None:
    schema = {
        "type": "object",
        "properties": {"prompt": {"type": "string"}, "seed": {"type": "integer"}},
    }
    heard = Heard()
    link = Link(relay.websocket, "default", "worker", heard)
    link.hello = {"credit": 1, "schema": schema, "parameters": {"prompt": "", "seed": 1}}
    link.patch({"prompt": "good"}, "osc")
    link.patch({"seed": "no number"}, "osc")
    link.start()
    try:
        until(lambda: relay.hub.stream("default").values.get("prompt") == "good")
        assert relay.hub.stream("default").values["seed"] == 1
        assert heard.has("error")[0]["problems"].keys() == {"seed"}
    finally:
        link.close()


def test_a_patch_waits_for_the_relay_and_survives_a_lost_connection(connect: Starter) -> None:
    patches: list[dict[str, Any]] = []

    def talk(peer: Peer) -> None:
        peer.welcome()
        patches.append(peer.hear_text("parameters"))
        if peer.number == 1:
            peer.cut()
            return
        peer.tell("parameters", values={}, revision=1, id=patches[-1]["id"])
        peer.stay()

    with scripted_relay(talk) as uri:
        heard = Heard()
        link = Link(uri, "default", "producer", heard)
        link.patch({"prompt": "typed early"}, "producer")
        link.start()
        until(lambda: len(patches) == 2)
        link.close()
    assert [one["patch"] for one in patches] == [{"prompt": "typed early"}] * 2
    assert patches[0]["origin"] == "producer"


def test_whoever_speaks_last_has_the_say(connect: Starter) -> None:
    patches: list[tuple[str, dict[str, Any]]] = []

    def talk(peer: Peer) -> None:
        peer.welcome()
        while True:
            asked = peer.hear_text("parameters")
            patches.append((asked["origin"], asked["patch"]))
            peer.tell("parameters", values={}, revision=1, id=asked["id"])

    with scripted_relay(talk) as uri:
        link = Link(uri, "default", "worker", Heard())
        link.patch({"prompt": "osc", "seed": 1}, "osc")
        link.patch({"prompt": "window"}, "window")
        link.start()
        until(lambda: len(patches) == 2)
        link.close()
    assert patches == [("osc", {"seed": 1}), ("window", {"prompt": "window"})]


# -- odd relays -----------------------------------------------------------------------------------


ODD: list[str | bytes] = [
    b"",
    b"DR",
    b"\x00" * 100,
    encode_packet(packet(1), "output")[:40],
    "",
    "no JSON",
    "[]",
    "7",
    "null",
    "{}",
    '{"type": 7}',
    '{"type": "of a later version", "x": {}}',
    '{"type": "welcome", "credit": "many"}',
    '{"type": "welcome", "credit": -5}',
    '{"type": "ack"}',
    '{"type": "ack", "seq": "one"}',
    '{"type": "parameters", "values": 7, "id": []}',
    '{"type": "error", "problems": 7}',
    "[" * 5000,
]


def test_odd_messages_hurt_nothing(connect: Starter, caplog: pytest.LogCaptureFixture) -> None:
    def talk(peer: Peer) -> None:
        peer.welcome()
        for message in ODD:
            peer.websocket.send(message)
        peer.websocket.send(encode_packet(packet(5), "output"))
        peer.stay()

    with scripted_relay(talk) as uri, caplog.at_level(logging.WARNING):
        link, heard = connect(uri)
        got, track = until(lambda: heard.packets)[0]
        assert (got.seq, track) == (5, "output")
        assert link.connected
        assert not heard.errors
        link.close()
    assert sum("something odd" in one.getMessage() for one in caplog.records) >= 9


# -- the end --------------------------------------------------------------------------------------


def close_and_measure(link: Link) -> float:
    began = time.monotonic()
    link.close()
    assert not any(thread is link._thread for thread in threads_of_links())
    return time.monotonic() - began


def test_close_is_quick_while_connecting() -> None:
    with hung_server() as uri:
        link = Link(uri, "default", "producer", Heard())
        link.start()
        until(lambda: link._loop is not None)
        assert close_and_measure(link) < 4.0


def test_close_is_quick_while_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(link_module, "EAGER_SECONDS", 0.0)
    monkeypatch.setattr(link_module, "FIRST_WAIT", 60.0)
    monkeypatch.setattr(link_module, "LONGEST_WAIT", 60.0)
    heard = Heard()
    link = Link(f"ws://127.0.0.1:{closed_port()}", "default", "producer", heard)
    link.start()
    until(lambda: heard.losses)
    assert close_and_measure(link) < 4.0


def test_close_is_quick_and_clean_while_connected(relay: RunningRelay) -> None:
    heard = Heard()
    link = Link(relay.websocket, "default", "producer", heard)
    link.start()
    until(lambda: heard.welcomes)
    assert close_and_measure(link) < 4.0
    until(lambda: not relay.hub.stream("default").peers)
    link.close()  # again
    assert not heard.losses


def test_close_does_not_wait_for_a_relay_that_reads_nothing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(link_module, "CLOSE_SECONDS", 0.3)
    done = threading.Event()

    def talk(peer: Peer) -> None:
        peer.welcome()
        done.wait(30)  # its library reads 16 messages ahead, and then no more

    with scripted_relay(talk) as uri:
        heard = Heard()
        link = Link(uri, "default", "worker", heard)
        link.start()
        until(lambda: heard.welcomes)
        for _ in range(40):
            link.send(bytes(1024 * 1024))
        assert close_and_measure(link) < 5.0
        done.set()


def test_a_link_that_never_began_can_be_closed() -> None:
    Link("ws://host", "default", "producer", Heard()).close()


def test_a_listener_may_close_its_own_link() -> None:
    class Leaves(Heard):
        link: Link

        def opened(self, welcome: Mapping[str, Any]) -> None:
            super().opened(welcome)
            self.link.close()

    with start_relay(RelaySettings(port=0)) as relay:
        heard = Leaves()
        heard.link = Link(relay.websocket, "default", "viewer", heard)
        heard.link.start()
        until(lambda: heard.welcomes)
        until(lambda: heard.link._thread not in threads_of_links())
        assert not heard.losses


# -- the time -------------------------------------------------------------------------------------


class SetClock:
    """A relay's clock that is an hour ahead."""

    AHEAD = 3600 * 10**9

    def talk(self, peer: Peer) -> None:
        peer.welcome(credit=9)
        for message in peer.websocket:
            if isinstance(message, bytes):
                self.packets.append(decode_packet(message)[0])
                continue
            fields = json.loads(message)
            self.heard.append(fields)
            if fields["type"] == "ping":
                received = time.time_ns() + self.AHEAD
                peer.tell("pong", id=fields["id"], received_ns=received)

    def __init__(self) -> None:
        self.packets: list[Packet] = []
        self.heard: list[dict[str, Any]] = []


def test_pictures_leave_with_the_time_of_the_relay(connect: Starter) -> None:
    relay = SetClock()
    with scripted_relay(relay.talk) as uri:
        link, heard = connect(uri)
        told = until(lambda: [one for one in relay.heard if one["type"] == "clock"])[0]
        assert abs(told["offset_ns"] - relay.AHEAD) <= told["error_ns"] + 10**6
        before = time.time_ns()
        link.send_picture(packet(1).stamped(Hop.ENCODED), "input")
        sent = until(lambda: relay.packets)[0]
        after = time.time_ns() + relay.AHEAD
        error = told["error_ns"] + 10**6
        (stamp,) = sent.stamps
        assert before + relay.AHEAD - 10**9 <= sent.captured_ns <= stamp.ns <= after + error
        assert not heard.has("pong"), "that is between the two of them"
        link.close()


def test_a_peer_on_this_machine_sends_its_own_time(relay: RunningRelay, connect: Starter) -> None:
    link, _ = connect(relay.websocket)
    until(lambda: link.clock.offset is not None)
    assert link.clock.ahead_ns == 0
    (clock,) = until(lambda: list(relay.hub.streams["default"].timing.clocks))
    assert clock.offset_ns == 0
    assert 0 < clock.error_ns
    link.close()
    until(lambda: not list(relay.hub.streams["default"].timing.clocks))


def test_a_worker_says_hello_before_it_asks_for_the_time(
    relay: RunningRelay, connect: Starter
) -> None:
    link, heard = connect(relay.websocket, "worker")
    until(lambda: heard.welcomes)
    link.introduce({"name": "late", "credit": 0})
    until(lambda: link.clock.offset is not None)
    assert not heard.losses
    assert not heard.has("error")


def test_a_machine_whose_clock_is_an_hour_behind(relay: RunningRelay, connect: Starter) -> None:
    """Its pictures have the age that they have."""
    behind = 3600 * 10**9

    def slow() -> int:
        return time.time_ns() - behind

    _, viewer = connect(relay.websocket, "viewer", query={"track": "input"})
    until(lambda: viewer.welcomes)
    link = Link(relay.websocket, "default", "producer", Heard())
    link.clock = RelayClock(unix_ns=slow)
    link.start()
    try:
        until(lambda: link.clock.offset is not None)
        before = time.time_ns()
        taken = Packet.of(picture(), seq=1, captured_ns=slow()).stamped(Hop.ENCODED, slow())
        link.send_picture(taken, "input")
        got, _ = until(lambda: viewer.packets)[0]
        now = time.time_ns()
        offset = link.clock.offset
        assert offset is not None
        assert before - offset.error_ns <= got.captured_ns <= now + offset.error_ns
        hops = relay.hub.streams["default"].timing.hops["input"]
        assert until(lambda: hops.age.count) == 1
        assert hops.age.p50 < 3_000_000
        assert hops.disordered == 0
    finally:
        link.close()
