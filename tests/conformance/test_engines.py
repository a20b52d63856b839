"""What every engine must do. An engine is accepted when this suite is green with it."""

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from typing import Any

import jsonschema
import numpy as np
import pytest
from diffusers import UNet2DConditionModel
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from dreamrelay.codec import Frame, resize
from dreamrelay.engines import Engine, EngineSettings, Result, open_engine
from dreamrelay.engines.ports import Turn
from dreamrelay.errors import EngineError, ParameterError
from tests.engines.pictures import moving_frames, noise_frame
from tests.engines.tiny_controls import save_guides
from tests.engines.tiny_models import pocket_folder, save_lora, save_model

SIDE = 64
SLOW = settings(deadline=None, suppress_health_check=list(HealthCheck))

Open = Callable[..., Engine]


@pytest.fixture(
    scope="module",
    params=[
        "tiny-sd15",
        "tiny-guided",
        "tiny-package",
        "tiny-pocket",
        "tiny-pocket-onnx",
        "pocket",
    ],
)
def open_loaded(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Open]:
    """Open and load a fresh engine, with the given first parameters."""
    folder = tmp_path_factory.mktemp("conformance") / request.param
    model, name, acceleration = "pocket", "auto", "none"
    more: dict[str, Any] = {}
    if request.param in ("tiny-sd15", "tiny-guided", "tiny-package"):
        model = str(save_model(folder, "sd15"))
        name = "streamdiffusion" if request.param == "tiny-package" else "auto"
        if request.param == "tiny-guided":
            net = UNet2DConditionModel.from_pretrained(folder / "unet")
            lora = save_lora(folder / "ink.safetensors", net, scale=0.02)
            more = {**save_guides(folder), "loras": {str(lora): 1.0}}
    elif request.param.startswith("tiny-pocket"):
        model, name = str(pocket_folder()), "pocket"
        acceleration = "onnx" if request.param.endswith("onnx") else "none"
    base = EngineSettings(
        engine=name,
        model=model,
        device="cpu",
        acceleration=acceleration,
        width=SIDE,
        height=SIDE,
        offline=True,
        **more,
    )
    opened: list[Engine] = []

    def open_one(parameters: Mapping[str, Any] | None = None) -> Engine:
        engine = open_engine(replace(base, parameters=dict(parameters or {})))
        opened.append(engine)
        engine.load(lambda progress: None)
        return engine

    yield open_one
    for engine in opened:
        engine.close()


@pytest.fixture(scope="module")
def shared(open_loaded: Open) -> Engine:
    """One engine for tests that leave it as they found it."""
    return open_loaded()


def schema_of(engine: Engine) -> dict[str, Any]:
    return engine.schema()


def values_of(schema: Mapping[str, Any]) -> st.SearchStrategy[Any]:
    """Values that a property of a JSON Schema lets pass."""
    if "anyOf" in schema:
        return st.one_of([values_of(choice) for choice in schema["anyOf"]])
    if "enum" in schema:
        return st.sampled_from(schema["enum"])
    match schema["type"]:
        case "number":
            return st.floats(schema["minimum"], schema["maximum"])
        case "integer" if "multipleOf" in schema:
            return st.sampled_from([SIDE - 8, SIDE, SIDE + 8])
        case "integer":
            # Few steps, else the tests take for ever.
            return st.integers(schema["minimum"], min(schema["maximum"], 4))
        case "boolean":
            return st.booleans()
        case "string":
            return st.text(max_size=min(schema["maxLength"], 30))
        case "object":
            return st.fixed_dictionaries(
                {name: values_of(rule) for name, rule in schema["properties"].items()}
            )
        case "array" if schema["items"]["type"] == "object":
            return st.lists(values_of(schema["items"]), max_size=3)
        case "array":
            items = st.integers(schema["items"]["minimum"], schema["items"]["maximum"])
            return st.lists(items, min_size=1, max_size=3, unique=True).map(sorted)
    return st.none()


