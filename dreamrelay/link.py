"""Our side of a connection to the relay: one thread, one event loop, reconnection.

Programs talk to a link from any thread and hear from it through a :class:`Listener`. Pictures leave
through a mailbox (newest wins) as credit allows; everything else leaves in order and is never
dropped while the connection lasts.
"""

import asyncio
import errno
import itertools
import logging
import random
import re
import socket
import ssl
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping
from typing import Any
from urllib.parse import parse_qsl, quote, urlencode, urlsplit, urlunsplit

import orjson
from websockets.asyncio.client import ClientConnection, connect
from websockets.datastructures import Headers
from websockets.exceptions import ConnectionClosed, InvalidStatus, InvalidURI, WebSocketException

from dreamrelay.clock import RelayClock
from dreamrelay.errors import AuthError, ConfigError, DreamRelayError, ProtocolError
from dreamrelay.mailbox import Mailbox
from dreamrelay.packet import TRACKS, Packet, Track
from dreamrelay.protocol.messages import Role
from dreamrelay.protocol.native import decode_packet, decode_text, encode_packet, encode_text
from dreamrelay.trust import Trust, unknown_certificate

logger = logging.getLogger(__name__)

MAX_MESSAGE = 64 * 1024 * 1024
FIRST_WAIT = 0.25
LONGEST_WAIT = 2.0
EAGER_WAIT = 0.05
EAGER_SECONDS = 1.5
"""A relay that is started together with us listens a moment after our first try: for so long nobody
is told that nothing listens there, and it is tried at the shorter wait."""

STEADY = 10.0
"""Seconds after which a connection counts as one that works: then the waits begin anew."""

NOT_SENT_LOW_WATER = 64 * 1024
"""Bytes the kernel may hold unsent: without this its buffer is a queue of old pictures."""

LOOK_SECONDS = 1.0
SILENT_LOOKS = 5
"""A relay that says nothing between so many looks is gone."""

PING_SECONDS = (0.1, 0.2, 0.4, 0.8, 1.6, 4.0)
"""Between two looks at the relay's clock; the last one from then on."""

NOBODY_LISTENS = "nothing listens there: start the relay with `python server.py`"

OPEN_SECONDS = 10.0
CLOSE_SECONDS = 2.0
"""What a relay that takes nothing more is given to take our last words."""


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


def relay_uri(uri: str) -> str:
    """The address of a relay as WebSockets want it: ``ws://host:port`` and whatever path a proxy
    put behind it, from that, from ``http://...`` or from ``host:port``.

    Raises:
        ConfigError: not a WebSocket address.
    """
    expected = f"expected an address like ws://localhost:8765, got {uri!r}"
    try:
        parts = urlsplit(uri if "//" in uri else f"ws://{uri}")
        scheme = {"http": "ws", "https": "wss"}.get(parts.scheme, parts.scheme)
        host = parts.hostname or ""
        host.encode("idna")  # what a look-up would do, and complain of much later
        usable = scheme in ("ws", "wss") and host and (parts.port is None or parts.port > 0)
        usable = usable and not parts.netloc.endswith(":")  # http:/relay is none
    except ValueError:
        raise ConfigError(expected) from None
    if not usable or re.search(r"[\s\x00-\x1f]", uri):
        raise ConfigError(expected)
    return urlunsplit((scheme, parts.netloc, parts.path, parts.query, ""))


def native_uri(uri: str, stream: str, role: Role, **query: str | int | None) -> str:
    """The address of a role at a stream of the relay ``uri``.

    Raises:
        ConfigError: not a WebSocket address.
    """
    parts = urlsplit(relay_uri(uri))
    path = f"{parts.path.rstrip('/')}/streams/{quote(stream, safe='')}/{role}"
    given = {name: value for name, value in query.items() if value not in (None, "")}
    joined = "&".join(part for part in (parts.query, urlencode(given)) if part)
    return urlunsplit((parts.scheme, parts.netloc, path, joined, ""))


