"""When the pictures of a stream passed which hop: figures, and whose clocks they hang on.

Every stamp is by the relay's clock: peers bring theirs onto it before they send
(:mod:`dreamrelay.clock`) and say how well they know it. The frame path adds to plain numbers; the
arithmetic is done by whoever asks.
"""

from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from dreamrelay.clock import DRIFT
from dreamrelay.hub.peers import Peer
from dreamrelay.packet import WAY, Hop, Packet, Stamp, Track
from dreamrelay.protocol.messages import ClockReported, PicturesShown, Role, Seen
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

MAX_PLACES = 24
OTHERS = "others"
"""Where the pictures of the places above that and of those without a name are counted."""

MAX_TOLD = 32
"""Pictures of one place that another relay is told of, each time that it is told."""
MAX_TOLD_CLOCKS = 64

ClockRole = Role | Literal["home", "mirror"]
"""Whose clock it is; the last two are other relays."""

STAMPING = ("producer", "worker")
_MET: Mapping[Hop, ClockRole] = {
    Hop.RELAYED: "producer",
    Hop.RECEIVED: "worker",
    Hop.RETURNED: "worker",
}
"""Hops at which a relay's clock and another one meet: whose."""

AT: Mapping[Track, str] = {"input": "relayed", "output": "returned", "control": "control"}
"""Where on its way a track's packets have the age that is measured when they come in."""


@dataclass(frozen=True, slots=True)
class KnownClock:
    """A clock by which pictures of a stream are stamped or seen.

    Attributes:
        peer, name, role: whose it is.
        offset_ns: what is added to its times on their way to the relay where the stream is at home.
        error_ns: how far that may be off.
    """

    peer: str
    name: str
    role: ClockRole
    offset_ns: int
    error_ns: int


@dataclass(frozen=True, slots=True)
class PeerClock:
    """What a peer says of its clock, and when it said so (UNIX time)."""

    peer: Peer
    told: ClockReported
    told_ns: int
    mirror: bool = False
    """It is another relay's."""

    def error_ns(self, now_ns: int) -> int:
        """How far it may be off by now."""
        return self.told.error_ns + int(max(0, now_ns - self.told_ns) * DRIFT)


