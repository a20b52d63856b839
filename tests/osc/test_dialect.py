"""What each address does, without a socket."""

from pathlib import Path
from typing import Any

import pytest

from dreamrelay.errors import ProtocolError
from dreamrelay.osc.dialect import HELD_SECONDS, Dialect, Reply, Standing
from dreamrelay.osc.presets import Presets
from dreamrelay.osc.table import ADDRESSES, BY_ADDRESS, FIGURES
from dreamrelay.osc.wire import Message
from tests.osc.support import SCHEMA, TOLD, VALUES, Scene

HERE = ("127.0.0.1", 9000)


class Stage:
    """A dialect with a scene behind it and a clock that a test moves."""

    def __init__(self, folder: Path) -> None:
        self.scene = Scene()
        self.now = 100.0
        self.presets = Presets(folder / "presets.json")
        self.dialect = Dialect(self.scene.steered(), self.presets, clock=lambda: self.now)
        self.dialect.introduce(SCHEMA)

    def __call__(
        self, address: str, *arguments: Any, sender: tuple[str, int] = HERE
    ) -> list[Reply]:
        """A message, and the end of the datagrams that are there."""
        replies = self.gather(address, *arguments, sender=sender)
        self.dialect.flush()
        return replies

    def gather(self, address: str, *arguments: Any, sender: tuple[str, int] = HERE) -> list[Reply]:
        return self.dialect.receive(Message(address, arguments), sender)

    def refuses(self, expected: str, address: str, *arguments: Any) -> None:
        with pytest.raises(ProtocolError) as caught:
            self(address, *arguments)
        assert expected in str(caught.value)
        assert self.scene.heard == []


@pytest.fixture
def stage(tmp_path: Path) -> Stage:
    return Stage(tmp_path)


class TestPrompt:
    def test_alone_and_with_a_negative_one(self, stage: Stage) -> None:
        stage("/prompt", "a fox")
        stage("/prompt", "a fox", "ugly")
        stage("/prompt", "a fox", "ugly", 3)
        assert stage.scene.patches == [
            {"prompt": "a fox"},
            {"prompt": "a fox", "negative_prompt": "ugly"},
            {"prompt": "a fox", "negative_prompt": "ugly"},
        ]

    def test_numbers_are_written_out_as_the_spout_service_did(self, stage: Stage) -> None:
        stage("/prompt", 7)
        stage("/prompt", 0.5, 3)
        assert [patch["prompt"] for patch in stage.scene.patches] == ["7", "0.5"]

    def test_none_leaves_the_one_in_force(self, stage: Stage) -> None:
        assert stage("/prompt") == []
        assert stage.scene.patches == []

    def test_weights(self, stage: Stage) -> None:
        stage("/prompt", "fox", 0.7, "wolf", 0.3)
        assert stage.scene.patches == [
            {"prompts": [{"text": "fox", "weight": 0.7}, {"text": "wolf", "weight": 0.3}]}
        ]
        stage("/prompt", "plain again")
        assert stage.scene.patches[-1] == {"prompt": "plain again", "prompts": None}
        stage("/prompt", "and again")
        assert stage.scene.patches[-1] == {"prompt": "and again"}

    def test_an_engine_that_blends_none_says_so(self, stage: Stage) -> None:
        stage.dialect.introduce({"properties": {"prompt": {"type": "string"}}})
        stage.refuses("blends no prompts", "/prompt", "fox", 0.7, "wolf", 0.3)
        stage.refuses("no negative_prompt", "/prompt", "fox", "ugly")

    def test_what_an_engine_does_not_have_it_says_why(self, stage: Stage) -> None:
        absent = {"negative_prompt": "it runs without guidance", "canny_low": "no ControlNet"}
        rules = {"properties": {"prompt": {"type": "string"}}, "x-absent": absent}
        stage.dialect.introduce(rules)
        stage.refuses("no ControlNet", "/canny_low", 0.5)
        stage.refuses("no ControlNet", "/parameters/canny_low/add", 0.5)
        stage.refuses("without guidance", "/prompt", "fox", "ugly")

    def test_arrays_and_bytes_are_read_as_what_is_in_them(self, stage: Stage) -> None:
        stage("/prompt", ["a fox", "ugly"])
        stage("/prompt", "Füchse".encode())
        stage("/prompt", [["fox"], 0.7, [[b"wolf"], 0.3]])
        assert stage.scene.patches == [
            {"prompt": "a fox", "negative_prompt": "ugly"},
            {"prompt": "Füchse"},
            {"prompts": [{"text": "fox", "weight": 0.7}, {"text": "wolf", "weight": 0.3}]},
        ]

    @pytest.mark.parametrize(
        "arguments", [[None], [b""], [b"\xff"], [bytes(8)], [[None]], [None, "text"]]
    )
    def test_what_is_no_text(self, stage: Stage, arguments: list[Any]) -> None:
        stage.refuses("expected a text", "/prompt", *arguments)

    def test_too_long_a_one(self, stage: Stage) -> None:
        stage.refuses("2000", "/prompt", "x" * 2001)
        stage("/prompt", "x" * 2000)
        assert stage.scene.patches

    def test_before_an_engine_has_said_what_it_takes(self, tmp_path: Path) -> None:
        stage = Stage(tmp_path)
        stage.dialect = Dialect(stage.scene.steered(), stage.presets)
        stage("/prompt", "early", "bad")
        assert stage.scene.patches == [{"prompt": "early", "negative_prompt": "bad"}]
        stage.scene.heard.clear()
        stage.refuses("no such address", "/strength", 0.5)
        stage.refuses("nothing to save yet", "/preset/save", 1)


