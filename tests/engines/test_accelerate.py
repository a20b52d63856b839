"""Accelerations: what a name stands for, and forms that are built while the plain one serves."""

import sys
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from dreamrelay.engines import EngineSettings, accelerate, stream_batch, tensorrt
from dreamrelay.engines.accelerate import (
    Acceleration,
    Call,
    Over,
    choose,
    compiling,
    with_openvino,
)
from dreamrelay.engines.ports import Progress
from dreamrelay.engines.stream_batch import StreamBatchEngine
from dreamrelay.engines.tensorrt import building, engine_key
from dreamrelay.errors import ClosedError, ConfigError, EngineError, ParameterError
from tests.engines.pictures import noise_frame
from tests.engines.tiny_models import save_lora, save_model, unet

CPU, CUDA, MPS = torch.device("cpu"), torch.device("cuda"), torch.device("mps")
WAIT = 60.0
OF_LIBRARIES = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")
"""Compilers and exporters use what torch itself warns of."""


def having(monkeypatch: pytest.MonkeyPatch, *packages: str) -> None:
    """Make it look as if exactly these packages were installed."""
    there = {"find_spec": lambda name: object() if name in packages else None}
    monkeypatch.setattr(accelerate, "find_spec", there["find_spec"])


# Names -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("wanted", "device", "chosen"),
    [
        ("none", CPU, "none"),
        ("sdpa", MPS, "sdpa"),
        ("auto", CPU, "sdpa"),
        ("auto", MPS, "sdpa"),
        ("auto", CUDA, "sdpa"),
        ("sfast", CUDA, "compile"),
        ("trt", CUDA, "tensorrt"),
        ("xformers", CUDA, "xformers"),
        ("graphs", CUDA, "graphs"),
        ("openvino", CPU, "openvino"),
    ],
)
def test_what_a_name_stands_for(
    monkeypatch: pytest.MonkeyPatch, wanted: str, device: torch.device, chosen: str
) -> None:
    having(monkeypatch, "triton", "torch_tensorrt", "xformers", "openvino")
    assert choose(wanted, device) == chosen


@pytest.mark.parametrize(
    ("wanted", "device", "text"),
    [
        (
            "warp",
            CPU,
            "expected one of auto, none, sdpa, xformers, compile, graphs, tensorrt, openvino",
        ),
        ("xformers", CPU, "xformers needs a CUDA card, and this runs on cpu; auto takes the best"),
        ("xformers", CUDA, "pip install xformers, or choose sdpa"),
        ("trt", CUDA, "trt is not installed: pip install torch-tensorrt==2"),
        ("tensorrt", CPU, "needs a CUDA card"),
        ("graphs", CPU, "graphs needs a CUDA card, and this runs on cpu"),
        ("openvino", CPU, "pip install openvino"),
        ("openvino", CUDA, "is for the processor, and this runs on cuda"),
        ("compile", CUDA, "needs triton: pip install triton"),
        ("compile", MPS, "choose sdpa"),
    ],
)
def test_what_cannot_work_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch, wanted: str, device: torch.device, text: str
) -> None:
    having(monkeypatch)
    with pytest.raises(ConfigError, match="acceleration: ") as caught:
        choose(wanted, device)
    assert text in str(caught.value)
    assert "\n" not in str(caught.value)


