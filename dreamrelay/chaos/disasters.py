"""What may happen to a show, and how long a viewer may be without a new picture then."""

import sys
from collections.abc import Callable
from dataclasses import dataclass

import av

from dreamrelay.chaos.show import BLOCK, HOLD_SECONDS, Show, freeze, kill, thaw
from dreamrelay.errors import DeviceError, EngineError

CUT_SECONDS = 3.0
LONG_CUT_SECONDS = 8.0
"""So long that both ends give the connection up."""
FROZEN_SECONDS = 5.0
DISK_BYTES = 60_000
HOUR = 3600.0
NEW_SECONDS = 60.0
"""For a process to start and to be at its work."""


@dataclass(frozen=True, slots=True)
class Disaster:
    """One of them.

    Attributes:
        name: for flags and tests.
        text: for people.
        bound: seconds; the longest time without a new picture that is promised.
        strike: has it happen, and the damage repaired.
        why_not: why it cannot be here, or nothing.
    """

    name: str
    text: str
    bound: float
    strike: Callable[[Show], None]
    why_not: str = ""


def _one_killed(show: Show) -> None:
    kill(show.workers[0])
    show.wait(1.5)
    _new_worker(show, 0)


def _one_frozen(show: Show) -> None:
    freeze(show.workers[0])
    show.wait(FROZEN_SECONDS)
    thaw(show.workers[0])


def _all_killed(show: Show) -> None:
    for worker in show.workers:
        kill(worker)
    show.until(show.stands_in, "the camera's pictures in place of results", NEW_SECONDS)
    show.wait(1.0)
    for place in (0, 1):
        _new_worker(show, place)


def _all_frozen(show: Show) -> None:
    for worker in show.workers:
        freeze(worker)
    show.wait(FROZEN_SECONDS)
    for worker in show.workers:
        thaw(worker)


def _replaced(show: Show) -> None:
    old = show.workers
    new = show.start_worker(0, "--replace=True")
    show.until(
        lambda: all(worker.poll() is not None for worker in old), "those replaced", NEW_SECONDS
    )
    codes = [worker.poll() for worker in old]
    if any(codes):
        raise EngineError(f"those who were replaced ended with {codes}, expected 0")
    show.workers = [new]
    _new_worker(show, 1)


def _cable_of_a_worker(show: Show) -> None:
    show.cables[0].pull()
    show.wait(LONG_CUT_SECONDS)
    show.cables[0].plug()


def _cable_of_the_camera(show: Show) -> None:
    show.cables[2].pull()
    show.wait(CUT_SECONDS)
    show.cables[2].plug()


def _camera_killed(show: Show) -> None:
    kill(show.camera)
    show.wait(1.0)
    show.camera = show.start_camera()


def _relay_killed(show: Show) -> None:
    kill(show.relay)
    show.relay = show.start_relay()
    show.until(lambda: show.audience.status.get("workers") == 2, "the workers", NEW_SECONDS)


def _disk_full(show: Show) -> None:
    video, others = show.folder / "show.mp4", show.workers
    # It takes over, or the two others would leave it nothing to do.
    flags = (f"--sink=record://{video}", "--replace=True")
    recording = show.start_worker(0, *flags, limit=DISK_BYTES)
    show.workers = [recording]
    show.until(lambda: all(other.poll() is not None for other in others), "its turn", NEW_SECONDS)
    show.until(
        lambda: "recording" in str(show.audience.status.get("text")),
        "the status that the disk is full",
        NEW_SECONDS,
    )
    show.wait(1.0)
    _new_worker(show, 1)
    recording.terminate()
    recording.wait(NEW_SECONDS)
    _new_worker(show, 0)
    pictures = _playable(str(video))
    if not pictures:
        raise DeviceError("nothing of what was recorded before the disk was full can be played")


def _clock_steps(show: Show) -> None:
    clock = show.folder / "clock"
    try:
        for off in (HOUR, -HOUR):
            show.audience.ages_ms.clear()
            clock.write_text(str(off), encoding="utf-8")
            show.wait(2.5)
            if any(age < 0 for age in show.audience.ages_ms):
                raise EngineError(f"the relay told an age below 0: {show.audience.ages_ms}")
    finally:
        clock.unlink(missing_ok=True)


def _new_worker(show: Show, place: int) -> None:
    others = [w for at, w in enumerate(show.workers) if at != place and w.poll() is None]
    show.until(
        lambda: show.audience.status.get("workers") == len(others), "those who left", NEW_SECONDS
    )
    new = show.start_worker(place)
    if place < len(show.workers):
        show.workers[place] = new
    else:
        show.workers.append(new)
    at_it = sum(worker.poll() is None for worker in show.workers)
    show.until(lambda: show.audience.status.get("workers") == at_it, "a new worker", NEW_SECONDS)
    show.until(show.flows, "results", NEW_SECONDS)


def _playable(name: str) -> int:
    """How many pictures of a video can be decoded."""
    count = 0
    try:
        with av.open(name) as container:
            for _ in container.decode(video=0):
                count += 1
    except (OSError, av.FFmpegError):
        return count  # cut off in the middle of one
    return count


_STILL = "" if BLOCK is not None else "no process can be made to stand still here"
_SMALL = "files cannot be limited here" if sys.platform == "win32" else ""

DISASTERS: tuple[Disaster, ...] = (
    Disaster("kill", "one of two workers is killed", 2.0, _one_killed),
    Disaster("freeze", "one of two workers stands still", 3.0, _one_frozen, _STILL),
    Disaster("kill-all", "both workers are killed", HOLD_SECONDS + 1.5, _all_killed),
    Disaster("freeze-all", "both workers stand still", 4.0, _all_frozen, _STILL),
    Disaster("replace", "a new worker replaces both", 2.0, _replaced),
    Disaster("cable", "a worker's cable is out for 8 s", 3.0, _cable_of_a_worker),
    Disaster("camera-cable", "the camera's cable is out for 3 s", 5.0, _cable_of_the_camera),
    Disaster("camera", "the camera's program is killed", 5.0, _camera_killed),
    Disaster("disk", "the disk is full while one records", 3.0, _disk_full, _SMALL),
    Disaster("clock", "the relay's clock steps by an hour", 2.0, _clock_steps),
    Disaster("relay", "the relay is killed and started", 15.0, _relay_killed),
)
"""Bounds are for a machine that has time for all of these programs."""
