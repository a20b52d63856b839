"""The hub, faked: what is asked of it, and what its errors become."""

import errno
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest
from huggingface_hub import constants
from huggingface_hub.errors import (
    GatedRepoError,
    LocalEntryNotFoundError,
    RepositoryNotFoundError,
)

from dreamrelay.engines import model_hub
from dreamrelay.engines.ports import Progress
from dreamrelay.errors import ClosedError, EngineError

SD15 = [
    ".gitattributes",
    "README.md",
    "model_index.json",
    "scheduler/scheduler_config.json",
    "text_encoder/config.json",
    "text_encoder/model.fp16.safetensors",
    "text_encoder/model.safetensors",
    "text_encoder/pytorch_model.bin",
    "tokenizer/merges.txt",
    "tokenizer/vocab.json",
    "unet/config.json",
    "unet/diffusion_pytorch_model.bin",
    "unet/diffusion_pytorch_model.fp16.safetensors",
    "unet/diffusion_pytorch_model.non_ema.safetensors",
    "unet/diffusion_pytorch_model.safetensors",
    "v1-5-pruned.ckpt",
    "v1-5-pruned.safetensors",
    "vae/config.json",
    "vae/diffusion_pytorch_model.safetensors",
]


class Hub:
    """A hub with one repository, and a cache on this machine."""

    def __init__(self, cache: Path, names: list[str]) -> None:
        self.cache = cache
        self.names = names
        self.error: Exception | None = None
        self.full_at = ""
        self.downloaded: list[str] = []
        self.written: list[str] = []

    def list_repo_files(self, model: str) -> list[str]:
        if self.error is not None:
            raise self.error
        return self.names

    def download(self, model: str, name: str, tqdm_class: Callable[..., Any]) -> str:
        self.downloaded.append(name)
        path = self.cache / name
        if path.exists():
            return str(path)
        if name == self.full_at:
            raise OSError(errno.ENOSPC, "No space left on device")
        self.written.append(name)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"x")
        with tqdm_class(total=10_000_000, initial=0, desc=name) as bar:
            bar.update(5_000_000)
        return str(path)

    def snapshot(self, model: str, local_files_only: bool) -> str:
        assert local_files_only
        if not self.cache.exists():
            raise LocalEntryNotFoundError("not there")
        return str(self.cache)


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Hub:
    fake = Hub(tmp_path / "cache", SD15)
    monkeypatch.setattr(model_hub, "HfApi", lambda: fake)
    monkeypatch.setattr(model_hub, "hf_hub_download", fake.download)
    monkeypatch.setattr(model_hub, "snapshot_download", fake.snapshot)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    return fake


def fetch(offline: bool = False, half: bool = False, reports: list[Progress] | None = None) -> Path:
    heard: list[Progress] = [] if reports is None else reports
    return model_hub.model_folder("some/model", offline=offline, half=half, report=heard.append)


def test_knows_an_id() -> None:
    for model in ("stabilityai/sd-turbo", "KBlueLeaf/kohaku-v2.1"):
        assert model_hub.is_id(model)
    for model in ("pocket", "../model", "./model", "/a/b", "a/b/c", "C:\\models\\a", "a b/c", ""):
        assert not model_hub.is_id(model)


@pytest.mark.parametrize("half", [False, True])
def test_downloads_settings_and_safetensors_in_one_precision(hub: Hub, half: bool) -> None:
    reports: list[Progress] = []
    assert fetch(half=half, reports=reports) == hub.cache
    suffix = ".fp16.safetensors" if half else ".safetensors"
    assert [name for name in hub.downloaded if name.endswith(".safetensors")] == [
        f"text_encoder/model{suffix}",
        f"unet/diffusion_pytorch_model{suffix}",
        "vae/diffusion_pytorch_model.safetensors",
    ]
    assert [name for name in hub.downloaded if not name.endswith(".safetensors")] == [
        name for name in SD15 if name.endswith((".json", ".txt", ".md"))
    ]
    texts = [report.text for report in reports]
    assert "downloading some/model: model_index.json" in texts
    assert "downloading some/model: model_index.json, 5 of 10 MB" in texts
    assert {report.stage for report in reports} == {"loading"}


def test_a_depth_model_comes_with_the_settings_of_its_pictures(hub: Hub) -> None:
    hub.names = [
        ".gitattributes",
        "README.md",
        "config.json",
        "model.safetensors",
        "preprocessor_config.json",
        "pytorch_model.bin",
    ]
    model_hub.model_folder("a/depth", offline=False, half=False, report=lambda progress: None)
    assert sorted(hub.downloaded) == [
        "README.md",
        "config.json",
        "model.safetensors",
        "preprocessor_config.json",
    ]


def test_sharded_weights_come_with_their_index(hub: Hub) -> None:
    stem = "unet/diffusion_pytorch_model"
    shards = [f"{stem}-0000{at}-of-00002.safetensors" for at in (1, 2)]
    hub.names = ["model_index.json", f"{stem}.safetensors.index.json", *shards]
    fetch()
    assert hub.downloaded == hub.names


def test_what_is_on_the_machine_is_not_asked_for_again(hub: Hub) -> None:
    fetch()
    hub.error = AssertionError("the hub was asked")
    assert fetch(offline=True) == hub.cache
    (hub.cache / "vae" / "diffusion_pytorch_model.safetensors").unlink()
    with pytest.raises(EngineError, match="some/model was not downloaded yet and the hub may not"):
        fetch(offline=True)


