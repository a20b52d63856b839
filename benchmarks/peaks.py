"""What this processor computes at most (nothing but large products, or nothing but convolutions),
and what a graph asks of it.

Through OpenVINO, as the pocket engine computes: the same number of threads, and bfloat16 where the
processor multiplies it. A run is shorter than a picture of the pocket model, so that some are not
interrupted even on a busy machine.
"""

import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import openvino
from openvino import opset13

from dreamrelay.engines.runtimes import inference_threads

CHANNELS, SIDE, LAYERS = 192, 32, 4
ORDER, PRODUCTS = 1024, 1

OPERATIONS: Mapping[str, float] = {
    "peak, convolutions": LAYERS * 2 * 9 * CHANNELS**2 * SIDE**2,
    "peak, products": PRODUCTS * 2 * ORDER**3,
}
"""Multiplications and additions of a run, by name."""


def prepare(name: str) -> tuple[Callable[[], object], str]:
    """A function that makes one run, and how it computes."""
    random = np.random.default_rng(5)
    given, node = _convolutions(random) if "convolutions" in name else _products(random)
    core = openvino.Core()
    fast = "BF16" in core.get_property("CPU", "OPTIMIZATION_CAPABILITIES")
    precision = "bf16" if fast else "f32"
    options = {
        "PERFORMANCE_HINT": "LATENCY",
        "INFERENCE_NUM_THREADS": inference_threads(),
        "INFERENCE_PRECISION_HINT": precision,
    }
    model = openvino.Model([node], [given], "peak")
    request = core.compile_model(model, "CPU", options).create_infer_request()
    values = random.standard_normal(tuple(given.shape)).astype(np.float32)
    label = f"OpenVINO {precision}"
    return lambda: request.infer([values], share_inputs=True, share_outputs=True), label


def operations(graph: Path, *shapes: tuple[int, ...]) -> int:
    """Multiplications and additions of a graph, counted over its shapes; nothing is computed.

    Args:
        graph: an ONNX file whose convolutions and products are all that counts.
        shapes: of its inputs.
    """
    model = openvino.Core().read_model(str(graph))
    model.reshape({port: list(s) for port, s in zip(model.inputs, shapes, strict=True)})
    return sum(_operations(node) for node in model.get_ordered_ops())


def _operations(node: Any) -> int:
    kind = node.get_type_name()
    if kind not in ("Convolution", "MatMul"):
        return 0
    each = tuple(node.input(1).get_shape())
    if kind == "Convolution":  # (out, in, height, width)
        terms = math.prod(each[1:])
    else:
        terms = each[-1] if node.get_attributes()["transpose_b"] else each[-2]
    return 2 * int(math.prod(node.output(0).get_shape())) * int(terms)


def _convolutions(random: np.random.Generator) -> tuple[Any, Any]:
    given = opset13.parameter([1, CHANNELS, SIDE, SIDE], np.float32)
    weights = _weights(random, CHANNELS, CHANNELS, 3, 3)
    node: Any = given
    for _ in range(LAYERS):
        node = opset13.convolution(node, weights, [1, 1], [1, 1], [1, 1], [1, 1])
    return given, node


def _products(random: np.random.Generator) -> tuple[Any, Any]:
    given = opset13.parameter([ORDER, ORDER], np.float32)
    weights = _weights(random, ORDER, ORDER)
    node: Any = given
    for _ in range(PRODUCTS):
        node = opset13.matmul(node, weights, False, False)
    return given, node


def _weights(random: np.random.Generator, *shape: int) -> Any:
    return opset13.constant((0.02 * random.standard_normal(shape)).astype(np.float32))
