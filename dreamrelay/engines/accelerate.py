"""What makes a model faster: chosen by name, built at the start for the shapes it starts with.

A part of a model (U-Net, encoder, decoder) is a function of tensors. An :class:`Acceleration` lays
a :class:`Part` over it, which takes a faster form of it where there is one *for these shapes*, and
else calls the function as it is: after a change of size or steps at once, without waiting for a
compiler.

Nothing is built in this process while frames are computed: torch's tracers replace
``nn.Module.__call__`` for the whole process while they look at a model, and a frame that is
computed meanwhile fails (it was tried). What builds meanwhile is :mod:`beside`, in a process of its
own.
"""

import copy
import logging
import os
import shutil
import sys
import threading
import time
from collections.abc import Callable, Hashable, Sequence
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch.utils._pytree import TreeSpec, tree_flatten, tree_leaves, tree_unflatten

from dreamrelay.engines.ports import Progress, Report
from dreamrelay.errors import ConfigError, EngineError

logger = logging.getLogger(__name__)

NAMES = ("auto", "none", "sdpa", "xformers", "compile", "graphs", "tensorrt", "openvino")
ALIASES = {"trt": "tensorrt", "sfast": "compile"}
BUILT = ("compile", "graphs", "tensorrt", "openvino")
"""Those that build another form of the model."""

BAKED = ("tensorrt", "openvino")
"""Those whose form holds the weights as they were: no LoRA changes them any more."""

CLOSE_SECONDS = 20.0
"""A form that is being built has so long to be done once nobody wants it any more."""

Run = Callable[..., Any]
Flat = Callable[[Sequence[Any]], Any]
"""A part in its faster form: takes the leaves of its arguments, one after the other."""


class Call(NamedTuple):
    """A part, and the arguments of a call in pieces: what a form of it is built for."""

    name: str
    run: Run
    leaves: list[Any]
    spec: TreeSpec

    def flat(self, leaves: Sequence[Any]) -> Any:
        """Call the part as it is."""
        args, options = tree_unflatten(list(leaves), self.spec)
        return self.run(*args, **options)


Builder = Callable[[Call], Flat]
"""Builds a faster form; may take minutes. Raises what it wants if it cannot."""


# Names -------------------------------------------------------------------------------------------


def choose(wanted: str, device: torch.device) -> str:
    """The acceleration that a name stands for here; ``auto`` is the best that works.

    Raises:
        ConfigError: there is none of that name, or it cannot work here; says what to install.
    """
    name = ALIASES.get(wanted, wanted)
    if name not in NAMES:
        names = ", ".join((*NAMES, *ALIASES))
        raise ConfigError(f"acceleration: expected one of {names}, got {wanted!r}")
    if name == "auto":
        return "sdpa"  # what is built takes minutes at the start: by name only
    missing = _lacks(name, device)
    if missing is not None:
        raise ConfigError(f"acceleration: {wanted} {missing}; auto takes the best there is")
    return name


def _lacks(name: str, device: torch.device) -> str | None:
    """What keeps an acceleration from working here, and what to do."""
    if name in ("xformers", "graphs", "tensorrt") and device.type != "cuda":
        return f"needs a CUDA card, and this runs on {device.type}"
    if name == "openvino" and device.type != "cpu":
        return f"is for the processor, and this runs on {device.type}"
    if name == "xformers" and find_spec("xformers") is None:
        return "is not installed: pip install xformers, or choose sdpa, which torch has itself"
    if name == "tensorrt" and find_spec("torch_tensorrt") is None:
        version = torch.__version__.partition("+")[0]
        return f"is not installed: pip install torch-tensorrt=={version}, or choose compile"
    if name == "openvino" and find_spec("openvino") is None:
        return "is not installed: pip install openvino"
    if name == "compile":
        return _lacks_compiler(device)
    return None


def _lacks_compiler(device: torch.device) -> str | None:
    if device.type == "mps":
        return "is for CUDA cards and processors; choose sdpa"
    if device.type == "cuda" and find_spec("triton") is None:
        package = "triton-windows" if sys.platform == "win32" else "triton"
        return f"needs triton: pip install {package}, or choose sdpa"
    compilers = (os.environ.get("CXX", ""), "g++", "clang++", "cl")
    if device.type == "cpu" and not any(map(shutil.which, filter(None, compilers))):
        return "needs a C++ compiler (g++, clang++ or Microsoft's cl) on the PATH; choose sdpa"
    return None


# Forms -------------------------------------------------------------------------------------------


