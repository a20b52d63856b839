"""Frames up to the device that computes, and pictures down from it.

To a CUDA card they go through pinned memory, on copy streams of their own: the processor goes on
while they travel, one way does not wait for the other, and what another stream of pictures computes
meanwhile holds up neither. Bytes go over the bus; the card makes numbers of them.

That path serves only where it proved right when the model was loaded (:meth:`Transfers.prepare`).
Everywhere else, and on a processor always, copies are plain.
"""

import logging
import threading
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from typing import Any

import numpy as np
import torch

from dreamrelay.codec import Frame
from dreamrelay.engines.ports import Coming

logger = logging.getLogger(__name__)

DEPTH = 3
"""Slots of a ring: copies one way that can be under way at once."""


class Transfers:
    """The way of pixels to a device and back; for several threads.

    Args:
        device: that computes.
    """

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._pinned: _Pinned | None = None

    @property
    def pinned(self) -> bool:
        """Whether pixels go through pinned memory."""
        return self._pinned is not None

    def prepare(self, frames: int, height: int, width: int) -> None:
        """Go through pinned memory from now on, if the same bytes come out of it here.

        No frame may be computed meanwhile. It takes the time of a few copies.

        Args:
            frames: that go at once, of ``height`` x ``width`` pixels.
        """
        if self._device.type != "cuda" or self._pinned is not None:
            return
        try:
            pinned = _Pinned(self._device)
            wrong = self._compared(pinned, (frames, height, width, 3))
        except Exception as error:  # noqa: BLE001 - of drivers never seen; the plain path serves
            wrong = " ".join(str(error).split())[:200] or type(error).__name__
        if wrong:
            self._switch_off(wrong)
        else:
            self._pinned = pinned

    def up(self, frames: Sequence[Frame]) -> torch.Tensor:
        """Frames (m of H x W x 3 uint8) to the device: (m, H, W, 3) uint8, for the current stream.

        The frames can be written to again as soon as this returns.
        """
        pinned = self._pinned
        if pinned is not None:
            try:
                return pinned.up(frames)
            except _NoPinnedMemory as error:
                self._switch_off(str(error))
        return torch.from_numpy(np.stack(frames)).to(self._device)

    def down(self, pixels: torch.Tensor) -> Coming[list[Frame]]:
        """Start pictures (m, H, W, 3) uint8, contiguous, on their way down from the device; each
        comes in memory of its own.
        """
        pinned = self._pinned
        if pinned is not None:
            try:
                return pinned.down(pixels)
            except _NoPinnedMemory as error:
                self._switch_off(str(error))
        return Coming(lambda: list(pixels.cpu().numpy()))

    def _compared(self, pinned: "_Pinned", shape: tuple[int, int, int, int]) -> str:
        """What is wrong with the pinned path here, if anything; bit for bit."""
        source = np.random.default_rng(0)
        # One more than there are slots, all under way at once.
        given = [source.integers(0, 256, shape, np.uint8) for _ in range(DEPTH + 1)]
        above = [pinned.up(list(frames)) for frames in given]
        landings = [pinned.down(255 - pixels) for pixels in above]
        for frames, pixels, landing in zip(given, above, landings, strict=True):
            plain = torch.from_numpy(frames).to(self._device)
            if not torch.equal(pixels, plain):
                return "frames came up changed"
            if not np.array_equal(np.stack(landing()), (255 - plain).cpu().numpy()):
                return "pictures came down changed"
        return ""

    def _switch_off(self, why: str) -> None:
        self._pinned = None
        logger.warning("transfers: copies are plain, as pinned memory does not serve (%s)", why)


class _NoPinnedMemory(RuntimeError):
    """There is none left; the frame is not lost."""


class _Pinned:
    """The path through pinned memory: a ring and a copy stream for each way."""

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._rising, self._sinking = _Ring(device), _Ring(device)

    def up(self, frames: Sequence[Frame]) -> torch.Tensor:
        ring, shape = self._rising, (len(frames), *frames[0].shape)
        with ring.lock:
            slot = ring.next(len(frames) * frames[0].nbytes)
            host = slot.holding(shape)
            np.stack(frames, out=host.numpy())
            with torch.cuda.stream(ring.stream):
                above = host.to(self._device, non_blocking=True)
                slot.copied.record(ring.stream)
            slot.free = slot.copied.synchronize
            computing = torch.cuda.current_stream(self._device)
            computing.wait_event(slot.copied)
        # It was allocated on the copy stream, which must not take it back while it is computed on.
        above.record_stream(computing)
        return above

    def down(self, pixels: torch.Tensor) -> Coming[list[Frame]]:
        ring = self._sinking
        with ring.lock:
            slot = ring.next(pixels.numel())
            host = slot.holding(pixels.shape)
            # Of this copy alone: it may be waited for while the slot serves the next one. Whoever
            # waits sleeps, for a picture takes as long as all that is computed before it.
            slot.copied = torch.cuda.Event(blocking=True)
            ring.stream.wait_stream(torch.cuda.current_stream(self._device))
            with torch.cuda.stream(ring.stream):
                host.copy_(pixels, non_blocking=True)
                slot.copied.record(ring.stream)
            pixels.record_stream(ring.stream)
            landing = _Landing(slot, host, ring.lock)
            slot.free = landing.land
        return Coming(landing.take, landing.wait)


class _Slot:
    """Pinned memory for one copy, and when that is done."""

    def __init__(self) -> None:
        self.copied = torch.cuda.Event()
        self.free: Callable[[], None] | None = None
        """Waits until the memory can be written to again; None: it can."""

        self._memory: torch.Tensor | None = None

    def clear(self, size: int) -> None:
        """Be free for ``size`` bytes."""
        if self.free is not None:
            self.free()
            self.free = None
        if self._memory is None or self._memory.numel() < size:
            self._memory = None  # first, so that there is room for the larger one
            try:
                self._memory = torch.empty(size, dtype=torch.uint8, pin_memory=True)
            except RuntimeError as error:
                text = " ".join(str(error).split())[:200]
                raise _NoPinnedMemory(f"no {size} bytes of it: {text}") from error

    def holding(self, shape: Sequence[int]) -> torch.Tensor:
        assert self._memory is not None
        return self._memory[: int(np.prod(shape))].view(*shape)


class _Ring:
    """Slots that are used in turn, and the stream that copies from or to them."""

    def __init__(self, device: torch.device) -> None:
        self.lock = threading.RLock()
        self.stream = torch.cuda.Stream(device)
        self._slots = deque(_Slot() for _ in range(DEPTH))

    def next(self, size: int) -> _Slot:
        slot = self._slots[0]
        slot.clear(size)
        self._slots.rotate(-1)
        return slot


class _Landing:
    """Pictures on their way into a slot: they leave it when they are asked for, or in time before
    it is used again.
    """

    def __init__(self, slot: _Slot, host: torch.Tensor, lock: AbstractContextManager[Any]) -> None:
        self._slot, self._copied = slot, slot.copied
        self._host = host
        self._lock = lock
        self._pictures: list[Frame] | None = None

    def land(self) -> None:
        with self._lock:
            if self._pictures is None:
                self._copied.synchronize()
                self._pictures = list(self._host.numpy().copy())
                self._slot.free = None

    def wait(self) -> None:
        """Return once they are down. It holds no lock: frames go on meanwhile."""
        try:
            self._copied.synchronize()
        except RuntimeError as error:  # of the card: who takes the pictures is told
            logger.debug("waiting for pictures: %s", error)

    def take(self) -> list[Frame]:
        self.land()
        assert self._pictures is not None
        return self._pictures
