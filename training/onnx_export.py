"""The ONNX graphs of a pocket model's folder, without a second copy of its weights.

A graph names the weights in the ``.safetensors`` file beside it: half precision, read in place as
ONNX external data, cast to full precision by the graph. So ``model.onnx`` holds the arithmetic only
(a few hundred kilobytes), and the two can never be of different trainings.
"""

from __future__ import annotations

import json
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import onnx_ir as ir
import torch
from diffusers import UNet2DConditionModel
from onnxscript import optimizer
from torch import Tensor, nn
from transformers import CLIPTextModel

OPSET = 18
GRAPH = "model.onnx"
UNET_WEIGHTS = "diffusion_pytorch_model.safetensors"
TEXT_WEIGHTS = "model.safetensors"

_INLINE_BYTES = 16_384
"""What is larger than this must be a weight of the safetensors file, or the package doubles."""

_KINDS = {"F16": ir.DataType.FLOAT16, "F32": ir.DataType.FLOAT, "BF16": ir.DataType.BFLOAT16}


class _Unet(nn.Module):  # type: ignore[misc]
    """The U-Net as a function of three tensors."""

    def __init__(self, unet: Any) -> None:
        super().__init__()
        self.unet = unet

    def forward(self, sample: Tensor, timestep: Tensor, encoder_hidden_states: Tensor) -> Any:
        return self.unet(sample, timestep, encoder_hidden_states, return_dict=False)[0]


class _TextEncoder(nn.Module):  # type: ignore[misc]
    """The text encoder as a function of token ids."""

    def __init__(self, encoder: Any) -> None:
        super().__init__()
        self.encoder = encoder

    def forward(self, input_ids: Tensor) -> Any:
        return self.encoder(input_ids).last_hidden_state


def write_onnx(folder: Path) -> None:
    """Write ``unet/model.onnx`` and ``text_encoder/model.onnx`` beside the weights of ``folder``.

    The U-Net: ``sample`` (B, C, h, w) float32, ``timestep`` (B,) int64, ``encoder_hidden_states``
    (B, words, width) float32 to ``out_sample`` (B, C, h, w); B, h and w are free, h and w multiples
    of 2 ** (levels - 1). The text encoder: ``input_ids`` (B, words) int64 to ``last_hidden_state``
    (B, words, width). The same weights give the same bytes.

    Raises:
        ValueError: a weight of a graph is not in its safetensors file.
    """
    _write_unet(folder / "unet")
    _write_text_encoder(folder / "text_encoder")


def _write_unet(folder: Path) -> None:
    loaded: Any = UNet2DConditionModel.from_pretrained(str(folder), local_files_only=True)
    unet = loaded.float().eval()
    config = unet.config
    halvings = 2 ** (len(config.block_out_channels) - 1)
    dim = torch.export.Dim
    batch = dim("batch", min=1, max=256)
    rows, columns = dim("rows", min=1, max=512), dim("columns", min=1, max=512)
    examples = {
        # Different sides, so that the exporter takes none for the other.
        "sample": torch.zeros(2, config.in_channels, 4 * halvings, 3 * halvings),
        "timestep": torch.tensor([5, 7]),
        "encoder_hidden_states": torch.zeros(2, 77, config.cross_attention_dim),
    }
    shapes = {
        "sample": {0: batch, 2: halvings * rows, 3: halvings * columns},
        "timestep": {0: batch},
        "encoder_hidden_states": {0: batch},
    }
    _write(_Unet(unet).eval(), examples, shapes, "out_sample", folder / UNET_WEIGHTS)


def _write_text_encoder(folder: Path) -> None:
    loaded: Any = CLIPTextModel.from_pretrained(
        str(folder), local_files_only=True, attn_implementation="eager"
    )
    encoder = loaded.float().eval()
    words = encoder.config.max_position_embeddings
    examples = {"input_ids": torch.arange(2 * words).reshape(2, words) % 7}
    shapes = {"input_ids": {0: torch.export.Dim("batch", min=1, max=256)}}
    _write(
        _TextEncoder(encoder).eval(), examples, shapes, "last_hidden_state", folder / TEXT_WEIGHTS
    )


