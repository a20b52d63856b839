"""Who may: the rules by themselves, then a relay that listens elsewhere than on localhost."""

import json
import socket
from collections.abc import Iterator
from urllib.parse import urlsplit

import pytest
from starlette.datastructures import Headers
from websockets.exceptions import InvalidStatus
from websockets.sync.client import connect

from dreamrelay.config import RelaySettings
from dreamrelay.errors import AuthError
from dreamrelay.relay.app import Relay
from dreamrelay.relay.auth import COOKIE, Gate, is_loopback, make_token
from tests.relay.clients import answer, native, problem, seed
from tests.support import RunningRelay, start_relay

LOCAL, REMOTE = "127.0.0.1", "192.0.2.7"
OPEN = Gate("secret", frozenset({"https://stage.example"}))


def check(
    gate: Gate = OPEN,
    client: str = LOCAL,
    *,
    token: str | None = None,
    **headers: str,
) -> int:
    """200, or the status of the refusal."""
    query = {} if token is None else {"token": [token]}
    given = Headers({"host": "localhost:8765", **headers})
    try:
        gate.check(given, query, client)
    except AuthError as error:
        return error.status
    return 200


class TestGate:
    @pytest.mark.parametrize("client", ["127.0.0.1", "127.9.9.9", "::1"])
    def test_this_machine_is_trusted(self, client: str) -> None:
        assert check(client=client) == 200

    @pytest.mark.parametrize("client", [REMOTE, "::2", "10.0.0.1", "0.0.0.0", "localhost", ""])
    def test_others_need_a_token(self, client: str) -> None:
        assert check(client=client) == 401
        assert check(client=client, token="wrong") == 401
        assert check(client=client, token="secret") == 200
        assert check(client=client, token="sécret") == 401

    def test_without_a_token_nobody_comes_in_from_elsewhere(self) -> None:
        for token in (None, "", "None", "secret"):
            assert check(Gate(), REMOTE, token=token) == 401
        assert check(Gate(), REMOTE, authorization="Bearer ") == 401

    def test_where_a_token_may_be_shown(self) -> None:
        assert check(client=REMOTE, authorization="Bearer secret") == 200
        assert check(client=REMOTE, authorization="Bearer other") == 401
        assert check(client=REMOTE, cookie=f"a=b; {COOKIE}=secret") == 200
        for cookie in (f"{COOKIE}=x", "=;;=", "\x00", f'{COOKIE}="', "a b=c"):
            assert check(client=REMOTE, cookie=cookie) == 401

    @pytest.mark.parametrize(
        ("host", "origin", "status"),
        [
            ("localhost:8765", "http://localhost:8765", 200),
            ("127.0.0.1:8765", "http://127.0.0.1:8765", 200),
            ("LOCALHOST:8765", "http://localhost:8765", 200),
            ("[::1]:8765", "http://[::1]:8765", 200),
            ("localhost:8765", "https://stage.example", 200),
            ("localhost:8765", "https://evil.example", 403),
            ("localhost:8765", "http://localhost:9999", 403),
            ("localhost:8765", "http://stage.example", 403),
            ("localhost:8765", "null", 403),
            ("localhost:8765", "", 403),
            ("localhost:8765", "http://[", 403),
            ("localhost:8765", "http://localhost:8765.evil.example", 403),
            ("", "null", 403),
            ("", "", 403),
        ],
    )
    def test_pages_of_others_may_not(self, host: str, origin: str, status: int) -> None:
        assert check(host=host, origin=origin) == status

    def test_a_token_does_not_open_for_pages_of_others(self) -> None:
        assert check(token="secret", origin="https://evil.example") == 403

    @pytest.mark.parametrize(
        ("host", "status"),
        [
            ("localhost", 200),
            ("127.0.0.1:8765", 200),
            ("192.168.1.4:8765", 200),
            ("[::1]:8765", 200),
            ("stage.example", 200),
            ("evil.example:8765", 403),
            ("localhost.evil.example", 403),
            ("127.0.0.1.evil.example", 403),
            ("[::1", 403),
            ("@@", 403),
        ],
    )
    def test_names_that_somebody_may_point_at_us(self, host: str, status: int) -> None:
        """DNS rebinding: a page of evil.example whose name now means 127.0.0.1."""
        assert check(host=host) == status
        if status == 403:
            assert check(host=host, origin=f"http://{host}") == 403
            assert check(host=host, token="secret") == 200

    def test_tokens_are_not_alike(self) -> None:
        assert len({make_token() for _ in range(50)}) == 50
        assert len(make_token()) >= 20

    def test_loopback(self) -> None:
        assert all(map(is_loopback, ["127.0.0.1", "::1", "[::1]", "localhost", "LocalHost"]))
        assert not any(map(is_loopback, ["0.0.0.0", "::", "example.org", "", "127.0.0.1.nip.io"]))


