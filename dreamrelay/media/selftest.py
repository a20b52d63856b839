"""``dreamrelay selftest spout``, or ``syphon``: does it work here? Ten seconds, a report to send.

Nobody of us has a machine that these run on, so this is how we hear of it. It sends to itself: one
thread is another program's sender, this one receives.
"""

import importlib
import importlib.metadata
import platform
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any, Literal

import numpy as np

from dreamrelay import __version__
from dreamrelay.codec import Frame
from dreamrelay.errors import DeviceError, DreamRelayError
from dreamrelay.media.catalog import open_sink, open_source
from dreamrelay.media.pattern import read_counter
from dreamrelay.media.ports import Source

NAME = "dreamrelay selftest"
_ADAPTERS = r"SYSTEM\CurrentControlSet\Control\Class\{4d36e968-e325-11ce-bfc1-08002be10318}"
"""Where the registry of Windows has its display adapters."""
FPS = 60.0
WAIT_S = 4.0


class Failed(Exception):
    """A check found something else than it should."""


class _Sender:
    """The test card at 60 pictures a second, in a thread of its own."""

    def __init__(self, url: str) -> None:
        self.sent_at: dict[int, float] = {}
        self.error = ""
        self._url = url
        self._size = (512, 512)
        self._on = threading.Event()
        self._on.set()
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, name="selftest", daemon=True)
        self._thread.start()

    def resize(self, width: int, height: int) -> None:
        self._size = (width, height)

    def pause(self) -> None:
        self._on.clear()

    def go_on(self) -> None:
        self._on.set()

    def end(self) -> None:
        self._ended.set()
        self._thread.join(10)

    def _run(self) -> None:
        try:
            while not self._ended.is_set():
                if self._on.wait(0.05):
                    self._send()
        except Exception as error:  # noqa: BLE001 - told in the report, with whatever it is
            self.error = _told(error)

    def _send(self) -> None:
        """Send until the size is another one, or we are told to be silent."""
        size = self._size
        card = open_source(f"pattern://bars?width={size[0]}&height={size[1]}&fps=0")
        number = 0
        with card, open_sink(self._url) as sink:
            due = time.monotonic()
            while self._on.is_set() and not self._ended.is_set():
                if self._size != size:
                    size = self._size
                    card = open_source(f"pattern://bars?width={size[0]}&height={size[1]}&fps=0")
                    number = 0
                captured = card.read()
                assert captured is not None
                self.sent_at[number] = time.monotonic()
                sink.write(captured.frame)
                number += 1
                due = max(due + 1 / FPS, time.monotonic() - 0.1)
                self._ended.wait(max(0.0, due - time.monotonic()))


