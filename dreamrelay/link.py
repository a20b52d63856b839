"""Our side of a connection to the relay: one thread, one event loop, reconnection.

Programs talk to a link from any thread and hear from it through a :class:`Listener`. Pictures leave
through a mailbox (newest wins) as credit allows; everything else leaves in order and is never
dropped while the connection lasts.
"""

import asyncio
import logging
import random
import threading
import time
from collections import deque
from collections.abc import Mapping
from typing import Any
from urllib.parse import quote, urlencode, urlsplit, urlunsplit

from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import InvalidStatus, InvalidURI, WebSocketException

from dreamrelay.errors import AuthError, ConfigError, DreamRelayError, ProtocolError
from dreamrelay.mailbox import Mailbox
from dreamrelay.packet import Packet, Track
from dreamrelay.protocol.messages import Role
from dreamrelay.protocol.native import decode_packet, decode_text, encode_packet, encode_text

logger = logging.getLogger(__name__)

MAX_MESSAGE = 64 * 1024 * 1024
FIRST_WAIT = 0.25
LONGEST_WAIT = 5.0


class Listener:
    """What a program hears from its link. Called in the link's thread: return at once."""

    def opened(self, welcome: Mapping[str, Any]) -> None:
        """The relay has welcomed us (again)."""

    def lost(self, reason: str, retry_in: float) -> None:
        """There is no connection; the next try is in ``retry_in`` seconds."""

    def heard(self, kind: str, fields: Mapping[str, Any]) -> None:
        """A text message came (``docs/protocol.md``)."""

    def received(self, packet: Packet, track: Track) -> None:
        """A packet came."""

    def refused(self, error: DreamRelayError) -> None:
        """The relay will not have us; the link has given up."""


def native_uri(uri: str, stream: str, role: Role, **query: str | int | None) -> str:
    """The address of a role at a stream: ``ws://host:port`` and whatever path a proxy put before
    it.

    Raises:
        ConfigError: not a WebSocket address.
    """
    parts = urlsplit(uri if "//" in uri else f"ws://{uri}")
    scheme = {"http": "ws", "https": "wss"}.get(parts.scheme, parts.scheme)
    try:
        usable = scheme in ("ws", "wss") and parts.hostname and (parts.port or True)
    except ValueError:
        usable = False
    if not usable:
        raise ConfigError(f"expected an address like ws://localhost:8765, got {uri!r}")
    path = f"{parts.path.rstrip('/')}/streams/{quote(stream, safe='')}/{role}"
    given = {name: value for name, value in query.items() if value not in (None, "")}
    joined = "&".join(part for part in (parts.query, urlencode(given)) if part)
    return urlunsplit((scheme, parts.netloc, path, joined, ""))


