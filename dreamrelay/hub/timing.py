"""When the pictures of a stream passed which hop: figures, and whose clocks they hang on.

Every stamp is by the relay's clock: peers bring theirs onto it before they send
(:mod:`dreamrelay.clock`) and say how well they know it. The frame path adds to plain numbers; the
arithmetic is done by whoever asks.
"""

from collections import deque
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from dreamrelay.clock import DRIFT
from dreamrelay.hub.peers import Peer
from dreamrelay.packet import Hop, Packet, Stamp, Track
from dreamrelay.protocol.messages import ClockReported, PicturesShown, Seen
from dreamrelay.telemetry import HopTimes, Percentiles

KEPT_HANDED = 256
"""Inputs whose hand-out is remembered until their result comes."""

KEPT_SHOWN = 600
SHOWN_NS = 10_000_000_000
"""Pictures that were shown longer ago do not count, nor more than so many."""

STALE_NS = 2_000_000_000
"""A camera's picture that is older when it comes, after so long without any, was held up."""
LONGEST_CUT_NS = 15_000_000_000
"""No connection outlives a longer cut: what is older has a stamp that means something else."""
ON_WIRE = 2
"""So many pictures a producer may have on the wire."""

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


class Place:
    """What people saw somewhere of late."""

    def __init__(self) -> None:
        self._seen: deque[tuple[int, Seen]] = deque(maxlen=KEPT_SHOWN)

    def add(self, now_ns: int, seen: Seen) -> None:
        self._seen.append((now_ns, seen))

    def figures(self, now_ns: int) -> dict[str, Percentiles]:
        """By span, in ms; what nobody has told of late is left out.

        ``delivered``: from the relay to there; ``painted``: from there to the eye; ``age``: in all.
        """
        while self._seen and now_ns - self._seen[0][0] > SHOWN_NS:
            self._seen.popleft()
        seen = [one for _, one in self._seen]
        named = {
            "delivered": [one.delivered for one in seen if one.delivered is not None],
            "painted": [one.painted for one in seen],
            "age": [one.age for one in seen],
        }
        # What is below nothing is so by the error of the clocks.
        return {
            name: Percentiles.of([max(0.0, ms) for ms in times])
            for name, times in named.items()
            if times
        }


class Timing:
    """The times of one stream.

    Args:
        hops: those of each track, which the stream adds to.
        unix_ns: UNIX time.
    """

    def __init__(self, hops: Mapping[Track, HopTimes], unix_ns: Callable[[], int]) -> None:
        self.hops = hops
        self.error_ns = 0
        """Of the worst of the clocks that set stamps."""
        self._unix_ns = unix_ns
        self._places: dict[str, Place] = {}
        self._clocks: dict[str, PeerClock] = {}
        self._handed: dict[int, int] = {}
        self._told = 0
        self._came: dict[str, int] = {}
        """When the last picture of a camera came."""
        self._stale: dict[str, int] = {}
        """How many more of a camera's pictures may have been held up."""

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

    def stale(self, packet: Packet, peer: Peer) -> bool:
        """Whether a camera's picture lay in a cable that was out: a newer one comes after it.

        Only of a camera whose clock is known and which has been silent for so long itself; and no
        more of its pictures than can be on the wire.
        """
        now, known = self._unix_ns(), self._clocks.get(peer.id)
        if known is None:
            return False
        came, self._came[peer.id] = self._came.get(peer.id, now), now
        old = STALE_NS < now - packet.captured_ns - known.error_ns(now) < LONGEST_CUT_NS
        left = self._stale.pop(peer.id, 0) if now - came < STALE_NS else ON_WIRE
        if not old or not left:
            return False
        self._stale[peer.id] = left - 1
        return True

    def forget(self, peer: Peer) -> None:
        """A peer has gone."""
        self._came.pop(peer.id, None)
        self._stale.pop(peer.id, None)
        if self._clocks.pop(peer.id, None) is not None:
            self._weigh()

    def _weigh(self) -> None:
        stamping = (clock for clock in self._clocks.values() if clock.peer.role != "viewer")
        self.error_ns = max(map(self.error_of, stamping), default=0)

    def show(self, shown: PicturesShown) -> None:
        """A peer says when people saw what."""
        where = shown.where or OTHERS
        if where not in self._places and len(self._places) >= MAX_PLACES:
            where = OTHERS
        now = self._unix_ns()
        for seen in shown.pictures:
            self._places.setdefault(where, Place()).add(now, seen)

    # -- what is told -----------------------------------------------------------------------------

    @property
    def clocks(self) -> Iterable[PeerClock]:
        return self._clocks.values()

    def error_of(self, clock: PeerClock) -> int:
        """How far a peer's clock may be off now, ns."""
        return clock.error_ns(self._unix_ns())

    def shown(self) -> dict[str, dict[str, Percentiles]]:
        """What people saw of late, by where they did."""
        now = self._unix_ns()
        found = {name: place.figures(now) for name, place in self._places.items()}
        return {name: figures for name, figures in found.items() if figures}

    def ages(self) -> dict[str, Percentiles]:
        """The age of pictures by where they had it: at the relay on both ways, and where shown."""
        relay = {AT[track]: hops.age for track, hops in self.hops.items()}
        shown = {name: figures["age"] for name, figures in self.shown().items()}
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
                name: {span: _figures(times) for span, times in figures.items()}
                for name, figures in self.shown().items()
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
