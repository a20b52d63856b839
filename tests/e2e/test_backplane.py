"""Relays that share streams over a real NATS: on one machine, and on two whose wire is cut."""

import json
import time
import urllib.request
from collections.abc import Mapping
from contextlib import ExitStack
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from dreamrelay.config import RelaySettings
from dreamrelay.link import Link
from dreamrelay.packet import Packet, Track
from tests.fakes.machines import machines
from tests.fakes.nats_server import NEEDS_NATS, NatsServer, configured, nats_server
from tests.fakes.peers import Camera, Heard, Person
from tests.relay.pages import BroadcastPage, CameraPage, Painter, WatchPage
from tests.support import (
    ROOT,
    Program,
    RunningRelay,
    mean_colour,
    picture,
    start_relay,
    until,
)

pytestmark = [pytest.mark.xdist_group("e2e"), pytest.mark.timeout(300), NEEDS_NATS]

HELLO: dict[str, Any] = {
    "engine": "scripted",
    "model": "none",
    "device": "nowhere",
    "credit": 2,
    "schema": {
        "type": "object",
        "properties": {"prompt": {"type": "string"}, "strength": {"type": "number", "maximum": 1}},
    },
    "parameters": {"prompt": "", "strength": 0.5},
}
SETTINGS = "max_payload: 8MB\nmax_pending: 32MB\nwrite_deadline: 2s\n"


class Worker(Heard):
    """Gives back what it is given."""

    def __init__(self, uri: str) -> None:
        super().__init__()
        self.link = Link(uri, "default", "worker", self)
        self.link.hello = HELLO
        self.link.start()
        until(lambda: self.welcomes, what=f"a welcome from {uri}")

    def opened(self, welcome: Mapping[str, Any]) -> None:
        super().opened(welcome)
        self.link.tell("status", state="live")

    def received(self, packet: Packet, track: Track) -> None:
        super().received(packet, track)
        time.sleep(0.05)  # so that one alone is too slow for the camera
        self.link.send_picture(packet, "output")
        self.link.tell("credit", count=1)


class House(ExitStack):
    """A viewer and a worker at each of some relays."""

    def __init__(self, *uris: str) -> None:
        super().__init__()
        self.viewers = [self.enter_context(Person(uri)) for uri in uris]
        self.workers = [Worker(uri) for uri in uris]
        for worker in self.workers:
            self.callback(worker.link.close)

    def film(self, uri: str) -> None:
        camera = Camera(uri)
        camera.start()
        self.callback(camera.stop)

    def new_for_everybody(self, count: int = 5) -> None:
        """Everybody sees so many new pictures."""
        before = [len(viewer.results) for viewer in self.viewers]
        until(
            lambda: all(
                len(viewer.results) >= seen + count
                for viewer, seen in zip(self.viewers, before, strict=True)
            ),
            60,
            "new pictures at every viewer",
        )

    def counts_up(self) -> bool:
        """Whether no viewer ever saw a picture twice, or an older one after it."""
        numbers = [[packet.seq for packet in viewer.results] for viewer in self.viewers]
        return all(a < b for row in numbers for a, b in pairwise(row))


def test_two_relays_two_workers_and_viewers_at_both(tmp_path: Path) -> None:
    with nats_server(tmp_path, configured(tmp_path, SETTINGS)) as server, ExitStack() as stack:

        def relay(name: str) -> RunningRelay:
            settings = RelaySettings(
                port=0, backplane=server.url, relay_name=name, max_message_mb=7
            )
            return stack.enter_context(start_relay(settings))

        def home(relay: RunningRelay) -> str | None:
            stream = relay.hub.find("default")
            return stream.mirrored.home if stream else None

        a = relay("a")
        stack.enter_context(Person(a.websocket))  # with whom the stream begins
        until(lambda: home(a) == "a", 60, "a home")
        b = relay("b")
        until(lambda: home(b) == "a", 60, "a mirror")
        house = stack.enter_context(House(a.websocket, b.websocket))
        house.film(b.websocket)
        until(lambda: all(len(worker.packets) > 5 for worker in house.workers), 60, "work for both")
        house.new_for_everybody()
        request = urllib.request.Request(
            f"{b.url}streams/default/parameters", data=b'{"prompt": "x"}', method="PATCH"
        )
        with urllib.request.urlopen(request, timeout=30) as reply:
            assert json.loads(reply.read())["values"]["prompt"] == "x"
        until(lambda: all(viewer.values.get("prompt") == "x" for viewer in house.viewers), 60)
        until(lambda: house.viewers[0].status.get("workers") == 2, 60, "both workers counted")
        status = json.loads(b.get("/"))
        assert status["backplane"] == {"relay": "b", "connected": True, "relays": ["a"]}
        assert status["streams"][0]["home"] == "a"
        assert b"dreamrelay_backplane_connected 1.0" in b.get("/metrics")
        assert b.get("/streams/default/snapshot.jpg?track=input").startswith(b"\xff\xd8")
        assert house.counts_up()


