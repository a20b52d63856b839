"""Start processes of our own: here is what all need alike to find this package and to be left alone
by the console. Standard library only.

``start_child`` is for those that are spoken to through pipes, each in its own way: the window,
speech, the builder. A ``Child`` is a whole program that nobody speaks to: what it says is kept, and
when it dies, it is known why.
"""

import os
import re
import signal
import subprocess
import sys
import threading
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import IO

from dreamrelay.errors import EngineError

MODULE = (sys.executable, "-P", "-m")
"""Begins a child's command line. ``-P``: a file of the working directory must not stand in for a
module.
"""
PROGRAM = (*MODULE, "dreamrelay")
"""Begins the command line of a program: ``[*PROGRAM, "relay", "--port=0"]``."""

SETTINGS = re.compile(r"DREAMRELAY_(RELAY|WORKER|PRODUCER|BRIDGE)_", re.IGNORECASE)
"""Begins variables that are settings of a program."""

FATAL = "dreamrelay: "
"""Begins the line with which a program of ours says what it ends of."""

KEPT_LINES = 200
START_SECONDS = 60.0
END_SECONDS = 10.0
LISTEN_SECONDS = 2.0
"""Its last words may be on their way when a program has ended; another may hold its output open."""


def _without_settings(environ: Mapping[str, str]) -> dict[str, str]:
    """An environment in which a program of ours has the settings of its flags alone."""
    kept = {name: value for name, value in environ.items() if not SETTINGS.match(name)}
    return {**kept, "DREAMRELAY_CONFIG": os.devnull}


def start_child(
    program: Sequence[str],
    *,
    errors: int | None = None,
    environ: Mapping[str, str] | None = None,
    pass_fds: Sequence[int] = (),
    yielding: bool = False,
) -> "subprocess.Popen[bytes]":
    """Start a child with pipes to its standard input and output.

    Args:
        program: what to run, with its arguments.
        errors: where its standard error goes, as ``subprocess`` has it; None: where ours does.
        environ: variables that are other than ours.
        pass_fds: descriptors that it inherits, where there are such.
        yielding: on Windows it gets the processor after others; elsewhere it is its own affair.

    Raises:
        OSError: the program cannot be run.
    """
    return subprocess.Popen(
        program,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=errors,
        env={**os.environ, **_python_path(), **(environ or {})},
        pass_fds=pass_fds,
        creationflags=_creation_flags(yielding),
    )


def there(pipe: IO[bytes] | None) -> IO[bytes]:
    """A pipe that the child was started with."""
    if pipe is None:
        raise AssertionError("the child was started with pipes")
    return pipe


