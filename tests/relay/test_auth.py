"""Who may: the rules by themselves, then a relay that everybody reaches as a stranger."""

import base64
import json
from contextlib import suppress
from typing import Any
from urllib.parse import urlencode

import pytest
from hypothesis import given
from hypothesis import strategies as st
from starlette.datastructures import Headers
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import connect

from dreamrelay.config import RelaySettings
from dreamrelay.errors import AuthError
from dreamrelay.relay.auth import (
    COOKIE,
    LOCAL,
    PERMISSIONS,
    Gate,
    Grant,
    Keyring,
    Request,
    cookie_name,
    host_name,
    make_token,
)
from dreamrelay.relay.limits import is_loopback
from tests.relay.clients import answer, native, problem, seed
from tests.relay.strangers import TOKENS, as_stranger, open_relay
from tests.support import RunningRelay, picture, start_relay

HERE, REMOTE = "127.0.0.1", "192.0.2.7"
SECRET = "a-secret-of-the-tests"
KEYS = Keyring([(SECRET, Grant(PERMISSIONS))])
OPEN = Gate(KEYS, frozenset({"https://stage.example"}), frozenset({"studio.example"}))


def request(client: str = HERE, *, token: str | None = None, **headers: str) -> Request:
    """A request as the gate sees it; ``sec_fetch_site`` and so on are headers."""
    given = {"host": "localhost:8765", **headers}
    scope: dict[str, Any] = {
        "type": "websocket" if "websocket" in given else "http",
        "method": given.pop("method", "GET"),
        "path": given.pop("path", "/streams"),
        "scheme": given.pop("scheme", "http"),
        "query_string": b"" if token is None else f"token={token}".encode(),
        "client": (client, 5),
        "headers": Headers({k.replace("_", "-"): v for k, v in given.items()}).raw,
    }
    return Request.of(scope)


def check(gate: Gate = OPEN, client: str = HERE, **given: Any) -> int:
    """200, or the status of the refusal."""
    try:
        gate.admit(request(client, **given))
    except AuthError as error:
        return error.status
    return 200