def test_compile_needs_a_compiler(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shutil.which", lambda name: None)
    with pytest.raises(ConfigError, match=r"needs a C\+\+ compiler"):
        choose("compile", CPU)


# Forms -------------------------------------------------------------------------------------------


class Workshop:
    """A builder that builds when it is told to."""

    def __init__(self) -> None:
        self.calls: list[Call] = []
        self.open = threading.Event()
        self.open.set()
        self.error: Exception | None = None

    def __call__(self, call: Call) -> Callable[[Sequence[Any]], Any]:
        assert self.open.wait(WAIT)
        if self.error is not None:
            raise self.error
        self.calls.append(call)
        return lambda leaves: call.flat(leaves) + 100


def silent(progress: Progress) -> None:
    assert progress.stage == "compiling"


def test_the_faster_form_is_taken_for_the_shapes_it_was_built_for() -> None:
    workshop = Workshop()
    acceleration = Acceleration("compile", workshop)
    part = acceleration.over("unet", lambda x, *, added: x * 2 + added["more"])
    one, other = {"more": torch.ones(2)}, {"more": torch.ones(3)}
    for _ in range(2):
        assert part(torch.zeros(2), added=one).tolist() == [1, 1]
    assert part(torch.zeros(3), added=other).tolist() == [1, 1, 1]
    assert workshop.calls == [], "nothing is built while frames are computed"
    acceleration.finish(silent)
    assert part(torch.ones(2), added=one).tolist() == [103, 103]
    assert part(torch.ones(3), added=other).tolist() == [103, 103, 103]
    assert len(workshop.calls) == 2, "each is built once"
    more = {"more": torch.ones(4)}
    assert part(torch.ones(4), added=more).tolist() == [3, 3, 3, 3], "plain, at once"
    assert part(torch.ones(2), added=one).tolist() == [103, 103]


def test_what_is_built_has_arguments_of_its_own() -> None:
    workshop = Workshop()
    acceleration = Acceleration("compile", workshop)
    memory = torch.ones(2)
    acceleration.over("unet", torch.neg)(memory)
    memory.zero_()
    acceleration.finish(silent)
    assert workshop.calls[0].leaves[0].tolist() == [1, 1]


def test_what_cannot_be_built_is_said() -> None:
    workshop = Workshop()
    workshop.error = RuntimeError("no such\nkernel")
    acceleration = Acceleration("tensorrt", workshop)
    acceleration.over("unet", torch.neg)(torch.ones(1))
    with pytest.raises(EngineError, match=r"tensorrt could not be built \(no such kernel\)"):
        acceleration.finish(silent)


def test_building_can_be_stopped_and_closing_waits_for_it() -> None:
    workshop = Workshop()
    workshop.open.clear()
    acceleration = Acceleration("tensorrt", workshop)
    part = acceleration.over("unet", torch.neg)
    part(torch.ones(1))
    part(torch.ones(2))

    def stop(progress: Progress) -> None:
        assert "tensorrt: unet, 0 s" in progress.text
        raise ClosedError("stopped")

    with pytest.raises(ClosedError):
        acceleration.finish(stop)
    threading.Timer(0.05, workshop.open.set).start()
    acceleration.close()
    assert len(workshop.calls) == 1, "what was only wanted is not built"
    assert not any(thread.name == "acceleration" for thread in threading.enumerate())
    acceleration.close()


# Builders ----------------------------------------------------------------------------------------


def small() -> torch.nn.Module:
    torch.manual_seed(0)
    layers = torch.nn.Conv2d(2, 4, 3, padding=1), torch.nn.SiLU(), torch.nn.Conv2d(4, 2, 1)
    return torch.nn.Sequential(*layers).eval().requires_grad_(False)


@OF_LIBRARIES
@pytest.mark.parametrize("backend", ["eager", "aot_eager", "inductor"])
def test_torch_compile_says_the_same(
    backend: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path))
    monkeypatch.setenv("TORCHINDUCTOR_COMPILE_THREADS", "1")
    acceleration = Acceleration("compile", compiling(CPU, backend))
    part = acceleration.over("decoder", Over(small(), lambda net, x, scale: net(x) * scale))
    with torch.inference_mode():
        picture = torch.randn(1, 2, 8, 8)
        plain = part(picture, scale=2.0)
        acceleration.finish(silent)
        torch.testing.assert_close(part(picture, scale=2.0), plain)
        other = torch.randn(1, 2, 8, 8)
        torch.testing.assert_close(part(other, scale=2.0), part(other, scale=1.0) * 2)


