"""The worker: frames in from a relay (or a local source), through an engine, results out.

One thread computes, for one stream or for several: each stream is a :class:`Lane` with threads of
its own for what comes and goes. Whatever waits in the lanes is taken in turn, so that a busy stream
starves no other, and what the engine can make in one call goes into one call.

A picture that is under way is waited for in a thread of its own, which rings the bell that frames
ring: whatever comes first is seen to first.

While nothing comes in and somebody looks, the engine's thread paints from the prompt alone
(:mod:`dreaming`), between two looks into the lanes: so a frame that comes goes before it.
"""

import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from typing import Any, TypeVar

from dreamrelay.config import WorkerSettings, spout_url
from dreamrelay.engine_flags import engine_settings
from dreamrelay.engines import Engine, Progress, open_engine
from dreamrelay.engines.ports import FRAME_ERRORS, Coming, FrameError, Outcome
from dreamrelay.errors import ClosedError, ConfigError, DreamRelayError
from dreamrelay.human_edit import HumanEdit
from dreamrelay.lane import Lane, Task, WorkerStatistics
from dreamrelay.link import Link
from dreamrelay.local_source import LocalSource
from dreamrelay.mailbox import Mailbox
from dreamrelay.media import keep_apart, open_sink
from dreamrelay.preprocess import check_matting, open_matting
from dreamrelay.projection import Projection
from dreamrelay.stage import Outlet, Stage
from dreamrelay.viewer import Viewer, viewer_available

logger = logging.getLogger(__name__)

T = TypeVar("T")

STOP_SECONDS = 10.0
"""A frame under way (or a part of a model) has so long to end once we are to stop."""

LAST_WORDS_SECONDS = 3.0
"""A worker that cannot go on waits so long for a relay to tell it to."""

LOOK_SECONDS = 0.25


