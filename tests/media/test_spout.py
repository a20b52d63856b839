"""Spout against a fake with the real signatures. It was never run against Spout itself."""

import sys
import threading

import numpy as np
import pytest

from dreamrelay.codec import Frame
from dreamrelay.errors import DeviceError, MissingExtra
from dreamrelay.media import Sink, Source, open_sink, open_source
from tests.fakes.spoutgl import CONTRACT, DXGI_BGRA8, DXGI_RGBA8, RGBA, Gpu


@pytest.fixture
def gpu(monkeypatch: pytest.MonkeyPatch) -> Gpu:
    gpu = Gpu()
    for name, module in gpu.modules().items():
        monkeypatch.setitem(sys.modules, name, module)
    monkeypatch.setattr("platform.system", lambda: "Windows")
    return gpu


def colour(level: int, width: int = 16, height: int = 8) -> Frame:
    return np.full((height, width, 3), (level, 2, 255 - level), np.uint8)


def read(source: Source) -> Frame:
    captured = source.read()
    assert captured is not None
    return captured.frame


def read_again(source: Source) -> Frame:
    """Read as a caller that backs off does: the patience here is short, the machine may be busy."""
    for _ in range(1000):
        try:
            return read(source)
        except DeviceError:
            continue
    raise AssertionError("no picture came")


@pytest.mark.parametrize("dxgi", [DXGI_RGBA8, DXGI_BGRA8], ids=["rgba", "bgra"])
@pytest.mark.parametrize("swizzles", [True, False])
def test_colours_are_right_with_either_order_and_either_driver(
    gpu: Gpu, dxgi: int, swizzles: bool
) -> None:
    gpu.swizzles = swizzles
    gpu.show("A", colour(200), dxgi)
    with open_source("spout://A") as source:
        assert np.array_equal(read(source), colour(200))
    assert gpu.slow == 0
    assert gpu.open_contexts == 0


def test_the_active_sender_is_taken_where_none_is_named(gpu: Gpu) -> None:
    gpu.show("Some program", colour(3))
    with open_source("spout://") as source:
        assert np.array_equal(read(source), colour(3))


def test_a_name_with_spaces(gpu: Gpu) -> None:
    gpu.show("Touch Designer/1", colour(3))
    with open_source("spout://Touch%20Designer/1") as source:
        assert np.array_equal(read(source), colour(3))


def test_only_new_pictures_are_returned(gpu: Gpu) -> None:
    gpu.show("A", colour(1))
    with open_source("spout://A?timeout=0.02") as source:
        assert np.array_equal(read_again(source), colour(1))
        with pytest.raises(DeviceError, match="sent no new picture"):
            source.read()
        gpu.show("A", colour(2))
        assert np.array_equal(read_again(source), colour(2))


def test_a_change_of_size_gives_no_black_and_no_torn_picture(gpu: Gpu) -> None:
    gpu.show("A", colour(1))
    with open_source("spout://A") as source:
        for number, (width, height) in enumerate([(16, 8), (8, 16), (33, 5), (16, 8)]):
            gpu.show("A", colour(100 + number, width, height))
            assert np.array_equal(read(source), colour(100 + number, width, height))


@pytest.mark.parametrize("zeros", [1, 3])
def test_first_images_of_zeros_are_left_out(gpu: Gpu, zeros: int) -> None:
    gpu.zeros_first = zeros
    gpu.show("A", colour(1))
    with open_source("spout://A") as source:
        assert np.array_equal(read(source), colour(1))


def test_a_sender_that_is_black_on_purpose_is_black(gpu: Gpu) -> None:
    gpu.show("A", colour(1))
    with open_source("spout://A") as source:
        read(source)
        gpu.senders["A"].pixels[:] = 0
        gpu.senders["A"].frame += 1
        assert read(source).max() == 0


