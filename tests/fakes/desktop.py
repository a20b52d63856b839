"""A real X server with a window manager, and a person's eyes and hands at it."""

import os
import shutil
import subprocess

import mss
import numpy as np
from numpy.typing import NDArray

from tests.support import until

PROGRAMS = ("Xvfb", "openbox", "xdotool", "wmctrl", "xrandr", "xprop", "xwininfo")
MISSING = [program for program in PROGRAMS if shutil.which(program) is None]

Frame = NDArray[np.uint8]
Area = tuple[int, int, int, int]

WIDTH, HEIGHT = 1280, 800
SERVER = ("+extension", "RANDR", "-nolisten", "tcp", "-noreset")


class Desktop:
    """An X server of our own with a window manager, and a person's eyes and hands."""

    def __init__(self, *, two_screens: bool = False) -> None:
        read, write = os.pipe()
        self._server = subprocess.Popen(
            ["Xvfb", "-displayfd", str(write), "-screen", "0", f"{WIDTH}x{HEIGHT}x24", *SERVER],
            pass_fds=(write,),
            stderr=subprocess.DEVNULL,
        )
        os.close(write)
        with os.fdopen(read) as answer:
            self.name = f":{answer.readline().strip()}"
        assert self.name != ":", "Xvfb does not start"
        self._environ = os.environ | {"DISPLAY": self.name}
        if two_screens:
            self.run("xrandr", "--setmonitor", "L", "640/169x800/211+0+0", "screen")
            self.plug()
        self._manager = subprocess.Popen(
            ["openbox"], env=self._environ, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL
        )
        check = ("xprop", "-root", "_NET_SUPPORTING_WM_CHECK")
        until(lambda: "window id" in self.run(*check), 20, "openbox to start")

    def run(self, *command: str) -> str:
        done = subprocess.run(command, env=self._environ, capture_output=True, check=False)
        return done.stdout.decode(errors="replace")

    def plug(self) -> None:
        """Have the second screen."""
        self.run("xrandr", "--setmonitor", "R", "640/169x800/211+640+0", "none")

    def unplug(self) -> None:
        """Have the first one only."""
        self.run("xrandr", "--delmonitor", "R")

    def see(self) -> Frame:
        with mss.MSS(display=self.name) as camera:
            shot = camera.grab({"left": 0, "top": 0, "width": WIDTH, "height": HEIGHT})
        return np.frombuffer(shot.rgb, np.uint8).reshape(HEIGHT, WIDTH, 3)

    def press(self, key: str) -> None:
        self.run("xdotool", "key", key)

    def window(self, title: str) -> str | None:
        """The id of the window with this title that has the keyboard."""
        found = self.run("xdotool", "getwindowfocus", "getwindowname").strip()
        return self.run("xdotool", "getwindowfocus").strip() if found == title else None

    def area(self, window: str) -> Area:
        lines = self.run("xwininfo", "-id", window).splitlines()
        values = dict(line.split(":", 1) for line in lines if line.count(":") == 1)
        names = ("  Absolute upper-left X", "  Absolute upper-left Y", "  Width", "  Height")
        x, y, width, height = (int(values.get(name, -1)) for name in names)
        return x, y, width, height

    def close(self) -> None:
        for process in (self._manager, self._server):
            process.terminate()
            process.wait()
