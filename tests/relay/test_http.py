"""The relay over plain HTTP: pages, pictures by URL, parameters; each refusal in one form."""

import http.client
import io
import json
import re
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from urllib.parse import urlsplit

import pytest
from PIL import Image
from prometheus_client.parser import text_string_to_metric_families

from dreamrelay.config import RelaySettings
from dreamrelay.relay import bodies
from tests.relay.clients import Engine, answer, native, problem, raw, read_until
from tests.support import RunningRelay, mean_colour, picture, start_relay, until

HTML = "text/html,application/xhtml+xml,*/*;q=0.8"


class TestPages:
    def test_a_browser_gets_the_studio(self, relay: RunningRelay) -> None:
        status, headers, body = answer(relay, "/", Accept=HTML)
        assert status == 200
        assert headers["content-type"].startswith("text/html")
        assert b"<html" in body
        assert "Accept" in headers["vary"]

    @pytest.mark.parametrize("accept", ["application/json", "*/*", ""])
    def test_others_get_the_status(self, relay: RunningRelay, accept: str) -> None:
        status, headers, body = answer(relay, "/", Accept=accept)
        assert (status, headers["content-type"]) == (200, "application/json")
        fields = json.loads(body)
        assert (fields["status"], fields["server"], fields["streams"]) == ("ok", "dreamrelay", [])

    @pytest.mark.parametrize(
        ("path", "framed"), [("/", "'none'"), ("/streams/default/view", "'self'")]
    )
    def test_pages_load_from_here_only(self, relay: RunningRelay, path: str, framed: str) -> None:
        _, headers, _ = answer(relay, path, Accept=HTML)
        policy = headers["content-security-policy"]
        rules = dict(rule.strip().split(" ", 1) for rule in policy.split(";"))
        assert rules["default-src"] == "'self'"
        assert rules["object-src"] == "'none'"
        assert rules["frame-ancestors"] == framed
        assert "unsafe" not in policy
        assert "http" not in policy
        assert headers["referrer-policy"] == "no-referrer"

    def test_modules_have_the_type_that_browsers_insist_on(self, relay: RunningRelay) -> None:
        _, headers, _ = answer(relay, "/static/dreamrelay.js")
        assert headers["content-type"] == "text/javascript; charset=utf-8"
        assert headers["x-content-type-options"] == "nosniff"

    @pytest.mark.parametrize(
        "name",
        [
            "nothing.js",
            "..",
            "../app.py",
            "..%2fapp.py",
            "..%2F..%2F..%2Fetc%2Fpasswd",
            "%2e%2e/app.py",
            "....//app.py",
            "/etc/passwd",
            "%2fetc%2fpasswd",
            "index.html%00",
            "%5c..%5capp.py",
            "",
        ],
    )
    def test_nothing_else_can_be_read(self, relay: RunningRelay, name: str) -> None:
        status, _, body = answer(relay, f"/static/{name}")
        assert status == 404
        problem(body)

    def test_the_icon(self, relay: RunningRelay) -> None:
        assert answer(relay, "/favicon.ico")[0] in (302, 307)
        assert answer(relay, "/static/favicon.svg")[1]["content-type"].startswith("image/svg+xml")

    def test_health(self, relay: RunningRelay) -> None:
        assert json.loads(relay.get("/healthz"))["status"] == "ok"


class TestRefusals:
    @pytest.mark.parametrize(
        ("method", "path", "status"),
        [
            ("GET", "/nowhere", 404),
            ("GET", "/streams/unknown", 404),
            ("GET", "/streams/unknown/parameters", 404),
            ("GET", "/streams/unknown/parameters/schema", 404),
            ("GET", "/streams/unknown/snapshot.jpg", 404),
            ("GET", "/streams/a%20b", 422),
            ("GET", "/streams/a%0a/mjpeg", 422),
            ("GET", "/streams/" + "x" * 65, 422),
            ("GET", "/streams/a/mjpeg?track=sound", 422),
            ("GET", "/streams/a/snapshot.jpg?track=both", 422),
            ("PATCH", "/streams/a%2fb/parameters", 404),
            ("DELETE", "/streams/a", 405),
            ("POST", "/streams/a/parameters", 405),
        ],
    )
    def test_one_form(self, relay: RunningRelay, method: str, path: str, status: int) -> None:
        got, headers, body = answer(relay, path, method)
        assert got == status
        assert headers["content-type"] == "application/json"
        assert problem(body)["message"]
        assert not relay.hub.streams  # and nothing was made of it


