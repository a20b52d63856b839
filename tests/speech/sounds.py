"""Recordings made on the spot."""

import io

import av
import numpy as np
from numpy.typing import NDArray


def tone(hertz: float, seconds: float, rate: int) -> NDArray[np.float32]:
    """A sine of half the full scale."""
    time = np.arange(int(seconds * rate)) / rate
    return (0.5 * np.sin(2 * np.pi * hertz * time)).astype(np.float32)


def noise(seconds: float, rate: int, level: float = 0.2) -> NDArray[np.float32]:
    return np.random.default_rng(3).normal(0, level, int(seconds * rate)).astype(np.float32)


def recording(samples: NDArray[np.float32], rate: int, container: str, codec: str) -> bytes:
    """Encode samples (n, or channels x n; -1..1) as a file."""
    channels = np.atleast_2d(samples)
    layout = "mono" if channels.shape[0] == 1 else "stereo"
    out = io.BytesIO()
    with av.open(out, "w", format=container) as target:
        stream = target.add_stream(codec, rate=rate, layout=layout)
        frame = av.AudioFrame.from_ndarray(np.ascontiguousarray(channels), "fltp", layout)
        frame.sample_rate = rate
        resampler = av.AudioResampler(stream.format.name, layout, rate)
        for piece in [*resampler.resample(frame), *resampler.resample(None)]:
            target.mux(stream.encode(piece))
        target.mux(stream.encode(None))
    return out.getvalue()


def wav(samples: NDArray[np.float32], rate: int) -> bytes:
    return recording(samples, rate, "wav", "pcm_s16le")
