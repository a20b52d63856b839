"""A part compiled ahead of time, kept as files: loaded in milliseconds, without tracing anything.

Inductor compiles the part to a library that holds code and no weights. Whoever loads it lends it
the weights of the module that is served, so that what changes in these (LoRAs that are fused)
changes what it says, and no memory is taken twice.
"""

import hashlib
import json
import logging
import os
import shutil
from collections.abc import Callable, Mapping, Sequence
from importlib import import_module
from importlib.metadata import version
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch.utils._pytree import TreeSpec, treespec_dumps, treespec_loads

from dreamrelay.engines.accelerate import Call, Flat, Flattened, compared
from dreamrelay.errors import EngineError

logger = logging.getLogger(__name__)

TOLERANCE = 5e-2
"""So far a compiled part may be from the plain one, as a share of the greatest value: kernels that
are fused round less often, which in half precision makes the second digit differ."""

_LIBRARY = "form.pt2"
_OPTIONS: Mapping[str, Any] = {
    "aot_inductor.package_constants_in_so": False,
    # It would write small weights (biases of up to 8 channels) into the code.
    "always_keep_tensor_constants": True,
}


class Leaf(NamedTuple):
    """What is known of an argument that is a tensor."""

    shape: tuple[int, ...]
    stride: tuple[int, ...]
    dtype: torch.dtype

    def example(self, device: torch.device) -> torch.Tensor:
        """Some tensor of this form."""
        memory = torch.empty_strided(self.shape, self.stride, dtype=self.dtype, device=device)
        return memory.normal_() if self.dtype.is_floating_point else memory.random_(0, 1000)


class Wanted(NamedTuple):
    """A form that is to be built: what another process is told of a call.

    Attributes:
        part: its name.
        leaves: of its arguments, tensors as a :class:`Leaf`.
        spec: how the arguments are put together of them.
        folder: where the package is to lie.
    """

    part: str
    leaves: tuple[Any, ...]
    spec: str
    folder: Path

    def call(self, run: Callable[..., Any], device: torch.device) -> Call:
        """A call of that form, with values of its own."""
        leaves = [leaf.example(device) if isinstance(leaf, Leaf) else leaf for leaf in self.leaves]
        spec: TreeSpec = treespec_loads(self.spec)
        return Call(self.part, run, leaves, spec)


def wanted(call: Call, facts: Sequence[str], place: Path) -> Wanted:
    """What is to be built for ``call``, and where in ``place`` it lies.

    Args:
        facts: all that it depends on beside the call: :func:`anatomy` of its module, the device.
    """
    leaves = tuple(map(_described, call.leaves))
    spec = treespec_dumps(call.spec)
    depends = [
        call.name,
        repr(leaves),
        spec,
        *facts,
        *(f"{name} {version(name)}" for name in ("torch", "diffusers")),
    ]
    key = hashlib.sha256(json.dumps(depends).encode()).hexdigest()[:32]
    name = "".join(letter if letter.isalnum() else "-" for letter in call.name)
    return Wanted(call.name, leaves, spec, place / f"{name}-{key}")


def _described(leaf: Any) -> Any:
    if not torch.is_tensor(leaf):
        return leaf
    stride = leaf.stride()
    if any(step == 0 and size > 1 for step, size in zip(stride, leaf.shape, strict=True)):
        # One row that stands for several (SDXL's sizes): nobody can write to such memory.
        stride = torch.empty(leaf.shape, device="meta").stride()
    return Leaf(tuple(leaf.shape), tuple(stride), leaf.dtype)


def anatomy(call: Call) -> str:
    """What the module of a part is, all but the values of its weights; takes a moment."""
    module = getattr(call.run, "module", None)
    if module is None:
        return ""
    digest = hashlib.sha256(f"{module} {getattr(module, 'config', None)}".encode())
    for name, kind in getattr(module, "attn_processors", {}).items():
        digest.update(f"{name} {type(kind).__name__}".encode())
    for name, weight in module.state_dict().items():
        digest.update(f"{name} {_described(weight)}".encode())
    return digest.hexdigest()


def build_package(call: Call, folder: Path) -> None:
    """Compile a part for the form of ``call``; takes seconds to minutes. No other thread may use
    its module meanwhile.

    Raises:
        EngineError: what was compiled says something else than the part, or the part has numbers
            that are no weights. Compilers raise what they want.
    """
    half = folder.with_name(f"{folder.name}.{os.getpid()}.part")
    shutil.rmtree(half, ignore_errors=True)
    half.mkdir(parents=True)
    try:
        tensors = [leaf for leaf in call.leaves if torch.is_tensor(leaf)]
        options = dict(_OPTIONS)
        if any(tensor.is_cuda for tensor in tensors):
            options["max_autotune"] = True
        with torch.no_grad():
            exported = torch.export.export(Flattened(call), tuple(tensors), strict=False)
            if exported.constants:
                raise EngineError(
                    f"{call.name} has numbers in its code, which cannot be lent to it"
                )
            inductor().aoti_compile_and_package(
                exported, package_path=str(half / _LIBRARY), inductor_configs=options
            )
        wrong = compared(load_package(call, half), call.flat, call.leaves, TOLERANCE)
        if wrong:
            raise EngineError(f"what was compiled of {call.name} says something else: {wrong}")
        if not folder.exists():  # or another worker was faster
            half.rename(folder)
    finally:
        shutil.rmtree(half, ignore_errors=True)


def inductor() -> Any:
    """The compiler; to import it takes seconds."""
    import_module("torch._inductor.package")
    return import_module("torch._inductor")


def is_package(folder: Path) -> bool:
    return (folder / _LIBRARY).is_file()


def load_package(call: Call, folder: Path) -> Flat:
    """The form that was built for such a call, over the weights of the module of this one.

    Raises:
        OSError, RuntimeError, KeyError, ValueError: it is broken, or does not fit.
    """
    on_card = any(leaf.is_cuda for leaf in call.leaves if torch.is_tensor(leaf))
    # On a card a graph may be recorded of it, which its own locks would be in the way of.
    program = inductor().aoti_load_package(str(folder / _LIBRARY), run_single_threaded=on_card)
    module = getattr(call.run, "module", None)
    weights = {} if module is None else module.state_dict(keep_vars=True)
    lent = {f"over.{name}": weight.detach() for name, weight in weights.items()}
    constants = {name: lent[name] for name in program.get_constant_fqns()}
    program.load_constants(constants, check_full_update=True, user_managed=True)
    forms = [_described(leaf) for leaf in call.leaves if torch.is_tensor(leaf)]

    def form(leaves: Sequence[Any]) -> Any:
        given = [leaf for leaf in leaves if torch.is_tensor(leaf)]
        return program(*map(_laid_out, given, forms))

    form.constants = constants  # type: ignore[attr-defined]  # they live as long as it does
    return form


def _laid_out(tensor: torch.Tensor, form: Leaf) -> torch.Tensor:
    """The same in the layout that the code was compiled for: it does not look."""
    if tensor.stride() == form.stride:
        return tensor
    memory = torch.empty_strided(form.shape, form.stride, dtype=form.dtype, device=tensor.device)
    return memory.copy_(tensor)