def test_offline_by_environment(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(EngineError, match=r"offline\): run once online, or give the path"):
        fetch()


def response(status: int) -> Any:
    request = httpx.Request("GET", "https://huggingface.co/api/models/some/model")
    return httpx.Response(status, request=request)


@pytest.mark.parametrize(
    ("error", "text"),
    [
        (
            GatedRepoError("403", response=response(403)),
            "some/model is gated: accept its licence on https://huggingface.co/some/model, then",
        ),
        (RepositoryNotFoundError("404", response=response(404)), "the hub has no model some/model"),
        (OSError(errno.ENOSPC, "No space left on device"), "the disk is full, some/model could"),
        (OSError(errno.EDQUOT, "Disk quota exceeded"), "the disk is full, some/model could"),
        (
            RuntimeError("Transfer: No space left on device (os error 28)"),
            "disk is full",
        ),
        (
            RuntimeError("CAS service error"),
            r"RuntimeError: CAS service error\): check the network",
        ),
        (
            ConnectionError("[Errno 111]\nrefused"),
            r"ConnectionError: \[Errno 111\] refused\): check",
        ),
    ],
)
def test_errors_of_the_hub_become_one_line_with_the_next_step(
    hub: Hub, error: Exception, text: str
) -> None:
    hub.error = error
    with pytest.raises(EngineError, match=text) as caught:
        fetch()
    assert "\n" not in str(caught.value)


def test_a_download_that_broke_off_goes_on_where_it_was(hub: Hub) -> None:
    hub.full_at = "unet/diffusion_pytorch_model.safetensors"
    with pytest.raises(EngineError, match=r"the disk is full.*what was downloaded is kept"):
        fetch()
    with pytest.raises(EngineError, match="was not downloaded yet"):
        fetch(offline=True)  # half a model is none
    hub.full_at = ""
    assert fetch() == hub.cache
    texts = hub.cache / "text_encoder" / "model.safetensors"
    assert texts.read_bytes() == b"x"
    assert len(hub.written) == len(set(hub.written)), "nothing is downloaded twice"
    assert fetch(offline=True) == hub.cache


def test_the_whole_of_sdxl_counts(hub: Hub) -> None:
    hub.names = [
        "model_index.json",
        *(f"{part}/model.safetensors" for part in ("text_encoder", "text_encoder_2")),
        *(f"{part}/diffusion_pytorch_model.safetensors" for part in ("unet", "vae")),
        "tokenizer_2/merges.txt",
    ]
    fetch()
    assert set(hub.downloaded) == set(hub.names)
    (hub.cache / "model_index.json").write_text('{"text_encoder_2": ["a", "b"]}', "utf-8")
    assert fetch(offline=True) == hub.cache
    (hub.cache / "text_encoder_2" / "model.safetensors").unlink()
    with pytest.raises(EngineError, match="was not downloaded yet"):
        fetch(offline=True)


def test_settings_alone(hub: Hub) -> None:
    options: dict[str, Any] = {"half": False, "report": lambda progress: None, "weights": False}
    folder = model_hub.model_folder("some/model", offline=False, **options)
    assert folder == hub.cache
    assert set(hub.downloaded) == {n for n in SD15 if n.endswith((".json", ".txt", ".md"))}
    assert model_hub.model_folder("some/model", offline=True, **options) == folder


def test_a_repository_without_safetensors_is_refused(hub: Hub) -> None:
    hub.names = [name for name in SD15 if not name.endswith(".safetensors")]
    with pytest.raises(EngineError, match="some/model has no safetensors weights"):
        fetch()


def test_a_report_stops_the_download(hub: Hub) -> None:
    def stop(progress: Progress) -> None:
        if "unet/config.json" in progress.text:
            raise ClosedError("stopped")

    with pytest.raises(ClosedError):
        model_hub.model_folder("some/model", offline=False, half=False, report=stop)
    assert "unet/diffusion_pytorch_model.safetensors" not in hub.downloaded


def test_a_lora_is_the_one_file_of_its_repository(hub: Hub) -> None:
    hub.names = ["README.md", "pytorch_lora_weights.safetensors"]
    options: dict[str, Any] = {"offline": False, "report": lambda progress: None}
    found = model_hub.lora_file("some/lora", **options)
    assert found == hub.cache / "pytorch_lora_weights.safetensors"
    hub.error = AssertionError("the hub was asked")
    assert model_hub.lora_file("some/lora", **options) == found
    assert model_hub.lora_file("some/lora/pytorch_lora_weights.safetensors", **options) == found


def test_of_several_lora_files_one_must_be_named(hub: Hub) -> None:
    hub.names = ["a.safetensors", "b.safetensors"]
    options: dict[str, Any] = {"offline": False, "report": lambda progress: None}
    with pytest.raises(EngineError, match="found 2; name one as some/lora/<file>"):
        model_hub.lora_file("some/lora", **options)
    assert model_hub.lora_file("some/lora/b.safetensors", **options).name == "b.safetensors"


def test_a_gated_lora_is_explained(hub: Hub) -> None:
    hub.error = GatedRepoError("403", response=response(403))
    with pytest.raises(EngineError, match="some/lora is gated"):
        model_hub.lora_file("some/lora", offline=False, report=lambda progress: None)
