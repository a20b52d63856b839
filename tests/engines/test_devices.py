"""Devices: what is asked for or a word about what there is."""

import os

import pytest
import torch

from dreamrelay.engines import devices
from dreamrelay.errors import ConfigError


def there_is(monkeypatch: pytest.MonkeyPatch, *names: str) -> None:
    found = {name: name in names for name in ("cuda", "mps", "cpu")}
    monkeypatch.setattr(devices, "_available", lambda: found)


def test_auto_takes_the_fastest(monkeypatch: pytest.MonkeyPatch) -> None:
    there_is(monkeypatch, "mps", "cpu")
    chosen = devices.choose_device("auto")
    assert (chosen.torch.type, chosen.dtype, chosen.name) == ("mps", torch.float16, "mps")
    there_is(monkeypatch, "cuda", "cpu")
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda index: "NVIDIA RTX 4090")
    chosen = devices.choose_device("auto")
    assert (str(chosen.torch), chosen.dtype) == ("cuda:0", torch.float16)
    assert chosen.name == "cuda:0 NVIDIA RTX 4090"


def test_the_processor_computes_in_the_precision_that_it_has(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    there_is(monkeypatch, "cpu")
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"avx512_bf16": True})
    assert devices.choose_device("cpu").dtype is torch.float32
    assert devices.choose_device("cpu", fast=True).dtype is torch.bfloat16
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"avx2": True})
    assert devices.choose_device("cpu", fast=True).dtype is torch.float32


def test_what_is_not_there_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    there_is(monkeypatch, "mps", "cpu")
    with pytest.raises(ConfigError, match="device: cuda is not there; there is mps, cpu; "):
        devices.choose_device("cuda")
    there_is(monkeypatch, "cpu")
    with pytest.raises(ConfigError, match=r"device: mps is not there; there is cpu$"):
        devices.choose_device("mps")
    with pytest.raises(ConfigError, match="expected one of auto, cuda, mps, cpu, got 'gpu'"):
        devices.choose_device("gpu")


@pytest.mark.parametrize(("cuda", "hint"), [(None, "built without CUDA"), ("13.0", "nvidia-smi")])
def test_a_missing_cuda_card_comes_with_the_next_step(
    monkeypatch: pytest.MonkeyPatch, cuda: str | None, hint: str
) -> None:
    there_is(monkeypatch, "cpu")
    monkeypatch.setattr(torch.version, "cuda", cuda)
    with pytest.raises(ConfigError, match=hint):
        devices.choose_device("cuda")


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (torch.OutOfMemoryError("CUDA out of memory"), True),
        (MemoryError(), True),
        (RuntimeError("MPS backend out of memory (MPS allocated: 9 GB)"), True),
        (
            RuntimeError(
                "[enforce fail at alloc_cpu.cpp:117] . DefaultCPUAllocator: can't allocate memory"
            ),
            True,
        ),
        (
            RuntimeError("DefaultCPUAllocator: not enough memory: you tried to allocate 9 bytes"),
            True,
        ),
        (RuntimeError("mat1 and mat2 shapes cannot be multiplied"), False),
        (ValueError("out of memory"), False),
    ],
)
def test_knows_a_lack_of_memory(error: Exception, expected: bool) -> None:
    assert devices.is_out_of_memory(error) is expected


def test_leaves_a_core_unless_the_user_has_chosen(monkeypatch: pytest.MonkeyPatch) -> None:
    chosen: list[int] = []
    monkeypatch.setattr(torch, "set_num_threads", chosen.append)
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    devices.use_cores_sparingly()
    monkeypatch.delenv("OMP_NUM_THREADS")
    monkeypatch.delattr(os, "sched_getaffinity", raising=False)
    for cores in (8, 1, None):
        monkeypatch.setattr(os, "cpu_count", lambda cores=cores: cores)
        devices.use_cores_sparingly()
    assert chosen == [7, 1, 1]
