"""A network of a test's own: nothing but a loopback, so that nobody else's programs are on it.

On Linux a network namespace belongs to a thread and to what that thread starts, so a test steps
into it and out again. Where that is not allowed the test runs in the network there is; then only
one process of the tests may use NDI at a time, which ``ONE_PROCESS`` sees to.
"""

import ctypes
import functools
import os
import socket
import struct
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

if sys.platform == "linux":
    import fcntl

ONE_PROCESS = pytest.mark.xdist_group("ndi")
"""Mark of tests that send or receive with NDI."""

_NEW_NETWORK = 0x40000000  # CLONE_NEWNET
_HERE = "/proc/thread-self/ns/net"


@contextmanager
def own_network() -> Iterator[None]:
    """Step into the network of this test process; all its tests share it."""
    there = _made()
    if there is None:
        yield
        return
    here = os.open(_HERE, os.O_RDONLY)
    try:
        _call("setns", there, _NEW_NETWORK)
        yield
    finally:
        _call("setns", here, _NEW_NETWORK)
        os.close(here)


@functools.cache
def _made() -> int | None:
    """A descriptor of a new network with its loopback up; None where that is not allowed."""
    if sys.platform != "linux":
        return None
    made: list[int] = []

    def make() -> None:
        try:
            _call("unshare", _NEW_NETWORK)
        except OSError:
            return
        with socket.socket() as anything:
            up = struct.pack("16sh14x", b"lo", 0x1)  # IFF_UP
            fcntl.ioctl(anything, 0x8914, up)  # SIOCSIFFLAGS
        made.append(os.open(_HERE, os.O_RDONLY))

    thread = threading.Thread(target=make)
    thread.start()
    thread.join()
    return made[0] if made else None


def _call(name: str, *arguments: int) -> None:
    library = ctypes.CDLL(None, use_errno=True)
    if getattr(library, name)(*arguments) != 0:
        error = ctypes.get_errno()
        raise OSError(error, f"{name}: {os.strerror(error)}")
