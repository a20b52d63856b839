"""The dialect of StreamDiffusion-Web's page, on path ``/api/ws/{uuid}``.

The relay asks (``send_frame``), the page answers with three messages: ``next_frame``, its settings,
its picture. The settings may themselves hold a ``mode``, so what a message means depends on where
in the three we are, not on its keys. Results go over HTTP, as MJPEG. See ``docs/protocol.md``.
"""

import time
from collections import deque
from collections.abc import Callable, Mapping
from typing import Any

import orjson

from dreamrelay.errors import ProtocolError
from dreamrelay.packet import Packet
from dreamrelay.protocol.messages import (
    Acknowledged,
    Delivery,
    Dialect,
    Event,
    Limits,
    Notice,
    PacketReceived,
    PatchReceived,
    Refused,
    ReplyDue,
    SchemaChanged,
    StatusChanged,
    Welcome,
)
from dreamrelay.protocol.texts import read_json

WINDOW = 2
"""Pictures under way: the page fetches one while the other is computed."""

MAX_WINDOW = 8
"""A stream batch gives a picture back only when more have come."""

EMPTY_PAUSE = 0.2
"""Seconds until a page whose camera gives nothing yet is asked again."""

STALL_NS = 1_000_000_000
"""Nothing has come back for so long: what was under way is lost."""

_FULL = "full"
_HUMAN = "human"