@OF_LIBRARIES
def test_openvino_says_the_same() -> None:
    acceleration = Acceleration("openvino", with_openvino(exact=True))
    net = unet("sd15").eval().requires_grad_(False)

    def call(net: Any, rows: Any, at: Any, **options: Any) -> Any:
        return net(rows, at, **options, return_dict=False)[0]

    part = acceleration.over("unet", Over(net, call))
    options = {"encoder_hidden_states": torch.randn(2, 77, 32), "added_cond_kwargs": None}
    with torch.inference_mode():
        rows, at = torch.randn(2, 4, 8, 8), torch.tensor([999, 500])
        plain = part(rows, at, **options)
        acceleration.finish(silent)
        torch.testing.assert_close(part(rows, at, **options), plain, rtol=1e-3, atol=1e-4)
        assert (part(rows + 1, at, **options) - plain).abs().max() > 1e-3


class FakeTensorRT:
    """What of torch_tensorrt is used, by its documented names."""

    def __init__(self) -> None:
        self.built = 0
        self.dynamo = SimpleNamespace(compile=self.compile)
        self.kept: dict[str, Any] = {}

    def compile(self, exported: Any, *, arg_inputs: Any, min_block_size: int) -> Any:
        self.built += 1
        assert all(map(torch.is_tensor, arg_inputs))
        return exported.module()

    def save(self, program: Any, path: str, *, arg_inputs: Any, retrace: bool) -> None:
        Path(path).write_bytes(b"engine")
        self.kept["last"] = program

    def load(self, path: str) -> Any:
        if Path(path).read_bytes() != b"engine":
            raise RuntimeError("broken")
        return SimpleNamespace(module=lambda: self.kept["last"])


@pytest.fixture
def library(monkeypatch: pytest.MonkeyPatch) -> FakeTensorRT:
    fake = FakeTensorRT()
    monkeypatch.setitem(sys.modules, "torch_tensorrt", fake)
    return fake


def built_with_tensorrt(folder: Path, net: torch.nn.Module, pixels: int = 8) -> Any:
    build = building("a/model", {"ink": 0.5}, "a card", folder)
    acceleration = Acceleration("tensorrt", build)
    part = acceleration.over("decoder", Over(net, lambda net, x: net(x)))
    with torch.inference_mode():
        picture = torch.randn(1, 2, pixels, pixels)
        plain = part(picture)
        acceleration.finish(silent)
        torch.testing.assert_close(part(picture), plain)


@OF_LIBRARIES
def test_engines_of_tensorrt_are_kept(library: FakeTensorRT, tmp_path: Path) -> None:
    net = small()
    built_with_tensorrt(tmp_path, net)
    built_with_tensorrt(tmp_path, net)
    assert library.built == 1
    built_with_tensorrt(tmp_path, net, pixels=16)
    assert library.built == 2
    for path in tmp_path.glob("*.ep"):
        path.write_bytes(b"half of it")
    built_with_tensorrt(tmp_path, net)
    assert library.built == 3, "what cannot be read is built anew"
    assert not list(tmp_path.glob("*.part"))


