"""Somebody who watches, and remembers when each picture came."""

import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from dreamrelay.link import Link, Listener
from dreamrelay.packet import Packet, Track

ENOUGH = 0.8
"""Of the usual rate: so much counts as all of it."""
WINDOW = 1.0
"""Seconds over which a rate is taken."""


@dataclass(frozen=True, slots=True)
class Seen:
    """A picture that came.

    Attributes:
        at: seconds, monotonic.
        session: number of the connection; a relay that was started anew counts from 1 again.
    """

    at: float
    seq: int
    stand_in: bool
    session: int


class Audience(Listener):
    """A viewer of one stream, from :meth:`watch` on."""

    def __init__(self) -> None:
        self.status: Mapping[str, Any] = {}
        self.ages_ms: list[float] = []
        """As the relay told them, once a second."""
        self._link: Link | None = None
        self._lock = threading.Lock()
        self._seen: list[Seen] = []
        self._session = 0

    def watch(self, uri: str, stream: str) -> Link:
        """Begin; whoever calls closes the link."""
        self._link = Link(uri, stream, "viewer", self, name="audience")
        self._link.start()
        return self._link

    @property
    def workers(self) -> int:
        """How many the stream has; 0 while nobody says so."""
        workers = self.status.get("workers")
        return workers if isinstance(workers, int) else 0

    # -- in the link's thread ---------------------------------------------------------------------

    def lost(self, reason: str, retry_in: float) -> None:
        self.status = {}

    def opened(self, welcome: Mapping[str, Any]) -> None:
        self._session += 1

    def heard(self, kind: str, fields: Mapping[str, Any]) -> None:
        if kind == "status":
            self.status = fields
            age = fields.get("age_ms")
            if isinstance(age, int | float):
                self.ages_ms.append(float(age))

    def received(self, packet: Packet, track: Track) -> None:
        if self._link is not None:
            self._link.tell("credit", count=1, track=track)
        seen = Seen(time.monotonic(), packet.seq, packet.stand_in, self._session)
        with self._lock:
            self._seen.append(seen)

    # -- from any thread --------------------------------------------------------------------------

    def between(self, begin: float, end: float) -> list[Seen]:
        """What came then, with the picture before it that was on the screen."""
        with self._lock:
            seen = list(self._seen)
        before = [one for one in seen if one.at <= begin][-1:]
        return before + [one for one in seen if begin < one.at <= end]

    def longest_gap(self, begin: float, end: float) -> float:
        """The longest time, in seconds, without a new picture of whatever kind."""
        times = [begin, *(one.at for one in self.between(begin, end)), end]
        times[0] = min(times[:2])  # since the picture that was there already
        return max(later - earlier for earlier, later in pairwise(times))

    def out_of_order(self, begin: float, end: float) -> int:
        """Pictures that came after a newer one, and results that came twice."""
        wrong = 0
        for one, other in pairwise(self.between(begin, end)):
            again = other.seq == one.seq and not (one.stand_in and not other.stand_in)
            wrong += one.session == other.session and (other.seq < one.seq or again)
        return wrong

    def rate(self, begin: float, end: float) -> float:
        """Results a second."""
        came = [one for one in self.between(begin, end) if one.at > begin and not one.stand_in]
        return len(came) / max(1e-9, end - begin)

    def back_at(self, usual: float, begin: float, end: float) -> float | None:
        """From when on results came at their usual rate again; None if not yet."""
        moments = [begin, *(one.at for one in self.between(begin, end) if one.at > begin)]
        for moment in moments:
            if moment + WINDOW > end:
                return None
            if self.rate(moment, moment + WINDOW) >= ENOUGH * usual:
                return moment
        return None
