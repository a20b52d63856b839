"""The page of the parameters is of today and names them all."""

from dreamrelay.engines.diffusion_parameters import DiffusionParameters
from examples import parameters


def test_the_page_is_what_the_engines_say() -> None:
    assert parameters.main(["--check"]) == 0, "run: python -m examples.parameters"


def test_every_parameter_of_the_torch_engine_is_on_it() -> None:
    page = parameters.page()
    for name in DiffusionParameters.model_fields:
        assert f"\n| `{name}` |" in page
