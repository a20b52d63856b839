"""``dreamrelay bench glass``: how old pictures are when they are seen, measured from outside.

A producer sends a picture of a clock (``pattern://timecode``) through a relay and a worker, each a
process of its own, as everybody starts them. Who sees it reads the clock in the picture and looks
at its own: the difference is the latency from glass to glass, and no stamp has a part in it. Beside
it stands what the stamps say, so one sees how far they can be trusted. Everything runs on this
machine, so there is one clock.

Seen are the packets that a viewer gets, and what the screen really shows of the worker's window and
of a page in a browser: the screen is read as fast as that is possible. ``docs/latency.md`` says
what is not counted.
"""

import json
import os
import platform
import re
import shutil
import tempfile
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from dreamrelay import __version__
from dreamrelay.child import PROGRAM, Child
from dreamrelay.codec import decode
from dreamrelay.config import BenchSettings
from dreamrelay.errors import ConfigError, DeviceError, DreamRelayError, EngineError, ProtocolError
from dreamrelay.link import Link, Listener
from dreamrelay.mailbox import Mailbox
from dreamrelay.media import Source, open_source
from dreamrelay.media.timecode import Box, age_ms, find_code, read_code
from dreamrelay.packet import Packet, Track
from dreamrelay.telemetry import Percentiles
from dreamrelay.viewer import viewer_available

STREAM = "default"
START_SECONDS = 60.0
LOADING_SECONDS = 300.0
STOP_SECONDS = 0.2
SETTLE_SECONDS = 1.5
"""From the first picture on: windows find their size, and the engine its pace."""

SAID_SECONDS = 10.0
"""Of so long is what the relay says of pictures that were shown."""

LOST_SECONDS = 0.5
"""A clock that cannot be read for so long may be at another place on the screen."""

SCREEN_SECONDS = 5.0
"""A virtual screen begins anew when its last window has gone; then it is away for a moment."""

PAUSE_SECONDS = 0.003
"""Between two looks at the screen, for those who work."""

BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")


@dataclass(slots=True)
class Sight:
    """What was seen in one way.

    Attributes:
        by: the way.
        glass: by the clock in the pictures, ms.
        claimed: by the stamps, ms; empty where ``said`` has it.
        said: what the relay says of these pictures, if it was told.
        unread: pictures whose clock could not be read.
        late: how long before it was read a picture may have been there, ms.
        when: it was read, by the monotonic clock in seconds; for what is compared with ``said``.
    """

    by: str
    glass: list[float] = field(default_factory=list)
    claimed: list[float] = field(default_factory=list)
    said: Percentiles | None = None
    unread: int = 0
    late: list[float] = field(default_factory=list)
    when: list[float] = field(default_factory=list)

    def figures(self) -> dict[str, Any]:
        """As data; times in ms."""
        glass, claim = Percentiles.of(self.glass), self.claim
        return {
            "by": self.by,
            "pictures": len(self.glass),
            "unread": self.unread,
            "glass_ms": asdict(glass),
            "stamps_ms": None if claim is None else asdict(claim),
            "more_ms": self.more,
            "read_late_ms": Percentiles.of(self.late).p95 if self.late else 0.0,
        }

    @property
    def more(self) -> tuple[float, float, float] | None:
        """How much older pictures were than stamps say, ms: median, 95th and 99th."""
        claim = self.claim
        if claim is None or not self.glass:
            return None
        pairs = list(zip(self.when, self.glass, strict=True)) if self.said else []
        last = [ms for when, ms in pairs if when >= pairs[-1][0] - SAID_SECONDS]
        seen = Percentiles.of(last or self.glass)
        return seen.p50 - claim.p50, seen.p95 - claim.p95, seen.p99 - claim.p99

    @property
    def claim(self) -> Percentiles | None:
        """What the stamps say, if anything."""
        return Percentiles.of(self.claimed) if self.claimed else self.said


# -- ways of seeing -------------------------------------------------------------------------------


class PacketEye(Listener):
    """Sees packets, as a viewer gets them."""

    def __init__(self, websocket: str) -> None:
        self._packets: Mailbox[tuple[Packet, int]] = Mailbox()
        self._link = Link(websocket, STREAM, "viewer", self, name="glass")

    def received(self, packet: Packet, track: Track) -> None:
        self._packets.put((packet, time.time_ns()))
        self._link.tell("credit", count=1)

    @contextmanager
    def watching(self) -> Iterator[None]:
        self._link.start()
        try:
            yield
        finally:
            self._link.close()

    def look(self, sight: Sight) -> None:
        """See one picture, if one comes soon."""
        came = self._packets.take(0.1)
        if came is None:
            return
        packet, arrived = came
        try:
            sight.glass.append(age_ms(read_code(decode(packet.data)), arrived))
        except (ValueError, ProtocolError):
            sight.unread += 1
        else:
            captured = packet.captured_ns - self._link.clock.ahead_ns
            sight.claimed.append((arrived - captured) / 1e6)


