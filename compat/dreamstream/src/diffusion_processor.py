"""DreamStream's ``src.diffusion_processor`` over dreamrelay's processors.

The models of this process are one set, as they are there; which they are, the environment says
(:meth:`dreamrelay.integrations.dreamstream.DiffusionProcessors.from_environment`).
"""

import os

from dreamrelay.integrations.dreamstream import (
    DiffusionProcessor,
    DiffusionProcessors,
    process_base64_frame,
)

__all__ = [
    "DiffusionProcessor",
    "apply_diffusion",
    "get_diffusion_processor",
    "process_base64_frame",
    "processors",
]

processors = DiffusionProcessors.from_environment(os.environ)

get_diffusion_processor = processors.get
apply_diffusion = processors.apply