def sized(engine: Engine, frames: list[Frame]) -> list[Frame]:
    """The frames as large as the engine takes them."""
    return [resize(frame, engine.width, engine.height, "stretch") for frame in frames]


HISTORY = {
    "enable_similar_image_filter": False,
    "transition_frames": 0,
    "follow_motion": "off",
    "latent_feedback": 0.0,
    "output_feedback": 0.0,
    "image_loopback": False,
    "smoothing": 0.0,
    "controlnet_temporal_smoothing": 1.0,
}
"""With these a picture depends on its own frame only, not on what was before."""


def patches_for(engine: Engine) -> st.SearchStrategy[dict[str, Any]]:
    properties = schema_of(engine)["properties"]
    each = {name: values_of(schema) for name, schema in properties.items()}
    return st.fixed_dictionaries({}, optional=each)


def picture_of(engine: Engine, frames: list[Frame], first_token: int = 0) -> Frame:
    """The picture of the last frame: it is fed until its picture comes out."""
    last = first_token + len(frames) - 1
    for token, frame in enumerate([*frames, *[frames[-1]] * 20], start=first_token):
        result = engine.infer(frame, token)
        if result is not None and result.token >= last:
            return result.frame
    raise AssertionError("the picture of the last frame never came")


def assert_alike(one: Frame, other: Frame) -> None:
    """Equal but for the rounding of the last bit."""
    assert np.abs(one.astype(np.int64) - other.astype(np.int64)).max() <= 1


# Pictures ----------------------------------------------------------------------------------------


def test_pictures_have_the_size_and_form_of_a_frame(open_loaded: Open) -> None:
    engine = open_loaded()
    assert (engine.width, engine.height) == (SIDE, SIDE)
    frames = moving_frames(6)
    kept = [frame.copy() for frame in frames]
    results = [engine.infer(frame, at) for at, frame in enumerate(frames)]
    assert results[0] is not None, "a picture from the first frame on"
    pictures = [result.frame for result in results if result is not None]
    before = [picture.copy() for picture in pictures]
    for picture in [*pictures, engine.infer_once(frames[0], {})]:
        assert picture.shape == (SIDE, SIDE, 3)
        assert picture.dtype == np.uint8
        assert picture.flags.c_contiguous
    assert all(map(np.array_equal, frames, kept)), "the frames given are not written to"
    assert all(map(np.array_equal, pictures, before)), "a picture does not change later"


def test_a_frame_that_may_not_be_written_to_is_taken(shared: Engine) -> None:
    frame = noise_frame(0)
    frame.flags.writeable = False
    assert shared.infer(frame, 0) is not None
    assert shared.infer(noise_frame(0, 2 * SIDE, SIDE)[:, ::2], 1) is not None


def test_a_frame_of_another_size_is_refused_and_costs_nothing_else(shared: Engine) -> None:
    for wrong in (noise_frame(0, 32, 32), np.zeros((SIDE, SIDE, 4), np.uint8)):
        with pytest.raises(EngineError, match=f"expected a frame of {SIDE}x{SIDE}x3"):
            shared.infer(wrong, 0)
        with pytest.raises(EngineError):
            shared.infer_once(wrong, {})
    assert shared.infer(noise_frame(1), 1) is not None


@pytest.mark.parametrize("steps", [1, 3])
def test_tokens_come_back_in_order_and_each_picture_is_of_its_frame(
    open_loaded: Open, steps: int
) -> None:
    engine = open_loaded({"num_inference_steps": steps, "cfg_type": "none"})
    frames = moving_frames(8)
    given: dict[object, Frame] = {f"frame {at}": frame for at, frame in enumerate(frames)}
    shown = []
    for token, frame in given.items():
        result = engine.infer(frame, token)
        assert result is not None
        assert not result.repeated
        assert_alike(result.frame, engine.infer_once(given[result.token], {}))
        shown.append(list(given).index(result.token))
    assert shown == sorted(shown)
    assert shown[-1] == len(frames) - steps


