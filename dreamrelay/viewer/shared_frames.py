"""Pictures from one process to another in shared memory: three slots, newest wins, no waiting.

One writer, one reader. The writer fills a slot that is neither the newest nor the one the reader
holds, then names it the newest; the reader names the slot it copies from. So neither waits, and no
slot is read while it is written. A sequence number checked after the copy guards the moments when
memory is laid out anew for bigger pictures.

The memory has no name that could be left behind (a tagged page file section on Windows): it
vanishes with the last process that holds it, however that one ended. It begins with 64-bit words::

    0 generation   counts layouts; changes when slots grow
    1 capacity     bytes of pixels in a slot
    2 newest       sequence number * 4 + slot, 0 before the first picture
    3 held         slot + 1 that the reader copies from, 0 for none
    4 status       version of the status text, odd while it is written
    5 status size  bytes of it
    6 note         version of the note, odd while it is written
    7 note size    bytes of it
    8 + 8 * slot   sequence number, width, height, info size, written at (UNIX ns)
    32 recording   since when pictures are recorded (UNIX ns), 0 for not
    33 stand-in    what the stream's viewers are shown in place of results, see STAND_INS
    34 awaited     1: the reader wants to be told of the next picture

then the info texts (JSON), the status text, the note, and from ``PIXELS_AT`` on the slots.
"""

import json
import mmap
import os
import secrets
import sys
import tempfile
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass
from types import TracebackType
from typing import Self

import numpy as np
from numpy.typing import NDArray

SLOTS = 3
GENERATION, CAPACITY, NEWEST, HELD, STATUS, STATUS_SIZE, NOTE, NOTE_SIZE = range(8)
SLOT_WORDS = 8
RECORDING = 8 + SLOTS * SLOT_WORDS
STAND_IN = RECORDING + 1
AWAITED = STAND_IN + 1
STAND_INS = ("", "held", "pass", "slate")
"""Nothing; the last picture; the camera's pictures; a picture for that."""
SEQ, WIDTH, HEIGHT, INFO_SIZE, WRITTEN = range(5)

INFO_AT = 4096
INFO_LIMIT = 4096
STATUS_AT = INFO_AT + SLOTS * INFO_LIMIT
STATUS_LIMIT = 4096
NOTE_AT = STATUS_AT + STATUS_LIMIT
PIXELS_AT = 65536
"""A multiple of every system's granularity for mapping memory."""

PAGE = 4096
ATTEMPTS = 8
TEXT_LIMIT = 600
"""Characters of one text in the info; a longer prompt is cut, not refused."""


@dataclass(frozen=True, slots=True)
class Picture:
    """What a reader took: its own copy of the pixels, and what the writer said about them."""

    pixels: NDArray[np.uint8]
    seq: int
    written_ns: int
    info: Mapping[str, object]


class Memory:
    """Memory that grows, which another process opens by its handle.

    On POSIX the handle is a file descriptor that the child inherits (``pass_fds``), on Windows a
    tag."""

    def __init__(self, handle: str | None = None) -> None:
        self.handle = handle if handle is not None else _create()

    def map(self, generation: int, offset: int, size: int) -> mmap.mmap:
        """Map ``size`` bytes from ``offset`` on, the same for all who map this generation."""
        if sys.platform == "win32":
            return mmap.mmap(-1, size, tagname=f"{self.handle}-{generation}")
        descriptor = int(self.handle)
        if os.fstat(descriptor).st_size < offset + size:
            os.ftruncate(descriptor, offset + size)
        return mmap.mmap(descriptor, size, offset=offset)

    @property
    def descriptors(self) -> tuple[int, ...]:
        """What ``subprocess.Popen`` must pass on."""
        return () if sys.platform == "win32" else (int(self.handle),)

    def close(self) -> None:
        if sys.platform != "win32":
            os.close(int(self.handle))


def _create() -> str:
    if sys.platform == "win32":
        return f"Local\\dreamrelay-{secrets.token_hex(16)}"
    if sys.platform == "linux":
        return str(os.memfd_create("dreamrelay-viewer"))
    with tempfile.TemporaryFile(prefix="dreamrelay-viewer-") as file:
        return str(os.dup(file.fileno()))


