"""From what Scope sets to what our engines take; without Scope and without torch."""

import logging
import re
from collections.abc import Collection, Mapping, Sequence
from typing import Any, NamedTuple

from dreamrelay.engines import EngineSettings
from dreamrelay.engines.parameters import MAX_PROMPTS, MAX_STEPS
from dreamrelay.engines.processor_parameters import LIGHTNING_STEPS

logger = logging.getLogger(__name__)

MAX_TEXT = 2000
MAX_MORPH = 240
MULTIPLE = 8

_ACCELERATIONS = {"auto": "auto", "none": "sdpa", "trt": "tensorrt", "tensorrt": "tensorrt"}
"""Scope's ``none`` is plain torch; ours would be plain torch in full precision."""

_LIGHTNING = re.compile(r"sdxl-lightning", re.IGNORECASE)
_BRACKETS = re.compile(r"[\\()\[\]]")

_SAME = (
    "negative_prompt_scale",
    "guidance_scale",
    "delta",
    "do_add_noise",
    "controlnet_mode",
    "controlnet_scale",
    "depth_min",
    "depth_max",
    "depth_skip_interval",
    "depth_input_size",
    "controlnet_temporal_smoothing",
    "image_loopback",
    "mask_feather",
    "mask_strength",
)
"""Fields that are parameters of ours by the same name."""


def engine_settings(
    values: Any, loras: Mapping[str, float], controls: Collection[str]
) -> EngineSettings:
    """What an engine must be opened with for these values.

    Args:
        values: a ``StreamDiffusionConfig``.
        loras: file to scale.
        controls: the ControlNets that were wanted so far, ``depth`` and ``scribble``.
    """
    acceleration = values.acceleration_mode
    if acceleration == "auto":
        acceleration = values.acceleration
    common = {
        "acceleration": _ACCELERATIONS.get(acceleration, acceleration),
        "use_tiny_vae": None if values.use_taesd else False,
        "use_denoising_batch": values.use_denoising_batch,
        "loras": dict(loras),
    }
    if _LIGHTNING.search(values.model_id_or_path):
        width, height = size(values)
        return EngineSettings(
            engine="lightning",
            model="",
            lightning_weights=values.model_id_or_path,
            lightning_steps=(_lightning_steps(values.num_inference_steps),),
            controlnets=("depth",) if "depth" in controls else ("none",),
            width=width,
            height=height,
            **common,
        )
    return EngineSettings(
        model=values.model_id_or_path,
        use_lcm_lora=None if values.use_lcm_lora else False,
        controlnets=tuple(sorted(controls)),
        **common,
    )


def size(values: Any) -> tuple[int, int]:
    """Width and height of the pictures, in pixels."""
    width, height = (max(1, round(side / MULTIPLE)) for side in (values.width, values.height))
    return width * MULTIPLE, height * MULTIPLE


def patch_of(values: Any, seed: int) -> dict[str, Any]:
    """The parameters of the engine, all but the prompts.

    Args:
        seed: which of Scope's two seeds counts now.
    """
    width, height = size(values)
    steps, strength = values.num_inference_steps, min(values.strength, 1.0)
    if _LIGHTNING.search(values.model_id_or_path):
        steps, strength = _lightning_steps(steps), max(strength, 0.05)
    return {
        **{name: getattr(values, name) for name in _SAME},
        "depth_memory": values.depth_temporal_cache,
        "negative_prompt": _text(values.negative_prompt, values.prompt_weighting),
        # It takes the negative prompt in, and delta, for one more row a frame.
        "cfg_type": "initialize" if values.guidance_scale > 1 else "none",
        "num_inference_steps": min(steps, MAX_STEPS),
        "strength": strength,
        "seed": seed % 2**31,
        "enable_similar_image_filter": values.similar_image_filter_enabled,
        "similar_image_filter_threshold": values.similar_image_filter_threshold,
        "width": width,
        "height": height,
    }


def _lightning_steps(wanted: int) -> int:
    return min(LIGHTNING_STEPS, key=lambda steps: abs(steps - wanted))


class Weighted(NamedTuple):
    """A prompt and its weight, 0 or more."""

    text: str
    weight: float