class StreamDiffusionWebDialect(Dialect):
    """The relay's end of a page.

    It joins its stream as a producer that watches the output: each result is worth a
    ``send_frame``. The stream's status, which comes once a second, is the clock of what was lost.
    """

    def __init__(self, limits: Limits, *, clock_ns: Callable[[], int] = time.time_ns) -> None:
        self._limits = limits
        self._clock_ns = clock_ns
        self._settings_due = False
        self._pictures_due = 0
        self._names: frozenset[str] | None = None
        self._mode_name: str | None = "mode"
        self._sent: dict[str, Any] = {}
        self._inflight: deque[int] = deque()
        self._captured_ns = 0
        self._window = WINDOW
        self._asked = 0
        self._asked_ns = 0
        self._greeted = False

    # -- in ---------------------------------------------------------------------------------------

    def receive(self, message: str | bytes) -> list[Event]:
        try:
            if isinstance(message, bytes):
                return self._picture(message)
            return self._text(message)
        except ProtocolError as error:
            self._settings_due = False
            return [ReplyDue(_status("error", message=str(error)))]

    def _text(self, message: str) -> list[Event]:
        try:
            fields = read_json(message)
        except orjson.JSONDecodeError as error:
            raise ProtocolError(f"expected a JSON object: {error}") from None
        if not isinstance(fields, dict):
            raise ProtocolError(f"expected a JSON object, got {type(fields).__name__}")
        if fields.get("status") == "next_frame":  # whoever lost its way begins anew
            self._settings_due = True
            return []
        if self._settings_due:
            self._settings_due = False
            # A page that encodes its picture aside may begin the next three before it has it.
            self._pictures_due = min(self._pictures_due + 1, MAX_WINDOW)
            return self._settings(fields)
        if "mode" in fields:
            return self._change_mode(fields["mode"])
        raise ProtocolError(f"expected {self._expected}, got other JSON")

    @property
    def _expected(self) -> str:
        if self._settings_due:
            return "settings"
        return "a picture" if self._pictures_due else "next_frame"

    def _change_mode(self, mode: Any) -> list[Event]:
        if not isinstance(mode, str) or len(mode) > 64:
            raise ProtocolError(f"expected {_FULL} or {_HUMAN} as mode, got {mode!r:.40}")
        reply = ReplyDue(_status("mode_changed", mode=mode))
        return [*self._settings({"mode": mode}), reply]

    def _settings(self, fields: Mapping[str, Any]) -> list[Event]:
        """What of the page's settings is new, under the worker's names."""
        named = {name: value for name, value in fields.items() if name != "mode"}
        if self._mode_name is not None and fields.get("mode") in (_FULL, _HUMAN):
            named[self._mode_name] = fields["mode"]
        patch = {
            name: value
            for name, value in named.items()
            if (self._names is None or name in self._names)
            and not (name in self._sent and self._sent[name] == value)
        }
        if not patch:
            return []
        self._sent.update(patch)
        # Each for itself: the page sends all that it has, and one that is refused costs no other.
        return [PatchReceived({name: value}) for name, value in patch.items()]

    def _picture(self, data: bytes) -> list[Event]:
        if not self._pictures_due:
            raise ProtocolError(f"expected {self._expected}, got {len(data)} bytes")
        self._pictures_due -= 1
        self._asked = max(0, self._asked - 1)
        if not data:  # the camera is not there yet
            return [ReplyDue(self._ask(), EMPTY_PAUSE)]
        # Results carry the time of their input: by it we know what is still under way.
        self._captured_ns = max(self._captured_ns + 1, self._clock_ns())
        packet = Packet.of(data, captured_ns=self._captured_ns)
        if packet.width * packet.height > self._limits.pixels:
            most = f"expected at most {self._limits.pixels} pixels"
            raise ProtocolError(f"{most}, got {packet.width}x{packet.height}")
        self._inflight.append(packet.captured_ns)
        return [PacketReceived(packet, "input")]

    # -- out --------------------------------------------------------------------------------------

    def render(self, notice: Notice) -> list[str | bytes]:
        match notice:
            case Welcome():
                return [_status("connected", message="Connected")]
            case SchemaChanged(schema):
                self._learn(schema)
                return []
            case StatusChanged(status):
                return self._second(status["state"] == "live")
            case Acknowledged(_, None):
                return self._more()
            case Acknowledged(_, refusal):
                return [_status("error", message=refusal)]
            case Delivery(packet, "output"):
                while self._inflight and self._inflight[0] <= packet.captured_ns:
                    self._inflight.popleft()
                return self._more()
            case Refused(error):  # to the page ``error`` is the end; of other words it knows none
                return [_status("warning", message=str(error))]
            case _:
                return []

    def _learn(self, schema: Mapping[str, Any] | None) -> None:
        properties = (schema or {}).get("properties")
        if not isinstance(properties, Mapping):
            self._names = None  # no worker yet: the stream keeps what it is told, and checks later
            return
        self._names = frozenset(properties)
        self._mode_name = mode_name(properties)
        self._sent = {n: v for n, v in self._sent.items() if n in self._names}

    def _second(self, live: bool) -> list[str | bytes]:
        """Once a second, and whenever something about the stream has changed."""
        if not self._greeted:  # now its settings are understood
            self._greeted = True
            return [_status("wait"), self._ask()]
        if self._clock_ns() - self._asked_ns < STALL_NS:
            return []
        if live and self._inflight:
            self._window = min(self._window + 1, MAX_WINDOW)
        self._inflight.clear()
        self._asked = 0
        return [self._ask()]

    def _more(self) -> list[str | bytes]:
        return [self._ask()] if len(self._inflight) + self._asked < self._window else []

    def _ask(self) -> str:
        self._asked += 1
        self._asked_ns = self._clock_ns()
        return _status("send_frame")


def mode_name(properties: Mapping[str, Any]) -> str | None:
    """The parameter that tells the whole picture from the person alone, however it is called; None
    if a worker has none.
    """
    for name, rule in properties.items():
        choices = rule.get("enum") if isinstance(rule, Mapping) else None
        if isinstance(choices, list) and _FULL in choices and _HUMAN in choices:
            return name
    return None


def full() -> str:
    """What a page hears for which there is no room."""
    return _status("error", message="Server is full")


def in_use() -> str:
    """What a second page with the same number hears."""
    return _status("error", message="This session is open already: start again")


def time_out() -> str:
    """What a page hears whose time is over."""
    return _status("timeout", message="Your session has ended")


def _status(status: str, **fields: Any) -> str:
    return orjson.dumps({"status": status, **fields}).decode()
