"""The offline engine's grammar, and what is left of an incomplete hearing."""

import pytest

from dreamrelay.speech import grammar
from dreamrelay.speech.agreement import agreement
from dreamrelay.speech.ports import Word

PHRASES = ("black", "black and white", "oil painting", "stained glass", "gold", "blue")


def words(text: str) -> list[Word]:
    return [Word(word, 0.0, 0.0, 1.0) for word in text.split()]


@pytest.mark.parametrize(
    ("heard", "kept"),
    [
        ("stop", "stop"),
        ("preset three", "preset three"),
        ("stop and", "stop"),
        ("preset", ""),
        ("oil painting", "oil painting"),
        ("oil painting and", "oil painting"),
        ("and gold", "gold"),
        ("gold with blue", "gold with blue"),
        ("gold stained", "gold"),
        ("stained gold glass", "gold"),
        ("black and white", "black and white"),
        ("black and gold", "black and gold"),
        ("prompt gold and", "prompt gold"),
        ("prompt", ""),
        ("add blue", "add blue"),
        ("and", ""),
        ("", ""),
    ],
)
def test_what_makes_sense_is_kept(heard: str, kept: str) -> None:
    units = grammar.units(words(heard), PHRASES)
    assert " ".join(word.text for word in grammar.joined(units)) == kept


def test_what_was_not_said_takes_its_links_with_it() -> None:
    prompt, gold, link, blue = grammar.units(words("prompt gold and blue"), PHRASES)
    assert [word.text for word in grammar.joined([prompt, link, blue])] == ["prompt", "blue"]
    assert [word.text for word in grammar.joined([prompt, gold, link])] == ["prompt", "gold"]
    assert grammar.joined([prompt, link]) == []


def test_only_phrases_of_known_words_are_listened_for() -> None:
    vocabulary = ["Oil Painting", "gold", "gold", "ukiyo e", "4k", "naïve art", "", "a;b | <c>"]
    assert grammar.phrases(vocabulary, lambda word: word != "ukiyo") == ("oil painting", "gold")


def test_not_more_than_can_be_told_apart() -> None:
    many = [a + b for a in map(chr, range(97, 123)) for b in map(chr, range(97, 123))]
    assert len(grammar.phrases(many, lambda _: True)) == grammar.MOST_PHRASES


def test_the_grammar_has_commands_always_and_prompts_with_a_vocabulary() -> None:
    alone, full = grammar.jsgf(()), grammar.jsgf(PHRASES)
    assert "preset [number] <number>" in alone
    assert "<prompt>" not in alone
    assert "oil painting" in full


def test_agreement_of_equal_and_of_different_sounds() -> None:
    stop = ["S", "T", "AA", "P"]
    assert agreement([stop], stop) == (1.0, [1.0])
    assert agreement([stop], ["M", "IY", "L", "UW"]) == (0.0, [0.0])
    assert agreement([], stop) == (0.0, [])
    assert agreement([stop], []) == (0.0, [0.0])
    whole, _ = agreement([stop], ["S", "D", "AA", "P"])
    assert whole == pytest.approx(1 - 0.5 / 4)  # D for T is half a mistake


def test_agreement_tells_which_word_was_not_said() -> None:
    blue, gold = ["B", "L", "UW"], ["G", "OW", "L", "D"]
    whole, (first, second) = agreement([blue, gold], ["B", "L", "UW", "F", "IH", "SH"])
    assert first == 1.0
    assert second < 0.3
    assert 0.3 < whole < 0.7