class TestParameters:
    def test_before_a_worker_a_patch_is_kept(self, relay: RunningRelay) -> None:
        status, _, body = answer(relay, "/streams/a/parameters", "PATCH", b'{"prompt":"a fox"}')
        assert (status, json.loads(body)) == (200, {"values": {"prompt": "a fox"}, "revision": 1})
        assert json.loads(relay.get("/streams/a/parameters")) == json.loads(body)
        assert answer(relay, "/streams/a/parameters/schema")[0] == 404

    def test_everybody_is_told(self, relay: RunningRelay) -> None:
        with Engine(relay), native(relay, "viewer") as viewer:
            viewer.text("parameters")
            body = json.dumps({"prompt": "a fox", "strength": 0.25}).encode()
            status, _, reply = answer(relay, "/streams/default/parameters", "PATCH", body)
            assert (status, json.loads(reply)["values"]["strength"]) == (200, 0.25)
            told = viewer.text("parameters")
            assert (told["origin"], told["changed"]) == ("rest", ["prompt", "strength"])
            schema = json.loads(relay.get("/streams/default/parameters/schema"))
            assert schema["properties"]["prompt"]["type"] == "string"
            fields = json.loads(relay.get("/streams/default"))
            assert fields["parameters"]["prompt"] == "a fox"
            assert fields["revision"] == 2
            assert fields["state"] == "live"
            listed = json.loads(relay.get("/streams"))["streams"]
            assert [s["stream"] for s in listed] == ["default"]
            assert listed[0]["licence"] == {"name": "MIT"}

    def test_all_or_nothing(self, relay: RunningRelay) -> None:
        with Engine(relay):
            body = b'{"prompt":"a fox","strength":7,"speed":1}'
            status, _, reply = answer(relay, "/streams/default/parameters", "PATCH", body)
            assert status == 422
            error = problem(reply)
            assert (error["code"], set(error["problems"])) == ("parameter", {"strength", "speed"})
            assert json.loads(relay.get("/streams/default/parameters"))["values"]["prompt"] == ""

    @pytest.mark.parametrize(
        ("body", "status"),
        [
            (b"", 400),
            (b"{", 400),
            (b"[]", 400),
            (b'"prompt"', 400),
            (b"\xff\xfe", 400),
            (b'{"a":NaN}', 400),
            (b'{"a":1e999}', 400),
            (b'{"a":' + b"[" * 400 + b"]" * 400 + b"}", 400),
            (b'{"a":' + b"[" * 5000 + b"]" * 5000 + b"}", 400),
            (b'{"prompt":"' + b"x" * 70_000 + b'"}', 413),
            (b'{"not a name":1}', 422),
            (b'{"prompt":"' + b"x" * 9000 + b'"}', 422),
        ],
    )
    def test_bad_bodies(self, relay: RunningRelay, body: bytes, status: int) -> None:
        got, _, reply = answer(relay, "/streams/a/parameters", "PATCH", body)
        assert got == status
        problem(reply)
        assert answer(relay, "/healthz")[0] == 200

    def test_a_body_that_never_ends(
        self, relay: RunningRelay, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(bodies, "BODY_SECONDS", 0.2)
        bare = raw(relay)
        host = urlsplit(relay.url).netloc
        head = f"PATCH /streams/a/parameters HTTP/1.1\r\nHost: {host}\r\nContent-Length: 99\r\n\r\n"
        bare.sendall(head.encode() + b'{"prompt":')
        assert b" 408 " in read_until(bare, b"\r\n")
        bare.close()


@contextmanager
def mjpeg(relay: RunningRelay, query: str = "") -> Iterator[http.client.HTTPResponse]:
    parts = urlsplit(relay.url)
    connection = http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=30)
    try:
        connection.request("GET", f"/streams/default/mjpeg{query}")
        yield connection.getresponse()
    finally:
        connection.close()


def next_part(reply: http.client.HTTPResponse, boundary: bytes) -> tuple[str, bytes]:
    """Content type and body of the next part, read as VLC does: boundary, head, so many bytes."""
    line = reply.readline()
    while line == b"\r\n":
        line = reply.readline()
    assert line == b"--" + boundary + b"\r\n"
    headers = {}
    while (line := reply.readline()) != b"\r\n":
        name, _, value = line.decode().partition(":")
        headers[name.lower()] = value.strip()
    return headers["content-type"], reply.read(int(headers["content-length"]))


