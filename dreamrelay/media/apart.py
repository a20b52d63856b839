"""A program must not take in what it shows itself: each picture would be made of the one before,
and a file that is read would be written over.

Said by the names alone, before anything is opened.
"""

import platform
from collections.abc import Iterable

from dreamrelay.errors import ConfigError
from dreamrelay.media.address import PATH, Address, parse

_READ = frozenset({PATH, "file", "directory", "video"})
_WRITTEN = frozenset({PATH, "file", "record"})


def keep_apart(source: str, sinks: Iterable[str]) -> None:
    """Refuse a source that would give what one of the sinks shows.

    Raises:
        ConfigError: naming both.
    """
    taken = parse(source)
    for sink in map(parse, sinks):
        if taken.scheme in _READ and sink.scheme in _WRITTEN:
            if _is_at(taken, sink):
                raise ConfigError(
                    f"{sink} would be written where the source {taken} is read: name another place"
                )
        elif taken.scheme == sink.scheme and _finds(taken, sink):
            raise ConfigError(
                f"the source {taken} would find our own {sink}: name the sender that you mean, "
                "and the sink differently (for feedback there is the parameter image_loopback)"
            )


def _finds(source: Address, sink: Address) -> bool:
    """Whether the source's technology would take our sink for the sender that is meant."""
    wanted, own = source.target.strip("/"), sink.target.strip("/") or "dreamrelay"
    if source.scheme == "spout":
        return wanted in ("", own)
    if source.scheme == "ndi":
        own = f"{platform.node()} ({own})"
    return source.scheme in ("ndi", "syphon") and wanted.lower() in own.lower()


def _is_at(source: Address, sink: Address) -> bool:
    """Whether the sink's file is the source's, or one of the pictures in the source's folder."""
    read, written = source.path.resolve(), sink.path.resolve()
    return written == read or (written.parent == read and sink.scheme != "record" and read.is_dir())
