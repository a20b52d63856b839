"""Our latents are those of the ``streamdiffusion`` package: same weights, scheduler and noise."""

from collections.abc import Iterator
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffusers.models.autoencoders.vae import DiagonalGaussianDistribution
from numpy.typing import NDArray

from dreamrelay.codec import Frame
from dreamrelay.engines.parameters import StreamBatchParameters
from dreamrelay.engines.ports import EngineSettings
from dreamrelay.engines.stream_batch import StreamBatchEngine
from tests.engines.pictures import moving_frames
from tests.engines.tiny_models import Kind, save_model
from tests.engines.upstream import Upstream

TOLERANCE = 1e-4
FRAMES = 7
PROMPTS = {"prompt": "a red cat", "negative_prompt": "the sea"}
VALUES = {"guidance_scale": 1.4, "delta": 0.8, "seed": 2}
CFG_TYPES = ("none", "full", "self", "initialize")
T_INDEX_LISTS = ([0], [37], [32, 45], [22, 32, 45], [0, 16, 32, 45])


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    base = tmp_path_factory.mktemp("golden")
    kinds: tuple[Kind, Kind] = ("sd15", "sd21")
    return {kind: save_model(base / kind, kind, seed=at) for at, kind in enumerate(kinds)}


def upstream_latents(folder: Path, t_index_list: list[int], **options: Any) -> Iterator[Any]:
    stream = Upstream(folder, t_index_list, **options)
    stream.prepare(**PROMPTS, **VALUES)  # type: ignore[arg-type]
    yield from (stream.latent(frame) for frame in moving_frames(FRAMES))


def our_engine(folder: Path, **parameters: Any) -> StreamBatchEngine:
    settings = EngineSettings(
        model=str(folder), device="cpu", parameters={**PROMPTS, **VALUES, **parameters}
    )
    engine = StreamBatchEngine(settings)
    engine.load(lambda progress: None)
    return engine


def our_latents(engine: StreamBatchEngine, frames: list[Frame]) -> Iterator[NDArray[np.float32]]:
    for at, frame in enumerate(frames):
        assert engine.infer(frame, at) is not None
        yield engine.stream.latents[-1:].numpy()


def difference(ours: NDArray[np.float32], theirs: NDArray[np.float32]) -> float:
    """The largest difference, in parts of the largest value."""
    return float(np.abs(ours - theirs).max() / np.abs(theirs).max())


def worst(folder: Path, t_index_list: list[int], **parameters: Any) -> float:
    """The worst difference over a moving clip, once the package's empty buffer has run out."""
    options = {name: parameters[name] for name in ("cfg_type", "do_add_noise")}
    theirs = list(upstream_latents(folder, t_index_list, **options))
    engine = our_engine(folder, t_index_list=t_index_list, **parameters)
    ours = list(our_latents(engine, moving_frames(FRAMES)))
    first = len(t_index_list) - 1
    return max(map(difference, ours[first:], theirs[first:]))


@pytest.mark.parametrize("kind", ["sd15", "sd21"])
@pytest.mark.parametrize("cfg_type", CFG_TYPES)
def test_same_latents_as_upstream(folders: dict[str, Path], kind: str, cfg_type: str) -> None:
    for t_index_list, do_add_noise in product(T_INDEX_LISTS, (True, False)):
        if cfg_type == "self" and len(t_index_list) == 1:
            continue  # here we differ on purpose: see below
        found = worst(folders[kind], t_index_list, cfg_type=cfg_type, do_add_noise=do_add_noise)
        assert found < TOLERANCE, (t_index_list, do_add_noise)


def test_the_comparison_would_notice(folders: dict[str, Path]) -> None:
    same = {"cfg_type": "self", "do_add_noise": True}
    for other in ({"delta": 0.81}, {"guidance_scale": 1.41}, {"prompt": "a red dog"}, {"seed": 3}):
        found = worst(folders["sd15"], [22, 32, 45], **{**same, **other})
        assert found > 2 * TOLERANCE, other


def test_same_latents_with_the_full_autoencoder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = save_model(tmp_path, "sd15", "full")
    # The package draws the latent from the encoder's distribution; we take its middle.
    monkeypatch.setattr(DiagonalGaussianDistribution, "sample", lambda self, generator: self.mode())
    assert worst(folder, [22, 45], cfg_type="initialize", do_add_noise=True) < TOLERANCE


@pytest.mark.parametrize("cfg_type", ["none", "full"])
def test_same_latents_with_several_frames_a_call(folders: dict[str, Path], cfg_type: str) -> None:
    # The package can do this with one step only.
    stream = Upstream(folders["sd15"], [32], cfg_type=cfg_type, frame_buffer_size=2)
    stream.prepare(**PROMPTS, **VALUES)  # type: ignore[arg-type]
    settings = EngineSettings(
        model=str(folders["sd15"]),
        frame_buffer_size=2,
        parameters={**PROMPTS, **VALUES, "cfg_type": cfg_type, "t_index_list": [32]},
    )
    engine = StreamBatchEngine(settings)
    engine.load(lambda progress: None)
    first, *frames = moving_frames(5)
    engine.infer(first, 0)
    for left, right in zip(frames[::2], frames[1::2], strict=True):
        engine.infer(left, 0)
        engine.infer(right, 0)
        assert difference(engine.stream.latents.numpy(), stream.latent(left, right)) < TOLERANCE


def test_one_step_of_self_guidance_does_not_feed_back(folders: dict[str, Path]) -> None:
    # The package lets the stock noise of a frame into the next one when there is one step only: it
    # grows with every frame. With its rule our step gives its latents; without it stays finite.
    theirs = list(upstream_latents(folders["sd15"], [0], cfg_type="self"))
    engine = our_engine(folders["sd15"], cfg_type="self", t_index_list=[0])
    frames = moving_frames(FRAMES)
    with torch.inference_mode():
        plan = engine.plan(StreamBatchParameters(**engine.parameters), frames=1)
        rows = plan.rows
        stock = torch.zeros_like(rows.eps)
        for frame, expected in zip(frames, theirs, strict=True):
            residual = (stock - rows.eps) * rows.noise / rows.signal
            fresh = engine.encode([frame])
            clean, residual = engine.denoiser.step(plan, rows, fresh, residual)
            stock = rows.eps + residual
            assert difference(clean.numpy(), expected) < TOLERANCE
    ours = list(our_latents(engine, frames))
    assert np.abs(theirs[-1]).max() > 1e4 * np.abs(theirs[0]).max()
    assert np.abs(ours[-1]).max() < 2 * np.abs(ours[0]).max()