def test_a_seed_makes_a_run_repeatable(open_loaded: Open) -> None:
    frames = moving_frames(3)
    parameters = {"strength": 1.0}
    one, same, other = (
        [engine.infer(frame, 0) for frame in frames]
        for engine in (
            open_loaded({**parameters, "seed": 5}),
            open_loaded({**parameters, "seed": 5}),
            open_loaded({**parameters, "seed": 6}),
        )
    )
    for left, right, else_ in zip(one, same, other, strict=True):
        assert left is not None
        assert right is not None
        assert else_ is not None
        np.testing.assert_array_equal(left.frame, right.frame)
        assert (left.frame != else_.frame).any()


def test_a_long_run_does_not_drift(open_loaded: Open) -> None:
    engine = open_loaded({"t_index_list": [0], "cfg_type": "self", "guidance_scale": 1.4})
    frames = moving_frames(10)
    for at in range(300):
        result = engine.infer(frames[at % 10], at)
    assert result is not None
    assert_alike(result.frame, engine.infer_once(frames[9], {}))
    assert result.frame.std() > 0


# Parameters --------------------------------------------------------------------------------------


def test_the_parameters_obey_their_schema_and_survive_json(shared: Engine) -> None:
    schema = json.loads(json.dumps(schema_of(shared)))
    jsonschema.Draft202012Validator.check_schema(schema)
    values = json.loads(json.dumps(shared.parameters))
    jsonschema.validate(values, schema)
    assert set(values) == set(schema["properties"])
    before = dict(shared.parameters)
    shared.apply(values)
    assert shared.parameters == before


def test_what_is_applied_is_in_force(shared: Engine) -> None:
    @settings(SLOW, max_examples=40)
    @given(patches_for(shared))
    def check(patch: dict[str, Any]) -> None:
        before = shared.parameters
        shared.apply(patch)
        assert shared.parameters == {**before, **patch}
        shared.apply(before)
        assert shared.parameters == before

    check()


@pytest.mark.parametrize(
    "odd",
    [None, True, "1", -1, 1.5, 10**30, float("nan"), float("inf"), [], {}, [None], b"x", object()],
    ids=lambda odd: type(odd).__name__,
)
def test_odd_values_are_taken_by_the_schema_or_refused_whole(shared: Engine, odd: Any) -> None:
    schema = schema_of(shared)
    before = shared.parameters
    for name, good in before.items():
        wrong = not jsonschema.Draft202012Validator(schema["properties"][name]).is_valid(odd)
        if not wrong and odd == odd:
            continue
        others = {key: value for key, value in before.items() if key not in (name, "seed")}
        with pytest.raises(ParameterError) as caught:
            shared.apply({"seed": 77, **others, name: odd} if name != "seed" else {name: odd})
        assert list(caught.value.problems) == [name], (name, odd, good)
        assert shared.parameters == before


def test_unknown_names_are_refused_whole(shared: Engine) -> None:
    before = shared.parameters
    with pytest.raises(ParameterError) as caught:
        shared.apply({"seed": 77, "no_such_parameter": 1})
    assert list(caught.value.problems) == ["no_such_parameter"]
    with pytest.raises(ParameterError):
        shared.infer_once(noise_frame(0), {"seed": 77, "no_such_parameter": 1})
    assert shared.parameters == before


