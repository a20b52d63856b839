"""Each parameter that the pocket engine publishes changes the picture, too."""

from typing import Any

import pytest

from dreamrelay.engines import EngineSettings
from dreamrelay.engines.pocket_engine import PocketEngine
from tests.engines.acting import a_parameter_acts
from tests.engines.test_every_parameter_acts import CASES as OF_ALL

START: dict[str, Any] = {
    "prompt": "a red cat",
    "num_inference_steps": 2,
    "strength": 0.8,
    "cfg_type": "none",
    "seed": 2,
}

CASES = {
    **{
        name: case
        for name, case in OF_ALL.items()
        if name in PocketEngine.parameters_type.model_fields
    },
    "negative_prompt_scale": ({"negative_prompt": "green city"}, 0.3),  # 1 is the model's own
}


@pytest.fixture(scope="module")
def engine() -> PocketEngine:
    settings = EngineSettings(width=64, height=64, acceleration="onnx", parameters=START)
    engine = PocketEngine(settings)
    engine.load(lambda progress: None)
    return engine


def test_each_parameter_that_is_published_is_tried(engine: PocketEngine) -> None:
    assert set(engine.schema()["properties"]) == set(CASES)


@pytest.mark.parametrize("name", CASES)
def test_a_parameter_acts(engine: PocketEngine, name: str) -> None:
    a_parameter_acts(engine, name, CASES[name])
