"""From prompts to what the U-Net is told: encoded once, weighted, blended, turned away from."""

from collections import OrderedDict
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Generic, TypeVar

from dreamrelay.engines.parameters import Blend, StreamBatchParameters
from dreamrelay.engines.prompt_grammar import Part, parse, plain_text

Array = Any
Key = TypeVar("Key", bound=Hashable)
Value = TypeVar("Value")

REACH = 0.5
"""How far embeddings are taken beyond what was encoded; the pocket model is trained up to here."""

MAX_WEIGHTED = 8
"""So many weighted parts of a prompt act (each costs an encoding); those after them are plain."""


@dataclass(frozen=True, slots=True, eq=False)
class Embedding:
    """What a model is told of a prompt; a vector in all its parts: it adds up and scales.

    Attributes:
        tokens: (1, words, width), or as many rows as a call has.
        pooled: (1, width), of the prompt as a whole; None where a model does not want it.
    """

    tokens: Array
    pooled: Array | None = None

    __array_ufunc__: ClassVar[None] = None
    """What a number of numpy times this is, is for us to say."""

    def __add__(self, other: "Embedding") -> "Embedding":
        pooled = None if self.pooled is None else self.pooled + other.pooled
        return Embedding(self.tokens + other.tokens, pooled)

    def __sub__(self, other: "Embedding") -> "Embedding":
        return self + other * -1.0

    def __mul__(self, factor: float) -> "Embedding":
        pooled = None if self.pooled is None else self.pooled * factor
        return Embedding(self.tokens * factor, pooled)

    __rmul__ = __mul__


class Encoded(Generic[Key, Value]):
    """What ``encode`` made of the last ``size`` keys; the least recently used go first.

    A key names all that a value depends on: a text and the state of its encoder, say.
    """

    def __init__(self, encode: Callable[[Key], Value], size: int = 64) -> None:
        self._encode = encode
        self._size = size
        self._kept: OrderedDict[Key, Value] = OrderedDict()
        self.encoded = 0
        self.hits = 0

    def __getitem__(self, key: Key) -> Value:
        if key in self._kept:
            self.hits += 1
            self._kept.move_to_end(key)
            return self._kept[key]
        value = self._encode(key)
        self.encoded += 1
        self._kept[key] = value
        if len(self._kept) > self._size:
            self._kept.popitem(last=False)
        return value

    def __len__(self) -> int:
        return len(self._kept)

    def clear(self) -> None:
        self._kept.clear()


def blended(
    parameters: StreamBatchParameters, encode: Callable[[str], Embedding], xp: Any
) -> Embedding:
    """The embedding of the prompt, or a blend by weights of the prompts where there are several.

    Args:
        xp: the library of the embeddings' arrays, torch or numpy.
    """
    shares = _shares(parameters)
    if len(shares) == 1:
        return encode(shares[0][0])
    embeddings = [encode(text) for text, _ in shares]
    return interpolated(
        embeddings, [share for _, share in shares], parameters.prompt_interpolation, xp
    )


def interpolated(
    embeddings: Sequence[Embedding], shares: Sequence[float], kind: Blend, xp: Any
) -> Embedding:
    """A blend of embeddings by shares that sum to 1: on straight lines, or on arcs."""
    if kind == "linear":
        mean = shares[0] * embeddings[0]
        for embedding, share in zip(embeddings[1:], shares[1:], strict=True):
            mean = mean + share * embedding
        return mean
    whole = kind == "slerp"
    turned, so_far = embeddings[0], shares[0]
    for embedding, share in zip(embeddings[1:], shares[1:], strict=True):
        so_far += share
        part = share / so_far
        tokens = _slerp(turned.tokens, embedding.tokens, part, (-2, -1) if whole else (-1,), xp)
        pooled = None
        if turned.pooled is not None and embedding.pooled is not None:
            pooled = _slerp(turned.pooled, embedding.pooled, part, (-1,), xp)
        turned = Embedding(tokens, pooled)
    return turned


def _slerp(one: Array, other: Array, share: float, axes: tuple[int, ...], xp: Any) -> Array:
    """The way from ``one`` to ``other`` on an arc; lengths change evenly.

    In full precision, and on the straight line where there is no arc: the angle of two next to
    parallel vectors, in half precision, is not a number.
    """
    left, right = (xp.asarray(values, dtype=xp.float32) for values in (one, other))
    lengths = [xp.sqrt((values * values).sum(axes, keepdims=True)) for values in (left, right)]
    nothing = 1e-12
    left_way, right_way = left / (lengths[0] + nothing), right / (lengths[1] + nothing)
    cosine = (left_way * right_way).sum(axes, keepdims=True).clip(-1.0, 1.0)
    angle = xp.arccos(cosine)
    sine = xp.sin(angle)
    arc = (xp.sin((1 - share) * angle) * left_way + xp.sin(share * angle) * right_way) / (
        sine + nothing
    )
    arc = arc * ((1 - share) * lengths[0] + share * lengths[1])
    straight = (1 - share) * left + share * right
    return xp.asarray(xp.where(sine > 1e-3, arc, straight), dtype=one.dtype)


def _shares(parameters: StreamBatchParameters) -> list[tuple[str, float]]:
    """Texts and their shares, which sum to 1; without any weight all count alike."""
    prompts = parameters.prompts
    if not prompts:
        return [(parameters.prompt, 1.0)]
    total = sum(prompt.weight for prompt in prompts)
    if total <= 0:
        return [(prompt.text, 1 / len(prompts)) for prompt in prompts]
    return [(prompt.text, prompt.weight / total) for prompt in prompts if prompt.weight > 0]


def weighted(text: str, encode: Callable[[str], Any]) -> Any:
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


def turned_away(wanted: Any, unwanted: Any, scale: float = 1.0) -> Any:
    """The embedding that lies farther from ``unwanted`` than ``wanted`` does."""
    return wanted + REACH * scale * (wanted - unwanted)


class Morph:
    """The way of a condition from where it stands to where it is to be, over a number of frames.

    Works on tuples of embeddings, of which some may be absent.
    """

    def __init__(self, start: "Sides", frames: int) -> None:
        self._start = start
        self._frames = frames
        self._done = 0

    def step(self, target: "Sides", frames: int, kind: Blend, xp: Any) -> "Sides | None":
        """Where it stands ``frames`` later; None: at the target."""
        self._done += frames
        share = self._done / self._frames
        if share >= 1:
            return None
        shares = (1 - share, share)

        def between(one: Embedding | None, other: Embedding | None) -> Embedding | None:
            if one is None or other is None:
                return other
            return interpolated((one, other), shares, kind, xp)

        prompt = interpolated((self._start[0], target[0]), shares, kind, xp)
        return prompt, between(self._start[1], target[1])


Sides = tuple[Embedding, Embedding | None]
"""A prompt and what is not wanted."""


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
