"""Between a WebSocket and the hub: bytes to the dialect, its events to the hub, notices back.

What has to be sent and cannot yet lies in an outbox (control, in order, never dropped) or in a
subscription (pictures, newest wins); the outbox goes first. There are two ways, and nobody at the
other end can tell which it was: by a line (``lines``), where all is done as it comes, or by ASGI,
with two tasks a connection of which one receives and one sends.
Who does not read the replies is not read from either; who does not read for ``stall_seconds`` is
cut off (``connections``).
"""

import asyncio
import itertools
import logging
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from starlette.websockets import WebSocket, WebSocketDisconnect, WebSocketState

from dreamrelay.errors import AuthError, DreamRelayError, ParameterError, ProtocolError
from dreamrelay.hub import PRODUCER_CREDIT, Peer, Stream
from dreamrelay.packet import TRACKS, Packet, Track
from dreamrelay.protocol.messages import (
    Acknowledged,
    AudienceChanged,
    ClockReported,
    CreditGiven,
    Delivery,
    Dialect,
    Event,
    FailureReceived,
    Fault,
    Joined,
    LatencyMeasured,
    Left,
    Limits,
    Notice,
    PacketReceived,
    ParametersChanged,
    PatchReceived,
    PicturesShown,
    Promised,
    ReferenceChanged,
    Refused,
    ReplyDue,
    RequestReceived,
    Role,
    SchemaChanged,
    SourceReported,
    StatusChanged,
    StatusReceived,
    Unanswered,
    Welcome,
)
from dreamrelay.relay.auth import PERMISSIONS, Grant, Permission
from dreamrelay.relay.limits import Throttle
from dreamrelay.relay.lines import Line, Receiver, frame, framed, line_of

logger = logging.getLogger(__name__)

SILENT_TIMES = 3
"""A peer that was silent for so many times of what it promised is cut off."""

MAX_OUTBOX = 1024
"""Messages that may wait for a peer; one that lets more pile up is cut off."""

MAX_OUTBOX_MESSAGES = 4
"""And as many bytes as this many of the largest messages."""

FULL_OUTBOX = 64
"""Messages from which on we do not read what else the peer wants."""

ROLE_NEEDS: Mapping[Role, Permission] = {
    "producer": "publish",
    "worker": "work",
    "viewer": "view",
}

_FOR_VIEWERS = (SchemaChanged, ParametersChanged)
"""What a peer that may only publish is not told."""

_numbers = itertools.count(1)


class _Done(Exception):
    """The connection is over; nothing went wrong."""


class _Refused(Exception):
    """The connection cannot go on; the text says why."""


@dataclass(slots=True)
class _Latest:
    """A place in the outbox for the newest notice of its kind; written when its turn comes."""

    notice: Notice

    def __len__(self) -> int:
        return 0


