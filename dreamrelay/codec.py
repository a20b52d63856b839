"""Frame to packet and back: the only place where pictures are encoded and decoded.

A frame is ``uint8``, H x W x 3, RGB, C-contiguous. Pillow's bundled libjpeg-turbo is within 30 % of
anything faster, so it is the only codec.
"""

import io
import struct
import time
import zlib
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from PIL import (
    Image,
    WebPImagePlugin,  # noqa: F401 - registers itself; Pillow would look for it in all its plugins
)

from dreamrelay.bombs import defused, orientation
from dreamrelay.errors import ProtocolError
from dreamrelay.packet import Codec, Hop, Packet, inspect

Frame = NDArray[np.uint8]
"""Decoded pixels: uint8, H x W x 3, RGB."""

Fit = Literal["stretch", "cover", "contain"]

MAX_PIXELS = 64_000_000
"""No picture with more pixels than this is decoded, whoever sends it."""


# What Pillow's readers raise on broken pictures, seen and feared: whatever a peer sends costs that
# peer its message, never the program.
_BROKEN = (
    OSError,
    ValueError,
    SyntaxError,
    EOFError,
    IndexError,
    KeyError,
    TypeError,
    OverflowError,
    NotImplementedError,
    AttributeError,
    struct.error,
    zlib.error,
    Image.DecompressionBombError,
    Image.DecompressionBombWarning,
)


def decode(data: bytes, *, max_pixels: int = MAX_PIXELS) -> Frame:
    """Decode any picture we know into a frame of one's own: upright, opaque, 8 bits a channel.

    Transparency is laid on black, 16-bit colours are scaled to 8 bits, palettes are looked up and
    an EXIF orientation is applied. Of an animation the first picture is taken.

    Raises:
        ProtocolError: no picture, a broken one, one of more than ``max_pixels``, or one that takes
            far longer to decode than others of its size.
    """
    picture = inspect(data)
    _refuse_huge(picture.width, picture.height, max_pixels)
    data, notes = defused(data, picture.codec)
    try:
        # No other of Pillow's many readers is ever tried on a peer's bytes.
        with Image.open(io.BytesIO(data), formats=[picture.codec.name]) as image:
            # A hostile file can say one size to us and another to Pillow.
            _refuse_huge(*image.size, max_pixels)
            image.load()
            return to_frame(image, notes or image.info.get("exif", b""))
    except _BROKEN as error:
        what = str(error).partition("\n")[0] or type(error).__name__
        raise ProtocolError(f"the {picture.codec.name} picture is broken: {what}") from error


def _refuse_huge(width: int, height: int, max_pixels: int) -> None:
    if width * height > max_pixels:
        raise ProtocolError(
            f"expected at most {max_pixels / 1e6:g} megapixels, got a picture of {width}x{height}"
        )


def to_frame(image: Image.Image, notes: bytes = b"") -> Frame:
    """Turn a Pillow image of any mode, with its EXIF notes, into a frame that can be written to."""
    turn = _TURNS.get(orientation(notes))
    if turn is not None:
        image = image.transpose(turn)
    if image.mode.startswith("I") or image.mode == "F":
        return _grey_of_16_bits(image)
    if image.has_transparency_data:
        rgba = image.convert("RGBA")
        image = Image.new("RGB", rgba.size)
        image.paste(rgba, mask=rgba.getchannel("A"))
    return np.array(image.convert("RGB"), order="C")


_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
"""What puts a picture of that EXIF orientation upright."""


def _grey_of_16_bits(image: Image.Image) -> Frame:
    values = np.asarray(image)
    if not np.issubdtype(values.dtype, np.uint16):
        values = np.clip(values, 0, 65535).astype(np.uint16)
    grey = ((values.astype(np.uint32) * 255 + 32767) // 65535).astype(np.uint8)
    transparent = image.info.get("transparency")
    if isinstance(transparent, int):
        grey[values == transparent] = 0
    return np.repeat(grey[:, :, None], 3, axis=2)


def encode(
    frame: Frame,
    codec: Codec = Codec.JPEG,
    *,
    quality: int = 85,
    seq: int = 0,
    captured_ns: int | None = None,
    hop: Hop = Hop.ENCODED,
) -> Packet:
    """Encode a frame; the packet is stamped with ``hop``.

    Args:
        quality: 1-95, of JPEG and WebP.
        captured_ns: when the frame was taken; now, if not given.
    """
    taken = time.time_ns() if captured_ns is None else captured_ns
    data = encode_bytes(frame, codec, quality=quality)
    height, width = frame.shape[:2]
    return Packet(data, codec, width, height, seq, taken).stamped(hop)


def encode_bytes(frame: Frame, codec: Codec = Codec.JPEG, *, quality: int = 85) -> bytes:
    """Encode a frame as a picture, without a header."""
    buffer = io.BytesIO()
    image = Image.fromarray(frame)
    if codec is Codec.JPEG:
        image.save(buffer, "JPEG", quality=quality)
    elif codec is Codec.PNG:
        image.save(buffer, "PNG", compress_level=1)
    elif codec is Codec.WEBP:
        image.save(buffer, "WEBP", quality=quality, method=0)
    else:
        raise ValueError(f"expected JPEG, PNG or WEBP to encode, got {codec.name}")
    return buffer.getvalue()


def resize(frame: Frame, width: int, height: int, fit: Fit = "cover") -> Frame:
    """Scale a frame to ``width`` x ``height`` pixels; one that has this size is returned as it is.

    ``stretch`` changes the aspect, ``cover`` cuts what hangs over, ``contain`` adds black bars.
    """
    have_height, have_width = frame.shape[:2]
    if (have_width, have_height) == (width, height):
        return frame
    image = Image.fromarray(frame)
    if fit == "stretch":
        scaled = _scale(image, width, height, (0, 0, have_width, have_height))
    elif fit == "cover":
        scale = max(width / have_width, height / have_height)
        # Rounding may put the box a hair outside, which Pillow refuses.
        left = max(0.0, (have_width - width / scale) / 2)
        top = max(0.0, (have_height - height / scale) / 2)
        scaled = _scale(image, width, height, (left, top, have_width - left, have_height - top))
    else:
        scale = min(width / have_width, height / have_height)
        inner = (max(1, round(have_width * scale)), max(1, round(have_height * scale)))
        part = _scale(image, *inner, (0, 0, have_width, have_height))
        scaled = Image.new("RGB", (width, height))
        scaled.paste(part, ((width - inner[0]) // 2, (height - inner[1]) // 2))
    return np.array(scaled, order="C")


def _scale(
    image: Image.Image, width: int, height: int, box: tuple[float, float, float, float]
) -> Image.Image:
    # Pillow's BILINEAR averages over the whole area when it shrinks. It takes 45 % of the time of
    # LANCZOS and is 2 to 3 levels of 255 away from it on average; BOX saves a third more, but jumps
    # in blocks when it enlarges. The reducing gap counts from a third of the size on: there it
    # halves the time again.
    return image.resize((width, height), Image.Resampling.BILINEAR, box=box, reducing_gap=1.5)
