"""The benchmark of the engines runs on small models; the full ones have their known sizes."""

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from benchmarks import __main__ as program
from benchmarks import contenders, engines, engines_report
from benchmarks.full_models import FULL, SMALL, build, describe, flops, forms, open_built, weights
from dreamrelay.engines.devices import Device, choose_device
from dreamrelay.engines.loading import assemble
from dreamrelay.engines.ports import EngineSettings, Progress
from dreamrelay.errors import ClosedError, EngineError

CPU = Device(torch.device("cpu"), torch.float32, "cpu")


def silent(_: str) -> None:
    """Progress that nobody wants to read."""


@pytest.fixture(autouse=True)
def _processor(monkeypatch: pytest.MonkeyPatch) -> None:
    """The small models, on machines with a card too."""
    for module in ("benchmarks.engines", "benchmarks.full_models"):
        monkeypatch.setattr(f"{module}.choose_device", lambda wanted: CPU)


@pytest.mark.parametrize(
    ("name", "unet", "texts"),
    [("sd-turbo", 866, [340]), ("sd-1.5", 860, [123]), ("sdxl-turbo", 2567, [123, 695])],
)
def test_models_have_the_number_of_weights_of_those_that_are_published(
    name: str, unet: int, texts: list[int]
) -> None:
    modules = describe(FULL[name])
    assert round(weights(modules.unet) / 1e6) == unet
    assert [round(weights(text) / 1e6) for text in modules.texts] == texts
    assert weights(modules.vae) == pytest.approx(2.45e6, rel=0.01)
    assert next(modules.unet.parameters()).is_meta


@pytest.mark.parametrize("name", FULL)
def test_the_full_models_are_ones_that_our_engine_takes(name: str) -> None:
    nowhere = Device(torch.device("meta"), torch.float16, "nowhere")
    settings = EngineSettings(model=f"random-weights/{name}", use_lcm_lora=False, offline=True)
    model = assemble(build(FULL[name], nowhere), settings, nowhere, lambda progress: None)
    assert (model.channels, model.scale, model.width, model.height) == (4, 8, 512, 512)
    assert model.tells_size == (name == "sdxl-turbo")
    assert (model.defaults.get("num_inference_steps") == 1) == ("turbo" in name)


def test_a_frame_costs_what_others_have_counted() -> None:
    assert flops(FULL["sd-turbo"], 512) == pytest.approx((804 + 122 + 141) * 1e9, rel=0.01)
    assert flops(FULL["sdxl-turbo"], 512) == pytest.approx((1589 + 263) * 1e9, rel=0.01)


@pytest.mark.parametrize("name", SMALL)
def test_a_model_of_random_weights_paints(name: str) -> None:
    engine = open_built(name, 64)
    engine.load(lambda progress: None)
    frame = np.random.default_rng(1).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    result = engine.infer(frame, 7)
    assert result is not None
    assert result.frame.shape == frame.shape
    assert result.frame.std() > 0
    assert engine.parameters["num_inference_steps"] == 1
    engine.close()


@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")  # diffusers'
def test_a_small_run_has_every_contender_or_its_reason() -> None:
    found = engines.measure(
        1, models=["sd-turbo", "sdxl-turbo"], sizes=[64], thorough=False, say=silent
    )
    json.dumps(found)
    assert not found["full"]
    assert found["card"] is None
    plain, xl = found["cases"].values()
    names = {"ours, none", "ours, sdpa", contenders.PACKAGE, contenders.DIFFUSERS}
    assert set(plain["contenders"]) == names
    assert plain["absent"] == {}
    for row in plain["contenders"].values():
        assert 0 < row["fps_median"] <= row["fps"]
    assert set(xl["contenders"]) == names - {contenders.PACKAGE}
    assert "SDXL" in xl["absent"][contenders.PACKAGE]

    lines = engines_report.table(found).splitlines()
    rows = [line for line in lines if line.startswith("|")]
    assert len(rows) == 2 * 2 + 4 + 3
    assert {row.count("|") for row in rows} == {8}
    [package] = [row for row in rows if row.startswith(f"| {contenders.PACKAGE}")]
    assert package.split("|")[5].strip() == "1.00"
    assert any(line.startswith(f"* {contenders.PACKAGE}: ") for line in lines)


def test_what_fails_is_a_line_and_ends_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(frame: Any) -> None:
        raise RuntimeError("CUDA out\nof memory")

    def prepare(name: str, case: Any, report: Any) -> contenders.Contender:
        if name == "ours, none":
            raise EngineError("is not installed: pip install it")
        paint = fails if name == contenders.PACKAGE else lambda frame: frame
        return contenders.Contender(paint, lambda: None)

    monkeypatch.setattr(engines, "prepare", prepare)
    found = engines.measure(1, models=["sd-1.5"], sizes=[64], thorough=False, say=silent)
    [case] = found["cases"].values()
    assert case["absent"] == {
        "ours, none": "is not installed: pip install it",
        contenders.PACKAGE: "CUDA out of memory",
    }
    assert list(case["contenders"]) == ["ours, sdpa", contenders.DIFFUSERS]


def test_nothing_new_begins_when_the_time_is_over() -> None:
    found = engines.measure(3, models=["sd-turbo"], sizes=[64], seconds=1e-9, say=silent)
    [case] = found["cases"].values()
    assert case["contenders"] == {}
    assert case["pipeline"] == {}
    assert set(case["absent"].values()) == {engines.TOO_LATE}
    assert {"ours, compile", "ours, sdpa"} <= set(case["absent"])
    with pytest.raises(ClosedError, match="no time left"):
        engines.Clock(-1).report(Progress("compiling", "unet"))


def test_a_card_gets_the_full_models_and_what_a_card_can() -> None:
    card = Device(torch.device("cuda", 0), torch.float16, "cuda:0 NVIDIA H200")
    assert forms(card) is FULL
    assert "ours, xformers" in contenders.quick(card)
    assert "ours, tensorrt" in contenders.slow(card)
    assert forms(choose_device("cpu")) is SMALL
    assert "ours, openvino" in contenders.slow(CPU)


def test_engines_is_a_command_of_its_own(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    asked: dict[str, Any] = {}
    kept = json.loads(engines_report.KEPT.read_text(encoding="utf-8"))["engines"]

    def measure(rounds: int, **options: Any) -> dict[str, Any]:
        asked.update(options, rounds=rounds)
        found: dict[str, Any] = kept
        return found

    monkeypatch.setattr(engines, "measure", measure)
    path = tmp_path / "kept.json"
    line = ["engines", "--rounds", "2", "--models", "sd-turbo", "--sizes", "512,256"]
    assert program.main([*line, "--seconds", "9", "--json", str(path)]) == 0
    asked.pop("say")
    wanted = {"rounds": 2, "models": ("sd-turbo",), "sizes": (512, 256), "seconds": 9.0}
    assert asked == wanted
    assert json.loads(path.read_text())["engines"] == kept
    assert "times the package" in capsys.readouterr().out
    for wrong in (["--models", "sd-3"], ["--sizes", "500"], ["--sizes", "big"]):
        with pytest.raises((SystemExit, argparse.ArgumentError)):
            program.main(["engines", *wrong])
        assert "expected" in capsys.readouterr().err


def test_the_page_has_the_figures_that_were_kept() -> None:
    page = engines_report.PAGE.read_text(encoding="utf-8")
    kept = json.loads(engines_report.KEPT.read_text(encoding="utf-8"))
    written = engines_report.page(page, kept)
    assert written == page, "python -m benchmarks.engines_report writes it anew"