class TestWords:
    @pytest.mark.parametrize(
        ("address", "word"),
        [
            ("/start", "start"), ("/s", "start"), ("/stop", "stop"), ("/S", "stop"),
            ("/trigger", "trigger"), ("/t", "trigger"), ("/p", "p"), ("/P", "P"), ("/x", "x"),
        ],
    )  # fmt: skip
    def test_each_and_its_alias(self, stage: Stage, address: str, word: str) -> None:
        stage(address)
        assert stage.scene.words == [word]

    @pytest.mark.parametrize("address", ["/Start", "/START", "/T", "/X", "/V", "/Prompt", "/sTop"])
    def test_capitals_matter(self, stage: Stage, address: str) -> None:
        stage.refuses("no such address", address)

    def test_stop_then_start_ends_started(self, stage: Stage) -> None:
        for address in ("/stop", "/start", "/S", "/s"):
            stage.gather(address)
        assert stage.scene.words == ["stop", "start", "stop", "start"]

    def test_what_was_set_before_a_trigger_holds_before_it(self, stage: Stage) -> None:
        stage.gather("/prompt", "one")
        stage.gather("/t")
        stage.gather("/prompt", "two")
        stage.gather("/t")
        assert stage.scene.heard == [{"prompt": "one"}, "trigger", {"prompt": "two"}, "trigger"]

    def test_a_button_acts_when_it_goes_down(self, stage: Stage) -> None:
        for value in (1.0, 0.0, 1, 0, True, False, "1", "0"):
            stage("/trigger", value)
        assert stage.scene.words == ["trigger"] * 4

    def test_a_cable_that_repeats_its_value_presses_once(self, stage: Stage) -> None:
        for _ in range(60):
            stage("/trigger", 1.0)
            stage.now += 1 / 60
        assert stage.scene.words == ["trigger"]
        stage.now += HELD_SECONDS
        stage("/trigger", 1.0)
        assert stage.scene.words == ["trigger"] * 2

    def test_everybody_has_buttons_of_their_own(self, stage: Stage) -> None:
        stage("/trigger", 1)
        stage("/trigger", 1, sender=("127.0.0.1", 9001))
        stage("/t", 1)
        assert stage.scene.words == ["trigger"] * 3

    def test_what_is_no_number_is_ignored_as_the_spout_service_did(self, stage: Stage) -> None:
        stage("/start", "now", "please")
        stage("/stop", None)
        assert stage.scene.words == ["start", "stop"]

    def test_buttons_that_were_pressed_are_forgotten_some_day(self, stage: Stage) -> None:
        for port in range(2000):
            stage("/trigger", 1, sender=("127.0.0.1", port))
        assert len(stage.dialect._held) == 512


