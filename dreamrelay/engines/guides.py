"""Everything beside the words that guides the U-Net: ControlNets and an image prompt.

:class:`Guides` are what is loaded, once for a model. A :class:`GuidedStream` is what one stream
makes of them: it looks at each frame that comes in, and what it sees (a :class:`Guide`) travels
with the frame through the batch. When the U-Net is called, the guides of all rows say what it is
called with (:meth:`Guides.options`).
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import torch

from dreamrelay.codec import Frame
from dreamrelay.engines.control import Controls, Sight, Watcher
from dreamrelay.engines.control_parameters import (
    GuideParameters,
    ImagePromptParameters,
    absent_controls,
    wanted_controls,
)
from dreamrelay.engines.devices import Device
from dreamrelay.engines.image_prompt import Acting, ImagePrompt, PictureFolder
from dreamrelay.engines.ports import EngineSettings, Report
from dreamrelay.errors import ConfigError, EngineError, ParameterError


class Guide(NamedTuple):
    """What guides the U-Net on the rows of one frame."""

    sight: Sight | None = None
    picture: Acting | None = None


class Guides:
    """The ControlNets and the IP-Adapter over a U-Net; perhaps none.

    Args:
        settings: name them.
        unet: which they guide.
        steps: timesteps that the model was trained on.
        steady: call the U-Net in one form, whatever acts: what is off counts as nothing, at a small
            cost. For a U-Net that is compiled for the form that it is called in.

    Raises:
        EngineError: one cannot be loaded, or is made for another model.
    """

    def __init__(
        self,
        settings: EngineSettings,
        unet: Any,
        steps: int,
        device: Device,
        report: Report,
        *,
        steady: bool = False,
    ) -> None:
        self._steady = steady
        self.controls: Controls | None = None
        self.image: ImagePrompt | None = None
        if wanted_controls(settings.controlnets):
            self.controls = Controls(settings, unet, steps, device, report)
        if settings.ip_adapter:
            self.image = ImagePrompt(settings, unet, device, report)

    def options(
        self,
        noisy: torch.Tensor,
        at: torch.Tensor,
        words: torch.Tensor,
        added: Mapping[str, torch.Tensor] | None,
        guides: Sequence[Guide | None],
        unwanted: Sequence[bool],
    ) -> dict[str, Any]:
        """What the U-Net is called with beside latents and timesteps.

        Args:
            noisy: latents, (B, C, h, w).
            at: timesteps, (B,).
            words: (B, words, width).
            added: further conditions, of SDXL.
            guides: of each row; None where it has none.
            unwanted: which rows are under the negative prompt.
        """
        options: dict[str, Any] = {"encoder_hidden_states": words, "added_cond_kwargs": added}
        if self.controls is not None:
            sights = [None if guide is None else guide.sight for guide in guides]
            residuals = self.controls.residuals(noisy, at, words, added, sights)
            if residuals is None and self._steady:
                residuals = self.controls.nothing(noisy, at, words, added)
            if residuals is not None:
                options["down_block_additional_residuals"] = tuple(residuals[0])
                options["mid_block_additional_residual"] = residuals[1]
        if self.image is not None:
            acting = [None if guide is None else guide.picture for guide in guides]
            options["encoder_hidden_states"] = self.image.context(
                words, acting, unwanted, always=self._steady
            )
        return options


class GuidedStream:
    """The guides of one stream: what they can be asked for, and what they see.

    Args:
        settings: of the engine. What they name is loaded later, see :meth:`begin`.

    Raises:
        ConfigError: they name a kind of ControlNet, a folder or a combination that cannot be.
    """

    def __init__(self, settings: EngineSettings) -> None:
        self._kinds = tuple(wanted_controls(settings.controlnets))
        if settings.depth_model and "depth" not in self._kinds:
            raise ConfigError("depth_model: does nothing without controlnet=depth")
        if settings.prompt_pictures and not settings.ip_adapter:
            raise ConfigError("prompt_pictures: nothing looks at them without ip_adapter")
        self._pictures = PictureFolder(settings.prompt_pictures)
        self._has_image = bool(settings.ip_adapter)
        self._watcher: Watcher | None = None
        self._guides: Guides | None = None
        self._acting = Acting()
        self._sent: torch.Tensor | None = None
        self._chosen: tuple[str, torch.Tensor] | None = None

    def begin(self, guides: Guides) -> None:
        """Use these guides, which were loaded by the settings."""
        self._guides = guides
        self._watcher = None if guides.controls is None else guides.controls.watcher()

    def close(self) -> None:
        self._guides = self._watcher = self._sent = self._chosen = None
        self._acting = Acting()

    def forget(self) -> None:
        """See the next frame as if it were the first; the image prompt stays."""
        if self._watcher is not None:
            self._watcher.forget()

    # Parameters ----------------------------------------------------------------------------------

    def absent(self) -> dict[str, str]:
        """Parameters that nothing here can use, and what they would need."""
        absent = absent_controls(self._kinds)
        if not self._has_image:
            absent |= dict.fromkeys(
                ImagePromptParameters.model_fields, "start the worker with --ip_adapter=base"
            )
        elif not self._pictures.names:
            absent["image_prompt"] = "start the worker with --prompt_pictures=<folder>"
        return absent

    def choices(self) -> dict[str, list[str]]:
        """The values that some parameters can have here."""
        return {
            "controlnet_mode": ["all", "none", *self._kinds],
            "image_prompt": ["", *self._pictures.names],
        }

    def check(self, parameters: GuideParameters) -> None:
        """See whether what is asked for can be had, and read the picture before it is needed.

        Raises:
            ParameterError: a ControlNet that is not loaded, a picture that is not there or broken.
        """
        for name, expected in self.choices().items():
            value = getattr(parameters, name)
            if value not in expected and name not in self.absent():
                known = ", ".join(filter(None, expected))
                raise ParameterError({name: f"expected one of {known}, got {value!r:.60}"})
        try:
            self._tokens(parameters)
        except EngineError as error:
            raise ParameterError({"image_prompt": str(error)}) from error

    # Frames --------------------------------------------------------------------------------------

    def see(
        self, frames: Sequence[Frame], parameters: GuideParameters, *, alone: bool, stays: bool
    ) -> list[Guide] | None:
        """What guides the next frames; None where nothing is loaded that could.

        Args:
            frames: uint8, H x W x 3, in the order in which they came.
            alone: they belong to no stream: nothing of this one is used or changed.
            stays: the image prompt of now stays with these frames, whatever comes.
        """
        guides = self._guides
        if guides is None or (guides.controls is None and guides.image is None):
            return None
        acting = None
        if guides.image is not None:
            acting = replace(self._acting) if alone or stays else self._acting
            acting.scale = parameters.ip_adapter_scale
            acting.tokens = self._tokens(parameters) if acting.scale > 0 else None
        watcher = self._watcher
        if alone and guides.controls is not None:
            watcher = guides.controls.watcher()
        if watcher is None:
            return [Guide(None, acting) for _ in frames]
        return [Guide(watcher.see(frame, parameters), acting) for frame in frames]

    @property
    def imitates(self) -> bool:
        """Whether there is something that looks at pictures."""
        return self._guides is not None and self._guides.image is not None

    def refer(self, picture: Frame | None) -> None:
        """Take the picture that acts while none of the folder is chosen; None: there is none.

        Raises:
            EngineError: nothing here looks at it, or it is not a picture, or too large.
        """
        if picture is None:
            self._sent = None
        elif self._guides is None or self._guides.image is None:
            raise EngineError("no image prompt here: start the worker with --ip_adapter=base")
        else:
            self._sent = self._guides.image.tokens(picture)

    def _tokens(self, parameters: GuideParameters) -> torch.Tensor | None:
        """What stands for the image prompt, (1, 1, tokens, width)."""
        name = parameters.image_prompt
        if not name or self._guides is None or self._guides.image is None:
            return self._sent
        if self._chosen is None or self._chosen[0] != name:
            self._chosen = (name, self._guides.image.tokens(self._pictures[name]))
        return self._chosen[1]

    def counters(self) -> dict[str, float]:
        image = None if self._guides is None else self._guides.image
        return {} if image is None else image.counters()