class _Mapped:
    """What writer and reader share: the words, the texts, the pixels, and how to let go of them."""

    def __init__(self, memory: Memory) -> None:
        self.memory = memory
        self._head = memory.map(0, 0, PIXELS_AT)
        self._words = memoryview(self._head).cast("Q")
        self._lock = threading.Lock()
        self._generation = 0
        self._capacity = 0
        self._body: mmap.mmap | None = None
        self._pixels = np.empty(0, np.uint8)
        self._closed = False

    def close(self) -> None:
        """Let the memory go; idempotent."""
        if self._closed:
            return
        self._closed = True
        self._unmap()
        self._words.release()
        self._head.close()
        self.memory.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def _map(self, generation: int, capacity: int) -> None:
        self._unmap()
        self._body = self.memory.map(generation, PIXELS_AT, SLOTS * capacity)
        self._pixels = np.frombuffer(self._body, np.uint8)
        self._generation, self._capacity = generation, capacity

    def _unmap(self) -> None:
        # numpy's view must go first: a mapping cannot be closed under a view.
        self._pixels = np.empty(0, np.uint8)
        if self._body is not None:
            self._body.close()
            self._body = None

    def _fence(self) -> None:
        """Order what is written before this line before what follows, for other cores too.

        x86 would keep most of that order by itself; ARM does not. A lock taken twice is the fence
        that Python has: nothing sinks below the first release, nothing rises above the second
        acquire."""
        with self._lock:
            pass
        with self._lock:
            pass


