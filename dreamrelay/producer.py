"""The producer: frames from a source to the relay, at a steady rate, the newest first.

One thread reads, paces and encodes; the link sends as the relay's credit allows. A picture that the
relay had no credit for is replaced by the next one and counted, so a slow relay costs frames, never
delay.
"""

import logging
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import quote

from dreamrelay.codec import Frame, encode_bytes, resize
from dreamrelay.config import ProducerSettings
from dreamrelay.errors import ConfigError, DeviceError, DreamRelayError
from dreamrelay.link import Link, Listener
from dreamrelay.media import Captured, Source, open_source
from dreamrelay.media.pacing import Pacer
from dreamrelay.packet import Codec, Hop, Packet
from dreamrelay.telemetry import RateMeter

logger = logging.getLogger(__name__)

LAST_ACK = 2.0
"""Seconds to wait at the end for acks that are under way."""


@dataclass(slots=True)
class ProducerStatistics:
    """Totals since the start; written by the producer's threads, read by whoever reports."""

    captured: int = 0
    acked: int = 0
    refused: int = 0
    dropped: int = 0
    rate: RateMeter = field(default_factory=RateMeter)
    round_trip_ms: float = 0.0
    connected: bool = False
    last_refusal: str = ""


class Producer(Listener):
    """One producer: ``run`` until the source or the duration ends, or ``stop``.

    Raises:
        ConfigError, DeviceError, MissingExtra: the source cannot be opened. Nothing was started.
    """

    def __init__(self, settings: ProducerSettings, *, source: Source | None = None) -> None:
        self.settings = settings
        self.statistics = ProducerStatistics()
        self.url = source_url(settings)
        self._given = source
        self._stopped = threading.Event()
        self._failure: DreamRelayError | None = None
        self._sent_ns: dict[int, int] = {}
        self._opened = threading.Event()
        self._encoded: tuple[Frame, bytes, int, int] | None = None
        self._link = Link(
            settings.websocket_uri,
            settings.stream,
            "producer",
            self,
            token=settings.token,
            name="producer",
        )

    def stop(self) -> None:
        """End ``run``; from any thread, or a signal handler."""
        self._stopped.set()

    def change(self, **parameters: Any) -> None:
        """Change parameters of the stream (``prompt="..."``); from any thread."""
        self._link.tell("parameters", patch=parameters, origin="producer")

    def run(self) -> None:
        """Send until the end of the source or of the duration, or ``stop``.

        Raises:
            DeviceError: a stored source is at its end before it gave a single picture.
            DreamRelayError: the relay will not have us.
        """
        # Screens and cameras belong to the thread that opened them.
        source = self._given or open_source(self.url)
        self._link.start()
        try:
            self._send_all(source)
            self._await_acks()
        finally:
            self._link.close()
            source.close()
        if self._failure is not None:
            raise self._failure

    def _send_all(self, source: Source) -> None:
        settings = self.settings
        # The clock starts when the relay is there: a minute of pictures shall be a minute of
        # pictures.
        while not self._opened.wait(0.1):
            if self._stopped.is_set():
                return
        pacer = Pacer(settings.fps)
        began = time.monotonic()
        wait = 0.5
        while not self._stopped.is_set():
            if settings.duration is not None and time.monotonic() - began >= settings.duration:
                return
            try:
                captured = source.read()
            except DeviceError as error:
                if self.statistics.captured == 0 and not source.live:
                    raise
                logger.warning("%s; next try in %.1f s", error, wait)
                self._stopped.wait(wait)
                wait = min(5.0, wait * 2)
                pacer.restart()
                continue
            wait = 0.5
            if captured is None:
                return
            packet = self._encode(captured)
            self._sent_ns[packet.seq] = time.monotonic_ns()
            self._link.send_picture(packet, "input")
            self.statistics.dropped = self._link.replaced
            pacer.tick()
            self._stopped.wait(pacer.delay())

    def _encode(self, captured: Captured) -> Packet:
        settings = self.settings
        codec = Codec[settings.format.upper()]
        if self._encoded is None or self._encoded[0] is not captured.frame:
            frame = _shrink(captured.frame, settings.width, settings.height)
            data = encode_bytes(frame, codec, quality=settings.quality)
            self._encoded = (captured.frame, data, frame.shape[1], frame.shape[0])
        # A still picture is encoded once, however often it is sent.
        _, data, width, height = self._encoded
        self.statistics.captured += 1
        seq = self.statistics.captured
        packet = Packet(data, codec, width, height, seq, captured.captured_ns)
        return packet.stamped(Hop.ENCODED)

    def _await_acks(self) -> None:
        deadline = time.monotonic() + LAST_ACK
        statistics = self.statistics
        while (
            statistics.connected
            and not self._stopped.is_set()
            and statistics.acked + statistics.refused + self._link.replaced < statistics.captured
            and time.monotonic() < deadline
        ):
            self._stopped.wait(0.01)

    # -- from the relay, in the link's thread -----------------------------------------------------

    def opened(self, welcome: Mapping[str, Any]) -> None:
        logger.info("sending to %s", self._link.shown_uri)
        self.statistics.connected = True
        if self.settings.prompt is not None:
            self.change(prompt=self.settings.prompt)
        self._opened.set()

    def lost(self, reason: str, retry_in: float) -> None:
        self.statistics.connected = False
        logger.warning("no relay: %s; next try in %.1f s", reason, retry_in)

    def refused(self, error: DreamRelayError) -> None:
        self._failure = error
        self._stopped.set()

    def heard(self, kind: str, fields: Mapping[str, Any]) -> None:
        statistics = self.statistics
        if kind == "ack":
            if fields.get("accepted", True):
                statistics.acked += 1
                statistics.rate.tick()
            else:
                statistics.refused += 1
                statistics.last_refusal = str(fields.get("message", ""))
                logger.warning("the relay refused a picture: %s", statistics.last_refusal)
            sent = self._sent_ns.pop(int(fields.get("seq") or 0), None)
            if sent is not None:
                statistics.round_trip_ms = (time.monotonic_ns() - sent) / 1e6
            if len(self._sent_ns) > 256:  # those that were replaced get no ack
                for seq in sorted(self._sent_ns)[:128]:
                    del self._sent_ns[seq]
        elif kind == "error":
            logger.warning("the relay says: %s", fields.get("message"))


