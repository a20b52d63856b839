"""The bridge: a local source in, the relay's results out."""

import logging
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from dreamrelay.bridge import Bridge
from dreamrelay.codec import decode
from dreamrelay.config import BridgeSettings, RelaySettings, WorkerSettings
from dreamrelay.errors import ConfigError, DeviceError, DreamRelayError
from dreamrelay.packet import Packet
from dreamrelay.protocol.native import encode_packet
from dreamrelay.worker import Worker
from tests.fakes.engines import ScriptedEngine
from tests.fakes.ndi import shared_program
from tests.fakes.network import ONE_PROCESS, own_network
from tests.fakes.peers import Person
from tests.fakes.relays import Peer, closed_port, scripted_relay
from tests.fakes.running import Running
from tests.fakes.spoutgl import Gpu
from tests.fakes.workers import CYAN, Kept, sink_scheme
from tests.support import Program, RunningRelay, picture, start_relay, until


@pytest.fixture
def sink(monkeypatch: pytest.MonkeyPatch) -> Iterator[Kept]:
    """What ``kept://`` opens. Its third write fails, and the fourth."""

    def before() -> None:
        if kept.tries in (3, 4):
            raise DeviceError("the projector is off")

    kept = Kept(before)
    with sink_scheme(monkeypatch, kept):
        yield kept


@pytest.fixture
def bridge() -> Iterator[Callable[..., Running[Bridge]]]:
    """Run a bridge; it is stopped at the end."""
    with ExitStack() as stack:

        def start(uri: str, **settings: Any) -> Running[Bridge]:
            running = Running(Bridge(BridgeSettings(websocket_uri=uri, **settings)))
            stack.callback(running.stop)
            return running

        yield start


Start = Callable[..., Running[Bridge]]


@pytest.fixture
def worker(relay: RunningRelay) -> Iterator[None]:
    settings = WorkerSettings(
        websocket_uri=relay.websocket, osc_port=None, viewer="off", text_to_picture="off"
    )
    running = Running(Worker(settings, engine=ScriptedEngine()))
    yield
    running.stop()


@pytest.mark.usefixtures("worker")
def test_there_and_back(relay: RunningRelay, bridge: Start, sink: Kept) -> None:
    with Person(relay.websocket) as viewer:
        until(lambda: viewer.status.get("state") == "live")
        running = bridge(relay.websocket, source="pattern://flat?colour=ff0000", sink="kept://")
        until(lambda: len(sink.frames) >= 4)
        assert running.stop() is None
    assert np.abs(sink.frames[0].astype(int) - CYAN).max() < 8
    assert sink.closes == 1
    producer = running.program.producer
    assert producer is not None
    assert producer.statistics.acked >= 4
    assert running.program.statistics.written.count >= 4


