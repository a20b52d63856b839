"""Our latents are those of the ``streamdiffusion`` package: same weights, scheduler and noise."""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffusers.models.autoencoders.vae import DiagonalGaussianDistribution
from numpy.typing import NDArray

from dreamrelay.engines import noise
from dreamrelay.engines.denoise import State
from dreamrelay.engines.ports import EngineSettings
from dreamrelay.engines.stream_batch import StreamBatchEngine
from tests.engines.pictures import moving_frames
from tests.engines.tiny_models import Kind, save_model
from tests.engines.upstream import Upstream, UpstreamXL, load_pipeline, load_pipeline_xl

TOLERANCE = 1e-4
PROMPTS = {"prompt": "a red cat", "negative_prompt": "the sea"}
VALUES = {"guidance_scale": 1.4, "delta": 0.8, "seed": 2}
CFG_TYPES = ("none", "full", "self", "initialize")
T_INDEX_LISTS = ([0], [37], [32, 45], [22, 32, 45], [0, 16, 32, 45])

Latents = NDArray[np.float32]


@dataclass(frozen=True)
class Pair:
    """The package's pipeline and our engine over the same weights."""

    pipeline: Any
    engine: StreamBatchEngine

    @classmethod
    def of(cls, folder: Path, **settings: Any) -> "Pair":
        return cls(load_pipeline(folder), opened(folder, **settings))

    def theirs(self, t_index_list: list[int], frames: int, **options: Any) -> Iterator[Latents]:
        stream = Upstream(self.pipeline, t_index_list, **options)
        stream.prepare(**PROMPTS, **VALUES)  # type: ignore[arg-type]
        yield from (stream.latent(frame) for frame in moving_frames(frames))

    def ours(self, t_index_list: list[int], frames: int, **parameters: Any) -> Iterator[Latents]:
        patch = {**PROMPTS, **VALUES, "do_add_noise": True, **parameters}
        patch["t_index_list"] = t_index_list
        self.engine.apply(patch)
        self.engine.stream.clear()
        for at, frame in enumerate(moving_frames(frames)):
            assert self.engine.infer(frame, at) is not None
            yield self.engine.stream.latents[-1:].numpy()

    def worst(self, t_index_list: list[int], **parameters: Any) -> float:
        """The worst difference over a moving clip, once the package's empty buffer has run out."""
        first = len(t_index_list) - 1
        frames = first + 3
        options = {name: parameters[name] for name in ("cfg_type", "do_add_noise")}
        theirs = list(self.theirs(t_index_list, frames, **options))
        ours = list(self.ours(t_index_list, frames, **parameters))
        return max(map(difference, ours[first:], theirs[first:]))


def opened(folder: Path, **settings: Any) -> StreamBatchEngine:
    engine = StreamBatchEngine(
        EngineSettings(model=str(folder), device="cpu", acceleration="none", **settings)
    )
    engine.load(lambda progress: None)
    return engine


def difference(ours: Latents, theirs: Latents) -> float:
    """The largest difference, in parts of the largest value."""
    return float(np.abs(ours - theirs).max() / np.abs(theirs).max())


@pytest.fixture(scope="module", autouse=True)
def noise_of_torch() -> Iterator[None]:
    """The package draws its noise with torch; ours comes from numpy."""

    def draw(seed: int, shape: tuple[int, ...]) -> Latents:
        noise: Latents = torch.randn(shape, generator=torch.Generator().manual_seed(seed)).numpy()
        return noise

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(noise, "seeded_noise", draw)
        yield


@pytest.fixture(scope="module")
def pairs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Pair]:
    base = tmp_path_factory.mktemp("golden")
    kinds: tuple[Kind, Kind] = ("sd15", "sd21")
    return {k: Pair.of(save_model(base / k, k, seed=at)) for at, k in enumerate(kinds)}


@pytest.mark.parametrize("kind", ["sd15", "sd21"])
@pytest.mark.parametrize("cfg_type", CFG_TYPES)
def test_same_latents_as_upstream(pairs: dict[str, Pair], kind: str, cfg_type: str) -> None:
    for t_index_list, do_add_noise in product(T_INDEX_LISTS, (True, False)):
        if len(t_index_list) == 1 and (cfg_type == "self" or not do_add_noise):
            continue  # we differ on purpose, see below; and there is nothing to add noise to
        found = pairs[kind].worst(t_index_list, cfg_type=cfg_type, do_add_noise=do_add_noise)
        assert found < TOLERANCE, (t_index_list, do_add_noise)