def _shrink(frame: Frame, width: int | None, height: int | None) -> Frame:
    """Scale to a width, a height (keeping the aspect) or both."""
    have_height, have_width = frame.shape[:2]
    if width is None and height is None:
        return frame
    if width is None:
        width = max(1, have_width * (height or 1) // have_height)
    if height is None:
        height = max(1, have_height * width // have_width)
    return resize(frame, width, height)


def source_url(settings: ProducerSettings) -> str:
    """The source that mode and flags mean.

    Raises:
        ConfigError: the mode needs a source, or has no use for a flag that was given.
    """
    mode, source = settings.mode, settings.source
    if mode is None:
        return source or "pattern://bars"
    if mode in ("static", "directory", "video", "prompt-interactive"):
        if source is None:
            what = "a folder" if mode == "directory" else "a file"
            raise ConfigError(f"--mode={mode} needs --source={what}")
        if "://" in source:
            return source
        path = Path(source)
        if mode == "directory":
            if not path.is_dir():
                raise DeviceError(f"--mode=directory needs a folder, and {source} is none")
            return _path_url("directory", path, loop=settings.loop)
        if mode == "video":
            return _path_url("video", path, loop=settings.loop)
        return source
    if mode == "screen":
        region = ",".join(map(str, settings.region)) if settings.region else None
        return _url(f"screen://{settings.monitor_index}", region=region)
    if mode == "webcam":
        size = {"width": settings.width, "height": settings.height}
        return _url(f"camera://{source or settings.camera_index}", **size)
    return source or "pattern://bars"


def _path_url(scheme: str, path: Path, *, loop: bool) -> str:
    return _url(f"{scheme}://{quote(path.absolute().as_posix(), safe='/:')}", loop=loop)


def _url(base: str, **options: object) -> str:
    given = [f"{name}={str(value).lower()}" for name, value in options.items() if value is not None]
    return f"{base}?{'&'.join(given)}" if given else base
