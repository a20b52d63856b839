"""A person at the page, with real processes and the real pocket model behind it."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import pytest
from playwright.sync_api import Browser, Page, expect

from tests.studio.support import quiet_page
from tests.support import Program, until

pytestmark = [pytest.mark.xdist_group("studio"), pytest.mark.timeout(300)]


WORKER = ("--osc_port=none", "--viewer=off", "--verbose=2")


@dataclass
class Show:
    """A page, and the programs behind it."""

    page: Page
    relay: Program
    worker: Program
    url: str


@pytest.fixture
def show(browser: Browser, programs: Callable[..., Program]) -> Iterator[Show]:
    relay = programs("server.py", "--port=0")
    url = relay.line(r"studio at (http://\S+)")[1]
    worker = programs("main.py", f"--websocket_uri=ws{url[4:]}", *WORKER)
    worker.line("is ready", 180)
    size: Any = {"width": 1024, "height": 768}
    noise = ("WebSocket connection to",)
    with quiet_page(browser, viewport=size, permissions=["camera"], allowed=noise) as page:
        page.goto(url)
        yield Show(page, relay, worker, url)


AVERAGE = """(id) => {
    const small = new OffscreenCanvas(16, 16).getContext("2d", { willReadFrequently: true });
    small.imageSmoothingQuality = "high";
    small.drawImage(document.getElementById(id), 0, 0, 16, 16);
    const sums = [0, 0, 0];
    small.getImageData(0, 0, 16, 16).data.forEach((v, i) => { if (i % 4 < 3) sums[i % 4] += v; });
    return sums.map((sum) => sum / 256);
}"""


def becomes(page: Page, like: Callable[[float, float, float], bool], what: str) -> None:
    """Wait until the whole output is of that kind on average."""
    until(lambda: like(*page.evaluate(AVERAGE, "output")), 60, f"an output that is {what}")


def test_the_prompt_and_then_the_camera_turn_blue_and_red_as_the_prompt_says(show: Show) -> None:
    page = show.page
    expect(page.locator("#chip-text")).to_have_text("from the prompt", timeout=60_000)
    page.keyboard.press("/")
    page.keyboard.type("blue neon")
    page.keyboard.press("Enter")
    becomes(page, lambda r, g, b: b > 1.2 * max(r, g) and b > 60, "blue")
    page.screenshot(path="artefacts/studio/whole-way-no-source.png")
    page.click(".invite >> text=Camera")
    expect(page.locator("#chip-text")).to_have_text("live")
    becomes(page, lambda r, g, b: b > 1.2 * max(r, g) and b > 60, "blue still")
    page.keyboard.press("/")
    page.keyboard.press("Control+a")
    page.keyboard.type("a red oil painting")
    page.keyboard.press("Enter")
    becomes(page, lambda r, g, b: r > 1.2 * max(g, b) and r > 60, "red")
    page.screenshot(path="artefacts/studio/whole-way.png")


def test_killed_programs_come_back_and_nothing_is_lost(
    show: Show, browser: Browser, programs: Callable[..., Program]
) -> None:
    page, chip = show.page, show.page.locator("#chip-text")
    page.click("#source-button")
    page.click("#source-menu [data-source=card]")
    page.fill("#prompt", "blue neon")
    page.press("#prompt", "Enter")
    becomes(page, lambda r, g, b: b > 1.2 * max(r, g) and b > 60, "blue")
    with quiet_page(browser, allowed=("WebSocket connection to",)) as other:
        other.goto(show.url)
        becomes(other, lambda r, g, b: b > 1.2 * max(r, g) and b > 60, "blue in a second tab")
        show.worker.kill()
        expect(chip).to_have_text("held", timeout=30_000)
        becomes(page, lambda r, g, b: b > 1.2 * max(r, g), "blue still, held")
        page.fill("#prompt", "a red oil painting")
        again = programs("main.py", f"--websocket_uri=ws{show.url[4:]}", *WORKER)
        again.line("is ready", 180)
        expect(chip).to_have_text("live", timeout=30_000)
        becomes(other, lambda r, g, b: b > 1.2 * max(r, g) and b > 60, "blue of the new worker")
        expect(page.locator("#prompt")).to_have_value("a red oil painting")
        show.relay.stop()
        expect(chip).to_contain_text("relay gone", timeout=30_000)
        page.press("#prompt", "Enter")  # nobody listens now
        port = show.url.rstrip("/").rpartition(":")[2]
        programs("server.py", f"--port={port}").line(r"studio at")
        expect(chip).to_have_text("live", timeout=60_000)
        becomes(other, lambda r, g, b: r > 1.2 * max(g, b) and r > 60, "red, as was typed")