@pytest.mark.parametrize(
    "other",
    [{"delta": 0.81}, {"guidance_scale": 1.41}, {"prompt": "a red dog"}, {"seed": 3}],
    ids=str,
)
def test_the_comparison_would_notice(pairs: dict[str, Pair], other: dict[str, Any]) -> None:
    found = pairs["sd15"].worst([22, 32, 45], cfg_type="self", do_add_noise=True, **other)
    assert found > 10 * TOLERANCE


def test_same_latents_with_the_full_autoencoder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pair = Pair.of(save_model(tmp_path, "sd15", "full"))
    # The package draws the latent from the encoder's distribution; we take its middle.
    monkeypatch.setattr(DiagonalGaussianDistribution, "sample", lambda self, generator: self.mode())
    assert pair.worst([22, 45], cfg_type="initialize", do_add_noise=True) < TOLERANCE


@pytest.mark.parametrize("cfg_type", ["none", "full"])
def test_same_latents_with_several_frames_a_call(tmp_path: Path, cfg_type: str) -> None:
    # The package can do this with one step only.
    pair = Pair.of(
        save_model(tmp_path),
        frame_buffer_size=2,
        parameters={**PROMPTS, **VALUES, "cfg_type": cfg_type, "t_index_list": [32]},
    )
    stream = Upstream(pair.pipeline, [32], cfg_type=cfg_type, frame_buffer_size=2)
    stream.prepare(**PROMPTS, **VALUES)  # type: ignore[arg-type]
    first, *frames = moving_frames(5)
    pair.engine.infer(first, 0)
    for left, right in zip(frames[::2], frames[1::2], strict=True):
        pair.engine.infer(left, 0)
        pair.engine.infer(right, 0)
        ours = pair.engine.stream.latents.numpy()
        assert difference(ours, stream.latent(left, right)) < TOLERANCE


@pytest.mark.parametrize("cfg_type", CFG_TYPES)
def test_several_frames_a_call_with_several_steps(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cfg_type: str
) -> None:
    # The package goes wrong there. But rows do not know of each other: two frames a call are what
    # two streams of it with a frame each make.
    t_index_list = [22, 32, 45]
    parameters = {**PROMPTS, **VALUES, "cfg_type": cfg_type, "t_index_list": t_index_list}
    pair = Pair.of(save_model(tmp_path), frame_buffer_size=2, parameters=parameters)
    streams = []
    for _ in range(2):
        streams.append(Upstream(pair.pipeline, t_index_list, cfg_type=cfg_type))
        streams[-1].prepare(**PROMPTS, **VALUES)  # type: ignore[arg-type]
    first, *frames = moving_frames(13)
    pair.engine.infer(first, 0)
    seen: list[Latents] = []
    decode = pair.engine._decode_pixels

    def watched(latents: torch.Tensor) -> Any:
        seen.append(latents.numpy())
        return decode(latents)

    monkeypatch.setattr(pair.engine, "_decode_pixels", watched)
    for call, two in enumerate(zip(frames[::2], frames[1::2], strict=True)):
        for frame in two:
            pair.engine.infer(frame, 0)
        theirs = [stream.latent(frame) for stream, frame in zip(streams, two, strict=True)]
        if call >= len(t_index_list) - 1:
            assert difference(seen[-1], np.concatenate(theirs)) < TOLERANCE


@pytest.mark.parametrize("cfg_type", CFG_TYPES)
def test_same_latents_of_sdxl(tmp_path: Path, cfg_type: str) -> None:
    folder = save_model(tmp_path / "xl", "sdxl")
    pair = Pair(None, opened(folder))
    for t_index_list, do_add_noise in (([22, 45], True), ([16, 32, 45], False)):
        options = {"cfg_type": cfg_type, "do_add_noise": do_add_noise}
        stream = UpstreamXL(load_pipeline_xl(folder), t_index_list, **options)
        stream.prepare(**PROMPTS, **VALUES)  # type: ignore[arg-type]
        theirs = [stream.latent(frame) for frame in moving_frames(5)]
        ours = list(pair.ours(t_index_list, 5, **options))
        for one, other in zip(ours[2:], theirs[2:], strict=True):
            assert difference(one, other) < TOLERANCE


@pytest.mark.parametrize("cfg_type", CFG_TYPES)
def test_same_latents_from_nothing_but_the_prompt(pairs: dict[str, Pair], cfg_type: str) -> None:
    pair, t_index_list = pairs["sd15"], [0, 16, 32]
    stream = Upstream(pair.pipeline, t_index_list, cfg_type=cfg_type)
    stream.prepare(**PROMPTS, **VALUES)  # type: ignore[arg-type]
    theirs = [stream.latent_of_nothing() for _ in range(5)]
    ours = list(pair.ours(t_index_list, 5, cfg_type=cfg_type, input_mode="text"))
    pair.engine.apply({"input_mode": "video"})
    for one, other in zip(ours[2:], theirs[2:], strict=True):
        assert difference(one, other) < TOLERANCE


