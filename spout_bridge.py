"""Start a bridge: ``python spout_bridge.py --spout-in=SourceImage --spout-out=StreamDiffusion``."""

from dreamrelay.cli import run

if __name__ == "__main__":
    run("bridge")
