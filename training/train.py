"""The loop: a clean picture is predicted, its pixels, edges and large areas are compared."""

from __future__ import annotations

import math
import os
import time
from collections import deque
from concurrent.futures import Future, ThreadPoolExecutor
from copy import deepcopy
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from training.export import export
from training.grain import CELL, PIXELS
from training.measure import measure
from training.model import PocketParts, build, paint, tokens
from training.samples import Batch, Sampler, join
from training.sheet import draw_sheet

WORK = Path(__file__).parent / "work"


@dataclass(frozen=True)
class Stage:
    """A part of the run: until `until` (share of the time), `batch` crops of side x side pixels."""

    until: float
    side: int
    batch: int


@dataclass(frozen=True)
class Settings:
    """What a training run may be told.

    `batch` scales every stage; `workers` is the number of threads that each keep one core busy, or,
    beside a CUDA card, of threads that draw pictures for it.
    """

    minutes: float
    out: Path
    sheet: Path
    batch: float = 1.0
    # Small crops show more wishes in the same time; the last part of it sees more of a picture.
    stages: tuple[Stage, ...] = (Stage(0.3, 64, 40), Stage(0.75, 96, 24), Stage(1.0, 160, 10))
    rate: float = 8e-4
    hold: float = 0.62  # share of the time at the full rate, a cosine to nearly nothing after it
    seed: int = 7
    workers: int = 2
    export_minutes: float = 15.0

    def stage(self, part: float) -> Stage:
        """The stage of a moment, 0 at the start of the run and 1 at its end."""
        return next((s for s in self.stages if part < s.until), self.stages[-1])


class Average:
    """Exponential moving average of weights: what is exported."""

    def __init__(self, modules: list[nn.Module]) -> None:
        self._modules = modules
        self.values = [p.detach().clone() for m in modules for p in m.parameters()]

    def update(self, step: int) -> None:
        """Follows the weights; faster while the run is young."""
        decay = min(0.999, (1 + step) / (20 + step))
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
    a = functional.pixel_shuffle(out[:, :PIXELS].float(), CELL)
    b = functional.pixel_shuffle(target[:, :PIXELS], CELL)
    error = a - b
    across = (error[..., 1:] - error[..., :-1]).abs().mean()
    down = (error[..., 1:, :] - error[..., :-1, :]).abs().mean()
    area = functional.avg_pool2d(error, 16).abs().mean()
    phase = (out[:, PIXELS:].float() - target[:, PIXELS:]).abs().mean()
    return error.abs().mean() + 0.7 * (across + down) + 0.7 * area + 0.02 * phase


def predict(parts: PocketParts, batch: Batch) -> Tensor:
    """The model's clean latents for a batch, on the device of the model."""
    device = parts.unet.device
    texts = [*batch.texts, *(text for _, text, _ in batch.mixed)]
    ids = tokens(parts.tokenizer, texts).to(device)
    context = parts.text_encoder(ids).last_hidden_state
    rows = list(context[: len(batch.texts)])
    for extra, (row, _, share) in enumerate(batch.mixed):
        rows[row] = rows[row] * (1 - share) + context[len(batch.texts) + extra] * share
    noised = batch.noised.to(device).to(memory_format=torch.channels_last)
    return parts.unet(noised, batch.steps.to(device), torch.stack(rows)).sample


def learn(parts: PocketParts, batch: Batch) -> float:
    """Leaves the gradients of a batch in the parts; the loss."""
    device = parts.unet.device
    with torch.autocast(device.type, torch.bfloat16):
        out = predict(parts, batch)
    loss = loss_of(out, batch.target.to(device))
    loss.backward()
    return float(loss.detach())


