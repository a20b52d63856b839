"""B7: a worker at another relay, over NATS, beside one at the relay itself.

Round trips in lockstep: a producer sends a picture of 60 kB to a relay, a worker gives it back as
it is, a viewer at that relay has it. Two relays and a nats-server run all the time; two streams
take turns, whose worker is at the same relay or at the other one. CPU time is that of both relays
and of nats-server. Contention can only add, so each keeps its quickest trip and its cheapest round.

Beside it, in this process: what a hub costs that shares its streams and has nobody to share them
with, over one that knows of no backplane.
"""

import contextlib
import json
import os
import shutil
import statistics
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from websockets.sync.client import ClientConnection, connect

from benchmarks.dispatch import Somebody
from benchmarks.effort import Effort, Say
from benchmarks.machine import cpu_ns, idle_cpu_ns
from benchmarks.marks import Row, at_most
from benchmarks.processes import RELAY, ROOT, server
from benchmarks.relay import make_picture
from dreamrelay.hub import Hub
from dreamrelay.packet import Packet
from dreamrelay.protocol.messages import Delivery, Limits, Notice, StatusReceived, WorkerHello
from dreamrelay.protocol.native import decode_packet, encode_packet, encode_text
from dreamrelay.relay.backplane import MemoryBackplane, MemoryBus
from dreamrelay.relay.federation import Federation

WAYS: Mapping[str, str] = {"direct": "the relay's own worker", "backplane": "another relay's"}
PROCESSES = ("the home", "the worker's relay", "nats-server")
TRIPS, QUICK_TRIPS = 200, 5
HUB_ROUNDS, HUB_TRIPS = 60, 300
WARM_UP = 20
SECONDS = 60
"""What each answer has."""

MARKS = {"trip": at_most(3, 2), "cpu": at_most(3, 2)}


def measure(effort: Effort, say: Say) -> dict[str, Any]:
    """The quickest and the usual trip of each way, ms, and its CPU time, also of each process."""
    trips: dict[str, list[float]] = {way: [] for way in WAYS}
    cpu: dict[str, list[float]] = {way: [] for way in WAYS}
    parts: dict[str, list[float]] = {name: [] for name in PROCESSES}
    count = effort.pick(TRIPS, QUICK_TRIPS)
    with contextlib.ExitStack() as stack:
        nats, url = stack.enter_context(nats_server())
        flags = (f"--backplane={url}", "--backplane_token=wire", "--max_message_mb=7")
        home = stack.enter_context(server(*RELAY, *flags, "--relay_name=home"))
        tables = {way: stack.enter_context(_Table.at(home.port, way)) for way in WAYS}
        for table in tables.values():
            table.until(lambda status: status.get("home") == "home")
        other = stack.enter_context(server(*RELAY, *flags, "--relay_name=other"))
        for way, table in tables.items():
            table.employ(home.port if way == "direct" else other.port)
            for _ in range(WARM_UP):
                table.trip()
        pids = (home.pid, other.pid, nats)
        for number in range(effort.rounds):
            for way, table in tables.items():
                before = [idle_cpu_ns(pid) for pid in pids]
                trips[way] += [table.trip() for _ in range(count)]
                took = [(cpu_ns(p) - b) / count / 1e6 for p, b in zip(pids, before, strict=True)]
                cpu[way].append(sum(took))
                if way == "backplane":
                    for name, ms in zip(PROCESSES, took, strict=True):
                        parts[name].append(ms)
            say(f"round {number + 1} of {effort.rounds}")
    alone, shared = _hubs(effort)
    return {
        "trip_ms": {way: round(min(found), 3) for way, found in trips.items()},
        "trip_ms_p50": {way: round(statistics.median(found), 3) for way, found in trips.items()},
        "cpu_ms": {way: round(min(found), 3) for way, found in cpu.items()},
        "trip": round(min(trips["backplane"]) / min(trips["direct"]), 2),
        "cpu": round(min(cpu["backplane"]) / min(cpu["direct"]), 2),
        "cpu_ms_of": {name: round(min(found), 3) for name, found in parts.items()},
        "hub_us": {"alone": round(alone, 2), "shared": round(shared, 2)},
        "hub": round(shared / alone, 3),
    }


