"""From prompts to what the U-Net is told: encoded once, weighted, blended, turned away from."""

from collections import OrderedDict
from collections.abc import Callable, Sequence
from typing import Any, Generic, TypeVar

from dreamrelay.engines.parameters import StreamBatchParameters
from dreamrelay.engines.prompt_grammar import Part, parse, plain_text

Embedding = TypeVar("Embedding")

REACH = 0.5
"""How far embeddings are taken beyond what was encoded; the pocket model is trained up to here."""

MAX_WEIGHTED = 8
"""So many weighted parts of a prompt act (each costs an encoding); those after them are plain."""


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


def blended(
    parameters: StreamBatchParameters, encode: Callable[[str], Any]
) -> Any:  # (1, words, width)
    """The embedding of the prompt, or the weighted mean of the prompts where there are several.

    Args:
        encode: text to (1, words, width); arrays of any library.
    """
    shares = _shares(parameters)
    (text, share), *others = shares
    if not others:
        return encode(text)
    mean = share * encode(text)
    for text, share in others:
        mean = mean + share * encode(text)
    return mean


def _shares(parameters: StreamBatchParameters) -> list[tuple[str, float]]:
    """Texts and their shares, which sum to 1; without any weight all count alike."""
    prompts = parameters.prompts
    if not prompts:
        return [(parameters.prompt, 1.0)]
    total = sum(prompt.weight for prompt in prompts)
    if total <= 0:
        return [(prompt.text, 1 / len(prompts)) for prompt in prompts]
    return [(prompt.text, prompt.weight / total) for prompt in prompts if prompt.weight > 0]


def weighted(text: str, encode: Callable[[str], Any]) -> Any:  # (1, words, width)
    """The embedding of a prompt with weights in it, see :mod:`prompt_grammar`.

    For a model whose embeddings go on in a straight line: what a part adds to the whole is taken
    as often as its weight says, within what the model was trained for.
    """
    parts = parse(text)
    whole = encode(plain_text(parts))
    result = whole
    for excess, rest in _excesses(parts):
        result = result + excess * (whole - encode(rest))
    return result


def turned_away(wanted: Any, unwanted: Any) -> Any:  # (1, words, width) each
    """The embedding that lies farther from ``unwanted`` than ``wanted`` does."""
    return wanted + REACH * (wanted - unwanted)


def _excesses(parts: Sequence[Part]) -> list[tuple[float, str]]:
    """Of each weighted part: how much more it is to count, and the prompt without it."""
    found = [at for at, part in enumerate(parts) if part.weight != 1][:MAX_WEIGHTED]
    more = sum(max(0.0, parts[at].weight - 1) for at in found)
    less = sum(max(0.0, 1 - parts[at].weight) for at in found)
    up, down = min(1.0, REACH / more) if more else 1.0, min(1.0, 1 / less) if less else 1.0
    excesses = []
    for at in found:
        excess = parts[at].weight - 1
        rest = "".join(part.text for i, part in enumerate(parts) if i != at)
        excesses.append((excess * (up if excess > 0 else down), rest))
    return excesses
