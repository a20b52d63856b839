"""The worker's window: what is shown in it, and what its keys switch in the worker.

Events are looked for by the worker's own thread; pictures come in the thread that hands them out,
which is also the one that writes the recording and ends it.
"""

import collections
import datetime
import logging
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dreamrelay.codec import Frame
from dreamrelay.errors import DreamRelayError, ProtocolError
from dreamrelay.media import open_sink
from dreamrelay.osc import Presets
from dreamrelay.osc.presets import all_but
from dreamrelay.schema import checked
from dreamrelay.stage import Outlet
from dreamrelay.viewer import (
    Closed,
    Opened,
    Painted,
    Preset,
    Record,
    Snapshot,
    Viewer,
    viewer_available,
)

logger = logging.getLogger(__name__)

FIRST_WAIT, LONGEST_WAIT = 1.0, 30.0
"""Seconds until a window that was lost is opened anew, and twice as long each time."""

KEPT_SEEN = 64
"""Painted pictures that are remembered until somebody asks."""

STATES = {"warming": "warming up"}
"""States of the worker whose name is not what people say."""

STEADY = 60.0
"""A window that stood so long was well: the next loss is a first one."""


@dataclass(frozen=True, slots=True)
class Take:
    """A recording under way."""

    path: Path
    outlet: Outlet


class Projection:
    """A window, and what is recorded and recalled by its keys.

    Args:
        presets: the file of the presets.
        change: brings values of parameters into force.
        values: those in force; empty until the engine has said what it takes.
        schema: what it takes.
        wake: has :meth:`renew` called soon by the thread that hands out pictures.
    """

    def __init__(
        self,
        viewer: Viewer,
        presets: Path,
        *,
        change: Callable[[dict[str, Any]], None],
        values: Callable[[], Mapping[str, Any]],
        schema: Callable[[], Mapping[str, Any]],
        wake: Callable[[], None],
    ) -> None:
        self.viewer = viewer
        self._presets = Presets(presets)
        self._change = change
        self._values = values
        self._schema = schema
        self._wake = wake
        self._take: Take | None = None
        self._ended: collections.deque[Take] = collections.deque()
        self._seen: collections.deque[tuple[float, float]] = collections.deque(maxlen=KEPT_SEEN)
        self._opened_at: float | None = None
        self._again_at: float | None = None
        self._wait = FIRST_WAIT

    @property
    def recording(self) -> Path | None:
        """The file that is recorded to."""
        return self._take.path if self._take else None

    # -- in the worker's own thread ---------------------------------------------------------------

    def look(self) -> bool:
        """Act on what was done in the window; True if the person closed it."""
        closed = False
        for event in self.viewer.events():
            match event:
                case Opened(problem):
                    self._opened_at = time.monotonic()
                    if problem:
                        logger.warning("--viewer_screen: %s", problem)
                case Closed(None):
                    closed, self._opened_at = True, None
                    if self._take is not None:
                        self._record()  # nobody could end it any more
                case Closed():
                    self._plan_again()
                case Painted(_, delay, age) if age >= 0:
                    self._seen.append((delay, age))
                case Snapshot(path, problem):
                    logger.info("snapshot %s: %s", path, problem or "saved")
                case Preset(number, save):
                    self._use_preset(str(number), save)
                case Record():
                    self._record()
        if self._again_at is not None and time.monotonic() >= self._again_at:
            self._open_again()
        return closed

    def seen(self) -> list[tuple[float, float]]:
        """The pictures painted since it was last asked: how long that took, and their age, ms."""
        seen = list(self._seen)
        self._seen.clear()
        return seen

    def explain(
        self, state: str, text: str, fraction: float | None, missing: Mapping[str, str]
    ) -> None:
        """Have the window say how the worker is, unless it is well; from any thread.

        Args:
            state: of the worker.
            text: more about that; while it is live, what is wrong.
            fraction: how far it is, 0 to 1.
            missing: by name what should be there and is not, and why; "": it is there.
        """
        reasons = [f"{name}: {why}" for name, why in missing.items() if why]
        if state != "live":
            text = f"{STATES.get(state, state)}: {text}" if text else STATES.get(state, state)
        if fraction is not None:
            text += f", {fraction:.0%}"
        self.viewer.status("; ".join([text, *reasons] if text else reasons))

    def close(self) -> None:
        """End the recording and close the window. The thread that hands out has ended."""
        if self._take is not None:
            self._record()
        self.renew()
        self.viewer.close()

    def _say(self, text: str) -> None:
        logger.info("%s", text)
        self.viewer.note(text)

    def _plan_again(self) -> None:
        """A window that has stood once is opened again: a display may come back."""
        if self._opened_at is None:
            return
        now = time.monotonic()
        if now - self._opened_at > STEADY:
            self._wait = FIRST_WAIT
        self._opened_at = now
        self._again_at = now + self._wait
        self._wait = min(LONGEST_WAIT, self._wait * 2)

    def _open_again(self) -> None:
        self._again_at = None
        problem = viewer_available()
        if problem is None:
            try:
                self.viewer.restart()
            except DreamRelayError as error:
                problem = str(error)
            else:
                logger.info("the window is opened again")
                return
        logger.debug("%s", problem)
        self._plan_again()

    def _use_preset(self, name: str, save: bool) -> None:
        try:
            known = dict(self._values())
            problems: dict[str, str] = {}
            if not known:
                raise ProtocolError(f"preset {name}: the engine has not said yet what it takes")
            if save:
                self._presets.save(name, known)
            else:
                kept, problems = self._presets.fitting(name, checked(self._schema()))
                self._change(kept)
        except DreamRelayError as error:
            self._say(str(error))
        else:
            done = " saved" if save else f" {all_but(problems)}" if problems else ""
            self._say(f"preset {name}{done}")

    def _record(self) -> None:
        if self._take is not None:
            self._ended.append(self._take)
            self._take = None
            self.viewer.recording(0)
            self._wake()
            return
        path = self.viewer.folder / f"dreamrelay-{datetime.datetime.now():%Y-%m-%d-%H%M%S}.mp4"
        url = path.as_uri().replace("file:", "record:", 1)
        try:
            outlet = Outlet(url, open_sink(url))
        except DreamRelayError as error:
            self._say(f"no recording: {error}")
            return
        self._take = Take(path, outlet)
        self.viewer.recording(time.time_ns())
        self._say(f"recording to {path.name}")

    # -- in the thread that hands out pictures ----------------------------------------------------

    def show(self, frame: Frame, info: Mapping[str, object]) -> None:
        """Show a picture, and record it if that is wanted."""
        if self.viewer.alive:
            self.viewer.show(frame, info=info)
        take = self._take
        if take is not None:
            before = take.outlet.trouble
            take.outlet.write(frame)
            if take.outlet.trouble != before:
                self._say(take.outlet.trouble or "recording again")
        self.renew()

    def renew(self) -> None:
        """Close a recording that was ended."""
        while self._ended:
            take = self._ended.popleft()
            take.outlet.close()
            there = take.path.exists()
            self._say(f"recorded to {take.path.name}" if there else "nothing was recorded")
