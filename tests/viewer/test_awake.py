"""The screen saver: asked where somebody can answer, and said where nobody does."""

import ctypes
import os
import shutil
import subprocess
import sys
from typing import Any

import pytest

from dreamrelay.viewer import awake

ASK = (
    "from PySide6.QtCore import QCoreApplication; app = QCoreApplication([]);"
    "from dreamrelay.viewer.awake import keep_awake; print(keep_awake())"
)
DESKTOP = """
import subprocess, sys
from PySide6.QtCore import ClassInfo, QCoreApplication, QObject, QTimer, Slot
from PySide6.QtDBus import QDBusConnection

@ClassInfo({"D-Bus Interface": "org.freedesktop.ScreenSaver"})
class Saver(QObject):
    @Slot(str, str, result="uint")
    def Inhibit(self, who, why):
        print(who, "-", why, flush=True)
        return 7

app = QCoreApplication([])
saver = Saver()
bus = QDBusConnection.sessionBus()
flags = QDBusConnection.RegisterOption.ExportAllSlots
assert bus.registerObject("/org/freedesktop/ScreenSaver", saver, flags)
assert bus.registerService("org.freedesktop.ScreenSaver")
child = subprocess.Popen([sys.executable, "-c", sys.argv[1]])
watch = QTimer()
watch.timeout.connect(lambda: app.exit(child.poll()) if child.poll() is not None else None)
watch.start(20)
QTimer.singleShot(20000, lambda: app.exit(1))
sys.exit(app.exec())
"""

linux = pytest.mark.skipif(sys.platform != "linux", reason="D-Bus")
with_bus = pytest.mark.skipif(shutil.which("dbus-run-session") is None, reason="needs a D-Bus")


def on_a_bus_of_its_own(*program: str) -> str:
    environ = {k: v for k, v in os.environ.items() if k != "DISPLAY"}
    done = subprocess.run(
        ["dbus-run-session", "--", sys.executable, "-c", *program],
        env=environ,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@linux
def test_without_a_bus_it_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("DBUS_SESSION_BUS_ADDRESS", raising=False)
    assert awake.keep_awake() == "there is no session bus to ask"


@linux
@with_bus
def test_a_bus_on_which_nobody_answers_is_said() -> None:
    assert "org.freedesktop.ScreenSaver" in on_a_bus_of_its_own(ASK)


@linux
@with_bus
def test_a_desktop_is_asked() -> None:
    assert on_a_bus_of_its_own(DESKTOP, ASK) == "dreamrelay - pictures are shown\nNone\n"


@pytest.mark.parametrize("answer", [0, 0x80000000])
def test_windows_is_asked(monkeypatch: pytest.MonkeyPatch, answer: int) -> None:
    asked: list[int] = []

    class Kernel:
        @staticmethod
        def SetThreadExecutionState(wanted: int) -> int:
            asked.append(wanted)
            return answer

    class Windows:
        kernel32 = Kernel

    monkeypatch.setattr(sys, "platform", "win32")
    monkeypatch.setattr(ctypes, "windll", Windows, raising=False)
    assert (awake.keep_awake() is None) == bool(answer)
    assert asked == [0x80000003]


def test_a_mac_has_a_program_for_it(monkeypatch: pytest.MonkeyPatch) -> None:
    began: list[list[str]] = []

    def popen(command: list[str], **_: Any) -> None:
        began.append(command)

    monkeypatch.setattr(sys, "platform", "darwin")
    monkeypatch.setattr(subprocess, "Popen", popen)
    assert awake.keep_awake() is None
    assert began == [["/usr/bin/caffeinate", "-d", "-w", str(os.getpid())]]
