"""OSC at a worker: from any program to the picture, and back to whoever wants to know."""

import logging
import shutil
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from dreamrelay.config import RelaySettings, WorkerSettings
from dreamrelay.errors import ConfigError
from dreamrelay.media import Captured, Source
from dreamrelay.media.catalog import SOURCES
from dreamrelay.osc.wire import encode
from dreamrelay.worker import Worker
from tests.fakes.engines import ScriptedEngine, SeveralEngine
from tests.fakes.peers import People, Person
from tests.fakes.relays import closed_port
from tests.fakes.spoutgl import Gpu
from tests.fakes.workers import Kept, sink_scheme
from tests.osc.support import Wire
from tests.support import Program, RunningRelay, mean_colour, picture, start_relay, until

needs_oscsend = pytest.mark.skipif(
    shutil.which("oscsend") is None, reason="needs oscsend (apt install liblo-tools)"
)


@contextmanager
def working(engine: ScriptedEngine, **settings: Any) -> Iterator[Wire]:
    """A worker that listens; yields a socket that speaks to it."""
    given = {"text_to_picture": "off", "viewer": "off", **settings}
    worker = Worker(WorkerSettings(osc_port=0, **given), engine=engine)
    thread = threading.Thread(target=worker.run, daemon=True)
    thread.start()
    assert worker.osc_port is not None
    wire = Wire(worker.osc_port)
    try:
        yield wire
    finally:
        wire.socket.close()
        worker.stop()
        thread.join(30)
        assert not thread.is_alive()


def oscsend(port: int, *arguments: str) -> None:
    subprocess.run(["oscsend", "127.0.0.1", str(port), *arguments], check=True, timeout=30)


def says(wire: Wire, *state: str) -> None:
    """Wait until the worker answers with that state."""

    def asked() -> bool:
        wire.send(encode("/state", "?"))
        return wire.until("/state").arguments[0] in state

    until(asked)


def test_who_is_told_hears_why_a_producer_sends_nothing(relay: RunningRelay) -> None:
    told = Wire()
    with (
        told.socket,
        Person(relay.websocket, "producer") as producer,
        working(
            ScriptedEngine(),
            websocket_uri=relay.websocket,
            osc_out=[f"127.0.0.1:{told.port}"],
        ),
    ):
        producer.link.tell("status", state="away", text="no camera 0")
        told.until("/error", "", "no camera 0")


# -- prompts and parameters -----------------------------------------------------------------------


def test_a_prompt_goes_through_the_relay(relay: RunningRelay) -> None:
    engine = ScriptedEngine()
    with (
        Person(relay.websocket) as viewer,
        working(engine, websocket_uri=relay.websocket) as wire,
    ):
        until(lambda: viewer.status.get("state") == "live")
        wire.send(encode("/prompt", "blue", "ugly"))
        until(lambda: engine.parameters["prompt"] == "blue")
        told = until(lambda: [one for one in viewer.has("parameters") if one["origin"] == "osc"])
        assert told[-1]["values"]["prompt"] == "blue"
        assert told[-1]["values"]["negative_prompt"] == "ugly"


def test_a_burst_through_the_relay_ends_with_the_last_value_and_costs_nobody_a_connection(
    relay: RunningRelay,
) -> None:
    engine = ScriptedEngine()
    with (
        Person(relay.websocket) as viewer,
        working(engine, websocket_uri=relay.websocket) as wire,
    ):
        until(lambda: viewer.status.get("state") == "live")
        for number in range(2000):
            wire.send(encode("/prompt", f"prompt {number}"))
            wire.send(encode("/strength", number / 2000))
            if number % 100 == 99:  # the machine's buffer may be small, and that is not ours
                last = f"prompt {number}"
                until(lambda: viewer.values.get("prompt") == last)  # noqa: B023 - at once
        until(lambda: engine.parameters["prompt"] == "prompt 1999")
        until(lambda: engine.parameters["strength"] == 0.9995)
        assert len(viewer.welcomes) == 1
        assert not viewer.losses
        assert len(viewer.has("parameters")) < 1000, "of a burst the relay hears a part"


def test_a_prompt_holds_without_a_relay_and_the_relay_hears_it_later() -> None:
    engine = ScriptedEngine()
    port_of_relay = closed_port()
    with working(engine, websocket_uri=f"ws://127.0.0.1:{port_of_relay}") as wire:
        wire.send(encode("/prompt", "blue"))
        until(lambda: engine.parameters["prompt"] == "blue")
        with (
            start_relay(RelaySettings(port=port_of_relay)) as relay,
            Person(relay.websocket) as viewer,
        ):
            until(lambda: viewer.values.get("prompt") == "blue")  # whichever of the two came first


