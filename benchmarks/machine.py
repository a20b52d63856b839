"""The machine that a figure was measured on, and what a process has cost it so far."""

import contextlib
import os
import platform
import sys
import time
from importlib import metadata
from pathlib import Path
from typing import Any

PACKAGES = (
    *("dreamrelay", "websockets", "uvicorn", "starlette", "orjson", "pybase64", "pillow"),
    *("numpy", "torch", "diffusers", "streamdiffusion", "openvino", "onnxruntime"),
)
QUIET_NS = 20_000
"""What the clock of an idle process may advance between two looks."""


def can_count_cpu() -> bool:
    """Whether this system tells the CPU time of another process to the nanosecond (Linux)."""
    return Path("/proc/self/schedstat").is_file()


def cpu_ns(pid: int) -> int:
    """Nanoseconds on a CPU of all threads of a process since each of them began."""
    total = 0
    for task in Path(f"/proc/{pid}/task").iterdir():
        with contextlib.suppress(FileNotFoundError):  # the thread has just ended
            total += int((task / "schedstat").read_text().split()[0])
    return total


def resident_bytes(pid: int) -> int:
    """What a process holds in memory (Linux). The sum over its mappings, which is exact: the short
    form in ``statm`` is counted per processor, and some pages behind.
    """
    for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
        if line.startswith("Rss:"):
            return int(line.split()[1]) * 1024
    raise RuntimeError(f"process {pid} has no memory: it has ended")


def open_sockets(pid: int) -> int:
    """How many sockets a process has open (Linux)."""
    count = 0
    for descriptor in Path(f"/proc/{pid}/fd").iterdir():
        with contextlib.suppress(FileNotFoundError):  # it has just been closed
            count += str(descriptor.readlink()).startswith("socket:")
    return count


def idle_cpu_ns(pid: int, seconds: float = 2.0) -> int:
    """:func:`cpu_ns` once the process has finished what it had begun."""
    deadline = time.monotonic() + seconds
    before = cpu_ns(pid)
    while True:
        time.sleep(0.01)
        now = cpu_ns(pid)
        if now - before < QUIET_NS or time.monotonic() > deadline:
            return now
        before = now


def describe() -> dict[str, Any]:
    """Processor, cores, system, Python and versions; nothing that names the machine itself."""
    return {
        "processor": _processor(),
        "cores": os.cpu_count() or 0,
        "system": f"{platform.system()} {platform.release().split('-')[0]}",
        "python": f"{platform.python_implementation()} {platform.python_version()}",
        "packages": {name: version for name in PACKAGES if (version := _version(name))},
    }


def load() -> float | None:
    """Processes that want a core, averaged over a minute; None where nobody knows."""
    return round(os.getloadavg()[0], 1) if sys.platform != "win32" else None


def _processor() -> str:
    with contextlib.suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def _version(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None
