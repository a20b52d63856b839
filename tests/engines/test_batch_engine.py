"""What every stream batch can between two frames, on a small pocket model and a small SD 1.5."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from dreamrelay.engines import EngineSettings, open_engine
from dreamrelay.engines.pocket_engine import PocketEngine
from dreamrelay.engines.ports import Turn
from dreamrelay.errors import ConfigError, EngineError, ParameterError
from tests.engines.pictures import moving_frames, noise_frame
from tests.engines.tiny_models import pocket_folder, save_model

Open = Callable[..., Any]


@pytest.fixture(scope="module", params=["pocket", "stream-batch"])
def open_loaded(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Open]:
    model = pocket_folder()
    if request.param == "stream-batch":
        model = save_model(tmp_path_factory.mktemp("batch_engine"))
    base = EngineSettings(
        engine=request.param, model=str(model), device="cpu", acceleration="none", width=64
    )
    opened: list[Any] = []

    def load(parameters: Mapping[str, Any] | None = None, **settings: Any) -> Any:
        start = {"num_inference_steps": 1, "cfg_type": "none", "prompt": "a red cat"}
        start |= {"strength": 0.9, **(parameters or {})}
        engine = open_engine(replace(base, height=64, parameters=start, **settings))
        engine.load(lambda progress: None)
        opened.append(engine)
        return engine

    yield load
    for engine in opened:
        engine.close()


def assert_alike(one: NDArray[np.uint8], other: NDArray[np.uint8]) -> None:
    """Equal up to the rounding of a last bit."""
    assert np.abs(one.astype(np.int64) - other.astype(np.int64)).max() <= 1


def told(engine: Any) -> NDArray[np.float32]:
    """What the last call was told, as one array."""
    return np.asarray(engine._stands.prompt.tokens, np.float32)


# Prompts on their way ----------------------------------------------------------------------------


@pytest.mark.parametrize("blend", ["linear", "slerp", "slerp_tokens"])
def test_a_changed_prompt_morphs_and_ends_where_a_fresh_engine_begins(
    open_loaded: Open, blend: str
) -> None:
    engine = open_loaded({"transition_frames": 4, "prompt_interpolation": blend})
    frame = noise_frame(0)
    before = engine.infer(frame, 0).frame
    start = told(engine)
    engine.apply({"prompt": "the blue sea"})
    ways, pictures = [], []
    for at in range(6):
        assert engine.morphing == (at < 4)
        pictures.append(engine.infer(frame, at).frame)
        ways.append(told(engine))
    goal = ways[-1]
    assert not engine.morphing
    gone = [float(np.abs(way - start).mean() / np.abs(goal - start).mean()) for way in ways]
    assert 0 < gone[0] < gone[1] < gone[2] < gone[3]
    np.testing.assert_allclose(gone[3:], 1, rtol=1e-5)
    assert (pictures[-1] != before).any()
    assert_alike(pictures[-1], open_loaded({"prompt": "the blue sea"}).infer(frame, 0).frame)
    assert_alike(pictures[-1], engine.infer_once(frame, {}))


def test_a_morph_that_is_sent_elsewhere_does_not_jump(open_loaded: Open) -> None:
    engine = open_loaded({"transition_frames": 40})
    frame = noise_frame(0)
    engine.infer(frame, 0)
    steps = []
    for at, prompt in enumerate(["the blue sea", "a green city", "a red cat"] * 3):
        before = told(engine)
        engine.apply({"prompt": prompt})
        engine.infer(frame, at)
        steps.append(float(np.abs(told(engine) - before).max()))
    engine.apply({"transition_frames": 0})
    assert not engine.morphing, "0 is at once"
    before = told(engine)
    engine.apply({"prompt": "the blue sea"})
    engine.infer(frame, 99)
    assert max(steps) < 0.2 * np.abs(told(engine) - before).max()


def test_other_parameters_do_not_disturb_a_morph_and_filters_do_not_stop_it(
    open_loaded: Open,
) -> None:
    skipping = {"enable_similar_image_filter": True, "similar_image_filter_threshold": 0.0}
    engine = open_loaded({"transition_frames": 3, **skipping})
    frame = noise_frame(0)
    engine.infer(frame, 0)
    engine.apply({"prompt": "the blue sea"})
    for at in range(3):
        assert engine.morphing
        engine.apply({"seed": at, "guidance_scale": 1.0 + at})
        assert not engine.infer(frame, at).repeated
    assert not engine.morphing


def test_a_prompt_can_stay_with_its_frame(open_loaded: Open) -> None:
    frames = moving_frames(9)
    steps = {"num_inference_steps": 3, "cfg_type": "full", "guidance_scale": 8.0}
    follows = open_loaded({**steps, "prompt_follows_frame": True})
    at_once = open_loaded(steps)
    for at, frame in enumerate(frames):
        if at == 5:
            for engine in (follows, at_once):
                engine.apply({"prompt": "the blue sea", "negative_prompt": "red"})
        result, other = follows.infer(frame, at), at_once.infer(frame, at)
        assert result.token == other.token
        came_in_under = (
            {}
            if result.token >= 5 or at < 5
            else {
                "prompt": "a red cat",
                "negative_prompt": "",
            }
        )
        assert_alike(result.frame, follows.infer_once(frames[result.token], came_in_under))
        if at == 5:
            assert np.abs(result.frame.astype(int) - other.frame).max() > 1


def test_a_negative_prompt_can_act_without_guidance(open_loaded: Open) -> None:
    engine, frame = open_loaded({"negative_prompt_scale": 0.0}), noise_frame(0)
    plain = engine.infer_once(frame, {})
    assert_alike(engine.infer_once(frame, {"negative_prompt": "the sea"}), plain)
    ways = [
        engine.infer_once(frame, {"negative_prompt": "the sea", "negative_prompt_scale": scale})
        for scale in (0.5, 2.0)
    ]
    near, far = (float(np.abs(way.astype(int) - plain).mean()) for way in ways)
    assert 0 < near < far


# From nothing ------------------------------------------------------------------------------------


def test_a_picture_of_the_prompt_alone_does_not_know_the_frame(open_loaded: Open) -> None:
    engine = open_loaded({"input_mode": "text", "strength": 0.3, "num_inference_steps": 2})
    one, other = (engine.infer_once(noise_frame(seed), {}) for seed in (0, 1))
    np.testing.assert_array_equal(one, other)
    assert one.std() > 0
    full = engine.infer_once(noise_frame(0), {"strength": 1.0})
    np.testing.assert_array_equal(full, one)
    for patch in ({"seed": 3}, {"prompt": "the sea"}):
        assert (engine.infer_once(noise_frame(0), patch) != one).any()


# Size --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [1, 2])
def test_the_size_changes_between_two_frames(open_loaded: Open, size: int) -> None:
    engine = open_loaded({"num_inference_steps": 2}, frame_buffer_size=size)
    for at, frame in enumerate(moving_frames(4)):
        engine.infer(frame, at)
    for width, height in ((96, 72), (40, 64), (64, 64)):
        engine.apply({"width": width, "height": height})
        assert (engine.width, engine.height) == (width, height)
        stale = noise_frame(0, width + 8, height)
        with pytest.raises(EngineError, match=f"expected a frame of {height}x{width}x3"):
            engine.infer(stale, 10)
        frames = moving_frames(2 * size + 2, width, height)
        for at, frame in enumerate(frames, start=11):
            result = engine.infer(frame, at)
            assert result.frame.shape == (height, width, 3)
            assert_alike(result.frame, engine.infer_once(frames[result.token - 11], {}))
    with pytest.raises(ParameterError, match=r"width: expected a whole number 8\.\.2048 in steps"):
        engine.apply({"width": 100})
    assert engine.parameters["width"] == 64


def test_a_single_picture_has_the_size_of_its_frame(open_loaded: Open) -> None:
    engine = open_loaded()
    assert engine.infer_once(noise_frame(0), {"width": 96, "height": 32}).shape == (64, 64, 3)
    with pytest.raises(ParameterError):
        engine.infer_once(noise_frame(0), {"width": 1})


def test_the_operator_s_size_is_the_first_value() -> None:
    engine = PocketEngine(EngineSettings(model=str(pocket_folder()), width=96))
    engine.load(lambda progress: None)
    assert (engine.width, engine.height) == (96, 256)
    assert (engine.parameters["width"], engine.parameters["height"]) == (96, 256)
    with pytest.raises(ConfigError, match="width: expected a multiple of 8 from 8 to 2048"):
        PocketEngine(EngineSettings(width=4096))


# Parameters that an engine has not ---------------------------------------------------------------


def test_what_an_engine_cannot_use_is_not_published_and_refused_with_a_way_out() -> None:
    class Without(PocketEngine):
        def _absent(self) -> Mapping[str, str]:
            return {"delta": "start the worker with --delta_model=..."}

    settings = EngineSettings(model=str(pocket_folder()), width=64, height=64)
    engine = Without(settings)
    engine.load(lambda progress: None)
    assert "delta" not in engine.parameters
    assert "delta" not in engine.schema()["properties"]
    before = engine.parameters
    with pytest.raises(ParameterError) as caught:
        engine.apply({"delta": 0.5, "seed": 7, "strength": 3})
    assert caught.value.problems["delta"] == (
        "not in this engine: start the worker with --delta_model=..."
    )
    assert set(caught.value.problems) == {"delta", "strength"}
    with pytest.raises(ParameterError, match="not in this engine"):
        engine.infer_once(noise_frame(0), {"delta": 0.5})
    assert engine.parameters == before
    with pytest.raises(ConfigError, match=r"parameters: .*--delta_model"):
        Without(replace(settings, parameters={"delta": 0.5}))


def test_the_values_are_told_anew_only_after_a_change(open_loaded: Open) -> None:
    engine = open_loaded()
    values = engine.parameters
    values["seed"] = 999
    assert engine.parameters["seed"] != 999, "it is the caller's own"
    engine.apply({"seed": 5})
    assert engine.parameters["seed"] == 5


def test_prompts_are_encoded_once_for_each_state_of_the_encoder(open_loaded: Open) -> None:
    engine = open_loaded()
    frame = noise_frame(0)
    before = engine.counters()["prompts_encoded"]
    for state in ("one", "two", "one", "two"):
        engine.encoder_state = partial(str, state)
        engine._planner.forget()
        engine.infer_once(frame, {})
    assert engine.counters()["prompts_encoded"] - before == 2


# Several streams in one call ---------------------------------------------------------------------

LOOKS: tuple[dict[str, Any], ...] = (
    {"prompt": "a red cat", "num_inference_steps": 2},
    {"prompt": "the sea", "cfg_type": "full", "guidance_scale": 1.6, "negative_prompt": "red"},
    {"seed": 9, "num_inference_steps": 3, "cfg_type": "initialize", "guidance_scale": 1.4},
    {"renoise": "ode", "num_inference_steps": 2, "prompt_follows_frame": True, "smoothing": 0.4},
)


def test_streams_that_share_a_call_are_as_each_by_itself(open_loaded: Open) -> None:
    first = open_loaded(LOOKS[0])
    engines = [first, *(first.beside(look) for look in LOOKS[1:])]
    alone = [first.beside(look) for look in LOOKS]
    calls = 0
    predict = first.denoiser.predict

    def counted(*inputs: Any) -> Any:
        nonlocal calls
        calls += 1
        return predict(*inputs)

    first.denoiser.predict = counted
    frames = moving_frames(14)
    for at in range(5):
        mask = np.full((64, 64), 200, np.uint8) if at == 2 else None
        calls = 0
        turns = [Turn(e, frames[at + 2 * i], at, mask) for i, e in enumerate(engines)]
        results = first.infer_together(turns)
        if at:
            assert calls == 1
        for i, (engine, result) in enumerate(zip(alone, results, strict=True)):
            expected = engine.infer(frames[at + 2 * i], at, mask)
            assert result is not None
            assert result.token == expected.token
            assert_alike(result.frame, expected.frame)
    first.close()
    assert engines[1].infer(frames[0], 5) is not None, "the model goes with the last of them"


def test_streams_that_cannot_share_a_call_have_calls_of_their_own(open_loaded: Open) -> None:
    first = open_loaded()
    wide, stranger, tuned = first.beside({"width": 96}), open_loaded(), first.beside({})
    tuned._tuning = lambda parameters: "another LoRA"
    frame, broad = noise_frame(0), noise_frame(0, 96, 64)
    turns = [Turn(engine, frame, at) for at, engine in enumerate((first, stranger, tuned))]
    outcomes = first.infer_together([*turns, Turn(wide, broad, 3), Turn(first, frame[:8], 4)])
    assert [outcome.token for outcome in outcomes[:4]] == [0, 1, 2, 3]
    assert outcomes[3].frame.shape == broad.shape
    assert isinstance(outcomes[4], EngineError)
    assert "expected a frame of 64x64x3" in str(outcomes[4])


def test_single_pictures_share_a_call_with_streams(open_loaded: Open) -> None:
    first = open_loaded({"num_inference_steps": 2})
    other = first.beside({"prompt": "the sea"})
    alone = [first.beside({}), first.beside({"prompt": "the sea"})]
    patches: list[dict[str, Any]] = [
        {"prompt": "a dog", "seed": 3},
        {"num_inference_steps": 3, "strength": 0.5},
        {"strength": 7},
    ]
    frames = moving_frames(6)
    for at in range(2):
        turns = [Turn(first, frames[at], "one"), Turn(other, frames[at + 1], "other")]
        turns += [Turn(first, frames[i], i, patch=patch) for i, patch in enumerate(patches)]
        made = first.infer_together(turns)
        expected: list[Any] = [
            stream.infer(frames[at + i], 0).frame for i, stream in enumerate(alone)
        ]
        expected += [alone[0].infer_once(frames[i], patches[i]) for i in range(2)]
        for outcome, frame in zip(made[:4], expected, strict=True):
            assert_alike(outcome.frame, frame)
        assert [outcome.token for outcome in made[:4]] == ["one", "other", 0, 1]
        assert isinstance(made[4], ParameterError), "what is wrong with one costs that one"


def test_a_joint_call_that_fails_is_made_again_for_each_alone(open_loaded: Open) -> None:
    first = open_loaded()
    engines = [first, first.beside({"prompt": "the sea"}), first.beside({"seed": 5})]
    alone = [first.beside(engine.parameters) for engine in engines]
    predict, rows = first.denoiser.predict, []

    def short_of_memory(*inputs: Any) -> Any:
        rows.append(len(inputs[0]))
        if len(inputs[0]) > 1:
            raise MemoryError("for so many rows")
        return predict(*inputs)

    first.denoiser.predict = short_of_memory
    first._is_out_of_memory = lambda error: isinstance(error, MemoryError)
    first.model.most_together = 3
    first._settings = replace(first._settings, batch=8)
    assert first.batch_limit == 3
    frames = moving_frames(4)
    made = first.infer_together([Turn(e, frames[i], i) for i, e in enumerate(engines)])
    assert rows == [3, 1, 1, 1]
    for i, outcome in enumerate(made):
        assert_alike(outcome.frame, alone[i].infer(frames[i], i).frame)
    assert first.batch_limit == 1, "fewer from now on"


def test_one_that_cannot_be_computed_costs_the_others_nothing(open_loaded: Open) -> None:
    first = open_loaded()
    engines = [first, first.beside({"prompt": "the sea"}), first.beside({"seed": 5})]
    predict, calls = first.denoiser.predict, 0

    def fails(*inputs: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls in (1, 3):  # all of them, and then the second one by itself
            raise RuntimeError("no such kernel")
        return predict(*inputs)

    first.denoiser.predict = fails
    frame = noise_frame(1)
    one, two, three = first.infer_together([Turn(e, frame, i) for i, e in enumerate(engines)])
    assert (one.token, three.token) == (0, 2)
    assert isinstance(two, EngineError)
    assert "no such kernel" in str(two)
    made = first.infer_together([Turn(e, frame, i) for i, e in enumerate(engines)])
    assert [outcome.token for outcome in made] == [0, 1, 2], "and it goes on"
