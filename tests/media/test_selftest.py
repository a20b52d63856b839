"""The self-test, against the fakes: it must see what is wrong, and say so."""

import sys
from types import ModuleType
from typing import Any, ClassVar, cast

import numpy as np
import pytest

from dreamrelay.errors import DeviceError, MissingExtra
from dreamrelay.media import selftest
from tests.fakes.spoutgl import Gpu
from tests.fakes.syphon import Mac


@pytest.fixture
def gpu(monkeypatch: pytest.MonkeyPatch) -> Gpu:
    gpu = Gpu(zeros_first=1)
    for name, module in gpu.modules().items():
        monkeypatch.setitem(sys.modules, name, module)
    monkeypatch.setattr("platform.system", lambda: "Windows")
    monkeypatch.setattr(selftest, "WAIT_S", 2.0)
    return gpu


def run() -> tuple[bool, str]:
    lines: list[str] = []
    good = selftest.run("spout", lines.append, seconds=0.3)
    return good, "\n".join(lines)


def test_where_spout_works_all_is_well(gpu: Gpu) -> None:
    gpu.show("Resolume", np.zeros((48, 64, 3), np.uint8))
    good, report = run()
    assert good, report
    assert "senders before: Resolume 64x48" in report
    assert "all is well" in report
    assert "FAIL" not in report
    assert "of 60 pictures a second, delay" in report
    assert report.count("ok    another size") == 3
    assert report.rstrip().endswith("also when all is well.")
    assert list(gpu.senders) == ["Resolume"]


class Registry:
    """What ``winreg`` has of two display adapters, and a key that nobody may read."""

    HKEY_LOCAL_MACHINE = object()
    KEYS: ClassVar = {
        "0000": {"DriverDesc": "NVIDIA GeForce RTX 4090", "DriverVersion": "32.0.15.6094"},
        "0001": {"DriverDesc": "Intel(R) UHD Graphics 770", "DriverVersion": "31.0.101.4575"},
        "Properties": None,
    }

    def OpenKey(self, parent: Any, name: str) -> Any:
        if parent is self.HKEY_LOCAL_MACHINE:
            return self.KEYS
        if parent[name] is None:
            raise PermissionError("access is denied")
        return parent[name]

    def QueryInfoKey(self, key: Any) -> tuple[int, int, int]:
        return len(key), 0, 0

    def EnumKey(self, key: dict[str, Any], number: int) -> str:
        return sorted(key)[number]

    def QueryValueEx(self, key: dict[str, str], name: str) -> tuple[str, int]:
        return key[name], 1


def test_the_report_names_the_graphics_cards_and_how_textures_are_shared(
    gpu: Gpu, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "winreg", cast("ModuleType", Registry()))
    assert list(selftest._graphics_cards()) == [
        "NVIDIA GeForce RTX 4090 32.0.15.6094",
        "Intel(R) UHD Graphics 770 31.0.101.4575",
    ]
    facts = selftest._about_spout()
    assert facts["sharing"]() == "isGLDXReady True, getAutoShare False, getCPUshare False"
    assert gpu.open_contexts == 0


def test_without_a_graphics_driver_it_says_so(gpu: Gpu, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(selftest, "WAIT_S", 0.1)
    gpu.has_driver = False
    good, report = run()
    assert not good
    assert "sharing: no OpenGL context" in report
    assert "FAIL  sending: Spout got no OpenGL context" in report


def test_wrong_colours_are_seen(gpu: Gpu, monkeypatch: pytest.MonkeyPatch) -> None:
    real = gpu.modules()["SpoutGL"].SpoutReceiver.receiveImage

    def swapped(self: Any, pixels: Any, *rest: Any) -> Any:
        done = real(self, pixels, *rest)
        if pixels is not None:
            pixels[:, :, :3] = pixels[:, :, 2::-1].copy()
        return done

    monkeypatch.setattr(sys.modules["SpoutGL"].SpoutReceiver, "receiveImage", swapped)
    good, report = run()
    assert not good
    assert "expected red, green, blue, got [(0, 0, 255)" in report


@pytest.mark.parametrize(
    ("kind", "method", "what"),
    [
        ("SpoutReceiver", "receiveImage", "a first picture"),
        ("SpoutSender", "sendImage", "sending"),
    ],
)
def test_a_crash_of_the_library_is_a_line_of_the_report(
    gpu: Gpu, monkeypatch: pytest.MonkeyPatch, kind: str, method: str, what: str
) -> None:
    def crash(*_: object) -> bool:
        raise BufferError("Buffer not large enough")

    monkeypatch.setattr(selftest, "WAIT_S", 0.1)
    monkeypatch.setattr(getattr(sys.modules["SpoutGL"], kind), method, crash)
    good, report = run()
    assert not good
    assert f"FAIL  {what}: BufferError: Buffer not large enough" in report


def test_where_syphon_works_all_is_well(monkeypatch: pytest.MonkeyPatch) -> None:
    mac = Mac()
    for name, module in mac.modules().items():
        monkeypatch.setitem(sys.modules, name, module)
    monkeypatch.setattr("platform.system", lambda: "Darwin")
    monkeypatch.setattr(selftest, "WAIT_S", 2.0)
    mac.show("Main", np.zeros((48, 64, 3), np.uint8), app="Resolume")
    lines: list[str] = []
    assert selftest.run("syphon", lines.append, seconds=0.3), lines
    report = "\n".join(lines)
    assert "graphics: Apple M2" in report
    assert "servers before: Resolume - Main" in report
    assert "all is well" in report
    assert "FAIL" not in report
    assert list(mac.servers) == ["Main"]
    assert mac.open_clients == mac.open_directories == 0


def test_a_fact_that_cannot_be_had_is_told_as_such() -> None:
    def crash() -> str:
        raise AttributeError("no such thing")

    assert selftest._answer(crash) == "AttributeError: no such thing"


def test_elsewhere_it_says_why_not(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("platform.system", lambda: "Linux")
    with pytest.raises(DeviceError, match="technology of Windows, this is Linux"):
        run()
    monkeypatch.setattr("platform.system", lambda: "Windows")
    monkeypatch.setitem(sys.modules, "SpoutGL", None)
    with pytest.raises(MissingExtra, match=r"dreamrelay\[spout\]"):
        run()
    with pytest.raises(DeviceError, match="technology of macOS, this is Windows"):
        selftest.run("syphon", print)
