"""The gate before the engine, and the sinks behind it."""

from typing import Any

import numpy as np
import pytest

from dreamrelay.errors import DeviceError
from dreamrelay.jobs import Asked, Job
from dreamrelay.media import Sink
from dreamrelay.media.catalog import SINKS
from dreamrelay.stage import Gate, Outlet

FRAME = np.zeros((8, 8, 3), np.uint8)


def job(seq: int, asked: Asked | None = None) -> Job:
    return Job(FRAME, seq, seq, 1, (), asked)


def due(gate: Gate, *jobs: Job, session: int = 1) -> list[int]:
    return [one.seq for one in gate.due(jobs, session)]


def test_open_lets_all_pass() -> None:
    gate = Gate()
    assert gate.open
    assert due(gate, job(1), job(2)) == [1, 2]
    assert gate.reason == ""


def test_stopped_lets_none_pass_but_requests() -> None:
    gate = Gate(started=False)
    assert due(gate, job(1, Asked({})), job(2)) == [1]
    assert "/start" in gate.reason


def test_stop_then_start_ends_started_and_twice_is_as_once() -> None:
    gate = Gate()
    for on, open_ in ((False, False), (True, True), (False, False), (False, False), (True, True)):
        gate.start(on)
        assert gate.open is open_


def test_a_trigger_lets_the_newest_pass_once() -> None:
    gate = Gate(started=False)
    assert due(gate, job(1), job(2)) == []
    gate.trigger()
    gate.trigger()
    (made,) = gate.due((), 1)
    assert (made.seq, made.alone) == (2, True)
    assert due(gate, job(3)) == []


def test_a_trigger_without_a_frame_waits_for_the_next() -> None:
    gate = Gate(started=False)
    gate.trigger()
    assert due(gate) == []
    assert due(gate, job(1)) == [1]
    assert due(gate, job(2)) == []


def test_the_same_frame_again_has_no_number_and_goes_where_the_connection_is_now() -> None:
    gate = Gate(started=False)
    due(gate, job(5))
    gate.trigger()
    assert due(gate) == [5]
    gate.trigger()
    (again,) = gate.due((), 7)
    assert (again.seq, again.session) == (0, 7)


def test_a_trigger_after_a_stop_has_the_last_frame_to_work_on() -> None:
    gate = Gate()
    assert due(gate, job(5)) == [5]
    gate.start(False)
    gate.trigger()
    assert due(gate) == [0]


def test_while_it_generates_a_trigger_does_nothing_later_either() -> None:
    gate = Gate()
    gate.trigger()
    assert due(gate, job(1)) == [1]
    gate.start(False)
    assert due(gate, job(2)) == []


def test_without_output_nothing_is_made() -> None:
    gate = Gate()
    gate.output(False)
    gate.trigger()
    assert due(gate, job(1)) == []
    assert "/p" in gate.reason
    gate.output(True)
    assert due(gate, job(2)) == [2]
    gate.start(False)
    gate.output(False)
    gate.output(True)
    assert not gate.open


def test_of_a_folder_nothing_is_left_out() -> None:
    gate = Gate(keeps_all=True)
    assert gate.may_read()
    gate.start(False)
    assert not gate.may_read()
    assert due(gate, job(1)) == []  # it was under way
    gate.trigger()
    assert due(gate) == [1]
    assert gate.may_read()
    assert not gate.may_read()
    assert due(gate, job(2)) == []
    gate.start()
    assert due(gate, job(3)) == [2, 3]
    assert gate.may_read()


class Connection(Sink):
    """A sink that counts its openings and closings."""

    opened = 0
    refuses = False

    def __init__(self) -> None:
        super().__init__()
        if Connection.refuses:
            raise DeviceError("nobody is there")
        Connection.opened += 1
        self.written = 0
        self.closed = 0

    def write(self, frame: Any) -> None:
        self.written += 1

    def close(self) -> None:
        super().close()
        self.closed += 1
        if Connection.refuses:
            raise DeviceError("it hangs")


class Row:
    def load(self) -> Any:
        return lambda _: Connection()


def test_a_connection_is_opened_anew_by_the_next_frame(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setitem(SINKS, "spout", Row())
    monkeypatch.setattr(Connection, "opened", 0)
    first = Connection()
    outlet = Outlet("spout://Name", first)
    outlet.reconnect()
    outlet.reconnect()
    assert first.closed == 1
    monkeypatch.setattr(Connection, "refuses", True)
    outlet.write(FRAME)
    outlet.write(FRAME)
    assert caplog.text.count("nobody is there") == 1
    monkeypatch.setattr(Connection, "refuses", False)
    outlet.write(FRAME)
    assert outlet.sink is not first
    assert Connection.opened == 2


def test_one_that_cannot_be_closed_is_named_and_opened_anew(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setitem(SINKS, "ndi", Row())
    outlet = Outlet("ndi://Name", Connection())
    monkeypatch.setattr(Connection, "refuses", True)
    outlet.reconnect()
    assert "it hangs" in caplog.text
    monkeypatch.setattr(Connection, "refuses", False)
    outlet.write(FRAME)
    assert not outlet.gone


@pytest.mark.parametrize("url", ["file:///a.png", "record://show.mp4", "null://", "/tmp/a.png"])
def test_a_file_stays_as_it_is(url: str) -> None:
    sink = Connection()
    outlet = Outlet(url, sink)
    outlet.reconnect()
    outlet.write(FRAME)
    assert (sink.closed, sink.written) == (0, 1)
    outlet.close()
    assert sink.closed == 1