@needs_oscsend
def test_every_parameter_of_the_engine_is_an_address(tmp_path: Path) -> None:
    engine = ScriptedEngine()
    presets = str(tmp_path / "presets.json")
    with working(engine, source="pattern://bars", sink=["null://"], osc_presets=presets) as wire:
        port = wire._to[1]
        says(wire, "live")
        oscsend(port, "/prompt", "s", "green")
        oscsend(port, "/strength", "f", "0.25")
        oscsend(port, "/steps", "iii", "1", "2", "9")
        until(lambda: engine.parameters["steps"] == [1, 2, 9])
        assert engine.parameters["strength"] == 0.25
        oscsend(port, "/preset/save", "i", "1")
        oscsend(port, "/strength", "s", "+0.5")
        until(lambda: engine.parameters["strength"] == 0.75)
        oscsend(port, "/preset", "i", "1")
        until(lambda: engine.parameters["strength"] == 0.25)


def test_what_only_the_engine_can_refuse_is_told_too() -> None:
    engine, listener = ScriptedEngine(), Wire()
    out = [f"127.0.0.1:{listener.port}"]
    with working(engine, source="pattern://bars", sink=["null://"], osc_out=out) as wire:
        says(wire, "live")
        wire.send(encode("/steps", 3, 1))
        assert "ascending" in listener.until("/error").arguments[1]
        assert engine.parameters["steps"] == [1, 2]
        listener.socket.close()


def test_what_only_the_relay_can_refuse_is_told_too(relay: RunningRelay) -> None:
    class Narrow(ScriptedEngine):
        """Its schema forbids what OSC does not look at."""

        def schema(self) -> dict[str, Any]:
            schema = super().schema()
            schema["properties"]["prompt"]["not"] = {"const": "forbidden"}
            return schema

    engine, listener = Narrow(), Wire()
    out = [f"127.0.0.1:{listener.port}"]
    with working(engine, websocket_uri=relay.websocket, osc_out=out) as wire:
        says(wire, "live")
        wire.send(encode("/prompt", "forbidden"))
        assert "prompt" in listener.until("/error").arguments[1]
        listener.socket.close()


def test_each_change_is_told_whoever_made_it(relay: RunningRelay) -> None:
    engine, listener = ScriptedEngine(), Wire()
    out = [f"127.0.0.1:{listener.port}"]
    with (
        Person(relay.websocket) as somebody,
        working(engine, websocket_uri=relay.websocket, osc_out=out),
    ):
        listener.until("/state", "live", "")
        somebody.link.patch({"prompt": "red"}, "studio")
        listener.until("/prompt", "red")
        somebody.link.patch({"strength": 0.25}, "studio")
        listener.until("/strength", 0.25)
        listener.until("/heartbeat")
        listener.socket.close()


# -- start, stop, trigger, on frames --------------------------------------------------------------


class Numbered(Source):
    """A live source whose frames are numbered by their grey; it gives one when a test says so."""

    def __init__(self, allowed: threading.Semaphore) -> None:
        self.allowed = allowed
        self.number = 0
        self.closed = False

    def read(self) -> Captured | None:
        while not self.allowed.acquire(timeout=0.02):
            if self.closed:
                return None
        self.number += 1
        return Captured(np.full((48, 64, 3), self.number, np.uint8), self.number)

    def close(self) -> None:
        self.closed = True


class Show:
    """A worker with a numbered source and a sink that keeps what it got, steered by OSC alone."""

    def __init__(self, wire: Wire, sink: Kept, sources: list[Numbered]) -> None:
        self.wire, self._sink, self.sources = wire, sink, sources
        self._given = 0

    def give(self, count: int = 1) -> None:
        """Have the source take frames; each is at the engine when this returns."""
        for _ in range(count):
            self._given += 1
            number = self._given
            self.sources[-1].allowed.release()
            until(lambda: sum(source.number for source in self.sources) == number)  # noqa: B023

    def __call__(self, address: str, *arguments: Any) -> None:
        self.wire.send(encode(address, *arguments))

    @property
    def frames(self) -> list[int]:
        """The frames that pictures were made of: the engine inverts them."""
        return [255 - int(frame[0, 0, 0]) for frame in self._sink.frames]

    def shows(self, *frames: int) -> None:
        until(lambda: self.frames == list(frames), what=f"{frames}, got {self.frames}")


