"""The whole way, with real processes and the real pocket model; asserted on the pixels.

One relay and one worker serve all tests of this file, as they would a show; each test brings its
producer.
"""

import asyncio
import base64
import json
import shutil
import subprocess
import sys
import urllib.request
from collections.abc import Callable, Iterator
from email.message import Message
from pathlib import Path
from typing import Any

import pytest
from websockets.asyncio.client import connect

from dreamrelay.packet import Hop, Packet
from dreamrelay.protocol.native import decode_packet, encode_text
from tests.support import ROOT, Program, mean_colour, picture, until

pytestmark = [pytest.mark.xdist_group("e2e"), pytest.mark.timeout(300)]

RED, GREEN, BLUE = 0, 1, 2


class Show:
    """A running relay and worker, and what people do with them."""

    def __init__(self, relay: Program, worker: Program, url: str, osc_port: int) -> None:
        self.relay = relay
        self.worker = worker
        self.url = url
        self.websocket = "ws" + url[4:]
        self.osc_port = osc_port

    def get(self, path: str) -> tuple[bytes, Message]:
        with urllib.request.urlopen(f"{self.url}{path}", timeout=20) as reply:
            return reply.read(), reply.headers

    def json(self, path: str) -> dict[str, Any]:
        fields: dict[str, Any] = json.loads(self.get(path)[0])
        return fields

    def patch(self, **parameters: object) -> int:
        """Change parameters over REST; the revision they are."""
        request = urllib.request.Request(
            f"{self.url}/streams/default/parameters",
            data=json.dumps(parameters).encode(),
            method="PATCH",
        )
        with urllib.request.urlopen(request, timeout=20) as reply:
            return int(json.loads(reply.read())["revision"])

    @property
    def revision(self) -> int:
        return int(self.json("/streams/default/parameters")["revision"])

    @property
    def seq_in(self) -> int:
        """Pictures so far; those from the prompt alone are numbered in the same row."""
        streams = self.json("/streams")["streams"]
        return int(streams[0]["seq_in"]) if streams else 0

    def output(self, revision: int) -> bytes:
        """The first snapshot made under ``revision`` or a later one."""

        def current() -> bytes | None:
            if not self.json("/streams/default")["seq_out"]:
                return None
            body, headers = self.get("/streams/default/snapshot.jpg")
            return body if int(headers["X-Revision"]) >= revision else None

        return until(current, 120, f"a picture of revision {revision}\n{self.worker.output}")

    def turns(self, channel: int, revision: int) -> bool:
        """Whether the output under that revision is mostly of one colour."""
        colour = mean_colour(self.output(revision))
        others = [value for i, value in enumerate(colour) if i != channel]
        return colour[channel] > 1.2 * max(others)


@pytest.fixture(scope="module")
def show() -> Iterator[Show]:
    relay = Program("server.py", "--port=0")
    worker: Program | None = None
    try:
        url = relay.line(r"studio at (http://[\d.]+:\d+)/")[1]
        worker = Program(
            "main.py",
            f"--websocket_uri=ws{url[4:]}",
            "--osc_port=0",
            "--viewer=off",
            "--seed=3",
            "--verbose=2",
        )
        osc_port = int(worker.line(r"OSC: /prompt at 127.0.0.1:(\d+)")[1])
        worker.line("is ready", 180)
        yield Show(relay, worker, url, osc_port)
    finally:
        if worker is not None:
            worker.stop()
        relay.stop()


@pytest.fixture
def bars(show: Show, programs: Callable[..., Program]) -> Program:
    """A producer that sends the test card, and does so already."""
    before = show.seq_in
    program = programs(
        "client.py",
        "--mode=pattern",
        f"--websocket_uri={show.websocket}",
        "--fps=10",
        "--duration=none",
    )
    until(lambda: show.seq_in > before, 60, f"pictures of the test card\n{program.output}")
    return program


