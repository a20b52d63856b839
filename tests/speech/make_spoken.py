"""How ``spoken/`` was made: by Flite's voices, recorded as a browser records (WebM, Opus).

    python -m tests.speech.make_spoken        # needs flite (http://www.festvox.org/flite/)

Flite and its voices slt, rms and awb are free software (BSD-like licences of Carnegie Mellon
University), so what they say may lie here.
"""

import io
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import av
import numpy as np

FOLDER = Path(__file__).parent / "spoken"
VOICES = ("slt", "rms", "awb")

COMMANDS = ("start", "stop", "black", "picture", "preset three", "preset nine", "new seed", "reset")
PROMPTS = (
    "oil painting",
    "watercolor",
    "pencil sketch",
    "stained glass",
    "gold and blue",
    "dark winter night",
    "prompt neon pink",
)
OTHER = (
    "the weather is nice today",
    "can you hear me now",
    "I would like a cup of coffee please",
    "hello everybody how are you",
)


def name(voice: str, text: str) -> str:
    return f"{voice}_{text.lower().replace(' ', '_')}.webm"


def spoken(voice: str, text: str) -> bytes:
    """One recording of the folder."""
    return (FOLDER / name(voice, text)).read_bytes()


def main() -> int:
    if shutil.which("flite") is None:
        sys.stderr.write("flite is needed: apt install flite\n")
        return 1
    FOLDER.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        wav = Path(folder) / "said.wav"
        for voice in VOICES:
            for text in (*COMMANDS, *PROMPTS, *OTHER):
                subprocess.run(["flite", "-voice", voice, "-t", text, "-o", str(wav)], check=True)
                (FOLDER / name(voice, text)).write_bytes(_as_webm(wav.read_bytes()))
    return 0


def _as_webm(wav: bytes) -> bytes:
    quiet = np.zeros((1, 48_000 // 2), np.int16)
    with av.open(io.BytesIO(wav)) as source:
        resampler = av.AudioResampler("s16", "mono", 48_000)
        frames = [*source.decode(audio=0), None]
        pieces = [p.to_ndarray() for frame in frames for p in resampler.resample(frame)]
    samples = np.concatenate([quiet, *pieces, quiet], axis=1)
    out = io.BytesIO()
    with av.open(out, "w", format="webm") as target:
        stream = target.add_stream("libopus", rate=48_000, layout="mono")
        stream.bit_rate = 20_000
        frame = av.AudioFrame.from_ndarray(samples, "s16", "mono")
        frame.sample_rate = 48_000
        for one in (frame, None):
            target.mux(stream.encode(one))
    return out.getvalue()


if __name__ == "__main__":
    sys.exit(main())
