"""The server on a real socket: floods, fuzz, answers, and nothing that ends it."""

import logging
import random
import shutil
import socket
import struct
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from dreamrelay.errors import ConfigError
from dreamrelay.osc import OscServer, Steered
from dreamrelay.osc import server as server_module
from dreamrelay.osc.wire import MAX_DATAGRAM, Message, decode, encode
from tests.osc.support import TOLD, Scene, Wire, serving
from tests.support import until

needs_oscsend = pytest.mark.skipif(
    shutil.which("oscsend") is None, reason="needs oscsend (apt install liblo-tools)"
)


@pytest.fixture
def scene() -> Scene:
    return Scene()


@pytest.fixture
def server(scene: Scene, tmp_path: Path) -> Iterator[OscServer]:
    with serving(scene, tmp_path) as server:
        yield server


@pytest.fixture
def wire(server: OscServer) -> Iterator[Wire]:
    wire = Wire(server.port)
    yield wire
    wire.socket.close()


def oscsend(port: int, *arguments: str) -> None:
    subprocess.run(["oscsend", "127.0.0.1", str(port), *arguments], check=True, timeout=30)


@needs_oscsend
@pytest.mark.parametrize(
    ("arguments", "heard"),
    [
        (["/prompt", "s", "a fox, Füchse 狐"], {"prompt": "a fox, Füchse 狐"}),
        (["/prompt", "i", "7"], {"prompt": "7"}),
        (["/prompt", "ss", "good", "bad"], {"prompt": "good", "negative_prompt": "bad"}),
        (["/prompt", "s", ""], {"prompt": ""}),
        (
            ["/prompt", "sfsf", "fox", "0.75", "wolf", "0.25"],
            {"prompts": [{"text": "fox", "weight": 0.75}, {"text": "wolf", "weight": 0.25}]},
        ),
        (["/strength", "f", "0.3"], {"strength": 0.3}),
        (["/strength", "d", "0.3"], {"strength": 0.3}),
        (["/strength", "s", "+0.1"], {"strength": 0.6}),
        (["/strength/add", "f", "-0.1"], {"strength": 0.4}),
        (["/seed", "f", "9"], {"seed": 9}),
        (["/seed", "h", "2147483647"], {"seed": 2147483647}),
        (["/glow", "T"], {"glow": True}),
        (["/look", "i", "1"], {"look": "wild"}),
        (["/steps", "iii", "22", "32", "45"], {"steps": [22, 32, 45]}),
        (["/steps", "N"], {"steps": None}),
        (["/start"], "start"),
        (["/s"], "start"),
        (["/S"], "stop"),
        (["/t"], "trigger"),
        (["/p", "i", "1"], "p"),
        (["/P"], "P"),
        (["/x"], "x"),
    ],
)
def test_oscsend(server: OscServer, scene: Scene, arguments: list[str], heard: Any) -> None:
    oscsend(server.port, *arguments)
    assert until(lambda: scene.heard) == [heard]


def test_a_question_is_answered_to_who_asked(wire: Wire, server: OscServer) -> None:
    other = Wire(server.port)
    wire.send(encode("/strength", "?"))
    assert wire.read() == Message("/strength", (0.5,))
    wire.send(encode("/seed", "?"))
    assert wire.until("/seed").arguments == (2,)
    assert other.silent()
    other.socket.close()


def test_everything_at_once(wire: Wire) -> None:
    wire.send(encode("/query"))
    assert {wire.read().address for _ in TOLD} == TOLD


def test_what_needs_no_answer_has_none(wire: Wire, scene: Scene) -> None:
    wire.send(encode("/prompt", "x"))
    wire.send(encode("/start"))
    until(lambda: len(scene.heard) == 2)
    assert wire.silent()


