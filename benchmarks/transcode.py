"""B6: what the seed's JSON costs in a process, beside the standard library.

In: the bytes of a text message to a packet, as ``json`` and ``base64`` do it and as our dialect
does. Out: a packet to what is written into sockets. Both in turn; of each the least of all repeats
counts.
"""

import base64
import json
import time
from collections.abc import Callable, Mapping
from typing import Any

import pybase64

from benchmarks.effort import Effort, Say
from benchmarks.marks import Row, at_least
from benchmarks.relay import make_picture
from dreamrelay.packet import Packet
from dreamrelay.protocol.messages import Limits, PacketReceived
from dreamrelay.protocol.websocket_example import WebSocketExampleDialect

REPEATS, QUICK_REPEATS = 60, 2
"""Of each way in a round."""

MARKS = {"in": at_least(25, 35), "out": at_least(40, 60)}


def measure(effort: Effort, say: Say) -> dict[str, Any]:
    """Microseconds of each way, and the ratios."""
    picture = make_picture()
    data = pybase64.b64encode(picture).decode()
    fields = {"type": "image", "format": "jpeg", "data": data, "timestamp": 1_700_000_000.0}
    message = json.dumps(fields).encode()
    packet = Packet.of(picture, seq=1)
    dialect = WebSocketExampleDialect(Limits())

    def plain_in() -> bytes:
        return base64.b64decode(json.loads(message.decode())["data"])

    def ours_in() -> bytes:
        [event] = dialect.receive_text(message)
        assert isinstance(event, PacketReceived)
        return event.packet.data

    def plain_out() -> str:
        return json.dumps({**fields, "data": base64.b64encode(picture).decode()})

    def ours_out() -> bytes:
        # As the relay writes into sockets: once for all viewers, and this is the once.
        form = dialect.form(packet, "output")
        assert form is not None
        return b"".join(form.parts(packet))

    assert plain_in() == ours_in() == picture
    assert json.loads(plain_out())["data"] == json.loads(ours_out())["data"]
    ways: dict[str, Callable[[], object]] = {
        "plain in": plain_in,
        "ours in": ours_in,
        "plain out": plain_out,
        "ours out": ours_out,
    }
    least = dict.fromkeys(ways, float("inf"))
    for number in range(effort.rounds):
        for name, way in ways.items():
            for _ in range(effort.pick(REPEATS, QUICK_REPEATS)):
                began = time.perf_counter_ns()
                way()
                least[name] = min(least[name], (time.perf_counter_ns() - began) / 1000)
        say(f"round {number + 1} of {effort.rounds}")
    return {
        "picture_bytes": len(picture),
        "microseconds": {name: round(value, 2) for name, value in least.items()},
        "ratios": {
            way: round(least[f"plain {way}"] / least[f"ours {way}"], 2) for way in ("in", "out")
        },
    }


def rows(found: Mapping[str, Any]) -> list[Row]:
    """The lines of the table."""
    return [
        Row(f"json and base64 / our codec, {way}", ratio, MARKS[way])
        for way, ratio in found["ratios"].items()
    ]