async def watch(
    show: Show,
    count: int,
    track: str = "output",
    *,
    revision: int = 0,
    made_from_input: bool = False,
) -> list[Packet]:
    """What a viewer over WebSocket gets, ``count`` packets: made under ``revision`` or a later one,
    and, if wished, of an input.
    """
    packets: list[Packet] = []
    uri = f"{show.websocket}/streams/default/viewer?track={track}"
    async with asyncio.timeout(120), connect(uri, compression=None) as websocket:
        async for message in websocket:
            if isinstance(message, bytes):
                packet = decode_packet(message)[0]
                relayed = any(stamp.hop == Hop.RELAYED for stamp in packet.stamps)
                if packet.revision >= revision and relayed >= made_from_input:
                    packets.append(packet)
                if len(packets) == count:
                    break
                await websocket.send(encode_text("credit", count=1))
    return packets


async def test_the_prompt_alone_is_painted_until_a_source_comes(
    show: Show, programs: Callable[..., Program]
) -> None:
    """The studio is alive before a camera is connected."""
    show.patch(prompt="blue", strength=0.7)
    packets = await watch(show, 6)
    assert len({packet.data for packet in packets}) == 6
    assert all(stamp.hop != Hop.RECEIVED for packet in packets for stamp in packet.stamps)
    blue = mean_colour(packets[-1].data)
    assert blue[BLUE] > 1.1 * max(blue[RED], blue[GREEN])
    revision = show.patch(prompt="red")
    red = mean_colour((await watch(show, 3, revision=revision))[-1].data)
    assert red[RED] > 1.1 * max(red[BLUE], red[GREEN])
    programs(
        "client.py",
        "--source=dream://?width=256&height=256",
        f"--websocket_uri={show.websocket}",
        "--duration=none",
    )
    (made,) = await watch(show, 1, made_from_input=True)
    assert Hop.RECEIVED in [stamp.hop for stamp in made.stamps]


async def test_a_viewer_gets_results_in_order_with_their_whole_way(
    show: Show, bars: Program
) -> None:
    packets = await watch(show, 5)
    numbers = [packet.seq for packet in packets]
    assert numbers == sorted(set(numbers))
    newest = packets[-1]
    assert (newest.width, newest.height) == (256, 256)
    assert [stamp.hop for stamp in newest.stamps] == [
        Hop.ENCODED,
        Hop.RELAYED,
        Hop.HANDED,
        Hop.RECEIVED,
        Hop.DECODED,
        Hop.INFER,
        Hop.INFERRED,
        Hop.REENCODED,
        Hop.RETURNED,
    ]
    times = [newest.captured_ns, *(stamp.ns for stamp in newest.stamps)]
    assert times == sorted(times)


def test_rest_turns_the_picture_blue_and_then_red(show: Show, bars: Program) -> None:
    assert show.turns(BLUE, show.patch(prompt="blue neon", strength=0.7))
    assert show.turns(RED, show.patch(prompt="red oil painting"))


async def test_a_native_peer_turns_the_picture_blue(show: Show, bars: Program) -> None:
    show.patch(prompt="red", strength=0.7)
    async with connect(f"{show.websocket}/streams/default/viewer?credit=0") as websocket:
        await websocket.send(encode_text("parameters", patch={"prompt": "blue"}, id="mine"))
        async with asyncio.timeout(30):
            while True:
                fields = json.loads(await websocket.recv())
                if fields["type"] == "parameters" and fields["id"] == "mine":
                    break
    assert show.turns(BLUE, fields["revision"])


async def test_a_seed_client_turns_the_picture_red(show: Show, bars: Program) -> None:
    before = show.patch(prompt="blue", strength=0.7)
    async with connect(show.websocket) as websocket:
        await websocket.send(json.dumps({"type": "prompt_update", "prompt": "red"}))
        reply = json.loads(await websocket.recv())
    assert (reply["type"], reply["status"]) == ("prompt_updated", "queued")
    assert show.turns(RED, before + 1)


@pytest.mark.skipif(shutil.which("oscsend") is None, reason="oscsend (liblo-tools) is not here")
def test_oscsend_turns_the_picture_blue(show: Show, bars: Program) -> None:
    before = show.patch(prompt="red", strength=0.7)
    subprocess.run(
        ["oscsend", "127.0.0.1", str(show.osc_port), "/prompt", "s", "blue neon"], check=True
    )
    revision = until(lambda: show.revision if show.revision > before else None, 30)
    assert show.json("/streams/default/parameters")["values"]["prompt"] == "blue neon"
    assert show.turns(BLUE, revision)


