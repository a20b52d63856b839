"""Shared memory between two processes: newest wins, nothing torn, nothing left behind."""

import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from dreamrelay.viewer import shared_frames
from dreamrelay.viewer.shared_frames import HELD, FrameReader, FrameWriter

READER = """
import json, sys
from dreamrelay.viewer.shared_frames import FrameReader

taken = torn = backwards = last = 0
sizes = set()
with FrameReader(sys.argv[1]) as reader:
    print("ready", flush=True)
    while True:
        picture = reader.take()
        if picture is None:
            continue
        taken += 1
        backwards += picture.seq <= last
        last = picture.seq
        sizes.add(picture.pixels.shape)
        value = picture.info["value"]
        torn += int(picture.pixels.min()) != value or int(picture.pixels.max()) != value
        if picture.info["end"]:
            break
print(json.dumps({"taken": taken, "torn": torn, "backwards": backwards, "sizes": len(sizes)}))
"""


def frame(value: int = 7, width: int = 8, height: int = 6) -> NDArray[np.uint8]:
    return np.full((height, width, 3), value, np.uint8)


@pytest.fixture
def writer() -> Iterator[FrameWriter]:
    with FrameWriter() as writer:
        yield writer


@pytest.fixture
def reader(writer: FrameWriter) -> Iterator[FrameReader]:
    handle = writer.handle if sys.platform == "win32" else str(os.dup(int(writer.handle)))
    with FrameReader(handle) as reader:
        yield reader


def test_picture_and_info_arrive(writer: FrameWriter, reader: FrameReader) -> None:
    pixels = np.arange(5 * 3 * 3, dtype=np.uint8).reshape(3, 5, 3)
    seq = writer.write(pixels, {"prompt": "a füchs, 狐", "revision": 3, "captured_ns": 10**18})
    picture = reader.take()
    assert picture is not None
    assert np.array_equal(picture.pixels, pixels)
    assert picture.seq == seq
    assert picture.info == {"prompt": "a füchs, 狐", "revision": 3, "captured_ns": 10**18}


def test_nothing_to_take_before_the_first_and_after_the_last(
    writer: FrameWriter, reader: FrameReader
) -> None:
    assert not reader.waiting
    assert reader.take() is None
    writer.write(frame())
    assert reader.waiting
    assert reader.take() is not None
    assert not reader.waiting
    assert reader.take() is None


def test_the_reader_is_told_once_of_what_it_asked_for(
    writer: FrameWriter, reader: FrameReader
) -> None:
    writer.write(frame())
    assert not writer.awaited(), "it did not ask"
    reader.await_next()
    reader.await_next()
    assert not reader.waiting or reader.take() is not None
    writer.write(frame())
    assert writer.awaited()
    writer.write(frame())
    assert not writer.awaited(), "it was told already"
    reader.await_next()
    writer.forget_reader()
    assert not writer.awaited(), "who asked has died"


def test_newest_wins(writer: FrameWriter, reader: FrameReader) -> None:
    for value in range(1, 8):
        writer.write(frame(value))
    picture = reader.take()
    assert picture is not None
    assert (picture.seq, int(picture.pixels[0, 0, 0])) == (7, 7)
    assert reader.take() is None


def test_sizes_are_followed(writer: FrameWriter, reader: FrameReader) -> None:
    for width, height in [(8, 6), (3, 5), (640, 480), (1, 1), (1921, 1081), (8, 6)]:
        pixels = np.random.default_rng(width).integers(0, 256, (height, width, 3), np.uint8)
        writer.write(pixels)
        picture = reader.take()
        assert picture is not None
        assert np.array_equal(picture.pixels, pixels)


def test_growing_keeps_nothing_of_the_old_memory_mapped(
    writer: FrameWriter, reader: FrameReader
) -> None:
    for step in range(1, 30):
        writer.write(frame(step, 64 * step, 64))
        assert reader.take() is not None
    maps = Path("/proc/self/maps")
    if maps.exists():
        assert maps.read_text().count("dreamrelay-viewer") <= 4


def test_a_view_that_is_not_contiguous_is_copied_as_it_looks(
    writer: FrameWriter, reader: FrameReader
) -> None:
    pixels = np.arange(4 * 6 * 3, dtype=np.uint8).reshape(4, 6, 3)[:, ::-2]
    writer.write(pixels)
    picture = reader.take()
    assert picture is not None
    assert np.array_equal(picture.pixels, pixels)


def test_the_slot_that_is_read_is_never_written(writer: FrameWriter, reader: FrameReader) -> None:
    writer.write(frame(1))
    for held in range(3):
        writer._words[HELD] = held + 1
        start = held * writer._capacity
        before = writer._pixels[start : start + 144].copy()
        for value in range(100, 110):
            writer.write(frame(value))
        # The newest may have been in that slot already: then the first write left it.
        assert np.array_equal(writer._pixels[start : start + 144], before)
        writer.forget_reader()


