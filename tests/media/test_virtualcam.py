"""The virtual camera against a fake with the real signatures. It was never run with a driver."""

import gc
import inspect
import subprocess
import sys
from collections.abc import Iterator

import numpy as np
import pytest

from dreamrelay.codec import Frame
from dreamrelay.errors import ConfigError, DeviceError, MissingExtra
from dreamrelay.media import open_sink
from tests.fakes.devices import bars
from tests.fakes.virtualcam import Driver, PixelFormat, camera_of
from tests.support import ROOT


@pytest.fixture
def driver(monkeypatch: pytest.MonkeyPatch) -> Iterator[Driver]:
    driver = Driver()
    monkeypatch.setitem(sys.modules, "pyvirtualcam", driver.module())
    monkeypatch.delitem(sys.modules, "dreamrelay.media.virtualcam", raising=False)
    yield driver
    sys.modules.pop("dreamrelay.media.virtualcam", None)


def flat(width: int, height: int) -> Frame:
    return np.full((height, width, 3), (200, 100, 50), np.uint8)


def test_the_first_frame_decides_the_size_and_others_are_fitted(driver: Driver) -> None:
    with open_sink("virtualcam://?fps=25") as sink:
        sink.write(bars(1)[0])
        assert driver.opened == [(192, 128, 25.0, "OBS Virtual Camera")]
        sink.write(flat(64, 128))
        assert driver.seen is not None
        assert driver.seen.shape == (128, 192, 3)
        assert driver.seen[64, 96].tolist() == [200, 100, 50]
        assert driver.seen[64, 10].tolist() == [0, 0, 0]
    assert len(driver.opened) == driver.closed == 1


def test_an_odd_size_is_rounded_up_without_bars(driver: Driver) -> None:
    with open_sink("virtualcam://") as sink:
        sink.write(flat(65, 33))
    assert driver.opened[0][:2] == (66, 34)
    assert driver.seen is not None
    assert (driver.seen == (200, 100, 50)).all()


def test_a_size_of_ones_own_and_a_device_by_name(driver: Driver) -> None:
    with open_sink("virtualcam://OBS%20Virtual%20Camera?width=640&height=360") as sink:
        sink.write(bars(1)[0])
    assert driver.opened == [(640, 360, 30.0, "OBS Virtual Camera")]


@pytest.mark.parametrize(
    ("system", "hint"),
    [("Windows", "install OBS"), ("Darwin", "System Settings"), ("Linux", "modprobe v4l2loopback")],
)
def test_without_a_driver_it_says_what_to_install(
    driver: Driver, monkeypatch: pytest.MonkeyPatch, system: str, hint: str
) -> None:
    driver.installed = False
    monkeypatch.setattr("platform.system", lambda: system)
    with open_sink("virtualcam://") as sink, pytest.raises(DeviceError, match=hint) as caught:
        sink.write(bars(1)[0])
    assert "\n" not in str(caught.value)


def test_a_backend_of_another_system_is_named(driver: Driver) -> None:
    with (
        open_sink("virtualcam://?backend=v4l2loopback") as sink,
        pytest.raises(DeviceError, match="backend of this system, got 'v4l2loopback'"),
    ):
        sink.write(bars(1)[0])


@pytest.mark.parametrize("option", ["width=640", "height=360"])
def test_half_a_size_is_refused(driver: Driver, option: str) -> None:
    with pytest.raises(ConfigError, match="expected width and height together"):
        open_sink(f"virtualcam://?{option}")
    assert driver.opened == []


def test_a_camera_that_was_never_opened_ends_without_a_word(driver: Driver) -> None:
    """The package's own would say on standard error that it has no backend, at each attempt."""
    driver.installed = False
    with open_sink("virtualcam://") as sink, pytest.raises(DeviceError):
        sink.write(bars(1)[0])
    heard: list[object] = []
    before, sys.unraisablehook = sys.unraisablehook, heard.append
    try:
        gc.collect()
    finally:
        sys.unraisablehook = before
    assert heard == []


def test_a_camera_that_goes_is_opened_again_but_not_for_every_picture(
    driver: Driver, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = [0.0]
    monkeypatch.setattr("time.monotonic", lambda: now[0])
    with open_sink("virtualcam://") as sink:
        sink.write(bars(1)[0])
        driver.unplugged = True
        for _ in range(5):
            with pytest.raises(DeviceError, match="has gone"):
                sink.write(bars(1)[0])
        assert len(driver.opened) == 1
        driver.unplugged = False
        now[0] += 10
        sink.write(bars(1)[0])
        assert len(driver.opened) == 2
    assert driver.closed == 2


@pytest.mark.skipif(
    "pyvirtualcam" in sys.modules, reason="another test has the real package loaded"
)
def test_without_the_package_it_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pyvirtualcam", None)
    monkeypatch.delitem(sys.modules, "dreamrelay.media.virtualcam", raising=False)
    with pytest.raises(MissingExtra, match=r"virtual camera needs .*dreamrelay\[virtualcam\]"):
        open_sink("virtualcam://")


def test_the_gpl_package_is_not_loaded_unless_it_is_asked_for() -> None:
    code = (
        "import sys, dreamrelay.cli, dreamrelay.bridge, dreamrelay.worker, dreamrelay.media as m\n"
        "m.open_sink('null://'), m.sink_schemes()\n"
        "assert 'pyvirtualcam' not in sys.modules\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr


def test_the_fake_has_the_signatures_of_the_real_one() -> None:
    real = pytest.importorskip(
        "pyvirtualcam", reason="pyvirtualcam is GPL, and an extra: the tests run without it"
    )
    fake = camera_of(Driver())
    for name in ("__init__", "send", "close"):
        ours = inspect.signature(getattr(fake, name)).parameters
        theirs = inspect.signature(getattr(real.Camera, name)).parameters
        assert [(p.name, p.kind) for p in ours.values()] == [
            (p.name, p.kind) for p in theirs.values()
        ]
        assert [p.default for p in ours.values() if p.name != "fmt"] == [
            p.default for p in theirs.values() if p.name != "fmt"
        ]
    assert {one.name: one.value for one in PixelFormat} == {
        one.name: one.value for one in real.PixelFormat
    }


def test_the_sink_drives_the_real_package_too(monkeypatch: pytest.MonkeyPatch) -> None:
    """The real Camera class, with a made-up driver behind it."""
    real = pytest.importorskip(
        "pyvirtualcam", reason="pyvirtualcam is GPL, and an extra: the tests run without it"
    )
    sent: list[Frame] = []

    class Backend:
        def __init__(self, *, width: int, height: int, **_: object) -> None:
            self._shape = (height, width, 3)

        def send(self, flat: Frame) -> None:
            sent.append(flat.reshape(self._shape).copy())

        def close(self) -> None:
            pass

        def device(self) -> str:
            return "made up"

        def native_fourcc(self) -> None:
            return None

    monkeypatch.setattr(real.camera, "BACKENDS", {"made-up": Backend})
    monkeypatch.delitem(sys.modules, "dreamrelay.media.virtualcam", raising=False)
    frame = bars(1)[0]
    with open_sink("virtualcam://") as sink:
        sink.write(frame)
        sink.write(frame[:, ::-1])
    assert np.array_equal(sent[0], frame)
    assert np.array_equal(sent[1], frame[:, ::-1])
