"""NDI in the tests is the real library on this machine's loopback; only who sends is made up.

``python -m tests.fakes.ndi NAME...`` is another program that sends the test card. On its standard
input it hears, for the first name, ``show 192 128``, ``black 64 64``, ``silent`` (there, but
without a picture), ``vanish`` and ``end``.
"""

import atexit
import functools
import json
import os
import shutil
import subprocess
import sys
import tempfile
import threading
import time
import uuid
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from cyndilib.finder import Finder
from cyndilib.receiver import Receiver
from cyndilib.video_frame import VideoFrameSync
from cyndilib.wrapper.ndi_recv import RecvBandwidth, RecvColorFormat
from numpy.typing import NDArray

from dreamrelay.media.ndi import NdiSink
from tests.fakes.devices import bars

ROOT = Path(__file__).resolve().parents[2]

Pixels = NDArray[np.uint8]


def configure() -> None:
    """Have libndi look for senders on the loopback, without avahi; before the first of them opens.

    Programs that the tests start inherit it.
    """
    if "NDI_CONFIG_DIR" not in os.environ:
        folder = tempfile.mkdtemp(prefix="dreamrelay-ndi-")
        atexit.register(shutil.rmtree, folder, ignore_errors=True)
        content = json.dumps({"ndi": {"networks": {"ips": "127.0.0.1"}}})
        (Path(folder) / "ndi-config.v1.json").write_text(content, encoding="utf-8")
        os.environ["NDI_CONFIG_DIR"] = folder


configure()


def unique_name(what: str = "test") -> str:
    """A name that no other test on this machine has."""
    return f"{what} {uuid.uuid4().hex[:8]}"


class OtherProgram:
    """Another process that sends, under one name or several.

    Of several processes on one machine that send, a search without avahi sees now one, now another:
    they share a port.
    """

    def __init__(self, *names: str) -> None:
        self.name = names[0]
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.fakes.ndi", *names],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def say(self, *words: object) -> None:
        """Have it do something, and wait until that is done."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(" ".join(map(str, words)) + "\n")
        self._process.stdin.flush()
        assert self._process.stdout.readline() == "done\n"

    def end(self) -> None:
        """As when somebody closes it."""
        if self._process.poll() is None:
            self.say("end")
            self._process.wait(30)
        for pipe in (self._process.stdin, self._process.stdout):
            assert pipe is not None
            pipe.close()


@contextmanager
def other_program(*names: str) -> Iterator[OtherProgram]:
    program = OtherProgram(*names)
    try:
        yield program
    finally:
        program.end()


@functools.cache
def shared_program() -> OtherProgram:
    """One for many tests: it takes seconds to start. Each says first what it shall show, and has it
    vanish at the end: while it sends, a search may see it alone and no sender of this process.
    """
    program = OtherProgram(unique_name("shared"))
    atexit.register(program.end)
    return program


class Watcher:
    """A receiver of the library's own kind, without a line of ours between; sees what is sent."""

    def __init__(self, name: str) -> None:
        self._name = f"({name})"
        self._finder = Finder()
        self._finder.open()
        self._receiver = Receiver(
            color_format=RecvColorFormat.RGBX_RGBA, bandwidth=RecvBandwidth.highest
        )
        self._sync: Any = VideoFrameSync()
        self._receiver.frame_sync.set_video_frame(self._sync)
        self._found = False

    def look(self) -> Pixels | None:
        """What there is to see now."""
        if not self._found:
            self._finder.update_sources()
            for name in self._finder.get_source_names():
                if name.endswith(self._name):
                    self._receiver.set_source(self._finder.get_source(name))
                    self._found = True
        self._receiver.frame_sync.capture_video()
        width, height = self._sync.get_resolution()
        if not width:
            return None
        rows: Pixels = self._sync.get_array()[: self._sync.get_line_stride() * height]
        return rows.reshape(height, -1)[:, : width * 4].reshape(height, width, 4)[:, :, :3]

    def close(self) -> None:
        self._receiver.disconnect()
        self._finder.close()


class Sending:
    """What the other program sends now."""

    def __init__(self, name: str) -> None:
        self._sink = NdiSink(name)
        self._name = name
        self._frames = bars(8)
        self._number = 0
        self._silent = False

    def step(self) -> None:
        if not self._silent and self._frames:
            self._sink.write(self._frames[self._number % len(self._frames)])
            self._number += 1

    def hear(self, word: str, *size: str) -> None:
        self._silent = word == "silent"
        if word == "show":
            self._frames = bars(8, *map(int, size))
        elif word == "black":
            self._frames = [np.zeros_like(bars(1, *map(int, size))[0])]
        elif word == "silent":
            self._sink.close()
            self._sink = NdiSink(self._name)
            self._sink._open(192, 128)
        elif word == "vanish":
            self._frames = []
            self._sink.close()
            self._sink = NdiSink(self._name)

    def close(self) -> None:
        self._sink.close()


def _done() -> None:
    sys.stdout.write("done\n")
    sys.stdout.flush()


def main(*names: str) -> None:
    heard: deque[list[str]] = deque()

    def listen() -> None:
        heard.extend(line.split() for line in sys.stdin)
        heard.append(["end"])

    threading.Thread(target=listen, daemon=True).start()
    sendings = [Sending(name) for name in names]
    while True:
        while heard:
            words = heard.popleft()
            if words == ["end"]:
                for sending in sendings:
                    sending.close()
                _done()
                return
            sendings[0].hear(*words)
            _done()
        for sending in sendings:
            sending.step()
        time.sleep(0.02)


if __name__ == "__main__":
    main(*sys.argv[1:])