@pytest.mark.parametrize(
    ("datagram", "address", "reason"),
    [
        (encode("/nothing", 1), "/nothing", "no such address"),
        (encode("/strength", 3.0), "/strength", "expected 0..1, got 3"),
        (encode("/prompt", None), "/prompt", "expected a text"),
        (b"rubbish", "", "expected"),
        (bytes(MAX_DATAGRAM + 100), "", "bytes"),
    ],
)
def test_a_bad_one_is_answered_with_error(
    wire: Wire, scene: Scene, datagram: bytes, address: str, reason: str
) -> None:
    wire.send(datagram)
    error = wire.read()
    assert error.address == "/error"
    assert error.arguments[0] == address
    assert reason in error.arguments[1]
    wire.send(encode("/prompt", "after"))
    until(lambda: scene.patches)
    assert scene.patches == [{"prompt": "after"}]


def test_a_bundle_is_one_change_and_its_bad_part_costs_itself(wire: Wire, scene: Scene) -> None:
    parts = (encode("/prompt", "b"), encode("/strength", 9.0), encode("/seed", 5), b"/bad")
    sized = b"".join(struct.pack(">i", len(part)) + part for part in parts)
    in_the_future = struct.pack(">II", 4_200_000_000, 0)
    wire.send(b"#bundle\0" + in_the_future + sized)
    until(lambda: scene.patches)
    assert scene.patches == [{"prompt": "b", "seed": 5}]
    assert [wire.read().arguments[0] for _ in range(2)] == ["/strength", ""]


def test_a_burst_ends_with_the_newest_value_and_makes_few_patches(
    wire: Wire, scene: Scene, server: OscServer
) -> None:
    for number in range(2000):
        wire.send(encode("/prompt", f"prompt {number}"))
        if number % 50 == 49:  # the machine's buffer may be small, and that is not ours
            until(lambda: server.statistics.messages == number + 1)  # noqa: B023 - at once
    until(lambda: scene.values["prompt"] == "prompt 1999")
    assert scene.patches[0] == {"prompt": "prompt 0"}, "the first goes on at once"
    numbers = [int(patch["prompt"].split()[1]) for patch in scene.patches]
    assert numbers == sorted(numbers)
    assert len(numbers) <= 1900


def test_twenty_thousand_fuzzed_datagrams_and_no_good_one_is_lost(
    wire: Wire, scene: Scene, server: OscServer, caplog: pytest.LogCaptureFixture
) -> None:
    rng = random.Random(5)
    caplog.set_level(logging.CRITICAL)
    good = [
        encode("/prompt", "a good prompt", "bad"),
        encode("/strength", 0.5),
        encode("/steps", 1, 2, 3),
        encode("/trigger", 1.0),
        encode("/preset", 3),
    ]
    good.append(b"#bundle\0" + bytes(8) + b"".join(struct.pack(">i", len(g)) + g for g in good))
    scene.values["seed"] = 0
    for number in range(20_000):
        wire.send(fuzzed(rng, good) if number % 100 else encode("/seed/add", 1))
        if number % 200 == 199:  # what a full buffer of the machine drops is not ours
            sent = number + 1
            until(lambda: server.statistics.datagrams == sent, every=0.001)  # noqa: B023 - at once
    until(lambda: scene.values["seed"] == 200)
    assert server.statistics.refused > 5_000
    wire.send(encode("/prompt", "the end"))
    until(lambda: scene.values["prompt"] == "the end")


def fuzzed(rng: random.Random, good: list[bytes]) -> bytes:
    """Random bytes, or a good datagram that was cut, bent, nested, or made huge. No seed is set."""
    kind = rng.randrange(6)
    data = bytearray(rng.choice(good))
    if kind == 0:
        return rng.randbytes(rng.randrange(120))
    if kind == 1:
        return bytes(data[: rng.randrange(len(data))])
    if kind == 2:
        for _ in range(rng.randrange(1, 6)):
            data[rng.randrange(len(data))] = rng.randrange(256)
        return bytes(data)
    if kind == 3:
        for _ in range(rng.randrange(1, 40)):
            size = len(data) if rng.random() < 0.9 else rng.randrange(-(2**31), 2**31)
            data = bytearray(b"#bundle\0" + bytes(8) + struct.pack(">i", size) + data)
        return bytes(data)
    if kind == 4:
        tags = "".join(rng.choices("ifsbTFNI[]hdtSrmcQ", k=rng.randrange(12)))
        address = rng.choice(["/prompt", "/strength", "/steps", "/glow", "/t", "/preset/save/1"])
        head = address.encode() + bytes(4 - len(address) % 4)
        types = b"," + tags.encode()
        return head + types + bytes(4 - len(types) % 4) + rng.randbytes(rng.randrange(64))
    # Each four zeros behind a bundle are one more element; so many that the limit of elements a
    # second, and not the fuzz, would be measured belong to a test of that limit.
    return bytes(data) + (b"\0" * rng.choice([1, 3, 4, 40]))


