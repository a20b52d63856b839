"""Compiling in a second process, while this one serves the plain form.

torch's tracers replace ``nn.Module.__call__`` for the whole process while they look at a model, and
a frame that is computed meanwhile fails. So a process of its own (:mod:`build_process`) loads the
same model and compiles; this one takes what it made (:mod:`packages`) between two frames, in
milliseconds. When all is built that was asked for, the second process ends and its memory is free.

Whatever goes wrong there is a notice here, and the plain form goes on.
"""

import logging
import os
import pickle
import shutil
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Hashable, Sequence
from pathlib import Path
from typing import Any

from dreamrelay.child import MODULE, start_child, there
from dreamrelay.engines.accelerate import Acceleration, Call, Flat, Part, owned
from dreamrelay.engines.packages import Wanted, anatomy, inductor, is_package, load_package, wanted
from dreamrelay.engines.ports import EngineSettings, Progress, Report
from dreamrelay.errors import ConfigError

logger = logging.getLogger(__name__)

PATIENCE = 10.0
"""Seconds that the second process has to end."""

MOST_WAITING = 8
"""Forms that wait at once: of a size that is drawn with the mouse, the newest are of interest."""

WARMUPS = ("auto", "background", "start")

Hear = Callable[[str, Any], None]
"""What the second process says: ``progress`` and a text, ``made`` and a :class:`Wanted`, ``failed``
and a text, ``gone`` and how it ended. From a thread of its own."""


def builds_beside(warmup: str) -> bool:
    """What ``compile_warmup`` stands for here.

    Raises:
        ConfigError: it is something else than ``auto``, ``background`` and ``start``.
    """
    if warmup not in WARMUPS:
        expected = ", ".join(WARMUPS)
        raise ConfigError(f"compile_warmup: expected one of {expected}, got {warmup!r}")
    # Libraries of inductor's are known to load everywhere there; elsewhere it is asked for by name.
    return warmup == "background" or (warmup == "auto" and sys.platform == "linux")


class BuiltBeside(Acceleration):
    """Forms are built in a second process and taken over between two frames.

    Args:
        name: of the acceleration.
        place: folder of the packages; they serve the next start too.
        facts: all that a package depends on beside the part and its arguments.
        start: begins the second process.
        last: what is made of a package's form here, in the thread of the frames (a CUDA graph).
    """

    def __init__(
        self,
        name: str,
        place: Path,
        facts: Sequence[str],
        start: "Callable[[Hear], Helper]",
        last: Callable[[Call, Flat], Flat] = lambda call, form: form,
    ) -> None:
        super().__init__(name, build=None)
        self._place, self._facts, self._start, self._last = place, facts, start, last
        self._asked: dict[Path, tuple[Part, Hashable, Call]] = {}
        self._anatomies: dict[str, str] = {}
        self._made: deque[tuple[Part, Hashable, Call, Flat]] = deque()
        self._last_of_all: deque[tuple[Part, Hashable, Call, Flat]] = deque()
        """What is made of other parts, once these are there."""

        self._helper: Helper | None = None
        self._began = 0.0
        self._doing = self._trouble = ""
        inductor()  # now, for it takes seconds; later a frame would wait

    def over(
        self, name: str, run: Callable[..., Any], *, of_parts: bool = False
    ) -> Callable[..., Any]:
        return self._part(name, run, of_parts)

    @property
    def notice(self) -> str:
        if self._trouble:
            return self._trouble
        if self._helper is None:
            return ""
        seconds = int(time.monotonic() - self._began) // 5 * 5
        return f"{self.name}: {self._doing}, {seconds} s; until then it is slower"

    def want(self, part: Part, key: Hashable, call: Call) -> None:
        if not self._open:
            return
        if part.of_parts:
            self._last_of_all.append((part, key, owned(call), call.flat))
            return
        if part.name not in self._anatomies:
            self._anatomies[part.name] = anatomy(call)
        ask = wanted(call, (self._anatomies[part.name], *self._facts), self._place)
        self._asked[ask.folder] = part, key, owned(call)
        if is_package(ask.folder):
            self._load(ask)
            return
        self._send(ask)
        if len(self._asked) > MOST_WAITING:
            oldest = next(iter(self._asked))
            gone, its_key, _ = self._asked.pop(oldest)
            gone.forget(its_key)

    def _send(self, ask: Wanted) -> None:
        try:
            if self._helper is None:
                self._began, self._doing = time.monotonic(), "a second process starts"
                self._helper = self._start(self._hear)
            self._helper.ask(ask)
        except OSError as error:
            self._give_up(f"no second process can be started ({error})")

    def _hear(self, kind: str, what: Any) -> None:
        if kind == "progress":
            self._doing = str(what)
        elif kind == "made":
            self._load(what)
        elif self._open:
            self._give_up(str(what))

    def _give_up(self, why: str) -> None:
        self._open = False
        self._trouble = f"{self.name}: {why}; pictures go on without, more slowly"
        logger.warning("%s", self._trouble)

    def _load(self, made: Wanted) -> None:
        """From the disk; in the thread that hears of it, so that no frame waits."""
        asked = self._asked.pop(made.folder, None)
        if asked is None:
            return
        part, key, call = asked
        try:
            self._made.append((part, key, call, load_package(call, made.folder)))
        except (OSError, RuntimeError, ValueError, KeyError) as error:
            text = " ".join(str(error).split())[:200]
            logger.warning("%s: what was built of %s is of no use (%s)", self.name, part.name, text)
            shutil.rmtree(made.folder, ignore_errors=True)  # it is built anew at the next start

    def finish(self, report: Report) -> None:
        """Take what was built at an earlier start; nobody waits for the rest."""
        while self._made:
            report(Progress("compiling", f"{self.name}: kept from an earlier start"))
            self.between_frames()

    def between_frames(self) -> None:
        """Take over one form that was built; from the thread of the frames, within its mode."""
        if not self._made and not self._asked and self._last_of_all:
            self._made.append(self._last_of_all.pop())
        if self._made:
            part, key, call, form = self._made.popleft()
            began = time.perf_counter()
            form = self._last(call, form)
            form(call.leaves)  # what libraries do at their first call is done now
            part.ready[key] = form
            took = 1000 * (time.perf_counter() - began)
            logger.info(
                "%s: %s is fast from now on (frames waited %.0f ms)", self.name, part.name, took
            )
        if self._helper is not None and not (self._asked and self._open) and not self._made:
            self._helper.dismiss()
            self._helper = None

    @property
    def building(self) -> bool:
        """Whether the second process is at work."""
        return self._helper is not None

    def close(self) -> None:
        super().close()
        self._asked.clear()
        self._made.clear()
        self._last_of_all.clear()
        if self._helper is not None:
            self._helper.dismiss()
            self._helper = None