class Check:
    """The checks, one after the other, each with a line of the report."""

    def __init__(self, scheme: str, say: Callable[[str], None], seconds: float) -> None:
        self._url = f"{scheme}://{NAME}"
        self._scheme = scheme
        self._say = say
        self._seconds = seconds
        self.failures = 0

    def run(self) -> None:
        sender = _Sender(self._url)
        try:
            with open_source(f"{self._url}?timeout={WAIT_S}") as source:
                self._line("a first picture", lambda: self._first(sender, source))
                self._line("colours, left and up", lambda: self._colours(source, 512, 512))
                self._line("rate and delay", lambda: self._rate(sender, source))
                for width, height in ((640, 360), (333, 201), (512, 512)):
                    sender.resize(width, height)
                    what = f"another size, {width}x{height}"
                    self._line(what, lambda: self._colours(source, width, height))  # noqa: B023
                sender.pause()
                self._line("the sender goes", lambda: self._gone(source))
                sender.go_on()
                self._line("the sender comes back", lambda: self._colours(source, 512, 512))
            with open_source(f"{self._scheme}://?timeout={WAIT_S}") as source:
                self._line("the active sender", lambda: self._any(source))
        finally:
            sender.end()
        if sender.error:
            self.failures += 1
            self._say(f"FAIL  sending: {sender.error}")

    def _line(self, what: str, act: Callable[[], str]) -> None:
        try:
            text = f"ok    {what}: {act()}"
        except Exception as error:  # noqa: BLE001 - the report of what nobody foresaw is what this is for
            self.failures += 1
            text = f"FAIL  {what}: {_told(error)}"
        self._say(text)

    def _first(self, sender: _Sender, source: Source) -> str:
        began = time.monotonic()
        frame = _next(source)
        black = " (black)" if not frame.any() else ""
        return f"{frame.shape[1]}x{frame.shape[0]} after {time.monotonic() - began:.2f} s{black}"

    def _colours(self, source: Source, width: int, height: int) -> str:
        black = 0
        for frame in _frames(source):
            black += not frame.any()
            if frame.shape == (height, width, 3):
                break
        else:
            raise Failed(f"no picture of {width}x{height} came for {WAIT_S:g} s")
        places = [frame[height // 20, width // 12 + part * width // 3] for part in range(3)]
        seen = [tuple(int(level) for level in place) for place in places]
        if np.abs(np.array(seen) - np.eye(3) * 255).max() > 8:
            raise Failed(f"expected red, green, blue, got {seen}; upside down? {_corner(frame)}")
        return f"right, {black} black pictures before"

    def _rate(self, sender: _Sender, source: Source) -> str:
        delays, began = [], time.monotonic()
        count = 0
        while time.monotonic() - began < self._seconds:
            frame = _next(source)
            count += 1
            try:
                sent = sender.sent_at.get(read_counter(frame))
            except ValueError:
                continue
            if sent is not None:
                delays.append((time.monotonic() - sent) * 1000)
        if not delays:
            raise Failed("no picture had a counter that can be read")
        delays.sort()
        return (
            f"{count / (time.monotonic() - began):.1f} of {FPS:.0f} pictures a second,"
            f" delay {delays[len(delays) // 2]:.1f} ms, at worst {delays[-1]:.1f} ms"
        )

    def _gone(self, source: Source) -> str:
        deadline = time.monotonic() + 3 * WAIT_S
        while time.monotonic() < deadline:
            try:
                source.read()
            except DeviceError as error:
                return str(error)
        raise Failed("pictures kept coming from a sender that is closed")

    def _any(self, source: Source) -> str:
        frame = _next(source)
        return f"{frame.shape[1]}x{frame.shape[0]}"


def _told(error: Exception) -> str:
    """What went wrong; of what was not foreseen also its kind."""
    known = isinstance(error, Failed | DreamRelayError)
    return str(error) if known else f"{type(error).__name__}: {error}"


def _frames(source: Source) -> Iterator[Frame]:
    deadline = time.monotonic() + WAIT_S
    while time.monotonic() < deadline:
        try:
            yield _next(source)
        except DeviceError:
            continue


def _next(source: Source) -> Frame:
    captured = source.read()
    assert captured is not None
    return captured.frame


def _corner(frame: Frame) -> str:
    return f"top left {frame[2, 2].tolist()}, bottom left {frame[-3, 2].tolist()}"


@contextmanager
def _fenced(say: Callable[[str], None]) -> Iterator[None]:
    say("---- from here " + "-" * 50)
    yield
    say("---- to here " + "-" * 52)


def run(
    what: Literal["spout", "syphon"], say: Callable[[str], None], *, seconds: float = 3.0
) -> bool:
    """Try a technology; True if all of it works.

    Args:
        say: takes a line of the report.
        seconds: how long rate and delay are measured.

    Raises:
        DeviceError: this is another system than it is made for.
        MissingExtra: its package is not installed.
    """
    facts = {"spout": _about_spout, "syphon": _about_syphon}[what]()
    say(f"Testing {what.capitalize()} for about ten seconds.")
    with _fenced(say):
        say(f"dreamrelay {__version__}, Python {platform.python_version()}, {sys.platform}")
        say(f"{platform.platform()}, numpy {np.__version__}")
        for label, ask in facts.items():
            say(f"{label}: {_answer(ask)}")
        check = Check(what, say, seconds)
        check.run()
        say(f"{check.failures} failed" if check.failures else "all is well")
    say("Please send us these lines in an issue, also when all is well.")
    return check.failures == 0


Facts = dict[str, Callable[[], str]]


def _about_spout() -> Facts:
    from dreamrelay.media.spout import Spout, senders  # noqa: PLC0415 - only where it is asked for

    library = Spout.load()
    return {
        "SpoutGL": lambda: _version("SpoutGL"),
        "graphics": lambda: ", ".join(_graphics_cards()) or "unknown",
        "sharing": lambda: _sharing(library.sender()),
        "senders before": lambda: (
            ", ".join(f"{name} {size}".strip() for name, size in senders()) or "none"
        ),
    }


def _about_syphon() -> Facts:
    from dreamrelay.media.syphon import Syphon, servers  # noqa: PLC0415 - only where it is asked for

    library = Syphon.load()
    return {
        "syphon-python": lambda: _version("syphon-python"),
        "graphics": lambda: _metal_device(library.server(NAME)),
        "servers before": lambda: ", ".join(servers()) or "none",
    }


def _answer(ask: Callable[[], str]) -> str:
    try:
        return ask()
    except Exception as error:  # noqa: BLE001 - told in the report, with whatever it is
        return _told(error)


def _sharing(sender: Any) -> str:
    """How Spout means to share textures: without the GPU it goes through memory, and is slow."""
    if not sender.createOpenGL():
        return "no OpenGL context"
    asked = ("isGLDXReady", "getAutoShare", "getCPUshare")
    answers = [f"{name} {getattr(sender, name)()}" for name in asked]
    sender.closeOpenGL()
    return ", ".join(answers)


def _metal_device(server: Any) -> str:
    try:
        return str(server.device.name())
    finally:
        server.stop()


def _graphics_cards() -> Iterator[str]:
    """Each display adapter that Windows has a driver for: a texture of one is none of another's."""
    try:
        registry: Any = importlib.import_module("winreg")
        adapters = registry.OpenKey(registry.HKEY_LOCAL_MACHINE, _ADAPTERS)
    except (ImportError, OSError):
        return
    for number in range(registry.QueryInfoKey(adapters)[0]):
        with suppress(OSError):  # beside the adapters are keys that nobody may read
            adapter = registry.OpenKey(adapters, registry.EnumKey(adapters, number))
            name, version = (
                registry.QueryValueEx(adapter, what)[0] for what in ("DriverDesc", "DriverVersion")
            )
            yield f"{name} {version}"


def _version(package: str) -> str:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return "of unknown version"
