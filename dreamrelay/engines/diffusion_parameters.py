"""The parameters of the torch engine: those of every stream batch, and what only torch can steer.

Each group stands beside what it steers, without torch, so that a form can be drawn of it anywhere.
"""

from dreamrelay.engines.control_parameters import GuideParameters
from dreamrelay.engines.lora_parameters import LoraParameters
from dreamrelay.engines.parameters import StreamBatchParameters


class DiffusionParameters(GuideParameters, LoraParameters, StreamBatchParameters):
    """What can be changed between two frames of Stable Diffusion."""
