"""NDI: pictures from and to other programs, on this machine or another one of the network.

``ndi://MACHINE (Name)`` receives from the sender whose name has that in it, ``ndi://`` from the
first one there is; as a sink, ``ndi://Name`` is seen by others as ``MACHINE (Name)``.

What libndi 6.3 and cyndilib 0.1.3 do, and this file lives with:

- A sender's size cannot be changed while it is open: for another size it is opened anew, and a
  receiver needs up to a second to find it again.
- The codec halves the colours' resolution: of an odd width or height it cuts the last column or
  row. So frames are made even by repeating it.
- A frame sync repeats the last picture; its time stamps say whether there is a new one. Before the
  first picture its size is 0x0.
- Rows are padded: the line stride counts, not the width.
- A receiver finds a sender that comes back under the same name by itself.
- On Linux senders are found through avahi. Without it, ``NDI_CONFIG_DIR`` names a folder whose
  ``ndi-config.v1.json`` lists the machines to ask: ``{"ndi":{"networks":{"ips":"127.0.0.1"}}}``.
"""

import logging
import os
import platform
import threading
import time
from collections.abc import Sequence
from contextlib import suppress
from fractions import Fraction
from pathlib import Path
from typing import Any, Literal

import cv2
import numpy as np
from cyndilib.finder import Finder
from cyndilib.receiver import Receiver
from cyndilib.sender import Sender
from cyndilib.video_frame import VideoFrameSync, VideoSendFrame
from cyndilib.wrapper.ndi_recv import RecvBandwidth, RecvColorFormat
from cyndilib.wrapper.ndi_structs import FourCC
from pydantic import Field

from dreamrelay.codec import Frame
from dreamrelay.errors import DeviceError
from dreamrelay.media.address import Address, Options
from dreamrelay.media.pacing import CaptureClock
from dreamrelay.media.ports import Captured, Sink, Source

log = logging.getLogger(__name__)

_AVAHI = Path("/run/avahi-daemon/socket")
_POLL_S = 0.003
_SEARCH_S = 0.1


class NdiSourceOptions(Options):
    timeout: float = Field(5.0, gt=0, le=3600)
    """Seconds to wait for a picture before ``read`` says that there is none."""
    bandwidth: Literal["highest", "lowest"] = "highest"
    """``lowest`` asks the sender for its small preview."""
    flip: bool = False
    """For senders that send upside down."""


class NdiSinkOptions(Options):
    fps: float = Field(30.0, gt=0, le=1000)
    """What is told to receivers; frames leave when they are written."""
    flip: bool = False
    """Send upside down."""


class NdiSource(Source):
    """The newest picture of a sender."""

    live = True

    def __init__(
        self,
        name: str,
        *,
        timeout: float = 5.0,
        bandwidth: RecvBandwidth = RecvBandwidth.highest,
        flip: bool = False,
    ) -> None:
        self._name = name
        self._timeout = timeout
        self._flip = flip
        self._clock = CaptureClock()
        self._closed = threading.Event()
        self._lock = threading.Lock()
        self._finder = Finder()
        self._finder.open()
        self._receiver: Any = Receiver(
            color_format=RecvColorFormat.RGBX_RGBA,
            bandwidth=bandwidth,
            allow_video_fields=False,
            recv_name="dreamrelay",
        )
        self._sync: Any = VideoFrameSync()
        self._receiver.frame_sync.set_video_frame(self._sync)
        self._sender = ""
        self._search_at = 0.0
        self._stamp: tuple[float, float] | None = None

    def read(self) -> Captured | None:
        give_up = time.monotonic() + self._timeout
        while not self._closed.is_set():
            with self._lock:
                frame = None if self._closed.is_set() else self._newest()
            if frame is not None:
                return Captured(frame, self._clock())
            if time.monotonic() >= give_up:
                raise DeviceError(self._why_nothing())
            self._closed.wait(_POLL_S if self._sender else _SEARCH_S)
        return None

    def close(self) -> None:
        self._closed.set()
        with self._lock:
            if self._receiver is not None:
                self._receiver.disconnect()
                self._finder.close()
            self._receiver = self._sync = None

    def _newest(self) -> Frame | None:
        """The picture that came since the last one, if one did."""
        if not self._receiver.is_connected():
            self._search()
        if not self._sender:
            return None
        sync = self._sync
        self._receiver.frame_sync.capture_video()
        width, height = sync.get_resolution()
        stamp = (sync.get_timestamp_posix(), sync.get_timecode_posix())
        if not width or not height or stamp == self._stamp:
            return None
        self._stamp = stamp
        stride = sync.get_line_stride()
        rows = np.frombuffer(sync, np.uint8, stride * height).reshape(height, stride)
        pixels = rows[:, : width * 4].reshape(height, width, 4)
        # The view is gone at the end of this function; the next capture needs that.
        frame: Frame = cv2.cvtColor(pixels, cv2.COLOR_RGBA2RGB)
        return cv2.flip(frame, 0) if self._flip else frame

    def _search(self) -> None:
        """Connect to the sender that is meant, if it is there and is not the one we have."""
        now = time.monotonic()
        if now < self._search_at:
            return
        self._search_at = now + _SEARCH_S
        self._finder.update_sources()
        names = self._finder.get_source_names()
        found = matching(names, self._name)
        if not found or self._sender in found:
            return  # one that vanished is found again by libndi
        if len(found) > 1:
            log.warning("several NDI senders match %r: %s", self._name, ", ".join(found))
        sender = self._finder.get_source(found[0])
        if sender is not None:
            self._receiver.set_source(sender)
            self._sender = found[0]

    def _why_nothing(self) -> str:
        if self._receiver is not None and self._receiver.is_connected():
            return f"the NDI sender {self._sender!r} sent no new picture for {self._timeout:g} s"
        wanted = f"NDI sender with {self._name!r} in its name" if self._name else "NDI sender"
        there = ", ".join(self._finder.get_source_names()) or "none"
        unseen = why_unseen() if there == "none" else ""
        return f"expected an {wanted}, found none for {self._timeout:g} s; senders: {there}" + (
            unseen and f" ({unseen})"
        )


