"""A worker of several streams: ``python -m benchmarks.streams_process RELAY ENGINE STREAMS BATCH``.

``call-A-B`` is an engine whose call costs A + B x pictures ms, as a card's does; others are those
of :mod:`worker_process`. ``STREAMS`` are names with commas between, ``BATCH`` is how many pictures
a call has at most. Says when it is ready, as a line of JSON; ends at the end of its input.
"""

import json
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from typing import Any

from benchmarks.worker_process import ScriptedEngine, make_engine
from dreamrelay.config import WorkerSettings
from dreamrelay.engines import Engine, Result
from dreamrelay.engines.ports import Outcome, Turn
from dreamrelay.worker import Worker

SIZE = 128
"""Pixels of a side: small, so that all processes together leave the processor free."""


class CallEngine(ScriptedEngine):
    """Waits ``fixed`` ms for each call, and ``each`` ms for each picture in it."""

    def __init__(self, fixed: float, each: float, limit: int) -> None:
        super().__init__(SIZE, fixed + each)
        self._costs = (fixed, each, limit)

    @property
    def batch_limit(self) -> int:
        return self._costs[2]

    def beside(self, patch: Mapping[str, Any]) -> "CallEngine":
        return CallEngine(*self._costs)

    def infer_together(self, turns: Sequence[Turn]) -> list[Outcome]:
        fixed, each, _ = self._costs
        time.sleep((fixed + each * len(turns)) / 1000)
        return [Result(turn.frame, turn.token) for turn in turns]


def open_one(name: str, limit: int) -> Engine:
    """The engine of that name; a real one makes as many pictures in a call as it may."""
    if name.startswith("call-"):
        fixed, each = map(float, name.split("-")[1:])
        return CallEngine(fixed, each, limit)
    engine: Any = make_engine(name)
    # What the flag --batch comes to.
    type(engine).batch_limit = property(lambda self: limit)
    made: Engine = engine
    return made


def main(relay: str, name: str, streams: str, batch: str) -> None:
    """Start the worker; end when nobody wants it any more."""
    settings = WorkerSettings(
        websocket_uri=relay,
        stream=streams.split(","),
        osc_port=None,
        viewer="off",
        text_to_picture="off",
        matting="off",
    )
    engine = open_one(name, int(batch))
    worker = Worker(settings, engine=engine)
    thread = threading.Thread(target=worker.run, name="worker")
    thread.start()
    try:
        while thread.is_alive() and any(lane.state != "live" for lane in worker.lanes):
            time.sleep(0.01)
        ready = all(lane.state == "live" for lane in worker.lanes)
        print(json.dumps({"ready": ready, "width": engine.width}), flush=True)
        sys.stdin.read()
    finally:
        worker.stop()
        thread.join()


if __name__ == "__main__":
    main(*sys.argv[1:])