def test_mjpeg_and_snapshot_show_the_same_stream(show: Show, bars: Program) -> None:
    show.output(show.patch(prompt="blue", strength=0.7))
    with urllib.request.urlopen(f"{show.url}/streams/default/mjpeg", timeout=60) as reply:
        assert reply.headers["Content-Type"].startswith("multipart/x-mixed-replace; boundary=")
        parts: list[bytes] = []
        while len(parts) < 2:
            line = reply.readline()
            if line.lower().startswith(b"content-length:"):
                length = int(line.split(b":")[1])
                assert reply.readline() == b"\r\n"
                parts.append(reply.read(length))
    colour = mean_colour(parts[-1])
    assert colour[BLUE] > 1.2 * max(colour[RED], colour[GREEN])


def test_a_static_picture_and_a_folder(
    show: Show, programs: Callable[..., Program], tmp_path: Path
) -> None:
    (tmp_path / "a.jpg").write_bytes(picture("white", (300, 200)))
    (tmp_path / "b.png").write_bytes(picture("grey", (64, 64), "PNG"))
    (tmp_path / "broken.jpg").write_bytes(b"\xff\xd8 no picture")
    revision = show.patch(prompt="gold", strength=0.7)
    uri = f"--websocket_uri={show.websocket}"
    still = programs(
        "client.py", "--mode=static", f"--source={tmp_path / 'a.jpg'}", uri, "--duration=3"
    )
    red, _, blue = mean_colour(show.output(revision))
    assert red > blue + 20
    assert still.wait() == 0
    folder = programs(
        "client.py", "--mode=directory", f"--source={tmp_path}", uri, "--loop=False", "--fps=5"
    )
    assert folder.wait() == 0
    assert "acked 2" in folder.output
    assert "broken.jpg" in folder.output


@pytest.mark.parametrize("binary", [False, True], ids=["base64", "binary"])
def test_one_picture_there_and_back_under_its_own_prompt(
    show: Show, tmp_path: Path, binary: bool
) -> None:
    before = show.patch(prompt="red", strength=0.7)
    source = tmp_path / "in.png"
    source.write_bytes(picture("grey", (120, 80), "PNG"))
    script = str(ROOT / "client.py")
    flags = ["--binary"] if binary else []
    done = subprocess.run(
        [sys.executable, script, *flags, str(source), "blue", show.websocket],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    name = "output_client_binary.jpg" if binary else "output_client_base64.jpg"
    red, _, blue = mean_colour((tmp_path / name).read_bytes())
    assert blue > red + 20
    # The stream itself is as it was.
    assert show.revision == before
    assert show.json("/streams/default/parameters")["values"]["prompt"] == "red"


async def test_the_seed_s_image_loop_is_acked_and_transformed(show: Show) -> None:
    revision = show.patch(prompt="blue", strength=0.7)
    image = base64.b64encode(picture("white", (128, 128))).decode()
    async with asyncio.timeout(60), connect(show.websocket) as websocket:
        assert json.loads(await websocket.recv())["type"] == "welcome"
        for _ in range(3):
            await websocket.send(json.dumps({"type": "image", "format": "jpeg", "data": image}))
            assert json.loads(await websocket.recv())["type"] == "ack"
        await asyncio.to_thread(show.turns, BLUE, revision)


def test_a_worker_that_is_killed_is_held_and_replaced(show: Show, bars: Program) -> None:
    """Last in the file: it ends the worker that the others use."""
    show.output(show.patch(prompt="blue", strength=0.7))
    show.worker.kill()
    until(lambda: show.json("/streams/default")["state"] == "lost", 30, "the worker to be missed")
    held, _ = show.get("/streams/default/snapshot.jpg")
    assert mean_colour(held)[BLUE] > 100
    until(lambda: show.json("/streams/default")["held"], 30, "the last picture to be held")
    another = Program(
        "main.py", f"--websocket_uri={show.websocket}", "--osc_port=none", "--viewer=off"
    )
    try:
        until(lambda: show.json("/streams/default")["state"] == "live", 180, "another worker")
        values = show.json("/streams/default/parameters")["values"]
        assert (values["prompt"], values["strength"]) == ("blue", 0.7)
        before = show.json("/streams/default")["seq_out"]
        until(lambda: show.json("/streams/default")["seq_out"] > before, 60, "its pictures")
        assert show.turns(BLUE, show.revision)
    finally:
        another.stop()
