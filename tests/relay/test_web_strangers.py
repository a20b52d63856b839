"""What somebody from elsewhere may do at the doors of the web pages, token by token."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from websockets.exceptions import InvalidStatus
from websockets.sync.client import ClientConnection, connect

from tests.relay.clients import answer, hear, native, say
from tests.relay.pages import data_url
from tests.relay.strangers import as_stranger, open_relay
from tests.support import RunningRelay, picture, until

UUID = "3f2b8c1e-5d47-4b1a-9f0e-7a6c5d4e3f21"
BROADCASTER, VIEWER = "/ws/broadcaster/alice", "/ws/viewer/alice"
LISTING, PAGE = "/ws/viewer/listing_x", f"/api/ws/{UUID}"


@pytest.fixture(scope="module")
def strange() -> Iterator[RunningRelay]:
    with open_relay(speech="off") as relay:
        yield relay


@contextmanager
def stranger(relay: RunningRelay, path: str, token: str) -> Iterator[ClientConnection]:
    headers = as_stranger(token)
    with connect(relay.websocket + path, additional_headers=headers) as websocket:
        yield websocket


def hear_of(websocket: ClientConnection, kind: str, word: str = "type") -> dict[str, Any]:
    while True:
        message = hear(websocket)
        if message[word] == kind:
            return message


@pytest.mark.parametrize("path", [BROADCASTER, VIEWER, LISTING, PAGE, "/ws"])
def test_without_a_token_nobody_comes_in(strange: RunningRelay, path: str) -> None:
    with (
        pytest.raises(InvalidStatus) as refused,
        connect(strange.websocket + path, additional_headers={"X-Forwarded-For": "192.0.2.1"}),
    ):
        pass
    assert refused.value.response.status_code == 401
    assert not strange.hub.streams


@pytest.mark.parametrize(
    ("path", "token"),
    [
        (BROADCASTER, "view"),
        (BROADCASTER, "control"),
        (BROADCASTER, "stage"),
        (VIEWER, "publish"),
        (LISTING, "publish"),
        (LISTING, "stage"),
        (PAGE, "view"),
        (PAGE, "stage"),
    ],
)
def test_a_token_for_something_else(strange: RunningRelay, path: str, token: str) -> None:
    with pytest.raises(InvalidStatus) as refused, stranger(strange, path, token):
        pass
    assert refused.value.response.status_code == 403
    assert not strange.hub.streams


@pytest.mark.parametrize(
    ("method", "path", "token"),
    [
        ("GET", f"/api/stream/{UUID}", "publish"),
        ("GET", "/api/settings", "publish"),
        ("GET", "/api/queue", "publish"),
        ("GET", "/streams", "stage"),
        ("GET", "/processors", "publish"),
        ("POST", "/api/stt", "view"),
        ("POST", "/api/ip_ref_image", "view"),
        ("POST", "/api/ip_ref_image/clear", "publish"),
    ],
)
def test_over_http_too(strange: RunningRelay, method: str, path: str, token: str) -> None:
    headers = {name.replace("-", "_"): value for name, value in as_stranger(token).items()}
    assert answer(strange, path, method, b"", **headers)[0] == 403
    assert answer(strange, path, method, b"", X_Forwarded_For="192.0.2.1")[0] == 401


def test_who_may_only_publish_changes_nothing_and_sees_nothing(strange: RunningRelay) -> None:
    path = f"{BROADCASTER}?processor_type=standard"
    schema = {"properties": {"profile": {"enum": ["standard", "lightning"]}, "prompt": {}}}
    hello = {"schema": schema, "parameters": {"prompt": "", "profile": "lightning"}}
    with (
        native_as(strange, "work", "worker", "alice", **hello) as worker,
        stranger(strange, path, "publish") as camera,
    ):
        assert hear(camera)["type"] == "processor_info"
        say(camera, type="update_prompt", prompt="ink")
        assert "control" in hear_of(camera, "error")["message"]
        say(camera, type="subscribe_to_processed_frames")
        hear_of(camera, "subscription_confirmed")
        say(camera, type="frame", frame=data_url())
        worker.send_picture(picture("blue"), "output", seq=worker.packet().seq)
        until(lambda: strange.hub.streams["alice"].tracks["output"].last)
        say(camera, type="get_latest_frame")
        assert hear_of(camera, "latest_frame")["frame"] is None
        assert strange.hub.streams["alice"].values == {"prompt": "", "profile": "lightning"}


def test_who_may_see_one_stream_hears_of_no_other(strange: RunningRelay) -> None:
    with (
        stranger(strange, "/ws/broadcaster/stage", "stage") as camera,
        stranger(strange, BROADCASTER, "all") as other,
    ):
        hear(camera)
        hear(other)
        say(camera, type="check_stream_status", streamId="alice")
        assert not hear_of(camera, "stream_status")["active"]
        say(other, type="check_stream_status", streamId="stage")
        assert hear_of(other, "stream_status")["active"]
        with stranger(strange, LISTING, "view") as home:
            say(home, type="list_streams")
            assert hear(home) == {"type": "streams_list", "streams": ["alice", "stage"]}


def test_a_page_that_may_publish_but_not_control(strange: RunningRelay) -> None:
    with stranger(strange, PAGE, "publish") as page:
        hear_of(page, "send_frame", "status")
        page.send('{"status":"next_frame"}')
        page.send(json.dumps({"prompt": "ink"}))
        assert "control" in hear_of(page, "warning", "status")["message"]
        page.send(picture())
        assert strange.hub.streams[UUID].values == {}


@contextmanager
def native_as(
    relay: RunningRelay, token: str, role: str, stream: str, **hello: Any
) -> Iterator[Any]:
    """A native peer that shows a token in its address."""
    shown = as_stranger(token)["Authorization"].partition(" ")[2]
    with native(relay, role, f"?token={shown}", stream, **hello) as client:
        client.text("parameters")
        yield client
