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

import numpy as np

from dreamrelay.codec import Frame, encode_bytes, resize
from dreamrelay.config import ProducerSettings
from dreamrelay.errors import ConfigError, DeviceError, DreamRelayError
from dreamrelay.link import Link, Listener, whole
from dreamrelay.media import Captured, Source
from dreamrelay.media.address import VIDEO_SUFFIXES
from dreamrelay.media.pacing import Pacer
from dreamrelay.media.steady import Fitting, SteadySource
from dreamrelay.packet import Codec, Hop, Packet
from dreamrelay.telemetry import RateMeter
from dreamrelay.trust import Trust

logger = logging.getLogger(__name__)

LAST_ACK = 2.0
"""Seconds to wait at the end for acks that are under way."""


@dataclass(slots=True)
class ProducerStatistics:
    """Totals since the start; written by the producer's threads, read by whoever reports."""

    captured: int = 0
    sent: int = 0
    acked: int = 0
    refused: int = 0
    dropped: int = 0
    """Pictures that were never sent: replaced by a newer one, or there was no relay."""
    rate: RateMeter = field(default_factory=RateMeter)
    age_ms: float = 0.0
    """Of the last picture when its ack came: from the camera to the relay and back."""
    connected: bool = False
    on_air: bool = True
    """False while the stream shows another producer's pictures."""
    last_refusal: str = ""


