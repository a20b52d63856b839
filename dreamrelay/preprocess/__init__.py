"""What is done to a frame before the engine, and to the picture after it: the human-only edit."""

from dreamrelay.preprocess.catalog import open_matting
from dreamrelay.preprocess.composite import Keep, composite
from dreamrelay.preprocess.human import Cutout, HumanOnly, HumanParameters, Mode
from dreamrelay.preprocess.ports import Mask, Matting

__all__ = [
    "Cutout",
    "HumanOnly",
    "HumanParameters",
    "Keep",
    "Mask",
    "Matting",
    "Mode",
    "composite",
    "open_matting",
]
