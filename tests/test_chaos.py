"""The disasters of ``dreamrelay demo --chaos``: how they are measured, and a few of them."""

import json
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from dreamrelay import cli
from dreamrelay.chaos import run, show
from dreamrelay.chaos.audience import Audience
from dreamrelay.chaos.cable import Cable
from dreamrelay.chaos.disasters import DISASTERS, Disaster, take_over
from dreamrelay.child import Child
from dreamrelay.config import DemoSettings
from dreamrelay.errors import ConfigError, EngineError
from dreamrelay.packet import Packet
from tests.support import ROOT, picture, until

# -- who measures ---------------------------------------------------------------------------------


def audience(monkeypatch: pytest.MonkeyPatch, *seen: tuple[float, int, bool]) -> Audience:
    """One that saw these pictures: when, which number, whether it stood in for a result."""
    watching = Audience()
    watching.opened({})
    for at, seq, stand_in in seen:
        monkeypatch.setattr("dreamrelay.chaos.audience.time.monotonic", lambda at=at: at)
        packet = Packet.of(picture(), seq=seq).but(stand_in=stand_in)
        watching.received(packet, "output")
    return watching


def test_a_gap_begins_with_the_picture_that_was_there(monkeypatch: pytest.MonkeyPatch) -> None:
    watching = audience(monkeypatch, (1.0, 1, False), (5.0, 2, False), (5.5, 3, False))
    assert watching.longest_gap(3.0, 6.0) == 4.0
    assert watching.longest_gap(5.2, 8.0) == 2.5
    assert Audience().longest_gap(1.0, 3.0) == 2.0


def test_what_stands_in_ends_a_gap_and_is_no_result(monkeypatch: pytest.MonkeyPatch) -> None:
    watching = audience(monkeypatch, (1.0, 1, False), (2.0, 2, True), (3.0, 3, False))
    assert watching.longest_gap(1.0, 3.0) == 1.0
    assert watching.rate(0.0, 4.0) == 0.5


@pytest.mark.parametrize(
    ("second", "wrong"),
    [((2.0, 2, False), 0), ((2.0, 1, False), 1), ((2.0, 0, False), 1), ((2.0, 0, True), 1)],
)
def test_order(monkeypatch: pytest.MonkeyPatch, second: Any, wrong: int) -> None:
    assert audience(monkeypatch, (1.0, 1, False), second).out_of_order(0, 9) == wrong


