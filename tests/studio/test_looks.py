"""Each state at each size: photographed, measured for what spills over, looked over by axe-core.

The pictures are kept in ``artefacts/studio``, to be looked at by people.
"""

import importlib.resources
import io
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from playwright.sync_api import Browser, Page, expect

from dreamrelay.config import RelaySettings
from dreamrelay.engines.parameters import StreamBatchParameters
from tests.studio.support import FakeWorker, is_blue, quiet_page, shows
from tests.support import RunningRelay, picture, start_relay, until

pytestmark = pytest.mark.xdist_group("studio")

SIZES = [(1440, 900), (1024, 768), (360, 640)]
SHOTS = Path("artefacts/studio")
AXE = importlib.resources.files("axe_playwright_python").joinpath("axe.min.js")
PROMPTS = StreamBatchParameters.model_json_schema()["properties"]["prompts"]
NOISE = ("WebSocket connection to", "Failed to load resource")

FINDINGS = """async () => {
    const { violations } = await axe.run(document, { resultTypes: ["violations"] });
    return violations.flatMap(({ id, nodes }) => nodes.map((n) => `${id}: ${n.html.slice(0, 160)}`
        + ` ${n.any.map((check) => check.message).join("; ").slice(0, 200)}`));
}"""

SPILLED = """() => [...document.querySelectorAll("body *")]
    .filter((e) => e.checkVisibility() && !e.closest(".sr, #words, .slots, svg, #presets"))
    .map((e) => [e.id || e.className || e.tagName, e.getBoundingClientRect()])
    .filter(([, box]) => box.right > innerWidth + 1 || box.left < -1)
    .map(([name]) => name)"""


def look(page: Page, name: str) -> None:
    """Take the picture, and let nothing spill over or be out of somebody's reach."""
    SHOTS.mkdir(parents=True, exist_ok=True)
    size = page.viewport_size
    assert size is not None
    page.screenshot(path=SHOTS / f"{size['width']}-{name}.png")
    assert page.evaluate(SPILLED) == [], name
    page.evaluate(AXE.read_text(encoding="utf-8"))
    assert page.evaluate(FINDINGS) == [], name


def press(page: Page, *keys: str) -> None:
    page.evaluate("document.activeElement.blur()")
    for key in keys:
        page.keyboard.press(key)


@pytest.fixture(params=SIZES, ids=lambda size: f"{size[0]}x{size[1]}")
def page(browser: Browser, relay: RunningRelay, request: pytest.FixtureRequest) -> Iterator[Page]:
    width, height = request.param
    context: Any = {"viewport": {"width": width, "height": height}, "color_scheme": "dark"}
    if width < 500:
        context |= {"has_touch": True, "is_mobile": True}
    with quiet_page(
        browser, permissions=["camera", "microphone"], allowed=NOISE, **context
    ) as made:
        made.goto(relay.url)
        yield made


def chip(page: Page, text: str) -> None:
    expect(page.locator("#chip-text")).to_have_text(text)


def send(page: Page, kind: str) -> None:
    page.click("#source-button")
    page.click(f"#source-menu [data-source={kind}]")


def test_without_a_relay_worker_or_source(page: Page, relay: RunningRelay) -> None:
    chip(page, "no worker")
    look(page, "no-worker")
    with FakeWorker(relay.websocket) as worker:
        worker.status("loading", "unet, 340 MB", 0.25)
        chip(page, "loading 25 %")
        look(page, "loading")
        worker.status("warming", "256x256 pixels")
        chip(page, "warming up")
        look(page, "warming")
        worker.status("error", "out of memory\nTraceback: 3 lines")
        chip(page, "error")
        page.click("#output-notice summary")
        look(page, "error")
        worker.status("live")
        chip(page, "no source")
        look(page, "no-source")

        def dreaming() -> bool:
            if worker.idle:
                worker.paint()
            return page.locator("#chip-text").inner_text() == "from the prompt"

        until(dreaming, 15, "the prompt alone to be painted")
        look(page, "dreaming")


