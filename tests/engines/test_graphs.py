"""CUDA graphs of a model's parts; the card is a stand-in, see fakes/cuda.py."""

import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from dreamrelay.engines import stream_batch
from dreamrelay.engines.accelerate import Acceleration, Call, Over
from dreamrelay.engines.graphs import Graphs
from dreamrelay.engines.ports import EngineSettings, Progress
from dreamrelay.engines.stream_batch import StreamBatchEngine
from tests.engines.pictures import noise_frame
from tests.engines.tiny_models import Kind, save_lora, save_model, unet
from tests.fakes import cuda

CUDA = torch.device("cuda", 0)


def silent(progress: Progress) -> None:
    pass


@pytest.fixture
def card(monkeypatch: pytest.MonkeyPatch) -> Iterator[cuda.Card]:
    with cuda.installed(monkeypatch, lazy=False) as card:
        yield card


@pytest.fixture
def inference() -> Iterator[None]:
    with torch.inference_mode():
        yield


def small() -> torch.nn.Module:
    torch.manual_seed(0)
    layers = torch.nn.Conv2d(2, 4, 3, padding=1), torch.nn.SiLU(), torch.nn.Conv2d(4, 2, 1)
    return torch.nn.Sequential(*layers).eval().requires_grad_(False)


def part_of(net: torch.nn.Module, build: Any = None) -> Any:
    """A part that was called with pictures of 8x8, and built."""
    acceleration = Acceleration("graphs", build or Graphs(CUDA))
    part = acceleration.over("decoder", Over(net, lambda net, x, more=None: net(x)))
    with torch.inference_mode():
        part(torch.randn(1, 2, 8, 8))
    acceleration.finish(silent)
    return part


# A part ------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("inference")
def test_a_graph_says_what_the_part_says(card: cuda.Card) -> None:
    net = small()
    part = part_of(net)
    assert len(card.graphs) == 1
    card.log.clear()
    pictures = [torch.randn(1, 2, 8, 8) for _ in range(3)]
    said = [part(picture) for picture in pictures]
    assert card.log == ["replay"] * 3
    for picture, one in zip(pictures, said, strict=True):
        torch.testing.assert_close(one, net(picture))  # what was said first is not written over


@pytest.mark.usefixtures("inference")
def test_other_shapes_are_plain(card: cuda.Card) -> None:
    net = small()
    part = part_of(net)
    card.log.clear()
    picture = torch.randn(1, 2, 16, 8)
    torch.testing.assert_close(part(picture), net(picture))
    torch.testing.assert_close(part(picture[:, :, :8], more=1), net(picture[:, :, :8]))
    assert card.log == []
    assert len(card.graphs) == 1


@pytest.mark.usefixtures("inference")
def test_weights_that_change_in_place_act(card: cuda.Card) -> None:
    net: Any = small()
    part = part_of(net)
    picture = torch.randn(1, 2, 8, 8)
    before = part(picture)
    net[0].weight.mul_(2)
    assert (part(picture) - before).abs().max() > 1e-3
    torch.testing.assert_close(part(picture), net(picture))


def test_recording_waits_for_what_came_before_and_is_waited_for(card: cuda.Card) -> None:
    part_of(small())
    assert card.log[:2] == ["copying 1 waits for computing", "computing waits for copying 1"]
    assert card.current is card.default


@pytest.mark.usefixtures("inference")
def test_what_another_builder_built_is_recorded(card: cuda.Card) -> None:
    net = small()

    def doubling(call: Call) -> Any:
        return lambda leaves: call.flat(leaves) * 2

    part = part_of(net, Graphs(CUDA, doubling))
    picture = torch.randn(1, 2, 8, 8)
    torch.testing.assert_close(part(picture), net(picture) * 2)
    assert card.log[-1] == "replay"


# What goes wrong ---------------------------------------------------------------------------------


