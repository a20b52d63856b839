"""What TLS, MJPEG and NATS cost beside a plain WebSocket: CPU time for each delivered picture.

    python -m benchmarks.wire --json benchmarks/results/wire.json

All run at once and take turns, in lockstep, over the loopback; each keeps its smallest figure. The
clients are Python's own (they must decrypt), in another process than what is measured. The figures
go into ``docs/capacity.md``.
"""

import argparse
import asyncio
import contextlib
import datetime
import json
import os
import re
import ssl
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any, Protocol

from websockets.asyncio.client import ClientConnection, connect

from benchmarks.machine import cpu_ns, describe, idle_cpu_ns, load
from benchmarks.processes import RELAY, ROOT, process
from benchmarks.relay import PICTURE_BYTES, make_picture
from dreamrelay.importer import Entry
from dreamrelay.packet import Packet
from dreamrelay.protocol.native import encode_packet

VIEWERS = 16
RELAYS = 4
"""Subscribers of a picture on NATS: relays, not viewers."""

BLOCK = 100
NATS = Entry("nats:connect", "the NATS client", "nats")


class Way(Protocol):
    """A way that pictures take from one to many."""

    pid: int
    receivers: int

    async def send(self) -> None:
        """Send one picture; return when everybody has it."""


class Count:
    """Waits for pictures to be received so many times."""

    def __init__(self) -> None:
        self._seen = 0
        self._more = asyncio.Event()

    def one(self) -> None:
        self._seen += 1
        self._more.set()

    async def reach(self, number: int) -> None:
        async with asyncio.timeout(60):
            while self._seen < number:
                self._more.clear()
                await self._more.wait()
        self._seen -= number


class Relayed:
    """Through our relay, to viewers of a kind."""

    receivers = VIEWERS

    def __init__(self, pid: int, producer: ClientConnection, message: bytes, got: Count) -> None:
        self.pid = pid
        self._producer = producer
        self._message = message
        self._got = got

    async def send(self) -> None:
        await self._producer.send(self._message)
        await self._got.reach(VIEWERS)


class Published:
    """Through a NATS server, with the settings of ``deploy/nats.conf``."""

    receivers = RELAYS

    def __init__(self, pid: int, client: Any, message: bytes, got: Count) -> None:
        self.pid = pid
        self._client = client
        self._message = message
        self._got = got

    async def send(self) -> None:
        await self._client.publish("picture", self._message)
        await self._client.flush()
        await self._got.reach(RELAYS)


async def _watch(socket: ClientConnection, joined: Count, got: Count) -> None:
    await socket.recv()  # its welcome
    joined.one()
    async for message in socket:
        if isinstance(message, bytes):
            got.one()
            await socket.send('{"type":"credit","count":1}')


