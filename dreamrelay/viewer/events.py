"""What the person did in the window, as the program that opened it hears it: one JSON line each."""

import json
from dataclasses import asdict, dataclass
from pathlib import Path

from dreamrelay.viewer.look import Look


@dataclass(frozen=True, slots=True)
class Opened:
    """The window is on the screen. ``problem``: why it is on another one than was asked for."""

    problem: str | None = None


@dataclass(frozen=True, slots=True)
class Closed:
    """The window has gone. ``lost``: None where the person closed it, else what happened."""

    lost: str | None = None


@dataclass(frozen=True, slots=True)
class Paused:
    """The picture was frozen, or goes on."""

    paused: bool


@dataclass(frozen=True, slots=True)
class Snapshot:
    """The picture was saved, or could not be (``error``)."""

    path: Path
    error: str | None = None


@dataclass(frozen=True, slots=True)
class Preset:
    """Preset ``number`` (1 to 9) is wanted, or the values in force shall be kept as it."""

    number: int
    save: bool = False


@dataclass(frozen=True, slots=True)
class Record:
    """A recording shall begin, or end if there is one."""


@dataclass(frozen=True, slots=True)
class Painted:
    """Picture ``seq`` is on the screen, so long after it was shown, and so old; -1 where nobody
    said when it was taken. Sent only with ``trace``.
    """

    seq: int
    delay_ms: float
    age_ms: float = -1.0


Event = Opened | Closed | Paused | Snapshot | Preset | Record | Painted | Look

KINDS: dict[str, type[Event]] = {
    kind.__name__.lower(): kind
    for kind in (Opened, Closed, Paused, Snapshot, Preset, Record, Painted, Look)
}


def to_line(event: Event) -> bytes:
    """Write an event as one line."""
    return (
        json.dumps({"event": type(event).__name__.lower(), **asdict(event)}, default=str).encode()
        + b"\n"
    )


def from_line(line: bytes) -> Event:
    """Read an event from one line.

    Raises:
        ValueError: the line holds none.
    """
    fields = json.loads(line)
    kind = KINDS.get(fields.pop("event", "")) if isinstance(fields, dict) else None
    if kind is None:
        raise ValueError(f"expected an event of the viewer, got {line[:80]!r}")
    if "path" in fields:
        fields["path"] = Path(fields["path"])
    try:
        return kind(**fields)
    except TypeError as error:
        raise ValueError(f"expected an event of the viewer, got {line[:80]!r}") from error
