"""The loop: a clean picture is predicted, its pixels, edges and large areas are compared."""

from __future__ import annotations

import math
import os
import time
from concurrent.futures import ThreadPoolExecutor
from copy import deepcopy
from dataclasses import dataclass, replace
from pathlib import Path

import cv2
import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from training.export import export
from training.model import PocketParts, build, tokens
from training.samples import Batch, Sampler

WORK = Path(__file__).parent / "work"


@dataclass(frozen=True)
class Settings:
    """What a training run may be told."""

    minutes: float
    out: Path
    sheet: Path
    batch: int = 24
    side: int = 64  # small crops show more wishes in the same time
    late_batch: int = 8
    late_side: int = 128  # and the last part of the time sees more of a picture
    late: float = 0.95
    rate: float = 6e-4
    hold: float = 0.86  # share of the time at the full rate, a cosine to nearly nothing after it
    seed: int = 7
    workers: int = 2
    export_minutes: float = 15.0
    first_export_minutes: float = 6.0


class Average:
    """Exponential moving average of weights: what is exported."""

    def __init__(self, modules: list[nn.Module]) -> None:
        self._modules = modules
        self.values = [p.detach().clone() for m in modules for p in m.parameters()]

    def update(self, step: int) -> None:
        """Follows the weights; faster while the run is young."""
        decay = min(0.9985, (1 + step) / (20 + step))
        live = [p.detach() for m in self._modules for p in m.parameters()]
        torch._foreach_lerp_(self.values, live, 1 - decay)

    def swap(self) -> None:
        """Exchanges average and live weights; call twice to be where you were."""
        live = [p for m in self._modules for p in m.parameters()]
        for parameter, value in zip(live, self.values, strict=True):
            kept = parameter.detach().clone()
            parameter.data.copy_(value)
            value.copy_(kept)


def loss_of(out: Tensor, target: Tensor) -> Tensor:
    """L1 of pixels, of their differences (edges, texture) and of 16 x 16 means (colour)."""
    a = functional.pixel_shuffle(out.float(), 4)
    b = functional.pixel_shuffle(target, 4)
    error = a - b
    across = (error[..., 1:] - error[..., :-1]).abs().mean()
    down = (error[..., 1:, :] - error[..., :-1, :]).abs().mean()
    area = functional.avg_pool2d(error, 16).abs().mean()
    return error.abs().mean() + 0.7 * (across + down) + 0.7 * area


def predict(parts: PocketParts, batch: Batch) -> Tensor:
    """The model's clean latents for a batch."""
    texts = [*batch.texts, *(text for _, text, _ in batch.mixed)]
    context = parts.text_encoder(tokens(parts.tokenizer, texts)).last_hidden_state
    rows = list(context[: len(batch.texts)])
    for extra, (row, _, share) in enumerate(batch.mixed):
        rows[row] = rows[row] * (1 - share) + context[len(batch.texts) + extra] * share
    noised = batch.noised.to(memory_format=torch.channels_last)
    return parts.unet(noised, batch.steps, torch.stack(rows)).sample