LIVE: dict[str, dict[str, Any]] = {
    "prompt": {"prompt": "the blue sea", "guidance_scale": 2.0},
    "negative_prompt": {"negative_prompt": "red", "cfg_type": "full", "guidance_scale": 2.0},
    "seed": {"seed": 77},
    "strength": {"strength": 0.9},
    "more steps": {"num_inference_steps": 4},
    "fewer steps": {"num_inference_steps": 1},
    "t_index_list": {"t_index_list": [5, 20, 40]},
    "guidance": {"guidance_scale": 3.0, "cfg_type": "self"},
    "delta": {"delta": 0.3, "guidance_scale": 2.0, "cfg_type": "initialize"},
    "no noise": {"do_add_noise": False},
    "ode": {"renoise": "ode", "num_inference_steps": 3},
    "a blend on an arc": {
        "prompts": [{"text": "the sea", "weight": 1.0}, {"text": "red", "weight": 0.5}],
        "prompt_interpolation": "slerp",
        "guidance_scale": 2.0,
    },
    "seeds": {"seeds": [{"seed": 1, "weight": 1.0}, {"seed": 5, "weight": 2.0}]},
    "morph": {"prompt": "the blue sea", "transition_frames": 3, "guidance_scale": 2.0},
    "prompt with its frame": {"prompt": "red", "prompt_follows_frame": True},
    "from nothing": {"input_mode": "text"},
}


@pytest.mark.parametrize("change", LIVE)
def test_a_live_change_ends_where_a_fresh_engine_begins(open_loaded: Open, change: str) -> None:
    start = {"num_inference_steps": 2, "strength": 0.7, "guidance_scale": 1.3, "cfg_type": "self"}
    frames = moving_frames(10)
    live = open_loaded(start)
    patch = {name: value for name, value in LIVE[change].items() if name in live.parameters}
    assert patch
    fresh = open_loaded({**start, **patch})
    for at, frame in enumerate(frames[:3]):
        live.infer(frame, at)
    live.apply(patch)
    shown = -1
    for at, frame in enumerate(frames[3:9], start=3):
        result = live.infer(frame, at)
        assert result is not None, "no picture is lost by a change"
        assert shown <= result.token, "no picture goes back"
        shown = result.token
    for at, frame in enumerate(frames[5:9], start=5):
        fresh.infer(frame, at)
    one = live.infer(frames[9], 9)
    other = fresh.infer(frames[9], 9)
    assert one is not None
    assert other is not None
    assert one.token == other.token
    assert_alike(one.frame, other.frame)
    assert live.parameters == fresh.parameters


def test_any_changes_end_where_a_fresh_engine_begins(open_loaded: Open, shared: Engine) -> None:
    frames = moving_frames(6)
    live = open_loaded()

    @settings(SLOW, max_examples=6)
    @given(st.lists(patches_for(shared), min_size=1, max_size=3))
    def check(patches: list[dict[str, Any]]) -> None:
        for patch in patches:
            live.apply(patch)
            for at, frame in enumerate(sized(live, frames[:2])):
                result = live.infer(frame, at)
                assert result is not None
                assert result.frame.shape == (live.height, live.width, 3), "no picture is bad"
        live.apply({name: value for name, value in HISTORY.items() if name in live.parameters})
        fresh = open_loaded(live.parameters)
        assert (fresh.width, fresh.height) == (live.width, live.height)
        after = sized(live, frames)
        for at, frame in enumerate(after):
            live.infer(frame, at)
        assert_alike(picture_of(live, after[-1:], 6), picture_of(fresh, after))
        fresh.close()

    check()


def test_the_same_changes_at_the_same_frames_make_the_same_pictures(
    open_loaded: Open, shared: Engine
) -> None:
    frames = moving_frames(5)
    one, other = open_loaded(), open_loaded()

    @settings(SLOW, max_examples=4)
    @given(st.lists(patches_for(shared), min_size=1, max_size=3))
    def check(patches: list[dict[str, Any]]) -> None:
        for patch in patches:
            one.apply(patch)
            other.apply(patch)
            for at, frame in enumerate(sized(one, frames)):
                left, right = one.infer(frame, at), other.infer(frame, at)
                assert left is not None
                assert right is not None
                assert (left.token, left.repeated) == (right.token, right.repeated)
                np.testing.assert_array_equal(left.frame, right.frame)

    check()


