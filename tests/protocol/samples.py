"""The messages whose bytes lie in ``golden/``; both ends must go on reading and writing these."""

from typing import Any

from dreamrelay.packet import Codec, Hop, Packet, Stamp, Track

PIXEL = bytes.fromhex(
    "47494638396101000100800000ff0000ffffff21f90400000000002c00000000010001000002024401003b"
)
"""A GIF of one pixel: the smallest picture that everybody reads."""


def _packet(**header: Any) -> Packet:
    return Packet(PIXEL, Codec.GIF, 1, 1, **header)


PACKETS: dict[str, tuple[Packet, Track]] = {
    "input": (_packet(seq=1, captured_ns=1_700_000_000_123_456_789), "input"),
    "input_encoded": (
        _packet(
            seq=2,
            captured_ns=1_700_000_000_000_000_000,
            stamps=(Stamp(Hop.ENCODED, 1_700_000_000_001_000_000),),
        ),
        "input",
    ),
    "output": (_packet(seq=7, captured_ns=1_700_000_000_000_000_000, revision=3), "output"),
    "output_every_hop": (
        _packet(
            seq=2**40 + 5,
            captured_ns=1_700_000_000_000_000_000,
            revision=2**32 - 1,
            stamps=tuple(
                Stamp(hop, 1_700_000_000_000_000_000 + hop * 1_000_000)
                for hop in Hop
                if hop <= Hop.RETURNED
            ),
        ),
        "output",
    ),
    "output_handed": (
        _packet(
            seq=8,
            captured_ns=1_700_000_000_000_000_000,
            stamps=(
                Stamp(Hop.RELAYED, 1_700_000_000_002_000_000),
                Stamp(Hop.HANDED, 1_700_000_000_003_000_000),
                Stamp(Hop.RETURNED, 1_700_000_000_009_000_000),
            ),
        ),
        "output",
    ),
    "output_private": (
        _packet(seq=9, captured_ns=1_700_000_000_000_000_000, revision=3, private=True),
        "output",
    ),
    "output_stand_in": (
        _packet(seq=10, captured_ns=1_700_000_000_000_000_000, stand_in=True),
        "output",
    ),
}

TO_RELAY: dict[str, dict[str, Any]] = {
    "hello_worker": {
        "type": "hello",
        "version": 1,
        "name": "worker",
        "credit": 2,
        "engine": "stream-batch",
        "model": "pocket",
        "device": "cpu",
        "width": 256,
        "height": 256,
        "schema": {
            "type": "object",
            "properties": {
                "prompt": {"type": "string", "maxLength": 2000},
                "strength": {"type": "number", "minimum": 0, "maximum": 1},
            },
        },
        "parameters": {"prompt": "a gold oil painting", "strength": 0.5},
    },
    "credit": {"type": "credit", "count": 1},
    "credit_track": {"type": "credit", "track": "input", "count": 2},
    "parameters": {"type": "parameters", "patch": {"prompt": "blue neon"}, "id": 4},
    "status": {
        "type": "status",
        "state": "loading",
        "text": "reading weights",
        "fraction": 0.25,
        "fps": 0.0,
    },
    "status_producer": {
        "type": "status",
        "state": "away",
        "text": "camera 0 gives no more pictures (unplugged? ended?)",
    },
    "failed": {"type": "failed", "seq": 9, "message": "out of memory"},
    "ping": {"type": "ping", "id": "a"},
    "ping_every": {"type": "ping", "id": 7, "every": 4.0},
    "clock": {"type": "clock", "offset_ns": -1_500_000, "error_ns": 250_000},
    "shown": {
        "type": "shown",
        "where": "studio",
        "pictures": [[3.25, 8.0, 120.5], [None, 8, 130.0]],
    },
}
