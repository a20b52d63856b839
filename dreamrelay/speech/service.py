"""Speech for programs that must not wait: the engine in a process of its own, started on demand.

The child is ``python -m dreamrelay.speech``. Its standard input brings a line of JSON and the
recording's bytes for each request, and its end says that the parent has gone; its standard output
answers in lines of JSON (``child``). It holds the numeric packages and whatever a broken recording
may do to a decoder: one that does not answer is killed, and the next request starts another.

A recording passes through memory and that pipe alone. It is never written to a file, and neither it
nor what was understood is ever logged. Standard library only.
"""

import asyncio
import json
import logging
import subprocess
import threading
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from dreamrelay.child import MODULE, start_child, there
from dreamrelay.errors import (
    ClosedError,
    ConfigError,
    DreamRelayError,
    EngineError,
    LimitError,
    MissingExtra,
    ProtocolError,
)
from dreamrelay.speech.catalog import check_speech
from dreamrelay.speech.ports import Heard

logger = logging.getLogger(__name__)

ANSWER_SECONDS = 60.0
"""A loaded engine has so long for one recording."""

LOADING_SECONDS = 25.0
"""So long a request waits for the engine to be loaded; a download goes on without it."""

MOST_WAITING = 8
"""Recordings at once, the one that is listened to among them."""

PATIENCE = 2.0
"""Seconds that a child has to end by itself."""


class NotReady(EngineError):
    """Nobody listens yet, whatever is said; the text tells whether to try again."""


class SpeechService:
    """One engine for everybody, in a child process.

    ``transcribe`` is for event loops, ``hear`` for threads; recordings are taken one after the
    other. Nothing is started before somebody speaks (or ``warm``).

    Args:
        name: a setting as :func:`dreamrelay.speech.open_speech` takes it.
        program: the child, for tests.
        answer_seconds, loading_seconds: as the constants.

    Raises:
        ConfigError: there is no such engine.
    """

    def __init__(
        self,
        name: str = "auto",
        *,
        program: Sequence[str] = (*MODULE, "dreamrelay.speech"),
        answer_seconds: float = ANSWER_SECONDS,
        loading_seconds: float = LOADING_SECONDS,
    ) -> None:
        self.name = check_speech(name)
        self._program = [*program, f"--engine={name}"]
        self._answer_seconds = answer_seconds
        self._loading_seconds = loading_seconds
        self._pool = ThreadPoolExecutor(MOST_WAITING, thread_name_prefix="speech")
        self._one = threading.Lock()
        self._guard = threading.Lock()
        self._counting = threading.Lock()  # never held for long: event loops take it
        self._waiting = 0
        self._child: _Child | None = None
        self._closed = False

    @property
    def enabled(self) -> bool:
        """Whether anybody listens at all."""
        return self.name != "off" and not self._closed

    @property
    def busy(self) -> int:
        """How many recordings are listened to, or wait for it."""
        return self._waiting

    def status(self) -> dict[str, Any]:
        """What it is doing: ``state`` (off, idle, loading, ready, failed), ``text``, ``fraction``,
        and the ``engine`` once it is known.
        """
        child = self._child
        if not self.enabled:
            return {"state": "off", "text": "speech is off", "fraction": None, "engine": None}
        if child is None:
            return {"state": "idle", "text": "", "fraction": None, "engine": None}
        return child.status()

    async def transcribe(self, data: bytes, vocabulary: Sequence[str] = ()) -> Heard:
        """Understand one recording; the arguments and errors are those of ``hear``."""
        self._enter()
        try:
            work = self._pool.submit(self._in_turn, data, tuple(vocabulary))
        except RuntimeError:  # closed in between
            self._leave()
            raise ClosedError("the relay is stopping") from None
        work.add_done_callback(lambda _: self._leave())  # also where nobody waits any more
        return await asyncio.wrap_future(work)

    def hear(self, data: bytes, vocabulary: Sequence[str] = ()) -> Heard:
        """Understand one recording; blocks.

        Args:
            data: the recording, as :meth:`Speech.transcribe` takes it.
            vocabulary: words and phrases to expect.

        Raises:
            ProtocolError: it is no audio, broken, too long.
            ConfigError: speech is off.
            MissingExtra: the engine's packages are not installed.
            NotReady: the engine is still being loaded, or could not be.
            EngineError: it takes too long with this recording, or died of it.
            LimitError: too many speak at once.
        """
        self._enter()
        try:
            return self._in_turn(data, tuple(vocabulary))
        finally:
            self._leave()

    def warm(self) -> None:
        """Begin to load the engine; waits for its process to start, not for the engine.

        Raises:
            ConfigError: speech is off.
        """
        self._check_enabled()
        with self._guard:
            self._living_child()

    def close(self) -> None:
        """End the child; idempotent. Who still waits for an answer gets an error."""
        with self._guard:
            self._closed = True
            child, self._child = self._child, None
        if child is not None:
            child.close()
        self._pool.shutdown(wait=True, cancel_futures=True)

    def _check_enabled(self) -> None:
        if self._closed:
            raise ClosedError("the relay is stopping")
        if self.name == "off":
            raise ConfigError("speech is off: start the relay with --speech=auto")

    def _enter(self) -> None:
        self._check_enabled()
        with self._counting:
            if self._waiting >= MOST_WAITING:
                raise LimitError("too many speak at once: try again in a moment")
            self._waiting += 1

    def _leave(self) -> None:
        with self._counting:
            self._waiting -= 1

    def _in_turn(self, data: bytes, vocabulary: tuple[str, ...]) -> Heard:
        with self._one:
            with self._guard:
                self._check_enabled()
                child = self._living_child()
            child.await_ready(self._loading_seconds)
            return child.ask(data, vocabulary, self._answer_seconds)

    def _living_child(self) -> "_Child":
        """The child; a new one where there is none, or it has died."""
        if self._child is None or not self._child.alive:
            if self._child is not None:
                self._child.close()
            self._child = _Child(self._program)
        return self._child


