"""Start, stop, ports, and the real program as a process."""

import json
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from websockets.exceptions import ConnectionClosed

from dreamrelay.config import RelaySettings
from dreamrelay.errors import ConfigError
from dreamrelay.relay.app import Relay
from tests.conftest import ProgramStarter
from tests.relay.clients import (
    answer,
    closed,
    frame,
    hear,
    native,
    raw,
    raw_websocket,
    read_until,
    seed,
)
from tests.support import ROOT, Program, RunningRelay, picture, start_relay, until


def start(programs: ProgramStarter, *arguments: str) -> tuple[Program, RunningRelay]:
    """A real relay process; its hub cannot be looked at."""
    program = programs("server.py", "--port=0", *arguments)
    url = program.line(r"(http://[\w.:\[\]]+:\d+)/?").group(1)
    relay = RunningRelay(url + "/", hub=None)  # type: ignore[arg-type]
    until(lambda: answer(relay, "/healthz")[0] == 200)
    return program, relay


class TestPort:
    def test_a_taken_port_is_one_clear_line(self) -> None:
        with socket.socket() as taken:
            taken.bind(("127.0.0.1", 0))
            taken.listen()
            port = taken.getsockname()[1]
            with pytest.raises(ConfigError) as caught:
                Relay(RelaySettings(port=port)).bind()
        text = str(caught.value)
        assert "\n" not in text
        assert f"127.0.0.1:{port}" in text
        assert f"--port={port + 1}" in text

    def test_two_relays(self) -> None:
        with start_relay(RelaySettings(port=0)) as relay:
            port = urlsplit(relay.url).port
            with pytest.raises(ConfigError), Relay(RelaySettings(port=port or 0)).running():
                pass

    @pytest.mark.parametrize("host", ["192.0.2.1", "no.such.invalid", "x" * 300, "a..b", "::2"])
    def test_an_address_that_is_not_ours(self, host: str) -> None:
        with pytest.raises(ConfigError) as caught:
            Relay(RelaySettings(host=host, port=0)).bind()
        assert "\n" not in str(caught.value)

    @pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
    def test_both_loopback_addresses_answer(self, host: str) -> None:
        if not socket.has_ipv6:
            pytest.skip("this Python knows no IPv6")
        with start_relay(RelaySettings(host=host, port=0)) as relay:
            port = urlsplit(relay.url).port
            try:
                connection = socket.create_connection(("::1", port or 0), 5)
            except OSError as error:
                if error.errno in (97, 99):
                    pytest.skip("this machine has no IPv6 loopback")
                raise
            connection.sendall(b"GET /healthz HTTP/1.0\r\n\r\n")
            assert b"200 OK" in closed(connection)
            connection.close()

    def test_all_addresses_are_those_of_both_families(self) -> None:
        """The link that is printed for ``--host=::`` names an address of IPv4."""
        try:
            Relay(RelaySettings(host="::1", port=0)).bind()
        except ConfigError:
            pytest.skip("this machine has no IPv6 loopback")
        with start_relay(RelaySettings(host="::", port=0)) as relay:
            port = urlsplit(relay.url).port or 0
            for address in ("::1", "127.0.0.1"):
                with socket.create_connection((address, port), 20) as connection:
                    connection.sendall(b"GET /healthz HTTP/1.0\r\n\r\n")
                    assert b"200 OK" in closed(connection)

    def test_the_port_is_free_again(self) -> None:
        with start_relay(RelaySettings(port=0)) as relay:
            port = urlsplit(relay.url).port or 0
            with native(relay, "viewer"):
                pass
        with start_relay(RelaySettings(port=port)):
            pass