class Helper:
    """The second process, as this one sees it.

    Args:
        settings: of the engine whose parts are built.
        hear: what it says; the last is ``gone``, unless it was dismissed.
    """

    def __init__(self, settings: EngineSettings, hear: Hear, module: str = "") -> None:
        self._hear = hear
        self._dismissed = False
        self._failed = False
        self._process = start_child(
            [*MODULE, module or "dreamrelay.engines.build_process"],
            errors=subprocess.DEVNULL,  # compilers talk; what matters comes as a message
            environ=_environment(),
            yielding=True,
        )
        self._writing = threading.Lock()
        self._listener = threading.Thread(target=self._listen, name="builder", daemon=True)
        self._listener.start()
        self._send(settings)

    def ask(self, wanted: Wanted) -> None:
        """Have a form built; the newest is next."""
        self._send(wanted)

    def _send(self, thing: Any) -> None:
        data = pickle.dumps(thing)
        with self._writing:
            there(self._process.stdin).write(data)
            there(self._process.stdin).flush()

    def dismiss(self) -> None:
        """End it, whatever it is at; idempotent."""
        self._dismissed = True
        self._process.terminate()
        try:
            self._process.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._listener.join(PATIENCE)
        for pipe in (self._process.stdin, self._process.stdout):
            there(pipe).close()

    def _listen(self) -> None:
        out = there(self._process.stdout)
        while not self._failed:
            try:
                kind, what = pickle.load(out)
            except (EOFError, pickle.UnpicklingError, OSError, ValueError):
                break
            self._failed = kind == "failed"
            if not self._dismissed:
                self._hear(kind, what)
        code = self._process.wait()
        if not self._dismissed and not self._failed:
            lack = " (is memory short?)" if code in (-9, 137) else ""
            self._hear("gone", f"the second process ended with {code}{lack}")


def _environment() -> dict[str, str]:
    """It finds all that this process finds, wherever that came from."""
    # Compilers take what is left, and leave a core to the frames.
    threads = str(max(1, (os.cpu_count() or 2) - 1))
    return {
        "PYTHONPATH": os.pathsep.join(path for path in sys.path if path),
        "TORCHINDUCTOR_COMPILE_THREADS": os.environ.get("TORCHINDUCTOR_COMPILE_THREADS", threads),
    }
