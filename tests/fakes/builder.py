"""A second process for :mod:`dreamrelay.engines.beside` that compiles nothing.

The model of the settings says what it does: ``makes``, ``fails``, ``dies`` or ``hangs``.
"""

import os
import pickle
import sys
import time
from typing import Any


def main() -> None:
    out = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)

    def tell(kind: str, what: Any) -> None:
        pickle.dump((kind, what), out)
        out.flush()

    sys.stdout.write("what libraries print does not come between")
    does = pickle.load(sys.stdin.buffer).model
    wanted = pickle.load(sys.stdin.buffer)
    tell("progress", f"{wanted.part} is compiled beside")
    match does:
        case "makes":
            tell("made", wanted)
        case "fails":
            tell("failed", "it could not be built (no such kernel)")
        case "dies":
            os._exit(3)
    time.sleep(600)  # until it is dismissed


if __name__ == "__main__":
    main()
