"""What is there now."""

import json
import sys
from contextlib import ExitStack
from pathlib import Path

import numpy as np
import pytest

from dreamrelay.errors import DeviceError
from dreamrelay.media import open_source, present
from dreamrelay.media.present import Found, Kind, as_json, as_text, look
from tests.fakes.devices import NO_XVFB, has_xvfb, running_xvfb
from tests.fakes.ndi import shared_program
from tests.fakes.network import ONE_PROCESS, own_network
from tests.fakes.spoutgl import Gpu
from tests.fakes.syphon import Mac
from tests.support import Program, until


def kind(title: str, seconds: float = 0.1) -> Kind:
    return next(one for one in look(seconds) if one.title == title)


def test_each_kind_has_a_place_and_says_why_it_is_empty() -> None:
    found = look(0.1)
    assert [one.title for one in found] == [
        "cameras",
        "screens",
        "Spout senders",
        "Syphon servers",
        "NDI senders",
        "virtual cameras",
        "recordings",
    ]
    if sys.platform == "linux":
        assert "technology of Windows" in found[2].note
        assert "technology of macOS" in found[3].note


def test_screens_can_be_opened_by_what_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    if not has_xvfb():
        pytest.skip(NO_XVFB)
    with running_xvfb(320, 240) as display:
        monkeypatch.setenv("DISPLAY", display.name)
        assert kind("screens").found == [Found("screen://0", "320x240 at 0,0")]
        open_source("screen://0").close()
    assert "no display" in kind("screens").note


@ONE_PROCESS
def test_ndi_senders_can_be_opened_by_what_is_said() -> None:
    with own_network(), ExitStack() as stack:
        program = shared_program()
        stack.callback(program.say, "vanish")
        program.say("show", 192, 128)
        urls = until(lambda: [found.url for found in kind("NDI senders", 0.5).found], 60)
        assert any(program.name in url for url in urls)
        with open_source(f"{urls[0]}?timeout=30") as source:
            assert source.read() is not None


def test_spout_senders_with_their_sizes(monkeypatch: pytest.MonkeyPatch) -> None:
    gpu = Gpu()
    for name, module in gpu.modules().items():
        monkeypatch.setitem(sys.modules, name, module)
    monkeypatch.setattr("platform.system", lambda: "Windows")
    gpu.show("100% real?", np.zeros((48, 64, 3), np.uint8))
    assert kind("Spout senders").found == [Found("spout://100%25 real%3F", "64x48")]
    with open_source("spout://100%25 real%3F") as source:
        gpu.show("100% real?", np.ones((48, 64, 3), np.uint8))
        assert source.read() is not None


def test_syphon_servers(monkeypatch: pytest.MonkeyPatch) -> None:
    mac = Mac()
    for name, module in mac.modules().items():
        monkeypatch.setitem(sys.modules, name, module)
    monkeypatch.setattr("platform.system", lambda: "Darwin")
    mac.show("Main", np.zeros((48, 64, 3), np.uint8), app="Resolume")
    assert kind("Syphon servers").found == [Found("syphon://Resolume - Main")]
    assert mac.open_directories == 0


def test_cameras_of_linux_are_named_by_the_kernel(tmp_path: Path) -> None:
    for node, index, name in [
        ("video10", "0", "HDMI"),
        ("video0", "0", "Cam"),
        ("video1", "1", ""),
    ]:
        (tmp_path / node).mkdir()
        (tmp_path / node / "index").write_text(f"{index}\n")
        (tmp_path / node / "name").write_text(f"{name}\n")
    assert list(present._video4linux(tmp_path)) == [
        Found("camera://0", "Cam (/dev/video0)"),
        Found("camera://10", "HDMI (/dev/video10)"),
    ]
    assert list(present._video4linux(tmp_path / "nothing")) == []


