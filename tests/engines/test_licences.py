"""Licences: of the models that people run most, and from the cards of others."""

from pathlib import Path

import pytest

from dreamrelay.engines import EngineSettings, open_engine
from dreamrelay.engines.licences import licence


@pytest.mark.parametrize(
    ("model", "text"),
    [
        ("pocket", "MIT, as this package"),
        ("stabilityai/sd-turbo", "conditions on commercial use"),
        ("stabilityai/sdxl-turbo", "conditions on commercial use"),
        ("stable-diffusion-v1-5/stable-diffusion-v1-5", "OpenRAIL-M"),
        ("stabilityai/stable-diffusion-xl-base-1.0", "OpenRAIL++-M"),
        ("depth-anything/Depth-Anything-V2-Small-hf", "Apache-2.0"),
        ("depth-anything/Depth-Anything-V2-Large-hf", "not for commercial use"),
        ("somebody/sd-turbo", "not known here: read the page of the model"),
    ],
)
def test_known_models(model: str, text: str) -> None:
    assert text in licence(model)


@pytest.mark.parametrize(
    ("card", "text"),
    [
        ("---\nlanguage: en\nlicense: apache-2.0\n---\n# Model", "apache-2.0, says its card"),
        ('---\nlicense: "mit"\n---', "mit, says its card"),
        ("# license: mit", "not known here"),
        ("---\nlicense:\n---", "not known here"),
        ("\xff\xfe", "not known here"),
        ("", "not known here"),
    ],
)
def test_the_card_of_another_model(tmp_path: Path, card: str, text: str) -> None:
    (tmp_path / "README.md").write_bytes(card.encode("latin-1"))
    assert text in licence("somebody/model", tmp_path)


def test_no_card(tmp_path: Path) -> None:
    assert "not known here" in licence(str(tmp_path), tmp_path)


def test_it_is_said_when_a_model_is_loaded(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level("INFO"):
        engine = open_engine(EngineSettings(width=64, height=64))
        engine.load(lambda progress: None)
        engine.close()
    said = [record.getMessage() for record in caplog.records]
    assert "pocket: licence MIT, as this package" in said
