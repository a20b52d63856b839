"""StreamDiffusion-Web's page over real sockets, against the real relay."""

import json
import socket
import threading
import uuid
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from itertools import pairwise
from typing import Any
from urllib.parse import urlsplit

import pytest
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import ClientConnection, connect

from dreamrelay.config import RelaySettings
from dreamrelay.errors import ConfigError, MissingExtra, ProtocolError
from dreamrelay.relay import streamdiffusion_web
from dreamrelay.relay.app import Relay
from dreamrelay.relay.streamdiffusion_web import MAX_PICTURE_BYTES
from tests.relay.clients import answer, native, problem, read_until
from tests.relay.pages import CameraPage, Painter
from tests.support import RunningRelay, mean_colour, picture, start_relay, until

NOBODY = "00000000-0000-4000-8000-000000000000"


@contextmanager
def page(relay: RunningRelay, user: str | None = None) -> Iterator[ClientConnection]:
    with connect(f"{relay.websocket}/api/ws/{user or uuid.uuid4()}") as websocket:
        yield websocket


def hear(websocket: ClientConnection, *statuses: str) -> dict[str, Any]:
    """The next message, or the next of these statuses."""
    while True:
        message = json.loads(websocket.recv(30))
        if not statuses or message["status"] in statuses:
            assert isinstance(message, dict)
            return message


def triple(websocket: ClientConnection, data: bytes | None = None, **settings: Any) -> None:
    websocket.send('{"status":"next_frame"}')
    websocket.send(json.dumps(settings))
    websocket.send(picture() if data is None else data)


def upload(
    relay: RunningRelay,
    path: str,
    data: bytes,
    field: str = "file",
    file: str = "speech.wav",
    kind: str = "audio/wav",
) -> tuple[int, Any]:
    """Post a form as a browser does; the status and the JSON that comes back."""
    boundary = "----WebKitFormBoundaryAbC"
    head = (
        f'--{boundary}\r\nContent-Disposition: form-data; name="{field}"; filename="{file}"\r\n'
        f"Content-Type: {kind}\r\n\r\n"
    )
    body = head.encode() + data + f"\r\n--{boundary}--\r\n".encode()
    form = f"multipart/form-data; boundary={boundary}"
    status, _, reply = answer(relay, path, "POST", body, Content_Type=form)
    return status, json.loads(reply)


class TestPage:
    def test_the_camera_page(self, relay: RunningRelay) -> None:
        with Painter(relay) as painter, CameraPage(relay, "lime", "human") as camera:
            until(lambda: len(camera.shown) >= 8, what="pictures on the page")
            said = [status["status"] for status in camera.statuses]
            assert said[:3] == ["connected", "wait", "send_frame"]
            assert camera.statuses[0]["message"] == "Connected"
            assert {"status": "mode_changed", "mode": "human"} in camera.statuses
            assert "error" not in said
            assert camera.type == "multipart/x-mixed-replace;boundary=frame"
            assert mean_colour(camera.shown[-1])[1] > 200
            assert painter.patches[-1] == {"prompt": "lime", "mode": "human"}
            pauses = [after - before for before, after in pairwise(camera.asked_at[:3])]
            assert min(pauses) > 0.15, "a camera that is not there yet is not asked at once"

    def test_several_people_have_one_worker_and_a_picture_each(self, relay: RunningRelay) -> None:
        colours = ["red", "lime", "blue"]
        with Painter(relay) as painter, ExitStack() as stack:
            pages = [stack.enter_context(CameraPage(relay, colour)) for colour in colours]
            until(lambda: all(len(p.shown) >= 5 for p in pages), what="pictures for each")
            for number, camera in enumerate(pages):
                for shown in camera.shown[2:]:
                    assert mean_colour(shown)[number] > 200
                    assert sum(mean_colour(shown)) < 400
            assert json.loads(relay.get("/api/queue")) == {"queue_size": 3}
            assert relay.hub.streams["default"].values["prompt"] == "white"
            assert not painter.live
        until(lambda: json.loads(relay.get("/api/queue")) == {"queue_size": 0})
        until(lambda: set(relay.hub.streams) <= {"default"}, what="the pages to be forgotten")

    def test_the_default_stream_goes_on_beside_them(self, relay: RunningRelay) -> None:
        with (
            Painter(relay, pace=0.01) as painter,
            CameraPage(relay),
            CameraPage(relay),
            native(relay, "producer") as producer,
            native(relay, "viewer", "?credit=100") as viewer,
        ):
            until(lambda: len(painter.patches) > 5)
            before = len(painter.patches)
            for _ in range(10):
                producer.publish()
                viewer.packet()
            assert len(painter.patches) > before

    def test_a_page_before_any_worker(self, relay: RunningRelay) -> None:
        with CameraPage(relay, "blue", empty=0) as camera:
            until(lambda: len(camera.asked_at) >= 2, what="patience")
            assert not camera.shown
            with Painter(relay):
                until(lambda: camera.shown, what="a picture once there is a worker")
                assert mean_colour(camera.shown[-1])[2] > 200
            count = len(camera.asked_at)
            until(lambda: len(camera.asked_at) > count + 2, what="patience again")
            with Painter(relay):
                shown = len(camera.shown)
                until(lambda: len(camera.shown) > shown, what="the next worker")

    def test_a_picture_that_fails_does_not_end_it(self, relay: RunningRelay) -> None:
        with Painter(relay) as painter, CameraPage(relay) as camera:
            until(lambda: camera.shown)
            painter.fail = "out of memory"
            shown, asked = len(camera.shown), len(camera.asked_at)
            until(lambda: len(camera.asked_at) > asked + 3)
            assert len(camera.shown) <= shown + 2
            painter.fail = ""
            until(lambda: len(camera.shown) > shown + 3)


