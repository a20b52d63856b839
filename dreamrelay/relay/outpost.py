"""A mirror, as the home of its stream sees it.

To the stream it is a viewer of the tracks that somebody watches there, with a credit like any other
viewer's: each picture leaves at most once for each relay, and the newest one where they are slow.
Each worker and producer there has a peer of its own here, so workers of several machines share a
stream in order, each by its own credit.
"""

from collections.abc import Callable
from typing import Any

from dreamrelay.errors import DreamRelayError, ParameterError, ProtocolError
from dreamrelay.hub import Peer, Stream
from dreamrelay.packet import TRACKS, Packet, Track
from dreamrelay.protocol.messages import (
    ROLES,
    ClockReported,
    CreditGiven,
    FailureReceived,
    Notice,
    PacketReceived,
    ParametersChanged,
    PatchReceived,
    PicturesShown,
    ReferenceChanged,
    Refused,
    RequestReceived,
    Role,
    SchemaChanged,
    Seen,
    SourceReported,
    StatusChanged,
    StatusReceived,
)
from dreamrelay.protocol.relays import Letter, body_of, hello_of, said_in, status_of
from dreamrelay.relay.mirror import WINDOW, Post, memory_of

MAX_PEERS = 1024
"""Workers, producers and askers at one mirror."""


