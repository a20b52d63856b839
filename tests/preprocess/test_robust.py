"""Robust Video Matting's adapters, on tiny models with its signature: the real one is GPL, and the
operator's to get.
"""

from pathlib import Path
from urllib.error import URLError

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper

from dreamrelay.codec import Frame
from dreamrelay.errors import ConfigError, EngineError
from dreamrelay.preprocess import Matting, check_matting, open_matting
from dreamrelay.preprocess.robust import downsample_ratio

pytestmark = pytest.mark.filterwarnings("ignore:`torch.jit:DeprecationWarning")


class Tiny(torch.nn.Module):  # type: ignore[misc]
    """Alpha is the mean of the red channel of this frame and of the one before."""

    def forward(
        self,
        src: torch.Tensor,
        r1: torch.Tensor | None = None,
        r2: torch.Tensor | None = None,
        r3: torch.Tensor | None = None,
        r4: torch.Tensor | None = None,
        downsample_ratio: float = 1.0,
    ) -> list[torch.Tensor]:
        red = src[:, :1]
        alpha = red if r1 is None else (red + r1) / 2
        return [src, alpha, red, red, red, red]


class Half(torch.nn.Module):  # type: ignore[misc]
    """Alpha is the red channel, through weights in half precision."""

    def __init__(self) -> None:
        super().__init__()
        self.first = torch.nn.Conv2d(3, 1, 1, bias=False, dtype=torch.float16)
        with torch.no_grad():
            self.first.weight.copy_(torch.tensor([1.0, 0.0, 0.0]).view(1, 3, 1, 1))

    def forward(
        self,
        src: torch.Tensor,
        r1: torch.Tensor | None,
        r2: torch.Tensor | None,
        r3: torch.Tensor | None,
        r4: torch.Tensor | None,
        downsample_ratio: float,
    ) -> list[torch.Tensor]:
        red = self.first(src)
        return [src, red, red, red, red, red]


class Other(torch.nn.Module):  # type: ignore[misc]
    """Something else that also takes a picture."""

    def forward(self, src: torch.Tensor) -> torch.Tensor:
        return src


def onnx_model(path: Path, *, alpha: str = "pha") -> None:
    """As ``Tiny``, but the first frame's state is 0 and 1x1, and is taken as nothing."""
    size = [1, 3, "h", "w"]
    floats = TensorProto.FLOAT
    inputs = [helper.make_tensor_value_info("src", floats, size)]
    inputs += [
        helper.make_tensor_value_info(f"r{n}i", floats, [1, 1, f"a{n}", f"b{n}"])
        for n in range(1, 5)
    ]
    inputs.append(helper.make_tensor_value_info("downsample_ratio", floats, [1]))
    state = [1, 1, "h", "w"]
    outputs = [helper.make_tensor_value_info("fgr", floats, size)]
    outputs += [
        helper.make_tensor_value_info(name, floats, state)
        for name in (alpha, "r1o", "r2o", "r3o", "r4o")
    ]
    half = helper.make_tensor("half", floats, [], [0.5])
    ints = TensorProto.INT64
    constants = [
        half,
        helper.make_tensor("start", ints, [1], [0]),
        helper.make_tensor("end", ints, [1], [1]),
        helper.make_tensor("axis", ints, [1], [1]),
    ]
    nodes = [
        helper.make_node("Identity", ["src"], ["fgr"]),
        helper.make_node("Slice", ["src", "start", "end", "axis"], ["red"]),
        helper.make_node("Add", ["red", "r1i"], ["sum"]),
        helper.make_node("Mul", ["sum", "half"], [alpha]),
        *(helper.make_node("Identity", ["red"], [f"r{n}o"]) for n in range(1, 5)),
    ]
    graph = helper.make_graph(nodes, "tiny", inputs, outputs, constants)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    onnx.save(model, path)


def engine(kind: str, folder: Path) -> Matting:
    if kind == "onnx":
        path = folder / "tiny.onnx"
        onnx_model(path)
    elif kind == "torchscript":
        path = folder / "tiny.torchscript"
        torch.jit.script(Tiny()).save(str(path))
    else:
        path = folder / "checkout"
        path.mkdir()
        (path / "hubconf.py").write_text(
            "from tests.preprocess.test_robust import Tiny\n"
            "def mobilenetv3(pretrained=True):\n    return Tiny()\n",
            encoding="utf-8",
        )
    matting = open_matting(f"rvm:{path}")
    matting.load()
    matting.load()  # again is nothing
    return matting


def grey(value: int, size: tuple[int, int] = (24, 40)) -> Frame:
    return np.full((*size, 3), value, np.uint8)


@pytest.fixture(params=["onnx", "torchscript", "checkout"])
def matting(request: pytest.FixtureRequest, tmp_path: Path) -> Matting:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TORCH_HOME", str(tmp_path))
        return engine(request.param, tmp_path)


