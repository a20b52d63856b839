"""What is there now: cameras, screens, and what other programs send."""

import importlib.util
import json
import platform
import re
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from pathlib import Path

from dreamrelay.errors import DeviceError, DreamRelayError, MissingExtra
from dreamrelay.importer import Entry

_ROOM = "dreamrelay.media"
_PROBED_CAMERAS = 4


@dataclass(frozen=True, slots=True)
class Found:
    """Something that can be opened: its URL, and what else is known of it."""

    url: str
    name: str = ""


@dataclass(slots=True)
class Kind:
    """What there is of one technology; ``note`` says why there is nothing, or what is missing."""

    title: str
    found: list[Found] = field(default_factory=list)
    note: str = ""


def look(seconds: float = 1.5) -> list[Kind]:
    """Look everywhere at once.

    Args:
        seconds: how long senders on the network are given to answer.
    """
    looks: dict[str, Callable[[], list[Found]]] = {
        "cameras": _cameras,
        "screens": _screens,
        "Spout senders": _spout,
        "Syphon servers": _syphon,
        "NDI senders": lambda: _ndi(seconds),
        "virtual cameras": _virtual_cameras,
        "recordings": _recordings,
    }
    # Syphon's news come to the main thread's run loop, so that one is looked for here.
    with ThreadPoolExecutor(len(looks)) as pool:
        others = {
            title: pool.submit(_kind, title, act) for title, act in looks.items() if act != _syphon
        }
        here = {title: _kind(title, act) for title, act in looks.items() if act == _syphon}
        return [here[title] if title in here else others[title].result() for title in looks]


def as_text(kinds: list[Kind]) -> str:
    """For people: what there is, and one line for each technology that has nothing."""
    lines: list[str] = []
    for kind in kinds:
        lines.append(kind.title)
        for found in kind.found:
            url = f'"{found.url}"' if re.search(r"[^\w:/.%-]", found.url) else found.url
            lines.append(f"  {url:<40}{found.name}".rstrip())
        if kind.note or not kind.found:
            lines.append(f"  - {kind.note or 'none'}")
    return "\n".join(lines)


def as_json(kinds: list[Kind]) -> str:
    """For programs: ``{"cameras": {"found": [{"url": ..., "name": ...}], "note": ""}, ...}``."""
    content = {
        kind.title: {"found": [asdict(found) for found in kind.found], "note": kind.note}
        for kind in kinds
    }
    return json.dumps(content, indent=1, ensure_ascii=False)


def _kind(title: str, act: Callable[[], list[Found]]) -> Kind:
    try:
        return Kind(title, act())
    except DreamRelayError as error:
        return Kind(title, note=str(error))
    except (ImportError, OSError) as error:  # a package that is there, and does not load
        return Kind(title, note=f"cannot look: {type(error).__name__}: {error}")


def _url(scheme: str, name: str) -> str:
    """A name as it is, but for the characters that mean something in a URL."""
    return f"{scheme}://{name.replace('%', '%25').replace('?', '%3F')}"


def _cameras() -> list[Found]:
    if sys.platform == "linux":
        return list(_video4linux(Path("/sys/class/video4linux")))
    found = list(_probed())
    if not found:
        raise DeviceError("none can be opened: is one plugged in, allowed for this program, free?")
    return found


def _video4linux(folder: Path) -> Iterator[Found]:
    """The kernel's list; of the nodes of one device the first gives its pictures."""
    nodes = folder.glob("video*") if folder.is_dir() else []
    for node in sorted(nodes, key=lambda path: int(path.name.removeprefix("video"))):
        index = node / "index"
        if index.is_file() and index.read_text("utf-8").strip() != "0":
            continue
        name = (node / "name").read_text("utf-8").strip()
        yield Found(f"camera://{node.name.removeprefix('video')}", f"{name} (/dev/{node.name})")


def _probed() -> Iterator[Found]:
    """Open one after the other: these systems have no list that has cv2's numbers.

    One that another program has cannot be opened, and the next one perhaps can.
    """
    capture = Entry(f"{_ROOM}.opencv:Capture", "a camera", "producer").load()
    for number in range(_PROBED_CAMERAS):
        try:
            opened = capture(number, f"camera {number}", "")
        except DeviceError:
            continue
        try:
            picture = opened.read()
            known = "" if picture is None else f"{picture.shape[1]}x{picture.shape[0]}"
        except DeviceError as error:
            known = str(error)
        finally:
            opened.release()
        yield Found(f"camera://{number}", known)


def _screens() -> list[Found]:
    regions = Entry(f"{_ROOM}.screen:monitors", "screen capture", "producer").load()()
    return [
        Found(f"screen://{number}", f"{width}x{height} at {left},{top}")
        for number, (left, top, width, height) in enumerate(regions)
    ]


def _spout() -> list[Found]:
    if platform.system() != "Windows":
        raise DeviceError("Spout is a technology of Windows")
    there = Entry(f"{_ROOM}.spout:senders", "Spout", "spout").load()()
    return [Found(_url("spout", name), size) for name, size in there]


def _syphon() -> list[Found]:
    if platform.system() != "Darwin":
        raise DeviceError("Syphon is a technology of macOS")
    there = Entry(f"{_ROOM}.syphon:servers", "Syphon", "syphon").load()()
    return [Found(_url("syphon", name)) for name in there]


def _ndi(seconds: float) -> list[Found]:
    there = Entry(f"{_ROOM}.ndi:senders", "NDI", "ndi").load()(seconds)
    unseen = Entry(f"{_ROOM}.ndi:why_unseen", "NDI", "ndi").load()()
    if unseen and not there:
        raise DeviceError(unseen)
    return [Found(_url("ndi", name)) for name in there]


def _virtual_cameras() -> list[Found]:
    """Whether one could be opened is known when it is: opening shows a picture to who looks."""
    if importlib.util.find_spec("pyvirtualcam") is None:
        raise MissingExtra("a virtual camera", "virtualcam")
    return [Found("virtualcam://", "as a sink, if a driver (OBS, v4l2loopback) is installed")]


def _recordings() -> list[Found]:
    if importlib.util.find_spec("av") is None:
        raise MissingExtra("recording", "record")
    return [Found("record://show.mp4", "as a sink; also .mov")]
