"""What is told without being asked, on real sockets."""

import shutil
import socket
import subprocess
from collections.abc import Mapping
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from dreamrelay.errors import ConfigError
from dreamrelay.osc import OscServer, Standing
from dreamrelay.osc.feedback import MAX_ERRORS, MAX_TARGETS, Feedback, Subject, Target, find
from dreamrelay.osc.wire import encode
from tests.osc.support import SCHEMA, TOLD, VALUES, Scene, Wire, serving
from tests.support import until

RULES = {**SCHEMA["properties"], "look": SCHEMA["$defs"]["Look"]}


@dataclass
class Known:
    rules: Mapping[str, Any]


def subjects(scene: Scene | None = None, prefix: str = "") -> list[Subject]:
    return [Subject(prefix, (scene or Scene()).steered(), Known(RULES))]


def test_every_target_is_told_how_things_are_and_each_change(tmp_path: Path) -> None:
    scene = Scene()
    wires = [Wire(), Wire()]
    out = tuple(f"127.0.0.1:{wire.port}" for wire in wires)
    with serving(scene, tmp_path, out=out) as server:
        for wire in wires:
            assert {wire.read().address for _ in TOLD} == TOLD
            assert wire.until("/heartbeat").arguments == (1,)
        scene.values = {**scene.values, "strength": 0.75}  # by whatever door
        for wire in wires:
            wire.until("/strength", 0.75)
        scene.standing = Standing("paused", "stopped: /start begins", 0.0, 61.0)
        wires[0].until("/state", "paused", "stopped: /start begins")
        sender = Wire(server.port)
        sender.send(encode("/seed", 11))
        wires[1].until("/seed", 11)
        sender.send(encode("/seed", -1))
        error = wires[1].until("/error")
        assert error.arguments[0] == "/seed"
        scene.standing = Standing("live", "", 24.5, 61.0, trouble="the camera is gone")
        assert wires[1].until("/error").arguments == ("", "the camera is gone")
        assert wires[1].until("/heartbeat").arguments[0] >= 2
        sender.socket.close()
    for wire in wires:
        wire.socket.close()


@pytest.mark.parametrize(
    ("host", "target"),
    [("127.0.0.1", "localhost"), ("::1", "[::1]"), ("0.0.0.0", "127.0.0.1"), ("::", "127.0.0.1")],
)
def test_to_be_told_where_one_listens_is_refused(host: str, target: str) -> None:
    """It would go round and round, old values over new ones."""
    with socket.socket(find(host, 0)[0], socket.SOCK_DGRAM) as free:
        free.bind((host, 0))
        port = free.getsockname()[1]
    with pytest.raises(ConfigError, match="where we listen"):
        OscServer(host, port, Scene().steered(), out=[f"{target}:{port}"])
    OscServer(host, port, Scene().steered(), out=[f"192.0.2.1:{port}"]).close()
    if host == "127.0.0.1":  # another address of this machine is another program's
        OscServer(host, port, Scene().steered(), out=[f"127.0.0.2:{port}"]).close()


def test_what_one_tells_sets_the_same_at_another(tmp_path: Path) -> None:
    """Two that tell each other come to rest."""
    scenes = [Scene(), Scene()]
    wire = Wire()
    port = wire.port
    wire.socket.close()
    with (
        serving(scenes[0], tmp_path, out=(f"127.0.0.1:{port}",)) as one,
        closing(
            OscServer("127.0.0.1", port, scenes[1].steered(), out=[f"127.0.0.1:{one.port}"])
        ) as two,
    ):
        two.introduce(SCHEMA)
        two.start()
        until(lambda: one.statistics.messages > 14 and two.statistics.messages > 14)
        assert [scene.values for scene in scenes] == [VALUES] * 2
        assert one.statistics.refused == two.statistics.refused == 0


def test_localhost_is_where_the_tools_of_the_stage_listen() -> None:
    assert find("localhost", 9000)[0] == socket.AF_INET


def test_everybody_in_a_network_can_be_told(caplog: pytest.LogCaptureFixture) -> None:
    target = Target("255.255.255.255:9")
    target.send(encode("/x"))
    target.close()
    assert "ermission" not in caplog.text


def test_who_cannot_be_reached_is_named_once(caplog: pytest.LogCaptureFixture) -> None:
    target = Target("127.0.0.1:9")
    for _ in range(3):
        target.send(bytes(70_000))  # more than a datagram holds
        target.send(encode("/x"))
    target.close()
    assert len(caplog.records) == 1


