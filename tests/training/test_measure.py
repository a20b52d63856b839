"""The measures judge an obedient painter well and a deaf one badly."""

import json

import cv2
import numpy as np
import pytest

from tests.fakes.painters import Deaf, Obedient, ask_obedient, read_look
from training import measure, scenes
from training.figures import Figures, Strength, table
from training.grain import grain_of, seeded_grain, seeded_noise
from training.stylise import COLOURS, MOODS, STYLES, Look, Picture

SIDE = 128


@pytest.fixture(autouse=True, scope="module")
def one_thread() -> None:
    """Many small pictures: threads only get in each other's way."""
    cv2.setNumThreads(1)


@pytest.fixture(scope="module")
def cat() -> dict[str, Picture]:
    return {"cat": scenes.held_out(SIDE)["cat"]}


def test_every_word_has_a_reference() -> None:
    assert set(measure.AXES["styles"]) == set(STYLES)
    assert set(measure.AXES["colours"]) == set(COLOURS)
    assert set(measure.AXES["moods"]) == set(MOODS)


def test_grain_is_standard_normal_and_of_its_seed() -> None:
    grain = seeded_grain(3, 256, 128)
    assert grain.shape == (64, 32, 3)
    assert abs(float(grain.mean())) < 0.05
    assert float(grain.std()) == pytest.approx(1, abs=0.05)
    assert np.array_equal(grain, grain_of(seeded_noise(3, 32, 16)))
    assert not np.array_equal(grain, seeded_grain(4, 256, 128))


def test_held_out_pictures_fill_their_square() -> None:
    pictures = scenes.held_out(SIDE)
    assert list(pictures) == ["astronaut", "cat", "face", "scene"]
    for picture in (*pictures.values(), *scenes.moving_clip(SIDE, 3), *scenes.still_clip(SIDE, 2)):
        assert picture.shape == (SIDE, SIDE, 3)
        assert picture.dtype == np.float32
        assert picture.min() >= 0
        assert picture.max() <= 1
        assert picture.std() > 0.05


@pytest.mark.parametrize("axis", list(measure.AXES))
def test_who_obeys_is_nearest_to_what_was_asked(axis: str, cat: dict[str, Picture]) -> None:
    good = measure.obedience(Obedient(), axis, pictures=cat)
    assert good.top1 == good.top1_lab == 1.0
    assert good.confused == []
    assert good.error < 0.05
    assert all(wish.margin > 1 for wish in good.wishes)


@pytest.mark.parametrize("axis", list(measure.AXES))
def test_who_does_not_listen_is_right_by_chance(axis: str, cat: dict[str, Picture]) -> None:
    bad = measure.obedience(Deaf(), axis, pictures=cat)
    assert bad.right <= 1
    assert len(bad.confused) == bad.asked - bad.right
    assert bad.confused[0] in bad.to_json()["confused"]
    assert f"{bad.right} of {bad.asked}" in bad.table()


def test_prompts_of_several_words_are_judged_by_axis() -> None:
    looks = measure.combinations(8)
    assert looks == measure.combinations(8)
    assert {len(look.colours) for look in looks} == {0, 1, 2}
    for look in looks:
        assert read_look(measure.phrase(look)) == look
    good = measure.joint_obedience(Obedient(), 4, side=SIDE)
    assert {axis.split()[0] for axis in good} == {"styles", "colours", "moods"}
    assert [axis.top1 for axis in good.values()] == [1.0, 1.0, 1.0]
    bad = measure.joint_obedience(Deaf(), 4, side=SIDE)
    assert sum(axis.right for axis in bad.values()) <= 2


def test_phrases_read_as_people_type() -> None:
    assert measure.phrase(Look("oil", ("red", "gold"), ("night",))) == (
        "red and gold oil painting, night"
    )
    assert measure.phrase(Look("photo", ("blue",))) == "blue"
    assert measure.phrase(Look("photo", (), ("winter",))) == "winter"
    assert measure.phrase(Look()) == "photo"


def test_structure_is_all_there_in_the_picture_itself_and_gone_in_noise(
    cat: dict[str, Picture],
) -> None:
    picture = cat["cat"]
    noise = np.random.default_rng(1).random(picture.shape, np.float32)
    assert measure.ssim(picture, picture) == pytest.approx(1, abs=1e-4)
    assert measure.edge_agreement(picture, picture) == pytest.approx(1, abs=1e-4)
    assert measure.edge_agreement(picture, 1 - picture) > 0.99
    assert measure.ssim(picture, noise) < 0.1
    assert measure.edge_agreement(picture, noise) < 0.2
    kept = measure.structure_kept(Obedient(0, 0), pictures=cat, styles=("photo", "oil"))
    for row in kept:
        assert row.edges == pytest.approx(row.edges_reference)
        assert row.ssim == pytest.approx(row.ssim_reference)
    assert kept[0].ssim > 0.7