@OF_LIBRARIES
def test_a_full_disk_costs_only_the_keeping(
    library: FakeTensorRT,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    def full(*args: Any, **options: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(library, "save", full)
    built_with_tensorrt(tmp_path, small())
    assert "the engine was not kept" in caplog.text


def test_an_engine_is_named_by_all_that_it_depends_on(monkeypatch: pytest.MonkeyPatch) -> None:
    net = small()

    def key(
        model: str = "a/model",
        scale: float = 0.5,
        card: str = "a card",
        pixels: int = 8,
        part: str = "decoder",
    ) -> str:
        leaves, spec = torch.utils._pytree.tree_flatten(((torch.zeros(1, 2, pixels, pixels),), {}))
        call = Call(part, Over(net, lambda net, x: net(x)), leaves, spec)
        return engine_key(call, model, {"ink": scale}, card)

    keys = [key(), key(model="b"), key(scale=0.6), key(card="b"), key(pixels=16), key(part="unet")]
    assert key() == keys[0]
    with torch.no_grad():
        net[0].weight[0, 0, 0, 0] += 1
    keys.append(key())
    monkeypatch.setattr(tensorrt, "_version", lambda name: "another")
    keys.append(key())
    assert len(set(keys)) == len(keys)


# In the engine -----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_model(tmp_path_factory.mktemp("accelerate") / "model", "sd15", "full")


def load(folder: Path, acceleration: str, **settings: Any) -> StreamBatchEngine:
    engine = StreamBatchEngine(
        EngineSettings(
            model=str(folder), device="cpu", acceleration=acceleration, offline=True, **settings
        )
    )
    engine.load(lambda progress: None)
    return engine


def test_all_parts_are_built_at_the_start(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    names: list[str] = []

    def build(call: Call) -> Any:
        names.append(call.name)
        return lambda leaves: call.flat(leaves)

    monkeypatch.setattr(stream_batch, "compiling", lambda device: build)
    monkeypatch.setattr(stream_batch, "choose", lambda name, device: name)
    parameters = {"num_inference_steps": 2}
    options: dict[str, Any] = {"precision": "float32", "compile_warmup": "start"}
    engine = load(folder, "compile", parameters=parameters, **options)
    plain = load(folder, "none", parameters=parameters)
    # The first frame goes through one step after the other, those after it in a batch of two.
    assert sorted(names) == ["decoder", "encoder", "unet", "unet"]
    for at, frame in enumerate(map(noise_frame, range(4))):
        if at == 3:
            engine.apply({"num_inference_steps": 3})
            plain.apply({"num_inference_steps": 3})
        result, expected = engine.infer(frame, at), plain.infer(frame, at)
        assert result is not None
        assert expected is not None
        np.testing.assert_array_equal(result.frame, expected.frame)
    assert len(names) == 4


def test_a_form_that_holds_the_weights_has_no_live_loras(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stream_batch, "with_openvino", lambda exact: lambda call: call.flat)
    lora = save_lora(tmp_path / "ink.safetensors", unet("sd15"), scale=0.1)
    options: dict[str, Any] = {"loras": {str(lora): 0.5}, "precision": "float32"}
    engine, plain = load(folder, "openvino", **options), load(folder, "none", **options)
    one, other = (e.infer_once(noise_frame(5), {"strength": 0.8}) for e in (engine, plain))
    assert np.abs(one.astype(int) - other).max() <= 1
    assert "loras" not in engine.schema()["properties"], "they are in what was built"
    with pytest.raises(ParameterError, match="what openvino has built holds its LoRAs"):
        engine.apply({"loras": []})


def test_a_lora_is_fused_at_each_change_where_the_model_is_compiled(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stream_batch, "compiling", lambda device: lambda call: call.flat)
    monkeypatch.setattr(stream_batch, "choose", lambda name, device: name)
    lora = save_lora(tmp_path / "ink.safetensors", unet("sd15"), scale=0.2)
    options: dict[str, Any] = {"loras": {str(lora): 0.5}, "precision": "float32"}
    options["compile_warmup"] = "start"
    engine, plain = load(folder, "compile", **options), load(folder, "none", **options)
    for scale in (0.5, 1.0, 0.2):
        patch = {"loras": [{"name": "ink", "scale": scale}], "strength": 0.9}
        one, other = (e.infer_once(noise_frame(5), patch) for e in (engine, plain))
        assert np.abs(one.astype(int) - other).max() <= 1
        assert engine.model.loras.fused


def test_the_precision_can_be_named(folder: Path) -> None:
    assert load(folder, "none", precision="bfloat16").model.unet.dtype is torch.bfloat16
    assert load(folder, "sdpa", precision="float32").model.unet.dtype is torch.float32
    for precision, text in (
        ("float16", "no processor computes in float16"),
        ("int8", "expected one"),
    ):
        with pytest.raises(ConfigError, match=text):
            StreamBatchEngine(EngineSettings(device="cpu", precision=precision))
