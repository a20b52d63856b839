"""OSC 1.0 on the wire: bytes to messages and back. No sockets, no state.

python-osc writes. Reading is done here because what comes from the network must never stop the
thread that listens: the library loops for ever over a bundle whose element says that it is -4
bytes long, runs out of stack in a deep one, and goes on in the wrong place after a type that it
does not know.
"""

import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from pythonosc.osc_message_builder import OscMessageBuilder

from dreamrelay.errors import ProtocolError

MAX_DATAGRAM = 32 * 1024
MAX_MESSAGES = 1024
"""In one datagram: elements of a bundle and of the bundles in it."""

MAX_DEPTH = 8
MAX_ARGUMENTS = 256
MAX_ADDRESS = 200

_BUNDLE = b"#bundle\0"
_NUMBERS = {
    "i": struct.Struct(">i"),
    "h": struct.Struct(">q"),
    "f": struct.Struct(">f"),
    "d": struct.Struct(">d"),
}
_CONSTANTS: dict[str, Any] = {"T": True, "F": False, "N": None, "I": True}
_RAW = {"r": 4, "m": 4, "t": 8}
_SMALL = range(-(2**31), 2**31)


@dataclass(frozen=True, slots=True)
class Message:
    """An address and its arguments: text, numbers, booleans, None, bytes, lists of them."""

    address: str
    arguments: tuple[Any, ...] = ()


@dataclass(frozen=True, slots=True)
class Broken:
    """A datagram, or an element of a bundle, that cannot be read; its address, if that can."""

    reason: str
    address: str = ""


def decode(datagram: bytes) -> Iterator[Message | Broken]:
    """Take a datagram apart: its message, or those of its bundle in their order.

    Time tags are read past: what comes holds now. An element that cannot be read costs itself only.
    """
    if len(datagram) > MAX_DATAGRAM:
        yield Broken(f"expected at most {MAX_DATAGRAM} bytes, got {len(datagram)}")
        return
    count = 0
    for item in _elements(datagram, 0):
        count += 1
        if count > MAX_MESSAGES:
            yield Broken(f"expected at most {MAX_MESSAGES} messages in a datagram")
            return
        yield item


def _elements(data: bytes, depth: int) -> Iterator[Message | Broken]:
    if not data.startswith(_BUNDLE):
        yield _message(data)
        return
    if depth >= MAX_DEPTH:
        yield Broken(f"expected at most {MAX_DEPTH} bundles in one another")
        return
    at = 16  # behind the time tag
    if len(data) < at:
        yield Broken("a bundle that ends before its time tag")
    while at < len(data):
        size = int.from_bytes(data[at : at + 4], "big", signed=True)
        if len(data) - at < 4 or size < 0 or size > len(data) - at - 4:
            yield Broken("a bundle whose element says a wrong length")
            return
        yield from _elements(data[at + 4 : at + 4 + size], depth + 1)
        at += 4 + size


def _message(data: bytes) -> Message | Broken:
    address = ""
    try:
        address, at = _address(data)
        return Message(address, _arguments(data, at))
    except ProtocolError as error:
        return Broken(str(error), address)


def _address(data: bytes) -> tuple[str, int]:
    address, at = _text(data, 0, "an address")
    if not address.startswith("/") or not address.isascii() or not address.isprintable():
        raise ProtocolError(f"expected an address that begins with /, got {address[:40]!r}")
    if len(address) > MAX_ADDRESS:
        raise ProtocolError(f"expected an address of at most {MAX_ADDRESS} characters")
    return address, at


def _arguments(data: bytes, at: int) -> tuple[Any, ...]:
    if at >= len(data):
        return ()  # old senders leave the types out where there is nothing to type
    types, at = _text(data, at, "types")
    if not types.startswith(","):
        raise ProtocolError(f"expected types that begin with a comma, got {types[:20]!r}")
    if len(types) > MAX_ARGUMENTS:
        raise ProtocolError(f"expected at most {MAX_ARGUMENTS} arguments")
    lists: list[list[Any]] = [[]]
    for kind in types[1:]:
        if kind == "[":
            lists.append([])
        elif kind == "]":
            if len(lists) < 2:
                raise ProtocolError("a list is closed that was not opened")
            inner = lists.pop()
            lists[-1].append(inner)
        else:
            value, at = _argument(data, at, kind)
            lists[-1].append(value)
    if len(lists) > 1:
        raise ProtocolError("a list is not closed")
    return tuple(lists[0])


def _argument(data: bytes, at: int, kind: str) -> tuple[Any, int]:
    if kind in _CONSTANTS:
        return _CONSTANTS[kind], at
    if kind in ("s", "S"):
        return _text(data, at, "a text")
    size = _NUMBERS[kind].size if kind in _NUMBERS else _RAW.get(kind, 4)
    if kind not in "ihfdbcrmt":
        raise ProtocolError(f"arguments of type {kind!r} are not known here")
    raw = data[at : at + size]
    at += size
    if len(raw) < size:
        raise ProtocolError("it ends in the middle of an argument")
    if kind == "f":
        return shortest(raw), at
    if kind in _NUMBERS:
        return _NUMBERS[kind].unpack(raw)[0], at
    if kind == "c":
        return chr(raw[3]), at
    if kind == "b":
        length = int.from_bytes(raw, "big", signed=True)
        if length < 0 or length > len(data) - at:
            raise ProtocolError("it ends in the middle of an argument")
        return data[at : at + length], at + (length + 3 & ~3)
    return raw, at


def _text(data: bytes, at: int, what: str) -> tuple[str, int]:
    end = data.find(b"\0", at)
    after = end + 4 & ~3
    if end < 0 or after > len(data):
        raise ProtocolError(f"expected {what} that ends with zeros")
    try:
        return data[at:end].decode(), after
    except UnicodeDecodeError:
        # Some tools write text in their system's own characters.
        raise ProtocolError(f"expected {what} in UTF-8, got {data[at:end]!r:.60}") from None


def shortest(raw: bytes) -> float:
    """The shortest decimal that is this 32-bit float: 0.3, not 0.30000001192092896.

    So a value that a fader sends back is the value that it was sent.
    """
    (value,) = _NUMBERS["f"].unpack(raw)
    for digits in (6, 7, 8):
        short = float(f"{value:.{digits}g}")
        if abs(short) < 3.4e38 and _NUMBERS["f"].pack(short) == raw:
            return short
    return float(value)


def encode(address: str, *arguments: Any) -> bytes:
    """Write a message; numbers beyond 32 bits become 64-bit ones."""
    builder = OscMessageBuilder(address)
    for argument in arguments:
        builder.add_arg(*_typed(argument))
    return builder.build().dgram


def _typed(argument: Any) -> tuple[Any, Any]:
    """An argument as it can be written, and its type; a list has a list of types."""
    match argument:
        case bool():
            return argument, "T" if argument else "F"
        case None:
            return None, "N"
        case int() if argument in _SMALL:
            return argument, "i"
        case int():
            return max(-(2**63), min(2**63 - 1, argument)), "h"
        case float():
            return max(-3.4e38, min(3.4e38, argument)), "f"
        case bytes():
            return argument, "b"
        case str():
            return argument.replace("\0", " ").encode(errors="replace").decode(), "s"
        case Sequence():
            pairs = [_typed(inner) for inner in argument]
            return [value for value, _ in pairs], [kind for _, kind in pairs]
        case _:
            raise TypeError(f"OSC has no type for {type(argument).__name__}")