def test_flicker_is_found() -> None:
    frame = iter(range(1000))

    def flicker(picture: Picture, prompt: str, strength: float, seed: int, /) -> Picture:
        return np.asarray(picture * np.float32(0.7 + 0.3 * (next(frame) % 2)), np.float32)

    def same(picture: Picture, prompt: str, strength: float, seed: int, /) -> Picture:
        return picture

    [steady] = measure.steadiness(same, [Look()], frames=4, side=SIDE)
    [wild] = measure.steadiness(flicker, [Look()], frames=4, side=SIDE)
    assert steady.moving == pytest.approx(1)
    assert steady.still == pytest.approx(1)
    assert wild.moving > 1.3
    assert wild.still > 5
    assert 0 < steady.moving_reference == wild.moving_reference


def test_seams_and_noise_are_found_and_told_apart() -> None:
    row = np.arange(SIDE)

    def spoil(kind: str) -> measure.Paint:
        def paint(picture: Picture, prompt: str, strength: float, seed: int, /) -> Picture:
            spoilt = picture.copy()
            if strength > 0 and kind == "seams":
                spoilt[row % 8 == 0] += 8 / 255
            if strength > 0 and kind == "wide":
                spoilt[row % 16 == 0] += 8 / 255
                spoilt[row % 16 == 8] -= 8 / 255
            if strength > 0 and kind == "noise":
                noise = np.random.default_rng(9).normal(0, 4 / 255, picture.shape)
                spoilt += noise.astype(np.float32)
            return spoilt

        return paint

    def worst(kind: str) -> list[float]:
        rows = measure.artefacts(spoil(kind), [("", Look())], side=SIDE)
        assert all(row.identity == 0 for row in rows)
        names = ("grid8", "grid16", "noise")
        return [max(getattr(row, name) for row in rows) for name in names]

    clean, seams, wide, noise = (worst(kind) for kind in ("clean", "seams", "wide", "noise"))
    assert max(clean) < 0.1
    assert seams[0] > 2 > 0.3 > seams[1]
    assert wide[1] > 2 > 0.3 > wide[0]
    assert noise[2] > 3
    assert max(noise[:2]) < 0.5


def test_strength_rises_and_a_dip_is_told() -> None:
    for curve in measure.strength_curve(Obedient(), ("oil painting", "blue"), side=SIDE):
        assert curve.distances[0] == 0
        assert curve.distances[10] > 0.1
        assert curve.dip < 0.02
    assert Strength("", (0.0, 0.2, 0.15, 0.3)).dip == pytest.approx(0.05)


def test_seeds_change_texture_and_not_content() -> None:
    for row in measure.seeds_apart(Obedient(0, 0), ("photo", "watercolor"), side=SIDE):
        assert row.texture == pytest.approx(row.texture_reference)
        assert row.content == pytest.approx(row.content_reference)
        assert (row.texture > 0.5) == (row.prompt != "")


def test_words_beside_each_other() -> None:
    good = measure.grammar(Obedient(0, 0), side=SIDE)
    assert good.stranger == good.strangers_alone == good.order == 0
    assert good.synonyms_asked > 100
    assert good.synonyms_missed == ()
    confused = measure.grammar(Confused(), every=0, side=SIDE)
    assert confused.stranger > 0.2
    assert confused.synonyms_asked == 0


class Confused(Obedient):
    """Takes the number of letters for a wish."""

    def __init__(self) -> None:
        super().__init__(0, 0)
        self.read = lambda prompt: Look("photo", (COLOURS[len(prompt) % len(COLOURS)],))


def test_weights_blends_and_negatives_pull_in_their_direction() -> None:
    rows = measure.pulls(ask_obedient, side=SIDE)
    assert len(rows) == 9
    for row in rows:
        assert row.rises, row
        assert row.line()
    assert min(amount for row in rows for amount in row.amounts) < 0
    deaf = measure.pulls(lambda picture, patch: picture, blends=False, side=SIDE)
    assert not any(row.rises for row in deaf)


def test_figures_are_plain_json_and_a_table(cat: dict[str, Picture]) -> None:
    paint = Obedient()
    figures = Figures(
        {"colours": measure.obedience(paint, "colours", pictures=cat)},
        measure.structure_kept(paint, pictures=cat, styles=("oil",)),
        measure.steadiness(paint, [Look("oil")], frames=3, side=SIDE),
        measure.artefacts(paint, [("", Look())], side=SIDE),
        measure.strength_curve(paint, ("blue",), side=SIDE),
        measure.seeds_apart(paint, ("oil",), side=SIDE),
        measure.grammar(paint, every=0, side=SIDE),
    )
    kept = json.loads(json.dumps(figures.to_json()))
    assert kept["summary"]["colours_top1"] == 1.0
    assert kept["summary"]["colours_missed"] == []
    assert len(kept["strength"][0]["distances"]) == 11
    text = figures.table()
    for title in ("colours: 14 of 14", "structure of the input", "frame to frame", "two seeds"):
        assert title in text
    assert table(()) == ""
