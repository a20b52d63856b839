"""How near things are: any depth model of transformers, and a map that does not pump."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file
from transformers import AutoImageProcessor, pipeline

from dreamrelay.engines.depth import DepthEstimator, Normaliser
from dreamrelay.engines.devices import Device
from dreamrelay.errors import EngineError
from tests.engines.pictures import noise_frame
from tests.engines.tiny_controls import save_depth_anything, save_dpt, save_glpn, shapes_frame

CPU = Device(torch.device("cpu"), torch.float32, "cpu")
SAVED: dict[str, Callable[[Path], Path]] = {
    "depth anything": save_depth_anything,
    "depth anything in metres": lambda folder: save_depth_anything(folder, metric=True),
    "dpt": save_dpt,
    "glpn": save_glpn,
}


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("depth")
    for name, save in SAVED.items():
        save(place / name)
    return place


@pytest.mark.parametrize(
    ("name", "sign"),
    [("depth anything", 1), ("depth anything in metres", -1), ("dpt", 1), ("glpn", -1)],
)
def test_the_same_as_the_pipeline_of_transformers(place: Path, name: str, sign: int) -> None:
    """Whatever the model says, far or near: near is the greater number."""
    estimator = DepthEstimator(str(place / name), CPU)
    frames = [shapes_frame(0, 72, 48), noise_frame(0, 72, 48)]
    found = estimator(frames)
    assert found.shape == (2, 48, 72)
    theirs = pipeline("depth-estimation", model=str(place / name))
    for near, frame in zip(found, frames, strict=True):
        expected = sign * theirs(Image.fromarray(frame))["predicted_depth"].squeeze()
        torch.testing.assert_close(near, expected, rtol=1e-3, atol=1e-3)
    assert float(found.std()) > 0


def test_the_size_at_which_it_looks(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    estimator = DepthEstimator(str(place / "depth anything"), CPU)
    assert estimator.sizes
    looked: list[tuple[int, ...]] = []
    estimator._model.register_forward_pre_hook(
        lambda _, args, options: looked.append(tuple(options["pixel_values"].shape[-2:])),
        with_kwargs=True,
    )
    for size in (0, 28, 1, 100):
        assert estimator([shapes_frame(0, 128, 64)], size).shape == (1, 64, 128)
    assert looked == [(56, 112), (28, 56), (28, 56), (56, 98)]
    fixed = DepthEstimator(str(place / "glpn"), CPU)
    assert not fixed.sizes
    torch.testing.assert_close(fixed([shapes_frame()], 28), fixed([shapes_frame()]))


def test_a_picture_of_the_depth(place: Path) -> None:
    picture = DepthEstimator(str(place / "depth anything"), CPU).picture(shapes_frame(0, 72, 48))
    assert picture.shape == (48, 72, 3)
    assert picture.dtype == np.uint8
    assert (picture.min(), picture.max()) == (0, 255)
    assert (picture[..., 0] == picture[..., 2]).all()


# Bounds that follow ------------------------------------------------------------------------------


def ramp(low: float, high: float) -> torch.Tensor:
    return torch.linspace(low, high, 64).reshape(8, 8)


def test_a_map_goes_from_0_to_1() -> None:
    seen = Normaliser()(ramp(-3, 17))
    torch.testing.assert_close(seen, ramp(0, 1))


@pytest.mark.parametrize("level", [0.0, 1e-9, 5.0, -1e6])
def test_a_flat_map_is_0(level: float) -> None:
    normalised = Normaliser()
    for _ in range(2):
        assert float(normalised(torch.full((8, 8), level)).abs().max()) == 0


def test_bounds_follow_slowly() -> None:
    normalised = Normaliser()
    normalised(ramp(0, 10))
    # Something comes near: what stands still keeps its depth for now.
    seen = normalised(ramp(0, 20))
    torch.testing.assert_close(seen, (ramp(0, 20) / 11).clamp(0, 1))
    for _ in range(200):
        seen = normalised(ramp(0, 20))
    torch.testing.assert_close(seen, ramp(0, 1), rtol=0, atol=1e-4)


def test_without_memory_each_map_is_measured_by_itself() -> None:
    normalised = Normaliser()
    normalised(ramp(0, 10))
    torch.testing.assert_close(normalised(ramp(0, 20), remember=False), ramp(0, 1))


# What cannot be loaded ---------------------------------------------------------------------------


def why_not(folder: Path | str) -> str:
    with pytest.raises(EngineError) as caught:
        DepthEstimator(str(folder), CPU, offline=True)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_a_depth_model_that_is_not_there(tmp_path: Path) -> None:
    assert "depth model /nowhere: there is no such folder" in why_not("/nowhere")
    assert "nobody/depth was not downloaded yet" in why_not("nobody/depth")
    assert "expected config.json in the folder" in why_not(tmp_path)
    assert "is a pickle" in why_not("depth.pt")


def test_a_broken_depth_model(place: Path, tmp_path: Path) -> None:
    folder = tmp_path / "model"
    shutil.copytree(place / "depth anything", folder)
    weights = folder / "model.safetensors"
    whole = load_file(weights)
    save_file({key: value for key, value in whole.items() if "head" not in key}, weights)
    assert "lacks 6 of its weights (head.conv1.bias" in why_not(folder)
    weights.write_bytes(weights.read_bytes()[:-5])
    assert "is cut off" in why_not(folder)
    weights.rename(folder / "pytorch_model.bin")
    assert "is a pickle" in why_not(folder)
    (folder / "preprocessor_config.json").unlink()
    assert "expected preprocessor_config.json in it" in why_not(folder)


def test_a_depth_model_that_overflows(place: Path, tmp_path: Path) -> None:
    folder = tmp_path / "model"
    shutil.copytree(place / "depth anything", folder)
    weights = load_file(folder / "model.safetensors")
    weights["head.conv3.bias"][:] = float("inf")
    save_file(weights, folder / "model.safetensors")
    assert "overflows in torch.float32: choose another, or full precision" in why_not(folder)


def test_a_model_of_something_else(place: Path, tmp_path: Path) -> None:
    folder = tmp_path / "model"
    shutil.copytree(place / "depth anything", folder)
    (folder / "config.json").write_text('{"model_type": "bert"}', encoding="utf-8")
    assert "cannot be loaded" in why_not(folder)


def test_a_package_that_a_model_needs(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def load(*_: Any, **__: Any) -> None:
        raise ImportError("DepthProImageProcessor requires the Torchvision library")

    monkeypatch.setattr(AutoImageProcessor, "from_pretrained", load)
    text = why_not(place / "depth anything")
    assert "needs a package that is not installed" in text
    assert "pip install torchvision, or choose another such as depth-anything/" in text
