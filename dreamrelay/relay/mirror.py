"""A stream whose home is another relay: what its peers say goes there, what it shows comes back.

Each time a mirror begins at its home is a *session*; its letters are numbered in both directions.
One that is missing ends the session, and the next begins with all that counts: who is here, what
was asked and not answered. So a letter may be lost, and nothing is for long.
"""

import itertools
import logging
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

from dreamrelay.clock import RelayClock
from dreamrelay.errors import ProtocolError
from dreamrelay.hub import MAX_REQUESTS, Peer, Stream
from dreamrelay.hub.timing import KnownClock
from dreamrelay.hub.upstream import Asked, Memory, Seated, Standing, Upstream, Wishes
from dreamrelay.packet import TRACKS, Packet, Stamp, Track
from dreamrelay.protocol.messages import (
    Acknowledged,
    Answered,
    CreditGiven,
    Delivery,
    Event,
    FailureReceived,
    PacketReceived,
    PatchReceived,
    ReferenceChanged,
    Refused,
    RequestOffered,
    RequestReceived,
    SchemaChanged,
    SourceReported,
    StatusReceived,
    Unanswered,
)
from dreamrelay.protocol.relays import Letter, body_of, error_of, hello_of, said_in

logger = logging.getLogger(__name__)

WINDOW = 2
"""Pictures of one track, or of one producer, that are on their way between two relays at most."""

MAX_WAITING = 256
"""Patches and requests that may wait for an answer of the home."""

OFF_AIR_NS = 1_000_000_000
"""A producer that is not on air is heard so often at its home, which so knows that it is there."""

GIVEN = 64
"""Inputs of a worker whose results its home is told."""

Post = Callable[[Letter], bool]

_sessions = itertools.count(1)


@dataclass(slots=True)
class _Place:
    """A worker or producer at the mirror."""

    seated: Seated
    given: list[int] = field(default_factory=list)
    """Numbers of the inputs and requests that it was given in this session."""
    waiting: Packet | None = None
    """A producer's newest picture, which cannot leave yet."""
    under_way: int = 0
    on_air: bool = True
    sent_ns: int = 0