class TestPictures:
    def test_mjpeg_part_by_part(self, relay: RunningRelay) -> None:
        with (
            native(relay, "producer") as producer,
            mjpeg(relay, "?track=input") as reply,
        ):
            kind = reply.headers["Content-Type"]
            assert reply.headers["Cache-Control"] == "no-store"
            assert kind.startswith("multipart/x-mixed-replace; boundary=")
            boundary = kind.partition("boundary=")[2].encode()
            stream = relay.hub.streams["default"]
            until(lambda: stream.status()["viewers"] == 1)
            for colour, form in (("red", "JPEG"), ("blue", "PNG"), ("lime", "JPEG")):
                data = picture(colour, form=form)
                producer.publish(data)
                assert next_part(reply, boundary) == (f"image/{form.lower()}", data)
        until(lambda: stream.status()["viewers"] == 0)

    def test_the_end_of_a_part_comes_with_it(self, relay: RunningRelay) -> None:
        """Browsers show a part when they have seen the next boundary."""
        with native(relay, "producer") as producer, mjpeg(relay, "?track=input") as reply:
            until(lambda: relay.hub.streams["default"].status()["viewers"] == 1)
            producer.publish()
            lines = b""
            while lines.count(b"--frame\r\n") < 2:
                lines += reply.readline()

    def test_who_comes_later_sees_the_last_picture_at_once(self, relay: RunningRelay) -> None:
        with Engine(relay), native(relay, "producer") as producer:
            producer.publish()
            until(lambda: relay.hub.streams["default"].tracks["output"].last)
            with mjpeg(relay) as reply:
                kind, data = next_part(reply, b"frame")
                assert kind == "image/jpeg"
                assert mean_colour(data)[2] > 200

    def test_one_that_stops_reading_is_cut_off(self) -> None:
        with (
            start_relay(RelaySettings(port=0, stall_seconds=0.5)) as relay,
            native(relay, "producer") as producer,
        ):
            bare = raw(relay, receive_buffer=4096)
            bare.sendall(
                b"GET /streams/default/mjpeg?track=input HTTP/1.1\r\nHost: localhost\r\n\r\n"
            )
            read_until(bare, b"\r\n\r\n")
            stream = relay.hub.streams["default"]
            until(lambda: stream.status()["viewers"] == 1)
            data = picture(form="PNG").ljust(300_000, b"\0")
            deadline = time.monotonic() + 20
            while stream.status()["viewers"]:
                assert time.monotonic() < deadline
                assert producer.publish(data)["accepted"]
                time.sleep(0.01)
            bare.close()

    @pytest.mark.parametrize("kill", [True, False])
    def test_those_that_go_are_forgotten(self, relay: RunningRelay, kill: bool) -> None:
        stream = relay.hub.stream("default")
        for _ in range(3):
            bare = raw(relay)
            bare.sendall(b"GET /streams/default/mjpeg HTTP/1.1\r\nHost: localhost\r\n\r\n")
            read_until(bare, b"\r\n\r\n")
            until(lambda: stream.status()["viewers"] == 1)
            if kill:
                linger = b"\x01\0\0\0\0\0\0\0"
                bare.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
            bare.close()
            until(lambda: stream.status()["viewers"] == 0)

    def test_snapshot(self, relay: RunningRelay) -> None:
        with Engine(relay), native(relay, "producer") as producer:
            producer.publish(picture("red", form="PNG"))
            until(lambda: relay.hub.streams["default"].tracks["output"].last)
            status, headers, body = answer(relay, "/streams/default/snapshot.jpg")
            assert (status, headers["content-type"]) == (200, "image/jpeg")
            assert headers["x-sequence"] == "1"
            assert headers["cache-control"] == "no-store"
            assert mean_colour(body)[2] > 200
            status, headers, body = answer(relay, "/streams/default/snapshot.jpg?track=input")
            assert headers["content-type"] == "image/png"
            assert headers["x-content-type-options"] == "nosniff"
            assert Image.open(io.BytesIO(body)).size == (64, 48)

    def test_no_snapshot_yet(self, relay: RunningRelay) -> None:
        with native(relay, "viewer"):
            status, _, body = answer(relay, "/streams/default/snapshot.jpg")
            assert (status, "yet" in problem(body)["message"]) == (404, True)


