"""The workers of a stream: who is given what, and what was promised to whom.

The newest input waits in one place for a worker with credit; pictures that somebody asked for
alone wait in a queue beside it, none of them lost.

One worker is limited by its credit alone. Several share the inputs, the fastest that is free first,
and each is given its next one shortly before it is done with the one before: a worker that takes up
pictures faster than it computes them would else throw away what another one could have made. Their
results come back in order (:mod:`merge`). Where a worker has a memory (``stateful``) all inputs go
to one, the keeper, for as long as it lives.
"""

from collections import deque
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from dreamrelay.errors import EngineError, ProtocolError
from dreamrelay.hub.merge import CallLater, Merge
from dreamrelay.hub.peers import MAX_CREDIT, Peer
from dreamrelay.hub.seats import Given, Seat, far_longer
from dreamrelay.mailbox import Mailbox
from dreamrelay.packet import Packet
from dreamrelay.protocol.messages import (
    Answered,
    Delivery,
    Notice,
    RequestOffered,
    StatusReceived,
    Unanswered,
    WorkerHello,
)

MAX_REQUESTS = 16
REQUEST_TIMEOUT_NS = 60_000_000_000
MAX_TRIES = 2
"""Workers that may be lost over one request before it is the request's fault."""
MAX_HOLD_NS = 1_000_000_000
"""No result is held longer; a worker that is slower by more than this gets no shared inputs."""
PATIENCE = 1.3
"""Results wait for an earlier one for so many times of the slowest worker."""
LEAD = 0.15
"""A worker is given its next input when this part of its time is left; ..."""
SPREAD = 0.08
"""... earlier where the wire takes most of that: this part, beside the way there and back; ..."""
MOST_LEAD = 0.75
"""... but no earlier than this: a picture that waits at a worker grows old there."""
PAUSE_NS = 1_000_000_000
"""After so long without an input nobody owes a result: it came from an empty street."""


@dataclass(slots=True)
class Request:
    """A picture to be made alone, and who asked for it."""

    peer: Peer
    packet: Packet
    patch: Mapping[str, Any]
    ticket: int
    asked_ns: int
    worker: Peer | None = None
    tries: int = 0