class Worker:
    """One worker: ``run`` until ``stop``.

    Window, sinks, OSC and a source of its own belong to the first of its streams: when another
    worker has that one, they are closed.

    Args:
        engine: an engine of one's own; else the settings say which one.

    Raises:
        ConfigError, MissingExtra: the settings cannot work here. Nothing was started.
    """

    def __init__(self, settings: WorkerSettings, *, engine: Engine | None = None) -> None:
        self.settings = settings
        self.lanes: list[Lane] = []
        self.viewer: Viewer | None = None
        self.no_window = ""
        """Why no window can be shown, where one would be."""
        self._projection: Projection | None = None
        self._source: LocalSource | None = None
        self._absent = ""
        self._stopped = threading.Event()
        self._failure: BaseException | None = None
        self._bell: Mailbox[bool] = Mailbox()
        self._rota: deque[Lane] = deque()
        self._begun: _Begun | None = None
        self._awaited: Mailbox[_Begun] = Mailbox()
        self._open_things = ExitStack()
        """What is to be closed at the end: each of them, whatever another one says."""
        self._on_stage = ExitStack()
        """Of that, what goes with the first stream."""
        self._left_stage = False
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
                matting = check_matting(settings.matting, offline=settings.offline)
                self.engine = HumanEdit(self.engine, lambda: open_matting(matting))
            for lane in self.lanes:
                lane.prepare(self.engine)
            self._stage.introduce(self.engine.schema())
        except BaseException:  # Ctrl-C too: what is open already must not stay open
            self._open_things.close()
            raise

    def _open(self) -> None:
        """Open everything that may be refused, before anything runs."""
        settings = self.settings
        if settings.source and settings.spout_in:
            raise ConfigError("choose one: --source or --spout-in")
        local = settings.source or (spout_url(settings.spout_in) if settings.spout_in else None)
        urls = [*settings.sink, *([spout_url(settings.spout_out)] if settings.spout_out else [])]
        if local is not None:
            if settings.websocket_port is not None:
                raise ConfigError("choose one: --websocket_port (a relay) or a local source")
            if len(settings.stream) > 1:
                raise ConfigError("choose one: several streams of a relay, or a local source")
            keep_apart(local, urls)
            self._source = LocalSource(local, self._hear_source)
            self._open_things.callback(self._source.close)
        self._open_things.callback(self._on_stage.close)
        sinks: list[Outlet] = []
        for url in urls:
            sink = open_sink(url)
            if self._source is not None and not self._source.live:
                sink.keep_every()
            outlet = Outlet(url, sink)
            self._on_stage.callback(outlet.close)
            sinks.append(outlet)
        common: dict[str, Any] = {
            "wake": self._wake,
            "stopped": self._stopped,
            "over": self._lane_over,
        }
        names: list[str | None] = [*settings.stream] if local is None else [None]
        beside = {name: Lane(settings, name, **common) for name in names[1:] if name}
        self._stage = Stage(
            settings,
            keeps_all=self._source is not None and not self._source.live,
            change=lambda patch: self.first.change(patch, "osc"),
            turned=self._on_word,
            values=lambda: self.engine.parameters,
            standing=lambda: self.first.standing,
            stream=names[0],
            beside={name: lane.steered() for name, lane in beside.items()},
        )
        self._on_stage.callback(self._stage.close)
        if settings.viewer != "off":
            problem = viewer_available()
            if problem is None:
                self.viewer = Viewer(screen=settings.viewer_screen, trace=True)
                self._projection = Projection(
                    self.viewer,
                    self._stage.presets,
                    change=lambda values: self.first.change(values, "viewer"),
                    values=lambda: self.first.known_values(),
                    schema=lambda: self.first.engine.schema(),
                    wake=lambda: self.first.wake_outlet(),
                )
                self._on_stage.callback(self._projection.close)
            elif settings.viewer == "on":
                raise ConfigError(f"--viewer=on: {problem}")
            else:
                self.no_window = problem
        self._open_things.callback(self._close_lanes)
        on_stage: dict[str, Any] = {
            "stage": self._stage,
            "sinks": sinks,
            "projection": self._projection,
        }
        self.lanes += [Lane(settings, names[0], **common, **on_stage), *beside.values()]
        self.first.absent = self._absent
        self.first.keeps_all = self._source is not None and self._source.keeps_all
        self._rota.extend(self.lanes)

    def _close_lanes(self) -> None:
        """Say goodbye everywhere at once: a relay that hangs has seconds to take it."""
        threads = [threading.Thread(target=lane.close, daemon=True) for lane in self.lanes]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    @property
    def first(self) -> Lane:
        """The lane that people at this machine see and steer."""
        return self.lanes[0]

    @property
    def statistics(self) -> WorkerStatistics:
        """Of the first lane."""
        return self.first.statistics

    @property
    def state(self) -> str:
        """Of the first lane."""
        return self.first.state

    @property
    def link(self) -> Link | None:
        """Of the first lane."""
        return self.first.link

    @property
    def replaced_by(self) -> str:
        """The models of the workers that have taken over, once they have all of our streams."""
        names = [lane.replaced_by for lane in self.lanes]
        return ", ".join(dict.fromkeys(names)) if all(names) else ""

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
        targets = [
            self._compute,
            self._await_pictures,
            *(target for lane in self.lanes for target in lane.targets),
        ]
        if self._source is not None:
            targets.append(self._read_source)
        threads = [
            threading.Thread(target=self._guard, args=(target,), name=target.__name__, daemon=True)
            for target in targets
        ]
        try:
            if self.viewer is not None:
                self.viewer.start()
                if self.first.absent:  # since before there was a window
                    self.first.note_source()
            self._stage.start()
            for lane in self.lanes:
                lane.start()
            for thread in threads:
                thread.start()
            while not self._stopped.wait(LOOK_SECONDS):
                self._look_around()
        finally:
            self._stopped.set()
            self._bell.close()
            self._awaited.close()
            for lane in self.lanes:
                lane.end()
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
        """Have the streams show why we end, if there is a relay or one is found soon."""
        deadline = time.monotonic() + LAST_WORDS_SECONDS
        links = [lane.link for lane in self.lanes if lane.link is not None and not lane.over]
        while not all(link.connected for link in links) and time.monotonic() < deadline:
            if self._stopped.wait(0.02):
                return
        for lane in self.lanes:
            lane.say("error", text)

    def _lane_over(self, lane: Lane, error: DreamRelayError | None) -> None:
        """Nothing comes of a lane any more; with the last one the worker ends."""
        if lane.over:
            return
        lane.over = True
        if any(not other.over for other in self.lanes) and not self._stopped.is_set():
            logger.warning("%s: %s", lane.stream, error or f"replaced by {lane.replaced_by}")
            lane.end()
            lane.close()
            return
        self._failure = self._failure or error
        self._stopped.set()

    def _look_around(self) -> None:
        """Four times a second: what was done in the window, and how we are."""
        for lane in self.lanes:
            if not lane.over:
                lane.look()
        if self._source is not None:
            self._source.tend()
        if self._left_stage:
            return
        if self.first.over and self.first.all_out.is_set():
            self._leave_stage()
            return
        self._stage.look()
        closed = self._projection is not None and self._projection.look()
        if closed and self.settings.websocket_port is not None:
            # The seed with its own server ends when its window is closed; a worker of a relay goes
            # on for everybody else. A window that died was not closed.
            self._stopped.set()

    def _leave_stage(self) -> None:
        """Another worker has the first stream, and its people: they need the port and the names."""
        self._left_stage = True
        logger.info("%s: its window, sinks and OSC are closed here", self.first.stream)
        try:
            self._on_stage.close()
        except DreamRelayError as error:  # the other streams go on
            logger.warning("%s: %s", self.first.stream, error)

    def _wake(self) -> None:
        """Have the engine's thread look into the lanes."""
        try:
            self._bell.put(True)
        except ClosedError:
            return  # stopping

    def _on_word(self, turned: bool) -> None:
        """Somebody said something by OSC."""
        if turned:
            self.first.turned()
        self._wake()
        self.first.wake_outlet()

    # -- a source of our own ----------------------------------------------------------------------

    def _hear_source(self, trouble: str) -> None:
        self._absent = trouble
        if self.lanes:
            self.first.hear_source(trouble)

    def _read_source(self) -> None:
        """Feed the local source's frames in; at its end is ours, once its last pictures are out."""
        assert self._source is not None
        self.first.await_engine()
        self._source.feed(
            self.first.take_frame,
            taken=self.first.await_taken,
            stopped=self._stopped,
            may_read=self._stage.gate.may_read,
            renew=self._stage.renew_source,
        )
        self.first.await_taken()
        self._bell.close()

    # -- engine -----------------------------------------------------------------------------------

    def _compute(self) -> None:
        """The engine's thread: load, then whatever waits."""
        engine = self.engine
        engine.load(self._report)
        logger.info(
            "%s is ready: %dx%d on %s",
            engine.model_name,
            engine.width,
            engine.height,
            engine.device_name,
        )
        for lane in self.lanes:
            stream = engine if lane is self.first else engine.beside({})
            if stream is not engine:
                self._open_things.callback(stream.close)
            lane.begin(stream)
        try:
            while True:
                self._bell.take(self._patience())
                while (tasks := self._due()) or self._is_down():
                    self._make(tasks)
                if self._begun is not None:
                    continue  # its picture rings
                dreams = [dream for lane in self.lanes if (dream := lane.dream()) is not None]
                limit = self.engine.batch_limit
                for at in range(0, len(dreams), limit):
                    self._make(dreams[at : at + limit])
        except ClosedError:
            with suppress(ClosedError):
                self._land()  # the last picture of a source that has ended
            for lane in self.lanes:
                lane.no_more()
            raise

    def _patience(self) -> float | None:
        """Seconds to wait for the bell, at most."""
        if self._begun is not None:
            return None
        waits = [wait for lane in self.lanes if (wait := lane.may_wait()) is not None]
        return min(waits, default=None)

    def _report(self, progress: Progress) -> None:
        if self._stopped.is_set():
            raise ClosedError("the worker was stopped")
        state = "warming" if progress.stage == "warming" else "loading"
        logger.info("%s %s", progress.stage, progress.text)
        for lane in self.lanes:
            lane.say(state, progress.text, progress.fraction)

    def _due(self) -> list[Task]:
        """What is to be computed next, in one call: of each lane in turn, then whatever waits."""
        limit = self.engine.batch_limit
        tasks: list[Task] = []
        lanes = len(self._rota)
        for _ in range(lanes):
            if len(tasks) == limit:
                break
            if (task := self._next_lane().due(first=True)) is not None:
                tasks.append(task)
        idle = 0
        while 0 < len(tasks) < limit and idle < lanes:
            beside = self._next_lane().due(first=False)
            idle = idle + 1 if beside is None else 0
            if beside is not None:
                tasks.append(beside)
        return tasks

    def _next_lane(self) -> Lane:
        lane = self._rota[0]
        self._rota.rotate(-1)
        return lane

    def _make(self, tasks: Sequence[Task]) -> None:
        """Compute, in as few calls as there can be.

        A frame alone is begun before the picture of the one before it is waited for, where the
        engine goes on meanwhile; all else comes after that picture.
        """
        ahead = tasks[0].lane.ahead(tasks[0]) if len(tasks) == 1 else None
        begun = None if ahead is None else self._begin(ahead)
        self._land()
        if ahead is not None:
            self._begun = begun
            return
        pairs = [(task, turn) for task in tasks if (turn := task.lane.turn(task)) is not None]
        began = time.perf_counter()
        outcomes: Sequence[Outcome] = ()
        if len(pairs) == 1:
            outcomes = [_tried(pairs[0][1].alone)]
        elif pairs:
            outcomes = self.engine.infer_together([turn for _, turn in pairs])
        seconds = (time.perf_counter() - began) / max(1, len(pairs))
        for (task, _), outcome in zip(pairs, outcomes, strict=True):
            task.lane.finish(task, outcome, seconds)

    def _is_down(self) -> bool:
        """Whether a picture was under way that need not be waited for any more; else it is looked
        out for.
        """
        begun = self._begun
        if begun is None or begun.down.is_set() or begun.signal is None:
            return begun is not None
        if not begun.awaited:
            begun.awaited = True
            self._awaited.put(begun)
        return False

    def _await_pictures(self) -> None:
        """Ring when the picture that is under way is down."""
        while True:
            begun = self._awaited.take()
            if begun is not None and begun.signal is not None:
                begun.signal()
                begun.down.set()
                self._wake()

    def _begin(self, task: Task) -> "_Begun | None":
        turn = task.lane.turn(task)
        if turn is None:
            return None
        began = time.perf_counter()
        return _Begun(task, _tried(turn.begin), began)

    def _land(self) -> None:
        """Wait for the picture that is under way, if one is, and hand it out."""
        begun, self._begun = self._begun, None
        if begun is not None:
            came = begun.picture
            outcome = _tried(came.take) if isinstance(came, Coming) else came
            begun.task.lane.finish(begun.task, outcome, time.perf_counter() - begun.began)


@dataclass(slots=True)
class _Begun:
    """A frame whose picture is under way.

    Attributes:
        picture: that comes; or why it could not be begun, to be said in its turn.
        began: when, in seconds.
        awaited: whether somebody waits to tell when it is down.
    """

    task: Task
    picture: Coming[Outcome] | FrameError
    began: float
    awaited: bool = False
    down: threading.Event = field(default_factory=threading.Event)

    @property
    def signal(self) -> Callable[[], object] | None:
        """Returns once the picture is down; None: it is called for at once."""
        return self.picture.signal if isinstance(self.picture, Coming) else None


def _tried(make: Callable[[], T]) -> T | FrameError:
    try:
        return make()
    except FRAME_ERRORS as error:
        return error
