"""Machines of a test's own, as network namespaces, with wires between them that can be cut.

Linux only, and for root only; elsewhere the test is skipped, and says why.
"""

import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

US = "us"
"""The machine that the test runs on."""


class Machines:
    """Some machines, named by a letter or a short word; none has a wire before it is laid."""

    def __init__(self, *names: str) -> None:
        self._id = f"dr{os.getpid() % 100_000}"
        # So that tests in other processes have other addresses.
        self._net = f"10.{208 + os.getpid() // 256 % 16}.{os.getpid() % 256}"
        self._machines = {name: f"{self._id}{name}" for name in names}
        self._addresses: dict[tuple[str, str], str] = {}
        """Of the first machine, for the second one."""

    def build(self) -> None:
        for namespace in self._machines.values():
            _ip("netns", "add", namespace)
            _ip("-n", namespace, "link", "set", "dev", "lo", "up")

    def remove(self) -> None:
        for namespace in self._machines.values():
            subprocess.run(
                ["ip", "netns", "del", namespace], capture_output=True, check=False, timeout=20
            )

    def inside(self, name: str) -> list[str]:
        """The words before a command that have it run on a machine."""
        return ["ip", "netns", "exec", self._machines[name]]

    def address(self, name: str, seen_from: str = US) -> str:
        """Of a machine, for another one that it has a wire to."""
        return self._addresses[name, seen_from]

    def wire(self, name: str, other: str = US) -> None:
        """Lay a wire from a machine to another one."""
        first = 4 * len(self._addresses) // 2
        mine, yours = f"{self._net}.{first + 1}", f"{self._net}.{first + 2}"
        self._addresses[name, other], self._addresses[other, name] = mine, yours
        peer = ["peer", "name", self._end(name, other), "netns", self._machines[name]]
        end = self._end(other, name)
        _ip(*self._at(other), "link", "add", "name", end, "type", "veth", *peer)
        for at, to, address in ((name, other, mine), (other, name, yours)):
            device = ["dev", self._end(at, to)]
            _ip(*self._at(at), "addr", "add", f"{address}/30", *device)
            _ip(*self._at(at), "link", "set", *device, "up")

    def cut(self, name: str, other: str) -> None:
        """Pull the wire between two machines, at the end of the second one."""
        _ip(*self._at(other), "link", "set", "dev", self._end(other, name), "down")

    def mend(self, name: str, other: str) -> None:
        _ip(*self._at(other), "link", "set", "dev", self._end(other, name), "up")

    def _at(self, name: str) -> list[str]:
        return [] if name == US else ["-n", self._machines[name]]

    def _end(self, name: str, other: str) -> str:
        """What the end of a wire is called where it is."""
        return f"{self._id}{other}" if name == US else other


@contextmanager
def machines(*names: str) -> Iterator[Machines]:
    """Machines while the ``with`` lasts."""
    if reason := _why_not():
        pytest.skip(reason)
    built = Machines(*names)
    try:
        built.build()
        yield built
    finally:
        built.remove()


def _ip(*arguments: str) -> None:
    subprocess.run(["ip", *arguments], check=True, capture_output=True, timeout=20)


def _why_not() -> str:
    """Why no network namespace can be made here; empty if one can."""
    if shutil.which("ip") is None:
        return "ip (iproute2) is not installed"
    if os.name != "posix" or os.geteuid() != 0:
        return "network namespaces need root"
    name = f"dr{os.getpid() % 100_000}try"
    made = subprocess.run(["ip", "netns", "add", name], capture_output=True, check=False)
    if made.returncode:
        return "no network namespace can be made here"
    subprocess.run(["ip", "netns", "del", name], check=False)
    return ""
