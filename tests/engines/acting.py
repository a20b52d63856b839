"""Whether a parameter does anything: what people see of a stream, with one value and another."""

from typing import Any

import numpy as np

from dreamrelay.codec import Frame
from dreamrelay.engines import Engine
from tests.engines.pictures import noise_frame
from tests.engines.tiny_controls import shapes_frame


def a_parameter_acts(
    engine: Engine, name: str, case: tuple[dict[str, Any], Any], count: int = 6
) -> None:
    """Of an engine that publishes it.

    Args:
        engine: a loaded one.
        case: what else is set, and what the parameter is changed to.
        count: of frames that it may take until it is seen.
    """
    start, value = case
    before = {**engine.parameters, **start}[name]
    assert before != value
    one, other = (_seen(engine, name, start, each, count) for each in (before, value))
    again = _seen(engine, name, start, before, count)
    assert _equal(one, again), "nothing else changes the pictures"
    assert not _equal(one, other)


def _seen(
    engine: Engine, name: str, start: dict[str, Any], value: Any, count: int
) -> list[list[Frame]]:
    """What is shown of each frame: previews, and its picture if there is one.

    On the way the prompt changes, and a newer frame always waits.
    """
    stream = engine.beside({**start, name: value})
    shown: list[Frame] = []
    stream.attend(lambda: True, lambda frame, token: shown.append(frame))
    frames = _clip(name, stream.width, stream.height, count)
    mask = np.zeros(frames[0].shape[:2], np.uint8)
    mask[:, 20:] = 255
    seen = []
    for at, frame in enumerate(frames):
        if at == 3 and name not in ("prompt", "prompts") and "similar" not in name:
            stream.apply({"prompt": "the green city"})
        result = stream.infer(frame, at, mask)
        seen.append([*shown, *([] if result is None else [result.frame])])
        shown.clear()
    stream.close()
    return seen


def _clip(name: str, width: int, height: int, count: int) -> list[Frame]:
    """Frames in which something moves and all grows brighter; for the filter, hardly differing."""
    noise = noise_frame(1, width, height) // 8
    if "similar" in name:
        return [noise * 4 + at for at in range(9)]
    return [shapes_frame(5 * at, width, height) // 2 + noise * (1 + at % 3) for at in range(count)]


def _equal(one: list[list[Frame]], other: list[list[Frame]]) -> bool:
    return all(
        len(mine) == len(theirs) and all(map(np.array_equal, mine, theirs))
        for mine, theirs in zip(one, other, strict=True)
    )