class TestSessions:
    def test_a_number_that_is_none(self, relay: RunningRelay) -> None:
        for user in ("nobody", "1", NOBODY + "0", "default"):
            with pytest.raises(InvalidStatus) as refused, page(relay, user):
                pass
            assert refused.value.response.status_code == 403
            assert "UUID" in problem(refused.value.response.body)["message"]

    def test_the_same_number_twice(self, relay: RunningRelay) -> None:
        with page(relay, NOBODY) as first, page(relay, NOBODY.replace("-", "")) as second:
            assert hear(second)["status"] == "error"
            with pytest.raises(ConnectionClosed):
                second.recv(30)
            assert hear(first)["status"] == "connected"
            assert json.loads(relay.get("/api/queue")) == {"queue_size": 1}
            triple(first)
            assert hear(first, "send_frame")

    def test_an_unknown_stream_is_refused_at_once(self, relay: RunningRelay) -> None:
        status, _, body = answer(relay, f"/api/stream/{NOBODY}")
        assert status == 404
        problem(body)
        assert answer(relay, "/api/stream/nobody")[0] == 422
        assert answer(relay, "/healthz")[0] == 200

    def test_the_picture_ends_with_its_session(self, relay: RunningRelay) -> None:
        with page(relay, NOBODY) as websocket:
            hear(websocket)
            parts = urlsplit(relay.url)
            with socket.create_connection((parts.hostname, parts.port), timeout=30) as image:
                head = f"GET /api/stream/{NOBODY} HTTP/1.1\r\nHost: {parts.netloc}\r\n\r\n"
                image.sendall(head.encode())
                assert b"200 OK" in read_until(image, b"\r\n\r\n")
                websocket.close()
                assert read_until(image, b"0\r\n\r\n").endswith(b"0\r\n\r\n")
        assert answer(relay, f"/api/stream/{NOBODY}")[0] == 404

    def test_a_page_may_come_back_after_it_has_gone(self, relay: RunningRelay) -> None:
        for _ in range(3):
            with Painter(relay), page(relay, NOBODY) as websocket:
                hear(websocket, "send_frame")
                triple(websocket, prompt="red")
                hear(websocket, "send_frame")
            until(lambda: json.loads(relay.get("/api/queue")) == {"queue_size": 0})

    @pytest.mark.parametrize(
        "messages",
        [
            ["nonsense"],
            [b"\0"],
            ['{"status":"next_frame"}', "[]"],
            ['{"status":"next_frame"}', "{}", b"no picture"],
            ['{"mode":7}'],
        ],
    )
    def test_what_is_malformed_gets_an_error_and_nothing_hangs(
        self, relay: RunningRelay, messages: list[str | bytes]
    ) -> None:
        with Painter(relay), page(relay) as websocket:
            hear(websocket, "send_frame")
            for message in messages:
                websocket.send(message)
            assert hear(websocket, "error")["message"]
            triple(websocket)
            hear(websocket, "send_frame")
            assert answer(relay, "/healthz")[0] == 200

    @pytest.mark.parametrize("strength", ["much", 7, None, [0.5]])
    def test_a_setting_that_is_refused_costs_no_other_and_no_picture(
        self, relay: RunningRelay, strength: Any
    ) -> None:
        with Painter(relay) as painter, page(relay) as websocket:
            hear(websocket, "send_frame")
            triple(websocket, strength=strength, prompt="red")
            assert hear(websocket, "warning")["message"].startswith("strength: ")
            until(lambda: painter.patches)
            assert painter.patches[0]["prompt"] == "red"


