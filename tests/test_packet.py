"""Packets, and what the first bytes of a picture say."""

import io
import re
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from dreamrelay import packet as packet_module
from dreamrelay.errors import ProtocolError
from dreamrelay.packet import Codec, Hop, Inspector, Packet, Picture, Stamp, inspect

FORMATS = ["JPEG", "PNG", "WEBP", "GIF", "BMP"]
SIZES = [(1, 1), (1, 300), (300, 1), (2, 3), (17, 16), (255, 256), (257, 64), (640, 480), (1021, 7)]


def encoded(form: str, width: int, height: int, mode: str = "RGB", **options: object) -> bytes:
    buffer = io.BytesIO()
    Image.new(mode, (width, height), 1).save(buffer, form, **options)
    return buffer.getvalue()


@pytest.mark.parametrize("form", FORMATS)
@pytest.mark.parametrize(("width", "height"), SIZES)
def test_inspect_agrees_with_pillow(form: str, width: int, height: int) -> None:
    data = encoded(form, width, height)
    assert inspect(data) == Picture(Codec[form], width, height)


@settings(deadline=None)
@given(
    form=st.sampled_from(FORMATS),
    mode=st.sampled_from(["RGB", "L"]),
    width=st.integers(1, 3000),
    height=st.integers(1, 40),
)
def test_inspect_agrees_with_pillow_on_any_size(
    form: str, mode: str, width: int, height: int
) -> None:
    data = encoded(form, width, height, mode)
    with Image.open(io.BytesIO(data)) as image:
        assert inspect(data) == Picture(Codec[form], *image.size)


@pytest.mark.parametrize(
    ("form", "mode", "options"),
    [
        pytest.param("WEBP", "RGB", {"lossless": True}, id="lossless-webp"),
        pytest.param("WEBP", "RGBA", {}, id="extended-webp"),
        pytest.param(
            "WEBP", "RGB", {"exif": b"Exif\0\0MM\0*\0\0\0\x08\0\0\0\0\0\0"}, id="webp-exif"
        ),
        pytest.param("JPEG", "RGB", {"progressive": True}, id="progressive-jpeg"),
        pytest.param("JPEG", "CMYK", {}, id="cmyk-jpeg"),
        pytest.param("JPEG", "RGB", {"icc_profile": bytes(200_000)}, id="jpeg-with-big-profile"),
        pytest.param("JPEG", "RGB", {"comment": b"\xff\xc0" * 99}, id="jpeg-comment-like-a-frame"),
        pytest.param("BMP", "1", {}, id="bmp-of-bits"),
        pytest.param("PNG", "P", {}, id="palette-png"),
    ],
)
def test_inspect_reads_every_kind(form: str, mode: str, options: dict[str, object]) -> None:
    assert inspect(encoded(form, 123, 45, mode, **options)) == Picture(Codec[form], 123, 45)


def test_inspect_follows_bmp_rows_from_the_top_and_the_os2_header() -> None:
    from_top = bytearray(encoded("BMP", 5, 7))
    from_top[22:26] = (-7).to_bytes(4, "little", signed=True)
    assert inspect(bytes(from_top)) == Picture(Codec.BMP, 5, 7)
    os2 = b"BM" + bytes(12) + (12).to_bytes(4, "little") + b"\x05\x00\x07\x00"
    assert inspect(os2) == Picture(Codec.BMP, 5, 7)


def test_inspect_skips_fill_bytes_and_markers_without_length() -> None:
    jpeg = encoded("JPEG", 20, 30)
    assert inspect(jpeg[:2] + b"\xff\x01\xff\xff" + jpeg[2:]) == Picture(Codec.JPEG, 20, 30)


@pytest.mark.parametrize("form", FORMATS)
def test_every_cut_is_named(form: str) -> None:
    data = encoded(form, 40, 30, "RGBA" if form in ("PNG", "WEBP") else "RGB")
    known = Picture(Codec[form], 40, 30)
    for end in range(64):
        try:
            assert inspect(data[:end]) == known
        except ProtocolError as error:
            assert str(error).isprintable()  # noqa: PT017 - both ends are right, by where it is cut


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"", "got nothing"),
        (b"GET / HTTP/1.1", "47 45 54 20"),
        (b"RIFF\x10\0\0\0WAVEfmt ", "another RIFF file"),
        (b"RIFF\x10\0\0\0WEBPALPHabcdabcdabcd", "VP8"),
        (b"\xff\xd8\x00\x00", "broken at byte 2"),
        (b"\xff\xd8\xff\xd9", "no size before its pixels"),
        (b"\xff\xd8" + b"\xff\xfe\x00\x02" * 9999, "no size in its first"),
        (b"\xff\xd8" + b"\xff" * 99999, "no size in its first"),
        (b"\x89PNG\r\n\x1a\n" + bytes(16), "0x0"),
        (b"GIF89a\x00\x00\x05\x00", "0x5"),
        (b"\x89PNG\r\n\x1a\n", "cut off"),
    ],
)
def test_what_is_no_picture_is_named_on_one_line(data: bytes, words: str) -> None:
    with pytest.raises(ProtocolError) as caught:
        inspect(data)
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