class ScreenEye:
    """Sees what the first screen shows: finds the clock on it, then looks at that part only."""

    def __init__(self) -> None:
        self._source = _open_screen()
        self._box: Box | None = None
        self._code = -1
        self._looked_ns = 0
        self._read_at = self._seen_at = time.monotonic()

    def look(self, sight: Sight) -> None:
        """Look once; a picture that was seen before is not seen again."""
        began = time.time_ns()
        try:
            captured = self._source.read()
        except DeviceError:
            if time.monotonic() - self._seen_at > SCREEN_SECONDS:
                raise
            time.sleep(0.1)
            return
        now = time.time_ns()
        self._seen_at = time.monotonic()
        if captured is None:
            return
        try:
            if self._box is None:
                self._fix(*find_code(captured.frame)[0])
                return
            code = read_code(captured.frame, self._box)
        except ValueError:
            self._fail(sight)
            return
        self._read_at = time.monotonic()
        if code != self._code:
            # It came at some time after the look before this one had begun.
            if self._code >= 0:
                sight.glass.append(age_ms(code, now))
                sight.late.append((now - self._looked_ns) / 1e6)
                sight.when.append(time.monotonic())
            self._code = code
        self._looked_ns = began
        time.sleep(PAUSE_SECONDS)

    def close(self) -> None:
        self._source.close()

    def _fix(self, x: int, y: int, width: int, height: int) -> None:
        self._source.close()
        self._source = _open_screen(f"?region={x},{y},{width},{height}")
        self._box = (0, 0, width, height)
        self._code = -1

    def _fail(self, sight: Sight) -> None:
        """A picture may be half the one before; a window may have moved."""
        if self._box is None:
            time.sleep(0.05)
            return
        sight.unread += 1
        if time.monotonic() - self._read_at > LOST_SECONDS:
            self._read_at = time.monotonic()
            self._source.close()
            self._source, self._box = _open_screen(), None


# -- the measurement ------------------------------------------------------------------------------


