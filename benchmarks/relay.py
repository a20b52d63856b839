"""What the relay costs: CPU time of its process for each picture that it delivers.

All designs run side by side and take turns, in lockstep, over the loopback. Contention can only add
to a CPU time, so each design's smallest figure is kept, and only ratios of these are reported.
"""

import contextlib
import io
import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pybase64
from PIL import Image

from benchmarks.clients import (
    Party,
    Producer,
    RawViewer,
    Viewer,
    WebSocketViewer,
    connect,
    frame,
    text_frame,
    upgrade,
)
from benchmarks.comparisons import LENGTH
from benchmarks.machine import cpu_ns, idle_cpu_ns
from benchmarks.processes import RELAY, Server, server
from dreamrelay.packet import Packet
from dreamrelay.protocol.native import encode_packet

PICTURE_BYTES = 60_000
VIEWERS = (1, 16)
WARM_UP = 20
AHEAD = 1024
"""A credit that outlasts a block: such a viewer never has to say anything."""


def make_picture(size: int = PICTURE_BYTES) -> bytes:
    """A JPEG of 512 x 512 pixels and exactly ``size`` bytes, the same each time."""
    random = np.random.default_rng(7)
    noise = random.integers(0, 256, (64, 64, 3), dtype=np.uint8)
    smooth = Image.fromarray(noise).resize((512, 512), Image.Resampling.BICUBIC)
    grain = random.integers(-24, 25, (512, 512, 3))
    pixels = np.clip(np.asarray(smooth, dtype=np.int64) + grain, 0, 255).astype(np.uint8)
    for quality in range(95, 0, -1):
        buffer = io.BytesIO()
        Image.fromarray(pixels).save(buffer, "JPEG", quality=quality)
        data = buffer.getvalue()
        if len(data) <= size:
            # Bytes after the end of a JPEG are ignored by everybody.
            return data + random.bytes(size - len(data))
    raise ValueError(f"no JPEG of 512x512 is as small as {size} bytes")


@dataclass(frozen=True)
class Design:
    """A relay, and who talks to it how.

    Attributes:
        name: of its figures.
        relay: the program, as ``python`` would be told.
        producer, viewer: connect one, given the port and the picture.
        share: of the pictures of a block that this one is given (it may be very slow).
    """

    name: str
    relay: tuple[str, ...]
    producer: Callable[[int, bytes], Producer]
    viewer: Callable[[int, bytes], Viewer]
    share: float = 1.0


def _raw_producer(port: int, picture: bytes) -> Producer:
    message = len(picture).to_bytes(LENGTH, "little") + picture
    return Producer(connect(port), message, hello=b"P")


def _raw_viewer(port: int, picture: bytes) -> Viewer:
    return RawViewer(port, len(picture))


def _raw_talking_viewer(port: int, picture: bytes) -> Viewer:
    return RawViewer(port, len(picture), credit=text_frame(type="credit", count=1))


def _frames_producer(port: int, picture: bytes) -> Producer:
    return Producer(connect(port), frame(picture), hello=b"P")


def _native_producer(port: int, picture: bytes) -> Producer:
    message = frame(encode_packet(Packet.of(picture, seq=1), "input"))
    return Producer(upgrade(port, "/streams/benchmark/producer"), message)


def _native_viewer(port: int, _: bytes) -> Viewer:
    client = upgrade(port, "/streams/benchmark/viewer?track=input")
    return WebSocketViewer(client, credit=text_frame(type="credit", count=1))


def _native_viewer_ahead(port: int, _: bytes) -> Viewer:
    return WebSocketViewer(upgrade(port, f"/streams/benchmark/viewer?track=input&credit={AHEAD}"))


def _seed_producer(port: int, picture: bytes, *, deflate: bool = False) -> Producer:
    data = pybase64.b64encode(picture).decode()
    fields = {"type": "image", "format": "jpeg", "data": data, "timestamp": 1_700_000_000.0}
    client = upgrade(port, "/?stream=benchmark", deflate=deflate)
    hello = text_frame(deflate, type="register", client_type="producer")
    return Producer(client, text_frame(deflate, **fields), hello=hello)


def _seed_viewer(port: int, _: bytes, *, deflate: bool = False) -> Viewer:
    client = upgrade(port, "/?stream=benchmark", deflate=deflate)
    return WebSocketViewer(
        client, hello=text_frame(deflate, type="register", client_type="consumer")
    )


def _deflate_producer(port: int, picture: bytes) -> Producer:
    return _seed_producer(port, picture, deflate=True)


def _deflate_viewer(port: int, picture: bytes) -> Viewer:
    return _seed_viewer(port, picture, deflate=True)