def without_token(uri: str) -> tuple[str, str | None]:
    """An address without ``?token=``, and the token.

    Tokens travel in a header: addresses end up in logs and error texts.
    """
    parts = urlsplit(uri)
    pairs = parse_qsl(parts.query, keep_blank_values=True)
    tokens = [value for name, value in pairs if name == "token"]
    if not tokens:
        return uri, None
    rest = urlencode([pair for pair in pairs if pair[0] != "token"])
    return urlunsplit((parts.scheme, parts.netloc, parts.path, rest, "")), tokens[0]


def bearer(token: str | None) -> Headers:
    """The headers that show a token.

    Raises:
        ConfigError: it cannot be one.
    """
    if token is None:
        return Headers()
    if not re.fullmatch(r"[\x21-\x7e]+", token):
        raise ConfigError("--token: expected a token without spaces or other odd characters")
    return Headers({"Authorization": f"Bearer {token}"})


class Link:
    """A connection that is kept up until ``close``.

    Args:
        uri: the relay, ``ws://host:port``.
        token: what the relay asks strangers for; it may also stand in the address.
        query: more of the address (``{"track": "both"}``).
        trust: what the relay's certificate must be.

    Raises:
        ConfigError: the address, the token or the certificates cannot be used.
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
        trust: Trust | None = None,
    ) -> None:
        uri, in_address = without_token(relay_uri(uri))
        self.uri = native_uri(uri, stream, role, name=name, **(query or {}))
        self._shown = bearer(token or in_address)
        self._trust = trust or Trust()
        self._tls = self._trust.context(self.uri)
        self.shown_uri = native_uri(uri, stream, role)
        self.session = 0
        """Number of the connection; what belongs to an earlier one must not be sent on this."""
        self.hello: Mapping[str, Any] | None = None
        """Fields of the ``hello`` that opens each connection; None: none is sent."""
        self.complains = False
        """Have the log say why there is no relay: each reason once, not at every try."""
        self.sent = 0
        """Pictures that were sent, on all connections."""
        self.clock = RelayClock()
        """The relay's: by it are the stamps of all packets on the wire, sent and received."""
        self._role = role
        self._listener = listener
        self._credit: int | None = 0
        # One place for each track: the newest of one must not replace that of another.
        self._pictures: dict[Track, Mailbox[tuple[Packet, Track, int]]] = {
            track: Mailbox() for track in TRACKS
        }
        self._outbox: deque[tuple[str | bytes, int]] = deque()
        self._patches = _Patches()
        self._connected = self._speaks = False
        self._complaints: set[str] = set()
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
    def waiting(self) -> bool:
        """Is there a picture that was not sent yet?"""
        return any(place.statistics().waiting for place in self._pictures.values())

    def start(self) -> None:
        """Begin to connect."""
        self._thread.start()

    def introduce(self, hello: Mapping[str, Any]) -> None:
        """Open each connection with this ``hello`` from now on, and say it on the one there is."""
        if self._loop is None or not self._call(self._introduce, hello):
            self.hello = hello

    def send_picture(self, packet: Packet, track: Track, session: int | None = None) -> None:
        """Have a packet sent when credit allows; a newer one replaces it until then.

        Args:
            session: the connection it belongs to; on another one it is dropped.
        """
        if self._connected:
            session = self.session if session is None else session
            self._pictures[track].put((packet, track, session))
            self._wake()

    def send(self, message: str | bytes, session: int | None = None) -> None:
        """Have a message sent in order, if there is a connection (and it is still that one)."""
        if self._connected:
            self._outbox.append((message, self.session if session is None else session))
            self._wake()

    def tell(self, kind: str, **fields: Any) -> None:
        """Send a text message."""
        self.send(encode_text(kind, **fields))

    def patch(self, values: Mapping[str, Any], origin: str) -> None:
        """Ask for parameters to be changed; without a connection, as soon as there is one.

        One patch is under way at a time, and what comes meanwhile is merged into the next: of a
        thousand values of a fader the relay hears a few, the last one among them.
        """
        self._patches.add(values, origin)
        self._wake()

    def close(self, timeout: float = CLOSE_SECONDS) -> None:
        """Send what lies in the outbox, close and end the thread; idempotent.

        Args:
            timeout: seconds for that; then the connection is cut.
        """
        self._closing = True
        self._wake()
        if not self._thread.is_alive() or threading.current_thread() is self._thread:
            return
        if self._connected:
            self._thread.join(timeout)
        if self._thread.is_alive():
            self._call(self._cut)
            self._thread.join(CLOSE_SECONDS)

    def _call(self, function: Callable[..., None], *arguments: object) -> bool:
        """Have the link's thread call a function; False if it has ended or not begun."""
        loop = self._loop
        if loop is None or loop.is_closed():
            return False
        try:
            loop.call_soon_threadsafe(function, *arguments)
        except RuntimeError:
            return False  # the loop closed between the question and the call
        return True

    def _wake(self) -> None:
        if self._something is not None:
            self._call(self._something.set)

    # -- in the link's thread ---------------------------------------------------------------------

    def _main(self) -> None:
        try:
            asyncio.run(self._run())
        except Exception as error:
            # The program must hear it, else it waits for ever.
            logger.debug("the link failed", exc_info=True)
            self._listener.refused(
                DreamRelayError(f"the link failed: {type(error).__name__}: {error}")
            )

    async def _run(self) -> None:
        self._something = asyncio.Event()
        self._task = asyncio.current_task()
        self._loop = asyncio.get_running_loop()
        wait = FIRST_WAIT
        eager_until = time.monotonic() + EAGER_SECONDS
        try:
            while not self._closing:
                began = time.monotonic()
                try:
                    await self._connection()
                    reason = "the relay closed the connection"
                except (AuthError, ConfigError, ProtocolError) as error:
                    if not self._closing:
                        self._listener.refused(error)
                    return
                except (OSError, WebSocketException) as error:  # a TimeoutError is an OSError
                    reason = _explain(error)
                if self._closing:
                    return
                if reason == NOBODY_LISTENS and not self.session and began < eager_until:
                    await self._pause(EAGER_WAIT * random.uniform(0.5, 1.0))
                    continue
                if time.monotonic() - began > STEADY:
                    wait = FIRST_WAIT
                pause = wait * random.uniform(0.5, 1.0)  # not all of them at once
                wait = min(LONGEST_WAIT, wait * 2)
                self._complain(reason, pause)
                self._listener.lost(reason, pause)
                await self._pause(pause)
        except asyncio.CancelledError:
            return

    def _complain(self, reason: str, pause: float) -> None:
        if self.complains:
            level = logging.DEBUG if reason in self._complaints else logging.WARNING
            logger.log(level, "no relay: %s; next try in %.1f s, and so on", reason, pause)
            self._complaints.add(reason)

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
            connection = type("Connection", (_Counting, self._trust.connection()), {})
            websocket = await connect(
                self.uri,
                ssl=self._tls,
                additional_headers=self._shown,
                create_connection=connection,
                compression=None,
                max_size=MAX_MESSAGE,
                open_timeout=OPEN_SECONDS,
                ping_interval=20,
                ping_timeout=20,
                close_timeout=CLOSE_SECONDS,
                proxy=None,
            )
        except InvalidStatus as error:
            raise refusal(error, self.shown_uri) from None
        except InvalidURI as error:
            raise ConfigError(str(error)) from None
        except ssl.SSLCertVerificationError as error:
            raise unknown_certificate(error, self.shown_uri) from None
        _keep_short(websocket)
        try:
            # Nothing is awaited between here and `connected`, so that a hello is said once.
            self._outbox.clear()
            for place in self._pictures.values():
                place.try_take()
            self._patches.begin_anew()
            self.clock.begin_anew()
            self._speaks = False
            self._credit = 0 if self._role == "producer" else None
            self.session += 1
            if self.hello is not None:
                self._outbox.append((encode_text("hello", version=1, **self.hello), self.session))
            self._connected = True
            self._complaints.clear()
            await self._converse(websocket)
            await websocket.close()
        finally:
            self._connected = False
            # After a farewell this does nothing; otherwise nobody is there to say it to.
            websocket.transport.abort()

    async def _converse(self, websocket: ClientConnection) -> None:
        failures: list[BaseException] = []
        try:
            async with asyncio.TaskGroup() as tasks:
                sender = tasks.create_task(self._send_all(websocket))
                timekeeper = tasks.create_task(self._keep_time())
                watchman = tasks.create_task(self._keep_watch(websocket))
                async for message in websocket:
                    self._take(message)
                sender.cancel()
                timekeeper.cancel()
                watchman.cancel()
        except* Exception as group:  # noqa: BLE001 - raised below, without its group
            failures.extend(group.exceptions)
        if failures:
            # A failure of our own says more than the end of the connection that it brought about.
            raise min(failures, key=lambda failure: isinstance(failure, WebSocketException))

    async def _keep_time(self) -> None:
        """Look at the relay's clock, often at first."""
        for seconds in itertools.chain(PING_SECONDS, itertools.repeat(PING_SECONDS[-1])):
            if self._role != "worker" or self.hello is not None:  # which says that first
                self.tell("ping", id=self.clock.ping(), every=PING_SECONDS[-1])
            await asyncio.sleep(seconds)

    async def _keep_watch(self, websocket: ClientConnection) -> None:
        """Cut a connection on which the relay has fallen silent: a cable may be out.

        It says how it goes once a second. Looks are counted and not seconds: a process that has
        stood still itself has heard nothing meanwhile.
        """
        assert isinstance(websocket, _Counting)
        came = silent = 0
        while silent < SILENT_LOOKS:
            await asyncio.sleep(LOOK_SECONDS)
            silent = silent + 1 if websocket.came == came and self._speaks else 0
            came = websocket.came
        logger.info("nothing from %s for %d s: cut", self.shown_uri, silent)
        websocket.transport.abort()

    def _cut(self) -> None:
        """End the thread now, whatever it waits for."""
        if self._task is not None:
            self._task.cancel()

    def _introduce(self, hello: Mapping[str, Any]) -> None:
        self.hello = hello
        if self._connected:
            self._outbox.append((encode_text("hello", version=1, **hello), self.session))
            self._wake()

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
                self._credit = max(1, whole(fields, "credit", 1))
                self._wake()
            self._listener.opened(fields)
        elif kind == "ack" and self._credit is not None:
            self._credit += 1
            self._wake()
        elif kind == "status":
            self._speaks = True
        elif kind == "pong" and self.clock.pong(fields.get("id"), fields.get("received_ns")):
            self._tell_clock()
            return
        elif kind in ("parameters", "error") and self._patches.settle(fields):
            self._wake()
        self._listener.heard(kind, fields)

    def _tell_clock(self) -> None:
        offset = self.clock.offset
        if offset is not None:
            self.tell("clock", offset_ns=offset.ns, error_ns=offset.error_ns)

    async def _send_all(self, websocket: ClientConnection) -> None:
        assert self._something is not None
        while True:
            self._something.clear()
            while self._outbox:
                message, session = self._outbox.popleft()
                if session == self.session:
                    await websocket.send(message)
            patch = self._patches.take()
            if patch is not None:
                await websocket.send(patch)
                continue
            if self._credit != 0:
                waiting = (place.try_take() for place in self._pictures.values())
                item = next((item for item in waiting if item is not None), None)
                if item is not None:
                    await self._send_picture(websocket, *item)
                    continue
            if self._closing:
                await websocket.close()
                return
            await self._something.wait()

    async def _send_picture(
        self, websocket: ClientConnection, packet: Packet, track: Track, session: int
    ) -> None:
        if session != self.session:
            return
        if self._credit is not None:
            self._credit -= 1
        self.sent += 1
        if ahead := self.clock.ahead_ns:
            packet = packet.moved(ahead)
        await websocket.send(encode_packet(packet, track))