def first_alpha(matting: Matting) -> int:
    """Of grey 200: the ONNX model takes the state of nothing as black, as real ones do."""
    return int(matting.matte_once(grey(200))[0, 0])


def test_its_state_goes_from_frame_to_frame(matting: Matting) -> None:
    mask = matting.matte(grey(200))
    assert mask.shape == (24, 40)
    assert mask.dtype == np.uint8
    assert mask[0, 0] == first_alpha(matting)
    assert matting.matte(grey(100))[0, 0] == 150
    assert matting.matte(grey(100))[0, 0] == 100


def test_each_stream_has_its_own_state(matting: Matting) -> None:
    matting.matte(grey(200), "a")
    matting.matte(grey(0), "b")
    assert matting.matte(grey(100), "a")[0, 0] == 150
    assert matting.matte(grey(100), "b")[0, 0] == 50


def test_one_picture_touches_no_state(matting: Matting) -> None:
    matting.matte(grey(200))
    matting.matte_once(grey(0))
    assert matting.matte(grey(100))[0, 0] == 150


def test_reset_and_another_size_begin_anew(matting: Matting) -> None:
    first = first_alpha(matting)
    matting.matte(grey(100), "a")
    matting.reset("a")
    assert matting.matte(grey(200), "a")[0, 0] == first
    matting.reset()
    assert matting.matte(grey(200), "a")[0, 0] == first
    assert matting.matte(grey(200, (8, 8)), "a")[0, 0] == first


def test_no_frame_is_refused(matting: Matting) -> None:
    with pytest.raises(ValueError, match="expected a frame"):
        matting.matte(np.zeros((4, 4), np.uint8))


def test_a_file_in_half_precision(tmp_path: Path) -> None:
    path = tmp_path / "half.torchscript"
    torch.jit.script(Half()).save(str(path))
    matting = open_matting(f"rvm:{path}")
    matting.load()
    assert abs(int(matting.matte(grey(100))[0, 0]) - 100) <= 1


def test_files_that_are_something_else(tmp_path: Path) -> None:
    other = tmp_path / "other.pt"
    torch.jit.script(Other()).save(str(other))
    matting = open_matting(f"rvm:{other}")
    matting.load()
    with pytest.raises(EngineError, match="failed on a frame"):
        matting.matte(grey(1))

    strange = tmp_path / "strange.onnx"
    onnx_model(strange, alpha="somebody")
    with pytest.raises(EngineError, match="lacks pha"):
        open_matting(f"rvm:{strange}").load()


@pytest.mark.parametrize("name", ["broken.onnx", "broken.torchscript"])
def test_broken_files(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    path.write_bytes(b"nothing of the kind")
    with pytest.raises(EngineError, match=r"cannot be loaded.*rvm_mobilenetv3"):
        open_matting(f"rvm:{path}").load()


@pytest.mark.parametrize("name", ["rvm", "rvm:", "magic", "rvm:/there/is/none.onnx"])
def test_names_that_mean_nothing(name: str) -> None:
    with pytest.raises(ConfigError, match="expected person"):
        open_matting(name)


def test_a_folder_without_a_checkout(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"hubconf\.py"):
        open_matting(f"rvm:{tmp_path}")


def test_a_variant_that_does_not_exist_is_told_at_the_start() -> None:
    for name in ("rvm:hub/inception", "rvm:hub/"):
        with pytest.raises(ConfigError, match=r"one of mobilenetv3, resnet50"):
            check_matting(name)


@pytest.mark.parametrize("setting", ["rvm:hub", "rvm:hub/resnet50"])
def test_by_torch_hub(setting: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """torch.hub's own code; GitHub cannot be reached, and what it has is in the cache, or not."""

    def unreachable(*_: object) -> None:
        raise URLError("no network")

    monkeypatch.setattr("torch.hub.urlopen", unreachable)
    monkeypatch.setattr("torch.hub.get_dir", lambda: str(tmp_path))
    with pytest.raises(EngineError, match=r"cannot be loaded from hub.*give its path"):
        open_matting(setting).load()
    checkout = tmp_path / "PeterL1n_RobustVideoMatting_master"
    checkout.mkdir()
    variant = "resnet50" if "resnet50" in setting else "mobilenetv3"
    (checkout / "hubconf.py").write_text(
        "from tests.preprocess.test_robust import Tiny\n"
        f"def {variant}(pretrained=True):\n    return Tiny()\n",
        encoding="utf-8",
    )
    matting = open_matting(setting)
    matting.load()
    assert matting.matte(grey(100)).shape == (24, 40)


def test_large_frames_are_looked_at_smaller() -> None:
    assert downsample_ratio(512, 288) == 1.0
    assert downsample_ratio(1080, 1920) == pytest.approx(0.267, abs=0.001)