class Asking(torch.nn.Module):  # type: ignore[misc]
    """It looks at what it computes, which a graph cannot."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x * 2 if x.sum().item() > 1e9 else x * 3


class Remembering(torch.nn.Module):  # type: ignore[misc]
    """It computes with a number that a graph does not see change."""

    calls = 0

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.calls += 1
        return x * self.calls


@pytest.mark.parametrize(
    ("net", "refuses", "miscounts", "text"),
    [
        (small(), "CUDA error: operation failed\ndue to", 0.0, "(CUDA error: operation failed due"),
        (small(), "", 0.5, "(it is off by 0.5, where values reach"),
        (small(), "", float("nan"), "(it is off by nan"),
        (Asking(), "", 0.0, "not permitted when stream is capturing"),
        (Remembering(), "", 0.0, "it is off by"),
    ],
)
@pytest.mark.usefixtures("inference")
def test_what_cannot_be_recorded_stays_plain(
    card: cuda.Card,
    caplog: pytest.LogCaptureFixture,
    net: torch.nn.Module,
    refuses: str,
    miscounts: float,
    text: str,
) -> None:
    card.refuses_graphs, card.miscounts = refuses, miscounts
    part = part_of(net)
    (record,) = caplog.records
    assert record.levelno == logging.WARNING
    assert record.getMessage().startswith("graphs: decoder is called without a CUDA graph (")
    assert text in record.getMessage()
    card.log.clear()
    if not isinstance(net, Remembering):
        picture = torch.randn(1, 2, 8, 8)
        torch.testing.assert_close(part(picture), net(picture))
    assert card.log == []


# In the engine -----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_model(tmp_path_factory.mktemp("graphs") / "model", "sd15", "full")


def load(folder: Path, acceleration: str, **settings: Any) -> StreamBatchEngine:
    engine = StreamBatchEngine(
        EngineSettings(
            model=str(folder),
            device="cpu",
            acceleration=acceleration,
            precision="float32",
            offline=True,
            **settings,
        )
    )
    engine.load(silent)
    return engine


@pytest.mark.parametrize("cfg_type", ["none", "full", "self", "initialize"])
def test_one_graph_round_the_whole_frame_makes_the_same_pictures(
    card: cuda.Card,
    folder: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    cfg_type: str,
) -> None:
    lora = save_lora(tmp_path / "ink.safetensors", unet("sd15"), scale=0.2)
    parameters = {"num_inference_steps": 2, "cfg_type": cfg_type, "guidance_scale": 1.4}
    options: dict[str, Any] = {"loras": {str(lora): 0.5}, "parameters": parameters}
    plain = load(folder, "none", **options)
    monkeypatch.setattr(stream_batch, "choose", lambda name, device: name)
    engine = load(folder, "graphs", **options)
    assert not [record for record in caplog.records if "without a CUDA graph" in record.message]
    # Encoder, decoder, one step and two; and round them all. The first of two steps by themselves
    # has the negative prompt's row with it, the second has not.
    recorded = 6 if cfg_type == "initialize" else 5
    assert len(card.graphs) == recorded
    card.log.clear()
    patches: dict[int, dict[str, Any]] = {
        2: {"loras": [{"name": "ink", "scale": 1.0}]},
        3: {"prompt": "a red cat", "guidance_scale": 2.0, "delta": 0.7, "seed": 5},
        4: {"strength": 0.9, "do_add_noise": False, "negative_prompt": "the sea"},
        6: {"num_inference_steps": 3},
    }
    for at in range(8):
        for one in (engine, plain):
            one.apply(patches.get(at, {}))
        result, expected = (one.infer(noise_frame(at), at) for one in (engine, plain))
        assert result is not None
        assert expected is not None
        assert result.token == expected.token
        assert np.abs(result.frame.astype(int) - expected.frame).max() <= 1
    assert len(card.graphs) == recorded, "nothing is recorded while frames are computed"
    # The first frame takes two steps one by one: encoder, each step, decoder. Then each frame is
    # one; where a third step has none, encoder and decoder have theirs.
    assert card.log.count("replay") == 4 + 5 + 2 * 2


@pytest.mark.parametrize(
    ("kind", "patch"),
    [
        ("sdxl", {"num_inference_steps": 1, "cfg_type": "full", "guidance_scale": 1.4}),
        ("sd21", {"num_inference_steps": 3, "renoise": "ode"}),
    ],
)
def test_one_graph_for_other_models(
    card: cuda.Card,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    kind: Kind,
    patch: dict[str, Any],
) -> None:
    folder = save_model(tmp_path / kind, kind)
    options = {"parameters": patch, "width": 72, "height": 64, "frame_buffer_size": 2}
    plain = load(folder, "none", **options)
    monkeypatch.setattr(stream_batch, "choose", lambda name, device: name)
    engine = load(folder, "graphs", **options)
    for at in range(8):
        frame = noise_frame(at, 72, 64)
        result, expected = engine.infer(frame, at), plain.infer(frame, at)
        if result is None or expected is None:
            assert result is expected
            continue
        assert np.abs(result.frame.astype(int) - expected.frame).max() <= 1
    card.log.clear()
    for at in range(2):
        engine.infer(noise_frame(at, 72, 64), at)
    assert card.log.count("replay") == 1, "two frames in one call, and that is one graph"


@pytest.mark.parametrize(
    "patch",
    [
        {"prompt_follows_frame": True},
        {"input_mode": "text"},
        {"smoothing": 0.5},
    ],
)
def test_what_no_graph_goes_round_is_called_part_by_part(
    card: cuda.Card, folder: Path, monkeypatch: pytest.MonkeyPatch, patch: dict[str, Any]
) -> None:
    plain = load(folder, "none")
    monkeypatch.setattr(stream_batch, "choose", lambda name, device: name)
    engine = load(folder, "graphs")
    for one in (engine, plain):
        one.apply(patch)
    for at in range(3):
        result, expected = engine.infer(noise_frame(at), at), plain.infer(noise_frame(at), at)
        assert result is not None
        assert expected is not None
        assert np.abs(result.frame.astype(int) - expected.frame).max() <= 1
    card.log.clear()
    engine.infer(noise_frame(3), 3)
    assert card.log.count("replay") == (2 if "input_mode" in patch else 3)


def test_where_none_goes_round_all_the_parts_have_theirs(
    card: cuda.Card,
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    recorded = Graphs._recorded

    def refused(self: Graphs, leaves: Any, run: Any) -> Any:
        if len(leaves) > 12:
            raise RuntimeError("CUDA error: out of memory")
        return recorded(self, leaves, run)

    monkeypatch.setattr(Graphs, "_recorded", refused)
    monkeypatch.setattr(stream_batch, "choose", lambda name, device: name)
    engine = load(folder, "graphs")
    (said,) = [record.message for record in caplog.records if "graphs:" in record.message]
    assert said.startswith("graphs: whole frame is called without a CUDA graph (CUDA error: out of")
    engine.infer(noise_frame(0), 0)
    card.log.clear()
    engine.infer(noise_frame(1), 1)
    assert card.log.count("replay") == 3, "encoder, U-Net, decoder"
