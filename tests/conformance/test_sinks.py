"""What every sink must do. A new technology is done when this is green with it."""

import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

import av
import numpy as np
import pytest

from dreamrelay.codec import Frame, decode, resize
from dreamrelay.errors import ClosedError, ConfigError
from dreamrelay.media import Sink, open_sink, open_source, sink_schemes
from tests.fakes.devices import bars
from tests.fakes.ndi import Watcher, unique_name
from tests.fakes.network import ONE_PROCESS, own_network
from tests.fakes.spoutgl import Gpu
from tests.fakes.syphon import Mac
from tests.fakes.virtualcam import Driver
from tests.support import until

Seen = Callable[[], Frame | None]
"""What arrived last at the other end; None where nobody can look."""


@dataclass
class Case:
    url: str
    seen: Seen
    lossy: bool = False
    """The other end sees it a moment later, and only nearly as it was."""
    one_size: bool = False
    """The other end cannot follow another size: frames are fitted into the first."""
    kept: Path | None = None
    """A video that the frames are looked up in when it is closed."""
    shown: list[Frame] = field(default_factory=list)

    def arrived(self, frame: Frame) -> bool:
        """Is this what the other end sees? True where nobody can look."""
        seen = self.seen()
        if seen is None:
            return not self.lossy
        if self.one_size:
            height, width = seen.shape[:2]
            frame = resize(frame, width, height, "contain")
        if not self.lossy:
            return np.array_equal(seen, frame)
        height, width = frame.shape[:2]
        if seen.shape[0] - height not in (0, 1) or seen.shape[1] - width not in (0, 1):
            return False  # odd sizes may be rounded up, nothing else
        return bool(np.abs(seen[:height, :width].astype(int) - frame).mean() < 8)

    def shows(self, sink: Sink, frame: Frame) -> None:
        """Write a frame; it arrives, at once or (lossy) soon."""
        sink.write(frame)
        self.shown.append(frame.copy())
        if self.lossy:
            until(lambda: sink.write(frame) or self.arrived(frame), 60, "the frame to arrive")
        assert self.arrived(frame)

    def are_kept(self, path: Path) -> None:
        """What was shown is in the video, in order, fitted into its size."""
        with av.open(str(path)) as video:
            found = [one.to_ndarray(format="rgb24") for one in video.decode(video=0)]
        height, width = found[0].shape[:2]
        for frame in self.shown:
            near = abs(frame.shape[0] - height) <= 1 and abs(frame.shape[1] - width) <= 1
            fitted = resize(frame, width, height, "stretch" if near else "contain")
            while found and np.abs(found[0].astype(int) - fitted).mean() > 4:
                found.pop(0)
            assert found, "a picture is not in the video, or too early"


class Stage:
    """What a case may use to set itself up."""

    def __init__(self, folder: Path, patch: pytest.MonkeyPatch, stack: ExitStack) -> None:
        self.folder, self.patch, self.stack = folder, patch, stack


def null(stage: Stage) -> Case:
    return Case("null://", lambda: None)


def numbered_files(stage: Stage) -> Case:
    folder = stage.folder

    def seen() -> Frame:
        return decode(max((folder / "new").iterdir()).read_bytes())

    return Case(f"file://{folder}/new/shot%20_%06d.png", seen)


def one_file(stage: Stage) -> Case:
    path = stage.folder / "latest.png"
    return Case(str(path), lambda: decode(path.read_bytes()))


def spout(stage: Stage) -> Case:
    gpu = Gpu()
    for name, module in gpu.modules().items():
        stage.patch.setitem(sys.modules, name, module)
    stage.patch.setattr("platform.system", lambda: "Windows")
    return Case("spout://Dream", lambda: gpu.seen("Dream"))


def syphon(stage: Stage) -> Case:
    mac = Mac()
    for name, module in mac.modules().items():
        stage.patch.setitem(sys.modules, name, module)
    stage.patch.setattr("platform.system", lambda: "Darwin")
    return Case("syphon://Dream", lambda: mac.seen("Dream"))


def ndi(stage: Stage) -> Case:
    stage.stack.enter_context(own_network())
    name = unique_name()
    watcher = Watcher(name)
    stage.stack.callback(watcher.close)
    return Case(f"ndi://{name}", watcher.look, lossy=True)


def record(stage: Stage) -> Case:
    # Its last pictures are in the file when it is closed.
    path = stage.folder / "show.mp4"
    return Case(f"record://{path}", lambda: None, kept=path)


