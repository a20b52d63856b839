"""Picture files: ``file://`` shows one or writes many, ``directory://`` shows those of a folder."""

import logging
import os
import re
from pathlib import Path

from dreamrelay.codec import Frame, decode, encode_bytes
from dreamrelay.errors import ConfigError, DeviceError, ProtocolError
from dreamrelay.media.address import PICTURE_SUFFIXES, VIDEO_SUFFIXES, Address, Options
from dreamrelay.media.pacing import CaptureClock
from dreamrelay.media.ports import Captured, Sink, Source
from dreamrelay.packet import Codec

log = logging.getLogger(__name__)

_WRITES = {
    ".jpg": Codec.JPEG,
    ".jpeg": Codec.JPEG,
    ".png": Codec.PNG,
    ".webp": Codec.WEBP,
}
_COUNTER = re.compile(r"%(0[1-9])?d")
_PADDED = re.compile(r"%0[1-9]d")

MOST_MISSED = 60
"""Pictures in a row that somebody's reading may keep out of a file, before it is an error."""


class PictureSource(Source):
    """One picture, again and again."""

    live = False

    def __init__(self, path: Path) -> None:
        self._frame: Frame | None = _load(path)
        self._clock = CaptureClock()

    def read(self) -> Captured | None:
        return None if self._frame is None else Captured(self._frame.copy(), self._clock())

    def close(self) -> None:
        self._frame = None


class DirectoryOptions(Options):
    loop: bool = True


class DirectorySource(Source):
    """The pictures of a folder, sorted by path; unreadable ones are named once in the log and
    skipped.

    With ``loop`` the folder is looked at anew each round, so that pictures may come and go.
    """

    live = False

    def __init__(self, path: Path, *, loop: bool = True) -> None:
        self.path = path
        self.unreadable: set[Path] = set()
        """The files that could not be shown."""
        self._loop = loop
        self._clock = CaptureClock()
        self._waiting: list[Path] | None = None  # of this round, the next one last
        self._closed = False
        # A folder that cannot show anything is told when it is opened, not at the first picture.
        self._next: Frame | None = self._advance()
        if self._next is None:
            raise self._nothing_readable()

    @property
    def skipped(self) -> int:
        """How many different files could not be shown."""
        return len(self.unreadable)

    def read(self) -> Captured | None:
        if self._closed:
            return None
        frame = self._advance() if self._next is None else self._next
        self._next = None
        if frame is None:
            self._closed = True
            return None
        return Captured(frame, self._clock())

    def close(self) -> None:
        self._closed = True
        self._next = None

    def _advance(self) -> Frame | None:
        # What is left of this round, and then a whole one.
        for _ in range(2):
            if self._waiting is None:
                self._waiting = self._list()
            frame = self._first_readable(self._waiting)
            if frame is not None or not self._loop:
                return frame
            self._waiting = None
        raise self._nothing_readable()

    def _first_readable(self, waiting: list[Path]) -> Frame | None:
        while waiting:
            path = waiting.pop()
            try:
                return _load(path)
            except DeviceError as error:
                if path not in self.unreadable:
                    self.unreadable.add(path)
                    log.warning("skipped %s", error)
        return None

    def _nothing_readable(self) -> DeviceError:
        return DeviceError(f"expected a readable picture in {str(self.path)!r}, found none")

    def _list(self) -> list[Path]:
        """The picture files, last one first."""
        try:
            found = [
                path for path in self.path.iterdir() if path.suffix.lower() in PICTURE_SUFFIXES
            ]
        except OSError as error:
            raise DeviceError(f"cannot list {str(self.path)!r}: {error.strerror}") from error
        if not found:
            kinds = " ".join(sorted(PICTURE_SUFFIXES))
            raise DeviceError(f"expected pictures ({kinds}) in {str(self.path)!r}, found none")
        return sorted(found, reverse=True)


class SnapshotSink(Sink):
    """Writes each frame to a picture file.

    ``%06d`` in the name counts them, from the first number that is free; without it there is one
    file, replaced whole by every frame, so that whoever reads it never sees half a picture.
    """

    def __init__(self, template: Path) -> None:
        super().__init__()
        codec = _WRITES.get(template.suffix.lower())
        if codec is None:
            raise ConfigError(
                f"expected a name that ends in {', '.join(_WRITES)}, got {template.name!r}"
            )
        if len(_COUNTER.findall(template.name)) > 1 or _PADDED.search(str(template.parent)):
            raise ConfigError(
                f"expected one counter such as %06d in the name, got {str(template)!r}"
            )
        self._codec = codec
        self._template = template
        self._missed = 0
        try:
            template.parent.mkdir(parents=True, exist_ok=True)
            self._number = self._first_free()
        except OSError as error:
            raise DeviceError(
                f"cannot write to {str(template.parent)!r}: {error.strerror}"
            ) from error

    def write(self, frame: Frame) -> None:
        self.check(frame)
        name = _COUNTER.sub(self._counted, self._template.name)
        path = self._template.with_name(name)
        unfinished = path.with_name(f".{name}.part")
        try:
            unfinished.write_bytes(encode_bytes(frame, self._codec))
            self._put(unfinished, path)
        except OSError as error:
            unfinished.unlink(missing_ok=True)
            raise DeviceError(f"cannot write {str(path)!r}: {error.strerror}") from error
        self._number += 1

    def _put(self, unfinished: Path, path: Path) -> None:
        try:
            os.replace(unfinished, path)
        except PermissionError:
            # Windows replaces no file that somebody reads just now: the next frame will do.
            self._missed += 1
            if self._missed > MOST_MISSED:
                raise
            unfinished.unlink(missing_ok=True)
        else:
            self._missed = 0

    def _counted(self, counter: re.Match[str]) -> str:
        return format(self._number, f"{counter[1]}d" if counter[1] else "d")

    def _first_free(self) -> int:
        counter = _COUNTER.search(self._template.name)
        if counter is None:
            return 1
        head, tail = self._template.name[: counter.start()], self._template.name[counter.end() :]
        pattern = re.compile(re.escape(head) + r"([0-9]+)" + re.escape(tail))
        numbers = (pattern.fullmatch(path.name) for path in self._template.parent.iterdir())
        return 1 + max((int(number[1]) for number in numbers if number), default=0)


def _load(path: Path) -> Frame:
    try:
        return decode(path.read_bytes())
    except OSError as error:
        raise DeviceError(f"cannot read {str(path)!r}: {error.strerror}") from error
    except ProtocolError as error:
        raise DeviceError(f"cannot show {str(path)!r}: {error}") from error


def open_picture(address: Address) -> PictureSource:
    path = address.path
    address.options(Options)
    if path.is_dir():
        raise DeviceError(f"expected a picture, {str(path)!r} is a folder: use directory://")
    if path.suffix.lower() in VIDEO_SUFFIXES:
        raise DeviceError(f"expected a picture, {str(path)!r} is a video: use video://")
    return PictureSource(path)


def open_directory(address: Address) -> DirectorySource:
    path = address.path
    options = address.options(DirectoryOptions)
    if path.is_file():
        raise DeviceError(f"expected a folder, {str(path)!r} is a file: use file://")
    return DirectorySource(path, loop=options.loop)


def open_snapshots(address: Address) -> SnapshotSink:
    address.options(Options)
    return SnapshotSink(address.path)
