"""What a spoken text asks for."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dreamrelay.speech import Action, understand


@pytest.mark.parametrize(
    ("said", "action"),
    [
        ("start", Action("start")),
        ("  Stop. ", Action("stop")),
        ("Black!", Action("black")),
        ("black out", Action("black")),
        ("picture", Action("picture")),
        ("New seed", Action("seed")),
        ("reset", Action("reset")),
        ("preset three", Action("preset", number=3)),
        ("Preset 7.", Action("preset", number=7)),
        ("preset number nine", Action("preset", number=9)),
    ],
)
def test_commands_by_their_whole_text(said: str, action: Action) -> None:
    assert understand(said) == action


@pytest.mark.parametrize(
    ("said", "text"),
    [
        ("oil painting", "oil painting"),
        ("A watercolor of Paris.", "A watercolor of Paris"),
        ("Neon, blue and (pink:1.3)", "Neon, blue and (pink:1.3)"),
        ("stop motion", "stop motion"),
        ("black and white", "black and white"),
        ("preset ten", "preset ten"),
        ("preset", "preset"),
        ("prompt black", "black"),
        ("Prompt: stop", "stop"),
        ("prompt. Start.", "Start"),
        ("prompted by nothing", "prompted by nothing"),
        ("wait...", "wait..."),
        ("青いネオン。", "青いネオン"),
    ],
)
def test_all_else_is_a_prompt(said: str, text: str) -> None:
    assert understand(said) == Action("prompt", text)


def test_add_puts_it_behind() -> None:
    assert understand("Add gold.") == Action("add", "gold")


@pytest.mark.parametrize("said", ["", "   ", "...", "?!", "prompt", "Prompt.", "add"])
def test_nothing(said: str) -> None:
    assert understand(said) == Action("nothing")


@given(st.text(max_size=200))
def test_any_text_means_something(said: str) -> None:
    action = understand(said)
    assert (action.name in ("prompt", "add")) == bool(action.text)
    assert (action.name == "preset") == (action.number is not None)
