"""What every sink must do. A new technology is done when this is green with it."""

import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from dreamrelay.codec import Frame, decode
from dreamrelay.errors import ClosedError, ConfigError
from dreamrelay.media import Sink, open_sink, sink_schemes
from tests.fakes.devices import bars
from tests.fakes.spoutgl import Gpu

Seen = Callable[[], Frame | None]
"""What arrived last at the other end; None where nobody can look."""


@dataclass
class Case:
    url: str
    seen: Seen


def null(folder: Path, patch: pytest.MonkeyPatch) -> Case:
    return Case("null://", lambda: None)


def numbered_files(folder: Path, patch: pytest.MonkeyPatch) -> Case:
    def seen() -> Frame:
        return decode(max((folder / "new").iterdir()).read_bytes())

    return Case(f"file://{folder}/new/shot%20_%06d.png", seen)


def one_file(folder: Path, patch: pytest.MonkeyPatch) -> Case:
    path = folder / "latest.png"
    return Case(str(path), lambda: decode(path.read_bytes()))


def spout(folder: Path, patch: pytest.MonkeyPatch) -> Case:
    gpu = Gpu()
    for name, module in gpu.modules().items():
        patch.setitem(sys.modules, name, module)
    patch.setattr("platform.system", lambda: "Windows")
    return Case("spout://Dream", lambda: gpu.seen("Dream"))


CASES = {"null": [null], "file": [numbered_files, one_file], "spout": [spout]}
MAKERS = [maker for makers in CASES.values() for maker in makers]


@pytest.fixture(params=MAKERS, ids=lambda maker: str(maker.__name__))
def case(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Case:
    made = request.param(tmp_path, monkeypatch)
    assert isinstance(made, Case)
    return made


@pytest.fixture
def sink(case: Case) -> Iterator[Sink]:
    with open_sink(case.url) as opened:
        yield opened


# The viewer opens a window; its own tests hold it to this.
@pytest.mark.parametrize("scheme", sorted(set(sink_schemes()) - {"viewer"}))
def test_every_scheme_is_tested(scheme: str) -> None:
    assert scheme in CASES


def test_what_is_written_arrives_upright_in_its_colours(case: Case, sink: Sink) -> None:
    for frame in bars(3):
        sink.write(frame)
        seen = case.seen()
        assert seen is None or np.array_equal(seen, frame)


def test_a_change_of_size_is_followed(case: Case, sink: Sink) -> None:
    for width, height in [(192, 128), (65, 64), (333, 71)]:
        frame = bars(1, width, height)[0]
        sink.write(frame)
        seen = case.seen()
        assert seen is None or np.array_equal(seen, frame)


def test_frames_of_any_layout_and_read_only_ones_are_taken(case: Case, sink: Sink) -> None:
    frame = bars(1)[0]
    mirrored = frame[:, ::-1]
    mirrored.flags.writeable = False
    sink.write(mirrored)
    seen = case.seen()
    assert seen is None or np.array_equal(seen, mirrored)


def test_frames_are_neither_changed_nor_kept(case: Case, sink: Sink) -> None:
    frame = bars(1)[0]
    before = frame.copy()
    sink.write(frame)
    assert np.array_equal(frame, before)
    frame[:] = 0
    seen = case.seen()
    assert seen is None or np.array_equal(seen, before)


@pytest.mark.parametrize(
    "wrong",
    [
        np.zeros((8, 8, 3), np.float32),
        np.zeros((8, 8), np.uint8),
        np.zeros((8, 8, 4), np.uint8),
        np.zeros((0, 8, 3), np.uint8),
    ],
    ids=["float", "grey", "alpha", "empty"],
)
def test_what_is_no_frame_is_refused_and_the_next_one_taken(sink: Sink, wrong: Frame) -> None:
    with pytest.raises(ValueError, match="expected a frame"):
        sink.write(wrong)
    sink.write(bars(1)[0])


def test_closing_twice_is_fine_and_writing_then_is_an_error(sink: Sink) -> None:
    sink.write(bars(1)[0])
    sink.close()
    sink.close()
    with pytest.raises(ClosedError):
        sink.write(bars(1)[0])


def test_closing_unused_is_fine(sink: Sink) -> None:
    sink.close()


def test_another_thread_may_write_what_this_one_opened(case: Case, sink: Sink) -> None:
    frame = bars(1)[0]
    arrived: list[Frame | None] = []

    def work() -> None:
        with sink:
            sink.write(frame)
            arrived.append(case.seen())

    thread = threading.Thread(target=work)
    thread.start()
    thread.join(30)
    assert len(arrived) == 1
    assert arrived[0] is None or np.array_equal(arrived[0], frame)


def test_unknown_options_are_named(case: Case) -> None:
    scheme_url = case.url if "://" in case.url else f"file://{case.url}"
    with pytest.raises(ConfigError, match="unknown option 'bananas'"):
        open_sink(f"{scheme_url}?bananas=3")
