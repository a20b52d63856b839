"""What a page of somebody else's can do to a relay on this machine, tried in a real browser:
nothing; and what the ready link leaves behind.
"""

import http.server
import threading
from collections.abc import Iterator
from typing import Any
from urllib.parse import urlsplit

import pytest
from playwright.sync_api import Browser, Page

from dreamrelay.config import RelaySettings
from tests.relay.clients import Engine, native
from tests.support import RunningRelay, picture, start_relay, until

TOKEN = "sesame-open-the-gate-of-the-tests"

TRIES = """async (relay) => {
  const port = new URL(relay).port;
  const socket = (address) => new Promise((resolve) => {
    const made = new WebSocket(address);
    made.onopen = () => resolve("open");
    made.onerror = () => resolve("refused");
  });
  const asked = (path, options) => fetch(relay + path, options).then(
    (reply) => `${reply.type} ${reply.status}`, () => "refused");
  const shown = (path) => new Promise((resolve) => {
    const image = new Image();
    image.onload = () => resolve(`${image.naturalWidth} wide`);
    image.onerror = () => resolve("refused");
    image.src = relay + path;
  });
  const body = JSON.stringify({ prompt: "theirs" });
  return {
    native: await socket(`ws://localhost:${port}/streams/default/viewer`),
    seed: await socket(`ws://127.0.0.1:${port}/`),
    reads: await asked("/streams", {}),
    changes: await asked("/streams/default/parameters", { method: "PATCH", body }),
    form: await asked("/streams/default/parameters", { method: "POST", body, mode: "no-cors" }),
    module: await import(relay + "/static/dreamrelay.js").then(() => "read", () => "refused"),
    picture: await shown("/streams/default/snapshot.jpg"),
  };
}"""


class Theirs(http.server.BaseHTTPRequestHandler):
    """A page that is not ours; where it frames something, as it is asked."""

    def do_GET(self) -> None:
        frame = urlsplit(self.path).query
        body = f"<!doctype html><title>theirs</title><iframe src='{frame}'></iframe>".encode()
        self.send_response(200)
        self.send_header("Content-Type", "text/html")
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: Any) -> None:
        """Nothing."""


@pytest.fixture(scope="module")
def theirs() -> Iterator[str]:
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Theirs)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_address[1]}/"
    server.shutdown()
    server.server_close()
    thread.join(10)


@pytest.fixture
def page(browser: Browser) -> Iterator[Page]:
    context = browser.new_context()
    yield context.new_page()
    context.close()


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
def test_a_page_of_somebody_else_gets_nothing(
    relay: RunningRelay, theirs: str, page: Page, host: str
) -> None:
    """On the very address of the relay and on another; both are trusted without a token."""
    with Engine(relay), native(relay, "producer") as producer:
        producer.publish(picture())
        stream = relay.hub.streams["default"]
        until(lambda: stream.tracks["output"].last)
        page.goto(theirs.replace("127.0.0.1", host))
        tried = page.evaluate(TRIES, relay.url.rstrip("/"))
        assert tried.pop("module") == "read"  # our code is anybody's; where it connects is not
        assert set(tried.values()) == {"refused"}
        assert stream.values["prompt"] == ""
        assert stream.status()["viewers"] == 0


def test_under_a_rebound_name_there_is_no_page(relay: RunningRelay, page: Page) -> None:
    """The name of their page means 127.0.0.1 by now: same origin for the browser, not for us."""
    reply = page.goto(relay.url.replace("127.0.0.1", "studio.test"))
    assert reply is not None
    assert reply.status == 403
    assert "--allow-host" in reply.text()


def test_only_the_page_to_embed_can_be_framed_and_where_it_is_allowed(
    theirs: str, page: Page
) -> None:
    allowed = theirs.rstrip("/")
    with (
        start_relay(RelaySettings(port=0)) as closed,
        start_relay(RelaySettings(port=0, allowed_origins=[allowed])) as open_to_them,
    ):
        seen = {}
        for name, relay, path in (
            ("studio", open_to_them, ""),
            ("view", open_to_them, "streams/default/view"),
            ("picture", open_to_them, "metrics"),
            ("closed", closed, "streams/default/view"),
        ):
            page.goto(f"{theirs}?{relay.url}{path}")
            frame = page.frames[1]
            frame.wait_for_load_state()
            seen[name] = frame.evaluate("document.querySelector('canvas') !== null")
    assert seen == {"studio": False, "view": True, "picture": False, "closed": False}


def test_the_ready_link_leaves_no_token(page: Page) -> None:
    settings = RelaySettings(port=0, token=TOKEN, trust_local=False)
    with start_relay(settings) as relay:
        with page.expect_websocket() as opened:
            page.goto(f"{relay.url}?token={TOKEN}&stream=other")
        assert page.url == f"{relay.url}?stream=other"
        assert TOKEN not in opened.value.url
        (cookie,) = page.context.cookies()
        assert (cookie["httpOnly"], cookie["sameSite"]) == (True, "Strict")
        assert page.evaluate("document.cookie") == ""
        assert TOKEN not in page.evaluate("JSON.stringify([history.state, {...localStorage}])")
        until(lambda: relay.hub.streams["other"].status()["viewers"])
        assert page.evaluate("fetch('streams').then((reply) => reply.status)") == 200


def test_the_cookie_goes_nowhere_else(page: Page, theirs: str) -> None:
    """Another page cannot use it, not even to show a picture; SameSite and Origin both say no."""
    settings = RelaySettings(port=0, token=TOKEN, trust_local=False)
    with start_relay(settings) as relay:
        page.goto(f"{relay.url}?token={TOKEN}")
        page.goto(theirs.replace("127.0.0.1", "localhost"))
        tried = page.evaluate(TRIES, relay.url.rstrip("/"))
        assert tried.pop("module") == "read"
        assert set(tried.values()) == {"refused"}
        assert "default" not in relay.hub.streams or not relay.hub.streams["default"].values