@contextmanager
def show(monkeypatch: pytest.MonkeyPatch, **settings: Any) -> Iterator[Show]:
    allowed = threading.Semaphore(0)
    sources: list[Numbered] = []

    def opens(_: object) -> Source:
        sources.append(Numbered(allowed))
        return sources[-1]

    class Row:
        def load(self) -> Callable[[object], Source]:
            return opens

    monkeypatch.setitem(SOURCES, "numbered", Row())
    sink = Kept()
    with (
        sink_scheme(monkeypatch, sink) as url,
        working(ScriptedEngine(), source="numbered://", sink=[url], **settings) as wire,
    ):
        says(wire, "live", "paused")
        try:
            yield Show(wire, sink, sources)
        finally:
            for source in sources:
                source.close()


def test_stopped_nothing_is_made_and_started_it_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    with show(monkeypatch) as on:
        on.give()
        on.shows(1)
        on("/stop")
        says(on.wire, "paused")
        on.give(3)
        on("/start")
        says(on.wire, "live")
        on.give()
        on.shows(1, 5)


@pytest.mark.parametrize(
    ("addresses", "state"),
    [
        (("/stop", "/start"), "live"),
        (("/S", "/s"), "live"),
        (("/start", "/start"), "live"),
        (("/start", "/stop"), "paused"),
        (("/stop", "/stop", "/start", "/stop"), "paused"),
        (("/P", "/p"), "live"),
        (("/p", "/P"), "paused"),
        (("/P", "/start"), "paused"),
        (("/stop", "/p"), "paused"),
    ],
)
def test_what_comes_last_holds_however_fast(
    monkeypatch: pytest.MonkeyPatch, addresses: tuple[str, ...], state: str
) -> None:
    with show(monkeypatch) as on:
        for _ in range(5):
            for address in addresses:
                on(address)
        says(on.wire, state)
        on.give()
        if state == "live":
            on.shows(1)
        else:
            on("/start")
            on("/p")
            says(on.wire, "live")
            on.give()
            on.shows(2)


def test_a_trigger_makes_one_picture_of_the_newest_frame(monkeypatch: pytest.MonkeyPatch) -> None:
    with show(monkeypatch, start="off") as on:
        on("/trigger")  # no frame yet: it waits for one
        says(on.wire, "paused")
        on.give()
        on.shows(1)
        on.give(3)
        on("/t", 1.0)
        on("/t", 0.0)
        until(lambda: len(on.frames) == 2)
        on("/start")
        says(on.wire, "live")
        on("/trigger")
        on.give()
        on.shows(1, 4, 5)


def test_a_trigger_comes_after_the_prompt_before_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with show(monkeypatch, start="off") as on:
        on.give()
        on("/prompt", "red")
        on("/trigger")
        until(lambda: on._sink.frames)
        assert on._sink.frames[0][0, 0].tolist() == [255, 0, 0]


def test_the_source_is_opened_anew_when_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    with show(monkeypatch) as on:
        on.give()
        on.shows(1)
        on("/x")
        on.give()  # the source is reading already: it opens anew after this one
        until(lambda: len(on.sources) == 2)
        assert on.sources[0].closed
        on.give()
        until(lambda: len(on.frames) == 3)


def test_at_a_relay_a_stop_is_told_and_a_trigger_answers(relay: RunningRelay) -> None:
    engine = ScriptedEngine()
    with (
        People(relay.websocket) as people,
        # Before it is stopped it would dream: somebody looks, and nothing comes in.
        working(engine, websocket_uri=relay.websocket, text_to_picture="off") as wire,
    ):
        until(lambda: people.viewer.status.get("state") == "live")
        wire.send(encode("/stop"))
        until(lambda: people.viewer.status["state"] == "paused")
        assert "/start" in people.viewer.status["text"]
        for seq, colour in enumerate(("red", "lime"), 1):
            people.producer.send(picture(colour), seq)
        wire.send(encode("/prompt", "blue"))
        wire.send(encode("/trigger"))
        (result,) = until(lambda: people.viewer.results)
        red, green, blue = mean_colour(result.data)
        assert blue > 200 > 60 > red + green
        assert engine.inferred == 0, "a picture alone is no part of the stream"
        wire.send(encode("/start"))
        until(lambda: people.viewer.status["state"] == "live")
        people.producer.send(picture("red"), 3)
        until(lambda: len(people.viewer.results) == 2)