class Producer(Listener):
    """One producer: ``run`` until the source or the duration ends, or ``stop``.

    Args:
        source: a source of one's own; else the settings say which one.
        fitting: what is done to its pictures, before the settings' width and height.
        notice: while it gives none, send a card that says why.
        pacer: a clock of one's own.

    Raises:
        ConfigError, DeviceError: mode and flags mean no source.
    """

    def __init__(
        self,
        settings: ProducerSettings,
        *,
        source: Source | None = None,
        fitting: Fitting | None = None,
        notice: bool = False,
        pacer: Pacer | None = None,
    ) -> None:
        self.settings = settings
        self.statistics = ProducerStatistics()
        self.url = source_url(settings)
        self._source = SteadySource(
            self.url,
            fitting,
            notice=notice,
            wait=settings.wait,
            hear=self._tell_source,
            opener=None if source is None else lambda: source,
        )
        self._pacer = pacer or Pacer(settings.fps)
        self._stopped = threading.Event()
        self._failure: DreamRelayError | None = None
        self._captured_ns: dict[int, int] = {}
        self._opened = threading.Event()
        self._encoded: tuple[Frame, bytes, int, int] | None = None
        self._trouble = ""
        self._link = Link(
            settings.websocket_uri,
            settings.stream,
            "producer",
            self,
            token=settings.token,
            name="producer",
            trust=Trust(settings.tls_fingerprint, settings.tls_ca),
        )
        self._link.complains = True

    @property
    def trouble(self) -> str:
        """Why the source gives no pictures at the moment, or nothing."""
        return self._source.trouble

    def open(self) -> None:
        """Open the source, in the thread that calls ``run``; else that does it.

        Raises:
            ConfigError, DeviceError, MissingExtra: it cannot be opened, and waiting is no use or
                not wanted.
        """
        self._source.open()

    def stop(self) -> None:
        """End ``run``; from any thread, or a signal handler."""
        self._stopped.set()
        self._source.stop()

    def change(self, **parameters: Any) -> None:
        """Change parameters of the stream (``prompt="..."``); from any thread."""
        self._link.patch(parameters, "producer")

    def run(self) -> None:
        """Send until the end of the source or of the duration, or ``stop``.

        Raises:
            ConfigError, DeviceError, MissingExtra: as ``open``; nothing was started. Or a stored
                source failed before it gave a single picture.
            DreamRelayError: the relay will not have us.
        """
        source = self._source
        source.open()
        if self.settings.prompt is not None:
            self.change(prompt=self.settings.prompt)
        self._link.start()
        try:
            self._send_all(source)
            self._await_acks()
        finally:
            self._link.close()
            self._count()
            source.close()
        if self._failure is not None:
            raise self._failure

    def _send_all(self, source: SteadySource) -> None:
        settings = self.settings
        # The clock starts when the relay is there: a minute of pictures shall be a minute of
        # pictures.
        while not self._opened.wait(0.1):
            if self._stopped.is_set():
                return
        pacer = self._pacer
        plays = not source.live and source.fps is not None
        fps = min(settings.fps, source.fps) if plays and source.fps else settings.fps
        pacer.restart(fps)
        reader = _Reader(source, source.fps / fps if plays and source.fps else 0.0)
        if settings.duration is not None:
            source.ends_at = time.monotonic() + settings.duration
        while not self._stopped.is_set() and time.monotonic() < source.ends_at:
            if not self._link.connected:
                # Nobody would see it. The pictures of a folder wait for the relay, too.
                self._stopped.wait(0.02)
                pacer.restart()
                continue
            captured = reader.read()
            if captured is None:
                return
            packet = self._encode(captured, still=not source.live and source.fps is None)
            if packet is not None:
                self._captured_ns[packet.seq] = packet.captured_ns
                self._link.send_picture(packet, "input")
            self._count()
            reader.missed(pacer.tick())
            self._stopped.wait(pacer.delay())

    def _encode(self, captured: Captured, *, still: bool) -> Packet | None:
        """The packet of a picture; None if no coding can hold it, which is named once."""
        settings = self.settings
        codec = Codec[settings.format.upper()]
        known = self._encoded
        # A still picture is encoded once, however often it is sent.
        if not (still and known is not None and np.array_equal(known[0], captured.frame)):
            frame = _shrink(captured.frame, settings.width, settings.height)
            height, width = frame.shape[:2]
            try:
                data = encode_bytes(frame, codec, quality=settings.quality)
            except (OSError, ValueError) as error:
                self._complain(
                    f"a picture of {width}x{height} cannot be sent as {codec.name}"
                    f" ({error}): try --width=1024"
                )
                return None
            known = self._encoded = (captured.frame, data, width, height)
        _, data, width, height = known
        self.statistics.captured += 1
        seq = self.statistics.captured
        packet = Packet(data, codec, width, height, seq, captured.captured_ns)
        return packet.stamped(Hop.ENCODED)

    def _count(self) -> None:
        statistics = self.statistics
        waiting = self._link.waiting
        statistics.sent = self._link.sent
        statistics.dropped = max(0, statistics.captured - statistics.sent - waiting)

    def _tell_source(self, trouble: str) -> None:
        """Have the stream show why there is no picture, or that there is."""
        self._link.tell("status", state="away" if trouble else "live", text=trouble)

    def _complain(self, text: str) -> None:
        """Name what is wrong, once and not for every picture."""
        if text != self._trouble:
            self._trouble = text
            logger.warning("%s", text)

    def _await_acks(self) -> None:
        deadline = time.monotonic() + LAST_ACK
        statistics = self.statistics
        while (
            self._link.connected
            and not self._stopped.is_set()
            and (self._link.waiting or statistics.acked + statistics.refused < self._link.sent)
            and time.monotonic() < deadline
        ):
            self._stopped.wait(0.01)

    # -- from the relay, in the link's thread -----------------------------------------------------

    def opened(self, welcome: Mapping[str, Any]) -> None:
        logger.info("sending to %s", self._link.shown_uri)
        self.statistics.connected = True
        if self.trouble:
            self._tell_source(self.trouble)
        self._opened.set()

    def lost(self, reason: str, retry_in: float) -> None:
        self.statistics.connected = False

    def _notice_air(self, on_air: bool) -> None:
        if self.statistics.on_air and not on_air:
            logger.warning(
                "another producer has the stream %r: it shows these pictures when that one leaves",
                self.settings.stream,
            )
        self.statistics.on_air = on_air

    def refused(self, error: DreamRelayError) -> None:
        self._failure = error
        self._stopped.set()

    def heard(self, kind: str, fields: Mapping[str, Any]) -> None:
        statistics = self.statistics
        if kind == "ack":
            self._count()
            if fields.get("accepted", True):
                statistics.acked += 1
                statistics.rate.tick()
                self._notice_air(fields.get("on_air") is not False)
            else:
                statistics.refused += 1
                statistics.last_refusal = str(fields.get("message", ""))
                self._complain(f"the relay refused a picture: {statistics.last_refusal}")
            taken = self._captured_ns.pop(whole(fields, "seq", 0), None)
            if taken is not None:
                statistics.age_ms = max(0, time.time_ns() - taken) / 1e6  # it may be set back
            if len(self._captured_ns) > 256:  # those that were replaced get no ack
                for seq in list(self._captured_ns)[:128]:
                    del self._captured_ns[seq]
        elif kind == "error":
            logger.warning("the relay says: %s", fields.get("message"))


