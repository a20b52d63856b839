"""What lies in the worker's mailboxes, and the way of a computed picture into a packet."""

import base64
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Generic, TypeVar

import numpy as np
from numpy.typing import NDArray

from dreamrelay.codec import Frame, decode, encode_bytes, resize
from dreamrelay.errors import EngineError, ProtocolError
from dreamrelay.packet import Codec, Hop, Packet, Stamp

T = TypeVar("T")

Mask = NDArray[np.uint8]

LEAST_QUALITY = 30
LEAST_SIDE = 16
"""Smaller than this no answer is made, however few bytes are asked for."""


@dataclass(frozen=True, slots=True)
class Batch(Generic[T]):
    """What waits in a mailbox of the worker: the newest live item, and every request.

    ``packets`` counts what went in, replaced ones too: as many credits go back, on the connection
    that they came on (``session``).
    """

    newest: T | None = None
    requests: tuple[T, ...] = ()
    packets: int = 0
    session: int = 0

    def merge(self, newer: "Batch[T]") -> "Batch[T]":
        newest = self.newest if newer.newest is None else newer.newest
        requests = self.requests + newer.requests
        return Batch(newest, requests, self.packets + newer.packets, newer.session)

    def merge_packets(self, newer: "Batch[T]") -> "Batch[T]":
        """As ``merge``; but what came on an earlier connection is nobody's concern any more."""
        return newer if newer.session != self.session else self.merge(newer)

    def items(self) -> tuple[T, ...]:
        """Requests first: somebody waits for each of them."""
        return self.requests if self.newest is None else (*self.requests, self.newest)


@dataclass(frozen=True, slots=True)
class Asked:
    """What a request asks for, besides its picture."""

    patch: Mapping[str, Any]
    max_bytes: int | None = None


@dataclass(frozen=True, slots=True)
class Intake:
    """A packet as it came, and on which connection; ``asked`` if it is a request."""

    packet: Packet
    session: int
    asked: Asked | None = None


@dataclass(frozen=True, slots=True)
class Job:
    """A frame to be computed; of its packet only the header is kept.

    ``alone``: not as a part of the stream, but as one picture for a trigger. ``mask``: where the
    picture may be seen, uint8 of the frame's size; None: everywhere.
    """

    frame: Frame
    seq: int
    captured_ns: int
    session: int
    stamps: tuple[Stamp, ...] = ()
    asked: Asked | None = None
    alone: bool = False
    mask: Mask | None = None

    def but(self, hop: Hop) -> "Job":
        """The same, one hop further."""
        return replace(self, stamps=(*self.stamps, Stamp(hop, time.time_ns())))


@dataclass(frozen=True, slots=True)
class Done:
    """A computed picture and the job it was made from.

    Attributes:
        control: what steered the engine, to look at; None where nobody does.
        preview: the engine is still at it.
    """

    frame: Frame
    job: Job
    revision: int
    repeated: bool = False
    control: Frame | None = None
    preview: bool = False


@dataclass(frozen=True, slots=True)
class Reference:
    """A picture to imitate as it came, in base64; None: imitate none any more."""

    image: str | None

    def picture(self) -> Frame | None:
        """Its pixels.

        Raises:
            ProtocolError: they cannot be read.
        """
        if self.image is None:
            return None
        try:
            data = base64.b64decode(self.image, validate=True)
        except ValueError as error:  # other letters than ASCII are no binascii.Error
            raise ProtocolError(f"the picture to imitate is no base64: {error}") from None
        return decode(data)


@dataclass(frozen=True, slots=True)
class Patch:
    """Values to bring into force, and the revision that they are."""

    values: Mapping[str, Any]
    revision: int | None = None

    def merge(self, newer: "Patch") -> "Patch":
        revision = self.revision if newer.revision is None else newer.revision
        return Patch({**self.values, **newer.values}, revision)


def encode_within(frame: Frame, quality: int, max_bytes: int | None) -> bytes:
    """Encode as JPEG, worse and then smaller until it fits in ``max_bytes``.

    Raises:
        EngineError: it would be too small to be a picture.
    """
    data = encode_bytes(frame, Codec.JPEG, quality=quality)
    while max_bytes is not None and len(data) > max_bytes:
        if quality > LEAST_QUALITY:
            quality = max(LEAST_QUALITY, quality - 15)
        else:
            height, width = frame.shape[:2]
            if max(height, width) <= LEAST_SIDE:
                raise EngineError(f"no picture fits in {max_bytes} bytes")
            frame = resize(frame, max(1, width * 3 // 4), max(1, height * 3 // 4), "stretch")
        data = encode_bytes(frame, Codec.JPEG, quality=quality)
    return data


def to_packet(done: Done, frame: Frame, data: bytes) -> Packet:
    """The packet of a picture of ``done``, encoded as ``data``."""
    height, width = frame.shape[:2]
    job = done.job
    return Packet(
        data,
        Codec.JPEG,
        width,
        height,
        job.seq,
        job.captured_ns,
        done.revision,
        job.stamps,
        preview=done.preview,
    ).stamped(Hop.REENCODED)
