"""Prompts: encoded once; weighted, blended and turned away from in straight lines."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from dreamrelay.engines.parameters import Blend, StreamBatchParameters, WeightedPrompt
from dreamrelay.engines.prompts import (
    REACH,
    Embedding,
    Encoded,
    Morph,
    blended,
    interpolated,
    turned_away,
    weighted,
)

WORDS = ("red", "blue", "cat", "sea")


def bag_of_words(text: str) -> NDArray[np.float64]:
    """An encoder whose embeddings say which words there are."""
    return np.array([float(word in text) for word in WORDS])


def test_encodes_each_text_once() -> None:
    asked: list[str] = []

    def encode(text: str) -> int:
        asked.append(text)
        return len(text)

    cache = Encoded(encode)
    assert [cache[text] for text in ("a", "bb", "a", "a", "bb")] == [1, 2, 1, 1, 2]
    assert asked == ["a", "bb"]
    assert (cache.encoded, cache.hits) == (2, 3)


def test_forgets_what_was_not_used_for_longest() -> None:
    cache = Encoded(str.upper, size=2)
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

    cache: Encoded[str, str] = Encoded(encode)
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
    cache = Encoded(bag_of_words)
    weighted("(red) blue " * 90, cache.__getitem__)
    assert cache.encoded < 12


def embedding(*values: float) -> Embedding:
    """Of two words, one for each half of the values."""
    tokens = np.array(values, np.float32).reshape(1, 2, -1)
    return Embedding(tokens, tokens.sum(1))


def test_a_blend_is_the_mean_by_weights_and_goes_before_the_prompt() -> None:
    def of(*prompts: tuple[str, float]) -> NDArray[np.float64]:
        several = [WeightedPrompt(text=text, weight=weight) for text, weight in prompts]
        parameters = StreamBatchParameters(prompt="sea", prompts=several)
        found = blended(parameters, lambda text: Embedding(bag_of_words(text)), np)
        return np.asarray(found.tokens)

    np.testing.assert_allclose(of(("red", 1), ("blue", 3)), [0.25, 0.75, 0, 0])
    np.testing.assert_allclose(of(("red", 0), ("blue", 0)), [0.5, 0.5, 0, 0])
    np.testing.assert_allclose(of(("red", 0), ("blue", 2)), [0, 1, 0, 0])
    np.testing.assert_allclose(of(), [0, 0, 0, 1])


def test_turned_away_is_farther_from_what_is_not_wanted() -> None:
    red, blue = bag_of_words("red"), bag_of_words("blue")
    away = turned_away(red, blue)
    np.testing.assert_allclose(away, red + REACH * (red - blue))
    np.testing.assert_allclose(turned_away(red, blue, 2.0), red + 2 * REACH * (red - blue))


def test_an_embedding_adds_and_scales_in_all_its_parts() -> None:
    one, other = embedding(1, 2, 3, 4), embedding(5, 6, 7, 8)
    for found, expected in (
        (one + other, embedding(6, 8, 10, 12)),
        (other - one, embedding(4, 4, 4, 4)),
        (2 * one, embedding(2, 4, 6, 8)),
        (np.float64(0.5) * one, embedding(0.5, 1, 1.5, 2)),
    ):
        np.testing.assert_allclose(found.tokens, expected.tokens)
        np.testing.assert_allclose(np.asarray(found.pooled), np.asarray(expected.pooled))
    assert (Embedding(one.tokens) * 2).pooled is None


# Arcs --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["linear", "slerp", "slerp_tokens"])
@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_a_way_begins_and_ends_where_it_should_and_is_a_number(kind: Blend, dtype: str) -> None:
    dice = np.random.default_rng(4)
    exact = dtype == "float32"
    one, other = (Embedding(dice.standard_normal((1, 7, 5)).astype(dtype)) for _ in range(2))
    pairs = {
        "any": (one, other),
        "itself": (one, one),  # in half precision the angle of these is not a number
        "its opposite": (one, one * -1.0),
        "nothing": (one, one * 0.0),
        "longer": (one, one * 3.0),
    }
    for name, (left, right) in pairs.items():
        for share in (0.0, 0.3, 0.5, 1.0):
            found = interpolated((left, right), (1 - share, share), kind, np).tokens
            assert found.dtype == left.tokens.dtype, name
            assert np.isfinite(found).all(), (name, share)
            if share in (0, 1):
                expected = (left, right)[int(share)].tokens
                np.testing.assert_allclose(found, expected, atol=1e-5 if exact else 1e-2)


KINDS: tuple[Blend, ...] = ("slerp", "slerp_tokens")


def test_on_an_arc_lengths_change_evenly_and_on_a_line_they_sag() -> None:
    one, other = embedding(1, 0, 0, 2), embedding(0, 1, 2, 0)
    line, whole, words = (
        np.asarray(np.linalg.norm(interpolated((one, other), (0.5, 0.5), kind, np).tokens, axis=-1))
        for kind in ("linear", *KINDS)
    )
    np.testing.assert_allclose(line, [[0.5**0.5, 2 * 0.5**0.5]], rtol=1e-6)
    np.testing.assert_allclose(whole, [[1, 2]], rtol=1e-6)
    np.testing.assert_allclose(words, [[1, 2]], rtol=1e-6)
    # The whole turns as one: a word may shrink while another grows. Each by itself does not.
    one, other = embedding(1, 0, 0, 1), embedding(1, 0, 0, -1)
    whole, words = (interpolated((one, other), (0.5, 0.5), k, np).tokens[0] for k in KINDS)
    np.testing.assert_allclose(whole, [[math.sqrt(2), 0.0], [0.0, 0.0]], atol=1e-6)
    np.testing.assert_allclose(words[0], [1, 0], atol=1e-6)


@pytest.mark.parametrize("kind", ["linear", "slerp", "slerp_tokens"])
def test_numpy_and_torch_go_the_same_way(kind: Blend) -> None:
    dice = np.random.default_rng(1)
    three = [dice.standard_normal((1, 4, 6)).astype(np.float32) for _ in range(3)]
    shares = (0.2, 0.5, 0.3)
    ours = interpolated([Embedding(v, v[:, 0]) for v in three], shares, kind, np)
    tensors = [torch.from_numpy(values) for values in three]
    theirs = interpolated([Embedding(v, v[:, 0]) for v in tensors], shares, kind, torch)
    np.testing.assert_allclose(theirs.tokens.numpy(), ours.tokens, atol=1e-5)
    np.testing.assert_allclose(np.asarray(theirs.pooled), np.asarray(ours.pooled), atol=1e-5)


# Morphs ------------------------------------------------------------------------------------------


def test_a_morph_goes_evenly_and_ends_at_its_target() -> None:
    start, target = (embedding(0, 0, 0, 0), None), (embedding(4, 4, 4, 4), embedding(1, 1, 1, 1))
    morph = Morph(start, frames=4)
    stands = [morph.step(target, 1, "linear", np) for _ in range(4)]
    assert stands[3] is None, "the target itself"
    for at, sides in enumerate(stands[:3], start=1):
        assert sides is not None
        np.testing.assert_allclose(sides[0].tokens, np.full((1, 2, 2), at))
        assert sides[1] is target[1], "what is not wanted has no way where there was none"


def test_a_morph_that_is_sent_elsewhere_goes_on_from_where_it_is() -> None:
    zero, four, minus = (embedding(v, v, v, v) for v in (0, 4, -2))
    stands = Morph((zero, zero), 4).step((four, four), 2, "linear", np)
    assert stands is not None
    halfway = Morph(stands, 2).step((minus, minus), 1, "linear", np)
    assert halfway is not None
    assert halfway[1] is not None
    np.testing.assert_allclose(halfway[0].tokens, np.zeros((1, 2, 2)), atol=1e-6)
    np.testing.assert_allclose(halfway[1].tokens, np.zeros((1, 2, 2)), atol=1e-6)
