"""Presets: the values of all parameters under a number or a name, in one small JSON file.

Whoever recalls or saves one (OSC, the window's keys, another worker) finds what the others saved.

Where the file lies is the operator's choice; from OSC come names of presets only, and no name is
ever part of a path.
"""

import contextlib
import json
import logging
import os
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, BinaryIO

from dreamrelay.errors import DeviceError, ProtocolError
from dreamrelay.schema import ParameterSchema

logger = logging.getLogger(__name__)

MAX_PRESETS = 128
MAX_NAME = 64
MAX_BYTES = 2 * 1024 * 1024

LOCK_SECONDS = 2.0

_saving = threading.Lock()
"""Held from reading the file to replacing it, or of two who save one would be lost; between
programs, a file beside it is."""


def default_path(environ: Mapping[str, str] = os.environ, platform: str = sys.platform) -> Path:
    """Where a user's state lies on this system."""
    if platform == "win32":
        base = Path(environ.get("LOCALAPPDATA") or Path.home() / "AppData" / "Local")
    elif platform == "darwin":
        base = Path.home() / "Library" / "Application Support"
    else:
        base = Path(environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state")
    return base / "dreamrelay" / "presets.json"


def all_but(problems: Mapping[str, str]) -> str:
    """How a preset holds of which some values could not be taken."""
    return "holds but for " + "; ".join(f"{n}: {problem}" for n, problem in problems.items())


class Presets:
    """The presets of a file. It is read when one is asked for and it has changed."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._kept: dict[str, dict[str, Any]] | None = None
        self._version: tuple[int, int, int] | None = None

    def names(self) -> list[str]:
        return sorted(self._load(), key=lambda name: (not name.isdecimal(), name.zfill(8)))

    def recall(self, name: str) -> dict[str, Any]:
        """The values of a preset.

        Raises:
            ProtocolError: there is none of that name.
        """
        values = self._load().get(name)
        if values is None:
            known = ", ".join(self.names()[:12]) or "none yet"
            raise ProtocolError(f"no such preset: {name} (there are: {known})")
        return dict(values)

    def fitting(self, name: str, schema: ParameterSchema) -> tuple[dict[str, Any], dict[str, str]]:
        """The values of a preset that an engine takes, and what is wrong with the others.

        Parameters that it does not have are left out: another engine was saved.

        Raises:
            ProtocolError: there is none of that name.
        """
        values = {n: value for n, value in self.recall(name).items() if n in schema.names}
        problems = schema.problems(values)
        return {n: value for n, value in values.items() if n not in problems}, problems

    def save(self, name: str, values: Mapping[str, Any]) -> None:
        """Keep values under a name, over those that it had.

        Raises:
            ProtocolError: the name is none, or there are too many.
            DeviceError: the file cannot be read or written.
        """
        if not 0 < len(name) <= MAX_NAME or not name.isprintable():
            raise ProtocolError(f"expected a preset's name of 1 to {MAX_NAME} characters")
        with _saving, self._alone():
            kept = self._load()
            if name not in kept and len(kept) >= MAX_PRESETS:
                raise ProtocolError(
                    f"there are {MAX_PRESETS} presets already: save over one of them"
                )
            if kept.get(name) != dict(values):
                self._write({**kept, name: dict(values)})

    def _load(self) -> dict[str, dict[str, Any]]:
        version = self._version_now()
        if self._kept is None or version != self._version:
            self._kept, self._version = self._read(), version
        return self._kept

    def _version_now(self) -> tuple[int, int, int] | None:
        """Another file, another time or another size: somebody saved."""
        try:
            found = self.path.stat()
        except OSError:
            return None
        return found.st_ino, found.st_mtime_ns, found.st_size

    def _read(self) -> dict[str, dict[str, Any]]:
        try:
            if self.path.stat().st_size > MAX_BYTES:
                raise ValueError(f"larger than {MAX_BYTES} bytes")
            content = json.loads(self.path.read_text(encoding="utf-8"))
            presets = content["presets"]
            return {str(name): dict(values) for name, values in presets.items()}
        except FileNotFoundError:
            return {}
        except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            # It stays as it is: somebody may want to mend it.
            raise DeviceError(f"the presets cannot be read: {self.path}: {error}") from None

    @contextlib.contextmanager
    def _alone(self) -> Iterator[None]:
        """Until it is left, no other program saves to this file."""
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            beside = self.path.with_name(f"{self.path.name}.lock").open("ab")
        except OSError as error:
            raise self._unwritten(error) from None
        with beside:
            deadline = time.monotonic() + LOCK_SECONDS
            while not _locked(beside):
                if time.monotonic() > deadline:
                    raise self._unwritten("another program holds the file beside it")
                time.sleep(0.01)
            yield  # closing the file gives it free

    def _write(self, presets: Mapping[str, Any]) -> None:
        text = json.dumps({"version": 1, "presets": presets}, indent=1, ensure_ascii=False)
        beside = self.path.with_name(f"{self.path.name}.{os.getpid()}.new")
        try:
            with beside.open("w", encoding="utf-8") as file:
                file.write(text)
                file.flush()
                os.fsync(file.fileno())
            beside.replace(self.path)  # whole, so that no power cut leaves half a file
        except OSError as error:
            with contextlib.suppress(OSError):
                beside.unlink(missing_ok=True)  # the disk may be full of it
            raise self._unwritten(error) from None

    def _unwritten(self, why: object) -> DeviceError:
        return DeviceError(f"the presets cannot be written: {self.path}: {why}")


if sys.platform == "win32":
    import msvcrt

    def _locked(file: BinaryIO) -> bool:
        """Take a file for ourselves, if nobody has it."""
        try:
            msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)
        except OSError:
            return False
        return True

else:
    import fcntl

    def _locked(file: BinaryIO) -> bool:
        """Take a file for ourselves, if nobody has it."""
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        except OSError:  # a file system without locks: then it goes without
            return True
        return True
