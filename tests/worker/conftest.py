"""A worker that a test starts, and people at its relay."""

from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any

import pytest

from dreamrelay.config import WorkerSettings
from dreamrelay.worker import Worker
from tests.fakes.engines import ScriptedEngine
from tests.fakes.peers import People
from tests.fakes.running import Running
from tests.fakes.workers import Work
from tests.support import RunningRelay


@pytest.fixture
def work() -> Iterator[Work]:
    """Start a worker: ``work(relay.websocket, engine, prompt="blue")``."""
    with ExitStack() as stack:

        def start(
            uri: str, engine: ScriptedEngine | None = None, **settings: Any
        ) -> Running[Worker]:
            off = {"osc_port": None, "viewer": "off", "text_to_picture": "off", "matting": "off"}
            given = {**off, **settings}
            worker = Worker(
                WorkerSettings(websocket_uri=uri, **given), engine=engine or ScriptedEngine()
            )
            running = Running(worker)
            stack.callback(running.stop)
            return running

        yield start


@pytest.fixture
def people(relay: RunningRelay) -> Iterator[People]:
    """A producer and a viewer of both tracks at the relay."""
    with People(relay.websocket) as people:
        yield people
