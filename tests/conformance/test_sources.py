"""What every source must do. A new technology is done when this is green with it."""

import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from dreamrelay.errors import ConfigError
from dreamrelay.media import Captured, Source, open_source, source_schemes
from dreamrelay.media.catalog import SOURCES
from tests.fakes.devices import (
    NO_XVFB,
    NetworkCamera,
    bars,
    has_xvfb,
    running_xvfb,
    write_video,
)
from tests.fakes.ndi import shared_program
from tests.fakes.network import ONE_PROCESS, own_network
from tests.fakes.spoutgl import DXGI_BGRA8, Gpu
from tests.fakes.syphon import BGRA8, Mac


@dataclass
class Stage:
    """What a case may use to set up what its URL names."""

    folder: Path
    stack: ExitStack
    patch: pytest.MonkeyPatch
    after_read: list[Callable[[], None]] = field(default_factory=list)
    """Called between two reads, where a source wants something new to see."""


def picture_file(stage: Stage) -> str:
    path = stage.folder / "a picture 100%.png"
    Image.fromarray(bars(1)[0]).save(path)
    return str(path)


def picture_url(stage: Stage) -> str:
    path = picture_file(stage)
    return "file://" + path.replace("%", "%25").replace(" ", "%20")


def folder(stage: Stage) -> str:
    for number, frame in enumerate(bars(3)):
        Image.fromarray(frame).save(stage.folder / f"{number}.png")
    return f"directory://{stage.folder}?loop=false"


def video(stage: Stage) -> str:
    return f"video://{write_video(stage.folder / 'clip.avi', bars(4))}?loop=false"


def camera(stage: Stage) -> str:
    return f"camera://{write_video(stage.folder / 'clip.avi', bars(4), fps=100)}"


def network_camera(stage: Stage) -> str:
    return stage.stack.enter_context(NetworkCamera(bars(4))).url


def webcam_on_the_network(stage: Stage) -> str:
    return "webcam://" + network_camera(stage).replace("?", "%3F")


def screen(stage: Stage) -> str:
    if not has_xvfb():
        pytest.skip(NO_XVFB)
    display = stage.stack.enter_context(running_xvfb(320, 240))
    display.show(bars(1, 320, 240)[0])
    stage.patch.setenv("DISPLAY", display.name)
    return "screen://0"


def spout(stage: Stage) -> str:
    gpu = Gpu(zeros_first=1)
    for name, module in gpu.modules().items():
        stage.patch.setitem(sys.modules, name, module)
    stage.patch.setattr("platform.system", lambda: "Windows")
    frame = bars(1)[0]

    def send() -> None:
        gpu.show("Stage", frame, DXGI_BGRA8)

    send()
    stage.after_read.append(send)
    return "spout://Stage"


def syphon(stage: Stage) -> str:
    mac = Mac()
    for name, module in mac.modules().items():
        stage.patch.setitem(sys.modules, name, module)
    stage.patch.setattr("platform.system", lambda: "Darwin")

    def send() -> None:
        mac.show("Stage", bars(1)[0], BGRA8)

    send()
    stage.after_read.append(send)
    return "syphon://Stage"


def ndi(stage: Stage) -> str:
    stage.stack.enter_context(own_network())
    program = shared_program()
    program.say("show", 192, 128)
    stage.stack.callback(program.say, "vanish")
    return f"ndi://{program.name}?timeout=60"


CASES: dict[str, Callable[[Stage], str]] = {
    "dream": lambda stage: "dream://?width=192&height=128",
    "pattern": lambda stage: "pattern://bars?width=192&height=128",
    "path": picture_file,
    "file": picture_url,
    "directory": folder,
    "video": video,
    "camera": camera,
    "webcam": webcam_on_the_network,
    "http": network_camera,
    "screen": screen,
    "spout": spout,
    "syphon": syphon,
    "ndi": ndi,
}
ENDING = {"directory": 3, "video": 4}
NO_BARS = {"dream"}
"""They choose their own pictures."""
STORED = {"path", "file", "directory", "video"}
ALIKE = {"https": "http", "rtsp": "http"}
"""Schemes that differ from a tested one in nothing of ours."""