def rows(found: Mapping[str, Any]) -> list[Row]:
    """The lines of the table."""
    lines = [
        Row(
            "B7 round trip, another relay's worker / the relay's own", found["trip"], MARKS["trip"]
        ),
        Row("B7 CPU time, the same", found["cpu"], MARKS["cpu"]),
    ]
    if "hub" in found:  # figures of before it was measured are kept
        lines.append(Row("B7 CPU time of the hub, in a cluster of one / alone", found["hub"]))
    return lines


def details(found: Mapping[str, Any]) -> str:
    """What lies behind the ratios, as a table of Markdown."""
    lines = ["| worker | quickest trip | median | CPU a trip |", "|---|---:|---:|---:|"]
    for way, name in WAYS.items():
        times = [found[key][way] for key in ("trip_ms", "trip_ms_p50", "cpu_ms")]
        lines.append(f"| {name} | " + " | ".join(f"{ms:.2f} ms" for ms in times) + " |")
    if "hub" in found:
        of = ", ".join(f"{name} {ms:.2f} ms" for name, ms in found["cpu_ms_of"].items())
        shared, alone = (f"{found['hub_us'][key]:.1f} µs" for key in ("shared", "alone"))
        lines += ["", f"Of the latter: {of}. A hub in a cluster of one {shared}, alone {alone}."]
    return "\n".join(lines)


@contextlib.contextmanager
def nats_server() -> Iterator[tuple[int, str]]:
    """A server with the project's settings; its process and its address.

    Raises:
        RuntimeError: there is none, or it does not start.
    """
    if shutil.which("nats-server") is None:
        raise RuntimeError("nats-server is not installed")
    with tempfile.TemporaryDirectory() as folder:
        conf = ["-c", str(ROOT / "deploy" / "nats.conf"), "-a", "127.0.0.1", "-p", "-1", "-m", "-1"]
        running = subprocess.Popen(
            ["nats-server", *conf, "--ports_file_dir", folder],
            env={**os.environ, "NATS_TOKEN": "wire", "GOMAXPROCS": "1"},  # as in deploy/
            stderr=subprocess.DEVNULL,
        )
        try:
            end = time.monotonic() + SECONDS
            while not (ports := list(Path(folder).glob("*.ports"))):
                if running.poll() is not None or time.monotonic() > end:
                    raise RuntimeError(f"nats-server did not start, code {running.poll()}")
                time.sleep(0.05)
            address = json.loads(ports[0].read_text(encoding="utf-8"))["nats"][0]
            yield running.pid, address.replace("0.0.0.0", "127.0.0.1")
        finally:
            running.terminate()
            running.wait(10)


