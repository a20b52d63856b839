"""Engines on the card at hand: full-size models, every acceleration, beside others' programs.

``python -m benchmarks engines --json benchmarks/results/engines.json`` measures; ``python -m
benchmarks.engines_report`` writes what was kept into ``docs/performance.md``.

On a CUDA card the models have their full size, in half precision; elsewhere small ones go through
the same code. Contenders share a model's modules. They take turns, a few frames each, and each
keeps its quickest frame. What must be built first comes last, for it takes minutes: when the time
is over, what is left says so; and so does what cannot run.

The floor of a frame is the longer of two: its operations over what the card computes at most, and
the weights over what its memory delivers. What is known of a card goes first (``CARDS``), else it
is what this machine does in a large product and a large copy.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from statistics import median
from typing import Any

import numpy as np
import torch

from benchmarks import worker
from benchmarks.contenders import Case, Contender, prepare, quick, slow
from benchmarks.full_models import FULL, build, describe, flops, forms, weights
from dreamrelay.codec import Frame
from dreamrelay.engines.devices import Device, choose_device, free_memory, use_cores_sparingly
from dreamrelay.engines.ports import Progress
from dreamrelay.errors import ClosedError, DreamRelayError

CARDS: Mapping[str, tuple[float, float]] = {
    "NVIDIA H200": (790e12, 4.3e12),
    "NVIDIA GeForce RTX 4090": (165e12, 1.01e12),
}
"""Operations a second in half precision, summed in full; bytes a second of the memory."""

SIZES, SMALL_SIZES = (512, 256), (128, 64)
SECONDS, SMALL_SECONDS = 480.0, 60.0

TURN = 0.4
"""Seconds of a contender's turn, about."""

LOOK = 0.3
"""Seconds to find out how fast the machine multiplies, or copies."""

WARM_UP = 3
MOST = 200
"""Frames before the first turn, and of a turn at most."""

PIPELINE_ROUNDS = 2
PIPELINE_SECONDS = 2.0

TOO_LATE = "no time left: more --seconds"

FAILURES = (
    *(DreamRelayError, RuntimeError, TypeError, ValueError, LookupError),
    *(AttributeError, ImportError, OSError, MemoryError),
)
"""What a contender may end with that cannot run here."""

Say = Callable[[str], None]


@dataclass
class Lane:
    """What a contender did so far: seconds of its frames; of a frame in each turn, the CPU's
    seconds and the bytes that it took on the card beside all that lies there.
    """

    seconds: list[float] = field(default_factory=list)
    cpu: list[float] = field(default_factory=list)
    bytes: list[int] = field(default_factory=list)


@dataclass
class Record:
    """What is known of a model at a size."""

    name: str
    size: int
    gflop: float
    weight_bytes: int
    floor: float
    lanes: dict[str, Lane] = field(default_factory=dict)
    absent: dict[str, str] = field(default_factory=dict)
    pipeline: dict[str, float] = field(default_factory=dict)

    def figures(self) -> dict[str, Any]:
        """As JSON has it."""
        late = {name: TOO_LATE for name, lane in self.lanes.items() if not lane.seconds}
        return {
            "gflop": round(self.gflop, 3),
            "weights_mb": round(self.weight_bytes / 1e6, 1),
            "floor_ms": float(f"{1000 * self.floor:.4g}"),
            "contenders": {
                name: {
                    "fps": float(f"{1 / min(lane.seconds):.4g}"),
                    "fps_median": float(f"{1 / median(lane.seconds):.4g}"),
                    "cpu_ms": round(1000 * min(lane.cpu), 2),
                    "mb": round(max(lane.bytes) / 1e6) if lane.bytes else None,
                }
                for name, lane in self.lanes.items()
                if lane.seconds
            },
            "absent": {**late, **self.absent},
            "pipeline": self.pipeline,
        }


class Clock:
    """The time that there is for all of it."""

    def __init__(self, seconds: float) -> None:
        self._end = time.monotonic() + seconds

    @property
    def over(self) -> bool:
        """Whether nothing new is to be begun."""
        return time.monotonic() > self._end

    def report(self, progress: Progress) -> None:
        """Hear of an engine's loading, and stop it when the time is over."""
        if self.over:
            raise ClosedError(TOO_LATE)


def measure(
    rounds: int,
    *,
    models: Sequence[str] = tuple(FULL),
    sizes: Sequence[int] = (),
    seconds: float | None = None,
    thorough: bool = True,
    say: Say = print,
) -> dict[str, Any]:
    """The figures of every model and size.

    Args:
        sizes: pixels of a side; none: those that suit the device. The worker is measured at the
            first of them.
        seconds: when they are over nothing new is begun; None: what suits the device.
        thorough: False: only what is ready at once, neither what is built nor the worker.
    """
    device = choose_device("auto")
    if device.torch.type == "cpu":
        use_cores_sparingly()
    full = forms(device) is FULL
    sizes = sizes or (SIZES if full else SMALL_SIZES)
    clock = Clock(seconds or (SECONDS if full else SMALL_SECONDS))
    speed = card_speed(device)
    records = [_record(name, size, device, speed["floor"]) for size in sizes for name in models]

    def race(names: Sequence[str]) -> None:
        for record in records:
            _race(record, names, device, rounds, clock, say)
            free_memory()

    race(quick(device))
    if thorough:
        for record in records[: len(models)]:
            _through_worker(record, clock, say)
        race(slow(device))
    return {
        "full": full,
        "rounds": rounds,
        "device": device.name,
        "precision": str(device.dtype).removeprefix("torch."),
        "card": _card(device),
        "speed": speed,
        "cases": {_title(record, device): record.figures() for record in records},
    }


