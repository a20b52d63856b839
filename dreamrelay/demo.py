"""The demo: a relay, a worker and a moving picture in one command, and a count of what came out."""

import os
import socket
import sys
import threading
import time
import webbrowser
from collections import deque
from collections.abc import Callable, Mapping
from contextlib import ExitStack

import numpy as np

from dreamrelay import __version__
from dreamrelay.child import PROGRAM, Child
from dreamrelay.codec import decode, resize
from dreamrelay.config import DemoSettings, ProducerSettings, RelaySettings
from dreamrelay.errors import ConfigError, DreamRelayError
from dreamrelay.link import Link, Listener
from dreamrelay.packet import Packet, Track
from dreamrelay.producer import Producer
from dreamrelay.relay.app import Relay
from dreamrelay.telemetry import Percentiles

STREAM = "default"
LOADING_SECONDS = 300.0
"""A model that is not there after so long will not come."""

STOP_SECONDS = 0.2
"""Ctrl-C in a terminal reaches our programs too, perhaps before us."""

DIFFERENT = 6.0
"""Mean difference of input and output, of 255, from which on a picture counts as transformed."""

LOOK_AT_EVERY = 5
"""Each so many results is compared with its input; the others are counted."""


class Audience(Listener):
    """Somebody who watches both tracks and keeps count."""

    def __init__(self) -> None:
        self.delivered = 0
        self.looked_at = 0
        self.transformed = 0
        self.ages_ms: deque[float] = deque(maxlen=2000)
        self.state = ""
        self.first_ns = 0
        self.last_ns = 0
        self.link: Link | None = None
        self._inputs: dict[int, Packet] = {}
        self._next_look = 1

    def received(self, packet: Packet, track: Track) -> None:
        if self.link is not None:
            self.link.tell("credit", count=1, track=track)
        if track == "input":
            self._inputs[packet.seq] = packet
            while len(self._inputs) > 120:
                del self._inputs[min(self._inputs)]
            return
        self.last_ns = time.monotonic_ns()
        self.first_ns = self.first_ns or self.last_ns
        self.delivered += 1
        self.ages_ms.append(max(0, time.time_ns() - packet.captured_ns) / 1e6)
        source = self._inputs.get(packet.seq)
        if source is not None and self.delivered >= self._next_look:
            self._next_look = self.delivered + LOOK_AT_EVERY
            self.looked_at += 1
            self.transformed += difference(source, packet) >= DIFFERENT

    def heard(self, kind: str, fields: Mapping[str, object]) -> None:
        if kind == "status":
            self.state = f"{fields.get('state')} {fields.get('text') or ''}".strip()

    @property
    def success(self) -> bool:
        """Whether transformed pictures came: most of those that were looked at."""
        return self.delivered > 0 and self.looked_at > 0 and 2 * self.transformed >= self.looked_at

    def summary(self) -> str:
        seconds = max(1e-9, (self.last_ns - self.first_ns) / 1e9)
        fps = (self.delivered - 1) / seconds if self.delivered > 1 else 0.0
        age = Percentiles.of(self.ages_ms)
        what = "transformed pictures delivered" if self.success else "pictures, not transformed"
        return (
            f"{self.delivered} {what} in {seconds:.0f} s: {fps:.1f} fps,"
            f" age {age.p50:.0f} ms median, {age.p95:.0f} ms p95"
        )


def difference(one: Packet, other: Packet) -> float:
    """Mean absolute difference of two pictures at 64x64, of 255."""
    a, b = (
        resize(decode(packet.data), 64, 64, "cover").astype(np.int16) for packet in (one, other)
    )
    return float(np.abs(a - b).mean())


