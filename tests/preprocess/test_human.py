"""Every picture is cut out with the mask of its own frame."""

import numpy as np
import pytest
from pydantic import ValidationError

from dreamrelay.codec import Frame
from dreamrelay.engines.masks import composite
from dreamrelay.errors import EngineError
from dreamrelay.preprocess import HumanOnly, HumanParameters, Mask, Matting, open_matting
from dreamrelay.preprocess.ports import DEFAULT_STREAM
from tests.preprocess.photographs import photograph

HUMAN = HumanParameters(mode="human")
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


def test_in_mode_full_nothing_is_computed_not_even_loaded() -> None:
    def never() -> Matting:
        raise AssertionError("nobody asked for a mask")

    human = HumanOnly(never)
    assert human.mask(frame_of(3), FULL) is None


def test_the_engine_is_opened_once_and_late() -> None:
    opened: list[Brightness] = []

    def open_one() -> Brightness:
        opened.append(Brightness())
        return opened[-1]

    human = HumanOnly(open_one)
    human.mask(frame_of(1), FULL)
    assert not opened
    human.mask(frame_of(1), HUMAN)
    human.mask(frame_of(2), HUMAN)
    assert len(opened) == 1
    assert opened[0].loads == 1


@pytest.mark.parametrize(
    ("keep", "column", "elsewhere"), [("background", 255, 0), ("person", 0, 255)]
)
def test_the_mask_says_where_the_picture_is_seen(keep: str, column: int, elsewhere: int) -> None:
    parameters = HumanParameters.model_validate({"mode": "human", "keep": keep})
    mask = HumanOnly(Brightness).mask(frame_of(2), parameters)
    assert mask is not None
    assert (mask[:, 2] == column).all()
    assert (mask[:, 5] == elsewhere).all()


def test_leaving_the_mode_forgets_the_scene() -> None:
    matting = Brightness()
    human = HumanOnly(lambda: matting)
    human.mask(frame_of(1), HUMAN)
    human.mask(frame_of(1), FULL)
    human.mask(frame_of(1), FULL)
    assert matting.resets == ["default"]


def test_a_picture_for_one_peer_is_no_part_of_the_stream() -> None:
    matting = Brightness()
    human = HumanOnly(lambda: matting)
    human.mask(frame_of(1), HUMAN, "a")
    human.mask(frame_of(1), HUMAN, alone=True)
    human.mask(frame_of(1), FULL, alone=True)
    assert matting.asked == ["a", "once"]
    assert matting.resets == []


def test_another_scene_can_be_said() -> None:
    matting = Brightness()
    human = HumanOnly(lambda: matting)
    human.reset("a")  # before anything was loaded: nothing to forget
    human.mask(frame_of(1), HUMAN, "a")
    human.reset("a")
    assert matting.resets == ["a"]


def test_without_a_mask_there_is_no_picture() -> None:
    class Broken(Brightness):
        def matte(self, frame: Frame, stream: str = DEFAULT_STREAM) -> Mask:
            raise EngineError("out of memory")

    with pytest.raises(EngineError, match="out of memory"):
        HumanOnly(Broken).mask(frame_of(1), HUMAN)


def test_parameters_are_checked_and_described() -> None:
    properties = HumanParameters.model_json_schema()["properties"]
    assert properties["mode"]["enum"] == ["full", "human"]
    assert properties["keep"]["enum"] == ["background", "person"]
    for wrong in ({"mode": "nobody"}, {"keep": "hat"}, {"hat": 1}):
        with pytest.raises(ValidationError):
            HumanParameters.model_validate(wrong)


def test_a_real_person_is_painted_and_her_background_is_not() -> None:
    shot = photograph("astronaut")
    human = HumanOnly(open_matting)
    green = np.full_like(shot.frame, (0, 255, 0))
    mask = human.mask(shot.frame, HUMAN)
    assert mask is not None
    picture = composite(green, shot.frame, mask)
    painted = (picture == (0, 255, 0)).all(axis=2)
    person = shot.person & ~shot.ignored
    background = ~shot.person & ~shot.ignored
    assert painted[person].mean() > 0.9
    assert painted[background].mean() < 0.05
    untouched = (picture == shot.frame).all(axis=2)
    assert untouched[background].mean() > 0.85
