"""The workers of a stream: who is given what, and what was promised to whom.

The newest input waits in one place for a worker with credit; pictures that somebody asked for
alone wait in a queue beside it, none of them lost.
"""

from collections import deque
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from dreamrelay.errors import EngineError, ProtocolError
from dreamrelay.hub.peers import Peer
from dreamrelay.mailbox import Mailbox
from dreamrelay.packet import Packet
from dreamrelay.protocol.messages import (
    Answered,
    AudienceChanged,
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
MAX_CREDIT = 1024


@dataclass(slots=True)
class Seat:
    """A worker at a stream."""

    peer: Peer
    credit: int
    hello: WorkerHello
    status: StatusReceived
    served: int = 0
    told: AudienceChanged | None = None


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
    """

    def __init__(self, number: Callable[[], int]) -> None:
        self.seats: list[Seat] = []
        self._number = number
        self._input: Mailbox[Packet] = Mailbox()
        self._requests: deque[Request] = deque()
        self._inflight: dict[int, Request] = {}
        self._private: deque[int] = deque(maxlen=256)
        self._served = 0
        self._request_was_last = False

    # -- workers ----------------------------------------------------------------------------------

    def __iter__(self) -> Iterator[Seat]:
        return iter(self.seats)

    def __len__(self) -> int:
        return len(self.seats)

    def seat_of(self, peer: Peer) -> Seat | None:
        return next((seat for seat in self.seats if seat.peer is peer), None)

    def seat(self, peer: Peer, credit: int, hello: WorkerHello) -> None:
        """Give a worker its place; one that has a place already keeps its status."""
        before = self.seat_of(peer)
        status = before.status if before else StatusReceived("loading")
        served = before.served if before else 0
        self.seats = [seat for seat in self.seats if seat.peer is not peer]
        self.seats.append(Seat(peer, credit, hello, status, served))

    def leave(self, peer: Peer) -> Seat | None:
        """Forget a peer and all that was promised to it; the seat it had, if it had one.

        What it had begun for others is begun anew by another worker, in its order: nothing of it
        was shown yet.
        """
        left = self.seat_of(peer)
        self.seats = [seat for seat in self.seats if seat.peer is not peer]
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

    def grant(self, seat: Seat, count: int) -> None:
        """A worker wants as many more."""
        seat.credit = min(seat.credit + count, MAX_CREDIT)
        self.hand_out()

    # -- inputs and requests ----------------------------------------------------------------------

    @property
    def dropped(self) -> int:
        """Inputs that no worker was free for before a newer one came."""
        return self._input.statistics().replaced

    def offer(self, packet: Packet) -> None:
        """Have the newest input computed, if there is a worker at all."""
        if self.seats:
            self._input.put(packet)
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
            ready = [s for s in self.seats if s.credit > 0 and s.status.state != "error"]
            if not ready:
                return
            seat = min(ready, key=lambda s: s.served)  # whoever waits longest
            picture_waits = self._input.statistics().waiting > 0
            if self._requests and not (picture_waits and self._request_was_last):
                self._request_was_last = True
                notice: Notice = self._begin(self._requests.popleft(), seat.peer)
            else:
                packet = self._input.try_take()
                if packet is None:
                    return
                self._request_was_last = False
                notice = Delivery(packet, "input")
            seat.credit -= 1
            self._served += 1
            seat.served = self._served
            seat.peer.notify(notice)

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
