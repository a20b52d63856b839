"""The worker: frames in from a relay (or a local source), through an engine, results out.

Three threads with mailboxes between them, so that the engine never waits for a codec::

    link or source -> Batch[Packet] -> intake: decode, resize
                   -> Batch[Job]    -> engine: patches between two frames, then infer
                   -> Batch[Done]   -> outlet: sinks, encode, send

Of live frames the newest wins at each mailbox; requests (a picture for one peer alone) are all
kept. One credit goes back to the relay for each packet that was taken up, so one more is on its way
while one is decoded, and no more.

While nothing comes in and somebody looks, the engine's thread paints from the prompt alone
(:mod:`dreaming`), between two looks into its mailbox: so a frame that comes goes before it.
"""

import logging
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from typing import Any

from dreamrelay.codec import Frame, decode, resize
from dreamrelay.config import WorkerSettings, spout_url
from dreamrelay.dreaming import Dreaming
from dreamrelay.engine_flags import engine_settings
from dreamrelay.engines import Engine, Progress, Result, open_engine
from dreamrelay.errors import (
    ClosedError,
    ConfigError,
    DreamRelayError,
    EngineError,
    MissingExtra,
    ParameterError,
    ProtocolError,
)
from dreamrelay.human_edit import HumanEdit
from dreamrelay.jobs import (
    Asked,
    Batch,
    Done,
    Intake,
    Job,
    Patch,
    Reference,
)
from dreamrelay.link import Link, Listener, whole
from dreamrelay.local_source import LocalSource
from dreamrelay.mailbox import Mailbox
from dreamrelay.media import Captured, open_sink
from dreamrelay.osc import Standing
from dreamrelay.packet import Hop, Packet, Track
from dreamrelay.preprocess import check_matting, open_matting
from dreamrelay.projection import Projection
from dreamrelay.protocol.native import encode_text
from dreamrelay.returning import Returning
from dreamrelay.stage import Outlet, Stage
from dreamrelay.steering import Steering
from dreamrelay.telemetry import RateMeter
from dreamrelay.trust import Trust
from dreamrelay.viewer import Viewer, viewer_available

logger = logging.getLogger(__name__)

CREDIT = 2
"""One packet in the engine's hands and one on its way."""

STOP_SECONDS = 10.0
"""A frame under way (or a part of a model) has so long to end once we are to stop."""

LAST_WORDS_SECONDS = 3.0
"""A worker that cannot go on waits so long for a relay to tell it to."""

LOOK_SECONDS = 0.25

FRAME_ERRORS = (EngineError, ParameterError, MissingExtra, ConfigError)
"""What may be wrong with one picture; the latter two where its mask cannot be made here."""


@dataclass(slots=True)
class WorkerStatistics:
    """Totals since the start; written by the worker's threads, read by whoever reports."""

    results: RateMeter = field(default_factory=RateMeter)
    broken: int = 0
    failed: int = 0
    requests: int = 0
    infer_seconds: float = 0.0
    age_ms: float = 0.0


