"""The backplane over NATS core: at most once, no disk.

Each connection is used until it breaks and then thrown away with all that waited in it, so nothing
old is ever sent again; a new one is tried until it holds. Subjects: ``dreamrelay.CLUSTER.all`` for
everybody, ``dreamrelay.CLUSTER.to.RELAY`` for one. Names and passwords are logged nowhere.
"""

import asyncio
import contextlib
import logging
import platform
import re
import secrets
import ssl
from collections import deque
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.errors import Error as NatsError

from dreamrelay.config import RelaySettings
from dreamrelay.errors import ConfigError
from dreamrelay.relay.backplane import MAX_WAITING, Backplane, Receiver
from dreamrelay.relay.nats_line import FULL, LetterClient, LetterLine

logger = logging.getLogger(__name__)

CONNECT_SECONDS = 5
PING_SECONDS = 5
FLUSH_SECONDS = 10
"""A server that takes nothing for so long is given up."""

LAST_SECONDS = 1
"""What a goodbye has to leave."""

FIRST_PAUSE, LONGEST_PAUSE = 0.25, 5.0
"""Seconds between two attempts to connect."""

_REFUSED = re.compile(r"authoriz|authent|permission", re.IGNORECASE)


class NatsBackplane(Backplane):
    """One relay's connection to the NATS servers that its settings name.

    Args:
        largest: bytes of the largest letter that may be sent.
        short: have letters take the short way past the client library (:mod:`nats_line`), where
            the library lets them.
    """

    def __init__(self, settings: RelaySettings, largest: int, *, short: bool = True) -> None:
        machine = re.sub(r"[^A-Za-z0-9_-]", "-", platform.node())[:40]
        self.title = settings.relay_name or machine or "relay"
        # Started again it is another relay: what was on its way to the old one is not for it.
        super().__init__(f"{self.title}-{secrets.token_hex(3)}")
        self._largest = largest
        self._prefix = f"dreamrelay.{settings.cluster}"
        self._servers = [part.strip() for part in (settings.backplane or "").split(",")]
        self._where = ", ".join(_shown(server) for server in self._servers)
        self._options = _options(settings, self._servers)
        # Letters in WebSocket messages are the library's own business.
        self._short = short and not any(s.startswith(("ws:", "wss:")) for s in self._servers)
        self._client: Client | None = None
        self._open: Client | None = None
        """The connection in use."""
        self._line: LetterLine | None = None
        """Its short way, if there is one."""
        self._receiver: Receiver | None = None
        self._outbox: deque[tuple[str, bytes]] = deque()
        self._waiting = 0
        self._something, self._drained = asyncio.Event(), asyncio.Event()
        self._drained.set()
        self._trouble = ""
        """Why there is no connection, as it was logged last."""

    @property
    def is_short(self) -> bool:
        """Whether letters take the short way now."""
        return self._line is not None

    def send(self, to: str, *parts: bytes) -> bool:
        return self._post(f"{self._prefix}.to.{to}", parts)

    def broadcast(self, *parts: bytes) -> bool:
        return self._post(f"{self._prefix}.all", parts)

    def _post(self, subject: str, parts: tuple[bytes, ...]) -> bool:
        size = sum(map(len, parts))
        waiting = self._waiting if self._line is None else self._line.waiting
        full = waiting + size > MAX_WAITING + self._largest
        if not self.connected or full or size > self._largest:
            self.traffic.refused += 1
            return False
        self.traffic.sent += 1
        if self._line is not None:
            self._line.send(subject, size, parts)
            return True
        self._outbox.append((subject, b"".join(parts)))
        self._waiting += size
        self._drained.clear()
        self._something.set()
        return True

    async def start(self) -> None:
        """Connect for the first time; a server that is not there yet is waited for by ``run``.

        Raises:
            ConfigError: the server refuses us, or takes no messages as large as ours.
        """
        try:
            self._client = await self._connect()
        except (NatsError, OSError, TimeoutError) as error:
            if _REFUSED.search(str(error)):
                raise ConfigError(self._why(error)) from None
            self._say(f"{self._why(error)}; trying again")

    @property
    def _unreached(self) -> str:
        """Gone, or never there: to those who read it the same."""
        return f"the NATS server at {self._where} cannot be reached: this relay goes on by itself"

    def _why(self, error: Exception) -> str:
        """What is wrong with the server, in words that hold no secret."""
        if isinstance(error, ConfigError):
            return str(error)
        if _REFUSED.search(str(error)):
            return (
                f"the NATS server at {self._where} refuses this relay: give"
                " --backplane_token, --backplane_credentials, or nats://NAME:PASSWORD@HOST"
            )
        return self._unreached

    def _say(self, trouble: str) -> None:
        """Log it, once however often we try; and with an empty text, that it is over."""
        if trouble and trouble != self._trouble:
            logger.warning("%s", trouble)
        elif self._trouble and not trouble:
            logger.warning("the NATS server at %s is there", self._where)
        self._trouble = trouble

    async def _connect(self) -> Client:
        client = LetterClient(self._take) if self._short else Client()
        try:
            async with asyncio.timeout(CONNECT_SECONDS):
                await client.connect(
                    self._servers,
                    name=self.name,
                    no_echo=True,
                    allow_reconnect=False,  # it would send what is old
                    max_reconnect_attempts=1,
                    reconnect_time_wait=0,
                    connect_timeout=CONNECT_SECONDS,
                    ping_interval=PING_SECONDS,
                    error_cb=_on_error,
                    closed_cb=self._on_closed,
                    **self._options,
                )
        except (NatsError, OSError, TimeoutError, asyncio.CancelledError):
            await _close(client)  # it leaves its socket open
            raise
        if client.max_payload < self._largest:
            takes, needs = client.max_payload / 1e6, self._largest / 1e6
            await _close(client)
            raise ConfigError(
                f"the NATS server at {self._where} takes messages of at most {takes:.1f} MB, this "
                f"relay may send {needs:.1f} MB: set max_payload: {int(needs) + 1}MB in the "
                "server's configuration, or start relays with a smaller --max_message_mb"
            )
        return client

    async def run(self, receiver: Receiver) -> None:
        pause = FIRST_PAUSE
        while True:
            try:
                client, self._client = self._client or await self._connect(), None
                pause = FIRST_PAUSE
                await self._carry(client, receiver)
                self._say(f"{self._unreached}; trying again")
            except (NatsError, OSError, TimeoutError, ConfigError) as error:
                self._say(f"{self._why(error)}; trying again")
            await asyncio.sleep(pause)
            pause = min(2 * pause, LONGEST_PAUSE)

    async def _carry(self, client: Client, receiver: Receiver) -> None:
        """Carry letters while this connection lasts."""

        async def arrive(message: Msg) -> None:
            self._take(message.data)

        try:
            await client.subscribe(f"{self._prefix}.to.{self.name}", cb=arrive)
            await client.subscribe(f"{self._prefix}.all", cb=arrive)
            await client.flush(FLUSH_SECONDS)  # from here on we hear what is said to us
            if isinstance(client, LetterClient):
                self._line = client.line if client.line.is_used else None
                if self._line is None:
                    logger.warning(
                        "letters go through the NATS client, which costs more: it"
                        " is a version that we do not know"
                    )
            self.connected, self._open, self._receiver = True, client, receiver
            self.traffic.connects += 1
            self._say("")
            receiver.connected(True)
            await (self._line.watch(FLUSH_SECONDS) if self._line else self._send_all(client))
        finally:
            was, self.connected = self.connected, False
            self._open = self._line = self._receiver = None
            self._outbox.clear()
            self._drained.set()
            self._waiting = 0
            if was:
                receiver.connected(False)
            await _close(client)

    def _take(self, data: bytes | memoryview) -> None:
        if self._receiver is not None:
            self._receiver.received(data)

    async def _send_all(self, client: Client) -> None:
        while not client.is_closed:
            while self._outbox and not client.is_closed:
                subject, data = self._outbox.popleft()
                self._waiting -= len(data)
                await client.publish(subject, data)
                if client.pending_data_size > FULL:
                    await client.flush(FLUSH_SECONDS)
            self._drained.set()
            if not client.is_closed:
                self._something.clear()
                await self._something.wait()

    async def flush(self) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(LAST_SECONDS):
                await self._drained.wait()
                if self._open is not None:
                    with contextlib.suppress(NatsError, OSError):
                        await self._open.flush()

    async def _on_closed(self) -> None:
        self._something.set()