def virtual_camera(stage: Stage) -> Case:
    driver = Driver()
    stage.patch.setitem(sys.modules, "pyvirtualcam", driver.module())
    stage.patch.delitem(sys.modules, "dreamrelay.media.virtualcam", raising=False)
    stage.stack.callback(sys.modules.pop, "dreamrelay.media.virtualcam", None)
    return Case("virtualcam://", lambda: driver.seen, one_size=True)


CASES: dict[str, list[Callable[[Stage], Case]]] = {
    "null": [null],
    "file": [numbered_files, one_file],
    "spout": [spout],
    "syphon": [syphon],
    "ndi": [ndi],
    "record": [record],
    "virtualcam": [virtual_camera],
}
MAKERS = [
    pytest.param(maker, marks=[ONE_PROCESS] if scheme == "ndi" else [])
    for scheme, makers in CASES.items()
    for maker in makers
]


@pytest.fixture(params=MAKERS, ids=lambda maker: str(maker.__name__))
def case(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Case]:
    with ExitStack() as stack:
        made = request.param(Stage(tmp_path, monkeypatch, stack))
        assert isinstance(made, Case)
        yield made


@pytest.fixture
def sink(case: Case) -> Iterator[Sink]:
    with open_sink(case.url) as opened:
        if case.kept is not None:
            opened.keep_every()
        yield opened
    if case.kept is not None and case.shown:
        case.are_kept(case.kept)


# The viewer opens a window; its own tests hold it to this.
@pytest.mark.parametrize("scheme", sorted(set(sink_schemes()) - {"viewer"}))
def test_every_scheme_is_tested(scheme: str) -> None:
    assert scheme in CASES


def test_what_is_written_arrives_upright_in_its_colours(case: Case, sink: Sink) -> None:
    for frame in bars(3):
        case.shows(sink, frame)


TEXTURES = [spout, syphon, pytest.param(ndi, marks=[ONE_PROCESS])]


@pytest.mark.parametrize("case", TEXTURES, indirect=True)
def test_it_can_be_sent_upside_down(case: Case) -> None:
    frame = bars(1)[0]
    with open_sink(f"{case.url}?flip=true") as sink:
        if case.lossy:
            until(lambda: sink.write(frame) or case.arrived(frame[::-1]), 60)
        sink.write(frame)
        assert case.arrived(frame[::-1])


@pytest.mark.parametrize("case", TEXTURES, indirect=True)
def test_several_may_look(case: Case, sink: Sink) -> None:
    frame = bars(1)[0]
    done = threading.Event()

    def send() -> None:
        with sink:
            while not done.wait(0.005):
                sink.write(frame)

    thread = threading.Thread(target=send)
    thread.start()
    try:
        with ExitStack() as stack:
            url = f"{case.url}?timeout=60"
            for source in [stack.enter_context(open_source(url)) for _ in range(3)]:
                captured = source.read()
                assert captured is not None
                assert np.abs(captured.frame.astype(int) - frame).mean() < 8
    finally:
        done.set()
        thread.join(30)


def test_a_change_of_size_is_followed(case: Case, sink: Sink) -> None:
    for width, height in [(192, 128), (65, 64), (333, 71), (192, 128)]:
        case.shows(sink, bars(1, width, height)[0])


def test_the_smallest_frame_is_taken(sink: Sink) -> None:
    sink.write(np.full((1, 1, 3), 200, np.uint8))
    sink.write(bars(1)[0])


def test_a_first_frame_that_is_black_is_shown(case: Case, sink: Sink) -> None:
    case.shows(sink, np.zeros((96, 128, 3), np.uint8))
    case.shows(sink, bars(1, 128, 96)[0])


def test_frames_of_any_layout_and_read_only_ones_are_taken(case: Case, sink: Sink) -> None:
    frame = bars(1)[0]
    mirrored = frame[:, ::-1]
    mirrored.flags.writeable = False
    case.shows(sink, mirrored)


def test_frames_are_neither_changed_nor_kept(case: Case, sink: Sink) -> None:
    frame = bars(1)[0]
    before = frame.copy()
    case.shows(sink, frame)
    assert np.array_equal(frame, before)
    frame[:] = 0
    assert case.arrived(before)


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
    shown: list[bool] = []

    def work() -> None:
        with sink:
            case.shows(sink, bars(1)[0])
            shown.append(True)

    thread = threading.Thread(target=work)
    thread.start()
    thread.join(90)
    assert shown == [True]


def test_unknown_options_are_named(case: Case) -> None:
    scheme_url = case.url if "://" in case.url else f"file://{case.url}"
    with pytest.raises(ConfigError, match="unknown option 'bananas'"):
        open_sink(f"{scheme_url}?bananas=3")