def test_live_and_all_that_can_be_opened(page: Page, relay: RunningRelay) -> None:
    with FakeWorker(relay.websocket, reference=True) as worker:
        share = {
            "type": "number",
            "minimum": 0,
            "maximum": 2,
            "default": 1,
            "ui": {"group": "look"},
        }
        worker.status("live")
        worker.teach(prompts=PROMPTS, ip_adapter_scale=share)
        chip(page, "no source")
        send(page, "card")
        shows(page, "output", is_blue, "blue")
        expect(page.locator("#age")).to_be_visible()
        press(page)
        look(page, "live")
        for layout in ("side", "wipe", "output"):
            press(page, "l")
            look(page, layout)
        press(page, "l")
        opened: list[tuple[str, Callable[[], Any]]] = [
            ("words", lambda: press(page, "w")),
            ("source", lambda: page.click("#source-button")),
            ("streams", lambda: page.click("#stream-button")),
            ("budget", lambda: press(page, "i")),
            ("help", lambda: press(page, "?")),
        ]
        for name, act in opened:
            act()
            page.wait_for_timeout(300)
            look(page, name)
            page.keyboard.press("Escape")
            press(page)
        worker.say("parameters", patch={"strength": 0.8, "skip_similar": True})
        press(page, "p")
        page.click("summary >> text=Advanced")
        page.get_by_role("button", name="Add to Prompt blend").click()
        page.keyboard.type("a fox")
        expect(page.locator("[data-name=strength].changed")).to_be_visible()
        page.locator("#p-strength").fill("7")
        page.locator("#p-strength").press("Enter")
        expect(page.locator("[data-name=strength] .problem")).not_to_be_empty()
        look(page, "drawer")
        press(page, "p", "b", "Shift+Digit1", "Shift+Digit3")
        page.fill("#prompt", "a gold fox")
        if page.evaluate("matchMedia('(hover: none)').matches"):  # a phone has no Shift+Enter
            page.tap("#blend-in")
            expect(page.locator("#prompt")).not_to_be_focused()  # its keyboard has gone
        else:
            page.press("#prompt", "Shift+Enter")
        expect(page.locator("#blend")).to_be_visible()
        page.locator("#blend input").fill("0.4")
        press(page)
        look(page, "blend-presets")
        page.get_by_role("button", name="Copy a link").dispatch_event("click")
        expect(page.locator("#note-presets")).to_be_visible()
        look(page, "link")
        worker.status("paused")
        chip(page, "paused")
        look(page, "paused")
        worker.close()
        chip(page, "held")
        look(page, "held")
        press(page, "p")
        page.get_by_label("When results stop").select_option("pass")
        chip(page, "camera as it is")
        look(page, "stand-in")


def test_troubles(page: Page, relay: RunningRelay) -> None:
    page.evaluate(
        """() => { navigator.mediaDevices.getUserMedia = async () => {
            throw new DOMException("no", "NotAllowedError"); }; }"""
    )
    send(page, "camera")
    expect(page.locator("#note-source")).to_be_visible()
    look(page, "denied")
    data = picture("red", form="PNG")
    page.evaluate(
        """(bytes) => {
            const data = new DataTransfer();
            data.items.add(new File([new Uint8Array(bytes)], "a.png", { type: "image/png" }));
            const enter = new DragEvent("dragenter", { dataTransfer: data, bubbles: true });
            document.body.dispatchEvent(enter);
        }""",
        list(data),
    )
    look(page, "drop")


@pytest.mark.parametrize("scheme", ["dark", "light"])
def test_gone_and_not_allowed(browser: Browser, scheme: Any) -> None:
    settings = RelaySettings(
        port=0, token="sesame-open-the-gate", allowed_origins=["http://studio.test"]
    )
    size: Any = {"width": 1024, "height": 768}
    with quiet_page(browser, viewport=size, color_scheme=scheme, allowed=NOISE) as page:
        with start_relay(settings) as relay, FakeWorker(relay.websocket) as worker:
            worker.status("live")
            port = relay.url.rstrip("/").rpartition(":")[2]
            page.goto(f"http://studio.test:{port}/")
            chip(page, "not allowed")
            look(page, f"not-allowed-{scheme}")
            page.fill("#token", "sesame-open-the-gate")
            page.press("#token", "Enter")
            chip(page, "no source")
            send(page, "card")
            shows(page, "output", is_blue, "blue")
            press(page, "p")
            look(page, f"live-{scheme}")
        expect(page.locator("#retry")).to_be_visible()
        page.evaluate("document.getElementById('chip-text').firstChild.data = 'relay gone · 3 s'")
        look(page, f"reconnecting-{scheme}")


def test_nothing_moves_where_motion_is_not_wanted(browser: Browser, relay: RunningRelay) -> None:
    with quiet_page(browser, reduced_motion="reduce") as page:
        page.goto(relay.url)
        moving = page.evaluate(
            """() => [...document.querySelectorAll("*")].filter((e) => {
                const style = getComputedStyle(e);
                return style.transitionDuration !== "0s" || style.animationName !== "none";
            }).map((e) => e.id || e.tagName)"""
        )
        assert moving == []


def test_in_colours_of_the_system_controls_can_be_seen(
    browser: Browser, relay: RunningRelay
) -> None:
    with quiet_page(browser, forced_colors="active") as page, FakeWorker(relay.websocket) as worker:
        worker.status("live")
        page.goto(relay.url)
        chip(page, "no source")
        press(page, "p")
        for control in ("[data-name=strength] [type=range]", "#p-skip_similar"):
            drawn = Image.open(io.BytesIO(page.locator(control).screenshot())).convert("L")
            assert max(drawn.tobytes()) - min(drawn.tobytes()) > 100, control


def test_the_view_has_nothing_against_it(browser: Browser, relay: RunningRelay) -> None:
    with quiet_page(browser) as page:
        page.goto(f"{relay.url}streams/default/view?hud=on")
        expect(page.locator("#hud")).to_contain_text("no worker")
        look(page, "view")
