"""A worker's place at a stream: what was promised to it, and how long it takes."""

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field

from dreamrelay.hub.peers import Peer
from dreamrelay.packet import Packet
from dreamrelay.protocol.messages import AudienceChanged, StatusReceived, WorkerHello

RECENT_NS = 10_000_000_000
"""What took long before this says nothing of now."""
RECENT = 8
"""Results whose times are remembered."""
OWED = 64
"""Inputs without a result that are remembered, so that one that has become slow is measured too."""
SILENT_NS = 1_000_000_000
"""A worker hangs when it gave no result for so long while it was given inputs, ..."""
SILENT_TIMES = 4
"""... and for so many of its own usual times, ..."""
UNKNOWN_SILENT_NS = 10_000_000_000
"""... or for so long if its time is unknown: the first picture may take long."""
ALONE_SILENT_NS = 1_500_000_000
ALONE_UNKNOWN_NS = 30_000_000_000
"""The same of a worker that is alone: nobody could do better meanwhile, so it is given longer."""
SILENT_LINK_NS = 13_000_000_000
"""A connection that is still there after so long is not silent: the relay had given it up."""


def far_longer(times: Sequence[int]) -> int:
    """What is far longer than these times, shortest first: one that was an accident counts less."""
    if not times:
        return 0
    return max(SILENT_TIMES * times[len(times) // 2], 3 * times[-1] // 2)


@dataclass(slots=True, eq=False)
class Given:
    """An input that a worker of several has, and later its result, until that is shown.

    Attributes:
        given_ns: when it was given out.
        until_ns: so long newer results wait for this one.
        result, control: what came of it and waits to be shown.
        come_ns: when the result came.
        leave_ns: so long the result itself may be held.
    """

    packet: Packet
    peer: Peer
    given_ns: int
    until_ns: int
    result: Packet | None = None
    control: Packet | None = None
    come_ns: int = 0
    leave_ns: int = 0


@dataclass(slots=True, eq=False)
class Seat:
    """A worker at a stream. What is below ``given`` is kept while it is one of several."""

    peer: Peer
    credit: int
    hello: WorkerHello
    status: StatusReceived
    served: int = 0
    told: AudienceChanged | None = None
    stateful: bool = False
    results: int = 0
    """All that it gave: pictures, previews, answers."""
    hung: bool = False
    """Whether it gave nothing for far longer than it takes, as the stream saw it last."""
    silent_ns: int | None = None
    """Since when it is known to have painted and then given nothing, see :mod:`painter`; None: it
    has not, or has been heard of since."""
    given: deque[Given] = field(default_factory=lambda: deque(maxlen=OWED))
    """Inputs without a result yet, oldest first."""
    since_ns: int | None = None
    """Since when it owes a result: none came since although inputs were given."""
    result_ns: int = 0
    """When its last result came."""
    way_ns: int = 0
    """How long something is on its way to the worker, at least; 0: nobody knows."""
    _sent: deque[int] = field(default_factory=lambda: deque(maxlen=OWED))
    """When it was sent that of which the credit has not come back."""
    _times: deque[tuple[int, int]] = field(default_factory=lambda: deque(maxlen=RECENT))
    _silences: deque[int] = field(default_factory=lambda: deque(maxlen=RECENT))
    _looked_ns: int = 0
    _seen: tuple[int, int] = (0, 0)

    def lend(self, now_ns: int) -> None:
        """It was sent something."""
        self._sent.append(now_ns)

    def repay(self, count: int, now_ns: int) -> None:
        """It has taken so many up, and gives their credit back."""
        for _ in range(min(count, len(self._sent))):
            took = now_ns - self._sent.popleft()
            # The least of all: one that was busy, or its wire, may have let it lie.
            self.way_ns = min(took, self.way_ns or took)

    def forget(self) -> list[Given]:
        """Nothing is owed any more; what was."""
        owed = list(self.given)
        self.given.clear()
        self._sent.clear()
        self.since_ns = None
        return owed

    def give(self, given: Given) -> None:
        """It was given an input."""
        self.given.append(given)
        if self.since_ns is None:
            self.since_ns = given.given_ns

    def take(self, seq: int, now_ns: int) -> list[Given]:
        """The result of an input came; the inputs before it that will have none any more."""
        before: list[Given] = []
        if any(given.packet.seq == seq for given in self.given):
            while (given := self.given.popleft()).packet.seq != seq:
                before.append(given)
            self._times.append((now_ns, now_ns - max(given.given_ns, self.result_ns)))
        self.result_ns = now_ns
        self.since_ns = now_ns if self.given else None
        return before

    def owes(self, now_ns: int) -> list[Given]:
        """Its inputs that are still waited for, oldest first."""
        return [given for given in self.given if given.until_ns > now_ns]

    def overdue(self, now_ns: int) -> bool:
        """Whether it is silent for longer than is usual; what took long once does not count."""
        times = self.times(now_ns)
        usual = SILENT_TIMES * times[len(times) // 2] if times else UNKNOWN_SILENT_NS
        return self.since_ns is not None and now_ns - self.since_ns > max(SILENT_NS, usual)

    def times(self, now_ns: int) -> list[int]:
        """How long its recent results took, ns, shortest first; empty if nobody knows."""
        while self._times and now_ns - self._times[0][0] > RECENT_NS:
            self._times.popleft()
        return sorted(took for _, took in self._times)

    def hangs(self, now_ns: int) -> bool:
        """Whether it gave no result for far longer than it takes, though it had inputs."""
        if self.silent_ns is not None or self.since_ns is None:
            return self.silent_ns is not None
        times = self.times(now_ns)
        patience = max(SILENT_NS, far_longer(times)) if times else UNKNOWN_SILENT_NS
        return now_ns - self.since_ns > patience

    def look(
        self,
        now_ns: int,
        usual_ns: int | None,
        *,
        alone: bool,
        fed: bool,
        waiting: bool,
        idle: bool,
    ) -> None:
        """Once a second: see whether it hangs.

        One of several is measured with each picture. One that is alone only here, so its pictures
        cost nothing: did it give any since the last look, and has it anything to do?

        Args:
            usual_ns: :func:`far_longer` than those of several take; None: nobody knows.
            alone: it is the only one.
            fed: an input came since the last look.
            waiting: an input waits for somebody who takes it.
            idle: none is to be expected soon, so nobody owes a result.
        """
        looked, self._looked_ns = self._looked_ns or now_ns, now_ns
        (results, served), self._seen = self._seen, (self.results, self.served)
        if self.status.state != "live":
            self.hung, self.silent_ns, self.since_ns = False, None, None
        elif not alone:
            patience = UNKNOWN_SILENT_NS if usual_ns is None else max(SILENT_NS, usual_ns)
            owes = self.since_ns is not None and now_ns - self.since_ns > patience
            if self.silent_ns is not None and now_ns - self.silent_ns > SILENT_LINK_NS:
                self.silent_ns = None
            self.hung = owes or self.silent_ns is not None
        elif results != self.results:
            self._silences.append(0 if self.since_ns is None else now_ns - self.since_ns)
            self.hung, self.since_ns = False, None
        elif idle:
            self.since_ns = None
        elif self.since_ns is None:
            if served != self.served or (waiting and not self.credit):
                self.since_ns = looked
        elif fed:
            known = max(ALONE_SILENT_NS, far_longer(sorted(self._silences)))
            patience = known if self._silences else ALONE_UNKNOWN_NS
            self.hung = now_ns - self.since_ns > patience
