"""Relays that share their streams: who is there, and which of them is the home of each stream.

Once a second each relay says which streams it is the home of, and since when (the *epoch*), and of
which it is a mirror. A stream that is needed and has no home gets one where it is needed. When a
home falls silent the mirror with the smallest name takes its place, one epoch later; the others
follow it. Relays that were apart may both think that they are a stream's home: then that of the
lower epoch stays, so that the one that was cut off comes back to the others, and where they are
equal the smaller name decides. It needs no vote: both sides of a cut go on with what they have.
"""

import logging
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from dreamrelay.config import RelaySettings
from dreamrelay.errors import DreamRelayError, ProtocolError
from dreamrelay.hub import Hub, Stream
from dreamrelay.importer import Entry
from dreamrelay.protocol.relays import Letter, letter_parts, read
from dreamrelay.relay.backplane import Backplane, Receiver, largest_letter
from dreamrelay.relay.mirror import Mirror
from dreamrelay.relay.outpost import Outpost

logger = logging.getLogger(__name__)

_NATS = Entry("dreamrelay.relay.nats:NatsBackplane", "a backplane", "nats")

SILENT_NS = 3_500_000_000
"""A relay that was silent for so long is gone."""

SETTLE_NS = 500_000_000
"""A relay that has just come waits for so long for the others' word before it is any home."""

MAX_RELAYS = 256
MAX_CLAIMS = 4096

Claim = tuple[int, str]
"""Epoch and relay; the smaller one holds."""


@dataclass(slots=True)
class Other:
    """Another relay, as it said last."""

    name: str
    title: str
    heard_ns: int
    claims: dict[str, int] = field(default_factory=dict)
    mirrors: frozenset[str] = frozenset()


@dataclass(slots=True)
class _Place:
    """One stream of this relay in the cluster."""

    stream: Stream
    epoch: int = 0
    """Of our claim to be its home; 0: we claim nothing."""
    known: int = 0
    """The highest epoch that we have heard of."""
    mirror: Mirror | None = None
    orphan_ns: int | None = None
    """Since when it has no home."""
    outposts: dict[str, Outpost] = field(default_factory=dict)