class TestGate:
    @pytest.mark.parametrize("client", ["127.0.0.1", "127.9.9.9", "::1"])
    def test_this_machine_is_trusted(self, client: str) -> None:
        assert OPEN.admit(request(client)) == LOCAL

    @pytest.mark.parametrize("client", [REMOTE, "::2", "10.0.0.1", "0.0.0.0", "localhost", ""])
    def test_others_need_a_token(self, client: str) -> None:
        assert check(client=client) == 401
        assert check(client=client, token="wrong") == 401
        assert check(client=client, token=SECRET) == 200
        assert check(client=client, token="sécret-of-the-tests") == 401

    def test_without_a_token_nobody_comes_in_from_elsewhere(self) -> None:
        for token in (None, "", "None", SECRET):
            assert check(Gate(Keyring()), REMOTE, token=token) == 401
        assert check(Gate(Keyring()), REMOTE, authorization="Bearer ") == 401

    def test_where_a_token_may_be_shown(self) -> None:
        assert check(client=REMOTE, authorization=f"Bearer {SECRET}") == 200
        assert check(client=REMOTE, authorization=f"bearer  {SECRET}") == 200
        assert check(client=REMOTE, authorization="Bearer other") == 401
        assert check(client=REMOTE, authorization=SECRET) == 401
        assert check(client=REMOTE, cookie=f"a=b; {COOKIE}={SECRET}") == 200
        assert check(client=REMOTE, cookie=f"{COOKIE}=x; {COOKIE}_8765={SECRET}") == 200
        for cookie in (f"{COOKIE}=x", "=;;=", "\x00", f'{COOKIE}="', "a b=c", f"other={SECRET}"):
            assert check(client=REMOTE, cookie=cookie) == 401

    @pytest.mark.parametrize(
        "header",
        [
            "forwarded",
            "x_forwarded_for",
            "x_forwarded_host",
            "x_forwarded_proto",
            "via",
            "x_real_ip",
        ],
    )
    def test_who_speaks_for_somebody_else_is_not_local(self, header: str) -> None:
        said: dict[str, Any] = {header: "127.0.0.1"}
        assert check(**said) == 401
        assert check(**said, token=SECRET) == 200

    @pytest.mark.parametrize("host", ["192.168.1.4:8765", "studio.example", "", "0.0.0.0"])
    def test_local_is_who_knows_us_as_local(self, host: str) -> None:
        assert check(host=host) == 401
        assert check(host=host, token=SECRET) == 200

    @pytest.mark.parametrize(
        "lines",
        [
            ["192.0.2.7"],
            ["198.51.100.1, 192.0.2.7"],
            ["198.51.100.1", "192.0.2.7"],
            ["198.51.100.1", "198.51.100.2 , 192.0.2.7:4711"],
            ["[::ffff:192.0.2.7]:4711"],
        ],
    )
    def test_a_proxy_has_the_last_word_about_who_is_counted(self, lines: list[str]) -> None:
        scope = {
            "type": "http",
            "path": "/",
            "scheme": "http",
            "query_string": b"",
            "client": ("127.0.0.1", 5),
            "headers": [(b"x-forwarded-for", line.encode()) for line in lines],
        }
        gate = Gate(KEYS, behind_proxy=True)
        assert gate.address(Request.of(scope)) == "192.0.2.7"

    def test_behind_a_proxy_and_without_trust_nobody_is_local(self) -> None:
        assert check(Gate(KEYS, behind_proxy=True)) == 401
        assert check(Gate(KEYS, trust_local=False)) == 401
        assert check(Gate(KEYS, trust_local=False), token=SECRET) == 200

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
            ("localhost:8765", "ftp://localhost:8765", 403),
            ("localhost:8765", "http://localhost:8765.evil.example", 403),
            ("", "null", 403),
            ("", "", 403),
        ],
    )
    def test_pages_of_others_may_not(self, host: str, origin: str, status: int) -> None:
        for method in ("GET", "PATCH", "POST"):
            assert check(host=host, origin=origin, method=method) == status

    def test_over_tls_a_page_that_came_in_the_clear_may_not(self) -> None:
        assert check(origin="http://localhost:8765", scheme="https") == 403
        assert check(origin="https://localhost:8765", scheme="https") == 200
        proxied = Gate(KEYS, hosts=frozenset({"studio.example"}), behind_proxy=True)
        for scheme, status in (("http", 403), ("https", 200)):
            said = {"host": "studio.example", "origin": f"{scheme}://studio.example"}
            said["x-forwarded-proto"] = "https"
            assert check(proxied, token=SECRET, **said) == status

    def test_a_token_does_not_open_for_pages_of_others(self) -> None:
        assert check(token=SECRET, origin="https://evil.example") == 403

    @pytest.mark.parametrize("site", ["cross-site", "same-site"])
    def test_browsers_say_where_a_request_without_an_origin_comes_from(self, site: str) -> None:
        page: dict[str, Any] = {"sec_fetch_site": site, "sec_fetch_mode": "no-cors"}
        assert check(**page) == 403
        assert check(**page, method="POST") == 403
        assert check(**page, referer="https://evil.example/x") == 403
        assert check(**page, referer="https://stage.example/x") == 200
        assert check(**page, token="wrong") == 403  # though this machine needs none
        assert check(**page, token=SECRET) == 200
        assert check(**page, cookie=f"{COOKIE}={SECRET}") == 403
        assert check(sec_fetch_site="same-origin") == 200
        followed: dict[str, Any] = {
            "sec_fetch_site": site,
            "sec_fetch_mode": "navigate",
            "accept": "text/html",
        }
        assert check(**followed) == 200
        assert check(**followed, method="POST") == 403

    @pytest.mark.parametrize(
        ("host", "status"),
        [
            ("localhost", 200),
            ("127.0.0.1:8765", 200),
            ("192.168.1.4:8765", 200),
            ("[::1]:8765", 200),
            ("stage.example", 200),
            ("studio.example:99", 200),
            ("STUDIO.example.", 200),
            ("evil.example:8765", 403),
            ("localhost.evil.example", 403),
            ("127.0.0.1.evil.example", 403),
            ("[::1", 403),
            ("@@", 403),
            ("evil.example@localhost", 200),  # its host is localhost, for browsers too
        ],
    )
    def test_names_that_somebody_may_point_at_us(self, host: str, status: int) -> None:
        """DNS rebinding: a page of evil.example whose name now means 127.0.0.1."""
        assert check(host=host, token=SECRET) == status
        if status == 403:
            assert check(host=host) == 403
            assert check(host=host, origin=f"http://{host}") == 403

    def test_a_proxy_may_be_the_one_who_knows_our_names(self) -> None:
        behind = Gate(KEYS, hosts=frozenset({"*"}), behind_proxy=True)
        assert check(behind, host="any.example", token=SECRET) == 200
        assert check(behind, host="any.example") == 401
        assert check(behind, host="any.example", origin="https://evil.example") == 403
        # Without one the name could be anybody's.
        straight = Gate(KEYS, hosts=frozenset({"*"}))
        assert check(straight, host="any.example", token=SECRET) == 403

    def test_the_token_is_taken_out_of_the_address(self) -> None:
        scope: dict[str, Any] = {
            "type": "http",
            "path": "/",
            "scheme": "http",
            "headers": [],
            "query_string": f"a=1&token={SECRET}&b=%C3%A4&token=second".encode(),
        }
        assert Request.of(scope).shown == (SECRET, "second")
        assert scope["query_string"] == b"a=1&b=%C3%A4"

    def test_tokens_are_not_alike(self) -> None:
        assert len({make_token() for _ in range(50)}) == 50
        assert len(make_token()) >= 20

    def test_loopback(self) -> None:
        assert all(map(is_loopback, ["127.0.0.1", "::1", "[::1]", "localhost", "LocalHost."]))
        assert not any(map(is_loopback, ["0.0.0.0", "::", "example.org", "", "127.0.0.1.nip.io"]))

    @pytest.mark.parametrize(
        ("host", "name"),
        [("a:8765", f"{COOKIE}_8765"), ("a", COOKIE), ("a:x", COOKIE), ("[::1]:9", f"{COOKIE}_9")],
    )
    def test_two_relays_on_a_host_have_cookies_of_their_own(self, host: str, name: str) -> None:
        assert cookie_name(host) == name


