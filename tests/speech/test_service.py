"""The engine's own process: started late, one request at a time, ended with its parent."""

import asyncio
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from dreamrelay.errors import (
    ClosedError,
    ConfigError,
    EngineError,
    LimitError,
    MissingExtra,
    ProtocolError,
)
from dreamrelay.speech import NotReady, SpeechService
from dreamrelay.speech.service import MOST_WAITING
from tests.speech.sounds import tone, wav
from tests.speech.tiny_whisper import make_tiny_whisper
from tests.support import ROOT, until

CHILD = (sys.executable, str(Path(__file__).parent / "fake_child.py"))


class Services:
    def __init__(self, stack: ExitStack) -> None:
        self._stack = stack

    def __call__(self, manner: str = "well", **options: Any) -> SpeechService:
        service = SpeechService(f"whisper:{manner}", program=CHILD, **options)
        self._stack.callback(service.close)
        return service


@pytest.fixture
def make() -> Iterator[Services]:
    with ExitStack() as stack:
        yield Services(stack)


def pid_of(service: SpeechService, data: bytes = b"x") -> int:
    return int(service.hear(data).text.split()[-1])


def test_nothing_runs_before_somebody_speaks(make: Services) -> None:
    service = make()
    assert service.status()["state"] == "idle"
    heard = service.hear(b"hello", ("oil", "gold"))
    assert heard.text.startswith("hello oil gold ")
    assert heard.confidence == 0.5
    assert service.status() == {"state": "ready", "text": "", "fraction": None, "engine": "fake"}


def test_one_process_serves_all(make: Services) -> None:
    service = make()
    assert pid_of(service) == pid_of(service)


async def test_many_at_once_are_taken_in_turn(make: Services) -> None:
    service = make()
    said = [f"word{number}" for number in range(MOST_WAITING)]
    heard = await asyncio.gather(*(service.transcribe(word.encode()) for word in said))
    assert [one.text.split()[0] for one in heard] == said


async def test_too_many_are_told_so(make: Services) -> None:
    service = make("loading", loading_seconds=30)
    waiting = [asyncio.ensure_future(service.transcribe(b"x")) for _ in range(MOST_WAITING)]
    await asyncio.sleep(0)
    with pytest.raises(LimitError, match="too many speak at once"):
        await service.transcribe(b"one more")
    await asyncio.to_thread(service.close)
    done = await asyncio.gather(*waiting, return_exceptions=True)
    assert all(isinstance(one, EngineError | ClosedError | asyncio.CancelledError) for one in done)


async def test_who_does_not_wait_any_more_is_not_counted(make: Services) -> None:
    service = make()
    for _ in range(2):
        waiting = [asyncio.ensure_future(service.transcribe(b"x")) for _ in range(MOST_WAITING)]
        await asyncio.sleep(0)
        for one in waiting:
            one.cancel()
        await asyncio.gather(*waiting, return_exceptions=True)
        await asyncio.to_thread(until, lambda: not service.busy)
    assert (await service.transcribe(b"hello")).text.startswith("hello")


def test_a_bad_recording_costs_itself_alone(make: Services) -> None:
    service = make()
    pid = pid_of(service)
    with pytest.raises(ProtocolError, match="the recording is broken"):
        service.hear(b"broken")
    assert pid_of(service) == pid


def test_while_it_loads_the_text_says_how_far(make: Services) -> None:
    service = make("loading", loading_seconds=0.3)
    service.warm()
    until(lambda: service.status()["fraction"])
    assert service.status() == {
        "state": "loading",
        "text": "downloading fake, 3 of 480 MB",
        "fraction": 0.00625,
        "engine": "fake",
    }
    with pytest.raises(NotReady, match=r"not ready yet \(downloading fake, 3 of 480 MB\)"):
        service.hear(b"x")
    # and the loading goes on
    assert service.status()["state"] == "loading"


def test_what_is_not_installed_is_said_each_time(make: Services) -> None:
    service = make("missing")
    for _ in range(2):
        with pytest.raises(MissingExtra, match=r'Whisper .*pip install "dreamrelay\[speech\]"'):
            service.hear(b"x")
    assert service.status()["state"] == "failed"