def test_no_sender_is_named_with_those_there_are(gpu: Gpu) -> None:
    gpu.show("B", colour(1))
    gpu.show("C", colour(1))
    with open_source("spout://A?timeout=0.01") as source:
        with pytest.raises(DeviceError, match=r"expected a Spout sender 'A'.*senders: B, C"):
            source.read()
        gpu.show("A", colour(5))
        assert np.array_equal(read_again(source), colour(5))


@pytest.mark.parametrize("zeros", [0, 1, 2])
def test_a_sender_that_goes_and_comes_back(gpu: Gpu, zeros: int) -> None:
    gpu.zeros_first = zeros
    gpu.show("A", colour(1))
    with open_source("spout://A?timeout=0.01") as source:
        read_again(source)
        del gpu.senders["A"]
        with pytest.raises(DeviceError, match="found none"):
            source.read()
        gpu.show("A", colour(7, 40, 30))
        gpu.senders["A"].frame += 99
        assert np.array_equal(read_again(source), colour(7, 40, 30))


def test_a_texture_of_another_graphics_card_is_named(gpu: Gpu) -> None:
    gpu.show("A", colour(1))
    gpu.senders["A"].readable = False
    with open_source("spout://A?timeout=0.02") as source:
        with pytest.raises(DeviceError, match="another graphics card"):
            source.read()
        gpu.senders["A"].readable = True
        assert np.array_equal(read_again(source), colour(1))


def test_each_thread_has_its_own_context(gpu: Gpu) -> None:
    gpu.show("A", colour(1))
    with open_source("spout://A") as source:

        def work() -> None:
            read(source)
            source.close()

        thread = threading.Thread(target=work)
        thread.start()
        thread.join(30)
    assert gpu.slow == 0
    assert gpu.open_contexts == 0


def test_closing_from_another_thread_is_finished_by_the_reader(gpu: Gpu) -> None:
    gpu.show("A", colour(1))
    source = open_source("spout://A")
    read(source)
    thread = threading.Thread(target=source.close)
    thread.start()
    thread.join(30)
    assert gpu.open_contexts == 1
    assert source.read() is None
    assert gpu.open_contexts == 0


def test_closing_wakes_a_reader_that_waits(gpu: Gpu) -> None:
    source = open_source("spout://Nobody?timeout=60")
    ends: list[object] = []
    thread = threading.Thread(target=lambda: ends.append(source.read()))
    thread.start()
    source.close()
    thread.join(30)
    assert ends == [None]


def test_sending_opens_a_context_and_wakes_receivers(gpu: Gpu) -> None:
    with open_sink("spout://Dream") as sink:
        sink.write(colour(1))
        sink.write(colour(2, 9, 7))
        assert np.array_equal(gpu.seen("Dream"), colour(2, 9, 7))
        assert (gpu.senders["Dream"].pixels[:, :, 3] == 255).all()
        assert gpu.synchronised == ["Dream", "Dream"]
        assert gpu.slow == 0
    assert gpu.senders == {}
    assert gpu.open_contexts == 0


def test_what_one_end_sends_the_other_receives(gpu: Gpu) -> None:
    with open_sink("spout://Dream") as sink, open_source("spout://Dream") as source:
        for level in (1, 100, 255):
            sink.write(colour(level, 17, 13))
            assert np.array_equal(read(source), colour(level, 17, 13))


def test_flip_is_for_those_that_are_upside_down(gpu: Gpu) -> None:
    upright = colour(1)
    upright[0] = 255
    gpu.show("A", upright[::-1])
    with open_source("spout://A?flip=true") as source, open_sink("spout://B?flip=true") as sink:
        assert np.array_equal(read(source), upright)
        sink.write(upright[::-1])
        assert np.array_equal(gpu.seen("B"), upright)


def test_a_sink_without_a_name_is_called_dreamrelay(gpu: Gpu) -> None:
    with open_sink("spout://") as sink:
        sink.write(colour(1))
        assert list(gpu.senders) == ["dreamrelay"]


