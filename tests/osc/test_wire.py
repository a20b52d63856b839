"""Datagrams: what the usual library writes is read, what it would choke on is not."""

import struct
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pythonosc.osc_bundle_builder import IMMEDIATELY, OscBundleBuilder
from pythonosc.osc_message import OscMessage
from pythonosc.osc_message_builder import OscMessageBuilder

from dreamrelay.osc.wire import (
    MAX_ARGUMENTS,
    MAX_DATAGRAM,
    MAX_DEPTH,
    MAX_MESSAGES,
    Broken,
    Message,
    decode,
    encode,
    shortest,
)

TEXTS = st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=40)
ARGUMENTS = st.one_of(
    st.integers(-(2**63), 2**63 - 1),
    st.floats(-(2.0**127), 2.0**127, width=32),  # larger ones are brought down to 3.4e38
    TEXTS,
    st.booleans(),
    st.none(),
    st.binary(min_size=1, max_size=20),
)


def bundle(*contents: bytes) -> bytes:
    sized = b"".join(struct.pack(">i", len(one)) + one for one in contents)
    return b"#bundle\0" + bytes(8) + sized


def reasons(datagram: bytes) -> list[str]:
    return [item.reason for item in decode(datagram) if isinstance(item, Broken)]


@given(st.lists(ARGUMENTS, max_size=6))
def test_the_usual_library_reads_what_is_written_and_the_other_way_round(
    arguments: list[Any],
) -> None:
    ours = encode("/a/b", *arguments)
    read = OscMessage(ours)
    assert read.address == "/a/b"
    assert read.params == [pytest.approx(a) if isinstance(a, float) else a for a in arguments]
    assert list(decode(ours)) == [Message("/a/b", tuple(shortened(a) for a in arguments))]


def shortened(value: Any) -> Any:
    return shortest(struct.pack(">f", value)) if isinstance(value, float) else value


@given(st.lists(TEXTS, max_size=4), st.lists(st.integers(-5, 5), max_size=4))
def test_what_the_usual_library_writes_is_read(texts: list[str], numbers: list[int]) -> None:
    builder = OscMessageBuilder("/x")
    for text in texts:
        builder.add_arg(text)
    builder.add_arg(numbers)
    assert list(decode(builder.build().dgram)) == [Message("/x", (*texts, numbers))]


@given(st.floats(width=32, allow_nan=False, allow_infinity=False))
def test_a_float_is_read_as_the_shortest_decimal_that_it_is(value: float) -> None:
    raw = struct.pack(">f", value)
    assert struct.pack(">f", shortest(raw)) == raw


def test_a_fader_that_sends_back_what_it_was_sent_changes_nothing() -> None:
    for value in (0.1, 0.3, 0.98, 1.2, 1 / 3):
        (message,) = decode(encode("/strength", value))
        assert isinstance(message, Message)
        assert message.arguments[0] == pytest.approx(value, rel=1e-6)
    assert list(decode(encode("/x", 0.3))) == [Message("/x", (0.3,))]


def test_other_types_are_read_too() -> None:
    datagram = b"/x\0\0,dtcSrI\0" + struct.pack(">d", 1.5) + bytes(8) + b"\0\0\0A" + b"sym\0"
    assert list(decode(datagram + b"rgba")) == [
        Message("/x", (1.5, bytes(8), "A", "sym", b"rgba", True))
    ]


def test_a_message_without_types_has_no_arguments() -> None:
    assert list(decode(b"/x\0\0")) == [Message("/x")]


def test_bundles_hold_at_once_and_in_order() -> None:
    for when in (IMMEDIATELY, 2_000_000_000):
        inner, outer = OscBundleBuilder(when), OscBundleBuilder(when)
        for builder, text in ((outer, "one"), (inner, "two"), (inner, "three")):
            message = OscMessageBuilder("/m")
            message.add_arg(text)
            builder.add_content(message.build())
        outer.add_content(inner.build())
        read = list(decode(outer.build().dgram))
        assert read == [Message("/m", (text,)) for text in ("one", "two", "three")]


