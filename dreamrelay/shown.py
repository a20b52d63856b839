"""What a viewer tells the relay of the pictures that it has shown: how they fared after the relay.

The relay's own figures end where it sends a picture. Once a second it hears of those that were seen
since: how long each took to get there, from there to the eye, and its whole age.
"""

import time
from collections.abc import Callable

from dreamrelay.link import Link
from dreamrelay.packet import Hop, Packet
from dreamrelay.protocol.native import MAX_SHOWN

TELL_NS = 1_000_000_000


class Shown:
    """Tells once a second; while nobody knows the relay's clock, nothing. Used by one thread.

    Args:
        where: a word for the figures, of at most 32 characters.
    """

    def __init__(
        self, link: Link, where: str, *, clock_ns: Callable[[], int] = time.monotonic_ns
    ) -> None:
        self._link = link
        self._where = where
        self._clock_ns = clock_ns
        self._told_ns = clock_ns()
        self._pictures: list[tuple[float | None, float, float]] = []

    def add(self, packet: Packet, arrived_ns: int, shown_ns: int) -> None:
        """A picture of the output is to be seen (times: our UNIX time).

        What is no whole result does not count.
        """
        offset = self._link.clock.offset
        if offset is None or packet.preview or packet.stand_in:
            return
        returned = next((s.ns for s in packet.stamps if s.hop is Hop.RETURNED), None)
        delivered = None if returned is None else _ms(arrived_ns + offset.ns - returned)
        age = _ms(shown_ns + offset.ns - packet.captured_ns)
        self._pictures.append((delivered, _ms(shown_ns - arrived_ns), age))
        now = self._clock_ns()
        if now - self._told_ns >= TELL_NS or len(self._pictures) >= MAX_SHOWN:
            self._link.tell("shown", where=self._where, pictures=self._pictures)
            self._pictures, self._told_ns = [], now


def _ms(ns: int) -> float:
    return round(ns / 1e6, 2)
