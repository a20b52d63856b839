"""The time code: read back after all that may befall a picture, and never read wrong."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dreamrelay.codec import Frame, decode, encode_bytes, resize
from dreamrelay.media import open_source
from dreamrelay.media.pattern import PatternOptions
from dreamrelay.media.timecode import (
    TICK_NS,
    TICKS,
    TimeCode,
    age_ms,
    find_code,
    read_code,
    ticks,
)
from dreamrelay.packet import Codec

codes = st.integers(0, TICKS - 1)


def drawn(code: int, width: int = 256, height: int = 256) -> Frame:
    options = PatternOptions(width=width, height=height)
    return TimeCode(options, unix_ns=lambda: code * TICK_NS)(0)


@given(codes)
@settings(max_examples=50)
def test_it_is_read_back(code: int) -> None:
    assert read_code(drawn(code)) == code


@pytest.mark.parametrize("size", [(64, 64), (640, 360), (360, 640), (333, 201), (1280, 720)])
def test_in_any_shape(size: tuple[int, int]) -> None:
    frame = drawn(0x123456, *size)
    assert frame.shape == (size[1], size[0], 3)
    assert read_code(frame) == 0x123456
    assert find_code(frame)[1] == 0x123456


@given(codes, st.integers(0, 2**32 - 1))
@settings(max_examples=20)
def test_it_survives_a_lot(code: int, seed: int) -> None:
    """Coding, scaling, less contrast, noise."""
    small = decode(encode_bytes(resize(drawn(code), 96, 96), Codec.JPEG, quality=40))
    noise = np.random.default_rng(seed).normal(0, 20, small.shape)
    dull = np.clip(small * 0.5 + 60 + noise, 0, 255).astype(np.uint8)
    assert read_code(dull) == code


@given(
    codes, st.integers(0, 500), st.integers(0, 250), st.integers(60, 400), st.sampled_from((0, 255))
)
@settings(max_examples=30)
def test_it_is_found_on_a_screen(code: int, x: int, y: int, side: int, ground: int) -> None:
    screen = np.full((700, 950, 3), ground, np.uint8)
    screen[y : y + side, x : x + side] = resize(drawn(code), side, side)
    if side * 8 // 10 < 40:
        return
    box, found = find_code(screen)
    assert found == code
    assert read_code(screen, box) == code


@given(codes, st.integers(0, 31))
@settings(max_examples=50)
def test_one_field_that_has_turned_is_noticed(code: int, which: int) -> None:
    frame = drawn(code, 100, 100)
    places = [(row, column) for row in range(6) for column in range(6)]
    inner = [place for place in places if place not in ((0, 0), (0, 5), (5, 0), (5, 5))]
    row, column = inner[which]
    field = (slice(20 + 10 * row, 30 + 10 * row), slice(20 + 10 * column, 30 + 10 * column))
    frame[field] = 255 - frame[field]
    with pytest.raises(ValueError, match="check"):
        read_code(frame)


@pytest.mark.parametrize("level", [0, 127, 255])
def test_where_there_is_none(level: int) -> None:
    frame = np.full((200, 300, 3), level, np.uint8)
    for read in (read_code, find_code):
        with pytest.raises(ValueError, match="time code"):
            read(frame)


def test_a_mirrored_one_is_none() -> None:
    frame = np.ascontiguousarray(drawn(0x800001)[:, ::-1])
    with pytest.raises(ValueError, match="corners"):
        read_code(frame)


def test_one_that_is_too_small_is_none() -> None:
    with pytest.raises(ValueError, match="at least"):
        read_code(drawn(5), (0, 0, 20, 20))


@given(st.integers(0, 2**62), st.integers(-800_000, 800_000))
def test_the_age_is_right_across_the_end_of_the_count(unix_ns: int, ms: int) -> None:
    later = max(0, unix_ns + ms * 1_000_000)
    expected = (later - unix_ns) / 1e6
    assert age_ms(ticks(unix_ns), later) == pytest.approx(expected, abs=0.11)


def test_it_is_a_source() -> None:
    with open_source("pattern://timecode?width=128&height=128") as source:
        captured = source.read()
    assert captured is not None
    assert 0 <= age_ms(read_code(captured.frame), captured.captured_ns) < 60_000
