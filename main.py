"""Start a worker: ``python main.py [--model=pocket] [--prompt=...]``; ``--help`` lists more."""

from dreamrelay.cli import run

if __name__ == "__main__":
    run("worker")
