"""One relay for all tests of a file: starting and draining one takes a third of a second."""

from collections.abc import Iterator

import pytest

from dreamrelay.config import RelaySettings
from tests.support import RunningRelay, start_relay


@pytest.fixture(scope="module")
def serving() -> Iterator[RunningRelay]:
    with start_relay(RelaySettings(port=0)) as running:
        yield running


@pytest.fixture
def relay(serving: RunningRelay) -> RunningRelay:
    """A relay that has no streams; whoever is still leaving does so at those of the test before."""
    serving.hub.streams = {}
    return serving
