"""The web pages of the seeds as clients: each does what the real one's script does, in order."""

import http.client
import json
import threading
import time
import uuid
from contextlib import suppress
from typing import Any, ClassVar
from urllib.parse import urlsplit

from websockets.exceptions import ConnectionClosed
from websockets.sync.client import ClientConnection, connect

from dreamrelay.hub import Peer
from dreamrelay.packet import Packet
from dreamrelay.protocol.messages import Notice, RequestOffered, Role
from dreamrelay.protocol.native import decode_packet, encode_packet
from tests.relay.clients import base64_picture, native
from tests.support import RunningRelay, picture


class Painter(threading.Thread):
    """A worker whose pictures have the colour that the prompt names.

    Args:
        pace: seconds that a picture takes.
    """

    SCHEMA: ClassVar[dict[str, Any]] = {
        "type": "object",
        "properties": {
            "prompt": {"type": "string", "maxLength": 2000},
            "strength": {"type": "number", "minimum": 0, "maximum": 1},
            "mode": {"enum": ["full", "human"], "default": "full"},
        },
    }

    def __init__(self, relay: RunningRelay, stream: str = "default", pace: float = 0.0) -> None:
        super().__init__(daemon=True)
        self._relay = relay
        self._stream = stream
        self._pace = pace
        self._websocket: ClientConnection | None = None
        self.ready = threading.Event()
        self.patches: list[dict[str, Any]] = []
        self.live = 0
        self.fail = ""

    def run(self) -> None:
        hello: dict[str, Any] = {
            "schema": self.SCHEMA,
            "parameters": {"prompt": "white"},
            "credit": 2,
        }
        relay, stream = self._relay, self._stream
        with suppress(ConnectionClosed), native(relay, "worker", stream=stream, **hello) as client:
            self._websocket = client.websocket
            client.send("status", state="live")
            self.ready.set()
            asked: dict[str, Any] = {}
            prompt = "white"
            for message in client.websocket:
                if isinstance(message, str):
                    fields = json.loads(message)
                    if fields["type"] == "request":
                        asked = fields
                    elif fields["type"] == "parameters":
                        prompt = fields["values"].get("prompt", prompt)
                    continue
                packet, _ = decode_packet(message)
                time.sleep(self._pace)
                colour = prompt
                if packet.private:
                    self.patches.append(asked["patch"])
                    colour = asked["patch"].get("prompt", prompt)
                else:
                    self.live += 1
                if self.fail and packet.private:
                    client.send("failed", seq=packet.seq, message=self.fail)
                else:
                    data = picture(colour if colour in COLOURS else "white")
                    made = Packet.of(data, seq=packet.seq, captured_ns=packet.captured_ns)
                    made = made.but(private=packet.private)
                    client.websocket.send(encode_packet(made, "output"))
                client.credit()

    def __enter__(self) -> "Painter":
        self.start()
        assert self.ready.wait(10)
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        assert self._websocket is not None
        self._websocket.close()
        self.join(10)


class Somebody(Peer):
    """A peer without a socket, who keeps what it hears."""

    def __init__(self, role: Role, name: str = "") -> None:
        self.role = role
        self.id = f"{role}-{id(self)}"
        self.name = name
        self.heard: list[Notice] = []

    def notify(self, notice: Notice) -> None:
        self.heard.append(notice)

    def wake(self) -> None:
        """It looks by itself."""

    def offered(self) -> list[RequestOffered]:
        return [notice for notice in self.heard if isinstance(notice, RequestOffered)]


COLOURS = ("white", "red", "lime", "blue")


def data_url(colour: str = "red") -> str:
    return "data:image/jpeg;base64," + base64_picture(colour=colour)


class Page(threading.Thread):
    """A page in a thread of its own; ``with`` opens it."""

    def __init__(self, relay: RunningRelay) -> None:
        super().__init__(daemon=True)
        self.relay = relay
        self.closing = threading.Event()
        self.failures: list[BaseException] = []

    def run(self) -> None:
        try:
            self.live()
        except ConnectionClosed:
            pass
        except BaseException as error:  # noqa: BLE001 - the test looks at it
            self.failures.append(error)

    def live(self) -> None:
        raise NotImplementedError

    def __enter__(self) -> Any:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.closing.set()
        self.join(20)
        assert not self.is_alive()
        assert not self.failures, self.failures