class TestVerbosity:
    def test_levels(self, stage: Stage) -> None:
        for sent, level in ((2, 2), (3.0, 3), ("0", 0), (1.0, 1)):
            stage("/verbose", sent)
            assert stage.scene.level == level
        assert stage("/verbose") == [("/verbose", [1])]

    def test_round_and_round(self, stage: Stage) -> None:
        seen = []
        for _ in range(5):
            stage("/v")
            seen.append(stage.scene.level)
        assert seen == [2, 3, 0, 1, 2]
        stage("/voff")
        assert stage.scene.level == 0
        stage("/von")
        assert stage.scene.level == 2

    @pytest.mark.parametrize("value", [4, -1, "abc", None, b"", float("nan")])
    def test_others_are_refused(self, stage: Stage, value: Any) -> None:
        stage.refuses("expected", "/verbose", value)
        assert stage.scene.level == 1


class TestParameters:
    def test_every_parameter_is_an_address(self, stage: Stage) -> None:
        stage("/strength", 0.25)
        stage("/seed", 7.0)
        stage("/glow", 1)
        stage("/look", "wild")
        stage("/steps", 22, 32, 45)
        stage("/negative_prompt", "ugly")
        assert stage.scene.patches == [
            {"strength": 0.25},
            {"seed": 7},
            {"glow": True},
            {"look": "wild"},
            {"steps": [22, 32, 45]},
            {"negative_prompt": "ugly"},
        ]

    def test_of_a_flood_the_newest_of_each_goes_on(self, stage: Stage) -> None:
        for number in range(1000):
            stage.gather("/strength", number / 1000)
            stage.gather("/seed", number)
        assert stage.dialect.waiting
        stage.dialect.flush()
        assert stage.scene.patches == [{"strength": 0.999, "seed": 999}]
        assert not stage.dialect.waiting

    def test_one_wrong_value_in_a_flood_loses_no_right_one(self, stage: Stage) -> None:
        stage.gather("/strength", 0.3)
        with pytest.raises(ProtocolError, match=r"0\.\.1"):
            stage.gather("/strength", 7)
        stage.dialect.flush()
        assert stage.scene.patches == [{"strength": 0.3}]

    def test_relative_values(self, stage: Stage) -> None:
        stage("/strength", "+0.1")
        stage("/strength", "-0.2")
        stage("/strength/add", 0.05)
        stage("/seed/add", -1)
        assert stage.scene.values["strength"] == 0.45
        assert stage.scene.values["seed"] == 1
        stage("/strength/add", 5)
        assert stage.scene.values["strength"] == 1
        stage("/strength", "-9")
        assert stage.scene.values["strength"] == 0
        stage("/gain/add", 100)
        assert stage.scene.values["gain"] == 101

    def test_a_number_is_a_value_whatever_its_sign(self, stage: Stage) -> None:
        stage("/warp", -0.5)
        assert stage.scene.values["warp"] == -0.5
        stage("/warp", "-0.5")
        assert stage.scene.values["warp"] == -1.0

    def test_steps_of_an_encoder_add_up_before_the_first_holds(self, stage: Stage) -> None:
        stage.scene.slow = True
        for _ in range(3):
            stage("/strength/add", 0.1)
        assert stage.scene.patches[-1] == {"strength": 0.8}
        stage.now += 5  # it never came into force: somebody refused it
        stage("/strength/add", 0.1)
        assert stage.scene.patches[-1] == {"strength": 0.6}

    def test_from_nought_to_one(self, stage: Stage) -> None:
        stage("/warp/unit", 0.75)
        stage("/warp/unit", 2)
        stage("/warp/unit", 0)
        assert [patch["warp"] for patch in stage.scene.patches] == [1.0, 2.0, -2.0]

    def test_a_fader_or_an_encoder_chooses(self, stage: Stage) -> None:
        for value in (0, 0.4, 1, -3, 7):
            stage("/look/unit", value)
        assert [patch["look"] for patch in stage.scene.patches] == [
            "plain", "wild", "odd", "plain", "odd",
        ]  # fmt: skip
        for step in (-1, 1, 1, -9):
            stage("/look/add", step)
        assert [patch["look"] for patch in stage.scene.patches[5:]] == [
            "wild", "odd", "odd", "plain",
        ]  # fmt: skip
        stage("/glow/unit", 0.9)
        assert stage.scene.patches[-1] == {"glow": True}

    def test_a_number_as_a_list_of_one(self, stage: Stage) -> None:
        stage("/strength", [0.25])
        stage("/steps", [[1, 2], 3])
        assert stage.scene.patches == [{"strength": 0.25}, {"steps": [1, 2, 3]}]

    def test_a_switch_is_turned_over_by_a_press(self, stage: Stage) -> None:
        stage("/glow/toggle", 1.0)
        stage("/glow/toggle", 0.0)
        assert stage.scene.values["glow"] is True
        stage("/glow/toggle")
        assert stage.scene.values["glow"] is False

    def test_a_parameter_that_is_called_as_a_figure_has_its_long_name(self, stage: Stage) -> None:
        stage("/parameters/fps", 12)
        assert stage("/fps", 12) == []
        assert stage.scene.patches == [{"fps": 12}]

    @pytest.mark.parametrize(
        ("address", "arguments", "expected"),
        [
            ("/strength", [1.5], "0..1"),
            ("/strength", ["+much"], "number"),
            ("/strength", ["9" * 400], "expected a number"),
            ("/prompts", ['[{"text": 5}]'], "expected string"),
            ("/prompts", ['[{"text": "a", "weight": NaN}, 3]'], "expected"),
            ("/preset", [True], "number or name"),
            ("/preset", [0.5], "number or name"),
            ("/preset", [None], "number or name"),
            ("/preset/save", [False], "number or name"),
            ("/strengh", [0.5], "did you mean /strength?"),
            ("/strength/up", [0.5], "no such address"),
            ("/", [], "no such address"),
            ("//", [], "no such address"),
            ("/*", [1], "patterns are not taken"),
            ("/s*", [], "patterns are not taken"),
            ("/glow/add", [1], "boolean"),
            ("/strength/toggle", [], "only a switch"),
            ("/gain/unit", [0.5], "no bounds"),
            ("/strength/add", [], "one number"),
            ("/steps/add", [1], "array"),
            ("/look", ["mild"], "plain, wild, odd"),
            ("/model", ["x"], "no such address"),
            ("/preset/load/1", [], "/preset/4"),
            ("/preset/7", [], "no such preset"),
        ],
    )
    def test_what_is_refused(
        self, stage: Stage, address: str, arguments: list[Any], expected: str
    ) -> None:
        stage.refuses(expected, address, *arguments)


