"""The pocket model that ships: its folder, and what it obeys on pictures it never saw.

The measures are those of `training/measure.py`, through the engine that a worker would choose, on
few and small pictures. `python -m benchmarks pocket` takes them all.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import cv2
import numpy as np
import pytest

from dreamrelay.engines import Engine, EngineSettings, open_engine, pocket
from dreamrelay.engines.clip_tokenizer import ClipTokenizer
from dreamrelay.errors import EngineError
from dreamrelay.media.dream import Dream
from training import measure, scenes
from training.figures import STEADY_GOAL
from training.measure import Ask, Paint
from training.prompts import COLOUR_WORDS, MOOD_WORDS, STYLE_WORDS, vocabulary
from training.stylise import Picture

SIDE = 128  # enough to judge colour and texture, four times quicker than a whole frame


@pytest.fixture(scope="module")
def engine() -> Iterator[Engine]:
    """The pocket model as a worker opens it, on one core."""
    cv2.setNumThreads(1)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("OMP_NUM_THREADS", "1")
        engine = open_engine(EngineSettings(width=SIDE, height=SIDE, device="cpu", offline=True))
        engine.load(lambda progress: None)
    yield engine
    engine.close()


@pytest.fixture(scope="module")
def ask(engine: Engine) -> Ask:
    """A picture under a patch of parameters."""
    return measure.ask_engine(engine)


@pytest.fixture(scope="module")
def paint(engine: Engine) -> Paint:
    """A picture under a prompt, a strength and a seed."""
    return measure.paint_engine(engine)


@pytest.fixture(scope="module")
def pictures() -> dict[str, Picture]:
    """A photograph and a drawing, neither of them trained on."""
    held_out = scenes.held_out(SIDE)
    return {name: held_out[name] for name in ("cat", "scene")}


# The folder --------------------------------------------------------------------------------------


def test_folder_is_small_complete_and_matches_its_checksums() -> None:
    folder = pocket.model_folder()
    files = [path for path in folder.rglob("*") if path.is_file()]
    assert sum(path.stat().st_size for path in files) < 20_000_000
    assert not [path for path in files if path.suffix in {".bin", ".pt", ".ckpt", ".pkl"}]
    listed = (folder / pocket.CHECKSUMS).read_text(encoding="utf-8")
    for path in files:
        if path.name != pocket.CHECKSUMS:
            assert path.relative_to(folder).as_posix() in listed
    pocket.verify()


def test_a_changed_file_is_found(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text("{}", encoding="utf-8")
    (tmp_path / pocket.CHECKSUMS).write_text(f"{'0' * 64}  a.json\n", encoding="utf-8")
    with pytest.raises(EngineError, match=r"a\.json does not match"):
        pocket.verify(tmp_path)
    (tmp_path / "a.json").unlink()
    with pytest.raises(EngineError, match=r"a\.json is missing"):
        pocket.verify(tmp_path)
    with pytest.raises(EngineError, match="found none"):
        pocket.verify(tmp_path / "nowhere")


def test_vocabulary_is_what_it_was_trained_with(engine: Engine) -> None:
    known = pocket.vocabulary()
    assert known == vocabulary()
    assert len(known["styles"]) >= 16
    assert len(known["colours"]) + len(known["moods"]) >= 20
    assert engine.schema()["x-vocabulary"] == known


def test_defaults_are_one_step_at_the_strength_of_the_measures() -> None:
    defaults = pocket.defaults()
    assert defaults["strength"] == measure.STRENGTH
    assert defaults["num_inference_steps"] == 1
    assert (defaults["width"], defaults["height"]) == (256, 256)


def test_known_words_are_one_token_each() -> None:
    tokenizer = ClipTokenizer(pocket.model_folder())
    for table in (STYLE_WORDS, COLOUR_WORDS, MOOD_WORDS):
        for phrase in (phrase for words in table.values() for phrase in words):
            if not phrase.replace(" ", "").isalpha():
                continue  # "8 bit", "b&w"
            ids = tokenizer(phrase)[0]
            assert int((ids != ids[-1]).sum()) == 1 + len(phrase.split()), phrase
    ids = tokenizer("zyxqw")[0]
    assert int((ids != ids[-1]).sum()) == 1 + 5


# Obedience ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(("axis", "goal"), [("styles", 0.75), ("colours", 0.9), ("moods", 0.75)])
def test_what_is_asked_is_what_comes(
    paint: Paint, pictures: dict[str, Picture], axis: str, goal: float
) -> None:
    found = measure.obedience(paint, axis, pictures=pictures)
    assert found.top1 >= goal, found.table()
    assert found.top1_lab >= goal, found.table()


def test_words_are_obeyed_beside_each_other(paint: Paint) -> None:
    found = measure.joint_obedience(paint, 8, side=SIDE)
    right = sum(axis.right for axis in found.values())
    asked = sum(axis.asked for axis in found.values())
    assert right >= 0.6 * asked, "\n".join(axis.table() for axis in found.values())


# Word, then the channel (0 red, 1 green, 2 blue) that must lead and the one it leads.
@pytest.mark.parametrize(
    ("prompt", "high", "low"),
    [
        ("blue", 2, 0),
        ("red", 0, 2),
        ("gold", 0, 2),
        ("green", 1, 0),
        ("teal", 2, 0),
        ("purple", 2, 1),
        ("pink", 0, 1),
        ("orange", 0, 2),
        ("blue neon", 2, 0),
        ("a gold oil painting", 0, 2),
        ("sunset", 0, 2),
        ("at night", 2, 0),
    ],
)
def test_colours_are_plain_to_see(
    paint: Paint, pictures: dict[str, Picture], prompt: str, high: int, low: int
) -> None:
    # What a worker paints on while there is no camera.
    dream: Picture = np.asarray(Dream(SIDE, SIDE, 1)(7.0), np.float32) / np.float32(255)
    for picture in (pictures["cat"], dream):
        means = paint(picture, prompt, 0.5, 3).mean((0, 1))
        assert means[high] > means[low] + 0.06, (prompt, means)


def test_styles_differ_from_each_other_and_from_the_input(
    paint: Paint, pictures: dict[str, Picture]
) -> None:
    styles = ("pencil sketch", "watercolor", "neon", "pixel art", "blueprint", "thermal", "mosaic")
    cat = pictures["cat"]
    painted = [paint(cat, style, 0.5, 3) for style in styles]
    for index, one in enumerate(painted):
        assert measure.distance(one, cat) > 0.04, styles[index]
        for other in range(index):
            assert measure.distance(one, painted[other]) > 0.05, (styles[index], styles[other])


def test_strange_words_do_nothing_and_synonyms_the_same(paint: Paint) -> None:
    words = measure.grammar(paint, every=4, side=SIDE)
    assert words.stranger < 0.3, words.table()
    assert words.strangers_alone < 0.3, words.table()
    assert words.order < 0.35, words.table()
    assert words.synonyms_right >= 0.85 * words.synonyms_asked, words.table()


def test_weights_negative_prompts_and_blends_pull_in_their_direction(ask: Ask) -> None:
    for row in measure.pulls(ask, side=SIDE):
        if row.patches[0].startswith("against"):
            twice, once, plain, with_it = row.amounts
            assert max(twice, once) < 0.05, row.line()
            assert twice <= once + 0.1, row.line()
            assert plain < 0.05 < 0.9 < with_it, row.line()
        else:
            assert abs(row.amounts[0]) < 0.25, row.line()
            assert all(b > a - 0.02 for a, b in pairwise(row.amounts)), row.line()
            assert row.amounts[-1] > 0.75, row.line()
            assert row.amounts[0] < row.amounts[1] < 0.95, row.line()


# What is kept and what is left behind ------------------------------------------------------------


def test_structure_is_kept(paint: Paint, pictures: dict[str, Picture]) -> None:
    rows = measure.structure_kept(paint, pictures={"cat": pictures["cat"]})
    edges = np.mean([row.edges for row in rows])
    assert edges > 0.85 * np.mean([row.edges_reference for row in rows])
    assert next(row.ssim for row in rows if row.style == "photo") > 0.6
    for row in rows:
        assert row.edges > 0.25 * row.edges_reference, row.line()


def test_a_moving_picture_does_not_flicker(paint: Paint) -> None:
    rows = measure.steadiness(paint, measure.ALL_STYLES[::2], frames=4, side=SIDE)
    for row in rows:
        assert row.moving <= max(STEADY_GOAL, 1.1 * row.moving_reference), row.line()
    assert np.mean([row.moving for row in rows]) <= 1.1
    assert np.mean([row.still for row in rows]) <= 1.0


def test_no_checkerboard_and_no_noise_is_left(paint: Paint) -> None:
    for row in measure.artefacts(paint, side=SIDE):
        if row.prompt == "":
            assert max(row.grid8, row.grid16) < 1.5, row.line()
            assert row.noise < 1.5, row.line()
        assert row.grid8 < row.grid8_reference + 2.5, row.line()
        assert row.grid16 < row.grid16_reference + 2.5, row.line()
        assert row.noise < 1.5 * row.noise_reference + 1.5, row.line()
        assert row.identity < 2.0, row.line()


def test_strength_leads_from_the_input_to_the_style(paint: Paint) -> None:
    for curve in measure.strength_curve(paint, ("oil painting", "neon", "blue"), side=SIDE):
        assert curve.distances[0] < 0.02, curve.line()
        assert curve.distances[0] < curve.distances[2] < curve.distances[4], curve.line()
        assert curve.distances[5] > 0.05, curve.line()
        assert curve.dip < 0.02, curve.line()


def test_the_seed_varies_texture_and_not_content(paint: Paint) -> None:
    rows = {row.prompt: row for row in measure.seeds_apart(paint, side=SIDE)}
    assert rows[""].texture < 3.5
    assert rows[""].content < 2.5
    textured = [row for row in rows.values() if row.texture_reference > 3]
    assert len(textured) >= 3
    assert np.mean([row.texture / row.texture_reference for row in textured]) > 0.25
    for row in rows.values():
        assert row.content < 1.2 * row.content_reference + 2.0, row.line()


def test_two_steps_keep_the_picture(ask: Ask, pictures: dict[str, Picture]) -> None:
    cat = pictures["cat"]
    once = ask(cat, {"prompt": "blue", "num_inference_steps": 1})
    twice = ask(cat, {"prompt": "blue", "num_inference_steps": 2})
    means = twice.mean((0, 1))
    assert means[2] > means[0] + 0.06
    assert measure.distance(once, twice) < 0.1
