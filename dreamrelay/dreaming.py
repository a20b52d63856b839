"""Pictures from the prompt alone: when the worker paints without an input, and on what.

While nothing comes in and somebody looks, the engine's thread paints on a dream
(``dreamrelay.media.dream``) between two looks into its mailbox; a frame that comes goes before it.
"""

import time
from collections.abc import Callable, Mapping
from typing import Any

from dreamrelay.codec import Frame
from dreamrelay.config import TextToPicture
from dreamrelay.media.dream import Dream
from dreamrelay.media.pacing import Pacer

FPS = 15.0
"""Pictures a second, at most."""

STRENGTH = 0.5
"""At least so strongly: there is no input to be faithful to."""

PATIENCE = 2.0
"""Seconds without a relay, or after an engine's error, before one is painted."""

LOOK_SECONDS = 0.25
"""So often the engine's thread looks whether it may paint now."""


class Dreaming:
    """Whether to paint now, and on which frame. The link's thread tells, the engine's thread asks.

    Args:
        wanted: ``on`` paints for a relay whoever looks, ``auto`` for those who look, ``off`` never.
        in_use: whether the worker generates at all (it may wait for OSC to say so).
        shown: whether somebody looks here: a window, a sink.
    """

    def __init__(
        self, wanted: TextToPicture, in_use: Callable[[], bool], shown: Callable[[], bool]
    ) -> None:
        self._wanted = wanted
        self._in_use = in_use
        self._shown = shown
        self._pacer = Pacer(FPS)
        self._watching, self._idle = 0, False
        self._alone_since: float | None = time.monotonic()
        """Since when there has been no relay; None while there is one."""
        self._not_before = 0.0
        self.dream: Dream | None = None

    def relay_found(self) -> None:
        self._alone_since = None

    def relay_lost(self) -> None:
        self._watching, self._idle = 0, False
        if self._alone_since is None:
            self._alone_since = time.monotonic()

    def audience(self, watching: int, idle: bool) -> None:
        """So many look at the output over the relay; ``idle``: and nothing comes in."""
        self._watching, self._idle = watching, idle

    def failed(self) -> None:
        """The engine could not: not again at once."""
        self._not_before = time.monotonic() + PATIENCE

    def wait(self) -> float | None:
        """Seconds that the engine's thread may wait for a frame; None: as long as it likes."""
        if self._wanted == "off":
            return None
        if not self._may():
            self._pacer.restart()
            return LOOK_SECONDS
        return max(self._pacer.delay(), 0.005)

    def due(self) -> bool:
        """Whether a picture is to be painted now; taken as a promise to paint it."""
        if self._wanted == "off" or not self._may() or self._pacer.delay():
            return False
        self._pacer.tick()
        return True

    def picture(
        self, width: int, height: int, values: Mapping[str, Any]
    ) -> tuple[Frame, dict[str, Any]]:
        """The frame to paint on, uint8 (height, width, 3), and the patch to paint it under."""
        seed = values.get("seed")
        seed = seed if isinstance(seed, int) and seed >= 0 else 0
        dream = self.dream
        if dream is None or (dream.width, dream.height, dream.seed) != (width, height, seed):
            dream = self.dream = Dream(width, height, seed)
        strength = values.get("strength")
        weak = isinstance(strength, int | float) and strength < STRENGTH
        # Steps given one by one say more than a strength.
        patch = {"strength": STRENGTH} if weak and not values.get("t_index_list") else {}
        return dream(time.monotonic()), patch

    def _may(self) -> bool:
        """Nothing comes in, and somebody looks."""
        if not self._in_use():
            return False
        now, alone_since = time.monotonic(), self._alone_since
        idle = self._idle if alone_since is None else now - alone_since > PATIENCE
        if not idle or now < self._not_before:
            return False
        if self._watching or (alone_since is None and self._wanted == "on"):
            return True
        return self._shown()
