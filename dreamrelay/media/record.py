"""``record://show.mp4``: a video file of what was shown, as it was shown.

Each picture is stamped with the time at which it came, so that the video plays at the speed of the
show whatever its rate was. Coding is slow and a disk may be slower, so both have a thread of their
own, and the show goes on: newest wins. The file is written in fragments: when the program is
killed, or the power goes, what was written until two seconds before can still be played.
"""

import logging
import threading
import time
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
from av.video.reformatter import ColorRange, Colorspace
from pydantic import Field

from dreamrelay.codec import Frame, resize
from dreamrelay.errors import ClosedError, ConfigError, DeviceError
from dreamrelay.mailbox import Mailbox
from dreamrelay.media.address import Address, Options
from dreamrelay.media.ports import Sink

log = logging.getLogger(__name__)

RETRY_S = 5.0
"""After a failure (a full disk) a new file is begun so much later, not at every picture."""

LAST_PICTURE_S = 10.0
"""The last picture is waited for so long; a disk that hangs shall not keep the program."""

_TICKS = Fraction(1, 1000)
_KEYFRAME_EVERY = 60
_FRAGMENTS = {
    "movflags": "frag_keyframe+empty_moov+default_base_moof",
    "frag_duration": "1500000",
    "flush_packets": "1",
}
"""Whole when cut anywhere, and on the disk as soon as a fragment is complete: after so many
microseconds, however few pictures a second there are.
"""


_FAILURES = (OSError, av.FFmpegError)
"""A full disk is of the first kind, an encoder that refuses only of the second."""

_BT709 = 1
"""Primaries and transfer function, as H.264 numbers them."""
_SD = (1024, 576)
"""Players that ignore what a video says of its colours take larger ones for BT.709, others for
BT.601: so that is what they are.
"""

_SUFFIXES = (".mp4", ".mov")
_ENCODER = {"preset": "veryfast", "tune": "zerolatency"}


class RecordOptions(Options):
    quality: int = Field(20, ge=0, le=51)
    """H.264's CRF: 0 loses nothing, 51 is the worst."""
    overwrite: bool = False
    """Else a file that is there is kept, and the new one gets a number."""


