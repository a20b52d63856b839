"""What waits at a stream batch: frames for a call of the model, pictures for being handed out.

A frame that is hardly another than the one before is not computed at all: what waits, or the last
picture again, goes out in its place.
"""

from collections import deque
from collections.abc import Iterable, Sequence
from typing import Any

from dreamrelay.codec import Frame
from dreamrelay.engines.condition import Flight
from dreamrelay.engines.masks import composite
from dreamrelay.engines.parameters import StreamBatchParameters
from dreamrelay.engines.ports import Mask, Result
from dreamrelay.engines.similar_image import SimilarImageFilter


class Waiting:
    """Frames that go in, and pictures that go out, of one stream.

    Args:
        size: frames in a call.

    Attributes:
        last: the picture that went out last.
        inferred, skipped: totals of the pictures and of the frames that were not computed.
    """

    def __init__(self, size: int) -> None:
        self.last: Frame | None = None
        self.inferred = self.skipped = 0
        self._size = size
        self._filter = SimilarImageFilter()
        self._gathered: list[tuple[Frame, Flight]] = []
        self._ready: deque[Result[Any]] = deque()

    def forget(self) -> None:
        """Give up what waits, and the last picture."""
        self._gathered.clear()
        self._ready.clear()
        self.last = None
        self._filter.reset()

    def adopt(self, parameters: StreamBatchParameters) -> None:
        """Take up new values."""
        self._filter.threshold = parameters.similar_image_filter_threshold
        self._filter.max_skip = parameters.similar_image_filter_max_skip_frame
        # The last picture was made under the old values: no frame is alike enough to repeat it.
        self._filter.reset(parameters.seed)

    def gather(self, frame: Frame, token: Any, mask: Mask | None) -> None:
        """Have a frame wait for its call."""
        flight = Flight(token)
        # What waits for others must not change when its owner reuses the memory.
        if self._size > 1 or mask is not None:
            frame = frame.copy()
        if mask is not None:
            flight.frame, flight.mask = frame, mask.copy()
        self._gathered.append((frame, flight))
        if self.last is None:
            # The first frame fills the buffer alone, so that there is a picture at once.
            self._gathered *= self._size

    @property
    def full(self) -> bool:
        """Whether there are frames enough for a call."""
        return len(self._gathered) >= self._size

    def gathered(self) -> tuple[list[Frame], list[Flight]]:
        """Take the frames that wait, and what travels with them."""
        frames = [frame for frame, _ in self._gathered]
        flights = [flight for _, flight in self._gathered]
        self._gathered.clear()
        return frames, flights

    def hand_in(
        self,
        pictures: Sequence[Frame],
        flights: Sequence[Flight],
        parameters: StreamBatchParameters,
    ) -> None:
        """Pictures are done: lay them over their frames where asked to."""
        for picture, flight in zip(pictures, flights, strict=True):
            if flight.mask is not None and flight.frame is not None:
                picture = laid(picture, flight.frame, flight.mask, parameters)
            self._ready.append(Result(picture, flight.token))

    def next(self) -> Result[Any] | None:
        """Hand out the picture that waits longest, if one does."""
        if not self._ready:
            return None
        result = self._ready.popleft()
        self.last = result.frame
        self.inferred += 1
        return result

    def failed(self) -> None:
        """No picture came of the frame that the next ones would be compared to."""
        self._filter.reset()

    def skips(self, frame: Frame, parameters: StreamBatchParameters, *, morphing: bool) -> bool:
        """Whether a frame need not be computed."""
        if not parameters.enable_similar_image_filter:
            return False
        if morphing:  # the picture is to change though the frame does not
            self._filter.reset()
            return False
        return self._filter.skips(frame) and self.last is not None

    def instead(self, token: Any, under_way: Iterable[Flight]) -> Result[Any] | None:
        """What goes out for a skipped frame: a picture that waits, or the last one again.

        Args:
            under_way: what travels with the frames whose pictures are still to come.
        """
        self.skipped += 1
        if self._ready:
            return self.next()
        # Pictures still to come must not go by tokens older than this one.
        for flight in (*under_way, *(waiting for _, waiting in self._gathered)):
            flight.token = token
        assert self.last is not None
        return Result(self.last, token, repeated=True)


def laid(picture: Frame, frame: Frame, mask: Mask, parameters: StreamBatchParameters) -> Frame:
    """A picture over its frame, where its mask shows it."""
    feather, strength = parameters.mask_feather, parameters.mask_strength
    return composite(picture, frame, mask, feather=feather, strength=strength)