class WebSocketPeer(Peer, Receiver):
    """One connection."""

    def __init__(
        self,
        websocket: WebSocket,
        dialect: Dialect,
        stream: Stream,
        role: Role,
        limits: Limits,
        grant: Grant,
        throttle: Throttle,
    ) -> None:
        self.id = f"ws-{next(_numbers)}"
        self.role = role
        self.reply_limit = dialect.reply_limit
        self._websocket = websocket
        self._dialect = dialect
        self._stream = stream
        self._limits = limits
        self._throttle = throttle
        self._may = frozenset(p for p in PERMISSIONS if grant.allows(p, stream.name))
        self._sees = "view" in self._may
        self._joined = False
        self._outbox: deque[str | bytes | _Latest] = deque()
        self._latest: dict[type[Notice], _Latest] = {}
        self._outbox_bytes = 0
        self._most_bytes = MAX_OUTBOX_MESSAGES * limits.message_bytes
        self._something = asyncio.Event()
        self._drained = asyncio.Event()
        self._promised = 0.0
        self._silent = 0
        """Looks since its last message."""
        self._line: Line | None = None
        self._full = False
        """Nothing is read from the line, because the outbox is full."""
        self._corked = False
        """Answers to a message are written when all that it asked for is done."""
        self._answers: list[str | bytes] = []
        """These, if nothing waits that goes before them."""
        self._woken = False
        """There was a picture to send meanwhile."""
        self._ended: asyncio.Future[_Refused] | None = None

    # -- what the hub calls -----------------------------------------------------------------------

    def notify(self, notice: Notice) -> None:
        if not self._sees and isinstance(notice, _FOR_VIEWERS):
            return
        match notice:
            case Acknowledged():
                self._post_all(notice)
            case Delivery():
                if not self.deliver(notice.packet, notice.track):
                    self._post_all(notice)
            case (
                SchemaChanged()
                | StatusChanged()
                | AudienceChanged()
                | LatencyMeasured()
                | ReferenceChanged()
                | ParametersChanged(id=None)
            ):
                self._post_latest(notice)
            case _:
                self._post_all(notice)

    def deliver(self, packet: Packet, track: Track) -> bool:
        line = self._line
        if line is None or self._outbox or self._corked or not line.can_send():
            return False
        form = self._dialect.form(packet, track)
        if form is None:
            for message in self._dialect.render(Delivery(packet, track)):
                line.write(frame(message))
        else:
            line.write(framed(packet, form))
        return True

    def _post_all(self, notice: Notice) -> None:
        for message in self._dialect.render(notice):
            self._post(message)

    def _post_latest(
        self,
        notice: SchemaChanged
        | StatusChanged
        | AudienceChanged
        | LatencyMeasured
        | ReferenceChanged
        | ParametersChanged,
    ) -> None:
        """What says how things are replaces its like that still waits.

        So nobody who changes things a thousand times a second fills the outboxes of the others.
        """
        line = self._line
        if line is not None and not self._outbox and not self._corked and line.can_send():
            self._post_all(notice)
            return
        waiting = self._latest.get(type(notice))
        if waiting is None:
            waiting = self._latest[type(notice)] = _Latest(notice)
            self._post(waiting)
            if isinstance(notice, SchemaChanged):  # values belong behind their schema
                self._latest.pop(ParametersChanged, None)
            return
        before = waiting.notice
        if isinstance(notice, ParametersChanged) and isinstance(before, ParametersChanged):
            changed = tuple(dict.fromkeys((*before.changed, *notice.changed)))
            notice = replace(notice, changed=changed)
        waiting.notice = notice

    def look(self) -> None:
        # Looks are counted, not seconds: who has stood still himself has nothing to say of others.
        self._silent += 1
        if self._promised and self._silent > SILENT_TIMES * self._promised:
            logger.warning("%s promised to say something and is silent: cut off", self.id)
            self._promised = 0.0
            self._cut()

    def _cut(self) -> None:
        transport = self._websocket.scope.get("state", {}).get("transport")
        if transport is not None:
            transport.abort()

    def wake(self) -> None:
        if self._line is None:
            self._something.set()
        elif self._corked:
            self._woken = True
        elif not self._outbox:
            self._write_pictures(self._line)

    def _post(self, message: str | bytes | _Latest) -> None:
        line = self._line
        if line is not None and not self._outbox and not isinstance(message, _Latest):
            if self._corked:
                self._answers.append(message)
                return
            if line.can_send():
                line.write(frame(message))
                return
        self._outbox.append(message)
        self._outbox_bytes += len(message)
        if len(self._outbox) > MAX_OUTBOX or self._outbox_bytes > self._most_bytes:
            logger.warning("%s lets messages pile up: cut off", self.id)
            self._outbox.clear()
            self._outbox_bytes = 0
            self._cut()
        self._something.set()

    def _post_after(self, seconds: float, message: str | bytes) -> None:
        if seconds > 0:
            asyncio.get_running_loop().call_later(seconds, self._post, message)
        else:
            self._post(message)

    # -- the connection ---------------------------------------------------------------------------

    async def run(self, tracks: tuple[Track, ...] = (), credit: int | None = None) -> None:
        """Serve the connection to its end.

        Args:
            tracks: watched from the start; a peer of another dialect may say so later.
            credit: what the peer may be sent at first on each track.
        """
        role = self.role
        welcome = Welcome(
            self._stream.name,
            role,
            self.id,
            PRODUCER_CREDIT if role == "producer" else None,
            self._limits,
        )
        refusal: BaseException | None = None
        try:
            if self._websocket.application_state is WebSocketState.CONNECTING:
                await self._websocket.accept()
            first = await self._greet(welcome)
            if self._dialect.joins_at_once and role != "worker":
                self._join(tracks, credit)
            line = line_of(self._websocket.scope)
            async with asyncio.TaskGroup() as tasks:
                if line is not None and line.attach(self):
                    tasks.create_task(self._by_line(line, first))
                    tasks.create_task(self._until_gone())
                else:
                    tasks.create_task(self._send_all())
                    tasks.create_task(self._receive_all(first))
        except* _Refused as refused:
            refusal = refused.exceptions[0]
        except* (_Done, WebSocketDisconnect):
            pass
        finally:
            if self._line is not None:
                self._line.detach()
                self._line = None
            self._stream.leave(self)
        if refusal is not None:
            code = 1008 if isinstance(refusal.args[0], AuthError) else 1002
            await self._part(str(refusal), code)

    async def _greet(self, welcome: Welcome) -> str | bytes | None:
        """Say welcome, unless the peer speaks first within the grace of its dialect."""
        if self._dialect.greeting_grace > 0:
            try:
                async with asyncio.timeout(self._dialect.greeting_grace):
                    return await self._receive()
            except TimeoutError:
                pass
        self.notify(welcome)
        return None

    async def _receive(self) -> str | bytes:
        message = await self._websocket.receive()
        if message["type"] == "websocket.disconnect":
            raise _Done
        text: str | bytes | None = message.get("text")
        data: str | bytes = message.get("bytes") or b""
        return data if text is None else text

    # -- by line ----------------------------------------------------------------------------------

    async def _by_line(self, line: Line, first: str | bytes | None) -> None:
        self._line = line
        self._ended = asyncio.get_running_loop().create_future()
        self.drained()  # what was said before there was a line
        if first is None or self.take(first):
            line.go_on()
        raise await self._ended

    async def _until_gone(self) -> None:
        while True:
            await self._receive()  # the line takes all but the end

    def take(self, message: str | bytes) -> bool:
        return self._take_events(self._dialect.receive(message))

    def take_text(self, message: bytes) -> bool:
        return self._take_events(self._dialect.receive_text(message))

    def _take_events(self, events: list[Event]) -> bool:
        if len(events) == 1 and isinstance(event := events[0], CreditGiven):
            # As many as pictures are seen: it needs no permission, and all its answer is a picture.
            self._silent = 0
            self._stream.grant(self, event.count, event.track)
        elif not self._do(events):
            return False
        if not self._outbox and not self._throttle.limits:
            return True
        if (pause := self._throttle.take()) > 0:
            asyncio.get_running_loop().call_later(pause, self._go_on)
            return False
        self._full = len(self._outbox) > FULL_OUTBOX
        return not self._full

    def _do(self, events: list[Event]) -> bool:
        """Do what a message asks for; False: it ends the connection."""
        assert self._ended is not None
        self._corked = True
        try:
            self._handle(events)
        except _Refused as refused:
            if not self._ended.done():
                self._ended.set_result(refused)
            return False
        finally:
            self._corked = False
            if self._answers:
                self._write_answers()
            if self._outbox or self._woken:
                self._woken = False
                self.drained()
        return True

    def _write_answers(self) -> None:
        """Write them all at once; if nothing can be written, they go before what waits."""
        answers, self._answers = self._answers, []
        if self._line is not None and self._line.can_send():
            self._line.write(b"".join(map(frame, answers)))
        else:
            self._outbox.extendleft(reversed(answers))
            self._outbox_bytes += sum(map(len, answers))

    def _go_on(self) -> None:
        self._full = len(self._outbox) > FULL_OUTBOX
        if self._line is not None and not self._full:
            self._line.go_on()

    def drained(self) -> None:
        line = self._line
        if line is None:
            return
        while self._outbox and line.can_send():
            for message in self._next_waiting():
                line.write(frame(message))
        if not self._outbox:
            self._write_pictures(line)
        if self._full:
            self._go_on()

    def _write_pictures(self, line: Line) -> None:
        for subscription in self._stream.subscriptions(self):
            if not line.can_send():
                return
            subscription.retry()

    # -- by ASGI ----------------------------------------------------------------------------------

    async def _receive_all(self, first: str | bytes | None) -> None:
        # A task of its own: the one we are called in lies under all of the middleware, and each
        # message would wake it through every layer.
        if first is not None:
            self._handle(self._dialect.receive(first))
        while True:
            self._handle(self._dialect.receive(await self._receive()))
            if (pause := self._throttle.take()) > 0:
                await asyncio.sleep(pause)  # meanwhile nothing is read from the socket either
            while len(self._outbox) > FULL_OUTBOX:
                self._drained.clear()
                await self._drained.wait()

    async def _send_all(self) -> None:
        while True:
            await self._something.wait()
            self._something.clear()
            await self._send_outbox()
            for subscription in self._stream.subscriptions(self):
                packet = subscription.take()
                if packet is not None:  # what comes while it is on its way wakes us again
                    for message in self._dialect.render(Delivery(packet, subscription.track)):
                        await self._send(message)

    async def _send_outbox(self) -> None:
        while self._outbox:
            for message in self._next_waiting():
                await self._send(message)

    def _next_waiting(self) -> list[str | bytes]:
        """Take what is to be sent next out of the outbox."""
        message = self._outbox.popleft()
        self._outbox_bytes -= len(message)
        if len(self._outbox) <= FULL_OUTBOX:
            self._drained.set()
        if not isinstance(message, _Latest):
            return [message]
        if self._latest.get(type(message.notice)) is message:
            del self._latest[type(message.notice)]
        return self._dialect.render(message.notice)

    async def _send(self, message: str | bytes) -> None:
        kind = "text" if isinstance(message, str) else "bytes"
        try:
            await self._websocket.send({"type": "websocket.send", kind: message})
        except (WebSocketDisconnect, RuntimeError):  # closed under our hands
            raise _Done from None

    async def _part(self, reason: str, code: int) -> None:
        """Say what is left to say, and close with a code that tells programs why."""
        try:
            await self._send_outbox()
            # 123 bytes is what a close frame has room for.
            await self._websocket.close(code, reason.encode()[:123].decode(errors="ignore"))
        except (_Done, WebSocketDisconnect, RuntimeError):
            return  # it did not wait for that

    # -- events -----------------------------------------------------------------------------------

    def _join(
        self, tracks: tuple[Track, ...] = (), credit: int | None = None, **worker: Any
    ) -> None:
        self._joined = True
        self._stream.join(self, tracks, credit, **worker)

    def _handle(self, events: list[Event]) -> None:
        self._silent = 0
        for event in events:
            permission = needed(event)
            if permission is None or permission in self._may:
                self._take(event)
            else:
                self._forbid(event, permission)

    def _take(self, event: Event) -> None:
        match event:
            case PacketReceived():
                if not self._joined:
                    self._join()
                self._stream.publish(event.packet, event.track, self)
            case CreditGiven(count, track):
                self._stream.grant(self, count, track)
            case Joined(role, name, credit, worker, tracks):
                changed = role != self.role
                self.role, self.name = role, name or self.name
                if worker is not None or tracks or changed or not self._joined:
                    self._join(tracks, credit, worker=worker)
            case PatchReceived(patch, id_, origin):
                door = origin or self.name or self.role
                try:
                    self._stream.update_parameters(patch, door, id=id_, peer=self)
                except ParameterError as error:
                    self.notify(Refused(error, id_))
            case RequestReceived(packet, patch, ticket):
                self._stream.request(packet, patch, ticket, self)
            case ReplyDue(reply, after):
                self._post_after(after, reply)
            case Left():
                self._stream.leave(self)
            case Fault(error, close):
                self._fault(error, close)
            case _:
                self._report(event)

    def _report(self, event: Event) -> None:
        """Pass on what the peer says of itself."""
        match event:
            case StatusReceived():
                self._stream.report(self, event)
            case SourceReported():
                self._stream.report_source(self, event)
            case FailureReceived(seq, text):
                self._stream.fail(seq, text, self)
            case ClockReported():
                self._stream.timing.set_clock(self, event)
            case PicturesShown():
                self._stream.timing.show(event)
            case Promised(every):
                self._promised = every

    def _fault(self, error: DreamRelayError, close: bool) -> None:
        logger.info("%s (%s): %s", self.id, self.role, error)
        self.notify(Refused(error))
        if close:
            raise _Refused(error)

    def _forbid(self, event: Event, permission: Permission) -> None:
        """Answer what the peer may not do, in the form that its dialect waits for."""
        error = AuthError(f"this needs the permission {permission!r}: ask for a token")
        match event:
            case PacketReceived(packet):
                self.notify(Acknowledged(packet.seq, str(error)))
            case PatchReceived(id=id_):
                self.notify(Refused(error, id_))
            case RequestReceived(ticket=ticket):
                self.notify(Unanswered(ticket, error))
            case _:
                self._fault(error, True)


def needed(event: Event) -> Permission | None:
    """What a peer must be allowed to for this to be done."""
    match event:
        case PacketReceived():
            return "publish" if event.track == "input" else "work"
        case CreditGiven():
            return None
        case RequestReceived():
            return "publish"
        case PatchReceived():
            return "control"
        case Joined(role):
            return ROLE_NEEDS[role]
        case StatusReceived() | FailureReceived():
            return "work"
        case _:
            return None


def parse_tracks(value: str) -> tuple[Track, ...]:
    """The tracks that ``?track=`` names: one, several with commas, or ``both`` camera and result.

    Raises:
        ProtocolError: something else.
    """
    asked = {"both": "input,output"}.get(value, value).split(",")
    tracks = tuple(track for track in TRACKS if track in asked)
    if len(tracks) != len(asked):
        raise ProtocolError(
            f"track: expected one of {', '.join(TRACKS)} or both, got {value!r:.40}"
        )
    return tracks
