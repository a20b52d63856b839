"""What an engine must know of a model, whatever library its weights are in."""

from dataclasses import dataclass, field
from typing import Any

from dreamrelay.engines.denoise import Prediction
from dreamrelay.engines.licences import UNKNOWN, Licence
from dreamrelay.engines.schedule import Vector


@dataclass(kw_only=True)
class ModelForm:
    """What there is to know of a model beside its weights.

    Attributes:
        alphas: see :func:`schedule.cumulative_alphas`.
        prediction: what the U-Net was trained to say.
        channels, scale: of the latents; a latent is ``scale`` times smaller than the picture.
        picture_channels: how many of the channels, from the first, are the picture; 0: all.
        multiple: pixels; frames are padded inside to sides that are multiples of it.
        width, height: pixels of the pictures that the model was made for.
        half_share: see :func:`schedule.schedule`.
        straight: whether its prompts' embeddings go on in a straight line beyond each other, so
            that weights and a negative prompt need no second call of the U-Net.
        defaults: parameters that it looks best with.
        vocabulary: the words that it knows, by kind; empty where it knows them all.
        licence: what it may be used for.
        most_together: pictures in one call; fewer once memory was short for so many.
    """

    name: str
    alphas: Vector
    prediction: Prediction
    channels: int
    scale: int
    multiple: int
    width: int
    height: int
    picture_channels: int = 0
    half_share: float | None = None
    straight: bool = False
    defaults: dict[str, Any] = field(default_factory=dict)
    vocabulary: dict[str, Any] = field(default_factory=dict)
    licence: Licence = UNKNOWN
    most_together: int = 64