NAMES = st.sampled_from(
    "host origin cookie authorization referer forwarded x-forwarded-for x-forwarded-host via accept"
    " sec-fetch-site sec-fetch-mode sec-fetch-dest content-length upgrade".split()
)
PIECES = st.sampled_from(
    ["localhost", "127.0.0.1", "[::1]", ":8765", "http://", "https://", "evil.example", "null", "@",
     "Bearer ", COOKIE, "=", ";", "\"", "\\", " ", "cross-site", "same-origin", "navigate", "none",
     "text/html", SECRET[:-1], "a" + SECRET, "%", "\0", "\x80", "\xff", ",", "[", "]", "..", "0"]
)  # fmt: skip
VALUES = st.lists(PIECES | st.text("\t !~\xe4\xff", max_size=4), max_size=6).map("".join)
SCOPES = st.fixed_dictionaries(
    {
        "type": st.sampled_from(["http", "websocket"]),
        "method": st.sampled_from(["GET", "POST", "PATCH", "OPTIONS", "x"]),
        "path": st.sampled_from(["/", "/streams/a/viewer", "/streams/a/view", "/x"]) | st.text(),
        "scheme": st.sampled_from(["http", "https", "ws", "wss"]),
        "query_string": st.lists(
            st.sampled_from(["token=", SECRET[1:], "&", "auth=second", "%", "a=b", ";", "=", "+"])
        ).map(lambda parts: "".join(parts).encode()),
        "headers": st.lists(
            st.tuples(NAMES.map(str.encode), VALUES.map(lambda v: v.encode("latin-1")))
        ),
    }
)


