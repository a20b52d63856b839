"""What every source must do that another program sends to: Spout, Syphon, NDI.

More than ``test_sources.py`` asks: the other program starts late, changes its size, shows nothing
for a while, ends and comes back.
"""

import time
from collections.abc import Iterator

import numpy as np
import pytest

from dreamrelay.codec import Frame
from dreamrelay.errors import DeviceError
from dreamrelay.media import Source, open_source
from tests.fakes.network import ONE_PROCESS
from tests.fakes.senders import SENDERS, OtherSender

PATIENCE_S = 60.0


MARKS = {"ndi": [ONE_PROCESS]}


@pytest.fixture(params=[pytest.param(name, marks=MARKS.get(name, [])) for name in sorted(SENDERS)])
def sender(
    request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> Iterator[OtherSender]:
    with SENDERS[request.param](monkeypatch) as sender:
        yield sender


def opened(sender: OtherSender, more: str = "") -> Source:
    return open_source(f"{sender.url}?timeout={sender.timeout}{more}")


def frames(source: Source) -> Iterator[Frame]:
    """Frames as a program reads them that tries again after an error."""
    deadline = time.monotonic() + PATIENCE_S
    while time.monotonic() < deadline:
        try:
            captured = source.read()
        except DeviceError:
            continue
        assert captured is not None
        yield captured.frame
    raise AssertionError(f"not within {PATIENCE_S:.0f} s")


def is_size(frame: Frame, width: int, height: int) -> bool:
    """Odd sizes may come rounded up (NDI)."""
    return frame.shape[0] - height in (0, height % 2) and frame.shape[1] - width in (0, width % 2)


def has_bars(frame: Frame, width: int, height: int) -> bool:
    """Red, green, blue from the left, dark below: neither mirrored nor upside down."""
    places = [frame[height // 20, width // 12 + part * width // 3] for part in range(3)]
    below = int(frame[round(height * 0.65), width // 3].max())
    return bool(np.abs(np.array(places, int) - np.eye(3) * 255).max() < 40 and below < 80)


def sees_bars(source: Source, width: int, height: int) -> None:
    """Bars of that size come; what comes before is of a size that was, and no garbage."""
    for frame in frames(source):
        if is_size(frame, width, height):
            assert has_bars(frame, width, height)
            return


def fails_until_told(source: Source) -> DeviceError:
    """What a read says when nothing is there any more."""
    deadline = time.monotonic() + PATIENCE_S
    while time.monotonic() < deadline:
        try:
            source.read()
        except DeviceError as error:
            return error
    raise AssertionError("pictures of a sender that has gone kept coming")


def test_the_size_may_change_while_it_runs(sender: OtherSender) -> None:
    sender.show(192, 128)
    with opened(sender) as source:
        sees_bars(source, 192, 128)
        for width, height in [(128, 192), (320, 240), (192, 128)]:
            sender.show(width, height)
            sees_bars(source, width, height)


def test_one_that_is_upside_down_can_be_turned(sender: OtherSender) -> None:
    sender.show(192, 128)
    with opened(sender, "&flip=true") as source:
        for frame in frames(source):
            if is_size(frame, 192, 128):
                assert frame.flags.c_contiguous
                assert has_bars(frame[::-1], 192, 128)
                return


def test_odd_sizes(sender: OtherSender) -> None:
    with opened(sender) as source:
        for width, height in [(65, 67), (333, 71), (127, 64)]:
            sender.show(width, height)
            sees_bars(source, width, height)


def test_no_black_comes_between_two_sizes(sender: OtherSender) -> None:
    sender.show(192, 128)
    with opened(sender) as source:
        sees_bars(source, 192, 128)
        sender.show(256, 256)
        for frame in frames(source):
            assert frame.std() > 20
            if is_size(frame, 256, 256):
                break


def test_a_sender_may_appear_late(sender: OtherSender) -> None:
    sender.vanish()
    with opened(sender) as source:
        error = fails_until_told(source)
        assert "found none" in str(error) or "no new picture" in str(error)
        assert "\n" not in str(error)
        sender.show(192, 128)
        sees_bars(source, 192, 128)


def test_a_sender_may_vanish_and_return_with_another_size(sender: OtherSender) -> None:
    sender.show(192, 128)
    with opened(sender) as source:
        sees_bars(source, 192, 128)
        for width, height in [(128, 192), (192, 128)]:
            sender.vanish()
            fails_until_told(source)
            sender.show(width, height)
            sees_bars(source, width, height)


def test_a_first_frame_may_be_black(sender: OtherSender) -> None:
    sender.vanish()
    sender.black(192, 128)
    with opened(sender) as source:
        for frame in frames(source):
            if is_size(frame, 192, 128):
                assert frame.max() < 20
                break
        sender.show(192, 128)
        for frame in frames(source):
            if frame.max() > 200:
                assert has_bars(frame, 192, 128)
                break


def test_a_sender_without_a_picture_is_waited_for(sender: OtherSender) -> None:
    sender.vanish()
    sender.silent()
    with opened(sender) as source:
        fails_until_told(source)
        sender.show(192, 128)
        sees_bars(source, 192, 128)


def test_several_may_look_at_one_sender(sender: OtherSender) -> None:
    sender.show(192, 128)
    with opened(sender) as first, opened(sender) as second, opened(sender) as third:
        for source in (first, second, third, first, second, third):
            sees_bars(source, 192, 128)
        second.close()
        sees_bars(first, 192, 128)
        sees_bars(third, 192, 128)
