"""Compiling beside the frames: what is taken over and when, and what is said of what goes wrong."""

import queue
import shutil
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from dreamrelay.engines import EngineSettings, beside, build_process, packages, stream_batch
from dreamrelay.engines.accelerate import Call, Over
from dreamrelay.engines.beside import BuiltBeside, Hear, Helper, builds_beside
from dreamrelay.engines.packages import (
    Wanted,
    anatomy,
    build_package,
    is_package,
    load_package,
    wanted,
)
from dreamrelay.engines.ports import Progress
from dreamrelay.engines.stream_batch import StreamBatchEngine
from dreamrelay.errors import ConfigError, EngineError
from dreamrelay.mailbox import Mailbox
from tests.engines.pictures import noise_frame
from tests.engines.tiny_controls import save_guides
from tests.engines.tiny_models import save_lora, save_model, unet

WAIT = 60.0
OF_LIBRARIES = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")
"""Compilers and exporters use what torch itself warns of."""


class Workbench:
    """A second process within this one: it builds when it is told to."""

    def __init__(self) -> None:
        self.asked: list[Wanted] = []
        self.started = self.dismissed = 0
        self.hear: Hear = lambda kind, what: None
        self.at_once = False

    def start(self, hear: Hear) -> "Workbench":
        self.started += 1
        self.hear = hear
        return self

    def ask(self, wanted: Wanted) -> None:
        self.asked.append(wanted)
        if self.at_once:
            self.make(wanted)

    def make(self, wanted: Wanted) -> None:
        wanted.folder.mkdir(parents=True, exist_ok=True)
        (wanted.folder / "form.pt2").touch()
        self.hear("made", wanted)

    def dismiss(self) -> None:
        self.dismissed += 1


@pytest.fixture
def bench(monkeypatch: pytest.MonkeyPatch) -> Workbench:
    """Packages hold nothing: their form is the plain one and 100."""

    def load(call: Call, folder: Path) -> Callable[[Sequence[Any]], Any]:
        if (folder / "form.pt2").stat().st_size:
            raise RuntimeError("broken\nfile")
        return lambda leaves: call.flat(leaves) + 100

    monkeypatch.setattr(beside, "load_package", load)
    return Workbench()


def over(bench: Workbench, place: Path, **options: Any) -> tuple[BuiltBeside, Any]:
    start: Any = bench.start
    acceleration = BuiltBeside("compile", place, ["a processor"], start, **options)
    return acceleration, acceleration.over("unet", lambda x, *, more=0: x * 2 + more)


def silent(progress: Progress) -> None:
    assert progress.stage == "compiling"


def test_the_plain_form_serves_until_the_faster_one_is_taken_over(
    bench: Workbench, tmp_path: Path
) -> None:
    acceleration, part = over(bench, tmp_path)
    assert acceleration.notice == ""
    assert part(torch.ones(2)).tolist() == [2, 2]
    acceleration.finish(silent)
    assert part(torch.ones(2)).tolist() == [2, 2], "nobody waits for it"
    assert len(bench.asked) == 1
    bench.hear("progress", "unet is compiled beside")
    assert acceleration.notice == "compile: unet is compiled beside, 0 s; until then it is slower"
    bench.make(bench.asked[0])
    assert part(torch.ones(2)).tolist() == [2, 2], "not within a frame"
    acceleration.between_frames()
    assert part(torch.ones(2)).tolist() == [102, 102]
    assert bench.dismissed == 1, "its memory is free again"
    assert acceleration.notice == ""
    assert part(torch.ones(3)).tolist() == [2, 2, 2], "another shape is asked for anew"
    assert bench.started == 2
    acceleration.close()


def test_what_was_built_before_serves_from_the_start(bench: Workbench, tmp_path: Path) -> None:
    bench.at_once = True
    for _ in range(2):
        acceleration, part = over(bench, tmp_path)
        part(torch.ones(2))
        acceleration.finish(silent)
        assert part(torch.ones(2)).tolist() == [102, 102]
        acceleration.close()
    assert bench.started == 1


