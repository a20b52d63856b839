"""The graphs of the tests' small pocket model, anew: ``python -m tests.engines.make_golden``."""

import shutil
from pathlib import Path
from tempfile import TemporaryDirectory

from tests.engines.tiny_models import GOLDEN, save_pocket
from training.onnx_export import write_onnx

if __name__ == "__main__":
    with TemporaryDirectory() as made:
        write_onnx(save_pocket(Path(made)))
        GOLDEN.mkdir(exist_ok=True)
        for name in ("unet", "text_encoder"):
            shutil.copyfile(Path(made) / name / "model.onnx", GOLDEN / f"{name}.onnx")
