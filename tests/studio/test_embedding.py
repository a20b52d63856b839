"""Other people's pages: the module from another origin, the view in a frame, flicker held back."""

import http.server
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import cycle, pairwise
from typing import Any

import pytest
from playwright.sync_api import Browser, Page, expect

from dreamrelay.config import RelaySettings
from tests.studio.support import FakeWorker, is_blue, quiet_page, shows
from tests.support import RunningRelay, start_relay, until

pytestmark = pytest.mark.xdist_group("studio")

PAGE = """<!doctype html><html lang="en"><title>somebody's page</title>
<canvas id="output" width="1" height="1"></canvas>
<canvas id="source" width="64" height="64"></canvas>
<iframe src="%(relay)sstreams/default/view?hud=on" width="300" height="200"></iframe>
<script type="module">
  import { Connection, Painter, Parameters, Publisher } from "%(relay)sstatic/dreamrelay.js";
  const viewer = new Connection({ role: "viewer" });
  new Painter(document.getElementById("output")).follow(viewer);
  window.parameters = new Parameters(viewer);
  const producer = new Connection({ role: "producer" });
  const publisher = new Publisher({ size: () => ({ width: 64, height: 64 }) });
  const source = document.getElementById("source");
  publisher.ondraw = () => {
    const context = source.getContext("2d");
    context.fillStyle = "lime";
    context.fillRect(0, 0, 64, 64);
  };
  publisher.join(producer);
  publisher.watch(source);
</script></html>"""


@contextmanager
def page_server(text: Callable[[], str]) -> Iterator[str]:
    """A web server of somebody else, with one page."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            body = text().encode() if self.path == "/" else b""
            self.send_response(200 if body else 204)
            self.send_header("Content-Type", "text/html; charset=utf-8")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: Any) -> None:
            """Nothing to say."""

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            thread.join(10)


def test_an_allowed_page_views_publishes_sets_parameters_and_frames_the_view(
    browser: Browser,
) -> None:
    address = ""
    with page_server(lambda: PAGE % {"relay": address}) as origin:
        settings = RelaySettings(port=0, allowed_origins=[origin])
        with start_relay(settings) as relay, FakeWorker(relay.websocket) as worker:
            address = relay.url
            worker.status("live")
            with quiet_page(browser) as page:
                page.goto(origin)
                shows(page, "output", is_blue, "blue as the worker makes it")
                assert worker.inputs[0].width == 64
                frame = page.frame_locator("iframe")
                expect(frame.locator("#hud")).to_contain_text("live")
                expect(frame.locator("#hud")).to_contain_text("fps")
                page.evaluate("parameters.set({ prompt: 'from another page' })")
                until(lambda: {"prompt": "from another page"} in worker.patches, 15, "the patch")


def test_a_page_that_is_not_allowed_gets_the_code_and_nothing_else(browser: Browser) -> None:
    address = ""
    noise = ("WebSocket connection to", "Refused to", "frame-ancestors", "Framing")
    with page_server(lambda: PAGE % {"relay": address}) as origin:
        with start_relay(RelaySettings(port=0)) as relay, FakeWorker(relay.websocket) as worker:
            address = relay.url
            worker.status("live")
            with quiet_page(browser, allowed=noise) as page:
                refused: list[str] = []
                page.on("websocket", lambda socket: refused.append(socket.url))
                page.goto(origin)
                page.wait_for_function("() => window.parameters !== undefined")
                until(lambda: page.evaluate("1") and len(refused) >= 4, 15, "attempts of both")
                assert page.evaluate("document.getElementById('output').width") == 1
                assert worker.inputs == []


def test_wrong_words_in_the_address_are_told_and_the_first_ones_taken(
    browser: Browser, relay: RunningRelay
) -> None:
    with quiet_page(browser, allowed=("dreamrelay: expected",)) as page:
        said: list[str] = []
        page.on("console", lambda message: said.append(message.text))
        page.goto(f"{relay.url}streams/default/view?fit=zoom&track=sound&hud=maybe&guard=off")
        until(lambda: page.evaluate("1") and len(said) == 3, 30, "three complaints")
        assert sorted(said) == [
            "dreamrelay: expected contain, cover, stretch, fill as fit, got zoom",
            "dreamrelay: expected off, 0, no, false, on, 1, yes, true as hud, got maybe",
            "dreamrelay: expected output, input, control as track, got sound",
        ]
        assert page.locator("body").get_attribute("data-fit") == "contain"
        page.goto(f"{relay.url}streams/default/view?fit=stretch&hud=on")
        assert page.locator("body").get_attribute("data-fit") == "fill"
        expect(page.locator("#hud")).to_contain_text("no worker", timeout=30_000)
        assert len(said) == 3


def test_a_view_that_is_not_let_in_says_so(browser: Browser) -> None:
    settings = RelaySettings(port=0, trust_local=False, token="t" * 20)
    with start_relay(settings) as relay:
        with quiet_page(browser, allowed=("WebSocket connection to", "401")) as page:
            page.goto(f"{relay.url}streams/default/view?hud=on")
            expect(page.locator("#hud")).to_contain_text("not allowed", timeout=30_000)


LIGHTS = """async (seconds) => {
    const canvas = document.getElementById("output");
    const small = new OffscreenCanvas(1, 1).getContext("2d", { willReadFrequently: true });
    const seen = [];
    const end = performance.now() + seconds * 1000;
    while (performance.now() < end) {
        await new Promise(requestAnimationFrame);
        small.drawImage(canvas, 0, 0, 1, 1);
        seen.push(small.getImageData(0, 0, 1, 1).data[0]);
    }
    return seen;
}"""


def flicker(relay: RunningRelay, worker: FakeWorker, page: Page, query: str) -> list[int]:
    """Grey levels that the view shows of a stream that is black and white in turn."""
    stop = threading.Event()
    colours = cycle(["black", "white"])

    def paint() -> None:
        while not stop.wait(0.06):
            worker.colour = next(colours)
            worker.paint()

    painter = threading.Thread(target=paint, daemon=True)
    page.goto(f"{relay.url}streams/default/view{query}")
    until(lambda: worker.idle, 15, "leave to paint")
    painter.start()
    try:
        page.wait_for_function("() => document.getElementById('output').width > 1")
        page.evaluate(LIGHTS, 2)  # until it has seen what comes
        seen: list[int] = page.evaluate(LIGHTS, 2)
    finally:
        stop.set()
        painter.join(10)
    return seen


def test_the_view_holds_flicker_back_unless_told_not_to(
    browser: Browser, relay: RunningRelay
) -> None:
    with FakeWorker(relay.websocket) as worker, quiet_page(browser) as page:
        worker.status("live")
        plain = flicker(relay, worker, page, "?guard=off")
        assert max(plain) - min(plain) > 200
        held = flicker(relay, worker, page, "")
        # What is left of it, between two neighbouring pictures, is less than counts as a flash.
        steps = [abs(((b + 14) / 269) ** 2.4 - ((a + 14) / 269) ** 2.4) for a, b in pairwise(held)]
        assert max(steps) < 0.1
        assert len(set(held)) > 1  # it is not stopped
