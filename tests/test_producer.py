"""The producer: from any source to the relay, at its rate, the newest first."""

import itertools
import logging
import random
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from dreamrelay import producer as producer_module
from dreamrelay.codec import Frame, decode, encode_bytes
from dreamrelay.config import ProducerSettings, RelaySettings
from dreamrelay.errors import ConfigError, DeviceError, DreamRelayError
from dreamrelay.media import Captured, Source, open_source
from dreamrelay.media.pacing import Pacer
from dreamrelay.media.pattern import read_counter
from dreamrelay.packet import Codec, Hop, Packet
from dreamrelay.producer import Producer, source_url
from dreamrelay.protocol.native import decode_packet
from tests.fakes.devices import NO_XVFB, NetworkCamera, bars, has_xvfb, running_xvfb, write_video
from tests.fakes.peers import Person
from tests.fakes.relays import Peer, closed_port, scripted_relay
from tests.fakes.running import Running
from tests.support import ROOT, Program, RunningRelay, mean_colour, picture, start_relay, until


class Pictures(Source):
    """So many grey pictures, each a level brighter; ``before`` is called with each number."""

    live = False

    def __init__(
        self,
        count: int | None,
        *,
        fps: float | None = None,
        live: bool = False,
        before: Callable[[int], object] = lambda _: None,
    ) -> None:
        self.live = live
        self.fps = fps
        self.reads = 0
        self.closes = 0
        self._count = count
        self._before = before

    def read(self) -> Captured | None:
        if self.closes or self.reads == self._count:
            return None
        self.reads += 1
        self._before(self.reads)
        return Captured(grey(self.reads), self.reads * 1_000_000_000)

    def close(self) -> None:
        self.closes += 1


def grey(level: int) -> Frame:
    return np.full((16, 16, 3), level % 256, np.uint8)


class EachAcked(Pacer):
    """The next picture is due when the one before was acked (and seen): nothing is replaced."""

    def __init__(self, viewer: Person | None = None) -> None:
        super().__init__(10)
        self.producer: Producer | None = None
        self._viewer = viewer

    def delay(self) -> float:
        assert self.producer is not None
        s = self.producer.statistics
        until(lambda: s.acked + s.refused >= s.captured or not s.connected)
        if self._viewer is not None:
            viewer = self._viewer
            until(lambda: len(viewer.packets) >= s.acked or not viewer.link.connected)
        return 0.0


class Clockwork(Pacer):
    """A clock of its own, which shows that the wait is over, a little late as real ones do."""

    def __init__(self, fps: float) -> None:
        self.now = 1000.0
        self.late = random.Random(1)
        super().__init__(fps, lambda: self.now)
        self.began = self.now

    def delay(self) -> float:
        wait = super().delay()
        self.now += wait + self.late.uniform(0.0, 0.005)
        return 0.0


@pytest.fixture
def send() -> Iterator[Callable[..., Running[Producer]]]:
    """Run a producer: ``send(relay.websocket, source, fps=30)``; it is stopped at the end."""
    with ExitStack() as stack:

        def start(
            uri: str, made: Source | None = None, /, *, pacer: Pacer | None = None, **settings: Any
        ) -> Running[Producer]:
            given = ProducerSettings(websocket_uri=uri, **{"duration": None, **settings})
            producer = Producer(given, source=made, pacer=pacer)
            if isinstance(pacer, EachAcked):
                pacer.producer = producer
            running = Running(producer)
            stack.callback(running.stop)
            return running

        yield start


Send = Callable[..., Running[Producer]]


def levels(viewer: Person) -> list[int]:
    """Of the grey pictures that came."""
    return [round(mean_colour(packet.data)[0]) for packet, _ in viewer.packets]