class TestWhateverComes:
    @given(SCOPES, st.sampled_from([REMOTE, "2001:db8::1", "", "x", "127.0.0.1.evil.example"]))
    def test_nobody_gets_in_from_elsewhere_without_a_token(
        self, scope: dict[str, Any], client: str
    ) -> None:
        scope["client"] = (client, 1)
        for gate in (OPEN, Gate(Keyring()), Gate(KEYS, behind_proxy=True)):
            with pytest.raises(AuthError):
                gate.admit(Request.of({**scope}))

    @given(SCOPES)
    def test_nor_from_here_through_a_page_or_a_proxy(self, scope: dict[str, Any]) -> None:
        request = Request.of({**scope, "client": (HERE, 1)})
        try:
            grant = OPEN.admit(request)
        except AuthError:
            return
        assert grant == LOCAL
        assert is_loopback(host_name(f"//{request.host}"))
        assert not request.forwarded
        own = {f"http://{request.host}", f"https://{request.host}", "https://stage.example", None}
        assert request.origin in own

    @given(st.lists(st.sampled_from(["token", "a", "%74oken", "x"]), max_size=4), st.text())
    def test_no_token_stays_in_the_address(self, names: list[str], value: str) -> None:
        pairs = urlencode([(name, f"{value}{SECRET}") for name in names if name != "%74oken"])
        query = pairs + "".join(f"&{n}={SECRET}" for n in names if n == "%74oken")
        scope: dict[str, Any] = {
            "type": "http", "path": "/", "scheme": "http", "headers": [],
            "query_string": query.encode(),
        }  # fmt: skip
        request = Request.of(scope)
        assert len(request.shown) == sum(name in ("token", "%74oken") for name in names)
        assert scope["query_string"].count(SECRET.encode()) == len(names) - len(request.shown)


class TestGrants:
    def test_what_implies_what(self) -> None:
        assert Grant.of(["view"]).permissions == {"view"}
        assert Grant.of(["control"]).permissions == {"control", "view"}
        assert Grant.of(["publish"]).permissions == {"publish"}
        assert Grant.of(["work"]).permissions == {"work", "control", "view"}

    def test_streams(self) -> None:
        grant = Grant.of(["view"], frozenset({"a"}))
        assert grant.allows("view", "a")
        assert not grant.allows("view", "b")
        assert not grant.allows("view", None)  # what is of all streams is not of this one
        assert not grant.allows("control", "a")
        with pytest.raises(AuthError, match=r"'view' on stream 'b'"):
            grant.check("view", "b")


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

    @pytest.mark.parametrize("host", ["localhost", "127.0.0.1", "[::1]"])
    @pytest.mark.parametrize("path", ["/ws/viewer/a", "/broadcaster/a", "/ws"])
    def test_a_page_of_this_machine_has_the_doors_made_for_such_pages(
        self, relay: RunningRelay, host: str, path: str
    ) -> None:
        with seed(relay, path, additional_headers={"Origin": f"http://{host}:3000"}):
            pass

    @pytest.mark.parametrize(
        ("path", "origin", "forwarded"),
        [
            ("/", "http://localhost:3000", {}),
            ("/streams/a/viewer", "http://localhost:3000", {}),
            ("/ws/viewer/a", "http://localhost.evil.example", {}),
            ("/ws/viewer/a", "https://evil.example", {}),
            ("/ws/viewer/a", "file://localhost", {}),
            ("/ws/viewer/a", "http://localhost:3000", {"X-Forwarded-For": "127.0.0.1"}),
        ],
    )
    def test_and_no_more_than_these(
        self, relay: RunningRelay, path: str, origin: str, forwarded: dict[str, str]
    ) -> None:
        with pytest.raises(InvalidStatus) as caught:
            connect(relay.websocket + path, additional_headers={"Origin": origin, **forwarded})
        assert caught.value.response.status_code == 403

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
        form: dict[str, Any] = {"Sec_Fetch_Site": "cross-site", "Sec_Fetch_Mode": "navigate"}
        status, _, body = answer(relay, path, method, b"{}", **form)
        assert (status, problem(body)["code"]) == (403, "auth")
        assert not relay.hub.streams

    def test_rebound_names(self, relay: RunningRelay) -> None:
        for path in ("/", "/streams", "/metrics", "/streams/a/mjpeg", "/streams/a/view"):
            status, _, body = answer(relay, path, Host="evil.example:80", Accept="text/html")
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
            asks: dict[str, Any] = {
                "Origin": "https://stage.example",
                "Access_Control_Request_Method": "PATCH",
            }
            status, headers, _ = answer(relay, "/streams/a/parameters", "OPTIONS", **asks)
            assert status == 200
            assert headers["access-control-allow-origin"] == "https://stage.example"
            assert "access-control-allow-credentials" not in headers
            asks["Origin"] = "https://evil.example"
            status, headers, _ = answer(relay, "/streams/a/parameters", "OPTIONS", **asks)
            assert status == 400
            assert "access-control-allow-origin" not in headers

    def test_without_allowed_pages_there_is_no_cors(self, relay: RunningRelay) -> None:
        asks: dict[str, Any] = {
            "Origin": relay.url.rstrip("/"),
            "Access_Control_Request_Method": "PATCH",
        }
        _, headers, _ = answer(relay, "/streams", "OPTIONS", **asks)
        assert not [name for name in headers if name.startswith("access-control")]