class Cores:
    """Gradients of one batch, shared among threads that each keep one core busy.

    One barrier per step instead of one per operation: on cores that others use as well, that is
    half of the time. The replicas share the weights' memory and own their gradients.
    """

    SHARES = 2

    def __init__(self, parts: PocketParts, sampler: Sampler, count: int) -> None:
        replicas = [parts]
        for _ in range(count - 1):
            unet, encoder = deepcopy(parts.unet), deepcopy(parts.text_encoder)
            for copy, original in ((unet, parts.unet), (encoder, parts.text_encoder)):
                for mine, theirs in zip(copy.parameters(), original.parameters(), strict=True):
                    mine.data = theirs.data
            replicas.append(replace(parts, unet=unet, text_encoder=encoder))
        self._idle = deque(replicas)
        self._weights = [
            [p for m in (r.unet, r.text_encoder) for p in m.parameters()] for r in replicas
        ]
        self._sampler = sampler
        self._pool = ThreadPoolExecutor(count, "gradients", lambda: torch.set_num_threads(1))

    def gradients(self, step: int, stage: Stage) -> float:
        """Leaves the mean gradient of fresh examples in the first replica; the loss."""
        for weights in self._weights:
            for parameter in weights:
                parameter.grad = None
        jobs = [
            self._pool.submit(self._one, step * self.SHARES + share, stage)
            for share in range(self.SHARES)
        ]
        losses = [job.result() for job in jobs]
        for mine, *others in zip(*self._weights, strict=True):
            for other in others:
                if mine.grad is None:
                    mine.grad = other.grad
                elif other.grad is not None:
                    mine.grad += other.grad
            if mine.grad is not None:
                mine.grad /= self.SHARES
        return sum(losses) / self.SHARES

    def _one(self, index: int, stage: Stage) -> float:
        replica = self._idle.popleft()
        try:
            size = max(1, stage.batch // self.SHARES)
            return learn(replica, self._sampler.batch(index, stage.side, size))
        finally:
            self._idle.append(replica)


class Card:
    """Gradients on a CUDA card; the cores draw the pictures ahead of it."""

    AHEAD = 4
    WIDER = 8  # a card takes larger batches in the same time

    def __init__(self, parts: PocketParts, sampler: Sampler, count: int) -> None:
        self._parts, self._sampler, self._count = parts, sampler, count
        self._weights = [p for m in (parts.unet, parts.text_encoder) for p in m.parameters()]
        self._pool = ThreadPoolExecutor(count, "pictures")
        self._ahead: dict[tuple[int, Stage], list[Future[Batch]]] = {}

    def gradients(self, step: int, stage: Stage) -> float:
        """Leaves the mean gradient of fresh examples in the parts; the loss."""
        for parameter in self._weights:
            parameter.grad = None
        for ahead in range(step, step + self.AHEAD):
            if (ahead, stage) not in self._ahead:
                first = ahead * self.WIDER
                self._ahead[ahead, stage] = [
                    self._pool.submit(self._sampler.batch, first + n, stage.side, stage.batch)
                    for n in range(self.WIDER)
                ]
        jobs = self._ahead.pop((step, stage))
        return learn(self._parts, join([job.result() for job in jobs]))


class Run:
    """A training run: what is trained, how far it is, and where that is kept."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.step, self.spent, self.loss = 0, 0.0, 0.0
        WORK.mkdir(exist_ok=True)
        device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        self.parts = build(WORK / "tokenizer", settings.seed)
        self.parts.unet.to(device=device, memory_format=torch.channels_last)
        self.parts.text_encoder.to(device)
        self._modules: list[nn.Module] = [self.parts.unet, self.parts.text_encoder]
        self._weights = [p for m in self._modules for p in m.parameters()]
        self._optimizer = torch.optim.AdamW(
            self._weights, settings.rate, betas=(0.9, 0.99), weight_decay=0.01, fused=True
        )
        self._average = Average(self._modules)
        self._checkpoint = WORK / "checkpoint.pt"
        if self._checkpoint.exists():
            self._resume()
        alphas = np.asarray(self.parts.scheduler.alphas_cumprod, np.float32)
        sampler = Sampler(alphas, settings.seed)
        kind = Card if device.type == "cuda" else Cores
        self._compute = kind(self.parts, sampler, settings.workers)

    @property
    def part(self) -> float:
        """How much of the time is spent, 0..1."""
        return min(1.0, self.spent / (self.settings.minutes * 60))

    def advance(self) -> None:
        """One step of the optimizer."""
        began = time.monotonic()
        stage = self.settings.stage(self.part)
        stage = replace(stage, batch=max(1, round(stage.batch * self.settings.batch)))
        for group in self._optimizer.param_groups:
            group["lr"] = self.rate
        value = self._compute.gradients(self.step, stage)
        nn.utils.clip_grad_norm_(self._weights, 1.0, foreach=True)
        self._optimizer.step()
        self._average.update(self.step)
        self.loss = value if self.step == 0 else self.loss * 0.995 + value * 0.005
        self.step += 1
        self.spent += time.monotonic() - began

    @property
    def rate(self) -> float:
        """The learning rate of this moment."""
        settings = self.settings
        tail = max(0.0, self.part - settings.hold) / (1 - settings.hold)
        cosine = 0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * tail))
        return settings.rate * cosine * min(1.0, (self.step + 1) / 300)

    def _resume(self) -> None:
        state = torch.load(self._checkpoint, weights_only=True)
        for module, kept in zip(self._modules, state["modules"], strict=True):
            module.load_state_dict(kept)
        self._optimizer.load_state_dict(state["optimizer"])
        device = self._weights[0].device
        self._average.values = [value.to(device) for value in state["average"]]
        self.step, self.spent, self.loss = state["step"], state["spent"], state["loss"]
        print(f"resumed at step {self.step}, {self.spent / 60:.1f} minutes", flush=True)

    def save(self) -> None:
        """Writes the checkpoint, whole or not at all."""
        state = {
            "modules": [module.state_dict() for module in self._modules],
            "optimizer": self._optimizer.state_dict(),
            "average": self._average.values,
            "step": self.step,
            "spent": self.spent,
            "loss": self.loss,
        }
        torch.save(state, self._checkpoint.with_suffix(".tmp"))
        os.replace(self._checkpoint.with_suffix(".tmp"), self._checkpoint)

    def export(self, *, measured: bool) -> None:
        """Writes the model folder from the averaged weights; `measured` adds figures and sheet."""
        self._average.swap()
        for module in self._modules:
            module.eval()
        figures: dict[str, Any] = {
            "steps": self.step,
            "minutes": round(self.spent / 60, 1),
            "loss": round(self.loss, 4),
            "cores": self.settings.workers,
            "device": self.parts.unet.device.type,
        }
        if measured:
            painter = partial(paint, self.parts)
            figures |= measure(painter)
            draw_sheet(painter, self.settings.sheet)
        export(self.parts, self.settings.out, figures)
        print(f"exported to {self.settings.out}: {figures}", flush=True)
        for module in self._modules:
            module.train()
        self._average.swap()


def train(settings: Settings) -> None:
    """Trains for the minutes asked, resuming a checkpoint when one lies in training/work.

    Ctrl-C ends it early, with what was learnt kept in the checkpoint.
    """
    torch.set_num_threads(settings.workers)
    cv2.setNumThreads(1)
    run = Run(settings)
    next_export = run.spent + settings.export_minutes * 60
    next_save, next_line, since, before = run.spent + 60, 0.0, run.step, time.monotonic()
    try:
        while run.part < 1:
            run.advance()
            now = time.monotonic()
            if now >= next_line:
                _progress(run, (run.step - since) / max(now - before, 1e-6))
                next_line, since, before = now + 10, run.step, now
            if run.spent >= next_save:
                run.save()
                next_save = run.spent + 120
            if run.spent >= next_export and run.part < 1:
                run.export(measured=False)
                next_export = run.spent + settings.export_minutes * 60
    except KeyboardInterrupt:
        run.save()
        print(f"stopped at step {run.step}; the same command goes on from here", flush=True)
        return
    run.save()
    run.export(measured=True)


def _progress(run: Run, speed: float) -> None:
    filled = int(run.part * 24)
    bar = "#" * filled + "." * (24 - filled)
    print(
        f"[{bar}] {run.spent / 60:6.1f} min  step {run.step}  loss {run.loss:.4f}"
        f"  rate {run.rate:.1e}  {speed:.2f}/s",
        flush=True,
    )
