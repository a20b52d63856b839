"""Opening by name: what is chosen, what is refused and what is imported."""

import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

from dreamrelay.errors import ConfigError, DeviceError, MissingExtra
from dreamrelay.importer import Entry
from dreamrelay.media import catalog, open_sink, open_source, sink_schemes, source_schemes
from dreamrelay.media.pictures import DirectorySource, PictureSource
from dreamrelay.media.video import VideoSource
from tests.fakes.devices import bars, write_video


@pytest.fixture
def picture(tmp_path: Path) -> Path:
    path = tmp_path / "a.png"
    Image.new("RGB", (70, 64), "red").save(path)
    return path


def test_paths_open_what_they_lead_to(picture: Path) -> None:
    folder = picture.parent
    write_video(folder / "b.avi", bars(2))
    (folder / "picture").write_bytes(picture.read_bytes())
    (folder / "film").write_bytes((folder / "b.avi").read_bytes())
    expected = {
        "a.png": PictureSource,
        "b.avi": VideoSource,
        "picture": PictureSource,
        "film": VideoSource,
        "": DirectorySource,
    }
    for name, kind in expected.items():
        with open_source(str(folder / name)) as source:
            assert type(source) is kind


def test_a_relative_path(picture: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(picture.parent)
    with open_source("a.png") as source, open_source("file://a.png") as other:
        assert type(source) is type(other) is PictureSource


def test_the_default_is_the_test_card() -> None:
    with open_source() as source, open_source("pattern://") as other:
        assert source.read() is not None
        assert other.read() is not None


@pytest.mark.parametrize(
    "text", ["no/such/thing.png", "C:\\no\\such.mp4", "pattern:bars", "x" * 5000]
)
def test_a_path_to_nothing_is_a_device_error(text: str) -> None:
    with pytest.raises(DeviceError) as caught:
        open_source(text)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("patern://bars", ["did you mean pattern?", "screen://", "camera://", "got patern://bars"]),
        ("midi://Studio", ["pattern://", "got midi://Studio"]),
        ("pattern://bras", ["did you mean bars?", "pattern://clip"]),
        ("screen://left", ["number of a monitor"]),
        ("screen://-1", ["number of a monitor"]),
    ],
)
def test_unknown_names_list_what_there_is(url: str, words: list[str]) -> None:
    with pytest.raises(ConfigError) as caught:
        open_source(url)
    text = str(caught.value)
    assert "\n" not in text
    assert all(word in text for word in words)


def test_unknown_sinks_list_what_there_is() -> None:
    with pytest.raises(
        ConfigError, match=r"file://, ndi://, null://.* spout://.* got nul://.*null\?"
    ):
        open_sink("nul://")
    with pytest.raises(ConfigError, match="without a name"):
        open_sink("null://x")


def test_schemes_are_sorted_names() -> None:
    assert source_schemes() == sorted(source_schemes())
    assert "pattern" in source_schemes()
    assert "null" in sink_schemes()


@pytest.mark.parametrize("table", [catalog.SOURCES, catalog.SINKS], ids=["sources", "sinks"])
def test_every_row_can_be_loaded(table: dict[str, Entry]) -> None:
    for scheme, entry in table.items():
        if scheme not in ("viewer", "virtualcam"):  # need Qt, and a package that is GPL
            assert callable(entry.load())


def test_a_missing_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    row = Entry("no_such_package.x:y", "teleportation", "teleport")
    monkeypatch.setitem(catalog.SOURCES, "beam", row)
    with pytest.raises(MissingExtra, match=r"teleportation needs .*dreamrelay\[teleport\]"):
        open_source("beam://up")


def test_nothing_is_imported_before_it_is_asked_for() -> None:
    code = (
        "import sys, dreamrelay.media as media\n"
        "heavy = {'cv2', 'mss', 'SpoutGL', 'torch', 'PySide6'}\n"
        "assert not heavy & set(sys.modules), heavy & set(sys.modules)\n"
        "media.open_source('pattern://bars').read()\n"
        "media.open_sink('null://')\n"
        "assert not heavy & set(sys.modules), heavy & set(sys.modules)\n"
    )
    root = Path(__file__).resolve().parents[2]
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=root, capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stderr
