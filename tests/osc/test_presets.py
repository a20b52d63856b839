"""Presets: one file, names that are no paths, nothing lost."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from dreamrelay.errors import DeviceError, ProtocolError
from dreamrelay.osc import presets as presets_module
from dreamrelay.osc.presets import MAX_BYTES, MAX_PRESETS, Presets, default_path


def test_what_is_saved_comes_back_in_another_process(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "presets.json"
    Presets(path).save("4", {"prompt": "Füchse 狐", "steps": [1, 2]})
    Presets(path).save("night", {"prompt": "moon"})
    again = Presets(path)
    assert again.names() == ["4", "night"]
    assert again.recall("4") == {"prompt": "Füchse 狐", "steps": [1, 2]}
    again.save("4", {"prompt": "other"})
    assert Presets(path).recall("4") == {"prompt": "other"}
    assert {file.name for file in path.parent.iterdir()} == {"presets.json", "presets.json.lock"}


def test_numbers_come_in_their_order_and_first(tmp_path: Path) -> None:
    presets = Presets(tmp_path / "p.json")
    for name in ("b", "10", "9", "a"):
        presets.save(name, {})
    assert presets.names() == ["9", "10", "a", "b"]


def test_no_name_is_a_path(tmp_path: Path) -> None:
    presets = Presets(tmp_path / "p.json")
    presets.save("../../outside", {"a": 1})
    assert {file.name for file in tmp_path.iterdir()} == {"p.json", "p.json.lock"}
    for name in ("", "x" * 65, "a\nb"):
        with pytest.raises(ProtocolError, match="name"):
            presets.save(name, {})


def test_there_is_an_end_to_them(tmp_path: Path) -> None:
    path = tmp_path / "p.json"
    many: dict[str, dict[str, int]] = {str(n): {} for n in range(MAX_PRESETS)}
    path.write_text(json.dumps({"version": 1, "presets": many}))
    presets = Presets(path)
    with pytest.raises(ProtocolError, match="already"):
        presets.save("one more", {})
    presets.save("5", {"a": 1})


def test_one_that_is_not_there_is_named_with_those_that_are(tmp_path: Path) -> None:
    presets = Presets(tmp_path / "p.json")
    with pytest.raises(ProtocolError, match="none yet"):
        presets.recall("1")
    presets.save("day", {})
    with pytest.raises(ProtocolError, match="day"):
        presets.recall("1")


@pytest.mark.parametrize(
    "content", ["{", "[]", "{}", '{"presets": [1]}', '{"presets": {"a": 1}}', "[" * 9999]
)
def test_a_file_that_cannot_be_read_stays_as_it_is(tmp_path: Path, content: str) -> None:
    path = tmp_path / "p.json"
    path.write_text(content)
    with pytest.raises(DeviceError, match="cannot be read"):
        Presets(path).recall("a")
    with pytest.raises(DeviceError, match="cannot be read"):
        Presets(path).save("a", {})
    assert path.read_text() == content


def test_too_large_a_file_is_not_read(tmp_path: Path) -> None:
    path = tmp_path / "p.json"
    path.write_bytes(b" " * (MAX_BYTES + 1))
    with pytest.raises(DeviceError, match="larger"):
        Presets(path).names()


def test_where_nothing_can_be_written_says_so(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    presets = Presets(tmp_path / "file" / "p.json")
    with pytest.raises(DeviceError, match="cannot be"):
        presets.save("a", {"x": 1})


@pytest.mark.parametrize(
    ("platform", "environ", "expected"),
    [
        ("linux", {"XDG_STATE_HOME": "/state"}, "/state/dreamrelay/presets.json"),
        ("win32", {"LOCALAPPDATA": "/local"}, "/local/dreamrelay/presets.json"),
    ],
)
def test_the_users_state_folder(platform: str, environ: dict[str, str], expected: str) -> None:
    assert default_path(environ, platform) == Path(expected)


def test_the_users_state_folder_without_a_word() -> None:
    for platform in ("linux", "win32", "darwin"):
        assert default_path({}, platform).is_relative_to(Path.home())


SAVING = """
import sys
from pathlib import Path
from dreamrelay.osc import presets as module

module.LOCK_SECONDS = 60.0  # of a busy machine
presets = module.Presets(Path(sys.argv[1]))
for number in range(20):
    presets.save(f"{sys.argv[2]}{number}", {"seed": number})
"""


def test_of_two_programs_that_save_at_once_none_loses_a_preset(tmp_path: Path) -> None:
    path = tmp_path / "p.json"
    programs = [subprocess.Popen([sys.executable, "-c", SAVING, str(path), name]) for name in "ab"]
    assert [program.wait(120) for program in programs] == [0, 0]
    assert set(Presets(path).names()) == {f"{name}{n}" for name in "ab" for n in range(20)}


def test_where_another_program_goes_on_saving_somebody_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(presets_module, "LOCK_SECONDS", 0.05)
    presets = Presets(tmp_path / "p.json")
    with presets._alone(), pytest.raises(DeviceError, match="another program"):
        Presets(tmp_path / "p.json").save("a", {})
    presets.save("a", {})


def test_a_full_disk_leaves_what_was_there_and_nothing_beside(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    presets = Presets(tmp_path / "p.json")
    presets.save("a", {"seed": 1})

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(DeviceError, match="No space left"):
        presets.save("b", {"seed": 2})
    assert {file.name for file in tmp_path.iterdir()} == {"p.json", "p.json.lock"}
    assert Presets(tmp_path / "p.json").recall("a") == {"seed": 1}
