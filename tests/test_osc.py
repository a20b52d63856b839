"""OSC: from any program to the prompt; nothing that comes in can end it."""

import logging
import random
import shutil
import socket
import struct
import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from pythonosc.osc_bundle_builder import IMMEDIATELY, OscBundleBuilder
from pythonosc.osc_message_builder import OscMessageBuilder
from pythonosc.udp_client import SimpleUDPClient

from dreamrelay.config import RelaySettings, WorkerSettings
from dreamrelay.errors import ConfigError
from dreamrelay.osc import LONGEST_TEXT, OscServer, Patch
from dreamrelay.worker import Worker
from tests.fakes.engines import ScriptedEngine
from tests.fakes.peers import Person
from tests.fakes.relays import closed_port
from tests.support import Program, RunningRelay, start_relay, until

needs_oscsend = pytest.mark.skipif(
    shutil.which("oscsend") is None, reason="needs oscsend (apt install liblo-tools)"
)


@pytest.fixture
def patches() -> list[Patch]:
    return []


@pytest.fixture
def server(patches: list[Patch]) -> Iterator[OscServer]:
    server = OscServer("127.0.0.1", 0, patches.append)
    server.start()
    yield server
    server.close()


@pytest.fixture
def client(server: OscServer) -> Iterator[SimpleUDPClient]:
    client = SimpleUDPClient("127.0.0.1", server.port)
    yield client
    client._sock.close()


def oscsend(port: int, *arguments: str) -> None:
    subprocess.run(["oscsend", "127.0.0.1", str(port), *arguments], check=True, timeout=30)


def message(address: str, *arguments: Any) -> bytes:
    builder = OscMessageBuilder(address)
    for argument in arguments:
        builder.add_arg(argument)
    return bytes(builder.build().dgram)


# -- the server -----------------------------------------------------------------------------------


@needs_oscsend
def test_a_prompt_from_oscsend(server: OscServer, patches: list[Patch]) -> None:
    oscsend(server.port, "/prompt", "s", "a fox in the snow, Füchse 狐")
    until(lambda: patches)
    assert patches == [{"prompt": "a fox in the snow, Füchse 狐"}]


@needs_oscsend
@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (("i", "7"), {"prompt": "7"}),
        (("f", "0.5"), {"prompt": "0.5"}),
        (("ss", "good", "bad"), {"prompt": "good", "negative_prompt": "bad"}),
        (("ssi", "good", "bad", "3"), {"prompt": "good", "negative_prompt": "bad"}),
        (("s", ""), {"prompt": ""}),
    ],
)
def test_arguments_as_oscsend_writes_them(
    server: OscServer, patches: list[Patch], arguments: tuple[str, ...], expected: Patch
) -> None:
    oscsend(server.port, "/prompt", *arguments)
    until(lambda: patches)
    assert patches == [expected]


@pytest.mark.parametrize("arguments", [[], [None], [b"bytes"], [["a", "list"]], [None, "text"]])
def test_what_is_no_text_is_refused_and_named(
    client: SimpleUDPClient,
    patches: list[Patch],
    caplog: pytest.LogCaptureFixture,
    arguments: list[Any],
) -> None:
    with caplog.at_level(logging.WARNING):
        client.send(OscMessageBuilder("/prompt").build()) if not arguments else (
            client.send_message("/prompt", arguments)
        )
        client.send_message("/prompt", "after")
        until(lambda: patches)
    assert patches == [{"prompt": "after"}]
    assert "expected a text" in caplog.text


def test_a_text_that_is_too_long_is_refused_and_named(
    client: SimpleUDPClient, patches: list[Patch], caplog: pytest.LogCaptureFixture
) -> None:
    client.send_message("/prompt", "x" * (LONGEST_TEXT + 1))
    client.send_message("/prompt", "y" * LONGEST_TEXT)
    until(lambda: patches)
    assert patches == [{"prompt": "y" * LONGEST_TEXT}]
    assert str(LONGEST_TEXT) in caplog.text


def test_addresses_are_case_sensitive_and_unknown_ones_ignored(
    client: SimpleUDPClient, patches: list[Patch], caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO, "dreamrelay"):
        for address in ("/Prompt", "/prompts", "/p", "/", "/prompt/x"):
            client.send_message(address, "no")
        client.send_message("/prompt", "yes")
        until(lambda: patches)
    assert patches == [{"prompt": "yes"}]
    assert "no such address: /Prompt" in caplog.text


def test_a_bundle_of_the_future_holds_now(server: OscServer, patches: list[Patch]) -> None:
    """A time stamp must not stop the thread that listens."""
    for when in (IMMEDIATELY, 2_000_000_000):
        bundle = OscBundleBuilder(when)
        for text in ("one", "two"):
            builder = OscMessageBuilder("/prompt")
            builder.add_arg(text)
            bundle.add_content(builder.build())
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
            sender.sendto(bundle.build().dgram, ("127.0.0.1", server.port))
    until(lambda: len(patches) == 4)
    assert [patch["prompt"] for patch in patches] == ["one", "two"] * 2


def test_nothing_is_sent_back(server: OscServer, patches: list[Patch]) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
        sender.bind(("127.0.0.1", 0))
        sender.sendto(message("/prompt", "x"), ("127.0.0.1", server.port))
        until(lambda: patches)
        sender.setblocking(False)
        with pytest.raises(BlockingIOError):
            sender.recv(100)


