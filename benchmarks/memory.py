"""Whether memory stays flat: 100,000 pictures through a relay and a worker (Linux).

A producer, a worker whose engine returns what it is given at once, a viewer of each track that
stays, and one that comes and goes; small pictures, so that their number counts and not their bytes.
After the first fifth the memory of both processes is noted a hundred times; the figure is the slope
of the line that fits best, in bytes for each picture. One object that is kept for each picture
would be fifty at least; allocators move by whole pages, so a figure of some bytes is flat.
"""

import contextlib
import selectors
import time
from collections.abc import Mapping, Sequence
from typing import Any

from benchmarks.clients import Client, WebSocketViewer, text_frame, upgrade
from benchmarks.effort import Effort, Say
from benchmarks.machine import resident_bytes
from benchmarks.marks import Row, at_most
from benchmarks.processes import RELAY, process, server
from benchmarks.watchers import Stamper
from benchmarks.worker import make_picture, read_answer

SIZE = 64
WINDOW = 4
"""Pictures that are under way at once."""

WARM_UP = 0.2
"""The part at the start that is not counted."""

SAMPLES = 100
VISITS, FIRST_VISITS = 250, 40
"""Pictures after which the visitor comes anew; and in the part that is not counted, because the
interpreter keeps up to 2000 tuples of each length for the next ones.
"""

LOST = 1.0
"""Seconds after which a picture is not waited for any more (a newer one has replaced it)."""

PATIENT = "--ping_seconds=86400"
"""These clients answer no pings."""

STREAM = "/streams/default"
MARKS = {"relay": at_most(10, 2), "worker": at_most(10, 2)}


class Crowd:
    """Those who are connected, and the one who comes and goes."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._selector = selectors.DefaultSelector()
        self.producer = Stamper(upgrade(port, f"{STREAM}/producer"), make_picture(SIZE, SIZE))
        self.viewers = [self._viewer(track) for track in ("output", "input")]
        self.visitor = self._viewer("output")
        self.visits = 1
        self._stayed = 0
        for client in (self.producer, *self.viewers, self.visitor):
            self._selector.register(client.socket, selectors.EVENT_READ, client)

    def _viewer(self, track: str) -> WebSocketViewer:
        client = upgrade(self._port, f"{STREAM}/viewer?track={track}&credit=8")
        return WebSocketViewer(client, credit=text_frame(type="credit", count=1))

    def visit_anew(self) -> None:
        """The visitor goes, and comes again."""
        self._selector.unregister(self.visitor.socket)
        self.visitor.socket.close()
        self.visitor = self._viewer("output")
        self._selector.register(self.visitor.socket, selectors.EVENT_READ, self.visitor)
        self.visits += 1

    def pass_on(self, count: int, visits: int) -> None:
        """Send pictures until so many results have come; the visitor stays for ``visits`` of them.

        Raises:
            TimeoutError: nothing comes any more.
        """
        first = self.viewers[0]
        first.pictures = 0
        ahead = 0
        heard = time.perf_counter()
        while first.pictures < count:
            while ahead < WINDOW:
                self.producer.send()
                ahead += 1
            before = first.pictures
            for key, _ in self._selector.select(LOST):
                client: Client = key.data
                client.pump()
            now = time.perf_counter()
            self._stayed += first.pictures - before
            if self._stayed >= visits:
                self._stayed = 0
                self.visit_anew()
            if first.pictures > before:
                ahead, heard = max(0, ahead - (first.pictures - before)), now
            elif now - heard > LOST:
                ahead = 0  # what was replaced by a newer one does not come
                if now - heard > 30:
                    raise TimeoutError("no picture came for 30 s")

    def close(self) -> None:
        """Hang up."""
        for client in (self.producer, *self.viewers, self.visitor):
            client.socket.close()
        self._selector.close()


def measure(effort: Effort, say: Say) -> dict[str, Any]:
    """Bytes for each picture, of the relay and of the worker."""
    frames = min(effort.frames, effort.pick(effort.frames, 120))
    step = max(1, frames // (SAMPLES + round(SAMPLES * WARM_UP / (1 - WARM_UP))))
    with contextlib.ExitStack() as stack:
        relay = stack.enter_context(server(*RELAY, PATIENT))
        uri = f"ws://127.0.0.1:{relay.port}"
        child = stack.enter_context(
            process("-m", "benchmarks.worker_process", uri, f"scripted-{SIZE}-0")
        )
        assert child.stdout is not None
        if not read_answer(child.stdout)["ready"]:
            raise RuntimeError("the worker did not start")
        crowd = stack.enter_context(contextlib.closing(Crowd(relay.port)))
        pids = {"relay": relay.pid, "worker": child.pid}
        numbers: list[int] = []
        held: dict[str, list[int]] = {name: [] for name in pids}
        done, told, began = 0, 0.0, time.perf_counter()
        while done < frames:
            warm = done >= WARM_UP * frames
            crowd.pass_on(step, VISITS if warm else FIRST_VISITS)
            done += step
            if warm:
                numbers.append(done)
                for name, pid in pids.items():
                    held[name].append(resident_bytes(pid))
            if (now := time.perf_counter()) - told > 5:
                say(f"{done} of {frames} pictures, {done / (now - began):.0f} a second")
                told = now
        visits = crowd.visits
    return {
        "frames": done,
        "visits": visits,
        "frames_per_second": round(done / (time.perf_counter() - began), 1),
        "bytes_per_frame": {n: round(slope(numbers, values), 2) for n, values in held.items()},
        "megabytes": {
            name: [round(values[at] / 1e6, 2) for at in (0, -1)] for name, values in held.items()
        },
    }


def slope(at: Sequence[float], values: Sequence[float]) -> float:
    """By how much the values grow for each one of ``at``: the line of least squares."""
    mean_at, mean = sum(at) / len(at), sum(values) / len(values)
    spread = sum((x - mean_at) ** 2 for x in at)
    if spread == 0:
        return 0.0
    return sum((x - mean_at) * (y - mean) for x, y in zip(at, values, strict=True)) / spread


def rows(found: Mapping[str, Any]) -> list[Row]:
    """The lines of the table."""
    return [
        Row(f"{name}: bytes more for each picture", value, MARKS[name])
        for name, value in found["bytes_per_frame"].items()
    ]
