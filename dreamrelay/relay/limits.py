"""What one peer, and one address, may cost: rates, connections, streams.

Peers on this machine are not counted: who can start programs here needs no relay to do harm, and a
benchmark may be quick.
"""

import contextlib
import ipaddress
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from dreamrelay.errors import LimitError

BURST_SECONDS = 2.0
"""What a peer may save up while it is silent."""

PEERS_WORTH = 4.0
"""An address may send as many messages as this many of its peers may."""

MOST_ACCOUNTS = 4096
"""Addresses that are remembered; beyond that those that have nothing open are forgotten."""


class Bucket:
    """A token bucket: ``rate`` a second, and what was saved up in ``BURST_SECONDS``.

    Args:
        rate: 0 is no limit.
        burst: what can be saved up, if it is not that.
    """

    def __init__(
        self, rate: float, clock: Callable[[], float] = time.monotonic, *, burst: float = 0.0
    ) -> None:
        self._rate = rate
        self._clock = clock
        self._most = self._left = burst or rate * BURST_SECONDS
        self._then = clock()

    @property
    def limits(self) -> bool:
        return self._rate > 0

    def take(self) -> float:
        """Take one; return the seconds to wait before the next, 0 while there is some left."""
        if self._rate <= 0:
            return 0.0
        now = self._clock()
        self._left = min(self._most, self._left + (now - self._then) * self._rate) - 1.0
        self._then = now
        return max(0.0, -self._left / self._rate)

    def try_take(self) -> bool:
        """Take one if there is one."""
        if self.take() > 0:
            self._left += 1.0
            return False
        return True


class Throttle:
    """The bucket of a peer and that which all peers of its address share."""

    def __init__(self, *buckets: Bucket) -> None:
        self._buckets = tuple(bucket for bucket in buckets if bucket.limits)
        self.limits = bool(self._buckets)
        """Whether anything is limited at all."""

    def take(self) -> float:
        """Take one of each; return the seconds to wait before the next."""
        longest = 0.0
        for bucket in self._buckets:  # for each message of each peer: no generator
            wait = bucket.take()
            if wait > longest:
                longest = wait
        return longest


@dataclass(slots=True)
class Account:
    """What an address has open, and how often it asks and speaks."""

    requests: Bucket
    messages: Bucket
    lasting: int = 0
    sockets: int = 0


@dataclass(frozen=True, slots=True)
class Allowance:
    """The limits, as data; 0 is none.

    Attributes:
        connections: WebSockets and MJPEG clients at once, in all.
        connections_each: of one address.
        messages: a second of one peer, and requests a second of one address.
    """

    connections: int = 256
    connections_each: int = 32
    messages: float = 240.0
    clock: Callable[[], float] = field(default=time.monotonic, repr=False)


class Slots:
    """Everybody who is connected, by address. The address of peers on this machine is ``""``."""

    def __init__(self, allowance: Allowance) -> None:
        self.allowance = allowance
        self.taken = 0
        """Connections that last: WebSockets and MJPEG together."""
        self._accounts: dict[str, Account] = {}

    def account(self, address: str) -> Account:
        account = self._accounts.get(address)
        if account is None:
            if len(self._accounts) >= MOST_ACCOUNTS:
                kept = {a: c for a, c in self._accounts.items() if c.lasting or c.sockets}
                self._accounts = kept
            limit = self.allowance
            account = Account(
                Bucket(limit.messages, limit.clock),
                Bucket(PEERS_WORTH * limit.messages, limit.clock),
            )
            self._accounts[address] = account
        return account

    def check(self, address: str = "") -> None:
        """Raise unless there is room for one more connection that lasts.

        Raises:
            LimitError: there is none, here or for this address.
        """
        if self.taken >= self.allowance.connections:
            raise LimitError(f"{self.taken} connections are open: that is the limit", status=503)
        each = self.allowance.connections_each
        if address and each and self.account(address).lasting >= each:
            raise LimitError(f"{each} connections of your address are open: that is the limit")

    @contextlib.contextmanager
    def taking(self, address: str = "") -> Iterator[None]:
        """Hold a place while the ``with`` lasts."""
        account = self.account(address)
        self.taken += 1
        account.lasting += 1
        try:
            yield
        finally:
            self.taken -= 1
            account.lasting -= 1

    def check_request(self, address: str) -> None:
        """Count a request.

        Raises:
            LimitError: this address asks too often.
        """
        if address and not self.account(address).requests.try_take():
            raise LimitError(f"expected at most {self.allowance.messages:.0f} requests a second")

    def throttle(self, address: str) -> Throttle:
        """What a peer's messages are counted with."""
        if not address:
            return Throttle()
        own = Bucket(self.allowance.messages, self.allowance.clock)
        return Throttle(own, self.account(address).messages)


def address_key(host: str) -> str:
    """The address that is counted: of IPv6 the network of 64 bits that one customer has."""
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return host[:100] or "unknown"
    if isinstance(address, ipaddress.IPv6Address):
        if address.ipv4_mapped is not None:
            return str(address.ipv4_mapped)
        return str(ipaddress.ip_network((address, 64), strict=False).network_address)
    return str(address)


def is_loopback(host: str) -> bool:
    """Whether an address or name can only mean this machine."""
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return host.lower().rstrip(".") == "localhost"
