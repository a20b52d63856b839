"""Schemes of source and sink URLs to import strings."""

from dreamrelay.errors import ConfigError
from dreamrelay.importer import Entry
from dreamrelay.media.ports import Sink, Source

SOURCES: dict[str, Entry] = {}
SINKS: dict[str, Entry] = {}


def source_schemes() -> list[str]:
    return sorted(SOURCES)


def sink_schemes() -> list[str]:
    return sorted(SINKS)


def open_source(url: str) -> Source:
    raise ConfigError(url)


def open_sink(url: str) -> Sink:
    raise ConfigError(url)
