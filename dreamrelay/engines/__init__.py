"""Engines: frames in, frames out, under parameters.

``open_engine(settings)`` picks one by name from a table of import strings; nothing heavy is
imported before. The port is in ``ports.py``; what every engine must do is tested by one conformance
suite.
"""

from dreamrelay.engines.catalog import ENGINES, open_engine
from dreamrelay.engines.ports import Engine, EngineSettings, Mask, Progress, Report, Result

__all__ = [
    "ENGINES",
    "Engine",
    "EngineSettings",
    "Mask",
    "Progress",
    "Report",
    "Result",
    "open_engine",
]