async def _watch_mjpeg(port: int, path: str, joined: Count, got: Count) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", port, limit=1 << 20)
    try:
        writer.write(f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\n\r\n".encode())
        while not (await reader.readline()).startswith(b"--"):
            pass
        joined.one()
        while True:  # the chunks' own lines are skipped with the rest of the heads
            line = await reader.readline()
            if found := re.match(rb"Content-Length: (\d+)", line):
                await reader.readline()
                await reader.readexactly(int(found[1]))
                got.one()
            elif not line:
                raise ConnectionError("the relay closed a stream of pictures")
    finally:
        writer.close()


@contextlib.contextmanager
def _relay(*flags: str) -> Iterator[tuple[int, int]]:
    """A relay's process id and port."""
    with process(*RELAY, *flags) as running:
        assert running.stdout is not None
        for line in running.stdout:
            if found := re.search(r"https?://127\.0\.0\.1:(\d+)/", line):
                yield running.pid, int(found[1])
                return
        raise RuntimeError(f"the relay ended with code {running.wait(10)}")


@contextlib.asynccontextmanager
async def _relayed(tasks: asyncio.TaskGroup, *, tls: bool, mjpeg: bool) -> AsyncIterator[Way]:
    context = None
    if tls:
        context = ssl.create_default_context()
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    flags = ("--tls=auto", "--tls-keep=none") if tls else ()
    with _relay(*flags) as (pid, port):
        base = f"{'wss' if tls else 'ws'}://127.0.0.1:{port}/streams/wire"
        options: dict[str, Any] = {"ssl": context, "compression": None, "max_size": None}
        got, joined = Count(), Count()
        watching = []
        async with contextlib.AsyncExitStack() as stack:
            for _ in range(VIEWERS):
                if mjpeg:
                    work = _watch_mjpeg(port, "/streams/wire/mjpeg?track=input", joined, got)
                else:
                    viewer = connect(f"{base}/viewer?track=input", **options)
                    work = _watch(await stack.enter_async_context(viewer), joined, got)
                watching.append(tasks.create_task(work))
            producer = await stack.enter_async_context(connect(f"{base}/producer", **options))
            watching.append(tasks.create_task(_hear(producer)))
            message = encode_packet(Packet.of(make_picture(), seq=1), "input")
            await joined.reach(VIEWERS)  # until then pictures are nobody's
            try:
                yield Relayed(pid, producer, message, got)
            finally:
                for task in watching:
                    task.cancel()


async def _hear(producer: ClientConnection) -> None:
    async for _ in producer:
        pass


@contextlib.contextmanager
def _nats_server() -> Iterator[tuple[int, str]]:
    """A server's process id and address."""
    with tempfile.TemporaryDirectory() as folder:
        conf = ["-c", str(ROOT / "deploy" / "nats.conf"), "-a", "127.0.0.1", "-p", "-1", "-m", "-1"]
        running = subprocess.Popen(
            ["nats-server", *conf, "--ports_file_dir", folder],
            env={**os.environ, "NATS_TOKEN": "wire"},
            stderr=subprocess.DEVNULL,
        )
        try:
            deadline = time.monotonic() + 30
            while not (ports := list(Path(folder).glob("*.ports"))):
                if running.poll() is not None or time.monotonic() > deadline:
                    raise RuntimeError(f"nats-server did not start, code {running.poll()}")
                time.sleep(0.05)
            yield running.pid, json.loads(ports[0].read_text())["nats"][0]
        finally:
            running.terminate()
            running.wait(10)


@contextlib.asynccontextmanager
async def _published() -> AsyncIterator[Way]:
    got = Count()

    async def on_message(_: Any) -> None:
        got.one()

    with _nats_server() as (pid, address):
        async with contextlib.AsyncExitStack() as stack:
            clients = [await NATS.load()(address, token="wire") for _ in range(1 + RELAYS)]
            for client in clients:
                stack.push_async_callback(client.close)
            for client in clients[1:]:
                await client.subscribe("picture", cb=on_message)
                await client.flush()
            yield Published(pid, clients[0], make_picture(), got)


async def measure(rounds: int, block: int = BLOCK) -> dict[str, Any]:
    """Microseconds of CPU per delivered picture of each way, and the ratios that carry over."""
    best: dict[str, float] = {}
    hop: list[float] = []
    async with contextlib.AsyncExitStack() as stack:
        tasks = await stack.enter_async_context(asyncio.TaskGroup())
        ways: dict[str, Way] = {}
        for name, tls, mjpeg in (
            ("websocket", False, False),
            ("websocket, TLS", True, False),
            ("mjpeg", False, True),
        ):
            ways[name] = await stack.enter_async_context(_relayed(tasks, tls=tls, mjpeg=mjpeg))
        ways["nats"] = await stack.enter_async_context(_published())
        for number in range(rounds + 1):
            for name, way in ways.items():
                before = idle_cpu_ns(way.pid) if number else cpu_ns(way.pid)
                for _ in range(block):
                    began = time.perf_counter()
                    await way.send()
                    if name == "nats" and number:
                        hop.append((time.perf_counter() - began) * 1000)
                spent = (idle_cpu_ns(way.pid) - before) / 1000 / block / way.receivers
                if number:  # the first is to warm up
                    best[name] = min(spent, best.get(name, spent))
                print(f"round {number}: {name} {spent:.1f} us", file=sys.stderr, flush=True)
    plain = best["websocket"]
    return {
        "picture_bytes": PICTURE_BYTES,
        "rounds": rounds,
        "viewers": VIEWERS,
        "relays": RELAYS,
        "microseconds_per_delivered_picture": {k: round(v, 1) for k, v in best.items()},
        "ratios": {
            "TLS / plain": round(best["websocket, TLS"] / plain, 2),
            "mjpeg / websocket": round(best["mjpeg"] / plain, 2),
            "nats / websocket": round(best["nats"] / plain, 2),
        },
        "nats_hop_ms": round(statistics.median(hop), 2),
    }


def main(arguments: list[str] | None = None) -> int:
    """Measure, print, keep the figures where asked."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.wire", description=__doc__)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--json", type=Path, help="also write the figures to this file")
    options = parser.parse_args(arguments)
    figures: dict[str, Any] = {
        "date": datetime.date.today().isoformat(),
        "machine": describe(),
        "load": [load()],
        "wire": asyncio.run(measure(options.rounds)),
    }
    figures["load"].append(load())
    print(json.dumps(figures["wire"], indent=1))
    if options.json is not None:
        options.json.write_text(json.dumps(figures, indent=1) + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
