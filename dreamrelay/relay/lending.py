"""Workers lent by one stream to others.

The web pages of the seeds have one server that computes for everybody, each under a prompt of their
own. Here a worker works for one stream. So a stream of theirs that has no worker is given a
:class:`Loan`: to that stream it is a worker like any other; to the lending stream it is somebody
who asks for single pictures, which it makes between its own.
"""

import contextlib
import itertools
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

from dreamrelay.errors import EngineError
from dreamrelay.hub import Hub, Peer, Stream
from dreamrelay.packet import Packet
from dreamrelay.protocol.messages import (
    Answered,
    Delivery,
    Notice,
    RequestOffered,
    Role,
    StatusReceived,
    Unanswered,
    WorkerHello,
)
from dreamrelay.schema import checked

PICTURE_BYTES = 1_400_000
"""The most that every one of those pages takes, when it is written in base64."""

CREDIT = 2
"""Pictures under way: the worker has the next one when it is done with one."""

_numbers = itertools.count(1)


@dataclass(frozen=True, slots=True)
class _Asked:
    """What the borrower gave us to do."""

    packet: Packet
    revision: int


class Loan(Peer):
    """A worker at ``borrower`` that has the work done by those of ``lender``.

    Args:
        first: values that ``borrower`` begins with instead of the lender's.
    """

    role: Role = "worker"
    lent = True
    reply_limit = PICTURE_BYTES

    def __init__(
        self, lender: Stream, borrower: Stream, hello: WorkerHello, first: Mapping[str, Any]
    ) -> None:
        self.id = f"loan-{next(_numbers)}"
        self.name = f"lent by {lender.name}"
        self.lender = lender
        self.hello = hello
        self._borrower = borrower
        self._first = first
        self._tickets = itertools.count(1)
        self._asked: dict[int, _Asked] = {}
        self._said = StatusReceived("loading")
        self._trouble = ""

    def begin(self, hello: WorkerHello) -> None:
        """Take the seat at the borrower; again when the lender's worker has changed."""
        self.hello = hello
        # A picture to imitate is the worker's, so the lender's: nobody else's request changes it.
        values = {**self.lender.values, **_fitting(self._first, hello.schema)}
        said = replace(hello, parameters=values, reference=False)
        self._borrower.join(self, (), CREDIT - len(self._asked), said)

    def end(self) -> None:
        """Leave both streams."""
        self.lender.leave(self)
        self._borrower.leave(self)

    def report(self) -> None:
        """Tell the borrower how the lender's worker is, and why its own last picture failed."""
        status = self.lender.status()
        text = self._trouble or status["text"]
        said = StatusReceived(status["state"], text, status["fraction"])
        if said != self._said:
            self._said = said
            self._borrower.report(self, said)

    def wake(self) -> None:
        """It watches no track."""

    def notify(self, notice: Notice) -> None:
        match notice:
            case Delivery(packet, "input"):
                self._ask(packet, self._borrower.values)
            case RequestOffered(packet, patch):
                self._ask(packet, {**self._borrower.values, **patch})
            case Answered(ticket, packet):
                self._return(self._asked.pop(ticket), packet)
            case Unanswered(ticket, error):
                asked = self._asked.pop(ticket)
                if asked.packet.private:
                    self._borrower.fail(asked.packet.seq, str(error), self)
                elif isinstance(error, EngineError):  # the others: it was busy
                    self._trouble = str(error)
                    self.report()
                self._borrower.grant(self, 1)
            case _:
                pass  # what the streams tell everybody: we look for ourselves

    def _ask(self, packet: Packet, values: Mapping[str, Any]) -> None:
        ticket = next(self._tickets)
        self._asked[ticket] = _Asked(packet, self._borrower.revision)
        there = self.lender.values
        patch = {n: v for n, v in values.items() if n not in there or there[n] != v}
        self.lender.request(packet, patch, ticket, self)

    def _return(self, asked: _Asked, result: Packet) -> None:
        packet = asked.packet
        result = result.but(seq=packet.seq, revision=asked.revision, private=packet.private)
        self._borrower.publish(result, "output", self)
        if self._trouble:
            self._trouble = ""
            self.report()
        self._borrower.grant(self, 1)


def _fitting(values: Mapping[str, Any], schema: Mapping[str, Any] | None) -> dict[str, Any]:
    """Those values that a worker with this schema takes."""
    rules = checked(schema or {})
    return {name: value for name, value in values.items() if not rules.problems({name: value})}


@dataclass(slots=True)
class _Guest:
    stream: Stream
    first: Mapping[str, Any]
    connections: int = 0
    loan: Loan | None = None


class Lender:
    """Sees to it that streams of guests are served by a worker of the stream ``name``."""

    def __init__(self, hub: Hub, name: str) -> None:
        self._hub = hub
        self._name = name
        self._guests: dict[Stream, _Guest] = {}

    @contextlib.contextmanager
    def guest(self, stream: Stream, first: Mapping[str, Any] | None = None) -> Iterator[None]:
        """Serve ``stream`` while the ``with`` lasts, as long as it has no worker of its own.

        Args:
            first: what it begins with, where the worker takes it; the rest is as at the lender.
        """
        guest = self._guests.setdefault(stream, _Guest(stream, first or {}))
        guest.connections += 1
        self._settle(guest)
        try:
            yield
        finally:
            guest.connections -= 1
            if guest.connections == 0:
                del self._guests[stream]
                self._take_back(guest)

    def tick(self) -> None:
        """Once a second: see which workers have come and gone."""
        for guest in list(self._guests.values()):
            self._settle(guest)

    def _settle(self, guest: _Guest) -> None:
        lender = self._hub.find(self._name)
        loan = guest.loan
        hello = lender.worker if lender is not None and lender is not guest.stream else None
        if lender is None or hello is None or guest.stream.staffed:
            self._take_back(guest)
            return
        # Of a worker at another relay the hello comes without it; guests obey the stream's anyway.
        hello = replace(hello, schema=lender.schema)
        if loan is not None and loan.lender is not lender:
            self._take_back(guest)
            loan = None
        if loan is None:
            loan = guest.loan = Loan(lender, guest.stream, hello, guest.first)
            loan.begin(hello)
        elif loan.hello != hello:
            loan.begin(hello)
        loan.report()

    def _take_back(self, guest: _Guest) -> None:
        if guest.loan is not None:
            guest.loan.end()
            guest.loan = None
