"""Recording: what is in the file, at which time, and what happens when the disk is full."""

import logging
import os
import shutil
import signal
import subprocess
import sys
import threading
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import av
import numpy as np
import pytest

from dreamrelay.codec import Frame
from dreamrelay.errors import ConfigError, DeviceError
from dreamrelay.media import open_sink, open_source
from dreamrelay.media.record import RETRY_S, Recorder, RecordSink
from tests.fakes.devices import bars
from tests.support import ROOT, until


@dataclass
class Clock:
    """Time as a test wants it."""

    now: float = 100.0
    step: float = 0.04
    told: list[float] = field(default_factory=list)

    def __call__(self) -> float:
        self.told.append(self.now)
        self.now += self.step
        return self.told[-1]


def pictures(path: Path) -> tuple[list[Frame], list[float]]:
    """All pictures of a file and their times."""
    frames: list[av.VideoFrame] = []
    # A file that was cut off ends in half a picture.
    with av.open(str(path)) as file, suppress(av.InvalidDataError):
        frames.extend(file.decode(video=0))
    return [one.to_ndarray(format="rgb24") for one in frames], [float(one.time) for one in frames]


def noise(seed: int) -> Frame:
    return np.random.default_rng(seed).integers(0, 255, (128, 128, 3), dtype=np.uint8)


def test_every_picture_is_in_it_in_order_and_in_its_colours(tmp_path: Path) -> None:
    shown = bars(30)
    with open_sink(f"record://{tmp_path}/a%20show.mp4") as sink:
        sink.keep_every()
        for frame in shown:
            sink.write(frame)
    found, _ = pictures(tmp_path / "a show.mp4")
    assert len(found) == len(shown)
    for got, wrote in zip(found, shown, strict=True):
        assert np.abs(got.astype(int) - wrote).mean() < 4
    with open_source(str(tmp_path / "a show.mp4")) as source:
        captured = source.read()
        assert captured is not None
        assert np.abs(captured.frame.astype(int) - shown[0]).mean() < 4


@pytest.mark.parametrize("suffix", [".mp4", ".mov"])
def test_it_plays_at_the_speed_of_the_show(tmp_path: Path, suffix: str) -> None:
    clock = Clock(step=0.04)
    path = tmp_path / f"show{suffix}"
    with RecordSink(path, clock=clock) as sink:
        for number, frame in enumerate(bars(20)):
            if number == 10:
                clock.now += 1.0  # a pause
            sink.write(frame)
    _, times = pictures(path)
    expected = [told - clock.told[0] for told in clock.told]
    assert np.abs(np.array(times) - expected).max() < 0.002


def test_few_pictures_a_second_are_on_the_disk_within_two_seconds(tmp_path: Path) -> None:
    path = tmp_path / "show.mp4"
    with RecordSink(path, clock=Clock(step=0.25)) as sink:
        for _ in range(40):
            sink.write(noise(1))  # a cut would begin a fragment anyway
        shutil.copy(path, cut := tmp_path / "cut.mp4")
    assert len(pictures(cut)[0]) >= 40 - 2 / 0.25


def test_pictures_of_one_moment_keep_their_order(tmp_path: Path) -> None:
    path = tmp_path / "show.mp4"
    with RecordSink(path, clock=lambda: 5.0) as sink:
        for frame in bars(5):
            sink.write(frame)
    _, times = pictures(path)
    assert times == sorted(set(times))
    assert len(times) == 5


def test_another_size_is_fitted_into_the_first(tmp_path: Path) -> None:
    path = tmp_path / "show.mp4"
    with RecordSink(path) as sink:
        for width, height in [(193, 129), (64, 128), (1920, 1080), (193, 129)]:
            sink.write(bars(1, width, height)[0])
    found, _ = pictures(path)
    assert [frame.shape for frame in found] == [(130, 194, 3)] * 4
    assert found[1][65, 10].max() < 30  # a black bar beside a picture that is too narrow
    assert np.abs(found[0].astype(int) - found[3]).mean() < 3


