"""Stand-ins for devices: a real X server, a camera on the network, video files."""

import io
import os
import shutil
import socket
import struct
import subprocess
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from PIL import Image

from dreamrelay.codec import Frame
from dreamrelay.media import open_source

NO_XVFB = "needs Xvfb and xrandr (apt install xvfb x11-xserver-utils)"


def has_xvfb() -> bool:
    return all(shutil.which(program) for program in ("Xvfb", "xrandr"))


class Display:
    """An X server that belongs to a test."""

    def __init__(self, number: int) -> None:
        self.name = f":{number}"
        self._socket = f"/tmp/.X11-unix/X{number}"

    def show(self, frame: Frame, left: int = 0, top: int = 0) -> None:
        """Draw on the screen's background, in the words of the X protocol."""
        height, width = frame.shape[:2]
        pixels = np.zeros((height, width, 4), np.uint8)
        pixels[:, :, :3] = frame[:, :, ::-1]
        with socket.socket(socket.AF_UNIX) as x:
            x.settimeout(30)
            x.connect(self._socket)
            x.sendall(struct.pack("<cxHHHHxx", b"l", 11, 0, 0, 0))
            granted, rest = struct.unpack("<B5xH", _receive(x, 8))
            setup = _receive(x, rest * 4)
            assert granted == 1, setup
            vendor, formats = struct.unpack_from("<H3xB", setup, 16)
            (root,) = struct.unpack_from("<I", setup, 32 + (vendor + 3) // 4 * 4 + formats * 8)
            (context,) = struct.unpack_from("<I", setup, 4)
            x.sendall(struct.pack("<BBHIII", 55, 0, 4, context, root, 0))  # CreateGC
            for row in range(height):
                where = (root, context, width, 1, left, top + row, 0, 24)
                head = struct.pack("<BBHIIHHhhBBxx", 72, 2, 6 + width, *where)  # PutImage
                x.sendall(head + pixels[row].tobytes())
            x.sendall(struct.pack("<BBH", 43, 0, 1))  # GetInputFocus: answered when all is drawn
            assert _receive(x, 32)[0] == 1

    def run(self, *command: str) -> None:
        """Run a program of X's on this display."""
        environment = {**os.environ, "DISPLAY": self.name}
        subprocess.run(command, env=environment, check=True, timeout=30, capture_output=True)


def _receive(x: socket.socket, size: int) -> bytes:
    data = b""
    while len(data) < size:
        part = x.recv(size - len(data))
        assert part, "the X server has hung up"
        data += part
    return data


@contextmanager
def running_xvfb(width: int = 640, height: int = 480) -> Iterator[Display]:
    """Run a real X server on a free display."""
    reader, writer = os.pipe()
    command = ["Xvfb", "-displayfd", str(writer), "-screen", "0", f"{width}x{height}x24"]
    server = subprocess.Popen(
        [*command, "-nolisten", "tcp", "-noreset"], pass_fds=[writer], stderr=subprocess.DEVNULL
    )
    os.close(writer)
    try:
        with os.fdopen(reader) as answer:
            number = answer.readline().strip()
        assert number, "Xvfb did not start"
        yield Display(int(number))
    finally:
        server.terminate()
        server.wait(10)


def bars(count: int, width: int = 192, height: int = 128) -> list[Frame]:
    """The first pictures of the test card."""
    with open_source(f"pattern://bars?width={width}&height={height}") as source:
        captured = [source.read() for _ in range(count)]
    return [one.frame for one in captured if one is not None]


def write_video(path: Path, frames: Sequence[Frame], fps: float = 25.0) -> Path:
    height, width = frames[0].shape[:2]
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"MJPG"), fps, (width, height))
    assert writer.isOpened()
    for frame in frames:
        writer.write(np.ascontiguousarray(frame[:, :, ::-1]))
    writer.release()
    return path


class NetworkCamera:
    """An MJPEG server: sends its pictures round and round at ``fps`` until it is unplugged."""

    def __init__(self, frames: Sequence[Frame], fps: float = 200.0, port: int = 0) -> None:
        self.connections = 0
        self._pictures = [_jpeg(frame) for frame in frames]
        self._pause = 1.0 / fps
        self._stopped = threading.Event()
        self._unplugged = threading.Event()
        self._server = ThreadingHTTPServer(("127.0.0.1", port), self._handler())
        self._server.daemon_threads = True
        self._thread = threading.Thread(
            target=self._server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True
        )

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_port}/live?user=x"

    def unplug(self) -> None:
        """Cut all connections; new ones are let in again."""
        self._unplugged.set()
        self._unplugged = threading.Event()

    def __enter__(self) -> "NetworkCamera":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopped.set()
        self.unplug()
        self._server.shutdown()
        self._thread.join(10)
        self._server.server_close()

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        camera = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                camera.connections += 1
                self.send_response(200)
                self.send_header("Content-Type", "multipart/x-mixed-replace; boundary=frame")
                self.end_headers()
                try:
                    camera._send(self.wfile)
                except ConnectionError:
                    return

            def log_message(self, format: str, *args: Any) -> None:
                return

        return Handler

    def _send(self, file: Any) -> None:
        unplugged, number = self._unplugged, 0
        while not (unplugged.is_set() or self._stopped.is_set()):
            data = self._pictures[number % len(self._pictures)]
            number += 1
            head = f"--frame\r\nContent-Type: image/jpeg\r\nContent-Length: {len(data)}\r\n\r\n"
            file.write(head.encode() + data + b"\r\n")
            unplugged.wait(self._pause)


def _jpeg(frame: Frame) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(frame).save(buffer, "JPEG", quality=92, subsampling=0)
    return buffer.getvalue()
