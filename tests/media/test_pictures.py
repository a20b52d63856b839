"""Picture files: shown one by one, and written."""

import logging
import os
import threading
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from dreamrelay.codec import Frame, decode
from dreamrelay.errors import ConfigError, DeviceError
from dreamrelay.media import Source, open_sink, open_source
from dreamrelay.media.pictures import MOST_MISSED, DirectorySource


def save(path: Path, level: int, size: tuple[int, int] = (8, 8)) -> Path:
    Image.new("RGB", size, (level, level, level)).save(path)
    return path


def levels(source: Source, count: int) -> list[int | None]:
    captured = [source.read() for _ in range(count)]
    return [None if one is None else int(one.frame.mean()) for one in captured]


def directory(path: Path, query: str = "") -> DirectorySource:
    source = open_source(f"directory://{path}{query}")
    assert isinstance(source, DirectorySource)
    return source


def test_a_picture_is_shown_again_and_again(tmp_path: Path) -> None:
    with open_source(str(save(tmp_path / "a.png", 9))) as source:
        assert levels(source, 3) == [9, 9, 9]


def test_the_name_of_a_picture_does_not_say_what_it_is(tmp_path: Path) -> None:
    path = tmp_path / "image.jpg"
    Image.new("RGBA", (4, 4), (0, 90, 0, 255)).save(path, "PNG")
    with open_source(str(path)) as source:
        captured = source.read()
    assert captured is not None
    assert captured.frame[0, 0].tolist() == [0, 90, 0]


@pytest.mark.parametrize(
    ("content", "words"),
    [(b"hello", "cannot show"), (b"", "got nothing"), (b"\xff\xd8\xff", "cut off")],
)
def test_a_picture_that_is_none_is_named(tmp_path: Path, content: bytes, words: str) -> None:
    path = tmp_path / "a.png"
    path.write_bytes(content)
    with pytest.raises(DeviceError, match=words) as caught:
        open_source(f"file://{path}")
    assert "a.png" in str(caught.value)


def test_the_wrong_scheme_is_told_the_right_one(tmp_path: Path) -> None:
    with pytest.raises(DeviceError, match="use directory://"):
        open_source(f"file://{tmp_path}")
    save(tmp_path / "a.png", 1)
    with pytest.raises(DeviceError, match="use file://"):
        open_source(f"directory://{tmp_path}/a.png")
    with pytest.raises(DeviceError, match="use video://"):
        open_source(f"file://{tmp_path}/a.mp4")


def test_a_folder_is_shown_sorted_in_every_coding_and_case(tmp_path: Path) -> None:
    names = ["b.PNG", "a.jpg", "d.JPEG", "c.bmp", "f.gif", "e.Webp", "g.jpeg"]
    for name in names:
        save(tmp_path / name, (ord(name[0]) - ord("a")) * 20)
    (tmp_path / "notes.txt").write_text("not a picture")
    (tmp_path / "folder.txt").mkdir()
    with directory(tmp_path, "?loop=false") as source:
        assert source.live is False
        shown = levels(source, 8)
        assert shown[-1] is None
        assert shown[:-1] == pytest.approx([0, 20, 40, 60, 80, 100, 120], abs=3)


def test_a_folder_begins_anew_and_is_looked_at_anew(tmp_path: Path) -> None:
    save(tmp_path / "a.png", 10)
    save(tmp_path / "b.png", 20)
    with open_source(str(tmp_path)) as source:
        assert levels(source, 3) == [10, 20, 10]
        save(tmp_path / "c.png", 30)
        (tmp_path / "a.png").unlink()
        assert levels(source, 4) == [20, 20, 30, 20]


def test_an_unreadable_file_is_skipped_counted_and_named_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "a.png").write_bytes(b"garbage")
    save(tmp_path / "b.png", 20)
    (tmp_path / "c.jpg").mkdir()
    save(tmp_path / "d.png", 40)
    with caplog.at_level(logging.WARNING), directory(tmp_path) as source:
        assert levels(source, 6) == [20, 40, 20, 40, 20, 40]
        assert source.skipped == 2
    messages = [record.getMessage() for record in caplog.records]
    assert len(messages) == 2
    assert "a.png" in messages[0]
    assert "c.jpg" in messages[1]


@pytest.mark.skipif(os.name != "posix", reason="named pipes")
def test_a_folder_without_a_readable_picture_says_so(tmp_path: Path) -> None:
    with pytest.raises(DeviceError, match=r"expected pictures \(\.bmp .*found none"):
        directory(tmp_path)
    (tmp_path / "a.png").write_bytes(b"garbage")
    for query in ("", "?loop=false"):
        with pytest.raises(DeviceError, match="expected a readable picture in"):
            directory(tmp_path, query)
    with pytest.raises(DeviceError, match="cannot list"):
        directory(tmp_path / "nowhere")