class Child:
    """A program in a process of its own, until :meth:`end`; any thread may ask it anything.

    If it is one of ours, its flags say all: it reads no ``dreamrelay.toml`` and no settings of the
    environment, so it is the same in every folder.

    Args:
        name: for people, ``the relay``.
        command: what to run.
        alone: how a person would start it to see more of what is wrong; said when it has died.
        hear: is given each line as it comes, in a thread of ours; not the one that it ends with.

    Raises:
        OSError: it cannot be run.
    """

    def __init__(
        self,
        name: str,
        command: Sequence[str],
        *,
        alone: str = "",
        hear: Callable[[str], None] | None = None,
    ) -> None:
        self.name = name
        self._alone = alone
        self._hear = hear
        self._lines: deque[str] = deque(maxlen=KEPT_LINES)
        self._news = threading.Condition()
        self._silent = False
        self._process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env={**_without_settings(os.environ), **_python_path()},
            creationflags=_apart(),
        )
        self._reader = threading.Thread(target=self._read, name=name, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        with there(self._process.stdout) as lines:
            for line in lines:
                # Of a bar that overwrites itself the last state.
                text = line.decode(errors="replace").rstrip().rpartition("\r")[2]
                with self._news:
                    self._lines.append(text)
                    self._news.notify_all()
                if self._hear is not None and not text.startswith(FATAL):
                    self._hear(text)
        with self._news:
            self._silent = True
            self._news.notify_all()

    # -- how it is --------------------------------------------------------------------------------

    @property
    def code(self) -> int | None:
        """What it ended with; None: it lives."""
        return self._process.poll()

    @property
    def pid(self) -> int:
        """Of its process."""
        return self._process.pid

    @property
    def last_words(self) -> str:
        """What it says that it ended of, or else the last line that it has said."""
        with self._news:
            said = [line.strip() for line in self._lines if line.strip()]
        fatal = [line.removeprefix(FATAL) for line in said if line.startswith(FATAL)]
        return (fatal or said or ["it said nothing"])[-1]

    def find(self, pattern: str, seconds: float = START_SECONDS) -> str:
        """Wait for a line that matches, and return the match's first group.

        Raises:
            EngineError: it has ended without such a line, or takes too long.
        """

        def found() -> list[re.Match[str]]:
            return [match for line in self._lines if (match := re.search(pattern, line))]

        with self._news:
            self._news.wait_for(lambda: found() or self._silent, seconds)
            if matches := found():
                return matches[0][1]
        self.check(LISTEN_SECONDS if self._silent else 0)
        raise EngineError(f"{self.name} did not start in {seconds:.0f} s: {self.last_words}")

    def check(self, seconds: float = 0) -> None:
        """Do nothing if it lives, and still does after so many seconds.

        Raises:
            EngineError: it has ended; says with what, why, and how to see more.
        """
        try:
            self._process.wait(seconds)
        except subprocess.TimeoutExpired:
            return
        self._reader.join(LISTEN_SECONDS)
        advice = f"; alone it may say more: {self._alone}" if self._alone else ""
        raise EngineError(f"{self.name} {self._ending()}: {self.last_words}{advice}")

    def _ending(self) -> str:
        code = self.code
        if code is None or code >= 0:
            return f"ended with {code}"
        try:
            return f"was ended by {signal.Signals(-code).name}"
        except ValueError:
            return f"was ended by signal {-code}"

    # -- what is done to it -----------------------------------------------------------------------

    def signal(self, number: int) -> None:
        """Send a signal, if it lives."""
        self._process.send_signal(number)

    def ask_to_end(self) -> None:
        """Politely, and without waiting for it."""
        if self.code is not None:
            return
        if sys.platform == "win32":
            try:
                self.signal(signal.CTRL_BREAK_EVENT)
            except OSError:  # we have no console ourselves
                self._process.terminate()
            return
        self._process.terminate()
        self.signal(signal.SIGCONT)  # one that stands still hears nothing

    def kill(self) -> None:
        """``kill -9``."""
        self._process.kill()
        self._process.wait()
        self._reader.join(LISTEN_SECONDS)

    def end(self, seconds: float = END_SECONDS) -> None:
        """End it politely, after so many seconds hard; idempotent."""
        self.ask_to_end()
        try:
            self._process.wait(seconds)
        except subprocess.TimeoutExpired:
            self.kill()
        self._reader.join(LISTEN_SECONDS)


def _python_path() -> dict[str, str]:
    """With the folder of this package, where a checkout runs without being installed."""
    root = Path(__file__).parents[1]
    if root.name in ("site-packages", "dist-packages"):
        return {}
    paths = [str(root), os.environ.get("PYTHONPATH", "")]
    return {"PYTHONPATH": os.pathsep.join(filter(None, paths))}


def _creation_flags(yielding: bool) -> int:
    # Without a console of its own, Ctrl-C in the parent's console would reach the child too.
    if sys.platform == "win32":
        later = subprocess.BELOW_NORMAL_PRIORITY_CLASS if yielding else 0
        return subprocess.CREATE_NO_WINDOW | later
    return 0


def _apart() -> int:
    # Ctrl-C does not reach a group of its own, and Ctrl-Break can be sent to it: there is no other
    # way to ask a program to end there.
    if sys.platform == "win32":
        return subprocess.CREATE_NEW_PROCESS_GROUP
    return 0