class TestDescriptions:
    def test_openapi(self, relay: RunningRelay) -> None:
        document = json.loads(relay.get("/openapi.json"))
        assert document["openapi"].startswith("3.1")
        assert {
            "/",
            "/streams",
            "/streams/{name}",
            "/streams/{name}/mjpeg",
            "/streams/{name}/snapshot.jpg",
            "/streams/{name}/parameters",
            "/streams/{name}/parameters/schema",
            "/streams/{name}/view",
            "/healthz",
            "/metrics",
        } <= set(document["paths"])
        text = json.dumps(document)
        assert "HTTPValidationError" not in text  # refusals have a form of our own
        for reference in re.findall(r'"\$ref": "#/([^"]+)"', text):
            node = document
            for step in reference.split("/"):
                node = node[step]
        for path, operations in document["paths"].items():
            for operation in operations.values():
                assert operation["summary"]
                assert operation["responses"]
                named = {p["name"] for p in operation.get("parameters", []) if p["in"] == "path"}
                assert named == set(re.findall(r"{(\w+)}", path))

    @pytest.mark.parametrize("path", ["/docs", "/redoc"])
    def test_no_page_that_loads_scripts_from_elsewhere(
        self, relay: RunningRelay, path: str
    ) -> None:
        assert answer(relay, path)[0] == 404

    def test_metrics(self, relay: RunningRelay) -> None:
        with (
            Engine(relay),
            native(relay, "viewer", "?credit=9") as viewer,
            native(relay, "producer") as producer,
        ):
            for _ in range(3):
                producer.publish()
                viewer.packet()
            status, headers, body = answer(relay, "/metrics")
            assert status == 200
            assert headers["content-type"].startswith("text/plain; version=0.0.4")
            samples = {
                (sample.name, *sorted(sample.labels.values())): sample.value
                for family in text_string_to_metric_families(body.decode())
                for sample in family.samples
            }
            assert samples["dreamrelay_packets_total", "default", "input"] == 3
            assert samples["dreamrelay_packets_total", "default", "output"] == 3
            for role in ("producer", "worker", "viewer"):
                assert samples["dreamrelay_peers", "default", role] == 1
            assert samples["dreamrelay_parameters_revision", "default"] == 1
            for quantile in ("0.5", "0.95", "0.99"):
                assert samples["dreamrelay_hop_seconds", quantile, "default", "returned"] >= 0
            assert samples["dreamrelay_age_seconds", "0.5", "default", "returned"] >= 0


BOMB = b"GIF89a" + b"\xff\xff\xff\xff" + bytes(20)
"""65,535 pixels a side, it says."""


class TestReference:
    PATH = "/streams/a/reference"

    def test_a_picture_is_put_shown_and_removed(self, relay: RunningRelay) -> None:
        data = picture("red")
        status, _, body = answer(relay, self.PATH, "PUT", data)
        assert (status, json.loads(body)["reference"]) == (200, True)
        status, headers, body = answer(relay, self.PATH)
        assert (status, headers["content-type"], body) == (200, "image/jpeg", data)
        assert json.loads(answer(relay, "/streams/a")[2])["reference"]
        assert answer(relay, self.PATH, "DELETE")[0] == 200
        assert answer(relay, self.PATH)[0] == 404

    def test_the_result_of_another_stream(self, relay: RunningRelay) -> None:
        assert answer(relay, f"{self.PATH}?from=b", "PUT")[0] == 400
        with (
            native(relay, "worker", stream="b") as worker,
            native(relay, "producer", stream="b") as producer,
        ):
            producer.send_picture()
            seq = worker.packet().seq
            worker.send_picture(picture("blue"), "output", seq=seq)
            until(lambda: answer(relay, f"{self.PATH}?from=b", "PUT")[0] == 200)
        assert mean_colour(answer(relay, self.PATH)[2])[2] > 200

    @pytest.mark.parametrize(
        ("body", "status"),
        [(b"", 400), (b"no picture", 400), (BOMB, 400), (b"x" * (5 * 1024 * 1024), 413)],
    )
    def test_what_is_no_picture(self, relay: RunningRelay, body: bytes, status: int) -> None:
        got, _, reply = answer(relay, self.PATH, "PUT", body)
        assert got == status
        problem(reply)
        assert answer(relay, self.PATH)[0] == 404

    @pytest.mark.parametrize("name", ["../x", "a%20b", "x" * 65])
    def test_an_odd_name_of_the_other_stream(self, relay: RunningRelay, name: str) -> None:
        assert answer(relay, f"{self.PATH}?from={name}", "PUT")[0] in (400, 422)

    def test_a_worker_that_cannot(self, relay: RunningRelay) -> None:
        with native(relay, "worker", stream="a"):
            status, _, reply = answer(relay, self.PATH, "PUT", picture("red"))
            assert status == 409
            assert "--ip_adapter" in problem(reply)["message"]