class TestLimits:
    def test_so_many_and_no_more(self) -> None:
        with start_relay(RelaySettings(port=0, max_users=1)) as relay:
            assert json.loads(relay.get("/api/settings"))["max_queue_size"] == 1
            with page(relay) as first:
                assert hear(first)["status"] == "connected"
                with page(relay) as second:
                    assert hear(second) == {"status": "error", "message": "Server is full"}
                    with pytest.raises(ConnectionClosed):
                        second.recv(30)
                assert json.loads(relay.get("/api/queue")) == {"queue_size": 1}
            until(lambda: json.loads(relay.get("/api/queue")) == {"queue_size": 0})
            with page(relay) as third:
                assert hear(third)["status"] == "connected"

    def test_for_so_long_and_no_longer(self) -> None:
        with start_relay(RelaySettings(port=0, session_seconds=0.3)) as relay:
            with page(relay) as websocket:
                assert hear(websocket, "timeout")["message"]
                with pytest.raises(ConnectionClosed):
                    websocket.recv(30)
            until(lambda: json.loads(relay.get("/api/queue")) == {"queue_size": 0})

    def test_the_seeds_flags(self) -> None:
        flags = {"max-queue-size": "3", "timeout": "2.5"}
        settings = RelaySettings.load(flags, environ={})
        assert (settings.max_users, settings.session_seconds) == (3, 2.5)
        settings = RelaySettings.load({"timeout": "0"}, environ={})
        assert settings.session_seconds is None


class TestPorts:
    @pytest.mark.parametrize("port", ["8765,7860", "8765, 7860", (8765, 7860), [8765, 7860]])
    def test_several(self, port: Any) -> None:
        settings = RelaySettings.load({"port": port}, environ={})
        assert (settings.port, settings.more_ports) == (8765, [7860])
        assert RelaySettings.load({"more-ports": "7860"}, environ={}).more_ports == [7860]

    @pytest.mark.parametrize("port", ["1,x", "1,99999", ",", "1,", (1, -2), ["a", "b"]])
    def test_what_is_none(self, port: Any) -> None:
        with pytest.raises(ConfigError, match="--port"):
            RelaySettings.load({"port": port}, environ={})

    def test_each_has_all_doors(self) -> None:
        relay = Relay(RelaySettings(port=0, more_ports=[0], speech="off"))
        relay.bind()
        ports = {listener.getsockname()[1] for listener in relay._sockets}
        assert len(ports) == 2
        with relay.running():
            for port in ports:
                there = RunningRelay(f"http://127.0.0.1:{port}/", relay.hub)
                assert json.loads(there.get("/api/queue")) == {"queue_size": 0}
                with page(there) as websocket:
                    assert hear(websocket)["status"] == "connected"

    def test_one_that_is_taken_leaves_the_others_free(self) -> None:
        with socket.create_server(("127.0.0.1", 0)) as taken:
            settings = RelaySettings(port=0, more_ports=[taken.getsockname()[1]])
            relay = Relay(settings)
            with pytest.raises(ConfigError, match="cannot listen"):
                relay.bind()
            assert relay._sockets == []


class TestSettings:
    def test_before_a_worker(self, relay: RunningRelay) -> None:
        fields = json.loads(relay.get("/api/settings"))
        assert fields["info"]["properties"]["input_mode"]["default"] == "image"
        assert fields["max_queue_size"] == 0
        assert {"prompt", "width", "height"} == set(fields["input_params"]["properties"])

    def test_from_the_workers_schema(self, relay: RunningRelay) -> None:
        with Painter(relay):
            until(lambda: relay.hub.streams["default"].schema)
            fields = json.loads(relay.get("/api/settings"))["input_params"]["properties"]
            assert fields["prompt"]["default"] == "white"
            assert "mode" not in fields, "the page has a switch of its own for that"
            assert (fields["strength"]["field"], fields["strength"]["max"]) == ("range", 1)