@pytest.fixture
def stage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Stage]:
    with ExitStack() as stack:
        yield Stage(tmp_path, stack, monkeypatch)


MARKS = {"ndi": [ONE_PROCESS]}


@pytest.fixture(params=[pytest.param(name, marks=MARKS.get(name, [])) for name in sorted(CASES)])
def case(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def source(stage: Stage, case: str) -> Iterator[Source]:
    with open_source(CASES[case](stage)) as opened:
        yield opened


def read(source: Source, stage: Stage) -> Captured:
    captured = source.read()
    assert captured is not None
    for act in stage.after_read:
        act()
    return captured


def test_every_scheme_is_tested() -> None:
    assert set(source_schemes()) == set(SOURCES)
    assert set(source_schemes()) <= set(CASES) | set(ALIKE)


def test_frames_are_uint8_rgb_and_contiguous(source: Source, stage: Stage) -> None:
    for _ in range(3):
        frame = read(source, stage).frame
        assert frame.dtype == np.uint8
        assert frame.ndim == 3
        assert frame.shape[2] == 3
        assert frame.flags.c_contiguous


@pytest.mark.parametrize("case", sorted(set(CASES) - NO_BARS))
def test_red_is_red_left_is_left_and_up_is_up(source: Source, stage: Stage) -> None:
    frame = read(source, stage).frame
    height, width = frame.shape[:2]
    for number, colour in enumerate([(255, 0, 0), (0, 255, 0), (0, 0, 255)]):
        pixel = frame[height // 20, width // 12 + number * width // 3].astype(int)
        assert np.abs(pixel - colour).max() < 40
    # The band under the bars is dark: the card stands upright.
    assert frame[round(height * 0.65), width // 3].max() < 80


def test_frames_belong_to_the_reader(source: Source, stage: Stage) -> None:
    first = read(source, stage).frame
    first[:] = 77
    assert read(source, stage).frame.std() > 20


def test_capture_times_grow_and_are_of_now(source: Source, stage: Stage, case: str) -> None:
    before = time.time_ns()
    times = [read(source, stage).captured_ns for _ in range(3)]
    assert times == sorted(set(times))
    # A device's thread may have taken the first before it was asked for.
    assert before - 1_000_000_000 < times[0]
    assert times[-1] <= time.time_ns() + 1000


def test_live_and_fps_say_what_it_is(source: Source, case: str) -> None:
    assert source.live is (case not in STORED)
    assert source.fps is None or source.fps > 0


def test_closing_twice_is_fine_and_reading_then_gives_nothing(source: Source, stage: Stage) -> None:
    read(source, stage)
    source.close()
    source.close()
    assert source.read() is None
    assert source.read() is None


def test_closing_unread_is_fine(source: Source) -> None:
    source.close()


@pytest.mark.parametrize("case", sorted(ENDING))
def test_the_end_stays_the_end(source: Source, stage: Stage, case: str) -> None:
    for _ in range(ENDING[case]):
        read(source, stage)
    assert source.read() is None
    assert source.read() is None


def test_another_thread_may_read_what_this_one_opened(source: Source, stage: Stage) -> None:
    frames: list[Captured] = []

    def work() -> None:
        with source:
            frames.extend(read(source, stage) for _ in range(2))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join(30)
    assert len(frames) == 2
    assert source.read() is None


@pytest.mark.parametrize("scheme", sorted(set(SOURCES) - {"http", "https", "rtsp"}))
def test_unknown_options_are_named(scheme: str, tmp_path: Path) -> None:
    target = {
        "dream": "",
        "pattern": "bars",
        "file": f"{tmp_path}/a.png",
        "directory": str(tmp_path),
    }
    with pytest.raises(ConfigError, match="unknown option 'bananas'") as caught:
        open_source(f"{scheme}://{target.get(scheme, '0')}?bananas=3")
    assert "\n" not in str(caught.value)