class FrameWriter(_Mapped):
    """The side that makes pictures. ``write`` never waits for the reader. One thread at a time."""

    def __init__(self) -> None:
        super().__init__(Memory())
        self._seq = 0

    @property
    def handle(self) -> str:
        """What :class:`FrameReader` opens this memory with."""
        return self.memory.handle

    def write(self, frame: NDArray[np.uint8], info: Mapping[str, object] | None = None) -> int:
        """Make a picture the newest, by one copy; returns its sequence number.

        Raises:
            ValueError: it is not a frame (uint8, H x W x 3).
        """
        if frame.dtype != np.uint8 or frame.ndim != 3 or frame.shape[2] != 3 or frame.size == 0:
            raise ValueError(f"expected a frame, uint8 H x W x 3, got {frame.dtype} {frame.shape}")
        if frame.size > self._capacity:
            self._grow(frame.size)
        words = self._words
        self._fence()
        newest, held = words[NEWEST], words[HELD]
        taken = {newest & 3 if newest else -1, held - 1}
        slot = next(slot for slot in range(SLOTS) if slot not in taken)
        at = 8 + SLOT_WORDS * slot
        words[at + SEQ] = 0
        self._fence()
        start = slot * self._capacity
        np.copyto(self._pixels[start : start + frame.size].reshape(frame.shape), frame)
        text = _encode(info or {})
        self._head[INFO_AT + slot * INFO_LIMIT : INFO_AT + slot * INFO_LIMIT + len(text)] = text
        self._seq += 1
        words[at + WIDTH], words[at + HEIGHT] = frame.shape[1], frame.shape[0]
        words[at + INFO_SIZE] = len(text)
        words[at + WRITTEN] = time.time_ns()
        words[at + SEQ] = self._seq
        self._fence()
        words[NEWEST] = self._seq * 4 + slot
        return self._seq

    def awaited(self) -> bool:
        """Is the reader to be told of the picture that was just written? True once for each time
        that it asked.
        """
        self._fence()
        asked = self._words[AWAITED] != 0
        if asked:
            self._words[AWAITED] = 0
        return asked

    def set_status(self, text: str) -> None:
        """Leave one line for people, shown until the first picture comes."""
        self._put(STATUS, STATUS_AT, text)

    def set_note(self, text: str) -> None:
        """Leave one line that is shown over the picture for a moment."""
        self._put(NOTE, NOTE_AT, text)

    def set_recording(self, since_ns: int) -> None:
        """Say since when pictures are recorded (UNIX time in ns); 0: they are not."""
        self._words[RECORDING] = since_ns

    def set_stand_in(self, word: str) -> None:
        """Say what the stream's viewers are shown in place of results; what is unknown is none."""
        self._words[STAND_IN] = STAND_INS.index(word) if word in STAND_INS else 0

    def _put(self, word: int, at: int, text: str) -> None:
        """Write a text and its size, under a version that is odd meanwhile."""
        data = text.encode(errors="replace")[:STATUS_LIMIT]
        version = self._words[word]
        self._words[word] = version + 1
        self._fence()
        self._head[at : at + len(data)] = data
        self._words[word + 1] = len(data)
        self._fence()
        self._words[word] = version + 2

    def forget_reader(self) -> None:
        """Free the slot that a reader held when it died."""
        self._words[HELD] = self._words[AWAITED] = 0

    def _grow(self, size: int) -> None:
        capacity = -(-size // PAGE) * PAGE
        self._words[NEWEST] = 0
        self._words[CAPACITY] = capacity
        self._map(self._generation + 1, capacity)
        self._fence()
        self._words[GENERATION] = self._generation
        self._fence()


class FrameReader(_Mapped):
    """The side that shows pictures. One thread."""

    def __init__(self, handle: str) -> None:
        super().__init__(Memory(handle))
        self._seen = 0
        self._versions = {STATUS: 0, NOTE: self._words[NOTE]}
        """Of the texts that were taken; a note from before this window was for another one."""

    @property
    def recording(self) -> int:
        """Since when pictures are recorded (UNIX time in ns), 0 if they are not."""
        since: int = self._words[RECORDING]
        return since

    @property
    def stand_in(self) -> str:
        """What the stream's viewers are shown in place of results, of STAND_INS."""
        number: int = self._words[STAND_IN]
        return STAND_INS[number]

    @property
    def waiting(self) -> bool:
        """Is there a picture that was not taken yet? Costs one look at one word."""
        newest: int = self._words[NEWEST]
        return newest not in (0, self._seen)

    def await_next(self) -> None:
        """Ask to be told of the next picture; look for one that is there already after that."""
        self._words[AWAITED] = 1
        self._fence()

    def take(self) -> Picture | None:
        """Take the newest picture; None if it was taken already, or there is none."""
        words = self._words
        for _ in range(ATTEMPTS):
            newest: int = words[NEWEST]
            if newest in (0, self._seen):
                return None
            words[HELD] = (newest & 3) + 1
            self._fence()
            # Once it is held *and* still the newest, the writer will not touch it.
            if words[NEWEST] != newest:
                continue
            picture = self._copy(newest & 3, newest >> 2)
            words[HELD] = 0
            if picture is not None:
                self._seen = newest
                return picture
        return None

    def take_status(self) -> str | None:
        """Take the status text if it changed."""
        return self._get(STATUS, STATUS_AT)

    def take_note(self) -> str | None:
        """Take the note if there is a new one."""
        return self._get(NOTE, NOTE_AT)

    def _get(self, word: int, at: int) -> str | None:
        version: int = self._words[word]
        if version == self._versions[word] or version % 2:
            return None
        self._fence()
        data = bytes(self._head[at : at + min(self._words[word + 1], STATUS_LIMIT)])
        self._fence()
        if self._words[word] != version:
            return None
        self._versions[word] = version
        return data.decode(errors="ignore")

    def _copy(self, slot: int, seq: int) -> Picture | None:
        words = self._words
        generation = words[GENERATION]
        if generation != self._generation:
            capacity = words[CAPACITY]
            self._fence()
            if words[GENERATION] != generation:
                return None
            self._map(generation, capacity)
        at = 8 + SLOT_WORDS * slot
        width, height, written = words[at + WIDTH], words[at + HEIGHT], words[at + WRITTEN]
        size = width * height * 3
        if size == 0 or size > self._capacity:
            return None
        start = slot * self._capacity
        pixels = self._pixels[start : start + size].copy().reshape(height, width, 3)
        text_at = INFO_AT + slot * INFO_LIMIT
        text = bytes(self._head[text_at : text_at + min(words[at + INFO_SIZE], INFO_LIMIT)])
        self._fence()
        if words[GENERATION] != generation or words[at + SEQ] != seq:
            return None
        return Picture(pixels, seq, written, json.loads(text))


def _encode(info: Mapping[str, object]) -> bytes:
    """Info as JSON that fits its place: long texts are cut, then the last names left out."""
    plain = {str(name): _plain(value) for name, value in info.items()}
    while len(data := json.dumps(plain, ensure_ascii=False).encode(errors="replace")) > INFO_LIMIT:
        plain.popitem()
    return data


def _plain(value: object) -> object:
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, bool | int | float) or value is None:
        return value
    text = str(value)
    return text if len(text) <= TEXT_LIMIT else text[: TEXT_LIMIT - 1] + "…"
