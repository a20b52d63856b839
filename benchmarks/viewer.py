"""From a picture in the worker to the same picture painted in the window's process.

In turn with a bare Qt painter that makes its pictures in its own process (``viewer_process.py``):
what is more in ours is a copy into shared memory, a byte that wakes the window, and a copy out of
it. Both paint on the same display: the one there is, else an Xvfb of ours, else Qt's offscreen
platform. Neither counts what the display does after that.
"""

import contextlib
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from statistics import median
from typing import Any

import numpy as np

from benchmarks.machine import can_count_cpu, cpu_ns
from dreamrelay.viewer import Opened, Painted, Viewer, viewer_available

WIDTH, HEIGHT = 512, 512
RATE = 60
WINDOW = 30
PATIENCE = 30.0


@contextlib.contextmanager
def display() -> Iterator[str]:
    """Have a display, and say which."""
    if "QT_QPA_PLATFORM" in os.environ or viewer_available() is None:
        yield os.environ.get("QT_QPA_PLATFORM") or "the display"
        return
    if sys.platform != "linux" or shutil.which("Xvfb") is None:
        os.environ["QT_QPA_PLATFORM"] = "offscreen"
        try:
            yield "offscreen"
        finally:
            del os.environ["QT_QPA_PLATFORM"]
        return
    read, write = os.pipe()
    server = subprocess.Popen(
        ["Xvfb", "-displayfd", str(write), "-screen", "0", "1280x800x24", "-nolisten", "tcp"],
        pass_fds=(write,),
        stderr=subprocess.DEVNULL,
    )
    os.close(write)
    before = os.environ.get("DISPLAY")
    try:
        with os.fdopen(read) as answer:
            os.environ["DISPLAY"] = f":{answer.readline().strip()}"
        yield "Xvfb"
    finally:
        os.environ.pop("DISPLAY", None)
        if before is not None:
            os.environ["DISPLAY"] = before
        server.terminate()
        server.wait()


def measure(
    rounds: int, *, pictures: int = 240, say: Callable[[str], None] = print
) -> dict[str, Any]:
    """Rounds of the bare painter and of the viewer, in turn; the figures of a JSON file."""
    bare: list[Sequence[float]] = []
    ours: list[Sequence[float]] = []
    writes: list[float] = []
    cpu: list[float] = []
    with display() as where:
        for number in range(rounds):
            bare.append(_bare(pictures))
            delays, written, spent = _ours(pictures)
            ours.append(delays)
            writes += written
            cpu.append(spent)
            say(f"viewer: round {number + 1} of {rounds}")
    return {
        "rounds": rounds,
        "pictures": pictures,
        "size": [WIDTH, HEIGHT],
        "rate": RATE,
        "display": where,
        "ratios": {
            # Contention can only add: of each the best pictures.
            "viewer / bare, median": round(_best(ours, 50) / _best(bare, 50), 2),
            "viewer / bare, p95": round(_best(ours, 95) / _best(bare, 95), 2),
        },
        "painted": round(sum(map(len, ours)) / (rounds * pictures), 3),
        "milliseconds": {
            "bare": {"median": round(_best(bare, 50), 3), "p95": round(_best(bare, 95), 3)},
            "viewer": {"median": round(_best(ours, 50), 3), "p95": round(_best(ours, 95), 3)},
            "write": round(median(writes), 3),
        },
        "core_share": round(min(cpu), 4) if can_count_cpu() else None,
    }


def rows(figures: dict[str, Any]) -> list[str]:
    """The figures for people."""
    times = figures["milliseconds"]
    lines = [
        f"viewer: a picture written to painted, {WIDTH} x {HEIGHT}, {RATE} a second,"
        f" {figures['display']}, best {WINDOW} of {figures['rounds']} rounds"
    ]
    for name, ratio in figures["ratios"].items():
        lines.append(f"  {name:<40}{ratio:>9}")
    for name in ("bare", "viewer"):
        lines.append(f"  {name:<40}{times[name]['median']:>9} ms, p95 {times[name]['p95']} ms")
    lines.append(f"  {'write, in the worker':<40}{times['write']:>9} ms")
    lines.append(f"  {'of the pictures painted':<40}{figures['painted']:>9}")
    if figures["core_share"] is not None:
        lines.append(f"  {'of a core for it, the window':<40}{figures['core_share']:>9}")
    return lines


def _best(rounds: Sequence[Sequence[float]], percentile: float) -> float:
    """Of the best ``WINDOW`` successive pictures of any round."""
    return min(
        float(np.percentile(delays[at : at + WINDOW], percentile))
        for delays in rounds
        for at in range(max(1, len(delays) - WINDOW + 1))
    )


def _bare(pictures: int) -> list[float]:
    arguments = map(str, (WIDTH, HEIGHT, RATE, pictures))
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.viewer_process", *arguments],
        stdout=subprocess.PIPE,
        check=True,
    )
    delays: list[float] = json.loads(done.stdout)
    return delays


def _ours(pictures: int) -> tuple[list[float], list[float], float]:
    """Delays and times of a write in ms, and how much of a core the window's process took."""
    delays: list[float] = []
    writes: list[float] = []
    frames = [np.full((HEIGHT, WIDTH, 3), shade, np.uint8) for shade in range(0, 250, 10)]
    with Viewer("dreamrelay benchmark", trace=True) as viewer:
        deadline = time.monotonic() + PATIENCE
        while not any(isinstance(event, Opened) for event in viewer.events()):
            if time.monotonic() > deadline:
                raise RuntimeError("the window does not open")
            time.sleep(0.01)
        pid = viewer.pid
        assert pid is not None
        time.sleep(0.5)
        before = cpu_ns(pid) if can_count_cpu() else 0
        began = due = time.perf_counter()
        for number in range(pictures):
            writing = time.perf_counter()
            viewer.show(frames[number % len(frames)])
            writes.append((time.perf_counter() - writing) * 1e3)
            due += 1 / RATE
            time.sleep(max(0.0, due - time.perf_counter()))
        elapsed = time.perf_counter() - began
        spent = (cpu_ns(pid) - before) / 1e9 / elapsed if can_count_cpu() else 0.0
        time.sleep(0.3)
        delays += [event.delay_ms for event in viewer.events() if isinstance(event, Painted)]
    return delays, writes, spent
