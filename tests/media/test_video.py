"""Video files picture by picture; streams and cameras by their newest picture."""

import logging
import threading
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest

from dreamrelay.codec import Frame
from dreamrelay.errors import ConfigError, DeviceError
from dreamrelay.media import Source, open_source
from dreamrelay.media.live import LiveSource
from dreamrelay.media.opencv import to_rgb
from dreamrelay.media.pattern import read_counter
from dreamrelay.media.video import VideoSource
from tests.fakes.devices import NetworkCamera, bars, write_video


@pytest.fixture
def clip(tmp_path: Path) -> Path:
    return write_video(tmp_path / "a clip.avi", bars(5), fps=12.5)


def counters(source: Source, count: int) -> list[int | None]:
    captured = [source.read() for _ in range(count)]
    return [None if one is None else read_counter(one.frame) for one in captured]


def test_every_picture_in_order_then_the_end(clip: Path) -> None:
    with open_source(f"video://{clip}?loop=false") as source:
        assert source.fps == 12.5
        assert source.live is False
        assert counters(source, 7) == [0, 1, 2, 3, 4, None, None]


def test_a_video_begins_anew_unless_told_otherwise(clip: Path) -> None:
    with open_source(str(clip)) as source:
        assert counters(source, 12) == [0, 1, 2, 3, 4, 0, 1, 2, 3, 4, 0, 1]