class Acceleration:
    """Faster forms of a model's parts.

    Args:
        name: of those above, chosen.
        build: makes a form; None: all parts are called as they are.
    """

    def __init__(self, name: str, build: Builder | None = None) -> None:
        self.name = name
        self._build = build
        self._open = True
        self._wanted: list[tuple[Part, Hashable, Call]] = []
        self._thread: threading.Thread | None = None
        self.parts: dict[str, Part] = {}
        """Those that may have faster forms, by name."""

    def over(self, name: str, run: Run, *, of_parts: bool = False) -> Run:
        """A part that is called in place of ``run``.

        Args:
            of_parts: it calls other parts.
        """
        return run if self._build is None else self._part(name, run, of_parts)

    def _part(self, name: str, run: Run, of_parts: bool) -> "Part":
        part = Part(name, run, self, of_parts=of_parts)
        self.parts[name] = part
        return part

    @property
    def notice(self) -> str:
        """What people should know of it while frames are computed; "": nothing."""
        return ""

    @property
    def building(self) -> bool:
        """Whether something is being built while frames are computed."""
        return False

    def between_frames(self) -> None:
        """Called by the thread of the frames, between two of them."""

    def want(self, part: "Part", key: Hashable, call: Call) -> None:
        """Note a form that a call asked for; :meth:`finish` builds it."""
        if self._open:
            self._wanted.append((part, key, owned(call)))
        else:
            logger.info("acceleration: no form of %s for these shapes: it is slower", part.name)

    def finish(self, report: Report) -> None:
        """Build all that the calls so far asked for; no frame may be computed meanwhile.

        Raises:
            EngineError: a form cannot be built; says what to choose.
            ClosedError: ``report`` stopped the work; what is being built ends by itself.
        """
        build, began = self._build, time.monotonic()
        self._open = False
        # What is made of other parts comes after them.
        self._wanted.sort(key=lambda wanted: wanted[0].of_parts)
        while self._wanted and build is not None:
            part, key, call = self._wanted.pop(0)
            built = _Building(build, call)
            self._thread = built
            built.start()
            while built.is_alive():
                seconds = time.monotonic() - began
                report(Progress("compiling", f"{self.name}: {part.name}, {seconds:.0f} s"))
                built.join(0.5)
            if built.error is not None:
                text = " ".join(str(built.error).split())[:300]
                raise EngineError(
                    f"acceleration: {self.name} could not be built ({text}): choose another"
                ) from built.error
            assert built.form is not None
            part.ready[key] = built.form

    def close(self) -> None:
        """Build nothing more, and wait for what is being built: no compiler can be stopped."""
        self._open = False
        self._wanted.clear()
        if self._thread is None:
            return
        if self._thread.is_alive():
            logger.warning(
                "acceleration: %s is still being built, which cannot be stopped: waiting for at "
                "most %d s; a second Ctrl-C ends at once",
                self.name,
                CLOSE_SECONDS,
            )
        self._thread.join(CLOSE_SECONDS)
        if self._thread.is_alive():
            logger.warning("acceleration: %s is still being built", self.name)


class _Building(threading.Thread):
    """One form being built, so that its caller can say how long it takes."""

    def __init__(self, build: Builder, call: Call) -> None:
        super().__init__(name="acceleration", daemon=True)
        self.form: Flat | None = None
        self.error: Exception | None = None
        self._build = build
        self._call = call

    def run(self) -> None:
        try:
            with torch.inference_mode():
                self.form = self._build(self._call)
        except Exception as error:  # noqa: BLE001 - compilers raise anything; finish() tells it
            self.error = error


class Part:
    """A function of tensors, in the best form there is for the shapes it is called with."""

    def __init__(self, name: str, run: Run, owner: Acceleration, *, of_parts: bool = False) -> None:
        self.name = name
        self.of_parts = of_parts
        self.run = run
        self.ready: dict[Hashable, Flat] = {}
        self._owner = owner
        self._asked: set[Hashable] = set()

    def __call__(self, *args: Any, **options: Any) -> Any:
        leaves, spec = tree_flatten((args, options))
        key = (repr(spec), *map(_form, leaves))
        form = self.ready.get(key)
        if form is not None:
            return form(leaves)
        if key not in self._asked:
            self._asked.add(key)
            self._owner.want(self, key, Call(self.name, self.run, leaves, spec))
        return self.run(*args, **options)

    def forget(self, key: Hashable) -> None:
        """Ask for a form again when it is called again."""
        self._asked.discard(key)


def owned(call: Call) -> Call:
    """The call with memory of its own: the caller goes on to write to the arguments."""
    leaves = [leaf.clone() if torch.is_tensor(leaf) else leaf for leaf in call.leaves]
    return call._replace(leaves=leaves)


