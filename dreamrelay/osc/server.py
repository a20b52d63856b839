"""The OSC server: one UDP port, one thread. Nothing that comes in can end it.

A thread of its own with a large socket buffer takes a burst of 2,000 messages whole and in order,
where an event loop's server loses half of it. Bundles hold at once: a time stamp in the future must
not stop the show.
"""

import errno
import ipaddress
import logging
import socket
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dreamrelay.errors import ConfigError, DreamRelayError, ProtocolError
from dreamrelay.osc.dialect import Dialect, Reply, Sender, Steered
from dreamrelay.osc.feedback import Feedback, Subject, find
from dreamrelay.osc.presets import Presets, default_path
from dreamrelay.osc.table import STREAM
from dreamrelay.osc.wire import Broken, Message, decode, encode

logger = logging.getLogger(__name__)

RECEIVE_BUFFER = 4 * 1024 * 1024
LARGEST_DATAGRAM = 65_535
BETWEEN_PATCHES = 0.01
"""Seconds: the values of a flood go on a hundred times a second, the newest of each."""

MAX_PER_SECOND = 20_000
"""Messages; what comes beyond waits in the socket's buffer, or is lost there."""

MAX_REPLIES = 200
MAX_REPLY_BYTES = 64 * 1024
"""In one second, to all senders: an address can be forged, and nobody shall drown in answers."""

MAX_ERRORS = 50
"""Answers in a second that are complaints: who sends rubbish leaves others their answers."""

MAX_LOG_LINES = 10
MAX_COMPLAINTS = 1000
LONGEST_PROBLEM = 200


@dataclass(slots=True)
class OscStatistics:
    """Totals since the start."""

    datagrams: int = 0
    messages: int = 0
    refused: int = 0
    patches: int = 0
    replies: int = 0


