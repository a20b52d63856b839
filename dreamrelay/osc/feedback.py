"""What OSC tells without being asked: each changed value, how it goes, and that we live.

Motor faders and pages of buttons follow by it, whoever made the change. One thread looks twenty
times a second, so a flood of changes costs each target twenty messages a second per parameter.
"""

import logging
import re
import socket
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from dreamrelay.errors import ConfigError
from dreamrelay.osc.dialect import Reply, Steered, figure_arguments, latency_figures
from dreamrelay.osc.fitting import shown
from dreamrelay.osc.table import address_of
from dreamrelay.osc.wire import encode

logger = logging.getLogger(__name__)

MAX_TARGETS = 16
LOOK_SECONDS = 0.05
HEARTBEAT_SECONDS = 1.0
REFRESH_SECONDS = 5.0
"""All values again, so often: a datagram may be lost, and a tablet may come late."""

MAX_ERRORS = 16
"""That wait to be told; the newest stay."""


class Target:
    """Somebody who is told, by ``host:port``."""

    def __init__(self, name: str) -> None:
        match = re.fullmatch(r"\[?([^\]]+)\]?:(\d{1,5})", name.strip())
        port = int(match[2]) if match else 0
        if match is None or not 0 < port < 65536:
            raise ConfigError(f"--osc-out: expected host:port, got {name!r:.80}")
        self._address: Any
        try:
            family, kind, _, _, self._address = socket.getaddrinfo(
                match[1], port, type=socket.SOCK_DGRAM
            )[0]
        except OSError as error:
            raise ConfigError(f"--osc-out: cannot find {match[1]!r:.80}: {error}") from None
        self.name = name.strip()
        self._socket = socket.socket(family, kind)
        self._socket.setblocking(False)
        self._trouble = ""

    def send(self, datagram: bytes) -> None:
        """Send, or let it be: what is missed is told again soon."""
        trouble = ""
        try:
            self._socket.sendto(datagram, self._address)
        except OSError as error:
            trouble = error.strerror or str(error)
        if trouble and trouble != self._trouble:
            logger.warning("OSC to %s: %s", self.name, trouble)
        self._trouble = trouble

    def close(self) -> None:
        self._socket.close()


class Feedback:
    """Tell all targets what changes. Without targets nothing runs.

    Raises:
        ConfigError: a target is no ``host:port``, or its name cannot be found.
    """

    def __init__(
        self,
        names: Sequence[str],
        steered: Steered,
        rules: Callable[[], Mapping[str, Any]],
    ) -> None:
        if len(names) > MAX_TARGETS:
            raise ConfigError(f"--osc-out: expected at most {MAX_TARGETS} targets")
        self._steered = steered
        self._rules = rules
        self._errors: deque[Reply] = deque(maxlen=MAX_ERRORS)
        self._told: dict[str, list[Any]] = {}
        self._beats = 0
        self._beat_at = self._refresh_at = 0.0
        self._trouble = ""
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._tell_on, name="osc-out", daemon=True)
        self._targets: list[Target] = []
        try:
            for name in names:
                self._targets.append(Target(name))
        except ConfigError:
            self.close()
            raise

    def start(self) -> None:
        if self._targets:
            self._thread.start()

    def close(self) -> None:
        """Stop telling; idempotent."""
        self._closing.set()
        if self._thread.is_alive():
            self._thread.join(2)
        for target in self._targets:
            target.close()

    def error(self, address: str, reason: str) -> None:
        """Have an ``/error`` told. From any thread."""
        if self._targets:
            self._errors.append(("/error", [address, reason[:400]]))

    # -- in its own thread ------------------------------------------------------------------------

    def _tell_on(self) -> None:
        while True:
            try:
                for address, arguments in self.due(time.monotonic()):
                    datagram = encode(address, *arguments)
                    for target in self._targets:
                        target.send(datagram)
            except Exception:
                # A mistake of ours costs this round of telling, not those after it.
                logger.exception("OSC: could not tell how it goes")
            if self._closing.wait(LOOK_SECONDS):
                return

    def due(self, now: float) -> list[Reply]:
        """What is to be told now."""
        due: list[Reply] = []
        standing = self._steered.standing()
        if now >= self._refresh_at:
            self._refresh_at = now + REFRESH_SECONDS
            self._told.clear()
        told = {name: figure_arguments(name, standing) for name in ("/state", "/prompt_cache")}
        values = self._steered.values()
        for name, rule in self._rules().items():
            if name in values:
                told[address_of(name)] = shown(rule, values[name])
        for address, arguments in told.items():
            if self._told.get(address) != arguments:
                self._told[address] = arguments
                due.append((address, arguments))
        if standing.trouble != self._trouble:
            self._trouble = standing.trouble
            if standing.trouble:
                due.append(("/error", ["", standing.trouble[:400]]))
        while self._errors:
            due.append(self._errors.popleft())
        if now >= self._beat_at:
            self._beat_at = now + HEARTBEAT_SECONDS
            self._beats = self._beats % 2**31 + 1
            due += [(name, figure_arguments(name, standing)) for name in ("/fps", "/age")]
            due += latency_figures(standing)
            due.append(("/heartbeat", [self._beats % 2**31]))
        return due
