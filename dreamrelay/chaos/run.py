"""One disaster after the other, a table of what was seen, and whether it was within its bounds."""

import os
import platform
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import orjson

from dreamrelay import __version__
from dreamrelay.chaos.disasters import DISASTERS, Disaster
from dreamrelay.chaos.show import FPS, LIGHT, Show
from dreamrelay.config import DemoSettings
from dreamrelay.errors import ClosedError, ConfigError, DreamRelayError

BACK_SECONDS = 30.0
"""For results to come at their usual rate again."""
AFTERWARDS = 1.0
CALM_SECONDS = 2.0
"""Before a disaster, to see what is usual. Nothing happens then: the one before is over when
results have come at their rate for a second, and after ``AFTERWARDS``.
"""
HEAD = ("disaster", "longest gap", "bound", "full rate after", "disordered", "verdict")
UNUSED = ("duration", "port", "source", "prompt", "fps", "browser", "viewer")
"""Settings of the demo that disasters have no use for."""


@dataclass(frozen=True, slots=True)
class Row:
    """What was seen of a disaster.

    Attributes:
        gap, bound, back: seconds; ``back`` None: the usual rate did not come again.
        start: seconds that a program took to start then; the bound has it in it.
        disordered: pictures that came after a newer one, or twice.
        trouble: what else went wrong, or why it was left out.
        verdict: ``held``, ``broken`` or ``left out``.
    """

    disaster: str
    text: str
    gap: float
    bound: float
    start: float
    back: float | None
    disordered: int
    trouble: str
    verdict: str


def run_chaos(settings: DemoSettings, say: Callable[[str], None], stopped: threading.Event) -> int:
    """Run the show and its disasters; 0 if what is promised was kept, 1 if not, 130 if it was
    stopped before all of them had happened.

    Raises:
        ConfigError: there is no such disaster.
        EngineError: the show did not even begin.
    """
    known = [disaster.name for disaster in DISASTERS]
    if unknown := set(settings.only) - set(known):
        raise ConfigError(f"--only: expected names out of {', '.join(known)}, got {min(unknown)}")
    # The model of the demo is for people to look at; here it would only take the time.
    model = settings.model if "model" in settings.model_fields_set else LIGHT
    rows: list[Row] = []
    whole = False
    tell = (lambda _: None) if settings.as_json else say
    try:
        tell(f"dreamrelay {__version__}: relay, two workers ({model}), camera; a viewer measures")
        if unused := [f"--{name}" for name in UNUSED if name in settings.model_fields_set]:
            tell(f"  not used with --chaos: {', '.join(unused)}")
        with Show(model, stopped) as show:
            tell(f"  {show.usual:.1f} results a second while nothing happens")
            for disaster in DISASTERS:
                if not settings.only or disaster.name in settings.only:
                    tell(f"  {disaster.text} ...")
                    rows.append(_strike(show, disaster))
        whole = True
    except ClosedError:
        tell("stopped")
    if settings.as_json:
        say(as_json(model, rows, whole=whole))
    elif rows:
        say(as_text(rows))
    if not whole:
        return 130
    return 1 if any(row.verdict == "broken" for row in rows) else 0


def _strike(show: Show, disaster: Disaster) -> Row:
    """Have it happen, wait until all is as before, and look back."""
    if disaster.why_not:
        return Row(disaster.name, disaster.text, 0, 0, 0, None, 0, disaster.why_not, "left out")
    audience, trouble = show.audience, ""
    begin = repaired = time.monotonic()
    back: float | None = None
    try:
        show.complete()  # without those whom the last one left behind
        begin = time.monotonic()
        # The machine may be busier by now, and busier still afterwards: the least is usual.
        show.usual = min(show.usual, audience.rate(begin - CALM_SECONDS, begin))
        disaster.strike(show)
        repaired = time.monotonic()
        while back is None and time.monotonic() - repaired < BACK_SECONDS:
            show.wait(0.2)
            back = audience.back_at(show.usual, repaired, time.monotonic())
        show.wait(AFTERWARDS)
    except ClosedError:
        raise
    except DreamRelayError as error:
        trouble = str(error)
    end = time.monotonic()
    gap, disordered = audience.longest_gap(begin, end), audience.out_of_order(begin, end)
    start = show.start_seconds
    bound = disaster.bound(start)
    kept = gap <= bound and not disordered and not trouble and back is not None
    return Row(
        disaster.name,
        disaster.text,
        round(gap, 2),
        round(bound, 2),
        round(start, 2),
        None if back is None else round(back - repaired, 1),
        disordered,
        trouble,
        "held" if kept else "broken",
    )


# -- for people and programs ----------------------------------------------------------------------


def machine() -> dict[str, Any]:
    """Where it was measured."""
    return {
        "system": platform.platform(terse=True),
        "processors": os.cpu_count(),
        "python": platform.python_version(),
        "dreamrelay": __version__,
    }


def as_json(model: str, rows: Sequence[Row], *, whole: bool) -> str:
    """All of it for programs; ``whole``: nobody has stopped it before the end."""
    about = {"machine": machine(), "model": model, "fps": FPS, "whole": whole}
    found = {**about, "rows": [asdict(row) for row in rows]}
    return orjson.dumps(found, option=orjson.OPT_INDENT_2).decode()


def as_text(rows: Sequence[Row]) -> str:
    """The table."""
    lines = [HEAD, *(_cells(row) for row in rows)]
    widths = [max(len(line[at]) for line in lines) for at in range(len(HEAD))]
    text = "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip()
        for line in lines
    )
    troubles = [f"{row.text}: {row.trouble}" for row in rows if row.trouble]
    starts = [row.start for row in rows if row.start]
    slow = [f"a program took {min(starts):.1f} to {max(starts):.1f} s to start"] if starts else []
    about = ", ".join([*slow, *(f"{name} {value}" for name, value in machine().items())])
    return "\n".join((text, *troubles, about))


def _cells(row: Row) -> tuple[str, ...]:
    if row.verdict == "left out":
        return (row.text, "-", "-", "-", "-", row.verdict)
    back = "never" if row.back is None else f"{row.back:.1f} s"
    gap, bound = f"{row.gap:.2f} s", f"{row.bound:.1f} s"
    return (row.text, gap, bound, back, str(row.disordered), row.verdict)
