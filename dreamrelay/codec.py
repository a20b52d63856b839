"""Frame to packet and back: the only place where pictures are encoded and decoded.

A frame is ``uint8``, H x W x 3, RGB, C-contiguous. Pillow's bundled libjpeg-turbo is within 30 % of
anything faster, so it is the only codec.
"""

import io
import time
import warnings
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps

from dreamrelay.errors import ProtocolError
from dreamrelay.packet import Codec, Hop, Packet, inspect

Frame = NDArray[np.uint8]
"""Decoded pixels: uint8, H x W x 3, RGB."""

Fit = Literal["stretch", "cover", "contain"]

MAX_PIXELS = 64_000_000
"""No picture with more pixels than this is decoded, whoever sends it."""


def decode(data: bytes, *, max_pixels: int = MAX_PIXELS) -> Frame:
    """Decode any picture we know into a frame: upright, opaque, 8 bits a channel.

    Transparency is laid on black, 16-bit greys are scaled to 8 bits, palettes are looked up and an EXIF
    orientation is applied. Of an animation the first picture is taken.

    Raises:
        ProtocolError: no picture, a broken one, or one of more than ``max_pixels``.
    """
    picture = inspect(data)
    if picture.width * picture.height > max_pixels:
        raise ProtocolError(
            f"expected at most {max_pixels / 1e6:.0f} megapixels, got {picture.width}x{picture.height}"
        )
    try:
        with warnings.catch_warnings():
            # Our own limit, checked above, is stricter than Pillow's warning.
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            with Image.open(io.BytesIO(data)) as image:
                image.load()
                return to_frame(image)
    except (OSError, ValueError, SyntaxError, EOFError, Image.DecompressionBombError) as error:
        raise ProtocolError(f"the {picture.codec.name} picture is broken: {error}") from error


def to_frame(image: Image.Image) -> Frame:
    """Turn a Pillow image of any mode into a frame."""
    if image.getexif().get(0x0112, 1) != 1:
        image = ImageOps.exif_transpose(image)
    if image.mode in ("I", "I;16", "I;16B", "I;16L", "F"):
        values = np.asarray(image).astype(np.float32)
        peak = 65535.0 if values.max(initial=0) > 255 else 255.0
        grey = np.clip(values * (255.0 / peak), 0, 255).astype(np.uint8)
        return np.ascontiguousarray(np.repeat(grey[:, :, None], 3, axis=2))
    if image.mode in ("RGBA", "LA", "PA", "La", "RGBa") or "transparency" in image.info:
        rgba = image.convert("RGBA")
        image = Image.new("RGB", rgba.size)
        image.paste(rgba, mask=rgba.getchannel("A"))
    return np.ascontiguousarray(np.asarray(image.convert("RGB")))


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
    """Scale a frame to ``width`` x ``height`` pixels.

    ``stretch`` changes the aspect, ``cover`` cuts what hangs over, ``contain`` adds black bars.
    """
    have_height, have_width = frame.shape[:2]
    if (have_width, have_height) == (width, height):
        return frame
    image = Image.fromarray(frame)
    # BOX with a reducing gap costs a fifth of LANCZOS when shrinking and looks the same in motion.
    method = Image.Resampling.BILINEAR
    if fit == "stretch":
        scaled = image.resize((width, height), method, reducing_gap=2.0)
    elif fit == "cover":
        scale = max(width / have_width, height / have_height)
        left = (have_width - width / scale) / 2
        top = (have_height - height / scale) / 2
        box = (left, top, have_width - left, have_height - top)
        scaled = image.resize((width, height), method, box=box, reducing_gap=2.0)
    else:
        scale = min(width / have_width, height / have_height)
        inner = (max(1, round(have_width * scale)), max(1, round(have_height * scale)))
        part = image.resize(inner, method, reducing_gap=2.0)
        scaled = Image.new("RGB", (width, height))
        scaled.paste(part, ((width - inner[0]) // 2, (height - inner[1]) // 2))
    return np.ascontiguousarray(np.asarray(scaled))