async def _close(client: Client) -> None:
    with contextlib.suppress(NatsError, OSError):
        await client.close()


def _options(settings: RelaySettings, servers: list[str]) -> dict[str, Any]:
    """What the client is told of who we are and whom we trust.

    Raises:
        ConfigError: a file that cannot be used.
    """
    options: dict[str, Any] = {}
    if settings.backplane_token:
        options["token"] = settings.backplane_token
    if settings.backplane_credentials:
        path = Path(settings.backplane_credentials).expanduser()
        try:
            text = path.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError):
            raise ConfigError(f"backplane_credentials: {path} cannot be read") from None
        with_key = "-----BEGIN NATS USER JWT-----" in text
        options["user_credentials" if with_key else "nkeys_seed"] = str(path)
    if settings.backplane_ca or any(server.startswith("tls:") for server in servers):
        try:
            options["tls"] = ssl.create_default_context(cafile=settings.backplane_ca)
        except (OSError, ssl.SSLError):
            raise ConfigError(
                f"backplane_ca: {settings.backplane_ca} holds no certificates (a PEM file)"
            ) from None
    return options


async def _on_error(error: Exception) -> None:
    logger.debug("NATS: %s", type(error).__name__)  # its text may hold what is secret


def _shown(server: str) -> str:
    parts = urlsplit(server)
    return f"{parts.hostname}:{parts.port or 4222}"
