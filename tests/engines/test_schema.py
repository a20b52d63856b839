"""What an engine publishes about its parameters."""

import jsonschema

from dreamrelay.engines import EngineSettings, open_engine


def test_the_loaded_model_s_values_are_the_defaults_and_its_words_are_listed() -> None:
    engine = open_engine(EngineSettings(parameters={"prompt": "blue", "seed": 5}))
    assert "x-vocabulary" not in engine.schema()
    engine.load(lambda _: None)
    schema = engine.schema()
    jsonschema.Draft202012Validator.check_schema(schema)
    defaults = {name: rule["default"] for name, rule in schema["properties"].items()}
    assert defaults == engine.parameters
    assert (defaults["prompt"], defaults["seed"]) == ("blue", 5)
    assert "neon" in schema["x-vocabulary"]["styles"]
    assert "blue" in schema["x-vocabulary"]["colours"]
    engine.close()