@pytest.fixture(scope="module")
def strange() -> Any:
    """A relay to which all are strangers, with a token for each permission."""
    with open_relay() as running:
        yield running


GETS = (
    "/",
    "/streams",
    "/streams/a",
    "/streams/a/mjpeg",
    "/streams/a/snapshot.jpg",
    "/streams/a/parameters",
    "/streams/a/parameters/schema",
    "/streams/a/reference",
    "/metrics",
    "/openapi.json",
    "/nowhere",
)


class TestStrangers:
    @pytest.mark.parametrize("path", GETS)
    def test_reading_needs_view(self, strange: RunningRelay, path: str) -> None:
        status, headers, body = answer(strange, path)
        assert (status, problem(body)["code"]) == (401, "auth")
        assert headers["www-authenticate"] == "Bearer"
        if path.endswith("mjpeg"):
            return  # that would not end
        for name in ("publish", "stage"):
            status, _, body = answer(strange, path, **as_stranger(name))
            assert status == 403
            assert "'view'" in problem(body)["message"]
        for name in ("view", "control", "work", "all"):
            assert answer(strange, path, **as_stranger(name))[0] in (200, 404)

    @pytest.mark.parametrize(
        ("method", "path"),
        [
            ("PATCH", "/streams/a/parameters"),
            ("PUT", "/streams/a/reference"),
            ("DELETE", "/streams/a/reference"),
            ("POST", "/nowhere"),
        ],
    )
    def test_changing_needs_control(self, strange: RunningRelay, method: str, path: str) -> None:
        assert answer(strange, path, method, b"{}")[0] == 401
        for name in ("publish", "view"):
            status, _, body = answer(strange, path, method, b"{}", **as_stranger(name))
            assert (status, "'control'" in problem(body)["message"]) == (403, True)
        assert answer(strange, path, method, b"{}", **as_stranger("control"))[0] not in (401, 403)

    @pytest.mark.parametrize("role", ["producer", "worker", "viewer"])
    @pytest.mark.parametrize("name", ["", "publish", "work", "view", "control", "all", "stage"])
    def test_roles_need_their_permission(self, strange: RunningRelay, role: str, name: str) -> None:
        may = {
            "": (),
            "publish": ("producer",),
            "work": ("worker", "viewer"),
            "view": ("viewer",),
            "control": ("viewer",),
            "all": ("producer", "worker", "viewer"),
            "stage": (),  # on another stream
        }
        uri = f"{strange.websocket}/streams/roles/{role}"
        headers = as_stranger(name) if name else {}
        if role in may[name]:
            with connect(uri, additional_headers=headers) as websocket:
                assert json.loads(websocket.recv(30))["type"] == "welcome"
            return
        with pytest.raises(InvalidStatus) as caught:
            connect(uri, additional_headers=headers)
        assert caught.value.response.status_code == (403 if name else 401)
        assert "roles" not in strange.hub.streams or not strange.hub.streams["roles"].peers

    def test_a_token_for_one_stream(self, strange: RunningRelay) -> None:
        with native(strange, "producer", f"?token={TOKENS['stage']}", "stage") as producer:
            assert producer.publish()["accepted"]
            producer.send("parameters", patch={"prompt": "x"}, id=1)
            assert producer.text("error")["code"] == "auth"
            kinds = {text["type"] for text in producer.texts}
            assert not kinds & {"schema", "parameters"}  # those need view

    def test_a_viewer_that_may_look_only(self, strange: RunningRelay) -> None:
        with native(strange, "viewer", f"?token={TOKENS['view']}") as viewer:
            viewer.send("parameters", patch={"prompt": "x"}, id=1)
            error = viewer.text("error")
            assert (error["code"], error["id"]) == ("auth", 1)
        with native(strange, "viewer", f"?token={TOKENS['control']}") as viewer:
            viewer.send("parameters", patch={"prompt": "x"}, id=1)
            while viewer.text("parameters")["id"] != 1:
                pass

    @pytest.mark.parametrize(
        ("name", "message", "kind"),
        [
            ("view", {"type": "image", "data": "PICTURE"}, "error"),
            ("view", {"type": "prompt_update", "prompt": "x"}, "error"),
            ("view", {"type": "img2img", "image": "PICTURE"}, "error"),
            ("publish", {"type": "image", "data": "PICTURE"}, "ack"),
            ("publish", {"type": "prompt_update", "prompt": "x"}, "error"),
            ("control", {"type": "prompt_update", "prompt": "x"}, "prompt_updated"),
        ],
    )
    def test_the_seeds_messages_need_what_they_do(
        self, strange: RunningRelay, name: str, message: dict[str, str], kind: str
    ) -> None:
        encoded = base64.b64encode(picture()).decode()
        message = {k: encoded if v == "PICTURE" else v for k, v in message.items()}
        with seed(strange, f"/?token={TOKENS[name]}") as websocket:
            assert json.loads(websocket.recv(30))["type"] == "welcome"
            websocket.send(json.dumps(message))
            reply = json.loads(websocket.recv(30))
            assert reply["type"] == kind
            assert ("permission" in reply.get("message", "")) == (kind == "error")

    @pytest.mark.parametrize(("name", "role"), [("view", "consumer"), ("publish", "viewer")])
    def test_nor_is_a_role_taken_later(self, strange: RunningRelay, name: str, role: str) -> None:
        with seed(strange, f"/?token={TOKENS[name]}") as websocket:
            websocket.send(json.dumps({"type": "register", "client_type": role}))
            with suppress(ConnectionClosed):
                while True:
                    websocket.recv(30)
            assert websocket.close_code == 1008
            assert "permission" in (websocket.close_reason or "")

    def test_what_needs_none(self, strange: RunningRelay) -> None:
        assert answer(strange, "/healthz")[0] == 200
        assert answer(strange, "/static/dreamrelay.js")[0] == 200
        for around in ("/healthz/../streams", "/static/../streams", "/static/..%2fmetrics"):
            assert answer(strange, around)[0] in (401, 404)