# Masks -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("steps", [1, 3])
def test_each_picture_is_laid_over_its_own_frame_with_its_own_mask(
    open_loaded: Open, steps: int
) -> None:
    engine = open_loaded({"num_inference_steps": steps, "cfg_type": "none"})
    frames = [noise_frame(at, SIDE, SIDE) for at in range(6)]
    memory, mask = np.empty_like(frames[0]), np.empty((SIDE, SIDE), np.uint8)
    for token, frame in enumerate(frames):
        memory[:] = frame  # the owner of frame and mask uses them again
        mask[:] = 0
        mask[8 * token : 8 * token + 8] = 255
        result = engine.infer(memory, token, mask)
        assert result is not None
        due = frames[result.token]
        band = slice(8 * result.token, 8 * result.token + 8)
        picture = engine.infer_once(due, {})
        assert_alike(result.frame[band], picture[band])
        outside = np.ones((SIDE, SIDE), bool)
        outside[band] = False
        np.testing.assert_array_equal(result.frame[outside], due[outside])
    assert result is not None
    assert result.token == len(frames) - steps
    np.testing.assert_array_equal(
        engine.infer_once(frames[0], {}, np.zeros((SIDE, SIDE), np.uint8)), frames[0]
    )


def test_a_mask_of_another_form_is_refused_and_costs_nothing_else(shared: Engine) -> None:
    for wrong in (np.zeros((SIDE, SIDE, 1), np.uint8), np.zeros((8, 8), np.uint8)):
        with pytest.raises(EngineError, match=f"expected a mask of {SIDE}x{SIDE} uint8"):
            shared.infer(noise_frame(0), 0, wrong)
        with pytest.raises(EngineError, match="expected a mask"):
            shared.infer_once(noise_frame(0), {}, wrong)
    assert shared.infer(noise_frame(1), 1) is not None


# Single pictures ---------------------------------------------------------------------------------


def test_single_pictures_leave_the_stream_as_it_is(open_loaded: Open) -> None:
    start = {"num_inference_steps": 3, "guidance_scale": 1.5}
    alone, disturbed = open_loaded(start), open_loaded(start)
    frames = iter(moving_frames(10_000))

    @settings(SLOW, max_examples=10)
    @given(st.lists(patches_for(alone), max_size=2))
    def check(patches: list[dict[str, Any]]) -> None:
        frame = next(frames)
        for at, patch in enumerate(patches):
            assert disturbed.infer_once(noise_frame(at), patch).shape == (SIDE, SIDE, 3)
        left, right = alone.infer(frame, 0), disturbed.infer(frame, 0)
        assert left is not None
        assert right is not None
        np.testing.assert_array_equal(left.frame, right.frame)
        assert alone.parameters == disturbed.parameters

    check()


def test_a_single_picture_is_that_of_its_patch_and_of_nothing_before(open_loaded: Open) -> None:
    patch = {"prompt": "a red cat", "seed": 9, "num_inference_steps": 2, "strength": 0.8}
    frame = noise_frame(3)
    fresh = open_loaded()
    first = fresh.infer_once(frame, patch)
    for at, other in enumerate(moving_frames(3)):
        fresh.infer(other, at)
    np.testing.assert_array_equal(fresh.infer_once(frame, patch), first)
    assert_alike(open_loaded(patch).infer_once(frame, {}), first)


# Several streams ---------------------------------------------------------------------------------


LOOKS: tuple[dict[str, Any], ...] = (
    {"prompt": "a red cat", "strength": 0.8},
    {"prompt": "the sea", "seed": 7},
    {"num_inference_steps": 2, "guidance_scale": 1.6, "strength": 0.6},
)


def frame_of(outcome: Any) -> Frame:
    assert isinstance(outcome, Result), outcome
    frame: Frame = outcome.frame
    return frame