def test_a_folder_waits_while_it_is_stopped_and_loses_no_picture(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in (1, 2, 3, 4):
        (tmp_path / f"{number}.png").write_bytes(
            picture(f"#{number:02x}{number:02x}{number:02x}", form="PNG")
        )
    sink = Kept()
    with (
        sink_scheme(monkeypatch, sink) as url,
        working(
            ScriptedEngine(),
            source=f"directory://{tmp_path}?loop=false",
            sink=[url],
            start="off",
        ) as wire,
    ):
        says(wire, "paused")
        for count in (1, 2):
            wire.send(encode("/trigger"))
            until(lambda: len(sink.frames) == count)  # noqa: B023 - at once
        wire.send(encode("/start"))
        until(lambda: len(sink.frames) == 4)
    assert [255 - int(frame[0, 0, 0]) for frame in sink.frames] == [1, 2, 3, 4]


# -- the Spout service, flag for flag -------------------------------------------------------------


def test_the_spout_service_waits_for_start(monkeypatch: pytest.MonkeyPatch) -> None:
    """The seed's own sequence: /prompt, /start; a texture in, a texture out."""
    gpu = Gpu()
    for name, module in gpu.modules().items():
        monkeypatch.setitem(sys.modules, name, module)
    monkeypatch.setattr("platform.system", lambda: "Windows")
    red = np.zeros((48, 64, 3), np.uint8)
    red[:] = (255, 0, 0)
    gpu.show("SourceImage", red)
    flags = {"spout-in": "SourceImage", "spout-out": "StreamDiffusion", "osc-port": "0"}
    settings = WorkerSettings.load({**flags, "viewer": "off"}, environ={})
    engine = ScriptedEngine()
    worker = Worker(settings, engine=engine)
    thread = threading.Thread(target=worker.run, daemon=True)
    thread.start()
    assert worker.osc_port is not None
    wire = Wire(worker.osc_port)
    try:
        says(wire, "paused")
        assert not worker.started
        gpu.show("SourceImage", red)
        assert engine.inferred == 0
        wire.send(encode("/prompt", "blue"))
        wire.send(encode("/start"))

        def sent() -> bool:
            gpu.show("SourceImage", red)
            return "StreamDiffusion" in gpu.senders

        until(sent)
        assert gpu.seen("StreamDiffusion")[0, 0].tolist() == [0, 0, 255]
        del gpu.senders["StreamDiffusion"]
        wire.send(encode("/x"))
        until(sent)
    finally:
        wire.socket.close()
        worker.stop()
        thread.join(30)


def test_every_flag_of_the_spout_service() -> None:
    flags = {
        "streamdiffusion-path": "../StreamDiffusion",
        "osc-ip": "127.0.0.1",
        "osc-port": "7001",
        "spout-in": "SourceImage",
        "spout-out": "StreamDiffusion",
        "model": "stabilityai/sd-turbo",
        "lora": "a:0.5,b:0.7",
        "width": "512",
        "height": "512",
        "acceleration": "xformers",
        "delta": "0.5",
        "verbose": "2",
    }
    settings = WorkerSettings.load(flags, environ={})
    assert settings.lora_dict == {"a": 0.5, "b": 0.7}
    assert (settings.delta, settings.verbose, settings.acceleration) == (0.5, 2, "xformers")
    assert settings.model_id_or_path == "stabilityai/sd-turbo"


@needs_oscsend
@pytest.mark.timeout(300)
def test_one_process_without_a_relay(programs: Callable[..., Program], tmp_path: Path) -> None:
    """Source, engine, sink and OSC in one process, with the real engine and ``oscsend``."""
    program = programs(
        "main.py",
        "--streamdiffusion-path=../StreamDiffusion",
        "--source=pattern://bars?width=64&height=64",
        f"--sink={tmp_path / 'latest.png'}",
        "--osc-ip=127.0.0.1",
        "--osc-port=0",
        "--width=64",
        "--height=64",
        "--start=off",
        "--viewer=off",
        "--verbose=2",
        f"--osc-presets={tmp_path / 'presets.json'}",
    )
    port = int(program.line(r"OSC: /prompt at 127.0.0.1:(\d+)", 150)[1])
    program.line("waits for OSC /start")
    program.line("--streamdiffusion-path is not needed")
    program.line("is ready: 64x64")
    assert not (tmp_path / "latest.png").exists()
    oscsend(port, "/prompt", "s", "blue neon")
    oscsend(port, "/t")
    until(lambda: (tmp_path / "latest.png").exists())
    asking = Wire(port)

    def cache() -> tuple[Any, ...]:
        asking.send(encode("/prompt_cache", "?"))
        return asking.until("/prompt_cache").arguments

    encoded, hits = cache()
    oscsend(port, "/prompt", "s", "gold")
    oscsend(port, "/t")
    until(lambda: cache()[0] == encoded + 1)
    oscsend(port, "/prompt", "s", "blue neon")
    oscsend(port, "/t")
    until(lambda: cache()[1] > hits)
    assert cache()[0] == encoded + 1, "turning back to a prompt encodes nothing"
    asking.socket.close()
    oscsend(port, "/seed", "i", "7")
    program.line("applied seed=7")
    oscsend(port, "/preset/save", "s", "blue")
    until(lambda: (tmp_path / "presets.json").exists())
    program.interrupt()
    assert program.wait() == 0


def test_each_stream_of_a_worker_is_steered_by_its_name(relay: RunningRelay) -> None:
    with (
        Person(relay.websocket, stream="hall") as hall,
        Person(relay.websocket, stream="bar") as bar,
        working(SeveralEngine(1), websocket_uri=relay.websocket, stream=["hall", "bar"]) as wire,
    ):
        until(lambda: [one.status.get("state") for one in (hall, bar)] == ["live", "live"])
        wire.send(encode("/stream/bar/prompt", "blue"))
        wire.send(encode("/stream/hall/prompt", "red"))
        until(lambda: bar.values.get("prompt") == "blue")
        until(lambda: hall.values.get("prompt") == "red")
        wire.send(encode("/stream/bar/stop"))
        until(lambda: bar.status["state"] == "paused")
        wire.send(encode("/stream/bar/state", "?"))
        assert wire.until("/stream/bar/state").arguments[0] == "paused"
        says(wire, "live")
        assert hall.status["state"] == "live"
        wire.send(encode("/stream/bar/s"))
        until(lambda: bar.status["state"] == "live")
        wire.send(encode("/stream/bar/verbose", "?"))
        assert wire.until("/stream/bar/verbose").arguments == (1,)


def test_who_is_to_be_told_needs_osc() -> None:
    settings = WorkerSettings(osc_port=None, osc_out=["127.0.0.1:9000"])
    with pytest.raises(ConfigError, match="--osc-port"):
        Worker(settings, engine=ScriptedEngine())


def test_levels_of_the_log(relay: RunningRelay, restored_logging: None) -> None:
    with working(ScriptedEngine(), websocket_uri=relay.websocket) as wire:
        wire.send(encode("/verbose", 3))
        until(lambda: logging.getLogger("dreamrelay").level == logging.DEBUG)
        wire.send(encode("/voff"))
        until(lambda: logging.getLogger("dreamrelay").level == logging.ERROR)
        wire.send(encode("/verbose"))
        assert wire.until("/verbose").arguments == (0,)


def test_a_busy_port_is_exit_code_2_of_the_worker(programs: Callable[..., Program]) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as taken:
        taken.bind(("127.0.0.1", 0))
        port = taken.getsockname()[1]
        program = programs("main.py", f"--osc-port={port}", "--viewer=off")
        assert program.wait(120) == 2
    (line,) = program.lines
    assert line.startswith(f"dreamrelay: cannot listen for OSC on 127.0.0.1:{port}")


# -- counters -------------------------------------------------------------------------------------


def test_the_engines_counters_reach_the_metrics(relay: RunningRelay) -> None:
    class Counts(ScriptedEngine):
        def counters(self) -> dict[str, float]:
            return {"prompts_encoded": 2.0, "prompt_cache_hits": 40.0, "Not A Name": 1.0}

    with working(Counts(), websocket_uri=relay.websocket):

        def scraped() -> str:
            page = relay.get("/metrics").decode()
            return page if "prompt_cache_hits" in page else ""

        page = until(scraped)
    (line,) = [row for row in page.splitlines() if "prompts_encoded" in row]
    assert line.startswith('dreamrelay_engine_total{stream="default",')
    assert line.endswith(" 2.0")
    assert "Not A Name" not in page