class Mirror(Upstream):
    """This relay's end of one stream whose home is ``home``.

    Args:
        post: has a letter sent; False if it cannot leave.
        me, home: names of this relay and of the other on the backplane.
        title: what people call the home.
        clock_ns, unix_ns: monotonic time, and UNIX time by this relay's clock.
    """

    def __init__(
        self,
        stream: Stream,
        post: Post,
        me: str,
        home: str,
        title: str,
        clock_ns: Callable[[], int],
        unix_ns: Callable[[], int],
    ) -> None:
        self.home = home
        self.title = title
        self._stream = stream
        self._post = post
        self._me = me
        self._clock_ns = clock_ns
        self._clock = RelayClock(unix_ns=unix_ns, monotonic_ns=clock_ns)
        self._session = 0
        self._attached = False
        self._sent = self._heard = 0
        self._places: dict[str, _Place] = {}
        self._waiting: dict[int, tuple[Peer | None, Event | ReferenceChanged]] = {}
        self._tokens = itertools.count(1)
        self._looks: dict[str, int] = {}
        self._floors: dict[Track, int] = {}

    @property
    def attached(self) -> bool:
        """Whether its home knows it."""
        return self._attached

    # -- the session ------------------------------------------------------------------------------

    def begin(self) -> None:
        """Begin a session at the home; again each time that one has ended."""
        self._session = next(_sessions)
        self._attached = False
        self._sent = self._heard = 0
        self._clock.begin_anew()
        memory = self._stream.mirrored.memory()
        head = {
            "wishes": memory.wishes,
            "seq": memory.seq,
            "reference_ns": memory.reference_ns,
            "ping": self._clock.ping(),  # no picture crosses before the answer
        }
        letter = Letter(self._me, "attach", self._stream.name, self._session, body=head)
        self._post(replace(letter, packet=memory.reference))

    def end(self) -> None:
        """Tell the home that nobody is here any more."""
        self._write("detach")
        self._attached = False

    def tick(self) -> None:
        """Once a second: say who is here, or try again to begin."""
        if self._attached:
            self.look()
            self._write_times()
        else:
            self.begin()

    def received(self, letter: Letter) -> None:
        """A letter of the home about this stream.

        Raises:
            ProtocolError: it makes no sense.
        """
        if letter.session != self._session:
            return
        if letter.kind == "lost" or letter.number != self._heard + 1:
            logger.info("stream %s: a letter of %s was lost", self._stream.name, self.title)
            self.begin()
            return
        self._heard = letter.number
        if letter.kind == "attached":
            self._hear_clock(letter)
            self._begun()
        elif self._attached:
            self._hear(letter)

    def _begun(self) -> None:
        self._attached = True
        self._looks = {}
        for place in self._places.values():
            place.given.clear()
            place.under_way = 0
            self._write_seat(place)
        self.look()
        self._write_times()  # the answer to this was carried by a large letter, perhaps
        for token, (peer, event) in self._waiting.items():
            self._write_said(peer, event, token)

    def _write(
        self,
        kind: str,
        body: Any = None,
        peer: str = "",
        packet: Packet | None = None,
        track: Track = "input",
    ) -> None:
        if not self._attached:
            return
        self._sent += 1
        sent = self._post(
            Letter(
                self._me,
                kind,
                self._stream.name,
                self._session,
                self._sent,
                peer,
                body or {},
                packet,
                track,
            )
        )
        if not sent:  # begun again with the next tick
            self._attached = False

    # -- what is said here ------------------------------------------------------------------------

    def seat(self, seat: Seated) -> None:
        known = self._places.get(seat.peer.id)
        if known is None:
            known = self._places[seat.peer.id] = _Place(seat, on_air=not seat.waits)
        else:
            status = seat.status or known.seated.status
            known.seated = replace(seat, status=status, hello=seat.hello or known.seated.hello)
        self._write_seat(known)

    def _write_seat(self, place: _Place) -> None:
        seated = place.seated
        peer = seated.peer
        body = {
            "role": peer.role,
            "name": peer.name,
            "lent": peer.lent,
            "waits": seated.waits or not place.on_air,
            "credit": seated.credit,
            "hello": seated.hello,
            "status": seated.status,
        }
        self._write("seat", body, peer.id)
        if self._attached and seated.hello is not None:
            # It takes over once: not again, after who came later, where it is seated anew.
            seated.hello = replace(seated.hello, replace=False)

    def leave(self, peer: Peer) -> None:
        asked = [token for token, (asker, _) in self._waiting.items() if asker is peer]
        for token in asked:
            if isinstance(self._waiting[token][1], RequestReceived):
                del self._waiting[token]
        if self._places.pop(peer.id, None) is not None or asked:
            self._write("part", peer=peer.id)

    def look(self) -> None:
        stream = self._stream
        looks: dict[str, int] = {
            track: sum(s.heads for s in stream.tracks[track].subscriptions if not s.stalled)
            for track in TRACKS
            if stream.tracks[track].subscriptions
        }
        looks["viewers"] = sum(p.heads for p in stream.peers.values() if p.role == "viewer")
        for track in TRACKS:
            last = stream.tracks[track].last
            if track not in looks and last is not None:
                # Nobody looks, so it will be an old one when somebody does.
                self._floors[track] = last.seq
                stream.tracks[track].last = None
        if looks != self._looks:
            self._looks = looks
            self._write("look", looks)

    def say(self, peer: Peer | None, event: Event | ReferenceChanged) -> None:
        match event:
            case PacketReceived(packet, "input") if peer is not None:
                self._feed(peer, packet)
            case PacketReceived(packet, track) if peer is not None:
                self._return(peer, packet, track)
            case CreditGiven(count) if peer is not None:
                place = self._places.get(peer.id)
                if place is not None and place.seated.hello is not None:
                    place.seated.credit += count
                    self._write_said(peer, event)
            case StatusReceived() if peer is not None:
                place = self._places.get(peer.id)
                if place is not None:
                    place.seated.status, hello = event, place.seated.hello
                    place.seated.hello = hello and hello.after(event)
                    self._write_said(peer, event)
            case SourceReported() | FailureReceived():
                self._write_said(peer, event)
            case PatchReceived() | RequestReceived() | ReferenceChanged():
                self._ask(peer, event)
            case _:
                pass

    def _write_said(
        self, peer: Peer | None, event: Event | ReferenceChanged, token: int = 0
    ) -> None:
        match event:
            case PatchReceived():
                event = replace(event, id=token)
            case RequestReceived():
                event = replace(event, ticket=token)
        kind, body, packet = body_of(event)
        body["reply_limit"] = peer.reply_limit if peer is not None else None
        if isinstance(event, ReferenceChanged):
            body["token"] = token
        if packet is not None:
            packet = self._there(packet)
        self._write(kind, body, peer.id if peer is not None else "", packet)

    def _ask(self, peer: Peer | None, event: Event | ReferenceChanged) -> None:
        """Say what waits for an answer; it is said again in the next session if none came."""
        most = MAX_REQUESTS if isinstance(event, RequestReceived) else MAX_WAITING
        if sum(type(asked) is type(event) for _, asked in self._waiting.values()) >= most:
            error = ProtocolError(f"{most} wait already for an answer of {self.title}: try later")
            if peer is not None and isinstance(event, RequestReceived):
                peer.notify(Unanswered(event.ticket, error))
            elif peer is not None and isinstance(event, PatchReceived):
                peer.notify(Refused(error, event.id))
            return
        token = next(self._tokens)
        self._waiting[token] = (peer, event)
        self._write_said(peer, event, token)

    def _return(self, peer: Peer, packet: Packet, track: Track) -> None:
        """A worker's result; what it was given by nobody that we know is of a time before."""
        place = self._places.get(peer.id)
        if place is None:
            return
        known = place.seated.hello is None or packet.seq == 0 or packet.seq in place.given
        if known:
            body: dict[str, Any] = {"track": track}
            self._write("PacketReceived", body, peer.id, self._there(packet), track)

    def _feed(self, peer: Peer, packet: Packet) -> None:
        """A producer's picture: the newest leaves when one that is under way was taken."""
        place = self._places.get(peer.id)
        if place is None:
            return
        peer.notify(Acknowledged(packet.seq, on_air=place.on_air))
        now = self._clock_ns()
        if not place.on_air and now - place.sent_ns < OFF_AIR_NS:
            return
        place.waiting = packet
        place.sent_ns = now
        self._send_waiting(place)

    def _send_waiting(self, place: _Place) -> None:
        packet = place.waiting
        if packet is not None and self._attached and place.under_way < WINDOW:
            place.waiting = None
            place.under_way += 1
            body: dict[str, Any] = {"track": "input"}
            self._write("PacketReceived", body, place.seated.peer.id, self._there(packet))

    def seats(self) -> list[Seated]:
        return [
            replace(place.seated, waits=place.seated.peer.role == "producer" and not place.on_air)
            for place in self._places.values()
        ]

    def waiting(self) -> list[tuple[Peer | None, Event | ReferenceChanged]]:
        return list(self._waiting.values())

    # -- what comes from there --------------------------------------------------------------------

    def _hear(self, letter: Letter) -> None:
        mirrored = self._stream.mirrored
        body = letter.body
        match letter.kind:
            case "shown" if letter.packet is not None:
                self._write("CreditGiven", {"count": 1, "track": letter.track})
                if letter.packet.seq > self._floors.get(letter.track, -1):
                    mirrored.show(self._here(letter.packet), letter.track)
            case "wishes":
                waits = self._waiting.pop(body.get("token") or 0, None)
                peer, event = waits or (None, None)
                id_ = event.id if isinstance(event, PatchReceived) else None
                mirrored.take_wishes(wishes_of(body), peer, id_)
            case "standing":
                mirrored.take_standing(self._elsewhere(standing_of(body)))
            case "schema":
                mirrored.take_schema(SchemaChanged(body.get("schema")))
            case "reference":
                mirrored.take_reference(letter.packet, int(body["ns"]))
            case "pong":
                self._hear_clock(letter)
            case "done":
                self._waiting.pop(int(body["token"]), None)
            case "refused":
                peer, event = self._waiting.pop(body.get("token") or 0, (None, None))
                if peer is not None and isinstance(event, PatchReceived):
                    peer.notify(Refused(error_of(body.get("error")), event.id))
            case _:
                self._hear_said(letter)

    def _hear_said(self, letter: Letter) -> None:
        """Something for one peer here."""
        said = said_in(letter)
        if isinstance(said, Answered | Unanswered):
            peer, event = self._waiting.pop(said.ticket, (None, None))
            if peer is not None and isinstance(event, RequestReceived):
                peer.notify(replace(said, ticket=event.ticket))
            return
        place = self._places.get(letter.peer)
        if place is None:
            if isinstance(said, RequestOffered):  # who was to make it has gone a moment ago
                logger.debug("stream %s: %s is not here", self._stream.name, letter.peer)
            return
        match said:
            case Delivery(packet) | RequestOffered(packet):
                place.given = [*place.given[-GIVEN:], packet.seq]
                place.seated.credit -= 1
                said = replace(said, packet=self._here(packet))
            case Acknowledged():
                place.under_way = max(0, place.under_way - 1)
                place.on_air = said.on_air
                self._send_waiting(place)
                return
        place.seated.peer.notify(said)

    # -- clocks -----------------------------------------------------------------------------------

    def _hear_clock(self, letter: Letter) -> None:
        """The home looked at its clock."""
        if not self._clock.pong(letter.body.get("id"), letter.body.get("ns")):
            return
        offset = self._clock.offset
        if offset is not None:
            known = KnownClock(self.home, self.title, "home", offset.ns, offset.error_ns)
            self._stream.timing.follow(known)

    def _write_times(self) -> None:
        """How the clocks here go, by that of the home, and what people saw; with a question."""
        timing = self._stream.timing
        known = {c.peer: (c.offset_ns, c.error_ns) for c in timing.clocks}
        body = {
            "ping": self._clock.ping(),
            "clock": known.get(self.home),
            "clocks": {id_: known[id_] for id_ in self._places if id_ in known},
            "shown": timing.shown_to_tell(),
        }
        self._write("times", body)

    def _elsewhere(self, standing: Standing) -> Standing:
        """Without the clocks that are here: these we know better."""
        ours = f"{self._me}/"
        clocks = [clock for clock in standing.clocks if not clock.peer.startswith(ours)]
        return replace(standing, clocks=clocks)

    def _here(self, packet: Packet) -> Packet:
        """A packet of the home's with its times by our clock."""
        return _shifted(packet, -self._clock.ahead_ns)

    def _there(self, packet: Packet) -> Packet:
        """A packet of somebody's here with its times by the home's clock."""
        return _shifted(packet, self._clock.ahead_ns)


