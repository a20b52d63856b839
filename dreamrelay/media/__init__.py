"""Where frames come from and where they go: sources and sinks, named by a URL.

``open_source("screen://0")`` and ``open_sink("null://")`` look the scheme up in a table of import
strings, so that a technology is imported when somebody asks for it and not before. One file per
technology holds both its directions.
"""

from dreamrelay.media.apart import keep_apart
from dreamrelay.media.catalog import open_sink, open_source, sink_schemes, source_schemes
from dreamrelay.media.ports import Captured, Sink, Source

__all__ = [
    "Captured",
    "Sink",
    "Source",
    "keep_apart",
    "open_sink",
    "open_source",
    "sink_schemes",
    "source_schemes",
]