@pytest.mark.usefixtures("worker")
def test_spout_in_and_spout_out(
    relay: RunningRelay, bridge: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    gpu = Gpu()
    for name, module in gpu.modules().items():
        monkeypatch.setitem(__import__("sys").modules, name, module)
    monkeypatch.setattr("platform.system", lambda: "Windows")
    red = np.zeros((48, 64, 3), np.uint8)
    red[:] = (255, 0, 0)
    gpu.show("Source Image", red)
    running = bridge(relay.websocket, spout_in="Source Image", spout_out="Stream Diffusion")

    def sent() -> bool:
        gpu.show("Source Image", red)
        return "Stream Diffusion" in gpu.senders

    until(sent)
    seen = gpu.seen("Stream Diffusion")
    assert np.abs(seen[0, 0].astype(int) - CYAN).max() < 8
    assert running.stop() is None


def test_only_out_gets_the_newest_and_survives_broken_results_and_a_failing_sink(
    bridge: Start, sink: Kept, caplog: pytest.LogCaptureFixture
) -> None:
    credits: list[int] = []
    results = [picture("red"), picture()[:300] + bytes(40), *[picture("red")] * 4]

    def talk(peer: Peer) -> None:
        peer.welcome()
        for seq, data in enumerate(results, 1):
            peer.websocket.send(encode_packet(Packet.of(data, seq=seq), "output"))
            credits.append(peer.hear_text("credit")["count"])
            until(lambda: sink.tries + broken() == seq)  # noqa: B023 - waited for at once
        peer.stay()

    running: list[Running[Bridge]] = []

    def broken() -> int:
        return running[0].program.statistics.broken if running else 0

    with scripted_relay(talk) as uri, caplog.at_level(logging.WARNING):
        running.append(bridge(uri, sink="kept://"))
        until(lambda: len(sink.frames) == 3)
        assert running[0].stop() is None
    assert sum(credits) == len(results)
    assert broken() == 1
    assert "result 2 cannot be decoded" in caplog.text
    assert caplog.text.count("the projector is off") == 1


def test_its_status_line_says_why_no_result_comes(relay: RunningRelay, bridge: Start) -> None:
    program = bridge(relay.websocket, sink="null://").program
    until(lambda: program.report() == "out 0 at 0.0 fps, no worker")
    with Person(relay.websocket, "worker") as worker:
        worker.link.introduce({"credit": 1})

        def says(ending: str, **status: str) -> bool:
            worker.link.tell("status", **status)  # again: the first may come before the hello
            return program.report() == f"out 0 at 0.0 fps{ending}"

        paused = {"state": "paused", "text": "stopped: /start begins"}
        ending = ", the worker is paused: stopped: /start begins"
        until(lambda: says(ending, **paused), 60, every=0.2)
        until(lambda: says("", state="live", text=""), 60, every=0.2)


def test_only_in_ends_with_its_source(relay: RunningRelay, bridge: Start, tmp_path: Any) -> None:
    (tmp_path / "1.png").write_bytes(picture(form="PNG"))
    running = bridge(relay.websocket, source=f"directory://{tmp_path}?loop=false")
    assert running.ends() is None
    assert running.program.producer is not None
    assert running.program.producer.statistics.acked == 1


def test_it_comes_back_when_the_relay_is_started_again(bridge: Start, sink: Kept) -> None:
    def show(relay: RunningRelay) -> None:
        with Person(relay.websocket, "worker") as worker:
            worker.link.introduce({"credit": 1})
            before = sink.tries
            until(lambda: worker.status.get("viewers") == 1)
            worker.link.send_picture(Packet.of(picture("red")), "output")
            until(lambda: sink.tries > before)

    with start_relay(RelaySettings(port=0)) as relay:
        running = bridge(relay.websocket, sink="kept://")
        show(relay)
        port = int(relay.websocket.rpartition(":")[2])
    with start_relay(RelaySettings(port=port)) as relay:
        show(relay)
    assert running.stop() is None


@ONE_PROCESS
def test_it_goes_on_through_restarts_of_the_relay_and_of_the_sender(
    bridge: Start, tmp_path: Path
) -> None:
    """Over NDI, from another process; what comes out lies in a file."""
    out = tmp_path / "latest.png"

    def arrives(width: int, height: int) -> bool:
        if not out.exists():
            return False
        frame = decode(out.read_bytes())
        out.unlink(missing_ok=True)
        # The engine inverts: where the sender has red there is cyan.
        red_side = frame[height // 2, width // 2 - height // 3].astype(int)
        return frame.shape == (height, width, 3) and np.abs(red_side - CYAN).max() < 60

    with ExitStack() as stack:
        stack.enter_context(own_network())
        sender = shared_program()
        sender.say("show", 128, 128)
        stack.callback(sender.say, "vanish")
        relay = stack.enter_context(ExitStack())
        running = relay.enter_context(start_relay(RelaySettings(port=0)))
        settings = WorkerSettings(websocket_uri=running.websocket, osc_port=None, viewer="off")
        worker = Running(Worker(settings, engine=ScriptedEngine()))
        stack.callback(worker.stop)
        program = bridge(
            running.websocket,
            source=f"ndi://{sender.name}?timeout=2",
            sink=f"file://{out}",
            width=64,
            height=48,
            out_width=160,
            out_height=90,
            fit="contain",
        )
        until(lambda: arrives(160, 90), 90)

        relay.close()
        until(lambda: "no relay" in program.program.report())
        port = int(running.websocket.rpartition(":")[2])
        relay.enter_context(start_relay(RelaySettings(port=port)))
        out.unlink(missing_ok=True)
        until(lambda: arrives(160, 90), 90)
        assert "no relay" not in program.program.report()

        sender.say("vanish")
        until(lambda: "found none for 2 s" in program.program.report(), 60)
        out.unlink(missing_ok=True)
        sender.say("show", 192, 192)
        until(lambda: arrives(160, 90), 90)
        assert "found none" not in program.program.report()
        assert program.stop() is None


@pytest.mark.usefixtures("worker")
def test_sizes_and_flips_of_both_ways(relay: RunningRelay, bridge: Start, sink: Kept) -> None:
    with Person(relay.websocket, track="input") as viewer:
        running = bridge(
            relay.websocket,
            source="pattern://bars?width=128&height=128",
            sink="kept://",
            width=64,
            height=48,
            out_height=100,
            flip="in",
        )
        until(lambda: len(sink.frames) >= 4)
        first = decode(viewer.packets[0][0].data)
        assert running.stop() is None
    assert first.shape == (48, 64, 3)
    assert first[-3, 5, 0] > 150  # the bars are at the bottom now
    assert sink.frames[0].shape[0] == 100


@pytest.mark.parametrize("way", ["source", "sink"])
def test_a_relay_that_will_not_have_us_ends_it(
    relay: RunningRelay, bridge: Start, sink: Kept, way: str
) -> None:
    url = "pattern://bars" if way == "source" else "kept://"
    problem = bridge(f"{relay.websocket}/nowhere", **{way: url}).ends()
    assert isinstance(problem, DreamRelayError)
    assert "not a dreamrelay relay" in str(problem)
    assert sink.closes == (1 if way == "sink" else 0)


def test_an_error_of_the_sink_that_nobody_foresaw_ends_it(
    relay: RunningRelay, bridge: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail() -> None:
        raise LookupError("a bug")

    with sink_scheme(monkeypatch, Kept(fail)) as url:
        running = bridge(relay.websocket, source="pattern://bars", sink=url)
    with Person(relay.websocket, "worker") as worker:
        worker.link.introduce({"credit": 0})
        until(lambda: worker.status.get("viewers") == 1 and worker.status.get("seq_in"))
        worker.link.send_picture(Packet.of(picture(), seq=1), "output")
        assert isinstance(running.ends(), LookupError)


def test_the_stream_shows_why_nothing_comes_in_and_a_card_does_not_end_that(
    relay: RunningRelay, bridge: Start
) -> None:
    with Person(relay.websocket, track="input") as viewer:
        source = f"http://127.0.0.1:{closed_port()}/live"
        running = bridge(relay.websocket, source=source, notice=True)
        until(lambda: len(viewer.packets) >= 2, 60)
        assert f"cannot open {source}" in viewer.status["input_text"]
        assert f"cannot open {source}" in running.program.report()
        assert running.stop() is None
        until(lambda: not viewer.status["input_text"])


def test_an_error_in_the_address_ends_it_before_anything_is_sent(
    relay: RunningRelay, bridge: Start
) -> None:
    assert isinstance(bridge(relay.websocket, source="camera://0?widht=1").ends(), ConfigError)
    missing = bridge(relay.websocket, source=f"http://127.0.0.1:{closed_port()}/", wait=False)
    assert isinstance(missing.ends(), DeviceError)
    assert relay.hub.find("default") is None


@pytest.mark.parametrize(
    ("flags", "text"),
    [
        ({}, "--from=URL"),
        ({"source": "pattern://bars", "spout_in": "A"}, "choose one: --from or --spout-in"),
        ({"sink": "null://", "spout_out": "A"}, "choose one: --to or --spout-out"),
        ({"spout_in": "A", "spout_out": "A"}, "would find our own spout://A"),
        ({"sink": "null://", "width": 64}, "of results they are --out_width"),
        ({"source": "pattern://bars", "out_height": 64}, "they need --to"),
    ],
)
def test_what_cannot_be_bridged_is_refused(flags: dict[str, str], text: str) -> None:
    with pytest.raises(ConfigError, match=text):
        Bridge(BridgeSettings(**flags))


def test_as_a_program_with_the_flags_from_and_to(
    relay: RunningRelay, programs: Callable[..., Program]
) -> None:
    ready = threading.Event()
    with Person(relay.websocket, track="input") as viewer:
        program = programs(
            "spout_bridge.py",
            "--from=pattern://bars",
            "--to",
            "null://",
            f"--websocket-uri={relay.websocket}",
        )
        until(lambda: viewer.packets, 90)
        ready.set()
        program.interrupt()
        assert program.wait(60) == 0
    assert "Traceback" not in program.output
    assert program.lines[-1].startswith("in ")
    assert "out 0" in program.lines[-1]
