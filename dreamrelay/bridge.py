"""The bridge: a local source to the relay, and the relay's results to a local sink; either or
both.

It goes on while the relay is restarted, while the sender or the camera is away, and while the sink
fails; its one status line says which of them it waits for.
"""

import logging
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from dreamrelay.codec import decode
from dreamrelay.config import BridgeSettings, ProducerSettings, spout_url
from dreamrelay.errors import ClosedError, ConfigError, DeviceError, DreamRelayError, ProtocolError
from dreamrelay.link import Link, Listener
from dreamrelay.mailbox import Mailbox
from dreamrelay.media import Sink, keep_apart, open_sink
from dreamrelay.media.steady import Fitting
from dreamrelay.packet import Packet, Track
from dreamrelay.producer import Producer
from dreamrelay.shown import Shown
from dreamrelay.telemetry import RateMeter
from dreamrelay.trust import Trust

logger = logging.getLogger(__name__)


@dataclass(slots=True)
class BridgeStatistics:
    """Totals since the start, of the way out."""

    written: RateMeter = field(default_factory=RateMeter)
    broken: int = 0


class _Results(Listener):
    """The relay's results, the newest of them, with a credit for each that was taken."""

    def __init__(self, fail: Callable[[BaseException], None]) -> None:
        self.packets: Mailbox[tuple[Packet, int]] = Mailbox()
        """Each with when it was here, UNIX time in ns."""
        self.worker_trouble = ""
        """Why no result comes, as the relay says."""
        self._fail = fail

    def received(self, packet: Packet, track: Track) -> None:
        try:
            self.packets.put((packet, time.time_ns()))
        except ClosedError:
            return  # stopping

    def refused(self, error: DreamRelayError) -> None:
        self._fail(error)

    def heard(self, kind: str, fields: Mapping[str, object]) -> None:
        if kind == "error":
            logger.warning("the relay says: %s", fields.get("message"))
        elif kind == "status":
            state, text = fields.get("state"), str(fields.get("text") or "")
            trouble = "no worker" if fields.get("workers") == 0 else f"the worker is {state}"
            because = f": {text}" if text else ""
            self.worker_trouble = "" if state == "live" else f"{trouble}{because}"


class Bridge:
    """One bridge: ``run`` until ``stop``, or until the source ends.

    Raises:
        ConfigError, DeviceError, MissingExtra: nothing to do, or the sink cannot be opened.
    """

    def __init__(self, settings: BridgeSettings) -> None:
        if settings.source and settings.spout_in:
            raise ConfigError("choose one: --from or --spout-in")
        if settings.sink and settings.spout_out:
            raise ConfigError("choose one: --to or --spout-out")
        source = settings.source or (settings.spout_in and spout_url(settings.spout_in))
        sink = settings.sink or (settings.spout_out and spout_url(settings.spout_out))
        if not source and not sink:
            raise ConfigError("give --from=URL, --to=URL or both (--spout-in, --spout-out)")
        if not source and (settings.width or settings.height):
            raise ConfigError(
                "--width and --height are of what is sent (--from, --spout-in); of results they are"
                " --out_width and --out_height"
            )
        if not sink and (settings.out_width or settings.out_height):
            raise ConfigError(
                "--out_width and --out_height are of results: they need --to or --spout-out"
            )
        if source and sink:
            keep_apart(source, [sink])
        self.statistics = BridgeStatistics()
        self.producer: Producer | None = None
        flip_in, flip_out = (settings.flip in (way, "both") for way in ("in", "out"))
        self._fit_result = Fitting(
            settings.out_width, settings.out_height, settings.fit, flip=flip_out
        )
        if source:
            self.producer = Producer(
                ProducerSettings(
                    source=source,
                    websocket_uri=settings.websocket_uri,
                    stream=settings.stream,
                    token=settings.token,
                    tls_fingerprint=settings.tls_fingerprint,
                    tls_ca=settings.tls_ca,
                    fps=settings.fps,
                    quality=settings.quality,
                    duration=None,
                    wait=settings.wait,
                ),
                fitting=Fitting(settings.width, settings.height, settings.fit, flip=flip_in),
                notice=settings.notice,
            )
        self._sink: Sink | None = open_sink(sink) if sink else None
        self._failure: BaseException | None = None
        self._results = _Results(self._fail)
        self._link = Link(
            settings.websocket_uri,
            settings.stream,
            "viewer",
            self._results,
            token=settings.token,
            name="bridge",
            trust=Trust(settings.tls_fingerprint, settings.tls_ca),
        )
        self._link.complains = self.producer is None  # else that one does
        self._shown = Shown(self._link, "bridge")
        self._stopped = threading.Event()
        self._sink_trouble = ""

    def report(self) -> str:
        """One line: what went in and out, and what is waited for."""
        words = []
        if self.producer is not None:
            sent = self.producer.statistics
            words.append(f"in {sent.acked} at {sent.rate.rate:.1f} fps")
            if not sent.on_air:
                words.append("not on air")
        words.append(
            f"out {self.statistics.written.count} at {self.statistics.written.rate:.1f} fps"
        )
        connected = self.producer.statistics.connected if self.producer else self._link.connected
        if not connected:
            words.append("no relay")
        elif self._sink is not None and self._results.worker_trouble:
            words.append(self._results.worker_trouble)
        trouble = self.producer.trouble if self.producer is not None else ""
        words.extend(text for text in (trouble, self._sink_trouble) if text)
        return ", ".join(words)

    def stop(self) -> None:
        """End ``run``; from any thread, or a signal handler."""
        self._stopped.set()
        if self.producer is not None:
            self.producer.stop()

    def _fail(self, error: BaseException) -> None:
        self._failure = self._failure or error
        self.stop()

    def run(self) -> None:
        """Bridge until ``stop``, or until a stored source ends.

        Raises:
            DreamRelayError: the relay will not have us, or the source failed for good.
        """
        writer = threading.Thread(target=self._write, name="sink", daemon=True)
        try:
            if self.producer is not None:
                self.producer.open()
            if self._sink is not None:
                self._link.start()
                writer.start()
            if self.producer is not None:
                self.producer.run()
            else:
                self._stopped.wait()
        finally:
            self._stopped.set()
            self._link.close()
            self._results.packets.close()
            if writer.ident is not None:
                writer.join(5)
            if self._sink is not None:
                self._sink.close()
        if self._failure is not None:
            raise self._failure

    def _write(self) -> None:
        try:
            self._write_all()
        except ClosedError:
            return  # the mailbox was closed: we are stopping
        except BaseException as error:  # noqa: BLE001 - carried to run(), which raises it
            self._fail(error)

    def _write_all(self) -> None:
        assert self._sink is not None
        while not self._stopped.is_set():
            came = self._results.packets.take(0.5)
            if came is None:
                continue
            packet, arrived_ns = came
            self._link.tell("credit", count=1)
            try:
                self._sink.write(self._fit_result(decode(packet.data)))
                self.statistics.written.tick()
                self._shown.add(packet, arrived_ns, time.time_ns())
                self._sink_trouble = ""
            except ProtocolError as error:
                self.statistics.broken += 1
                logger.warning("result %d cannot be decoded: %s", packet.seq, error)
            except DeviceError as error:
                if str(error) != self._sink_trouble:  # once, not for every picture
                    logger.warning("%s", error)
                self._sink_trouble = str(error)
