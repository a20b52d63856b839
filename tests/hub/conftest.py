"""What the tests of the hub share."""

import pytest

from tests.fakes.hub import Room


@pytest.fixture
def room() -> Room:
    return Room()