class TestOverSockets:
    @pytest.mark.parametrize("path", ["/", "/streams/default/viewer", "/streams/default/worker"])
    def test_a_page_of_somebody_else_gets_no_websocket(
        self, relay: RunningRelay, path: str
    ) -> None:
        for headers in ({"Origin": "https://evil.example"}, {"Origin": "null"}):
            with pytest.raises(InvalidStatus) as caught:
                connect(relay.websocket + path, additional_headers=headers)
            assert caught.value.response.status_code == 403
            assert problem(caught.value.response.body)["code"] == "auth"
        assert not any(stream.peers for stream in relay.hub.streams.values())

    def test_our_own_page_does(self, relay: RunningRelay) -> None:
        own = relay.url.rstrip("/")
        with seed(relay, additional_headers={"Origin": own}):
            pass
        status, _, _ = answer(relay, "/streams/a/parameters", "PATCH", b"{}", Origin=own)
        assert status == 200

    @pytest.mark.parametrize("method", ["GET", "PATCH"])
    def test_nor_does_it_change_parameters(self, relay: RunningRelay, method: str) -> None:
        path = "/streams/default/parameters"
        status, _, body = answer(relay, path, method, b"{}", Origin="https://evil.example")
        assert (status, problem(body)["code"]) == (403, "auth")

    def test_rebound_names(self, relay: RunningRelay) -> None:
        port = urlsplit(relay.url).port
        for path in ("/", "/streams", "/metrics", "/streams/a/mjpeg"):
            status, _, body = answer(relay, path, Host=f"evil.example:{port}")
            assert (status, problem(body)["code"]) == (403, "auth")

    @pytest.mark.parametrize("forwarded", ["192.0.2.9", "localhost", "rubbish", "::2, 192.0.2.9"])
    def test_a_proxy_on_this_machine_says_who_it_speaks_for(
        self, relay: RunningRelay, forwarded: str
    ) -> None:
        assert answer(relay, "/streams", X_Forwarded_For=forwarded)[0] == 401
        with pytest.raises(InvalidStatus) as caught:
            connect(relay.websocket + "/", additional_headers={"X-Forwarded-For": forwarded})
        assert caught.value.response.status_code == 401

    def test_a_refusal_is_no_error_of_ours(
        self, relay: RunningRelay, caplog: pytest.LogCaptureFixture
    ) -> None:
        for path, headers in (("/", {"Origin": "null"}), ("/nowhere", {})):
            with pytest.raises(InvalidStatus):
                connect(relay.websocket + path, additional_headers=headers)
        answer(relay, "/healthz")
        assert [record for record in caplog.records if record.levelname == "ERROR"] == []

    def test_an_allowed_page(self) -> None:
        with start_relay(RelaySettings(port=0, allowed_origins=["https://stage.example"])) as relay:
            with seed(relay, additional_headers={"Origin": "https://stage.example"}):
                pass


def _other_address() -> str | None:
    """An address of this machine that is not loopback, as a peer from elsewhere would see it."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("192.0.2.1", 9))
            address = str(probe.getsockname()[0])
        except OSError:
            return None
    return None if is_loopback(address) else address


@pytest.fixture
def elsewhere() -> Iterator[tuple[Relay, RunningRelay]]:
    """A relay on an address of the network: whoever connects comes from there."""
    address = _other_address()
    if address is None:
        pytest.skip("this machine has no address besides loopback")
    relay = Relay(RelaySettings(host=address, port=0))
    with relay.running() as url:
        yield relay, RunningRelay(url.partition("?")[0], relay.hub)


class TestElsewhere:
    def test_a_token_is_made_up_and_needed(self, elsewhere: tuple[Relay, RunningRelay]) -> None:
        relay, running = elsewhere
        assert relay.token is not None
        assert relay.url.endswith(f"/?token={relay.token}")
        for path in ("/", "/streams", "/metrics", "/streams/a/mjpeg", "/openapi.json"):
            status, _, body = answer(running, path)
            assert (status, problem(body)["code"]) == (401, "auth")
        with pytest.raises(InvalidStatus) as caught:
            connect(running.websocket + "/")
        assert caught.value.response.status_code == 401
        assert answer(running, "/healthz")[0] == 200
        assert answer(running, "/static/dreamrelay.js")[0] == 200
        for around in ("/healthz/../streams", "/static/../streams", "/static/..%2fmetrics"):
            assert answer(running, around)[0] in (401, 404)

    def test_with_it_all_doors_open(self, elsewhere: tuple[Relay, RunningRelay]) -> None:
        relay, running = elsewhere
        with native(running, "viewer", f"?token={relay.token}"):
            pass
        status, headers, _ = answer(running, f"/?token={relay.token}", Accept="text/html")
        assert status == 200
        cookie = headers["set-cookie"]
        assert f"{COOKIE}={relay.token}" in cookie
        assert "HttpOnly" in cookie
        assert "samesite=strict" in cookie.lower()
        status, _, body = answer(running, "/streams", Cookie=cookie.partition(";")[0])
        assert status == 200
        assert [stream["stream"] for stream in json.loads(body)["streams"]] == ["default"]
        assert answer(running, "/streams", Authorization=f"Bearer {relay.token}")[0] == 200

    def test_a_wrong_token_sets_no_cookie(self, relay: RunningRelay) -> None:
        _, headers, _ = answer(relay, "/?token=wrong", Accept="text/html")
        assert "set-cookie" not in headers