class TestQuestions:
    def test_of_a_parameter(self, stage: Stage) -> None:
        assert stage("/strength", "?") == [("/strength", [0.5])]
        assert stage("/strength") == [("/strength", [0.5])]
        assert stage("/strength/?") == [("/strength", [0.5])]
        assert stage("/prompt", "?") == [("/prompt", ["a fox"])]
        assert stage("/steps", "?") == [("/steps", ["none"])]
        assert stage.scene.patches == []

    def test_of_a_figure(self, stage: Stage) -> None:
        stage.scene.standing = Standing("paused", "stopped", 24.5, 61.0)
        assert stage("/state", "?") == [("/state", ["paused", "stopped"])]
        assert stage("/fps", "?") == [("/fps", [24.5])]
        assert stage("/age", "?") == [("/age", [61.0])]
        stage.scene.standing = Standing("live", prompts=(4, 7))
        assert stage("/prompt_cache", "?") == [("/prompt_cache", [4, 7])]

    def test_of_a_part_of_the_way(self, stage: Stage) -> None:
        times = {"infer": (1.0, 2.0, 3.0), "error": (0.5,), "a later one": (1.0,)}
        stage.scene.standing = Standing("live", latency=times)
        assert stage("/latency/infer", "?") == [("/latency/infer", [1, 2, 3])]
        assert stage("/latency/error", "?") == [("/latency/error", [0.5])]
        assert stage("/latency/encoded", "?") == [], "nobody knows"
        told = dict(stage("/query"))
        assert told["/latency/infer"] == [1, 2, 3]
        assert set(told) == TOLD | {"/latency/infer", "/latency/error"}

    def test_what_another_of_our_kind_tells_is_no_error(self, stage: Stage) -> None:
        for figure in FIGURES:
            assert stage(figure.name, "something", 1) == []

    @pytest.mark.parametrize("address", ["/query", "/?"])
    def test_of_everything(self, stage: Stage, address: str) -> None:
        told = dict(stage(address))
        assert set(told) == TOLD
        assert told["/seed"] == [2]


