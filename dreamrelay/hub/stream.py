"""A stream: its tracks, its peers, its parameters.

A stream has tracks and one set of parameters. Producers publish to ``input``; each packet goes to
one worker that has credit (:mod:`dispatch`) and to whoever watches that track. Workers publish to
``output``. Everybody who receives has a :class:`Subscription`: a mailbox and a credit, so that
nobody's slowness reaches anybody else.

All of it lives in one event loop's thread; nothing here awaits. The peers behind it are reached
through :class:`Peer`, whose methods return at once.
"""

import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from dreamrelay.errors import DreamRelayError, EngineError, ParameterError, ProtocolError
from dreamrelay.hub.air import Air
from dreamrelay.hub.dispatch import Dispatch, Request
from dreamrelay.hub.handover import Handover
from dreamrelay.hub.merge import CallLater
from dreamrelay.hub.mirrored import Mirrored
from dreamrelay.hub.painter import Painter
from dreamrelay.hub.parameters import Parameters
from dreamrelay.hub.peers import Peer, Subscription
from dreamrelay.hub.seats import Seat
from dreamrelay.hub.standin import Fallback, StandIn
from dreamrelay.hub.timing import ON_WIRE, Timing
from dreamrelay.hub.upstream import Upstream
from dreamrelay.packet import TRACKS, Packet, Track
from dreamrelay.protocol.messages import (
    Acknowledged,
    AudienceChanged,
    CreditGiven,
    FailureReceived,
    LatencyMeasured,
    Limits,
    Notice,
    PacketReceived,
    ParametersChanged,
    PatchReceived,
    ReferenceChanged,
    Refused,
    RequestReceived,
    Role,
    SchemaChanged,
    SourceReported,
    StatusChanged,
    StatusReceived,
    StreamState,
    Unanswered,
    WorkerHello,
)
from dreamrelay.telemetry import HopTimes, RateMeter

CROWD_NS = 100_000_000
"""How many look is told no more often than this, unless it is the first or the last of them."""
PRODUCER_CREDIT = ON_WIRE
"""Packets a producer may have on the wire: one under way while the ack of the other returns."""

_NOTICED = (
    "state text fraction producers workers viewers dreaming held stand_in when_lost model"
    " hold_seconds input_text reference"
).split()
"""Of a status: what a person would notice."""

_OF_WORKERS = (SchemaChanged, ParametersChanged)
"""What those are not told that another worker takes over from."""


@dataclass(slots=True)
class TrackState:
    """What the hub knows of one track."""

    meter: RateMeter
    hops: HopTimes = field(default_factory=HopTimes)
    last: Packet | None = None
    subscriptions: list[Subscription] = field(default_factory=list)