def _shifted(packet: Packet, ns: int) -> Packet:
    """The same picture by a clock that is ``ns`` ahead: all of its times were by one clock."""
    if not ns:
        return packet
    stamps = [Stamp(stamp.hop, max(0, stamp.ns + ns)) for stamp in packet.stamps]
    return packet.but(stamps=stamps, captured_ns=max(0, packet.captured_ns + ns))


def wishes_of(body: Any) -> Wishes:
    """The parameters in a letter.

    Raises:
        ProtocolError: there are none.
    """
    try:
        asked = {
            str(name): Asked(said["value"], int(said["ns"])) for name, said in body["asked"].items()
        }
        changed = tuple(map(str, body["changed"]))
        return Wishes(
            dict(body["values"]), int(body["revision"]), asked, changed, str(body["origin"])
        )
    except (KeyError, TypeError, ValueError, AttributeError):
        raise ProtocolError("expected a stream's parameters") from None


def standing_of(body: Any) -> Standing:
    """How a stream is, in a letter.

    Raises:
        ProtocolError: it does not say.
    """
    try:
        return Standing(
            dict(body["status"]),
            int(body["seq"]),
            hello_of(body["worker"]),
            bool(body["staffed"]),
            body["refers"],
            [KnownClock(**clock) for clock in body["clocks"]],
        )
    except (KeyError, TypeError, ValueError):
        raise ProtocolError("expected how a stream is") from None


def memory_of(letter: Letter) -> Memory:
    """What a mirror brings along, in a letter.

    Raises:
        ProtocolError: nothing.
    """
    try:
        seq, ns = int(letter.body["seq"]), int(letter.body["reference_ns"])
        return Memory(wishes_of(letter.body["wishes"]), seq, letter.packet, ns)
    except (KeyError, TypeError, ValueError):
        raise ProtocolError("expected what a mirror knows") from None
