"""Prompts: encoded once; weighted, blended and turned away from in straight lines."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from dreamrelay.engines.parameters import StreamBatchParameters, WeightedPrompt
from dreamrelay.engines.prompts import REACH, PromptCache, blended, turned_away, weighted

WORDS = ("red", "blue", "cat", "sea")


def bag_of_words(text: str) -> NDArray[np.float64]:
    """An encoder whose embeddings say which words there are."""
    return np.array([float(word in text) for word in WORDS])


def test_encodes_each_text_once() -> None:
    asked: list[str] = []

    def encode(text: str) -> int:
        asked.append(text)
        return len(text)

    cache = PromptCache(encode)
    assert [cache[text] for text in ("a", "bb", "a", "a", "bb")] == [1, 2, 1, 1, 2]
    assert asked == ["a", "bb"]
    assert (cache.encoded, cache.hits) == (2, 3)


def test_forgets_what_was_not_used_for_longest() -> None:
    cache = PromptCache(str.upper, size=2)
    for text in ("a", "b", "a", "c"):
        assert cache[text] == text.upper()
    assert len(cache) == 2
    assert cache["a"] == "A"
    assert (cache.encoded, cache.hits) == (3, 2)
    assert cache["b"] == "B"
    assert cache.encoded == 4


def test_a_text_that_cannot_be_encoded_is_not_kept() -> None:
    def encode(text: str) -> str:
        if cache.encoded:
            return text
        raise MemoryError

    cache: PromptCache[str] = PromptCache(encode)
    try:
        cache["a"]
    except MemoryError:
        assert len(cache) == 0


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("red cat", [1, 0, 1, 0]),
        ("(red:1.3) cat", [1.3, 0, 1, 0]),
        ("(red:0) cat", [0, 0, 1, 0]),
        ("[red] (cat)", [1 / 1.1, 0, 1.1, 0]),
        ("(red:4) cat", [1 + REACH, 0, 1, 0]),
        ("(red:1.5) (cat:1.5)", [1 + REACH / 2, 0, 1 + REACH / 2, 0]),
    ],
)
def test_a_weight_takes_what_its_words_add_so_often(text: str, expected: list[float]) -> None:
    np.testing.assert_allclose(weighted(text, bag_of_words), expected)


@given(st.text(alphabet="()[]:.19redblu ", max_size=60))
def test_no_weight_leaves_the_trained_range(text: str) -> None:
    found = weighted(text, bag_of_words)
    assert np.isfinite(found).all()
    assert found.min() >= -1 - 1e-9
    assert found.max() <= 1 + REACH + 1e-9


def test_few_encodings_whatever_is_typed() -> None:
    cache = PromptCache(bag_of_words)
    weighted("(red) blue " * 90, cache.__getitem__)
    assert cache.encoded < 12


def test_a_blend_is_the_mean_by_weights_and_goes_before_the_prompt() -> None:
    def of(*prompts: tuple[str, float]) -> NDArray[np.float64]:
        several = [WeightedPrompt(text=text, weight=weight) for text, weight in prompts]
        found: NDArray[np.float64] = blended(
            StreamBatchParameters(prompt="sea", prompts=several), bag_of_words
        )
        return found

    np.testing.assert_allclose(of(("red", 1), ("blue", 3)), [0.25, 0.75, 0, 0])
    np.testing.assert_allclose(of(("red", 0), ("blue", 0)), [0.5, 0.5, 0, 0])
    np.testing.assert_allclose(of(("red", 0), ("blue", 2)), [0, 1, 0, 0])
    np.testing.assert_allclose(of(), [0, 0, 0, 1])


def test_turned_away_is_farther_from_what_is_not_wanted() -> None:
    red, blue = bag_of_words("red"), bag_of_words("blue")
    away = turned_away(red, blue)
    np.testing.assert_allclose(away, red + REACH * (red - blue))
