"""The training loop: a few small steps, stopped and resumed, and what a batch is."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from training import train
from training.grain import LATENTS, grain_of
from training.model import to_latents, to_picture
from training.samples import Sampler, boldness, join, style_share
from training.train import Card, Run, Settings, Stage

SMALL = Stage(1.0, 32, 2)


@pytest.fixture
def sampler() -> Sampler:
    steps = np.linspace(1e-3, 2.5e-2, 1000)
    return Sampler(np.cumprod(1 - steps**2).astype(np.float32), seed=7)


@pytest.fixture
def settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    monkeypatch.setattr(train, "WORK", tmp_path / "work")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    return Settings(
        minutes=60, out=tmp_path / "out", sheet=tmp_path / "s.jpg", stages=(SMALL,), workers=2
    )


def test_a_run_goes_on_where_it_was_stopped(settings: Settings) -> None:
    run = Run(settings)
    before = run.parts.unet.conv_in.weight.detach().clone()
    run.advance()
    run.advance()
    assert run.step == 2
    assert np.isfinite(run.loss)
    assert not torch.equal(run.parts.unet.conv_in.weight, before)
    run.save()
    resumed = Run(settings)
    assert (resumed.step, resumed.loss, resumed.spent) == (run.step, run.loss, run.spent)
    assert torch.equal(resumed.parts.unet.conv_in.weight, run.parts.unet.conv_in.weight)
    resumed.advance()
    assert resumed.step == 3


def test_a_card_learns_from_pictures_drawn_ahead(settings: Settings, sampler: Sampler) -> None:
    parts = Run(settings).parts
    card = Card(parts, sampler, 2)
    first = card.gradients(0, SMALL)
    assert np.isfinite(first)
    assert parts.unet.conv_in.weight.grad is not None
    assert card.gradients(1, SMALL) != first


def test_a_batch_is_the_same_on_every_run(sampler: Sampler) -> None:
    one, again, other = (sampler.batch(index, 32, 3) for index in (5, 5, 6))
    assert torch.equal(one.noised, again.noised)
    assert torch.equal(one.target, again.target)
    assert one.texts == again.texts
    assert not torch.equal(one.noised, other.noised)
    both = join([one, other])
    assert both.noised.shape == (6, LATENTS, 4, 4)
    assert both.texts == one.texts + other.texts
    assert {row for row, _, _ in both.mixed} == {
        *(row for row, _, _ in one.mixed),
        *(row + 3 for row, _, _ in other.mixed),
    }


def test_latents_hold_the_picture_and_leave_room_for_texture() -> None:
    picture = np.random.default_rng(0).random((16, 32, 3), np.float32)
    latents = to_latents(picture[None])[0]
    assert latents.shape == (LATENTS, 2, 4)
    np.testing.assert_allclose(to_picture(latents), picture, atol=1e-6)
    assert not latents[-12:].any()
    noise = np.zeros((LATENTS, 2, 4), np.float32)
    noise[-12, 1, 2] = 1  # red, upper left quarter of a cell
    assert grain_of(noise)[2, 4].tolist() == [1, 0, 0]


def test_strength_brings_the_style_then_takes_the_content() -> None:
    shares = [style_share(s / 20) for s in range(21)]
    bold = [boldness(s / 20) for s in range(21)]
    assert (shares[0], shares[10], shares[20]) == (0, 1, 1)
    assert (bold[0], bold[10], bold[20]) == (0, 0, 1)
    assert shares == sorted(shares)
    assert bold == sorted(bold)


def test_the_stages_follow_each_other(settings: Settings) -> None:
    stages = (Stage(0.5, 64, 40), Stage(1.0, 160, 10))
    settings = Settings(minutes=1, out=settings.out, sheet=settings.sheet, stages=stages)
    assert [settings.stage(part) for part in (0.0, 0.49, 0.5, 1.0)] == [
        stages[0],
        stages[0],
        stages[1],
        stages[1],
    ]
