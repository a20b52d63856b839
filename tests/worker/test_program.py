"""The worker as a program: loading, stopping, being started."""

import threading
from collections.abc import Callable

import pytest

from dreamrelay.config import RelaySettings, WorkerSettings
from dreamrelay.engines import Progress, Report
from dreamrelay.worker import Worker
from tests.fakes.engines import ScriptedEngine
from tests.fakes.peers import People, Person
from tests.fakes.relays import closed_port
from tests.fakes.workers import Work, is_live
from tests.support import Program, RunningRelay, picture, start_relay, until

# -- loading --------------------------------------------------------------------------------------


def test_progress_is_told_also_to_a_relay_that_comes_later(work: Work) -> None:
    may_warm, may_end = threading.Event(), threading.Event()
    reported = threading.Event()

    def load(report: Report) -> None:
        report(Progress("loading", "text encoder, 340 MB", 0.25))
        reported.set()
        may_warm.wait(60)
        report(Progress("warming", "two frames", None))
        may_end.wait(60)

    port = closed_port()
    work(f"ws://127.0.0.1:{port}", ScriptedEngine(on_load=load))
    assert reported.wait(30)
    with start_relay(RelaySettings(port=port)) as relay, People(relay.websocket) as people:
        viewer = people.viewer
        until(lambda: viewer.status.get("text") == "text encoder, 340 MB")
        assert (viewer.status["state"], viewer.status["fraction"]) == ("loading", 0.25)
        people.producer.send(picture(), 1)
        may_warm.set()
        until(lambda: viewer.status["state"] == "warming")
        may_end.set()
        is_live(viewer)
        people.producer.send(picture("red"), 2)
        until(lambda: viewer.results)


@pytest.mark.parametrize("when", ["loading", "running", "relay absent"])
def test_it_can_be_stopped_at_any_time(
    relay: RunningRelay, people: People, work: Work, when: str
) -> None:
    loading = threading.Event()

    def load(report: Report) -> None:
        loading.set()
        while when == "loading":
            report(Progress("loading", "and on", None))

    engine = ScriptedEngine(on_load=load)
    uri = f"ws://127.0.0.1:{closed_port()}" if when == "relay absent" else relay.websocket
    running = work(uri, engine)
    assert loading.wait(30)
    if when == "running":
        is_live(people.viewer)
        people.producer.send(picture(), 1)
        until(lambda: people.viewer.results)
    assert running.stop() is None
    assert engine.closed == 1


def test_one_that_was_stopped_before_it_ran_does_not_run(relay: RunningRelay) -> None:
    settings = WorkerSettings(websocket_uri=relay.websocket, osc_port=None, viewer="off")
    engine = ScriptedEngine()
    worker = Worker(settings, engine=engine)
    worker.stop()
    worker.run()
    assert engine.closed == 1
    assert engine.inferred == 0


# -- as a program ---------------------------------------------------------------------------------


def test_a_missing_model_is_one_line_and_exit_code_1(
    relay: RunningRelay, programs: Callable[..., Program]
) -> None:
    with Person(relay.websocket) as viewer:
        program = programs(
            "main.py",
            "--model=./no/such/model",
            f"--websocket-uri={relay.websocket}",
            "--osc_port=none",
            "--viewer=off",
            "--verbose=0",
        )
        assert program.wait(150) == 1
        until(lambda: viewer.status.get("state") == "lost")
        assert "no/such/model" in viewer.status["text"]
    (line,) = program.lines
    assert line.startswith("dreamrelay: ")
    assert "no/such/model" in line


def test_it_runs_with_the_relay_inside_and_ends_with_ctrl_c(
    programs: Callable[..., Program],
) -> None:
    program = programs(
        "main.py", "--websocket_port", "0", "--prompt", "blue", "--osc-port=none", "--viewer=off"
    )
    url = program.line(r"studio at (http://\S+)")[1]
    with Person("ws" + url[4:].rstrip("/")) as viewer:
        until(lambda: viewer.status.get("state") == "live", 150, "the model loaded")
        until(lambda: viewer.values.get("prompt") == "blue")
    program.interrupt()
    assert program.wait(60) == 0
    assert "Traceback" not in program.output


def test_ctrl_c_while_loading_and_without_a_relay_is_a_clean_end(
    programs: Callable[..., Program],
) -> None:
    program = programs(
        "main.py",
        f"--websocket_uri=ws://127.0.0.1:{closed_port()}",
        "--osc_port=none",
        "--viewer=off",
    )
    program.line("dreamrelay .* worker", 150)
    program.interrupt()
    assert program.wait(90) == 0
    assert "Traceback" not in program.output
