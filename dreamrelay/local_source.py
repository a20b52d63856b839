"""A worker's own source: frames without a relay, at their own rate."""

import threading
from collections.abc import Callable

from dreamrelay.media.pacing import Pacer
from dreamrelay.media.ports import Captured
from dreamrelay.media.steady import SteadySource

FASTEST = 60.0
"""A live source without a rate of its own (a screen) is not read more often in a second."""


class LocalSource:
    """Reads a source until it ends; what comes and goes is waited for.

    Args:
        url: of the source.
        hear: is told why no picture comes, and "" when one comes again.

    Raises:
        ConfigError, MissingExtra, DeviceError: it can never be read.
    """

    def __init__(self, url: str, hear: Callable[[str], None]) -> None:
        self._url = url
        self._hear = hear
        self._source = self._opened()

    def _opened(self) -> SteadySource:
        source = SteadySource(self._url, hear=self._hear)
        source.open()
        return source

    @property
    def live(self) -> bool:
        return self._source.live

    @property
    def keeps_all(self) -> bool:
        """Whether every picture counts: those of a folder have no rate, and are not skipped."""
        return not self._source.live and self._source.fps is None

    def tend(self) -> None:
        """As of every source: what must happen in the main thread."""
        self._source.tend()

    def stop(self) -> None:
        """Have a read end that waits for what is not there; from any thread."""
        self._source.stop()

    def close(self) -> None:
        """End it; from any thread."""
        self._source.close()

    def feed(
        self,
        take: Callable[[Captured], None],
        *,
        taken: Callable[[], None],
        stopped: threading.Event,
        may_read: Callable[[], bool],
        renew: threading.Event,
    ) -> None:
        """Hand every frame on, until the source ends or ``stopped`` is set.

        Args:
            take: takes one frame.
            taken: returns when that frame has found somebody; waited for where all count.
            may_read: whether frames are wanted at the moment.
            renew: open a live source anew before the next frame.
        """
        pacer: Pacer | None = None
        while not stopped.is_set():
            if not may_read():
                stopped.wait(0.02)
                pacer = None
                continue
            if renew.is_set() and self.live:
                self._source.close()
                self._source = self._opened()
            renew.clear()
            captured = self._source.read()
            if captured is None:
                return
            take(captured)
            # Only now: what was waited for says its rate when it is there.
            rate = self._source.fps or (FASTEST if self.live else None)
            if rate is None:
                taken()  # pictures of a folder: as fast as the engine
                continue
            if pacer is None or pacer.fps != rate:
                pacer = Pacer(rate)
            pacer.tick()
            stopped.wait(pacer.delay())
