"""The way of a computed picture out of the worker: window, local sinks, relay."""

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from dreamrelay.codec import Frame, encode_bytes
from dreamrelay.errors import EngineError
from dreamrelay.jobs import Asked, Done, encode_within, to_packet
from dreamrelay.link import Link
from dreamrelay.projection import Projection
from dreamrelay.protocol.native import encode_packet, encode_text
from dreamrelay.stage import Outlet
from dreamrelay.telemetry import HopTimes, heard_figures


class Returning:
    """Hands out what the engine has made, and knows how late; used by one thread where not said.

    Args:
        link: None where there is no relay.
        sinks: local ones.
        projection: the window, if there is one.
        quality: of JPEGs, 1..95.
    """

    def __init__(
        self,
        link: Link | None,
        sinks: Sequence[Outlet],
        projection: Projection | None,
        quality: int,
    ) -> None:
        self._link = link
        self._sinks = sinks
        self._projection = projection
        self._quality = quality
        self._encoded: tuple[Frame, bytes] | None = None
        self._own = HopTimes()
        self._heard: dict[str, tuple[float, ...]] = {}

    @property
    def trouble(self) -> str:
        """What is wrong with the local sinks, as they say it."""
        return "; ".join(outlet.trouble for outlet in self._sinks if outlet.trouble)

    def publish(self, done: Done, info: Callable[[], Mapping[str, Any]]) -> float:
        """Show a picture everywhere; how old it is now, in ms.

        Args:
            info: what the window says of it; not asked where there is none.
        """
        job = done.job
        # When its picture was taken came by the relay's clock; here it is needed by ours.
        ahead = self._link.clock.ahead_ns if self._link is not None and job.seq else 0
        captured_ns = job.captured_ns - ahead
        if self._projection is not None:
            self._projection.show(
                done.frame, {"revision": done.revision, "captured_ns": captured_ns, **info()}
            )
        for outlet in self._sinks:
            outlet.write(done.frame)
        if self._link is not None and self._link.connected:
            if self._encoded is not None and done.repeated and self._encoded[0] is done.frame:
                data = self._encoded[1]
            else:
                data = encode_bytes(done.frame, quality=self._quality)
                self._encoded = (done.frame, data)
            self._link.send_picture(to_packet(done, done.frame, data), "output", job.session)
            if done.control is not None and job.seq:  # of what came in, not of a dream
                data = encode_bytes(done.control, quality=self._quality)
                packet = to_packet(done, done.control, data)
                self._link.send_picture(packet, "control", job.session)
        now = time.time_ns()
        if self._link is None:
            self._own.add(to_packet(done, done.frame, b""), now)
        return max(0, now - captured_ns) / 1e6  # the clock may have been set back

    @property
    def latency(self) -> dict[str, tuple[float, ...]]:
        """Median, 95th and 99th of each hop in ms, as the relay says; without one, of our own.

        From any thread.
        """
        return self._own.figures() if self._link is None else self._heard

    def hear(self, fields: Mapping[str, Any]) -> None:
        """The relay's figures; from its thread."""
        self._heard = heard_figures(fields)

    def tell_seen(self) -> None:
        """Tell the relay how old pictures were in the window; from the window's thread."""
        if self._projection is not None and self._link is not None:
            seen = [(None, round(p, 2), round(age, 2)) for p, age in self._projection.seen()]
            if seen:
                self._link.tell("shown", where="window", pictures=seen)

    def answer(self, done: Done, asked: Asked) -> None:
        """Send a picture to whoever asked for it alone."""
        try:
            data = encode_within(done.frame, self._quality, asked.max_bytes)
        except EngineError as error:
            self.failed(done.job.seq, done.job.session, str(error))
            return
        packet = to_packet(done, done.frame, data).but(private=True)
        if self._link is not None:
            self._link.send(encode_packet(packet, "output"), done.job.session)

    def failed(self, seq: int, session: int, message: str) -> None:
        """Say why there is no picture for a request; from any thread."""
        if self._link is not None:
            self._link.send(encode_text("failed", seq=seq, message=message), session)