class Stream:
    """One running picture: its tracks, its peers, its parameters.

    Clocks are arguments: ``clock_ns`` is monotonic, ``unix_ns`` is UNIX time; both in ns.
    ``call_later`` wakes a stream with several workers; without it their results are not put in
    order: one that comes after a newer one is dropped.
    """

    def __init__(
        self,
        name: str,
        limits: Limits,
        *,
        clock_ns: Callable[[], int] = time.monotonic_ns,
        unix_ns: Callable[[], int] = time.time_ns,
        call_later: CallLater | None = None,
        fallback: Fallback | None = None,
    ) -> None:
        self.name = name
        self._limits = limits
        self._clock_ns = clock_ns
        self._unix_ns = unix_ns
        self.tracks: dict[Track, TrackState] = {
            track: TrackState(RateMeter(clock_ns)) for track in TRACKS
        }
        self.peers: dict[str, Peer] = {}
        self._subscribed: dict[str, tuple[Subscription, ...]] = {}
        self.timing = Timing({track: s.hops for track, s in self.tracks.items()}, unix_ns)
        self._workers = Dispatch(
            self._next_number, self._show_made, clock_ns, call_later, self.timing.hand
        )
        self._stand_in = StandIn(fallback or Fallback(), clock_ns)
        self._handover = Handover()
        self._painter = Painter(clock_ns)
        self._seq = 0
        self.air = Air(clock_ns)
        self._painted = False
        """Whether the last output was made from no input."""
        self.late = 0
        """Results that came after a newer one and were not shown."""
        self._parameters = Parameters(limits, unix_ns)
        self.reference: Packet | None = None
        """A picture that the workers are to imitate."""
        self.reference_ns = 0
        """When that was said, UNIX time."""
        self.owner = ""
        """The address that made it; empty for peers on this machine."""
        self.connections = 0
        """Who may still join: a stream that somebody is at is not forgotten."""
        self.upstream: Upstream | None = None
        """The way to the relay where this stream has its home; None: it has it here."""
        self.mirrored = Mirrored(self)
        self._had_worker = False
        self._last_words = ""
        self._told_status: dict[str, Any] = {}
        self._told_ns = 0

    # -- peers ------------------------------------------------------------------------------------

    def join(
        self,
        peer: Peer,
        tracks: tuple[Track, ...] = (),
        credit: int | None = None,
        worker: WorkerHello | None = None,
    ) -> None:
        """Seat a peer; tell it what is known. A peer that joins again only changes its place.

        Args:
            tracks: what it watches from now on, and nothing else; a viewer's subscription begins
                with the last packet of its track.
            credit: packets it may be sent at first (per track), None if it gives none back.
            worker: what it says it can do; it is then given inputs, one per credit.
        """
        newcomer = peer.id not in self.peers
        begun: list[tuple[Subscription, Packet]] = []
        self.peers[peer.id] = peer
        self._had_worker = self._had_worker or peer.role == "worker"
        for track, state in self.tracks.items():
            mine = [s for s in state.subscriptions if s.peer is peer]
            if track not in tracks:
                state.subscriptions = [s for s in state.subscriptions if s not in mine]
            elif not mine:
                subscription = Subscription(peer, track, credit)
                state.subscriptions.append(subscription)
                if state.last is not None and peer.role == "viewer":
                    begun.append((subscription, state.last))
        everything = (s for state in self.tracks.values() for s in state.subscriptions)
        self._subscribed[peer.id] = tuple(s for s in everything if s.peer is peer)
        if peer.waits:
            self.air.come_back(peer)
        if self.upstream is not None:
            told = self.mirrored.join(peer, credit or 0, worker)
        else:
            told = worker is not None and self._seat(peer, credit or 0, worker)
        if newcomer and not told:
            peer.notify(SchemaChanged(self.schema))
            peer.notify(ParametersChanged(dict(self.values), self.revision))
        self._workers.hand_out()
        self._tell_audience()
        self._tell_status()
        if newcomer:
            peer.notify(StatusChanged(self.status()))
        for subscription, last in begun:  # a peer may send at once, and words come before pictures
            subscription.offer(last)

    def leave(self, peer: Peer) -> None:
        """Forget a peer and all that was promised to it; idempotent."""
        self.peers.pop(peer.id, None)
        self._subscribed.pop(peer.id, None)
        self.air.leave(peer)
        self.timing.forget(peer)
        for state in self.tracks.values():
            state.subscriptions = [s for s in state.subscriptions if s.peer is not peer]
        self.mirrored.leave(peer)
        left = self._workers.leave(peer)
        if left is not None:
            self._last_words = left.status.text if left.status.state == "error" else ""
            self._take_back(peer)
            self._see_loss()
        self._tell_audience()
        self._tell_status()

    def _seat(self, peer: Peer, credit: int, hello: WorkerHello) -> bool:
        """Give a worker its place; True if everybody was told new parameters."""
        # It takes over once: not again where it is seated anew, after who came later.
        self._workers.seat(peer, credit, replace(hello, replace=False))
        self._last_words = ""
        if hello.schema is None:
            return False
        others = [seat.peer for seat in self._workers if seat.peer is not peer]
        succeeds, before = hello.replace and bool(others), self._parameters.published()
        try:
            kept = self._parameters.adopt(hello, succeeds=succeeds)
        except ProtocolError as error:
            peer.notify(Refused(ProtocolError(f"hello: {error}")))
            return False
        if succeeds:
            title = hello.model or hello.engine
            self._handover.begin(peer, title, others, before, self._clock_ns())
            self._workers.resting = self._handover.resting
            if unknown := sorted(before.values.keys() - set(kept)):
                lost = dict.fromkeys(unknown, "the worker that takes over has nothing like it")
                peer.notify(Refused(ParameterError(lost)))
        if hello.reference and self.reference is not None:
            peer.notify(ReferenceChanged(self.reference))
        self._tell(SchemaChanged(self.schema))
        self._tell(ParametersChanged(dict(self.values), self.revision, kept, "worker"))
        return True

    @property
    def alone(self) -> bool:
        """Whether nobody is at it; another relay that has nobody at it either does not count."""
        return not self.connections and not any(peer.heads for peer in self.peers.values())

    # -- packets ----------------------------------------------------------------------------------

    def publish(self, packet: Packet, track: Track, peer: Peer) -> None:
        """Take a packet from a producer (``input``) or a worker (``output``, ``control``)."""
        if self.upstream is not None:
            self.upstream.say(peer, PacketReceived(packet, track))
        elif track == "input":
            self._publish_input(packet, peer)
        elif peer.role != "worker":
            peer.notify(Refused(ProtocolError("only workers may send results")))
        elif track == "output":
            self._publish_output(packet, peer)
        else:
            self._publish_control(packet, peer)

    def _next_number(self) -> int:
        self._seq += 1
        return self._seq

    def _publish_input(self, packet: Packet, peer: Peer) -> None:
        on_air = self.air.takes(peer)
        # The ack goes out before anything is done with the picture, as the seed's clients expect.
        peer.notify(Acknowledged(packet.seq, None, on_air))
        if not on_air or self.timing.stale(packet, peer):
            return
        if self.air.came():
            self._tell_audience()
            self._tell_status()
        self._seq += 1
        packet = packet.relayed(self._seq, self._unix_ns())
        self._hand_out(packet, "input")
        self._workers.offer(packet)
        if (shown := self._stand_in.in_place(packet)) is not None:
            self._show_in_place(shown)

    def _publish_output(self, packet: Packet, peer: Peer) -> None:
        packet = self.timing.returned(packet)
        seat = self._workers.seat_of(peer)
        if seat is not None:
            seat.results += 1
        if self._workers.answer(packet, peer, str(self.values.get("prompt") or "")):
            return
        self._results_flow(peer, seat)
        painted = packet.seq == 0  # made from no input
        if painted:
            # A worker that was stopped sends one on request (a trigger), also over an input.
            if seat is not None and not self.air.idle and seat.status.state != "paused":
                self.late += 1  # an input has come since: its result is what people wait for
                return
            self._seq += 1
            packet = packet.but(seq=self._seq)
        if self._workers.several and not painted and self._workers.result(packet, peer):
            pass  # it is shown in its turn
        elif not self._show(packet, painted=painted):
            return
        if seat is not None and seat.status.state not in ("live", "paused"):
            seat.status = StatusReceived("live", counters=seat.status.counters)
            self._tell_status()

    def _results_flow(self, peer: Peer, seat: Seat | None) -> None:
        """A result came: nothing has to stand in for it, and who was to take over has."""
        noticed = self._stand_in.came()
        if seat is not None and seat.hung:
            seat.hung, seat.silent_ns, noticed = False, None, True
        self._handover.came(peer)
        if noticed:
            self._tell_status()

    def _show_in_place(self, packet: Packet) -> None:
        """Show what is not a result."""
        self._painted = False
        self._hand_out(packet, "output", measured=False)
        if self._told_status.get("stand_in") != self._stand_in.shows:
            self._tell_status()

    def _see_loss(self) -> None:
        """See whether results are to be expected, and what is shown if not."""
        self._stand_in.lost = self.state not in ("live", "paused")
        slate = self._stand_in.slate()
        if slate is not None:
            number, now = self._next_number(), self._unix_ns()
            made = Packet(slate.data, slate.codec, slate.width, slate.height, number, now)
            self._show_in_place(made.but(stand_in=True))

    def fall_back(
        self, when_lost: str | None = None, hold_seconds: float | None = None
    ) -> Fallback:
        """Choose what viewers are shown while no results come; None leaves a part as it is.

        Raises:
            ProtocolError: not a choice, or not a time; or another relay decides for this stream.
        """
        if when_lost is not None or hold_seconds is not None:
            if self.upstream is not None:
                home = self.mirrored.home
                raise ProtocolError(f"this stream has its home at the relay {home}: choose there")
            self._stand_in.choose(when_lost, hold_seconds)
            self._see_loss()
            self._tell_status()
        return self._stand_in.fallback

    def _take_back(self, peer: Peer) -> None:
        """Who left or broke takes over no more: those before it go on as they were."""
        before = self._handover.left(peer)
        self._workers.resting = self._handover.resting
        if before is not None:
            self._parameters.go_back(before)
            self._tell(SchemaChanged(self.schema))
            self._tell(ParametersChanged(dict(self.values), self.revision, (), "worker"))
            self._workers.hand_out()

    def _newer(self, packet: Packet, track: Track) -> bool:
        """Whether nothing newer was shown on that track."""
        last = self.tracks[track].last
        return last is None or _follows(packet, last)

    def _show(self, packet: Packet, *, painted: bool = False) -> bool:
        """Show a result, unless a newer one was shown already."""
        last = self.tracks["output"].last
        # A number that was never given out is that of an input from before a restart.
        if packet.seq > self._seq or (last is not None and not _follows(packet, last)):
            self.late += 1
            return False
        self._hand_out(packet, "output", measured=not painted and not packet.preview)
        if painted != self._painted:
            self._painted = painted
            self._tell_status()
        return True

    def _show_made(self, packet: Packet, control: Packet | None) -> None:
        """Show a result of several workers whose turn has come."""
        if self._show(packet) and control is not None:
            self._publish_control(control)

    def _publish_control(self, packet: Packet, peer: Peer | None = None) -> None:
        """What a worker saw in the input with this number; shown in order, as results are."""
        if peer is not None and self._workers.several and self._workers.control(packet, peer):
            return
        last = self.tracks["control"].last
        if packet.seq <= self._seq and (last is None or packet.seq > last.seq):
            self._hand_out(packet, "control")

    def _hand_out(self, packet: Packet, track: Track, *, measured: bool = True) -> None:
        state = self.tracks[track]
        state.last = packet
        state.meter.tick()
        if measured:  # what no camera took has no age to speak of
            state.hops.add(packet, self._unix_ns(), self.timing.error_ns)
        for subscription in state.subscriptions:
            subscription.offer(packet)

    def subscription(self, peer: Peer, track: Track) -> Subscription | None:
        return next((s for s in self.subscriptions(peer) if s.track == track), None)

    def subscriptions(self, peer: Peer) -> tuple[Subscription, ...]:
        """What this peer watches. Asked for each picture, so it is not looked for."""
        return self._subscribed.get(peer.id, ())

    def grant(self, peer: Peer, count: int, track: Track | None = None) -> None:
        """A peer took ``count`` packets; a worker wants as many more inputs."""
        if peer.role == "worker":
            seat = self._workers.seat_of(peer)
            if seat is not None:
                self._workers.grant(seat, count)
                return
            if self.upstream is not None:
                self.upstream.say(peer, CreditGiven(count))
        for subscription in self._subscribed.get(peer.id, ()):
            if track is None or subscription.track == track:
                subscription.grant(count)

    # -- requests ---------------------------------------------------------------------------------

    def request(self, packet: Packet, patch: Mapping[str, Any], ticket: int, peer: Peer) -> None:
        """Have a picture made alone under ``patch``; ``peer`` hears Answered or Unanswered."""
        if self.upstream is not None:
            self.upstream.say(peer, RequestReceived(packet, patch, ticket))
            return
        problem: DreamRelayError | None = self._workers.refusal()
        if problem is None and (problems := self._parameters.problems(patch)):
            problem = ParameterError(problems)
        if problem is not None:
            peer.notify(Unanswered(ticket, problem))
            return
        self._workers.ask(Request(peer, packet, patch, ticket, self._clock_ns()))

    def fail(self, seq: int, message: str, peer: Peer | None = None) -> None:
        """The worker ``peer`` (anyone, if None) could not answer the request with this number."""
        if self.upstream is not None:
            self.upstream.say(peer, FailureReceived(seq, message))
            return
        self._workers.fail(seq, message, peer)

    # -- parameters -------------------------------------------------------------------------------

    @property
    def schema(self) -> Mapping[str, Any] | None:
        """JSON Schema that a worker published, None before the first."""
        return self._parameters.schema

    @property
    def values(self) -> dict[str, Any]:
        """Of the parameters, in force."""
        return self._parameters.values

    @property
    def revision(self) -> int:
        """How many patches were applied."""
        return self._parameters.revision

    def update_parameters(
        self,
        patch: Mapping[str, Any],
        origin: str,
        *,
        id: Any = None,
        peer: Peer | None = None,
    ) -> ParametersChanged:
        """Check a patch whole against the worker's schema, apply it, tell everybody.

        Every door ends here: studio, REST, OSC, voice, each dialect. Before a worker has published
        its schema a patch is kept, and checked when one comes.

        Args:
            origin: which door, for people ("studio", "rest", "osc", ...).
            id: comes back in the notice to ``peer``, which waits for it; nobody else sees it.
            peer: who asked; it is told even if it has not joined.

        Raises:
            ParameterError: with every name that is unknown or out of bounds; nothing was changed.
        """
        if problems := self._parameters.problems(patch):
            raise ParameterError(problems)
        if self.upstream is not None:  # it tells everybody, and ``peer`` with its id
            self.upstream.say(peer, PatchReceived(patch, id, origin))
            values = {**self.values, **patch}
            return ParametersChanged(values, self.revision, tuple(patch), origin, id)
        changed = self._parameters.apply(patch)
        notice = ParametersChanged(dict(self.values), self.revision, changed, origin)
        self._tell(notice, besides=peer)
        if peer is not None:
            peer.notify(replace(notice, id=id))
        return notice

    def refer(self, packet: Packet | None) -> None:
        """Have the workers imitate a picture beside the prompt, or none any more.

        Raises:
            EngineError: the workers that are here cannot; what was in force stays.
        """
        loaded = [seat for seat in self._workers if seat.hello.schema is not None]
        if packet is not None and self.refers is False:
            raise EngineError(
                "the worker imitates no pictures: start one for this stream with --ip_adapter and "
                "a model for it"
            )
        if self.upstream is not None:
            self.upstream.say(None, ReferenceChanged(packet))
            return
        self.reference_ns = max(self._unix_ns(), self.reference_ns + 1)
        self.reference = packet
        for seat in loaded:
            if seat.hello.reference:
                seat.peer.notify(ReferenceChanged(packet))
        self._tell_status()

    @property
    def refers(self) -> bool | None:
        """Whether a worker imitates pictures; None: nobody has said."""
        if self.upstream is not None:
            return self.mirrored.standing.refers
        said = [seat.hello.reference for seat in self._workers if seat.hello.schema is not None]
        return any(said) if said else None

    # -- audience ---------------------------------------------------------------------------------

    def _tell_audience(self) -> None:
        """Tell each worker who looks, and one of them that it may paint without an input."""
        if not self._workers:
            return
        watching, control = (
            sum(s.heads for s in state.subscriptions if not s.stalled)
            for state in (self.tracks["output"], self.tracks["control"])
        )
        painter = self._painter.choose(self._workers.fit(), idle=self.air.idle)
        for seat in self._workers:
            told = AudienceChanged(watching, seat is painter, control)
            if told != seat.told:
                seat.told = told
                seat.peer.notify(told)

    # -- status -----------------------------------------------------------------------------------

    def counters(self) -> Iterator[tuple[str, str, float]]:
        """The totals of each worker's engine: the worker, the total's name, the total."""
        for seat in self._workers:
            for name, total in seat.status.counters.items():
                yield seat.peer.id, name, total

    def report(self, peer: Peer, status: StatusReceived) -> None:
        """A worker says how it is."""
        if self.upstream is not None:
            self.upstream.say(peer, status)
            return
        seat = self._workers.seat_of(peer)
        if seat is not None:
            was, seat.status = seat.status.state, status
            seat.hello = seat.hello.after(status)
            if status.stateful is not None:
                seat.stateful = status.stateful
            if was == "error" and status.state != "error":
                self._workers.hand_out()
            elif status.state == "error" and was != "error":
                self._workers.fails_all(seat)
                self._take_back(peer)
            self._tell_audience()
            self._tell_status()

    def report_source(self, peer: Peer, report: SourceReported) -> None:
        """A producer says how its source is."""
        if self.upstream is not None:
            self.upstream.say(peer, report)
            return
        self.air.report(peer, report, here=peer.id in self.peers)
        self._tell_status()

    @property
    def worker(self) -> WorkerHello | None:
        """What the best of its workers says of itself; None without one that takes requests."""
        if self.upstream is not None:
            return self.mirrored.standing.worker
        state = self.state
        return next((seat.hello for seat in self._workers if seat.status.state == state), None)

    @property
    def staffed(self) -> bool:
        """Whether a worker is here that is not lent."""
        if self.upstream is not None:
            return self.mirrored.standing.staffed
        return any(peer.role == "worker" and not peer.lent for peer in self.peers.values())

    @property
    def state(self) -> StreamState:
        """What the stream is doing: the best that any of its workers is doing."""
        order = ("live", "paused", "warming", "loading", "error")
        states = {seat.status.state for seat in self._workers if not seat.hung}
        for state in order:
            if state in states:
                return state
        if not self._workers and any(p.role == "worker" for p in self.peers.values()):
            return "live"  # a seed's consumer: it says nothing about itself
        return "lost" if self._had_worker else "no-worker"

    def status(self) -> dict[str, Any]:
        """The fields of a ``status`` message (``docs/protocol.md``)."""
        if self.upstream is not None and self.mirrored.standing.status:
            return {**self.mirrored.standing.status, "home": self.mirrored.home}
        state = self.state
        fit = [s for s in self._workers if s.status.state == state and not s.hung]
        hangs = next((s for s in self._workers if s.hung), None)
        best = next(iter(fit), hangs)
        hello = best.hello if best else WorkerHello()
        said = (seat.status.text for seat in fit if seat.status.text)
        text = next(said, "") if best else self._last_words
        if best is not None and best is hangs:
            # What it said of itself last is why, where it can still say something.
            silent = "the worker hangs: it is given pictures and gives none back"
            text = hangs.status.text or silent
        output = self.tracks["output"]
        heads: Counter[Role] = Counter()
        for peer in self.peers.values():
            heads[peer.role] += peer.heads
        age = None
        if output.last is not None and not self._painted:
            since = self._unix_ns() - output.last.captured_ns
            # A picture of the future has no age: nobody compared that clock with ours.
            age = round(max(0, since) / 1e6, 1) if since >= -self.timing.error_ns else None
        if output.meter.rate and not self._painted:
            ages = output.hops.age
            age = round(ages.p50, 1) if ages.count else None
        return {
            "stream": self.name,
            "state": state,
            "text": text,
            "fraction": best.status.fraction if best else None,
            "input_text": self.air.text(),
            "producers": heads["producer"],
            "workers": heads["worker"],
            "viewers": heads["viewer"],
            "fps_in": round(self.tracks["input"].meter.rate, 1),
            "fps_out": round(output.meter.rate, 1),
            "age_ms": age,
            "dreaming": self._painted and self.air.idle and output.meter.rate > 0,
            "reference": self.reference is not None,
            "held": output.last is not None and not output.meter.rate and state == "lost",
            "stand_in": self._stand_in.shows,
            "when_lost": self._stand_in.fallback.when_lost,
            "hold_seconds": self._stand_in.fallback.hold_seconds,
            **hello.about(),
            "home": self.mirrored.home,
            "seq_in": self._seq,
            "seq_out": output.last.seq if output.last else 0,
            "dropped": self._workers.dropped,
        }

    def tick(self) -> None:
        """Once a second: say how it goes, see who is there, end requests that waited too long."""
        for peer in list(self.peers.values()):
            peer.look()
        if self.upstream is not None:  # its home says how it goes
            for state in (self.tracks["output"], self.tracks["control"]):
                for subscription in state.subscriptions:
                    subscription.look()
            return
        self._workers.expire(self._clock_ns())
        self.air.look()
        self._workers.look(idle=self.air.idle)
        if self._handover.look(self._clock_ns(), idle=self.air.idle):
            self._workers.resting = self._handover.resting
            self._tell(ParametersChanged(dict(self.values), self.revision))  # what they missed
            self._workers.hand_out()
        self._see_loss()
        for state in (self.tracks["output"], self.tracks["control"]):
            for subscription in state.subscriptions:
                subscription.look()
        watched = any(not s.stalled for s in self.tracks["output"].subscriptions)
        self._painter.look(self._workers.fit(), watched=watched)
        self._tell_audience()
        if self._workers and (figures := self.timing.summary()) is not None:
            for seat in self._workers:
                seat.peer.notify(LatencyMeasured(figures))
        self._tell_status(always=bool(self.peers))

    def _tell_status(self, *, always: bool = False) -> None:
        """Tell the status when something of it that is noticed has changed."""
        status = self.status()
        told = {key: status[key] for key in _NOTICED}
        if not always:
            if told == self._told_status:
                return
            before = self._told_status.get("viewers", 0)
            crowd = {**told, "viewers": before} == self._told_status and before and told["viewers"]
            if crowd and self._clock_ns() - self._told_ns < CROWD_NS:
                return  # a page that comes and goes all the time is not told to everybody each time
        self._told_status, self._told_ns = told, self._clock_ns()
        self._tell(StatusChanged(status))

    def _tell(self, notice: Notice, besides: Peer | None = None) -> None:
        # Those who are about to leave know nothing of what the one after them can do.
        resting = self._workers.resting if isinstance(notice, _OF_WORKERS) else ()
        for peer in list(self.peers.values()):
            if peer is not besides and peer.id not in resting:
                peer.notify(notice)


def _follows(packet: Packet, last: Packet) -> bool:
    """Whether a result may be shown after ``last``: of a newer input, or better of the same."""
    again = last.preview or last.stand_in
    return packet.seq > last.seq or (packet.seq == last.seq and again)
