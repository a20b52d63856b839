"""Every route there is, by itself: requests made up from the relay's own description of them, and
each of them by a stranger. A new route is in here without anybody writing it down.
"""

import re
from collections.abc import Iterator, Sequence
from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, given, settings
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import negative_data_rejection, positive_data_acceptance
from starlette.routing import BaseRoute, Route, WebSocketRoute
from websockets.exceptions import InvalidStatus
from websockets.sync.client import connect

from dreamrelay.config import RelaySettings
from dreamrelay.relay.app import Relay
from tests.relay.clients import answer, problem
from tests.relay.strangers import open_relay
from tests.support import RunningRelay, start_relay

EXAMPLES = 6

ENDLESS = ("/mjpeg", "/api/stream/")
"""Their answers do not end; ``test_http.py`` reads them part by part."""

OPEN = {"/healthz", "/static/{name}", "/favicon.ico"}
VALUES = {"name": "a", "stream": "a", "role": "viewer"}
UUID = "3f2b8c1e-5d47-4b1a-9f0e-7a6c5d4e3f21"


@schemathesis.serializer("audio/webm", "audio/ogg", "audio/mp4", "audio/wav", "audio/mpeg")
def as_they_are(_: Any, value: Any) -> bytes:
    """Recordings are bytes."""
    return value if isinstance(value, bytes) else str(value).encode("utf-8", "surrogatepass")


APP = Relay(RelaySettings(port=0)).app
_FOUND: list[Any] = list(schemathesis.openapi.from_dict(APP.openapi()).get_all_operations())
DESCRIBED = [operation.ok() for operation in _FOUND]


@pytest.fixture(scope="module")
def serving() -> Iterator[RunningRelay]:
    """Nobody listens: loading what would takes longer than all the rest."""
    with start_relay(RelaySettings(port=0, speech="off")) as running:
        yield running


@pytest.mark.parametrize(
    "operation",
    [o for o in DESCRIBED if not any(part in o.path for part in ENDLESS)],
    ids=lambda o: f"{o.method} {o.path}",
)
def test_what_is_described_is_what_happens(relay: RunningRelay, operation: Any) -> None:
    """No request breaks the relay, and its answers are those that it describes."""

    @given(case=operation.as_strategy())
    @settings(
        max_examples=EXAMPLES,
        database=None,
        derandomize=True,
        suppress_health_check=list(HealthCheck),
    )
    def ask(case: Any) -> None:
        response = case.call(base_url=relay.url.rstrip("/"), timeout=30)
        assert response.status_code < 500 or response.status_code == 503
        case.validate_response(
            response,
            excluded_checks=[
                not_a_server_error,  # it counts 503, which says what is not installed
                # The description cannot say all: a patch must suit the worker, a picture be one.
                positive_data_acceptance,
                negative_data_rejection,
            ],
        )

    ask()
    assert answer(relay, "/healthz")[0] == 200


def routes(found: Sequence[BaseRoute]) -> Iterator[BaseRoute]:
    """All of them, those of included routers too."""
    for route in found:
        inner = getattr(route, "original_router", None)
        if inner is None:
            yield route
        else:
            yield from routes(inner.routes)


def filled(route: Route | WebSocketRoute) -> str:
    """The path with something for each of its parameters."""
    return re.sub(r"{(\w+)(:\w+)?}", lambda m: VALUES.get(m[1], UUID), route.path)


REQUESTS = [
    (method, filled(route))
    for route in routes(APP.routes)
    if isinstance(route, Route) and route.path not in OPEN
    for method in sorted(route.methods or ())
]
SOCKETS = [filled(route) for route in routes(APP.routes) if isinstance(route, WebSocketRoute)]


@pytest.fixture(scope="module")
def strange() -> Iterator[RunningRelay]:
    with open_relay(max_connections_per_address=0, max_messages_per_second=0) as relay:
        yield relay


@pytest.mark.parametrize(("method", "path"), REQUESTS)
def test_a_stranger_is_refused_on_every_route(
    strange: RunningRelay, method: str, path: str
) -> None:
    status, _, body = answer(strange, path, method, b"{}" if method != "GET" else None)
    assert status == 401
    if method != "HEAD":
        assert problem(body)["code"] == "auth"


@pytest.mark.parametrize("path", SOCKETS)
def test_and_on_every_websocket(strange: RunningRelay, path: str) -> None:
    with pytest.raises(InvalidStatus) as caught:
        connect(strange.websocket + path)
    assert caught.value.response.status_code == 401


def test_the_routes_are_looked_at() -> None:
    assert len(DESCRIBED) > 10
    assert len(REQUESTS) > 10
    assert len(SOCKETS) > 3