def test_a_mistake_of_ours_costs_one_message(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    heard: list[Any] = []

    def fails(values: dict[str, Any]) -> None:
        if values["prompt"] == "fail":
            raise RuntimeError("a mistake")
        heard.append(values)

    def command(word: str) -> None:
        raise RuntimeError("another one")

    server = OscServer("127.0.0.1", 0, Steered(change=fails, command=command))
    server.start()
    wire = Wire(server.port)
    try:
        wire.send(encode("/start"))
        assert wire.read().arguments == ("/start", "it failed")
        wire.send(encode("/prompt", "fail"))
        until(lambda: "a mistake" in caplog.text)
        wire.send(encode("/prompt", "good"))
        until(lambda: heard)
    finally:
        wire.socket.close()
        server.close()
    assert "another one" in caplog.text


def test_a_mistake_in_reading_costs_one_datagram_and_fills_no_disk(
    wire: Wire,
    scene: Scene,
    server: OscServer,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    def fails(datagram: bytes) -> Iterator[Message]:
        if datagram == b"mistake":
            raise RuntimeError("a mistake")
        return iter([Message("/seed", (7,))])

    lines = iter([True])
    monkeypatch.setattr(server._lines, "take", lambda: next(lines, False))
    monkeypatch.setattr(server_module, "decode", fails)
    for _ in range(30):
        wire.send(b"mistake")
    wire.send(b"good")
    until(lambda: scene.values["seed"] == 7)
    (record,) = caplog.records
    assert "a datagram failed" in record.message


def test_answers_and_lines_of_the_log_have_an_end(
    wire: Wire, server: OscServer, caplog: pytest.LogCaptureFixture
) -> None:
    for number in range(3000):
        wire.send(encode("/nothing"))
        if number % 50 == 49:
            until(lambda: server.statistics.datagrams == number + 1)  # noqa: B023 - at once
    assert server.statistics.refused == 3000
    seconds = 40
    assert server.statistics.replies < server_module.MAX_REPLIES * seconds
    assert len(caplog.records) < 3000
    assert server.statistics.replies < 3000


def test_more_than_a_second_holds_waits_for_the_next(
    scene: Scene, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server_module, "MAX_PER_SECOND", 30)
    with serving(scene, tmp_path) as server:
        wire = Wire(server.port)
        for number in range(50):
            wire.send(encode("/seed", number))
        until(lambda: scene.values["seed"] == 49)
        assert server.statistics.messages == 50
        wire.socket.close()


class GoneAgain(socket.socket):
    """On Windows whoever answers somebody that has gone hears so at his next reading."""

    gone = 0

    def recvfrom(self, *arguments: int) -> Any:
        datagram, sender = super().recvfrom(*arguments)
        if datagram == b"gone":
            GoneAgain.gone += 1
            raise ConnectionResetError(10054, "An existing connection was forcibly closed")
        return datagram, sender


def test_somebody_who_has_gone_keeps_nobody_waiting(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(socket, "socket", GoneAgain)
    scene = Scene()
    waited: list[float] = []

    def wait(seconds: float) -> bool:
        waited.append(seconds)
        return False

    with serving(scene, tmp_path) as server:
        monkeypatch.setattr(server._closing, "wait", wait)
        wire = Wire(server.port)
        for number in range(100):
            wire.send(b"gone")
            wire.send(encode("/seed", number))
        until(lambda: scene.values["seed"] == 99)
        until(lambda: GoneAgain.gone == 100)
        assert not waited
        wire.socket.close()


def test_who_sends_rubbish_leaves_others_their_answers(wire: Wire, server: OscServer) -> None:
    other = Wire(server.port)
    for number in range(300):
        wire.send(encode("/composition/nothing", number))
        if number % 50 == 49:
            until(lambda: server.statistics.datagrams >= number + 1)  # noqa: B023 - at once
    other.send(encode("/strength", "?"))
    assert other.read() == Message("/strength", (0.5,))
    other.socket.close()


def test_each_stream_has_its_addresses(scene: Scene, tmp_path: Path) -> None:
    bar, door, told = Scene(), Scene(), Wire()
    others = {"bar": bar, "door-2": door}
    with serving(scene, tmp_path, beside=others, out=(f"127.0.0.1:{told.port}",)) as server:
        wire = Wire(server.port)
        wire.send(encode("/stream/bar/prompt", "a wolf", "ugly"))
        wire.send(encode("/stream/bar/t"))
        wire.send(encode("/stream/door-2/seed/add", 3))
        wire.send(encode("/stream/stage/prompt", "a stage"))
        wire.send(encode("/strength", 0.75))
        until(lambda: scene.values["strength"] == 0.75 and door.values["seed"] == 5)
        assert bar.heard == [{"prompt": "a wolf", "negative_prompt": "ugly"}, "trigger"]
        assert (scene.values["prompt"], scene.values["seed"]) == ("a stage", 2)
        told.until("/stream/bar/prompt", "a wolf")
        wire.send(encode("/stream/bar/prompt", "?"))
        assert wire.read() == Message("/stream/bar/prompt", ("a wolf",))
        wire.send(encode("/stream/bar/strength", 9.0))
        assert wire.read().arguments == ("/stream/bar/strength", "expected 0..1, got 9")
        for address in ("/stream/roof/prompt", "/stream/", "/stream/bar", "/stream/bar/stream/x"):
            wire.send(encode(address, "x"))
            assert wire.read().arguments[0] == address
        wire.send(encode("/stream/roof/prompt", "x"))
        assert "stage, bar, door-2" in str(wire.read().arguments[1])
        wire.socket.close()
    told.socket.close()


def test_every_address_of_both_kinds(tmp_path: Path) -> None:
    server = OscServer("::", 0, Scene().steered(), presets=tmp_path / "presets.json")
    server.start()
    for family, host in ((socket.AF_INET, "127.0.0.1"), (socket.AF_INET6, "::1")):
        with socket.socket(family, socket.SOCK_DGRAM) as somebody:
            somebody.settimeout(20)
            somebody.sendto(encode("/fps", "?"), (host, server.port))
            assert list(decode(somebody.recv(1000))) == [Message("/fps", (24.5,))]
    server.close()


def test_a_busy_port_is_named_with_a_way_out() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as taken:
        taken.bind(("127.0.0.1", 0))
        port = taken.getsockname()[1]
        with pytest.raises(ConfigError, match=rf"127.0.0.1:{port}.*--osc-port="):
            OscServer("127.0.0.1", port, Scene().steered())


def test_an_address_that_is_not_of_this_machine_is_not_blamed_on_the_port() -> None:
    with pytest.raises(ConfigError, match=r"0.0.0.0 all of its addresses") as refused:
        OscServer("192.0.2.1", 7000, Scene().steered())
    assert "Resolume" not in str(refused.value)


@pytest.mark.parametrize("host", ["no.such.host.invalid", "1.2.3.4.5", "239.0.0.1", "ff02::1"])
def test_an_address_that_is_none(host: str) -> None:
    with pytest.raises(ConfigError, match="--osc-ip"):
        OscServer(host, 0, Scene().steered())


def test_a_server_that_never_began_can_be_closed_twice() -> None:
    server = OscServer("127.0.0.1", 0, Scene().steered())
    port = server.port
    server.close()
    server.close()
    OscServer("127.0.0.1", port, Scene().steered()).close()