def test_a_folder_that_empties_fails_and_recovers(tmp_path: Path) -> None:
    path = save(tmp_path / "a.png", 10)
    with directory(tmp_path) as source:
        assert levels(source, 2) == [10, 10]
        path.unlink()
        with pytest.raises(DeviceError, match="found none"):
            source.read()
        save(tmp_path / "b.png", 20)
        assert levels(source, 1) == [20]


def test_a_huge_picture_in_a_folder_is_skipped(tmp_path: Path) -> None:
    save(tmp_path / "b.png", 20)
    data = bytearray((tmp_path / "b.png").read_bytes())
    data[16:24] = (70_000).to_bytes(4, "big") * 2
    (tmp_path / "a.png").write_bytes(data)
    with directory(tmp_path) as source:
        assert levels(source, 1) == [20]
        assert source.skipped == 1


FRAME: Frame = np.full((6, 7, 3), 90, np.uint8)


def test_snapshots_are_numbered_from_the_first_free_number(tmp_path: Path) -> None:
    with open_sink(f"file://{tmp_path}/x_%03d.png") as sink:
        sink.write(FRAME)
        sink.write(FRAME)
    with open_sink(str(tmp_path / "x_%03d.png")) as sink:
        sink.write(FRAME)
    (tmp_path / "x_041.png").write_bytes(b"")
    (tmp_path / "y_099.png").write_bytes(b"")
    with open_sink(str(tmp_path / "x_%03d.png")) as sink:
        sink.write(FRAME)
    names = sorted(path.name for path in tmp_path.iterdir())
    assert names == ["x_001.png", "x_002.png", "x_003.png", "x_041.png", "x_042.png", "y_099.png"]


def test_a_counter_without_padding(tmp_path: Path) -> None:
    with open_sink(f"file://{tmp_path}/shot%20%d.webp") as sink:
        for _ in range(11):
            sink.write(FRAME)
    assert (tmp_path / "shot 11.webp").exists()


@pytest.mark.parametrize("suffix", ["jpg", "JPEG", "png", "webp"])
def test_the_ending_says_the_coding(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"a.{suffix}"
    with open_sink(str(path)) as sink:
        sink.write(FRAME)
    assert abs(int(decode(path.read_bytes()).mean()) - 90) < 3


@pytest.mark.parametrize("name", ["a.gif", "a", "%06d", "a.png.txt"])
def test_another_ending_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(ConfigError, match=r"ends in \.jpg"):
        open_sink(str(tmp_path / name))


@pytest.mark.parametrize("name", ["%03d_%03d.png", "%02d/a.png"])
def test_two_counters_or_counted_folders_are_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(ConfigError, match="one counter"):
        open_sink(str(tmp_path / name))


def test_one_file_is_replaced_whole(tmp_path: Path) -> None:
    """A reader that looks all the time never sees half a picture."""
    path = tmp_path / "latest.png"
    stop = threading.Event()
    seen: list[tuple[int, ...]] = []

    def look() -> None:
        while not stop.is_set():
            if path.exists():
                seen.append(decode(path.read_bytes()).shape)

    thread = threading.Thread(target=look)
    with open_sink(str(path)) as sink:
        sink.write(FRAME)
        thread.start()
        for size in range(2, 120):
            sink.write(np.full((size * 3, size, 3), size, np.uint8))
        while not seen:
            sink.write(FRAME)
    stop.set()
    thread.join(30)
    assert seen
    assert [entry.name for entry in tmp_path.iterdir()] == ["latest.png"]


def test_a_file_that_somebody_reads_is_replaced_later(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As on Windows, where a file that is open cannot be replaced."""
    path, other = tmp_path / "latest.png", np.zeros((4, 6, 3), np.uint8)

    def busy(_: Path, into: Path) -> None:
        raise PermissionError(13, "The process cannot access the file", str(into))

    with open_sink(str(path)) as sink:
        sink.write(FRAME)
        with monkeypatch.context() as windows:
            windows.setattr("os.replace", busy)
            for _ in range(MOST_MISSED):
                sink.write(other)
            with pytest.raises(DeviceError, match=r"cannot write .* cannot access"):
                sink.write(other)
        assert decode(path.read_bytes()).shape == FRAME.shape
        sink.write(other)
    assert decode(path.read_bytes()).shape == other.shape
    assert [entry.name for entry in tmp_path.iterdir()] == ["latest.png"]


def test_a_folder_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(DeviceError, match="cannot write to"):
        open_sink(str(tmp_path / "file" / "a.png"))


def test_writing_fails_and_works_again(tmp_path: Path) -> None:
    folder = tmp_path / "shots"
    with open_sink(str(folder / "a.png")) as sink:
        sink.write(FRAME)
        for entry in folder.iterdir():
            entry.unlink()
        folder.rmdir()
        with pytest.raises(DeviceError, match="cannot write"):
            sink.write(FRAME)
        folder.mkdir()
        sink.write(FRAME)
    assert (folder / "a.png").exists()