def _comparison(name: str) -> tuple[str, ...]:
    return ("-m", "benchmarks.comparisons", name)


DESIGNS = (
    Design("raw", _comparison("raw"), _raw_producer, _raw_viewer),
    Design("raw, ack and credit", _comparison("raw-talk"), _raw_producer, _raw_talking_viewer),
    Design("raw, frames", _comparison("raw-frames"), _frames_producer, _raw_talking_viewer),
    Design("binary", RELAY, _native_producer, _native_viewer),
    Design("binary, credit ahead", RELAY, _native_producer, _native_viewer_ahead),
    Design("binary, through ASGI", (*RELAY, "--fanout=stock"), _native_producer, _native_viewer),
    Design("seed to binary", RELAY, _seed_producer, _native_viewer),
    Design("seed to binary, credit ahead", RELAY, _seed_producer, _native_viewer_ahead),
    Design("seed to seed", RELAY, _seed_producer, _seed_viewer),
    Design("naive", _comparison("naive"), _seed_producer, _seed_viewer),
    Design("naive-deflate", _comparison("naive-deflate"), _deflate_producer, _deflate_viewer, 0.05),
)

RATIOS = {
    "ceiling / binary": ("raw", "binary"),
    "ceiling with ack and credit / binary": ("raw, ack and credit", "binary"),
    "ceiling with ack, credit and frames / binary": ("raw, frames", "binary"),
    "ceiling / binary, credit ahead": ("raw", "binary, credit ahead"),
    "through ASGI / binary": ("binary, through ASGI", "binary"),
    "naive / seed to binary": ("naive", "seed to binary"),
    "naive / seed to binary, credit ahead": ("naive", "seed to binary, credit ahead"),
    "naive / seed to seed": ("naive", "seed to seed"),
    "naive-deflate / seed to binary": ("naive-deflate", "seed to binary"),
    "naive-deflate / seed to binary, credit ahead": (
        "naive-deflate",
        "seed to binary, credit ahead",
    ),
}


def cost_ns(relay: Server, design: Design, viewers: int, pictures: int, picture: bytes) -> float:
    """Run one block of one design: ns of the relay's CPU time for each delivered picture."""
    party = Party(
        design.producer(relay.port, picture),
        [design.viewer(relay.port, picture) for _ in range(viewers)],
    )
    try:
        party.settle()
        party.begin(max(2, round(WARM_UP * design.share)))
        before = idle_cpu_ns(relay.pid)
        party.run(pictures)
        after = idle_cpu_ns(relay.pid) if pictures > 1 else cpu_ns(relay.pid)
    finally:
        party.close()
    return (after - before) / (pictures * viewers)


def measure(
    rounds: int,
    *,
    viewers: Sequence[int] = VIEWERS,
    pictures: int = 300,
    designs: Sequence[Design] = DESIGNS,
    say: Callable[[str], None] = print,
) -> dict[str, Any]:
    """Measure all designs, interleaved; the figures of ``benchmarks/results``."""
    picture = make_picture()
    costs: dict[tuple[str, int], list[float]] = {}
    with contextlib.ExitStack() as stack:
        programs = dict.fromkeys(design.relay for design in designs)
        relays = {program: stack.enter_context(server(*program)) for program in programs}
        for number in range(rounds):
            # Forth and back, so that a machine that grows busier is nobody's advantage.
            for design in designs if number % 2 == 0 else tuple(reversed(designs)):
                for count in viewers:
                    block = max(2, round(pictures * design.share / count**0.5))
                    cost = cost_ns(relays[design.relay], design, count, block, picture)
                    costs.setdefault((design.name, count), []).append(cost)
            say(f"relay: round {number + 1} of {rounds}")
    return report(costs, rounds, viewers)


def report(
    costs: dict[tuple[str, int], list[float]], rounds: int, viewers: Sequence[int]
) -> dict[str, Any]:
    """Ratios of the minima (and of the medians, to judge them by), and the costs behind them."""
    names = list(dict.fromkeys(name for name, _ in costs))

    def ratios(pick: Callable[[list[float]], float]) -> dict[str, dict[str, float]]:
        return {
            title: {
                str(count): round(pick(costs[above, count]) / pick(costs[below, count]), 3)
                for count in viewers
            }
            for title, (above, below) in RATIOS.items()
            if above in names and below in names
        }

    return {
        "picture_bytes": PICTURE_BYTES,
        "rounds": rounds,
        "ratios": ratios(min),
        "ratios_of_medians": ratios(statistics.median),
        "microseconds_per_delivered_picture": {
            name: {str(count): round(min(costs[name, count]) / 1000, 1) for count in viewers}
            for name in names
        },
    }