def ends(gpu: Gpu) -> tuple[Source, Sink]:
    gpu.show("A", colour(1))
    return open_source("spout://A"), open_sink("spout://B")


def test_no_graphics_driver_is_named(gpu: Gpu) -> None:
    gpu.has_driver = False
    source, sink = ends(gpu)
    with source, pytest.raises(DeviceError, match="no OpenGL context"):
        source.read()
    with sink, pytest.raises(DeviceError, match="no OpenGL context"):
        sink.write(colour(1))


@pytest.mark.parametrize(("system", "instead"), [("Linux", "ndi://"), ("Darwin", "syphon://")])
def test_elsewhere_than_on_windows_it_is_said(
    monkeypatch: pytest.MonkeyPatch, system: str, instead: str
) -> None:
    monkeypatch.setattr("platform.system", lambda: system)
    for act in (open_source, open_sink):
        with pytest.raises(DeviceError, match=f"Windows, this is {system}: here use {instead}"):
            act("spout://A")


@pytest.mark.skipif(sys.platform == "win32", reason="SpoutGL may be installed on Windows")
def test_without_the_package_it_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("platform.system", lambda: "Windows")
    with pytest.raises(MissingExtra, match=r"Spout needs .*dreamrelay\[spout\]"):
        open_source("spout://A")


def test_the_fake_refuses_what_the_real_one_refuses(gpu: Gpu) -> None:
    library = gpu.modules()["SpoutGL"]
    sender, receiver = library.SpoutSender(), library.SpoutReceiver()
    pixels = np.zeros((2, 2, 4), np.uint8)
    with pytest.raises(TypeError, match="incompatible function arguments"):
        sender.sendImage(pixels, 2, 2, RGBA, 0, False)  # the last two are the other way round
    with pytest.raises(TypeError):
        sender.sendImage(pixels, 2, 2, RGBA, False)
    with pytest.raises(TypeError):
        receiver.receiveImage(buffer=pixels)
    with pytest.raises(BufferError, match="not large enough"):
        sender.sendImage(pixels, 3, 2, RGBA, False, 0)
    with pytest.raises(BufferError, match="not contiguous"):
        sender.sendImage(pixels[:, ::-1], 2, 2, RGBA, False, 0)
    with pytest.raises(ValueError, match="Unknown GL format"):
        sender.sendImage(pixels, 2, 2, 1, False, 0)
    with pytest.raises(AttributeError):
        _ = receiver.getSenderFps
    assert sender.setSenderName("A") is None
    assert sender.sendImage(pixels, 2, 2, RGBA, False, 0) is False  # no context on this thread
    assert sender.sendImage(pixels, 2, 2, RGBA, False, 0) is True


def test_a_name_that_is_taken_gets_a_number_and_that_is_said(
    gpu: Gpu, caplog: pytest.LogCaptureFixture
) -> None:
    gpu.show("Dream", colour(1))
    gpu.show("Dream_1", colour(1))
    with open_sink("spout://Dream") as sink:
        sink.write(colour(2))
        assert sorted(gpu.senders) == ["Dream", "Dream_1", "Dream_2"]
        assert gpu.synchronised == ["Dream_2"], "who waits for another program is not woken by us"
    assert "this one is seen as 'Dream_2'" in caplog.text
    assert sorted(gpu.senders) == ["Dream", "Dream_1"]


def test_a_free_name_is_no_news(gpu: Gpu, caplog: pytest.LogCaptureFixture) -> None:
    with open_sink("spout://Free") as sink:
        sink.write(colour(1))
        sink.write(colour(1, 32))
        assert set(gpu.senders) == {"Free"}
    assert not caplog.text


def test_the_contract_is_that_of_the_version_we_pin() -> None:
    assert CONTRACT["version"] == "0.1.1"
    image = "({%}, {Buffer}, {int}, {int}, {int}, {bool}, {int}) -> bool"
    assert CONTRACT["SpoutSender"]["sendImage"] == image