def test_the_same_error_a_thousand_times_is_told_once_a_second() -> None:
    feedback = Feedback(["127.0.0.1:9"], subjects())
    feedback.due(0.0)
    for beat in (1, 2):
        for look in range(5):
            for number in range(50):
                feedback.error("/rubbish", f"no such address {number % 2}")
            due = feedback.due(beat - 1 + 0.1 * (look + 1))
            assert len([one for one in due if one[0] == "/error"]) == (0 if look else 2)
        for number in range(100):
            feedback.error("/rubbish", f"no such address {number}")
        assert len(feedback.due(beat - 0.1)) <= MAX_ERRORS
        feedback.due(beat)
    feedback.close()


def test_when_what_is_due() -> None:
    scene = Scene()
    feedback = Feedback([], subjects(scene))
    first = dict(feedback.due(0.0))
    assert first["/heartbeat"] == [1]
    assert first["/fps"] == [24.5]
    assert set(first) == {*TOLD, "/heartbeat"}
    assert feedback.due(0.05) == []
    scene.values = {**scene.values, "glow": True}
    assert feedback.due(0.10) == [("/glow", [1])]
    assert [address for address, _ in feedback.due(1.05)] == ["/fps", "/age", "/heartbeat"]
    scene.standing = replace(scene.standing, latency={"infer": (1.0, 2.0, 3.0)})
    assert ("/latency/infer", [1, 2, 3]) in feedback.due(2.1)
    scene.standing = replace(scene.standing, prompts=(1, 2))
    assert feedback.due(2.15) == [("/prompt_cache", [1, 2])]
    assert feedback.due(2.2) == []
    scene.standing = replace(scene.standing, latency={})
    later = dict(feedback.due(5.0))
    assert set(later) == set(first), "all again now and then: a datagram may be lost"
    assert feedback.due(5.05) == []


def test_others_are_told_of_at_their_names() -> None:
    first, other = Scene(), Scene()
    feedback = Feedback([], [*subjects(first), *subjects(other, "/stream/bar")])
    told = dict(feedback.due(0.0))
    assert set(told) == {*TOLD, *(f"/stream/bar{one}" for one in TOLD), "/heartbeat"}
    other.values = {**other.values, "seed": 5}
    other.standing = replace(other.standing, trouble="no camera")
    assert feedback.due(0.1) == [
        ("/stream/bar/seed", [5]),
        ("/error", ["/stream/bar", "no camera"]),
    ]
    first.standing = replace(first.standing, trouble="no camera")
    assert feedback.due(0.2) == [("/error", ["", "no camera"])]


def test_a_parameter_called_as_a_figure_does_not_speak_for_it() -> None:
    scene = Scene()
    due = Feedback([], subjects(scene)).due(0.0)
    assert [arguments for address, arguments in due if address == "/fps"] == [[24.5]]
    assert ("/parameters/fps", [30.0]) in due


@pytest.mark.parametrize(
    "name", ["", "localhost", "localhost:", "localhost:0", "localhost:99999", ":9000", "a b:9000"]
)
def test_what_is_no_target(name: str) -> None:
    with pytest.raises(ConfigError, match="--osc-out"):
        Feedback([name], subjects())


def test_so_many_and_no_more() -> None:
    with pytest.raises(ConfigError, match="at most"):
        Feedback(["127.0.0.1:9"] * (MAX_TARGETS + 1), subjects())


@pytest.mark.skipif(shutil.which("oscdump") is None, reason="needs oscdump (liblo-tools)")
def test_oscdump_reads_it(tmp_path: Path) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    dump = subprocess.Popen(["oscdump", "-L", str(port)], stdout=subprocess.PIPE)
    wanted = (b"/heartbeat i ", b"/strength f 0.5", b"/seed i 2", b'/prompt s "a fox"')
    try:
        assert dump.stdout is not None
        with serving(Scene(), tmp_path, out=(f"127.0.0.1:{port}",)):
            seen = b""
            while not all(word in seen for word in wanted):
                line = dump.stdout.readline()
                assert line, "oscdump ended"
                seen += line
    finally:
        dump.kill()
        dump.wait(10)
        if dump.stdout is not None:
            dump.stdout.close()
