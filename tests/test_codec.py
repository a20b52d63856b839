"""Every picture that people and peers send becomes an upright, opaque frame, or a ProtocolError."""

import io
import struct
import subprocess
import sys
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from PIL import Image

from dreamrelay import codec
from dreamrelay.codec import Fit, Frame, decode, encode, encode_bytes, resize, to_frame
from dreamrelay.errors import ProtocolError
from dreamrelay.packet import Codec, Hop, inspect

RED, GREEN, BLUE = (255, 0, 0), (0, 255, 0), (0, 0, 255)


def saved(image: Image.Image, form: str, **options: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, form, **options)
    return buffer.getvalue()


def thirds(width: int = 48, height: int = 32) -> Image.Image:
    """Red, green, blue from left to right."""
    image = Image.new("RGB", (width, height))
    for number, colour in enumerate((RED, GREEN, BLUE)):
        image.paste(colour, (number * width // 3, 0, (number + 1) * width // 3, height))
    return image


def png16(
    pixels: "np.ndarray[Any, np.dtype[np.uint16]]", colour_type: int, *chunks: bytes
) -> bytes:
    """A PNG with 16 bits a channel, which Pillow can read but not write."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        check = zlib.crc32(kind + data)
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", check)

    height, width = pixels.shape[:2]
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in pixels)
    header = struct.pack(">IIBBBBB", width, height, 16, colour_type, 0, 0, 0)
    middle = b"".join(chunk(part[:4], part[4:]) for part in chunks)
    data = chunk(b"IDAT", zlib.compress(rows))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + middle + data + chunk(b"IEND", b"")


def assert_is_frame(frame: Frame) -> None:
    assert frame.dtype == np.uint8
    assert frame.ndim == 3
    assert frame.shape[2] == 3
    assert frame.flags.c_contiguous
    assert frame.flags.writeable


def near(pixel: Any, colour: tuple[int, int, int], tolerance: int = 12) -> bool:
    return bool(np.abs(np.asarray(pixel, int) - colour).max() <= tolerance)


@pytest.mark.parametrize("form", ["JPEG", "PNG", "WEBP", "GIF", "BMP"])
@pytest.mark.parametrize(("width", "height"), [(48, 32), (47, 31), (3, 1), (640, 3)])
def test_red_stays_red_in_every_coding_and_size(form: str, width: int, height: int) -> None:
    options = {"subsampling": 0, "quality": 95} if form == "JPEG" else {}
    if form == "WEBP":
        options = {"lossless": True}
    frame = decode(saved(thirds(width, height), form, **options))
    assert_is_frame(frame)
    assert frame.shape == (height, width, 3)
    for number, colour in enumerate((RED, GREEN, BLUE)):
        middle = (2 * number + 1) * width // 6
        # A JPEG block that is cut in two by an edge rings.
        assert near(frame[height // 2, middle], colour, 60 if form == "JPEG" else 0)


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("form", ["JPEG", "PNG", "WEBP"])
def test_exif_orientation_is_applied(orientation: int, form: str) -> None:
    upright = thirds(48, 32)
    upright.paste((255, 255, 255), (0, 0, 16, 8))
    # Stored the way that a viewer who follows the tag puts right again.
    stored = {
        2: Image.Transpose.FLIP_LEFT_RIGHT,
        3: Image.Transpose.ROTATE_180,
        4: Image.Transpose.FLIP_TOP_BOTTOM,
        5: Image.Transpose.TRANSPOSE,
        6: Image.Transpose.ROTATE_90,
        7: Image.Transpose.TRANSVERSE,
        8: Image.Transpose.ROTATE_270,
    }
    image = upright.transpose(stored[orientation]) if orientation in stored else upright
    exif = Image.Exif()
    exif[0x0112] = orientation
    frame = decode(saved(image, form, exif=exif, quality=95))
    assert frame.shape == (32, 48, 3)
    assert np.abs(frame.astype(int) - np.asarray(upright)).mean() < 6


@pytest.mark.parametrize("tag", [0, 9, 77, -1])
def test_an_orientation_that_means_nothing_changes_nothing(tag: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = tag & 0xFFFF
    assert decode(saved(thirds(), "PNG", exif=exif)).shape == (32, 48, 3)


@pytest.mark.filterwarnings("ignore:Corrupt EXIF data:UserWarning")
def test_notes_that_are_broken_do_not_cost_the_picture() -> None:
    exif = b"Exif\0\0II*\0\x08\0\0\0\xff\xff\x12\x01\x07\0\xff\xff\xff\xff"
    assert decode(saved(thirds(), "JPEG", exif=exif)).shape == (32, 48, 3)


@pytest.mark.parametrize("form", ["PNG", "WEBP"])
def test_transparency_is_laid_on_black(form: str) -> None:
    image = Image.new("RGBA", (4, 1))
    image.putdata([(255, 0, 0, 255), (255, 0, 0, 128), (255, 0, 0, 0), (9, 9, 9, 255)])
    frame = decode(saved(image, form, lossless=True))
    assert near(frame[0, 0], RED, 1)
    assert near(frame[0, 1], (128, 0, 0), 2)
    assert near(frame[0, 2], (0, 0, 0), 0)
    assert near(frame[0, 3], (9, 9, 9), 0)


def test_grey_with_alpha() -> None:
    image = Image.new("LA", (2, 1))
    image.putdata([(200, 255), (200, 0)])
    assert decode(saved(image, "PNG"))[0, :, 0].tolist() == [200, 0]


def test_palettes_are_looked_up_and_their_transparency_obeyed() -> None:
    image = Image.new("P", (3, 1))
    image.putpalette([*RED, *GREEN, *BLUE])
    image.putdata([0, 1, 2])
    assert decode(saved(image, "PNG"))[0].tolist() == [list(RED), list(GREEN), list(BLUE)]
    by_number = decode(saved(image, "PNG", transparency=1))
    assert by_number[0].tolist() == [list(RED), [0, 0, 0], list(BLUE)]
    by_table = decode(saved(image, "PNG", transparency=b"\xff\x80\x00"))
    assert near(by_table[0, 1], (0, 128, 0), 2)
    assert by_table[0, 2].tolist() == [0, 0, 0]
    assert decode(saved(image, "GIF", transparency=0))[0].tolist()[0] == [0, 0, 0]


def test_one_colour_of_an_rgb_picture_can_be_transparent() -> None:
    data = saved(thirds(), "PNG", transparency=GREEN)
    assert decode(data)[5, 24].tolist() == [0, 0, 0]
    assert decode(saved(Image.new("L", (2, 2), 7), "PNG", transparency=7)).max() == 0


def test_black_and_white() -> None:
    image = Image.new("1", (2, 1))
    image.putdata([255, 0])
    assert decode(saved(image, "PNG"))[0, :, 1].tolist() == [255, 0]
    assert decode(saved(image, "BMP"))[0, :, 1].tolist() == [255, 0]


def test_16_bit_grey_is_scaled_however_dark_it_is() -> None:
    levels = np.array([[0, 200, 257, 32768, 65535]], np.uint16)
    assert decode(png16(levels, 0))[0, :, 0].tolist() == [0, 1, 1, 128, 255]
    dark = np.array([[0, 100, 255]], np.uint16)
    assert decode(png16(dark, 0)).max() <= 1
    assert decode(saved(Image.fromarray(levels), "PNG"))[0, -1].tolist() == [255, 255, 255]


def test_16_bit_colour_and_alpha() -> None:
    colours = np.array([[[65535, 0, 0], [0, 32768, 0], [257, 257, 65535]]], np.uint16)
    frame = decode(png16(colours, 2))
    assert frame[0].tolist() == [[255, 0, 0], [0, 128, 0], [1, 1, 255]]
    clear = np.array([[[65535, 0, 0, 0], [65535, 0, 0, 65535]]], np.uint16)
    assert decode(png16(clear, 6))[0].tolist() == [[0, 0, 0], [255, 0, 0]]
    grey = np.array([[[65535, 0], [65535, 65535]]], np.uint16)
    assert decode(png16(grey, 4))[0].tolist() == [[0, 0, 0], [255, 255, 255]]


def test_16_bit_grey_with_a_transparent_level() -> None:
    levels = np.array([[1000, 65535]], np.uint16)
    frame = decode(png16(levels, 0, b"tRNS" + struct.pack(">H", 65535)))
    assert frame[0, :, 0].tolist() == [4, 0]


def test_32_bit_pictures_from_code_are_clipped() -> None:
    image = Image.fromarray(np.array([[-5, 65535, 1 << 20]], np.int32))
    assert to_frame(image)[0, :, 0].tolist() == [0, 255, 255]


def test_cmyk_and_grey_jpeg() -> None:
    cmyk = decode(saved(Image.new("RGB", (16, 16), RED).convert("CMYK"), "JPEG", quality=95))
    assert near(cmyk[8, 8], RED)
    grey = decode(saved(Image.new("L", (16, 16), 90), "JPEG"))
    assert near(grey[8, 8], (90, 90, 90), 2)


@pytest.mark.parametrize("form", ["GIF", "WEBP", "PNG"])
def test_of_an_animation_the_first_picture_is_taken(form: str) -> None:
    first, *rest = (Image.new("RGB", (16, 16), colour) for colour in (RED, GREEN, BLUE))
    data = saved(first, form, save_all=True, append_images=rest, duration=40)
    assert near(decode(data)[8, 8], RED, 8)


def test_a_multi_picture_jpeg_of_a_phone() -> None:
    data = saved(thirds(), "MPO", save_all=True, append_images=[Image.new("RGB", (8, 8))])
    assert decode(data).shape == (32, 48, 3)


def test_huge_pictures_are_refused_by_their_header() -> None:
    data = bytearray(saved(Image.new("RGB", (4, 4)), "PNG"))
    data[16:24] = struct.pack(">II", 60_000, 60_000)
    with pytest.raises(ProtocolError, match="at most 64 megapixels, got a picture of 60000x60000"):
        decode(bytes(data))
    with pytest.raises(ProtocolError, match=r"at most 0\.001 megapixels"):
        decode(saved(thirds(), "PNG"), max_pixels=1000)


def test_a_file_that_says_two_sizes_is_refused_by_the_larger() -> None:
    """The first header says 4x4; Pillow reads the second."""
    png = saved(Image.new("RGB", (4, 4)), "PNG")
    bomb = bytearray(png[8:33])
    bomb[8:16] = struct.pack(">II", 9_000, 9_000)
    bomb[21:25] = struct.pack(">I", zlib.crc32(bytes(bomb[4:21])))
    with pytest.raises(ProtocolError, match="at most 64 megapixels, got a picture of 9000x9000"):
        decode(png[:33] + bytes(bomb) + png[33:])


def test_webp_is_read_by_a_program_that_did_nothing_else_with_pillow() -> None:
    code = (
        "import sys\n"
        "from dreamrelay.codec import decode\n"
        "assert decode(sys.stdin.buffer.read()).shape == (32, 48, 3)\n"
        "assert 'PIL.EpsImagePlugin' not in sys.modules\n"
    )
    root = Path(__file__).resolve().parents[1]
    data = saved(thirds(), "WEBP")
    done = subprocess.run([sys.executable, "-c", code], input=data, cwd=root, capture_output=True)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("form", ["JPEG", "PNG", "WEBP"])
@pytest.mark.filterwarnings("ignore::UserWarning:PIL")
def test_damaged_notes_never_cost_the_picture(form: str) -> None:
    """Every byte of the EXIF data, set to every power of two."""
    exif = Image.Exif()
    exif[0x0112] = 6
    exif[0x011A] = 72.0
    exif[0x010E] = "a description"
    notes = exif.tobytes()
    data = saved(thirds(), form, exif=notes)
    start = data.index(notes[6:]) if notes[6:] in data else data.index(notes)
    for at in range(start + 8, start + len(notes) - 6):
        for value in (0, 2, 16, 84, 128, 255):
            damaged = bytearray(data)
            damaged[at] = value
            if form == "PNG":
                where = damaged.index(b"eXIf")
                size = int.from_bytes(damaged[where - 4 : where], "big")
                check = zlib.crc32(bytes(damaged[where : where + 4 + size]))
                damaged[where + 4 + size : where + 8 + size] = struct.pack(">I", check)
            assert decode(bytes(damaged)).size == 32 * 48 * 3


@pytest.mark.parametrize("form", ["JPEG", "PNG", "WEBP", "GIF", "BMP"])
@pytest.mark.parametrize("share", [0.3, 0.6, 0.9])
def test_cut_off_pictures_are_broken(form: str, share: float) -> None:
    data = saved(Image.effect_noise((64, 64), 90).convert("RGB"), form)
    with pytest.raises(ProtocolError, match=rf"the {form} picture is broken|cut off") as caught:
        decode(data[: int(len(data) * share)])
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("data", [b"", b"hello", b"%!PS-Adobe", b"RIFF", b"BM", bytes(1000)])
def test_garbage_is_named(data: bytes) -> None:
    with pytest.raises(ProtocolError):
        decode(data)


def test_only_the_five_codings_reach_pillow(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[object] = []
    real = Image.open

    def spy(file: Any, mode: str = "r", formats: Any = None) -> Any:
        asked.append(formats)
        return real(file, "r", formats)

    monkeypatch.setattr(Image, "open", spy)
    decode(saved(thirds(), "GIF"))
    assert asked == [["GIF"]]


SAMPLES = [
    saved(
        thirds(),
        "JPEG",
        exif=b"Exif\0\0II*\0\x08\0\0\0\x01\0\x12\x01\x03\0\x01\0\0\0\x06\0\0\0\0\0\0\0",
    ),
    saved(thirds(), "JPEG", progressive=True),
    saved(thirds().convert("CMYK"), "JPEG"),
    saved(thirds(), "PNG"),
    saved(thirds().convert("P"), "PNG", transparency=b"\x00\x80"),
    saved(thirds().convert("RGBA"), "PNG"),
    png16(np.arange(64, dtype=np.uint16).reshape(8, 8) * 999, 0),
    saved(thirds(), "WEBP"),
    saved(thirds(), "WEBP", lossless=True),
    saved(thirds(), "WEBP", save_all=True, append_images=[Image.new("RGB", (48, 32))]),
    saved(thirds(), "GIF", save_all=True, append_images=[Image.new("RGB", (48, 32))]),
    saved(thirds(), "BMP"),
    saved(thirds().convert("P"), "BMP"),
    saved(thirds(), "MPO", save_all=True, append_images=[thirds()]),
]

CHANGE = st.tuples(
    st.sampled_from(["set", "insert", "delete", "cut"]),
    st.floats(0, 1),
    st.binary(min_size=1, max_size=6),
)


def changed(data: bytes, changes: list[tuple[str, float, bytes]]) -> bytes:
    new = bytearray(data)
    for kind, place, what in changes:
        at = int(place * len(new))
        if kind == "cut":
            del new[at:]
        else:
            new[at : at if kind == "insert" else at + len(what)] = b"" if kind == "delete" else what
    return bytes(new)


@pytest.mark.filterwarnings("ignore::UserWarning:PIL")  # Pillow complains, and reads on
@settings(max_examples=600, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.sampled_from(SAMPLES), st.lists(CHANGE, max_size=6))
def test_a_damaged_picture_is_a_frame_or_a_protocol_error(
    sample: bytes, changes: list[tuple[str, float, bytes]]
) -> None:
    try:
        frame = decode(changed(sample, changes), max_pixels=500_000)
    except ProtocolError:
        return
    assert_is_frame(frame)


@pytest.mark.filterwarnings("ignore::UserWarning:PIL")
@settings(max_examples=300, deadline=None)
@given(
    st.sampled_from(
        [b"", b"\xff\xd8", b"\x89PNG\r\n\x1a\n", b"RIFF....WEBPVP8 ", b"GIF89a", b"BM"]
    ),
    st.binary(max_size=200),
)
def test_any_bytes_are_a_frame_or_a_protocol_error(magic: bytes, rest: bytes) -> None:
    try:
        frame = decode(magic + rest, max_pixels=500_000)
    except ProtocolError:
        return
    assert_is_frame(frame)


@pytest.mark.parametrize("kind", [Codec.JPEG, Codec.PNG, Codec.WEBP])
def test_encoding_and_decoding_again(kind: Codec) -> None:
    frame = np.asarray(thirds(49, 31))
    packet = encode(frame, kind, quality=95, seq=4, captured_ns=77)
    assert (packet.codec, packet.width, packet.height) == (kind, 49, 31)
    assert (packet.seq, packet.captured_ns) == (4, 77)
    assert [stamp.hop for stamp in packet.stamps] == [Hop.ENCODED]
    assert inspect(packet.data).codec is kind
    assert np.abs(decode(packet.data).astype(int) - frame).mean() < (
        0.1 if kind is Codec.PNG else 12
    )


def test_frames_need_not_be_contiguous_to_be_encoded() -> None:
    frame = np.asarray(thirds())[:, ::-1]
    assert near(decode(encode_bytes(frame, Codec.PNG))[5, 5], BLUE, 0)


@pytest.mark.parametrize("kind", [Codec.GIF, Codec.BMP])
def test_codings_that_nobody_sends_are_refused(kind: Codec) -> None:
    with pytest.raises(ValueError, match="expected JPEG, PNG or WEBP"):
        encode_bytes(np.zeros((4, 4, 3), np.uint8), kind)


@settings(deadline=None)
@given(
    size=st.tuples(st.integers(1, 90), st.integers(1, 90)),
    to=st.tuples(st.integers(1, 90), st.integers(1, 90)),
    fit=st.sampled_from(["stretch", "cover", "contain"]),
)
@example(size=(18, 13), to=(320, 240), fit="cover")  # rounding puts the box a hair outside
def test_any_size_becomes_any_other(size: tuple[int, int], to: tuple[int, int], fit: Fit) -> None:
    frame = resize(np.full((size[1], size[0], 3), 200, np.uint8), *to, fit)
    assert_is_frame(frame)
    assert frame.shape == (to[1], to[0], 3)
    if fit != "contain":
        assert (frame == 200).all()
    assert frame.max() == 200


def test_cover_cuts_contain_adds_bars_stretch_keeps_all() -> None:
    wide = np.asarray(thirds(90, 30))
    covered = resize(wide, 30, 30, "cover")
    assert near(covered[15, 15], GREEN)
    assert near(covered[15, 1], GREEN, 90)
    contained = resize(wide, 90, 90, "contain")
    assert contained[5].max() == 0
    assert near(contained[45, 10], RED)
    stretched = resize(wide, 30, 30, "stretch")
    assert near(stretched[15, 4], RED)
    assert near(stretched[15, 25], BLUE)


def test_what_has_the_size_is_returned_as_it_is() -> None:
    frame = np.zeros((8, 9, 3), np.uint8)
    assert resize(frame, 9, 8) is frame


def test_shrinking_averages_and_does_not_pick() -> None:
    """A fine checkerboard becomes grey, not a pattern."""
    board = np.zeros((256, 256, 3), np.uint8)
    board[::2, ::2] = board[1::2, 1::2] = 255
    small = resize(board, 32, 32)
    assert abs(int(small.mean()) - 127) <= 2
    assert small[4:-4, 4:-4].std() < 8


def test_the_limit_on_pixels_is_stricter_than_pillows() -> None:
    assert Image.MAX_IMAGE_PIXELS is not None
    assert Image.MAX_IMAGE_PIXELS > codec.MAX_PIXELS


# -- pictures that cost far more than they show ----------------------------------------------------


def segment(marker: int, body: bytes) -> bytes:
    return struct.pack(">BBH", 0xFF, marker, len(body) + 2) + body


def png_chunk(kind: bytes, body: bytes = b"") -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def many_scans(*, progressive: bool) -> bytes:
    """A JPEG whose last scan comes again and again; there is no end of it."""
    data = saved(thirds(), "JPEG", progressive=progressive)
    if not progressive:  # one component in its only scan: others may follow
        at = data.index(b"\xff\xda")
        data = data[:at] + segment(0xDA, b"\x01\x01\0\0\x3f\0") + b"\xff\xd9"
    last = data[data.rindex(b"\xff\xda") : -2]
    return data[:-2] + last * 100 + data[-2:]


def gif_with(blocks: int) -> bytes:
    data = saved(thirds(), "GIF")
    at = 13 + (3 << (data[10] & 7) + 1)
    return data[:at] + b"!\xfe" + b"\x01x" * blocks + b"\0" + data[at:]


def bmp_with_run_lengths() -> bytes:
    data = bytearray(saved(thirds().convert("P"), "BMP"))
    data[30] = 1
    return bytes(data)


@pytest.mark.parametrize(
    ("bomb", "what"),
    [
        (many_scans(progressive=True), "40 scans"),
        (many_scans(progressive=False), "40 scans"),
        (b"\xff\xd8" + segment(0xE0, b"") * 5000, "2000 segments"),
        (saved(thirds(), "JPEG")[:2] + segment(0xFE, b"") * 1999, "2000 segments|cut off"),
        (saved(thirds(), "PNG")[:-12] + png_chunk(b"prVt") * 6000, "5000 chunks"),
        (gif_with(6000), "5000 blocks"),
        (bmp_with_run_lengths(), "run lengths"),
    ],
    ids=["scans", "plain scans", "segments", "comments", "chunks", "blocks", "run lengths"],
)
def test_bombs_are_refused_before_they_are_decoded(
    bomb: bytes, what: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Image, "open", lambda *_, **__: pytest.fail("it was opened"))
    with pytest.raises(ProtocolError, match=what):
        decode(bomb)


def test_what_programs_write_is_no_bomb() -> None:
    noise = Image.effect_noise((700, 500), 90).convert("RGB")
    for data in (
        saved(noise, "JPEG", progressive=True),
        saved(noise, "JPEG", comment=b"by hand", icc_profile=bytes(200_000)),
        saved(noise, "PNG", compress_level=0),
        saved(noise, "GIF", comment=b"x" * 9000),
        gif_with(200),
    ):
        assert decode(data).shape[2] == 3


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("form", ["JPEG", "PNG", "WEBP"])
def test_no_note_but_the_orientation_is_read(form: str) -> None:
    """Pillow reads them all, and complains of each on the program's standard error."""
    entries = [(0x0112, 3, 1, 6)] + [(tag, 7, 60_000, 8) for tag in range(0x200, 0x200 + 2000)]
    notes = b"II*\0\x08\0\0\0" + struct.pack("<H", len(entries))
    notes += b"".join(struct.pack("<HHII", *entry) for entry in entries)
    data = saved(thirds(), form, exif=b"Exif\0\0" + notes.ljust(60_100, b"\0"))
    assert decode(data).shape == (48, 32, 3)