class Worker(Listener):
    """One worker: ``run`` until ``stop``.

    Args:
        engine: an engine of one's own; else the settings say which one.

    Raises:
        ConfigError, MissingExtra: the settings cannot work here. Nothing was started.
    """

    def __init__(self, settings: WorkerSettings, *, engine: Engine | None = None) -> None:
        self.settings = settings
        self.statistics = WorkerStatistics()
        self.state: str = "loading"
        self.link: Link | None = None
        self.viewer: Viewer | None = None
        self._projection: Projection | None = None
        self._source: LocalSource | None = None
        self._sinks: list[Outlet] = []
        self._stateful = False
        self._counted: tuple[Mapping[str, float], float] = ({}, 0.0)
        self._stopped = threading.Event()
        self._failure: BaseException | None = None
        self._packets: Mailbox[Batch[Intake]] = Mailbox(Batch.merge_packets)
        self._jobs: Mailbox[Batch[Job]] = Mailbox(Batch.merge)
        self._results: Mailbox[Batch[Done]] = Mailbox(Batch.merge)
        self._edit: HumanEdit | None = None
        self._announced: tuple[int, Asked] | None = None
        self._control_watched = False
        self._arrived = self._begun = 0
        """Live frames that came, in all and when the engine last took one: is there a newer one?"""
        self._said: tuple[str, str, float | None] = ("loading", "", None)
        self._trouble = self._absent = self._noticed = ""
        self._loaded = threading.Event()
        self._open_things = ExitStack()
        """What is to be closed at the end: each of them, whatever another one says."""
        try:
            if engine is not None:
                self._open_things.callback(engine.close)
            self._open()
            # The engine comes last: its packages take seconds, and a port that is taken is told
            # at once.
            self.engine = engine or open_engine(engine_settings(settings))
            if engine is None:
                self._open_things.callback(self.engine.close)
            if settings.matting != "off":
                matting = check_matting(settings.matting)
                self.engine = self._edit = HumanEdit(self.engine, lambda: open_matting(matting))
            self._steering = Steering(
                self.engine,
                self.link,
                wake=self._wake_engine,
                complain=self._complain,
                trouble=lambda: self._trouble,
            )
            self._stage.introduce(self.engine.schema())
            if self.link is not None:
                self.link.hello = {"name": "worker", "credit": 0, "engine": self.engine.name}
        except BaseException:  # Ctrl-C too: what is open already must not stay open
            self._open_things.close()
            raise

    def _open(self) -> None:
        """Open everything that may be refused, before anything runs."""
        settings = self.settings
        local = settings.source or (spout_url(settings.spout_in) if settings.spout_in else None)
        if local is not None:
            if settings.websocket_port is not None:
                raise ConfigError("choose one: --websocket_port (a relay) or a local source")
            self._source = LocalSource(local, self._hear_source)
            self._open_things.callback(self._source.close)
        else:
            self.link = Link(
                settings.websocket_uri,
                settings.stream,
                "worker",
                self,
                token=settings.token,
                name="worker",
                trust=Trust(settings.tls_fingerprint, settings.tls_ca),
            )
            self._open_things.callback(self.link.close)
        sinks = [*settings.sink, *([spout_url(settings.spout_out)] if settings.spout_out else [])]
        for url in sinks:
            sink = open_sink(url)
            if self._source is not None and not self._source.live:
                sink.keep_every()
            outlet = Outlet(url, sink)
            self._open_things.callback(outlet.close)
            self._sinks.append(outlet)
        self._stage = Stage(
            settings,
            keeps_all=self._source is not None and not self._source.live,
            change=self._on_osc,
            turned=self._on_word,
            values=lambda: self.engine.parameters,
            standing=self._standing,
        )
        self._open_things.callback(self._stage.close)
        self._dreaming = Dreaming(
            "off" if self.link is None else settings.text_to_picture,
            in_use=lambda: self.started,
            shown=lambda: bool(self._sinks) or (self.viewer is not None and self.viewer.alive),
        )
        if settings.viewer != "off":
            problem = viewer_available()
            if problem is None:
                self.viewer = Viewer(screen=settings.viewer_screen)
                self._projection = Projection(
                    self.viewer,
                    self._stage.presets,
                    change=lambda values: self._change(values, "viewer"),
                    values=self._known_values,
                    wake=self._wake_outlet,
                )
                self._open_things.callback(self._projection.close)
            elif settings.viewer == "on":
                raise ConfigError(f"--viewer=on: {problem}")
        self._returning = Returning(self.link, self._sinks, self._projection, settings.quality)

    @property
    def osc_port(self) -> int | None:
        """Where OSC is listened to, if at all."""
        return self._stage.osc_port

    @property
    def started(self) -> bool:
        """Does it generate, or wait for OSC to say so?"""
        return self._stage.gate.open

    # -- life -------------------------------------------------------------------------------------

    def run(self) -> None:
        """Work until ``stop``.

        Raises:
            EngineError: the model cannot be loaded.
            DreamRelayError: the relay will not have us, or the local source failed for good.
        """
        if self._stopped.is_set():
            self._open_things.close()
            return
        targets = (self._take_up, self._compute, self._hand_out)
        threads = [
            threading.Thread(target=self._guard, args=(target,), name=target.__name__, daemon=True)
            for target in targets
        ]
        if self._source is not None:
            threads.append(
                threading.Thread(
                    target=self._guard, args=(self._read_source,), name="source", daemon=True
                )
            )
        try:
            if self.viewer is not None:
                self.viewer.start()
                if self._absent:  # since before there was a window
                    self._note_source()
            self._stage.start()
            if self.link is not None:
                self.link.start()
            for thread in threads:
                thread.start()
            while not self._stopped.wait(LOOK_SECONDS):
                self._look_around()
        finally:
            self._stopped.set()
            for mailbox in (self._packets, self._jobs, self._results, self._steering):
                mailbox.close()
            if self._source is not None:
                self._source.stop()
            deadline = time.monotonic() + STOP_SECONDS
            for thread in threads:
                if thread.ident is not None:
                    thread.join(max(0.0, deadline - time.monotonic()))
            self._open_things.close()
        if self._failure is not None:
            raise self._failure

    def stop(self) -> None:
        """End ``run``; from any thread, or a signal handler."""
        self._stopped.set()

    def _guard(self, target: Callable[[], None]) -> None:
        """Run one thread; what ends it ends the worker."""
        try:
            target()
        except ClosedError:
            return  # a mailbox was closed: we are stopping
        except BaseException as error:  # noqa: BLE001 - carried to run(), which raises it
            known = isinstance(error, DreamRelayError)
            self._last_words(str(error) if known else f"{type(error).__name__}: {error}")
            self._failure = self._failure or error
            self._stopped.set()

    def _last_words(self, text: str) -> None:
        """Have the stream show why we end, if there is a relay or one is found soon."""
        deadline = time.monotonic() + LAST_WORDS_SECONDS
        while self.link is not None and not self.link.connected and time.monotonic() < deadline:
            if self._stopped.wait(0.02):
                return
        self._say("error", text)

    def _look_around(self) -> None:
        """Four times a second: what was done in the window, and how we are."""
        counted, when = self._counted
        if (self._stateful, self._noticed) != (self.engine.stateful, self.engine.notice):
            self._tell_status()  # the number of steps was changed, say
        if self.link is not None and time.monotonic() - when >= 1.0:
            self._counted = self.engine.counters(), time.monotonic()
            if self._counted[0] != counted:
                self._tell_status()
        closed = self._projection is not None and self._projection.look()
        if closed and self.settings.websocket_port is not None:
            # The seed with its own server ends when its window is closed; a worker of a relay goes
            # on for everybody else. A window that died was not closed.
            self._stopped.set()

    def _say(self, state: str, text: str = "", fraction: float | None = None) -> None:
        gate = self._stage.gate
        if state == "live" and not gate.open:
            state, text = "paused", text or gate.reason
        self.state = state
        self._said = (state, text, fraction)
        self._tell_status()
        if self.viewer is not None and text:
            self.viewer.status(text)

    def _tell_status(self) -> None:
        if self.link is not None:
            state, text, fraction = self._said
            fps, counters = round(self.statistics.results.rate, 1), self.engine.counters()
            self._stateful, self._noticed = self.engine.stateful, self.engine.notice
            self.link.tell(
                "status",
                state=state,
                text=text or self._noticed,
                fraction=fraction,
                fps=fps,
                counters=counters,
                stateful=self._stateful,
            )

    def _complain(self, text: str) -> None:
        """Have the stream show what is wrong while we go on; once, and "" when it is over."""
        if text != self._trouble:
            self._trouble = text
            if text:
                logger.warning("%s", text)
            self._say("live", text)

    # -- from the relay, in the link's thread -----------------------------------------------------

    def opened(self, welcome: Mapping[str, Any]) -> None:
        logger.info("working for %s", self.link.shown_uri if self.link else "")
        self._dreaming.relay_found()
        self._say(*self._said)

    def lost(self, reason: str, retry_in: float) -> None:
        self._dreaming.relay_lost()
        logger.warning("no relay: %s; next try in %.1f s", reason, retry_in)

    def refused(self, error: DreamRelayError) -> None:
        self._failure = error
        self._stopped.set()

    def heard(self, kind: str, fields: Mapping[str, Any]) -> None:
        if kind == "parameters" and self._loaded.is_set():
            values = fields.get("values")
            if isinstance(values, dict):
                self._steering.put(Patch(values, whole(fields, "revision", 0)))
        elif kind == "request":
            patch = fields.get("patch")
            most = whole(fields, "max_bytes", 0)
            asked = Asked(patch if isinstance(patch, dict) else {}, most if most > 0 else None)
            self._announced = (whole(fields, "seq", 0), asked)
        elif kind == "audience":
            self._dreaming.audience(whole(fields, "watching", 0), fields.get("idle") is True)
            self._control_watched = whole(fields, "control", 0) > 0
            self._wake_engine()
        elif kind == "reference":
            image = fields.get("image")
            self._steering.refer(Reference(image if isinstance(image, str) else None))
        elif kind == "status":
            self._hear_source(str(fields.get("input_text") or ""))
        elif kind == "error":
            logger.warning("the relay says: %s", fields.get("message"))
            self._stage.tell_error(str(fields.get("message")))

    def _hear_source(self, trouble: str) -> None:
        """Why nothing comes in, as its producer or our own source says: window and OSC show it."""
        if trouble != self._absent:
            self._absent = trouble
            self._note_source()

    def _note_source(self) -> None:
        if self.viewer is not None:
            self.viewer.note(f"no picture: {self._absent}" if self._absent else "")

    def received(self, packet: Packet, track: Track) -> None:
        session = self.link.session if self.link else 0
        announced, self._announced = self._announced, None
        asked = announced[1] if announced and announced[0] == packet.seq else None
        intake = Intake(packet.stamped(Hop.RECEIVED), session, asked)
        newest, requests = (None, (intake,)) if asked else (intake, ())
        batch = Batch(newest, requests, packets=1, session=session)
        try:
            self._packets.put(batch)
        except ClosedError:
            return  # stopping

    def _wake_engine(self) -> None:
        try:
            self._jobs.put(Batch())
        except ClosedError:
            return  # stopping

    def _wake_outlet(self) -> None:
        try:
            self._results.put(Batch())
        except ClosedError:
            return  # stopping

    # -- from OSC, in its threads, and from the window ---------------------------------------------

    def _standing(self) -> Standing:
        statistics = self.statistics
        rate, age = statistics.results.rate, statistics.age_ms
        return Standing(self.state, self._said[1], rate, age, self._trouble or self._absent)

    def _known_values(self) -> dict[str, Any]:
        """The parameters that the engine has, with their values; none before it is loaded."""
        if not self._loaded.is_set():
            return {}
        values = self.engine.parameters
        return {n: values[n] for n in self.engine.schema()["properties"] if n in values}

    def _on_osc(self, patch: dict[str, Any]) -> None:
        self._change(patch, "osc")

    def _change(self, patch: dict[str, Any], origin: str) -> None:
        if self.link is not None:
            # The relay checks it like any other patch and tells everybody.
            self.link.patch(patch, origin)
        if self.link is None or not self.link.connected or not self.started:
            # Stopped, it holds at once: the next message may be a trigger.
            self._steering.put(Patch(patch))

    def _on_word(self, turned: bool) -> None:
        if turned and self._loaded.is_set():
            self._say("live", self._trouble)
        self._wake_engine()
        self._wake_outlet()

    # -- intake -----------------------------------------------------------------------------------

    def _await_engine(self) -> None:
        while not self._loaded.wait(0.2):
            if self._stopped.is_set():
                raise ClosedError("stopped before the engine was loaded")

    def _take_up(self) -> None:
        self._await_engine()
        while True:
            batch = self._packets.take()
            if batch is None:
                continue
            if self.link is not None and batch.packets:
                self.link.send(encode_text("credit", count=batch.packets), batch.session)
            for intake in batch.items():
                job = self._decode(intake)
                if job is not None and job.asked is None:
                    job = self._masked(job)
                if job is not None:
                    self._arrived += not job.asked
                    self._jobs.put(Batch(requests=(job,)) if job.asked else Batch(job))

    def _decode(self, intake: Intake) -> Job | None:
        packet = intake.packet
        try:
            frame = decode(packet.data)
        except ProtocolError as error:
            self.statistics.broken += 1
            logger.warning("picture %d cannot be decoded: %s", packet.seq, error)
            if intake.asked is not None:
                self._returning.failed(packet.seq, intake.session, str(error))
            return None
        job = Job(
            self._fitted(frame),
            packet.seq,
            packet.captured_ns,
            intake.session,
            packet.stamps,
            intake.asked,
        )
        return job.but(Hop.DECODED)

    def _masked(self, job: Job) -> Job | None:
        """A job with its mask; None where it has to have one and that cannot be made."""
        try:
            mask = self._edit.mask(job.frame) if self._edit is not None else None
        except DreamRelayError as error:
            self.statistics.failed += 1
            self._complain(str(error))
            return None
        return job if mask is None else replace(job, mask=mask)

    def _fitted(self, frame: Frame) -> Frame:
        """The frame in the size that the engine takes."""
        return resize(frame, self.engine.width, self.engine.height, self.settings.fit)

    def _read_source(self) -> None:
        """Feed the local source's frames in; at its end is ours, once its last pictures are out."""
        assert self._source is not None
        self._await_engine()
        self._source.feed(
            self._take_frame,
            taken=lambda: self._await_empty(self._jobs),
            stopped=self._stopped,
            may_read=self._stage.gate.may_read,
            renew=self._stage.renew_source,
        )
        self._await_empty(self._jobs)
        self._jobs.close()

    def _take_frame(self, captured: Captured) -> None:
        job = self._masked(Job(self._fitted(captured.frame), 0, captured.captured_ns, 0))
        if job is not None:
            self._arrived += 1
            self._jobs.put(Batch(job.but(Hop.DECODED)))

    def _await_empty(self, mailbox: Mailbox[Any]) -> None:
        while mailbox.statistics().waiting and not self._stopped.is_set():
            self._stopped.wait(0.005)

    # -- engine -----------------------------------------------------------------------------------

    def _compute(self) -> None:
        """The engine's thread: load, then one frame after the other."""
        self.engine.load(self._report)
        self.engine.attend(lambda: self._arrived != self._begun, self._show_preview)
        self._introduce()
        self._loaded.set()
        self._say("live", "")
        try:
            while True:
                batch = self._jobs.take(self._dreaming.wait())
                self._steering.apply()
                self._begun = self._arrived
                session = self.link.session if self.link else 0
                for job in self._stage.gate.due(batch.items() if batch else (), session):
                    self._infer(job)
                # What is made already goes out first.
                if not self._results.statistics().waiting and self._dreaming.due():
                    self._paint()
        except ClosedError:
            self._results.close()  # the outlet hands out what lies there, then ends
            raise

    def _report(self, progress: Progress) -> None:
        if self._stopped.is_set():
            raise ClosedError("the worker was stopped")
        state = "warming" if progress.stage == "warming" else "loading"
        logger.info("%s %s", progress.stage, progress.text)
        self._say(state, progress.text, progress.fraction)

    def _introduce(self) -> None:
        """Tell the relay what the loaded engine can do."""
        engine = self.engine
        logger.info(
            "%s is ready: %dx%d on %s",
            engine.model_name,
            engine.width,
            engine.height,
            engine.device_name,
        )
        self._stage.introduce(engine.schema())
        if self.link is None:
            return
        hello = {
            "name": "worker",
            "credit": CREDIT,
            "engine": engine.name,
            "model": engine.model_name,
            "device": engine.device_name,
            "width": engine.width,
            "height": engine.height,
            "schema": engine.schema(),
            "parameters": engine.parameters,
            "reference": engine.imitates,
            "stateful": engine.stateful,
        }
        self._loaded.set()
        self.link.introduce(hello)

    def _show_preview(self, frame: Frame, token: Any) -> None:
        """Show how far a slow picture is; from the engine's thread, while it is at it."""
        # A whole picture is never replaced by a rough one.
        waits = self._results.statistics().waiting
        if isinstance(token, Job) and token.asked is None and not waits:
            job = token.but(Hop.INFERRED)
            self._results.put(Batch(Done(frame, job, self._steering.revision, preview=True)))

    def _infer(self, job: Job) -> None:
        if job.asked is not None and self.link is not None and job.session != self.link.session:
            return  # nobody waits for it any more: the relay has asked another worker, or failed it
        began = time.perf_counter()
        height, width = job.frame.shape[:2]
        if (width, height) != (self.engine.width, self.engine.height):
            # The size is a parameter too, and this frame was on its way when it changed.
            job = replace(job, frame=self._fitted(job.frame), mask=None)
            fitted = self._masked(job) if job.asked is None else job
            if fitted is None:
                return
            job = fitted
        job = job.but(Hop.INFER)
        try:
            if job.asked is not None:
                frame = self.engine.infer_once(job.frame, job.asked.patch)
                result: Result[Job] | None = Result(frame, job)
            elif job.alone:
                result = Result(self.engine.infer_once(job.frame, {}), job)
            else:
                result = self.engine.infer(job.frame, job, job.mask)
        except FRAME_ERRORS as error:
            self.statistics.failed += 1
            if job.asked is not None:
                logger.warning("request %d: %s", job.seq, error)
                self._returning.failed(job.seq, job.session, str(error))
            else:
                self._complain(str(error))
            return
        self.statistics.infer_seconds += time.perf_counter() - began
        if result is None:
            return
        if job.asked is None:
            self._steering.settled()
        if self._source is not None and self._source.keeps_all:
            self._await_empty(self._results)
        token = result.token.but(Hop.INFERRED)
        control = self.engine.control_map() if self._control_watched else None
        done = Done(result.frame, token, self._steering.revision, result.repeated, control)
        self._results.put(Batch(requests=(done,)) if job.asked is not None else Batch(done))

    def _paint(self) -> None:
        """Make one picture from the prompt alone."""
        engine = self.engine
        canvas, patch = self._dreaming.picture(engine.width, engine.height, engine.parameters)
        session = self.link.session if self.link else 0
        job = Job(canvas, 0, time.time_ns(), session).but(Hop.INFER)
        try:
            if self._edit is not None:
                patch["mode"] = "full"  # there is nobody in a dream
            frame = engine.infer_once(job.frame, patch)
        except FRAME_ERRORS as error:
            self.statistics.failed += 1
            self._dreaming.failed()
            self._complain(str(error))
            return
        self._steering.settled()
        self._results.put(Batch(Done(frame, job.but(Hop.INFERRED), self._steering.revision)))

    # -- outlet -----------------------------------------------------------------------------------

    def _hand_out(self) -> None:
        try:
            while True:
                batch = self._results.take()
                self._stage.renew(self._sinks)
                if self._projection is not None:
                    self._projection.renew()
                if batch is None:
                    continue
                for done in batch.items():
                    if done.job.asked is not None:
                        self.statistics.requests += 1
                        self._returning.answer(done, done.job.asked)
                    else:
                        self._publish(done)
        finally:
            self._stopped.set()  # also at the end of a local source: all of it is out

    def _publish(self, done: Done) -> None:
        statistics = self.statistics
        if not done.preview:
            statistics.results.tick()
        statistics.age_ms = self._returning.publish(done, self._info)

    def _info(self) -> dict[str, object]:
        """What the window says of a picture."""
        prompt = self.engine.parameters.get("prompt", "")
        info: dict[str, object] = {"prompt": prompt, "fps": self.statistics.results.rate}
        return {**info, "no picture": self._absent} if self._absent else info
