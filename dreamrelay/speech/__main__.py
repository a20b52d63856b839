"""The speech process; ``service`` starts it and says what passes through its pipes."""

import argparse
import contextlib
import json
import logging
import os
import signal
import sys
import threading
from collections.abc import Sequence
from queue import SimpleQueue
from typing import IO, Any

from dreamrelay.errors import DreamRelayError, MissingExtra
from dreamrelay.speech.catalog import open_speech
from dreamrelay.speech.ports import Speech, SpeechProgress

Request = tuple[int, bytes, tuple[str, ...]]


class Voice:
    """What we say to the parent: one line of JSON each."""

    def __init__(self, out: IO[bytes]) -> None:
        self._out = out
        self._said: tuple[str, int] | None = None

    def say(self, **fields: Any) -> None:
        try:
            self._out.write(json.dumps(fields).encode() + b"\n")
            self._out.flush()
        except OSError:
            os._exit(0)  # the parent has gone; the thread that reads from it may not know yet

    def report(self, progress: SpeechProgress) -> None:
        """How far it is; a hundred lines at most for each piece of work."""
        said = (progress.text.split(",")[0], int((progress.fraction or 0) * 100))
        if said != self._said:
            self._said = said
            self.say(text=progress.text, fraction=progress.fraction)

    def error(self, error: DreamRelayError) -> dict[str, Any]:
        fields = {"code": error.code, "message": str(error)}
        if isinstance(error, MissingExtra):
            fields |= {"feature": error.feature, "extra": error.extra}
        return fields


def main(arguments: Sequence[str] | None = None) -> int:
    """Load the engine, then answer one request after the other until the parent goes."""
    parser = argparse.ArgumentParser(prog="python -m dreamrelay.speech", description=__doc__)
    parser.add_argument("--engine", default="auto", help="off, auto, offline, whisper:NAME")
    name = parser.parse_args(arguments).engine
    logging.basicConfig(level=logging.WARNING, format="speech: %(message)s")
    # Ctrl-C is the parent's affair; it closes our input.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    voice = Voice(_own_output())
    requests: SimpleQueue[Request] = SimpleQueue()  # the parent sends the next after an answer
    threading.Thread(target=_read, args=(requests,), name="requests", daemon=True).start()
    try:
        engine = open_speech(name)
        voice.say(engine=engine.name, text=f"loading {engine.name}")
        engine.load(voice.report)
    except DreamRelayError as error:
        voice.say(failed=voice.error(error))
        return 1
    voice.say(ready=True, engine=engine.name, text="", fraction=None)
    while True:
        _answer(engine, voice, *requests.get())


def _answer(
    engine: Speech, voice: Voice, number: int, data: bytes, vocabulary: tuple[str, ...]
) -> None:
    try:
        heard = engine.transcribe(data, vocabulary)
    except DreamRelayError as error:
        voice.say(id=number, error=voice.error(error))
    else:
        voice.say(id=number, heard=heard.as_fields())


def _read(requests: "SimpleQueue[Request]") -> None:
    """Take requests in; when there are no more, the parent has gone, and so do we, at once."""
    pipe = sys.stdin.buffer
    with contextlib.suppress(ValueError, KeyError, OSError):
        while line := pipe.readline():
            head = json.loads(line)
            data = pipe.read(head["bytes"])
            requests.put((head["id"], data, tuple(head["vocabulary"])))
    os._exit(0)


def _own_output() -> IO[bytes]:
    """Standard output for us alone: what a library prints goes to standard error."""
    own = os.fdopen(os.dup(sys.stdout.fileno()), "wb")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    return own


if __name__ == "__main__":
    ended_with = main()
    sys.stderr.flush()
    # An ordinary end would wait for standard input, on which the other thread reads, and abort.
    os._exit(ended_with)
