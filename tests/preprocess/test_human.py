"""Every picture is cut out with the mask of its own frame."""

from collections import deque

import numpy as np
import pytest
from pydantic import ValidationError

from dreamrelay.codec import Frame
from dreamrelay.errors import EngineError
from dreamrelay.preprocess import (
    Cutout,
    HumanOnly,
    HumanParameters,
    Keep,
    Mask,
    Matting,
    composite,
    open_matting,
)
from dreamrelay.preprocess.ports import DEFAULT_STREAM
from tests.preprocess.photographs import photograph

HUMAN = HumanParameters(mode="human", feather=0.0)
FULL = HumanParameters()


class Brightness(Matting):
    """The person is what is brighter than grey; counts what it is asked."""

    name = "brightness"

    def __init__(self) -> None:
        self.loads = 0
        self.asked: list[str] = []
        self.resets: list[str | None] = []

    def load(self) -> None:
        self.loads += 1

    def matte(self, frame: Frame, stream: str = DEFAULT_STREAM) -> Mask:
        self.asked.append(stream)
        return np.where(frame[..., 0] > 127, 255, 0).astype(np.uint8)

    def matte_once(self, frame: Frame) -> Mask:
        self.asked.append("once")
        return np.where(frame[..., 0] > 127, 255, 0).astype(np.uint8)

    def reset(self, stream: str | None = None) -> None:
        self.resets.append(stream)


def frame_of(number: int) -> Frame:
    """Frame ``number`` has its person (255) in column ``number`` alone."""
    frame = np.full((4, 32, 3), number, np.uint8)
    frame[:, number] = 255
    return frame


@pytest.mark.parametrize("delay", [0, 1, 3])
def test_a_picture_that_comes_late_has_its_own_frames_mask(delay: int) -> None:
    """A stream batch returns an earlier frame's picture with that frame's token."""
    human = HumanOnly(Brightness)
    batch: deque[tuple[int, Cutout | None]] = deque()
    seen = 0
    for number in range(20):
        batch.append((number, human.before(frame_of(number), HUMAN)))
        if len(batch) <= delay:
            continue
        made_from, cutout = batch.popleft()
        generated = np.full((4, 32, 3), 100 + made_from, np.uint8)
        picture = human.after(generated, cutout)
        expected = np.full((4, 32, 3), made_from, np.uint8)
        expected[:, made_from] = 100 + made_from
        np.testing.assert_array_equal(picture, expected)
        seen += 1
    assert seen == 20 - delay


def test_in_mode_full_nothing_is_computed_not_even_loaded() -> None:
    def never() -> Matting:
        raise AssertionError("nobody asked for a mask")

    human = HumanOnly(never)
    frame = frame_of(3)
    assert human.before(frame, FULL) is None
    assert human.after(frame, None) is frame


def test_the_engine_is_opened_once_and_late() -> None:
    opened: list[Brightness] = []

    def open_one() -> Brightness:
        opened.append(Brightness())
        return opened[-1]

    human = HumanOnly(open_one)
    human.before(frame_of(1), FULL)
    assert not opened
    human.before(frame_of(1), HUMAN)
    human.before(frame_of(2), HUMAN)
    assert len(opened) == 1
    assert opened[0].loads == 1


def test_a_change_of_mode_holds_for_frames_that_come_after_it() -> None:
    human = HumanOnly(Brightness)
    in_full = human.before(frame_of(1), FULL)
    in_human = human.before(frame_of(2), HUMAN)
    generated = np.full((4, 32, 3), 77, np.uint8)
    assert (human.after(generated, in_full) == 77).all()
    assert (human.after(generated, in_human) == 77).mean() < 0.1


def test_what_was_asked_for_travels_with_the_frame() -> None:
    human = HumanOnly(Brightness)
    before = human.before(frame_of(2), HumanParameters(mode="human", keep="person", feather=0.0))
    human.before(frame_of(3), HUMAN)
    generated = np.full((4, 32, 3), 77, np.uint8)
    picture = human.after(generated, before)
    assert (picture[:, 2] == 255).all()
    assert (picture[:, 5] == 77).all()


def test_leaving_the_mode_forgets_the_scene() -> None:
    matting = Brightness()
    human = HumanOnly(lambda: matting)
    human.before(frame_of(1), HUMAN)
    human.before(frame_of(1), FULL)
    human.before(frame_of(1), FULL)
    assert matting.resets == [None]


def test_a_picture_for_one_peer_is_no_part_of_the_stream() -> None:
    matting = Brightness()
    human = HumanOnly(lambda: matting)
    human.before(frame_of(1), HUMAN, "a")
    human.before(frame_of(1), HUMAN, alone=True)
    human.before(frame_of(1), FULL, alone=True)
    assert matting.asked == ["a", "once"]
    assert matting.resets == []


def test_another_scene_can_be_said() -> None:
    matting = Brightness()
    human = HumanOnly(lambda: matting)
    human.reset("a")  # before anything was loaded: nothing to forget
    human.before(frame_of(1), HUMAN, "a")
    human.reset("a")
    assert matting.resets == ["a"]


def test_without_a_mask_there_is_no_picture() -> None:
    class Broken(Brightness):
        def matte(self, frame: Frame, stream: str = DEFAULT_STREAM) -> Mask:
            raise EngineError("out of memory")

    with pytest.raises(EngineError, match="out of memory"):
        HumanOnly(Broken).before(frame_of(1), HUMAN)


@pytest.mark.parametrize("keep", ["background", "person"])
def test_an_engine_that_lays_over_by_itself_gets_the_same(keep: Keep) -> None:
    mask = np.array([[0, 80, 255]], np.uint8)
    frame = np.full((1, 3, 3), 10, np.uint8)
    generated = np.full((1, 3, 3), 210, np.uint8)
    cutout = Cutout(frame, mask, keep, 0.0)
    np.testing.assert_allclose(
        composite(generated, frame, cutout.shown), cutout.lay(generated), atol=1
    )


def test_a_mask_of_another_size_is_refused() -> None:
    with pytest.raises(ValueError, match="expected a mask"):
        Cutout(frame_of(1), np.zeros((3, 3), np.uint8), "background", 0.0)


def test_a_picture_of_another_size_is_refused() -> None:
    human = HumanOnly(Brightness)
    cutout = human.before(frame_of(1), HUMAN)
    with pytest.raises(ValueError, match="expected two frames of one size"):
        human.after(np.zeros((8, 8, 3), np.uint8), cutout)


def test_parameters_are_checked_and_described() -> None:
    properties = HumanParameters.model_json_schema()["properties"]
    assert properties["mode"]["enum"] == ["full", "human"]
    assert properties["keep"]["enum"] == ["background", "person"]
    assert properties["feather"]["maximum"] == 64
    for wrong in ({"mode": "nobody"}, {"keep": "hat"}, {"feather": -1}, {"feather": 65}):
        with pytest.raises(ValidationError):
            HumanParameters.model_validate(wrong)


def test_a_real_person_is_painted_and_her_background_is_not() -> None:
    shot = photograph("astronaut")
    human = HumanOnly(open_matting)
    green = np.full_like(shot.frame, (0, 255, 0))
    picture = human.after(green, human.before(shot.frame, HumanParameters(mode="human")))
    painted = (picture == (0, 255, 0)).all(axis=2)
    person = shot.person & ~shot.ignored
    background = ~shot.person & ~shot.ignored
    assert painted[person].mean() > 0.9
    assert painted[background].mean() < 0.05
    untouched = (picture == shot.frame).all(axis=2)
    assert untouched[background].mean() > 0.85
