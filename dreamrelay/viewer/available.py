"""Can a window be shown here? Qt, where it is asked without a display, ends the process."""

import importlib.util
import os
import socket
import sys
from collections.abc import Mapping
from pathlib import Path

from dreamrelay.errors import MissingExtra

TIMEOUT = 1.0


def viewer_available(environ: Mapping[str, str] | None = None) -> str | None:
    """Say why no window can be shown, in one line; None where one can.

    ``QT_QPA_PLATFORM`` counts as in Qt: ``offscreen`` (or another platform without a display) is
    available when it is asked for by name, never by itself.
    """
    problem = _display_problem(os.environ if environ is None else environ)
    if problem is None and importlib.util.find_spec("PySide6") is None:
        return str(MissingExtra("the viewer", "viewer"))
    return problem


def _display_problem(environ: Mapping[str, str]) -> str | None:
    if sys.platform in ("win32", "darwin"):
        return None
    wanted = environ.get("QT_QPA_PLATFORM", "").split(";")[0].split(":")[0]
    if wanted and not wanted.startswith(("xcb", "wayland")):
        return None
    problems = []
    if not wanted.startswith("xcb"):
        problem = _wayland_problem(environ)
        if problem is None:
            return None
        problems.append(problem)
    if not wanted.startswith("wayland"):
        problem = _x11_problem(environ)
        if problem is None:
            return None
        problems.append(problem)
    return f"no display to show a window on: {', '.join(problems)}"


def _wayland_problem(environ: Mapping[str, str]) -> str | None:
    name = environ.get("WAYLAND_DISPLAY")
    if not name:
        return "WAYLAND_DISPLAY is not set"
    path = Path(environ.get("XDG_RUNTIME_DIR", "")) / name
    return None if _answers(str(path)) else f"no Wayland compositor answers at {path}"


def _x11_problem(environ: Mapping[str, str]) -> str | None:
    name = environ.get("DISPLAY")
    if not name:
        return "DISPLAY is not set"
    host, _, rest = name.rpartition(":")
    number = rest.split(".")[0]
    if not number.isdecimal():
        return f"DISPLAY={name} is not the name of a display"
    if host in ("", "unix"):
        local = f"/tmp/.X11-unix/X{number}"
        answers = _answers(local) or (sys.platform == "linux" and _answers(f"\0{local}"))
    else:
        answers = _answers((host.strip("[]"), 6000 + int(number)))
    return None if answers else f"no X server answers at DISPLAY={name}"


def _answers(address: str | tuple[str, int]) -> bool:
    try:
        if isinstance(address, tuple):
            with socket.create_connection(address, TIMEOUT):
                return True
        if sys.platform == "win32":
            return False
        with socket.socket(socket.AF_UNIX) as probe:
            probe.settimeout(TIMEOUT)
            probe.connect(address)
            return True
    except OSError:
        return False
