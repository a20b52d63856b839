"""One stream at a worker: its way in to the engine, its parameters, its way out.

Two threads with mailboxes before and behind them, so that the engine never waits for a codec::

    link or source -> Batch[Packet] -> intake: decode, resize -> Batch[Job] -> the engine's thread
    the engine's thread -> Batch[Done] -> outlet: sinks, encode, send

Of live frames the newest wins at each mailbox; requests (a picture for one peer alone) are all
kept. One credit goes back to the relay for each packet that was taken up, so one more is on its way
while one is decoded, and no more.

A worker has one engine's thread for all its lanes. Each lane has an engine of its own to ask, over
the same model (:meth:`Engine.beside`), and a link of its own; what befalls one befalls no other.
"""

import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from dreamrelay.codec import Frame, decode, resize
from dreamrelay.config import WorkerSettings
from dreamrelay.dreaming import Dreaming
from dreamrelay.engines import Engine
from dreamrelay.engines.ports import Outcome, Result, Turn
from dreamrelay.errors import ClosedError, DreamRelayError, ParameterError, ProtocolError
from dreamrelay.human_edit import HumanEdit
from dreamrelay.jobs import Asked, Batch, Done, Intake, Job, Patch, Reference
from dreamrelay.link import Link, Listener, whole
from dreamrelay.mailbox import Mailbox
from dreamrelay.media import Captured
from dreamrelay.osc import Standing, Steered, Word
from dreamrelay.packet import MOST_REVISION, Hop, Packet, Track
from dreamrelay.projection import Projection
from dreamrelay.protocol.native import encode_text
from dreamrelay.returning import Returning
from dreamrelay.stage import Gate, Outlet, Stage
from dreamrelay.steering import Steering
from dreamrelay.telemetry import RateMeter
from dreamrelay.trust import Trust

logger = logging.getLogger(__name__)

CREDIT = 2
"""One packet in the engine's hands and one on its way."""


@dataclass(slots=True)
class WorkerStatistics:
    """Totals since the start; written by the worker's threads, read by whoever reports."""

    results: RateMeter = field(default_factory=RateMeter)
    ready: int = 0
    """Frames and requests that were decoded."""
    broken: int = 0
    failed: int = 0
    requests: int = 0
    infer_seconds: float = 0.0
    age_ms: float = 0.0


@dataclass(frozen=True, slots=True)
class Task:
    """A job of a lane that is due.

    Attributes:
        patch: what it is made under if it is made alone.
        revision: of the parameters that it was begun under; None: they hold until it is finished.
    """

    lane: "Lane"
    job: Job
    patch: Mapping[str, Any] | None = None
    dream: bool = False
    revision: int | None = None