class TestReference:
    def test_a_worker_that_imitates(self, relay: RunningRelay) -> None:
        with native(relay, "worker", reference=True) as worker:
            status, reply = upload(relay, "/api/ip_ref_image", picture("red"), kind="image/png")
            assert (status, reply["status"]) == (200, "success")
            assert reply["message"]
            assert worker.text("reference")["image"]
            status, _, body = answer(relay, "/api/ip_ref_image/clear", "POST", b"")
            assert (status, json.loads(body)["status"]) == (200, "success")
            assert worker.text("reference")["image"] is None

    def test_a_worker_that_does_not(self, relay: RunningRelay) -> None:
        with Painter(relay):
            until(lambda: relay.hub.streams["default"].schema)
            status, reply = upload(relay, "/api/ip_ref_image", picture("red"))
            assert (status, reply["status"]) == (400, "error")
            assert "imitate" in reply["message"]

    @pytest.mark.parametrize(
        ("data", "status"),
        [
            (b"", 400),
            (b"no picture", 400),
            (b"GIF89a" + b"\xff\xff\xff\xff" + bytes(20), 400),  # 65,535 pixels a side, it says
            (b"\xff\xd8" + bytes(MAX_PICTURE_BYTES), 413),
            (bytes(2 * MAX_PICTURE_BYTES), 413),
        ],
    )
    def test_what_is_no_picture(self, relay: RunningRelay, data: bytes, status: int) -> None:
        got, reply = upload(relay, "/api/ip_ref_image", data)
        assert (got, reply["status"]) == (status, "error")
        assert set(reply) == {"status", "message"}

    @pytest.mark.parametrize("path", ["/api/ip_ref_image", "/api/stt"])
    @pytest.mark.parametrize(
        ("body", "kind"),
        [
            (b"", ""),
            (b"{}", "application/json"),
            (b"", "multipart/form-data"),
            (b"", "multipart/form-data; boundary=x"),
            (b"--x\r\nnonsense", "multipart/form-data; boundary=x"),
            (b"--y\r\n\r\n--y--", "multipart/form-data; boundary=x"),
            (b"--x\r\nA" + b"a" * 9000 + b": b\r\n\r\n", "multipart/form-data; boundary=x"),
        ],
    )
    def test_what_is_no_form(self, relay: RunningRelay, path: str, body: bytes, kind: str) -> None:
        status, _, reply = answer(relay, path, "POST", body, Content_Type=kind)
        assert status == 422
        assert "expected" in json.dumps(json.loads(reply))

    def test_another_field(self, relay: RunningRelay) -> None:
        assert upload(relay, "/api/ip_ref_image", picture(), field="picture")[0] == 422


class Ear:
    """Says back what it heard, in a thread of its own."""

    def __init__(self) -> None:
        self.threads: set[str] = set()
        self.gate = threading.Event()

    def transcribe(self, data: bytes, vocabulary: Sequence[str]) -> str:
        self.threads.add(threading.current_thread().name)
        if data == b"wait":
            self.gate.wait(20)
        if data == b"noise":
            raise ProtocolError("expected a recording")
        if data == b"early":
            raise MissingExtra("speech", "speech")
        return f"{len(data)} bytes"


class TestSpeech:
    def test_nobody_listens(self) -> None:
        with start_relay(RelaySettings(port=0, speech="off")) as relay:
            status, reply = upload(relay, "/api/stt", b"\x1aE\xdf\xa3")
            assert status == 503
            assert "--speech" in reply["error"]["message"]

    @pytest.mark.parametrize("data", [b"x" * 1000, b"RIFF", b"\r\n--\r\n", bytes(range(256)) * 40])
    def test_somebody_does(self, data: bytes) -> None:
        with listening() as (relay, ear):
            assert upload(relay, "/api/stt", data) == (200, {"text": f"{len(data)} bytes"})
            assert "relay" not in ear.threads, "the event loop goes on meanwhile"
            status, reply = upload(relay, "/api/stt", b"noise")
            assert (status, reply["error"]["message"]) == (422, "expected a recording")
            status, reply = upload(relay, "/api/stt", b"early")
            assert status == 503
            assert "pip install" in reply["error"]["message"]

    def test_one_at_a_time_and_a_few_wait(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(streamdiffusion_web, "MAX_SPEAKERS", 1)
        with listening() as (relay, ear):
            heard: list[int] = []
            threads = [
                threading.Thread(target=lambda: heard.append(upload(relay, "/api/stt", b"wait")[0]))
                for _ in range(3)
            ]
            for thread in threads:
                thread.start()
            until(lambda: 503 in heard, what="a refusal")
            ear.gate.set()
            for thread in threads:
                thread.join(20)
            assert sorted(heard) == [200, 200, 503]
            assert len(ear.threads) <= 2

    def test_a_recording_is_bounded(self, relay: RunningRelay) -> None:
        assert upload(relay, "/api/stt", bytes(11 * 1024 * 1024))[0] == 413


@contextmanager
def listening() -> Iterator[tuple[RunningRelay, Ear]]:
    ear = Ear()
    relay = Relay(RelaySettings(port=0), speech=ear)
    with relay.running() as url:
        yield RunningRelay(url.partition("?")[0], relay.hub), ear