def test_the_result_of_an_input_that_was_shown_itself_is_no_duplicate(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert audience(monkeypatch, (1.0, 1, True), (2.0, 1, False)).out_of_order(0, 9) == 0


def test_a_relay_that_was_started_anew_counts_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    watching = audience(monkeypatch, (1.0, 100, False))
    watching.opened({})
    watching.received(Packet.of(picture(), seq=1), "output")
    assert watching.out_of_order(0, 9) == 0


def test_full_rate_is_back_when_a_second_of_it_has_come(monkeypatch: pytest.MonkeyPatch) -> None:
    tenths = [(3.0 + n / 10, n, False) for n in range(1, 30)]
    watching = audience(monkeypatch, (1.0, 0, False), *tenths)
    back = watching.back_at(10.0, 1.0, 6.0)
    assert back is not None
    assert 2.7 <= back <= 3.2
    assert watching.back_at(10.0, 1.0, 3.5) is None
    assert watching.back_at(50.0, 1.0, 6.0) is None


# -- the cable ------------------------------------------------------------------------------------


@contextmanager
def echo() -> Iterator[int]:
    """A port that says everything back."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            try:
                while True:
                    connection, _ = listener.accept()
                    threading.Thread(target=say_back, args=(connection,), daemon=True).start()
            except OSError:
                return

        def say_back(connection: socket.socket) -> None:
            with connection:
                while data := connection.recv(1000):
                    connection.sendall(data)

        threading.Thread(target=serve, daemon=True).start()
        yield int(listener.getsockname()[1])


def test_a_pulled_cable_passes_nothing_and_says_nothing() -> None:
    with (
        echo() as port,
        Cable(port) as cable,
        socket.create_connection(("127.0.0.1", cable.port), timeout=30) as end,
    ):
        end.sendall(b"one")
        assert end.recv(10) == b"one"
        cable.pull()
        end.settimeout(0.3)
        end.sendall(b"two")
        with pytest.raises(TimeoutError):
            end.recv(10)
        end.settimeout(30)
        cable.plug()
        assert end.recv(10) == b"two"


def test_a_cable_to_nowhere_ends_the_connection() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = int(listener.getsockname()[1])
    with Cable(port) as cable, socket.create_connection(("127.0.0.1", cable.port), 30) as end:
        end.settimeout(30)
        with pytest.raises((ConnectionResetError, AssertionError)):
            assert end.recv(10)


# -- the run --------------------------------------------------------------------------------------


def lines_of(settings: DemoSettings) -> tuple[int, list[str]]:
    lines: list[str] = []
    return run.run_chaos(settings, lines.append, threading.Event()), lines


def test_two_disasters_with_real_processes(monkeypatch: pytest.MonkeyPatch) -> None:
    """A worker is killed, and the other one replaced; for the rest there is the command."""

    def both(playing: show.Show) -> None:
        playing.kill(playing.workers[1])
        playing.until(lambda: playing.audience.workers == 1, "one to be gone")
        playing.until(playing.flows, "results of the other")
        take_over(playing)
        playing.until(playing.flows, "results of the new one")

    for name in ("BACK_SECONDS", "AFTERWARDS"):
        monkeypatch.setattr(run, name, 0.0)
    monkeypatch.setattr(show, "CALM_SECONDS", 0.5)
    monkeypatch.setattr(run, "DISASTERS", (Disaster("both", "one after the other", 1.0, both),))
    code, lines = lines_of(DemoSettings(as_json=True))
    (text,) = lines
    found = json.loads(text)
    assert found["whole"]
    (row,) = found["rows"]
    assert row["trouble"] == ""
    assert row["disordered"] == 0
    assert row["gap"] > 0
    assert row["bound"] == pytest.approx(1.0 + row["start"], abs=0.02)
    assert code == (row["verdict"] != "held")


def test_a_disaster_that_cannot_be_had_is_refused_before_anything_starts() -> None:
    with pytest.raises(ConfigError, match=r"--only: .*kill-all.*got fire"):
        lines_of(DemoSettings.load({"only": "kill,fire"}))


def test_bounds_know_how_slow_a_machine_is() -> None:
    bounds = {disaster.name: disaster.bound(4.0) for disaster in DISASTERS}
    assert bounds["kill"] == 4.5
    assert bounds["relay"] == 10.5, "its start, and that of those who come back"


def asleep(name: str, _: list[str], alone: str) -> Child:
    return Child(name, [sys.executable, "-c", "import time; time.sleep(600)"], alone=alone)


def test_who_is_missing_is_started_and_nobody_else(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(show, "Child", asleep)
    monkeypatch.setattr(show, "_listens", lambda _: True)
    monkeypatch.setattr(show.Show, "flows", lambda _: True)
    monkeypatch.setattr(show, "CALM_SECONDS", 0.0)
    counted: list[int] = []

    class Counting(Audience):
        @property
        def workers(self) -> int:
            alive = sum(worker.code is None for worker in getattr(playing, "workers", ()))
            counted.append(alive)
            return alive if playing.relay.code is None else 0

    monkeypatch.setattr(show, "Audience", Counting)
    playing = show.Show("light", threading.Event())
    with playing:
        before = [playing.relay, playing.camera, *playing.workers]
        playing.complete()
        assert [playing.relay, playing.camera, *playing.workers] == before
        for child in (playing.relay, playing.camera, playing.workers[1]):
            playing.kill(child)
        playing.complete()
        after = [playing.relay, playing.camera, *playing.workers]
        assert [one is other for one, other in zip(before, after, strict=True)] == [
            False,
            False,
            True,
            False,
        ]
        assert all(child.code is None for child in after)
        assert 1 in counted, "it is seen that one has left before another one comes"
        assert playing.start_seconds > 0
        after[3].kill()  # by somebody else
        with pytest.raises(EngineError, match=r"the second worker .*ended"):
            playing.wait(0)
        playing.complete()
        playing.wait(0)
        last = playing.workers[1]
    assert all(child.code is not None for child in [*before, *after, last])


class Calm(show.Show):
    """A show in which nothing runs."""

    def __enter__(self) -> show.Show:
        self.usual = 1.0
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def wait(self, seconds: float) -> None:
        pass

    def complete(self) -> None:
        pass


def fails(_: show.Show) -> None:
    raise EngineError("nobody came")


@pytest.mark.parametrize(
    ("disaster", "verdict", "code"),
    [
        (Disaster("a", "a flood", 1.0, fails), "broken", 1),
        (Disaster("a", "a flood", 1.0, fails, "no water here"), "left out", 0),
    ],
)
def test_what_is_broken_or_left_out_is_said(
    monkeypatch: pytest.MonkeyPatch, disaster: Disaster, verdict: str, code: int
) -> None:
    monkeypatch.setattr(run, "DISASTERS", (disaster,))
    monkeypatch.setattr(run, "Show", Calm)
    got, lines = lines_of(DemoSettings())
    assert got == code
    table = lines[-1]
    assert verdict in table
    assert "a flood: " + (disaster.why_not or "nobody came") in table
    assert "processors" in table


def test_settings_that_are_not_used_are_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run, "DISASTERS", ())
    monkeypatch.setattr(run, "Show", Calm)
    _, lines = lines_of(DemoSettings.load({"duration": "5", "model": "pocket", "fps": "10"}))
    assert "  not used with --chaos: --duration, --fps" in lines


@pytest.mark.parametrize("flags", [{"duration": "-1"}, {"model": ""}, {"only": "[kill"}])
def test_flags_that_make_no_sense(flags: dict[str, str]) -> None:
    (name,) = flags
    with pytest.raises(ConfigError, match=f"--{name}"):
        DemoSettings.load({"chaos": "True", **flags})


class Named:
    """What the command line found to run."""

    def __init__(self, name: str, heard: list[str]) -> None:
        self._name = name
        self._heard = heard

    def load(self) -> Any:
        def program(settings: DemoSettings, *_: object) -> int:
            self._heard.append(f"{self._name} {settings.as_json}")
            return 1

        return program


@pytest.mark.parametrize(
    ("words", "heard"),
    [([], "demo False"), (["--chaos"], "chaos False"), (["--chaos", "--json"], "chaos True")],
)
def test_the_command_line_knows_it(
    monkeypatch: pytest.MonkeyPatch, words: list[str], heard: str
) -> None:
    found: list[str] = []
    for name in ("demo", "chaos"):
        monkeypatch.setitem(cli.PROGRAMS, name, Named(name, found))
    with pytest.raises(SystemExit) as ended:
        cli.run("demo", words)
    assert (ended.value.code, found) == (1, [heard])


def test_names_are_unlike() -> None:
    names = [disaster.name for disaster in DISASTERS]
    assert len(set(names)) == len(names)
    assert all(disaster.wait > 0 for disaster in DISASTERS)


def test_the_programs_take_what_the_command_line_takes() -> None:
    words = ["-m", "dreamrelay.chaos.programs", "worker", "--engine=light", "--sink=nowhere://x"]
    done = subprocess.run(
        [sys.executable, *words, "--replace"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 2
    assert "nowhere" in done.stderr


def test_nobody_keeps_the_clock_that_was_there_before(tmp_path: Path) -> None:
    """A default, an attribute, a ``from time import time``: all have the clock that steps."""
    code = """
import gc, sys, time
real = time.time, time.time_ns
from pathlib import Path
from dreamrelay.chaos.programs import step_clock
assert not {"numpy", "asyncio", "dreamrelay.clock"} & set(sys.modules), "too late"
step_clock(Path(sys.argv[1]))
import dreamrelay.cli, dreamrelay.relay.app
for one in real:
    for keeper in gc.get_referrers(one):
        ours = keeper is real or keeper is globals() or type(keeper).__name__ == "cell"
        print("" if ours else keeper if type(keeper) is tuple else sorted(keeper)[:9])
"""
    clock = tmp_path / "clock"
    clock.write_text("3600", encoding="utf-8")
    done = subprocess.run(
        [sys.executable, "-c", code, str(clock)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == ""


def test_stopped_in_the_middle(monkeypatch: pytest.MonkeyPatch) -> None:
    stopped = threading.Event()
    stopped.set()
    lines: list[str] = []
    assert run.run_chaos(DemoSettings(), lines.append, stopped) == 130
    assert lines[1:] == ["stopped"], "without a table of nothing"


@pytest.mark.parametrize("stopped", [False, True])
def test_a_program_that_dies_at_its_start_is_told_with_its_reason(
    monkeypatch: pytest.MonkeyPatch, *, stopped: bool
) -> None:
    """At once; unless somebody has pressed Ctrl-C, which programs hear, too."""
    stop, begun = threading.Event(), list[Child]()

    def start(name: str, command: list[str], alone: str) -> Child:
        script = "import time; time.sleep(600)"
        if "worker" in command:
            script = "exit('dreamrelay: no such model')"
        begun.append(Child(name, [sys.executable, "-c", script], alone=alone))
        if stopped and "worker" in command:
            until(lambda: begun[-1].code is not None)
            stop.set()
        return begun[-1]

    monkeypatch.setattr(show, "Child", start)
    monkeypatch.setattr(show, "_listens", lambda _: True)
    lines: list[str] = []
    if stopped:
        assert run.run_chaos(DemoSettings(model="x"), lines.append, stop) == 130
    else:
        expected = r"the \w+ worker ended with 1: no such model; .* dreamrelay worker --model=x$"
        with pytest.raises(EngineError, match=expected):
            run.run_chaos(DemoSettings(model="x"), lines.append, stop)
    assert len(begun) == 4
    assert all(child.code is not None for child in begun), "nobody is left behind"
