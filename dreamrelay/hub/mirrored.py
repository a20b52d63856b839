"""The part of a stream that other relays share: what it takes from its home, and brings to it.

A stream changes sides without those at it noticing: its worker's credit, the requests that wait and
what people asked for go with it. A friend of :class:`Stream`, in a room of its own.
"""

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from dreamrelay.hub.peers import Peer
from dreamrelay.hub.upstream import Memory, Seated, Standing, Upstream, Wishes
from dreamrelay.packet import Hop, Packet, Track
from dreamrelay.protocol.messages import (
    Event,
    FailureReceived,
    ParametersChanged,
    PatchReceived,
    ReferenceChanged,
    RequestReceived,
    SchemaChanged,
    StatusChanged,
    WorkerHello,
)

if TYPE_CHECKING:
    from dreamrelay.hub.stream import Stream


class Mirrored:
    """What one stream shares with those of its name at other relays.

    Attributes:
        home: the relay that decides; None while no relay shares anything.
        standing: how the stream is, as its home said last.
    """

    def __init__(self, stream: "Stream") -> None:
        self._stream = stream
        self.home: str | None = None
        self.standing = Standing()

    # -- changing sides ---------------------------------------------------------------------------

    def follow(self, upstream: Upstream, home: str) -> None:
        """From now on another relay decides; workers and what waits are handed to it."""
        stream = self._stream
        seats, waiting = self._give_up()
        stream.upstream, self.home = upstream, home
        stream.timing.follow(None)
        for seated in seats:
            upstream.seat(seated)
        for peer, event in waiting:
            upstream.say(peer, event)
        upstream.look()

    def lead(self, home: str | None) -> None:
        """From now on this relay decides, with the workers that are here."""
        stream = self._stream
        if stream.upstream is None:
            self.home = home
            return
        seats, waiting = self._give_up()
        stream.upstream, self.home, self.standing = None, home, Standing()
        stream.timing.follow(None)
        for seated in seats:
            if seated.waits:
                stream.air.come_back(seated.peer)
            if seated.hello is not None:
                stream._seat(seated.peer, seated.credit, replace(seated.hello, replace=False))
                if seated.status is not None:
                    stream.report(seated.peer, seated.status)
        for peer, event in waiting:
            self._say_here(peer, event)
        stream._workers.hand_out()
        stream._tell_audience()
        stream._tell_status(always=True)

    def _give_up(self) -> tuple[list[Seated], list[tuple[Peer | None, Event | ReferenceChanged]]]:
        """Who worked for the stream so far, and what was asked and not answered."""
        stream = self._stream
        upstream = stream.upstream
        if upstream is not None:
            return upstream.seats(), upstream.waiting()
        seated = {
            seat.peer.id: Seated(seat.peer, seat.credit, seat.hello, seat.status)
            for seat in stream._workers
        }
        for peer in stream.peers.values():
            if peer.role != "viewer" and peer.id not in seated:
                waits = peer.role == "producer" and stream.air.waits(peer)
                seated[peer.id] = Seated(peer, waits=waits)
        requests = stream._workers.surrender()
        return list(seated.values()), [
            (asked.peer, RequestReceived(asked.packet, asked.patch, asked.ticket))
            for asked in requests
        ]

    def _say_here(self, peer: Peer | None, event: Event | ReferenceChanged) -> None:
        """Do here what was said to a home that is gone."""
        stream = self._stream
        match event:
            case PatchReceived(patch, id_, origin):
                if not stream._parameters.problems(patch):
                    stream.update_parameters(patch, origin, id=id_, peer=peer)
            case RequestReceived(packet, patch, ticket) if peer is not None:
                stream.request(packet, patch, ticket, peer)
            case ReferenceChanged(packet) if packet is None or stream.refers is not False:
                stream.refer(packet)
            case FailureReceived(seq, message):
                stream.fail(seq, message, peer)
            case _:
                pass

    # -- at a mirror ------------------------------------------------------------------------------

    def join(self, peer: Peer, credit: int, hello: WorkerHello | None) -> bool:
        """Somebody has joined; True if its home will tell everybody new parameters."""
        upstream = self._stream.upstream
        if upstream is not None:
            if peer.role != "viewer":
                upstream.seat(Seated(peer, credit, hello))
            upstream.look()
        return hello is not None and hello.schema is not None

    def leave(self, peer: Peer) -> None:
        """Somebody has gone."""
        upstream = self._stream.upstream
        if upstream is not None:
            upstream.leave(peer)
            upstream.look()

    def show(self, packet: Packet, track: Track) -> None:
        """Show what the home shows, unless a newer one was shown already."""
        stream = self._stream
        if not stream._newer(packet, track):
            stream.late += 1
            return
        stream._seq = max(stream._seq, packet.seq)
        # Of an input: to a picture made from none nobody was given one.
        made = track != "output" or any(stamp.hop is Hop.HANDED for stamp in packet.stamps)
        measured = made and not (packet.preview or packet.stand_in)
        stream._hand_out(packet, track, measured=measured)

    def take_standing(self, standing: Standing) -> None:
        """How the stream is, as its home says."""
        self.standing = standing
        self._stream.timing.hear_clocks(standing.clocks)
        self._stream._seq = max(self._stream._seq, standing.seq)
        self._stream._tell(StatusChanged(self._stream.status()))

    def take_wishes(self, wishes: Wishes, peer: Peer | None = None, id: object = None) -> None:
        """The parameters as its home says; ``peer`` waits for the answer with this ``id``."""
        stream = self._stream
        stream._parameters.follow(wishes)
        values, revision = dict(wishes.values), wishes.revision
        notice = ParametersChanged(values, revision, wishes.changed, wishes.origin)
        stream._tell(notice, besides=peer)
        if peer is not None:
            peer.notify(ParametersChanged(values, revision, wishes.changed, wishes.origin, id))

    def take_schema(self, notice: SchemaChanged) -> None:
        """The schema as its home says.

        Raises:
            ProtocolError: that is none.
        """
        self._stream._parameters.follow_schema(notice.schema)
        self._stream._tell(notice)

    def take_reference(self, packet: Packet | None, ns: int) -> None:
        """The picture to imitate, as its home says."""
        self._stream.reference, self._stream.reference_ns = packet, ns

    # -- at home ----------------------------------------------------------------------------------

    def memory(self) -> Memory:
        """What a new home has to know."""
        stream = self._stream
        return Memory(self.wishes(), stream._seq, stream.reference, stream.reference_ns)

    def wishes(self, changed: tuple[str, ...] = (), origin: str = "") -> Wishes:
        """The parameters, for another relay."""
        return self._stream._parameters.wishes(changed, origin)

    def recall(self, memory: Memory) -> None:
        """A mirror brings what it knows: no number goes back, and the later word holds."""
        stream = self._stream
        stream._seq = max(stream._seq, memory.seq)
        before = stream.revision
        changed = stream._parameters.merge(memory.wishes)
        if changed or stream.revision != before:
            values = dict(stream.values)
            stream._tell(ParametersChanged(values, stream.revision, changed, "relay"))
        if memory.reference_ns > stream.reference_ns and (
            memory.reference is None or stream.refers is not False
        ):
            stream.refer(memory.reference)
            stream.reference_ns = memory.reference_ns

    def report(self, status: Mapping[str, Any]) -> Standing:
        """How the stream is, for its mirrors."""
        stream = self._stream
        worker = stream.worker
        said = None
        if worker is not None:
            said = WorkerHello(**worker.about())
        clocks = stream.timing.clocks_to_tell()
        return Standing(status, stream._seq, said, stream.staffed, stream.refers, clocks)