class _Reader:
    """Read a source at the rate of the producer.

    A stored source with a rate of its own (a video) plays at its own speed: what is too much for
    the producer's rate, or was missed, is skipped.

    Args:
        step: pictures of the source to one that is sent; 0 where it has no rate of its own.
    """

    def __init__(self, source: Source, step: float) -> None:
        self._source = source
        self._step = step
        self._due = 1.0
        self._read = 0
        self._last: Captured | None = None

    def read(self) -> Captured | None:
        """The picture to send now; None at the end."""
        if not self._step:
            return self._source.read()
        while self._read == 0 or self._read < int(self._due + 1e-6):
            captured = self._source.read()
            if captured is None:
                return None
            self._last = captured
            self._read += 1
        return self._last

    def missed(self, ticks: int) -> None:
        """A tick was taken, and so many before it were missed."""
        self._due += self._step * (1 + ticks)


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
    if settings.region is not None and mode != "screen":
        raise ConfigError("--region goes with --mode=screen")
    if mode is None:
        return _guessed(source, loop=settings.loop)
    if mode == "screen":
        if source is not None:
            raise ConfigError("--mode=screen has no --source: try --monitor_index=1 or --region")
        region = ",".join(map(str, settings.region)) if settings.region else None
        return _url(f"screen://{settings.monitor_index}", region=region)
    if mode == "webcam":
        size = {"width": settings.width, "height": settings.height}
        target = quote(source, safe="/:") if source else settings.camera_index
        return _url(f"camera://{target}", **size)
    if mode == "pattern":
        return source if source and "://" in source else f"pattern://{source or 'bars'}"
    if source is None:
        what = "a folder" if mode == "directory" else "a file"
        raise ConfigError(f"--mode={mode} needs --source={what}")
    if "://" in source:
        return source
    path = Path(source)
    if mode == "directory" and not path.is_dir():
        raise DeviceError(f"--mode=directory needs a folder, and {source} is none")
    if mode in ("directory", "video"):
        return _path_url(mode, path, loop=settings.loop)
    return source


def _guessed(source: str | None, *, loop: bool) -> str:
    """The source when no mode says what it is."""
    if source is None or "://" in source:
        return source or "pattern://bars"
    path = Path(source).expanduser()
    if path.is_dir():
        return _path_url("directory", path, loop=loop)
    if path.suffix.lower() in VIDEO_SUFFIXES:
        return _path_url("video", path, loop=loop)
    return source


def _path_url(scheme: str, path: Path, *, loop: bool) -> str:
    return _url(f"{scheme}://{quote(path.absolute().as_posix(), safe='/:')}", loop=loop)


def _url(base: str, **options: object) -> str:
    given = [f"{name}={str(value).lower()}" for name, value in options.items() if value is not None]
    return f"{base}?{'&'.join(given)}" if given else base
