"""The programs of a chaos run, each a process: ``python -m dreamrelay.chaos.programs ...``.

They are the real ones, as the command line starts them, with one engine more (``--engine=light``).
What is done to them can be done to no program from outside without being root: a disk that is full
(a limit on the size of a file), a clock that steps (the functions that ask it).

Nothing of ours and nothing large is imported before the clock's functions are replaced: whoever
keeps one of them from his import on, as a default for instance, keeps ours.
"""

import importlib
import runpy
import sys
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

LOOK_SECONDS = 0.1
OWN = ("--limit", "--clock")


def limit_files(size: int) -> None:
    """No file of this process grows beyond so many bytes: to it the disk is full then."""
    resource: Any = importlib.import_module("resource")  # there is none on Windows
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))


def step_clock(file: Path) -> None:
    """Have the clock of this process be so many seconds off as the file says, when it says so.

    That is ``time.time`` and ``time.time_ns``. ``datetime`` asks the system by itself; of the relay
    only the dates of its certificate do, once at the start.
    """
    time_ns, seconds = time.time_ns, time.time
    off = [0.0]

    def look() -> None:
        while True:
            try:
                off[0] = float(file.read_text(encoding="utf-8") or 0)
            except (OSError, ValueError):
                off[0] = 0.0
            time.sleep(LOOK_SECONDS)

    time.time_ns = lambda: time_ns() + int(off[0] * 1e9)
    time.time = lambda: seconds() + off[0]
    threading.Thread(target=look, name="clock", daemon=True).start()


def main(words: Sequence[str]) -> None:
    """``[--limit=BYTES] [--clock=FILE] COMMAND --flag=value ...``, the rest as ``dreamrelay``."""
    pairs = [word.partition("=") for word in words]
    own = {name: value for name, _, value in pairs if name in OWN}
    if "--limit" in own:
        limit_files(int(own["--limit"]))
    if "--clock" in own:
        step_clock(Path(own["--clock"]))
    rest = [word for word in words if word.partition("=")[0] not in OWN]
    if "--engine=light" in rest:
        importlib.import_module("dreamrelay.chaos.light").add()
    sys.argv = ["dreamrelay", *rest]
    runpy.run_module("dreamrelay", run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main(sys.argv[1:])