def test_without_its_packages_the_process_ends_in_peace() -> None:
    start = (
        "import runpy, sys; sys.modules['pocketsphinx'] = None;"
        "sys.argv = ['speech', '--engine=offline'];"
        "runpy.run_module('dreamrelay.speech', run_name='__main__')"
    )
    pipe = subprocess.PIPE
    child = subprocess.Popen(
        [sys.executable, "-c", start], cwd=ROOT, stdin=pipe, stdout=pipe, stderr=pipe
    )
    with child:
        assert child.stdout is not None
        assert child.stderr is not None
        assert child.wait(60) == 1  # though its input is open
        assert b"dreamrelay[voice]" in child.stdout.read()
        assert child.stderr.read() == b""


def test_a_process_that_dies_is_replaced(make: Services) -> None:
    service = make()
    pid = pid_of(service)
    with pytest.raises(EngineError, match="ended with 3"):
        service.hear(b"die")
    assert pid_of(service) != pid


def test_a_process_that_hangs_is_killed_and_replaced(make: Services) -> None:
    service = make(answer_seconds=0.5)
    with pytest.raises(EngineError, match=r"not understood within 0\.5 s"):
        service.hear(b"hang")
    assert service.status()["state"] == "failed"
    assert pid_of(service)


def test_what_a_library_prints_hurts_nobody(make: Services) -> None:
    assert pid_of(make("chatty"))


def test_closing_ends_the_process_and_whoever_waits(make: Services) -> None:
    service = make("loading", loading_seconds=60)
    errors: list[Exception] = []

    def speak() -> None:
        try:
            service.hear(b"x")
        except (EngineError, ClosedError) as error:
            errors.append(error)

    speaker = threading.Thread(target=speak)
    speaker.start()
    until(lambda: service.status()["fraction"])
    service.close()
    service.close()
    speaker.join(10)
    assert len(errors) == 1
    with pytest.raises(ClosedError):
        service.hear(b"x")


def test_off_is_off() -> None:
    service = SpeechService("off")
    assert not service.enabled
    assert service.status()["state"] == "off"
    with pytest.raises(ConfigError, match="--speech=auto"):
        service.hear(b"x")
    with pytest.raises(ConfigError, match="--speech=auto"):
        service.warm()
    service.close()


@pytest.mark.parametrize("name", ["", "on", "whisper:", "offline:x", "sphinx"])
def test_names_that_mean_nothing(name: str) -> None:
    with pytest.raises(ConfigError, match="speech: expected off, auto, offline"):
        SpeechService(name)


def test_a_program_that_is_not_there() -> None:
    service = SpeechService("auto", program=("/there/is/none",))
    with pytest.raises(EngineError, match="cannot be started"):
        service.hear(b"x")
    service.close()


def test_the_real_process_with_a_real_model_stores_nothing(tmp_path: Path) -> None:
    """Whatever folder a library may want to write to stays as it was."""
    model = make_tiny_whisper(tmp_path / "model")
    places = {name: tmp_path / name for name in ("home", "temporary", "cache")}
    for place in places.values():
        place.mkdir()
    before = snapshot(tmp_path)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HOME", str(places["home"]))
        patch.setenv("USERPROFILE", str(places["home"]))
        patch.setenv("XDG_CACHE_HOME", str(places["cache"]))
        for name in ("TMPDIR", "TEMP", "TMP"):
            patch.setenv(name, str(places["temporary"]))
        patch.chdir(tmp_path)
        service = SpeechService(f"whisper:{model}", loading_seconds=120, answer_seconds=120)
        try:
            heard = service.hear(wav(tone(440, 0.5, 16_000), 16_000))
            assert heard.seconds == pytest.approx(0.5, abs=0.01)
            with pytest.raises(ProtocolError, match="expected a recording"):
                service.hear(b"no sound")
        finally:
            service.close()
    assert snapshot(tmp_path) == before


def test_the_real_process_ends_with_its_parent(tmp_path: Path) -> None:
    """Also while it loads: standard input's end is the sign."""
    process = subprocess.Popen(
        [sys.executable, "-m", "dreamrelay.speech", "--engine=offline"],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    assert process.stdin is not None
    assert process.stdout is not None
    with process.stdout:
        process.stdin.close()
        assert process.wait(60) == 0


def snapshot(folder: Path) -> dict[str, int]:
    return {
        str(path.relative_to(folder)): path.stat().st_size
        for path in folder.rglob("*")
        if path.is_file()
    }