def test_a_stream_beside_another_has_parameters_and_frames_of_its_own(open_loaded: Open) -> None:
    first = open_loaded(LOOKS[0])
    other = first.beside(LOOKS[1])
    assert other.parameters == {**first.parameters, **LOOKS[1]}
    assert (other.width, other.height) == (first.width, first.height)
    assert set(other.schema()["properties"]) == set(first.schema()["properties"])
    frames = moving_frames(4)
    expected = [open_loaded(look) for look in ({**LOOKS[0]}, {**LOOKS[0], **LOOKS[1]})]
    for at, frame in enumerate(frames):
        if at == 2:
            other.apply({"prompt": "a dog"})
            expected[1].apply({"prompt": "a dog"})
        for stream, alone in zip((first, other), expected, strict=True):
            assert_alike(frame_of(stream.infer(frame, at)), frame_of(alone.infer(frame, at)))
    assert first.parameters["prompt"] == "a red cat"
    with pytest.raises(ParameterError):
        first.beside({"strength": 7})
    other.close()
    assert first.infer(frames[0], 9) is not None


def test_rows_of_several_streams_in_one_call_are_as_each_alone(open_loaded: Open) -> None:
    first = open_loaded(LOOKS[0])
    streams = [first, *(first.beside(look) for look in LOOKS[1:])]
    alone = [first.beside(stream.parameters) for stream in streams]
    frames = moving_frames(8)
    mask = np.full((first.height, first.width), 128, np.uint8)
    patch = {"prompt": "a dog", "seed": 5}
    for at in range(3):
        turns = [Turn(one, frames[at + i], i, mask) for i, one in enumerate(streams)]
        turns += [Turn(first, frames[7], "asked", patch=patch)]
        turns += [Turn(first, frames[7], "refused", patch={"strength": 7})]
        turns += [Turn(streams[1], frames[6][:8], "of another size", patch={})]
        made = first.infer_together(turns)
        for i, one in enumerate(alone):
            expected = one.infer(frames[at + i], i, mask)
            assert_alike(frame_of(made[i]), frame_of(expected))
            assert isinstance(made[i], Result)
        assert_alike(frame_of(made[3]), alone[0].infer_once(frames[7], patch))
        assert isinstance(made[4], ParameterError)
        assert isinstance(made[5], EngineError)


def test_streams_of_different_sizes_are_served_too(open_loaded: Open) -> None:
    first = open_loaded()
    wide = first.beside({"width": SIDE + 16})
    frame = noise_frame(0)
    broad = resize(frame, wide.width, wide.height, "stretch")
    assert wide.width == SIDE + 16
    one, other = first.infer_together([Turn(first, frame, 1), Turn(wide, broad, 2)])
    assert frame_of(one).shape == frame.shape
    assert frame_of(other).shape == broad.shape
    assert first.batch_limit >= 1


# Life --------------------------------------------------------------------------------------------


def test_counters_are_numbers(shared: Engine) -> None:
    counters = shared.counters()
    json.dumps(counters)
    assert all(isinstance(value, int | float) for value in counters.values())


def test_an_engine_can_be_closed_at_any_time_and_twice(open_loaded: Open) -> None:
    engine = open_loaded()
    engine.infer(noise_frame(0), 0)
    engine.close()
    engine.close()
    with pytest.raises(EngineError, match="the engine has no model"):
        engine.infer(noise_frame(0), 0)
    with pytest.raises(EngineError, match="the engine has no model"):
        engine.infer_once(noise_frame(0), {})
    unloaded = open_engine(EngineSettings())
    with pytest.raises(EngineError, match="the engine has no model"):
        unloaded.infer(noise_frame(0), 0)
    unloaded.close()


def test_what_is_applied_before_loading_holds_after_it() -> None:
    engine = open_engine(EngineSettings(width=SIDE, height=SIDE, parameters={"seed": 3}))
    engine.apply({"prompt": "the sea"})
    engine.load(lambda progress: None)
    assert engine.parameters["seed"] == 3
    assert engine.parameters["prompt"] == "the sea"
    engine.close()


def test_the_names_are_for_people(shared: Engine) -> None:
    assert shared.name
    assert shared.model_name
    assert shared.device_name.startswith("cpu")