class Outpost(Peer):
    """This relay's end of a stream that has its home here and a mirror at ``relay``.

    Args:
        title: what people call that relay.
    """

    role: Role = "viewer"

    def __init__(
        self,
        stream: Stream,
        post: Post,
        me: str,
        relay: str,
        title: str,
        unix_ns: Callable[[], int],
    ) -> None:
        self.id = f"relay-{relay}"
        self.name = title
        self.heads = 0
        self.relay = relay
        self.heard_ns = 0
        self.ended = False
        """A letter was lost, or could not leave: the mirror has to begin anew."""
        self._stream = stream
        self._post = post
        self._me = me
        self._unix_ns = unix_ns
        self._session = 0
        self._sent = self._heard = 0
        self._peers: dict[str, OutpostPeer] = {}
        self._reference_ns = 0
        """Of the picture to imitate that the mirror knows, or of the word that there is none."""

    # -- the session ------------------------------------------------------------------------------

    def begin(self, letter: Letter) -> None:
        """A mirror begins: take what it knows, tell it what holds.

        Raises:
            ProtocolError: it does not say what it knows.
        """
        memory = memory_of(letter)
        self._session = letter.session
        self._reference_ns = memory.reference_ns
        self._stream.mirrored.recall(memory)
        self.write("attached", {"id": letter.body.get("ping"), "ns": self._unix_ns()})
        self._stream.join(self)  # where it hears all that holds

    def end(self) -> None:
        """Leave the stream, with all who were here through it; idempotent."""
        self.ended = True
        for peer in self._peers.values():
            self._stream.leave(peer)
        self._peers.clear()
        self._stream.leave(self)

    def lost(self) -> None:
        """Have the mirror begin anew."""
        kind, stream = "lost", self._stream.name
        self._post(Letter(self._me, kind, stream, self._session))
        self.end()

    def received(self, letter: Letter) -> None:
        """A letter of the mirror.

        Raises:
            ProtocolError: it makes no sense.
        """
        if letter.session != self._session:
            return
        if letter.number != self._heard + 1:
            self.lost()
            return
        self._heard = letter.number
        self._hear(letter)

    def write(
        self,
        kind: str,
        body: Any = None,
        peer: str = "",
        packet: Packet | None = None,
        track: Track = "input",
    ) -> None:
        """Send a letter of this session."""
        if self.ended:
            return
        self._sent += 1
        name, session, number = self._stream.name, self._session, self._sent
        letter = Letter(self._me, kind, name, session, number, peer, body or {}, packet, track)
        if not self._post(letter):
            self.ended = True  # the stream is left with the next tick

    # -- what the stream says ---------------------------------------------------------------------

    def notify(self, notice: Notice) -> None:
        match notice:
            case ParametersChanged():
                self._write_wishes(notice)
            case SchemaChanged(schema):
                self.write("schema", {"schema": schema})
            case StatusChanged(status):
                ns = self._stream.reference_ns
                if ns != self._reference_ns:
                    self._reference_ns = ns
                    self.write("reference", {"ns": ns}, packet=self._stream.reference)
                self.write("standing", _plain(self._stream.mirrored.report(status)))
            case Refused(error, token):
                _, body, _ = body_of(Refused(error))
                self.write("refused", {**body, "token": token})
            case _:
                pass  # Welcome and the like: for people

    def _write_wishes(self, notice: ParametersChanged | None = None) -> None:
        changed, origin = (notice.changed, notice.origin) if notice else ((), "")
        wishes = _plain(self._stream.mirrored.wishes(changed, origin))
        self.write("wishes", {**wishes, "token": notice.id if notice else None})

    def wake(self) -> None:
        for subscription in self._stream.subscriptions(self):
            while (packet := subscription.take()) is not None:
                self.write("shown", packet=packet, track=subscription.track)

    # -- what the mirror says ---------------------------------------------------------------------

    def _hear(self, letter: Letter) -> None:
        body = letter.body
        match letter.kind:
            case "look":
                self._look(body)
            case "times":
                self._hear_times(body)
            case "seat":
                self._seat(letter)
            case "part":
                peer = self._peers.pop(letter.peer, None)
                if peer is not None:
                    self._stream.leave(peer)
            case "detach":
                self.end()
            case _:
                self._hear_said(letter)

    def _look(self, body: Any) -> None:
        stream = self._stream
        self.heads = _count(body, "viewers")
        tracks = tuple(track for track in TRACKS if track in body)
        watched = {subscription.track for subscription in stream.subscriptions(self)}
        if set(tracks) != watched:
            stream.join(self, tracks, WINDOW)
        for subscription in stream.subscriptions(self):
            subscription.heads = _count(body, subscription.track)
        self.wake()

    def _hear_times(self, body: Any) -> None:
        """How the clocks there go by ours, and what people saw there."""
        self.write("pong", {"id": body["ping"], "ns": self._unix_ns()})
        timing = self._stream.timing
        if body["clock"] is not None:
            timing.set_clock(self, ClockReported(*body["clock"]), mirror=True)
        for id_, told in body["clocks"].items():
            if (peer := self._peers.get(id_)) is not None:
                timing.set_clock(peer, ClockReported(*told), shifted=True)
        for where, pictures in body["shown"].items():
            seen = tuple(Seen(**picture) for picture in pictures)
            timing.show(PicturesShown(where, seen), self.name)

    def _seat(self, letter: Letter) -> None:
        body = letter.body
        role = next((role for role in ROLES if role == body.get("role")), None)
        if role is None:
            raise ProtocolError(f"expected a role, got {body.get('role')!r:.40}")
        peer = self._peer(letter, role)
        peer.role, peer.name = role, str(body.get("name", ""))
        peer.lent, peer.waits = body.get("lent") is True, body.get("waits") is True
        hello, status = hello_of(body.get("hello")), status_of(body.get("status"))
        self._stream.join(peer, (), _count(body, "credit"), hello)
        if status is not None:
            self._stream.report(peer, status)

    def _peer(self, letter: Letter, role: Role = "viewer") -> "OutpostPeer":
        peer = self._peers.get(letter.peer)
        if peer is None:
            if len(self._peers) >= MAX_PEERS:
                raise ProtocolError(f"expected at most {MAX_PEERS} peers at one relay")
            peer = self._peers[letter.peer] = OutpostPeer(self, letter.peer, role)
        return peer

    def _hear_said(self, letter: Letter) -> None:
        stream, said = self._stream, said_in(letter)
        peer = self._peers.get(letter.peer)
        match said:
            case CreditGiven(count, None) if peer is not None:
                stream.grant(peer, count)
            case CreditGiven(count, track):
                stream.grant(self, count, track)
            case PacketReceived(packet, track) if peer is not None:
                stream.publish(packet, track, peer)
            case StatusReceived() if peer is not None:
                stream.report(peer, said)
            case SourceReported() if peer is not None:
                stream.report_source(peer, said)
            case FailureReceived(seq, message) if peer is not None:
                stream.fail(seq, message, peer)
            case PatchReceived(patch, token, origin):
                try:
                    stream.update_parameters(patch, origin, id=token, peer=self)
                except ParameterError as error:
                    self.notify(Refused(error, token))
            case RequestReceived(packet, patch, ticket):
                asker = self._peer(letter)
                limit = letter.body.get("reply_limit")
                asker.reply_limit = limit if isinstance(limit, int) else None
                stream.request(packet, patch, ticket, asker)
            case ReferenceChanged(packet):
                self._refer(packet)
                self.write("done", {"token": letter.body.get("token")})
            case _:
                pass  # of somebody who has gone

    def _refer(self, packet: Packet | None) -> None:
        try:
            self._stream.refer(packet)
        except DreamRelayError as error:  # the mirror knew a moment ago that it could
            self.notify(Refused(error))


class OutpostPeer(Peer):
    """A worker, producer or asker at a mirror. It hears what is for it alone."""

    def __init__(self, outpost: Outpost, there: str, role: Role) -> None:
        self.id = f"{outpost.relay}/{there}"
        self.role = role
        self._outpost = outpost
        self._there = there

    def notify(self, notice: Notice) -> None:
        match notice:
            case SchemaChanged() | ParametersChanged() | StatusChanged():
                return  # all of the mirror hears it once
        kind, body, packet = body_of(notice)
        self._outpost.write(kind, body, self._there, packet)

    def wake(self) -> None:
        """It watches no track: its relay does."""


def _plain(said: Any) -> dict[str, Any]:
    """Fields of a dataclass; what is in them is written as it is."""
    return {name: getattr(said, name) for name in said.__slots__}


def _count(body: Any, name: str) -> int:
    value = body.get(name, 0)
    if not isinstance(value, int) or value < 0:
        raise ProtocolError(f"expected a number as {name}, got {value!r:.40}")
    return value
