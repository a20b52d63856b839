"""The totals of a worker's engine, as they come with its status."""

import math
from typing import Any

import pytest

from dreamrelay.protocol.messages import Limits, StatusReceived
from dreamrelay.protocol.native import MAX_COUNTERS, NativeDialect, encode_text


def heard(counters: Any) -> dict[str, float]:
    dialect = NativeDialect("worker", Limits())
    dialect.receive(encode_text("hello", version=1))
    (event,) = dialect.receive(encode_text("status", state="live", counters=counters))
    assert isinstance(event, StatusReceived)
    return dict(event.counters)


def test_they_are_numbers_by_name() -> None:
    assert heard({"prompts_encoded": 3, "frames": 2.5}) == {"prompts_encoded": 3.0, "frames": 2.5}


@pytest.mark.parametrize(
    "counters",
    [
        None,
        [],
        "many",
        {"x": "1"},
        {"x": True},
        {"x": -1},
        {"x": 1e30},
        {"x": None},
        {"X": 1},
        {"": 1},
        {"a b": 1},
        {'a"b': 1},
        {"x" * 65: 1},
        {"x": {"y": 1}},
    ],
)
def test_what_is_none_costs_nothing_else(counters: Any) -> None:
    assert heard(counters) == {}


def test_so_many_and_no_more() -> None:
    many = heard({f"c{n}": n for n in range(500)})
    assert len(many) == MAX_COUNTERS
    assert all(math.isfinite(total) for total in many.values())
