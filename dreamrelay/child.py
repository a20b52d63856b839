"""Start a process of our own that is spoken to through pipes: the window, speech, the builder.

Each has its own way of talking; here is what they need alike to find this package and to be left
alone by the console. Standard library only.
"""

import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO

MODULE = (sys.executable, "-P", "-m")
"""Begins a child's command line. ``-P``: a file of the working directory must not stand in for a
module.
"""


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
