"""dreamrelay carries live pictures to a diffusion model and back."""

__version__ = "0.1.0"