def test_malformed_datagrams_hurt_nothing(
    server: OscServer, client: SimpleUDPClient, patches: list[Patch]
) -> None:
    rng = random.Random(5)
    good = message("/prompt", "a good prompt", 1, 2.5)
    bundle = b"#bundle\0" + bytes(8) + struct.pack(">i", len(good)) + good
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
        for number in range(200):
            base = bytearray(rng.choice((good, bundle, rng.randbytes(rng.randint(0, 200)))))
            for _ in range(rng.randint(0, 6)):
                if base:
                    base[rng.randrange(len(base))] = rng.randrange(256)
            if number % 3 == 0:
                base = base[: rng.randint(0, len(base))]
            sender.sendto(bytes(base), ("127.0.0.1", server.port))
    client.send_message("/prompt", "the end")
    until(lambda: patches and patches[-1] == {"prompt": "the end"})
    assert all(isinstance(text, str) for patch in patches for text in patch.values())


def burst(server_socket: socket.socket, port: int, count: int, heard: Callable[[], int]) -> None:
    """Send so many prompts as fast as the machine's receive buffer holds them."""
    room = max(50, server_socket.getsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF) // 1500)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
        for number in range(count):
            if number % room == room - 1:
                until(lambda: heard() >= number)  # noqa: B023 - waited for at once
            sender.sendto(message("/prompt", f"prompt {number}"), ("127.0.0.1", port))


def test_a_burst_arrives_whole_and_in_order(server: OscServer, patches: list[Patch]) -> None:
    burst(server._server.socket, server.port, 2000, lambda: len(patches))
    until(lambda: len(patches) == 2000)
    assert [patch["prompt"] for patch in patches] == [f"prompt {n}" for n in range(2000)]


def test_a_busy_port_is_named_with_a_way_out() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as taken:
        taken.bind(("127.0.0.1", 0))
        port = taken.getsockname()[1]
        with pytest.raises(ConfigError, match=rf"127.0.0.1:{port}.*--osc-port="):
            OscServer("127.0.0.1", port, lambda _: None)


def test_a_server_that_never_began_can_be_closed_twice() -> None:
    server = OscServer("127.0.0.1", 0, lambda _: None)
    port = server.port
    server.close()
    server.close()
    OscServer("127.0.0.1", port, lambda _: None).close()


# -- the worker's ---------------------------------------------------------------------------------


@contextmanager
def working(engine: ScriptedEngine, **settings: Any) -> Iterator[int]:
    """A worker that listens; yields the OSC port."""
    worker = Worker(WorkerSettings(osc_port=0, viewer="off", **settings), engine=engine)
    thread = threading.Thread(target=worker.run, daemon=True)
    thread.start()
    try:
        assert worker.osc_port is not None
        yield worker.osc_port
    finally:
        worker.stop()
        thread.join(30)
        assert not thread.is_alive()


def test_a_prompt_goes_through_the_relay(relay: RunningRelay) -> None:
    engine = ScriptedEngine()
    with (
        Person(relay.websocket) as viewer,
        working(engine, websocket_uri=relay.websocket) as port,
    ):
        until(lambda: viewer.status.get("state") == "live")
        client = SimpleUDPClient("127.0.0.1", port)
        client.send_message("/prompt", ["blue", "ugly"])
        until(lambda: engine.parameters["prompt"] == "blue")
        told = until(lambda: [one for one in viewer.has("parameters") if one["origin"] == "osc"])
        assert told[-1]["values"]["prompt"] == "blue"
        assert told[-1]["values"]["negative_prompt"] == "ugly"
        client._sock.close()


def test_a_burst_through_the_relay_ends_with_the_last_prompt_and_costs_nobody_a_connection(
    relay: RunningRelay,
) -> None:
    engine = ScriptedEngine()
    with (
        Person(relay.websocket) as viewer,
        working(engine, websocket_uri=relay.websocket) as port,
    ):
        until(lambda: viewer.status.get("state") == "live")
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
            for number in range(2000):
                sender.sendto(message("/prompt", f"prompt {number}"), ("127.0.0.1", port))
                if number % 100 == 99:  # the machine's buffer may be small, and that is not ours
                    last = f"prompt {number}"
                    until(lambda: viewer.values.get("prompt") == last)  # noqa: B023 - at once
        until(lambda: engine.parameters["prompt"] == "prompt 1999")
        assert len(viewer.welcomes) == 1
        assert not viewer.losses
        assert len(viewer.has("parameters")) < 1000, "of a burst the relay hears a part"


def test_a_prompt_holds_without_a_relay_and_the_relay_hears_it_later() -> None:
    engine = ScriptedEngine()
    port_of_relay = closed_port()
    with working(engine, websocket_uri=f"ws://127.0.0.1:{port_of_relay}") as port:
        client = SimpleUDPClient("127.0.0.1", port)
        client.send_message("/prompt", "blue")
        until(lambda: engine.parameters["prompt"] == "blue")
        with (
            start_relay(RelaySettings(port=port_of_relay)) as relay,
            Person(relay.websocket) as viewer,
        ):
            until(lambda: viewer.values.get("prompt") == "blue")
            until(lambda: viewer.has("parameters")[-1]["origin"] == "osc")
        client._sock.close()


@needs_oscsend
def test_a_prompt_holds_with_a_local_source() -> None:
    engine = ScriptedEngine()
    with working(engine, source="pattern://bars", sink=["null://"]) as port:
        oscsend(port, "/prompt", "s", "green")
        until(lambda: engine.parameters["prompt"] == "green")


def test_a_busy_port_is_exit_code_2_of_the_worker(programs: Callable[..., Program]) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as taken:
        taken.bind(("127.0.0.1", 0))
        port = taken.getsockname()[1]
        program = programs("main.py", f"--osc-port={port}", "--viewer=off")
        assert program.wait(120) == 2
    (line,) = program.lines
    assert line.startswith(f"dreamrelay: cannot listen for OSC on 127.0.0.1:{port}")
