"""Recordings to samples: whatever a browser's MediaRecorder makes, bounded in bytes and seconds.

Everything stays in memory. Samples are float32, -1..1, mono, 16 kHz: what all engines take.
"""

import io
from typing import Any

import av
import numpy as np
from numpy.typing import NDArray

from dreamrelay.errors import ProtocolError

Samples = NDArray[np.float32]

RATE = 16_000
"""Samples a second."""

MAX_BYTES = 8 * 1024 * 1024
MAX_SECONDS = 60.0

FORMATS = ("matroska", "ogg", "wav", "mov", "mp3", "flac", "aac")
"""WebM is Matroska, MP4 is MOV. No other of FFmpeg's many readers is ever tried: some of them open
further files and addresses that a file names."""

EXPECTED = "expected a recording as WebM, Ogg, MP4, WAV, MP3 or FLAC"

# A list of pieces to play one after the other, and references to other files, are not read.
_OPTIONS = {"mov": {"enable_drefs": "0", "use_absolute_path": "0"}}


def decode(data: bytes, *, max_seconds: float = MAX_SECONDS) -> Samples:
    """Decode a recording to samples.

    Raises:
        ProtocolError: empty, too large, too long, no audio or broken.
    """
    if not data:
        raise ProtocolError(f"{EXPECTED}, got nothing")
    if len(data) > MAX_BYTES:
        raise ProtocolError(
            f"expected a recording of at most {MAX_BYTES // 2**20} MB, got {len(data)} bytes"
        )
    name = _format(data)
    try:
        with av.open(io.BytesIO(data), format=name, options=_OPTIONS.get(name, {})) as container:
            samples = _samples(container, max_seconds)
    except (av.FFmpegError, ValueError, EOFError) as error:
        reason = " ".join(str(error).split())[:120]
        raise ProtocolError(f"the recording ({name}) is broken: {reason}") from error
    if not np.isfinite(samples).all():
        raise ProtocolError(f"the recording ({name}) is broken: it has samples that are no numbers")
    return samples


def _format(data: bytes) -> str:
    """Which reader the first bytes ask for."""
    if data[:4] == b"\x1aE\xdf\xa3":
        return "matroska"
    if data[:4] == b"OggS":
        return "ogg"
    if data[:4] in (b"RIFF", b"RF64") and data[8:12] == b"WAVE":
        return "wav"
    if data[4:8] == b"ftyp":
        return "mov"
    if data[:4] == b"fLaC":
        return "flac"
    if len(data) > 1 and data[0] == 0xFF and data[1] & 0xF6 == 0xF0:
        return "aac"
    if data[:3] == b"ID3" or (len(data) > 1 and data[0] == 0xFF and data[1] & 0xE0 == 0xE0):
        return "mp3"
    raise ProtocolError(f"{EXPECTED}, got something that begins with {data[:8]!r}")


def _samples(container: Any, max_seconds: float) -> Samples:
    if not container.streams.audio:
        raise ProtocolError(f"{EXPECTED}, got a file without a sound track")
    stream = container.streams.audio[0]
    resampler = av.AudioResampler("flt", "mono", RATE)
    most = int(max_seconds * RATE)
    pieces: list[Samples] = []
    length = 0
    for frame in _frames(container, stream):
        # What its clock says does not matter; a clock that jumps must not upset the resampler.
        if frame is not None:
            frame.pts = None
        for piece in resampler.resample(frame):
            pieces.append(piece.to_ndarray()[0])
            length += pieces[-1].size
        if length > most:
            raise ProtocolError(
                f"expected a recording of at most {max_seconds:g} s, this one is longer"
            )
    if not length:
        raise ProtocolError(f"{EXPECTED}, got one without any sound")
    return np.clip(np.concatenate(pieces), -1.0, 1.0)


def _frames(container: Any, stream: Any) -> Any:
    """All frames, then None: that has the resampler give what it still holds."""
    decoded = 0
    try:
        for frame in container.decode(stream):
            decoded += 1
            yield frame
    except av.FFmpegError:
        # A browser that is interrupted leaves a file whose end is missing; its beginning is good.
        if not decoded:
            raise
    yield None
