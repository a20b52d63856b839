"""A stream over an engine that knows of one stream only."""

import numpy as np
import pytest

from dreamrelay.engines import Result
from dreamrelay.engines.ports import Turn
from dreamrelay.errors import EngineError, ParameterError
from tests.fakes.engines import ScriptedEngine

FRAME = np.full((48, 64, 3), 200, np.uint8)


def colour(outcome: object) -> list[int]:
    assert isinstance(outcome, Result)
    pixel: list[int] = outcome.frame[0, 0].tolist()
    return pixel


def test_it_has_parameters_of_its_own_and_the_size_of_the_engine() -> None:
    engine = ScriptedEngine()
    engine.apply({"prompt": "red", "strength": 0.25})
    one, other = engine.beside({"prompt": "green"}), engine.beside({})
    assert one.parameters == {**engine.parameters, "prompt": "green"}
    assert one.schema()["properties"]["prompt"]["default"] == "green"
    assert (one.width, one.height, one.name) == (engine.width, engine.height, engine.name)
    one.apply({"prompt": "blue"})
    with pytest.raises(ParameterError):
        one.apply({"strength": 7})
    made = engine.infer_together(
        [Turn(engine, FRAME, 0), Turn(one, FRAME, 1), Turn(other, FRAME, 2)]
    )
    assert [colour(outcome) for outcome in made] == [[255, 0, 0], [0, 0, 255], [255, 0, 0]]
    assert [outcome.token for outcome in made if isinstance(outcome, Result)] == [0, 1, 2]
    assert engine.parameters["prompt"] == "red"
    assert not one.stateful


def test_what_is_wrong_with_one_turn_costs_no_other() -> None:
    engine = ScriptedEngine()
    one = engine.beside({})
    made = engine.infer_together(
        [Turn(one, FRAME, 0, patch={"prompt": "fail"}), Turn(one, FRAME, 1, patch={})]
    )
    assert isinstance(made[0], EngineError)
    assert colour(made[1]) == [55, 55, 55]
    one.close()
    with pytest.raises(EngineError, match="closed"):
        one.infer(FRAME, 0)
    assert engine.infer(FRAME, 1) is not None
    with pytest.raises(ParameterError):
        engine.beside({"strength": 7})
