"""How much two readings of one sound sound alike, word by word; standard library only."""

from collections.abc import Sequence

_ALIKE = (
    "AA AO AH",
    "AE EH AY",
    "IH IY Y",
    "UH UW",
    "OW AO",
    "ER R",
    "B P",
    "D T",
    "G K",
    "F TH",
    "V DH",
    "S Z",
    "SH ZH",
    "CH JH",
    "M N NG",
    "W L",
)
"""Phones (ARPAbet) that a recogniser easily takes for one another."""

_PAIRS = frozenset(
    frozenset((one, other)) for group in _ALIKE for one in group.split() for other in group.split()
)


def agreement(words: Sequence[Sequence[str]], other: Sequence[str]) -> tuple[float, list[float]]:
    """Compare words, each given by its phones, with the phones of another reading.

    Returns:
        For all together, and for each word: 1 where the phones are the same, 0 where none is. It is
        the edit distance; phones that are alike count half. Nothing agrees with nothing.
    """
    phones = [phone for word in words for phone in word]
    owner = [number for number, word in enumerate(words) for _ in word]
    if not phones or not other:
        return 0.0, [0.0] * len(words)
    rows = [[float(at) for at in range(len(other) + 1)]]
    for phone in phones:
        above = rows[-1]
        row = [above[0] + 1]
        for at, another in enumerate(other):
            changed = above[at] + _difference(phone, another)
            row.append(min(above[at + 1] + 1, row[at] + 1, changed))
        rows.append(row)
    costs = [0.0] * len(words)
    down, across = len(phones), len(other)
    while down or across:  # the way back tells which word each difference belongs to
        here = rows[down][across]
        word = owner[max(0, down - 1)]
        if down and across:
            difference = _difference(phones[down - 1], other[across - 1])
            if here == rows[down - 1][across - 1] + difference:
                costs[word] += difference
                down, across = down - 1, across - 1
                continue
        costs[word] += 1
        if down and here == rows[down - 1][across] + 1:
            down -= 1
        else:
            across -= 1
    whole = 1 - rows[-1][-1] / max(len(phones), len(other))
    return whole, [
        max(0.0, 1 - cost / max(1, len(word))) for cost, word in zip(costs, words, strict=True)
    ]


def _difference(one: str, other: str) -> float:
    if one == other:
        return 0.0
    return 0.5 if frozenset((one, other)) in _PAIRS else 1.0
