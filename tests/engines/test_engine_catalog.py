"""The catalogue: names to engines, and nothing heavy before one is opened."""

import subprocess
import sys

import pytest

from dreamrelay.engines import ENGINES, EngineSettings, open_engine
from dreamrelay.errors import ConfigError


def test_importing_the_engines_imports_no_torch() -> None:
    code = (
        "import sys, dreamrelay.engines, dreamrelay.engines.parameters\n"
        "heavy = {'torch', 'diffusers', 'transformers', 'huggingface_hub'} & set(sys.modules)\n"
        "assert not heavy, heavy"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.parametrize("name", [*ENGINES, "auto"])
def test_every_name_opens_an_engine_and_loads_nothing(name: str) -> None:
    engine = open_engine(EngineSettings(engine=name))
    assert engine.model_name
    # Of all that its kind can have, those that it can use as it was opened.
    published = set(engine.schema()["properties"])
    assert {"prompt", "strength"} < set(engine.parameters) == published
    assert published <= set(engine.parameters_type.model_fields)


def test_an_unknown_name_is_refused_with_the_known_ones() -> None:
    with pytest.raises(ConfigError, match="engine: expected one of stream-batch"):
        open_engine(EngineSettings(engine="magic"))
