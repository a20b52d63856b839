"""The demo: one command that shows everything, and says honestly whether it did."""

import re
import socket
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import pytest

from dreamrelay import demo
from dreamrelay.child import PROGRAM, Child
from dreamrelay.config import DemoSettings
from dreamrelay.demo import Audience, difference, run_demo
from dreamrelay.errors import ConfigError, DeviceError, EngineError
from dreamrelay.packet import Packet
from tests.support import Program, picture, until


def packet(colour: str, seq: int) -> Packet:
    return Packet.of(picture(colour), seq=seq)


# -- who counts -----------------------------------------------------------------------------------


def show(audience: Audience, seq: int, source: str | None, result: str) -> None:
    if source is not None:
        audience.received(packet(source, seq), "input")
    audience.received(packet(result, seq), "output")


def test_transformed_pictures_are_a_success() -> None:
    audience = Audience()
    for seq in range(1, 12):
        show(audience, seq, "red", "blue")
    assert audience.success
    assert (audience.delivered, audience.looked_at, audience.transformed) == (11, 3, 3)
    assert "11 transformed pictures delivered" in audience.summary()


def test_pictures_that_came_back_as_they_went_are_none() -> None:
    audience = Audience()
    for seq in range(1, 12):
        show(audience, seq, "red", "red")
    assert not audience.success
    assert "not transformed" in audience.summary()


def test_nothing_is_no_success() -> None:
    audience = Audience()
    assert not audience.success
    assert audience.summary()


def test_the_first_picture_whose_input_was_seen_is_looked_at() -> None:
    """On a slow machine a few pictures are all there is, and some inputs are not seen."""
    audience = Audience()
    show(audience, 1, None, "blue")
    show(audience, 2, "red", "blue")
    assert audience.success
    assert audience.looked_at == 1


def test_difference_is_of_pixels_whatever_the_size() -> None:
    large = Packet.of(picture("red", (300, 200)))
    assert difference(large, packet("red", 1)) < 3
    assert difference(large, packet("blue", 1)) > 100


# -- what happens ---------------------------------------------------------------------------------


class Demo:
    """The demo in this process, with another program for its worker."""

    def __init__(self, stack: ExitStack, script: str, **settings: Any) -> None:
        self.lines: list[str] = []
        self.stopped = threading.Event()
        self.workers: list[Child] = []
        self.script = script
        self.settings = DemoSettings(**{"port": 0, "browser": "off", "viewer": "off", **settings})
        stack.callback(self.stopped.set)

    def child(self, name: str, command: list[str], **options: Any) -> Child:
        assert command[:5] == [*PROGRAM, "worker"]
        command = [sys.executable, "-c", self.script, *command[5:]]
        self.workers.append(Child(name, command, **options))
        return self.workers[-1]

    def run(self) -> int:
        return run_demo(self.settings, self.lines.append, self.stopped)


WAITS = "import time; time.sleep(600)"


@pytest.fixture
def make(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., Demo]]:
    with ExitStack() as stack:

        def make(script: str = WAITS, **settings: Any) -> Demo:
            one = Demo(stack, script, **settings)
            monkeypatch.setattr(demo, "Child", one.child)
            return one

        yield make


Make = Callable[..., Demo]


def test_a_worker_that_dies_is_told_with_its_reason(make: Make) -> None:
    one = make("print('half way'); exit('dreamrelay: no such model')", model="x")
    with pytest.raises(EngineError) as caught:
        one.run()
    assert str(caught.value) == (
        "the worker ended with 1: no such model; alone it may say more: dreamrelay worker --model=x"
    )
    assert "half way" in one.lines
    assert not any("no such model" in line for line in one.lines), "it is said once"


@pytest.mark.parametrize(
    ("source", "error"), [("nonsense://", ConfigError), ("no/such/file.png", DeviceError)]
)
def test_a_source_that_cannot_be_opened_ends_it(
    make: Make, source: str, error: type[Exception]
) -> None:
    one = make(source=source)
    with pytest.raises(error):
        one.run()
    assert one.workers[0].code is not None, "no worker is left behind"


def test_it_can_be_stopped_before_anything_was_shown(make: Make) -> None:
    one = make()
    codes: list[int] = []
    thread = threading.Thread(target=lambda: codes.append(one.run()), daemon=True)
    thread.start()
    until(lambda: any("Ctrl-C" in line for line in one.lines))
    one.stopped.set()
    thread.join(60)
    assert codes == [1]
    assert one.workers[0].code is not None
    assert "summary" not in one.lines[-1]
    assert one.lines[-1].startswith("dreamrelay demo: ")


def test_a_model_that_never_comes_is_not_waited_for_for_ever(
    make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(demo, "LOADING_SECONDS", 0.5)
    assert make().run() == 1


@pytest.mark.parametrize("asked", [{"only": ["kill"]}, {"as_json": True}])
def test_what_the_disasters_alone_have_is_refused(make: Make, asked: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match="expected --chaos beside it"):
        make(**asked).run()


def test_no_free_port_is_said(monkeypatch: pytest.MonkeyPatch, make: Make) -> None:
    class Taken:
        def __init__(self, settings: Any) -> None:
            assert settings.port <= 65535

        def bind(self) -> None:
            raise ConfigError("taken")

    monkeypatch.setattr(demo, "Relay", Taken)
    with pytest.raises(ConfigError, match="ports 65530 to 65535 are all taken"):
        make(port=65530).run()


@pytest.mark.parametrize(
    ("wanted", "display", "opened"),
    [("off", ":1", False), ("auto", "", False), ("auto", ":1", True), ("on", "", True)],
)
@pytest.mark.skipif(sys.platform in ("win32", "darwin"), reason="there is always a display")
def test_the_browser_is_opened_where_there_is_one(
    monkeypatch: pytest.MonkeyPatch, wanted: str, display: str, opened: bool
) -> None:
    asked: list[str] = []

    def open_browser(url: str) -> bool:
        asked.append(url)
        return True

    monkeypatch.setattr("webbrowser.open", open_browser)
    monkeypatch.setenv("DISPLAY", display)
    monkeypatch.delenv("WAYLAND_DISPLAY", raising=False)
    assert demo._open_browser(wanted, "http://x/") is opened
    assert asked == (["http://x/"] if opened else [])


# -- the real thing -------------------------------------------------------------------------------


@pytest.mark.timeout(420)
def test_two_seconds_of_it(programs: Callable[..., Program]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        program = programs(
            "-m",
            "dreamrelay",
            "demo",
            "--duration=2",
            f"--port={port}",
            "--browser=off",
            "--viewer=off",
        )
        shown = int(program.line(r"studio is at http://127\.0\.0\.1:(\d+)/")[1])
        assert port < shown < port + 20, "the next one that is free"
        assert program.wait(360) == 0, program.output
    assert re.search(r"dreamrelay demo: \d+ transformed pictures delivered", program.lines[-1])
    assert "Traceback" not in program.output
