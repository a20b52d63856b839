"""What browsers are told about our answers, and what pages of others may do with them."""

import re

import pytest

from tests.relay.clients import answer
from tests.relay.strangers import TOKENS, open_relay
from tests.support import RunningRelay

HTML = "text/html,application/xhtml+xml,*/*;q=0.8"
PAGES = ("/", "/streams/a/view")
OTHERS = ("/healthz", "/streams", "/metrics", "/nowhere", "/static/dreamrelay.js", "/favicon.ico")


def rules(policy: str) -> dict[str, list[str]]:
    words = [rule.split() for rule in policy.split(";")]
    return {first: rest for first, *rest in words}


@pytest.mark.parametrize("path", [*PAGES, *OTHERS])
def test_every_answer_is_what_it_says_and_tells_nobody_where_it_was(
    relay: RunningRelay, path: str
) -> None:
    for method in ("GET", "POST"):
        _, headers, _ = answer(relay, path, method, Accept=HTML)
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["referrer-policy"] == "no-referrer"
        code = path.startswith("/static/")  # is for everybody's pages; what it shows is not
        policy = "cross-origin" if code else "same-origin"
        assert headers["cross-origin-resource-policy"] == policy
        assert headers.get("access-control-allow-origin") == ("*" if code else None)
        assert "frame-ancestors" in headers["content-security-policy"]


@pytest.mark.parametrize("path", PAGES)
def test_a_page_loads_from_here_only(relay: RunningRelay, path: str) -> None:
    _, headers, body = answer(relay, path, Accept=HTML)
    policy = rules(headers["content-security-policy"])
    assert policy["default-src"] == ["'self'"]
    assert policy["object-src"] == policy["base-uri"] == policy["form-action"] == ["'none'"]
    host = relay.url[7:-1]
    assert policy["connect-src"] == ["'self'", f"ws://{host}", f"wss://{host}"]
    assert not [w for words in policy.values() for w in words if "unsafe" in w or w == "*"]
    assert b"<script>" not in body
    assert b" style=" not in body
    assert not re.search(rb"\son[a-z]+=", body)


@pytest.mark.parametrize("path", PAGES)
def test_a_page_uses_what_it_needs_only(relay: RunningRelay, path: str) -> None:
    _, headers, _ = answer(relay, path, Accept=HTML)
    features = headers["permissions-policy"]
    for needed in ("camera", "microphone", "display-capture", "fullscreen"):
        assert f"{needed}=(self)" in features
    for never in ("geolocation", "usb", "payment"):
        assert f"{never}=()" in features
    assert headers["cross-origin-opener-policy"] == "same-origin"


def test_only_the_page_to_embed_can_be_framed_and_by_allowed_pages() -> None:
    with open_relay(allowed_origins=["https://stage.example"]) as relay:
        ancestors = {}
        for path in (*PAGES, *OTHERS):
            _, headers, _ = answer(relay, path, Accept=HTML)
            ancestors[path] = rules(headers["content-security-policy"])["frame-ancestors"]
    assert ancestors.pop("/streams/a/view") == ["'self'", "https://stage.example"]
    assert set(map(tuple, ancestors.values())) == {("'none'",)}


def test_a_host_cannot_write_into_the_policy(relay: RunningRelay) -> None:
    for host in ("localhost; script-src *", "localhost' *", "localhost,x", "127.0.0.1 *"):
        status, headers, _ = answer(relay, "/", Accept=HTML, Host=host)
        policy = headers["content-security-policy"]
        assert status in (400, 403) or "*" not in policy
        assert "script-src" not in policy


def test_a_code_file_may_load_from_here_only(relay: RunningRelay) -> None:
    """A worker's script brings a policy of its own."""
    _, headers, _ = answer(relay, "/static/encoder.js")
    assert rules(headers["content-security-policy"])["default-src"] == ["'self'"]


def test_who_was_given_a_token_may_show_pictures_elsewhere() -> None:
    page = {"Sec_Fetch_Site": "cross-site", "Sec_Fetch_Mode": "no-cors"}
    with open_relay() as relay:
        path = "/streams/a/snapshot.jpg"
        assert answer(relay, path, **page)[0] == 403  # type: ignore[arg-type]
        status, headers, _ = answer(relay, f"{path}?token={TOKENS['view']}", **page)  # type: ignore[arg-type]
        assert (status, headers["cross-origin-resource-policy"]) == (404, "cross-origin")
        assert answer(relay, f"{path}?token={TOKENS['publish']}", **page)[0] == 403  # type: ignore[arg-type]


def test_a_framed_page_keeps_its_token() -> None:
    """In a frame of somebody else's no cookie reaches us, and no address bar shows the token."""
    framed = {"Sec_Fetch_Dest": "iframe", "Sec_Fetch_Site": "cross-site", "Accept": HTML}
    with open_relay() as relay:
        link = f"/streams/a/view?token={TOKENS['view']}"
        status, headers, _ = answer(relay, link, **framed)  # type: ignore[arg-type]
        assert status == 200
        assert "set-cookie" not in headers
