"""The benchmarks run and yield figures that can be true. How good these are is not asked here."""

import json
from pathlib import Path
from typing import Any

import pytest

from benchmarks import relay, report, worker
from benchmarks.clients import WebSocketViewer
from benchmarks.machine import can_count_cpu, describe
from benchmarks.processes import RELAY
from dreamrelay.packet import Codec, inspect


def silent(_: str) -> None:
    """Progress that nobody wants to read."""


def test_the_picture_is_a_jpeg_of_the_size_that_is_said() -> None:
    picture = relay.make_picture()
    assert len(picture) == relay.PICTURE_BYTES
    shown = inspect(picture)
    assert (shown.codec, shown.width, shown.height) == (Codec.JPEG, 512, 512)


@pytest.mark.skipif(not can_count_cpu(), reason="needs /proc/PID/task/*/schedstat")
def test_every_design_delivers_and_has_a_cost() -> None:
    figures = relay.measure(1, viewers=[1], pictures=4, say=silent)
    costs = figures["microseconds_per_delivered_picture"]
    assert set(costs) == {design.name for design in relay.DESIGNS}
    assert all(cost["1"] > 0 for cost in costs.values())
    assert all(0 < ratio["1"] < 10_000 for ratio in figures["ratios"].values())


def test_the_worker_is_compared_with_its_engine() -> None:
    figures = worker.measure(1, engines=["scripted-256"], seconds=0.6, say=silent)
    assert 0 < figures["ratios"]["scripted-256"] <= 1.2
    assert 0 < figures["returned"]["scripted-256"] <= 1.5


def test_the_best_window_is_found() -> None:
    starts = [[0.0, 1.0, 2.0, 2.5, 3.0, 3.5, 9.0], [0.0, 7.0]]
    assert worker.best_rate(starts, 3) == pytest.approx(2.0)
    assert worker.mean_rate(starts) == pytest.approx(7 / 16)


def test_a_table_is_made_of_the_kept_figures() -> None:
    kept = report.load_figures(report.BASELINE)
    text = report.table(kept, kept)
    for name in (*kept["parts"]["relay"]["ratios"], *kept["parts"]["worker"]["ratios"]):
        assert name in text
    assert kept["machine"]["processor"] in report.quote(kept)


def test_the_machine_is_described_without_its_name() -> None:
    machine = describe()
    assert set(machine) == {"processor", "cores", "system", "python", "packages"}
    assert str(Path.home()) not in json.dumps(machine)


class FakeSocket:
    """Gives what was put in, in the pieces in which it was put."""

    def __init__(self, *pieces: bytes) -> None:
        self.pieces = list(pieces)
        self.sent = b""

    def setblocking(self, _: bool) -> None:
        """Nothing blocks here."""

    def recv(self, size: int) -> bytes:
        if not self.pieces:
            raise BlockingIOError
        taken, rest = self.pieces[0][:size], self.pieces[0][size:]
        self.pieces[:1] = [rest] if rest else []
        return taken

    def recv_into(self, _: Any, size: int, flags: int = 0) -> int:
        return len(self.recv(size))

    def send(self, data: bytes) -> int:
        self.sent += data
        return len(data)

    sendall = send


def test_a_viewer_counts_pictures_however_they_are_cut() -> None:
    text = b"\x81\x05hello"
    picture = b"\x82\x7f" + (70_000).to_bytes(8, "big") + bytes(70_000)
    small = b"\x82\x7e" + (300).to_bytes(2, "big") + bytes(300)
    wire = text + picture + small + text
    for step in (1, 7, 1000, len(wire)):
        fake: Any = FakeSocket(*(wire[at : at + step] for at in range(0, len(wire), step)))
        viewer = WebSocketViewer(fake, credit=b"+")
        while fake.pieces:
            viewer.pump()
        assert viewer.pictures == 2
        assert fake.sent == b"++"


def test_a_viewer_notices_that_the_relay_goes() -> None:
    fake: Any = FakeSocket(b"\x88\x02\x03\xe8")
    with pytest.raises(RuntimeError, match="goodbye"):
        WebSocketViewer(fake).pump()


def test_our_relay_is_started_as_anybody_starts_it() -> None:
    assert RELAY[:3] == ("-m", "dreamrelay", "relay")
