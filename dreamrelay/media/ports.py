"""The two ports of this room, documented for whoever adds a technology."""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from types import TracebackType
from typing import Self

import numpy as np

from dreamrelay.codec import Frame
from dreamrelay.errors import ClosedError


@dataclass(frozen=True, slots=True)
class Captured:
    """A frame and when it was taken (UNIX time in ns). The frame belongs to whoever read it."""

    frame: Frame
    captured_ns: int


class Source(ABC):
    """Something that frames come from. Opened by :func:`open_source`; used by one thread.

    A live source (camera, screen) returns what is there *now*; a stored one (file, video) returns
    its pictures in order and leaves it to the reader to pace them by ``fps``, if it has its own
    rate. The thread that reads need not be the one that opened. ``captured_ns`` grows with every
    frame.
    """

    live: bool = True
    """False where each picture counts and must not be skipped by the source itself."""

    fps: float | None = None
    """The source's own rate, if it has one (a video); None: as fast as one reads."""

    @abstractmethod
    def read(self) -> Captured | None:
        """Return the next frame, waiting for it if need be; None when there are no more or it is
        closed.

        Raises:
            DeviceError: the device or file failed. Reading again may work (the caller backs off).
        """

    def tend(self) -> None:  # noqa: B027 - most sources need nothing
        """What some systems want done in the main thread: to be called there a few times a second,
        where another thread reads.
        """

    def close(self) -> None:  # noqa: B027 - a source may have nothing to let go
        """Let the device go; idempotent."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


class Sink(ABC):
    """Something that frames go to. Opened by :func:`open_sink`; used by one thread."""

    def __init__(self) -> None:
        self._closed = False

    @abstractmethod
    def write(self, frame: Frame) -> None:
        """Show, store or send one frame; a change of size is followed. Must not block for long.

        The frame is only read, and not kept after the call. Begin with ``self.check(frame)``.

        Raises:
            DeviceError: the device failed. Writing again may work.
            ClosedError: the sink was closed.
        """

    def keep_every(self) -> None:  # noqa: B027 - most sinks leave none out
        """Take every picture from now on, even if ``write`` blocks for it: for stored sources.

        To be called before the first ``write``.
        """

    def check(self, frame: Frame) -> None:
        """Refuse what is no frame, and anything after ``close``."""
        if self._closed:
            raise ClosedError("the sink is closed")
        if frame.dtype != np.uint8 or frame.ndim != 3 or frame.shape[2] != 3 or 0 in frame.shape:
            raise ValueError(
                f"expected a frame, uint8 of height x width x 3, got {frame.dtype} {frame.shape}"
            )

    def close(self) -> None:
        """Let the device go; idempotent. Call the base's when overriding."""
        self._closed = True

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()
