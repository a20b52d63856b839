"""When the pictures of a stream passed which hop: figures, and whose clocks they hang on.

Every stamp is by the relay's clock: peers bring theirs onto it before they send
(:mod:`dreamrelay.clock`) and say how well they know it. The frame path adds to plain numbers; the
arithmetic is done by whoever asks.
"""

from collections import deque
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from dreamrelay.clock import DRIFT
from dreamrelay.hub.peers import Peer
from dreamrelay.packet import Hop, Packet, Stamp, Track
from dreamrelay.protocol.messages import ClockReported, PicturesShown
from dreamrelay.telemetry import HopTimes, Percentiles

KEPT_HANDED = 256
"""Inputs whose hand-out is remembered until their result comes."""

KEPT_SHOWN = 600
MAX_PLACES = 8
OTHERS = "others"
"""Where the pictures of the ninth place and of those without a name are counted."""

AT: Mapping[Track, str] = {"input": "relayed", "output": "returned", "control": "control"}
"""Where on its way a track's packets have the age that is measured when they come in."""


@dataclass(frozen=True, slots=True)
class PeerClock:
    """What a peer says of its clock, and when it said so (UNIX time)."""

    peer: Peer
    told: ClockReported
    told_ns: int

    def error_ns(self, now_ns: int) -> int:
        """How far it may be off by now."""
        return self.told.error_ns + int(max(0, now_ns - self.told_ns) * DRIFT)


def _times() -> deque[float]:
    return deque(maxlen=KEPT_SHOWN)


@dataclass(slots=True)
class Place:
    """What people saw somewhere: ms from the relay to there, from there to the eye, and in all."""

    delivered: deque[float] = field(default_factory=_times)
    painted: deque[float] = field(default_factory=_times)
    age: deque[float] = field(default_factory=_times)

    def figures(self) -> dict[str, Percentiles]:
        """By name; what was never told is left out."""
        named = {"delivered": self.delivered, "painted": self.painted, "age": self.age}
        return {name: Percentiles.of(times) for name, times in named.items() if times}


class Timing:
    """The times of one stream.

    Args:
        hops: those of each track, which the stream adds to.
        unix_ns: UNIX time.
    """

    def __init__(self, hops: Mapping[Track, HopTimes], unix_ns: Callable[[], int]) -> None:
        self.hops = hops
        self.places: dict[str, Place] = {}
        self.error_ns = 0
        """Of the worst of the clocks that set stamps."""
        self._unix_ns = unix_ns
        self._clocks: dict[str, PeerClock] = {}
        self._handed: dict[int, int] = {}
        self._told = 0

    # -- the frame path ---------------------------------------------------------------------------

    def hand(self, packet: Packet) -> None:
        """An input is given to a worker."""
        self._handed[packet.seq] = self._unix_ns()
        if len(self._handed) > KEPT_HANDED:
            del self._handed[next(iter(self._handed))]

    def returned(self, packet: Packet) -> Packet:
        """A result with what the relay knows of it: when its input was handed out, and now."""
        stamps = [*packet.stamps, Stamp(Hop.RETURNED, self._unix_ns())]
        handed = self._handed.get(packet.seq) if packet.seq else None
        if handed is not None:
            hops = [stamp.hop for stamp in stamps]
            place = hops.index(Hop.RELAYED) + 1 if Hop.RELAYED in hops else 0
            stamps.insert(place, Stamp(Hop.HANDED, handed))
        return packet.but(stamps=stamps)

    # -- what peers say ---------------------------------------------------------------------------

    def set_clock(self, peer: Peer, told: ClockReported) -> None:
        """A peer says how well it knows our clock."""
        before = self._clocks.get(peer.id)
        self._clocks[peer.id] = PeerClock(peer, told, self._unix_ns())
        known = before.told if before else ClockReported(0, 0)
        set_anew = abs(told.offset_ns - known.offset_ns) > told.error_ns + known.error_ns
        if set_anew and peer.role != "viewer":
            # What it stamped before was not by our clock.
            for hops in self.hops.values():
                hops.forget()
        self._weigh()

    def forget(self, peer: Peer) -> None:
        """A peer has gone."""
        if self._clocks.pop(peer.id, None) is not None:
            self._weigh()

    def _weigh(self) -> None:
        stamping = (clock for clock in self._clocks.values() if clock.peer.role != "viewer")
        self.error_ns = max(map(self.error_of, stamping), default=0)

    def show(self, shown: PicturesShown) -> None:
        """A peer says when people saw what."""
        where = shown.where or OTHERS
        if where not in self.places and len(self.places) >= MAX_PLACES:
            where = OTHERS
        place = self.places.setdefault(where, Place())
        for seen in shown.pictures:
            if seen.delivered is not None:
                place.delivered.append(max(0.0, seen.delivered))
            place.painted.append(max(0.0, seen.painted))
            place.age.append(max(0.0, seen.age))

    # -- what is told -----------------------------------------------------------------------------

    @property
    def clocks(self) -> Iterable[PeerClock]:
        return self._clocks.values()

    def error_of(self, clock: PeerClock) -> int:
        """How far a peer's clock may be off now, ns."""
        return clock.error_ns(self._unix_ns())

    def ages(self) -> dict[str, Percentiles]:
        """The age of pictures by where they had it: at the relay on both ways, and where shown."""
        relay = {AT[track]: hops.age for track, hops in self.hops.items()}
        shown = {name: Percentiles.of(place.age) for name, place in self.places.items()}
        return {at: age for at, age in {**shown, **relay}.items() if age.count}

    def summary(self) -> dict[str, Any] | None:
        """The figures in short, for those who are told once a second; None: nothing is new."""
        output = self.hops["output"]
        if output.added == self._told:
            return None
        self._told = output.added
        return {
            "hops": {hop.name.lower(): _three(times) for hop, times in output.hops().items()},
            "age": {at: _three(times) for at, times in self.ages().items()},
            "error_ms": round(self.error_ns / 1e6, 3),
        }

    def report(self) -> dict[str, Any]:
        """All figures as data (``docs/latency.md``)."""
        output = self.hops["output"]
        return {
            "hops": {hop.name.lower(): _figures(times) for hop, times in output.hops().items()},
            "age": {at: _figures(times) for at, times in self.ages().items()},
            "shown": {
                name: {span: _figures(times) for span, times in place.figures().items()}
                for name, place in self.places.items()
            },
            "clocks": [
                {
                    "peer": clock.peer.id,
                    "name": clock.peer.name,
                    "role": clock.peer.role,
                    "offset_ms": round(clock.told.offset_ns / 1e6, 3),
                    "error_ms": round(self.error_of(clock) / 1e6, 3),
                }
                for clock in self.clocks
            ],
            "disordered": output.disordered,
        }


def _three(times: Percentiles) -> tuple[float, float, float]:
    return round(times.p50, 2), round(times.p95, 2), round(times.p99, 2)


def _figures(times: Percentiles) -> dict[str, float]:
    p50, p95, p99 = _three(times)
    return {"p50_ms": p50, "p95_ms": p95, "p99_ms": p99, "count": times.count}