class Link:
    """A connection that is kept up until ``close``.

    Args:
        uri: the relay, ``ws://host:port``.
        query: more of the address (``{"track": "both"}``).
    """

    def __init__(
        self,
        uri: str,
        stream: str,
        role: Role,
        listener: Listener,
        *,
        token: str | None = None,
        name: str = "",
        query: Mapping[str, str] | None = None,
    ) -> None:
        self.uri = native_uri(uri, stream, role, token=token, name=name, **(query or {}))
        self.shown_uri = native_uri(uri, stream, role)
        self.session = 0
        """Number of the connection; what belongs to an earlier one must not be sent on this."""
        self.hello: Mapping[str, Any] | None = None
        """Fields of the ``hello`` that opens each connection; None: none is sent."""
        self._role = role
        self._listener = listener
        self._credit: int | None = 0
        self._pictures: Mailbox[tuple[Packet, Track, int]] = Mailbox()
        self._outbox: deque[str | bytes] = deque()
        self._connected = False
        self._closing = False
        self._loop: asyncio.AbstractEventLoop | None = None
        self._something: asyncio.Event | None = None
        self._task: asyncio.Task[None] | None = None
        self._thread = threading.Thread(target=self._main, name=f"link-{role}", daemon=True)

    # -- from any thread --------------------------------------------------------------------------

    @property
    def connected(self) -> bool:
        return self._connected

    @property
    def replaced(self) -> int:
        """Pictures that a newer one replaced before they could be sent."""
        return self._pictures.statistics().replaced

    def start(self) -> None:
        """Begin to connect."""
        self._thread.start()

    def send_picture(self, packet: Packet, track: Track, session: int | None = None) -> None:
        """Have a packet sent when credit allows; a newer one replaces it until then.

        Args:
            session: the connection it belongs to; on another one it is dropped.
        """
        if self._connected:
            self._pictures.put((packet, track, self.session if session is None else session))
            self._wake()

    def send(self, message: str | bytes, session: int | None = None) -> None:
        """Have a message sent in order, if there is a connection (and it is still that one)."""
        if self._connected and session in (None, self.session):
            self._outbox.append(message)
            self._wake()

    def tell(self, kind: str, **fields: Any) -> None:
        """Send a text message."""
        self.send(encode_text(kind, **fields))

    def close(self, timeout: float = 5.0) -> None:
        """Send what lies in the outbox, close and end the thread; idempotent."""
        self._closing = True
        self._wake()
        if self._thread.is_alive() and threading.current_thread() is not self._thread:
            self._thread.join(timeout)
            if self._thread.is_alive() and self._loop is not None and self._task is not None:
                self._loop.call_soon_threadsafe(self._task.cancel)
                self._thread.join(timeout)

    def _wake(self) -> None:
        loop, something = self._loop, self._something
        if loop is not None and something is not None and not loop.is_closed():
            try:
                loop.call_soon_threadsafe(something.set)
            except RuntimeError:
                # The loop closed between the question and the call: nobody is left to wake.
                return

    # -- in the link's thread ---------------------------------------------------------------------

    def _main(self) -> None:
        asyncio.run(self._run())

    async def _run(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._task = asyncio.current_task()
        self._something = asyncio.Event()
        wait = FIRST_WAIT
        try:
            while not self._closing:
                began = time.monotonic()
                try:
                    await self._connection()
                    reason = "the relay closed the connection"
                except (AuthError, ConfigError, ProtocolError) as error:
                    self._listener.refused(error)
                    return
                except (OSError, TimeoutError, WebSocketException) as error:
                    reason = _explain(error)
                if self._closing:
                    return
                if time.monotonic() - began > 10:
                    wait = FIRST_WAIT
                pause = wait * random.uniform(0.5, 1.0)  # not all of them at once
                wait = min(LONGEST_WAIT, wait * 2)
                self._listener.lost(reason, pause)
                await self._pause(pause)
        except asyncio.CancelledError:
            return

    async def _pause(self, seconds: float) -> None:
        assert self._something is not None
        deadline = time.monotonic() + seconds
        while not self._closing and (left := deadline - time.monotonic()) > 0:
            self._something.clear()
            try:
                async with asyncio.timeout(left):
                    await self._something.wait()
            except TimeoutError:
                return

    async def _connection(self) -> None:
        try:
            websocket = await connect(
                self.uri,
                compression=None,
                max_size=MAX_MESSAGE,
                open_timeout=10,
                ping_interval=20,
                ping_timeout=20,
                close_timeout=2,
                proxy=None,
            )
        except InvalidStatus as error:
            raise _refusal(error, self.shown_uri) from None
        except InvalidURI as error:
            raise ConfigError(str(error)) from None
        async with websocket:
            self._outbox.clear()
            self._pictures.try_take()
            self._credit = 0 if self._role == "producer" else None
            self.session += 1
            if self.hello is not None:
                await websocket.send(encode_text("hello", version=1, **self.hello))
            self._connected = True
            try:
                async with asyncio.TaskGroup() as tasks:
                    sender = tasks.create_task(self._send_all(websocket))
                    async for message in websocket:
                        self._take(message)
                    sender.cancel()
            except* WebSocketException as group:
                raise group.exceptions[0] from None
            finally:
                self._connected = False

    def _take(self, message: str | bytes) -> None:
        try:
            if isinstance(message, bytes):
                packet, track = decode_packet(message)
                self._listener.received(packet, track)
                return
            kind, fields = decode_text(message)
        except ProtocolError as error:
            logger.warning("the relay sent something odd: %s", error)
            return
        if kind == "welcome":
            if self._credit is not None:
                self._credit = int(fields.get("credit") or 1)
            self._listener.opened(fields)
        elif kind == "ack" and self._credit is not None:
            self._credit += 1
            self._wake()
        self._listener.heard(kind, fields)

    async def _send_all(self, websocket: ClientConnection) -> None:
        assert self._something is not None
        while True:
            while self._outbox:
                await websocket.send(self._outbox.popleft())
            if self._credit != 0:
                item = self._pictures.try_take()
                if item is not None:
                    packet, track, session = item
                    if session == self.session:
                        if self._credit is not None:
                            self._credit -= 1
                        await websocket.send(encode_packet(packet, track))
                    continue
            if self._closing and not self._outbox:
                await websocket.close()
                return
            self._something.clear()
            if not self._outbox and not self._closing and not self._sendable():
                await self._something.wait()

    def _sendable(self) -> bool:
        return self._credit != 0 and self._pictures.statistics().waiting > 0


def _explain(error: BaseException) -> str:
    """A reason for people, on one line."""
    if isinstance(error, ConnectionRefusedError):
        return "nothing listens there: start the relay with `python server.py`"
    text = str(error).strip().splitlines()
    return text[0] if text else type(error).__name__


def _refusal(error: InvalidStatus, uri: str) -> DreamRelayError | OSError:
    """What an HTTP answer instead of a WebSocket means: for good, or for now."""
    status = error.response.status_code
    if status in (401, 403):
        hint = "give --token" if status == 401 else "not from here"
        return AuthError(f"{uri} refused us ({status}): {hint}", status=status)
    if status in (400, 404, 405, 426):
        return ProtocolError(f"{uri} is not a dreamrelay relay (HTTP {status})")
    return OSError(f"{uri} answered HTTP {status}")  # full, restarting: worth another try
