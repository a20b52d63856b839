"""The two ports of this room, documented for whoever adds a technology."""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from types import TracebackType
from typing import Self

from dreamrelay.codec import Frame


@dataclass(frozen=True, slots=True)
class Captured:
    """A frame and when it was taken (UNIX time in ns)."""

    frame: Frame
    captured_ns: int


class Source(ABC):
    """Something that frames come from. Opened by :func:`open_source`; used by one thread.

    A live source (camera, screen) returns what is there *now*; a stored one (file, video) returns its
    pictures in order, paced by ``fps`` if it has its own rate.
    """

    live: bool = True
    """False where each picture counts and must not be skipped by the source itself."""

    fps: float | None = None
    """The source's own rate, if it has one (a video); None: as fast as one reads."""

    @abstractmethod
    def read(self) -> Captured | None:
        """Return the next frame, waiting for it if need be; None when there are no more.

        Raises:
            DeviceError: the device or file failed. Reading again may work (the caller backs off).
        """

    def close(self) -> None:
        """Let the device go; idempotent."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class Sink(ABC):
    """Something that frames go to. Opened by :func:`open_sink`; used by one thread."""

    @abstractmethod
    def write(self, frame: Frame) -> None:
        """Show, store or send one frame; a change of size is followed. Must not block for long.

        Raises:
            DeviceError: the device failed. Writing again may work.
        """

    def close(self) -> None:
        """Let the device go; idempotent."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
