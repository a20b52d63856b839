"""Schemes of source and sink URLs to import strings.

A row's target takes the :class:`~dreamrelay.media.address.Address` and returns the opened source or
sink.
"""

from collections.abc import Mapping
from pathlib import Path

from dreamrelay.errors import ConfigError, DeviceError, ProtocolError
from dreamrelay.importer import Entry
from dreamrelay.media.address import (
    PATH,
    PICTURE_SUFFIXES,
    VIDEO_SUFFIXES,
    Address,
    parse,
    suggestion,
)
from dreamrelay.media.ports import Sink, Source
from dreamrelay.packet import inspect

_ROOM = "dreamrelay.media"

SOURCES: dict[str, Entry] = {
    "camera": Entry(f"{_ROOM}.camera:open_camera", "a camera", "producer"),
    "directory": Entry(f"{_ROOM}.pictures:open_directory", "pictures of a folder", "producer"),
    "dream": Entry(f"{_ROOM}.dream:open_dream", "a dream", "producer"),
    "file": Entry(f"{_ROOM}.pictures:open_picture", "a picture file", "producer"),
    "http": Entry(f"{_ROOM}.video:open_stream", "a video stream", "producer"),
    "https": Entry(f"{_ROOM}.video:open_stream", "a video stream", "producer"),
    "ndi": Entry(f"{_ROOM}.ndi:open_ndi_source", "NDI", "ndi"),
    "pattern": Entry(f"{_ROOM}.pattern:open_pattern", "a test pattern", "producer"),
    "rtsp": Entry(f"{_ROOM}.video:open_stream", "a video stream", "producer"),
    "screen": Entry(f"{_ROOM}.screen:open_screen", "screen capture", "producer"),
    "spout": Entry(f"{_ROOM}.spout:open_spout_source", "Spout", "spout"),
    "syphon": Entry(f"{_ROOM}.syphon:open_syphon_source", "Syphon", "syphon"),
    "video": Entry(f"{_ROOM}.video:open_video", "a video file", "producer"),
    "webcam": Entry(f"{_ROOM}.camera:open_camera", "a camera", "producer"),
}
SINKS: dict[str, Entry] = {
    "file": Entry(f"{_ROOM}.pictures:open_snapshots", "picture files", "producer"),
    "ndi": Entry(f"{_ROOM}.ndi:open_ndi_sink", "NDI", "ndi"),
    "null": Entry(f"{_ROOM}.null:open_null", "the null sink", "producer"),
    "record": Entry(f"{_ROOM}.record:open_record", "recording", "record"),
    "spout": Entry(f"{_ROOM}.spout:open_spout_sink", "Spout", "spout"),
    "syphon": Entry(f"{_ROOM}.syphon:open_syphon_sink", "Syphon", "syphon"),
    "virtualcam": Entry(
        f"{_ROOM}.virtualcam:open_virtual_camera", "the virtual camera", "virtualcam"
    ),
}

_COME_AND_GO = frozenset("camera http https ndi rtsp screen spout syphon webcam".split())


def comes_and_goes(url: str) -> bool:
    """Whether what a source URL names is a device or a sender, which may be there later."""
    return parse(url).scheme in _COME_AND_GO


def source_schemes() -> list[str]:
    return sorted(SOURCES)


def sink_schemes() -> list[str]:
    return sorted(SINKS)


def open_source(url: str = "pattern://bars") -> Source:
    """Open what frames come from: a URL of one of :func:`source_schemes`, or a path.

    A path may lead to a picture, a folder of pictures or a video; the name's ending decides, and
    where it says nothing, the file's first bytes.

    Raises:
        ConfigError: the address or its options are wrong.
        DeviceError: nothing is there, or it cannot be read.
        MissingExtra: a package is not installed.
    """
    address = parse(url)
    scheme = _kind_of(address) if address.scheme == PATH else address.scheme
    source = _entry(SOURCES, "source", scheme, address).load()(address)
    assert isinstance(source, Source)
    return source


def open_sink(url: str) -> Sink:
    """Open where frames go to: a URL of one of :func:`sink_schemes`, or the path of a picture file.

    Raises:
        ConfigError, DeviceError, MissingExtra: as for :func:`open_source`.
    """
    address = parse(url)
    scheme = "file" if address.scheme == PATH else address.scheme
    sink = _entry(SINKS, "sink", scheme, address).load()(address)
    assert isinstance(sink, Sink)
    return sink


def _entry(table: Mapping[str, Entry], kind: str, scheme: str, address: Address) -> Entry:
    entry = table.get(scheme)
    if entry is None:
        known = sorted(table)
        raise ConfigError(
            f"expected a path or a {kind} URL ({', '.join(f'{name}://' for name in known)}), "
            f"got {address}{suggestion(scheme, known)}"
        )
    return entry


def _kind_of(address: Address) -> str:
    """Say which scheme opens a plain path."""
    path = address.path
    try:
        if path.is_dir():
            return "directory"
        if not path.exists():
            raise DeviceError(
                f"expected a picture, a folder, a video or a URL such as pattern://bars, "
                f"but nothing is at {str(path)!r}"
            )
        suffix = path.suffix.lower()
        if suffix in PICTURE_SUFFIXES or suffix in VIDEO_SUFFIXES:
            return "file" if suffix in PICTURE_SUFFIXES else "video"
        return "file" if _begins_like_a_picture(path) else "video"
    except OSError as error:
        raise DeviceError(f"cannot look at {str(path)!r}: {error.strerror}") from error


def _begins_like_a_picture(path: Path) -> bool:
    with path.open("rb") as file:
        head = file.read(1 << 20)
    try:
        inspect(head)
    except ProtocolError:
        return False
    return True