class TestReadyLink:
    def test_the_token_moves_from_the_address_to_a_cookie(self, strange: RunningRelay) -> None:
        link = f"/?token={TOKENS['all']}&stream=other"
        status, headers, _ = answer(strange, link, Accept="text/html")
        assert (status, headers["location"]) == (303, "./?stream=other")
        assert headers["referrer-policy"] == "no-referrer"
        assert headers["cache-control"] == "no-store"
        cookie, *attributes = headers["set-cookie"].lower().split("; ")
        assert cookie.startswith(f"{COOKIE}_")
        assert {"httponly", "samesite=strict", "path=/"} <= set(attributes)
        crumb = headers["set-cookie"].partition(";")[0]
        assert answer(strange, "/streams", Cookie=crumb)[0] == 200
        with connect(strange.websocket + "/", additional_headers={"Cookie": crumb}):
            pass

    def test_also_of_the_page_to_embed(self, strange: RunningRelay) -> None:
        link = f"/streams/a/view?fit=cover&token={TOKENS['view']}"
        status, headers, _ = answer(strange, link, Accept="text/html")
        assert (status, headers["location"]) == (303, "view?fit=cover")

    def test_a_wrong_token_sets_no_cookie(self, strange: RunningRelay) -> None:
        status, headers, _ = answer(strange, "/?token=wrong", Accept="text/html")
        assert (status, headers["location"]) == (303, "./")
        assert "set-cookie" not in headers

    def test_a_page_without_a_token_is_code_only(self, strange: RunningRelay) -> None:
        for path in ("/", "/streams/a/view"):
            status, _, body = answer(strange, path, Accept="text/html")
            assert status == 200
            assert b"<html" in body

    def test_behind_tls_of_a_proxy_the_cookie_is_secure(self, strange: RunningRelay) -> None:
        link = f"/?token={TOKENS['all']}"
        _, headers, _ = answer(strange, link, Accept="text/html", X_Forwarded_Proto="https")
        assert "secure" in headers["set-cookie"].lower().split("; ")