@dataclass(slots=True)
class _Table:
    """A stream with a producer, a viewer and, once it is employed, a worker."""

    stream: str
    producer: ClientConnection
    viewer: ClientConnection
    stack: contextlib.ExitStack
    worker: ClientConnection | None = None
    seq: int = 0

    @classmethod
    @contextlib.contextmanager
    def at(cls, port: int, stream: str) -> Iterator["_Table"]:
        with contextlib.ExitStack() as stack:
            producer = stack.enter_context(_join(port, stream, "producer"))
            viewer = stack.enter_context(_join(port, stream, "viewer"))
            yield cls(stream, producer, viewer, stack)

    def employ(self, port: int) -> None:
        """Have a worker at that relay."""
        self.worker = self.stack.enter_context(_join(port, self.stream, "worker"))
        self.worker.send(encode_text("hello", version=1, credit=1))
        self.worker.send(encode_text("status", state="live"))
        self.until(lambda status: status.get("workers") == 1)

    def until(self, holds: Any) -> None:
        """Read the viewer's words until the stream's status is so."""
        while True:
            message = self.viewer.recv(SECONDS)
            if isinstance(message, str):
                fields = json.loads(message)
                if fields["type"] == "status" and holds(fields):
                    return

    def trip(self) -> float:
        """One picture there and back, ms."""
        assert self.worker is not None
        self.seq += 1
        message = encode_packet(Packet.of(_PICTURE, seq=self.seq), "input")
        began = time.perf_counter()
        self.producer.send(message)
        given = _picture(self.worker)
        self.worker.send(encode_packet(given, "output"))
        _picture(self.viewer)
        took = (time.perf_counter() - began) * 1e3
        self.worker.send(encode_text("credit", count=1))
        self.viewer.send(encode_text("credit", count=1, track="output"))
        while True:  # its ack
            answer = self.producer.recv(SECONDS)
            if isinstance(answer, str) and json.loads(answer)["type"] == "ack":
                return took


_PICTURE = make_picture()


class _Returner(Somebody):
    """A worker; what it was given last is its result."""

    given: Packet

    def notify(self, notice: Notice) -> None:
        if isinstance(notice, Delivery):
            self.given = notice.packet


class _Place:
    """A hub with a producer, a worker and a viewer at one stream.

    Args:
        shared: whether it has a place on a backplane, where nobody else is.
    """

    def __init__(self, *, shared: bool) -> None:
        self._now = 10**12
        hub = Hub(Limits(), clock_ns=lambda: self._now, unix_ns=lambda: self._now)
        self._federation: Federation | None = None
        if shared:
            place = MemoryBackplane(MemoryBus(), "here")
            self._federation = Federation(hub, place, "here", clock_ns=lambda: self._now)
            place.open(self._federation)
        self._stream = hub.stream("default")
        self._hub = hub
        self._producer, self._worker = (
            Somebody("producer", "producer"),
            _Returner("worker", "worker"),
        )
        self._viewer = Somebody("viewer", "viewer")
        self._stream.join(self._producer)
        self._stream.join(self._worker, (), 1, WorkerHello("nothing"))
        self._stream.report(self._worker, StatusReceived("live"))
        self._stream.join(self._viewer, ("output",), None)
        self._tick()

    def _tick(self) -> None:
        self._now += 10**9
        self._hub.tick()
        if self._federation is not None:
            self._federation.tick()

    def cpu_us(self) -> float:
        """Of one trip of a picture, and its part of a second's housekeeping."""
        stream, input_ = self._stream, Packet.of(_PICTURE)
        began = time.process_time_ns()
        for _ in range(HUB_TRIPS):
            self._now += 10**6
            stream.publish(input_, "input", self._producer)
            stream.publish(self._worker.given, "output", self._worker)
            stream.grant(self._worker, 1)
            for subscription in stream.subscriptions(self._viewer):
                subscription.take()
        self._tick()
        return (time.process_time_ns() - began) / HUB_TRIPS / 1e3


def _hubs(effort: Effort) -> tuple[float, float]:
    """Microseconds of CPU time for a trip in a hub: without a backplane, and with one."""
    places = _Place(shared=False), _Place(shared=True)
    found: tuple[list[float], list[float]] = ([], [])
    for _ in range(effort.pick(HUB_ROUNDS, 2)):
        for place, times in zip(places, found, strict=True):
            times.append(place.cpu_us())
    return min(found[0]), min(found[1])


def _join(port: int, stream: str, role: str) -> ClientConnection:
    uri = f"ws://127.0.0.1:{port}/streams/{stream}/{role}"
    return connect(uri, compression=None, max_size=None, close_timeout=1)


def _picture(peer: ClientConnection) -> Packet:
    while True:
        message = peer.recv(SECONDS)
        if isinstance(message, bytes):
            return decode_packet(message)[0]
