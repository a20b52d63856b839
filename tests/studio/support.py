"""Tools of the studio's tests: a browser, a page that may not complain, a scripted worker."""

import base64
import json
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from typing import Any, Literal, Self

from playwright.sync_api import Browser, ConsoleMessage, Page
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import ClientConnection, connect

from dreamrelay.packet import Codec, Hop, Packet, Stamp
from dreamrelay.protocol.native import decode_packet, encode_packet
from tests.support import picture, until

SCHEMA: dict[str, Any] = {
    "type": "object",
    "x-vocabulary": {
        "styles": ["watercolor", "oil painting", "neon", "pencil sketch"],
        "colours": ["red", "blue", "gold"],
        "moods": ["calm", "stormy"],
    },
    "properties": {
        "prompt": {
            "type": "string",
            "maxLength": 200,
            "default": "watercolor",
            "ui": {"group": "look", "widget": "text", "order": 10, "label": "Prompt"},
        },
        "strength": {
            "type": "number",
            "minimum": 0,
            "maximum": 1,
            "default": 0.5,
            "description": "How far the picture may go from the frame.",
            "ui": {"group": "look", "widget": "slider", "order": 20, "label": "Strength"},
        },
        "negative_prompt": {
            "type": "string",
            "maxLength": 200,
            "default": "",
            "ui": {"group": "look", "widget": "text", "order": 25, "label": "Negative prompt"},
        },
        "seed": {
            "type": "integer",
            "minimum": 0,
            "maximum": 2147483647,
            "default": 2,
            "ui": {"group": "look", "widget": "seed", "order": 30, "label": "Seed"},
        },
        "steps": {
            "type": "integer",
            "minimum": 1,
            "maximum": 8,
            "default": 2,
            "ui": {"group": "motion", "widget": "slider", "order": 10, "label": "Steps"},
        },
        "skip_similar": {
            "type": "boolean",
            "default": False,
            "ui": {"group": "motion", "widget": "toggle", "order": 20, "label": "Skip similar"},
        },
        "cfg_type": {
            "type": "string",
            "enum": ["none", "full", "self", "initialize"],
            "default": "self",
            "ui": {"group": "guidance", "widget": "select", "order": 10, "label": "Guidance type"},
        },
        "delta": {
            "anyOf": [{"type": "number", "minimum": 0, "maximum": 2}, {"type": "null"}],
            "default": None,
            "ui": {"group": "guidance", "widget": "number", "order": 20, "label": "Delta"},
        },
        "t_index_list": {
            "anyOf": [
                {"type": "array", "items": {"type": "integer", "minimum": 0, "maximum": 49}},
                {"type": "null"},
            ],
            "default": None,
            "ui": {"group": "advanced", "widget": "list", "order": 10, "label": "Timestep indices"},
        },
    },
}
"""One parameter of each kind that a worker may publish."""

WORKER_SIZE = 64


