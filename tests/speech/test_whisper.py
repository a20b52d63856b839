"""The Whisper engine: the real class on a model of random weights, and where models come from."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest
from huggingface_hub import HfApi, ModelInfo
from huggingface_hub.errors import HTTPError, RepositoryNotFoundError

from dreamrelay.errors import ConfigError, EngineError, ProtocolError
from dreamrelay.speech import Speech, SpeechProgress, check_speech, open_speech, whisper
from tests.speech.make_spoken import spoken
from tests.speech.sounds import noise, tone, wav
from tests.speech.tiny_whisper import make_tiny_whisper

ASKED = httpx.Request("GET", "https://huggingface.co/api/models/a/b")


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_tiny_whisper(tmp_path_factory.mktemp("whisper"))


@pytest.fixture(scope="module")
def engine(model: Path) -> Speech:
    speech = open_speech(f"whisper:{model}")
    told: list[SpeechProgress] = []
    speech.load(told.append)
    speech.load(told.append)
    assert [progress.text for progress in told] == [f"loading Whisper {model}"]
    return speech


def test_a_recording_goes_through_the_real_model(engine: Speech) -> None:
    """Its words are noise; their times and bounds are not."""
    heard = engine.transcribe(spoken("slt", "preset three"), ("oil painting", "gold"))
    assert 0 < heard.confidence < 0.5
    assert 0.4 < heard.spoken < heard.seconds
    assert heard.words
    for word in heard.words:
        assert 0 <= word.start <= word.end <= heard.seconds + 0.1
        assert 0 <= word.confidence <= 1


@pytest.mark.parametrize(
    "data",
    [
        wav(tone(440, 1.0, 16_000), 16_000),
        wav(0 * tone(440, 1.0, 16_000), 16_000),
        wav(noise(1.0, 16_000, 0.1), 16_000),
    ],
    ids=["tone", "silence", "noise"],
)
def test_where_nobody_speaks_nothing_is_made_up(engine: Speech, data: bytes) -> None:
    heard = engine.transcribe(data)
    assert heard.text == ""
    assert heard.spoken == 0
    assert heard.seconds == pytest.approx(1.0, abs=0.01)


def test_what_is_no_recording_is_refused(engine: Speech) -> None:
    with pytest.raises(ProtocolError, match="expected a recording"):
        engine.transcribe(b"hello")


def test_a_folder_of_something_else_is_told_at_the_start(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(ConfigError, match=r"CTranslate2's format: it lacks model.bin, tokenizer"):
        check_speech(f"whisper:{tmp_path}")


@pytest.mark.parametrize("name", ["../base.en", "a/b/c", "~/there/is/none", "/there/is/none"])
def test_a_folder_that_is_not_there_is_told_at_the_start(name: str) -> None:
    with pytest.raises(ConfigError, match="speech: there is no folder"):
        check_speech(f"whisper:{name}")


def test_a_broken_model(model: Path, tmp_path: Path) -> None:
    for file in model.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    (tmp_path / "model.bin").write_bytes(b"nothing of the kind")
    with pytest.raises(EngineError, match="cannot be loaded"):
        open_speech(f"whisper:{tmp_path}").load(lambda _: None)


def test_a_name_that_nobody_knows() -> None:
    with pytest.raises(EngineError, match=r"there is no Whisper model .*base\.en"):
        open_speech("whisper:huge").load(lambda _: None)


def test_offline_says_the_ways_out() -> None:
    with pytest.raises(EngineError, match=r"HF_HUB_OFFLINE.*--speech=offline"):
        open_speech("whisper:base.en").load(lambda _: None)
    assert not whisper.is_here("base.en")


class Hub:
    """Stands in for the hub: its files are those of a folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.asked: list[str] = []

    def model_info(self, repository: str, *, timeout: float) -> ModelInfo:
        assert 0 < timeout < 20, "nobody waits for a hub that does not answer"
        self.asked.append(repository)
        names = [file.name for file in self.folder.iterdir()] + ["README.md"]
        return ModelInfo(id=repository, siblings=[{"rfilename": name} for name in names])

    def download(self, repository: str, name: str, *, tqdm_class: Callable[..., Any]) -> str:
        self.asked.append(name)
        bar = tqdm_class(total=100, initial=0)
        bar.update(40)
        bar.update(60)
        return str(self.folder / name)


@pytest.fixture
def hub(model: Path, monkeypatch: pytest.MonkeyPatch) -> Hub:
    hub = Hub(model)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    monkeypatch.setattr(whisper, "HfApi", lambda: hub)
    monkeypatch.setattr(whisper, "hf_hub_download", hub.download)
    return hub


def test_a_network_that_is_not_there_is_told_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Through the hub's real client: it has calls that try again for half a minute."""
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    monkeypatch.setattr(whisper, "HfApi", lambda: HfApi(endpoint="http://127.0.0.1:9"))
    tried: list[float] = []
    monkeypatch.setattr("huggingface_hub.utils._http.time.sleep", tried.append)
    with pytest.raises(EngineError, match=r"could not be downloaded .*--speech=offline"):
        open_speech("whisper:a/b").load(lambda _: None)
    assert tried == []


def test_a_model_by_name_is_downloaded_with_progress(hub: Hub) -> None:
    told: list[SpeechProgress] = []
    open_speech("whisper:tiny.en").load(told.append)
    assert hub.asked[0] == "Systran/faster-whisper-tiny.en"
    assert "model.bin" in hub.asked
    assert "README.md" not in hub.asked
    assert {0.4, 1.0} <= {progress.fraction for progress in told}
    assert told[-1].text == "loading Whisper tiny.en"


def test_a_model_by_owner_and_name(hub: Hub) -> None:
    open_speech("whisper:somebody/whisper-small-fr").load(lambda _: None)
    assert hub.asked[0] == "somebody/whisper-small-fr"


def test_a_repository_without_such_a_model(
    hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "config.json").write_text("{}")
    hub.folder = tmp_path
    with pytest.raises(EngineError, match=r"no model in CTranslate2's format \(model.bin\)"):
        open_speech("whisper:openai/whisper-tiny").load(lambda _: None)


@pytest.mark.parametrize(
    ("error", "text"),
    [
        (HTTPError("no way"), r"could not be downloaded .*--speech=offline"),
        (OSError(28, "No space left"), "the disk is full"),
        (ConnectionError("unreachable"), "check the network"),
    ],
)
def test_what_goes_wrong_with_the_hub_is_explained(
    hub: Hub, monkeypatch: pytest.MonkeyPatch, error: Exception, text: str
) -> None:
    def fails(_: str, timeout: float) -> ModelInfo:
        raise error

    monkeypatch.setattr(hub, "model_info", fails)
    with pytest.raises(EngineError, match=text):
        open_speech("whisper:tiny.en").load(lambda _: None)


def test_a_model_that_the_hub_does_not_have(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(_: str, timeout: float) -> ModelInfo:
        raise RepositoryNotFoundError("404", response=httpx.Response(404, request=ASKED))

    monkeypatch.setattr(hub, "model_info", fails)
    with pytest.raises(EngineError, match="the hub has no model a/b"):
        open_speech("whisper:a/b").load(lambda _: None)


def test_auto_takes_whisper_only_where_its_model_lies(monkeypatch: pytest.MonkeyPatch) -> None:
    assert open_speech("auto").name == "offline"
    monkeypatch.setattr(whisper, "is_here", lambda _: True)
    assert open_speech("auto").name == "whisper"
