"""NDI with the real library: real frames, over the loopback, between two processes."""

import json
import logging
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import numpy as np
import pytest

from dreamrelay.codec import Frame
from dreamrelay.errors import DeviceError
from dreamrelay.media import Source, open_sink, open_source
from dreamrelay.media.ndi import matching, senders
from tests.fakes.devices import bars
from tests.fakes.ndi import OtherProgram, Watcher, other_program, unique_name
from tests.fakes.network import ONE_PROCESS, own_network
from tests.support import ROOT, until

pytestmark = ONE_PROCESS

THERE = ["HALL (Camera 1)", "HALL (Camera 10)", "VM (Dream)", "VM (dream two)"]

RECEIVE = """
import sys
from dreamrelay.media import open_source
with open_source(f"ndi://{sys.argv[1]}?timeout=60") as source:
    frame = source.read().frame
print(frame.shape, *(frame[6, x].tolist() for x in (20, 90, 180)), flush=True)
"""


@pytest.fixture(autouse=True)
def alone() -> Iterator[None]:
    with own_network():
        yield


@pytest.fixture
def program() -> Iterator[OtherProgram]:
    with other_program(unique_name()) as program:
        yield program


def has_bars(frame: Frame) -> bool:
    """Red, green and blue, upright; the codec is lossy."""
    height, width = frame.shape[:2]
    colours = np.eye(3, dtype=int) * 255
    places = [frame[height // 20, width // 12 + part * width // 3] for part in range(3)]
    return bool(np.abs(np.array(places, int) - colours).max() < 40)


def read_until(source: Source, width: int, height: int) -> Frame:
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        captured = source.read()
        assert captured is not None
        if captured.frame.shape == (height, width, 3):
            return captured.frame
    raise AssertionError(f"no picture of {width}x{height}")


@pytest.mark.parametrize(
    ("wanted", "found"),
    [
        ("HALL (Camera 1)", ["HALL (Camera 1)"]),
        ("Camera 1", ["HALL (Camera 1)"]),
        ("Camera", ["HALL (Camera 1)", "HALL (Camera 10)"]),
        ("camera 10", ["HALL (Camera 10)"]),
        ("Dream", ["VM (Dream)"]),
        ("dream", ["VM (Dream)", "VM (dream two)"]),
        ("vm", ["VM (Dream)", "VM (dream two)"]),
        ("", sorted(THERE)),
        ("Studio", []),
    ],
)
def test_a_name_is_matched_whole_first_and_then_in_part(wanted: str, found: list[str]) -> None:
    assert matching(THERE, wanted) == found


def test_another_process_is_received_by_a_part_of_its_name(program: OtherProgram) -> None:
    with open_source(f"ndi://{program.name[:-2]}?timeout=30") as source:
        assert has_bars(read_until(source, 192, 128))


def test_both_ways_between_two_processes_in_a_network_of_their_own(tmp_path: Path) -> None:
    """Nothing but a loopback: nobody else's sender is there, and none of ours gets out."""
    isolated = ["unshare", "-n", "bash", "-c"]
    if (
        shutil.which("unshare") is None
        or subprocess.run([*isolated, "true"], check=False).returncode
    ):
        pytest.skip("needs unshare (Linux) and the right to make a network namespace")
    content = {"ndi": {"networks": {"ips": "127.0.0.1"}}}
    (tmp_path / "ndi-config.v1.json").write_text(json.dumps(content), encoding="utf-8")
    (tmp_path / "receive.py").write_text(RECEIVE, encoding="utf-8")
    script = f"""
        ip link set lo up
        export NDI_CONFIG_DIR='{tmp_path}' PYTHONPATH='{ROOT}'
        mkfifo '{tmp_path}/words'
        '{sys.executable}' -m tests.fakes.ndi 'Far Away' < '{tmp_path}/words' > /dev/null &
        exec 3> '{tmp_path}/words'
        '{sys.executable}' '{tmp_path}/receive.py' 'far away'
        code=$?; echo end >&3; wait; exit $code
    """
    done = subprocess.run(
        [*isolated, script], cwd=ROOT, capture_output=True, text=True, timeout=150
    )
    assert done.returncode == 0, done.stderr
    shape, *rest = done.stdout.strip().partition(") ")
    assert shape == "(128, 192, 3"
    colours = np.array(json.loads("[" + rest[1].replace("] [", "], [") + "]"))
    assert np.abs(colours - np.eye(3) * 255).max() < 40


def test_what_is_sent_is_seen_by_a_receiver_of_the_library_itself() -> None:
    frame = bars(1)[0]
    name = unique_name()
    watcher = Watcher(name)
    with ExitStack() as stack:
        stack.callback(watcher.close)
        sink = stack.enter_context(open_sink(f"ndi://{name}"))

        def arrived() -> bool:
            sink.write(frame)
            seen = watcher.look()
            return seen is not None and np.abs(seen.astype(int) - frame).mean() < 6

        until(arrived, 60)


def test_an_odd_size_is_sent_with_its_last_row_and_column_twice() -> None:
    frame = bars(1, 65, 67)[0]
    name = unique_name()
    watcher = Watcher(name)
    with ExitStack() as stack:
        stack.callback(watcher.close)
        sink = stack.enter_context(open_sink(f"ndi://{name}"))

        def arrived() -> list[Frame]:
            sink.write(frame)
            seen = watcher.look()
            return [] if seen is None else [seen]

        assert until(arrived, 60)[0].shape == (68, 66, 3)


def test_several_that_match_are_named(caplog: pytest.LogCaptureFixture) -> None:
    name = unique_name()
    with other_program(f"{name} B", f"{name} A") as program:
        until(lambda: len([there for there in senders(0.3) if name in there]) == 2, 60)
        with (
            open_source(f"ndi://{name}?timeout=60") as source,
            caplog.at_level(logging.WARNING),
        ):
            assert source.read() is not None
        assert f"({name} A), " in caplog.text
        with (
            open_source("ndi://Nobody?timeout=1") as source,
            pytest.raises(DeviceError, match=rf"with 'Nobody' in its name.*\({program.name}\)"),
        ):
            source.read()
