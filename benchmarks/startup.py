"""From the start of processes to the first that anybody has of them, beside the least it can be.

The relay: to its first answer by HTTP, beside a process that imports the same packages and answers.
The whole: relay, worker and producer are started at once, as from one script; a viewer waits for
the first transformed picture. Beside it one process that imports the same packages and computes one
picture with the same graph (``bare_start.py``). They take turns; of each the least time counts.
"""

import contextlib
import http.client
import socket
import time
from collections.abc import Callable, Mapping
from typing import Any

from benchmarks.clients import upgrade
from benchmarks.effort import Effort, Say
from benchmarks.marks import Row, at_most
from benchmarks.processes import RELAY, process, server
from benchmarks.watchers import Watcher

MOST = 60.0
"""Seconds that something may take to be there."""

LOOK = 0.005
"""Seconds between two looks whether somebody listens."""

MARKS = {"relay": at_most(1.5, 1.15), "picture": at_most(2.5, 1.5)}

WORKER = ("-m", "dreamrelay", "worker", "--viewer=off", "--osc_port=", "--text_to_picture=off")
PRODUCER = ("-m", "dreamrelay", "producer", "--source=pattern://clip", "--fps=30")


def measure(effort: Effort, say: Say) -> dict[str, Any]:
    """Seconds, the least of all rounds, and the two ratios."""
    starts: dict[str, Callable[[], float]] = {
        "relay": lambda: _to_answer(*RELAY),
        "relay, bare": lambda: _to_answer("-m", "benchmarks.bare_start", "relay"),
        "picture": _to_picture,
        "picture, bare": _bare_picture,
    }
    rounds = effort.pick(max(3, effort.rounds - 1), 1)  # the first finds no file in the cache
    seconds: dict[str, list[float]] = {name: [] for name in starts}
    for number in range(rounds):
        for name, start in starts.items():
            seconds[name].append(start())
        say(f"round {number + 1} of {rounds}")
    least = {name: min(taken) for name, taken in seconds.items()}
    return {
        "rounds": rounds,
        "seconds": {name: round(taken, 3) for name, taken in least.items()},
        "ratios": {
            name: round(least[name] / least[f"{name}, bare"], 3) for name in ("relay", "picture")
        },
    }


def _to_answer(*arguments: str) -> float:
    began = time.perf_counter()
    with server(*arguments) as listening:
        while True:
            with contextlib.closing(
                http.client.HTTPConnection("127.0.0.1", listening.port, timeout=MOST)
            ) as client:
                client.request("GET", "/healthz")
                if client.getresponse().status == 200:
                    return time.perf_counter() - began


def _to_picture() -> float:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    uri = f"--websocket_uri=ws://127.0.0.1:{port}"
    began = time.perf_counter()
    with contextlib.ExitStack() as stack:
        for program in (("-m", "dreamrelay", "relay", f"--port={port}"), WORKER, PRODUCER):
            more = () if "relay" in program else (uri, "--verbose=0")
            stack.enter_context(process(*program, *more))
        viewer = Watcher(_patiently(port, began + MOST))
        viewer.socket.settimeout(MOST)
        while not viewer.seen:
            viewer.pump()
        taken = time.perf_counter() - began
        viewer.socket.close()
    return taken


def _patiently(port: int, until: float) -> socket.socket:
    while True:
        try:
            return upgrade(port, "/streams/default/viewer?credit=4")
        except OSError:
            if time.perf_counter() > until:
                raise
            time.sleep(LOOK)


def _bare_picture() -> float:
    began = time.perf_counter()
    with process("-m", "benchmarks.bare_start", "picture") as running:
        assert running.stdout is not None
        if not running.stdout.readline():
            raise RuntimeError("the bare process computed no picture")
        return time.perf_counter() - began


def rows(found: Mapping[str, Any]) -> list[Row]:
    """The lines of the table."""
    titles = {
        "relay": "relay to its first answer / bare process",
        "picture": "all to the first picture / bare process",
    }
    return [Row(titles[name], ratio, MARKS[name]) for name, ratio in found["ratios"].items()]