class Place:
    """What people saw somewhere of late."""

    def __init__(self) -> None:
        self._seen: deque[tuple[int, Seen]] = deque(maxlen=KEPT_SHOWN)
        self._untold: deque[tuple[int, Seen]] = deque(maxlen=MAX_TOLD)

    def add(self, now_ns: int, seen: Seen, *, here: bool) -> None:
        self._seen.append((now_ns, seen))
        if here:
            self._untold.append((now_ns, seen))

    def take_untold(self, now_ns: int) -> list[Seen]:
        """What was seen of late and was not taken so yet; the newest where that is much."""
        taken = [seen for seen_ns, seen in self._untold if now_ns - seen_ns <= SHOWN_NS]
        self._untold.clear()
        return taken

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
        self._home: KnownClock | None = None
        """At a mirror: what is added to our clock to have that of its home."""
        self._elsewhere: Sequence[KnownClock] = ()
        """Of workers and producers that are not here, as the home says."""
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

    def set_clock(
        self, peer: Peer, told: ClockReported, *, shifted: bool = False, mirror: bool = False
    ) -> None:
        """A peer says how well it knows our clock.

        Args:
            shifted: what it stamped before its first word was by our clock, too.
            mirror: it is another relay, and none of those who stamp.
        """
        before = self._clocks.get(peer.id)
        self._clocks[peer.id] = PeerClock(peer, told, self._unix_ns(), mirror)
        known = told if shifted else ClockReported(0, 0)
        if before is not None:
            known = before.told
        if _contradicts(told, known) and peer.role != "viewer":
            self._forget_hops()  # what it stamped before was not by our clock
        self._weigh()

    def follow(self, home: KnownClock | None) -> None:
        """How we know the clock of the relay where the stream is at home; None: here."""
        before, self._home = self._home, home
        if home is None:
            self._elsewhere = ()
        elif before is not None and before.peer == home.peer and _contradicts(home, before):
            self._forget_hops()
        self._weigh()

    def hear_clocks(self, elsewhere: Sequence[KnownClock]) -> None:
        """The home says how it knows the clocks of those who are not here."""
        self._elsewhere = elsewhere
        self._weigh()

    def _forget_hops(self) -> None:
        for hops in self.hops.values():
            hops.forget()

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
        self.error_ns = max((c.error_ns for c in self.clocks if c.role in STAMPING), default=0)
        if self._home is not None:
            self.error_ns += self._home.error_ns

    def show(self, shown: PicturesShown, relay: str = "") -> None:
        """A peer says when people saw what; ``relay``: it is at that one."""
        where = shown.where or OTHERS
        if relay:
            where = f"{where}@{relay}"
        now = self._unix_ns()
        if where not in self._places and len(self._places) >= MAX_PLACES:
            live = {name: place for name, place in self._places.items() if place.figures(now)}
            self._places = live
            where = where if len(live) < MAX_PLACES else OTHERS
        for seen in shown.pictures:
            self._places.setdefault(where, Place()).add(now, seen, here=not relay)

    # -- what is told -----------------------------------------------------------------------------

    @property
    def clocks(self) -> list[KnownClock]:
        """Those that are known, as they are by now: all of them against that of the home."""
        now, home = self._unix_ns(), self._home
        found = [self._known(clock, now) for clock in self._clocks.values()]
        return [*found, home, *self._elsewhere] if home is not None else found

    def _known(self, clock: PeerClock, now: int) -> KnownClock:
        peer, offset, error = clock.peer, clock.told.offset_ns, clock.error_ns(now)
        if self._home is not None:
            offset, error = offset + self._home.offset_ns, error + self._home.error_ns
        role: ClockRole = "mirror" if clock.mirror else peer.role
        return KnownClock(peer.id, peer.name, role, offset, error)

    def clocks_to_tell(self) -> list[KnownClock]:
        """Of those who stamp, the worst where they are many: for other relays."""
        stamping = (clock for clock in self.clocks if clock.role in STAMPING)
        worst = sorted(stamping, key=lambda clock: clock.error_ns, reverse=True)
        return worst[:MAX_TOLD_CLOCKS]

    def shown_to_tell(self) -> dict[str, list[Seen]]:
        """What people saw here since this was asked last: for the home."""
        now = self._unix_ns()
        found = {name: place.take_untold(now) for name, place in self._places.items()}
        return {name: seen for name, seen in found.items() if seen}

    def hop_errors(self) -> dict[Hop, float | None]:
        """How far each hop's time may be off, ms; None: a clock that nobody compared.

        Where only one clock was looked at, nothing.
        """
        worst: dict[str, float] = {}
        for clock in self.clocks:
            worst[clock.role] = max(worst.get(clock.role, 0.0), clock.error_ns / 1e6)
        between = {hop: worst.get(role) for hop, role in _MET.items()}
        return {hop: between.get(hop, 0.0) for hop in WAY}

    def age_error(self) -> float | None:
        """How far an age at this relay may be off, ms; None: a clock that nobody compared."""
        camera = self.hop_errors()[Hop.RELAYED]
        if camera is None or self._home is None:
            return camera
        return camera + self._home.error_ns / 1e6

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
        output, errors = self.hops["output"], self.hop_errors()
        age_error = _rounded(self.age_error())
        return {
            "hops": {
                hop.name.lower(): {**_figures(times), "error_ms": _rounded(errors[hop])}
                for hop, times in output.hops().items()
            },
            "age": {
                at: {**_figures(times), "error_ms": age_error}
                if at in AT.values()
                else _figures(times)
                for at, times in self.ages().items()
            },
            "shown": {
                name: {span: _figures(times) for span, times in figures.items()}
                for name, figures in self.shown().items()
            },
            "clocks": [
                {
                    "peer": clock.peer,
                    "name": clock.name,
                    "role": clock.role,
                    "offset_ms": round(clock.offset_ns / 1e6, 3),
                    "error_ms": round(clock.error_ns / 1e6, 3),
                }
                for clock in self.clocks
            ],
            "disordered": output.disordered,
        }


def _contradicts(now: ClockReported | KnownClock, before: ClockReported | KnownClock) -> bool:
    """Whether a clock was set between the two."""
    return abs(now.offset_ns - before.offset_ns) > now.error_ns + before.error_ns


def _rounded(ms: float | None) -> float | None:
    return None if ms is None else round(ms, 3)


def _three(times: Percentiles) -> tuple[float, float, float]:
    return round(times.p50, 2), round(times.p95, 2), round(times.p99, 2)


def _figures(times: Percentiles) -> dict[str, float]:
    p50, p95, p99 = _three(times)
    return {"p50_ms": p50, "p95_ms": p95, "p99_ms": p99, "count": times.count}