@pytest.mark.parametrize(
    ("size", "matrix", "luma"),
    [((192, 128), 5, [81, 145, 41]), ((1280, 720), 1, [63, 173, 32])],
    ids=["601", "709"],
)
def test_a_video_says_which_colours_it_has(
    tmp_path: Path, size: tuple[int, int], matrix: int, luma: list[int]
) -> None:
    """Or players guess by its size, and larger ones come out with other greens."""
    path = tmp_path / "show.mp4"
    card = bars(1, *size)[0]
    with RecordSink(path) as sink:
        sink.write(card)
    with av.open(str(path)) as file:
        picture = next(file.decode(video=0))
        assert (picture.colorspace, picture.color_range) == (matrix, 1)
        assert (picture.color_primaries, picture.color_trc) == (1, 1)
    places = [(size[1] // 20, size[0] // 12 + part * size[0] // 3) for part in range(3)]
    levels = picture.to_ndarray()  # of YUV: the luma comes first
    assert np.abs(np.array([int(levels[place]) for place in places]) - luma).max() <= 2
    with open_source(str(path)) as source:
        captured = source.read()
        assert captured is not None
        assert np.abs(captured.frame.astype(int) - card).mean() < 4


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such names")
@pytest.mark.parametrize("name", ["12:30.mp4", "concat:a.mp4", "a?b#c%03d.mp4", "-ö ü.mp4"])
def test_a_name_is_no_address_to_ffmpeg(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.chdir(tmp_path)
    with RecordSink(Path(name)) as sink:
        sink.write(bars(1)[0])
    assert [path.name for path in tmp_path.iterdir()] == [name]


def test_what_the_encoder_refuses_stops_the_recording_and_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "show.mp4"
    clock = Clock(step=0.1)
    with RecordSink(path, clock=clock) as sink:
        for _ in range(2):
            with pytest.raises(DeviceError, match=r"after 0 pictures.*the show goes on"):
                sink.write(np.zeros((16, 20_000, 3), np.uint8))
        clock.now += RETRY_S
        sink.write(bars(1)[0])
    assert len(pictures(path)[0]) == 1


def test_a_take_that_is_there_is_kept(tmp_path: Path) -> None:
    for _ in range(3):
        with open_sink(f"record://{tmp_path}/show.mp4") as sink:
            sink.write(bars(1)[0])
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "show.mp4",
        "show_2.mp4",
        "show_3.mp4",
    ]
    with open_sink(f"record://{tmp_path}/show.mp4?overwrite=true") as sink:
        sink.write(bars(1, 64, 64)[0])
    assert len(list(tmp_path.iterdir())) == 3
    assert pictures(tmp_path / "show.mp4")[0][0].shape == (64, 64, 3)


def test_nothing_shown_leaves_no_file(tmp_path: Path) -> None:
    open_sink(f"record://{tmp_path}/deep/show.mp4").close()
    assert list((tmp_path / "deep").iterdir()) == []


def test_other_endings_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"ends in \.mp4 or \.mov, got 'show\.gif'"):
        open_sink(f"record://{tmp_path}/show.gif")


def test_a_folder_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(DeviceError, match="cannot write to"):
        open_sink(f"record://{tmp_path}/file/show.mp4")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full (Linux)")
def test_no_room_from_the_start_is_said_and_tried_again_later(tmp_path: Path) -> None:
    path = tmp_path / "show.mp4"
    path.symlink_to("/dev/full")
    clock = Clock(step=0.1)
    with RecordSink(path, overwrite=True, clock=clock) as sink:
        for _ in range(3):
            with pytest.raises(DeviceError, match="No space left on device; the show goes on"):
                sink.write(noise(0))
        path.unlink()  # somebody made room
        with pytest.raises(DeviceError, match="No space left"):
            sink.write(noise(0))
        clock.now += RETRY_S
        sink.write(noise(0))
    assert len(pictures(path)[0]) == 1


FILL = """
import sys
import numpy as np
from dreamrelay.errors import DeviceError
from dreamrelay.media import open_sink
errors = []
with open_sink(f"record://{sys.argv[1]}/show.mp4") as sink:
    sink.keep_every()
    for seed in range(400):
        frame = np.random.default_rng(seed).integers(0, 255, (128, 128, 3), dtype=np.uint8)
        try:
            sink.write(frame)
        except DeviceError as error:
            errors.append(str(error))
assert len(errors) > 100 and len(set(errors)) == 1, errors
print(errors[0])
"""


def test_a_disk_that_fills_up_stops_the_recording_and_nothing_else(tmp_path: Path) -> None:
    """On a real, small file system: what fitted can be played."""
    isolated = ["unshare", "-m", "bash", "-c"]
    if not shutil.which("unshare") or subprocess.run([*isolated, "true"], check=False).returncode:
        pytest.skip("needs unshare (Linux) and the right to mount")
    disk, kept = tmp_path / "disk", tmp_path / "kept"
    disk.mkdir()
    kept.mkdir()
    (tmp_path / "fill.py").write_text(FILL, encoding="utf-8")
    script = f"""
        set -e
        mount -t tmpfs -o size=1m none '{disk}'
        PYTHONPATH='{ROOT}' '{sys.executable}' '{tmp_path}/fill.py' '{disk}'
        cp '{disk}'/* '{kept}'
    """
    done = subprocess.run([*isolated, script], capture_output=True, text=True, timeout=150)
    assert done.returncode == 0, done.stderr
    assert "No space left on device; the show goes on" in done.stdout
    assert len(pictures(kept / "show.mp4")[0]) > 20


KILLED = """
import sys, time
from dreamrelay.media import open_sink, open_source
with open_source("pattern://clip?width=64&height=64") as source:
    sink = open_sink(f"record://{sys.argv[1]}")
    sink.keep_every()
    number = 0
    while True:
        sink.write(source.read().frame)
        number += 1
        print(number, flush=True)
        time.sleep(0.005)
"""


def test_what_was_recorded_before_a_kill_can_be_played(tmp_path: Path) -> None:
    path = tmp_path / "show.mp4"
    program = subprocess.Popen(
        [sys.executable, "-c", KILLED, str(path)], cwd=ROOT, stdout=subprocess.PIPE, text=True
    )
    assert program.stdout is not None
    with program.stdout:
        until(lambda: int(program.stdout.readline() or 999) > 190, 90)  # type: ignore[union-attr]
        os.kill(program.pid, signal.SIGTERM if sys.platform == "win32" else signal.SIGKILL)
    program.wait(30)
    assert len(pictures(path)[0]) >= 120


def test_a_program_records_until_it_is_stopped(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "show.mp4"
    with caplog.at_level(logging.INFO), open_sink(f"record://{path}") as sink:
        sink.keep_every()
        for frame in bars(7):
            sink.write(frame)
    assert f"recorded 7 pictures to {path}" in caplog.text


# -- in a thread of its own -----------------------------------------------------------------------


class Encoder:
    """Stands between a recording and its file: says when a picture may be written."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, *problems: BaseException | None) -> None:
        self.begun: list[Frame] = []
        self.may_end = threading.Semaphore(0)
        self._problems = list(problems)
        real = RecordSink.write

        def write(sink: RecordSink, frame: Frame) -> None:
            self.begun.append(frame)
            assert self.may_end.acquire(timeout=60)
            problem = self._problems.pop(0) if self._problems else None
            if problem is not None:
                raise problem
            real(sink, frame)

        monkeypatch.setattr(RecordSink, "write", write)


def test_nobody_waits_for_the_encoder_and_the_newest_is_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    encoder = Encoder(monkeypatch)
    shown = bars(6)
    sink = Recorder(tmp_path / "show.mp4")
    sink.write(shown[0])
    until(lambda: encoder.begun)
    for frame in shown[1:]:
        sink.write(frame)  # it would hang if it waited
        frame[:] = 0  # the caller may do what it likes with its own
    assert sink.dropped == 4
    encoder.may_end.release(2)
    with caplog.at_level(logging.INFO):
        sink.close()
        sink.close()
    found, _ = pictures(tmp_path / "show.mp4")
    assert len(found) == 2, "the one under way and the newest"
    assert np.abs(found[1].astype(int) - bars(6)[5]).mean() < 4
    assert "4 pictures came too fast for it" in caplog.text


def test_pictures_carry_the_time_at_which_they_came_and_not_that_of_the_encoder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    encoder = Encoder(monkeypatch)
    clock = Clock(step=0.5)
    with Recorder(tmp_path / "show.mp4", clock=clock) as sink:
        for number, frame in enumerate(bars(3)):
            sink.write(frame)
            until(lambda: len(encoder.begun) > number)  # noqa: B023 - at once
            clock.now += 0.1
            encoder.may_end.release()
    _, times = pictures(tmp_path / "show.mp4")
    assert times == pytest.approx([0.0, 0.6, 1.2], abs=0.002)


def test_what_fails_in_the_thread_is_raised_until_it_is_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    encoder = Encoder(monkeypatch, DeviceError("the disk is full"), None, LookupError("a bug"))
    encoder.may_end.release(1000)
    frame = bars(1)[0]
    with Recorder(tmp_path / "show.mp4") as sink:
        problems: list[str] = []

        def written(count: int) -> bool:
            try:
                sink.write(frame)
            except (DeviceError, LookupError) as error:
                problems.append(str(error))
            return len(encoder.begun) > count and not sink._failure

        until(lambda: written(3))
    assert list(dict.fromkeys(problems)) == ["the disk is full", "a bug"]
    assert len(pictures(tmp_path / "show.mp4")[0]) >= 1


def test_a_disk_that_hangs_does_not_keep_the_program(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("dreamrelay.media.record.LAST_PICTURE_S", 0.05)
    encoder = Encoder(monkeypatch)
    sink = Recorder(tmp_path / "show.mp4")
    sink.write(bars(1)[0])
    until(lambda: encoder.begun)
    sink.close()
    assert "the disk does not answer" in caplog.text
    encoder.may_end.release()