class Prompts:
    """What is to be shown, from call to call: the prompts, and a transition to others.

    Scope takes a transition back after the call in which it ends, and still gives the prompts from
    before it; so its target stays until those change.
    """

    def __init__(self) -> None:
        self._transition: tuple[tuple[Weighted, ...], int, str] | None = None
        self._before: tuple[Weighted, ...] = ()
        """What Scope gave when the transition began."""

    def patch(
        self, values: Any, prompts: Any, transition: Mapping[str, Any] | None, morphing: bool
    ) -> dict[str, Any]:
        """The engine's parameters.

        Args:
            values: a ``StreamDiffusionConfig``.
            prompts: a text, or a list of texts and of mappings with ``text`` and ``weight``.
            transition: ``target_prompts``, ``num_steps``, ``temporal_interpolation_method``.
            morphing: whether the engine is on its way to what it was last told.

        Raises:
            ValueError: these are no prompts.
        """
        given = read_prompts(values.prompt if prompts is None else prompts)
        began = self._follow(given, transition)
        shown, frames, method = given, values.transition_steps, values.prompt_interpolation_method
        if self._transition is not None:
            shown, asked, over_time = self._transition
            frames = asked if began or morphing else frames
            # A blend is on a line or an arc, and so must be the way to it: or it would jump.
            if len(shown) == 1 and (began or morphing):
                method = over_time
        plain = [_text(prompt.text, values.prompt_weighting) for prompt in shown]
        weights = [prompt.weight for prompt in shown]
        total = sum(weights)
        shares = [weight / total if total else 1 / len(shown) for weight in weights]
        blend = [{"text": text, "weight": share} for text, share in zip(plain, shares, strict=True)]
        return {
            "prompt": plain[weights.index(max(weights))],
            "prompts": blend if len(blend) > 1 else None,
            "prompt_interpolation": method,
            "transition_frames": min(frames, MAX_MORPH),
        }

    def _follow(self, given: tuple[Weighted, ...], transition: Mapping[str, Any] | None) -> bool:
        """Take up a new transition (True), or end one that later prompts have replaced."""
        if transition is not None:
            wanted = _read_transition(transition)
            if wanted == self._transition:
                return False
            self._transition, self._before = wanted, given
            return True
        if self._transition is not None and given != self._before:
            self._transition = None
        return False


def read_prompts(prompts: Any) -> tuple[Weighted, ...]:
    """Prompts as Scope or a node of its graph gives them; at least one, perhaps empty.

    Raises:
        ValueError: these are no prompts.
    """
    if isinstance(prompts, str):
        prompts = [prompts]
    if not isinstance(prompts, Sequence):
        raise ValueError(f"prompts: expected a text or a list, got {_shown(prompts)}")
    read = [_read_prompt(prompt) for prompt in prompts]
    if len(read) > MAX_PROMPTS:
        logger.warning("of %d prompts the %d heaviest are blended", len(read), MAX_PROMPTS)
        lightest = sorted(read, key=lambda prompt: -prompt.weight)[MAX_PROMPTS:]
        for prompt in lightest:
            read.remove(prompt)
    return tuple(read) or (Weighted("", 1.0),)


def _read_prompt(prompt: Any) -> Weighted:
    if isinstance(prompt, str):
        return Weighted(prompt, 1.0)
    if isinstance(prompt, Mapping):
        text, weight = prompt.get("text"), prompt.get("weight")
    else:
        text, weight = getattr(prompt, "text", None), getattr(prompt, "weight", None)
    weight = 1.0 if weight is None else weight
    if not isinstance(text, str) or not isinstance(weight, int | float) or not 0 <= weight < 1e9:
        raise ValueError(f"prompts: expected texts with weights of 0 or more, got {_shown(prompt)}")
    return Weighted(text, float(weight))


def _read_transition(transition: Any) -> tuple[tuple[Weighted, ...], int, str]:
    if not isinstance(transition, Mapping) or "target_prompts" not in transition:
        raise ValueError(f"transition: expected target_prompts, got {_shown(transition)}")
    steps = transition.get("num_steps", 0)
    if not isinstance(steps, int | float) or not 0 <= steps < 1e9:
        raise ValueError(f"transition: expected num_steps of 0 or more, got {_shown(steps)}")
    method = transition.get("temporal_interpolation_method") or "linear"
    if method not in ("linear", "slerp"):
        raise ValueError(f"transition: expected linear or slerp, got {_shown(method)}")
    return read_prompts(transition["target_prompts"]), int(steps), method


def read_loras(loras: Any) -> dict[str, float]:
    """``[{path, scale}]`` to a mapping; nothing to an empty one.

    Raises:
        ValueError: something else, or a scale beyond -10..10.
    """
    found: dict[str, float] = {}
    for lora in loras or ():
        path = lora.get("path") if isinstance(lora, Mapping) else None
        scale = lora.get("scale", 1.0) if isinstance(lora, Mapping) else None
        if not path or not isinstance(scale, int | float) or not -10 <= scale <= 10:
            raise ValueError(
                f"loras: expected a path and a scale of -10..10 each, got {_shown(lora)}"
            )
        found[str(path)] = float(scale)
    return found


def _text(text: str, weighted: bool) -> str:
    """As the engine is to read it."""
    if not weighted:
        text = _BRACKETS.sub(r"\\\g<0>", text)
    return text[:MAX_TEXT]


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 80 else text[:77] + "..."
