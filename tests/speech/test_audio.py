"""Recordings to samples: every form a browser makes, and everything that is none."""

import io

import av
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dreamrelay.errors import ProtocolError
from dreamrelay.speech import audio
from dreamrelay.speech.audio import RATE, Samples, decode
from tests.speech.sounds import recording, tone, wav


@pytest.mark.parametrize(
    ("container", "codec", "rate"),
    [
        ("webm", "libopus", 48_000),
        ("ogg", "libopus", 48_000),
        ("mp4", "aac", 44_100),
        ("mp3", "libmp3lame", 44_100),
        ("flac", "flac", 22_050),
        ("adts", "aac", 44_100),
        ("wav", "pcm_s16le", 8_000),
        ("wav", "pcm_f32le", 48_000),
    ],
)
def test_what_browsers_and_programs_record(container: str, codec: str, rate: int) -> None:
    samples = decode(recording(tone(440, 1.0, rate), rate, container, codec))
    assert samples.dtype == np.float32
    assert samples.ndim == 1
    assert samples.size == pytest.approx(RATE, abs=0.12 * RATE)  # codecs add a little
    assert np.abs(samples).max() <= 1.0
    assert loudest(samples) == pytest.approx(440, abs=8)


def test_stereo_becomes_mono() -> None:
    left = tone(440, 0.5, 48_000)
    data = recording(np.stack([left, np.zeros_like(left)]), 48_000, "wav", "pcm_s16le")
    samples = decode(data)
    assert samples.ndim == 1
    assert loudest(samples) == pytest.approx(440, abs=8)


def test_a_recording_whose_end_is_missing_is_good_to_there() -> None:
    data = recording(tone(440, 2.0, 48_000), 48_000, "webm", "libopus")
    samples = decode(data[: len(data) * 2 // 3])
    assert RATE / 2 < samples.size < 2 * RATE


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"hello",
        b"\xff\xd8\xff\xe0 a picture",
        b"#EXTM3U\nfile:///etc/passwd\n",
        b"RIFF\x00\x00\x00\x00AVI ",
        b"\x1aE\xdf\xa3" + bytes(200),
        b"OggS" + bytes(200),
        b"RIFF\x24\x00\x00\x00WAVEfmt ",
        b"\x00\x00\x00\x18ftypmp42" + bytes(64),
        b"ID3" + bytes(300),
        b"fLaC" + bytes(64),
    ],
)
def test_what_is_no_recording_is_refused(data: bytes) -> None:
    with pytest.raises(ProtocolError, match="recording"):
        decode(data)


def test_a_second_chunk_without_its_head_is_refused() -> None:
    """MediaRecorder's later chunks are no files by themselves."""
    data = recording(tone(440, 2.0, 48_000), 48_000, "webm", "libopus")
    with pytest.raises(ProtocolError, match="expected a recording"):
        decode(data[len(data) // 2 :])


def test_a_video_without_sound_is_refused() -> None:
    out = io.BytesIO()
    with av.open(out, "w", format="webm") as target:
        stream = target.add_stream("libvpx", rate=10)
        stream.width = stream.height = 16
        frame = av.VideoFrame.from_ndarray(np.zeros((16, 16, 3), np.uint8), format="rgb24")
        for one in (frame, None):
            target.mux(stream.encode(one))
    with pytest.raises(ProtocolError, match="without a sound track"):
        decode(out.getvalue())


def test_too_long_is_refused_before_all_of_it_is_decoded() -> None:
    """An hour of silence is few bytes."""
    data = recording(np.zeros(70 * 8_000, np.float32), 8_000, "flac", "flac")
    with pytest.raises(ProtocolError, match="at most 60 s"):
        decode(data)
    assert decode(data, max_seconds=80).size == pytest.approx(70 * RATE, rel=0.01)


def test_too_large_is_refused_unread() -> None:
    with pytest.raises(ProtocolError, match="at most 8 MB"):
        decode(bytes(audio.MAX_BYTES + 1))


def test_numbers_that_are_none() -> None:
    broken = np.full(8_000, np.nan, np.float32)
    with pytest.raises(ProtocolError, match="no numbers"):
        decode(recording(broken, 16_000, "wav", "pcm_f32le"))


@given(at=st.integers(0, 3000), bits=st.binary(min_size=1, max_size=8))
@settings(max_examples=40)
def test_a_damaged_recording_costs_no_more_than_itself(at: int, bits: bytes) -> None:
    data = bytearray(recording(tone(300, 0.5, 48_000), 48_000, "webm", "libopus"))
    data[at % len(data) : at % len(data) + len(bits)] = bits
    try:
        samples = decode(bytes(data))
    except ProtocolError:
        return
    assert np.isfinite(samples).all()


def test_wav_is_the_plainest() -> None:
    samples = decode(wav(tone(440, 0.5, RATE), RATE))
    np.testing.assert_allclose(samples, tone(440, 0.5, RATE), atol=1e-3)


def loudest(samples: Samples) -> float:
    """The strongest frequency, in Hz."""
    spectrum = np.abs(np.fft.rfft(samples))
    return float(np.fft.rfftfreq(samples.size, 1 / RATE)[spectrum.argmax()])