def _record(name: str, size: int, device: Device, speed: Sequence[float]) -> Record:
    form = forms(device)[name]
    operations = flops(form, size)
    learnt = weights(*describe(form).per_frame) * device.dtype.itemsize
    floor = max(operations / speed[0], learnt / speed[1])
    return Record(name, size, operations / 1e9, learnt, floor)


def _title(record: Record, device: Device) -> str:
    return f"{forms(device)[record.name].title}, {record.size} x {record.size}"


# Turns -------------------------------------------------------------------------------------------


def _race(
    record: Record, names: Sequence[str], device: Device, rounds: int, clock: Clock, say: Say
) -> None:
    """Let contenders take turns, until the rounds or the time are over."""
    lanes = {name: record.lanes.setdefault(name, Lane()) for name in names}
    if clock.over:
        return
    form = forms(device)[record.name]
    case = Case(record.name, form, build(form, device), record.size, device)
    random = np.random.default_rng(3)
    frames = [
        random.integers(0, 256, (record.size, record.size, 3), dtype=np.uint8) for _ in range(4)
    ]
    ready: dict[str, tuple[Contender, int]] = {}
    for name in names:
        say(f"engines, {_title(record, device)}: {name}")
        try:
            contender = prepare(name, case, clock.report)
            warm = _turn(contender, frames, WARM_UP, device)
        except FAILURES as error:
            record.absent[name] = _line(error)
        else:
            count = int(TURN / min(warm.seconds))
            ready[name] = contender, max(WARM_UP, min(MOST, count))
    for number in range(rounds):
        if clock.over:
            break
        for name, (contender, count) in list(ready.items()):
            try:
                turn = _turn(contender, frames, count, device)
            except FAILURES as error:
                record.absent[name] = _line(error)
                del ready[name]
                continue
            lanes[name].seconds += turn.seconds
            lanes[name].cpu += turn.cpu
            lanes[name].bytes += turn.bytes
        say(f"engines, {_title(record, device)}: round {number + 1} of {rounds}")
    for contender, _ in ready.values():
        contender.close()


def _turn(contender: Contender, frames: Sequence[Frame], count: int, device: Device) -> Lane:
    on_card = device.torch.type == "cuda"
    lane = Lane()
    if on_card:
        torch.cuda.reset_peak_memory_stats()
        held = torch.cuda.memory_allocated()
    began_cpu = time.process_time()
    for number in range(count):
        began = time.perf_counter()
        contender.paint(frames[number % len(frames)])
        lane.seconds.append(time.perf_counter() - began)
    lane.cpu.append((time.process_time() - began_cpu) / count)
    if on_card:
        lane.bytes.append(torch.cuda.max_memory_allocated() - held)
    return lane


def _line(error: BaseException) -> str:
    return " ".join(str(error).split())[:200] or type(error).__name__


def _through_worker(record: Record, clock: Clock, say: Say) -> None:
    """The whole worker round the engine, pictures in and out as JPEG through a relay."""
    if clock.over:
        return
    name = f"built:{record.name}:{record.size}"
    try:
        found = worker.measure_engine(name, PIPELINE_ROUNDS, PIPELINE_SECONDS, say)
    except FAILURES as error:
        record.absent["the whole worker"] = _line(error)
        return
    kept = ("alone", "worker", "alone_mean", "worker_mean")
    record.pipeline = {key: float(f"{found[key]:.4g}") for key in kept}


# The card ----------------------------------------------------------------------------------------


def card_speed(device: Device) -> dict[str, Any]:
    """Operations and bytes a second: measured, and those that the floors are made of."""
    on_card = device.torch.type == "cuda"
    side, size = (8192, 2**30) if on_card else (256, 2**24)
    factor = torch.rand(side, side, device=device.torch).to(device.dtype)
    source = torch.zeros(size, dtype=torch.uint8, device=device.torch)
    goal = torch.empty_like(source)
    rates = (
        2 * side**3 / _least_seconds(lambda: factor @ factor, on_card),
        2 * size / _least_seconds(lambda: goal.copy_(source), on_card),  # read and written
    )
    measured = [float(f"{rate:.3g}") for rate in rates]
    known = CARDS.get(torch.cuda.get_device_name(device.torch)) if on_card else None
    return {"measured": measured, "floor": list(known or measured), "known": known is not None}


def _least_seconds(work: Callable[[], Any], on_card: bool) -> float:
    taken: list[float] = []
    end = time.perf_counter() + LOOK
    while len(taken) < 3 or time.perf_counter() < end:
        if on_card:
            torch.cuda.synchronize()
        began = time.perf_counter()
        work()
        if on_card:
            torch.cuda.synchronize()
        taken.append(time.perf_counter() - began)
    return min(taken)


def _card(device: Device) -> dict[str, Any] | None:
    if device.torch.type != "cuda":
        return None
    about = torch.cuda.get_device_properties(device.torch)
    return {
        "name": about.name,
        "memory_gb": round(about.total_memory / 1e9, 1),
        "capability": f"{about.major}.{about.minor}",
        "cuda": torch.version.cuda,
    }