@settings(deadline=None)
@given(
    st.sampled_from([b"", b"\xff\xd8", b"\x89PNG\r\n\x1a\n", b"RIFF", b"GIF8", b"BM"]),
    st.binary(max_size=80),
)
def test_any_bytes_are_a_picture_or_a_protocol_error(magic: bytes, rest: bytes) -> None:
    try:
        picture = inspect(magic + rest)
    except ProtocolError:
        return
    assert picture.width > 0
    assert picture.height > 0


def test_a_hostile_jpeg_costs_no_time() -> None:
    """Millions of empty segments must not stop the relay's event loop."""
    data = b"\xff\xd8" + b"\xff\xfe\x00\x02" * 4_000_000
    start = time.process_time()
    with pytest.raises(ProtocolError):
        inspect(data)
    assert time.process_time() - start < 0.25


def test_of_takes_the_present_and_the_size_of_the_picture() -> None:
    before = time.time_ns()
    packet = Packet.of(encoded("PNG", 8, 9), seq=7)
    assert (packet.codec, packet.width, packet.height, packet.seq) == (Codec.PNG, 8, 9, 7)
    assert before <= packet.captured_ns <= time.time_ns()
    assert Packet.of(packet.data, captured_ns=5).captured_ns == 5
    assert packet.codec.mime == "image/png"


def test_copies_share_the_picture_but_not_its_forms() -> None:
    packet = Packet.of(encoded("JPEG", 8, 8), seq=1)
    assert packet.wire("a", lambda p: b"seq %d" % p.seq) == b"seq 1"
    other = packet.but(seq=2, revision=3, private=True)
    assert other.data is packet.data
    assert (other.seq, other.revision, other.private) == (2, 3, True)
    assert other.wire("a", lambda p: b"seq %d" % p.seq) == b"seq 2"
    assert packet.but() == packet


def test_a_form_is_made_once() -> None:
    packet = Packet.of(encoded("JPEG", 8, 8))
    made: list[Packet] = []

    def make(which: Packet) -> bytes:
        made.append(which)
        return b"x"

    assert packet.wire("a", make) is packet.wire("a", make)
    assert made == [packet]


def test_stamps_are_added_in_order() -> None:
    packet = Packet.of(encoded("JPEG", 8, 8)).stamped(Hop.ENCODED, 1).stamped(Hop.RELAYED, 2)
    assert packet.stamps == (Stamp(Hop.ENCODED, 1), Stamp(Hop.RELAYED, 2))
    before = time.time_ns()
    assert packet.stamped(Hop.RECEIVED).stamps[-1].ns >= before


class TestOtherClock:
    def test_a_producers_times_are_all_its_own(self) -> None:
        packet = Packet(b"", Codec.PNG, 1, 1, captured_ns=10, stamps=(Stamp(Hop.ENCODED, 12),))
        moved = packet.moved(5)
        assert (moved.captured_ns, moved.stamps) == (15, (Stamp(Hop.ENCODED, 17),))
        assert moved.data is packet.data

    def test_a_worker_leaves_what_it_had_from_the_relay(self) -> None:
        stamps = (Stamp(Hop.ENCODED, 12), Stamp(Hop.RELAYED, 20), Stamp(Hop.RECEIVED, 1))
        moved = Packet(b"", Codec.PNG, 1, 1, captured_ns=10, stamps=stamps).moved(25)
        assert moved.captured_ns == 10
        assert [stamp.ns for stamp in moved.stamps] == [12, 20, 26]

    def test_no_time_is_before_all_times(self) -> None:
        packet = Packet(b"", Codec.PNG, 1, 1, captured_ns=10, stamps=(Stamp(Hop.ENCODED, 12),))
        assert packet.moved(-11).captured_ns == 0
        assert packet.moved(2**64).captured_ns == 2**64 - 1  # as much as can be written
        assert packet.moved(-11).stamps[0].ns == 1


class TestInspector:
    """Pictures one after another: whatever came before, each is seen as it is alone."""

    @given(st.lists(st.tuples(st.sampled_from(FORMATS), st.integers(1, 40), st.integers(0, 3000))))
    def test_says_what_inspect_says(self, said: list[tuple[str, int, int]]) -> None:
        look = Inspector()
        for form, width, size in said:
            data = encoded(form, width, 7)[: size or None]
            try:
                picture = inspect(data)
            except ProtocolError as error:
                with pytest.raises(ProtocolError, match=re.escape(str(error))):
                    look(data)
            else:
                assert look(data) == picture

    @pytest.mark.parametrize("form", FORMATS)
    def test_reads_the_same_beginning_once(
        self, form: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        look, data = Inspector(), encoded(form, 20, 30)
        picture = look(data)
        monkeypatch.setattr(packet_module, "_look", None)
        assert look(data + b"other pixels") is picture

    @pytest.mark.parametrize("form", FORMATS)
    def test_another_size_is_seen(self, form: str) -> None:
        """Each byte that says something is looked at."""
        look = Inspector()
        for width, height in ((20, 30), (20, 31), (21, 31), (300, 31), (300, 500), (20, 30)):
            assert look(encoded(form, width, height)) == Picture(Codec[form], width, height)

    def test_a_long_beginning_is_not_kept(self) -> None:
        look, jpeg = Inspector(), encoded("JPEG", 20, 30)
        long = jpeg[:2] + b"\xff\xe1\x20\x00" + bytes(0x1FFE) + jpeg[2:]
        assert look(long) == look(long) == Picture(Codec.JPEG, 20, 30)
        assert look._head == b""
