"""What is done to a frame before the engine: finding people, for the human-only edit."""

from dreamrelay.preprocess.catalog import check_matting, open_matting
from dreamrelay.preprocess.human import HumanOnly, HumanParameters, Keep, Mode
from dreamrelay.preprocess.ports import Mask, Matting

__all__ = [
    "HumanOnly",
    "HumanParameters",
    "Keep",
    "Mask",
    "Matting",
    "Mode",
    "check_matting",
    "open_matting",
]
