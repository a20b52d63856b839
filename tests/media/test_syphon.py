"""Syphon against a fake with the real signatures. It was never run on a Mac."""

import sys
import threading

import numpy as np
import pytest

from dreamrelay.codec import Frame
from dreamrelay.errors import DeviceError, MissingExtra
from dreamrelay.media import Source, open_sink, open_source
from tests.fakes.syphon import BGRA8, CONTRACT, RGBA8, Mac, Texture
from tests.support import until


@pytest.fixture
def mac(monkeypatch: pytest.MonkeyPatch) -> Mac:
    mac = Mac()
    for name, module in mac.modules().items():
        monkeypatch.setitem(sys.modules, name, module)
    monkeypatch.setattr("platform.system", lambda: "Darwin")
    return mac


def ramp(level: int, width: int = 16, height: int = 8) -> Frame:
    frame = np.full((height, width, 3), (level, 2, 255 - level), np.uint8)
    frame[0] = (255, 255, 255)  # up
    return frame


def read(source: Source) -> Frame:
    captured = source.read()
    assert captured is not None
    return captured.frame


@pytest.mark.parametrize("form", [RGBA8, BGRA8], ids=["rgba", "bgra"])
def test_colours_are_right_in_either_order_and_up_is_up(mac: Mac, form: int) -> None:
    mac.show("A", ramp(200), form)
    with open_source("syphon://A") as source:
        assert np.array_equal(read(source), ramp(200))
    assert mac.open_clients == mac.open_directories == 0


def test_another_pixel_format_is_named(mac: Mac) -> None:
    mac.show("A", ramp(1))
    mac.servers["A"].texture = Texture(4, 4, form=115)
    with (
        open_source("syphon://A") as source,
        pytest.raises(DeviceError, match="pixel format 115: only RGBA and BGRA"),
    ):
        source.read()


@pytest.mark.parametrize("name", ["", "Main", "Resolume", "lume - Ma", "resolume"])
def test_a_server_is_found_by_its_name_its_application_or_a_part(mac: Mac, name: str) -> None:
    mac.show("Main", ramp(3), app="Resolume")
    with open_source(f"syphon://{name}") as source:
        assert np.array_equal(read(source), ramp(3))


def test_the_whole_name_goes_before_a_part_of_another(mac: Mac) -> None:
    mac.show("Main 2", ramp(2))
    mac.show("Main", ramp(3))
    with open_source("syphon://Main") as source:
        assert np.array_equal(read(source), ramp(3))


def test_no_server_is_named_with_those_there_are(mac: Mac) -> None:
    mac.show("B", ramp(1), app="App")
    with open_source("syphon://Z?timeout=0.01") as source:
        with pytest.raises(DeviceError, match=r"expected a Syphon server 'Z'.*servers: App - B"):
            source.read()
        with pytest.raises(DeviceError):
            source.read()


def test_only_new_pictures_are_returned(mac: Mac) -> None:
    mac.show("A", ramp(1))
    with open_source("syphon://A?timeout=0.05") as source:
        read(source)
        with pytest.raises(DeviceError, match="sent no new picture"):
            source.read()


def test_flip_is_for_servers_that_are_upside_down(mac: Mac) -> None:
    mac.show("A", ramp(1)[::-1])
    with open_source("syphon://A?flip=true") as source:
        assert np.array_equal(read(source), ramp(1))
    with open_sink("syphon://B?flip=true") as sink:
        sink.write(ramp(1)[::-1])
        assert np.array_equal(mac.seen("B"), ramp(1))


def test_servers_that_come_later_are_found_by_another_thread_if_the_main_one_helps(
    mac: Mac,
) -> None:
    source = open_source("syphon://A?timeout=0.01")
    frames: list[Frame] = []
    missed = threading.Event()

    def work() -> None:
        with source:
            while not frames:
                try:
                    frames.append(read(source))
                except DeviceError:
                    missed.set()

    thread = threading.Thread(target=work)
    thread.start()
    assert missed.wait(30)
    mac.show("A", ramp(3))

    def found() -> bool:
        source.tend()
        return bool(frames)

    until(found, 60)
    thread.join(30)
    source.tend()  # of one that is closed
    assert np.array_equal(frames[0], ramp(3))


def test_what_one_end_sends_the_other_receives(mac: Mac) -> None:
    with open_sink("syphon://Dream") as sink, open_source("syphon://Dream?timeout=30") as source:
        for level, width in ((1, 16), (100, 17), (255, 16)):
            sink.write(ramp(level, width))
            assert np.array_equal(read(source), ramp(level, width))
    assert mac.servers == {}
    assert mac.open_clients == 0


def test_closing_wakes_a_reader_that_waits(mac: Mac) -> None:
    source = open_source("syphon://Nobody?timeout=60")
    ends: list[object] = []
    thread = threading.Thread(target=lambda: ends.append(source.read()))
    thread.start()
    source.close()
    thread.join(30)
    assert ends == [None]


def test_a_mac_without_metal_is_named(mac: Mac) -> None:
    mac.has_metal = False
    mac.show("A", ramp(1))
    with (
        open_source("syphon://A") as source,
        pytest.raises(DeviceError, match="No Metal device"),
    ):
        source.read()
    with open_sink("syphon://B") as sink, pytest.raises(DeviceError, match="No Metal device"):
        sink.write(ramp(1))


def test_elsewhere_than_on_macos_it_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("platform.system", lambda: "Linux")
    for act in (open_source, open_sink):
        with pytest.raises(DeviceError, match="technology of macOS, this is Linux"):
            act("syphon://A")


@pytest.mark.skipif(sys.platform == "darwin", reason="syphon-python may be installed on macOS")
def test_without_the_package_it_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("platform.system", lambda: "Darwin")
    with pytest.raises(MissingExtra, match=r"Syphon needs .*dreamrelay\[syphon\]"):
        open_source("syphon://A")


def test_the_fake_refuses_what_the_real_one_refuses(mac: Mac) -> None:
    library = mac.modules()["syphon"]
    server = library.SyphonMetalServer("A")
    with pytest.raises(TypeError):
        library.SyphonMetalServer("A", is_secret=True)
    with pytest.raises(TypeError):
        server.publish_frame_texture(Texture(2, 2), flipped=True)
    with pytest.raises(AttributeError):
        _ = server.frame_rate
    with pytest.raises(AssertionError, match="another size"):
        library.utils.numpy.copy_image_to_mtl_texture(np.zeros((3, 2, 4), np.uint8), Texture(2, 2))


def test_the_contract_is_that_of_the_version_we_name() -> None:
    assert CONTRACT["version"] == "0.2.0"
