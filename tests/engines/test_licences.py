"""Licences: of the models that people run most, and from the cards of others."""

import shutil
from pathlib import Path
from typing import Any

import pytest

from dreamrelay.engines import EngineSettings, open_engine
from dreamrelay.engines.licences import HUB, LICENCES, Licence, both, licence
from tests.engines.tiny_models import save_lightning, save_model

TURBO = "---\nlicense: other\nlicense_name: sai-nc-community\n---\n# Model"


@pytest.mark.parametrize(
    ("model", "text"),
    [
        ("pocket", "MIT"),
        ("stabilityai/sd-turbo", "not for commercial use"),
        ("stabilityai/sdxl-turbo", "not for commercial use"),
        ("stable-diffusion-v1-5/stable-diffusion-v1-5", "OpenRAIL-M"),
        ("stabilityai/stable-diffusion-xl-base-1.0", "OpenRAIL++-M"),
        ("depth-anything/Depth-Anything-V2-Small-hf", "Apache-2.0"),
        ("depth-anything/Depth-Anything-V2-Large-hf", "not for commercial use"),
        ("somebody/sd-turbo", "unknown, read the page of the model"),
    ],
)
def test_known_models(model: str, text: str) -> None:
    found = licence(model)
    assert text in str(found)
    assert found.link.startswith("https://")


@pytest.mark.parametrize(
    ("card", "text"),
    [
        ("---\nlanguage: en\nlicense: apache-2.0\n---\n# Model", "Apache-2.0"),
        ('---\nlicense: "mit"\n---', "MIT"),
        ("---\nlicense: gpl-3.0 # or later\n---", "gpl-3.0, says its card"),
        (TURBO, "Stability AI's community licence, not for commercial use"),
        ("---\nlicense: other\nlicense_name: our own\n---", "our own, says its card"),
        ("---\nlicense: other\n---", "other, says its card"),
        ("# license: mit", "unknown"),
        ("---\nlicense:\n---", "unknown"),
        ("---\nlicense: <b>\n---", "unknown"),
        ("\xff\xfe", "unknown"),
        ("", "unknown"),
    ],
)
def test_the_card_of_another_model(tmp_path: Path, card: str, text: str) -> None:
    (tmp_path / "README.md").write_bytes(card.encode("latin-1"))
    found = licence("somebody/model", tmp_path)
    assert str(found).startswith(text)
    assert found.link in (f"{HUB}somebody/model", *(one.link for one in LICENCES.values()))
    assert licence(str(tmp_path), tmp_path).name == found.name


@pytest.mark.parametrize(
    ("link", "found"),
    [
        ("https://example.org/terms", "https://example.org/terms"),
        ("LICENSE.md", f"{HUB}somebody/model"),
        ("javascript:alert(1)", f"{HUB}somebody/model"),
        ("https://example.org/ x", f"{HUB}somebody/model"),
    ],
)
def test_the_link_of_a_card(tmp_path: Path, link: str, found: str) -> None:
    card = f"---\nlicense: other\nlicense_name: ours\nlicense_link: {link}\n---"
    (tmp_path / "README.md").write_text(card, encoding="utf-8")
    assert licence("somebody/model", tmp_path).link == found


def test_no_card(tmp_path: Path) -> None:
    assert licence(str(tmp_path), tmp_path) == Licence("unknown", "read the page of the model")


def test_a_folder_of_the_hubs_cache_says_of_which_model_it_is(tmp_path: Path) -> None:
    for model, name in (
        ("stabilityai--sdxl-turbo", "Stability AI's community licence"),
        ("somebody--model", "unknown"),
    ):
        folder = tmp_path / f"models--{model}" / "snapshots" / "1a2b"
        folder.mkdir(parents=True)
        found = licence(str(folder), folder)
        assert found.name == name
    assert found.link == f"{HUB}somebody/model"


def test_of_two_parts() -> None:
    one, other = LICENCES["openrail++"], LICENCES["cc-by-nc-4.0"]
    assert both(one, one) == one
    assert str(both(one, other)) == (
        "CreativeML OpenRAIL++-M and CC BY-NC 4.0, with restrictions on use; not for commercial use"
    )


def loaded(caplog: pytest.LogCaptureFixture, **settings: Any) -> tuple[Licence, list[str]]:
    """What an engine publishes, and what was said while it was loaded."""
    common: dict[str, Any] = {"width": 64, "height": 64, "offline": True}
    engine = open_engine(EngineSettings(**{**common, **settings}))
    assert engine.licence.name == "unknown", "nothing is loaded"
    caplog.clear()
    with caplog.at_level("INFO"):
        engine.load(lambda progress: None)
    found = engine.licence
    with_it = engine.beside({})
    assert with_it.licence == found
    with_it.close()
    engine.close()
    return found, [record.getMessage() for record in caplog.records]


def test_it_is_said_when_the_pocket_model_is_loaded(caplog: pytest.LogCaptureFixture) -> None:
    found, said = loaded(caplog)
    assert found == LICENCES["mit"]
    assert "pocket: licence MIT" in said


def test_it_is_said_when_a_model_of_stable_diffusion_is_loaded(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    plain: dict[str, Any] = {"device": "cpu", "acceleration": "none"}
    folder = save_model(tmp_path / "model")
    found, said = loaded(caplog, model=str(folder), **plain)
    assert found == Licence("unknown", "read the page of the model")
    assert f"{folder}: licence unknown, read the page of the model" in said
    (folder / "README.md").write_text(TURBO, encoding="utf-8")
    found, said = loaded(caplog, model=str(folder), **plain)
    assert found == LICENCES["sai-nc-community"]
    of_hub = tmp_path / "models--stabilityai--sdxl-turbo" / "snapshots" / "1a2b"
    (folder / "README.md").unlink()
    shutil.copytree(folder, of_hub)
    found, said = loaded(caplog, model=str(of_hub), **plain)
    assert found == LICENCES["sai-nc-community"]
    assert any("not for commercial use" in line for line in said)


def test_it_is_said_when_the_processors_are_loaded(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    plain: dict[str, Any] = {"device": "cpu", "controlnets": ("none",)}
    folder, weights = save_model(tmp_path / "sdxl", "sdxl"), save_lightning(tmp_path / "weights")
    (folder / "README.md").write_text("---\nlicense: openrail++\n---", encoding="utf-8")
    (weights / "README.md").write_text("---\nlicense: cc-by-nc-4.0\n---", encoding="utf-8")
    at = {"engine": "lightning", "model": str(folder), "lightning_weights": str(weights)}
    found, said = loaded(caplog, **at, **plain)
    assert found == both(LICENCES["openrail++"], LICENCES["cc-by-nc-4.0"])
    assert f"{weights}: licence CC BY-NC 4.0, not for commercial use" in said