class Dispatch:
    """Hands inputs and requests to workers, each to one, as their credit allows.

    Args:
        number: gives the next number of the stream's inputs.
        show: shows a result of several workers in its turn, and what steered it if that came.
        call_later: None: results of several workers are not held for their order.
        hand: hears of each input that is given to a worker.
    """

    def __init__(
        self,
        number: Callable[[], int],
        show: Callable[[Packet, Packet | None], None],
        clock_ns: Callable[[], int],
        call_later: CallLater | None = None,
        hand: Callable[[Packet], None] = lambda _: None,
    ) -> None:
        self.seats: list[Seat] = []
        self.several = False
        """Whether inputs are shared; if not, nothing is measured, held or waited for."""
        self._clock_ns = clock_ns
        self._call_later = call_later
        self._hand = hand
        self._show = show
        self._merge = Merge(show, clock_ns, call_later)
        self._keeper: Seat | None = None
        self._newest: Given | None = None
        self._given_again = 0
        self._offered_ns = 0
        self._wake_ns: int | None = None
        self._number = number
        self._input: Mailbox[Packet] = Mailbox()
        self._requests: deque[Request] = deque()
        self._inflight: dict[int, Request] = {}
        self._private: deque[int] = deque(maxlen=256)
        self._served = 0
        self._request_was_last = False
        self._fed = False
        self._usual_ns: int | None = None
        self.resting: frozenset[str] = frozenset()
        """Ids of workers that are given no inputs: another one takes over from them."""

    # -- workers ----------------------------------------------------------------------------------

    def __iter__(self) -> Iterator[Seat]:
        return iter(self.seats)

    def __len__(self) -> int:
        return len(self.seats)

    def seat_of(self, peer: Peer) -> Seat | None:
        for seat in self.seats:  # for each credit of each viewer: no generator
            if seat.peer is peer:
                return seat
        return None

    def seat(self, peer: Peer, credit: int, hello: WorkerHello) -> None:
        """Give a worker its place; one that has a place already keeps its status."""
        before = self.seat_of(peer)
        status = before.status if before else StatusReceived("loading")
        served = before.served if before else 0
        self.seats = [seat for seat in self.seats if seat.peer is not peer]
        seat = Seat(peer, credit, hello, status, served, stateful=hello.stateful)
        self.seats.append(seat)
        self.several = len(self.seats) > 1
        if before is not None:
            self._keeper = seat if self._keeper is before else self._keeper
            for given in before.given:
                self._merge.give_up(given)

    def leave(self, peer: Peer) -> Seat | None:
        """Forget a peer and all that was promised to it; the seat it had, if it had one.

        What it had begun for others is begun anew by another worker, in its order: nothing of it
        was shown yet.
        """
        left = self.seat_of(peer)
        self.seats = [seat for seat in self.seats if seat.peer is not peer]
        self.several = len(self.seats) > 1
        if left is not None:
            self._lose(left)
        if not self.seats:
            self._input.try_take()  # the next worker shall not begin with an old picture
        self._requests = deque(r for r in self._requests if r.peer is not peer)
        begun = [(n, r) for n, r in self._inflight.items() if peer in (r.peer, r.worker)]
        for seq, _ in begun:
            del self._inflight[seq]
        orphans = [r for _, r in begun if r.peer is not peer]
        for request in orphans:
            if request.tries >= MAX_TRIES:
                error = EngineError(f"{request.tries} workers were lost while they made it")
                request.peer.notify(Unanswered(request.ticket, error))
        self._requests.extendleft(r for r in reversed(orphans) if r.tries < MAX_TRIES)
        self.hand_out()
        return left

    def surrender(self) -> list[Request]:
        """Give everything out of hand, because another relay decides; what was asked for is left.

        What has come of the inputs so far is shown.
        """
        asked = [*self._inflight.values(), *self._requests]
        self._merge.release()
        self._merge = Merge(self._show, self._clock_ns, self._call_later)
        for seat in self.seats:
            seat.forget()
        self.seats, self.several = [], False
        self._keeper = self._newest = None
        self._input.try_take()
        self._requests.clear()
        self._inflight.clear()
        return asked

    def grant(self, seat: Seat, count: int) -> None:
        """A worker wants as many more."""
        seat.credit = min(seat.credit + count, MAX_CREDIT)
        if self.several:
            seat.repay(count, self._clock_ns())
        self.hand_out()

    # -- inputs and requests ----------------------------------------------------------------------

    @property
    def dropped(self) -> int:
        """Inputs that no worker was free for before a newer one came."""
        return self._input.statistics().replaced

    def offer(self, packet: Packet) -> None:
        """Have the newest input computed, if there is a worker at all."""
        if self.seats:
            self._fed = True
            self._input.put(packet)
            if self.several:
                self._look()
            self.hand_out()

    def refusal(self) -> EngineError | ProtocolError | None:
        """Why no request can be taken now."""
        broken = [seat.status.text for seat in self.seats if seat.status.state == "error"]
        if not self.seats:
            return EngineError("no worker is connected: start one with `python main.py`")
        if len(broken) == len(self.seats):
            return EngineError(f"the worker cannot compute: {broken[0] or 'it says error'}")
        if len(self._requests) >= MAX_REQUESTS:
            return ProtocolError(f"{MAX_REQUESTS} requests wait already: try again later")
        return None

    def ask(self, request: Request) -> None:
        """Have a picture made alone; whoever asked hears Answered or Unanswered."""
        self._requests.append(request)
        self.hand_out()

    def hand_out(self) -> None:
        """Give what waits to workers with credit, each packet to one worker.

        Requests go first, but no two of them while a picture of the stream waits: who asks a lot
        shall not stop it.
        """
        while True:
            ready = [s for s in self.seats if s.credit > 0 and self._fit(s)]
            if not ready:
                return
            seat = min(ready, key=lambda s: s.served)  # whoever waits longest
            taker: Seat | None = seat
            if self.several and self._input.statistics().waiting:
                taker = self._taker(ready)  # perhaps nobody: then requests go on
            if self._requests and not (
                self._request_was_last and taker is not None and self._input.statistics().waiting
            ):
                self._request_was_last = True
                if self._keeper is not None:
                    seat = min(ready, key=lambda s: (s is self._keeper, s.served))
                notice: Notice = self._begin(self._requests.popleft(), seat.peer)
            else:
                if taker is None or (packet := self._input.try_take()) is None:
                    return
                seat = taker
                self._request_was_last = False
                notice = Delivery(packet, "input")
                self._hand(packet)
                if self.several:
                    self._give(seat, packet)
            if self.several:
                seat.lend(self._clock_ns())
            seat.credit -= 1
            self._served += 1
            seat.served = self._served
            seat.peer.notify(notice)

    def fit(self) -> list[Seat]:
        """Those who could work at once: live, and nobody takes over from them; who answers first.

        One that has fallen silent counts where there is no other.
        """
        live = [seat for seat in self.seats if seat.status.state == "live" and self._fit(seat)]
        return [s for s in live if not s.hung] or [s for s in live if s.silent_ns is not None]

    def _fit(self, seat: Seat) -> bool:
        return seat.status.state != "error" and seat.peer.id not in self.resting

    def look(self, *, idle: bool) -> None:
        """Once a second: see who hangs. ``idle``: no input is to be expected soon."""
        now, waiting = self._clock_ns(), bool(self._input.statistics().waiting)
        fed, self._fed = self._fed, False
        # Of one that was never needed nobody knows how long it takes: the others' times tell.
        times = [far_longer(times) for seat in self.seats if (times := seat.times(now))]
        self._usual_ns = max(times, default=self._usual_ns)
        alone = not self.several
        for seat in self.seats:
            seat.look(now, self._usual_ns, alone=alone, fed=fed, waiting=waiting, idle=idle)

    # -- several workers --------------------------------------------------------------------------

    def result(self, packet: Packet, peer: Peer) -> bool:
        """A result of the stream came. Whether it is dealt with: it is shown in its turn."""
        now, seat = self._clock_ns(), self.seat_of(peer)
        given = self._merge.find(packet.seq, peer)
        if packet.preview:
            if seat is not None and seat.since_ns is not None:
                seat.since_ns = now  # it is at it
            if given is not None:
                self._merge.preview(given, packet)
            return given is not None
        if seat is not None:
            for lost in seat.take(packet.seq, now):
                self._merge.give_up(lost)
        if given is not None and given.result is None:
            patience = min(self._patience(now), MAX_HOLD_NS)
            self._merge.take(given, packet, now + patience)
        else:
            self._merge.flush()
        self.hand_out()
        return given is not None

    def control(self, packet: Packet, peer: Peer) -> bool:
        """What steered a result came. Whether it waits with its result."""
        given = self._merge.find(packet.seq, peer)
        if given is not None:
            given.control = packet
        return given is not None

    def fails_all(self, seat: Seat) -> None:
        """A worker says that it cannot compute any more."""
        if self.several:
            again = self._lose(seat)
            self.hand_out()
            if again:  # it is for another worker, at once: this one may be well again soon
                self._input.try_take()

    def _look(self) -> None:
        """An input came: see what has changed since the last one."""
        now = self._clock_ns()
        if now - self._offered_ns > PAUSE_NS:
            for seat in self.seats:
                seat.since_ns = None if seat.since_ns is None else now
        self._offered_ns = now
        self._merge.flush()

    def _taker(self, ready: list[Seat]) -> Seat | None:
        """Who is to have the newest input; None: nobody yet."""
        now = self._clock_ns()
        fit = [s for s in self.seats if self._fit(s) and not s.hangs(now)]
        if any(seat.stateful for seat in fit):
            if self._keeper not in fit:
                chosen = next((s for s in ready if s in fit), None)
                self._keeper = chosen or self._keeper
            return self._keeper if self._keeper in ready else None
        self._keeper = None
        times = {id(seat): seat.times(now) for seat in fit}
        # Who is overdue may have fallen silent: nobody is too slow compared with that one.
        known = [times[id(s)] for s in fit if times[id(s)] and not s.overdue(now)]
        slowest = min((took[len(took) // 2] for took in known), default=None)
        best: tuple[bool, bool, int, int] | None = None
        taker, free_ns = None, None
        asked = {id(r.worker) for r in self._inflight.values()}
        for seat in [s for s in ready if s in fit] or ready:
            took = times.get(id(seat)) or []
            usual = took[len(took) // 2] if took else 0
            if slowest is not None and usual > slowest + MAX_HOLD_NS:
                continue
            begins = self._free_ns(seat, usual, now)
            if begins > now:
                free_ns = begins if free_ns is None else min(free_ns, begins)
                continue
            key = (id(seat.peer) in asked, not took, usual, seat.served)
            if best is None or key < best:
                best, taker = key, seat
        if taker is None and free_ns is not None:
            self._wake_at(free_ns, now)
        return taker

    def _free_ns(self, seat: Seat, usual: int, now: int) -> int:
        """From when on a worker may have its next input."""
        owed = seat.owes(now)
        if not owed:
            return now
        if len(owed) > 1 or not usual:
            return owed[0].until_ns
        begun = max(owed[0].given_ns, seat.result_ns)
        return min(begun + usual - _lead_ns(seat, usual), owed[0].until_ns)

    def _patience(self, now: int) -> int:
        """How long newer results wait for one, ns: the time of the slowest, and a part of it."""
        times = []
        for seat in self.seats:
            if took := seat.times(now):
                usual = took[len(took) // 2]
                waits = _lead_ns(seat, usual) - int(LEAD * usual)  # at the worker, beside its time
                times.append(took[-1] + waits)
            elif seat.owes(now):  # nobody knows how long it takes
                times.append(MAX_HOLD_NS)
        slowest = min(max(times), min(times) + MAX_HOLD_NS) if times else MAX_HOLD_NS
        return int(PATIENCE * slowest)

    def _give(self, seat: Seat, packet: Packet) -> None:
        now = self._clock_ns()
        given = Given(packet, seat.peer, now, now + self._patience(now))
        seat.give(given)
        self._newest = given
        if self._keeper is None:
            self._merge.expect(given)

    def _lose(self, left: Seat) -> bool:
        """A worker is gone: nobody waits for it. Whether its newest input waits for another one."""
        if self._keeper is left:
            self._keeper = None
        owed = left.forget()
        for given in owed:
            self._merge.give_up(given)
        newest, again = self._newest, False
        # Once only: so nobody is ever given it twice, and it ends no more than two workers.
        if newest is not None and newest in owed and newest.packet.seq != self._given_again:
            again = not self._input.statistics().waiting
            if again:
                self._given_again = newest.packet.seq
                self._input.put(newest.packet)
        if self.several:
            self._merge.flush()
        else:
            self._merge.release()
            for seat in self.seats:
                seat.forget()
        return again

    def _wake_at(self, due_ns: int, now_ns: int) -> None:
        if self._call_later is None or (self._wake_ns is not None and self._wake_ns <= due_ns):
            return
        self._wake_ns = due_ns
        self._call_later((due_ns - now_ns) / 1e9, self._woken)

    def _woken(self) -> None:
        self._wake_ns = None
        self.hand_out()

    # -- requests ---------------------------------------------------------------------------------

    def _begin(self, request: Request, worker: Peer) -> RequestOffered:
        seq = self._number()
        request.worker = worker
        request.tries += 1
        request.packet = request.packet.but(seq=seq, private=True)
        self._inflight[seq] = request
        self._private.append(seq)
        return RequestOffered(request.packet, request.patch, request.peer.reply_limit)

    def answer(self, packet: Packet, worker: Peer, prompt: str) -> bool:
        """Whether a result answers a request, and so is for nobody else; who asked is told.

        Args:
            prompt: in force, where the request named none.
        """
        request = self._inflight.get(packet.seq)
        if not packet.private and request is None and packet.seq not in self._private:
            return False
        if request is not None and request.worker is worker and not packet.preview:
            del self._inflight[packet.seq]
            prompt = str(request.patch.get("prompt") or prompt)
            request.peer.notify(Answered(request.ticket, packet, prompt))
        return True

    def fail(self, seq: int, message: str, worker: Peer | None = None) -> None:
        """The worker (anyone, if None) could not answer the request with this number."""
        request = self._inflight.get(seq)
        if request is not None and worker in (None, request.worker):
            del self._inflight[seq]
            request.peer.notify(Unanswered(request.ticket, EngineError(message or "it failed")))

    def expire(self, now_ns: int) -> None:
        """End requests that waited too long."""
        oldest = now_ns - REQUEST_TIMEOUT_NS
        for seq, request in list(self._inflight.items()):
            if request.asked_ns < oldest:
                self.fail(seq, "no worker answered within 60 s")
        while self._requests and self._requests[0].asked_ns < oldest:
            request = self._requests.popleft()
            error = EngineError("no worker was free within 60 s")
            request.peer.notify(Unanswered(request.ticket, error))

    @property
    def idle(self) -> bool:
        """Whether nothing is promised to anybody."""
        return not (self._inflight or self._requests or self.seats)


def _lead_ns(seat: Seat, usual: int) -> int:
    """How long before a worker is done with an input it is given the next one.

    One that gives its credit back only when it is done tells nothing of the way to it.
    """
    most = int(MOST_LEAD * usual)
    # The way there and back, and a picture may take a little less time than the others.
    needed = 2 * seat.way_ns + int(SPREAD * usual) if seat.way_ns < most else 0
    return max(int(LEAD * usual), min(needed, most))