class Workers:
    """Gradients of one batch, shared among threads that each keep one core busy.

    One barrier per step instead of one per operation: on cores that others use as well, that is
    half of the time. The replicas share the weights' memory and own their gradients.
    """

    def __init__(self, parts: PocketParts, sampler: Sampler, count: int) -> None:
        self._replicas = [parts]
        for _ in range(count - 1):
            unet, encoder = deepcopy(parts.unet), deepcopy(parts.text_encoder)
            for copy, original in ((unet, parts.unet), (encoder, parts.text_encoder)):
                for mine, theirs in zip(copy.parameters(), original.parameters(), strict=True):
                    mine.data = theirs.data
            self._replicas.append(replace(parts, unet=unet, text_encoder=encoder))
        self._weights = [
            [p for m in (r.unet, r.text_encoder) for p in m.parameters()] for r in self._replicas
        ]
        self._sampler = sampler
        self._pool = ThreadPoolExecutor(count, "gradients", lambda: torch.set_num_threads(1))

    def gradients(self, step: int, side: int, size: int) -> float:
        """Leaves the mean gradient of `size` fresh examples in the first replica; the loss."""
        count = len(self._replicas)
        jobs = [
            self._pool.submit(self._one, rank, step * count + rank, side, size // count)
            for rank in range(count)
        ]
        losses = [job.result() for job in jobs]
        mine = [p.grad for p in self._weights[0] if p.grad is not None]
        for others in self._weights[1:]:
            torch._foreach_add_(mine, [p.grad for p in others if p.grad is not None])
        torch._foreach_div_(mine, float(count))
        return sum(losses) / count

    def _one(self, rank: int, index: int, side: int, size: int) -> float:
        for parameter in self._weights[rank]:
            parameter.grad = None
        batch = self._sampler.batch(index, side, size)
        with torch.autocast("cpu", torch.bfloat16):
            out = predict(self._replicas[rank], batch)
        loss = loss_of(out, batch.target)
        loss.backward()
        return float(loss.detach())


def train(settings: Settings) -> None:
    """Trains for the minutes asked, resuming a checkpoint when one lies in training/work."""
    torch.set_num_threads(settings.workers)
    cv2.setNumThreads(1)
    WORK.mkdir(exist_ok=True)
    parts = build(WORK / "tokenizer", settings.seed)
    parts.unet.to(memory_format=torch.channels_last)
    modules: list[nn.Module] = [parts.unet, parts.text_encoder]
    weights = [p for m in modules for p in m.parameters()]
    optimizer = torch.optim.AdamW(
        weights, settings.rate, betas=(0.9, 0.99), weight_decay=0.01, fused=True
    )
    average = Average(modules)
    step, spent, losses = 0, 0.0, 0.0
    checkpoint = WORK / "checkpoint.pt"
    if checkpoint.exists():
        state = torch.load(checkpoint, weights_only=True)
        for module, kept in zip(modules, state["modules"], strict=True):
            module.load_state_dict(kept)
        optimizer.load_state_dict(state["optimizer"])
        average.values = state["average"]
        step, spent, losses = state["step"], state["spent"], state["loss"]
        print(f"resumed at step {step}, {spent / 60:.1f} minutes", flush=True)
    alphas = np.asarray(parts.scheduler.alphas_cumprod, np.float32)
    workers = Workers(parts, Sampler(alphas, settings.seed), settings.workers)
    budget = settings.minutes * 60
    wait = settings.export_minutes if step else settings.first_export_minutes
    next_export = spent + wait * 60
    next_save, next_line, since, before = spent + 60, 0.0, step, time.monotonic()
    while spent < budget:
        began = time.monotonic()
        part = spent / budget
        tail = max(0.0, part - settings.hold) / (1 - settings.hold)
        rate = settings.rate * (0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * tail)))
        for group in optimizer.param_groups:
            group["lr"] = rate * min(1.0, (step + 1) / 150)
        late = part >= settings.late
        side = settings.late_side if late else settings.side
        value = workers.gradients(step, side, settings.late_batch if late else settings.batch)
        nn.utils.clip_grad_norm_(weights, 1.0, foreach=True)
        optimizer.step()
        average.update(step)
        losses = value if step == 0 else losses * 0.99 + value * 0.01
        step += 1
        now = time.monotonic()
        spent += now - began
        if now >= next_line:
            speed = (step - since) / max(now - before, 1e-6)
            _progress(part, step, spent, losses, rate, speed)
            next_line, since, before = now + 10, step, now
        if spent >= next_save:
            _save(checkpoint, modules, optimizer, average, (step, spent, losses))
            next_save = spent + 120
        if spent >= next_export and spent < budget:
            _export(settings, parts, average, (step, spent, losses))
            next_export = spent + settings.export_minutes * 60
    _save(checkpoint, modules, optimizer, average, (step, spent, losses))
    _export(settings, parts, average, (step, spent, losses))


def _progress(part: float, step: int, spent: float, loss: float, rate: float, speed: float) -> None:
    filled = int(part * 24)
    bar = "#" * filled + "." * (24 - filled)
    clock = f"{spent / 60:6.1f} min"
    print(
        f"[{bar}] {clock}  step {step}  loss {loss:.4f}  rate {rate:.1e}  {speed:.2f}/s", flush=True
    )


def _save(
    path: Path,
    modules: list[nn.Module],
    optimizer: torch.optim.Optimizer,
    average: Average,
    counters: tuple[int, float, float],
) -> None:
    step, spent, loss = counters
    state = {
        "modules": [module.state_dict() for module in modules],
        "optimizer": optimizer.state_dict(),
        "average": average.values,
        "step": step,
        "spent": spent,
        "loss": loss,
    }
    torch.save(state, path.with_suffix(".tmp"))
    os.replace(path.with_suffix(".tmp"), path)


def _export(
    settings: Settings, parts: PocketParts, average: Average, counters: tuple[int, float, float]
) -> None:
    step, spent, loss = counters
    average.swap()
    for module in (parts.unet, parts.text_encoder):
        module.eval()
    figures = {"steps": step, "minutes": round(spent / 60, 1), "loss": round(loss, 4)}
    report = export(parts, settings.out, settings.sheet, figures)
    print(f"exported to {settings.out}: {report}", flush=True)
    for module in (parts.unet, parts.text_encoder):
        module.train()
    average.swap()