class Bench:
    """Relay and producer, and a worker for each way of seeing."""

    def __init__(
        self,
        settings: BenchSettings,
        say: Callable[[str], None],
        stopped: threading.Event,
        stack: ExitStack,
    ) -> None:
        self._settings = settings
        self._say = say
        self._stopped = stopped
        self._stack = stack
        self._children: list[Child] = []
        relay = self._start("relay", "--port=0", "--speech=off")
        self.url = relay.find(r"studio at (http\S+)").partition("?")[0].rstrip("/")
        self._websocket = f"ws{self.url[4:]}"
        self._start(
            "producer",
            "--source=pattern://timecode",
            f"--websocket_uri={self._websocket}",
            f"--fps={settings.fps}",
            "--duration=0",
            "--verbose=0",
        )
        self.hops: dict[str, Any] = {}
        self.clocks: list[dict[str, Any]] = []

    def _start(self, command: str, *flags: str, alone: str = "") -> Child:
        words = [*PROGRAM, command, *flags]
        return self._keep(Child(f"the {command}", words, alone=f"dreamrelay {command} {alone}"))

    def _keep(self, child: Child) -> Child:
        self._children.append(child)
        self._stack.callback(child.end)
        return child

    def _end(self, child: Child) -> None:
        self._children.remove(child)
        child.end()

    def packets(self) -> Sight:
        """See packets."""
        worker = self._work("off")
        eye = PacketEye(self._websocket)
        with eye.watching():
            sight = self._watch("packets", eye.look)
            report = self._get("latency")
        self.hops, self.clocks = report["hops"], report["clocks"]
        self._end(worker)
        return sight

    def window(self) -> Sight:
        """See the worker's window."""
        worker = self._work("on")
        sight = self._watch_screen("window", "window")
        self._end(worker)
        return sight

    def browser(self, program: str) -> Sight:
        """See a page in a browser."""
        worker = self._work("off")
        folder = self._stack.enter_context(tempfile.TemporaryDirectory(ignore_cleanup_errors=True))
        page = f"{self.url}/streams/{STREAM}/view?guard=off&report=on"
        # Its sandbox cannot be had by the administrator, in a container for instance.
        alone = ["--no-sandbox"] if hasattr(os, "geteuid") and os.geteuid() == 0 else []
        command = [
            program,
            f"--app={page}",
            f"--user-data-dir={folder}",
            "--start-fullscreen",
            "--no-first-run",
            "--disable-extensions",
            "--disable-background-networking",
            *alone,
        ]
        browser = self._keep(Child("the browser", command))
        sight = self._watch_screen("page in the browser", "view")
        self._end(browser)
        self._end(worker)
        return sight

    def _work(self, viewer: str) -> Child:
        """A worker that is live, with the wanted strength."""
        model = f"--model={self._settings.model}"
        uri = f"--websocket_uri={self._websocket}"
        quiet = (f"--viewer={viewer}", "--osc_port=0", "--verbose=0")
        worker = self._start("worker", uri, model, *quiet, alone=model)
        deadline = time.monotonic() + LOADING_SECONDS
        told = ""
        while True:
            status = self._get("")
            if status.get("state") == "live" and status.get("fps_out"):
                break
            now = f"{status.get('state', '')} {status.get('text', '')}".strip()
            if now and now != told:
                told = now
                self._say(f"  {told}")
            if time.monotonic() > deadline:
                raise EngineError(f"no picture came in {LOADING_SECONDS:.0f} s: {told}")
            self._wait(0.2)
        self._patch({"strength": self._settings.strength})
        self._wait(SETTLE_SECONDS)
        return worker

    def _watch(self, by: str, look: Callable[[Sight], None]) -> Sight:
        """See for the wanted time from the first picture on: a browser takes its own to open."""
        sight = Sight(by)
        deadline = time.monotonic() + START_SECONDS
        while not sight.glass and time.monotonic() < deadline:
            self._wait(0)
            look(sight)
        if not sight.glass:
            return sight
        sight = Sight(by)
        self._say(f"  {by}: {self._settings.seconds:g} s")
        deadline = time.monotonic() + self._settings.seconds
        last = deadline + START_SECONDS  # for the first one, if it is so slow
        while time.monotonic() < (deadline if sight.glass else last):
            self._wait(0)
            look(sight)
        return sight

    def _watch_screen(self, by: str, where: str) -> Sight:
        eye = ScreenEye()
        try:
            sight = self._watch(by, eye.look)
        finally:
            eye.close()
        ages = self._get("latency")["shown"].get(where, {}).get("age")
        if ages:
            times = (ages["p50_ms"], ages["p95_ms"], ages["p99_ms"])
            sight.said = Percentiles(*times, ages["count"])
        return sight

    def _wait(self, seconds: float) -> None:
        """Wait, unless somebody wants it to end.

        Raises:
            EngineError: one of the programs has ended.
            Stopped: somebody wants that.
        """
        if self._stopped.wait(seconds) if seconds else self._stopped.is_set():
            raise Stopped
        for child in self._children:
            child.check()

    def _get(self, what: str) -> dict[str, Any]:
        path = f"{self.url}/streams/{STREAM}/{what}".rstrip("/")
        try:
            with urllib.request.urlopen(path, timeout=10) as reply:
                fields: dict[str, Any] = json.load(reply)
                return fields
        except urllib.error.HTTPError as error:
            if error.code == 404:  # nobody has named the stream yet
                return {}
            raise EngineError(f"the relay answered {error.code} to {path}") from None
        except OSError as error:
            self._wait(STOP_SECONDS)  # it may have ended
            raise EngineError(f"the relay does not answer: {error}") from None

    def _patch(self, values: dict[str, Any]) -> None:
        request = urllib.request.Request(
            f"{self.url}/streams/{STREAM}/parameters",
            json.dumps(values).encode(),
            {"Content-Type": "application/json"},
            method="PATCH",
        )
        try:
            urllib.request.urlopen(request, timeout=10).close()
        except urllib.error.HTTPError as error:
            self._say(f"  this model takes no {', '.join(values)} ({error.code})")
        except OSError as error:
            raise EngineError(f"the relay does not answer: {error}") from None


class Stopped(Exception):
    """Somebody pressed Ctrl-C."""


