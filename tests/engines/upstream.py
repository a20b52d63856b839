"""The ``streamdiffusion`` package, made to run on the CPU, as the reference of the golden tests.

Its ``__call__`` times itself with CUDA events, so its parts are called here one by one. Its
``image_utils`` wants torchvision and is never imported.
"""

from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import torch
from diffusers import StableDiffusionPipeline, StableDiffusionXLPipeline
from numpy.typing import NDArray

from dreamrelay.codec import Frame

MISSING = (
    "the golden tests compare with the package streamdiffusion 0.1.1, which is not installed: "
    "pip install --no-deps -r requirements-streamdiffusion.txt"
)


def load_pipeline(folder: Path) -> Any:
    """The pipeline of diffusers over a folder, which the package works upon."""
    pipeline = StableDiffusionPipeline.from_pretrained(str(folder), safety_checker=None)
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def load_pipeline_xl(folder: Path) -> Any:
    """The same of SDXL."""
    pipeline = StableDiffusionXLPipeline.from_pretrained(str(folder))
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


class Upstream:
    """A stream of the package over a pipeline of diffusers."""

    def __init__(self, pipeline: Any, t_index_list: list[int], **options: Any) -> None:
        assert find_spec("streamdiffusion") is not None, MISSING
        from streamdiffusion import StreamDiffusion  # noqa: PLC0415 - only after the message above

        self.stream = StreamDiffusion(
            pipeline,
            t_index_list,
            torch_dtype=torch.float32,
            **{"width": 64, "height": 64, **options},
        )

    def prepare(
        self, prompt: str, negative_prompt: str, guidance_scale: float, delta: float, seed: int
    ) -> None:
        self.stream.prepare(
            prompt,
            negative_prompt,
            guidance_scale=guidance_scale,
            delta=delta,
            generator=torch.Generator(),
            seed=seed,
        )

    def latent_of_nothing(self) -> NDArray[np.float32]:
        """As its text-to-image does: in place of a frame, noise alone; ours is that of the seed."""
        stream = self.stream
        with torch.no_grad():
            noise = stream.beta_prod_t_sqrt[0] * stream.init_noise[:1]
            latent: NDArray[np.float32] = stream.predict_x0_batch(noise).numpy()
        return latent

    def latent(self, *frames: Frame) -> NDArray[np.float32]:
        """Take frames in and return the latents (m, C, h, w) of the pictures that come out."""
        pixels = torch.from_numpy(np.stack(frames)).float() / 127.5 - 1
        with torch.no_grad():
            noisy = self.stream.encode_image(pixels.permute(0, 3, 1, 2))
            latents: NDArray[np.float32] = self.stream.predict_x0_batch(noisy).numpy()
        return latents


class UpstreamXL(Upstream):
    """The package over SDXL: it takes the words; what else the U-Net is told is added here."""

    def prepare(
        self, prompt: str, negative_prompt: str, guidance_scale: float, delta: float, seed: int
    ) -> None:
        super().prepare(prompt, negative_prompt, guidance_scale, delta, seed)
        stream, unet = self.stream, self.stream.pipe.unet
        _, _, pooled, unwanted = stream.pipe.encode_prompt(
            prompt=prompt, negative_prompt=negative_prompt, do_classifier_free_guidance=True
        )
        size = [float(stream.height), float(stream.width)]

        def told(noisy: torch.Tensor, at: torch.Tensor, **options: Any) -> Any:
            rows = len(noisy)
            negatives = rows - stream.batch_size
            added = {
                "text_embeds": torch.cat([unwanted] * negatives + [pooled] * (rows - negatives)),
                "time_ids": torch.tensor([[*size, 0.0, 0.0, *size]] * rows),
            }
            return unet(noisy, at, added_cond_kwargs=added, **options)

        stream.unet = told