def _form(leaf: Any) -> Hashable:
    if torch.is_tensor(leaf):
        return (*leaf.shape, leaf.dtype, leaf.device.type)
    return leaf if isinstance(leaf, bool | int | float | str | None) else id(leaf)


def compared(form: Flat, plain: Flat, leaves: Sequence[Any], tolerance: float) -> str:
    """What a form does wrong, if anything: for the arguments it was built for, and others.

    Args:
        tolerance: how far off it may be, as a share of the greatest value.
    """
    for share in (1.0, 0.75):
        given = [
            leaf * share if torch.is_tensor(leaf) and leaf.is_floating_point() else leaf
            for leaf in leaves
        ]
        for one, other in zip(tree_leaves(plain(given)), tree_leaves(form(given)), strict=True):
            if not torch.is_tensor(one):
                continue
            span = max(1.0, float(one.abs().max()))
            off = float((one.float() - other.float()).abs().max())
            if not off <= tolerance * span:  # not a number, too
                return f"it is off by {off:.3g}, where values reach {span:.3g}"
    return ""


# Builders ----------------------------------------------------------------------------------------


def cache_folder() -> Path:
    """Where what was built is kept between two starts."""
    base = os.environ.get("DREAMRELAY_CACHE") or os.environ.get("XDG_CACHE_HOME")
    if base is None and sys.platform == "win32":
        base = os.environ.get("LOCALAPPDATA")
    return Path(base).expanduser() / "dreamrelay" if base else Path.home() / ".cache" / "dreamrelay"


def compiling(device: torch.device, backend: str = "inductor") -> Builder:
    """Builds with ``torch.compile``; its results are kept on disk."""
    # Read by inductor, also in the processes that it starts; who has set it is left alone.
    os.environ.setdefault("TORCHINDUCTOR_CACHE_DIR", str(cache_folder() / "inductor"))
    options: dict[str, Any] = {"backend": backend, "dynamic": False}
    if device.type == "cuda" and backend == "inductor":
        # Not with its CUDA graphs, which belong to the thread that recorded them; see graphs.py.
        options["mode"] = "max-autotune-no-cudagraphs"

    def build(call: Call) -> Flat:
        torch._dynamo.config.recompile_limit = max(64, torch._dynamo.config.recompile_limit)
        compiled = torch.compile(call.run, **options)

        def form(leaves: Sequence[Any]) -> Any:
            args, options = tree_unflatten(list(leaves), call.spec)
            return compiled(*args, **options)

        for _ in range(2):  # the second call takes what the first has compiled
            form(call.leaves)
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        return form

    return build


def with_openvino(exact: bool = False) -> Builder:
    """Builds with OpenVINO, for the processor.

    Args:
        exact: in full precision; else in what the processor is fastest in.
    """
    openvino = import_module("openvino")
    convert = import_module("openvino.tools.ovc").convert_model
    core = openvino.Core()
    hints = {
        "PERFORMANCE_HINT": "LATENCY",
        **({"INFERENCE_PRECISION_HINT": "f32"} if exact else {}),
    }

    def build(call: Call) -> Flat:
        exported = torch.export.export(Flattened(call), tuple(_tensors(call.leaves)))
        compiled = core.compile_model(convert(exported), "CPU", hints)

        def form(leaves: Sequence[Any]) -> Any:
            made = compiled([leaf.contiguous().numpy() for leaf in _tensors(leaves)])[0]
            return torch.from_numpy(made)

        form(call.leaves)
        return form

    return build


class Over:
    """A module as a part: ``call(module, *arguments)``."""

    def __init__(self, module: torch.nn.Module, call: Run) -> None:
        self.module = module
        self.call = call

    def __call__(self, *args: Any, **options: Any) -> Any:
        return self.call(self.module, *args, **options)


class Flattened(torch.nn.Module):  # type: ignore[misc]
    """A part as a module that takes its tensors one by one, as exporters want it.

    It is over a copy of the model: what an exporter does to a module stays with the copy.
    """

    def __init__(self, call: Call) -> None:
        super().__init__()
        run = copy.deepcopy(call.run)
        self.over = getattr(run, "module", None)  # where exporters look for weights
        self._call = call._replace(run=run)

    def forward(self, *tensors: torch.Tensor) -> Any:
        given = iter(tensors)
        leaves = [next(given) if torch.is_tensor(leaf) else leaf for leaf in self._call.leaves]
        return self._call.flat(leaves)


def _tensors(leaves: Sequence[Any]) -> list[torch.Tensor]:
    return [leaf for leaf in leaves if torch.is_tensor(leaf)]
