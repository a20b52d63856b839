"""OSC, the door for the tools of the stage: addresses to parameters and words, and back.

``wire`` reads and writes datagrams, ``table`` and ``dialect`` say what an address means,
``fitting`` makes a fader's number fit a parameter, ``server`` listens, ``feedback`` tells. Every
address is in ``docs/osc.md``.
"""

from dreamrelay.osc.dialect import Standing, Steered, Word
from dreamrelay.osc.presets import Presets, default_path
from dreamrelay.osc.server import OscServer

__all__ = ["OscServer", "Presets", "Standing", "Steered", "Word", "default_path"]