def _write(
    module: nn.Module,
    examples: Mapping[str, Tensor],
    shapes: Mapping[str, Any],
    output: str,
    weights: Path,
) -> None:
    """Export ``module`` next to the file of its ``weights``."""
    with warnings.catch_warnings(), torch.inference_mode():
        warnings.simplefilter("ignore")  # of torch about itself; what matters raises
        program = torch.onnx.export(
            module,
            kwargs=dict(examples),
            dynamo=True,
            opset_version=OPSET,
            optimize=False,
            verbose=False,
            input_names=list(examples),
            output_names=[output],
            dynamic_shapes=dict(shapes),
        )
    model = program.model
    _simplify(model)
    _refer_to(model, weights)
    _forget_where_it_was_made(model)
    ir.save(model, weights.with_name(GRAPH))


def _simplify(model: ir.Model) -> None:
    """Fold what is constant, but leave every weight as it is: as inputs nothing can be folded."""
    graph = model.graph
    weights = list(graph.initializers.values())
    given = len(graph.inputs)
    tensors = {value.name: value.const_value for value in weights}
    for value in weights:
        value.const_value = None
        del graph.initializers[value.name]
        graph.inputs.append(value)
    optimizer.optimize(model)
    for value in list(graph.inputs[given:]):
        graph.inputs.remove(value)
        value.const_value = tensors[value.name]
        if value.uses():
            graph.initializers[value.name] = value


def _refer_to(model: ir.Model, weights: Path) -> None:
    """Let the initializers be those of the safetensors file, cast to full precision."""
    graph = model.graph
    stored = _stored(weights)
    for value in list(graph.initializers.values()):
        tensor = value.const_value
        assert value.name is not None
        assert tensor is not None
        name = value.name.split(".", 1)[-1]  # the wrappers above put one name before
        key = next((key for key in (name, value.name) if key in stored), None)
        if key is None:
            if tensor.nbytes > _INLINE_BYTES:
                raise ValueError(f"{value.name} is not in {weights.name}")
            continue
        kind, shape, offset, length = stored[key]
        if list(tensor.shape) != shape:
            raise ValueError(f"{key} is {list(tensor.shape)} and in {weights.name} {shape}")
        half = ir.Value(name=key, type=ir.TensorType(kind), shape=ir.Shape(shape), const_value=None)
        half.const_value = ir.ExternalTensor(
            weights.name, offset, length, kind, shape=ir.Shape(shape), name=key, base_dir=""
        )
        del graph.initializers[value.name]
        graph.initializers[key] = half
        cast = ir.node(
            "Cast", [half], attributes={"to": ir.DataType.FLOAT.value}, name=f"{key}/cast"
        )
        whole = cast.outputs[0]
        whole.name, whole.type, whole.shape = f"{key}/float32", value.type, value.shape
        for user, index in list(value.uses()):
            user.replace_input_with(index, whole)
        graph.insert_before(graph[0], cast)


def _stored(weights: Path) -> dict[str, tuple[ir.DataType, list[int], int, int]]:
    """Name to kind, shape, offset and length in bytes, from the header of a safetensors file."""
    with weights.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        header = json.loads(file.read(length))
    return {
        name: (
            _KINDS[entry["dtype"]],
            entry["shape"],
            8 + length + entry["data_offsets"][0],
            entry["data_offsets"][1] - entry["data_offsets"][0],
        )
        for name, entry in header.items()
        if name != "__metadata__" and entry["dtype"] in _KINDS
    }


def _forget_where_it_was_made(model: ir.Model) -> None:
    """Drop the traces of the exporter: paths of a machine, versions, notes for debuggers."""
    model.producer_name, model.producer_version = "dreamrelay", None
    model.doc_string = None
    model.metadata_props.clear()
    graph = model.graph
    graph.name, graph.doc_string = "pocket", None
    graph.metadata_props.clear()
    for value in (*graph.inputs, *graph.initializers.values()):
        value.metadata_props.clear()
    for node in graph.all_nodes():
        node.metadata_props.clear()
        node.doc_string = None
        for value in node.outputs:
            value.metadata_props.clear()
            if not value.is_graph_output():
                value.type, value.shape = None, None  # inferred by every reader; half of the file
