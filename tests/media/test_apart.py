"""A program does not take in what it shows."""

import platform
from pathlib import Path

import pytest

from dreamrelay.errors import ConfigError
from dreamrelay.media import keep_apart

HERE = platform.node()


@pytest.mark.parametrize(
    ("source", "sink"),
    [
        ("spout://A", "spout://A"),
        ("spout://A%20B", "spout://A B"),
        ("spout://", "spout://A"),  # the active sender is the first that there is
        ("spout://dreamrelay", "spout://"),
        ("syphon://", "syphon://A"),
        ("syphon://stage", "syphon://Main Stage"),
        ("NDI://", "ndi://A"),
        ("ndi://out", "ndi://Stage Out?fps=25"),
        ("ndi://dreamrelay", "ndi://"),
        (f"ndi://{HERE.upper()} (A)", "ndi://A"),
    ],
)
def test_our_own_sender_is_no_source(source: str, sink: str) -> None:
    with pytest.raises(ConfigError, match="would find our own"):
        keep_apart(source, ["null://", sink])


@pytest.mark.parametrize(
    ("source", "sink"),
    [
        ("spout://A", "spout://B"),
        ("spout://a", "spout://A"),
        ("spout://A", "ndi://A"),
        ("ndi://A", "ndi://B"),
        ("ndi://ELSEWHERE (A)", "ndi://A"),
        ("syphon://A", "syphon://B"),
        ("pattern://bars", "null://"),
        ("camera://0", "virtualcam://"),
    ],
)
def test_others_are(source: str, sink: str) -> None:
    keep_apart(source, [sink])


def test_a_file_that_is_read_is_not_written(tmp_path: Path) -> None:
    picture = tmp_path / "a.png"
    picture.touch()
    sinks = [str(picture), f"file://{picture}", f"{tmp_path}/x/../a.png"]
    for source in (str(picture), f"file://{picture}", f"video://{picture}?loop=false"):
        for sink in sinks:
            with pytest.raises(ConfigError, match="name another place"):
                keep_apart(source, [sink])
        keep_apart(source, [f"{tmp_path}/b.png", f"record://{tmp_path}/a.mp4"])


def test_nothing_is_written_into_a_folder_that_is_read(tmp_path: Path) -> None:
    folder = tmp_path / "in"
    folder.mkdir()
    for source in (str(folder), f"directory://{folder}"):
        for sink in (f"{folder}/x_%06d.png", f"file://{folder}/latest.jpg"):
            with pytest.raises(ConfigError, match="name another place"):
                keep_apart(source, [sink])
        # Folders below it are not read, and neither are recordings.
        others = [f"{folder}/out/x_%06d.png", f"{tmp_path}/x.png", f"record://{folder}/show.mp4"]
        keep_apart(source, others)
