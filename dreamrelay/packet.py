"""A packet: one encoded picture and what is known about it, without decoding it.

Frames are decoded pixels and need numpy; packets are bytes and need nothing. The relay handles
packets only, so what it must know of a picture (its coding, its size in pixels) is read from the
first bytes here.
"""

import struct
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from enum import IntEnum
from typing import Any, Final, Literal, NamedTuple, TypeVar

from dreamrelay.errors import ProtocolError

Track = Literal["input", "output", "control"]
"""The tracks of a stream: the camera side, the diffused side, and what steers the engine between
them (a depth map, edges), for people to look at.
"""

Wire = TypeVar("Wire", str, bytes)
"""A packet as a dialect writes it: a text message or a binary one."""

TRACKS: tuple[Track, ...] = ("input", "output", "control")


MOST_REVISION = 2**32 - 1
MOST_NS = 2**64 - 1
"""What the header of a packet has room for."""


class Codec(IntEnum):
    """How a picture is encoded; the numbers are those of the wire."""

    JPEG = 1
    PNG = 2
    WEBP = 3
    GIF = 4
    BMP = 5

    @property
    def mime(self) -> str:
        return f"image/{self.name.lower()}"


class Hop(IntEnum):
    """Where a stamp was set; the numbers are those of the wire, the order of the way is ``WAY``."""

    ENCODED = 1  # producer: the picture is encoded
    RELAYED = 2  # relay: the input packet came in
    HANDED = 9  # relay: it was given to a worker (set when the result is back)
    RECEIVED = 3  # worker: the packet came in
    DECODED = 4  # worker: pixels are there
    INFER = 5  # worker: the engine began
    INFERRED = 6  # worker: the engine ended
    REENCODED = 7  # worker: the result is encoded
    RETURNED = 8  # relay: the result came in


WAY: tuple[Hop, ...] = (
    Hop.ENCODED,
    Hop.RELAYED,
    Hop.HANDED,
    Hop.RECEIVED,
    Hop.DECODED,
    Hop.INFER,
    Hop.INFERRED,
    Hop.REENCODED,
    Hop.RETURNED,
)
"""The hops in the order in which a frame passes them."""


@dataclass(slots=True)
class Stamp:
    """A hop and when it was passed: UNIX time in ns, on the wire by the relay's clock."""

    hop: Final[Hop]
    ns: Final[int]


class Picture(NamedTuple):
    """What the first bytes of an encoded picture say: its coding and its size in pixels."""

    codec: Codec
    width: int
    height: int


