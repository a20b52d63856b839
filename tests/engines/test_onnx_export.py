"""The graphs beside the weights: no second copy, the same pictures, the same bytes."""

from pathlib import Path

import numpy as np
import pytest
import torch

from dreamrelay.engines.runtimes import RUNTIMES
from tests.engines.tiny_models import WIDTH, save_pocket

onnx_export = pytest.importorskip(
    "training.onnx_export",
    reason="needs requirements-training.txt, as the training does",
    exc_type=ImportError,
)
from diffusers import UNet2DConditionModel  # noqa: E402 - after what may skip all this


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = save_pocket(tmp_path_factory.mktemp("exported"), levels=(8,))
    onnx_export.write_onnx(made)
    return made


@pytest.mark.parametrize("part", ["unet", "text_encoder"])
def test_a_graph_refers_to_the_weights_and_tells_nothing_of_its_maker(
    folder: Path, part: str
) -> None:
    graph = (folder / part / onnx_export.GRAPH).read_bytes()
    weights = next((folder / part).glob("*.safetensors"))
    assert weights.name.encode() in graph
    assert len(graph) < 100_000
    for trace in (b"site-packages", b"torch.onnx", b".py\0", str(folder).encode()):
        assert trace not in graph


@pytest.mark.parametrize("name", RUNTIMES)
@pytest.mark.parametrize("shape", [(1, 194, 5, 3), (3, 194, 8, 8)])
def test_a_graph_computes_what_torch_does(
    folder: Path, name: str, shape: tuple[int, int, int, int]
) -> None:
    dice = np.random.default_rng(0)
    sample = dice.standard_normal(shape, np.float32)
    at = dice.integers(1, 999, shape[0])
    context = dice.standard_normal((shape[0], 77, WIDTH), np.float32)
    runtime = RUNTIMES[name].load()(fast=False, threads=1)
    program = runtime.read(folder / "unet" / onnx_export.GRAPH).program(
        [shape, (shape[0],), context.shape]
    )
    unet = UNet2DConditionModel.from_pretrained(str(folder / "unet")).float()
    with torch.inference_mode():
        expected = unet(*(torch.from_numpy(a) for a in (sample, at, context))).sample
    np.testing.assert_allclose(program(sample, at, context), expected.numpy(), atol=1e-4)


def test_the_same_weights_give_the_same_bytes(folder: Path, tmp_path: Path) -> None:
    again = save_pocket(tmp_path, levels=(8,))
    onnx_export._write_text_encoder(again / "text_encoder")
    name = f"text_encoder/{onnx_export.GRAPH}"
    assert (again / name).read_bytes() == (folder / name).read_bytes()
