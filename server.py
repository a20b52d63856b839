"""Start the relay: ``python server.py [--host=127.0.0.1] [--port=8765]``; ``--help`` lists more."""

from dreamrelay.cli import run

if __name__ == "__main__":
    run("relay")