@dataclass(slots=True)
class Packet:
    """One encoded picture with its header; many share it, so nobody changes it.

    ``Final`` is that for the type checker; ``frozen`` would take a microsecond for each packet.

    Attributes:
        data: the encoded picture, whole.
        codec, width, height: as its first bytes say (see :func:`inspect`).
        seq: number of the picture in its stream; results carry that of the input they were made
            from.
        captured_ns: UNIX time in ns at which the picture was taken; on the wire by the relay's
            clock (:mod:`clock`).
        revision: how many patches of parameters were in force when a result was made; 0 for inputs.
        stamps: the hops it passed.
        private: a result for one peer only, never published.
        preview: a result that is still being worked at; a better one of the same number follows.
        stand_in: no result, but what is shown while none come.
    """

    data: Final[bytes]
    codec: Final[Codec]
    width: Final[int]
    height: Final[int]
    seq: Final[int] = 0
    captured_ns: Final[int] = 0
    revision: Final[int] = 0
    stamps: Final[tuple[Stamp, ...]] = ()
    private: Final[bool] = False
    preview: Final[bool] = False
    stand_in: Final[bool] = False
    wires: Final[dict[str, Any]] = field(default_factory=dict, repr=False, compare=False)
    """As it was written so far, by form (:meth:`wire`)."""

    @classmethod
    def of(
        cls,
        data: bytes,
        *,
        seq: int = 0,
        captured_ns: int | None = None,
        look: "Callable[[bytes], Picture] | None" = None,
    ) -> "Packet":
        """Make a packet of an encoded picture, reading coding and size from its bytes.

        Args:
            look: an :class:`Inspector`, where one picture comes after another.

        Raises:
            ProtocolError: the bytes are no picture that we know.
        """
        codec, width, height = (look or inspect)(data)
        taken = time.time_ns() if captured_ns is None else captured_ns
        return cls(data, codec, width, height, seq, taken)

    def stamped(self, hop: Hop, ns: int | None = None) -> "Packet":
        """Return a copy that has passed ``hop`` (now, if ``ns`` is not given)."""
        stamp = Stamp(hop, time.time_ns() if ns is None else ns)
        return self.but(stamps=(*self.stamps, stamp))

    def but(
        self,
        *,
        seq: int | None = None,
        stamps: Iterable[Stamp] | None = None,
        revision: int | None = None,
        private: bool | None = None,
        preview: bool | None = None,
        stand_in: bool | None = None,
        captured_ns: int | None = None,
    ) -> "Packet":
        """Return a copy with another header; the picture's bytes are shared, not copied."""
        return Packet(
            self.data,
            self.codec,
            self.width,
            self.height,
            self.seq if seq is None else seq,
            self.captured_ns if captured_ns is None else captured_ns,
            self.revision if revision is None else revision,
            self.stamps if stamps is None else tuple(stamps),
            self.private if private is None else private,
            self.preview if preview is None else preview,
            self.stand_in if stand_in is None else stand_in,
        )

    def relayed(self, seq: int, ns: int) -> "Packet":
        """Return a copy as an input of a stream: numbered, stamped, without what results have."""
        stamps = (*self.stamps, Stamp(Hop.RELAYED, ns))
        return Packet(
            self.data, self.codec, self.width, self.height, seq, self.captured_ns, 0, stamps
        )

    def moved(self, ns: int) -> "Packet":
        """Return a copy for a clock that is ``ns`` ahead of that of whoever made this.

        What it had from the relay is by the relay's clock already: the stamps up to the relay's,
        and when the picture was taken.
        """
        relayed = [at for at, stamp in enumerate(self.stamps) if stamp.hop is Hop.RELAYED]
        theirs = relayed[-1] + 1 if relayed else 0
        ours = (Stamp(stamp.hop, _on_wire(stamp.ns + ns)) for stamp in self.stamps[theirs:])
        captured = self.captured_ns if theirs else _on_wire(self.captured_ns + ns)
        return self.but(stamps=(*self.stamps[:theirs], *ours), captured_ns=captured)

    def wire(self, dialect: str, make: Callable[["Packet"], Wire]) -> Wire:
        """Return this packet as ``dialect`` writes it; made once, then shared by all receivers."""
        form: Wire | None = self.wires.get(dialect)
        if form is None:
            form = self.wires[dialect] = make(self)
        return form


def _on_wire(ns: int) -> int:
    """A time that can be written, whatever a relay said about its clock."""
    return min(max(0, ns), MOST_NS)


def inspect(data: bytes) -> Picture:
    """Read coding and size of an encoded picture from its header; the pixels are not touched.

    Raises:
        ProtocolError: not a JPEG, PNG, WebP, GIF or BMP, or cut off before its size.
    """
    return _look(data)[0]


class Inspector:
    """:func:`inspect` for pictures of one source, most of which begin with the very same bytes.

    Those that told the size of one tell it of the next: they need not be read again.
    """

    LONGEST = 4096
    """First bytes that are remembered; with a thumbnail in them there may be more."""

    def __init__(self) -> None:
        self._head = b""
        self._picture: Picture | None = None

    def __call__(self, data: bytes) -> Picture:
        """The same, and raises the same."""
        picture = self._picture
        if picture is None or not data.startswith(self._head):
            picture, size = _look(data)
            if size <= self.LONGEST:
                self._head, self._picture = data[:size], picture
        return picture


def _look(data: bytes) -> tuple[Picture, int]:
    """What a picture's first bytes say, and how many of them say it."""
    for magic, reader in _READERS:
        if data.startswith(magic):
            try:
                picture, size = reader(data)
            except IndexError:
                raise ProtocolError("the picture is cut off before its size") from None
            if picture.width < 1 or picture.height < 1:
                raise ProtocolError(
                    f"the picture says it is {picture.width}x{picture.height} pixels"
                )
            return picture, size
    if not data:
        raise ProtocolError("expected an encoded picture, got nothing")
    raise ProtocolError(
        "expected a JPEG, PNG, WebP, GIF or BMP picture,"
        f" got bytes that begin with {data[:4].hex(' ')}"
    )