def run_demo(settings: DemoSettings, say: Callable[[str], None], stopped: threading.Event) -> int:
    """Run the demo until its time is over or ``stopped``; 0 if transformed pictures were delivered.

    Raises:
        ConfigError: no port is free, or something is asked of the disasters, which do not happen.
        EngineError: the worker has ended.
        DreamRelayError: the source cannot be opened.
    """
    for flag, given in (("--only", settings.only), ("--json", settings.as_json)):
        if given:
            raise ConfigError(f"{flag}: only the disasters have it: expected --chaos beside it")
    with ExitStack() as stack:
        relay = _relay(settings.port)
        url = stack.enter_context(relay.running())
        websocket = f"ws{url[4:].rstrip('/')}"
        say(f"dreamrelay {__version__}: the studio is at {url}")
        worker = Child(
            "the worker",
            [
                *PROGRAM,
                "worker",
                f"--websocket_uri={websocket}",
                f"--model={settings.model}",
                f"--prompt={settings.prompt}",
                f"--viewer={settings.viewer}",
                f"--osc_port={_osc_port()}",
                f"--verbose={settings.verbose if settings.verbose > 1 else 0}",
            ],
            alone=f"dreamrelay worker --model={settings.model}",
            hear=say,
        )
        stack.callback(worker.end)
        producer = Producer(
            ProducerSettings(
                source=settings.source, websocket_uri=websocket, fps=settings.fps, duration=None
            )
        )
        sending = _Sending(producer)
        sending.start()
        stack.callback(sending.join, 5)
        stack.callback(producer.stop)
        audience = Audience()
        link = Link(websocket, STREAM, "viewer", audience, name="demo", query={"track": "both"})
        audience.link = link
        link.start()
        stack.callback(link.close)
        if not _open_browser(settings.browser, url):
            say(f"  open {url} in a browser: type a prompt, send your camera")
        say(f"  for OBS: {url}streams/{STREAM}/view    Ctrl-C ends it")
        _watch(settings, audience, worker, sending, say, stopped)
    say(f"dreamrelay demo: {audience.summary()}")
    return 0 if audience.success else 1


class _Sending(threading.Thread):
    """The producer's thread; what ended it is kept."""

    def __init__(self, producer: Producer) -> None:
        super().__init__(name="producer", daemon=True)
        self._producer = producer
        self.failure: DreamRelayError | None = None

    def run(self) -> None:
        try:
            self._producer.run()
        except DreamRelayError as error:
            self.failure = error


def _watch(
    settings: DemoSettings,
    audience: Audience,
    worker: Child,
    sending: _Sending,
    say: Callable[[str], None],
    stopped: threading.Event,
) -> None:
    """Say what happens until the time is over or somebody stops it."""
    began = time.monotonic()
    told = ""
    while not stopped.wait(0.1):
        if not audience.delivered and audience.state not in ("", told):
            told = audience.state
            say(f"  {told}")
        elif audience.delivered and told != "live":
            told = "live"
            say(f"  first picture after {time.monotonic() - began:.1f} s")
        if sending.failure is not None:
            raise sending.failure
        if worker.code is not None and not stopped.wait(STOP_SECONDS):
            worker.check()
        if audience.first_ns:
            shown = (time.monotonic_ns() - audience.first_ns) / 1e9
            if settings.duration is not None and shown >= settings.duration:
                return
        elif time.monotonic() - began > LOADING_SECONDS:
            return


def _relay(port: int) -> Relay:
    """A relay on that port, or on one of the twenty after it."""
    last = min(port + 19, 65535)
    for candidate in range(port, last + 1) if port else [0]:
        relay = Relay(RelaySettings(port=candidate))
        try:
            relay.bind()
        except ConfigError:
            continue
        return relay
    raise ConfigError(f"ports {port} to {last} are all taken: give another one with --port")


def _osc_port() -> str:
    """The default OSC port goes to whoever has it already."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.bind(("127.0.0.1", 7000))
        except OSError:
            return "0"
    return "7000"


def _open_browser(wanted: str, url: str) -> bool:
    displayed = sys.platform in ("win32", "darwin") or any(
        os.environ.get(name) for name in ("DISPLAY", "WAYLAND_DISPLAY")
    )
    if wanted == "off" or (wanted == "auto" and not displayed):
        return False
    return webbrowser.open(url)