class TestPresets:
    def test_save_and_recall(self, stage: Stage) -> None:
        stage("/preset/save", 1)
        stage("/strength", 0.9)
        stage("/preset/save/night")
        stage("/preset", 1.0)
        assert stage.scene.values == VALUES
        stage("/preset/night", 1.0)
        assert stage.scene.values["strength"] == 0.9
        assert stage("/preset", "?") == [("/preset", ["1", "night"])]

    def test_what_was_just_set_is_saved(self, stage: Stage) -> None:
        stage.scene.slow = True
        stage.gather("/strength", 0.7)
        stage.gather("/preset/save", "a")
        assert stage.presets.recall("a")["strength"] == 0.7

    def test_a_button_recalls_when_it_goes_down(self, stage: Stage) -> None:
        stage("/preset/save/1", 1)
        stage("/preset/save/1", 0)
        stage("/strength", 0.9)
        stage("/preset/1", 0)
        assert stage.scene.values["strength"] == 0.9
        stage("/preset/1", 1)
        assert stage.scene.values["strength"] == 0.5

    def test_a_cable_that_repeats_a_number_recalls_once(self, stage: Stage) -> None:
        stage("/preset/save", 3)
        stage("/strength", 0.9)
        stage("/preset/save", 4)
        for number in (3, 3, 4, 4, 3):
            stage("/preset", float(number))
        stage("/strength", 0.7)
        stage("/preset", 3.0)
        assert stage.scene.values["strength"] == 0.7
        assert len(stage.scene.patches) == 5
        stage.now += 2 * HELD_SECONDS
        stage("/preset", 3.0)
        assert stage.scene.values["strength"] == 0.5

    def test_what_does_not_hold_any_more_is_named_and_the_others_hold(self, stage: Stage) -> None:
        stage.presets.save("old", {"strength": 7, "seed": 5, "steps": "all"})
        with pytest.raises(ProtocolError, match="strength: expected at most 1, got 7"):
            stage("/preset", "old")
        stage.dialect.flush()
        assert stage.scene.patches == [{"seed": 5}]

    def test_of_another_engine_what_is_known_here(self, stage: Stage) -> None:
        stage.presets.save("other", {"strength": 0.1, "speed": 7})
        stage("/preset", "other")
        assert stage.scene.patches == [{"strength": 0.1}]

    def test_one_that_is_not_there(self, stage: Stage) -> None:
        stage.refuses("no such preset", "/preset", "5")


def test_no_two_addresses_are_spelled_alike() -> None:
    spellings = [name for one in (*ADDRESSES, *FIGURES) for name in (one.name, *one.aliases)]
    assert len(spellings) == len(set(spellings))
    assert set(BY_ADDRESS) < set(spellings)