def test_the_pages_of_the_seeds_at_a_mirror_have_the_worker_at_home(tmp_path: Path) -> None:
    with nats_server(tmp_path, configured(tmp_path, SETTINGS)) as server, ExitStack() as stack:
        a, b = (
            stack.enter_context(
                start_relay(
                    RelaySettings(port=0, backplane=server.url, relay_name=name, max_message_mb=7)
                )
            )
            for name in "ab"
        )
        stack.enter_context(Painter(a))

        def lends(relay: RunningRelay) -> bool:
            stream = relay.hub.find("default")
            return stream is not None and stream.worker is not None

        until(lambda: lends(b), 60, "the worker, as the other relay knows it")
        assert b.hub.streams["default"].mirrored.home == "a"
        camera = stack.enter_context(CameraPage(b, "blue"))
        cast = stack.enter_context(BroadcastPage(b, "alice"))
        watcher = stack.enter_context(WatchPage(a, "alice"))

        def blue() -> bool:
            red, _, blue = mean_colour(camera.shown[-1]) if camera.shown else (0, 0, 0)
            return red < 100 and blue > 200

        until(blue, 60, "a picture on the camera's page, under its own prompt")
        until(lambda: cast.shown and watcher.shown, 60, "pictures on the pages of a broadcast")
        said = {status["status"] for status in camera.statuses}
        assert {"connected", "wait", "send_frame"} <= said
        assert "error" not in said


def says(viewer: Person, prompt: str) -> bool:
    """Whether that prompt is in force, as far as this viewer was told."""
    return viewer.values.get("prompt") == prompt


def test_the_wire_between_two_machines_is_cut_and_mended(tmp_path: Path) -> None:
    token = "a-token-for-this-test"
    with machines("a", "b", "s") as net, ExitStack() as stack:
        for name in "ab":
            net.wire(name, "s")
            net.wire(name)
        server = NatsServer(tmp_path, configured(tmp_path, SETTINGS), address="0.0.0.0")
        stack.callback(server.stop)
        server.start(*net.inside("s"))

        def start(name: str) -> Program:
            flags = [f"--host={net.address(name)}", "--port=8765", f"--token={token}"]
            nats = f"nats://{net.address('s', name)}:{server.port}"
            flags += [f"--backplane={nats}", f"--relay_name={name}", "--max_message_mb=7"]
            program = Program(str(ROOT / "server.py"), *flags, before=net.inside(name))
            stack.callback(program.stop)
            return program

        def uri(name: str) -> str:
            return f"ws://{net.address(name)}:8765/?token={token}"

        relays = {name: start(name) for name in "ab"}
        for relay in relays.values():
            relay.line("studio at")
        house = stack.enter_context(House(uri("a"), uri("b")))

        def homes() -> list[object]:
            return [viewer.status.get("home") for viewer in house.viewers]

        until(lambda: homes() in (["a", "a"], ["b", "b"]), 60, "one home")
        home = str(homes()[0])  # that of who was first
        mirror = "ab".replace(home, "")
        at_home, at_mirror = (house.viewers["ab".index(name)] for name in (home, mirror))
        house.film(uri(home))
        house.new_for_everybody()
        net.cut(mirror, "s")
        until(lambda: homes() == ["a", "b"], 60, "each its own home")
        camera = stack.enter_context(Person(uri(mirror), "producer"))
        seen = len(at_mirror.results)
        camera.send(picture(), 1)
        until(lambda: len(at_mirror.results) > seen, 60, "a picture at the cut-off relay")
        at_home.link.patch({"prompt": "sooner"}, "test")
        until(partial(says, at_home, "sooner"), 60, "the home's prompt")
        at_mirror.link.patch({"prompt": "later"}, "test")
        until(partial(says, at_mirror, "later"), 60, "the other's prompt")
        net.mend(mirror, "s")
        until(lambda: homes() == [home, home], 90, "one home again")
        house.new_for_everybody()
        for viewer in house.viewers:
            until(partial(says, viewer, "later"), 60, "the later prompt at both")
        assert house.counts_up()
