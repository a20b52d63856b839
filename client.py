"""Start a producer: ``python client.py --mode=webcam``; ``--help`` lists more.

``python client.py image.png "a prompt" [--binary]`` has one picture made and saves it.
"""

from dreamrelay.cli import run

if __name__ == "__main__":
    run("producer")