class FakeWorker:
    """Speaks the native protocol and answers each input with a picture of one colour.

    Attributes:
        patches: what the relay told of changes, in order: (changed, values, origin).
        inputs: the packets that came.
        references: the pictures to imitate that came; None where it was taken back.
        map_watchers: how many look at what steers the picture.
        idle: whether the relay says that it may paint from the prompt alone.
    """

    def __init__(
        self, relay: str, *, colour: str = "blue", model: str = "pocket", reference: bool = False
    ) -> None:
        self.patches: list[dict[str, Any]] = []
        self.inputs: list[Packet] = []
        self.references: list[bytes | None] = []
        self.map_watchers = 0
        self.colour = colour
        self.answers = True
        self.idle = False
        self._values = {n: p["default"] for n, p in SCHEMA["properties"].items()}
        self._revision = 0
        self._stack = ExitStack()
        self._socket: ClientConnection = self._stack.enter_context(
            connect(f"{relay}/streams/default/worker", compression=None, max_size=None)
        )
        self._model = model
        self._reference = reference
        self.introduce(SCHEMA)
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def teach(self, **properties: dict[str, Any]) -> None:
        """Say hello again, with further parameters."""
        self._values |= {name: spec["default"] for name, spec in properties.items()}
        self.introduce({**SCHEMA, "properties": {**SCHEMA["properties"], **properties}})

    def introduce(self, schema: Mapping[str, Any], **more: Any) -> None:
        """Say hello, or say it again, with more fields."""
        self.say(
            "hello",
            version=1,
            name="fake",
            credit=1,
            engine="fake",
            model=self._model,
            device="cpu",
            width=WORKER_SIZE,
            height=WORKER_SIZE,
            schema=schema,
            parameters=self._values,
            reference=self._reference,
            **more,
        )

    def say(self, kind: str, **fields: Any) -> None:
        self._socket.send(json.dumps({"type": kind, **fields}))

    def status(
        self,
        state: Literal["loading", "warming", "live", "paused", "error"],
        text: str = "",
        fraction: float | None = None,
    ) -> None:
        self.say("status", state=state, text=text, fraction=fraction, fps=0)

    def _run(self) -> None:
        try:
            for message in self._socket:
                if isinstance(message, str):
                    self._hear(json.loads(message))
                else:
                    self._answer(message)
        except ConnectionClosed:
            return

    def _hear(self, message: Mapping[str, Any]) -> None:
        if message["type"] == "parameters":
            self._revision = message["revision"]
            if message["changed"]:
                self.patches.append({n: message["values"][n] for n in message["changed"]})

        elif message["type"] == "audience":
            self.idle = message["idle"]
            self.map_watchers = message["control"]
        elif message["type"] == "reference":
            image = message["image"]
            self.references.append(image and base64.b64decode(image))

    def paint(self) -> None:
        """Send a picture made from no input."""
        self._return(0, time.time_ns())

    def steer(self, colour: str) -> None:
        """Send a map of one colour on the control track."""
        size = (WORKER_SIZE, WORKER_SIZE)
        self._socket.send(encode_packet(Packet.of(picture(colour, size)), "control"))

    def _answer(self, message: bytes) -> None:
        packet, _ = decode_packet(message)
        self.inputs.append(packet)
        for hop in (Hop.RECEIVED, Hop.DECODED, Hop.INFER, Hop.INFERRED, Hop.REENCODED):
            packet = packet.stamped(hop)
        if self.answers:
            self._return(packet.seq, packet.captured_ns, packet.stamps)
        self.say("credit", count=1)

    def _return(self, seq: int, captured_ns: int, stamps: tuple[Stamp, ...] = ()) -> None:
        made = Packet(
            picture(self.colour, (WORKER_SIZE, WORKER_SIZE)),
            Codec.JPEG,
            WORKER_SIZE,
            WORKER_SIZE,
            seq,
            captured_ns,
            self._revision,
            stamps,
        )
        self._socket.send(encode_packet(made, "output"))

    def close(self) -> None:
        self._stack.close()
        self._thread.join(10)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


CENTRE = """(id) => {
    const canvas = document.getElementById(id);
    const copy = new OffscreenCanvas(1, 1).getContext("2d", { willReadFrequently: true });
    copy.drawImage(canvas, -(canvas.width >> 1), -(canvas.height >> 1));
    return Array.from(copy.getImageData(0, 0, 1, 1).data);
}"""


def pixel(page: Page, canvas: str) -> tuple[int, int, int, int]:
    """The middle of a canvas: red, green, blue, opacity."""
    red, green, blue, alpha = page.evaluate(CENTRE, canvas)
    return red, green, blue, alpha


def shows(page: Page, canvas: str, like: Callable[[int, int, int], bool], what: str) -> None:
    """Wait until the middle of a canvas is of that kind."""

    def right() -> bool:
        red, green, blue, alpha = pixel(page, canvas)
        return alpha == 255 and like(red, green, blue)

    until(right, 15, f"{canvas} to be {what}")


def is_blue(red: int, green: int, blue: int) -> bool:
    return blue > 200 and red < 60 and green < 60


@contextmanager
def quiet_page(
    browser: Browser, *, allowed: tuple[str, ...] = (), **context: Any
) -> Iterator[Page]:
    """A page in a context of its own that must not log an error or break its own rules.

    Args:
        allowed: parts of error lines that the test provokes.
    """
    errors: list[str] = []

    def logged(message: ConsoleMessage) -> None:
        if message.type in ("error", "warning"):
            errors.append(message.text)

    with browser.new_context(**context) as made:
        page = made.new_page()
        page.on("console", logged)
        page.on("pageerror", lambda error: errors.append(str(error)))
        page.set_default_timeout(15_000)
        # A browser that is just starting, on a busy machine, takes longer than a button.
        page.set_default_navigation_timeout(60_000)
        yield page
    bad = [error for error in errors if not any(part in error for part in allowed)]
    assert not bad, "\n".join(bad)
