"""All streams of a relay, by name."""

import re
import time
from collections.abc import Callable

from dreamrelay.errors import ProtocolError
from dreamrelay.hub.merge import CallLater
from dreamrelay.hub.standin import Fallback
from dreamrelay.hub.stream import Stream
from dreamrelay.protocol.messages import Limits

_STREAM_NAME = re.compile(r"[A-Za-z0-9_.-]{1,64}\Z")


class Hub:
    """All streams of one relay.

    Args:
        call_later: has a function called once, so many seconds from now, in the thread that calls
            the hub. Without it the results of several workers at one stream are not put in order.
        fallback: what viewers of a stream are shown while no results come, until its people choose.
    """

    def __init__(
        self,
        limits: Limits | None = None,
        *,
        clock_ns: Callable[[], int] = time.monotonic_ns,
        unix_ns: Callable[[], int] = time.time_ns,
        call_later: CallLater | None = None,
        fallback: Fallback | None = None,
    ) -> None:
        self.limits = limits or Limits()
        self._clock_ns = clock_ns
        self._unix_ns = unix_ns
        self._call_later = call_later
        self._fallback = fallback
        self.streams: dict[str, Stream] = {}
        self.made: Callable[[Stream], None] = lambda _: None
        """Hears of each new stream, before anybody is at it."""

    def stream(self, name: str, owner: str = "") -> Stream:
        """Return the stream of that name; it is made if nobody named it before.

        Args:
            owner: the address of whoever asks; empty is not counted.

        Raises:
            ProtocolError: not a stream's name, or too many streams.
        """
        stream = self.streams.get(name)
        if stream is None:
            if not _STREAM_NAME.match(name):
                raise ProtocolError(
                    f"expected a stream's name of 1-64 letters, digits, _ . -, got {name[:64]!r}"
                )
            self._forget_idle()
            if len(self.streams) >= self.limits.streams:
                most = self.limits.streams
                raise ProtocolError(f"there are {most} streams already: leave one first")
            self._check_owner(owner)
            stream = Stream(
                name,
                self.limits,
                clock_ns=self._clock_ns,
                unix_ns=self._unix_ns,
                call_later=self._call_later,
                fallback=self._fallback,
            )
            stream.owner = owner
            self.streams[name] = stream
            self.made(stream)
        return stream

    def find(self, name: str) -> Stream | None:
        """Return the stream of that name if there is one."""
        return self.streams.get(name)

    def forget(self, stream: Stream) -> None:
        """Forget a stream if nobody is at it any more."""
        if stream.alone and self.streams.get(stream.name) is stream:
            del self.streams[stream.name]

    def tick(self) -> None:
        """Once a second."""
        for stream in self.streams.values():
            stream.tick()

    def _check_owner(self, owner: str) -> None:
        """Raise if this address has made as many streams as one may, and somebody is at them."""
        most = self.limits.streams_each
        owned = [s for s in self.streams.values() if s.owner == owner]
        if not owner or not most or len(owned) < most:
            return
        for stream in owned:
            self.forget(stream)
        if sum(s.owner == owner for s in self.streams.values()) >= most:
            raise ProtocolError(f"your address has {most} streams already: leave one first")

    def _forget_idle(self) -> None:
        """Streams that nobody is at make room for a new one when the house is full."""
        if len(self.streams) >= self.limits.streams:
            held = {n: s for n, s in self.streams.items() if not s.alone}
            self.streams = held
