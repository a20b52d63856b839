"""The second process, which compiles for :mod:`beside`; a program of its own.

It reads settings and then forms that are wanted from its standard input, and says on its standard
output how far it is (pickles both ways, from and for the process that started it). It ends when its
input does.
"""

import os
import pickle
import queue
import sys
import threading
from typing import IO, Any

import torch

from dreamrelay.engines.accelerate import cache_folder
from dreamrelay.engines.catalog import open_engine
from dreamrelay.engines.packages import Wanted, build_package, is_package
from dreamrelay.engines.ports import Progress
from dreamrelay.engines.stream_batch import StreamBatchEngine
from dreamrelay.errors import EngineError

NICER = 10


def main() -> None:
    out = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # what libraries print must not come between
    if hasattr(os, "nice"):
        os.nice(NICER)  # frames go first

    def tell(kind: str, what: Any) -> None:
        pickle.dump((kind, what), out)
        out.flush()

    settings = pickle.load(sys.stdin.buffer)
    asked: queue.LifoQueue[Wanted] = queue.LifoQueue()
    listener = threading.Thread(target=_listen, args=(sys.stdin.buffer, asked), daemon=True)
    listener.start()
    try:
        _build(settings, asked, tell)
    except Exception as error:  # noqa: BLE001 - compilers raise anything; the other process says it
        text = " ".join(str(error).split())[:300] or type(error).__name__
        tell("failed", f"it could not be built ({text})")
        os._exit(1)  # compilers leave threads behind


def _build(settings: Any, asked: "queue.LifoQueue[Wanted]", tell: Any) -> None:
    os.environ.setdefault("TORCHINDUCTOR_CACHE_DIR", str(cache_folder() / "inductor"))

    def report(progress: Progress) -> None:
        tell("progress", f"the second process loads: {progress.text}")

    engine = open_engine(settings)
    if not isinstance(engine, StreamBatchEngine):
        raise EngineError(f"expected an engine of torch, got {engine.name}")
    parts, device = engine.load_parts(report)
    while True:
        wanted = asked.get()
        tell("progress", f"{wanted.part} is compiled beside")
        if not is_package(wanted.folder):
            with torch.no_grad():
                build_package(wanted.call(parts[wanted.part], device), wanted.folder)
        tell("made", wanted)


def _listen(source: IO[bytes], asked: "queue.LifoQueue[Wanted]") -> None:
    try:
        while True:
            asked.put(pickle.load(source))
    except (EOFError, OSError, pickle.UnpicklingError):
        os._exit(0)  # nobody waits any more


if __name__ == "__main__":
    main()
