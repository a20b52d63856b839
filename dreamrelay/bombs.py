"""Pictures that are small, say a small size, and cost minutes to decode: found before they are.

Decoders do as they are told, once for each scan of a JPEG and each chunk of a PNG, and there is no
way to stop one. How many there are is counted here, from the lengths that stand before them; the
pixels are not touched. The notes of cameras (EXIF, colour profiles, previews) are kept from the
decoder: it would read them all, and here only one of them matters, which side is up.
"""

import struct
from collections.abc import Callable, Mapping

from dreamrelay.errors import ProtocolError
from dreamrelay.packet import Codec

MOST_SCANS = 40
"""Of a JPEG. Programs write a dozen; each costs as much time as a picture of one scan."""

MOST_SEGMENTS = 2000
"""Of a JPEG, before its pixels."""

MOST_CHUNKS = 5000
"""Of a PNG; 32 MB in the smallest that programs write. Of a GIF: blocks before its pixels."""

_START_OF_SCAN = b"\xff\xda"
_NOTES = frozenset((*range(0xE1, 0xEE), 0xEF, 0xFE))
"""JPEG segments that say nothing about the pixels; E0 (JFIF) and EE (Adobe) do."""

_SIZES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
_SEQUENTIAL = (0xC0, 0xC1)
_EXIF = b"Exif\0\0"
_ORIENTATION, _MOST_NOTES = 0x0112, 256


def defused(data: bytes, codec: Codec) -> tuple[bytes, bytes]:
    """The picture as it may be given to a decoder, and the camera's notes (EXIF) of a JPEG.

    Raises:
        ProtocolError: decoding it costs more than its size says, or it is cut off.
    """
    look = _LOOKS.get(codec)
    if look is None:
        return data, b""
    try:
        return look(data)
    except IndexError:
        raise ProtocolError(f"the {codec.name} picture is broken: cut off") from None


def orientation(notes: bytes) -> int:
    """Which side of a picture is up, as its EXIF notes say: 1-8; 1 if they do not."""
    notes = notes.removeprefix(_EXIF)
    order = {b"II*\0": "<", b"MM\0*": ">"}.get(notes[:4])
    if order is None:
        return 1
    try:
        (at,) = struct.unpack_from(f"{order}I", notes, 4)
        (count,) = struct.unpack_from(f"{order}H", notes, at)
        for number in range(min(count, _MOST_NOTES)):
            tag, kind, _, value = struct.unpack_from(f"{order}HHIH", notes, at + 2 + 12 * number)
            if tag == _ORIENTATION:
                return int(value) if kind == 3 and 1 <= value <= 8 else 1  # 16 bits
    except struct.error:
        pass  # a picture whose notes are broken is still a picture
    return 1


def _jpeg(data: bytes) -> tuple[bytes, bytes]:
    notes, kept = b"", []
    at, begin = 2, 0
    kind = components = 0
    for _ in range(MOST_SEGMENTS):
        marker = data[at + 1]
        if data[at] != 0xFF or marker == 0xFF:
            at += 1
            continue
        if marker == 0 or marker == 0x01 or 0xD0 <= marker <= 0xD8:  # no length follows
            at += 2
            continue
        if marker == 0xD9:
            break
        end = at + 2 + max(2, data[at + 2] << 8 | data[at + 3])
        if marker in _SIZES:
            kind, components = marker, data[at + 9]
        elif marker == 0xDA:
            # All components in one pass of the plain kind: no other can follow.
            if kind not in _SEQUENTIAL or data[at + 4] != components:
                if data.count(_START_OF_SCAN, at) > MOST_SCANS:
                    raise _too_many(MOST_SCANS, "JPEG", "scans")
            break
        elif marker in _NOTES:
            if marker == 0xE1 and not notes and data.startswith(_EXIF, at + 4):
                notes = data[at + 4 : end]
            kept.append(data[begin:at])
            begin = end
        at = end
    else:
        raise _too_many(MOST_SEGMENTS, "JPEG", "segments before its pixels")
    return (b"".join((*kept, data[begin:])) if kept else data), notes


def _png(data: bytes) -> tuple[bytes, bytes]:
    at = 8
    for _ in range(MOST_CHUNKS):
        if at + 8 > len(data):
            return data, b""
        at += 12 + int.from_bytes(data[at : at + 4], "big")
    raise _too_many(MOST_CHUNKS, "PNG", "chunks")


def _gif(data: bytes) -> tuple[bytes, bytes]:
    at = 13 + (3 << (data[10] & 7) + 1 if data[10] & 0x80 else 0)
    left = MOST_CHUNKS
    while at < len(data) and data[at] not in b",;":
        extension, at = data[at : at + 1] == b"!", at + 1
        left -= 1
        if extension:
            at += 1
            while size := data[at]:
                at += 1 + size
                left -= 1
                if left < 0:
                    break
            at += 1
        if left < 0:
            raise _too_many(MOST_CHUNKS, "GIF", "blocks before its pixels")
    return data, b""


def _bmp(data: bytes) -> tuple[bytes, bytes]:
    if int.from_bytes(data[14:18], "little") >= 40 and data[30] in (1, 2):
        raise ProtocolError("expected a BMP with plain pixels, got one with run lengths")
    return data, b""


def _too_many(most: int, codec: str, what: str) -> ProtocolError:
    return ProtocolError(f"expected a {codec} of at most {most} {what}")


_LOOKS: Mapping[Codec, Callable[[bytes], tuple[bytes, bytes]]] = {
    Codec.JPEG: _jpeg,
    Codec.PNG: _png,
    Codec.GIF: _gif,
    Codec.BMP: _bmp,
}