class NdiSink(Sink):
    """Sends under a name, to whoever on the network wants it."""

    def __init__(self, name: str, *, fps: float = 30.0, flip: bool = False) -> None:
        super().__init__()
        self._name = name
        self._flip = flip
        self._fps = Fraction(fps).limit_denominator(1001)
        self._sender: Any = None
        self._pixels = np.empty((0, 0, 4), np.uint8)
        self._lock = threading.Lock()

    def write(self, frame: Frame) -> None:
        self.check(frame)
        height, width = frame.shape[:2]
        even_height, even_width = height + height % 2, width + width % 2
        with self._lock:
            if self._sender is None or self._pixels.shape[:2] != (even_height, even_width):
                self._open(even_width, even_height)
            pixels = self._pixels
            pixels[:height, :width, :3] = frame[::-1] if self._flip else frame
            pixels[height:, :width] = pixels[height - 1 : height, :width]
            pixels[:, width:] = pixels[:, width - 1 : width]
            if not self._sender.write_video(pixels.ravel()):
                raise DeviceError(
                    f"NDI did not take a picture of {width}x{height} as {self._name!r}"
                )

    def close(self) -> None:
        super().close()
        with self._lock:
            sender, self._sender = self._sender, None
            if sender is not None:
                sender.close()

    def _open(self, width: int, height: int) -> None:
        if self._sender is not None:
            log.info("NDI sender %r: now %dx%d", self._name, width, height)
            self._sender.close()
            self._sender = None
        video = VideoSendFrame()
        video.set_resolution(width, height)
        video.set_fourcc(FourCC.RGBX)
        video.set_frame_rate(self._fps)
        sender = Sender(self._name, clock_video=False)
        sender.set_video_frame(video)
        try:
            sender.open()
        except Exception as error:  # cyndilib raises bare ones
            raise DeviceError(f"NDI cannot send as {self._name!r}: {error}") from error
        self._sender = sender
        self._pixels = np.full((height, width, 4), 255, np.uint8)


def matching(names: Sequence[str], wanted: str) -> list[str]:
    """The senders that ``wanted`` means, best first: its full name, ``Name`` of ``MACHINE (Name)``,
    or a part of the name in any case.
    """

    def rank(name: str) -> int | None:
        if name == wanted:
            return 0
        if name.endswith(f" ({wanted})"):
            return 1
        return 2 if wanted.lower() in name.lower() else None

    ranked = sorted((place, name) for name in names if (place := rank(name)) is not None)
    best = ranked[0][0] if ranked else 0
    return [name for place, name in ranked if place == best]


def why_unseen() -> str:
    """Why no sender can be found on this machine, if that is known; else nothing."""
    configured = "NDI_CONFIG_DIR" in os.environ or (Path.home() / ".ndi").is_dir()
    if platform.system() != "Linux" or configured or _AVAHI.exists():
        return ""
    return (
        "NDI finds senders through avahi, which does not run here: apt install avahi-daemon, or "
        "name the machines to ask in the folder NDI_CONFIG_DIR, see docs/sources-and-sinks.md"
    )


def senders(seconds: float = 1.5) -> list[str]:
    """The senders that answer within some seconds."""
    finder = Finder()
    finder.open()
    try:
        deadline = time.monotonic() + seconds
        while (left := deadline - time.monotonic()) > 0:
            with suppress(RuntimeError):
                finder.wait_for_sources(min(left, 0.2))
            finder.update_sources()
        return sorted(finder.get_source_names())
    finally:
        finder.close()


def open_ndi_source(address: Address) -> NdiSource:
    options = address.options(NdiSourceOptions)
    return NdiSource(
        address.target.strip("/"),
        timeout=options.timeout,
        bandwidth=RecvBandwidth[options.bandwidth],
        flip=options.flip,
    )


def open_ndi_sink(address: Address) -> NdiSink:
    options = address.options(NdiSinkOptions)
    name = address.target.strip("/") or "dreamrelay"
    return NdiSink(name, fps=options.fps, flip=options.flip)
