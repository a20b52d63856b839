"""``null://``: a sink that takes everything and keeps nothing."""

from dreamrelay.codec import Frame
from dreamrelay.errors import ConfigError
from dreamrelay.media.address import Address, Options
from dreamrelay.media.ports import Sink


class NullSink(Sink):
    """Counts the frames that went nowhere."""

    def __init__(self) -> None:
        super().__init__()
        self.written = 0

    def write(self, frame: Frame) -> None:
        self.check(frame)
        self.written += 1


def open_null(address: Address) -> NullSink:
    if address.target:
        raise ConfigError(f"expected null:// without a name, got {address}")
    address.options(Options)
    return NullSink()