def test_same_latents_of_a_prompt_that_changes_on_the_way(pairs: dict[str, Pair]) -> None:
    pair, t_index_list, frames = pairs["sd21"], [22, 32, 45], moving_frames(9)
    stream = Upstream(pair.pipeline, t_index_list, cfg_type="self")
    stream.prepare(**PROMPTS, **VALUES)  # type: ignore[arg-type]
    patch = {"cfg_type": "self", "t_index_list": t_index_list, "do_add_noise": True}
    pair.engine.apply({**PROMPTS, **VALUES, **patch})
    pair.engine.stream.clear()
    for at, frame in enumerate(frames):
        if at == 5:
            stream.stream.update_prompt("the blue sea")
            pair.engine.apply({"prompt": "the blue sea"})
        expected = stream.latent(frame)
        pair.engine.infer(frame, at)
        if at >= 2:
            ours = pair.engine.stream.latents[-1:].numpy()
            assert difference(ours, expected) < TOLERANCE, at


def test_guidance_of_one_is_none(pairs: dict[str, Pair]) -> None:
    # With full and initialize the package cannot.
    pair, cfg_type = pairs["sd15"], "self"
    stream = Upstream(pair.pipeline, [22, 45], cfg_type=cfg_type)
    stream.prepare(**PROMPTS, **{**VALUES, "guidance_scale": 1.0})  # type: ignore[arg-type]
    theirs = [stream.latent(frame) for frame in moving_frames(4)]
    ours = list(pair.ours([22, 45], 4, cfg_type=cfg_type, guidance_scale=1.0))
    for one, other in zip(ours[1:], theirs[1:], strict=True):
        assert difference(one, other) < TOLERANCE


@pytest.mark.parametrize("do_add_noise", [True, False])
def test_same_latents_one_step_after_the_other(
    tmp_path: Path, do_add_noise: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Without its batch the package can do without guidance only, and draws new noise every time;
    # here it gets that of the seed. Other sides than 64, too.
    t_index_list = [10, 22, 45]
    pair = Pair.of(
        save_model(tmp_path),
        use_denoising_batch=False,
        width=96,
        height=72,
        parameters={
            **PROMPTS,
            **VALUES,
            "cfg_type": "none",
            "t_index_list": t_index_list,
            "do_add_noise": do_add_noise,
        },
    )
    engine, seen = pair.engine, []
    decode = engine.decode

    def watched(latents: torch.Tensor) -> Any:
        seen.append(latents.numpy())
        return decode(latents)

    monkeypatch.setattr(engine, "decode", watched)
    stream = Upstream(
        pair.pipeline,
        t_index_list,
        cfg_type="none",
        do_add_noise=do_add_noise,
        use_denoising_batch=False,
        width=96,
        height=72,
    )
    stream.prepare(**PROMPTS, **VALUES)  # type: ignore[arg-type]
    with torch.inference_mode():
        eps = engine.plan(engine.parameters_type(**engine.parameters), frames=1).rows.eps
    stream.stream.init_noise = eps.clone()
    for frame in moving_frames(2, 96, 72):
        stream.stream.init_noise = eps.clone()
        drawn = iter(eps[1:].split(1))
        with monkeypatch.context() as patch:
            patch.setattr(torch, "randn_like", lambda *_, drawn=drawn, **__: next(drawn))
            theirs = stream.latent(frame)
        engine.infer(frame, 0)
        assert difference(seen[-1], theirs) < TOLERANCE


def test_one_step_of_self_guidance_does_not_feed_back(pairs: dict[str, Pair]) -> None:
    # The package lets the stock noise of a frame into the next one when there is one step only: it
    # grows with every frame. With its rule our step gives its latents; without it stays finite.
    pair = pairs["sd15"]
    theirs = list(pair.theirs([0], 7, cfg_type="self"))
    ours = list(pair.ours([0], 7, cfg_type="self"))
    engine = pair.engine
    with torch.inference_mode():
        plan = engine.plan(engine.parameters_type(**engine.parameters), frames=1)
        rows = plan.rows
        stock = torch.zeros_like(rows.eps)
        for frame, expected in zip(moving_frames(7), theirs, strict=True):
            residual = (stock - rows.eps) * rows.noise / rows.signal
            state = engine.denoiser.step(plan, rows, State(engine.encode([frame]), residual))
            stock = rows.eps + state.residual
            assert difference(state.clean.numpy(), expected) < TOLERANCE
    assert np.abs(theirs[-1]).max() > 1e4 * np.abs(theirs[0]).max()
    assert np.abs(ours[-1]).max() < 2 * np.abs(ours[0]).max()