def run_glass(settings: BenchSettings, say: Callable[[str], None], stopped: threading.Event) -> int:
    """Measure, say the table, keep the figures where asked; 0 if every way of seeing saw something.

    Raises:
        ConfigError: a way of seeing was asked for that is not here; nothing was started.
        EngineError: one of the programs has ended.
        DreamRelayError: the screen cannot be read.
    """
    window = _wanted("window", settings.window, viewer_available() or _screen_problem())
    program = next((found for name in BROWSERS if (found := shutil.which(name))), None)
    missing = None if program else "there is no Chromium"
    browser = _wanted("browser", settings.browser, missing or _screen_problem())
    file = None if settings.save is None else Path(settings.save)
    if file is not None and not file.absolute().parent.is_dir():
        raise ConfigError(f"--save: there is no folder {file.absolute().parent}")
    say(f"dreamrelay {__version__} bench glass: it flickers, look away if that is bad for you")
    sights: list[Sight] = []
    with ExitStack() as stack:
        try:
            bench = Bench(settings, say, stopped, stack)
            sights.append(bench.packets())
            if window:
                sights.append(bench.window())
            if browser and program:
                sights.append(bench.browser(program))
        except (Stopped, DreamRelayError):
            if not stopped.is_set():
                raise
            say("stopped")  # Ctrl-C ends the programs too, perhaps before us
            return 130
    for line in table(sights):
        say(line)
    say(f"on the way (relay's stamps, median ms): {_way(bench.hops)}")
    say(f"{settings.model} at strength {settings.strength:g}, {settings.fps:g} fps; {machine()}")
    if file is not None:
        kept = {
            "version": __version__,
            "when": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
            "machine": machine(),
            "settings": settings.model_dump(exclude={"save", "verbose"}),
            "sights": [sight.figures() for sight in sights],
            "hops_ms": bench.hops,
            "clocks": bench.clocks,
        }
        file.write_text(json.dumps(kept, indent=1) + "\n", encoding="utf-8")
    blind = [sight.by for sight in sights if not sight.glass]
    if blind:
        say(f"not seen: {', '.join(blind)} (less --strength leaves more of the clock)")
    return 1 if blind else 0


def table(sights: Sequence[Sight]) -> list[str]:
    """The figures for people, in ms."""
    lines = [
        f"{'seen':<20}{'pictures':>9}{'unread':>8}   {'glass to glass':<22}{'stamps say':<22}"
        f"{'more':<18}read late by",
        f"{'':<40}{'p50 / p95 / p99':<22}{'p50 / p95 / p99':<22}",
    ]
    for sight in sights:
        glass, claim = Percentiles.of(sight.glass), sight.claim
        late = f"{Percentiles.of(sight.late).p95:.0f} at most (p95)" if sight.late else "-"
        more = " / ".join(f"{ms:+.0f}" for ms in sight.more or ()) or "-"
        said = "-" if claim is None else " / ".join(f"{ms:.0f}" for ms in _three(claim))
        seen = " / ".join(f"{ms:.0f}" for ms in _three(glass)) if sight.glass else "-"
        lines.append(
            f"{sight.by:<20}{len(sight.glass):>9}{sight.unread:>8}   {seen:<22}{said:<22}"
            f"{more:<18}{late}"
        )
    return lines


def _three(times: Percentiles) -> tuple[float, float, float]:
    return times.p50, times.p95, times.p99


def _way(hops: dict[str, Any]) -> str:
    return ", ".join(f"{name} {times['p50_ms']:.1f}" for name, times in hops.items()) or "none"


def machine() -> str:
    """This machine in words."""
    name = platform.processor() or platform.machine()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.is_file():
        found = re.search(r"model name\s*: (.+)", cpuinfo.read_text(encoding="utf-8"))
        name = found[1].strip() if found else name
    load = f", load {os.getloadavg()[0]:.1f}" if hasattr(os, "getloadavg") else ""
    return f"{name}, {os.cpu_count()} cores, {platform.system()} {platform.release()}{load}"


def _open_screen(part: str = "") -> Source:
    """The first screen.

    Raises:
        DeviceError: it cannot be read.
    """
    deadline = time.monotonic() + SCREEN_SECONDS
    while True:
        try:
            return open_source(f"screen://0{part}")
        except DeviceError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.1)


def _screen_problem() -> str | None:
    """Why the screen cannot be read, if it cannot."""
    try:
        open_source("screen://0").close()
    except DreamRelayError as error:
        return str(error)
    return None


def _wanted(flag: str, value: str, problem: str | None) -> bool:
    if value == "on" and problem is not None:
        raise ConfigError(f"--{flag}=on: {problem}")
    return value != "off" and problem is None
