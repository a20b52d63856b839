"""Programs in processes of their own: what is kept of them, how they end, what is said of it."""

import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

import dreamrelay
from dreamrelay.child import MODULE, Child
from dreamrelay.errors import EngineError
from tests.support import until

Make = Callable[..., Child]
POSIX = pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such signals")


@pytest.fixture
def make() -> Iterator[Make]:
    with ExitStack() as stack:

        def make(code: str, **options: Any) -> Child:
            child = Child("the child", [sys.executable, "-P", "-c", code], **options)
            stack.callback(child.end)
            return child

        yield make


WAITS = "import time; print('here 7', flush=True); time.sleep(600)"


def test_its_words_are_found(make: Make) -> None:
    child = make(f"print('a 1'); {WAITS}")
    assert child.find(r"here (\d)") == "7"
    assert child.find(r"a (\d)") == "1", "also those from before"
    child.check()
    assert child.code is None


def test_one_that_dies_before_says_why(make: Make) -> None:
    with pytest.raises(EngineError, match=r"the child ended with 2: no such model$"):
        make("print('no such model'); raise SystemExit(2)").find("live")


def test_one_that_takes_too_long_is_said(make: Make) -> None:
    child = make(WAITS)
    child.find("here (7)")
    with pytest.raises(EngineError, match="the child did not start in 0 s: here 7"):
        child.find("(live)", 0.05)


def test_the_reason_counts_more_than_what_was_said_last(make: Make) -> None:
    child = make(
        "import sys; sys.stderr.write('dreamrelay: no such model\\nleaked objects\\n\\n'); exit(1)",
        alone="dreamrelay worker",
    )
    until(lambda: child.code is not None)
    with pytest.raises(EngineError) as caught:
        child.check()
    expected = "the child ended with 1: no such model; alone it may say more: dreamrelay worker"
    assert str(caught.value) == expected


def test_one_that_says_nothing(make: Make) -> None:
    with pytest.raises(EngineError, match="ended with 0: it said nothing"):
        make("pass").find("live")


def test_lines_are_passed_on_but_the_one_that_is_told_anyway(make: Make) -> None:
    heard: list[str] = []
    child = make(r"print('10 %\r20 %'); print('dreamrelay: broken')", hear=heard.append)
    with pytest.raises(EngineError, match="broken"):
        child.find("live")
    assert heard == ["20 %"]


def test_bytes_that_are_no_text_are_kept(make: Make) -> None:
    child = make("import sys; sys.stdout.buffer.write(b'\\xff here 7\\n')")
    assert child.find(r"here (\d)") == "7"


@POSIX
def test_one_that_was_killed_is_called_so(make: Make) -> None:
    child = make(WAITS)
    child.kill()
    with pytest.raises(EngineError, match="the child was ended by SIGKILL"):
        child.check()
    child.end()


def test_the_end_is_polite(make: Make) -> None:
    child = make(WAITS)
    child.find("here (7)")
    child.end()
    assert child.code is not None
    child.end()


@POSIX
def test_one_that_does_not_listen_is_killed(make: Make) -> None:
    child = make(f"import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); {WAITS}")
    child.find("here (7)")
    child.end(0.05)
    assert child.code == -signal.SIGKILL


@POSIX
def test_one_that_stands_still_can_be_asked_to_end(make: Make) -> None:
    child = make(WAITS)
    child.find("here (7)")
    child.signal(signal.SIGSTOP)
    child.end()
    assert child.code == -signal.SIGTERM


def test_this_package_is_found_from_anywhere(
    make: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whether it is installed, and whatever lies in the working directory."""
    (tmp_path / "dreamrelay.py").write_text("raise SystemExit('not me')", encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    child = make("import dreamrelay; print('at', dreamrelay.__file__)")
    assert Path(child.find("at (.+)")) == Path(str(dreamrelay.__file__))
    assert "-P" in MODULE


def test_its_settings_are_its_flags_alone(
    make: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever has a relay with a token and TLS sees the same demo as anybody."""
    settings = '[relay]\ntls = "auto"\ntoken = "in the file"\n'
    (tmp_path / "dreamrelay.toml").write_text(settings, encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DREAMRELAY_RELAY_TOKEN", "in the environment")
    monkeypatch.setenv("DREAMRELAY_CACHE", "here")
    code = """
import os
from dreamrelay.config import RelaySettings
print(os.environ["DREAMRELAY_CACHE"], RelaySettings.load() == RelaySettings())
"""
    assert make(code).find("(here .+)") == "here True"


def test_a_program_that_is_not_there() -> None:
    with pytest.raises(OSError, match="no-such-program"):
        Child("the child", ["/no-such-program"])
