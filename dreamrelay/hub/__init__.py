"""The hub: streams, and who gets what of them. No sockets, no waiting, no pixels."""

from dreamrelay.hub.air import IDLE_NS, ON_AIR_NS
from dreamrelay.hub.dispatch import MAX_REQUESTS, MAX_TRIES
from dreamrelay.hub.hub import Hub
from dreamrelay.hub.peers import Peer, Subscription
from dreamrelay.hub.standin import HOLD_SECONDS, LONGEST_HOLD, WHEN_LOST, Fallback, WhenLost
from dreamrelay.hub.stream import PRODUCER_CREDIT, Stream

__all__ = [
    "HOLD_SECONDS",
    "IDLE_NS",
    "LONGEST_HOLD",
    "MAX_REQUESTS",
    "MAX_TRIES",
    "ON_AIR_NS",
    "PRODUCER_CREDIT",
    "WHEN_LOST",
    "Fallback",
    "Hub",
    "Peer",
    "Stream",
    "Subscription",
    "WhenLost",
]