# -- there ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("form", "codec"), [("JPEG", Codec.JPEG), ("png", Codec.PNG), ("WebP", Codec.WEBP)]
)
def test_a_picture_file_is_sent_again_and_again(
    relay: RunningRelay, send: Send, tmp_path: Path, form: str, codec: Codec
) -> None:
    path = tmp_path / "a picture.png"
    path.write_bytes(picture("red", (64, 48), "PNG"))
    with Person(relay.websocket, track="input") as viewer:
        running = send(relay.websocket, mode="static", source=str(path), format=form, fps=100)
        until(lambda: len(viewer.packets) >= 3)
        assert running.stop() is None
    packet = viewer.packets[0][0]
    assert (packet.codec, packet.width, packet.height) == (codec, 64, 48)
    assert mean_colour(packet.data)[0] > 245
    assert packet.stamps[0].hop == Hop.ENCODED
    taken = [packet.captured_ns for packet, _ in viewer.packets]
    assert taken == sorted(set(taken))


def test_a_still_picture_is_encoded_once(
    relay: RunningRelay, send: Send, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    encoded: list[Frame] = []
    real = encode_bytes

    def counting(frame: Frame, *arguments: Any, **options: Any) -> bytes:
        encoded.append(frame)
        return real(frame, *arguments, **options)

    monkeypatch.setattr(producer_module, "encode_bytes", counting)
    path = tmp_path / "a.png"
    path.write_bytes(picture(form="PNG"))
    running = send(relay.websocket, mode="static", source=str(path), fps=200)
    until(lambda: running.program.statistics.captured >= 5)
    assert len(encoded) == 1


def test_pictures_of_every_kind_arrive(relay: RunningRelay, send: Send, tmp_path: Path) -> None:
    Image.new("RGBA", (31, 17), (255, 0, 0, 255)).save(tmp_path / "1.png")
    Image.new("P", (33, 16), 0).save(tmp_path / "2.png")
    Image.fromarray(np.full((20, 30), 65535, np.uint16)).save(tmp_path / "3.png")
    turned = Image.Exif()
    turned[274] = 6
    Image.new("RGB", (40, 20), "lime").save(tmp_path / "4.jpg", exif=turned)
    Image.new("1", (1, 1), 1).save(tmp_path / "5.bmp")
    with Person(relay.websocket, track="input") as viewer:
        source = {"mode": "directory", "source": str(tmp_path), "loop": False}
        assert send(relay.websocket, pacer=EachAcked(viewer), **source).ends() is None
        until(lambda: len(viewer.packets) == 5)
    sizes = [(packet.width, packet.height) for packet, _ in viewer.packets]
    assert sizes == [(31, 17), (33, 16), (30, 20), (20, 40), (1, 1)]
    assert [round(mean_colour(packet.data)[1] / 255) for packet, _ in viewer.packets] == [
        0,
        0,
        1,
        1,
        1,
    ]


def test_a_folder_without_loop_ends_after_one_round_and_names_what_it_cannot_read(
    relay: RunningRelay, send: Send, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    for level in (10, 20, 30):
        Image.fromarray(grey(level)).save(tmp_path / f"{level}.png")
    (tmp_path / "15.png").write_bytes(b"no picture at all")
    (tmp_path / "25.jpg").write_bytes(picture()[:200])
    with Person(relay.websocket, track="input") as viewer, caplog.at_level(logging.WARNING):
        running = send(
            relay.websocket,
            mode="directory",
            source=str(tmp_path),
            loop=False,
            pacer=EachAcked(viewer),
        )
        assert running.ends() is None
        until(lambda: len(viewer.packets) == 3)
    assert levels(viewer) == [10, 20, 30]
    assert caplog.text.count("15.png") == caplog.text.count("25.jpg") == 1
    assert running.program.statistics.acked == 3


def test_a_folder_with_loop_begins_again(relay: RunningRelay, send: Send, tmp_path: Path) -> None:
    for level in (10, 20):
        Image.fromarray(grey(level)).save(tmp_path / f"{level}.png")
    with Person(relay.websocket, track="input") as viewer:
        send(relay.websocket, mode="directory", source=str(tmp_path), pacer=EachAcked(viewer))
        until(lambda: len(viewer.packets) >= 5)
    assert levels(viewer)[:5] == [10, 20, 10, 20, 10]


def test_a_picture_that_no_coding_can_hold_is_named_and_the_folder_goes_on(
    relay: RunningRelay, send: Send, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    Image.new("RGB", (70_000, 4)).save(tmp_path / "1 a panorama.png")
    Image.fromarray(grey(20)).save(tmp_path / "2.png")
    with Person(relay.websocket, track="input") as viewer, caplog.at_level(logging.WARNING):
        source = {"mode": "directory", "source": str(tmp_path), "loop": False}
        assert send(relay.websocket, pacer=EachAcked(viewer), **source).ends() is None
        until(lambda: levels(viewer) == [20])
    assert "70000x4" in caplog.text


def test_a_width_keeps_the_shape(relay: RunningRelay, send: Send) -> None:
    with Person(relay.websocket, track="input") as viewer:
        send(relay.websocket, mode="pattern", source="bars", width=128, fps=100)
        packet, _ = until(lambda: viewer.packets)[0]
    assert (packet.width, packet.height) == (128, 128)


def test_the_test_card_counts(relay: RunningRelay, send: Send) -> None:
    with Person(relay.websocket, track="input") as viewer:
        send(relay.websocket, mode="pattern", pacer=EachAcked(viewer))
        until(lambda: len(viewer.packets) >= 4)
    assert [read_counter(decode(packet.data)) for packet, _ in viewer.packets[:4]] == [0, 1, 2, 3]


def test_a_video_file_stands_in_for_a_webcam(
    relay: RunningRelay, send: Send, tmp_path: Path
) -> None:
    path = write_video(tmp_path / "a clip 100%.avi", bars(5))
    with Person(relay.websocket, track="input") as viewer:
        send(relay.websocket, mode="webcam", source=str(path), fps=100)
        packet, _ = until(lambda: viewer.packets)[0]
    assert read_counter(decode(packet.data)) in range(5)


def test_a_network_camera_stands_in_for_a_webcam(relay: RunningRelay, send: Send) -> None:
    with NetworkCamera(bars(5)) as camera, Person(relay.websocket, track="input") as viewer:
        running = send(relay.websocket, mode="webcam", source=camera.url, fps=100)
        packet, _ = until(lambda: viewer.packets)[0]
        assert running.stop() is None
    assert read_counter(decode(packet.data)) in range(5)


# -- at its rate ----------------------------------------------------------------------------------


@pytest.mark.parametrize("fps", [10.0, 60.0, 59.94])
def test_the_rate_does_not_drift(relay: RunningRelay, send: Send, fps: float) -> None:
    """Each wait is up to 5 ms too long; after 600 pictures that has added up to nothing."""
    clock = Clockwork(fps)
    source = Pictures(600)
    assert send(relay.websocket, source, pacer=clock, fps=fps).ends() is None
    assert source.reads == 600
    assert 600 / fps <= clock.now - clock.began <= 600 / fps + 0.006


def test_what_was_missed_is_left_out_and_not_made_up_for(relay: RunningRelay, send: Send) -> None:
    clock = Clockwork(10)

    def hang(number: int) -> None:
        if number == 5:
            clock.now += 3.0

    source = Pictures(10, before=hang)
    assert send(relay.websocket, source, pacer=clock, fps=10).ends() is None
    assert clock.now - clock.began == pytest.approx(1.0 + 3.0, abs=0.11)


@pytest.mark.parametrize(
    ("own", "wanted", "sent"), [(30.0, 10.0, 10), (25.0, 60.0, 30), (None, 10.0, 30)]
)
def test_a_video_plays_at_its_own_speed(
    relay: RunningRelay, send: Send, own: float | None, wanted: float, sent: int
) -> None:
    clock = Clockwork(wanted)
    source = Pictures(30, fps=own)
    running = send(relay.websocket, source, pacer=clock, fps=wanted)
    assert running.ends() is None
    assert source.reads == 30
    assert running.program.statistics.captured == sent
    rate = min(own or wanted, wanted)
    assert clock.now - clock.began == pytest.approx(sent / rate, abs=0.02)


def test_it_ends_with_its_duration(relay: RunningRelay, send: Send) -> None:
    running = send(relay.websocket, Pictures(None), duration=0.2, fps=50)
    assert running.ends() is None
    assert 1 <= running.program.statistics.captured <= 11
    assert running.program.statistics.acked >= 1


# -- against a slow relay, and none ---------------------------------------------------------------


def test_a_relay_that_does_not_ack_costs_pictures_and_never_delay(send: Send) -> None:
    got: list[Packet] = []
    may_ack: list[bool] = []

    def talk(peer: Peer) -> None:
        peer.welcome(credit=1)
        while True:
            message = peer.hear()
            if isinstance(message, bytes):
                got.append(decode_packet(message)[0])
                until(lambda: may_ack)
                peer.tell("ack", seq=got[-1].seq, accepted=True)

    with scripted_relay(talk) as uri:
        running = send(uri, Pictures(None), fps=200)
        statistics = running.program.statistics
        until(lambda: statistics.dropped >= 5)
        assert len(got) == statistics.sent == 1
        captured = statistics.captured
        may_ack.append(True)
        until(lambda: len(got) >= 3)
        assert got[1].seq >= captured - 1, "what waited is the newest"
        assert running.stop() is None
        s = statistics
        assert s.captured - s.dropped - s.sent in (0, 1), "one may have waited at the end"
        assert s.acked >= 2


def test_it_goes_on_when_the_relay_is_started_again_and_reads_nothing_meanwhile(
    send: Send,
) -> None:
    source = Pictures(None)
    with start_relay(RelaySettings(port=0)) as relay:
        running = send(relay.websocket, source, fps=100, prompt="the first")
        statistics = running.program.statistics
        until(lambda: statistics.acked >= 2)
        port = int(relay.websocket.rpartition(":")[2])
        until(lambda: relay.hub.stream("default").values.get("prompt") == "the first")
    until(lambda: not statistics.connected)
    before = source.reads
    acked = statistics.acked
    looks = itertools.count()
    until(lambda: next(looks) > 10)
    assert source.reads <= before + 1, "one may have been under way"
    with start_relay(RelaySettings(port=port)) as relay:
        with Person(relay.websocket) as person:
            person.link.patch({"prompt": "typed"}, "test")
            until(lambda: person.values.get("prompt") == "typed")
            until(lambda: statistics.acked >= acked + 2)
            assert person.values["prompt"] == "typed", "its own prompt was for the start"
        assert source.reads > before
    assert statistics.captured == source.reads
    assert running.stop() is None


def test_its_clock_starts_when_the_relay_is_there(send: Send) -> None:
    port = closed_port()
    running = send(f"ws://127.0.0.1:{port}", Pictures(3), duration=0.001, pacer=EachAcked())
    until(lambda: running.program._link._loop is not None)
    with start_relay(RelaySettings(port=port)):
        assert running.ends() is None
    assert running.program.statistics.acked >= 1


def test_it_can_be_stopped_while_there_is_no_relay(send: Send) -> None:
    source = Pictures(3)
    running = send(f"ws://127.0.0.1:{closed_port()}", source)
    assert running.stop() is None
    assert source.closes == 1
    assert source.reads == 0


def test_a_picture_that_the_relay_refuses_is_named_once(
    send: Send, caplog: pytest.LogCaptureFixture
) -> None:
    with start_relay(RelaySettings(port=0, max_megapixels=0.0001)) as relay:
        with caplog.at_level(logging.WARNING):
            running = send(relay.websocket, Pictures(4), pacer=EachAcked())
            assert running.ends() is None
    statistics = running.program.statistics
    assert (statistics.acked, statistics.refused) == (0, 4)
    assert "pixels" in statistics.last_refusal
    assert caplog.text.count("refused a picture") == 1


def test_a_relay_that_will_not_have_us_ends_it(send: Send, relay: RunningRelay) -> None:
    running = send(f"{relay.websocket}/nowhere", Pictures(None))
    problem = running.ends()
    assert isinstance(problem, DreamRelayError)
    assert "not a dreamrelay relay" in str(problem)


def test_one_that_is_not_on_air_is_told_until_it_is(
    relay: RunningRelay, send: Send, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        first = send(relay.websocket, Pictures(None), fps=100)
        until(lambda: first.program.statistics.acked)
        second = send(relay.websocket, Pictures(None), fps=100)
        until(lambda: not first.program.statistics.on_air)
        assert second.program.statistics.on_air
        assert second.stop() is None
        until(lambda: first.program.statistics.on_air)
    assert caplog.text.count("another producer has the stream 'default'") == 1


def test_a_source_that_fails_at_once_is_raised_and_later_is_tried_again(
    relay: RunningRelay, send: Send, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(number: int) -> None:
        raise DeviceError(f"it broke at {number}")

    assert str(send(relay.websocket, Pictures(9, before=fail)).ends()) == "it broke at 1"

    def stumble(number: int) -> None:
        if number == 2:
            raise DeviceError("the cable")

    running = send(relay.websocket, Pictures(4, before=stumble), pacer=EachAcked())
    assert running.ends() is None
    assert running.program.statistics.captured == 3


class Cable(Source):
    """A camera whose cable the test pulls out."""

    def __init__(self) -> None:
        self.out = False

    def read(self) -> Captured | None:
        if self.out:
            raise DeviceError("the webcam was pulled out")
        return Captured(grey(1), 1)


def test_the_stream_shows_why_there_is_no_picture_also_after_a_restart_of_the_relay(
    send: Send, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("dreamrelay.media.steady.LONGEST_WAIT_S", 0.02)
    camera = Cable()

    def shown(relay: RunningRelay) -> str:
        text: str = relay.hub.stream("default").status()["input_text"]
        return text

    with start_relay(RelaySettings(port=0)) as relay:
        running = send(relay.websocket, camera, fps=100)
        until(lambda: running.program.statistics.acked)
        assert shown(relay) == ""
        camera.out = True
        until(lambda: shown(relay) == "the webcam was pulled out")
        port = int(relay.websocket.rpartition(":")[2])
    until(lambda: not running.program.statistics.connected)
    with start_relay(RelaySettings(port=port)) as relay:
        until(lambda: shown(relay) == "the webcam was pulled out")
        camera.out = False
        until(lambda: running.program.statistics.connected and not shown(relay))
        camera.out = True
        until(lambda: shown(relay) == "the webcam was pulled out")
        assert running.stop() is None
        until(lambda: not shown(relay))


def test_a_duration_ends_also_while_the_source_is_away(relay: RunningRelay, send: Send) -> None:
    camera = Cable()
    camera.out = True
    running = send(relay.websocket, camera, duration=0.1)
    assert running.ends() is None
    assert running.program.trouble == "the webcam was pulled out"


# -- what mode and flags mean ---------------------------------------------------------------------


@pytest.mark.parametrize(
    ("flags", "url"),
    [
        ({}, "pattern://bars"),
        ({"source": "spout://x"}, "spout://x"),
        ({"source": "cat.jpg"}, "cat.jpg"),
        ({"mode": "static", "source": "cat.jpg"}, "cat.jpg"),
        ({"mode": "prompt-interactive", "source": "cat.jpg"}, "cat.jpg"),
        ({"mode": "webcam"}, "camera://0"),
        ({"mode": "webcam", "camera_index": "2", "width": "640"}, "camera://2?width=640"),
        ({"mode": "webcam", "source": "http://h/a?b=1"}, "camera://http://h/a%3Fb%3D1"),
        ({"mode": "screen"}, "screen://0"),
        (
            {"mode": "screen", "monitor_index": "1", "region": "[100,100,512,512]"},
            "screen://1?region=100,100,512,512",
        ),
        ({"mode": "pattern"}, "pattern://bars"),
        ({"mode": "pattern", "source": "clip"}, "pattern://clip"),
        ({"mode": "pattern", "source": "pattern://flat?colour=red"}, "pattern://flat?colour=red"),
        ({"mode": "video", "source": "rtsp://camera/1"}, "rtsp://camera/1"),
    ],
)
def test_the_source_that_flags_mean(flags: dict[str, str], url: str) -> None:
    assert source_url(ProducerSettings.load(flags, environ={})) == url


def test_folders_and_videos_loop_or_not(tmp_path: Path) -> None:
    folder = tmp_path / "a folder?"
    folder.mkdir()
    Image.fromarray(grey(1)).save(folder / "1.png")
    clip = write_video(tmp_path / "clip.avi", bars(2))
    for mode, path in (("directory", folder), ("video", clip), (None, folder), (None, clip)):
        for loop in (True, False):
            url = source_url(ProducerSettings(mode=mode, source=str(path), loop=loop))
            with open_source(url) as source:
                pictures = 0
                while pictures < 5 and source.read() is not None:
                    pictures += 1
            assert (pictures == 5) == loop


@pytest.mark.parametrize(
    ("flags", "text"),
    [
        ({"mode": "static"}, "--mode=static needs --source=a file"),
        ({"mode": "directory"}, "needs --source=a folder"),
        ({"mode": "prompt-interactive"}, "needs --source=a file"),
        ({"mode": "screen", "source": "x"}, "no --source"),
        ({"mode": "webcam", "region": "1,2,3,4"}, "--region goes with --mode=screen"),
    ],
)
def test_flags_that_make_no_sense_are_refused(flags: dict[str, str], text: str) -> None:
    with pytest.raises(ConfigError, match=text):
        source_url(ProducerSettings.load(flags, environ={}))


def test_a_folder_that_is_none_is_named() -> None:
    with pytest.raises(DeviceError, match="needs a folder"):
        source_url(ProducerSettings(mode="directory", source="no/such/folder"))


# -- as a program ---------------------------------------------------------------------------------


def test_the_flags_of_the_seed(
    relay: RunningRelay, programs: Callable[..., Program], tmp_path: Path
) -> None:
    path = tmp_path / "image.jpg"
    path.write_bytes(picture("red", (64, 48), "PNG"))
    with Person(relay.websocket, track="input") as viewer:
        program = programs(
            "client.py",
            "--mode=static",
            "--websocket_uri",
            relay.websocket,
            f"--source={path}",
            "--fps=20",
            "--duration",
            "1",
            "--format=PNG",
            "--prompt=a red fox",
        )
        assert program.wait(90) == 0
        packet, _ = until(lambda: viewer.packets)[0]
        assert packet.codec == Codec.PNG
        until(lambda: viewer.values.get("prompt") == "a red fox")
    last = program.lines[-1]
    assert "acked" in last
    assert "dropped" in last
    assert "fps" in last
    assert "age at the ack" in last
    assert int(last.split("acked ")[1].split(",")[0]) >= 1


def test_a_camera_that_comes_late_and_goes_and_the_stream_shows_why(
    relay: RunningRelay, programs: Callable[..., Program]
) -> None:
    """A real process and a real MJPEG camera, which is not there at the start."""
    port = closed_port()
    camera = f"http://127.0.0.1:{port}/live"
    with Person(relay.websocket, track="input") as viewer:

        def why() -> str:
            text: str = viewer.status.get("input_text", "")
            return text

        program = programs(
            "client.py", "--mode=webcam", f"--source={camera}", "--duration=0",
            f"--websocket_uri={relay.websocket}",
        )  # fmt: skip
        until(lambda: f"cannot open camera://{camera}" in why(), 90)
        assert not viewer.packets
        with NetworkCamera(bars(3), port=port):
            until(lambda: viewer.packets, 60)
            until(lambda: not why())
        until(lambda: f"camera://{camera}" in why(), 60)
        program.interrupt()
        assert program.wait(60) == 0
        until(lambda: not why())


def test_a_camera_that_is_not_there_ends_it_if_so_wanted(
    relay: RunningRelay, programs: Callable[..., Program]
) -> None:
    program = programs(
        "client.py", "--mode=webcam", f"--source=http://127.0.0.1:{closed_port()}/", "--nowait",
        f"--websocket_uri={relay.websocket}",
    )  # fmt: skip
    assert program.wait(60) == 1
    assert "cannot open camera://" in program.output
    assert "Traceback" not in program.output


@pytest.mark.skipif(not has_xvfb(), reason=NO_XVFB)
def test_a_region_of_the_screen(relay: RunningRelay, programs: Callable[..., Program]) -> None:
    with running_xvfb(640, 480) as display, Person(relay.websocket, track="input") as viewer:
        red = np.zeros((200, 200, 3), np.uint8)
        red[:] = (255, 0, 0)
        display.show(red, 100, 100)
        program = programs(
            "client.py",
            "--mode=screen",
            "--region=[110,120,64,32]",
            f"--websocket_uri={relay.websocket}",
            "--duration=1",
            "--format",
            "JPEG",
            DISPLAY=display.name,
        )
        assert program.wait(90) == 0
        packet, _ = until(lambda: viewer.packets)[0]
    assert (packet.width, packet.height) == (64, 32)
    assert mean_colour(packet.data)[0] > 245


def test_without_a_relay_ctrl_c_is_a_clean_end_and_exit_code_1(
    programs: Callable[..., Program],
) -> None:
    program = programs(
        "client.py", "--mode=pattern", f"--websocket_uri=ws://127.0.0.1:{closed_port()}"
    )
    program.line("start the relay with `python server.py`")
    program.interrupt()
    assert program.wait(60) == 1
    assert "Traceback" not in program.output
    assert program.lines[-1].startswith("sent 0, acked 0, dropped 0")


def test_ctrl_c_after_pictures_is_exit_code_0(
    relay: RunningRelay, programs: Callable[..., Program]
) -> None:
    with Person(relay.websocket, track="input") as viewer:
        program = programs("client.py", f"--websocket_uri={relay.websocket}", "--duration=none")
        until(lambda: len(viewer.packets) >= 2, 90)
        program.interrupt()
        assert program.wait(60) == 0
    assert "Traceback" not in program.output


def test_prompts_are_read_from_the_keyboard(relay: RunningRelay, tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    path.write_bytes(picture(form="PNG"))
    command = [
        sys.executable,
        str(ROOT / "client.py"),
        "--mode=prompt-interactive",
        f"--source={path}",
        f"--websocket_uri={relay.websocket}",
        "--duration=3",
    ]
    with (
        Person(relay.websocket, track="input") as viewer,
        subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
        ) as process,
    ):
        assert process.stdin is not None
        for prompt in (b"a fox\n", b"\n", b"  a second, longer one \n"):
            process.stdin.write(prompt)
            process.stdin.flush()
        until(lambda: viewer.values.get("prompt") == "a second, longer one", 60)
        until(lambda: viewer.packets)
        assert process.stdout is not None
        output = process.stdout.read().decode()
        # Standard input is still open and somebody reads it: that must not hold up the end.
        assert process.wait(60) == 0
    assert "Traceback" not in output
    assert "prompt: a fox" in output
