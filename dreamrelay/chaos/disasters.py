"""What may happen to a show, and how long a viewer may be without a new picture then."""

import sys
from collections.abc import Callable
from dataclasses import dataclass

import av

from dreamrelay.chaos.show import BLOCK, HOLD_SECONDS, NEW_SECONDS, Show, freeze, thaw
from dreamrelay.errors import DeviceError, EngineError

CUT_SECONDS = 3.0
LONG_CUT_SECONDS = 8.0
"""So long that both ends give the connection up."""
FROZEN_SECONDS = 5.0
DISK_BYTES = 60_000
HOUR = 3600.0


@dataclass(frozen=True, slots=True)
class Disaster:
    """One of them.

    Attributes:
        name: for flags and tests.
        text: for people.
        wait: seconds until the others step in, by design, and half a second for themselves.
        strike: has it happen, and the damage repaired.
        why_not: why it cannot be here, or nothing.
        starts: of programs, that a viewer may have to wait for besides.
    """

    name: str
    text: str
    wait: float
    strike: Callable[[Show], None]
    why_not: str = ""
    starts: int = 1

    def bound(self, start_seconds: float) -> float:
        """The longest time without a new picture that is promised, seconds.

        Args:
            start_seconds: what a program takes to start. So long a machine may keep those who go on
                from their work: it does when another is started beside them, and a slow or a busy
                one does it longer than any number that could be written here.
        """
        return self.wait + self.starts * start_seconds


def _one_killed(show: Show) -> None:
    show.kill(show.workers[0])
    show.wait(1.5)
    show.complete()


def _one_frozen(show: Show) -> None:
    freeze(show.workers[0])
    show.wait(FROZEN_SECONDS)
    thaw(show.workers[0])


def _all_killed(show: Show) -> None:
    for worker in show.workers:
        show.kill(worker)
    show.until(show.stands_in, "the camera's pictures in place of results")
    show.wait(1.0)
    show.complete()


def _all_frozen(show: Show) -> None:
    for worker in show.workers:
        freeze(worker)
    show.wait(FROZEN_SECONDS)
    for worker in show.workers:
        thaw(worker)


def _replaced(show: Show) -> None:
    take_over(show)
    show.complete()


def take_over(show: Show, *flags: str, limit: int | None = None) -> None:
    """A new worker instead of both; see that they end well."""
    old = [worker for worker in show.workers if worker.code is None]
    show.may_end(*old)
    show.workers[0] = show.start_worker(0, *flags, "--replace", limit=limit)
    show.until(lambda: all(worker.code is not None for worker in old), "those replaced to end")
    for worker in old:
        if worker.code:
            worker.check()


def _cable_of_a_worker(show: Show) -> None:
    show.cables[0].pull()
    show.wait(LONG_CUT_SECONDS)
    show.cables[0].plug()


def _cable_of_the_camera(show: Show) -> None:
    show.cables[2].pull()
    show.wait(CUT_SECONDS)
    show.cables[2].plug()


def _camera_killed(show: Show) -> None:
    show.kill(show.camera)
    show.wait(1.0)
    show.complete()


def _relay_killed(show: Show) -> None:
    show.kill(show.relay)
    show.complete()


def _disk_full(show: Show) -> None:
    video = show.folder / "show.mp4"
    # It takes over, or the two others would leave it nothing to do.
    take_over(show, f"--sink=record://{video}", limit=DISK_BYTES)
    recording = show.workers[0]
    show.until(
        lambda: "recording" in str(show.audience.status.get("text")),
        "the status that the disk is full",
    )
    show.wait(1.0)
    show.complete()
    show.may_end(recording)
    recording.end(NEW_SECONDS)
    show.complete()
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
    Disaster("kill", "one of two workers is killed", 0.5, _one_killed),
    Disaster("freeze", "one of two workers stands still", 1.5, _one_frozen, _STILL),
    Disaster("kill-all", "both workers are killed", HOLD_SECONDS + 0.5, _all_killed),
    Disaster("freeze-all", "both workers stand still", HOLD_SECONDS + 1.5, _all_frozen, _STILL),
    Disaster("replace", "a new worker replaces both", 0.5, _replaced),
    Disaster("cable", "a worker's cable is out for 8 s", 1.5, _cable_of_a_worker),
    Disaster("camera-cable", "the camera's cable is out for 3 s", 3.0, _cable_of_the_camera),
    Disaster("camera", "the camera's program is killed", 3.0, _camera_killed),
    Disaster("disk", "the disk is full while one records", 1.0, _disk_full, _SMALL),
    Disaster("clock", "the relay's clock steps by an hour", 0.5, _clock_steps),
    Disaster("relay", "the relay is killed and started", 2.5, _relay_killed, starts=2),
)