class _Counting(ClientConnection):
    """Counts the bytes that came: a large picture on a slow line is no silence."""

    came = 0

    def data_received(self, data: bytes) -> None:
        self.came += len(data)
        super().data_received(data)


class _Patches:
    """Patches of parameters that wait, merged by where they come from, and the one under way."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._waiting: dict[str, dict[str, Any]] = {}
        self._under_way: tuple[str, dict[str, Any]] | None = None
        self._number = 0

    def add(self, values: Mapping[str, Any], origin: str) -> None:
        with self._lock:
            newer = {**self._waiting.pop(origin, {}), **values}
            for older in self._waiting.values():  # whoever spoke last has the say
                for name in values:
                    older.pop(name, None)
            self._waiting[origin] = newer

    def take(self) -> str | None:
        """The message to send now, if none is under way."""
        with self._lock:
            if self._under_way is not None:
                return None
            while self._waiting:
                origin = next(iter(self._waiting))
                values = self._waiting.pop(origin)
                if values:
                    self._number += 1
                    self._under_way = (origin, values)
                    return encode_text(
                        "parameters", patch=values, origin=origin, id=f"patch-{self._number}"
                    )
            return None

    def settle(self, fields: Mapping[str, Any]) -> bool:
        """Hear an answer; True if it is to the one under way."""
        with self._lock:
            # An error without a number is about a message that the relay did not even read.
            unread = fields.get("type") == "error" and fields.get("id") is None
            ours = unread or fields.get("id") == f"patch-{self._number}"
            if self._under_way is None or not ours:
                return False
            origin, values = self._under_way
            self._under_way = None
            problems = fields.get("problems")
            if fields.get("type") == "error" and isinstance(problems, dict):
                # What was merged with a wrong value is not at fault.
                good = {name: value for name, value in values.items() if name not in problems}
                if len(good) < len(values):
                    self._put_back(origin, good)
            return True

    def begin_anew(self) -> None:
        """On another connection: what was under way may not have arrived."""
        with self._lock:
            if self._under_way is not None:
                self._put_back(*self._under_way)
                self._under_way = None

    def _put_back(self, origin: str, values: Mapping[str, Any]) -> None:
        newer = {name for patch in self._waiting.values() for name in patch}
        older = {name: value for name, value in values.items() if name not in newer}
        if older:
            self._waiting = {origin: {**older, **self._waiting.pop(origin, {})}, **self._waiting}


def whole(fields: Mapping[str, Any], name: str, default: int, *, most: int = 2**64 - 1) -> int:
    """A number from 0 to ``most`` out of what a relay sent; ``default`` if it is none."""
    value = fields.get(name)
    if isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= most:
        return value
    return default


def _keep_short(websocket: ClientConnection) -> None:
    """Have the kernel take no more than it can send soon, where it lets itself be told so."""
    connection = websocket.transport.get_extra_info("socket")
    if connection is not None and hasattr(socket, "TCP_NOTSENT_LOWAT"):
        option = socket.TCP_NOTSENT_LOWAT
        connection.setsockopt(socket.IPPROTO_TCP, option, NOT_SENT_LOW_WATER)


def _explain(error: BaseException) -> str:
    """A reason for people, on one line."""
    text = str(error).strip()
    # A name with several addresses (localhost) has its failures listed in one text.
    numbers = {int(number) for number in re.findall(r"\[Errno (-?\d+)\]", text)}
    refused = {errno.ECONNREFUSED, 10061}
    if isinstance(error, ConnectionRefusedError) or (numbers and numbers <= refused):
        return NOBODY_LISTENS
    if isinstance(error, ConnectionClosed):
        if error.rcvd is None:
            return "the connection was cut"
        return f"the relay closed the connection ({error.rcvd.reason or error.rcvd.code})"
    if isinstance(error, TimeoutError):
        return f"no answer within {OPEN_SECONDS:.0f} s"
    return text.splitlines()[0] if text else type(error).__name__


def refusal(error: InvalidStatus, uri: str) -> DreamRelayError | OSError:
    """What an HTTP answer instead of a WebSocket means: for good, or for now."""
    status = error.response.status_code
    said = _said(error.response.body)
    if status in (401, 403):
        hint = "give --token" if status == 401 else "not from here"
        return AuthError(f"{uri} refused us ({status}): {hint}{said}", status=status)
    if status in (400, 404, 405, 426):
        return ProtocolError(f"{uri} is not a dreamrelay relay (HTTP {status}{said})")
    return OSError(f"{uri} answered HTTP {status}{said}")  # full, restarting: worth another try


def _said(body: bytes | bytearray | None) -> str:
    """What the relay says about a refusal, if it says anything."""
    try:
        error = orjson.loads(body or b"").get("error", {})
        return f": {str(error['message'])[:300]}"
    except (ValueError, AttributeError, KeyError, TypeError):
        return ""
