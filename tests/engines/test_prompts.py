"""The prompt cache: what was encoded is kept, the least recently used goes."""

from dreamrelay.engines.prompts import PromptCache


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