def _be(data: bytes, at: int, size: int) -> int:
    if at + size > len(data):
        raise IndexError
    return int.from_bytes(data[at : at + size], "big")


def _le(data: bytes, at: int, size: int) -> int:
    if at + size > len(data):
        raise IndexError
    return int.from_bytes(data[at : at + size], "little")


def _png(data: bytes) -> tuple[Picture, int]:
    return Picture(Codec.PNG, _be(data, 16, 4), _be(data, 20, 4)), 24


def _gif(data: bytes) -> tuple[Picture, int]:
    return Picture(Codec.GIF, _le(data, 6, 2), _le(data, 8, 2)), 10


def _bmp(data: bytes) -> tuple[Picture, int]:
    if _le(data, 14, 4) == 12:  # the OS/2 header has 16-bit sizes
        return Picture(Codec.BMP, _le(data, 18, 2), _le(data, 20, 2)), 22
    height = _le(data, 22, 4)
    # A negative height means that the rows are stored from the top.
    height = height if height < 1 << 31 else (1 << 32) - height
    return Picture(Codec.BMP, _le(data, 18, 4), height), 26


_JPEG_SEGMENTS = 2000
"""An ICC profile may take 255 segments; nobody needs more than this before the picture's size."""

_JPEG_SIZES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
"""Markers of a start of frame, which tells the size."""

_JPEG_TABLES = frozenset((0xC4, 0xDB, 0xDD, *range(0xE0, 0xF0), 0xFE))
"""Those that stand before it in the pictures that there are; a length follows."""

_JPEG_SIZE = struct.Struct(">HH")


def _jpeg(data: bytes) -> tuple[Picture, int]:
    at = 2
    # Bounded, so that a message full of empty segments does not stop an event loop for seconds.
    for _ in range(_JPEG_SEGMENTS):
        if data[at] != 0xFF:
            raise ProtocolError(f"the JPEG is broken at byte {at}")
        marker = data[at + 1]
        if marker in _JPEG_TABLES:
            size = data[at + 2] << 8 | data[at + 3]
            at += 2 + (size if size > 2 else 2)
        elif marker == 0xFF:  # fill byte
            at += 1
        elif marker in _JPEG_SIZES:
            if at + 9 > len(data):
                raise IndexError
            height, width = _JPEG_SIZE.unpack_from(data, at + 5)
            return Picture(Codec.JPEG, width, height), at + 9
        elif marker in (0xD9, 0xDA):
            raise ProtocolError("the JPEG has no size before its pixels")
        elif marker == 0x01 or 0xD0 <= marker <= 0xD8:  # no length follows
            at += 2
        else:
            at += 2 + max(2, data[at + 2] << 8 | data[at + 3])
    raise ProtocolError(f"the JPEG has no size in its first {_JPEG_SEGMENTS} segments")


def _webp(data: bytes) -> tuple[Picture, int]:
    if data[8:12] != b"WEBP":
        if b"WEBP".startswith(data[8:12]):
            raise IndexError
        raise ProtocolError("expected a picture, got another RIFF file")
    kind = data[12:16]
    if kind == b"VP8X":
        return Picture(Codec.WEBP, 1 + _le(data, 24, 3), 1 + _le(data, 27, 3)), 30
    if kind == b"VP8L":
        bits = _le(data, 21, 4)
        return Picture(Codec.WEBP, 1 + (bits & 0x3FFF), 1 + (bits >> 14 & 0x3FFF)), 25
    if kind == b"VP8 ":
        return Picture(Codec.WEBP, _le(data, 26, 2) & 0x3FFF, _le(data, 28, 2) & 0x3FFF), 30
    if len(kind) < 4:
        raise IndexError
    raise ProtocolError(f"expected a VP8 picture in the WebP, got {kind!r}")


_READERS: tuple[tuple[bytes, Callable[[bytes], tuple[Picture, int]]], ...] = (
    (b"\xff\xd8", _jpeg),
    (b"\x89PNG\r\n\x1a\n", _png),
    (b"RIFF", _webp),
    (b"GIF8", _gif),
    (b"BM", _bmp),
)