class _Child:
    """One child process and the thread that listens to it."""

    def __init__(self, program: Sequence[str]) -> None:
        self._news = threading.Condition()
        self._fields: dict[str, Any] = {"text": "starting", "fraction": None, "engine": None}
        self._ready = False
        self._answers: dict[int, Mapping[str, Any]] = {}
        self._failure: DreamRelayError | None = None
        self._number = 0
        try:
            self._process = start_child(program)
        except OSError as error:
            raise EngineError(f"the speech process cannot be started: {error}") from error
        self._listener = threading.Thread(target=self._listen, name="speech answers", daemon=True)
        self._listener.start()

    @property
    def alive(self) -> bool:
        return self._failure is None and self._process.poll() is None

    def status(self) -> dict[str, Any]:
        with self._news:
            if self._failure is not None:
                return {**self._fields, "state": "failed", "text": str(self._failure)}
            return {**self._fields, "state": "ready" if self._ready else "loading"}

    def await_ready(self, seconds: float) -> None:
        with self._news:
            self._news.wait_for(lambda: self._ready or self._failure is not None, seconds)
            if isinstance(self._failure, EngineError):
                raise NotReady(str(self._failure))
            if self._failure is not None:
                raise self._failure
            if not self._ready:
                raise NotReady(
                    f"speech is not ready yet ({self._fields['text']}): try again in a moment"
                )

    def ask(self, data: bytes, vocabulary: tuple[str, ...], seconds: float) -> Heard:
        deadline = time.monotonic() + seconds
        self._number += 1
        number = self._number
        head = {"id": number, "bytes": len(data), "vocabulary": vocabulary}
        # A child that is stuck reads nothing: then this write, too, ends when it is killed.
        watch = threading.Timer(seconds, self._process.kill)
        watch.start()
        try:
            stdin = there(self._process.stdin)
            stdin.write(json.dumps(head).encode() + b"\n" + data)
            stdin.flush()
        except (OSError, ValueError):
            pass  # it has died: the listener says how
        finally:
            watch.cancel()
        with self._news:
            left = max(0.1, deadline - time.monotonic())
            self._news.wait_for(lambda: number in self._answers or self._failure is not None, left)
            answer = self._answers.pop(number, None)
            if answer is None and self._failure is None:
                text = f"not understood within {seconds:g} s; the next recording starts another"
                self._failure = EngineError(f"the recording was {text} speech process")
                self._process.kill()
            failure = self._failure
        if answer is None:
            raise failure or AssertionError("one of them is there")
        if "error" in answer:
            raise _error(answer["error"])
        return Heard.of_fields(answer["heard"])

    def close(self) -> None:
        """End it, kindly first; idempotent."""
        stdin = there(self._process.stdin)
        try:
            stdin.close()
        except OSError:
            pass  # there was something left to write to a child that has died
        try:
            self._process.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._listener.join(PATIENCE)

    def _listen(self) -> None:
        with there(self._process.stdout) as lines:
            for line in lines:
                try:
                    fields = json.loads(line)
                except ValueError:
                    logger.debug("the speech process says something that is no JSON")
                    continue
                self._take(fields)
        code = self._process.wait()
        with self._news:
            if self._failure is None:
                text = f"the speech process ended with {code}; the next recording starts another"
                self._failure = EngineError(text)
            self._news.notify_all()

    def _take(self, fields: Mapping[str, Any]) -> None:
        with self._news:
            if "id" in fields:
                self._answers = {fields["id"]: fields}  # nobody waits for an older one
            elif "failed" in fields:
                self._failure = _error(fields["failed"])
                logger.warning("speech: %s", self._failure)
            else:
                self._ready = self._ready or "ready" in fields
                self._fields |= {
                    name: fields[name] for name in ("text", "fraction", "engine") if name in fields
                }
            self._news.notify_all()


_ERRORS: Mapping[str, type[DreamRelayError]] = {
    kind.code: kind for kind in (ProtocolError, ConfigError, EngineError)
}


def _error(fields: Mapping[str, Any]) -> DreamRelayError:
    """The error that a child told of."""
    if fields["code"] == MissingExtra.code:
        return MissingExtra(fields["feature"], fields["extra"])
    return _ERRORS.get(fields["code"], EngineError)(fields["message"])