class RecordSink(Sink):
    """Writes a video, in the thread that calls. Its first picture decides the size; others are
    fitted into that.

    Args:
        path: of an MP4 or QuickTime file.
        clock: the time in seconds.
    """

    def __init__(
        self,
        path: Path,
        *,
        quality: int = 20,
        overwrite: bool = False,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        super().__init__()
        if path.suffix.lower() not in _SUFFIXES:
            raise ConfigError(
                f"expected a name that ends in {' or '.join(_SUFFIXES)}, got {path.name!r}"
            )
        self.path = path
        """Of the file that is written, or was last."""
        self.written = 0
        """Pictures in that file."""
        self._quality = quality
        self._overwrite = overwrite
        self._wanted = path
        self._clock = clock
        self._file: Any = None
        self._stream: Any = None
        self._size = (0, 0)
        self._matrix = Colorspace.ITU601
        self._began = 0.0
        self._last = -1
        self._not_before = float("-inf")
        self._trouble = ""
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise DeviceError(f"cannot write to {str(path.parent)!r}: {error.strerror}") from error

    def write(self, frame: Frame) -> None:
        self.check(frame)
        now = self._clock()
        if now < self._not_before:
            raise DeviceError(self._trouble)
        try:
            if self._file is None:
                self._begin(frame, now)
            self._encode(frame, now)
        except _FAILURES as error:
            self._give_up(error, now)
            raise DeviceError(self._trouble) from error

    def close(self) -> None:
        super().close()
        if self._file is None:
            return
        try:
            for packet in self._stream.encode(None):
                self._file.mux(packet)
            self._file.close()
        except _FAILURES as error:
            # What came before is in the file.
            log.warning("%s: its last pictures are lost: %s", self.path, _reason(error))
        else:
            log.info("recorded %d pictures to %s", self.written, self.path)
        self._file = self._stream = None

    def _begin(self, frame: Frame, now: float) -> None:
        height, width = frame.shape[:2]
        # Colours have half the resolution, so a video of an odd size is none.
        self._size = (width + width % 2, height + height % 2)
        self.path = self._wanted if self._overwrite else _free(self._wanted)
        self.written, self._last, self._began = 0, -1, now
        # Of a relative `12:30.mp4` FFmpeg would ask for the protocol 12.
        self._file = av.open(str(self.path.absolute()), "w", options=_FRAGMENTS)
        options = {**_ENCODER, "crf": str(self._quality)}
        stream = self._file.add_stream("libx264", rate=30, options=options)
        stream.width, stream.height = self._size
        stream.pix_fmt = "yuv420p"
        stream.time_base = stream.codec_context.time_base = _TICKS
        stream.codec_context.gop_size = _KEYFRAME_EVERY
        small = self._size[0] <= _SD[0] and self._size[1] <= _SD[1]
        stream.codec_context.colorspace = self._matrix = (
            Colorspace.ITU601 if small else Colorspace.ITU709
        )
        stream.codec_context.color_primaries = stream.codec_context.color_trc = _BT709
        stream.codec_context.color_range = ColorRange.MPEG
        self._stream = stream
        log.info("recording to %s", self.path)

    def _encode(self, frame: Frame, now: float) -> None:
        height, width = frame.shape[:2]
        if (width + width % 2, height + height % 2) != self._size:
            frame = resize(frame, *self._size, "contain")
        elif (width, height) != self._size:
            frame = resize(frame, *self._size, "stretch")
        picture = av.VideoFrame.from_ndarray(frame, format="rgb24")
        picture = picture.reformat(format="yuv420p", dst_colorspace=self._matrix.name)
        self._last = picture.pts = max(self._last + 1, round((now - self._began) / _TICKS))
        picture.time_base = _TICKS
        for packet in self._stream.encode(picture):
            self._file.mux(packet)
        self.written += 1

    def _give_up(self, error: OSError | av.FFmpegError, now: float) -> None:
        self._trouble = (
            f"recording to {str(self.path)!r} stopped after {self.written} pictures:"
            f" {_reason(error)}; the show goes on, trying again every {RETRY_S:g} s"
        )
        self._not_before = now + RETRY_S
        file, self._file, self._stream = self._file, None, None
        if file is None:
            return
        try:
            file.close()
        except _FAILURES as closing:  # it has no room for its end either
            log.debug("closing %s: %s", self.path, closing)
        if not self.written and self.path.is_file():
            self.path.unlink(missing_ok=True)


class Recorder(Sink):
    """A recording that nobody waits for: coded and written by a thread of its own.

    A picture that comes while the one before is still being coded replaces the one that waits, and
    is counted. What failed is raised by the next ``write``, again and again until it is over.
    ``close`` waits for the last picture.

    Args:
        path, quality, overwrite, clock: as of :class:`RecordSink`.
    """

    def __init__(
        self,
        path: Path,
        *,
        quality: int = 20,
        overwrite: bool = False,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        super().__init__()
        self._clock = clock
        self._now: float | None = None
        self._file = RecordSink(path, quality=quality, overwrite=overwrite, clock=self._time)
        self._waiting: Mailbox[tuple[Frame, float]] = Mailbox()
        self._failure: BaseException | None = None
        self._every = False
        self._thread: threading.Thread | None = None

    @property
    def dropped(self) -> int:
        """Pictures that are not in the file, because newer ones came."""
        return self._waiting.statistics().replaced

    def keep_every(self) -> None:
        self._every = True

    def write(self, frame: Frame) -> None:
        self.check(frame)
        if self._every:
            self._file.write(frame)
            return
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name="record", daemon=True)
            self._thread.start()
        self._waiting.put((frame.copy(), self._clock()))
        if self._failure is not None:
            raise self._failure

    def close(self) -> None:
        super().close()
        self._waiting.close()
        if self._thread is not None:
            self._thread.join(LAST_PICTURE_S)
            if self._thread.is_alive():
                log.warning(
                    "%s: the disk does not answer; its last pictures are lost", self._file.path
                )
                return
        self._file.close()
        if self.dropped:
            log.info("%s: %d pictures came too fast for it", self._file.path, self.dropped)

    def _time(self) -> float:
        """When the picture came that is written now."""
        return self._clock() if self._now is None else self._now

    def _run(self) -> None:
        while True:
            try:
                item = self._waiting.take()
            except ClosedError:
                return
            if item is None:
                continue
            frame, self._now = item
            try:
                self._file.write(frame)
            except BaseException as error:  # noqa: BLE001 - carried to write(), which raises it
                self._failure = error
            else:
                self._failure = None


def _free(path: Path) -> Path:
    """The path, or with the first number that is free: no take is ever lost."""
    number, free = 1, path
    while free.exists():
        number += 1
        free = path.with_stem(f"{path.stem}_{number}")
    return free


def _reason(error: OSError | av.FFmpegError) -> str:
    return error.strerror or str(error)


def open_record(address: Address) -> Recorder:
    options = address.options(RecordOptions)
    return Recorder(address.path, quality=options.quality, overwrite=options.overwrite)
