"""Prompts that were encoded before need not be encoded again."""

from collections import OrderedDict
from collections.abc import Callable
from typing import Generic, TypeVar

Embedding = TypeVar("Embedding")


class PromptCache(Generic[Embedding]):
    """What ``encode`` made of the last ``size`` texts; the least recently used go first."""

    def __init__(self, encode: Callable[[str], Embedding], size: int = 64) -> None:
        self._encode = encode
        self._size = size
        self._kept: OrderedDict[str, Embedding] = OrderedDict()
        self.encoded = 0
        self.hits = 0

    def __getitem__(self, text: str) -> Embedding:
        if text in self._kept:
            self.hits += 1
            self._kept.move_to_end(text)
            return self._kept[text]
        embedding = self._encode(text)
        self.encoded += 1
        self._kept[text] = embedding
        if len(self._kept) > self._size:
            self._kept.popitem(last=False)
        return embedding

    def __len__(self) -> int:
        return len(self._kept)

    def clear(self) -> None:
        self._kept.clear()
