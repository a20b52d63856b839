"""What the worker makes of its engine: pictures per second of both, side by side.

A relay, a producer that sends more than the engine can take, a worker, a viewer that counts what
comes back; in turn with the same engine in the same process called directly. Contention can only
slow both down, so the best ``WINDOW`` successive pictures of each are kept, and only their ratio is
reported: a worker that lets its engine wait now and then has no such window.

An engine that computes on the CPU shares its cores with the rest of the worker. For it a second
ratio says what part of the worker's CPU time is the engine's: that one contention cannot touch.
"""

import contextlib
import io
import json
import selectors
import time
from collections.abc import Callable, Sequence
from typing import IO, Any

import numpy as np
from PIL import Image

from benchmarks.clients import Producer, WebSocketViewer, frame, text_frame, upgrade
from benchmarks.machine import can_count_cpu, cpu_ns
from benchmarks.processes import RELAY, process, server
from dreamrelay.packet import Packet
from dreamrelay.protocol.native import encode_packet

ENGINES = ("scripted-256", "scripted-512", "pocket")
AMPLE = 1.6
"""Pictures sent for each that the engine can make."""

WINDOW = 20
SLOW_WINDOW = 5
"""Of engines that compute, here, less than ten pictures a second."""

WARM_UP = 0.5
SETTLE = 0.2


def make_picture(width: int, height: int) -> bytes:
    """A JPEG of a smooth picture with some grain, as a camera makes it."""
    random = np.random.default_rng(11)
    coarse = random.integers(0, 256, (12, 12, 3), dtype=np.uint8)
    smooth = Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC)
    grain = random.integers(-6, 7, (height, width, 3))
    pixels = np.clip(np.asarray(smooth, dtype=np.int64) + grain, 0, 255).astype(np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "JPEG", quality=85)
    return buffer.getvalue()


class Stage:
    """A producer and a viewer at the stream of the worker."""

    def __init__(self, port: int, width: int, height: int) -> None:
        packet = Packet.of(make_picture(width, height), seq=1)
        message = frame(encode_packet(packet, "input"))
        self._producer = Producer(upgrade(port, "/streams/default/producer"), message)
        credit = text_frame(type="credit", count=1)
        client = upgrade(port, "/streams/default/viewer?credit=4")
        self._viewer = WebSocketViewer(client, credit=credit)
        self._selector = selectors.DefaultSelector()
        self._selector.register(self._producer.socket, selectors.EVENT_READ, self._producer)
        self._selector.register(self._viewer.socket, selectors.EVENT_READ, self._viewer)

    def play(self, seconds: float, rate: float) -> int:
        """Send ``rate`` pictures a second for so long; how many came back."""
        self._viewer.pictures = 0
        due = time.perf_counter()
        end = due + seconds
        while (now := time.perf_counter()) < end:
            if now >= due:
                self._producer.send()
                due = max(due + 1 / rate, now - 1 / rate)
            for key, _ in self._selector.select(max(0.0, due - time.perf_counter())):
                key.data.pump()
        return self._viewer.pictures

    def close(self) -> None:
        """Hang up."""
        self._selector.close()
        self._producer.socket.close()
        self._viewer.socket.close()


def measure(
    rounds: int,
    *,
    engines: Sequence[str] = ENGINES,
    seconds: float = 3.0,
    say: Callable[[str], None] = print,
) -> dict[str, Any]:
    """Measure the engines, one after the other; the figures of ``benchmarks/results``."""
    figures = {engine: measure_engine(engine, rounds, seconds, say) for engine in engines}
    return {
        "rounds": rounds,
        "ratios": {name: round(f["worker"] / f["alone"], 3) for name, f in figures.items()},
        "ratios_of_means": {
            name: round(f["worker_mean"] / f["alone_mean"], 3) for name, f in figures.items()
        },
        "returned": {name: round(f["returned"], 3) for name, f in figures.items()},
        "cpu_ratios": {
            name: round(f["alone_cpu"] / f["worker_cpu"], 3)
            for name, f in figures.items()
            if not name.startswith("scripted") and f["worker_cpu"]
        },
        "pictures_per_second": {
            name: {"worker": round(f["worker"], 2), "engine": round(f["alone"], 2)}
            for name, f in figures.items()
        },
    }


def measure_engine(
    name: str, rounds: int, seconds: float, say: Callable[[str], None]
) -> dict[str, float]:
    """Rounds of the engine alone and of the worker with it, in turn.

    Returns:
        Pictures per second, of the best window and on average; CPU time of a picture in ns, of the
        best round; the share of the pictures that came back to the viewer.
    """
    starts: dict[str, list[list[float]]] = {"alone": [], "worker": []}
    cpu: dict[str, list[float]] = {"alone": [], "worker": []}
    window = WINDOW if name.startswith("scripted") else SLOW_WINDOW
    returned = 0
    with contextlib.ExitStack() as stack:
        relay = stack.enter_context(server(*RELAY))
        uri = f"ws://127.0.0.1:{relay.port}"
        child = stack.enter_context(process("-m", "benchmarks.worker_process", uri, name))
        assert child.stdin is not None
        assert child.stdout is not None
        hello = read_answer(child.stdout)
        if not hello["ready"]:
            raise RuntimeError(f"the worker with {name} did not start")
        for number in range(rounds):
            for phase in ("alone", "worker"):
                stage = None
                rate = 0.0
                if phase == "worker":
                    rate = AMPLE * best_rate(starts["alone"], window)
                    # Anew each round: these clients answer no pings, and last 40 s at most.
                    stage = Stage(relay.port, hello["width"], hello["height"])
                    stage.play(WARM_UP, rate)
                before = cpu_ns(child.pid) if can_count_cpu() else 0
                print(f"{phase} {seconds}", file=child.stdin, flush=True)
                if stage is not None:
                    returned += stage.play(seconds, rate)
                    stage.close()
                starts[phase].append(read_answer(child.stdout)["starts"])
                after = cpu_ns(child.pid) if can_count_cpu() else 0
                cpu[phase].append((after - before) / len(starts[phase][-1]))
            say(f"worker, {name}: round {number + 1} of {rounds}")
            time.sleep(SETTLE)  # what is still under way shall not meet the engine alone
    return {
        "alone": best_rate(starts["alone"], window),
        "worker": best_rate(starts["worker"], window),
        "alone_cpu": min(cpu["alone"]),
        "worker_cpu": min(cpu["worker"]),
        "alone_mean": mean_rate(starts["alone"]),
        "worker_mean": mean_rate(starts["worker"]),
        "returned": returned / sum(map(len, starts["worker"])),
    }


def best_rate(rounds: Sequence[Sequence[float]], window: int) -> float:
    """Pictures per second in the best window of any round."""
    return max(
        size / (starts[at + size] - starts[at])
        for starts in rounds
        for size in [min(window, len(starts) - 1)]
        if size > 0
        for at in range(len(starts) - size)
    )


def mean_rate(rounds: Sequence[Sequence[float]]) -> float:
    """Pictures per second on average."""
    return sum(len(starts) - 1 for starts in rounds) / sum(s[-1] - s[0] for s in rounds)


def read_answer(lines: IO[str]) -> dict[str, Any]:
    """The next line of JSON from the worker's process.

    Raises:
        RuntimeError: it has ended.
    """
    for line in lines:
        if line.startswith("{"):
            fields: dict[str, Any] = json.loads(line)
            return fields
    raise RuntimeError("the worker under measurement ended")