class TestStopping:
    def test_everybody_is_told(self) -> None:
        with start_relay(RelaySettings(port=0, stall_seconds=90)) as relay:
            bare = raw(relay)
            bare.sendall(b"GET /streams/default/mjpeg HTTP/1.1\r\nHost: localhost\r\n\r\n")
            read_until(bare, b"\r\n\r\n")
            stuck = raw_websocket(relay, "/streams/default/viewer?track=input&credit=99", 4096)
            codes: list[int | None] = []

            def wait() -> None:
                with native(relay, "viewer") as viewer:
                    ready.set()
                    try:
                        while True:
                            viewer.receive(60)
                    except ConnectionClosed as gone:
                        codes.append(gone.rcvd.code if gone.rcvd else None)

            ready = threading.Event()
            thread = threading.Thread(target=wait)
            thread.start()
            assert ready.wait(30)
            with native(relay, "producer") as producer:
                for _ in range(30):
                    producer.publish(picture(form="PNG").ljust(200_000, b"\0"))
            began = time.monotonic()
        assert time.monotonic() - began < 45  # it does not wait for a stall
        thread.join(30)
        assert codes == [1012]
        assert closed(bare).endswith(b"0\r\n\r\n")  # the answer has its end
        bare.close()
        stuck.close()

    def test_one_who_said_goodbye_and_reads_nothing(self) -> None:
        """Its connection is still there, and nobody says goodbye to it twice."""
        with start_relay(RelaySettings(port=0)) as relay:
            stuck = raw_websocket(relay, "/streams/default/viewer?track=input&credit=99", 4096)
            with native(relay, "producer") as producer:
                for _ in range(30):
                    producer.publish(picture(form="PNG").ljust(200_000, b"\0"))
                stuck.sendall(frame(8, b"\x03\xe8"))
                until(lambda: relay.hub.streams["default"].status()["viewers"] == 0)
        stuck.close()

    @pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
    def test_a_signal_drains_the_program(
        self, programs: ProgramStarter, number: signal.Signals
    ) -> None:
        if sys.platform == "win32" and number == signal.SIGTERM:
            pytest.skip("Windows ends a process at once")
        program, relay = start(programs)
        with native(relay, "viewer") as viewer, seed(relay) as client:
            hear(client)
            bare = raw(relay)
            bare.sendall(b"GET /streams/default/mjpeg HTTP/1.1\r\nHost: localhost\r\n\r\n")
            read_until(bare, b"\r\n\r\n")
            began = time.monotonic()
            program._process.send_signal(number)
            gone = None
            while gone is None:
                try:
                    viewer.receive()
                except ConnectionClosed as error:
                    gone = error
            assert gone.rcvd is not None
            assert gone.rcvd.code == 1012
            assert closed(bare).endswith(b"0\r\n\r\n")
            bare.close()
        assert program.wait(15) == 0
        assert time.monotonic() - began < 30
        assert "Traceback" not in program.output

    def test_a_taken_port_ends_the_program_with_one_line(self, programs: ProgramStarter) -> None:
        with socket.socket() as taken:
            taken.bind(("127.0.0.1", 0))
            taken.listen()
            port = taken.getsockname()[1]
            program = programs("server.py", f"--port={port}")
            assert program.wait(30) == 2
        lines = [line for line in program.lines if line.strip()]
        assert len(lines) == 1
        assert f"--port={port + 1}" in lines[0]


def _memory(pid: int) -> int:
    """Bytes of memory that a process has to itself."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("RssAnon:"):
            return int(line.split()[1]) * 1024
    raise AssertionError("no RssAnon")


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="reads Linux's /proc")
def test_memory_stays_flat_with_peers_that_do_not_read(programs: ProgramStarter) -> None:
    """100 MB pass by; what is kept for three viewers that read nothing is a few pictures."""
    program, relay = start(programs)
    data = picture(form="PNG").ljust(500_000, b"\x5a")
    with native(relay, "producer") as producer, native(relay, "viewer", "?track=input") as viewer:
        for _ in range(20):  # the allocator and the code of the way warm up
            producer.publish(data)
            viewer.packet()
            viewer.credit()
        stuck = [
            raw_websocket(relay, f"/streams/default/viewer?track=input&credit={credit}", 4096)
            for credit in (0, 1, 1024)
        ]
        until(lambda: json.loads(relay.get("/streams/default"))["viewers"] == 4)
        before = _memory(program.pid)
        most = 0
        seen = []
        for _ in range(200):
            producer.publish(data)
            seen.append(viewer.packet().seq)
            viewer.credit()
            most = max(most, _memory(program.pid))
        assert seen == sorted(set(seen))
        assert most - before < 25_000_000
        for bare in stuck:
            bare.close()


def test_the_relay_starts_without_what_it_does_not_need() -> None:
    code = (
        "import sys, dreamrelay.relay.app\n"
        "heavy = {'numpy', 'torch', 'PySide6', 'cv2', 'PIL', 'diffusers', 'mss', 'pythonosc'}\n"
        "print(sorted(heavy & set(sys.modules)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "[]"
