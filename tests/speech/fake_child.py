"""Stands in for ``python -m dreamrelay.speech``: behaves as its engine's name says."""

import json
import os
import sys
import time


def say(**fields: object) -> None:
    sys.stdout.write(json.dumps(fields) + "\n")
    sys.stdout.flush()


def main() -> None:
    manner = sys.argv[1].partition("whisper:")[2]
    if manner == "missing":
        say(
            failed={"code": "missing-extra", "message": "", "feature": "Whisper", "extra": "speech"}
        )
        sys.exit(1)
    say(engine="fake", text="downloading fake, 3 of 480 MB", fraction=0.00625)
    if manner == "loading":
        sys.stdin.buffer.read()
        return
    if manner == "chatty":
        print("a library that prints")  # noqa: T201 - that is what it is about
    say(ready=True, engine="fake", text="", fraction=None)
    while line := sys.stdin.buffer.readline():
        head = json.loads(line)
        data = sys.stdin.buffer.read(head["bytes"])
        if data == b"die":
            os._exit(3)
        if data == b"hang":
            time.sleep(600)
        if data == b"broken":
            say(id=head["id"], error={"code": "protocol", "message": "the recording is broken"})
            continue
        text = f"{data.decode()} {' '.join(head['vocabulary'])} {os.getpid()}"
        heard = {"text": text, "confidence": 0.5, "words": [], "seconds": 1.0, "spoken": 0.5}
        say(id=head["id"], heard=heard)


main()
