"""Each parameter that is published changes the picture: none is there for the looks."""

from typing import Any

import pytest
from diffusers import UNet2DConditionModel
from transformers import CLIPTextModel

from dreamrelay.engines import EngineSettings
from dreamrelay.engines.stream_batch import StreamBatchEngine
from tests.engines.acting import a_parameter_acts
from tests.engines.pictures import noise_frame
from tests.engines.tiny_controls import (
    save_controlnet,
    save_depth_anything,
    save_ip_adapter,
    save_picture,
    shapes_frame,
)
from tests.engines.tiny_models import save_kohya_lora, save_model

START: dict[str, Any] = {
    "prompt": "a red cat",
    "num_inference_steps": 2,
    "strength": 0.8,
    "controlnet_mode": "none",
    "ip_adapter_scale": 0.0,
}

GUIDED = {"guidance_scale": 2.0, "cfg_type": "full"}
TWO = [{"text": "a red cat", "weight": 1.0}, {"text": "the blue sea", "weight": 1.0}]
SEEDS = [{"seed": 1, "weight": 1.0}, {"seed": 5, "weight": 1.0}]
STILL = {"enable_similar_image_filter": True, "similar_image_filter_threshold": 0.5}
DEPTH = {"controlnet_mode": "depth", "controlnet_scale": 2.0}
CANNY = {"controlnet_mode": "canny", "controlnet_scale": 2.0}
SCRIBBLE = {"controlnet_mode": "scribble", "controlnet_scale": 2.0}
IMAGE = {"image_prompt": "disc.png", "ip_adapter_scale": 4.0}

CASES: dict[str, tuple[dict[str, Any], Any]] = {
    "prompt": ({}, "the blue sea"),
    "negative_prompt": (GUIDED, "green city"),
    "prompts": ({}, TWO),
    "prompt_interpolation": ({"prompts": TWO}, "slerp"),
    "transition_frames": ({}, 5),
    "negative_prompt_scale": ({"negative_prompt": "green city"}, 1.0),
    "prompt_follows_frame": ({}, True),
    "strength": ({}, 0.5),
    "seed": ({}, 77),
    "seeds": ({}, SEEDS),
    "seed_interpolation": ({"seeds": [SEEDS[0], {"seed": 5, "weight": 3.0}]}, "slerp"),
    "num_inference_steps": ({}, 3),
    "t_index_list": ({}, [5, 20]),
    "guidance_scale": ({**GUIDED, "cfg_type": "self"}, 4.0),
    "delta": ({**GUIDED, "cfg_type": "self"}, 0.3),
    "cfg_type": ({**GUIDED, "negative_prompt": "the sea"}, "none"),
    "do_add_noise": ({}, False),
    "renoise": ({}, "ode"),
    "input_mode": ({}, "text"),
    "width": ({}, 72),
    "height": ({}, 72),
    "follow_motion": ({"smoothing": 0.5}, "flow"),
    "latent_feedback": ({}, 0.5),
    "output_feedback": ({}, 0.5),
    "image_loopback": ({}, True),
    "smoothing": ({}, 0.5),
    "mask_feather": ({}, 6.0),
    "mask_strength": ({}, 0.5),
    "enable_similar_image_filter": ({"similar_image_filter_threshold": 0.5}, True),
    "similar_image_filter_threshold": ({**STILL, "similar_image_filter_threshold": 1.0}, 0.5),
    "similar_image_filter_max_skip_frame": (STILL, 1),
    "loras": ({}, [{"name": "ink", "scale": 5.0}]),
    "image_prompt": (IMAGE, "noise.png"),
    "ip_adapter_scale": ({**IMAGE, "ip_adapter_scale": 1.0}, 5.0),
    "controlnet_mode": ({}, "depth"),
    "controlnet_scale": (DEPTH, 0.5),
    "depth_scale": (DEPTH, 0.3),
    "scribble_scale": (SCRIBBLE, 0.3),
    "canny_scale": (CANNY, 0.3),
    "controlnet_temporal_smoothing": (CANNY, 0.3),
    "control_guidance_start": (CANNY, 0.5),
    "control_guidance_end": (CANNY, 0.2),
    "depth_skip_interval": (DEPTH, 10),
    "depth_memory": (DEPTH, False),
    "depth_min": (DEPTH, 0.6),
    "depth_max": (DEPTH, 0.3),
    "depth_input_size": (DEPTH, 28),
    "scribble_detail": (SCRIBBLE, 1.0),
    "canny_low": ({**CANNY, "canny_high": 200.0}, 5.0),
    "canny_high": ({**CANNY, "canny_low": 5.0}, 20.0),
}
"""Of each parameter: what it is changed under, and to what. There are no exceptions."""


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> StreamBatchEngine:
    """With everything that there can be."""
    place = tmp_path_factory.mktemp("every")
    folder = save_model(place / "model", "sd15")
    net = UNet2DConditionModel.from_pretrained(folder / "unet")
    text = CLIPTextModel.from_pretrained(folder / "text_encoder")
    lora = save_kohya_lora(place / "ink.safetensors", {"unet": net, "text_encoder": text})
    kinds = ("depth", "canny", "scribble")
    save_ip_adapter(place / "adapter" / "adapter.safetensors", net)
    save_picture(place / "pictures" / "disc.png", shapes_frame())
    save_picture(place / "pictures" / "noise.png", noise_frame(5))
    engine = StreamBatchEngine(
        EngineSettings(
            model=str(folder),
            device="cpu",
            acceleration="none",
            offline=True,
            loras={str(lora): 0.0},
            controlnets=tuple(f"{k}={save_controlnet(place / k, net)}" for k in kinds),
            depth_model=str(save_depth_anything(place / "depth_model")),
            ip_adapter=str(place / "adapter"),
            prompt_pictures=str(place / "pictures"),
            parameters=START,
        )
    )
    engine.load(lambda progress: None)
    return engine


def test_each_parameter_that_is_published_is_tried(engine: StreamBatchEngine) -> None:
    assert set(engine.schema()["properties"]) == set(CASES)


@pytest.mark.parametrize("name", CASES)
def test_a_parameter_acts(engine: StreamBatchEngine, name: str) -> None:
    a_parameter_acts(engine, name, CASES[name])