@pytest.mark.parametrize(
    "bad",
    [
        np.zeros((4, 4, 4), np.uint8),
        np.zeros((4, 4), np.uint8),
        np.zeros((4, 4, 3), np.float32),
        np.zeros((0, 4, 3), np.uint8),
    ],
)
def test_what_is_no_frame_is_refused(writer: FrameWriter, bad: NDArray[np.uint8]) -> None:
    with pytest.raises(ValueError, match="expected a frame, uint8 H x W x 3"):
        writer.write(bad)


def test_info_is_cut_to_its_place(writer: FrameWriter, reader: FrameReader) -> None:
    info: dict[str, object] = {"prompt": "狐" * 5000, "n": np.int64(5), "path": Path("a/b")}
    writer.write(frame(), info | {f"name{i}": "x" * 300 for i in range(40)})
    picture = reader.take()
    assert picture is not None
    prompt = picture.info["prompt"]
    assert isinstance(prompt, str)
    assert prompt.endswith("狐…")
    assert picture.info["n"] == 5
    assert picture.info["path"] == str(Path("a/b"))
    assert "name39" not in picture.info


def test_text_that_is_no_unicode_does_not_stop_the_picture(
    writer: FrameWriter, reader: FrameReader
) -> None:
    writer.write(frame(), {"prompt": "a \udc80 b"})
    picture = reader.take()
    assert picture is not None
    assert picture.info["prompt"] == "a ? b"


def test_status_is_taken_once(writer: FrameWriter, reader: FrameReader) -> None:
    assert reader.take_status() is None
    writer.set_status("loading model pocket …")
    assert reader.take_status() == "loading model pocket …"
    assert reader.take_status() is None
    writer.set_status("")
    assert reader.take_status() == ""


def test_a_status_that_is_too_long_is_cut(writer: FrameWriter, reader: FrameReader) -> None:
    writer.set_status("é" * 5000 + "x")
    text = reader.take_status()
    assert text == "é" * (shared_frames.STATUS_LIMIT // 2)


def test_a_later_reader_sees_the_last_picture(writer: FrameWriter) -> None:
    writer.write(frame(9))
    for _ in range(2):
        handle = writer.handle if sys.platform == "win32" else str(os.dup(int(writer.handle)))
        with FrameReader(handle) as reader:
            picture = reader.take()
            assert picture is not None
            assert int(picture.pixels.max()) == 9


@pytest.mark.skipif(sys.platform == "win32", reason="file descriptors")
def test_without_memfd_the_memory_is_a_file_without_a_name(monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(sys, "platform", "darwin")
        writer = FrameWriter()
    with writer, FrameReader(str(os.dup(int(writer.handle)))) as reader:
        assert os.fstat(int(writer.handle)).st_nlink == 0
        for width in (8, 80, 800):
            writer.write(frame(width % 256, width))
            picture = reader.take()
            assert picture is not None
            assert picture.pixels.shape == (6, width, 3)


def test_close_is_idempotent() -> None:
    writer = FrameWriter()
    writer.write(frame())
    writer.close()
    writer.close()


@pytest.mark.parametrize("growing", [False, True], ids=["one size", "growing"])
def test_no_torn_frame_from_a_writer_at_full_speed(writer: FrameWriter, growing: bool) -> None:
    """Every frame is of one value; a reader in another process looks for a second value in it."""
    child = subprocess.Popen(
        [sys.executable, "-c", READER, writer.handle],
        stdout=subprocess.PIPE,
        text=True,
        pass_fds=writer.memory.descriptors,
    )
    with child:
        assert child.stdout is not None
        assert child.stdout.readline() == "ready\n"
        frames = 3000
        buffer = np.empty((240, 320, 3), np.uint8)
        for number in range(frames):
            value = number % 251
            if growing and number % 50 == 0:
                buffer = np.empty((240, 320 + number // 50, 3), np.uint8)
            buffer.fill(value)
            writer.write(buffer, {"value": value, "end": number == frames - 1})
        found = json.loads(child.stdout.readline())
    assert found["torn"] == 0
    assert found["backwards"] == 0
    assert found["taken"] > 10
    assert found["sizes"] > (5 if growing else 0)


def test_two_threads_keep_the_order(writer: FrameWriter, reader: FrameReader) -> None:
    """Writer and reader as two threads of one process: order kept, the last one arrives."""
    seen: list[int] = []

    def read() -> None:
        while not seen or seen[-1] != 2000:
            picture = reader.take()
            if picture is not None:
                seen.append(picture.seq)

    thread = threading.Thread(target=read)
    thread.start()
    for number in range(2000):
        writer.write(frame(number % 256))
    thread.join(30)
    assert not thread.is_alive()
    assert seen == sorted(set(seen))