def test_what_it_is_made_last_is_made_in_the_thread_of_the_frames(
    bench: Workbench, tmp_path: Path
) -> None:
    threads: list[str] = []

    def last(call: Call, form: Any) -> Any:
        threads.append(threading.current_thread().name)
        return lambda leaves: form(leaves) + 1000

    acceleration, part = over(bench, tmp_path, last=last)
    part(torch.ones(1))
    listener = threading.Thread(target=lambda: bench.make(bench.asked[0]))
    listener.start()
    listener.join()
    acceleration.between_frames()
    assert threads == [threading.current_thread().name]
    assert part(torch.ones(1)).tolist() == [1102]


def test_what_cannot_be_built_is_a_notice(
    bench: Workbench, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    acceleration, part = over(bench, tmp_path)
    part(torch.ones(1))
    bench.hear("failed", "it could not be built (no such kernel)")
    assert acceleration.notice == (
        "compile: it could not be built (no such kernel); pictures go on without, more slowly"
    )
    assert acceleration.notice in caplog.text
    acceleration.between_frames()
    assert bench.dismissed == 1
    assert part(torch.ones(2)).tolist() == [2, 2]
    assert len(bench.asked) == 1, "it is not tried again"


def test_no_second_process_is_a_notice(bench: Workbench, tmp_path: Path) -> None:
    def start(hear: Hear) -> Any:
        raise OSError(12, "Cannot allocate memory")

    acceleration = BuiltBeside("compile", tmp_path, [], start)
    assert acceleration.over("unet", torch.neg)(torch.ones(1)).tolist() == [-1]
    assert "no second process can be started ([Errno 12] Cannot" in acceleration.notice


def test_a_broken_package_is_left_alone(
    bench: Workbench, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    _, part = over(bench, tmp_path)
    part(torch.ones(1))
    bench.make(bench.asked[0])
    (bench.asked[0].folder / "form.pt2").write_bytes(b"half of it")
    other, its_part = over(bench, tmp_path)
    its_part(torch.ones(1))
    other.finish(silent)
    assert its_part(torch.ones(1)).tolist() == [2]
    assert "what was built of unet is of no use (broken file)" in caplog.text
    assert not is_package(bench.asked[0].folder), "the next start builds it anew"


def test_of_many_the_newest_wait(bench: Workbench, tmp_path: Path) -> None:
    acceleration, part = over(bench, tmp_path)
    for size in range(1, beside.MOST_WAITING + 3):
        part(torch.ones(size))
    assert len(bench.asked) == beside.MOST_WAITING + 2
    for asked in bench.asked:
        bench.make(asked)
    for _ in bench.asked:
        acceleration.between_frames()
    assert part(torch.ones(2)).tolist() == [2, 2], "that was given up"
    assert part(torch.ones(3)).tolist() == [102] * 3
    acceleration.between_frames()
    assert part(torch.ones(2)).tolist() == [102] * 2, "but it was built, and is asked for again"


def test_closing_ends_the_second_process(bench: Workbench, tmp_path: Path) -> None:
    acceleration, part = over(bench, tmp_path)
    part(torch.ones(1))
    assert acceleration.building
    acceleration.close()
    acceleration.close()
    assert bench.dismissed == 1
    assert not acceleration.building
    assert part(torch.ones(2)).tolist() == [2, 2]
    assert len(bench.asked) == 1


def test_a_form_is_named_by_all_that_it_depends_on(tmp_path: Path) -> None:
    net = torch.nn.Sequential(torch.nn.Conv2d(2, 2, 1))
    other = torch.nn.Sequential(torch.nn.Conv2d(2, 2, 1, bias=False))

    def folder(
        net: Any = net, *, name: str = "decoder", pixels: Any = None, fact: str = ""
    ) -> Path:
        picture = torch.zeros(1, 2, 8, 8) if pixels is None else pixels
        leaves, spec = torch.utils._pytree.tree_flatten(((picture,), {"scale": 2.0}))
        call = Call(name, Over(net, lambda net, x, scale: net(x)), leaves, spec)
        return wanted(call, (anatomy(call), fact), tmp_path).folder

    last = torch.zeros(1, 8, 8, 2).permute(0, 3, 1, 2)
    names = [
        folder(),
        folder(other),
        folder(name="unet"),
        folder(pixels=torch.zeros(1, 2, 8, 16)),
        folder(pixels=last),
        folder(pixels=torch.zeros(1, 2, 8, 8, dtype=torch.bfloat16)),
        folder(fact="another card"),
    ]
    assert len(set(names)) == len(names)
    with torch.no_grad():
        net[0].weight.add_(1)
    assert folder() == names[0], "weights are lent to it, so they do not count"


@pytest.mark.parametrize(
    ("warmup", "platform", "expected"),
    [
        ("auto", "linux", True),
        ("auto", "win32", False),
        ("background", "win32", True),
        ("start", "linux", False),
    ],
)
def test_when_it_compiles(
    monkeypatch: pytest.MonkeyPatch, warmup: str, platform: str, expected: bool
) -> None:
    monkeypatch.setattr("sys.platform", platform)
    assert builds_beside(warmup) is expected


def test_another_time_is_refused() -> None:
    settings = EngineSettings(acceleration="compile", device="cpu", compile_warmup="later")
    with pytest.raises(ConfigError, match="expected one of auto, background, start, got 'later'"):
        StreamBatchEngine(settings)


# The second process -----------------------------------------------------------------------------


def some_wanted() -> Wanted:
    leaves, spec = torch.utils._pytree.tree_flatten(((torch.ones(2),), {"more": None}))
    return wanted(Call("unet", torch.neg, leaves, spec), (), Path("a") / "place")


@pytest.mark.parametrize(
    ("does", "last"),
    [
        ("makes", ("made", None)),
        ("fails", ("failed", "it could not be built (no such kernel)")),
        ("dies", ("gone", "the second process ended with 3")),
    ],
)
def test_what_the_second_process_says(does: str, last: tuple[str, Any]) -> None:
    said: Mailbox[tuple[tuple[str, Any], ...]] = Mailbox(lambda old, new: old + new)

    def hear(kind: str, what: Any) -> None:
        said.put(((kind, what),))

    helper = Helper(EngineSettings(model=does), hear, "tests.fakes.builder")
    try:
        ask = some_wanted()
        helper.ask(ask)
        heard: tuple[tuple[str, Any], ...] = ()
        while len(heard) < 2:
            heard += said.take(WAIT) or (("nothing", ""),)
        expected = last[0], last[1] or ask
        assert heard == (("progress", "unet is compiled beside"), expected)
    finally:
        helper.dismiss()
        helper.dismiss()
    assert not said.statistics().waiting


def test_the_second_process_is_ended_whatever_it_is_at() -> None:
    heard = threading.Event()
    helper = Helper(EngineSettings(model="hangs"), lambda *_: heard.set(), "tests.fakes.builder")
    helper.ask(some_wanted())
    assert heard.wait(WAIT)
    helper.dismiss()
    assert not any(thread.name == "builder" for thread in threading.enumerate())


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_model(tmp_path_factory.mktemp("beside") / "model", "sd15", "tiny")


class Enough(Exception):
    """The test has seen what it wanted."""


@OF_LIBRARIES
def test_the_second_process_has_the_parts_that_are_asked_for(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench, engine = engine_beside(folder, monkeypatch, tmp_path)
    built: list[Call] = []
    said: list[tuple[str, Any]] = []

    def build(call: Call, where: Path) -> None:
        call.flat(call.leaves)  # a part of that form can be called
        built.append(call)

    monkeypatch.setattr(build_process, "build_package", build)
    asked: queue.LifoQueue[Wanted] = queue.LifoQueue()
    for one in bench.asked:
        asked.put(one)

    def tell(kind: str, what: Any) -> None:
        said.append((kind, what))
        if len(built) == len(bench.asked):
            raise Enough

    with pytest.raises(Enough):
        build_process._build(bench.settings, asked, tell)
    assert sorted(call.name for call in built) == ["decoder", "encoder", "unet", "unet"]
    assert said[0] == ("progress", "the second process loads: tokenizer")
    assert ("made", bench.asked[-1]) in said
    engine.close()


# Packages ----------------------------------------------------------------------------------------


class Small(torch.nn.Module):  # type: ignore[misc]
    """With weights so few that they might be taken for numbers in the code."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.conv = torch.nn.Conv2d(2, 2, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        said: torch.Tensor = self.conv(x)
        return said


def small_call(net: torch.nn.Module) -> Call:
    leaves, spec = torch.utils._pytree.tree_flatten(((torch.randn(1, 2, 8, 8),), {"more": None}))
    return Call("decoder", Over(net, lambda net, x, more: net(x)), leaves, spec)


@OF_LIBRARIES
@pytest.mark.skipif(
    not any(map(shutil.which, ("g++", "clang++", "cl"))), reason="there is no C++ compiler"
)
@pytest.mark.timeout(900)
def test_a_package_says_what_its_part_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path / "inductor"))
    monkeypatch.setenv("TORCHINDUCTOR_COMPILE_THREADS", "1")
    # Half a minute of a compiler's work less; it is slow enough on a busy machine.
    monkeypatch.setattr("torch._inductor.config.cpp_cache_precompile_headers", False)
    monkeypatch.setattr("torch._inductor.config.aot_inductor.compile_wrapper_opt_level", "O0")
    monkeypatch.setattr("torch._inductor.config.cpp.vec_isa_ok", False)
    place = tmp_path / "compiled" / "decoder"
    build_package(small_call(Small().requires_grad_(False)), place)
    assert is_package(place)
    assert [path.name for path in place.parent.iterdir()] == ["decoder"]
    net = Small().requires_grad_(False)
    call = small_call(net)
    form = load_package(call, place)
    last = torch.randn(1, 8, 8, 2).permute(0, 3, 1, 2)
    for picture in (torch.randn(1, 2, 8, 8), last):
        torch.testing.assert_close(form([picture, None]), net(picture))
    before = form(call.leaves)
    with torch.no_grad():
        net.conv.weight.mul_(2)
        net.conv.bias.add_(1)
    assert (form(call.leaves) - before).abs().max() > 0.1
    torch.testing.assert_close(form(call.leaves), call.flat(call.leaves))
    (place / "form.pt2").write_bytes(b"half of it")
    with pytest.raises((RuntimeError, OSError, ValueError)):
        load_package(call, place)


def test_a_row_that_stands_for_several_is_asked_for_as_several(tmp_path: Path) -> None:
    """As SDXL is told its size: memory like that can be read, and not be filled."""
    sizes = torch.tensor([[64.0, 64, 0, 0, 64, 64]]).expand(2, -1)
    leaves, spec = torch.utils._pytree.tree_flatten(((sizes,), {}))
    call = Call("unet", lambda x: x + 1, leaves, spec)
    ask = wanted(call, [], tmp_path)
    (example,) = ask.call(call.run, torch.device("cpu")).leaves
    assert example.shape == (2, 6)
    assert example.is_contiguous()
    laid_out = packages._laid_out(sizes, ask.leaves[0])
    assert laid_out.stride() == example.stride()
    torch.testing.assert_close(laid_out, sizes)


@OF_LIBRARIES
def test_a_package_that_is_wrong_is_not_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    call = small_call(Small().requires_grad_(False))

    class Compiler:
        """It makes nothing of it."""

        @staticmethod
        def aoti_compile_and_package(*args: Any, **options: Any) -> None:
            pass

    monkeypatch.setattr(packages, "inductor", Compiler)
    monkeypatch.setattr(packages, "load_package", lambda c, f: lambda leaves: c.flat(leaves) + 9)
    with pytest.raises(EngineError, match="what was compiled of decoder says something else"):
        build_package(call, tmp_path / "decoder")
    assert not list(tmp_path.iterdir())


@OF_LIBRARIES
def test_a_part_with_numbers_in_its_code_is_not_compiled(tmp_path: Path) -> None:
    leaves, spec = torch.utils._pytree.tree_flatten(((torch.ones(2),), {}))
    call = Call("decoder", lambda x: x * torch.tensor([2.0, 3.0]), leaves, spec)
    with pytest.raises(EngineError, match="decoder has numbers in its code"):
        build_package(call, tmp_path / "decoder")
    assert not list(tmp_path.iterdir())


# In the engine -----------------------------------------------------------------------------------


def engine_beside(
    folder: Path, monkeypatch: pytest.MonkeyPatch, cache: Path, **settings: Any
) -> tuple[Any, StreamBatchEngine]:
    """An engine whose packages are its plain parts, built by a bench."""
    bench: Any = Workbench()

    def helper(settings: EngineSettings, hear: Hear) -> Workbench:
        bench.settings = settings
        return Workbench.start(bench, hear)

    def load_marked(call: Call, folder: Path) -> Any:
        def form(leaves: Sequence[Any]) -> Any:
            bench.fast = [*getattr(bench, "fast", []), call.name]
            return call.flat(leaves)

        return form

    monkeypatch.setenv("DREAMRELAY_CACHE", str(cache))
    monkeypatch.setattr(stream_batch, "choose", lambda name, device: name)
    monkeypatch.setattr(stream_batch, "Helper", helper)
    monkeypatch.setattr(beside, "load_package", load_marked)
    return bench, load(folder, "compile", compile_warmup="background", **settings)


def load(folder: Path, acceleration: str, **settings: Any) -> StreamBatchEngine:
    given = {"parameters": {"num_inference_steps": 2}, "precision": "float32", **settings}
    engine = StreamBatchEngine(
        EngineSettings(
            model=str(folder), device="cpu", acceleration=acceleration, offline=True, **given
        )
    )
    engine.load(lambda progress: None)
    return engine


def alike(engine: StreamBatchEngine, plain: StreamBatchEngine, at: int) -> None:
    frame = noise_frame(at, engine.width, engine.height)
    result, expected = engine.infer(frame, at), plain.infer(frame, at)
    assert result is not None
    assert expected is not None
    assert np.abs(result.frame.astype(int) - expected.frame).max() <= 1


def test_frames_keep_flowing_and_are_the_same(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lora = save_lora(tmp_path / "ink.safetensors", unet("sd15"), scale=0.2)
    options: dict[str, Any] = {"loras": {str(lora): 0.5}}
    bench, engine = engine_beside(folder, monkeypatch, tmp_path / "cache", **options)
    plain = load(folder, "none", **options)
    assert engine.notice.startswith("compile: a second process starts")
    assert bench.settings.compile_warmup == "start"
    assert bench.settings.engine == "stream-batch"
    for at in range(2):
        alike(engine, plain, at)
    assert not hasattr(bench, "fast")
    for asked in list(bench.asked):
        bench.make(asked)
    for at in range(2, 7):
        alike(engine, plain, at)
    assert engine.notice == ""
    assert set(bench.fast) == {"encoder", "unet", "decoder"}
    for patch in ({"loras": [{"name": "ink", "scale": 1.0}]}, {"width": 96}):
        for one in (engine, plain):
            one.apply(patch)
        for at in range(7, 10):
            alike(engine, plain, at)
    assert bench.started == 2, "the new size is built as well"
    assert "compile" in engine.notice
    engine.close()
    assert bench.dismissed == 2


def test_what_is_built_beside_goes_first_where_memory_lacks(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench, engine = engine_beside(folder, monkeypatch, tmp_path)
    said = engine._make_do()
    assert said == "nothing is compiled beside, which takes less memory"
    assert bench.dismissed == 1
    assert engine._make_do() != said
    alike(engine, load(folder, "none"), 0)


@pytest.fixture(autouse=True)
def no_compiler_is_needed(monkeypatch: pytest.MonkeyPatch) -> None:
    """To import the real one takes seconds."""
    monkeypatch.setattr(beside, "inductor", lambda: None)


@OF_LIBRARIES
@pytest.mark.timeout(900)
def test_the_second_process_can_export_all_parts_of_sdxl_with_a_guide(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With torch's own exporter, which is asked in the way of the second process; not compiled."""
    folder = save_model(tmp_path / "model", "sdxl", "full")
    guides = save_guides(folder)
    options = {
        "controlnets": guides["controlnets"],
        "parameters": {"num_inference_steps": 2, "controlnet_mode": "canny"},
    }
    bench, engine = engine_beside(folder, monkeypatch, tmp_path / "cache", **options)
    engine.infer(noise_frame(0, engine.width, engine.height), 0)
    exported: list[str] = []

    class Compiler:
        @staticmethod
        def aoti_compile_and_package(program: Any, **options: Any) -> None:
            assert not program.constants

    monkeypatch.setattr(packages, "inductor", Compiler)
    monkeypatch.setattr(packages, "load_package", lambda call, folder: call.flat)
    parts, device = StreamBatchEngine(bench.settings).load_parts(lambda progress: None)
    newest: dict[str, Wanted] = {ask.part: ask for ask in bench.asked}  # for both steps at once
    for ask in newest.values():
        build_package(ask.call(parts[ask.part], device), ask.folder)
        exported.append(ask.part)
    assert set(exported) == {"unet", "encoder", "decoder", "ControlNet for canny"}
    engine.close()