class BroadcastPage(Page):
    """DreamStream's broadcaster: ``ping`` and ``get_server_info`` on opening, a picture now and
    then, and the latest frame asked for in between. It stops by closing its socket.
    """

    def __init__(
        self, relay: RunningRelay, stream: str, colour: str = "red", every: float = 0.05
    ) -> None:
        super().__init__(relay)
        self.path = f"/ws/broadcaster/{stream}?processor_type=lightning"
        self.stream = stream
        self.colour = colour
        self.every = every
        self.heard: list[dict[str, Any]] = []
        self.shown = ""

    def live(self) -> None:
        with connect(self.relay.websocket + self.path) as websocket:
            websocket.send('{"type":"ping"}')
            websocket.send('{"type":"get_server_info"}')
            number = 0
            while not self.closing.is_set():
                number += 1
                frame = {
                    "type": "frame",
                    "streamId": self.stream,
                    "frame": data_url(self.colour),
                    "frameNumber": number,
                    "requiresProcessing": True,
                }
                websocket.send(json.dumps(frame))
                websocket.send('{"type":"get_latest_frame"}')
                self.listen(websocket)

    def listen(self, websocket: ClientConnection) -> None:
        deadline = time.monotonic() + self.every
        while (left := deadline - time.monotonic()) > 0:
            try:
                message = json.loads(websocket.recv(left))
            except TimeoutError:
                return
            self.heard.append(message)
            if message["type"] == "latest_frame" and message["frame"]:
                assert message["frame"].startswith("data:image")
                self.shown = message["frame"]

    def types(self) -> list[str]:
        return [message["type"] for message in self.heard]


class WatchPage(Page):
    """DreamStream's watch page: it opens its socket anew after every picture that it shows."""

    def __init__(self, relay: RunningRelay, stream: str) -> None:
        super().__init__(relay)
        self.path = f"/ws/viewer/{stream}"
        self.joins = 0
        self.shown: list[str] = []
        self.ended = False

    def live(self) -> None:
        while not self.closing.is_set():
            with connect(self.relay.websocket + self.path, close_timeout=1) as websocket:
                self.joins += 1
                self.watch(websocket)

    def watch(self, websocket: ClientConnection) -> None:
        while not self.closing.is_set():
            try:
                message = json.loads(websocket.recv(0.1))
            except TimeoutError:
                continue
            if message["type"] == "stream_ended":
                self.ended = True
            if message["type"] != "frame" or message["is_original"] or not message["processed"]:
                continue
            if message["frame"].startswith("data:image"):
                self.shown.append(message["frame"])
                return


class CameraPage(Page):
    """StreamDiffusion-Web's page: says its mode once connected, opens the MJPEG stream of its own
    number in an ``<img>``, and answers each ``send_frame`` by three messages.
    """

    def __init__(
        self, relay: RunningRelay, prompt: str = "red", mode: str = "full", empty: int = 2
    ) -> None:
        super().__init__(relay)
        self.user = str(uuid.uuid4())
        self.prompt = prompt
        self.mode = mode
        self.empty = empty
        """So many pictures are empty at first: the camera is not there yet."""
        self.camera = picture("white")
        self.statuses: list[dict[str, Any]] = []
        self.asked_at: list[float] = []
        self.shown: list[bytes] = []
        self.type = ""
        self._image: threading.Thread | None = None
        self._response: http.client.HTTPResponse | None = None

    def live(self) -> None:
        with connect(f"{self.relay.websocket}/api/ws/{self.user}") as websocket:
            while not self.closing.is_set():
                try:
                    message = json.loads(websocket.recv(0.1))
                except TimeoutError:
                    continue
                self.statuses.append(message)
                match message["status"]:
                    case "connected":
                        websocket.send(json.dumps({"mode": self.mode}))
                        self.open_image()
                    case "send_frame":
                        self.answer(websocket)
                    case "timeout" | "error":
                        break

    def answer(self, websocket: ClientConnection) -> None:
        self.asked_at.append(time.monotonic())
        websocket.send('{"status":"next_frame"}')
        settings = {"prompt": self.prompt, "ip_adapter_scale": 1, "mode": self.mode}
        websocket.send(json.dumps(settings))
        self.empty -= 1
        websocket.send(b"" if self.empty >= 0 else self.camera)

    def open_image(self) -> None:
        self._image = threading.Thread(target=self.look, daemon=True)
        self._image.start()

    def look(self) -> None:
        """What an ``<img>`` does with a stream of parts."""
        parts = urlsplit(self.relay.url)
        connection = http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=20)
        connection.request("GET", f"/api/stream/{self.user}")
        reply = connection.getresponse()
        self.type = reply.getheader("content-type", "")
        while line := reply.readline():
            if line.lower().startswith(b"content-length:"):
                size = int(line.split(b":")[1])
                assert reply.readline() == b"\r\n"
                self.shown.append(reply.read(size))
        connection.close()

    def __exit__(self, *arguments: object) -> None:
        super().__exit__(*arguments)
        if self._image is not None:
            self._image.join(10)
            assert not self._image.is_alive(), "the picture's stream ends with its session"