class _PerSecond:
    """So much in a second, and no more."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._second = self._spent = 0

    def take(self, amount: int = 1) -> bool:
        second = int(time.monotonic())
        if second != self._second:
            self._second, self._spent = second, 0
        self._spent += amount
        return self._spent <= self._most


class OscServer:
    """Listen for OSC, have ``steered`` act on it, and tell others what holds.

    The addresses are those of ``docs/osc.md``.

    Args:
        streams: by their names whoever is steered at ``/stream/NAME/...``; ``steered`` may be one
            of them.
        out: ``host:port`` of whoever is to be told each change.
        presets: the file that presets are kept in; else one in the user's state folder.

    Raises:
        ConfigError: the port is in use, or an address is none.
    """

    def __init__(
        self,
        host: str,
        port: int,
        steered: Steered,
        *,
        streams: Mapping[str, Steered] | None = None,
        out: Sequence[str] = (),
        presets: Path | None = None,
    ) -> None:
        self.statistics = OscStatistics()
        kept = Presets(presets or default_path())
        self._dialect = Dialect(steered, kept)
        self._streams = {
            name: self._dialect if one is steered else Dialect(one, kept)
            for name, one in (streams or {}).items()
        }
        self._dialects = list(dict.fromkeys([self._dialect, *self._streams.values()]))
        self._closing = threading.Event()
        self._replies, self._reply_bytes = _PerSecond(MAX_REPLIES), _PerSecond(MAX_REPLY_BYTES)
        self._errors = _PerSecond(MAX_ERRORS)
        self._budget, self._lines = _PerSecond(MAX_PER_SECOND), _PerSecond(MAX_LOG_LINES)
        self._flushed = 0.0
        self._complained: set[tuple[str, str]] = set()
        self._socket = _bound(host, port)
        try:
            subjects = [Subject("", steered, self._dialect)]
            subjects += [
                Subject(f"{STREAM}{name}", one, self._streams[name])
                for name, one in (streams or {}).items()
                if one is not steered
            ]
            self.feedback = Feedback(out, subjects, self._socket.getsockname())
        except ConfigError:
            self._socket.close()
            raise
        self._thread = threading.Thread(target=self._listen, name="osc", daemon=True)

    @property
    def port(self) -> int:
        return int(self._socket.getsockname()[1])

    def introduce(self, schema: Mapping[str, Any]) -> None:
        """Take each parameter of an engine's schema for an address. From any thread."""
        for dialect in self._dialects:
            dialect.introduce(schema)

    def start(self) -> None:
        """Begin to listen, and to tell."""
        self._thread.start()
        self.feedback.start()

    def close(self) -> None:
        """Stop listening; idempotent."""
        self._closing.set()
        self.feedback.close()
        if self._thread.is_alive():
            self._thread.join(2)
        self._socket.close()

    # -- in the server's thread -------------------------------------------------------------------

    def _listen(self) -> None:
        while not self._closing.is_set():
            self._socket.settimeout(BETWEEN_PATCHES if self._waiting else 0.1)
            try:
                datagram, sender = self._socket.recvfrom(LARGEST_DATAGRAM)
            except TimeoutError:
                self._flush()
                continue
            except ConnectionResetError as error:
                # Windows says so when somebody whom we answered has gone: next, please. To wait
                # here would keep everybody else waiting for one who sends rubbish and is deaf.
                logger.debug("OSC: %s", error)
            except OSError as error:
                logger.debug("OSC: %s", error)  # closing, or the network is down
                self._closing.wait(0.01)
            else:
                try:
                    self._take(datagram, (sender[0], sender[1]))
                except Exception:
                    # A mistake of ours costs this datagram, not the show.
                    if self._lines.take():
                        logger.exception("OSC: a datagram failed")
            # The first value of a flood goes on at once, the others together a little later.
            if self._waiting and time.monotonic() - self._flushed >= BETWEEN_PATCHES:
                self._flush()
            while not self._budget.take(0):
                self._flush()
                if self._closing.wait(0.05):
                    return

    def _take(self, datagram: bytes, sender: Sender) -> None:
        self.statistics.datagrams += 1
        for item in decode(datagram):
            self._budget.take()
            if isinstance(item, Broken):
                self._refuse(sender, item.address, item.reason)
                continue
            self.statistics.messages += 1
            self._do(item, sender)

    def _do(self, message: Message, sender: Sender) -> None:
        try:
            prefix, dialect, meant = self._addressed(message)
            replies = [
                (f"{prefix}{address}", arguments)
                for address, arguments in dialect.receive(meant, sender)
            ]
        except DreamRelayError as error:
            self._refuse(sender, message.address, str(error))
        except Exception:  # as above: it costs this message
            if self._lines.take():
                logger.exception("OSC: %s failed", message.address)
            self._refuse(sender, message.address, "it failed")
        else:
            self._log(logging.DEBUG, "%s %.200r", message.address, message.arguments)
            self._answer(sender, replies)

    def _addressed(self, message: Message) -> tuple[str, Dialect, Message]:
        """Whom a message means: what is before its address, and the message without that."""
        if not message.address.startswith(STREAM):
            return "", self._dialect, message
        name, _, rest = message.address.removeprefix(STREAM).partition("/")
        dialect = self._streams.get(name)
        if dialect is None:
            known = ", ".join(self._streams) or "none has a name"
            raise ProtocolError(f"no such stream here: {name} (there are: {known})")
        return f"{STREAM}{name}", dialect, Message(f"/{rest}", message.arguments)

    @property
    def _waiting(self) -> bool:
        return any(dialect.waiting for dialect in self._dialects)

    def _flush(self) -> None:
        for dialect in self._dialects:
            if dialect.waiting:
                self._flushed = time.monotonic()
                self.statistics.patches += 1
                try:
                    dialect.flush()
                except Exception:  # as above: the thread that listens goes on
                    if self._lines.take():
                        logger.exception("OSC: a change of parameters failed")

    def _refuse(self, sender: Sender, address: str, reason: str) -> None:
        self.statistics.refused += 1
        reason = reason[:LONGEST_PROBLEM]
        # A tool that sends all it has says the same a thousand times; it is logged once.
        level = logging.DEBUG if (address, reason) in self._complained else logging.WARNING
        if len(self._complained) < MAX_COMPLAINTS:
            self._complained.add((address, reason))
        self._log(level, "OSC: %s: %s (from %s)", address or "?", reason, sender[0])
        if self._errors.take():
            self._answer(sender, [("/error", [address, reason])])
        self.feedback.error(address, reason)

    def _answer(self, sender: Sender, replies: Sequence[Reply]) -> None:
        for address, arguments in replies:
            datagram = encode(address, *arguments)
            if not (self._replies.take() and self._reply_bytes.take(len(datagram))):
                return
            try:
                self._socket.sendto(datagram, sender)
            except OSError as error:
                logger.debug("OSC: no answer to %s:%d: %s", *sender, error)
                return
            self.statistics.replies += 1

    def _log(self, level: int, text: str, *arguments: object) -> None:
        if logger.isEnabledFor(level) and self._lines.take():
            logger.log(level, text, *arguments)


def _bound(host: str, port: int) -> socket.socket:
    try:
        family, kind, address = find(host, port, socket.AI_PASSIVE)
        if ipaddress.ip_address(address[0].partition("%")[0]).is_multicast:
            raise OSError("a group can be told, by --osc-out, but not listened to")
        bound = socket.socket(family, kind)
    except OSError as error:
        raise ConfigError(f"--osc-ip: expected an address, got {host!r}: {error}") from None
    try:
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, RECEIVE_BUFFER)
        if address[0] == "::":  # every address there is, IPv4 too
            bound.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        bound.bind(address)
    except OSError as error:
        bound.close()
        way_out = "7000 is Resolume's own port too; try --osc-port=7001, or --osc-port=none"
        if error.errno == errno.EADDRNOTAVAIL:
            way_out = "--osc-ip=127.0.0.1 is this machine, 0.0.0.0 all of its addresses"
        where = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
        raise ConfigError(
            f"cannot listen for OSC on {where}: {error.strerror or error} ({way_out})"
        ) from None
    return bound