class TestFirstMessage:
    def say(self, strange: RunningRelay, first: str | bytes, role: str = "viewer") -> Any:
        with connect(f"{strange.websocket}/streams/a/{role}?auth=first") as websocket:
            websocket.send(first)
            return json.loads(websocket.recv(30))

    @pytest.mark.parametrize("role", ["viewer", "producer", "worker"])
    def test_it_may_be_said_where_none_is_needed(self, relay: RunningRelay, role: str) -> None:
        with native(relay, role, "?auth=first") as client:
            client.send("auth", token=TOKENS["all"])
            client.send("ping", id=7)
            assert client.text("pong", "error")["type"] == "pong"

    def test_a_worker_may_say_it_before_its_hello(self, relay: RunningRelay) -> None:
        with connect(f"{relay.websocket}/streams/a/worker?auth=first") as websocket:
            websocket.send(json.dumps({"type": "auth", "token": TOKENS["all"]}))
            websocket.send(json.dumps({"type": "hello", "version": 1, "credit": 1}))
            kinds = [json.loads(websocket.recv(30))["type"] for _ in range(3)]
            assert "error" not in kinds

    def test_a_token_may_be_said_first(self, strange: RunningRelay) -> None:
        first = json.dumps({"type": "auth", "token": TOKENS["view"]})
        assert self.say(strange, first)["type"] == "welcome"

    @pytest.mark.parametrize(
        "first",
        [
            json.dumps({"type": "auth", "token": "wrong"}),
            json.dumps({"type": "auth"}),
            json.dumps({"type": "auth", "token": 5}),
            json.dumps({"type": "hello", "token": TOKENS["view"]}),
            "[]",
            "{",
            b"DR",
            json.dumps({"type": "auth", "token": TOKENS["publish"]}),
            "x" * 5000,
        ],
    )
    def test_anything_else_is_the_end(self, strange: RunningRelay, first: str | bytes) -> None:
        with pytest.raises(ConnectionClosed) as caught:
            self.say(strange, first)
        assert caught.value.rcvd is not None
        assert caught.value.rcvd.code == (1009 if len(first) > 4096 else 1008)
        assert TOKENS["view"] not in caught.value.rcvd.reason

    def test_nothing_is_the_end_too(
        self, strange: RunningRelay, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("dreamrelay.relay.guard.AUTH_SECONDS", 0.2)
        with connect(f"{strange.websocket}/streams/a/viewer?auth=first") as websocket:
            with pytest.raises(ConnectionClosed) as caught:
                websocket.recv(30)
        assert caught.value.rcvd is not None
        assert caught.value.rcvd.code == 1008

    @pytest.mark.parametrize("path", ["/", "/ws/viewer/listing_1", "/api/ws/x", "/nowhere"])
    def test_on_the_doors_of_the_seeds_there_is_no_such_word(
        self, strange: RunningRelay, path: str
    ) -> None:
        with pytest.raises(InvalidStatus) as caught:
            connect(f"{strange.websocket}{path}?auth=first")
        assert caught.value.response.status_code == 401

    def test_pages_of_others_may_not_even_so(self, strange: RunningRelay) -> None:
        uri = f"{strange.websocket}/streams/a/viewer?auth=first"
        with pytest.raises(InvalidStatus) as caught:
            connect(uri, additional_headers={"Origin": "https://evil.example"})
        assert caught.value.response.status_code == 403
