"""Test patterns: the same every time, and readable by a program after a codec had them."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dreamrelay.codec import Frame, decode, encode, resize
from dreamrelay.errors import ConfigError
from dreamrelay.media import open_source
from dreamrelay.media.pattern import COUNTER_BITS, Bars, PatternOptions, read_counter, rgb
from dreamrelay.packet import Codec


def frames(url: str, count: int) -> list[Frame]:
    with open_source(url) as source:
        captured = [source.read() for _ in range(count)]
    return [one.frame for one in captured if one is not None]


@pytest.mark.parametrize("name", ["bars", "noise", "flat", "clip"])
@pytest.mark.parametrize(("width", "height"), [(64, 64), (512, 288), (97, 211)])
def test_patterns_have_the_size_asked_for(name: str, width: int, height: int) -> None:
    for frame in frames(f"pattern://{name}?width={width}&height={height}", 3):
        assert frame.shape == (height, width, 3)


@pytest.mark.parametrize("name", ["bars", "noise", "clip"])
def test_patterns_move_and_repeat_themselves_exactly(name: str) -> None:
    url = f"pattern://{name}?width=96&height=96&seed=4"
    first, second = frames(url, 12), frames(url, 12)
    assert all(np.array_equal(a, b) for a, b in zip(first, second, strict=True))
    assert not np.array_equal(first[0], first[11])
    assert not np.array_equal(first[0], frames(url.replace("=4", "=5"), 1)[0])


def test_the_rate_is_30_unless_asked_for() -> None:
    for query, fps in [("", 30.0), ("?fps=12.5", 12.5), ("?fps=0", None)]:
        with open_source(f"pattern://bars{query}") as source:
            assert source.fps == fps


def test_the_counter_counts() -> None:
    assert [read_counter(frame) for frame in frames("pattern://bars", 5)] == [0, 1, 2, 3, 4]


@settings(deadline=None, max_examples=60)
@given(
    number=st.integers(0, (1 << COUNTER_BITS) + 5),
    width=st.integers(64, 700),
    height=st.integers(64, 400),
)
def test_any_number_can_be_read_at_any_size(number: int, width: int, height: int) -> None:
    frame = Bars(PatternOptions(width=width, height=height))(number)
    assert read_counter(frame) == number % (1 << COUNTER_BITS)


@pytest.mark.parametrize("number", [0, 1, 682, 349525, 1048575])
@pytest.mark.parametrize("codec", [Codec.JPEG, Codec.WEBP])
def test_the_counter_survives_codecs_and_scaling(number: int, codec: Codec) -> None:
    frame = Bars(PatternOptions(width=256, height=256))(number)
    for quality in (30, 85):
        again = decode(encode(frame, codec, quality=quality).data)
        assert read_counter(again) == number
        assert read_counter(resize(again, 512, 300, "stretch")) == number
        assert read_counter(resize(again, 100, 128, "stretch")) == number


def test_what_has_no_counter_is_refused() -> None:
    for frame in (
        np.zeros((64, 64, 3), np.uint8),
        np.full((64, 64, 3), 255, np.uint8),
        frames("pattern://bars", 1)[0][::-1],
        frames("pattern://bars", 1)[0][:, ::-1],
        frames("pattern://clip", 1)[0],
        np.zeros((1, 1, 3), np.uint8),
    ):
        with pytest.raises(ValueError, match="counter"):
            read_counter(frame)


def test_the_card_shows_where_up_is() -> None:
    card = frames("pattern://bars?width=240&height=240", 1)[0]
    top, bottom = card[:72], card[72:144]
    white = (255, 255, 255)
    assert (top == white).all(2).sum() > 0
    # The arrow's head is above its shaft, and the flag is on the right.
    rows = (card[:144] == white).all(2)
    assert rows[:24].sum() < rows[48:72].sum() > rows[80:90].sum()
    flag = rows[96:115]
    assert flag[:, 121:].sum() > 1.5 * flag[:, :120].sum()
    assert bottom.shape == top.shape


def test_the_ball_runs_to_the_right_and_comes_round() -> None:
    def middle(frame: Frame) -> float:
        ball = (frame == (255, 200, 0)).all(2)
        return float(np.nonzero(ball.any(0))[0].mean())

    places = [middle(frame) for frame in frames("pattern://bars?width=120&height=120", 130)]
    moving = places[20:100]
    assert moving == sorted(set(moving))
    assert places[121] == places[1]


@pytest.mark.parametrize(
    ("colour", "expected"),
    [
        ("ff8000", (255, 128, 0)),
        ("%23ff8000", (255, 128, 0)),
        ("teal", (0, 128, 128)),
        ("f80", (255, 136, 0)),
    ],
)
def test_flat_has_the_colour_asked_for(colour: str, expected: tuple[int, int, int]) -> None:
    frame = frames(f"pattern://flat?colour={colour}", 1)[0]
    assert (frame == expected).all()


@pytest.mark.parametrize(
    ("query", "words"),
    [
        ("colour=blurple", "colour: expected six hexadecimal digits .* got 'blurple'"),
        ("color=red", "did you mean colour"),
        ("width=8", "width: .*64, got '8'"),
        ("height=100000", "height: .*8192"),
        ("fps=-1", "fps"),
    ],
)
def test_wrong_options_are_refused(query: str, words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        open_source(f"pattern://flat?{query}")


def test_colours_are_red_green_blue() -> None:
    assert rgb("#010203") == (1, 2, 3)
    with pytest.raises(ValueError, match="hexadecimal"):
        rgb("nothing")


def test_the_clip_closes_its_round() -> None:
    from dreamrelay.media.clip import Clip  # noqa: PLC0415 - imports cv2, as little else here

    clip = Clip(PatternOptions(width=128, height=128))
    assert np.array_equal(clip(3), clip(3 + Clip.ROUND))
    last, first = clip(Clip.ROUND - 1).astype(int), clip(0).astype(int)
    step = np.abs(clip(1).astype(int) - first).mean()
    assert np.abs(first - last).mean() < 3 * step + 0.5


def test_the_clip_has_something_to_hold_on_to() -> None:
    """Light, dark and colour: nothing that a style could not change."""
    for frame in frames("pattern://clip?width=128&height=128", 3):
        assert frame.std() > 40
        assert frame.reshape(-1, 3).std(0).min() > 25
