"""What OSC tells without being asked: each changed value, how it goes, and that we live.

Motor faders and pages of buttons follow by it, whoever made the change. One thread looks twenty
times a second, so a flood of changes costs each target twenty messages a second per parameter.
"""

import logging
import math
import re
import socket
import threading
import time
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

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
"""That wait to be told, the newest of them; and different ones that are told in a second."""

REPEAT_SECONDS = 60.0
"""That a target cannot be reached is logged again so long after."""


def find(host: str, port: int, flags: int = 0) -> tuple[int, int, Any]:
    """The family, kind and address of a UDP socket for a name.

    A name may have addresses of both kinds, and ``localhost`` often has IPv6 first; the tools of
    the stage listen to IPv4, and most of them to that alone.

    Raises:
        OSError: it cannot be found.
    """
    found = socket.getaddrinfo(host, port, type=socket.SOCK_DGRAM, flags=flags)
    family, kind, _, _, address = min(found, key=lambda one: one[0] != socket.AF_INET)
    return family, kind, address


def _is_heard_at(own: Any, family: int, address: Any) -> bool:
    """Does what is sent to an address come in where we listen?"""
    if address[1] != own[1]:
        return False
    if own[0] not in ("0.0.0.0", "::"):
        return bool(address[0] == own[0])
    # Every address of this machine is: only to those can a socket be bound.
    with socket.socket(family, socket.SOCK_DGRAM) as trial:
        try:
            trial.bind((address[0], 0, *address[2:]))
        except OSError:
            return False
    return True


class Target:
    """Somebody who is told, by ``host:port``.

    Args:
        own: where we listen: to be told there what we tell would go round and round.
    """

    def __init__(self, name: str, own: Any = None) -> None:
        match = re.fullmatch(r"\[?([^\]]+)\]?:(\d{1,5})", name.strip())
        port = int(match[2]) if match else 0
        if match is None or not 0 < port < 65536:
            raise ConfigError(f"--osc-out: expected host:port, got {name!r:.80}")
        try:
            family, kind, self._address = find(match[1], port)
        except OSError as error:
            raise ConfigError(f"--osc-out: cannot find {match[1]!r:.80}: {error}") from None
        if own is not None and _is_heard_at(own, family, self._address):
            raise ConfigError(
                f"--osc-out: expected the port of another program, {name} is where we listen"
            )
        self.name = name.strip()
        self._socket = socket.socket(family, kind)
        self._socket.setblocking(False)
        if family == socket.AF_INET:  # 192.168.0.255 is everybody there
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_BROADCAST, 1)
        self._trouble = ""
        self._said_at = -math.inf

    def send(self, datagram: bytes) -> None:
        """Send, or let it be: what is missed is told again soon."""
        try:
            self._socket.sendto(datagram, self._address)
        except BlockingIOError:
            return  # its buffer is full for the moment
        except OSError as error:
            trouble, now = error.strerror or str(error), time.monotonic()
            if trouble != self._trouble or now - self._said_at > REPEAT_SECONDS:
                self._trouble, self._said_at = trouble, now
                logger.warning("OSC to %s: %s", self.name, trouble)

    def close(self) -> None:
        self._socket.close()


class Rules(Protocol):
    """Who knows the parameters that there are."""

    @property
    def rules(self) -> Mapping[str, Any]: ...


@dataclass(slots=True)
class Subject:
    """Of whom it is told: what stands before the addresses, and what he was in trouble with."""

    prefix: str
    steered: Steered
    known: Rules
    trouble: str = ""


class Feedback:
    """Tell all targets what changes. Without targets nothing runs.

    Raises:
        ConfigError: a target is no ``host:port``, its name cannot be found, or it is ourselves.
    """

    def __init__(
        self,
        names: Sequence[str],
        subjects: Sequence[Subject],
        own: Any = None,
    ) -> None:
        if len(names) > MAX_TARGETS:
            raise ConfigError(f"--osc-out: expected at most {MAX_TARGETS} targets")
        self._voices = subjects
        self._errors: deque[Reply] = deque(maxlen=MAX_ERRORS)
        self._complained: list[Reply] = []
        self._told: dict[str, list[Any]] = {}
        self._beats = 0
        self._beat_at = self._refresh_at = 0.0
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._tell_on, name="osc-out", daemon=True)
        self._targets: list[Target] = []
        try:
            for name in names:
                self._targets.append(Target(name, own))
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
        if now >= self._refresh_at:
            self._refresh_at = now + REFRESH_SECONDS
            self._told.clear()
        beat = now >= self._beat_at
        due = [reply for subject in self._voices for reply in self._of(subject, beat)]
        while self._errors:
            error = self._errors.popleft()
            # A tool that sends all it has is wrong in the same way a thousand times a second.
            if error not in self._complained and len(self._complained) < MAX_ERRORS:
                self._complained.append(error)
                due.append(error)
        if beat:
            self._complained.clear()
            self._beat_at = now + HEARTBEAT_SECONDS
            self._beats = self._beats % 2**31 + 1
            due.append(("/heartbeat", [self._beats % 2**31]))
        return due

    def _of(self, subject: Subject, beat: bool) -> list[Reply]:
        """What has changed of one, and at each beat how it goes."""
        due: list[Reply] = []
        steered, prefix = subject.steered, subject.prefix
        standing, values = steered.standing(), steered.values()
        told = {
            f"{prefix}{name}": figure_arguments(name, standing)
            for name in ("/state", "/prompt_cache")
        }
        for name, rule in subject.known.rules.items():
            if name in values:
                told[f"{prefix}{address_of(name)}"] = shown(rule, values[name])
        for address, arguments in told.items():
            if self._told.get(address) != arguments:
                self._told[address] = arguments
                due.append((address, arguments))
        if standing.trouble != subject.trouble:
            subject.trouble = standing.trouble
            if standing.trouble:
                due.append(("/error", [prefix, standing.trouble[:400]]))
        if beat:
            figures = [(name, figure_arguments(name, standing)) for name in ("/fps", "/age")]
            figures += latency_figures(standing)
            due += [(f"{prefix}{name}", arguments) for name, arguments in figures]
        return due