@pytest.mark.parametrize("content", [b"", b"garbage" * 100, b"\0\0\0\x18ftypmp42" + bytes(500)])
def test_a_broken_video_is_named(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "a.mp4"
    path.write_bytes(content)
    with pytest.raises(DeviceError, match=r"a\.mp4.*broken or no video"):
        open_source(f"video://{path}")


def test_a_video_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(DeviceError, match="none is at"):
        open_source(f"video://{tmp_path}/nothing.mp4")


def test_a_video_without_pictures_is_named(tmp_path: Path, clip: Path) -> None:
    path = tmp_path / "empty.avi"
    path.write_bytes(clip.read_bytes()[:2500])
    with pytest.raises(DeviceError):
        open_source(f"video://{path}")


def test_a_video_that_vanishes_ends_with_an_error(tmp_path: Path, clip: Path) -> None:
    with VideoSource(clip) as source:
        assert counters(source, 5)[-1] == 4
        clip.unlink()
        with pytest.raises(DeviceError, match="cannot open"):
            source.read()
        assert source.read() is None


@pytest.mark.parametrize(
    ("picture", "expected"),
    [
        (np.full((2, 2), 7, np.uint8), [7, 7, 7]),
        (np.full((2, 2, 1), 7, np.uint8), [7, 7, 7]),
        (np.full((2, 2, 3), (1, 2, 3), np.uint8), [3, 2, 1]),
        (np.full((2, 2, 4), (1, 2, 3, 9), np.uint8), [3, 2, 1]),
        (np.full((2, 2, 3), (0, 65535, 32768), np.uint16), [128, 255, 0]),
    ],
    ids=["grey", "grey-1", "bgr", "bgra", "16-bit"],
)
def test_what_cv2_gives_becomes_a_frame(picture: Frame, expected: list[int]) -> None:
    frame = to_rgb(picture)
    assert frame.dtype == np.uint8
    assert frame[1, 1].tolist() == expected


class FakeDevice:
    """A camera that gives a picture whenever the test says so."""

    fps: float | None = None
    has_end = False

    def __init__(self) -> None:
        self.allowed = threading.Semaphore(0)
        self.given = 0
        self.fails: DeviceError | None = None
        self.unplugged = False
        self.released = 0
        self.took = threading.Condition()

    def give(self, count: int = 1) -> None:
        """Let the thread read ``count`` pictures, and wait until it has them all."""
        with self.took:
            wanted = self.given + count
            for _ in range(count):
                self.allowed.release()
            # The thread asks for the next one only when it has handed over the one before.
            assert self.took.wait_for(lambda: self.given >= wanted and self.asking, 20)

    asking = False

    def read(self) -> Frame | None:
        with self.took:
            self.asking = True
            self.took.notify_all()
        while not self.allowed.acquire(timeout=0.01):
            if self.unplugged:
                return None
        with self.took:
            self.asking = False
            self.given += 1
            if self.fails is not None:
                raise self.fails
            return np.full((4, 4, 3), self.given % 256, np.uint8)

    def release(self) -> None:
        self.released += 1


@pytest.fixture
def device() -> FakeDevice:
    device = FakeDevice()
    device.allowed.release()  # for opening
    return device


@pytest.fixture
def live(device: FakeDevice) -> Iterator[LiveSource]:
    source = LiveSource("camera 7", lambda: device, patience=20)
    try:
        yield source
    finally:
        device.unplugged = True
        source.close()


def level(source: Source) -> int:
    captured = source.read()
    assert captured is not None
    return int(captured.frame[0, 0, 0])


def test_a_slow_reader_sees_the_newest_and_the_rest_is_counted(
    device: FakeDevice, live: LiveSource
) -> None:
    device.give(5)
    assert level(live) == 6
    assert live.skipped == 4
    device.give()
    assert level(live) == 7


def test_capture_time_is_that_of_the_device_not_of_the_reader(
    device: FakeDevice, live: LiveSource
) -> None:
    device.give()
    captured = live.read()
    device.give()
    later = live.read()
    assert captured is not None
    assert later is not None
    assert captured.captured_ns < later.captured_ns


def test_an_unplugged_device_is_an_error_and_is_opened_again(
    device: FakeDevice, live: LiveSource, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO):
        device.unplugged = True
        with pytest.raises(DeviceError, match="camera 7 gives no more pictures"):
            live.read()
        device.unplugged = False
        device.allowed.release()
        while True:
            try:
                assert live.read() is not None
                break
            except DeviceError:
                continue
    assert device.released >= 1
    assert "trying again in 0.25 s" in caplog.text


def test_a_device_that_fails_is_an_error(device: FakeDevice, live: LiveSource) -> None:
    device.fails = DeviceError("cannot read camera 7: smoke")
    device.allowed.release()
    with pytest.raises(DeviceError, match="smoke"):
        live.read()


def test_no_picture_in_time_is_an_error_and_reading_again_works(device: FakeDevice) -> None:
    live = LiveSource("camera 7", lambda: device, patience=0.01)
    with pytest.raises(DeviceError, match=r"no picture for 0\.01 s"):
        live.read()
    device.give()
    assert level(live) == 2
    device.unplugged = True
    live.close()
    assert device.released == 1


def test_what_cannot_be_opened_is_told_at_once() -> None:
    def refuse() -> FakeDevice:
        raise DeviceError("cannot open camera 7: busy")

    with pytest.raises(DeviceError, match="busy"):
        LiveSource("camera nowhere", refuse)
    assert "read camera nowhere" not in {thread.name for thread in threading.enumerate()}


def test_a_device_that_stays_away_is_tried_ever_less_often(
    device: FakeDevice, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("dreamrelay.media.live.FIRST_WAIT_S", 0.001)
    monkeypatch.setattr("dreamrelay.media.live.LONGEST_WAIT_S", 0.004)
    attempts: list[int] = []

    def open_device() -> FakeDevice:
        attempts.append(1)
        if len(attempts) == 1:
            return device
        raise DeviceError("cannot open camera 7: gone")

    caplog.set_level(logging.DEBUG, "dreamrelay.media.live")
    live = LiveSource("camera 7", open_device, patience=20)
    device.unplugged = True
    while len(caplog.records) < 5:
        with pytest.raises(DeviceError):
            live.read()
    live.close()
    waits = [record.getMessage().rpartition(" in ")[2] for record in caplog.records]
    assert waits[:5] == ["0.001 s", "0.002 s", "0.004 s", "0.004 s", "0.004 s"]
    loud = [record for record in caplog.records if record.levelno >= logging.INFO]
    assert len(loud) == 1, "it is said once"


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_a_thread_that_dies_does_not_leave_its_reader_waiting() -> None:
    def explode() -> FakeDevice:
        raise RuntimeError("a bug")

    with pytest.raises(DeviceError, match="its reading thread died"):
        LiveSource("camera 7", explode)


def test_closing_wakes_a_reader(device: FakeDevice, live: LiveSource) -> None:
    ends: list[object] = []
    thread = threading.Thread(target=lambda: ends.append(live.read()))
    thread.start()
    device.unplugged = True
    live.close()
    thread.join(20)
    # It was woken by the end, or had already been told that the device was unplugged.
    assert not thread.is_alive()
    assert live.read() is None


def test_a_file_stands_in_for_a_camera_and_never_ends(clip: Path, tmp_path: Path) -> None:
    fast = write_video(tmp_path / "fast.avi", bars(3), fps=250)
    with open_source(f"camera://{fast}") as source:
        assert source.live is True
        seen = {number for number in counters(source, 12) if number is not None}
    assert seen <= {0, 1, 2}
    assert len(seen) > 1


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("camera://0", r"cannot open camera 0: is it plugged in.*Try camera://1"),
        ("webcam://63?width=640&height=480&fps=30", r"camera 63.*Try camera://0"),
        ("camera:///dev/video63", r"cannot open camera:///dev/video63"),
        ("camera:///no/such/clip.avi", r"cannot open camera:///no/such/clip.avi"),
    ],
)
def test_a_camera_that_is_not_there_is_named(
    url: str, words: str, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    if Path("/dev/video0").exists() and url == "camera://0":
        pytest.skip("this machine has a camera")
    monkeypatch.delenv("OPENCV_LOG_LEVEL", raising=False)
    with pytest.raises(DeviceError, match=words) as caught:
        open_source(url)
    assert "\n" not in str(caught.value)
    assert capfd.readouterr().err == ""


@pytest.mark.parametrize("target", ["-1", "abc", "100", "9" * 30, "0.5/../x y"])
def test_what_can_be_no_camera_is_not_waited_for(
    target: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    if "/" in target:  # a path may be there later
        with pytest.raises(DeviceError, match="cannot open"):
            open_source(f"camera://{target}")
        return
    with pytest.raises(ConfigError, match=r"number of a camera .*got camera://.*dreamrelay list"):
        open_source(f"camera://{target}")


def test_a_backend_of_another_system_is_named() -> None:
    there = cv2.videoio_registry.getCameraBackends()
    foreign = "avfoundation" if cv2.CAP_AVFOUNDATION not in there else "dshow"
    with pytest.raises(ConfigError, match=rf"backend of this system \(any.*\), got '{foreign}'"):
        open_source(f"camera://0?backend={foreign}")


def test_a_stream_shows_the_newest_and_its_query_is_its_own() -> None:
    with NetworkCamera(bars(7)) as camera, open_source(camera.url) as source:
        assert source.live is True
        assert {number for number in counters(source, 5) if number is not None} <= set(range(7))


def test_a_stream_that_is_cut_is_opened_again() -> None:
    with NetworkCamera(bars(2)) as camera, open_source(camera.url) as source:
        assert camera.connections == 1
        camera.unplug()
        while camera.connections < 2:
            try:
                assert source.read() is not None
            except DeviceError as error:
                assert "no more pictures" in str(error)  # noqa: PT017 - now and then is right
        assert source.read() is not None


def test_a_stream_that_is_not_there_is_named_without_its_password() -> None:
    with pytest.raises(DeviceError, match=r"cannot open http://me:\*\*\*@127.0.0.1:9/") as caught:
        open_source("http://me:secret@127.0.0.1:9/live")
    assert "secret" not in str(caught.value)
