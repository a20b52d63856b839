"""The pocket model: how fast it is, how soon it is there, and what it obeys.

Speed: every contender is a process of its own that paints whole frames through the engine port when
told to. They take turns in every round, one at a time, and each keeps its quickest frame; other
work on the machine can only add to that. Obedience: see ``training/measure.py``; it asks the engine
that a worker would choose.
"""

import contextlib
import json
import time
from collections.abc import Mapping, Sequence
from functools import partial
from statistics import median
from subprocess import Popen
from typing import Any

from benchmarks.pocket_process import CONTENDERS, load
from benchmarks.processes import process
from training.measure import Say, ask_engine, measure_all, paint_engine

SIZES: Mapping[int, int] = {256: 6, 512: 2}
"""Pixels of a side, and frames of a contender in a round."""

THREADS = (2, 1)
FIRST = "torch"
STARTS = 3


def measure_speed(
    rounds: int,
    *,
    contenders: Sequence[str] = tuple(CONTENDERS)[:-1],
    sizes: Mapping[int, int] = SIZES,
    threads: Sequence[int] = THREADS,
    model: str = "pocket",
    say: Say = print,
) -> dict[str, Any]:
    """Frames per second and ratios, for each size and number of threads."""
    runs = {}
    for size, frames in sizes.items():
        for count in threads:
            run = f"{size} x {size}, {count} thread{'s' if count > 1 else ''}"
            with contextlib.ExitStack() as stack:
                children = {
                    name: stack.enter_context(_child(name, size, count, model))
                    for name in contenders
                }
                runs[run] = _race(children, rounds, frames, partial(_say, say, run))
    return {"rounds": rounds, "runs": runs}


def _race(children: Mapping[str, Popen[str]], rounds: int, frames: int, say: Say) -> dict[str, Any]:
    devices, absent = {}, {}
    for name, child in children.items():
        hello = _read(child)
        if hello["ready"] and not _is_another(name, hello["device"]):
            devices[name] = hello["device"]
        else:
            absent[name] = hello.get("why", "this processor has no bfloat16")
    seconds: dict[str, list[float]] = {name: [] for name in devices}
    for number in range(rounds):
        for name, taken in seconds.items():
            taken += _paint(children[name], frames)
        say(f"round {number + 1} of {rounds}")
    best = {name: min(taken) for name, taken in seconds.items()}
    return {
        "devices": devices,
        "absent": absent,
        "fps": {name: round(1 / taken, 2) for name, taken in best.items()},
        "fps_median": {name: round(1 / median(taken), 2) for name, taken in seconds.items()},
        "ratios": {
            f"{name} / {FIRST}": round(best[FIRST] / taken, 2)
            for name, taken in best.items()
            if FIRST in best and name != FIRST
        },
    }


def _say(say: Say, run: str, text: str) -> None:
    say(f"pocket, {run}: {text}")


def _is_another(name: str, device: str) -> bool:
    """Whether a contender came out as another one: OpenVINO without bfloat16, say."""
    return name.startswith("OpenVINO") and name not in device


def measure_start(
    *,
    names: Sequence[str] = ("auto", FIRST),
    starts: int = STARTS,
    model: str = "pocket",
    say: Say = print,
) -> dict[str, float]:
    """Seconds from the start of a process to its first picture of 256 x 256, the least of some."""
    seconds: dict[str, list[float]] = {name: [] for name in names}
    for number in range(starts):
        for name in names:
            began = time.perf_counter()
            with _child(name, 256, 2, model) as child:
                if _read(child)["ready"]:
                    seconds[name].append(time.perf_counter() - began)
            say(f"pocket, start of {name}: {number + 1} of {starts}")
    return {name: round(min(taken), 2) for name, taken in seconds.items() if taken}


def measure_obedience(
    model: str = "pocket", *, joint: int = 60, say: Say = print
) -> tuple[dict[str, Any], str]:
    """All of ``training/measure.py`` through the engine that a worker would choose.

    Returns:
        The figures as JSON would have them, and as tables.
    """
    engine = load("auto", 256, model)
    try:
        figures = measure_all(paint_engine(engine), ask=ask_engine(engine), joint=joint, say=say)
    finally:
        engine.close()
    return {"engine": f"{engine.name}, {engine.device_name}", **figures.to_json()}, figures.table()


def _child(
    name: str, size: int, threads: int, model: str
) -> contextlib.AbstractContextManager[Popen[str]]:
    arguments = ("-m", "benchmarks.pocket_process", name, str(size), model)
    return process(*arguments, OMP_NUM_THREADS=str(threads))


def _paint(child: Popen[str], frames: int) -> list[float]:
    assert child.stdin is not None
    print(frames, file=child.stdin, flush=True)
    seconds: list[float] = _read(child)["seconds"]
    return seconds


def _read(child: Popen[str]) -> dict[str, Any]:
    assert child.stdout is not None
    for line in child.stdout:
        if line.startswith("{"):
            fields: dict[str, Any] = json.loads(line)
            return fields
    raise RuntimeError("the pocket model under measurement ended")