class Lane(Listener):
    """One stream at a worker.

    Args:
        settings: of the worker.
        stream: its name at the relay; None: frames come from a source of the worker's.
        engine: the worker's, not loaded yet; see :meth:`begin`.
        wake: has the engine's thread look at what waits here.
        stopped: set when the worker ends.
        over: is told when nothing comes of this lane any more; why, if that is an error.
        stage, sinks, projection: of the lane that people at the worker see and steer.

    Raises:
        ConfigError: the relay's address cannot be one.
    """

    def __init__(
        self,
        settings: WorkerSettings,
        stream: str | None,
        *,
        wake: Callable[[], None],
        stopped: threading.Event,
        over: Callable[["Lane", DreamRelayError | None], None],
        stage: Stage | None = None,
        sinks: Sequence[Outlet] = (),
        projection: Projection | None = None,
    ) -> None:
        self.stream = stream
        self.statistics = WorkerStatistics()
        self.state = "loading"
        self.keeps_all = False
        """Every picture counts: the engine waits until the one before is out."""
        self.over = False
        self.all_out = threading.Event()
        """Set when nothing more is handed out: neither to the window, nor to a sink."""
        self.replaced_by = ""
        """The model of the worker that has taken over, when we were told to leave."""
        self._settings = settings
        self._wake = wake
        self._stopped = stopped
        self._tell_over = over
        self._stage = stage
        self._gate = stage.gate if stage is not None else Gate(started=settings.start != "off")
        self._sinks = sinks
        self._projection = projection
        self._packets: Mailbox[Batch[Intake]] = Mailbox(Batch.merge_packets)
        self._jobs: Mailbox[Batch[Job]] = Mailbox(Batch.merge)
        self._results: Mailbox[Batch[Done]] = Mailbox(Batch.merge)
        self._held: Batch[Job] = Batch()
        self._due: deque[Job] = deque()
        self._request_was_last = self._frame_in_call = False
        self._announced: tuple[int, Asked] | None = None
        self._control_watched = False
        self._arrived = self._begun = 0
        """Live frames that came, in all and when the engine last took one: is there a newer one?"""
        self._said: tuple[str, str, float | None] = ("loading", "", None)
        self._trouble = self._sinks_said = ""
        self.absent = self._no_relay = ""
        """Why no frame comes in, and why there is no relay."""
        self._stateful = False
        self._noticed = ""
        self._told_about: Mapping[str, Any] = {}
        self._before_us: Mapping[str, Any] = {}
        """The stream's values in force, as they were told last while we loaded."""
        self._counted: tuple[Mapping[str, float], float] = ({}, 0.0)
        self._loaded = threading.Event()
        self.link: Link | None = None
        if stream is not None:
            trust = Trust(settings.tls_fingerprint, settings.tls_ca)
            uri, token = settings.websocket_uri, settings.token
            self.link = Link(uri, stream, "worker", self, token=token, name="worker", trust=trust)
            self.link.complains = True
        self.dreaming = Dreaming(
            "off" if self.link is None else settings.text_to_picture,
            in_use=lambda: self._gate.open,
            shown=lambda: bool(sinks) or (projection is not None and projection.viewer.alive),
        )
        self._returning = Returning(self.link, sinks, projection, settings.quality)

    def prepare(self, engine: Engine) -> None:
        """Be ready to begin: ``engine`` will compute, which is not loaded yet."""
        self.engine = engine
        self._edit = engine if isinstance(engine, HumanEdit) else None
        self._steering = Steering(
            engine,
            self.link,
            wake=self._wake,
            complain=self._complain,
            trouble=lambda: self._trouble,
        )
        if self.link is not None:
            self.link.hello = {"name": "worker", "credit": 0, "engine": engine.name}

    # -- life -------------------------------------------------------------------------------------

    @property
    def targets(self) -> tuple[Callable[[], None], ...]:
        """What runs in threads of its own."""
        return self._take_up, self._hand_out

    def start(self) -> None:
        if self.link is not None:
            self.link.start()

    def end(self) -> None:
        """Have the threads end, once what is made is out; from any thread."""
        for mailbox in (self._packets, self._jobs, self._results, self._steering):
            mailbox.close()

    def close(self) -> None:
        if self.link is not None:
            self.link.close()

    def begin(self, engine: Engine) -> None:
        """Take up work with a loaded engine; in its thread."""
        self.engine = self._steering.engine = engine
        self._edit = engine if isinstance(engine, HumanEdit) else None
        engine.attend(lambda: self._arrived != self._begun, self._show_preview)
        if self._settings.replace:
            # Before the hello: from then on those before us are given nothing, and viewers wait.
            self._steering.take_over(self._before_us)
        self._introduce()
        self._loaded.set()
        self.say("live", "")

    def _introduce(self) -> None:
        """Tell the relay what the loaded engine can do."""
        engine = self.engine
        if self._stage is not None:
            self._stage.introduce(engine.schema())
        if self.link is None:
            return
        hello = {
            "name": "worker",
            "credit": CREDIT,
            **self._about(),
            "schema": engine.schema(),
            "parameters": engine.parameters,
            "reference": engine.imitates,
            "stateful": engine.stateful,
            "replace": self._settings.replace,
        }
        self._loaded.set()
        self.link.introduce(hello)

    def _about(self) -> dict[str, Any]:
        """What is at work, for people: it may be another model than a moment ago."""
        engine = self.engine
        return {
            "engine": engine.name,
            "model": engine.model_name,
            "licence": asdict(engine.licence),
            "device": engine.device_name,
            "width": engine.width,
            "height": engine.height,
        }

    def look(self) -> None:
        """Four times a second: how we are."""
        if not self._loaded.is_set():
            return
        counted, when = self._counted
        engine = self.engine
        now = engine.stateful, engine.notice, self._about()
        if now != (self._stateful, self._noticed, self._told_about):
            self._tell_status()  # the number of steps was changed, say
        if self.link is not None and time.monotonic() - when >= 1.0:
            self._counted = self.engine.counters(), time.monotonic()
            self._returning.tell_seen()
            if self._counted[0] != counted:
                self._tell_status()

    def say(self, state: str, text: str = "", fraction: float | None = None) -> None:
        """Tell everybody how we are."""
        if state == "live" and not self._gate.open:
            state, text = "paused", text or self._gate.reason
        self.state = state
        self._said = (state, text, fraction)
        self._tell_status()
        self._explain()

    def steered(self) -> Steered:
        """What OSC does at a stream that has no stage."""

        def act(word: Word) -> None:
            if self._gate.act(word):
                self.turned()
            self._wake()

        return Steered(
            lambda values: None if self.over else self.change(values, "osc"),
            act,
            lambda: self.engine.parameters,
            lambda: self.standing,
        )

    def turned(self) -> None:
        """The gate was opened or shut."""
        if self._loaded.is_set():
            self.say("live", self._wrong)

    def _tell_status(self) -> None:
        if self.link is not None:
            state, text, fraction = self._said
            fps, counters = round(self.statistics.results.rate, 1), self.engine.counters()
            self._stateful, self._noticed = self.engine.stateful, self.engine.notice
            self._told_about = self._about() if self._loaded.is_set() else {}
            self.link.tell(
                "status",
                state=state,
                text=text or self._noticed,
                fraction=fraction,
                fps=fps,
                counters=counters,
                stateful=self._stateful,
                about=self._told_about,
            )

    def _complain(self, text: str) -> None:
        """Have the stream show what is wrong while we go on; once, and "" when it is over."""
        if text != self._trouble:
            self._trouble = text
            if text:
                logger.warning("%s", text)
            self.say("live", self._wrong)

    @property
    def _wrong(self) -> str:
        """What is wrong while we go on: with a frame, else with a sink (a disk that is full)."""
        return self._trouble or self._sinks_said

    @property
    def standing(self) -> Standing:
        """How we are, for OSC."""
        statistics = self.statistics
        rate, age = statistics.results.rate, statistics.age_ms
        trouble, latency = self._wrong or self.absent, self._returning.latency
        counters = self.engine.counters()
        prompts = int(counters.get("prompts_encoded", 0)), int(counters.get("prompt_cache_hits", 0))
        return Standing(self.state, self._said[1], rate, age, trouble, prompts, latency)

    def known_values(self) -> dict[str, Any]:
        """The parameters that the engine has, with their values; none before it is loaded."""
        if not self._loaded.is_set():
            return {}
        values = self.engine.parameters
        return {n: values[n] for n in self.engine.schema()["properties"] if n in values}

    def change(self, patch: dict[str, Any], origin: str) -> None:
        """Change parameters, for somebody at the worker; from any thread."""
        if self.link is not None:
            # The relay checks it like any other patch and tells everybody.
            self.link.patch(patch, origin)
        if self.link is None or not self.link.connected or not self._gate.open:
            # Stopped, it holds at once: the next message may be a trigger.
            self._steering.put(Patch(patch))

    # -- from the relay, in the link's thread -----------------------------------------------------

    def opened(self, welcome: Mapping[str, Any]) -> None:
        logger.info("working for %s", self.link.shown_uri if self.link else "")
        self._no_relay = ""
        self.dreaming.relay_found()
        self.say(*self._said)

    def lost(self, reason: str, retry_in: float) -> None:
        self.dreaming.relay_lost()
        self._show_stand_in("")  # nobody tells us any more
        self._no_relay = reason
        self._explain()

    def refused(self, error: DreamRelayError) -> None:
        self._tell_over(self, error)

    def heard(self, kind: str, fields: Mapping[str, Any]) -> None:
        if kind == "parameters" and self.link is not None:
            hello = self.link.hello or {}
            if hello.get("replace"):
                # Said once: on a later connection it would send away who came after us.
                self.link.hello = {**hello, "replace": False}
        values = fields.get("values")
        if kind == "parameters" and isinstance(values, dict):
            self._before_us = values
            if self._loaded.is_set():
                # Where several work for a stream there may be values that are another one's.
                own = self.engine.parameters
                known = {name: value for name, value in values.items() if name in own}
                revision = whole(fields, "revision", 0, most=MOST_REVISION)
                self._steering.put(Patch(known, revision))
        elif kind == "request":
            patch = fields.get("patch")
            most = whole(fields, "max_bytes", 0)
            asked = Asked(patch if isinstance(patch, dict) else {}, most if most > 0 else None)
            self._announced = (whole(fields, "seq", 0), asked)
        elif kind == "audience":
            self.dreaming.audience(whole(fields, "watching", 0), fields.get("idle") is True)
            self._control_watched = whole(fields, "control", 0) > 0
            self._wake()
        elif kind == "reference":
            image = fields.get("image")
            self._steering.refer(Reference(image if isinstance(image, str) else None))
        elif kind == "status":
            self.hear_source(str(fields.get("input_text") or ""))
            held = "held" if fields.get("held") is True else ""
            self._show_stand_in(str(fields.get("stand_in") or held))
        elif kind == "latency":
            self._returning.hear(fields)
        elif kind == "retire":
            self.replaced_by = str(fields.get("by") or "another worker")
            self._tell_over(self, None)
        elif kind == "error":
            logger.warning("the relay says: %s", fields.get("message"))
            if self._stage is not None:
                self._stage.tell_error(str(fields.get("message")))

    def hear_source(self, trouble: str) -> None:
        """Why nothing comes in, as its producer or our own source says: window and OSC show it."""
        if trouble != self.absent:
            self.absent = trouble
            self.note_source()

    def note_source(self) -> None:
        """Have the window say it."""
        if self._projection is not None:
            self._projection.viewer.note(f"no picture: {self.absent}" if self.absent else "")
            self._explain()

    def _explain(self) -> None:
        """Have the window say how we are, and what is missing, for as long as it is so."""
        if self._projection is not None:
            missing = {"no picture": self.absent, "no relay": self._no_relay}
            self._projection.explain(*self._said, missing)

    def _show_stand_in(self, word: str) -> None:
        """Have the window say what viewers are shown in place of results, if anything."""
        if self._projection is not None:
            self._projection.viewer.stand_in(word)

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

    def wake_outlet(self) -> None:
        """Have the thread that hands out look after window and sinks."""
        try:
            self._results.put(Batch())
        except ClosedError:
            return  # stopping

    # -- intake -----------------------------------------------------------------------------------

    def await_engine(self) -> None:
        """Return when there is a loaded one.

        Raises:
            ClosedError: the worker ended before.
        """
        while not self._loaded.wait(0.2):
            if self._stopped.is_set() or self.over:
                raise ClosedError("stopped before the engine was loaded")

    def _take_up(self) -> None:
        self.await_engine()
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
                    self.statistics.ready += 1
                    self._wake()

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
        return resize(frame, self.engine.width, self.engine.height, self._settings.fit)

    def take_frame(self, captured: Captured) -> None:
        """Take one of the worker's own source."""
        job = self._masked(Job(self._fitted(captured.frame), 0, captured.captured_ns, 0))
        if job is not None:
            self._arrived += 1
            self._jobs.put(Batch(job.but(Hop.DECODED)))
            self._wake()

    def await_taken(self) -> None:
        """Return when the engine's thread has taken what came in."""
        self._await_empty(self._jobs)

    def _await_empty(self, mailbox: Mailbox[Any]) -> None:
        while mailbox.statistics().waiting and not self._stopped.is_set():
            self._stopped.wait(0.005)

    # -- in the engine's thread -------------------------------------------------------------------

    def due(self, *, first: bool) -> Task | None:
        """What is to be computed next, if anything waits: a request and a frame in turn.

        Args:
            first: of this lane in a call; what comes beside it is whatever waits, but no second
                frame of the stream.
        """
        if self.over:
            return None
        if first:
            self._frame_in_call = False
            self._steering.apply()
        newer = self._jobs.try_take()
        if newer is not None:
            self._held = self._held.merge(newer)
        frames_turn = first and self._request_was_last and self._held.newest is not None
        if not frames_turn and (request := self._next_request()) is not None:
            return request
        if not self._frame_in_call and (job := self._next_frame()) is not None:
            self._request_was_last, self._frame_in_call = False, True
            return Task(self, job, {} if job.alone else None)
        return self._next_request()

    def _next_request(self) -> Task | None:
        """The request that waits longest."""
        requests = self._held.requests
        if not requests:
            return None
        self._held = replace(self._held, requests=requests[1:])
        self._request_was_last = True
        asked = requests[0].asked
        return Task(self, requests[0], {} if asked is None else asked.patch)

    def _next_frame(self) -> Job | None:
        """The newest frame, as the gate lets it pass."""
        if not self._due:
            job, self._held = self._held.newest, replace(self._held, newest=None)
            if job is not None:
                self._begun = self._arrived
            session = self.link.session if self.link else 0
            self._due.extend(self._gate.due(() if job is None else (job,), session))
        return self._due.popleft() if self._due else None

    def may_wait(self) -> float | None:
        """Seconds that the engine's thread may wait for a frame; None: as long as it likes."""
        return None if self.over else self.dreaming.wait()

    def dream(self) -> Task | None:
        """A picture to be made from the prompt alone, if there is to be one now."""
        # What is made already goes out first.
        if self.over or self._results.statistics().waiting or not self.dreaming.due():
            return None
        self._steering.apply()  # the values came before the word that we may paint
        engine = self.engine
        canvas, patch = self.dreaming.picture(engine.width, engine.height, engine.parameters)
        session = self.link.session if self.link else 0
        if self._edit is not None:
            patch["mode"] = "full"  # there is nobody in a dream
        return Task(self, Job(canvas, 0, time.time_ns(), session), patch, dream=True)

    def ahead(self, task: Task) -> Task | None:
        """The task as one whose picture need not be waited for before the engine goes on; None: it
        is to be waited for.
        """
        # To show what steers the engine would wait for the frame that was begun meanwhile.
        if task.patch is not None or self._control_watched or not self.engine.overlaps:
            return None
        return replace(task, revision=self._steering.revision)

    def turn(self, task: Task) -> Turn | None:
        """What the engine is asked for a task; None where nobody waits for it any more."""
        job = task.job
        if job.asked is not None and self.link is not None and job.session != self.link.session:
            return None  # the relay has asked another worker, or failed it
        height, width = job.frame.shape[:2]
        if (width, height) != (self.engine.width, self.engine.height):
            # The size is a parameter too, and this frame was on its way when it changed.
            job = replace(job, frame=self._fitted(job.frame), mask=None)
            fitted = self._masked(job) if job.asked is None else job
            if fitted is None:
                return None
            job = fitted
        mask = job.mask if task.patch is None else None
        return Turn(self.engine, job.frame, job.but(Hop.INFER), mask, task.patch)

    def finish(self, task: Task, outcome: Outcome, seconds: float) -> None:
        """Have what came of a task sent, shown and said."""
        asked = task.job.asked
        if isinstance(outcome, DreamRelayError):
            self.statistics.failed += 1
            refused = False
            if isinstance(outcome, ParameterError):
                # A value in force that turns out not to work; not one of this picture's alone.
                refused = not outcome.problems.keys() <= (task.patch or {}).keys()
                if refused:
                    self._steering.put_back(outcome)
            if asked is not None:
                logger.warning("request %d: %s", task.job.seq, outcome)
                self._returning.failed(task.job.seq, task.job.session, str(outcome))
                return
            if task.dream:
                self.dreaming.failed()
            if not refused:
                self._complain(str(outcome))
            return
        self.statistics.infer_seconds += seconds
        if outcome is None:
            return
        if asked is None:
            self._steering.settled()
        if self.keeps_all:
            self._await_empty(self._results)
        self._put(outcome, task)

    def _put(self, result: Result[Job], task: Task) -> None:
        token, asked = result.token.but(Hop.INFERRED), task.job.asked
        revision = self._steering.revision if task.revision is None else task.revision
        shown = self._control_watched and asked is None and not task.dream
        control = self.engine.control_map() if shown else None
        done = Done(result.frame, token, revision, result.repeated, control)
        try:
            self._results.put(Batch(done) if asked is None else Batch(requests=(done,)))
        except ClosedError:
            if not self.over:
                raise

    def _show_preview(self, frame: Frame, token: Any) -> None:
        """Show how far a slow picture is; while the engine is at it."""
        # A whole picture is never replaced by a rough one.
        waits = self._results.statistics().waiting
        if isinstance(token, Job) and token.asked is None and not waits and not self.over:
            job = token.but(Hop.INFERRED)
            self._results.put(Batch(Done(frame, job, self._steering.revision, preview=True)))

    def no_more(self) -> None:
        """The engine makes nothing more: the outlet hands out what lies there, then ends."""
        self._results.close()

    # -- outlet -----------------------------------------------------------------------------------

    def _hand_out(self) -> None:
        try:
            while True:
                batch = self._results.take()
                if self._stage is not None:
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
            self.all_out.set()
            self._tell_over(self, None)  # also at the end of a local source: all of it is out

    def _publish(self, done: Done) -> None:
        statistics = self.statistics
        if not done.preview:
            statistics.results.tick()
        statistics.age_ms = self._returning.publish(done, self._info)
        trouble = self._returning.trouble
        if trouble != self._sinks_said:
            self._sinks_said = trouble
            self.say("live", self._wrong)

    def _info(self) -> dict[str, object]:
        """What the window says of a picture."""
        prompt = self.engine.parameters.get("prompt", "")
        return {"prompt": prompt, "fps": self.statistics.results.rate}
