"""The hub: streams, and who gets what of them. No sockets, no waiting, no pixels."""

from dreamrelay.hub.dispatch import MAX_REQUESTS, MAX_TRIES
from dreamrelay.hub.hub import Hub
from dreamrelay.hub.peers import Peer, Subscription
from dreamrelay.hub.stream import IDLE_NS, ON_AIR_NS, PRODUCER_CREDIT, Stream

__all__ = [
    "IDLE_NS",
    "MAX_REQUESTS",
    "MAX_TRIES",
    "ON_AIR_NS",
    "PRODUCER_CREDIT",
    "Hub",
    "Peer",
    "Stream",
    "Subscription",
]
