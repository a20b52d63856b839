"""The worker's side: what happens to the window hurts nobody, and no window outlives it."""

import importlib.util
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from dreamrelay.errors import DeviceError, MissingExtra
from dreamrelay.viewer import Closed, Event, Opened, Painted, Paused, Snapshot, Viewer
from dreamrelay.viewer import process as process_module
from dreamrelay.viewer.available import viewer_available
from dreamrelay.viewer.events import from_line, to_line
from dreamrelay.viewer.look import Look

posix = pytest.mark.skipif(sys.platform == "win32", reason="POSIX signals")

PARENT = """
import os, sys, time
from dreamrelay.viewer import Viewer

viewer = Viewer()
viewer.start()
while not viewer.events():
    time.sleep(0.01)
if "fork" in sys.argv and os.fork() == 0:
    time.sleep(60)
    os._exit(0)
print(viewer.pid, flush=True)
while "busy" in sys.argv:
    viewer.show(__import__("numpy").zeros((64, 64, 3), "uint8"))
time.sleep(60)
"""


def eventually(condition: Callable[[], object], what: str, seconds: float = 20.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"{what} within {seconds} s"
        time.sleep(0.005)


def gone(pid: int) -> bool:
    """Has this process ended? One that nobody has waited for yet counts as ended."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except (FileNotFoundError, ProcessLookupError):
        return True


class Heard:
    """The events of a viewer, kept."""

    def __init__(self, viewer: Viewer) -> None:
        self.viewer = viewer
        self.events: list[Event] = []

    def has(self, kind: type[Event]) -> bool:
        self.events += self.viewer.events()
        return any(isinstance(event, kind) for event in self.events)

    def last(self, kind: type[Event]) -> Event:
        return next(event for event in reversed(self.events) if isinstance(event, kind))


@pytest.fixture(autouse=True)
def _offscreen(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("QT_QPA_PLATFORM", "offscreen")


@pytest.fixture
def viewer() -> Iterator[Viewer]:
    with Viewer(trace=True) as viewer:
        eventually(lambda: Opened() in viewer.events(), "the window opens")
        yield viewer


PICTURE = np.full((48, 64, 3), 200, np.uint8)


def test_importing_the_viewer_imports_no_qt_and_no_pillow() -> None:
    program = "import sys, dreamrelay.viewer; print(*sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    modules = {name.split(".")[0] for name in done.stdout.split()}
    assert "numpy" in modules
    assert not modules & {"PySide6", "PIL", "torch", "pydantic"}


def test_pictures_are_painted_and_close_ends_the_child(viewer: Viewer) -> None:
    heard = Heard(viewer)
    viewer.show(PICTURE, info={"prompt": "a fox"})
    eventually(lambda: heard.has(Painted), "the picture is painted")
    pid = viewer.pid
    assert viewer.alive
    assert pid is not None
    viewer.close()
    assert not viewer.alive
    assert not heard.has(Closed), "closing it ourselves is no news"
    assert gone(pid)


def test_nothing_may_be_done_after_close_and_nothing_breaks() -> None:
    viewer = Viewer()
    viewer.start()
    viewer.close()
    viewer.close()
    viewer.show(PICTURE)
    viewer.status("late")
    assert not Heard(viewer).has(Closed)
    with pytest.raises(DeviceError, match="closed"):
        viewer.start()


def test_a_viewer_that_was_never_started_costs_nothing() -> None:
    viewer = Viewer()
    assert not viewer.alive
    assert viewer.pid is None
    viewer.show(PICTURE)
    viewer.close()


def test_start_again_keeps_the_window(viewer: Viewer) -> None:
    pid = viewer.pid
    viewer.start()
    assert viewer.pid == pid


@posix
def test_a_killed_child_hurts_nobody_and_restart_shows_the_last_picture(viewer: Viewer) -> None:
    heard = Heard(viewer)
    viewer.show(PICTURE)
    eventually(lambda: heard.has(Painted), "the picture is painted")
    assert viewer.pid is not None
    os.kill(viewer.pid, signal.SIGKILL)
    eventually(lambda: not viewer.alive, "the death is seen")
    for _ in range(10):
        viewer.show(PICTURE)
    eventually(lambda: heard.has(Closed), "the death is told")
    closed = heard.last(Closed)
    assert isinstance(closed, Closed)
    assert closed.lost == "the viewer ended with -9"
    again = Heard(viewer)
    viewer.restart()
    eventually(lambda: again.has(Painted), "the last picture is painted")
    assert again.last(Painted) in again.events
    assert viewer.alive


@posix
def test_a_hanging_child_delays_nobody(viewer: Viewer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(process_module, "PATIENCE", 0.2)
    assert viewer.pid is not None
    os.kill(viewer.pid, signal.SIGSTOP)
    began = time.monotonic()
    for _ in range(1000):
        viewer.show(PICTURE, info={"prompt": "a fox"})
        viewer.status("x" * 1000)
    assert time.monotonic() - began < 30  # far less than a thousand times its patience
    viewer.close()
    assert gone(viewer.pid)


@posix
@pytest.mark.parametrize("kind", ["idle", "busy", "fork"])
def test_no_window_outlives_a_killed_parent(kind: str) -> None:
    parent = subprocess.Popen(
        # Python 3.12 and newer warn of a fork beside threads, which is what is tried out here.
        [sys.executable, "-W", "ignore::DeprecationWarning", "-c", PARENT, kind],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        start_new_session=True,
    )
    try:
        assert parent.stdout is not None
        assert parent.stderr is not None
        pid = int(parent.stdout.readline())
        assert not gone(pid)
        parent.kill()
        parent.wait()
        eventually(lambda: gone(pid), "the window closes")
    finally:
        os.killpg(parent.pid, signal.SIGKILL) if kind == "fork" else parent.kill()
        _, errors = parent.communicate()
    assert errors == b"", "no tracker complains about leaked memory"
    assert not [name for name in os.listdir("/dev/shm") if "dreamrelay" in name]


@posix
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_what_ends_a_whole_group_is_left_to_the_parent(
    viewer: Viewer, number: signal.Signals
) -> None:
    heard = Heard(viewer)
    assert viewer.pid is not None
    os.kill(viewer.pid, number)
    viewer.show(PICTURE)
    eventually(lambda: heard.has(Painted), "the picture is painted")
    assert viewer.alive


def test_a_window_that_cannot_open_says_why(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("QT_QPA_PLATFORM", "nonsense")
    with Viewer() as viewer:
        heard = Heard(viewer)
        eventually(lambda: heard.has(Closed), "the failure is told")
        closed = heard.last(Closed)
        assert isinstance(closed, Closed)
        assert closed.lost is not None
        assert "nonsense" in closed.lost
        assert not viewer.alive


def test_a_file_of_the_working_directory_does_not_stand_in_for_a_module(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "json.py").write_text("raise SystemExit('the wrong json')")
    monkeypatch.chdir(tmp_path)
    with Viewer() as viewer:
        heard = Heard(viewer)
        eventually(lambda: heard.has(Opened) or heard.has(Closed), "the window opens")
        assert heard.has(Opened)


def test_start_says_what_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    def find_spec(name: str) -> None:
        return None

    monkeypatch.setattr(importlib.util, "find_spec", find_spec)
    with pytest.raises(MissingExtra, match=r'pip install "dreamrelay\[viewer\]"'):
        Viewer().start()


@pytest.mark.skipif(sys.platform != "linux", reason="displays are asked for on Linux")
class TestAvailable:
    def test_without_a_display(self) -> None:
        text = viewer_available({})
        assert text == (
            "no display to show a window on: WAYLAND_DISPLAY is not set, DISPLAY is not set"
        )

    @pytest.mark.parametrize("name", [":4095", "unix:4095", "localhost:4095.0", "[::1]:4095"])
    def test_a_display_that_does_not_answer(self, name: str) -> None:
        text = viewer_available({"DISPLAY": name, "QT_QPA_PLATFORM": "xcb"})
        assert text == f"no display to show a window on: no X server answers at DISPLAY={name}"

    def test_a_display_that_is_none(self) -> None:
        text = viewer_available({"DISPLAY": "left"})
        assert text is not None
        assert text.endswith("DISPLAY=left is not the name of a display")

    @pytest.mark.parametrize("platform", ["offscreen", "offscreen:configfile=x", "vnc", "minimal"])
    def test_a_platform_asked_for_by_name(self, platform: str) -> None:
        assert viewer_available({"QT_QPA_PLATFORM": platform}) is None

    def test_wayland(self, tmp_path: Path) -> None:
        environ = {"XDG_RUNTIME_DIR": str(tmp_path), "WAYLAND_DISPLAY": "wayland-7"}
        text = viewer_available(environ)
        assert text is not None
        assert f"no Wayland compositor answers at {tmp_path}/wayland-7" in text
        with socket.socket(socket.AF_UNIX) as compositor:
            compositor.bind(str(tmp_path / "wayland-7"))
            compositor.listen()
            assert viewer_available(environ) is None
            assert viewer_available(environ | {"QT_QPA_PLATFORM": "wayland"}) is None
            assert viewer_available(environ | {"QT_QPA_PLATFORM": "xcb"}) is not None


@pytest.mark.parametrize(
    "event",
    [
        Opened(),
        Closed(),
        Closed("it fell"),
        Paused(True),
        Painted(7, 1.5),
        Snapshot(Path("a/b.png")),
        Snapshot(Path("a/b.png"), "disk full"),
    ],
)
def test_events_survive_the_way(event: Event) -> None:
    line = to_line(event)
    assert line.endswith(b"\n")
    assert line.count(b"\n") == 1
    assert from_line(line) == event


@pytest.mark.parametrize("look", [Look(), Look(True, 2, "cover", True, True, True, True, True)])
def test_a_look_survives_the_way(look: Look) -> None:
    assert Look.read(look.written()) == look
    assert from_line(to_line(look)) == look


@pytest.mark.parametrize("text", ["", "[]", '{"size":1}', '{"fit":"zoom"}', '{"fit":[]}', "7"])
def test_a_look_that_is_none_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"expected|Expecting"):
        Look.read(text)


@pytest.mark.parametrize(
    "line", [b"", b"qt: hello", b"[]", b"{}", b'{"event":"unknown"}', b'{"event":"painted"}']
)
def test_a_line_that_is_no_event_is_refused(line: bytes) -> None:
    with pytest.raises(ValueError, match=r"event|Expecting"):
        from_line(line)