def test_cameras_elsewhere_are_tried_one_after_the_other(monkeypatch: pytest.MonkeyPatch) -> None:
    released: list[int] = []

    class Capture:
        def __init__(self, number: int, name: str, hint: str) -> None:
            if number == 1:
                raise DeviceError("another program has it")
            self._number = number

        def read(self) -> np.ndarray | None:
            if self._number == 3:
                raise DeviceError("cannot read camera 3: smoke")
            return None if self._number else np.zeros((480, 640, 3), np.uint8)

        def release(self) -> None:
            released.append(self._number)

    monkeypatch.setattr("dreamrelay.media.opencv.Capture", Capture)
    assert list(present._probed()) == [
        Found("camera://0", "640x480"),
        Found("camera://2"),
        Found("camera://3", "cannot read camera 3: smoke"),
    ]
    assert released == [0, 2, 3]


def test_without_a_camera_elsewhere_it_is_said_what_to_look_for(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def nothing(*_: object) -> None:
        raise DeviceError("no")

    monkeypatch.setattr("sys.platform", "darwin")
    monkeypatch.setattr("dreamrelay.media.opencv.Capture", nothing)
    assert "allowed for this program" in present._kind("cameras", present._cameras).note


def test_where_ndi_can_find_nobody_that_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("platform.system", lambda: "Linux")
    monkeypatch.setattr("dreamrelay.media.ndi._AVAHI", tmp_path / "socket")
    monkeypatch.setattr("dreamrelay.media.ndi.senders", lambda _: [])
    monkeypatch.setattr("pathlib.Path.home", lambda: tmp_path)
    assert present._kind("NDI", lambda: present._ndi(0)).note == ""  # NDI_CONFIG_DIR is set
    monkeypatch.delenv("NDI_CONFIG_DIR")
    assert "avahi, which does not run here" in present._kind("NDI", lambda: present._ndi(0)).note
    (tmp_path / "socket").touch()
    assert present._kind("NDI", lambda: present._ndi(0)).note == ""


def test_a_missing_extra_is_named_with_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "cyndilib", None)
    for name in [
        name for name in sys.modules if name.startswith(("cyndilib.", "dreamrelay.media.ndi"))
    ]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    assert 'pip install "dreamrelay[ndi]"' in kind("NDI senders").note
    assert 'pip install "dreamrelay[virtualcam]"' in kind("virtual cameras").note
    assert 'pip install "dreamrelay[record]"' in kind("recordings").note


def test_a_package_that_does_not_load_is_named() -> None:
    def broken() -> list[Found]:
        raise ImportError("libndi.so.6: cannot open shared object file")

    assert "cannot look: ImportError: libndi" in present._kind("NDI senders", broken).note


KINDS = [
    Kind("cameras", [Found("camera://0", "Cam")]),
    Kind("NDI senders", [Found("ndi://HALL (Left)")]),
    Kind("screens"),
    Kind("Spout senders", note="not here"),
]


def test_as_text() -> None:
    assert as_text(KINDS).splitlines() == [
        "cameras",
        f"  {'camera://0':<40}Cam",
        "NDI senders",
        '  "ndi://HALL (Left)"',
        "screens",
        "  - none",
        "Spout senders",
        "  - not here",
    ]


def test_as_json() -> None:
    content = json.loads(as_json(KINDS))
    assert content["cameras"] == {"found": [{"url": "camera://0", "name": "Cam"}], "note": ""}
    assert content["Spout senders"]["note"] == "not here"


def test_as_programs() -> None:
    listed = Program("-m", "dreamrelay", "list", "--json", "--seconds=0.2")
    tried = Program("-m", "dreamrelay", "selftest", "spout")
    wrong = Program("-m", "dreamrelay", "selftest", "midi")
    try:
        assert listed.wait(90) == 0, listed.output
        assert "cameras" in json.loads(listed.output)
        if sys.platform != "win32":
            assert tried.wait(90) == 1
            assert "Spout is a technology of Windows" in tried.output
        assert wrong.wait(90) == 2
        assert "expected" in wrong.output or "should be 'spout'" in wrong.output
    finally:
        for program in (listed, tried, wrong):
            program.stop()
