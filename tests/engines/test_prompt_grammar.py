"""Weights inside prompts: the usual brackets mean the usual, and every text is a prompt."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dreamrelay.engines.prompt_grammar import HEAVIEST, Part, parse, plain_text

BRACKETS = "()[]:\\.10a "


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("a red cat", [("a red cat", 1)]),
        ("a (red:1.3) cat", [("a ", 1), ("red", 1.3), (" cat", 1)]),
        ("(red) [cat]", [("red", 1.1), (" ", 1), ("cat", 1 / 1.1)]),
        ("((red))", [("red", 1.21)]),
        ("(a [b] c:2)", [("a ", 2), ("b", 2 / 1.1), (" c", 2)]),
        ("(a (b:.5):1.2)", [("a ", 1.2), ("b", 0.6)]),
        ("(red: 1.3 )", [("red", 1.3)]),
        ("(red:0)", [("red", 0)]),
        ("(red:-2)", [("red", 0)]),
        ("(red:1)(cat:1)", [("redcat", 1)]),
        (r"\(red\) \[cat\]", [("(red) [cat]", 1)]),
        (r"c:\dir", [(r"c:\dir", 1)]),
        ("red:1.3", [("red:1.3", 1)]),
        ("(time 10:30)", [("time 10", HEAVIEST)]),
        ("", []),
        ("()", []),
        ("(:1.3)", []),
    ],
)
def test_brackets_mean_what_people_expect(text: str, parts: list[tuple[str, float]]) -> None:
    found = parse(text)
    assert [part.text for part in found] == [words for words, _ in parts]
    assert [part.weight for part in found] == pytest.approx([weight for _, weight in parts])


@pytest.mark.parametrize("text", ["(red", "red)", "(red]", "[red)", "((", "a ) b ("])
def test_what_does_not_pair_up_is_plain(text: str) -> None:
    assert parse(text) == (Part(text, 1.0),)


def test_a_wrong_bracket_inside_a_right_pair_is_plain() -> None:
    assert parse("([red)") == (Part("[red", 1.1),)
    assert parse("(red:much)") == (Part("red:much", 1.1),)


@given(st.text(max_size=60) | st.text(alphabet=BRACKETS, max_size=40))
def test_every_text_is_a_prompt(text: str) -> None:
    parts = parse(text)
    assert all(part.text for part in parts)
    assert all(0 <= part.weight <= HEAVIEST for part in parts)
    assert all(one.weight != other.weight for one, other in pairwise(parts))
    assert len(plain_text(parts)) <= len(text)


@given(st.text(st.characters(exclude_characters="()[]\\"), min_size=1, max_size=60))
def test_a_text_without_brackets_is_itself(text: str) -> None:
    assert parse(text) == (Part(text, 1.0),)


@given(st.text(max_size=40))
def test_a_text_that_is_escaped_is_itself(text: str) -> None:
    escaped = "".join("\\" + letter if letter in "()[]\\" else letter for letter in text)
    assert plain_text(parse(escaped)) == text
    assert all(part.weight == 1 for part in parse(escaped))


def test_deep_nesting_stays_finite_and_quick() -> None:
    assert parse("(" * 1000 + "x" + ")" * 1000) == (Part("x", HEAVIEST),)
    assert parse("[" * 1000 + "x" + "]" * 1000)[0].weight == pytest.approx(0)
