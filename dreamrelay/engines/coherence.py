"""What of the pictures before goes into the next: feedback, smoothing, noise that moves along.

All of it is a memory of the stream; single pictures have none. Where ``follow_motion`` is on, what
is remembered is brought to where the picture has moved since.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dreamrelay.codec import Frame
from dreamrelay.engines.condition import Flight
from dreamrelay.engines.denoise import Array
from dreamrelay.engines.parameters import StreamBatchParameters
from dreamrelay.engines.ports import EngineSettings
from dreamrelay.importer import Entry

Field = NDArray[np.float32]

_MOTION = Entry("dreamrelay.engines.motion:Movement", "following motion", "producer")


@dataclass(frozen=True, slots=True)
class Trail:
    """What is known of a frame's movement.

    Attributes:
        grey: small and grey, to be compared with others.
        drift: how far the noise has come, (h, w, 2) in cells of a latent.
    """

    grey: Any
    drift: Field


def remembers(parameters: StreamBatchParameters, settings: EngineSettings) -> bool:
    """Whether a picture depends on the frames before it: batches of several, or coherence."""
    listed = parameters.t_index_list
    steps = parameters.num_inference_steps if listed is None else len(listed)
    batched = settings.frame_buffer_size > 1 or (settings.use_denoising_batch and steps > 1)
    return batched or Coherence.asked_for(parameters)


class Coherence:
    """The memory of a stream. Engines have one while a parameter asks for it, else none.

    Args:
        xp: library of the latents, torch or numpy.
        placed: puts an array of numpy where the latents are.
    """

    def __init__(self, xp: Any, placed: Callable[[NDArray[Any]], Array]) -> None:
        self._xp = xp
        self._placed = placed
        self.clear()

    @staticmethod
    def asked_for(parameters: StreamBatchParameters) -> bool:
        """Whether any of it is switched on."""
        return bool(
            parameters.latent_feedback
            or parameters.output_feedback
            or parameters.image_loopback
            or parameters.smoothing
            or parameters.follow_motion != "off"
        )

    def clear(self) -> None:
        """Forget all."""
        self._drift: Any = None
        self._frame: Trail | None = None  # of the last frame that came in
        self._picture: Frame | None = None  # the last that went out, before it was smoothed
        self._latent: Array = None  # (1, C, h, w), of that picture
        self._smooth: NDArray[np.float32] | None = None  # the last that went out
        self._shown: Trail | None = None  # of the frame that these were made from

    def come_in(
        self,
        frames: Sequence[Frame],
        flights: Sequence[Flight],
        parameters: StreamBatchParameters,
        cells: tuple[int, int],
    ) -> Sequence[Frame]:
        """Look at new frames, and mix the last picture into them where asked to.

        Args:
            cells: height and width of a latent.
        """
        if parameters.follow_motion == "off":
            self._drift = self._frame = self._shown = None
        else:
            for frame, flight in zip(frames, flights, strict=True):
                flight.moved = self._followed(frame, parameters.follow_motion, cells)
        last = self._picture
        if last is None:
            return frames
        if parameters.image_loopback:
            return [last] * len(frames)
        if not parameters.output_feedback:
            return frames
        return [
            _mixed(frame, self._brought(last, flight, parameters), parameters.output_feedback)
            for frame, flight in zip(frames, flights, strict=True)
        ]

    def mixed(
        self,
        fresh: Array,
        flights: Sequence[Flight],
        parameters: StreamBatchParameters,
        channels: int,
    ) -> Array:  # (m, C, h, w)
        """Clean latents of new frames, with some of the last picture's in their ``channels``."""
        share, last = parameters.latent_feedback, self._latent
        if not share or last is None:
            return fresh
        rows = []
        for flight in flights:
            field = self._since(flight, parameters, fresh.shape[-2:])
            rows.append(last if field is None else self._carried(last, field, noise=False))
        old = self._xp.concatenate(rows)
        # What is given may be memory of the engine's own.
        picture = (1 - share) * fresh[:, :channels] + share * old[:, :channels]
        if channels == fresh.shape[1]:
            return picture
        return self._xp.concatenate([picture, fresh[:, channels:]], 1)

    def noise(self, eps: Array, flights: Sequence[Flight]) -> Array:  # (B, C, h, w)
        """The noise of each row, where its frame has moved to."""
        if all(flight.moved is None for flight in flights):
            return eps
        rows = []
        for at, flight in enumerate(flights):
            row = eps[at : at + 1]
            if flight.moved is not None:
                row = self._carried(row, flight.moved.drift, noise=True)
            rows.append(row)
        return self._xp.concatenate(rows)

    def go_out(
        self,
        pictures: list[Frame],
        latents: Array,
        flights: Sequence[Flight],
        parameters: StreamBatchParameters,
    ) -> list[Frame]:
        """Remember the pictures that are done; return them as they are to be shown."""
        shown = []
        for at, (picture, flight) in enumerate(zip(pictures, flights, strict=True)):
            shown.append(self._smoothed(picture, flight, parameters))
            self._picture, self._latent = picture, latents[at : at + 1]
            self._shown = flight.moved
        return shown

    def _followed(self, frame: Frame, kind: str, cells: tuple[int, int]) -> Trail:
        movement = _movement()
        grey = movement.looked_at(frame)
        if self._drift is None or self._frame is None:
            self._drift = movement.drift(*cells)
            drift = self._drift.field
        else:
            drift = self._drift.then(movement.between(self._frame.grey, grey, kind))
        self._frame = Trail(grey, drift)
        return self._frame

    def _movement(self, flight: Flight, parameters: StreamBatchParameters) -> Any:
        """How the picture that went out last has moved since, up to a frame; None: not known."""
        if flight.moved is None or self._shown is None:
            return None
        kind = parameters.follow_motion
        return _movement().between(self._shown.grey, flight.moved.grey, kind)

    def _brought(
        self, last: NDArray[Any], flight: Flight, parameters: StreamBatchParameters
    ) -> NDArray[Any]:
        movement = self._movement(flight, parameters)
        brought: NDArray[Any] = last if movement is None else movement.applied(last)
        return brought

    def _since(
        self, flight: Flight, parameters: StreamBatchParameters, cells: tuple[int, int]
    ) -> Field | None:
        movement = self._movement(flight, parameters)
        return None if movement is None else movement.at(*cells)

    def _smoothed(self, picture: Frame, flight: Flight, parameters: StreamBatchParameters) -> Frame:
        share = parameters.smoothing
        if not share:
            self._smooth = None
            return picture
        now = picture.astype(np.float32)
        if self._smooth is not None:
            now += np.float32(share) * (self._brought(self._smooth, flight, parameters) - now)
        self._smooth = now
        return (now + np.float32(0.5)).astype(np.uint8)

    def _carried(self, values: Array, field: Field, *, noise: bool) -> Array:
        """Values (1, C, h, w) carried along a field (h, w, 2).

        Noise comes from the four cells around where it was, by the roots of their shares: that
        leaves it as strong as it was. It goes round at the edges; other values stop there.
        """
        height, width = values.shape[-2:]
        y, x = np.mgrid[0:height, 0:width]
        down, across = y - field[..., 1], x - field[..., 0]
        top, left = np.floor(down).astype(np.int64), np.floor(across).astype(np.int64)
        below, right = down - top, across - left
        carried: Array = None
        for rows, share_down in ((top, 1 - below), (top + 1, below)):
            for columns, share_across in ((left, 1 - right), (left + 1, right)):
                share = share_down * share_across
                if not share.any():
                    continue
                if noise:
                    share, at = np.sqrt(share), (rows % height, columns % width)
                else:
                    at = (np.clip(rows, 0, height - 1), np.clip(columns, 0, width - 1))
                weight = self._placed(share.astype(np.float32))
                there = values[:, :, self._placed(at[0]), self._placed(at[1])]
                carried = weight * there if carried is None else carried + weight * there
        return carried


def _mixed(frame: Frame, last: NDArray[Any], share: float) -> Frame:
    mixed = frame.astype(np.float32)
    mixed += np.float32(share) * (last - mixed)
    mixed += np.float32(0.5)
    return mixed.astype(np.uint8)


def _movement() -> Any:
    """What looks for movement; it needs OpenCV, which takes its time to be loaded."""
    return _MOTION.load()