class Federation(Receiver):
    """This relay among others, over one hub and one backplane.

    Args:
        title: what people call this relay.
    """

    def __init__(
        self,
        hub: Hub,
        backplane: Backplane,
        title: str,
        *,
        clock_ns: Callable[[], int] = time.monotonic_ns,
        unix_ns: Callable[[], int] = time.time_ns,
    ) -> None:
        self.backplane = backplane
        self.title = title
        self.others: dict[str, Other] = {}
        self.unreadable = 0
        """Letters that made no sense."""
        self._hub = hub
        self._me = backplane.name
        self._clock_ns = clock_ns
        self._unix_ns = unix_ns
        self._places: dict[str, _Place] = {}
        self._since_ns: int | None = None
        self._settled = False
        self._leaving = False
        hub.made = self._made
        for stream in hub.streams.values():
            self._made(stream)

    # -- what the relay calls ---------------------------------------------------------------------

    def tick(self) -> None:
        """Once a second, after the hub's."""
        if self._leaving:
            return
        now = self._clock_ns()
        for other in list(self.others.values()):
            if now - other.heard_ns > SILENT_NS:
                self._warn("relay %s is silent: it counts as gone", other.title)
                self._forget(other.name)
        waited = self._since_ns is not None and now - self._since_ns >= SETTLE_NS
        self._settled = self._settled or waited
        for place in list(self._places.values()):
            if self._hub.find(place.stream.name) is not place.stream:
                self._drop(place)
                continue
            self._decide(place)
            if place.mirror is not None:
                place.mirror.tick()
            for relay, outpost in list(place.outposts.items()):
                if outpost.ended or now - outpost.heard_ns > SILENT_NS:
                    outpost.end()
                    del place.outposts[relay]
        self._tell()

    async def run(self) -> None:
        """Carry letters until cancelled."""
        await self.backplane.run(self)

    async def close(self) -> None:
        """See that our goodbye has left."""
        self.say_goodbye()
        await self.backplane.flush()

    def say_goodbye(self) -> None:
        """The others need not wait for us: this relay ends, and from now on is on its own."""
        if not self._leaving:
            self._broadcast(Letter(self._me, "bye"))
            self._leaving = True

    def connected(self, there: bool) -> None:
        if self._leaving:
            return
        if not there:  # every relay goes on with what it has; the backplane says why it is away
            return
        if self._since_ns is None:
            self._since_ns = self._clock_ns()
        self._tell(asks=True)
        for place in self._places.values():
            if place.mirror is not None:
                place.mirror.begin()

    def received(self, data: bytes | memoryview) -> None:
        self.backplane.traffic.received += 1
        if self._leaving:
            return
        try:
            letter = read(data)
            if letter.sender != self._me:
                self._hear(letter)
        except DreamRelayError as error:
            self.unreadable += 1
            logger.warning("a relay's letter makes no sense: %s", error)
        except (KeyError, TypeError, ValueError, AttributeError):  # it lacks what its kind has
            self.unreadable += 1
            logger.exception("a relay's letter cannot be followed")

    # -- who is there -----------------------------------------------------------------------------

    def _tell(self, *, asks: bool = False) -> None:
        claims = {name: place.epoch for name, place in self._places.items() if place.epoch}
        mirrors = [name for name, place in self._places.items() if not place.epoch]
        body = {"title": self.title, "claims": claims, "mirrors": mirrors, "asks": asks}
        self._broadcast(Letter(self._me, "here", body=body))

    def _broadcast(self, letter: Letter) -> None:
        self.backplane.broadcast(*letter_parts(letter))

    def _post_to(self, relay: str) -> Callable[[Letter], bool]:
        return lambda letter: self.backplane.send(relay, *letter_parts(letter))

    def _hear(self, letter: Letter) -> None:
        if letter.kind == "here":
            self._hear_of(letter)
            return
        if letter.kind == "bye":
            self._forget(letter.sender)
            return
        other = self.others.get(letter.sender)
        if other is not None:
            other.heard_ns = self._clock_ns()
        place = self._places.get(letter.stream)
        if place is None:
            return  # forgotten a moment ago
        if place.mirror is not None and place.mirror.home == letter.sender:
            place.mirror.received(letter)
        elif letter.kind == "attach":
            self._attach(place, letter)
        elif (outpost := place.outposts.get(letter.sender)) is not None and not outpost.ended:
            outpost.heard_ns = self._clock_ns()
            outpost.received(letter)
        elif place.mirror is None and letter.kind != "lost":
            lost = Letter(self._me, "lost", letter.stream, letter.session)
            self._post_to(letter.sender)(lost)

    def _hear_of(self, letter: Letter) -> None:
        """Another relay says what it has."""
        body = letter.body
        other = self.others.get(letter.sender)
        if other is None:
            if len(self.others) >= MAX_RELAYS:
                raise ProtocolError(f"expected at most {MAX_RELAYS} relays in one cluster")
            other = self.others[letter.sender] = Other(letter.sender, letter.sender, 0)
            logger.info("relay %s is there", body.get("title", letter.sender))
        try:
            claims = {str(name): int(epoch) for name, epoch in body["claims"].items()}
            mirrors = frozenset(map(str, body["mirrors"]))
        except (KeyError, TypeError, ValueError, AttributeError):
            raise ProtocolError("here: expected claims and mirrors") from None
        if len(claims) + len(mirrors) > MAX_CLAIMS:
            raise ProtocolError(f"here: expected at most {MAX_CLAIMS} streams")
        other.title, other.heard_ns = str(body.get("title", ""))[:64], self._clock_ns()
        before, other.claims, other.mirrors = other.claims, claims, mirrors
        if body.get("asks"):
            self._tell()
        self._see(before, claims)

    def _see(self, before: Mapping[str, int], claims: Mapping[str, int]) -> None:
        """Claims of another relay have changed: each of its streams is here as well."""
        for name in {*before, *claims}:
            place = self._places.get(name)
            if place is None and name in claims:
                try:
                    self._hub.stream(name)  # which decides about it
                except ProtocolError as error:
                    logger.debug("stream %.64s is not shared: %s", name, error)
            elif place is not None and before.get(name) != claims.get(name):
                if name not in claims and place.mirror is not None and self._best(name) is None:
                    self._hub.forget(place.stream)  # as its home has, if nobody is here
                    if self._hub.find(name) is not place.stream:
                        self._drop(place)
                        continue
                self._decide(place)

    def _forget(self, relay: str) -> None:
        other = self.others.pop(relay, None)
        for place in list(self._places.values()):
            outpost = place.outposts.pop(relay, None)
            if outpost is not None:
                outpost.end()
            if other is not None and place.stream.name in other.claims:
                self._decide(place)

    def _warn(self, text: str, about: str) -> None:
        """Log what a loss has led to; where the backplane is away, it has said so itself."""
        logger.log(logging.WARNING if self.backplane.connected else logging.INFO, text, about)

    # -- which of them is a stream's home ---------------------------------------------------------

    def _made(self, stream: Stream) -> None:
        place = self._places[stream.name] = _Place(stream)
        self._decide(place)
        if place.epoch:
            self._tell()

    def _best(self, name: str) -> Claim | None:
        """The claim of another relay that holds among those that we know."""
        claims = [(o.claims[name], o.name) for o in self.others.values() if name in o.claims]
        return min(claims, default=None)

    def _decide(self, place: _Place) -> None:
        """See who is the stream's home, and be a home or a mirror."""
        best = self._best(place.stream.name)
        if best is not None:
            place.known = max(place.known, best[0])
            if not place.epoch or best < (place.epoch, self._me):
                self._follow(place, best)
            return
        if place.epoch:
            return
        if place.mirror is None:
            if self._settled:
                self._claim(place, place.known + 1)
            return
        now = self._clock_ns()
        if place.orphan_ns is None:
            place.orphan_ns = now
        name = place.stream.name
        heirs = [other.name for other in self.others.values() if name in other.mirrors]
        if self._me < min(heirs, default="~") or now - place.orphan_ns > SILENT_NS:
            self._claim(place, place.known + 1)

    def _claim(self, place: _Place, epoch: int) -> None:
        place.epoch = place.known = epoch
        place.orphan_ns = None
        place.stream.mirrored.lead(self.title)
        if place.mirror is not None:
            self._warn("stream %s has its home here now", place.stream.name)
            place.mirror = None
            self._tell()

    def _follow(self, place: _Place, claim: Claim) -> None:
        _, relay = claim
        place.orphan_ns = None
        if place.mirror is not None and place.mirror.home == relay:
            return
        yields, place.epoch = bool(place.epoch), 0
        for outpost in place.outposts.values():
            outpost.lost()
        place.outposts.clear()
        title = self.others[relay].title
        stream = place.stream
        before, place.mirror = place.mirror, None
        if before is not None:
            before.end()
        post = self._post_to(relay)
        mirror = Mirror(stream, post, self._me, relay, title, self._clock_ns, self._unix_ns)
        place.mirror = mirror
        stream.mirrored.follow(mirror, title)
        mirror.begin()
        if yields:
            logger.warning("stream %s has its home at %s now", stream.name, title)
            self._tell()

    def _attach(self, place: _Place, letter: Letter) -> None:
        if place.mirror is not None or not place.epoch:
            return  # we are not its home; it will hear who is
        before = place.outposts.pop(letter.sender, None)
        if before is not None:
            before.end()
        post = self._post_to(letter.sender)
        other = self.others.get(letter.sender)
        title = other.title if other is not None else letter.sender
        outpost = Outpost(place.stream, post, self._me, letter.sender, title, self._unix_ns)
        outpost.heard_ns = self._clock_ns()
        place.outposts[letter.sender] = outpost
        outpost.begin(letter)

    def _drop(self, place: _Place) -> None:
        """The hub has forgotten a stream."""
        del self._places[place.stream.name]
        if place.mirror is not None:
            place.mirror.end()
        for outpost in place.outposts.values():
            outpost.lost()

    # -- for people -------------------------------------------------------------------------------

    def described(self) -> dict[str, Any]:
        """Who is there, as the relay's status says it."""
        others = sorted(other.title for other in self.others.values())
        return {
            "relay": self.title,
            "connected": self.backplane.connected,
            "relays": others,
        }


def join_cluster(hub: Hub, settings: RelaySettings) -> Federation | None:
    """This relay's place among those that its settings name; None if they name none.

    Raises:
        MissingExtra: the client of the backplane is not installed.
        ConfigError: a file that the settings name cannot be used.
    """
    if settings.backplane is None:
        return None
    backplane = _NATS.load()(settings, largest_letter(hub.limits))
    return Federation(hub, backplane, backplane.title)