def test_a_broken_element_costs_itself_only() -> None:
    good = encode("/good", 1)
    items = list(decode(bundle(good, b"/bad,,,,", good)))
    assert [type(item) for item in items] == [Message, Broken, Message]


@pytest.mark.parametrize(
    ("datagram", "reason"),
    [
        (b"", "address"),
        (b"/x", "ends with zeros"),
        (b"x\0\0\0", "begins with /"),
        (b"/\xff\0\0", "UTF-8"),
        ("/ü\0".encode(), "begins with /"),
        (b"/\x01\0\0", "begins with /"),
        (b"/" + b"a" * 300 + bytes(3), "at most"),
        (b"/x\0\0s\0\0\0", "comma"),
        (b"/x\0\0,i\0\0", "middle of an argument"),
        (b"/x\0\0,s\0\0\xff\xfe\0\0", "UTF-8"),
        (b"/x\0\0,b\0\0\x7f\xff\xff\xff", "middle of an argument"),
        (b"/x\0\0,b\0\0\xff\xff\xff\xff", "middle of an argument"),
        (b"/x\0\0,Q\0\0", "'Q'"),
        (b"/x\0\0,[\0\0", "not closed"),
        (b"/x\0\0,]\0\0", "not opened"),
        (b"/x\0\0," + b"T" * (MAX_ARGUMENTS + 3) + b"\0" * 4, "arguments"),
        (b"#bundle\0", "time tag"),
        (b"#bundle\0" + bytes(8) + b"\0\0", "wrong length"),
        (b"#bundle\0" + bytes(8) + struct.pack(">i", -4) + b"/abc", "wrong length"),
        (b"#bundle\0" + bytes(8) + struct.pack(">i", 2**31 - 1), "wrong length"),
        (bytes(MAX_DATAGRAM + 1), "bytes"),
    ],
)
def test_what_cannot_be_read_is_named(datagram: bytes, reason: str) -> None:
    (said,) = reasons(datagram)
    assert reason in said
    assert len(said) < 200


def test_what_cannot_be_read_is_named_with_its_address() -> None:
    """Some tools write text in the characters of their system."""
    datagram = b"/prompt\0,s\0\0" + "Füchse".encode("latin-1") + bytes(2)
    (item,) = decode(datagram)
    assert isinstance(item, Broken)
    assert item.address == "/prompt"
    assert "UTF-8" in item.reason
    (item,) = decode(b"rubbish")
    assert item.address == ""


def test_bundles_in_one_another_end_somewhere() -> None:
    datagram = encode("/x")
    for _ in range(MAX_DEPTH):
        datagram = bundle(datagram)
    assert list(decode(datagram)) == [Message("/x")]
    assert "one another" in reasons(bundle(datagram))[0]
    while len(datagram) < MAX_DATAGRAM - 20:
        datagram = bundle(datagram)
    assert len(reasons(datagram)) == 1


def test_a_datagram_holds_so_many_messages() -> None:
    items = list(decode(bundle(*[b"/x\0\0"] * (MAX_MESSAGES + 10))))
    assert len(items) == MAX_MESSAGES + 1
    assert isinstance(items[-1], Broken)


@given(st.binary(max_size=200))
def test_anything_at_all_is_read_or_named(data: bytes) -> None:
    for prefix in (b"", b"/x\0\0,", b"#bundle\0" + bytes(8)):
        for item in decode(prefix + data):
            assert isinstance(item, Message | Broken)


def test_what_osc_has_no_type_for() -> None:
    with pytest.raises(TypeError):
        encode("/x", object())


def test_numbers_too_large_are_the_largest_there_are() -> None:
    assert list(decode(encode("/x", 2**70, -(2**70)))) == [Message("/x", (2**63 - 1, -(2**63)))]
    (message,) = decode(encode("/x", 1e300))
    assert isinstance(message, Message)
    assert message.arguments[0] == pytest.approx(3.4e38)
