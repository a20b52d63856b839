"""LoRA, ControlNet, image prompt and several steps together, changed at any frame."""

from typing import Any

import numpy as np
import pytest
from diffusers import UNet2DConditionModel
from transformers import CLIPTextModel

from dreamrelay.codec import Frame
from dreamrelay.engines import EngineSettings
from dreamrelay.engines.stream_batch import StreamBatchEngine
from tests.engines.pictures import moving_frames
from tests.engines.tiny_controls import save_guides
from tests.engines.tiny_models import save_kohya_lora, save_model

CHANGES: list[dict[str, Any]] = [
    {"loras": [{"name": "ink", "scale": 6.0}], "num_inference_steps": 3, "prompt": "a red cat"},
    {"loras": [], "image_prompt": "disc.png", "ip_adapter_scale": 2.0, "seed": 7},
    {"loras": [{"name": "ink", "scale": -6.0}], "controlnet_scale": 1.5, "canny_low": 20.0},
]


@pytest.fixture(scope="module")
def settings(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    folder = save_model(tmp_path_factory.mktemp("all") / "model", "sd15")
    parts = {
        "unet": UNet2DConditionModel.from_pretrained(folder / "unet"),
        "text_encoder": CLIPTextModel.from_pretrained(folder / "text_encoder"),
    }
    lora = save_kohya_lora(folder / "ink.safetensors", parts, scale=0.02)
    return {"model": str(folder), "loras": {str(lora): 1.0}, **save_guides(folder)}


def load(settings: dict[str, Any], parameters: dict[str, Any]) -> StreamBatchEngine:
    engine = StreamBatchEngine(
        EngineSettings(
            device="cpu", acceleration="none", offline=True, parameters=parameters, **settings
        )
    )
    engine.load(lambda progress: None)
    return engine


def last_picture(engine: StreamBatchEngine, frames: list[Frame], token: int) -> Frame:
    """Of frames that come from ``token`` on, so many that the first have gone."""
    for at, frame in enumerate(frames):
        result = engine.infer(frame, token + at)
    assert result is not None
    return result.frame


@pytest.mark.parametrize("at_frame", [0, 1, 3])
def test_any_change_at_any_frame_ends_where_a_fresh_engine_begins(
    settings: dict[str, Any], at_frame: int
) -> None:
    frames = moving_frames(7)
    start = {"num_inference_steps": 2, "strength": 0.8, "cfg_type": "self", "guidance_scale": 1.5}
    live = load(settings, start)
    for token, frame in enumerate(frames[:at_frame]):
        live.infer(frame, token)
    shown: list[Frame] = []
    for number, patch in enumerate(CHANGES, start=1):
        live.apply(patch)
        fresh = load(settings, live.parameters)
        one, other = (last_picture(each, frames, 100 * number) for each in (live, fresh))
        assert np.abs(one.astype(int) - other).max() <= 1
        assert all((one != before).any() for before in shown), "the change shows"
        shown.append(one)
        fresh.close()
    live.close()
